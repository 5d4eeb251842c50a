//! NDK_QP: a queue pair, and the posting of work requests (page "NDKPI Work Request Posting Requirements").
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use ndis_sys::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_CQ, NDK_FN_CREATE_COMPLETION, NDK_OBJECT_HEADER, NDK_OP_FLAG_ALLOW_LOCAL_WRITE,
    NDK_OP_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_ALLOW_REMOTE_WRITE, NDK_OP_FLAG_DEFER,
    NDK_OP_FLAG_INLINE, NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE, NDK_OP_FLAG_READ_FENCE,
    NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT, NDK_OP_FLAG_SILENT_SUCCESS, NDK_PD, NDK_QP,
    NDK_QP_DISPATCH, NDK_SGE, NDK_SRQ, NDK_VERSION,
};
use roce::{Access, DestroyError, QpId, QpMemory, QpParams, SendFlags, SendOp, SendRequest, Sge};

use super::cq::Cq;
use super::fast;
use super::limits::{MAX_INLINE, MAX_QUEUE_DEPTH, MAX_SGE};
use super::mr::Mr;
use super::mw::{self, Mw};
use super::object::{self, Kind, Listed, Object, Quiet, Ref, header, query_extension};
use super::pd::Pd;
use super::srq::Srq;
use super::state::{QpEntry, State};
use super::status;

/// The private part of an NDK_QP.
pub struct Qp {
    id: QpId,
    /// The engine no longer knows the queue pair.
    gone: AtomicBool,
    _pd: Ref<Pd>,
    _receive_cq: Ref<Cq>,
    _initiator_cq: Ref<Cq>,
    _srq: Option<Ref<Srq>>,
}

static DISPATCH: NDK_QP_DISPATCH = NDK_QP_DISPATCH {
    NdkCloseQp: object::close::<Qp>,
    NdkQueryExtension: query_extension,
    NdkFlush: flush,
    NdkSend: send,
    NdkReceive: receive,
    NdkBind: mw::bind,
    NdkFastRegister: fast::fast_register,
    NdkInvalidate: invalidate,
    NdkRead: read,
    NdkWrite: write,
    NdkSendAndInvalidate: send_and_invalidate,
};

impl Kind for Qp {
    type Raw = NDK_QP;

    fn raw(version: NDK_VERSION) -> NDK_QP {
        NDK_QP {
            Header: header(version, ndkpi::NdkObjectTypeQp),
            Dispatch: &DISPATCH,
        }
    }

    /// The connectors that used it are closed; what is left is the NIC, which may still read memory for it.
    ///
    /// Decision X-30: entries of a closed QP stay in its CQs until they are polled; they carry contexts, not pointers.
    fn quiesce(qp: &Object<Self>) -> Quiet {
        qp.port().with(|state| {
            if qp.gone.load(Ordering::Relaxed) {
                return Quiet::Yes;
            }
            if state.engine.destroy_qp(state.now, qp.id) == Err(DestroyError::Busy) {
                // QpIdle takes the entry out and gives this reference back.
                object::hold_for_hardware(qp);
                return Quiet::NotYet;
            }
            state.qps.clear(qp.id.index());
            Quiet::Yes
        })
    }
}

impl Qp {
    /// The engine's queue pair.
    pub fn id(&self) -> QpId {
        self.id
    }

    /// The NIC has let go of a queue pair that was destroyed, and its entry has been taken out of the table. Under the port's lock.
    pub(super) fn gone_quiet(qp: &Object<Qp>) {
        if !qp.gone.swap(true, Ordering::Relaxed) {
            // SAFETY: quiesce took this reference when the engine answered that the queue pair is busy, after which it gives QpIdle
            // once.
            unsafe { object::hardware_done(qp) };
        }
    }
}

/// NdkCreateQp. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// Both CQs may be the same. A queue of depth 0 takes no requests.
///
/// # Safety
/// The consumer passes an open PD, open CQs and a place for the result.
pub unsafe extern "efiapi" fn create_qp(
    pd: *mut NDK_PD,
    receive_cq: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    qp_context: *mut c_void,
    receive_depth: u32,
    initiator_depth: u32,
    max_receive_sge: u32,
    max_initiator_sge: u32,
    inline_size: u32,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    unsafe {
        create(
            Queues {
                pd,
                receive_cq,
                initiator_cq,
                receives: Receives::Own {
                    depth: receive_depth,
                    max_sge: max_receive_sge,
                },
                qp_context,
                initiator_depth,
                max_initiator_sge,
                inline_size,
            },
            out,
        )
    }
}

