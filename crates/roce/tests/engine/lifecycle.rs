//! Transmissions in flight, flushing, failing and destroying.

use crate::util::raw::{PEER_QPN, PSN, Raw};
use crate::util::*;
use roce::cm::QpAttributes;
use roce::wire::Opcode;
use roce::{
    Arm, Completion, Config, CqStatus, CreateError, DeregisterError, DestroyError, Event, Instant,
    PostError, Psn, QpParams, SendFlags, SendOp, SendRequest, Status, TxToken,
};
use std::time::Duration;

const SEND: SendRequest<'_> = request(SendOp::Send);

#[test]
fn a_request_does_not_complete_while_the_nic_reads_its_memory() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let local = p.a.open(pattern(600, 1));
    let remote = p.b.open(vec![0; 600]);
    let op = remote.write();
    p.a.send(p.now, qa, 1, op, &[local.all()]);
    p.a.send(p.now, qa, 2, op, &[]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&remote), p.a.bytes(&local));
    assert_eq!(p.a.held(), 3);
    // Acknowledged, and still nothing: the second waits for the first.
    assert_eq!(outcomes(&p.a.completions), []);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (2, Status::Success)]
    );
    assert_eq!(p.a.engine.usage().transmissions, 0);
}

#[test]
fn a_queue_pair_is_told_late_which_number_comes_first() {
    let mut p = Pair::new(Setup::small());
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let (la, lb) = (
        p.a.engine.prepare(qa, None).unwrap(),
        p.b.engine.prepare(qb, None).unwrap(),
    );
    let psn = Psn::new(0xFF_FFFF);
    assert_ne!(lb.psn, psn);
    p.b.engine.expect_psn(qb, psn).unwrap();
    let to_b = p.attributes(Side::A, lb.qpn, psn);
    let to_a = p.attributes(Side::B, la.qpn, la.psn);
    p.a.engine.attach(qa, &to_b).unwrap();
    p.b.engine.attach(qb, &to_a).unwrap();
    assert_eq!(
        p.b.engine.expect_psn(qb, la.psn),
        Err(roce::CmError::QpUnusable)
    );
    let local = p.a.open(pattern(600, 1));
    let remote = p.b.open(vec![0; 600]);
    p.a.send(p.now, qa, 1, remote.write(), &[local.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&remote), p.a.bytes(&local));
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.b.engine.counters().drop_unknown_qp, 0);
}

#[test]
fn silent_requests_keep_their_slot_until_the_nic_is_done() {
    let mut s = Setup::small();
    s.config.max_queue_depth = 64;
    let (mut p, qa, _) = Pair::attached(s);
    p.a.nic_holds = None;
    let local = p.a.open(pattern(8, 1));
    let remote = p.b.open(vec![0; 8]);
    let op = remote.write();
    for i in 0..u64::from(DEPTH) {
        p.a.send_with(p.now, qa, i, op, &[local.all()], SendFlags::SILENT);
    }
    p.run(SECOND);
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::QueueFull)
    );
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    assert_eq!(p.a.engine.post_send(p.now, qa, &SEND), Ok(None));
}

#[test]
fn retransmissions_count_like_any_other_transmission() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let local = p.a.open(pattern(100, 1));
    let remote = p.b.open(vec![0; 100]);
    let mut first = true;
    p.net.script = Box::new(move |from, _| {
        if from == Side::A && std::mem::take(&mut first) {
            Fate::Drop
        } else {
            Fate::Pass
        }
    });
    p.a.send(p.now, qa, 1, remote.write(), &[local.all()]);
    p.run(SECOND);
    assert_eq!(p.a.held(), 2);
    assert_eq!(p.a.engine.deregister(local.key), Err(DeregisterError::Busy));
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(
        p.a.events,
        [Event::RegionIdle {
            key: local.key,
            region: local.region
        }]
    );
}

