//! The transmit queue.
#![allow(
    unsafe_code,
    reason = "frames are copied into memory shared with the device"
)]

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use nt::boxed::try_vec;
use nt::dma::{Adapter, CommonBuffer};
use nt::{NoMemory, Passive, Status};

use super::HEADER;
use super::queue::{BadUsed, DESCRIPTOR, Descriptor, Queue, write_descriptor};
use super::slots::Slots;
use super::watch::{Finding, Watch};
use crate::nic::{MAX_PIECES, TxCookie, TxError, TxFrame};

/// Descriptors of a frame with that many pieces: one before them, one behind.
const MAX_DESCRIPTORS: usize = MAX_PIECES + 2;

/// A frame the device has.
#[derive(Debug)]
struct Flight {
    slot: u16,
    cookie: TxCookie,
}

/// The queue and its slots. A slot begins with the table of descriptors (if indirect ones are in use), then comes the header that
/// virtio puts before a frame, all zero, then room for a whole frame.
#[derive(Debug)]
pub struct Tx {
    queue: Queue<CommonBuffer, Flight>,
    slots: Slots,
    free: Vec<u16>,
    indirect: bool,
    max_pieces: usize,
    max_frame: usize,
    /// Offset of virtio's header in a slot.
    header_at: usize,
    /// How many slots there are.
    count: u16,
    returned: u32,
    watch: Watch,
}

/// How many slots a queue of `size` can make use of, and how many pieces a frame may have.
pub fn capacity(size: u16, indirect: bool) -> (u16, usize) {
    // A chain must not be longer than the queue, nor its table (2.7.5.3.1).
    let pieces = MAX_PIECES.min(usize::from(size).saturating_sub(2));
    // Without tables, a frame with pieces takes at least two descriptors.
    let slots = if indirect { size } else { size.div_ceil(2) };
    (slots, pieces)
}

