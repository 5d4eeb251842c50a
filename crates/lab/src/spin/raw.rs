//! The dispatch tables as a consumer calls them, without anything in between that could be kind to it.
//!
//! Contexts are numbers: that of a request names its [`Token`](super::model::Token), that of an object's event the object.
#![allow(
    unsafe_code,
    reason = "a consumer's calls through tables of functions, with its pointers"
)]
#![allow(
    clippy::too_many_arguments,
    reason = "NDKPI's functions have that many"
)]

use super::callbacks;
use ndis_sys::imports::{
    KeGetCurrentIrql, KeInitializeDpc, KeInsertQueueDpc, KeSetTargetProcessorDpcEx,
};
use ndis_sys::wdm::{KDPC, PROCESSOR_NUMBER};
use ndkpi::*;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::ptr::{NonNull, null_mut, without_provenance_mut};

/// An object that a provider handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Raw(NonNull<NDK_OBJECT_HEADER>);

impl Raw {
    pub(super) fn new<T>(object: *mut T) -> Option<Raw> {
        NonNull::new(object.cast()).map(Raw)
    }

    fn at<T>(self) -> *mut T {
        self.0.as_ptr().cast()
    }

    /// Its dispatch table, which every object has right behind its header.
    fn table<T>(self) -> &'static T {
        // SAFETY: the walk only calls what is open: its table is there, and a table never goes.
        unsafe {
            &*self
                .at::<NDK_OBJECT_HEADER>()
                .add(1)
                .cast::<*const T>()
                .read()
        }
    }
}

fn context(number: u64) -> *mut c_void {
    without_provenance_mut(number as usize)
}

/// The IRQL of whoever calls.
pub(super) fn irql() -> u8 {
    // SAFETY: callable anywhere.
    unsafe { KeGetCurrentIrql() }
}

// What follows calls the consumer's side of NDKPI: objects are open and arguments are what the walk chose, which stays within what the
// interface allows. The verifier watches.

/// A function of slot 0.
pub(super) fn close(object: Raw, token: u64) -> NTSTATUS {
    let close = object.table::<NDK_FN_CLOSE_OBJECT>();
    // SAFETY: as above.
    unsafe { close(object.at(), on_close, context(token)) }
}

pub(super) fn query_extension(object: Raw, is_adapter: bool, version: NDK_VERSION) -> NTSTATUS {
    let slot = usize::from(!is_adapter);
    let (mut id, mut found) = (
        GUID {
            Data1: 0x7653_2dc4,
            ..GUID::ZEROED
        },
        MaybeUninit::<NDK_EXTENSION_INTERFACE>::zeroed(),
    );
    let table: *const NDK_FN_QUERY_EXTENSION_INTERFACE = object.table();
    // SAFETY: as above.
    unsafe { (*table.add(slot))(object.at(), &raw mut id, version, found.as_mut_ptr()) }
}

pub(super) fn query_info(adapter: Raw, room: u32) -> NTSTATUS {
    let mut info = NDK_ADAPTER_INFO::ZEROED;
    let mut size = room.min(size_of::<NDK_ADAPTER_INFO>() as u32);
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkQueryAdapterInfo)(adapter.at(), &raw mut info, &raw mut size) }
}

/// Calls a create function: its status, and the object if there is one now.
fn create<T>(call: impl FnOnce(*mut *mut T) -> NTSTATUS) -> (NTSTATUS, Option<Raw>) {
    let mut out: *mut T = null_mut();
    let status = call(&raw mut out);
    (status, Raw::new(out))
}

pub(super) fn create_cq(adapter: Raw, depth: u32, cq: u64, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateCq)(
            adapter.at(),
            depth,
            on_cq,
            context(cq),
            null_mut(),
            on_create,
            context(token),
            out,
        )
    })
}

pub(super) fn create_pd(adapter: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe { (table.NdkCreatePd)(adapter.at(), on_create, context(token), out) })
}

pub(super) fn create_connector(adapter: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateConnector)(adapter.at(), on_create, context(token), out)
    })
}

pub(super) fn create_listener(adapter: Raw, listener: u64, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateListener)(
            adapter.at(),
            on_connect,
            context(listener),
            on_create,
            context(token),
            out,
        )
    })
}

