//! CRC-32 as Ethernet and RoCE use it (polynomial 0x04C11DB7 reflected), for `no_std`.
//!
//! On x86-64 the processor's carry-less multiplication is used when CPUID reports it, which is decided at run time: a kernel
//! driver is built once for all processors. Elsewhere, and for short inputs, sixteen table look-ups a step do the work. The feature `avx`
//! lets long inputs go through registers twice as wide; it is for programs in user mode only.
#![no_std]
#![allow(
    unsafe_code,
    reason = "the PCLMULQDQ path calls functions that need a processor feature"
)]

#[cfg(target_arch = "x86_64")]
mod pclmul;
mod table;

/// A CRC-32 in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32 {
    /// The shift register, before the final inversion.
    register: u32,
}

impl Crc32 {
    /// The CRC of nothing so far.
    #[must_use]
    pub const fn new() -> Crc32 {
        Crc32 {
            register: 0xFFFF_FFFF,
        }
    }

    /// Continues from a register value, as [`register`](Self::register) returned it.
    #[must_use]
    pub const fn from_register(register: u32) -> Crc32 {
        Crc32 { register }
    }

    /// The register: initial value all ones, without the final inversion.
    #[must_use]
    pub const fn register(self) -> u32 {
        self.register
    }

    /// Appends bytes.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= pclmul::MIN_LENGTH && pclmul::available() {
            // SAFETY: `available` has just confirmed the processor features that `update` is compiled for.
            self.register = unsafe { pclmul::update(self.register, bytes) };
            return;
        }
        self.register = table::update(self.register, bytes);
    }

    /// Appends bytes and copies them: as many as `from` has and `to` has room for. Each is read once.
    #[inline]
    pub fn copy(&mut self, from: &[u8], to: &mut [u8]) {
        let length = from.len().min(to.len());
        // SAFETY: there is room for so many bytes, and nobody else can have a reference to them.
        unsafe { self.copy_raw(&from[..length], to.as_mut_ptr()) };
    }

    /// Appends bytes and copies them, from the first to the last, to memory that others may look at meanwhile. Each is read once.
    ///
    /// # Safety
    /// `to` is valid for writes of as many bytes as `from` has, and they are none of those.
    #[inline]
    pub unsafe fn copy_raw(&mut self, from: &[u8], to: *mut u8) {
        #[cfg(target_arch = "x86_64")]
        if from.len() >= pclmul::MIN_LENGTH && pclmul::available() {
            // SAFETY: `available` has just confirmed the processor features that `copy` is compiled for; the rest is the caller's promise.
            self.register = unsafe { pclmul::copy(self.register, from, to) };
            return;
        }
        // SAFETY: by the caller's promise.
        self.register = unsafe { table::copy(self.register, from, to) };
    }

    /// The CRC of everything appended, as zlib's `crc32` gives it. On the wire its low byte goes first.
    #[must_use]
    pub const fn finish(self) -> u32 {
        !self.register
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Crc32::new()
    }
}

/// The CRC of `bytes`.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    crc.finish()
}
