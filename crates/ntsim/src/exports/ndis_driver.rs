//! `ndis.sys`: registration of drivers and attributes, state changes, OID requests, status.

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use crate::ndis::{adapter, driver, lifecycle, ndis, oid, reset, status, world};
use crate::verifier::{cross, expect_no_locks};

super::exports! {
    "ndis.sys";
    NdisMRegisterMiniportDriver: PASSIVE..=PASSIVE,
    NdisMDeregisterMiniportDriver: PASSIVE..=PASSIVE,
    NdisSetOptionalHandlers: PASSIVE..=PASSIVE,
    NdisMSetMiniportAttributes: PASSIVE..=PASSIVE,
    NdisMOidRequestComplete: PASSIVE..=DISPATCH,
    NdisMDirectOidRequestComplete: PASSIVE..=DISPATCH,
    NdisMIndicateStatusEx: PASSIVE..=DISPATCH,
    NdisMPauseComplete: PASSIVE..=DISPATCH,
    NdisMRestartComplete: PASSIVE..=DISPATCH,
    NdisMResetComplete: DISPATCH..=DISPATCH,
    NdisMResetMiniport: PASSIVE..=DISPATCH,
    NdisMRemoveMiniport: PASSIVE..=DISPATCH,
    NdisMNetPnPEvent: PASSIVE..=PASSIVE,
    NdisGetVersion: PASSIVE..=DISPATCH,
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMRegisterMiniportDriver(
    DriverObject: *mut DRIVER_OBJECT,
    _RegistryPath: *mut UNICODE_STRING,
    MiniportDriverContext: NDIS_HANDLE,
    MiniportDriverCharacteristics: *mut NDIS_MINIPORT_DRIVER_CHARACTERISTICS,
    NdisMiniportDriverHandle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMRegisterMiniportDriver);
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        driver::register(
            DriverObject,
            MiniportDriverContext,
            MiniportDriverCharacteristics,
            NdisMiniportDriverHandle,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMDeregisterMiniportDriver(NdisMiniportDriverHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisMDeregisterMiniportDriver);
    driver::deregister(NdisMiniportDriverHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisSetOptionalHandlers(
    NdisHandle: NDIS_HANDLE,
    OptionalHandlers: *mut NDIS_DRIVER_OPTIONAL_HANDLERS,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisSetOptionalHandlers);
    // SAFETY: the driver's pointers, as documented.
    unsafe { driver::set_optional_handlers(NdisHandle, OptionalHandlers) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMSetMiniportAttributes(
    NdisMiniportHandle: NDIS_HANDLE,
    MiniportAttributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMSetMiniportAttributes);
    // SAFETY: the driver's pointers, as documented.
    unsafe { adapter::set_attributes(NdisMiniportHandle, MiniportAttributes) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMOidRequestComplete(
    MiniportAdapterHandle: NDIS_HANDLE,
    OidRequest: *mut NDIS_OID_REQUEST,
    Status: NDIS_STATUS,
) {
    let _crossing = cross(&functions::NdisMOidRequestComplete);
    expect_no_locks("NdisMOidRequestComplete");
    oid::complete(
        MiniportAdapterHandle,
        OidRequest,
        Status,
        false,
        "NdisMOidRequestComplete",
    );
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMDirectOidRequestComplete(
    MiniportAdapterHandle: NDIS_HANDLE,
    OidRequest: *mut NDIS_OID_REQUEST,
    Status: NDIS_STATUS,
) {
    let _crossing = cross(&functions::NdisMDirectOidRequestComplete);
    expect_no_locks("NdisMDirectOidRequestComplete");
    oid::complete(
        MiniportAdapterHandle,
        OidRequest,
        Status,
        true,
        "NdisMDirectOidRequestComplete",
    );
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMIndicateStatusEx(
    MiniportAdapterHandle: NDIS_HANDLE,
    StatusIndication: *mut NDIS_STATUS_INDICATION,
) {
    let _crossing = cross(&functions::NdisMIndicateStatusEx);
    expect_no_locks("NdisMIndicateStatusEx");
    // SAFETY: the driver's pointers, as documented.
    unsafe { status::indicate(MiniportAdapterHandle, StatusIndication) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMPauseComplete(MiniportAdapterHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisMPauseComplete);
    expect_no_locks("NdisMPauseComplete");
    lifecycle::pause_complete(MiniportAdapterHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMRestartComplete(
    MiniportAdapterHandle: NDIS_HANDLE,
    Status: NDIS_STATUS,
) {
    let _crossing = cross(&functions::NdisMRestartComplete);
    expect_no_locks("NdisMRestartComplete");
    lifecycle::restart_complete(MiniportAdapterHandle, Status);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMResetComplete(
    MiniportAdapterHandle: NDIS_HANDLE,
    Status: NDIS_STATUS,
    AddressingReset: BOOLEAN,
) {
    let _crossing = cross(&functions::NdisMResetComplete);
    expect_no_locks("NdisMResetComplete");
    reset::complete(MiniportAdapterHandle, Status, AddressingReset != 0);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMResetMiniport(MiniportAdapterHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisMResetMiniport);
    reset::request(MiniportAdapterHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMRemoveMiniport(MiniportHandle: NDIS_HANDLE) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMRemoveMiniport);
    match ndis()
        .handles
        .get::<adapter::Adapter>(MiniportHandle, "NdisMRemoveMiniport")
    {
        Some(adapter) => {
            world::fail(&adapter);
            NDIS_STATUS_SUCCESS
        }
        None => NDIS_STATUS_FAILURE,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMNetPnPEvent(
    MiniportAdapterHandle: NDIS_HANDLE,
    NetPnPEventNotification: *mut NET_PNP_EVENT_NOTIFICATION,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMNetPnPEvent);
    // SAFETY: the driver's pointers, as documented.
    unsafe { status::pnp_event(MiniportAdapterHandle, NetPnPEventNotification) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisGetVersion() -> u32 {
    let _crossing = cross(&functions::NdisGetVersion);
    driver::NDIS_VERSION
}