/// A socket address in C's form.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Address {
    bytes: [u8; 28],
    length: u32,
}

impl Address {
    pub(super) fn new(address: SocketAddr) -> Address {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (AF_INET, 16)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                (AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&family.to_le_bytes());
        Address { bytes, length }
    }

    /// The same, said to be that long at most.
    pub(super) fn cut(mut self, length: u32) -> Address {
        self.length = self.length.min(length);
        self
    }

    /// With another family.
    pub(super) fn family(mut self, family: u16) -> Address {
        self.bytes[..2].copy_from_slice(&family.to_le_bytes());
        self
    }

    fn at(&self) -> *const SOCKADDR {
        self.bytes.as_ptr().cast()
    }
}

/// Calls a function that writes an address into a buffer of that size. The address that it wrote.
fn address(
    room: u32,
    call: impl FnOnce(*mut SOCKADDR, *mut u32) -> NTSTATUS,
) -> (NTSTATUS, Option<SocketAddr>) {
    let mut buffer = Address {
        bytes: [0; 28],
        length: room.min(28),
    };
    let status = call(buffer.bytes.as_mut_ptr().cast(), &raw mut buffer.length);
    let bytes = &buffer.bytes;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip: Option<IpAddr> = match u16::from_le_bytes([bytes[0], bytes[1]]) {
        AF_INET => bytes[4..].first_chunk::<4>().map(|ip| (*ip).into()),
        AF_INET6 => bytes[8..].first_chunk::<16>().map(|ip| (*ip).into()),
        _ => None,
    };
    (status, ip.map(|ip| SocketAddr::new(ip, port)))
}

pub(super) fn create_shared_endpoint(
    adapter: Raw,
    at: &Address,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateSharedEndpoint)(
            adapter.at(),
            at.at(),
            at.length,
            on_create,
            context(token),
            out,
        )
    })
}

/// `lam` has room for `size` bytes and outlives the mapping.
pub(super) fn build_lam(
    adapter: Raw,
    mdl: *mut ndis_sys::wdm::MDL,
    length: usize,
    with_completion: bool,
    lam: *mut u8,
    size: &mut u32,
    first_byte: &mut u32,
    token: u64,
) -> NTSTATUS {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    let completion = with_completion.then_some(on_request as NDK_FN_REQUEST_COMPLETION);
    // SAFETY: as above.
    unsafe {
        (table.NdkBuildLAM)(
            adapter.at(),
            mdl.cast(),
            length,
            completion,
            context(token),
            lam.cast(),
            size,
            first_byte,
        )
    }
}

/// The page addresses of a mapping.
pub(super) fn pages(lam: *const u8, into: &mut Vec<NDK_LOGICAL_ADDRESS>) {
    let lam = lam.cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
    // SAFETY: a mapping that was built, with as many addresses as it says.
    unsafe {
        let count = (*lam).AdapterPageCount as usize;
        let first = (&raw const (*lam).AdapterPageArray).cast::<NDK_LOGICAL_ADDRESS>();
        into.extend((0..count).map(|index| first.add(index).read()));
    }
}

pub(super) fn release_lam(adapter: Raw, lam: *mut u8) {
    let table = adapter.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkReleaseLAM)(adapter.at(), lam.cast()) }
}

pub(super) fn create_mr(pd: Raw, fast: bool, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateMr)(pd.at(), u8::from(fast), on_create, context(token), out)
    })
}

pub(super) fn create_mw(pd: Raw, token: u64) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe { (table.NdkCreateMw)(pd.at(), on_create, context(token), out) })
}

pub(super) fn create_srq(
    pd: Raw,
    depth: u32,
    sges: u32,
    threshold: u32,
    notified: bool,
    srq: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        (table.NdkCreateSrq)(
            pd.at(),
            depth,
            sges,
            threshold,
            notified.then_some(on_srq as NDK_FN_SRQ_NOTIFICATION_CALLBACK),
            context(srq),
            null_mut(),
            on_create,
            context(token),
            out,
        )
    })
}

/// Sizes of a queue pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) receive_depth: u32,
    pub(super) initiator_depth: u32,
    pub(super) receive_sges: u32,
    pub(super) initiator_sges: u32,
    pub(super) inline: u32,
}

