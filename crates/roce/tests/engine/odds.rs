//! What somebody can do who is not on the way between the two ends: he knows addresses and queue pair numbers, may send what he likes, and
//! sees nothing. PSNs and message counts he has to guess. At how many PSNs a guess does harm, guesses.rs tries out.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use arrayvec::ArrayVec;
use roce::wire::Opcode::{self, Acknowledge, ReadResponseFirst, ReadResponseMiddle};
use roce::wire::frame::{Header, pad_of};
use roce::wire::{
    Aeth, AtomicAckEth, AtomicEth, Bth, ExtHeaders, Icrc, Ieth, Immediate, Packet, Reth, Syndrome,
};
use roce::{Config, Psn, Rng, SendOp, Status};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

const REMOTE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};

/// Messages after which their count is hard enough to guess.
const YOUNG: u32 = 1 << 10;

/// The peer has acknowledged `done` WRITEs, and does not answer as many more.
fn waiting(done: u32, more: u32) -> Raw {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    for i in 0..done + more {
        r.host.send(r.now, r.qp, u64::from(i), REMOTE, &[mr.all()]);
        assert_eq!(r.packets().len(), 1);
        if i < done {
            r.acknowledge(PSN + i, ACK);
        }
    }
    r.host.collect();
    r.host.completions.clear();
    r
}

fn answer(r: &mut Raw, psn: u32, syndrome: u8, msn: u32) {
    let aeth = Aeth {
        syndrome: Syndrome::from_u8(syndrome),
        msn: msn & Psn::MASK,
    };
    r.respond_with(Acknowledge, psn, Some(aeth), &[]);
    r.host.collect();
}

#[test]
fn an_answer_is_believed_only_with_the_count_of_messages() {
    const DONE: u32 = 5;
    const MORE: u32 = 8;
    let outstanding = PSN + DONE..PSN + DONE + MORE;
    // Everything that is wrong by little or by much, at every PSN around.
    let mut r = waiting(DONE, MORE);
    let wrong = (0..DONE)
        .chain(DONE + MORE + 1..100)
        .chain((1..24).map(|bit| 1 << bit | 1 << 23));
    for msn in wrong {
        for psn in PSN - 20..PSN + 40 {
            for syndrome in [ACK, RNR, SEQUENCE, INVALID, ACCESS, OPERATION] {
                answer(&mut r, psn, syndrome, msn);
            }
        }
    }
    assert_eq!(r.host.completions, []);
    assert_eq!(r.host.events, []);
    r.silence();
    let refused = r.host.engine.counters().drop_wrong_msn;
    assert!(refused > 1000, "{refused}");
    // A refusal is believed with one number at each PSN: what was executed before.
    let mut fatal = 0u64;
    for msn in 0..DONE + MORE + 10 {
        for psn in PSN - 2..PSN + DONE + MORE + 2 {
            let mut r = waiting(DONE, MORE);
            answer(&mut r, psn, ACCESS, msn);
            let failed = !r.host.events.is_empty();
            let right = outstanding.contains(&psn) && msn == psn.wrapping_sub(PSN);
            assert_eq!(failed, right, "PSN {psn}, MSN {msn}");
            fatal += u64::from(failed);
        }
    }
    let guesses = (1u64 << 48) / fatal;
    println!("{fatal} of 2^48 pairs end it: one blind guess in {guesses}");
    // Also for who knows the count: these messages have one packet each.
    assert_eq!(fatal, u64::from(MORE));
}

/// As of firmware that never counts.
#[test]
fn a_peer_that_always_says_0_is_understood_at_once() {
    for retry_count in [0, 7] {
        let mut r = Raw::new(Setup {
            retry_count,
            ..Setup::small()
        });
        let mr = r.host.open(vec![0; 8]);
        for i in 0..3 {
            r.host.send(r.now, r.qp, i, REMOTE, &[mr.all()]);
            assert_eq!(r.packets().len(), 1);
            answer(&mut r, PSN + i as u32, ACK, 0);
        }
        let done: Vec<_> = (0..3).map(|i| (i, Status::Success)).collect();
        assert_eq!(outcomes(&r.host.completions), done);
    }
}

