//! OID requests. Every one is answered at once; none is ever pending, so there is nothing to cancel.
#![allow(unsafe_code, reason = "requests carry NDIS's buffers")]
#![allow(
    non_upper_case_globals,
    reason = "constants in patterns have their C names"
)]

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use ndkpi::NDIS_NDK_STATISTICS_INFO;
use nt::Passive;
use nt::sys::ndis::*;
use nt::sys::oid::*;
use nt::sys::status::*;
use nt::sys::types::{NDIS_OID, NDIS_STATUS};

use super::filter::{MAX_MULTICAST, Mac};
use super::statistics::{Cast, Direction};
use crate::adapter::Adapter;
use crate::ndk::TooShort;
use crate::nic::ETHERNET_HEADER;

/// Properties of the medium access layer.
pub const MAC_OPTIONS: u32 = NDIS_MAC_OPTION_COPY_LOOKAHEAD_DATA
    | NDIS_MAC_OPTION_TRANSFERS_NOT_PEND
    | NDIS_MAC_OPTION_NO_LOOPBACK;

/// The statistics that are kept.
pub const SUPPORTED_STATISTICS: u32 = NDIS_STATISTICS_XMIT_OK_SUPPORTED
    | NDIS_STATISTICS_RCV_OK_SUPPORTED
    | NDIS_STATISTICS_XMIT_ERROR_SUPPORTED
    | NDIS_STATISTICS_RCV_ERROR_SUPPORTED
    | NDIS_STATISTICS_RCV_NO_BUFFER_SUPPORTED
    | NDIS_STATISTICS_DIRECTED_BYTES_XMIT_SUPPORTED
    | NDIS_STATISTICS_DIRECTED_FRAMES_XMIT_SUPPORTED
    | NDIS_STATISTICS_MULTICAST_BYTES_XMIT_SUPPORTED
    | NDIS_STATISTICS_MULTICAST_FRAMES_XMIT_SUPPORTED
    | NDIS_STATISTICS_BROADCAST_BYTES_XMIT_SUPPORTED
    | NDIS_STATISTICS_BROADCAST_FRAMES_XMIT_SUPPORTED
    | NDIS_STATISTICS_DIRECTED_BYTES_RCV_SUPPORTED
    | NDIS_STATISTICS_DIRECTED_FRAMES_RCV_SUPPORTED
    | NDIS_STATISTICS_MULTICAST_BYTES_RCV_SUPPORTED
    | NDIS_STATISTICS_MULTICAST_FRAMES_RCV_SUPPORTED
    | NDIS_STATISTICS_BROADCAST_BYTES_RCV_SUPPORTED
    | NDIS_STATISTICS_BROADCAST_FRAMES_RCV_SUPPORTED
    | NDIS_STATISTICS_BYTES_RCV_SUPPORTED
    | NDIS_STATISTICS_BYTES_XMIT_SUPPORTED
    | NDIS_STATISTICS_RCV_DISCARDS_SUPPORTED
    | NDIS_STATISTICS_XMIT_DISCARDS_SUPPORTED
    | NDIS_STATISTICS_GEN_STATISTICS_SUPPORTED;

/// Which of them OID_GEN_STATISTICS carries: all it can.
const VALID_STATISTICS: u32 = NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_BYTES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_RCV_DISCARDS
    | NDIS_STATISTICS_FLAGS_VALID_RCV_ERROR
    | NDIS_STATISTICS_FLAGS_VALID_DIRECTED_FRAMES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_MULTICAST_FRAMES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_BROADCAST_FRAMES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_BYTES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_XMIT_ERROR
    | NDIS_STATISTICS_FLAGS_VALID_XMIT_DISCARDS
    | NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_RCV
    | NDIS_STATISTICS_FLAGS_VALID_DIRECTED_BYTES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_MULTICAST_BYTES_XMIT
    | NDIS_STATISTICS_FLAGS_VALID_BROADCAST_BYTES_XMIT;

