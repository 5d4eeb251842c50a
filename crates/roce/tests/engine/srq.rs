//! Shared receive queues (NDKPI part 7.11; IBTA 10.2.9).

use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::{
    Completion, CompletionOp, Config, CqId, CreateError, DestroyError, Event, Instant,
    ModifySrqError, PostError, QpId, QpParams, SendOp, SrqId, SrqMemory, SrqStatus, Status,
};

/// A queue pair of a host that receives from `srq`.
fn create_qp(host: &mut Host, srq: SrqId, context: u64) -> QpId {
    let params = QpParams {
        srq: Some(srq),
        // Meaningless, and so not looked at.
        rq_depth: u32::MAX,
        max_recv_sge: u32::MAX,
        context,
        ..host.qp_params()
    };
    host.engine.create_qp(&params).unwrap()
}

/// Two queue pairs of A, each attached to one of B that receives from the same queue.
struct Scene {
    p: Pair,
    srq: SrqId,
    a: [QpId; 2],
    b: [QpId; 2],
    source: Mr,
    sink: Mr,
}

impl Scene {
    fn new(depth: u32, threshold: u32) -> Scene {
        let mut p = Pair::new(Setup::small());
        let srq = p.b.engine.create_srq(p.b.pd, depth, 2, threshold).unwrap();
        let a = [(); 2].map(|()| p.a.create_qp());
        let b = [100, 101].map(|context| create_qp(&mut p.b, srq, context));
        for n in 0..2 {
            p.attach_these(a[n], b[n]);
        }
        let source = p.a.open(pattern(4096, 1));
        let sink = p.b.open(vec![0; 4096]);
        Scene {
            p,
            srq,
            a,
            b,
            source,
            sink,
        }
    }

    /// Posts a receive of 1 KiB.
    fn post(&mut self, context: u64) {
        let sgl = [self.sink.sge(1024 * (context as u32 % 4), 1024)];
        self.p
            .b
            .engine
            .post_srq_recv(self.srq, context, &sgl)
            .unwrap();
    }

    /// Sends so many bytes through the nth pair of queue pairs.
    fn send(&mut self, n: usize, len: u32) {
        let sgl = [self.source.sge(0, len)];
        self.p.a.send(self.p.now, self.a[n], 7, SendOp::Send, &sgl);
    }

    /// Lets things happen, and gives what B completed: (context, queue pair's context, status).
    fn run(&mut self) -> Vec<(u64, u64, Status)> {
        self.p.run(SECOND);
        let done = std::mem::take(&mut self.p.b.completions);
        done.iter()
            .map(|c| (c.context, c.qp_context, c.status))
            .collect()
    }

    /// One message arrives.
    fn consume(&mut self) {
        self.send(0, 1);
        assert_eq!(self.run().len(), 1);
    }

    /// How often the queue has told since last asked that it runs low; nothing else must have been told.
    fn told(&mut self) -> usize {
        self.p.b.collect();
        let events = std::mem::take(&mut self.p.b.events);
        let low = Event::SrqNotify {
            srq: self.srq,
            status: SrqStatus::Low,
        };
        assert!(events.iter().all(|e| *e == low), "{events:?}");
        events.len()
    }
}

#[test]
fn s02_a_receive_completes_where_the_queue_pair_that_consumed_it_completes() {
    let mut s = Scene::new(8, 0);
    let own_cq: CqId = s.p.b.engine.create_cq(8).unwrap();
    let params = QpParams {
        srq: Some(s.srq),
        recv_cq: own_cq,
        context: 102,
        ..s.p.b.qp_params()
    };
    let qb = s.p.b.engine.create_qp(&params).unwrap();
    let qa = s.p.a.create_qp();
    s.p.attach_these(qa, qb);
    (0..4).for_each(|context| s.post(context));
    for n in [1, 0] {
        s.send(n, 600);
        s.p.run(SECOND);
    }
    let sgl = [s.source.sge(0, 10)];
    s.p.a.send(s.p.now, qa, 7, SendOp::Send, &sgl);
    s.send(1, 300);
    assert_eq!(
        s.run(),
        [
            (0, 101, Status::Success),
            (1, 100, Status::Success),
            (3, 101, Status::Success),
        ]
    );
    let mut own = [Completion::default(); 2];
    assert_eq!(s.p.b.engine.poll_cq(own_cq, &mut own), 1);
    assert_eq!(
        (own[0].context, own[0].qp_context, own[0].bytes),
        (2, 102, 10)
    );
    assert_eq!(s.p.b.bytes(&s.sink)[..600], s.p.a.bytes(&s.source)[..600]);
}

