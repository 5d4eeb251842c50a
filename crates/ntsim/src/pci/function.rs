//! One function of the bus: ties configuration space, BARs, messages and the device model together.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use super::config::{
    BUS_MASTER, COMMAND, Capability, ConfigSpace, INTX_DISABLE, Identity, MEMORY, SIZE,
};
use super::msix::Msix;
use super::{Bus, rules};
use crate::mmio::{Mapping, Registers};
use crate::verifier;
use crate::world::context::KernelMode;
use crate::world::machine::Machine;

/// MSI-X capability id.
const CAP_MSIX: u8 = 0x11;
/// MSI-X message control: enabled.
const MSIX_ENABLE: u16 = 1 << 15;
/// MSI-X message control: all messages masked.
const MSIX_FUNCTION_MASK: u16 = 1 << 14;

/// 32-bit BARs get physical addresses from here on.
const LOW_WINDOW: u64 = 0xe000_0000;
/// 64-bit BARs from here on, plus a step for each machine; no machine's memory lies there.
const HIGH_WINDOW: u64 = 0x7000_0000_0000;
const HIGH_STEP: u64 = 0x1_0000_0000;

/// A model of what a function does.
pub trait Device {
    /// A load from a BAR. `width` is 1, 2, 4 or 8 bytes. Runs in place of the driver's instruction: it must not call
    /// driver code.
    fn read(&self, bar: u8, offset: u64, width: u8) -> u64;
    /// A store to a BAR, likewise.
    fn write(&self, bar: u8, offset: u64, width: u8, value: u64);
    /// Configuration space is about to be read: a model that has a window there updates it.
    fn config_reading(&self, config: &ConfigSpace, offset: usize, length: usize) {
        let _ = (config, offset, length);
    }
    /// Configuration space was written.
    fn config_written(&self, config: &ConfigSpace, offset: usize, length: usize) {
        let _ = (config, offset, length);
    }
    /// The function was switched off ([`Function::stop`]) while the driver may have left the device running.
    fn stopped(&self) {}
    /// The function was pulled out ([`Function::unplug`]).
    fn unplugged(&self) {}
}

/// Where a function is on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Location {
    /// Bus number.
    pub bus: u8,
    /// Device number, below 32.
    pub device: u8,
    /// Function number, below 8.
    pub function: u8,
}

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Number of its (first) register, 0 to 5.
    pub index: u8,
    /// Bytes, a power of two from 4096.
    pub length: u64,
    /// A 64-bit address, in two registers.
    pub wide: bool,
    /// Reading has no side effects.
    pub prefetchable: bool,
}

/// Device memory that a driver is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryResource {
    /// The BAR it belongs to.
    pub bar: u8,
    /// Physical address.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    /// A 64-bit BAR.
    pub wide: bool,
    /// Reading has no side effects.
    pub prefetchable: bool,
}

/// What a driver is given: what becomes its resource list.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Resources {
    /// Device memory, in the order of the BARs.
    pub memory: Vec<MemoryResource>,
    /// MSI-X messages the function has.
    pub messages: u16,
}

struct BarState {
    bar: Bar,
    physical: Cell<u64>,
    mapping: OnceCell<Mapping>,
}

/// A function of the bus.
pub struct Function {
    config: ConfigSpace,
    bars: Vec<BarState>,
    msix: Option<Msix>,
    /// The vector that its interrupt line leads to.
    line: Cell<Option<u32>>,
    /// It asserts its interrupt line.
    asserted: Cell<bool>,
    device: RefCell<Option<Rc<dyn Device>>>,
    machine: RefCell<Weak<Machine>>,
    location: Cell<Location>,
    unplugged: Cell<bool>,
    /// Messages were on when the power went.
    messages_kept: Cell<bool>,
}

/// Serves the faults of one BAR.
struct BarRegisters {
    function: Weak<Function>,
    bar: u8,
}

