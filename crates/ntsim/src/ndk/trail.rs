//! The last calls between consumers and providers, in both directions: what a report shows of them.

use std::cell::{Cell, RefCell};
use std::fmt;

use ndkpi::NTSTATUS;
use ndkpi::status::{STATUS_BUFFER_TOO_SMALL, STATUS_PENDING, STATUS_SUCCESS};

use super::object::{Kind, Object, layer_if_any, with_layer};
use crate::consumer::Status;
use crate::trace;
use crate::verifier::{At, Function, place};
use crate::world::processor::{DISPATCH, PASSIVE};
use crate::world::{Core, MachineId, World, context};

/// How many are remembered.
const LENGTH: usize = 16;

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has not returned.
    Open,
    /// It returned nothing.
    Nothing,
    /// It returned a status, or was called with one.
    Status(NTSTATUS),
    /// It returned a number: of results, or a token.
    Number(u32),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Open => f.write_str("which has not returned"),
            Answer::Nothing => f.write_str("returned"),
            Answer::Status(status) => write!(f, "{}", Status(*status)),
            Answer::Number(number) => write!(f, "{number}"),
        }
    }
}

/// What functions of a provider return.
pub(super) trait Returned {
    fn answer(&self) -> Answer;
}

impl Returned for () {
    fn answer(&self) -> Answer {
        Answer::Nothing
    }
}

impl Returned for NTSTATUS {
    fn answer(&self) -> Answer {
        Answer::Status(*self)
    }
}

impl Returned for u32 {
    fn answer(&self) -> Answer {
        Answer::Number(*self)
    }
}

/// One call, or several in a row that are the same.
#[derive(Clone, Copy)]
struct Step {
    at: At,
    function: &'static Function,
    /// Of a completion callback, what is complete.
    of: Option<&'static Function>,
    /// The provider calls the consumer.
    told: bool,
    kind: Kind,
    object: u32,
    answer: Answer,
    times: u32,
}

impl Step {
    /// Whether nothing but the time tells them apart.
    fn repeats(&self, before: &Step) -> bool {
        std::ptr::eq(self.function, before.function)
            && self.of.map(std::ptr::from_ref) == before.of.map(std::ptr::from_ref)
            && (self.kind, self.object, self.answer) == (before.kind, before.object, before.answer)
            && (self.at.machine, self.at.processor, self.at.irql)
                == (before.at.machine, before.at.processor, before.at.irql)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.told { "told: " } else { "" };
        write!(f, "{way}{}", self.function.name)?;
        if let Some(of) = self.of {
            write!(f, " of {}", of.name)?;
        }
        write!(f, " on {} {}", self.kind.name(), self.object)?;
        match self.answer {
            Answer::Nothing => {}
            Answer::Open => write!(f, ", {}", self.answer)?,
            _ => write!(f, ": {}", self.answer)?,
        }
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        Ok(())
    }
}

impl Step {
    /// Whether it tells of a failure. That a buffer is too small is how one asks for its size.
    fn failed(&self) -> bool {
        match self.answer {
            Answer::Status(status) => !matches!(
                status,
                STATUS_SUCCESS | STATUS_PENDING | STATUS_BUFFER_TOO_SMALL
            ),
            _ => false,
        }
    }

    /// Writes it into the trace of the world, if there is one.
    fn trace(&self, object: &Object) {
        trace::ndk_note(object.kind.name(), object.number(), || {
            (self.to_string(), self.failed())
        });
    }

    fn line(&self, core: &Core) -> String {
        format!(
            "{:>12} ns  {} cpu {} irql {:>2} {self}",
            self.at.time,
            core.name_of(self.at.machine),
            self.at.processor,
            self.at.irql
        )
    }
}

/// What consumers on one machine have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NdkUse {
    /// Calls through dispatch tables of NDK objects.
    pub calls: u64,
    /// Times that NdkAccept or NdkCompleteConnect succeeded.
    pub connections: u64,
}

/// A ring of calls. Written on every call, read when a rule is broken.
#[derive(Default)]
pub(super) struct Trail {
    steps: [Cell<Option<Step>>; LENGTH],
    /// Steps so far.
    next: Cell<usize>,
    /// The last that failed.
    failed: [Cell<Option<Step>>; LENGTH],
    /// How many have.
    failures: Cell<usize>,
    /// By number of the machine.
    uses: RefCell<Vec<NdkUse>>,
    /// All that have returned, if that was asked for, each with how many texts drivers had printed.
    all: RefCell<Option<Vec<(usize, Step)>>>,
}

impl Trail {
    /// A step begins; its number.
    fn push(&self, step: Step) -> usize {
        let number = self.next.get();
        self.steps[number % LENGTH].set(Some(step));
        self.next.set(number + 1);
        number
    }

    /// A step is over.
    fn over(&self, step: Step) {
        if step.failed() {
            let failures = self.failures.get();
            self.failed[failures % LENGTH].set(Some(step));
            self.failures.set(failures + 1);
        }
        if let Some(all) = &mut *self.all.borrow_mut() {
            all.push((context::core().debug_log.borrow().len(), step));
        }
    }

    /// Counts something that a machine's consumers do.
    fn count(&self, machine: u32, f: impl FnOnce(&mut NdkUse)) {
        let mut uses = self.uses.borrow_mut();
        let machine = machine as usize;
        if uses.len() <= machine {
            uses.resize(machine + 1, NdkUse::default());
        }
        f(&mut uses[machine]);
    }

