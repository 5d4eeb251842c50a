//! Payload is placed as its CRC is computed: what is read and written how often, and what a packet that turns out wrong leaves behind.
//! What is sent is read for its CRC, and once more by the NIC.

use crate::util::memory::TestMemory;
use crate::util::raw::*;
use crate::util::*;
use roce::wire::{ExtHeaders, Opcode, Reth};
use roce::{Access, PathMtu, QpParams, SendOp, Sge, Status};

/// Bytes of a payload that wait for the ICRC.
const HELD_BACK: usize = 16;
/// The shortest payload that is placed as its CRC is computed.
const SHORTEST: u32 = 256;
const MTU: usize = 256;

/// What moves payload from one side to the other.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Moves {
    Send,
    SendImmediate,
    SendInvalidate,
    Write,
    WriteImmediate,
    Read,
}

use Moves::*;

const ALL_MOVES: [Moves; 6] = [
    Send,
    SendImmediate,
    SendInvalidate,
    Write,
    WriteImmediate,
    Read,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    moves: Moves,
    mtu: PathMtu,
    len: u32,
    /// B receives from a shared queue.
    shared: bool,
    /// Where what goes to a list changes from its first element to its second.
    cut: Option<u32>,
}

impl Case {
    fn fills_a_list(&self) -> bool {
        !matches!(self.moves, Write | WriteImmediate)
    }

    /// Bytes that are read twice where they are received. This is the whole list of exceptions, packet by packet: `rc/qp/ahead.rs` has the reasons.
    fn read_twice(&self) -> u64 {
        let mtu = self.mtu.bytes();
        let packets = self.len.div_ceil(mtu).max(1);
        let of = |i: u32| {
            let (from, to) = (i * mtu, ((i + 1) * mtu).min(self.len));
            let len = to - from;
            // It is in the nearest cache when it is read again.
            let short = len < SHORTEST;
            // Its RETH may be what is wrong, and name memory that is complete.
            let says_itself_where = !self.fills_a_list() && i == 0;
            // Its last bytes could be an element's last with others of the packet still to come.
            let two_elements =
                self.fills_a_list() && self.cut.is_some_and(|at| from < at && at < to);
            // A receive is not to be taken from a shared queue for a packet that is wrong.
            let takes = match self.moves {
                Send | SendImmediate | SendInvalidate => i == 0,
                WriteImmediate => i + 1 == packets,
                Write | Read => false,
            };
            let takes_shared = self.shared && takes;
            if short || says_itself_where || two_elements || takes_shared {
                len
            } else {
                HELD_BACK as u32
            }
        };
        (0..packets).map(|i| u64::from(of(i))).sum()
    }
}

/// Runs a case: bytes that the sender's CRC has read; that have been placed as the receiver's read them; and that have been written after it
/// had.
fn passes(case: Case) -> [u64; 3] {
    let Case {
        moves, mtu, len, ..
    } = case;
    let mut p = Pair::new(Setup {
        mtu,
        ..Setup::default()
    });
    let qa = p.a.create_qp();
    let srq = p.b.engine.create_srq(p.b.pd, 4, 2, 0).unwrap();
    let params = QpParams {
        srq: case.shared.then_some(srq),
        ..p.b.qp_params()
    };
    let qb = p.b.engine.create_qp(&params).unwrap();
    p.attach_these(qa, qb);
    let size = len.max(1) as usize;
    let here = p.a.open(pattern(size, 1));
    let there = p.b.open(pattern(size, 2));
    let received = p.b.open(vec![0; size]);
    let revoked = p.b.fast(p.now, qb, 0, vec![0; 8]);
    let cut = case.cut.filter(|at| *at < len).unwrap_or(len);
    let list = |mr: &Mr| [mr.sge(0, cut), mr.sge(cut, len - cut)];
    if case.shared {
        let engine = &mut p.b.engine;
        engine.post_srq_recv(srq, 0, &list(&received)).unwrap();
    } else {
        let engine = &mut p.b.engine;
        engine.post_recv(p.now, qb, 0, &list(&received)).unwrap();
    }
    let op = match moves {
        Send => SendOp::Send,
        SendImmediate => SendOp::SendImmediate([1; 4]),
        SendInvalidate => SendOp::SendInvalidate(revoked.key.0),
        Write => there.write(),
        WriteImmediate => SendOp::WriteImmediate {
            remote_va: there.va,
            rkey: there.key.0,
            immediate: [1; 4],
        },
        Read => there.read(),
    };
    p.a.send(p.now, qa, 7, op, &list(&here));
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(7, Status::Success)]);
    let to = match moves {
        Read => p.a.bytes(&here),
        Write | WriteImmediate => p.b.bytes(&there),
        Send | SendImmediate | SendInvalidate => p.b.bytes(&received),
    };
    let salt = if moves == Read { 2 } else { 1 };
    assert!(to[..len as usize] == pattern(size, salt)[..len as usize]);
    let (from, to) = match moves {
        Read => (&p.b.memory, &p.a.memory),
        _ => (&p.a.memory, &p.b.memory),
    };
    [from.visited.get(), to.placed, to.written]
}

