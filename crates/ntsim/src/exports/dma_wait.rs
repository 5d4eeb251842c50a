//! Scatter/gather lists that wait for map registers.
//!
//! A driver that asks for a list may get it after `GetScatterGatherList` has returned: when others have given back map
//! registers. A test says when there are none.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::c_void;

use ndis_sys::types::BOOLEAN;
use ndis_sys::wdm::{DEVICE_OBJECT, DMA_ADAPTER, DRIVER_LIST_CONTROL, MDL, SCATTER_GATHER_LIST};

use super::dma::{Dma, make_list};
use crate::World;
use crate::world::context;
use crate::world::driver::{Charged, DriverNumber};
use crate::world::machine::{Machine, MachineId};
use crate::world::processor::Dpc;

/// A list that a driver has asked for.
pub(super) struct Waiting {
    pub(super) adapter: *mut DMA_ADAPTER,
    pub(super) device: *mut DEVICE_OBJECT,
    pub(super) mdl: *mut MDL,
    pub(super) va: *mut c_void,
    pub(super) length: u32,
    pub(super) routine: DRIVER_LIST_CONTROL,
    pub(super) context: *mut c_void,
    pub(super) write_to_device: BOOLEAN,
    /// Memory for it.
    pub(super) list: *mut SCATTER_GATHER_LIST,
    pub(super) owner: DriverNumber,
}

/// A machine's map registers.
#[derive(Default)]
pub(super) struct Registers {
    /// How many more lists there are registers for; None if there are enough.
    left: Cell<Option<u64>>,
    waiting: RefCell<VecDeque<Waiting>>,
}

impl Registers {
    /// Takes the registers of a list. Gives the list back if it can be made now, and else keeps it waiting.
    pub(super) fn take(&self, wanted: Waiting) -> Option<Waiting> {
        match self.left.get() {
            None => Some(wanted),
            Some(0) => {
                self.waiting.borrow_mut().push_back(wanted);
                None
            }
            Some(left) => {
                self.left.set(Some(left - 1));
                Some(wanted)
            }
        }
    }

    /// How many of the lists that wait are such.
    pub(super) fn count(&self, which: impl Fn(&Waiting) -> bool) -> usize {
        self.waiting.borrow().iter().filter(|w| which(w)).count()
    }
}

/// Makes the list at that address, which has waited. For a DPC of the kernel's.
fn make_late(list: usize) {
    let machine = context::machine();
    let found = {
        let dma = machine.ext::<Dma>();
        let mut waiting = dma.registers.waiting.borrow_mut();
        let index = waiting.iter().position(|w| w.list as usize == list);
        index.and_then(|index| waiting.remove(index))
    };
    if let Some(wanted) = found {
        // SAFETY: a driver keeps what it asks for a list of until it has the list.
        unsafe { make_list(&machine, &wanted) };
    }
}

/// Whether a driver waits for map registers that others have.
pub(crate) fn lists_wait(machine: &Machine) -> bool {
    machine.ext::<Dma>().registers.count(|_| true) > 0
}

impl World {
    /// Lets drivers of a machine have that many more scatter/gather lists; those that they ask for after these wait for
    /// map registers. None ends this: what waits is made, in order, by DPCs of the first processor.
    pub fn withhold_map_registers(&mut self, machine: MachineId, after: Option<u64>) {
        let machine = self.machine(machine);
        let dma = machine.ext::<Dma>();
        dma.registers.left.set(after);
        if after.is_none() {
            queue_all(&machine, &dma.registers);
        }
    }

    /// How many scatter/gather lists wait for map registers.
    #[must_use]
    pub fn lists_waiting(&self, machine: MachineId) -> usize {
        self.machine(machine).ext::<Dma>().registers.count(|_| true)
    }
}

fn queue_all(machine: &std::rc::Rc<Machine>, registers: &Registers) {
    let waiting: Vec<_> = registers
        .waiting
        .borrow()
        .iter()
        .map(|w| (w.list as usize, w.owner))
        .collect();
    for (object, owner) in waiting {
        let _charged = Charged::to(owner);
        let run = make_late;
        machine.queue_dpc(0, Dpc { object, run }, false);
    }
}
