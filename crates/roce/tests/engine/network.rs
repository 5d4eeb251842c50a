//! The wire of the other tests does what it says.

use crate::util::{Bottleneck, Bursts, Network, Setup, Side, Weather};
use arrayvec::ArrayVec;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{Bth, ExtHeaders, Opcode, Packet};
use roce::{Instant, PathMtu, Psn, Rng};
use std::time::Duration;

/// From A to B, so many bytes of payload, numbered by its PSN.
fn frame(ipv6: bool, traffic_class: u8, psn: u32, payload: usize) -> Vec<u8> {
    let setup = Setup {
        ipv6,
        mtu: PathMtu::Mtu4096,
        ..Setup::default()
    };
    let path = roce::Path {
        traffic_class,
        ..setup.path(Side::A)
    };
    let bth = Bth::new(Opcode::SendOnly, 0x42, Psn::new(psn));
    let mut header = ArrayVec::<u8, 256>::new();
    let mut icrc = Header::new(&path, 0xc123, bth, ExtHeaders::NONE)
        .write(payload, &mut header)
        .unwrap();
    let payload = vec![7; payload];
    icrc.update(&payload);
    [&header[..], &payload, &icrc.trailer(pad_of(payload.len()))].concat()
}

/// What arrives until the wire is empty: when, and what.
fn arrivals(net: &mut Network) -> Vec<(Instant, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(due) = net.next_due() {
        all.push((due, net.receive(due).unwrap().1));
    }
    all
}

fn psn(frame: &[u8]) -> u32 {
    Packet::parse(frame).unwrap().bth.psn.get()
}

/// A thousand frames, a microsecond apart, through this weather.
fn thousand(seed: u64, weather: Weather) -> (Network, Vec<(Instant, Vec<u8>)>) {
    let mut net = Network::new(seed);
    net.set_weather(weather);
    for n in 0..1000 {
        let now = Instant(u64::from(n) * 1000);
        net.send(now, Side::A, frame(false, 0, n, 64));
    }
    let all = arrivals(&mut net);
    (net, all)
}

#[test]
fn a_seed_decides_everything() {
    let weather = Weather {
        bottleneck: Some(Bottleneck {
            rate: 1_000_000_000,
            queue: 1000,
            mark_above: None,
        }),
        loss: 50,
        bursts: Some(Bursts {
            begin: 20,
            end: 200,
            loss: 900,
            longest: Duration::from_micros(50),
        }),
        corruption: 50,
        duplication: 50,
        delay: Duration::from_micros(3),
        jitter: Duration::from_micros(10),
    };
    let (net, all) = thousand(1, weather);
    let (again, the_same) = thousand(1, weather);
    assert_eq!(net.tally(Side::A), again.tally(Side::A));
    assert_eq!(all, the_same);
    assert_ne!(all, thousand(2, weather).1);
    let tally = net.tally(Side::A);
    assert_eq!(
        tally.sent + tally.duplicated - tally.lost - tally.overflowed,
        all.len() as u64
    );
    assert_eq!(net.tally(Side::B).sent, 0);
}

#[test]
fn losses_come_alone_or_in_bursts() {
    // Mean number of frames that are lost in a row.
    let run = |weather| {
        let (net, all) = thousand(3, weather);
        let lost = net.tally(Side::A).lost;
        assert_eq!(lost as usize, 1000 - all.len());
        let gaps = all
            .windows(2)
            .filter(|w| psn(&w[1].1) != psn(&w[0].1) + 1)
            .count();
        (lost, lost as f64 / gaps as f64)
    };
    let (lost, length) = run(Weather {
        loss: 100,
        ..Weather::CALM
    });
    assert!((70..130).contains(&lost), "{lost}");
    assert!(length < 1.3, "{length}");
    let bursts = |longest| Weather {
        bursts: Some(Bursts {
            begin: 10,
            end: 100,
            loss: 1000,
            longest,
        }),
        ..Weather::CALM
    };
    let (lost, length) = run(bursts(Duration::from_secs(1)));
    assert!((40..200).contains(&lost), "{lost}");
    assert!(length > 5.0, "{length}");
    // Frames are a microsecond apart.
    let (lost, length) = run(bursts(Duration::from_micros(2)));
    assert!((5..40).contains(&lost), "{lost}");
    assert!((1.2..=2.0).contains(&length), "{length}");
}

#[test]
fn jitter_reorders_and_duplicates_are_the_same() {
    let (net, all) = thousand(
        4,
        Weather {
            duplication: 200,
            jitter: Duration::from_micros(4),
            ..Weather::CALM
        },
    );
    let arrived: Vec<u32> = all.iter().map(|(_, f)| psn(f)).collect();
    assert!(!arrived.is_sorted());
    let mut sorted = arrived.clone();
    sorted.sort_unstable();
    let twice = sorted.windows(2).filter(|w| w[0] == w[1]).count();
    assert_eq!(twice as u64, net.tally(Side::A).duplicated);
    sorted.dedup();
    assert_eq!(sorted, (0..1000).collect::<Vec<_>>());
    for (at, f) in &all {
        let sent = Instant(u64::from(psn(f)) * 1000);
        let took = at.since(sent);
        assert!(took >= Duration::from_micros(5) && took < Duration::from_micros(9));
    }
}

