//! Waiting at PASSIVE_LEVEL, and waits that can never end.

use std::cell::Cell;
use std::rc::Rc;

use super::context;
use super::event::Event;
use super::machine::Machine;
use super::overdue::Overdue;
use super::processor::DISPATCH;
use super::thread::{State, Thread, current, to_host};
use super::{Core, World};
use crate::verifier::{self, Origin, rules};

/// Code that looks at something again and again may do so for as many times the horizon of endless waits.
const IN_VAIN: u64 = 10;

/// A wait in progress.
pub(crate) struct Wait {
    pub(crate) what: WaitFor,
    outcome: Cell<Option<Outcome>>,
    thread: Option<Rc<Thread>>,
    since: u64,
    forever: bool,
    machine: *const Machine,
    story: String,
    pub(super) origin: Origin,
}

/// What a wait is for.
pub(crate) enum WaitFor {
    /// Address of a dispatcher object; satisfied when it is signalled.
    Object(usize),
    /// Satisfied when `take` takes what the wait is for. It is asked when one of the objects is signalled.
    Objects {
        /// Addresses of dispatcher objects.
        objects: Vec<usize>,
        /// Address of the array of wait blocks, which the kernel uses during the wait; zero if it has its own.
        blocks: usize,
        take: *const dyn Fn() -> bool,
    },
    /// Satisfied when it holds; looked at after each step of the world.
    Condition(*const dyn Fn() -> bool),
    /// Only the deadline ends it.
    Time,
}

impl Wait {
    /// Whether it is this thread's.
    pub(super) fn is_of(&self, thread: *const Thread) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|t| std::ptr::eq(&**t, thread))
    }

    /// Where it is called from, and what its objects are, as far as that is known.
    fn place(&self, core: &Core) -> String {
        let objects: &[usize] = match &self.what {
            WaitFor::Object(object) => std::slice::from_ref(object),
            WaitFor::Objects { objects, .. } => objects,
            WaitFor::Condition(_) | WaitFor::Time => &[],
        };
        let mut text = String::new();
        for object in objects {
            if let Some(name) = core.name(*object) {
                text += &format!("\n    {object:#x} is {name}");
            }
        }
        text + &self.origin.told("it waits in")
    }

    /// An object of that kind that this waits for.
    fn is_for(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        match &self.what {
            WaitFor::Object(object) if f(*object) => Some(*object),
            WaitFor::Objects {
                objects, blocks, ..
            } => objects.iter().chain([blocks]).copied().find(|o| f(*o)),
            _ => None,
        }
    }
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
        origin: Origin::looked_for(),
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

/// Forgets a wait of the host when it unwinds out of it.
struct Forgotten<'a> {
    core: &'a Core,
    wait: &'a Rc<Wait>,
}

impl Drop for Forgotten<'_> {
    fn drop(&mut self) {
        let mut waits = self.core.waits.borrow_mut();
        waits.retain(|w| !Rc::ptr_eq(w, self.wait));
    }
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
            // What the wait points to lies on this stack.
            let _forgotten = Forgotten { core: self, wait };
            while wait.outcome.get().is_none() {
                if !self.step(u64::MAX) {
                    if !self.stopped.get() {
                        self.report_deadlock();
                    }
                    self.unwind_stopped();
                }
                self.check_wait_horizon(None, wait.since);
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
            .filter(|w| w.is_for(|o| o == object).is_some())
            .map(Rc::clone)
            .collect();
        for wait in waits {
            match &wait.what {
                // SAFETY: the function lives in the frame of the wait, which stays until the wait is over.
                WaitFor::Objects { take, .. } if !unsafe { (**take)() } => continue,
                WaitFor::Object(_) if !take() => break,
                _ => self.satisfy(&wait, Outcome::Satisfied),
            }
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

    /// Whether somebody waits for an object in that memory: for rules about memory that is freed.
    pub(crate) fn find_wait(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        let waits = self.waits.borrow();
        waits.iter().find_map(|w| w.is_for(&f))
    }

    /// Who waits for what, and what NDK has under way.
    fn waiting(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for wait in self.waits.borrow().iter() {
            // SAFETY: machines live as long as the world.
            let machine = unsafe { wait.machine.as_ref() };
            lines.push(format!(
                "on {}: {}, since {} ns{}",
                machine.map_or("the host", |m| m.name.as_str()),
                wait.story,
                wait.since,
                wait.place(self)
            ));
        }
        lines.extend(crate::ndk::pending_calls());
        lines.extend(crate::ndk::pending_closes());
        lines.extend(crate::ndk::busy_queues());
        lines.extend(self.spinning.borrow().iter().map(ToString::to_string));
        lines
    }

    fn waits_story(&self) -> String {
        let lines = self.waiting().into_iter();
        lines.map(|line| format!("\n  {line}")).collect()
    }

    pub(super) fn report_deadlock(&self) {
        self.accuse_overdue(Overdue::Hopeless);
        self.give_up("nothing is left in the world that could end these waits");
    }

    /// Ends a world in which somebody waits in vain.
    pub(crate) fn give_up(&self, why: &str) {
        let story = self.waits_story();
        verifier::violation(rules::DEADLOCK, format!("{why}:{story}"));
        self.stop();
    }

    /// An endless wait that lasts longer than any sensible operation is a deadlock too, even if timers still tick: that of the
    /// thread which the host has driven since then, or of the host itself. Threads that wait for work may wait for ever.
    pub(super) fn check_wait_horizon(&self, driven: Option<&Rc<Thread>>, driven_since: u64) {
        let now = self.now();
        let longer = |since: u64, times: u64| {
            now.saturating_sub(since) > self.wait_horizon.saturating_mul(times)
        };
        // Whoever looks again and again with a timeout does not wait for ever, and yet may have somebody to wait for who does.
        let in_vain = longer(driven_since, IN_VAIN);
        let own = |w: &Wait| match (&w.thread, driven) {
            (Some(waits), Some(driven)) => Rc::ptr_eq(waits, driven),
            (None, None) => true,
            _ => false,
        };
        let endless = |w: &Rc<Wait>| w.forever && longer(w.since, 1) && (in_vain || own(w));
        let stuck = self.waits.borrow().iter().any(endless)
            || self
                .spinning
                .borrow()
                .iter()
                .any(|spin| spin.is_endless(now));
        if stuck && !self.stopped.get() {
            self.accuse_overdue(Overdue::Waited(self.wait_horizon));
            self.give_up("waits or spins have lasted too long");
        }
    }
}

impl World {
    /// Who waits for what, in words: kernel code, and what is pending or outstanding in NDK.
    #[must_use]
    pub fn waiting(&self) -> Vec<String> {
        self.core.waiting()
    }

    /// Whether a broken rule has stopped it for good.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.core.stopped.get()
    }
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
