//! What drivers of PCI functions are accused of.

crate::verifier::law::stated! {

/// Registers were accessed while the function does not decode memory addresses: before it was started or after it
/// was stopped.
pub const NOT_DECODING: &str = "pci-registers-off";
/// Registers were accessed through a mapping that does not exist (any more).
pub const NOT_MAPPED: &str = "pci-registers-not-mapped";
/// A driver wrote to the MSI-X table, which belongs to the operating system.
pub const MSIX_TABLE: &str = "pci-msix-table";

}
