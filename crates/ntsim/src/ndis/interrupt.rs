//! Interrupts of miniports: messages, or a line, at device IRQL, and their DPCs at DISPATCH_LEVEL.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::adapter::Adapter;
use super::handle::Handled;
use super::{header, ndis, rules};
use crate::exports::ke::spin;
use crate::verifier::locks::Kind;
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::driver_call::{begin_driver, call_driver};
use crate::world::machine::Machine;
use crate::world::processor::{self, DEVICE, DISPATCH, Dpc, HIGH};
use crate::world::wait::wait_until;

/// A registered interrupt: messages, or a line, which counts as message 0.
pub(crate) struct Interrupt {
    handle: Cell<NDIS_HANDLE>,
    adapter: Weak<Adapter>,
    machine: Weak<Machine>,
    /// `MiniportInterruptContext`.
    context: NDIS_HANDLE,
    handlers: NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS,
    message_count: u32,
    /// It is a line.
    line: bool,
    /// How often in a row the line was still asserted when the miniport had served it.
    unanswered: Cell<u32>,
    /// One for each message and processor.
    #[allow(clippy::vec_box, reason = "queued DPCs are named by their address")]
    dpcs: RefCell<Vec<Box<DpcSlot>>>,
    /// `IO_INTERRUPT_MESSAGE_INFO`, in kernel memory; None for a line.
    table: Option<usize>,
    /// What the kernel holds while the handler of a message runs or one synchronises with it: one for each message,
    /// or one for all if the miniport asked for that.
    locks: Box<[Cell<KSPIN_LOCK>]>,
    connected: Cell<bool>,
}

/// Plays the part of NDIS's KDPC for one message on one processor.
struct DpcSlot {
    interrupt: Weak<Interrupt>,
    message: u32,
    processor: u32,
    context: Cell<*mut c_void>,
    queued: Cell<bool>,
    running: Cell<bool>,
}

impl Handled for Interrupt {
    const KIND: &'static str = "an interrupt";
}

static MESSAGE_ISR: Function = Function::callback("MiniportMessageInterrupt", DEVICE..=DEVICE);
static MESSAGE_DPC: Function =
    Function::callback("MiniportMessageInterruptDPC", DISPATCH..=DISPATCH);
static LINE_ISR: Function = Function::callback("MiniportInterrupt", DEVICE..=DEVICE);
static LINE_DPC: Function = Function::callback("MiniportInterruptDPC", DISPATCH..=DISPATCH);
static SYNCHRONIZE: Function =
    Function::callback("MiniportSynchronizeMessageInterrupt", DEVICE..=HIGH);

/// A line that is still asserted after so many interrupts is never going to be released.
const STUCK: u32 = 1000;

