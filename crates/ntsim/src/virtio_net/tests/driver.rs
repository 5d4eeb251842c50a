//! A small driver of the device, as a driver's author would write it from the specification: everything through
//! volatile accesses to the BAR and rings in DMA memory.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{Ordering, fence};

use crate::pci::Function;
use crate::verifier::Violation;
use crate::virtio_net::{Nic, NicConfig};
use crate::wire::Switch;
use crate::world::machine::{Machine, MachineConfig, MachineId};
use crate::world::processor;
use crate::{World, memory::PAGE};

pub(super) const VERSION_1: u64 = 1 << 32;
pub(super) const ACCESS_PLATFORM: u64 = 1 << 33;
pub(super) const MAC: u64 = 1 << 5;
pub(super) const STATUS: u64 = 1 << 16;
pub(super) const MTU: u64 = 1 << 3;
pub(super) const EVENT_IDX: u64 = 1 << 29;
pub(super) const INDIRECT: u64 = 1 << 28;
pub(super) const MERGEABLE: u64 = 1 << 15;

pub(super) const CSUM: u64 = 1 << 0;
pub(super) const GUEST_CSUM: u64 = 1 << 1;
pub(super) const CTRL_VQ: u64 = 1 << 17;
pub(super) const CTRL_RX: u64 = 1 << 18;
pub(super) const CTRL_RX_EXTRA: u64 = 1 << 20;
pub(super) const ANNOUNCE: u64 = 1 << 21;
pub(super) const MQ: u64 = 1 << 22;
pub(super) const CTRL_MAC_ADDR: u64 = 1 << 23;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT_TABLE: u16 = 4;

/// DMA memory: kernel address and logical address.
#[derive(Clone, Copy)]
pub(super) struct Dma {
    pub(super) address: usize,
    pub(super) logical: u64,
}

impl Dma {
    pub(super) fn new(machine: &Machine, bytes: usize) -> Dma {
        let pages = bytes.div_ceil(PAGE);
        let (address, logical) = machine.ram.alloc_contiguous(pages as u32).unwrap();
        machine.ram.dma_map(logical, pages * PAGE, true);
        let dma = Dma { address, logical };
        for at in 0..pages * PAGE {
            dma.put(at, 0u8);
        }
        dma
    }

    pub(super) fn put<T>(self, at: usize, value: T) {
        // SAFETY: tests stay inside what they allocated.
        unsafe {
            (self.address as *mut u8)
                .add(at)
                .cast::<T>()
                .write_unaligned(value)
        }
    }

    pub(super) fn get<T: Copy>(self, at: usize) -> T {
        // SAFETY: as in `put`.
        unsafe {
            (self.address as *const u8)
                .add(at)
                .cast::<T>()
                .read_unaligned()
        }
    }

    pub(super) fn part(self, at: usize) -> Dma {
        Dma {
            address: self.address + at,
            logical: self.logical + at as u64,
        }
    }
}

/// A piece of memory to describe to the device.
pub(super) type Piece = (u64, u32);

/// A split virtqueue, driver side.
pub(super) struct Ring {
    pub(super) index: u16,
    pub(super) size: u16,
    pub(super) descriptors: Dma,
    pub(super) available: Dma,
    pub(super) used: Dma,
    pub(super) event_idx: bool,
    notify: *mut u16,
    free: VecDeque<u16>,
    /// Descriptors of each chain in use, by head.
    chains: Vec<Vec<u16>>,
    pub(super) next: u16,
    last_used: u16,
    /// Available index when the device was last considered for a notification.
    told: u16,
}

impl Ring {
    pub(super) fn write_descriptor(
        &self,
        table: Dma,
        slot: u16,
        piece: Piece,
        flags: u16,
        next: u16,
    ) {
        let at = 16 * usize::from(slot);
        table.put(at, piece.0);
        table.put(at + 8, piece.1);
        table.put(at + 12, flags);
        table.put(at + 14, next);
    }

    /// Describes a chain; None if there are not enough descriptors. Returns its head.
    pub(super) fn add(&mut self, pieces: &[Piece], writable: bool) -> Option<u16> {
        if self.free.len() < pieces.len() {
            return None;
        }
        let slots: Vec<u16> = self.free.drain(..pieces.len()).collect();
        let write = if writable { WRITE } else { 0 };
        for (i, piece) in pieces.iter().enumerate() {
            let (flags, next) = match slots.get(i + 1) {
                Some(next) => (write | NEXT, *next),
                None => (write, 0),
            };
            self.write_descriptor(self.descriptors, slots[i], *piece, flags, next);
        }
        let head = slots[0];
        self.chains[usize::from(head)] = slots;
        self.publish(head);
        Some(head)
    }

