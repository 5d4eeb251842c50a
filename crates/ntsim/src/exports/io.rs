//! `Io*`: work items, driver object extensions, the event log, device properties.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::status::{
    STATUS_BUFFER_TOO_SMALL, STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{
    DEVICE_OBJECT, DEVICE_REGISTRY_PROPERTY, DRIVER_OBJECT, ERROR_LOG_MAXIMUM_SIZE,
    IO_ERROR_LOG_PACKET, IO_WORKITEM, IO_WORKITEM_ROUTINE, IO_WORKITEM_ROUTINE_EX, WORK_QUEUE_TYPE,
};

use crate::memory::Request;
use crate::verifier::{self, Function, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::driver_call::begin_driver;
use crate::world::machine::Machine;

exports! {
    "ntoskrnl.exe";
    IoAllocateWorkItem: PASSIVE..=DISPATCH,
    IoFreeWorkItem: PASSIVE..=DISPATCH,
    IoQueueWorkItem: PASSIVE..=DISPATCH,
    IoQueueWorkItemEx: PASSIVE..=DISPATCH,
    IoAllocateDriverObjectExtension: PASSIVE..=DISPATCH,
    IoGetDriverObjectExtension: PASSIVE..=DISPATCH,
    IoAllocateErrorLogEntry: PASSIVE..=DISPATCH,
    IoWriteErrorLogEntry: PASSIVE..=DISPATCH,
    IoFreeErrorLogEntry: PASSIVE..=DISPATCH,
    IoGetDeviceProperty: PASSIVE..=PASSIVE,
}

/// The name exists already (ntstatus.h).
const STATUS_OBJECT_NAME_COLLISION: NTSTATUS = 0xc000_0035_u32.cast_signed();

const PASSIVE: u8 = crate::world::processor::PASSIVE;
static WORK_ROUTINE: Function = Function::callback("work item routine", PASSIVE..=PASSIVE);

const WORK_ITEM_TAG: u32 = u32::from_le_bytes(*b"IoWI");
const ERROR_LOG_TAG: u32 = u32::from_le_bytes(*b"IoEr");
/// The item's memory is opaque; it is only there to be leaked or freed twice.
const WORK_ITEM_SIZE: usize = 64;

struct WorkItem {
    device: usize,
    queued: bool,
    owner: DriverNumber,
}

/// A machine's work items, by address.
#[derive(Default)]
pub(crate) struct WorkItems(RefCell<HashMap<usize, WorkItem>>);

impl WorkItems {
    /// How many items a driver has allocated, and how many of them are queued.
    pub(crate) fn of_driver(&self, driver: DriverNumber) -> (usize, usize) {
        let items = self.0.borrow();
        let of = || items.values().filter(|i| i.owner == driver);
        (of().count(), of().filter(|i| i.queued).count())
    }
}

/// Allocates a work item.
///
/// # Safety
/// `DeviceObject` must point at a device.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoAllocateWorkItem(
    DeviceObject: *mut DEVICE_OBJECT,
) -> *mut IO_WORKITEM {
    let crossing = cross(&functions::IoAllocateWorkItem);
    let machine = context::machine();
    let owner = machine.owner(&crossing);
    let address = machine.pool_alloc(&Request {
        size: WORK_ITEM_SIZE,
        align: 16,
        tag: WORK_ITEM_TAG,
        zero: true,
        paged: false,
        owner,
        function: "IoAllocateWorkItem",
    });
    let Some(address) = address else {
        return ptr::null_mut();
    };
    machine.ext::<WorkItems>().0.borrow_mut().insert(
        address,
        WorkItem {
            device: DeviceObject as usize,
            queued: false,
            owner,
        },
    );
    address as *mut IO_WORKITEM
}

/// Frees a work item.
///
/// # Safety
/// Nobody may use the item any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoFreeWorkItem(IoWorkItem: *mut IO_WORKITEM) {
    let _crossing = cross(&functions::IoFreeWorkItem);
    let machine = context::machine();
    let item = machine
        .ext::<WorkItems>()
        .0
        .borrow_mut()
        .remove(&(IoWorkItem as usize));
    match item {
        Some(item) => {
            if item.queued {
                verifier::violation(
                    rules::WORK_ITEM,
                    format!(
                        "IoFreeWorkItem frees the work item at {IoWorkItem:p}, which is queued"
                    ),
                );
            }
            machine.pool_free(IoWorkItem as usize, Some(WORK_ITEM_TAG), "IoFreeWorkItem");
        }
        None => verifier::violation(
            rules::WORK_ITEM,
            format!("IoFreeWorkItem: there is no work item at {IoWorkItem:p}"),
        ),
    }
}

