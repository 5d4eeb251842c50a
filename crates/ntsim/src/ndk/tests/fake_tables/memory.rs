//! The tables of memory regions and memory windows.

use ndkpi::status::*;
use ndkpi::*;

use super::{close, query_extension, thing};

pub(super) static MR: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: close,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register_mr,
    NdkDeregisterMr: deregister_mr,
    NdkInitializeFastRegisterMr: initialize_fast_register,
    NdkGetRemoteTokenFromMr: mr_token,
    NdkGetLocalTokenFromMr: mr_token,
};

unsafe extern "efiapi" fn register_mr(
    mr: *mut NDK_MR,
    _mdl: *mut MDL,
    _length: usize,
    _flags: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn deregister_mr(
    mr: *mut NDK_MR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn initialize_fast_register(
    mr: *mut NDK_MR,
    _pages: u32,
    _remote: BOOLEAN,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: an object.
    let thing = unsafe { thing(mr) };
    thing
        .fake()
        .finish(thing, completion, context, STATUS_SUCCESS)
}

unsafe extern "efiapi" fn mr_token(_mr: *mut NDK_MR) -> u32 {
    0x100
}

pub(super) static MW: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
    NdkCloseMw: close,
    NdkQueryExtension: query_extension,
    NdkGetRemoteTokenFromMw: mw_token,
};

unsafe extern "efiapi" fn mw_token(_mw: *mut NDK_MW) -> u32 {
    0x200
}
