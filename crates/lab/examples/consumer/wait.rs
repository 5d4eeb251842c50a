//! Calls that may pend, for a thread at PASSIVE_LEVEL that waits for each.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::null_mut;

use ndis_sys::imports::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{Executive, KEVENT, NotificationEvent};
use ndkpi::status::{STATUS_PENDING, STATUS_SUCCESS};
use ndkpi::{NDK_FN_CLOSE_OBJECT, NDK_OBJECT_HEADER, NTSTATUS};

/// What goes wrong is told by a status.
pub type Result<T> = core::result::Result<T, NTSTATUS>;

/// Only STATUS_SUCCESS is success. A sign test, NT_SUCCESS that is, would let STATUS_PENDING pass.
pub fn check(status: NTSTATUS) -> Result<()> {
    if status == STATUS_SUCCESS {
        Ok(())
    } else {
        Err(status)
    }
}

/// The context of one call. It may lie on the stack because the wait below has no timeout: nobody leaves the frame before the
/// callback has come.
struct Wait {
    done: UnsafeCell<KEVENT>,
    status: Cell<NTSTATUS>,
    object: Cell<*mut NDK_OBJECT_HEADER>,
}

impl Wait {
    /// What a callback does: last of all it sets the event, after which the context is gone.
    fn finish(&self, status: NTSTATUS, object: *mut NDK_OBJECT_HEADER) {
        self.status.set(status);
        self.object.set(object);
        // SAFETY: initialised in `until_done`, which waits.
        unsafe { KeSetEvent(self.done.get(), 0, 0) };
    }
}

unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    // SAFETY: the context that `until_done` gave.
    unsafe { &*context.cast::<Wait>() }.finish(status, object);
}

unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the context that `until_done` gave.
    unsafe { &*context.cast::<Wait>() }.finish(status, null_mut());
}

unsafe extern "efiapi" fn on_close(context: *mut c_void) {
    // SAFETY: the context that `until_done` gave.
    unsafe { &*context.cast::<Wait>() }.finish(STATUS_SUCCESS, null_mut());
}

/// Makes a call with a context, and waits if it pends. The final status, and the object if a callback brought one.
fn until_done(call: impl FnOnce(*mut c_void) -> NTSTATUS) -> (NTSTATUS, *mut NDK_OBJECT_HEADER) {
    let wait = Wait {
        done: UnsafeCell::new(KEVENT::ZEROED),
        status: Cell::new(STATUS_PENDING),
        object: Cell::new(null_mut()),
    };
    // SAFETY: the event stays where it is until this function returns.
    unsafe { KeInitializeEvent(wait.done.get(), NotificationEvent, 0) };
    let status = call((&raw const wait).cast_mut().cast());
    if status != STATUS_PENDING {
        // Done already. No callback comes.
        return (status, null_mut());
    }
    // The callback may have come before the call returned: then this does not block.
    // SAFETY: initialised above.
    unsafe { KeWaitForSingleObject(wait.done.get().cast(), Executive, KernelMode, 0, null_mut()) };
    (wait.status.get(), wait.object.get())
}

/// A create. `call` gets the completion, its context, and the out parameter, which the provider writes only if it does not pend.
pub fn create<T>(
    call: impl FnOnce(ndkpi::NDK_FN_CREATE_COMPLETION, *mut c_void, *mut *mut T) -> NTSTATUS,
) -> Result<*mut T> {
    let mut made = null_mut();
    let (status, object) = until_done(|context| call(on_create, context, &raw mut made));
    check(status)?;
    Ok(if object.is_null() {
        made
    } else {
        object.cast()
    })
}

/// A request.
pub fn request(
    call: impl FnOnce(ndkpi::NDK_FN_REQUEST_COMPLETION, *mut c_void) -> NTSTATUS,
) -> Result<()> {
    check(until_done(|context| call(on_request, context)).0)
}

/// A close, which cannot fail. When it returns no callback for the object runs or will run.
///
/// # Safety
/// `object` is open, `function` is the close function in its table, and nobody calls anything on it any more.
pub unsafe fn close(function: NDK_FN_CLOSE_OBJECT, object: *mut NDK_OBJECT_HEADER) {
    // SAFETY: the caller's promise.
    until_done(|context| unsafe { function(object, on_close, context) });
}
