//! NDK_CQ: a completion queue.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::{
    STATUS_BUFFER_OVERFLOW, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_INVALID_PARAMETER_MIX, STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    GROUP_AFFINITY, NDK_ADAPTER, NDK_CQ, NDK_CQ_DISPATCH, NDK_CQ_NOTIFY_SOLICITED,
    NDK_FN_CQ_NOTIFICATION_CALLBACK, NDK_FN_CREATE_COMPLETION, NDK_FN_REQUEST_COMPLETION,
    NDK_RESULT, NDK_RESULT_EX, NDK_VERSION,
};
use roce::{Arm, Completion, CqId, CqMemory, CqStatus, ModerateError, ResizeError};

use super::adapter::Adapter;
use super::limits;
use super::object::{self, Context, Kind, Listed, Object, Quiet, Ref, header, query_extension};
use super::state::CqEntry;
use super::status;

/// The private part of an NDK_CQ.
pub struct Cq {
    id: CqId,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    context: Context,
    _adapter: Ref<Adapter>,
}

static DISPATCH: NDK_CQ_DISPATCH = NDK_CQ_DISPATCH {
    NdkCloseCq: object::close::<Cq>,
    NdkQueryExtension: query_extension,
    NdkResizeCq: resize_cq,
    NdkArmCq: arm_cq,
    NdkGetCqResults: get_cq_results,
    NdkControlCqInterruptModeration: control_cq_interrupt_moderation,
    NdkGetCqResultsEx: get_cq_results_ex,
};

impl Kind for Cq {
    type Raw = NDK_CQ;

    fn raw(version: NDK_VERSION) -> NDK_CQ {
        NDK_CQ {
            Header: header(version, ndkpi::NdkObjectTypeCq),
            Dispatch: &DISPATCH,
        }
    }

    fn quiesce(cq: &Object<Self>) -> Quiet {
        // Its queue pairs are closed, so the engine has nothing left that completes here.
        cq.port().peek(|state| {
            state.cqs.clear(cq.id.index());
            let _ = state.engine.destroy_cq(cq.id);
        });
        Quiet::Yes
    }

    /// Calls the notification callback, once: what an arm in it brings about puts the completion queue at the end of the port's queue, so
    /// that such a consumer does not keep the DPC to itself. Callbacks of one CQ never overlap: the port's queue has one owner at a time.
    /// None is started once close has begun (decision X-63).
    fn tell(cq: &Object<Self>) {
        let due = cq.port().peek(|state| {
            let entry = state.cqs.get_mut(cq.id.index())?;
            let status = core::mem::take(&mut entry.due).then_some(entry.status)?;
            // Who armed again before the callback has merged that with the first arm.
            state.engine.disarm_cq(cq.id);
            Some(status)
        });
        let Some(status) = due else { return };
        if cq.is_closing() {
            return;
        }
        // SAFETY: the consumer's callback with the consumer's context; the queue's reference holds the object until it returns.
        unsafe { (cq.notification)(cq.context.0, status::of_cq(status)) };
    }
}

impl Cq {
    /// The engine's completion queue.
    pub fn id(&self) -> CqId {
        self.id
    }
}

