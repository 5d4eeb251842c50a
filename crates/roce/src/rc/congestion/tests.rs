//! Arithmetic of the limiter.

use super::*;
use crate::Rng;

const NOW: Instant = Instant(1_000_000_000);
const LINK: u32 = 10_000_000;

fn limiter(dcqcn: &Dcqcn) -> Limiter {
    let mut limiter = Limiter::default();
    limiter.release(dcqcn);
    limiter
}

/// (R_C, R_T)
fn rates(limiter: &Limiter) -> (u32, u32) {
    (limiter.rate, limiter.target)
}

#[test]
fn without_the_setting_it_costs_a_word_and_does_nothing() {
    assert_eq!(size_of::<Congestion>(), size_of::<usize>());
    let mut congestion = Congestion::try_new(None).unwrap();
    congestion.marked(NOW, None);
    congestion.notified(NOW, None);
    congestion.sent(NOW, 1 << 30, None);
    assert!(congestion.admits(NOW, None));
    assert!(!congestion.owes_notification() && !congestion.take_notification());
    assert!(!congestion.is_slow(4096, None));
    assert_eq!(congestion.deadline(), None);
}

#[test]
fn the_first_notifications_halve_the_rate_and_the_rate_before_is_aimed_at() {
    let dcqcn = Dcqcn::default();
    let mut l = limiter(&dcqcn);
    assert_eq!(rates(&l), (LINK, LINK));
    l.cut(NOW, &dcqcn);
    assert_eq!((rates(&l), l.alpha), ((LINK / 2, LINK), ONE));
    l.cut(NOW.after_micros(50), &dcqcn);
    assert_eq!((rates(&l), l.alpha), ((LINK / 4, LINK / 2), ONE));
}

#[test]
fn the_cut_is_as_deep_as_the_estimate_says() {
    let dcqcn = Dcqcn::default();
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    l.rate = 4_000_000;
    l.alpha = ONE / 2;
    l.cut(NOW.after_micros(50), &dcqcn);
    // 1 - 1/4 of it, and 255/256 of the estimate and 1/256.
    assert_eq!(rates(&l), (3_000_000, 4_000_000));
    assert_eq!(l.alpha, ONE / 2 / 256 * 255 + ONE / 256);
}

#[test]
fn the_estimate_falls_while_no_notification_comes() {
    let dcqcn = Dcqcn::default();
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    l.catch_up(Instant(NOW.0 + 54_999), &dcqcn);
    assert_eq!(l.alpha, ONE);
    l.catch_up(NOW.after_micros(55), &dcqcn);
    assert_eq!(l.alpha, ONE / 256 * 255);
    l.catch_up(NOW.after_micros(2 * 55), &dcqcn);
    assert_eq!(l.alpha, ONE / 256 * 255 / 256 * 255);
}

#[test]
fn the_rate_comes_back_halfway_five_times_and_to_the_link_in_the_end() {
    let dcqcn = Dcqcn::default();
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    let mut rate = LINK / 2;
    for round in 1..=23 {
        assert!(l.is_limited(&dcqcn));
        let at = NOW.after_micros(55 * round);
        l.catch_up(Instant(at.0 - 1), &dcqcn);
        assert_eq!(l.rate, rate);
        l.catch_up(at, &dcqcn);
        rate += (LINK - rate).div_ceil(2);
        assert_eq!(rates(&l), (rate, LINK), "round {round}");
    }
    assert!(!l.is_limited(&dcqcn));
    // What comes next is a new congestion.
    assert_eq!(l.alpha, ONE);
}

#[test]
fn after_fast_recovery_the_rate_aimed_at_rises_and_fast_once_both_counters_say_so() {
    let dcqcn = Dcqcn {
        byte_counter: 1_000_000,
        ..Dcqcn::default()
    };
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    l.cut(NOW.after_micros(50), &dcqcn);
    l.cut(NOW.after_micros(100), &dcqcn);
    let cut = NOW.after_micros(100);
    assert_eq!(rates(&l), (LINK / 8, LINK / 4));
    let mut target = LINK / 4;
    for round in 1..=8 {
        l.catch_up(cut.after_micros(55 * round), &dcqcn);
        if round > 5 {
            target += 40_000;
        }
        assert_eq!(l.target, target, "timer, round {round}");
    }
    for round in 1..=8 {
        l.sent(cut, 999_999, &dcqcn);
        assert_eq!(l.target, target, "not before its time, round {round}");
        l.sent(cut, 1, &dcqcn);
        target += if round > 5 { 400_000 } else { 40_000 };
        assert_eq!(l.target, target, "byte counter, round {round}");
    }
    // A notification begins all over.
    l.cut(cut.after_micros(500), &dcqcn);
    let (rate, target) = rates(&l);
    l.sent(cut, 1_000_000, &dcqcn);
    assert_eq!(rates(&l), (rate + (target - rate).div_ceil(2), target));
}

