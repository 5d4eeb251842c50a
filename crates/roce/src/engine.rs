//! The engine of one adapter: every object table, and the way in and out for frames, time and events.

use crate::cm::Agent;
use crate::completion::Completion;
use crate::config::Config;
use crate::connection::{AcceptParams, CmError, ConnId, ConnInfo, ConnectParams, ListenerId};
use crate::counters::Counters;
use crate::cq::{Arm, Cq, CqId, CqSet, ResizeError};
use crate::event::Event;
use crate::key::{Access, DeregisterError, KeyTable, MrKey, RegisterError};
use crate::memory::{Memory, RegionId};
use crate::rc::{QpId, QpParams};
use crate::request::{PostError, SendRequest, Sge};
use crate::rng::Rng;
use crate::table::{OutOfMemory, Table, id};
use crate::time::Instant;
use crate::transmit::{Transmit, TxToken};
use core::net::IpAddr;

id! {
    /// A protection domain.
    PdId
}

impl PdId {
    /// A number below `Config::max_pds` that no other live protection domain has.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0.index as usize
    }
}

/// Why an object could not be created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CreateError {
    /// The configured number of such objects exists.
    TableFull,
    /// No memory.
    OutOfMemory,
    /// A parameter exceeds the configured limits, or is zero where that makes no sense.
    InvalidParameter,
    /// An object named in the parameters does not exist.
    UnknownObject,
}

/// Why an object could not be destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DestroyError {
    /// No such object.
    Unknown,
    /// Protection domains and completion queues: something still uses it, and it stays as it is. Queue pairs: it is dead, and
    /// an event follows when the NIC has given back its last transmission.
    Busy,
}

/// What became of a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It was RoCE and has been dealt with, if only by dropping and counting it.
    Consumed,
    /// It is somebody else's.
    NotRoce,
}

/// A RoCEv2 endpoint: the RDMA half of one adapter.
///
/// It does no I/O and reads no clock. Feed it frames ([`receive`](Self::receive)), work and the time; ask it for frames
/// ([`poll_transmit`](Self::poll_transmit)), events ([`poll_event`](Self::poll_event)) and its next deadline. No function blocks,
/// calls back, or allocates except those that create objects.
pub struct Engine {
    config: Config,
    rng: Rng,
    pds: Table<Pd>,
    cqs: CqSet,
    keys: KeyTable,
    cm: Agent,
    counters: Counters,
}

#[derive(Default)]
struct Pd {
    /// Queue pairs and keys.
    users: u32,
}