#[test]
fn whoever_finds_the_queue_empty_waits_and_loses_nothing() {
    let mut s = Scene::new(8, 0);
    for n in [0, 1] {
        s.send(n, 600);
        s.send(n, 500);
    }
    assert_eq!(s.run(), []);
    assert!(s.p.b.engine.counters().tx_rnr_naks >= 2);
    for context in 0..4 {
        s.post(context);
        let done = s.run();
        assert_eq!(done.len(), 1, "{done:?}");
        assert_eq!((done[0].0, done[0].2), (context, Status::Success));
    }
    assert_eq!(s.p.a.completions.len(), 4);
    assert_eq!(s.p.b.engine.counters().qp_errors, 0);
}

#[test]
fn a_queue_pair_that_ends_takes_only_what_it_had_begun() {
    for destroy in [false, true] {
        let mut s = Scene::new(8, 0);
        (0..3).for_each(|context| s.post(context));
        let to_first = s.p.b.engine.qp_number(s.b[0]).unwrap();
        let mut packets = 0;
        s.p.net.script = Box::new(move |_, packet| {
            packets += u32::from(packet.bth.dest_qpn == to_first);
            if packet.bth.dest_qpn == to_first && packets > 1 {
                Fate::Drop
            } else {
                Fate::Pass
            }
        });
        s.send(0, 600);
        s.p.run(std::time::Duration::from_micros(100));
        s.p.b.collect();
        assert_eq!(s.p.b.completions, []);
        // The first packet has arrived and has taken the first receive.
        if destroy {
            s.p.b.engine.destroy_qp(s.p.now, s.b[0]).unwrap();
        } else {
            s.p.b.engine.flush(s.p.now, s.b[0]);
        }
        s.p.b.collect();
        let flushed = std::mem::take(&mut s.p.b.completions);
        assert_eq!(flushed.len(), 1);
        assert_eq!(
            (flushed[0].context, flushed[0].qp_context, flushed[0].status),
            (0, 100, Status::Flushed)
        );
        for context in 1..3 {
            s.send(1, 600);
            assert_eq!(s.run(), [(context, 101, Status::Success)]);
        }
    }
}

#[test]
fn a_message_too_long_costs_its_queue_pair_one_receive() {
    let mut s = Scene::new(8, 0);
    (0..2).for_each(|context| s.post(context));
    s.send(0, 2000);
    assert_eq!(s.run(), [(0, 100, Status::LocalLength)]);
    s.send(1, 600);
    assert_eq!(s.run(), [(1, 101, Status::Success)]);
}

#[test]
fn s03_running_low_is_told_once() {
    let mut s = Scene::new(8, 2);
    // a new queue is below every threshold; that is no news.
    s.post(0);
    s.consume();
    assert_eq!(s.told(), 0);
    (0..3).for_each(|context| s.post(context));
    s.consume();
    assert_eq!(s.told(), 0);
    s.consume();
    assert_eq!(s.told(), 1);
    // Nothing more until asked for again, whatever the queue does.
    (0..3).for_each(|context| s.post(context));
    (0..4).for_each(|_| s.consume());
    assert_eq!(s.told(), 0);
    s.p.b.engine.modify_srq(s.srq, 0, 0).unwrap();
    assert_eq!(s.told(), 0);
    (0..3).for_each(|context| s.post(context));
    s.p.b.engine.modify_srq(s.srq, 0, 3).unwrap();
    assert_eq!(s.told(), 0);
    s.consume();
    assert_eq!(s.told(), 1);
}