#[test]
fn deregistering_waits_for_transmissions_that_read_the_region_and_for_no_others() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    p.b.nic_holds = None;
    let used = p.a.open(pattern(100, 1));
    let also_used = p.a.open(pattern(100, 2));
    let unused = p.a.open(pattern(100, 3));
    let remote = p.b.open(vec![0; 400]);
    let write = remote.write();
    let read = remote.read();
    p.a.send(p.now, qa, 1, write, &[used.all(), also_used.all()]);
    p.a.send(p.now, qa, 2, read, &[unused.all()]);
    p.run(SECOND);
    assert_eq!(p.a.engine.deregister(used.key), Err(DeregisterError::Busy));
    assert_eq!(
        p.a.engine.deregister(used.key),
        Err(DeregisterError::Unknown)
    );
    assert_eq!(
        p.a.engine.deregister(also_used.key),
        Err(DeregisterError::Busy)
    );
    // The sink of a READ is written by this side's processor; nothing of it is in the NIC.
    assert_eq!(p.a.engine.deregister(unused.key), Ok(()));
    // The source of a READ response is in the peer's NIC.
    assert_eq!(
        p.b.engine.deregister(remote.key),
        Err(DeregisterError::Busy)
    );
    p.run(SECOND);
    assert_eq!((p.a.events.len(), p.b.events.len()), (0, 0));
    p.a.release_all(p.now);
    p.b.release_all(p.now);
    p.run(SECOND);
    let mut idle = p.a.events.clone();
    idle.sort_by_key(|e| format!("{e:?}"));
    assert_eq!(
        idle,
        [used, also_used].map(|mr| Event::RegionIdle {
            key: mr.key,
            region: mr.region
        })
    );
    assert_eq!(
        p.b.events,
        [Event::RegionIdle {
            key: remote.key,
            region: remote.region
        }]
    );
}

#[test]
fn tokens_that_are_not_outstanding_are_ignored() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let local = p.a.open(pattern(100, 1));
    let remote = p.b.open(vec![0; 100]);
    p.a.send(p.now, qa, 1, remote.write(), &[local.all()]);
    p.run(SECOND);
    for bits in [1, 77, u64::MAX, 1 << 32] {
        assert_eq!(TxToken::from_bits(bits).to_bits(), bits);
        p.a.engine.transmitted(p.now, TxToken::from_bits(bits));
    }
    p.run(SECOND);
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    // The same token twice.
    p.a.engine.transmitted(p.now, TxToken::from_bits(0));
    p.run(SECOND);
    assert_eq!(p.a.completions.len(), 1);
}

#[test]
fn the_engine_stops_sending_when_it_can_account_for_no_more() {
    let mut s = Setup::small();
    s.config.max_transmissions = 5;
    let (mut p, qa, _) = Pair::attached(s);
    p.a.nic_holds = None;
    let local = p.a.open(pattern(2560, 1));
    let remote = p.b.open(vec![0; 2560]);
    p.a.send(p.now, qa, 1, remote.write(), &[local.all()]);
    p.pump();
    assert_eq!(p.a.held(), 5);
    p.a.release_all(p.now);
    p.pump();
    assert_eq!(p.a.held(), 5);
    p.a.nic_holds = Some(std::time::Duration::ZERO);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
}

#[test]
fn flush_completes_everything_in_order() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let local = p.a.open(pattern(600, 1));
    p.net.script = Box::new(|_, _| Fate::Drop);
    for i in 0..3 {
        p.a.engine
            .post_recv(p.now, qa, 10 + i, &[local.all()])
            .unwrap();
        p.a.send_with(
            p.now,
            qa,
            i,
            SendOp::Send,
            &[local.all()],
            SendFlags::SILENT,
        );
    }
    p.pump();
    p.a.engine.flush(p.now, qa);
    p.a.collect();
    let sends: Vec<_> =
        p.a.completions
            .iter()
            .filter(|c| c.context < 10)
            .map(|c| (c.context, c.status))
            .collect();
    let recvs: Vec<_> =
        p.a.completions
            .iter()
            .filter(|c| c.context >= 10)
            .map(|c| (c.context, c.status))
            .collect();
    assert_eq!(sends, [0, 1, 2].map(|i| (i, Status::Flushed)));
    assert_eq!(recvs, [10, 11, 12].map(|i| (i, Status::Flushed)));
    assert_eq!(p.a.events, [], "a flush is no failure");
    // Afterwards receives are accepted and flushed, sends refused, and nothing goes out.
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
    assert_eq!(p.a.engine.post_recv(p.now, qa, 20, &[]), Ok(()));
    p.log.clear();
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions[6..]), [(20, Status::Flushed)]);
    assert_eq!(p.log, []);
}

