//! Miniport drivers: registration and deregistration.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::DRIVER_OBJECT;
use ndkpi::NDIS_NDK_PROVIDER_CHARACTERISTICS;

use super::handle::Handled;
use super::{Ndis, header, ndis, rules};
use crate::verifier::{Function, cross, violation};
use crate::world::context;
use crate::world::driver::Driver;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;

/// The newest NDIS of the simulated system (Windows Server 2022).
pub(crate) const NDIS_VERSION: u32 = NDIS_RUNTIME_VERSION_685;

/// A registered miniport driver.
pub(crate) struct MiniportDriver {
    pub(crate) handle: Cell<NDIS_HANDLE>,
    pub(crate) driver: Rc<Driver>,
    /// `MiniportDriverContext`.
    pub(crate) context: NDIS_HANDLE,
    pub(crate) handlers: NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    pub(crate) ndk: Cell<Option<NDIS_NDK_PROVIDER_CHARACTERISTICS>>,
    pub(crate) pnp: Cell<Option<NDIS_MINIPORT_PNP_CHARACTERISTICS>>,
    phase: Cell<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    SettingOptions,
    Registered,
    Deregistered,
}

impl Handled for MiniportDriver {
    const KIND: &'static str = "a miniport driver";
}

impl MiniportDriver {
    /// The NDIS version it registered with, major in the upper half.
    pub(crate) fn version(&self) -> u32 {
        u32::from(self.handlers.MajorNdisVersion) << 16 | u32::from(self.handlers.MinorNdisVersion)
    }

    pub(crate) fn name(&self) -> &str {
        &self.driver.name
    }

    pub(crate) fn registered(&self) -> bool {
        self.phase.get() != Phase::Deregistered
    }
}

/// All miniport drivers of a machine.
pub(crate) type MiniportDrivers = RefCell<Vec<Rc<MiniportDriver>>>;

impl Ndis {
    /// The miniport driver that a driver object registered.
    pub(crate) fn miniport_driver_of(&self, driver: &Rc<Driver>) -> Option<Rc<MiniportDriver>> {
        self.drivers
            .borrow()
            .iter()
            .find(|m| Rc::ptr_eq(&m.driver, driver) && m.registered())
            .cloned()
    }
}

