//! Rules of NDK that providers, and consumers, are held to. Names as they appear in reports.

/// The provider's open handler broke its contract.
pub const OPEN: &str = "ndk.open";
/// The consumer broke a rule: the provider is not to blame.
pub const CONSUMER: &str = "ndk.consumer";
