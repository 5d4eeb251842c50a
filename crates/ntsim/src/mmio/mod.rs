//! Device registers as drivers see them: addresses that are loaded from and stored to.
//!
//! A [`Mapping`] is address space without access rights. An instruction that touches it faults; the handler of
//! `fault` finds the device, decodes the instruction (`decode`), lets the device serve the access
//! (`execute`) and continues behind the instruction. So the same driver code, linked or loaded as an image,
//! drives a simulated device with plain volatile accesses.
//!
//! Mappings belong to the thread that made them, as the world does; an access from another thread is a crash like
//! any other wild pointer.

mod alu;
mod decode;
mod execute;
mod fault;
mod mapping;

#[cfg(test)]
mod tests;

pub(crate) use fault::install as catch_faults;
pub use mapping::Mapping;

/// The registers behind a mapping.
///
/// Both functions run inside the fault handler, in place of the driver's instruction: they see the machine exactly
/// as it was there, and must neither unwind nor call driver code.
pub trait Registers {
    /// A load of `width` (1, 2, 4 or 8) bytes. Bits above the width are ignored.
    fn read(&self, offset: u64, width: u8) -> u64;
    /// A store of `width` (1, 2, 4 or 8) bytes. Bits above the width are zero.
    fn write(&self, offset: u64, width: u8, value: u64);
}
