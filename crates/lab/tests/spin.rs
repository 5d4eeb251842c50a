//! A short walk of the spinner, the same every time.

use ntsim::FaultPaths;
use std::collections::BTreeSet;
use vroce_lab::spin::{Faults, Slot, Tally, epoch};

/// Calls in an epoch here.
const CALLS: u64 = 1000;

fn walk(seeds: impl IntoIterator<Item = u64>, calls: u64) -> Tally {
    walk_under(&Faults::default(), seeds, calls)
}

fn walk_under(faults: &Faults, seeds: impl IntoIterator<Item = u64>, calls: u64) -> Tally {
    let mut total = Tally::default();
    for seed in seeds {
        let (tally, result) = epoch(seed, calls, faults);
        total.add(tally);
        if let Err(text) = result {
            panic!(
                "{text}\nrepeat with: cargo run --release -- spin --seed {seed} --calls 1 --epoch {calls}"
            );
        }
    }
    total
}

#[test]
fn several_seeds_walk_without_violations_or_leaks() {
    let tally = walk(1..=10, CALLS);
    assert!(tally.total() >= 10 * CALLS);
    let untouched: BTreeSet<_> = tally.untouched().into_iter().collect();
    assert!(untouched.is_empty(), "never called: {untouched:?}");
    assert!(tally.connections > 0, "nobody was connected");
    assert!(!tally.failed.is_empty(), "no allocation failed");
    assert!(tally.nested > 0 && tally.elsewhere > 0);
    assert!(
        tally.transfers > 0 && tally.bytes > 0,
        "no bytes were compared"
    );
    let [done, _, refused] = tally.answers(|slot| Slot::INITIATOR.contains(&slot));
    assert!(
        done > refused,
        "{done} requests were posted, {refused} refused"
    );
    assert!(tally.careless > 0 && tally.careless < tally.epochs);
}

#[test]
fn a_seed_walks_the_same_way_twice() {
    let [one, two] = [(); 2].map(|()| walk([7], CALLS));
    assert_eq!(one.calls, two.calls);
    assert_eq!(one.callbacks, two.callbacks);
    assert_eq!(one.results, two.results);
    assert_eq!(one.failed, two.failed);
}

#[test]
fn a_walk_ends_well_while_everything_fails_once() {
    let paths = FaultPaths::new();
    let faults = Faults {
        paths: Some(paths.clone()),
        low_resources: 0,
    };
    walk_under(&faults, 1..=5, CALLS);
    let first = paths.failed().len();
    assert!(first > 200, "{first} paths");
    walk_under(&faults, 1..=5, CALLS);
    let second = paths.failed().len() - first;
    assert!(second < first / 4, "{second} more after {first}");
}

#[test]
fn a_walk_ends_well_while_resources_are_low() {
    let faults = Faults {
        paths: None,
        low_resources: 16,
    };
    walk_under(&faults, 1..=5, CALLS);
}

/// Each found something in driver, verifier or walk when it was new; the walk has changed since.
#[test]
fn seeds_that_ended_badly_once_end_well() {
    let seeds = [
        1024, 1_344_111, 3_206_191, 6_802_148, 6_931_362, 7_453_524, 11_890_454, 12_412_069,
        13_321_912, 15_393_057, 2_592_858, 5_969_253, 8_648_988, 15_602_853,
    ];
    walk(seeds, 3000);
}
