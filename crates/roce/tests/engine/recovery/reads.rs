//! READ data that is lost: what of it is asked for again, and what of it is kept until its turn.

use super::*;
use crate::util::raw::Reply;
use roce::wire::Opcode::*;

const REMOTE_READ: SendOp = SendOp::Read {
    remote_va: 0x7000,
    rkey: 0x99,
};

#[test]
fn a_read_whose_answer_is_lost_is_asked_for_again_before_the_timeout() {
    let mut r = with_round_trip(Setup::small(), MS);
    let mr = r.host.open(vec![0; 600]);
    r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.all()]);
    assert_eq!(r.packets(), [(ReadRequest, PSN + 1)]);
    r.wait(MS);
    r.respond(ReadResponseFirst, PSN + 1, Some(ACK), &[7; 256]);
    r.wait(2 * MS);
    let again = r.replies();
    assert_eq!((again.len(), again[0].psn), (1, PSN + 2));
    assert_eq!(again[0].reth.unwrap().len, 600 - 256);
    assert_eq!(r.host.engine.counters().timeouts, 0);
}

/// A READ of 1500 bytes in packets of 256, of which these responses come: what is asked for again, as (packet, bytes).
fn asked_again(r: &mut Raw, come: &[u32]) -> Vec<(u32, u32)> {
    for i in come {
        respond(r, *i, 6);
    }
    r.replies()
        .iter()
        .map(|p| (p.psn - PSN, p.reth.unwrap().len))
        .collect()
}

/// Sends response `i` of a READ of 1500 bytes as one of a request that ends before response `end`.
fn respond(r: &mut Raw, i: u32, end: u32) {
    let data = pattern(1500, 7);
    let from = 256 * i as usize;
    let op = match i {
        _ if i + 1 == end => ReadResponseLast,
        0 => ReadResponseFirst,
        _ => ReadResponseMiddle,
    };
    let aeth = op.has_aeth().then_some(ACK);
    r.respond(op, PSN + i, aeth, &data[from..1500.min(from + 256)]);
}

fn reading(setup: Setup) -> (Raw, Mr) {
    let mut r = Raw::new(setup);
    let mr = r.host.open(vec![0; 1500]);
    r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.all()]);
    assert_eq!(r.packets(), [(ReadRequest, PSN)]);
    (r, mr)
}

#[test]
fn only_the_hole_in_read_data_is_asked_for_again() {
    for (come, asked) in [
        (&[0, 2, 3, 4, 5][..], &[(1, 256)][..]),
        (&[1, 2, 3, 4, 5], &[(0, 256)]),
        (&[0, 3, 4, 5], &[(1, 512)]),
        // Several are one request: it must not begin before an earlier one did when it has to be repeated.
        (&[0, 2, 4, 5], &[(1, 768)]),
        (&[0, 1, 2, 5], &[(3, 512)]),
        // They were only in another order.
        (&[0, 2, 1, 3, 4, 5], &[]),
    ] {
        let (mut r, mr) = reading(Setup {
            retry_count: 0,
            ..Setup::small()
        });
        assert_eq!(asked_again(&mut r, come), asked, "{come:?}");
        if let Some((first, len)) = asked.first() {
            assert_eq!(done(&mut r), 0);
            let end = first + len / 256;
            for i in *first..end {
                respond(&mut r, i, end);
            }
        }
        assert_eq!(done(&mut r), 1, "{come:?}");
        assert_eq!(r.host.completions[0].status, Status::Success);
        assert_eq!(*r.host.bytes(&mr), pattern(1500, 7));
        assert_eq!(r.host.engine.usage().early, 0);
        r.wait(SECOND);
        r.silence();
    }
}

/// Each that comes after a new gap has the whole of what is missing asked for.
#[test]
fn a_second_hole_is_asked_for_together_with_the_first() {
    let (mut r, mr) = reading(Setup::small());
    assert_eq!(asked_again(&mut r, &[0, 2]), [(1, 256)]);
    assert_eq!(asked_again(&mut r, &[4]), [(1, 768)]);
    assert_eq!(asked_again(&mut r, &[5]), []);
    // Both are answered.
    respond(&mut r, 1, 2);
    for i in 1..4 {
        respond(&mut r, i, 4);
    }
    assert_eq!(done(&mut r), 1);
    assert_eq!(*r.host.bytes(&mr), pattern(1500, 7));
    r.silence();
}

#[test]
fn an_answer_that_ends_where_nothing_was_asked_to_end_is_wrong() {
    let (mut r, _) = reading(Setup::small());
    assert_eq!(asked_again(&mut r, &[0, 2]), [(1, 256)]);
    respond(&mut r, 1, 2);
    // This one, in its turn, ends a part that nobody has asked for.
    respond(&mut r, 3, 4);
    assert_eq!(done(&mut r), 1);
    assert_eq!(r.host.completions[0].status, Status::BadResponse);
    assert_eq!(r.host.engine.usage().early, 0);
}

