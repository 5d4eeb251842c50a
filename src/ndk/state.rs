//! What the port's lock protects: the engine, the registered memory, and what the port knows about each object.
//!
//! IRQL: DISPATCH_LEVEL, which holding that lock means, for everything here but the making of the state.

use alloc::boxed::Box;
use alloc::vec::Vec;

use nt::NoMemory;
use nt::boxed::try_box_with;
use roce::{ConnId, CqStatus, Engine, Event, Instant, ListenerId, MAX_HEADER, Memory, Transmit};

use super::address::LocalAddresses;
use super::connection::Connection;
use super::connector::Connector;
use super::cq::Cq;
use super::endpoint::SharedEntry;
use super::limits;
use super::line::Line;
use super::listener::Listening;
use super::memory::Regions;
use super::mr::Registration;
use super::mw::Mw;
use super::object::{self, Listed};
use super::ports::PortSpace;
use super::qp::Qp;
use super::slab::{Key, Slab};
use super::srq::SrqEntry;
use crate::trace::Trace;

/// A map from the dense index of an engine id. Its size is fixed at the start; ids outside of it are not found.
pub struct ByIndex<T> {
    entries: Vec<Option<T>>,
}

impl<T> ByIndex<T> {
    fn try_new(size: u32) -> Result<Self, NoMemory> {
        Ok(Self {
            entries: nt::boxed::try_vec(size as usize, |_| None)?,
        })
    }

    /// Puts a value at an index.
    pub fn set(&mut self, index: usize, value: T) {
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Some(value);
        }
    }

    /// Takes the value at an index out.
    pub fn clear(&mut self, index: usize) -> Option<T> {
        self.entries.get_mut(index)?.take()
    }

    /// The value at an index.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.entries.get(index)?.as_ref()
    }

    /// Every value.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().flatten()
    }

    /// The value at an index, to change it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.entries.get_mut(index)?.as_mut()
    }
}

/// The longest frame: header, one path MTU of payload, padding and CRC.
const MAX_WHOLE: usize = MAX_HEADER + 4096 + 8;

/// What the port knows about a completion queue.
pub struct CqEntry {
    /// The object.
    pub object: Listed<Cq>,
    /// The engine gave out a notification and the consumer has not had it yet. If it gives out another before that, one is enough: the
    /// consumer has armed both times before the callback, in which it finds everything.
    pub due: bool,
    /// What it says.
    pub status: CqStatus,
}

/// What the port knows about a queue pair.
pub struct QpEntry {
    /// The object.
    pub object: Listed<Qp>,
    /// The connector that uses it.
    pub connector: Option<Key>,
    /// It was connected: it can never be connected again.
    pub spent: bool,
}

/// The counters of OID_NDK_STATISTICS that are not traffic.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionCounters {
    /// Connections that this side asked for and got.
    pub connects: u64,
    /// Connections that this side accepted and that came to stand.
    pub accepts: u64,
    /// Attempts, in and out, that failed.
    pub connect_failures: u64,
    /// Connections that failed before their consumer disconnected.
    pub connection_errors: u64,
    /// Connections that stand now.
    pub active_connections: u64,
    /// Completion queues that failed, of engines that have been replaced.
    pub cq_errors: u64,
}

