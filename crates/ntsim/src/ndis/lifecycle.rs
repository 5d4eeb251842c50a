//! The life of a miniport adapter: added, initialised, bound, running, paused, halted, removed.

use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::adapter::{Adapter, State};
use super::driver::MiniportDriver;
use super::oid::{OidRequest, request};
use super::{header, ndis, rules};
use crate::ndk::leave::{self, Leave};
use crate::pnp::device::Device;
use crate::trace;
use crate::verifier::{Function, violation};
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;
use crate::world::wait::wait_until;

static ADD_DEVICE: Function = Function::callback("MiniportAddDevice", PASSIVE..=PASSIVE);
static REMOVE_DEVICE: Function = Function::callback("MiniportRemoveDevice", PASSIVE..=PASSIVE);
static INITIALIZE: Function = Function::callback("MiniportInitializeEx", PASSIVE..=PASSIVE);
static HALT: Function = Function::callback("MiniportHaltEx", PASSIVE..=PASSIVE);
static PAUSE: Function = Function::callback("MiniportPause", PASSIVE..=PASSIVE);
static RESTART: Function = Function::callback("MiniportRestart", PASSIVE..=PASSIVE);
static PNP_EVENT: Function = Function::callback("MiniportDevicePnPEventNotify", PASSIVE..=PASSIVE);
static SHUTDOWN: Function = Function::callback("MiniportShutdownEx", PASSIVE..=PASSIVE);

const BY: &str = "NDIS";

/// Adds an adapter for a device, as `IRP_MN_ADD_DEVICE` does.
pub(crate) fn add(
    machine: &Rc<Machine>,
    driver: &Rc<MiniportDriver>,
    device: &Rc<Device>,
) -> Result<Rc<Adapter>, i32> {
    let ndis = ndis();
    let if_index = ndis.next_if_index.get();
    ndis.next_if_index.set(if_index + 1);
    let adapter = Adapter::new(machine, driver, device, if_index);
    let _charged = driver.driver.charge();
    if let Some(add) = driver.pnp.get().and_then(|p| p.MiniportAddDeviceHandler) {
        // SAFETY: a handler the driver registered, called as its type demands.
        let status = call_driver(&ADD_DEVICE, add as *const (), || unsafe {
            add(adapter.handle.get(), driver.context)
        });
        trace::answered(&ADD_DEVICE, status);
        if status != NDIS_STATUS_SUCCESS {
            ndis.handles.remove(adapter.handle.get());
            return Err(status);
        }
    }
    ndis.adapters.borrow_mut().push(Rc::clone(&adapter));
    Ok(adapter)
}