    /// The same through a table of its own.
    pub(super) fn add_indirect(
        &mut self,
        table: Dma,
        pieces: &[Piece],
        writable: bool,
    ) -> Option<u16> {
        let head = self.free.pop_front()?;
        let write = if writable { WRITE } else { 0 };
        for (i, piece) in pieces.iter().enumerate() {
            let last = i + 1 == pieces.len();
            let flags = if last { write } else { write | NEXT };
            self.write_descriptor(table, i as u16, *piece, flags, i as u16 + 1);
        }
        let whole = (table.logical, 16 * pieces.len() as u32);
        self.write_descriptor(self.descriptors, head, whole, INDIRECT_TABLE, 0);
        self.chains[usize::from(head)] = vec![head];
        self.publish(head);
        Some(head)
    }

    /// Makes a head available.
    pub(super) fn publish(&mut self, head: u16) {
        self.available
            .put(4 + 2 * usize::from(self.next % self.size), head);
        self.next = self.next.wrapping_add(1);
        fence(Ordering::Release);
        self.available.put(2, self.next);
    }

    /// Notifies the device if it wants that. True if it did.
    pub(super) fn kick(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event: u16 = self.used.get(4 + 8 * usize::from(self.size));
            self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(self.told)
        } else {
            self.used.get::<u16>(0) & 1 == 0
        };
        self.told = self.next;
        if wanted {
            // SAFETY: the queue's notification register.
            unsafe { self.notify.write_volatile(self.index) };
        }
        wanted
    }

    /// Takes what the device has used: head and length.
    pub(super) fn reap(&mut self) -> Option<(u16, u32)> {
        if self.used.get::<u16>(2) == self.last_used {
            return None;
        }
        fence(Ordering::Acquire);
        let at = 4 + 8 * usize::from(self.last_used % self.size);
        let (head, length): (u32, u32) = (self.used.get(at), self.used.get(at + 4));
        self.last_used = self.last_used.wrapping_add(1);
        let slots = std::mem::take(&mut self.chains[head as usize]);
        assert!(
            !slots.is_empty(),
            "the device used a chain it was not given"
        );
        self.free.extend(slots);
        Some((head as u16, length))
    }

    /// Wants an interrupt for the next chain used; or none.
    pub(super) fn want_interrupts(&mut self, wanted: bool) {
        if self.event_idx {
            let event = if wanted {
                self.last_used
            } else {
                self.last_used.wrapping_sub(1)
            };
            self.available.put(4 + 2 * usize::from(self.size), event);
        } else {
            self.available.put(0, u16::from(!wanted));
        }
        fence(Ordering::SeqCst);
    }
}

/// Where the structures are mapped.
#[derive(Clone, Copy)]
pub(super) struct Registers {
    pub(super) common: *mut u8,
    pub(super) isr: *mut u8,
    pub(super) config: *mut u8,
    pub(super) notify: *mut u8,
    pub(super) multiplier: u32,
}

impl Registers {
    pub(super) fn get<T: Copy>(base: *mut u8, at: usize) -> T {
        // SAFETY: registers of the device, or of nobody, which the simulator reports.
        unsafe { base.add(at).cast::<T>().read_volatile() }
    }

    pub(super) fn put<T>(base: *mut u8, at: usize, value: T) {
        // SAFETY: as in `get`.
        unsafe { base.add(at).cast::<T>().write_volatile(value) }
    }
}

/// Most messages a device has here.
const MESSAGES: usize = 20;

/// What receives interrupts.
#[derive(Clone, Default)]
pub(super) struct Interrupts(Rc<[Cell<u32>; MESSAGES]>);

impl Interrupts {
    /// How often each of the first messages has come since the last call.
    pub(super) fn taken(&self) -> [u32; 3] {
        [0, 1, 2].map(|i| self.0[i].take())
    }

    /// The messages that have come since the last call.
    pub(super) fn came(&self) -> Vec<usize> {
        (0..MESSAGES).filter(|&i| self.0[i].take() > 0).collect()
    }
}

/// A machine with the device, and the driver's view of it.
pub(super) struct Host {
    pub(super) id: MachineId,
    pub(super) machine: Rc<Machine>,
    pub(super) nic: Rc<Nic>,
    pub(super) function: Rc<Function>,
    pub(super) registers: Registers,
    pub(super) interrupts: Interrupts,
    pub(super) mac: [u8; 6],
}

