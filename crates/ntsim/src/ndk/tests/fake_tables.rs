//! The dispatch tables of the fake provider.

use std::slice;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::fake::{Misdeed, Thing, close as close_thing, depend, part};
use crate::memory::PAGE;
use crate::ndk::object::Kind;

/// # Safety
/// `object` is one that the fake provider made.
unsafe fn thing<T>(object: *mut T) -> &'static Thing {
    // SAFETY: the caller's promise; objects stay.
    unsafe { &*object.cast::<Thing>() }
}

unsafe extern "efiapi" fn close(
    object: *mut NDK_OBJECT_HEADER,
    completion: NDK_FN_CLOSE_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    close_thing(unsafe { thing(object) }, completion, context)
}

unsafe extern "efiapi" fn query_extension(
    object: *mut NDK_OBJECT_HEADER,
    _id: *mut GUID,
    _version: NDK_VERSION,
    _interface: *mut NDK_EXTENSION_INTERFACE,
) -> NTSTATUS {
    // SAFETY: an object.
    if unsafe { thing(object) }
        .fake()
        .does(Misdeed::ExtensionWithoutTable)
    {
        STATUS_SUCCESS
    } else {
        STATUS_NOT_SUPPORTED
    }
}

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

pub(super) fn adapter() -> *const c_void {
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
        if thing(adapter).fake().does(Misdeed::LamChangesMdl) {
            (*(*lam).AdapterContext.cast::<wdm::MDL>()).ByteCount += 1;
        }
    }
}

static CQ: NDK_CQ_DISPATCH = NDK_CQ_DISPATCH {
    NdkCloseCq: close,
    NdkQueryExtension: query_extension,
    NdkResizeCq: resize_cq,
    NdkArmCq: arm_cq,
    NdkGetCqResults: results,
    NdkControlCqInterruptModeration: moderate,
    NdkGetCqResultsEx: results_ex,
};

/// A table with a hole.
pub(super) fn cq_without_arm() -> *const c_void {
    let words = size_of::<NDK_CQ_DISPATCH>() / 8;
    // SAFETY: a table of as many pointers.
    let table = unsafe { slice::from_raw_parts((&raw const CQ).cast::<usize>(), words) };
    let mut table = table.to_vec();
    table[3] = 0;
    table.leak().as_ptr().cast()
}

unsafe extern "efiapi" fn resize_cq(
    cq: *mut NDK_CQ,
    _depth: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe {
        let thing = thing(cq);
        if thing.fake().does(Misdeed::ReservedWritten) {
            (*cq).Header.NdkReserved.rf[1] = std::ptr::null_mut();
        }
        if thing.fake().does(Misdeed::DispatchWritten) {
            (*cq).Dispatch = &CQ;
        }
        if thing.fake().does(Misdeed::DispatchReadBack) {
            ((*(*cq).Dispatch).NdkArmCq)(cq, NDK_CQ_NOTIFY_ERRORS);
        }
        if thing.fake().does(Misdeed::CallsAtHighIrql) {
            let old = crate::world::context::with_processor(|p| p.set_irql(5));
            let status = thing
                .fake()
                .finish(thing, completion, context, STATUS_SUCCESS);
            crate::world::context::with_processor(|p| p.set_irql(old));
            return status;
        }
        thing
            .fake()
            .finish(thing, completion, context, STATUS_SUCCESS)
    }
}

unsafe extern "efiapi" fn arm_cq(cq: *mut NDK_CQ, _kind: u32) {
    // SAFETY: an object.
    let thing = unsafe { thing(cq) };
    thing.fake().arm(thing);
}

unsafe extern "efiapi" fn results(cq: *mut NDK_CQ, results: *mut NDK_RESULT, room: u32) -> u32 {
    // SAFETY: an object and the consumer's array.
    unsafe {
        let thing = thing(cq);
        let taken = thing.fake().take(thing, room);
        for (index, entry) in taken.iter().enumerate() {
            *results.add(index) = NDK_RESULT {
                Status: entry.Status,
                BytesTransferred: entry.BytesTransferred,
                QPContext: entry.QPContext,
                RequestContext: entry.RequestContext,
            };
        }
        let more = u32::from(thing.fake().does(Misdeed::TooManyResults)) * 100;
        taken.len() as u32 + more
    }
}

