//! Kernel threads: stacks on which driver code runs, and waiting.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::Core;
use super::context;
use super::event::Event;
use super::fiber::{self, STACK_LIMIT, Stack};
use super::machine::Machine;
use super::processor::{DISPATCH, Processor};
use crate::verifier::{self, Function, Told, rules};

/// What a thread is to run.
enum Job {
    /// A closure that lives in the frame of a caller which waits for it.
    Borrowed(unsafe fn(*mut c_void), *mut c_void),
    Owned(Box<dyn FnOnce()>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Idle,
    Running,
    Blocked,
    /// Left behind for good when the world stopped.
    Abandoned,
    /// Ended in the middle of its job, of which nothing is needed any more.
    Ended,
}

/// A kernel thread.
pub(crate) struct Thread {
    /// Counts the world's threads from 1.
    number: usize,
    pub(super) stack: Stack,
    pub(super) sp: Cell<usize>,
    pub(super) state: Cell<State>,
    job: Cell<Option<Job>>,
    panic: Cell<Option<Box<dyn Any + Send>>>,
    /// Where it runs; valid while it is not idle.
    machine: Cell<*const Machine>,
    processor: Cell<*const Processor>,
    driver: Cell<u32>,
    /// Counts its jobs.
    pub(super) jobs: Cell<u64>,
}

impl Thread {
    fn new(number: usize) -> Rc<Thread> {
        let (stack, sp) = Stack::new(main).expect("memory for a kernel thread's stack");
        Rc::new(Thread {
            number,
            stack,
            sp: Cell::new(sp),
            state: Cell::new(State::Idle),
            job: Cell::new(None),
            panic: Cell::new(None),
            machine: Cell::new(std::ptr::null()),
            processor: Cell::new(std::ptr::null()),
            driver: Cell::new(0),
            jobs: Cell::new(0),
        })
    }
}

/// The thread that runs now; None on the host's own stack.
pub(super) fn current() -> Option<*const Thread> {
    let thread = context::with(|c| c.thread.get());
    (!thread.is_null()).then_some(thread)
}

/// Whether this is a kernel thread's stack (and not the host's).
#[inline]
pub(crate) fn on_thread() -> bool {
    context::with(|c| !c.thread.get().is_null())
}

/// Which thread this is, where it runs, and for whom.
fn describe() -> String {
    let number = number();
    let Some(machine) = context::try_machine() else {
        return format!("kernel thread {number}");
    };
    let (processor, irql) = context::with_processor(|p| (p.number, p.irql()));
    let driver = machine.drivers.get(machine.charged_driver());
    format!(
        "kernel thread {number} (machine {}, processor {processor}, IRQL {irql}, {})",
        machine.name,
        driver.map_or_else(|| "no driver".to_owned(), |d| format!("driver {}", d.name))
    )
}

/// Ends the world because code on a kernel thread cannot go on. Driver code is left as it is, and the host reports. Code of
/// the simulator may have been in the middle of anything: then the process ends with the report.
fn give_up(rule: &'static str, text: &str) -> ! {
    let in_driver = context::in_driver();
    let _kernel = context::KernelMode::enter();
    let text = format!("{text}, on {}", describe());
    if in_driver {
        verifier::bugcheck(rule, text);
    }
    verifier::abort(rule, &text);
}

/// If an access to that address means that this kernel thread has used up its stack, does not return.
pub(crate) fn check_overflow(address: usize) {
    let Some(thread) = current() else { return };
    // SAFETY: the running thread is kept by the world.
    if unsafe { &*thread }.stack.overflows_to(address) {
        give_up(rules::STACK_OVERFLOW, "the stack is used up");
    }
}

/// Called in a signal handler that interrupted this kernel thread because it has run for so long.
pub(super) fn lost() -> ! {
    give_up(
        rules::HANG,
        "code runs and runs without giving the processor back (NTSIM_WATCHDOG sets for how many seconds it may, 0 for ever)",
    );
}

/// The bottom frame of every kernel thread: runs jobs for ever.
extern "sysv64" fn main() -> ! {
    loop {
        let thread = current().expect("entered through resume");
        // SAFETY: the running thread is kept by the world.
        let thread = unsafe { &*thread };
        let job = thread.job.take();
        thread.jobs.set(thread.jobs.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(|| match job {
            // SAFETY: whoever set the job keeps `data` until the thread is idle again, or never resumes it.
            Some(Job::Borrowed(call, data)) => unsafe { call(data) },
            Some(Job::Owned(job)) => job(),
            None => {}
        }));
        if let Err(panic) = result {
            thread.panic.set(Some(panic));
        }
        if !thread.stack.is_painted() {
            too_deep(thread);
        }
        thread.state.set(State::Idle);
        to_host(thread);
    }
}

#[cold]
#[inline(never)]
fn too_deep(thread: &Thread) {
    thread.stack.paint();
    verifier::violation(
        rules::STACK_DEPTH,
        format!(
            "more than {} KiB of stack were used on {}",
            STACK_LIMIT >> 10,
            describe()
        ),
    );
}

/// Gives the processor back to the host's loop.
fn to_host(thread: &Thread) {
    let host = context::with(|c| {
        // SAFETY: a thread runs, so the world exists.
        unsafe { &*c.core.get() }.host_sp.get()
    });
    context::with(|c| thread.processor.set(c.processor.get()));
    // SAFETY: the host saved its stack pointer when it resumed this thread and has not run since.
    unsafe { fiber::switch(thread.sp.as_ptr(), host) };
}

impl Core {
    fn idle_thread(&self) -> Rc<Thread> {
        let idle = self.idle_threads.borrow_mut().pop();
        idle.unwrap_or_else(|| {
            let number = self.thread_count.get() + 1;
            self.thread_count.set(number);
            Thread::new(number)
        })
    }