/// The OIDs that are answered.
pub const SUPPORTED: &[NDIS_OID] = &[
    OID_GEN_SUPPORTED_LIST,
    OID_GEN_HARDWARE_STATUS,
    OID_GEN_TRANSMIT_BUFFER_SPACE,
    OID_GEN_RECEIVE_BUFFER_SPACE,
    OID_GEN_TRANSMIT_BLOCK_SIZE,
    OID_GEN_RECEIVE_BLOCK_SIZE,
    OID_GEN_VENDOR_ID,
    OID_GEN_VENDOR_DESCRIPTION,
    OID_GEN_VENDOR_DRIVER_VERSION,
    OID_GEN_CURRENT_PACKET_FILTER,
    OID_GEN_CURRENT_LOOKAHEAD,
    OID_GEN_MAXIMUM_TOTAL_SIZE,
    OID_GEN_LINK_PARAMETERS,
    OID_GEN_INTERRUPT_MODERATION,
    OID_GEN_STATISTICS,
    OID_GEN_XMIT_OK,
    OID_GEN_RCV_OK,
    OID_GEN_XMIT_ERROR,
    OID_GEN_RCV_ERROR,
    OID_GEN_RCV_NO_BUFFER,
    OID_GEN_DIRECTED_BYTES_XMIT,
    OID_GEN_DIRECTED_FRAMES_XMIT,
    OID_GEN_MULTICAST_BYTES_XMIT,
    OID_GEN_MULTICAST_FRAMES_XMIT,
    OID_GEN_BROADCAST_BYTES_XMIT,
    OID_GEN_BROADCAST_FRAMES_XMIT,
    OID_GEN_DIRECTED_BYTES_RCV,
    OID_GEN_DIRECTED_FRAMES_RCV,
    OID_GEN_MULTICAST_BYTES_RCV,
    OID_GEN_MULTICAST_FRAMES_RCV,
    OID_GEN_BROADCAST_BYTES_RCV,
    OID_GEN_BROADCAST_FRAMES_RCV,
    OID_GEN_BYTES_RCV,
    OID_GEN_BYTES_XMIT,
    OID_GEN_RCV_DISCARDS,
    OID_GEN_XMIT_DISCARDS,
    OID_802_3_PERMANENT_ADDRESS,
    OID_802_3_CURRENT_ADDRESS,
    OID_802_3_MULTICAST_LIST,
    OID_802_3_MAXIMUM_LIST_SIZE,
    OID_PNP_QUERY_POWER,
    OID_PNP_SET_POWER,
    OID_NDK_SET_STATE,
    OID_NDK_STATISTICS,
    OID_NDK_CONNECTIONS,
    OID_NDK_LOCAL_ENDPOINTS,
];

/// Name of the device in OID_GEN_VENDOR_DESCRIPTION, terminated.
const VENDOR_DESCRIPTION: &[u8] = b"vroce virtio network adapter\0";
/// OID_GEN_VENDOR_ID: no IEEE number of our own.
const NO_VENDOR: u32 = 0x00ff_ffff;

/// OID_GEN_VENDOR_DRIVER_VERSION: major in the upper half, minor in the lower.
const DRIVER_VERSION: u32 =
    (super::MAJOR_DRIVER_VERSION as u32) << 16 | super::MINOR_DRIVER_VERSION as u32;

/// A value whose bytes are all there are of it: no padding.
///
/// # Safety
/// `Self` has no padding and no pointers.
unsafe trait Plain: Copy {}
// SAFETY: numbers.
unsafe impl Plain for u32 {}
// SAFETY: numbers.
unsafe impl Plain for u64 {}
// SAFETY: three words.
unsafe impl Plain for NDIS_INTERRUPT_MODERATION_PARAMETERS {}
// SAFETY: two words, then 64-bit numbers.
unsafe impl Plain for NDIS_STATISTICS_INFO {}
// SAFETY: two words, then 64-bit numbers.
unsafe impl Plain for NDIS_NDK_STATISTICS_INFO {}

/// Where an answer goes.
struct Reply<'a> {
    request: &'a mut NDIS_OID_REQUEST_QUERY,
}

