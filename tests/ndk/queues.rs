//! Completion queues: entries, arming, notifications.

use std::cell::Cell;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_CQ_NOTIFY_ANY, NDK_CQ_NOTIFY_ERRORS, NDK_CQ_NOTIFY_SOLICITED,
    NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT, NDK_RESULT,
};

use crate::lab::{Connected, Lab, SOON, Side, limits};
use crate::raw::never_completed;
use crate::story::Story;

#[test]
fn q02_q03_q04_one_notification_for_one_arm() {
    let mut s = Story::begin();
    s.send(0);
    assert_eq!(s.b.cq.notifications().count(), 0, "not armed");
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(
        s.b.cq.notifications().count(),
        1,
        "the entry was there, and new"
    );
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    for _ in 0..3 {
        s.send(0);
    }
    assert_eq!(s.b.cq.notifications().count(), 2);
    for call in s.b.cq.notifications().calls() {
        assert_eq!((call.status, call.irql), (STATUS_SUCCESS, 2));
    }
    s.end();
}

#[test]
fn q09_q10_q11_solicited_arms_wait_for_solicited_receives_or_errors() {
    let mut s = Story::begin();
    // One more than will be used, for the flush.
    s.lab
        .on(&s.b, || s.b.qp.receive(0, &[s.theirs.sge(0, 10)]))
        .unwrap();
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED));
    s.send(0);
    assert_eq!(s.b.cq.notifications().count(), 0, "nobody solicited that");
    // Inside the notification both entries can be had.
    let seen = Rc::new(Cell::new(0_u32));
    let (raw, table) = (s.b.cq.raw(), std::ptr::from_ref(s.b.cq.table()));
    let inside = Rc::clone(&seen);
    s.b.cq.on_notify(move |_| {
        let mut results = [NDK_RESULT::ZEROED; 8];
        // SAFETY: the CQ is open until the story ends, and the array has that many elements.
        inside.set(unsafe { ((*table).NdkGetCqResults)(raw, results.as_mut_ptr(), 8) });
    });
    s.send(NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT);
    assert_eq!(s.b.cq.notifications().count(), 1);
    assert_eq!(seen.get(), 2, "the entries were there before the callback");
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED));
    s.lab.on(&s.b, || s.b.qp.flush());
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 2, "an error matches");
    s.end();
}

