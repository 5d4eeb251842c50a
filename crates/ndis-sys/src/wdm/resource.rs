//! Hardware resources of a device, and its interrupt messages.

use crate::types::*;

/// Kind of bus.
pub type INTERFACE_TYPE = i32;
/// Edge or level.
pub type KINTERRUPT_MODE = i32;
/// Polarity of an interrupt line.
pub type KINTERRUPT_POLARITY = i32;

/// An interrupt object of the kernel: opaque.
#[repr(C)]
pub struct KINTERRUPT {
    _opaque: [u8; 0],
}

layouts! {
    /// Resources of a device, per bus. `Count` full descriptors of varying size follow each other; PCI devices have one.
    pub struct CM_RESOURCE_LIST(40) {
        0x00 Count: u32,
        0x04 List: [CM_FULL_RESOURCE_DESCRIPTOR; 1],
    }

    /// Resources on one bus.
    pub struct CM_FULL_RESOURCE_DESCRIPTOR(36) {
        0x00 InterfaceType: INTERFACE_TYPE,
        0x04 BusNumber: u32,
        0x08 PartialResourceList: CM_PARTIAL_RESOURCE_LIST,
    }

    /// Resources proper: `Count` descriptors.
    pub struct CM_PARTIAL_RESOURCE_LIST(28) {
        0x00 Version: u16,
        0x02 Revision: u16,
        0x04 Count: u32,
        0x08 PartialDescriptors: [CM_PARTIAL_RESOURCE_DESCRIPTOR; 1],
    }

    /// One resource. Packed to four bytes, as in C.
    pub struct CM_PARTIAL_RESOURCE_DESCRIPTOR(20) {
        /// `CmResourceType*`.
        0x00 Type: u8,
        0x01 ShareDisposition: u8,
        0x02 Flags: u16,
        0x04 u: CM_PARTIAL_RESOURCE_DESCRIPTOR_u,
    }

    /// The resource itself, by `Type`.
    #[repr(packed(4))]
    pub union CM_PARTIAL_RESOURCE_DESCRIPTOR_u(16) {
        0x00 Generic: CM_RANGE,
        0x00 Port: CM_RANGE,
        0x00 Interrupt: CM_INTERRUPT,
        0x00 MessageInterrupt: CM_MESSAGE_INTERRUPT,
        0x00 Memory: CM_RANGE,
        0x00 DevicePrivate: CM_DEVICE_PRIVATE,
        0x00 BusNumber: CM_BUS_NUMBER,
    }

    /// A range of memory or ports.
    #[repr(packed(4))]
    pub struct CM_RANGE(12) {
        0x00 Start: PHYSICAL_ADDRESS,
        /// Bytes.
        0x08 Length: u32,
    }

    /// A line interrupt, or the translated form of a message.
    #[repr(packed(4))]
    pub struct CM_INTERRUPT(16) {
        /// In the translated list: the DIRQL.
        0x00 Level: u32,
        0x04 Vector: u32,
        0x08 Affinity: KAFFINITY,
    }

    /// A message-signalled interrupt, if `Flags` has `CM_RESOURCE_INTERRUPT_MESSAGE`.
    #[repr(packed(4))]
    pub union CM_MESSAGE_INTERRUPT(16) {
        0x00 Raw: CM_MESSAGE_INTERRUPT_RAW,
        0x00 Translated: CM_INTERRUPT,
    }

    /// The raw form of a message-signalled interrupt.
    #[repr(packed(4))]
    pub struct CM_MESSAGE_INTERRUPT_RAW(16) {
        0x00 Reserved: u16,
        0x02 MessageCount: u16,
        0x04 Vector: u32,
        0x08 Affinity: KAFFINITY,
    }

    /// Three words between a bus driver and itself.
    pub struct CM_DEVICE_PRIVATE(12) {
        0x00 Data: [u32; 3],
    }

    /// Bus numbers.
    pub struct CM_BUS_NUMBER(12) {
        0x00 Start: u32,
        0x04 Length: u32,
        0x08 Reserved: u32,
    }

    /// Message-signalled interrupts connected for a device: `MessageCount` entries follow.
    pub struct IO_INTERRUPT_MESSAGE_INFO(56) {
        0x00 UnifiedIrql: KIRQL,
        0x04 MessageCount: u32,
        0x08 MessageInfo: [IO_INTERRUPT_MESSAGE_INFO_ENTRY; 1],
    }

    /// One message.
    pub struct IO_INTERRUPT_MESSAGE_INFO_ENTRY(48) {
        0x00 MessageAddress: PHYSICAL_ADDRESS,
        0x08 TargetProcessorSet: KAFFINITY,
        0x10 InterruptObject: *mut KINTERRUPT,
        0x18 MessageData: u32,
        0x1c Vector: u32,
        0x20 Irql: KIRQL,
        0x24 Mode: KINTERRUPT_MODE,
        0x28 Polarity: KINTERRUPT_POLARITY,
    }

    /// Resources a device could use, as `MiniportFilterResourceRequirements` sees them. Lists of varying size follow.
    pub struct IO_RESOURCE_REQUIREMENTS_LIST(72) {
        0x00 ListSize: u32,
        0x04 InterfaceType: INTERFACE_TYPE,
        0x08 BusNumber: u32,
        0x0c SlotNumber: u32,
        0x10 Reserved: [u32; 3],
        0x1c AlternativeLists: u32,
        0x20 List: [IO_RESOURCE_LIST; 1],
    }

    /// One alternative: `Count` descriptors.
    pub struct IO_RESOURCE_LIST(40) {
        0x00 Version: u16,
        0x02 Revision: u16,
        0x04 Count: u32,
        0x08 Descriptors: [IO_RESOURCE_DESCRIPTOR; 1],
    }

    /// One requirement.
    pub struct IO_RESOURCE_DESCRIPTOR(32) {
        0x00 Option: u8,
        0x01 Type: u8,
        0x02 ShareDisposition: u8,
        0x03 Spare1: u8,
        0x04 Flags: u16,
        0x06 Spare2: u16,
        0x08 u: IO_RESOURCE_DESCRIPTOR_u,
    }

    /// The requirement itself, by `Type`.
    pub union IO_RESOURCE_DESCRIPTOR_u(24) {
        0x00 Memory: IO_RESOURCE_RANGE,
        0x00 Interrupt: IO_RESOURCE_INTERRUPT,
    }

    /// A range of memory or ports somewhere between two limits.
    pub struct IO_RESOURCE_RANGE(24) {
        0x00 Length: u32,
        0x04 Alignment: u32,
        0x08 MinimumAddress: PHYSICAL_ADDRESS,
        0x10 MaximumAddress: PHYSICAL_ADDRESS,
    }

    /// An interrupt among several vectors.
    pub struct IO_RESOURCE_INTERRUPT(24) {
        0x00 MinimumVector: u32,
        0x04 MaximumVector: u32,
        0x08 AffinityPolicy: i32,
        0x0c PriorityPolicy: i32,
        0x10 TargetedProcessors: KAFFINITY,
    }
}

