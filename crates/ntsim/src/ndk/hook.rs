//! Functions that consumers call through hooked tables.
//!
//! A call goes through [`enter`], which finds the object, and [`Hook::call`], which enters the provider.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::object::{Kind, Object, Provider, State, find, with_layer};
use super::rules;
use super::trail::{self, Returned};
use crate::consumer::Status;
use crate::verifier::{Function, violation};
use crate::world::context::{self, KernelMode};
use crate::world::driver::{Charged, DriverNumber, UNNAMED};
use crate::world::driver_call::{NOT_ITS_OWN, call_driver};

/// A consumer's call of a hooked function.
pub(super) struct Hook {
    pub(super) object: Rc<Object>,
    /// Who calls.
    pub(super) consumer: DriverNumber,
    pub(super) function: &'static Function,
    _kernel: KernelMode,
}

/// Whoever runs; UNNAMED where the context does not tell, so that nobody else is taken for it.
pub(super) fn current_driver() -> DriverNumber {
    match context::with(|c| c.driver.get()) {
        0 => UNNAMED,
        number => number,
    }
}

/// Begins a consumer's call on the object at `header`. None, and an accusation, if it cannot be made.
#[inline]
pub(super) fn enter(
    header: *mut NDK_OBJECT_HEADER,
    kind: Kind,
    function: &'static Function,
) -> Option<Hook> {
    let from_driver = context::in_driver();
    let kernel = KernelMode::enter();
    let Some(object) = find(header) else {
        not_an_object(header, kind, function);
        return None;
    };
    if object.kind != kind || object.state.get() != State::Open {
        return wrong_object(&object, kind, function);
    }
    object.check_header();
    let consumer = current_driver();
    if from_driver && consumer == object.provider.driver {
        read_back(&object, function);
    }
    Some(Hook {
        object,
        consumer,
        function,
        _kernel: kernel,
    })
}

#[cold]
#[inline(never)]
fn not_an_object(header: *mut NDK_OBJECT_HEADER, kind: Kind, function: &Function) {
    match with_layer(|l| l.graves.story(header.addr())) {
        Some(was) => violation(
            rules::CONSUMER,
            format!("{} is called with {was}", function.name),
        ),
        None => violation(
            rules::CONSUMER_PARAMETER,
            format!(
                "{}: {header:p} is no {} (any more)",
                function.name,
                kind.name()
            ),
        ),
    }
}

#[cold]
#[inline(never)]
fn wrong_object(object: &Object, kind: Kind, function: &Function) -> Option<Hook> {
    if object.kind != kind {
        violation(
            rules::CONSUMER_PARAMETER,
            format!("{} is called on {object}", function.name),
        );
    } else {
        violation(
            rules::CONSUMER,
            format!(
                "{} is called on {object}, whose close was called before",
                function.name
            ),
        );
    }
    None
}

#[cold]
#[inline(never)]
fn read_back(object: &Object, function: &Function) {
    violation(
        rules::DISPATCH_READ,
        format!(
            "the provider calls {} through Dispatch of {object}",
            function.name
        ),
    );
}

/// The provider runs until this is dropped.
struct Inside<'a> {
    /// Of the provider on this processor, and what was there before.
    locks: (&'a Cell<usize>, usize),
    _charged: Charged,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let (locks, before) = self.locks;
        locks.set(before);
    }
}

/// Calls the function `target` of a provider.
#[inline]
pub(super) fn into_provider<R>(
    provider: &Provider,
    function: &'static Function,
    target: *const (),
    f: impl FnOnce() -> R,
) -> R {
    let locks = context::with_processor(|p| {
        let locks = provider.locks(p);
        (locks, locks.replace(p.locks.len()))
    });
    let _inside = Inside {
        locks,
        _charged: Charged::to(provider.driver),
    };
    call_driver(function, target, f)
}

impl Hook {
    /// Calls the provider's function.
    #[inline]
    pub(super) fn call<R: Returned>(&self, f: impl FnOnce() -> R) -> R {
        let result = trail::call(&self.object, self.function, || {
            // What tables have was looked up with the table.
            into_provider(&self.object.provider, self.function, NOT_ITS_OWN, f)
        });
        if self.object.state.get() == State::Open {
            self.object.check_header();
        }
        result
    }