#[test]
fn q06_a_notification_that_falls_due_in_another_comes_after_it() {
    let mut s = Story::begin();
    let (depth, deepest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (cq, cq_table) = (s.b.cq.raw(), std::ptr::from_ref(s.b.cq.table()));
    let (qp, qp_table) = (s.b.qp.raw(), std::ptr::from_ref(s.b.qp.table()));
    let (inside, most, rounds) = (Rc::clone(&depth), Rc::clone(&deepest), Cell::new(0));
    s.b.cq.on_notify(move |_| {
        inside.set(inside.get() + 1);
        most.set(most.get().max(inside.get()));
        rounds.set(rounds.get() + 1);
        if rounds.get() < 5 {
            // SAFETY: both are open until the story ends; all of this is allowed inside the callback. The flush makes a new entry.
            unsafe {
                ((*cq_table).NdkArmCq)(cq, NDK_CQ_NOTIFY_ANY);
                ((*qp_table).NdkReceive)(qp, null_mut(), null(), 0);
                ((*qp_table).NdkFlush)(qp);
            }
        }
        inside.set(inside.get() - 1);
    });
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    s.send(0);
    let often = s.b.cq.notifications().count();
    assert_eq!(often, 5, "each made the next one due");
    assert_eq!(deepest.get(), 1);
    s.end();
}

#[test]
fn q08_x14_the_wider_of_two_arms_holds() {
    const KINDS: [u32; 3] = [
        NDK_CQ_NOTIFY_ERRORS,
        NDK_CQ_NOTIFY_SOLICITED,
        NDK_CQ_NOTIFY_ANY,
    ];
    for (first, first_kind) in KINDS.into_iter().enumerate() {
        for (second, second_kind) in KINDS.into_iter().enumerate() {
            let mut s = Story::begin();
            s.lab.on(&s.b, || {
                // One more than will be used, for the flush.
                s.b.qp.receive(0, &[s.theirs.sge(0, 10)]).unwrap();
                s.b.cq.arm(first_kind);
                s.b.cq.arm(second_kind);
            });
            // Success, solicited success, failure: any of them notifies of the first, only the last of an arm for errors.
            let mut notified = Vec::new();
            s.send(0);
            notified.push(s.b.cq.notifications().count());
            s.send(NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT);
            notified.push(s.b.cq.notifications().count());
            s.lab.on(&s.b, || s.b.qp.flush());
            s.lab.world.run_for(Duration::from_millis(5));
            notified.push(s.b.cq.notifications().count());
            let expected = match first.max(second) {
                0 => [0, 0, 1],
                1 => [0, 1, 1],
                _ => [1, 1, 1],
            };
            assert_eq!(notified, expected, "armed {first} and {second}");
            s.end();
        }
    }
}

#[test]
fn q15_polling_takes_as_many_entries_as_there_are_and_as_fit() {
    let mut s = Story::begin();
    for _ in 0..5 {
        s.send(0);
    }
    s.lab.on(&s.b, || {
        let untouched = NDK_RESULT {
            BytesTransferred: 77,
            ..NDK_RESULT::ZEROED
        };
        let mut results = [untouched; 8];
        let bytes = |results: &[NDK_RESULT; 8]| results.map(|result| result.BytesTransferred);
        assert_eq!(s.b.cq.poll_into(&mut results[..3]), 3);
        assert_eq!(bytes(&results), [10, 10, 10, 77, 77, 77, 77, 77]);
        results = [untouched; 8];
        assert_eq!(s.b.cq.poll_into(&mut results), 2);
        assert_eq!(bytes(&results), [10, 10, 77, 77, 77, 77, 77, 77]);
        results = [untouched; 8];
        assert_eq!(s.b.cq.poll_into(&mut results), 0);
        assert_eq!(bytes(&results), [77; 8]);
    });
    s.end();
}

#[test]
fn q07_rearming_inside_the_callback_gives_a_later_callback() {
    let mut s = Story::begin();
    let depth = Rc::new(Cell::new(0_i32));
    // SAFETY of the raw pointer below: the CQ lives until the story ends.
    let (raw, table) = (s.b.cq.raw(), std::ptr::from_ref(s.b.cq.table()));
    let inside = Rc::clone(&depth);
    s.b.cq.on_notify(move |_| {
        assert_eq!(inside.get(), 0, "q06: callbacks of a CQ do not nest");
        inside.set(1);
        // SAFETY: an open CQ; arming is allowed inside its callback.
        unsafe { ((*table).NdkArmCq)(raw, NDK_CQ_NOTIFY_ANY) };
        inside.set(0);
    });
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    for round in 1..=4 {
        s.lab
            .on(&s.b, || s.b.qp.receive(0, &[s.theirs.sge(0, 10)]))
            .unwrap();
        s.lab
            .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], 0))
            .unwrap();
        s.lab.world.run_for(Duration::from_millis(5));
        assert_eq!(s.b.cq.notifications().count(), round);
    }
    s.end();
}

#[test]
fn q03_arming_again_before_the_notification_came_brings_one() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let bring = |context| {
        a.qp.receive(context, &[]).unwrap();
        a.qp.flush();
    };
    // All of it happens before the provider gets to call back.
    lab.world.call_on(a.machine, 0, 2, || {
        for context in 0..3 {
            a.cq.arm(NDK_CQ_NOTIFY_ANY);
            bring(context);
        }
    });
    lab.world.run_for(Duration::from_millis(5));
    assert_eq!(a.cq.notifications().count(), 1);
    lab.on(&a, || {
        a.cq.arm(NDK_CQ_NOTIFY_ANY);
        bring(3);
    });
    lab.world.run_for(Duration::from_millis(5));
    assert_eq!(a.cq.notifications().count(), 2);
    lab.close(a);
    lab.finish();
}

