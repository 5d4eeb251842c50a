//! What TCP/IP knows: the adapter's own addresses, and the next hop to a peer. Everything here runs at PASSIVE_LEVEL, in work items.
#![allow(unsafe_code, reason = "calls the IP helper functions of netio")]

use core::ffi::c_void;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use ndis_sys::netioapi::{
    IpDadStateDeprecated, IpDadStatePreferred, MIB_IPFORWARD_ROW2, MIB_IPNET_ROW2,
    MIB_NOTIFICATION_TYPE, MIB_UNICASTIPADDRESS_ROW, MIB_UNICASTIPADDRESS_TABLE, NET_LUID,
};
use ndis_sys::socket::{
    AF_INET, AF_INET6, AF_UNSPEC, SOCKADDR_INET, in_addr, in6_addr, sockaddr_in, sockaddr_in6,
};
use ndis_sys::status::{
    STATUS_HOST_UNREACHABLE, STATUS_INSUFFICIENT_RESOURCES, STATUS_NETWORK_UNREACHABLE,
    STATUS_NO_MEMORY, STATUS_SUCCESS,
};
use ndis_sys::types::{HANDLE, NTSTATUS, TRUE};
use nt::{Passive, sys};
use roce::{Path, PathMtu};

use super::address::{LocalAddress, LocalAddresses};
use super::port::Port;

/// Hop limit of everything sent.
const HOP_LIMIT: u8 = 64;

fn to_inet(ip: IpAddr, scope: u32) -> SOCKADDR_INET {
    match ip {
        IpAddr::V4(v4) => SOCKADDR_INET {
            Ipv4: sockaddr_in {
                sin_family: AF_INET,
                sin_port: 0,
                sin_addr: in_addr { S_un: v4.octets() },
                sin_zero: [0; 8],
            },
        },
        IpAddr::V6(v6) => SOCKADDR_INET {
            Ipv6: sockaddr_in6 {
                sin6_family: AF_INET6,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: in6_addr { u: v6.octets() },
                sin6_scope_id: scope,
            },
        },
    }
}

fn from_inet(address: &SOCKADDR_INET) -> Option<(IpAddr, u32)> {
    // SAFETY: every variant begins with the family, and the family says which variant it is.
    unsafe {
        match address.si_family {
            AF_INET => Some((IpAddr::V4(Ipv4Addr::from(address.Ipv4.sin_addr.S_un)), 0)),
            AF_INET6 => Some((
                IpAddr::V6(Ipv6Addr::from(address.Ipv6.sin6_addr.u)),
                address.Ipv6.sin6_scope_id,
            )),
            _ => None,
        }
    }
}

/// The unicast addresses of an interface that are ready for use. None if TCP/IP cannot say, or there is no memory.
pub fn read_addresses(luid: u64, _: Passive) -> Option<LocalAddresses> {
    let mut addresses = LocalAddresses::try_new().ok()?;
    let mut table: *mut MIB_UNICASTIPADDRESS_TABLE = null_mut();
    // SAFETY: PASSIVE_LEVEL by the token; the table pointer is a local.
    let status = unsafe { sys::GetUnicastIpAddressTable(AF_UNSPEC, &raw mut table) };
    if status != STATUS_SUCCESS || table.is_null() {
        return None;
    }
    // SAFETY: the function has made a table with as many rows as it says.
    let rows = unsafe {
        core::slice::from_raw_parts(
            (&raw const (*table).Table).cast::<MIB_UNICASTIPADDRESS_ROW>(),
            (*table).NumEntries as usize,
        )
    };
    for row in rows {
        if row.InterfaceLuid.Value == luid
            && (row.DadState == IpDadStatePreferred || row.DadState == IpDadStateDeprecated)
            && let Some((ip, scope)) = from_inet(&row.Address)
        {
            addresses.add(LocalAddress { ip, scope });
        }
    }
    // SAFETY: made by the function above, freed once.
    unsafe { sys::FreeMibTable(table.cast()) };
    Some(addresses)
}

/// An error if that is what a status is for: not to be taken for an answer about the network.
fn lack(status: NTSTATUS) -> Result<(), NTSTATUS> {
    match status {
        // The pages say ERROR_NOT_ENOUGH_MEMORY, which the kernel has under either name.
        STATUS_INSUFFICIENT_RESOURCES | STATUS_NO_MEMORY => Err(STATUS_INSUFFICIENT_RESOURCES),
        _ => Ok(()),
    }
}

