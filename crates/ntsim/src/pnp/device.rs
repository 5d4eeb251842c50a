//! Devices that Plug and Play knows of, and the resources it gives them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::wdm::*;

use super::ids::PciIdentity;
use super::package::Installed;
use super::registry::{Key, Value};
use crate::pci::Function;
use crate::world::machine::Machine;
use crate::world::processor::DEVICE;

const BY: &str = "Plug and Play";

/// An interrupt message assigned to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) vector: u32,
    pub(crate) processor: u32,
    pub(crate) address: u64,
    pub(crate) data: u32,
}

/// A device with what Plug and Play keeps about it.
pub(crate) struct Device {
    pub(crate) function: Rc<Function>,
    /// Number of the device on its machine, from 1; names its registry keys.
    pub(crate) instance: u32,
    pub(crate) identity: PciIdentity,
    /// Set once a driver package has been installed for it.
    pub(crate) installed: RefCell<Option<Installed>>,
    messages: RefCell<Vec<Message>>,
    /// Vector of its interrupt line, if it is started without messages.
    line: Cell<Option<u32>>,
    /// Resource lists given to the driver.
    lists: RefCell<Vec<usize>>,
    /// The physical device object, as the driver sees it; leaked with the machine's memory.
    pub(crate) pdo: Cell<*mut DEVICE_OBJECT>,
    pub(crate) fdo: Cell<*mut DEVICE_OBJECT>,
    /// Gone without having been stopped.
    pub(crate) missing: Cell<bool>,
}

/// A machine's devices.
#[derive(Default)]
pub(crate) struct Devices(pub(crate) RefCell<Vec<Rc<Device>>>);

/// The devices on a machine's buses, with those that were plugged in since the last look.
pub(crate) fn enumerate(machine: &Rc<Machine>) -> Vec<Rc<Device>> {
    let devices = machine.ext::<Devices>();
    let mut list = devices.0.borrow_mut();
    for function in crate::pci::functions(machine) {
        if list.iter().any(|d| Rc::ptr_eq(&d.function, &function)) {
            continue;
        }
        let identity =
            PciIdentity::from_config(&function.config()).expect("64 bytes of configuration space");
        let instance = u32::try_from(list.len()).expect("few devices") + 1;
        list.push(Rc::new(Device {
            function,
            instance,
            identity,
            installed: RefCell::new(None),
            messages: RefCell::default(),
            line: Cell::new(None),
            lists: RefCell::default(),
            pdo: Cell::new(std::ptr::null_mut()),
            fdo: Cell::new(std::ptr::null_mut()),
            missing: Cell::new(false),
        }));
    }
    list.clone()
}

impl Device {
    /// The device's software key.
    pub(crate) fn with_class_key<R>(
        &self,
        machine: &Machine,
        f: impl FnOnce(&Key) -> R,
    ) -> Option<R> {
        let path = self.installed.borrow().as_ref()?.class_key.clone();
        let registry = machine.ext::<super::MachineRegistry>();
        let registry = registry.0.borrow();
        registry.open(&path).map(f)
    }

    pub(crate) fn luid_index(&self) -> u32 {
        0x8000 + self.instance
    }

    fn class_number(&self, machine: &Machine, name: &str) -> u32 {
        self.with_class_key(machine, |k| k.value(name).and_then(Value::as_u32))
            .flatten()
            .unwrap_or(0)
    }

    /// `*PhysicalMediaType` of the INF.
    pub(crate) fn physical_media_type(&self) -> u32 {
        self.class_number(&crate::world::context::machine(), "*PhysicalMediaType")
    }

