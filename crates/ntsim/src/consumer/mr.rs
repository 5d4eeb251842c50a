//! Memory regions.

use super::pending::{Pending, create, on_close, on_create, on_request};
use super::{Buffer, Pd, Result, calling};
use ndkpi::{NDK_MR, NDK_MR_DISPATCH};
use std::ptr::NonNull;

/// A memory region.
pub struct Mr {
    raw: NonNull<NDK_MR>,
}

impl Mr {
    pub(super) fn create(pd: &Pd, fast_register: bool) -> Result<Mr> {
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete.
            unsafe {
                (calling(pd.table()).NdkCreateMr)(
                    pd.raw(),
                    u8::from(fast_register),
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Mr { raw })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_MR {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_MR_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkRegisterMr over a whole buffer, waiting. PASSIVE_LEVEL.
    pub fn register(&self, buffer: &Buffer, flags: u32) -> Result<()> {
        Pending::start(|context| {
            // SAFETY: the buffer's MDL is built and stays; context as always.
            unsafe {
                (calling(self.table()).NdkRegisterMr)(
                    self.raw(),
                    buffer.mdl().cast(),
                    buffer.len(),
                    flags,
                    on_request,
                    context,
                )
            }
        })
        .wait_here()
    }

    /// NdkInitializeFastRegisterMr for up to `pages` pages, waiting. PASSIVE_LEVEL.
    pub fn initialize(&self, pages: u32, remote_access: bool) -> Result<()> {
        Pending::start(|context| {
            // SAFETY: context as always.
            unsafe {
                (calling(self.table()).NdkInitializeFastRegisterMr)(
                    self.raw(),
                    pages,
                    u8::from(remote_access),
                    on_request,
                    context,
                )
            }
        })
        .wait_here()
    }

    /// NdkDeregisterMr, waiting. PASSIVE_LEVEL.
    pub fn deregister(&self) -> Result<()> {
        self.start_deregister().wait_here()
    }

    /// NdkDeregisterMr.
    #[must_use]
    pub fn start_deregister(&self) -> Pending {
        Pending::start(|context| {
            // SAFETY: context as always.
            unsafe { (calling(self.table()).NdkDeregisterMr)(self.raw(), on_request, context) }
        })
    }

    /// NdkGetLocalTokenFromMr.
    #[must_use]
    pub fn local_token(&self) -> u32 {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkGetLocalTokenFromMr)(self.raw()) }
    }

    /// NdkGetRemoteTokenFromMr: what the peer is told.
    #[must_use]
    pub fn remote_token(&self) -> u32 {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkGetRemoteTokenFromMr)(self.raw()) }
    }

    /// NdkCloseMr, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseMr.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkCloseMr)(self.raw().cast(), on_close, context) }
        })
    }
}