/// Whatever moves payload: each byte is read once where it is sent, besides by the NIC, and written once where it is received. There it is read once
/// too, but for what [`Case::read_twice`] lists, and exactly that.
#[test]
fn each_byte_is_read_once_and_written_once() {
    let mut cases = 0;
    for mtu in [PathMtu::Mtu256, PathMtu::Mtu1024, PathMtu::Mtu4096] {
        let one = mtu.bytes();
        let lengths = [0, 1, 255, 256, 257, one, one + 1, 3 * one, 3 * one + 300];
        for len in lengths.into_iter().chain([100_001]) {
            for moves in ALL_MOVES {
                for shared in [false, true] {
                    for cut in [None, Some(one / 2 + 7), Some(2 * one)] {
                        let case = Case {
                            moves,
                            mtu,
                            len,
                            shared,
                            cut,
                        };
                        let all = u64::from(len);
                        let twice = case.read_twice().min(all);
                        let want = [all, all - twice, twice];
                        assert_eq!(passes(case), want, "{case:?}");
                        cases += 1;
                    }
                }
            }
        }
    }
    assert_eq!(cases, 3 * 10 * 6 * 2 * 3);
}

/// Another exception: what comes before its turn is kept, if it is, and read again when that comes; its CRC has been read by then.
#[test]
fn what_comes_early_is_read_again_in_its_turn() {
    for victim in [1, 4] {
        let (mut p, qa, qb) = Pair::attached(Setup::small());
        let len = 8 * MTU;
        let local = p.a.open(pattern(len, 1));
        let received = p.b.open(vec![0; len]);
        p.b.engine
            .post_recv(p.now, qb, 0, &[received.all()])
            .unwrap();
        let mut seen = 0;
        p.net.script = Box::new(move |from, _| {
            seen += usize::from(from == Side::A);
            // All the others overtake it.
            match from == Side::A && seen == victim {
                true => Fate::Delay(std::time::Duration::from_nanos(1)),
                false => Fate::Pass,
            }
        });
        p.a.send(p.now, qa, 0, SendOp::Send, &[local.all()]);
        p.run(SECOND);
        assert_eq!(p.b.bytes(&received), pattern(len, 1));
        let early = p.b.engine.counters().early_requests_executed as usize;
        assert_eq!(early, 8 - victim);
        let memory = &p.b.memory;
        let twice = early * MTU + (8 - early) * HELD_BACK;
        let want = [len - twice, twice].map(|n| n as u64);
        assert_eq!([memory.placed, memory.written], want);
        // What is sent again is read again, once.
        let sent = p.log.iter().filter(|s| s.from == Side::A).map(|s| s.len);
        assert_eq!(p.a.memory.visited.get(), sent.sum::<usize>() as u64);
    }
}

/// Eight bytes of an atomic operation are no payload: they are looked at where they are, and what was there is written once.
#[test]
fn an_atomic_result_is_written_once() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let (local, remote) = (
        p.a.open(vec![0; 8]),
        p.b.register(vec![1; 64], Access::all()),
    );
    let op = SendOp::FetchAdd {
        remote_va: remote.va.next_multiple_of(8),
        rkey: remote.key.0,
        add: 1,
    };
    p.a.send(p.now, qa, 0, op, &[local.all()]);
    p.run(SECOND);
    assert_eq!(p.a.bytes(&local), [1; 8]);
    let moved = |m: &TestMemory| [m.visited.get(), m.placed, m.written];
    assert_eq!(moved(&p.a.memory), [0, 0, 8]);
    assert_eq!(moved(&p.b.memory), [0; 3]);
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
