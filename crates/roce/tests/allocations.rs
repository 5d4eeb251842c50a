//! What gets memory and how much of it: counted, call by call, on the thread of the test.

mod util;

use allocation_counter::measure;
use roce::{
    AcceptParams, Access, Completion, Config, ConnId, Event, Instant, QpId, QpMemory, QpParams,
    Rng, SendFlags, SendOp, SendRequest, Status, Transmit,
};
use std::time::Duration;
use util::*;

const MS: Duration = Duration::from_millis(1);

/// The way between two hosts and the time that passes, without any memory that is not there from the beginning: what is counted while it
/// runs is the engines'.
struct Wire {
    frame: Vec<u8>,
    out: Transmit,
    /// Per mille of the frames.
    loss: u32,
    rng: Rng,
    /// Requests that have completed, by side.
    done: [usize; 2],
}

/// What a side does about an event.
type Handler<'a> = dyn FnMut(Side, &mut Host, Instant, Event) + 'a;

impl Wire {
    fn new(loss: u32) -> Wire {
        Wire {
            frame: Vec::with_capacity(8192),
            out: Transmit::new(),
            loss,
            rng: Rng::new(5),
            done: [0; 2],
        }
    }

    /// Runs until nothing is left to happen, or for `time`.
    fn run(&mut self, p: &mut Pair, time: Duration, handle: &mut Handler<'_>) {
        let limit = p.now.after(time);
        loop {
            while self.carry(p, Side::A) | self.carry(p, Side::B) {}
            let any = self.collect(p, Side::A, handle) | self.collect(p, Side::B, handle);
            if any {
                continue;
            }
            let next = [p.a.engine.next_deadline(), p.b.engine.next_deadline()];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= limit) else {
                p.now = limit;
                return;
            };
            p.now = p.now.max(next);
            p.a.engine.handle_timeout(p.now);
            p.b.engine.handle_timeout(p.now);
        }
    }

    fn carry(&mut self, p: &mut Pair, from: Side) -> bool {
        let now = p.now;
        let (host, peer) = match from {
            Side::A => (&mut p.a, &mut p.b),
            Side::B => (&mut p.b, &mut p.a),
        };
        let mut any = false;
        while host.engine.poll_transmit(now, &host.memory, &mut self.out) {
            any = true;
            self.frame.clear();
            self.frame.extend_from_slice(&self.out.header);
            for piece in &self.out.pieces {
                let region = &host.memory.regions[piece.region.0 as usize];
                let at = piece.offset as usize;
                self.frame
                    .extend_from_slice(&region[at..at + piece.len as usize]);
            }
            self.frame.extend_from_slice(&self.out.trailer);
            if let Some(token) = self.out.token {
                host.engine.transmitted(now, token);
            }
            if self.rng.next_u32() % 1000 >= self.loss {
                peer.engine.receive(now, &self.frame, &mut peer.memory);
            }
        }
        any
    }

    fn collect(&mut self, p: &mut Pair, side: Side, handle: &mut Handler<'_>) -> bool {
        let now = p.now;
        let host = p.host(side);
        let mut any = false;
        while let Some(event) = host.engine.poll_event() {
            any = true;
            handle(side, host, now, event);
        }
        let mut batch = [Completion::default(); 16];
        loop {
            let n = host.engine.poll_cq(host.cq, &mut batch);
            if n == 0 {
                return any;
            }
            for c in &batch[..n] {
                assert_eq!(c.status, Status::Success);
            }
            self.done[side as usize] += n;
        }
    }
}

/// What work brings on a bad wire.
fn of_work(_: Side, _: &mut Host, _: Instant, event: Event) {
    let expected = matches!(
        event,
        Event::CqNotify { .. } | Event::SrqNotify { .. } | Event::PathDoubted { .. }
    );
    assert!(expected, "{event:?}");
}

