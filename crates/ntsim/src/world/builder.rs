//! Settings of a world, by tests and by the environment, and how it is made of them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::extensions::Extensions;
use super::faults::WorldFaults;
use super::paths::{self, FaultPaths};
use super::rng::Rng;
use super::signal_stack::SignalStack;
use super::{Clock, Core, World, context, device, environment, event, explore, watchdog};
use crate::verifier::{Verifier, Verify};

/// Settings of a world to be.
#[derive(Clone, Debug)]
pub struct WorldBuilder {
    pub(super) seed: Option<u64>,
    pub(super) environment: bool,
    pub(super) clock: Clock,
    pub(super) collect: bool,
    pub(super) wait_horizon: Duration,
    pub(super) watchdog: Duration,
    pub(super) interleave: u32,
    pub(super) verify: Verify,
    pub(super) pend: u32,
    pub(super) faults: Option<FaultPaths>,
    pub(super) low_resources: u32,
    pub(super) explore: Option<explore::Schedule>,
}

impl WorldBuilder {
    /// Everything that happens by chance follows from this number (or `NTSIM_SEED`).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How the clock goes.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Leaves violations to be looked at with [`World::take_violations`] instead of failing the run: for tests of
    /// misbehaving drivers.
    #[must_use]
    pub fn collect_violations(mut self) -> Self {
        self.collect = true;
        self
    }

    /// Interrupts driver code on its returns from the kernel, one in so many, chosen by the seed: devices, other
    /// processors and interrupts get their turn there, as they do at any moment on real machines. That the code holds a spin
    /// lock stops nobody but who wants it, who then spins until it is released. By default
    /// (0, and no `NTSIM_INTERLEAVE`) they only get it when driver code gives the processor back.
    ///
    /// No thread loses its processor to another here: threads, work items and timers get their turn only where code at PASSIVE_LEVEL waits
    /// or ends. [`WorldBuilder::explore`] takes processors away, and [`World::hold_oid`].
    #[must_use]
    pub fn interleave(mut self, one_in: u32) -> Self {
        self.interleave = one_in;
        self
    }

    /// How much the verifier looks at. By default, and without `NTSIM_VERIFY`, at everything.
    #[must_use]
    pub fn verify(mut self, level: Verify) -> Self {
        self.verify = level;
        self
    }

    /// Lets one in so many of the NDK functions that may pend do so where the provider answers at once, chosen by the seed: the
    /// call returns STATUS_PENDING, and its consumer is told by a DPC, perhaps before that, perhaps two milliseconds later. By
    /// default (0, and no `NTSIM_PEND`) consumers get providers' answers as they are.
    #[must_use]
    pub fn pend(mut self, one_in: u32) -> Self {
        self.pend = one_in;
        self
    }

    /// Lets nothing in the environment say how the run goes, but only what is said here: for programs that are told in other ways.
    #[must_use]
    pub fn ignore_environment(mut self) -> Self {
        self.environment = false;
        self
    }

    /// How long a wait without timeout may last before it counts as a deadlock: that of code that the test called. Of other
    /// threads, such as those of a driver that wait for work, it is judged only when nothing is left in the world that could end
    /// it, or when the code that the test called has looked at something again and again for ten times as long.
    #[must_use]
    pub fn wait_horizon(mut self, horizon: Duration) -> Self {
        self.wait_horizon = horizon;
        self
    }

