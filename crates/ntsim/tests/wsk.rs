//! How a client of Winsock Kernel gets at the NDK functions, and what it is told when it does so wrongly.
#![allow(unsafe_code, reason = "calls the kernel as drivers do")]

use std::ptr::null_mut;

use ndis_sys::imports::{WskCaptureProviderNPI, WskDeregister, WskRegister, WskReleaseProviderNPI};
use ndis_sys::status::*;
use ndis_sys::wsk::{
    WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_NO_WAIT, WSK_PROVIDER_NPI, WSK_REGISTRATION,
};
use ndkpi::{NDK_VERSION_2_1, WSK_PROVIDER_NDK_DISPATCH, WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH};
use ntsim::verifier::rules::DEADLOCK;
use ntsim::{MachineConfig, MachineId, World};

/// A client and what it passes.
struct Client {
    dispatch: WSK_CLIENT_DISPATCH,
    registration: WSK_REGISTRATION,
    provider: WSK_PROVIDER_NPI,
}

impl Client {
    fn new() -> Box<Client> {
        Box::new(Client {
            dispatch: WSK_CLIENT_DISPATCH {
                Version: 0x0100,
                ..WSK_CLIENT_DISPATCH::ZEROED
            },
            registration: WSK_REGISTRATION::ZEROED,
            provider: WSK_PROVIDER_NPI::ZEROED,
        })
    }

    fn register(&mut self) -> i32 {
        let mut npi = WSK_CLIENT_NPI {
            ClientContext: null_mut(),
            Dispatch: &raw const self.dispatch,
        };
        // SAFETY: the client outlives its registration.
        unsafe { WskRegister(&raw mut npi, &raw mut self.registration) }
    }

    fn capture(&mut self) -> i32 {
        let (registration, provider) = (&raw mut self.registration, &raw mut self.provider);
        // SAFETY: both live.
        unsafe { WskCaptureProviderNPI(registration, WSK_NO_WAIT, provider) }
    }

    fn release(&mut self) {
        // SAFETY: it lives.
        unsafe { WskReleaseProviderNPI(&raw mut self.registration) };
    }

    fn deregister(&mut self) {
        // SAFETY: it lives.
        unsafe { WskDeregister(&raw mut self.registration) };
    }

    /// WskControlClient: status, and the size it tells.
    fn control(
        &self,
        code: u32,
        room: usize,
        table: *mut WSK_PROVIDER_NDK_DISPATCH,
    ) -> (i32, usize) {
        let mut needed = 0;
        // SAFETY: captured at some time; WSK's table stays.
        let status = unsafe {
            let control = (*self.provider.Dispatch).WskControlClient.unwrap();
            let (client, none) = (self.provider.Client, null_mut());
            control(
                client,
                code,
                0,
                none,
                room,
                table.cast(),
                &raw mut needed,
                null_mut(),
            )
        };
        (status, needed)
    }

    fn ndk(&self) -> WSK_PROVIDER_NDK_DISPATCH {
        let mut table = std::mem::MaybeUninit::<WSK_PROVIDER_NDK_DISPATCH>::uninit();
        let room = size_of::<WSK_PROVIDER_NDK_DISPATCH>();
        let code = WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH;
        let (status, needed) = self.control(code, room, table.as_mut_ptr());
        assert_eq!((status, needed), (STATUS_SUCCESS, room));
        // SAFETY: filled in.
        unsafe { table.assume_init() }
    }
}

fn world() -> (World, MachineId) {
    let mut world = World::builder().collect_violations().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    (world, machine)
}

/// What a client does is answered with these violations.
#[track_caller]
fn told(f: impl FnOnce(&mut Client), expected: &[&str]) {
    let (mut world, machine) = world();
    let mut client = Client::new();
    world.call(machine, || f(&mut client));
    let violations = world.take_violations();
    let texts: Vec<&str> = violations.iter().map(|v| v.text.as_str()).collect();
    assert_eq!(texts.len(), expected.len(), "{texts:?}");
    for (text, expected) in texts.iter().zip(expected) {
        assert!(
            text.contains(expected),
            "{text} does not tell of: {expected}"
        );
    }
}

