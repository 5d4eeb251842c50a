//! What is sent again when packets are lost, when, and what is left of the speed.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{Completion, Config, PathMtu, SendOp, Status};
use std::time::Duration;

/// What a stream consists of.
#[derive(Clone, Copy, Debug)]
enum Stream {
    Write,
    Send,
    Read,
}

/// Bytes of one message.
const LEN: usize = 64 << 10;

/// Messages that a side has posted at a time.
const AHEAD: u64 = 32;

/// Each way.
const DELAY: Duration = Duration::from_micros(500);

/// Per mille, in both directions.
const LOSS: u32 = 10;

/// Everything as it is by default, but for the packets, which are as large as they can be.
fn setup(seed: u64) -> Setup {
    let config = Config {
        local_mtu: 4200,
        ..Config::default()
    };
    Setup {
        seed,
        mtu: PathMtu::Mtu4096,
        reads: config.max_outbound_reads,
        ack_timeout: config.ack_timeout,
        config,
        ..Setup::default()
    }
}

/// Bytes per second of virtual time of a stream of so many messages.
fn rate(setup: Setup, stream: Stream, messages: u64, loss: u32) -> f64 {
    let (mut p, qa, qb) = Pair::attached(setup);
    p.net.set_weather(Weather {
        delay: DELAY,
        loss,
        ..Weather::CALM
    });
    let here = p.a.open(pattern(LEN, 1));
    let there = p.b.open(pattern(LEN, 2));
    let (from, to) = match stream {
        Stream::Read => (&there, &here),
        Stream::Write | Stream::Send => (&here, &there),
    };
    let want = match stream {
        Stream::Read => p.b.bytes(from).to_vec(),
        Stream::Write | Stream::Send => p.a.bytes(from).to_vec(),
    };
    let start = p.now;
    let (mut posted, mut done) = (0, 0);
    while done < messages {
        while posted < messages.min(done + AHEAD) {
            posted += 1;
            let op = match stream {
                Stream::Write => there.write(),
                Stream::Read => there.read(),
                Stream::Send => {
                    let receive = p.b.engine.post_recv(p.now, qb, posted, &[there.all()]);
                    receive.unwrap();
                    SendOp::Send
                }
            };
            p.a.send(p.now, qa, posted, op, &[here.all()]);
        }
        assert!(p.step(start.after(SECOND * 60)), "seed {}", p.setup.seed);
        let check = |c: Completion| assert_eq!(c.status, Status::Success, "{stream:?}");
        done += p.a.completions.len() as u64;
        p.a.completions.drain(..).for_each(check);
        p.b.completions.drain(..).for_each(check);
    }
    let took = p.now.since(start).as_secs_f64();
    let got = match stream {
        Stream::Read => p.a.bytes(to),
        Stream::Write | Stream::Send => p.b.bytes(to),
    };
    assert!(*got == want, "{stream:?}");
    (messages * LEN as u64) as f64 / took
}

#[test]
fn a_lossy_wire_keeps_half_of_the_speed() {
    const MESSAGES: u64 = 1000;
    for stream in [Stream::Write, Stream::Send, Stream::Read] {
        let calm = rate(setup(1), stream, MESSAGES, 0);
        println!("{stream:?}: {:.0} MB/s without loss", calm / 1e6);
        for seed in 1..=8 {
            let lossy = rate(setup(seed), stream, MESSAGES, LOSS);
            let kept = lossy / calm;
            println!(
                "{stream:?}, seed {seed}: {:.0} MB/s, {:.1} % kept",
                lossy / 1e6,
                kept * 100.0
            );
            assert!(kept >= 0.5, "{stream:?}, seed {seed}: {kept}");
        }
    }
}

const MS: Duration = Duration::from_millis(1);
/// Ack timeout code 10: 4.096 us * 1024.
const T: Duration = Duration::from_nanos(4096 << 10);

const REMOTE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};

const REMOTE_READ: SendOp = SendOp::Read {
    remote_va: 0x7000,
    rkey: 0x99,
};

/// WRITEs of one packet each, so many.
fn post(r: &mut Raw, n: u32) {
    let mr = r.host.open(vec![0; 8]);
    for _ in 0..n {
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
    }
}

