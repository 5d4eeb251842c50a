//! Calls into drivers, and how they must return.

use super::context::{self, Callback, Noted};
use super::on_stack;
use super::thread::{Thread, on_kernel_stack};
use crate::image::guard;
use crate::trace;
use crate::verifier::{self, Function, Told, mutexes, owed_wait, rules};

/// What must be as it was when driver code returns to the kernel.
struct Entry {
    function: &'static Function,
    in_driver: bool,
    callee: (*const Thread, *const ()),
    noted: Noted,
    irql: u8,
    locks: usize,
    mutexes: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        context::with(|c| {
            c.in_driver.set(self.in_driver);
            c.import.put_back(self.noted);
        });
        if !std::thread::panicking() {
            self.check();
            context::with(|c| c.callee.set(self.callee));
        }
        context::with(|c| {
            // SAFETY: null, or kept by the world while it is in the context.
            if let Some(core) = unsafe { c.core.get().as_ref() }
                && core.traced.get()
            {
                trace::returned(core);
            }
        });
    }
}

impl Entry {
    fn check(&self) {
        if mutexes::count() > self.mutexes {
            mutexes::kept(self.mutexes, self.function.name);
        }
        owed_wait::check_return(self.function.name);
        on_stack::check_return(self.function.name, std::ptr::from_ref(self).addr());
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
                let left = p.locks.iter().skip(self.locks);
                let left = left.map(verifier::locks::Held::told);
                verifier::violation(
                    rules::LOCK_AT_RETURN,
                    format!(
                        "{} returned with {} spin lock(s) held, {} when it was called{}",
                        self.function.name,
                        p.locks.len(),
                        self.locks,
                        left.collect::<String>()
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

/// The target of what is no call through a pointer of a driver: code of a test, or one whose pointer was looked up when it was given.
pub(crate) const NOT_ITS_OWN: *const () = std::ptr::null();

/// Calls into driver code. EVERY call into a driver goes through here: allocations are charged to the driver until
/// it returns or calls the kernel, and it must return at the IRQL, and with the locks, it was called with.
/// `function` names the handler or callback in reports and its IRQL requirement towards us, the caller; `target` is the driver's function
/// that `f` calls, which control flow guard looks up.
#[inline]
pub(crate) fn call_driver<R>(
    function: &'static Function,
    target: *const (),
    f: impl FnOnce() -> R,
) -> R {
    on_kernel_stack(|| {
        verifier::entering_driver(function);
        guard::entering_driver(function, target);
        run_driver(function, target, false, f)
    })
}

/// As [`call_driver`], for what begins by itself: threads, work items, DPCs, timers, interrupts. The explorer may preempt there first. Where the
/// kernel calls a driver because of something that it has looked at, it may not: what NDIS holds still between its look at an adapter and the
/// miniport's handler would change meanwhile, and the miniport would be blamed for it.
#[inline]
pub(crate) fn begin_driver<R>(
    function: &'static Function,
    target: *const (),
    f: impl FnOnce() -> R,
) -> R {
    on_kernel_stack(|| {
        verifier::entering_driver(function);
        may_be_preempted();
        guard::entering_driver(function, target);
        run_driver(function, target, true, f)
    })
}

/// As [`call_driver`], and the history shows where the call returns too.
#[inline]
pub(crate) fn call_driver_told<R>(
    function: &'static Function,
    target: *const (),
    f: impl FnOnce() -> R,
) -> R {
    on_kernel_stack(|| {
        let _told = Told::entering_driver(function);
        guard::entering_driver(function, target);
        run_driver(function, target, false, f)
    })
}

/// In worlds that explore: the code may lose its processor before it runs.
#[inline(always)]
pub(crate) fn may_be_preempted() {
    // SAFETY: on a kernel stack, so there is a world, which is kept while it is in the context.
    let core = unsafe { &*context::with(|c| c.core.get()) };
    if core.explorer.is_on() {
        core.may_be_preempted();
    }
}

#[inline(always)]
fn run_driver<R>(
    function: &'static Function,
    target: *const (),
    begins: bool,
    f: impl FnOnce() -> R,
) -> R {
    let (irql, locks, nested) = context::with_processor(|p| (p.irql(), p.locks.len(), p.nested()));
    let entry = Entry {
        function,
        in_driver: context::with(|c| c.in_driver.replace(true)),
        callee: context::with(|c| c.callee.replace((c.thread.get(), target))),
        noted: context::with(|c| c.import.enter(nested, c.driver.get(), begins)),
        irql,
        locks,
        mutexes: mutexes::count(),
    };
    let callback = Callback {
        function,
        sp: (&raw const entry).addr(),
    };
    context::with(|c| c.import.callback.set(Some(callback)));
    f()
}
