//! A small miniport for the made-up NIC, which breaks one rule if told to: its life.

use std::cell::Cell;
use std::ptr::null_mut;
use std::rc::Rc;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::fault::{
    ATTRIBUTES, Corner, Fault, HANGS, KEEP_OIDS, LINES, MISUSE, NICS, PEND_PAUSE, PEND_RESET,
    RESETS, aside, corner, is, is_provider, log,
};
use super::nic::Nic;
use super::oids::{cancel_oid, direct_oid_request, oid_request};
use super::traffic::*;

thread_local! {
    pub(super) static DRIVER: Cell<NDIS_HANDLE> = const { Cell::new(null_mut()) };
    pub(super) static OBJECT: Cell<*mut DRIVER_OBJECT> = const { Cell::new(null_mut()) };
}

/// What the driver keeps for an adapter.
pub(super) struct Adapter {
    pub(super) handle: NDIS_HANDLE,
    pub(super) registers: *mut u8,
    pub(super) nic: Rc<Nic>,
    pub(super) interrupt: NDIS_HANDLE,
    pub(super) dma: NDIS_HANDLE,
    pub(super) pool: NDIS_HANDLE,
    pub(super) shared: (*mut c_void, i64),
    pub(super) work: NDIS_HANDLE,
    pub(super) running: Cell<bool>,
    pub(super) pending_oid: Cell<*mut NDIS_OID_REQUEST>,
    pub(super) removed: Cell<bool>,
    pub(super) held_list: Cell<*mut NET_BUFFER_LIST>,
    /// Lists indicated and not returned.
    pub(super) indicated: Cell<u32>,
    pub(super) pausing: Cell<bool>,
    pub(super) timer: Cell<NDIS_HANDLE>,
}

/// Given to `DriverImage::Linked`.
pub(super) unsafe extern "efiapi" fn driver_entry(
    driver: *mut DRIVER_OBJECT,
    registry_path: *const UNICODE_STRING,
) -> NTSTATUS {
    if is(Fault::EntryFails) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let mut c = NDIS_MINIPORT_DRIVER_CHARACTERISTICS {
        Header: NDIS_OBJECT_HEADER {
            Type: NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS,
            Revision: if is(Fault::WrongHeader) {
                9
            } else {
                NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3
            },
            Size: NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
        },
        MajorNdisVersion: 6,
        MinorNdisVersion: if is(Fault::FutureNdis) { 99 } else { 80 },
        InitializeHandlerEx: Some(initialize),
        HaltHandlerEx: Some(halt),
        UnloadHandler: Some(unload),
        PauseHandler: Some(pause),
        RestartHandler: Some(restart),
        OidRequestHandler: Some(oid_request),
        SendNetBufferListsHandler: Some(send),
        ReturnNetBufferListsHandler: Some(return_lists),
        CancelSendHandler: Some(cancel_send),
        DevicePnPEventNotifyHandler: Some(pnp_event),
        ShutdownHandlerEx: Some(shutdown),
        CancelOidRequestHandler: Some(cancel_oid),
        DirectOidRequestHandler: Some(direct_oid_request),
        CancelDirectOidRequestHandler: Some(cancel_oid),
        ..Default::default()
    };
    if RESETS.get() {
        c.CheckForHangHandlerEx = Some(check_for_hang);
        c.ResetHandlerEx = Some(reset);
    }
    if is(Fault::NoHaltHandler) {
        c.HaltHandlerEx = None;
    }
    if is_provider() {
        c.SetOptionsHandler = Some(super::provider::set_options);
    }
    let mut handle = null_mut();
    // SAFETY: structures as documented.
    let status = unsafe {
        NdisMRegisterMiniportDriver(
            driver,
            registry_path.cast_mut(),
            null_mut(),
            &raw mut c,
            &raw mut handle,
        )
    };
    DRIVER.set(handle);
    OBJECT.set(driver);
    status
}

