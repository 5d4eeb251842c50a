//! Completion queues that run over: whose fault it is, and what is told of results that are missing then.

use std::ptr::null_mut;

use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::fake::{Misdeed, Mode};
use crate::ndk::rules;

/// Entries of the bench's completion queues.
const DEPTH: usize = 16;

fn bench(misdeed: Misdeed) -> Bench {
    Bench::new(Mode::Inline, misdeed)
}

/// The provider says that the queue ran over. Whether the consumer is accused.
fn is_consumers_fault(b: &mut Bench, cq: *mut NDK_CQ) -> bool {
    b.arm(cq);
    let (fake, q) = (b.fake, thing(cq));
    fake.defer(move || fake.notify(q, STATUS_BUFFER_OVERFLOW));
    b.work();
    b.rules().contains(&rules::CONSUMER_OVERRUN)
}

/// A queue pair that takes its receives from a shared queue.
fn sharing(b: &mut Bench, pd: *mut NDK_PD, cq: *mut NDK_CQ, srq: *mut NDK_SRQ) -> *mut NDK_QP {
    let qp = b.create(|context, out| {
        let f = table!(pd).NdkCreateQpWithSrq;
        // SAFETY: as a consumer calls.
        unsafe {
            f(
                pd,
                cq,
                cq,
                srq,
                null_mut(),
                8,
                1,
                0,
                on_create,
                context,
                out,
            )
        }
    });
    qp.expect("a QP")
}

fn post_shared(b: &mut Bench, srq: *mut NDK_SRQ, count: usize) {
    for _ in 0..count {
        let f = table!(srq).NdkSrqReceive;
        // SAFETY: as a consumer calls.
        let status = b.run(|| unsafe { f(srq, null_mut(), std::ptr::null(), 0) });
        assert_eq!(status, STATUS_SUCCESS);
    }
}

#[test]
fn what_completes_elsewhere_needs_no_room() {
    for (receives, expected) in [(DEPTH, false), (DEPTH + 1, true)] {
        let mut b = bench(Misdeed::Nothing);
        let (cq, other) = (b.cq(Told::new()).unwrap(), b.cq(Told::new()).unwrap());
        let pd = b.pd();
        let qp = b.qp(pd, cq, other, 1);
        let connector = b.connector();
        b.connect(connector, qp);
        for context in 0..receives {
            b.receive(qp, context);
        }
        for context in 0..DEPTH {
            b.send(qp, context, 0);
        }
        assert_eq!(
            is_consumers_fault(&mut b, cq),
            expected,
            "{receives} receives"
        );
    }
}

#[test]
fn a_shared_receive_queue_counts_once() {
    for (receives, expected) in [(6, false), (DEPTH + 1, true)] {
        let mut b = bench(Misdeed::Nothing);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let srq = b.srq(pd, Told::new());
        for _ in 0..3 {
            sharing(&mut b, pd, cq, srq);
        }
        post_shared(&mut b, srq, receives);
        assert_eq!(
            is_consumers_fault(&mut b, cq),
            expected,
            "{receives} receives"
        );
    }
}

#[test]
fn results_of_a_closed_queue_pair_need_room_until_they_are_taken() {
    for (take, expected) in [(true, false), (false, true)] {
        let mut b = bench(Misdeed::Nothing);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        for context in 0..DEPTH {
            b.receive(qp, context);
        }
        b.close(qp);
        while take && !b.poll(cq).is_empty() {}
        let next = b.qp(pd, cq, cq, 2);
        for context in 0..8 {
            b.receive(next, context);
        }
        assert_eq!(is_consumers_fault(&mut b, cq), expected, "taken: {take}");
    }
}

#[test]
fn receives_of_a_queue_that_is_shared_no_more_excuse_no_lost_result() {
    let mut b = bench(Misdeed::LosesReceives);
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let srq = b.srq(pd, Told::new());
    let shares = sharing(&mut b, pd, cq, srq);
    b.close(shares);
    b.poll(cq);
    // More than there are entries, but they come elsewhere.
    let elsewhere = b.cq(Told::new()).unwrap();
    sharing(&mut b, pd, elsewhere, srq);
    post_shared(&mut b, srq, DEPTH);
    let qp = b.qp(pd, cq, cq, 1);
    b.receive(qp, 1);
    b.close(qp);
    b.poll(cq);
    assert_eq!(b.rules(), [rules::RESULT_MISSING]);
}

#[test]
fn results_lost_by_who_never_arms_are_told_of_when_the_queue_is_closed() {
    // One more than it holds: all of them can never have been in it.
    for (receives, expected) in [(DEPTH + 1, true), (DEPTH, false)] {
        let mut b = bench(Misdeed::LosesReceives);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        for context in 0..receives {
            b.receive(qp, context);
        }
        b.close(qp);
        b.close(cq);
        let rules = b.rules();
        assert_eq!(
            rules.contains(&rules::CONSUMER_OVERRUN),
            expected,
            "{rules:?}"
        );
    }
}

#[test]
fn a_queue_armed_twice_may_notify_twice() {
    let mut b = bench(Misdeed::Nothing);
    let notified = Told::new();
    let cq = b.cq(notified).unwrap();
    let (fake, q) = (b.fake, thing(cq));
    b.arm(cq);
    // On its way when the queue is armed again.
    fake.defer(move || fake.notify(q, STATUS_SUCCESS));
    b.arm(cq);
    fake.defer(move || fake.notify(q, STATUS_SUCCESS));
    b.work();
    assert_eq!((notified.times(), b.rules()), (2, vec![]));
    // And no more often.
    fake.defer(move || fake.notify(q, STATUS_SUCCESS));
    b.work();
    assert_eq!(b.rules(), [rules::NOTIFY_UNARMED]);
}
