//! What tests do with network adapters: install, remove, ask, disturb.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;
use std::rc::Rc;
use std::sync::OnceLock;

use ndis_sys::ndis::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;
use ndkpi::{NDIS_NDK_CAPABILITIES, NDK_ADAPTER_INFO};

use super::adapter::{Adapter, Link, State, StatusIndication};
use super::oid::{self, OidRequest, OidResult};
use super::{driver::MiniportDriver, lifecycle, of, power, reset};
use crate::exports::io::DeviceProperties;
use crate::exports::ob::Objects;
use crate::image::{Image, ImageError};
use crate::pnp::MachineRegistry;
use crate::pnp::device::{self, Device, Devices};
use crate::pnp::inf::InfError;
use crate::pnp::package::Package;
use crate::pnp::registry::{Key, Value};
use crate::world::driver::Driver;
use crate::world::machine::Machine;
use crate::world::thread::on_kernel_stack;
use crate::world::wait::wait_until;
use crate::world::{LoadError, MachineId, World};

/// Type of a driver's entry point.
pub type DriverEntry = unsafe extern "efiapi" fn(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS;

/// Where a driver's code is.
#[derive(Clone)]
pub enum DriverImage {
    /// Linked into this process.
    Linked(DriverEntry),
    /// In a file. Each machine loads a copy of its own.
    File(Image),
}

/// The environment variable that names the image to test instead of the linked driver.
const IMAGE_VARIABLE: &str = "NTSIM_IMAGE";

impl DriverImage {
    /// The linked driver, or, if the environment variable `NTSIM_IMAGE` names a file, the image in it: the same tests then judge
    /// the image.
    ///
    /// # Errors
    /// The file that the variable names is not the image of a driver.
    pub fn linked_or_file(entry: DriverEntry) -> Result<DriverImage, ImageError> {
        // Read once: tests make worlds by the hundred.
        static FILE: OnceLock<Option<Result<Image, ImageError>>> = OnceLock::new();
        let file = FILE.get_or_init(|| {
            let path = std::env::var_os(IMAGE_VARIABLE).filter(|path| !path.is_empty())?;
            Some(Image::read(Path::new(&path)))
        });
        match file {
            None => Ok(DriverImage::Linked(entry)),
            Some(image) => image.clone().map(DriverImage::File),
        }
    }
}

/// How lists that were given to a miniport to send came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounts {
    /// With NDIS_STATUS_SUCCESS.
    pub sent: u64,
    /// With an error.
    pub failed: u64,
    /// With NDIS_STATUS_SEND_ABORTED.
    pub cancelled: u64,
    /// Not yet.
    pub outstanding: u64,
}

/// Why an installation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallError {
    /// The INF is wrong or does not match.
    Inf(InfError),
    /// The machine has no device without a driver.
    NoDevice,
    /// The image cannot be loaded.
    Image(ImageError),
    /// `DriverEntry` failed with this status.
    DriverEntry(i32),
    /// `DriverEntry` succeeded without registering a miniport driver.
    NoMiniport,
    /// `MiniportAddDevice` failed with this status.
    AddDevice(i32),
    /// `MiniportInitializeEx` failed with this status.
    Initialize(i32),
    /// `MiniportRestart` failed with this status.
    Restart(i32),
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inf(e) => e.fmt(f),
            Self::NoDevice => f.write_str("the machine has no device without a driver"),
            Self::Image(e) => e.fmt(f),
            Self::DriverEntry(s) => write!(f, "DriverEntry failed with {s:#x}"),
            Self::NoMiniport => f.write_str("DriverEntry registered no miniport driver"),
            Self::AddDevice(s) => write!(f, "MiniportAddDevice failed with {s:#x}"),
            Self::Initialize(s) => write!(f, "MiniportInitializeEx failed with {s:#x}"),
            Self::Restart(s) => write!(f, "MiniportRestart failed with {s:#x}"),
        }
    }
}

impl std::error::Error for InstallError {}

