//! What is kept, and what of that is believed: a packet that came early may be made up.

use super::*;
use roce::Psn;

/// One of them is made up, and nobody can say which: the peer sends it once more.
#[test]
fn of_two_packets_with_one_psn_that_differ_neither_is_believed() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"evil");
    r.inject_reth(WriteOnly, PSN + 2, mr.reth(4, 4), b"good");
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"good");
    // The same once more is no contradiction, also if it wants an answer now.
    let ext = ExtHeaders {
        reth: Some(mr.reth(4, 4)),
        ..ExtHeaders::NONE
    };
    let quiet = r.frame(r.bth(WriteOnly, PSN + 2), ext, b"good");
    r.feed(&quiet);
    assert_eq!(early(&r), [2, 0, 0, 2]);
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
    write(&mut r, PSN);
    assert_eq!(answers(&mut r), [(PSN, ACK), (PSN + 1, SEQUENCE)]);
    assert_eq!(r.host.bytes(&mr)[..8], [0; 8]);
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"good");
    assert_eq!(answers(&mut r), [(PSN + 2, ACK)]);
    assert_eq!(r.host.bytes(&mr)[..8], *b"goodgood");
    assert_eq!(early(&r), [2, 1, 1, 0]);
}

/// Whatever in them differs.
#[test]
fn every_part_of_a_packet_can_contradict() {
    let differ: [fn(&mut Raw, u32, &Mr); 6] = [
        |r, psn, mr| r.inject_reth(WriteOnly, psn, mr.reth(0, 4), b"data"),
        |r, psn, mr| r.inject_reth(WriteOnly, psn, mr.reth(0, 4), b"Data"),
        |r, psn, mr| r.inject_reth(WriteOnly, psn, mr.reth(1, 4), b"data"),
        |r, psn, mr| r.inject_reth(ReadRequest, psn, mr.reth(0, 4), &[]),
        |r, psn, mr| r.inject_immediate(WriteOnlyImm, psn, Some(mr.reth(0, 4)), [1; 4], b"data"),
        |r, psn, mr| r.inject_immediate(WriteOnlyImm, psn, Some(mr.reth(0, 4)), [2; 4], b"data"),
    ];
    for (i, one) in differ.iter().enumerate() {
        for (j, other) in differ.iter().enumerate() {
            let mut r = Raw::small();
            let mr = r.host.open(vec![0; 100]);
            r.receive(1, &mr);
            one(&mut r, PSN + 1, &mr);
            write(&mut r, PSN + 2);
            other(&mut r, PSN + 1, &mr);
            assert_eq!(r.only_ack(), (PSN, SEQUENCE));
            write(&mut r, PSN);
            let believed = r.host.engine.counters().early_requests_executed > 0;
            assert_eq!(believed, i == j, "{i} {j}");
        }
    }
}

/// A loss is followed by many packets, a lucky guess by none.
#[test]
fn what_came_early_alone_waits_for_company() {
    let scene = || {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 100]);
        r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"once");
        assert_eq!(r.only_ack(), (PSN, SEQUENCE));
        write(&mut r, PSN);
        assert_eq!(answers(&mut r), [(PSN, ACK), (PSN + 1, SEQUENCE)]);
        assert_eq!(early(&r), [1, 0, 0, 1]);
        assert_eq!(r.host.bytes(&mr)[..4], [0; 4]);
        (r, mr)
    };
    // Another one comes.
    let (mut r, mr) = scene();
    write(&mut r, PSN + 2);
    assert_eq!(r.host.bytes(&mr)[..4], *b"once");
    assert_eq!(answers(&mut r), [(PSN + 2, ACK)]);
    assert_eq!(early(&r), [2, 2, 0, 0]);
    // Or the one that was asked for, whatever it says.
    let (mut r, mr) = scene();
    r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"more");
    assert_eq!(r.host.bytes(&mr)[..4], *b"more");
    assert_eq!(answers(&mut r), [(PSN + 1, ACK)]);
    assert_eq!(early(&r), [1, 0, 1, 0]);
    // Company does not last longer than what it was kept with.
    write(&mut r, PSN + 3);
    write(&mut r, PSN + 4);
    write(&mut r, PSN + 2);
    assert_eq!(answers(&mut r), [(PSN + 4, ACK)]);
    write(&mut r, PSN + 6);
    write(&mut r, PSN + 5);
    assert_eq!(answers(&mut r), [(PSN + 6, SEQUENCE)]);
}

/// PSNs at which a packet would be kept, of those around.
fn kept_at(prepare: impl Fn(&mut Raw)) -> Vec<u32> {
    let is_kept = |psn: &u32| {
        let mut r = Raw::small();
        prepare(&mut r);
        let before = r.host.engine.usage().early;
        write(&mut r, *psn);
        r.host.engine.usage().early > before
    };
    (PSN - 50..PSN + 200)
        .chain([1 << 20, 1 << 23, Psn::MASK].map(|far| (PSN + far) & Psn::MASK))
        .filter(is_kept)
        .collect()
}

/// What is kept will be executed: who sees nothing of a connection must not find a PSN for it more easily than once in 2^20.
#[test]
fn what_lies_far_ahead_is_not_kept() {
    assert_eq!(kept_at(|_| {}), [PSN + 1, PSN + 2, PSN + 3]);
    let gap = |r: &mut Raw| {
        for psn in [1, 2, 3, 4, 6, 7, 8, 9, 10] {
            write(r, PSN + psn);
        }
    };
    assert_eq!(kept_at(gap), [5, 11, 12, 13, 14].map(|psn| PSN + psn));
}

/// However much is missing: there are no more than nine PSNs at which a packet would be executed or kept.
#[test]
fn little_is_kept_where_much_is_missing() {
    let gaps = |r: &mut Raw| {
        // The first is missing, and two before each of these.
        for psn in [1, 4, 7, 10] {
            write(r, PSN + psn);
        }
    };
    assert_eq!(
        kept_at(gaps),
        [2, 3, 5, 6, 8, 9, 11, 12].map(|psn| PSN + psn)
    );
    let more = |r: &mut Raw| {
        gaps(r);
        write(r, PSN + 12);
    };
    assert_eq!(
        kept_at(more),
        [2, 3, 5, 6, 8, 9, 11, 13].map(|psn| PSN + psn)
    );
    // As much of a gap as closes may be missing farther on.
    let closed = |r: &mut Raw| {
        more(r);
        for psn in [2, 5] {
            write(r, PSN + psn);
        }
    };
    assert_eq!(
        kept_at(closed),
        [3, 6, 8, 9, 11, 13, 14, 15].map(|psn| PSN + psn)
    );
    let passed = |r: &mut Raw| {
        closed(r);
        write(r, PSN);
        write(r, PSN + 3);
    };
    assert_eq!(
        kept_at(passed),
        [8, 9, 11, 13, 14, 15, 16].map(|psn| PSN + psn)
    );
}

/// With too many responses what comes behind it would seem to come before what is missing, and not be kept.
#[test]
fn a_read_that_takes_too_many_psns_is_not_kept() {
    for (len, kept) in [
        (256, 1),
        ((1 << 28) - 256, 1),
        ((1 << 28) - 255, 0),
        (1 << 31, 0),
        (u32::MAX, 0),
    ] {
        let mut r = Raw::small();
        let (va, rkey) = (0, 1);
        r.inject_reth(ReadRequest, PSN + 1, Reth { va, rkey, len }, &[]);
        assert_eq!(early(&r)[3], kept, "{len}");
        if kept == 0 {
            quiet_write(&mut r, PSN + 2);
            assert_eq!(early(&r)[3], 1, "{len}");
        }
    }
}
