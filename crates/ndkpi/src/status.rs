//! Status codes of NDKPI functions, completions and callbacks.
//!
//! `STATUS_PENDING` is not negative and so would pass for success in a sign test. `STATUS_BUFFER_OVERFLOW` and
//! `STATUS_NO_MORE_ENTRIES` are warnings by their number, and errors in NDKPI.

use crate::types::{NDIS_STATUS, NTSTATUS};

constants! {
    /// Status of a function, a work request or an event.
    NTSTATUS {
        STATUS_SUCCESS = 0x00000000;
        /// Not done yet: a callback follows.
        STATUS_PENDING = 0x00000103;
        /// A receive buffer is shorter than the message; a completion queue ran over; a request is longer than the adapter takes.
        STATUS_BUFFER_OVERFLOW = 0x80000005_u32 as i32;
        /// A queue has no room for another request.
        STATUS_NO_MORE_ENTRIES = 0x8000001a_u32 as i32;
        STATUS_ACCESS_VIOLATION = 0xc0000005_u32 as i32;
        STATUS_INVALID_PARAMETER = 0xc000000d_u32 as i32;
        STATUS_INVALID_DEVICE_REQUEST = 0xc0000010_u32 as i32;
        STATUS_BUFFER_TOO_SMALL = 0xc0000023_u32 as i32;
        STATUS_INVALID_PARAMETER_MIX = 0xc0000030_u32 as i32;
        STATUS_DATA_OVERRUN = 0xc000003c_u32 as i32;
        STATUS_SHARING_VIOLATION = 0xc0000043_u32 as i32;
        STATUS_INSUFFICIENT_RESOURCES = 0xc000009a_u32 as i32;
        STATUS_DEVICE_NOT_READY = 0xc00000a3_u32 as i32;
        STATUS_IO_TIMEOUT = 0xc00000b5_u32 as i32;
        STATUS_NOT_SUPPORTED = 0xc00000bb_u32 as i32;
        STATUS_INTERNAL_ERROR = 0xc00000e5_u32 as i32;
        /// A work request was flushed.
        STATUS_CANCELLED = 0xc0000120_u32 as i32;
        /// A request failed at the peer.
        STATUS_REMOTE_RESOURCES = 0xc000013d_u32 as i32;
        STATUS_INVALID_ADDRESS = 0xc0000141_u32 as i32;
        STATUS_INVALID_DEVICE_STATE = 0xc0000184_u32 as i32;
        STATUS_INVALID_BUFFER_SIZE = 0xc0000206_u32 as i32;
        STATUS_TOO_MANY_ADDRESSES = 0xc0000209_u32 as i32;
        STATUS_ADDRESS_ALREADY_EXISTS = 0xc000020a_u32 as i32;
        STATUS_CONNECTION_REFUSED = 0xc0000236_u32 as i32;
        STATUS_CONNECTION_INVALID = 0xc000023a_u32 as i32;
        STATUS_CONNECTION_ACTIVE = 0xc000023b_u32 as i32;
        STATUS_NETWORK_UNREACHABLE = 0xc000023c_u32 as i32;
        STATUS_HOST_UNREACHABLE = 0xc000023d_u32 as i32;
        STATUS_CONNECTION_ABORTED = 0xc0000241_u32 as i32;
        STATUS_DEVICE_REMOVED = 0xc00002b6_u32 as i32;
        STATUS_IMPLEMENTATION_LIMIT = 0xc000042b_u32 as i32;
        STATUS_DEVICE_BUSY = 0x80000011_u32 as i32;
    }
    /// Status of opening an adapter.
    NDIS_STATUS {
        NDIS_STATUS_SUCCESS = 0x00000000;
        /// No such NDK version here.
        NDIS_STATUS_BAD_VERSION = 0xc0010004_u32 as i32;
        /// NDK is disabled on this adapter.
        NDIS_STATUS_ADAPTER_NOT_READY = 0xc0010011_u32 as i32;
        /// Out of resources.
        NDIS_STATUS_RESOURCES = 0xc000009a_u32 as i32;
        NDIS_STATUS_NOT_SUPPORTED = 0xc00000bb_u32 as i32;
        NDIS_STATUS_INVALID_PARAMETER = 0xc000000d_u32 as i32;
    }
}
