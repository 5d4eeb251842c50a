//! Stories of a network that tells of congestion: what is sent to tell, and what becomes of who is told.

use crate::util::raw::{PEER_QPN, PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::wire::{Aeth, Bth, EcnCodepoint, ExtHeaders, Packet, Reth, Syndrome};
use roce::{Config, Dcqcn, Ecn, SendOp, Status};
use std::time::Duration;

mod bottleneck;

use bottleneck::{Bottleneck, Sender};

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

const ZERO: Reth = Reth {
    va: 0,
    rkey: 0,
    len: 0,
};

fn reacting(setup: Setup) -> Setup {
    with(setup, Ecn::Dcqcn(Dcqcn::default()))
}

fn with(setup: Setup, ecn: Ecn) -> Setup {
    let config = Config {
        ecn,
        ..setup.config
    };
    Setup { config, ..setup }
}

/// Feeds a packet that the network has marked.
fn feed_marked(r: &mut Raw, bth: Bth, ext: ExtHeaders, payload: &[u8]) {
    let class = r.path.traffic_class;
    r.path.traffic_class = EcnCodepoint::Congested.mark(class);
    let frame = r.frame(bth, ext, payload);
    r.path.traffic_class = class;
    r.feed(&frame);
}

/// A marked request that moves nothing and asks for nothing.
fn marked_request(r: &mut Raw, psn: u32) {
    let ext = ExtHeaders {
        reth: Some(ZERO),
        ..ExtHeaders::NONE
    };
    let bth = r.bth(WriteOnly, psn);
    feed_marked(r, bth, ext, &[]);
}

fn notify(r: &mut Raw) {
    let bth = Bth {
        becn: true,
        ..r.bth(Cnp, 0)
    };
    let frame = r.frame(bth, ExtHeaders::NONE, &[0; 16]);
    r.feed(&frame);
}

#[test]
fn marked_requests_draw_a_notification_every_fifty_microseconds_at_most() {
    for ipv6 in [false, true] {
        let mut r = Raw::new(reacting(Setup {
            ipv6,
            ..Setup::small()
        }));
        let mut sent = Vec::new();
        let start = r.now;
        for psn in 0..100 {
            marked_request(&mut r, PSN + psn);
            if let Some(frame) = r.host.transmit(r.now) {
                let p = Packet::parse(&frame).unwrap();
                p.verify_icrc().unwrap();
                let want = Bth {
                    becn: true,
                    dest_qpn: PEER_QPN,
                    ..r.bth(Cnp, 0)
                };
                assert_eq!(p.bth, want);
                assert_eq!((p.payload, p.ecn()), (&[0; 16][..], EcnCodepoint::Capable0));
                sent.push(r.now.since(start));
            }
            r.silence();
            r.now = r.now.after(7 * US);
        }
        // The first packet after each: 7 * 8 = 56.
        let want: Vec<_> = (0..13).map(|i| i * 56 * US).collect();
        assert_eq!(sent, want);
        let counters = r.host.engine.counters();
        assert_eq!((counters.tx_cnps, counters.rx_congested), (13, 100));
    }
}

#[test]
fn a_notification_needs_no_room_at_the_nic() {
    let setup = reacting(Setup::small());
    let mut r = Raw::new(Setup {
        config: Config {
            max_transmissions: 1,
            ..setup.config
        },
        ..setup
    });
    r.host.nic_holds = None;
    let src = r.host.open(pattern(600, 1));
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[src.all()]);
    assert_eq!(r.packets(), [(SendFirst, PSN)]);
    marked_request(&mut r, PSN);
    assert_eq!(r.packets(), [(Cnp, 0)]);
}

