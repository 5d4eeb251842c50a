//! The way to a provider: register with WSK, capture its interface, ask it for the NDK functions.

use super::{Result, check};
use ndis_sys::imports::{WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI};
use ndis_sys::wsk::{
    WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_NO_WAIT, WSK_PROVIDER_NPI, WSK_REGISTRATION,
};
use ndkpi::{WSK_PROVIDER_NDK_DISPATCH, WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH};
use std::mem::MaybeUninit;
use std::ptr::null_mut;

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
    /// WSK keeps its address until deregistration.
    registration: Box<WSK_REGISTRATION>,
    provider: WSK_PROVIDER_NPI,
    ndk: WSK_PROVIDER_NDK_DISPATCH,
}

impl Client {
    pub(super) fn register() -> Result<Client> {
        let mut npi = WSK_CLIENT_NPI {
            ClientContext: null_mut(),
            Dispatch: &raw const DISPATCH.0,
        };
        let mut registration = Box::new(WSK_REGISTRATION::ZEROED);
        // SAFETY: both structures are filled in, the registration keeps its address until `drop`.
        check(unsafe { WskRegister(&raw mut npi, &raw mut *registration) })?;
        let mut provider = WSK_PROVIDER_NPI::ZEROED;
        // SAFETY: registered above.
        let captured = unsafe {
            WskCaptureProviderNPI(&raw mut *registration, WSK_NO_WAIT, &raw mut provider)
        };
        if let Err(status) = check(captured) {
            // SAFETY: registered above, nothing captured.
            unsafe { WskDeregister(&raw mut *registration) };
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
                WskReleaseProviderNPI(&raw mut *registration);
                WskDeregister(&raw mut *registration);
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

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A test has failed, outside the machine: its own words must be the last.
            return;
        }
        // SAFETY: captured and registered in `register`, released once.
        unsafe {
            WskReleaseProviderNPI(&raw mut *self.registration);
            WskDeregister(&raw mut *self.registration);
        }
    }
}
