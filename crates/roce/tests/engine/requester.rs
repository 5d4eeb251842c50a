//! The requester, packet by packet: what acknowledgements, NAKs, silence and nonsense do to it.

mod reads;
mod waits;

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::Reth;
use roce::{PathMtu, SendOp, Status};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Ack timeout code 10: 4.096 us * 1024.
const T: Duration = Duration::from_nanos(4096 << 10);

const REMOTE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};

fn write(r: &mut Raw, context: u64, mr: &Mr, len: u32) {
    r.host.send(r.now, r.qp, context, REMOTE, &[mr.sge(0, len)]);
}

fn read(r: &mut Raw, context: u64, mr: &Mr, len: u32) {
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, context, op, &[mr.sge(0, len)]);
}

fn done(r: &mut Raw) -> Vec<(u64, Status)> {
    r.host.collect();
    outcomes(&r.host.completions)
}

fn ok(contexts: impl IntoIterator<Item = u64>) -> Vec<(u64, Status)> {
    contexts.into_iter().map(|c| (c, Status::Success)).collect()
}

#[test]
fn r019_an_acknowledgement_covers_everything_before_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    for i in 0..4 {
        write(&mut r, i, &mr, 300);
    }
    r.replies();
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0]));
    // Into the middle of the third.
    r.acknowledge(PSN + 4, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
    r.acknowledge(PSN + 7, ACK);
    assert_eq!(done(&mut r), ok(0..4));
    assert_eq!(r.host.engine.counters().retransmissions, 0);
    r.wait(SECOND);
    r.silence();
}

#[test]
fn r020_r021_acknowledgements_of_the_past_and_of_the_future_are_ignored() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    write(&mut r, 1, &mr, 8);
    r.replies();
    for psn in [PSN + 2, PSN + 100, PSN + 0x7f_ffff, PSN - 1, PSN - 50, 0] {
        for syndrome in [ACK, SEQUENCE, 0x61, 0x62, 0x2c] {
            r.acknowledge(psn, syndrome);
        }
    }
    assert_eq!(done(&mut r), []);
    r.acknowledge(PSN, ACK);
    r.acknowledge(PSN, ACK);
    r.acknowledge(PSN, 0x62);
    assert_eq!(done(&mut r), ok([0]));
    // Reserved syndromes.
    r.acknowledge(PSN + 1, 0x40);
    r.acknowledge(PSN + 1, 0xe0);
    r.acknowledge(PSN + 1, 0x64);
    r.acknowledge(PSN + 1, 0x7f);
    assert_eq!(done(&mut r), ok([0]));
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
    r.silence();
}

/// Neither does it say how the peer counts messages, whatever number it has.
#[test]
fn a_syndrome_that_means_nothing_is_dropped_and_counted() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    for i in 0..2 {
        write(&mut r, i, &mr, 8);
    }
    r.replies();
    for (dropped, syndrome) in (1..).zip([0x40, 0xe0, 0x64, 0x7f]) {
        let aeth = roce::wire::Aeth {
            syndrome: roce::wire::Syndrome::from_u8(syndrome),
            msn: 77,
        };
        r.respond_with(Acknowledge, PSN, Some(aeth), &[]);
        let c = r.host.engine.counters();
        assert_eq!(c.drop_unexpected_response, dropped);
        assert_eq!(c.drop_wrong_msn, 0);
    }
    // It counts as this side does: what does not is refused.
    r.acknowledge(PSN, ACK);
    let made_up = roce::wire::Aeth {
        msn: 77,
        ..r.aeth(PSN + 1, 0x62)
    };
    r.respond_with(Acknowledge, PSN + 1, Some(made_up), &[]);
    assert_eq!(r.host.engine.counters().drop_wrong_msn, 1);
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));
}

