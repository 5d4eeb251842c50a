//! Drivers, devices, work items, the event log.

use super::string::{LIST_ENTRY, UNICODE_STRING};
use super::sync::{KDPC, KEVENT};
use crate::types::*;

/// Which worker threads run a work item.
pub type WORK_QUEUE_TYPE = i32;
/// What `IoGetDeviceProperty` is asked.
pub type DEVICE_REGISTRY_PROPERTY = i32;

/// An I/O request packet: opaque here, because NDIS handles them for a miniport.
#[repr(C)]
pub struct IRP {
    _opaque: [u8; 0],
}

/// A work item: opaque.
#[repr(C)]
pub struct IO_WORKITEM {
    _opaque: [u8; 0],
}

callbacks! {
    /// Entry point of a driver. IRQL: PASSIVE_LEVEL.
    fn DRIVER_INITIALIZE(DriverObject: *mut DRIVER_OBJECT, RegistryPath: *mut UNICODE_STRING) -> NTSTATUS;

    /// Last routine of a driver. IRQL: PASSIVE_LEVEL.
    fn DRIVER_UNLOAD(DriverObject: *mut DRIVER_OBJECT);

    /// Called for each device the driver is to serve. IRQL: PASSIVE_LEVEL.
    fn DRIVER_ADD_DEVICE(
        DriverObject: *mut DRIVER_OBJECT,
        PhysicalDeviceObject: *mut DEVICE_OBJECT,
    ) -> NTSTATUS;

    /// Handles one kind of I/O request. IRQL: PASSIVE_LEVEL.
    fn DRIVER_DISPATCH(DeviceObject: *mut DEVICE_OBJECT, Irp: *mut IRP) -> NTSTATUS;

    /// Routine of a work item. IRQL: PASSIVE_LEVEL.
    fn IO_WORKITEM_ROUTINE(DeviceObject: *mut DEVICE_OBJECT, Context: *mut c_void);

    /// Routine of a work item of `IoQueueWorkItemEx`; it may free its item. IRQL: PASSIVE_LEVEL.
    fn IO_WORKITEM_ROUTINE_EX(IoObject: *mut c_void, Context: *mut c_void, IoWorkItem: *mut IO_WORKITEM);
}

layouts! {
    /// A loaded driver.
    pub struct DRIVER_OBJECT(336) {
        0x00 Type: i16,
        0x02 Size: i16,
        0x08 DeviceObject: *mut DEVICE_OBJECT,
        0x10 Flags: u32,
        /// Base address of the image.
        0x18 DriverStart: *mut c_void,
        0x20 DriverSize: u32,
        0x28 DriverSection: *mut c_void,
        0x30 DriverExtension: *mut DRIVER_EXTENSION,
        0x38 DriverName: UNICODE_STRING,
        0x48 HardwareDatabase: *mut UNICODE_STRING,
        0x50 FastIoDispatch: *mut c_void,
        0x58 DriverInit: Option<DRIVER_INITIALIZE>,
        0x60 DriverStartIo: *mut c_void,
        0x68 DriverUnload: Option<DRIVER_UNLOAD>,
        0x70 MajorFunction: [Option<DRIVER_DISPATCH>; 28],
    }

    /// The public part of a driver object's extension.
    pub struct DRIVER_EXTENSION(40) {
        0x00 DriverObject: *mut DRIVER_OBJECT,
        0x08 AddDevice: Option<DRIVER_ADD_DEVICE>,
        0x10 Count: u32,
        0x18 ServiceKeyName: UNICODE_STRING,
    }

    /// A device.
    #[repr(align(16))]
    pub struct DEVICE_OBJECT(336) {
        0x00 Type: i16,
        0x02 Size: u16,
        0x04 ReferenceCount: i32,
        0x08 DriverObject: *mut DRIVER_OBJECT,
        0x10 NextDevice: *mut DEVICE_OBJECT,
        0x18 AttachedDevice: *mut DEVICE_OBJECT,
        0x20 CurrentIrp: *mut IRP,
        0x28 Timer: *mut c_void,
        0x30 Flags: u32,
        0x34 Characteristics: u32,
        0x38 Vpb: *mut c_void,
        0x40 DeviceExtension: *mut c_void,
        0x48 DeviceType: u32,
        0x4c StackSize: i8,
        0x50 Queue: DEVICE_OBJECT_QUEUE,
        0x98 AlignmentRequirement: u32,
        0xa0 DeviceQueue: KDEVICE_QUEUE,
        0xc8 Dpc: KDPC,
        0x108 ActiveThreadCount: u32,
        0x110 SecurityDescriptor: *mut c_void,
        0x118 DeviceLock: KEVENT,
        0x130 SectorSize: u16,
        0x132 Spare1: u16,
        0x138 DeviceObjectExtension: *mut c_void,
        0x140 Reserved: *mut c_void,
    }

    /// Where a device waits for a DMA channel.
    pub union DEVICE_OBJECT_QUEUE(72) {
        0x00 ListEntry: LIST_ENTRY,
        0x00 Wcb: [u64; 9],
    }

    /// A device's queue of requests.
    pub struct KDEVICE_QUEUE(40) {
        0x00 Type: i16,
        0x02 Size: i16,
        0x08 DeviceListHead: LIST_ENTRY,
        0x18 Lock: KSPIN_LOCK,
        0x20 Busy: usize,
    }

    /// An entry of the system event log, filled in by a driver and given to `IoWriteErrorLogEntry`.
    pub struct IO_ERROR_LOG_PACKET(48) {
        0x00 MajorFunctionCode: u8,
        0x01 RetryCount: u8,
        /// Bytes of `DumpData`; a multiple of four, or of eight if the data is.
        0x02 DumpDataSize: u16,
        0x04 NumberOfStrings: u16,
        /// Offset of the first string from the start of the packet.
        0x06 StringOffset: u16,
        0x08 EventCategory: u16,
        0x0c ErrorCode: NTSTATUS,
        0x10 UniqueErrorValue: u32,
        0x14 FinalStatus: NTSTATUS,
        0x18 SequenceNumber: u32,
        0x1c IoControlCode: u32,
        0x20 DeviceOffset: LARGE_INTEGER,
        0x28 DumpData: [u32; 1],
    }
}