#[test]
fn s04_a_threshold_that_is_violated_already_is_told_at_once() {
    let mut s = Scene::new(8, 0);
    s.post(0);
    s.p.b.engine.modify_srq(s.srq, 0, 2).unwrap();
    assert_eq!(s.told(), 1);
    s.post(1);
    s.p.b.engine.modify_srq(s.srq, 0, 2).unwrap();
    assert_eq!(s.told(), 0);
    // Twice asked for before it is taken is once told: whoever hears it looks at the queue then.
    s.consume();
    assert_eq!(s.told(), 1);
    s.p.b.engine.modify_srq(s.srq, 0, 2).unwrap();
    s.p.b.engine.modify_srq(s.srq, 0, 1).unwrap();
    assert_eq!(s.told(), 1);
}

#[test]
fn s05_zero_keeps_what_there_is() {
    let mut s = Scene::new(4, 0);
    (0..4).for_each(|context| s.post(context));
    // Depth 0 keeps the depth.
    s.p.b.engine.modify_srq(s.srq, 0, 4).unwrap();
    let sgl = [s.sink.all()];
    assert_eq!(
        s.p.b.engine.post_srq_recv(s.srq, 9, &sgl),
        Err(PostError::QueueFull)
    );
    // Threshold 0 keeps the threshold, and that it is being watched.
    s.p.b.engine.modify_srq(s.srq, 8, 0).unwrap();
    assert_eq!(s.told(), 0);
    s.consume();
    assert_eq!(s.told(), 1);
    // And that it has been told.
    s.p.b.engine.modify_srq(s.srq, 4, 0).unwrap();
    s.consume();
    assert_eq!(s.told(), 0);
}

#[test]
fn memory_of_another_shape_changes_nothing() {
    let mut h = Host::new(&Config::default());
    let (pd, c) = (h.pd, *h.engine.config());
    let other = h.engine.create_pd().unwrap();
    let e = &mut h.engine;
    let srq = e.create_srq(pd, 4, 2, 0).unwrap();
    for context in 0..3 {
        e.post_srq_recv(srq, context, &[Default::default(); 2])
            .unwrap();
    }
    for (pd, max_sge) in [(pd, 1), (pd, 3), (other, 2)] {
        let mut memory = SrqMemory::try_new(&c, pd, 8, max_sge).unwrap();
        let result = e.modify_srq_in(srq, Some(&mut memory), 0);
        assert_eq!(result, Err(ModifySrqError::OtherShape));
    }
    let mut memory = SrqMemory::try_new(&c, pd, 8, 2).unwrap();
    e.modify_srq_in(srq, Some(&mut memory), 0).unwrap();
    for context in 3..8 {
        e.post_srq_recv(srq, context, &[]).unwrap();
    }
    assert_eq!(e.post_srq_recv(srq, 8, &[]), Err(PostError::QueueFull));
    e.destroy_srq(srq).unwrap();
    e.destroy_pd(pd).unwrap();
    e.destroy_pd(other).unwrap();
}

#[test]
fn s01_x40_limits_of_creation_and_modification() {
    let mut h = Host::new(&Config::default());
    let (pd, c) = (h.pd, *h.engine.config());
    let e = &mut h.engine;
    for (depth, sge, threshold) in [
        (0, 1, 0),
        (c.max_srq_depth + 1, 1, 0),
        (4, c.max_sge + 1, 0),
        (4, 1, 5),
    ] {
        assert_eq!(
            e.create_srq(pd, depth, sge, threshold),
            Err(CreateError::InvalidParameter)
        );
    }
    e.create_srq(pd, c.max_srq_depth, c.max_sge, c.max_srq_depth)
        .unwrap();
    let srq = e.create_srq(pd, 4, 1, 4).unwrap();
    for context in 0..3 {
        e.post_srq_recv(srq, context, &[]).unwrap();
    }
    for (depth, threshold, error) in [
        (c.max_srq_depth + 1, 0, ModifySrqError::InvalidDepth),
        (0, 5, ModifySrqError::InvalidThreshold),
        (8, 9, ModifySrqError::InvalidThreshold),
        // The threshold that is kept counts too.
        (3, 0, ModifySrqError::InvalidThreshold),
        (2, 1, ModifySrqError::TooSmall),
    ] {
        assert_eq!(e.modify_srq(srq, depth, threshold), Err(error));
    }
    // Nothing has changed: room for one more, and no news although it holds fewer than some of those thresholds.
    e.post_srq_recv(srq, 3, &[]).unwrap();
    assert_eq!(e.post_srq_recv(srq, 4, &[]), Err(PostError::QueueFull));
    assert_eq!(e.poll_event(), None);
    assert_eq!(
        e.post_srq_recv(srq, 4, &[Default::default(); 2]),
        Err(PostError::QueueFull)
    );
    e.modify_srq(srq, c.max_srq_depth, 0).unwrap();
    assert_eq!(
        e.post_srq_recv(srq, 4, &[Default::default(); 2]),
        Err(PostError::TooManySges)
    );
    e.destroy_srq(srq).unwrap();
    assert_eq!(e.destroy_srq(srq), Err(DestroyError::Unknown));
    assert_eq!(e.modify_srq(srq, 0, 1), Err(ModifySrqError::Unknown));
    assert_eq!(e.post_srq_recv(srq, 0, &[]), Err(PostError::UnknownSrq));
}

