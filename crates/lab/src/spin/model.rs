//! What the walk knows of its objects: enough to stay within what NDKPI allows a consumer, and to tell which answers are right.
//!
//! Callbacks interrupt calls, and what happens on other processors does too. So an operation looks at the model and notes what it is
//! about to do, calls without holding the model, and looks again: between the two anything may have happened.

use super::chance::Chance;
use super::data::{GroundId, Grounds};
use super::raw::{Raw, Sizes};
use super::request::{Message, Request};
use super::slot::Slot;
use super::tally::Tally;
use crate::status;
use ndkpi::status::*;
use ndkpi::{NDK_LOGICAL_ADDRESS, NTSTATUS};
use ntsim::ndk::{Buffer, bookkeeping};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Names an object of the epoch, for good.
pub(super) type Id = usize;

/// Kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pd,
    Cq,
    Qp,
    Srq,
    Mr,
    Mw,
    Connector,
    Listener,
    SharedEndpoint,
}

impl Kind {
    pub(super) const ALL: [Kind; 9] = [
        Kind::Pd,
        Kind::Cq,
        Kind::Qp,
        Kind::Srq,
        Kind::Mr,
        Kind::Mw,
        Kind::Connector,
        Kind::Listener,
        Kind::SharedEndpoint,
    ];

    /// So many of a kind an adapter has at a time.
    pub(super) fn crowd(self) -> usize {
        match self {
            Kind::Pd | Kind::Srq | Kind::SharedEndpoint => 3,
            Kind::Cq | Kind::Mr => 8,
            Kind::Qp | Kind::Connector => 12,
            Kind::Mw => 4,
            Kind::Listener => 5,
        }
    }
}

/// How far an object got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unborn,
    Live,
    Closing,
    Closed,
}

/// A completion queue.
#[derive(Debug, Default)]
pub(super) struct Cq {
    /// NdkArmCq or NdkGetCqResults runs, which the consumer serialises.
    pub(super) busy: bool,
    /// Its depth, or the least that it may have while it is resized.
    pub(super) depth: u64,
    pub(super) resizing: bool,
    /// More requests were posted than it has entries, or it is dead for another reason.
    pub(super) overrun: bool,
    /// Queue pairs whose results may come here.
    pub(super) qps: Vec<Id>,
}

/// A queue pair.
#[derive(Debug)]
pub(super) struct Qp {
    pub(super) pd: Id,
    pub(super) receive_cq: Id,
    pub(super) initiator_cq: Id,
    pub(super) srq: Option<Id>,
    pub(super) sizes: Sizes,
    /// Posts run, which the consumer serialises queue by queue.
    pub(super) initiating: bool,
    pub(super) receiving: bool,
    /// The connector that it was given to last.
    pub(super) connector: Option<Id>,
    /// It was given to a connector, or flushed: its queues are no longer the walk's alone.
    pub(super) touched: bool,
    /// It was given to a connector.
    pub(super) given: bool,
    /// Calls run that give it to a connector although the walk has it at another, or the connector not waiting for one.
    pub(super) claims: u32,
    /// Such a call was taken: the walk does not know what it is connected with.
    pub(super) strayed: bool,
    /// A request has failed, as far as the walk was told.
    pub(super) dead: bool,
    /// Number of the last request of the queues.
    pub(super) numbers: [u32; 2],
    /// Requests without a result.
    pub(super) requests: [VecDeque<Request>; 2],
    /// What the partner has sent and did not arrive yet.
    pub(super) messages: VecDeque<Message>,
}

impl Qp {
    pub(super) fn new(
        pd: Id,
        receive_cq: Id,
        initiator_cq: Id,
        srq: Option<Id>,
        sizes: Sizes,
    ) -> Qp {
        Qp {
            pd,
            receive_cq,
            initiator_cq,
            srq,
            sizes,
            initiating: false,
            receiving: false,
            connector: None,
            touched: false,
            given: false,
            claims: 0,
            strayed: false,
            dead: false,
            numbers: [0; 2],
            requests: Default::default(),
            messages: VecDeque::new(),
        }
    }
}

