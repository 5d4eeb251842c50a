//! The interleaving explorer: preempts driver code where a seed, or somebody who knows better, says.
//!
//! All places where code of a driver may lose its processor are counted as a run comes to them: the beginnings of threads, work items, DPCs,
//! timers and interrupts, calls of functions and callbacks of NDK, and returns of exported functions to driver code. Not where NDIS calls a
//! miniport: what it has looked at before, it keeps as it is until the handler has returned. A [`Schedule`] names some of them. There devices, other processors and interrupts get their turn;
//! and if the code runs below DISPATCH_LEVEL with no spin lock held, other threads, work items and timers too, while it waits for
//! the processor: sometimes until nobody else wants it at that moment, sometimes for a time in which timers expire. Which of several
//! threads that can run goes first follows from the seed.
//!
//! That a few preemptions at random places, and an order of threads by chance, find most races is from: Burckhardt, Kothari, Musuvathi,
//! Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010. There the preempted thread stays
//! behind all others; here it comes back, so that what a driver waits for with a timeout does not fail for lack of a processor.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use super::processor::DISPATCH;
use super::rng::Rng;
use super::thread::{Thread, on_thread};
use super::wait::{WaitFor, block, wait_until};
use super::{Core, World, WorldBuilder, context};

/// Random places are drawn from as many as 2 to this, small numbers as often as large ones: nobody knows how many a run will come to.
const FARTHEST: u64 = 20;

/// Where a run is preempted.
///
/// As text, and in `NTSIM_EXPLORE`: `SEED:DEPTH` for so many places drawn by the seed, or `SEED:@PLACE,PLACE` for these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    seed: u64,
    /// In order.
    places: Vec<u64>,
}

impl Schedule {
    /// At so many places that follow from the seed.
    #[must_use]
    pub fn random(seed: u64, depth: u32) -> Schedule {
        let rng = Rng::new(seed ^ 0xe4b1);
        let draw = |_| rng.below(1 << (4 + rng.below(FARTHEST - 3)));
        Schedule::at(seed, (0..depth).map(draw))
    }

    /// At these places. The seed says for how long, and who goes first.
    #[must_use]
    pub fn at(seed: u64, places: impl IntoIterator<Item = u64>) -> Schedule {
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable();
        places.dedup();
        Schedule { seed, places }
    }

    /// The places, in order.
    #[must_use]
    pub fn places(&self) -> &[u64] {
        &self.places
    }

    /// The same without one of its places.
    fn without(&self, index: usize) -> Schedule {
        let mut fewer = self.clone();
        fewer.places.remove(index);
        fewer
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:@", self.seed)?;
        for (index, place) in self.places.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{place}")?;
        }
        Ok(())
    }
}

/// A text is no [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSchedule;

impl FromStr for Schedule {
    type Err = NoSchedule;

    fn from_str(text: &str) -> Result<Schedule, NoSchedule> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoSchedule);
        let (seed, rest) = text.split_once(':').ok_or(NoSchedule)?;
        let seed = number(seed)?;
        match rest.strip_prefix('@') {
            None => Ok(Schedule::random(
                seed,
                rest.parse().map_err(|_| NoSchedule)?,
            )),
            Some("") => Ok(Schedule::at(seed, [])),
            Some(places) => {
                let places: Result<Vec<_>, _> = places.split(',').map(number).collect();
                Ok(Schedule::at(seed, places?))
            }
        }
    }
}

/// How far a world's run has come in its schedule.
pub(crate) struct Explorer {
    schedule: Option<Schedule>,
    /// Places come to so far.
    come_to: Cell<u64>,
    /// Index of the next one that is in the schedule.
    next: Cell<usize>,
}

thread_local! {
    /// How many places the worlds of this thread have come to that ended since this was last asked: the most of any.
    static COME_TO: Cell<u64> = const { Cell::new(0) };
}

impl Explorer {
    pub(super) fn new(schedule: Option<Schedule>) -> Explorer {
        Explorer {
            schedule,
            come_to: Cell::new(0),
            next: Cell::new(0),
        }
    }

    pub(crate) fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Whether places are counted.
    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.schedule.is_some()
    }

    /// One more place; what chance says of it if the run is to be preempted there.
    fn comes_to_one(&self) -> Option<Rng> {
        let schedule = self.schedule.as_ref()?;
        let place = self.come_to.get();
        self.come_to.set(place + 1);
        let next = self.next.get();
        if schedule.places.get(next) != Some(&place) {
            return None;
        }
        self.next.set(next + 1);
        // Of the place alone, so that it means the same with fewer of the others.
        Some(Rng::new(schedule.seed ^ place.wrapping_mul(0x9e37_79b9)))
    }

    /// Which of several threads that can run is first.
    pub(super) fn first<'a>(&self, ready: impl Iterator<Item = &'a Thread>) -> usize {
        let Some(schedule) = &self.schedule else {
            return 0;
        };
        let priority = |thread: &Thread| {
            let job = (thread.number as u64) << 32 ^ thread.jobs.get();
            Rng::new(schedule.seed ^ job.wrapping_mul(0xc2b2_ae35)).next()
        };
        let first = ready.enumerate().max_by_key(|(_, t)| priority(t));
        first.map_or(0, |(index, _)| index)
    }

    /// The run is over.
    pub(super) fn end(&self) {
        COME_TO.set(COME_TO.get().max(self.come_to.get()));
    }
}

