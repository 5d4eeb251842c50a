//! The judge: watches every call between drivers and the kernel and records broken rules.

mod crossing;
mod fired;
mod history;
pub(crate) mod law;
mod level;
pub(crate) mod locks;
pub(crate) mod mutexes;
pub(crate) mod origin;
pub(crate) mod owed_wait;
pub mod rules;
mod site;

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::trace;
use crate::world::driver::UNNAMED;
use crate::world::{Core, context, thread};

pub use crossing::Function;
pub(crate) use crossing::{Crossing, Told, cross, entering_driver, place};
pub(crate) use history::At;
pub use history::{Crossed, Way};
pub use law::{Class, Rule, all_rules};
pub use level::Verify;
pub(crate) use origin::Origin;
pub(crate) use origin::path as image_path;
pub(crate) use site::{Keeper, Site, Unwound, backtrace, called_from};

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Name of the rule, from [`rules`] or from the part of the simulator that found it.
    pub rule: &'static str,
    /// Who broke it, as far as is known: the side of NDK that must obey the rule, or the driver on whose behalf code ran.
    pub culprit: String,
    /// What happened.
    pub text: String,
    /// Where in the image of the driver on whose behalf code ran, and where that was called from, one line each; empty if in no image.
    pub site: Vec<String>,
    /// Name of the machine where it happened; empty if on none.
    pub machine: String,
    /// Number of the processor.
    pub processor: u32,
    /// IRQL at that moment.
    pub irql: u8,
    /// When, in nanoseconds of the world's clock.
    pub time: u64,
    /// What crossed the boundary before, oldest first; it begins with callbacks that run since longer.
    pub history: Vec<Crossed>,
    /// The last calls between NDK consumers and providers, in words, oldest first; polling that goes on is one line.
    pub ndk_calls: Vec<String>,
    /// The NDK objects that are not closed, what they need and what goes on with them, a line each.
    pub ndk_objects: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tell(f, None)
    }
}

impl Violation {
    /// Writes all of it, but what the report has said of what came before, with the violation `told` last.
    fn tell(&self, f: &mut fmt::Formatter<'_>, told: Option<&Violation>) -> fmt::Result {
        if self.rule == rules::NOT_SIMULATED {
            write!(f, "not simulated")?;
        } else {
            write!(f, "rule {} broken", self.rule)?;
        }
        if !self.culprit.is_empty() {
            write!(f, " by {}", self.culprit)?;
        }
        writeln!(f, ": {}", self.text)?;
        for (index, place) in self.site.iter().enumerate() {
            let how = if index == 0 { "in" } else { "  called from" };
            writeln!(f, "  {how} {place}")?;
        }
        if let Some(law) = law::Law::of(self.rule) {
            writeln!(f, "  {law}")?;
        }
        writeln!(
            f,
            "  at {} ns on {} cpu {} irql {}",
            self.time,
            if self.machine.is_empty() {
                "the host"
            } else {
                &self.machine
            },
            self.processor,
            self.irql
        )?;
        let calls = told.map_or(&self.ndk_calls[..], |t| {
            since(&t.ndk_calls, &self.ndk_calls)
        });
        if !calls.is_empty() {
            writeln!(f, "  the last NDK calls:")?;
        }
        for call in calls {
            writeln!(f, "  {call}")?;
        }
        if !self.ndk_objects.is_empty() && told.is_none_or(|t| t.ndk_objects != self.ndk_objects) {
            writeln!(f, "  the NDK objects:")?;
            for object in &self.ndk_objects {
                writeln!(f, "    {object}")?;
            }
        }
        let crossed = told.and_then(|t| t.history.last()).map(|last| last.number);
        let mut crossings = self
            .history
            .iter()
            .filter(|c| crossed.is_none_or(|told| c.number > told))
            .peekable();
        if crossings.peek().is_some() {
            writeln!(f, "  crossings before:")?;
        }
        for crossed in crossings {
            writeln!(f, "  {crossed}")?;
        }
        Ok(())
    }

    /// One line.
    fn summary(&self) -> String {
        const LONGEST: usize = 200;
        let by = match self.culprit.as_str() {
            "" => String::new(),
            culprit => format!(" by {culprit}"),
        };
        let mut text = self.text.lines().next().unwrap_or_default().to_owned();
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.truncate(end);
            text += "...";
        }
        let place = match self.site.first() {
            Some(place) => format!(", in {place}"),
            None => String::new(),
        };
        format!("{} ns: {}{by}: {text}{place}", self.time, self.rule)
    }
}

