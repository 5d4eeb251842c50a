//! A small miniport for a made-up NIC, which breaks one rule if told to.
//!
//! The NIC has one BAR: its number at offset 0, an acknowledge register at offset 8. It sends by having the driver name
//! physical pieces, receives into a queue, and has two messages.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::null_mut;
use std::rc::Rc;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use crate::pci::{Bar, Device, Function, Identity};
use crate::world::context;
use crate::world::machine::Machine;

/// The rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    WrongHeader,
    NoHaltHandler,
    FutureNdis,
    GeneralFirst,
    NoGeneral,
    NullContext,
    MapOutside,
    MapTooEarly,
    NdkWithoutProvider,
    NoInterruptHandlers,
    LeakInterrupt,
    LeakMapping,
    LeakPool,
    LeakSharedMemory,
    LeakMemory,
    LeakWorkItem,
    LeakTimer,
    LeakConfiguration,
    CompleteSendTwice,
    ForgetSend,
    KeepScatterGatherList,
    BadSendStatus,
    IndicateTwice,
    IndicateUnderLock,
    IndicateWrongCount,
    IndicateForeignSource,
    FreeWhileIndicated,
    IndicatePaused,
    PauseTooEarly,
    PauseTwice,
    OidWritesTooMuch,
    OidCompletesTwice,
    OidTooShortWithoutNeed,
    PnpEventInOid,
    StatusWrongSource,
    ForgetDeregister,
    QueueWorkTwice,
    FreeListTwice,
    BadHandle,
    DirectOidPends,
    NetioLeak,
    InitializeFails,
    EntryFails,
}

thread_local! {
    pub(super) static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
    pub(super) static NICS: RefCell<Vec<Rc<Nic>>> = const { RefCell::new(Vec::new()) };
    static DRIVER: Cell<NDIS_HANDLE> = const { Cell::new(null_mut()) };
    /// What happened, in order.
    pub(super) static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    pub(super) static PEND_OIDS: Cell<bool> = const { Cell::new(false) };
    pub(super) static PEND_PAUSE: Cell<bool> = const { Cell::new(false) };
    pub(super) static RESOURCES: Cell<bool> = const { Cell::new(false) };
}

pub(super) fn is(fault: Fault) -> bool {
    FAULT.get() == fault
}

fn log(text: impl std::fmt::Display) {
    aside(|| LOG.with_borrow_mut(|l| l.push(text.to_string())));
}

/// Does what belongs to the test and not to the driver: its memory is not the driver's.
fn aside<R>(f: impl FnOnce() -> R) -> R {
    let _kernel = context::KernelMode::enter();
    f()
}

/// The hardware.
pub(super) struct Nic {
    number: usize,
    pub(super) function: RefCell<Option<Rc<Function>>>,
    pub(super) received: RefCell<VecDeque<Vec<u8>>>,
    machine: RefCell<Option<std::rc::Weak<Machine>>>,
}

impl Device for Nic {
    fn read(&self, _bar: u8, offset: u64, _width: u8) -> u64 {
        if offset == 0 { self.number as u64 } else { 0 }
    }

    fn write(&self, _bar: u8, _offset: u64, _width: u8, _value: u64) {}
}

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1041,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 1,
    class: [2, 0, 0],
};

/// Plugs a NIC into a machine. NICs 0 and 1, 2 and 3, ... are connected.
pub(super) fn plug(machine: &Rc<Machine>) -> Rc<Nic> {
    let bars = [
        Bar {
            index: 0,
            length: 0x1000,
            wide: true,
            prefetchable: false,
        },
        Bar {
            index: 4,
            length: 0x1000,
            wide: false,
            prefetchable: false,
        },
    ];
    let function = Function::new(&IDENTITY, &bars, 2, 4, &[]);
    let nic = NICS.with_borrow_mut(|nics| {
        let nic = Rc::new(Nic {
            number: nics.len(),
            function: RefCell::default(),
            received: RefCell::default(),
            machine: RefCell::new(Some(Rc::downgrade(machine))),
        });
        nics.push(Rc::clone(&nic));
        nic
    });
    function.attach(machine, Rc::clone(&nic) as Rc<dyn Device>);
    *nic.function.borrow_mut() = Some(function);
    nic
}

impl Nic {
    /// A frame arrives.
    pub(super) fn receive(&self, frame: Vec<u8>) {
        self.received.borrow_mut().push_back(frame);
        if let Some(function) = &*self.function.borrow() {
            function.raise(0);
        }
    }