pub(super) fn create_qp(
    pd: Raw,
    receive_cq: Raw,
    initiator_cq: Raw,
    srq: Option<Raw>,
    sizes: Sizes,
    qp: u64,
    token: u64,
) -> (NTSTATUS, Option<Raw>) {
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as above.
    create(|out| unsafe {
        match srq {
            None => (table.NdkCreateQp)(
                pd.at(),
                receive_cq.at(),
                initiator_cq.at(),
                context(qp),
                sizes.receive_depth,
                sizes.initiator_depth,
                sizes.receive_sges,
                sizes.initiator_sges,
                sizes.inline,
                on_create,
                context(token),
                out,
            ),
            Some(srq) => (table.NdkCreateQpWithSrq)(
                pd.at(),
                receive_cq.at(),
                initiator_cq.at(),
                srq.at(),
                context(qp),
                sizes.initiator_depth,
                sizes.initiator_sges,
                sizes.inline,
                on_create,
                context(token),
                out,
            ),
        }
    })
}

pub(super) fn privileged_token(pd: Raw) -> u32 {
    let mut token = 0;
    let table = pd.table::<NDK_PD_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkGetPrivilegedMemoryRegionToken)(pd.at(), &raw mut token) };
    token
}

pub(super) fn resize_cq(cq: Raw, depth: u32, token: u64) -> NTSTATUS {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkResizeCq)(cq.at(), depth, on_request, context(token)) }
}

pub(super) fn arm_cq(cq: Raw, kind: u32) {
    // SAFETY: as above.
    unsafe { (cq.table::<NDK_CQ_DISPATCH>().NdkArmCq)(cq.at(), kind) }
}

pub(super) fn moderate(cq: Raw, interval: u32, count: u32) -> NTSTATUS {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkControlCqInterruptModeration)(cq.at(), interval, count) }
}

/// A result as the walk looks at it.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) status: NTSTATUS,
    pub(super) qp: u64,
    pub(super) request: u64,
    /// Only the Ex form tells.
    pub(super) kind: Option<NDK_OPERATION_TYPE>,
}

/// Results taken at a time.
pub(super) const BATCH: usize = 8;

/// Takes up to `room` results.
pub(super) fn results(cq: Raw, room: usize, ex: bool, into: &mut [Option<Taken>; BATCH]) -> usize {
    let table = cq.table::<NDK_CQ_DISPATCH>();
    let room = room.min(BATCH);
    if ex {
        let mut results = [NDK_RESULT_EX::ZEROED; BATCH];
        // SAFETY: as above; there is room for so many.
        let count =
            unsafe { (table.NdkGetCqResultsEx)(cq.at(), results.as_mut_ptr(), room as u32) };
        for (into, result) in into.iter_mut().zip(&results[..count as usize]) {
            *into = Some(Taken {
                status: result.Status,
                qp: result.QPContext.addr() as u64,
                request: result.RequestContext.addr() as u64,
                kind: Some(result.Type),
            });
        }
        return count as usize;
    }
    let mut results = [NDK_RESULT::ZEROED; BATCH];
    // SAFETY: as above; there is room for so many.
    let count = unsafe { (table.NdkGetCqResults)(cq.at(), results.as_mut_ptr(), room as u32) };
    for (into, result) in into.iter_mut().zip(&results[..count as usize]) {
        *into = Some(Taken {
            status: result.Status,
            qp: result.QPContext.addr() as u64,
            request: result.RequestContext.addr() as u64,
            kind: None,
        });
    }
    count as usize
}

pub(super) fn flush(qp: Raw) {
    // SAFETY: as above.
    unsafe { (qp.table::<NDK_QP_DISPATCH>().NdkFlush)(qp.at()) }
}

/// An element of a list.
pub(super) fn sge(address: u64, length: u32, token: u32) -> NDK_SGE {
    NDK_SGE {
        Anonymous: NDK_SGE_ADDRESS {
            VirtualAddress: context(address),
        },
        Length: length,
        MemoryRegionToken: token,
    }
}

/// A request with a list of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transfer {
    Send,
    SendAndInvalidate { token: u32 },
    Read { address: u64, token: u32 },
    Write { address: u64, token: u32 },
    Receive,
}

