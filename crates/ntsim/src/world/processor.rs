//! A processor: its IRQL, the DPCs and interrupts waiting for it, the spin locks its code holds.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use super::context;
use super::driver::{Charged, DriverNumber};
use super::machine::Machine;
use crate::memory::paged;
use crate::trace;
use crate::verifier::{self, locks::LockStack, rules};

/// PASSIVE_LEVEL: threads, everything may wait.
pub const PASSIVE: u8 = 0;
/// APC_LEVEL.
pub const APC: u8 = 1;
/// DISPATCH_LEVEL: DPCs and spin locks.
pub const DISPATCH: u8 = 2;
/// The device IRQL given to message-signalled interrupts.
pub const DEVICE: u8 = 5;
/// HIGH_LEVEL on x64.
pub const HIGH: u8 = 15;

/// More DPCs than this in one go without anything else happening is a driver chasing its own tail.
const DPC_STORM: u32 = 100_000;

/// A queued deferred call.
#[derive(Clone, Copy)]
pub(crate) struct Dpc {
    /// Address of the KDPC (or of what plays its part); a DPC is queued at most once.
    pub(crate) object: usize,
    /// Runs it, at DISPATCH_LEVEL on its processor, after it was taken off the queue, charged to the driver on whose
    /// behalf it was queued.
    pub(crate) run: fn(object: usize),
}

/// An interrupt that has not been delivered.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Pending {
    irql: u8,
    vector: u32,
}

/// One processor of a machine.
pub(crate) struct Processor {
    /// Number within the machine, from 0.
    pub(crate) number: u32,
    irql: Cell<u8>,
    dpcs: RefCell<VecDeque<(Dpc, DriverNumber)>>,
    interrupts: RefCell<Vec<Pending>>,
    /// Something is queued here.
    busy: Cell<bool>,
    /// Listed in the world's queue of processors to run.
    pub(crate) listed: Cell<bool>,
    pub(crate) locks: LockStack,
    /// DPCs that have begun to run here.
    pub(crate) dpcs_begun: Rc<Cell<u64>>,
    /// DPCs and interrupts that run now, one inside another, on the current stack.
    nested: Cell<u32>,
}

impl Processor {
    pub(crate) fn new(number: u32) -> Self {
        Processor {
            number,
            irql: Cell::new(PASSIVE),
            dpcs: RefCell::new(VecDeque::with_capacity(64)),
            interrupts: RefCell::new(Vec::with_capacity(16)),
            busy: Cell::new(false),
            listed: Cell::new(false),
            locks: LockStack::default(),
            dpcs_begun: Rc::default(),
            nested: Cell::new(0),
        }
    }

    /// How many DPCs and interrupts have interrupted each other to get here.
    #[inline(always)]
    pub(crate) fn nested(&self) -> u32 {
        self.nested.get()
    }

    #[inline(always)]
    pub(crate) fn irql(&self) -> u8 {
        self.irql.get()
    }

    /// Sets the IRQL without running what it would let through. Returns the old one.
    #[inline(always)]
    pub(crate) fn set_irql(&self, irql: u8) -> u8 {
        if irql >= DISPATCH && context::with(|c| c.paged_in.get()) {
            paged::page_out();
        }
        self.irql.replace(irql)
    }

    /// Sets the IRQL and, if that lets DPCs or interrupts through, runs them before returning. The processor must
    /// be the current one.
    #[inline(always)]
    pub(crate) fn lower_irql(&self, irql: u8) {
        self.irql.set(irql);
        if self.busy.get() {
            self.run_pending();
        }
    }