impl From<InfError> for InstallError {
    fn from(e: InfError) -> Self {
        Self::Inf(e)
    }
}

/// What NDIS knows of an adapter.
#[derive(Clone, Copy)]
pub struct AdapterInfo {
    /// Interface index.
    pub if_index: u32,
    /// Interface LUID.
    pub luid: u64,
    /// Current Ethernet address.
    pub mac: [u8; 6],
    /// Largest payload of a frame in bytes.
    pub mtu: u32,
    /// Link state.
    pub link: Link,
    /// Frames are sent and received.
    pub running: bool,
    /// NDK capabilities and adapter information, if the miniport is an NDK provider.
    pub ndk: Option<(NDIS_NDK_CAPABILITIES, NDK_ADAPTER_INFO)>,
    /// NDK is enabled.
    pub ndk_enabled: bool,
}

const BY: &str = "Plug and Play";

/// A driver that is loaded.
struct Loaded {
    service: String,
    driver: Rc<Driver>,
}

/// A machine's loaded drivers.
#[derive(Default)]
struct LoadedDrivers(RefCell<Vec<Rc<Loaded>>>);

/// Loads a driver.
fn load(
    machine: &Rc<Machine>,
    service: &str,
    image: DriverImage,
) -> Result<Rc<Loaded>, InstallError> {
    let path = format!("\\Registry\\Machine\\SYSTEM\\CurrentControlSet\\Services\\{service}");
    let driver = match image {
        DriverImage::Linked(entry) => {
            // SAFETY: the two types differ in that the path is to be read only, as every entry point does.
            let entry = unsafe { std::mem::transmute::<DriverEntry, DRIVER_INITIALIZE>(entry) };
            // SAFETY: an entry point by its type, in code that stays.
            unsafe { machine.load_driver(service, &path, entry) }.map_err(LoadError::DriverEntry)
        }
        DriverImage::File(image) => machine.load_image(service, &path, &image),
    };
    match driver {
        Ok(driver) => {
            let loaded = Rc::new(Loaded {
                service: service.to_owned(),
                driver,
            });
            machine
                .ext::<LoadedDrivers>()
                .0
                .borrow_mut()
                .push(Rc::clone(&loaded));
            Ok(loaded)
        }
        Err(LoadError::DriverEntry(status)) => Err(InstallError::DriverEntry(status)),
        Err(LoadError::Image(error)) => Err(InstallError::Image(error)),
    }
}

fn unload(machine: &Rc<Machine>, loaded: &Rc<Loaded>) {
    machine
        .ext::<LoadedDrivers>()
        .0
        .borrow_mut()
        .retain(|l| !Rc::ptr_eq(l, loaded));
    machine.unload_driver(&loaded.driver);
}

/// Device objects of a device, made when it gets a driver.
fn device_objects(machine: &Machine, device: &Device) {
    if !device.pdo.get().is_null() {
        return;
    }
    let make = || {
        let at = machine.kernel_alloc(size_of::<DEVICE_OBJECT>(), BY)?;
        let object: *mut DEVICE_OBJECT = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: freshly allocated and zeroed.
        unsafe {
            (*object).Type = 3;
            (*object).Size = size_of::<DEVICE_OBJECT>() as u16;
            (*object).ReferenceCount = 1;
            (*object).StackSize = 1;
        }
        Some(object)
    };
    if let (Some(pdo), Some(fdo)) = (make(), make()) {
        // SAFETY: made just above.
        unsafe { (*pdo).AttachedDevice = fdo };
        let objects = machine.ext::<Objects>();
        objects.add_foreign(pdo.addr());
        objects.add_foreign(fdo.addr());
        let location = device.function.location();
        let properties = machine.ext::<DeviceProperties>();
        let slot = u32::from(location.device) << 16 | u32::from(location.function);
        let wide = |text: &str| {
            text.encode_utf16()
                .chain([0])
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<u8>>()
        };
        let ids = device.identity.hardware_ids().join("\0");
        for (property, value) in [
            (
                DevicePropertyBusNumber,
                u32::from(location.bus).to_le_bytes().to_vec(),
            ),
            (DevicePropertyAddress, slot.to_le_bytes().to_vec()),
            (DevicePropertyLegacyBusType, PCIBus.to_le_bytes().to_vec()),
            (DevicePropertyHardwareID, wide(&format!("{ids}\0"))),
        ] {
            properties.set(pdo.addr(), property, value);
        }
        device.pdo.set(pdo);
        device.fdo.set(fdo);
    }
}

