//! Many conversations over a link that does its worst, each from a seed.

use super::*;
use crate::rng::Rng;
use link::Fate;

/// Connects, maybe lingers, and disconnects, over a link with loss, repetition and delay.
fn conversation(seed: u64) {
    let configs = [link::config(A), link::config(B)];
    let mut link = Link::with(&configs, FAMILIES[seed as usize % 2], seed);
    let mut dice = Rng::new(seed ^ 0x5eed);
    link.judge(move |_, _| match dice.next_u32() % 10 {
        0..3 => Fate::IsLost,
        3 => Fate::ArrivesTwice,
        4 => Fate::IsLate(Duration::from_millis(u64::from(dice.next_u32() % 3000))),
        _ => Fate::Arrives,
    });
    let mut dice = Rng::new(seed);
    let (a, b) = connected(&mut link);
    link.run_for(Duration::from_millis(u64::from(dice.next_u32() % 10_000)));
    link.no_events();
    let (first, second) = if dice.next_u32().is_multiple_of(2) {
        ((A, a), (B, b))
    } else {
        ((B, b), (A, a))
    };
    link.agents[first.0].disconnect(link.now, first.1).unwrap();
    let both = dice.next_u32().is_multiple_of(3);
    if both {
        link.agents[second.0]
            .disconnect(link.now, second.1)
            .unwrap();
    }
    // With three in ten lost, sixteen attempts may all fail, but hardly ever do.
    link.expect(
        first.0,
        Event::DisconnectDone {
            conn: first.1,
            result: DisconnectResult::Graceful,
        },
    );
    if both {
        link.expect(
            second.0,
            Event::DisconnectDone {
                conn: second.1,
                result: DisconnectResult::Graceful,
            },
        );
    } else {
        link.expect(
            second.0,
            Event::Disconnected {
                conn: second.1,
                reason: DisconnectReason::Peer,
            },
        );
    }
    link.run_until_idle();
    link.no_events();
    for (side, conn) in [first, second] {
        link.agents[side].forget(link.now, conn);
    }
    link.run_until_idle();
    assert!(link.agents.iter().all(|a| a.len() == 0));
}

#[test]
fn conversations_over_a_bad_link_come_to_their_end() {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let seeds = match number("ROCE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROCE_CASES").unwrap_or(300),
    };
    for seed in seeds {
        std::println!("ROCE_SEED={seed}");
        conversation(seed);
    }
}