/// Initialises an adapter; it is paused afterwards.
pub(crate) fn initialize(adapter: &Rc<Adapter>) -> Result<(), i32> {
    let machine = adapter.machine();
    adapter.device.assign(&machine);
    let list = adapter.device.resource_list(true);
    // The miniport sees the partial list, which begins behind two counts, the bus type and the bus number.
    let partial = &list[std::mem::offset_of!(CM_RESOURCE_LIST, List)
        + std::mem::offset_of!(CM_FULL_RESOURCE_DESCRIPTOR, PartialResourceList)..];
    let size = partial.len().max(size_of::<CM_PARTIAL_RESOURCE_LIST>());
    let memory = machine
        .kernel_alloc(size_of::<NDIS_MINIPORT_INIT_PARAMETERS>(), BY)
        .and_then(|at| Some((at, machine.kernel_alloc(size, BY)?)));
    let Some((at, resources)) = memory else {
        return Err(NDIS_STATUS_RESOURCES);
    };
    let parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS = std::ptr::with_exposed_provenance_mut(at);
    let to: *mut u8 = std::ptr::with_exposed_provenance_mut(resources);
    // SAFETY: freshly allocated with those sizes.
    unsafe {
        to.copy_from_nonoverlapping(partial.as_ptr(), partial.len());
        parameters.write(NDIS_MINIPORT_INIT_PARAMETERS {
            Header: header::make(
                NDIS_OBJECT_TYPE_MINIPORT_INIT_PARAMETERS,
                NDIS_MINIPORT_INIT_PARAMETERS_REVISION_1,
                NDIS_SIZEOF_MINIPORT_INIT_PARAMETER_REVISION_1,
            ),
            AllocatedResources: to.cast(),
            MiniportAddDeviceContext: adapter.add_device_context.get(),
            IfIndex: adapter.if_index,
            NetLuid: ndis_sys::netioapi::NET_LUID {
                Value: adapter.luid,
            },
            ..NDIS_MINIPORT_INIT_PARAMETERS::ZEROED
        });
    }
    adapter.state.set(State::Initializing);
    let driver = Rc::clone(&adapter.driver);
    let status = {
        let _charged = driver.driver.charge();
        match driver.handlers.InitializeHandlerEx {
            // SAFETY: a handler the driver registered, called as its type demands.
            Some(initialize) => call_driver(&INITIALIZE, initialize as *const (), || unsafe {
                initialize(adapter.handle.get(), driver.context, parameters)
            }),
            None => NDIS_STATUS_FAILURE,
        }
    };
    trace::answered(&INITIALIZE, status);
    machine.pool_free(resources, None, BY);
    machine.pool_free(at, None, BY);
    if status != NDIS_STATUS_SUCCESS {
        if status == NDIS_STATUS_PENDING {
            violation(
                rules::STATE,
                "MiniportInitializeEx returned NDIS_STATUS_PENDING",
            );
        }
        adapter.state.set(State::Halted);
        adapter.check_released("after MiniportInitializeEx failed");
        forget_attributes(adapter);
        adapter.device.release(&machine);
        return Err(status);
    }
    if adapter.general.borrow().is_none() {
        violation(
            rules::ATTRIBUTES,
            "MiniportInitializeEx succeeded without setting general attributes",
        );
        adapter.state.set(State::Halted);
        adapter.device.release(&machine);
        return Err(NDIS_STATUS_FAILURE);
    }
    check_oid_list(adapter);
    adapter.state.set(State::Paused);
    adapter.lives.set(adapter.lives.get() + 1);
    super::reset::watch(adapter);
    tell_power_profile(adapter);
    Ok(())
}

/// Tells the miniport that the machine runs on mains: after its initialisation, and when it is back in D0.
pub(crate) fn tell_power_profile(adapter: &Rc<Adapter>) {
    pnp_event(
        adapter,
        NdisDevicePnPEventPowerProfileChanged,
        &(NdisPowerProfileAcOnLine as u32).to_le_bytes(),
    );
}

/// OIDs that a miniport's list of supported OIDs must name.
fn check_oid_list(adapter: &Adapter) {
    let general = adapter.general.borrow();
    let Some(general) = &*general else { return };
    let mut required = vec![
        OID_GEN_CURRENT_PACKET_FILTER,
        OID_802_3_MULTICAST_LIST,
        OID_GEN_STATISTICS,
    ];
    if adapter.ndk.get().is_some() {
        required.extend([
            OID_NDK_SET_STATE,
            OID_NDK_STATISTICS,
            OID_NDK_CONNECTIONS,
            OID_NDK_LOCAL_ENDPOINTS,
        ]);
    }
    for oid in required {
        if !general.oids.contains(&oid) {
            violation(
                rules::ATTRIBUTES,
                format!("SupportedOidList lacks the mandatory OID {oid:#x}"),
            );
        }
    }
}

fn forget_attributes(adapter: &Adapter) {
    adapter.registration.set(None);
    *adapter.general.borrow_mut() = None;
    adapter.ndk.set(None);
    adapter.ndk_enabled.set(false);
    adapter.context.set(std::ptr::null_mut());
}

/// Binds TCP/IP and starts the data path.
pub(crate) fn start(adapter: &Rc<Adapter>) -> Result<(), i32> {
    if upper_range_allows_tcpip(adapter) {
        crate::tcpip::bind(adapter);
    }
    restart(adapter)?;
    set_addressing(adapter);
    Ok(())
}

