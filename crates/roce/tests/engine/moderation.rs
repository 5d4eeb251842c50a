//! Notifications that wait for more to tell, seen from outside (NDKPI 4.6).

use crate::util::*;
use roce::{Arm, CqId, CqStatus, Event, Instant, QpParams, SendOp};
use std::time::Duration;

/// B receives into a completion queue of its own.
fn scene() -> (Pair, CqId, Mr) {
    let mut p = Pair::new(Setup::default());
    let cq = p.b.engine.create_cq(64).unwrap();
    let params = QpParams {
        recv_cq: cq,
        ..p.b.qp_params()
    };
    let (qa, qb) = (p.a.create_qp(), p.b.engine.create_qp(&params).unwrap());
    p.attach_these(qa, qb);
    let memory = p.a.open(pattern(64, 1));
    let sink = p.b.open(vec![0; 64]);
    for context in 0..8 {
        p.b.engine
            .post_recv(p.now, qb, context, &[sink.all()])
            .unwrap();
    }
    for context in 0..3 {
        p.a.send(p.now, qa, context, SendOp::Send, &[memory.all()]);
    }
    (p, cq, memory)
}

/// When B heard of its queue.
fn told_at(p: &mut Pair, cq: CqId) -> Instant {
    p.run_until(SECOND, |p| !p.b.events.is_empty());
    let ready = Event::CqNotify {
        cq,
        status: CqStatus::Ready,
    };
    assert_eq!(std::mem::take(&mut p.b.events), [ready]);
    p.now
}

#[test]
fn the_engine_wakes_its_owner_when_the_wait_is_over() {
    let (mut p, cq, _) = scene();
    p.b.engine.arm_cq(p.now, cq, Arm::Any);
    let arrival = told_at(&mut p, cq);
    let (mut p, cq, _) = scene();
    p.b.engine.moderate_cq(p.now, cq, 700, 16).unwrap();
    p.b.engine.arm_cq(p.now, cq, Arm::Any);
    assert_eq!(
        told_at(&mut p, cq),
        arrival.after(Duration::from_micros(700))
    );
    p.run(SECOND);
    assert_eq!(p.b.events, []);
    assert_eq!(p.b.engine.next_deadline(), None);
}

#[test]
fn a_queue_that_is_destroyed_during_the_wait_wakes_nobody() {
    let (mut p, cq, _) = scene();
    let spare = p.b.engine.create_cq(4).unwrap();
    p.b.engine.moderate_cq(p.now, cq, 700, 16).unwrap();
    p.b.engine.moderate_cq(p.now, spare, 700, 2).unwrap();
    p.b.engine.destroy_cq(spare).unwrap();
    p.b.engine.arm_cq(p.now, cq, Arm::Any);
    p.run(Duration::from_micros(300));
    assert_eq!(p.b.events, []);
    // A shorter interval ends the wait that is under way.
    p.b.engine.moderate_cq(p.now, cq, 200, 16).unwrap();
    p.b.collect();
    assert_eq!(p.b.events.len(), 1);
}