/// NdkCreateQpWithSrq. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// NdkReceive on such a QP is STATUS_INVALID_DEVICE_REQUEST (decision X-65).
///
/// # Safety
/// The consumer passes an open PD, open CQs, an open SRQ and a place for the result.
pub unsafe extern "efiapi" fn create_qp_with_srq(
    pd: *mut NDK_PD,
    receive_cq: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    srq: *mut NDK_SRQ,
    qp_context: *mut c_void,
    initiator_depth: u32,
    max_initiator_sge: u32,
    inline_size: u32,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_QP,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    unsafe {
        create(
            Queues {
                pd,
                receive_cq,
                initiator_cq,
                receives: Receives::Shared(Object::<Srq>::from_raw(srq).reference()),
                qp_context,
                initiator_depth,
                max_initiator_sge,
                inline_size,
            },
            out,
        )
    }
}

/// Where a queue pair's receives come from.
enum Receives {
    Own { depth: u32, max_sge: u32 },
    Shared(Ref<Srq>),
}

/// What a queue pair is made of, as the consumer says it.
struct Queues {
    pd: *mut NDK_PD,
    receive_cq: *mut NDK_CQ,
    initiator_cq: *mut NDK_CQ,
    receives: Receives,
    qp_context: *mut c_void,
    initiator_depth: u32,
    max_initiator_sge: u32,
    inline_size: u32,
}