#[test]
fn r023_r024_a_sequence_nak_resumes_at_its_psn() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 8);
    write(&mut r, 1, &mr, 1000);
    r.replies();
    r.acknowledge(PSN + 3, SEQUENCE);
    assert_eq!(
        done(&mut r),
        ok([0]),
        "what the NAK does not name has arrived"
    );
    let again = r.replies();
    let seen: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.reth)).collect();
    assert_eq!(seen, [(WriteMiddle, PSN + 3, None)]);
    assert!(again[0].ack_request);
    assert_eq!(again[0].payload, r.host.bytes(&mr)[512..768]);
    // That was all that was there: the rest has to come again.
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(r.packets(), [(WriteLast, PSN + 4)]);
    r.acknowledge(PSN + 4, ACK);
    assert_eq!(done(&mut r), ok([0, 1]));

    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    r.acknowledge(PSN, SEQUENCE);
    let again = r.replies();
    let range = Reth {
        va: 0x7000,
        rkey: 0x99,
        len: 300,
    };
    assert_eq!(
        (again[0].op, again[0].psn, again[0].reth),
        (WriteFirst, PSN, Some(range))
    );
    assert_eq!(again.len(), 1);
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(done(&mut r), ok([0]));
    r.silence();
}

#[test]
fn r023_every_message_resumes_at_any_of_its_packets() {
    let send = [SendFirst, SendMiddle, SendMiddle, SendLast];
    let write = [WriteFirst, WriteMiddle, WriteMiddle, WriteLast];
    for (op, packets) in [(SendOp::Send, send), (REMOTE, write)] {
        for at in 1..4 {
            let mut r = Raw::small();
            let mr = r.host.open(pattern(1000, 3));
            r.host.send(r.now, r.qp, 1, op, &[mr.all()]);
            assert_eq!(
                r.packets(),
                [0, 1, 2, 3].map(|i| (packets[i], PSN + i as u32))
            );
            r.acknowledge(PSN + at, SEQUENCE);
            let again = r.replies();
            let seen: Vec<_> = again.iter().map(|x| (x.op, x.psn, x.reth)).collect();
            assert_eq!(seen, [(packets[at as usize], PSN + at, None)]);
            let from = 256 * at as usize;
            assert_eq!(
                again[0].payload,
                pattern(1000, 3)[from..1000.min(from + 256)]
            );
            // Of the others none was missing.
            r.acknowledge(PSN + 3, ACK);
            assert_eq!(done(&mut r), ok([1]));
            r.silence();
        }
    }
}

#[test]
fn r028_r029_r064_fatal_naks_hit_the_request_they_name() {
    for (syndrome, status) in [
        (0x61, Status::RemoteInvalidRequest),
        (0x62, Status::RemoteAccess),
        (0x63, Status::RemoteOperation),
    ] {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        for i in 0..4 {
            write(&mut r, i, &mr, 300);
        }
        r.replies();
        r.acknowledge(PSN + 4, syndrome);
        let want = [
            (0, Status::Success),
            (1, Status::Success),
            (2, status),
            (3, Status::Flushed),
        ];
        assert_eq!(done(&mut r), want);
        r.inject(SendOnly, PSN, b"x");
        r.silence();
        r.wait(SECOND);
        r.silence();
    }
}

#[test]
fn r039_credits_do_not_matter() {
    for credits in 0..32 {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 1000]);
        for i in 0..3 {
            write(&mut r, i, &mr, 8);
            assert_eq!(r.packets().len(), 1);
            r.acknowledge(PSN + i as u32, credits);
        }
        assert_eq!(done(&mut r), ok(0..3));
    }
}

#[test]
fn going_back_asks_for_an_acknowledgement_at_once() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    write(&mut r, 0, &mr, 2000);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [[false; 7].as_slice(), &[true]].concat());
    r.wait(T);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [[true].as_slice(), &[false; 6], &[true]].concat());
}

/// What was about to be sent again is not, if its acknowledgement comes first.
#[test]
fn a_late_acknowledgement_stops_retransmission() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 2000]);
    write(&mut r, 0, &mr, 600);
    write(&mut r, 1, &mr, 600);
    r.replies();
    r.wait(T);
    r.host.nic_ring = 1;
    r.host.nic_holds = None;
    assert_eq!(r.packets(), [(WriteFirst, PSN)]);
    r.acknowledge(PSN + 3, ACK);
    r.host.release_all(r.now);
    r.host.nic_ring = 100;
    assert_eq!(r.packets(), [(WriteMiddle, PSN + 4), (WriteLast, PSN + 5)]);
    assert_eq!(done(&mut r), ok([0]));
}

