//! An NDK provider that does no work: a request that is posted has its result at once. One result fits into a completion queue.

use std::cell::{Cell, UnsafeCell};
use std::ptr::{from_mut, null_mut};

use ndis_sys::imports::*;
use ndis_sys::ndis::NDIS_MINIPORT_ADAPTER_ATTRIBUTES;
use ndis_sys::types::{NDIS_HANDLE, NDIS_STATUS};
use ndis_sys::wdm::KDPC;
use ndkpi::status::*;
use ndkpi::*;

/// A completion queue.
#[repr(C)]
struct Cq {
    ndk: NDK_CQ,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    context: *mut c_void,
    is_armed: Cell<bool>,
    result: Cell<Option<NDK_RESULT>>,
    /// Notifies.
    dpc: UnsafeCell<KDPC>,
}

/// A queue pair.
#[repr(C)]
struct Qp {
    ndk: NDK_QP,
    context: *mut c_void,
    initiator_cq: *const Cq,
}

fn head(kind: NDK_OBJECT_TYPE) -> NDK_OBJECT_HEADER {
    NDK_OBJECT_HEADER {
        Version: NDK_VERSION_2_1,
        ObjectType: kind,
        ..NDK_OBJECT_HEADER::ZEROED
    }
}

/// Hands out an object.
///
/// # Safety
/// It begins with an NDK object of the kind that `out` is for.
unsafe fn give<T, O>(object: T, out: *mut *mut O) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    unsafe { *out = Box::into_raw(Box::new(object)).cast() };
    STATUS_SUCCESS
}

/// Closes an object of that type.
unsafe extern "efiapi" fn close<T>(
    object: *mut NDK_OBJECT_HEADER,
    _: NDK_FN_CLOSE_COMPLETION,
    _: *mut c_void,
) -> NTSTATUS {
    // SAFETY: of `give`, and closed once, when nothing depends on it any more.
    drop(unsafe { Box::from_raw(object.cast::<T>()) });
    STATUS_SUCCESS
}

/// MiniportSetOptions: the driver is a provider.
pub unsafe extern "efiapi" fn set_options(driver: NDIS_HANDLE, _: NDIS_HANDLE) -> NDIS_STATUS {
    let mut characteristics = NDIS_NDK_PROVIDER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS,
            Revision: NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
            Size: NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
        },
        Flags: 0,
        OpenNDKAdapterHandler: Some(open_adapter),
        CloseNDKAdapterHandler: Some(close_adapter),
    };
    // SAFETY: NDIS's handle; the header says which handlers these are.
    unsafe { NdisSetOptionalHandlers(driver, (&raw mut characteristics).cast()) }
}

/// Tells NDIS that the adapter is a provider, enabled. Inside MiniportInitializeEx, after the general attributes.
pub fn set_attributes(handle: NDIS_HANDLE) {
    let mut info = NDK_ADAPTER_INFO {
        Version: NDK_VERSION_2_1,
        ..NDK_ADAPTER_INFO::ZEROED
    };
    let mut capabilities = NDIS_NDK_CAPABILITIES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NDIS_NDK_CAPABILITIES_REVISION_1,
            Size: NDIS_SIZEOF_NDK_CAPABILITIES_REVISION_1,
        },
        NdkInfo: &raw mut info,
        ..NDIS_NDK_CAPABILITIES::ZEROED
    };
    let mut attributes = NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES,
            Revision: NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
        },
        Enabled: 1,
        NdkCapabilities: &raw mut capabilities,
    };
    // SAFETY: the header says which attributes these are; NDIS copies them.
    let status = unsafe {
        let attributes = from_mut(&mut attributes).cast::<NDIS_MINIPORT_ADAPTER_ATTRIBUTES>();
        NdisMSetMiniportAttributes(handle, attributes)
    };
    assert_eq!(status, STATUS_SUCCESS);
}

unsafe extern "efiapi" fn open_adapter(
    _: ndkpi::NDIS_HANDLE,
    _: *mut NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
    out: *mut *mut NDK_ADAPTER,
) -> NDIS_STATUS {
    let adapter = NDK_ADAPTER {
        Header: head(NdkObjectTypeAdapter),
        Dispatch: &ADAPTER,
    };
    // SAFETY: an adapter.
    unsafe { give(adapter, out) }
}

unsafe extern "efiapi" fn close_adapter(_: ndkpi::NDIS_HANDLE, adapter: *mut NDK_ADAPTER) {
    // SAFETY: of `open_adapter`, closed once.
    drop(unsafe { Box::from_raw(adapter) });
}