/// Even if nothing may be sent twice: what it says was refused, so it is there.
#[test]
fn letting_a_peer_off_costs_no_retry() {
    let mut r = Raw::new(Setup {
        retry_count: 0,
        ..Setup::small()
    });
    let mr = r.host.open(vec![0; 8]);
    for i in 0..2 {
        r.host.send(r.now, r.qp, i, REMOTE, &[mr.all()]);
        assert_eq!(r.packets().len(), 1);
        answer(&mut r, PSN + i as u32, ACK, if i == 0 { 1 } else { 77 });
    }
    assert_eq!(outcomes(&r.host.completions), [(0, Status::Success)]);
    r.wait(Duration::from_secs(1));
    assert_eq!(r.packets(), [(Opcode::WriteOnly, PSN + 1)]);
    answer(&mut r, PSN + 1, ACK, 77);
    assert_eq!(r.host.completions.len(), 2);
    assert_eq!(r.host.completions[1].status, Status::Success);
}

/// What is looked for among many requests that are done but for the first: also those between that no packet stands for.
#[test]
fn the_request_that_an_answer_is_about_is_found_among_many() {
    let mut r = waiting(1, 0);
    let mr = r.host.open(vec![0; 1000]);
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, 0, op, &[mr.sge(0, 200)]);
    for i in 1..15 {
        // One, two or three packets each.
        let len = 200 * (i % 3 + 1);
        r.host
            .send(r.now, r.qp, u64::from(i), REMOTE, &[mr.sge(0, len)]);
    }
    let sent = r.replies();
    let last = sent.last().unwrap().psn;
    let mut wrong = 0;
    for psn in PSN + 1..=last {
        for msn in 0..20 {
            let right = r.aeth(psn, INVALID).msn == msn;
            if !right {
                answer(&mut r, psn, INVALID, msn);
                wrong += 1;
            }
        }
    }
    assert_eq!(r.host.engine.counters().drop_wrong_msn, wrong);
    assert_eq!(r.host.events, []);
    answer(&mut r, last, ACK, 16);
    r.host.collect();
    // It tells that the READ's data is missing.
    assert_eq!(r.replies()[0].psn, PSN + 1);
}

#[test]
fn a_peer_that_counts_in_its_own_way_is_understood() {
    let mut r = waiting(0, 3);
    answer(&mut r, PSN, ACK, 0x00ab_cdef);
    answer(&mut r, PSN + 1, ACK, 7);
    answer(&mut r, PSN + 2, ACCESS, 7);
    assert_eq!(
        outcomes(&r.host.completions),
        [
            (0, Status::Success),
            (1, Status::Success),
            (2, Status::RemoteAccess)
        ]
    );
}

#[test]
fn a_peer_that_begins_to_count_in_another_way_is_understood_when_nothing_else_comes() {
    let mut r = waiting(5, 1);
    answer(&mut r, PSN + 5, ACK, 77);
    assert_eq!(r.host.completions, []);
    r.wait(Duration::from_secs(1));
    assert_eq!(r.packets().len(), 1);
    answer(&mut r, PSN + 5, ACK, 77);
    assert_eq!(outcomes(&r.host.completions), [(5, Status::Success)]);
    // But not when it answers rightly as well.
    let mut r = waiting(5, 2);
    answer(&mut r, PSN + 5, ACK, 77);
    answer(&mut r, PSN + 5, ACK, 6);
    r.wait(Duration::from_secs(1));
    answer(&mut r, PSN + 6, ACCESS, 77);
    assert_eq!(outcomes(&r.host.completions), [(5, Status::Success)]);
}

