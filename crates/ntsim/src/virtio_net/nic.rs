//! The device as a whole: what it is made of, its link, its interrupts.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::control::Filter;
use super::layout::{self, feature};
use super::memory::DmaMemory;
use super::queue::Queue;
use super::receive::Placing;
use super::rules;
use super::sabotage::Sulks;
use super::steering::Steering;
use super::transmit::Latency;
use crate::World;
use crate::pci::{Bar, Capability, Function, Identity};
use crate::verifier;
use crate::wire::{Endpoint, Frame, Port, PortId, Switch};
use crate::world::device::Device as Polled;
use crate::world::machine::{Machine, MachineId};

/// Most pairs of queues.
const MOST_PAIRS: u16 = 8;
/// More frames than this are never kept for the driver, whatever the configuration says.
pub(super) const BACKLOG_LIMIT: usize = 1 << 16;

/// What a network device is like.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// What recordings call its port; empty for the machine's name.
    pub name: String,
    /// Its address; None for the machine's.
    pub mac: Option<[u8; 6]>,
    /// Payload bytes of a frame: what `MTU` announces, and the most that is sent or received.
    pub mtu: u16,
    /// Descriptors of each queue, a power of two.
    pub queue_size: u16,
    /// MSI-X messages; 0 for a device that only has an interrupt line.
    pub messages: u16,
    /// Looks at its rings by itself and tells drivers not to notify it.
    pub busy_poll: bool,
    /// Offers `VIRTIO_F_EVENT_IDX`.
    pub event_idx: bool,
    /// Offers `VIRTIO_F_INDIRECT_DESC`.
    pub indirect: bool,
    /// Offers `VIRTIO_NET_F_MRG_RXBUF`.
    pub mergeable: bool,
    /// Offers `VIRTIO_NET_F_CSUM` and `VIRTIO_NET_F_GUEST_CSUM`.
    pub checksums: bool,
    /// Offers `VIRTIO_NET_F_CTRL_VQ`, and with it to set modes and addresses to receive, and to ask drivers to announce themselves.
    pub control: bool,
    /// Pairs of queues, 1 to 8. With more than one it offers `VIRTIO_NET_F_MQ`, and a control queue for it.
    pub queue_pairs: u16,
    /// Frames kept while the driver has no receive buffers; those beyond are dropped, as hardware does with all.
    pub backlog: usize,
    /// Frames taken from the driver in one turn.
    pub transmit_batch: u16,
    /// A frame's memory is read that long after it was made available, and only then it counts as sent.
    pub transmit_latency: Duration,
    /// Megabits per second it claims.
    pub speed: u32,
}

impl Default for NicConfig {
    fn default() -> Self {
        NicConfig {
            name: String::new(),
            mac: None,
            mtu: 1500,
            queue_size: 1024,
            messages: 3,
            busy_poll: true,
            event_idx: true,
            indirect: true,
            mergeable: false,
            checksums: false,
            control: false,
            queue_pairs: 1,
            backlog: 1024,
            transmit_batch: 64,
            transmit_latency: Duration::ZERO,
            speed: 10_000,
        }
    }
}

/// What a device has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicCounters {
    /// Frames sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames received into the driver's buffers.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Frames not sent because the link was down.
    pub sent_link_down: u64,
    /// Frames dropped because the driver had no buffers for them.
    pub no_buffer: u64,
    /// Frames dropped because they were longer than the MTU allows or the buffer was.
    pub too_long: u64,
    /// Frames that the driver did not ask for: its receive filter dropped them.
    pub filtered: u64,
    /// Frames that came while no driver was running the device.
    pub not_running: u64,
    /// Notifications by the driver.
    pub notifications: u64,
    /// Interrupts raised.
    pub interrupts: u64,
    /// Loads from the network configuration.
    pub config_loads: u64,
}