    /// As [`Hook::call`], where the consumer gets what `answered` makes of what the provider returned.
    pub(super) fn call_and(
        &self,
        f: impl FnOnce() -> NTSTATUS,
        answered: impl FnOnce(NTSTATUS) -> NTSTATUS,
    ) -> NTSTATUS {
        let result = trail::call(&self.object, self.function, || {
            // As above.
            let provider = &self.object.provider;
            answered(into_provider(provider, self.function, NOT_ITS_OWN, f))
        });
        if self.object.state.get() == State::Open {
            self.object.check_header();
        }
        result
    }

    /// Calls a function of the provider that never pends.
    #[inline]
    pub(super) fn call_sync(&self, f: impl FnOnce() -> NTSTATUS) -> NTSTATUS {
        let status = self.call(f);
        if status == STATUS_PENDING {
            self.pended();
        }
        status
    }

    #[cold]
    #[inline(never)]
    fn pended(&self) {
        violation(
            rules::PENDING,
            format!(
                "{} on {} returned STATUS_PENDING",
                self.function.name, self.object
            ),
        );
    }

    /// Another object that the consumer passes. None, and an accusation, if it is no open one of that kind and adapter.
    pub(super) fn argument<T>(&self, object: *mut T, kind: Kind) -> Option<Rc<Object>> {
        let name = self.function.name;
        let Some(found) = find(object.cast()) else {
            not_an_object(object.cast(), kind, self.function);
            return None;
        };
        if found.kind != kind || !Rc::ptr_eq(&found.provider, &self.object.provider) {
            violation(
                rules::CONSUMER_PARAMETER,
                format!(
                    "{name} on {}: {found} is passed as {}",
                    self.object,
                    kind.name()
                ),
            );
            return None;
        }
        if found.state.get() != State::Open {
            violation(
                rules::CONSUMER,
                format!(
                    "{name} on {}: {found} is passed, whose close was called before",
                    self.object
                ),
            );
            return None;
        }
        found.check_header();
        Some(found)
    }

    /// Accuses the consumer of a null pointer. True if it is one.
    #[inline]
    pub(super) fn null<T>(&self, pointer: *const T, what: &str) -> bool {
        if pointer.is_null() {
            self.bad_parameter(&format!("{what} is null"));
        }
        pointer.is_null()
    }

    /// Accuses the consumer of what it passes.
    #[cold]
    #[inline(never)]
    pub(super) fn bad_parameter(&self, text: &str) {
        violation(
            rules::CONSUMER_PARAMETER,
            format!("{} on {}: {text}", self.function.name, self.object),
        );
    }

    /// Whether the function exists in the version of the interface that the consumer opened.
    pub(super) fn since(&self, version: NDK_VERSION) -> bool {
        let has = self.object.has(version);
        if !has {
            self.bad_parameter(&format!(
                "it exists since NDK {}.{}, the adapter was opened with an older version",
                version.Major, version.Minor
            ));
        }
        has
    }

    /// Calls a function that never pends and has a buffer whose length is passed in and out.
    ///
    /// # Safety
    /// `length` is null or valid.
    pub(super) unsafe fn with_length(
        &self,
        length: *mut u32,
        f: impl FnOnce(*mut u32) -> NTSTATUS,
    ) -> NTSTATUS {
        if self.null(length, "the length") {
            return STATUS_INVALID_PARAMETER;
        }
        // SAFETY: the caller's promise.
        let before = unsafe { length.read() };
        let status = self.call_sync(|| f(length));
        // SAFETY: the caller's promise.
        self.check_length(status, before, unsafe { length.read() });
        status
    }

    /// Checks a buffer length that the provider writes back: `before` is what the buffer has room for.
    pub(super) fn check_length(&self, status: NTSTATUS, before: u32, after: u32) {
        let wrong = match status {
            STATUS_SUCCESS => after > before,
            STATUS_BUFFER_TOO_SMALL => after <= before,
            _ => false,
        };
        if wrong {
            violation(
                rules::LENGTH,
                format!(
                    "{} on {} returned {} with length {after}; there was room for {before}",
                    self.function.name,
                    self.object,
                    Status(status)
                ),
            );
        }
    }
}
