//! NDK_SRQ: a shared receive queue (page ns-ndkpi-\_ndk\_srq).
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_DEVICE_REMOVED, STATUS_INSUFFICIENT_RESOURCES,
    STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    GROUP_AFFINITY, NDK_FN_CREATE_COMPLETION, NDK_FN_REQUEST_COMPLETION,
    NDK_FN_SRQ_NOTIFICATION_CALLBACK, NDK_PD, NDK_SGE, NDK_SRQ, NDK_SRQ_DISPATCH, NDK_VERSION,
};
use roce::{ModifySrqError, SrqId, SrqMemory, SrqStatus};

use super::limits::{MAX_SGE, MAX_SRQ_DEPTH};
use super::object::{self, Context, Kind, Listed, Object, Quiet, Ref, header, query_extension};
use super::pd::Pd;
use super::qp::gather;
use super::state::State;
use super::status;

/// The private part of an NDK_SRQ.
pub struct Srq {
    id: SrqId,
    notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    context: Context,
    max_sge: u32,
    pd: Ref<Pd>,
}

static DISPATCH: NDK_SRQ_DISPATCH = NDK_SRQ_DISPATCH {
    NdkCloseSrq: object::close::<Srq>,
    NdkQueryExtension: query_extension,
    NdkModifySrq: modify_srq,
    NdkSrqReceive: srq_receive,
};

/// What the port knows about a shared receive queue.
pub struct SrqEntry {
    object: Listed<Srq>,
    /// It runs low, and the consumer has not been told yet.
    low: bool,
    /// It failed, and the consumer has not been told yet.
    failed: bool,
}

impl SrqEntry {
    fn take_news(&mut self) -> Option<SrqStatus> {
        if core::mem::take(&mut self.low) {
            return Some(SrqStatus::Low);
        }
        core::mem::take(&mut self.failed).then_some(SrqStatus::Failed)
    }
}

impl State {
    /// The engine has something to say about a shared receive queue.
    pub(super) fn on_srq(&mut self, srq: SrqId, status: SrqStatus) {
        let Some(entry) = self.srqs.get_mut(srq.index()) else {
            return;
        };
        match status {
            SrqStatus::Low => entry.low = true,
            SrqStatus::Failed => entry.failed = true,
        }
        object::tell(entry.object.get());
    }
}

impl Kind for Srq {
    type Raw = NDK_SRQ;

    fn raw(version: NDK_VERSION) -> NDK_SRQ {
        NDK_SRQ {
            Header: header(version, ndkpi::NdkObjectTypeSrq),
            Dispatch: &DISPATCH,
        }
    }

    /// Its queue pairs are closed. What is still queued ends without entries: there is no completion queue for it.
    fn quiesce(srq: &Object<Self>) -> Quiet {
        srq.port().peek(|state| {
            state.srqs.clear(srq.id.index());
            let _ = state.engine.destroy_srq(srq.id);
        });
        Quiet::Yes
    }

    /// Calls the notification callback, if there is one. None is started once close has begun (decision X-63).
    fn tell(srq: &Object<Self>) {
        while let Some(status) = srq
            .port()
            .peek(|state| state.srqs.get_mut(srq.id.index())?.take_news())
        {
            let Some(notify) = srq.notification.filter(|_| !srq.is_closing()) else {
                continue;
            };
            // SAFETY: the consumer's callback with the consumer's context; the queue's reference holds the object until it returns.
            unsafe { notify(srq.context.0, status::of_srq(status)) };
        }
    }
}

impl Srq {
    /// The engine's shared receive queue.
    pub fn id(&self) -> SrqId {
        self.id
    }
}

