//! Runs a case and judges it.

use crate::case::*;
use crate::memory::*;
use crate::util::*;
use roce::{
    Access, Completion, CompletionOp, Event, MrKey, PostError, QpId, QpParams, Rng, SendFlags,
    SendOp, SendRequest, Sge, SrqId, Status,
};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// What a test of the shrinker looks at, and faults: the case, the requests (by their places in it) that have completed so far, and
/// the hosts.
pub type Planted<'a> = &'a dyn Fn(&Case, &[usize], &Pair);

/// Does what the case says. Panics unless the right bytes come to the right places in the right order, each request completes exactly
/// once, and by then all that it and those before it bring is there, and nobody reads or writes its own memory any more.
pub fn run(case: &Case, planted: Planted<'_>) {
    let mut world = World::new(case, planted);
    for index in 0..case.ops.len() {
        world.perform(index);
    }
    world.finish();
}

/// One direction of one connection: what its sender posted and what its receiver should see.
struct Flow {
    from: Side,
    sender: QpId,
    receiver: QpId,
    /// Requests that will complete, oldest first.
    posted: VecDeque<(Work, CompletionOp)>,
    /// Memory that requests read, oldest first, and on whose side.
    lent: VecDeque<(Side, Lent)>,
    /// What WRITEs bring to the receiver, oldest first, and where any has.
    landings: VecDeque<Landing>,
    places: Vec<(u32, u32)>,
    /// What READs and atomic operations bring to the sender, oldest first.
    answers: VecDeque<Landing>,
    /// What was sent and not yet received.
    messages: VecDeque<Message>,
    /// Of `messages`, those from here on have no receive yet. The shared queue counts for itself.
    served: usize,
    /// The number at the receiver that its atomic operations work on.
    number: u64,
    /// Receives posted: context, where their memory begins.
    receives: VecDeque<(u64, u32)>,
    /// The receiver takes its receives from its side's shared queue.
    shared: bool,
    /// By slot.
    grants: [Grant; 2],
}

/// A request, by its place in the case, and which slot it has in use or changes.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Work {
    index: usize,
    slot: Option<Slot>,
}

/// A key that is open at times.
#[derive(Clone, Copy)]
struct Grant {
    newest: MrKey,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Closed,
    /// Being opened or closed.
    Changing,
    /// So many requests use it.
    Open(u32),
}

/// What a receive is due for.
struct Message {
    /// The request, by its place in the case.
    index: usize,
    bytes: Vec<u8>,
    immediate: Option<[u8; 4]>,
    /// By a WRITE: the receive's memory stays as it is.
    written: bool,
    invalidates: Option<Slot>,
    solicited: bool,
}

/// A side's shared receive queue.
struct Pool {
    srq: SrqId,
    /// Receives in it, or taken and not yet completed: context, where its memory begins.
    receives: HashMap<u64, u32>,
    owed: usize,
}

struct World<'a> {
    case: &'a Case,
    planted: Planted<'a>,
    p: Pair,
    flows: Vec<Flow>,
    /// Per side.
    pools: [Pool; 2],
    memory: [Memory; 2],
    /// A number for each flow.
    numbers: [Mr; 2],
    /// Requests completed.
    completed: Vec<usize>,
    receives: u64,
}

/// Contexts of receives; requests have their places in the case.
const RECEIVE: u64 = 1 << 32;

fn ix(side: Side) -> usize {
    side as usize
}