constants! {
    /// Kind of a resource.
    u8 {
        CmResourceTypeBusNumber = 6;
        CmResourceTypeConfigData = 0x80;
        CmResourceTypeConnection = 0x84;
        CmResourceTypeDevicePrivate = 0x81;
        CmResourceTypeDeviceSpecific = 5;
        CmResourceTypeDma = 4;
        CmResourceTypeInterrupt = 2;
        CmResourceTypeMaximum = 8;
        CmResourceTypeMemory = 3;
        CmResourceTypeMemoryLarge = 7;
        CmResourceTypeMfCardConfig = 0x83;
        CmResourceTypeNonArbitrated = 0x80;
        CmResourceTypeNull = 0;
        CmResourceTypePcCardConfig = 0x82;
        CmResourceTypePort = 1;
    }
    /// Flags of an interrupt resource.
    u16 {
        CM_RESOURCE_INTERRUPT_LATCHED = 1;
        CM_RESOURCE_INTERRUPT_LEVEL_LATCHED_BITS = 1;
        CM_RESOURCE_INTERRUPT_LEVEL_SENSITIVE = 0;
        CM_RESOURCE_INTERRUPT_MESSAGE = 2;
        CM_RESOURCE_INTERRUPT_POLICY_INCLUDED = 4;
        CM_RESOURCE_INTERRUPT_SECONDARY_INTERRUPT = 0x10;
        CM_RESOURCE_INTERRUPT_WAKE_HINT = 0x20;
    }
    /// A vector that stands for a message in a requirements list.
    u32 {
        CM_RESOURCE_INTERRUPT_MESSAGE_TOKEN = 0xfffffffe;
    }
    /// Flags of a memory resource.
    u16 {
        CM_RESOURCE_MEMORY_24 = 0x10;
        CM_RESOURCE_MEMORY_BAR = 0x80;
        CM_RESOURCE_MEMORY_CACHEABLE = 0x20;
        CM_RESOURCE_MEMORY_COMBINEDWRITE = 8;
        CM_RESOURCE_MEMORY_COMPAT_FOR_INACCESSIBLE_RANGE = 0x100;
        CM_RESOURCE_MEMORY_LARGE = 0xe00;
        CM_RESOURCE_MEMORY_LARGE_40 = 0x200;
        CM_RESOURCE_MEMORY_LARGE_48 = 0x400;
        CM_RESOURCE_MEMORY_LARGE_64 = 0x800;
        CM_RESOURCE_MEMORY_PREFETCHABLE = 4;
        CM_RESOURCE_MEMORY_READ_ONLY = 1;
        CM_RESOURCE_MEMORY_READ_WRITE = 0;
        CM_RESOURCE_MEMORY_WINDOW_DECODE = 0x40;
        CM_RESOURCE_MEMORY_WRITEABILITY_MASK = 3;
        CM_RESOURCE_MEMORY_WRITE_ONLY = 2;
    }
    /// How a resource may be shared.
    u8 {
        CmResourceShareUndetermined = 0;
        CmResourceShareDeviceExclusive = 1;
        CmResourceShareDriverExclusive = 2;
        CmResourceShareShared = 3;
    }
    /// Kinds of bus.
    INTERFACE_TYPE {
        InterfaceTypeUndefined = -1;
        Internal = 0;
        Isa = 1;
        Eisa = 2;
        MicroChannel = 3;
        TurboChannel = 4;
        PCIBus = 5;
        VMEBus = 6;
        NuBus = 7;
        PCMCIABus = 8;
        CBus = 9;
        MPIBus = 0xa;
        MPSABus = 0xb;
        ProcessorInternal = 0xc;
        InternalPowerBus = 0xd;
        PNPISABus = 0xe;
        PNPBus = 0xf;
        Vmcs = 0x10;
        ACPIBus = 0x11;
        MaximumInterfaceType = 0x12;
    }
    /// Edge or level.
    KINTERRUPT_MODE {
        LevelSensitive = 0;
        Latched = 1;
    }
    /// Polarity.
    KINTERRUPT_POLARITY {
        InterruptPolarityUnknown = 0;
        InterruptActiveHigh = 1;
        InterruptRisingEdge = 1;
        InterruptActiveLow = 2;
        InterruptFallingEdge = 2;
        InterruptActiveBoth = 3;
        InterruptActiveBothTriggerLow = 3;
        InterruptActiveBothTriggerHigh = 4;
    }
}
