//! Two engines and a wire that loses: what is left of the speed of a stream, and what the loss of its end costs.

use super::*;
use roce::{Completion, Config, PathMtu};

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
