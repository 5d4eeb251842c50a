//! `ndis.sys`: a miniport's device: interrupts, configuration space, device memory, DMA.

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use crate::ndis::adapter::Adapter;
use crate::ndis::{dma, interrupt, ndis, rules};
use crate::verifier::{cross, violation};

super::exports! {
    "ndis.sys";
    NdisMRegisterInterruptEx: PASSIVE..=PASSIVE,
    NdisMDeregisterInterruptEx: PASSIVE..=PASSIVE,
    NdisMSynchronizeWithInterruptEx: PASSIVE..=DEVICE,
    NdisMQueueDpc: PASSIVE..=HIGH,
    NdisMQueueDpcEx: PASSIVE..=HIGH,
    NdisMGetBusData: PASSIVE..=HIGH,
    NdisMSetBusData: PASSIVE..=HIGH,
    NdisMMapIoSpace: PASSIVE..=PASSIVE,
    NdisMUnmapIoSpace: PASSIVE..=PASSIVE,
    NdisMGetDeviceProperty: PASSIVE..=PASSIVE,
    NdisMGetDmaAlignment: PASSIVE..=PASSIVE,
    NdisMRegisterScatterGatherDma: PASSIVE..=PASSIVE,
    NdisMDeregisterScatterGatherDma: PASSIVE..=PASSIVE,
    NdisMAllocateNetBufferSGList: DISPATCH..=DISPATCH,
    NdisMFreeNetBufferSGList: DISPATCH..=DISPATCH,
    NdisMAllocateSharedMemory: PASSIVE..=PASSIVE,
    NdisMAllocateSharedMemoryAsyncEx: PASSIVE..=DISPATCH,
    NdisMFreeSharedMemory: PASSIVE..=DISPATCH,
}

