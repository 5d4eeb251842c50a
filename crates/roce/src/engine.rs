//! The engine of one adapter: every object table, and the way in and out for frames, time and events.

mod connections;
mod fail;
mod io;
mod objects;
mod shared_receive;
mod work;

use crate::cm::Agent;
use crate::config::Config;
use crate::connection::{ConnId, DisconnectResult};
use crate::counters::Counters;
use crate::cq::CqSet;
use crate::event::Event;
use crate::key::KeyTable;
use crate::numbers::{Numbers, QPNS};
use crate::path::PathMtu;
use crate::rc::early::EarlyFrames;
use crate::rc::qp::{InFlight, Qp, Shared};
use crate::rc::{QpId, QpParams};
use crate::rng::Rng;
use crate::srq::SrqSet;
use crate::table::{IndexList, OutOfMemory, Table, id};
use crate::time::Instant;
use crate::timers::Timers;
use core::ops::RangeInclusive;

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
    /// A completion queue or shared receive queue named in the parameters has failed.
    DeadQueue,
    /// [`Engine::fail`] was called.
    EngineFailed,
}

impl From<OutOfMemory> for CreateError {
    fn from(OutOfMemory: OutOfMemory) -> CreateError {
        CreateError::OutOfMemory
    }
}

/// Why an object could not be destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DestroyError {
    /// No such object.
    Unknown,
    /// Protection domains, completion queues and shared receive queues: something still uses it, and it stays as it is. Queue pairs: it is dead, and
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

/// Objects that exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Protection domains.
    pub pds: u32,
    /// Completion queues.
    pub cqs: u32,
    /// Shared receive queues.
    pub srqs: u32,
    /// Queue pairs, dying ones included.
    pub qps: u32,
    /// Keys, dead ones not included.
    pub keys: u32,
    /// Transmissions that the NIC holds.
    pub transmissions: u32,
    /// Connections, those included that are over and only answer late messages.
    pub connections: u32,
    /// Packets that came early, with requests or with data, and wait for what comes before them.
    pub early: u32,
}

/// A RoCEv2 endpoint: the RDMA half of one adapter.
///
/// It does no I/O and reads no clock. Feed it frames ([`receive`](Self::receive)), work and the time; ask it for frames
/// ([`poll_transmit`](Self::poll_transmit)), events ([`poll_event`](Self::poll_event)) and its next deadline. No function blocks,
/// calls back, or allocates except those that create objects, connections that a peer asks for included: places in the tables are made
/// when no other is free, and kept. [`reserve`](Self::reserve) gets their memory beforehand.
pub struct Engine {
    config: Config,
    rng: Rng,
    /// The latest time told.
    now: Instant,
    pds: Table<Pd>,
    cqs: CqSet,
    srqs: SrqSet,
    keys: KeyTable,
    qps: Table<Qp>,
    qpns: Numbers,
    in_flight: Table<InFlight>,
    early: EarlyFrames,
    /// Queue pairs that may have something to send.
    ready: IndexList,
    /// Queue pairs whose next packet is an acknowledgement or a NAK: before the connection manager's frames, one of which may end the
    /// connection, and even when the NIC takes no more payload.
    answers: IndexList,
    /// Queue pairs with something to tell.
    news: IndexList,
    timers: Timers,
    cm: Agent,
    /// A message of the connection manager was sent last: it is the turn of data.
    data_first: bool,
    counters: Counters,
    failed: bool,
}

#[derive(Default)]
struct Pd {
    /// Queue pairs, shared receive queues and keys.
    users: u32,
}