impl Reply<'_> {
    fn bytes(self, bytes: &[u8]) -> NDIS_STATUS {
        let length = bytes.len() as u32;
        let buffer = self.request.InformationBuffer.cast::<u8>();
        if length > self.request.InformationBufferLength || buffer.is_null() && length > 0 {
            self.request.BytesWritten = 0;
            self.request.BytesNeeded = length;
            return NDIS_STATUS_BUFFER_TOO_SHORT;
        }
        if length > 0 {
            // SAFETY: NDIS's buffer has room for as much; it is not ours, so it does not overlap.
            unsafe { buffer.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        self.request.BytesWritten = length;
        NDIS_STATUS_SUCCESS
    }

    fn value<T: Plain>(self, value: T) -> NDIS_STATUS {
        // SAFETY: a value without padding.
        let bytes =
            unsafe { core::slice::from_raw_parts((&raw const value).cast::<u8>(), size_of::<T>()) };
        self.bytes(bytes)
    }

    /// A counter: 64 bits if there is room, else its lower 32, saying that there are more.
    fn counter(self, value: u64) -> NDIS_STATUS {
        if self.request.InformationBufferLength >= 8 {
            return self.value(value);
        }
        if self.request.InformationBufferLength < 4 {
            self.request.BytesWritten = 0;
            self.request.BytesNeeded = 8;
            return NDIS_STATUS_BUFFER_TOO_SHORT;
        }
        self.request.BytesNeeded = 8;
        self.value(value as u32)
    }

    /// A list that is written by someone else, into as much room as there is.
    fn list<T>(self, write: impl FnOnce(*mut T, usize) -> Result<usize, TooShort>) -> NDIS_STATUS {
        let buffer = self.request.InformationBuffer.cast::<T>();
        let room = if buffer.is_null() || !buffer.is_aligned() {
            0
        } else {
            self.request.InformationBufferLength as usize
        };
        match write(buffer, room) {
            Ok(written) => {
                self.request.BytesWritten = written as u32;
                NDIS_STATUS_SUCCESS
            }
            Err(TooShort { needed }) => {
                self.request.BytesWritten = 0;
                self.request.BytesNeeded = needed as u32;
                NDIS_STATUS_BUFFER_TOO_SHORT
            }
        }
    }
}

/// MiniportOidRequest.
///
/// # Safety
/// NDIS's request, which nobody else touches meanwhile. IRQL: PASSIVE_LEVEL.
pub unsafe fn request(adapter: &Adapter, request: &mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    if adapter.is_removed() {
        return NDIS_STATUS_NOT_ACCEPTED;
    }
    match request.RequestType {
        NdisRequestQueryInformation | NdisRequestQueryStatistics => {
            // SAFETY: the type says which member of the union holds.
            query(adapter, unsafe { &mut request.DATA.QUERY_INFORMATION })
        }
        NdisRequestSetInformation => {
            // SAFETY: as above.
            let order = unsafe { &mut request.DATA.SET_INFORMATION };
            // SAFETY: the caller's promise.
            set(adapter, order, unsafe { Passive::assume() })
        }
        _ => NDIS_STATUS_NOT_SUPPORTED,
    }
}

/// MiniportDirectOidRequest: what may be asked at any time, without waiting for other requests.
///
/// # Safety
/// NDIS's request, which nobody else touches meanwhile. IRQL: <= DISPATCH_LEVEL.
pub unsafe fn direct_request(adapter: &Adapter, request: &mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    if adapter.is_removed() {
        return NDIS_STATUS_NOT_ACCEPTED;
    }
    // SAFETY: every member of the union begins with the OID.
    let oid = unsafe { request.DATA.Oid };
    match request.RequestType {
        NdisRequestQueryInformation | NdisRequestQueryStatistics if oid == OID_NDK_STATISTICS => {
            // SAFETY: the type says which member of the union holds.
            query(adapter, unsafe { &mut request.DATA.QUERY_INFORMATION })
        }
        _ => NDIS_STATUS_NOT_SUPPORTED,
    }
}

fn frames(direction: &Direction) -> u64 {
    let kinds = [Cast::Unicast, Cast::Multicast, Cast::Broadcast];
    kinds.map(|cast| direction.frames(cast)).iter().sum()
}

fn octets(direction: &Direction) -> u64 {
    let kinds = [Cast::Unicast, Cast::Multicast, Cast::Broadcast];
    kinds.map(|cast| direction.octets(cast)).iter().sum()
}

/// All statistics of the interface; the RDMA port's traffic is part of it.
fn statistics(adapter: &Adapter) -> NDIS_STATISTICS_INFO {
    let (received, sent) = (&adapter.statistics().received, &adapter.statistics().sent);
    let [
        rdma_octets_in,
        rdma_octets_out,
        rdma_frames_in,
        rdma_frames_out,
    ] = adapter.port().traffic();
    NDIS_STATISTICS_INFO {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NDIS_STATISTICS_INFO_REVISION_1,
            Size: NDIS_SIZEOF_STATISTICS_INFO_REVISION_1,
        },
        SupportedStatistics: VALID_STATISTICS,
        ifInDiscards: received.discards.load(Ordering::Relaxed),
        ifInErrors: received.errors.load(Ordering::Relaxed),
        ifHCInOctets: octets(received) + rdma_octets_in,
        ifHCInUcastPkts: received.frames(Cast::Unicast) + rdma_frames_in,
        ifHCInMulticastPkts: received.frames(Cast::Multicast),
        ifHCInBroadcastPkts: received.frames(Cast::Broadcast),
        ifHCOutOctets: octets(sent) + rdma_octets_out,
        ifHCOutUcastPkts: sent.frames(Cast::Unicast) + rdma_frames_out,
        ifHCOutMulticastPkts: sent.frames(Cast::Multicast),
        ifHCOutBroadcastPkts: sent.frames(Cast::Broadcast),
        ifOutErrors: sent.errors.load(Ordering::Relaxed),
        ifOutDiscards: sent.discards.load(Ordering::Relaxed),
        ifHCInUcastOctets: received.octets(Cast::Unicast) + rdma_octets_in,
        ifHCInMulticastOctets: received.octets(Cast::Multicast),
        ifHCInBroadcastOctets: received.octets(Cast::Broadcast),
        ifHCOutUcastOctets: sent.octets(Cast::Unicast) + rdma_octets_out,
        ifHCOutMulticastOctets: sent.octets(Cast::Multicast),
        ifHCOutBroadcastOctets: sent.octets(Cast::Broadcast),
    }
}