#[test]
fn resizing_keeps_receives_in_order() {
    let mut s = Scene::new(3, 0);
    // So that the ring wraps.
    (0..3).for_each(|context| s.post(context));
    s.consume();
    s.consume();
    s.post(3);
    s.p.b.engine.modify_srq(s.srq, 9, 0).unwrap();
    (4..11).for_each(|context| s.post(context));
    let order: Vec<u64> = (0..9)
        .map(|_| {
            s.send(1, 300);
            s.run()[0].0
        })
        .collect();
    assert_eq!(order, (2..11).collect::<Vec<_>>());
    s.post(11);
    s.p.b.engine.modify_srq(s.srq, 1, 0).unwrap();
    s.send(1, 300);
    assert_eq!(s.run(), [(11, 101, Status::Success)]);
}

#[test]
fn queues_and_queue_pairs_are_bound_to_each_other() {
    let config = Config {
        max_srqs: 1,
        ..Setup::small().config
    };
    let mut h = Host::new(&config);
    let (pd, cq) = (h.pd, h.cq);
    let srq = h.engine.create_srq(pd, 4, 1, 0).unwrap();
    assert_eq!(
        h.engine.create_srq(pd, 4, 1, 0),
        Err(CreateError::TableFull)
    );
    let qp = create_qp(&mut h, srq, 0);
    let e = &mut h.engine;
    assert_eq!(e.usage().srqs, 1);
    assert_eq!(
        e.post_recv(Instant::ZERO, qp, 1, &[]),
        Err(PostError::InvalidRequest)
    );
    e.post_srq_recv(srq, 1, &[]).unwrap();
    assert_eq!(e.destroy_srq(srq), Err(DestroyError::Busy));
    e.destroy_qp(Instant::ZERO, qp).unwrap();
    assert_eq!(e.destroy_pd(pd), Err(DestroyError::Busy));
    e.destroy_srq(srq).unwrap();
    // What was still in it has no completion.
    assert_eq!(e.poll_cq(cq, &mut [Completion::default()]), 0);
    let params = QpParams {
        srq: Some(srq),
        ..h.qp_params()
    };
    let e = &mut h.engine;
    assert_eq!(e.create_qp(&params), Err(CreateError::UnknownObject));
    assert_eq!((e.destroy_pd(pd), e.destroy_cq(cq)), (Ok(()), Ok(())));
    assert_eq!(e.create_srq(pd, 4, 1, 0), Err(CreateError::UnknownObject));
    assert_eq!(e.usage(), roce::Usage::default());
}

#[test]
fn elements_are_of_the_queues_protection_domain() {
    let mut p = Pair::new(Setup::small());
    let other = p.b.engine.create_pd().unwrap();
    let sink = p.b.open(vec![0; 64]);
    let source = p.a.open(pattern(64, 1));
    // The queue belongs to the domain of the memory, its queue pair does not.
    let srq = p.b.engine.create_srq(p.b.pd, 4, 1, 0).unwrap();
    let params = QpParams {
        srq: Some(srq),
        pd: other,
        ..p.b.qp_params()
    };
    let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&params).unwrap());
    p.attach_these(qa, qb);
    p.b.engine.post_srq_recv(srq, 1, &[sink.all()]).unwrap();
    p.a.send(p.now, qa, 2, SendOp::Send, &[source.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.b.completions), [(1, Status::Success)]);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&source));
}