/// One byte each, anywhere, and never to itself; what the ICRC covers never passes.
#[test]
fn corruption_hits_every_byte() {
    let mut net = Network::new(5);
    net.set_weather(Weather {
        corruption: 1000,
        ..Weather::CALM
    });
    let whole = frame(false, 0, 9, 16);
    for _ in 0..3000 {
        net.send(Instant(0), Side::A, whole.clone());
    }
    let mut hit = vec![false; whole.len()];
    for (_, f) in arrivals(&mut net) {
        let differ: Vec<_> = (0..f.len()).filter(|i| f[*i] != whole[*i]).collect();
        assert_eq!(differ.len(), 1);
        hit[differ[0]] = true;
        let passes = Packet::parse(&f).is_ok_and(|p| p.verify_icrc().is_ok());
        // The Ethernet header, and what routers change: type of service, time to live, the checksums, the BTH's congestion bits.
        let free = [0..14, 15..16, 22..23, 24..26, 40..42, 46..47];
        assert!(
            !passes || free.iter().any(|r| r.contains(&differ[0])),
            "byte {}",
            differ[0]
        );
    }
    assert!(hit.iter().all(|hit| *hit));
}

#[test]
fn a_bottleneck_spaces_frames_and_drops_the_last() {
    let len = frame(false, 0, 0, 942).len() as u64;
    let mut net = Network::new(6);
    net.set_weather(Weather {
        bottleneck: Some(Bottleneck {
            rate: 8_000_000_000,
            queue: 10 * len,
            mark_above: None,
        }),
        delay: Duration::ZERO,
        ..Weather::CALM
    });
    // A byte takes a nanosecond. Twelve at once, of which ten fit; then again when all are gone.
    for start in [0, 100_000] {
        for n in 0..12 {
            net.send(Instant(start), Side::A, frame(false, 0, n, 942));
        }
        let got: Vec<_> = arrivals(&mut net)
            .iter()
            .map(|(at, f)| (at.0, psn(f)))
            .collect();
        let want: Vec<_> = (0..10)
            .map(|n| (start + (u64::from(n) + 1) * len, n))
            .collect();
        assert_eq!(got, want);
    }
    assert_eq!(net.tally(Side::A).overflowed, 4);
    // Another direction is another queue.
    assert_eq!(net.tally(Side::B).overflowed, 0);
}

#[test]
fn long_queues_mark_frames_of_the_ecn_capable() {
    for ipv6 in [false, true] {
        for (class, capable) in [(0xb8, false), (0xb9, true), (0xba, true), (0xbb, true)] {
            let len = frame(ipv6, class, 0, 100).len() as u64;
            let mut net = Network::new(7);
            net.set_weather(Weather {
                bottleneck: Some(Bottleneck {
                    rate: 8_000_000_000,
                    queue: 100 * len,
                    mark_above: Some(3 * len),
                }),
                ..Weather::CALM
            });
            for n in 0..8 {
                net.send(Instant(0), Side::A, frame(ipv6, class, n, 100));
            }
            for (_, f) in arrivals(&mut net) {
                let p = Packet::parse(&f).unwrap();
                p.verify_icrc().unwrap();
                // The first three find at most two before them, the fourth finds three.
                let marked = capable && p.bth.psn.get() > 3;
                let want = if marked { 0xbb } else { class };
                assert_eq!(p.ip.traffic_class(), want, "{ipv6} {class:#x} {:?}", p.bth);
                if !ipv6 {
                    let sum: u32 = f[14..34]
                        .chunks(2)
                        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])))
                        .sum();
                    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
                }
            }
            let marked = if capable { 4 } else { 0 };
            assert_eq!(net.tally(Side::A).marked, marked);
        }
    }
}

#[test]
fn directions_have_weather_of_their_own() {
    let mut net = Network::new(8);
    net.set_weather_from(
        Side::A,
        Weather {
            loss: 1000,
            ..Weather::CALM
        },
    );
    let mut rng = Rng::new(1);
    for n in 0..20 {
        let from = [Side::A, Side::B][rng.next_u32() as usize % 2];
        net.send(Instant(0), from, frame(false, 0, n, 0));
    }
    let arrived = arrivals(&mut net).len() as u64;
    assert_eq!(arrived, net.tally(Side::B).sent);
    assert_eq!(net.tally(Side::A).lost, net.tally(Side::A).sent);
}