/// A shared receive queue.
#[derive(Debug, Default)]
pub(super) struct Srq {
    pub(super) pd: Id,
    pub(super) depth: u32,
    pub(super) sges: u32,
    pub(super) receiving: bool,
    pub(super) number: u32,
    pub(super) requests: VecDeque<Request>,
}

/// A memory region.
#[derive(Default)]
pub(super) struct Mr {
    pub(super) pd: Id,
    pub(super) fast: bool,
    /// What it is registered over.
    pub(super) ground: Option<GroundId>,
    /// Deregistrations that were begun.
    pub(super) deregistrations: u32,
    /// One was begun while the last registration was: nobody knows which came first.
    pub(super) unsure: bool,
    /// It was initialised for fast registration, so that its memory may be the peer's too.
    pub(super) initialised: Option<bool>,
    pub(super) named: Option<Named>,
}

/// Memory that tokens name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// All of a buffer.
    pub(super) ground: GroundId,
    pub(super) local: u32,
    pub(super) remote: u32,
    /// By the tokens everything is allowed.
    pub(super) open: bool,
    /// They name it already.
    pub(super) ready: bool,
}

impl Named {
    /// Whether a request that uses it should succeed.
    pub(super) fn is_good(&self) -> bool {
        self.open && self.ready && self.remote != 0
    }
}

/// A memory window.
#[derive(Default)]
pub(super) struct Mw {
    pub(super) pd: Id,
    /// The region that it is a window on, and the QP that made it one.
    pub(super) mr: Option<Id>,
    pub(super) qp: Option<Id>,
    pub(super) named: Option<Named>,
}

/// How far a connection got, as far as the consumer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Connecting,
    Replied,
    Incoming,
    Establishing,
    Connected,
    PeerGone,
    Disconnecting,
    Over,
    /// Of two calls at a time another one was taken than the walk thought.
    Unsure,
}

/// A connector.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) phase: Phase,
    pub(super) qp: Option<Id>,
    /// The connect that is on its way, or was.
    pub(super) attempt: usize,
    /// The other end, if its connector is one of the walk's.
    pub(super) peer: Option<Id>,
    /// Reads in progress that the other end may have here, and this one there.
    pub(super) limits: (u32, u32),
}

impl Connector {
    pub(super) fn new(phase: Phase) -> Connector {
        Connector {
            phase,
            qp: None,
            attempt: 0,
            peer: None,
            limits: (0, 0),
        }
    }
}

/// A listener.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// It has been told to listen.
    pub(super) told: bool,
    /// Where it does.
    pub(super) at: Option<SocketAddr>,
}

/// What only some kinds have.
pub(super) enum Body {
    Pd { privileged: Option<u32> },
    Cq(Cq),
    Qp(Qp),
    Srq(Srq),
    Mr(Mr),
    Mw(Mw),
    Connector(Connector),
    Listener(Listener),
    SharedEndpoint,
}

/// An object.
pub(super) struct Object {
    pub(super) side: usize,
    pub(super) kind: Kind,
    pub(super) state: State,
    raw: Option<Raw>,
    /// Calls that need it and have not returned, nor been completed.
    users: u32,
    /// Requests of its side, and of the peer's, that name it.
    pub(super) local: u32,
    pub(super) remote: u32,
    /// A request is about to change what it names.
    pub(super) changing: bool,
    pub(super) body: Body,
}

macro_rules! bodies {
    ($( $name:ident: $kind:ident $body:ty; )*) => {
        impl Model {
            $(
                pub(super) fn $name(&mut self, id: Id) -> &mut $body {
                    match &mut self.objects[id].body {
                        Body::$kind(body) => body,
                        _ => unreachable!("the walk knows the kinds of its objects"),
                    }
                }
            )*
        }
    };
}

bodies! {
    cq: Cq Cq;
    qp: Qp Qp;
    srq: Srq Srq;
    mr: Mr Mr;
    mw: Mw Mw;
    connector: Connector Connector;
    listener: Listener Listener;
}