/// Configuration space, as opposed to an expansion ROM.
const PCI_WHICHSPACE_CONFIG: u32 = 0;

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMRegisterInterruptEx(
    MiniportAdapterHandle: NDIS_HANDLE,
    MiniportInterruptContext: NDIS_HANDLE,
    MiniportInterruptCharacteristics: *mut NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS,
    NdisInterruptHandle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMRegisterInterruptEx);
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        interrupt::register(
            MiniportAdapterHandle,
            MiniportInterruptContext,
            MiniportInterruptCharacteristics,
            NdisInterruptHandle,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMDeregisterInterruptEx(NdisInterruptHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisMDeregisterInterruptEx);
    interrupt::deregister(NdisInterruptHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMSynchronizeWithInterruptEx(
    NdisInterruptHandle: NDIS_HANDLE,
    MessageId: u32,
    SynchronizeFunction: MINIPORT_SYNCHRONIZE_INTERRUPT,
    SynchronizeContext: *mut c_void,
) -> BOOLEAN {
    let _crossing = cross(&functions::NdisMSynchronizeWithInterruptEx);
    interrupt::synchronize(
        NdisInterruptHandle,
        MessageId,
        SynchronizeFunction,
        SynchronizeContext,
    )
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMQueueDpc(
    NdisInterruptHandle: NDIS_HANDLE,
    MessageId: u32,
    TargetProcessors: u32,
    MiniportDpcContext: *mut c_void,
) -> u32 {
    let _crossing = cross(&functions::NdisMQueueDpc);
    interrupt::queue_dpc(
        NdisInterruptHandle,
        MessageId,
        u64::from(TargetProcessors),
        MiniportDpcContext,
    ) as u32
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMQueueDpcEx(
    NdisInterruptHandle: NDIS_HANDLE,
    MessageId: u32,
    TargetProcessors: *mut GROUP_AFFINITY,
    MiniportDpcContext: *mut c_void,
) -> KAFFINITY {
    let _crossing = cross(&functions::NdisMQueueDpcEx);
    // SAFETY: null or the driver's structure.
    let Some(targets) = (unsafe { TargetProcessors.as_ref() }) else {
        violation(rules::PARAMETER, "NdisMQueueDpcEx: null TargetProcessors");
        return 0;
    };
    if targets.Group != 0 {
        violation(
            rules::PARAMETER,
            format!(
                "NdisMQueueDpcEx: processor group {} does not exist",
                targets.Group
            ),
        );
        return 0;
    }
    interrupt::queue_dpc(
        NdisInterruptHandle,
        MessageId,
        targets.Mask as u64,
        MiniportDpcContext,
    ) as usize
}

fn bus_access(handle: NDIS_HANDLE, space: u32, function: &str) -> Option<std::rc::Rc<Adapter>> {
    let adapter = ndis().handles.get::<Adapter>(handle, function)?;
    if space != PCI_WHICHSPACE_CONFIG {
        violation(
            rules::PARAMETER,
            format!("{function}: space {space} is not configuration space"),
        );
        return None;
    }
    Some(adapter)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMGetBusData(
    NdisMiniportHandle: NDIS_HANDLE,
    WhichSpace: u32,
    Offset: u32,
    Buffer: *mut c_void,
    Length: u32,
) -> u32 {
    let _crossing = cross(&functions::NdisMGetBusData);
    let Some(adapter) = bus_access(NdisMiniportHandle, WhichSpace, "NdisMGetBusData") else {
        return 0;
    };
    let mut bytes = vec![0; Length as usize];
    adapter
        .device
        .function
        .read_config(Offset as usize, &mut bytes);
    // SAFETY: the driver's buffer of that length.
    unsafe {
        Buffer
            .cast::<u8>()
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    };
    Length
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMSetBusData(
    NdisMiniportHandle: NDIS_HANDLE,
    WhichSpace: u32,
    Offset: u32,
    Buffer: *mut c_void,
    Length: u32,
) -> u32 {
    let _crossing = cross(&functions::NdisMSetBusData);
    let Some(adapter) = bus_access(NdisMiniportHandle, WhichSpace, "NdisMSetBusData") else {
        return 0;
    };
    let mut bytes = vec![0u8; Length as usize];
    // SAFETY: the driver's buffer of that length.
    unsafe {
        bytes
            .as_mut_ptr()
            .copy_from_nonoverlapping(Buffer.cast::<u8>(), Length as usize)
    };
    adapter
        .device
        .function
        .write_config(Offset as usize, &bytes);
    Length
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMMapIoSpace(
    VirtualAddress: *mut *mut c_void,
    MiniportAdapterHandle: NDIS_HANDLE,
    PhysicalAddress: NDIS_PHYSICAL_ADDRESS,
    Length: u32,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMMapIoSpace);
    match dma::map_io(MiniportAdapterHandle, PhysicalAddress, Length) {
        Ok(address) => {
            // SAFETY: the driver's variable.
            unsafe { VirtualAddress.write(address) };
            NDIS_STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMUnmapIoSpace(
    MiniportAdapterHandle: NDIS_HANDLE,
    VirtualAddress: *mut c_void,
    Length: u32,
) {
    let _crossing = cross(&functions::NdisMUnmapIoSpace);
    dma::unmap_io(MiniportAdapterHandle, VirtualAddress, Length);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMGetDeviceProperty(
    MiniportAdapterHandle: NDIS_HANDLE,
    PhysicalDeviceObject: *mut *mut DEVICE_OBJECT,
    FunctionalDeviceObject: *mut *mut DEVICE_OBJECT,
    NextDeviceObject: *mut *mut DEVICE_OBJECT,
    AllocatedResources: *mut *mut CM_RESOURCE_LIST,
    AllocatedResourcesTranslated: *mut *mut CM_RESOURCE_LIST,
) {
    let _crossing = cross(&functions::NdisMGetDeviceProperty);
    let handles = &ndis().handles;
    let Some(adapter) = handles.get::<Adapter>(MiniportAdapterHandle, "NdisMGetDeviceProperty")
    else {
        return;
    };
    let device = &adapter.device;
    // The bus driver's object is the next lower one: there are no filters.
    let objects = [
        (PhysicalDeviceObject, device.pdo.get()),
        (FunctionalDeviceObject, device.fdo.get()),
        (NextDeviceObject, device.pdo.get()),
    ];
    for (out, object) in objects {
        if !out.is_null() {
            // SAFETY: the driver's variable.
            unsafe { out.write(object) };
        }
    }
    for (out, translated) in [
        (AllocatedResources, false),
        (AllocatedResourcesTranslated, true),
    ] {
        if !out.is_null() {
            let list = device.kernel_resource_list(&adapter.machine(), translated);
            // SAFETY: the driver's variable.
            unsafe { out.write(list) };
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMGetDmaAlignment(MiniportAdapterHandle: NDIS_HANDLE) -> u32 {
    let _crossing = cross(&functions::NdisMGetDmaAlignment);
    ndis()
        .handles
        .get::<Adapter>(MiniportAdapterHandle, "NdisMGetDmaAlignment")
        .map_or(1, |_| 64)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMRegisterScatterGatherDma(
    MiniportAdapterHandle: NDIS_HANDLE,
    DmaDescription: *mut NDIS_SG_DMA_DESCRIPTION,
    NdisMiniportDmaHandle: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMRegisterScatterGatherDma);
    // SAFETY: the driver's pointers, as documented.
    unsafe { dma::register(MiniportAdapterHandle, DmaDescription, NdisMiniportDmaHandle) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMDeregisterScatterGatherDma(NdisMiniportDmaHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisMDeregisterScatterGatherDma);
    dma::deregister(NdisMiniportDmaHandle);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMAllocateNetBufferSGList(
    NdisMiniportDmaHandle: NDIS_HANDLE,
    NetBuffer: *mut NET_BUFFER,
    Context: *mut c_void,
    Flags: u32,
    ScatterGatherListBuffer: *mut c_void,
    ScatterGatherListBufferSize: u32,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMAllocateNetBufferSGList);
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        dma::allocate_list(
            NdisMiniportDmaHandle,
            NetBuffer,
            Context,
            Flags,
            ScatterGatherListBuffer,
            ScatterGatherListBufferSize,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMFreeNetBufferSGList(
    NdisMiniportDmaHandle: NDIS_HANDLE,
    pSGL: *mut SCATTER_GATHER_LIST,
    NetBuffer: *mut NET_BUFFER,
) {
    let _crossing = cross(&functions::NdisMFreeNetBufferSGList);
    dma::free_list(NdisMiniportDmaHandle, pSGL, NetBuffer);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMAllocateSharedMemory(
    MiniportAdapterHandle: NDIS_HANDLE,
    Length: u32,
    _Cached: BOOLEAN,
    VirtualAddress: *mut *mut c_void,
    PhysicalAddress: *mut NDIS_PHYSICAL_ADDRESS,
) {
    let _crossing = cross(&functions::NdisMAllocateSharedMemory);
    let memory = dma::allocate_shared(MiniportAdapterHandle, Length);
    // SAFETY: the driver's variables.
    unsafe {
        match memory {
            Some((address, physical)) => {
                VirtualAddress.write(std::ptr::with_exposed_provenance_mut(address));
                PhysicalAddress.write(physical.cast_signed());
            }
            None => VirtualAddress.write(std::ptr::null_mut()),
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMAllocateSharedMemoryAsyncEx(
    _MiniportDmaHandle: NDIS_HANDLE,
    _Length: u32,
    _Cached: BOOLEAN,
    _Context: *mut c_void,
) -> NDIS_STATUS {
    let _crossing = cross(&functions::NdisMAllocateSharedMemoryAsyncEx);
    // A documented answer: the caller goes on with what it has.
    NDIS_STATUS_RESOURCES
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMFreeSharedMemory(
    MiniportAdapterHandle: NDIS_HANDLE,
    Length: u32,
    _Cached: BOOLEAN,
    VirtualAddress: *mut c_void,
    PhysicalAddress: NDIS_PHYSICAL_ADDRESS,
) {
    let _crossing = cross(&functions::NdisMFreeSharedMemory);
    dma::free_shared(
        MiniportAdapterHandle,
        Length,
        VirtualAddress,
        PhysicalAddress,
    );
}
