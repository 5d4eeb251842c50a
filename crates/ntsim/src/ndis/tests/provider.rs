//! NDK providers that NDIS does not take, or is deadlocked by.

use ndis_sys::imports::NdisSetOptionalHandlers;
use ndis_sys::oid::OID_GEN_STATISTICS;
use ndis_sys::status::{NDIS_STATUS_FAILURE, NDIS_STATUS_RESOURCES};
use ndis_sys::types::{NDIS_HANDLE, NDIS_STATUS};
use ndkpi::{
    NDIS_NDK_PROVIDER_CHARACTERISTICS, NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS,
    NDIS_OPEN_NDK_ADAPTER_PARAMETERS, NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1,
    NDK_ADAPTER,
};

use super::fault::{FAULT, Fault, is};
use super::{IMAGE, INX, two_machines};
use crate::ndis::{InstallError, OidRequest, rules};

unsafe extern "efiapi" fn open(
    _: NDIS_HANDLE,
    _: *mut NDIS_OPEN_NDK_ADAPTER_PARAMETERS,
    _: *mut *mut NDK_ADAPTER,
) -> NDIS_STATUS {
    NDIS_STATUS_FAILURE
}

unsafe extern "efiapi" fn close(_: NDIS_HANDLE, _: *mut NDK_ADAPTER) {}

/// MiniportSetOptions of a provider with one thing wrong, or nothing.
pub(super) unsafe extern "efiapi" fn set_options(
    driver: NDIS_HANDLE,
    _: NDIS_HANDLE,
) -> NDIS_STATUS {
    if is(Fault::OptionsFail) {
        return NDIS_STATUS_RESOURCES;
    }
    let mut characteristics = NDIS_NDK_PROVIDER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_NDK_PROVIDER_CHARACTERISTICS,
            Revision: NDIS_NDK_PROVIDER_CHARACTERISTICS_REVISION_1
                + u8::from(is(Fault::ProviderRevision)),
            Size: NDIS_SIZEOF_NDK_PROVIDER_CHARACTERISTICS_REVISION_1
                - u16::from(is(Fault::ProviderSize)),
        },
        Flags: u32::from(is(Fault::ProviderFlags)),
        OpenNDKAdapterHandler: (!is(Fault::ProviderWithoutOpen)).then_some(open as _),
        CloseNDKAdapterHandler: (!is(Fault::ProviderWithoutClose)).then_some(close as _),
    };
    // SAFETY: NDIS's handle; the header says which handlers these are, or is wrong on purpose.
    unsafe { NdisSetOptionalHandlers(driver, (&raw mut characteristics).cast()) }
}

#[test]
fn a_provider_registers_with_a_proper_header_no_flags_and_both_handlers() {
    for (fault, accused) in [
        (Fault::ProviderGood, None),
        (Fault::ProviderRevision, Some(rules::HEADER)),
        (Fault::ProviderSize, Some(rules::HEADER)),
        (Fault::ProviderFlags, Some(rules::CHARACTERISTICS)),
        (Fault::ProviderWithoutOpen, Some(rules::CHARACTERISTICS)),
        (Fault::ProviderWithoutClose, Some(rules::CHARACTERISTICS)),
    ] {
        let (mut world, a, _) = two_machines(true);
        FAULT.set(fault);
        let installed = world.install(a, INX, IMAGE);
        let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
        assert_eq!(named, accused.as_slice(), "{fault:?}");
        assert_eq!(installed.is_ok(), accused.is_none(), "{fault:?}");
        if installed.is_ok() {
            world.uninstall(a);
        }
    }
}

#[test]
fn a_driver_whose_options_could_not_be_set_is_not_registered_and_need_not_deregister() {
    let (mut world, a, _) = two_machines(false);
    FAULT.set(Fault::OptionsFail);
    let error = world.install(a, INX, IMAGE).unwrap_err();
    assert!(matches!(error, InstallError::DriverEntry(_)), "{error:?}");
    FAULT.set(Fault::None);
    world.install(a, INX, IMAGE).unwrap();
    world.uninstall(a);
}

#[test]
fn an_event_raised_inside_an_oid_request_is_accused() {
    let (mut world, a, _) = two_machines(true);
    world.install(a, INX, IMAGE).unwrap();
    world.take_violations();
    FAULT.set(Fault::PnpEventInOid);
    world.oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 160));
    FAULT.set(Fault::None);
    let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
    assert_eq!(named, [rules::PNP_EVENT]);
    world.uninstall(a);
}