/// A logical address mapping.
pub(super) struct Lam {
    pub(super) ground: GroundId,
    /// Where the mapping is.
    pub(super) memory: Buffer,
    pub(super) first_byte: u32,
    pub(super) pages: Vec<NDK_LOGICAL_ADDRESS>,
    /// Requests or registrations may name its pages: it stays until there can be none.
    pub(super) used: bool,
}

/// A consumer's open adapter.
pub(super) struct Side {
    pub(super) machine: usize,
    pub(super) adapter: Option<Raw>,
    pub(super) is_2_1: bool,
    /// Everything is being closed.
    pub(super) leaving: bool,
    /// Live objects by kind.
    live: [Vec<Id>; Kind::ALL.len()],
    pub(super) lams: Vec<Lam>,
    /// Memory for inline requests.
    pub(super) scratch: Option<GroundId>,
    /// Calls that have not returned.
    calls: u32,
    /// Objects whose creation or close pends.
    unfinished: u32,
}

/// A machine.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    /// Allocations fail or have failed.
    pub(super) famine: bool,
    /// Its adapter was removed by surprise.
    pub(super) removed: bool,
    /// NDK is disabled there, or has been.
    pub(super) disabled: bool,
}

/// A call with what it needs until it is done.
pub(super) struct Token {
    pub(super) slot: Slot,
    pub(super) side: usize,
    /// What it creates, or is about.
    pub(super) object: Option<Id>,
    users: Vec<Id>,
    released: bool,
    /// Completions so far.
    pub(super) completed: Option<NTSTATUS>,
    /// Memory that it holds, and whether everything will be allowed there.
    pub(super) ground: Option<GroundId>,
    pub(super) open: bool,
    /// The connector whose phase it changes.
    pub(super) connector: Option<Id>,
}

/// All that the walk knows.
pub(super) struct Model {
    pub(super) chance: Chance,
    pub(super) tally: Tally,
    /// In this epoch the consumers do what they must not.
    pub(super) careless: bool,
    pub(super) grounds: Grounds,
    pub(super) sides: Vec<Side>,
    pub(super) objects: Vec<Object>,
    pub(super) tokens: Vec<Token>,
    pub(super) hosts: Vec<Host>,
    /// Callbacks that run.
    pub(super) nested: u32,
    /// The first thing that was wrong.
    pub(super) fault: Option<String>,
}

thread_local! {
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
}

/// Looks at the model. Nothing may be called from inside that lets the world go on.
pub(super) fn with<R>(f: impl FnOnce(&mut Model) -> R) -> R {
    let _host = bookkeeping();
    MODEL.with_borrow_mut(|model| f(model.as_mut().expect("an epoch has a model")))
}

/// Begins an epoch.
pub(super) fn begin(model: Model) {
    MODEL.set(Some(model));
}

/// Ends it.
pub(super) fn end() -> Option<Model> {
    MODEL.take()
}

impl Model {
    pub(super) fn new(chance: Chance, careless: bool, machines: usize) -> Model {
        Model {
            chance,
            tally: Tally::default(),
            careless,
            grounds: Grounds::default(),
            sides: Vec::new(),
            objects: Vec::new(),
            tokens: Vec::new(),
            hosts: vec![Host::default(); machines],
            nested: 0,
            fault: None,
        }
    }

    /// A consumer that has no adapter open yet.
    pub(super) fn add_side(&mut self, machine: usize) -> usize {
        self.sides.push(Side {
            machine,
            adapter: None,
            is_2_1: true,
            leaving: false,
            live: Default::default(),
            lams: Vec::new(),
            scratch: None,
            calls: 0,
            unfinished: 0,
        });
        self.sides.len() - 1
    }

    /// Notes that something is wrong.
    pub(super) fn fault(&mut self, text: String) {
        self.fault.get_or_insert(text);
    }

    /// The adapter of a side, if calls may be made on it.
    pub(super) fn adapter(&self, side: usize) -> Option<Raw> {
        let side = &self.sides[side];
        side.adapter.filter(|_| !side.leaving)
    }