/// Marks an item queued and has a worker call `routine(device)`.
fn queue(item: *mut IO_WORKITEM, by: &str, routine: impl FnOnce(*mut DEVICE_OBJECT) + 'static) {
    let machine = context::machine();
    let items = machine.ext::<WorkItems>();
    let device = match items.0.borrow_mut().get_mut(&(item as usize)) {
        Some(found) if !found.queued => {
            found.queued = true;
            Ok(found.device)
        }
        Some(_) => Err("is queued already"),
        None => Err("is no work item"),
    };
    match device {
        Ok(device) => {
            let address = item as usize;
            machine.queue_work(move || {
                if let Some(item) = items.0.borrow_mut().get_mut(&address) {
                    item.queued = false;
                }
                routine(device as *mut DEVICE_OBJECT);
            });
        }
        Err(wrong) => {
            verifier::violation(
                rules::WORK_ITEM,
                format!("{by}: what is at {item:p} {wrong}"),
            );
        }
    }
}

/// Queues a work item.
///
/// # Safety
/// `WorkerRoutine` must be callable with `Context`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoQueueWorkItem(
    IoWorkItem: *mut IO_WORKITEM,
    WorkerRoutine: IO_WORKITEM_ROUTINE,
    QueueType: WORK_QUEUE_TYPE,
    Context: *mut c_void,
) {
    let _crossing = cross(&functions::IoQueueWorkItem);
    let _ = QueueType;
    let context_value = Context as usize;
    queue(IoWorkItem, "IoQueueWorkItem", move |device| {
        // SAFETY: promised by the caller.
        begin_driver(&WORK_ROUTINE, WorkerRoutine as *const (), || unsafe {
            WorkerRoutine(device, context_value as *mut c_void);
        });
    });
}

/// Queues a work item whose routine gets the item too.
///
/// # Safety
/// `WorkerRoutine` must be callable with `Context`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoQueueWorkItemEx(
    IoWorkItem: *mut IO_WORKITEM,
    WorkerRoutine: IO_WORKITEM_ROUTINE_EX,
    QueueType: WORK_QUEUE_TYPE,
    Context: *mut c_void,
) {
    let _crossing = cross(&functions::IoQueueWorkItemEx);
    let _ = QueueType;
    let (item, context_value) = (IoWorkItem as usize, Context as usize);
    queue(IoWorkItem, "IoQueueWorkItemEx", move |device| {
        // SAFETY: promised by the caller.
        begin_driver(&WORK_ROUTINE, WorkerRoutine as *const (), || unsafe {
            WorkerRoutine(
                device.cast(),
                context_value as *mut c_void,
                item as *mut IO_WORKITEM,
            );
        });
    });
}

/// The extensions of a machine's driver objects: by driver object and key, the address.
#[derive(Default)]
pub(crate) struct DriverExtensions(RefCell<HashMap<(usize, usize), usize>>);

impl DriverExtensions {
    /// Frees the extensions of a driver that goes.
    pub(crate) fn free_all(&self, machine: &Machine, driver: usize) {
        let gone: Vec<usize> = {
            let mut all = self.0.borrow_mut();
            let gone = all
                .iter()
                .filter(|((d, _), _)| *d == driver)
                .map(|(_, address)| *address)
                .collect();
            all.retain(|(d, _), _| *d != driver);
            gone
        };
        for address in gone {
            machine.pool_free(address, None, "the unloading of a driver");
        }
    }
}

/// Allocates memory that belongs to a driver object.
///
/// # Safety
/// `DriverObject` must point at a driver object, `DriverObjectExtension` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoAllocateDriverObjectExtension(
    DriverObject: *mut DRIVER_OBJECT,
    ClientIdentificationAddress: *mut c_void,
    DriverObjectExtensionSize: u32,
    DriverObjectExtension: *mut *mut c_void,
) -> NTSTATUS {
    let _crossing = cross(&functions::IoAllocateDriverObjectExtension);
    let machine = context::machine();
    let key = (DriverObject as usize, ClientIdentificationAddress as usize);
    let extensions = machine.ext::<DriverExtensions>();
    // SAFETY: promised by the caller.
    unsafe { DriverObjectExtension.write(ptr::null_mut()) };
    if extensions.0.borrow().contains_key(&key) {
        return STATUS_OBJECT_NAME_COLLISION;
    }
    let size = DriverObjectExtensionSize as usize;
    if machine.faults.strikes("IoAllocateDriverObjectExtension") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(address) = machine.kernel_alloc(size.max(1), "IoAllocateDriverObjectExtension") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    extensions.0.borrow_mut().insert(key, address);
    // SAFETY: promised by the caller.
    unsafe { DriverObjectExtension.write(address as *mut c_void) };
    STATUS_SUCCESS
}

/// Finds memory of `IoAllocateDriverObjectExtension`.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoGetDriverObjectExtension(
    DriverObject: *mut DRIVER_OBJECT,
    ClientIdentificationAddress: *mut c_void,
) -> *mut c_void {
    let _crossing = cross(&functions::IoGetDriverObjectExtension);
    let key = (DriverObject as usize, ClientIdentificationAddress as usize);
    context::machine()
        .ext::<DriverExtensions>()
        .0
        .borrow()
        .get(&key)
        .map_or(ptr::null_mut(), |address| *address as *mut c_void)
}

