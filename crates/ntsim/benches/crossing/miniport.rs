//! A miniport that does no work: what it is given to send it completes at once, and it indicates the same frame whenever it is asked.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{self, null_mut};

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::provider;

/// The package that a machine with a NIC of virtio installs it from.
pub const INF: &str = r#"
[Version]
Signature = "$Windows NT$"
Class = Net
ClassGuid = {4d36e972-e325-11ce-bfc1-08002be10318}
Provider = %P%
CatalogFile = bench.cat
PnpLockdown = 1
DriverVer =
[Manufacturer]
%P% = Models, NT$ARCH$.10.0...16299
[Models.NT$ARCH$.10.0...16299]
%P% = nic, PCI\VEN_1AF4&DEV_1041
[nic.NT]
Characteristics = 0x84
BusType = 5
*IfType = 6
*MediaType = 0
*PhysicalMediaType = 14
AddReg = nic.reg
[nic.reg]
HKR, Ndi\Interfaces, UpperRange, 0, "ndis5"
[nic.NT.Services]
AddService = bench, 2, nic.service
[nic.service]
ServiceType = 1
StartType = 3
ErrorControl = 1
ServiceBinary = %13%\bench.sys
[Strings]
P = "Bench"
"#;

/// Bytes of the frame that is indicated, the shortest of Ethernet.
const FRAME: u32 = 60;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const TAG: u32 = u32::from_le_bytes(*b"Bnch");

thread_local! {
    static DRIVER: Cell<NDIS_HANDLE> = const { Cell::new(null_mut()) };
    static ADAPTER: Cell<*const Adapter> = const { Cell::new(ptr::null()) };
}

/// What the driver keeps for its adapter.
pub struct Adapter {
    handle: NDIS_HANDLE,
    pool: NDIS_HANDLE,
    memory: *mut c_void,
    mdl: *mut MDL,
    /// The list that is indicated; null while the protocol has it.
    list: Cell<*mut NET_BUFFER_LIST>,
}

impl Adapter {
    /// The adapter of the driver that is installed. It is gone when the driver is uninstalled.
    pub fn installed() -> &'static Adapter {
        // SAFETY: set by `initialize`, and no caller keeps it until `halt`.
        unsafe { ADAPTER.get().as_ref() }.expect("an adapter that was initialised")
    }

    /// Takes a list with a net buffer of the frame from the pool. Kernel code, <= DISPATCH_LEVEL.
    pub fn allocate(&self) -> *mut NET_BUFFER_LIST {
        // SAFETY: the pool and the MDL live as long as the adapter.
        unsafe {
            NdisAllocateNetBufferAndNetBufferList(self.pool, 0, 0, self.mdl, 0, FRAME as usize)
        }
    }

    /// Gives the list back to its pool.
    ///
    /// # Safety
    /// It is of `allocate`, and nobody has it.
    pub unsafe fn free(&self, list: *mut NET_BUFFER_LIST) {
        // SAFETY: the caller's promise.
        unsafe { NdisFreeNetBufferList(list) };
    }

    /// Indicates the frame. Kernel code at DISPATCH_LEVEL.
    pub fn indicate(&self) {
        let list = self.list.replace(null_mut());
        assert!(!list.is_null(), "the list has not been returned");
        // SAFETY: the list of `initialize`, which nobody else has.
        unsafe {
            (*list).Next = null_mut();
            NdisMIndicateReceiveNetBufferLists(
                self.handle,
                list,
                NDIS_DEFAULT_PORT_NUMBER,
                1,
                NDIS_RECEIVE_FLAGS_DISPATCH_LEVEL,
            );
        }
    }

    /// Whether what was indicated has come back.
    pub fn is_returned(&self) -> bool {
        !self.list.get().is_null()
    }
}

fn of(context: NDIS_HANDLE) -> &'static Adapter {
    // SAFETY: the context of the adapter, alive until `halt`.
    unsafe { &*context.cast::<Adapter>() }
}

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER {
        Type: kind,
        Revision: revision,
        Size: size,
    }
}

