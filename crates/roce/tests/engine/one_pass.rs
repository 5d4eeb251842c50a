//! Payload is placed as its CRC is computed: what is read and written how often, and what a packet that turns out wrong leaves behind.
//! What is sent is read for its CRC, and once more by the NIC.

use crate::util::raw::*;
use crate::util::*;
use roce::wire::{ExtHeaders, Opcode, Reth};
use roce::{PathMtu, QpParams, SendOp, Sge};

/// Bytes of a payload that wait for the ICRC.
const HELD_BACK: usize = 16;
const MTU: usize = 256;

/// Each byte is written once. It is read once, but for those that wait for the ICRC, and for the first packet of a WRITE, which says
/// itself where it goes.
#[test]
fn received_payload_is_read_once_and_written_once() {
    const LEN: u32 = 100_001;
    for mtu in [PathMtu::Mtu256, PathMtu::Mtu1024, PathMtu::Mtu4096] {
        let (mut p, qa, qb) = Pair::attached(Setup {
            mtu,
            ..Setup::default()
        });
        let local = p.a.open(pattern(LEN as usize, 1));
        let open = p.b.open(pattern(LEN as usize, 2));
        let received = p.b.open(vec![0; LEN as usize]);
        let twice_of_all = u64::from(LEN.div_ceil(mtu.bytes())) * HELD_BACK as u64;
        // The last packet may be too short to be worth it.
        let twice_of_last = 256;
        for (op, receiver, twice_of_first) in [
            (SendOp::Send, Side::B, 0),
            (open.write(), Side::B, u64::from(mtu.bytes())),
            (open.read(), Side::A, 0),
        ] {
            let now = p.now;
            p.b.engine.post_recv(now, qb, 0, &[received.all()]).unwrap();
            let before = passes(&mut p, receiver);
            p.a.send(now, qa, 0, op, &[local.all()]);
            p.run(SECOND);
            let after = passes(&mut p, receiver);
            let [visited, placed, written] = [0, 1, 2].map(|i| after[i] - before[i]);
            assert_eq!(visited, u64::from(LEN), "{op:?}");
            assert_eq!(placed + written, u64::from(LEN), "{op:?}");
            let twice = twice_of_all + twice_of_first + twice_of_last;
            assert!(written <= twice, "{op:?} at {mtu:?}: {written}");
        }
        assert_eq!(p.b.bytes(&received), pattern(LEN as usize, 1));
        assert_eq!(p.a.bytes(&local), p.b.bytes(&open));
    }
}

/// Bytes that have been read by the CRC of a sender; by that of a receiver as they were placed; and twice, by the CRC and to be placed.
fn passes(p: &mut Pair, receiver: Side) -> [u64; 3] {
    let visited = p.host(receiver.other()).memory.visited.get();
    let memory = &p.host(receiver).memory;
    [visited, memory.placed, memory.written]
}

/// The exception: all of a WRITE of one packet is read twice where it is received, since it says itself where it goes (`rc/qp/ahead.rs`).
#[test]
fn a_write_of_one_packet_is_read_twice() {
    const LEN: u32 = 4000;
    let (mut p, qa, qb) = Pair::attached(Setup {
        mtu: PathMtu::Mtu4096,
        ..Setup::default()
    });
    let local = p.a.open(pattern(LEN as usize, 1));
    let remote = p.b.open(pattern(LEN as usize, 2));
    let received = p.b.open(vec![0; LEN as usize]);
    for (op, receiver, twice) in [
        (SendOp::Send, Side::B, HELD_BACK as u64),
        (remote.read(), Side::A, HELD_BACK as u64),
        (remote.write(), Side::B, u64::from(LEN)),
    ] {
        let now = p.now;
        p.b.engine.post_recv(now, qb, 0, &[received.all()]).unwrap();
        let before = passes(&mut p, receiver);
        p.a.send(now, qa, 0, op, &[local.all()]);
        p.run(SECOND);
        let after = passes(&mut p, receiver);
        let all = u64::from(LEN);
        let want = [all, all - twice, twice];
        assert_eq!([0, 1, 2].map(|i| after[i] - before[i]), want, "{op:?}");
    }
}

fn spoilt(mut frame: Vec<u8>) -> Vec<u8> {
    let at = frame.len() - 100;
    frame[at] ^= 1;
    frame
}

