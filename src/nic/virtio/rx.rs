//! The receive queue: one buffer to a descriptor, large enough for a whole frame.
//!
//! IRQL: <= DISPATCH_LEVEL, for what is given the queue under that queue's lock.

use nt::dma::CommonBuffer;
use nt::{NoMemory, SpinLock};

use super::HEADER;
use super::queue::{BadUsed, Descriptor, Queue};
use super::slots::Slots;

/// A buffer the device has filled: its slot, and the bytes the device says it wrote.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// Number of the slot.
    pub slot: u16,
    /// Bytes, virtio's header included. Not more than the buffer has.
    pub len: u32,
}

/// The queue with its buffers.
#[derive(Debug)]
pub struct Rx {
    /// Whose buffer: its slot.
    pub queue: SpinLock<Queue<CommonBuffer, u16>>,
    /// The buffers, outside the lock: who has taken a filled one off the queue owns it until he puts it back.
    pub slots: Slots,
    buffer_len: u32,
}

impl Rx {
    /// A queue in `memory` with buffers of `buffer_len` bytes, as many as `slots` has.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(
        memory: CommonBuffer,
        size: u16,
        event_idx: bool,
        slots: Slots,
        buffer_len: u32,
    ) -> Result<Self, NoMemory> {
        let rx = Self {
            queue: SpinLock::new(Queue::try_new(memory, size, event_idx)?),
            slots,
            buffer_len,
        };
        Ok(rx)
    }

    /// Gives buffers to the device; it sees them after the next publication.
    pub fn put_back(
        &self,
        queue: &mut Queue<CommonBuffer, u16>,
        buffers: impl Iterator<Item = u16>,
    ) {
        for number in buffers {
            let Some(slot) = self.slots.get(number) else {
                continue;
            };
            let buffer = Descriptor {
                addr: slot.logical,
                len: self.buffer_len,
                write: true,
            };
            // There are as many descriptors as buffers.
            let _ = queue.push(&[buffer], number);
        }
    }

    /// Takes a filled buffer off the queue.
    ///
    /// # Errors
    /// [`BadUsed`], also if the device says that it wrote more than fits, or less than virtio's header.
    pub fn pop(&self, queue: &mut Queue<CommonBuffer, u16>) -> Result<Option<Filled>, BadUsed> {
        match queue.pop()? {
            Some((_, len)) if len > self.buffer_len || (len as usize) < HEADER => Err(BadUsed),
            Some((slot, len)) => Ok(Some(Filled { slot, len })),
            None => Ok(None),
        }
    }
}
