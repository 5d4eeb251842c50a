//! `netio.sys`: Winsock Kernel, as far as consumers of Network Direct use it to get at adapters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::IRP;
use ndis_sys::wsk::*;
use ndkpi::{NDK_ADAPTER, NDK_VERSION, WSK_PROVIDER_NDK_DISPATCH};

use crate::ndis::rules::NETIO;
use crate::verifier::{Function, cross, violation};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::machine::Machine;
use crate::world::processor::{DISPATCH, PASSIVE};

super::exports! {
    "netio.sys";
    WskRegister: PASSIVE..=PASSIVE,
    WskDeregister: PASSIVE..=PASSIVE,
    WskCaptureProviderNPI: PASSIVE..=PASSIVE,
    WskReleaseProviderNPI: PASSIVE..=DISPATCH,
}

/// A machine's WSK clients.
#[derive(Default)]
struct Clients(RefCell<Vec<Rc<Client>>>);

struct Client {
    /// Address of its WSK_REGISTRATION.
    registration: usize,
    /// How often the provider interface was captured and not released.
    captured: Cell<u32>,
    /// NDK adapters that it opened.
    adapters: RefCell<Vec<*mut NDK_ADAPTER>>,
    owner: DriverNumber,
}

/// A driver that is gone must have ended its registrations.
pub(crate) fn check_unloaded(machine: &Machine, driver: DriverNumber, when: &str) {
    let clients = machine.ext::<Clients>();
    let before = clients.0.borrow().len();
    clients.0.borrow_mut().retain(|c| c.owner != driver);
    let left = before - clients.0.borrow().len();
    if left > 0 {
        violation(
            NETIO,
            format!("{when}: {left} WSK registration(s) not ended with WskDeregister"),
        );
    }
}

/// WSK 1.0.
const WSK_VERSION: u16 = 0x0100;
/// Client handles are these plus the client's number.
const HANDLE_BASE: usize = 0xffff_d0d0_0000_0000;

static DISPATCH_TABLE: WSK_PROVIDER_DISPATCH = WSK_PROVIDER_DISPATCH {
    Version: WSK_VERSION,
    WskControlClient: Some(control_client),
    ..WSK_PROVIDER_DISPATCH::ZEROED
};

fn clients() -> Rc<Clients> {
    context::machine().ext::<Clients>()
}

fn registered(registration: usize, function: &str) -> Option<Rc<Client>> {
    let found = clients()
        .0
        .borrow()
        .iter()
        .find(|c| c.registration == registration)
        .map(Rc::clone);
    if found.is_none() {
        violation(
            NETIO,
            format!("{function}: {registration:#x} is no registration (any more)"),
        );
    }
    found
}

fn handle_of(client: &Rc<Client>) -> *mut WSK_CLIENT {
    std::ptr::without_provenance_mut(HANDLE_BASE | (Rc::as_ptr(client).addr() & 0xffff_ffff_fff0))
}

