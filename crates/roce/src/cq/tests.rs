//! Rings, arms, notifications and moderation.

use super::*;
use core::time::Duration;
use std::vec::Vec;

fn entry(context: u64) -> Completion {
    Completion {
        context,
        ..Completion::default()
    }
}

fn solicited() -> Completion {
    Completion {
        solicited: true,
        ..Completion::default()
    }
}

fn error() -> Completion {
    Completion {
        status: Status::Flushed,
        ..Completion::default()
    }
}

fn set(depth: u32) -> (CqSet, CqId) {
    let mut s = CqSet::try_new(2).unwrap();
    let id = s
        .insert(Cq::new(CqMemory::try_new(depth).unwrap()))
        .unwrap();
    (s, id)
}

fn drain(s: &mut CqSet, id: CqId) -> Vec<u64> {
    let mut out = [Completion::default(); 3];
    let mut all = Vec::new();
    loop {
        let n = s.poll(id, &mut out);
        if n == 0 {
            return all;
        }
        all.extend(out[..n].iter().map(|c| c.context));
    }
}

#[test]
fn entries_come_out_in_order_across_the_end_of_the_ring() {
    let (mut s, id) = set(5);
    for round in 0..7 {
        for i in 0..4 {
            s.push(id, &entry(round * 4 + i));
        }
        assert_eq!(
            drain(&mut s, id),
            (round * 4..round * 4 + 4).collect::<Vec<_>>()
        );
    }
}

#[test]
fn poll_takes_as_many_as_asked_for() {
    let (mut s, id) = set(4);
    (0..3).for_each(|i| s.push(id, &entry(i)));
    let mut out = [Completion::default(); 2];
    assert_eq!(s.poll(id, &mut []), 0);
    assert_eq!(s.poll(id, &mut out), 2);
    assert_eq!(s.poll(id, &mut out), 1);
    assert_eq!(out[0].context, 2);
    assert_eq!(s.poll(id, &mut out), 0);
}

#[test]
fn unarmed_queues_are_silent() {
    let (mut s, id) = set(4);
    s.push(id, &error());
    assert_eq!(s.pop_notification(), None);
}

#[test]
fn one_arm_gives_one_notification() {
    let (mut s, id) = set(8);
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), None);
    (0..3).for_each(|i| s.push(id, &entry(i)));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    s.push(id, &entry(3));
    assert_eq!(s.pop_notification(), None);
}

#[test]
fn entries_newer_than_the_last_notification_satisfy_an_arm_at_once() {
    let (mut s, id) = set(8);
    s.push(id, &entry(0));
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    // Nothing new since: wait.
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), None);
    s.push(id, &entry(1));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    // New but polled already: still new since the last notification.
    s.push(id, &entry(2));
    assert_eq!(drain(&mut s, id).len(), 3);
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
}

/// All nine pairs of arms, against the three kinds of entries.
#[test]
fn two_arms_merge_to_the_stronger() {
    use Arm::{Any, Errors, Solicited};
    for first in [Errors, Solicited, Any] {
        for second in [Errors, Solicited, Any] {
            let merged = match (first, second) {
                (Any, _) | (_, Any) => Any,
                (Solicited, _) | (_, Solicited) => Solicited,
                _ => Errors,
            };
            for (c, strength) in [(entry(0), Any), (solicited(), Solicited), (error(), Errors)] {
                let (mut s, id) = set(4);
                s.arm(id, first);
                s.arm(id, second);
                s.push(id, &c);
                // An entry fires an arm that is at least as broad as the narrowest that the entry satisfies.
                assert_eq!(
                    s.pop_notification().is_some(),
                    merged >= strength,
                    "{first:?} {second:?} {c:?}"
                );
                assert_eq!(s.pop_notification(), None);
            }
        }
    }
}

#[test]
fn rearming_before_the_notification_is_taken_loses_nothing() {
    let (mut s, id) = set(8);
    s.arm(id, Arm::Any);
    s.push(id, &entry(0));
    s.arm(id, Arm::Any);
    s.push(id, &entry(1));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    assert_eq!(s.pop_notification(), None);
    s.arm(id, Arm::Any);
    s.push(id, &entry(2));
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
    assert_eq!(s.pop_notification(), None);
    s.push(id, &entry(3));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
}

