//! Socket addresses as consumers pass them: parsing, checking and writing back, and the adapter's own addresses.
//!
//! IRQL: <= DISPATCH_LEVEL; nothing here waits or calls out.
#![allow(
    unsafe_code,
    reason = "a sockaddr is a consumer's pointer with a length"
)]

use core::ffi::c_void;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use alloc::vec::Vec;
use ndis_sys::status::{STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use nt::NoMemory;

/// AF_INET.
const INET: u16 = 2;
/// AF_INET6, Windows's number for it.
const INET6: u16 = 23;
/// Length of a SOCKADDR_IN, bytes.
const INET_LENGTH: usize = 16;
/// Length of a SOCKADDR_IN6, bytes.
const INET6_LENGTH: usize = 28;

/// Reads the sockaddr that a consumer passed: AF_INET in 16 bytes or more, AF_INET6 in 28 bytes or more. None for anything else.
///
/// Decision X-61: a short length or an unknown family is STATUS_INVALID_ADDRESS where a local address was meant and
/// STATUS_INVALID_PARAMETER where a destination was; the caller says which.
///
/// # Safety
/// `address` is null or points at `length` readable bytes. It need not be aligned.
pub unsafe fn read(address: *const c_void, length: u32) -> Option<SocketAddr> {
    let length = length as usize;
    if address.is_null() || length < INET_LENGTH {
        return None;
    }
    // SAFETY: at least 16 bytes are readable.
    let head = unsafe { address.cast::<[u8; INET_LENGTH]>().read_unaligned() };
    let [f0, f1, p0, p1, a, b, c, d, ..] = head;
    let port = u16::from_be_bytes([p0, p1]);
    match u16::from_le_bytes([f0, f1]) {
        INET => Some(SocketAddr::V4(SocketAddrV4::new(
            Ipv4Addr::new(a, b, c, d),
            port,
        ))),
        INET6 if length >= INET6_LENGTH => {
            // SAFETY: at least 28 bytes are readable; the address is at 8, the scope at 24.
            let ip = unsafe {
                address
                    .cast::<u8>()
                    .add(8)
                    .cast::<[u8; 16]>()
                    .read_unaligned()
            };
            // SAFETY: as above.
            let scope = unsafe { address.cast::<u8>().add(24).cast::<u32>().read_unaligned() };
            Some(SocketAddr::V6(SocketAddrV6::new(
                Ipv6Addr::from(ip),
                port,
                0,
                scope,
            )))
        }
        _ => None,
    }
}

/// Writes an address as a sockaddr: STATUS_SUCCESS and the length written, or STATUS_BUFFER_TOO_SMALL and the length needed.
///
/// # Safety
/// `length` points at the size of the buffer `address`, in bytes; the buffer is writable (or null with length 0).
pub unsafe fn write(endpoint: SocketAddr, address: *mut c_void, length: *mut u32) -> NTSTATUS {
    let mut bytes = [0_u8; INET6_LENGTH];
    let port = endpoint.port().to_be_bytes();
    let needed = match endpoint {
        SocketAddr::V4(v4) => {
            put(&mut bytes, 0, &INET.to_le_bytes());
            put(&mut bytes, 2, &port);
            put(&mut bytes, 4, &v4.ip().octets());
            INET_LENGTH
        }
        SocketAddr::V6(v6) => {
            put(&mut bytes, 0, &INET6.to_le_bytes());
            put(&mut bytes, 2, &port);
            put(&mut bytes, 8, &v6.ip().octets());
            put(&mut bytes, 24, &v6.scope_id().to_le_bytes());
            INET6_LENGTH
        }
    };
    // SAFETY: the caller's length is readable and writable.
    let room = unsafe { length.replace(needed as u32) } as usize;
    if address.is_null() || room < needed {
        return STATUS_BUFFER_TOO_SMALL;
    }
    // SAFETY: the buffer has room for `needed` bytes, and `bytes` is never shorter than that.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address.cast(), needed) };
    STATUS_SUCCESS
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(field.len())) {
        place.copy_from_slice(field);
    }
}

/// Whether an address can be a peer: one host, not a group or a placeholder.
pub fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_loopback())
        }
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback()),
    }
}