#[test]
fn what_draws_a_notification_and_what_does_not() {
    let mut r = Raw::new(reacting(Setup::small()));
    let data = r.host.open(pattern(600, 1));
    let wait = |r: &mut Raw| r.now = r.now.after(MS);
    // A packet that comes too early tells of congestion, too.
    marked_request(&mut r, PSN + 5);
    assert_eq!(r.packets(), [(Cnp, 0), (Acknowledge, PSN)]);
    wait(&mut r);
    // Acknowledgements and notifications do not: nobody can send less of them.
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[data.all()]);
    let silent = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(r.now, r.qp, 2, silent, &[data.sge(0, 100)]);
    assert_eq!(r.replies().len(), 4);
    let aeth = |r: &Raw, psn| {
        let Aeth { msn, .. } = r.aeth(psn, crate::util::raw::syndrome::ACK);
        let syndrome = Syndrome::ACK;
        ExtHeaders {
            aeth: Some(Aeth { syndrome, msn }),
            ..ExtHeaders::NONE
        }
    };
    let (bth, ext) = (r.bth(Acknowledge, PSN + 2), aeth(&r, PSN + 2));
    feed_marked(&mut r, bth, ext, &[]);
    let bth = r.bth(Cnp, 0);
    feed_marked(&mut r, bth, ExtHeaders::NONE, &[0; 16]);
    r.silence();
    // READ data does.
    let (bth, ext) = (r.bth(ReadResponseOnly, PSN + 3), aeth(&r, PSN + 3));
    feed_marked(&mut r, bth, ext, &[7; 100]);
    assert_eq!(r.packets(), [(Cnp, 0)]);
    let done = [(1, Status::Success), (2, Status::Success)];
    assert_eq!(outcomes(&r.host.completions), done);
    wait(&mut r);
    // What fails its ICRC is nobody's.
    let ext = ExtHeaders {
        reth: Some(ZERO),
        ..ExtHeaders::NONE
    };
    r.path.traffic_class = 3;
    let mut frame = r.frame(r.bth(WriteOnly, PSN), ext, &[]);
    *frame.last_mut().unwrap() ^= 1;
    r.feed(&frame);
    r.silence();
    // Nor is a queue pair told that is no more.
    r.inject(SendMiddle, PSN, &[0; 256]);
    assert_eq!(r.packets(), [(Acknowledge, PSN)]);
    marked_request(&mut r, PSN);
    assert!(!r.packets().contains(&(Cnp, 0)));
}

/// The bits of every frame of two connections that the connection manager makes and ends.
#[test]
fn frames_of_connections_may_be_marked_and_the_connection_managers_may_not() {
    for (ecn, capable) in [
        (Ecn::Off, EcnCodepoint::NotCapable),
        (Ecn::Dcqcn(Dcqcn::default()), EcnCodepoint::Capable0),
    ] {
        let mut p = Pair::new(with(Setup::default(), ecn));
        let seen = std::rc::Rc::new(std::cell::RefCell::new([0; 2]));
        let count = seen.clone();
        p.net.script = Box::new(move |_, packet| {
            let of_cm = packet.bth.dest_qpn == 1;
            let want = if of_cm {
                EcnCodepoint::NotCapable
            } else {
                capable
            };
            assert_eq!(packet.ecn(), want, "{:?}", packet.bth);
            count.borrow_mut()[usize::from(of_cm)] += 1;
            Fate::Pass
        });
        p.listen();
        let (conn, qa) = p.request(1000);
        p.run(MS);
        let asked = p.requests();
        p.accept(asked[0]);
        p.run(MS);
        p.a.engine.establish(p.now, conn).unwrap();
        let src = p.a.open(pattern(5000, 1));
        let dst = p.b.open(vec![0; 5000]);
        p.a.send(p.now, qa, 1, dst.write(), &[src.all()]);
        p.a.send(p.now, qa, 2, dst.read(), &[src.all()]);
        p.run(MS);
        p.a.engine.disconnect(p.now, conn).unwrap();
        p.run(SECOND);
        assert_eq!(p.a.completions.len(), 2);
        // Five packets, a READ and five; REQ, REP, RTU, DREQ, DREP.
        let [of_connections, of_cm] = *seen.borrow();
        assert!(
            of_connections >= 11 && of_cm >= 5,
            "{of_connections}, {of_cm}"
        );
    }
}

/// Packets of a queue pair that has been told of congestion keep the distance that the rate asks for, READ responses like requests.
#[test]
fn requests_and_read_data_are_sent_at_the_rate_of_the_limiter() {
    for read in [false, true] {
        let dcqcn = Dcqcn {
            link_mbps: 1000,
            catch_up_us: 0,
            ..Dcqcn::default()
        };
        let mut r = Raw::new(with(Setup::default(), Ecn::Dcqcn(dcqcn)));
        let data = r.host.open(pattern(4 * 1024, 1));
        notify(&mut r);
        if read {
            r.inject_reth(ReadRequest, PSN, data.reth(0, 4 * 1024), &[]);
        } else {
            r.host.send(r.now, r.qp, 1, SendOp::Send, &[data.all()]);
        }
        let start = r.now;
        for i in 0..4 {
            let frame = r.host.transmit(r.now).expect("its time has come");
            assert!(r.host.transmit(r.now).is_none());
            if i == 3 {
                break;
            }
            // At 500 Mbit/s.
            let gap = Duration::from_nanos(frame.len() as u64 * 16);
            // What comes meanwhile does not speed it up, and an acknowledgement does not wait for it.
            let early = r.now.after(gap - US);
            assert_eq!(r.host.engine.next_deadline(), Some(r.now.after(gap)));
            r.host.engine.handle_timeout(early);
            if !read {
                r.inject_reth(WriteOnly, PSN + i, ZERO, &[]);
                assert_eq!(r.only_ack().0, PSN + i);
            }
            assert!(r.host.transmit(early).is_none());
            r.wait(gap);
        }
        assert!(r.now.since(start) > 48 * US);
        assert_eq!(r.host.engine.counters().rx_cnps, 1);
    }
}