/// Of the driver.
pub unsafe extern "efiapi" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    let mut characteristics = NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
            NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
            NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
        ),
        MajorNdisVersion: 6,
        MinorNdisVersion: 80,
        SetOptionsHandler: Some(provider::set_options),
        InitializeHandlerEx: Some(initialize),
        HaltHandlerEx: Some(halt),
        UnloadHandler: Some(unload),
        PauseHandler: Some(pause),
        RestartHandler: Some(restart),
        OidRequestHandler: Some(oid_request),
        SendNetBufferListsHandler: Some(send),
        ReturnNetBufferListsHandler: Some(return_lists),
        CancelSendHandler: Some(cancel),
        DevicePnPEventNotifyHandler: Some(pnp_event),
        ShutdownHandlerEx: Some(shutdown),
        CancelOidRequestHandler: Some(cancel),
        DirectOidRequestHandler: Some(oid_request),
        CancelDirectOidRequestHandler: Some(cancel),
        ..Default::default()
    };
    let mut handle = null_mut();
    // SAFETY: structures as documented.
    let status = unsafe {
        NdisMRegisterMiniportDriver(
            driver,
            registry_path.cast_mut(),
            null_mut(),
            &raw mut characteristics,
            &raw mut handle,
        )
    };
    DRIVER.set(handle);
    status
}

unsafe extern "efiapi" fn unload(_: *mut DRIVER_OBJECT) {
    // SAFETY: registered.
    unsafe { NdisMDeregisterMiniportDriver(DRIVER.get()) };
}

/// Tells NDIS one kind of attributes.
fn set(handle: NDIS_HANDLE, mut attributes: NDIS_MINIPORT_ADAPTER_ATTRIBUTES) {
    // SAFETY: a structure as documented.
    let status = unsafe { NdisMSetMiniportAttributes(handle, &raw mut attributes) };
    assert_eq!(status, NDIS_STATUS_SUCCESS);
}

fn general_attributes() -> NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
    static OIDS: [NDIS_OID; 7] = [
        OID_GEN_CURRENT_PACKET_FILTER,
        OID_802_3_MULTICAST_LIST,
        OID_GEN_STATISTICS,
        OID_NDK_SET_STATE,
        OID_NDK_STATISTICS,
        OID_NDK_CONNECTIONS,
        OID_NDK_LOCAL_ENDPOINTS,
    ];
    const SPEED: u64 = 10_000_000_000;
    let mut mac = [0; 32];
    mac[..6].copy_from_slice(&MAC);
    NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
        Header: header(
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
            2,
            NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
        ),
        MediaType: NdisMedium802_3,
        PhysicalMediumType: NdisPhysicalMedium802_3,
        MtuSize: 1500,
        MaxXmitLinkSpeed: SPEED,
        XmitLinkSpeed: SPEED,
        MaxRcvLinkSpeed: SPEED,
        RcvLinkSpeed: SPEED,
        MediaConnectState: MediaConnectStateConnected,
        MediaDuplexState: MediaDuplexStateFull,
        LookaheadSize: 1500,
        SupportedPacketFilters: NDIS_PACKET_TYPE_DIRECTED
            | NDIS_PACKET_TYPE_BROADCAST
            | NDIS_PACKET_TYPE_MULTICAST,
        MacAddressLength: 6,
        PermanentMacAddress: mac,
        CurrentMacAddress: mac,
        AccessType: NET_IF_ACCESS_BROADCAST,
        DirectionType: NET_IF_DIRECTION_SENDRECEIVE,
        ConnectionType: NET_IF_CONNECTION_DEDICATED,
        IfType: IF_TYPE_ETHERNET_CSMACD,
        IfConnectorPresent: 1,
        SupportedOidList: OIDS.as_ptr().cast_mut(),
        SupportedOidListLength: size_of_val(&OIDS) as u32,
        ..Default::default()
    }
}

