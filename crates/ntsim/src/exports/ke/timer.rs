//! Timers.

use std::ffi::c_void;
use std::ptr;

use ndis_sys::types::{BOOLEAN, LARGE_INTEGER};
use ndis_sys::wdm::{
    EX_TIMER, EX_TIMER_NOTIFICATION, EXT_CALLBACK, EXT_DELETE_CALLBACK, EXT_DELETE_PARAMETERS,
    EXT_SET_PARAMETERS_V0, KDPC, KTIMER, NotificationTimer, TIMER_TYPE,
};

use super::wait::{self, kind};
use super::{dpc, time};
use crate::memory::Request;
use crate::verifier::{self, Function, cross, rules};
use crate::world::context;
use crate::world::driver_call::{begin_driver, call_driver};
use crate::world::on_stack;
use crate::world::processor::{APC, DISPATCH, raise_irql};
use crate::world::wait::wait_until;

exports! {
    "ntoskrnl.exe";
    KeInitializeTimerEx: PASSIVE..=DISPATCH,
    KeSetTimer: PASSIVE..=DISPATCH,
    KeSetTimerEx: PASSIVE..=DISPATCH,
    KeSetCoalescableTimer: PASSIVE..=DISPATCH,
    KeCancelTimer: PASSIVE..=DISPATCH,
    KeReadStateTimer: PASSIVE..=DISPATCH,
    ExAllocateTimer: PASSIVE..=DISPATCH,
    ExSetTimer: PASSIVE..=DISPATCH,
    ExCancelTimer: PASSIVE..=DISPATCH,
    ExDeleteTimer: PASSIVE..=DISPATCH,
}

const TIMERS: &[u8] = &[kind::NOTIFICATION_TIMER, kind::SYNCHRONIZATION_TIMER];

fn timer_kind(kind: TIMER_TYPE) -> u8 {
    if kind == NotificationTimer {
        kind::NOTIFICATION_TIMER
    } else {
        kind::SYNCHRONIZATION_TIMER
    }
}

/// Initialises a timer.
///
/// # Safety
/// `Timer` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInitializeTimerEx(Timer: *mut KTIMER, Type: TIMER_TYPE) {
    let _crossing = cross(&functions::KeInitializeTimerEx);
    if context::machine().timers.is_set(Timer as usize) {
        verifier::violation(
            rules::OBJECT_IN_USE,
            format!("KeInitializeTimerEx initialises the timer at {Timer:p}, which is running"),
        );
    }
    // SAFETY: promised by the caller.
    unsafe {
        Timer.write(KTIMER::ZEROED);
        wait::initialize_header(Timer.cast(), timer_kind(Type), size_of::<KTIMER>(), 0);
    }
}

fn expire(object: usize) {
    let timer = object as *mut KTIMER;
    // SAFETY: a running timer is initialised and its memory is not freed (or the verifier has said so).
    unsafe {
        wait::check_initialized(timer.cast(), TIMERS, "an expiring timer");
        wait::signal(timer.cast(), 1);
        let dpc = (*timer).Dpc;
        if !dpc.is_null() {
            dpc::insert(dpc, ptr::null_mut(), ptr::null_mut());
        }
    }
}

/// # Safety
/// `timer` must point at an initialised timer, `dpc` at an initialised DPC or be null; both stay until the timer has
/// expired or is cancelled.
unsafe fn set(
    timer: *mut KTIMER,
    due: LARGE_INTEGER,
    period_ms: u32,
    dpc: *mut KDPC,
    by: &str,
) -> BOOLEAN {
    let at = time::due(due);
    // SAFETY: promised by the caller.
    unsafe {
        wait::check_initialized(timer.cast(), TIMERS, by);
        on_stack::note(timer.addr());
        on_stack::note(dpc.addr());
        (*timer).Header.SignalState = 0;
        (*timer).Dpc = dpc;
        (*timer).Period = period_ms;
        (*timer).DueTime = at / 100;
    }
    let was = context::machine().set_timer(
        timer as usize,
        dpc as usize,
        at,
        u64::from(period_ms) * 1_000_000,
        expire,
    );
    BOOLEAN::from(was)
}

/// Sets a timer.
///
/// # Safety
/// `Timer` must point at an initialised timer, `Dpc` at an initialised DPC or be null.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetTimer(
    Timer: *mut KTIMER,
    DueTime: LARGE_INTEGER,
    Dpc: *mut KDPC,
) -> BOOLEAN {
    let _crossing = cross(&functions::KeSetTimer);
    // SAFETY: promised by the caller.
    unsafe { set(Timer, DueTime, 0, Dpc, "KeSetTimer") }
}