#[test]
fn flush_waits_for_the_nic_before_it_reports_what_the_nic_reads() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let local = p.a.open(pattern(100, 1));
    for i in 0..3 {
        p.a.send(p.now, qa, i, SendOp::Send, &[local.all()]);
    }
    p.a.engine.post_recv(p.now, qa, 9, &[]).unwrap();
    p.a.nic_ring = 2;
    p.pump();
    p.a.engine.flush(p.now, qa);
    p.a.collect();
    assert_eq!(outcomes(&p.a.completions), [(9, Status::Flushed)]);
    p.a.release_all(p.now);
    p.a.collect();
    assert_eq!(
        outcomes(&p.a.completions[1..]),
        [0, 1, 2].map(|i| (i, Status::Flushed))
    );
}

#[test]
fn flush_before_connecting_empties_the_receive_queue_and_no_more() {
    let mut p = Pair::new(Setup::small());
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    p.a.engine.post_recv(p.now, qa, 1, &[]).unwrap();
    p.a.engine.flush(p.now, qa);
    p.a.collect();
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Flushed)]);
    p.a.engine.post_recv(p.now, qa, 2, &[]).unwrap();
    p.a.collect();
    assert_eq!(p.a.completions.len(), 1);
    let la = p.a.engine.prepare(qa, None).unwrap();
    let lb = p.b.engine.prepare(qb, None).unwrap();
    let (to_b, to_a) = (
        p.attributes(Side::A, lb.qpn, lb.psn),
        p.attributes(Side::B, la.qpn, la.psn),
    );
    p.a.engine.attach(qa, &to_b).unwrap();
    p.b.engine.attach(qb, &to_a).unwrap();
    p.b.send(p.now, qb, 3, SendOp::Send, &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions[1..]), [(2, Status::Success)]);
}

/// The acknowledgement of what was received before a flush still goes out.
#[test]
fn a_flush_does_not_swallow_an_acknowledgement() {
    let mut r = Raw::small();
    r.host.engine.post_recv(r.now, r.qp, 1, &[]).unwrap();
    r.inject(roce::wire::Opcode::SendOnly, PSN, &[]);
    r.host.engine.flush(r.now, r.qp);
    assert_eq!(r.only_ack(), (PSN, 0x1f));
}

#[test]
fn destroying_a_queue_pair_waits_for_the_nic() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let local = p.a.open(pattern(600, 1));
    let before = p.a.engine.usage();
    for i in 0..2 {
        p.a.send(p.now, qa, i, SendOp::Send, &[local.all()]);
    }
    p.pump();
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Err(DestroyError::Busy));
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Err(DestroyError::Unknown));
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
    p.run(SECOND);
    assert_eq!((p.a.events.len(), p.a.completions.len()), (0, 0));
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.events, [Event::QpIdle { qp: qa }]);
    assert_eq!(
        outcomes(&p.a.completions),
        [(0, Status::Flushed), (1, Status::Flushed)]
    );
    assert_eq!(p.a.engine.usage().qps, before.qps - 1);
    assert_eq!(p.a.engine.qp_number(qa), None);
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::UnknownQp)
    );
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Err(DestroyError::Unknown));
}