/// NdkCreateCq. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// The affinity is a preference that this provider does not use: notifications come on the processor that found the completion.
/// A depth of 0 is STATUS_INVALID_PARAMETER like one above MaxCqDepth: no completion could ever be reported.
///
/// # Safety
/// The consumer passes an open adapter and a place for the result.
pub unsafe extern "efiapi" fn create_cq(
    adapter: *mut NDK_ADAPTER,
    depth: u32,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    notification_context: *mut c_void,
    _affinity: *mut GROUP_AFFINITY,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_CQ,
) -> NTSTATUS {
    if depth == 0 || depth > limits::MAX_CQ_DEPTH {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: by the contract of this function.
    let adapter = unsafe { Object::<Adapter>::from_raw(adapter) };
    let port = adapter.port();
    if let Err(status) = port.ready() {
        return adapter.port().answer("NdkCreateCq", status);
    }
    let Ok(memory) = CqMemory::try_new(depth) else {
        return adapter
            .port()
            .answer("NdkCreateCq", STATUS_INSUFFICIENT_RESOURCES);
    };
    let id = match port.peek(|state| state.engine.create_cq_in(memory)) {
        Ok(id) => id,
        Err(error) => {
            return adapter
                .port()
                .answer("NdkCreateCq", status::of_create(error));
        }
    };
    let body = Cq {
        id,
        notification,
        context: Context(notification_context),
        _adapter: adapter.reference(),
    };
    match adapter.try_new_child(body) {
        Ok(cq) => {
            // SAFETY: quiesce takes the entry out.
            let object = unsafe { Listed::new(cq) };
            port.peek(|state| {
                state.cqs.set(
                    id.index(),
                    CqEntry {
                        object,
                        due: false,
                        status: CqStatus::Ready,
                    },
                )
            });
            // SAFETY: by the contract of this function.
            unsafe { out.write(cq.as_raw()) };
            STATUS_SUCCESS
        }
        Err(_) => {
            port.peek(|state| {
                let _ = state.engine.destroy_cq(id);
            });
            adapter
                .port()
                .answer("NdkCreateCq", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// NdkResizeCq. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-41: a depth below what the queue holds is STATUS_BUFFER_OVERFLOW and changes nothing.
unsafe extern "efiapi" fn resize_cq(
    cq: *mut NDK_CQ,
    depth: u32,
    _completion: NDK_FN_REQUEST_COMPLETION,
    _context: *mut c_void,
) -> NTSTATUS {
    if depth == 0 || depth > limits::MAX_CQ_DEPTH {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the consumer passes an open CQ.
    let cq = unsafe { Object::<Cq>::from_raw(cq) };
    let Ok(mut memory) = CqMemory::try_new(depth) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // A greater depth can satisfy an arm.
    match cq
        .port()
        .with(|state| state.engine.resize_cq_in(cq.id, &mut memory))
    {
        Ok(()) => STATUS_SUCCESS,
        Err(ResizeError::TooSmall) => STATUS_BUFFER_OVERFLOW,
        Err(ResizeError::InvalidDepth) => STATUS_INVALID_PARAMETER,
        Err(ResizeError::OutOfMemory | ResizeError::Unknown) => STATUS_INSUFFICIENT_RESOURCES,
    }
}

/// NdkArmCq. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-64: the callback never runs inline, because the consumer may get results in it while this call has not
/// returned; it comes from the port's DPC. A type that is none of the three arms for any completion, so that nobody waits forever.
unsafe extern "efiapi" fn arm_cq(cq: *mut NDK_CQ, kind: u32) {
    // SAFETY: the consumer passes an open CQ.
    let cq = unsafe { Object::<Cq>::from_raw(cq) };
    let arm = match kind {
        ndkpi::NDK_CQ_NOTIFY_ERRORS => Arm::Errors,
        NDK_CQ_NOTIFY_SOLICITED => Arm::Solicited,
        _ => Arm::Any,
    };
    cq.port()
        .with(|state| state.engine.arm_cq(state.now, cq.id, arm));
}

/// Completions taken out of the engine at a time: bounds what lies on the stack.
const BATCH: usize = 16;

/// Takes up to `count` completions and hands each to `put` with its number, no lock held. IRQL <= DISPATCH_LEVEL.
///
/// The lock is let go of between batches, so that a consumer with room for many does not hold up the port.
fn take_results(cq: &Object<Cq>, count: u32, mut put: impl FnMut(usize, &Completion)) -> u32 {
    let count = count as usize;
    let mut batch = [Completion::default(); BATCH];
    let mut taken = 0;
    while taken < count {
        let want = BATCH.min(count - taken);
        let Some(room) = batch.get_mut(..want) else {
            break;
        };
        let got = cq.port().peek(|state| state.engine.poll_cq(cq.id, room));
        for completion in batch.iter().take(got) {
            put(taken, completion);
            taken += 1;
        }
        if got < want {
            break;
        }
    }
    taken as u32
}

/// NdkGetCqResults. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_cq_results(
    cq: *mut NDK_CQ,
    results: *mut NDK_RESULT,
    count: u32,
) -> u32 {
    // SAFETY: the consumer passes an open CQ.
    let cq = unsafe { Object::<Cq>::from_raw(cq) };
    take_results(cq, count, |index, completion| {
        let result = NDK_RESULT {
            Status: status::of_completion(completion.status),
            BytesTransferred: status::bytes(completion),
            QPContext: completion.qp_context as *mut c_void,
            RequestContext: completion.context as *mut c_void,
        };
        // SAFETY: the consumer's array has `count` elements, and `index` is below.
        unsafe { results.add(index).write(result) };
    })
}

/// NdkGetCqResultsEx. IRQL <= DISPATCH_LEVEL. As NdkGetCqResults, with type, diagnostic code and invalidated token.
unsafe extern "efiapi" fn get_cq_results_ex(
    cq: *mut NDK_CQ,
    results: *mut NDK_RESULT_EX,
    count: u32,
) -> u32 {
    // SAFETY: the consumer passes an open CQ.
    let cq = unsafe { Object::<Cq>::from_raw(cq) };
    take_results(cq, count, |index, completion| {
        let result = NDK_RESULT_EX {
            Status: status::of_completion(completion.status),
            BytesTransferred: status::bytes(completion),
            QPContext: completion.qp_context as *mut c_void,
            RequestContext: completion.context as *mut c_void,
            Type: status::operation(completion.op),
            ProviderErrorCode: status::error_code(completion.status),
            TypeSpecificCompletionOutput: completion.invalidated.unwrap_or(0) as usize,
        };
        // SAFETY: the consumer's array has `count` elements, and `index` is below.
        unsafe { results.add(index).write(result) };
    })
}

/// NdkControlCqInterruptModeration. Takes effect at once, also for completions that are there. IRQL <= DISPATCH_LEVEL.
///
/// Interval 0, or a count of 0 or 1, is no moderation; MAXULONG as interval leaves the count alone in effect, MAXULONG or more than the
/// depth as count the interval; both is STATUS_INVALID_PARAMETER_MIX. Errors are not held back.
///
/// An interval may be rounded down to what the adapter can do (page of this function): one shorter than a tick of the clock, by which
/// the port's timer goes, is none.
unsafe extern "efiapi" fn control_cq_interrupt_moderation(
    cq: *mut NDK_CQ,
    interval: u32,
    count: u32,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open CQ.
    let cq = unsafe { Object::<Cq>::from_raw(cq) };
    let nanoseconds = u64::from(interval).saturating_mul(1000);
    let interval = if nanoseconds < nt::time::tick() {
        0
    } else {
        interval
    };
    match cq
        .port()
        .with(|state| state.engine.moderate_cq(state.now, cq.id, interval, count))
    {
        Ok(()) => STATUS_SUCCESS,
        Err(ModerateError::Unlimited) => STATUS_INVALID_PARAMETER_MIX,
        Err(ModerateError::Unknown) => STATUS_INSUFFICIENT_RESOURCES,
    }
}