/// What is new in a list of the last things, of which another was shown before.
fn since<'a>(shown: &[String], all: &'a [String]) -> &'a [String] {
    let both = (0..=shown.len().min(all.len()))
        .rev()
        .find(|count| shown.ends_with(&all[..*count]));
    &all[both.unwrap_or(0)..]
}

/// Memory that a driver holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Name of the machine.
    pub machine: String,
    /// Name of the driver.
    pub driver: String,
    /// The pool tag, as four characters.
    pub tag: String,
    /// The function that allocated it.
    pub function: &'static str,
    /// The place in the driver's image that called it, a line for it and for each caller; empty if the driver is linked.
    pub origin: String,
    /// The driver has not been unloaded.
    pub loaded: bool,
    /// How many blocks.
    pub blocks: usize,
    /// Their bytes together.
    pub bytes: usize,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} has {} block(s), {} bytes, tag '{}', from {}",
            self.machine, self.driver, self.blocks, self.bytes, self.tag, self.function
        )?;
        if self.loaded {
            write!(
                f,
                "; the driver is still loaded: is a World::uninstall missing?"
            )?;
        }
        write!(f, "{}", self.origin)
    }
}

/// How a run went.
#[derive(Clone, Debug, Default)]
#[must_use = "a report that nobody reads accuses nobody"]
pub struct Report {
    /// The seed that repeats the run.
    pub seed: u64,
    /// One in so many returns to driver code was interrupted; 0 for none.
    pub interleave: u32,
    /// How much was looked at.
    pub verify: Verify,
    /// NDK consumers heard one in so many answers later than providers gave them; 0 for none.
    pub pend: u32,
    /// Rules broken, the first of them.
    pub violations: Vec<Violation>,
    /// How many violations there were beyond those.
    pub more: usize,
    /// Memory that drivers still held at the end. Only a violation once the driver has been unloaded.
    pub leaks: Vec<Leak>,
    /// So many allocations of drivers found no room in special pool, all machines' together: who wrote behind those, or used them after they were
    /// freed, was found only if he wrote, and later. [`crate::World::pool_stats`] has them by machine.
    pub unguarded: u64,
    /// Where a rule was broken: the calls that failed because their paths were new or resources low, the last of them in words.
    pub failures: Vec<String>,
}

impl Report {
    /// No rule was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "ntsim: seed {}, interleaved {}, pending {}, verified {}",
            self.seed, self.interleave, self.pend, self.verify
        )?;
        // What came before several of them is told once.
        let mut told = None;
        for violation in &self.violations {
            violation.tell(f, told)?;
            told = Some(violation);
        }
        if self.violations.len() > 1 {
            writeln!(f, "the {} violations:", self.violations.len())?;
            for violation in &self.violations {
                writeln!(f, "  {}", violation.summary())?;
            }
        }
        if self.more > 0 {
            writeln!(f, "and {} more violation(s)", self.more)?;
        }
        for leak in &self.leaks {
            writeln!(f, "held at the end: {leak}")?;
        }
        if self.unguarded > 0 {
            writeln!(
                f,
                "{} allocation(s) were not guarded: special pool had no room",
                self.unguarded
            )?;
        }
        for failure in &self.failures {
            writeln!(f, "failed on purpose: {failure}")?;
        }
        Ok(())
    }
}

/// Violations beyond this many are only counted: the first ones tell the story.
const KEPT: usize = 64;
/// Crossings shown with a violation.
const SHOWN: usize = 24;

/// A world's verifier.
#[derive(Default)]
pub(crate) struct Verifier {
    violations: RefCell<Vec<Violation>>,
    /// Violations beyond those kept.
    more: Cell<usize>,
    /// The test has been told.
    pub(crate) reported: Cell<bool>,
    /// Rules that may be broken, and how often they were.
    pardoned: RefCell<Vec<(&'static str, usize)>>,
    pub(crate) history: history::History,
    pub(crate) lock_order: locks::LockOrder,
    pub(crate) origins: origin::Origins,
}

impl Verifier {
    pub(crate) fn take(&self) -> Vec<Violation> {
        self.more.set(0);
        std::mem::take(&mut *self.violations.borrow_mut())
    }

