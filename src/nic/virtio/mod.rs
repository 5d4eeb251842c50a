//! A virtio network device (virtio 1.2, 5.1) on PCI.
//!
//! One receive and one transmit queue, no offloads. A frame takes one receive buffer: the device is not asked to merge buffers.
//!
//! # Locks
//! The lock of the receive queue and that of the transmit queue are never held together, and nothing is called with one held but the
//! queues themselves. Registers are accessed without locks: doorbells are single writes, the rest is used by the thread that starts the
//! device.
//!
//! # Failure
//! A device that breaks the rules, goes away or does not send any more ([`watch`]) is told to reset where that is noticed, at
//! DISPATCH_LEVEL; what it had is taken back once it has confirmed that. Most do at once; for those that do not, [`Nic::stop`] waits at
//! PASSIVE_LEVEL.
#![allow(
    unsafe_code,
    reason = "received frames are read in memory shared with the device"
)]

pub mod pci;
mod queue;
mod rx;
mod slots;
mod transport;
mod tx;
mod watch;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU8, Ordering};

use arrayvec::ArrayVec;
use nt::boxed::try_box;
use nt::dma::Adapter;
use nt::{Once, Passive, SpinLock, Timer, Waker, debug_print};

use self::queue::Layout;
use self::rx::{Filled, Rx};
use self::slots::Slots;
pub use self::transport::Error;
use self::transport::{QueueAddress, Transport, status};
use self::tx::{Features, Tx};
use self::watch::Finding;
use super::bus::Function;
use super::{BATCH, Cause, ETHERNET_HEADER, Fault, Link, Nic, TxCookie, TxError, TxFrame, Vectors};

/// Bytes virtio puts before each frame (5.1.6): all zero without offloads.
const HEADER: usize = 12;
/// Bytes of a VLAN tag: a frame with one may be so much longer.
const VLAN_TAG: usize = 4;
/// Numbers of the queues (5.1.2).
const RX: u16 = 0;
const TX: u16 = 1;
/// Larger queues than this take memory and no time.
const MAX_QUEUE: u16 = 1024;
/// Largest MTU, bytes, that the driver provides for.
const MAX_MTU: u16 = 9202;
/// Speed, bits per second, of a device that does not say.
const DEFAULT_SPEED: u64 = 10_000_000_000;

/// Bit of the interrupt cause: the configuration has changed (4.1.4.5).
const CONFIG_CHANGED: u8 = 2;

/// Feature bits (5.1.3, 6).
mod feature {
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const STATUS: u64 = 1 << 16;
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    pub const ORDER_PLATFORM: u64 = 1 << 36;
    pub const SPEED_DUPLEX: u64 = 1 << 63;
}

/// Offsets in the device's configuration (5.1.4).
mod config {
    pub const MAC: usize = 0;
    pub const STATUS: usize = 6;
    pub const MTU: usize = 10;
    pub const SPEED: usize = 12;
    /// In the status: the link is up.
    pub const LINK_UP: u16 = 1;
}

/// The states of the device, see [`VirtioNet::state`].
mod state {
    /// At rest, not started.
    pub const RESTING: u8 = 0;
    /// Works.
    pub const RUNNING: u8 = 1;
    /// Being reset: takes nothing, may still reach memory.
    pub const STOPPING: u8 = 2;
    /// Does not reach memory any more.
    pub const STOPPED: u8 = 3;
}

/// What the configuration asks of the device.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Largest IP packet, bytes; less if the device says so.
    pub mtu: u16,
    /// Receive buffers, about.
    pub receive_buffers: u16,
    /// Transmit descriptors, about.
    pub transmit_buffers: u16,
    /// MAC address to use instead of the device's.
    pub mac: Option<[u8; 6]>,
}