fn start_device(
    machine: &Rc<Machine>,
    miniport: &Rc<MiniportDriver>,
    device: &Rc<Device>,
) -> Result<(), InstallError> {
    device_objects(machine, device);
    let adapter = lifecycle::add(machine, miniport, device).map_err(InstallError::AddDevice)?;
    if let Err(status) = lifecycle::initialize(&adapter) {
        lifecycle::remove(&adapter);
        return Err(InstallError::Initialize(status));
    }
    if let Err(status) = lifecycle::start(&adapter) {
        lifecycle::stop(&adapter);
        lifecycle::halt(&adapter, NdisHaltDeviceInitializationFailed);
        lifecycle::remove(&adapter);
        return Err(InstallError::Restart(status));
    }
    Ok(())
}

impl World {
    /// Runs `f` as kernel code on a machine at PASSIVE_LEVEL; it may wait.
    pub(crate) fn on_machine<R>(
        &mut self,
        machine: MachineId,
        f: impl FnOnce(&Rc<Machine>) -> R,
    ) -> R {
        let machine = self.machine(machine);
        let result = {
            let _entered = machine.enter(0);
            on_kernel_stack(|| f(&machine))
        };
        self.check();
        result
    }

    /// Installs a driver package for the machine's first device without a driver, and starts the device: as Plug and
    /// Play does when the device has been found. When this returns the adapter runs with TCP/IP bound to it.
    ///
    /// # Errors
    /// What went wrong; the driver is unloaded again then.
    pub fn install(
        &mut self,
        machine: MachineId,
        inf: &str,
        image: DriverImage,
    ) -> Result<(), InstallError> {
        self.install_with(machine, inf, image, &[])
    }

    /// As [`World::install`], with settings that replace the defaults of the INF before the device starts.
    ///
    /// # Errors
    /// As [`World::install`].
    pub fn install_with(
        &mut self,
        machine: MachineId,
        inf: &str,
        image: DriverImage,
        keywords: &[(&str, &str)],
    ) -> Result<(), InstallError> {
        let package = Package::parse(inf)?;
        self.on_machine(machine, |machine| {
            let device = device::enumerate(machine)
                .into_iter()
                .find(|d| d.installed.borrow().is_none() && !d.missing.get())
                .ok_or(InstallError::NoDevice)?;
            let matched = package.select(&device.identity)?;
            let registry = machine.ext::<MachineRegistry>();
            let installed = {
                let mut registry = registry.0.borrow_mut();
                let installed =
                    package.install(&matched, &device.identity, device.instance, &mut registry)?;
                let key = registry.create(&installed.class_key);
                keywords
                    .iter()
                    .for_each(|(name, value)| key.set(name, *value));
                installed
            };
            let service = installed.service.clone();
            *device.installed.borrow_mut() = Some(installed);
            let result = (|| {
                let found = loaded(machine, &service);
                let driver = match found {
                    Some(driver) => driver,
                    None => load(machine, &service, image)?,
                };
                let result = match of(machine).miniport_driver_of(&driver.driver) {
                    Some(miniport) => start_device(machine, &miniport, &device),
                    None => Err(InstallError::NoMiniport),
                };
                if result.is_err() {
                    unload_if_unused(machine, &driver);
                } else {
                    machine.faults.settle(driver.driver.number);
                }
                result
            })();
            if result.is_err() {
                *device.installed.borrow_mut() = None;
            }
            result
        })
    }