#[test]
fn a_client_gets_the_functions_and_goes() {
    let use_it = |client: &mut Client| {
        assert_eq!(client.register(), STATUS_SUCCESS);
        assert_eq!(client.capture(), STATUS_SUCCESS);
        let ndk = client.ndk();
        let mut adapter = null_mut();
        let handle = client.provider.Client.cast();
        // SAFETY: captured.
        let status =
            unsafe { (ndk.WskOpenNdkAdapter)(handle, NDK_VERSION_2_1, 99, &raw mut adapter) };
        assert_eq!(status, STATUS_NOT_FOUND, "there is no such interface");
        assert!(adapter.is_null());
        client.release();
        client.deregister();
    };
    told(use_it, &[]);
}

#[test]
fn a_short_buffer_learns_what_is_needed_and_other_codes_are_not_supported() {
    let ask = |client: &mut Client| {
        client.register();
        client.capture();
        let code = WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH;
        let (status, needed) = client.control(code, 8, null_mut());
        assert_eq!((status, needed), (STATUS_BUFFER_TOO_SMALL, 16));
        assert_eq!(client.control(1, 0, null_mut()).0, STATUS_NOT_SUPPORTED);
        client.release();
        client.deregister();
    };
    told(ask, &[]);
}

#[test]
fn calls_out_of_order_are_told() {
    told(|client| client.deregister(), &["is no registration"]);
    let capture = |client: &mut Client| assert_eq!(client.capture(), STATUS_INVALID_PARAMETER);
    told(capture, &["is no registration"]);
    let twice = |client: &mut Client| {
        client.register();
        assert_eq!(client.register(), STATUS_INVALID_PARAMETER);
    };
    told(twice, &["registered already"]);
    let version = |client: &mut Client| {
        client.dispatch.Version = 1;
        assert_eq!(client.register(), STATUS_INVALID_PARAMETER);
    };
    told(version, &["version 0x1"]);
    let release = |client: &mut Client| {
        client.register();
        client.release();
    };
    told(release, &["was not captured"]);
    let late = |client: &mut Client| {
        client.register();
        client.capture();
        client.release();
        let code = WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH;
        assert_eq!(
            client.control(code, 0, null_mut()).0,
            STATUS_INVALID_PARAMETER
        );
    };
    told(late, &["is no WSK client"]);
    let unknown = |client: &mut Client| {
        client.register();
        client.capture();
        let ndk = client.ndk();
        let handle = client.provider.Client.cast();
        // SAFETY: captured; the adapter is none, and noticed.
        unsafe { (ndk.WskCloseNdkAdapter)(handle, null_mut()) };
    };
    told(unknown, &["has no NDK adapter"]);
}

#[test]
fn deregistering_waits_for_the_release() {
    let (mut world, machine) = world();
    let mut client = Client::new();
    let done = world.try_call(machine, || {
        client.register();
        client.capture();
        client.deregister();
    });
    assert!(done.is_none());
    let violations = world.take_violations();
    assert_eq!(violations[0].rule, DEADLOCK);
    assert!(violations[0].text.contains("WskReleaseProviderNPI"));
}

#[test]
fn each_step_of_getting_the_functions_may_fail() {
    for (after, failed) in ["WskRegister", "WskCaptureProviderNPI", "WskOpenNdkAdapter"]
        .into_iter()
        .enumerate()
    {
        let (mut world, machine) = world();
        let mut client = Client::new();
        world.fail_allocations(machine, Some(after as u64), false);
        let status = world.call(machine, || {
            let registered = client.register();
            if registered != STATUS_SUCCESS {
                return registered;
            }
            let captured = client.capture();
            let mut status = captured;
            if captured == STATUS_SUCCESS {
                let (ndk, mut adapter) = (client.ndk(), null_mut());
                let handle = client.provider.Client.cast();
                // SAFETY: captured.
                status = unsafe {
                    (ndk.WskOpenNdkAdapter)(handle, NDK_VERSION_2_1, 99, &raw mut adapter)
                };
                client.release();
            }
            client.deregister();
            status
        });
        assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES, "{failed}");
        assert_eq!(world.take_failed_functions(machine), [failed]);
        assert_eq!(world.take_violations().len(), 0);
    }
}