/// With many packets under way it is easy to hit one of them with a count that is wrong, and a peer is silent for a timeout now and then. No
/// silence of one that has counted as this side does makes up for fewer than 2^20 frames.
#[test]
fn with_much_under_way_a_peer_is_let_off_only_if_it_persists() {
    const DONE: u32 = 5;
    let many = Config::default().send_window;
    let scene = || {
        let mut r = waiting(DONE, 0);
        let mr = r.host.open(vec![0; 256 * many as usize]);
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
        assert_eq!(r.packets().len(), many as usize);
        r
    };
    let (first, last) = (PSN + DONE, PSN + DONE + many - 1);
    let mut enough = None;
    for refused in [1, 8, 16, 17, 40] {
        let mut r = scene();
        for i in 0..refused {
            answer(&mut r, first + i, ACK, 777);
        }
        r.wait(Duration::from_secs(1));
        r.packets();
        answer(&mut r, last, ACK, 777);
        if r.host.completions.len() == 1 {
            enough = enough.or(Some(refused));
        } else {
            assert_eq!(enough, None);
        }
    }
    // One hits with every so many frames, and half of all attempts take half of that.
    let taken = enough.expect("forty are enough") * ((1 << 24) / many);
    assert!(taken / 2 > 1 << 20, "{taken}");
    // Silences add up, but not across what has arrived.
    let mut r = scene();
    for round in 0..6 {
        for i in 0..5 {
            answer(&mut r, first + 9 + i, ACK, 777);
        }
        if round == 2 {
            answer(&mut r, first, ACK, DONE);
        }
        r.wait(Duration::from_secs(1));
        r.packets();
    }
    answer(&mut r, last, ACK, 777);
    assert_eq!(r.host.completions, []);
}

#[test]
fn every_chunk_of_a_read_counts() {
    let mut r = Raw::new(Setup {
        config: Config {
            read_chunk: 2,
            ..Config::default()
        },
        ..Setup::small()
    });
    let mr = r.host.open(vec![0; 1280]);
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, 1, op, &[mr.all()]);
    r.host.send(r.now, r.qp, 2, REMOTE, &[mr.sge(0, 8)]);
    assert_eq!(r.packets().len(), 4);
    for i in 0..5 {
        let op = match i {
            1 | 3 => Opcode::ReadResponseLast,
            4 => Opcode::ReadResponseOnly,
            _ => ReadResponseFirst,
        };
        // After the peer has executed the chunk, and no later one.
        let aeth = Aeth {
            syndrome: Syndrome::from_u8(ACK),
            msn: i / 2 + 1,
        };
        r.respond_with(op, PSN + i, Some(aeth), &[7; 256]);
    }
    // One message for each of three chunks, and the WRITE.
    answer(&mut r, PSN + 5, ACK, 5);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    answer(&mut r, PSN + 5, ACK, 4);
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::Success), (2, Status::Success)]
    );
}

#[test]
fn data_in_the_middle_speaks_for_nothing_before_it() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 1000]);
    r.host.send(r.now, r.qp, 1, REMOTE, &[mr.sge(0, 8)]);
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, 2, op, &[mr.all()]);
    assert_eq!(r.packets().len(), 2);
    r.respond(ReadResponseMiddle, PSN + 1, None, &[1; 256]);
    r.respond(ReadResponseMiddle, PSN + 2, None, &[1; 256]);
    r.host.collect();
    assert_eq!(r.host.completions, []);
    assert_eq!(*r.host.bytes(&mr), vec![0; 1000]);
}

/// A gap in READ data is mended also if the peer has proposed that nothing be sent twice.
#[test]
fn without_retries_a_gap_is_still_asked_for_once() {
    let mut r = Raw::new(Setup {
        retry_count: 0,
        ..Setup::small()
    });
    let mr = r.host.open(vec![0; 1000]);
    let op = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    r.host.send(r.now, r.qp, 2, op, &[mr.all()]);
    assert_eq!(r.packets().len(), 1);
    r.respond(ReadResponseMiddle, PSN + 1, None, &[1; 256]);
    assert_eq!(r.packets(), [(Opcode::ReadRequest, PSN)]);
    r.respond(ReadResponseMiddle, PSN + 1, None, &[1; 256]);
    r.silence();
    r.host.collect();
    assert_eq!(r.host.completions, []);
    r.wait(Duration::from_secs(60));
    r.host.collect();
    assert_eq!(outcomes(&r.host.completions), [(2, Status::RetryExceeded)]);
}