/// Allocates an entry of the event log.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoAllocateErrorLogEntry(
    IoObject: *mut c_void,
    EntrySize: u8,
) -> *mut c_void {
    let crossing = cross(&functions::IoAllocateErrorLogEntry);
    let size = usize::from(EntrySize);
    if IoObject.is_null()
        || !(size_of::<IO_ERROR_LOG_PACKET>()..=ERROR_LOG_MAXIMUM_SIZE).contains(&size)
    {
        return ptr::null_mut();
    }
    let machine = context::machine();
    machine
        .pool_alloc(&Request {
            size,
            align: 16,
            tag: ERROR_LOG_TAG,
            zero: true,
            paged: false,
            owner: machine.owner(&crossing),
            function: "IoAllocateErrorLogEntry",
        })
        .map_or(ptr::null_mut(), |address| address as *mut c_void)
}

/// Writes an entry into the event log.
///
/// # Safety
/// `ElEntry` must be of `IoAllocateErrorLogEntry`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoWriteErrorLogEntry(ElEntry: *mut c_void) {
    let _crossing = cross(&functions::IoWriteErrorLogEntry);
    let machine = context::machine();
    let packet = |size: &usize| *size >= size_of::<IO_ERROR_LOG_PACKET>();
    let Some(size) = machine.pool.size_of(ElEntry as usize).filter(packet) else {
        verifier::violation(
            rules::BAD_ADDRESS,
            format!("IoWriteErrorLogEntry: there is no entry at {ElEntry:p}"),
        );
        return;
    };
    // SAFETY: a block of that size, at least a packet's.
    let (packet, bytes) = unsafe {
        (
            *ElEntry.cast::<IO_ERROR_LOG_PACKET>(),
            std::slice::from_raw_parts(ElEntry.cast::<u8>(), size),
        )
    };
    let data_at = std::mem::offset_of!(IO_ERROR_LOG_PACKET, DumpData);
    let data = bytes.get(data_at..data_at + usize::from(packet.DumpDataSize));
    let strings = strings(
        bytes,
        packet.StringOffset.into(),
        packet.NumberOfStrings.into(),
    );
    match (data, strings) {
        (Some(data), Some(strings)) => {
            machine.log_event(packet.ErrorCode.cast_unsigned(), strings, data.to_vec());
        }
        _ => verifier::violation(
            rules::BAD_ADDRESS,
            format!(
                "IoWriteErrorLogEntry: dump data or strings of the entry at {ElEntry:p} exceed its {size} bytes"
            ),
        ),
    }
    machine.pool_free(
        ElEntry as usize,
        Some(ERROR_LOG_TAG),
        "IoWriteErrorLogEntry",
    );
}

fn strings(bytes: &[u8], at: usize, count: usize) -> Option<Vec<String>> {
    let mut strings = Vec::new();
    let mut units = bytes
        .get(at..)?
        .chunks_exact(2)
        .map(|c| u16::from_le_bytes([c[0], c[1]]));
    for _ in 0..count {
        let mut string = Vec::new();
        loop {
            match units.next()? {
                0 => break,
                unit => string.push(unit),
            }
        }
        strings.push(String::from_utf16_lossy(&string));
    }
    Some(strings)
}

/// Frees an entry that is not to be written.
///
/// # Safety
/// `ElEntry` must be of `IoAllocateErrorLogEntry`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoFreeErrorLogEntry(ElEntry: *mut c_void) {
    let _crossing = cross(&functions::IoFreeErrorLogEntry);
    context::machine().pool_free(ElEntry as usize, Some(ERROR_LOG_TAG), "IoFreeErrorLogEntry");
}

/// What devices answer to `IoGetDeviceProperty`: by device object and property, the value's bytes. Filled in by Plug
/// and Play.
#[derive(Default)]
pub(crate) struct DeviceProperties(RefCell<HashMap<(usize, DEVICE_REGISTRY_PROPERTY), Vec<u8>>>);

impl DeviceProperties {
    /// Sets a property.
    pub(crate) fn set(&self, device: usize, property: DEVICE_REGISTRY_PROPERTY, value: Vec<u8>) {
        self.0.borrow_mut().insert((device, property), value);
    }
}

/// A property of a device.
///
/// # Safety
/// `PropertyBuffer` must have `BufferLength` bytes, `ResultLength` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn IoGetDeviceProperty(
    DeviceObject: *mut DEVICE_OBJECT,
    DeviceProperty: DEVICE_REGISTRY_PROPERTY,
    BufferLength: u32,
    PropertyBuffer: *mut c_void,
    ResultLength: *mut u32,
) -> NTSTATUS {
    let crossing = cross(&functions::IoGetDeviceProperty);
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes("IoGetDeviceProperty") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let properties = machine.ext::<DeviceProperties>();
    let properties = properties.0.borrow();
    let Some(value) = properties.get(&(DeviceObject as usize, DeviceProperty)) else {
        // SAFETY: promised by the caller.
        unsafe { ResultLength.write(0) };
        return STATUS_INVALID_PARAMETER;
    };
    // SAFETY: promised by the caller.
    unsafe {
        ResultLength.write(value.len() as u32);
        if value.len() > BufferLength as usize {
            return STATUS_BUFFER_TOO_SMALL;
        }
        ptr::copy_nonoverlapping(value.as_ptr(), PropertyBuffer.cast(), value.len());
    }
    STATUS_SUCCESS
}
