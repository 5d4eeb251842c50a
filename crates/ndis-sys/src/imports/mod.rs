//! The functions a driver imports.
//!
//! On Windows each becomes an import of the kernel module that exports it. On any other host they are undefined symbols that a
//! simulator of the kernel defines under the same names; its definitions are checked against [`sig`].

mod ndis;
mod netio;
mod ntoskrnl;
mod wdfldr;

pub use ndis::*;
pub use netio::*;
pub use ntoskrnl::*;
pub use wdfldr::*;

/// The type of each function, under the function's name.
pub mod sig {
    pub use super::ndis::sig::*;
    pub use super::netio::sig::*;
    pub use super::ntoskrnl::sig::*;
    pub use super::wdfldr::sig::*;
}

#[cfg(test)]
pub(crate) const IMPORTS: &[&[crate::facts::Prototype]] = &[
    ndis::IMPORTS,
    netio::IMPORTS,
    ntoskrnl::IMPORTS,
    wdfldr::IMPORTS,
];
