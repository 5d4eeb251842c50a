//! Queue pairs.

use super::pending::{Pending, create, on_close, on_create};
use super::{Buffer, Cq, Mr, Mw, Pd, Result, Srq, calling, check};
use ndkpi::{
    NDK_LOGICAL_ADDRESS, NDK_OBJECT_HEADER, NDK_QP, NDK_QP_DISPATCH, NDK_SGE, NDK_SGE_ADDRESS,
    c_void,
};
use std::ptr::NonNull;

/// Sizes of a queue pair.
#[derive(Clone, Copy, Debug)]
pub struct QpLimits {
    /// Outstanding receives.
    pub receive_depth: u32,
    /// Outstanding initiator requests.
    pub initiator_depth: u32,
    /// SGEs of a receive.
    pub receive_sges: u32,
    /// SGEs of an initiator request.
    pub initiator_sges: u32,
    /// Bytes of inline data.
    pub inline_data: u32,
    /// Comes back in every result.
    pub context: u64,
}

impl Default for QpLimits {
    fn default() -> Self {
        QpLimits {
            receive_depth: 32,
            initiator_depth: 32,
            receive_sges: 2,
            initiator_sges: 2,
            inline_data: 0,
            context: 0,
        }
    }
}

/// An element of a scatter-gather list: a part of a registered buffer.
#[must_use]
pub fn sge(buffer: &Buffer, mr: &Mr, offset: usize, length: usize) -> NDK_SGE {
    NDK_SGE {
        Anonymous: NDK_SGE_ADDRESS {
            VirtualAddress: (buffer.address() as usize + offset) as *mut c_void,
        },
        Length: u32::try_from(length).expect("an element of less than 4 GiB"),
        MemoryRegionToken: mr.local_token(),
    }
}

/// What [`Qp::invalidate`] takes.
#[derive(Clone, Copy)]
pub enum Invalidated<'a> {
    /// A fast-registered region.
    Region(&'a Mr),
    /// A window.
    Window(&'a Mw),
}

impl<'a> From<&'a Mr> for Invalidated<'a> {
    fn from(mr: &'a Mr) -> Self {
        Invalidated::Region(mr)
    }
}

impl<'a> From<&'a Mw> for Invalidated<'a> {
    fn from(mw: &'a Mw) -> Self {
        Invalidated::Window(mw)
    }
}

/// A queue pair. Posts return the status of the post; results come from its completion queues.
pub struct Qp {
    raw: NonNull<NDK_QP>,
}

impl Qp {
    pub(super) fn create(
        pd: &Pd,
        receive_cq: &Cq,
        initiator_cq: &Cq,
        limits: QpLimits,
    ) -> Result<Qp> {
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete.
            unsafe {
                (calling(pd.table()).NdkCreateQp)(
                    pd.raw(),
                    receive_cq.raw(),
                    initiator_cq.raw(),
                    limits.context as usize as *mut c_void,
                    limits.receive_depth,
                    limits.initiator_depth,
                    limits.receive_sges,
                    limits.initiator_sges,
                    limits.inline_data,
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Qp { raw })
    }

    pub(super) fn create_with_srq(
        pd: &Pd,
        receive_cq: &Cq,
        initiator_cq: &Cq,
        srq: &Srq,
        limits: QpLimits,
    ) -> Result<Qp> {
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete.
            unsafe {
                (calling(pd.table()).NdkCreateQpWithSrq)(
                    pd.raw(),
                    receive_cq.raw(),
                    initiator_cq.raw(),
                    srq.raw(),
                    limits.context as usize as *mut c_void,
                    limits.initiator_depth,
                    limits.initiator_sges,
                    limits.inline_data,
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Qp { raw })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_QP {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_QP_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkSend.
    pub fn send(&self, context: u64, sgl: &[NDK_SGE], flags: u32) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkSend)(
                self.raw(),
                ptr(context),
                sgl.as_ptr(),
                count(sgl),
                flags,
            )
        })
    }

