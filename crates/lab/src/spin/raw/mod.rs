//! The dispatch tables as a consumer calls them, without anything in between that could be kind to it: a file for each table.
//!
//! Objects are open and arguments are what the walk chose: pointers are valid during the call, and as long as NDKPI wants them. The
//! verifier watches. Contexts are numbers: that of a request names its [`Token`](super::model::Token), that of an object's event the
//! object.
#![allow(
    unsafe_code,
    reason = "a consumer's calls through tables of functions, with its pointers"
)]

mod adapter;
mod address;
mod connector;
mod cq;
mod elsewhere;
mod events;
mod listener;
mod mr;
mod mw;
mod pd;
mod qp;
mod shared_endpoint;
mod srq;

pub(super) use adapter::*;
pub(super) use address::Address;
pub(super) use connector::*;
pub(super) use cq::*;
pub(super) use elsewhere::Elsewhere;
pub(super) use listener::*;
pub(super) use mr::*;
pub(super) use mw::*;
pub(super) use pd::*;
pub(super) use qp::*;
pub(super) use shared_endpoint::*;
pub(super) use srq::*;

use events::on_close;
use ndis_sys::imports::KeGetCurrentIrql;
use ndkpi::*;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut, without_provenance_mut};

/// An object that a provider handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw(NonNull<NDK_OBJECT_HEADER>);

impl Raw {
    pub(super) fn new<T>(object: *mut T) -> Option<Raw> {
        NonNull::new(object.cast()).map(Raw)
    }

    fn at<T>(self) -> *mut T {
        self.0.as_ptr().cast()
    }

    /// Its dispatch table, which every object has right behind its header.
    fn table<T>(self) -> &'static T {
        // SAFETY: the walk only calls what is open: its table is there, and a table never goes.
        unsafe {
            &*self
                .at::<NDK_OBJECT_HEADER>()
                .add(1)
                .cast::<*const T>()
                .read()
        }
    }
}

fn context(number: u64) -> *mut c_void {
    without_provenance_mut(number as usize)
}

/// The IRQL of whoever calls.
pub(super) fn irql() -> u8 {
    // SAFETY: callable anywhere.
    unsafe { KeGetCurrentIrql() }
}

/// A function of slot 0.
pub(super) fn close(object: Raw, token: u64) -> NTSTATUS {
    let close = object.table::<NDK_FN_CLOSE_OBJECT>();
    // SAFETY: as the module says.
    unsafe { close(object.at(), on_close, context(token)) }
}

pub(super) fn query_extension(object: Raw, is_adapter: bool, version: NDK_VERSION) -> NTSTATUS {
    let slot = usize::from(!is_adapter);
    let (mut id, mut found) = (
        GUID {
            Data1: 0x7653_2dc4,
            ..GUID::ZEROED
        },
        MaybeUninit::<NDK_EXTENSION_INTERFACE>::zeroed(),
    );
    let table: *const NDK_FN_QUERY_EXTENSION_INTERFACE = object.table();
    // SAFETY: as the module says.
    unsafe { (*table.add(slot))(object.at(), &raw mut id, version, found.as_mut_ptr()) }
}

/// Calls a create function: its status, and the object if there is one now.
fn create<T>(call: impl FnOnce(*mut *mut T) -> NTSTATUS) -> (NTSTATUS, Option<Raw>) {
    let mut out: *mut T = null_mut();
    let status = call(&raw mut out);
    (status, Raw::new(out))
}

/// An element of a list.
pub(super) fn sge(address: u64, length: u32, token: u32) -> NDK_SGE {
    NDK_SGE {
        Anonymous: NDK_SGE_ADDRESS {
            VirtualAddress: context(address),
        },
        Length: length,
        MemoryRegionToken: token,
    }
}