    /// Removes all adapters of a machine and unloads their drivers: TCP/IP unbound, paused, halted, unloaded.
    pub fn uninstall(&mut self, machine: MachineId) {
        self.remove_adapters(machine, NdisHaltDeviceDisabled);
        self.on_machine(machine, |machine| {
            for device in machine.ext::<Devices>().0.borrow().iter() {
                *device.installed.borrow_mut() = None;
            }
        });
    }

    /// The devices vanish: the miniports are told, then removed as by [`World::uninstall`]. Whoever calls this makes
    /// the hardware unreachable first.
    pub fn surprise_remove(&mut self, machine: MachineId) {
        self.begin_surprise_removal(machine);
        self.end_surprise_removal(machine);
    }

    /// The first half of [`World::surprise_remove`]: the miniports are told. Consumers of NDK have to let go of their adapters
    /// before the second half.
    pub fn begin_surprise_removal(&mut self, machine: MachineId) {
        self.on_machine(machine, |machine| {
            adapters(machine).iter().for_each(tell_removed);
        });
    }

    /// The second half of [`World::surprise_remove`]: the adapters are halted and removed.
    pub fn end_surprise_removal(&mut self, machine: MachineId) {
        self.remove_adapters(machine, NdisHaltDeviceSurpriseRemoved);
    }

    fn remove_adapters(&mut self, machine: MachineId, action: NDIS_HALT_ACTION) {
        self.on_machine(machine, |machine| {
            wait_until(
                || adapters(machine).iter().all(|a| !a.failing.get()),
                None,
                "adapters are being removed because their miniports said that they failed",
            );
            for adapter in adapters(machine) {
                lifecycle::stop(&adapter);
                lifecycle::halt(&adapter, action);
                lifecycle::remove(&adapter);
            }
            let all = machine.ext::<LoadedDrivers>().0.borrow().clone();
            for driver in all {
                unload_if_unused(machine, &driver);
            }
        });
    }

    /// Stops a machine's adapters and starts them again, as when an advanced property was changed: halt, initialise.
    ///
    /// # Errors
    /// What went wrong at the start; the adapter is gone then.
    pub fn restart_adapters(&mut self, machine: MachineId) -> Result<(), InstallError> {
        self.on_machine(machine, |machine| {
            for adapter in adapters(machine) {
                lifecycle::stop(&adapter);
                lifecycle::halt(&adapter, NdisHaltDeviceDisabled);
                let (driver, device) = (Rc::clone(&adapter.driver), Rc::clone(&adapter.device));
                lifecycle::remove(&adapter);
                start_device(machine, &driver, &device)?;
            }
            Ok(())
        })
    }

    /// Pauses a machine's adapters, as when a filter driver is about to be attached.
    pub fn pause(&mut self, machine: MachineId) {
        self.on_machine(machine, |machine| {
            adapters(machine)
                .iter()
                .for_each(|a| lifecycle::pause(a, NDIS_PAUSE_ATTACH_FILTER));
        });
    }

    /// Restarts what [`World::pause`] paused.
    ///
    /// # Errors
    /// The status with which `MiniportRestart` failed.
    pub fn resume(&mut self, machine: MachineId) -> Result<(), i32> {
        self.on_machine(machine, |machine| {
            adapters(machine).iter().try_for_each(lifecycle::restart)
        })
    }

    /// A machine goes to sleep: its adapters lose their power, and with it all that the devices know. Wake it before anything
    /// else is done with its adapters.
    pub fn sleep(&mut self, machine: MachineId) {
        self.on_machine(machine, |machine| {
            adapters(machine).iter().for_each(power::sleep);
        });
    }

