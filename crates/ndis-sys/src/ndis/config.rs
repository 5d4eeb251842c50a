//! The adapter's settings in the registry.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::UNICODE_STRING;

/// NDIS's name for a counted string.
pub type NDIS_STRING = UNICODE_STRING;
/// Type of a setting.
pub type NDIS_PARAMETER_TYPE = i32;

layouts! {
    /// Whose settings to open.
    pub struct NDIS_CONFIGURATION_OBJECT(24) {
        /// `NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT`, revision 1, `NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1`.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 NdisHandle: NDIS_HANDLE,
        0x10 Flags: u32,
    }

    /// A setting.
    pub struct NDIS_CONFIGURATION_PARAMETER(24) {
        0x00 ParameterType: NDIS_PARAMETER_TYPE,
        0x08 ParameterData: NDIS_PARAMETER_DATA,
    }

    /// Its value, by type.
    pub union NDIS_PARAMETER_DATA(16) {
        0x00 IntegerData: u32,
        0x00 StringData: NDIS_STRING,
        0x00 BinaryData: BINARY_DATA,
    }

    /// A binary value.
    pub struct BINARY_DATA(16) {
        0x00 Length: u16,
        0x08 Buffer: *mut c_void,
    }
}

constants! {
    /// Revision of the configuration object.
    u8 {
        NDIS_CONFIGURATION_OBJECT_REVISION_1 = 1;
    }
    /// Size of the configuration object, for its header.
    u16 {
        NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1 = 0x14;
    }
    /// Type of a setting.
    NDIS_PARAMETER_TYPE {
        NdisParameterInteger = 0;
        NdisParameterHexInteger = 1;
        NdisParameterString = 2;
        NdisParameterMultiString = 3;
        NdisParameterBinary = 4;
    }
}