unsafe extern "efiapi" fn unload(_driver: *mut DRIVER_OBJECT) {
    log("unload");
    if !is(Fault::ForgetDeregister) {
        // SAFETY: registered.
        unsafe { NdisMDeregisterMiniportDriver(DRIVER.get()) };
    }
}

pub(super) fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER {
        Type: kind,
        Revision: revision,
        Size: size,
    }
}

fn set_registration(handle: NDIS_HANDLE, context: NDIS_HANDLE) -> NDIS_STATUS {
    let bus_master = if is(Fault::NoBusMaster) {
        0
    } else {
        NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
    };
    let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
        RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
            Header: header(
                NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
                2,
                NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
            ),
            MiniportAdapterContext: context,
            AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE
                | bus_master
                | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
                | ATTRIBUTES.get(),
            CheckForHangTimeInSeconds: 5,
            InterfaceType: NdisInterfacePci,
        },
    };
    // SAFETY: a structure as documented.
    unsafe { NdisMSetMiniportAttributes(handle, &raw mut attributes) }
}

fn set_general(handle: NDIS_HANDLE, number: usize) -> NDIS_STATUS {
    static OIDS: [NDIS_OID; 3] = [
        OID_GEN_CURRENT_PACKET_FILTER,
        OID_802_3_MULTICAST_LIST,
        OID_GEN_STATISTICS,
    ];
    let mut mac = [0; 32];
    mac[..6].copy_from_slice(&[2, 0, 0, 0, 1, number as u8]);
    let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
        GeneralAttributes: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES {
            Header: header(
                NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
                2,
                NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
            ),
            MediaType: NdisMedium802_3,
            PhysicalMediumType: NdisPhysicalMedium802_3,
            MtuSize: 1500,
            MaxXmitLinkSpeed: 10_000_000_000,
            XmitLinkSpeed: 10_000_000_000,
            MaxRcvLinkSpeed: 10_000_000_000,
            RcvLinkSpeed: 10_000_000_000,
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
        },
    };
    // SAFETY: a structure as documented.
    unsafe { NdisMSetMiniportAttributes(handle, &raw mut attributes) }
}