unsafe extern "efiapi" fn results_ex(
    cq: *mut NDK_CQ,
    results: *mut NDK_RESULT_EX,
    room: u32,
) -> u32 {
    // SAFETY: an object and the consumer's array.
    unsafe {
        let thing = thing(cq);
        let taken = thing.fake().take(thing, room);
        for (index, entry) in taken.iter().enumerate() {
            *results.add(index) = *entry;
        }
        taken.len() as u32
    }
}

unsafe extern "efiapi" fn moderate(_cq: *mut NDK_CQ, _interval: u32, _count: u32) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}

static PD: NDK_PD_DISPATCH = NDK_PD_DISPATCH {
    NdkClosePd: close,
    NdkQueryExtension: query_extension,
    NdkCreateMr: create_mr,
    NdkCreateMw: create_mw,
    NdkCreateSrq: create_srq,
    NdkCreateQp: create_qp,
    NdkCreateQpWithSrq: create_qp_with_srq,
    NdkGetPrivilegedMemoryRegionToken: privileged_token,
};

unsafe extern "efiapi" fn create_mr(
    pd: *mut NDK_PD,
    _fast: BOOLEAN,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MR,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(pd);
        let mr = parent
            .fake()
            .make(Kind::Mr, (&raw const MR).cast(), &[parent]);
        parent.fake().created(parent, mr, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_mw(
    pd: *mut NDK_PD,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_MW,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callback.
    unsafe {
        let parent = thing(pd);
        let mw = parent
            .fake()
            .make(Kind::Mw, (&raw const MW).cast(), &[parent]);
        parent.fake().created(parent, mw, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_srq(
    pd: *mut NDK_PD,
    _depth: u32,
    _sges: u32,
    _threshold: u32,
    notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SRQ,
) -> NTSTATUS {
    // SAFETY: an object and the consumer's callbacks.
    unsafe {
        let parent = thing(pd);
        let srq = parent
            .fake()
            .make(Kind::Srq, (&raw const SRQ).cast(), &[parent]);
        (*srq).srq_notification.set(notification);
        (*srq).context.set(notification_context);
        parent.fake().created(parent, srq, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_qp(
    pd: *mut NDK_PD,
    receive: *mut NDK_CQ,
    initiator: *mut NDK_CQ,
    qp_context: *mut c_void,
    _receive_depth: u32,
    _initiator_depth: u32,
    _receive_sges: u32,
    _initiator_sges: u32,
    _inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: objects and the consumer's callback.
    unsafe {
        let (parent, receive, initiator) = (thing(pd), thing(receive), thing(initiator));
        let antecedents: [*const Thing; 3] = [parent, receive, initiator];
        let qp = parent
            .fake()
            .make(Kind::Qp, (&raw const QP).cast(), &antecedents);
        (*qp).context.set(qp_context);
        (*qp).receive_cq.set(receive);
        (*qp).initiator_cq.set(initiator);
        parent.fake().created(parent, qp, completion, context, out)
    }
}

unsafe extern "efiapi" fn create_qp_with_srq(
    pd: *mut NDK_PD,
    receive: *mut NDK_CQ,
    initiator: *mut NDK_CQ,
    srq: *mut NDK_SRQ,
    qp_context: *mut c_void,
    _initiator_depth: u32,
    _initiator_sges: u32,
    _inline: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: objects and the consumer's callback.
    unsafe {
        let (parent, receive, initiator) = (thing(pd), thing(receive), thing(initiator));
        let antecedents: [*const Thing; 4] = [parent, receive, initiator, thing(srq)];
        let qp = parent
            .fake()
            .make(Kind::Qp, (&raw const QP).cast(), &antecedents);
        (*qp).context.set(qp_context);
        (*qp).receive_cq.set(receive);
        (*qp).initiator_cq.set(initiator);
        parent.fake().created(parent, qp, completion, context, out)
    }
}

unsafe extern "efiapi" fn privileged_token(_pd: *mut NDK_PD, token: *mut u32) {
    // SAFETY: the consumer's variable.
    unsafe { *token = 1 };
}

static MR: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: close,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register_mr,
    NdkDeregisterMr: deregister_mr,
    NdkInitializeFastRegisterMr: initialize_fast_register,
    NdkGetRemoteTokenFromMr: mr_token,
    NdkGetLocalTokenFromMr: mr_token,
};

unsafe extern "efiapi" fn register_mr(
    mr: *mut NDK_MR,
    _mdl: *mut MDL,
    _length: usize,
    _flags: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn deregister_mr(
    mr: *mut NDK_MR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn initialize_fast_register(
    mr: *mut NDK_MR,
    _pages: u32,
    _remote: BOOLEAN,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn mr_token(_mr: *mut NDK_MR) -> u32 {
    0x100
}

static MW: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
    NdkCloseMw: close,
    NdkQueryExtension: query_extension,
    NdkGetRemoteTokenFromMw: mw_token,
};

unsafe extern "efiapi" fn mw_token(_mw: *mut NDK_MW) -> u32 {
    0x200
}

static SRQ: NDK_SRQ_DISPATCH = NDK_SRQ_DISPATCH {
    NdkCloseSrq: close,
    NdkQueryExtension: query_extension,
    NdkModifySrq: modify_srq,
    NdkSrqReceive: srq_receive,
};

unsafe extern "efiapi" fn modify_srq(
    srq: *mut NDK_SRQ,
    _depth: u32,
    threshold: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(srq) };
    let fake = thing.fake();
    let status = if fake.does(Misdeed::SrqNotifiesOddStatus) {
        STATUS_CANCELLED
    } else {
        STATUS_SUCCESS
    };
    if let Some(notification) = thing.srq_notification.get()
        && (threshold > 0 || fake.does(Misdeed::SrqNotifiesUnarmed))
    {
        fake.defer(move || {
            // SAFETY: the consumer's callback.
            unsafe { notification(thing.context.get(), status) }
        });
    }
    let status = if fake.does(Misdeed::SrqNotifiesAfterFailure) {
        STATUS_BUFFER_OVERFLOW
    } else {
        STATUS_SUCCESS
    };
    fake.finish(thing, completion, context, status)
}

unsafe extern "efiapi" fn srq_receive(
    srq: *mut NDK_SRQ,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(srq) };
    thing.fake().queue_receive(thing, context);
    STATUS_SUCCESS
}

static QP: NDK_QP_DISPATCH = NDK_QP_DISPATCH {
    NdkCloseQp: close,
    NdkQueryExtension: query_extension,
    NdkFlush: flush,
    NdkSend: send,
    NdkReceive: receive,
    NdkBind: bind,
    NdkFastRegister: fast_register,
    NdkInvalidate: invalidate,
    NdkRead: read,
    NdkWrite: write,
    NdkSendAndInvalidate: send_and_invalidate,
};

unsafe extern "efiapi" fn flush(qp: *mut NDK_QP) {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    thing.fake().flush(thing);
}

/// Any initiator request.
unsafe fn initiate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    flags: u32,
    kind: NDK_OPERATION_TYPE,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    let fake = thing.fake();
    if fake.does(Misdeed::PostPends) {
        return STATUS_PENDING;
    }
    if !thing.connected.get() && !fake.does(Misdeed::PostsUnconnected) {
        return STATUS_CONNECTION_INVALID;
    }
    if flags & NDK_OP_FLAG_SILENT_SUCCESS == 0 {
        fake.complete(thing, context, kind, STATUS_SUCCESS);
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn send(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeSend) }
}

unsafe extern "efiapi" fn receive(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    thing.fake().queue_receive(thing, context);
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn bind(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    mw: *mut NDK_MW,
    _address: *mut c_void,
    _length: usize,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: objects.
    let (status, window, region) = unsafe {
        let status = initiate(qp, context, flags, NdkOperationTypeBind);
        (status, thing(mw), thing(mr))
    };
    if status == STATUS_SUCCESS {
        part(window, Kind::Mr);
        if !window.fake().does(Misdeed::ClosesWhileBound) {
            depend(window, region);
        }
    }
    status
}

unsafe extern "efiapi" fn fast_register(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _mr: *mut NDK_MR,
    _pages: u32,
    _array: *const NDK_LOGICAL_ADDRESS,
    _offset: u32,
    _length: usize,
    _base: *mut c_void,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeFastRegister) }
}

unsafe extern "efiapi" fn invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    object: *mut NDK_OBJECT_HEADER,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: objects.
    let (status, thing) = unsafe {
        let status = initiate(qp, context, flags, NdkOperationTypeInvalidate);
        (status, thing(object))
    };
    if status == STATUS_SUCCESS && thing.kind == Kind::Mw {
        part(thing, Kind::Mr);
    }
    status
}

unsafe extern "efiapi" fn read(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    _address: u64,
    _token: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeRead) }
}

unsafe extern "efiapi" fn write(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    _address: u64,
    _token: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeWrite) }
}

