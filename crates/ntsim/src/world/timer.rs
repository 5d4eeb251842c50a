//! Timers: one-shot or periodic, by the world's clock.

use std::cell::RefCell;
use std::rc::Rc;

use super::context;
use super::driver::{Charged, DriverNumber};
use super::event::{Event, EventId};
use super::machine::Machine;

struct Timer {
    object: usize,
    /// Another object that must live as long as the timer runs: its DPC. Or 0.
    related: usize,
    driver: DriverNumber,
    event: EventId,
    period: u64,
    processor: u32,
    expire: fn(object: usize),
}

/// A machine's running timers. A timer is named by the address of the object (KTIMER or other) it belongs to.
#[derive(Default)]
pub(crate) struct Timers(RefCell<Vec<Timer>>);

impl Timers {
    /// A running timer with an object that satisfies `f`, and that object: for rules about memory that is freed.
    pub(crate) fn find(&self, f: impl Fn(usize) -> bool) -> Option<(usize, usize)> {
        self.0.borrow().iter().find_map(|t| {
            [t.object, t.related]
                .into_iter()
                .find(|o| *o != 0 && f(*o))
                .map(|o| (t.object, o))
        })
    }

    /// A running timer of that driver: for drivers that go.
    pub(crate) fn of_driver(&self, driver: DriverNumber) -> Option<usize> {
        self.0
            .borrow()
            .iter()
            .find(|t| t.driver == driver)
            .map(|t| t.object)
    }

    pub(crate) fn is_set(&self, object: usize) -> bool {
        self.0.borrow().iter().any(|t| t.object == object)
    }
}

impl Machine {
    /// Sets a timer, cancelling it if it runs. At `due`, and then every `period` ns if not 0, `expire(object)` is
    /// called on the current processor at PASSIVE_LEVEL as simulator code, charged to the driver for which it was set.
    /// `related` is another object in use while the timer runs (its DPC), or 0. True if it was running before.
    pub(crate) fn set_timer(
        self: &Rc<Self>,
        object: usize,
        related: usize,
        due: u64,
        period: u64,
        expire: fn(usize),
    ) -> bool {
        let was = self.cancel_timer(object);
        let processor = context::with_processor(|p| p.number);
        let event = self.schedule_timer(object, due, period != 0);
        self.timers.0.borrow_mut().push(Timer {
            object,
            related,
            driver: context::with(|c| c.driver.get()),
            event,
            period,
            processor,
            expire,
        });
        was
    }

    /// Stops a timer; true if it was running.
    pub(crate) fn cancel_timer(&self, object: usize) -> bool {
        let mut timers = self.timers.0.borrow_mut();
        let Some(index) = timers.iter().position(|t| t.object == object) else {
            return false;
        };
        let timer = timers.swap_remove(index);
        drop(timers);
        if let Some(core) = self.core.upgrade() {
            core.cancel(timer.event);
        }
        true
    }

    fn schedule_timer(self: &Rc<Self>, object: usize, due: u64, background: bool) -> EventId {
        let core = context::core();
        let due = match self.config.timer_tick {
            0 => due,
            tick => due.div_ceil(tick).saturating_mul(tick),
        };
        let event = Event::Plain(
            |object, due| context::machine().expire_timer(object, due),
            object,
            due,
        );
        let _kernel = context::KernelMode::enter();
        core.events
            .push(due, event, Some(Rc::clone(self)), background)
    }

    fn expire_timer(self: &Rc<Self>, object: usize, due: u64) {
        let mut timers = self.timers.0.borrow_mut();
        let Some(index) = timers.iter().position(|t| t.object == object) else {
            return;
        };
        let (expire, processor, period, driver) = {
            let timer = &timers[index];
            (timer.expire, timer.processor, timer.period, timer.driver)
        };
        if period == 0 {
            timers.swap_remove(index);
            drop(timers);
        } else {
            drop(timers);
            let event = self.schedule_timer(object, due + period, true);
            if let Some(timer) = self
                .timers
                .0
                .borrow_mut()
                .iter_mut()
                .find(|t| t.object == object)
            {
                timer.event = event;
            }
        }
        let _entered = self.enter(processor);
        let _charged = Charged::to(driver);
        expire(object);
    }
}