#[test]
fn what_was_disarmed_is_not_told_and_satisfies_the_next_arm() {
    let (mut s, id) = set(8);
    s.arm(id, Arm::Any);
    s.disarm(id);
    s.push(id, &entry(0));
    assert_eq!(s.pop_notification(), None);
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Ready)));
}

#[test]
fn overflow_is_told_once_and_entries_stay_readable() {
    let (mut s, id) = set(2);
    s.arm(id, Arm::Errors);
    (0..3).for_each(|i| s.push(id, &entry(i)));
    assert!(s.failed == 1 && s.has_failed(id));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Overflow)));
    s.push(id, &entry(9));
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), None);
    assert_eq!(drain(&mut s, id), [0, 1]);
}

#[test]
fn overflow_while_unarmed_waits_for_the_next_arm() {
    let (mut s, id) = set(1);
    (0..2).for_each(|i| s.push(id, &entry(i)));
    assert_eq!(s.pop_notification(), None);
    s.arm(id, Arm::Errors);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Overflow)));
    s.arm(id, Arm::Any);
    assert_eq!(s.pop_notification(), None);
}

#[test]
fn resize_keeps_entries_or_refuses() {
    let (mut s, id) = set(3);
    (0..2).for_each(|i| s.push(id, &entry(i)));
    drain(&mut s, id);
    (2..5).for_each(|i| s.push(id, &entry(i)));
    assert_eq!(
        s.resize(id, &mut CqMemory::try_new(2).unwrap()),
        Err(ResizeError::TooSmall)
    );
    assert_eq!(s.resize(id, &mut CqMemory::try_new(4).unwrap()), Ok(()));
    s.push(id, &entry(5));
    assert_eq!(s.failed, 0);
    assert_eq!(drain(&mut s, id), [2, 3, 4, 5]);
}

#[test]
fn a_destroyed_queue_does_not_notify() {
    let (mut s, id) = set(3);
    s.arm(id, Arm::Any);
    s.push(id, &entry(0));
    s.remove(id);
    assert_eq!(s.pop_notification(), None);
    let other = s.insert(Cq::new(CqMemory::try_new(1).unwrap())).unwrap();
    s.push(id, &entry(0));
    assert_eq!(s.poll(other, &mut [Completion::default()]), 0);
    assert_eq!(s.pop_notification(), None);
}

/// What a queue told until nothing is left.
fn told(s: &mut CqSet) -> usize {
    core::iter::from_fn(|| s.pop_notification())
        .inspect(|(_, status)| assert_eq!(*status, CqStatus::Ready))
        .count()
}

/// Time passes, and the queues are woken when they want to be.
fn pass(s: &mut CqSet, time: Duration) {
    let end = s.now.after(time);
    while let Some(at) = s.next_deadline().filter(|at| *at <= end) {
        s.see(at);
        s.handle_timeout();
    }
    s.see(end);
    s.handle_timeout();
}

const US: Duration = Duration::from_micros(1);

#[test]
fn x15_what_satisfies_an_arm_at_once_depends_on_its_kind() {
    let (mut s, id) = set(8);
    s.push(id, &entry(0));
    s.arm(id, Arm::Solicited);
    assert_eq!(told(&mut s), 0);
    s.push(id, &solicited());
    assert_eq!(told(&mut s), 1);
    s.push(id, &solicited());
    s.arm(id, Arm::Errors);
    assert_eq!(told(&mut s), 0);
    // A wider request later is measured anew.
    s.arm(id, Arm::Solicited);
    assert_eq!(told(&mut s), 1);
    s.push(id, &error());
    s.arm(id, Arm::Errors);
    assert_eq!(told(&mut s), 1);
}