/// A connection on which one packet was sent and acknowledged, with this round trip: the next has the PSN after it.
fn with_round_trip(setup: Setup, time: Duration) -> Raw {
    let mut r = Raw::new(setup);
    post(&mut r, 1);
    assert_eq!(r.packets().len(), 1);
    r.wait(time);
    r.acknowledge(PSN, ACK);
    r.host.collect();
    r.host.completions.clear();
    r
}

/// PSNs of what is sent now.
fn psns(r: &mut Raw) -> Vec<u32> {
    r.replies().iter().map(|p| p.psn - PSN).collect()
}

fn done(r: &mut Raw) -> usize {
    r.host.collect();
    r.host.completions.len()
}

#[test]
fn of_a_peer_that_keeps_early_packets_only_the_missing_one_is_asked_again() {
    let mut setup = Setup::small();
    setup.config.send_window = 8;
    let mut r = Raw::new(setup);
    post(&mut r, 60);
    assert_eq!(psns(&mut r), (0..8).collect::<Vec<_>>());
    // The first time nobody knows: no more than the window is under way.
    r.acknowledge(PSN + 2, SEQUENCE);
    assert_eq!(psns(&mut r), [2, 8, 9]);
    r.acknowledge(PSN + 9, ACK);
    assert_eq!(psns(&mut r), (10..18).collect::<Vec<_>>());
    // Now it is known to keep what comes early: twice the window, counted from what is missing.
    r.acknowledge(PSN + 11, SEQUENCE);
    assert_eq!(
        psns(&mut r),
        [11].into_iter().chain(18..27).collect::<Vec<_>>()
    );
    r.silence();
    // The next gap is behind what had been sent when the first came out.
    r.acknowledge(PSN + 20, ACK);
    r.acknowledge(PSN + 21, SEQUENCE);
    let now = psns(&mut r);
    assert_eq!(now[0], 21);
    assert!(now[1..].iter().all(|psn| *psn >= 27));
    let c = *r.host.engine.counters();
    assert_eq!((c.mended, c.retransmissions), (3, 0));
}

#[test]
fn of_a_peer_that_keeps_nothing_it_is_asked_once() {
    for nak in [false, true] {
        let mut r = Raw::small();
        post(&mut r, 10);
        assert_eq!(r.packets().len(), 10);
        r.acknowledge(PSN + 2, SEQUENCE);
        assert_eq!(psns(&mut r), [2]);
        // Whether it says so by an acknowledgement of that one packet, or misses the next.
        if nak {
            r.acknowledge(PSN + 3, SEQUENCE);
        } else {
            r.acknowledge(PSN + 2, ACK);
        }
        assert_eq!(psns(&mut r), (3..10).collect::<Vec<_>>());
        r.acknowledge(PSN + 6, SEQUENCE);
        assert_eq!(psns(&mut r), (6..10).collect::<Vec<_>>());
        r.acknowledge(PSN + 9, ACK);
        assert_eq!(done(&mut r), 10);
        assert_eq!(r.host.engine.counters().mended, 1);
    }
}

/// Two neighbours are lost now and then: no reason to take the peer for one that keeps nothing.
#[test]
fn a_peer_that_has_kept_packets_is_forgiven() {
    let mut r = Raw::small();
    post(&mut r, 60);
    assert_eq!(r.packets().len(), 60);
    r.acknowledge(PSN + 2, SEQUENCE);
    assert_eq!(psns(&mut r), [2]);
    let mut missing = 10;
    for _ in 0..3 {
        r.acknowledge(PSN + missing, SEQUENCE);
        assert_eq!(psns(&mut r), [missing]);
        r.acknowledge(PSN + missing, ACK);
        assert_eq!(psns(&mut r), (missing + 1..60).collect::<Vec<_>>());
        missing += 3;
    }
    r.acknowledge(PSN + 30, SEQUENCE);
    assert_eq!(psns(&mut r), [30]);
    r.acknowledge(PSN + 59, ACK);
    assert_eq!(done(&mut r), 60);
}

/// What was sent before a packet was sent again can say nothing of that.
#[test]
fn a_nak_that_comes_again_within_the_round_trip_is_no_news() {
    let setup = Setup {
        retry_count: 1,
        ..Setup::small()
    };
    let mut r = with_round_trip(setup, MS);
    post(&mut r, 10);
    assert_eq!(r.packets().len(), 10);
    r.wait(MS);
    for _ in 0..5 {
        r.acknowledge(PSN + 1, SEQUENCE);
        r.wait(MS / 10);
    }
    assert_eq!(psns(&mut r), [1]);
    for _ in 0..5 {
        r.acknowledge(PSN + 1, SEQUENCE);
        r.wait(MS / 10);
    }
    r.silence();
    r.wait(MS / 2);
    r.acknowledge(PSN + 1, SEQUENCE);
    r.host.collect();
    assert_eq!(
        r.host.completions[0].status,
        Status::RetryExceeded,
        "that is another"
    );
}

