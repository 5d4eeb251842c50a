//! The boundary: every call of an exported function passes here.

use std::ops::RangeInclusive;

use super::history::{At, Way};
use super::locks::Held;
use super::{owed_wait, rules};
use crate::trace;
use crate::world::driver::Charged;
use crate::world::driver_call::may_be_preempted;
use crate::world::{Core, context};

/// What is known of a function that crosses the boundary.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// The module that exports it; empty for callbacks.
    pub module: &'static str,
    /// Lowest IRQL at which it may be called.
    pub min_irql: u8,
    /// Highest IRQL at which it may be called.
    pub max_irql: u8,
}

impl Function {
    /// A function that a module exports.
    #[must_use]
    pub const fn export(
        module: &'static str,
        name: &'static str,
        irql: RangeInclusive<u8>,
    ) -> Self {
        Function {
            name,
            module,
            min_irql: *irql.start(),
            max_irql: *irql.end(),
        }
    }

    /// Whether it is one of NDK's functions or callbacks.
    pub(crate) fn is_ndk(&self) -> bool {
        self.name.starts_with("Ndk")
    }

    /// A handler or callback of a driver.
    #[must_use]
    pub const fn callback(name: &'static str, irql: RangeInclusive<u8>) -> Self {
        Function {
            name,
            module: "",
            min_irql: *irql.start(),
            max_irql: *irql.end(),
        }
    }
}

/// Kernel code runs until this is dropped.
pub(crate) struct Crossing {
    was_in_driver: bool,
}

impl Crossing {
    /// Whether the caller was a driver (and not the simulator itself).
    #[inline]
    pub(crate) fn is_from_driver(&self) -> bool {
        self.was_in_driver
    }
}

/// Enters the kernel: goes at the head of every exported function. Checks the IRQL, writes the history.
#[inline]
pub(crate) fn cross(function: &'static Function) -> Crossing {
    note(function, false, Way::Call);
    leave_driver(function)
}

/// Of the 24 KiB of stack that a kernel thread of Windows has on x64 (page kernel-stack), and a DPC too, what the kernel's functions need that drivers
/// call. Microsoft gives no figure: it is an estimate.
const KERNELS_STACK: usize = 2 << 10;
/// Stack that drivers may use in threads, work items, DPCs and timers, which begin on an empty one.
const WHOLE_STACK: usize = (24 << 10) - KERNELS_STACK;
/// Stack that drivers may use where the kernel or another driver calls them: part of it is used then. How much, nobody says: this leaves them
/// 4 KiB.
const DRIVERS_STACK: usize = WHOLE_STACK - (4 << 10);

#[inline(always)]
fn leave_driver(function: &'static Function) -> Crossing {
    context::with(|c| {
        if c.import.depth() > DRIVERS_STACK {
            too_deep(function);
        }
        if !c.owes_wait.get().is_null() {
            owed_wait::check_call(function.name);
        }
        Crossing {
            was_in_driver: c.in_driver.replace(false),
        }
    })
}

#[cold]
#[inline(never)]
fn too_deep(function: &Function) {
    let _kernel = context::KernelMode::enter();
    let (depth, whole, (most, driver)) = context::with(|c| {
        let import = &c.import;
        (import.depth(), import.has_whole_stack(), import.deepest())
    });
    let limit = if whole { WHOLE_STACK } else { DRIVERS_STACK };
    if depth <= limit {
        return;
    }
    // To blame is not the last of several, but who uses most.
    let _blamed = Charged::to(driver);
    super::violation(
        rules::STACK_DEPTH,
        format!(
            "drivers use {depth} bytes of the stack where {} is called, one of them {most}; of 24 KiB that a kernel thread of Windows has, {limit} \
             are theirs here",
            function.name
        ),
    );
    context::with(|c| c.import.forget_depth());
}

impl Drop for Crossing {
    #[inline(always)]
    fn drop(&mut self) {
        if self.was_in_driver {
            context::with(|c| {
                // SAFETY: not null, or the crossing would not have begun; the world keeps it.
                let core = unsafe { &*c.core.get() };
                if core.meddles.get() {
                    core.before_return();
                }
                c.import.stack.set(0);
                c.in_driver.set(true);
            });
        }
    }
}

