//! NDK_MW_DISPATCH.

use super::Raw;
use ndkpi::*;

pub(in crate::spin) fn mw_token(mw: Raw) -> u32 {
    // SAFETY: as the module above says.
    unsafe { (mw.table::<NDK_MW_DISPATCH>().NdkGetRemoteTokenFromMw)(mw.at()) }
}