    /// A machine wakes up from [`World::sleep`].
    ///
    /// # Errors
    /// What went wrong with an adapter; it does not run then.
    pub fn wake(&mut self, machine: MachineId) -> Result<(), InstallError> {
        self.on_machine(machine, |machine| {
            for adapter in adapters(machine) {
                if adapter.state.get() == State::Halted {
                    lifecycle::initialize(&adapter).map_err(InstallError::Initialize)?;
                    lifecycle::start(&adapter).map_err(InstallError::Restart)?;
                } else {
                    power::wake(&adapter).map_err(InstallError::Restart)?;
                }
            }
            Ok(())
        })
    }

    /// Has a machine's first adapter reset, as when it does not answer: the status that came of it. `None` when the machine has
    /// no adapter; NDIS_STATUS_NOT_RESETTABLE if the miniport has no handler for resets.
    pub fn reset(&mut self, machine: MachineId) -> Option<i32> {
        self.on_machine(machine, |machine| {
            Some(reset::reset(adapters(machine).first()?))
        })
    }

    /// Tells a machine's miniports that the system is going down.
    pub fn shutdown(&mut self, machine: MachineId) {
        self.on_machine(machine, |machine| {
            adapters(machine).iter().for_each(lifecycle::shutdown)
        });
    }

    /// Asks a machine's first adapter; `None` when it has none.
    pub fn oid(&mut self, machine: MachineId, request: &OidRequest<'_>) -> Option<OidResult> {
        self.on_machine(machine, |machine| {
            Some(oid::request(adapters(machine).first()?, request))
        })
    }

    /// Asks a machine's first adapter on the direct path, at DISPATCH_LEVEL, and waits for an answer that is left pending.
    pub fn direct_oid(
        &mut self,
        machine: MachineId,
        request: &OidRequest<'_>,
    ) -> Option<OidResult> {
        let pending = self.start_direct_oid(machine, request)?;
        Some(pending.wait(self))
    }

    /// Sends frames as they are through a machine's first adapter, as a protocol driver does.
    pub fn send_frames(&mut self, machine: MachineId, frames: Vec<Vec<u8>>) {
        let groups: Vec<_> = frames.into_iter().map(|frame| vec![frame]).collect();
        self.send_lists(machine, &groups);
    }

    /// As [`World::send_frames`], the frames of each group as the net buffers of one list.
    pub fn send_lists(&mut self, machine: MachineId, groups: &[Vec<Vec<u8>>]) {
        self.send_cancellable(machine, groups, 0);
    }

    /// As [`World::send_lists`]; [`World::cancel_sends`] with the same number takes back what was not sent yet.
    pub fn send_cancellable(
        &mut self,
        machine: MachineId,
        groups: &[Vec<Vec<u8>>],
        cancel_id: usize,
    ) {
        self.on_machine(machine, |machine| {
            if let Some(adapter) = adapters(machine).first() {
                super::send::send(adapter, groups, cancel_id);
            }
        });
    }

    /// Has the miniport told to give up sends that wait, of all those with that identifier.
    pub fn cancel_sends(&mut self, machine: MachineId, cancel_id: usize) {
        self.on_machine(machine, |machine| {
            adapters(machine)
                .iter()
                .for_each(|a| super::send::cancel(a, cancel_id))
        });
    }

    /// How the lists that a machine's first adapter was given to send came back.
    #[must_use]
    pub fn sends(&self, machine: MachineId) -> SendCounts {
        let machine = self.machine(machine);
        let adapters = adapters(&machine);
        adapters
            .first()
            .map_or_else(SendCounts::default, |adapter| SendCounts {
                sent: adapter.sends.completed.get(),
                failed: adapter.sends.failed.get(),
                cancelled: adapter.sends.cancelled.get(),
                outstanding: adapter.sends.outstanding() as u64,
            })
    }

