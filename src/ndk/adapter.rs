//! NDK_ADAPTER: one open of the provider over one NIC.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::ptr;

use ndis_sys::status::{STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_ADAPTER, NDK_ADAPTER_DISPATCH, NDK_ADAPTER_INFO, NDK_ADAPTER_INFO_SIZE_1_1, NDK_VERSION,
    NdkObjectTypeAdapter,
};
use nt::{Event, EventKind, NoMemory, Shared};

use super::object::{Kind, Object, Quiet, header, query_extension};
use super::{connector, cq, endpoint, lam, limits, listener, pd};

/// The private part of an NDK_ADAPTER.
pub struct Adapter {
    /// Set when everything below the adapter is gone. Made at open, because a close cannot fail for lack of memory.
    closed: Shared<Event>,
}

impl Adapter {
    /// A new one. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        Ok(Self {
            closed: Shared::try_new(Event::try_new(EventKind::Notification, false)?)?,
        })
    }

    /// The event for who waits for the close.
    pub fn closed_event(&self) -> Shared<Event> {
        self.closed.clone()
    }
}

static DISPATCH: NDK_ADAPTER_DISPATCH = NDK_ADAPTER_DISPATCH {
    NdkQueryExtension: query_extension,
    NdkQueryAdapterInfo: query_adapter_info,
    NdkCreateCq: cq::create_cq,
    NdkCreatePd: pd::create_pd,
    NdkCreateSharedEndpoint: endpoint::create_shared_endpoint,
    NdkCreateConnector: connector::create_connector,
    NdkCreateListener: listener::create_listener,
    NdkBuildLAM: lam::build_lam,
    NdkReleaseLAM: lam::release_lam,
};

impl Kind for Adapter {
    type Raw = NDK_ADAPTER;

    fn raw(version: NDK_VERSION) -> NDK_ADAPTER {
        NDK_ADAPTER {
            Header: header(version, NdkObjectTypeAdapter),
            Dispatch: &DISPATCH,
        }
    }

    /// Decision X-55: mappings that the consumer forgot to release are freed with the adapter.
    fn quiesce(adapter: &Object<Self>) -> Quiet {
        let next = || {
            adapter
                .port()
                .peek(|state| state.memory.lams.take_left_by(lam::owner(adapter)))
        };
        while let Some(left) = next() {
            drop(left);
        }
        Quiet::Yes
    }
}

/// NdkQueryAdapterInfo. Synchronous. IRQL: PASSIVE_LEVEL.
///
/// Decision X-42: an adapter opened with major version 1 may pass a buffer that ends where the structure ended in the
/// headers of that time, and gets that much; otherwise the whole structure is required. A null buffer of size 0 asks for the size.
unsafe extern "efiapi" fn query_adapter_info(
    adapter: *mut NDK_ADAPTER,
    info: *mut NDK_ADAPTER_INFO,
    size: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open adapter.
    let version = unsafe { Object::<Adapter>::from_raw(adapter) }.version();
    // SAFETY: `size` is the consumer's in/out parameter.
    let room = unsafe { *size } as usize;
    let whole = size_of::<NDK_ADAPTER_INFO>();
    let (required, written) = match version.Major {
        1 if room < whole => (NDK_ADAPTER_INFO_SIZE_1_1, NDK_ADAPTER_INFO_SIZE_1_1),
        _ => (whole, whole),
    };
    if info.is_null() || room < required {
        // SAFETY: as above.
        unsafe { *size = whole as u32 };
        return STATUS_BUFFER_TOO_SMALL;
    }
    let value = limits::adapter_info(version);
    // SAFETY: the consumer's buffer has room for `written` bytes, and the value has at least as many.
    unsafe {
        ptr::copy_nonoverlapping((&raw const value).cast::<u8>(), info.cast::<u8>(), written)
    };
    // SAFETY: as above.
    unsafe { *size = written as u32 };
    STATUS_SUCCESS
}

/// The close completion of an adapter: wakes the thread that waits in CloseNDKAdapterHandler.
///
/// # Safety
/// `context` points at the adapter's event, which the waiting thread shares.
pub(super) unsafe extern "efiapi" fn closed(context: *mut c_void) {
    // SAFETY: by the contract of this function.
    unsafe { &*context.cast::<Event>().cast_const() }.set();
}
