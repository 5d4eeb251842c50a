//! Callbacks that providers make.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::*;

use super::object::{Kind, Object, Provider, State, with_layer};
use super::rules;
use super::slab::Handle;
use crate::verifier::{Crossing, Function, Told, violation};
use crate::world::context;
use crate::world::driver::{Charged, DriverNumber};
use crate::world::driver_call::call_driver_told;

/// A callback from a provider. The history shows both that the provider made it and that the consumer was told, and
/// both again when they return.
pub(super) struct Callback {
    pub(super) function: &'static Function,
    _told: Told,
    _crossing: Crossing,
}

impl Callback {
    /// Begins a callback: checks the IRQL.
    #[inline]
    pub(super) fn enter(function: &'static Function) -> Callback {
        let (told, crossing) = Told::cross(function);
        Callback {
            function,
            _told: told,
            _crossing: crossing,
        }
    }

    /// What every callback must obey. False if it must not be passed on.
    pub(super) fn check(&self, object: &Object) -> bool {
        let name = self.function.name;
        let provider = &object.provider;
        if context::machine().id != provider.machine {
            violation(
                rules::CALLBACK_CONTEXT,
                format!("{name} is called for {object} on another machine than that"),
            );
            return false;
        }
        context::with_processor(|p| {
            for held in p.locks.iter().skip(provider.locks(p).get()) {
                violation(
                    rules::CALLBACK_WITH_LOCK,
                    format!(
                        "{name} is called for {object} while the provider holds a spin lock that it acquired with {}",
                        held.by
                    ),
                );
            }
        });
        if object.state.get() == State::Closed {
            violation(
                rules::CALLBACK_AFTER_CLOSE,
                format!("{name} is called for {object}, which is closed"),
            );
            return false;
        }
        // While it is being closed, its memory may be gone already.
        if object.state.get() == State::Open {
            object.check_header();
        }
        true
    }

    /// The object whose handle was given as the context of an event callback.
    pub(super) fn object(&self, context: *mut c_void, kind: Kind) -> Option<Rc<Object>> {
        let found =
            with_layer(|l| l.objects.get(Handle::from_context(context))).filter(|o| o.kind == kind);
        if found.is_none() {
            violation(
                rules::CALLBACK_CONTEXT,
                format!(
                    "{} is called with context {context:p}, which was not given with it",
                    self.function.name
                ),
            );
        }
        found.filter(|o| self.check(o))
    }

    /// Calls the consumer's function `target`, which is told of something on a provider's object.
    #[inline]
    pub(super) fn pass_on(
        &self,
        provider: &Provider,
        consumer: DriverNumber,
        target: *const (),
        f: impl FnOnce(),
    ) {
        let _charged = Charged::to(consumer);
        let _telling = Telling::of(provider);
        call_driver_told(self.function, target, f);
    }
}

/// A consumer's callback runs until this is dropped.
struct Telling<'a>(&'a Cell<u32>);

impl Telling<'_> {
    fn of(provider: &Provider) -> Telling<'_> {
        provider.telling.update(|n| n + 1);
        Telling(&provider.telling)
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.0.update(|n| n - 1);
    }
}
