//! Where code runs: to tell a call made directly from one that interrupted.

use crate::world::context;

/// A kernel thread on a processor, and how many DPCs and interrupts have interrupted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    thread: usize,
    processor: usize,
    nested: u32,
}

impl Place {
    #[inline]
    pub(super) fn here() -> Place {
        let thread = context::with(|c| c.thread.get().addr());
        context::with_processor(|p| Place {
            thread,
            processor: std::ptr::from_ref(p).addr(),
            nested: p.nested(),
        })
    }
}