#[test]
fn notifications_close_together_are_one_and_no_number_of_them_goes_below_the_least_rate() {
    let dcqcn = Dcqcn::default();
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    l.cut(Instant(NOW.0 + 24_999), &dcqcn);
    assert_eq!(l.rate, LINK / 2);
    let mut now = NOW;
    for _ in 0..1000 {
        now = now.after_micros(25);
        l.cut(now, &dcqcn);
        assert!(l.rate >= 10_000);
    }
    assert_eq!(rates(&l), (10_000, 10_000));
}

#[test]
fn packets_are_as_far_apart_as_the_rate_says_and_lateness_is_made_up_for_in_part() {
    let dcqcn = Dcqcn::default();
    let mut c = Congestion::try_new(Some(&dcqcn)).unwrap();
    let p = Some(&dcqcn);
    c.connect(p);
    c.sent(NOW, 5000, p);
    assert!(c.admits(NOW, p), "no limit, no waiting");
    c.notified(NOW, p);
    assert!(c.admits(NOW, p));
    c.sent(NOW, 5000, p);
    // 5000 bytes at 5 Gbit/s.
    let next = Instant(NOW.0 + 8000);
    assert!(!c.admits(Instant(next.0 - 1), p));
    assert_eq!(c.deadline(), Some(next));
    assert!(c.admits(next, p));
    assert_eq!(c.deadline(), None);
    // 30 us late: 20 of them are worth two and a half packets, of which the last is sent early.
    let late = next.after_micros(30);
    for _ in 0..3 {
        assert!(c.admits(late, p));
        c.sent(late, 5000, p);
    }
    assert!(!c.admits(late, p));
    assert_eq!(c.deadline(), Some(late.after_micros(4)));
    assert!(!c.is_slow(5000, p));
    let mut now = late;
    for _ in 0..10 {
        now = now.after_micros(25);
        c.notified(now, p);
    }
    assert!(c.is_slow(5000, p));
}

#[test]
fn peers_are_notified_once_in_a_while() {
    let dcqcn = Dcqcn::default();
    let mut c = Congestion::try_new(Some(&dcqcn)).unwrap();
    let p = Some(&dcqcn);
    c.connect(p);
    for (micros, owed) in [(0, true), (1, false), (49, false), (50, true), (101, true)] {
        c.marked(NOW.after_micros(micros), p);
        assert_eq!(c.owes_notification(), owed, "{micros}");
        assert_eq!(c.take_notification(), owed);
        assert!(!c.owes_notification());
    }
}

#[test]
fn an_hour_of_silence_is_made_up_for_in_a_moment() {
    let dcqcn = Dcqcn {
        link_mbps: 4_000_000,
        timer_us: 1,
        alpha_us: 1,
        additive_mbps: 1,
        ..Dcqcn::default()
    };
    let mut l = limiter(&dcqcn);
    l.cut(NOW, &dcqcn);
    (l.rate, l.target) = (1_000_000, 2_000_000);
    let later = NOW.after_micros(3_600_000_000);
    let before = l.timer_rounds;
    l.catch_up(later, &dcqcn);
    assert_eq!(l.timer_rounds - before, MOST_PERIODS);
    assert!(l.timer_at > later && l.alpha_at > later);
}

/// Whatever the parameters and whatever happens, rates stay within their limits, and it does not overflow.
#[test]
fn rates_stay_within_limits() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut any = |bits: u32| rng.next_u32() >> (32 - bits) >> (rng.next_u32() % bits);
        let odd = Dcqcn {
            link_mbps: any(32),
            min_mbps: any(32),
            gain_shift: any(8) as u8,
            alpha_us: any(32),
            timer_us: any(32),
            byte_counter: any(32),
            recovery_rounds: any(8) as u8,
            additive_mbps: any(32),
            hyper_mbps: any(32),
            cnp_us: any(32),
            cut_us: any(32),
            catch_up_us: any(32),
        };
        let ecn = crate::Ecn::Dcqcn(odd).clamped();
        let dcqcn = ecn.dcqcn().unwrap();
        let mut l = limiter(dcqcn);
        let (least, most) = (dcqcn.min_mbps * KILO, dcqcn.link_mbps * KILO);
        let mut now = Instant(any(32).into());
        for _ in 0..500 {
            now = now.after_micros(any(24));
            match any(2) {
                0 => l.cut(now, dcqcn),
                1 => l.catch_up(now, dcqcn),
                _ => l.sent(now, u64::from(any(32)), dcqcn),
            }
            assert!((least..=most).contains(&l.rate), "seed {seed}: {odd:?}");
            assert!((l.rate..=most).contains(&l.target), "seed {seed}: {odd:?}");
            assert!(l.alpha <= ONE, "seed {seed}: {odd:?}");
        }
        l.cut(Instant(u64::MAX), dcqcn);
        l.sent(Instant(u64::MAX), u64::MAX, dcqcn);
        l.catch_up(Instant(u64::MAX), dcqcn);
    }
}
