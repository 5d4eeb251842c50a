//! Which rule the test miniport breaks, and what it does otherwise.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::misuse::Misuse;
use super::nic::Nic;
use crate::world::context;

/// The rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    WrongHeader,
    NoHaltHandler,
    FutureNdis,
    GeneralFirst,
    NoGeneral,
    NullContext,
    MapOutside,
    MapTooEarly,
    NdkWithoutProvider,
    ProviderGood,
    ProviderRevision,
    ProviderSize,
    ProviderFlags,
    ProviderWithoutOpen,
    ProviderWithoutClose,
    OptionsFail,
    NoInterruptHandlers,
    NeverAcknowledges,
    LeakInterrupt,
    LeakMapping,
    LeakPool,
    LeakSharedMemory,
    LeakMemory,
    LeakWorkItem,
    LeakTimer,
    LeakConfiguration,
    CompleteSendTwice,
    ForgetSend,
    WrongSendFlag,
    ChangedSend,
    ScribbleSend,
    AbortUnasked,
    CancelFails,
    CancelForgets,
    NoBusMaster,
    KeepScatterGatherList,
    BadSendStatus,
    IndicateTwice,
    IndicateWrongCount,
    IndicateForeignSource,
    WrongReceiveFlag,
    ScribbleReceive,
    FreeWhileIndicated,
    IndicateUnderLock,
    IndicatePaused,
    PauseTooEarly,
    PauseTwice,
    PauseNever,
    OidWritesTooMuch,
    OidCompletesTwice,
    OidTooShortWithoutNeed,
    PnpEventInOid,
    StatusWrongSource,
    ForgetDeregister,
    QueueWorkTwice,
    FreeListTwice,
    BadHandle,
    OidAfterRemoval,
    PowerRefused,
    PowerKeepsTimer,
    ResetKeepsSend,
    ResetCompletesTwice,
    ResetNever,
    NetioLeak,
    InitializeFails,
    EntryFails,
}

/// What is allowed and rarely done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Corner {
    None,
    /// It completes the request that it keeps in the DPC in which it completes a reset.
    OidEndsInReset,
    /// It indicates a frame in MiniportRestart.
    IndicatesInRestart,
    /// An interrupt DPC that uses the interrupt's handle is queued when the interrupt is deregistered.
    DpcAtDeregister,
}

/// Whether it does that.
pub(super) fn corner(corner: Corner) -> bool {
    CORNER.get() == corner
}

thread_local! {
    pub(super) static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    pub(super) static NICS: RefCell<Vec<Rc<Nic>>> = const { RefCell::new(Vec::new()) };
    /// What happened, in order.
    pub(super) static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    pub(super) static PEND_OIDS: Cell<bool> = const { Cell::new(false) };
    /// Regular requests pend until they are cancelled.
    pub(super) static KEEP_OIDS: Cell<bool> = const { Cell::new(false) };
    /// Regular requests that are at the miniport, and the most there were at a time.
    pub(super) static OIDS_INSIDE: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    /// The miniport has handlers for hangs and resets.
    pub(super) static RESETS: Cell<bool> = const { Cell::new(false) };
    /// It says that it hangs.
    pub(super) static HANGS: Cell<bool> = const { Cell::new(false) };
    pub(super) static PEND_RESET: Cell<bool> = const { Cell::new(false) };
    /// It keeps what it is to send.
    pub(super) static KEEP_SENDS: Cell<bool> = const { Cell::new(false) };
    /// Flags besides those it always has among its registration attributes.
    pub(super) static ATTRIBUTES: Cell<u32> = const { Cell::new(0) };
    pub(super) static PEND_PAUSE: Cell<bool> = const { Cell::new(false) };
    /// NICs have no messages.
    pub(super) static LINES: Cell<bool> = const { Cell::new(false) };
    pub(super) static RESOURCES: Cell<bool> = const { Cell::new(false) };
    /// It does at the next opportunity what is allowed and rarely done.
    /// What it does once, wrongly, as soon as it can.
    pub(super) static MISUSE: Cell<Option<Misuse>> = const { Cell::new(None) };
    pub(super) static CORNER: Cell<Corner> = const { Cell::new(Corner::None) };
}

pub(super) fn is(fault: Fault) -> bool {
    FAULT.get() == fault
}

/// Whether the miniport is an NDK provider, of whatever quality.
pub(super) fn is_provider() -> bool {
    use Fault::*;
    matches!(
        FAULT.get(),
        ProviderGood
            | ProviderRevision
            | ProviderSize
            | ProviderFlags
            | ProviderWithoutOpen
            | ProviderWithoutClose
            | OptionsFail
    )
}

pub(super) fn log(text: impl std::fmt::Display) {
    aside(|| LOG.with_borrow_mut(|l| l.push(text.to_string())));
}

/// Does what belongs to the test and not to the driver: its memory is not the driver's.
pub(super) fn aside<R>(f: impl FnOnce() -> R) -> R {
    let _kernel = context::KernelMode::enter();
    f()
}
