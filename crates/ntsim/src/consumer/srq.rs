//! Shared receive queues and their notifications.

use super::pending::{Call, Pending, create, irql, keep, on_close, on_create, on_request};
use super::qp::{count, ptr};
use super::{Pd, Result, calling, check};
use crate::world::context;
use ndkpi::{NDK_SGE, NDK_SRQ, NDK_SRQ_DISPATCH, NTSTATUS, c_void};
use std::cell::RefCell;
use std::ptr::{NonNull, null_mut};
use std::rc::Rc;

/// The notifications of one shared receive queue, in order.
#[derive(Default)]
struct Notifications(RefCell<Vec<Call>>);

unsafe extern "efiapi" fn on_notification(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the provider passes back the context it was given, which the world keeps.
    let notifications = unsafe { &*context.cast::<Notifications>() };
    let call = Call {
        status,
        irql: irql(),
    };
    let _kernel = context::KernelMode::enter();
    notifications.0.borrow_mut().push(call);
}

/// A shared receive queue.
pub struct Srq {
    raw: NonNull<NDK_SRQ>,
    notifications: Rc<Notifications>,
}

impl Srq {
    pub(super) fn create(pd: &Pd, depth: u32, sges: u32, threshold: u32) -> Result<Srq> {
        let notifications = keep(Notifications::default());
        let raw = create(|context, out| {
            // SAFETY: contexts and out parameter live until the create is complete, the notifications as long as the world.
            unsafe {
                (calling(pd.table()).NdkCreateSrq)(
                    pd.raw(),
                    depth,
                    sges,
                    threshold,
                    Some(on_notification),
                    Rc::as_ptr(&notifications).cast_mut().cast(),
                    null_mut(),
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Srq { raw, notifications })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_SRQ {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_SRQ_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkSrqReceive.
    pub fn receive(&self, context: u64, sgl: &[NDK_SGE]) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkSrqReceive)(
                self.raw(),
                ptr(context),
                sgl.as_ptr(),
                count(sgl),
            )
        })
    }

    /// NdkModifySrq, waiting; 0 keeps depth or threshold. PASSIVE_LEVEL.
    pub fn modify(&self, depth: u32, threshold: u32) -> Result<()> {
        Pending::start(|context| {
            // SAFETY: context as always.
            unsafe {
                (calling(self.table()).NdkModifySrq)(
                    self.raw(),
                    depth,
                    threshold,
                    on_request,
                    context,
                )
            }
        })
        .wait_here()
    }

    /// The notifications so far.
    #[must_use]
    pub fn notifications(&self) -> Vec<Call> {
        self.notifications.0.borrow().clone()
    }

    /// NdkCloseSrq, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseSrq.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkCloseSrq)(self.raw().cast(), on_close, context) }
        })
    }
}
