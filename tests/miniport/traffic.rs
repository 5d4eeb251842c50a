//! Ethernet frames, both ways.

use std::time::Duration;

use ntsim::ndis::OidRequest;
use ntsim::virtio_net::NicConfig;
use ntsim::wire::LinkConfig;

use super::{EXPERIMENT, Listener, Pair, frame};

const OID_GEN_STATISTICS: u32 = 0x0002_0106;
const OID_802_3_MULTICAST_LIST: u32 = 0x0101_0103;
const OID_GEN_CURRENT_PACKET_FILTER: u32 = 0x0001_010e;
const OID_GEN_RCV_OK: u32 = 0x0002_0102;

/// Frames a machine's protocols were given, by the driver's own count.
fn received(pair: &mut Pair) -> u64 {
    let result = pair
        .world
        .oid(pair.a, &OidRequest::Query(OID_GEN_RCV_OK, 8))
        .unwrap();
    u64::from_le_bytes(result.data.try_into().unwrap())
}

#[test]
fn machines_ping_each_other_with_every_size() {
    let mut pair = Pair::new(1);
    for bytes in [0, 1, 17, 18, 19, 56, 500, 1000, 1471, 1472] {
        assert!(pair.ping(bytes), "{bytes}");
        assert!(
            pair.world.ping_with(pair.b, super::ip(1), bytes).is_some(),
            "{bytes}"
        );
    }
    pair.clean_up();
}

#[test]
fn jumbo_packets_pass_when_device_and_keyword_allow() {
    let nic = NicConfig {
        mtu: 9000,
        ..Default::default()
    };
    let mut pair = Pair::with(2, nic, &[("*JumboPacket", "9014")]);
    assert_eq!(pair.world.adapter(pair.a).unwrap().mtu, 9000);
    assert!(pair.ping(8972));
    pair.clean_up();
}