/// The device.
#[derive(Debug)]
pub struct VirtioNet {
    transport: Transport,
    features: u64,
    rx: Rx,
    rx_size: u16,
    rx_doorbell: usize,
    tx: SpinLock<Tx>,
    tx_size: u16,
    tx_doorbell: usize,
    max_pieces: usize,
    mac: [u8; 6],
    permanent_mac: [u8; 6],
    mtu: u16,
    /// One of [`state`]. RUNNING to STOPPING by whoever stops the device first.
    state: AtomicU8,
    /// Number of the fault plus one; zero: none.
    fault: AtomicU8,
    /// Looks after the transmit queue as long as frames are in flight.
    timer: Timer<VirtioNet>,
    waker: Once<Waker>,
    /// The messages it was started with.
    vectors: Once<Vectors>,
}

/// Faults by number.
const FAULTS: [Fault; 6] = [
    Fault::NeedsReset,
    Fault::TxUsed,
    Fault::RxUsed,
    Fault::Gone,
    Fault::Refused,
    Fault::Stalled,
];

/// Largest power of two not above `limit`, the device's maximum and our own.
fn queue_size(device: u16, limit: u16) -> u16 {
    match device.min(limit.max(2)).min(MAX_QUEUE) {
        0 => 0,
        size => 1 << size.ilog2(),
    }
}

/// An address of one's own for a device that has none: locally administered, unicast.
fn random_mac(passive: Passive) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = nt::entropy(passive).to_le_bytes();
    [(a & 0xfc) | 2, b, c, d, e, f]
}

impl VirtioNet {
    /// Takes a device over: resets it, settles its features, allocates its queues. It rests until [`Nic::start`].
    ///
    /// # Errors
    /// [`Error`].
    #[inline(never)]
    pub fn try_new(
        function: Function,
        dma: &Adapter,
        options: &Options,
        passive: Passive,
    ) -> Result<Box<Self>, Error> {
        let transport = Transport::open(function)?;
        if !transport.reset(passive) {
            return Err(Error::Device);
        }
        let timer = Timer::try_new(Self::look)?;
        transport.add_status(status::ACKNOWLEDGE);
        transport.add_status(status::DRIVER);
        let prepared = Prepared::try_new(&transport, dma, options, passive).inspect_err(|_| {
            transport.reset(passive);
        })?;
        let device = try_box(Self {
            transport,
            features: prepared.features,
            rx: prepared.rx,
            rx_size: prepared.rx_size,
            rx_doorbell: prepared.rx_doorbell,
            max_pieces: prepared.tx.max_pieces(),
            tx: SpinLock::new(prepared.tx),
            tx_size: prepared.tx_size,
            tx_doorbell: prepared.tx_doorbell,
            mac: options.mac.unwrap_or(prepared.mac),
            permanent_mac: prepared.mac,
            mtu: prepared.mtu,
            state: AtomicU8::new(state::RESTING),
            fault: AtomicU8::new(0),
            timer,
            waker: Once::new(),
            vectors: Once::new(),
        })?;
        // SAFETY: the device stays in its box; dropping it stops the timer first.
        unsafe { device.timer.bind(&raw const *device) };
        Ok(device)
    }

    fn is(&self, state: u8) -> bool {
        self.state.load(Ordering::Acquire) == state
    }

