//! Socket addresses in C's form.

use ndkpi::*;
use std::net::{IpAddr, SocketAddr};

/// A socket address in C's form.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(in crate::spin) struct Address {
    bytes: [u8; 28],
    pub(super) length: u32,
}

impl Address {
    pub(in crate::spin) fn new(address: SocketAddr) -> Address {
        let mut bytes = [0; 28];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        let (family, length) = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (AF_INET, 16)
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                (AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&family.to_le_bytes());
        Address { bytes, length }
    }

    /// The same, said to be that long at most.
    pub(in crate::spin) fn cut(mut self, length: u32) -> Address {
        self.length = self.length.min(length);
        self
    }

    /// With another family.
    pub(in crate::spin) fn family(mut self, family: u16) -> Address {
        self.bytes[..2].copy_from_slice(&family.to_le_bytes());
        self
    }

    pub(super) fn at(&self) -> *const SOCKADDR {
        self.bytes.as_ptr().cast()
    }
}

/// Calls a function that writes an address into a buffer of that size. The address that it wrote.
pub(super) fn address(
    room: u32,
    call: impl FnOnce(*mut SOCKADDR, *mut u32) -> NTSTATUS,
) -> (NTSTATUS, Option<SocketAddr>) {
    let mut buffer = Address {
        bytes: [0; 28],
        length: room.min(28),
    };
    let status = call(buffer.bytes.as_mut_ptr().cast(), &raw mut buffer.length);
    let bytes = &buffer.bytes;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip: Option<IpAddr> = match u16::from_le_bytes([bytes[0], bytes[1]]) {
        AF_INET => bytes[4..].first_chunk::<4>().map(|ip| (*ip).into()),
        AF_INET6 => bytes[8..].first_chunk::<16>().map(|ip| (*ip).into()),
        _ => None,
    };
    (status, ip.map(|ip| SocketAddr::new(ip, port)))
}
