//! Rules of NDIS that drivers are held to. Names as they appear in reports.

crate::verifier::law::stated! {

/// A handle passed to NDIS is none, is of another kind, or was freed.
pub const HANDLE: &str = "ndis.handle";
/// An `NDIS_OBJECT_HEADER` has the wrong type, revision or size.
pub const HEADER: &str = "ndis.header";
/// Driver characteristics are incomplete or contradictory.
pub const CHARACTERISTICS: &str = "ndis.characteristics";
/// A function was called in a phase of a driver's or adapter's life in which it may not be called.
pub const PHASE: &str = "ndis.phase";
/// Miniport attributes were set in the wrong order, twice, or with impossible values.
pub const ATTRIBUTES: &str = "ndis.attributes";
/// A parameter is out of range or inconsistent.
pub const PARAMETER: &str = "ndis.parameter";
/// A net buffer list was completed twice, never, by the wrong function, or with an impossible status.
pub const SEND: &str = "ndis.send";
/// A receive indication is wrong: not the driver's list, indicated twice, in the wrong state, malformed.
pub const RECEIVE: &str = "ndis.receive";
/// Net buffers or their pools were used after being freed, freed twice, or not freed.
pub const NET_BUFFER: &str = "ndis.net-buffer";
/// An OID request was completed twice, never, or with contradictory results.
pub const OID: &str = "ndis.oid";
/// Pause, restart or halt completed while something was still outstanding, or completed twice.
pub const STATE: &str = "ndis.state";
/// A change of the power state failed, or something of the miniport was still under way.
pub const POWER: &str = "ndis.power";
/// A reset completed twice, or while something was still outstanding.
pub const RESET: &str = "ndis.reset";
/// Something registered or allocated through NDIS was still there after halt or unload.
pub const LEAK: &str = "ndis.leak";
/// Interrupt registration or interrupt handlers broke a rule.
pub const INTERRUPT: &str = "ndis.interrupt";
/// Scatter/gather DMA or shared memory was misused.
pub const DMA: &str = "ndis.dma";
/// A work item or timer object was misused.
pub const WORK: &str = "ndis.work";
/// A status indication is malformed.
pub const STATUS: &str = "ndis.status";
/// The miniport called `NdisMNetPnPEvent` where that deadlocks.
pub const PNP_EVENT: &str = "ndis.pnp-event";
/// The framework (WDF) was bound or used in a way it forbids.
pub const WDF: &str = "wdf";
/// An IP helper or WSK function was misused.
pub const NETIO: &str = "netio";

}