    /// The interrupt messages assigned to the device; empty while it is not started.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages.borrow().clone()
    }

    /// The vector of its interrupt line; None while it is not started, or has messages.
    pub(crate) fn line(&self) -> Option<u32> {
        self.line.get()
    }

    /// Switches the device on and assigns interrupt messages: as many as the INF allows and the device has. If that is none,
    /// its interrupt line.
    pub(crate) fn assign(&self, machine: &Rc<Machine>) {
        let key = self.installed.borrow().as_ref().map(|i| {
            format!(
                "{}\\Interrupt Management\\MessageSignaledInterruptProperties",
                i.device_key
            )
        });
        let registry = machine.ext::<super::MachineRegistry>();
        let number = |name: &str| {
            let registry = registry.0.borrow();
            key.as_ref()
                .and_then(|k| registry.open(k))
                .and_then(|k| k.value(name))
                .and_then(Value::as_u32)
        };
        let mut count = 0;
        if number("MSISupported") == Some(1) {
            count = u32::from(self.function.resources().messages)
                .min(number("MessageNumberLimit").unwrap_or(u32::MAX))
                .min(2048);
        }
        // Others may have them.
        if count > 1
            && machine
                .faults
                .happens(|| format!("grant of 1 message instead of {count}"))
        {
            count = 1;
        }
        self.function.start();
        let processors = u32::try_from(machine.processors.len()).unwrap_or(1);
        if count == 0 {
            let vector = machine.interrupts.connect(DEVICE, 0, Rc::new(|| {}));
            self.function.route_line(Some(vector));
            self.line.set(Some(vector));
        }
        let mut messages = self.messages.borrow_mut();
        for index in 0..count {
            let processor = index % processors;
            // Until a driver connects, the message is spurious.
            let vector = machine
                .interrupts
                .connect(DEVICE, processor, Rc::new(|| {}));
            let (address, data) = machine.interrupts.message(vector);
            messages.push(Message {
                vector,
                processor,
                address,
                data,
            });
        }
    }

    /// Switches the device off and gives the messages back.
    pub(crate) fn release(&self, machine: &Machine) {
        self.function.stop();
        let messages = std::mem::take(&mut *self.messages.borrow_mut());
        for message in messages {
            machine.interrupts.disconnect(message.vector);
        }
        if let Some(vector) = self.line.take() {
            self.function.route_line(None);
            machine.interrupts.disconnect(vector);
        }
        for list in self.lists.take() {
            machine.pool_free(list, None, BY);
        }
    }

    /// As [`Self::resource_list`], in kernel memory that lives as long as the device has its resources.
    pub(crate) fn kernel_resource_list(
        &self,
        machine: &Machine,
        translated: bool,
    ) -> *mut CM_RESOURCE_LIST {
        let bytes = self.resource_list(translated);
        let Some(at) = machine.kernel_alloc(bytes.len().max(size_of::<CM_RESOURCE_LIST>()), BY)
        else {
            return std::ptr::null_mut();
        };
        self.lists.borrow_mut().push(at);
        let to: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
        // SAFETY: freshly allocated with that size.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        to.cast()
    }

    /// The resources as `IRP_MN_START_DEVICE` carries them: bytes of a `CM_RESOURCE_LIST`, raw or translated.
    pub(crate) fn resource_list(&self, translated: bool) -> Vec<u8> {
        let mut descriptors = Vec::new();
        let mut descriptor = |kind: u8, share: u8, flags: u16, words: [u32; 4]| {
            descriptors.push(kind);
            descriptors.push(share);
            descriptors.extend_from_slice(&flags.to_le_bytes());
            words
                .iter()
                .for_each(|w| descriptors.extend_from_slice(&w.to_le_bytes()));
        };
        let halves = |v: u64| (v as u32, (v >> 32) as u32);
        let mut count = 0u32;
        for bar in self.function.resources().memory {
            let flags = CM_RESOURCE_MEMORY_READ_WRITE
                | CM_RESOURCE_MEMORY_BAR
                | if bar.prefetchable {
                    CM_RESOURCE_MEMORY_PREFETCHABLE
                } else {
                    0
                };
            let (low, high) = halves(bar.physical);
            let length = u32::try_from(bar.length).unwrap_or(u32::MAX);
            let share = CmResourceShareDeviceExclusive;
            descriptor(CmResourceTypeMemory, share, flags, [low, high, length, 0]);
            count += 1;
        }
        for message in self.messages.borrow().iter() {
            let (low, high) = halves(1 << message.processor);
            let words = if translated {
                [u32::from(DEVICE), message.vector, low, high]
            } else {
                // Group 0 and one message in the first word.
                [1 << 16, CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN, low, high]
            };
            let flags = CM_RESOURCE_INTERRUPT_LATCHED | CM_RESOURCE_INTERRUPT_MESSAGE;
            let share = CmResourceShareDeviceExclusive;
            descriptor(CmResourceTypeInterrupt, share, flags, words);
            count += 1;
        }
        if let Some(vector) = self.line.get() {
            // Level, vector, processors. Raw, both are the number that firmware writes into configuration space.
            let words = if translated {
                [u32::from(DEVICE), vector, 1, 0]
            } else {
                [vector, vector, u32::MAX, u32::MAX]
            };
            let flags = CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE;
            descriptor(CmResourceTypeInterrupt, CmResourceShareShared, flags, words);
            count += 1;
        }
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&1u32.to_le_bytes());
        bytes.extend_from_slice(&PCIBus.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&1u16.to_le_bytes());
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.append(&mut descriptors);
        bytes
    }
}
