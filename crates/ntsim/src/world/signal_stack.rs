//! A stack for signal handlers, so that they run when a kernel thread's own stack is used up.

use std::mem::MaybeUninit;
use std::ptr;

/// A handler may serve a device register, or make a report.
const SIZE: usize = 1 << 20;

/// While it exists, signals of this host thread are handled on a stack of its own.
pub(super) struct SignalStack {
    base: *mut libc::c_void,
    previous: libc::stack_t,
}

impl SignalStack {
    pub(super) fn install() -> SignalStack {
        // SAFETY: an anonymous private mapping at an address of the system's choice affects nothing else; the stack is
        // given up before it is unmapped.
        unsafe {
            let base = libc::mmap(
                ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            );
            assert!(base != libc::MAP_FAILED, "no memory for a signal stack");
            let stack = libc::stack_t {
                ss_sp: base,
                ss_flags: 0,
                ss_size: SIZE,
            };
            let mut previous = MaybeUninit::uninit();
            let set = libc::sigaltstack(&raw const stack, previous.as_mut_ptr());
            assert!(set == 0, "sigaltstack failed");
            SignalStack {
                base,
                previous: previous.assume_init(),
            }
        }
    }
}

impl Drop for SignalStack {
    fn drop(&mut self) {
        // SAFETY: what was set before, by this thread: a world stays on its thread. Nobody runs on ours.
        unsafe {
            libc::sigaltstack(&raw const self.previous, ptr::null_mut());
            libc::munmap(self.base, SIZE);
        }
    }
}
