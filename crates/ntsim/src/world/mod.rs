//! The world: machines, the clock, and what is going to happen.
//!
//! # For those who build on it inside this crate
//!
//! *Where am I.* [`context::core()`] is the thread's world, [`context::machine()`] the current machine,
//! [`context::with_processor`] the current processor, [`context::irql()`] its IRQL. `machine.enter(cpu)` makes a
//! machine's processor current until its guard is dropped. `machine.ext::<T>()` and `core.ext::<T>()` are slots for
//! your own state (`T: Default`, use interior mutability; they are dropped with the world).
//!
//! *Time.* `core.now()` in ns. `core.schedule(at, f)`, `core.schedule_on(&machine, at, f)` (machine current during
//! the call), `core.schedule_shared(..)` (no allocation), `core.schedule_background(..)` (does not keep
//! `run_until_idle` running), `core.cancel(id)`. Events run on the host's stack. `core.watch_fd(fd, f)` in real-time
//! worlds. `core.rng` for chance; `core.rng.fork()` for a stream of your own.
//!
//! *Calling drivers.* [`driver_call::call_driver`]`(&function, target, || ..)` around EVERY call into driver code, `function` being
//! a `static F: Function = Function::callback("MiniportHalt", PASSIVE..=PASSIVE)`. Driver code always runs on a kernel
//! thread's stack, which this arranges. [`processor::raise_irql`]`(DISPATCH)` first where the handler is called at
//! DISPATCH_LEVEL. `driver.charge()` first if you know which driver it is.
//!
//! *Being called.* Each exported function starts with `let _crossing = cross(&functions::Name);` where the `exports!`
//! macro of `crate::exports` made `functions` from one table per file with the IRQL limits.
//!
//! *Waiting.* [`wait::wait_until`]`(cond, deadline, story)` and [`wait::sleep_until`] let the world go on, at
//! PASSIVE_LEVEL. Work for a worker thread: `machine.queue_work(story, f)`.
//!
//! *Interrupts.* `machine.interrupts.connect(irql, cpu, isr) -> vector`, `.message(vector) -> (address, data)`; devices
//! call `machine.msi_write(address, data)`. DPCs that are no KDPC: `processor.queue_dpc(Dpc { .. })` and
//! `machine.list_processor(cpu)`.
//!
//! *Devices.* [`Core::add_device`] has the loop look at a device whenever the processors have nothing to do, and now
//! and then while they have.
//!
//! *Accusing.* [`crate::verifier::violation`]`(RULE, text)` records and goes on; [`crate::verifier::bugcheck`]`(RULE,
//! text)` stops the world and does not return.

pub(crate) mod address_map;
mod builder;
pub(crate) mod context;
pub(crate) mod device;
pub(crate) mod driver;
pub(crate) mod driver_call;
mod environment;
pub(crate) mod event;
pub mod explore;
pub(crate) mod extensions;
pub(crate) mod faults;
mod fiber;
pub(crate) mod frame;
pub(crate) mod hold;
mod load;
pub(crate) mod machine;
pub(crate) mod on_stack;
pub(crate) mod overdue;
pub(crate) mod paths;
pub mod processor;
pub(crate) mod rng;
mod run;
mod signal_stack;
pub(crate) mod spinning;
#[cfg(test)]
mod tests;
pub(crate) mod thread;
pub(crate) mod timer;
pub(crate) mod wait;
mod watchdog;
mod work;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::DRIVER_INITIALIZE;

use crate::exports::dbg::DebugLine;
use crate::image::Image;
use crate::pnp::MachineRegistry;
use crate::pnp::registry::Registry;
use crate::trace::Trace;
use crate::verifier::{self, Report, Verifier, Verify, Violation};
use extensions::Extensions;
use faults::WorldFaults;
use machine::Machine;
use rng::Rng;
use signal_stack::SignalStack;

pub use builder::WorldBuilder;
pub use load::LoadError;
pub use machine::{EventLogEntry, MachineConfig, MachineId};
pub use paths::{FaultPath, FaultPaths};

/// How a world's clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Clock {
    /// It jumps to the next event: runs take no time and repeat exactly.
    #[default]
    Virtual,
    /// It follows the host's monotonic clock: for wires that lead out of the process.
    RealTime,
}

/// What unwinds the host out of a stopped world whose violations are collected.
pub(crate) struct Stopped;

