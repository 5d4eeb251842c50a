//! The world itself: time, threads, memory.

use std::cell::RefCell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use ntsim::{MachineConfig, World};

#[test]
fn virtual_time_passes_only_when_the_world_runs() {
    let mut world = World::builder().seed(7).build();
    assert_eq!(world.now(), Duration::ZERO);
    world.run_for(Duration::from_millis(3));
    assert_eq!(world.now(), Duration::from_millis(3));
    assert!(!world.run_until(|_| false, Duration::from_millis(2)));
    assert_eq!(world.now(), Duration::from_millis(5));
    assert!(world.finish().is_clean());
}

#[test]
fn what_driver_code_allocates_counts_as_the_drivers() {
    let mut world = World::builder().seed(7).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let held = world.call(a, || black_box(vec![7u8; 100]));
    assert_eq!(held[99], 7);
    let stats = world.pool_stats(a);
    assert_eq!((stats.driver_blocks, stats.driver_bytes), (1, 100));
    drop(held);
    assert_eq!(world.pool_stats(a).driver_blocks, 0);
    // The host's own allocations are nobody's.
    let _host = vec![0u8; 1 << 20];
    assert_eq!(world.pool_stats(a).driver_allocations, 1);
}

#[test]
fn a_panic_of_driver_code_reaches_the_test() {
    let mut world = World::builder().seed(7).build();
    let a = world.add_machine(MachineConfig::named("A"));
    let log = Rc::new(RefCell::new(Vec::new()));
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.call(a, || {
            log.borrow_mut().push("before");
            assert_eq!(1 + 1, 3, "arithmetic");
        });
    }));
    let payload = result.expect_err("the panic comes through");
    assert!(
        payload
            .downcast_ref::<String>()
            .is_some_and(|text| text.contains("arithmetic"))
    );
    assert_eq!(*log.borrow(), ["before"]);
    // The world is still usable.
    assert_eq!(world.call(a, || 5), 5);
    drop(log);
}