    /// Runs a thread until it has nothing to do or blocks. Host only.
    fn resume(&self, thread: &Rc<Thread>) {
        assert!(!on_thread(), "threads are resumed from the host's stack");
        let (machine, processor, in_driver, driver) = context::with(|c| {
            c.thread.set(Rc::as_ptr(thread));
            (
                c.machine.replace(thread.machine.get()),
                c.processor.replace(thread.processor.get()),
                c.in_driver.replace(false),
                c.driver.replace(thread.driver.get()),
            )
        });
        thread.state.set(State::Running);
        self.watchdog.turn();
        // SAFETY: the thread's stack pointer is from its creation or its last switch, and it is not running.
        unsafe { fiber::switch(self.host_sp.as_ptr(), thread.sp.get()) };
        self.watchdog.turn();
        context::with(|c| {
            c.thread.set(std::ptr::null());
            c.machine.set(machine);
            c.processor.set(processor);
            c.in_driver.set(in_driver);
            thread.driver.set(c.driver.replace(driver));
        });
        if thread.state.get() == State::Idle {
            self.idle_threads.borrow_mut().push(Rc::clone(thread));
            if let Some(panic) = thread.panic.take() {
                resume_unwind(panic);
            }
        } else if thread.state.get() == State::Ended {
            self.threads.borrow_mut().retain(|t| !Rc::ptr_eq(t, thread));
        } else {
            self.keep(thread);
        }
        // Whoever spun for a lock of this thread is not left in the middle of something.
        if !self.stopped.get() {
            self.continue_released();
        }
    }

    /// Keeps a thread that is not idle for as long as the world lives: its stack has frames on it.
    fn keep(&self, thread: &Rc<Thread>) {
        let mut all = self.threads.borrow_mut();
        if !all.iter().any(|t| Rc::ptr_eq(t, thread)) {
            all.push(Rc::clone(thread));
        }
    }

    fn assign(&self, job: Job) -> Rc<Thread> {
        let thread = self.idle_thread();
        context::with(|c| {
            thread.machine.set(c.machine.get());
            thread.processor.set(c.processor.get());
            thread.driver.set(c.driver.get());
        });
        thread.job.set(Some(job));
        thread
    }