/// Sets a timer with a period.
///
/// # Safety
/// As for `KeSetTimer`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetTimerEx(
    Timer: *mut KTIMER,
    DueTime: LARGE_INTEGER,
    Period: i32,
    Dpc: *mut KDPC,
) -> BOOLEAN {
    let _crossing = cross(&functions::KeSetTimerEx);
    let period = u32::try_from(Period).unwrap_or(0);
    // SAFETY: promised by the caller.
    unsafe { set(Timer, DueTime, period, Dpc, "KeSetTimerEx") }
}

/// Sets a timer that may be late. It never is.
///
/// # Safety
/// As for `KeSetTimer`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetCoalescableTimer(
    Timer: *mut KTIMER,
    DueTime: LARGE_INTEGER,
    Period: u32,
    TolerableDelay: u32,
    Dpc: *mut KDPC,
) -> BOOLEAN {
    let _crossing = cross(&functions::KeSetCoalescableTimer);
    let _ = TolerableDelay;
    // SAFETY: promised by the caller.
    unsafe { set(Timer, DueTime, Period, Dpc, "KeSetCoalescableTimer") }
}

/// Cancels a timer.
///
/// # Safety
/// `Timer` must point at an initialised timer.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeCancelTimer(Timer: *mut KTIMER) -> BOOLEAN {
    let _crossing = cross(&functions::KeCancelTimer);
    // SAFETY: promised by the caller.
    unsafe { wait::check_initialized(Timer.cast(), TIMERS, "KeCancelTimer") };
    BOOLEAN::from(context::machine().cancel_timer(Timer as usize))
}

/// Whether a timer is signalled.
///
/// # Safety
/// `Timer` must point at an initialised timer.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeReadStateTimer(Timer: *mut KTIMER) -> BOOLEAN {
    let _crossing = cross(&functions::KeReadStateTimer);
    // SAFETY: promised by the caller.
    unsafe {
        wait::check_initialized(Timer.cast(), TIMERS, "KeReadStateTimer");
        BOOLEAN::from((*Timer).Header.SignalState > 0)
    }
}

/// What an EX_TIMER is inside: it begins as a KTIMER, so that it can be waited for.
#[repr(C)]
struct ExTimer {
    timer: KTIMER,
    callback: EXT_CALLBACK,
    context: *mut c_void,
    /// Its callback runs now.
    running: bool,
    deleted: bool,
    delete_callback: Option<EXT_DELETE_CALLBACK>,
    delete_context: *mut c_void,
}

static EX_CALLBACK: Function = Function::callback("timer callback", DISPATCH..=DISPATCH);
static EX_DELETE_CALLBACK: Function =
    Function::callback("timer delete callback", DISPATCH..=DISPATCH);
const EX_TIMER_TAG: u32 = u32::from_le_bytes(*b"ExTm");

/// Allocates a timer with a callback.
///
/// # Safety
/// `Callback` must be callable with `CallbackContext` as long as the timer lives.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAllocateTimer(
    Callback: EXT_CALLBACK,
    CallbackContext: *mut c_void,
    Attributes: u32,
) -> *mut EX_TIMER {
    let crossing = cross(&functions::ExAllocateTimer);
    let machine = context::machine();
    let address = machine.pool_alloc(&Request {
        size: size_of::<ExTimer>(),
        align: 16,
        tag: EX_TIMER_TAG,
        zero: true,
        paged: false,
        owner: machine.owner(&crossing),
        function: "ExAllocateTimer",
    });
    let Some(address) = address else {
        return ptr::null_mut();
    };
    let timer = address as *mut ExTimer;
    let kind = if Attributes & EX_TIMER_NOTIFICATION != 0 {
        kind::NOTIFICATION_TIMER
    } else {
        kind::SYNCHRONIZATION_TIMER
    };
    // SAFETY: just allocated, of this size.
    unsafe {
        timer.write(ExTimer {
            timer: KTIMER::ZEROED,
            callback: Callback,
            context: CallbackContext,
            running: false,
            deleted: false,
            delete_callback: None,
            delete_context: ptr::null_mut(),
        });
        wait::initialize_header(timer.cast(), kind, size_of::<KTIMER>(), 0);
    }
    timer.cast()
}

fn check_ex(timer: *mut EX_TIMER, by: &str) -> *mut ExTimer {
    if context::machine().pool.size_of(timer as usize) != Some(size_of::<ExTimer>()) {
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!("{by}: there is no timer of ExAllocateTimer at {timer:p}"),
        );
    }
    timer.cast()
}