/// Everything under the port's lock.
pub struct State {
    /// When the lock was taken.
    pub now: Instant,
    /// The protocol.
    pub engine: Box<Engine>,
    /// Registered memory.
    pub memory: Regions,
    /// Completion queues by engine index.
    pub cqs: ByIndex<CqEntry>,
    /// Shared receive queues by engine index.
    pub srqs: ByIndex<SrqEntry>,
    /// Queue pairs by engine index.
    pub qps: ByIndex<QpEntry>,
    /// Memory region objects.
    pub mrs: Slab<Registration>,
    /// Memory windows. The engine calls them by their keys here.
    pub mws: Slab<Listed<Mw>>,
    /// Connectors.
    pub connections: Slab<Connection>,
    /// Connectors that wait for the way to their peer.
    pub lookups: Line,
    /// Connectors by engine connection.
    pub by_conn: ByIndex<Key>,
    /// Listeners.
    pub listeners: Slab<Listening>,
    /// Listeners by engine listener.
    pub by_listener: ByIndex<Key>,
    /// Shared endpoints.
    pub shared: Slab<SharedEntry>,
    /// Addresses and ports in use.
    pub ports: PortSpace,
    /// The adapter's own addresses.
    pub addresses: LocalAddresses,
    /// Connection counters.
    pub counters: ConnectionCounters,
    /// The frame being handed to the NIC; kept here because it is large, and because the NIC may be full.
    pub frame: Box<Transmit>,
    /// A frame in one piece, of at most [`MAX_WHOLE`] bytes: one to the port itself, or one of memory in more pieces than the NIC takes.
    pub whole: Vec<u8>,
    /// `frame` is waiting for room in the NIC.
    pub frame_waits: bool,
    /// The timer is set for this time.
    pub timer_set: Option<Instant>,
    /// There are connections of which the way to the peer is doubted.
    pub doubts: bool,
    /// Resolver lanes that are at work, one bit each.
    pub lanes_busy: u8,
    /// The port is shutting down: nothing is sent any more.
    pub stopped: bool,
    /// What tells event tracing of the adapter.
    pub trace: Trace,
}

/// A new engine.
pub fn new_engine(config: &roce::Config) -> Result<Box<Engine>, NoMemory> {
    try_box_with(|| Engine::try_new(config).map_err(|_| NoMemory))
}

impl State {
    /// The state of a new port.
    pub fn try_new(engine: Box<Engine>, trace: &Trace) -> Result<Box<Self>, NoMemory> {
        try_box_with(|| Self::new(engine, trace))
    }

    fn new(engine: Box<Engine>, trace: &Trace) -> Result<Self, NoMemory> {
        let mut whole = Vec::new();
        whole.try_reserve_exact(MAX_WHOLE).map_err(|_| NoMemory)?;
        let limits = *engine.config();
        Ok(Self {
            now: Instant::ZERO,
            // A fast-registered region has two.
            memory: Regions::new(2 * limits::MAX_MRS),
            cqs: ByIndex::try_new(limits.max_cqs)?,
            srqs: ByIndex::try_new(limits.max_srqs)?,
            qps: ByIndex::try_new(limits.max_qps)?,
            mrs: Slab::new(limits::MAX_MRS),
            mws: Slab::new(limits::MAX_MWS),
            connections: Slab::new(limits::MAX_CONNECTORS),
            lookups: Line::new(),
            by_conn: ByIndex::try_new(limits.max_connections)?,
            listeners: Slab::new(limits::MAX_CONNECTORS),
            by_listener: ByIndex::try_new(limits.max_listeners)?,
            shared: Slab::new(limits::MAX_CONNECTORS),
            ports: PortSpace::new(),
            addresses: LocalAddresses::default(),
            counters: ConnectionCounters::default(),
            frame: try_box_with(|| Ok::<_, NoMemory>(Transmit::new()))?,
            whole,
            frame_waits: false,
            timer_set: None,
            doubts: false,
            lanes_busy: 0,
            stopped: false,
            trace: trace.clone(),
            engine,
        })
    }

    /// The NIC has failed or is gone, and has given back what it had: ends everything that the engine does.
    pub fn fail(&mut self) {
        // A frame that waits for room is with nobody else.
        if core::mem::take(&mut self.frame_waits)
            && let Some(token) = self.frame.token
        {
            self.engine.transmitted(self.now, token);
        }
        self.engine.fail(self.now);
        self.end_lookups();
    }

    /// Takes the engine's events and notes what consumers must hear of them. True if there were any.
    pub fn take_events(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.engine.poll_event() {
            self.on_event(event);
            any = true;
        }
        any
    }

