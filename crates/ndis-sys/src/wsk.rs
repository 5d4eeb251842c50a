//! Winsock Kernel, as far as a client of Network Direct needs it. The NDK dispatch table is in the crate `ndkpi`.

use crate::types::*;
use crate::wdm::IRP;

/// Code of `WskControlClient`.
pub type WSK_CONTROL_CODE = u32;

/// The subsystem's handle of a client: opaque.
#[repr(C)]
pub struct WSK_CLIENT {
    _opaque: [u8; 0],
}

callbacks! {
    /// An event for a client as a whole; null in the dispatch table if the client wants none. IRQL: <=
    /// DISPATCH_LEVEL.
    fn PFN_WSK_CLIENT_EVENT(
        ClientContext: *mut c_void,
        EventType: u32,
        Information: *mut c_void,
        InformationLength: usize,
    ) -> NTSTATUS;

    /// Control operation on a client as a whole. IRQL: <= DISPATCH_LEVEL; PASSIVE_LEVEL where the control code says so.
    fn PFN_WSK_CONTROL_CLIENT(
        Client: *mut WSK_CLIENT,
        ControlCode: WSK_CONTROL_CODE,
        InputSize: usize,
        InputBuffer: *mut c_void,
        OutputSize: usize,
        OutputBuffer: *mut c_void,
        OutputSizeReturned: *mut usize,
        Irp: *mut IRP,
    ) -> NTSTATUS;
}

/// A function of the provider that is not declared here.
pub type PFN_WSK_UNDECLARED = unsafe extern "efiapi" fn();

layouts! {
    /// A client registered or to be registered: lives as long as the registration.
    pub struct WSK_REGISTRATION(24) {
        0x00 ReservedRegistrationState: u64,
        0x08 ReservedRegistrationContext: *mut c_void,
        0x10 ReservedRegistrationLock: KSPIN_LOCK,
    }

    /// What a client passes to `WskRegister`.
    pub struct WSK_CLIENT_NPI(16) {
        0x00 ClientContext: *mut c_void,
        0x08 Dispatch: *const WSK_CLIENT_DISPATCH,
    }

    /// Functions of a client.
    pub struct WSK_CLIENT_DISPATCH(16) {
        /// Major in the upper byte, minor in the lower.
        0x00 Version: u16,
        0x02 Reserved: u16,
        0x08 WskClientEvent: Option<PFN_WSK_CLIENT_EVENT>,
    }

    /// What a client gets from `WskCaptureProviderNPI`.
    pub struct WSK_PROVIDER_NPI(16) {
        0x00 Client: *mut WSK_CLIENT,
        0x08 Dispatch: *const WSK_PROVIDER_DISPATCH,
    }

    /// Functions of the subsystem.
    pub struct WSK_PROVIDER_DISPATCH(56) {
        0x00 Version: u16,
        0x02 Reserved: u16,
        0x08 WskSocket: Option<PFN_WSK_UNDECLARED>,
        0x10 WskSocketConnect: Option<PFN_WSK_UNDECLARED>,
        0x18 WskControlClient: Option<PFN_WSK_CONTROL_CLIENT>,
        0x20 WskGetAddressInfo: Option<PFN_WSK_UNDECLARED>,
        0x28 WskFreeAddressInfo: Option<PFN_WSK_UNDECLARED>,
        0x30 WskGetNameInfo: Option<PFN_WSK_UNDECLARED>,
    }
}

constants! {
    /// Control code that fetches the NDK dispatch table.
    WSK_CONTROL_CODE {
        WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH = 0x4e444b44;
    }
    /// How long `WskCaptureProviderNPI` waits, milliseconds.
    u32 {
        WSK_NO_WAIT = 0;
        WSK_INFINITE_WAIT = 0xffffffff;
    }
}