    /// Runs a thread of another processor while the one that runs here stays where it is, until it has nothing to do or
    /// blocks. Kernel threads only.
    fn resume_beside(&self, thread: &Rc<Thread>) {
        let (here, in_driver, driver) =
            context::with(|c| (c.thread.get(), c.in_driver.get(), c.driver.get()));
        let (machine, processor) = context::with(|c| {
            c.thread.set(Rc::as_ptr(thread));
            c.in_driver.set(false);
            c.driver.set(thread.driver.get());
            (
                c.machine.replace(thread.machine.get()),
                c.processor.replace(thread.processor.get()),
            )
        });
        thread.state.set(State::Running);
        // It comes back here, as if this were the host.
        let host = self.host_sp.get();
        // SAFETY: as in `resume`; this thread's stack pointer takes the host's place until it runs again.
        unsafe { fiber::switch(self.host_sp.as_ptr(), thread.sp.get()) };
        self.host_sp.set(host);
        context::with(|c| {
            thread.driver.set(c.driver.replace(driver));
            c.thread.set(here);
            c.machine.set(machine);
            c.processor.set(processor);
            c.in_driver.set(in_driver);
        });
        if thread.state.get() == State::Idle {
            self.idle_threads.borrow_mut().push(Rc::clone(thread));
            if let Some(panic) = thread.panic.take() {
                resume_unwind(panic);
            }
        } else {
            self.keep(thread);
        }
        if self.stopped.get() {
            abandon();
        }
    }

    /// Runs a job of the current processor beside the code that runs here, which is another's.
    pub(crate) fn run_beside(&self, job: Box<dyn FnOnce()>) {
        let thread = self.assign(Job::Owned(job));
        self.resume_beside(&thread);
    }

    /// Lets those go on whose locks were released.
    pub(crate) fn continue_released(&self) {
        loop {
            let Some(thread) = self.released.borrow_mut().pop_front() else {
                return;
            };
            if on_thread() {
                self.resume_beside(&thread);
            } else {
                self.resume(&thread);
            }
        }
    }

    /// Starts a thread on the current machine and processor. It runs at once, until it blocks or ends.
    pub(crate) fn spawn(&self, job: Box<dyn FnOnce()>) {
        let thread = self.assign(Job::Owned(job));
        self.resume(&thread);
    }
}

/// Runs `f` on a kernel thread: on this one if it is one, otherwise on one of its own, running the world until it
/// is done. Ends the run (panics) if it can never be done.
pub(crate) fn on_kernel_stack<R>(f: impl FnOnce() -> R) -> R {
    if on_thread() {
        return f();
    }
    struct Frame<F, R> {
        f: Option<F>,
        result: Option<R>,
    }
    unsafe fn call<F: FnOnce() -> R, R>(data: *mut c_void) {
        // SAFETY: `data` is the frame below, which its owner does not touch while the thread runs.
        let frame = unsafe { &mut *data.cast::<Frame<F, R>>() };
        if let Some(f) = frame.f.take() {
            frame.result = Some(f());
        }
    }
    fn job<F: FnOnce() -> R, R>(frame: *mut Frame<F, R>) -> Job {
        Job::Borrowed(call::<F, R>, frame.cast())
    }
    let core = context::core();
    core.check_running();
    core.not_spinning();
    let mut frame = Frame {
        f: Some(f),
        result: None,
    };
    let lent = &raw mut frame;
    let thread = core.assign(job(lent));
    core.resume(&thread);
    while thread.state.get() == State::Blocked {
        if !core.step(u64::MAX) {
            if !core.stopped.get() {
                core.report_deadlock();
            }
            break;
        }
        core.check_wait_horizon();
    }
    // SAFETY: the thread is idle, or will never run again: the frame is ours. Read through the pointer that was
    // lent out.
    let result = unsafe { (*lent).result.take() };
    match result {
        Some(result) => result,
        None => core.unwind_stopped(),
    }
}

/// The number of the kernel thread that runs; 0 for the host.
pub(crate) fn number() -> usize {
    current().map_or(0, |thread| {
        // SAFETY: the running thread is kept by the world.
        unsafe { (*thread).number }
    })
}

/// A thread is to be preempted in driver code, and to stay so until it is released.
pub(crate) struct Hold {
    /// Number of the thread; 0 before it is known.
    thread: Cell<usize>,
    /// Returns to driver code at PASSIVE_LEVEL to let pass before.
    left: Cell<u32>,
    held: Cell<bool>,
    released: Cell<bool>,
}

impl Hold {
    /// For a thread that arms it, after so many returns.
    pub(crate) fn after(returns: u32) -> Rc<Self> {
        Rc::new(Self {
            thread: Cell::new(0),
            left: Cell::new(returns),
            held: Cell::new(false),
            released: Cell::new(false),
        })
    }

