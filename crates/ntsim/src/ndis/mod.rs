//! The network driver interface: what `ndis.sys` does between miniports, protocols and the rest of the kernel.

pub(crate) mod adapter;
pub(crate) mod config;
pub(crate) mod dma;
pub(crate) mod driver;
pub(crate) mod handle;
pub(crate) mod header;
pub(crate) mod interrupt;
pub(crate) mod lifecycle;
pub(crate) mod mdl;
pub(crate) mod oid;
mod owed;
mod pending;
pub(crate) mod pool;
mod power;
pub(crate) mod receive;
pub(crate) mod reset;
pub mod rules;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod work;
pub(crate) mod world;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::NDIS_INDICATE_ALL_NBLS;

use crate::world::context;
use crate::world::machine::Machine;

pub use adapter::{Link, StatusIndication};
pub use oid::{OidRequest, OidResult};
pub(crate) use owed::accuse;
pub use pending::PendingOid;
pub use world::{AdapterInfo, DriverImage, InstallError, SendCounts};

/// A machine's NDIS.
pub(crate) struct Ndis {
    pub(crate) handles: handle::Handles,
    pub(crate) drivers: driver::MiniportDrivers,
    pub(crate) adapters: RefCell<Vec<Rc<adapter::Adapter>>>,
    pub(crate) timers: work::Timers,
    /// Net buffer lists a miniport may indicate per interrupt DPC.
    pub(crate) throttle: Cell<u32>,
    next_if_index: Cell<u32>,
}

impl Default for Ndis {
    fn default() -> Self {
        Self {
            handles: handle::Handles::default(),
            drivers: RefCell::default(),
            adapters: RefCell::default(),
            timers: work::Timers::default(),
            throttle: Cell::new(NDIS_INDICATE_ALL_NBLS),
            // Interface 1 is the loopback interface.
            next_if_index: Cell::new(2),
        }
    }
}

/// The current machine's NDIS.
pub(crate) fn ndis() -> Rc<Ndis> {
    of(&context::machine())
}

pub(crate) fn of(machine: &Machine) -> Rc<Ndis> {
    machine.ext::<Ndis>()
}

/// A configuration parameter on its way to the driver.
pub(crate) enum Setting {
    Integer(u32),
    Text(String),
    Bytes(Vec<u8>),
}
