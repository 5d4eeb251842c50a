//! Packet filters, and flags of sending and receiving.

use crate::types::NDIS_PORT_NUMBER;

constants! {
    /// Which frames a miniport indicates: bits of `OID_GEN_CURRENT_PACKET_FILTER`.
    u32 {
        NDIS_PACKET_TYPE_ALL_FUNCTIONAL = 0x2000;
        NDIS_PACKET_TYPE_ALL_LOCAL = 0x80;
        NDIS_PACKET_TYPE_ALL_MULTICAST = 4;
        NDIS_PACKET_TYPE_BROADCAST = 8;
        NDIS_PACKET_TYPE_DIRECTED = 1;
        NDIS_PACKET_TYPE_FUNCTIONAL = 0x4000;
        NDIS_PACKET_TYPE_GROUP = 0x1000;
        NDIS_PACKET_TYPE_MAC_FRAME = 0x8000;
        NDIS_PACKET_TYPE_MEDIA_SPECIFIC_MASK = 0xfff0000;
        NDIS_PACKET_TYPE_MULTICAST = 2;
        NDIS_PACKET_TYPE_NO_LOCAL = 0x10000;
        NDIS_PACKET_TYPE_PROMISCUOUS = 0x20;
        NDIS_PACKET_TYPE_SMT = 0x40;
        NDIS_PACKET_TYPE_SOURCE_ROUTING = 0x10;
    }
    /// Flags of a send.
    u32 {
        NDIS_SEND_FLAGS_CHECK_FOR_LOOPBACK = 2;
        NDIS_SEND_FLAGS_DISPATCH_LEVEL = 1;
        NDIS_SEND_FLAGS_SINGLE_QUEUE = 4;
        NDIS_SEND_FLAGS_SWITCH_DESTINATION_GROUP = 0x10;
        NDIS_SEND_FLAGS_SWITCH_SINGLE_SOURCE = 0x20;
    }
    /// Flags of a send completion.
    u32 {
        NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL = 1;
        NDIS_SEND_COMPLETE_FLAGS_SINGLE_QUEUE = 2;
        NDIS_SEND_COMPLETE_FLAGS_SWITCH_SINGLE_SOURCE = 4;
    }
    /// Flags of a receive indication.
    u32 {
        NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL = 1;
        NDIS_RECEIVE_FLAGS_MORE_NBLS = 0x2000;
        NDIS_RECEIVE_FLAGS_PERFECT_FILTERED = 0x400;
        NDIS_RECEIVE_FLAGS_RESOURCES = 2;
        NDIS_RECEIVE_FLAGS_SHARED_MEMORY_INFO_VALID = 0x1000;
        NDIS_RECEIVE_FLAGS_SINGLE_ETHER_TYPE = 0x100;
        NDIS_RECEIVE_FLAGS_SINGLE_QUEUE = 0x800;
        NDIS_RECEIVE_FLAGS_SINGLE_VLAN = 0x200;
        NDIS_RECEIVE_FLAGS_SWITCH_DESTINATION_GROUP = 0x4000;
        NDIS_RECEIVE_FLAGS_SWITCH_SINGLE_SOURCE = 0x8000;
    }
    /// Flags of a return of received net buffer lists.
    u32 {
        NDIS_RETURN_FLAGS_DISPATCH_LEVEL = 1;
        NDIS_RETURN_FLAGS_SINGLE_QUEUE = 2;
        NDIS_RETURN_FLAGS_SWITCH_SINGLE_SOURCE = 4;
    }
    /// The port every adapter has.
    NDIS_PORT_NUMBER {
        NDIS_DEFAULT_PORT_NUMBER = 0;
    }
    /// The default NIC switch and its default port.
    u32 {
        NDIS_DEFAULT_SWITCH_ID = 0;
        NDIS_DEFAULT_VPORT_ID = 0;
    }
    /// Bytes of an Ethernet address and of an Ethernet header.
    usize {
        ETH_LENGTH_OF_ADDRESS = 6;
        ETH_LENGTH_OF_HEADER = 0xe;
    }
}
