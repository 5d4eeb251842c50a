//! Deferred procedure calls.

use std::ffi::c_void;
use std::ptr;

use ndis_sys::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use ndis_sys::types::{BOOLEAN, FALSE, NTSTATUS, TRUE};
use ndis_sys::wdm::{
    HighImportance, KDEFERRED_ROUTINE, KDPC, KDPC_IMPORTANCE, MediumHighImportance,
    MediumImportance, PROCESSOR_NUMBER,
};

use crate::memory::paged;
use crate::verifier::{self, Function, cross, rules};
use crate::world::context;
use crate::world::driver_call::begin_driver;
use crate::world::on_stack;
use crate::world::processor::{DISPATCH, Dpc, PASSIVE, Processor};
use crate::world::wait::wait_until;

exports! {
    "ntoskrnl.exe";
    KeInitializeDpc: PASSIVE..=HIGH,
    KeInsertQueueDpc: PASSIVE..=HIGH,
    KeRemoveQueueDpc: PASSIVE..=HIGH,
    KeSetTargetProcessorDpcEx: PASSIVE..=HIGH,
    KeSetImportanceDpc: PASSIVE..=HIGH,
    KeFlushQueuedDpcs: PASSIVE..=PASSIVE,
}

/// The kernel's number for this kind of object.
const DPC_OBJECT: u8 = 19;
/// In `KDPC::Number`: a target processor was set.
const TARGETED: u16 = 0x500;

static ROUTINE: Function = Function::callback("DPC routine", DISPATCH..=DISPATCH);

/// Initialises a DPC.
///
/// # Safety
/// `Dpc` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInitializeDpc(
    Dpc: *mut KDPC,
    DeferredRoutine: KDEFERRED_ROUTINE,
    DeferredContext: *mut c_void,
) {
    let _crossing = cross(&functions::KeInitializeDpc);
    let address = Dpc as usize;
    paged::expect_resident(address, "the DPC", "KeInitializeDpc");
    let machine = context::machine();
    if machine
        .processors
        .iter()
        .any(|p| p.has_dpcs() && p.find_dpc(|d| d == address).is_some())
    {
        verifier::violation(
            rules::OBJECT_IN_USE,
            format!("KeInitializeDpc initialises the DPC at {Dpc:p}, which is queued"),
        );
    }
    // SAFETY: promised by the caller.
    unsafe {
        Dpc.write(KDPC {
            Type: DPC_OBJECT,
            Importance: MediumImportance as u8,
            DeferredRoutine: Some(DeferredRoutine),
            DeferredContext,
            ..KDPC::ZEROED
        });
    }
}

/// # Safety
/// `dpc` must point at readable memory.
unsafe fn check_initialized(dpc: *mut KDPC, by: &str) {
    // SAFETY: promised by the caller.
    let (kind, routine) = unsafe { ((*dpc).Type, (*dpc).DeferredRoutine) };
    if kind != DPC_OBJECT || routine.is_none() {
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!("{by}: there is no initialised DPC at {dpc:p}"),
        );
    }
}

/// Takes a DPC that came to the head of its queue and calls its routine.
fn run(object: usize) {
    let dpc = object as *mut KDPC;
    // SAFETY: queued DPCs are initialised, and the memory they lie in is not freed while they are queued (or the
    // verifier has said so).
    let (routine, context, first, second) = unsafe {
        (*dpc).DpcData = ptr::null_mut();
        (
            (*dpc).DeferredRoutine,
            (*dpc).DeferredContext,
            (*dpc).SystemArgument1,
            (*dpc).SystemArgument2,
        )
    };
    let Some(routine) = routine else {
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!("the DPC at {dpc:p} lost its routine while it was queued"),
        );
    };
    // SAFETY: the driver gave the routine and its context for this call.
    begin_driver(&ROUTINE, routine as *const (), || unsafe {
        routine(dpc, context, first, second)
    });
}

