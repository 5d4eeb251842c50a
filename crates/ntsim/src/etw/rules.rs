//! What providers of events are accused of.

crate::verifier::law::stated! {

/// A handle was used that is no registered provider's: before `EtwRegister`, or after `EtwUnregister`.
pub const NOT_REGISTERED: &str = "etw-not-registered";
/// A driver went away while it is registered as a provider of events: the next session to start calls code that is gone.
pub const AT_UNLOAD: &str = "etw-at-unload";
/// An event, or a provider, that claims to describe itself does not.
pub const DESCRIPTION: &str = "etw-description";

}
