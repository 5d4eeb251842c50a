//! Completion queues and their notifications.

use super::pending::{Call, Pending, Wake, create, irql, keep, on_close, on_create};
use super::{Adapter, Result, calling};
use crate::world::context;
use ndkpi::status::{STATUS_INTERNAL_ERROR, STATUS_SUCCESS};
use ndkpi::{
    NDK_CQ, NDK_CQ_DISPATCH, NDK_CQ_NOTIFY_ANY, NDK_RESULT, NDK_RESULT_EX, NTSTATUS, c_void,
};
use std::cell::{Cell, RefCell};
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

/// What to do when notified, with the status.
pub(super) type OnNotify = Box<dyn Fn(NTSTATUS)>;

/// The notifications of one completion queue.
#[derive(Default)]
pub struct Notifications {
    calls: RefCell<Vec<Call>>,
    count: Cell<u64>,
    on_notify: RefCell<Option<Rc<OnNotify>>>,
    /// Of the notification that the queue is dead.
    dead: Cell<Option<NTSTATUS>>,
    wake: Wake,
}

impl Notifications {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// The first 1024 of them.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }
}

unsafe extern "efiapi" fn on_notification(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the provider passes back the context it was given, which the world keeps.
    let notifications = unsafe { &*context.cast::<Notifications>() };
    notifications.count.set(notifications.count.get() + 1);
    if notifications.count.get() <= 1024 {
        let call = Call {
            status,
            irql: irql(),
        };
        let _kernel = context::KernelMode::enter();
        notifications.calls.borrow_mut().push(call);
    }
    if status != STATUS_SUCCESS {
        notifications.dead.set(Some(status));
    }
    notifications.wake.up();
    let on_notify = notifications.on_notify.borrow().clone();
    if let Some(on_notify) = on_notify {
        on_notify(status);
    }
}

/// A completion queue.
pub struct Cq {
    raw: NonNull<NDK_CQ>,
    notifications: Rc<Notifications>,
}

impl Cq {
    pub(super) fn create(adapter: &Adapter, depth: u32) -> Result<Cq> {
        let notifications = keep(Notifications::default());
        let raw = create(|context, out| {
            // SAFETY: contexts and out parameter live until the create is complete, the notifications as long as the world.
            unsafe {
                (calling(adapter.table()).NdkCreateCq)(
                    adapter.raw(),
                    depth,
                    on_notification,
                    Rc::as_ptr(&notifications).cast_mut().cast(),
                    null_mut(),
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Cq { raw, notifications })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_CQ {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_CQ_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkArmCq with `NDK_CQ_NOTIFY_*`.
    pub fn arm(&self, kind: u32) {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkArmCq)(self.raw(), kind) };
    }

    /// The notifications so far.
    #[must_use]
    pub fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// Runs `f` inside every notification from now on.
    pub fn on_notify(&self, f: impl Fn(NTSTATUS) + 'static) {
        let _kernel = context::KernelMode::enter();
        *self.notifications.on_notify.borrow_mut() = Some(Rc::new(Box::new(f)));
    }

    /// NdkGetCqResults into `results`; how many there were.
    pub fn poll_into(&self, results: &mut [NDK_RESULT]) -> usize {
        let room = u32::try_from(results.len()).unwrap_or(u32::MAX);
        // SAFETY: the array has that many elements.
        let count = unsafe {
            (calling(self.table()).NdkGetCqResults)(self.raw(), results.as_mut_ptr(), room)
        };
        count as usize
    }

    /// NdkGetCqResults: the next result.
    #[must_use]
    pub fn poll(&self) -> Option<NDK_RESULT> {
        let mut results = [NDK_RESULT::ZEROED];
        (self.poll_into(&mut results) == 1).then(|| results[0])
    }

    /// Waits for the next result, whatever its status; the error is that of a dead queue. PASSIVE_LEVEL.
    ///
    /// A peer that goes does not end receives: without a disconnect the wait lasts for ever.
    pub fn wait(&self) -> Result<NDK_RESULT> {
        let mut result = None;
        let notifications = &self.notifications;
        notifications.wake.until(|| {
            result = self.poll();
            if result.is_none() {
                self.arm(NDK_CQ_NOTIFY_ANY);
                // Of one that came between the two calls nobody need be notified.
                result = self.poll();
            }
            result.is_some() || notifications.dead.get().is_some()
        });
        result.ok_or_else(|| notifications.dead.get().unwrap_or(STATUS_INTERNAL_ERROR))
    }

    /// NdkGetCqResultsEx: the next result.
    #[must_use]
    pub fn poll_ex(&self) -> Option<NDK_RESULT_EX> {
        let mut result = NDK_RESULT_EX::ZEROED;
        // SAFETY: an array of one.
        let count =
            unsafe { (calling(self.table()).NdkGetCqResultsEx)(self.raw(), &raw mut result, 1) };
        (count == 1).then_some(result)
    }

    /// NdkCloseCq, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseCq.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkCloseCq)(self.raw().cast(), on_close, context) }
        })
    }
}