    /// Remembers a fault, if it is the first. IRQL: any.
    fn blame(&self, fault: Fault) {
        let number = FAULTS.iter().position(|&known| known == fault).unwrap_or(0) as u8 + 1;
        let first = self
            .fault
            .compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire);
        if first.is_ok() {
            debug_print!(Error, "{fault}");
        }
    }

    /// Remembers why, and has the device stop. The first reason counts. IRQL: <= DISPATCH_LEVEL, no lock of the queues held.
    fn fail(&self, fault: Fault) {
        self.blame(fault);
        self.halt();
    }

    /// Takes no more frames and orders a reset. If the device obeys at once, it is stopped. IRQL: <= DISPATCH_LEVEL, no lock of the queues
    /// held.
    fn halt(&self) {
        let halts = |from| {
            let change = self.state.compare_exchange(
                from,
                state::STOPPING,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            change.is_ok()
        };
        if halts(state::RUNNING) || halts(state::RESTING) {
            self.transport.order_reset();
            if self.transport.is_reset() {
                self.state.store(state::STOPPED, Ordering::Release);
            }
        }
    }

    /// The timer: looks whether frames still go out. IRQL: DISPATCH_LEVEL.
    fn look(&self) {
        if !self.is(state::RUNNING) {
            return;
        }
        let finding = self.tx.lock().look();
        match finding {
            Finding::Idle => return,
            Finding::Busy => {}
            Finding::Unserved => self.wake(),
            // What is behind a device whose link is down may well wait for the link.
            Finding::Stalled if !self.link().up && self.is(state::RUNNING) => {
                self.tx.lock().begin_watch();
            }
            Finding::Stalled => {
                self.fail(Fault::Stalled);
                self.wake();
                return;
            }
        }
        self.timer.set(watch::PERIOD);
    }

    /// Has the service routine run. IRQL: any.
    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    /// Makes ready again what [`VirtioNet::try_new`] made, after a reset.
    fn begin_anew(&self, passive: Passive) -> Result<(), Error> {
        // A device that did not confirm its reset is off the bus, and still has addresses of memory that is others' by now: it
        // comes back only after it has forgotten them. Registers can be reached without that.
        if !self.transport.reset(passive) || !self.tx.lock().restart() {
            return Err(Error::Device);
        }
        self.rx.queue.lock().restart();
        self.transport.reconnect();
        self.transport.add_status(status::ACKNOWLEDGE);
        self.transport.add_status(status::DRIVER);
        if self.transport.device_features() & self.features != self.features {
            return Err(Error::Device);
        }
        self.transport.set_features(self.features)
    }

    /// The steps of [`Nic::start`] that the device cannot refuse. `from`: the state in which it was set up; if it has been stopped since,
    /// it stays so.
    fn run(&self, from: u8) {
        // No doorbell may ring before this (3.1.1), and none does before the state says that the device runs.
        self.transport.add_status(status::DRIVER_OK);
        let runs =
            self.state
                .compare_exchange(from, state::RUNNING, Ordering::AcqRel, Ordering::Acquire);
        if runs.is_err() {
            self.transport.order_reset();
            self.wake();
            return;
        }
        // A service routine that ran before had the interrupts disabled, and did not enable them.
        self.tx.lock().enable_interrupts();
        // The device must not be told of buffers before it runs (3.1.1).
        let wanted = {
            let mut queue = self.rx.queue.lock();
            queue.enable_interrupts();
            queue.publish_and_ask()
        };
        if wanted {
            self.transport.ring(self.rx_doorbell, RX);
        }
        // What came in before the interrupts were enabled brought none.
        self.wake();
    }

    /// The steps of [`Nic::start`] that the device may refuse.
    fn set_up(&self, vectors: Vectors) -> Result<(), Error> {
        let (config, queues) = match vectors {
            Vectors::Line => (None, None),
            Vectors::Messages { config, queues } => (Some(config), Some(queues)),
        };
        self.transport.set_config_vector(config)?;
        let address = |base: u64, size: u16| {
            let layout = Layout::new(size);
            QueueAddress {
                descriptors: base + layout.descriptors as u64,
                available: base + layout.available as u64,
                used: base + layout.used as u64,
            }
        };
        {
            let mut queue = self.rx.queue.lock();
            self.rx.put_back(&mut queue, 0..self.rx_size);
        }
        let at = address(self.rx.queue.lock().memory().logical(), self.rx_size);
        self.transport.enable_queue(RX, self.rx_size, &at, queues)?;
        let at = address(self.tx.lock().memory().logical(), self.tx_size);
        self.transport.enable_queue(TX, self.tx_size, &at, queues)
    }

    /// Hands out what is in filled buffers.
    fn hand_out(&self, filled: &[Filled], frames: &mut dyn FnMut(&[&[u8]])) {
        let mut batch = ArrayVec::<&[u8], BATCH>::new();
        for buffer in filled {
            let Some(slot) = self.rx.slots.get(buffer.slot) else {
                continue;
            };
            let Some(len) = (buffer.len as usize).checked_sub(HEADER) else {
                continue;
            };
            // SAFETY: the device has given the buffer back, and it is not given out again before this function returns.
            let bytes = unsafe { slot.buffer.bytes(slot.offset + HEADER, len) };
            if let Some(bytes) = bytes.filter(|bytes| bytes.len() >= ETHERNET_HEADER) {
                // As many as there is room for: `filled` is a batch.
                let _ = batch.try_push(bytes);
            }
        }
        if !batch.is_empty() {
            frames(&batch);
        }
    }
}

