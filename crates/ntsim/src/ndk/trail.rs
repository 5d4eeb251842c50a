//! The last calls between consumers and providers, in both directions: what a report shows of them.

use std::cell::Cell;
use std::fmt;

use ndkpi::NTSTATUS;

use super::object::{Kind, Object, layer_if_any, with_layer};
use crate::consumer::Status;
use crate::verifier::{At, Function, place};
use crate::world::Core;

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
            Answer::Open => write!(f, ", which has not returned")?,
            Answer::Nothing => {}
            Answer::Status(status) => write!(f, ": {}", Status(status))?,
            Answer::Number(number) => write!(f, ": {number}")?,
        }
        if self.times > 1 {
            write!(f, " ({} times)", self.times)?;
        }
        Ok(())
    }
}

/// A ring of calls. Written on every call, read when a rule is broken.
#[derive(Default)]
pub(super) struct Trail {
    steps: [Cell<Option<Step>>; LENGTH],
    /// Steps so far.
    next: Cell<usize>,
}

impl Trail {
    /// A step begins; its number.
    fn push(&self, step: Step) -> usize {
        let number = self.next.get();
        self.steps[number % LENGTH].set(Some(step));
        self.next.set(number + 1);
        number
    }

    /// The step of that number has returned.
    fn returns(&self, number: usize, answer: Answer) {
        let next = self.next.get();
        if next - number > LENGTH {
            return;
        }
        let cell = &self.steps[number % LENGTH];
        let Some(mut step) = cell.get() else {
            return;
        };
        step.answer = answer;
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
    let number = with_layer(|l| l.trail.push(step(object, function, None)));
    let result = f();
    with_layer(|l| l.trail.returns(number, result.answer()));
    result
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
    with_layer(|l| l.trail.push(step));
}

/// The last calls, oldest first.
pub(crate) fn last_calls(core: &Core) -> Vec<String> {
    layer_if_any(|layer| {
        let steps = layer.trail.last();
        steps
            .map(|step| {
                format!(
                    "{:>12} ns  {} cpu {} irql {:>2} {step}",
                    step.at.time,
                    core.name_of(step.at.machine),
                    step.at.processor,
                    step.at.irql
                )
            })
            .collect()
    })
    .unwrap_or_default()
}