/// What drivers have set.
pub(super) struct State {
    pub(super) status: u8,
    pub(super) device_feature_select: u32,
    pub(super) driver_feature_select: u32,
    pub(super) driver_features: u64,
    pub(super) config_vector: u16,
    pub(super) queue_select: u16,
    pub(super) generation: u8,
    pub(super) isr: u8,
    /// Receive and transmit queue of each pair, then the control queue, as far as the device has them.
    pub(super) queues: Vec<Queue>,
    /// Pairs in use.
    pub(super) pairs: usize,
    pub(super) steering: Steering,
    /// The address it has by default, or was given.
    pub(super) mac: [u8; 6],
    pub(super) filter: Filter,
    /// The driver is asked to announce itself.
    pub(super) announcing: bool,
}

impl State {
    pub(super) fn has(&self, feature: u64) -> bool {
        self.driver_features & feature != 0
    }

    /// Where the control queue is, if there is one with the features accepted (5.1.2).
    pub(super) fn control_queue(&self) -> Option<usize> {
        if !self.has(feature::CTRL_VQ) {
            return None;
        }
        Some(if self.has(feature::MQ) {
            self.queues.len() - 1
        } else {
            receive_queue(1)
        })
    }

    /// Whether there is such a queue with the features accepted.
    pub(super) fn exists(&self, index: usize) -> bool {
        match self.control_queue() {
            Some(control) => index <= control,
            None => index < receive_queue(1),
        }
    }

    /// A driver runs the device and it has not given up on it.
    pub(super) fn is_running(&self) -> bool {
        self.status & (layout::DRIVER_OK | layout::NEEDS_RESET | layout::FAILED)
            == layout::DRIVER_OK
    }
}

/// A network device in a machine.
pub struct Nic {
    pub(super) config: NicConfig,
    pub(super) mac: [u8; 6],
    pub(super) function: Rc<Function>,
    pub(super) machine: Weak<Machine>,
    /// Offset of the configuration access capability.
    pub(super) window: usize,
    pub(super) state: RefCell<State>,
    port: RefCell<Option<Port>>,
    link_wanted: Cell<bool>,
    /// What it does not do that it should.
    pub(super) sulks: Sulks,
    /// For each pair of queues.
    pub(super) backlog: RefCell<Vec<VecDeque<Frame>>>,
    pub(super) latency: RefCell<Vec<Latency>>,
    /// Frames taken in this turn, kept for its memory.
    pub(super) batch: RefCell<Vec<Frame>>,
    /// The buffers of the frame being received, likewise.
    pub(super) placing: RefCell<Placing>,
    pub(super) counters: RefCell<NicCounters>,
}

/// The queue of a pair that receives.
pub(super) const fn receive_queue(pair: usize) -> usize {
    2 * pair
}

/// The queue of a pair that sends.
pub(super) const fn transmit_queue(pair: usize) -> usize {
    2 * pair + 1
}

/// A capability that says where a structure lies.
fn structure(kind: u8, offset: u64, extra: &[u8]) -> Capability {
    let length = (16 + extra.len()) as u8;
    let mut body = vec![length, kind, layout::BAR, 0, 0, 0];
    body.extend_from_slice(&(offset as u32).to_le_bytes());
    body.extend_from_slice(&(layout::ROOM as u32).to_le_bytes());
    body.extend_from_slice(extra);
    Capability {
        id: layout::CAP_VENDOR,
        body,
        writable: Vec::new(),
    }
}

