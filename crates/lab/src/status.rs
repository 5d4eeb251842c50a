//! NTSTATUS values as people read them.

use ndkpi::NTSTATUS;
use ndkpi::status as s;

/// The symbolic name of a status, or its number.
pub fn name(status: NTSTATUS) -> String {
    let known = [
        (s::STATUS_SUCCESS, "STATUS_SUCCESS"),
        (s::STATUS_PENDING, "STATUS_PENDING"),
        (s::STATUS_BUFFER_OVERFLOW, "STATUS_BUFFER_OVERFLOW"),
        (s::STATUS_NO_MORE_ENTRIES, "STATUS_NO_MORE_ENTRIES"),
        (s::STATUS_ACCESS_VIOLATION, "STATUS_ACCESS_VIOLATION"),
        (s::STATUS_INVALID_PARAMETER, "STATUS_INVALID_PARAMETER"),
        (
            s::STATUS_INVALID_DEVICE_REQUEST,
            "STATUS_INVALID_DEVICE_REQUEST",
        ),
        (s::STATUS_BUFFER_TOO_SMALL, "STATUS_BUFFER_TOO_SMALL"),
        (s::STATUS_DATA_OVERRUN, "STATUS_DATA_OVERRUN"),
        (s::STATUS_SHARING_VIOLATION, "STATUS_SHARING_VIOLATION"),
        (
            s::STATUS_INSUFFICIENT_RESOURCES,
            "STATUS_INSUFFICIENT_RESOURCES",
        ),
        (s::STATUS_DEVICE_NOT_READY, "STATUS_DEVICE_NOT_READY"),
        (s::STATUS_IO_TIMEOUT, "STATUS_IO_TIMEOUT"),
        (s::STATUS_NOT_SUPPORTED, "STATUS_NOT_SUPPORTED"),
        (s::STATUS_INTERNAL_ERROR, "STATUS_INTERNAL_ERROR"),
        (s::STATUS_CANCELLED, "STATUS_CANCELLED"),
        (s::STATUS_REMOTE_RESOURCES, "STATUS_REMOTE_RESOURCES"),
        (s::STATUS_INVALID_ADDRESS, "STATUS_INVALID_ADDRESS"),
        (s::STATUS_CONNECTION_REFUSED, "STATUS_CONNECTION_REFUSED"),
        (s::STATUS_CONNECTION_INVALID, "STATUS_CONNECTION_INVALID"),
        (s::STATUS_CONNECTION_ACTIVE, "STATUS_CONNECTION_ACTIVE"),
        (s::STATUS_NETWORK_UNREACHABLE, "STATUS_NETWORK_UNREACHABLE"),
        (s::STATUS_HOST_UNREACHABLE, "STATUS_HOST_UNREACHABLE"),
        (s::STATUS_CONNECTION_ABORTED, "STATUS_CONNECTION_ABORTED"),
        (s::STATUS_DEVICE_REMOVED, "STATUS_DEVICE_REMOVED"),
    ];
    known
        .iter()
        .find(|(value, _)| *value == status)
        .map_or_else(|| format!("{status:#010x}"), |(_, name)| (*name).to_owned())
}

/// IRQLs as people read them.
pub fn irql(irql: u8) -> String {
    match irql {
        0 => "PASSIVE_LEVEL".to_owned(),
        1 => "APC_LEVEL".to_owned(),
        2 => "DISPATCH_LEVEL".to_owned(),
        other => format!("IRQL {other}"),
    }
}

/// Adds what was being done to a failed NDKPI call.
pub trait Doing<T> {
    /// Says what failed.
    fn doing(self, what: &str) -> anyhow::Result<T>;
}

impl<T> Doing<T> for Result<T, NTSTATUS> {
    fn doing(self, what: &str) -> anyhow::Result<T> {
        self.map_err(|status| anyhow::anyhow!("{what}: {}", name(status)))
    }
}
