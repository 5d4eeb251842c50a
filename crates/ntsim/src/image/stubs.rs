//! What an image's imports of the kernel's functions are bound to: stubs that note where they are called from, and go on to the function.
//!
//! They cost the data path two stores. What notes a place later looks there (`verifier::origin`).

use std::io;
use std::ptr;

use super::runtime::Target;
use crate::world::context;

/// Bytes of each, of which 30 are used.
const STUB: usize = 32;

/// The stubs of an image, in pages of their own: neither the image's nor the machine's memory.
#[derive(Debug)]
pub(super) struct Stubs {
    base: *mut u8,
    len: usize,
}

impl Stubs {
    /// Makes one for each function. They are for this host thread, which is its world's.
    pub(super) fn new(targets: &[Target]) -> io::Result<Stubs> {
        let len = (targets.len() * STUB).max(1);
        // SAFETY: an anonymous private mapping at an address of the system's choice affects nothing else.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stubs = Stubs {
            base: base.cast(),
            len,
        };
        let note = context::with(|c| (&raw const c.import).addr());
        for (index, target) in targets.iter().enumerate() {
            let code = stub(note, target.address);
            // SAFETY: within the mapping, of which nobody else knows.
            unsafe { ptr::copy_nonoverlapping(code.as_ptr(), stubs.at(index), STUB) };
        }
        // SAFETY: our own mapping.
        if unsafe { libc::mprotect(base, len, libc::PROT_READ | libc::PROT_EXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stubs)
    }

    /// Where the stub of the function of that number is.
    pub(super) fn at(&self, index: usize) -> *mut u8 {
        self.base.wrapping_add(index * STUB)
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        // SAFETY: our own mapping; the image that jumps there is gone.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Stores RSP and RBP at `note`, and jumps to `target`. Changes R11, which functions need not preserve.
fn stub(note: usize, target: usize) -> [u8; STUB] {
    // Never executed: the rest.
    let mut code = [0xcc; STUB];
    let pieces: [&[u8]; 5] = [
        // mov r11, note
        &[0x49, 0xbb],
        &note.to_le_bytes(),
        // mov [r11], rsp; mov [r11 + 8], rbp; mov r11, target
        &[0x49, 0x89, 0x23, 0x49, 0x89, 0x6b, 0x08, 0x49, 0xbb],
        &target.to_le_bytes(),
        // jmp r11
        &[0x41, 0xff, 0xe3],
    ];
    for (byte, made) in code.iter_mut().zip(pieces.concat()) {
        *byte = made;
    }
    code
}