/// Functions that a table must have, and that do nothing of use for a bench.
macro_rules! refused {
    ($($name:ident($($parameter:ty),*);)*) => {
        $(unsafe extern "efiapi" fn $name($(_: $parameter),*) -> NTSTATUS {
            STATUS_NOT_SUPPORTED
        })*
    };
}

/// Functions that are done when they are called.
macro_rules! granted {
    ($($name:ident($($parameter:ty),*);)*) => {
        $(unsafe extern "efiapi" fn $name($(_: $parameter),*) -> NTSTATUS {
            STATUS_SUCCESS
        })*
    };
}

type Context = *mut c_void;
type Created = NDK_FN_CREATE_COMPLETION;
type Requested = NDK_FN_REQUEST_COMPLETION;

refused! {
    query_extension(*mut NDK_OBJECT_HEADER, *mut GUID, NDK_VERSION, *mut NDK_EXTENSION_INTERFACE);
}

static ADAPTER: NDK_ADAPTER_DISPATCH = NDK_ADAPTER_DISPATCH {
    NdkQueryExtension: query_extension,
    NdkQueryAdapterInfo: query_info,
    NdkCreateCq: create_cq,
    NdkCreatePd: create_pd,
    NdkCreateSharedEndpoint: create_shared_endpoint,
    NdkCreateConnector: create_connector,
    NdkCreateListener: create_listener,
    NdkBuildLAM: build_lam,
    NdkReleaseLAM: release_lam,
};

refused! {
    query_info(*mut NDK_ADAPTER, *mut NDK_ADAPTER_INFO, *mut u32);
    create_shared_endpoint(
        *mut NDK_ADAPTER, *const SOCKADDR, u32, Created, Context, *mut *mut NDK_SHARED_ENDPOINT
    );
    create_listener(
        *mut NDK_ADAPTER, NDK_FN_CONNECT_EVENT_CALLBACK, Context, Created, Context, *mut *mut NDK_LISTENER
    );
    build_lam(
        *mut NDK_ADAPTER, *mut MDL, usize, Option<Requested>, Context, *mut NDK_LOGICAL_ADDRESS_MAPPING, *mut u32, *mut u32
    );
}

unsafe extern "efiapi" fn release_lam(_: *mut NDK_ADAPTER, _: *mut NDK_LOGICAL_ADDRESS_MAPPING) {}

unsafe extern "efiapi" fn create_cq(
    _: *mut NDK_ADAPTER,
    _: u32,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    notification_context: *mut c_void,
    _: *mut GROUP_AFFINITY,
    _: Created,
    _: Context,
    out: *mut *mut NDK_CQ,
) -> NTSTATUS {
    let cq = Cq {
        ndk: NDK_CQ {
            Header: head(NdkObjectTypeCq),
            Dispatch: &CQ,
        },
        notification,
        context: notification_context,
        is_armed: Cell::new(false),
        result: Cell::new(None),
        dpc: UnsafeCell::new(KDPC::ZEROED),
    };
    // SAFETY: a completion queue, which is there when its DPC runs.
    unsafe {
        let status = give(cq, out);
        let cq = (*out).cast::<Cq>();
        KeInitializeDpc((*cq).dpc.get(), notify, cq.cast());
        status
    }
}

unsafe extern "efiapi" fn create_pd(
    _: *mut NDK_ADAPTER,
    _: Created,
    _: Context,
    out: *mut *mut NDK_PD,
) -> NTSTATUS {
    let pd = NDK_PD {
        Header: head(NdkObjectTypePd),
        Dispatch: &PD,
    };
    // SAFETY: a protection domain.
    unsafe { give(pd, out) }
}

unsafe extern "efiapi" fn create_connector(
    _: *mut NDK_ADAPTER,
    _: Created,
    _: Context,
    out: *mut *mut NDK_CONNECTOR,
) -> NTSTATUS {
    let connector = NDK_CONNECTOR {
        Header: head(NdkObjectTypeConnector),
        Dispatch: &CONNECTOR,
    };
    // SAFETY: a connector.
    unsafe { give(connector, out) }
}

static CQ: NDK_CQ_DISPATCH = NDK_CQ_DISPATCH {
    NdkCloseCq: close::<Cq>,
    NdkQueryExtension: query_extension,
    NdkResizeCq: resize,
    NdkArmCq: arm,
    NdkGetCqResults: results,
    NdkControlCqInterruptModeration: moderate,
    NdkGetCqResultsEx: results_ex,
};

refused! {
    resize(*mut NDK_CQ, u32, Requested, Context);
    moderate(*mut NDK_CQ, u32, u32);
}

