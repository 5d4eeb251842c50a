//! Random work over random networks. `ROCE_SEED=n` repeats one case, `ROCE_CASES=n` runs so many, from `ROCE_FROM=n` on.

mod case;
mod memory;
mod narrow;
mod shrink;
mod torn;
#[path = "../util/mod.rs"]
mod util;
mod world;

use case::{Case, Kind, Op, Post};
use shrink::{report, shrink, verdict};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use util::random::seeds;
use util::{Pair, Side, Tally, Weather};
use world::Planted;

/// The right bytes in the right place in the right order, each request completed exactly once and no sooner than its bytes are there,
/// whatever the network does.
#[test]
fn random_work_arrives_over_random_networks() {
    let seeds = seeds(20_000);
    let next = AtomicUsize::new(0);
    // They are given out in order and those begun are finished: the smallest that fails is always the same.
    let failed = AtomicU64::new(u64::MAX);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX
                    && let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    if verdict(&Case::random(*seed), &|_, _, _| {}).is_err() {
                        failed.fetch_min(*seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    if failed < u64::MAX {
        panic!("{}", report(failed, &|_, _, _| {}).unwrap());
    }
}

/// The cases are not tame: everything that can be posted is, and everything that a wire can do happens.
#[test]
fn the_cases_reach_what_they_are_for() {
    let kinds = RefCell::new(BTreeSet::new());
    let counted = RefCell::new(BTreeSet::new());
    let wire = RefCell::new([Tally::default(); 2]);
    // What there is besides, and on which connections something was done with it.
    let marks = RefCell::new(BTreeSet::new());
    for seed in 0..600 {
        let see = |case: &Case, completed: &[usize], pair: &Pair| {
            for index in completed {
                let kind = match case.ops[*index] {
                    Op::Post(post) => {
                        let receiver = (post.flow + 1) % 2;
                        let shared = case.shared[post.flow / 2][receiver];
                        let used = [
                            ("IPv6", case.ipv6),
                            ("tag", case.vlan.is_some()),
                            ("shared receives", shared && post.kind.is_send()),
                            ("late NIC", case.nic[0].late || case.nic[1].late),
                            ("again", post.again && post.kind.is_write()),
                        ];
                        let used = used.iter().filter(|(_, used)| *used);
                        marks.borrow_mut().extend(used.map(|(what, _)| *what));
                        format!("{:?}", post.kind)
                    }
                    op => format!("{op:?}"),
                };
                let word = kind.split([' ', '(']).next().unwrap_or_default();
                kinds.borrow_mut().insert(word.to_owned());
            }
            for side in [Side::A, Side::B] {
                let mut psns = pair.log.iter().filter(|s| s.from == side).map(|s| s.psn);
                let near_the_end = psns.by_ref().any(|psn| psn > 0xff_ff00);
                if near_the_end && psns.any(|psn| psn < 256) {
                    marks.borrow_mut().insert("wrap");
                }
            }
            for host in [&pair.a, &pair.b] {
                let counters = host.engine.counters();
                let met = counters.iter().filter(|(_, n)| *n > 0);
                counted.borrow_mut().extend(met.map(|(name, _)| name));
            }
            *wire.borrow_mut() = [Side::A, Side::B].map(|side| {
                let [a, b] = [wire.borrow()[side as usize], pair.net.tally(side)];
                Tally {
                    sent: a.sent.max(b.sent),
                    lost: a.lost.max(b.lost),
                    overflowed: a.overflowed.max(b.overflowed),
                    marked: a.marked.max(b.marked),
                    corrupted: a.corrupted.max(b.corrupted),
                    duplicated: a.duplicated.max(b.duplicated),
                }
            });
        };
        verdict(&Case::random(seed), &see).unwrap();
    }
    let kinds = kinds.into_inner();
    let all = [
        "CompareSwap",
        "FetchAdd",
        "Grant",
        "Read",
        "Revoke",
        "Send",
        "SendImmediate",
        "SendInvalidate",
        "Write",
        "WriteImmediate",
    ];
    assert!(kinds.iter().eq(all), "{kinds:?}");
    let counted = counted.into_inner();
    for name in [
        "drop_icrc",
        "drop_unexpected_response",
        "duplicate_requests",
        "early_requests_dropped",
        "early_requests_executed",
        "early_requests_kept",
        "mended",
        "out_of_sequence_requests",
        "out_of_sequence_responses",
        "probes",
        "retransmissions",
        "rx_cnps",
        "rx_congested",
        "rx_rnr_naks",
        "rx_sequence_naks",
        "timeouts",
    ] {
        assert!(counted.contains(name), "{name} in {counted:?}");
    }
    let all = [
        "IPv6",
        "again",
        "late NIC",
        "shared receives",
        "tag",
        "wrap",
    ];
    assert!(marks.into_inner().iter().eq(&all));
    for tally in wire.into_inner() {
        assert!(tally.marked > 0 && tally.lost > 0 && tally.overflowed > 0 && tally.corrupted > 0);
        assert!(tally.duplicated > 0);
    }
}

/// The simplest case that a planted fault leaves, from the first seed that it makes fail.
fn shrunk(planted: Planted<'_>) -> Case {
    let seed = (0..1000)
        .find(|seed| verdict(&Case::random(*seed), planted).is_err())
        .expect("no case fails");
    let found = shrink(&Case::random(seed), planted).unwrap();
    let text = report(seed, planted).unwrap();
    assert!(text.starts_with(&format!("repeat with ROCE_SEED={seed}\n")));
    assert!(text.contains("planted fault"), "{text}");
    // Always the same, operation by operation.
    let told = text.lines().filter_map(|line| line.strip_prefix("    "));
    assert!(told.eq(found.case.ops.iter().map(|op| format!("{op:?}"))));
    found.case
}

fn posts(case: &Case) -> Vec<Post> {
    assert_eq!(case.posts().count(), case.ops.len(), "{case:#?}");
    case.posts().copied().collect()
}

/// An operation fails that is long enough: that one is left, as short as can be, on a wire that does nothing to it.
#[test]
fn a_fault_of_one_operation_shrinks_to_it() {
    let case = shrunk(&|case, completed, _| {
        for index in completed {
            if let Op::Post(post) = case.ops[*index] {
                let fault = post.kind == Kind::Read && post.len > 700;
                assert!(!fault, "planted fault");
            }
        }
    });
    let [post] = posts(&case)[..] else {
        panic!("{case:#?}")
    };
    assert_eq!((post.kind, post.len, post.at), (Kind::Read, 701, 0));
    assert!(post.cuts == [0; 3] && post.flags.is_empty() && !post.granted);
    assert_eq!(case.weather, [Weather::CALM; 2]);
    assert_eq!(
        (case.shared.len(), case.batches, case.ipv6),
        (1, false, false)
    );
}

/// It takes two operations of one flow: both are left.
#[test]
fn a_fault_of_two_operations_shrinks_to_both() {
    let case = shrunk(&|case, completed, _| {
        let mut atomics = [0; 6];
        for index in completed {
            if let Op::Post(post) = case.ops[*index] {
                atomics[post.flow] += u32::from(post.kind.is_atomic());
                assert!(atomics[post.flow] < 2, "planted fault");
            }
        }
    });
    let [first, second] = posts(&case)[..] else {
        panic!("{case:#?}")
    };
    assert_eq!(
        (first.kind, second.kind),
        (Kind::FetchAdd(1), Kind::FetchAdd(1))
    );
    assert_eq!(first.flow, second.flow);
    assert_eq!(case.weather, [Weather::CALM; 2]);
}

/// It takes a wire that loses: one stage of the weather is left in one direction.
#[test]
fn a_fault_of_the_network_shrinks_to_the_stage_that_makes_it() {
    let case = shrunk(&|_, _, pair| {
        // Not those that A drops: a late NIC's own are among them, of READs that were answered again.
        assert_eq!(pair.net.tally(Side::B).corrupted, 0, "planted fault");
    });
    assert_eq!(posts(&case).len(), 1, "{case:#?}");
    let [from_a, from_b] = case.weather;
    assert_eq!(from_a, Weather::CALM);
    let corruption = from_b.corruption;
    assert!(corruption > 0);
    let only = Weather {
        corruption,
        ..Weather::CALM
    };
    assert_eq!(from_b, only);
}
