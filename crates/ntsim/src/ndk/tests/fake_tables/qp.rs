//! The table of queue pairs.

use ndkpi::status::*;
use ndkpi::*;

use super::super::fake::{Misdeed, depend, part};
use super::{close, query_extension, thing};
use crate::ndk::object::Kind;

pub(super) static QP: NDK_QP_DISPATCH = NDK_QP_DISPATCH {
    NdkCloseQp: close,
    NdkQueryExtension: query_extension,
    NdkFlush: flush,
    NdkSend: send,
    NdkReceive: receive,
    NdkBind: bind,
    NdkFastRegister: fast_register,
    NdkInvalidate: invalidate,
    NdkRead: read,
    NdkWrite: write,
    NdkSendAndInvalidate: send_and_invalidate,
};

unsafe extern "efiapi" fn flush(qp: *mut NDK_QP) {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    thing.fake().flush(thing);
}

/// Any initiator request.
unsafe fn initiate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    flags: u32,
    kind: NDK_OPERATION_TYPE,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    let fake = thing.fake();
    if let Some(event) = fake.inside.take() {
        event();
    }
    if fake.does(Misdeed::PostPends) {
        return STATUS_PENDING;
    }
    if !thing.connected.get() && !fake.does(Misdeed::PostsUnconnected) {
        return STATUS_CONNECTION_INVALID;
    }
    if flags & NDK_OP_FLAG_SILENT_SUCCESS == 0 {
        fake.complete(thing, context, kind, STATUS_SUCCESS);
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn send(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeSend) }
}

unsafe extern "efiapi" fn receive(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(qp) };
    thing.fake().queue_receive(thing, context);
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn bind(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    mw: *mut NDK_MW,
    _address: *mut c_void,
    _length: usize,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: objects.
    let (status, window, region) = unsafe {
        let status = initiate(qp, context, flags, NdkOperationTypeBind);
        (status, thing(mw), thing(mr))
    };
    if status == STATUS_SUCCESS {
        part(window, Kind::Mr);
        if !window.fake().does(Misdeed::ClosesWhileBound) {
            depend(window, region);
        }
    }
    status
}

unsafe extern "efiapi" fn fast_register(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _mr: *mut NDK_MR,
    _pages: u32,
    _array: *const NDK_LOGICAL_ADDRESS,
    _offset: u32,
    _length: usize,
    _base: *mut c_void,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeFastRegister) }
}

unsafe extern "efiapi" fn invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    object: *mut NDK_OBJECT_HEADER,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: objects.
    let (status, thing) = unsafe {
        let status = initiate(qp, context, flags, NdkOperationTypeInvalidate);
        (status, thing(object))
    };
    if status == STATUS_SUCCESS && thing.kind == Kind::Mw {
        part(thing, Kind::Mr);
    }
    status
}

unsafe extern "efiapi" fn read(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    _address: u64,
    _token: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeRead) }
}

unsafe extern "efiapi" fn write(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    _address: u64,
    _token: u32,
    flags: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeWrite) }
}

unsafe extern "efiapi" fn send_and_invalidate(
    qp: *mut NDK_QP,
    context: *mut c_void,
    _sgl: *const NDK_SGE,
    _count: u32,
    flags: u32,
    _token: u32,
) -> NTSTATUS {
    // SAFETY: an object.
    unsafe { initiate(qp, context, flags, NdkOperationTypeSend) }
}