    /// The step of that number has returned.
    fn returns(&self, number: usize, mut step: Step) {
        let next = self.next.get();
        if next - number > LENGTH {
            return;
        }
        let cell = &self.steps[number % LENGTH];
        cell.set(Some(step));
        // Whoever polls would push out everything else.
        let Some(last) = number.checked_sub(1).filter(|_| next == number + 1) else {
            return;
        };
        let before = &self.steps[last % LENGTH];
        if let Some(same) = before.get().filter(|before| step.repeats(before)) {
            step.times += same.times;
            before.set(Some(step));
            cell.set(None);
            self.next.set(number);
        }
    }

    fn last(&self) -> impl Iterator<Item = Step> + '_ {
        let next = self.next.get();
        (next.saturating_sub(LENGTH)..next).filter_map(|n| self.steps[n % LENGTH].get())
    }

    fn last_failed(&self) -> impl Iterator<Item = Step> + '_ {
        let next = self.failures.get();
        (next.saturating_sub(LENGTH)..next).filter_map(|n| self.failed[n % LENGTH].get())
    }
}

fn step(object: &Object, function: &'static Function, of: Option<&'static Function>) -> Step {
    Step {
        at: place(),
        function,
        of,
        told: false,
        kind: object.kind,
        object: object.number(),
        answer: Answer::Open,
        times: 1,
    }
}

/// A consumer calls a function on an object.
#[inline]
pub(super) fn call<R: Returned>(
    object: &Object,
    function: &'static Function,
    f: impl FnOnce() -> R,
) -> R {
    let mut step = step(object, function, None);
    let traced = trace::ndk(function, object.kind.name(), object.number());
    let number = with_layer(|l| {
        l.trail.count(step.at.machine, |uses| uses.calls += 1);
        l.trail.push(step)
    });
    let result = f();
    step.answer = result.answer();
    traced.answers(|| (step.answer.to_string(), step.failed()));
    with_layer(|l| {
        l.trail.over(step);
        l.trail.returns(number, step);
    });
    result
}

/// A connection of a consumer on the object's machine is established.
pub(super) fn connected(object: &Object) {
    let machine = object.provider.machine.0;
    with_layer(|l| l.trail.count(machine, |uses| uses.connections += 1));
}

/// A consumer has taken the result of a request that failed.
#[cold]
#[inline(never)]
pub(super) fn failed(queue_pair: &Object, status: NTSTATUS) {
    static RESULT: Function = Function::callback("a request's result", PASSIVE..=DISPATCH);
    let step = Step {
        answer: Answer::Status(status),
        ..step(queue_pair, &RESULT, None)
    };
    step.trace(queue_pair);
    with_layer(|l| l.trail.over(step));
}

/// A consumer is called back for an object: of a completion, `of` is complete.
pub(super) fn told(
    object: &Object,
    function: &'static Function,
    of: Option<&'static Function>,
    status: Option<NTSTATUS>,
) {
    let step = Step {
        told: true,
        answer: status.map_or(Answer::Nothing, Answer::Status),
        ..step(object, function, of)
    };
    step.trace(object);
    with_layer(|l| {
        l.trail.over(step);
        l.trail.push(step);
    });
}

/// The last calls, oldest first.
pub(crate) fn last_calls(core: &Core) -> Vec<String> {
    layer_if_any(|layer| {
        let steps = layer.trail.last();
        steps.map(|step| step.line(core)).collect()
    })
    .unwrap_or_default()
}

impl World {
    /// What NDK consumers on a machine have done so far.
    #[must_use]
    pub fn ndk_use(&self, machine: MachineId) -> NdkUse {
        layer_if_any(|layer| {
            let uses = layer.trail.uses.borrow();
            uses.get(machine.0 as usize).copied()
        })
        .flatten()
        .unwrap_or_default()
    }

    /// The last calls between NDK consumers and providers, in words, oldest first; polling that goes on is one line.
    #[must_use]
    pub fn last_ndk_calls(&self) -> Vec<String> {
        last_calls(&self.core)
    }

    /// The last of them that failed, requests whose results tell so included.
    #[must_use]
    pub fn failed_ndk_calls(&self) -> Vec<String> {
        layer_if_any(|layer| {
            let steps = layer.trail.last_failed();
            steps.map(|step| step.line(&self.core)).collect()
        })
        .unwrap_or_default()
    }

    /// Keeps all calls between NDK consumers and providers from now on, for [`World::ndk_trace`].
    pub fn trace_ndk(&mut self) {
        with_layer(|layer| *layer.trail.all.borrow_mut() = Some(Vec::new()));
    }

    /// Those kept since this was last asked, in words, in the order in which they returned; each with how many texts of
    /// [`World::debug_lines`] came before.
    pub fn ndk_trace(&mut self) -> Vec<(usize, String)> {
        let steps = layer_if_any(|layer| match &mut *layer.trail.all.borrow_mut() {
            Some(all) => std::mem::take(all),
            None => Vec::new(),
        });
        let steps = steps.unwrap_or_default().into_iter();
        steps
            .map(|(printed, step)| (printed, step.line(&self.core)))
            .collect()
    }
}
