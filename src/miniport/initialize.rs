//! Bringing an adapter up, and taking it down.
#![allow(
    unsafe_code,
    reason = "called by NDIS with the driver or the adapter as context"
)]

use alloc::boxed::Box;
use core::fmt::Write;
use core::mem::MaybeUninit;
use core::ptr::null_mut;

use arrayvec::ArrayString;
use nt::boxed::try_box;
use nt::eventlog::Entry;
use nt::sys::ndis::NDIS_MINIPORT_INIT_PARAMETERS;
use nt::sys::status::{
    NDIS_ERROR_CODE_ADAPTER_NOT_FOUND, NDIS_ERROR_CODE_HARDWARE_FAILURE,
    NDIS_ERROR_CODE_OUT_OF_RESOURCES, NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION,
    NDIS_STATUS_ADAPTER_NOT_FOUND, NDIS_STATUS_FAILURE,
};
use nt::sys::types::NDIS_HANDLE;
use nt::sys::wdm::DEVICE_OBJECT;
use nt::{Passive, Shared, Status, debug_print, dma, sys};
use roce::PathMtu;

use super::attributes::{self, Capabilities};
use super::events::{Log, unique};
use super::receive::Receiver;
use super::send::Sender;
use super::settings::Settings;
use crate::adapter::{Adapter, Parts};
use crate::driver::Driver;
use crate::ndk::{Platform, Port, PortConfig, random_seed};
use crate::nic::bus::Function;
use crate::nic::virtio::{self, Options, VirtioNet};
use crate::nic::{self, ETHERNET_HEADER, Nic};
use crate::trace::{AdapterHalted, Trace};

/// Bytes a VLAN tag adds to a frame.
const VLAN_TAG: usize = 4;

/// The device objects of an adapter.
struct Devices {
    physical: *mut DEVICE_OBJECT,
    functional: *mut DEVICE_OBJECT,
    next: *mut DEVICE_OBJECT,
}

impl Devices {
    /// # Safety
    /// `adapter` is the NDIS handle of the adapter that is being initialised.
    unsafe fn of(adapter: NDIS_HANDLE) -> Self {
        let mut devices = Self {
            physical: null_mut(),
            functional: null_mut(),
            next: null_mut(),
        };
        // SAFETY: the caller's promise; the results go to locals, resources are not asked for.
        unsafe {
            sys::NdisMGetDeviceProperty(
                adapter,
                &raw mut devices.physical,
                &raw mut devices.functional,
                &raw mut devices.next,
                null_mut(),
                null_mut(),
            );
        }
        devices
    }
}

/// MiniportInitializeEx: the adapter's address becomes its context.
///
/// # Safety
/// NDIS's arguments. IRQL: PASSIVE_LEVEL.
///
/// # Errors
/// The status that MiniportInitializeEx answers; everything is as before.
pub unsafe fn initialize(
    handle: NDIS_HANDLE,
    driver: &Driver,
    parameters: &NDIS_MINIPORT_INIT_PARAMETERS,
    trace: &Trace,
    passive: Passive,
) -> Result<(), Status> {
    // The address is told to NDIS before there is an adapter at it.
    let mut place: Box<MaybeUninit<Adapter>> = try_box(MaybeUninit::uninit())?;
    // SAFETY: NDIS's handle. NDIS passes the context to nobody before this function succeeds.
    unsafe { attributes::register(handle, place.as_mut_ptr().cast())? };
    // SAFETY: NDIS's handle and parameters.
    let parts = unsafe { make_parts(handle, driver, parameters, trace, passive)? };
    place.write(Adapter::try_new(parts)?);
    // SAFETY: written just now.
    let adapter = unsafe { place.assume_init() };
    // SAFETY: the box does not move its contents, and goes after `shut_down` here or in `halt`.
    let started = unsafe {
        adapter.bind();
        attributes::describe(&adapter)
            .and_then(|()| attributes::describe_ndk(&adapter))
            .and_then(|()| adapter.start(passive))
    };
    if let Err(status) = started {
        adapter.shut_down(passive);
        return Err(status);
    }
    adapter.note_initialized();
    // NDIS has the address; `halt` takes it back.
    let _ = Box::into_raw(adapter);
    Ok(())
}

