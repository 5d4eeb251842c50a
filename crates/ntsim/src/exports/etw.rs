//! `Etw*`: providers of events.

use std::ffi::c_void;

use ndis_sys::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_INVALID_PARAMETER, STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{
    ETWENABLECALLBACK, EVENT_DATA_DESCRIPTOR, EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA,
    EVENT_DATA_DESCRIPTOR_TYPE_NONE, EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA,
    EVENT_DESCRIPTOR, EVENT_INFO_CLASS, EventProviderSetTraits, GUID, MAX_EVENT_DATA_DESCRIPTORS,
    REGHANDLE, WINEVENT_CHANNEL_TRACELOGGING,
};

use crate::etw::{self, Tracing, rules};
use crate::memory::paged::expect_resident;
use crate::verifier::{self, cross};
use crate::world::context;
use crate::world::processor::APC;

exports! {
    "ntoskrnl.exe";
    EtwRegister: PASSIVE..=PASSIVE,
    EtwUnregister: PASSIVE..=PASSIVE,
    EtwSetInformation: PASSIVE..=PASSIVE,
    EtwWriteTransfer: PASSIVE..=HIGH,
}

/// Accuses of a handle that is no provider's.
fn is_registered(tracing: &Tracing, handle: REGHANDLE, by: &str) -> bool {
    let registered = tracing.is_registered(handle);
    if !registered {
        verifier::violation(
            rules::NOT_REGISTERED,
            format!("{by}: {handle:#x} is not the handle of a registered provider"),
        );
    }
    registered
}

/// Registers a provider of events.
///
/// # Safety
/// The identifier must be readable and the handle's place writable; the callback may be called with the context until the registration
/// ends.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn EtwRegister(
    ProviderId: *const GUID,
    EnableCallback: Option<ETWENABLECALLBACK>,
    CallbackContext: *mut c_void,
    RegHandle: *mut REGHANDLE,
) -> NTSTATUS {
    let crossing = cross(&functions::EtwRegister);
    if ProviderId.is_null() || RegHandle.is_null() {
        return STATUS_INVALID_PARAMETER;
    }
    let machine = context::machine();
    let tracing = machine.ext::<Tracing>();
    // SAFETY: promised by the caller.
    let id = unsafe { *ProviderId };
    if crossing.is_from_driver() && machine.faults.strikes("EtwRegister") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let owner = machine.owner(&crossing);
    let handle = tracing.register(id, EnableCallback, CallbackContext, owner);
    // SAFETY: promised by the caller. Windows, too, has written it when it calls back from in here.
    unsafe { RegHandle.write(handle) };
    tracing.tell(handle, std::ptr::null(), false);
    STATUS_SUCCESS
}

/// Ends a registration.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn EtwUnregister(RegHandle: REGHANDLE) -> NTSTATUS {
    let _crossing = cross(&functions::EtwUnregister);
    let machine = context::machine();
    let tracing = machine.ext::<Tracing>();
    if !is_registered(&tracing, RegHandle, "EtwUnregister") {
        return STATUS_INVALID_HANDLE;
    }
    tracing.unregister(RegHandle);
    STATUS_SUCCESS
}

/// Sets something of a provider: who it is.
///
/// # Safety
/// The information must be readable.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn EtwSetInformation(
    RegHandle: REGHANDLE,
    InformationClass: EVENT_INFO_CLASS,
    EventInformation: *mut c_void,
    InformationLength: u32,
) -> NTSTATUS {
    let crossing = cross(&functions::EtwSetInformation);
    let machine = context::machine();
    let tracing = machine.ext::<Tracing>();
    if !is_registered(&tracing, RegHandle, "EtwSetInformation") {
        return STATUS_INVALID_HANDLE;
    }
    if InformationClass != EventProviderSetTraits {
        verifier::violation(
            verifier::rules::NOT_SIMULATED,
            format!("EtwSetInformation of class {InformationClass}"),
        );
        return STATUS_INVALID_PARAMETER;
    }
    if crossing.is_from_driver() && machine.faults.strikes("EtwSetInformation") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: promised by the caller.
    let traits = unsafe { bytes(EventInformation as u64, InformationLength) };
    tracing.set_traits(RegHandle, traits.to_vec());
    STATUS_SUCCESS
}

/// Writes an event.
///
/// # Safety
/// All that is pointed at must be readable.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn EtwWriteTransfer(
    RegHandle: REGHANDLE,
    EventDescriptor: *const EVENT_DESCRIPTOR,
    _ActivityId: *const GUID,
    _RelatedActivityId: *const GUID,
    UserDataCount: u32,
    UserData: *mut EVENT_DATA_DESCRIPTOR,
) -> NTSTATUS {
    let _crossing = cross(&functions::EtwWriteTransfer);
    let machine = context::machine();
    let tracing = machine.ext::<Tracing>();
    if !is_registered(&tracing, RegHandle, "EtwWriteTransfer") {
        return STATUS_INVALID_HANDLE;
    }
    if UserDataCount > MAX_EVENT_DATA_DESCRIPTORS {
        etw::accuse(&format!("EtwWriteTransfer: {UserDataCount} pieces of data"));
        return STATUS_INVALID_PARAMETER;
    }
    let by = "EtwWriteTransfer";
    if context::irql() > APC {
        expect_resident(EventDescriptor as usize, "the event's descriptor", by);
        expect_resident(UserData as usize, "the list of the event's data", by);
    }
    // SAFETY: promised by the caller.
    let (event, pieces) = unsafe {
        let pieces = match UserDataCount {
            0 => &[][..],
            count => std::slice::from_raw_parts(UserData, count as usize),
        };
        (*EventDescriptor, pieces)
    };
    if context::irql() > APC {
        for piece in pieces {
            expect_resident(piece.Ptr as usize, "the event's data", by);
        }
    }
    if !tracing.is_wanted(RegHandle, &event) {
        return STATUS_SUCCESS;
    }
    // What a piece is counts only once the provider has set its traits (evntprov.h, EVENT_INFO_CLASS): until then all are data.
    if !tracing.has_traits(RegHandle) {
        etw::accuse(
            "EtwWriteTransfer: the event does not describe itself, as its provider has not set its traits",
        );
        return STATUS_SUCCESS;
    }
    let kinds: Vec<u8> = pieces.iter().map(|piece| piece.Type).collect();
    let described = event.Channel == WINEVENT_CHANNEL_TRACELOGGING
        && kinds.starts_with(&[
            EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA,
            EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA,
        ])
        && kinds[2..]
            .iter()
            .all(|kind| *kind == EVENT_DATA_DESCRIPTOR_TYPE_NONE);
    if !described {
        etw::accuse("EtwWriteTransfer: the event does not describe itself");
        return STATUS_SUCCESS;
    }
    // SAFETY: promised by the caller.
    let piece = |piece: &EVENT_DATA_DESCRIPTOR| unsafe { bytes(piece.Ptr, piece.Size) };
    let data: Vec<u8> = pieces[2..].iter().flat_map(piece).copied().collect();
    let parts = [piece(&pieces[0]), piece(&pieces[1]), &data];
    tracing.hear(&machine, RegHandle, &event, parts);
    STATUS_SUCCESS
}

/// # Safety
/// `length` bytes at `address` must be readable for as long as they are used.
unsafe fn bytes<'a>(address: u64, length: u32) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: promised by the caller.
    unsafe { std::slice::from_raw_parts(address as *const u8, length as usize) }
}