/// The way from a local address to a peer: the next hop's MAC address.
///
/// STATUS_NETWORK_UNREACHABLE if there is no route over this interface, STATUS_HOST_UNREACHABLE if the next hop does not answer,
/// STATUS_INSUFFICIENT_RESOURCES if Windows has no memory to tell.
/// Blocks for as long as TCP/IP asks the neighbour.
pub fn resolve(
    luid: u64,
    mac: [u8; 6],
    mtu: PathMtu,
    local: LocalAddress,
    peer: LocalAddress,
    _: Passive,
) -> Result<Path, NTSTATUS> {
    let interface = NET_LUID { Value: luid };
    let source = to_inet(local.ip, local.scope);
    let destination = to_inet(
        peer.ip,
        if peer.scope == 0 {
            local.scope
        } else {
            peer.scope
        },
    );
    let mut route = MIB_IPFORWARD_ROW2::ZEROED;
    let mut best_source = SOCKADDR_INET::ZEROED;
    // SAFETY: PASSIVE_LEVEL by the token; all pointers are to locals.
    let status = unsafe {
        sys::GetBestRoute2(
            &raw const interface,
            0,
            &raw const source,
            &raw const destination,
            0,
            &raw mut route,
            &raw mut best_source,
        )
    };
    lack(status)?;
    if status != STATUS_SUCCESS {
        return Err(STATUS_NETWORK_UNREACHABLE);
    }
    let hop = match from_inet(&route.NextHop) {
        Some((ip, _)) if !ip.is_unspecified() => route.NextHop,
        // On the link.
        _ => destination,
    };
    let mut row = MIB_IPNET_ROW2 {
        Address: hop,
        InterfaceLuid: interface,
        ..MIB_IPNET_ROW2::ZEROED
    };
    // SAFETY: as above.
    let status = unsafe { sys::ResolveIpNetEntry2(&raw mut row, &raw const source) };
    lack(status)?;
    if status != STATUS_SUCCESS || row.PhysicalAddressLength != 6 {
        return Err(STATUS_HOST_UNREACHABLE);
    }
    let [a, b, c, d, e, f, ..] = row.PhysicalAddress;
    Ok(Path {
        src_mac: mac,
        dst_mac: [a, b, c, d, e, f],
        vlan: None,
        src_ip: local.ip,
        dst_ip: peer.ip,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        mtu,
    })
}

/// The way to a peer that is this adapter itself: such frames never reach the NIC.
pub fn to_self(mac: [u8; 6], mtu: PathMtu, local: LocalAddress, peer: LocalAddress) -> Path {
    Path {
        src_mac: mac,
        dst_mac: mac,
        vlan: None,
        src_ip: local.ip,
        dst_ip: peer.ip,
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        mtu,
    }
}

/// The notification of address changes.
#[derive(Debug)]
pub struct AddressWatch {
    handle: AtomicPtr<c_void>,
}

impl AddressWatch {
    /// No notification yet.
    pub const fn new() -> Self {
        Self {
            handle: AtomicPtr::new(null_mut()),
        }
    }

    /// Asks TCP/IP to tell the port of changes, beginning with now. Failure only means that addresses are read when somebody asks
    /// for one that is not known.
    ///
    /// # Safety
    /// `port` stays valid until [`AddressWatch::stop`] has returned.
    pub unsafe fn start(&self, port: *const Port, _: Passive) {
        let mut handle: HANDLE = null_mut();
        // SAFETY: PASSIVE_LEVEL by the token; the port is valid until the notification is cancelled.
        let status = unsafe {
            sys::NotifyUnicastIpAddressChange(
                AF_UNSPEC,
                changed,
                port.cast_mut().cast(),
                TRUE,
                &raw mut handle,
            )
        };
        if status == STATUS_SUCCESS {
            self.handle.store(handle, Ordering::Release);
        }
    }

    /// Ends the notification and waits for one that is running.
    pub fn stop(&self, _: Passive) {
        let handle = self.handle.swap(null_mut(), Ordering::AcqRel);
        if !handle.is_null() {
            // SAFETY: PASSIVE_LEVEL by the token; the handle is cancelled once.
            unsafe { sys::CancelMibChangeNotify2(handle) };
        }
    }
}

/// An address came, changed or went. IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn changed(
    context: *mut c_void,
    _row: *mut MIB_UNICASTIPADDRESS_ROW,
    _kind: MIB_NOTIFICATION_TYPE,
) {
    // SAFETY: the port outlives the notification.
    if let Some(port) = unsafe { context.cast::<Port>().cast_const().as_ref() } {
        port.read_addresses_soon();
    }
}
