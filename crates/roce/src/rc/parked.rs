//! Receive completions that wait: for the NIC, which still reads through a key that the peer has invalidated, or behind one that
//! does. Until it completes, the consumer leaves the memory of that key alone.

use crate::completion::Completion;
use crate::key::KeyTable;
use crate::table::{OutOfMemory, try_vec};
use alloc::vec::Vec;

/// A ring of completions.
pub(super) struct Parked {
    ring: Vec<Completion>,
    head: usize,
    len: usize,
}

/// Whether a receive must not complete yet.
pub(super) fn waits(completion: &Completion, keys: &KeyTable) -> bool {
    completion.invalidated.is_some_and(|k| keys.is_draining(k))
}

impl Parked {
    pub fn try_new(capacity: u32) -> Result<Parked, OutOfMemory> {
        Ok(Parked {
            ring: try_vec(capacity as usize, |_| Completion::default())?,
            head: 0,
            len: 0,
        })
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn is_full(&self) -> bool {
        self.len >= self.ring.len()
    }

    /// Adds one at the end. The caller has made sure that there is room.
    pub fn push(&mut self, completion: &Completion) {
        let at = (self.head + self.len) % self.ring.len().max(1);
        if let Some(to) = self.ring.get_mut(at) {
            *to = *completion;
            self.len += 1;
        }
    }

    /// Removes the oldest if it need not wait any longer.
    pub fn pop(&mut self, keys: &KeyTable) -> Option<Completion> {
        if self.is_empty() {
            return None;
        }
        let oldest = *self.ring.get(self.head)?;
        if waits(&oldest, keys) {
            return None;
        }
        self.head = (self.head + 1) % self.ring.len().max(1);
        self.len -= 1;
        Some(oldest)
    }
}
