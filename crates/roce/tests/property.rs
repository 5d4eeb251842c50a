//! Random work over random networks. `ROCE_SEED=n` repeats one case, `ROCE_CASES=n` runs more of them.

mod util;

use roce::{
    Access, Completion, CompletionOp, Config, Event, PathMtu, PostError, QpId, QpParams, Rng,
    SendFlags, SendOp, SendRequest, Sge, SrqId, Status,
};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use util::random::*;
use util::*;

fn random_setup(rng: &mut Rng, seed: u64) -> Setup {
    let psn = |rng: &mut Rng| match below(rng, 3) {
        0 => Some(0xff_ffff - below(rng, 64)),
        _ => None,
    };
    Setup {
        seed,
        mtu: pick(rng, &[PathMtu::Mtu256, PathMtu::Mtu512, PathMtu::Mtu1024]),
        ipv6: below(rng, 3) == 0,
        reads: pick(rng, &[1, 2, 3, 8, 16]),
        ack_timeout: pick(rng, &[7, 8, 10]),
        psn: [psn(rng), psn(rng)],
        config: Config {
            send_window: pick(rng, &[1, 2, 7, 32, 128]),
            read_window: pick(rng, &[1, 8, 64]),
            read_chunk: pick(rng, &[1, 3, 16, 128]),
            min_rnr_timer: pick(rng, &[1, 5, 10]),
            max_transmissions: pick(rng, &[1, 4, 64, 1024]),
            ..Setup::default().config
        },
        ..Setup::default()
    }
}

fn random_weather(rng: &mut Rng) -> Weather {
    let storm = below(rng, 4);
    let per_mille = |rng: &mut Rng, max| if storm == 0 { 0 } else { below(rng, max) };
    Weather {
        delay: Duration::from_micros(u64::from(below(rng, 20))),
        jitter: Duration::from_nanos(if storm < 2 {
            0
        } else {
            u64::from(below(rng, 30_000))
        }),
        loss: per_mille(rng, 60),
        duplication: per_mille(rng, 60),
        corruption: per_mille(rng, 30),
        ..Weather::CALM
    }
}

/// One direction of one connection: what its sender posted and what its receiver should see.
struct Flow {
    from: Side,
    sender: QpId,
    receiver: QpId,
    /// Requests that will complete, oldest first: context, bytes expected at (region, offset) of the other or of this side.
    posted: VecDeque<u64>,
    /// What was sent and not yet received.
    messages: VecDeque<Message>,
    /// The number at the receiver that its atomic operations work on.
    number: u64,
    /// Receives posted: context, elements.
    receives: VecDeque<(u64, Vec<Sge>)>,
    /// Receives that the test may still post; never fewer messages than that.
    receives_owed: usize,
    /// The receiver takes its receives from its side's shared queue; the two fields above are unused then.
    shared: bool,
}

/// What a receive is due for.
#[derive(Clone)]
struct Message {
    bytes: Vec<u8>,
    immediate: Option<[u8; 4]>,
    /// By a WRITE: the receive's memory stays as it is.
    written: bool,
}

impl Message {
    fn check(&self, c: &Completion) {
        let op = if self.written {
            CompletionOp::ReceiveWrite
        } else {
            CompletionOp::Receive
        };
        let want = (op, self.bytes.len() as u32, self.immediate);
        assert_eq!((c.op, c.bytes, c.immediate), want);
    }
}

/// A side's shared receive queue.
struct Pool {
    srq: SrqId,
    /// Receives in it, or taken and not yet completed: context, where its buffer begins.
    receives: HashMap<u64, u32>,
    /// As a flow's.
    owed: usize,
}

struct World {
    p: Pair,
    rng: Rng,
    flows: Vec<Flow>,
    pools: [Pool; 2],
    /// Per side: memory to send from, remotely readable; memory that nobody but one request writes; its image and next free byte.
    source: [Mr; 2],
    sink: [Mr; 2],
    image: [Vec<u8>; 2],
    /// Per side: a number for each flow.
    numbers: [Mr; 2],
    free: [u32; 2],
    context: u64,
}