impl Function {
    /// A function with these BARs and capabilities. `messages` MSI-X messages, if not 0, have their table in
    /// `msix_bar`, which must be among the BARs and is not passed on to the device.
    pub fn new(
        identity: &Identity,
        bars: &[Bar],
        messages: u16,
        msix_bar: u8,
        capabilities: &[Capability],
    ) -> Rc<Function> {
        let config = ConfigSpace::new(identity);
        for bar in bars {
            config.set_bar(bar.index, bar.length, bar.wide, bar.prefetchable);
        }
        let msix = (messages > 0).then(|| {
            let table = u32::from(msix_bar);
            let pending = Msix::table_size(messages) as u32 | u32::from(msix_bar);
            let mut body = (messages - 1).to_le_bytes().to_vec();
            body.extend_from_slice(&table.to_le_bytes());
            body.extend_from_slice(&pending.to_le_bytes());
            let writable = (MSIX_ENABLE | MSIX_FUNCTION_MASK).to_le_bytes().to_vec();
            let capability = config.add_capability(&Capability {
                id: CAP_MSIX,
                body,
                writable,
            });
            Msix::new(capability, msix_bar, messages)
        });
        for capability in capabilities {
            config.add_capability(capability);
        }
        let bars = bars
            .iter()
            .map(|&bar| BarState {
                bar,
                physical: Cell::new(0),
                mapping: OnceCell::new(),
            })
            .collect();
        Rc::new(Function {
            config,
            bars,
            msix,
            line: Cell::new(None),
            asserted: Cell::new(false),
            device: RefCell::default(),
            machine: RefCell::default(),
            location: Cell::default(),
            unplugged: Cell::new(false),
            messages_kept: Cell::new(false),
        })
    }

    /// Plugs the function with its device into a machine. It does not decode addresses until started.
    ///
    /// # Panics
    /// If the host has no address space left, or the function is plugged in already.
    pub(crate) fn attach(self: &Rc<Self>, machine: &Rc<Machine>, device: Rc<dyn Device>) {
        assert!(
            self.device.borrow().is_none(),
            "the function is plugged in already"
        );
        *self.device.borrow_mut() = Some(device);
        *self.machine.borrow_mut() = Rc::downgrade(machine);
        let bus = machine.ext::<Bus>();
        let neighbours = bus.functions.borrow().clone();
        self.location.set(Location {
            bus: 0,
            device: neighbours.len() as u8 + 3,
            function: 0,
        });
        for state in &self.bars {
            let bar = state.bar;
            let window = if bar.wide {
                HIGH_WINDOW + u64::from(machine.id.0) * HIGH_STEP
            } else {
                LOW_WINDOW
            };
            // Behind everything that is in this window already.
            let physical = neighbours
                .iter()
                .flat_map(|function| &function.bars)
                .chain(&self.bars)
                .filter(|other| other.bar.wide == bar.wide && other.physical.get() != 0)
                .map(|other| other.physical.get() + other.bar.length)
                .fold(window, u64::max)
                .next_multiple_of(bar.length);
            state.physical.set(physical);
            self.config.set_bar_address(bar.index, bar.wide, physical);
            let registers = Rc::new(BarRegisters {
                function: Rc::downgrade(self),
                bar: bar.index,
            });
            let mapping = Mapping::new(bar.length as usize, registers)
                .expect("address space for a device's registers");
            let address = mapping.base().as_ptr() as usize;
            machine.io_space.add(physical, bar.length as usize, address);
            assert!(state.mapping.set(mapping).is_ok(), "a BAR has one mapping");
        }
        bus.functions.borrow_mut().push(Rc::clone(self));
    }

    /// Pulls the function out of the machine while it may be in use: all reads give ones, writes have no effect, no
    /// memory is accessed, no message raised.
    pub fn unplug(&self) {
        if !self.unplugged.replace(true)
            && let Some(device) = &*self.device.borrow()
        {
            device.unplugged();
        }
    }

    /// Whether it was pulled out.
    #[must_use]
    pub fn is_unplugged(&self) -> bool {
        self.unplugged.get()
    }