#[expect(unused_variables, reason = "skeleton: signatures first")]
impl Engine {
    /// An engine with nothing in it. Limits in `config` beyond what the protocol or the engine can do are lowered.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(config: &Config) -> Result<Engine, OutOfMemory> {
        let config = config.clamped();
        let mut rng = Rng::new(config.seed);
        Ok(Engine {
            pds: Table::try_new(config.max_pds)?,
            cqs: CqSet::try_new(config.max_cqs)?,
            keys: KeyTable::try_new(config.max_keys, &mut rng)?,
            cm: Agent::try_new(&config, &mut rng)?,
            counters: Counters::default(),
            rng,
            config,
        })
    }

    /// The configuration in effect, after the limits have been applied.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Creates a protection domain.
    ///
    /// # Errors
    /// [`CreateError::TableFull`].
    pub fn create_pd(&mut self) -> Result<PdId, CreateError> {
        self.pds
            .insert(Pd::default())
            .map(PdId)
            .map_err(|_| CreateError::TableFull)
    }

    /// Destroys a protection domain.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] while it has queue pairs or keys.
    pub fn destroy_pd(&mut self, pd: PdId) -> Result<(), DestroyError> {
        match self.pds.get(pd.0) {
            None => Err(DestroyError::Unknown),
            Some(p) if p.users > 0 => Err(DestroyError::Busy),
            Some(_) => {
                self.pds.remove(pd.0);
                Ok(())
            }
        }
    }

    /// Creates a completion queue for `depth` entries, 1 to `Config::max_cq_depth`.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_cq(&mut self, depth: u32) -> Result<CqId, CreateError> {
        if depth == 0 || depth > self.config.max_cq_depth {
            return Err(CreateError::InvalidParameter);
        }
        if self.cqs.is_full() {
            return Err(CreateError::TableFull);
        }
        let cq = Cq::try_new(depth).map_err(|OutOfMemory| CreateError::OutOfMemory)?;
        self.cqs.insert(cq).ok_or(CreateError::TableFull)
    }

    /// Changes a completion queue's depth; its entries stay.
    ///
    /// # Errors
    /// [`ResizeError`].
    pub fn resize_cq(&mut self, cq: CqId, depth: u32) -> Result<(), ResizeError> {
        self.cqs.resize(cq, depth)
    }

    /// Destroys a completion queue and the entries in it.
    ///
    /// # Errors
    /// [`DestroyError::Busy`] while queue pairs use it.
    pub fn destroy_cq(&mut self, cq: CqId) -> Result<(), DestroyError> {
        match self.cqs.get_mut(cq) {
            None => Err(DestroyError::Unknown),
            Some(c) if c.users > 0 => Err(DestroyError::Busy),
            Some(_) => {
                self.cqs.remove(cq);
                Ok(())
            }
        }
    }

    /// Takes entries out of a completion queue, oldest first. Gives how many.
    pub fn poll_cq(&mut self, cq: CqId, out: &mut [Completion]) -> usize {
        self.cqs.poll(cq, out)
    }

    /// Asks for one [`Event::CqNotify`]. A second request before that event widens the first.
    pub fn arm_cq(&mut self, cq: CqId, arm: Arm) {
        self.cqs.arm(cq, arm);
    }

    /// Creates a queue pair. Receives can be posted at once, sends when a connection is established.
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_qp(&mut self, params: &QpParams) -> Result<QpId, CreateError> {
        Err(CreateError::TableFull)
    }

    /// Destroys a queue pair: flushes it first, and says nothing to its peer (see [`forget`](Self::forget)).
    ///
    /// # Errors
    /// [`DestroyError::Busy`] if the NIC still reads its memory; [`Event::QpIdle`] follows.
    pub fn destroy_qp(&mut self, qp: QpId) -> Result<(), DestroyError> {
        Err(DestroyError::Unknown)
    }

    /// The queue pair's number on the wire.
    #[must_use]
    pub fn qp_number(&self, qp: QpId) -> Option<u32> {
        None
    }

    /// Registers memory: `len` bytes that the peer and work requests address from `base_va` on.
    ///
    /// # Errors
    /// [`RegisterError`].
    pub fn register(
        &mut self,
        pd: PdId,
        base_va: u64,
        len: u64,
        access: Access,
        region: RegionId,
    ) -> Result<MrKey, RegisterError> {
        let users = &mut self
            .pds
            .get_mut(pd.0)
            .ok_or(RegisterError::UnknownPd)?
            .users;
        let key = self.keys.register(pd, base_va, len, access, region)?;
        *users += 1;
        Ok(key)
    }

    /// Ends a registration. The key is dead at once, also for requests already posted.
    ///
    /// # Errors
    /// [`DeregisterError::Busy`] if the NIC still reads the memory; [`Event::RegionIdle`] follows.
    pub fn deregister(&mut self, key: MrKey) -> Result<(), DeregisterError> {
        let (pd, result) = match self.keys.deregister(key) {
            Ok(pd) => (Some(pd), Ok(())),
            Err((error, pd)) => (pd, Err(error)),
        };
        if let Some(p) = pd.and_then(|pd| self.pds.get_mut(pd.0)) {
            p.users = p.users.saturating_sub(1);
        }
        result
    }

    /// Posts a request to a send queue.
    ///
    /// # Errors
    /// [`PostError`]; requests deferred earlier go out all the same.
    pub fn post_send(
        &mut self,
        now: Instant,
        qp: QpId,
        request: &SendRequest<'_>,
    ) -> Result<(), PostError> {
        Err(PostError::UnknownQp)
    }

    /// Posts a receive. In a failed or flushed queue pair it completes as flushed.
    ///
    /// # Errors
    /// [`PostError`].
    pub fn post_recv(&mut self, qp: QpId, context: u64, sgl: &[Sge]) -> Result<(), PostError> {
        Err(PostError::UnknownQp)
    }

    /// Completes everything pending on both queues as flushed; requests that the NIC still reads follow when it is done with
    /// them. A queue pair that is or was connected takes no further sends.
    pub fn flush(&mut self, qp: QpId) {}

    /// Takes one received Ethernet frame, without its FCS. What it causes to be sent is ready for `poll_transmit` afterwards.
    pub fn receive<M: Memory>(&mut self, now: Instant, frame: &[u8], memory: &mut M) -> Verdict {
        Verdict::NotRoce
    }

    /// Writes the next frame to send. False if there is none, or none may be sent before the NIC has given something back.
    pub fn poll_transmit<M: Memory>(
        &mut self,
        now: Instant,
        memory: &M,
        out: &mut Transmit,
    ) -> bool {
        false
    }

    /// The NIC is done with a transmission. A token that is not outstanding is ignored.
    pub fn transmitted(&mut self, token: TxToken) {}

    /// When [`handle_timeout`](Self::handle_timeout) is due at the latest. May be early, is never late.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.cm.next_deadline()
    }

    /// Acts on deadlines that have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.cm.handle_timeout(now);
    }

    /// The next event. Connection events come before notifications of completion queues.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.cm.poll_event() {
            return Some(event);
        }
        if let Some((cq, status)) = self.cqs.pop_notification() {
            return Some(Event::CqNotify { cq, status });
        }
        self.keys
            .pop_idle()
            .map(|region| Event::RegionIdle { region })
    }

    /// Counters since creation.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Listens for connections to a port at one local address, or at all of its family if it is the unspecified one.
    ///
    /// # Errors
    /// [`CmError::AddressInUse`], [`CmError::TableFull`].
    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        self.cm.listen(addr, port)
    }

    /// Stops listening. Connections that came in stay.
    ///
    /// # Errors
    /// [`CmError::Unknown`].
    pub fn unlisten(&mut self, listener: ListenerId) -> Result<(), CmError> {
        self.cm.unlisten(listener)
    }

    /// While paused, requests are answered as if nobody listened.
    ///
    /// # Errors
    /// [`CmError::Unknown`].
    pub fn pause_listener(&mut self, listener: ListenerId, pause: bool) -> Result<(), CmError> {
        self.cm.pause_listener(listener, pause)
    }

    /// Asks a peer for a connection. [`Event::Replied`] or [`Event::ConnectFailed`] follows.
    ///
    /// # Errors
    /// [`CmError`].
    pub fn connect(&mut self, now: Instant, params: &ConnectParams<'_>) -> Result<ConnId, CmError> {
        Err(CmError::QpUnusable)
    }

    /// Accepts a connection request. [`Event::Established`] or [`Event::EstablishFailed`] follows.
    ///
    /// # Errors
    /// [`CmError`].
    pub fn accept(
        &mut self,
        now: Instant,
        conn: ConnId,
        params: &AcceptParams<'_>,
    ) -> Result<(), CmError> {
        Err(CmError::QpUnusable)
    }

    /// Rejects a connection request, or on the connecting side the reply. No event follows.
    ///
    /// # Errors
    /// [`CmError`].
    pub fn reject(&mut self, now: Instant, conn: ConnId, data: &[u8]) -> Result<(), CmError> {
        self.cm.reject(now, conn, data)
    }

    /// Completes a connection after [`Event::Replied`]. [`Event::Established`] follows.
    ///
    /// # Errors
    /// [`CmError`].
    pub fn establish(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        self.cm.establish(now, conn).map(|_| ())
    }

    /// Ends an established connection: flushes its queue pair, tells the peer, and [`Event::DisconnectDone`] follows when the
    /// peer has answered (or the time is up), everything is flushed and no transmission of the queue pair is left in the NIC.
    ///
    /// # Errors
    /// [`CmError`].
    pub fn disconnect(&mut self, now: Instant, conn: ConnId) -> Result<(), CmError> {
        self.cm.disconnect(now, conn)
    }

    /// Gives a connection up, in whatever state: tells the peer as its state demands, and reports nothing more of it. The id is
    /// invalid afterwards. Every connection that was ever reported or returned is owed one call.
    pub fn forget(&mut self, now: Instant, conn: ConnId) {
        self.cm.forget(now, conn);
    }

    /// What is known about a connection.
    #[must_use]
    pub fn connection(&self, conn: ConnId) -> Option<&ConnInfo> {
        self.cm.connection(conn)
    }
}