/// A world's inside. Everything is behind cells: driver code re-enters it at any time.
pub(crate) struct Core {
    pub(crate) seed: u64,
    pub(crate) rng: Rng,
    pub(crate) clock: Clock,
    time: Cell<u64>,
    started: Instant,
    steps: Cell<u32>,
    /// Counts the times that DPCs ran.
    activity: Cell<u64>,
    turns: Cell<u32>,
    /// One in so many returns to driver code is interrupted; 0 for none.
    pub(crate) interleave: u32,
    /// How much is looked at.
    pub(crate) verify: Verify,
    /// NDK consumers hear one in so many answers later than providers give them; 0 for none.
    pub(crate) pend: u32,
    pub(crate) pend_rng: Rng,
    /// What fails by its path or by chance.
    pub(crate) faults: WorldFaults,
    /// What the environment says counts.
    pub(crate) environment: bool,
    /// What it says of machines: at least so many processors.
    pub(crate) processors: Option<u32>,
    /// Likewise: nanoseconds of a clock tick.
    pub(crate) timer_tick: Option<u64>,
    interleave_rng: Rng,
    /// Where driver code is preempted.
    pub(crate) explorer: explore::Explorer,
    interleaving: Cell<bool>,
    /// A thread that is to be preempted at one of its returns to driver code.
    hold: RefCell<Option<Rc<hold::Hold>>>,
    /// Something may happen when the kernel returns to driver code: it interleaves or explores, a hold is armed, the world is condemned, or
    /// there is a trace.
    pub(crate) meddles: Cell<bool>,
    /// What crosses the boundary is written there.
    pub(crate) trace: RefCell<Option<Trace>>,
    /// There is such a trace.
    pub(crate) traced: Cell<bool>,
    /// Nanoseconds that driver code has spun since it last gave the processor back.
    spun: Cell<u64>,
    /// How often it has looked at the clock since.
    looks: Cell<u32>,
    pub(crate) events: event::EventQueue,
    pub(crate) machines: RefCell<Vec<Rc<Machine>>>,
    /// Processors that may have something to run.
    pub(crate) runnable: RefCell<VecDeque<(Rc<Machine>, u32)>>,
    watched: RefCell<Vec<run::Watched>>,
    pub(crate) devices: device::Devices,
    waits: RefCell<Vec<Rc<wait::Wait>>>,
    ready: RefCell<VecDeque<Rc<thread::Thread>>>,
    /// Threads that spin for a lock.
    spinning: RefCell<Vec<spinning::Spin>>,
    /// Threads whose lock was released.
    released: RefCell<VecDeque<Rc<thread::Thread>>>,
    idle_threads: RefCell<Vec<Rc<thread::Thread>>>,
    threads: RefCell<Vec<Rc<thread::Thread>>>,
    thread_count: Cell<usize>,
    watchdog: watchdog::Watchdog,
    host_sp: Cell<usize>,
    wait_horizon: u64,
    pub(crate) stopped: Cell<bool>,
    /// A rule was broken: it stops at the next opportunity.
    condemned: Cell<bool>,
    /// Violations are for the test to look at; they do not fail the run.
    pub(crate) collect: bool,
    pub(crate) verifier: Verifier,
    pub(crate) debug_log: RefCell<Vec<DebugLine>>,
    pub(crate) echo_debug: bool,
    /// What other parts of the simulator keep per world.
    pub(crate) extensions: Extensions,
}

impl Core {
    /// The value of type `T` that some part of the simulator keeps for this world.
    pub(crate) fn ext<T: Default + 'static>(&self) -> Rc<T> {
        self.extensions.get()
    }

    /// Checks the pools of all machines, unless the world stopped or its test fails: there is a report then, and what was left
    /// in the middle of something proves nothing.
    fn check_pools(&self) {
        if self.stopped.get() || self.verifier.unreported() || std::thread::panicking() {
            return;
        }
        for machine in self.machines.borrow().iter() {
            machine.check_pool();
        }
    }

    /// The name of the machine of that number, also in the middle of adding one.
    pub(crate) fn name_of(&self, number: u32) -> String {
        let machines = self.machines.try_borrow().ok();
        let machine = machines.as_ref().and_then(|m| m.get(number as usize));
        machine.map_or_else(|| format!("machine {number}"), |m| m.name.clone())
    }

    /// The name of a machine's driver, if there is one of that number.
    pub(crate) fn driver_of(&self, machine: u32, number: driver::DriverNumber) -> Option<String> {
        let machines = self.machines.try_borrow().ok()?;
        machines.get(machine as usize)?.drivers.name_of(number)
    }

    /// The machine of that id.
    pub(crate) fn machine(&self, id: MachineId) -> Rc<Machine> {
        Rc::clone(&self.machines.borrow()[id.0 as usize])
    }
}

