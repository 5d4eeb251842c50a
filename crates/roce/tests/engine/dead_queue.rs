//! Queue pairs on queues that have failed.

use crate::util::*;
use roce::{Arm, CqStatus, CreateError, Event, QpParams};

#[test]
fn a_queue_pair_cannot_be_created_on_a_queue_that_has_failed() {
    let mut p = Pair::new(Setup::default());
    let full = p.a.engine.create_cq(1).unwrap();
    let srq = p.a.engine.create_srq(p.a.pd, 4, 1, 1).unwrap();
    let alive = p.a.qp_params();
    let on = |send_cq, recv_cq| QpParams {
        send_cq,
        recv_cq,
        ..alive
    };
    let shared = QpParams {
        srq: Some(srq),
        ..alive
    };
    // One entry too many kills the one queue, its owner the other.
    let first = p.a.engine.create_qp(&on(alive.send_cq, full)).unwrap();
    for context in 0..2 {
        p.a.engine.post_recv(p.now, first, context, &[]).unwrap();
    }
    p.a.engine.arm_cq(p.now, full, Arm::Errors);
    p.a.engine.flush(p.now, first);
    p.a.engine.fail_srq(p.now, srq);
    p.a.collect();
    let status = CqStatus::Overflow;
    assert!(p.a.events.contains(&Event::CqNotify { cq: full, status }));
    let before = p.a.engine.usage();
    for params in [on(full, alive.recv_cq), on(alive.send_cq, full), shared] {
        let refused = p.a.engine.create_qp(&params);
        assert_eq!(refused, Err(CreateError::DeadQueue));
    }
    assert_eq!(p.a.engine.usage(), before);
    assert!(p.a.engine.create_qp(&alive).is_ok());
}
