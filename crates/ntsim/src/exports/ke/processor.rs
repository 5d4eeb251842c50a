//! Processors. There is one group.

use ndis_sys::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{ALL_PROCESSOR_GROUPS, GROUP_AFFINITY, PROCESSOR_NUMBER};

use crate::verifier::{self, cross, rules};
use crate::world::context;
use crate::world::processor::DISPATCH;

exports! {
    "ntoskrnl.exe";
    KeGetCurrentProcessorNumberEx: PASSIVE..=HIGH,
    KeQueryActiveProcessorCountEx: PASSIVE..=HIGH,
    KeQueryMaximumProcessorCountEx: PASSIVE..=HIGH,
    KeGetProcessorNumberFromIndex: PASSIVE..=HIGH,
    KeGetProcessorIndexFromNumber: PASSIVE..=HIGH,
    KeSetSystemGroupAffinityThread: PASSIVE..=DISPATCH,
    KeRevertToUserGroupAffinityThread: PASSIVE..=DISPATCH,
}

fn count() -> u32 {
    context::machine().processors.len() as u32
}

fn number(index: u32) -> PROCESSOR_NUMBER {
    PROCESSOR_NUMBER {
        Number: index as u8,
        ..PROCESSOR_NUMBER::ZEROED
    }
}

/// Number of the processor.
///
/// # Safety
/// `ProcNumber` must be null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeGetCurrentProcessorNumberEx(
    ProcNumber: *mut PROCESSOR_NUMBER,
) -> u32 {
    let _crossing = cross(&functions::KeGetCurrentProcessorNumberEx);
    let index = context::with_processor(|p| p.number);
    if !ProcNumber.is_null() {
        // SAFETY: promised by the caller.
        unsafe { ProcNumber.write(number(index)) };
    }
    index
}

fn count_in(group: u16) -> u32 {
    if group == 0 || group == ALL_PROCESSOR_GROUPS {
        count()
    } else {
        0
    }
}

/// Active processors of a group or of all.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryActiveProcessorCountEx(GroupNumber: u16) -> u32 {
    let _crossing = cross(&functions::KeQueryActiveProcessorCountEx);
    count_in(GroupNumber)
}

/// Processors of a group or of all there can be.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeQueryMaximumProcessorCountEx(GroupNumber: u16) -> u32 {
    let _crossing = cross(&functions::KeQueryMaximumProcessorCountEx);
    count_in(GroupNumber)
}

/// Group and number of a processor.
///
/// # Safety
/// `ProcNumber` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeGetProcessorNumberFromIndex(
    ProcIndex: u32,
    ProcNumber: *mut PROCESSOR_NUMBER,
) -> NTSTATUS {
    let _crossing = cross(&functions::KeGetProcessorNumberFromIndex);
    if ProcIndex >= count() {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: promised by the caller.
    unsafe { ProcNumber.write(number(ProcIndex)) };
    STATUS_SUCCESS
}

/// System-wide index of a processor; all ones if there is none.
///
/// # Safety
/// `ProcNumber` must point at a processor number.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeGetProcessorIndexFromNumber(
    ProcNumber: *mut PROCESSOR_NUMBER,
) -> u32 {
    let _crossing = cross(&functions::KeGetProcessorIndexFromNumber);
    // SAFETY: promised by the caller.
    let number = unsafe { *ProcNumber };
    if number.Group != 0 || u32::from(number.Number) >= count() {
        return u32::MAX;
    }
    u32::from(number.Number)
}

fn affinity_of(processor: u32) -> GROUP_AFFINITY {
    GROUP_AFFINITY {
        Mask: 1 << processor,
        ..GROUP_AFFINITY::ZEROED
    }
}

/// Moves the running thread to the first processor of a set. At DISPATCH_LEVEL Windows would do it when the IRQL is
/// lowered; here it is not done.
fn migrate(mask: usize) {
    let machine = context::machine();
    let wanted = mask & ((1usize << count()) - 1);
    if wanted == 0 || context::irql() >= DISPATCH {
        return;
    }
    let current = context::with_processor(|p| p.number);
    if wanted & 1 << current != 0 {
        return;
    }
    let target = &machine.processors[wanted.trailing_zeros() as usize];
    let irql = context::with_processor(|p| p.set_irql(0));
    context::with(|c| c.processor.set(target));
    target.lower_irql(irql);
}

/// Moves the thread to processors of a group.
///
/// # Safety
/// `Affinity` must point at a set, `PreviousAffinity` must be null or valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeSetSystemGroupAffinityThread(
    Affinity: *mut GROUP_AFFINITY,
    PreviousAffinity: *mut GROUP_AFFINITY,
) {
    let _crossing = cross(&functions::KeSetSystemGroupAffinityThread);
    // SAFETY: promised by the caller.
    let affinity = unsafe { *Affinity };
    if affinity.Group != 0 || affinity.Reserved != [0; 3] {
        verifier::violation(
            rules::BAD_ADDRESS,
            "KeSetSystemGroupAffinityThread: the affinity's group or reserved fields are not zero",
        );
    }
    if !PreviousAffinity.is_null() {
        let current = context::with_processor(|p| p.number);
        // SAFETY: promised by the caller.
        unsafe { PreviousAffinity.write(affinity_of(current)) };
    }
    migrate(affinity.Mask);
}

/// Moves the thread back.
///
/// # Safety
/// `PreviousAffinity` must point at a set.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn KeRevertToUserGroupAffinityThread(
    PreviousAffinity: *mut GROUP_AFFINITY,
) {
    let _crossing = cross(&functions::KeRevertToUserGroupAffinityThread);
    // SAFETY: promised by the caller.
    migrate(unsafe { (*PreviousAffinity).Mask });
}
