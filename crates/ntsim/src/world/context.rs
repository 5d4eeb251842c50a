//! Where the current host thread is inside its world: machine, processor, kernel thread, and whose code runs.
//!
//! Everything here is a `Cell` in a constant-initialised thread local without a destructor, because the global
//! allocator and every export read it.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::rc::Rc;

use super::Core;
use super::machine::Machine;
use super::processor::Processor;
use super::thread::Thread;
use crate::verifier::Function;

/// What an image's import notes when it is called.
#[repr(C)]
pub(crate) struct Import {
    /// RSP, at the return address; 0 once the function has returned, in driver code that it calls, and on other threads' stacks.
    pub(crate) stack: Cell<usize>,
    /// RBP.
    pub(crate) base: Cell<usize>,
    /// The stack where the kernel called the driver code that runs; 0 if none does.
    entered: Cell<usize>,
    /// In how many DPCs and interrupts.
    nested: Cell<u32>,
    /// Bytes of this stack that code of images uses in calls further out.
    outer: Cell<usize>,
    /// The most of them that one call uses, and its driver.
    most: Cell<(usize, u32)>,
    /// The driver whose code was entered.
    driver: Cell<u32>,
    /// Nothing else was on the stack when the first of these calls was made.
    whole: Cell<bool>,
    /// The callback that driver code is in; noted by the call of that.
    pub(crate) callback: Cell<Option<Callback>>,
}

/// A driver's function that the kernel has called and that has not returned.
#[derive(Clone, Copy)]
pub(crate) struct Callback {
    pub(crate) function: &'static Function,
    /// A place on the stack in the frame that called it.
    pub(crate) sp: usize,
}

/// What an import has noted, and where driver code was entered.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    stack: usize,
    base: usize,
    entered: usize,
    nested: u32,
    outer: usize,
    most: (usize, u32),
    driver: u32,
    whole: bool,
    callback: Option<Callback>,
}

impl Import {
    const fn new() -> Import {
        Import {
            stack: Cell::new(0),
            base: Cell::new(0),
            entered: Cell::new(0),
            nested: Cell::new(0),
            outer: Cell::new(0),
            most: Cell::new((0, 0)),
            driver: Cell::new(0),
            whole: Cell::new(false),
            callback: Cell::new(None),
        }
    }

    /// Other code runs: what was noted is not of its.
    #[inline(always)]
    pub(crate) fn take(&self) -> Noted {
        Noted {
            stack: self.stack.replace(0),
            base: self.base.get(),
            entered: self.entered.replace(0),
            nested: self.nested.get(),
            outer: self.outer.replace(0),
            most: self.most.replace((0, 0)),
            driver: self.driver.get(),
            whole: self.whole.get(),
            callback: self.callback.take(),
        }
    }

    /// As [`Import::take`]: the kernel calls code of that driver from here, in so many DPCs and interrupts. Those have stacks of their own on
    /// Windows. `begins`: it is not called because of what other code on this stack does.
    #[inline(always)]
    pub(crate) fn enter(&self, nested: u32, driver: u32, begins: bool) -> Noted {
        let here = 0_u8;
        let noted = self.take();
        self.whole.set(begins);
        if nested == noted.nested && (1..noted.entered).contains(&noted.stack) {
            let used = noted.entered - noted.stack;
            self.outer.set(noted.outer + used);
            self.most.set(noted.most.max((used, noted.driver)));
            self.whole.set(noted.whole);
        }
        self.driver.set(driver);
        self.entered.set((&raw const here).addr());
        self.nested.set(nested);
        noted
    }

    /// Bytes of the stack that code of images uses at the call of an import that has just been noted; 0 if that is not known.
    #[inline(always)]
    pub(crate) fn depth(&self) -> usize {
        let (stack, entered) = (self.stack.get(), self.entered.get());
        if stack == 0 || stack >= entered {
            return 0;
        }
        self.outer.get() + entered - stack
    }

    /// Whether the code of images had all of the stack to begin with.
    pub(crate) fn has_whole_stack(&self) -> bool {
        self.whole.get()
    }

    /// Of these bytes, the most that one call uses, and its driver.
    pub(crate) fn deepest(&self) -> (usize, u32) {
        let here = self.entered.get() - self.stack.get();
        self.most.get().max((here, self.driver.get()))
    }

    /// Has it count from here: what there is was told of.
    pub(crate) fn forget_depth(&self) {
        self.outer.set(0);
        self.most.set((0, 0));
        self.entered.set(self.stack.get());
    }

    /// The code goes on of which that was noted.
    #[inline(always)]
    pub(crate) fn put_back(&self, noted: Noted) {
        self.stack.set(noted.stack);
        self.base.set(noted.base);
        self.entered.set(noted.entered);
        self.nested.set(noted.nested);
        self.outer.set(noted.outer);
        self.most.set(noted.most);
        self.driver.set(noted.driver);
        self.whole.set(noted.whole);
        self.callback.set(noted.callback);
    }
}

/// The cells. Null pointers mean "none".
pub(crate) struct Context {
    pub(crate) core: Cell<*const Core>,
    pub(crate) machine: Cell<*const Machine>,
    pub(crate) processor: Cell<*const Processor>,
    pub(crate) thread: Cell<*const Thread>,
    /// True while driver code runs, false in kernel and host code.
    pub(crate) in_driver: Cell<bool>,
    /// The driver on whose behalf the code runs (see `world::driver`), 0 for none.
    pub(crate) driver: Cell<u32>,
    /// Who was charged before a driver was, last: who calls it, as long as it has not begun.
    pub(crate) caller: Cell<u32>,
    /// Some paged pool is accessible.
    pub(crate) paged_in: Cell<bool>,
    /// The driver's function that the kernel called last, and for which thread; it may have returned on another.
    pub(crate) callee: Cell<(*const Thread, *const ())>,
    /// Of the last call of an image that has not returned.
    pub(crate) import: Import,
    /// A thread that has said that it is going to wait at once.
    pub(crate) owes_wait: Cell<*const Thread>,
}