/// `NdisMRegisterInterruptEx`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn register(
    adapter: NDIS_HANDLE,
    interrupt_context: NDIS_HANDLE,
    characteristics: *mut NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const F: &str = "NdisMRegisterInterruptEx";
    let ndis = ndis();
    let Some(adapter) = ndis.handles.get::<Adapter>(adapter, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if characteristics.is_null() || out.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    if !adapter.may_claim(F) {
        return NDIS_STATUS_FAILURE;
    }
    if !adapter.interrupts.borrow().is_empty() {
        violation(
            rules::INTERRUPT,
            format!("{F}: the adapter's interrupts are registered already"),
        );
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*characteristics).Header };
    let sizes = [(
        NDIS_MINIPORT_INTERRUPT_REVISION_1,
        NDIS_SIZEOF_MINIPORT_INTERRUPT_CHARACTERISTICS_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_MINIPORT_INTERRUPT, &sizes) {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    // SAFETY: as long as its header says.
    let handlers: NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS =
        unsafe { header::copy(characteristics, head.Size) };
    if !handlers_complete(&handlers) {
        return NDIS_STATUS_BAD_CHARACTERISTICS;
    }
    let messages = adapter.device.messages();
    let line = adapter.device.line();
    if handlers.MsiSupported == 0 && line.is_none() {
        violation(
            rules::INTERRUPT,
            format!("{F}: the INF has the device use messages, and MsiSupported is not set"),
        );
        return NDIS_STATUS_NOT_SUPPORTED;
    }
    let machine = adapter.machine();
    if machine.faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let table = if line.is_none() {
        match message_table(&machine, &messages) {
            Some(table) => Some(table),
            None => return NDIS_STATUS_RESOURCES,
        }
    } else {
        None
    };
    let message_count = u32::try_from(messages.len()).unwrap_or(0).max(1);
    let locks = if handlers.MsiSyncWithAllMessages == 0 {
        message_count
    } else {
        1
    };
    let locks: Box<[_]> = (0..locks).map(|_| Cell::new(0)).collect();
    context::core()
        .verifier
        .lock_order
        .forget(locks.as_ptr().addr(), size_of_val(&*locks));
    let interrupt = Rc::new(Interrupt {
        handle: Cell::new(std::ptr::null_mut()),
        adapter: Rc::downgrade(&adapter),
        machine: Rc::downgrade(&machine),
        context: interrupt_context,
        handlers,
        message_count,
        line: line.is_some(),
        unanswered: Cell::new(0),
        dpcs: RefCell::default(),
        table,
        locks,
        connected: Cell::new(true),
    });
    for message in 0..message_count {
        for processor in 0..u32::try_from(machine.processors.len()).unwrap_or(1) {
            interrupt.dpcs.borrow_mut().push(Box::new(DpcSlot {
                interrupt: Rc::downgrade(&interrupt),
                message,
                processor,
                context: Cell::new(std::ptr::null_mut()),
                queued: Cell::new(false),
                running: Cell::new(false),
            }));
        }
    }
    let handle = ndis.handles.insert(Rc::clone(&interrupt));
    interrupt.handle.set(handle);
    adapter.interrupts.borrow_mut().push(Rc::clone(&interrupt));
    // SAFETY: the driver's structure and variable.
    unsafe {
        (*characteristics).InterruptType = match table {
            Some(_) => NDIS_CONNECT_MESSAGE_BASED,
            None => NDIS_CONNECT_LINE_BASED,
        };
        (*characteristics).MessageInfoTable = table.map_or(std::ptr::null_mut(), |table| {
            std::ptr::with_exposed_provenance_mut(table)
        });
        out.write(handle);
    }
    if let Some(vector) = line {
        let isr = Rc::downgrade(&interrupt);
        machine.interrupts.set_isr(
            vector,
            Rc::new(move || {
                if let Some(interrupt) = isr.upgrade() {
                    interrupt.line_isr();
                }
            }),
        );
        adapter.device.function.deliver_line();
        return NDIS_STATUS_SUCCESS;
    }
    for (index, message) in messages.iter().enumerate() {
        let isr = Rc::downgrade(&interrupt);
        let number = u32::try_from(index).unwrap_or(0);
        machine.interrupts.set_isr(
            message.vector,
            Rc::new(move || {
                if let Some(interrupt) = isr.upgrade() {
                    interrupt.isr(number);
                }
            }),
        );
        adapter
            .device
            .function
            .program_message(index as u16, message.address, message.data);
    }
    adapter.device.function.enable_messages(true);
    NDIS_STATUS_SUCCESS
}

fn handlers_complete(h: &NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS) -> bool {
    const F: &str = "NdisMRegisterInterruptEx";
    let line = [
        h.InterruptHandler.is_some(),
        h.InterruptDpcHandler.is_some(),
        h.DisableInterruptHandler.is_some(),
        h.EnableInterruptHandler.is_some(),
    ];
    let message = [
        h.MessageInterruptHandler.is_some(),
        h.MessageInterruptDpcHandler.is_some(),
        h.DisableMessageInterruptHandler.is_some(),
        h.EnableMessageInterruptHandler.is_some(),
    ];
    let mut ok = true;
    if line.contains(&false) {
        violation(
            rules::INTERRUPT,
            format!(
                "{F}: the four handlers of line-based interrupts are required, with message handlers too"
            ),
        );
        ok = false;
    }
    // The disable and enable handlers of messages are optional.
    if h.MsiSupported != 0 && message[..2].contains(&false) {
        violation(
            rules::INTERRUPT,
            format!("{F}: MsiSupported without MessageInterruptHandler and its DPC handler"),
        );
        ok = false;
    }
    if h.MsiSupported == 0 && message.contains(&true) {
        violation(
            rules::INTERRUPT,
            format!("{F}: message handlers without MsiSupported must be null"),
        );
        ok = false;
    }
    ok
}

/// Builds the `IO_INTERRUPT_MESSAGE_INFO` that the driver gets to see.
fn message_table(machine: &Machine, messages: &[crate::pnp::device::Message]) -> Option<usize> {
    let size = std::mem::offset_of!(IO_INTERRUPT_MESSAGE_INFO, MessageInfo)
        + messages.len() * size_of::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
    let address = machine.kernel_alloc(
        size.max(size_of::<IO_INTERRUPT_MESSAGE_INFO>()),
        "NdisMRegisterInterruptEx",
    )?;
    let table: *mut IO_INTERRUPT_MESSAGE_INFO = std::ptr::with_exposed_provenance_mut(address);
    // SAFETY: freshly allocated, large enough for all entries.
    unsafe {
        (*table).UnifiedIrql = DEVICE;
        (*table).MessageCount = u32::try_from(messages.len()).unwrap_or(0);
        let entries = (&raw mut (*table).MessageInfo).cast::<IO_INTERRUPT_MESSAGE_INFO_ENTRY>();
        for (i, message) in messages.iter().enumerate() {
            entries.add(i).write(IO_INTERRUPT_MESSAGE_INFO_ENTRY {
                MessageAddress: message.address.cast_signed(),
                TargetProcessorSet: 1 << message.processor,
                InterruptObject: std::ptr::null_mut(),
                MessageData: message.data,
                Vector: message.vector,
                Irql: DEVICE,
                Mode: Latched,
                Polarity: InterruptActiveHigh,
            });
        }
    }
    Some(address)
}

impl Interrupt {
    /// A message arrived; the processor is at device IRQL.
    fn isr(&self, message: u32) {
        if !self.connected.get() {
            return;
        }
        let Some(handler) = self.handlers.MessageInterruptHandler else {
            return;
        };
        let machine = self.machine.upgrade();
        if machine
            .as_ref()
            .is_some_and(|m| m.faults.loses_interrupt(message))
        {
            return;
        }
        let _charged = self.adapter.upgrade().map(|a| a.driver.driver.charge());
        let mut queue_default: BOOLEAN = 0;
        let mut targets: u32 = 0;
        let ours = self.exclusively(message, || {
            // SAFETY: a handler the driver registered, called as its type demands.
            begin_driver(&MESSAGE_ISR, handler as *const (), || unsafe {
                handler(
                    self.context,
                    message,
                    &raw mut queue_default,
                    &raw mut targets,
                )
            })
        });
        if ours != 0 {
            self.queue_wanted(message, queue_default != 0, targets);
        }
        if machine.is_some_and(|m| m.faults.repeats_interrupt(message)) {
            self.isr(message);
        }
    }

    /// The line is asserted; the processor is at device IRQL.
    fn line_isr(&self) {
        let Some(adapter) = self.adapter.upgrade().filter(|_| self.connected.get()) else {
            return;
        };
        let Some(handler) = self.handlers.InterruptHandler else {
            return;
        };
        let _charged = adapter.driver.driver.charge();
        let mut queue_default: BOOLEAN = 0;
        let mut targets: u32 = 0;
        let ours = self.exclusively(0, || {
            // SAFETY: a handler the driver registered, called as its type demands.
            begin_driver(&LINE_ISR, handler as *const (), || unsafe {
                handler(self.context, &raw mut queue_default, &raw mut targets)
            })
        });
        if ours != 0 {
            self.queue_wanted(0, queue_default != 0, targets);
        }
        if self.unanswered.get() == STUCK {
            return;
        }
        // It interrupts again and again until the device has been satisfied.
        if !adapter.device.function.deliver_line() {
            self.unanswered.set(0);
            return;
        }
        self.unanswered.set(self.unanswered.get() + 1);
        if self.unanswered.get() == STUCK {
            violation(
                rules::INTERRUPT,
                format!(
                    "MiniportInterrupt was called {STUCK} times and the device still asserts its interrupt line: it was not \
                     acknowledged"
                ),
            );
        }
    }

    /// Queues the DPCs that an interrupt handler asks for.
    fn queue_wanted(&self, message: u32, default: bool, targets: u32) {
        if default {
            let here = context::with_processor(|p| p.number);
            self.queue(message, here, std::ptr::null_mut());
        } else {
            for processor in 0..32 {
                if targets & (1 << processor) != 0 {
                    self.queue(message, processor, std::ptr::null_mut());
                }
            }
        }
    }

    /// Runs `f` while no other processor runs the handler of a message or synchronises with it. At device IRQL.
    fn exclusively<R>(&self, message: u32, f: impl FnOnce() -> R) -> R {
        const BY: &str = "the kernel, for an interrupt";
        let lock = self.locks[message as usize % self.locks.len()].as_ptr();
        // SAFETY: the lock lives as long as the interrupt.
        context::with_processor(|p| unsafe {
            spin::acquire(p, lock, Kind::AtDpc, p.irql(), BY);
        });
        let result = f();
        // SAFETY: as above.
        context::with_processor(|p| unsafe {
            spin::release(p, lock, Kind::AtDpc, p.irql(), BY);
        });
        result
    }

    /// Queues the DPC of a message on a processor; false if it is queued there already or there is no such processor.
    pub(crate) fn queue(&self, message: u32, processor: u32, dpc_context: *mut c_void) -> bool {
        let Some(machine) = self.machine.upgrade() else {
            return false;
        };
        let dpcs = self.dpcs.borrow();
        let Some(slot) = dpcs
            .iter()
            .find(|s| s.message == message && s.processor == processor)
        else {
            return false;
        };
        if slot.queued.replace(true) {
            return false;
        }
        slot.context.set(dpc_context);
        let object = std::ptr::from_ref(&**slot).expose_provenance();
        machine.processors[processor as usize].queue_dpc(
            Dpc {
                object,
                run: run_dpc,
            },
            false,
        );
        machine.list_processor(processor);
        true
    }

    #[cfg(test)]
    pub(crate) fn handle(&self) -> NDIS_HANDLE {
        self.handle.get()
    }

    pub(crate) fn messages(&self) -> u32 {
        self.message_count
    }

    fn dpcs_idle(&self) -> bool {
        self.dpcs
            .borrow()
            .iter()
            .all(|s| !s.queued.get() && !s.running.get())
    }
}

/// The DPC that NDIS queues for a message.
fn run_dpc(object: usize) {
    let slot: *const DpcSlot = std::ptr::with_exposed_provenance(object);
    // SAFETY: slots are boxed in their interrupt, which lives until no DPC is queued or running (see `deregister`).
    let slot = unsafe { &*slot };
    let Some(interrupt) = slot.interrupt.upgrade() else {
        return;
    };
    slot.queued.set(false);
    slot.running.set(true);
    let _charged = interrupt
        .adapter
        .upgrade()
        .map(|a| a.driver.driver.charge());
    let mut throttle = NDIS_RECEIVE_THROTTLE_PARAMETERS {
        MaxNblsToIndicate: ndis().throttle.get(),
        MoreNblsPending: 0,
    };
    let dpc_context = slot.context.replace(std::ptr::null_mut());
    let (context, none) = (interrupt.context, std::ptr::null_mut());
    let told = (&raw mut throttle).cast();
    if interrupt.line {
        if let Some(handler) = interrupt.handlers.InterruptDpcHandler {
            // SAFETY: a handler the driver registered, called as its type demands.
            begin_driver(&LINE_DPC, handler as *const (), || unsafe {
                handler(context, dpc_context, told, none);
            });
        }
    } else if let Some(handler) = interrupt.handlers.MessageInterruptDpcHandler {
        // SAFETY: as above.
        begin_driver(&MESSAGE_DPC, handler as *const (), || unsafe {
            handler(context, slot.message, dpc_context, told, none);
        });
    }
    slot.running.set(false);
    if throttle.MoreNblsPending & 1 != 0 {
        interrupt.queue(slot.message, slot.processor, std::ptr::null_mut());
    }
}

/// `NdisMDeregisterInterruptEx`.
pub(crate) fn deregister(handle: NDIS_HANDLE) {
    const F: &str = "NdisMDeregisterInterruptEx";
    let ndis = ndis();
    let Some(interrupt) = ndis.handles.get::<Interrupt>(handle, F) else {
        return;
    };
    interrupt.connected.set(false);
    let (Some(adapter), Some(machine)) = (interrupt.adapter.upgrade(), interrupt.machine.upgrade())
    else {
        return;
    };
    let messages = adapter.device.messages();
    adapter.device.function.enable_messages(false);
    for (index, message) in messages.iter().enumerate() {
        adapter.device.function.mask_message(index as u16, true);
        machine.interrupts.set_isr(message.vector, Rc::new(|| {}));
    }
    if let Some(vector) = adapter.device.line() {
        machine.interrupts.set_isr(vector, Rc::new(|| {}));
    }
    wait_until(
        || interrupt.dpcs_idle(),
        None,
        format!("{F} waits for interrupt DPCs"),
    );
    // Until then they may use it.
    ndis.handles.remove(handle);
    adapter
        .interrupts
        .borrow_mut()
        .retain(|i| !Rc::ptr_eq(i, &interrupt));
    if let Some(table) = interrupt.table {
        machine.pool_free(table, None, "NdisMDeregisterInterruptEx");
    }
}

/// `NdisMQueueDpc`: returns the processors a DPC was queued on.
pub(crate) fn queue_dpc(
    handle: NDIS_HANDLE,
    message: u32,
    targets: u64,
    dpc_context: *mut c_void,
) -> u64 {
    const F: &str = "NdisMQueueDpc";
    let Some(interrupt) = ndis().handles.get::<Interrupt>(handle, F) else {
        return 0;
    };
    if message >= interrupt.messages() {
        violation(
            rules::INTERRUPT,
            format!("{F}: message {message} of {}", interrupt.messages()),
        );
        return 0;
    }
    (0..64)
        .filter(|p| targets & (1 << p) != 0 && interrupt.queue(message, *p, dpc_context))
        .fold(0, |set, p| set | 1 << p)
}

/// `NdisMSynchronizeWithInterruptEx`.
pub(crate) fn synchronize(
    handle: NDIS_HANDLE,
    message: u32,
    function: MINIPORT_SYNCHRONIZE_INTERRUPT,
    context: *mut c_void,
) -> BOOLEAN {
    const F: &str = "NdisMSynchronizeWithInterruptEx";
    let Some(interrupt) = ndis().handles.get::<Interrupt>(handle, F) else {
        return 0;
    };
    if message >= interrupt.messages() {
        violation(
            rules::INTERRUPT,
            format!("{F}: message {message} of {}", interrupt.messages()),
        );
        return 0;
    }
    let _raised = processor::raise_irql(DEVICE.max(context::irql()));
    interrupt.exclusively(message, || {
        // SAFETY: the driver's function, called as its type demands.
        call_driver(&SYNCHRONIZE, function as *const (), || unsafe {
            function(context)
        })
    })
}
