//! The seam to the kernel's functions and types: everything in this crate, and in the driver, names them through here.
//!
//! There is one set of declarations, [`ndis_sys`], because no other covers NDIS: the official `wdk-sys` has bindings for the kernel
//! proper only, with types of its own generation. On Windows the functions are bound by name to `ntoskrnl.exe`, `ndis.sys`,
//! `netio.sys` and `WDFLDR.SYS` without import libraries, whether the WDK is there or not; elsewhere the linker resolves them against
//! the simulator. What the feature `wdk` changes on a Windows host is what the WDK knows better: how to link a driver, the image's
//! allocator and panic handler, and whether these declarations are right: the driver compares those that `wdk-sys` has too with its
//! (`src/image/wdk`).

pub use ndis_sys::imports::*;
pub use ndis_sys::*;
