//! Rundown protection: wait until nobody uses a thing any more.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::event::{Event, EventKind};
use crate::irql::Passive;
use crate::status::NoMemory;

const CLOSED: usize = 1;
const USER: usize = 2;

/// Counts users of something until its owner closes it and waits for the last one.
#[derive(Debug)]
pub struct Rundown {
    /// Bit 0: closed. Above: users.
    state: AtomicUsize,
    idle: Event,
}

impl Rundown {
    /// Open, without users. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        Ok(Self {
            state: AtomicUsize::new(0),
            idle: Event::try_new(EventKind::Notification, false)?,
        })
    }

    /// Becomes a user, unless it is closed. IRQL: <= DISPATCH_LEVEL.
    pub fn enter(&self) -> Option<RundownGuard<'_>> {
        let entered = self
            .state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & CLOSED == 0).then_some(state + USER)
            });
        entered.ok().map(|_| RundownGuard { rundown: self })
    }

    /// Refuses new users from now on. IRQL: <= DISPATCH_LEVEL.
    pub fn close(&self) {
        if self.state.fetch_or(CLOSED, Ordering::AcqRel) == 0 {
            self.idle.set();
        }
    }

    /// Whether somebody uses it now. IRQL: any.
    pub fn has_users(&self) -> bool {
        self.state.load(Ordering::Acquire) >= USER
    }

    /// Whether it is closed and the last user has gone. IRQL: any.
    pub fn is_idle(&self) -> bool {
        self.state.load(Ordering::Acquire) == CLOSED
    }

    /// Refuses new users and waits until the last one has left.
    pub fn close_and_wait(&self, passive: Passive) {
        self.close();
        self.idle.wait(passive);
    }

    /// Lets users in again. Only after [`Rundown::close_and_wait`], by the one who called it. IRQL: <= DISPATCH_LEVEL.
    pub fn reopen(&self) {
        self.idle.clear();
        self.state.fetch_and(!CLOSED, Ordering::Release);
    }

    /// Takes a user's place without a guard; pair it with [`Rundown::leave`]. IRQL: <= DISPATCH_LEVEL.
    pub fn try_enter(&self) -> bool {
        self.enter().map(core::mem::forget).is_some()
    }

    /// Takes one more place for who has one, closed or not; pair it with [`Rundown::leave`]. IRQL: any.
    pub fn add_user(&self) {
        self.state.fetch_add(USER, Ordering::Relaxed);
    }

    /// Gives back what [`Rundown::try_enter`] took. IRQL: <= DISPATCH_LEVEL.
    pub fn leave(&self) {
        if self.state.fetch_sub(USER, Ordering::AcqRel) == USER | CLOSED {
            self.idle.set();
        }
    }
}

/// One use.
#[derive(Debug)]
pub struct RundownGuard<'a> {
    rundown: &'a Rundown,
}

impl Drop for RundownGuard<'_> {
    fn drop(&mut self) {
        self.rundown.leave();
    }
}
