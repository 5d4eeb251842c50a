//! OID requests.

use std::time::Duration;

use ntsim::ndis::{OidRequest, OidResult};
use ntsim::virtio_net::NicConfig;

use super::Pair;

const SUCCESS: i32 = 0;
const NOT_SUPPORTED: i32 = 0xc000_00bb_u32 as i32;
const NOT_ACCEPTED: i32 = 0x0001_0003;
const TOO_SHORT: i32 = 0xc001_0016_u32 as i32;
const INVALID_LENGTH: i32 = 0xc001_0014_u32 as i32;
const INVALID_DATA: i32 = 0xc001_0015_u32 as i32;
const MULTICAST_FULL: i32 = 0xc001_0009_u32 as i32;

const SUPPORTED_LIST: u32 = 0x0001_0101;
const CURRENT_PACKET_FILTER: u32 = 0x0001_010e;
const CURRENT_LOOKAHEAD: u32 = 0x0001_010f;
const LINK_PARAMETERS: u32 = 0x0001_0208;
const INTERRUPT_MODERATION: u32 = 0x0001_0209;
const STATISTICS: u32 = 0x0002_0106;
const RCV_OK: u32 = 0x0002_0102;
const PERMANENT_ADDRESS: u32 = 0x0101_0101;
const CURRENT_ADDRESS: u32 = 0x0101_0102;
const MULTICAST_LIST: u32 = 0x0101_0103;
const MAXIMUM_LIST_SIZE: u32 = 0x0101_0104;
const QUERY_POWER: u32 = 0xfd01_0102;
const SET_POWER: u32 = 0xfd01_0101;
const NDK_SET_STATE: u32 = 0xfc04_0201;
const NDK_STATISTICS: u32 = 0xfc04_0202;
const NDK_CONNECTIONS: u32 = 0xfc04_0203;
const NDK_LOCAL_ENDPOINTS: u32 = 0xfc04_0204;

fn query(pair: &mut Pair, oid: u32, len: usize) -> OidResult {
    pair.world
        .oid(pair.a, &OidRequest::Query(oid, len))
        .unwrap()
}

fn set(pair: &mut Pair, oid: u32, bytes: &[u8]) -> OidResult {
    pair.world
        .oid(pair.a, &OidRequest::Set(oid, bytes))
        .unwrap()
}

fn word(data: &[u8]) -> u32 {
    u32::from_le_bytes(data.try_into().unwrap())
}

#[test]
fn everything_on_the_list_is_answered() {
    let mut pair = Pair::new(1);
    let list = query(&mut pair, SUPPORTED_LIST, 4096);
    assert_eq!(list.status, SUCCESS);
    let only_set = [LINK_PARAMETERS, NDK_SET_STATE, SET_POWER];
    for oid in list.data.chunks(4).map(word) {
        let answer = query(&mut pair, oid, 4096);
        if only_set.contains(&oid) {
            assert_eq!(answer.status, NOT_SUPPORTED, "{oid:#x}");
        } else {
            assert_eq!(answer.status, SUCCESS, "{oid:#x}");
            if ![MULTICAST_LIST, QUERY_POWER].contains(&oid) {
                assert!(!answer.data.is_empty(), "{oid:#x}");
            }
        }
    }
    pair.clean_up();
}

#[test]
fn a_buffer_too_short_learns_what_is_needed() {
    let mut pair = Pair::new(2);
    for oid in [
        SUPPORTED_LIST,
        STATISTICS,
        CURRENT_ADDRESS,
        INTERRUPT_MODERATION,
        NDK_STATISTICS,
        NDK_CONNECTIONS,
        NDK_LOCAL_ENDPOINTS,
    ] {
        let full = query(&mut pair, oid, 4096);
        let short = query(&mut pair, oid, full.data.len() - 1);
        assert_eq!(
            (short.status, short.needed as usize),
            (TOO_SHORT, full.data.len()),
            "{oid:#x}"
        );
        assert!(short.data.is_empty());
        let none = query(&mut pair, oid, 0);
        assert_eq!(none.status, TOO_SHORT);
        let exact = query(&mut pair, oid, full.data.len());
        assert_eq!(exact.status, SUCCESS);
    }
    pair.clean_up();
}