/// One address of the interface that TCP/IP runs over this adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    /// The address.
    pub ip: IpAddr,
    /// Its scope id (IPv6), 0 otherwise.
    pub scope: u32,
}

impl LocalAddress {
    /// The address of an endpoint.
    pub fn of(endpoint: SocketAddr) -> Self {
        let scope = match endpoint {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        Self {
            ip: endpoint.ip(),
            scope,
        }
    }
}

/// More addresses than that on one interface are not seen.
pub const MAX_LOCAL_ADDRESSES: usize = 64;

/// The adapter's own addresses, as TCP/IP last reported them.
#[derive(Debug, Default)]
pub struct LocalAddresses {
    list: Vec<LocalAddress>,
}

impl LocalAddresses {
    /// An empty list with room for all that are seen.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        let mut list = Vec::new();
        list.try_reserve_exact(MAX_LOCAL_ADDRESSES)
            .map_err(|_| NoMemory)?;
        Ok(Self { list })
    }

    /// Adds one; those beyond [`MAX_LOCAL_ADDRESSES`] are dropped.
    pub fn add(&mut self, address: LocalAddress) {
        if self.list.len() < self.list.capacity() {
            self.list.push(address);
        }
    }

    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = &LocalAddress> {
        self.list.iter()
    }

    /// An endpoint with the scope id that goes with it on this interface, whatever a consumer gave or the wire did not say: all
    /// link-local addresses there, peers' too, have that of the adapter's own, and others have none.
    pub fn scoped(&self, endpoint: SocketAddr) -> SocketAddr {
        let SocketAddr::V6(mut v6) = endpoint else {
            return endpoint;
        };
        if !v6.ip().is_unicast_link_local() {
            v6.set_scope_id(0);
        } else if let Some(local) = self.list.iter().find(|local| local.scope != 0) {
            v6.set_scope_id(local.scope);
        }
        v6.into()
    }

    /// Whether a consumer may bind to this address: one of the adapter's, or, where `wildcard` allows it, the unspecified one.
    ///
    /// Decision X-62: a listener may name the unspecified address and then hears on every address of the adapter.
    pub fn is_local(&self, ip: IpAddr, wildcard: bool) -> bool {
        (wildcard && ip.is_unspecified()) || self.list.iter().any(|local| local.ip == ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> SocketAddr {
        let address: SocketAddr = text.parse().unwrap();
        let mut buffer = [0xaa_u8; 40];
        let mut length = buffer.len() as u32;
        // SAFETY: buffer and length are this function's own.
        let status = unsafe { write(address, buffer.as_mut_ptr().cast(), &mut length) };
        assert_eq!(status, STATUS_SUCCESS);
        assert_eq!(
            buffer[length as usize], 0xaa,
            "nothing beyond the length is written"
        );
        // SAFETY: as above.
        unsafe { read(buffer.as_ptr().cast(), length) }.unwrap()
    }

    #[test]
    fn a_sockaddr_survives_the_round_trip() {
        for text in ["192.168.7.1:445", "[2001:db8::1]:5445", "[fe80::1%9]:49152"] {
            assert_eq!(round_trip(text), text.parse().unwrap());
        }
    }

    #[test]
    fn short_and_foreign_sockaddrs_are_refused() {
        let inet6 = [
            23_u8, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        for (bytes, length) in [(inet6, 27), (inet6, 15), (inet6, 0), ([1_u8; 28], 28)] {
            // SAFETY: the array is longer than every length tried.
            assert_eq!(unsafe { read(bytes.as_ptr().cast(), length) }, None);
        }
        // SAFETY: null is allowed.
        assert_eq!(unsafe { read(core::ptr::null(), 16) }, None);
    }

    #[test]
    fn a_small_buffer_learns_what_is_needed() {
        let mut length = 15;
        let mut buffer = [0xaa_u8; 16];
        let address = "10.0.0.1:1".parse().unwrap();
        // SAFETY: buffer and length are this test's own.
        let status = unsafe { write(address, buffer.as_mut_ptr().cast(), &mut length) };
        assert_eq!(
            (status, length, buffer),
            (STATUS_BUFFER_TOO_SMALL, 16, [0xaa; 16])
        );
    }
}
