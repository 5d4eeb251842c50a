//! Devices that fail: the driver says so, lets go of everything, and restarts them, unless they fail again and again.

use std::time::Duration;

use ndkpi::NDK_VERSION_2_1;
use ntsim::ndis::OidRequest;
use ntsim::ndk::{Adapter, Leave, QpLimits};
use ntsim::virtio_net::{NicConfig, Side, UsedFlaw};

use super::{Listener, Pair, frame, ip};

const OID_GEN_STATISTICS: u32 = 0x0002_0106;
/// How often in a row a device is restarted.
const MOST_RESTARTS: usize = 3;
/// NDIS_ERROR_CODE_HARDWARE_FAILURE.
const HARDWARE_FAILURE: u32 = 0xc000_138a;

/// How often the driver has said that the device failed.
pub(super) fn failures_logged(pair: &Pair) -> usize {
    let log = pair.world.event_log(pair.a);
    log.iter()
        .filter(|entry| entry.code == HARDWARE_FAILURE)
        .count()
}

/// Frames go both ways when the device fails. It is restarted at once; the time after the last it is left alone: the adapter then is like
/// one without cable, can do everything but carry frames, and works again when it is itself restarted.
fn survived(name: &str, seed: u64, nic: NicConfig, fail: impl Fn(&Pair)) {
    let mut pair = Pair::with(seed, nic, &[]);
    assert!(pair.ping(56), "{name}");
    let listener = Listener::on(&pair.net);
    let mac = pair.nic_a.mac();
    let frames: Vec<_> = (0..100).map(|i| frame([0xff; 6], mac, 60 + i)).collect();
    let lists: Vec<_> = frames.chunks(5).map(<[_]>::to_vec).collect();
    for failures in 1..=MOST_RESTARTS + 1 {
        pair.world.send_frames(pair.a, frames.clone());
        pair.world.send_lists(pair.a, &lists);
        for i in 0..50 {
            listener.say(&frame(mac, [2, 0, 0, 0, 8, 8], 60 + i));
        }
        pair.world.run_for(Duration::from_micros(20 * seed));
        assert_eq!(failures_logged(&pair), failures - 1, "{name}");
        pair.world.take_status_indications(pair.a);
        fail(&pair);
        pair.world.run_for(Duration::from_millis(20));
        assert_eq!(failures_logged(&pair), failures, "{name}");
        let told = pair.world.take_status_indications(pair.a).len();
        let up = pair.world.adapter(pair.a).unwrap().link.up;
        assert_eq!(pair.nic_a.is_running(), up, "{name}");
        if failures <= MOST_RESTARTS {
            assert_eq!((told, up), (2, true), "{name}: down and up");
            assert!(pair.ping(1400), "{name}");
        } else {
            assert_eq!((told, up), (1, false), "{name}: down");
        }
    }
    assert!(!pair.ping(56), "{name}");
    // What is sent now comes back; that of it nothing is forgotten is the verifier's to see.
    pair.world.send_lists(pair.a, &lists);
    assert!(pair.world.ping(pair.b, ip(1)).is_none(), "{name}");
    let statistics = OidRequest::Query(OID_GEN_STATISTICS, 152);
    assert_eq!(pair.world.oid(pair.a, &statistics).unwrap().status, 0);
    pair.world.pause(pair.a);
    pair.world.resume(pair.a).unwrap();
    let logged = failures_logged(&pair);
    assert_eq!(logged, MOST_RESTARTS + 1, "{name}: each once");
    pair.world.restart_adapters(pair.a).unwrap();
    assert!(pair.world.adapter(pair.a).unwrap().link.up, "{name}");
    assert!(pair.ping(1400), "{name}");
    assert_eq!(failures_logged(&pair), logged, "{name}");
    pair.clean_up();
}

/// Devices of several kinds, all slow to send.
fn kinds() -> impl Iterator<Item = (u64, NicConfig)> {
    let transmit_latency = Duration::from_micros(100);
    let kinds = [
        (true, true, 3),
        (false, true, 1),
        (false, false, 3),
        (true, false, 0),
    ];
    kinds
        .into_iter()
        .zip(1..)
        .map(move |((busy_poll, event_idx, messages), seed)| {
            let nic = NicConfig {
                busy_poll,
                event_idx,
                messages,
                transmit_latency,
                queue_size: 64,
                ..NicConfig::default()
            };
            (seed, nic)
        })
}

#[test]
fn a_device_that_asks_for_a_reset() {
    for (seed, nic) in kinds() {
        survived("needs reset", seed, nic, |pair| pair.nic_a.give_up());
    }
}

