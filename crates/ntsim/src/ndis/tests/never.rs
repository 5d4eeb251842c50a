//! Miniports that never complete what they have left pending: who waits for it is not to blame.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Duration;

use ndis_sys::imports::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::corners::ASKED;
use super::fault::{FAULT, Fault, KEEP_OIDS, KEEP_SENDS, PEND_RESET, RESETS};
use super::{IMAGE, INX, two_machines};
use crate::ndis::adapter::Adapter;
use crate::ndis::rules;
use crate::verifier::rules as kernel;
use crate::world::wait::sleep_until;
use crate::world::{MachineId, World, context};

/// The rules that a world breaks which is left to wait for ever, each with its culprit.
fn waited(fault: Fault, wait: impl FnOnce(&mut World, MachineId)) -> Vec<(&'static str, String)> {
    let (mut world, a, _) = two_machines(true);
    RESETS.set(true);
    PEND_RESET.set(true);
    world.install(a, INX, IMAGE).unwrap();
    FAULT.set(fault);
    let waits = AssertUnwindSafe(|| wait(&mut world, a));
    assert!(catch_unwind(waits).is_err(), "it waits for ever");
    let violations = world.take_violations();
    let broken = violations.into_iter().map(|v| (v.rule, v.culprit));
    broken.collect()
}

fn miniport(rule: &'static str) -> (&'static str, String) {
    (rule, "driver testnic".to_owned())
}

#[test]
fn a_pause_and_a_reset() {
    let deadlock = (kernel::DEADLOCK, String::new());
    let pause = waited(Fault::PauseNever, |world, a| world.pause(a));
    assert_eq!(pause, [miniport(rules::STATE), deadlock.clone()]);
    let reset = waited(Fault::ResetNever, |world, a| {
        world.reset(a);
    });
    assert_eq!(reset, [miniport(rules::RESET), deadlock]);
}

#[test]
fn a_request_that_the_host_waits_for() {
    let asked = waited(Fault::None, |world, a| {
        KEEP_OIDS.set(true);
        world.start_oid(a, &ASKED).unwrap().wait(world);
    });
    assert_eq!(asked, [miniport(rules::OID)]);
}

#[test]
fn a_frame_that_is_never_sent() {
    for (seconds, expected) in [(599, &[][..]), (600, &[rules::SEND])] {
        let (mut world, a, _) = two_machines(true);
        world.install(a, INX, IMAGE).unwrap();
        KEEP_SENDS.set(true);
        world.send_frames(a, vec![vec![0xff; 60]]);
        world.run_for(Duration::from_secs(seconds));
        let violations = world.finish().violations;
        let broken: Vec<_> = violations.iter().map(|v| v.rule).collect();
        assert_eq!(broken, expected, "after {seconds} s: {violations:?}");
    }
}

unsafe extern "efiapi" fn take_list(
    _: *mut DEVICE_OBJECT,
    _: *mut IRP,
    _: *mut SCATTER_GATHER_LIST,
    _: *mut c_void,
) {
}

/// Asks for the scatter/gather list of a page.
fn ask_for_list() {
    let mut description = DEVICE_DESCRIPTION {
        Version: DEVICE_DESCRIPTION_VERSION,
        Master: 1,
        ScatterGather: 1,
        Dma64BitAddresses: 1,
        MaximumLength: 1 << 20,
        ..DEVICE_DESCRIPTION::ZEROED
    };
    let device = std::ptr::without_provenance_mut(0x1000);
    // SAFETY: the block and its MDL stay; the device object is only a name.
    unsafe {
        let block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 1);
        let mdl = IoAllocateMdl(block, 4096, 0, 0, null_mut());
        MmBuildMdlForNonPagedPool(mdl);
        let dma = IoGetDmaAdapter(device, &raw mut description, &mut 0);
        let get = (*(*dma).DmaOperations).GetScatterGatherList;
        let get = get.expect("an entry");
        let old = KfRaiseIrql(DISPATCH_LEVEL);
        get(dma, null_mut(), mdl, block, 4096, take_list, null_mut(), 1);
        KeLowerIrql(old);
    }
}

#[test]
fn a_frame_whose_scatter_gather_list_the_kernel_withholds() {
    let (mut world, a, _) = two_machines(true);
    world.install(a, INX, IMAGE).unwrap();
    KEEP_SENDS.set(true);
    world.send_frames(a, vec![vec![0xff; 60]]);
    world.withhold_map_registers(a, Some(0));
    world.call(a, ask_for_list);
    assert_eq!(world.lists_waiting(a), 1);
    world.run_for(Duration::from_secs(600));
    let violations = world.finish().violations;
    assert!(
        violations.iter().all(|v| v.rule != rules::SEND),
        "{violations:?}"
    );
}

#[test]
fn of_requests_made_at_once_the_one_that_is_completed_is_owed_no_more() {
    let (mut world, a, _) = two_machines(true);
    world.install(a, INX, IMAGE).unwrap();
    let machine = world.machine(a);
    let adapter: Rc<Adapter> = Rc::clone(&crate::ndis::of(&machine).adapters.borrow()[0]);
    let end = world.core.now() + 1_000_000_000;
    world.on_machine(a, |machine| {
        let left = ("the one", u64::MAX);
        for (what, until) in [left, ("the other", end), left] {
            let adapter = Rc::clone(&adapter);
            machine.queue_work(move || {
                let done = || context::core().now() >= until;
                adapter.wait_for(rules::OID, what.to_owned(), done);
            });
        }
        machine.queue_work(move || sleep_until(end));
    });
    world.run_for(Duration::from_secs(601));
    let violations = world.finish().violations;
    let owed: Vec<_> = violations.iter().filter(|v| v.rule == rules::OID).collect();
    assert!(
        owed.len() == 2 && owed.iter().all(|v| v.text.starts_with("the one has")),
        "{violations:?}"
    );
}