#[test]
fn r065_nothing_is_accepted_before_there_is_a_connection() {
    let mut r = Raw::small();
    let other = r.host.create_qp();
    let number = r.host.engine.qp_number(other).unwrap();
    let bth = roce::wire::Bth {
        ack_req: true,
        ..roce::wire::Bth::new(SendOnly, number, roce::Psn::new(PSN))
    };
    let frame = r.frame(bth, roce::wire::ExtHeaders::NONE, b"x");
    r.host.engine.post_recv(r.now, other, 1, &[]).unwrap();
    r.feed(&frame);
    r.silence();
    assert_eq!(done(&mut r), []);
}

/// A NAK that comes twice before its packet is sent again is one, and where no timeout would ever end it, takes one retry.
#[test]
fn copies_of_a_nak_count_once() {
    let mut r = Raw::new(Setup {
        retry_count: 1,
        ack_timeout: 0,
        mtu: PathMtu::Mtu256,
        ..Setup::default()
    });
    let mr = r.host.open(vec![0; 1000]);
    write(&mut r, 0, &mr, 300);
    r.replies();
    for _ in 0..5 {
        r.acknowledge(PSN, SEQUENCE);
    }
    assert_eq!(r.packets(), [(WriteFirst, PSN)]);
    // Nor does one that has been on the way since.
    r.wait(Duration::from_micros(99));
    r.acknowledge(PSN, SEQUENCE);
    r.silence();
    assert_eq!(done(&mut r), []);
    r.wait(Duration::from_micros(1));
    r.acknowledge(PSN, SEQUENCE);
    assert_eq!(done(&mut r), [(0, Status::RetryExceeded)]);
}

#[test]
fn r018_long_messages_ask_for_acknowledgements_several_times_a_window() {
    let mut setup = Setup::small();
    setup.config.send_window = 16;
    let mut r = Raw::new(setup);
    let mr = r.host.open(vec![0; 256 * 40]);
    write(&mut r, 0, &mr, 256 * 40);
    let asked: Vec<_> = r.replies().iter().map(|x| x.ack_request).collect();
    assert_eq!(asked, [false, false, false, true].repeat(4));
    // The window moves with the acknowledgement.
    r.acknowledge(PSN + 2, ACK);
    assert_eq!(r.packets().len(), 3);
}

/// Memory that cannot be reached fails the request it belongs to, and only when its turn has come.
#[test]
fn unreachable_memory_behind_unacknowledged_requests_waits_for_its_turn() {
    for resend in [false, true] {
        let mut r = Raw::small();
        let good = r.host.open(vec![1; 1000]);
        let bad = r.host.open(vec![2; 1000]);
        write(&mut r, 0, &good, 300);
        write(&mut r, 1, &bad, 300);
        write(&mut r, 2, &good, 8);
        r.host.memory.faulty.push(bad.region);
        assert_eq!(r.packets(), [(WriteFirst, PSN), (WriteLast, PSN + 1)]);
        assert_eq!(done(&mut r), []);
        if resend {
            // What is lost is sent again first, and still nothing fails.
            r.wait(MS * 5);
            assert_eq!(r.packets(), [(WriteFirst, PSN), (WriteLast, PSN + 1)]);
        }
        r.acknowledge(PSN, ACK);
        r.silence();
        r.acknowledge(PSN + 1, ACK);
        r.silence();
        let end = [
            (0, Status::Success),
            (1, Status::LocalProtection),
            (2, Status::Flushed),
        ];
        assert_eq!(done(&mut r), end);
        assert_eq!(r.host.engine.usage().transmissions, 0);
    }
}

/// Memory that can be reached again when its turn comes is sent.
#[test]
fn a_fault_that_passes_does_no_harm() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![1; 1000]);
    write(&mut r, 0, &mr, 8);
    r.replies();
    r.host.memory.faulty.push(mr.region);
    write(&mut r, 1, &mr, 600);
    r.silence();
    r.host.memory.faulty.clear();
    r.acknowledge(PSN, ACK);
    let packets = [
        (WriteFirst, PSN + 1),
        (WriteMiddle, PSN + 2),
        (WriteLast, PSN + 3),
    ];
    assert_eq!(r.packets(), packets);
    r.acknowledge(PSN + 3, ACK);
    assert_eq!(done(&mut r), ok(0..2));
}