    /// NdkSendAndInvalidate: the peer invalidates `token` before it sees the data.
    pub fn send_and_invalidate(
        &self,
        context: u64,
        sgl: &[NDK_SGE],
        flags: u32,
        token: u32,
    ) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkSendAndInvalidate)(
                self.raw(),
                ptr(context),
                sgl.as_ptr(),
                count(sgl),
                flags,
                token,
            )
        })
    }

    /// NdkFastRegister of `length` bytes from `first_byte` of the first of these pages, to be reached at `base`.
    #[expect(clippy::too_many_arguments, reason = "NDKPI's own parameters")]
    pub fn fast_register(
        &self,
        context: u64,
        mr: &Mr,
        pages: &[NDK_LOGICAL_ADDRESS],
        first_byte: u32,
        length: usize,
        base: u64,
        flags: u32,
    ) -> Result<()> {
        // SAFETY: an initialised region; the pages are valid during the call.
        check(unsafe {
            (calling(self.table()).NdkFastRegister)(
                self.raw(),
                ptr(context),
                mr.raw(),
                u32::try_from(pages.len()).unwrap_or(u32::MAX),
                pages.as_ptr(),
                first_byte,
                length,
                ptr(base),
                flags,
            )
        })
    }

    /// NdkInvalidate of a fast-registered region or of a window.
    pub fn invalidate<'a>(
        &self,
        context: u64,
        what: impl Into<Invalidated<'a>>,
        flags: u32,
    ) -> Result<()> {
        let object: *mut NDK_OBJECT_HEADER = match what.into() {
            Invalidated::Region(mr) => mr.raw().cast(),
            Invalidated::Window(mw) => mw.raw().cast(),
        };
        // SAFETY: an open object.
        check(unsafe {
            (calling(self.table()).NdkInvalidate)(self.raw(), ptr(context), object, flags)
        })
    }

    /// NdkBind of a window to `length` bytes at `address` of a registered region.
    pub fn bind(
        &self,
        context: u64,
        mr: &Mr,
        mw: &Mw,
        address: u64,
        length: usize,
        flags: u32,
    ) -> Result<()> {
        // SAFETY: open objects.
        check(unsafe {
            (calling(self.table()).NdkBind)(
                self.raw(),
                ptr(context),
                mr.raw(),
                mw.raw(),
                ptr(address),
                length,
                flags,
            )
        })
    }

    /// NdkReceive.
    pub fn receive(&self, context: u64, sgl: &[NDK_SGE]) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkReceive)(self.raw(), ptr(context), sgl.as_ptr(), count(sgl))
        })
    }

    /// NdkRead.
    pub fn read(
        &self,
        context: u64,
        sgl: &[NDK_SGE],
        address: u64,
        token: u32,
        flags: u32,
    ) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkRead)(
                self.raw(),
                ptr(context),
                sgl.as_ptr(),
                count(sgl),
                address,
                token,
                flags,
            )
        })
    }

    /// NdkWrite.
    pub fn write(
        &self,
        context: u64,
        sgl: &[NDK_SGE],
        address: u64,
        token: u32,
        flags: u32,
    ) -> Result<()> {
        // SAFETY: the list is valid during the call.
        check(unsafe {
            (calling(self.table()).NdkWrite)(
                self.raw(),
                ptr(context),
                sgl.as_ptr(),
                count(sgl),
                address,
                token,
                flags,
            )
        })
    }

    /// NdkFlush.
    pub fn flush(&self) {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkFlush)(self.raw()) };
    }

    /// NdkCloseQp, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseQp.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkCloseQp)(self.raw().cast(), on_close, context) }
        })
    }
}

pub(super) fn ptr(context: u64) -> *mut c_void {
    context as usize as *mut c_void
}

pub(super) fn count(sgl: &[NDK_SGE]) -> u32 {
    u32::try_from(sgl.len()).unwrap_or(u32::MAX)
}
