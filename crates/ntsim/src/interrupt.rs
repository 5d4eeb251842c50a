//! Interruption from the keyboard, for worlds in real time that would go on for ever.

use std::sync::atomic::{AtomicBool, Ordering};

static CAUGHT: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    CAUGHT.store(true, Ordering::Relaxed);
}

/// From now on the first SIGINT, and the first SIGTERM, does not end the process: [`caught`] tells of it. A second one does as ever.
/// A world that waits in real time looks at its condition again.
pub fn catch() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all zeros is a valid action: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESETHAND;
        // SAFETY: the handler only stores to an atomic; the old action is not asked for.
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
}

/// Whether a signal has come since [`catch`].
#[must_use]
pub fn caught() -> bool {
    CAUGHT.load(Ordering::Relaxed)
}