/// Tells the miniport what to receive.
pub(crate) fn set_addressing(adapter: &Rc<Adapter>) {
    let filter =
        NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_MULTICAST | NDIS_PACKET_TYPE_BROADCAST;
    let supported = adapter
        .general
        .borrow()
        .as_ref()
        .map_or(0, |g| g.packet_filters);
    set_filter(adapter, filter & supported);
    set_multicast_list(adapter);
}

/// Tells the miniport which groups TCP/IP listens to: all nodes, and each address's own group for neighbour discovery.
pub(crate) fn set_multicast_list(adapter: &Rc<Adapter>) {
    let Some(binding) = crate::tcpip::of(&adapter.machine()).binding(adapter.if_index) else {
        return;
    };
    let mut groups = vec![[0x01, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]];
    for address in binding.addresses() {
        if let std::net::IpAddr::V6(ip) = address.ip {
            let [.., a, b, c] = ip.octets();
            groups.push([0x33, 0x33, 0xff, a, b, c]);
        }
    }
    groups.sort_unstable();
    groups.dedup();
    let result = request(
        adapter,
        &OidRequest::Set(OID_802_3_MULTICAST_LIST, groups.as_flattened()),
    );
    if result.status != NDIS_STATUS_SUCCESS && result.status != NDIS_STATUS_NOT_ACCEPTED {
        violation(
            rules::OID,
            format!(
                "setting OID_802_3_MULTICAST_LIST to {} groups failed with {:#x}",
                groups.len(),
                result.status
            ),
        );
    }
}

/// TCP/IP binds to adapters whose `UpperRange` has "ndis5".
fn upper_range_allows_tcpip(adapter: &Adapter) -> bool {
    let machine = adapter.machine();
    let range = adapter
        .device
        .with_class_key(&machine, |key| {
            key.open("Ndi\\Interfaces")
                .and_then(|k| k.value("UpperRange"))
                .and_then(|v| v.as_str())
                .map(str::to_owned)
        })
        .flatten()
        .unwrap_or_default();
    range
        .split(',')
        .any(|r| r.trim().eq_ignore_ascii_case("ndis5"))
}

fn set_filter(adapter: &Rc<Adapter>, filter: u32) {
    let result = request(
        adapter,
        &OidRequest::Set(OID_GEN_CURRENT_PACKET_FILTER, &filter.to_le_bytes()),
    );
    if result.status != NDIS_STATUS_SUCCESS && result.status != NDIS_STATUS_NOT_ACCEPTED {
        violation(
            rules::OID,
            format!(
                "setting OID_GEN_CURRENT_PACKET_FILTER to {filter:#x} failed with {:#x}",
                result.status
            ),
        );
    }
}