/// The PCI function of a device.
fn function(messages: u16) -> Rc<Function> {
    let identity = Identity {
        vendor: layout::VENDOR,
        device: layout::DEVICE,
        subsystem_vendor: layout::VENDOR,
        subsystem: layout::SUBSYSTEM,
        revision: 1,
        class: [2, 0, 0],
    };
    let bars = [
        Bar {
            index: layout::MSIX_BAR,
            length: 4096,
            wide: false,
            prefetchable: false,
        },
        Bar {
            index: layout::BAR,
            length: layout::BAR_LENGTH,
            wide: true,
            prefetchable: true,
        },
    ];
    let multiplier = layout::NOTIFY_MULTIPLIER.to_le_bytes();
    let window = Capability {
        // BAR, offset and length of an access, and its data, can be written.
        writable: [
            &[0, 0, 0xff, 0, 0, 0][..],
            &[0xff; 4],
            &[0xff; 4],
            &[0xff; 4],
        ]
        .concat(),
        ..structure(layout::CFG_PCI, 0, &[0; 4])
    };
    let capabilities = [
        structure(layout::CFG_COMMON, layout::COMMON_AT, &[]),
        structure(layout::CFG_ISR, layout::ISR_AT, &[]),
        structure(layout::CFG_DEVICE, layout::CONFIG_AT, &[]),
        structure(layout::CFG_NOTIFY, layout::NOTIFY_AT, &multiplier),
        window,
    ];
    Function::new(&identity, &bars, messages, layout::MSIX_BAR, &capabilities)
}

/// Offset of the capability of a kind.
pub(super) fn capability(function: &Function, kind: u8) -> usize {
    let config = function.config();
    let mut at = usize::from(config[0x34]);
    while at != 0 {
        if config[at] == layout::CAP_VENDOR && config[at + 3] == kind {
            return at;
        }
        at = usize::from(config[at + 1]);
    }
    unreachable!("the capability was added above")
}

impl Nic {
    fn new(machine: &Rc<Machine>, config: NicConfig) -> Rc<Nic> {
        assert!(
            (1..=MOST_PAIRS).contains(&config.queue_pairs),
            "a device has 1 to {MOST_PAIRS} pairs of queues"
        );
        let function = function(config.messages);
        let pairs = usize::from(config.queue_pairs);
        let control = config.control || pairs > 1;
        let queues = receive_queue(pairs) + usize::from(control);
        let mac = config.mac.unwrap_or_else(|| machine.mac.get());
        machine.mac.set(mac);
        Rc::new(Nic {
            mac,
            machine: Rc::downgrade(machine),
            window: capability(&function, layout::CFG_PCI),
            state: RefCell::new(State {
                status: 0,
                device_feature_select: 0,
                driver_feature_select: 0,
                driver_features: 0,
                config_vector: layout::NO_VECTOR,
                queue_select: 0,
                generation: 0,
                isr: 0,
                queues: (0..queues).map(|_| Queue::new(config.queue_size)).collect(),
                pairs: 1,
                steering: Steering::default(),
                mac,
                filter: Filter::default(),
                announcing: false,
            }),
            function,
            config,
            port: RefCell::default(),
            link_wanted: Cell::new(true),
            sulks: Sulks::default(),
            backlog: RefCell::new(vec![VecDeque::new(); pairs]),
            latency: RefCell::new(vec![Latency::default(); pairs]),
            batch: RefCell::default(),
            placing: RefCell::default(),
            counters: RefCell::default(),
        })
    }

    /// Its address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// What it was made like.
    #[must_use]
    pub fn config(&self) -> &NicConfig {
        &self.config
    }

    /// Its PCI function.
    #[must_use]
    pub fn function(&self) -> Rc<Function> {
        Rc::clone(&self.function)
    }

    /// Its port on the switch.
    ///
    /// # Panics
    /// Never: every device has one.
    #[must_use]
    pub fn port(&self) -> PortId {
        self.port
            .borrow()
            .as_ref()
            .expect("connected when it was made")
            .id()
    }

    #[cfg(test)]
    pub(super) fn port_handle(&self) -> Option<Port> {
        self.port.borrow().clone()
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> NicCounters {
        *self.counters.borrow()
    }

    /// Pulls the device out of the machine while it may be in use. [`World::surprise_remove`] tells Plug and Play.
    pub fn unplug(&self) {
        self.function.unplug();
    }

    /// Whether a driver has it running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state.borrow().is_running()
    }

    /// The features that the driver has accepted.
    #[must_use]
    pub fn driver_features(&self) -> u64 {
        self.state.borrow().driver_features
    }