unsafe extern "efiapi" fn initialize(
    handle: NDIS_HANDLE,
    _driver_context: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
) -> NDIS_STATUS {
    log("initialize");
    // SAFETY: NDIS's structure and its list of resources.
    let (physical, length, messages) = unsafe {
        let list = (*parameters).AllocatedResources;
        let first =
            (&raw const (*list).PartialDescriptors).cast::<CM_PARTIAL_RESOURCE_DESCRIPTOR>();
        let all = std::slice::from_raw_parts(first, (*list).Count as usize);
        let memory = all
            .iter()
            .find(|d| d.Type == CmResourceTypeMemory)
            .expect("device memory")
            .u
            .Memory;
        let interrupts = all
            .iter()
            .filter(|d| d.Type == CmResourceTypeInterrupt)
            .count();
        (memory.Start, memory.Length, interrupts)
    };
    let expected = if LINES.get() { 1 } else { 2 };
    assert_eq!((length, messages), (0x1000, expected));
    let adapter = Box::into_raw(Box::new(Adapter {
        handle,
        registers: null_mut(),
        nic: NICS.with_borrow(|n| Rc::clone(&n[0])),
        interrupt: null_mut(),
        dma: null_mut(),
        pool: null_mut(),
        shared: (null_mut(), 0),
        work: null_mut(),
        running: Cell::new(false),
        pending_oid: Cell::new(null_mut()),
        removed: Cell::new(false),
        held_list: Cell::new(null_mut()),
        indicated: Cell::new(0),
        pausing: Cell::new(false),
        timer: Cell::new(null_mut()),
    }));
    let mut mapped = null_mut();
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        if is(Fault::MapTooEarly) {
            NdisMMapIoSpace(&raw mut mapped, handle, physical, length);
        }
        if is(Fault::GeneralFirst) {
            set_general(handle, 0);
        }
        let context = if is(Fault::NullContext) {
            null_mut()
        } else {
            adapter.cast()
        };
        if set_registration(handle, context) != NDIS_STATUS_SUCCESS {
            drop(Box::from_raw(adapter));
            return NDIS_STATUS_FAILURE;
        }
        if is(Fault::MapOutside) {
            NdisMMapIoSpace(&raw mut mapped, handle, physical + 0x10000, length);
        }
        let status = NdisMMapIoSpace(&raw mut mapped, handle, physical, length);
        assert_eq!(status, NDIS_STATUS_SUCCESS);
        (*adapter).registers = mapped.cast();
        let number = aside(|| mapped.cast::<u32>().read_volatile()) as usize;
        (*adapter).nic = NICS.with_borrow(|n| Rc::clone(&n[number]));
        if !is(Fault::NoGeneral) && set_general(handle, number) != NDIS_STATUS_SUCCESS {
            NdisMUnmapIoSpace(handle, mapped, length);
            drop(Box::from_raw(adapter));
            return NDIS_STATUS_FAILURE;
        }
        if is(Fault::NdkWithoutProvider) {
            let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
                NDKAttributes: NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES {
                    Header: header(
                        NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES,
                        1,
                        NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
                    ),
                    ..Default::default()
                },
            };
            NdisMSetMiniportAttributes(handle, &raw mut attributes);
        }
        if is(Fault::NoBusMaster) {
            let mut description = NDIS_SG_DMA_DESCRIPTION::default();
            NdisMRegisterScatterGatherDma(handle, &raw mut description, &raw mut (*adapter).dma);
        }
        if is(Fault::InitializeFails) || is(Fault::NoBusMaster) {
            NdisMUnmapIoSpace(handle, mapped, length);
            drop(Box::from_raw(adapter));
            return NDIS_STATUS_RESOURCES;
        }
        read_settings(handle);
        claim(&mut *adapter);
    }
    NDIS_STATUS_SUCCESS
}

/// Reads a setting of the INF.
unsafe fn read_settings(handle: NDIS_HANDLE) {
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(
            NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
            NDIS_CONFIGURATION_OBJECT_REVISION_1,
            NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
        ),
        NdisHandle: handle,
        Flags: 0,
    };
    let mut configuration = null_mut();
    let read = |configuration, name: &str| {
        let mut units: Vec<u16> = name.encode_utf16().collect();
        let mut keyword = UNICODE_STRING {
            Length: (units.len() * 2) as u16,
            MaximumLength: (units.len() * 2) as u16,
            Buffer: units.as_mut_ptr(),
        };
        let mut status = 0;
        let mut value = null_mut();
        // SAFETY: calls as documented.
        unsafe {
            NdisReadConfiguration(
                &raw mut status,
                &raw mut value,
                configuration,
                &raw mut keyword,
                NdisParameterInteger,
            );
            (status == NDIS_STATUS_SUCCESS).then(|| (*value).ParameterData.IntegerData)
        }
    };
    // SAFETY: calls as documented.
    unsafe {
        assert_eq!(
            NdisOpenConfigurationEx(&raw mut object, &raw mut configuration),
            NDIS_STATUS_SUCCESS
        );
        assert_eq!(read(configuration, "*JumboPacket"), Some(1514));
        assert_eq!(read(configuration, "NoSuchKeyword"), None);
        if !is(Fault::LeakConfiguration) {
            NdisCloseConfiguration(configuration);
        }
    }
}

