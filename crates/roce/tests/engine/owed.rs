//! What a responder owes to its peer when packets are missing, come again, or cannot be executed.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::Reth;
use roce::{Access, DeregisterError, Event, SendOp, Status};

const NOTHING: Reth = Reth {
    va: 0,
    rkey: 0,
    len: 0,
};

/// An empty WRITE that wants no acknowledgement.
fn quiet_write(r: &mut Raw, psn: u32) {
    let ext = roce::wire::ExtHeaders {
        reth: Some(NOTHING),
        ..roce::wire::ExtHeaders::NONE
    };
    let frame = r.frame(r.bth(WriteOnly, psn), ext, &[]);
    r.feed(&frame);
}

/// The packet that came too early was dropped. If the peer were not told, it would find out by its timeout only.
#[test]
fn r042_a_gap_that_closes_in_part_leaves_the_nak_owed() {
    let mut r = Raw::forgetful();
    r.inject_reth(WriteOnly, PSN + 2, NOTHING, &[]);
    r.inject_reth(WriteOnly, PSN, NOTHING, &[]);
    assert_eq!(r.only_ack(), (PSN + 1, SEQUENCE));
    r.inject_reth(WriteOnly, PSN + 1, NOTHING, &[]);
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    // Not before the rest of it came again either; only then there is nothing to be told.
    r.inject_reth(WriteOnly, PSN + 3, NOTHING, &[]);
    r.inject_reth(WriteOnly, PSN + 2, NOTHING, &[]);
    quiet_write(&mut r, PSN + 3);
    assert_eq!(r.only_ack(), (PSN + 3, ACK));
    assert_eq!(r.host.engine.counters().tx_sequence_naks, 1);
}

/// An acknowledgement with the PSN of a READ would tell a peer that has not got the data that it has: rdma_rxe completes the READ.
#[test]
fn r043_a_repetition_behind_a_read_or_an_atomic_is_not_acknowledged_with_its_psn() {
    let mut r = Raw::small();
    let mr = r.host.register(vec![0; 1000], Access::all());
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), &[1; 4]);
    r.inject_reth(ReadRequest, PSN + 1, mr.reth(0, 4), &[]);
    r.inject_atomic(FetchAdd, PSN + 2, mr.atomic(8 - mr.va % 8, 1, 0));
    r.replies();
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), &[1; 4]);
    let again = r.replies();
    let said: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.msn)).collect();
    assert_eq!(said, [(Acknowledge, PSN, Some(1))]);
    // Once there is something behind them to acknowledge, it is: that asks for what is missing before it.
    r.inject_reth(WriteOnly, PSN + 3, mr.reth(0, 4), &[2; 4]);
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), &[1; 4]);
    let said: Vec<_> = r.replies().iter().map(|x| (x.op, x.psn, x.msn)).collect();
    assert_eq!(said, [(Acknowledge, PSN + 3, Some(4))]);
}

/// The acknowledgement asked for before the gap is owed whatever becomes of the NAK.
#[test]
fn r040_a_gap_does_not_take_back_an_acknowledgement() {
    let mut r = Raw::small();
    r.inject_reth(WriteOnly, PSN, NOTHING, &[]);
    quiet_write(&mut r, PSN + 2);
    quiet_write(&mut r, PSN + 1);
    quiet_write(&mut r, PSN + 2);
    assert_eq!(r.only_ack(), (PSN + 2, ACK));
    // If the NAK goes out, it acknowledges as well.
    r.inject_reth(WriteOnly, PSN + 3, NOTHING, &[]);
    quiet_write(&mut r, PSN + 5);
    assert_eq!(r.only_ack(), (PSN + 4, SEQUENCE));
    r.silence();
}