    /// Copies the current frame into one piece, [`State::whole`]: false if not all of it can be had.
    pub fn put_together(&mut self) -> bool {
        let Self {
            frame,
            whole,
            memory,
            ..
        } = self;
        whole.clear();
        let mut add = |bytes: &[u8]| {
            let fits = bytes.len() <= whole.capacity() - whole.len();
            if fits {
                whole.extend_from_slice(bytes);
            }
            fits
        };
        let mut all = add(&frame.header);
        for piece in &frame.pieces {
            let copied = memory.visit(piece.region, piece.offset, piece.len, &mut |bytes| {
                all &= add(bytes);
            });
            all &= copied.is_ok();
        }
        all && add(&frame.trailer)
    }

    /// The current frame is for this port itself: takes it in as if the NIC had received it.
    pub fn loop_back(&mut self) {
        let all = self.put_together();
        if let Some(token) = self.frame.token {
            self.engine.transmitted(self.now, token);
        }
        if all {
            // What is not RoCE after all is lost, as it would be on a wire.
            let _ = self.engine.receive(self.now, &self.whole, &mut self.memory);
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::CqNotify { cq, status } => {
                if let Some(entry) = self.cqs.get_mut(cq.index()) {
                    entry.due = true;
                    entry.status = status;
                    object::tell(entry.object.get());
                }
            }
            Event::SrqNotify { srq, status } => self.on_srq(srq, status),
            // The connection's own event follows, or has come; the requests have completed.
            Event::QpFatal { qp, status } => self.on_qp_fatal(qp, status),
            Event::PathDoubted { qp } => self.on_path_doubted(qp),
            Event::QpIdle { qp } => {
                if let Some(entry) = self.qps.clear(qp.index()) {
                    Qp::gone_quiet(entry.object.get());
                }
            }
            Event::RegionIdle { region, .. } => self.on_region_idle(region),
            Event::WindowIdle { window } => self.on_window_idle(Key::from_bits(window)),
            Event::ConnectRequest { listener, conn } => self.on_connect_request(listener, conn),
            Event::Replied { conn } => self.on_replied(conn),
            Event::ConnectFailed { conn, reason } | Event::EstablishFailed { conn, reason } => {
                self.on_connect_failed(conn, reason);
            }
            Event::Established { conn } => self.on_established(conn),
            Event::Disconnected { conn, reason } => self.on_disconnected(conn, reason),
            Event::DisconnectDone { conn, result } => self.on_disconnect_done(conn, result),
        }
    }

    /// Puts a new engine in the place of the old one, which comes back: there are no objects that refer to it.
    pub fn renew(&mut self, engine: Box<Engine>) -> Box<Engine> {
        self.counters.cq_errors += self.engine.counters().cq_errors;
        let old = core::mem::replace(&mut self.engine, engine);
        self.frame_waits = false;
        self.engine
            .set_addresses(self.addresses.iter().map(|local| local.ip));
        old
    }

    fn on_connect_request(&mut self, listener: ListenerId, conn: ConnId) {
        let taken = self.take_in(listener, conn).is_some();
        self.note_request(conn, taken);
        if !taken {
            // Nobody to ask: the peer hears what it would hear if nobody listened.
            self.counters.connect_failures += 1;
            let _ = self.engine.reject(self.now, conn, &[]);
            self.engine.forget(self.now, conn);
        }
    }

    /// Makes a connector for a request and queues its connect event.
    fn take_in(&mut self, listener: ListenerId, conn: ConnId) -> Option<()> {
        let key = *self.by_listener.get(listener.index())?;
        let listening = self.listeners.get(key)?;
        let (parent, endpoint) = (listening.open_object()?, listening.endpoint()?);
        let info = self.engine.connection(conn)?;
        let [local, peer] = [info.local, info.peer].map(|end| self.addresses.scoped(end));
        let connector = Connector::for_listener(parent)?;
        let entry = Connection::incoming(connector.listed(), conn, local, peer, endpoint);
        if !self.ports.share(endpoint) {
            connector.discard();
            return None;
        }
        match self.connections.insert(entry) {
            Ok(key) => {
                self.by_conn.set(conn.index(), key);
                object::tell(connector.admit(key));
                Some(())
            }
            Err(_) => {
                self.ports.release(endpoint);
                connector.discard();
                None
            }
        }
    }
}