/// Claims interrupts, DMA, pools and the like.
unsafe fn claim(adapter: &mut Adapter) {
    let handle = adapter.handle;
    let mut interrupts = NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_MINIPORT_INTERRUPT,
            NDIS_MINIPORT_INTERRUPT_REVISION_1,
            NDIS_SIZEOF_MINIPORT_INTERRUPT_CHARACTERISTICS_REVISION_1,
        ),
        InterruptHandler: Some(line_interrupt),
        InterruptDpcHandler: Some(line_dpc),
        DisableInterruptHandler: Some(line_switch),
        EnableInterruptHandler: Some(line_switch),
        MsiSupported: 1,
        MessageInterruptHandler: Some(message_interrupt),
        MessageInterruptDpcHandler: Some(message_dpc),
        ..Default::default()
    };
    let mut description = NDIS_SG_DMA_DESCRIPTION {
        Header: header(
            NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION,
            NDIS_SG_DMA_DESCRIPTION_REVISION_1,
            NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1,
        ),
        Flags: NDIS_SG_DMA_64_BIT_ADDRESS,
        MaximumPhysicalMapping: 65536,
        ProcessSGListHandler: Some(process_sg_list),
        ..Default::default()
    };
    let pool = NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        fAllocateNetBuffer: 1,
        PoolTag: u32::from_le_bytes(*b"test"),
        ..Default::default()
    };
    // SAFETY: calls as documented.
    unsafe {
        if is(Fault::NoInterruptHandlers) {
            interrupts.InterruptHandler = None;
            NdisMRegisterInterruptEx(
                handle,
                std::ptr::from_mut(adapter).cast(),
                &raw mut interrupts,
                &raw mut adapter.interrupt,
            );
            interrupts.InterruptHandler = Some(line_interrupt);
        }
        let status = NdisMRegisterInterruptEx(
            handle,
            std::ptr::from_mut(adapter).cast(),
            &raw mut interrupts,
            &raw mut adapter.interrupt,
        );
        assert_eq!(status, NDIS_STATUS_SUCCESS);
        if LINES.get() {
            assert_eq!(interrupts.InterruptType, NDIS_CONNECT_LINE_BASED);
            assert!(interrupts.MessageInfoTable.is_null());
        } else {
            assert_eq!(interrupts.InterruptType, NDIS_CONNECT_MESSAGE_BASED);
            assert_eq!((*interrupts.MessageInfoTable).MessageCount, 2);
        }
        let status =
            NdisMRegisterScatterGatherDma(handle, &raw mut description, &raw mut adapter.dma);
        assert_eq!(status, NDIS_STATUS_SUCCESS);
        adapter.pool = NdisAllocateNetBufferListPool(handle, &raw const pool);
        assert!(!adapter.pool.is_null());
        let (mut shared, mut physical) = (null_mut(), 0);
        NdisMAllocateSharedMemory(handle, 6000, 1, &raw mut shared, &raw mut physical);
        assert!(!shared.is_null());
        adapter.shared = (shared, physical);
        adapter.work = NdisAllocateIoWorkItem(handle);
        if is(Fault::LeakWorkItem) {
            NdisAllocateIoWorkItem(handle);
        }
        if is(Fault::LeakTimer) || is(Fault::PowerKeepsTimer) {
            let mut characteristics = NDIS_TIMER_CHARACTERISTICS {
                Header: header(
                    NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
                    NDIS_TIMER_CHARACTERISTICS_REVISION_1,
                    NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
                ),
                AllocationTag: 1,
                TimerFunction: Some(timer),
                ..Default::default()
            };
            let mut object = null_mut();
            NdisAllocateTimerObject(handle, &raw mut characteristics, &raw mut object);
            adapter.timer.set(object);
        }
        if is(Fault::LeakMemory) {
            NdisAllocateMemoryWithTagPriority(handle, 100, u32::from_le_bytes(*b"leak"), 0);
        }
        if is(Fault::QueueWorkTwice) {
            NdisQueueIoWorkItem(adapter.work, work, null_mut());
            NdisQueueIoWorkItem(adapter.work, work, null_mut());
        }
        if is(Fault::BadHandle) {
            NdisMPauseComplete(handle.wrapping_byte_add(16));
        }
        if is(Fault::FreeListTwice) {
            let list = NdisAllocateNetBufferList(adapter.pool, 0, 0);
            NdisFreeNetBufferList(list);
            NdisFreeNetBufferList(list);
        }
        if is(Fault::NetioLeak) {
            let mut notification = null_mut();
            NotifyUnicastIpAddressChange(0, address_changed, null_mut(), 0, &raw mut notification);
        }
        if let Some(misuse) = MISUSE.take() {
            misuse(adapter);
        }
    }
}