    /// Runs every interrupt and DPC that the IRQL lets through. The processor must be the current one.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_pending(&self) {
        let irql = self.irql.get();
        let mut dpcs = 0;
        loop {
            if let Some(pending) = self.take_interrupt(irql) {
                self.set_irql(pending.irql);
                let isr = context::machine().interrupts.isr(pending.vector);
                if let Some(isr) = isr {
                    let _kernel = context::KernelMode::enter();
                    self.nested.set(self.nested.get() + 1);
                    trace::note(|| (format!("interrupt {:#x}", pending.vector), false));
                    isr();
                    self.nested.set(self.nested.get() - 1);
                }
                self.irql.set(irql);
                continue;
            }
            if irql < DISPATCH {
                let next = self.dpcs.borrow_mut().pop_front();
                if let Some((dpc, driver)) = next {
                    self.set_irql(DISPATCH);
                    {
                        let _kernel = context::KernelMode::enter();
                        let _charged = Charged::to(driver);
                        self.nested.set(self.nested.get() + 1);
                        self.dpcs_begun.set(self.dpcs_begun.get() + 1);
                        {
                            let _traced = trace::dpc(dpc.object);
                            (dpc.run)(dpc.object);
                        }
                        self.nested.set(self.nested.get() - 1);
                    }
                    self.irql.set(irql);
                    dpcs += 1;
                    if dpcs == DPC_STORM {
                        verifier::bugcheck(
                            rules::DPC_STORM,
                            format!("{DPC_STORM} DPCs ran in a row and there are still more"),
                        );
                    }
                    continue;
                }
            }
            break;
        }
        if dpcs > 0 {
            let core = context::core();
            core.activity.set(core.activity.get().wrapping_add(1));
        }
        self.busy
            .set(!self.dpcs.borrow().is_empty() || !self.interrupts.borrow().is_empty());
    }

    fn take_interrupt(&self, irql: u8) -> Option<Pending> {
        let mut pending = self.interrupts.borrow_mut();
        let (index, highest) = pending
            .iter()
            .copied()
            .enumerate()
            .max_by_key(|(index, p)| (p.irql, std::cmp::Reverse(*index)))?;
        (highest.irql > irql).then(|| pending.remove(index))
    }

    /// Queues a DPC, unless it is queued on this processor already. It runs when the world next gets to this
    /// processor or its IRQL is lowered.
    pub(crate) fn queue_dpc(&self, dpc: Dpc, front: bool) -> bool {
        let mut dpcs = self.dpcs.borrow_mut();
        if dpcs.iter().any(|(d, _)| d.object == dpc.object) {
            return false;
        }
        let entry = (dpc, context::with(|c| c.driver.get()));
        if front {
            dpcs.push_front(entry);
        } else {
            dpcs.push_back(entry);
        }
        self.busy.set(true);
        true
    }

    /// Takes a DPC off the queue.
    pub(crate) fn remove_dpc(&self, object: usize) -> bool {
        let mut dpcs = self.dpcs.borrow_mut();
        let Some(index) = dpcs.iter().position(|(d, _)| d.object == object) else {
            return false;
        };
        dpcs.remove(index);
        true
    }

    /// The queued DPC objects for which `f` holds: for rules about memory that is freed.
    pub(crate) fn find_dpc(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        self.dpcs
            .borrow()
            .iter()
            .map(|(d, _)| d.object)
            .find(|o| f(*o))
    }

    /// A queued DPC of that driver: for drivers that go.
    pub(crate) fn dpc_of_driver(&self, driver: DriverNumber) -> Option<usize> {
        self.dpcs
            .borrow()
            .iter()
            .find(|(_, d)| *d == driver)
            .map(|(dpc, _)| dpc.object)
    }

    pub(crate) fn has_dpcs(&self) -> bool {
        !self.dpcs.borrow().is_empty()
    }

    fn queue_interrupt(&self, irql: u8, vector: u32) {
        let pending = Pending { irql, vector };
        let mut interrupts = self.interrupts.borrow_mut();
        // As in a local APIC: an interrupt that is already requested is not requested twice.
        if !interrupts.contains(&pending) {
            interrupts.push(pending);
        }
        self.busy.set(true);
    }

    /// Whether something waits that the IRQL lets through.
    pub(crate) fn runnable(&self) -> bool {
        self.busy.get()
            && (self.irql.get() < DISPATCH && self.has_dpcs()
                || self
                    .interrupts
                    .borrow()
                    .iter()
                    .any(|p| p.irql > self.irql.get()))
    }
}

/// Lowers the IRQL again when dropped.
#[must_use = "the IRQL is lowered when this is dropped"]
pub(crate) struct RaisedIrql(u8);

/// Raises the current processor's IRQL for simulator code (for instance: a miniport handler that NDIS calls at
/// DISPATCH_LEVEL). Dropping the guard runs the DPCs that this held back.
pub(crate) fn raise_irql(irql: u8) -> RaisedIrql {
    context::with_processor(|p| {
        debug_assert!(irql >= p.irql());
        RaisedIrql(p.set_irql(irql))
    })
}

impl Drop for RaisedIrql {
    fn drop(&mut self) {
        let going_on = !std::thread::panicking() && !context::core().stopped.get();
        context::with_processor(|p| {
            if going_on {
                p.lower_irql(self.0);
            } else {
                p.set_irql(self.0);
            }
        });
    }
}