thread_local! {
    static CONTEXT: Context = const {
        Context {
            core: Cell::new(ptr::null()),
            machine: Cell::new(ptr::null()),
            processor: Cell::new(ptr::null()),
            thread: Cell::new(ptr::null()),
            in_driver: Cell::new(false),
            driver: Cell::new(0),
            caller: Cell::new(0),
            paged_in: Cell::new(false),
            callee: Cell::new((ptr::null(), ptr::null())),
            import: Import::new(),
            owes_wait: Cell::new(ptr::null()),
        }
    };
}

/// Runs `f` on this thread's context.
#[inline(always)]
pub(crate) fn with<R>(f: impl FnOnce(&Context) -> R) -> R {
    CONTEXT.with(f)
}

/// Turns one of the context's pointers, made by `Rc::as_ptr`, into a counted reference.
fn counted<T>(pointer: *const T) -> Option<Rc<T>> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the context only holds pointers made by `Rc::as_ptr` from an `Rc` that the world keeps until it is
    // dropped, and dropping the world clears the context.
    Some(unsafe {
        Rc::increment_strong_count(pointer);
        Rc::from_raw(pointer)
    })
}

/// This thread's world, if there is one.
pub(crate) fn try_core() -> Option<Rc<Core>> {
    with(|c| counted(c.core.get()))
}

/// This thread's world.
///
/// # Panics
/// If the thread has none: kernel functions can only be called inside a world.
pub(crate) fn core() -> Rc<Core> {
    try_core().expect("no ntsim::World exists on this thread")
}

/// The machine that code runs on, if any.
pub(crate) fn try_machine() -> Option<Rc<Machine>> {
    with(|c| counted(c.machine.get()))
}

/// The machine that code runs on.
///
/// # Panics
/// If no machine has been entered: kernel functions only run on one.
pub(crate) fn machine() -> Rc<Machine> {
    try_machine().expect("no machine is current: enter one with Machine::enter")
}

/// Runs `f` on the current processor.
///
/// # Panics
/// If no machine has been entered.
#[inline]
pub(crate) fn with_processor<R>(f: impl FnOnce(&Processor) -> R) -> R {
    let processor = with(|c| c.processor.get());
    assert!(
        !processor.is_null(),
        "no processor is current: enter a machine with Machine::enter"
    );
    // SAFETY: not null, and processors live in their machine, which lives as long as the world (see `counted`).
    f(unsafe { &*processor })
}

/// The current processor's IRQL.
#[inline]
pub(crate) fn irql() -> u8 {
    with_processor(|p| p.irql())
}

/// Whether driver code is running.
#[inline(always)]
pub(crate) fn in_driver() -> bool {
    with(|c| c.in_driver.get())
}

/// Makes code kernel code until dropped: used where the simulator's own work must not be charged to the driver.
pub(crate) struct KernelMode {
    was: bool,
    /// Not `Send`: belongs to this thread's context.
    _thread: PhantomData<*const ()>,
}

impl KernelMode {
    #[inline(always)]
    pub(crate) fn enter() -> Self {
        KernelMode {
            was: with(|c| c.in_driver.replace(false)),
            _thread: PhantomData,
        }
    }
}

impl Drop for KernelMode {
    #[inline(always)]
    fn drop(&mut self) {
        with(|c| c.in_driver.set(self.was));
    }
}

/// Restores the previously current machine and processor when dropped.
#[must_use = "the machine is left when this is dropped"]
pub(crate) struct Entered {
    machine: *const Machine,
    processor: *const Processor,
}

/// Makes a machine's processor the current one until the guard is dropped.
pub(crate) fn enter(machine: &Rc<Machine>, processor: u32) -> Entered {
    let processor: *const Processor = &machine.processors[processor as usize];
    with(|c| Entered {
        machine: c.machine.replace(Rc::as_ptr(machine)),
        processor: c.processor.replace(processor),
    })
}

impl Drop for Entered {
    fn drop(&mut self) {
        with(|c| {
            c.machine.set(self.machine);
            c.processor.set(self.processor);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::Import;

    #[test]
    fn who_uses_most_of_a_stack_that_several_drivers_share_is_known() {
        let import = Import::new();
        let uses = |bytes| import.stack.set(import.entered.get() - bytes);
        let outside = import.enter(0, 1, true);
        uses(12_000);
        let first = import.enter(0, 2, false);
        uses(8_000);
        assert_eq!((import.depth(), import.deepest()), (20_000, (12_000, 1)));
        assert!(import.has_whole_stack());
        // A DPC has a stack of its own.
        let second = import.enter(1, 3, true);
        uses(100);
        assert_eq!((import.depth(), import.deepest()), (100, (100, 3)));
        import.put_back(second);
        uses(13_000);
        assert_eq!(import.deepest(), (13_000, 2));
        import.put_back(first);
        assert_eq!((import.depth(), import.deepest()), (12_000, (12_000, 1)));
        import.put_back(outside);
        assert_eq!(import.depth(), 0);
        // Called because of something: others' frames are there already.
        import.enter(0, 4, false);
        assert!(!import.has_whole_stack());
    }
}