#[test]
fn where_nothing_can_be_kept_all_data_behind_a_hole_is_asked_for_again_once() {
    let mut setup = Setup::small();
    setup.config.early_frames = 0;
    let (mut r, _) = reading(setup);
    assert_eq!(asked_again(&mut r, &[0, 2, 3]), [(1, 1500 - 256)]);
    assert_eq!(asked_again(&mut r, &[4, 5]), []);
}

/// Data in the middle of a READ has nothing but its PSN to speak for it: it is kept where it is likely to be, in case somebody makes it up.
#[test]
fn read_data_far_ahead_is_kept_only_if_it_counts_messages() {
    let (mut r, _) = reading(Setup::small());
    assert_eq!(asked_again(&mut r, &[4]), [(0, 1500)]);
    assert_eq!(r.host.engine.usage().early, 0);
    let (mut r, _) = reading(Setup::small());
    assert_eq!(asked_again(&mut r, &[5]), [(0, 1280)]);
    assert_eq!(r.host.engine.usage().early, 1);
    let qp = r.qp;
    r.host.engine.destroy_qp(r.now, qp).unwrap();
    assert_eq!(r.host.engine.usage().early, 0);
}

/// The answer to a part is lost as well.
#[test]
fn what_is_still_missing_is_asked_for_again_after_silence() {
    let mut r = with_round_trip(Setup::small(), MS);
    let mr = r.host.open(vec![0; 1500]);
    r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.all()]);
    assert_eq!(r.packets().len(), 1);
    r.wait(MS);
    let data = pattern(1500, 7);
    for i in [0usize, 2, 3] {
        let op = if i == 0 {
            ReadResponseFirst
        } else {
            ReadResponseMiddle
        };
        let part = &data[256 * i..256 * (i + 1)];
        r.respond(op, PSN + 1 + i as u32, op.has_aeth().then_some(ACK), part);
    }
    assert_eq!(psns(&mut r), [2]);
    r.wait(2 * MS);
    let again = r.replies();
    let asked = (again[0].psn - PSN, again[0].reth.unwrap().len);
    assert_eq!((again.len(), asked), (1, (2, 1500 - 256)));
    assert_eq!(r.host.engine.counters().timeouts, 0);
}

/// A READ of so many packets of 256 bytes; each byte of its data is the number of the packet.
fn post_read(r: &mut Raw, packets: u32) -> Mr {
    let mr = r.host.open(vec![0; 256 * packets as usize]);
    r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.all()]);
    mr
}

/// Answers packet `i` of a READ of so many that begins with PSN `first`.
fn answer_read(r: &mut Raw, first: u32, i: u32, packets: u32) {
    let op = match i {
        _ if packets == 1 => ReadResponseOnly,
        0 => ReadResponseFirst,
        _ if i + 1 == packets => ReadResponseLast,
        _ => ReadResponseMiddle,
    };
    r.respond(op, first + i, op.has_aeth().then_some(ACK), &[i as u8; 256]);
}

/// That a response came early tells that all before it has been executed, and that is not forgotten until its turn has come.
#[test]
fn what_a_kept_response_says_of_earlier_requests_counts() {
    // What comes when the first response is made up for: nothing else, or the acknowledgement of what lies between.
    for between in [false, true] {
        let mut r = with_round_trip(Setup::small(), MS);
        post_read(&mut r, 1);
        post_write(&mut r, 3);
        post_read(&mut r, 1);
        assert_eq!(psns(&mut r), [1, 2, 3, 4, 5]);
        answer_read(&mut r, PSN + 5, 0, 1);
        assert_eq!(r.packets(), [(ReadRequest, PSN + 1)]);
        if between {
            // Known already.
            r.acknowledge(PSN + 4, ACK);
            r.silence();
        }
        answer_read(&mut r, PSN + 1, 0, 1);
        assert_eq!(done(&mut r), 3);
        assert_eq!(r.host.engine.usage().early, 0);
        r.wait(SECOND);
        r.silence();
        let c = r.host.engine.counters();
        assert_eq!((c.probes, c.timeouts, c.retransmissions), (0, 0, 0));
    }
}

