//! The way to a provider: register with WSK, capture its interface, ask it for the NDK functions.

use super::pending::keep;
use super::{Result, check, in_kernel};
use ndis_sys::imports::{WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI};
use ndis_sys::wsk::{
    WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_NO_WAIT, WSK_PROVIDER_NPI, WSK_REGISTRATION,
};
use ndkpi::{WSK_PROVIDER_NDK_DISPATCH, WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::rc::Rc;

/// WSK 1.0: major in the upper byte.
static DISPATCH: Dispatch = Dispatch(WSK_CLIENT_DISPATCH {
    Version: 0x0100,
    ..WSK_CLIENT_DISPATCH::ZEROED
});

struct Dispatch(WSK_CLIENT_DISPATCH);

// SAFETY: a constant table without callbacks.
unsafe impl Sync for Dispatch {}

/// A registration with WSK that holds its provider interface. PASSIVE_LEVEL.
pub(super) struct Client {
    /// WSK keeps its address until deregistration, which may never come.
    registration: Rc<UnsafeCell<WSK_REGISTRATION>>,
    provider: WSK_PROVIDER_NPI,
    ndk: WSK_PROVIDER_NDK_DISPATCH,
}

impl Client {
    pub(super) fn register() -> Result<Client> {
        in_kernel();
        let mut npi = WSK_CLIENT_NPI {
            ClientContext: null_mut(),
            Dispatch: &raw const DISPATCH.0,
        };
        let registration = keep(UnsafeCell::new(WSK_REGISTRATION::ZEROED));
        // SAFETY: both structures are filled in, the world keeps the registration.
        check(unsafe { WskRegister(&raw mut npi, registration.get()) })?;
        let mut provider = WSK_PROVIDER_NPI::ZEROED;
        // SAFETY: registered above.
        let captured =
            unsafe { WskCaptureProviderNPI(registration.get(), WSK_NO_WAIT, &raw mut provider) };
        if let Err(status) = check(captured) {
            // SAFETY: registered above, nothing captured.
            unsafe { WskDeregister(registration.get()) };
            return Err(status);
        }
        let mut ndk = MaybeUninit::<WSK_PROVIDER_NDK_DISPATCH>::uninit();
        // SAFETY: WSK's table is valid while captured.
        let control =
            unsafe { (*provider.Dispatch).WskControlClient }.expect("WSK has a WskControlClient");
        // SAFETY: the buffer has the size that the control code asks for.
        let status = unsafe {
            control(
                provider.Client,
                WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH,
                0,
                null_mut(),
                size_of::<WSK_PROVIDER_NDK_DISPATCH>(),
                ndk.as_mut_ptr().cast(),
                null_mut(),
                null_mut(),
            )
        };
        if let Err(status) = check(status) {
            // SAFETY: captured and registered above.
            unsafe {
                WskReleaseProviderNPI(registration.get());
                WskDeregister(registration.get());
            }
            return Err(status);
        }
        Ok(Client {
            registration,
            provider,
            // SAFETY: the control code succeeded, so that the buffer is filled.
            ndk: unsafe { ndk.assume_init() },
        })
    }

    pub(super) fn handle(&self) -> *mut ndkpi::WSK_CLIENT {
        self.provider.Client.cast()
    }

    pub(super) fn ndk(&self) -> &WSK_PROVIDER_NDK_DISPATCH {
        &self.ndk
    }
}

impl Client {
    /// Ends the registration. A client that is merely dropped stays registered: a test that fails has nowhere to call from.
    pub(super) fn deregister(self) {
        // SAFETY: captured and registered in `register`, released once.
        unsafe {
            WskReleaseProviderNPI(self.registration.get());
            WskDeregister(self.registration.get());
        }
    }
}