fn by_handle(handle: *mut WSK_CLIENT, function: &str) -> Option<Rc<Client>> {
    let found = clients()
        .0
        .borrow()
        .iter()
        .find(|c| handle_of(c) == handle && c.captured.get() > 0)
        .cloned();
    if found.is_none() {
        violation(
            NETIO,
            format!("{function}: {handle:p} is no WSK client whose provider interface is captured"),
        );
    }
    found
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WskRegister(
    WskClientNpi: *mut WSK_CLIENT_NPI,
    WskRegistration: *mut WSK_REGISTRATION,
) -> NTSTATUS {
    const F: &str = "WskRegister";
    let crossing = cross(&functions::WskRegister);
    // SAFETY: null or the client's structures.
    let dispatch = unsafe { WskClientNpi.as_ref().and_then(|n| n.Dispatch.as_ref()) };
    let Some(dispatch) = dispatch else {
        violation(NETIO, format!("{F}: no client dispatch table"));
        return STATUS_INVALID_PARAMETER;
    };
    if dispatch.Version != WSK_VERSION || dispatch.Reserved != 0 || WskRegistration.is_null() {
        violation(
            NETIO,
            format!(
                "{F}: version {:#x}, reserved {}",
                dispatch.Version, dispatch.Reserved
            ),
        );
        return STATUS_INVALID_PARAMETER;
    }
    let clients = clients();
    if clients
        .0
        .borrow()
        .iter()
        .any(|c| c.registration == WskRegistration.addr())
    {
        violation(NETIO, format!("{F}: registered already"));
        return STATUS_INVALID_PARAMETER;
    }
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes(F) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    clients.0.borrow_mut().push(Rc::new(Client {
        registration: WskRegistration.addr(),
        captured: Cell::new(0),
        adapters: RefCell::default(),
        owner: machine.owner(&crossing),
    }));
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WskDeregister(WskRegistration: *mut WSK_REGISTRATION) {
    const F: &str = "WskDeregister";
    let _crossing = cross(&functions::WskDeregister);
    let Some(client) = registered(WskRegistration.addr(), F) else {
        return;
    };
    // On Windows this waits until the interface is released.
    crate::world::wait::wait_until(
        || client.captured.get() == 0,
        None,
        "WskDeregister waits for WskReleaseProviderNPI",
    );
    clients().0.borrow_mut().retain(|c| !Rc::ptr_eq(c, &client));
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WskCaptureProviderNPI(
    WskRegistration: *mut WSK_REGISTRATION,
    _WaitTimeout: u32,
    WskProviderNpi: *mut WSK_PROVIDER_NPI,
) -> NTSTATUS {
    const F: &str = "WskCaptureProviderNPI";
    let crossing = cross(&functions::WskCaptureProviderNPI);
    let Some(client) = registered(WskRegistration.addr(), F) else {
        return STATUS_INVALID_PARAMETER;
    };
    if WskProviderNpi.is_null() {
        violation(NETIO, format!("{F}: null pointer"));
        return STATUS_INVALID_PARAMETER;
    }
    if crossing.is_from_driver() && context::machine().faults.strikes(F) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    client.captured.set(client.captured.get() + 1);
    // SAFETY: the client's structure.
    unsafe {
        WskProviderNpi.write(WSK_PROVIDER_NPI {
            Client: handle_of(&client),
            Dispatch: &raw const DISPATCH_TABLE,
        });
    }
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WskReleaseProviderNPI(WskRegistration: *mut WSK_REGISTRATION) {
    const F: &str = "WskReleaseProviderNPI";
    let _crossing = cross(&functions::WskReleaseProviderNPI);
    let Some(client) = registered(WskRegistration.addr(), F) else {
        return;
    };
    let Some(left) = client.captured.get().checked_sub(1) else {
        violation(
            NETIO,
            format!("{F}: the provider interface was not captured"),
        );
        return;
    };
    let open = client.adapters.borrow().len();
    if left == 0 && open > 0 {
        violation(
            NETIO,
            format!("{F}: {open} NDK adapter(s) of the client are not closed"),
        );
    }
    client.captured.set(left);
}

unsafe extern "efiapi" fn control_client(
    client: *mut WSK_CLIENT,
    code: WSK_CONTROL_CODE,
    _input_size: usize,
    _input: *mut c_void,
    output_size: usize,
    output: *mut c_void,
    returned: *mut usize,
    irp: *mut IRP,
) -> NTSTATUS {
    static F: Function = Function::export("WSK", "WskControlClient", PASSIVE..=DISPATCH);
    let _crossing = cross(&F);
    if by_handle(client, F.name).is_none() {
        return STATUS_INVALID_PARAMETER;
    }
    if code != WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH {
        return STATUS_NOT_SUPPORTED;
    }
    if !irp.is_null() {
        violation(NETIO, "WskControlClient: this control code takes no IRP");
    }
    let needed = size_of::<WSK_PROVIDER_NDK_DISPATCH>();
    if !returned.is_null() {
        // SAFETY: the client's variable.
        unsafe { returned.write(needed) };
    }
    if output_size < needed || output.is_null() {
        return STATUS_BUFFER_TOO_SMALL;
    }
    let table = WSK_PROVIDER_NDK_DISPATCH {
        WskOpenNdkAdapter: open_ndk_adapter,
        WskCloseNdkAdapter: close_ndk_adapter,
    };
    // SAFETY: the client's buffer, large enough.
    unsafe {
        output
            .cast::<WSK_PROVIDER_NDK_DISPATCH>()
            .write_unaligned(table)
    };
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn open_ndk_adapter(
    client: *mut ndkpi::WSK_CLIENT,
    version: NDK_VERSION,
    if_index: u32,
    out: *mut *mut NDK_ADAPTER,
) -> NTSTATUS {
    static F: Function = Function::export("WSK", "WskOpenNdkAdapter", PASSIVE..=PASSIVE);
    let crossing = cross(&F);
    let Some(client) = by_handle(client.cast(), F.name) else {
        return STATUS_INVALID_PARAMETER;
    };
    if out.is_null() {
        violation(NETIO, format!("{}: null pointer", F.name));
        return STATUS_INVALID_PARAMETER;
    }
    if crossing.is_from_driver() && context::machine().faults.strikes(F.name) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    match crate::ndk::open(version, if_index) {
        Ok(adapter) => {
            client.adapters.borrow_mut().push(adapter);
            // SAFETY: the client's variable.
            unsafe { out.write(adapter) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

unsafe extern "efiapi" fn close_ndk_adapter(
    client: *mut ndkpi::WSK_CLIENT,
    adapter: *mut NDK_ADAPTER,
) {
    static F: Function = Function::export("WSK", "WskCloseNdkAdapter", PASSIVE..=PASSIVE);
    let _crossing = cross(&F);
    let Some(client) = by_handle(client.cast(), F.name) else {
        return;
    };
    let opened = client.adapters.borrow().contains(&adapter);
    if !opened {
        violation(
            NETIO,
            format!("{}: the client has no NDK adapter {adapter:p} open", F.name),
        );
        return;
    }
    crate::ndk::close(adapter);
    client.adapters.borrow_mut().retain(|a| *a != adapter);
}
