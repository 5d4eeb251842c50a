//! The world's loop and its clock.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::context;
use super::event::{Event, EventId};
use super::machine::Machine;
use super::thread;
use super::{Clock, Core};
use crate::trace;
use crate::verifier::{self, rules};

/// A file descriptor that real-time worlds listen to.
pub(crate) struct Watched {
    fd: i32,
    ready: Rc<dyn Fn()>,
}

/// In a busy real-time world, file descriptors are looked at every so many steps.
const POLL_EVERY: u32 = 32;

/// Spinning longer than this, in nanoseconds, is a hang.
const LONGEST_SPIN: u64 = 1_000_000_000;
/// Looking at the clock more often than this without letting time pass is a hang.
const MOST_LOOKS: u32 = 10_000_000;

/// Devices get their turn after so many turns of busy processors.
const DEVICES_EVERY: u32 = 16;

impl Core {
    /// Nanoseconds since the world began.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self.clock {
            Clock::Virtual => self.time.get(),
            Clock::RealTime => self.host_time(),
        }
    }

    /// The clock as of the last step: cheap, for the history.
    #[inline(always)]
    pub(crate) fn last_time(&self) -> u64 {
        self.time.get()
    }

    fn host_time(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets virtual time pass without giving the processor back: what a busy loop does. Devices and what waits for other
    /// processors go on meanwhile, as does what interrupts this one.
    pub(crate) fn stall(&self, nanoseconds: u64) {
        if thread::on_thread() && !self.stopped.get() && !self.interleaving.get() {
            self.run_meanwhile();
        } else {
            self.run_devices();
        }
        let spun = self.spun.get().saturating_add(nanoseconds);
        self.spun.set(spun);
        if spun > LONGEST_SPIN {
            verifier::bugcheck(
                rules::STALL,
                format!(
                    "driver code has been spinning for {spun} ns without letting anything else happen"
                ),
            );
        }
        match self.clock {
            Clock::Virtual => self.time.set(self.time.get().saturating_add(nanoseconds)),
            Clock::RealTime => {
                let until = Instant::now() + Duration::from_nanos(nanoseconds);
                while Instant::now() < until {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Notes that somebody looks at the clock. Virtual time does not pass by looking at it.
    #[inline]
    pub(crate) fn looked_at_clock(&self) {
        let looks = self.looks.get() + 1;
        self.looks.set(looks);
        if looks == MOST_LOOKS && self.clock == Clock::Virtual {
            verifier::bugcheck(
                rules::STALL,
                format!(
                    "driver code has asked for the time {looks} times in a row: it waits for time to pass without \
                     letting it (KeStallExecutionProcessor, a timer or a wait would)"
                ),
            );
        }
    }

    /// Driver code gave the processor back.
    #[inline]
    pub(crate) fn not_spinning(&self) {
        self.spun.set(0);
        self.looks.set(0);
    }

    /// Schedules an event that belongs to no machine.
    pub(crate) fn push_event(&self, at: u64, event: Event) -> EventId {
        let _kernel = context::KernelMode::enter();
        self.events.push(at, event, None, false)
    }

    /// Schedules a call at a time of the world's clock (in the past: as soon as possible). Calls at the same time
    /// happen in the order of scheduling.
    pub(crate) fn schedule(&self, at: u64, f: impl FnOnce() + 'static) -> EventId {
        let _kernel = context::KernelMode::enter();
        self.push_event(at, Event::Once(Box::new(f)))
    }

    /// As `schedule`, with the machine's first processor current during the call.
    pub(crate) fn schedule_on(
        &self,
        machine: &Rc<Machine>,
        at: u64,
        f: impl FnOnce() + 'static,
    ) -> EventId {
        let _kernel = context::KernelMode::enter();
        let event = Event::Once(Box::new(f));
        self.events.push(at, event, Some(Rc::clone(machine)), false)
    }

    /// Schedules a call of a shared closure: for frequent events, as it does not allocate.
    pub(crate) fn schedule_shared(
        &self,
        machine: Option<&Rc<Machine>>,
        at: u64,
        f: &Rc<dyn Fn(u64)>,
        argument: u64,
    ) -> EventId {
        let _kernel = context::KernelMode::enter();
        let event = Event::Shared(Rc::clone(f), argument);
        self.events.push(at, event, machine.map(Rc::clone), false)
    }

    /// As `schedule_on`, for periodic housekeeping: does not keep `run_until_idle` running.
    pub(crate) fn schedule_background(
        &self,
        machine: Option<&Rc<Machine>>,
        at: u64,
        f: impl FnOnce() + 'static,
    ) -> EventId {
        let _kernel = context::KernelMode::enter();
        let event = Event::Once(Box::new(f));
        self.events.push(at, event, machine.map(Rc::clone), true)
    }

    /// Cancels a scheduled call; false if it has happened or was cancelled.
    pub(crate) fn cancel(&self, id: EventId) -> bool {
        let _kernel = context::KernelMode::enter();
        self.events.cancel(id)
    }

    /// Calls `ready` whenever the descriptor has something to read. Only real-time worlds look.
    pub(crate) fn watch_fd(&self, fd: i32, ready: Rc<dyn Fn()>) {
        self.watched.borrow_mut().push(Watched { fd, ready });
    }

    /// Stops watching a descriptor.
    pub(crate) fn unwatch_fd(&self, fd: i32) {
        self.watched.borrow_mut().retain(|w| w.fd != fd);
    }

    /// Does the next thing, unless it lies after `limit`. False if nothing was done: in virtual time because
    /// nothing is left until then (the clock stays), in real time because `limit` has come.
    pub(crate) fn step(&self, limit: u64) -> bool {
        if self.condemned.get() {
            self.check_running();
        }
        if self.stopped.get() {
            return false;
        }
        assert!(
            !thread::on_thread(),
            "the world cannot be run from inside driver code"
        );
        self.not_spinning();
        if !self.waits.borrow().is_empty() {
            self.check_conditions();
        }
        if self.run_ready() || self.run_processor() {
            let turns = self.turns.get() + 1;
            self.turns.set(turns % DEVICES_EVERY);
            if turns == DEVICES_EVERY {
                self.run_devices();
            }
            return true;
        }
        if self.run_devices() {
            return true;
        }
        match self.clock {
            Clock::Virtual => self.step_virtual(limit),
            Clock::RealTime => self.step_real(limit),
        }
    }

    fn step_virtual(&self, limit: u64) -> bool {
        let Some(at) = self.events.next_time() else {
            return false;
        };
        if at > limit {
            return false;
        }
        self.time.set(self.time.get().max(at));
        self.run_event(self.time.get())
    }

    fn step_real(&self, limit: u64) -> bool {
        let now = self.host_time();
        self.time.set(now);
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(POLL_EVERY) && self.poll(0) {
            return true;
        }
        if self.run_event(now) {
            return true;
        }
        let next = self.events.next_time().unwrap_or(u64::MAX).min(limit);
        if next > now {
            if next == u64::MAX && self.watched.borrow().is_empty() {
                return false;
            }
            // Whoever runs this process may end it while it waits, and then wants to see what was recorded.
            crate::wire::flush(self);
            self.flush_trace();
            if self.poll(next - now) {
                return true;
            }
        }
        self.host_time() < limit
    }

    /// Waits up to so many nanoseconds for a watched descriptor and serves those that are ready.
    fn poll(&self, nanoseconds: u64) -> bool {
        let mut fds: Vec<libc::pollfd> = self
            .watched
            .borrow()
            .iter()
            .map(|w| libc::pollfd {
                fd: w.fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        if fds.is_empty() && nanoseconds == 0 {
            return false;
        }
        let nanoseconds = nanoseconds.min(1_000_000_000);
        let timeout = libc::timespec {
            tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
            tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `fds` and `timeout` are valid for the call; no signal mask is given.
        let ready = unsafe {
            libc::ppoll(
                fds.as_mut_ptr(),
                fds.len() as libc::nfds_t,
                &timeout,
                std::ptr::null(),
            )
        };
        if ready <= 0 {
            return false;
        }
        for fd in fds.iter().filter(|fd| fd.revents != 0) {
            let call = self
                .watched
                .borrow()
                .iter()
                .find(|w| w.fd == fd.fd)
                .map(|w| Rc::clone(&w.ready));
            if let Some(call) = call {
                call();
            }
        }
        true
    }

    fn run_processor(&self) -> bool {
        loop {
            let Some((machine, number)) = self.runnable.borrow_mut().pop_front() else {
                return false;
            };
            let processor = &machine.processors[number as usize];
            processor.listed.set(false);
            if processor.runnable() {
                let _entered = machine.enter(number);
                processor.run_pending();
                return true;
            }
        }
    }

    /// Called as an exported function returns to driver code, where something may come in between.
    #[cold]
    pub(crate) fn before_return(&self) {
        self.stop_if_condemned();
        self.maybe_hold();
        self.maybe_interleave();
        if self.explorer.is_on() {
            self.may_be_preempted();
        }
        if self.traced.get() {
            trace::returned(self);
        }
    }

    /// In worlds that interleave: now and then, lets happen here what other processors and devices do meanwhile, and what
    /// interrupts this one.
    fn maybe_interleave(&self) {
        if self.interleave == 0
            || self.stopped.get()
            || self.interleaving.get()
            || !thread::on_thread()
            || self.interleave_rng.below(u64::from(self.interleave)) != 0
        {
            return;
        }
        self.run_meanwhile();
    }

    /// Lets devices, other processors and what interrupts this one have their turn beside the code that runs here, on a
    /// kernel thread.
    pub(super) fn run_meanwhile(&self) {
        self.interleaving.set(true);
        self.run_devices();
        self.continue_released();
        let listed = self.runnable.borrow().len();
        for _ in 0..listed {
            self.run_elsewhere();
        }
        context::with_processor(|p| p.lower_irql(p.irql()));
        self.interleaving.set(false);
    }

    /// Lets the next processor that has something to run do so beside the code that runs here. It may want a lock that is
    /// held here: then it spins while this goes on.
    fn run_elsewhere(&self) {
        let Some((machine, number)) = self.runnable.borrow_mut().pop_front() else {
            return;
        };
        let processor = &machine.processors[number as usize];
        processor.listed.set(false);
        // This one is interrupted by the caller.
        let here = context::with(|c| std::ptr::eq(c.processor.get(), processor));
        if !here && processor.runnable() {
            let _entered = machine.enter(number);
            let target = Rc::clone(&machine);
            self.run_beside(Box::new(move || {
                target.processors[number as usize].run_pending();
            }));
        }
    }

    fn run_event(&self, now: u64) -> bool {
        let Some(due) = self.events.take_due(now) else {
            return false;
        };
        let _entered = due.machine.as_ref().map(|m| m.enter(0));
        match due.event {
            Event::Once(f) => f(),
            Event::Shared(f, argument) => f(argument),
            Event::Plain(f, first, second) => f(first, second),
        }
        true
    }

    /// Runs until a time of the clock.
    pub(crate) fn run_to(&self, until: u64) {
        while self.step(until) {}
        if self.clock == Clock::Virtual && !self.stopped.get() {
            self.time.set(self.time.get().max(until));
        }
    }

    /// Runs until a condition holds (true) or a time comes (false).
    pub(crate) fn run_while(&self, condition: &mut dyn FnMut() -> bool, until: u64) -> bool {
        loop {
            let before = self.activity.get();
            if condition() {
                return true;
            }
            // A condition that calls the kernel may itself let DPCs run, and hold because of them.
            if self.activity.get() == before && !self.step(until) {
                break;
            }
        }
        if self.clock == Clock::Virtual && !self.stopped.get() {
            self.time.set(self.time.get().max(until));
        }
        condition()
    }

    /// Runs until nothing but background events is left.
    pub(crate) fn run_idle(&self) {
        loop {
            // What was waited for may have come about with the last thing that happened.
            self.check_conditions();
            let busy = !self.events.is_idle()
                || !self.ready.borrow().is_empty()
                || !self.runnable.borrow().is_empty();
            if !busy && self.run_devices() {
                continue;
            }
            if !busy || !self.step(u64::MAX) {
                return;
            }
        }
    }

    /// Stops the world for good: nothing runs any more.
    pub(crate) fn stop(&self) {
        self.stopped.set(true);
        self.abandon_threads();
    }

    /// Whether something may happen when the kernel returns to driver code.
    pub(crate) fn meddles_still(&self) -> bool {
        self.interleave != 0
            || self.explorer.is_on()
            || self.condemned.get()
            || self.traced.get()
            || self.hold.borrow().is_some()
    }

    /// A rule was broken: the world stops at the next opportunity, unless violations are for the test to look at.
    pub(crate) fn condemn(&self) {
        if !self.collect {
            self.condemned.set(true);
            self.meddles.set(true);
        }
    }

    /// Stops a world in which a rule was broken from the stack of a kernel thread, which is left as it is.
    #[inline]
    pub(crate) fn stop_if_condemned(&self) {
        if self.condemned.get() && thread::on_thread() {
            self.stop();
            thread::abandon();
        }
    }

    /// # Panics
    /// If the world has stopped, or is to: with the report.
    pub(crate) fn check_running(&self) {
        if self.condemned.get() {
            self.stop();
        }
        if self.stopped.get() {
            self.unwind_stopped();
        }
    }

    /// Ends the run of a stopped world: unwinds the host (never a driver) with the report.
    pub(crate) fn unwind_stopped(&self) -> ! {
        assert!(!thread::on_thread(), "driver frames are never unwound");
        if self.collect {
            std::panic::resume_unwind(Box::new(super::Stopped));
        }
        self.verifier.reported.set(true);
        panic!("{}", verifier::report_text(self));
    }
}
