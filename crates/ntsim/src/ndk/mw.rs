//! Hooked memory windows.

use ndkpi::*;

use super::call::enter;
use super::object::Kind;
use super::tables::{common, slots};
use crate::verifier::Function;
use crate::world::processor::{DISPATCH, PASSIVE};

pub(super) const SLOTS: &[(&str, NDK_VERSION)] =
    slots![NdkCloseMw, NdkQueryExtension, NdkGetRemoteTokenFromMw];

pub(super) static HOOKS: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
    NdkCloseMw: close,
    NdkQueryExtension: query_extension,
    NdkGetRemoteTokenFromMw: remote_token,
};

common!(Mw, "NdkCloseMw");

unsafe extern "efiapi" fn remote_token(mw: *mut NDK_MW) -> u32 {
    static F: Function = Function::callback("NdkGetRemoteTokenFromMw", PASSIVE..=DISPATCH);
    let Some(hook) = enter(mw.cast(), Kind::Mw, &F) else {
        return 0;
    };
    let table = hook.object.table::<NDK_MW_DISPATCH>();
    // SAFETY: the provider's table and object.
    hook.call(|| unsafe { ((*table).NdkGetRemoteTokenFromMw)(mw) })
}