/// Restarts a paused adapter.
pub(crate) fn restart(adapter: &Rc<Adapter>) -> Result<(), i32> {
    if adapter.state.get() != State::Paused {
        return Err(NDIS_STATUS_INVALID_STATE);
    }
    let Some(handler) = adapter.driver.handlers.RestartHandler else {
        return Err(NDIS_STATUS_FAILURE);
    };
    let machine = adapter.machine();
    let data = std::mem::offset_of!(NDIS_RESTART_ATTRIBUTES, Data);
    let Some(at) = machine.kernel_alloc(data + size_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>(), BY)
    else {
        return Err(NDIS_STATUS_RESOURCES);
    };
    let attributes: *mut NDIS_RESTART_ATTRIBUTES = std::ptr::with_exposed_provenance_mut(at);
    let general: *mut NDIS_RESTART_GENERAL_ATTRIBUTES =
        std::ptr::with_exposed_provenance_mut(at + data);
    if let Some(g) = &*adapter.general.borrow() {
        // SAFETY: freshly allocated, zeroed, with room for both.
        unsafe {
            (*attributes).Oid = OID_GEN_MINIPORT_RESTART_ATTRIBUTES;
            (*attributes).DataLength = size_of::<NDIS_RESTART_GENERAL_ATTRIBUTES>() as u32;
            (*general).Header = header::make(
                NDIS_OBJECT_TYPE_RESTART_GENERAL_ATTRIBUTES,
                NDIS_RESTART_GENERAL_ATTRIBUTES_REVISION_2,
                NDIS_SIZEOF_RESTART_GENERAL_ATTRIBUTES_REVISION_2,
            );
            (*general).MtuSize = g.mtu;
            (*general).MaxXmitLinkSpeed = g.max_transmit_speed;
            (*general).MaxRcvLinkSpeed = g.max_receive_speed;
            (*general).LookaheadSize = g.lookahead;
            (*general).MacOptions = g.mac_options;
            (*general).SupportedPacketFilters = g.packet_filters;
            (*general).MaxMulticastListSize = g.multicast_list;
            (*general).SupportedStatistics = g.statistics;
        }
    }
    let mut parameters = NDIS_MINIPORT_RESTART_PARAMETERS {
        Header: header::make(
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_MINIPORT_RESTART_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_MINIPORT_RESTART_PARAMETERS_REVISION_1,
        ),
        RestartAttributes: attributes,
        Flags: 0,
    };
    adapter.state.set(State::Restarting);
    adapter.restart_completed.set(None);
    let returned = {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&RESTART, handler as *const (), || unsafe {
            handler(adapter.context.get(), &raw mut parameters)
        })
    };
    let status = if returned == NDIS_STATUS_PENDING {
        let done = || adapter.restart_completed.get().is_some();
        adapter.wait_for(rules::STATE, "MiniportRestart".to_owned(), done);
        adapter
            .restart_completed
            .get()
            .unwrap_or(NDIS_STATUS_FAILURE)
    } else {
        if adapter.restart_completed.get().is_some() {
            violation(
                rules::STATE,
                "NdisMRestartComplete although MiniportRestart did not pend",
            );
        }
        returned
    };
    trace::answered(&RESTART, status);
    machine.pool_free(at, None, BY);
    if status == NDIS_STATUS_SUCCESS {
        adapter.state.set(State::Running);
        Ok(())
    } else {
        adapter.state.set(State::Paused);
        Err(status)
    }
}

/// `NdisMRestartComplete`.
pub(crate) fn restart_complete(handle: NDIS_HANDLE, status: NDIS_STATUS) {
    const F: &str = "NdisMRestartComplete";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if adapter.state.get() != State::Restarting || adapter.restart_completed.get().is_some() {
        violation(rules::STATE, format!("{F}: no restart is pending"));
        return;
    }
    adapter.restart_completed.set(Some(status));
}

/// Pauses a running adapter.
pub(crate) fn pause(adapter: &Rc<Adapter>, reason: u32) {
    if adapter.state.get() != State::Running {
        return;
    }
    let Some(handler) = adapter.driver.handlers.PauseHandler else {
        return;
    };
    adapter.state.set(State::Pausing);
    adapter.pause_completed.set(false);
    let mut parameters = NDIS_MINIPORT_PAUSE_PARAMETERS {
        Header: header::make(
            NDIS_OBJECT_TYPE_DEFAULT,
            NDIS_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_MINIPORT_PAUSE_PARAMETERS_REVISION_1,
        ),
        Flags: 0,
        PauseReason: reason,
    };
    let returned = {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&PAUSE, handler as *const (), || unsafe {
            handler(adapter.context.get(), &raw mut parameters)
        })
    };
    trace::answered(&PAUSE, returned);
    match returned {
        NDIS_STATUS_SUCCESS => {
            if adapter.pause_completed.get() {
                violation(
                    rules::STATE,
                    "NdisMPauseComplete although MiniportPause did not pend",
                );
            }
            check_paused(adapter);
        }
        NDIS_STATUS_PENDING => {
            let done = || adapter.pause_completed.get();
            adapter.wait_for(rules::STATE, "MiniportPause".to_owned(), done);
        }
        other => violation(
            rules::STATE,
            format!("MiniportPause returned {other:#x}: it can only succeed or pend"),
        ),
    }
    adapter.state.set(State::Paused);
}

/// A pause is complete only when nothing is outstanding.
fn check_paused(adapter: &Adapter) {
    let (sends, receives) = (adapter.sends.outstanding(), adapter.receives.outstanding());
    if sends > 0 || receives > 0 {
        violation(
            rules::STATE,
            format!(
                "the pause completed with {sends} send(s) and {receives} receive(s) outstanding"
            ),
        );
    }
}