unsafe extern "efiapi" fn address_changed(
    _context: *mut c_void,
    _row: *mut ndis_sys::netioapi::MIB_UNICASTIPADDRESS_ROW,
    _kind: i32,
) {
}

unsafe extern "efiapi" fn timer(
    _a: *mut c_void,
    _b: *mut c_void,
    _c: *mut c_void,
    _d: *mut c_void,
) {
}

unsafe extern "efiapi" fn work(_context: *mut c_void, _item: NDIS_HANDLE) {
    log("work");
}

unsafe extern "efiapi" fn halt(context: NDIS_HANDLE, _action: NDIS_HALT_ACTION) {
    log("halt");
    // SAFETY: our context, whose last use this is; calls as documented.
    unsafe {
        let adapter = Box::from_raw(context.cast::<Adapter>());
        if corner(Corner::DpcAtDeregister) {
            let queued = NdisMQueueDpc(adapter.interrupt, 1, 1 << 1, null_mut());
            assert_eq!(queued, 1 << 1);
        }
        if !is(Fault::LeakInterrupt) {
            NdisMDeregisterInterruptEx(adapter.interrupt);
        }
        NdisMDeregisterScatterGatherDma(adapter.dma);
        if !is(Fault::LeakPool) {
            NdisFreeNetBufferListPool(adapter.pool);
        }
        if !is(Fault::LeakSharedMemory) {
            NdisMFreeSharedMemory(adapter.handle, 6000, 1, adapter.shared.0, adapter.shared.1);
        }
        NdisFreeIoWorkItem(adapter.work);
        if is(Fault::PowerKeepsTimer) {
            NdisCancelTimerObject(adapter.timer.get());
            NdisFreeTimerObject(adapter.timer.get());
        }
        if !is(Fault::LeakMapping) {
            NdisMUnmapIoSpace(adapter.handle, adapter.registers.cast(), 0x1000);
        }
    }
}

pub(super) fn of(context: NDIS_HANDLE) -> &'static Adapter {
    // SAFETY: our context, alive until halt.
    unsafe { &*context.cast::<Adapter>() }
}

unsafe extern "efiapi" fn pause(
    context: NDIS_HANDLE,
    _parameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
) -> NDIS_STATUS {
    log("pause");
    let adapter = of(context);
    adapter.running.set(false);
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        let held = adapter.held_list.replace(null_mut());
        if is(Fault::PauseTooEarly) {
            adapter.held_list.set(held);
            return NDIS_STATUS_SUCCESS;
        }
        if !held.is_null() && !is(Fault::ForgetSend) {
            (*held).Status = NDIS_STATUS_PAUSED;
            NdisMSendNetBufferListsComplete(adapter.handle, held, 0);
        }
        if is(Fault::IndicatePaused) {
            indicate(adapter, &[0; 60]);
            return NDIS_STATUS_SUCCESS;
        }
        if is(Fault::PauseNever) {
            return NDIS_STATUS_PENDING;
        }
        if is(Fault::PauseTwice) {
            NdisMPauseComplete(adapter.handle);
            NdisMPauseComplete(adapter.handle);
            return NDIS_STATUS_PENDING;
        }
        if adapter.indicated.get() > 0 {
            adapter.pausing.set(true);
            return NDIS_STATUS_PENDING;
        }
        if PEND_PAUSE.get() {
            NdisQueueIoWorkItem(adapter.work, complete_pause, context);
            return NDIS_STATUS_PENDING;
        }
    }
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn complete_pause(context: *mut c_void, _item: NDIS_HANDLE) {
    // SAFETY: a pause is pending.
    unsafe { NdisMPauseComplete(of(context).handle) };
}