#[test]
fn devices_of_all_kinds_are_driven() {
    for (seed, (busy_poll, event_idx, indirect)) in [
        (true, true, true),
        (true, false, false),
        (false, true, true),
        (false, true, false),
        (false, false, true),
        (false, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        // No messages: an interrupt line.
        for messages in [0, 1, 2, 3] {
            let nic = NicConfig {
                busy_poll,
                event_idx,
                indirect,
                messages,
                queue_size: 64,
                ..Default::default()
            };
            let mut pair = Pair::with(seed as u64, nic, &[]);
            for _ in 0..5 {
                assert!(
                    pair.ping(1400),
                    "poll {busy_poll}, event {event_idx}, indirect {indirect}, {messages} messages"
                );
            }
            if busy_poll {
                assert_eq!(
                    pair.nic_a.counters().notifications,
                    0,
                    "a polling device need not be told"
                );
            }
            pair.clean_up();
        }
    }
}

#[test]
fn every_frame_of_a_flood_arrives_once_and_in_order() {
    let nic = NicConfig {
        queue_size: 64,
        transmit_latency: Duration::from_micros(3),
        ..Default::default()
    };
    let mut pair = Pair::with(3, nic, &[]);
    let listener = Listener::on(&pair.net);
    let from = pair.nic_a.mac();
    let frames: Vec<_> = (0..1000_u32)
        .map(|i| {
            let mut frame = frame([0xff; 6], from, 60 + (i as usize * 7) % 1454);
            frame[14..18].copy_from_slice(&i.to_le_bytes());
            frame
        })
        .collect();
    pair.world.send_frames(pair.a, frames.clone());
    pair.world.run_for(Duration::from_millis(50));
    let mut heard = listener.heard(EXPERIMENT);
    assert_eq!(heard.len(), frames.len());
    // Late scatter/gather lists overtake each other, frames do not change.
    heard.sort_by_key(|frame| u32::from_le_bytes(frame[14..18].try_into().unwrap()));
    assert!(heard == frames, "a frame was changed on its way");
    pair.clean_up();
}

#[test]
fn the_net_buffers_of_a_list_are_all_sent() {
    let nic = NicConfig {
        queue_size: 32,
        transmit_latency: Duration::from_micros(3),
        ..Default::default()
    };
    let mut pair = Pair::with(10, nic, &[]);
    let listener = Listener::on(&pair.net);
    let from = pair.nic_a.mac();
    let mut number = 0_u32;
    let mut group = |size: usize| -> Vec<Vec<u8>> {
        let frames = (0..size).map(|_| {
            let mut frame = frame([0xff; 6], from, 60 + (number as usize * 13) % 1454);
            frame[14..18].copy_from_slice(&number.to_le_bytes());
            number += 1;
            frame
        });
        frames.collect()
    };
    // More net buffers in one list than the device has room for.
    let groups: Vec<_> = [1, 2, 3, 7, 100, 1, 50]
        .into_iter()
        .map(&mut group)
        .collect();
    pair.world.send_lists(pair.a, &groups);
    pair.world.run_for(Duration::from_millis(50));
    let mut heard = listener.heard(EXPERIMENT);
    heard.sort_by_key(|frame| u32::from_le_bytes(frame[14..18].try_into().unwrap()));
    assert_eq!(heard.len(), 164);
    assert!(heard == groups.concat(), "a frame was changed on its way");
    // That each list came back once is the verifier's to see: the pause waits for all.
    pair.clean_up();
}

#[test]
fn a_net_buffer_that_cannot_be_sent_does_not_keep_its_neighbours() {
    let mut pair = Pair::new(11);
    let listener = Listener::on(&pair.net);
    let from = pair.nic_a.mac();
    let good = || frame([0xff; 6], from, 100);
    let groups = [
        vec![good(), frame([0xff; 6], from, 4000), good()],
        vec![frame([0xff; 6], from, 14)[..13].to_vec(), good()],
        vec![frame([0xff; 6], from, 4000), frame([0xff; 6], from, 5000)],
    ];
    pair.world.send_lists(pair.a, &groups);
    pair.world.run_for(Duration::from_millis(10));
    assert_eq!(listener.heard(EXPERIMENT).len(), 3);
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn a_lossy_wire_loses_pings_and_nothing_else() {
    let mut pair = Pair::new(4);
    pair.net.set_links(LinkConfig {
        loss: 0.2,
        duplicate: 0.1,
        reorder: 0.1,
        ..Default::default()
    });
    let answered = (0..50).filter(|_| pair.ping(200)).count();
    assert!(answered > 10, "{answered} of 50");
    pair.clean_up();
}

#[test]
fn frames_too_long_or_too_short_are_refused_and_come_back() {
    let mut pair = Pair::new(5);
    let listener = Listener::on(&pair.net);
    let from = pair.nic_a.mac();
    pair.world.send_frames(
        pair.a,
        vec![
            frame([0xff; 6], from, 1515 + 4),
            frame([0xff; 6], from, 4000),
            frame([0xff; 6], from, 14)[..13].to_vec(),
            frame([0xff; 6], from, 14),
        ],
    );
    pair.world.run_for(Duration::from_millis(10));
    assert_eq!(listener.heard(EXPERIMENT).len(), 1);
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn the_packet_filter_decides_what_protocols_see() {
    let mut pair = Pair::new(6);
    let listener = Listener::on(&pair.net);
    let (mine, other, group) = (
        pair.nic_a.mac(),
        [2, 0, 0, 0, 9, 9],
        [0x33, 0x33, 0, 0, 0, 7],
    );
    let sees = |pair: &mut Pair, filter: u32, to: [u8; 6]| {
        let filter = filter.to_le_bytes();
        let set = pair
            .world
            .oid(
                pair.a,
                &OidRequest::Set(OID_GEN_CURRENT_PACKET_FILTER, &filter),
            )
            .unwrap();
        assert_eq!(set.status, 0);
        let before = received(pair);
        listener.say(&frame(to, [2, 0, 0, 0, 8, 8], 100));
        pair.world.run_for(Duration::from_millis(1));
        received(pair) - before == 1
    };
    const DIRECTED: u32 = 1;
    const MULTICAST: u32 = 2;
    const ALL_MULTICAST: u32 = 4;
    const BROADCAST: u32 = 8;
    const PROMISCUOUS: u32 = 0x20;
    assert!(sees(&mut pair, DIRECTED, mine));
    assert!(!sees(&mut pair, DIRECTED, other));
    assert!(!sees(&mut pair, DIRECTED, [0xff; 6]));
    assert!(sees(&mut pair, BROADCAST, [0xff; 6]));
    assert!(!sees(&mut pair, BROADCAST, mine));
    assert!(!sees(&mut pair, MULTICAST, group));
    assert!(sees(&mut pair, ALL_MULTICAST, group));
    assert!(sees(&mut pair, PROMISCUOUS, other));
    pair.world
        .oid(pair.a, &OidRequest::Set(OID_802_3_MULTICAST_LIST, &group))
        .unwrap();
    assert!(sees(&mut pair, MULTICAST, group));
    assert!(!sees(&mut pair, 0, mine));
    pair.clean_up();
}

#[test]
fn a_burst_larger_than_the_receive_buffers_is_survived() {
    let mut pair = Pair::with(7, NicConfig::default(), &[("*ReceiveBuffers", "32")]);
    let listener = Listener::on(&pair.net);
    let to = pair.nic_a.mac();
    for _ in 0..5 {
        for i in 0..200 {
            listener.say(&frame(to, [2, 0, 0, 0, 8, 8], 60 + i));
        }
        pair.world.run_for(Duration::from_millis(5));
    }
    assert!(
        received(&mut pair) >= 160,
        "at least a buffer's worth of each burst"
    );
    assert!(pair.ping(56));
    pair.clean_up();
}

#[test]
fn few_frames_per_interrupt_are_all_indicated_in_the_end() {
    let mut pair = Pair::new(8);
    pair.world.set_receive_throttle(pair.a, 2);
    let listener = Listener::on(&pair.net);
    let to = pair.nic_a.mac();
    let before = received(&mut pair);
    for i in 0..100 {
        listener.say(&frame(to, [2, 0, 0, 0, 8, 8], 60 + i));
    }
    pair.world.run_for(Duration::from_millis(10));
    assert_eq!(received(&mut pair) - before, 100);
    pair.clean_up();
}

#[test]
fn statistics_count_what_passed() {
    let mut pair = Pair::new(9);
    let listener = Listener::on(&pair.net);
    let statistics = |pair: &mut Pair| {
        let data = pair
            .world
            .oid(pair.a, &OidRequest::Query(OID_GEN_STATISTICS, 152))
            .unwrap()
            .data;
        move |offset: usize| u64::from_le_bytes(data[offset..offset + 8].try_into().unwrap())
    };
    let before = statistics(&mut pair);
    let mine = pair.nic_a.mac();
    for len in [100, 200] {
        listener.say(&frame(mine, [2, 0, 0, 0, 8, 8], len));
    }
    pair.world.send_frames(
        pair.a,
        vec![frame([0xff; 6], mine, 300), frame([2; 6], mine, 400)],
    );
    pair.world.run_for(Duration::from_millis(5));
    let after = statistics(&mut pair);
    let grown = |offset| after(offset) - before(offset);
    // ifHCInUcastPkts, ifHCInUcastOctets, ifHCOutUcastPkts, ifHCOutUcastOctets, ifHCOutBroadcastPkts, ifHCOutBroadcastOctets.
    assert_eq!(
        [0x20, 0x68, 0x40, 0x80, 0x50, 0x90].map(grown),
        [2, 300, 1, 400, 1, 300]
    );
    pair.clean_up();
}
