//! The way to a provider and back: WSK, its NDK functions, an adapter.

use std::mem::MaybeUninit;
use std::ptr::{NonNull, null_mut};

use ndis_sys::imports::{
    FreeMibTable, GetUnicastIpAddressTable, WskCaptureProviderNPI, WskDeregister, WskRegister,
    WskReleaseProviderNPI,
};
use ndis_sys::socket::AF_INET;
use ndis_sys::wsk::{WSK_CLIENT_DISPATCH, WSK_CLIENT_NPI, WSK_PROVIDER_NPI, WSK_REGISTRATION};
use ndkpi::status::{STATUS_DEVICE_NOT_READY, STATUS_NOT_SUPPORTED};
use ndkpi::{
    NDK_ADAPTER, NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED, NDK_ADAPTER_INFO, NDK_VERSION_1_2,
    WSK_PROVIDER_NDK_DISPATCH, WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH,
};

use crate::memory;
use crate::ndk;
use crate::wait::{Result, check};

/// Milliseconds that the provider is waited for. Not for ever: who unloads the driver waits for this thread.
const CAPTURE_WAIT: u32 = 10_000;

/// A table that WSK keeps a pointer to.
struct ClientDispatch(WSK_CLIENT_DISPATCH);

// SAFETY: constant, and without callbacks.
unsafe impl Sync for ClientDispatch {}

/// WSK 1.0: major version in the upper byte.
static DISPATCH: ClientDispatch = ClientDispatch(WSK_CLIENT_DISPATCH {
    Version: 0x0100,
    ..WSK_CLIENT_DISPATCH::ZEROED
});

/// An open adapter, and what it took to get it. WSK keeps the address of the registration, so it lies in pool.
pub struct Adapter {
    registration: WSK_REGISTRATION,
    provider: WSK_PROVIDER_NPI,
    ndk: MaybeUninit<WSK_PROVIDER_NDK_DISPATCH>,
    pub raw: *mut NDK_ADAPTER,
    pub info: NDK_ADAPTER_INFO,
}

/// How far [`open`] got: what has to be undone.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Stage {
    Allocated,
    Registered,
    Captured,
    Opened,
}

/// Opens the adapter with that IPv4 address. PASSIVE_LEVEL.
pub fn open(address: [u8; 4]) -> Result<NonNull<Adapter>> {
    let adapter = memory::allocate(Adapter {
        registration: WSK_REGISTRATION::ZEROED,
        provider: WSK_PROVIDER_NPI::ZEROED,
        ndk: MaybeUninit::uninit(),
        raw: null_mut(),
        info: NDK_ADAPTER_INFO::ZEROED,
    })?;
    let mut stage = Stage::Allocated;
    match open_in_stages(adapter, address, &mut stage) {
        Ok(()) => Ok(adapter),
        Err(status) => {
            undo(adapter, stage);
            Err(status)
        }
    }
}

fn open_in_stages(place: NonNull<Adapter>, address: [u8; 4], stage: &mut Stage) -> Result<()> {
    // SAFETY: just allocated; nobody else knows it.
    let adapter = unsafe { &mut *place.as_ptr() };
    let mut client = WSK_CLIENT_NPI {
        ClientContext: null_mut(),
        Dispatch: &raw const DISPATCH.0,
    };
    // SAFETY: the registration stays where it is until it is deregistered.
    check(unsafe { WskRegister(&raw mut client, &raw mut adapter.registration) })?;
    *stage = Stage::Registered;

    let (registration, provider) = (&raw mut adapter.registration, &raw mut adapter.provider);
    // SAFETY: registered above.
    check(unsafe { WskCaptureProviderNPI(registration, CAPTURE_WAIT, provider) })?;
    *stage = Stage::Captured;

    // SAFETY: WSK's table is there as long as it is captured.
    let control = unsafe { (*adapter.provider.Dispatch).WskControlClient };
    let control = control.ok_or(STATUS_NOT_SUPPORTED)?;
    // The buffer is the table itself, not a pointer to one.
    let size = size_of::<WSK_PROVIDER_NDK_DISPATCH>();
    // SAFETY: the buffer has the size that is told.
    check(unsafe {
        control(
            adapter.provider.Client,
            WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH,
            0,
            null_mut(),
            size,
            adapter.ndk.as_mut_ptr().cast(),
            null_mut(),
            null_mut(),
        )
    })?;
    // SAFETY: just filled in.
    let open = unsafe { adapter.ndk.assume_init_ref() }.WskOpenNdkAdapter;

    let index = interface_of(address)?;
    // The minor version is the least that will do: the provider answers with its highest.
    let client = adapter.provider.Client.cast();
    // SAFETY: the out parameter is ours.
    check(unsafe { open(client, NDK_VERSION_1_2, index, &raw mut adapter.raw) })?;
    *stage = Stage::Opened;

    let mut size = size_of::<NDK_ADAPTER_INFO>() as u32;
    // SAFETY: open, and the buffer has the size that is told.
    check(unsafe {
        ndk!(
            adapter.raw,
            NdkQueryAdapterInfo,
            &raw mut adapter.info,
            &raw mut size
        )
    })?;
    // Otherwise memory that reads go to must be registered with NDK_MR_FLAG_RDMA_READ_SINK.
    if adapter.info.AdapterFlags & NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED == 0 {
        return Err(STATUS_NOT_SUPPORTED);
    }
    Ok(())
}

/// The index of the interface with that address.
fn interface_of(address: [u8; 4]) -> Result<u32> {
    let mut table = null_mut();
    // SAFETY: the out parameter is ours.
    check(unsafe { GetUnicastIpAddressTable(AF_INET, &raw mut table) })?;
    // SAFETY: a table of as many rows as it says, all of them IPv4.
    let found = unsafe {
        let rows =
            (&raw const (*table).Table).cast::<ndis_sys::netioapi::MIB_UNICASTIPADDRESS_ROW>();
        std::slice::from_raw_parts(rows, (*table).NumEntries as usize)
            .iter()
            .find(|row| row.Address.Ipv4.sin_addr.S_un == address)
            .map(|row| row.InterfaceIndex)
    };
    // SAFETY: made above, freed once.
    unsafe { FreeMibTable(table.cast()) };
    found.ok_or(STATUS_DEVICE_NOT_READY)
}

fn undo(place: NonNull<Adapter>, stage: Stage) {
    // SAFETY: nobody else uses it (any more).
    unsafe {
        let adapter = &mut *place.as_ptr();
        if stage >= Stage::Opened {
            let close = adapter.ndk.assume_init_ref().WskCloseNdkAdapter;
            close(adapter.provider.Client.cast(), adapter.raw);
        }
        if stage >= Stage::Captured {
            WskReleaseProviderNPI(&raw mut adapter.registration);
        }
        if stage >= Stage::Registered {
            WskDeregister(&raw mut adapter.registration);
        }
        memory::free(place);
    }
}

/// Closes an adapter all of whose objects are closed. Blocks until no callback runs any more: only now may the driver unload.
/// PASSIVE_LEVEL, and not from a callback.
pub fn close(adapter: NonNull<Adapter>) {
    undo(adapter, Stage::Opened);
}
