//! What a device may do to a driver that has done nothing wrong.

use std::cell::Cell;
use std::time::Duration;

use super::layout;
use super::memory::DmaMemory;
use super::nic::{Nic, State, capability, receive_queue, transmit_queue};
use crate::world::context;

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
    /// The index goes back by one.
    IndexBack,
    /// An entry names a descriptor that does not exist.
    BadId,
    /// An entry names a descriptor that the driver has not made available.
    FreeId,
    /// An entry gives a buffer of the driver's back with nothing written, not even the header of a frame.
    NoLength,
    /// An entry gives a buffer of the driver's back with more bytes written than it has room for.
    BadLength,
    /// Two entries give the same buffer back.
    Repeat,
}

/// What a device says that is not so. The driver is not accused of believing it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    /// Says so of its MTU.
    pub mtu: Option<u16>,
    /// Says so of its pairs of queues.
    pub queue_pairs: Option<u16>,
    /// Says so of the buffers that a received frame fills.
    pub num_buffers: Option<u16>,
    /// The generation of its configuration is another one whenever it is read.
    pub restless: bool,
    /// Features that it does not offer any more.
    pub withheld: u64,
    /// Features that it offers and then knows nothing of.
    pub feigned: u64,
}

/// A structure of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Common configuration.
    Common,
    /// Notifications.
    Notify,
    /// Cause of interrupts.
    Isr,
    /// Network configuration.
    Config,
}

/// What a device does not do that it should.
#[derive(Debug, Default)]
pub(super) struct Sulks {
    pub(super) lies: Cell<Lies>,
    /// It goes on as before when it is told to reset itself.
    pub(super) resets: Cell<bool>,
    /// It goes on for so long before it resets itself.
    reset_takes: Cell<Duration>,
    /// When it will have done so, ns.
    reset_due: Cell<Option<u64>>,
    /// It leaves alone what is to be sent.
    pub(super) sends: Cell<bool>,
}

impl Nic {
    /// Ignores that it is told to reset itself, and goes on as before; or obeys again, the next time it is told.
    pub fn ignore_resets(&self, ignore: bool) {
        self.sulks.resets.set(ignore);
    }

    /// Takes so long to reset itself when it is told to while it works, and goes on meanwhile.
    pub fn delay_resets(&self, time: Duration) {
        self.sulks.reset_takes.set(time);
    }

    /// The driver tells the device to reset itself.
    pub(super) fn order_reset(&self, state: &mut State) {
        let time = self.sulks.reset_takes.get();
        if self.sulks.resets.get() {
            // Not today.
        } else if time.is_zero() || state.status == 0 {
            self.reset(state);
        } else if self.sulks.reset_due.get().is_none() {
            let core = context::core();
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let due = core.now().saturating_add(time);
            self.sulks.reset_due.set(Some(due));
            // So that the world's loop comes by then.
            core.schedule(due, || {});
        }
    }

    /// Resets the device if that has been put off until now.
    pub(super) fn reset_if_due(&self) {
        let due = self.sulks.reset_due.get();
        if due.is_some_and(|due| due <= context::core().now()) {
            self.sulks.reset_due.set(None);
            self.reset(&mut self.state.borrow_mut());
        }
    }

    /// From now on the device says this; `Lies::default()` for the truth.
    pub fn lie(&self, lies: Lies) {
        self.sulks.lies.set(lies);
    }

    /// Says in configuration space that a structure lies elsewhere in its BAR, or outside.
    pub fn misplace(&self, structure: Structure, offset: u32, length: u32) {
        let kind = match structure {
            Structure::Common => layout::CFG_COMMON,
            Structure::Notify => layout::CFG_NOTIFY,
            Structure::Isr => layout::CFG_ISR,
            Structure::Config => layout::CFG_DEVICE,
        };
        let at = capability(&self.function, kind);
        let place = [offset.to_le_bytes(), length.to_le_bytes()].concat();
        self.function.pretend(at + 8, &place);
    }

    /// Interrupts without a cause: each message once, or the line.
    pub fn interrupt_for_nothing(&self) {
        if !self.function.messages_enabled() {
            return self.function.set_line(true);
        }
        for message in 0..self.config.messages {
            self.function.raise(message);
        }
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

    /// Writes nonsense into a used ring, and interrupts. False if no driver runs the queue, or there is no descriptor that it takes.
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