fn expire_ex(object: usize) {
    let timer = object as *mut ExTimer;
    // SAFETY: a running timer is not freed; its callback was given for this.
    unsafe {
        wait::signal(timer.cast(), 1);
        (*timer).running = true;
        let (callback, context) = ((*timer).callback, (*timer).context);
        {
            let _raised = raise_irql(DISPATCH);
            begin_driver(&EX_CALLBACK, callback as *const (), || {
                callback(timer.cast(), context)
            });
        }
        (*timer).running = false;
        if (*timer).deleted {
            // A periodic timer is set again already: once deleted it expires no more than once.
            context::machine().cancel_timer(object);
            free_ex(timer);
        }
    }
}

/// # Safety
/// `timer` must be a timer that nobody uses any more.
unsafe fn free_ex(timer: *mut ExTimer) {
    // SAFETY: promised by the caller.
    let (callback, context) = unsafe { ((*timer).delete_callback, (*timer).delete_context) };
    context::machine().pool_free(timer as usize, Some(EX_TIMER_TAG), "ExDeleteTimer");
    if let Some(callback) = callback {
        let _raised = raise_irql(DISPATCH);
        // SAFETY: given by the driver for this call.
        call_driver(&EX_DELETE_CALLBACK, callback as *const (), || unsafe {
            callback(context)
        });
    }
}

/// Sets a timer.
///
/// # Safety
/// `Timer` must be of `ExAllocateTimer`; `Parameters` must be null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExSetTimer(
    Timer: *mut EX_TIMER,
    DueTime: i64,
    Period: i64,
    Parameters: *mut EXT_SET_PARAMETERS_V0,
) -> BOOLEAN {
    let _crossing = cross(&functions::ExSetTimer);
    let _ = Parameters;
    let timer = check_ex(Timer, "ExSetTimer");
    // SAFETY: checked to be a timer.
    unsafe {
        if (*timer).deleted {
            return 0;
        }
        (*timer).timer.Header.SignalState = 0;
    }
    let was = context::machine().set_timer(
        timer as usize,
        0,
        time::due(DueTime),
        u64::try_from(Period).unwrap_or(0).saturating_mul(100),
        expire_ex,
    );
    BOOLEAN::from(was)
}

/// Cancels a timer.
///
/// # Safety
/// `Timer` must be of `ExAllocateTimer`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExCancelTimer(
    Timer: *mut EX_TIMER,
    Parameters: *mut c_void,
) -> BOOLEAN {
    let _crossing = cross(&functions::ExCancelTimer);
    let _ = Parameters;
    let timer = check_ex(Timer, "ExCancelTimer");
    // SAFETY: checked to be a timer.
    if unsafe { (*timer).deleted } {
        return 0;
    }
    BOOLEAN::from(context::machine().cancel_timer(Timer as usize))
}

/// Deletes a timer.
///
/// # Safety
/// `Timer` must be of `ExAllocateTimer`; `Parameters` must be null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExDeleteTimer(
    Timer: *mut EX_TIMER,
    Cancel: BOOLEAN,
    Wait: BOOLEAN,
    Parameters: *mut EXT_DELETE_PARAMETERS,
) -> BOOLEAN {
    let _crossing = cross(&functions::ExDeleteTimer);
    let timer = check_ex(Timer, "ExDeleteTimer");
    // SAFETY: checked to be a timer.
    if unsafe { (*timer).deleted } {
        return 0;
    }
    if Wait != 0 && (Cancel == 0 || context::irql() > APC) {
        verifier::violation(
            rules::IRQL,
            format!(
                "ExDeleteTimer was told to wait {} at IRQL {}",
                if Cancel == 0 {
                    "but not to cancel,"
                } else {
                    ""
                },
                context::irql()
            ),
        );
    }
    let machine = context::machine();
    let was_set = machine.timers.is_set(timer as usize);
    // SAFETY: checked to be a timer.
    let running = unsafe {
        if let Some(parameters) = Parameters.as_ref() {
            (*timer).delete_callback = parameters.DeleteCallback;
            (*timer).delete_context = parameters.DeleteContext;
        }
        (*timer).running
    };
    let cancelled = Cancel != 0 && machine.cancel_timer(timer as usize);
    if running {
        // SAFETY: as above. Whoever runs the callback frees the timer afterwards.
        unsafe { (*timer).deleted = true };
        if Wait != 0 {
            let pool = &machine.pool;
            wait_until(
                || pool.size_of(timer as usize).is_none(),
                None,
                "ExDeleteTimer waits for the timer's callback",
            );
        }
        return BOOLEAN::from(cancelled);
    }
    if was_set && !cancelled {
        // Windows lets it expire first; then the owner of the memory is the expiration.
        // SAFETY: as above.
        unsafe { (*timer).deleted = true };
        return 0;
    }
    // SAFETY: not set and not running: nobody uses it.
    unsafe { free_ex(timer) };
    BOOLEAN::from(cancelled)
}