    /// Lets a rule be broken.
    pub(crate) fn pardon(&self, rule: &'static str) {
        self.pardoned.borrow_mut().push((rule, 0));
    }

    /// How often a rule was broken that may be.
    pub(crate) fn pardoned(&self, rule: &str) -> usize {
        let pardoned = self.pardoned.borrow();
        pardoned.iter().find(|p| p.0 == rule).map_or(0, |p| p.1)
    }

    /// Counts a violation of a rule that may be broken; false if it may not.
    fn forgives(&self, rule: &str) -> bool {
        let mut pardoned = self.pardoned.borrow_mut();
        let Some((_, count)) = pardoned.iter_mut().find(|p| p.0 == rule) else {
            return false;
        };
        *count += 1;
        true
    }

    /// There are violations that nobody has been told of.
    pub(crate) fn unreported(&self) -> bool {
        !self.reported.get() && !self.violations.borrow().is_empty()
    }
}

/// Records that a rule was broken, and returns. The world stops where the kernel next returns to driver code, or has something to do, and
/// the run fails; worlds that collect violations go on.
#[cold]
#[inline(never)]
pub(crate) fn violation(rule: &'static str, text: impl Into<String>) {
    violation_at(Site::Unwind, rule, text);
}

fn violation_at(site: Site<'_>, rule: &'static str, text: impl Into<String>) {
    let _kernel = context::KernelMode::enter();
    let text = text.into();
    let Some(core) = context::try_core() else {
        panic!("rule {rule} broken outside any world: {text}");
    };
    if core.verifier.forgives(rule) {
        return;
    }
    fired::note(rule);
    let (processor, irql) = if context::try_machine().is_some() {
        context::with_processor(|p| (p.number, p.irql()))
    } else {
        (0, 0)
    };
    let violation = Violation {
        rule,
        culprit: culprit(rule),
        text,
        site: called_from(site),
        machine: context::try_machine().map_or_else(String::new, |m| m.name.clone()),
        processor,
        irql,
        time: core.now(),
        history: crossings(&core, SHOWN),
        ndk_calls: crate::ndk::last_calls(&core),
        ndk_objects: crate::ndk::objects(),
    };
    trace::note(|| (format!("violation: {}", violation.summary()), true));
    if core.echo_debug {
        eprintln!("{violation}");
    }
    let mut violations = core.verifier.violations.borrow_mut();
    if violations.len() < KEPT {
        violations.push(violation);
    } else {
        core.verifier.more.set(core.verifier.more.get() + 1);
    }
    drop(violations);
    core.condemn();
}

/// The last crossings.
fn crossings(core: &Core, count: usize) -> Vec<Crossed> {
    core.verifier.history.last(count, core)
}

/// Who is to blame for what happens now.
fn culprit(rule: &str) -> String {
    if rule == rules::NOT_SIMULATED {
        return String::new();
    }
    if let Some(whose) = law::Law::of(rule).and_then(|law| law.whose) {
        return whose.to_owned();
    }
    match context::with(|c| c.driver.get()) {
        0 => String::new(),
        UNNAMED => "code of the test".to_owned(),
        number => context::try_machine()
            .and_then(|m| m.drivers.get(number))
            .map_or_else(String::new, |d| format!("driver {}", d.name)),
    }
}

/// Accuses if spin locks are held at a place where none may be: where a driver calls somebody else's code, which may
/// call back or wait for the lock. `what` names the place.
#[inline]
pub(crate) fn expect_no_locks(what: &str) {
    let held = context::with_processor(|p| p.locks.len());
    if held > 0 {
        accuse_locks(what);
    }
}

#[cold]
#[inline(never)]
fn accuse_locks(what: &str) {
    let held: Vec<_> = context::with_processor(|p| {
        p.locks
            .iter()
            .map(|h| format!("{:#x} (by {}{})", h.lock, h.by, origin::at(h.from)))
            .collect()
    });
    violation(
        rules::LOCK_HELD,
        format!(
            "{what} was called while spin locks are held: {}",
            held.join(", ")
        ),
    );
}

/// Records that a rule was broken in a way nothing can go on from, and stops the world: the driver's stack is left
/// as it is, and the host unwinds with the report.
#[cold]
#[inline(never)]
pub(crate) fn bugcheck(rule: &'static str, text: impl Into<String>) -> ! {
    bugcheck_at(Site::Unwind, rule, text)
}

/// As [`bugcheck`], where the code that broke the rule may not be found by unwinding.
pub(crate) fn bugcheck_at(site: Site<'_>, rule: &'static str, text: impl Into<String>) -> ! {
    violation_at(site, rule, text);
    let core = context::core();
    core.stop();
    if thread::on_thread() {
        // Nothing on this stack is dropped any more; give up what the guard above holds.
        drop(core);
        thread::abandon();
    }
    core.unwind_stopped();
}

/// Crossings shown when the process ends.
const SHOWN_LAST: usize = 64;

/// Ends the process with a report: for where nothing can be relied on any more.
#[cold]
#[inline(never)]
pub(crate) fn abort(rule: &'static str, text: &str) -> ! {
    let _kernel = context::KernelMode::enter();
    let mut report = format!("ntsim: rule {rule} broken inside the simulated kernel: {text}\n");
    if let Some(core) = context::try_core() {
        report.push_str("  crossings before:\n");
        for crossed in crossings(&core, SHOWN_LAST) {
            report.push_str(&format!("  {crossed}\n"));
        }
        report.push_str(&repeat(&core));
        core.end_trace();
    }
    // Not by the library's stream, whose lock may be held, and which test programs redirect.
    // SAFETY: the bytes are there.
    unsafe { libc::write(libc::STDERR_FILENO, report.as_ptr().cast(), report.len()) };
    std::process::abort();
}

/// The text with which a run fails.
pub(crate) fn report_text(core: &Core) -> String {
    let report = Report {
        seed: core.seed,
        interleave: core.interleave,
        verify: core.verify,
        pend: core.pend,
        violations: core.verifier.violations.borrow().clone(),
        more: core.verifier.more.get(),
        leaks: Vec::new(),
        unguarded: unguarded(core),
        failures: core.faults.in_words(core),
    };
    let tail: Vec<_> = {
        let log = core.debug_log.borrow();
        log.iter().rev().take(16).rev().cloned().collect()
    };
    let mut text = format!("{report}");
    if !tail.is_empty() {
        text.push_str("last debug output:\n");
        for line in tail {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text.push_str(&repeat(core));
    text
}

/// What in the environment repeats the run: nothing, if the world does not look there.
pub(crate) fn repeat(core: &Core) -> String {
    if !core.environment {
        return String::new();
    }
    let mut text = format!(
        "repeat with NTSIM_SEED={} NTSIM_INTERLEAVE={}",
        core.seed, core.interleave
    );
    if core.verify != Verify::default() {
        text.push_str(&format!(" NTSIM_VERIFY={}", core.verify));
    }
    if let Some(schedule) = core.explorer.schedule() {
        text.push_str(&format!(" NTSIM_EXPLORE={schedule}"));
    }
    for (name, value) in [
        (
            "NTSIM_PEND",
            Some(core.pend.into()).filter(|pend| *pend > 0),
        ),
        ("NTSIM_PROCESSORS", core.processors.map(u64::from)),
        ("NTSIM_TIMER_TICK", core.timer_tick),
    ] {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    }
    text.push_str(&core.faults.repeat());
    text.push('\n');
    text
}

/// The final report.
pub(crate) fn finish(core: &Core) -> Report {
    let mut leaks = Vec::new();
    for machine in core.machines.borrow().iter() {
        machine.pool.leaks(machine, None, &mut leaks);
    }
    core.verifier.reported.set(true);
    let more = core.verifier.more.get();
    let violations = core.verifier.take();
    let is_clean = violations.is_empty() && leaks.iter().all(|leak| leak.loaded);
    Report {
        failures: match is_clean {
            true => Vec::new(),
            false => core.faults.in_words(core),
        },
        seed: core.seed,
        interleave: core.interleave,
        verify: core.verify,
        pend: core.pend,
        more,
        violations,
        leaks,
        unguarded: unguarded(core),
    }
}

fn unguarded(core: &Core) -> u64 {
    let machines = core.machines.try_borrow();
    let all = machines.iter().flat_map(|all| all.iter());
    all.map(|machine| machine.pool.stats().unguarded).sum()
}
