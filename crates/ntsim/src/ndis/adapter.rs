//! Miniport adapters: what NDIS knows of one, and its attributes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndkpi::{NDIS_NDK_CAPABILITIES, NDK_ADAPTER_INFO};

use super::dma::SgDma;
use super::driver::MiniportDriver;
use super::handle::Handled;
use super::interrupt::Interrupt;
use super::oid::Requests;
use super::owed::Debts;
use super::receive::Receives;
use super::reset::Resets;
use super::send::Sends;
use super::{header, ndis, rules};
use crate::pnp::device::Device;
use crate::verifier::violation;
use crate::world::machine::Machine;

/// Where an adapter is in its life (miniport adapter states and operations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Halted,
    Initializing,
    Paused,
    Restarting,
    Running,
    Pausing,
    Halting,
}

/// Link state as last reported by the miniport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Connected.
    pub up: bool,
    /// Bits per second towards the wire.
    pub transmit_speed: u64,
    /// Bits per second from the wire.
    pub receive_speed: u64,
}

/// General attributes, copied.
#[derive(Clone, Debug)]
pub(crate) struct General {
    /// Largest payload of a frame in bytes, without the Ethernet header.
    pub(crate) mtu: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) oids: Vec<NDIS_OID>,
    pub(crate) mac_options: u32,
    pub(crate) packet_filters: u32,
    pub(crate) multicast_list: u32,
    pub(crate) statistics: u32,
    pub(crate) lookahead: u32,
    pub(crate) max_transmit_speed: u64,
    pub(crate) max_receive_speed: u64,
    /// It has told its power management capabilities.
    pub(crate) power_aware: bool,
}

/// NDK attributes, copied.
#[derive(Clone, Copy)]
pub(crate) struct Ndk {
    pub(crate) capabilities: NDIS_NDK_CAPABILITIES,
    pub(crate) info: NDK_ADAPTER_INFO,
}

/// A status the miniport indicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusIndication {
    /// `NDIS_STATUS_*`.
    pub code: u32,
    /// Its buffer.
    pub data: Vec<u8>,
}

/// A miniport adapter.
pub(crate) struct Adapter {
    pub(crate) handle: Cell<NDIS_HANDLE>,
    pub(crate) machine: Weak<Machine>,
    pub(crate) driver: Rc<MiniportDriver>,
    pub(crate) device: Rc<Device>,
    /// `MiniportAdapterContext`.
    pub(crate) context: Cell<NDIS_HANDLE>,
    pub(crate) add_device_context: Cell<NDIS_HANDLE>,
    pub(crate) state: Cell<State>,
    pub(crate) if_index: u32,
    pub(crate) luid: u64,
    pub(crate) registration: Cell<Option<NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES>>,
    pub(crate) general: RefCell<Option<General>>,
    pub(crate) ndk: Cell<Option<Ndk>>,
    /// NDK is enabled: as the attributes said, then as NDK events said.
    pub(crate) ndk_enabled: Cell<bool>,
    pub(crate) link: Cell<Link>,
    pub(crate) interrupts: RefCell<Vec<Rc<Interrupt>>>,
    pub(crate) sg_dma: RefCell<Vec<Rc<SgDma>>>,
    /// Virtual address to length of mapped device memory.
    pub(crate) io_mappings: RefCell<HashMap<usize, (u64, u32)>>,
    /// Virtual address to physical address and length.
    pub(crate) shared_memory: RefCell<HashMap<usize, (u64, u32)>>,
    pub(crate) sends: Sends,
    pub(crate) receives: Receives,
    pub(crate) requests: Requests,
    pub(super) debts: Debts,
    pub(crate) pause_completed: Cell<bool>,
    pub(crate) restart_completed: Cell<Option<NDIS_STATUS>>,
    pub(crate) removed: Cell<bool>,
    /// Its miniport has said that the device failed.
    pub(crate) failing: Cell<bool>,
    /// In D3.
    pub(crate) asleep: Cell<bool>,
    pub(crate) paused_for_sleep: Cell<bool>,
    pub(crate) resets: Resets,
    /// How often it was initialised.
    pub(crate) lives: Cell<u32>,
    pub(crate) indications: RefCell<Vec<StatusIndication>>,
}

impl Handled for Adapter {
    const KIND: &'static str = "a miniport adapter";
}