const SINK: u32 = 1 << 21;
const SOURCE: u32 = 1 << 16;
/// Bytes of the longest message, and of a shared receive.
const LONGEST: u32 = 20 * 1024;

fn ix(side: Side) -> usize {
    side as usize
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed ^ 0xabcdef);
        let setup = random_setup(&mut rng, seed);
        let mut p = Pair::new(setup);
        p.net.set_weather(random_weather(&mut rng));
        p.chunks = (seed % 2 == 1).then(|| Rng::new(seed));
        for side in [Side::A, Side::B] {
            let hold = pick(&mut rng, &[0, 1_000, 40_000]);
            let ring = pick(&mut rng, &[1, 3, 16, 256]);
            let host = p.host(side);
            host.nic_holds = Some(Duration::from_nanos(hold));
            host.nic_ring = ring;
        }
        let source = [
            p.a.open(pattern(SOURCE as usize, seed)),
            p.b.open(pattern(SOURCE as usize, seed + 1)),
        ];
        let sink = [
            p.a.open(vec![0; SINK as usize]),
            p.b.open(vec![0; SINK as usize]),
        ];
        let pools = [&mut p.a, &mut p.b].map(|host| Pool {
            srq: host.engine.create_srq(host.pd, 256, 4, 0).unwrap(),
            receives: HashMap::new(),
            owed: 0,
        });
        let mut flows: Vec<Flow> = Vec::new();
        for _ in 0..1 + below(&mut rng, 3) {
            let shared = [(); 2].map(|()| below(&mut rng, 2) == 0);
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
                flows.push(Flow {
                    shared: shared[ix(from.other())],
                    from,
                    sender,
                    receiver,
                    posted: VecDeque::new(),
                    number: 0,
                    messages: VecDeque::new(),
                    receives: VecDeque::new(),
                    receives_owed: 0,
                });
            }
        }
        let numbers = [&mut p.a, &mut p.b]
            .map(|host| host.register(vec![0; flows.len() * 8], Access::REMOTE_ATOMIC));
        let image = [vec![0; SINK as usize], vec![0; SINK as usize]];
        World {
            p,
            rng,
            flows,
            pools,
            source,
            sink,
            image,
            numbers,
            free: [0; 2],
            context: 0,
        }
    }

    fn size(&mut self) -> u32 {
        let mtu = self.p.setup.mtu.bytes();
        match below(&mut self.rng, 8) {
            0 => 0,
            1 => below(&mut self.rng, 8),
            2 => mtu,
            3 => mtu + 1,
            4 => mtu * below(&mut self.rng, 20),
            5 => below(&mut self.rng, 20_000),
            _ => below(&mut self.rng, mtu * 3),
        }
    }

    /// Memory on `side` for one request only, with gaps around it.
    fn allocate(&mut self, side: Side, len: u32) -> Option<u32> {
        let at = self.free[ix(side)] + below(&mut self.rng, 5);
        let end = at + len + below(&mut self.rng, 3);
        (end <= SINK).then(|| {
            self.free[ix(side)] = end;
            at
        })
    }

    /// `len` bytes from `at` of `mr`, as up to four elements.
    fn split(&mut self, mr: &Mr, at: u32, len: u32) -> Vec<Sge> {
        let mut cuts: Vec<u32> = (0..below(&mut self.rng, 4))
            .map(|_| below(&mut self.rng, len + 1))
            .collect();
        cuts.extend([0, len]);
        cuts.sort_unstable();
        cuts.windows(2)
            .map(|w| mr.sge(at + w[0], w[1] - w[0]))
            .collect()
    }

    fn expect(&mut self, side: Side, at: u32, bytes: &[u8]) {
        self.image[ix(side)][at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn post(&mut self) {
        let n = below(&mut self.rng, self.flows.len() as u32) as usize;
        let (from, qp) = (self.flows[n].from, self.flows[n].sender);
        let to = from.other();
        let len = self.size();
        let src_at = below(&mut self.rng, SOURCE - len + 1);
        let kind = below(&mut self.rng, 4);
        let (source, remote_source) = (self.source[ix(from)], self.source[ix(to)]);
        let (sink, remote_sink) = (self.sink[ix(from)], self.sink[ix(to)]);
        let mut flags = SendFlags::empty();
        for flag in [SendFlags::SILENT, SendFlags::FENCE, SendFlags::SOLICITED] {
            if below(&mut self.rng, 4) == 0 {
                flags |= flag;
            }
        }
        let local: Vec<u8> =
            self.p.host(from).bytes(&source)[src_at as usize..][..len as usize].to_vec();
        let mut new_number = self.flows[n].number;
        let immediate = (below(&mut self.rng, 2) == 0).then(|| self.rng.next_u32().to_be_bytes());
        let (op, sgl, landing) = match kind {
            0 => {
                let op = immediate.map_or(SendOp::Send, SendOp::SendImmediate);
                (op, self.split(&source, src_at, len), None)
            }
            1 => {
                let Some(at) = self.allocate(to, len) else {
                    return;
                };
                let remote_va = remote_sink.va + u64::from(at);
                let rkey = remote_sink.key.0;
                let op = match immediate {
                    Some(immediate) => SendOp::WriteImmediate {
                        remote_va,
                        rkey,
                        immediate,
                    },
                    None => SendOp::Write { remote_va, rkey },
                };
                (
                    op,
                    self.split(&source, src_at, len),
                    Some((to, at, local.clone())),
                )
            }
            2 => {
                let Some(at) = self.allocate(from, 8) else {
                    return;
                };
                let numbers = self.numbers[ix(to)];
                let number = self.flows[n].number;
                let remote_va = numbers.va + 8 * n as u64;
                let rkey = numbers.key.0;
                let value = self.rng.next_u64();
                let op = if below(&mut self.rng, 2) == 0 {
                    new_number = number.wrapping_add(value);
                    SendOp::FetchAdd {
                        remote_va,
                        rkey,
                        add: value,
                    }
                } else {
                    let compare = number.wrapping_add(u64::from(below(&mut self.rng, 2)));
                    if compare == number {
                        new_number = value;
                    }
                    SendOp::CompareSwap {
                        remote_va,
                        rkey,
                        compare,
                        swap: value,
                    }
                };
                let found = number.to_ne_bytes().to_vec();
                (op, self.split(&sink, at, 8), Some((from, at, found)))
            }
            _ => {
                let Some(at) = self.allocate(from, len) else {
                    return;
                };
                let bytes = self.p.host(to).bytes(&remote_source)[src_at as usize..]
                    [..len as usize]
                    .to_vec();
                let rkey = remote_source.key.0;
                let op = SendOp::Read {
                    remote_va: remote_source.va + u64::from(src_at),
                    rkey,
                };
                (op, self.split(&sink, at, len), Some((from, at, bytes)))
            }
        };
        let inline = kind < 2 && len <= 256 && below(&mut self.rng, 2) == 0;
        let halves = local.split_at(local.len() / 2);
        let parts = [halves.0, halves.1];
        self.context += 1;
        let context = self.context;
        let request = SendRequest {
            context,
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
        if let Some((side, at, bytes)) = landing {
            self.expect(side, at, &bytes);
        }
        let flow = &mut self.flows[n];
        if !flags.contains(SendFlags::SILENT) {
            flow.posted.push_back(context);
        }
        flow.number = new_number;
        let immediate = immediate.filter(|_| kind < 2);
        if kind == 0 || immediate.is_some() {
            flow.messages.push_back(Message {
                bytes: local,
                immediate,
                written: kind == 1,
            });
            if flow.shared {
                self.pools[ix(to)].owed += 1;
            } else {
                flow.receives_owed += 1;
            }
        }
    }

    /// Posts a receive to a side's shared queue, for whichever message comes first.
    fn post_shared(&mut self, to: Side) {
        if self.pools[ix(to)].owed == 0 {
            return;
        }
        let at = self
            .allocate(to, LONGEST)
            .expect("sink too small for this test");
        let sgl = self.split(&self.sink[ix(to)].clone(), at, LONGEST);
        self.context += 1;
        let pool = &mut self.pools[ix(to)];
        pool.owed -= 1;
        pool.receives.insert(self.context, at);
        let (srq, context) = (pool.srq, self.context);
        self.p
            .host(to)
            .engine
            .post_srq_recv(srq, context, &sgl)
            .unwrap();
    }

    fn post_receive(&mut self, n: usize) {
        let (to, qp) = (self.flows[n].from.other(), self.flows[n].receiver);
        if self.flows[n].shared {
            return self.post_shared(to);
        }
        let Some(len) = self.flows[n]
            .messages
            .get(self.flows[n].receives.len())
            .map(|m| m.bytes.len() as u32)
        else {
            return;
        };
        let room = len + below(&mut self.rng, 100);
        let Some(at) = self.allocate(to, room) else {
            panic!("sink too small for this test")
        };
        let sgl = self.split(&self.sink[ix(to)].clone(), at, room);
        self.context += 1;
        let context = self.context;
        let now = self.p.now;
        self.p
            .host(to)
            .engine
            .post_recv(now, qp, context, &sgl)
            .unwrap();
        let message = self.flows[n].messages[self.flows[n].receives.len()].clone();
        if !message.written {
            self.expect(to, at, &message.bytes);
        }
        let flow = &mut self.flows[n];
        flow.receives_owed -= 1;
        flow.receives.push_back((context, sgl));
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
                if let Some(at) = self.pools[ix(side)].receives.remove(&c.context) {
                    let flow = &mut self.flows[c.qp_context as usize];
                    assert!(flow.shared && flow.from != side, "{c:?}");
                    let message = flow.messages.pop_front().expect("no message is due");
                    message.check(&c);
                    if !message.written {
                        self.expect(side, at, &message.bytes);
                    }
                    continue;
                }
                let received = matches!(c.op, CompletionOp::Receive | CompletionOp::ReceiveWrite);
                let flow = if received {
                    self.flows.iter_mut().find(|f| {
                        f.from != side && f.receives.front().is_some_and(|r| r.0 == c.context)
                    })
                } else {
                    self.flows
                        .iter_mut()
                        .find(|f| f.from == side && f.posted.front() == Some(&c.context))
                };
                let flow = flow.unwrap_or_else(|| panic!("not due: {c:?}"));
                if received {
                    flow.receives.pop_front();
                    flow.messages.pop_front().unwrap().check(&c);
                } else {
                    flow.posted.pop_front();
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        self.p.run(time);
        self.check();
    }

    fn is_done(&self) -> bool {
        self.flows
            .iter()
            .all(|f| f.posted.is_empty() && f.messages.is_empty())
    }
}

/// The right bytes in the right place in the right order, each request completed exactly once, whatever the network does.
#[test]
fn random_work_arrives_over_random_networks() {
    for seed in seeds(300) {
        let _witness = Witness(seed);
        let mut w = World::new(seed);
        for _ in 0..10 + below(&mut w.rng, 80) {
            match below(&mut w.rng, 4) {
                0 => {
                    let time = Duration::from_nanos(u64::from(below(&mut w.rng, 100_000)));
                    w.run(time);
                }
                1 => {
                    let n = below(&mut w.rng, w.flows.len() as u32) as usize;
                    w.post_receive(n);
                }
                _ => w.post(),
            }
        }
        for n in 0..w.flows.len() {
            while w.flows[n].receives_owed > 0 {
                w.post_receive(n);
            }
        }
        for side in [Side::A, Side::B] {
            while w.pools[ix(side)].owed > 0 {
                w.post_shared(side);
            }
        }
        let mut rounds = 0;
        while !w.is_done() {
            w.run(Duration::from_millis(10));
            rounds += 1;
            assert!(rounds < 10_000, "stuck");
        }
        w.run(SECOND);
        for (n, flow) in w.flows.iter().enumerate() {
            let numbers = w.numbers[ix(flow.from.other())];
            let bytes = &w.p.host(flow.from.other()).bytes(&numbers)[n * 8..][..8];
            assert_eq!(bytes, flow.number.to_ne_bytes(), "number of flow {n}");
        }
        for side in [Side::A, Side::B] {
            let sink = w.sink[ix(side)];
            assert!(
                w.p.host(side).bytes(&sink) == w.image[ix(side)],
                "memory of {side:?} differs"
            );
            let engine = &w.p.host(side).engine;
            assert_eq!(engine.usage().transmissions, 0);
            // Both count messages alike, whatever is lost, sent again or executed in between.
            assert_eq!(engine.counters().drop_wrong_msn, 0);
        }
    }
}

/// Flushes, deregistrations, destroyed queue pairs and bad keys at any moment: every accepted request still completes exactly
/// once, in order, and nothing is left behind.
#[test]
fn nothing_is_lost_when_everything_is_torn_down() {
    for seed in seeds(300) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0x5eed);
        let setup = random_setup(&mut rng, seed);
        let mut p = Pair::new(setup);
        p.net.set_weather(random_weather(&mut rng));
        p.chunks = (seed % 2 == 1).then(|| Rng::new(seed));
        p.a.nic_holds = Some(Duration::from_micros(20));
        let mut pairs: Vec<_> = (0..2).map(|_| p.attach()).collect();
        // Two more, of which those of B share their receives.
        let srq = p.b.engine.create_srq(p.b.pd, 1024, 1, 0).unwrap();
        let sharing = QpParams {
            srq: Some(srq),
            ..p.b.qp_params()
        };
        for _ in 0..2 {
            let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&sharing).unwrap());
            p.attach_these(qa, qb);
            pairs.push((qa, qb));
        }
        // Receives that are in the shared queue, or taken and not yet completed.
        let mut pooled: HashSet<u64> = HashSet::new();
        let mut live: Vec<(Side, Mr)> = Vec::new();
        for side in [Side::A, Side::B] {
            for i in 0..4 {
                live.push((side, p.host(side).open(pattern(5000, i))));
            }
        }
        let regions = live.clone();
        // Per side and queue pair: contexts due, send queue and receive queue. Contexts tell which.
        let mut due: [HashSet<u64>; 2] = Default::default();
        let mut last: HashMap<u64, u64> = Default::default();
        let mut destroyed: HashSet<(Side, usize)> = HashSet::new();
        let mut serial = 0;
        let drain = |p: &mut Pair,
                     due: &mut [HashSet<u64>; 2],
                     pooled: &mut HashSet<u64>,
                     last: &mut HashMap<u64, u64>| {
            p.a.collect();
            p.b.collect();
            for side in [Side::A, Side::B] {
                for c in std::mem::take(&mut p.host(side).completions) {
                    if side == Side::B && pooled.remove(&c.context) {
                        continue;
                    }
                    assert!(due[ix(side)].remove(&c.context), "not due: {c:?}");
                    // Low byte: queue; the rest rises with every post.
                    let queue = c.context & 0xff;
                    let before = last.insert(queue, c.context >> 8);
                    assert!(
                        before.is_none_or(|b| b < c.context >> 8),
                        "out of order: {c:?}"
                    );
                }
            }
        };
        for _ in 0..150 {
            let n = below(&mut rng, 4) as usize;
            let side = pick(&mut rng, &[Side::A, Side::B]);
            let qp = if side == Side::A {
                pairs[n].0
            } else {
                pairs[n].1
            };
            let (_, mr) = regions[(ix(side) * 4) + below(&mut rng, 4) as usize];
            let (_, remote) = regions[(ix(side.other()) * 4) + below(&mut rng, 4) as usize];
            let len = below(&mut rng, 5000);
            serial += 1;
            let queue = (ix(side) * 100 + n * 10) as u64;
            let now = p.now;
            let host = p.host(side);
            match below(&mut rng, 40) {
                0 => host.engine.flush(now, qp),
                1 => {
                    if destroyed.insert((side, n)) {
                        let _ = host.engine.destroy_qp(now, qp);
                    }
                }
                2 | 3 => {
                    let at = below(&mut rng, live.len() as u32) as usize;
                    let (side, mr) = live.remove(at);
                    let _ = p.host(side).engine.deregister(mr.key);
                    if live.is_empty() {
                        break;
                    }
                }
                4..=10 => p.run(Duration::from_nanos(u64::from(below(&mut rng, 50_000)))),
                11..=20 if side == Side::B && n >= 2 => {
                    let context = serial << 8 | 2;
                    let sgl = [mr.sge(0, len)];
                    host.engine.post_srq_recv(srq, context, &sgl).unwrap();
                    pooled.insert(context);
                }
                11..=20 => {
                    let context = serial << 8 | (queue + 1);
                    if host
                        .engine
                        .post_recv(now, qp, context, &[mr.sge(0, len)])
                        .is_ok()
                    {
                        due[ix(side)].insert(context);
                    }
                }
                n => {
                    let context = serial << 8 | queue;
                    let at = remote.va + u64::from(below(&mut rng, 3));
                    let op = match n % 4 {
                        0 => SendOp::Send,
                        3 => SendOp::FetchAdd {
                            remote_va: at & !7,
                            rkey: remote.key.0,
                            add: 1,
                        },
                        1 => SendOp::Write {
                            remote_va: at,
                            rkey: remote.key.0,
                        },
                        _ => SendOp::Read {
                            remote_va: at,
                            rkey: remote.key.0,
                        },
                    };
                    let len = if n % 4 == 3 { 8 } else { len };
                    let sgl = [mr.sge(0, len)];
                    let request = SendRequest {
                        context,
                        op,
                        sgl: &sgl,
                        inline: None,
                        flags: SendFlags::empty(),
                    };
                    if host.engine.post_send(now, qp, &request).is_ok() {
                        due[ix(side)].insert(context);
                    }
                }
            }
            drain(&mut p, &mut due, &mut pooled, &mut last);
        }
        p.run(Duration::from_millis(u64::from(below(&mut rng, 20))));
        drain(&mut p, &mut due, &mut pooled, &mut last);
        for (n, (a, b)) in pairs.iter().enumerate() {
            for (side, qp) in [(Side::A, *a), (Side::B, *b)] {
                if destroyed.insert((side, n)) {
                    let now = p.now;
                    let _ = p.host(side).engine.destroy_qp(now, qp);
                }
            }
        }
        p.run(SECOND);
        drain(&mut p, &mut due, &mut pooled, &mut last);
        for (side, mr) in live {
            p.host(side).engine.deregister(mr.key).unwrap();
        }
        // What nobody took is still there, for somebody else.
        let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&sharing).unwrap());
        p.attach_these(qa, qb);
        let left = pooled.len();
        for chunk in 0..left.div_ceil(DEPTH as usize) {
            for _ in 0..(left - chunk * DEPTH as usize).min(DEPTH as usize) {
                p.a.send_with(p.now, qa, 3, SendOp::Send, &[], SendFlags::SILENT);
            }
            p.run(SECOND);
        }
        drain(&mut p, &mut due, &mut pooled, &mut last);
        assert_eq!(pooled.len(), 0, "shared receives that never completed");
        p.a.engine.destroy_qp(p.now, qa).unwrap();
        p.b.engine.destroy_qp(p.now, qb).unwrap();
        p.b.engine.destroy_srq(srq).unwrap();
        assert_eq!(
            due.each_ref().map(HashSet::len),
            [0, 0],
            "requests that never completed"
        );
        for side in [Side::A, Side::B] {
            let host = p.host(side);
            let idle = host
                .events
                .iter()
                .filter(|e| matches!(e, Event::QpIdle { .. }))
                .count();
            assert!(idle <= 4);
            host.engine.destroy_pd(host.pd).unwrap();
            host.engine.destroy_cq(host.cq).unwrap();
            assert_eq!(host.engine.usage(), roce::Usage::default());
        }
    }
}
