//! A machine: processors, memory, and what its kernel keeps.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::rc::{Rc, Weak};

use super::Core;
use super::context::{self, Entered};
use super::driver::Drivers;
use super::extensions::Extensions;
use super::faults::Faults;
use super::processor::{Interrupts, Processor};
use super::timer::Timers;
use crate::image::guard;
use crate::memory::{IoSpace, Pool, Ram};

/// Names a machine of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineId(pub(crate) u32);

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    /// What reports call it.
    pub name: String,
    /// Address and prefix length of its TCP/IP.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// Address and prefix length of its TCP/IP.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// Address of its NIC; None makes one from the machine's number.
    pub mac: Option<[u8; 6]>,
    /// How many processors, at least 1. More if `NTSIM_PROCESSORS` says so.
    pub processors: u32,
    /// Bytes of physical memory, a multiple of 1 MiB.
    pub ram: usize,
    /// Timers expire at multiples of this many nanoseconds, as they do at clock ticks on Windows (15.625 ms); 0, the default,
    /// for exactly when asked. `NTSIM_TIMER_TICK` counts more.
    pub timer_tick: u64,
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            name: String::new(),
            ipv4: None,
            ipv6: None,
            mac: None,
            processors: 1,
            ram: 64 << 20,
            timer_tick: 0,
        }
    }
}

impl MachineConfig {
    /// A machine of that name, else as by default.
    pub fn named(name: impl Into<String>) -> Self {
        MachineConfig {
            name: name.into(),
            ..Self::default()
        }
    }

    /// With this IPv4 address and prefix length.
    #[must_use]
    pub fn ipv4(mut self, address: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4 = Some((address, prefix));
        self
    }

    /// With this IPv6 address and prefix length.
    #[must_use]
    pub fn ipv6(mut self, address: Ipv6Addr, prefix: u8) -> Self {
        self.ipv6 = Some((address, prefix));
        self
    }

    /// With this Ethernet address.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = Some(mac);
        self
    }

    /// With this many processors.
    #[must_use]
    pub fn processors(mut self, processors: u32) -> Self {
        self.processors = processors;
        self
    }

    /// With timers that expire at multiples of so many nanoseconds.
    #[must_use]
    pub fn timer_tick(mut self, nanoseconds: u64) -> Self {
        self.timer_tick = nanoseconds;
        self
    }

    /// With this many bytes of memory.
    #[must_use]
    pub fn ram(mut self, bytes: usize) -> Self {
        self.ram = bytes;
        self
    }
}

/// One entry of a machine's event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLogEntry {
    /// When, in nanoseconds of the world's clock.
    pub time: u64,
    /// The message's code (an NTSTATUS from the driver's message file).
    pub code: u32,
    /// Its insertion strings.
    pub strings: Vec<String>,
    /// Its dump data.
    pub data: Vec<u8>,
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) id: MachineId,
    pub(crate) name: String,
    pub(crate) config: MachineConfig,
    pub(crate) processors: Box<[Processor]>,
    pub(crate) interrupts: Interrupts,
    pub(crate) timers: Timers,
    pub(crate) ram: Ram,
    pub(crate) pool: Pool,
    pub(crate) faults: Faults,
    pub(crate) io_space: IoSpace,
    pub(crate) drivers: Drivers,
    pub(crate) event_log: RefCell<Vec<EventLogEntry>>,
    /// What control flow guard allows in its images.
    pub(crate) guard: guard::Tables,
    /// Address of its NIC.
    pub(crate) mac: Cell<[u8; 6]>,
    /// What other parts of the simulator keep per machine.
    pub(crate) extensions: Extensions,
    pub(crate) core: Weak<Core>,
}

impl Machine {
    pub(crate) fn new(core: &Rc<Core>, id: MachineId, mut config: MachineConfig) -> Rc<Machine> {
        assert!(config.processors > 0, "a machine needs a processor");
        config.processors = config.processors.max(core.processors.unwrap_or(1));
        config.timer_tick = core.timer_tick.unwrap_or(config.timer_tick);
        if config.name.is_empty() {
            config.name = format!("machine {}", id.0);
        }
        let ram = Ram::new(id.0, config.ram, &core.rng.fork());
        let number = id.0.to_be_bytes();
        let mac = config
            .mac
            .unwrap_or([0x02, 0x15, number[0], number[1], number[2], number[3]]);
        let machine = Rc::new(Machine {
            id,
            name: config.name.clone(),
            processors: (0..config.processors).map(Processor::new).collect(),
            interrupts: Interrupts::default(),
            timers: Timers::default(),
            pool: Pool::new(core.verify),
            faults: Faults::new(core.faults.armed()),
            io_space: IoSpace::default(),
            drivers: Drivers::default(),
            event_log: RefCell::default(),
            guard: guard::Tables::default(),
            mac: Cell::new(mac),
            extensions: Extensions::default(),
            core: Rc::downgrade(core),
            ram,
            config,
        });
        machine.ram.publish(&machine);
        machine
    }

    /// Makes one of its processors the current one until the guard is dropped.
    pub(crate) fn enter(self: &Rc<Self>, processor: u32) -> Entered {
        context::enter(self, processor)
    }

    /// The value of type `T` that some part of the simulator keeps for this machine.
    pub(crate) fn ext<T: Default + 'static>(&self) -> Rc<T> {
        self.extensions.get()
    }

    /// Has the world's loop look at a processor.
    pub(crate) fn list_processor(self: &Rc<Self>, processor: u32) {
        if self.processors[processor as usize].listed.replace(true) {
            return;
        }
        if let Some(core) = self.core.upgrade() {
            core.runnable
                .borrow_mut()
                .push_back((Rc::clone(self), processor));
        }
    }

    /// Checks the guards of what its pool has given out, and what was freed.
    pub(crate) fn check_pool(self: &Rc<Self>) {
        let _entered = self.enter(0);
        self.pool.check_all(&self.ram);
    }

    /// Writes into the machine's event log.
    pub(crate) fn log_event(&self, code: u32, strings: Vec<String>, data: Vec<u8>) {
        let time = self.core.upgrade().map_or(0, |core| core.now());
        self.event_log.borrow_mut().push(EventLogEntry {
            time,
            code,
            strings,
            data,
        });
    }

    /// Forgets what holds references back to the machine.
    pub(crate) fn clear(&self) {
        self.interrupts.clear();
        self.extensions.clear();
        self.drivers.clear();
    }

    /// Gives its memory back to the system: nobody is left who could use it.
    pub(crate) fn release(&self) {
        // Rust's own library may have allocated while driver code ran (a test's captured output, for instance) and
        // outlive the world.
        if self.pool.holds_heap() {
            self.ram.keep();
        }
        self.ram.release();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.release();
    }
}