/// NdkCreateSrq. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// The affinity is a preference that this provider does not use. Decision X-40: the threshold is watched once so many
/// receives have been queued, and one above the depth is STATUS_INVALID_PARAMETER, as is a depth of 0.
///
/// # Safety
/// The consumer passes an open PD and a place for the result.
pub unsafe extern "efiapi" fn create_srq(
    pd: *mut NDK_PD,
    depth: u32,
    max_sge: u32,
    threshold: u32,
    notification: Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>,
    notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_SRQ,
) -> NTSTATUS {
    if depth > MAX_SRQ_DEPTH || max_sge as usize > MAX_SGE {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: by the contract of this function.
    let pd = unsafe { Object::<Pd>::from_raw(pd) };
    let port = pd.port();
    if let Err(status) = port.ready() {
        return pd.port().answer("NdkCreateSrq", status);
    }
    let Ok(memory) = SrqMemory::try_new(port.engine_config(), pd.id(), depth, max_sge) else {
        return pd
            .port()
            .answer("NdkCreateSrq", STATUS_INSUFFICIENT_RESOURCES);
    };
    let made = port.peek(|state| state.engine.create_srq_in(memory, threshold));
    let id = match made {
        Ok(id) => id,
        Err(error) => return pd.port().answer("NdkCreateSrq", status::of_create(error)),
    };
    let body = Srq {
        id,
        notification,
        context: Context(notification_context),
        max_sge,
        pd: pd.reference(),
    };
    match pd.try_new_child(body) {
        Ok(srq) => {
            // SAFETY: quiesce takes the entry out.
            let object = unsafe { Listed::new(srq) };
            let entry = SrqEntry {
                object,
                low: false,
                failed: false,
            };
            // Who is not in the table yet when the adapter is lost does not hear of it.
            let alive = port.peek(|state| {
                let alive = !state.engine.has_failed();
                if alive {
                    state.srqs.set(id.index(), entry);
                } else {
                    let _ = state.engine.destroy_srq(id);
                }
                alive
            });
            if !alive {
                // SAFETY: nobody knows it.
                unsafe { object::discard(srq) };
                return pd.port().answer("NdkCreateSrq", STATUS_DEVICE_REMOVED);
            }
            // SAFETY: by the contract of this function.
            unsafe { out.write(srq.as_raw()) };
            STATUS_SUCCESS
        }
        Err(_) => {
            port.peek(|state| {
                let _ = state.engine.destroy_srq(id);
            });
            pd.port()
                .answer("NdkCreateSrq", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// NdkModifySrq. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// A depth of 0 keeps the depth; a threshold of 0 keeps the threshold and whether it is armed. Decision X-40: a
/// threshold above the depth is STATUS_INVALID_PARAMETER, a depth below what is queued STATUS_BUFFER_OVERFLOW; nothing changes then.
unsafe extern "efiapi" fn modify_srq(
    srq: *mut NDK_SRQ,
    depth: u32,
    threshold: u32,
    _completion: NDK_FN_REQUEST_COMPLETION,
    _context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open SRQ.
    let srq = unsafe { Object::<Srq>::from_raw(srq) };
    if depth > MAX_SRQ_DEPTH {
        return STATUS_INVALID_PARAMETER;
    }
    let port = srq.port();
    let memory = (depth > 0)
        .then(|| SrqMemory::try_new(port.engine_config(), srq.pd.id(), depth, srq.max_sge));
    let Ok(mut memory) = memory.transpose() else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    match port.with(|state| {
        state
            .engine
            .modify_srq_in(srq.id, memory.as_mut(), threshold)
    }) {
        Ok(()) => STATUS_SUCCESS,
        Err(ModifySrqError::InvalidDepth | ModifySrqError::InvalidThreshold) => {
            STATUS_INVALID_PARAMETER
        }
        Err(ModifySrqError::TooSmall) => STATUS_BUFFER_OVERFLOW,
        // Memory of another shape is nothing that this driver brings.
        Err(ModifySrqError::OutOfMemory | ModifySrqError::Unknown | ModifySrqError::OtherShape) => {
            STATUS_INSUFFICIENT_RESOURCES
        }
    }
}

/// NdkSrqReceive. IRQL <= DISPATCH_LEVEL. The limits and their statuses are those of NdkReceive, and
/// STATUS_CONNECTION_INVALID is that of a queue that has failed.
unsafe extern "efiapi" fn srq_receive(
    srq: *mut NDK_SRQ,
    context: *mut c_void,
    sgl: *const NDK_SGE,
    count: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open SRQ.
    let srq = unsafe { Object::<Srq>::from_raw(srq) };
    // SAFETY: the consumer passes a list of `count` elements.
    let list = unsafe { gather(sgl, count) };
    match srq
        .port()
        .with(|state| state.engine.post_srq_recv(srq.id, context as u64, &list))
    {
        Ok(()) => STATUS_SUCCESS,
        Err(error) => status::of_post(error),
    }
}
