//! The consumer's memory as the engine sees it: regions, reached through a trait of the caller.

pub use vroce_crc32::Crc32;

/// A region of memory as the caller knows it. The engine stores and returns it and never looks inside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct RegionId(pub u64);

/// The caller could not reach the memory it had registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

impl core::fmt::Display for Fault {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("registered memory cannot be reached")
    }
}

/// An operation on eight bytes, taken as a number in the host's byte order (IBTA 9.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Atomic {
    /// Stores `swap` if the value is `compare`.
    CompareSwap {
        /// What the value has to be.
        compare: u64,
        /// What it becomes.
        swap: u64,
    },
    /// Adds, modulo 2^64.
    FetchAdd {
        /// What is added.
        add: u64,
    },
}

impl Atomic {
    /// What a value becomes.
    #[must_use]
    pub const fn result(self, original: u64) -> u64 {
        match self {
            Atomic::CompareSwap { compare, swap } if original == compare => swap,
            Atomic::CompareSwap { .. } => original,
            Atomic::FetchAdd { add } => original.wrapping_add(add),
        }
    }
}

/// Access to registered memory.
///
/// `offset` counts bytes from the start of the registration (from the base address given to
/// [`Engine::register`](crate::Engine::register)). The engine has checked every range against the registration before it
/// calls; an implementation still answers [`Fault`] for what it cannot reach.
pub trait Memory {
    /// Places received bytes.
    ///
    /// # Errors
    /// [`Fault`] if the range is not there; the operation it belongs to then fails.
    fn write(&mut self, region: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault>;

    /// Places received bytes, and runs `crc` over them, each byte read once ([`Crc32::copy`], [`Crc32::copy_raw`]). Whether the packet they
    /// are from is right is known only afterwards. Memory that cannot do that, as this one, gets bytes of packets that are right, through
    /// [`write`](Self::write).
    ///
    /// # Errors
    /// [`Fault`] if the range is not there, or for memory that cannot do it. Neither the bytes nor the CRC are of use to anybody then.
    fn place(
        &mut self,
        _region: RegionId,
        _offset: u64,
        _data: &[u8],
        _crc: &mut Crc32,
    ) -> Result<(), Fault> {
        Err(Fault)
    }

    /// Executes an atomic operation on the eight bytes at `offset`, and gives what they were before. No other atomic operation of this
    /// adapter comes in between; whether the host's own do not is up to the implementation.
    ///
    /// # Errors
    /// [`Fault`] if the bytes are not there, or do not lie at a multiple of eight in the host's memory.
    fn atomic(&mut self, region: RegionId, offset: u64, operation: Atomic) -> Result<u64, Fault>;

    /// Hands `len` bytes to `f`, in order, in as many slices as the memory has fragments. Used once per transmitted packet,
    /// for its invariant CRC.
    ///
    /// # Errors
    /// [`Fault`] if the range is not there; `f` may have seen part of it.
    fn visit(
        &self,
        region: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault>;
}
