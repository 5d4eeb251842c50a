//! `ndis.sys`: net buffers, their pools, the data path.

use ndis_sys::ndis::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use crate::memory::scatter::Scatter;
use crate::ndis::{mdl, pool, receive, rules, send};
use crate::verifier::{cross, expect_no_locks, violation};
use crate::world::context;

super::exports! {
    "ndis.sys";
    NdisAllocateNetBufferListPool: PASSIVE..=DISPATCH,
    NdisFreeNetBufferListPool: PASSIVE..=DISPATCH,
    NdisAllocateNetBufferPool: PASSIVE..=DISPATCH,
    NdisFreeNetBufferPool: PASSIVE..=DISPATCH,
    NdisAllocateNetBufferAndNetBufferList: PASSIVE..=DISPATCH,
    NdisAllocateNetBufferList: PASSIVE..=DISPATCH,
    NdisFreeNetBufferList: PASSIVE..=DISPATCH,
    NdisAllocateNetBuffer: PASSIVE..=DISPATCH,
    NdisAllocateNetBufferMdlAndData: PASSIVE..=DISPATCH,
    NdisFreeNetBuffer: PASSIVE..=DISPATCH,
    NdisAllocateMdl: PASSIVE..=DISPATCH,
    NdisFreeMdl: PASSIVE..=DISPATCH,
    NdisGetDataBuffer: PASSIVE..=DISPATCH,
    NdisQueryNetBufferPhysicalCount: PASSIVE..=DISPATCH,
    NdisMIndicateReceiveNetBufferLists: PASSIVE..=DISPATCH,
    NdisMSendNetBufferListsComplete: PASSIVE..=DISPATCH,
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBufferListPool(
    NdisHandle: NDIS_HANDLE,
    Parameters: *const NET_BUFFER_LIST_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    let _crossing = cross(&functions::NdisAllocateNetBufferListPool);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::allocate_list_pool(NdisHandle, Parameters) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeNetBufferListPool(PoolHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisFreeNetBufferListPool);
    pool::free_pool(PoolHandle, true, "NdisFreeNetBufferListPool");
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBufferPool(
    NdisHandle: NDIS_HANDLE,
    Parameters: *const NET_BUFFER_POOL_PARAMETERS,
) -> NDIS_HANDLE {
    let _crossing = cross(&functions::NdisAllocateNetBufferPool);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::allocate_buffer_pool(NdisHandle, Parameters) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeNetBufferPool(PoolHandle: NDIS_HANDLE) {
    let _crossing = cross(&functions::NdisFreeNetBufferPool);
    pool::free_pool(PoolHandle, false, "NdisFreeNetBufferPool");
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBufferAndNetBufferList(
    PoolHandle: NDIS_HANDLE,
    ContextSize: u16,
    ContextBackFill: u16,
    MdlChain: *mut MDL,
    DataOffset: u32,
    DataLength: usize,
) -> *mut NET_BUFFER_LIST {
    let _crossing = cross(&functions::NdisAllocateNetBufferAndNetBufferList);
    let buffer = Some((MdlChain, DataOffset, DataLength));
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        pool::allocate_list(
            PoolHandle,
            ContextSize,
            ContextBackFill,
            buffer,
            "NdisAllocateNetBufferAndNetBufferList",
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBufferList(
    PoolHandle: NDIS_HANDLE,
    ContextSize: u16,
    ContextBackFill: u16,
) -> *mut NET_BUFFER_LIST {
    let _crossing = cross(&functions::NdisAllocateNetBufferList);
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        pool::allocate_list(
            PoolHandle,
            ContextSize,
            ContextBackFill,
            None,
            "NdisAllocateNetBufferList",
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeNetBufferList(NetBufferList: *mut NET_BUFFER_LIST) {
    let _crossing = cross(&functions::NdisFreeNetBufferList);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::free_list(NetBufferList) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBuffer(
    PoolHandle: NDIS_HANDLE,
    MdlChain: *mut MDL,
    DataOffset: u32,
    DataLength: usize,
) -> *mut NET_BUFFER {
    let _crossing = cross(&functions::NdisAllocateNetBuffer);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::allocate_buffer(PoolHandle, MdlChain, DataOffset, DataLength) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateNetBufferMdlAndData(
    PoolHandle: NDIS_HANDLE,
) -> *mut NET_BUFFER {
    let _crossing = cross(&functions::NdisAllocateNetBufferMdlAndData);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::allocate_buffer_mdl_and_data(PoolHandle) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeNetBuffer(NetBuffer: *mut NET_BUFFER) {
    let _crossing = cross(&functions::NdisFreeNetBuffer);
    // SAFETY: the driver's pointers, as documented.
    unsafe { pool::free_buffer(NetBuffer) }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisAllocateMdl(
    _NdisHandle: NDIS_HANDLE,
    VirtualAddress: *mut c_void,
    Length: u32,
) -> *mut MDL {
    let crossing = cross(&functions::NdisAllocateMdl);
    let machine = context::machine();
    if !machine
        .ram
        .is_mapped(VirtualAddress.addr(), Length as usize)
        || machine.ram.is_paged(VirtualAddress.addr())
    {
        violation(
            rules::PARAMETER,
            format!(
                "NdisAllocateMdl: {Length} bytes at {VirtualAddress:p} are not non-paged system memory"
            ),
        );
        return std::ptr::null_mut();
    }
    let owner = if crossing.is_from_driver() {
        machine.charged_driver()
    } else {
        0
    };
    mdl::over_owned(
        &machine,
        VirtualAddress.expose_provenance(),
        Length as usize,
        owner,
        "NdisAllocateMdl",
    )
    .unwrap_or(std::ptr::null_mut())
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisFreeMdl(Mdl: *mut MDL) {
    let _crossing = cross(&functions::NdisFreeMdl);
    context::machine().pool_free(Mdl.expose_provenance(), None, "NdisFreeMdl");
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisGetDataBuffer(
    NetBuffer: *mut NET_BUFFER,
    BytesNeeded: u32,
    Storage: *mut c_void,
    AlignMultiple: u32,
    AlignOffset: u32,
) -> *mut c_void {
    let _crossing = cross(&functions::NdisGetDataBuffer);
    if !AlignMultiple.is_power_of_two() || AlignOffset >= AlignMultiple {
        violation(
            rules::PARAMETER,
            format!("NdisGetDataBuffer: alignment {AlignMultiple} with offset {AlignOffset}"),
        );
        return std::ptr::null_mut();
    }
    // SAFETY: the driver's net buffer with its chain.
    unsafe {
        mdl::contiguous(
            NetBuffer,
            BytesNeeded as usize,
            Storage,
            AlignMultiple as usize,
            AlignOffset as usize,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisQueryNetBufferPhysicalCount(NetBuffer: *mut NET_BUFFER) -> u32 {
    let _crossing = cross(&functions::NdisQueryNetBufferPhysicalCount);
    // SAFETY: the driver's net buffer with its chain.
    let scatter = unsafe {
        let length =
            (*NetBuffer).CurrentMdlOffset as usize + (*NetBuffer).Anonymous.DataLength as usize;
        Scatter::of((*NetBuffer).CurrentMdl, 0, length, false)
    };
    scatter.map_or(0, |s| s.len() as u32)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMIndicateReceiveNetBufferLists(
    MiniportAdapterHandle: NDIS_HANDLE,
    NetBufferList: *mut NET_BUFFER_LIST,
    PortNumber: NDIS_PORT_NUMBER,
    NumberOfNetBufferLists: u32,
    ReceiveFlags: u32,
) {
    let _crossing = cross(&functions::NdisMIndicateReceiveNetBufferLists);
    expect_no_locks("NdisMIndicateReceiveNetBufferLists");
    // SAFETY: the driver's pointers, as documented.
    unsafe {
        receive::indicate(
            MiniportAdapterHandle,
            NetBufferList,
            PortNumber,
            NumberOfNetBufferLists,
            ReceiveFlags,
        )
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NdisMSendNetBufferListsComplete(
    MiniportAdapterHandle: NDIS_HANDLE,
    NetBufferList: *mut NET_BUFFER_LIST,
    SendCompleteFlags: u32,
) {
    let _crossing = cross(&functions::NdisMSendNetBufferListsComplete);
    expect_no_locks("NdisMSendNetBufferListsComplete");
    // SAFETY: the driver's pointers, as documented.
    unsafe { send::complete(MiniportAdapterHandle, NetBufferList, SendCompleteFlags) }
}
