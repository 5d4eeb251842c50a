//! A consumer's tools: the wrappers that [`crate::ndk`] shows.
//!
//! Everything here is what a consumer's own wrappers do: it calls dispatch tables, hands in callbacks and waits.

mod adapter;
mod address;
mod buffer;
mod connector;
mod cq;
mod endpoint;
mod lam;
mod listener;
mod mr;
mod mw;
mod pending;
mod qp;
mod srq;
mod status;
mod thread;
mod wsk;

pub use adapter::{Adapter, Pd, leaving, on_leave};
pub(crate) use address::Address;
pub use buffer::Buffer;
pub use connector::{ConnectionData, Connector, DisconnectEvents, ReadLimits};
pub use cq::{Cq, Notifications};
pub use endpoint::Endpoint;
pub use lam::Lam;
pub use listener::Listener;
pub use mr::Mr;
pub use mw::Mw;
pub use pending::{Call, Pending};
pub use qp::{Invalidated, Qp, QpLimits, sge};
pub use srq::Srq;
pub use status::Status;
pub use thread::Thread;

use crate::world::context;
use ndkpi::NTSTATUS;
use ndkpi::status::STATUS_SUCCESS;

/// What an NDKPI function answers: the status of a failure. `?` turns it into a [`Status`], which prints its name.
pub type Result<T> = core::result::Result<T, NTSTATUS>;

/// The status of a failure, or nothing: STATUS_SUCCESS only, and so not that something pends.
pub fn check(status: NTSTATUS) -> Result<()> {
    if status == STATUS_SUCCESS {
        Ok(())
    } else {
        Err(status)
    }
}

/// Makes code the host's own until dropped: see [`bookkeeping`].
#[must_use = "the code is kernel code again when this is dropped"]
pub struct Bookkeeping {
    _kernel: context::KernelMode,
}

/// From here on, until the result is dropped, code that runs on a machine keeps books for the host: what it allocates is the host's memory,
/// not the machine's, and does not fail when allocations are made to fail. It must not call the kernel or a provider meanwhile.
pub fn bookkeeping() -> Bookkeeping {
    Bookkeeping {
        _kernel: context::KernelMode::enter(),
    }
}

/// Kernel functions can tell nobody that they are called from nowhere, so it is said here.
///
/// # Panics
/// If no machine is current.
#[inline]
#[track_caller]
fn in_kernel() {
    assert!(
        context::with(|c| !c.machine.get().is_null()),
        "NDK consumer code ran on no machine: it is kernel code and must be called inside World::call"
    );
}

/// The table of an object of which a function is about to be called.
#[inline]
#[track_caller]
fn calling<T>(table: &T) -> &T {
    in_kernel();
    table
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn consumer_code_on_no_machine_is_told_so() {
        let payload = std::panic::catch_unwind(|| Buffer::new(64).is_ok()).unwrap_err();
        let text = payload.downcast_ref::<&str>().expect("a text");
        assert!(text.contains("inside World::call"), "{text}");
    }
}
