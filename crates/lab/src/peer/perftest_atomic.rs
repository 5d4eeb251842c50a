//! What `ib_atomic_bw` does to memory, and how memory and the answers on the wire must agree afterwards.
//!
//! The client takes one word of each cache line in turn. FetchAdd adds 1. CmpSwap has zeros for both operands, so that it changes nothing,
//! whether it finds zero or not.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;

/// Which operation the client was told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomic {
    /// FetchAdd of 1.
    Add,
    /// CmpSwap of zero for zero.
    Swap,
}

/// Answers by the value that they name, with how often each was sent.
pub type Answers = BTreeMap<u64, u64>;

/// So many values belong to one word.
const STEP: u64 = 1 << 32;

/// Words of a cache line.
const LINE: usize = 8;

impl Atomic {
    /// What a word holds before the test. For CmpSwap every other cache line is zero.
    pub fn start(self, index: usize) -> u64 {
        match self {
            Atomic::Swap if (index / LINE).is_multiple_of(2) => 0,
            _ => (index as u64 + 1) * STEP,
        }
    }

    /// Judges memory, in words, after `count` operations. An answer that was sent again counts once.
    pub fn judge(self, words: &[u64], answers: &Answers, count: u64) -> Result<()> {
        let total: u64 = answers.values().sum();
        ensure!(total >= count, "{total} answers to {count} operations");
        match self {
            Atomic::Add => {
                let mut grown = 0;
                for (index, last) in words.iter().enumerate() {
                    let first = self.start(index);
                    let named = answers.range(first..first + STEP).map(|(value, _)| *value);
                    ensure!(
                        named.clone().eq(first..*last),
                        "word {index} went from {first:#x} to {last:#x}, by {} answers",
                        named.count()
                    );
                    grown += last - first;
                }
                ensure!(
                    grown == count && answers.len() as u64 == count,
                    "{count} additions made {grown} and gave {} answers",
                    answers.len()
                );
            }
            Atomic::Swap => {
                for (index, last) in words.iter().enumerate() {
                    let first = self.start(index);
                    ensure!(
                        first == *last,
                        "word {index} went from {first:#x} to {last:#x}"
                    );
                }
                let zeros = answers.get(&0).copied();
                ensure!(
                    zeros.is_some_and(|zeros| zeros < total),
                    "not both kinds of words were asked for: {answers:?}"
                );
                let stranger = answers.keys().find(|value| !words.contains(value));
                ensure!(
                    stranger.is_none(),
                    "an answer names {:#x}, which no word holds",
                    stranger.context("a stranger")?
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: usize = 64;

    fn before(atomic: Atomic) -> Vec<u64> {
        (0..WORDS).map(|index| atomic.start(index)).collect()
    }

    /// Plays the client: some operations in turn on the first word of each cache line.
    fn play(atomic: Atomic, count: usize) -> (Vec<u64>, Answers) {
        let (mut words, mut answers) = (before(atomic), Answers::new());
        for index in (0..count).map(|operation| operation * LINE % WORDS) {
            *answers.entry(words[index]).or_default() += 1;
            words[index] += u64::from(atomic == Atomic::Add);
        }
        (words, answers)
    }

    #[test]
    fn additions_are_all_there_and_answered_one_by_one() {
        let (words, answers) = play(Atomic::Add, 100);
        let judge = |words: &[u64], answers: &Answers| Atomic::Add.judge(words, answers, 100);
        judge(&words, &answers).unwrap();

        let first = words[0] - 1;
        let mut again = answers.clone();
        *again.get_mut(&first).unwrap() += 1;
        judge(&words, &again).unwrap();

        let mut lost = answers.clone();
        lost.remove(&first);
        assert!(judge(&words, &lost).is_err());
        let mut strange = answers.clone();
        strange.insert(5, 1);
        assert!(judge(&words, &strange).is_err());
        let mut doubled = words.clone();
        doubled[0] += 1;
        assert!(judge(&doubled, &answers).is_err());
        let mut beside = words;
        beside[1] += 1;
        assert!(judge(&beside, &answers).is_err());
        assert!(judge(&before(Atomic::Add), &Answers::new()).is_err());
    }

    #[test]
    fn swaps_change_nothing_and_tell_what_is_there() {
        let (words, answers) = play(Atomic::Swap, 100);
        let judge = |words: &[u64], answers: &Answers| Atomic::Swap.judge(words, answers, 100);
        judge(&words, &answers).unwrap();

        let mut changed = words.clone();
        changed[LINE] = 0;
        assert!(judge(&changed, &answers).is_err());
        let mut strange = answers.clone();
        strange.insert(5, 1);
        assert!(judge(&words, &strange).is_err());
        assert!(judge(&words, &Answers::from([(0, 100)])).is_err());
        assert!(judge(&words, &Answers::from([(words[LINE], 100)])).is_err());
        assert!(Atomic::Swap.judge(&words, &answers, 101).is_err());
    }
}