/// A response that was kept has its turn when an acknowledgement says that what came before it has been executed.
#[test]
fn an_acknowledgement_lets_a_kept_response_have_its_turn() {
    let mut r = with_round_trip(Setup::small(), MS);
    let mr = post_read(&mut r, 2);
    post_write(&mut r, 1);
    post_read(&mut r, 4);
    assert_eq!(psns(&mut r), [1, 3, 4]);
    answer_read(&mut r, PSN + 1, 0, 2);
    // Without an AETH it says nothing of what came before.
    answer_read(&mut r, PSN + 1, 1, 2);
    answer_read(&mut r, PSN + 4, 1, 4);
    answer_read(&mut r, PSN + 4, 2, 4);
    assert_eq!(r.host.engine.usage().early, 2);
    r.packets();
    answer_read(&mut r, PSN + 4, 0, 4);
    answer_read(&mut r, PSN + 4, 3, 4);
    assert_eq!(done(&mut r), 3);
    assert_eq!(r.host.bytes(&mr)[256..], [1; 256]);
    assert_eq!(r.host.engine.usage().early, 0);
}

/// The peer has executed all of it: nothing but the data is missing.
#[test]
fn an_acknowledgement_behind_lost_read_data_has_only_the_data_sent_again() {
    for packets in [1, 4] {
        let mut r = with_round_trip(Setup::small(), MS);
        let mr = post_read(&mut r, packets);
        post(&mut r, 20);
        assert_eq!(r.packets().len(), 21);
        let behind = PSN + 1 + packets;
        r.acknowledge(behind + 9, ACK);
        let again = r.replies();
        let asked: Vec<_> = again.iter().map(|p| (p.op, p.psn)).collect();
        assert_eq!(asked, [(ReadRequest, PSN + 1)]);
        assert_eq!(again[0].reth.unwrap().len, packets * 256);
        // Every further one says the same.
        for i in 10..15 {
            r.acknowledge(behind + i, ACK);
        }
        r.silence();
        assert_eq!(done(&mut r), 0);
        for i in 0..packets {
            answer_read(&mut r, PSN + 1, i, packets);
        }
        assert_eq!(done(&mut r), 16);
        assert_eq!(r.host.bytes(&mr)[..256], [0; 256]);
        r.acknowledge(behind + 19, ACK);
        assert_eq!(done(&mut r), 21);
        r.wait(SECOND);
        r.silence();
        let c = r.host.engine.counters();
        assert_eq!((c.probes, c.timeouts, c.retransmissions), (0, 0, 0));
    }
}

/// As an emulated machine answers: some responses, a pause of several round trips, and so on.
#[test]
fn a_peer_that_pauses_in_its_answers_is_not_asked_for_all_of_them_again() {
    const READS: u32 = 8;
    const PACKETS: u32 = 16;
    let micros = Duration::from_micros;
    let setup = Setup {
        reads: READS as u8,
        ..Setup::small()
    };
    let mut r = with_round_trip(setup, micros(500));
    let mr = r.host.open(vec![0; 256 * PACKETS as usize]);
    let mut first = PSN + 1;
    let (mut posted, mut asked) = (0, 0);
    for _ in 0..4 {
        for _ in 0..READS {
            r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.all()]);
            posted += PACKETS;
        }
        for _ in 0..READS {
            for i in 0..PACKETS {
                // Also before the first of a READ.
                r.wait(micros(if i % 6 == 0 { 4000 } else { 10 }));
                for reply in r.replies() {
                    asked += reply.reth.map_or(0, |range| range.len / 256);
                }
                answer_read(&mut r, first, i, PACKETS);
            }
            first += PACKETS;
        }
    }
    r.host.collect();
    assert_eq!(r.host.completions.len() as u32, 4 * READS);
    assert!(asked < posted * 5 / 4, "{asked} for {posted}");
}

/// There may be responders that answer a READ request again only if it ends where the first did.
#[test]
fn after_silence_read_data_is_asked_for_to_its_end() {
    let mut r = with_round_trip(Setup::small(), MS);
    post_read(&mut r, 6);
    assert_eq!(r.packets().len(), 1);
    r.wait(MS);
    for i in [0, 2, 3, 4, 5] {
        answer_read(&mut r, PSN + 1, i, 6);
    }
    let lens = |r: &mut Raw| -> Vec<_> {
        r.replies()
            .iter()
            .map(|p| (p.psn - PSN, p.reth.unwrap().len))
            .collect()
    };
    assert_eq!(lens(&mut r), [(2, 256)]);
    r.wait(2 * MS);
    assert_eq!(lens(&mut r), [(2, 5 * 256)]);
    for i in 1..6 {
        answer_read(&mut r, PSN + 1, i, 6);
    }
    assert_eq!(done(&mut r), 1);
    assert_eq!(r.host.engine.usage().early, 0);
}