/// The peer has been sent a WRITE of four packets.
fn long(setup: Setup) -> Raw {
    let mut r = Raw::new(setup);
    let mr = r.host.open(vec![0; 1000]);
    r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
    assert_eq!(r.packets().len(), 4);
    r
}

/// A refusal is about the first packet of a message, as a rule. In the middle of a long one there are many PSNs with the same count.
#[test]
fn a_refusal_in_the_middle_of_a_message_is_believed_when_nothing_comes_any_more() {
    for (code, status) in [
        (INVALID, Status::RemoteInvalidRequest),
        (ACCESS, Status::RemoteAccess),
        (OPERATION, Status::RemoteOperation),
    ] {
        let mut r = long(Setup::small());
        answer(&mut r, PSN + 2, code, 0);
        let again: Vec<_> = r.packets().iter().map(|p| p.1).collect();
        assert_eq!(again, [PSN, PSN + 1, PSN + 2, PSN + 3]);
        answer(&mut r, PSN + 1, ACK, 0);
        answer(&mut r, PSN + 2, code, 0);
        let again: Vec<_> = r.packets().iter().map(|p| p.1).collect();
        assert_eq!(again, [PSN + 2, PSN + 3]);
        assert_eq!(r.host.completions, []);
        // One timeout, in which the true peer may have been silent for another reason.
        r.wait(Duration::from_millis(20));
        assert_eq!(r.packets().len(), 2);
        r.host.collect();
        assert_eq!(r.host.completions, []);
        for _ in 0..7 {
            r.wait(Duration::from_secs(10));
            r.packets();
        }
        r.host.collect();
        assert_eq!(outcomes(&r.host.completions), [(1, status)]);
        r.assert_dead();
    }
}

#[test]
fn a_refusal_is_forgotten_when_the_peer_goes_on() {
    let mut r = long(Setup::small());
    answer(&mut r, PSN + 2, ACCESS, 0);
    assert_eq!(r.packets().len(), 4);
    answer(&mut r, PSN + 2, ACK, 0);
    r.wait(Duration::from_secs(1));
    r.host.collect();
    assert_eq!(r.host.completions, []);
    assert_eq!(r.packets()[0].1, PSN + 3);
    answer(&mut r, PSN + 3, ACK, 1);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
}

/// Also if what it acknowledges lies before what it is said to have refused, and is followed by silence.
#[test]
fn a_refusal_is_forgotten_when_something_is_acknowledged_behind_it() {
    let mut r = long(Setup::small());
    answer(&mut r, PSN + 2, ACCESS, 0);
    assert_eq!(r.packets().len(), 4);
    answer(&mut r, PSN, ACK, 0);
    r.wait(Duration::from_millis(20));
    r.host.collect();
    assert_eq!(r.host.completions, []);
    assert_eq!(r.packets()[0].1, PSN + 1);
    answer(&mut r, PSN + 3, ACK, 1);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
}

/// Who has to guess the count of messages, too, has little use for the many PSNs of a long one.
#[test]
fn an_old_connection_believes_each_refusal_at_once() {
    for (done, believed) in [(0, false), (YOUNG - 1, false), (YOUNG, true)] {
        let mut r = waiting(done, 0);
        let mr = r.host.open(vec![0; 1000]);
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
        assert_eq!(r.packets().len(), 4);
        answer(&mut r, PSN + done + 2, ACCESS, done);
        let failed = outcomes(&r.host.completions) == [(1, Status::RemoteAccess)];
        assert_eq!(failed, believed, "{done}");
    }
    let windows = Config::default().send_window + Config::default().read_window;
    assert!((1 << 24) / windows * YOUNG >= 1 << 20);
}

/// There is nothing that would end the silence.
#[test]
fn without_a_timeout_a_refusal_is_believed_at_once() {
    let mut r = long(Setup {
        ack_timeout: 0,
        ..Setup::small()
    });
    answer(&mut r, PSN + 2, ACCESS, 0);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::RemoteAccess)]);
}