    /// Brings the link up or down, as if on the device's side of the cable. The driver is told.
    pub fn set_link(&self, up: bool) {
        let was = self.is_link_up();
        self.link_wanted.set(up);
        if self.is_link_up() != was {
            self.link_has_changed();
        }
    }

    /// Whether the link is up: wanted, and the cable plugged in.
    #[must_use]
    pub fn is_link_up(&self) -> bool {
        self.link_wanted.get() && self.port.borrow().as_ref().is_some_and(Port::is_up)
    }

    fn link_has_changed(&self) {
        let mut state = self.state.borrow_mut();
        state.generation = state.generation.wrapping_add(1);
        if state.status & layout::DRIVER_OK != 0 && state.has(feature::STATUS) {
            self.interrupt_config(&mut state);
        }
    }

    pub(super) fn send(&self, frame: Frame) {
        let port = self.port.borrow().clone();
        if let Some(port) = port {
            port.send(frame);
        }
    }

    /// The features the device offers.
    pub(super) fn offered(&self) -> u64 {
        let mut offered = feature::VERSION_1
            | feature::ACCESS_PLATFORM
            | feature::MAC
            | feature::STATUS
            | feature::MTU
            | feature::SPEED_DUPLEX;
        if self.config.event_idx {
            offered |= feature::EVENT_IDX;
        }
        if self.config.indirect {
            offered |= feature::INDIRECT_DESC;
        }
        if self.config.mergeable {
            offered |= feature::MRG_RXBUF;
        }
        if self.config.checksums {
            offered |= feature::CSUM | feature::GUEST_CSUM;
        }
        if self.config.control {
            offered |= feature::CTRL_VQ
                | feature::CTRL_RX
                | feature::CTRL_RX_EXTRA
                | feature::CTRL_MAC_ADDR
                | feature::GUEST_ANNOUNCE;
        }
        if self.config.queue_pairs > 1 {
            offered |= feature::CTRL_VQ | feature::MQ;
        }
        offered & !self.sulks.lies.get().withheld
    }

    /// Pairs of queues.
    pub(super) fn pairs(&self) -> usize {
        self.config.queue_pairs.into()
    }

    /// Steers the frames that wait for buffers to the queues in use.
    pub(super) fn sort_backlog(&self, state: &State) {
        let mut backlog = self.backlog.borrow_mut();
        let waiting: Vec<Frame> = backlog.iter_mut().flat_map(std::mem::take).collect();
        for frame in waiting {
            backlog[state.steering.pair(&frame, state.pairs)].push_back(frame);
        }
    }

    /// The longest frame: with a VLAN tag.
    pub(super) fn longest_frame(&self) -> usize {
        usize::from(self.config.mtu) + 14 + 4
    }

    /// Accuses the machine's driver.
    pub(super) fn accuse(&self, rule: &'static str, text: impl Into<String>) {
        let machine = self.machine.upgrade();
        let _entered = machine
            .as_ref()
            .filter(|_| crate::world::context::try_machine().is_none())
            .map(|machine| machine.enter(0));
        verifier::violation(rule, text);
    }

    /// A queue cannot be used any more: accuses the driver and asks it for a reset.
    pub(super) fn broken(
        &self,
        state: &mut State,
        queue: usize,
        memory: &DmaMemory<'_>,
        flaw: &str,
    ) {
        let ended = memory.fault().and_then(|fault| memory.ended(fault));
        match (memory.fault(), ended.zip(self.machine.upgrade())) {
            (Some(fault), Some((ended, machine))) => self.accuse(
                rules::STALE,
                format!(
                    "queue {queue}: the device is told to {fault}, through a mapping that has ended: {} ({flaw})",
                    ended.told(&machine)
                ),
            ),
            (Some(fault), None) if memory.is_physical(fault) => self.accuse(
                rules::PHYSICAL,
                format!(
                    "queue {queue}: the device is told to {fault}, which is a physical address: devices have logical ones, of whoever maps the \
                     memory for them ({flaw})"
                ),
            ),
            (Some(fault), None) => self.accuse(
                verifier::rules::DMA_UNMAPPED,
                format!("queue {queue}: the device is told to {fault}, which is not mapped for that ({flaw})"),
            ),
            (None, _) => self.accuse(rules::RING, format!("queue {queue}: {flaw}")),
        }
        state.status |= layout::NEEDS_RESET;
        self.interrupt_config(state);
    }

