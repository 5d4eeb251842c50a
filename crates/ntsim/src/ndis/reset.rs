//! Check-for-hang, and resets of adapters: for miniports that have handlers for them, as those of servers should not.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ndis_sys::status::*;
use ndis_sys::types::*;

use super::adapter::{Adapter, State};
use super::{lifecycle, ndis, rules};
use crate::trace;
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::{self, DISPATCH, PASSIVE};

static CHECK: Function = Function::callback("MiniportCheckForHangEx", PASSIVE..=PASSIVE);
static RESET: Function = Function::callback("MiniportResetEx", PASSIVE..=DISPATCH);

/// The interval of checks is a multiple of this.
const STEP: Duration = Duration::from_secs(2);

/// An adapter's reset in progress.
#[derive(Default)]
pub(crate) struct Resets {
    under_way: Cell<bool>,
    /// Status and whether NDIS has to set addresses and filters again.
    completed: Cell<Option<(NDIS_STATUS, bool)>>,
}

impl Resets {
    /// Nothing is sent meanwhile.
    pub(crate) fn under_way(&self) -> bool {
        self.under_way.get()
    }
}

/// Begins to check an initialised adapter for hangs, if its miniport has a handler.
pub(crate) fn watch(adapter: &Rc<Adapter>) {
    let Some(check) = adapter.driver.handlers.CheckForHangHandlerEx else {
        return;
    };
    let seconds = adapter
        .registration
        .get()
        .map_or(0, |r| u64::from(r.CheckForHangTimeInSeconds));
    let steps = (seconds / STEP.as_secs()).max(1);
    schedule(adapter, check, steps * STEP.as_nanos() as u64);
}

fn schedule(adapter: &Rc<Adapter>, check: ndis_sys::ndis::MINIPORT_CHECK_FOR_HANG, interval: u64) {
    let machine = adapter.machine();
    let core = context::core();
    let watched = Rc::downgrade(adapter);
    // It ends with the life of the adapter that it was begun for.
    let life = adapter.lives.get();
    core.schedule_background(Some(&machine), core.now() + interval, move || {
        let alive = move |adapter: &Rc<Adapter>| {
            let over = matches!(adapter.state.get(), State::Halted | State::Halting);
            !over && adapter.lives.get() == life
        };
        let Some(adapter) = watched.upgrade().filter(alive) else {
            return;
        };
        adapter.machine().queue_work({
            let adapter = Rc::clone(&adapter);
            move || {
                if !alive(&adapter) || adapter.asleep.get() || adapter.resets.under_way() {
                    return;
                }
                let _charged = adapter.driver.driver.charge();
                // SAFETY: a handler the driver registered, called as its type demands.
                if call_driver(&CHECK, check as *const (), || unsafe {
                    check(adapter.context.get())
                }) != 0
                {
                    reset(&adapter);
                }
            }
        });
        schedule(&adapter, check, interval);
    });
}

/// Resets an adapter: what came of it, or that its miniport cannot.
pub(crate) fn reset(adapter: &Rc<Adapter>) -> NDIS_STATUS {
    let Some(handler) = adapter.driver.handlers.ResetHandlerEx else {
        return NDIS_STATUS_NOT_RESETTABLE;
    };
    if adapter.resets.under_way.replace(true) {
        return NDIS_STATUS_RESET_IN_PROGRESS;
    }
    adapter.resets.completed.set(None);
    let mut addressing: BOOLEAN = 0;
    let returned = {
        // Who asks for a reset may be at either level.
        let high = context::core().rng.below(2) == 0;
        let _raised = high.then(|| processor::raise_irql(DISPATCH));
        let _charged = adapter.driver.driver.charge();
        // SAFETY: a handler the driver registered, called as its type demands.
        call_driver(&RESET, handler as *const (), || unsafe {
            handler(adapter.context.get(), &raw mut addressing)
        })
    };
    let (status, addressing) = if returned == NDIS_STATUS_PENDING {
        let done = || adapter.resets.completed.get().is_some();
        adapter.wait_for(rules::RESET, "MiniportResetEx".to_owned(), done);
        let failed = (NDIS_STATUS_FAILURE, false);
        adapter.resets.completed.take().unwrap_or(failed)
    } else {
        if adapter.resets.completed.get().is_some() {
            violation(
                rules::RESET,
                "NdisMResetComplete although MiniportResetEx did not pend",
            );
        }
        check_nothing_left(adapter);
        (returned, addressing != 0)
    };
    trace::answered(&RESET, status);
    adapter.resets.under_way.set(false);
    if addressing && status == NDIS_STATUS_SUCCESS {
        lifecycle::set_addressing(adapter);
    }
    status
}

/// A miniport of NDIS 6.30 or later holds no requests beyond the end of a reset.
fn check_nothing_left(adapter: &Adapter) {
    let (sends, requests) = (adapter.sends.outstanding(), adapter.requests.outstanding());
    if sends > 0 || requests > 0 {
        violation(
            rules::RESET,
            format!(
                "the reset is complete with {sends} send(s) and {requests} OID request(s) outstanding"
            ),
        );
    }
}

/// `NdisMResetComplete`.
pub(crate) fn complete(handle: NDIS_HANDLE, status: NDIS_STATUS, addressing: bool) {
    const F: &str = "NdisMResetComplete";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if !adapter.resets.under_way() || adapter.resets.completed.get().is_some() {
        violation(rules::RESET, format!("{F}: no reset is pending"));
        return;
    }
    check_nothing_left(&adapter);
    adapter.resets.completed.set(Some((status, addressing)));
}

/// `NdisMResetMiniport`: the reset begins soon.
pub(crate) fn request(handle: NDIS_HANDLE) {
    const F: &str = "NdisMResetMiniport";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if adapter.driver.handlers.ResetHandlerEx.is_none() {
        violation(
            rules::CHARACTERISTICS,
            format!("{F}: the miniport has no reset handler"),
        );
        return;
    }
    let machine: Rc<Machine> = adapter.machine();
    machine.queue_work(move || {
        if adapter.state.get() != State::Halted {
            reset(&adapter);
        }
    });
}
