//! Completion queues: entries, arming, notifications.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_CQ_NOTIFY_ANY, NDK_CQ_NOTIFY_ERRORS, NDK_CQ_NOTIFY_SOLICITED,
    NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT,
};

use crate::lab::{ALL_RIGHTS, Connected, Lab, SOON, Side, limits};
use crate::raw::never_completed;
use crate::story::Story;

#[test]
fn q02_q03_q04_one_notification_for_one_arm() {
    let mut s = Story::begin();
    let send = |s: &mut Story, flags| {
        s.lab
            .on(&s.b, || s.b.qp.receive(0, &[s.theirs.sge(0, 10)]))
            .unwrap();
        s.lab
            .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], flags))
            .unwrap();
        s.lab.world.run_for(Duration::from_millis(5));
    };
    send(&mut s, 0);
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
        send(&mut s, 0);
    }
    assert_eq!(s.b.cq.notifications().count(), 2);
    for call in s.b.cq.notifications().calls() {
        assert_eq!((call.status, call.irql), (STATUS_SUCCESS, 2));
    }
    s.end();
}

#[test]
fn q09_q10_solicited_arms_wait_for_solicited_receives_or_errors() {
    let mut s = Story::begin();
    let seen = Rc::new(Cell::new(0_u32));
    s.lab.on(&s.b, || {
        for _ in 0..3 {
            s.b.qp.receive(0, &[s.theirs.sge(0, 10)]).unwrap();
        }
        s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED);
    });
    s.lab
        .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], 0))
        .unwrap();
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 0, "nobody solicited that");
    s.lab
        .on(&s.a, || {
            s.a.qp
                .send(0, &[s.ours.sge(0, 10)], NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT)
        })
        .unwrap();
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 1);
    s.lab.on(&s.b, || {
        while s.b.cq.poll().is_some() {
            seen.set(seen.get() + 1);
        }
        s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED);
    });
    assert_eq!(seen.get(), 2, "the entries were there before the callback");
    s.lab.on(&s.b, || s.b.qp.flush());
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 2, "an error matches");
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
fn q14_an_overrun_kills_the_queue_and_its_queue_pairs() {
    let mut lab = Lab::new();
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
    let (ours, theirs) = (
        lab.region(&a, 4096, ALL_RIGHTS, 1),
        lab.region(&b, 4096, ALL_RIGHTS, 0),
    );
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
    assert_eq!(
        lab.on(&b, || b.qp.send(1, &[], 0)),
        Err(STATUS_CONNECTION_INVALID)
    );
    assert!(
        lab.world
            .run_until(|_| connected.passive.disconnect_events().count() == 1, SOON)
    );
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