pub(super) fn post(qp: Raw, what: Transfer, request: u64, sgl: &[NDK_SGE], flags: u32) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    let (qp, request, list, count) = (qp.at(), context(request), sgl.as_ptr(), sgl.len() as u32);
    // SAFETY: as above; the list is valid during the call.
    unsafe {
        match what {
            Transfer::Send => (table.NdkSend)(qp, request, list, count, flags),
            Transfer::SendAndInvalidate { token } => {
                (table.NdkSendAndInvalidate)(qp, request, list, count, flags, token)
            }
            Transfer::Read { address, token } => {
                (table.NdkRead)(qp, request, list, count, address, token, flags)
            }
            Transfer::Write { address, token } => {
                (table.NdkWrite)(qp, request, list, count, address, token, flags)
            }
            Transfer::Receive => (table.NdkReceive)(qp, request, list, count),
        }
    }
}

pub(super) fn srq_receive(srq: Raw, request: u64, sgl: &[NDK_SGE]) -> NTSTATUS {
    let table = srq.table::<NDK_SRQ_DISPATCH>();
    // SAFETY: as above; the list is valid during the call.
    unsafe { (table.NdkSrqReceive)(srq.at(), context(request), sgl.as_ptr(), sgl.len() as u32) }
}

pub(super) fn modify_srq(srq: Raw, depth: u32, threshold: u32, token: u64) -> NTSTATUS {
    let table = srq.table::<NDK_SRQ_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkModifySrq)(srq.at(), depth, threshold, on_request, context(token)) }
}

pub(super) fn fast_register(
    qp: Raw,
    request: u64,
    mr: Raw,
    pages: &[NDK_LOGICAL_ADDRESS],
    first_byte: u32,
    length: usize,
    base: u64,
    flags: u32,
) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as above; the pages are valid during the call.
    unsafe {
        (table.NdkFastRegister)(
            qp.at(),
            context(request),
            mr.at(),
            pages.len() as u32,
            pages.as_ptr(),
            first_byte,
            length,
            context(base),
            flags,
        )
    }
}

pub(super) fn bind(
    qp: Raw,
    request: u64,
    mr: Raw,
    mw: Raw,
    address: u64,
    length: usize,
    flags: u32,
) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as above.
    unsafe {
        (table.NdkBind)(
            qp.at(),
            context(request),
            mr.at(),
            mw.at(),
            context(address),
            length,
            flags,
        )
    }
}

pub(super) fn invalidate(qp: Raw, request: u64, what: Raw, flags: u32) -> NTSTATUS {
    let table = qp.table::<NDK_QP_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkInvalidate)(qp.at(), context(request), what.at(), flags) }
}

pub(super) fn register_mr(
    mr: Raw,
    mdl: *mut ndis_sys::wdm::MDL,
    length: usize,
    flags: u32,
    token: u64,
) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as above; whoever calls keeps the MDL until the region is deregistered.
    unsafe {
        (table.NdkRegisterMr)(
            mr.at(),
            mdl.cast(),
            length,
            flags,
            on_request,
            context(token),
        )
    }
}

pub(super) fn deregister_mr(mr: Raw, token: u64) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkDeregisterMr)(mr.at(), on_request, context(token)) }
}

pub(super) fn initialize_fast(mr: Raw, pages: u32, remote: bool, token: u64) -> NTSTATUS {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as above.
    unsafe {
        (table.NdkInitializeFastRegisterMr)(
            mr.at(),
            pages,
            u8::from(remote),
            on_request,
            context(token),
        )
    }
}

pub(super) fn mr_token(mr: Raw, remote: bool) -> u32 {
    let table = mr.table::<NDK_MR_DISPATCH>();
    // SAFETY: as above.
    unsafe {
        if remote {
            (table.NdkGetRemoteTokenFromMr)(mr.at())
        } else {
            (table.NdkGetLocalTokenFromMr)(mr.at())
        }
    }
}

pub(super) fn mw_token(mw: Raw) -> u32 {
    // SAFETY: as above.
    unsafe { (mw.table::<NDK_MW_DISPATCH>().NdkGetRemoteTokenFromMw)(mw.at()) }
}

/// What both ends of a connection say.
pub(super) struct Offer<'a> {
    pub(super) inbound: u32,
    pub(super) outbound: u32,
    pub(super) data: &'a [u8],
}