impl Host {
    /// A machine with a device on the switch, started by the bus driver.
    pub(super) fn new(world: &mut World, switch: &Switch, config: NicConfig) -> Host {
        let id = world.add_machine(MachineConfig::named("host"));
        let nic = world.attach_nic(id, switch, config);
        let machine = world.machine(id);
        let function = nic.function();
        let interrupts = Interrupts::default();
        for message in 0..function.resources().messages {
            let counters = interrupts.clone();
            let count = move || {
                let counter = &counters.0[usize::from(message)];
                counter.set(counter.get() + 1);
            };
            let vector = machine
                .interrupts
                .connect(processor::DEVICE, 0, Rc::new(count));
            let (address, data) = machine.interrupts.message(vector);
            function.program_message(message, address, data);
        }
        function.enable_messages(true);
        function.start();
        let registers = find_registers(&machine, &function);
        Host {
            id,
            mac: nic.mac(),
            machine,
            nic,
            function,
            registers,
            interrupts,
        }
    }

    pub(super) fn common<T: Copy>(&self, at: usize) -> T {
        Registers::get(self.registers.common, at)
    }

    pub(super) fn set_common<T>(&self, at: usize, value: T) {
        Registers::put(self.registers.common, at, value);
    }

    pub(super) fn status(&self) -> u8 {
        self.common(0x14)
    }

    pub(super) fn set_status(&self, status: u8) {
        self.set_common(0x14, status);
    }

    pub(super) fn offered(&self) -> u64 {
        self.set_common(0, 0_u32);
        let low: u32 = self.common(4);
        self.set_common(0, 1_u32);
        let high: u32 = self.common(4);
        u64::from(high) << 32 | u64::from(low)
    }

    pub(super) fn accept(&self, features: u64) {
        self.set_common(8, 0_u32);
        self.set_common(0xc, features as u32);
        self.set_common(8, 1_u32);
        self.set_common(0xc, (features >> 32) as u32);
    }

    /// Sets up a queue with its interrupt message.
    pub(super) fn set_up_queue(
        &self,
        index: u16,
        size: u16,
        message: u16,
        event_idx: bool,
    ) -> Ring {
        self.set_common(0x16, index);
        self.set_common(0x18, size);
        self.set_common(0x1a, message);
        assert_eq!(self.common::<u16>(0x1a), message);
        let memory = Dma::new(
            &self.machine,
            16 * usize::from(size) + 2 * PAGE + 8 * usize::from(size),
        );
        let available = memory.part(16 * usize::from(size));
        let used = memory.part((18 * usize::from(size) + 6).next_multiple_of(4));
        for (part, address) in [(0, memory), (1, available), (2, used)] {
            self.set_common(0x20 + 8 * part, address.logical as u32);
            self.set_common(0x24 + 8 * part, (address.logical >> 32) as u32);
        }
        let offset: u16 = self.common(0x1e);
        let ring = Ring {
            index,
            size,
            descriptors: memory,
            available,
            used,
            event_idx,
            notify: self
                .registers
                .notify
                .wrapping_add(usize::from(offset) * self.registers.multiplier as usize)
                .cast(),
            free: (0..size).collect(),
            chains: vec![Vec::new(); usize::from(size)],
            next: 0,
            last_used: 0,
            told: 0,
        };
        self.set_common(0x1c, 1_u16);
        ring
    }

    /// The whole initialisation sequence of section 3.1.1, with one pair of queues.
    pub(super) fn bring_up(&self, features: u64) -> Driver {
        self.bring_up_pairs(features, 1).remove(0)
    }

    /// The same with so many pairs of queues, a driver for each. Queue N has message N + 1, if the device has so many.
    pub(super) fn bring_up_pairs(&self, features: u64, pairs: u16) -> Vec<Driver> {
        self.begin(features);
        let drivers = (0..pairs).map(|pair| self.pair(pair)).collect();
        self.set_status(15);
        drivers
    }

    /// The same with the control queue, which is number `control`.
    pub(super) fn bring_up_controlled(
        &self,
        features: u64,
        pairs: u16,
        control: u16,
    ) -> (Vec<Driver>, Control) {
        self.begin(features);
        let drivers = (0..pairs).map(|pair| self.pair(pair)).collect();
        let event_idx = self.nic.driver_features() & EVENT_IDX != 0;
        let ring = self.set_up_queue(control, 16, control + 1, event_idx);
        self.set_status(15);
        let memory = Dma::new(&self.machine, 2 * PAGE);
        (drivers, Control { ring, memory })
    }

    /// Up to the features.
    fn begin(&self, features: u64) {
        self.set_status(0);
        assert_eq!(self.status(), 0);
        self.set_status(1);
        self.set_status(3);
        self.accept(features & self.offered());
        self.set_status(11);
        assert_eq!(self.status(), 11, "the device accepts the features");
        self.set_common(0x10, 0_u16);
    }