#[test]
fn a_counter_fits_into_four_bytes_or_eight() {
    let mut pair = Pair::new(3);
    assert!(pair.ping(56));
    let eight = query(&mut pair, RCV_OK, 8);
    let four = query(&mut pair, RCV_OK, 4);
    assert_eq!(eight.data.len(), 8);
    assert_eq!((four.status, four.data.len(), four.needed), (SUCCESS, 4, 8));
    assert_eq!(eight.data[..4], four.data[..]);
    assert_eq!(query(&mut pair, RCV_OK, 3).status, TOO_SHORT);
    pair.clean_up();
}

#[test]
fn addresses_are_the_devices() {
    let mut pair = Pair::new(4);
    let mac = pair.nic_a.mac();
    assert_eq!(query(&mut pair, PERMANENT_ADDRESS, 6).data, mac);
    assert_eq!(query(&mut pair, CURRENT_ADDRESS, 6).data, mac);
    pair.clean_up();
}

#[test]
fn filters_and_lists_are_checked() {
    let mut pair = Pair::new(5);
    assert_eq!(set(&mut pair, CURRENT_PACKET_FILTER, &[9, 0, 0, 0]).read, 4);
    assert_eq!(word(&query(&mut pair, CURRENT_PACKET_FILTER, 4).data), 9);
    assert_eq!(
        set(&mut pair, CURRENT_PACKET_FILTER, &[0x10, 0, 0, 0]).status,
        NOT_SUPPORTED
    );
    assert_eq!(
        set(&mut pair, CURRENT_PACKET_FILTER, &[1]).status,
        INVALID_LENGTH
    );
    assert_eq!(
        word(&query(&mut pair, CURRENT_PACKET_FILTER, 4).data),
        9,
        "a bad set changes nothing"
    );

    let most = word(&query(&mut pair, MAXIMUM_LIST_SIZE, 4).data) as usize;
    let list: Vec<u8> = (0..most)
        .flat_map(|i| [1, 0, 0x5e, 0, 0, i as u8])
        .collect();
    assert_eq!(set(&mut pair, MULTICAST_LIST, &list).status, SUCCESS);
    assert_eq!(query(&mut pair, MULTICAST_LIST, 4096).data, list);
    assert_eq!(
        set(
            &mut pair,
            MULTICAST_LIST,
            &[list.clone(), vec![1; 6]].concat()
        )
        .status,
        MULTICAST_FULL
    );
    assert_eq!(
        set(&mut pair, MULTICAST_LIST, &list[..7]).status,
        INVALID_LENGTH
    );
    assert_eq!(query(&mut pair, MULTICAST_LIST, 4096).data, list);
    assert_eq!(set(&mut pair, MULTICAST_LIST, &[]).status, SUCCESS);

    assert_eq!(
        set(&mut pair, CURRENT_LOOKAHEAD, &1514_u32.to_le_bytes()).status,
        SUCCESS
    );
    assert_eq!(
        set(&mut pair, CURRENT_LOOKAHEAD, &1515_u32.to_le_bytes()).status,
        INVALID_DATA
    );
    pair.clean_up();
}

#[test]
fn an_unknown_oid_is_not_supported() {
    let mut pair = Pair::new(6);
    assert_eq!(query(&mut pair, 0xff01_0203, 64).status, NOT_SUPPORTED);
    assert_eq!(set(&mut pair, 0xff01_0203, &[0; 64]).status, NOT_SUPPORTED);
    pair.clean_up();
}

#[test]
fn ndk_statistics_are_answered_on_both_ways() {
    let mut pair = Pair::new(7);
    let regular = query(&mut pair, NDK_STATISTICS, 248);
    let direct = pair
        .world
        .direct_oid(pair.a, &OidRequest::QueryStatistics(NDK_STATISTICS, 248))
        .unwrap();
    assert_eq!((direct.status, direct.pended), (SUCCESS, false));
    assert_eq!(regular.data, direct.data);
    let other = pair
        .world
        .direct_oid(pair.a, &OidRequest::Query(STATISTICS, 152))
        .unwrap();
    assert_eq!(other.status, NOT_SUPPORTED);
    pair.clean_up();
}

