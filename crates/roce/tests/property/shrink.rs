//! Makes a failing case simple.

use crate::case::*;
use crate::util::{Bottleneck, Weather};
use crate::world::{Planted, run};
use roce::{PathMtu, SendFlags};
use std::cell::RefCell;
use std::fmt::Write;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

thread_local! {
    /// What a panic on this thread said, where nobody should be told of it but the caller of [`verdict`].
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// How the case fails, if it does.
pub fn verdict(case: &Case, planted: Planted<'_>) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let quiet = SAID.with_borrow_mut(|said| match said {
                Some(said) => {
                    *said = info.to_string();
                    true
                }
                None => false,
            });
            if !quiet {
                usual(info);
            }
        }));
    });
    SAID.set(Some(String::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| run(case, planted)));
    let said = SAID.take().unwrap_or_default();
    result.map_err(|_| said)
}

/// What came of shrinking.
pub struct Shrunk {
    pub case: Case,
    /// How it fails.
    pub why: String,
    /// Cases run for it.
    pub tries: u32,
}

/// Cases run for one shrinking at most.
const TRIES: u32 = 5000;

const PLAIN_NIC: Nic = Nic {
    holds: 0,
    ring: 256,
    late: false,
};

/// Seeds of the network tried for each simpler case: what is left out moves the chances of all that follows.
const NETWORKS: u64 = 8;

/// The simplest case found that fails, if this one does. It may fail in another way.
pub fn shrink(case: &Case, planted: Planted<'_>) -> Option<Shrunk> {
    let why = verdict(case, planted).err()?;
    let mut best = Shrunk {
        case: case.clone(),
        why,
        tries: 1,
    };
    while best.tries < TRIES {
        let Some((case, why)) = simpler(&best.case)
            .into_iter()
            .filter(|case| *case != best.case)
            .flat_map(networks)
            .take_while(|_| {
                best.tries += 1;
                best.tries <= TRIES
            })
            .find_map(|case| {
                let why = verdict(&case, planted).err()?;
                Some((case, why))
            })
        else {
            break;
        };
        best = Shrunk {
            case,
            why,
            tries: best.tries,
        };
    }
    Some(best)
}

/// The same case under several seeds of the network, if that has any chances to take.
fn networks(case: Case) -> impl Iterator<Item = Case> {
    let n = match case.weather == [Weather::CALM; 2] {
        true => 1,
        false => NETWORKS,
    };
    (0..n).map(move |n| Case {
        net_seed: case.net_seed.wrapping_add(n),
        ..case.clone()
    })
}

/// What is simpler than this case by one step, the largest steps first. Each is a step down, so that there is an end.
fn simpler(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    // Fewer operations: half of them, a quarter, ..., one.
    let mut size = case.ops.len() / 2;
    while size > 0 {
        for at in (0..case.ops.len()).step_by(size) {
            let mut less = case.clone();
            less.ops.drain(at..(at + size).min(case.ops.len()));
            all.push(less);
        }
        size /= 2;
    }
    for pair in 0..case.shared.len() {
        all.extend(without(case, pair));
    }
    for side in 0..2 {
        for weather in milder(case.weather[side]) {
            let mut less = case.clone();
            less.weather[side] = weather;
            all.push(less);
        }
    }
    // The plainest of everything that is not an operation.
    let plain: [&dyn Fn(&mut Case); 17] = [
        &|c| c.ipv6 = false,
        &|c| c.vlan = None,
        &|c| c.ecn = false,
        &|c| c.mtu = PathMtu::Mtu256,
        &|c| {
            c.mtu = MTUS[MTUS
                .iter()
                .position(|mtu| *mtu == c.mtu)
                .unwrap_or(0)
                .saturating_sub(1)]
        },
        &|c| c.batches = false,
        &|c| c.psn = [None; 2],
        &|c| c.reads = 16,
        &|c| c.ack_timeout = 11,
        &|c| c.send_window = 128,
        &|c| c.read_window = 64,
        &|c| c.read_chunk = 128,
        &|c| c.min_rnr_timer = 1,
        &|c| c.max_transmissions = 1024,
        &|c| c.early_frames = 0,
        &|c| c.nic[0] = PLAIN_NIC,
        &|c| c.nic[1] = PLAIN_NIC,
    ];
    for change in plain {
        let mut less = case.clone();
        change(&mut less);
        all.push(less);
    }
    for (pair, side) in (0..case.shared.len()).flat_map(|pair| [(pair, 0), (pair, 1)]) {
        let mut less = case.clone();
        less.shared[pair][side] = false;
        all.push(less);
    }
    for (index, op) in case.ops.iter().enumerate() {
        for op in plainer(*op, case.mtu.bytes()) {
            let mut less = case.clone();
            less.ops[index] = op;
            all.push(less);
        }
    }
    all
}

