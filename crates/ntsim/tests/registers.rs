//! Registers outside any machine. One test: what others of the process did before would help it.
#![allow(unsafe_code, reason = "accesses registers as drivers do")]

use std::cell::Cell;
use std::rc::Rc;

use ntsim::mmio::{Mapping, Registers};

/// One register of 32 bits.
#[derive(Default)]
struct Counter(Cell<u64>);

impl Registers for Counter {
    fn read(&self, _offset: u64, _width: u8) -> u64 {
        self.0.get()
    }

    fn write(&self, _offset: u64, _width: u8, value: u64) {
        self.0.set(self.0.get() + value);
    }
}

/// On a thread with no more stack for signals than the host gives it.
#[test]
fn the_first_access_of_a_process_is_served() {
    let counter = Rc::new(Counter::default());
    let mapping = Mapping::new(4, Rc::clone(&counter) as Rc<dyn Registers>).expect("a mapping");
    let register = mapping.base().as_ptr().cast::<u32>();
    // SAFETY: a register of the mapping, whose accesses are served.
    let read = unsafe {
        register.write_volatile(40);
        register.write_volatile(2);
        register.read_volatile()
    };
    assert_eq!((read, counter.0.get()), (42, 42));
}
