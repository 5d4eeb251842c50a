//! Loading and unloading drivers.

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::ptr;
use std::rc::Rc;

use ndis_sys::status::STATUS_INSUFFICIENT_RESOURCES;
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{
    DRIVER_EXTENSION, DRIVER_INITIALIZE, DRIVER_OBJECT, DRIVER_UNLOAD, UNICODE_STRING,
};

use super::context;
use super::driver::Driver;
use super::driver_call::call_driver;
use super::machine::Machine;
use super::processor::PASSIVE;
use super::rng::Rng;
use crate::etw::Tracing;
use crate::exports::dma::Dma;
use crate::exports::io::{DriverExtensions, WorkItems};
use crate::exports::lookaside::Lists;
use crate::exports::mm::IoMappings;
use crate::exports::ob::Objects;
use crate::exports::registry;
use crate::exports::resource::Resources;
use crate::image::{Image, ImageError, Images, Mapped};
use crate::memory::mdl::Mdls;
use crate::pnp::MachineRegistry;
use crate::trace;
use crate::verifier::{self, Function, rules};

static DRIVER_ENTRY: Function = Function::callback("DriverEntry", PASSIVE..=PASSIVE);
static UNLOAD: Function = Function::callback("DriverUnload", PASSIVE..=PASSIVE);

