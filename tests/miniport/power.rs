//! Sleep: to D3 and back.

use std::time::Duration;

use ntsim::ndis::OidRequest;
use ntsim::virtio_net::NicConfig;

use super::{EXPERIMENT, Listener, Pair, frame, ip};

const QUERY_POWER: u32 = 0xfd01_0102;
const SET_POWER: u32 = 0xfd01_0101;
const D0: [u8; 4] = 1_u32.to_le_bytes();
const D3: [u8; 4] = 4_u32.to_le_bytes();

/// Devices with messages and with a line, that interrupt in both ways, and take their time.
fn kinds() -> impl Iterator<Item = NicConfig> {
    [(true, 3), (false, 1), (true, 0), (false, 2)]
        .into_iter()
        .map(|(event_idx, messages)| NicConfig {
            event_idx,
            messages,
            transmit_latency: Duration::from_micros(100),
            queue_size: 32,
            ..NicConfig::default()
        })
}

#[test]
fn an_adapter_sleeps_and_wakes_in_the_middle_of_traffic() {
    for (nic, seed) in kinds().zip(1..) {
        let mut pair = Pair::with(seed, nic, &[]);
        let listener = Listener::on(&pair.net);
        let mac = pair.nic_a.mac();
        for round in 0..4 {
            assert!(pair.ping(56));
            // More than the queue has room for, both ways.
            let frames = (0..100).map(|i| frame([0xff; 6], mac, 60 + i)).collect();
            pair.world.send_frames(pair.a, frames);
            for i in 0..100 {
                listener.say(&frame(mac, [2, 0, 0, 0, 8, 8], 60 + i));
            }
            pair.world.run_for(Duration::from_micros(round * 50));
            pair.world.sleep(pair.a);
            assert_eq!(pair.world.sends(pair.a).outstanding, 0);
            assert!(!pair.nic_a.is_running());
            assert!(pair.world.ping(pair.b, ip(1)).is_none());
            pair.world.run_for(Duration::from_secs(60));
            pair.world.wake(pair.a).unwrap();
            assert!(pair.world.adapter(pair.a).unwrap().link.up);
            assert!(pair.world.ping(pair.b, ip(1)).is_some());
        }
        pair.clean_up();
    }
}

#[test]
fn a_link_that_goes_down_in_the_night_is_down_in_the_morning() {
    let mut pair = Pair::new(5);
    pair.world.sleep(pair.a);
    pair.nic_a.set_link(false);
    pair.world.wake(pair.a).unwrap();
    pair.world.run_for(Duration::from_millis(1));
    assert!(!pair.world.adapter(pair.a).unwrap().link.up);
    pair.nic_a.set_link(true);
    pair.world.run_for(Duration::from_millis(1));
    assert!(pair.ping(56));
    pair.clean_up();
}

/// NDIS pauses the adapter first, but does not promise it.
#[test]
fn an_adapter_that_is_not_paused_gives_back_what_it_has_before_it_sleeps() {
    for (nic, seed) in kinds().zip(11..) {
        let mut pair = Pair::with(seed, nic, &[]);
        let listener = Listener::on(&pair.net);
        let mac = pair.nic_a.mac();
        let frames: Vec<_> = (0..100).map(|i| frame([0xff; 6], mac, 60 + i)).collect();
        pair.world.send_frames(pair.a, frames.clone());
        let set = |pair: &mut Pair, state: &[u8]| {
            let request = OidRequest::Set(SET_POWER, state);
            pair.world.oid(pair.a, &request).unwrap().status
        };
        assert_eq!(set(&mut pair, &D3), 0);
        let asleep = pair.world.sends(pair.a);
        assert_eq!(asleep.outstanding, 0);
        let heard = listener.heard(EXPERIMENT).len();
        assert!(heard < 100);
        pair.world.send_frames(pair.a, frames);
        pair.world.run_for(Duration::from_millis(10));
        let refused = pair.world.sends(pair.a);
        assert_eq!(refused.failed, asleep.failed + 100);
        assert_eq!(listener.heard(EXPERIMENT).len(), heard);
        assert_eq!(set(&mut pair, &D0), 0);
        assert!(pair.ping(1400));
        pair.clean_up();
    }
}

#[test]
fn power_requests_are_checked_and_can_be_cancelled() {
    const INVALID_LENGTH: i32 = 0xc001_0014_u32 as i32;
    const INVALID_DATA: i32 = 0xc001_0015_u32 as i32;
    let mut pair = Pair::new(6);
    let mut set = |state: &[u8]| {
        let request = OidRequest::Set(SET_POWER, state);
        let result = pair.world.oid(pair.a, &request).unwrap();
        (result.status, result.read)
    };
    assert_eq!(set(&D3[..2]), (INVALID_LENGTH, 0));
    for state in [0_u32, 5, u32::MAX] {
        assert_eq!(set(&state.to_le_bytes()), (INVALID_DATA, 0));
    }
    // A request for D0 says that nothing comes of the query before it.
    assert_eq!(set(&D0), (0, 4));
    let query = OidRequest::Query(QUERY_POWER, 4);
    assert_eq!(pair.world.oid(pair.a, &query).unwrap().status, 0);
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn a_device_that_failed_works_again_after_a_sleep() {
    let mut pair = Pair::new(7);
    pair.nic_a.give_up();
    pair.world.sleep(pair.a);
    pair.world.wake(pair.a).unwrap();
    pair.world.run_for(Duration::from_millis(5));
    assert!(pair.ping(56));
    assert!(pair.world.adapter(pair.a).unwrap().ndk_enabled);
    pair.clean_up();
}

#[test]
fn a_device_that_was_given_up_works_again_after_a_sleep_and_ndk_with_it() {
    let mut pair = Pair::new(9);
    for _ in 0..=3 {
        pair.nic_a.give_up();
        pair.world.run_for(Duration::from_millis(20));
    }
    let ndk = |pair: &Pair| pair.world.adapter(pair.a).unwrap().ndk_enabled;
    assert!(!pair.world.adapter(pair.a).unwrap().link.up && !ndk(&pair));
    pair.world.sleep(pair.a);
    pair.world.wake(pair.a).unwrap();
    pair.world.run_for(Duration::from_millis(5));
    assert!(pair.ping(56) && ndk(&pair));
    pair.clean_up();
}

#[test]
fn a_device_pulled_out_in_the_night_is_let_go() {
    let mut pair = Pair::new(8);
    pair.world.sleep(pair.a);
    pair.nic_a.unplug();
    pair.world.wake(pair.a).unwrap();
    assert!(!pair.world.adapter(pair.a).unwrap().link.up);
    pair.world.surprise_remove(pair.a);
    assert!(pair.world.adapter(pair.a).is_none());
    pair.clean_up();
}