    /// Sets a pair of queues up.
    fn pair(&self, pair: u16) -> Driver {
        let features = self.nic.driver_features();
        let event_idx = features & EVENT_IDX != 0;
        let size = self.nic.config().queue_size;
        let receive = self.set_up_queue(2 * pair, size, 2 * pair + 1, event_idx);
        let transmit = self.set_up_queue(2 * pair + 1, size, 2 * pair + 2, event_idx);
        Driver {
            machine: Rc::clone(&self.machine),
            mac: self.mac,
            receive,
            transmit,
            buffers: vec![None; usize::from(size)],
            sending: vec![None; usize::from(size)],
            spare: Vec::new(),
            buffer_size: 0,
            indirect: features & INDIRECT != 0,
            checksums: features & GUEST_CSUM != 0,
            header: [0; 12],
            flags: 0,
        }
    }
}

/// The control queue of a running device.
pub(super) struct Control {
    pub(super) ring: Ring,
    pub(super) memory: Dma,
}

impl Control {
    /// Sends a command and waits for the answer.
    pub(super) fn command(&mut self, world: &mut World, command: &[u8]) -> u8 {
        let answer = self.memory.part(PAGE);
        for (at, byte) in command.iter().enumerate() {
            self.memory.put(at, *byte);
        }
        answer.put(0, 0xee_u8);
        let head = self.begin(command.len());
        self.ring.kick();
        world.run_until_idle();
        assert_eq!(self.ring.reap(), Some((head, 1)));
        answer.get(0)
    }

    /// Makes a command of so many bytes available, and room for its answer: the head of the chain.
    fn begin(&mut self, length: usize) -> u16 {
        let slots: Vec<u16> = self.ring.free.drain(..2).collect();
        let request = (self.memory.logical, length as u32);
        let answer = (self.memory.logical + PAGE as u64, 1);
        let table = self.ring.descriptors;
        self.ring
            .write_descriptor(table, slots[0], request, NEXT, slots[1]);
        self.ring
            .write_descriptor(table, slots[1], answer, WRITE, 0);
        let head = slots[0];
        self.ring.chains[usize::from(head)] = slots;
        self.ring.publish(head);
        head
    }

    /// Puts so many pairs of queues in use.
    pub(super) fn use_pairs(&mut self, world: &mut World, pairs: u16) -> u8 {
        let [low, high] = pairs.to_le_bytes();
        self.command(world, &[4, 0, low, high])
    }
}

/// The driver of a running device.
pub(super) struct Driver {
    machine: Rc<Machine>,
    mac: [u8; 6],
    pub(super) receive: Ring,
    pub(super) transmit: Ring,
    /// Receive buffers by head.
    buffers: Vec<Option<Dma>>,
    /// Memory of frames being sent, by head.
    sending: Vec<Option<Dma>>,
    spare: Vec<Dma>,
    buffer_size: usize,
    indirect: bool,
    /// The device may say that it has looked at checksums.
    checksums: bool,
    /// What goes before the frames sent.
    pub(super) header: [u8; 12],
    /// Flags of the last frame received.
    pub(super) flags: u8,
}

impl Driver {
    /// Gives the device receive buffers of a size.
    pub(super) fn add_buffers(&mut self, count: usize, size: usize) {
        self.buffer_size = size;
        for _ in 0..count {
            let buffer = Dma::new(&self.machine, size);
            self.add_buffer(buffer);
        }
        self.receive.kick();
    }

    fn add_buffer(&mut self, buffer: Dma) {
        let head = self
            .receive
            .add(&[(buffer.logical, self.buffer_size as u32)], true)
            .expect("room in the receive ring");
        self.buffers[usize::from(head)] = Some(buffer);
    }

    /// Gives a buffer back to the device.
    pub(super) fn give_back(&mut self, head: u16) {
        if let Some(buffer) = self.buffers[usize::from(head)].take() {
            self.add_buffer(buffer);
        }
    }

    /// A frame to somebody, with content after the Ethernet header.
    pub(super) fn frame(&self, to: [u8; 6], content: &[u8]) -> Vec<u8> {
        [&to[..], &self.mac, &[0x88, 0xb5], content].concat()
    }