    /// Whether the side has all of a kind that it wants.
    pub(super) fn crowded(&self, side: usize, kind: Kind) -> bool {
        self.live(side, kind).len() >= kind.crowd()
    }

    /// Its live objects of a kind.
    pub(super) fn live(&self, side: usize, kind: Kind) -> &[Id] {
        &self.sides[side].live[kind as usize]
    }

    /// One of them, if calls may be made.
    pub(super) fn some(&mut self, side: usize, kind: Kind) -> Option<Id> {
        self.adapter(side)?;
        let live = &self.sides[side].live[kind as usize];
        self.chance.pick(live)
    }

    /// One of them for which that holds.
    pub(super) fn some_where(
        &mut self,
        side: usize,
        kind: Kind,
        holds: impl Fn(&mut Model, Id) -> bool,
    ) -> Option<Id> {
        self.adapter(side)?;
        let count = self.live(side, kind).len();
        let start = self.chance.index(count.max(1));
        (0..count).find_map(|n| {
            let id = self.live(side, kind)[(start + n) % count];
            holds(self, id).then_some(id)
        })
    }

    /// An object as the provider knows it.
    pub(super) fn raw(&self, id: Id) -> Raw {
        self.objects[id].raw.expect("a live object")
    }

    pub(super) fn is_live(&self, id: Id) -> bool {
        self.objects[id].state == State::Live
    }

    /// An object that is about to be created.
    pub(super) fn unborn(&mut self, side: usize, kind: Kind, body: Body) -> Id {
        self.objects.push(Object {
            side,
            kind,
            state: State::Unborn,
            raw: None,
            users: 0,
            local: 0,
            remote: 0,
            changing: false,
            body,
        });
        self.sides[side].unfinished += 1;
        self.objects.len() - 1
    }

    /// It is there.
    pub(super) fn born(&mut self, id: Id, raw: Raw) {
        let object = &mut self.objects[id];
        object.state = State::Live;
        object.raw = Some(raw);
        let side = &mut self.sides[object.side];
        side.live[object.kind as usize].push(id);
        side.unfinished -= 1;
    }

    /// It will not be.
    pub(super) fn stillborn(&mut self, id: Id) {
        let object = &mut self.objects[id];
        object.state = State::Closed;
        self.sides[object.side].unfinished -= 1;
    }

    /// Notes that a call begins which needs these objects.
    pub(super) fn call(&mut self, side: usize, slot: Slot, users: &[Id]) -> usize {
        for id in users {
            self.objects[*id].users += 1;
        }
        self.sides[side].calls += 1;
        if self.nested > 0 {
            self.tally.nested += 1;
        }
        self.tokens.push(Token {
            slot,
            side,
            object: users.first().copied(),
            users: users.to_vec(),
            released: false,
            completed: None,
            ground: None,
            open: false,
            connector: None,
        });
        self.tokens.len() - 1
    }

    /// The objects may be closed as far as the call is concerned.
    fn release(&mut self, token: usize) {
        let token = &mut self.tokens[token];
        if !std::mem::replace(&mut token.released, true) {
            for id in std::mem::take(&mut token.users) {
                self.objects[id].users -= 1;
            }
        }
    }

    /// A function without a status has returned.
    pub(super) fn over(&mut self, token: usize) {
        self.release(token);
        let Token { slot, side, .. } = self.tokens[token];
        self.tally.call(slot, None);
        self.sides[side].calls -= 1;
    }

    /// A function was not called after all, for lack of memory.
    pub(super) fn not_called(&mut self, token: usize) {
        self.release(token);
        let side = self.tokens[token].side;
        self.sides[side].calls -= 1;
    }

    /// A function has returned with a status, which should be one of these.
    pub(super) fn returned(&mut self, token: usize, status: NTSTATUS, right: &[NTSTATUS]) {
        self.release(token);
        let Token { slot, side, .. } = self.tokens[token];
        self.tally.call(slot, Some(status));
        self.sides[side].calls -= 1;
        self.judge(token, "returned", status, right);
    }