    pub(super) fn interrupt_config(&self, state: &mut State) {
        self.interrupt(state, state.config_vector, layout::ISR_CONFIG);
    }

    pub(super) fn interrupt_queue(&self, state: &mut State, queue: usize) {
        self.interrupt(state, state.queues[queue].vector, layout::ISR_QUEUE);
    }

    fn interrupt(&self, state: &mut State, vector: u16, cause: u8) {
        if !self.function.messages_enabled() {
            if state.isr == 0 {
                self.counters.borrow_mut().interrupts += 1;
            }
            state.isr |= cause;
            self.function.set_line(true);
        } else if vector != layout::NO_VECTOR {
            self.counters.borrow_mut().interrupts += 1;
            self.function.raise(vector);
        }
    }

    /// Back to the state after power-on. Frames that wait are lost.
    pub(super) fn reset(&self, state: &mut State) {
        state.status = 0;
        state.device_feature_select = 0;
        state.driver_feature_select = 0;
        state.driver_features = 0;
        state.config_vector = layout::NO_VECTOR;
        state.queue_select = 0;
        state.isr = 0;
        self.function.set_line(false);
        for queue in &mut state.queues {
            queue.reset();
        }
        state.pairs = 1;
        state.steering = Steering::default();
        state.mac = self.mac;
        state.filter = Filter::default();
        state.announcing = false;
        self.latency.borrow_mut().fill(Latency::default());
        for backlog in &mut *self.backlog.borrow_mut() {
            let lost = std::mem::take(backlog);
            self.counters.borrow_mut().not_running += lost.len() as u64;
        }
    }
}

impl Endpoint for Nic {
    fn deliver(&self, frame: Frame) {
        let mut counters = self.counters.borrow_mut();
        let state = self.state.borrow();
        let mut backlog = self.backlog.borrow_mut();
        let backlog = &mut backlog[state.steering.pair(&frame, state.pairs)];
        if !state.is_running() || !self.link_wanted.get() {
            counters.not_running += 1;
        } else if frame.len() > self.longest_frame() {
            counters.too_long += 1;
        } else if state.has(feature::CTRL_RX)
            && !state.filter.passes(state.mac, frame.destination())
        {
            counters.filtered += 1;
        } else if backlog.len() >= BACKLOG_LIMIT {
            counters.no_buffer += 1;
        } else {
            backlog.push_back(frame);
        }
    }

    fn link_changed(&self, _up: bool) {
        if self.link_wanted.get() {
            self.link_has_changed();
        }
    }
}

impl Polled for Nic {
    fn take(&self) -> bool {
        self.reset_if_due();
        let obeyed = self.control();
        self.transmit() | obeyed
    }

    fn give(&self) -> bool {
        self.receive()
    }
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nic")
            .field("config", &self.config)
            .field("mac", &self.mac)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl World {
    /// Plugs a network device into a machine and connects it to the switch.
    ///
    /// # Panics
    /// If the device cannot be as `config` says.
    pub fn attach_nic(
        &mut self,
        machine: MachineId,
        switch: &Switch,
        config: NicConfig,
    ) -> Rc<Nic> {
        let machine = self.machine(machine);
        let name = if config.name.is_empty() {
            machine.name.clone()
        } else {
            config.name.clone()
        };
        let nic = Nic::new(&machine, config);
        let endpoint: Weak<Nic> = Rc::downgrade(&nic);
        *nic.port.borrow_mut() = Some(switch.connect(&name, endpoint));
        let function = nic.function();
        function.attach(&machine, Rc::clone(&nic) as _);
        self.core.add_device(Rc::clone(&nic) as _);
        nic
    }
}
