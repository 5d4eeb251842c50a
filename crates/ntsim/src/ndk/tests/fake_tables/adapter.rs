//! The table of the adapter.

use std::slice;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::Misdeed;
use super::connector::{PRIVATE_DATA, connector};
use super::cq::CQ;
use super::endpoint::ENDPOINT;
use super::endpoint::LISTENER;
use super::pd::PD;
use super::{query_extension, thing};
use crate::memory::PAGE;
use crate::ndk::object::Kind;

static ADAPTER: NDK_ADAPTER_DISPATCH = NDK_ADAPTER_DISPATCH {
    NdkQueryExtension: query_extension,
    NdkQueryAdapterInfo: query_info,
    NdkCreateCq: create_cq,
    NdkCreatePd: create_pd,
    NdkCreateSharedEndpoint: create_endpoint,
    NdkCreateConnector: create_connector,
    NdkCreateListener: create_listener,
    NdkBuildLAM: build_lam,
    NdkReleaseLAM: release_lam,
};

pub(in crate::ndk::tests) fn adapter() -> *const c_void {
    (&raw const ADAPTER).cast()
}

unsafe extern "efiapi" fn query_info(
    adapter: *mut NDK_ADAPTER,
    info: *mut NDK_ADAPTER_INFO,
    size: *mut u32,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's variables.
    unsafe {
        let thing = thing(adapter);
        let needed = size_of::<NDK_ADAPTER_INFO>() as u32;
        if *size < needed {
            *size = needed;
            return STATUS_BUFFER_TOO_SMALL;
        }
        let mut version = thing.head.Version;
        if thing.fake().does(Misdeed::InfoVersion) {
            version.Minor += 1;
        }
        *info = NDK_ADAPTER_INFO {
            Version: version,
            FRMRPageCount: 16,
            MaxCallerData: PRIVATE_DATA,
            MaxCalleeData: PRIVATE_DATA,
            ..NDK_ADAPTER_INFO::ZEROED
        };
        *size = needed + u32::from(thing.fake().does(Misdeed::WrongLength));
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn create_cq(
    adapter: *mut NDK_ADAPTER,
    _depth: u32,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_CQ,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callbacks.
    unsafe {
        let parent = thing(adapter);
        let fake = parent.fake();
        let cq = match fake.last_cq() {
            Some(cq) if fake.does(Misdeed::SameObjectAgain) => cq,
            _ => fake.make(Kind::Cq, (&raw const CQ).cast(), &[parent]),
        };
        (*cq).cq_notification.set(Some(notification));
        (*cq).context.set(notification_context);
        fake.created(parent, cq, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_pd(
    adapter: *mut NDK_ADAPTER,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_PD,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(adapter);
        let pd = parent
            .fake()
            .make(Kind::Pd, (&raw const PD).cast(), &[parent]);
        parent.fake().created(parent, pd, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_endpoint(
    adapter: *mut NDK_ADAPTER,
    _address: *const SOCKADDR,
    _length: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SHARED_ENDPOINT,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(adapter);
        let fake = parent.fake();
        let endpoint = fake.make(
            Kind::SharedEndpoint,
            (&raw const ENDPOINT).cast(),
            &[parent],
        );
        fake.created(parent, endpoint, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_connector(
    adapter: *mut NDK_ADAPTER,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_CONNECTOR,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(adapter);
        let made = parent.fake().make(Kind::Connector, connector(), &[parent]);
        parent
            .fake()
            .created(parent, made, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_listener(
    adapter: *mut NDK_ADAPTER,
    event: NDK_FN_CONNECT_EVENT_CALLBACK,
    event_context: *mut c_void,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_LISTENER,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callbacks.
    unsafe {
        let parent = thing(adapter);
        let fake = parent.fake();
        let listener = fake.make(Kind::Listener, (&raw const LISTENER).cast(), &[parent]);
        (*listener).connect_event.set(Some(event));
        (*listener).context.set(event_context);
        if fake.does(Misdeed::EventBeforeListen) {
            fake.incoming(thing(listener));
        }
        fake.created(parent, listener, completion, context, out)
    }
}

unsafe extern "efiapi" fn build_lam(
    adapter: *mut NDK_ADAPTER,
    mdl: *mut MDL,
    length: usize,
    completion: Option<NDK_FN_REQUEST_COMPLETION>,
    context: *mut c_void,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
    size: *mut u32,
    offset: *mut u32,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's variables.
    unsafe {
        let thing = thing(adapter);
        let fake = thing.fake();
        let first = (*mdl.cast::<wdm::MDL>()).ByteOffset;
        let pages = (first as usize + length).div_ceil(PAGE);
        let needed = 16 + 8 * pages as u32;
        if *size < needed {
            *size = needed;
            return STATUS_BUFFER_TOO_SMALL;
        }
        if fake.does(Misdeed::LamBuildChangesMdl) || fake.does(Misdeed::LamMapsMdl) {
            (*mdl.cast::<wdm::MDL>()).MdlFlags |= 1;
        }
        *offset = first;
        (*lam).AdapterContext = mdl.cast();
        (*lam).AdapterPageCount = pages as u32;
        let array = (&raw mut (*lam).AdapterPageArray).cast::<NDK_LOGICAL_ADDRESS>();
        for (index, page) in slice::from_raw_parts_mut(array, pages)
            .iter_mut()
            .enumerate()
        {
            *page = ((index + 7) * PAGE) as i64 + i64::from(fake.does(Misdeed::LamUnaligned));
        }
        match completion {
            Some(completion) => fake.finish(thing, completion, context, STATUS_SUCCESS),
            None if fake.does(Misdeed::LamPendsWithoutCallback) => STATUS_PENDING,
            None => STATUS_SUCCESS,
        }
    }
}

unsafe extern "efiapi" fn release_lam(
    adapter: *mut NDK_ADAPTER,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
) {
    // SAFETY: an object and a mapping.
    unsafe {
        if thing(adapter).fake().does(Misdeed::LamMapsMdl) {
            (*(*lam).AdapterContext.cast::<wdm::MDL>()).MdlFlags &= !1;
        }
        if thing(adapter).fake().does(Misdeed::LamChangesMdl) {
            (*(*lam).AdapterContext.cast::<wdm::MDL>()).ByteCount += 1;
        }
    }
}