    /// Whether a lack of memory, or of the NIC, is an answer now.
    fn excused(&self, side: usize, status: NTSTATUS) -> bool {
        let host = &self.hosts[self.sides[side].machine];
        match status {
            STATUS_INSUFFICIENT_RESOURCES => host.famine,
            STATUS_DEVICE_REMOVED => host.removed,
            _ => false,
        }
    }

    /// Whether the adapter of an object has been removed by surprise: its queues fail.
    pub(super) fn has_lost_its_device(&self, id: Id) -> bool {
        let side = &self.sides[self.objects[id].side];
        self.hosts[side.machine].removed
    }

    /// A status should be one of these.
    pub(super) fn judge(&mut self, token: usize, how: &str, status: NTSTATUS, right: &[NTSTATUS]) {
        let Token {
            slot, side, object, ..
        } = self.tokens[token];
        if right.contains(&status) || self.excused(side, status) {
            return;
        }
        let (table, name) = slot.name();
        let right: Vec<_> = right.iter().map(|s| status::name(*s)).collect();
        self.fault(format!(
            "{table} {name} (object {object:?} of side {side}) {how} {}; right would be {}",
            status::name(status),
            right.join(", ")
        ));
    }

    /// The completion callback of a request was called.
    pub(super) fn complete(&mut self, token: usize, status: NTSTATUS, right: &[NTSTATUS]) {
        self.release(token);
        self.tokens[token].completed = Some(status);
        self.judge(token, "was completed with", status, right);
    }

    /// More than one call needs the object.
    pub(super) fn is_shared(&self, id: Id) -> bool {
        self.objects[id].users > 1
    }

    /// The walk may close an object: nobody is calling it.
    pub(super) fn can_close(&self, id: Id) -> bool {
        let object = &self.objects[id];
        object.state == State::Live && object.users == 0
    }

    /// Notes that an object is being closed.
    pub(super) fn close(&mut self, id: Id, slot: Slot) -> usize {
        let object = &mut self.objects[id];
        object.state = State::Closing;
        let side = object.side;
        let live = &mut self.sides[side].live[object.kind as usize];
        live.retain(|other| *other != id);
        self.sides[side].unfinished += 1;
        self.close_windows(id);
        let token = self.call(side, slot, &[]);
        self.tokens[token].object = Some(id);
        token
    }

    /// An object is closed. The memory that it had.
    pub(super) fn closed(&mut self, id: Id) -> Option<GroundId> {
        let object = &mut self.objects[id];
        if object.state != State::Closing {
            let text = format!("object {id} is closed, which was {:?}", object.state);
            self.fault(text);
            return None;
        }
        object.state = State::Closed;
        self.sides[object.side].unfinished -= 1;
        self.abandon(id);
        match &mut self.objects[id].body {
            Body::Mr(mr) => mr.ground.take(),
            _ => None,
        }
    }

    /// No call on the side is in progress.
    pub(super) fn is_quiet(&self, side: usize) -> bool {
        self.sides[side].calls == 0
    }

    /// Nothing is being created or closed either.
    pub(super) fn is_settled(&self, side: usize) -> bool {
        self.is_quiet(side) && self.sides[side].unfinished == 0
    }

    /// How many objects of a kind a side is still creating, or has not closed.
    pub(super) fn unsettled_of(&self, side: usize, kind: Kind) -> usize {
        let own = self.objects.iter();
        own.filter(|o| o.side == side && o.kind == kind && o.state != State::Closed)
            .count()
    }

    /// What of a side is not done.
    pub(super) fn unsettled(&self, side: usize) -> String {
        let own = self.objects.iter().enumerate();
        let own = own.filter(|(_, o)| o.side == side && o.state != State::Closed);
        let list: Vec<_> = own
            .map(|(id, o)| format!("{:?} {id} {:?}", o.kind, o.state))
            .collect();
        format!(
            "side {side}: {} call(s) have not returned; {}",
            self.sides[side].calls,
            list.join(", ")
        )
    }
}
