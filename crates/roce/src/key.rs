//! Memory keys: what a local or remote key gives access to, and which transmissions still read the memory behind it.

mod fast;
mod table;
#[cfg(test)]
mod tests;
mod window;

pub(crate) use fast::{By, Registered, Registration};
pub(crate) use table::{KeyHold, KeyTable, Place};
pub(crate) use window::Binding;

use bitflags::bitflags;

/// A memory key: `index << 8 | tag`. The local key and the remote key of a region are the same number. Zero is never a key.
///
/// The index names an entry of the engine's table and stays; every registration through the send queue gives the entry another
/// tag, so that a peer's old copy of the key opens nothing. Where a function wants the key of an entry, it wants the newest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MrKey(pub u32);

impl MrKey {
    const fn new(index: u32, tag: u8) -> MrKey {
        MrKey(index << 8 | tag as u32)
    }

    const fn index(self) -> u32 {
        self.0 >> 8
    }

    const fn tag(self) -> u8 {
        self.0 as u8
    }
}

bitflags! {
    /// What a key permits. Local reading is always permitted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access: u8 {
        /// Received data and READ responses may be placed here.
        const LOCAL_WRITE = 0x01;
        /// The peer may READ.
        const REMOTE_READ = 0x02;
        /// The peer may WRITE.
        const REMOTE_WRITE = 0x04;
        /// The peer may execute atomics.
        const REMOTE_ATOMIC = 0x08;
    }
}

impl Access {
    /// Everything that concerns the peer.
    pub(crate) const REMOTE: Access = Access::REMOTE_READ
        .union(Access::REMOTE_WRITE)
        .union(Access::REMOTE_ATOMIC);
}

/// Why a key does not give the access asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// No such key, or no longer, or not yet.
    Invalid,
    /// The key belongs to another protection domain.
    WrongPd,
    /// The range is not inside the region.
    OutOfRange,
    /// The region does not permit this kind of access.
    Denied,
}

/// Why a region could not be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// No such protection domain.
    UnknownPd,
    /// All keys are taken.
    TableFull,
    /// The range wraps around the end of the address space.
    InvalidRange,
}

/// Why a region cannot be given back yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeregisterError {
    /// No such key.
    Unknown,
    /// The key is dead, but transmissions still read the memory, or windows are bound to it or posted to be. `Event::RegionIdle`
    /// follows when the last one is done; windows go on giving access until then.
    Busy,
}