impl<'a> World<'a> {
    fn new(case: &'a Case, planted: Planted<'a>) -> World<'a> {
        let mut p = Pair::new(case.setup());
        p.net = Network::new(case.net_seed);
        p.chunks = case.batches.then(|| Rng::new(case.seed));
        // All that may be written to, and receives of the shared queues can be longer than their messages.
        let longest = case.longest();
        let room = case.posts().map(|post| post.len + longest + OFFSETS).sum();
        let parts = 2 * case.posts().count() as u32;
        for (side, nic) in [Side::A, Side::B].into_iter().zip(case.nic) {
            p.net.set_weather_from(side, case.weather[ix(side)]);
            let host = p.host(side);
            host.nic_holds = Some(Duration::from_nanos(nic.holds));
            host.nic_ring = nic.ring;
            host.nic_late = nic.late;
        }
        let memory = [&mut p.a, &mut p.b].map(|host| Memory::new(host, room, parts));
        let pools = [&mut p.a, &mut p.b].map(|host| Pool {
            srq: host.engine.create_srq(host.pd, 256, 4, 0).unwrap(),
            receives: HashMap::new(),
            owed: 0,
        });
        let numbers = [&mut p.a, &mut p.b]
            .map(|host| host.register(vec![0; case.shared.len() * 16], Access::REMOTE_ATOMIC));
        let mut flows = Vec::new();
        for shared in &case.shared {
            let [a, b] = [Side::A, Side::B].map(|side| {
                let host = p.host(side);
                let params = QpParams {
                    srq: shared[ix(side)].then_some(pools[ix(side)].srq),
                    // The flow that it receives.
                    context: (flows.len() + ix(side.other())) as u64,
                    ..host.qp_params()
                };
                host.engine.create_qp(&params).unwrap()
            });
            p.attach_these(a, b);
            for (from, sender, receiver) in [(Side::A, a, b), (Side::B, b, a)] {
                let host = p.host(from.other());
                let fast = host.engine.register_fast(host.pd, true).unwrap();
                let window = host.engine.create_window(host.pd, 0).unwrap();
                flows.push(Flow {
                    from,
                    sender,
                    receiver,
                    posted: VecDeque::new(),
                    lent: VecDeque::new(),
                    landings: VecDeque::new(),
                    places: Vec::new(),
                    answers: VecDeque::new(),
                    messages: VecDeque::new(),
                    served: 0,
                    number: 0,
                    receives: VecDeque::new(),
                    shared: shared[ix(from.other())],
                    grants: [fast, window].map(|newest| Grant {
                        newest,
                        state: State::Closed,
                    }),
                });
            }
        }
        World {
            case,
            planted,
            p,
            flows,
            pools,
            memory,
            numbers,
            completed: Vec::new(),
            receives: 0,
        }
    }

    fn perform(&mut self, index: usize) {
        match self.case.ops[index] {
            Op::Run(nanos) => {
                self.run(Duration::from_nanos(nanos.into()));
            }
            Op::Receive { flow } => self.post_receive(flow),
            Op::Post(post) => self.post(index, &post),
            Op::Grant { flow, slot } => self.grant(index, flow, slot),
            Op::Revoke { flow, slot } => self.revoke(index, flow, slot),
        }
    }

    /// Lets time pass, and looks at everything that completes as soon as it does.
    fn run(&mut self, time: Duration) {
        let limit = self.p.now.after(time);
        while self.p.step(limit) {
            if !self.p.a.completions.is_empty() || !self.p.b.completions.is_empty() {
                self.check();
            }
        }
        self.p.run(Duration::ZERO);
        self.check();
    }

    fn post(&mut self, index: usize, post: &Post) {
        let flow = &self.flows[post.flow];
        let (from, to, qp) = (flow.from, flow.from.other(), flow.sender);
        let (source, remote_source) = (self.memory[ix(from)].source, self.memory[ix(to)].source);
        let (sink, remote_sink) = (self.memory[ix(from)].sink, self.memory[ix(to)].sink);
        let numbers = self.numbers[ix(to)];
        // What the receiver has opened, if the request is to use it.
        let open = |slot: Slot| {
            let grant = flow.grants[slot as usize];
            matches!(grant.state, State::Open(_)).then_some(grant.newest.0)
        };
        let slot = match post.kind {
            Kind::SendInvalidate(slot) => Some(slot),
            Kind::Read if post.granted => Some(Slot::Window),
            kind if kind.is_write() && post.granted => Some(Slot::Fast),
            _ => None,
        }
        .filter(|slot| open(*slot).is_some());
        let granted = slot.and_then(open);
        let number = flow.number;
        let number_va = numbers.va + 8 * post.flow as u64;
        let mut flags = post.flags;
        if slot.is_some() {
            // The end of its use must be known.
            flags -= SendFlags::SILENT;
        }
        let data = bytes(self.case.seed + index as u64, post.len);
        let outgoing = post.kind.is_send() || post.kind.is_write();
        let inline = outgoing && post.inline && post.len <= 256;
        // Whose memory it reads.
        let lender = match post.kind {
            kind if kind.is_atomic() => None,
            Kind::Read => Some(to),
            _ if inline => None,
            _ => Some(from),
        };
        let lent = lender.map(|side| {
            let host = self.p.host(side);
            (side, self.memory[ix(side)].lend(host, index, post.at, data))
        });
        let lent_at = lent.map_or(0, |(_, lent)| lent.at);
        // What comes to the receiver, and to the sender.
        let (mut landing, mut answer) = (None, None);
        let mut new_number = number;
        let mut message = None;
        let mut receive = |immediate, written, invalidates| {
            message = Some(Message {
                index,
                bytes: data.to_vec(),
                immediate,
                written,
                invalidates,
                solicited: flags.contains(SendFlags::SOLICITED),
            });
        };
        let (op, done) = match post.kind {
            Kind::Send => {
                receive(None, false, None);
                (SendOp::Send, CompletionOp::Send)
            }
            Kind::SendImmediate(immediate) => {
                receive(Some(immediate), false, None);
                (SendOp::SendImmediate(immediate), CompletionOp::Send)
            }
            Kind::SendInvalidate(_) => {
                receive(None, false, slot);
                let op = granted.map_or(SendOp::Send, SendOp::SendInvalidate);
                // Earlier READs may use it.
                flags |= SendFlags::FENCE;
                (op, CompletionOp::Send)
            }
            Kind::Write | Kind::WriteImmediate(_) => {
                let mut earlier = flow.places.iter().rev();
                let earlier = earlier.find(|(_, len)| post.again && *len >= post.len);
                let at = match earlier {
                    Some((at, _)) => *at,
                    None => self.memory[ix(to)].allocate(post.len),
                };
                landing = Some((at, data));
                let remote_va = remote_sink.va + u64::from(at);
                let rkey = granted.unwrap_or(remote_sink.key.0);
                let op = match post.kind {
                    Kind::WriteImmediate(immediate) => {
                        receive(Some(immediate), true, None);
                        SendOp::WriteImmediate {
                            remote_va,
                            rkey,
                            immediate,
                        }
                    }
                    _ => SendOp::Write { remote_va, rkey },
                };
                (op, CompletionOp::Write)
            }
            Kind::Read => {
                answer = Some(data.to_vec());
                let op = SendOp::Read {
                    remote_va: remote_source.va + u64::from(lent_at),
                    rkey: granted.unwrap_or(remote_source.key.0),
                };
                (op, CompletionOp::Read)
            }
            Kind::FetchAdd(add) => {
                new_number = number.wrapping_add(add);
                let op = SendOp::FetchAdd {
                    remote_va: number_va,
                    rkey: numbers.key.0,
                    add,
                };
                (op, CompletionOp::FetchAdd)
            }
            Kind::CompareSwap { swap, off } => {
                if off == 0 {
                    new_number = swap;
                }
                let op = SendOp::CompareSwap {
                    remote_va: number_va,
                    rkey: numbers.key.0,
                    compare: number.wrapping_add(off),
                    swap,
                };
                (op, CompletionOp::CompareSwap)
            }
        };
        if post.kind.is_atomic() {
            answer = Some(number.to_ne_bytes().to_vec());
        }
        let answer = answer.map(|bytes| Landing {
            index,
            at: self.memory[ix(from)].allocate(post.len),
            bytes,
        });
        let sgl = match &answer {
            Some(answer) => pieces(&sink, answer.at, post),
            None => pieces(&source, lent_at, post),
        };
        let halves = data.split_at(data.len() / 2);
        let parts = [halves.0, halves.1];
        let request = SendRequest {
            context: index as u64,
            op,
            sgl: if inline { &[] } else { &sgl },
            inline: inline.then_some(&parts),
            flags,
        };
        let now = self.p.now;
        match self.p.host(from).engine.post_send(now, qp, &request) {
            Ok(_) => {}
            Err(PostError::QueueFull) => return,
            Err(e) => panic!("{e:?}"),
        }
        let flow = &mut self.flows[post.flow];
        flow.lent.extend(lent);
        flow.answers.extend(answer);
        if let Some((at, data)) = landing {
            flow.places.push((at, post.len));
            flow.landings.push_back(Landing {
                index,
                at,
                bytes: data.to_vec(),
            });
        }
        if !flags.contains(SendFlags::SILENT) {
            flow.posted.push_back((Work { index, slot }, done));
        }
        flow.number = new_number;
        if let Some(slot) = slot {
            let state = &mut flow.grants[slot as usize].state;
            *state = match (*state, post.kind) {
                (State::Open(n), kind) if !kind.is_send() => State::Open(n + 1),
                _ => State::Changing,
            };
        }
        if let Some(message) = message {
            flow.messages.push_back(message);
            if flow.shared {
                self.pools[ix(to)].owed += 1;
            }
        }
    }

    /// Posts a local operation of a flow's receiver, on the queue that it sends with.
    fn post_local(
        &mut self,
        index: usize,
        flow: usize,
        slot: Slot,
        op: SendOp,
        done: CompletionOp,
    ) {
        let (to, qp) = (self.flows[flow].from.other(), self.flows[flow].receiver);
        let request = SendRequest {
            context: index as u64,
            ..request(op)
        };
        let now = self.p.now;
        let key = match self.p.host(to).engine.post_send(now, qp, &request) {
            Ok(key) => key,
            Err(PostError::QueueFull) => return,
            Err(e) => panic!("{e:?}"),
        };
        let grant = &mut self.flows[flow].grants[slot as usize];
        grant.newest = key.unwrap_or(grant.newest);
        grant.state = State::Changing;
        let work = Work {
            index,
            slot: Some(slot),
        };
        self.flows[flow ^ 1].posted.push_back((work, done));
    }

    fn grant(&mut self, index: usize, flow: usize, slot: Slot) {
        let grant = self.flows[flow].grants[slot as usize];
        if grant.state != State::Closed {
            return;
        }
        let to = self.flows[flow].from.other();
        let (op, done) = match slot {
            Slot::Fast => {
                let sink = self.memory[ix(to)].sink;
                let op = SendOp::FastRegister {
                    key: grant.newest,
                    base: sink.va,
                    len: sink.len.into(),
                    access: Access::LOCAL_WRITE | Access::REMOTE_WRITE,
                    region: sink.region,
                };
                (op, CompletionOp::FastRegister)
            }
            Slot::Window => {
                let source = self.memory[ix(to)].source;
                let op = SendOp::Bind {
                    window: grant.newest,
                    mr: source.key,
                    va: source.va,
                    len: source.len.into(),
                    access: Access::REMOTE_READ,
                };
                (op, CompletionOp::Bind)
            }
        };
        self.post_local(index, flow, slot, op, done);
    }

    fn revoke(&mut self, index: usize, flow: usize, slot: Slot) {
        let grant = self.flows[flow].grants[slot as usize];
        if grant.state != State::Open(0) {
            return;
        }
        let op = SendOp::Invalidate { key: grant.newest };
        self.post_local(index, flow, slot, op, CompletionOp::Invalidate);
    }

    /// Posts a receive for the next message without one.
    fn post_receive(&mut self, flow: usize) {
        let (to, qp) = (self.flows[flow].from.other(), self.flows[flow].receiver);
        if self.flows[flow].shared {
            return self.post_shared(to);
        }
        let Some(message) = self.flows[flow].messages.get(self.flows[flow].served) else {
            return;
        };
        let len = message.bytes.len() as u32;
        let at = self.memory[ix(to)].allocate(len);
        let sgl = [self.memory[ix(to)].sink.sge(at, len)];
        self.receives += 1;
        let context = RECEIVE + self.receives;
        let now = self.p.now;
        let engine = &mut self.p.host(to).engine;
        engine.post_recv(now, qp, context, &sgl).unwrap();
        let flow = &mut self.flows[flow];
        flow.served += 1;
        flow.receives.push_back((context, at));
    }

    /// Posts a receive to a side's shared queue, for whichever message comes first.
    fn post_shared(&mut self, to: Side) {
        if self.pools[ix(to)].owed == 0 {
            return;
        }
        let len = self.case.longest();
        let at = self.memory[ix(to)].allocate(len);
        let sgl = [self.memory[ix(to)].sink.sge(at, len)];
        self.receives += 1;
        let context = RECEIVE + self.receives;
        let pool = &mut self.pools[ix(to)];
        pool.owed -= 1;
        pool.receives.insert(context, at);
        let srq = pool.srq;
        let engine = &mut self.p.host(to).engine;
        engine.post_srq_recv(srq, context, &sgl).unwrap();
    }

    /// Every completion is the next one due of its queue.
    fn check(&mut self) {
        for side in [Side::A, Side::B] {
            let done = std::mem::take(&mut self.p.host(side).completions);
            // In such weather doubts are in order, and mean nothing.
            let events = &mut self.p.host(side).events;
            events.retain(|event| !matches!(event, Event::PathDoubted { .. }));
            assert_eq!(*events, []);
            for c in done {
                assert_eq!(c.status, Status::Success, "{c:?}");
                // The flow that the queue pair receives; it sends the other one of the connection.
                let receives = c.qp_context as usize;
                if c.context > RECEIVE {
                    self.received(side, receives, &c);
                } else {
                    self.sent(receives ^ 1, &c);
                }
            }
        }
        (self.planted)(self.case, &self.completed, &self.p);
    }

    fn received(&mut self, side: Side, n: usize, c: &Completion) {
        let flow = &mut self.flows[n];
        let at = if flow.shared {
            let at = self.pools[ix(side)].receives.remove(&c.context);
            at.expect("no such receive")
        } else {
            let (context, at) = flow.receives.pop_front().expect("no receive is due");
            assert_eq!(context, c.context, "receives out of order");
            flow.served -= 1;
            at
        };
        let message = flow.messages.pop_front().expect("no message is due");
        let op = match message.invalidates {
            _ if message.written => CompletionOp::ReceiveWrite,
            Some(_) => CompletionOp::ReceiveInvalidate,
            None => CompletionOp::Receive,
        };
        let key = message.invalidates.map(|slot| {
            let grant = &mut flow.grants[slot as usize];
            grant.state = State::Closed;
            grant.newest.0
        });
        let want = Completion {
            context: c.context,
            qp_context: n as u64,
            status: Status::Success,
            op,
            bytes: message.bytes.len() as u32,
            invalidated: key,
            immediate: message.immediate,
            solicited: message.solicited,
        };
        assert_eq!(*c, want);
        let (memory, host) = (&mut self.memory[ix(side)], self.p.host(side));
        memory.arrived(host, &mut flow.landings, message.index);
        if !message.written {
            memory.taken(host, at, &message.bytes);
        }
    }

    fn sent(&mut self, n: usize, c: &Completion) {
        let due = self.flows[n].posted.pop_front();
        let (work, op) = due.unwrap_or_else(|| panic!("not due: {c:?}"));
        assert_eq!((c.context, c.op), (work.index as u64, op));
        self.completed.push(work.index);
        self.done(n, work.index);
        let Some(slot) = work.slot else {
            return;
        };
        // Local operations are about what the other direction may use.
        let local = matches!(
            op,
            CompletionOp::FastRegister | CompletionOp::Bind | CompletionOp::Invalidate
        );
        let flow = if local { n ^ 1 } else { n };
        let state = &mut self.flows[flow].grants[slot as usize].state;
        *state = match (*state, op) {
            (State::Changing, CompletionOp::Invalidate) => State::Closed,
            (State::Changing, CompletionOp::FastRegister | CompletionOp::Bind) => State::Open(0),
            (State::Open(n), CompletionOp::Write | CompletionOp::Read) => State::Open(n - 1),
            // About to be invalidated by the SEND behind; or invalidated already.
            (state, _) => state,
        };
    }

    /// The sender of a flow knows that all it has posted up to request `last` is done, what is silent included.
    fn done(&mut self, n: usize, last: usize) {
        let flow = &mut self.flows[n];
        let (from, to) = (flow.from, flow.from.other());
        self.memory[ix(to)].arrived(self.p.host(to), &mut flow.landings, last);
        let answers = flow.answers.partition_point(|a| a.index <= last);
        for Landing { at, bytes, .. } in flow.answers.drain(..answers) {
            self.memory[ix(from)].taken(self.p.host(from), at, &bytes);
        }
        let lent = flow.lent.partition_point(|(_, lent)| lent.index <= last);
        for (side, lent) in flow.lent.drain(..lent) {
            let host = self.p.host(side);
            self.memory[ix(side)].take_back(host, lent);
            if side == from {
                let region = self.memory[ix(side)].source.region;
                host.memory.end(region, lent.at, lent.len);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.flows
            .iter()
            .all(|f| f.posted.is_empty() && f.messages.is_empty())
    }

    /// Lets everything come to its end, and looks at what is left.
    fn finish(&mut self) {
        for n in 0..self.flows.len() {
            while !self.flows[n].shared && self.flows[n].served < self.flows[n].messages.len() {
                self.post_receive(n);
            }
        }
        for side in [Side::A, Side::B] {
            while self.pools[ix(side)].owed > 0 {
                self.post_shared(side);
            }
        }
        let mut rounds = 0;
        while !self.is_done() {
            self.run(Duration::from_millis(10));
            rounds += 1;
            assert!(rounds < 10_000, "stuck");
        }
        self.run(SECOND);
        for n in 0..self.flows.len() {
            self.done(n, usize::MAX);
        }
        for (n, flow) in self.flows.iter().enumerate() {
            let numbers = self.numbers[ix(flow.from.other())];
            let bytes = &self.p.host(flow.from.other()).bytes(&numbers)[n * 8..][..8];
            assert_eq!(bytes, flow.number.to_ne_bytes(), "number of flow {n}");
        }
        for side in [Side::A, Side::B] {
            self.memory[ix(side)].assert_exact(self.p.host(side));
            let engine = &self.p.host(side).engine;
            assert_eq!(engine.usage().transmissions, 0);
            // Both count messages alike, whatever is lost, sent again or executed in between.
            assert_eq!(engine.counters().drop_wrong_msn, 0, "message counts");
        }
    }
}

/// The local memory of a request, cut as it says.
fn pieces(mr: &Mr, at: u32, post: &Post) -> Vec<Sge> {
    let place = |cut: &u16| ((u64::from(*cut) * u64::from(post.len)) >> 16) as u32;
    let mut ends: Vec<u32> = post
        .cuts
        .iter()
        .filter(|cut| **cut > 0)
        .map(place)
        .collect();
    ends.push(post.len);
    let mut from = 0;
    ends.into_iter()
        .map(|end| {
            let sge = mr.sge(at + from, end - from);
            from = end;
            sge
        })
        .collect()
}