/// What driver and device agree on.
struct Negotiated {
    features: u64,
    /// The device's MTU, if it has one that can be honoured.
    mtu: Option<u16>,
    /// The device's address, if it has one.
    mac: Option<[u8; 6]>,
}

/// Settles the features.
///
/// Whoever accepts VIRTIO_NET_F_MAC must use the device's address (5.1.4.2): with one of the administrator's it is not accepted. A device
/// whose receive filter was never set (VIRTIO_NET_F_CTRL_RX is not accepted) passes frames to any address.
fn negotiate(transport: &Transport, options: &Options) -> Result<Negotiated, Error> {
    let offered = transport.device_features();
    if offered & feature::VERSION_1 == 0 {
        debug_print!(Error, "device without VIRTIO_F_VERSION_1");
        return Err(Error::NotVirtio);
    }
    let mut wanted = feature::STATUS
        | feature::SPEED_DUPLEX
        | feature::INDIRECT_DESC
        | feature::EVENT_IDX
        | feature::VERSION_1
        | feature::ACCESS_PLATFORM
        | feature::ORDER_PLATFORM;
    // Who accepts the MTU must provide for it. The device's configuration may be read before the features are settled.
    let mtu = (offered & feature::MTU != 0)
        .then(|| transport.read_config(|config| config.read_u16(config::MTU)));
    let mtu = mtu.filter(|&mtu| {
        let usable = (68..=MAX_MTU).contains(&mtu);
        if !usable {
            debug_print!(Warning, "device's MTU of {mtu} is ignored");
        }
        usable
    });
    if mtu.is_some() {
        wanted |= feature::MTU;
    }
    let mac = (offered & feature::MAC != 0).then(|| {
        transport.read_config(|config| core::array::from_fn(|i| config.read_u8(config::MAC + i)))
    });
    if options.mac.is_none() {
        wanted |= feature::MAC;
    }
    let features = offered & wanted;
    transport.set_features(features)?;
    Ok(Negotiated { features, mtu, mac })
}

/// The parts of the device before they are put together.
struct Prepared {
    features: u64,
    mac: [u8; 6],
    mtu: u16,
    rx: Rx,
    rx_size: u16,
    rx_doorbell: usize,
    tx: Tx,
    tx_size: u16,
    tx_doorbell: usize,
}

impl Prepared {
    fn try_new(
        transport: &Transport,
        dma: &Adapter,
        options: &Options,
        passive: Passive,
    ) -> Result<Self, Error> {
        let Negotiated {
            features,
            mtu: device_mtu,
            mac,
        } = negotiate(transport, options)?;
        let mac = mac.unwrap_or_else(|| random_mac(passive));
        if transport.queues() < 2 {
            return Err(Error::Device);
        }
        let rx_size = queue_size(transport.queue_size(RX), options.receive_buffers);
        let tx_size = queue_size(transport.queue_size(TX), options.transmit_buffers);
        // A transmit queue that cannot take a frame of header, piece and trailer is no use.
        if rx_size == 0 || tx_size < 4 {
            return Err(Error::Device);
        }
        let ring = Features {
            event_idx: features & feature::EVENT_IDX != 0,
            indirect: features & feature::INDIRECT_DESC != 0,
        };
        let wanted = options.mtu.min(MAX_MTU);
        let mtu = device_mtu.map_or(wanted, |device| wanted.min(device));
        let frame = |mtu: u16| ETHERNET_HEADER + VLAN_TAG + usize::from(mtu);
        // The device may send as long a frame as its own MTU allows, whatever ours is.
        let rx_len = HEADER + frame(device_mtu.unwrap_or(wanted).max(mtu));
        let slots = Slots::try_new(dma, rx_size, rx_len, passive)?;
        let rx_memory = dma.common_buffer(Layout::new(rx_size).total, passive)?;
        let tx_memory = dma.common_buffer(Layout::new(tx_size).total, passive)?;
        Ok(Self {
            features,
            mac,
            rx: Rx::try_new(rx_memory, rx_size, ring.event_idx, slots, rx_len as u32)?,
            rx_size,
            rx_doorbell: transport.doorbell(RX).ok_or(Error::Device)?,
            tx: Tx::try_new(dma, tx_memory, tx_size, ring, frame(mtu), passive)?,
            tx_size,
            tx_doorbell: transport.doorbell(TX).ok_or(Error::Device)?,
            mtu,
        })
    }
}