fn with_windows(ecn: Ecn, windows: &[u32]) -> Bottleneck {
    let senders = windows
        .iter()
        .map(|&send_window| Sender { send_window, ecn });
    Bottleneck::new(senders.collect())
}

/// Jain's index: 1 if all have the same, 1/n if one has all.
fn fairness(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|r| r * r).sum();
    sum * sum / (rates.len() as f64 * squares)
}

#[test]
fn two_flows_share_a_bottleneck_fairly_and_its_queue_stays_short() {
    let run = |ecn| {
        let mut b = with_windows(ecn, &[128, 32]);
        b.run(40 * MS);
        b.forget();
        b.run(40 * MS);
        let rates = b.gigabits(40 * MS);
        println!("{ecn:?}: {rates:?} Gbit/s, queue {} KB", b.longest / 1000);
        let total: f64 = rates.iter().sum();
        assert_eq!(b.timeouts(), 0);
        (fairness(&rates), total, b.longest)
    };
    let (unfair, all, long) = run(Ecn::Off);
    // Who has the larger window has so much more, and both windows stand in the queue.
    assert!(unfair < 0.8 && all > 9.5 && long > 500_000);
    let (fair, most, short) = run(Ecn::Dcqcn(Dcqcn::default()));
    assert!(fair > 0.95, "{fair}");
    assert!(most > 8.0, "{most}");
    assert!(short < long / 2, "{short}");
}

#[test]
fn who_is_left_alone_gets_the_whole_link_back() {
    let mut b = with_windows(Ecn::Dcqcn(Dcqcn::default()), &[128; 3]);
    b.run(30 * MS);
    b.forget();
    b.run(10 * MS);
    let shared = b.gigabits(10 * MS);
    assert!(shared[0] < 5.0, "{shared:?}");
    b.stop(1);
    b.stop(2);
    b.run(40 * MS);
    b.forget();
    b.run(10 * MS);
    let alone = b.gigabits(10 * MS);
    println!("{shared:?}, then {alone:?}");
    assert!(alone[0] > 9.0, "{alone:?}");
    assert_eq!(b.timeouts(), 0);
}

/// Who can make up notifications, for which addresses and a QPN are enough, can slow a connection down to the least rate, not further,
/// and only for as long as the flood lasts.
#[test]
fn a_flood_of_made_up_notifications_leaves_the_least_rate() {
    let mut b = with_windows(Ecn::Dcqcn(Dcqcn::default()), &[128]);
    b.flood = Some(5 * US);
    b.run(20 * MS);
    b.forget();
    b.run(200 * MS);
    let slow = b.gigabits(200 * MS)[0];
    println!("{slow} Gbit/s");
    // 10 Mbit/s and what the headers take.
    assert!((0.0095..0.012).contains(&slow), "{slow}");
    assert_eq!(b.timeouts(), 0);
    b.flood = None;
    b.run(60 * MS);
    b.forget();
    b.run(10 * MS);
    let fast = b.gigabits(10 * MS)[0];
    assert!(fast > 9.0, "{fast}");
}

/// To an engine that does not react, marks and notifications are as if they were not there.
#[test]
fn without_the_setting_nothing_changes() {
    let sent = |marks, flood| {
        let mut b = with_windows(Ecn::Off, &[64, 64]);
        b.marks_all = marks;
        b.flood = flood;
        b.run(5 * MS);
        let counters = b.counters();
        assert_eq!(counters.rx_congested > 0, marks);
        assert_eq!(counters.rx_cnps > 0, flood.is_some());
        assert_eq!(counters.tx_cnps, 0);
        b.sent
    };
    let calm = sent(false, None);
    assert!(calm.len() > 1000);
    assert!(calm == sent(true, Some(10 * US)));
}