    /// Reads a frame from memory and puts it on the wire.
    fn transmit(&self, pieces: &[(u64, usize)], skip: usize) {
        let machine = self
            .machine
            .borrow()
            .as_ref()
            .and_then(std::rc::Weak::upgrade)
            .expect("plugged in");
        let mut frame = Vec::new();
        for (physical, length) in pieces {
            assert!(
                machine.ram.dma_allowed(*physical, *length, false),
                "DMA outside mapped memory"
            );
            let from = machine.ram.device_ptr(*physical, *length).expect("memory");
            // SAFETY: that many bytes of the machine's memory.
            frame.extend_from_slice(unsafe { std::slice::from_raw_parts(from, *length) });
        }
        frame.drain(..skip);
        let peer = NICS.with_borrow(|nics| nics.get(self.number ^ 1).map(Rc::clone));
        if let Some(peer) = peer {
            peer.receive(frame);
        }
    }
}

/// What the driver keeps for an adapter.
struct Adapter {
    handle: NDIS_HANDLE,
    registers: *mut u8,
    nic: Rc<Nic>,
    interrupt: NDIS_HANDLE,
    dma: NDIS_HANDLE,
    pool: NDIS_HANDLE,
    shared: (*mut c_void, i64),
    work: NDIS_HANDLE,
    running: Cell<bool>,
    pending_oid: Cell<*mut NDIS_OID_REQUEST>,
    held_list: Cell<*mut NET_BUFFER_LIST>,
    /// Lists indicated and not returned.
    indicated: Cell<u32>,
    pausing: Cell<bool>,
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
    if is(Fault::NoHaltHandler) {
        c.HaltHandlerEx = None;
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
    status
}

unsafe extern "efiapi" fn unload(_driver: *mut DRIVER_OBJECT) {
    log("unload");
    if !is(Fault::ForgetDeregister) {
        // SAFETY: registered.
        unsafe { NdisMDeregisterMiniportDriver(DRIVER.get()) };
    }
}

fn header(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER {
        Type: kind,
        Revision: revision,
        Size: size,
    }
}

fn set_registration(handle: NDIS_HANDLE, context: NDIS_HANDLE) -> NDIS_STATUS {
    let mut attributes = NDIS_MINIPORT_ADAPTER_ATTRIBUTES {
        RegistrationAttributes: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES {
            Header: header(
                NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
                2,
                NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
            ),
            MiniportAdapterContext: context,
            AttributeFlags: NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE
                | NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
                | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK,
            InterfaceType: NdisInterfacePci,
            ..Default::default()
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
    assert_eq!((length, messages), (0x1000, 2));
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
        held_list: Cell::new(null_mut()),
        indicated: Cell::new(0),
        pausing: Cell::new(false),
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
        if is(Fault::InitializeFails) {
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
        assert_eq!(interrupts.InterruptType, NDIS_CONNECT_MESSAGE_BASED);
        assert_eq!((*interrupts.MessageInfoTable).MessageCount, 2);
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
        if is(Fault::LeakTimer) {
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
        if !is(Fault::LeakMapping) {
            NdisMUnmapIoSpace(adapter.handle, adapter.registers.cast(), 0x1000);
        }
    }
}

fn of(context: NDIS_HANDLE) -> &'static Adapter {
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
    }
    of(context).running.set(true);
    NDIS_STATUS_SUCCESS
}

unsafe extern "efiapi" fn pnp_event(_context: NDIS_HANDLE, event: *mut NET_DEVICE_PNP_EVENT) {
    // SAFETY: NDIS's structure.
    log(format_args!("pnp {}", unsafe { (*event).DevicePnPEvent }));
}

unsafe extern "efiapi" fn shutdown(_context: NDIS_HANDLE, _action: NDIS_SHUTDOWN_ACTION) {
    log("shutdown");
}

unsafe extern "efiapi" fn cancel_oid(_context: NDIS_HANDLE, _id: *mut c_void) {}

unsafe extern "efiapi" fn cancel_send(_context: NDIS_HANDLE, _id: *mut c_void) {
    log("cancel send");
}

unsafe extern "efiapi" fn oid_request(
    context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    let adapter = of(context);
    // SAFETY: NDIS's request; calls as documented, or wrong on purpose.
    unsafe {
        if is(Fault::PnpEventInOid) {
            let mut notification = NET_PNP_EVENT_NOTIFICATION {
                Header: header(
                    NDIS_OBJECT_TYPE_DEFAULT,
                    NET_PNP_EVENT_NOTIFICATION_REVISION_1,
                    NDIS_SIZEOF_NET_PNP_EVENT_NOTIFICATION_REVISION_1,
                ),
                ..Default::default()
            };
            notification.NetPnPEvent.NetEvent = NetEventPortActivation;
            NdisMNetPnPEvent(adapter.handle, &raw mut notification);
        }
        if PEND_OIDS.get() {
            adapter.pending_oid.set(request);
            NdisQueueIoWorkItem(adapter.work, complete_oid, context);
            return NDIS_STATUS_PENDING;
        }
        answer(request)
    }
}

unsafe extern "efiapi" fn complete_oid(context: *mut c_void, _item: NDIS_HANDLE) {
    let adapter = of(context);
    let request = adapter.pending_oid.get();
    // SAFETY: NDIS's pending request.
    unsafe {
        let status = answer(request);
        NdisMOidRequestComplete(adapter.handle, request, status);
        if is(Fault::OidCompletesTwice) {
            NdisMOidRequestComplete(adapter.handle, request, status);
        }
    }
}

unsafe fn answer(request: *mut NDIS_OID_REQUEST) -> NDIS_STATUS {
    // SAFETY: NDIS's request.
    unsafe {
        match (*request).RequestType {
            NdisRequestSetInformation => {
                (*request).DATA.SET_INFORMATION.BytesRead =
                    (*request).DATA.SET_INFORMATION.InformationBufferLength;
                NDIS_STATUS_SUCCESS
            }
            _ => {
                let query = &mut (*request).DATA.QUERY_INFORMATION;
                if query.Oid != OID_GEN_STATISTICS {
                    return NDIS_STATUS_NOT_SUPPORTED;
                }
                let size = size_of::<NDIS_STATISTICS_INFO>() as u32;
                if query.InformationBufferLength < size {
                    query.BytesNeeded = if is(Fault::OidTooShortWithoutNeed) {
                        0
                    } else {
                        size
                    };
                    return NDIS_STATUS_BUFFER_TOO_SHORT;
                }
                query
                    .InformationBuffer
                    .cast::<NDIS_STATISTICS_INFO>()
                    .write(Default::default());
                query.BytesWritten = if is(Fault::OidWritesTooMuch) {
                    1 << 20
                } else {
                    size
                };
                NDIS_STATUS_SUCCESS
            }
        }
    }
}

unsafe extern "efiapi" fn direct_oid_request(
    _context: NDIS_HANDLE,
    request: *mut NDIS_OID_REQUEST,
) -> NDIS_STATUS {
    if is(Fault::DirectOidPends) {
        return NDIS_STATUS_PENDING;
    }
    // SAFETY: NDIS's request.
    unsafe { answer(request) }
}

unsafe extern "efiapi" fn send(
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
            } else if (is(Fault::ForgetSend) || is(Fault::PauseTooEarly))
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

unsafe extern "efiapi" fn process_sg_list(
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
        } else {
            NDIS_STATUS_SUCCESS
        };
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

unsafe extern "efiapi" fn line_interrupt(
    _context: NDIS_HANDLE,
    _queue: *mut BOOLEAN,
    _targets: *mut u32,
) -> BOOLEAN {
    0
}

unsafe extern "efiapi" fn line_dpc(
    _context: NDIS_HANDLE,
    _dpc: *mut c_void,
    _throttle: *mut c_void,
    _r: *mut c_void,
) {
}

unsafe extern "efiapi" fn line_switch(_context: NDIS_HANDLE) {}

unsafe extern "efiapi" fn message_interrupt(
    context: NDIS_HANDLE,
    message: u32,
    queue: *mut BOOLEAN,
    targets: *mut u32,
) -> BOOLEAN {
    let adapter = of(context);
    assert_eq!(message, 0);
    // SAFETY: our register; NDIS's variables.
    unsafe {
        aside(|| adapter.registers.add(8).cast::<u32>().write_volatile(1));
        queue.write(1);
        targets.write(0);
    }
    1
}

unsafe extern "efiapi" fn message_dpc(
    context: NDIS_HANDLE,
    _message: u32,
    _dpc: *mut c_void,
    throttle: *mut c_void,
    _reserved: *mut c_void,
) {
    let adapter = of(context);
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
unsafe fn indicate(adapter: &Adapter, frame: &[u8]) {
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
        let flags = if context::irql() == 2 {
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
        let mut lock = 0;
        let under_lock = is(Fault::IndicateUnderLock);
        let old = if under_lock {
            KeAcquireSpinLockRaiseToDpc(&mut lock)
        } else {
            0
        };
        NdisMIndicateReceiveNetBufferLists(adapter.handle, list, 0, count, flags);
        if is(Fault::IndicateTwice) {
            NdisMIndicateReceiveNetBufferLists(adapter.handle, list, 0, count, flags);
        }
        if under_lock {
            KeReleaseSpinLock(&mut lock, old);
        }
        if is(Fault::FreeWhileIndicated) {
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

unsafe extern "efiapi" fn return_lists(
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