/// MiniportHaltEx.
///
/// # Safety
/// `context` is an adapter that was initialised, is paused, and is used by nobody afterwards.
pub unsafe fn halt(context: NDIS_HANDLE, passive: Passive) {
    // SAFETY: the caller's promise: the box given up by `initialize`.
    let adapter = unsafe { Box::from_raw(context.cast::<Adapter>()) };
    adapter.shut_down(passive);
    adapter.trace().write(|adapter| AdapterHalted { adapter });
}

/// Makes all an adapter is made of. What has been made is undone if something fails.
///
/// # Safety
/// As of [`initialize`]; the adapter is registered.
#[inline(never)]
unsafe fn make_parts(
    handle: NDIS_HANDLE,
    driver: &Driver,
    parameters: &NDIS_MINIPORT_INIT_PARAMETERS,
    trace: &Trace,
    passive: Passive,
) -> Result<Parts, Status> {
    // SAFETY: NDIS's handle; the device objects it names are the adapter's.
    let (log, device, dma, function, settings) = unsafe {
        let devices = Devices::of(handle);
        let log = Log::new(devices.functional);
        let device = driver.framework().create_device(
            devices.functional,
            devices.next,
            devices.physical,
            passive,
        )?;
        let dma = dma::Adapter::get(devices.physical, devices.functional, passive)?;
        let function = Function::new(handle, parameters.AllocatedResources);
        let settings = Settings::read(handle, log, passive)?;
        (log, device, dma, function, settings)
    };
    debug_print!(
        Trace,
        "{} interrupt messages, {settings:?}",
        function.messages()
    );
    let options = Options {
        mtu: settings.mtu(),
        receive_buffers: settings.receive_buffers,
        transmit_buffers: settings.transmit_buffers,
        mac: settings.network_address,
    };
    let nic = VirtioNet::try_new(function, &dma, &options, passive)
        .map_err(|error| refuse(log, error))?;
    let boxed: Box<dyn Nic> = nic;
    let nic: nic::Handle = Shared::try_new(boxed)?;

    let path_mtu = settings.path_mtu(nic.mtu());
    if path_mtu != settings.frame_size {
        log_path_mtu(log, path_mtu);
    }
    let port = Port::try_new(
        PortConfig {
            nic: nic.clone(),
            // SAFETY: NDIS's handle, which outlives the port.
            platform: unsafe { Platform::new(handle, dma, parameters.NetLuid.Value) },
            enabled: settings.network_direct,
            mtu: path_mtu,
            dcqcn: settings.dcqcn,
            seed: random_seed(passive),
            trace: trace.clone(),
        },
        passive,
    )?;
    let frame_len = ETHERNET_HEADER + VLAN_TAG + usize::from(nic.mtu());
    // SAFETY: NDIS's handle; the registration attributes are set.
    let (sender, receiver) = unsafe {
        (
            Sender::try_new(handle, frame_len, passive)?,
            Receiver::try_new(handle, usize::from(settings.receive_buffers), frame_len)?,
        )
    };
    Ok(Parts {
        port,
        sender,
        receiver,
        nic,
        log,
        trace: trace.clone(),
        settings,
        capabilities: Capabilities::try_new()?,
        _device: device,
        handle,
    })
}

/// Logs why there is no NIC, and turns it into a status.
fn refuse(log: Log, error: virtio::Error) -> Status {
    let (code, status) = match error {
        virtio::Error::NotVirtio => (
            NDIS_ERROR_CODE_ADAPTER_NOT_FOUND,
            Status(NDIS_STATUS_ADAPTER_NOT_FOUND),
        ),
        virtio::Error::Resources(status) => (NDIS_ERROR_CODE_OUT_OF_RESOURCES, status),
        virtio::Error::Device => (
            NDIS_ERROR_CODE_HARDWARE_FAILURE,
            Status(NDIS_STATUS_FAILURE),
        ),
    };
    debug_print!(Error, "no device: {error:?}");
    log.write(&Entry {
        code: code.cast_signed(),
        unique: unique::NO_DEVICE,
        status: status.0,
        strings: &[],
    });
    status
}

/// The keyword's documentation demands this entry, naming the MTU in use.
fn log_path_mtu(log: Log, active: PathMtu) {
    let mut text = ArrayString::<64>::new();
    let _ = write!(
        text,
        "*NetworkDirectRoCEFrameSize: active RoCE MTU is {}",
        active.bytes()
    );
    debug_print!(Warning, "{text}");
    log.write(&Entry {
        code: NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION.cast_signed(),
        unique: unique::PATH_MTU,
        status: 0,
        strings: &[&text],
    });
}