/// # Safety
/// `cq` is of `create_cq`, and open.
unsafe fn cq_of<'a>(cq: *mut NDK_CQ) -> &'a Cq {
    // SAFETY: the caller's promise; it is changed through its cells alone.
    unsafe { &*cq.cast() }
}

impl Cq {
    /// Notifies, from a DPC, if that is due.
    fn notify_if_due(&self) {
        if self.is_armed.get() && self.result.get().is_some() {
            self.is_armed.set(false);
            // SAFETY: initialised when the queue was created.
            unsafe { KeInsertQueueDpc(self.dpc.get(), null_mut(), null_mut()) };
        }
    }
}

unsafe extern "efiapi" fn notify(_: *mut KDPC, cq: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: the queue that the DPC is part of, and its consumer's callback.
    unsafe {
        let cq = cq_of(cq.cast());
        (cq.notification)(cq.context, STATUS_SUCCESS);
    }
}

unsafe extern "efiapi" fn arm(cq: *mut NDK_CQ, _: u32) {
    // SAFETY: open, as the consumer promises.
    let cq = unsafe { cq_of(cq) };
    cq.is_armed.set(true);
    cq.notify_if_due();
}

unsafe extern "efiapi" fn results(cq: *mut NDK_CQ, results: *mut NDK_RESULT, room: u32) -> u32 {
    // SAFETY: open, as the consumer promises.
    let cq = unsafe { cq_of(cq) };
    if room == 0 {
        return 0;
    }
    let Some(result) = cq.result.take() else {
        return 0;
    };
    // SAFETY: the consumer's array, which has room.
    unsafe { results.write(result) };
    1
}

/// The longer results are not kept.
unsafe extern "efiapi" fn results_ex(_: *mut NDK_CQ, _: *mut NDK_RESULT_EX, _: u32) -> u32 {
    0
}

static PD: NDK_PD_DISPATCH = NDK_PD_DISPATCH {
    NdkClosePd: close::<NDK_PD>,
    NdkQueryExtension: query_extension,
    NdkCreateMr: create_mr,
    NdkCreateMw: create_mw,
    NdkCreateSrq: create_srq,
    NdkCreateQp: create_qp,
    NdkCreateQpWithSrq: create_qp_with_srq,
    NdkGetPrivilegedMemoryRegionToken: privileged_token,
};

refused! {
    create_mw(*mut NDK_PD, Created, Context, *mut *mut NDK_MW);
    create_srq(
        *mut NDK_PD, u32, u32, u32, Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>, Context, *mut GROUP_AFFINITY, Created, Context,
        *mut *mut NDK_SRQ
    );
    create_qp_with_srq(
        *mut NDK_PD, *mut NDK_CQ, *mut NDK_CQ, *mut NDK_SRQ, Context, u32, u32, u32, Created, Context, *mut *mut NDK_QP
    );
}

unsafe extern "efiapi" fn privileged_token(_: *mut NDK_PD, token: *mut u32) {
    // SAFETY: the consumer's variable.
    unsafe { *token = 1 };
}

unsafe extern "efiapi" fn create_mr(
    _: *mut NDK_PD,
    _: BOOLEAN,
    _: Created,
    _: Context,
    out: *mut *mut NDK_MR,
) -> NTSTATUS {
    let mr = NDK_MR {
        Header: head(NdkObjectTypeMr),
        Dispatch: &MR,
    };
    // SAFETY: a memory region.
    unsafe { give(mr, out) }
}

unsafe extern "efiapi" fn create_qp(
    _: *mut NDK_PD,
    _: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    context: *mut c_void,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: u32,
    _: Created,
    _: Context,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    let qp = Qp {
        ndk: NDK_QP {
            Header: head(NdkObjectTypeQp),
            Dispatch: &QP,
        },
        context,
        initiator_cq: initiator_cq.cast(),
    };
    // SAFETY: a queue pair.
    unsafe { give(qp, out) }
}

static MR: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: close::<NDK_MR>,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register,
    NdkDeregisterMr: deregister,
    NdkInitializeFastRegisterMr: initialize_fast_register,
    NdkGetRemoteTokenFromMr: token,
    NdkGetLocalTokenFromMr: token,
};

granted! {
    register(*mut NDK_MR, *mut MDL, usize, u32, Requested, Context);
    deregister(*mut NDK_MR, Requested, Context);
}

refused! {
    initialize_fast_register(*mut NDK_MR, u32, BOOLEAN, Requested, Context);
}

unsafe extern "efiapi" fn token(_: *mut NDK_MR) -> u32 {
    0x100
}

