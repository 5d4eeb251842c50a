//! A provider without hardware, peers or NDIS, which keeps every rule but the one it is told to break.

use std::cell::{Cell, RefCell, UnsafeCell};
use std::collections::VecDeque;
use std::ptr::{null, null_mut};

use ndis_sys::imports::{KeAcquireSpinLockRaiseToDpc, KeReleaseSpinLock};
use ndkpi::status::*;
use ndkpi::*;

use super::fake_tables as tables;
use crate::ndk::object::Kind;
use crate::verifier::Function;
use crate::world::context::KernelMode;
use crate::world::driver::{Charged, DriverNumber};
use crate::world::driver_call::{NOT_ITS_OWN, begin_driver};
use crate::world::processor::{HIGH, PASSIVE};

/// How the provider finishes what may pend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Before it returns, with a final status.
    Inline,
    /// By a callback before it returns STATUS_PENDING.
    Early,
    /// By a callback some time later.
    Later,
}

/// What it does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misdeed {
    Nothing,
    WrongType,
    WrongVersion,
    ReservedNotZero,
    NoDispatch,
    NullSlot,
    SameObjectAgain,
    SuccessWithoutObject,
    OutWrittenAfterPending,
    ReservedWritten,
    DispatchWritten,
    DispatchReadBack,
    CompletesTwice,
    CompletesAndReturnsSuccess,
    CompletesAfterSuccess,
    CompletesPending,
    NeverCompletes,
    WrongContext,
    CallsWithLock,
    CallsAtHighIrql,
    PostPends,
    CloseFails,
    ClosesBeforeRequests,
    ClosesBeforeEvents,
    ClosesBeforeSuccessors,
    ClosesWhileBound,
    AdapterCloseReturnsEarly,
    CallsAfterClose,
    InfoVersion,
    WrongLength,
    ExtensionWithoutTable,
    NotifiesUnarmed,
    NotifiesTwice,
    NotifiesInArm,
    NotifiesOverlapping,
    NotifiesOddStatus,
    SrqNotifiesUnarmed,
    SrqNotifiesAfterFailure,
    SrqNotifiesOddStatus,
    EventWithoutConnector,
    EventBeforeListen,
    EventAfterListenerClose,
    DisconnectsTwice,
    DisconnectsUnconnected,
    DisconnectsWhileClosing,
    PostsUnconnected,
    TooManyResults,
    WrongQpContext,
    WrongRequestContext,
    ResultTwice,
    LosesReceives,
    ResultPending,
    WrongResultType,
    ErrorCodeOnSuccess,
    LosesPrivateData,
    CutsPrivateData,
    LeavesRubbishBehindPrivateData,
    RefusesPrivateData,
    LamUnaligned,
    LamChangesMdl,
    LamBuildChangesMdl,
    /// No misdeed: it is changed for as long as it is mapped.
    LamMapsMdl,
    LamPendsWithoutCallback,
}

/// An object.
#[repr(C)]
pub(super) struct Thing {
    pub(super) head: NDK_OBJECT_HEADER,
    pub(super) dispatch: *const c_void,
    pub(super) kind: Kind,
    fake: *const Fake,
    /// One for the consumer, one for each dependent and each request.
    refs: Cell<u32>,
    antecedents: RefCell<Vec<*const Thing>>,
    close: Cell<Option<(NDK_FN_CLOSE_COMPLETION, *mut c_void)>>,
    /// Context of the queue pair or of the object's events.
    pub(super) context: Cell<*mut c_void>,
    pub(super) cq_notification: Cell<Option<NDK_FN_CQ_NOTIFICATION_CALLBACK>>,
    pub(super) srq_notification: Cell<Option<NDK_FN_SRQ_NOTIFICATION_CALLBACK>>,
    pub(super) connect_event: Cell<Option<NDK_FN_CONNECT_EVENT_CALLBACK>>,
    pub(super) disconnect_event: Cell<Option<NDK_FN_DISCONNECT_EVENT_CALLBACK>>,
    pub(super) disconnect_event_ex: Cell<Option<NDK_FN_DISCONNECT_EVENT_CALLBACK_EX>>,
    pub(super) connected: Cell<bool>,
    /// Of a CQ.
    armed: Cell<bool>,
    notifying: Cell<bool>,
    entries: RefCell<VecDeque<NDK_RESULT_EX>>,
    /// Of a QP or SRQ.
    receives: RefCell<VecDeque<*mut c_void>>,
    pub(super) receive_cq: Cell<*const Thing>,
    pub(super) initiator_cq: Cell<*const Thing>,
}

