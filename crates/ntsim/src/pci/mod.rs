//! The PCI bus: functions with configuration space, BARs and message-signalled interrupts.
//!
//! A [`Function`] is what the bus driver and a function's own driver see; a [`Device`] behind it is the model that
//! serves the registers. [`Function::attach`] plugs a function into a machine: its BARs get physical addresses that
//! can be mapped, and its messages go to the machine's interrupt controller.
//!
//! For the part of the kernel that plays PCI.SYS and the HAL: [`functions`] lists what is plugged in;
//! [`Function::resources`] says what the driver is to be given, [`Function::program_message`] assigns interrupt
//! vectors, [`Function::start`] and [`Function::stop`] switch decoding and bus mastering.

mod config;
mod function;
mod msix;
pub mod rules;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use crate::world::machine::Machine;

pub use config::{Capability, ConfigSpace, Identity};
pub use function::{Bar, Device, Function, Location, MemoryResource, Resources};

/// What is plugged into a machine.
#[derive(Default)]
struct Bus {
    functions: RefCell<Vec<Rc<Function>>>,
}

/// The functions plugged into a machine, in the order in which they were.
pub(crate) fn functions(machine: &Machine) -> Vec<Rc<Function>> {
    machine.ext::<Bus>().functions.borrow().clone()
}
