//! Kernel threads: stacks on which driver code runs.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use super::Core;
use super::context;
use super::fiber::{self, STACK_LIMIT, Stack};
use super::machine::Machine;
use super::processor::Processor;
use crate::trace;
use crate::verifier::mutexes::Mutexes;
use crate::verifier::{self, rules};

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
    pub(super) number: usize,
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
    mutexes: Mutexes,
    /// What the kernel may still use and lies on the stack.
    objects: RefCell<Vec<usize>>,
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
            mutexes: Mutexes::default(),
            objects: RefCell::default(),
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

/// Runs `f` on what this kernel thread owns; None on the host's stack.
#[inline]
pub(crate) fn with_mutexes<R>(f: impl FnOnce(&Mutexes) -> R) -> Option<R> {
    // SAFETY: the running thread is kept by the world.
    current().map(|thread| f(unsafe { &(*thread).mutexes }))
}

/// Whether an address lies on the stack of this kernel thread.
pub(super) fn is_on_stack(address: usize) -> bool {
    // SAFETY: the running thread is kept by the world.
    current().is_some_and(|thread| unsafe { (*thread).stack.contains(address) })
}

/// Runs `f` on the objects on this kernel thread's stack; None on the host's.
pub(super) fn with_objects<R>(f: impl FnOnce(&RefCell<Vec<usize>>) -> R) -> Option<R> {
    // SAFETY: the running thread is kept by the world.
    current().map(|thread| f(unsafe { &(*thread).objects }))
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

/// If an access to that address means that this kernel thread has used up its stack, does not return. `who` names the code.
pub(crate) fn check_overflow(address: usize, who: impl FnOnce() -> String) {
    let Some(thread) = current() else { return };
    // SAFETY: the running thread is kept by the world.
    if unsafe { &*thread }.stack.overflows_to(address) {
        let text = format!(
            "the stack is used up by {} (on Windows a double fault: bug check 0x7f, first parameter 8)",
            who()
        );
        give_up(rules::STACK_OVERFLOW, &text);
    }
}

/// The word at an address, if that is on the stack of this kernel thread, and aligned.
pub(crate) fn stack_word(address: usize) -> Option<usize> {
    // SAFETY: the running thread is kept by the world.
    unsafe { &*current()? }.stack.word(address)
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
        context::with(|c| c.import.take());
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
pub(super) fn to_host(thread: &Thread) {
    // SAFETY: a thread runs, so the world exists.
    let core = unsafe { &*context::with(|c| c.core.get()) };
    let waits = thread.state.get() == State::Blocked;
    if waits || thread.state.get() != State::Idle {
        trace::leaves(core, waits);
    }
    let host = core.host_sp.get();
    let noted = context::with(|c| {
        thread.processor.set(c.processor.get());
        c.import.take()
    });
    // SAFETY: the host saved its stack pointer when it resumed this thread and has not run since.
    unsafe { fiber::switch(thread.sp.as_ptr(), host) };
    context::with(|c| c.import.put_back(noted));
    if waits {
        trace::goes_on(core);
    }
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
        trace::job(self, thread.number);
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
        let noted = context::with(|c| c.import.take());
        // SAFETY: as in `resume`; this thread's stack pointer takes the host's place until it runs again.
        unsafe { fiber::switch(self.host_sp.as_ptr(), thread.sp.get()) };
        self.host_sp.set(host);
        context::with(|c| {
            c.import.put_back(noted);
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

/// Stops the world if the host unwinds while a thread is in the middle of a job that lies on the host's stack: it could not go
/// on.
struct Unfinished<'a> {
    core: &'a Core,
    thread: &'a Rc<Thread>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.thread.state.get() == State::Blocked {
            self.core.stop();
        }
    }
}

/// Runs `f` on a kernel thread: on this one if it is one, otherwise on one of its own, running the world until it
/// is done. Ends the run (panics) if it can never be done.
pub(crate) fn on_kernel_stack<R>(f: impl FnOnce() -> R) -> R {
    if on_thread() {
        context::core().stop_if_condemned();
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
    let _guard = Unfinished {
        core: &core,
        thread: &thread,
    };
    let since = core.now();
    core.resume(&thread);
    while thread.state.get() == State::Blocked {
        if !core.step(u64::MAX) {
            if !core.stopped.get() {
                core.report_deadlock();
            }
            break;
        }
        core.check_wait_horizon(Some(&thread), since);
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

impl Core {
    /// Resumes the first ready thread, or that which the explorer takes for the first.
    pub(crate) fn run_ready(&self) -> bool {
        let thread = {
            let mut ready = self.ready.borrow_mut();
            let first = self.explorer.first(ready.iter().map(Rc::as_ref));
            ready.remove(first)
        };
        let Some(thread) = thread else { return false };
        self.resume(&thread);
        true
    }

    /// A fast mutex in that memory which a thread owns.
    pub(crate) fn find_mutex(&self, inside: impl Fn(usize) -> bool) -> Option<usize> {
        let threads = self.threads.borrow();
        let others = threads.iter().find_map(|t| t.mutexes.find_mutex(&inside));
        others.or_else(|| with_mutexes(|m| m.find_mutex(&inside)).flatten())
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