/// A machine's physical memory, for tests that play the device.
#[derive(Clone)]
pub struct MachineRam(Rc<Machine>);

impl std::ops::Deref for MachineRam {
    type Target = crate::memory::Ram;

    fn deref(&self) -> &Self::Target {
        &self.0.ram
    }
}

/// Names a driver loaded on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverId {
    machine: MachineId,
    number: driver::DriverNumber,
}

/// A simulation: machines and what connects them. A thread has at most one at a time.
///
/// A violation of the kernel's rules ends the run: nothing of the driver that broke it runs any more, and what the test called of the
/// world panics with the report and the seed, as does dropping a world with violations nobody has seen.
pub struct World {
    pub(crate) core: Rc<Core>,
    _signal_stack: SignalStack,
}

/// Ends the world because a simulated thread made a bad memory access: what it did, and from where.
pub(crate) fn access_violation(
    rule: &'static str,
    what: &str,
    site: verifier::Site<'_>,
    backtrace: &std::backtrace::Backtrace,
) -> ! {
    let place = if context::in_driver() {
        "driver code"
    } else {
        "the kernel, which was given a bad pointer (or is at fault itself)"
    };
    let _kernel = context::KernelMode::enter();
    let backtrace = match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => String::new(),
    };
    verifier::bugcheck_at(site, rule, format!("{place}: {what}{backtrace}"));
}

/// The DPCs that a processor has begun to run.
#[derive(Clone, Debug)]
pub struct DpcCount(Rc<Cell<u64>>);