impl Nic for VirtioNet {
    fn start(&self, vectors: Vectors, waker: Waker, passive: Passive) -> Result<(), Fault> {
        self.waker.set(waker);
        self.vectors.set(vectors);
        if let Err(error) = self.set_up(vectors) {
            debug_print!(Error, "device does not start: {error:?}");
            self.transport.reset(passive);
            return Err(Fault::Refused);
        }
        self.run(state::RESTING);
        Ok(())
    }

    fn mac(&self) -> [u8; 6] {
        self.mac
    }

    fn permanent_mac(&self) -> [u8; 6] {
        self.permanent_mac
    }

    fn mtu(&self) -> u16 {
        self.mtu
    }

    fn link(&self) -> Link {
        let down = Link {
            up: false,
            speed: DEFAULT_SPEED,
        };
        if !self.is(state::RUNNING) && !self.is(state::RESTING) {
            return down;
        }
        match self.transport.status() {
            0xff => {
                self.fail(Fault::Gone);
                return down;
            }
            status if status & status::NEEDS_RESET != 0 => {
                self.fail(Fault::NeedsReset);
                return down;
            }
            _ => {}
        }
        self.transport.read_config(|config| {
            let has = |feature| self.features & feature != 0;
            let speed = match has(feature::SPEED_DUPLEX).then(|| config.read_u32(config::SPEED)) {
                // Megabits per second; anything above is "unknown" (5.1.4).
                Some(speed @ 1..=0x7fff_ffff) => u64::from(speed) * 1_000_000,
                _ => DEFAULT_SPEED,
            };
            Link {
                up: !has(feature::STATUS) || config.read_u16(config::STATUS) & config::LINK_UP != 0,
                speed,
            }
        })
    }

    fn transmit(&self, frame: &TxFrame<'_>) -> Result<(), TxError> {
        let mut tx = self.tx.lock();
        // Under the lock: who stops the device takes the lock afterwards, so no frame slips in behind the reset.
        if !self.is(state::RUNNING) {
            return Err(TxError::Stopped);
        }
        tx.push(frame)
    }

    fn kick(&self) {
        let (wanted, watch) = {
            let mut tx = self.tx.lock();
            (tx.publish_and_ask(), tx.begin_watch())
        };
        if !self.is(state::RUNNING) {
            return;
        }
        if wanted {
            self.transport.ring(self.tx_doorbell, TX);
        }
        if watch {
            self.timer.set(watch::PERIOD);
        }
    }

    fn max_pieces(&self) -> usize {
        self.max_pieces
    }

    fn reap(&self, done: &mut dyn FnMut(&[TxCookie])) -> usize {
        let mut total = 0;
        loop {
            let mut cookies = ArrayVec::<TxCookie, BATCH>::new();
            let mut reaped = 0;
            let mut bad = false;
            let stopped;
            {
                let mut tx = self.tx.lock();
                tx.disable_interrupts();
                stopped = self.is(state::STOPPED);
                while reaped < BATCH {
                    let next = if stopped { Ok(tx.reclaim()) } else { tx.pop() };
                    match next {
                        Ok(Some(cookie)) => {
                            reaped += 1;
                            if cookie != TxCookie::None {
                                cookies.push(cookie);
                            }
                        }
                        Ok(None) => break,
                        Err(_) => {
                            bad = true;
                            break;
                        }
                    }
                }
            }
            if bad {
                self.fail(Fault::TxUsed);
            }
            total += reaped;
            if !cookies.is_empty() {
                done(&cookies);
            }
            // If the device has stopped meanwhile, everything is reclaimed: round again.
            if reaped < BATCH && (stopped || !self.is(state::STOPPED)) {
                return total;
            }
        }
    }