#[test]
fn a_used_ring_that_cannot_be() {
    use UsedFlaw::*;
    for (seed, nic) in kinds() {
        for (side, flaw) in [
            (Side::Receive, IndexJump),
            (Side::Receive, IndexBack),
            (Side::Receive, BadId),
            (Side::Receive, BadLength),
            (Side::Receive, NoLength),
            (Side::Receive, Repeat),
            (Side::Transmit, IndexJump),
            (Side::Transmit, IndexBack),
            (Side::Transmit, BadId),
            (Side::Transmit, Repeat),
        ] {
            survived(&format!("{side:?} {flaw:?}"), seed, nic.clone(), |pair| {
                assert!(pair.nic_a.corrupt_used(side, flaw))
            });
        }
    }
}

/// It can only be named while some are free.
#[test]
fn a_buffer_that_the_device_was_not_given() {
    for (seed, mut nic) in kinds() {
        nic.queue_size = 1024;
        nic.transmit_latency = Duration::ZERO;
        survived("free id", seed, nic, |pair| {
            assert!(pair.nic_a.corrupt_used(Side::Transmit, UsedFlaw::FreeId));
        });
    }
}

#[test]
fn a_device_that_fails_while_it_is_paused() {
    let mut pair = Pair::new(1);
    pair.world.pause(pair.a);
    pair.nic_a.give_up();
    pair.world.run_for(Duration::from_millis(5));
    assert_eq!(failures_logged(&pair), 1);
    pair.world.resume(pair.a).unwrap();
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn a_device_that_fails_now_and_then_is_restarted_every_time() {
    let mut pair = Pair::new(3);
    for failures in 1..=2 * MOST_RESTARTS {
        pair.nic_a.give_up();
        pair.world.run_for(Duration::from_secs(61));
        assert_eq!(failures_logged(&pair), failures);
        assert!(pair.ping(56));
    }
    pair.clean_up();
}

#[test]
fn a_device_that_is_gone_is_not_restarted() {
    let mut pair = Pair::new(4);
    pair.nic_a.unplug();
    let mac = pair.nic_a.mac();
    let lists: Vec<_> = (0..100).map(|_| vec![frame([0xff; 6], mac, 60)]).collect();
    pair.world.send_lists(pair.a, &lists);
    // It looks as if it did not send any more, until somebody looks closer.
    pair.world.run_for(Duration::from_secs(30));
    assert_eq!(failures_logged(&pair), 1);
    assert!(!pair.world.adapter(pair.a).unwrap().link.up);
    assert_eq!(pair.world.sends(pair.a).outstanding, 0);
    pair.world.surprise_remove(pair.a);
    pair.clean_up();
}

#[test]
fn a_device_that_fails_under_a_consumer() {
    for flaw in [None, Some(UsedFlaw::Repeat)] {
        let mut pair = Pair::new(2);
        let objects = pair.world.call(pair.a, || {
            let adapter = Adapter::open(NDK_VERSION_2_1).unwrap();
            let pd = adapter.create_pd().unwrap();
            let cq = adapter.create_cq(16).unwrap();
            let qp = pd.create_qp(&cq, &cq, QpLimits::default()).unwrap();
            let listener = adapter.create_listener().unwrap();
            listener.listen((ip(1), 445).into()).unwrap();
            (adapter, pd, cq, qp, listener)
        });
        match flaw {
            None => pair.nic_a.give_up(),
            Some(flaw) => assert!(pair.nic_a.corrupt_used(Side::Receive, flaw)),
        }
        pair.world.run_for(Duration::from_millis(5));
        assert_eq!(failures_logged(&pair), 1);
        // The adapter carries frames again, and NDK waits for the consumer.
        assert!(pair.ping(56));
        assert!(!pair.world.adapter(pair.a).unwrap().ndk_enabled);
        assert_eq!(objects.0.leaving(), Some(Leave::Disabled));
        // Everything can be closed, and the adapter halted.
        pair.world.call(pair.a, || {
            let (adapter, pd, cq, qp, listener) = objects;
            listener.close();
            qp.close();
            cq.close();
            pd.close();
            adapter.close();
        });
        pair.world.run_for(Duration::from_millis(5));
        assert!(pair.world.adapter(pair.a).unwrap().ndk_enabled);
        pair.world.restart_adapters(pair.a).unwrap();
        assert!(pair.ping(56));
        pair.clean_up();
    }
}

/// It still has the addresses of its queues, and of memory that has been given back: it must not get at them again before it has
/// forgotten them.
#[test]
fn a_device_that_does_not_reset_itself_is_cut_off_until_it_does() {
    let mut pair = Pair::new(5);
    let listener = Listener::on(&pair.net);
    let mac = pair.nic_a.mac();
    pair.nic_a.ignore_resets(true);
    assert!(pair.nic_a.corrupt_used(Side::Transmit, UsedFlaw::BadId));
    let (mut received, mut cut_off) = (pair.nic_a.counters().received, false);
    for millisecond in 0..500 {
        listener.say(&frame(mac, [2, 0, 0, 0, 8, 8], 60));
        pair.world.run_for(Duration::from_millis(1));
        let now = pair.nic_a.counters().received;
        let grows = now > std::mem::replace(&mut received, now);
        assert!(!(cut_off && grows), "after {millisecond} ms");
        cut_off |= !grows;
    }
    assert!(cut_off, "the driver does not know whether it was reset");
    pair.nic_a.ignore_resets(false);
    pair.world.run_for(Duration::from_secs(40));
    assert!(pair.ping(56));
    pair.clean_up();
}

/// One that takes long is waited for; one that takes longer is cut off, and restarted once it has.
#[test]
fn a_device_that_takes_its_time_to_reset_itself() {
    for (milliseconds, restarted_after) in [(50, 100), (5000, 31_000)] {
        let mut pair = Pair::new(9);
        pair.nic_a.delay_resets(Duration::from_millis(milliseconds));
        assert!(pair.nic_a.corrupt_used(Side::Receive, UsedFlaw::BadId));
        pair.world.run_for(Duration::from_millis(40));
        assert_eq!(failures_logged(&pair), 1);
        assert!(!pair.world.adapter(pair.a).unwrap().link.up);
        pair.world.run_for(Duration::from_millis(100));
        let waited_for = pair.world.adapter(pair.a).unwrap().link.up;
        assert_eq!(waited_for, milliseconds == 50);
        pair.world.run_for(Duration::from_millis(restarted_after));
        assert!(pair.ping(1400), "{milliseconds} ms");
        assert_eq!(failures_logged(&pair), 1);
        pair.nic_a.delay_resets(Duration::ZERO);
        pair.clean_up();
    }
}

/// What is behind the device may be away for longer than a few restarts take.
#[test]
fn a_device_that_stands_still_for_minutes_works_again_afterwards() {
    let mut pair = Pair::new(6);
    let mac = pair.nic_a.mac();
    pair.nic_a.stand_still(true);
    for _ in 0..300 {
        pair.world
            .send_frames(pair.a, vec![frame([0xff; 6], mac, 60)]);
        pair.world.run_for(Duration::from_secs(1));
    }
    let failures = failures_logged(&pair);
    assert!((4..10).contains(&failures), "{failures}");
    assert!(!pair.world.adapter(pair.a).unwrap().link.up);
    pair.nic_a.stand_still(false);
    pair.world.run_for(Duration::from_secs(600));
    assert!(pair.ping(56));
    assert!(pair.world.adapter(pair.a).unwrap().ndk_enabled);
    assert_eq!(failures_logged(&pair), failures);
    pair.clean_up();
}

/// A device need not take what it could not send.
#[test]
fn a_device_that_does_not_send_while_its_link_is_down_has_not_failed() {
    let mut pair = Pair::new(7);
    let mac = pair.nic_a.mac();
    pair.nic_a.set_link(false);
    pair.nic_a.stand_still(true);
    pair.world
        .send_frames(pair.a, vec![frame([0xff; 6], mac, 60); 10]);
    pair.world.run_for(Duration::from_secs(60));
    assert_eq!(failures_logged(&pair), 0);
    pair.nic_a.set_link(true);
    pair.world.run_for(Duration::from_secs(8));
    pair.nic_a.stand_still(false);
    pair.world.run_for(Duration::from_secs(60));
    assert_eq!(failures_logged(&pair), 0);
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn ndk_begins_anew_after_a_failure_as_soon_as_there_is_memory_for_it() {
    let mut pair = Pair::new(8);
    pair.world.fail_allocations(pair.a, Some(0), true);
    pair.nic_a.give_up();
    pair.world.run_for(Duration::from_secs(30));
    let adapter = pair.world.adapter(pair.a).unwrap();
    assert!(adapter.link.up && !adapter.ndk_enabled);
    pair.world.fail_allocations(pair.a, None, false);
    pair.world.run_for(Duration::from_secs(15));
    assert!(pair.world.adapter(pair.a).unwrap().ndk_enabled);
    assert!(pair.ping(56));
    pair.clean_up();
}