/// Notes a call into a driver; the counterpart of `cross`.
#[inline]
pub(crate) fn entering_driver(function: &'static Function) {
    note(function, true, Way::Call);
}

/// A function that the history shows entered and left. Ends when it is dropped.
pub(crate) struct Told {
    function: &'static Function,
    into_driver: bool,
}

impl Told {
    /// A driver calls it: as [`cross`].
    #[inline]
    pub(crate) fn cross(function: &'static Function) -> (Told, Crossing) {
        note(function, false, Way::Enter);
        let told = Told {
            function,
            into_driver: false,
        };
        let crossing = leave_driver(function);
        // Before anything is looked at for the call.
        if crossing.was_in_driver {
            may_be_preempted();
        }
        (told, crossing)
    }

    /// It is called in a driver, with [`crate::world::driver_call::call_driver_told`].
    #[inline]
    pub(crate) fn entering_driver(function: &'static Function) -> Told {
        note(function, true, Way::Enter);
        Told {
            function,
            into_driver: true,
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        with_place(|core, at| {
            let history = &core.verifier.history;
            history.push(at, self.function, !self.into_driver, Way::Return);
        });
    }
}

/// Runs `f` on the world and where its code is. None outside any machine.
#[inline(always)]
fn with_place<R>(f: impl FnOnce(&Core, At) -> R) -> Option<R> {
    let (core, machine, processor, driver) = context::with(|c| {
        let (core, machine) = (c.core.get(), c.machine.get());
        (core, machine, c.processor.get(), c.driver.get())
    });
    if core.is_null() || machine.is_null() || processor.is_null() {
        return None;
    }
    // SAFETY: not null; the world keeps them while they are in the context.
    let (core, machine, processor) = unsafe { (&*core, &*machine, &*processor) };
    let at = At {
        time: core.last_time(),
        machine: machine.id.0,
        driver,
        processor: processor.number,
        irql: processor.irql(),
    };
    Some(f(core, at))
}

/// Where code runs; zeros outside any machine.
#[inline]
pub(crate) fn place() -> At {
    with_place(|_, at| at).unwrap_or_default()
}

#[inline(always)]
fn note(function: &'static Function, into_driver: bool, way: Way) {
    let irql = with_place(|core, at| {
        core.verifier.history.push(at, function, into_driver, way);
        if core.traced.get() {
            trace::called(core, function, into_driver);
        }
        at.irql
    });
    match irql {
        None => nowhere(function),
        Some(irql) if irql < function.min_irql || irql > function.max_irql => {
            wrong_irql(function, irql, into_driver);
        }
        Some(_) => {}
    }
}

#[cold]
#[inline(never)]
fn nowhere(function: &'static Function) -> ! {
    panic!(
        "{} was called outside any simulated machine: call it from World::call or from driver code",
        function.name
    );
}

#[cold]
#[inline(never)]
fn wrong_irql(function: &'static Function, irql: u8, into_driver: bool) {
    // The report is not allocated by the driver that it is about.
    let _kernel = context::KernelMode::enter();
    // To blame is who calls: of a function of a driver, not that driver.
    let caller = context::with(|c| c.caller.get());
    let _blamed = into_driver.then(|| Charged::to(caller));
    let allowed = match (function.min_irql, function.max_irql) {
        (min, max) if min == max => format!("at {}", level(min)),
        (0, max) => format!("at or below {}", level(max)),
        (min, max) => format!("from {} to {}", level(min), level(max)),
    };
    let locks = context::with_processor(|p| p.locks.iter().map(Held::told).collect::<String>());
    super::violation(
        rules::IRQL,
        format!(
            "{} was called at IRQL {irql}; it may be called {allowed}{locks}",
            function.name
        ),
    );
}

/// A level as pages name it.
fn level(irql: u8) -> String {
    match irql {
        0 => "PASSIVE_LEVEL".to_owned(),
        1 => "APC_LEVEL".to_owned(),
        2 => "DISPATCH_LEVEL".to_owned(),
        _ => irql.to_string(),
    }
}