#[test]
fn a_quiet_queue_pair_is_destroyed_at_once_and_its_completions_stay() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.engine.post_recv(p.now, qa, 4, &[]).unwrap();
    assert_eq!(p.a.engine.destroy_qp(p.now, qa), Ok(()));
    p.a.collect();
    assert_eq!(outcomes(&p.a.completions), [(4, Status::Flushed)]);
    // The peer talks to nobody.
    p.b.send(p.now, qb, 1, SendOp::Send, &[]);
    p.run(SECOND);
    assert!(p.a.engine.counters().drop_unknown_qp > 0);
    assert_eq!(outcomes(&p.b.completions), [(1, Status::RetryExceeded)]);
}

#[test]
fn objects_are_destroyed_only_when_nothing_uses_them() {
    let mut p = Pair::new(Setup::small());
    let e = &mut p.a.engine;
    let (pd, cq) = (p.a.pd, p.a.cq);
    let key = e
        .register(pd, 0, 8, roce::Access::empty(), roce::RegionId(0))
        .unwrap();
    assert_eq!(e.destroy_pd(pd), Err(DestroyError::Busy));
    e.deregister(key).unwrap();
    let params = QpParams {
        pd,
        send_cq: cq,
        recv_cq: cq,
        srq: None,
        sq_depth: 1,
        rq_depth: 1,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 0,
        atomics: false,
        context: 0,
    };
    let qp = e.create_qp(&params).unwrap();
    assert_eq!(e.destroy_pd(pd), Err(DestroyError::Busy));
    assert_eq!(e.destroy_cq(cq), Err(DestroyError::Busy));
    e.destroy_qp(Instant::ZERO, qp).unwrap();
    assert_eq!((e.destroy_pd(pd), e.destroy_cq(cq)), (Ok(()), Ok(())));
    assert_eq!(
        (e.destroy_pd(pd), e.destroy_cq(cq)),
        (Err(DestroyError::Unknown), Err(DestroyError::Unknown))
    );
    assert_eq!(e.create_qp(&params), Err(CreateError::UnknownObject));
    assert_eq!(e.usage(), roce::Usage::default());
}

#[test]
fn tables_fill_up() {
    let config = Config {
        max_qps: 1,
        max_cqs: 1,
        max_pds: 1,
        ..Config::default()
    };
    let mut h = Host::new(&config);
    assert_eq!(h.engine.create_cq(1), Err(CreateError::TableFull));
    assert_eq!(h.engine.create_pd(), Err(CreateError::TableFull));
    let params = h.qp_params();
    h.engine.create_qp(&params).unwrap();
    assert_eq!(h.engine.create_qp(&params), Err(CreateError::TableFull));
}

#[test]
fn parameters_beyond_the_limits_are_refused() {
    let mut h = Host::new(&Config::default());
    let good = h.qp_params();
    let c = *h.engine.config();
    for bad in [
        QpParams {
            sq_depth: c.max_queue_depth + 1,
            ..good
        },
        QpParams {
            rq_depth: c.max_queue_depth + 1,
            ..good
        },
        QpParams {
            max_send_sge: c.max_sge + 1,
            ..good
        },
        QpParams {
            max_recv_sge: c.max_sge + 1,
            ..good
        },
        QpParams {
            max_read_sge: c.max_sge + 1,
            ..good
        },
        QpParams {
            max_inline: c.max_inline + 1,
            ..good
        },
    ] {
        assert_eq!(h.engine.create_qp(&bad), Err(CreateError::InvalidParameter));
    }
    assert_eq!(h.engine.create_cq(0), Err(CreateError::InvalidParameter));
    assert_eq!(
        h.engine.create_cq(c.max_cq_depth + 1),
        Err(CreateError::InvalidParameter)
    );
    // Nothing at all is a queue pair too.
    let none = QpParams {
        sq_depth: 0,
        rq_depth: 0,
        max_send_sge: 0,
        max_recv_sge: 0,
        max_read_sge: 0,
        max_inline: 0,
        ..good
    };
    let qp = h.engine.create_qp(&none).unwrap();
    assert_eq!(
        h.engine.post_recv(Instant::ZERO, qp, 1, &[]),
        Err(PostError::QueueFull)
    );
    h.engine.destroy_qp(Instant::ZERO, qp).unwrap();
}