impl Offer<'_> {
    fn data(&self) -> (*const c_void, u32) {
        let at = if self.data.is_empty() {
            std::ptr::null()
        } else {
            self.data.as_ptr().cast()
        };
        (at, self.data.len() as u32)
    }
}

pub(super) fn connect(
    connector: Raw,
    qp: Raw,
    from: &Address,
    to: &Address,
    offer: &Offer<'_>,
    token: u64,
) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (data, length) = offer.data();
    // SAFETY: as above; addresses and data are valid during the call.
    unsafe {
        (table.NdkConnect)(
            connector.at(),
            qp.at(),
            from.at(),
            from.length,
            to.at(),
            to.length,
            offer.inbound,
            offer.outbound,
            data,
            length,
            on_request,
            context(token),
        )
    }
}

pub(super) fn connect_shared(
    connector: Raw,
    qp: Raw,
    endpoint: Raw,
    to: &Address,
    offer: &Offer<'_>,
    token: u64,
) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (data, length) = offer.data();
    // SAFETY: as above; address and data are valid during the call.
    unsafe {
        (table.NdkConnectWithSharedEndpoint)(
            connector.at(),
            qp.at(),
            endpoint.at(),
            to.at(),
            to.length,
            offer.inbound,
            offer.outbound,
            data,
            length,
            on_request,
            context(token),
        )
    }
}

/// Which disconnect event is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    None,
    Plain,
    /// By the Ex form of the function.
    Ex,
    /// By the Ex form, without an event.
    ExNone,
}

impl Event {
    pub(super) fn is_ex(self) -> bool {
        matches!(self, Event::Ex | Event::ExNone)
    }

    fn plain(self) -> Option<NDK_FN_DISCONNECT_EVENT_CALLBACK> {
        (self == Event::Plain).then_some(on_disconnect as NDK_FN_DISCONNECT_EVENT_CALLBACK)
    }

    fn ex(self) -> Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX> {
        (self == Event::Ex).then_some(on_disconnect_ex as NDK_FN_DISCONNECT_EVENT_CALLBACK_EX)
    }
}

pub(super) fn complete_connect(connector: Raw, event: Event, id: u64, token: u64) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (connector, id, token) = (connector.at(), context(id), context(token));
    // SAFETY: as above.
    unsafe {
        if event.is_ex() {
            (table.NdkCompleteConnectEx)(connector, event.ex(), id, on_request, token)
        } else {
            (table.NdkCompleteConnect)(connector, event.plain(), id, on_request, token)
        }
    }
}

pub(super) fn accept(
    connector: Raw,
    qp: Raw,
    offer: &Offer<'_>,
    event: Event,
    id: u64,
    token: u64,
) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let (data, length) = offer.data();
    let (connector, qp, id, token) = (connector.at(), qp.at(), context(id), context(token));
    let (inbound, outbound) = (offer.inbound, offer.outbound);
    // SAFETY: as above; the data is valid during the call.
    unsafe {
        if event.is_ex() {
            let accept = table.NdkAcceptEx;
            accept(
                connector,
                qp,
                inbound,
                outbound,
                data,
                length,
                event.ex(),
                id,
                on_request,
                token,
            )
        } else {
            let accept = table.NdkAccept;
            accept(
                connector,
                qp,
                inbound,
                outbound,
                data,
                length,
                event.plain(),
                id,
                on_request,
                token,
            )
        }
    }
}

pub(super) fn reject(connector: Raw, data: &[u8]) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as above; the data is valid during the call.
    unsafe { (table.NdkReject)(connector.at(), data.as_ptr().cast(), data.len() as u32) }
}

/// NdkGetConnectionData, and the first bytes of the data.
pub(super) fn connection_data(
    connector: Raw,
    room: usize,
    with_limits: bool,
) -> (NTSTATUS, [u8; 8]) {
    let mut data = [0_u8; 256];
    let (mut inbound, mut outbound, mut length) = (0, 0, room.min(data.len()) as u32);
    let at: *mut c_void = if room == 0 {
        null_mut()
    } else {
        data.as_mut_ptr().cast()
    };
    let (inbound, outbound): (*mut u32, *mut u32) = if with_limits {
        (&raw mut inbound, &raw mut outbound)
    } else {
        (null_mut(), null_mut())
    };
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as above.
    let status = unsafe {
        (table.NdkGetConnectionData)(connector.at(), inbound, outbound, at, &raw mut length)
    };
    (status, *data.first_chunk().expect("more than 8 bytes"))
}

