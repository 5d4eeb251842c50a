//! Rounds of stories: several at a time, and yet the same runs on each host.
//!
//! A path fails in the run that first comes to it, so that which run that is decides what is found. A story of a round knows the paths of
//! the rounds before and its own, not those of the others; what they came across becomes known in the order of the stories, when the last
//! is through. Neither the number of workers nor their speed changes what a run is like.
//!
//! What stories of one round have in common, each of them walks: most of all the paths of the driver's start. At the end of a round workers
//! wait for its last story. So the first round is of few stories, and the more is known, the more of them are in one.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Stories of the first round: as many as two processors can run, while one would leave the other idle.
const FIRST: usize = 2;

/// Stories of a round at most, besides the long one. Each has twice as many as the one before until then.
const MOST: usize = 32;

/// Paths that have failed.
#[derive(Clone, Default)]
pub struct Paths {
    lines: String,
    known: BTreeSet<String>,
}

impl Paths {
    /// Notes lines that tell of paths. The first that tells of a path stays.
    pub fn add(&mut self, lines: &str) {
        for line in lines.lines() {
            let path = line.split(' ').next().unwrap_or_default();
            if self.known.insert(path.to_owned()) {
                self.lines += line;
                self.lines.push('\n');
            }
        }
    }

    /// A line for each path.
    pub fn lines(&self) -> &str {
        &self.lines
    }

    pub fn count(&self) -> usize {
        self.known.len()
    }
}

/// Stories that are still to be told, of which each round has more.
pub struct Rounds<S> {
    queue: VecDeque<S>,
    /// It takes long, and begins the first full round: there is enough else to be told meanwhile.
    long: Option<S>,
    size: usize,
}

impl<S> Rounds<S> {
    /// `long` is one more, which takes longer than the others.
    pub fn new(stories: Vec<S>, long: Option<S>) -> Self {
        Rounds {
            queue: stories.into(),
            long,
            size: FIRST,
        }
    }

    /// Stories that no round has had.
    pub fn to_go(&self) -> usize {
        self.queue.len() + usize::from(self.long.is_some())
    }

    /// Takes the stories of the next round; none if all are through.
    pub fn take(&mut self) -> Vec<S> {
        let count = self.size.min(self.queue.len());
        let is_full = self.size == MOST || count == self.queue.len();
        self.size = MOST.min(self.size * 2);
        let long = self.long.take_if(|_| is_full);
        long.into_iter().chain(self.queue.drain(..count)).collect()
    }
}

/// Runs a story again and again until it comes across no new path, or as often as it may. A run is given the lines of the paths that it
/// knows, and returns those of what failed. Says whether the story is through.
pub fn walk<E>(
    mut known: Paths,
    limit: Option<u32>,
    mut run: impl FnMut(&str) -> Result<String, E>,
) -> Result<bool, E> {
    let mut runs = 0;
    while limit.is_none_or(|limit| runs < limit) {
        runs += 1;
        let failed = run(known.lines())?;
        if failed.is_empty() {
            return Ok(true);
        }
        known.add(&failed);
    }
    Ok(false)
}

/// What came of all runs of a story.
pub trait Tale {
    /// The lines of what failed.
    fn failed(&self) -> &str;
}

/// Tells all stories, and returns the paths that failed. `tell` is given the worker's number, a story, and the paths of the rounds before.
/// `hear` is given, when a round is over, what is known then, what came of the round's stories in their order, and how many are to go; it
/// says whether to go on.
pub fn tell_all<S: Sync, T: Tale + Send>(
    rounds: &mut Rounds<S>,
    workers: usize,
    tell: impl Fn(usize, &S, &Paths) -> T + Sync,
    mut hear: impl FnMut(&Paths, Vec<T>, usize) -> bool,
) -> Paths {
    let mut paths = Paths::default();
    loop {
        let round = rounds.take();
        if round.is_empty() {
            return paths;
        }
        let told = in_order(workers, &round, |worker, story| tell(worker, story, &paths));
        for tale in &told {
            paths.add(tale.failed());
        }
        if !hear(&paths, told, rounds.to_go()) {
            return paths;
        }
    }
}