    /// Begins to count, for the thread that runs.
    pub(crate) fn arm(self: &Rc<Self>) {
        self.thread.set(number());
        let core = context::core();
        *core.hold.borrow_mut() = Some(Rc::clone(self));
        core.meddles.set(true);
    }

    /// Ends counting: the thread has done what it was to be held in.
    pub(crate) fn disarm(self: &Rc<Self>) {
        let core = context::core();
        core.hold
            .borrow_mut()
            .take_if(|hold| Rc::ptr_eq(hold, self));
        core.meddles
            .set(core.interleave != 0 || core.hold.borrow().is_some());
    }

    /// The thread is being held.
    pub(crate) fn is_held(&self) -> bool {
        self.held.get()
    }

    /// The thread may go on, or need not be held.
    pub(crate) fn release(&self) {
        self.released.set(true);
    }
}

impl Core {
    /// Preempts the thread that runs if that is wanted here.
    pub(super) fn maybe_hold(&self) {
        let Some(hold) = self.hold.borrow().clone() else {
            return;
        };
        if hold.thread.get() != number() || context::with_processor(|p| p.irql() > 0) {
            return;
        }
        if !hold.released.get()
            && let Some(left) = hold.left.get().checked_sub(1)
        {
            hold.left.set(left);
            return;
        }
        hold.disarm();
        hold.held.set(true);
        wait_until(|| hold.released.get(), None, "preempted by the test");
        hold.held.set(false);
    }
}

/// A thread that spins.
pub(crate) struct Spin {
    lock: usize,
    thread: Rc<Thread>,
    /// The function that acquires.
    by: &'static str,
    since: u64,
}

/// A spin that lasts so many nanoseconds will not end.
const LONGEST_SPIN: u64 = 1_000_000_000;

/// Spins for a lock that another processor's code holds: lets that go on until the lock may be free.
pub(crate) fn spin(lock: usize, by: &'static str) {
    let Some(thread) = current() else {
        panic!("{by}: the lock at {lock:#x} is held by code that does not run");
    };
    let core = context::core();
    // SAFETY: made by `Rc::as_ptr` from an `Rc` that the resumer holds.
    let thread = unsafe {
        Rc::increment_strong_count(thread);
        Rc::from_raw(thread)
    };
    thread.state.set(State::Blocked);
    let spin = Spin {
        lock,
        thread: Rc::clone(&thread),
        by,
        since: core.now(),
    };
    core.spinning.borrow_mut().push(spin);
    to_host(&thread);
}

/// A spin lock was released: who spins for it can go on.
#[inline]
pub(crate) fn released(lock: usize) {
    context::with(|c| {
        // SAFETY: null or kept by the world while it is in the context.
        let core = unsafe { c.core.get().as_ref() };
        // Without interleaving, nobody runs beside who holds a lock.
        if let Some(core) = core.filter(|core| core.interleave != 0) {
            let mut spinning = core.spinning.borrow_mut();
            if let Some(index) = spinning.iter().position(|s| s.lock == lock) {
                let spin = spinning.remove(index);
                core.released.borrow_mut().push_back(spin.thread);
            }
        }
    });
}

/// A wait in progress.
pub(crate) struct Wait {
    pub(crate) what: WaitFor,
    outcome: Cell<Option<Outcome>>,
    thread: Option<Rc<Thread>>,
    since: u64,
    forever: bool,
    machine: *const Machine,
    story: String,
}

/// What a wait is for.
pub(crate) enum WaitFor {
    /// Address of a dispatcher object; satisfied when it is signalled.
    Object(usize),
    /// Satisfied when it holds; looked at after each step of the world.
    Condition(*const dyn Fn() -> bool),
    /// Only the deadline ends it.
    Time,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Satisfied,
    TimedOut,
}

/// Waits, letting the world go on. `deadline` is a time of the world's clock; None waits for ever. The caller has
/// found that the wait is not satisfied yet.
pub(crate) fn block(what: WaitFor, deadline: Option<u64>, story: String) -> Outcome {
    let core = context::core();
    let (irql, held) = context::with_processor(|p| (p.irql(), p.locks.len()));
    if irql >= DISPATCH {
        verifier::bugcheck(
            rules::WAIT_AT_DISPATCH,
            format!("waits at IRQL {irql}: {story}"),
        );
    }
    if held > 0 {
        verifier::bugcheck(
            rules::WAIT_WITH_LOCK,
            format!("waits while holding {held} spin lock(s): {story}"),
        );
    }
    let thread = current().map(|thread| {
        // SAFETY: made by `Rc::as_ptr` from an `Rc` that the resumer holds.
        unsafe {
            Rc::increment_strong_count(thread);
            Rc::from_raw(thread)
        }
    });
    let wait = Rc::new(Wait {
        what,
        outcome: Cell::new(None),
        thread,
        since: core.now(),
        forever: deadline.is_none(),
        machine: context::with(|c| c.machine.get()),
        story,
    });
    core.waits.borrow_mut().push(Rc::clone(&wait));
    let timeout = deadline.map(|at| {
        let (core, wait) = (Rc::downgrade(&core), Rc::clone(&wait));
        core.upgrade().map(|c| {
            c.push_event(
                at,
                Event::Once(Box::new(move || {
                    if let Some(core) = core.upgrade() {
                        core.satisfy(&wait, Outcome::TimedOut);
                    }
                })),
            )
        })
    });
    let outcome = core.wait_until_satisfied(&wait);
    if let Some(Some(id)) = timeout
        && outcome != Outcome::TimedOut
    {
        core.cancel(id);
    }
    context::with_processor(|p| p.set_irql(irql));
    outcome
}

impl Core {
    fn wait_until_satisfied(&self, wait: &Rc<Wait>) -> Outcome {
        if let Some(thread) = &wait.thread {
            context::with_processor(|p| p.lower_irql(0));
            while wait.outcome.get().is_none() {
                thread.state.set(State::Blocked);
                to_host(thread);
            }
        } else {
            context::with_processor(|p| p.lower_irql(0));
            while wait.outcome.get().is_none() {
                if !self.step(u64::MAX) {
                    if !self.stopped.get() {
                        self.report_deadlock();
                    }
                    self.unwind_stopped();
                }
                self.check_wait_horizon();
            }
        }
        wait.outcome.get().unwrap_or(Outcome::TimedOut)
    }

