//! Memory windows.

use super::pending::{Pending, create, on_close, on_create};
use super::{Pd, Result, calling};
use ndkpi::{NDK_MW, NDK_MW_DISPATCH};
use std::ptr::NonNull;

/// A memory window.
pub struct Mw {
    raw: NonNull<NDK_MW>,
}

impl Mw {
    pub(super) fn create(pd: &Pd) -> Result<Mw> {
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete.
            unsafe { (calling(pd.table()).NdkCreateMw)(pd.raw(), on_create, context, out) }
        })?;
        Ok(Mw { raw })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_MW {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_MW_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkGetRemoteTokenFromMw: what the peer is told.
    #[must_use]
    pub fn remote_token(&self) -> u32 {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkGetRemoteTokenFromMw)(self.raw()) }
    }

    /// NdkCloseMw, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseMw.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkCloseMw)(self.raw().cast(), on_close, context) }
        })
    }
}
