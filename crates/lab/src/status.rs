//! NTSTATUS values as people read them.

use ndkpi::NTSTATUS;
use ntsim::ndk::Status;

/// Name and number of a status.
pub fn name(status: NTSTATUS) -> String {
    Status(status).to_string()
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