    /// Ends a wait: its thread becomes ready.
    fn satisfy(&self, wait: &Rc<Wait>, outcome: Outcome) {
        if wait.outcome.get().is_some() {
            return;
        }
        wait.outcome.set(Some(outcome));
        self.waits.borrow_mut().retain(|w| !Rc::ptr_eq(w, wait));
        if let Some(thread) = &wait.thread {
            self.ready.borrow_mut().push_back(Rc::clone(thread));
        }
    }

    /// Ends waits for an object that was signalled. `take()` takes its signal for one wait, if there is still one.
    pub(crate) fn signalled(&self, object: usize, take: &dyn Fn() -> bool) {
        if self.waits.borrow().is_empty() {
            return;
        }
        let waits: Vec<_> = self
            .waits
            .borrow()
            .iter()
            .filter(|w| matches!(w.what, WaitFor::Object(o) if o == object))
            .map(Rc::clone)
            .collect();
        for wait in waits {
            if !take() {
                break;
            }
            self.satisfy(&wait, Outcome::Satisfied);
        }
    }

    /// Ends waits whose conditions hold now.
    pub(crate) fn check_conditions(&self) {
        let waits: Vec<_> = self
            .waits
            .borrow()
            .iter()
            .filter(|w| matches!(w.what, WaitFor::Condition(_)))
            .map(Rc::clone)
            .collect();
        for wait in waits {
            if let WaitFor::Condition(condition) = wait.what {
                // SAFETY: the closure lives in the frame of `wait_until`, which stays until the wait is over.
                if unsafe { (*condition)() } {
                    self.satisfy(&wait, Outcome::Satisfied);
                }
            }
        }
    }