#[test]
fn x16_failure_waits_for_somebody_to_ask_and_is_told_once() {
    for arm in [Arm::Errors, Arm::Solicited, Arm::Any] {
        let (mut s, id) = set(8);
        s.push(id, &entry(0));
        s.fail(id);
        s.fail(id);
        assert_eq!((s.failed, s.pop_notification()), (1, None));
        // Nothing more is reported; what was there can be had.
        s.push(id, &entry(1));
        s.arm(id, arm);
        assert_eq!(s.pop_notification(), Some((id, CqStatus::Failed)));
        s.arm(id, arm);
        assert_eq!(s.pop_notification(), None);
        assert_eq!(drain(&mut s, id), [0]);
    }
}

#[test]
fn moderation_waits_for_so_many_entries() {
    let (mut s, id) = set(8);
    s.moderate(id, MODERATION_UNLIMITED, 3).unwrap();
    for _ in 0..2 {
        s.arm(id, Arm::Any);
        s.push(id, &entry(0));
        s.push(id, &entry(1));
        pass(&mut s, 1_000_000 * US);
        assert_eq!((told(&mut s), s.next_deadline()), (0, None));
        s.push(id, &entry(2));
        assert_eq!(told(&mut s), 1);
        assert_eq!(drain(&mut s, id).len(), 3);
    }
}

#[test]
fn moderation_waits_for_so_long_after_the_first_entry() {
    let (mut s, id) = set(8);
    s.moderate(id, 50, MODERATION_UNLIMITED).unwrap();
    s.arm(id, Arm::Any);
    pass(&mut s, 1000 * US);
    s.push(id, &entry(0));
    pass(&mut s, 30 * US);
    s.push(id, &entry(1));
    assert_eq!(s.next_deadline(), Some(s.now.after(20 * US)));
    pass(&mut s, 19 * US);
    assert_eq!(told(&mut s), 0);
    pass(&mut s, US);
    assert_eq!(told(&mut s), 1);
    // Not armed: nothing, however long.
    s.push(id, &entry(2));
    pass(&mut s, 1000 * US);
    assert_eq!((told(&mut s), s.next_deadline()), (0, None));
    // Entries that were there are as good as one that comes now.
    s.arm(id, Arm::Any);
    assert_eq!(told(&mut s), 0);
    pass(&mut s, 49 * US);
    assert_eq!(told(&mut s), 0);
    pass(&mut s, US);
    assert_eq!(told(&mut s), 1);
}

#[test]
fn whichever_of_both_comes_first() {
    let (mut s, id) = set(8);
    s.moderate(id, 50, 2).unwrap();
    for entries in [1, 2] {
        s.arm(id, Arm::Any);
        for _ in 0..entries {
            s.push(id, &entry(0));
        }
        assert_eq!(told(&mut s), entries - 1);
        pass(&mut s, 50 * US);
        assert_eq!(told(&mut s), 2 - entries);
    }
    // Those that had come since the last notification count, polled or not.
    s.push(id, &entry(0));
    drain(&mut s, id);
    s.arm(id, Arm::Any);
    assert_eq!(told(&mut s), 0);
    s.push(id, &entry(1));
    assert_eq!(told(&mut s), 1);
}

#[test]
fn only_what_the_arm_is_for_begins_the_wait() {
    let (mut s, id) = set(8);
    s.moderate(id, 50, 3).unwrap();
    s.arm(id, Arm::Solicited);
    (0..4).for_each(|i| s.push(id, &entry(i)));
    pass(&mut s, 1000 * US);
    assert_eq!(told(&mut s), 0);
    s.push(id, &solicited());
    pass(&mut s, 49 * US);
    assert_eq!(told(&mut s), 0);
    // A weaker request does not end it, and a stronger one does not begin it again.
    s.arm(id, Arm::Errors);
    s.arm(id, Arm::Any);
    pass(&mut s, US);
    assert_eq!(told(&mut s), 1);
}

