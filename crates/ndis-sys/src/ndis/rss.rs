//! Receive-side scaling.

use super::object::NDIS_OBJECT_HEADER;
use crate::wdm::PROCESSOR_NUMBER;

/// Which processors receive-side scaling prefers.
pub type NDIS_RSS_PROFILE = i32;

layouts! {
    /// What an adapter can do.
    pub struct NDIS_RECEIVE_SCALE_CAPABILITIES(20) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 CapabilitiesFlags: u32,
        0x08 NumberOfInterruptMessages: u32,
        0x0c NumberOfReceiveQueues: u32,
        0x10 NumberOfIndirectionTableEntries: u16,
    }

    /// Data of `OID_GEN_RECEIVE_SCALE_PARAMETERS`.
    pub struct NDIS_RECEIVE_SCALE_PARAMETERS(44) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u16,
        0x06 BaseCpuNumber: u16,
        0x08 HashInformation: u32,
        0x0c IndirectionTableSize: u16,
        0x10 IndirectionTableOffset: u32,
        0x14 HashSecretKeySize: u16,
        0x18 HashSecretKeyOffset: u32,
        0x1c ProcessorMasksOffset: u32,
        0x20 NumberOfProcessorMasks: u32,
        0x24 ProcessorMasksEntrySize: u32,
        0x28 DefaultProcessorNumber: PROCESSOR_NUMBER,
    }

    /// Processors receive-side scaling may use: `RssProcessorCount` entries of `RssProcessorEntrySize` bytes at
    /// `RssProcessorArrayOffset`.
    pub struct NDIS_RSS_PROCESSOR_INFO(40) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        0x08 RssBaseProcessor: PROCESSOR_NUMBER,
        0x0c MaxNumRssProcessors: u32,
        0x10 PreferredNumaNode: u16,
        0x14 RssProcessorArrayOffset: u32,
        0x18 RssProcessorCount: u32,
        0x1c RssProcessorEntrySize: u32,
        0x20 RssMaxProcessor: PROCESSOR_NUMBER,
        0x24 RssProfile: NDIS_RSS_PROFILE,
    }

    /// One processor.
    pub struct NDIS_RSS_PROCESSOR(8) {
        0x00 ProcNum: PROCESSOR_NUMBER,
        0x04 PreferenceIndex: u16,
        0x06 Reserved: u16,
    }
}

constants! {
    /// Revisions of the scaling structures.
    u8 {
        NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_1 = 1;
        NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_2 = 2;
        NDIS_RECEIVE_SCALE_CAPABILITIES_REVISION_3 = 3;
        NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_1 = 1;
        NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_2 = 2;
        NDIS_RECEIVE_SCALE_PARAMETERS_REVISION_3 = 3;
        NDIS_RSS_PROCESSOR_INFO_REVISION_1 = 1;
        NDIS_RSS_PROCESSOR_INFO_REVISION_2 = 2;
    }
    /// Sizes of the scaling structures, for their headers.
    u16 {
        NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_1 = 0x10;
        NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_2 = 0x12;
        NDIS_SIZEOF_RECEIVE_SCALE_CAPABILITIES_REVISION_3 = 0x12;
        NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_1 = 0x1c;
        NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_2 = 0x28;
        NDIS_SIZEOF_RECEIVE_SCALE_PARAMETERS_REVISION_3 = 0x2c;
    }
    /// Abilities.
    u32 {
        NDIS_RSS_CAPS_CLASSIFICATION_AT_DPC = 0x4000000;
        NDIS_RSS_CAPS_CLASSIFICATION_AT_ISR = 0x2000000;
        NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV4 = 0x100;
        NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6 = 0x200;
        NDIS_RSS_CAPS_HASH_TYPE_TCP_IPV6_EX = 0x400;
        NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV4 = 0x800;
        NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV6 = 0x1000;
        NDIS_RSS_CAPS_HASH_TYPE_UDP_IPV6_EX = 0x2000;
        NDIS_RSS_CAPS_MESSAGE_SIGNALED_INTERRUPTS = 0x1000000;
        NDIS_RSS_CAPS_RSS_AVAILABLE_ON_PORTS = 0x10000000;
        NDIS_RSS_CAPS_SUPPORTS_INDEPENDENT_ENTRY_MOVE = 0x40000000;
        NDIS_RSS_CAPS_SUPPORTS_MSI_X = 0x20000000;
        NDIS_RSS_CAPS_USING_MSI_X = 0x8000000;
    }
    /// What did not change, and off.
    u16 {
        NDIS_RSS_PARAM_FLAG_BASE_CPU_UNCHANGED = 1;
        NDIS_RSS_PARAM_FLAG_DEFAULT_PROCESSOR_UNCHANGED = 0x20;
        NDIS_RSS_PARAM_FLAG_DISABLE_RSS = 0x10;
        NDIS_RSS_PARAM_FLAG_HASH_INFO_UNCHANGED = 2;
        NDIS_RSS_PARAM_FLAG_HASH_KEY_UNCHANGED = 8;
        NDIS_RSS_PARAM_FLAG_ITABLE_UNCHANGED = 4;
    }
    /// Hash functions and fields.
    u32 {
        NDIS_HASH_FUNCTION_MASK = 0xff;
        NDIS_HASH_IPV4 = 0x100;
        NDIS_HASH_IPV6 = 0x400;
        NDIS_HASH_IPV6_EX = 0x800;
        NDIS_HASH_TCP_IPV4 = 0x200;
        NDIS_HASH_TCP_IPV6 = 0x1000;
        NDIS_HASH_TCP_IPV6_EX = 0x2000;
        NDIS_HASH_TYPE_MASK = 0xffff00;
        NDIS_HASH_UDP_IPV4 = 0x4000;
        NDIS_HASH_UDP_IPV6 = 0x8000;
        NDIS_HASH_UDP_IPV6_EX = 0x10000;
    }
    /// Profiles.
    NDIS_RSS_PROFILE {
        NdisRssProfileClosest = 1;
        NdisRssProfileClosestStatic = 2;
        NdisRssProfileNuma = 3;
        NdisRssProfileNumaStatic = 4;
        NdisRssProfileConservative = 5;
        NdisRssProfileMaximum = 6;
    }
}