    /// Resumes the first ready thread.
    pub(crate) fn run_ready(&self) -> bool {
        let Some(thread) = self.ready.borrow_mut().pop_front() else {
            return false;
        };
        self.resume(&thread);
        true
    }

    /// Whether somebody waits for an object in that memory: for rules about memory that is freed.
    pub(crate) fn find_wait(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        let waits = self.waits.borrow();
        waits.iter().find_map(|w| match &w.what {
            WaitFor::Object(object) if f(*object) => Some(*object),
            _ => None,
        })
    }

    fn waits_story(&self) -> String {
        let waits = self.waits.borrow();
        let mut story = String::new();
        for wait in waits.iter() {
            // SAFETY: machines live as long as the world.
            let machine = unsafe { wait.machine.as_ref() };
            story.push_str(&format!(
                "\n  on {}: {}, since {} ns",
                machine.map_or("the host", |m| m.name.as_str()),
                wait.story,
                wait.since
            ));
        }
        for close in crate::ndk::pending_closes() {
            story.push_str("\n  ");
            story.push_str(&close);
        }
        for queue in crate::ndk::deaf_queues() {
            story.push_str("\n  ");
            story.push_str(&queue);
        }
        for spin in self.spinning.borrow().iter() {
            story.push_str(&format!(
                "\n  kernel thread {} spins in {} for the lock at {:#x}",
                spin.thread.number, spin.by, spin.lock
            ));
        }
        story
    }

    fn report_deadlock(&self) {
        let story = self.waits_story();
        verifier::violation(
            rules::DEADLOCK,
            format!("nothing is left in the world that could end these waits:{story}"),
        );
        self.stop();
    }

    /// An endless wait that lasts longer than any sensible operation is a deadlock too, even if timers still tick.
    fn check_wait_horizon(&self) {
        let now = self.now();
        let stuck = self
            .waits
            .borrow()
            .iter()
            .any(|w| w.forever && now.saturating_sub(w.since) > self.wait_horizon)
            || self
                .spinning
                .borrow()
                .iter()
                .any(|s| now.saturating_sub(s.since) > LONGEST_SPIN);
        if stuck && !self.stopped.get() {
            let story = self.waits_story();
            verifier::violation(
                rules::DEADLOCK,
                format!("waits or spins have lasted too long:{story}"),
            );
            self.stop();
        }
    }

    /// Forgets all waits: their threads are never resumed.
    pub(crate) fn abandon_threads(&self) {
        self.waits.borrow_mut().clear();
        self.ready.borrow_mut().clear();
        self.spinning.borrow_mut().clear();
        self.released.borrow_mut().clear();
    }

