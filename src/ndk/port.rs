//! The RDMA port of one adapter: the engine behind its lock, the timer, the DPC that calls out, and the way to the NIC.
#![allow(unsafe_code, reason = "binds kernel callbacks to the port")]

use alloc::boxed::Box;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use ndis_sys::status::{STATUS_DEVICE_REMOVED, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use nt::{Dpc, Event, EventKind, NoMemory, Passive, Rundown, SpinLock, Status, Timer, WorkItem};
use roce::{Instant, MAX_PIECES, Path, PathMtu, TxToken, Verdict};

use super::address::LocalAddress;
use super::life::{Home, Queue};
use super::limits;
use super::neighbour::{self, AddressWatch};
use super::state::{State, new_engine};
use crate::nic::{self, DmaPiece, TxCookie, TxError, TxFrame};
use crate::trace::{CallRefused, Trace};
use crate::turn::Schedule;

/// How many objects one DPC serves before it makes way.
const CALL_OUT_BUDGET: usize = 128;

/// How many frames to the port itself are taken in at a time, before it makes way.
const LOOP_BUDGET: usize = 64;

/// Received frames dealt with before the lock is let go of: their checksums are verified and their payload is copied under it.
const FRAMES_UNDER_LOCK: usize = 8;

/// DMA pieces of one frame that is not copied: a piece of payload is at most one path MTU (a page) long, so it crosses one border
/// between pages, and more only if its memory is a chain of small MDLs.
const MAX_DMA_PIECES: usize = 2 * MAX_PIECES;

/// How many peers can be looked up at a time.
const LANES: usize = 4;

/// Octets and frames of the RDMA port on the wire, Ethernet header included.
#[derive(Debug, Default)]
struct Traffic {
    octets_in: AtomicU64,
    octets_out: AtomicU64,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
}

/// What the RDMA port is made with.
pub struct PortConfig {
    /// The network device.
    pub nic: nic::Handle,
    /// How memory is mapped for the device, and how work is queued at PASSIVE_LEVEL.
    pub platform: super::platform::Platform,
    /// Administrative gate: the keyword *NetworkDirect.
    pub enabled: bool,
    /// Path MTU wanted: the keyword *NetworkDirectRoCEFrameSize, as far as the link allows.
    pub mtu: PathMtu,
    /// Whether congestion that the network reports is reacted to: the keyword DcQcnEnable.
    pub dcqcn: bool,
    /// Random bits, different at every start.
    pub seed: u128,
    /// What tells event tracing of the adapter.
    pub trace: Trace,
}

/// The RDMA port of one adapter.
pub struct Port {
    state: SpinLock<Box<State>>,
    queue: Queue,
    /// Whether the DPC below is ordered, runs, or rests.
    call_outs: Schedule,
    call_out: Dpc<Port>,
    /// Orders the DPC anew when it has used up its budget: from PASSIVE_LEVEL, so that the processor leaves DISPATCH_LEVEL in between,
    /// which it would not for a DPC that queues itself.
    rest: WorkItem<Port>,
    timer: Timer<Port>,
    nic: nic::Handle,
    platform: super::platform::Platform,
    /// Open adapters; closed while the port is disabled or shutting down.
    opens: Rundown,
    enabled: AtomicBool,
    /// Why the NIC cannot be used: STATUS_SUCCESS if it can.
    fault: AtomicI32,
    /// The engine has failed: see [`Port::fail`].
    broken: AtomicBool,
    /// What the engine was made with, but for the seed.
    engine: roce::Config,
    /// The DPC has to send before it calls out.
    more_to_send: AtomicBool,
    mtu: PathMtu,
    trace: Trace,
    traffic: Traffic,
    /// Look up the way to peers, one each, because a peer that does not answer takes seconds.
    lanes: [WorkItem<Port>; LANES],
    /// Looks up again the way to peers that do not seem to hear. Not one of the lanes: those who connect must not wait for peers that are gone.
    refresher: WorkItem<Port>,
    /// Reads the adapter's addresses.
    address_reader: WorkItem<Port>,
    /// Set unless somebody reads them: so that of two readings the later one is kept.
    addresses_free: Event,
    address_watch: AddressWatch,
}

/// Which frames of a batch the port has dealt with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ours(u32);

const _: () = assert!(nic::BATCH <= u32::BITS as usize);

impl Ours {
    fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Whether the frame with that number is one.
    pub fn has(self, index: usize) -> bool {
        self.0 & (1 << index) != 0
    }
}

/// Whether a frame belongs to a VLAN (IEEE 802.1Q, 9.6): the adapter, and with it every connection, is in none. A tag may be there for
/// its priority alone.
fn is_of_vlan(frame: &[u8]) -> bool {
    const TAG: [u8; 2] = [0x81, 0x00];
    const ID: u16 = 0x0fff;
    let word = |at: usize| frame.get(at..)?.first_chunk::<2>().copied();
    word(12) == Some(TAG) && word(14).is_none_or(|control| u16::from_be_bytes(control) & ID != 0)
}

/// Random bits for an engine, different each time.
pub fn random_seed(passive: Passive) -> u128 {
    u128::from(nt::entropy(passive)) << 64 | u128::from(nt::entropy(passive))
}

impl Port {
    /// Makes a port. It stands still until the first adapter is opened.
    ///
    /// IRQL: PASSIVE_LEVEL.
    ///
    /// # Errors
    /// [`NoMemory`].
    #[inline(never)]
    pub fn try_new(config: PortConfig, passive: Passive) -> Result<Box<Port>, NoMemory> {
        let mac = config.nic.mac();
        // Before the state it belongs to, because it needs most of the stack.
        let ecn = limits::ecn(config.dcqcn, config.nic.link().speed);
        let engine = new_engine(&limits::of_engine(mac, config.nic.mtu(), config.seed, ecn))?;
        let adapter = config.platform.adapter();
        // SAFETY: the adapter's handle outlives the port, as promised when the platform was made.
        let lane = |routine| unsafe { WorkItem::try_new(adapter, routine) };
        let lanes = [
            lane(Port::resolve::<0>)?,
            lane(Port::resolve::<1>)?,
            lane(Port::resolve::<2>)?,
            lane(Port::resolve::<3>)?,
        ];
        let refresher = lane(Port::refresh)?;
        let address_reader = lane(Port::read_addresses)?;
        let rest = lane(|port, _| {
            port.call_out.queue();
        })?;
        let state = State::try_new(engine, &config.trace)?;
        let port = nt::boxed::try_box(Port {
            engine: *state.engine.config(),
            state: SpinLock::new(state),
            queue: Queue::new(),
            call_outs: Schedule::new(),
            rest,
            call_out: Dpc::try_new(Port::on_dpc)?,
            timer: Timer::try_new(Port::on_timer)?,
            nic: config.nic,
            platform: config.platform,
            opens: Rundown::try_new()?,
            enabled: AtomicBool::new(config.enabled),
            fault: AtomicI32::new(STATUS_SUCCESS),
            broken: AtomicBool::new(false),
            more_to_send: AtomicBool::new(false),
            mtu: config.mtu,
            trace: config.trace,
            traffic: Traffic::default(),
            lanes,
            refresher,
            address_reader,
            addresses_free: Event::try_new(EventKind::Synchronization, true)?,
            address_watch: AddressWatch::new(),
        })?;
        // SAFETY: the box does not move, and `drop` ends DPC, timer, work items and notification, and waits for runs in progress, before
        // any field goes.
        unsafe {
            port.call_out.bind(&raw const *port);
            port.rest.bind(&raw const *port);
            port.timer.bind(&raw const *port);
            port.lanes
                .iter()
                .for_each(|lane| lane.bind(&raw const *port));
            port.refresher.bind(&raw const *port);
            port.address_reader.bind(&raw const *port);
            port.address_watch.start(&raw const *port, passive);
        }
        Ok(port)
    }

    /// Works on the state, then sends what there is to send, notes what consumers must hear and sets the timer. Callbacks come later,
    /// from the DPC. IRQL <= DISPATCH_LEVEL, no lock of the port or the NIC held.
    pub fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        state.now = Instant(nt::time::now());
        let result = work(&mut state);
        self.settle(&mut state);
        drop(state);
        if !self.queue.is_empty() {
            self.call_soon();
        }
        result
    }

    /// Works on the state where nothing can come of it that has to be sent or told. IRQL <= DISPATCH_LEVEL.
    pub fn peek<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        work(&mut state)
    }

    /// Received Ethernet frames, without FCS. Answers which of them were RoCE for our MAC address and have been dealt with;
    /// [`Port::pump`] is due after the batch.
    ///
    /// Frames of VLANs are the protocols'. While NDK is disabled and no adapter is open any more, so is UDP port 4791. Enabled, the port
    /// answers even if no adapter is open: a peer that wants to connect is to be refused, not left to time out.
    /// IRQL: DISPATCH_LEVEL, no lock of the NIC held.
    pub fn receive(&self, frames: &[&[u8]]) -> Ours {
        let mut ours = Ours::default();
        if !self.is_enabled() && !self.opens.has_users() {
            return ours;
        }
        let mac = self.mac();
        let mut wanted = frames
            .iter()
            .enumerate()
            .filter(|(_, frame)| frame.starts_with(&mac) && !is_of_vlan(frame))
            .peekable();
        let (mut count, mut octets) = (0, 0);
        while wanted.peek().is_some() {
            let mut state = self.state.lock();
            let state = &mut *state;
            state.now = Instant(nt::time::now());
            for (i, frame) in wanted.by_ref().take(FRAMES_UNDER_LOCK) {
                let verdict = state.engine.receive(state.now, frame, &mut state.memory);
                if verdict != Verdict::NotRoce {
                    ours.add(i);
                    count += 1;
                    octets += frame.len() as u64;
                }
            }
        }
        self.traffic.frames_in.fetch_add(count, Ordering::Relaxed);
        self.traffic.octets_in.fetch_add(octets, Ordering::Relaxed);
        ours
    }

    /// The NIC no longer reads the pieces of frames of ours: those with [`TxCookie::Rdma`]. [`Port::pump`] is due after the batch.
    /// IRQL: DISPATCH_LEVEL, no lock of the NIC held.
    pub fn transmitted(&self, cookies: &[TxCookie]) {
        let mut tokens = cookies
            .iter()
            .filter_map(|cookie| match cookie {
                TxCookie::Rdma(bits) => Some(TxToken::from_bits(*bits)),
                TxCookie::Ethernet(_) | TxCookie::None => None,
            })
            .peekable();
        if tokens.peek().is_none() {
            return;
        }
        let mut state = self.state.lock();
        let state = &mut *state;
        state.now = Instant(nt::time::now());
        for token in tokens {
            state.engine.transmitted(state.now, token);
        }
    }

    /// After a batch of received or sent frames: sends, notes what consumers must hear, and sets the timer. Consumers are called from the
    /// DPC: a slow one must not hold up the NIC. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn pump(&self) {
        self.with(|_| ());
    }

    /// How memory is mapped and work queued.
    pub fn platform(&self) -> &super::platform::Platform {
        &self.platform
    }

    /// MAC address of the port.
    pub fn mac(&self) -> [u8; 6] {
        self.nic.mac()
    }

    /// The engine's configuration, but for the seed: for getting memory of queues without the lock.
    pub fn engine_config(&self) -> &roce::Config {
        &self.engine
    }

    /// Path MTU offered to peers.
    pub fn mtu(&self) -> PathMtu {
        self.mtu
    }

    /// What tells event tracing of the adapter.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Tells event tracing what a call is answered with, if that is a refusal. IRQL: any.
    pub fn answer(&self, call: &'static str, status: NTSTATUS) -> NTSTATUS {
        if status < 0 {
            self.trace.write(|adapter| CallRefused {
                adapter,
                call: call.into(),
                status: Status(status),
            });
        }
        status
    }

    /// The open adapters of this port.
    pub fn opens(&self) -> &Rundown {
        &self.opens
    }

    /// Whether adapters can be opened.
    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Lets adapters be opened, or refuses new opens; open ones stay. IRQL <= DISPATCH_LEVEL.
    pub fn set_enabled(&self, enabled: bool) {
        self.enabled.store(enabled, Ordering::Release);
    }

    /// Whether new objects can be made and connections begun: if not, the status to refuse them with. IRQL: any.
    ///
    /// # Errors
    /// What [`Port::refuse`] was told; STATUS_DEVICE_REMOVED after [`Port::fail`].
    pub fn ready(&self) -> Result<(), NTSTATUS> {
        match self.fault.load(Ordering::Acquire) {
            STATUS_SUCCESS if self.is_broken() => Err(STATUS_DEVICE_REMOVED),
            STATUS_SUCCESS => Ok(()),
            fault => Err(fault),
        }
    }

    /// The NIC cannot be used any more: what is asked for anew fails with `why`. IRQL: any.
    ///
    /// Decision X-48: STATUS_DEVICE_REMOVED after surprise removal and for a NIC that failed; STATUS_DEVICE_NOT_READY without power.
    pub fn refuse(&self, why: NTSTATUS) {
        self.fault.store(why, Ordering::Release);
    }

    /// The NIC has no power, and has given back all that it had: connections end with their disconnect events, and what is posted is
    /// flushed. What lies in memory is as good as before: protection domains, regions, queues, listeners.
    /// IRQL <= DISPATCH_LEVEL, no lock held.
    pub fn end_connections(&self) {
        self.with(State::end_connections);
    }

    /// The NIC can be used again. IRQL: any.
    pub fn nic_found(&self) {
        self.fault.store(STATUS_SUCCESS, Ordering::Release);
    }

    /// The device has failed or is gone, and what was on its way is lost: connections end, everything posted is flushed, every completion queue and
    /// shared receive queue tells of STATUS_INTERNAL_ERROR, and nothing can be made or posted any more until [`Port::renew`].
    /// IRQL <= DISPATCH_LEVEL, no lock held.
    pub fn fail(&self) {
        self.broken.store(true, Ordering::Release);
        self.with(State::fail);
    }

    /// Whether it failed, and has not been renewed. IRQL: any.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Begins anew after [`Port::fail`]. The port is disabled; waits until every adapter is closed.
    ///
    /// # Errors
    /// [`NoMemory`]: nothing has changed.
    pub fn renew(&self, passive: Passive) -> Result<(), NoMemory> {
        let config = roce::Config {
            seed: random_seed(passive),
            ..self.engine
        };
        let new = new_engine(&config)?;
        self.opens.close_and_wait(passive);
        let old = self.with(|state| state.renew(new));
        self.broken.store(false, Ordering::Release);
        self.opens.reopen();
        drop(old);
        Ok(())
    }

    /// Stops the port for good: every adapter must be closed. Nothing runs in the port's name when this returns. A second call does nothing.
    ///
    /// IRQL: PASSIVE_LEVEL.
    pub fn shutdown(&self, passive: Passive) {
        self.set_enabled(false);
        self.opens.close_and_wait(passive);
        // Who received a list late may not have come back yet.
        self.platform.dma.close(passive);
        self.address_watch.stop(passive);
        self.address_reader.close(passive);
        self.lanes.iter().for_each(|lane| lane.close(passive));
        self.refresher.close(passive);
        {
            let mut state = self.state.lock();
            state.stopped = true;
            state.timer_set = None;
        }
        self.timer.stop(passive);
        self.rest.close(passive);
        self.call_out.stop(passive);
    }

    /// Octets in, octets out, frames in, frames out: layer 2 included, FCS not.
    pub fn traffic(&self) -> [u64; 4] {
        let traffic = &self.traffic;
        [
            &traffic.octets_in,
            &traffic.octets_out,
            &traffic.frames_in,
            &traffic.frames_out,
        ]
        .map(|counter| counter.load(Ordering::Relaxed))
    }

    /// A connector waits for the way to its peer. IRQL <= DISPATCH_LEVEL, no lock held.
    pub fn resolve_soon(&self) {
        let idle = self.peek(|state| {
            let lane = (0..LANES).find(|lane| state.lanes_busy & (1 << lane) == 0)?;
            state.lanes_busy |= 1 << lane;
            Some(lane)
        });
        // If all are at work, the first to finish takes it.
        if let Some(lane) = idle.and_then(|lane| self.lanes.get(lane)) {
            lane.queue();
        }
    }

    /// One resolver lane: as long as there are connectors that wait, asks TCP/IP for the way to the peer of one.
    fn resolve<const LANE: usize>(&self, passive: Passive) {
        loop {
            let wanted = self.peek(|state| {
                let wanted = state.take_unresolved();
                if wanted.is_none() {
                    state.lanes_busy &= !(1 << LANE);
                }
                wanted
            });
            let Some((key, route)) = wanted else { return };
            if route.unknown_local {
                self.read_addresses(passive);
            }
            let way = self.way(route.local, route.peer, passive);
            self.with(|state| state.resolved(key, route.attempt, way));
        }
    }

    /// Asks TCP/IP for the way from a local address to a peer: anew, whatever it was before.
    fn way(&self, local: SocketAddr, peer: SocketAddr, passive: Passive) -> Result<Path, NTSTATUS> {
        let (mac, mtu) = (self.mac(), self.mtu());
        let (local, peer) = (LocalAddress::of(local), LocalAddress::of(peer));
        if self.peek(|state| state.addresses.is_local(peer.ip, false)) {
            Ok(neighbour::to_self(mac, mtu, local, peer))
        } else {
            neighbour::resolve(self.platform.luid, mac, mtu, local, peer, passive)
        }
    }

    /// The ways that are doubted, one peer's after the other. Of a way that is not found any more the connections end by themselves.
    fn refresh(&self, passive: Passive) {
        while let Some((local, peer)) = self.peek(State::take_doubted) {
            if let Ok(path) = self.way(local, peer, passive) {
                self.with(|state| state.redirect(&path));
            }
        }
    }

    /// Has the adapter's addresses read again. IRQL <= DISPATCH_LEVEL.
    pub fn read_addresses_soon(&self) {
        self.address_reader.queue();
    }

    fn read_addresses(&self, passive: Passive) {
        self.addresses_free.wait(passive);
        let addresses = neighbour::read_addresses(self.platform.luid, passive);
        self.with(|state| {
            if let Some(addresses) = addresses {
                state
                    .engine
                    .set_addresses(addresses.iter().map(|local| local.ip));
                state.addresses = addresses;
            }
            state.listen_again();
            state.share_again();
        });
        self.addresses_free.set();
    }

    fn settle(&self, state: &mut State) {
        if state.stopped {
            return;
        }
        loop {
            self.transmit(state);
            // What an event made the port do may be to send.
            if !state.take_events() {
                break;
            }
        }
        if core::mem::take(&mut state.doubts) {
            self.refresher.queue();
        }
        // A timer that is set too early only looks again; setting it anew whenever an acknowledgement moves a deadline costs more.
        if let Some(deadline) = state.engine.next_deadline()
            && state.timer_set.is_none_or(|set| deadline < set)
        {
            state.timer_set = Some(deadline);
            self.timer.set_at(deadline.0);
        }
    }

    fn transmit(&self, state: &mut State) {
        let mac = self.nic.mac();
        let mut queued = false;
        let mut looped = 0;
        loop {
            if !state.frame_waits
                && !state
                    .engine
                    .poll_transmit(state.now, &state.memory, &mut state.frame)
            {
                break;
            }
            state.frame_waits = false;
            if state.frame.header.starts_with(&mac) {
                if looped == LOOP_BUDGET {
                    state.frame_waits = true;
                    self.more_to_send.store(true, Ordering::SeqCst);
                    self.call_soon();
                    break;
                }
                looped += 1;
                state.loop_back();
                continue;
            }
            match self.hand_over(state) {
                Ok(length) => {
                    queued = true;
                    self.traffic.frames_out.fetch_add(1, Ordering::Relaxed);
                    self.traffic
                        .octets_out
                        .fetch_add(length as u64, Ordering::Relaxed);
                }
                Err(TxError::Full) => {
                    // The NIC's next reaping comes with a pump.
                    state.frame_waits = true;
                    break;
                }
                Err(TxError::TooLong | TxError::Stopped) => {
                    // As if the wire had lost it.
                    if let Some(token) = state.frame.token {
                        state.engine.transmitted(state.now, token);
                    }
                }
            }
        }
        if queued {
            self.nic.kick();
        }
    }

    /// Hands the current frame to the NIC. Gives its length, bytes.
    fn hand_over(&self, state: &mut State) -> Result<usize, TxError> {
        let frame = &state.frame;
        let cookie = frame
            .token
            .map_or(TxCookie::None, |token| TxCookie::Rdma(token.to_bits()));
        let mut pieces = ArrayVec::<DmaPiece, MAX_DMA_PIECES>::new();
        let found = frame
            .pieces
            .iter()
            .all(|piece| state.memory.dma(piece, &mut pieces));
        if !found || pieces.len() > self.nic.max_pieces() {
            // Memory in more pieces than a frame can have is copied. What is not there any more is not there for that either.
            if !state.put_together() {
                return Err(TxError::TooLong);
            }
            self.nic.transmit(&TxFrame {
                header: &state.whole,
                pieces: &[],
                trailer: &[],
                cookie,
            })?;
            return Ok(state.whole.len());
        }
        self.nic.transmit(&TxFrame {
            header: &frame.header,
            pieces: &pieces,
            trailer: &frame.trailer,
            cookie,
        })?;
        let payload: usize = pieces.iter().map(|piece| piece.len as usize).sum();
        Ok(frame.header.len() + payload + frame.trailer.len())
    }

    /// The DPC that calls consumers. It is never queued while it runs or rests, so there is one at a time: callbacks of one object neither
    /// overlap nor overtake each other. IRQL: DISPATCH_LEVEL, no lock held.
    fn on_dpc(&self) {
        if self.more_to_send.swap(false, Ordering::AcqRel) {
            self.with(|_| ());
        }
        let spent = self.queue.call_out(CALL_OUT_BUDGET);
        let more_to_send = || self.more_to_send.load(Ordering::SeqCst);
        if spent || more_to_send() {
            // Once the port shuts down the work item is closed, and nothing is left to be told.
            self.rest.queue();
        } else if self
            .call_outs
            .finish(|| !self.queue.is_empty() || more_to_send())
        {
            self.call_out.queue();
        }
    }

    fn on_timer(&self) {
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        state.now = Instant(nt::time::now());
        state.timer_set = None;
        let now = state.now;
        state.engine.handle_timeout(now);
        self.settle(&mut state);
        drop(state);
        if !self.queue.is_empty() {
            self.call_soon();
        }
    }
}

impl Home for Port {
    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn call_soon(&self) {
        if self.call_outs.ask() {
            self.call_out.queue();
        }
    }
}

impl Drop for Port {
    /// A port that never came to be used has work of its own under way all the same, on its state: it ends before the state goes.
    /// IRQL: PASSIVE_LEVEL.
    fn drop(&mut self) {
        // SAFETY: whoever drops a port is at PASSIVE_LEVEL.
        self.shutdown(unsafe { Passive::assume() });
    }
}