#[test]
fn queue_pair_numbers_are_not_reused_soon_and_differ_from_run_to_run() {
    let mut seen = std::collections::HashSet::new();
    for seed in 0..4 {
        let mut h = Host::new(&Config {
            seed,
            ..Config::default()
        });
        for _ in 0..1000 {
            let qp = h.create_qp();
            let number = h.engine.qp_number(qp).unwrap();
            assert!(number > 1 && number < 1 << 24);
            assert!(seen.insert(number) || seed > 0, "{number} again");
            h.engine.destroy_qp(Instant::ZERO, qp).unwrap();
        }
    }
    assert!(seen.len() > 3900, "{}", seen.len());
}

#[test]
fn an_overrun_completion_queue_kills_its_queue_pairs() {
    let mut p = Pair::new(Setup::small());
    let small = p.a.engine.create_cq(2).unwrap();
    let params = QpParams {
        send_cq: small,
        ..p.a.qp_params()
    };
    let (qa, qb) = (p.a.engine.create_qp(&params).unwrap(), p.b.create_qp());
    let bystander =
        p.a.engine
            .create_qp(&QpParams {
                recv_cq: small,
                ..params
            })
            .unwrap();
    let la = p.a.engine.prepare(qa, None).unwrap();
    let lb = p.b.engine.prepare(qb, None).unwrap();
    let (to_b, to_a) = (
        p.attributes(Side::A, lb.qpn, lb.psn),
        p.attributes(Side::B, la.qpn, la.psn),
    );
    p.a.engine.attach(qa, &to_b).unwrap();
    p.b.engine.attach(qb, &to_a).unwrap();
    p.a.engine.arm_cq(p.now, small, Arm::Errors);
    p.a.engine.post_recv(p.now, qa, 50, &[]).unwrap();
    for i in 0..4 {
        p.a.send(
            p.now,
            qa,
            i,
            SendOp::Write {
                remote_va: 0,
                rkey: 0,
            },
            &[],
        );
    }
    p.run(SECOND);
    let notify = Event::CqNotify {
        cq: small,
        status: CqStatus::Overflow,
    };
    let fatal = |qp| Event::QpFatal {
        qp,
        status: Status::LocalOperation,
    };
    assert_eq!(p.a.events, [fatal(qa), fatal(bystander), notify]);
    // Receives complete into a queue that lives.
    assert_eq!(outcomes(&p.a.completions), [(50, Status::Flushed)]);
    assert_eq!(
        p.a.engine.post_send(p.now, qa, &SEND),
        Err(PostError::NotConnected)
    );
    let mut out = [Completion::default(); 4];
    assert_eq!(p.a.engine.poll_cq(small, &mut out), 2);
    assert_eq!(p.a.engine.counters().cq_errors, 1);
    // Nothing is left behind.
    p.a.engine.destroy_qp(p.now, qa).unwrap();
    p.a.engine.destroy_qp(p.now, bystander).unwrap();
    p.a.engine.destroy_cq(small).unwrap();
}

#[test]
fn unreachable_send_memory_fails_the_request() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let local = p.a.open(pattern(600, 1));
    p.a.memory.faulty.push(local.region);
    p.a.send(p.now, qa, 1, SendOp::Send, &[local.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::LocalProtection)]);
    assert_eq!(p.a.engine.usage().transmissions, 0);
}