impl Engine {
    /// An engine with nothing in it. Limits in `config` beyond what the protocol or the engine can do are lowered.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(config: &Config) -> Result<Engine, OutOfMemory> {
        Engine::with_qpns(config, QPNS)
    }

    /// The same with queue pairs' numbers from a range.
    fn with_qpns(config: &Config, qpns: RangeInclusive<u32>) -> Result<Engine, OutOfMemory> {
        let config = config.clamped();
        let mut rng = Rng::from_seed(config.seed);
        Ok(Engine {
            now: Instant::ZERO,
            pds: Table::try_new(config.max_pds)?,
            cqs: CqSet::try_new(config.max_cqs)?,
            srqs: SrqSet::try_new(config.max_srqs)?,
            keys: KeyTable::try_new(config.max_keys, &mut rng)?,
            qps: Table::try_new(config.max_qps)?,
            // Numbers of connections rest with these. Who agreed with a peer by other means gets some rest, too.
            qpns: Numbers::try_new(qpns, config.max_qps, config.max_connections, &mut rng)?,
            in_flight: Table::try_fixed(config.max_transmissions)?,
            early: EarlyFrames::try_new(
                config.early_frames,
                PathMtu::for_link(config.local_mtu).bytes(),
            )?,
            ready: IndexList::try_new(config.max_qps)?,
            answers: IndexList::try_new(config.max_qps)?,
            news: IndexList::try_new(config.max_qps)?,
            timers: Timers::try_new(config.max_qps)?,
            cm: Agent::try_new(&config, &mut rng)?,
            data_first: false,
            counters: Counters::default(),
            failed: false,
            rng,
            config,
        })
    }

    /// Gets the memory that so many queue pairs and connections need in the tables, or as many as there can be, those that there are and
    /// connections that rest included: up to there nothing that connects, or that a peer asks for, gets any, and of what creates queue
    /// pairs only [`QpMemory::try_new`](crate::QpMemory::try_new) does.
    ///
    /// # Errors
    /// No memory. What has been had is kept.
    pub fn reserve(&mut self, qps: u32, connections: u32) -> Result<(), OutOfMemory> {
        self.qps.reserve(qps)?;
        self.cm.reserve(connections)
    }

    /// The configuration in effect, after the limits have been applied.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters since creation.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How many objects there are.
    #[must_use]
    pub fn usage(&self) -> Usage {
        Usage {
            pds: self.pds.len(),
            cqs: self.cqs.len(),
            srqs: self.srqs.len(),
            qps: self.qps.len(),
            keys: self.keys.len(),
            transmissions: self.in_flight.len(),
            connections: self.cm.len(),
            early: self.early.len(),
        }
    }

    fn see(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.cqs.see(self.now);
    }

    /// Runs `f` on a queue pair with everything that queue pairs share, then sees to what follows from it.
    fn with_qp<R>(&mut self, id: QpId, f: impl FnOnce(&mut Qp, &mut Shared<'_>) -> R) -> Option<R> {
        let result = self.with_qp_only(id, f);
        if let Some(qp) = self.qps.get(id.0)
            && qp.has_work()
        {
            self.ready.push(id.0.index);
        }
        self.fail_users_of_dead_queues();
        result
    }

    /// The same for what gives the queue pair nothing more to send; `f` says whether it has something all the same.
    fn with_qp_sending(
        &mut self,
        id: QpId,
        f: impl FnOnce(&mut Qp, &mut Shared<'_>) -> bool,
    ) -> bool {
        let more = self.with_qp_only(id, f).unwrap_or(false);
        if more {
            self.ready.push(id.0.index);
        }
        self.fail_users_of_dead_queues();
        more
    }

    fn with_qp_only<R>(
        &mut self,
        id: QpId,
        f: impl FnOnce(&mut Qp, &mut Shared<'_>) -> R,
    ) -> Option<R> {
        let qp = self.qps.get_mut(id.0)?;
        let mut shared = Shared {
            keys: &mut self.keys,
            cqs: &mut self.cqs,
            srqs: &mut self.srqs,
            in_flight: &mut self.in_flight,
            early: &mut self.early,
            counters: &mut self.counters,
            dcqcn: self.config.ecn.dcqcn(),
        };
        let result = f(qp, &mut shared);
        qp.drop_kept(&mut self.early, &mut self.counters);
        if let Some(at) = qp.deadline() {
            self.timers.wake(id.0.index, at);
        }
        if qp.has_news() {
            self.news.push(id.0.index);
        }
        if core::mem::take(&mut qp.peer_spoke)
            && let Some(conn) = qp.conn
        {
            self.cm.communication_established(conn);
        }
        if core::mem::take(&mut qp.peer_lives)
            && let Some(conn) = qp.conn
        {
            self.cm.heard(conn);
        }
        if qp.has_answer() {
            self.answers.push(id.0.index);
        }
        if qp.take_broke()
            && let Some(conn) = qp.conn
        {
            self.cm.abort(self.now, conn);
        }
        Some(result)
    }

    /// Fails every queue pair that uses a completion queue or a shared receive queue that has failed since.
    #[inline]
    fn fail_users_of_dead_queues(&mut self) {
        if self.cqs.failed > 0 || self.srqs.failed {
            self.fail_users();
        }
    }

    #[cold]
    fn fail_users(&mut self) {
        // Failing a queue pair can fail its other completion queue.
        loop {
            let failed = core::mem::take(&mut self.cqs.failed);
            self.counters.cq_errors = self.counters.cq_errors.wrapping_add(u64::from(failed));
            if failed == 0 && !core::mem::take(&mut self.srqs.failed) {
                return;
            }
            for index in 0..self.qps.slots() {
                let Some((slot, qp)) = self.qps.at_mut(index) else {
                    continue;
                };
                let QpParams {
                    send_cq,
                    recv_cq,
                    srq,
                    ..
                } = qp.params;
                if self.cqs.has_failed(send_cq)
                    || self.cqs.has_failed(recv_cq)
                    || srq.is_some_and(|srq| self.srqs.has_failed(srq))
                {
                    self.with_qp_only(QpId(slot), Qp::fail_for_queue);
                }
            }
        }
    }

    /// The next event. Events of queue pairs and connections come before notifications of queues.
    pub fn poll_event(&mut self) -> Option<Event> {
        while let Some(index) = self.news.pop() {
            if let Some(event) = self.qp_news(index) {
                return Some(event);
            }
        }
        while let Some(event) = self.cm.poll_event() {
            if let Some(event) = self.on_connection_event(event) {
                return Some(event);
            }
        }
        if let Some((cq, status)) = self.cqs.pop_notification() {
            return Some(Event::CqNotify { cq, status });
        }
        if let Some((srq, status)) = self.srqs.pop_notification() {
            return Some(Event::SrqNotify { srq, status });
        }
        self.keys.pop_idle()
    }

    /// What one queue pair has to tell, one thing at a time.
    fn qp_news(&mut self, index: u32) -> Option<Event> {
        let (slot, qp) = self.qps.at_mut(index)?;
        let id = QpId(slot);
        if let Some(status) = qp.untold_failure.take() {
            if qp.has_news() {
                self.news.push(index);
            }
            return Some(Event::QpFatal { qp: id, status });
        }
        if qp.take_doubt() {
            if qp.has_news() {
                self.news.push(index);
            }
            return Some(Event::PathDoubted { qp: id });
        }
        if let Some(event) = disconnect_done(qp) {
            if qp.has_news() {
                self.news.push(index);
            }
            return Some(event);
        }
        if qp.dying && qp.is_quiet() {
            self.remove_qp(id);
            return Some(Event::QpIdle { qp: id });
        }
        None
    }
}

/// The end of a disconnect that waited for transmissions.
fn disconnect_done(qp: &mut Qp) -> Option<Event> {
    if !qp.is_quiet() {
        return None;
    }
    let (conn, result): (ConnId, DisconnectResult) = qp.disconnected.take()?;
    Some(Event::DisconnectDone { conn, result })
}