/// A READ request is lost, and the peer keeps what comes behind it: that is not sent again.
#[test]
fn behind_a_lost_read_request_nothing_is_sent_again_that_is_kept() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    // It keeps early packets, as it shows.
    post_from(&mut r, &mr, 5);
    assert_eq!(r.packets().len(), 5);
    r.acknowledge(PSN + 1, SEQUENCE);
    assert_eq!(psns(&mut r), [1]);
    r.acknowledge(PSN + 4, ACK);
    let mut first = PSN + 5;
    for packets in [1, 3, 1, 3, 1, 3] {
        r.host.send(r.now, r.qp, 1, REMOTE_READ, &[mr.sge(0, 8)]);
        if packets == 3 {
            post_from(&mut r, &mr, 2);
        }
        post_from(&mut r, &mr, 10);
        let sent = r.packets().len() as u32;
        r.acknowledge(first, SEQUENCE);
        assert_eq!(r.packets(), [(ReadRequest, first)]);
        r.respond(ReadResponseOnly, first, Some(ACK), &[7; 8]);
        r.silence();
        r.acknowledge(first + sent - 1, ACK);
        first += sent;
        r.host.collect();
    }
    r.silence();
    // And of others a packet alone is still enough.
    post_from(&mut r, &mr, 5);
    assert_eq!(r.packets().len(), 5);
    r.acknowledge(first + 1, SEQUENCE);
    assert_eq!(r.packets(), [(WriteOnly, first + 1)]);
}

/// Answers packet `i` of a READ that begins the connection, as one of those from `from` to `to` that were asked for.
fn answer_part(r: &mut Raw, i: u32, (from, to): (u32, u32)) {
    let op = match (i == from, i + 1 == to) {
        (true, true) => ReadResponseOnly,
        (true, false) => ReadResponseFirst,
        (false, false) => ReadResponseMiddle,
        (false, true) => ReadResponseLast,
    };
    r.respond(op, PSN + i, op.has_aeth().then_some(ACK), &[i as u8; 256]);
}

/// What is asked for now, as packets from, to.
fn asked_for(r: &mut Raw) -> Vec<(u32, u32)> {
    let replies = r.replies();
    let parts = replies.iter().filter(|p| p.op == ReadRequest);
    let part = |p: &Reply| (p.psn - PSN, p.psn - PSN + p.reth.unwrap().len / 256);
    parts.map(part).collect()
}

/// More is lost than can be kept behind, and all else was under way: that some of it is kept, because it counts messages, is no reason to ask once
/// more.
#[test]
fn after_a_burst_of_losses_read_data_is_asked_for_once() {
    for first_lost_again in [false, true] {
        let mut r = Raw::small();
        let mr = post_read(&mut r, 256);
        let chunks = [(0, 128), (128, 256)];
        assert_eq!(asked_for(&mut r), chunks);
        let mut again = Vec::new();
        for i in (0..5).chain(10..256) {
            answer_part(&mut r, i, chunks[i as usize / 128]);
            again.extend(asked_for(&mut r));
        }
        assert_eq!(again, [(5, 128), (128, 256)]);
        if first_lost_again {
            // What has come before comes again, so this does answer the repetition.
            answer_part(&mut r, 6, again[0]);
            assert_eq!(asked_for(&mut r), [(5, 6)]);
        }
        let from = 5 + u32::from(first_lost_again);
        for i in from..128 {
            answer_part(&mut r, i, again[0]);
        }
        if first_lost_again {
            answer_part(&mut r, 5, (5, 6));
        }
        for i in 128..256 {
            answer_part(&mut r, i, again[1]);
        }
        assert_eq!(asked_for(&mut r), []);
        assert_eq!(done(&mut r), 1);
        let mut packets = r.host.bytes(&mr).chunks(256).zip(0u32..);
        assert!(packets.all(|(packet, i)| *packet == [i as u8; 256]));
        assert_eq!(r.host.engine.usage().early, 0);
    }
}

/// An acknowledgement that comes meanwhile was sent before.
#[test]
fn read_data_that_is_on_its_way_again_is_not_asked_for() {
    let mut setup = Setup::small();
    setup.config.early_frames = 0;
    let mut r = with_round_trip(setup, MS);
    post_read(&mut r, 4);
    post(&mut r, 10);
    assert_eq!(r.packets().len(), 11);
    answer_read(&mut r, PSN + 1, 1, 4);
    assert_eq!(r.packets().len(), 11);
    r.wait(MS / 2);
    answer_read(&mut r, PSN + 1, 0, 4);
    r.acknowledge(PSN + 14, ACK);
    r.silence();
    r.wait(MS / 2);
    for i in 1..4 {
        answer_read(&mut r, PSN + 1, i, 4);
    }
    assert_eq!(done(&mut r), 11);
}
