//! With the WDK: its allocator and panic handler, and what its headers say of the declarations that we call it by.
//!
//! Our declarations (`ndis_sys`) are written by hand, because the WDK's crates know neither NDIS nor NDK. `wdk_sys` is made from the
//! headers that are installed where the driver is built: where it declares the same thing, the compiler compares the two, and what
//! differs does not build. Only names are compared that the headers have on every processor, as structures with named fields and as
//! functions proper, so that another version of the WDK is no reason to fail.

extern crate wdk_panic;

mod functions;
mod statuses;
mod structures;

#[global_allocator]
static ALLOCATOR: wdk_alloc::WdkAllocator = wdk_alloc::WdkAllocator;