/// rdma_rxe passes over a second sequence NAK until something was acknowledged after the first, and then waits for its timeout.
#[test]
fn r042_what_mends_a_gap_is_acknowledged_at_once() {
    let mut r = Raw::forgetful();
    for gap in [PSN, PSN + 2] {
        quiet_write(&mut r, gap + 1);
        assert_eq!(r.only_ack(), (gap, SEQUENCE));
        quiet_write(&mut r, gap);
        assert_eq!(r.only_ack(), (gap, ACK));
        // Once: what follows waits for the peer to ask.
        quiet_write(&mut r, gap + 1);
        r.silence();
    }
    // Also where the next gap follows before anything could be said.
    quiet_write(&mut r, PSN + 5);
    assert_eq!(r.only_ack(), (PSN + 4, SEQUENCE));
    quiet_write(&mut r, PSN + 4);
    quiet_write(&mut r, PSN + 6);
    let replies: Vec<_> = r.replies().iter().map(|r| (r.psn, r.syndrome)).collect();
    assert_eq!(replies, [(PSN + 4, Some(ACK)), (PSN + 5, Some(SEQUENCE))]);
    assert_eq!(r.host.engine.counters().tx_sequence_naks, 4);
}

/// A receive that comes before the peer was told to wait: what came behind has been dropped all the same.
#[test]
fn r050_a_receive_just_in_time_leaves_the_gap_behind_it() {
    let mut r = Raw::small();
    r.inject(SendOnly, PSN, b"a");
    r.inject(SendOnly, PSN + 1, b"b");
    let mr = r.host.open(vec![0; 100]);
    for context in 0..2 {
        r.host
            .engine
            .post_recv(r.now, r.qp, context, &[mr.all()])
            .unwrap();
    }
    r.inject(SendOnly, PSN, b"a");
    assert_eq!(r.only_ack(), (PSN + 1, SEQUENCE));
    r.inject(SendOnly, PSN + 1, b"b");
    assert_eq!(r.only_ack(), (PSN + 1, ACK));
    r.inject(SendOnly, PSN + 2, b"c");
    assert_eq!(r.only_ack(), (PSN + 2, RNR));
}

/// The peer has had the data once and may have withdrawn, or been refused, the key since: its repetition is late, not wrong.
#[test]
fn r046_a_read_repeated_after_deregistration_is_dropped() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    assert_eq!(r.replies().len(), 4);
    // One repetition waits to be answered when the region goes, and one comes later.
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    r.host.engine.deregister(mr.key).unwrap();
    r.silence();
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    r.silence();
    r.inject_reth(ReadRequest, PSN + 2, mr.reth(512, 488), &[]);
    r.silence();
    assert_eq!(r.host.engine.counters().drop_unreplayable, 3);
    assert_eq!(r.host.engine.counters().tx_fatal_naks, 0);
    // Nothing has happened to the connection, though the peer does not seem to hear.
    assert_eq!(r.host.events, [Event::PathDoubted { qp: r.qp }]);
    r.inject_reth(WriteOnly, PSN + 4, NOTHING, &[]);
    assert_eq!(r.only_ack(), (PSN + 4, ACK));
    let other = r.host.open(pattern(100, 2));
    r.inject_reth(ReadRequest, PSN + 5, other.reth(0, 100), &[]);
    assert_eq!(r.packets(), [(ReadResponseOnly, PSN + 5)]);
    // A new READ with the dead key is refused.
    r.inject_reth(ReadRequest, PSN + 6, mr.reth(0, 1000), &[]);
    assert_eq!(r.only_ack(), (PSN + 6, ACCESS));
}

/// A repetition that begins with what the peer has had and goes on with what it never had: no NAK among the responses, but no data either.
#[test]
fn r059_a_repetition_that_goes_on_beyond_what_is_gone_ends_the_connection_without_a_word() {
    let mut r = Raw::small();
    let mr = r.host.open(pattern(1000, 1));
    r.host.nic_ring = 2;
    r.host.nic_holds = None;
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    assert_eq!(r.packets().len(), 2);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 1000), &[]);
    assert_eq!(r.host.engine.deregister(mr.key), Err(DeregisterError::Busy));
    r.host.release_all(r.now);
    r.silence();
    assert_eq!(r.host.engine.counters().drop_unreplayable, 1);
    r.assert_dead();
}

