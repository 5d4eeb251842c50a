//! Numbers of the virtio specification: registers, status, features, configuration.

/// PCI vendor id of virtio devices.
pub(super) const VENDOR: u16 = 0x1af4;
/// PCI device id of a modern network device: 0x1040 plus the device type.
pub(super) const DEVICE: u16 = 0x1041;
/// Subsystem id of modern devices, as other implementations have it.
pub(super) const SUBSYSTEM: u16 = 0x1100;

/// The BAR of the MSI-X table.
pub(super) const MSIX_BAR: u8 = 1;
/// The BAR of everything else.
pub(super) const BAR: u8 = 4;
/// Where the structures lie in that BAR.
pub(super) const COMMON_AT: u64 = 0x0000;
pub(super) const ISR_AT: u64 = 0x1000;
pub(super) const CONFIG_AT: u64 = 0x2000;
pub(super) const NOTIFY_AT: u64 = 0x3000;
/// Bytes of each structure's room.
pub(super) const ROOM: u64 = 0x1000;
/// Bytes of the whole BAR.
pub(super) const BAR_LENGTH: u64 = 0x4000;
/// Bytes between the notification addresses of queues.
pub(super) const NOTIFY_MULTIPLIER: u32 = 4;

/// Capability id: vendor-specific.
pub(super) const CAP_VENDOR: u8 = 0x09;
/// Kinds of virtio capabilities.
pub(super) const CFG_COMMON: u8 = 1;
pub(super) const CFG_NOTIFY: u8 = 2;
pub(super) const CFG_ISR: u8 = 3;
pub(super) const CFG_DEVICE: u8 = 4;
pub(super) const CFG_PCI: u8 = 5;

/// Device status.
pub(super) const ACKNOWLEDGE: u8 = 1;
pub(super) const DRIVER: u8 = 2;
pub(super) const DRIVER_OK: u8 = 4;
pub(super) const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 64;
pub(super) const FAILED: u8 = 128;

/// No interrupt message.
pub(super) const NO_VECTOR: u16 = 0xffff;

/// ISR: a queue, the configuration.
pub(super) const ISR_QUEUE: u8 = 1;
pub(super) const ISR_CONFIG: u8 = 2;

/// Flag in the available ring: no interrupts, please.
pub(super) const NO_INTERRUPT: u16 = 1;

/// Feature bits.
pub(super) mod feature {
    pub(in super::super) const CSUM: u64 = 1 << 0;
    pub(in super::super) const GUEST_CSUM: u64 = 1 << 1;
    pub(in super::super) const MTU: u64 = 1 << 3;
    pub(in super::super) const MAC: u64 = 1 << 5;
    pub(in super::super) const MRG_RXBUF: u64 = 1 << 15;
    pub(in super::super) const STATUS: u64 = 1 << 16;
    pub(in super::super) const CTRL_VQ: u64 = 1 << 17;
    pub(in super::super) const CTRL_RX: u64 = 1 << 18;
    pub(in super::super) const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub(in super::super) const GUEST_ANNOUNCE: u64 = 1 << 21;
    pub(in super::super) const MQ: u64 = 1 << 22;
    pub(in super::super) const CTRL_MAC_ADDR: u64 = 1 << 23;
    pub(in super::super) const INDIRECT_DESC: u64 = 1 << 28;
    pub(in super::super) const EVENT_IDX: u64 = 1 << 29;
    pub(in super::super) const VERSION_1: u64 = 1 << 32;
    pub(in super::super) const ACCESS_PLATFORM: u64 = 1 << 33;
    pub(in super::super) const SPEED_DUPLEX: u64 = 1 << 63;
}

/// Bytes of the header in front of every frame.
pub(super) const HEADER: usize = 12;
/// Flag in it: the device is to complete the checksum.
pub(super) const NEEDS_CSUM: u8 = 1;
/// Flag in it: the device has found the checksum right.
pub(super) const DATA_VALID: u8 = 2;
/// Offset of the kind of segmentation in it.
pub(super) const GSO_TYPE: usize = 1;
/// Offset of the segments' size in it.
pub(super) const GSO_SIZE: usize = 4;
/// Offset of where summing begins in it.
pub(super) const CSUM_START: usize = 6;
/// Offset of where the sum goes, from there.
pub(super) const CSUM_OFFSET: usize = 8;
/// Offset of `num_buffers` in it.
pub(super) const NUM_BUFFERS: usize = 10;

/// Network configuration: link is up.
pub(super) const LINK_UP: u16 = 1;
/// Network configuration: the driver is asked to announce itself.
pub(super) const ANNOUNCE: u16 = 2;
/// Bytes of the network configuration.
pub(super) const CONFIG_LENGTH: usize = 17;

/// Registers of the common configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    DeviceFeatureSelect,
    DeviceFeature,
    DriverFeatureSelect,
    DriverFeature,
    ConfigVector,
    NumQueues,
    Status,
    Generation,
    QueueSelect,
    QueueSize,
    QueueVector,
    QueueEnable,
    QueueNotifyOff,
    /// Address of a part of the queue (0 descriptors, 1 available ring, 2 used ring); upper half or not.
    QueueAddress(usize, bool),
    QueueNotifyData,
    QueueReset,
}

/// Bytes of the common configuration.
pub(super) const COMMON_LENGTH: u64 = 0x3c;

impl Register {
    /// The register at an offset, and its width.
    pub(super) fn at(offset: u64) -> Option<(Register, u8)> {
        Some(match offset {
            0x00 => (Register::DeviceFeatureSelect, 4),
            0x04 => (Register::DeviceFeature, 4),
            0x08 => (Register::DriverFeatureSelect, 4),
            0x0c => (Register::DriverFeature, 4),
            0x10 => (Register::ConfigVector, 2),
            0x12 => (Register::NumQueues, 2),
            0x14 => (Register::Status, 1),
            0x15 => (Register::Generation, 1),
            0x16 => (Register::QueueSelect, 2),
            0x18 => (Register::QueueSize, 2),
            0x1a => (Register::QueueVector, 2),
            0x1c => (Register::QueueEnable, 2),
            0x1e => (Register::QueueNotifyOff, 2),
            0x20 => (Register::QueueAddress(0, false), 4),
            0x24 => (Register::QueueAddress(0, true), 4),
            0x28 => (Register::QueueAddress(1, false), 4),
            0x2c => (Register::QueueAddress(1, true), 4),
            0x30 => (Register::QueueAddress(2, false), 4),
            0x34 => (Register::QueueAddress(2, true), 4),
            0x38 => (Register::QueueNotifyData, 2),
            0x3a => (Register::QueueReset, 2),
            _ => return None,
        })
    }
}

/// The width with which a byte of the network configuration is accessed, by offset.
pub(super) fn config_width(offset: u64) -> Option<u8> {
    Some(match offset {
        // mac, duplex
        0..=5 | 16 => 1,
        // status, max_virtqueue_pairs, mtu
        6 | 8 | 10 => 2,
        // speed
        12 => 4,
        _ => return None,
    })
}