/// Queues a DPC; on its own processor it runs at once if the IRQL allows.
///
/// # Safety
/// `dpc` must point at an initialised DPC that stays until it has run.
pub(crate) unsafe fn insert(dpc: *mut KDPC, first: *mut c_void, second: *mut c_void) -> bool {
    // SAFETY: promised by the caller.
    let (queued, number, importance) =
        unsafe { (!(*dpc).DpcData.is_null(), (*dpc).Number, (*dpc).Importance) };
    if queued {
        return false;
    }
    let machine = context::machine();
    let processor = match number.checked_sub(TARGETED) {
        Some(target) => u32::from(target),
        None => context::with_processor(|p| p.number),
    };
    on_stack::note(dpc.addr());
    // SAFETY: promised by the caller.
    unsafe {
        (*dpc).SystemArgument1 = first;
        (*dpc).SystemArgument2 = second;
        (*dpc).DpcData = dpc.cast();
    }
    machine.queue_dpc(
        processor,
        Dpc {
            object: dpc as usize,
            run,
        },
        i32::from(importance) == HighImportance,
    )
}

/// Queues a DPC.
///
/// # Safety
/// `Dpc` must point at an initialised DPC that stays until it has run.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeInsertQueueDpc(
    Dpc: *mut KDPC,
    SystemArgument1: *mut c_void,
    SystemArgument2: *mut c_void,
) -> BOOLEAN {
    let _crossing = cross(&functions::KeInsertQueueDpc);
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Dpc, "KeInsertQueueDpc");
        BOOLEAN::from(insert(Dpc, SystemArgument1, SystemArgument2))
    }
}

/// Takes a DPC out of its queue.
///
/// # Safety
/// `Dpc` must point at an initialised DPC.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeRemoveQueueDpc(Dpc: *mut KDPC) -> BOOLEAN {
    let _crossing = cross(&functions::KeRemoveQueueDpc);
    // SAFETY: promised by the caller.
    unsafe { check_initialized(Dpc, "KeRemoveQueueDpc") };
    let machine = context::machine();
    let removed = machine
        .processors
        .iter()
        .any(|p| p.remove_dpc(Dpc as usize));
    if !removed {
        return FALSE;
    }
    // SAFETY: promised by the caller.
    unsafe { (*Dpc).DpcData = ptr::null_mut() };
    TRUE
}

/// Says on which processor a DPC runs.
///
/// # Safety
/// `Dpc` must point at an initialised DPC, `ProcNumber` at a processor number.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetTargetProcessorDpcEx(
    Dpc: *mut KDPC,
    ProcNumber: *mut PROCESSOR_NUMBER,
) -> NTSTATUS {
    let _crossing = cross(&functions::KeSetTargetProcessorDpcEx);
    // SAFETY: promised by the caller.
    let number = unsafe {
        check_initialized(Dpc, "KeSetTargetProcessorDpcEx");
        *ProcNumber
    };
    let count = context::machine().processors.len();
    if number.Group != 0 || number.Reserved != 0 || usize::from(number.Number) >= count {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: promised by the caller.
    unsafe { (*Dpc).Number = TARGETED + u16::from(number.Number) };
    STATUS_SUCCESS
}

/// Says how urgent a DPC is.
///
/// # Safety
/// `Dpc` must point at an initialised DPC.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetImportanceDpc(Dpc: *mut KDPC, Importance: KDPC_IMPORTANCE) {
    let _crossing = cross(&functions::KeSetImportanceDpc);
    // SAFETY: promised by the caller.
    unsafe {
        check_initialized(Dpc, "KeSetImportanceDpc");
        if (0..=MediumHighImportance).contains(&Importance) {
            (*Dpc).Importance = Importance as u8;
        }
    }
}

/// Waits until every DPC queued so far has run.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeFlushQueuedDpcs() {
    let _crossing = cross(&functions::KeFlushQueuedDpcs);
    let machine = context::machine();
    for processor in &machine.processors {
        if processor.has_dpcs() {
            machine.list_processor(processor.number);
        }
    }
    if context::irql() == PASSIVE {
        // Those that run elsewhere count: they may be spinning.
        let here = context::with_processor(|p| p.number);
        let active = |p: &Processor| p.has_dpcs() || p.number != here && p.nested() > 0;
        wait_until(
            || !machine.processors.iter().any(active),
            None,
            "KeFlushQueuedDpcs",
        );
    }
}
