//! Event tracing: what `evntprov.h`, `evntrace.h` and `TraceLoggingProvider.h` define.

use super::string::GUID;
use crate::types::*;

/// A registered provider of events. Zero: none.
pub type REGHANDLE = u64;
/// What `EtwSetInformation` sets.
pub type EVENT_INFO_CLASS = i32;

callbacks! {
    /// Told what sessions want of a provider, within `EtwRegister` (then without a source) and at any later time.
    /// IRQL: PASSIVE_LEVEL.
    fn ETWENABLECALLBACK(
        SourceId: *const GUID,
        ControlCode: u32,
        Level: u8,
        MatchAnyKeyword: u64,
        MatchAllKeyword: u64,
        FilterData: *mut c_void,
        CallbackContext: *mut c_void,
    );
}

layouts! {
    /// What is known of an event before its data is looked at.
    pub struct EVENT_DESCRIPTOR(16) {
        /// Zero for events that describe themselves.
        0x00 Id: u16,
        0x02 Version: u8,
        0x03 Channel: u8,
        0x04 Level: u8,
        0x05 Opcode: u8,
        0x06 Task: u16,
        0x08 Keyword: u64,
    }

    /// A piece of an event's data.
    pub struct EVENT_DATA_DESCRIPTOR(16) {
        /// Address.
        0x00 Ptr: u64,
        /// Bytes.
        0x08 Size: u32,
        0x0c Type: u8,
        0x0d Reserved1: u8,
        0x0e Reserved2: u16,
    }
}

constants! {
    /// Why the callback of a provider is called.
    u32 {
        EVENT_CONTROL_CODE_DISABLE_PROVIDER = 0;
        EVENT_CONTROL_CODE_ENABLE_PROVIDER = 1;
        EVENT_CONTROL_CODE_CAPTURE_STATE = 2;
    }
    /// Most pieces of an event's data.
    u32 {
        MAX_EVENT_DATA_DESCRIPTORS = 0x80;
    }
    /// What a piece of an event's data is, if it is not its payload.
    u8 {
        EVENT_DATA_DESCRIPTOR_TYPE_NONE = 0;
        EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA = 1;
        EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA = 2;
    }
    /// Says who a provider is.
    EVENT_INFO_CLASS {
        EventProviderSetTraits = 2;
    }
    /// How urgent an event is; a session gets those up to its own level.
    u8 {
        TRACE_LEVEL_CRITICAL = 1;
        TRACE_LEVEL_ERROR = 2;
        TRACE_LEVEL_WARNING = 3;
        TRACE_LEVEL_INFORMATION = 4;
        TRACE_LEVEL_VERBOSE = 5;
    }
    /// The channel of events that describe themselves.
    u8 {
        WINEVENT_CHANNEL_TRACELOGGING = 11;
    }
    /// How a field of an event is stored.
    u8 {
        TDH_INTYPE_UINT8 = 4;
        TDH_INTYPE_UINT16 = 6;
        TDH_INTYPE_INT32 = 7;
        TDH_INTYPE_UINT32 = 8;
        TDH_INTYPE_UINT64 = 10;
        TDH_INTYPE_BINARY = 14;
        TDH_INTYPE_MANIFEST_COUNTEDANSISTRING = 23;
    }
    /// How a field of a self-describing event is shown. These are TraceLogging's own numbers.
    u8 {
        TlgOutNULL = 0;
        TlgOutBOOLEAN = 3;
        TlgOutSOCKETADDRESS = 10;
        TlgOutNTSTATUS = 14;
    }
}
