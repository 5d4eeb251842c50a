//! `ndis.sys`: settings, work items, timers, events, memory, the event log.

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::ke::time;
use crate::memory::Request;
use crate::ndis::adapter::Adapter;
use crate::ndis::{config, ndis, rules, work};
use crate::verifier::{cross, violation};
use crate::world::context;
use crate::world::wait::sleep_until;

super::exports! {
    "ndis.sys";
    NdisMSleep: PASSIVE..=APC,
    NdisOpenConfigurationEx: PASSIVE..=PASSIVE,
    NdisReadConfiguration: PASSIVE..=PASSIVE,
    NdisWriteConfiguration: PASSIVE..=PASSIVE,
    NdisCloseConfiguration: PASSIVE..=PASSIVE,
    NdisReadNetworkAddress: PASSIVE..=PASSIVE,
    NdisAllocateIoWorkItem: PASSIVE..=DISPATCH,
    NdisFreeIoWorkItem: PASSIVE..=DISPATCH,
    NdisQueueIoWorkItem: PASSIVE..=DISPATCH,
    NdisAllocateTimerObject: PASSIVE..=DISPATCH,
    NdisSetTimerObject: PASSIVE..=DISPATCH,
    NdisCancelTimerObject: PASSIVE..=DISPATCH,
    NdisFreeTimerObject: PASSIVE..=DISPATCH,
    NdisGetSystemUpTimeEx: PASSIVE..=HIGH,
    NdisGetRssProcessorInformation: PASSIVE..=DISPATCH,
    NdisAllocateMemoryWithTagPriority: PASSIVE..=DISPATCH,
    NdisFreeMemory: PASSIVE..=DISPATCH,
    NdisWriteEventLogEntry: PASSIVE..=DISPATCH,
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMSleep(MicrosecondsToSleep: u32) {
    let _crossing = cross(&functions::NdisMSleep);
    sleep_until(context::core().now() + u64::from(MicrosecondsToSleep) * 1000);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisOpenConfigurationEx(
    ConfigObject: *mut NDIS_CONFIGURATION_OBJECT,
    ConfigurationHandle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisOpenConfigurationEx);
    // SAFETY: the driver's pointers, as documented.
    unsafe { config::open(ConfigObject, ConfigurationHandle) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisReadConfiguration(
    Status: *mut NDIS_STATUS,
    ParameterValue: *mut *mut NDIS_CONFIGURATION_PARAMETER,
    ConfigurationHandle: NDIS_HANDLE,
    Keyword: *mut NDIS_STRING,
    ParameterType: NDIS_PARAMETER_TYPE,
) {
    let _crossing = cross(&functions::NdisReadConfiguration);
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        match config::read(ConfigurationHandle, Keyword, ParameterType) {
            Ok(parameter) => {
                ParameterValue.write(parameter);
                Status.write(NDIS_STATUS_SUCCESS);
            }
            Err(status) => Status.write(status),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisWriteConfiguration(
    Status: *mut NDIS_STATUS,
    ConfigurationHandle: NDIS_HANDLE,
    Keyword: *mut NDIS_STRING,
    ParameterValue: *mut NDIS_CONFIGURATION_PARAMETER,
) {
    let _crossing = cross(&functions::NdisWriteConfiguration);
    // SAFETY: the driver's pointers, as documented.
    unsafe { Status.write(config::write(ConfigurationHandle, Keyword, ParameterValue)) };
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisCloseConfiguration(ConfigurationHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisCloseConfiguration);
    config::close(ConfigurationHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisReadNetworkAddress(
    Status: *mut NDIS_STATUS,
    NetworkAddress: *mut *mut c_void,
    NetworkAddressLength: *mut u32,
    ConfigurationHandle: NDIS_HANDLE,
) {
    let _crossing = cross(&functions::NdisReadNetworkAddress);
    // SAFETY: the driver's variables.
    unsafe {
        match config::network_address(ConfigurationHandle) {
            Some((address, length)) => {
                NetworkAddress.write(address);
                NetworkAddressLength.write(length);
                Status.write(NDIS_STATUS_SUCCESS);
            }
            None => Status.write(NDIS_STATUS_FAILURE),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateIoWorkItem(NdisObjectHandle: NDIS_HANDLE) -> NDIS_HANDLE {
    let _crossing = cross(&functions::NdisAllocateIoWorkItem);
    work::allocate_item(NdisObjectHandle)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeIoWorkItem(NdisIoWorkItemHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisFreeIoWorkItem);
    work::free_item(NdisIoWorkItemHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisQueueIoWorkItem(
    NdisIoWorkItemHandle: NDIS_HANDLE,
    Routine: NDIS_IO_WORKITEM_FUNCTION,
    WorkItemContext: *mut c_void,
) {
    let _crossing = cross(&functions::NdisQueueIoWorkItem);
    work::queue_item(NdisIoWorkItemHandle, Routine, WorkItemContext);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateTimerObject(
    NdisHandle: NDIS_HANDLE,
    TimerCharacteristics: *mut NDIS_TIMER_CHARACTERISTICS,
    pTimerObject: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisAllocateTimerObject);
    // SAFETY: the driver's pointers, as documented.
    unsafe { work::allocate_timer(NdisHandle, TimerCharacteristics, pTimerObject) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisSetTimerObject(
    TimerObject: NDIS_HANDLE,
    DueTime: LARGE_INTEGER,
    MillisecondsPeriod: i32,
    FunctionContext: *mut c_void,
) -> BOOLEAN {
    let _crossing = cross(&functions::NdisSetTimerObject);
    work::set_timer(TimerObject, DueTime, MillisecondsPeriod, FunctionContext)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisCancelTimerObject(TimerObject: NDIS_HANDLE) -> BOOLEAN {
    let _crossing = cross(&functions::NdisCancelTimerObject);
    work::cancel_timer(TimerObject)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeTimerObject(TimerObject: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisFreeTimerObject);
    work::free_timer(TimerObject);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisGetSystemUpTimeEx(pSystemUpTime: *mut LARGE_INTEGER) {
    let _crossing = cross(&functions::NdisGetSystemUpTimeEx);
    context::core().looked_at_clock();
    let milliseconds = time::interrupt_time() / 10_000;
    // SAFETY: the driver's variable.
    unsafe { pSystemUpTime.write(milliseconds.cast_signed()) };
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisGetRssProcessorInformation(
    _NdisHandle: NDIS_HANDLE,
    _RssProcessorInfo: *mut NDIS_RSS_PROCESSOR_INFO,
    _Size: *mut usize,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisGetRssProcessorInformation);
    // As when receive-side scaling is switched off.
    NDIS_STATUS_NOT_SUPPORTED
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateMemoryWithTagPriority(
    _NdisHandle: NDIS_HANDLE,
    Length: u32,
    Tag: u32,
    _Priority: EX_POOL_PRIORITY,
) -> *mut c_void {
    let crossing = cross(&functions::NdisAllocateMemoryWithTagPriority);
    if Length == 0 || Tag == 0 {
        violation(
            rules::PARAMETER,
            format!("NdisAllocateMemoryWithTagPriority: length {Length}, tag {Tag:#x}"),
        );
    }
    let machine = context::machine();
    let request = Request {
        size: (Length as usize).max(1),
        align: 16,
        tag: Tag,
        zero: false,
        paged: false,
        owner: if crossing.is_from_driver() {
            machine.charged_driver()
        } else {
            0
        },
        function: "NdisAllocateMemoryWithTagPriority",
    };
    machine
        .pool_alloc(&request)
        .map_or(std::ptr::null_mut(), std::ptr::with_exposed_provenance_mut)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeMemory(
    VirtualAddress: *mut c_void,
    _Length: u32,
    MemoryFlags: u32,
) {
    let _crossing = cross(&functions::NdisFreeMemory);
    if MemoryFlags != 0 {
        violation(
            rules::PARAMETER,
            format!("NdisFreeMemory: MemoryFlags {MemoryFlags:#x} must be zero"),
        );
    }
    context::machine().pool_free(VirtualAddress.expose_provenance(), None, "NdisFreeMemory");
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisWriteEventLogEntry(
    _LogHandle: *mut c_void,
    EventCode: NDIS_STATUS,
    _UniqueEventValue: u32,
    NumStrings: u16,
    StringsList: *mut c_void,
    DataSize: u32,
    Data: *mut c_void,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisWriteEventLogEntry);
    // SAFETY: the driver's arrays of those lengths: null-terminated strings and bytes.
    let (strings, data) = unsafe {
        let list = StringsList.cast::<*const u16>();
        let strings = (0..usize::from(NumStrings))
            .map(|i| wide_text(list.add(i).read()))
            .collect();
        let mut data = vec![0u8; DataSize as usize];
        if DataSize > 0 {
            data.as_mut_ptr()
                .copy_from_nonoverlapping(Data.cast::<u8>(), DataSize as usize);
        }
        (strings, data)
    };
    context::machine().log_event(EventCode.cast_unsigned(), strings, data);
    NDIS_STATUS_SUCCESS
}

/// A null-terminated UTF-16 string.
unsafe fn wide_text(mut text: *const u16) -> String {
    let mut units = Vec::new();
    // SAFETY: null-terminated, as the caller promises.
    unsafe {
        while !text.is_null() && text.read() != 0 {
            units.push(text.read());
            text = text.add(1);
        }
    }
    String::from_utf16_lossy(&units)
}

/// The function with a variable number of values: at most these are kept.
pub(crate) mod variadic {
    use super::*;

    super::super::exports_unchecked! {
        "ndis.sys";
        NdisWriteErrorLogEntry: PASSIVE..=DISPATCH
    }

    #[unsafe(no_mangle)]
    unsafe extern "efiapi" fn NdisWriteErrorLogEntry(
        NdisAdapterHandle: NDIS_HANDLE,
        ErrorCode: u32,
        NumberOfErrorValues: u32,
        Value1: usize,
        Value2: usize,
        Value3: usize,
        Value4: usize,
        Value5: usize,
        Value6: usize,
    ) {
        let _crossing = cross(&functions::NdisWriteErrorLogEntry);
        if ndis()
            .handles
            .get::<Adapter>(NdisAdapterHandle, "NdisWriteErrorLogEntry")
            .is_none()
        {
            return;
        }
        let values = [Value1, Value2, Value3, Value4, Value5, Value6];
        let count = NumberOfErrorValues as usize;
        if count > values.len() {
            violation(
                crate::verifier::rules::NOT_SIMULATED,
                format!("NdisWriteErrorLogEntry with {count} values, 6 are simulated"),
            );
        }
        let data = values
            .iter()
            .take(count)
            .flat_map(|v| (*v as u32).to_le_bytes())
            .collect();
        context::machine().log_event(ErrorCode, Vec::new(), data);
    }
}