pub(super) fn connector_address(connector: Raw, peer: bool, room: u32) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    let get = if peer {
        table.NdkGetPeerAddress
    } else {
        table.NdkGetLocalAddress
    };
    // SAFETY: as above; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        get(connector.at(), buffer, length)
    })
    .0
}

pub(super) fn disconnect(connector: Raw, token: u64) -> NTSTATUS {
    let table = connector.table::<NDK_CONNECTOR_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkDisconnect)(connector.at(), on_request, context(token)) }
}

pub(super) fn listen(listener: Raw, at: &Address, token: u64) -> NTSTATUS {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as above.
    unsafe {
        (table.NdkListen)(
            listener.at(),
            at.at(),
            at.length,
            on_request,
            context(token),
        )
    }
}

pub(super) fn listener_address(listener: Raw, room: u32) -> (NTSTATUS, Option<SocketAddr>) {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as above; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        (table.NdkGetLocalAddress)(listener.at(), buffer, length)
    })
}

pub(super) fn control(listener: Raw, pause: bool) {
    let table = listener.table::<NDK_LISTENER_DISPATCH>();
    // SAFETY: as above.
    unsafe { (table.NdkControlConnectEvents)(listener.at(), u8::from(pause)) }
}

pub(super) fn endpoint_address(endpoint: Raw, room: u32) -> NTSTATUS {
    let table = endpoint.table::<NDK_SHARED_ENDPOINT_DISPATCH>();
    // SAFETY: as above; `address` passes a buffer with its length.
    address(room, |buffer, length| unsafe {
        (table.NdkGetLocalAddress)(endpoint.at(), buffer, length)
    })
    .0
}

// The consumer's callbacks.

unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    callbacks::created(context.addr(), status, Raw::new(object));
}

unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    callbacks::completed(context.addr(), status);
}

unsafe extern "efiapi" fn on_close(context: *mut c_void) {
    callbacks::closed(context.addr());
}

unsafe extern "efiapi" fn on_cq(context: *mut c_void, status: NTSTATUS) {
    callbacks::cq_notified(context.addr(), status);
}

unsafe extern "efiapi" fn on_srq(context: *mut c_void, status: NTSTATUS) {
    callbacks::srq_notified(context.addr(), status);
}

unsafe extern "efiapi" fn on_connect(context: *mut c_void, connector: *mut NDK_CONNECTOR) {
    if let Some(connector) = Raw::new(connector) {
        callbacks::connecting(context.addr(), connector);
    }
}

unsafe extern "efiapi" fn on_disconnect(context: *mut c_void) {
    callbacks::disconnected(context.addr(), None);
}

unsafe extern "efiapi" fn on_disconnect_ex(context: *mut c_void, reason: u32) {
    callbacks::disconnected(context.addr(), Some(reason));
}

// Another processor.

/// A DPC that does something with a side.
pub(super) struct Elsewhere(Box<UnsafeCell<KDPC>>);

impl Elsewhere {
    /// Kernel code.
    pub(super) fn new() -> Elsewhere {
        Elsewhere(Box::new(UnsafeCell::new(KDPC::ZEROED)))
    }

    /// Binds it to a side and to a processor of its machine. Kernel code; it is not queued.
    pub(super) fn bind(&self, side: usize, processor: u8) {
        let mut number = PROCESSOR_NUMBER {
            Number: processor,
            ..PROCESSOR_NUMBER::ZEROED
        };
        // SAFETY: it is in a box and not queued.
        unsafe {
            KeInitializeDpc(self.0.get(), on_dpc, context(side as u64));
            KeSetTargetProcessorDpcEx(self.0.get(), &raw mut number);
        }
    }

    /// Queues it. Kernel code.
    pub(super) fn queue(&self) {
        // SAFETY: bound, and it stays until its machine has run what was queued.
        unsafe { KeInsertQueueDpc(self.0.get(), null_mut(), null_mut()) };
    }
}

unsafe extern "efiapi" fn on_dpc(
    _: *mut KDPC,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    callbacks::elsewhere(context.addr());
}