/// What a function makes of each of the items, in their order, whichever of so many workers is done first. It is given the worker's number.
fn in_order<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    work: impl Fn(usize, &T) -> R + Sync,
) -> Vec<R> {
    let next = Mutex::new(items.iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let one = |worker| {
        let mut done = Vec::new();
        while let Some((number, item)) = take() {
            done.push((number, work(worker, item)));
        }
        done
    };
    let one = &one;
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| scope.spawn(move || one(worker)))
            .collect();
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
    use std::convert::Infallible;
    use std::sync::Barrier;

    /// Paths that a story comes to one after the other, and ends at the first that fails.
    type Story = &'static str;

    fn run(story: Story, known: &str) -> String {
        let is_new = |path: &&str| !known.lines().any(|line| line.starts_with(path));
        let failed = story.split(' ').find(is_new);
        failed.map_or_else(String::new, |path| format!("{path} told by {story}\n"))
    }

    /// A story, what failed in each of its runs, and whether it is through.
    type Told = (Story, Vec<String>, bool);

    impl Tale for (Told, String) {
        fn failed(&self) -> &str {
            &self.1
        }
    }

    /// What each story's runs were like, and what is known then.
    fn tell(stories: &[Story], limit: Option<u32>, workers: usize) -> (Vec<Told>, Paths) {
        let mut rounds = Rounds::new(stories.to_vec(), None);
        let mut log = Vec::new();
        let tell = |_, story: &Story, paths: &Paths| {
            let mut runs = Vec::new();
            let Ok(through) = walk(paths.clone(), limit, |known| {
                runs.push(run(story, known));
                Ok::<_, Infallible>(run(story, known))
            });
            let failed = runs.concat();
            ((*story, runs, through), failed)
        };
        let paths = tell_all(&mut rounds, workers, tell, |_, round, _| {
            log.extend(round.into_iter().map(|(told, _)| told));
            true
        });
        (log, paths)
    }

    #[test]
    fn no_round_follows_where_none_is_wanted() {
        let mut rounds = Rounds::new(vec!["p", "q", "p r"], None);
        let tell = |_, story: &Story, _: &Paths| ((*story, Vec::new(), true), run(story, ""));
        let paths = tell_all(&mut rounds, 1, tell, |paths, round, to_go| {
            assert_eq!((paths.count(), round.len(), to_go), (2, 2, 1));
            false
        });
        assert_eq!(paths.lines(), "p told by p\nq told by q\n");
    }

    #[test]
    fn a_round_knows_what_the_rounds_before_came_across_and_a_story_its_own() {
        let (log, paths) = tell(&["p q", "p r", "q r s", "t p"], None, 2);
        let log: Vec<(Story, Vec<&str>)> = log
            .iter()
            .map(|(s, runs, _)| (*s, runs.iter().map(String::as_str).collect()))
            .collect();
        assert_eq!(
            log,
            [
                ("p q", vec!["p told by p q\n", "q told by p q\n", ""]),
                // It does not know what the other of its round does.
                ("p r", vec!["p told by p r\n", "r told by p r\n", ""]),
                ("q r s", vec!["s told by q r s\n", ""]),
                ("t p", vec!["t told by t p\n", ""]),
            ]
        );
        // A path once, as the first told it.
        assert_eq!(
            paths.lines(),
            "p told by p q\nq told by p q\nr told by p r\ns told by q r s\nt told by t p\n"
        );
        assert_eq!(paths.count(), 5);
    }

    #[test]
    fn rounds_grow_and_what_takes_long_begins_the_first_full_one() {
        let taken = |count: u32| {
            let mut rounds = Rounds::new((1..count).collect(), Some(0));
            assert_eq!(rounds.to_go(), count as usize);
            let rounds = std::iter::from_fn(|| Some(rounds.take()).filter(|r| !r.is_empty()));
            rounds.collect::<Vec<_>>()
        };
        let rounds = taken(101);
        let sizes: Vec<_> = rounds.iter().map(Vec::len).collect();
        assert_eq!(sizes, [2, 4, 8, 16, 1 + 32, 32, 6]);
        assert_eq!(rounds[4][..3], [0, 31, 32]);
        assert_eq!(taken(6), [vec![1, 2], vec![0, 3, 4, 5]], "of few, the last");
        assert_eq!(taken(1), [[0]]);
    }

    #[test]
    fn the_workers_do_not_change_what_is_run() {
        let stories = [
            "a b c", "a b d", "e", "a c", "f a", "b", "c d e", "g", "h a", "a b i", "j", "d",
        ];
        let runs = |workers| {
            let (log, paths) = tell(&stories, None, workers);
            (log, paths.lines)
        };
        let alone = runs(1);
        assert_eq!(alone.1.lines().count(), 10, "each of the paths");
        for workers in 2..=8 {
            assert_eq!(runs(workers), alone, "{workers} workers");
        }
    }

    #[test]
    fn a_story_runs_no_oftener_than_it_may() {
        let (log, _) = tell(&["p q r", "p"], Some(2), 1);
        let log: Vec<_> = log
            .iter()
            .map(|(story, runs, through)| (*story, runs.len(), *through))
            .collect();
        // The first came across a new path again.
        assert_eq!(log, [("p q r", 2, false), ("p", 2, true)]);
    }

    #[test]
    fn results_are_in_order_though_the_last_is_ready_first() {
        let last_is_done = Barrier::new(2);
        let results = in_order(2, &["a", "b", "c"], |_, item| {
            if *item != "b" {
                // The first waits until the last does: the second is done long before.
                last_is_done.wait();
            }
            item.to_uppercase()
        });
        assert_eq!(results, ["A", "B", "C"]);
    }
}
