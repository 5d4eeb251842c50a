//! The Network Direct Kernel Provider Interface (NDKPI 1.1 to 2.1) as Rust types.
//!
//! NDKPI is how a kernel-mode consumer of RDMA on Windows (SMB Direct is one) uses an RDMA-capable network adapter. The adapter's
//! miniport driver is the *provider*: it hands out objects, each beginning with an [`object::NDK_OBJECT_HEADER`] and a pointer to a
//! table of functions. The provider calls the consumer back.
//!
//! ```text
//! adapter ─┬─ protection domain ─┬─ queue pair        (uses completion queues, perhaps a shared receive queue)
//!          │                     ├─ memory region
//!          │                     ├─ memory window
//!          │                     └─ shared receive queue
//!          ├─ completion queue
//!          ├─ connector                               (joins a queue pair to a peer)
//!          ├─ listener                                (makes connectors)
//!          └─ shared endpoint                         (a local address for several connectors)
//! ```
//!
//! # Rules common to all functions
//!
//! - The first parameter is the object. Functions are called at IRQL <= `DISPATCH_LEVEL` unless stated otherwise, and so are the
//!   consumer's callbacks.
//! - A function that takes a completion callback either finishes at once, with any status but `STATUS_PENDING`, and does not call
//!   back; or it returns `STATUS_PENDING` and calls back exactly once, possibly before it has returned.
//! - A create function that returned `STATUS_PENDING` never writes to its out parameter; the object comes with the callback.
//! - Closing never fails: `STATUS_SUCCESS`, or `STATUS_PENDING` and a callback. An object closes only when its requests are
//!   completed, its callbacks have returned, and every object that depends on it is closed.
//! - No slot of a table is null. What a provider does not support, it refuses with a status.
//! - The layer above may overwrite an object's `Dispatch` pointer and owns `NdkReserved`: a provider reads neither.
//!
//! # Conventions of this crate
//!
//! Names are those of the C headers (`ndkpi.h`, `ndkinfo.h`, `ndisndk.h`, `wskndk.h`). Function pointers are `unsafe extern "efiapi"`:
//! on x86-64 that is the Windows convention on every host, so the tables work, and can be tested, anywhere. Layouts are those of
//! 64-bit Windows Server 2022 (the NDKPI 2.1 tables, which begin with the older ones); each structure asserts them when it is
//! compiled, and a unit test compares them with the fact files in `data/`.
//!
//! # Example
//!
//! A provider's object begins with the NDK object, and its state follows. The consumer calls through the table.
//!
//! ```
//! use ndkpi::*;
//!
//! #[repr(C)]
//! struct MemoryWindow {
//!     ndk: NDK_MW,
//!     token: u32,
//! }
//!
//! unsafe extern "efiapi" fn remote_token(window: *mut NDK_MW) -> u32 {
//!     // SAFETY: a consumer passes only windows made below.
//!     unsafe { (*window.cast::<MemoryWindow>()).token }
//! }
//!
//! unsafe extern "efiapi" fn query_extension(
//!     _: *mut NDK_OBJECT_HEADER,
//!     _: *mut GUID,
//!     _: NDK_VERSION,
//!     _: *mut NDK_EXTENSION_INTERFACE,
//! ) -> NTSTATUS {
//!     status::STATUS_NOT_SUPPORTED
//! }
//!
//! unsafe extern "efiapi" fn close(
//!     object: *mut NDK_OBJECT_HEADER,
//!     _: NDK_FN_CLOSE_COMPLETION,
//!     _: *mut c_void,
//! ) -> NTSTATUS {
//!     // SAFETY: the header is the first field, and the consumer closes an object once.
//!     drop(unsafe { Box::from_raw(object.cast::<MemoryWindow>()) });
//!     status::STATUS_SUCCESS
//! }
//!
//! static DISPATCH: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
//!     NdkCloseMw: close,
//!     NdkQueryExtension: query_extension,
//!     NdkGetRemoteTokenFromMw: remote_token,
//! };
//!
//! let mut window = Box::new(MemoryWindow { ndk: NDK_MW::ZEROED, token: 0x1234 });
//! window.ndk.Header.Version = NDK_VERSION_2_1;
//! window.ndk.Header.ObjectType = NdkObjectTypeMw;
//! window.ndk.Dispatch = &DISPATCH;
//!
//! // What a consumer does with it.
//! unsafe extern "efiapi" fn closed(_: *mut c_void) {
//!     unreachable!("the close above never pends");
//! }
//! let window = Box::into_raw(window).cast::<NDK_MW>();
//! let dispatch = unsafe { &*(*window).Dispatch };
//! assert_eq!(unsafe { (dispatch.NdkGetRemoteTokenFromMw)(window) }, 0x1234);
//! let status = unsafe { (dispatch.NdkCloseMw)(window.cast(), closed, core::ptr::null_mut()) };
//! assert_eq!(status, status::STATUS_SUCCESS);
//! ```
//!
//! `STATUS_*` codes that NDKPI functions return are in [`status`]. Beware: a sign test counts `STATUS_PENDING` as success.
#![no_std]
#![allow(unsafe_code, reason = "raw ABI: zero values of plain structures")]
#![allow(
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    clippy::upper_case_acronyms,
    reason = "the names are those of the C headers"
)]

#[cfg(test)]
extern crate std;

#[macro_use]
mod macros;

#[cfg(test)]
mod facts;

#[cfg(test)]
mod fact_tests;

pub mod adapter;
pub mod callback;
pub mod connector;
pub mod cq;
pub mod endpoint;
pub mod lam;
pub mod listener;
pub mod mr;
pub mod mw;
pub mod ndis;
pub mod object;
pub mod pd;
pub mod qp;
pub mod srq;
pub mod status;
pub mod types;
pub mod wsk;

pub use adapter::*;
pub use callback::*;
pub use connector::*;
pub use cq::*;
pub use endpoint::*;
pub use lam::*;
pub use listener::*;
pub use mr::*;
pub use mw::*;
pub use ndis::*;
pub use object::*;
pub use pd::*;
pub use qp::*;
pub use srq::*;
pub use types::*;
pub use wsk::*;