    /// Queues a frame in pieces of these lengths (the header is a piece of its own, the rest the last one) without
    /// notifying. False if the ring is full.
    pub(super) fn queue(&mut self, frame: &[u8], lengths: &[usize]) -> bool {
        self.reap_sent();
        let memory = self
            .spare
            .pop()
            .unwrap_or_else(|| Dma::new(&self.machine, 3 * PAGE));
        memory.put(0, self.header);
        for (at, byte) in frame.iter().enumerate() {
            memory.put(12 + at, *byte);
        }
        let mut pieces = vec![(memory.logical, 12)];
        let mut at = 0;
        for length in lengths.iter().copied().chain([frame.len()]) {
            let length = length.min(frame.len() - at);
            if length > 0 {
                pieces.push((memory.logical + 12 + at as u64, length as u32));
                at += length;
            }
        }
        let head = if self.indirect {
            self.transmit
                .add_indirect(memory.part(2 * PAGE), &pieces, false)
        } else {
            self.transmit.add(&pieces, false)
        };
        match head {
            Some(head) => self.sending[usize::from(head)] = Some(memory),
            None => self.spare.push(memory),
        }
        head.is_some()
    }

    /// Queues a frame and notifies the device if it wants that.
    pub(super) fn send(&mut self, to: [u8; 6], content: &[u8]) {
        let frame = self.frame(to, content);
        assert!(self.queue(&frame, &[14]), "room in the transmit ring");
        self.transmit.kick();
    }

    /// Takes back the memory of sent frames. Returns how many there were.
    pub(super) fn reap_sent(&mut self) -> usize {
        let mut count = 0;
        while let Some((head, _)) = self.transmit.reap() {
            self.spare.extend(self.sending[usize::from(head)].take());
            count += 1;
        }
        count
    }

    /// Takes a received frame: content after the Ethernet header. Its buffers go back to the device.
    pub(super) fn take(&mut self) -> Option<Vec<u8>> {
        let (head, mut length) = self.receive.reap()?;
        let mut buffer = self.buffers[usize::from(head)].take().unwrap();
        let mut buffers: u16 = buffer.get(10);
        let mut bytes = Vec::new();
        loop {
            assert!(length as usize <= self.buffer_size);
            bytes.extend((0..length as usize).map(|at| buffer.get::<u8>(at)));
            self.add_buffer(buffer);
            buffers -= 1;
            if buffers == 0 {
                break;
            }
            let (head, more) = self.receive.reap().unwrap();
            buffer = self.buffers[usize::from(head)].take().unwrap();
            length = more;
        }
        self.receive.kick();
        self.flags = bytes[0];
        assert!(self.checksums || self.flags == 0, "no offloads");
        assert_eq!(bytes[1..10], [0; 9], "no segments");
        Some(bytes[26..].to_vec())
    }

    /// Everything received so far.
    pub(super) fn drain(&mut self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.take()).collect()
    }
}

/// Walks the capabilities and maps the BAR, as a driver does.
pub(super) fn find_registers(machine: &Machine, function: &Function) -> Registers {
    let read = |at: usize| -> u32 {
        let mut bytes = [0; 4];
        function.read_config(at, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let resources = function.resources();
    let mut found = [std::ptr::null_mut(); 5];
    let mut multiplier = 0;
    let mut mapped: Vec<(u8, usize)> = Vec::new();
    let mut at = read(0x34) as usize & 0xff;
    while at != 0 {
        let head = read(at);
        let (id, next, kind) = (
            head as u8,
            (head >> 8) as usize & 0xff,
            (head >> 24) as usize,
        );
        if id == 9 && (1..=4).contains(&kind) {
            let bar = read(at + 4) as u8;
            let offset = read(at + 8) as usize;
            let base = match mapped.iter().find(|(index, _)| *index == bar) {
                Some((_, base)) => *base,
                None => {
                    // The address that the BAR says is the one of the resource list.
                    let memory = resources.memory.iter().find(|m| m.bar == bar).unwrap();
                    let low = read(0x10 + 4 * usize::from(bar));
                    let high = read(0x14 + 4 * usize::from(bar));
                    assert_eq!(
                        memory.physical,
                        u64::from(high) << 32 | u64::from(low & !15)
                    );
                    let base = machine
                        .io_space
                        .map(memory.physical, memory.length as usize)
                        .unwrap();
                    mapped.push((bar, base));
                    base
                }
            };
            found[kind] = (base + offset) as *mut u8;
            if kind == 2 {
                multiplier = read(at + 16);
            }
        }
        at = next;
    }
    Registers {
        common: found[1],
        notify: found[2],
        isr: found[3],
        config: found[4],
        multiplier,
    }
}

/// The rules of these violations.
pub(super) fn rules(violations: &[Violation]) -> Vec<&'static str> {
    violations.iter().map(|violation| violation.rule).collect()
}
