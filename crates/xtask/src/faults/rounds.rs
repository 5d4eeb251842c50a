//! Rounds of runs: several stories at a time, and yet the same runs on each host.
//!
//! A path fails in the run that first comes to it, so that which run that is decides what is found. All stories of a round know the same
//! paths when they begin; what they came across becomes known in the order of the stories, when the last has ended. Neither the number of
//! workers nor their speed changes what a run is like.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// So many stories are in a round at most: as many workers are of use. With more, more of them come to the same path at the same time, and
/// have to run once more.
pub const ROUND: usize = 8;

/// What is to be done, and what is known so far.
pub struct Rounds<S> {
    /// Stories and how often each has run. A story is in it until it comes across no new path.
    queue: VecDeque<(S, u32)>,
    /// How often a story may run.
    limit: Option<u32>,
    /// Stories that have run as often as they may, and came across a new path the last time.
    pub left: usize,
    /// The lines of the paths that have failed, without those of one path twice.
    pub paths: Vec<String>,
    known: BTreeSet<String>,
    pub runs: usize,
}

impl<S> Rounds<S> {
    pub fn new(stories: Vec<S>, limit: Option<u32>) -> Self {
        Rounds {
            queue: stories.into_iter().map(|story| (story, 0)).collect(),
            limit,
            left: 0,
            paths: Vec::new(),
            known: BTreeSet::new(),
            runs: 0,
        }
    }

    /// Stories that are not through.
    pub fn to_go(&self) -> usize {
        self.queue.len()
    }

    /// Takes the stories of the next round; none if all are through.
    pub fn take(&mut self) -> Vec<(S, u32)> {
        let count = ROUND.min(self.queue.len());
        self.queue.drain(..count).collect()
    }

    /// Notes the lines of what failed in a run: of a round's stories, one after the other.
    pub fn merge(&mut self, (story, runs): (S, u32), failed: &str) {
        self.runs += 1;
        for line in failed.lines() {
            let path = line.split(' ').next().unwrap_or_default();
            if self.known.insert(path.to_owned()) {
                self.paths.push(format!("{line}\n"));
            }
        }
        if failed.is_empty() {
            return;
        }
        // Even if another of the round came across them too: what comes after them is new to this one.
        if self.limit.is_some_and(|limit| runs + 1 >= limit) {
            self.left += 1;
        } else {
            self.queue.push_back((story, runs + 1));
        }
    }
}

/// What a function makes of each of the items, in their order, whichever of so many workers is done first. It is given the item's number.
pub fn in_order<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let one = || {
        let mut done = Vec::new();
        while let Some((number, item)) = take() {
            done.push((number, work(number, item)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(one)).collect();
        let done = threads.into_iter().map(|thread| thread.join());
        done.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    /// Paths that a story comes to one after the other, and ends at the first that fails.
    type Paths = &'static str;

    fn run(story: Paths, known: &[String]) -> String {
        let is_new = |path: &&str| !known.iter().any(|line| line.starts_with(path));
        let failed = story.split(' ').find(is_new);
        failed.map_or_else(String::new, |path| format!("{path} told by {story}\n"))
    }

    /// All runs, and what is known then.
    fn walk(rounds: &mut Rounds<Paths>, workers: usize) -> Vec<(Paths, String)> {
        let mut log = Vec::new();
        loop {
            let round = rounds.take();
            if round.is_empty() {
                return log;
            }
            let paths = &rounds.paths;
            let results = in_order(workers, &round, |_, (story, _)| run(story, paths));
            for (story, failed) in round.into_iter().zip(results) {
                log.push((story.0, failed.clone()));
                rounds.merge(story, &failed);
            }
        }
    }

    #[test]
    fn stories_of_a_round_know_the_same_and_are_merged_in_order() {
        let mut rounds = Rounds::new(vec!["p q", "p r", "s"], None);
        let log = walk(&mut rounds, 2);
        let log: Vec<_> = log
            .iter()
            .map(|(s, failed)| (*s, failed.as_str()))
            .collect();
        assert_eq!(
            log,
            [
                ("p q", "p told by p q\n"),
                // It does not know yet, and so goes again.
                ("p r", "p told by p r\n"),
                ("s", "s told by s\n"),
                ("p q", "q told by p q\n"),
                ("p r", "r told by p r\n"),
                ("s", ""),
                ("p q", ""),
                ("p r", ""),
            ]
        );
        // A path once, as the first told it.
        assert_eq!(
            rounds.paths,
            [
                "p told by p q\n",
                "s told by s\n",
                "q told by p q\n",
                "r told by p r\n"
            ]
        );
        assert_eq!((rounds.runs, rounds.left, rounds.to_go()), (8, 0, 0));
    }

    #[test]
    fn the_workers_do_not_change_what_is_run() {
        let stories = [
            "a b c", "a b d", "e", "a c", "f a", "b", "c d e", "g", "h a", "a b i", "j", "d",
        ];
        let runs = |workers| {
            let mut rounds = Rounds::new(stories.to_vec(), None);
            let log = walk(&mut rounds, workers);
            (log, rounds.paths)
        };
        let alone = runs(1);
        assert_eq!(alone.1.len(), 10, "each of the paths");
        for workers in 2..=ROUND {
            assert_eq!(runs(workers), alone, "{workers} workers");
        }
    }

    #[test]
    fn a_story_runs_no_oftener_than_it_may() {
        let mut rounds = Rounds::new(vec!["p q r", "p"], Some(2));
        let log = walk(&mut rounds, 1);
        let count = |story| log.iter().filter(|(s, _)| *s == story).count();
        assert_eq!((count("p q r"), count("p")), (2, 2));
        assert_eq!(rounds.left, 1, "the first came across a new path again");
    }

    #[test]
    fn results_are_in_order_though_the_last_is_ready_first() {
        let last_is_done = Barrier::new(2);
        let results = in_order(2, &["a", "b", "c"], |number, item| {
            if number != 1 {
                // The first waits until the last does: the second is done long before.
                last_is_done.wait();
            }
            format!("{number}{item}")
        });
        assert_eq!(results, ["0a", "1b", "2c"]);
    }
}