unsafe extern "efiapi" fn initialize(
    handle: NDIS_HANDLE,
    _: NDIS_HANDLE,
    _: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> NDIS_STATUS {
    let mut adapter = Box::new(Adapter {
        handle,
        pool: null_mut(),
        memory: null_mut(),
        mdl: null_mut(),
        list: Cell::new(null_mut()),
    });
    set(
        handle,
        NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
            RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
                Header: header(
                    NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
                    2,
                    NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
                ),
                MiniportAdapterContext: ptr::from_mut(&mut *adapter).cast(),
                AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE
                    | NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
                    | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK,
                InterfaceType: NdisInterfacePci,
                ..Default::default()
            },
        },
    );
    set(
        handle,
        NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
            GeneralAttributes: general_attributes(),
        },
    );
    provider::set_attributes(handle);
    let pool = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        fAllocateNetBuffer: 1,
        PoolTag: TAG,
        ..Default::default()
    };
    // SAFETY: calls as documented; the block has room for the frame.
    unsafe {
        adapter.pool = NdisAllocateNetBufferListPool(handle, &raw const pool);
        adapter.memory = NdisAllocateMemoryWithTagPriority(handle, FRAME, TAG, 0);
        assert!(!adapter.pool.is_null() && !adapter.memory.is_null());
        // To this adapter, of a type that no protocol takes.
        let mut frame = [0; FRAME as usize];
        frame[..6].copy_from_slice(&MAC);
        frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 0x88, 0xb5]);
        adapter.memory.cast::<[u8; FRAME as usize]>().write(frame);
        adapter.mdl = NdisAllocateMdl(handle, adapter.memory, FRAME);
        let list = adapter.allocate();
        assert!(!adapter.mdl.is_null() && !list.is_null());
        (*list).SourceHandle = handle;
        adapter.list.set(list);
    }
    ADAPTER.set(Box::into_raw(adapter));
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn halt(context: NDIS_HANDLE, _: NDIS_HALT_ACTION) {
    ADAPTER.set(ptr::null());
    // SAFETY: our context, whose last use this is; all of it is of `initialize`.
    unsafe {
        let adapter = Box::from_raw(context.cast::<Adapter>());
        adapter.free(adapter.list.get());
        NdisFreeMdl(adapter.mdl);
        NdisFreeMemory(adapter.memory, 0, 0);
        NdisFreeNetBufferListPool(adapter.pool);
    }
}

/// Nothing is outstanding: sends are completed at once, and the rows wait for what was indicated.
unsafe extern "efiapi" fn pause(
    context: NDIS_HANDLE,
    _: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    assert!(of(context).is_returned());
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn restart(
    _: NDIS_HANDLE,
    _: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn send(
    context: NDIS_HANDLE,
    lists: *mut NET_BUFFER_LIST,
    _: NDIS_PORT_NUMBER,
    flags: u32,
) {
    let mut list = lists;
    // SAFETY: NDIS's lists, all of which are this driver's until they are completed.
    unsafe {
        while !list.is_null() {
            (*list).Status = NDIS_STATUS_SUCCESS;
            list = (*list).Next;
        }
        let at_dispatch = flags & NDIS_SEND_FLAGS_DISPATCH_LEVEL != 0;
        let flags = u32::from(at_dispatch) * NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL;
        NdisMSendNetBufferListsComplete(of(context).handle, lists, flags);
    }
}

unsafe extern "efiapi" fn return_lists(context: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, _: u32) {
    // There is only one.
    of(context).list.set(lists);
}

/// Sets whatever it is told, and answers nothing.
unsafe extern "efiapi" fn oid_request(
    _: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    // SAFETY: NDIS's request; all requests to set have that part.
    unsafe {
        if (*request).RequestType != NdisRequestSetInformation {
            return NDIS_STATUS_NOT_SUPPORTED;
        }
        let set = &mut (*request).DATA.SET_INFORMATION;
        set.BytesRead = set.InformationBufferLength;
    }
    NDIS_STATUS_SUCCESS
}

/// There is never anything to cancel.
unsafe extern "efiapi" fn cancel(_: NDIS_HANDLE, _: *mut c_void) {}

unsafe extern "efiapi" fn pnp_event(_: NDIS_HANDLE, _: *mut NET_DEVICE_PNP_EVENT) {}

unsafe extern "efiapi" fn shutdown(_: NDIS_HANDLE, _: NDIS_SHUTDOWN_ACTION) {}