/// Makes a queue pair. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// PD and CQs are open, `out` is a place for the result.
unsafe fn create(queues: Queues, out: *mut *mut NDK_QP) -> NTSTATUS {
    let (rq_depth, max_recv_sge, srq) = match queues.receives {
        Receives::Own { depth, max_sge } => (depth, max_sge, None),
        Receives::Shared(srq) => (0, 0, Some(srq)),
    };
    if rq_depth > MAX_QUEUE_DEPTH
        || queues.initiator_depth > MAX_QUEUE_DEPTH
        || max_recv_sge as usize > MAX_SGE
        || queues.max_initiator_sge as usize > MAX_SGE
        || queues.inline_size as usize > MAX_INLINE
    {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: by the contract of this function.
    let (pd, receive_cq, initiator_cq) = unsafe {
        (
            Object::<Pd>::from_raw(queues.pd),
            Object::<Cq>::from_raw(queues.receive_cq),
            Object::<Cq>::from_raw(queues.initiator_cq),
        )
    };
    let params = QpParams {
        pd: pd.id(),
        send_cq: initiator_cq.id(),
        recv_cq: receive_cq.id(),
        srq: srq.as_ref().map(|srq| srq.id()),
        sq_depth: queues.initiator_depth,
        rq_depth,
        max_send_sge: queues.max_initiator_sge,
        max_recv_sge,
        // The adapter's limit for reads overrides the QP's (W-11).
        max_read_sge: MAX_SGE as u32,
        max_inline: queues.inline_size,
        atomics: false,
        context: queues.qp_context as u64,
    };
    let port = pd.port();
    if let Err(status) = port.ready() {
        return port.answer("NdkCreateQp", status);
    }
    let Ok(memory) = QpMemory::try_new(port.engine_config(), &params) else {
        return port.answer("NdkCreateQp", STATUS_INSUFFICIENT_RESOURCES);
    };
    let id = match port.peek(|state| state.engine.create_qp_in(memory)) {
        Ok(id) => id,
        Err(error) => return port.answer("NdkCreateQp", status::of_create(error)),
    };
    let body = Qp {
        id,
        gone: AtomicBool::new(false),
        _pd: pd.reference(),
        _receive_cq: receive_cq.reference(),
        _initiator_cq: initiator_cq.reference(),
        _srq: srq,
    };
    match pd.try_new_child(body) {
        Ok(qp) => {
            // SAFETY: quiesce, or QpIdle, takes the entry out.
            let object = unsafe { Listed::new(qp) };
            port.peek(|state| {
                state.qps.set(
                    id.index(),
                    QpEntry {
                        object,
                        connector: None,
                        spent: false,
                    },
                )
            });
            // SAFETY: by the contract of this function.
            unsafe { out.write(qp.as_raw()) };
            STATUS_SUCCESS
        }
        Err(_) => {
            port.peek(|state| {
                let _ = state.engine.destroy_qp(state.now, id);
            });
            port.answer("NdkCreateQp", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// NdkFlush: everything pending on both queues completes STATUS_CANCELLED. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-17: afterwards receives are accepted and complete cancelled; initiator posts on a QP that is or was
/// connected are STATUS_CONNECTION_INVALID.
unsafe extern "efiapi" fn flush(qp: *mut NDK_QP) {
    // SAFETY: the consumer passes an open QP.
    let qp = unsafe { Object::<Qp>::from_raw(qp) };
    qp.port().with(|state| state.engine.flush(state.now, qp.id));
}

/// The elements of a list, as the engine takes them. One more than any queue pair allows is enough for the engine to refuse the rest.
///
/// Decisions: too many elements are STATUS_DATA_OVERRUN, more bytes than MaxTransferLength
/// STATUS_BUFFER_OVERFLOW; an empty list is a transfer of no bytes. It is the engine that finds out, because it must let go of
/// deferred requests whenever a post fails.
///
/// # Safety
/// `sgl` has `count` elements.
pub(super) unsafe fn gather(sgl: *const NDK_SGE, count: u32) -> ArrayVec<Sge, { MAX_SGE + 1 }> {
    (0..(count as usize).min(MAX_SGE + 1))
        .map(|index| {
            // SAFETY: within the array by the caller's promise; both readings of the union are a 64-bit number.
            unsafe {
                let sge = &*sgl.add(index);
                Sge {
                    key: sge.MemoryRegionToken,
                    va: sge.Anonymous.VirtualAddress as u64,
                    len: sge.Length,
                }
            }
        })
        .collect()
}

/// Copies the data of an inline request, up to one byte more than any queue pair allows. The tokens are not looked at, and the number
/// of elements is not limited (W-08, W-10).
///
/// Decision X-58: more bytes than the QP was created for are STATUS_INVALID_PARAMETER.
///
/// # Safety
/// `sgl` has `count` elements, each with readable, resident memory at its virtual address.
unsafe fn copy_inline(sgl: *const NDK_SGE, count: u32) -> ArrayVec<u8, { MAX_INLINE + 1 }> {
    let mut data = ArrayVec::new();
    for index in 0..count as usize {
        // SAFETY: within the array by the caller's promise.
        let sge = unsafe { &*sgl.add(index) };
        let length = (sge.Length as usize).min(data.remaining_capacity());
        if length == 0 {
            continue;
        }
        // SAFETY: NDK guarantees that the memory of an inline element is resident and readable for the duration of the post.
        let bytes = unsafe {
            core::slice::from_raw_parts(sge.Anonymous.VirtualAddress.cast::<u8>(), length)
        };
        let _ = data.try_extend_from_slice(bytes);
    }
    data
}

/// Translates the flags of an initiator request. Those that mean nothing here are ignored (decision X-59).
fn send_flags(flags: u32) -> SendFlags {
    let mut translated = SendFlags::empty();
    translated.set(SendFlags::SILENT, flags & NDK_OP_FLAG_SILENT_SUCCESS != 0);
    translated.set(SendFlags::FENCE, flags & NDK_OP_FLAG_READ_FENCE != 0);
    translated.set(
        SendFlags::SOLICITED,
        flags & NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT != 0,
    );
    translated.set(SendFlags::DEFER, flags & NDK_OP_FLAG_DEFER != 0);
    translated
}

/// Posts to the initiator queue. Everything that was deferred before goes to the NIC when this fails inline, because leaving the
/// port's lock always sends what may be sent, and the engine lets go of deferred requests when a post fails.
///
/// # Safety
/// `qp` is open; `sgl` has `count` elements.
unsafe fn post(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    flags: u32,
    op: SendOp,
) -> NTSTATUS {
    // SAFETY: by the caller's promise.
    let qp = unsafe { Object::<Qp>::from_raw(qp) };
    // Decision X-20: INLINE is accepted on writes as on sends. A read has nothing to copy in: ignored there.
    let inline = flags & NDK_OP_FLAG_INLINE != 0 && !matches!(op, SendOp::Read { .. });
    let mut send_flags = send_flags(flags);
    send_flags.set(
        SendFlags::INVALIDATE_LOCAL,
        matches!(op, SendOp::Read { .. }) && flags & NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE != 0,
    );
    let request = SendRequest {
        context: context as u64,
        op,
        sgl: &[],
        inline: None,
        flags: send_flags,
    };
    let result = if inline {
        // SAFETY: by the caller's promise and NDK's for inline requests.
        let data = unsafe { copy_inline(sgl, count) };
        let pieces = [data.as_slice()];
        let request = SendRequest {
            inline: Some(&pieces),
            ..request
        };
        qp.port()
            .with(|state| state.engine.post_send(state.now, qp.id, &request))
    } else {
        // SAFETY: by the caller's promise.
        let list = unsafe { gather(sgl, count) };
        let request = SendRequest {
            sgl: &list,
            ..request
        };
        qp.port()
            .with(|state| state.engine.post_send(state.now, qp.id, &request))
    };
    match result {
        Ok(_) => STATUS_SUCCESS,
        Err(error) => status::of_post(error),
    }
}

/// NdkSend. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn send(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP and a list of `count` elements.
    unsafe { post(qp, context, sgl, count, flags, SendOp::Send) }
}

/// NdkSendAndInvalidate. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn send_and_invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    flags: u32,
    remote_token: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP and a list of `count` elements.
    unsafe {
        post(
            qp,
            context,
            sgl,
            count,
            flags,
            SendOp::SendInvalidate(remote_token),
        )
    }
}

/// NdkRead. IRQL <= DISPATCH_LEVEL.
///
/// With RDMA_READ_LOCAL_INVALIDATE (0x100: X-01) the token of the first element is invalidated before the read completes; a token that
/// cannot be fails the read. On a connection whose outbound read limit is 0 a
/// read is STATUS_INVALID_DEVICE_REQUEST (decision X-60): it could never start.
unsafe extern "efiapi" fn read(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    remote_va: u64,
    rkey: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP and a list of `count` elements.
    unsafe {
        post(
            qp,
            context,
            sgl,
            count,
            flags,
            SendOp::Read { remote_va, rkey },
        )
    }
}

/// NdkWrite. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn write(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
    remote_va: u64,
    rkey: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP and a list of `count` elements.
    unsafe {
        post(
            qp,
            context,
            sgl,
            count,
            flags,
            SendOp::Write { remote_va, rkey },
        )
    }
}

/// NdkReceive. Legal before the QP is connected. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn receive(
    qp: *mut NDK_QP,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP.
    let qp = unsafe { Object::<Qp>::from_raw(qp) };
    // SAFETY: the consumer passes a list of `count` elements.
    let list = unsafe { gather(sgl, count) };
    match qp.port().with(|state| {
        state
            .engine
            .post_recv(state.now, qp.id, context as u64, &list)
    }) {
        Ok(()) => STATUS_SUCCESS,
        Err(error) => status::of_post(error),
    }
}

/// NdkInvalidate. IRQL <= DISPATCH_LEVEL.
///
/// Only what a work request gave access can be invalidated: anything else is STATUS_INVALID_DEVICE_REQUEST (decision
/// Invalidating what is not valid, because the peer has done it already for instance, fails when it is executed (W-22).
unsafe extern "efiapi" fn invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    object: *mut NDK_OBJECT_HEADER,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open QP, and an open MR or MW, whose type the header says.
    let (qp, kind) = unsafe { (Object::<Qp>::from_raw(qp), (*object).ObjectType) };
    qp.port().with(|state| {
        let token = match kind {
            ndkpi::NdkObjectTypeMr => {
                // SAFETY: as above.
                let mr = unsafe { Object::<Mr>::from_raw(object.cast()) };
                state.mr_token(mr.key())
            }
            ndkpi::NdkObjectTypeMw => {
                // SAFETY: as above.
                let mw = unsafe { Object::<Mw>::from_raw(object.cast()) };
                state.mw_token(mw)
            }
            _ => None,
        };
        let Some(key) = token else {
            return STATUS_INVALID_DEVICE_REQUEST;
        };
        let op = SendOp::Invalidate { key };
        match post_local(state, qp.id, context, flags, op) {
            Ok(_) => STATUS_SUCCESS,
            Err(status) => status,
        }
    })
}

/// What the flags of a fast registration or a binding permit. REMOTE_WRITE is two bits and implies local write. RDMA_READ_SINK is
/// accepted without effect, because NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED is advertised.
pub(super) fn op_access(flags: u32) -> Access {
    super::mr::permitting(
        flags & NDK_OP_FLAG_ALLOW_LOCAL_WRITE != 0,
        flags & NDK_OP_FLAG_ALLOW_REMOTE_READ != 0,
        flags & NDK_OP_FLAG_ALLOW_REMOTE_WRITE == NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
    )
}

/// Posts an operation that only concerns this side's keys. Gives the key that it made, if it makes one.
pub(super) fn post_local(
    state: &mut State,
    qp: QpId,
    context: *mut c_void,
    flags: u32,
    op: SendOp,
) -> Result<Option<roce::MrKey>, NTSTATUS> {
    let request = SendRequest {
        context: context as u64,
        op,
        sgl: &[],
        inline: None,
        flags: send_flags(flags),
    };
    state
        .engine
        .post_send(state.now, qp, &request)
        .map_err(status::of_post)
}
