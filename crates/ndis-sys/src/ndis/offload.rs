//! Task offloads: an adapter without them still says so.

use super::object::NDIS_OBJECT_HEADER;

layouts! {
    /// Checksum offload per direction and version. The abilities are two-bit fields, lowest first: IP options, TCP options, TCP
    /// checksum, UDP checksum, IP checksum.
    pub struct NDIS_TCP_IP_CHECKSUM_OFFLOAD(32) {
        0x00 IPv4Transmit: NDIS_CHECKSUM_ABILITY,
        0x08 IPv4Receive: NDIS_CHECKSUM_ABILITY,
        0x10 IPv6Transmit: NDIS_CHECKSUM_ABILITY,
        0x18 IPv6Receive: NDIS_CHECKSUM_ABILITY,
    }

    /// Checksum offload in one direction for one version.
    pub struct NDIS_CHECKSUM_ABILITY(8) {
        /// `NDIS_ENCAPSULATION_*`.
        0x00 Encapsulation: u32,
        0x04 Abilities: u32,
    }

    /// Large send offload, version 1.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V1(16) {
        0x00 IPv4: NDIS_LSO_V1_ABILITY,
    }

    /// Large send offload, version 1, IPv4.
    pub struct NDIS_LSO_V1_ABILITY(16) {
        0x00 Encapsulation: u32,
        0x04 MaxOffLoadSize: u32,
        0x08 MinSegmentCount: u32,
        0x0c Options: u32,
    }

    /// Large send offload, version 2.
    pub struct NDIS_TCP_LARGE_SEND_OFFLOAD_V2(28) {
        0x00 IPv4: NDIS_LSO_V2_ABILITY_IPV4,
        0x0c IPv6: NDIS_LSO_V2_ABILITY_IPV6,
    }

    /// Large send offload, version 2, IPv4.
    pub struct NDIS_LSO_V2_ABILITY_IPV4(12) {
        0x00 Encapsulation: u32,
        0x04 MaxOffLoadSize: u32,
        0x08 MinSegmentCount: u32,
    }

    /// Large send offload, version 2, IPv6.
    pub struct NDIS_LSO_V2_ABILITY_IPV6(16) {
        0x00 Encapsulation: u32,
        0x04 MaxOffLoadSize: u32,
        0x08 MinSegmentCount: u32,
        0x0c Options: u32,
    }

    /// IPsec offload, version 1.
    pub struct NDIS_IPSEC_OFFLOAD_V1(28) {
        0x00 Reserved: [u32; 7],
    }

    /// IPsec offload, version 2.
    pub struct NDIS_IPSEC_OFFLOAD_V2(32) {
        0x00 Reserved: [u32; 8],
    }

    /// Receive segment coalescing.
    pub struct NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD(2) {
        0x00 IPv4: NDIS_RSC_ABILITY,
        0x01 IPv6: NDIS_RSC_ABILITY,
    }

    /// Receive segment coalescing for one version.
    pub struct NDIS_RSC_ABILITY(1) {
        /// Boolean.
        0x00 Enabled: u8,
    }

    /// Offload of encapsulated packets, GRE.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD(8) {
        /// Four-bit abilities, lowest first.
        0x00 Abilities: u32,
        0x04 MaxHeaderSizeSupported: u32,
    }

    /// Offload of encapsulated packets, VXLAN.
    pub struct NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2(20) {
        /// Four-bit abilities, lowest first.
        0x00 Abilities: u32,
        0x04 MaxHeaderSizeSupported: u32,
        0x08 EncapsulationProtocolInfo: u32,
        0x0c Reserved1: u32,
        0x10 Reserved2: u32,
    }

    /// Translation of addresses.
    pub struct NDIS_RFC6877_464XLAT_OFFLOAD(8) {
        0x00 XlatOffload: i32,
        0x04 Flags: u32,
    }

    /// What an adapter offloads. The layout of NDIS 6.80; a driver that offloads nothing leaves all zero behind the header.
    pub struct NDIS_OFFLOAD(188) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Checksum: NDIS_TCP_IP_CHECKSUM_OFFLOAD,
        0x24 LsoV1: NDIS_TCP_LARGE_SEND_OFFLOAD_V1,
        0x34 IPsecV1: NDIS_IPSEC_OFFLOAD_V1,
        0x50 LsoV2: NDIS_TCP_LARGE_SEND_OFFLOAD_V2,
        0x6c Flags: u32,
        0x70 IPsecV2: NDIS_IPSEC_OFFLOAD_V2,
        0x90 Rsc: NDIS_TCP_RECV_SEG_COALESCE_OFFLOAD,
        0x94 EncapsulatedPacketTaskOffloadGre: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD,
        0x9c EncapsulatedPacketTaskOffloadVxlan: NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2,
        0xb0 EncapsulationTypes: u8,
        0xb4 Rfc6877Xlat: NDIS_RFC6877_464XLAT_OFFLOAD,
    }

    /// TCP connection offload (chimney), long obsolete.
    pub struct NDIS_TCP_CONNECTION_OFFLOAD(20) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Encapsulation: u32,
        0x08 Abilities: u32,
        0x0c TcpConnectionOffloadCapacity: u32,
        0x10 Flags: u32,
    }
}

constants! {
    /// Revisions of the offload structure.
    u8 {
        NDIS_OFFLOAD_REVISION_1 = 1;
        NDIS_OFFLOAD_REVISION_2 = 2;
        NDIS_OFFLOAD_REVISION_3 = 3;
        NDIS_OFFLOAD_REVISION_4 = 4;
        NDIS_OFFLOAD_REVISION_5 = 5;
    }
    /// Sizes of the offload structure, for its header.
    u16 {
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_1 = 0x70;
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_2 = 0x90;
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_3 = 0x9c;
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_4 = 0xb1;
        NDIS_SIZEOF_NDIS_OFFLOAD_REVISION_5 = 0xbc;
    }
    /// Values of the two-bit fields.
    u32 {
        NDIS_OFFLOAD_NOT_SUPPORTED = 0;
        NDIS_OFFLOAD_SUPPORTED = 1;
    }
    /// Encapsulations.
    u32 {
        NDIS_ENCAPSULATION_NOT_SUPPORTED = 0;
        NDIS_ENCAPSULATION_IEEE_802_3 = 2;
    }
}