    /// Gives back what machines and threads hold of the system: the world is gone. What lies on the stacks of threads
    /// that never came to an end is not dropped, and it may hold references to all of it.
    pub(super) fn release(&self) {
        let threads = std::mem::take(&mut *self.threads.borrow_mut());
        let stranded = |t: &Rc<Thread>| t.state.get() != State::Idle;
        let machines = std::mem::take(&mut *self.machines.borrow_mut());
        if threads.iter().any(stranded) {
            machines.iter().for_each(|m| m.release());
        }
        for thread in threads.iter().filter(|t| stranded(t)) {
            // SAFETY: no thread runs any more, and nobody is left who knew what is on its stack.
            unsafe { thread.stack.release() };
        }
        self.idle_threads.borrow_mut().clear();
    }
}

/// Leaves the current kernel thread where it is, for good, and goes back to the host. Its stack stays until the world
/// is gone: others may look at what lies there.
pub(crate) fn abandon() -> ! {
    leave(State::Abandoned)
}

/// Ends the current kernel thread in the middle of its job, and goes back to the host. Nothing on its stack is dropped,
/// and the stack is unmapped.
pub(crate) fn exit() -> ! {
    leave(State::Ended)
}

fn leave(state: State) -> ! {
    let thread = current().expect("only kernel threads are left");
    // SAFETY: the running thread is kept by the world.
    let thread = unsafe { &*thread };
    thread.state.set(state);
    to_host(thread);
    unreachable!("a thread that was left was resumed")
}

/// Waits until a condition holds, letting the world go on; false if the deadline passes first. For the simulator's
/// own PASSIVE_LEVEL code, on kernel threads and on the host.
///
/// The condition holds when this returns true, however many wait for it: what it says is free, the caller may take.
pub(crate) fn wait_until(
    condition: impl Fn() -> bool,
    deadline: Option<u64>,
    story: impl Into<String>,
) -> bool {
    if condition() {
        return true;
    }
    let story = story.into();
    let condition: &dyn Fn() -> bool = &condition;
    // SAFETY: only extends the lifetime: the pointer is used by the wait alone, which ends before this returns (or
    // is forgotten together with this frame).
    let lent: *const (dyn Fn() -> bool + 'static) = unsafe {
        std::mem::transmute::<*const (dyn Fn() -> bool + '_), *const (dyn Fn() -> bool + 'static)>(
            condition,
        )
    };
    loop {
        match block(WaitFor::Condition(lent), deadline, story.clone()) {
            Outcome::TimedOut => return condition(),
            // All who wait for it are woken, one after the other: those before may have made it false again.
            Outcome::Satisfied if condition() => return true,
            Outcome::Satisfied => {}
        }
    }
}

/// Waits until a time of the world's clock.
pub(crate) fn sleep_until(at: u64) {
    block(WaitFor::Time, Some(at), format!("sleeps until {at} ns"));
}

/// What must be as it was when driver code returns to the kernel.
struct Entry {
    function: &'static Function,
    in_driver: bool,
    irql: u8,
    locks: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        context::with(|c| c.in_driver.set(self.in_driver));
        if std::thread::panicking() {
            return;
        }
        context::with_processor(|p| {
            if p.irql() != self.irql {
                verifier::violation(
                    rules::IRQL_AT_RETURN,
                    format!(
                        "{} was called at IRQL {} and returned at IRQL {}",
                        self.function.name,
                        self.irql,
                        p.irql()
                    ),
                );
                p.lower_irql(self.irql);
            }
            if p.locks.len() != self.locks {
                verifier::violation(
                    rules::LOCK_AT_RETURN,
                    format!(
                        "{} returned with {} spin lock(s) held, {} when it was called",
                        self.function.name,
                        p.locks.len(),
                        self.locks
                    ),
                );
                let order = &context::core().verifier.lock_order;
                for held in p.locks.iter().skip(self.locks) {
                    order.leave(held.lock, self.function.name);
                }
                p.locks.truncate(self.locks);
            }
        });
    }
}

/// Calls into driver code. EVERY call into a driver goes through here: allocations are charged to the driver until
/// it returns or calls the kernel, and it must return at the IRQL, and with the locks, it was called with.
/// `function` names the handler or callback in reports and its IRQL requirement towards us, the caller.
#[inline]
pub(crate) fn call_driver<R>(function: &'static Function, f: impl FnOnce() -> R) -> R {
    on_kernel_stack(|| {
        verifier::entering_driver(function);
        run_driver(function, f)
    })
}

/// As [`call_driver`], and the history shows where the call returns too.
#[inline]
pub(crate) fn call_driver_told<R>(function: &'static Function, f: impl FnOnce() -> R) -> R {
    on_kernel_stack(|| {
        let _told = Told::entering_driver(function);
        run_driver(function, f)
    })
}

#[inline(always)]
fn run_driver<R>(function: &'static Function, f: impl FnOnce() -> R) -> R {
    let (irql, locks) = context::with_processor(|p| (p.irql(), p.locks.len()));
    let _entry = Entry {
        function,
        in_driver: context::with(|c| c.in_driver.replace(true)),
        irql,
        locks,
    };
    f()
}
