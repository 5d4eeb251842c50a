//! Socket addresses as NDKPI takes them.

use ndkpi::{AF_INET, AF_INET6, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_INET};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address in C's form, with its length.
pub(crate) struct Address(SOCKADDR_INET);

impl Address {
    pub(crate) fn new(address: SocketAddr) -> Address {
        let port = address.port().to_be();
        Address(match address {
            SocketAddr::V4(v4) => SOCKADDR_INET {
                Ipv4: SOCKADDR_IN {
                    sin_family: AF_INET,
                    sin_port: port,
                    sin_addr: v4.ip().octets(),
                    sin_zero: [0; 8],
                },
            },
            SocketAddr::V6(v6) => SOCKADDR_INET {
                Ipv6: SOCKADDR_IN6 {
                    sin6_family: AF_INET6,
                    sin6_port: port,
                    sin6_addr: v6.ip().octets(),
                    sin6_scope_id: v6.scope_id(),
                    ..SOCKADDR_IN6::ZEROED
                },
            },
        })
    }

    pub(crate) fn empty() -> Address {
        Address(SOCKADDR_INET::ZEROED)
    }

    /// The address that a consumer passes, if it is one.
    ///
    /// # Safety
    /// `address` is null or valid for `length` bytes.
    pub(crate) unsafe fn read(address: *const SOCKADDR, length: u32) -> Option<SocketAddr> {
        let family = size_of::<u16>();
        if address.is_null() || (length as usize) < family {
            return None;
        }
        // SAFETY: the caller's promise.
        let needed = match unsafe { address.cast::<u16>().read_unaligned() } {
            AF_INET => size_of::<SOCKADDR_IN>(),
            AF_INET6 => size_of::<SOCKADDR_IN6>(),
            _ => return None,
        };
        if (length as usize) < needed {
            return None;
        }
        let mut copy = Address::empty();
        // SAFETY: it has that many bytes, and so has the copy.
        unsafe {
            std::ptr::copy_nonoverlapping(address.cast::<u8>(), copy.as_mut_ptr().cast(), needed)
        };
        copy.get()
    }

    pub(crate) fn as_ptr(&self) -> *const SOCKADDR {
        (&raw const self.0).cast()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut SOCKADDR {
        (&raw mut self.0).cast()
    }

    pub(crate) fn capacity() -> u32 {
        size_of::<SOCKADDR_INET>() as u32
    }

    pub(crate) fn len(&self) -> u32 {
        // SAFETY: every variant begins with the family.
        let size = match unsafe { self.0.si_family } {
            AF_INET => size_of::<SOCKADDR_IN>(),
            _ => size_of::<SOCKADDR_IN6>(),
        };
        size as u32
    }

    /// The address that a provider wrote.
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        // SAFETY: every variant begins with the family, which says which one it is; all bytes are initialised.
        unsafe {
            match self.0.si_family {
                AF_INET => Some(SocketAddr::new(
                    Ipv4Addr::from(self.0.Ipv4.sin_addr).into(),
                    u16::from_be(self.0.Ipv4.sin_port),
                )),
                AF_INET6 => Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(self.0.Ipv6.sin6_addr),
                    u16::from_be(self.0.Ipv6.sin6_port),
                    0,
                    self.0.Ipv6.sin6_scope_id,
                ))),
                _ => None,
            }
        }
    }
}
