//! The API spinner: a random walk over the dispatch tables of two consumers, which stays within what NDKPI allows and does everything
//! else: in every order, from inside every callback, on every processor, with memory that runs out and machines that go away.
//!
//! A walk is made of epochs of bounded length, each from a seed of its own, so that a failure replays in seconds. What is wrong is
//! found by three: the verifier, which watches rules; [`model`], which knows the right answers; and the end of each epoch, where
//! nothing may be left.

mod callbacks;
mod chance;
mod close;
mod connect;
mod create;
mod data;
mod epoch;
mod establish;
mod fast;
mod lam;
mod leave;
mod list;
mod listen;
mod memory;
mod model;
mod post;
mod query;
mod queue;
mod raw;
mod receive;
mod request;
mod slot;
mod sweep;
mod tally;
mod trace;
mod upheaval;
mod walk;

pub use chance::Chance;
pub use epoch::run as epoch;
pub use slot::Slot;
pub use tally::Tally;
pub use trace::{trace_epochs, trace_of_epochs};

use ntsim::{FaultPath, FaultPaths};
use std::cell::Cell;

/// What fails in every epoch, beside what the walk has fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Each new path on which the driver calls what may fail: see [`ntsim::WorldBuilder::fail_new_paths`].
    pub paths: Option<FaultPaths>,
    /// One in so many of such calls, 0 for none: see [`ntsim::WorldBuilder::low_resources`].
    pub low_resources: u32,
}

impl Faults {
    /// There are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.paths.is_none() && self.low_resources == 0
    }

    /// How many paths have failed so far.
    fn failed(&self) -> usize {
        self.paths.as_ref().map_or(0, |paths| paths.failed().len())
    }
}

/// An epoch that ended badly.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that repeats it.
    pub seed: u64,
    /// The paths that have to fail in it.
    pub paths: Vec<FaultPath>,
    /// What was wrong.
    pub text: String,
}

/// Walks epoch after epoch while `more` says so, which is told what was done so far. The seeds follow from one, and the first epoch
/// has that one.
///
/// What was done, the last epoch included, and whether that ended badly.
pub fn walk(
    seed: u64,
    calls_an_epoch: u64,
    faults: &Faults,
    more: impl FnMut(&Tally, u64) -> bool,
) -> (Tally, Option<Failure>) {
    let before = Cell::new(0);
    let (tally, failure) = walk_by(seed, more, |seed| {
        before.set(faults.failed());
        epoch::run(seed, calls_an_epoch, faults)
    });
    let failed = faults.paths.as_ref().map(FaultPaths::failed);
    let failure = failure.map(|failure| Failure {
        paths: failed.unwrap_or_default().split_off(before.get()),
        ..failure
    });
    (tally, failure)
}

fn walk_by(
    seed: u64,
    mut more: impl FnMut(&Tally, u64) -> bool,
    mut epoch: impl FnMut(u64) -> (Tally, Result<(), String>),
) -> (Tally, Option<Failure>) {
    let mut seeds = Chance::new(seed);
    let mut total = Tally::default();
    let mut next = seed;
    while more(&total, next) {
        let (tally, result) = epoch(next);
        total.add(tally);
        if let Err(text) = result {
            let paths = Vec::new();
            let seed = next;
            return (total, Some(Failure { seed, paths, text }));
        }
        // As short as people can type them.
        next = seeds.number() >> 40;
    }
    (total, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_that_failed_counts_too() {
        let mut seeds = Vec::new();
        let (tally, failure) = walk_by(
            7,
            |_, _| true,
            |seed| {
                seeds.push(seed);
                let mut tally = Tally::default();
                tally.result(0);
                let result = if seeds.len() < 3 {
                    Ok(())
                } else {
                    Err("wrong".to_owned())
                };
                (tally, result)
            },
        );
        assert_eq!(tally.results[&0], 3);
        assert_eq!(failure.map(|f| f.seed), seeds.last().copied());
        assert_eq!(seeds[0], 7, "the first epoch has the seed of the walk");
    }
}