/// The SEND whose completion found no room is refused, and so is whatever comes after the queue's death, on every queue pair
/// that uses it: the peer must not believe that somebody has read it.
#[test]
fn requests_that_a_dead_completion_queue_cannot_report_are_refused() {
    let mut p = Pair::new(Setup::default());
    p.b.cq = p.b.engine.create_cq(1).unwrap();
    let (qa, qb) = p.attach();
    let (bystander_a, bystander_b) = p.attach();
    let dst = p.b.open(vec![0; 100]);
    let src = p.a.open(pattern(100, 1));
    for context in 0..3 {
        p.b.engine
            .post_recv(p.now, qb, context, &[dst.all()])
            .unwrap();
        p.a.send(p.now, qa, context, SendOp::Send, &[src.all()]);
    }
    // Without collecting at B: its queue overflows with the second.
    for side in [Side::A, Side::B, Side::A] {
        let now = p.now;
        p.host(side).reap(now);
        while let Some(frame) = p.host(side).transmit(now) {
            let to = p.host(side.other());
            to.engine.receive(now, &frame, &mut to.memory);
        }
    }
    p.a.collect();
    assert_eq!(
        outcomes(&p.a.completions),
        [
            (0, Status::Success),
            (1, Status::RemoteOperation),
            (2, Status::Flushed)
        ]
    );
    p.a.completions.clear();
    let write = dst.write();
    p.a.send(p.now, bystander_a, 9, write, &[src.all()]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(9, Status::RemoteOperation)]);
    assert!(p.b.bytes(&dst)[..] == p.a.bytes(&src)[..]);
    assert_eq!(p.b.engine.counters().tx_fatal_naks, 2);
    for qp in [qb, bystander_b] {
        let fatal = Event::QpFatal {
            qp,
            status: Status::LocalOperation,
        };
        assert!(p.b.events.contains(&fatal));
    }
}

/// What has been executed before the completion queue died stays so.
#[test]
fn a_dead_completion_queue_takes_back_no_acknowledgement() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), b"data");
    let other = r.host.create_qp();
    let full = 4096;
    for context in 0..64 {
        r.host.engine.post_recv(r.now, other, context, &[]).unwrap();
    }
    r.host.engine.flush(r.now, other);
    // A queue pair that was never connected takes receives again: until the completion queue is full.
    for context in 64..=full {
        r.host.engine.post_recv(r.now, other, context, &[]).unwrap();
        r.host.engine.flush(r.now, other);
    }
    assert_eq!(r.only_ack(), (PSN, ACK));
    // Refused as often as it comes, because the refusal may be lost; what was executed is not.
    for _ in 0..2 {
        r.inject_reth(WriteOnly, PSN + 1, mr.reth(0, 4), b"more");
        assert_eq!(r.only_ack(), (PSN + 1, OPERATION));
        r.inject_reth(WriteOnly, PSN, mr.reth(0, 4), b"data");
        r.silence();
    }
    assert_eq!(r.host.bytes(&mr)[..4], *b"data");
}

#[test]
fn r053_a_read_request_or_an_acknowledgement_with_payload_is_malformed() {
    let mut r = Raw::small();
    let mr = r.host.register(pattern(100, 1), Access::REMOTE_READ);
    r.inject_reth(ReadRequest, PSN, mr.reth(0, 4), &[1, 2, 3, 4]);
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[]);
    assert_eq!(r.packets(), [(SendOnly, PSN)]);
    r.respond(Acknowledge, PSN, Some(ACK), &[0; 4]);
    assert_eq!(r.host.completions, []);
    r.silence();
    assert_eq!(r.host.engine.counters().drop_malformed, 2);
}

/// The pad completes the last word. With another number of bytes the packet is none, however right its ICRC.
#[test]
fn r004_a_packet_that_is_no_whole_number_of_words_is_malformed() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 100]);
    for context in 0..4 {
        r.host
            .engine
            .post_recv(r.now, r.qp, context, &[mr.all()])
            .unwrap();
    }
    for pad in 0..4u8 {
        for missing in 1..4 {
            let mut frame = r.frame(
                r.bth(SendOnly, PSN),
                roce::wire::ExtHeaders::NONE,
                b"12345678",
            );
            frame.truncate(frame.len() - 4 - missing);
            // IPv4 behind Ethernet: total length, UDP length, pad count.
            let total = (frame.len() + 4 - 14) as u16;
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
            frame[43] |= pad << 4;
            let icrc = roce::wire::Icrc::start(&frame[14..]).unwrap().finish();
            frame.extend(icrc);
            r.feed(&frame);
            r.silence();
        }
    }
    assert_eq!(r.host.engine.counters().drop_malformed, 12);
    r.inject(SendOnly, PSN, b"12345678");
    assert_eq!(r.only_ack(), (PSN, ACK));
}
