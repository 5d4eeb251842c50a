//! The receive queue: a ring of buffers, allocated when the queue is.

use super::sgl;
use crate::request::{PostError, Sge};
use crate::table::{OutOfMemory, try_vec};
use alloc::vec::Vec;

#[derive(Clone, Copy, Default)]
struct RecvWqe {
    context: u64,
    len: u32,
    sge_count: u8,
}

/// A ring of receives.
pub(super) struct RecvQueue {
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
    pub fn try_new(depth: u32, max_sge: u32, max_message: u32) -> Result<RecvQueue, OutOfMemory> {
        let slots = depth.max(1).next_power_of_two();
        let sges = (slots as usize)
            .checked_mul(max_sge as usize)
            .ok_or(OutOfMemory)?;
        Ok(RecvQueue {
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

    pub fn post(&mut self, context: u64, sgl: &[Sge]) -> Result<(), PostError> {
        if self.tail.wrapping_sub(self.head) >= self.depth {
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
