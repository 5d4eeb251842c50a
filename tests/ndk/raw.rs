//! Calls through the tables themselves, for what the consumer kit of ntsim does not show.

use std::cell::Cell;
use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr::{NonNull, null, null_mut};

use ndkpi::status::*;
use ndkpi::{NDK_OBJECT_HEADER, NDK_SHARED_ENDPOINT};
use ntsim::ndk::{Connector, Qp};

use crate::lab::Side;

/// A sockaddr of the lab's IPv4 addresses.
pub fn sockaddr(address: SocketAddr) -> [u8; 16] {
    let SocketAddr::V4(address) = address else {
        panic!("IPv4 here")
    };
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

/// What the raw calls of a story were completed with.
#[derive(Default)]
pub struct Completed {
    calls: Cell<u32>,
    status: Cell<i32>,
}

impl Completed {
    /// For the callback.
    pub fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// How often the callback was called.
    pub fn count(&self) -> u32 {
        self.calls.get()
    }

    /// The last status it was called with.
    pub fn status(&self) -> i32 {
        self.status.get()
    }
}

/// NdkRequestCompletion; the context is that of a [`Completed`].
pub unsafe extern "efiapi" fn completed(context: *mut c_void, status: i32) {
    // SAFETY: the context outlives the request.
    let completed = unsafe { &*context.cast::<Completed>() };
    completed.status.set(status);
    completed.calls.set(completed.calls.get() + 1);
}

/// NdkCloseCompletion; the context is that of a [`Completed`].
pub unsafe extern "efiapi" fn closed(context: *mut c_void) {
    // SAFETY: as above.
    unsafe { completed(context, STATUS_SUCCESS) };
}

/// For creates that must not pend.
pub unsafe extern "efiapi" fn never_created(_: *mut c_void, _: i32, _: *mut NDK_OBJECT_HEADER) {
    panic!("this create does not pend");
}

/// For requests that must not pend.
pub unsafe extern "efiapi" fn never_completed(_: *mut c_void, _: i32) {
    panic!("this request does not pend");
}

/// For closes that must not pend.
pub unsafe extern "efiapi" fn never_closed(_: *mut c_void) {
    panic!("this close does not pend");
}

/// A shared endpoint.
pub struct Shared(pub NonNull<NDK_SHARED_ENDPOINT>);

impl Shared {
    /// NdkCreateSharedEndpoint, which must not pend: the addresses are known.
    pub fn create(side: &Side, at: SocketAddr) -> Result<Shared, i32> {
        let (address, mut out) = (sockaddr(at), null_mut());
        // SAFETY: an open adapter, an address with its length.
        let status = unsafe {
            (side.adapter.table().NdkCreateSharedEndpoint)(
                side.adapter.raw(),
                address.as_ptr().cast(),
                16,
                never_created,
                null_mut(),
                &raw mut out,
            )
        };
        if status == STATUS_SUCCESS {
            Ok(Shared(NonNull::new(out).unwrap()))
        } else {
            Err(status)
        }
    }

    /// The object itself.
    pub fn raw(&self) -> *mut NDK_SHARED_ENDPOINT {
        self.0.as_ptr()
    }

    /// Its dispatch table.
    pub fn table(&self) -> &ndkpi::NDK_SHARED_ENDPOINT_DISPATCH {
        // SAFETY: an open object.
        unsafe { &*self.0.as_ref().Dispatch }
    }

    /// The port it has.
    pub fn port(&self) -> u16 {
        let (mut buffer, mut length) = ([0_u8; 28], 28);
        // SAFETY: an open object, a buffer with its length.
        let status = unsafe {
            (self.table().NdkGetLocalAddress)(
                self.0.as_ptr(),
                buffer.as_mut_ptr().cast(),
                &mut length,
            )
        };
        assert_eq!((status, length), (STATUS_SUCCESS, 16));
        u16::from_be_bytes([buffer[2], buffer[3]])
    }

    /// NdkConnectWithSharedEndpoint.
    pub fn connect(&self, connector: &Connector, qp: &Qp, to: SocketAddr, done: &Completed) -> i32 {
        let to = sockaddr(to);
        // SAFETY: open objects, an address with its length, a context that outlives the request.
        unsafe {
            (connector.table().NdkConnectWithSharedEndpoint)(
                connector.raw(),
                qp.raw(),
                self.0.as_ptr(),
                to.as_ptr().cast(),
                16,
                1,
                1,
                null(),
                0,
                completed,
                done.context(),
            )
        }
    }

    /// NdkCloseSharedEndpoint.
    pub fn close(&self, done: &Completed) -> i32 {
        // SAFETY: closed once.
        unsafe {
            (self.table().NdkCloseSharedEndpoint)(self.0.as_ptr().cast(), closed, done.context())
        }
    }
}