impl Thing {
    pub(super) fn fake(&self) -> &'static Fake {
        // SAFETY: tests leak their providers.
        unsafe { &*self.fake }
    }

    /// Takes the close completion out of an object whose close pends.
    pub(super) fn close_completion(&self) -> Option<(NDK_FN_CLOSE_COMPLETION, *mut c_void)> {
        self.close.take()
    }
}

/// A job to be done later.
type Job = Box<dyn FnOnce()>;

/// The provider.
pub(super) struct Fake {
    pub(super) mode: Cell<Mode>,
    pub(super) misdeed: Cell<Misdeed>,
    version: NDK_VERSION,
    pub(super) driver: DriverNumber,
    later: RefCell<VecDeque<Job>>,
    /// Objects stay: their headers may be looked at whenever.
    #[allow(clippy::vec_box, reason = "they must not move")]
    things: RefCell<Vec<Box<UnsafeCell<Thing>>>>,
    lock: UnsafeCell<usize>,
    /// What happens once inside NdkArmCq or a post to the initiator queue.
    pub(super) inside: Cell<Option<fn()>>,
    pub(super) last_callback: Cell<Option<(NDK_FN_REQUEST_COMPLETION, *mut c_void)>>,
    /// What the last consumer gave that asked for a connection or accepted one.
    pub(super) private_data: RefCell<Vec<u8>>,
    /// What NdkListen ends with.
    pub(super) listens: Cell<NTSTATUS>,
}

static WORK: Function = Function::callback("the fake provider's work", PASSIVE..=HIGH);