/// A counter with an OID of its own.
fn counter(adapter: &Adapter, oid: NDIS_OID) -> Option<u64> {
    let all = statistics(adapter);
    let (received, sent) = (&adapter.statistics().received, &adapter.statistics().sent);
    let [_, _, rdma_frames_in, rdma_frames_out] = adapter.port().traffic();
    Some(match oid {
        OID_GEN_XMIT_OK => frames(sent) + rdma_frames_out,
        OID_GEN_RCV_OK => frames(received) + rdma_frames_in,
        OID_GEN_XMIT_ERROR => all.ifOutErrors,
        OID_GEN_RCV_ERROR => all.ifInErrors,
        OID_GEN_RCV_NO_BUFFER | OID_GEN_RCV_DISCARDS => all.ifInDiscards,
        OID_GEN_XMIT_DISCARDS => all.ifOutDiscards,
        OID_GEN_DIRECTED_BYTES_XMIT => all.ifHCOutUcastOctets,
        OID_GEN_DIRECTED_FRAMES_XMIT => all.ifHCOutUcastPkts,
        OID_GEN_MULTICAST_BYTES_XMIT => all.ifHCOutMulticastOctets,
        OID_GEN_MULTICAST_FRAMES_XMIT => all.ifHCOutMulticastPkts,
        OID_GEN_BROADCAST_BYTES_XMIT => all.ifHCOutBroadcastOctets,
        OID_GEN_BROADCAST_FRAMES_XMIT => all.ifHCOutBroadcastPkts,
        OID_GEN_DIRECTED_BYTES_RCV => all.ifHCInUcastOctets,
        OID_GEN_DIRECTED_FRAMES_RCV => all.ifHCInUcastPkts,
        OID_GEN_MULTICAST_BYTES_RCV => all.ifHCInMulticastOctets,
        OID_GEN_MULTICAST_FRAMES_RCV => all.ifHCInMulticastPkts,
        OID_GEN_BROADCAST_BYTES_RCV => all.ifHCInBroadcastOctets,
        OID_GEN_BROADCAST_FRAMES_RCV => all.ifHCInBroadcastPkts,
        OID_GEN_BYTES_RCV => all.ifHCInOctets,
        OID_GEN_BYTES_XMIT => all.ifHCOutOctets,
        _ => return None,
    })
}

