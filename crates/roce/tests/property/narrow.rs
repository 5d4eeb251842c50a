//! READs through queues that hold two packets, and nothing kept at their end: what a timeout asks for once more must fit in.

use crate::case::*;
use crate::shrink::verdict;
use crate::util::Bottleneck;
use crate::util::random::*;
use roce::{Rng, SendFlags};

/// Percent of a percent of the frames that are lost, at most, besides those that do not fit in.
const LOSS: u32 = 60;

/// Where the narrow place is.
#[derive(Clone, Copy, Debug)]
enum Narrow {
    Wire,
    Transmissions,
    Nic,
}

fn case(seed: u64, narrow: Narrow) -> Case {
    let rng = &mut Rng::new(seed ^ 0x717e);
    let mut case = Case::random(seed);
    let flows = case.shared.len() as u32 * 2;
    case.early_frames = 0;
    let mtu = case.mtu.bytes();
    case.ops = (0..1 + below(rng, 12))
        .map(|_| match below(rng, 4) {
            0 => Op::Run(below(rng, 100_000)),
            _ => Op::Post(Post {
                flow: below(rng, flows) as usize,
                kind: Kind::Read,
                len: mtu * (1 + below(rng, 60)),
                at: 0,
                again: false,
                cuts: [0; 3],
                inline: false,
                granted: false,
                flags: SendFlags::empty(),
            }),
        })
        .collect();
    match narrow {
        Narrow::Wire => {
            for weather in &mut case.weather {
                weather.bottleneck = Some(Bottleneck {
                    rate: pick(rng, &[100_000_000, 1_000_000_000, 10_000_000_000]),
                    queue: 2 * (u64::from(mtu) + 100),
                    mark_above: None,
                });
            }
        }
        Narrow::Transmissions => case.max_transmissions = 2,
        Narrow::Nic => {
            case.max_transmissions = 2;
            case.send_window = 2;
            let holds = pick(rng, &[0, 1_000, 40_000]);
            case.nic = [Nic {
                holds,
                ring: 2,
                late: false,
            }; 2];
        }
    }
    for weather in &mut case.weather {
        if weather.loss == 0 {
            weather.loss = below(rng, LOSS);
        }
    }
    case
}

#[test]
fn reads_get_through_where_two_packets_fit_in() {
    for narrow in [Narrow::Wire, Narrow::Transmissions, Narrow::Nic] {
        let mut failed = Vec::new();
        for seed in seeds(2000) {
            if let Err(why) = verdict(&case(seed, narrow), &|_, _, _| {}) {
                failed.push((seed, why));
            }
        }
        println!("{narrow:?}: {} failed", failed.len());
        assert!(failed.is_empty(), "{narrow:?}, with ROCE_SEED: {failed:#?}");
    }
}
