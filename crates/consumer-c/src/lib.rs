//! The consumer of `examples/consumer`, linked: a driver in C of which a test calls the entry point, as the kernel would.
//!
//! What it calls of the kernel is ntsim's, which the linker finds in the test. How to build a driver of one's own so is in
//! `docs/testing-a-consumer.md`.
#![no_std]
#![allow(unsafe_code, reason = "declares C code")]

use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{DRIVER_OBJECT, UNICODE_STRING};

unsafe extern "efiapi" {
    /// `DriverEntry` of `driver.c`. At PASSIVE_LEVEL; `registry_path` is the driver's service, whose key `Parameters` has its settings
    /// (`examples/consumer/README.md`). The status is 0, or that of the kernel function that failed.
    ///
    /// # Safety
    /// Both pointers are those that the kernel gives to a driver's entry point.
    pub fn ConsumerDriverEntry(
        driver: *mut DRIVER_OBJECT,
        registry_path: *mut UNICODE_STRING,
    ) -> NTSTATUS;

    /// The driver in `kernel.c`, which calls in its entry point what the headers declare beyond the example's needs. At PASSIVE_LEVEL. A
    /// failure is STATUS_UNSUCCESSFUL, and DbgPrint says what failed.
    ///
    /// # Safety
    /// As for `ConsumerDriverEntry`.
    pub fn KernelDriverEntry(
        driver: *mut DRIVER_OBJECT,
        registry_path: *mut UNICODE_STRING,
    ) -> NTSTATUS;
}