    /// How long driver code may run without calling the kernel, in the host's time: what takes longer is a loop without end,
    /// which breaks the rule `hang`. Code that calls the kernel and never gives the processor back may run ten times as
    /// long. By default 60 s, or the seconds in `NTSIM_WATCHDOG`; zero for ever, as one wants under a debugger.
    #[must_use]
    pub fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = limit;
        self
    }

    /// Makes the world.
    ///
    /// # Panics
    /// If this thread has one already, or the environment asks for what cannot be, or has a name beginning with `NTSIM_` that is not known.
    #[must_use]
    pub fn build(self) -> World {
        assert!(
            context::try_core().is_none(),
            "a thread has at most one world"
        );
        environment::check();
        let (mut seed, mut interleave) = (self.seed.unwrap_or(1), self.interleave);
        let (mut pend, mut verify) = (self.pend, self.verify);
        let (mut faults, mut low_resources) = (self.faults, self.low_resources);
        let (mut schedule, mut lease) = (self.explore, None);
        if self.environment {
            seed = variable("NTSIM_SEED").unwrap_or(seed);
            interleave = variable("NTSIM_INTERLEAVE").unwrap_or(interleave);
            pend = variable("NTSIM_PEND").unwrap_or(pend);
            verify = setting("NTSIM_VERIFY", "cheap or full").unwrap_or(verify);
            (faults, lease) = match paths::of_environment() {
                Some((paths, lease)) => (Some(paths), Some(lease)),
                None => (faults, None),
            };
            low_resources = variable("NTSIM_LOW_RESOURCES").unwrap_or(low_resources);
            schedule = setting("NTSIM_EXPLORE", "SEED:DEPTH or SEED:@PLACE,PLACE").or(schedule);
        }
        let verifier = Verifier::default();
        let core = Rc::new(Core {
            seed,
            rng: Rng::new(seed),
            clock: self.clock,
            time: Cell::new(0),
            started: Instant::now(),
            steps: Cell::new(0),
            activity: Cell::new(0),
            turns: Cell::new(0),
            interleave,
            verify,
            pend,
            pend_rng: Rng::new(seed ^ 0x9e4d),
            faults: WorldFaults::new(faults, lease, low_resources, seed),
            environment: self.environment,
            processors: self
                .environment
                .then(|| variable("NTSIM_PROCESSORS"))
                .flatten(),
            timer_tick: self
                .environment
                .then(|| variable("NTSIM_TIMER_TICK"))
                .flatten(),
            interleave_rng: Rng::new(seed ^ 0x1e4f),
            interleaving: Cell::new(false),
            meddles: Cell::new(interleave != 0 || schedule.is_some()),
            explorer: explore::Explorer::new(schedule),
            hold: RefCell::default(),
            trace: RefCell::default(),
            traced: Cell::new(false),
            spun: Cell::new(0),
            looks: Cell::new(0),
            events: event::EventQueue::default(),
            machines: RefCell::default(),
            runnable: RefCell::default(),
            watched: RefCell::default(),
            devices: device::Devices::default(),
            waits: RefCell::default(),
            ready: RefCell::default(),
            spinning: RefCell::default(),
            released: RefCell::default(),
            idle_threads: RefCell::default(),
            threads: RefCell::default(),
            thread_count: Cell::new(0),
            watchdog: watchdog::Watchdog::new(self.watchdog, verifier.history.count()),
            host_sp: Cell::new(0),
            wait_horizon: u64::try_from(self.wait_horizon.as_nanos()).unwrap_or(u64::MAX),
            stopped: Cell::new(false),
            condemned: Cell::new(false),
            collect: self.collect,
            verifier,
            debug_log: RefCell::default(),
            echo_debug: std::env::var_os("NTSIM_DEBUG").is_some(),
            extensions: Extensions::default(),
        });
        install_panic_hook();
        crate::mmio::catch_faults();
        context::with(|c| c.core.set(Rc::as_ptr(&core)));
        World {
            core,
            _signal_stack: SignalStack::install(),
        }
    }
}

impl World {
    /// Settings of a new world: seed 1, nothing interleaved, everything looked at, virtual clock. What the environment says of `NTSIM_SEED`,
    /// `NTSIM_INTERLEAVE`, `NTSIM_EXPLORE`, `NTSIM_VERIFY`, `NTSIM_PEND`, `NTSIM_FAULTS` and `NTSIM_LOW_RESOURCES` counts more than what tests say, so that a failed run can be repeated. Machines have at least
    /// `NTSIM_PROCESSORS` processors, and timers that expire at multiples of `NTSIM_TIMER_TICK` nanoseconds.
    #[must_use]
    pub fn builder() -> WorldBuilder {
        WorldBuilder {
            seed: None,
            environment: true,
            clock: Clock::Virtual,
            collect: false,
            wait_horizon: Duration::from_secs(600),
            watchdog: Duration::from_secs(variable("NTSIM_WATCHDOG").unwrap_or(60)),
            interleave: 0,
            verify: Verify::default(),
            pend: 0,
            faults: None,
            low_resources: 0,
            explore: None,
        }
    }
}

/// What the environment says of something.
///
/// # Panics
/// If it makes no sense: a run that silently was not the one asked for would mislead.
pub(super) fn setting<T: std::str::FromStr>(name: &str, kind: &str) -> Option<T> {
    let value = std::env::var_os(name)?;
    let parsed = value.to_str().and_then(|v| v.parse().ok());
    assert!(
        parsed.is_some(),
        "{name} must be {kind}, not {}",
        value.display()
    );
    parsed
}

/// A number in the environment.
fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    setting(name, "a number")
}

/// What a panic in driver code prints is the host's business: it must not come from the simulated pool.
fn install_panic_hook() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _kernel = context::KernelMode::enter();
            hook(info);
        }));
    });
}
