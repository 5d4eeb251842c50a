//! Moderated notifications.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED, NDK_CQ_NOTIFY_ANY};
use ntsim::ndk::Cq;

use crate::lab::Lab;
use crate::story::Story;

const UNLIMITED: u32 = u32::MAX;

fn moderate(cq: &Cq, interval: u32, count: u32) -> i32 {
    // SAFETY: an open CQ.
    unsafe { (cq.table().NdkControlCqInterruptModeration)(cq.raw(), interval, count) }
}

/// A sends so many empty messages, which B receives. Gives B's notifications so far.
fn receive(s: &mut Story, messages: u64) -> u64 {
    for context in 0..messages {
        s.lab.on(&s.b, || s.b.qp.receive(context, &[])).unwrap();
        s.lab.on(&s.a, || s.a.qp.send(context, &[], 0)).unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
    }
    notified(s)
}

fn notified(s: &Story) -> u64 {
    s.b.cq.notifications().count()
}

/// Takes what is in B's queue and arms it.
fn arm(s: &mut Story) {
    s.lab.on(&s.b, || {
        while s.b.cq.poll().is_some() {}
        s.b.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
}

#[test]
fn q23_q24_q25_moderation_is_supported_within_its_limits() {
    let mut s = Story::begin();
    let b = &s.b;
    s.lab.on(b, || {
        let flags = b.adapter.info().unwrap().AdapterFlags;
        assert_ne!(
            flags & NDK_ADAPTER_FLAG_CQ_INTERRUPT_MODERATION_SUPPORTED,
            0
        );
        let cq = b.adapter.create_cq(64).unwrap();
        for interval in [0, 1, 50, 1_000_000, UNLIMITED - 1] {
            for count in [0, 1, 2, 64, 65, UNLIMITED] {
                assert_eq!(moderate(&cq, interval, count), STATUS_SUCCESS);
            }
        }
        for count in [0, 1, 64] {
            assert_eq!(moderate(&cq, UNLIMITED, count), STATUS_SUCCESS);
        }
        for count in [65, UNLIMITED] {
            assert_eq!(
                moderate(&cq, UNLIMITED, count),
                STATUS_INVALID_PARAMETER_MIX
            );
        }
        cq.close();
    });
    s.end();
}

#[test]
fn q25_q26_a_count_gathers_completions_until_moderation_is_off_again() {
    let mut s = Story::begin();
    arm(&mut s);
    assert_eq!(receive(&mut s, 1), 1, "a new queue is not moderated");
    assert_eq!(moderated(&mut s, UNLIMITED, 4), STATUS_SUCCESS);
    arm(&mut s);
    assert_eq!(receive(&mut s, 3), 1);
    s.lab.world.run_for(Duration::from_secs(5));
    assert_eq!(notified(&s), 1, "no interval is set");
    assert_eq!(receive(&mut s, 1), 2);
    // Interval 0 is none, whatever the count.
    assert_eq!(moderated(&mut s, 0, 4), STATUS_SUCCESS);
    arm(&mut s);
    assert_eq!(receive(&mut s, 1), 3);
    // So is a count of one.
    assert_eq!(moderated(&mut s, 1_000_000, 1), STATUS_SUCCESS);
    arm(&mut s);
    assert_eq!(receive(&mut s, 1), 4);
    s.end();
}

#[test]
fn q26_the_latest_interval_wins() {
    let mut s = Story::begin();
    assert_eq!(moderated(&mut s, 1_000_000, UNLIMITED), STATUS_SUCCESS);
    assert_eq!(moderated(&mut s, 20_000, UNLIMITED), STATUS_SUCCESS);
    arm(&mut s);
    let begun = s.lab.world.now();
    assert_eq!(receive(&mut s, 5), 0);
    let b = &s.b;
    assert!(s.lab.world.run_until(
        |_| b.cq.notifications().count() == 1,
        Duration::from_secs(5)
    ));
    let waited = s.lab.world.now() - begun;
    assert!(waited >= Duration::from_millis(20), "{waited:?}");
    assert!(waited < Duration::from_millis(100), "{waited:?}");
    // One that waits is not forgotten when moderation ends.
    arm(&mut s);
    assert_eq!(receive(&mut s, 1), 1);
    assert_eq!(moderated(&mut s, 0, 0), STATUS_SUCCESS);
    s.lab.world.run_for(Duration::from_millis(1));
    assert_eq!(notified(&s), 2);
    s.end();
}

/// NDKPI allows an interval to be shorter than asked, not longer.
#[test]
fn q26_an_interval_shorter_than_a_tick_does_not_last_for_one() {
    const TICK: Duration = Duration::from_micros(15_625);
    let mut s = Story::begin_in(Lab::ticking(TICK.as_nanos() as u64));
    // The first moment after a tick.
    let now = s.lab.world.now().as_nanos();
    let to_go = TICK.as_nanos() - now % TICK.as_nanos();
    s.lab
        .world
        .run_for(Duration::from_nanos(to_go as u64) + Duration::from_micros(100));
    for interval in [1, 50, 1000, 15_624] {
        assert_eq!(moderated(&mut s, interval, 64), STATUS_SUCCESS);
        arm(&mut s);
        let before = notified(&s);
        let begun = s.lab.world.now();
        receive(&mut s, 1);
        let b = &s.b;
        assert!(
            s.lab
                .world
                .run_until(|_| b.cq.notifications().count() > before, TICK * 4)
        );
        let waited = s.lab.world.now() - begun;
        let most = Duration::from_micros(interval.into()) + Duration::from_millis(1);
        assert!(waited <= most, "{interval} us: {waited:?}");
    }
    s.end();
}

fn moderated(s: &mut Story, interval: u32, count: u32) -> i32 {
    s.lab.on(&s.b, || moderate(&s.b.cq, interval, count))
}