impl Fake {
    pub(super) fn leak(driver: DriverNumber, version: NDK_VERSION) -> &'static Fake {
        Box::leak(Box::new(Fake {
            mode: Cell::new(Mode::Inline),
            misdeed: Cell::new(Misdeed::Nothing),
            version,
            driver,
            later: RefCell::default(),
            things: RefCell::default(),
            lock: UnsafeCell::new(0),
            inside: Cell::new(None),
            last_callback: Cell::new(None),
            private_data: RefCell::default(),
            listens: Cell::new(STATUS_SUCCESS),
        }))
    }

    pub(super) fn does(&self, misdeed: Misdeed) -> bool {
        self.misdeed.get() == misdeed
    }

    /// Whether it does this now; not again.
    pub(super) fn does_once(&self, misdeed: Misdeed) -> bool {
        let does = self.does(misdeed);
        if does {
            self.misdeed.set(Misdeed::Nothing);
        }
        does
    }

    pub(super) fn defer(&self, job: impl FnOnce() + 'static) {
        let _kernel = KernelMode::enter();
        self.later.borrow_mut().push_back(Box::new(job));
    }

    /// Does what was put off. Kernel code, at any IRQL.
    pub(super) fn work(&self) {
        while self.work_once() {}
    }

    /// Does the first thing that was put off; false if there is none.
    pub(super) fn work_once(&self) -> bool {
        let _kernel = KernelMode::enter();
        let Some(job) = self.later.borrow_mut().pop_front() else {
            return false;
        };
        let _charged = Charged::to(self.driver);
        begin_driver(&WORK, NOT_ITS_OWN, job);
        true
    }

    /// Makes an object.
    pub(super) fn make(
        &'static self,
        kind: Kind,
        dispatch: *const c_void,
        antecedents: &[*const Thing],
    ) -> *mut Thing {
        let _kernel = KernelMode::enter();
        let mut head = NDK_OBJECT_HEADER {
            Version: self.version,
            ObjectType: kind as u32,
            ..NDK_OBJECT_HEADER::ZEROED
        };
        let mut dispatch = dispatch;
        if kind == Kind::Cq {
            if self.does(Misdeed::WrongType) {
                head.ObjectType = NdkObjectTypeQp;
            }
            if self.does(Misdeed::WrongVersion) {
                head.Version = NDK_VERSION_1_1;
            }
            if self.does(Misdeed::ReservedNotZero) {
                head.NdkReserved.rf[2] = null_mut::<c_void>().wrapping_byte_add(1);
            }
            if self.does(Misdeed::NoDispatch) {
                dispatch = null();
            }
            if self.does(Misdeed::NullSlot) {
                dispatch = tables::cq_without_arm();
            }
        }
        for antecedent in antecedents {
            // SAFETY: objects stay.
            let refs = unsafe { &(**antecedent).refs };
            refs.set(refs.get() + 1);
        }
        let thing = Box::new(UnsafeCell::new(Thing {
            head,
            dispatch,
            kind,
            fake: self,
            refs: Cell::new(1),
            antecedents: RefCell::new(antecedents.to_vec()),
            close: Cell::new(None),
            context: Cell::new(null_mut()),
            cq_notification: Cell::new(None),
            srq_notification: Cell::new(None),
            connect_event: Cell::new(None),
            disconnect_event: Cell::new(None),
            disconnect_event_ex: Cell::new(None),
            connected: Cell::new(false),
            armed: Cell::new(false),
            notifying: Cell::new(false),
            entries: RefCell::default(),
            receives: RefCell::default(),
            receive_cq: Cell::new(null()),
            initiator_cq: Cell::new(null()),
        }));
        let pointer = thing.get();
        self.things.borrow_mut().push(thing);
        pointer
    }

    /// The CQ made last.
    pub(super) fn last_cq(&self) -> Option<*mut Thing> {
        let things = self.things.borrow();
        // SAFETY: nobody changes it but through cells.
        let is_cq = |thing: &*mut Thing| unsafe { &**thing }.kind == Kind::Cq;
        things.iter().rev().map(|t| t.get()).find(is_cq)
    }

    /// Finishes a create in the mode set.
    ///
    /// # Safety
    /// `out` is the out parameter.
    pub(super) unsafe fn created<T>(
        &'static self,
        parent: &'static Thing,
        thing: *mut Thing,
        completion: NDK_FN_CREATE_COMPLETION,
        context: *mut c_void,
        out: *mut *mut T,
    ) -> NTSTATUS {
        let thing = thing.cast::<NDK_OBJECT_HEADER>();
        let thing = if self.does(Misdeed::SuccessWithoutObject) {
            null_mut()
        } else {
            thing
        };
        match self.mode.get() {
            Mode::Inline => {
                // SAFETY: the caller's promise.
                unsafe { out.write(thing.cast()) };
                return STATUS_SUCCESS;
            }
            // SAFETY: the consumer's callback.
            Mode::Early => unsafe { completion(context, STATUS_SUCCESS, thing) },
            Mode::Later => {
                parent.refs.set(parent.refs.get() + 1);
                self.defer(move || {
                    // SAFETY: the consumer's callback.
                    unsafe { completion(context, STATUS_SUCCESS, thing) };
                    release(parent);
                });
            }
        }
        if self.does(Misdeed::OutWrittenAfterPending) {
            // SAFETY: the caller's promise.
            unsafe { out.write(null_mut()) };
        }
        STATUS_PENDING
    }

    /// Finishes a request in the mode set.
    pub(super) fn finish(
        &'static self,
        thing: &'static Thing,
        completion: NDK_FN_REQUEST_COMPLETION,
        context: *mut c_void,
        status: NTSTATUS,
    ) -> NTSTATUS {
        self.last_callback.set(Some((completion, context)));
        let context = if self.does(Misdeed::WrongContext) {
            null_mut()
        } else {
            context
        };
        let given = if self.does(Misdeed::CompletesPending) {
            STATUS_PENDING
        } else {
            status
        };
        let tell = move || {
            let locked = self.does(Misdeed::CallsWithLock);
            let lock = self.lock.get();
            // SAFETY: the provider's own spin lock.
            let irql = locked.then(|| unsafe { KeAcquireSpinLockRaiseToDpc(lock.cast()) });
            // SAFETY: the consumer's callback.
            unsafe { completion(context, given) };
            if let Some(irql) = irql {
                // SAFETY: acquired above.
                unsafe { KeReleaseSpinLock(lock.cast(), irql) };
            }
        };
        match self.mode.get() {
            Mode::Inline => {
                if self.does(Misdeed::CompletesAndReturnsSuccess) {
                    tell();
                }
                if self.does(Misdeed::CompletesAfterSuccess) {
                    self.defer(tell);
                }
                return status;
            }
            Mode::Early => {
                tell();
                if self.does(Misdeed::CompletesTwice) {
                    // SAFETY: the consumer's callback, once too often.
                    unsafe { completion(context, status) };
                }
            }
            Mode::Later if self.does(Misdeed::NeverCompletes) => {}
            Mode::Later => {
                let early = self.does(Misdeed::ClosesBeforeRequests);
                if !early {
                    thing.refs.set(thing.refs.get() + 1);
                }
                self.defer(move || {
                    tell();
                    if !early {
                        release(thing);
                    }
                });
            }
        }
        STATUS_PENDING
    }

    /// An entry for a completion queue.
    pub(super) fn complete(
        &'static self,
        qp: &'static Thing,
        request: *mut c_void,
        kind: NDK_OPERATION_TYPE,
        status: NTSTATUS,
    ) {
        let receive = matches!(
            kind,
            NdkOperationTypeReceive | NdkOperationTypeReceiveAndInvalidate
        );
        let cq = if receive {
            &qp.receive_cq
        } else {
            &qp.initiator_cq
        };
        let mut entry = NDK_RESULT_EX {
            Status: status,
            QPContext: qp.context.get(),
            RequestContext: request,
            Type: kind,
            ..NDK_RESULT_EX::ZEROED
        };
        if self.does(Misdeed::WrongQpContext) {
            entry.QPContext = null_mut();
        }
        if self.does(Misdeed::WrongRequestContext) {
            entry.RequestContext = null_mut();
        }
        if self.does(Misdeed::ResultPending) {
            entry.Status = STATUS_PENDING;
        }
        if self.does(Misdeed::WrongResultType) {
            entry.Type = 3;
        }
        if self.does(Misdeed::ErrorCodeOnSuccess) {
            entry.ProviderErrorCode = 7;
        }
        // SAFETY: objects stay.
        let cq = unsafe { &*cq.get() };
        {
            let _kernel = KernelMode::enter();
            let mut entries = cq.entries.borrow_mut();
            entries.push_back(entry);
            if self.does(Misdeed::ResultTwice) {
                entries.push_back(entry);
            }
        }
        self.notify_if_due(cq);
    }

    fn notify_if_due(&'static self, cq: &'static Thing) {
        let due = cq.armed.get() && !cq.entries.borrow().is_empty() && !cq.notifying.get();
        let unarmed = self.does_once(Misdeed::NotifiesUnarmed);
        if due || unarmed {
            if self.does_once(Misdeed::NotifiesTwice) {
                self.defer(move || self.notify(cq, STATUS_SUCCESS));
            }
            cq.armed.set(false);
            self.defer(move || self.notify(cq, STATUS_SUCCESS));
        }
    }

    /// Calls a CQ's notification.
    pub(super) fn notify(&'static self, cq: &'static Thing, status: NTSTATUS) {
        let status = if self.does(Misdeed::NotifiesOddStatus) {
            STATUS_CANCELLED
        } else {
            status
        };
        cq.armed.set(false);
        let count = cq.refs.get();
        cq.refs
            .set(count + u32::from(!self.does(Misdeed::ClosesBeforeEvents)));
        let kept = cq.refs.get() > count;
        cq.notifying.set(true);
        if let Some(notification) = cq.cq_notification.get() {
            // SAFETY: the consumer's callback.
            unsafe { notification(cq.context.get(), status) };
        }
        cq.notifying.set(false);
        self.notify_if_due(cq);
        if kept {
            release(cq);
        }
    }

    pub(super) fn arm(&'static self, cq: &'static Thing) {
        cq.armed.set(true);
        if let Some(event) = self.inside.take() {
            event();
        }
        if self.does_once(Misdeed::NotifiesInArm) {
            return self.notify(cq, STATUS_SUCCESS);
        }
        if cq.notifying.get() && self.does_once(Misdeed::NotifiesOverlapping) {
            let notification = cq.cq_notification.get().expect("a CQ has one");
            // SAFETY: the consumer's callback.
            return unsafe { notification(cq.context.get(), STATUS_SUCCESS) };
        }
        self.notify_if_due(cq);
    }

    pub(super) fn take(&self, cq: &Thing, room: u32) -> Vec<NDK_RESULT_EX> {
        let mut entries = cq.entries.borrow_mut();
        let count = (room as usize).min(entries.len());
        entries.drain(..count).collect()
    }

    pub(super) fn queue_receive(&self, queue: &Thing, request: *mut c_void) {
        let _kernel = KernelMode::enter();
        queue.receives.borrow_mut().push_back(request);
    }

    /// A message arrives.
    pub(super) fn deliver(&'static self, qp: &'static Thing, from: &Thing) {
        self.deliver_as(NdkOperationTypeReceive, qp, from);
    }

    /// A message arrives, which is received as that type of operation.
    pub(super) fn deliver_as(
        &'static self,
        kind: NDK_OPERATION_TYPE,
        qp: &'static Thing,
        from: &Thing,
    ) {
        let request = from.receives.borrow_mut().pop_front();
        let request = request.expect("a receive is posted");
        self.complete(qp, request, kind, STATUS_SUCCESS);
    }

    pub(super) fn flush(&'static self, qp: &'static Thing) {
        loop {
            let request = qp.receives.borrow_mut().pop_front();
            let Some(request) = request else { return };
            if !self.does(Misdeed::LosesReceives) {
                self.complete(qp, request, NdkOperationTypeReceive, STATUS_CANCELLED);
            }
        }
    }

    /// A peer wants to connect.
    pub(super) fn incoming(&'static self, listener: &'static Thing) {
        let Some(event) = listener.connect_event.get() else {
            return;
        };
        let connector = if self.does(Misdeed::EventWithoutConnector) {
            null_mut()
        } else {
            self.make(Kind::Connector, tables::connector(), &[listener])
        };
        listener.refs.set(listener.refs.get() + 1);
        self.defer(move || {
            // SAFETY: the consumer's callback.
            unsafe { event(listener.context.get(), connector.cast()) };
            release(listener);
        });
    }

    /// The peer disconnects.
    pub(super) fn peer_disconnects(&'static self, connector: &'static Thing) {
        connector.refs.set(connector.refs.get() + 1);
        self.defer(move || {
            let times = 1 + u32::from(self.does(Misdeed::DisconnectsTwice));
            for _ in 0..times {
                let context = connector.context.get();
                if let Some(event) = connector.disconnect_event.get() {
                    // SAFETY: the consumer's callback.
                    unsafe { event(context) };
                }
                if let Some(event) = connector.disconnect_event_ex.get() {
                    // SAFETY: the consumer's callback.
                    unsafe { event(context, 0) };
                }
            }
            release(connector);
        });
    }

    /// Whether all objects but adapters are closed.
    pub(super) fn is_empty(&self) -> bool {
        self.things.borrow().iter().all(|thing| {
            // SAFETY: nobody changes it but through cells.
            let thing = unsafe { &*thing.get() };
            thing.kind == Kind::Adapter || thing.refs.get() == 0
        })
    }
}

