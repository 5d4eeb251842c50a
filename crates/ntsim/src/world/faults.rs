//! Failures on demand: any function that may answer that memory or the like is short asks here whether it is to.
//!
//! Three things may want that: a count of calls ([`World::fail_allocations`](super::World::fail_allocations)), a call by a new path
//! ([`WorldBuilder::fail_new_paths`]), and chance ([`WorldBuilder::low_resources`]). The latter two are for drivers only, not for code of
//! tests.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::driver::{DriverNumber, UNNAMED};
use super::paths::{self, FaultPath, FaultPaths, Lease};
use super::rng::Rng;
use super::{Core, WorldBuilder, context};
use crate::image::Images;
use crate::ndis::adapter::State;
use crate::verifier::{Function, image_path, origin};

/// What a world has fail besides what is counted.
#[derive(Default)]
pub(crate) struct WorldFaults {
    paths: Option<FaultPaths>,
    /// The paths are the environment's.
    lease: Cell<Option<Lease>>,
    one_in: u32,
    rng: Option<Rng>,
    failures: RefCell<Vec<Failure>>,
    /// Something has failed because its path was new.
    paths_struck: Cell<bool>,
}

/// Something that failed because it was to.
struct Failure {
    what: String,
    /// The call's place and its callers in an image, or linked code's.
    places: Vec<usize>,
    linked: Option<Backtrace>,
}

/// Failures of which a report tells, the last ones.
const TOLD: usize = 8;
/// Callers that it tells of each.
const CALLERS: usize = 8;

impl WorldFaults {
    pub(super) fn new(
        paths: Option<FaultPaths>,
        lease: Option<Lease>,
        one_in: u32,
        seed: u64,
    ) -> Self {
        WorldFaults {
            paths,
            lease: Cell::new(lease),
            one_in,
            rng: (one_in > 0).then(|| Rng::new(seed ^ 0x10e5)),
            failures: RefCell::default(),
            paths_struck: Cell::new(false),
        }
    }

    /// The world ends: other threads may have some now. What a thread that waits for ever has on its stack is never dropped.
    pub(super) fn end(&self) {
        self.lease.take();
    }

    /// Whether anything may fail that is not counted.
    pub(super) fn armed(&self) -> bool {
        self.paths.is_some() || self.one_in > 0
    }

    /// Whether something has failed because its path was new.
    pub(super) fn have_struck_paths(&self) -> bool {
        self.paths_struck.get()
    }

    fn is_new(&self, path: impl FnOnce() -> FaultPath, told: &str) -> bool {
        let paths = self.paths.as_ref();
        let is_new = paths.is_some_and(|paths| paths.is_new(path(), told));
        self.paths_struck.update(|struck| struck || is_new);
        is_new
    }

    fn draws(&self) -> bool {
        let rng = self.rng.as_ref();
        rng.is_some_and(|rng| rng.below(self.one_in.into()) == 0)
    }

    fn keep(&self, failure: Failure) {
        let mut failures = self.failures.borrow_mut();
        if failures.len() == TOLD {
            failures.remove(0);
        }
        failures.push(failure);
    }

    /// What failed, in words; of many the last ones.
    pub(crate) fn in_words(&self, core: &Core) -> Vec<String> {
        let failures = self.failures.borrow();
        let texts = failures.iter().map(|failure| {
            let linked = failure.linked.as_ref().map(callers).unwrap_or_default();
            let places = failure.places.iter();
            let in_image = places.filter_map(|at| origin::describe(core, *at));
            let mut text = failure.what.clone();
            for (index, place) in in_image.chain(linked).take(CALLERS).enumerate() {
                let how = if index == 0 { "in" } else { "  called from" };
                text += &format!("\n    {how} {place}");
            }
            text
        });
        texts.collect()
    }

    /// What in the environment has the same fail once more.
    pub(crate) fn repeat(&self) -> String {
        let mut text = String::new();
        if self.one_in > 0 {
            text += &format!(" NTSIM_LOW_RESOURCES={}", self.one_in);
        }
        let failed = self.paths.as_ref().map(FaultPaths::failed);
        if let Some(failed) = failed.filter(|failed| !failed.is_empty()) {
            let failed: Vec<_> = failed.iter().map(FaultPath::to_string).collect();
            text += &format!(" NTSIM_FAULTS=only:{}", failed.join(","));
        }
        text
    }
}