    /// Where it is on the bus.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location.get()
    }

    /// Configuration space as it is, without the side effects of reading.
    #[must_use]
    pub fn config(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        self.config.read(0, &mut bytes);
        bytes
    }

    /// Reads configuration space; returns how many bytes exist there.
    pub fn read_config(&self, offset: usize, data: &mut [u8]) -> usize {
        if self.unplugged.get() {
            data.fill(0xff);
            return 0;
        }
        if let Some(device) = &*self.device.borrow() {
            device.config_reading(&self.config, offset, data.len());
        }
        self.config.read(offset, data);
        data.len().min(SIZE.saturating_sub(offset))
    }

    /// Writes configuration space; returns how many bytes exist there.
    pub fn write_config(&self, offset: usize, data: &[u8]) -> usize {
        if self.unplugged.get() {
            return 0;
        }
        self.config.write(offset, data);
        if let Some(msix) = &self.msix {
            let control = self.config.word(msix.capability + 2);
            msix.enabled.set(control & MSIX_ENABLE != 0);
            msix.function_masked.set(control & MSIX_FUNCTION_MASK != 0);
            self.deliver();
        }
        self.deliver_line();
        if let Some(device) = &*self.device.borrow() {
            device.config_written(&self.config, offset, data.len());
        }
        data.len().min(SIZE.saturating_sub(offset))
    }

    /// Has configuration space say something else than it should.
    pub(crate) fn pretend(&self, offset: usize, data: &[u8]) {
        self.config.put(offset, data);
    }

    /// What its driver is to be given.
    #[must_use]
    pub fn resources(&self) -> Resources {
        Resources {
            memory: self
                .bars
                .iter()
                .map(|state| MemoryResource {
                    bar: state.bar.index,
                    physical: state.physical.get(),
                    length: state.bar.length,
                    wide: state.bar.wide,
                    prefetchable: state.bar.prefetchable,
                })
                .collect(),
            messages: self.msix.as_ref().map_or(0, Msix::count),
        }
    }

    /// Switches on memory decoding and bus mastering, as the bus driver does when the device is started.
    pub fn start(&self) {
        let command = self.config.word(COMMAND) | MEMORY | BUS_MASTER;
        self.write_config(COMMAND, &command.to_le_bytes());
    }

    /// Switches off memory decoding, bus mastering and messages, as the bus driver does when the device is stopped.
    pub fn stop(&self) {
        if self.unplugged.get() {
            return;
        }
        if let Some(device) = &*self.device.borrow() {
            device.stopped();
        }
        let command = self.config.word(COMMAND) & !(MEMORY | BUS_MASTER);
        self.write_config(COMMAND, &command.to_le_bytes());
        self.enable_messages(false);
        self.asserted.set(false);
        if let Some(msix) = &self.msix {
            msix.forget();
            for message in 0..msix.count() {
                msix.set_masked(message, true);
            }
        }
    }

    /// Takes the power away (D3): the device forgets everything, its registers are not there. The messages are kept here, as
    /// the bus driver keeps them.
    pub fn power_down(&self) {
        if self.unplugged.get() {
            return;
        }
        if let Some(device) = &*self.device.borrow() {
            device.stopped();
        }
        let command = self.config.word(COMMAND) & !(MEMORY | BUS_MASTER);
        self.write_config(COMMAND, &command.to_le_bytes());
        self.messages_kept.set(self.messages_enabled());
        self.enable_messages(false);
        self.asserted.set(false);
        if let Some(msix) = &self.msix {
            msix.forget();
        }
    }

    /// Gives the power back (D0), with the resources as they were.
    pub fn power_up(&self) {
        if self.unplugged.get() {
            return;
        }
        self.start();
        self.enable_messages(self.messages_kept.replace(false));
    }

    /// Whether the device may access memory.
    #[must_use]
    pub fn is_bus_master(&self) -> bool {
        !self.unplugged.get() && self.config.word(COMMAND) & BUS_MASTER != 0
    }

    /// Sets what the device writes to raise a message (see `Interrupts::message`), and unmasks it.
    pub fn program_message(&self, message: u16, address: u64, data: u32) {
        if let Some(msix) = &self.msix {
            msix.program(message, address, data);
            self.mask_message(message, false);
        }
    }

    /// Masks or unmasks a message. One raised while masked is delivered when unmasked.
    pub fn mask_message(&self, message: u16, masked: bool) {
        if let Some(msix) = &self.msix {
            msix.set_masked(message, masked);
            self.deliver();
        }
    }

    /// Switches MSI-X on or off as a whole.
    pub fn enable_messages(&self, enabled: bool) {
        if let Some(msix) = &self.msix {
            let control = self.config.word(msix.capability + 2);
            let control = if enabled {
                control | MSIX_ENABLE
            } else {
                control & !MSIX_ENABLE
            };
            self.write_config(msix.capability + 2, &control.to_le_bytes());
        }
    }

    /// Whether MSI-X is switched on.
    #[must_use]
    pub fn messages_enabled(&self) -> bool {
        self.msix.as_ref().is_some_and(|msix| msix.enabled.get())
    }

    /// Whether a message was raised while masked.
    #[must_use]
    pub fn is_pending(&self, message: u16) -> bool {
        self.msix
            .as_ref()
            .is_some_and(|msix| msix.is_pending(message))
    }

    /// The device raises a message.
    pub fn raise(&self, message: u16) {
        if let Some(msix) = &self.msix
            && msix.enabled.get()
            && !self.unplugged.get()
        {
            msix.request(message);
            self.deliver();
        }
    }

    /// Leads the interrupt line to a vector, or nowhere.
    pub(crate) fn route_line(&self, vector: Option<u32>) {
        self.line.set(vector);
    }

    /// The device asserts its interrupt line, or no longer. The line is level-triggered: it interrupts as long as it is
    /// asserted, which whoever serves the interrupt sees with [`Self::deliver_line`].
    pub fn set_line(&self, asserted: bool) {
        self.asserted.set(asserted);
        self.deliver_line();
    }

    /// Requests the line's interrupt if it is asserted. Whether it is.
    pub(crate) fn deliver_line(&self) -> bool {
        let asserted = self.asserted.get()
            && !self.unplugged.get()
            && !self.messages_enabled()
            && self.config.word(COMMAND) & INTX_DISABLE == 0;
        if asserted
            && let (Some(vector), Some(machine)) =
                (self.line.get(), self.machine.borrow().upgrade())
        {
            machine.raise_interrupt(vector);
        }
        asserted
    }

    fn deliver(&self) {
        let (Some(msix), Some(machine)) = (&self.msix, self.machine.borrow().upgrade()) else {
            return;
        };
        while let Some((address, data)) = msix.take_deliverable() {
            machine.msi_write(address, data);
        }
    }

    /// Whether an access may reach the device; accuses if not.
    fn decodes(&self, bar: u8, offset: u64, what: &str) -> bool {
        if self.unplugged.get() {
            return false;
        }
        if self.config.word(COMMAND) & MEMORY == 0 {
            verifier::violation(
                rules::NOT_DECODING,
                format!("{what} of BAR {bar} offset {offset:#x} of a device that is not started"),
            );
            return false;
        }
        let Some(state) = self.bars.iter().find(|state| state.bar.index == bar) else {
            return false;
        };
        if let (Some(machine), Some(mapping)) =
            (self.machine.borrow().upgrade(), state.mapping.get())
        {
            let address = mapping.base().as_ptr() as usize + offset as usize;
            if !machine.io_space.is_mapped(address) {
                verifier::violation(
                    rules::NOT_MAPPED,
                    format!("{what} of BAR {bar} offset {offset:#x}, which is not mapped"),
                );
            }
        }
        true
    }

    fn read_bar(&self, bar: u8, offset: u64, width: u8) -> u64 {
        if !self.decodes(bar, offset, "load") {
            return u64::MAX;
        }
        match &self.msix {
            Some(msix) if msix.bar == bar => {
                let low = u64::from(msix.read(offset & !3)) >> (8 * (offset & 3));
                if width == 8 {
                    low | u64::from(msix.read((offset & !3) + 4)) << 32
                } else {
                    low
                }
            }
            _ => {
                let device = self.device.borrow().clone();
                device.map_or(u64::MAX, |device| device.read(bar, offset, width))
            }
        }
    }

    fn write_bar(&self, bar: u8, offset: u64, width: u8, value: u64) {
        if !self.decodes(bar, offset, "store") {
            return;
        }
        match &self.msix {
            Some(msix) if msix.bar == bar => {
                verifier::violation(
                    rules::MSIX_TABLE,
                    format!(
                        "the driver stores {value:#x} at offset {offset:#x} of the MSI-X table"
                    ),
                );
                msix.write(offset & !3, value as u32);
                if width == 8 {
                    msix.write((offset & !3) + 4, (value >> 32) as u32);
                }
                self.deliver();
            }
            _ => {
                let device = self.device.borrow().clone();
                if let Some(device) = device {
                    device.write(bar, offset, width, value);
                }
            }
        }
    }
}

impl Registers for BarRegisters {
    fn read(&self, offset: u64, width: u8) -> u64 {
        let _kernel = KernelMode::enter();
        self.function.upgrade().map_or(u64::MAX, |function| {
            function.read_bar(self.bar, offset, width)
        })
    }

    fn write(&self, offset: u64, width: u8, value: u64) {
        let _kernel = KernelMode::enter();
        if let Some(function) = self.function.upgrade() {
            function.write_bar(self.bar, offset, width, value);
        }
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function")
            .field("location", &self.location.get())
            .field("resources", &self.resources())
            .finish_non_exhaustive()
    }
}