unsafe extern "efiapi" fn restart(
    context: NDIS_HANDLE,
    parameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
) -> NDIS_STATUS {
    log("restart");
    // SAFETY: NDIS's structure.
    unsafe {
        let attributes = (*parameters).RestartAttributes;
        assert_eq!((*attributes).Oid, OID_GEN_MINIPORT_RESTART_ATTRIBUTES);
        if corner(Corner::IndicatesInRestart) || is(Fault::WrongReceiveFlag) {
            indicate(of(context), &[0; 60]);
        }
    }
    of(context).running.set(true);
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn pnp_event(context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
    // SAFETY: NDIS's structure.
    let event = unsafe { (*event).DevicePnPEvent };
    log(format_args!("pnp {event}"));
    if event == NdisDevicePnPEventSurpriseRemoved {
        of(context).removed.set(!is(Fault::OidAfterRemoval));
    }
}

unsafe extern "efiapi" fn shutdown(_context: NDIS_HANDLE, _action: NDIS_SHUTDOWN_ACTION) {
    log("shutdown");
}

unsafe extern "efiapi" fn check_for_hang(_context: NDIS_HANDLE) -> BOOLEAN {
    BOOLEAN::from(HANGS.get())
}

unsafe extern "efiapi" fn reset(context: NDIS_HANDLE, addressing: *mut BOOLEAN) -> NDIS_STATUS {
    log("reset");
    HANGS.set(false);
    let adapter = of(context);
    // SAFETY: calls as documented, or wrong on purpose.
    unsafe {
        addressing.write(1);
        let held = adapter.held_list.get();
        if !held.is_null() && !is(Fault::ResetKeepsSend) {
            adapter.held_list.set(null_mut());
            (*held).Status = NDIS_STATUS_REQUEST_ABORTED;
            NdisMSendNetBufferListsComplete(adapter.handle, held, 0);
        }
        if is(Fault::ResetNever) {
            return NDIS_STATUS_PENDING;
        }
        if PEND_RESET.get() {
            NdisQueueIoWorkItem(adapter.work, complete_reset, context);
            return NDIS_STATUS_PENDING;
        }
    }
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn complete_reset(context: *mut c_void, _item: NDIS_HANDLE) {
    let adapter = of(context);
    // SAFETY: a reset is pending, and completed at DISPATCH_LEVEL.
    unsafe {
        let old = KfRaiseIrql(DISPATCH_LEVEL);
        if corner(Corner::OidEndsInReset) {
            KEEP_OIDS.set(false);
            let request = adapter.pending_oid.get();
            NdisMOidRequestComplete(adapter.handle, request, NDIS_STATUS_REQUEST_ABORTED);
        }
        NdisMResetComplete(adapter.handle, NDIS_STATUS_SUCCESS, 1);
        if is(Fault::ResetCompletesTwice) {
            NdisMResetComplete(adapter.handle, NDIS_STATUS_SUCCESS, 1);
        }
        KeLowerIrql(old);
    }
}

unsafe extern "efiapi" fn cancel_send(context: NDIS_HANDLE, id: *mut c_void) {
    log("cancel send");
    let adapter = of(context);
    let held = adapter.held_list.get();
    if held.is_null() || is(Fault::CancelForgets) {
        return;
    }
    // SAFETY: NDIS's list, which waits.
    unsafe {
        if (*held).NetBufferListInfo[NetBufferListCancelId as usize] != id {
            return;
        }
        adapter.held_list.set(null_mut());
        (*held).Status = if is(Fault::CancelFails) {
            NDIS_STATUS_FAILURE
        } else {
            NDIS_STATUS_SEND_ABORTED
        };
        NdisMSendNetBufferListsComplete(adapter.handle, held, 0);
    }
}