impl Adapter {
    pub(crate) fn new(
        machine: &Rc<Machine>,
        driver: &Rc<MiniportDriver>,
        device: &Rc<Device>,
        if_index: u32,
    ) -> Rc<Self> {
        let luid = 6u64 << 48 | u64::from(device.luid_index()) << 24;
        let adapter = Rc::new(Self {
            handle: Cell::new(std::ptr::null_mut()),
            machine: Rc::downgrade(machine),
            driver: Rc::clone(driver),
            device: Rc::clone(device),
            context: Cell::new(std::ptr::null_mut()),
            add_device_context: Cell::new(std::ptr::null_mut()),
            state: Cell::new(State::Halted),
            if_index,
            luid,
            registration: Cell::new(None),
            general: RefCell::new(None),
            ndk: Cell::new(None),
            ndk_enabled: Cell::new(false),
            link: Cell::new(Link {
                up: false,
                transmit_speed: 0,
                receive_speed: 0,
            }),
            interrupts: RefCell::default(),
            sg_dma: RefCell::default(),
            io_mappings: RefCell::default(),
            shared_memory: RefCell::default(),
            sends: Sends::default(),
            receives: Receives::default(),
            requests: Requests::default(),
            debts: Debts::default(),
            pause_completed: Cell::new(false),
            restart_completed: Cell::new(None),
            removed: Cell::new(false),
            failing: Cell::new(false),
            asleep: Cell::new(false),
            paused_for_sleep: Cell::new(false),
            resets: Resets::default(),
            lives: Cell::new(0),
            indications: RefCell::default(),
        });
        adapter
            .handle
            .set(ndis().handles.insert(Rc::clone(&adapter)));
        adapter
    }

    pub(crate) fn machine(&self) -> Rc<Machine> {
        self.machine
            .upgrade()
            .expect("a machine outlives its adapters' handlers")
    }

    /// Largest payload in bytes; 1500 until the miniport has said.
    pub(crate) fn mtu(&self) -> u32 {
        self.general.borrow().as_ref().map_or(1500, |g| g.mtu)
    }

    pub(crate) fn mac(&self) -> [u8; 6] {
        self.general.borrow().as_ref().map_or([0; 6], |g| g.mac)
    }

    /// Whether it goes to low power while it is initialised; if not, it is halted before.
    pub(crate) fn is_power_aware(&self) -> bool {
        let general = self.general.borrow();
        general.as_ref().is_some_and(|g| g.power_aware)
            || self.has_attribute(NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND)
    }

    /// Whether a flag is among those of its registration attributes.
    pub(crate) fn has_attribute(&self, flag: u32) -> bool {
        let registration = self.registration.get();
        registration.is_some_and(|r| r.AttributeFlags & flag != 0)
    }

    /// Complains and says no when the miniport may not claim resources yet or any more.
    pub(crate) fn may_claim(&self, function: &str) -> bool {
        if self.registration.get().is_none() {
            violation(
                rules::PHASE,
                format!(
                    "{function}: before the registration attributes were set with NdisMSetMiniportAttributes"
                ),
            );
            return false;
        }
        self.only_initializing(function)
    }

    pub(crate) fn only_initializing(&self, function: &str) -> bool {
        if self.state.get() == State::Initializing {
            return true;
        }
        violation(
            rules::PHASE,
            format!(
                "{function}: may only be called within MiniportInitializeEx, the adapter is {:?}",
                self.state.get()
            ),
        );
        false
    }

    /// What is still registered or allocated: must be nothing after halt or a failed initialisation.
    pub(crate) fn check_released(&self, when: &str) {
        let leak = |count: usize, what: &str| {
            if count > 0 {
                violation(rules::LEAK, format!("{when}: {count} {what} left"));
            }
        };
        leak(self.interrupts.borrow().len(), "interrupt registration(s)");
        leak(
            self.sg_dma.borrow().len(),
            "scatter/gather DMA registration(s)",
        );
        leak(self.io_mappings.borrow().len(), "device memory mapping(s)");
        leak(
            self.shared_memory.borrow().len(),
            "shared memory allocation(s)",
        );
        super::work::check_released(self.handle.get(), when);
        super::config::check_released(self.handle.get(), when);
        super::pool::check_released(self.handle.get(), when);
    }
}

