//! The consumer's callbacks.

use super::super::callbacks;
use super::Raw;
use ndkpi::*;

pub(super) unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    callbacks::created(context.addr(), status, Raw::new(object));
}

pub(super) unsafe extern "efiapi" fn on_request(context: *mut c_void, status: NTSTATUS) {
    callbacks::completed(context.addr(), status);
}

pub(super) unsafe extern "efiapi" fn on_close(context: *mut c_void) {
    callbacks::closed(context.addr());
}

pub(super) unsafe extern "efiapi" fn on_cq(context: *mut c_void, status: NTSTATUS) {
    callbacks::cq_notified(context.addr(), status);
}

pub(super) unsafe extern "efiapi" fn on_srq(context: *mut c_void, status: NTSTATUS) {
    callbacks::srq_notified(context.addr(), status);
}

pub(super) unsafe extern "efiapi" fn on_connect(
    context: *mut c_void,
    connector: *mut NDK_CONNECTOR,
) {
    if let Some(connector) = Raw::new(connector) {
        callbacks::connecting(context.addr(), connector);
    }
}

pub(super) unsafe extern "efiapi" fn on_disconnect(context: *mut c_void) {
    callbacks::disconnected(context.addr(), None);
}

pub(super) unsafe extern "efiapi" fn on_disconnect_ex(context: *mut c_void, reason: u32) {
    callbacks::disconnected(context.addr(), Some(reason));
}