unsafe extern "efiapi" fn send_and_invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    flags: u32,
    _token: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeSend) }
}

static ENDPOINT: NDK_SHARED_ENDPOINT_DISPATCH = NDK_SHARED_ENDPOINT_DISPATCH {
    NdkCloseSharedEndpoint: close,
    NdkQueryExtension: query_extension,
    NdkGetLocalAddress: endpoint_address,
};

unsafe fn address(length: *mut u32) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    let length = unsafe { &mut *length };
    let needed = size_of::<SOCKADDR_IN>() as u32;
    let room = std::mem::replace(length, needed);
    if room < needed {
        STATUS_BUFFER_TOO_SMALL
    } else {
        STATUS_SUCCESS
    }
}

unsafe extern "efiapi" fn endpoint_address(
    _endpoint: *mut NDK_SHARED_ENDPOINT,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

static LISTENER: NDK_LISTENER_DISPATCH = NDK_LISTENER_DISPATCH {
    NdkCloseListener: close,
    NdkQueryExtension: query_extension,
    NdkListen: listen,
    NdkGetLocalAddress: listener_address,
    NdkControlConnectEvents: control,
};

unsafe extern "efiapi" fn listen(
    listener: *mut NDK_LISTENER,
    _address: *const SOCKADDR,
    _length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(listener) };
    let fake = thing.fake();
    fake.finish(thing, completion, context, fake.listens.get())
}

