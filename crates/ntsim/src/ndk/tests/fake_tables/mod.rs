//! The dispatch tables of the fake provider, and what all of them share.

mod adapter;
mod connector;
mod cq;
mod endpoint;
mod memory;
mod pd;
mod qp;
mod srq;

pub(super) use adapter::adapter;
pub(super) use connector::{ADDRESS, connector};
pub(super) use cq::{arm_of_cq, cq_without_arm};
pub(super) use srq::DEEPEST;

use ndkpi::status::*;
use ndkpi::*;

use super::fake::{Misdeed, Thing, close as close_thing};

/// # Safety
/// `object` is one that the fake provider made.
unsafe fn thing<T>(object: *mut T) -> &'static Thing {
    // SAFETY: the caller's promise; objects stay.
    unsafe { &*object.cast::<Thing>() }
}

unsafe extern "efiapi" fn close(
    object: *mut NDK_OBJECT_HEADER,
    completion: NDK_FN_CLOSE_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    close_thing(unsafe { thing(object) }, completion, context)
}

unsafe extern "efiapi" fn query_extension(
    object: *mut NDK_OBJECT_HEADER,
    _id: *mut GUID,
    _version: NDK_VERSION,
    _interface: *mut NDK_EXTENSION_INTERFACE,
) -> NTSTATUS {
    // SAFETY: an object.
    if unsafe { thing(object) }
        .fake()
        .does(Misdeed::ExtensionWithoutTable)
    {
        STATUS_SUCCESS
    } else {
        STATUS_NOT_SUPPORTED
    }
}

unsafe fn address(length: *mut u32) -> NTSTATUS {
    // SAFETY: the consumer's variable.
    let length = unsafe { &mut *length };
    let needed = size_of::<SOCKADDR_IN>() as u32;
    let room = std::mem::replace(length, needed);
    if room < needed {
        STATUS_BUFFER_TOO_SMALL
    } else {
        STATUS_SUCCESS
    }
}