/// The functions of linked drivers on a stack, as far as the callback that they are in, and where they are in their sources.
fn callers(backtrace: &Backtrace) -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let text = backtrace.to_string();
    let mut lines = text.lines().map(str::trim).peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        let name = line.split_once(": ").map_or(line, |(_, name)| name);
        let place = lines.next_if(|next| next.starts_with("at "));
        let place = place.and_then(|place| place.strip_prefix("at "));
        // Shown relative to where the process is.
        let file = place.map(|place| here.join(place.trim_start_matches("./")));
        let file = file.map_or_else(String::new, |file| file.display().to_string());
        let is_simulators = file.contains("/ntsim/src/") || name.contains("ntsim::");
        if is_simulators && (name.contains("run_driver") || name.contains("driver_call")) {
            break;
        }
        let is_librarys = file.contains("/library/")
            || ["std::", "core::", "alloc::", "__"]
                .iter()
                .any(|other| name.contains(other));
        if !(is_simulators || is_librarys) {
            let place = place.map(|place| format!(" ({})", place.trim_start_matches("./")));
            found.push(format!("{name}{}", place.unwrap_or_default()));
        }
    }
    found
}

/// What is to fail.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    /// The call after this many more.
    countdown: Option<u64>,
    /// And all later ones.
    sticky: bool,
}

/// A machine's.
#[derive(Default)]
pub(crate) struct Faults {
    plan: Cell<Plan>,
    /// The world has more fail than the plan says.
    armed: bool,
    failed: RefCell<Vec<&'static str>>,
    /// Drivers that have started: resources may be low for them.
    settled: RefCell<Vec<DriverNumber>>,
    /// Interrupts so far, by message.
    interrupts: RefCell<HashMap<u32, u64>>,
}

impl Faults {
    pub(super) fn new(armed: bool) -> Self {
        Faults {
            armed,
            ..Faults::default()
        }
    }

    /// Makes the call after `successes` more ones fail; all later ones too if `sticky`.
    pub(crate) fn fail_after(&self, successes: Option<u64>, sticky: bool) {
        self.plan.set(Plan {
            countdown: successes,
            sticky,
        });
    }

    /// Whether the failure asked for is still to come.
    pub(crate) fn pending(&self) -> bool {
        self.plan.get().countdown.is_some()
    }

