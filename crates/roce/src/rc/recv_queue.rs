//! The receive queue: a ring of buffers, allocated when the queue is. A queue pair has one of its own, or takes what it needs from
//! one that it shares.

use super::sgl;
use crate::PdId;
use crate::request::{PostError, Sge};
use crate::srq::{SrqId, SrqSet};
use crate::table::{OutOfMemory, try_vec};
use alloc::vec::Vec;

#[derive(Clone, Copy, Default)]
struct RecvWqe {
    context: u64,
    len: u32,
    sge_count: u8,
}

/// A ring of receives.
pub(crate) struct RecvQueue {
    /// Whose keys the elements name.
    pub pd: PdId,
    wqes: Vec<RecvWqe>,
    sges: Vec<Sge>,
    mask: u32,
    depth: u32,
    max_sge: u32,
    max_message: u32,
    head: u32,
    tail: u32,
}

impl RecvQueue {
    pub fn try_new(
        pd: PdId,
        depth: u32,
        max_sge: u32,
        max_message: u32,
    ) -> Result<RecvQueue, OutOfMemory> {
        let slots = depth.max(1).next_power_of_two();
        let sges = (slots as usize)
            .checked_mul(max_sge as usize)
            .ok_or(OutOfMemory)?;
        Ok(RecvQueue {
            pd,
            wqes: try_vec(slots as usize, |_| RecvWqe::default())?,
            sges: try_vec(sges, |_| Sge::default())?,
            mask: slots - 1,
            depth,
            max_sge,
            max_message,
            head: 0,
            tail: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// Receives in it.
    pub fn len(&self) -> u32 {
        self.tail.wrapping_sub(self.head)
    }

    /// How many receives it can hold.
    pub fn depth(&self) -> u32 {
        self.depth
    }

    /// Elements that one receive can have.
    pub fn max_sge(&self) -> u32 {
        self.max_sge
    }

    /// Moves the oldest receive to the end of another queue. False if there is none, or no room.
    pub fn move_front(&mut self, to: &mut RecvQueue) -> bool {
        let Some(context) = self
            .wqes
            .get((self.head & self.mask) as usize)
            .map(|w| w.context)
        else {
            return false;
        };
        let moved = self
            .front()
            .is_some_and(|(_, sgl)| to.post(context, sgl).is_ok());
        if moved {
            self.head = self.head.wrapping_add(1);
        }
        moved
    }

    pub fn post(&mut self, context: u64, sgl: &[Sge]) -> Result<(), PostError> {
        if self.len() >= self.depth {
            return Err(PostError::QueueFull);
        }
        if sgl.len() > self.max_sge as usize {
            return Err(PostError::TooManySges);
        }
        let len = sgl::total(sgl)
            .filter(|n| *n <= self.max_message)
            .ok_or(PostError::TooLong)?;
        let slot = (self.tail & self.mask) as usize;
        if let Some(w) = self.wqes.get_mut(slot) {
            *w = RecvWqe {
                context,
                len,
                sge_count: sgl.len() as u8,
            };
        }
        let start = slot.wrapping_mul(self.max_sge as usize);
        for (to, from) in self.sges.iter_mut().skip(start).zip(sgl) {
            *to = *from;
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// The oldest receive: how many bytes it takes, and its elements.
    pub fn front(&self) -> Option<(u32, &[Sge])> {
        if self.is_empty() {
            return None;
        }
        let slot = (self.head & self.mask) as usize;
        let wqe = self.wqes.get(slot)?;
        let start = slot.wrapping_mul(self.max_sge as usize);
        let sgl = self
            .sges
            .get(start..start.wrapping_add(usize::from(wqe.sge_count)))?;
        Some((wqe.len, sgl))
    }

    /// Removes the oldest receive and gives its context.
    pub fn pop(&mut self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let context = self.wqes.get((self.head & self.mask) as usize)?.context;
        self.head = self.head.wrapping_add(1);
        Some(context)
    }
}

/// Where a responder finds receives: in its queue pair's own queue. A queue pair that shares a queue fills its own from that one,
/// one receive at a time and when a message needs it: what it has taken is its own, to be flushed with it.
pub(super) struct Receives<'a> {
    pub own: &'a mut RecvQueue,
    pub shared: Option<(SrqId, &'a mut SrqSet)>,
}

impl Receives<'_> {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty()
            && self
                .shared
                .as_ref()
                .is_none_or(|(id, set)| set.is_empty(*id))
    }

    fn take(&mut self) {
        if self.own.is_empty()
            && let Some((id, set)) = &mut self.shared
        {
            set.take(*id, self.own);
        }
    }

    /// The oldest receive: how many bytes it takes, and its elements. From here on it belongs to this queue pair.
    pub fn front(&mut self) -> Option<(u32, &[Sge])> {
        self.take();
        self.own.front()
    }

    /// Removes the oldest receive and gives its context.
    pub fn pop(&mut self) -> Option<u64> {
        self.take();
        self.own.pop()
    }
}
