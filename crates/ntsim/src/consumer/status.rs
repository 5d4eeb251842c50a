//! Statuses as people read them.

use ndkpi::NTSTATUS;
use std::fmt;

/// A status that prints its name and its number: an error for tests.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Status(pub NTSTATUS);

impl From<NTSTATUS> for Status {
    fn from(status: NTSTATUS) -> Status {
        Status(status)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ndis_sys::status::name(self.0) {
            Some(name) => write!(f, "{name} ({:#010x})", self.0),
            None => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use ndkpi::status::{STATUS_CONNECTION_REFUSED, STATUS_SUCCESS};

    #[test]
    fn a_status_prints_name_and_number() {
        assert_eq!(
            format!("{:?}", Status(STATUS_CONNECTION_REFUSED)),
            "STATUS_CONNECTION_REFUSED (0xc0000236)"
        );
        assert_eq!(
            Status(STATUS_SUCCESS).to_string(),
            "STATUS_SUCCESS (0x00000000)"
        );
        assert_eq!(Status(0x1234_5678).to_string(), "0x12345678");
    }

    #[test]
    fn every_status_of_ndkpi_has_a_name() {
        for status in [
            ndkpi::status::STATUS_REMOTE_RESOURCES,
            ndkpi::status::STATUS_DEVICE_BUSY,
        ] {
            assert!(ndis_sys::status::name(status).is_some(), "{status:#x}");
        }
    }
}