impl Tx {
    /// A queue in `memory`, for frames of up to `max_frame` bytes.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(
        adapter: &Adapter,
        memory: CommonBuffer,
        size: u16,
        features: Features,
        max_frame: usize,
        passive: Passive,
    ) -> Result<Self, Status> {
        let (count, max_pieces) = capacity(size, features.indirect);
        let header_at = if features.indirect {
            (max_pieces + 2) * DESCRIPTOR
        } else {
            0
        };
        Ok(Self {
            queue: Queue::try_new(memory, size, features.event_idx)?,
            slots: Slots::try_new(adapter, count, header_at + HEADER + max_frame, passive)?,
            free: free_list(count)?,
            indirect: features.indirect,
            max_pieces,
            max_frame,
            header_at,
            count,
            returned: 0,
            watch: Watch::default(),
        })
    }

    /// The queue's memory.
    pub fn memory(&self) -> &CommonBuffer {
        self.queue.memory()
    }

    /// See [`Nic::max_pieces`](crate::nic::Nic::max_pieces).
    pub fn max_pieces(&self) -> usize {
        self.max_pieces
    }

    /// Frames the device has, or is about to be shown.
    fn in_flight(&self) -> usize {
        usize::from(self.count).saturating_sub(self.free.len())
    }

    /// After frames have been published: true if a look with [`Tx::look`] is due in a [`PERIOD`](super::watch::PERIOD), none being so yet.
    pub fn begin_watch(&mut self) -> bool {
        self.in_flight() > 0 && self.watch.begin(self.returned)
    }

    /// Looks whether the device still sends.
    pub fn look(&mut self) -> Finding {
        let (in_flight, used) = (self.in_flight(), self.queue.has_used());
        self.watch.look(in_flight, self.returned, used)
    }

    /// Queues a frame.
    ///
    /// # Errors
    /// [`TxError::Full`], [`TxError::TooLong`].
    pub fn push(&mut self, frame: &TxFrame<'_>) -> Result<(), TxError> {
        let copied = frame.header.len().saturating_add(frame.trailer.len());
        let pieces = frame.pieces.iter().fold(0, |sum: usize, piece| {
            sum.saturating_add(piece.len as usize)
        });
        if frame.pieces.len() > self.max_pieces || copied.saturating_add(pieces) > self.max_frame {
            return Err(TxError::TooLong);
        }
        let number = *self.free.last().ok_or(TxError::Full)?;
        let slot = self.slots.get(number).ok_or(TxError::Full)?;
        let header_at = slot.offset + self.header_at;
        let trailer_at = header_at + HEADER + frame.header.len();
        // SAFETY: the slot is free: the device has no descriptor that names it, and the lock around `self` keeps others out.
        let fits = unsafe {
            slot.buffer.write(header_at + HEADER, frame.header)
                && slot.buffer.write(trailer_at, frame.trailer)
        };
        if !fits {
            return Err(TxError::TooLong);
        }

        let logical = |at: usize| slot.logical + (at - slot.offset) as u64;
        let mut chain = ArrayVec::<Descriptor, MAX_DESCRIPTORS>::new();
        let mut add = |addr: u64, len: usize| {
            // As many as there is room for: checked above.
            let _ = chain.try_push(Descriptor {
                addr,
                len: len as u32,
                write: false,
            });
        };
        if frame.pieces.is_empty() {
            add(logical(header_at), HEADER + copied);
        } else {
            add(logical(header_at), HEADER + frame.header.len());
            for piece in frame.pieces {
                add(piece.addr, piece.len as usize);
            }
            if !frame.trailer.is_empty() {
                add(logical(trailer_at), frame.trailer.len());
            }
        }

        let flight = Flight {
            slot: number,
            cookie: frame.cookie,
        };
        let pushed = if self.indirect && chain.len() > 1 {
            let count = chain.len();
            for (i, buffer) in chain.iter().enumerate() {
                let next = (i + 1 < count).then_some(i as u16 + 1);
                write_descriptor(slot.buffer, slot.offset, i, buffer, next);
            }
            self.queue.push_indirect(slot.logical, count as u16, flight)
        } else {
            self.queue.push(&chain, flight)
        };
        pushed.map_err(|_| TxError::Full)?;
        self.free.pop();
        Ok(())
    }

    /// See [`Queue::publish_and_ask`].
    pub fn publish_and_ask(&mut self) -> bool {
        self.queue.publish_and_ask()
    }

    /// Takes back a frame that has been sent.
    ///
    /// # Errors
    /// [`BadUsed`].
    pub fn pop(&mut self) -> Result<Option<TxCookie>, BadUsed> {
        Ok(self.queue.pop()?.map(|(flight, _)| self.release(flight)))
    }

    /// Takes back a frame that will not be sent any more, after the device has been reset.
    pub fn reclaim(&mut self) -> Option<TxCookie> {
        let flight = self.queue.reclaim()?;
        Some(self.release(flight))
    }

    /// Begins anew after the device has been reset: false, and nothing is changed, if a frame has not been taken back.
    pub fn restart(&mut self) -> bool {
        let idle = self.in_flight() == 0;
        if idle {
            self.queue.restart();
            self.watch = Watch::default();
        }
        idle
    }

    fn release(&mut self, flight: Flight) -> TxCookie {
        self.returned = self.returned.wrapping_add(1);
        // There is room: the list was made for all slots, and each is in flight or here.
        if self.free.len() < usize::from(self.count) {
            self.free.push(flight.slot);
        }
        flight.cookie
    }

    /// See [`Queue::enable_interrupts`].
    pub fn enable_interrupts(&mut self) -> bool {
        self.queue.enable_interrupts()
    }

    /// See [`Queue::disable_interrupts`].
    pub fn disable_interrupts(&mut self) {
        self.queue.disable_interrupts();
    }
}

/// Features that matter to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// VIRTIO_F_RING_EVENT_IDX.
    pub event_idx: bool,
    /// VIRTIO_F_INDIRECT_DESC.
    pub indirect: bool,
}

/// All slot numbers.
fn free_list(count: u16) -> Result<Vec<u16>, NoMemory> {
    try_vec(usize::from(count), |i| i as u16)
}
