//! What the driver tells event tracing (ETW): what becomes of adapters and connections, and why.
//!
//! Nothing is told packet by packet. Addresses, ports and queue pair numbers are for administrators' eyes; no payload and no private data
//! of consumers is among it. Events may be written under the port's lock, which then is the order they have: writing takes no lock of the
//! driver's, calls nobody back and allocates nothing. IRQL: any.
//!
//! Names of events and fields, keywords and the identifier are an interface: tools and people look for them.

use nt::sys::wdm::GUID;
use nt::trace::{Address, Bytes, Event, Name, Provider, Text};
use nt::{NoMemory, Passive, Shared, Status, events, provider_name};

/// The provider's name.
pub const NAME: Name = provider_name!("vroce");

/// The provider's identifier, 00ae21e7-4789-5e6f-3649-4e771fb7333f: that which follows from its name.
pub const ID: GUID = GUID {
    Data1: 0x00ae_21e7,
    Data2: 0x4789,
    Data3: 0x5e6f,
    Data4: [0x36, 0x49, 0x4e, 0x77, 0x1f, 0xb7, 0x33, 0x3f],
};

/// Connections, listeners, opened NDK adapters.
pub const CONNECTION: u64 = 1;
/// Calls of consumers that are refused, for lack of memory or another reason.
pub const RESOURCE: u64 = 2;
/// The adapter and its device.
pub const NIC: u64 = 4;
/// Something went wrong, in any of these.
pub const ERROR: u64 = 8;

events! {
    /// An adapter works.
    AdapterInitialized: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Its MAC address.
        mac: Bytes<6>,
        /// Longest IP packet, bytes.
        mtu: u16,
        /// RoCE path MTU in use, bytes.
        path_mtu: u32,
        /// *JumboPacket, bytes.
        jumbo_packet: u16,
        /// *NetworkDirect.
        network_direct: bool,
        /// *ReceiveBuffers.
        receive_buffers: u16,
        /// *TransmitBuffers.
        transmit_buffers: u16,
    }
    /// An adapter cannot be started.
    AdapterNotInitialized: Error, NIC | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// What NDIS was told.
        status: Status,
    }
    /// An adapter is gone.
    AdapterHalted: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
    }
    /// The link went up or down.
    LinkChanged: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// It is up.
        up: bool,
        /// Bits per second.
        speed: u64,
    }
    /// The device stopped working.
    DeviceFailed: Error, NIC | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Why.
        fault: Text,
    }
    /// The device works again, after it failed or slept.
    DeviceRestarted: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
    }
    /// The device cannot be restarted.
    DeviceNotRestarted: Error, NIC | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Why.
        fault: Text,
    }
    /// The device fails again and again: it is not restarted before this time is up.
    DeviceLeftAlone: Warning, NIC | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// For how long.
        seconds: u64,
    }
    /// The device was pulled out.
    DeviceRemoved: Warning, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
    }
    /// The device loses its power, or has it again.
    PowerChanged: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// It has power.
        on: bool,
    }
    /// NDK adapters can be opened, or not any more.
    NdkChanged: Information, NIC, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// They can.
        enabled: bool,
    }
    /// A consumer opened an NDK adapter.
    NdkAdapterOpened: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Version of NDKPI.
        major: u16,
        /// Version of NDKPI.
        minor: u16,
    }
    /// A consumer was refused an NDK adapter.
    NdkAdapterRefused: Warning, CONNECTION | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// What it was told.
        status: Status,
    }
    /// A consumer closed an NDK adapter.
    NdkAdapterClosed: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
    }
    /// A call was refused.
    CallRefused: Warning, RESOURCE | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Which function.
        call: Text,
        /// What the consumer was told.
        status: Status,
    }
    /// A listener listens.
    Listening: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Where.
        local: Address,
    }
    /// A connect was begun.
    Connecting: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
    }
    /// A connect did not succeed.
    ConnectFailed: Warning, CONNECTION | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// What the consumer is told.
        status: Status,
        /// The peer's reason, if it rejected: a number of InfiniBand's connection manager, 8 if nobody listens, 28 if its consumer did.
        reject_reason: u16,
    }
    /// A peer wants to connect.
    ConnectRequest: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
    }
    /// A peer wants to connect, and there is no memory or no room for a connector: it is rejected.
    ConnectRequestDropped: Error, CONNECTION | RESOURCE | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
    }
    /// This side's consumer rejected a peer.
    Rejected: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
    }
    /// A connection stands.
    Connected: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// Bytes.
        path_mtu: u32,
        /// The peer had asked for it.
        accepted: bool,
    }
    /// An accept, or the completion of a connect, did not lead to a connection.
    EstablishFailed: Warning, CONNECTION | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// What the consumer is told.
        status: Status,
        /// The peer's reason, if it rejected.
        reject_reason: u16,
    }
    /// The peer ended a connection.
    Disconnected: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
    }
    /// A connection broke.
    ConnectionLost: Error, CONNECTION | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// Why.
        cause: Text,
    }
    /// This side's consumer ends a connection, which may have ended before.
    Disconnecting: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
    }
    /// A disconnect of this side's consumer is complete.
    DisconnectDone: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// What the consumer is told: STATUS_IO_TIMEOUT if the peer did not answer.
        status: Status,
    }
    /// This side's consumer closed a connector with a connection, or with an attempt at one.
    ConnectorClosed: Information, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
        /// The connection stood.
        connected: bool,
    }
    /// A queue pair failed.
    QueuePairFailed: Error, CONNECTION | ERROR, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// Its number.
        qp: u32,
        /// Why.
        cause: Text,
    }
    /// What a connection sends seems not to arrive: the way to the peer is looked up again.
    PathDoubted: Warning, CONNECTION, {
        /// NET_LUID of the adapter.
        adapter: u64,
        /// This side.
        local: Address,
        /// The other side.
        peer: Address,
        /// Number of this side's queue pair.
        qp: u32,
    }
}

/// Registers the driver as a provider.
///
/// # Errors
/// [`NoMemory`].
pub fn register(passive: Passive) -> Result<Shared<Provider>, NoMemory> {
    Provider::register(&ID, NAME, passive)
}

/// Tells of one adapter. Dropped at PASSIVE_LEVEL.
#[derive(Clone, Debug)]
pub struct Trace {
    provider: Shared<Provider>,
    adapter: u64,
}

impl Trace {
    /// Of the adapter with that NET_LUID.
    pub fn new(provider: Shared<Provider>, adapter: u64) -> Self {
        Self { provider, adapter }
    }

    /// Writes an event, made with the adapter's NET_LUID, if somebody wants it. IRQL: any.
    #[inline(always)]
    pub fn write<E: Event>(&self, make: impl FnOnce(u64) -> E) {
        self.provider.write(|| make(self.adapter));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifier_follows_from_the_name() {
        let text = NAME.0.split_at(2).1;
        let text = core::str::from_utf8(text.split_last().unwrap().1).unwrap();
        let theirs = tracelogging::Guid::from_name(text);
        let ours = tracelogging::Guid::from_fields(ID.Data1, ID.Data2, ID.Data3, ID.Data4);
        assert_eq!(ours, theirs);
    }
}
