//! An NDK consumer's tools: the objects of NDKPI as Rust types, for tests, demos and benchmarks.
//!
//! Everything here is what a consumer's own wrappers do: it calls dispatch tables, hands in callbacks and waits. It must run as
//! kernel code of a machine, that is inside [`World::call`](crate::World::call):
//!
//! ```ignore
//! let (qp, connector) = world.call(machine, || {
//!     let adapter = Adapter::open(NDK_VERSION_2_1)?;
//!     let cq = adapter.create_cq(64)?;
//!     let pd = adapter.create_pd()?;
//!     let qp = pd.create_qp(&cq, &cq, QpLimits::default())?;
//!     Ok((qp, adapter.create_connector()?))
//! })?;
//! ```
//!
//! Functions that may pend come in two forms. The plain one waits at PASSIVE_LEVEL, while the world goes on. The one that
//! `start`s returns a [`Pending`], which the host may wait for with [`Pending::wait`] between two calls, so that one test can play
//! both ends of a connection. Objects must be closed; what is not closed is reported as a leak when the adapter closes.

mod adapter;
mod address;
mod buffer;
mod connector;
mod cq;
mod lam;
mod listener;
mod mr;
mod mw;
mod pending;
mod qp;
mod srq;
mod wsk;

pub use adapter::{Adapter, Pd};
pub use buffer::Buffer;
pub use connector::{ConnectionData, Connector, DisconnectEvents, ReadLimits};
pub use cq::{Cq, Notifications};
pub use lam::Lam;
pub use listener::Listener;
pub use mr::Mr;
pub use mw::Mw;
pub use pending::{Call, Pending};
pub use qp::{Qp, QpLimits, sge};
pub use srq::Srq;

use ndkpi::NTSTATUS;
use ndkpi::status::STATUS_SUCCESS;

/// What an NDKPI function answers: the status of a failure.
pub type Result<T> = core::result::Result<T, NTSTATUS>;

fn check(status: NTSTATUS) -> Result<()> {
    if status == STATUS_SUCCESS {
        Ok(())
    } else {
        Err(status)
    }
}
