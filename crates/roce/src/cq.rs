//! Completion queues: a bounded ring, and the one-shot notification that tells of new entries.

mod moderation;
mod set;
#[cfg(test)]
mod tests;

pub use moderation::{MODERATION_UNLIMITED, ModerateError};
pub(crate) use set::CqSet;

use crate::completion::{Completion, Status};
use crate::table::{OutOfMemory, id, try_vec};
use crate::time::Instant;
use alloc::vec::Vec;
use moderation::Moderation;

id! {
    /// A completion queue.
    CqId
}

impl CqId {
    /// A number below `Config::max_cqs` that no other live completion queue has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What a notification is asked for. Of two requests that are not yet satisfied the later variant wins.
///
/// Decisions: any entry includes those with an error status, and a request for errors is satisfied by such entries, too, not
/// only by the failure of the queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Arm {
    /// Failure of the queue, or an entry with an error status.
    Errors,
    /// A solicited receive, or what satisfies [`Arm::Errors`].
    Solicited,
    /// Any entry.
    Any,
}

/// What a notification says about the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CqStatus {
    /// There are entries.
    Ready,
    /// More completions than the queue can hold. The queue and every queue pair that uses it are dead; entries already there
    /// can still be polled.
    Overflow,
    /// The queue failed otherwise, with the same consequences.
    Failed,
}

/// Why a completion queue could not be resized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResizeError {
    /// No such queue.
    Unknown,
    /// Zero, or more than `Config::max_cq_depth`.
    InvalidDepth,
    /// It holds more entries than the new depth; it stays as it was.
    TooSmall,
    /// No memory; it stays as it was.
    OutOfMemory,
}

/// How many entries there have been that satisfy each kind of request.
#[derive(Clone, Copy, Default)]
struct Tally {
    errors: u64,
    solicited: u64,
    any: u64,
}

impl Tally {
    fn of(self, arm: Arm) -> u64 {
        match arm {
            Arm::Errors => self.errors,
            Arm::Solicited => self.solicited,
            Arm::Any => self.any,
        }
    }
}

/// A satisfied arm whose notification waits for further entries.
#[derive(Clone, Copy)]
struct Wait {
    since: Instant,
    /// Entries that there had been before the first that counts.
    after: u64,
}

/// The notification that is due but not yet taken by the caller.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    No,
    Once,
    /// Armed again and satisfied again before the first was taken.
    Twice,
}

/// Memory of a completion queue that is still to be created or resized: for who must not be held up by the getting of it.
pub struct CqMemory(Vec<Completion>);

impl CqMemory {
    /// For `depth` entries.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(depth: u32) -> Result<CqMemory, OutOfMemory> {
        try_vec(depth as usize, |_| Completion::default()).map(CqMemory)
    }

    pub(crate) fn depth(&self) -> usize {
        self.0.len()
    }
}

/// One completion queue.
pub(crate) struct Cq {
    ring: Vec<Completion>,
    head: usize,
    count: usize,
    armed: Option<Arm>,
    moderation: Option<Moderation>,
    /// The arm is satisfied already.
    wait: Option<Wait>,
    added: Tally,
    /// `added` when the last notification was taken.
    told: Tally,
    due: Due,
    failure: Option<CqStatus>,
    failure_told: bool,
    /// Queue pairs that complete here.
    pub users: u32,
}

impl Cq {
    pub fn new(memory: CqMemory) -> Cq {
        Cq {
            ring: memory.0,
            head: 0,
            count: 0,
            armed: None,
            moderation: None,
            wait: None,
            added: Tally::default(),
            told: Tally::default(),
            due: Due::No,
            failure: None,
            failure_told: false,
            users: 0,
        }
    }