fn query(adapter: &Adapter, request: &mut NDIS_OID_REQUEST_QUERY) -> NDIS_STATUS {
    let oid = request.Oid;
    let reply = Reply { request };
    let nic = adapter.nic();
    let frame = u32::from(nic.mtu()) + ETHERNET_HEADER as u32;
    let settings = adapter.settings();
    match oid {
        OID_GEN_SUPPORTED_LIST => {
            // SAFETY: numbers, read as bytes.
            reply.bytes(unsafe {
                core::slice::from_raw_parts(SUPPORTED.as_ptr().cast(), size_of_val(SUPPORTED))
            })
        }
        // Ready or, once the device has failed, not.
        OID_GEN_HARDWARE_STATUS => reply.value(if nic.fault().is_none() {
            NdisHardwareStatusReady.cast_unsigned()
        } else {
            NdisHardwareStatusNotReady.cast_unsigned()
        }),
        OID_GEN_TRANSMIT_BLOCK_SIZE
        | OID_GEN_RECEIVE_BLOCK_SIZE
        | OID_GEN_CURRENT_LOOKAHEAD
        | OID_GEN_MAXIMUM_TOTAL_SIZE => reply.value(frame),
        OID_GEN_TRANSMIT_BUFFER_SPACE => {
            reply.value(frame.saturating_mul(u32::from(settings.transmit_buffers)))
        }
        OID_GEN_RECEIVE_BUFFER_SPACE => {
            reply.value(frame.saturating_mul(u32::from(settings.receive_buffers)))
        }
        OID_GEN_VENDOR_ID => reply.value(NO_VENDOR),
        OID_GEN_VENDOR_DESCRIPTION => reply.bytes(VENDOR_DESCRIPTION),
        OID_GEN_VENDOR_DRIVER_VERSION => reply.value(DRIVER_VERSION),
        OID_GEN_CURRENT_PACKET_FILTER => reply.value(adapter.filter().packet_types()),
        OID_GEN_INTERRUPT_MODERATION => reply.value(NDIS_INTERRUPT_MODERATION_PARAMETERS {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_DEFAULT,
                Revision: NDIS_INTERRUPT_MODERATION_PARAMETERS_REVISION_1,
                Size: NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1,
            },
            Flags: 0,
            InterruptModeration: NdisInterruptModerationNotSupported,
        }),
        OID_GEN_STATISTICS => reply.value(statistics(adapter)),
        OID_802_3_PERMANENT_ADDRESS => reply.bytes(&nic.permanent_mac()),
        OID_802_3_CURRENT_ADDRESS => reply.bytes(&nic.mac()),
        OID_802_3_MULTICAST_LIST => reply.bytes(adapter.filter().multicast().as_flattened()),
        OID_802_3_MAXIMUM_LIST_SIZE => reply.value(MAX_MULTICAST as u32),
        // Every state can be entered at any time.
        OID_PNP_QUERY_POWER => reply.bytes(&[]),
        OID_NDK_STATISTICS => reply.value(adapter.port().statistics()),
        OID_NDK_CONNECTIONS => {
            // SAFETY: NDIS's buffer, aligned, with so much room.
            reply.list(|buffer, room| unsafe { adapter.port().write_connections(buffer, room) })
        }
        OID_NDK_LOCAL_ENDPOINTS => {
            // SAFETY: as above.
            reply.list(|buffer, room| unsafe { adapter.port().write_local_endpoints(buffer, room) })
        }
        _ => match counter(adapter, oid) {
            Some(value) => reply.counter(value),
            None => NDIS_STATUS_NOT_SUPPORTED,
        },
    }
}