#[test]
fn q12_an_overrun_is_told_once_whatever_else_is_due() {
    let mut lab = Lab::new();
    // It is the consumer's mistake.
    let rule = ntsim::ndk::rules::CONSUMER_OVERRUN;
    lab.world.pardon(rule);
    let mut a = lab.side_a();
    // All of it happens before the provider gets to call back.
    let machine = a.machine;
    let (cq, qp) = lab.world.call_on(machine, 0, 2, || {
        let cq = a.adapter.create_cq(2).unwrap();
        let qp = a.pd.create_qp(&cq, &cq, limits()).unwrap();
        cq.arm(NDK_CQ_NOTIFY_ANY);
        qp.receive(1, &[]).unwrap();
        qp.flush();
        cq.arm(NDK_CQ_NOTIFY_ANY);
        for context in 2..5 {
            qp.receive(context, &[]).unwrap();
        }
        qp.flush();
        (cq, qp)
    });
    lab.world.run_for(Duration::from_millis(5));
    let told: Vec<_> = cq.notifications().calls();
    let told: Vec<_> = told.iter().map(|call| call.status).collect();
    assert_eq!(told, [STATUS_BUFFER_OVERFLOW]);
    // such a queue pair is spent, though no connector uses it.
    let unused = std::mem::replace(&mut a.qp, qp);
    lab.on(&a, || unused.close());
    let b = lab.side_b();
    let connector = lab.connector(&a);
    let connecting = lab.dial(&a, &connector, &b);
    assert_eq!(
        connecting.wait(&mut lab.world),
        Err(STATUS_INVALID_DEVICE_REQUEST)
    );
    let closing = lab.on(&a, || {
        connector.close();
        cq.start_close()
    });
    lab.close(a);
    assert!(closing.is_done());
    lab.close(b);
    assert_eq!(lab.world.pardoned(rule), 1);
    lab.finish();
}