    /// Adds an entry. False if it did not fit: the queue has failed now.
    fn push(&mut self, now: Instant, completion: &Completion) -> bool {
        if self.failure.is_some() {
            return true;
        }
        let free = self.ring.len() - self.count;
        // Neither term exceeds the length, so one subtraction brings the sum back into the ring.
        let mut at = self.head + self.count;
        if at >= self.ring.len() {
            at -= self.ring.len();
        }
        let slot = match self.ring.get_mut(at) {
            Some(slot) if free > 0 => slot,
            _ => {
                self.fail(CqStatus::Overflow);
                return false;
            }
        };
        *slot = *completion;
        self.count += 1;
        let error = completion.status != Status::Success;
        let before = self.added.any;
        self.added.any = self.added.any.wrapping_add(1);
        if error || completion.solicited {
            self.added.solicited = self.added.solicited.wrapping_add(1);
        }
        if error {
            self.added.errors = self.added.errors.wrapping_add(1);
        }
        let satisfied = match self.armed {
            None => false,
            _ if self.wait.is_some() => true,
            Some(Arm::Errors) => error,
            Some(Arm::Solicited) => error || completion.solicited,
            Some(Arm::Any) => true,
        };
        if satisfied {
            self.satisfy(now, before, error);
        }
        true
    }

    /// The arm is satisfied, by entries after the first `after`. Errors do not wait.
    fn satisfy(&mut self, now: Instant, after: u64, error: bool) {
        self.wait.get_or_insert(Wait { since: now, after });
        if error || self.has_waited(now) {
            self.fire();
        }
    }

    /// Whether a satisfied arm has waited for as long as it may, or for as many entries as it may or can.
    fn has_waited(&self, now: Instant) -> bool {
        self.wait.is_some_and(|wait| {
            let entries = self.added.any.wrapping_sub(wait.after);
            self.count == self.ring.len()
                || self
                    .moderation
                    .is_none_or(|m| m.is_over(now.since(wait.since), entries, self.ring.len()))
        })
    }

    fn on_timer(&mut self, now: Instant) {
        if self.has_waited(now) {
            self.fire();
        }
    }

    /// When [`on_timer`](Self::on_timer) is due.
    fn deadline(&self) -> Option<Instant> {
        let interval = self.moderation?.interval?;
        Some(self.wait?.since.after(interval))
    }

    fn moderate(
        &mut self,
        now: Instant,
        interval_us: u32,
        count: u32,
    ) -> Result<(), ModerateError> {
        self.moderation = Moderation::try_new(interval_us, count, self.ring.len())?;
        self.on_timer(now);
        Ok(())
    }

    fn fire(&mut self) {
        self.disarm();
        self.due = if self.due == Due::No {
            Due::Once
        } else {
            Due::Twice
        };
    }

    fn fail(&mut self, status: CqStatus) {
        if self.failure.is_none() {
            self.failure = Some(status);
            if self.armed.is_some() {
                self.fire();
            }
        }
    }

    fn arm(&mut self, now: Instant, arm: Arm) {
        if self.failure.is_some() {
            // The failure waited for somebody to ask.
            if !self.failure_told && self.due == Due::No {
                self.fire();
            }
            return;
        }
        let arm = self.armed.map_or(arm, |earlier| earlier.max(arm));
        self.armed = Some(arm);
        // Entries that came before the last notification may wait for a new one; later ones must not. While a notification
        // is due, whoever takes it will see everything there is now.
        if self.due == Due::No && self.added.of(arm) != self.told.of(arm) {
            let error = self.added.errors != self.told.errors;
            self.satisfy(now, self.told.any, error);
        }
    }

    fn disarm(&mut self) {
        self.armed = None;
        self.wait = None;
    }

    fn take_notification(&mut self) -> Option<CqStatus> {
        self.due = match self.due {
            Due::No => return None,
            Due::Once => Due::No,
            Due::Twice => Due::Once,
        };
        self.told = self.added;
        if let Some(failure) = self.failure {
            self.failure_told = true;
            self.due = Due::No;
            return Some(failure);
        }
        Some(CqStatus::Ready)
    }

    fn poll(&mut self, out: &mut [Completion]) -> usize {
        let n = out.len().min(self.count);
        for to in out.iter_mut().take(n) {
            if let Some(from) = self.ring.get(self.head) {
                *to = *from;
            }
            self.head += 1;
            if self.head >= self.ring.len() {
                self.head = 0;
            }
        }
        self.count -= n;
        n
    }

    /// Moves to other memory, and leaves its own there.
    fn resize(&mut self, memory: &mut CqMemory) -> Result<(), ResizeError> {
        if memory.depth() < self.count {
            return Err(ResizeError::TooSmall);
        }
        let count = self.poll(&mut memory.0);
        core::mem::swap(&mut self.ring, &mut memory.0);
        self.head = 0;
        self.count = count;
        Ok(())
    }
}
