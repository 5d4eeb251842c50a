//! Adapters and protection domains.

use super::pending::{Pending, create, on_close, on_create};
use super::wsk::Client;
use super::{
    Buffer, Connector, Cq, Listener, Mr, Mw, Qp, QpLimits, Result, Srq, calling, check, in_kernel,
};
use crate::ndk::leave::{self, Leave};
use crate::world::context;
use ndis_sys::imports::{FreeMibTable, GetUnicastIpAddressTable};
use ndis_sys::socket::AF_UNSPEC;
use ndkpi::status::STATUS_DEVICE_NOT_READY;
use ndkpi::{
    NDK_ADAPTER, NDK_ADAPTER_DISPATCH, NDK_ADAPTER_INFO, NDK_MR_FLAG_ALLOW_LOCAL_WRITE,
    NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_MR_FLAG_ALLOW_REMOTE_WRITE, NDK_PD, NDK_PD_DISPATCH,
    NDK_VERSION,
};
use std::ptr::{NonNull, null_mut};

/// An open adapter.
pub struct Adapter {
    raw: NonNull<NDK_ADAPTER>,
    client: Client,
}

impl Adapter {
    /// Opens the adapter that has the machine's first IP address. PASSIVE_LEVEL.
    pub fn open(version: NDK_VERSION) -> Result<Adapter> {
        Adapter::open_interface(version, first_interface()?)
    }

    /// Opens the adapter with that interface index. PASSIVE_LEVEL.
    pub fn open_interface(version: NDK_VERSION, index: u32) -> Result<Adapter> {
        let client = Client::register()?;
        let mut raw = null_mut();
        // SAFETY: the client is registered; the out parameter is valid.
        let opened = unsafe {
            (client.ndk().WskOpenNdkAdapter)(client.handle(), version, index, &raw mut raw)
        };
        if let Err(status) = check(opened) {
            client.deregister();
            return Err(status);
        }
        let raw = NonNull::new(raw).expect("a successful open gives an adapter");
        Ok(Adapter { raw, client })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_ADAPTER {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_ADAPTER_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkQueryAdapterInfo. PASSIVE_LEVEL.
    pub fn info(&self) -> Result<NDK_ADAPTER_INFO> {
        let mut info = NDK_ADAPTER_INFO::ZEROED;
        let mut size = size_of::<NDK_ADAPTER_INFO>() as u32;
        // SAFETY: the buffer has the size that is passed.
        check(unsafe {
            (calling(self.table()).NdkQueryAdapterInfo)(self.raw(), &raw mut info, &raw mut size)
        })?;
        Ok(info)
    }

    /// NdkCreateCq.
    pub fn create_cq(&self, depth: u32) -> Result<Cq> {
        Cq::create(self, depth)
    }

    /// NdkCreatePd.
    pub fn create_pd(&self) -> Result<Pd> {
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete.
            unsafe { (calling(self.table()).NdkCreatePd)(self.raw(), on_create, context, out) }
        })?;
        Ok(Pd { raw })
    }

    /// NdkCreateConnector.
    pub fn create_connector(&self) -> Result<Connector> {
        let raw = create(|context, out| {
            // SAFETY: as above.
            unsafe {
                (calling(self.table()).NdkCreateConnector)(self.raw(), on_create, context, out)
            }
        })?;
        Ok(Connector::from_raw(raw))
    }

    /// NdkCreateListener.
    pub fn create_listener(&self) -> Result<Listener> {
        Listener::create(self)
    }

    /// What the consumer has been told: None as long as it may stay.
    #[must_use]
    pub fn leaving(&self) -> Option<Leave> {
        leaving(self.raw())
    }

    /// Has `f` called, at PASSIVE_LEVEL, when the adapter is to be closed. Whoever disables NDK, or halts the miniport, waits until it
    /// is; `f` may do it.
    pub fn on_leave(&self, f: impl Fn(Leave) + 'static) {
        on_leave(self.raw(), f);
    }

    /// Closes the adapter; returns when every callback of every object has returned. PASSIVE_LEVEL.
    pub fn close(self) {
        // SAFETY: open, and closed once.
        unsafe { (self.client.ndk().WskCloseNdkAdapter)(self.client.handle(), self.raw()) };
        self.client.deregister();
    }
}