/// `NdisMSetMiniportAttributes`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn set_attributes(
    handle: NDIS_HANDLE,
    attributes: *mut NDIS_MINIPORT_ADAPTER_ATTRIBUTES,
) -> NDIS_STATUS {
    const F: &str = "NdisMSetMiniportAttributes";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if attributes.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: every member of the union begins with a header.
    let head = unsafe { (*attributes).Header };
    if head.Type == NDIS_OBJECT_TYPE_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES {
        // SAFETY: the type says which structure it is.
        return unsafe { add_device_attributes(&adapter, head, attributes.cast()) };
    }
    if !adapter.only_initializing(F) {
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: in each arm the type says which structure it is.
    unsafe {
        match head.Type {
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES => {
                registration_attributes(&adapter, head, attributes.cast())
            }
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES => {
                general_attributes(&adapter, head, attributes.cast())
            }
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_NDK_ATTRIBUTES => {
                ndk_attributes(&adapter, head, attributes.cast())
            }
            NDIS_OBJECT_TYPE_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES => {
                let sizes = [(
                    NDIS_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
                    NDIS_SIZEOF_MINIPORT_ADAPTER_OFFLOAD_ATTRIBUTES_REVISION_1,
                )];
                if header::check(F, head, head.Type, &sizes) && after_general(&adapter, "offload") {
                    NDIS_STATUS_SUCCESS
                } else {
                    NDIS_STATUS_BAD_VERSION
                }
            }
            other => {
                violation(
                    rules::HEADER,
                    format!("{F}: attributes of type {other:#x} are not supported"),
                );
                NDIS_STATUS_BAD_VERSION
            }
        }
    }
}

fn after_general(adapter: &Adapter, what: &str) -> bool {
    if adapter.general.borrow().is_some() {
        return true;
    }
    violation(
        rules::ATTRIBUTES,
        format!("{what} attributes come after the general attributes"),
    );
    false
}

unsafe fn add_device_attributes(
    adapter: &Adapter,
    head: NDIS_OBJECT_HEADER,
    attributes: *const NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES,
) -> NDIS_STATUS {
    const F: &str = "NdisMSetMiniportAttributes";
    let sizes = [(
        NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES_REVISION_1,
        NDIS_SIZEOF_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES_REVISION_1,
    )];
    if !header::check(F, head, head.Type, &sizes) {
        return NDIS_STATUS_BAD_VERSION;
    }
    if adapter.state.get() != State::Halted {
        violation(
            rules::PHASE,
            format!("{F}: add-device attributes are set within MiniportAddDevice"),
        );
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: as long as its header says.
    let attributes: NDIS_MINIPORT_ADD_DEVICE_REGISTRATION_ATTRIBUTES =
        unsafe { header::copy(attributes, head.Size) };
    adapter
        .add_device_context
        .set(attributes.MiniportAddDeviceContext);
    NDIS_STATUS_SUCCESS
}

unsafe fn registration_attributes(
    adapter: &Adapter,
    head: NDIS_OBJECT_HEADER,
    attributes: *const NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES,
) -> NDIS_STATUS {
    const F: &str = "NdisMSetMiniportAttributes";
    let sizes = [
        (
            1,
            NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_1,
        ),
        (
            2,
            NDIS_SIZEOF_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES_REVISION_2,
        ),
    ];
    if !header::check(F, head, head.Type, &sizes) {
        return NDIS_STATUS_BAD_VERSION;
    }
    // SAFETY: as long as its header says.
    let a: NDIS_MINIPORT_ADAPTER_REGISTRATION_ATTRIBUTES =
        unsafe { header::copy(attributes, head.Size) };
    let accuse = |text: &str| {
        violation(
            rules::ATTRIBUTES,
            format!("registration attributes: {text}"),
        )
    };
    if adapter.registration.get().is_some() {
        accuse("set twice");
        return NDIS_STATUS_FAILURE;
    }
    if a.MiniportAdapterContext.is_null() {
        accuse("MiniportAdapterContext is null");
        return NDIS_STATUS_FAILURE;
    }
    const KNOWN: u32 = NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE
        | NDIS_MINIPORT_ATTRIBUTES_NDIS_WDM
        | NDIS_MINIPORT_ATTRIBUTES_SURPRISE_REMOVE_OK
        | NDIS_MINIPORT_ATTRIBUTES_NOT_CO_NDIS
        | NDIS_MINIPORT_ATTRIBUTES_DO_NOT_BIND_TO_ALL_CO
        | NDIS_MINIPORT_ATTRIBUTES_NO_HALT_ON_SUSPEND
        | NDIS_MINIPORT_ATTRIBUTES_BUS_MASTER
        | NDIS_MINIPORT_ATTRIBUTES_CONTROLS_DEFAULT_PORT
        | NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND
        | NDIS_MINIPORT_ATTRIBUTES_NO_OID_INTERCEPT_ON_NONDEFAULT_PORTS
        | NDIS_MINIPORT_ATTRIBUTES_REGISTER_BUGCHECK_CALLBACK;
    if a.AttributeFlags & !KNOWN != 0 {
        accuse("unknown AttributeFlags");
    }
    if a.AttributeFlags & NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE == 0 {
        accuse("a driver of a PCI function sets NDIS_MINIPORT_ATTRIBUTES_HARDWARE_DEVICE");
    }
    if a.InterfaceType != NdisInterfacePci {
        accuse("InterfaceType is not that of the device's bus (PCI)");
    }
    adapter.context.set(a.MiniportAdapterContext);
    adapter.registration.set(Some(a));
    NDIS_STATUS_SUCCESS
}

unsafe fn general_attributes(
    adapter: &Adapter,
    head: NDIS_OBJECT_HEADER,
    attributes: *const NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES,
) -> NDIS_STATUS {
    const F: &str = "NdisMSetMiniportAttributes";
    let sizes = [
        (
            1,
            NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_1,
        ),
        (
            2,
            NDIS_SIZEOF_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES_REVISION_2,
        ),
    ];
    if !header::check(F, head, head.Type, &sizes) {
        return NDIS_STATUS_BAD_VERSION;
    }
    // SAFETY: as long as its header says.
    let a: NDIS_MINIPORT_ADAPTER_GENERAL_ATTRIBUTES =
        unsafe { header::copy(attributes, head.Size) };
    let sound = Cell::new(true);
    let demand = |holds: bool, text: &str| {
        if !holds {
            violation(rules::ATTRIBUTES, format!("general attributes: {text}"));
            sound.set(false);
        }
    };
    demand(
        adapter.registration.get().is_some(),
        "set before the registration attributes",
    );
    demand(adapter.general.borrow().is_none(), "set twice");
    demand(a.Flags == 0, "Flags must be zero");
    demand(
        a.MediaType == NdisMedium802_3,
        "MediaType is not what the INF's *MediaType says",
    );
    let physical = adapter.device.physical_media_type();
    demand(
        a.PhysicalMediumType.cast_unsigned() == physical,
        "PhysicalMediumType is not what the INF's *PhysicalMediaType says",
    );
    demand(
        a.MtuSize >= 1280 && a.MtuSize <= 65535,
        "MtuSize is no sensible payload size",
    );
    demand(
        usize::from(a.MacAddressLength) == ETH_LENGTH_OF_ADDRESS,
        "MacAddressLength of Ethernet is 6",
    );
    demand(
        a.CurrentMacAddress[0] & 1 == 0,
        "CurrentMacAddress is a group address",
    );
    demand(
        a.CurrentMacAddress[..6] != [0; 6],
        "CurrentMacAddress is zero",
    );
    demand(
        a.PermanentMacAddress[0] & 1 == 0,
        "PermanentMacAddress is a group address",
    );
    demand(
        a.MaxXmitLinkSpeed != 0 && a.MaxRcvLinkSpeed != 0,
        "maximum link speeds must be given",
    );
    demand(
        a.AccessType == NET_IF_ACCESS_BROADCAST,
        "AccessType of Ethernet is broadcast",
    );
    demand(
        a.DirectionType == NET_IF_DIRECTION_SENDRECEIVE,
        "DirectionType of Ethernet is send and receive",
    );
    demand(
        a.ConnectionType == NET_IF_CONNECTION_DEDICATED,
        "ConnectionType of Ethernet is dedicated",
    );
    demand(
        a.IfType == IF_TYPE_ETHERNET_CSMACD,
        "IfType is not what the INF's *IfType says",
    );
    demand(
        a.IfConnectorPresent == 1,
        "IfConnectorPresent: a hardware adapter has a connector",
    );
    demand(
        a.SupportedPacketFilters & (NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_BROADCAST)
            == NDIS_PACKET_TYPE_DIRECTED | NDIS_PACKET_TYPE_BROADCAST,
        "SupportedPacketFilters lacks directed or broadcast",
    );
    demand(a.LookaheadSize > 0, "LookaheadSize is zero");
    demand(
        !a.SupportedOidList.is_null()
            && a.SupportedOidListLength.is_multiple_of(4)
            && a.SupportedOidListLength > 0,
        "SupportedOidList is empty or its length is no multiple of 4 bytes",
    );
    demand(
        a.PowerManagementCapabilities.is_null(),
        "PowerManagementCapabilities must be null since NDIS 6.20",
    );
    // SAFETY: null or the driver's structure, which begins with a header.
    let power = unsafe {
        a.PowerManagementCapabilitiesEx
            .cast::<NDIS_OBJECT_HEADER>()
            .as_ref()
    };
    let power_sizes = [
        (
            NDIS_PM_CAPABILITIES_REVISION_1,
            NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_1,
        ),
        (
            NDIS_PM_CAPABILITIES_REVISION_2,
            NDIS_SIZEOF_NDIS_PM_CAPABILITIES_REVISION_2,
        ),
    ];
    if let Some(&power) = power
        && !header::check(
            "NDIS_PM_CAPABILITIES",
            power,
            NDIS_OBJECT_TYPE_DEFAULT,
            &power_sizes,
        )
    {
        sound.set(false);
    }
    if !sound.get() {
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    let count = a.SupportedOidListLength as usize / 4;
    // SAFETY: the driver passes that many identifiers; read without assuming alignment.
    let oids: Vec<NDIS_OID> = (0..count)
        .map(|i| unsafe { a.SupportedOidList.add(i).read_unaligned() })
        .collect();
    let mac = |bytes: &[u8; 32]| [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]];
    adapter.link.set(Link {
        up: a.MediaConnectState == MediaConnectStateConnected,
        transmit_speed: a.XmitLinkSpeed,
        receive_speed: a.RcvLinkSpeed,
    });
    *adapter.general.borrow_mut() = Some(General {
        mtu: a.MtuSize,
        mac: mac(&a.CurrentMacAddress),
        oids,
        mac_options: a.MacOptions,
        packet_filters: a.SupportedPacketFilters,
        multicast_list: a.MaxMulticastListSize,
        statistics: a.SupportedStatistics,
        lookahead: a.LookaheadSize,
        max_transmit_speed: a.MaxXmitLinkSpeed,
        max_receive_speed: a.MaxRcvLinkSpeed,
        power_aware: power.is_some(),
    });
    NDIS_STATUS_SUCCESS
}

unsafe fn ndk_attributes(
    adapter: &Adapter,
    head: NDIS_OBJECT_HEADER,
    attributes: *const NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES,
) -> NDIS_STATUS {
    const F: &str = "NdisMSetMiniportAttributes";
    let sizes = [(
        NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
        NDIS_SIZEOF_MINIPORT_ADAPTER_NDK_ATTRIBUTES_REVISION_1,
    )];
    if !header::check(F, head, head.Type, &sizes) || !after_general(adapter, "NDK") {
        return NDIS_STATUS_BAD_VERSION;
    }
    let accuse = |text: &str| violation(rules::ATTRIBUTES, format!("NDK attributes: {text}"));
    // SAFETY: as long as its header says.
    let a: NDIS_MINIPORT_ADAPTER_NDK_ATTRIBUTES = unsafe { header::copy(attributes, head.Size) };
    if adapter.driver.ndk.get().is_none() {
        accuse("the driver registered no NDK provider characteristics");
        return NDIS_STATUS_FAILURE;
    }
    if adapter.driver.handlers.DirectOidRequestHandler.is_none() {
        accuse(
            "an NDK miniport must have MiniportDirectOidRequest (OID_NDK_STATISTICS comes there)",
        );
    }
    if adapter.ndk.get().is_some() {
        accuse("set twice");
        return NDIS_STATUS_FAILURE;
    }
    let capabilities: *const NDIS_NDK_CAPABILITIES = a.NdkCapabilities.cast();
    if capabilities.is_null() {
        accuse("NdkCapabilities must be reported even when NDK is disabled");
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver's structure, which begins with a header.
    let inner = unsafe { (*capabilities).Header };
    let inner = header::make(inner.Type, inner.Revision, inner.Size);
    let sizes = [(
        ndkpi::NDIS_NDK_CAPABILITIES_REVISION_1,
        ndkpi::NDIS_SIZEOF_NDK_CAPABILITIES_REVISION_1,
    )];
    if !header::check(
        "NDIS_NDK_CAPABILITIES",
        inner,
        NDIS_OBJECT_TYPE_DEFAULT,
        &sizes,
    ) {
        return NDIS_STATUS_BAD_VERSION;
    }
    // SAFETY: as long as its header says.
    let capabilities: NDIS_NDK_CAPABILITIES = unsafe { header::copy(capabilities, inner.Size) };
    if capabilities.NdkInfo.is_null() {
        accuse("NdkInfo is null");
        return NDIS_STATUS_INVALID_PARAMETER;
    }
    // SAFETY: points at the driver's NDK_ADAPTER_INFO.
    let info = unsafe { capabilities.NdkInfo.read() };
    if capabilities.Flags != 0 {
        accuse("NDIS_NDK_CAPABILITIES.Flags must be zero");
    }
    adapter.ndk.set(Some(Ndk { capabilities, info }));
    adapter.ndk_enabled.set(a.Enabled != 0);
    NDIS_STATUS_SUCCESS
}
