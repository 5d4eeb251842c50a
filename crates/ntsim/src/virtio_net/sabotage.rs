//! What a device may do to a driver that has done nothing wrong.

use std::cell::Cell;

use super::layout;
use super::memory::DmaMemory;
use super::nic::{Nic, receive_queue, transmit_queue};

/// A queue of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The queue that receives, of the first pair.
    Receive,
    /// The queue that sends, of the first pair.
    Transmit,
}

impl Side {
    fn index(self) -> usize {
        match self {
            Side::Receive => receive_queue(0),
            Side::Transmit => transmit_queue(0),
        }
    }
}

/// What is wrong with a used ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsedFlaw {
    /// The index is further ahead than there are descriptors.
    IndexJump,
    /// An entry names a descriptor that does not exist.
    BadId,
    /// An entry gives a buffer of the driver's back with more bytes written than it has room for.
    BadLength,
    /// Two entries give the same buffer back.
    Repeat,
}

/// What a device does not do that it should.
#[derive(Debug, Default)]
pub(super) struct Sulks {
    /// It goes on as before when it is told to reset itself.
    pub(super) resets: Cell<bool>,
    /// It leaves alone what is to be sent.
    pub(super) sends: Cell<bool>,
}

impl Nic {
    /// Ignores that it is told to reset itself, and goes on as before; or obeys again, the next time it is told.
    pub fn ignore_resets(&self, ignore: bool) {
        self.sulks.resets.set(ignore);
    }

    /// Leaves alone what is to be sent, as a device does whose back end stands still; or goes on.
    pub fn stand_still(&self, still: bool) {
        self.sulks.sends.set(still);
    }

    /// Gives up, as devices do that met an error of their own: sets DEVICE_NEEDS_RESET and says so. Nothing happens unless
    /// a driver runs the device.
    pub fn give_up(&self) {
        let mut state = self.state.borrow_mut();
        if state.is_running() {
            state.status |= layout::NEEDS_RESET;
            self.interrupt_config(&mut state);
        }
    }

    /// Writes nonsense into a used ring, and interrupts. False if no driver runs the queue.
    pub fn corrupt_used(&self, side: Side, flaw: UsedFlaw) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(machine) = self.machine.upgrade() else {
            return false;
        };
        let index = side.index();
        if !state.is_running() || !state.queues[index].is_ready() {
            return false;
        }
        let memory = DmaMemory::new(&machine.ram);
        if !state.queues[index].corrupt_used(&memory, flaw) {
            return false;
        }
        self.interrupt_queue(&mut state, index);
        true
    }
}