    /// What NDIS knows of a machine's first adapter.
    #[must_use]
    pub fn adapter(&self, machine: MachineId) -> Option<AdapterInfo> {
        let machine = self.machine(machine);
        let adapters = adapters(&machine);
        let adapter = adapters.first()?;
        Some(AdapterInfo {
            if_index: adapter.if_index,
            luid: adapter.luid,
            mac: adapter.mac(),
            mtu: adapter.mtu(),
            link: adapter.link.get(),
            running: adapter.state.get() == State::Running,
            ndk: adapter.ndk.get().map(|n| (n.capabilities, n.info)),
            ndk_enabled: adapter.ndk_enabled.get(),
        })
    }

    /// Takes the status indications of a machine's first adapter.
    pub fn take_status_indications(&mut self, machine: MachineId) -> Vec<StatusIndication> {
        adapters(&self.machine(machine))
            .first()
            .map_or_else(Vec::new, |a| a.indications.take())
    }

    /// How many net buffer lists a miniport may indicate per interrupt DPC on a machine; `u32::MAX` for no limit.
    pub fn set_receive_throttle(&mut self, machine: MachineId, limit: u32) {
        of(&self.machine(machine)).throttle.set(limit);
    }

    /// Sets an advanced property of a machine's first device; it counts from the adapter's next start.
    ///
    /// # Panics
    /// If no driver is installed.
    pub fn set_keyword(&mut self, machine: MachineId, name: &str, value: &str) {
        let machine = self.machine(machine);
        let path = class_key(&machine).expect("a device with a driver");
        machine
            .ext::<MachineRegistry>()
            .0
            .borrow_mut()
            .create(&path)
            .set(name, value);
    }

    /// An advanced property of a machine's first device.
    #[must_use]
    pub fn keyword(&self, machine: MachineId, name: &str) -> Option<Value> {
        let machine = self.machine(machine);
        let path = class_key(&machine)?;
        machine
            .ext::<MachineRegistry>()
            .0
            .borrow()
            .open(&path)
            .and_then(|k: &Key| k.value(name))
            .cloned()
    }
}

/// Tells a miniport that its device is gone.
fn tell_removed(adapter: &Rc<Adapter>) {
    adapter.device.missing.set(true);
    adapter.removed.set(true);
    lifecycle::pnp_event(adapter, NdisDevicePnPEventSurpriseRemoved, &[]);
}

/// `NdisMRemoveMiniport`: the device has failed, says its miniport. Soon it is treated as one that is gone.
pub(crate) fn fail(adapter: &Rc<Adapter>) {
    if adapter.failing.replace(true) {
        return;
    }
    let (machine, adapter) = (adapter.machine(), Rc::clone(adapter));
    Rc::clone(&machine).queue_work(move || {
        // Whoever halts it already is quicker.
        if adapter.state.get() != State::Halted {
            tell_removed(&adapter);
            lifecycle::stop(&adapter);
            lifecycle::halt(&adapter, NdisHaltDeviceFailed);
            lifecycle::remove(&adapter);
        }
        adapter.failing.set(false);
        let all = machine.ext::<LoadedDrivers>().0.borrow().clone();
        for driver in all {
            unload_if_unused(&machine, &driver);
        }
    });
}

fn class_key(machine: &Machine) -> Option<String> {
    let devices = machine.ext::<Devices>();
    let devices = devices.0.borrow();
    devices
        .iter()
        .find_map(|d| d.installed.borrow().as_ref().map(|i| i.class_key.clone()))
}

pub(super) fn adapters(machine: &Machine) -> Vec<Rc<Adapter>> {
    of(machine).adapters.borrow().clone()
}

fn loaded(machine: &Machine, service: &str) -> Option<Rc<Loaded>> {
    let drivers = machine.ext::<LoadedDrivers>();
    let drivers = drivers.0.borrow();
    drivers
        .iter()
        .find(|l| l.service.eq_ignore_ascii_case(service))
        .map(Rc::clone)
}

fn unload_if_unused(machine: &Rc<Machine>, driver: &Rc<Loaded>) {
    let used = adapters(machine)
        .iter()
        .any(|a| Rc::ptr_eq(&a.driver.driver, &driver.driver));
    if !used {
        unload(machine, driver);
    }
}
