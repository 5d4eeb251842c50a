//! Hooked memory regions.

use ndkpi::status::*;
use ndkpi::*;

use super::call::{enter, request};
use super::object::Kind;
use super::tables::{common, slots};
use crate::verifier::Function;
use crate::world::processor::{DISPATCH, PASSIVE};

pub(super) const SLOTS: &[(&str, NDK_VERSION)] = slots![
    NdkCloseMr,
    NdkQueryExtension,
    NdkRegisterMr,
    NdkDeregisterMr,
    NdkInitializeFastRegisterMr,
    NdkGetRemoteTokenFromMr,
    NdkGetLocalTokenFromMr,
];

pub(super) static HOOKS: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: close,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register,
    NdkDeregisterMr: deregister,
    NdkInitializeFastRegisterMr: initialize_fast_register,
    NdkGetRemoteTokenFromMr: remote_token,
    NdkGetLocalTokenFromMr: local_token,
};

common!(Mr, "NdkCloseMr");

unsafe extern "efiapi" fn register(
    mr: *mut NDK_MR,
    mdl: *mut MDL,
    length: usize,
    flags: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    static F: Function = Function::callback("NdkRegisterMr", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mr.cast(), Kind::Mr, &F) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(mdl, "the MDL") {
        return STATUS_INVALID_PARAMETER;
    }
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request(&hook, completion, context, None, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkRegisterMr)(mr, mdl, length, flags, done, cookie) }
    })
}

unsafe extern "efiapi" fn deregister(
    mr: *mut NDK_MR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    static F: Function = Function::callback("NdkDeregisterMr", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mr.cast(), Kind::Mr, &F) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request(&hook, completion, context, None, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkDeregisterMr)(mr, done, cookie) }
    })
}

unsafe extern "efiapi" fn initialize_fast_register(
    mr: *mut NDK_MR,
    pages: u32,
    remote: BOOLEAN,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    static F: Function = Function::callback("NdkInitializeFastRegisterMr", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mr.cast(), Kind::Mr, &F) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request(&hook, completion, context, None, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkInitializeFastRegisterMr)(mr, pages, remote, done, cookie) }
    })
}

unsafe extern "efiapi" fn remote_token(mr: *mut NDK_MR) -> u32 {
    static F: Function = Function::callback("NdkGetRemoteTokenFromMr", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mr.cast(), Kind::Mr, &F) else {
        return 0;
    };
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    // SAFETY: the provider's table and object.
    hook.call(|| unsafe { ((*table).NdkGetRemoteTokenFromMr)(mr) })
}

unsafe extern "efiapi" fn local_token(mr: *mut NDK_MR) -> u32 {
    static F: Function = Function::callback("NdkGetLocalTokenFromMr", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mr.cast(), Kind::Mr, &F) else {
        return 0;
    };
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    // SAFETY: the provider's table and object.
    hook.call(|| unsafe { ((*table).NdkGetLocalTokenFromMr)(mr) })
}
