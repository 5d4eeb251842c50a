//! Work for the system's worker threads.

use std::rc::Rc;

use super::context;
use super::driver::Charged;
use super::machine::Machine;

impl Machine {
    /// Has a worker thread run `f` at PASSIVE_LEVEL, after what is queued already. `f` is simulator code; it enters
    /// the driver with `call_driver` and may wait.
    pub(crate) fn queue_work(self: &Rc<Self>, f: impl FnOnce() + 'static) {
        let _kernel = context::KernelMode::enter();
        let core = context::core();
        let processor = context::try_machine()
            .filter(|m| Rc::ptr_eq(m, self))
            .map_or(0, |_| context::with_processor(|p| p.number));
        let machine = Rc::clone(self);
        let driver = context::with(|c| c.driver.get());
        let job: Box<dyn FnOnce()> = Box::new(f);
        core.schedule(core.now(), move || {
            let _entered = machine.enter(processor);
            let _charged = Charged::to(driver);
            context::core().spawn(job);
        });
    }
}
