//! Driver images: `.sys` files, loaded as the kernel's loader does it.
//!
//! An [`Image`] is a file that has been read and found fit for a driver. Each load maps it anew into a machine's memory (`map`): its
//! sections with the protections they ask for, relocated, its imports bound to [`exports`](crate::exports) and to what a loaded image
//! needs besides (`runtime`), and what its load configuration points at set (`configuration`, `guard`). A linked driver and its image call
//! the same functions: every export has the Windows convention.
//!
//! Simplified: pageable sections stay resident if not all is verified, imports are by name only, and nobody checks a signature.

mod configuration;
mod error;
mod file;
pub(crate) mod guard;
mod map;
mod pageable;
mod runtime;
mod stubs;
mod symbols;
mod unwind;
#[cfg(test)]
mod unwind_tests;

pub use error::ImageError;
pub use file::Image;
pub(crate) use map::{Images, Mapped};
pub(crate) use pageable::Pageable;
pub(crate) use unwind::{Frame, RBP, RBX};