/// `NdisMPauseComplete`.
pub(crate) fn pause_complete(handle: NDIS_HANDLE) {
    const F: &str = "NdisMPauseComplete";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if adapter.state.get() != State::Pausing || adapter.pause_completed.replace(true) {
        violation(rules::STATE, format!("{F}: no pause is pending"));
        return;
    }
    check_paused(&adapter);
}

/// Stops the data path and unbinds TCP/IP.
pub(crate) fn stop(adapter: &Rc<Adapter>) {
    if adapter.state.get() == State::Running {
        set_filter(adapter, 0);
    }
    pause(adapter, NDIS_PAUSE_UNBIND_PROTOCOL);
    crate::tcpip::unbind(adapter);
    // Consumers of the NDK provider must leave before the adapter can be halted.
    leave::tell(adapter, Leave::Halting);
    wait_until(
        || !crate::ndk::any_open(adapter),
        None,
        "the adapter is to be halted, but NDK adapters over it are still open",
    );
}

/// Halts a paused adapter.
pub(crate) fn halt(adapter: &Rc<Adapter>, action: NDIS_HALT_ACTION) {
    if adapter.state.get() != State::Paused {
        return;
    }
    // Sends are over since the pause completed.
    wait_until(
        || adapter.requests.are_over(),
        None,
        "the adapter is to be halted, but OID requests are outstanding",
    );
    adapter.state.set(State::Halting);
    if let Some(halt) = adapter.driver.handlers.HaltHandlerEx {
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&HALT, halt as *const (), || unsafe {
            halt(adapter.context.get(), action)
        });
    }
    adapter.state.set(State::Halted);
    adapter.check_released("after MiniportHaltEx");
    forget_attributes(adapter);
    adapter.device.release(&adapter.machine());
}

/// Removes a halted adapter.
pub(crate) fn remove(adapter: &Rc<Adapter>) {
    let driver = Rc::clone(&adapter.driver);
    if let Some(remove) = driver.pnp.get().and_then(|p| p.MiniportRemoveDeviceHandler) {
        let _charged = driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&REMOVE_DEVICE, remove as *const (), || unsafe {
            remove(adapter.add_device_context.get())
        });
    }
    let ndis = ndis();
    ndis.adapters
        .borrow_mut()
        .retain(|a| !Rc::ptr_eq(a, adapter));
    ndis.handles.remove(adapter.handle.get());
}

/// Tells the miniport of a device event.
pub(crate) fn pnp_event(adapter: &Rc<Adapter>, event: NDIS_DEVICE_PNP_EVENT, data: &[u8]) {
    let Some(handler) = adapter.driver.handlers.DevicePnPEventNotifyHandler else {
        return;
    };
    let mut data = data.to_vec();
    let mut notification = NET_DEVICE_PNP_EVENT {
        Header: header::make(
            NDIS_OBJECT_TYPE_DEFAULT,
            NET_DEVICE_PNP_EVENT_REVISION_1,
            NDIS_SIZEOF_NET_DEVICE_PNP_EVENT_REVISION_1,
        ),
        DevicePnPEvent: event,
        InformationBuffer: if data.is_empty() {
            std::ptr::null_mut()
        } else {
            data.as_mut_ptr().cast()
        },
        InformationBufferLength: data.len() as u32,
        ..NET_DEVICE_PNP_EVENT::ZEROED
    };
    let _charged = adapter.driver.driver.charge();
    // SAFETY: a handler the driver registered, called as its type demands.
    call_driver(&PNP_EVENT, handler as *const (), || unsafe {
        handler(adapter.context.get(), &raw mut notification)
    });
}

/// Tells the miniport that the system goes down.
pub(crate) fn shutdown(adapter: &Rc<Adapter>) {
    let Some(handler) = adapter.driver.handlers.ShutdownHandlerEx else {
        return;
    };
    let _charged = adapter.driver.driver.charge();
    // SAFETY: a handler the driver registered, called as its type demands.
    call_driver(&SHUTDOWN, handler as *const (), || unsafe {
        handler(adapter.context.get(), NdisShutdownPowerOff)
    });
}