#[test]
fn errors_overflow_and_failure_do_not_wait() {
    let (mut s, id) = set(4);
    s.moderate(id, 50, 4).unwrap();
    s.arm(id, Arm::Any);
    s.push(id, &entry(0));
    assert_eq!(told(&mut s), 0);
    s.push(id, &error());
    assert_eq!(told(&mut s), 1);
    s.push(id, &error());
    s.arm(id, Arm::Any);
    assert_eq!(told(&mut s), 1);
    drain(&mut s, id);
    s.arm(id, Arm::Any);
    s.push(id, &entry(0));
    s.fail(id);
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Failed)));
    assert_eq!(s.pop_notification(), None);
    pass(&mut s, 1000 * US);
    assert_eq!(s.pop_notification(), None);

    let (mut s, id) = set(1);
    s.moderate(id, 50, 4).unwrap();
    s.arm(id, Arm::Errors);
    (0..2).for_each(|i| s.push(id, &entry(i)));
    assert_eq!(s.pop_notification(), Some((id, CqStatus::Overflow)));
}

#[test]
fn a_full_queue_does_not_wait() {
    let (mut s, id) = set(8);
    s.moderate(id, MODERATION_UNLIMITED, 8).unwrap();
    // The count could not be reached any more.
    s.resize(id, &mut CqMemory::try_new(3).unwrap()).unwrap();
    s.arm(id, Arm::Any);
    (0..2).for_each(|i| s.push(id, &entry(i)));
    assert_eq!(told(&mut s), 0);
    s.push(id, &entry(2));
    assert_eq!(told(&mut s), 1);
    assert_eq!(s.failed, 0);

    let (mut s, id) = set(8);
    s.moderate(id, MODERATION_UNLIMITED, 8).unwrap();
    s.arm(id, Arm::Any);
    (0..2).for_each(|i| s.push(id, &entry(i)));
    s.resize(id, &mut CqMemory::try_new(2).unwrap()).unwrap();
    assert_eq!(told(&mut s), 1, "it became full by shrinking");
}

#[test]
fn q24_q26_x11_which_settings_mean_what() {
    let (mut s, id) = set(8);
    let all = MODERATION_UNLIMITED;
    for (interval, count) in [(all, all), (all, 9)] {
        assert_eq!(
            s.moderate(id, interval, count),
            Err(ModerateError::Unlimited)
        );
    }
    // None at all: X-11.
    for (interval, count) in [
        (0, all),
        (0, 5),
        (0, 0),
        (100, 0),
        (100, 1),
        (all, 0),
        (all, 1),
    ] {
        s.moderate(id, 100, 8).unwrap();
        s.moderate(id, interval, count).unwrap();
        s.arm(id, Arm::Any);
        s.push(id, &entry(0));
        assert_eq!(told(&mut s), 1, "{interval} {count}");
        drain(&mut s, id);
    }
    // A refused setting leaves the one in effect.
    s.moderate(id, 100, 8).unwrap();
    assert!(s.moderate(id, all, all).is_err());
    s.arm(id, Arm::Any);
    s.push(id, &entry(0));
    assert_eq!(told(&mut s), 0);
    // A new one concerns the wait in progress: measured from its beginning.
    pass(&mut s, 10 * US);
    s.moderate(id, 30, all).unwrap();
    pass(&mut s, 19 * US);
    assert_eq!(told(&mut s), 0);
    pass(&mut s, US);
    assert_eq!(told(&mut s), 1);
    for (interval, count) in [(5, all), (100, 2), (0, 0)] {
        s.moderate(id, 100, 8).unwrap();
        s.arm(id, Arm::Any);
        (0..2).for_each(|i| s.push(id, &entry(i)));
        pass(&mut s, 10 * US);
        assert_eq!(told(&mut s), 0);
        s.moderate(id, interval, count).unwrap();
        assert_eq!(told(&mut s), 1, "{interval} {count}");
        drain(&mut s, id);
    }
    s.remove(id);
    assert_eq!(s.moderate(id, 1, 2), Err(ModerateError::Unknown));
}

#[test]
fn x11_a_count_that_the_queue_cannot_hold_is_no_limit_however_many_are_polled_meanwhile() {
    let (mut s, id) = set(8);
    s.moderate(id, 1000, 20).unwrap();
    s.arm(id, Arm::Any);
    for context in 0..40 {
        s.push(id, &entry(context));
        drain(&mut s, id);
    }
    assert_eq!(told(&mut s), 0);
    // In a larger queue it is one.
    s.resize(id, &mut CqMemory::try_new(20).unwrap()).unwrap();
    assert_eq!(told(&mut s), 1);
}