static QP: NDK_QP_DISPATCH = NDK_QP_DISPATCH {
    NdkCloseQp: close::<Qp>,
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

refused! {
    receive(*mut NDK_QP, Context, *const NDK_SGE, u32);
    bind(*mut NDK_QP, Context, *mut NDK_MR, *mut NDK_MW, *mut c_void, usize, u32);
    fast_register(
        *mut NDK_QP, Context, *mut NDK_MR, u32, *const NDK_LOGICAL_ADDRESS, u32, usize, *mut c_void, u32
    );
    invalidate(*mut NDK_QP, Context, *mut NDK_OBJECT_HEADER, u32);
    read(*mut NDK_QP, Context, *const NDK_SGE, u32, u64, u32, u32);
    send_and_invalidate(*mut NDK_QP, Context, *const NDK_SGE, u32, u32, u32);
}

/// There is nothing to flush: a request has its result when it is posted.
unsafe extern "efiapi" fn flush(_: *mut NDK_QP) {}

/// Any request.
///
/// # Safety
/// `qp` is of `create_qp`, and open.
unsafe fn post(qp: *mut NDK_QP, request: Context) -> NTSTATUS {
    // SAFETY: the caller's promise; its completion queue is closed after it.
    let (qp, cq) = unsafe {
        let qp = &*qp.cast::<Qp>();
        (qp, &*qp.initiator_cq)
    };
    if cq.result.get().is_some() {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    cq.result.set(Some(NDK_RESULT {
        Status: STATUS_SUCCESS,
        BytesTransferred: 0,
        QPContext: qp.context,
        RequestContext: request,
    }));
    cq.notify_if_due();
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn send(
    qp: *mut NDK_QP,
    request: Context,
    _: *const NDK_SGE,
    _: u32,
    _: u32,
) -> NTSTATUS {
    // SAFETY: open, as the consumer promises.
    unsafe { post(qp, request) }
}

unsafe extern "efiapi" fn write(
    qp: *mut NDK_QP,
    request: Context,
    _: *const NDK_SGE,
    _: u32,
    _: u64,
    _: u32,
    _: u32,
) -> NTSTATUS {
    // SAFETY: open, as the consumer promises.
    unsafe { post(qp, request) }
}

static CONNECTOR: NDK_CONNECTOR_DISPATCH = NDK_CONNECTOR_DISPATCH {
    NdkCloseConnector: close::<NDK_CONNECTOR>,
    NdkQueryExtension: query_extension,
    NdkConnect: connect,
    NdkConnectWithSharedEndpoint: connect_with_shared_endpoint,
    NdkCompleteConnect: complete_connect,
    NdkAccept: accept,
    NdkReject: reject,
    NdkGetConnectionData: connection_data,
    NdkGetLocalAddress: address,
    NdkGetPeerAddress: address,
    NdkDisconnect: disconnect,
    NdkCompleteConnectEx: complete_connect_ex,
    NdkAcceptEx: accept_ex,
};

type Disconnected = Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>;
type DisconnectedEx = Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>;

granted! {
    connect(
        *mut NDK_CONNECTOR, *mut NDK_QP, *const SOCKADDR, u32, *const SOCKADDR, u32, u32, u32, *const c_void, u32, Requested, Context
    );
    complete_connect(*mut NDK_CONNECTOR, Disconnected, Context, Requested, Context);
    disconnect(*mut NDK_CONNECTOR, Requested, Context);
}

refused! {
    connect_with_shared_endpoint(
        *mut NDK_CONNECTOR, *mut NDK_QP, *mut NDK_SHARED_ENDPOINT, *const SOCKADDR, u32, u32, u32, *const c_void, u32, Requested, Context
    );
    complete_connect_ex(*mut NDK_CONNECTOR, DisconnectedEx, Context, Requested, Context);
    accept(*mut NDK_CONNECTOR, *mut NDK_QP, u32, u32, *const c_void, u32, Disconnected, Context, Requested, Context);
    accept_ex(*mut NDK_CONNECTOR, *mut NDK_QP, u32, u32, *const c_void, u32, DisconnectedEx, Context, Requested, Context);
    reject(*mut NDK_CONNECTOR, *const c_void, u32);
    address(*mut NDK_CONNECTOR, *mut SOCKADDR, *mut u32);
}

/// The peer has no private data.
unsafe extern "efiapi" fn connection_data(
    _: *mut NDK_CONNECTOR,
    inbound: *mut u32,
    outbound: *mut u32,
    _: *mut c_void,
    length: *mut u32,
) -> NTSTATUS {
    // SAFETY: the consumer's variables, or null.
    unsafe {
        for out in [inbound, outbound, length] {
            if let Some(out) = out.as_mut() {
                *out = 0;
            }
        }
    }
    STATUS_SUCCESS
}