    fn receive(&self, budget: usize, frames: &mut dyn FnMut(&[&[u8]])) -> usize {
        let mut total = 0;
        let mut notify = false;
        while total < budget && self.is(state::RUNNING) {
            let mut filled = ArrayVec::<Filled, BATCH>::new();
            let mut bad = false;
            {
                let mut queue = self.rx.queue.lock();
                queue.disable_interrupts();
                while !filled.is_full() && total + filled.len() < budget {
                    match self.rx.pop(&mut queue) {
                        Ok(Some(buffer)) => filled.push(buffer),
                        Ok(None) => break,
                        Err(_) => {
                            bad = true;
                            break;
                        }
                    }
                }
            }
            if filled.is_empty() && !bad {
                break;
            }
            total += filled.len();
            self.hand_out(&filled, frames);
            if bad {
                self.fail(Fault::RxUsed);
                break;
            }
            let mut queue = self.rx.queue.lock();
            self.rx
                .put_back(&mut queue, filled.iter().map(|buffer| buffer.slot));
            notify |= queue.publish_and_ask();
            if !filled.is_full() {
                // That was all; whoever enables interrupts looks again.
                break;
            }
        }
        if notify && self.is(state::RUNNING) {
            self.transport.ring(self.rx_doorbell, RX);
        }
        total
    }

    fn enable_interrupts(&self) -> bool {
        if !self.is(state::RUNNING) {
            return false;
        }
        let rx = self.rx.queue.lock().enable_interrupts();
        let tx = self.tx.lock().enable_interrupts();
        rx || tx
    }

    fn disable_interrupts(&self) {
        self.rx.queue.lock().disable_interrupts();
        self.tx.lock().disable_interrupts();
    }

    fn acknowledge_interrupt(&self) -> Option<Cause> {
        match self.transport.take_cause() {
            0 => None,
            cause => Some(Cause {
                config: cause & CONFIG_CHANGED != 0,
            }),
        }
    }

    fn fault(&self) -> Option<Fault> {
        let number = usize::from(self.fault.load(Ordering::Acquire));
        FAULTS.get(number.checked_sub(1)?).copied()
    }

    fn stop(&self, passive: Passive) {
        self.halt();
        // Whoever comes second waits as well; both may find the end.
        if !self.is(state::STOPPED) {
            if !self.transport.finish_reset(passive) {
                debug_print!(Error, "device does not confirm its reset");
            }
            self.state.store(state::STOPPED, Ordering::Release);
        }
        self.timer.stop(passive);
    }

    fn restart(&self, passive: Passive) -> Result<(), Fault> {
        let Some(&vectors) = self.vectors.get().filter(|_| self.is(state::STOPPED)) else {
            return Err(Fault::Refused);
        };
        let ready = self.begin_anew(passive);
        if let Err(error) = ready.and_then(|()| self.set_up(vectors)) {
            debug_print!(Error, "device does not start again: {error:?}");
            self.transport.reset(passive);
            self.blame(Fault::Refused);
            return Err(Fault::Refused);
        }
        self.fault.store(0, Ordering::Release);
        self.run(state::STOPPED);
        Ok(())
    }
}

impl Drop for VirtioNet {
    /// The device is at rest before its memory goes. IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        // SAFETY: whoever drops a device is at PASSIVE_LEVEL.
        self.stop(unsafe { Passive::assume() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_sizes_are_powers_of_two_within_all_limits() {
        assert_eq!(queue_size(256, 512), 256);
        assert_eq!(queue_size(256, 200), 128);
        assert_eq!(queue_size(32768, 32768), MAX_QUEUE);
        assert_eq!(queue_size(0, 512), 0);
        assert_eq!(queue_size(3, 512), 2);
        assert_eq!(queue_size(256, 0), 2);
    }

    #[test]
    fn frames_have_room_in_the_queue() {
        for size in [4, 64, 256, 1024] {
            let (slots, pieces) = tx::capacity(size, true);
            assert!(slots == size && pieces + 2 <= usize::from(size));
            let (slots, _) = tx::capacity(size, false);
            assert!(slots * 2 <= size);
        }
    }
}