/// In the middle of a message nothing takes a receive. What is said there ends nothing, however often, and acknowledges nothing.
#[test]
fn in_the_middle_of_a_message_a_peer_that_is_not_ready_is_only_waited_for() {
    let setup = Setup {
        rnr_retry_count: 0,
        ..Setup::small()
    };
    let mut r = long(setup);
    for psn in 1..4 {
        answer(&mut r, PSN + psn, RNR, 0);
        // Code 12.
        r.wait(Duration::from_micros(639));
        r.silence();
        r.wait(Duration::from_micros(1));
        let again: Vec<_> = r.packets().iter().map(|p| p.1).collect();
        assert_eq!(again, [PSN, PSN + 1, PSN + 2, PSN + 3]);
    }
    assert_eq!(r.host.completions, []);
    // Some peers lack other things where a message begins.
    answer(&mut r, PSN, RNR, 0);
    assert_eq!(
        outcomes(&r.host.completions),
        [(1, Status::RnrRetryExceeded)]
    );
}

/// Of the packets of a long message all have the same count, and an acknowledgement of any is believed. If it was made up, the peer misses what
/// it has skipped, and that is believed in turn as long as nothing has come of it.
#[test]
fn what_a_made_up_acknowledgement_has_skipped_is_sent_when_it_is_missed() {
    for (done, believed) in [(0, true), (YOUNG - 1, true), (YOUNG, false)] {
        let mut r = waiting(done, 0);
        let mr = r.host.open(vec![0; 256 * 40]);
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
        assert_eq!(r.packets().len(), 40);
        let first = PSN + done;
        answer(&mut r, first + 30, ACK, done);
        // Not with another count, nor what belongs to another message.
        answer(&mut r, first + 3, SEQUENCE, done + 1);
        answer(&mut r, first.wrapping_sub(1), SEQUENCE, done);
        r.silence();
        answer(&mut r, first + 3, SEQUENCE, done);
        let again: Vec<_> = r.packets().iter().map(|p| p.1).collect();
        if believed {
            assert_eq!(again, (first + 3..first + 40).collect::<Vec<_>>());
            // What has been taken back is not gone.
            answer(&mut r, first + 38, ACK, done);
            assert_eq!(r.host.completions, []);
        } else {
            assert_eq!(again, []);
        }
        answer(&mut r, first + 39, ACK, done + 1);
        assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    }
}

/// A peer may count later messages than it acknowledges. While the numbers are small it is not believed to be far ahead.
#[test]
fn a_young_connection_believes_no_count_that_is_far_ahead() {
    for (done, most) in [(0, 8), (YOUNG - 15, 8), (YOUNG - 1, 8), (YOUNG, 20)] {
        for msn in 0..=20 {
            let mut r = waiting(done, 20);
            answer(&mut r, PSN + done, ACK, done + msn);
            let completed = r.host.completions.len();
            assert_eq!(completed, usize::from((1..=most).contains(&msn)), "{msn}");
        }
    }
}

/// Data has a count where a chunk of it begins or ends. Elsewhere, while the count is easy to guess, it speaks for nothing that came before.
#[test]
fn in_the_middle_of_data_a_count_speaks_for_nothing_else() {
    for done in [0, YOUNG] {
        for (op, at, speaks) in [
            (ReadResponseFirst, 1, true),
            (ReadResponseFirst, 2, done == YOUNG),
            (Opcode::ReadResponseLast, 3, done == YOUNG),
            (Opcode::ReadResponseLast, 4, true),
        ] {
            let mut r = waiting(done, 1);
            let mr = r.host.open(vec![0; 1024]);
            let read = SendOp::Read {
                remote_va: 0x7000,
                rkey: 0x99,
            };
            r.host.send(r.now, r.qp, 1000, read, &[mr.all()]);
            assert_eq!(r.packets().len(), 1);
            let aeth = Aeth {
                syndrome: Syndrome::from_u8(ACK),
                msn: done + 2,
            };
            r.respond_with(op, PSN + done + at, Some(aeth), &[7; 256]);
            r.host.collect();
            assert_eq!(r.host.completions.len(), usize::from(speaks), "{op:?} {at}");
        }
    }
}

