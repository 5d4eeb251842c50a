//! The test miniport's data path and interrupts.

use std::ptr::null_mut;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::fault::{Corner, Fault, KEEP_SENDS, RESOURCES, aside, corner, is, log};
use super::miniport::{Adapter, header, of};
use crate::world::context;

pub(super) unsafe extern "efiapi" fn send(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _port: u32,
    _flags: u32,
) {
    let adapter = of(context);
    let mut list = lists;
    // SAFETY: NDIS's lists; calls as documented, or wrong on purpose.
    unsafe {
        while !list.is_null() {
            let next = (*list).Next;
            (*list).Next = null_mut();
            if !adapter.running.get() {
                (*list).Status = NDIS_STATUS_PAUSED;
                NdisMSendNetBufferListsComplete(adapter.handle, list, 0);
            } else if is(Fault::WrongSendFlag) && KeGetCurrentIrql() < DISPATCH_LEVEL {
                (*list).Status = NDIS_STATUS_SUCCESS;
                let flags = NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL;
                NdisMSendNetBufferListsComplete(adapter.handle, list, flags);
            } else if (is(Fault::ForgetSend) || is(Fault::PauseTooEarly) || KEEP_SENDS.get())
                && adapter.held_list.get().is_null()
            {
                adapter.held_list.set(list);
            } else {
                (*list).MiniportReserved[0] = context;
                let old = KfRaiseIrql(DISPATCH_LEVEL);
                let status = NdisMAllocateNetBufferSGList(
                    adapter.dma,
                    (*list).FirstNetBuffer,
                    list.cast(),
                    NDIS_SG_LIST_WRITE_TO_DEVICE,
                    null_mut(),
                    0,
                );
                KeLowerIrql(old);
                assert_eq!(status, NDIS_STATUS_SUCCESS);
            }
            list = next;
        }
    }
}

pub(super) unsafe extern "efiapi" fn process_sg_list(
    _device: *mut DEVICE_OBJECT,
    _reserved: *mut c_void,
    sg_list: *mut SCATTER_GATHER_LIST,
    list: *mut c_void,
) {
    let list: *mut NET_BUFFER_LIST = list.cast();
    // SAFETY: the list that `send` passed, and its scatter/gather list.
    unsafe {
        let adapter = of((*list).MiniportReserved[0]);
        let buffer = (*list).FirstNetBuffer;
        let elements = std::slice::from_raw_parts(
            (&raw const (*sg_list).Elements).cast::<SCATTER_GATHER_ELEMENT>(),
            (*sg_list).NumberOfElements as usize,
        );
        let pieces: Vec<_> = elements
            .iter()
            .map(|e| (e.Address.cast_unsigned(), e.Length as usize))
            .collect();
        aside(|| {
            adapter
                .nic
                .transmit(&pieces, (*buffer).CurrentMdlOffset as usize)
        });
        if !is(Fault::KeepScatterGatherList) {
            NdisMFreeNetBufferSGList(adapter.dma, sg_list, buffer);
        }
        (*list).Status = if is(Fault::BadSendStatus) {
            NDIS_STATUS_PENDING
        } else if is(Fault::AbortUnasked) {
            NDIS_STATUS_SEND_ABORTED
        } else {
            NDIS_STATUS_SUCCESS
        };
        if is(Fault::ScribbleSend) {
            let mdl = (*buffer).CurrentMdl;
            let at = (*mdl).MappedSystemVa.cast::<u8>();
            *at.add((*buffer).CurrentMdlOffset as usize + 5) ^= 1;
        }
        if is(Fault::ChangedSend) {
            (*buffer).Anonymous.stDataLength -= 1;
        }
        NdisMSendNetBufferListsComplete(
            adapter.handle,
            list,
            NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
        );
        if is(Fault::CompleteSendTwice) {
            NdisMSendNetBufferListsComplete(
                adapter.handle,
                list,
                NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
            );
        }
        if is(Fault::StatusWrongSource) {
            let mut indication = NDIS_STATUS_INDICATION {
                Header: header(
                    NDIS_OBJECT_TYPE_STATUS_INDICATION,
                    NDIS_STATUS_INDICATION_REVISION_1,
                    NDIS_SIZEOF_STATUS_INDICATION_REVISION_1,
                ),
                StatusCode: NDIS_STATUS_NETWORK_CHANGE,
                ..Default::default()
            };
            NdisMIndicateStatusEx(adapter.handle, &raw mut indication);
        }
    }
}

pub(super) unsafe extern "efiapi" fn line_interrupt(
    context: NDIS_HANDLE,
    queue: *mut BOOLEAN,
    targets: *mut u32,
) -> BOOLEAN {
    if is(Fault::NeverAcknowledges) {
        return 0;
    }
    // SAFETY: NDIS's variables.
    unsafe { message_interrupt(context, 0, queue, targets) }
}

pub(super) unsafe extern "efiapi" fn line_dpc(
    context: NDIS_HANDLE,
    dpc: *mut c_void,
    throttle: *mut c_void,
    reserved: *mut c_void,
) {
    // SAFETY: NDIS's structure.
    unsafe { message_dpc(context, 0, dpc, throttle, reserved) }
}

pub(super) unsafe extern "efiapi" fn line_switch(_context: NDIS_HANDLE) {}