struct Line {
    irql: u8,
    processor: u32,
    isr: Rc<dyn Fn()>,
}

/// A machine's interrupt vectors.
#[derive(Default)]
pub(crate) struct Interrupts(RefCell<Vec<Option<Line>>>);

/// Where message-signalled interrupts are written to: the local APICs of x86.
const MSI_ADDRESS: u64 = 0xfee0_0000;
/// Vectors below are the processor's own.
const FIRST_VECTOR: u32 = 0x30;

impl Interrupts {
    /// Claims a vector whose handler runs at `irql` on `processor`. The handler is simulator code; it enters the
    /// driver with `call_driver`.
    pub(crate) fn connect(&self, irql: u8, processor: u32, isr: Rc<dyn Fn()>) -> u32 {
        let line = Some(Line {
            irql,
            processor,
            isr,
        });
        let mut lines = self.0.borrow_mut();
        let index = match lines.iter().position(Option::is_none) {
            Some(index) => {
                lines[index] = line;
                index
            }
            None => {
                lines.push(line);
                lines.len() - 1
            }
        };
        FIRST_VECTOR + index as u32
    }

    /// Replaces a vector's handler (a vector may be assigned to a device before a driver connects to it).
    pub(crate) fn set_isr(&self, vector: u32, isr: Rc<dyn Fn()>) {
        let mut lines = self.0.borrow_mut();
        let old = lines
            .get_mut(Self::index(vector))
            .and_then(Option::as_mut)
            .map(|line| std::mem::replace(&mut line.isr, isr));
        drop(lines);
        drop(old);
    }

    /// Gives a vector back.
    pub(crate) fn disconnect(&self, vector: u32) {
        let old = self
            .0
            .borrow_mut()
            .get_mut(Self::index(vector))
            .and_then(Option::take);
        drop(old);
    }

    /// The message (address, data) a device writes to raise a vector.
    pub(crate) fn message(&self, vector: u32) -> (u64, u32) {
        let processor = self
            .0
            .borrow()
            .get(Self::index(vector))
            .and_then(Option::as_ref)
            .map_or(0, |line| line.processor);
        (MSI_ADDRESS | u64::from(processor) << 12, vector)
    }

    fn index(vector: u32) -> usize {
        vector.wrapping_sub(FIRST_VECTOR) as usize
    }

    fn isr(&self, vector: u32) -> Option<Rc<dyn Fn()>> {
        let lines = self.0.borrow();
        let line = lines.get(Self::index(vector))?.as_ref()?;
        Some(Rc::clone(&line.isr))
    }

    fn route(&self, vector: u32) -> Option<(u8, u32)> {
        let lines = self.0.borrow();
        let line = lines.get(Self::index(vector))?.as_ref()?;
        Some((line.irql, line.processor))
    }

    pub(crate) fn clear(&self) {
        let lines = std::mem::take(&mut *self.0.borrow_mut());
        drop(lines);
    }
}

impl Machine {
    /// Queues a DPC on a processor. If that is the current one and its IRQL allows, the DPC runs before this returns.
    /// False if it is queued there already.
    pub(crate) fn queue_dpc(self: &Rc<Self>, processor: u32, dpc: Dpc, front: bool) -> bool {
        let target = &self.processors[processor as usize];
        if !target.queue_dpc(dpc, front) {
            return false;
        }
        if context::with(|c| std::ptr::eq(c.processor.get(), target)) {
            target.lower_irql(target.irql());
        } else {
            self.list_processor(processor);
        }
        true
    }

    /// Requests an interrupt. It is delivered when its processor's IRQL is next lowered below the vector's, or by
    /// the world's loop. Unknown vectors are ignored, as spurious interrupts are.
    pub(crate) fn raise_interrupt(self: &Rc<Self>, vector: u32) {
        let Some((irql, processor)) = self.interrupts.route(vector) else {
            return;
        };
        self.processors[processor as usize].queue_interrupt(irql, vector);
        self.list_processor(processor);
    }

    /// A device's write of a message-signalled interrupt.
    pub(crate) fn msi_write(self: &Rc<Self>, address: u64, data: u32) {
        if address & !0xf_ffff == MSI_ADDRESS {
            // A local APIC has 256 vectors, but every processor has its own; these are numbered throughout.
            self.raise_interrupt(data);
        }
    }
}