/// Everything that can be asked of a queue pair, over a wire that loses one frame in ten.
#[test]
fn work_gets_no_memory() {
    const ROUNDS: usize = 100;
    let mut p = Pair::new(Setup {
        config: Config {
            send_window: 8,
            ..Setup::default().config
        },
        ..Setup::small()
    });
    let (qa, qb) = p.attach();
    let srq = p.b.engine.create_srq(p.b.pd, 16, 2, 8).unwrap();
    let params = QpParams {
        srq: Some(srq),
        ..p.b.qp_params()
    };
    let (qa_shared, qb_shared) = (p.a.create_qp(), p.b.engine.create_qp(&params).unwrap());
    p.attach_these(qa_shared, qb_shared);
    let access = ALL | Access::REMOTE_ATOMIC;
    let mr = p.a.register(pattern(4000, 1), access);
    let sink = p.b.register(vec![0; 4000], access);
    let mut entry = p.b.engine.register_fast(p.b.pd, true).unwrap();
    let mut window = p.b.engine.create_window(p.b.pd, 0).unwrap();
    let memory = p.b.unregistered(vec![0; 100]);
    let (remote_va, rkey) = (sink.va, sink.key.0);
    let mut wire = Wire::new(100);
    let counted = measure(|| {
        for _ in 0..ROUNDS {
            let now = p.now;
            for (side, cq) in [(Side::A, p.a.cq), (Side::B, p.b.cq)] {
                p.host(side).engine.arm_cq(now, cq, roce::Arm::Any);
            }
            // A key and a window, made, opened and closed again: the one by this side, the other by the peer.
            let b = &mut p.b;
            entry = b
                .post_fast(now, qb, 0, entry, &memory, ALL, SendFlags::empty())
                .unwrap()
                .key;
            let part = (&sink, 0, 64);
            window = b
                .post_bind(now, qb, 0, window, part, Access::REMOTE_WRITE)
                .unwrap()
                .key;
            b.send(now, qb, 0, SendOp::Invalidate { key: window }, &[]);
            for _ in 0..4 {
                b.engine.post_recv(now, qb, 0, &[sink.all()]).unwrap();
            }
            b.engine.post_srq_recv(srq, 0, &[sink.all()]).unwrap();
            wire.run(&mut p, SECOND, &mut of_work);
            let now = p.now;
            for (qp, op, len) in [
                (qa, SendOp::Send, 3000),
                (qa_shared, SendOp::Send, 3000),
                (qa, SendOp::SendImmediate([1; 4]), 300),
                (qa, sink.write(), 4000),
                (
                    qa,
                    SendOp::WriteImmediate {
                        remote_va,
                        rkey,
                        immediate: [2; 4],
                    },
                    300,
                ),
                (qa, sink.read(), 4000),
                (
                    qa,
                    SendOp::FetchAdd {
                        remote_va,
                        rkey,
                        add: 1,
                    },
                    8,
                ),
                (
                    qa,
                    SendOp::CompareSwap {
                        remote_va,
                        rkey,
                        compare: 1,
                        swap: 2,
                    },
                    8,
                ),
                (qa, SendOp::SendInvalidate(entry.0), 10),
            ] {
                p.a.send(now, qp, 0, op, &[mr.sge(0, len)]);
            }
            let inline = SendRequest {
                inline: Some(&[&[7; 100]]),
                ..request(sink.write())
            };
            p.a.engine.post_send(now, qa, &inline).unwrap();
            wire.run(&mut p, SECOND, &mut of_work);
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(wire.done, [10 * ROUNDS, 8 * ROUNDS]);
    let c = p.a.engine.counters();
    assert!(c.retransmissions + c.mended + c.probes > 100, "{c:?}");
}

fn small_params(host: &Host, depth: u32) -> QpParams {
    QpParams {
        sq_depth: depth,
        rq_depth: depth,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 0,
        atomics: false,
        ..host.qp_params()
    }
}

/// Connections and their wire.
struct Connections {
    wire: Wire,
    /// Those of A that are established.
    established: Vec<ConnId>,
}

impl Connections {
    /// With room for so many.
    fn new(most: u16) -> Connections {
        Connections {
            wire: Wire::new(0),
            established: Vec::with_capacity(most.into()),
        }
    }

    /// Connects so many queue pairs of each side at once. `memory` is that of their queues.
    fn begin(
        &mut self,
        p: &mut Pair,
        memory: &mut [Vec<QpMemory>; 2],
        first_port: u16,
        count: u16,
    ) {
        let [of_a, of_b] = memory;
        for n in 0..count {
            let memory = of_a.pop().unwrap();
            let qp = p.a.engine.create_qp_in(memory).unwrap();
            let params = p.connect_params(qp, first_port + n);
            p.a.engine.connect(p.now, &params).unwrap();
        }
        let accept = p.accept_params(QpId::from_bits(0));
        let mut accepted = 0;
        self.wire
            .run(p, 10 * MS, &mut |side, host, now, event| match event {
                Event::ConnectRequest { conn, .. } => {
                    let qp = host.engine.create_qp_in(of_b.pop().unwrap()).unwrap();
                    let accept = AcceptParams { qp, ..accept };
                    host.engine.accept(now, conn, &accept).unwrap();
                }
                Event::Replied { conn } => host.engine.establish(now, conn).unwrap(),
                Event::Established { conn } if side == Side::A => self.established.push(conn),
                Event::Established { .. } => accepted += 1,
                event => panic!("{event:?}"),
            });
        assert_eq!((self.established.len(), accepted), (count.into(), count));
    }

    /// Ends them, and their queue pairs.
    fn end(&mut self, p: &mut Pair) {
        let mut over = 0;
        let all = self.established.len();
        for conn in self.established.drain(..) {
            p.a.engine.disconnect(p.now, conn).unwrap();
        }
        self.wire
            .run(p, 10 * MS, &mut |_, host, now, event| match event {
                Event::Disconnected { conn, .. } | Event::DisconnectDone { conn, .. } => {
                    over += 1;
                    let qp = host.engine.connection(conn).unwrap().qp.unwrap();
                    host.engine.forget(now, conn);
                    host.engine.destroy_qp(now, qp).unwrap();
                }
                event => panic!("{event:?}"),
            });
        assert_eq!(over, 2 * all);
    }
}

fn queues(p: &mut Pair, count: u16, params: impl Fn(&Host) -> QpParams) -> [Vec<QpMemory>; 2] {
    [Side::A, Side::B].map(|side| {
        let host = p.host(side);
        let (config, params) = (*host.engine.config(), params(host));
        (0..count)
            .map(|_| QpMemory::try_new(&config, &params).unwrap())
            .collect()
    })
}

/// Three hundred connections come and go, a hundred at a time, and rest. Gives how many allocations that took.
fn allocations_of_connections(reserve: bool) -> u64 {
    const EACH: u16 = 100;
    let mut p = Pair::new(Setup {
        config: Config {
            max_qps: 1024,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    p.listen();
    let mut memory = queues(&mut p, 3 * EACH, |host| small_params(host, 4));
    if reserve {
        for side in [Side::A, Side::B] {
            p.host(side).engine.reserve(100, 300).unwrap();
        }
    }
    let mut connections = Connections::new(EACH);
    let counted = measure(|| {
        for wave in 0..3 {
            connections.begin(&mut p, &mut memory, 1000 + wave * EACH, EACH);
            connections.end(&mut p);
        }
    });
    assert_eq!(p.a.engine.usage().connections, 300);
    counted.count_total
}

#[test]
fn connections_get_no_memory_that_has_been_reserved() {
    assert_eq!(allocations_of_connections(true), 0);
    // It is counted: without, the tables grow.
    assert!(allocations_of_connections(false) > 4);
}

/// Bytes that one more connected queue pair costs, its connection and its share of every table included.
fn bytes_per_queue_pair(depth: u32, shared: bool) -> i64 {
    let total = |count: u16| {
        let mut kept = None;
        let counted = measure(|| {
            let mut p = Pair::new(Setup {
                config: Config {
                    max_qps: count.into(),
                    // As many as are being connected at once may be half of all.
                    max_connections: count.into(),
                    ..Setup::default().config
                },
                ..Setup::default()
            });
            p.listen();
            // The first of each host: they have the same id.
            let srq = [Side::A, Side::B].map(|side| {
                let host = p.host(side);
                host.engine.create_srq(host.pd, 16, 1, 0).unwrap()
            });
            assert_eq!(srq[0], srq[1]);
            for wave in 0..4 {
                let mut memory = queues(&mut p, count / 4, |host| QpParams {
                    srq: shared.then_some(srq[0]),
                    ..small_params(host, depth)
                });
                let mut connections = Connections::new(count / 4);
                connections.begin(&mut p, &mut memory, 1000 + wave * (count / 4), count / 4);
            }
            kept = Some(p);
        });
        assert_eq!(kept.unwrap().a.engine.usage().qps, count.into());
        counted.bytes_current
    };
    let (few, many) = (256, 2048);
    // There are two of each.
    (total(many) - total(few)) / (2 * i64::from(many - few))
}

#[test]
fn a_connected_queue_pair_costs_four_kibibytes_and_its_queues() {
    for shared in [false, true] {
        let [shallow, deep] = [16, 32].map(|depth| bytes_per_queue_pair(depth, shared));
        let request = (deep - shallow) / 16;
        let rest = shallow - 16 * request;
        let receives = if shared { "shared" } else { "own" };
        println!("{receives} receives: {rest} bytes, and {request} for each request of its queues");
        assert!((1000..=4096).contains(&rest), "{receives}: {rest}");
    }
}