/// A key that dies between two packets of its message fails the rest of it; what the NIC has is given back first.
#[test]
fn a_region_deregistered_under_a_send_fails_it() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    p.a.nic_ring = 2;
    let local = p.a.open(pattern(1000, 1));
    p.a.send(
        p.now,
        qa,
        1,
        SendOp::Write {
            remote_va: 1,
            rkey: 1,
        },
        &[local.all()],
    );
    p.a.send(p.now, qa, 2, SendOp::Send, &[]);
    p.net.script = Box::new(|_, _| Fate::Drop);
    p.pump();
    assert_eq!(p.a.engine.deregister(local.key), Err(DeregisterError::Busy));
    p.a.nic_ring = 100;
    p.pump();
    p.a.collect();
    assert_eq!(p.a.completions, []);
    p.a.release_all(p.now);
    p.a.collect();
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::LocalProtection), (2, Status::Flushed)]
    );
    assert!(p.a.events.contains(&Event::RegionIdle {
        key: local.key,
        region: local.region
    }));
}

#[test]
fn the_place_of_a_queue_pair_with_an_answer_goes_to_one_that_waits_its_turn() {
    let mut s = Setup::small();
    s.config.max_qps = 2;
    s.config.max_transmissions = 1;
    let mut raw = Raw::new(s);
    let attributes = QpAttributes {
        peer_qpn: PEER_QPN + 1,
        path: s.path(Side::A),
        send_psn: Psn::new(PSN),
        retry_count: 7,
        rnr_retry_count: 7,
        ack_timeout: 10,
        responder_resources: 4,
        initiator_depth: 4,
    };
    let memory = raw.host.open(pattern(8, 1));
    // The NIC holds a frame of another queue pair, and there is no room for a second.
    let other = raw.host.create_qp();
    raw.host.engine.prepare(other, None).unwrap();
    raw.host.engine.attach(other, &attributes).unwrap();
    raw.host.nic_holds = None;
    raw.host
        .send(raw.now, other, 1, SendOp::Send, &[memory.all()]);
    assert!(raw.host.transmit(raw.now).is_some());
    // One fails, and is destroyed before its refusal has gone out.
    raw.inject(Opcode::WriteMiddle, PSN, &[0; 256]);
    assert_eq!(raw.host.engine.destroy_qp(raw.now, raw.qp), Ok(()));
    // Another is in its place, with data to send.
    let next = raw.host.create_qp();
    raw.host.engine.prepare(next, None).unwrap();
    raw.host.engine.attach(next, &attributes).unwrap();
    raw.host
        .send(raw.now, next, 2, SendOp::Send, &[memory.all()]);
    assert_eq!(raw.host.transmit(raw.now), None);
    raw.host.release_all(raw.now);
    assert!(raw.host.transmit(raw.now).is_some());
    assert_eq!(
        (raw.host.held(), raw.host.engine.usage().transmissions),
        (1, 1)
    );
    raw.host.release_all(raw.now);
    raw.host.engine.flush(raw.now, next);
    raw.host.collect();
    assert!(
        raw.host.completions.iter().any(|c| c.context == 2),
        "nothing is held for ever"
    );
    assert_eq!(raw.host.engine.deregister(memory.key), Ok(()));
}

/// Otherwise a slow NIC would make the peers' timers run out.
#[test]
fn acknowledgements_go_out_although_the_nic_takes_no_more_payload() {
    let (mut p, qa, qb) = Pair::attached(Setup {
        config: Config {
            max_transmissions: 2,
            ..Setup::default().config
        },
        ..Setup::small()
    });
    let source = p.a.open(pattern(2000, 1));
    let target = p.b.open(vec![0; 2000]);
    let received = p.a.open(vec![0; 2000]);
    p.a.nic_holds = None;
    p.a.send(p.now, qa, 1, target.write(), &[source.all()]);
    p.a.engine
        .post_recv(p.now, qa, 2, &[received.all()])
        .unwrap();
    p.run(Duration::from_micros(100));
    assert_eq!(p.a.held(), 2);
    p.b.send(p.now, qb, 3, SendOp::Send, &[target.sge(0, 700)]);
    p.run(Duration::from_micros(100));
    assert_eq!(outcomes(&p.b.completions), [(3, Status::Success)]);
    assert_eq!(p.a.held(), 2);
    p.a.nic_holds = Some(Duration::ZERO);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&target), p.a.bytes(&source));
    assert_eq!(p.b.engine.counters().duplicate_requests, 0);
}