/// An antecedent of `thing` from now on.
pub(super) fn depend(thing: &'static Thing, antecedent: &'static Thing) {
    let _kernel = KernelMode::enter();
    antecedent.refs.set(antecedent.refs.get() + 1);
    thing.antecedents.borrow_mut().push(antecedent);
}

/// Ends what [`depend`] began, with antecedents of a kind.
pub(super) fn part(thing: &'static Thing, kind: Kind) {
    // SAFETY: objects stay.
    let is = |antecedent: &mut *const Thing| unsafe { &**antecedent }.kind == kind;
    let parted: Vec<_> = thing.antecedents.borrow_mut().extract_if(.., is).collect();
    for antecedent in parted {
        // SAFETY: as above.
        release(unsafe { &*antecedent });
    }
}

/// Gives a reference back; the last one closes.
pub(super) fn release(thing: &'static Thing) {
    thing.refs.set(thing.refs.get() - 1);
    if thing.refs.get() > 0 {
        return;
    }
    if let Some((completion, context)) = thing.close.take() {
        // SAFETY: the consumer's callback.
        unsafe { completion(context) };
    }
    release_antecedents(thing);
}

fn release_antecedents(thing: &'static Thing) {
    let antecedents = std::mem::take(&mut *thing.antecedents.borrow_mut());
    for antecedent in antecedents {
        // SAFETY: objects stay.
        release(unsafe { &*antecedent });
    }
}