#[test]
fn q12_q14_an_overrun_kills_the_queue_and_its_queue_pairs() {
    let mut lab = Lab::new();
    // It is the consumer's mistake.
    let rule = ntsim::ndk::rules::CONSUMER_OVERRUN;
    lab.world.pardon(rule);
    let (a, mut b) = (lab.side_a(), lab.side_b());
    // B's queue holds two entries only.
    let (small, qp) = lab.on(&b, || {
        let small = b.adapter.create_cq(2).unwrap();
        let qp = b.pd.create_qp(&small, &small, limits()).unwrap();
        (small, qp)
    });
    let unused = std::mem::replace(&mut b.qp, qp);
    lab.on(&b, || unused.close());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 4096, 1);
    lab.on(&b, || {
        for _ in 0..3 {
            b.qp.receive(0, &[theirs.sge(0, 10)]).unwrap();
        }
        small.arm(NDK_CQ_NOTIFY_ERRORS);
    });
    for expected in [0, 0, 1] {
        lab.on(&a, || a.qp.send(0, &[ours.sge(0, 10)], 0)).unwrap();
        lab.world.run_for(Duration::from_millis(20));
        assert_eq!(small.notifications().count(), expected);
    }
    assert_eq!(
        small.notifications().calls()[0].status,
        STATUS_BUFFER_OVERFLOW
    );
    assert_eq!(lab.world.pardoned(rule), 1);
    assert_eq!(
        lab.on(&b, || b.qp.send(1, &[], 0)),
        Err(STATUS_CONNECTION_INVALID)
    );
    assert!(
        lab.world
            .run_until(|_| connected.passive.disconnect_events().count() == 1, SOON)
    );
    // What was in the queue is still there, and nothing joins it: neither what is flushed nor what comes in.
    lab.on(&b, || {
        b.qp.flush();
        assert!(small.poll().is_some() && small.poll().is_some() && small.poll().is_none());
        let _ = b.qp.receive(0, &[]);
        small.arm(NDK_CQ_NOTIFY_ERRORS);
    });
    lab.world.run_for(SOON);
    assert!(lab.on(&b, || small.poll()).is_none());
    assert_eq!(small.notifications().count(), 1);
    let Connected {
        active,
        passive,
        listener,
    } = connected;
    lab.on(&a, || {
        active.close();
        ours.close();
    });
    let Side {
        adapter,
        pd,
        cq,
        qp,
        ..
    } = b;
    lab.world.call(lab.b, || {
        passive.close();
        listener.close();
        theirs.close();
        qp.close();
        small.close();
        cq.close();
        pd.close();
        adapter.close();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn q22_resizing_keeps_the_entries() {
    let mut s = Story::begin();
    let deepest = s.lab.on(&s.b, || s.b.adapter.info()).unwrap().MaxCqDepth;
    for index in 0..5 {
        s.lab.on(&s.b, || s.b.qp.receive(index, &[])).unwrap();
        s.lab.on(&s.a, || s.a.qp.send(index, &[], 0)).unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
    }
    s.lab.on(&s.b, || {
        let resize = |depth| {
            // SAFETY: an open CQ; it does not pend, so the context is not used.
            unsafe {
                (s.b.cq.table().NdkResizeCq)(
                    s.b.cq.raw(),
                    depth,
                    never_completed,
                    std::ptr::null_mut(),
                )
            }
        };
        assert_eq!(resize(deepest + 1), STATUS_INVALID_PARAMETER);
        assert_eq!(
            resize(4),
            STATUS_BUFFER_OVERFLOW,
            "x41: five entries are in it"
        );
        assert_eq!(resize(5), STATUS_SUCCESS);
        assert_eq!(resize(deepest), STATUS_SUCCESS);
        for index in 0..5 {
            assert_eq!(
                s.b.cq.poll().map(|entry| entry.RequestContext as u64),
                Some(index)
            );
        }
        assert!(s.b.cq.poll().is_none());
    });
    s.end();
}

#[test]
fn q03_queues_armed_and_satisfied_twice_before_the_callback_notify_once() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.world.call_on(a.machine, 0, 2, || {
        // Flushed receives come back at once, and no DPC runs meanwhile.
        for context in 0..3 {
            a.cq.arm(NDK_CQ_NOTIFY_ANY);
            a.qp.receive(context, &[]).unwrap();
            a.qp.flush();
        }
    });
    lab.world.run_for(Duration::from_millis(1));
    assert_eq!(a.cq.notifications().count(), 1);
    for context in 0..3 {
        assert_eq!(lab.result(&a).RequestContext as u64, context);
    }
    lab.close(a);
    lab.finish();
}

#[test]
fn q03_a_queue_armed_again_before_the_callback_is_not_armed_after_it() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let complete = |context| {
        a.qp.receive(context, &[]).unwrap();
        a.qp.flush();
    };
    lab.world.call_on(a.machine, 0, 2, || {
        a.cq.arm(NDK_CQ_NOTIFY_ANY);
        complete(0);
        // The DPC is on its way, and does not run meanwhile.
        a.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
    lab.world.run_for(Duration::from_millis(1));
    assert_eq!(a.cq.notifications().count(), 1);
    lab.on(&a, || complete(1));
    lab.world.run_for(Duration::from_millis(1));
    assert_eq!(a.cq.notifications().count(), 1);
    // Nothing was lost.
    lab.on(&a, || a.cq.arm(NDK_CQ_NOTIFY_ANY));
    lab.world.run_for(Duration::from_millis(1));
    assert_eq!(a.cq.notifications().count(), 2);
    for context in 0..2 {
        assert_eq!(lab.result(&a).RequestContext as u64, context);
    }
    lab.close(a);
    lab.finish();
}