#[test]
fn s07_a_queue_that_fails_takes_its_queue_pairs_with_it() {
    let mut s = Scene::new(8, 4);
    (0..2).for_each(|context| s.post(context));
    let bystander = s.p.attach();
    s.p.b.engine.fail_srq(s.p.now, s.srq);
    s.p.b.engine.fail_srq(s.p.now, s.srq);
    s.p.b.collect();
    let told: Vec<_> =
        s.p.b
            .events
            .iter()
            .filter(|e| matches!(e, Event::SrqNotify { .. }))
            .collect();
    assert_eq!(
        told,
        [&Event::SrqNotify {
            srq: s.srq,
            status: SrqStatus::Failed
        }]
    );
    for qp in s.b {
        assert!(
            s.p.b
                .events
                .iter()
                .any(|e| matches!(e, Event::QpFatal { qp: dead, .. } if *dead == qp))
        );
    }
    assert_eq!(s.p.b.events.len(), 3);
    assert_eq!(
        s.p.b.engine.post_srq_recv(s.srq, 9, &[]),
        Err(PostError::UnknownSrq)
    );
    s.p.b.engine.modify_srq(s.srq, 0, 2).unwrap();
    s.send(0, 10);
    s.send(1, 10);
    assert_eq!(s.run(), []);
    assert_eq!(s.p.b.events.len(), 3);
    // Others go on.
    let sgl = [s.sink.sge(0, 64)];
    s.p.b
        .engine
        .post_recv(s.p.now, bystander.1, 5, &sgl)
        .unwrap();
    let sgl = [s.source.sge(0, 64)];
    s.p.a.send(s.p.now, bystander.0, 6, SendOp::Send, &sgl);
    assert_eq!(s.run(), [(5, 77, Status::Success)]);
    for qp in s.b {
        s.p.b.engine.destroy_qp(s.p.now, qp).unwrap();
    }
    s.p.b.engine.destroy_srq(s.srq).unwrap();
}

/// One end of a connection whose other is the test.
fn raw() -> (Raw, SrqId) {
    let mut srq = None;
    let raw = Raw::with(Setup::small(), |host| {
        let queue = host.engine.create_srq(host.pd, 4, 2, 0).unwrap();
        srq = Some(queue);
        create_qp(host, queue, 5)
    });
    (raw, srq.unwrap())
}

#[test]
fn a_write_with_immediate_takes_a_receive_when_it_is_done() {
    let (mut r, srq) = raw();
    let memory = r.host.open(vec![0; 1024]);
    let reth = |len| roce::wire::Reth {
        va: memory.va,
        rkey: memory.key.0,
        len,
    };
    let data = pattern(300, 3);
    r.inject_reth(roce::wire::Opcode::WriteFirst, PSN, reth(300), &data[..256]);
    r.inject_immediate(
        roce::wire::Opcode::WriteLastImm,
        PSN + 1,
        None,
        [1, 2, 3, 4],
        &data[256..],
    );
    // Nothing posted: not yet.
    assert_eq!(r.replies().last().unwrap().syndrome.unwrap() >> 5, 1);
    r.host.engine.post_srq_recv(srq, 1, &[]).unwrap();
    r.host.engine.post_srq_recv(srq, 2, &[]).unwrap();
    r.inject_immediate(
        roce::wire::Opcode::WriteLastImm,
        PSN + 1,
        None,
        [1, 2, 3, 4],
        &data[256..],
    );
    r.replies();
    let done = std::mem::take(&mut r.host.completions);
    assert_eq!(outcomes(&done), [(1, Status::Success)]);
    assert_eq!(
        (done[0].op, done[0].bytes, done[0].qp_context),
        (CompletionOp::ReceiveWrite, 300, 5)
    );
    // One that is refused takes none.
    let bad = roce::wire::Reth {
        rkey: memory.key.0 ^ 1,
        ..reth(8)
    };
    r.inject_immediate(
        roce::wire::Opcode::WriteOnlyImm,
        PSN + 2,
        Some(bad),
        [0; 4],
        &data[..8],
    );
    r.host.collect();
    assert_eq!(r.host.completions, []);
    assert_eq!(r.host.engine.modify_srq(srq, 0, 1), Ok(()));
    assert_eq!(
        r.host.engine.poll_event(),
        None,
        "the second is still there"
    );
}
