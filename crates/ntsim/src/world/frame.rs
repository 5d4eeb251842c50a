//! Places on kernel threads' stacks: whether the frame that one was in is still there.

use std::rc::{Rc, Weak};

use super::thread::{State, Thread, current};
use crate::verifier::Keeper;

/// A place on a kernel thread's stack, for telling later whether the frame that it was in is still there.
pub(crate) struct Frame {
    thread: Weak<Thread>,
    job: u64,
    address: usize,
    /// Whose it is, where that can be told: of functions of images.
    keeper: Keeper,
}

impl Frame {
    /// None if the address is not on the stack of the thread that runs now.
    pub(crate) fn of(address: usize) -> Option<Frame> {
        let thread = current()?;
        // SAFETY: the running thread is kept by the world, in an `Rc`.
        let thread = unsafe {
            if !(*thread).stack.contains(address) {
                return None;
            }
            Rc::increment_strong_count(thread);
            Rc::from_raw(thread)
        };
        Some(Frame {
            thread: Rc::downgrade(&thread),
            job: thread.jobs.get(),
            address,
            keeper: Keeper::of(address),
        })
    }

    /// Where the call was made in it; empty if in no image.
    pub(crate) fn place(&self) -> String {
        self.keeper.place()
    }

    /// Whether it is gone for certain: its thread's job is over, its stack ends above, or its function has returned and another was called.
    pub(crate) fn is_gone(&self) -> bool {
        let Some(thread) = self.thread.upgrade() else {
            return true;
        };
        match thread.state.get() {
            State::Idle | State::Ended => true,
            _ if thread.jobs.get() != self.job => true,
            _ if self.is_replaced(&thread) => true,
            State::Blocked => self.address < thread.sp.get(),
            State::Running if current() == Some(Rc::as_ptr(&thread)) => {
                let here = 0_u8;
                self.address < (&raw const here).addr()
            }
            State::Running | State::Abandoned => false,
        }
    }

    fn is_replaced(&self, thread: &Thread) -> bool {
        self.keeper
            .returns
            .is_some_and(|(slot, to)| thread.stack.word(slot).is_some_and(|word| word != to))
    }
}