/// Without a connection, and what it does.
fn without(case: &Case, pair: usize) -> Option<Case> {
    if case.shared.len() == 1 {
        return None;
    }
    let mut less = case.clone();
    less.shared.remove(pair);
    less.ops
        .retain_mut(|op| op.flow_mut().is_none_or(|flow| *flow / 2 != pair));
    for op in &mut less.ops {
        if let Some(flow) = op.flow_mut()
            && *flow / 2 > pair
        {
            *flow -= 2;
        }
    }
    Some(less)
}

/// Without one stage. Chances stay as they are: the smaller, the longer the case that meets them.
fn milder(w: Weather) -> Vec<Weather> {
    let mut all = vec![
        Weather::CALM,
        Weather {
            bottleneck: None,
            ..w
        },
        Weather { bursts: None, ..w },
        Weather {
            jitter: Duration::ZERO,
            ..w
        },
        Weather {
            delay: Weather::CALM.delay,
            ..w
        },
    ];
    all.extend([
        Weather { loss: 0, ..w },
        Weather { corruption: 0, ..w },
        Weather {
            duplication: 0,
            ..w
        },
    ]);
    if let Some(b) = w.bottleneck {
        all.push(Weather {
            bottleneck: Some(Bottleneck {
                mark_above: None,
                ..b
            }),
            ..w
        });
    }
    all
}

fn plainer(op: Op, mtu: u32) -> Vec<Op> {
    let post = match op {
        Op::Run(nanos) => return vec![Op::Run(nanos / 2)],
        Op::Receive { .. } | Op::Grant { .. } | Op::Revoke { .. } => return Vec::new(),
        Op::Post(post) => post,
    };
    let mut all = Vec::new();
    let kinds: &[Kind] = match post.kind {
        Kind::Send | Kind::Write | Kind::Read => &[],
        Kind::SendImmediate(_) | Kind::SendInvalidate(_) => &[Kind::Send],
        Kind::WriteImmediate(_) => &[Kind::Write],
        Kind::FetchAdd(_) => &[Kind::FetchAdd(1)],
        Kind::CompareSwap { .. } => &[Kind::FetchAdd(1), Kind::CompareSwap { swap: 1, off: 0 }],
    };
    all.extend(kinds.iter().map(|kind| Post {
        kind: *kind,
        ..post
    }));
    if !post.kind.is_atomic() {
        let len = post.len;
        let packets = len / mtu * mtu;
        let lengths = [
            0,
            1,
            len / 2,
            packets.saturating_sub(mtu),
            packets,
            packets + 1,
            len.saturating_sub(1),
        ];
        let lengths = lengths.into_iter().filter(|shorter| *shorter < len);
        all.extend(lengths.map(|len| Post { len, ..post }));
    }
    all.extend([
        Post { at: 0, ..post },
        Post {
            cuts: [0; 3],
            ..post
        },
        Post {
            again: false,
            ..post
        },
        Post {
            inline: false,
            ..post
        },
        Post {
            granted: false,
            ..post
        },
    ]);
    for flag in post.flags {
        let flags: SendFlags = post.flags - flag;
        all.push(Post { flags, ..post });
    }
    all.into_iter().map(Op::Post).collect()
}

/// What to tell of a seed that fails, if it does.
pub fn report(seed: u64, planted: Planted<'_>) -> Option<String> {
    let case = Case::random(seed);
    let shrunk = shrink(&case, planted)?;
    let Shrunk {
        case: left,
        why,
        tries,
    } = shrunk;
    let mut text = format!(
        "repeat with ROCE_SEED={seed}\n{why}\n{} of {} operations left after {tries} tries:\n",
        left.ops.len(),
        case.ops.len(),
    );
    for op in &left.ops {
        let _ = writeln!(text, "    {op:?}");
    }
    let settings = Case {
        ops: Vec::new(),
        ..left
    };
    let _ = write!(text, "{settings:?}");
    Some(text)
}