/// `NdisMRegisterMiniportDriver`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn register(
    driver_object: *mut DRIVER_OBJECT,
    driver_context: NDIS_HANDLE,
    characteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const F: &str = "NdisMRegisterMiniportDriver";
    let machine = context::machine();
    let Some(driver) = machine.drivers.by_object(driver_object.addr()) else {
        violation(
            rules::PARAMETER,
            format!("{F}: {driver_object:p} is not a driver object"),
        );
        return NDIS_STATUS_FAILURE;
    };
    if characteristics.is_null() || out.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    let ndis = ndis();
    if ndis.miniport_driver_of(&driver).is_some() {
        violation(
            rules::PHASE,
            format!("{F}: the driver is registered already"),
        );
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: the driver passes a structure at least as long as its header says; the header comes first.
    let head = unsafe { (*characteristics).Header };
    // SAFETY: both versions are within the shortest revision.
    let (major, minor) = unsafe {
        (
            (*characteristics).MajorNdisVersion,
            (*characteristics).MinorNdisVersion,
        )
    };
    if u32::from(major) << 16 | u32::from(minor) > NDIS_VERSION || major != 6 {
        violation(
            rules::CHARACTERISTICS,
            format!("{F}: NDIS {major}.{minor} is not supported by this system"),
        );
        return NDIS_STATUS_BAD_VERSION;
    }
    if machine.faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let sizes: &[(u8, u16)] = match minor {
        0..=9 if minor == 0 => &[(1, 0x88)],
        0..80 => &[(2, NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2)],
        _ => &[
            (2, NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2),
            (3, NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3),
        ],
    };
    if !header::check(
        F,
        head,
        NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
        sizes,
    ) {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    // SAFETY: valid for the bytes its revision has, as just checked.
    let handlers: NDIS_MINIPORT_DRIVER_CHARACTERISTICS =
        unsafe { header::copy(characteristics, head.Size) };
    if !complete(&handlers) {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    crate::exports::wdfldr::check_miniport(&driver);
    // SAFETY: a driver object, as found above. NDIS takes over the routines that Plug and Play calls.
    unsafe { (*driver_object).DriverUnload = Some(unload) };

    let miniport = Rc::new(MiniportDriver {
        handle: Cell::new(std::ptr::null_mut()),
        driver: Rc::clone(&driver),
        context: driver_context,
        handlers,
        ndk: Cell::new(None),
        pnp: Cell::new(None),
        phase: Cell::new(Phase::SettingOptions),
    });
    let handle = ndis.handles.insert(Rc::clone(&miniport));
    miniport.handle.set(handle);
    ndis.drivers.borrow_mut().push(Rc::clone(&miniport));
    if let Some(set_options) = handlers.SetOptionsHandler {
        static F_OPTIONS: Function = Function::callback("MiniportSetOptions", PASSIVE..=PASSIVE);
        // SAFETY: a handler the driver registered, called as its type demands.
        let status = call_driver(&F_OPTIONS, set_options as *const (), || unsafe {
            set_options(handle, driver_context)
        });
        if status != NDIS_STATUS_SUCCESS {
            forget(&ndis, &miniport);
            return status;
        }
    }
    miniport.phase.set(Phase::Registered);
    // SAFETY: the driver's variable.
    unsafe { out.write(handle) };
    NDIS_STATUS_SUCCESS
}

/// The unload routine of every miniport driver: calls the miniport's handler.
unsafe extern "efiapi" fn unload(driver_object: *mut DRIVER_OBJECT) {
    static DRIVER_UNLOAD: Function = Function::callback("ndis DriverUnload", PASSIVE..=PASSIVE);
    static UNLOAD: Function = Function::callback("MiniportDriverUnload", PASSIVE..=PASSIVE);
    let _crossing = cross(&DRIVER_UNLOAD);
    let Some(driver) = context::machine().drivers.by_object(driver_object.addr()) else {
        return;
    };
    let Some(miniport) = ndis().miniport_driver_of(&driver) else {
        return;
    };
    let handle = miniport.handle.get();
    if let Some(unload) = miniport.handlers.UnloadHandler {
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&UNLOAD, unload as *const (), || unsafe {
            unload(driver_object)
        });
    }
    if miniport.registered() {
        violation(
            rules::PHASE,
            "MiniportDriverUnload returned without NdisMDeregisterMiniportDriver",
        );
        deregister(handle);
    }
    super::pool::check_released(handle, "after MiniportDriverUnload");
    super::work::check_released(handle, "after MiniportDriverUnload");
}

/// A driver's code is gone: nothing of NDIS, the framework or netio may remain that would call it.
pub(crate) fn check_gone(machine: &Machine, number: u32, when: &str) {
    let left: Vec<_> = super::of(machine)
        .drivers
        .borrow()
        .iter()
        .filter(|m| m.driver.number == number)
        .cloned()
        .collect();
    for miniport in left {
        violation(
            rules::PHASE,
            format!("{when}: NdisMDeregisterMiniportDriver was not called"),
        );
        deregister(miniport.handle.get());
    }
    crate::exports::wdfldr::check_unloaded(machine, number, when);
    crate::exports::netio::check_unloaded(machine, number, when);
    crate::exports::wsk::check_unloaded(machine, number, when);
}

/// Checks for the handlers that every miniport must have.
fn complete(c: &NDIS_MINIPORT_DRIVER_CHARACTERISTICS) -> bool {
    const F: &str = "NdisMRegisterMiniportDriver";
    let required = [
        ("InitializeHandlerEx", c.InitializeHandlerEx.is_some()),
        ("HaltHandlerEx", c.HaltHandlerEx.is_some()),
        ("UnloadHandler", c.UnloadHandler.is_some()),
        ("PauseHandler", c.PauseHandler.is_some()),
        ("RestartHandler", c.RestartHandler.is_some()),
        ("OidRequestHandler", c.OidRequestHandler.is_some()),
        (
            "SendNetBufferListsHandler",
            c.SendNetBufferListsHandler.is_some(),
        ),
        (
            "ReturnNetBufferListsHandler",
            c.ReturnNetBufferListsHandler.is_some(),
        ),
        ("CancelSendHandler", c.CancelSendHandler.is_some()),
        (
            "DevicePnPEventNotifyHandler",
            c.DevicePnPEventNotifyHandler.is_some(),
        ),
        ("ShutdownHandlerEx", c.ShutdownHandlerEx.is_some()),
        (
            "CancelOidRequestHandler",
            c.CancelOidRequestHandler.is_some(),
        ),
    ];
    let mut ok = true;
    for (name, _) in required.iter().filter(|(_, there)| !there) {
        violation(rules::CHARACTERISTICS, format!("{F}: {name} is required"));
        ok = false;
    }
    if c.CheckForHangHandlerEx.is_some() && c.ResetHandlerEx.is_none() {
        violation(
            rules::CHARACTERISTICS,
            format!("{F}: CheckForHangHandlerEx requires ResetHandlerEx"),
        );
        ok = false;
    }
    if c.DirectOidRequestHandler.is_some() != c.CancelDirectOidRequestHandler.is_some() {
        violation(
            rules::CHARACTERISTICS,
            format!("{F}: DirectOidRequestHandler and CancelDirectOidRequestHandler go together"),
        );
        ok = false;
    }
    if c.Flags & !(NDIS_INTERMEDIATE_DRIVER | 2) != 0 {
        violation(
            rules::CHARACTERISTICS,
            format!("{F}: unknown flags {:#x}", c.Flags),
        );
        ok = false;
    }
    ok
}

/// `NdisMDeregisterMiniportDriver`.
pub(crate) fn deregister(handle: NDIS_HANDLE) {
    const F: &str = "NdisMDeregisterMiniportDriver";
    let ndis = ndis();
    let Some(miniport) = ndis.handles.get::<MiniportDriver>(handle, F) else {
        return;
    };
    let adapters = ndis
        .adapters
        .borrow()
        .iter()
        .filter(|a| Rc::ptr_eq(&a.driver, &miniport))
        .count();
    if adapters > 0 {
        violation(
            rules::PHASE,
            format!("{F}: {adapters} adapter(s) of the driver still exist"),
        );
    }
    forget(&ndis, &miniport);
}

/// The driver is registered no longer, or was not after all: it cannot be asked to deregister.
fn forget(ndis: &Ndis, miniport: &Rc<MiniportDriver>) {
    miniport.phase.set(Phase::Deregistered);
    ndis.drivers
        .borrow_mut()
        .retain(|d| !Rc::ptr_eq(d, miniport));
    ndis.handles.remove(miniport.handle.get());
}

/// `NdisSetOptionalHandlers`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn set_optional_handlers(
    handle: NDIS_HANDLE,
    optional: *mut NDIS_DRIVER_OPTIONAL_HANDLERS,
) -> NDIS_STATUS {
    const F: &str = "NdisSetOptionalHandlers";
    let Some(miniport) = ndis().handles.get::<MiniportDriver>(handle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if optional.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    if miniport.phase.get() != Phase::SettingOptions {
        violation(
            rules::PHASE,
            format!("{F}: a miniport driver calls it only within MiniportSetOptions"),
        );
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: every such structure begins with a header.
    let head = unsafe { (*optional).Header };
    match head.Type {
        NDIS_OBJECT_TYPE_MINIPORT_PNP_CHARACTERISTICS => {
            let sizes = [(
                NDIS_MINIPORT_PNP_CHARACTERISTICS_REVISION_1,
                NDIS_SIZEOF_MINIPORT_PNP_CHARACTERISTICS_REVISION_1,
            )];
            if !header::check(F, head, head.Type, &sizes) {
                return NDIS_STATUS_FAILURE;
            }
            // SAFETY: as long as its header says.
            let pnp: NDIS_MINIPORT_PNP_CHARACTERISTICS =
                unsafe { header::copy(optional.cast(), head.Size) };
            if pnp.MiniportAddDeviceHandler.is_some() != pnp.MiniportRemoveDeviceHandler.is_some() {
                violation(
                    rules::CHARACTERISTICS,
                    format!("{F}: add and remove handlers go together"),
                );
            }
            miniport.pnp.set(Some(pnp));
        }
        NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS => {
            let sizes = [(
                ndkpi::NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
                ndkpi::NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
            )];
            if !header::check(F, head, head.Type, &sizes) {
                return NDIS_STATUS_FAILURE;
            }
            if miniport.version() < NDIS_RUNTIME_VERSION_630 {
                violation(
                    rules::CHARACTERISTICS,
                    format!("{F}: an NDK provider must be an NDIS 6.30 miniport"),
                );
                return NDIS_STATUS_NOT_SUPPORTED;
            }
            // SAFETY: as long as its header says.
            let ndk: NDIS_NDK_PROVIDER_CHARACTERISTICS =
                unsafe { header::copy(optional.cast(), head.Size) };
            if ndk.Flags != 0 {
                violation(
                    rules::CHARACTERISTICS,
                    format!("{F}: Flags of the NDK characteristics must be zero"),
                );
                return NDIS_STATUS_FAILURE;
            }
            if ndk.OpenNDKAdapterHandler.is_none() || ndk.CloseNDKAdapterHandler.is_none() {
                violation(
                    rules::CHARACTERISTICS,
                    format!("{F}: both NDK handlers are required"),
                );
                return NDIS_STATUS_FAILURE;
            }
            miniport.ndk.set(Some(ndk));
        }
        other => {
            violation(
                rules::HEADER,
                format!("{F}: handlers of type {other:#x} are not supported"),
            );
            return NDIS_STATUS_NOT_SUPPORTED;
        }
    }
    NDIS_STATUS_SUCCESS
}