/// A regular request is preempted wherever that can be in the miniport; statistics asked for directly do not wait for it.
#[test]
fn n13_statistics_are_answered_directly_while_another_request_is_in_the_miniport() {
    let mut pair = Pair::new(10);
    let statistics = OidRequest::Query(NDK_STATISTICS, 248);
    let regular = [
        OidRequest::Query(NDK_STATISTICS, 248),
        OidRequest::Query(NDK_CONNECTIONS, 4096),
        OidRequest::Query(NDK_LOCAL_ENDPOINTS, 4096),
        OidRequest::Set(MULTICAST_LIST, &[1, 0, 0x5e, 0, 0, 1]),
        OidRequest::Set(NDK_SET_STATE, &[0]),
    ];
    for request in &regular {
        for after in 0.. {
            let held = pair.world.hold_oid(pair.a, request, after).unwrap();
            if !held.is_held() {
                assert!(after > 0, "{request:?} is never in the middle of anything");
                assert_eq!(held.wait(&mut pair.world).status, SUCCESS);
                break;
            }
            let next = pair.world.start_oid(pair.a, &statistics).unwrap();
            let before = pair.world.now();
            let direct = pair.world.start_direct_oid(pair.a, &statistics).unwrap();
            assert!(direct.is_done(), "{request:?}, {after}");
            let direct = direct.wait(&mut pair.world);
            assert_eq!(
                (direct.status, direct.pended, direct.data.len()),
                (SUCCESS, false, 248)
            );
            assert_eq!(pair.world.now(), before);
            pair.world.run_for(Duration::from_millis(1));
            assert!(held.is_held(), "the world went on without it");
            assert!(!next.is_done(), "a regular request waits its turn");
            held.release();
            assert_eq!(held.wait(&mut pair.world).status, SUCCESS);
            assert_eq!(next.wait(&mut pair.world).status, SUCCESS);
        }
    }
    pair.clean_up();
}

#[test]
fn n09_n10_ndk_is_switched_off_and_on() {
    let mut pair = Pair::new(8);
    let switch = |pair: &mut Pair, on: u8| {
        let result = set(pair, NDK_SET_STATE, &[on]);
        assert_eq!((result.status, result.pended), (SUCCESS, false));
        pair.world.run_for(Duration::from_millis(1));
        pair.world.adapter(pair.a).unwrap().ndk_enabled
    };
    assert!(pair.world.adapter(pair.a).unwrap().ndk_enabled);
    assert!(!switch(&mut pair, 0));
    assert!(!switch(&mut pair, 0));
    assert!(switch(&mut pair, 1));
    // The last order counts.
    set(&mut pair, NDK_SET_STATE, &[0]);
    set(&mut pair, NDK_SET_STATE, &[1]);
    assert!(!switch(&mut pair, 0));
    assert_eq!(set(&mut pair, NDK_SET_STATE, &[]).status, INVALID_LENGTH);
    assert_eq!(
        set(&mut pair, NDK_SET_STATE, &[1, 0]).status,
        INVALID_LENGTH
    );
    pair.clean_up();
}

#[test]
fn n12_x44_ndk_that_the_administrator_forbids_stays_off() {
    let mut pair = Pair::with(9, NicConfig::default(), &[("*NetworkDirect", "0")]);
    assert_eq!(set(&mut pair, NDK_SET_STATE, &[1]).status, NOT_SUPPORTED);
    pair.world.run_for(Duration::from_millis(1));
    assert!(!pair.world.adapter(pair.a).unwrap().ndk_enabled);
    pair.clean_up();
}

#[test]
fn n23_after_a_surprise_removal_requests_are_not_accepted() {
    let mut pair = Pair::new(4);
    pair.world.begin_surprise_removal(pair.a);
    // The miniport answers so itself: NDIS passes requests on until the adapter is halted.
    for (oid, len) in [(STATISTICS, 152), (NDK_STATISTICS, 4096)] {
        let asked = OidRequest::Query(oid, len);
        assert_eq!(query(&mut pair, oid, len).status, NOT_ACCEPTED, "{oid:#x}");
        let direct = pair.world.direct_oid(pair.a, &asked).unwrap();
        assert_eq!(direct.status, NOT_ACCEPTED, "{oid:#x}");
    }
    let filter = set(&mut pair, CURRENT_PACKET_FILTER, &0u32.to_le_bytes());
    assert_eq!(filter.status, NOT_ACCEPTED);
    pair.world.end_surprise_removal(pair.a);
    pair.clean_up();
}
