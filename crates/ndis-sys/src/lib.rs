//! The parts of NT, NDIS, netio, WSK and WDF that vroce and its simulator use, as raw ABI.
//!
//! Every name is the C name of the Windows headers. Two calling conventions occur: a *pointer* to a function (an NDIS handler, a
//! DPC routine, an entry of `DMA_OPERATIONS` or of the WDF function table) is `unsafe extern "efiapi"`, which is the Windows
//! convention on every x86-64 host; a function *imported* from the kernel is `unsafe extern "system"`, see [`imports`].
//!
//! Layouts are those of a 64-bit Windows Server 2022 seen by an NDIS 6.80 miniport built with KMDF 1.15. Each structure asserts its
//! size and the offset of each field when it is compiled; a unit test compares the same numbers, and all constants, with the fact
//! files in `data/`.
//!
//! What a C header offers as a macro or an inline function is not here: that is the business of the crate `nt`.
#![no_std]
#![allow(
    unsafe_code,
    reason = "raw ABI: zero values of plain structures and foreign functions"
)]
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
#[path = "../../ndkpi/src/facts.rs"]
mod facts;

#[cfg(test)]
mod fact_tests;

pub mod imports;
pub mod ndis;
pub mod netioapi;
pub mod oid;
pub mod socket;
pub mod status;
pub mod types;
pub mod wdf;
pub mod wdm;
pub mod wsk;
