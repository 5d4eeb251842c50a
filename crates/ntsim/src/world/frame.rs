//! Places on kernel threads' stacks: whether the frame that one was in is still there.

use std::rc::{Rc, Weak};

use super::thread::{State, Thread, current};
use super::{Core, context};
use crate::exports::ob::Objects;
use crate::verifier::{self, Keeper};

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

impl Core {
    /// If an address lies on a kernel thread's stack: whose that is, and whether the frame around it is gone for certain.
    pub(crate) fn on_a_stack(&self, address: usize) -> Option<(usize, bool)> {
        let threads = self.threads.borrow();
        let idle = self.idle_threads.borrow();
        // SAFETY: the running thread is kept by the world.
        let running = current().map(|thread| unsafe { &*thread });
        let mut all = threads.iter().chain(idle.iter()).map(|thread| &**thread);
        let on = |thread: &&Thread| thread.stack.contains(address);
        let thread = running.filter(on).or_else(|| all.find(on))?;
        let gone = match thread.state.get() {
            State::Idle | State::Ended => true,
            State::Blocked => address < thread.sp.get(),
            // Below the frame of who called the kernel, there are the kernel's own.
            State::Running if current() == Some(std::ptr::from_ref(thread)) => {
                let caller = context::with(|c| c.import.stack.get());
                thread.stack.contains(caller) && address < caller
            }
            State::Running | State::Abandoned => false,
        };
        Some((thread.number, gone))
    }

    /// What an address is that a driver gave, as far as that can be told: a variable, a place in a block of the pool or on a stack, a
    /// thread.
    pub(crate) fn name(&self, address: usize) -> Option<String> {
        let machines = self.machines.borrow();
        let thread = |m: &std::rc::Rc<super::machine::Machine>| m.ext::<Objects>().thread(address);
        machines
            .iter()
            .find_map(thread)
            .or_else(|| verifier::origin::describe(self, address))
            .or_else(|| {
                let (thread, gone) = self.on_a_stack(address)?;
                let gone = if gone {
                    ", in a frame that is gone"
                } else {
                    ""
                };
                Some(format!("on the stack of kernel thread {thread}{gone}"))
            })
            .or_else(|| machines.iter().find_map(|m| m.pool.describe(address)))
    }

    /// Where a kernel thread waits in an image, a line for the place and for each caller.
    pub(crate) fn waits_in(&self, thread: *const Thread) -> String {
        let waits = self.waits.borrow();
        let wait = waits.iter().find(|w| w.is_of(thread));
        wait.map_or_else(String::new, |w| w.origin.told("it waits in"))
    }
}
