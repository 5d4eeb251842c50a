//! Pausing, links, devices that vanish.

use std::time::Duration;

use ntsim::ndis::OidRequest;
use ntsim::virtio_net::NicConfig;

use super::{Listener, Pair, frame, ip};

const LINK_STATE: u32 = 0x4001_0017;

#[test]
fn a_paused_adapter_carries_nothing_and_a_restarted_one_does() {
    let mut pair = Pair::new(1);
    assert!(pair.ping(56));
    for _ in 0..3 {
        pair.world.pause(pair.a);
        assert!(!pair.world.adapter(pair.a).unwrap().running);
        assert!(pair.world.ping(pair.b, ip(1)).is_none());
        pair.world.resume(pair.a).unwrap();
        assert!(pair.ping(56));
    }
    pair.clean_up();
}

#[test]
fn pausing_waits_for_frames_on_their_way() {
    let nic = NicConfig {
        transmit_latency: Duration::from_micros(500),
        queue_size: 32,
        ..Default::default()
    };
    let mut pair = Pair::with(2, nic, &[]);
    let (from, to) = (pair.nic_a.mac(), pair.nic_a.mac());
    let listener = Listener::on(&pair.net);
    for round in 0..5 {
        let frames = (0..100).map(|i| frame([0xff; 6], from, 60 + i)).collect();
        pair.world.send_frames(pair.a, frames);
        for i in 0..100 {
            listener.say(&frame(to, [2, 0, 0, 0, 8, 8], 60 + i));
        }
        pair.world.run_for(Duration::from_micros(round * 50));
        pair.world.pause(pair.a);
        pair.world.resume(pair.a).unwrap();
    }
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn removing_an_adapter_under_load_is_clean() {
    for seed in 0..10 {
        let nic = NicConfig {
            transmit_latency: Duration::from_micros(100),
            queue_size: 64,
            ..Default::default()
        };
        let mut pair = Pair::with(seed, nic, &[]);
        let listener = Listener::on(&pair.net);
        let mac = pair.nic_a.mac();
        let frames: Vec<_> = (0..200).map(|i| frame([0xff; 6], mac, 60 + i)).collect();
        // A net buffer to a list, then several.
        pair.world.send_frames(pair.a, frames[..100].to_vec());
        let groups: Vec<_> = frames[100..].chunks(7).map(<[_]>::to_vec).collect();
        pair.world.send_lists(pair.a, &groups);
        for i in 0..100 {
            listener.say(&frame(mac, [2, 0, 0, 0, 8, 8], 60 + i));
        }
        pair.world.run_for(Duration::from_micros(seed * 20));
        pair.clean_up();
    }
}

#[test]
fn the_link_going_down_and_up_is_told() {
    let mut pair = Pair::new(3);
    pair.world.run_for(Duration::from_millis(1));
    pair.world.take_status_indications(pair.a);
    for up in [false, true, false, true] {
        pair.nic_a.set_link(up);
        pair.world.run_for(Duration::from_millis(1));
        let told = pair.world.take_status_indications(pair.a);
        assert_eq!(
            told.iter().filter(|told| told.code == LINK_STATE).count(),
            1
        );
        assert_eq!(pair.world.adapter(pair.a).unwrap().link.up, up);
    }
    assert!(pair.ping(56));
    pair.clean_up();
}

/// Devices that have one message for everything do not say when the link has changed.
#[test]
fn a_link_that_shares_its_message_is_read_now_and_then_and_every_change_is_told() {
    let nic = NicConfig {
        messages: 1,
        ..Default::default()
    };
    let mut pair = Pair::with(9, nic, &[]);
    pair.world.run_for(Duration::from_millis(100));
    let before = pair.nic_a.counters();
    for _ in 0..200 {
        assert!(pair.ping(56));
        pair.world.run_for(Duration::from_micros(50));
    }
    let after = pair.nic_a.counters();
    let (interrupts, loads) = (
        after.interrupts - before.interrupts,
        after.config_loads - before.config_loads,
    );
    assert!(interrupts >= 200, "{interrupts}");
    assert!(
        (1..20).contains(&loads),
        "{loads} loads, {interrupts} interrupts"
    );
    pair.world.take_status_indications(pair.a);
    // In the middle of traffic, and no interrupt follows.
    for up in [false, true, false, true] {
        pair.world.run_for(Duration::from_millis(7));
        assert!(!pair.nic_a.is_link_up() || pair.ping(56));
        pair.nic_a.set_link(up);
        pair.world.run_for(Duration::from_millis(50));
        let told = pair.world.take_status_indications(pair.a);
        let changes = told.iter().filter(|told| told.code == LINK_STATE);
        assert_eq!(changes.count(), 1);
        assert_eq!(pair.world.adapter(pair.a).unwrap().link.up, up);
    }
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn an_adapter_started_without_link_learns_of_it_later() {
    let mut pair = Pair::new(4);
    pair.nic_a.set_link(false);
    pair.world.restart_adapters(pair.a).unwrap();
    assert!(!pair.world.adapter(pair.a).unwrap().link.up);
    pair.nic_a.set_link(true);
    pair.world.run_for(Duration::from_millis(1));
    assert!(pair.world.adapter(pair.a).unwrap().link.up);
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn a_device_pulled_out_is_let_go() {
    let nic = NicConfig {
        transmit_latency: Duration::from_micros(100),
        ..Default::default()
    };
    let mut pair = Pair::with(5, nic, &[]);
    let mac = pair.nic_a.mac();
    pair.world.send_frames(
        pair.a,
        (0..50).map(|i| frame([0xff; 6], mac, 60 + i)).collect(),
    );
    pair.world.surprise_remove(pair.a);
    assert!(pair.world.adapter(pair.a).is_none());
    assert!(
        pair.world
            .oid(pair.a, &OidRequest::Query(0x0002_0106, 152))
            .is_none()
    );
    pair.clean_up();
}

#[test]
fn cancelling_sends_that_do_not_wait_changes_nothing() {
    let mut pair = Pair::new(6);
    let mac = pair.nic_a.mac();
    pair.world.send_frames(
        pair.a,
        (0..50).map(|i| frame([0xff; 6], mac, 60 + i)).collect(),
    );
    pair.world.cancel_sends(pair.a, 0x1234);
    pair.world.run_for(Duration::from_millis(5));
    assert!(pair.ping(56));
    assert_eq!(pair.world.sends(pair.a).cancelled, 0);
    pair.clean_up();
}

#[test]
fn cancelling_sends_takes_back_those_that_wait_and_no_others() {
    let nic = NicConfig {
        transmit_latency: Duration::from_micros(200),
        queue_size: 32,
        ..Default::default()
    };
    let mut pair = Pair::with(7, nic, &[]);
    let listener = Listener::on(&pair.net);
    let mac = pair.nic_a.mac();
    let before = pair.world.sends(pair.a);
    // Far more than the queue has room for, in turns: to be cancelled, to be sent.
    for i in 0..20 {
        let lists = |kind: u8| -> Vec<Vec<Vec<u8>>> {
            let mut frame = frame([0xff; 6], mac, 60 + i);
            frame[14] = kind;
            vec![vec![frame.clone(), frame.clone()], vec![frame]]
        };
        pair.world.send_cancellable(pair.a, &lists(1), 7);
        pair.world.send_cancellable(pair.a, &lists(2), 8);
    }
    pair.world.cancel_sends(pair.a, 7);
    pair.world.run_for(Duration::from_millis(50));
    let after = pair.world.sends(pair.a);
    let cancelled = after.cancelled - before.cancelled;
    assert!((20..40).contains(&cancelled), "{cancelled} of 40 waited");
    assert_eq!(after.sent - before.sent + cancelled, 80);
    assert_eq!((after.failed, after.outstanding), (before.failed, 0));
    let heard = listener.heard(super::EXPERIMENT);
    let of = |kind: u8| heard.iter().filter(|frame| frame[14] == kind).count();
    assert_eq!(of(2), 60, "all that were not cancelled");
    assert!(of(1) < 60);
    assert!(pair.ping(56));
    pair.clean_up();
}
