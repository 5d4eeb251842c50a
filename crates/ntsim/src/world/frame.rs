//! Places on kernel threads' stacks: whether the frame that one was in is still there.

use std::rc::{Rc, Weak};

use super::thread::{State, Thread, current};

/// A place on a kernel thread's stack, for telling later whether the frame that it was in is still there.
pub(crate) struct Frame {
    thread: Weak<Thread>,
    job: u64,
    address: usize,
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
        })
    }

    /// Whether it is gone for certain: its thread's job is over, or its stack ends above.
    pub(crate) fn is_gone(&self) -> bool {
        let Some(thread) = self.thread.upgrade() else {
            return true;
        };
        match thread.state.get() {
            State::Idle | State::Ended => true,
            _ if thread.jobs.get() != self.job => true,
            State::Blocked => self.address < thread.sp.get(),
            State::Running if current() == Some(Rc::as_ptr(&thread)) => {
                let here = 0_u8;
                self.address < (&raw const here).addr()
            }
            State::Running | State::Abandoned => false,
        }
    }
}