/// A packet that says that it asks for an acknowledgement.
fn asking(r: &Raw, op: Opcode, psn: u32, reth: Option<Reth>, payload: &[u8]) -> Vec<u8> {
    let mut bth = r.bth(op, psn);
    bth.ack_req = true;
    let ext = ExtHeaders {
        reth,
        ..ExtHeaders::NONE
    };
    r.frame(bth, ext, payload)
}

/// Feeds a frame with a wrong ICRC. But for memory, which it gives as it was before, nothing happens.
fn feed_wrong(r: &mut Raw, frame: &[u8]) -> Vec<Vec<u8>> {
    let memory = r.host.memory.regions.clone();
    let before = *r.host.engine.counters();
    let usage = r.host.engine.usage();
    let deadline = r.host.engine.next_deadline();
    r.feed(frame);
    let mut expected = before;
    expected.rx_frames += 1;
    expected.drop_icrc += 1;
    assert_eq!(*r.host.engine.counters(), expected);
    assert_eq!(r.host.engine.usage(), usage);
    assert_eq!(r.host.engine.next_deadline(), deadline);
    assert!(r.host.engine.poll_event().is_none());
    r.silence();
    memory
}

/// A wrong packet changes at most what the right one will, its last bytes not, and the right one is taken afterwards.
fn harmless(r: &mut Raw, right: &[u8], mr: &Mr, at: usize, payload: &[u8]) {
    let before = feed_wrong(r, &spoilt(right.to_vec()));
    let place = at..at + payload.len() - HELD_BACK;
    for (region, (now, before)) in r.host.memory.regions.iter().zip(&before).enumerate() {
        for (n, (now, before)) in now.iter().zip(before).enumerate() {
            let inside = region as u64 == mr.region.0 && place.contains(&n);
            assert!(inside || now == before, "byte {n} of region {region}");
        }
    }
    r.feed(right);
    assert_eq!(&r.host.bytes(mr)[at..at + payload.len()], payload);
}

fn untouched(r: &mut Raw, wrong: &[u8]) {
    let before = feed_wrong(r, wrong);
    assert!(r.host.memory.regions == before);
}

#[test]
fn a_wrong_packet_changes_at_most_what_the_right_one_will() {
    let payload = pattern(MTU, 3);
    // Of a WRITE, all but the first packet.
    let mut r = Raw::small();
    let open = r.host.open(pattern(1000, 1));
    let reth = open.reth(8, 3 * MTU as u32);
    r.inject_reth(Opcode::WriteFirst, PSN, reth, &payload);
    r.replies();
    let placed = r.host.memory.placed;
    let right = asking(&r, Opcode::WriteMiddle, PSN + 1, None, &payload);
    harmless(&mut r, &right, &open, 8 + MTU, &payload);
    r.replies();
    assert!(r.host.memory.placed > placed);

    // Of a SEND, every packet.
    let mut r = Raw::small();
    let received = r.host.open(pattern(1000, 1));
    r.receive(1, &received);
    let right = asking(&r, Opcode::SendFirst, PSN, None, &payload);
    harmless(&mut r, &right, &received, 0, &payload);
    r.replies();
    let mut r = Raw::small();
    let received = r.host.open(pattern(1000, 1));
    r.receive(1, &received);
    r.inject(Opcode::SendFirst, PSN, &payload);
    r.replies();
    let right = asking(&r, Opcode::SendLast, PSN + 1, None, &payload);
    harmless(&mut r, &right, &received, MTU, &payload);

    // READ responses.
    let mut r = Raw::small();
    let sink = r.host.open(pattern(1000, 1));
    let (now, qp) = (r.now, r.qp);
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(now, qp, 1, op, &[sink.sge(4, 2 * MTU as u32)]);
    r.packets();
    let frame = r.frame(
        r.bth(Opcode::ReadResponseFirst, PSN),
        ExtHeaders {
            aeth: Some(r.aeth(PSN, syndrome::ACK)),
            ..ExtHeaders::NONE
        },
        &payload,
    );
    harmless(&mut r, &frame, &sink, 4, &payload);
}