/// As [`Adapter::on_leave`], for a consumer that opened its adapter by itself. PASSIVE_LEVEL, on the adapter's machine.
///
/// # Panics
/// If no such adapter is open there.
pub fn on_leave(adapter: *mut NDK_ADAPTER, f: impl Fn(Leave) + 'static) {
    in_kernel();
    let _kernel = context::KernelMode::enter();
    let known = leave::listen(adapter, Box::new(f));
    assert!(
        known,
        "{adapter:p} is no NDK adapter that is open on this machine"
    );
}

/// As [`Adapter::leaving`], for a consumer that opened its adapter by itself.
#[must_use]
pub fn leaving(adapter: *mut NDK_ADAPTER) -> Option<Leave> {
    let _kernel = context::KernelMode::enter();
    leave::told(adapter)
}

/// A protection domain.
pub struct Pd {
    raw: NonNull<NDK_PD>,
}

impl Pd {
    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_PD {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_PD_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkCreateQp. The queue pair's context is its address in the consumer's books: the value given in `limits`.
    pub fn create_qp(&self, receive_cq: &Cq, initiator_cq: &Cq, limits: QpLimits) -> Result<Qp> {
        Qp::create(self, receive_cq, initiator_cq, limits)
    }

    /// NdkCreateQpWithSrq: as [`Pd::create_qp`], but with receives from a shared queue.
    pub fn create_qp_with_srq(
        &self,
        receive_cq: &Cq,
        initiator_cq: &Cq,
        srq: &Srq,
        limits: QpLimits,
    ) -> Result<Qp> {
        Qp::create_with_srq(self, receive_cq, initiator_cq, srq, limits)
    }

    /// NdkCreateSrq for `depth` receives of `sges` elements each, notified when fewer than `threshold` are queued.
    pub fn create_srq(&self, depth: u32, sges: u32, threshold: u32) -> Result<Srq> {
        Srq::create(self, depth, sges, threshold)
    }

    /// NdkCreateMr for NdkRegisterMr.
    pub fn create_mr(&self) -> Result<Mr> {
        Mr::create(self, false)
    }

    /// So many bytes of memory, registered for every kind of access. Waits: PASSIVE_LEVEL.
    pub fn register_memory(&self, bytes: usize) -> Result<(Buffer, Mr)> {
        let buffer = Buffer::new(bytes)?;
        let mr = match self.create_mr() {
            Ok(mr) => mr,
            Err(error) => {
                buffer.free();
                return Err(error);
            }
        };
        let all = NDK_MR_FLAG_ALLOW_LOCAL_WRITE
            | NDK_MR_FLAG_ALLOW_REMOTE_READ
            | NDK_MR_FLAG_ALLOW_REMOTE_WRITE;
        if let Err(error) = mr.register(&buffer, all) {
            mr.close();
            buffer.free();
            return Err(error);
        }
        Ok((buffer, mr))
    }

    /// NdkCreateMr for NdkFastRegister.
    pub fn create_fast_mr(&self) -> Result<Mr> {
        Mr::create(self, true)
    }

    /// NdkCreateMw.
    pub fn create_mw(&self) -> Result<Mw> {
        Mw::create(self)
    }

    /// NdkGetPrivilegedMemoryRegionToken.
    #[must_use]
    pub fn privileged_token(&self) -> u32 {
        let mut token = 0;
        // SAFETY: the out parameter is valid.
        unsafe {
            (calling(self.table()).NdkGetPrivilegedMemoryRegionToken)(self.raw(), &raw mut token);
        }
        token
    }

    /// NdkClosePd, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkClosePd.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe { (calling(self.table()).NdkClosePd)(self.raw().cast(), on_close, context) }
        })
    }
}

/// The index of the interface that has the machine's first IP address. PASSIVE_LEVEL.
fn first_interface() -> Result<u32> {
    in_kernel();
    let mut table = null_mut();
    // SAFETY: the out parameter is valid.
    check(unsafe { GetUnicastIpAddressTable(AF_UNSPEC, &raw mut table) })?;
    // SAFETY: a successful call gives a table; its rows are as many as it says, and are read only if there is one.
    let index = unsafe { ((*table).NumEntries > 0).then(|| (*table).Table[0].InterfaceIndex) };
    // SAFETY: made above, freed once.
    unsafe { FreeMibTable(table.cast()) };
    index.ok_or(STATUS_DEVICE_NOT_READY)
}