/// It would say that all before has been executed: at a packet that is no READ, too.
#[test]
fn data_for_what_asks_for_none_means_nothing() {
    let mut r = waiting(0, 3);
    let aeth = Aeth {
        syndrome: Syndrome::from_u8(ACK),
        msn: 2,
    };
    for op in [Opcode::ReadResponseOnly, ReadResponseMiddle] {
        let aeth = Some(aeth).filter(|_| op != ReadResponseMiddle);
        r.respond_with(op, PSN + 1, aeth, &[7; 256]);
    }
    r.host.collect();
    assert_eq!(r.host.completions, []);
    r.silence();
    assert_eq!(r.host.engine.counters().drop_unexpected_response, 2);
}

/// It may be made up.
#[test]
fn one_strange_count_does_not_make_a_strange_peer() {
    let mut r = waiting(0, 3);
    answer(&mut r, PSN + 1, ACCESS, 77);
    assert_eq!(r.host.engine.counters().drop_wrong_msn, 1);
    answer(&mut r, PSN, ACK, 1);
    for _ in 0..3 {
        answer(&mut r, PSN + 1, ACCESS, 77);
    }
    assert_eq!(outcomes(&r.host.completions), [(0, Status::Success)]);
    // And a peer that is strange is understood after a timeout if it says no more than once what it says.
    for retry_count in [0, 7] {
        let mut r = Raw::new(Setup {
            retry_count,
            ..Setup::small()
        });
        r.host.send(r.now, r.qp, 1, REMOTE, &[]);
        assert_eq!(r.packets().len(), 1);
        answer(&mut r, PSN, ACK, 77);
        r.wait(Duration::from_secs(1));
        assert_eq!(r.packets().len(), 1);
        answer(&mut r, PSN, ACK, 77);
        assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    }
}

/// A packet that nobody is so far behind for is not asked about.
#[test]
fn made_up_requests_far_ahead_draw_no_nak() {
    let mut r = Raw::small();
    for ahead in [1 << 20, (1 << 20) + 1, 1 << 22, (1 << 23) - 1] {
        r.inject(Opcode::SendOnly, (PSN + ahead) & Psn::MASK, b"x");
        r.silence();
    }
    r.inject(Opcode::SendOnly, PSN + (1 << 20) - 1, b"x");
    assert_eq!(r.only_ack(), (PSN, SEQUENCE));
}

/// A frame as somebody writes it who knows the path and the number of the queue pair, and guesses a PSN.
fn made_up(rng: &mut Rng, path: &roce::Path, qpn: u32, psn: u32) -> Vec<u8> {
    // Mostly what does the most harm.
    let op = loop {
        let op = match rng.next_u32() % 4 {
            0 => Opcode::from_u8((rng.next_u32() % 0x18) as u8),
            _ => Acknowledge,
        };
        if op.is_rc_request() || op.is_rc_response() {
            break op;
        }
    };
    let (a, b) = (rng.next_u64(), rng.next_u64());
    let reth = Reth {
        va: a,
        rkey: b as u32,
        len: (b >> 32) as u32 % 4096,
    };
    let ext = ExtHeaders {
        reth: op.has_reth().then_some(reth),
        atomic: op.has_atomic_eth().then_some(AtomicEth {
            va: a & !7,
            rkey: b as u32,
            swap_add: b,
            compare: a,
        }),
        aeth: op.has_aeth().then_some(Aeth {
            syndrome: Syndrome::from_u8(
                [ACK, RNR, SEQUENCE, INVALID, ACCESS, OPERATION][(a % 6) as usize],
            ),
            msn: b as u32 & Psn::MASK,
        }),
        atomic_ack: op
            .has_atomic_ack_eth()
            .then_some(AtomicAckEth { original: a }),
        immediate: op.has_immediate().then_some(Immediate([1, 2, 3, 4])),
        ieth: op.has_ieth().then_some(Ieth { rkey: b as u32 }),
        ..ExtHeaders::NONE
    };
    let payload = [0xee; 64];
    let payload = &payload[..if op.has_payload() { 64 } else { 0 }];
    let bth = Bth {
        ack_req: a & 1 != 0,
        ..Bth::new(op, qpn, Psn::new(psn))
    };
    let mut header = ArrayVec::<u8, 256>::new();
    let mut icrc: Icrc = Header::new(path, 0xc123, bth, ext)
        .write(payload.len(), &mut header)
        .unwrap();
    icrc.update(payload);
    [&header[..], payload, &icrc.trailer(pad_of(payload.len()))].concat()
}

