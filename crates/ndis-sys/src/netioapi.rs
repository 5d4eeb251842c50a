//! IP helper: addresses, neighbours, routes (`netioapi.h`).

use crate::socket::{ADDRESS_FAMILY, SOCKADDR_INET};
use crate::types::*;

/// How an address came to be.
pub type NL_PREFIX_ORIGIN = i32;
/// How the host part of an address came to be.
pub type NL_SUFFIX_ORIGIN = i32;
/// Whether an address may be used.
pub type NL_DAD_STATE = i32;
/// State of a neighbour.
pub type NL_NEIGHBOR_STATE = i32;
/// Protocol a route came from.
pub type NL_ROUTE_PROTOCOL = i32;
/// Origin of a route.
pub type NL_ROUTE_ORIGIN = i32;
/// Kind of a change.
pub type MIB_NOTIFICATION_TYPE = i32;

callbacks! {
    /// Told of a change of a unicast address. `Row` holds only the keys; null in the initial notification. IRQL: PASSIVE_LEVEL.
    fn PUNICAST_IPADDRESS_CHANGE_CALLBACK(
        CallerContext: *mut c_void,
        Row: *mut MIB_UNICASTIPADDRESS_ROW,
        NotificationType: MIB_NOTIFICATION_TYPE,
    );

    /// Told of a change of a route. IRQL: PASSIVE_LEVEL.
    fn PIPFORWARD_CHANGE_CALLBACK(
        CallerContext: *mut c_void,
        Row: *mut MIB_IPFORWARD_ROW2,
        NotificationType: MIB_NOTIFICATION_TYPE,
    );
}

layouts! {
    /// Locally unique identifier of an interface: index in bits 24 to 47, interface type in bits 48 to 63.
    #[derive(Debug, PartialEq, Eq)]
    pub struct NET_LUID(8) {
        0x00 Value: u64,
    }

    /// A unicast address of an interface.
    pub struct MIB_UNICASTIPADDRESS_ROW(80) {
        0x00 Address: SOCKADDR_INET,
        0x20 InterfaceLuid: NET_LUID,
        0x28 InterfaceIndex: NET_IFINDEX,
        0x2c PrefixOrigin: NL_PREFIX_ORIGIN,
        0x30 SuffixOrigin: NL_SUFFIX_ORIGIN,
        /// Seconds.
        0x34 ValidLifetime: u32,
        /// Seconds.
        0x38 PreferredLifetime: u32,
        /// Bits.
        0x3c OnLinkPrefixLength: u8,
        0x3d SkipAsSource: BOOLEAN,
        0x40 DadState: NL_DAD_STATE,
        0x44 ScopeId: u32,
        0x48 CreationTimeStamp: LARGE_INTEGER,
    }

    /// Unicast addresses: `NumEntries` rows. To be freed with `FreeMibTable`.
    pub struct MIB_UNICASTIPADDRESS_TABLE(88) {
        0x00 NumEntries: u32,
        0x08 Table: [MIB_UNICASTIPADDRESS_ROW; 1],
    }

    /// A neighbour: an address on the link and its physical address.
    pub struct MIB_IPNET_ROW2(88) {
        0x00 Address: SOCKADDR_INET,
        0x1c InterfaceIndex: NET_IFINDEX,
        0x20 InterfaceLuid: NET_LUID,
        0x28 PhysicalAddress: [u8; IF_MAX_PHYS_ADDRESS_LENGTH],
        /// Bytes.
        0x48 PhysicalAddressLength: u32,
        0x4c State: NL_NEIGHBOR_STATE,
        /// Bit 0: a router; bit 1: unreachable.
        0x50 Flags: u8,
        /// Milliseconds since it was last reachable, or unreachable.
        0x54 ReachabilityTime: u32,
    }

    /// An address prefix.
    pub struct IP_ADDRESS_PREFIX(32) {
        0x00 Prefix: SOCKADDR_INET,
        /// Bits.
        0x1c PrefixLength: u8,
    }

    /// A route.
    pub struct MIB_IPFORWARD_ROW2(104) {
        0x00 InterfaceLuid: NET_LUID,
        0x08 InterfaceIndex: NET_IFINDEX,
        0x0c DestinationPrefix: IP_ADDRESS_PREFIX,
        /// Unspecified: the destination is on the link.
        0x2c NextHop: SOCKADDR_INET,
        0x48 SitePrefixLength: u8,
        0x4c ValidLifetime: u32,
        0x50 PreferredLifetime: u32,
        0x54 Metric: u32,
        0x58 Protocol: NL_ROUTE_PROTOCOL,
        0x5c Loopback: BOOLEAN,
        0x5d AutoconfigureAddress: BOOLEAN,
        0x5e Publish: BOOLEAN,
        0x5f Immortal: BOOLEAN,
        0x60 Age: u32,
        0x64 Origin: NL_ROUTE_ORIGIN,
    }
}

constants! {
    /// Most bytes of a physical address.
    usize {
        IF_MAX_PHYS_ADDRESS_LENGTH = 32;
    }
    /// Whether an address may be used: only a preferred or deprecated one.
    NL_DAD_STATE {
        IpDadStateInvalid = 0;
        IpDadStateTentative = 1;
        IpDadStateDuplicate = 2;
        IpDadStateDeprecated = 3;
        IpDadStatePreferred = 4;
    }
    /// State of a neighbour.
    NL_NEIGHBOR_STATE {
        NlnsUnreachable = 0;
        NlnsIncomplete = 1;
        NlnsProbe = 2;
        NlnsDelay = 3;
        NlnsStale = 4;
        NlnsReachable = 5;
        NlnsPermanent = 6;
    }
    /// Kind of a change.
    MIB_NOTIFICATION_TYPE {
        MibParameterNotification = 0;
        MibAddInstance = 1;
        MibDeleteInstance = 2;
        MibInitialNotification = 3;
    }
}

/// Address family of a request for both families.
pub const ANY_FAMILY: ADDRESS_FAMILY = crate::socket::AF_UNSPEC;
