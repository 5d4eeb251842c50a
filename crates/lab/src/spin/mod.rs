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
mod epoch;
mod establish;
mod leave;
mod listen;
mod memory;
mod model;
mod post;
mod query;
mod queue;
mod raw;
mod slot;
mod sweep;
mod tally;
mod upheaval;
mod walk;

pub use chance::Chance;
pub use epoch::run as epoch;
pub use slot::Slot;
pub use tally::Tally;

/// An epoch that ended badly.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed that repeats it.
    pub seed: u64,
    /// What was wrong.
    pub text: String,
}

/// Walks epoch after epoch while `more` says so, which is told what was done so far. The seeds follow from one, and the first epoch
/// has that one.
///
/// # Errors
/// The first epoch that ended badly, with what was done before.
pub fn walk(
    seed: u64,
    calls_an_epoch: u64,
    mut more: impl FnMut(&Tally, u64) -> bool,
) -> Result<Tally, (Failure, Box<Tally>)> {
    let mut seeds = Chance::new(seed);
    let mut total = Tally::default();
    let mut next = seed;
    while more(&total, next) {
        match epoch::run(next, calls_an_epoch) {
            Ok(tally) => total.add(tally),
            Err(text) => return Err((Failure { seed: next, text }, Box::new(total))),
        }
        // As short as people can type them.
        next = seeds.number() >> 40;
    }
    Ok(total)
}