impl Core {
    /// Driver code may lose its processor here: it is about to be entered, or to go on.
    #[cold]
    #[inline(never)]
    pub(crate) fn may_be_preempted(&self) {
        if !on_thread() || self.stopped.get() || self.interleaving.get() {
            return;
        }
        let Some(chance) = self.explorer.comes_to_one() else {
            return;
        };
        crate::trace::note(|| ("preempted by the explorer".to_owned(), false));
        self.run_meanwhile();
        let can_wait = context::with_processor(|p| p.irql() < DISPATCH && p.locks.len() == 0);
        if !can_wait {
            return;
        }
        let nanoseconds = match chance.below(8) {
            0..4 => 0,
            4 | 5 => chance.below(20_000),
            6 => chance.below(2_000_000),
            _ => chance.below(50_000_000),
        };
        if nanoseconds == 0 {
            wait_until(
                || self.nobody_wants_to_run(),
                None,
                "preempted by the explorer",
            );
        } else {
            let until = self.now().saturating_add(nanoseconds);
            block(
                WaitFor::Time,
                Some(until),
                "preempted by the explorer".to_owned(),
            );
        }
        self.stop_if_condemned();
    }

    /// Whether nothing is left to happen at this moment.
    fn nobody_wants_to_run(&self) -> bool {
        let now = self.now();
        self.ready.borrow().is_empty()
            && self.runnable.borrow().is_empty()
            && self.events.next_time().is_none_or(|at| at > now)
    }
}

impl WorldBuilder {
    /// Preempts driver code at the places of a schedule (or of `NTSIM_EXPLORE`), and counts all there are. See [`explore`].
    #[must_use]
    pub fn explore(mut self, schedule: Schedule) -> Self {
        self.explore = Some(schedule);
        self
    }
}

impl World {
    /// How many places the run has come to at which driver code may lose its processor; 0 without a schedule.
    #[must_use]
    pub fn places(&self) -> u64 {
        self.core.explorer.come_to.get()
    }
}

/// What [`search`] has found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// With the fewest places found that end the story badly.
    pub schedule: Schedule,
    /// How many runs it took to find some, those that took places away again not counted.
    pub runs: u32,
    /// How the story ends: the report, or what it panicked with.
    pub text: String,
}

/// How a story ends.
fn tell(story: &impl Fn(WorldBuilder), schedule: Schedule) -> Result<(), String> {
    let run = || story(World::builder().explore(schedule));
    catch_unwind(AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        text.unwrap_or_else(|| "a panic".to_owned())
    })
}

/// Tells a story under so many schedules, until it ends badly: with a violation or a panic. `story` makes its world of the builder that it
/// gets, and everything else anew each time.
///
/// The first run is not preempted; it must end well, and its places are counted. Then comes each of them alone, in an order by
/// chance, for half of the runs at most; then two or three together. When a run ends badly, places are taken away one by one as long
/// as it still does.
///
/// # Panics
/// If the story ends badly without being preempted: with how it does.
pub fn search(runs: u32, story: impl Fn(WorldBuilder)) -> Option<Finding> {
    COME_TO.set(0);
    // What it panics with comes through as it is.
    story(World::builder().explore(Schedule::default()));
    let places = COME_TO.get();
    if places == 0 {
        return None;
    }
    let rng = Rng::new(0xe4b1);
    let mut alone: Vec<u64> = (0..places).collect();
    for last in (1..alone.len()).rev() {
        alone.swap(last, rng.below(last as u64 + 1) as usize);
    }
    for run in 0..runs {
        let seed = u64::from(run) + 1;
        let schedule = match alone.get(run as usize) {
            Some(place) if run < runs.div_ceil(2) => Schedule::at(seed, [*place]),
            _ => {
                let depth = 2 + rng.below(2);
                Schedule::at(seed, (0..depth).map(|_| rng.below(places)))
            }
        };
        if let Err(text) = tell(&story, schedule.clone()) {
            let (schedule, text) = shrunk(&story, schedule, text);
            return Some(Finding {
                schedule,
                runs: run + 1,
                text,
            });
        }
    }
    None
}

/// Takes places away one by one as long as the story ends badly.
fn shrunk(story: &impl Fn(WorldBuilder), bad: Schedule, text: String) -> (Schedule, String) {
    for index in 0..bad.places.len() {
        let fewer = bad.without(index);
        if let Err(text) = tell(story, fewer.clone()) {
            return shrunk(story, fewer, text);
        }
    }
    (bad, text)
}

/// As [`search`]: a test that fails if the story ends badly, and tells the schedule with which it does. With `NTSIM_EXPLORE` in the
/// environment the story is told once, with that schedule.
///
/// # Panics
/// With how the story ends, and the `NTSIM_EXPLORE` that repeats it.
pub fn explore(runs: u32, story: impl Fn(WorldBuilder)) {
    if std::env::var_os("NTSIM_EXPLORE").is_some() {
        return story(World::builder());
    }
    if let Some(found) = search(runs, story) {
        let Finding {
            schedule,
            runs,
            text,
        } = found;
        panic!("{text}\nfound by the explorer in run {runs}: repeat with NTSIM_EXPLORE={schedule}");
    }
}
