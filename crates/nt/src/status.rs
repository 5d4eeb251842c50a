//! Status codes as values that can be an error.

use core::fmt;

use crate::sys::types::NTSTATUS;

/// An `NTSTATUS` (or `NDIS_STATUS`: the same numbers).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Status(pub NTSTATUS);

impl Status {
    /// The kernel's own notion of success: informational codes count, and so does STATUS_PENDING. Look for that one first.
    pub fn is_success(self) -> bool {
        self.0 >= 0
    }

    /// `Ok` for every code that is a success.
    ///
    /// # Errors
    /// The code itself, if it is a warning or an error.
    pub fn ok(self) -> Result<(), Status> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// There was no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<NoMemory> for Status {
    fn from(_: NoMemory) -> Self {
        Status(crate::sys::status::STATUS_INSUFFICIENT_RESOURCES)
    }
}