/// `NdkCloseXxx`.
pub(super) fn close(
    thing: &'static Thing,
    completion: NDK_FN_CLOSE_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let fake = thing.fake();
    fake.flush(thing);
    if fake.does(Misdeed::CloseFails) {
        return STATUS_DEVICE_BUSY;
    }
    if fake.does(Misdeed::EventAfterListenerClose) && thing.kind == Kind::Listener {
        fake.incoming(thing);
    }
    if fake.does(Misdeed::DisconnectsWhileClosing) && thing.kind == Kind::Connector {
        fake.peer_disconnects(thing);
    }
    if fake.does(Misdeed::ClosesBeforeSuccessors) && thing.kind == Kind::Pd {
        // Closed whatever depends on it; they release it nevertheless.
        thing.refs.set(thing.refs.get() + 1);
        return STATUS_SUCCESS;
    }
    if thing.refs.get() > 1 || fake.mode.get() == Mode::Early {
        thing.close.set(Some((completion, context)));
        release(thing);
        return STATUS_PENDING;
    }
    if fake.mode.get() == Mode::Later {
        thing.close.set(Some((completion, context)));
        fake.defer(move || release(thing));
        return STATUS_PENDING;
    }
    thing.refs.set(0);
    release_antecedents(thing);
    if thing.kind == Kind::Cq && fake.does(Misdeed::CallsAfterClose) {
        fake.defer(move || fake.notify(thing, STATUS_SUCCESS));
    }
    STATUS_SUCCESS
}