#[test]
fn silence_is_broken_after_two_round_trips_and_takes_no_retry() {
    for retry_count in [0, 2] {
        let setup = Setup {
            retry_count,
            ack_timeout: 12,
            ..Setup::small()
        };
        let timeout = 4 * T;
        let mut r = with_round_trip(setup, MS);
        post(&mut r, 3);
        assert_eq!(psns(&mut r), [1, 2, 3]);
        let mut passed = Duration::ZERO;
        // Twice as long each time, for the packet that may be the only one missing.
        for wait in [2, 4, 8] {
            r.wait(wait * MS - MS / 100);
            r.silence();
            r.wait(MS / 100);
            let again = r.replies();
            assert_eq!(again.len(), 1);
            assert_eq!((again[0].psn, again[0].ack_request), (PSN + 1, true));
            passed += wait * MS;
        }
        // The timeout is where it would be, and so is what follows.
        assert_eq!(r.host.engine.counters().timeouts, 0);
        r.wait(timeout - passed - MS / 100);
        r.silence();
        r.wait(MS / 100);
        assert_eq!(r.host.engine.counters().timeouts, 1);
        for doubled in [2, 4].into_iter().take(retry_count.into()) {
            assert_eq!(psns(&mut r), [1, 2, 3]);
            r.wait(doubled * timeout - MS / 100);
            r.silence();
            r.wait(MS / 100);
        }
        r.host.collect();
        let ends = [Status::RetryExceeded, Status::Flushed, Status::Flushed];
        let statuses: Vec<_> = r.host.completions.iter().map(|c| c.status).collect();
        assert_eq!(statuses, ends);
        assert_eq!(r.host.engine.counters().probes, 3);
        assert_eq!(r.host.engine.next_deadline(), None);
    }
}

#[test]
fn only_a_measured_round_trip_makes_silence_suspicious() {
    // Nothing has come back yet; or only for what was sent twice.
    for again in [false, true] {
        let mut r = Raw::small();
        if again {
            post(&mut r, 1);
            assert_eq!(r.packets().len(), 1);
            r.wait(T);
            assert_eq!(r.packets().len(), 1);
            r.acknowledge(PSN, ACK);
        }
        post(&mut r, 3);
        assert_eq!(r.packets().len(), 3);
        r.wait(T - Duration::from_nanos(1));
        r.silence();
        assert_eq!(r.host.engine.counters().probes, 0);
    }
    // A machine may take a moment, however short the way.
    let mut r = with_round_trip(Setup::small(), Duration::from_micros(2));
    post(&mut r, 3);
    assert_eq!(r.packets().len(), 3);
    r.wait(Duration::from_micros(99));
    r.silence();
    r.wait(Duration::from_micros(1));
    assert_eq!(psns(&mut r), [1]);
    // Nothing is asked while the peer wants to be left alone: code 18, 5.12 ms.
    r.acknowledge(PSN + 1, 0x20 | 18);
    r.wait(5 * MS);
    r.silence();
    r.wait(MS);
    assert_eq!(psns(&mut r), [1, 2, 3]);
}

/// The probe is answered for its own packet only: the tail is lost, or the peer is slow to say more.
#[test]
fn a_lost_tail_is_sent_again_when_the_first_of_it_has_arrived_alone() {
    for slow in [false, true] {
        let mut r = with_round_trip(Setup::small(), MS);
        post(&mut r, 4);
        assert_eq!(r.packets().len(), 4);
        r.wait(2 * MS);
        assert_eq!(psns(&mut r), [1]);
        r.wait(MS);
        r.acknowledge(PSN + 1, ACK);
        r.silence();
        if slow {
            r.acknowledge(PSN + 2, ACK);
        }
        r.wait(MS / 2);
        let want: &[u32] = if slow { &[] } else { &[2, 3, 4] };
        assert_eq!(psns(&mut r), want);
        r.acknowledge(PSN + 4, ACK);
        assert_eq!(done(&mut r), 4);
        r.wait(SECOND);
        r.silence();
    }
}

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