impl DpcCount {
    /// How many so far, the one that runs now included.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl World {
    /// The seed from which this run can be repeated.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// Time since the world began.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.core.now())
    }

    /// Adds a machine.
    pub fn add_machine(&mut self, config: MachineConfig) -> MachineId {
        let id = MachineId(self.core.machines.borrow().len() as u32);
        let machine = Machine::new(&self.core, id, config);
        self.core.machines.borrow_mut().push(machine);
        id
    }

    pub(crate) fn machine(&self, id: MachineId) -> Rc<Machine> {
        self.core.machine(id)
    }

    /// Lets the world run for that long.
    pub fn run_for(&mut self, duration: Duration) {
        let duration = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.core.run_to(self.core.now().saturating_add(duration));
        self.check();
    }

    /// Runs until the condition holds (true) or that much time has passed (false). Where something failed because its path was
    /// new ([`WorldBuilder::fail_new_paths`]), what was to come may come later: then this waits until it must have, and tells what is
    /// late from what is lost.
    pub fn run_until(
        &mut self,
        mut condition: impl FnMut(&mut World) -> bool,
        within: Duration,
    ) -> bool {
        let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        let until = self.core.now().saturating_add(within);
        let core = Rc::clone(&self.core);
        let mut holds = core.run_while(&mut || condition(self), until);
        if !holds && core.faults.have_struck_paths() && core.owes() {
            holds = self.run_until_done(&mut condition);
        }
        self.check();
        holds
    }

    /// Runs until nothing is left to happen but periodic housekeeping.
    pub fn run_until_idle(&mut self) {
        self.core.run_idle();
        self.check();
    }

    /// Does the next thing; false if there is none.
    pub fn step(&mut self) -> bool {
        let done = self.core.step(u64::MAX);
        self.check();
        done
    }

    /// Runs `f` as driver code on the machine's first processor at PASSIVE_LEVEL. The world goes on while it waits.
    ///
    /// # Panics
    /// With the report if `f` breaks a rule, bugchecks or waits for ever. Panics of `f` come through.
    pub fn call<R>(&mut self, machine: MachineId, f: impl FnOnce() -> R) -> R {
        self.call_on(machine, 0, processor::PASSIVE, f)
    }

    /// As [`World::call`], on that processor at that IRQL.
    pub fn call_on<R>(
        &mut self,
        machine: MachineId,
        processor: u32,
        irql: u8,
        f: impl FnOnce() -> R,
    ) -> R {
        static TEST: verifier::Function =
            verifier::Function::callback("test driver code", processor::PASSIVE..=processor::HIGH);
        let machine = self.machine(machine);
        let result = {
            let _entered = machine.enter(processor);
            let _raised = processor::raise_irql(irql);
            // What it allocates is not the loaded driver's.
            let _charged = driver::Charged::to(driver::UNNAMED);
            driver_call::begin_driver(&TEST, driver_call::NOT_ITS_OWN, f)
        };
        self.check();
        result
    }

    /// As [`World::call`] in a world that collects violations: None if the world stopped before `f` returned.
    pub fn try_call<R>(&mut self, machine: MachineId, f: impl FnOnce() -> R) -> Option<R> {
        let call = std::panic::AssertUnwindSafe(|| self.call(machine, f));
        match std::panic::catch_unwind(call) {
            Ok(result) => Some(result),
            Err(payload) if payload.is::<Stopped>() => None,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Loads a driver: makes its driver object and calls its entry point.
    ///
    /// # Errors
    /// What the entry point returned.
    pub fn load_driver(
        &mut self,
        machine: MachineId,
        name: &str,
        entry: DRIVER_INITIALIZE,
    ) -> Result<DriverId, NTSTATUS> {
        let path = format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{name}");
        let machine = self.machine(machine);
        let driver = {
            let _entered = machine.enter(0);
            // SAFETY: a function of this process stays; that it is an entry point, its type says.
            unsafe { machine.load_driver(name, &path, entry) }
        };
        self.check();
        driver.map(|driver| {
            machine.faults.settle(driver.number);
            DriverId {
                machine: machine.id,
                number: driver.number,
            }
        })
    }

    /// Loads a driver's image: maps it, makes its driver object and calls its entry point.
    ///
    /// # Errors
    /// Why it cannot be loaded, or what the entry point returned.
    pub fn load_image(
        &mut self,
        machine: MachineId,
        name: &str,
        image: &Image,
    ) -> Result<DriverId, LoadError> {
        let path = format!("\\Registry\\Machine\\System\\CurrentControlSet\\Services\\{name}");
        let machine = self.machine(machine);
        let driver = {
            let _entered = machine.enter(0);
            machine.load_image(name, &path, image)
        };
        self.check();
        driver.map(|driver| {
            machine.faults.settle(driver.number);
            DriverId {
                machine: machine.id,
                number: driver.number,
            }
        })
    }

    /// Unloads a driver: calls its unload routine and looks for what it left behind.
    ///
    /// # Panics
    /// With the report if the driver left something behind, or if it is not loaded.
    pub fn unload_driver(&mut self, driver: DriverId) {
        let machine = self.machine(driver.machine);
        let driver = machine
            .drivers
            .get(driver.number)
            .filter(|d| d.loaded.get())
            .expect("the driver is loaded");
        {
            let _entered = machine.enter(0);
            machine.unload_driver(&driver);
        }
        self.check();
    }

    /// Lets a rule be broken from now on: for tests whose consumer breaks one on purpose, to see how the driver
    /// takes it.
    pub fn pardon(&mut self, rule: &'static str) {
        self.core.verifier.pardon(rule);
    }

    /// How often a rule was broken since it may be.
    #[must_use]
    pub fn pardoned(&self, rule: &str) -> usize {
        self.core.verifier.pardoned(rule)
    }

    /// Takes the violations recorded so far.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        self.core.verifier.take()
    }

    /// What drivers printed with `DbgPrint` and `DbgPrintEx` so far, each text after the name of its machine in brackets.
    #[must_use]
    pub fn debug_log(&self) -> Vec<String> {
        let log = self.core.debug_log.borrow();
        log.iter()
            .map(|l| format!("[{}] {}", l.machine, l.text))
            .collect()
    }

    /// As [`World::debug_log`], with times and levels, from the `from`th text on.
    #[must_use]
    pub fn debug_lines(&self, from: usize) -> Vec<DebugLine> {
        let log = self.core.debug_log.borrow();
        log.get(from..).unwrap_or_default().to_vec()
    }

    /// Looks into a machine's registry, or changes it.
    pub fn registry<R>(&mut self, machine: MachineId, f: impl FnOnce(&mut Registry) -> R) -> R {
        let registry = self.machine(machine).ext::<MachineRegistry>();
        f(&mut registry.0.borrow_mut())
    }

    /// A machine's event log.
    #[must_use]
    pub fn event_log(&self, machine: MachineId) -> Vec<EventLogEntry> {
        self.machine(machine).event_log.borrow().clone()
    }

    /// A machine's physical memory, as its devices see it.
    #[must_use]
    pub fn ram(&self, machine: MachineId) -> MachineRam {
        MachineRam(self.machine(machine))
    }

    /// Figures about a machine's pool.
    #[must_use]
    pub fn pool_stats(&self, machine: MachineId) -> crate::memory::PoolStats {
        self.machine(machine).pool.stats()
    }

    /// Counts the DPCs that a processor begins to run. The count can be read anywhere, in a DPC as well.
    ///
    /// # Panics
    /// If the machine has no such processor.
    #[must_use]
    pub fn dpc_count(&self, machine: MachineId, processor: u32) -> DpcCount {
        let machine = self.machine(machine);
        let processor = &machine.processors[processor as usize];
        DpcCount(Rc::clone(&processor.dpcs_begun))
    }

    /// Lets that many more allocations of drivers succeed, then fails one; all later ones too if `sticky`. None ends
    /// this. Allocations are not of memory alone: every kernel function that may answer a lack of resources counts.
    pub fn fail_allocations(&mut self, machine: MachineId, after: Option<u64>, sticky: bool) {
        self.machine(machine).faults.fail_after(after, sticky);
    }

    /// The functions that failed as asked for with [`World::fail_allocations`], since this was last asked.
    pub fn take_failed_functions(&mut self, machine: MachineId) -> Vec<&'static str> {
        self.machine(machine).faults.take_failed()
    }

    /// Whether a failure asked for with [`World::fail_allocations`] is still to come.
    #[must_use]
    pub fn allocation_failure_pending(&self, machine: MachineId) -> bool {
        self.machine(machine).faults.pending()
    }

    /// Checks all guard bytes and freed memory of a machine now.
    pub fn check_pool(&mut self, machine: MachineId) {
        self.machine(machine).check_pool();
        self.check();
    }

    /// Ends the world and tells what was wrong. The pools of all machines are checked once more, as they are when a world is
    /// dropped.
    pub fn finish(self) -> Report {
        self.core.check_pools();
        self.core.check_requests();
        crate::wire::flush(&self.core);
        verifier::finish(&self.core)
    }

    /// Fails the run if a rule was broken.
    ///
    /// # Panics
    /// With the report, unless violations are collected.
    pub(crate) fn check(&self) {
        if self.core.collect || !self.core.verifier.unreported() {
            return;
        }
        self.core.verifier.reported.set(true);
        panic!("{}", verifier::report_text(&self.core));
    }
}