/// Where the place is the packet's own word, where it is none that waits for this packet, and where its bytes would be the last of a buffer.
#[test]
fn a_wrong_packet_leaves_alone_what_may_be_complete() {
    let payload = pattern(MTU, 3);
    let mut r = Raw::small();
    let open = r.host.open(pattern(1000, 1));
    let received = r.host.open(pattern(1000, 2));
    let dead = r.host.open(pattern(1000, 4));
    let reth = open.reth(0, 2 * MTU as u32);
    let only = open.reth(0, MTU as u32);
    // The place is in the packet; or there is none for it.
    for (op, reth) in [
        (Opcode::WriteOnly, Some(only)),
        (Opcode::WriteFirst, Some(reth)),
        (Opcode::WriteMiddle, None),
        (Opcode::WriteLast, None),
        (Opcode::SendOnly, None),
        (Opcode::SendMiddle, None),
        (Opcode::ReadResponseMiddle, None),
    ] {
        let wrong = spoilt(asking(&r, op, PSN, reth, &payload));
        untouched(&mut r, &wrong);
    }
    // Early, late, of another kind, too long.
    r.receive(1, &received);
    r.inject_reth(Opcode::WriteFirst, PSN, reth, &payload);
    r.replies();
    let long = pattern(2 * MTU, 3);
    for (op, psn, payload) in [
        (Opcode::WriteMiddle, PSN, &payload),
        (Opcode::WriteLast, PSN + 2, &payload),
        (Opcode::SendOnly, PSN + 1, &payload),
        (Opcode::WriteMiddle, PSN + 1, &long),
    ] {
        let wrong = spoilt(asking(&r, op, psn, None, payload));
        untouched(&mut r, &wrong);
    }
    // After the end.
    r.inject(Opcode::WriteLast, PSN + 1, &payload);
    r.replies();
    for psn in [PSN + 1, PSN + 2] {
        let wrong = spoilt(asking(&r, Opcode::WriteLast, psn, None, &payload));
        untouched(&mut r, &wrong);
    }
    // The memory of the message under way has been deregistered.
    let reth = dead.reth(0, 2 * MTU as u32);
    r.inject_reth(Opcode::WriteFirst, PSN + 2, reth, &payload);
    r.replies();
    r.host.engine.deregister(dead.key).unwrap();
    while r.host.engine.poll_event().is_some() {}
    let wrong = spoilt(asking(&r, Opcode::WriteLast, PSN + 3, None, &payload));
    untouched(&mut r, &wrong);
}

/// It is read twice then, and what is wrong is never written.
#[test]
fn memory_that_cannot_place_as_the_crc_is_computed_gets_right_packets_only() {
    let payload = pattern(MTU, 3);
    let mut r = Raw::small();
    r.host.memory.two_passes = true;
    let open = r.host.open(pattern(1000, 1));
    let reth = open.reth(8, 2 * MTU as u32);
    r.inject_reth(Opcode::WriteFirst, PSN, reth, &payload);
    r.replies();
    let right = asking(&r, Opcode::WriteLast, PSN + 1, None, &payload);
    untouched(&mut r, &spoilt(right.clone()));
    r.feed(&right);
    assert_eq!(&r.host.bytes(&open)[8 + MTU..8 + 2 * MTU], payload);
}

#[test]
fn a_wrong_packet_that_several_elements_share_is_checked_first() {
    let payload = pattern(MTU, 3);
    let mut r = Raw::small();
    let received = r.host.open(pattern(1000, 2));
    let (now, qp) = (r.now, r.qp);
    let sgl =
        |cut: u32| -> [Sge; 2] { [received.sge(0, cut), received.sge(500, MTU as u32 - cut)] };
    r.host.engine.post_recv(now, qp, 1, &sgl(100)).unwrap();
    let right = asking(&r, Opcode::SendOnly, PSN, None, &payload);
    untouched(&mut r, &spoilt(right.clone()));
    r.feed(&right);
    assert_eq!(r.host.bytes(&received)[..100], payload[..100]);
    assert_eq!(r.host.bytes(&received)[500..656], payload[100..]);
}

#[test]
fn a_wrong_packet_takes_no_receive_of_a_shared_queue() {
    let payload = pattern(MTU, 3);
    let mut srq = None;
    let mut r = Raw::with(Setup::small(), |host| {
        srq = Some(host.engine.create_srq(host.pd, 16, 1, 0).unwrap());
        let params = QpParams {
            srq,
            ..host.qp_params()
        };
        host.engine.create_qp(&params).unwrap()
    });
    let received = r.host.open(pattern(1000, 2));
    let srq = srq.unwrap();
    r.host
        .engine
        .post_srq_recv(srq, 7, &[received.all()])
        .unwrap();
    let right = asking(&r, Opcode::SendOnly, PSN, None, &payload);
    untouched(&mut r, &spoilt(right.clone()));
    r.feed(&right);
    assert_eq!(&r.host.bytes(&received)[..MTU], payload);
}