pub(super) unsafe extern "efiapi" fn message_interrupt(
    context: NDIS_HANDLE,
    message: u32,
    queue: *mut BOOLEAN,
    targets: *mut u32,
) -> BOOLEAN {
    let adapter = of(context);
    if message != 0 {
        log(format_args!("message {message}"));
        return 1;
    }
    // SAFETY: our register; NDIS's variables.
    unsafe {
        aside(|| adapter.registers.add(8).cast::<u32>().write_volatile(1));
        queue.write(1);
        targets.write(0);
    }
    1
}

unsafe extern "efiapi" fn nothing(_context: *mut c_void) -> BOOLEAN {
    1
}

pub(super) unsafe extern "efiapi" fn message_dpc(
    context: NDIS_HANDLE,
    message: u32,
    _dpc: *mut c_void,
    throttle: *mut c_void,
    _reserved: *mut c_void,
) {
    let adapter = of(context);
    if corner(Corner::DpcAtDeregister) && message == 1 {
        // SAFETY: the interrupt is there until this has returned.
        unsafe { NdisMSynchronizeWithInterruptEx(adapter.interrupt, 1, nothing, context) };
        log("late DPC");
    }
    let throttle = throttle.cast::<NDIS_RECEIVE_THROTTLE_PARAMETERS>();
    // SAFETY: NDIS's structure.
    let limit = unsafe { (*throttle).MaxNblsToIndicate };
    let mut done = 0;
    while done < limit {
        let Some(frame) = adapter.nic.received.borrow_mut().pop_front() else {
            return;
        };
        done += 1;
        if adapter.running.get() {
            // SAFETY: at DISPATCH_LEVEL in a DPC.
            unsafe { indicate(adapter, &frame) };
        }
        aside(|| drop(frame));
    }
    if !adapter.nic.received.borrow().is_empty() {
        // SAFETY: NDIS's structure.
        unsafe { (*throttle).MoreNblsPending = 1 };
    }
}

/// Indicates a copy of a frame.
pub(super) unsafe fn indicate(adapter: &Adapter, frame: &[u8]) {
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        let tag = u32::from_le_bytes(*b"fram");
        let memory = NdisAllocateMemoryWithTagPriority(adapter.handle, frame.len() as u32, tag, 0);
        assert!(!memory.is_null());
        memory
            .cast::<u8>()
            .copy_from_nonoverlapping(frame.as_ptr(), frame.len());
        let mdl = NdisAllocateMdl(adapter.handle, memory, frame.len() as u32);
        let list = NdisAllocateNetBufferAndNetBufferList(adapter.pool, 0, 0, mdl, 0, frame.len());
        assert!(!list.is_null());
        if !is(Fault::IndicateForeignSource) {
            (*list).SourceHandle = adapter.handle;
        }
        (*list).MiniportReserved[0] = memory;
        let count = if is(Fault::IndicateWrongCount) { 2 } else { 1 };
        let flags = if context::irql() == 2 || is(Fault::WrongReceiveFlag) {
            NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL
        } else {
            0
        };
        let resources = RESOURCES.get();
        let flags = if resources {
            flags | NDIS_RECEIVE_FLAGS_RESOURCES
        } else {
            flags
        };
        if !resources {
            adapter.indicated.set(adapter.indicated.get() + 1);
        }
        if is(Fault::IndicateUnderLock) {
            let mut lock: KSPIN_LOCK = 0;
            let old = KeAcquireSpinLockRaiseToDpc(&raw mut lock);
            NdisMIndicateReceiveNetBufferLists(adapter.handle, list, 0, count, flags);
            KeReleaseSpinLock(&raw mut lock, old);
            return;
        }
        NdisMIndicateReceiveNetBufferLists(adapter.handle, list, 0, count, flags);
        if is(Fault::IndicateTwice) {
            NdisMIndicateReceiveNetBufferLists(adapter.handle, list, 0, count, flags);
        }
        if is(Fault::ScribbleReceive) && adapter.indicated.get() > 0 {
            memory.cast::<u8>().add(13).write(0xee);
        }
        // It may have come back within the call.
        if is(Fault::FreeWhileIndicated) && adapter.indicated.get() > 0 {
            NdisFreeNetBufferList(list);
            adapter.indicated.set(adapter.indicated.get() - 1);
            return;
        }
        if resources {
            free(list);
        }
    }
}

unsafe fn free(list: *mut NET_BUFFER_LIST) {
    // SAFETY: a list of `indicate`, returned.
    unsafe {
        let memory = (*list).MiniportReserved[0];
        let mdl = (*(*list).FirstNetBuffer).MdlChain;
        NdisFreeNetBufferList(list);
        NdisFreeMdl(mdl);
        NdisFreeMemory(memory, 0, 0);
    }
}

pub(super) unsafe extern "efiapi" fn return_lists(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _flags: u32,
) {
    let mut list = lists;
    // SAFETY: lists of `indicate`.
    unsafe {
        while !list.is_null() {
            let next = (*list).Next;
            free(list);
            let adapter = of(context);
            adapter.indicated.set(adapter.indicated.get() - 1);
            if adapter.indicated.get() == 0 && adapter.pausing.replace(false) {
                NdisMPauseComplete(adapter.handle);
            }
            list = next;
        }
    }
}