impl World {
    /// A test that ends with an error drops its world. What would be gone with it: what repeats it, and what went wrong without breaking a
    /// rule, which is what was failed on purpose, and the NDK calls and requests that failed or pend.
    pub(crate) fn unfinished(&self) -> Option<String> {
        let core = &self.core;
        if core.verifier.reported.get() || core.machines.borrow().is_empty() {
            return None;
        }
        let repeat = verifier::repeat(core);
        let is_told = !repeat.is_empty();
        let mut text = match is_told {
            true => format!("a world has not come to World::finish: {repeat}"),
            false => "a world has not come to World::finish\n".to_owned(),
        };
        let header = text.len();
        for failure in core.faults.in_words(core) {
            text += &format!("failed on purpose: {failure}\n");
        }
        let pending = [crate::ndk::pending_calls(), crate::ndk::pending_closes()].concat();
        for (what, lines) in [
            (
                "NDK calls and requests that failed",
                self.failed_ndk_calls(),
            ),
            ("NDK calls that pend", pending),
        ] {
            if !lines.is_empty() {
                text += &format!("{what}:\n");
            }
            for line in lines {
                text += &format!("  {}\n", line.trim_start());
            }
        }
        (is_told || text.len() > header).then_some(text)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let core = &self.core;
        core.check_pools();
        core.check_requests();
        let report =
            (!core.collect && core.verifier.unreported()).then(|| verifier::report_text(core));
        if report.is_none()
            && let Some(text) = self.unfinished()
        {
            eprint!("{text}");
        }
        core.stop();
        core.watchdog.stop();
        core.explorer.end();
        core.faults.end();
        core.end_trace();
        // Also when a test unwinds: its last frames are those that matter.
        crate::wire::flush(core);
        core.events.clear();
        core.runnable.borrow_mut().clear();
        core.watched.borrow_mut().clear();
        core.devices.clear();
        for machine in core.machines.borrow().iter() {
            machine.clear();
        }
        core.extensions.clear();
        context::with(|c| {
            c.core.set(std::ptr::null());
            c.owes_wait.set(std::ptr::null());
            c.machine.set(std::ptr::null());
            c.processor.set(std::ptr::null());
        });
        core.release();
        if let Some(report) = report
            && !std::thread::panicking()
        {
            panic!("{report}");
        }
    }
}