unsafe extern "efiapi" fn listener_address(
    _listener: *mut NDK_LISTENER,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

unsafe extern "efiapi" fn control(_listener: *mut NDK_LISTENER, _pause: BOOLEAN) {}

static CONNECTOR: NDK_CONNECTOR_DISPATCH = NDK_CONNECTOR_DISPATCH {
    NdkCloseConnector: close,
    NdkQueryExtension: query_extension,
    NdkConnect: connect,
    NdkConnectWithSharedEndpoint: connect_with_endpoint,
    NdkCompleteConnect: complete_connect,
    NdkAccept: accept,
    NdkReject: reject,
    NdkGetConnectionData: connection_data,
    NdkGetLocalAddress: connector_address,
    NdkGetPeerAddress: connector_address,
    NdkDisconnect: disconnect,
    NdkCompleteConnectEx: complete_connect_ex,
    NdkAcceptEx: accept_ex,
};

pub(super) fn connector() -> *const c_void {
    (&raw const CONNECTOR).cast()
}

unsafe extern "efiapi" fn connect(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _source: *const SOCKADDR,
    _source_length: u32,
    _destination: *const SOCKADDR,
    _destination_length: u32,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn connect_with_endpoint(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    endpoint: *mut NDK_SHARED_ENDPOINT,
    _destination: *const SOCKADDR,
    _destination_length: u32,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp, endpoint) = unsafe { (thing(connector), thing(qp), thing(endpoint)) };
    depend(thing, qp);
    depend(thing, endpoint);
    qp.connected.set(true);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn complete_connect(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing.disconnect_event.set(event);
    thing.context.set(event_context);
    let fake = thing.fake();
    if fake.does(Misdeed::DisconnectsUnconnected) {
        fake.peer_disconnects(thing);
        return fake.finish(thing, completion, context, STATUS_CONNECTION_ABORTED);
    }
    fake.finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn complete_connect_ex(
    connector: *mut NDK_CONNECTOR,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing.disconnect_event_ex.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn accept(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing.disconnect_event.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn accept_ex(
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    _inbound: u32,
    _outbound: u32,
    _data: *const c_void,
    _data_length: u32,
    event: Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>,
    event_context: *mut c_void,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: objects.
    let (thing, qp) = unsafe { (thing(connector), thing(qp)) };
    depend(thing, qp);
    qp.connected.set(true);
    thing.disconnect_event_ex.set(event);
    thing.context.set(event_context);
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn reject(
    _connector: *mut NDK_CONNECTOR,
    _data: *const c_void,
    _data_length: u32,
) -> NTSTATUS {
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn connection_data(
    _connector: *mut NDK_CONNECTOR,
    _inbound: *mut u32,
    _outbound: *mut u32,
    data: *mut c_void,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    let length = unsafe { &mut *length };
    let room = std::mem::replace(length, 56);
    if room < 56 && !data.is_null() {
        STATUS_BUFFER_TOO_SMALL
    } else {
        STATUS_SUCCESS
    }
}

unsafe extern "efiapi" fn connector_address(
    _connector: *mut NDK_CONNECTOR,
    _address: *mut SOCKADDR,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { address(length) }
}

unsafe extern "efiapi" fn disconnect(
    connector: *mut NDK_CONNECTOR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(connector) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}
