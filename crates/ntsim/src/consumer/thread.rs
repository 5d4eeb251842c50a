//! Consumer code that runs as a thread of its machine, beside other machines'.

use crate::verifier::Function;
use crate::world::context;
use crate::world::driver_call::{NOT_ITS_OWN, begin_driver};
use crate::world::processor::PASSIVE;
use crate::{MachineId, World};
use std::cell::RefCell;
use std::rc::Rc;

/// A thread that [`World::spawn`] began.
pub struct Thread<R> {
    result: Rc<RefCell<Option<R>>>,
}

impl World {
    /// Starts `f` as kernel code of a machine, in a thread of its own at PASSIVE_LEVEL: it runs while the world does. What is in
    /// [`World::call`] the host waits for; two of these play both ends of a connection, and each may wait for the other.
    pub fn spawn<R: 'static>(
        &mut self,
        machine: MachineId,
        f: impl FnOnce() -> R + 'static,
    ) -> Thread<R> {
        static THREAD: Function = Function::callback("a consumer's thread", PASSIVE..=PASSIVE);
        let result = Rc::new(RefCell::new(None));
        let told = Rc::clone(&result);
        self.call(machine, || {
            context::machine().queue_work(move || {
                let answer = begin_driver(&THREAD, NOT_ITS_OWN, f);
                *told.borrow_mut() = Some(answer);
            });
        });
        Thread { result }
    }
}

impl<R> Thread<R> {
    /// Whether it is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.result.borrow().is_some()
    }

    /// Lets the world run until the thread is over. What it came to. For the host.
    ///
    /// # Panics
    /// If it is not over after ten minutes of the world's time: with the report, which says who waits, and who keeps them waiting.
    #[track_caller]
    pub fn wait(self, world: &mut World) -> R {
        world.run_until_done(|_| self.is_done());
        if let Some(result) = self.result.take() {
            return result;
        }
        const VAIN: &str = "a consumer's thread has not ended in ten minutes";
        world.core.give_up(VAIN);
        world.check();
        // The world collects what is found.
        panic!("{VAIN}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::irql;
    use crate::{MachineConfig, World};
    use ndis_sys::imports::{KeDelayExecutionThread, KeInitializeEvent, KeWaitForSingleObject};
    use ndis_sys::wdm::{KEVENT, SynchronizationEvent};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr::null_mut;
    use std::time::Duration;

    #[test]
    fn threads_of_two_machines_run_beside_each_other() {
        let mut world = World::builder().build();
        let [long, short] = ["A", "B"].map(|name| {
            let machine = world.add_machine(MachineConfig::named(name));
            let time = Duration::from_millis(if name == "A" { 5 } else { 1 });
            world.spawn(machine, move || {
                let before = irql();
                let mut interval = -(time.as_nanos() as i64 / 100);
                // SAFETY: at PASSIVE_LEVEL, with a variable of this frame.
                unsafe { KeDelayExecutionThread(0, 0, (&raw mut interval).cast()) };
                (before, irql())
            })
        });
        assert_eq!(short.wait(&mut world), (0, 0));
        assert!(!long.is_done());
        assert_eq!(long.wait(&mut world), (0, 0));
    }

    #[test]
    fn a_thread_that_waits_for_ever_ends_in_a_report() {
        let mut world = World::builder().seed(11).build();
        let machine = world.add_machine(MachineConfig::named("A"));
        let thread = world.spawn(machine, || {
            let mut event = KEVENT::ZEROED;
            let event = &raw mut event;
            // SAFETY: at PASSIVE_LEVEL, with a variable of this frame.
            unsafe {
                KeInitializeEvent(event, SynchronizationEvent, 0);
                KeWaitForSingleObject(event.cast(), 0, 0, 0, null_mut());
            }
        });
        let run = AssertUnwindSafe(|| thread.wait(&mut world));
        let payload = catch_unwind(run).unwrap_err();
        let report = payload.downcast_ref::<String>().expect("a report");
        for part in [
            "deadlock",
            "a consumer's thread has not ended in ten minutes",
            "on A: KeWaitForSingleObject",
            "NTSIM_SEED=11",
        ] {
            assert!(report.contains(part), "no {part} in\n{report}");
        }
    }

    #[test]
    fn an_assertion_that_fails_in_a_thread_fails_the_test() {
        let mut world = World::builder().build();
        let machine = world.add_machine(MachineConfig::named("A"));
        let thread = world.spawn(machine, || panic!("two is not three"));
        let run = AssertUnwindSafe(|| thread.wait(&mut world));
        let payload = catch_unwind(run).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"two is not three"));
    }
}
