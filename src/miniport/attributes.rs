//! What an adapter says of itself when it is initialised.
#![allow(unsafe_code, reason = "NDIS is called with the adapter's handle")]

use alloc::boxed::Box;
use core::ptr::null_mut;

use ndkpi::{NDIS_NDK_CAPABILITIES, NDK_ADAPTER_INFO};
use nt::boxed::try_box;
use nt::sys::ndis::*;
use nt::sys::types::{BOOLEAN, NDIS_HANDLE, TRUE};
use nt::{NoMemory, Status, sys};

use super::{filter, link, oid};
use crate::adapter::Adapter;
use crate::ndk::{capabilities, limits};
use crate::nic::ETHERNET_HEADER;

/// What NDIS keeps a pointer to: the adapter's abilities as an NDK provider. At an address of their own, as long as the adapter.
pub struct Capabilities {
    capabilities: Box<NDIS_NDK_CAPABILITIES>,
    /// The former points at this.
    _info: Box<NDK_ADAPTER_INFO>,
}

// SAFETY: plain data; the pointer inside is to the other box, which is never changed.
unsafe impl Send for Capabilities {}
// SAFETY: as above.
unsafe impl Sync for Capabilities {}

impl Capabilities {
    /// The abilities, for the highest version that is offered.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        let [.., highest] = limits::VERSIONS;
        let mut info = try_box(limits::adapter_info(highest))?;
        let capabilities = try_box(capabilities(&raw mut *info))?;
        Ok(Self {
            capabilities,
            _info: info,
        })
    }
}

/// Calls NdisMSetMiniportAttributes.
///
/// # Safety
/// `attributes` begin with a header that describes them, and fit the state of the adapter's initialisation. IRQL: PASSIVE_LEVEL.
unsafe fn set<T>(adapter: NDIS_HANDLE, attributes: &mut T) -> Result<(), Status> {
    // SAFETY: the caller's promise; every kind of attributes is passed through a pointer to their union.
    let status =
        unsafe { sys::NdisMSetMiniportAttributes(adapter, core::ptr::from_mut(attributes).cast()) };
    Status(status).ok()
}

/// Tells NDIS the context of the adapter, and that it is hardware.
///
/// # Safety
/// `adapter` is the NDIS handle of the adapter that is being initialised. IRQL: PASSIVE_LEVEL.
///
/// # Errors
/// What NDIS answers.
pub unsafe fn register(adapter: NDIS_HANDLE, context: NDIS_HANDLE) -> Result<(), Status> {
    let mut attributes = NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
            Revision: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
            Size: NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
        },
        MiniportAdapterContext: context,
        AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE
            | NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
            | NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND
            | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK,
        CheckForHangTimeInSeconds: 0,
        InterfaceType: NdisInterfacePci,
    };
    // SAFETY: the first attributes to be set.
    unsafe { set(adapter, &mut attributes) }
}

fn address(mac: [u8; 6]) -> [u8; NDIS_MAX_PHYS_ADDRESS_LENGTH] {
    let mut address = [0; NDIS_MAX_PHYS_ADDRESS_LENGTH];
    address
        .iter_mut()
        .zip(mac)
        .for_each(|(to, from)| *to = from);
    address
}

/// Tells NDIS medium, address, speed, and what the adapter supports.
///
/// # Safety
/// The adapter is registered and being initialised. IRQL: PASSIVE_LEVEL.
///
/// # Errors
/// What NDIS answers.
pub unsafe fn describe(adapter: &Adapter) -> Result<(), Status> {
    let nic = adapter.nic();
    let (connected, duplex, speed) = link::view(adapter.link());
    // It can be without power, and wakes nobody up.
    let mut power = NDIS_PM_CAPABILITIES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_DEFAULT,
            Revision: NDIS_PM_CAPABILITIES_REVISION_2,
            Size: NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
        },
        MinMagicPacketWakeUp: NdisDeviceStateUnspecified,
        MinPatternWakeUp: NdisDeviceStateUnspecified,
        MinLinkChangeWakeUp: NdisDeviceStateUnspecified,
        ..NDIS_PM_CAPABILITIES::ZEROED
    };
    let mut attributes = NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
            Revision: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
            Size: NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
        },
        Flags: 0,
        MediaType: NdisMedium802_3,
        PhysicalMediumType: NdisPhysicalMedium802_3,
        MtuSize: u32::from(nic.mtu()),
        MaxXmitLinkSpeed: adapter.link().speed,
        XmitLinkSpeed: speed,
        MaxRcvLinkSpeed: adapter.link().speed,
        RcvLinkSpeed: speed,
        MediaConnectState: connected,
        MediaDuplexState: duplex,
        LookaheadSize: u32::from(nic.mtu()) + ETHERNET_HEADER as u32,
        PowerManagementCapabilities: null_mut(),
        MacOptions: oid::MAC_OPTIONS,
        SupportedPacketFilters: filter::SUPPORTED,
        MaxMulticastListSize: filter::MAX_MULTICAST as u32,
        MacAddressLength: 6,
        PermanentMacAddress: address(nic.permanent_mac()),
        CurrentMacAddress: address(nic.mac()),
        RecvScaleCapabilities: null_mut(),
        AccessType: NET_IF_ACCESS_BROADCAST,
        DirectionType: NET_IF_DIRECTION_SENDRECEIVE,
        ConnectionType: NET_IF_CONNECTION_DEDICATED,
        IfType: IF_TYPE_ETHERNET_CSMACD,
        IfConnectorPresent: TRUE,
        SupportedStatistics: oid::SUPPORTED_STATISTICS,
        SupportedPauseFunctions: NdisPauseFunctionsUnsupported.cast_unsigned(),
        DataBackFillSize: 0,
        ContextBackFillSize: 0,
        SupportedOidList: oid::SUPPORTED.as_ptr().cast_mut(),
        SupportedOidListLength: size_of_val(oid::SUPPORTED) as u32,
        AutoNegotiationFlags: 0,
        PowerManagementCapabilitiesEx: &raw mut power,
    };
    // SAFETY: the second attributes to be set. NDIS reads the list of OIDs and the power capabilities within the call.
    unsafe { set(adapter.handle(), &mut attributes) }
}

/// Tells NDIS that the adapter is an NDK provider, whether NDK is enabled or not.
///
/// # Safety
/// The adapter is registered, described and being initialised. IRQL: PASSIVE_LEVEL.
///
/// # Errors
/// What NDIS answers.
pub unsafe fn describe_ndk(adapter: &Adapter) -> Result<(), Status> {
    let capabilities = core::ptr::from_ref(&*adapter.capabilities().capabilities);
    let mut attributes = NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES,
            Revision: NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
            Size: NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
        },
        Enabled: BOOLEAN::from(adapter.port().is_enabled()),
        NdkCapabilities: capabilities.cast_mut().cast(),
    };
    // SAFETY: after the general attributes; the capabilities stay as long as the adapter.
    unsafe { set(adapter.handle(), &mut attributes) }
}