/// PSNs on either side of the newest one that has been sent which may be expected, kept or under way: those of both windows, and some. What a frame
/// does at each of these, guesses.rs tries out one by one.
fn near() -> u32 {
    let c = Config::default();
    c.send_window + c.read_window + c.read_chunk
}

/// A million and more of such frames, at both ends of a connection with all windows full: everything arrives. Their PSNs are any but those that
/// guesses.rs counts, so that nothing depends on luck.
#[test]
fn a_million_made_up_frames_do_not_break_a_connection() {
    const FRAMES: u32 = (1 << 20) + 1;
    const AT_ONCE: u32 = 256;
    const LEN: usize = 256 << 10;
    let near = near();
    let setup = Setup::small();
    let (mut p, qa, qb) = Pair::attached(setup);
    let numbers = Rc::new(Cell::new([0; 2]));
    let sent_last = Rc::new(Cell::new([0; 2]));
    let (seen, last) = (numbers.clone(), sent_last.clone());
    p.net.script = Box::new(move |from, packet: &Packet<'_>| {
        let side = usize::from(from == Side::A);
        let mut both = seen.get();
        both[side] = packet.bth.dest_qpn;
        seen.set(both);
        if packet.bth.opcode.is_rc_request() {
            let mut both = last.get();
            both[side] = packet.bth.psn.get();
            last.set(both);
        }
        crate::util::network::Fate::Pass
    });
    let (at_a, at_b) = (p.a.open(pattern(LEN, 1)), p.b.open(pattern(LEN, 2)));
    let (from_b, from_a) = (p.a.open(vec![0; LEN]), p.b.open(vec![0; LEN]));
    let back = p.a.open(vec![0; LEN]);
    let mut rng = Rng::new(7);
    let mut sent = 0;
    let mut round = 0u64;
    while sent < FRAMES {
        round += 1;
        p.a.send(p.now, qa, round, from_a.write(), &[at_a.all()]);
        p.b.send(p.now, qb, round, from_b.write(), &[at_b.all()]);
        p.a.send(p.now, qa, round, at_b.read(), &[back.all()]);
        while (p.a.completions.len(), p.b.completions.len()) != (2, 1)
            && p.step(p.now.after(SECOND))
        {
            p.pump();
            for _ in 0..AT_ONCE {
                let psn = loop {
                    let psn = rng.next_u32() & Psn::MASK;
                    let is_near = |last: u32| {
                        last.wrapping_sub(psn).wrapping_add(near) & Psn::MASK < 2 * near
                    };
                    if !sent_last.get().into_iter().any(is_near) {
                        break psn;
                    }
                };
                let [to_a, to_b] = numbers.get();
                let (side, qpn) = match rng.next_u32() % 2 {
                    0 => (Side::A, to_a),
                    _ => (Side::B, to_b),
                };
                let frame = made_up(&mut rng, &p.setup.path(side.other()), qpn, psn);
                let now = p.now;
                let host = p.host(side);
                host.engine.receive(now, &frame, &mut host.memory);
                sent += 1;
            }
        }
        let done = (p.a.completions.len(), p.b.completions.len());
        assert_eq!(done, (2, 1), "round {round}");
        for c in p.a.completions.drain(..).chain(p.b.completions.drain(..)) {
            assert_eq!(c.status, Status::Success, "round {round}");
        }
        assert!(*p.b.bytes(&from_a) == pattern(LEN, 1));
        assert!(
            [from_b, back]
                .iter()
                .all(|mr| *p.a.bytes(mr) == pattern(LEN, 2))
        );
    }
    println!("{sent} made-up frames, {round} rounds");
}