/// Why a driver's image could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadError {
    /// The image is not one that can be loaded here.
    Image(ImageError),
    /// Its entry point failed with this status.
    DriverEntry(NTSTATUS),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(error) => error.fmt(f),
            Self::DriverEntry(status) => write!(f, "DriverEntry failed with {status:#x}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// The I/O manager's number for this kind of object.
const IO_TYPE_DRIVER: i16 = 4;

/// A driver object and the strings it points at, in one allocation.
#[repr(C)]
struct Loaded {
    object: DRIVER_OBJECT,
    extension: DRIVER_EXTENSION,
    registry_path: UNICODE_STRING,
}

/// Makes a terminated UTF-16 string in kernel memory.
fn kernel_string(machine: &Machine, text: &str) -> Option<UNICODE_STRING> {
    let units: Vec<u16> = text.encode_utf16().collect();
    let bytes = |units: usize| u16::try_from(units * 2).ok();
    let (length, room) = (bytes(units.len())?, bytes(units.len() + 1)?);
    let address = machine.kernel_alloc(room.into(), "the loading of a driver")?;
    let buffer = address as *mut u16;
    // SAFETY: just allocated, zeroed, one unit longer than this.
    unsafe { ptr::copy_nonoverlapping(units.as_ptr(), buffer, units.len()) };
    Some(UNICODE_STRING {
        Length: length,
        MaximumLength: room,
        Buffer: buffer,
    })
}

impl Machine {
    /// Makes a driver object and calls the driver's entry point with it. The driver stays loaded if that succeeds.
    ///
    /// # Safety
    /// `entry` must be a driver's entry point; its code must stay until the driver is unloaded.
    pub(crate) unsafe fn load_driver(
        self: &Rc<Self>,
        name: &str,
        registry_path: &str,
        entry: DRIVER_INITIALIZE,
    ) -> Result<Rc<Driver>, NTSTATUS> {
        // SAFETY: the caller's promise.
        unsafe { self.start_driver(name, registry_path, entry, 0..0) }
    }

    /// As `load_driver` for an image, of which every load has its own copy.
    pub(crate) fn load_image(
        self: &Rc<Self>,
        name: &str,
        registry_path: &str,
        image: &Image,
    ) -> Result<Rc<Driver>, LoadError> {
        // A stream of its own: a run with an image draws what a run with the linked driver draws.
        let random = Rng::new(context::core().seed ^ 0x636f_6f6b_6965).next();
        let mapped = Mapped::new(image, &self.ram, random).map_err(LoadError::Image)?;
        // SAFETY: the address of the image's entry point, which has the signature of every driver's.
        let entry = unsafe {
            std::mem::transmute::<*const (), DRIVER_INITIALIZE>(mapped.entry() as *const ())
        };
        let range = mapped.range();
        let images = self.ext::<Images>();
        images.add(mapped, self);
        // SAFETY: as above; the code stays until `forget_driver`.
        let driver = unsafe { self.start_driver(name, registry_path, entry, range.clone()) }
            .map_err(LoadError::DriverEntry)?;
        images.initialised(range.start, self);
        Ok(driver)
    }

    /// # Safety
    /// As `load_driver`.
    unsafe fn start_driver(
        self: &Rc<Self>,
        name: &str,
        registry_path: &str,
        entry: DRIVER_INITIALIZE,
        image: Range<usize>,
    ) -> Result<Rc<Driver>, NTSTATUS> {
        let driver = self.drivers.add(name);
        // Whoever loads a driver finds it by its service's key.
        if let Some(key) = registry::below_local_machine(registry_path) {
            let registry = self.ext::<MachineRegistry>();
            registry.0.borrow_mut().create(key);
        }
        let object = self.kernel_alloc(size_of::<Loaded>(), "the loading of a driver");
        let driver_name = format!("\\Driver\\{name}");
        let strings = [&driver_name, name, registry_path].map(|text| kernel_string(self, text));
        let (Some(address), [Some(driver_name), Some(service), Some(path)]) = (object, strings)
        else {
            let strings = strings.iter().flatten().map(|s| s.Buffer as usize);
            for made in strings.chain(object) {
                self.pool_free(made, None, "the loading of a driver");
            }
            self.ext::<Images>().unload(image.start, self);
            return Err(STATUS_INSUFFICIENT_RESOURCES);
        };
        let loaded = address as *mut Loaded;
        // SAFETY: just allocated, of this size.
        unsafe {
            let object = &raw mut (*loaded).object;
            let extension = &raw mut (*loaded).extension;
            object.write(DRIVER_OBJECT {
                Type: IO_TYPE_DRIVER,
                Size: size_of::<DRIVER_OBJECT>() as i16,
                DriverStart: image.start as *mut c_void,
                DriverSize: image.len() as u32,
                DriverExtension: extension,
                DriverName: driver_name,
                DriverInit: Some(entry),
                ..DRIVER_OBJECT::ZEROED
            });
            extension.write(DRIVER_EXTENSION {
                DriverObject: object,
                ServiceKeyName: service,
                ..DRIVER_EXTENSION::ZEROED
            });
            (&raw mut (*loaded).registry_path).write(path);
        }
        driver.object.set(address);
        driver.loaded.set(true);
        self.ext::<Objects>().add_foreign(address);
        let status = {
            let _charged = driver.charge();
            // SAFETY: promised by the caller.
            call_driver(&DRIVER_ENTRY, entry as *const (), || unsafe {
                entry(&raw mut (*loaded).object, &raw mut (*loaded).registry_path)
            })
        };
        trace::answered(&DRIVER_ENTRY, status);
        if status < 0 {
            self.forget_driver(&driver, "after DriverEntry failed");
            return Err(status);
        }
        Ok(driver)
    }

    /// Calls a driver's unload routine and checks that it left nothing behind.
    pub(crate) fn unload_driver(self: &Rc<Self>, driver: &Rc<Driver>) {
        let object = driver.object.get() as *mut DRIVER_OBJECT;
        // SAFETY: the object lives as long as the driver is loaded.
        let unload: Option<DRIVER_UNLOAD> = unsafe { (*object).DriverUnload };
        if let Some(unload) = unload {
            let _charged = driver.charge();
            // SAFETY: the driver gave the routine for this.
            call_driver(&UNLOAD, unload as *const (), || unsafe { unload(object) });
        }
        self.forget_driver(driver, "after DriverUnload");
    }

    /// Frees what the kernel keeps for a driver that has gone.
    fn forget_driver(self: &Rc<Self>, driver: &Rc<Driver>, when: &str) {
        self.accuse_leftovers(driver, when);
        let object = driver.object.get();
        // SAFETY: the object is still there; its strings are the kernel's.
        let (image, strings) = unsafe {
            let loaded = object as *mut Loaded;
            let strings = [
                (*loaded).object.DriverName.Buffer,
                (*loaded).extension.ServiceKeyName.Buffer,
                (*loaded).registry_path.Buffer,
            ];
            ((*loaded).object.DriverStart as usize, strings)
        };
        for string in strings {
            self.pool_free(string as usize, None, "the unloading of a driver");
        }
        self.pool_free(object, None, "the unloading of a driver");
        driver.loaded.set(false);
        driver.object.set(0);
        self.ext::<Images>().unload(image, self);
    }

    /// Accuses a driver that has gone of what it left behind, and forgets what belonged to its driver object.
    /// `when` says when it went, for reports.
    pub(crate) fn accuse_leftovers(self: &Rc<Self>, driver: &Driver, when: &str) {
        let (number, name) = (driver.number, driver.name.as_str());
        // Who wrote where it may not is easier to find while the driver's last calls are in the history.
        self.pool.check_all(&self.ram);
        // What is queued may run any moment: a driver has to wait for it, not to hope.
        while let Some(timer) = self.timers.of_driver(number) {
            verifier::violation(
                rules::TIMER_AT_UNLOAD,
                format!("{when}: the timer of {name} at {timer:#x} is running"),
            );
            self.cancel_timer(timer);
        }
        for processor in &self.processors {
            while let Some(dpc) = processor.dpc_of_driver(number) {
                verifier::violation(
                    rules::DPC_AT_UNLOAD,
                    format!("{when}: the DPC of {name} at {dpc:#x} is queued"),
                );
                processor.remove_dpc(dpc);
            }
        }
        let (items, queued) = self.ext::<WorkItems>().of_driver(number);
        if items > 0 {
            verifier::violation(
                rules::WORK_ITEM_AT_UNLOAD,
                format!("{when}: {name} has {items} work item(s), {queued} of them queued"),
            );
        }
        let mdls = self.ext::<Mdls>().of_owner(number);
        if let Some(mdl) = mdls.first() {
            verifier::violation(
                rules::MDL_STATE,
                format!(
                    "{when}: {name} has {} MDL(s) locked or mapped, one of them at {mdl:#x}",
                    mdls.len()
                ),
            );
        }
        let mappings = self.ext::<IoMappings>().of_driver(number);
        if mappings > 0 {
            verifier::violation(
                rules::IO_MAPPING_LEAK,
                format!("{when}: {name} has {mappings} mapping(s) of device memory"),
            );
        }
        self.ext::<Dma>().check_unload(self, number, name, when);
        self.ext::<Objects>().check_unload(number, name, when);
        self.ext::<Tracing>().check_unload(number, name, when);
        for (what, left) in [
            ("lookaside list(s)", self.ext::<Lists>().forget(number)),
            ("resource(s)", self.ext::<Resources>().forget(number)),
        ] {
            if left > 0 {
                verifier::violation(
                    rules::EXECUTIVE_AT_UNLOAD,
                    format!("{when}: {name} has not deleted {left} {what}"),
                );
            }
        }
        let object = driver.object.get();
        self.ext::<DriverExtensions>().free_all(self, object);
        if self.ext::<Objects>().remove_foreign(object) > 0 {
            verifier::violation(
                rules::REFERENCE,
                format!("{when}: the driver object of {name} is still referenced"),
            );
        }
        crate::ndis::driver::check_gone(self, number, when);
        let mut leaks = Vec::new();
        self.pool.leaks(self, Some(number), &mut leaks);
        for leak in leaks {
            verifier::violation(rules::POOL_LEAK, format!("{when}: {leak}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use ndis_sys::imports::{MmMapIoSpaceEx, MmUnmapIoSpace};
    use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
    use ndis_sys::types::NTSTATUS;
    use ndis_sys::wdm::{DRIVER_OBJECT, PAGE_READWRITE, UNICODE_STRING};

    use crate::verifier::rules;
    use crate::{MachineConfig, World};

    const REGISTERS: u64 = 0xf000_0000;

    unsafe extern "efiapi" fn forgetful(
        _object: *mut DRIVER_OBJECT,
        _path: *mut UNICODE_STRING,
    ) -> NTSTATUS {
        // SAFETY: nothing is accessed.
        unsafe {
            let first = MmMapIoSpaceEx(REGISTERS as i64, 256, PAGE_READWRITE);
            let second = MmMapIoSpaceEx(REGISTERS as i64 + 256, 256, PAGE_READWRITE);
            assert!(!first.is_null() && !second.is_null());
            MmUnmapIoSpace(first, 256);
        }
        STATUS_SUCCESS
    }

    #[test]
    fn a_driver_that_cannot_be_loaded_leaves_nothing() {
        let mut world = World::builder().build();
        let a = world.add_machine(MachineConfig::named("A"));
        let machine = world.machine(a);
        let machine = std::rc::Rc::clone(&machine);
        let before = machine.pool.held();
        // Longer than a UNICODE_STRING can be, with what is put before it.
        let name = "x".repeat(32_763);
        let status = world.load_driver(a, &name, forgetful).err();
        assert_eq!(status, Some(STATUS_INSUFFICIENT_RESOURCES));
        assert_eq!(machine.pool.held(), before);
    }

    #[test]
    fn a_driver_that_goes_and_leaves_device_memory_mapped() {
        let mut world = World::builder().collect_violations().build();
        let a = world.add_machine(MachineConfig::named("A"));
        world.machine(a).io_space.add(REGISTERS, 4096, 0x10_0000);
        let driver = world.load_driver(a, "forgetful", forgetful).unwrap();
        world.unload_driver(driver);
        let broken: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
        assert_eq!(broken, [rules::IO_MAPPING_LEAK]);
    }
}