    /// The functions that failed because they were told to, since this was last asked.
    pub(crate) fn take_failed(&self) -> Vec<&'static str> {
        self.failed.take()
    }

    /// A driver has started: its adapter runs, or its entry point has returned if it has none.
    pub(crate) fn settle(&self, driver: DriverNumber) {
        if self.armed {
            self.settled.borrow_mut().push(driver);
        }
    }

    /// Whether this function, which a driver called, is to fail.
    pub(crate) fn strikes(&self, function: &'static str) -> bool {
        let strikes = self.count_down() || (self.armed && self.is_chosen(function));
        if strikes {
            let _kernel = context::KernelMode::enter();
            self.failed.borrow_mut().push(function);
        }
        strikes
    }

    fn count_down(&self) -> bool {
        let mut plan = self.plan.get();
        let strikes = plan.countdown == Some(0);
        plan.countdown = match plan.countdown {
            Some(0) if plan.sticky => Some(0),
            countdown => countdown.and_then(|n| n.checked_sub(1)),
        };
        self.plan.set(plan);
        strikes
    }

    /// Whether the call's path is new, or chance wants it to fail.
    #[cold]
    fn is_chosen(&self, function: &'static str) -> bool {
        let _kernel = context::KernelMode::enter();
        let number = context::with(|c| c.driver.get());
        if matches!(number, 0 | UNNAMED) || std::thread::panicking() {
            return false;
        }
        let (core, machine) = (context::core(), context::machine());
        let driver = machine.drivers.get(number);
        let name = driver.map_or_else(String::new, |driver| driver.name.clone());
        let callback = context::with(|c| c.import.callback.get());
        let function_of = callback.map(|callback| callback.function);
        let callback = function_of.map_or("no callback", |function| function.name);
        let told = format!("{function}, called by driver {name} in {callback}");
        let told = match function_of.is_some_and(Function::is_ndk) {
            true => format!("{told} of {}", machine.name),
            false => told,
        };
        let faults = &core.faults;
        let is_low = || self.settled.borrow().contains(&number) && faults.draws();
        if !faults.is_new(|| paths::of_call(function), &told) && !is_low() {
            return false;
        }
        let places = image_path(&machine.ext::<Images>(), CALLERS);
        let at = core.now();
        faults.keep(Failure {
            what: format!("{told} on {} at {at} ns", machine.name),
            linked: places.is_empty().then(Backtrace::force_capture),
            places,
        });
        true
    }

    /// Whether something is to go wrong that no driver's call asks for, and has not gone wrong before.
    pub(crate) fn happens(&self, what: impl FnOnce() -> String) -> bool {
        if !self.armed || std::thread::panicking() {
            return false;
        }
        let _kernel = context::KernelMode::enter();
        let (core, machine, what) = (context::core(), context::machine(), what());
        if !core.faults.is_new(|| paths::of_event(&what), &what) {
            return false;
        }
        core.faults.keep(Failure {
            what: format!("{what} on {} at {} ns", machine.name, core.now()),
            linked: None,
            places: Vec::new(),
        });
        true
    }

    /// Whether this interrupt gets lost. Of each message the first may, the second, the fourth and so on, and the first of those that come while
    /// the same is under way.
    pub(crate) fn loses_interrupt(&self, message: u32) -> bool {
        if !self.armed {
            return false;
        }
        let count = {
            let _kernel = context::KernelMode::enter();
            let mut interrupts = self.interrupts.borrow_mut();
            let count = interrupts.entry(message).or_default();
            *count += 1;
            *count
        };
        self.strikes_interrupt("loss of", count, message)
    }

    /// Whether there is another interrupt after this one, without a cause: after such as may get lost.
    pub(crate) fn repeats_interrupt(&self, message: u32) -> bool {
        let count = self.interrupts.borrow().get(&message).copied();
        count.is_some_and(|count| {
            self.strikes_interrupt("an interrupt without a cause after", count, message)
        })
    }

    fn strikes_interrupt(&self, what: &str, count: u64, message: u32) -> bool {
        let counted = || format!("{what} interrupt {count} of message {message}");
        if count.is_power_of_two() && self.happens(counted) {
            return true;
        }
        under_way().is_some_and(|under_way| {
            self.happens(|| format!("{what} an interrupt of message {message} during {under_way}"))
        })
    }
}

/// What this machine's drivers have begun and not ended: requests of NDK, and changes of state.
fn under_way() -> Option<String> {
    let _kernel = context::KernelMode::enter();
    let machine = context::machine();
    let mut all: Vec<String> = crate::ndk::pending_on(machine.id)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let ndis = crate::ndis::of(&machine);
    let states = ndis.adapters.borrow();
    let states = states.iter().map(|adapter| adapter.state.get());
    all.extend(
        states
            .filter(|state| *state != State::Running)
            .map(|state| format!("{state:?}")),
    );
    (!all.is_empty()).then(|| all.join(", "))
}

impl WorldBuilder {
    /// Fails each function that a driver calls and that may fail, once for each path by which it is called: what is not in `paths` yet.
    /// Things that happen to drivers go wrong once too: interrupts get lost or come without a cause, requests have short buffers. With
    /// the same `paths` run after run until none is new, all that a driver does where something fails has been run.
    ///
    /// `NTSIM_FAULTS` names a file that keeps the paths between processes; or has `only:` and paths with commas between, to repeat what
    /// a report tells of. Worlds of two threads cannot share it: the second of them is not made.
    #[must_use]
    pub fn fail_new_paths(mut self, paths: &FaultPaths) -> Self {
        self.faults = Some(paths.clone());
        self
    }

    /// Fails one in so many of the calls of drivers to functions that may fail, chosen by the seed, as the low resources simulation of
    /// Driver Verifier does; from when the driver has started on: its adapter runs, or its entry point has returned if it has none.
    /// 0, the default without `NTSIM_LOW_RESOURCES`, is for none.
    #[must_use]
    pub fn low_resources(mut self, one_in: u32) -> Self {
        self.low_resources = one_in;
        self
    }
}