fn set(adapter: &Adapter, request: &mut NDIS_OID_REQUEST_SET, passive: Passive) -> NDIS_STATUS {
    let length = request.InformationBufferLength;
    let bytes: &[u8] = match NonNull::new(request.InformationBuffer.cast::<u8>()) {
        // SAFETY: NDIS's buffer of that length, which nobody changes meanwhile.
        Some(buffer) => unsafe { core::slice::from_raw_parts(buffer.as_ptr(), length as usize) },
        None => &[],
    };
    let word = || bytes.first_chunk().copied().map(u32::from_ne_bytes);
    // What was read of the buffer, or the status and how many bytes it ought to have.
    let result: Result<u32, (NDIS_STATUS, u32)> = match request.Oid {
        OID_GEN_CURRENT_PACKET_FILTER => match word() {
            Some(types) if adapter.filter().set_packet_types(types) => Ok(4),
            Some(_) => Err((NDIS_STATUS_NOT_SUPPORTED, 0)),
            None => Err((NDIS_STATUS_INVALID_LENGTH, 4)),
        },
        // All of a frame is in one piece anyway: any lookahead up to that is granted.
        OID_GEN_CURRENT_LOOKAHEAD => match word() {
            Some(wanted)
                if wanted as usize <= usize::from(adapter.nic().mtu()) + ETHERNET_HEADER =>
            {
                Ok(4)
            }
            Some(_) => Err((NDIS_STATUS_INVALID_DATA, 0)),
            None => Err((NDIS_STATUS_INVALID_LENGTH, 4)),
        },
        OID_802_3_MULTICAST_LIST => match bytes.as_chunks::<6>() {
            (list, []) if list.len() <= MAX_MULTICAST => {
                adapter.filter().set_multicast(
                    list.iter()
                        .copied()
                        .collect::<ArrayVec<Mac, MAX_MULTICAST>>(),
                );
                Ok(length)
            }
            (_, []) => Err((NDIS_STATUS_MULTICAST_FULL, (MAX_MULTICAST * 6) as u32)),
            _ => Err((NDIS_STATUS_INVALID_LENGTH, 6)),
        },
        OID_NDK_SET_STATE => match bytes {
            [state] if adapter.order_ndk(*state != 0) => Ok(1),
            [_] => Err((NDIS_STATUS_NOT_SUPPORTED, 0)),
            _ => Err((NDIS_STATUS_INVALID_LENGTH, 1)),
        },
        OID_PNP_SET_POWER => match word().map(u32::cast_signed) {
            Some(NdisDeviceStateD0) => {
                adapter.wake(passive);
                Ok(4)
            }
            Some(NdisDeviceStateD1 | NdisDeviceStateD2 | NdisDeviceStateD3) => {
                adapter.sleep(passive);
                Ok(4)
            }
            Some(_) => Err((NDIS_STATUS_INVALID_DATA, 0)),
            None => Err((NDIS_STATUS_INVALID_LENGTH, 4)),
        },
        // Known, but not to be changed: speed and duplex of a virtual link, moderation of interrupts the device suppresses by itself.
        OID_GEN_LINK_PARAMETERS | OID_GEN_INTERRUPT_MODERATION => {
            Err((NDIS_STATUS_NOT_SUPPORTED, 0))
        }
        _ => Err((NDIS_STATUS_NOT_SUPPORTED, 0)),
    };
    match result {
        Ok(read) => {
            request.BytesRead = read;
            NDIS_STATUS_SUCCESS
        }
        Err((status, needed)) => {
            request.BytesRead = 0;
            request.BytesNeeded = needed;
            status
        }
    }
}