constants! {
    /// Most bytes an error log packet may have.
    usize {
        ERROR_LOG_MAXIMUM_SIZE = 240;
    }
    /// Queues of work items.
    WORK_QUEUE_TYPE {
        CriticalWorkQueue = 0;
        DelayedWorkQueue = 1;
        HyperCriticalWorkQueue = 2;
        NormalWorkQueue = 3;
    }
    /// Properties of a device.
    DEVICE_REGISTRY_PROPERTY {
        DevicePropertyDeviceDescription = 0x0;
        DevicePropertyHardwareID = 0x1;
        DevicePropertyCompatibleIDs = 0x2;
        DevicePropertyBootConfiguration = 0x3;
        DevicePropertyBootConfigurationTranslated = 0x4;
        DevicePropertyClassName = 0x5;
        DevicePropertyClassGuid = 0x6;
        DevicePropertyDriverKeyName = 0x7;
        DevicePropertyManufacturer = 0x8;
        DevicePropertyFriendlyName = 0x9;
        DevicePropertyLocationInformation = 0xa;
        DevicePropertyPhysicalDeviceObjectName = 0xb;
        DevicePropertyBusTypeGuid = 0xc;
        DevicePropertyLegacyBusType = 0xd;
        DevicePropertyBusNumber = 0xe;
        DevicePropertyEnumeratorName = 0xf;
        DevicePropertyAddress = 0x10;
    }
    /// Kinds of I/O request.
    u8 {
        IRP_MJ_CLEANUP = 0x12;
        IRP_MJ_CLOSE = 2;
        IRP_MJ_CREATE = 0;
        IRP_MJ_CREATE_MAILSLOT = 0x13;
        IRP_MJ_CREATE_NAMED_PIPE = 1;
        IRP_MJ_DEVICE_CHANGE = 0x18;
        IRP_MJ_DEVICE_CONTROL = 0xe;
        IRP_MJ_DIRECTORY_CONTROL = 0xc;
        IRP_MJ_FILE_SYSTEM_CONTROL = 0xd;
        IRP_MJ_FLUSH_BUFFERS = 9;
        IRP_MJ_INTERNAL_DEVICE_CONTROL = 0xf;
        IRP_MJ_LOCK_CONTROL = 0x11;
        IRP_MJ_MAXIMUM_FUNCTION = 0x1b;
        IRP_MJ_PNP = 0x1b;
        IRP_MJ_PNP_POWER = 0x1b;
        IRP_MJ_POWER = 0x16;
        IRP_MJ_QUERY_EA = 7;
        IRP_MJ_QUERY_INFORMATION = 5;
        IRP_MJ_QUERY_QUOTA = 0x19;
        IRP_MJ_QUERY_SECURITY = 0x14;
        IRP_MJ_QUERY_VOLUME_INFORMATION = 0xa;
        IRP_MJ_READ = 3;
        IRP_MJ_SCSI = 0xf;
        IRP_MJ_SET_EA = 8;
        IRP_MJ_SET_INFORMATION = 6;
        IRP_MJ_SET_QUOTA = 0x1a;
        IRP_MJ_SET_SECURITY = 0x15;
        IRP_MJ_SET_VOLUME_INFORMATION = 0xb;
        IRP_MJ_SHUTDOWN = 0x10;
        IRP_MJ_SYSTEM_CONTROL = 0x17;
        IRP_MJ_WRITE = 4;
    }
    /// Flags of a device object.
    u32 {
        DO_BUFFERED_IO = 4;
        DO_DIRECT_IO = 0x10;
        DO_DEVICE_INITIALIZING = 0x80;
        DO_POWER_PAGABLE = 0x2000;
    }
    /// Components and levels of `DbgPrintEx`.
    u32 {
        DPFLTR_ERROR_LEVEL = 0;
        DPFLTR_WARNING_LEVEL = 1;
        DPFLTR_TRACE_LEVEL = 2;
        DPFLTR_IHVDRIVER_ID = 77;
        DPFLTR_INFO_LEVEL = 3;
    }
}