/// Between two engines: whichever frame at the end of a conversation is lost, nothing waits for a timeout.
#[test]
fn the_loss_of_a_tail_costs_a_few_round_trips() {
    for stream in [Stream::Write, Stream::Send, Stream::Read] {
        for victim in [Side::A, Side::B] {
            for n in 0..8 {
                let (mut p, qa, qb) = Pair::attached(setup(1));
                p.net.set_weather(Weather {
                    delay: DELAY,
                    ..Weather::CALM
                });
                let here = p.a.open(pattern(LEN, 1));
                let there = p.b.open(pattern(LEN, 2));
                let op = match stream {
                    Stream::Write => there.write(),
                    Stream::Read => there.read(),
                    Stream::Send => SendOp::Send,
                };
                for i in 0..3 {
                    p.b.engine.post_recv(p.now, qb, i, &[there.all()]).unwrap();
                }
                p.a.send(p.now, qa, 1, op, &[here.all()]);
                p.run(SECOND);
                let mut seen = 0;
                p.net.script = Box::new(move |from, _| {
                    seen += usize::from(from == victim);
                    let lost = from == victim && seen == n + 1;
                    if lost { Fate::Drop } else { Fate::Pass }
                });
                let start = p.now;
                p.a.send(p.now, qa, 2, op, &[here.all()]);
                p.a.send(p.now, qa, 3, op, &[here.sge(0, 20_000)]);
                p.run_until(SECOND, |p| p.a.completions.len() == 3);
                let took = p.now.since(start);
                assert!(took < 6 * MS, "{stream:?} {victim:?} {n}: {took:?}");
                assert_eq!(p.a.engine.counters().timeouts, 0);
                p.run(SECOND);
            }
        }
    }
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

/// WRITEs of one packet each, from this memory.
fn post_from(r: &mut Raw, mr: &Mr, n: u32) {
    for _ in 0..n {
        r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
    }
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

/// A WRITE of so many packets of 256 bytes.
fn post_write(r: &mut Raw, packets: usize) {
    let mr = r.host.open(vec![0; 256 * packets]);
    r.host.send(r.now, r.qp, 1, REMOTE, &[mr.all()]);
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

/// On an idle connection answers came at once; under load each takes its time, and none is lost.
#[test]
fn a_peer_that_becomes_slow_is_not_taken_for_one_that_loses() {
    let micros = Duration::from_micros;
    let mut r = with_round_trip(Setup::small(), micros(50));
    post(&mut r, 60);
    let mut sent = r.packets().len();
    assert_eq!(sent, 60);
    for i in 1..=60 {
        // What is due meanwhile is sent.
        for _ in 0..30 {
            r.wait(micros(10));
            sent += r.packets().len();
        }
        r.acknowledge(PSN + i, ACK);
    }
    assert_eq!(done(&mut r), 60);
    let again = sent - 60;
    assert!(again <= 12, "{again} packets were sent twice");
    assert_eq!(r.host.engine.counters().retransmissions, 0);
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

/// Of one that seemed to keep nothing when two neighbours were lost, single packets are asked for again later on.
#[test]
fn a_peer_that_seemed_to_keep_nothing_is_tried_again() {
    let mut r = Raw::small();
    let mr = r.host.open(vec![0; 8]);
    let mut alone = Vec::new();
    let mut psn = PSN;
    for loss in 0..40 {
        post_from(&mut r, &mr, 5);
        assert_eq!(r.packets().len(), 5);
        r.acknowledge(psn + 1, SEQUENCE);
        if r.packets().len() == 1 {
            alone.push(loss);
            r.acknowledge(psn + 1, ACK);
            assert_eq!(r.packets().len(), 3);
        }
        psn += 5;
        r.acknowledge(psn - 1, ACK);
        r.host.collect();
    }
    assert_eq!(alone, [0, 5, 14, 31]);
    // Then it does keep them.
    for loss in 0..40 {
        post_from(&mut r, &mr, 5);
        assert_eq!(r.packets().len(), 5);
        r.acknowledge(psn + 1, SEQUENCE);
        let again = r.packets().len();
        assert_eq!(again == 1, loss >= 24, "{loss}");
        psn += 5;
        r.acknowledge(psn - 1, ACK);
        r.host.collect();
    }
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
