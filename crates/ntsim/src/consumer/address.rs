//! Socket addresses as NDKPI takes them.

use ndkpi::{AF_INET, AF_INET6, SOCKADDR, SOCKADDR_IN, SOCKADDR_IN6, SOCKADDR_INET};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// An address in C's form, with its length.
pub(super) struct Address(SOCKADDR_INET);

impl Address {
    pub(super) fn new(address: SocketAddr) -> Address {
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

    pub(super) fn empty() -> Address {
        Address(SOCKADDR_INET::ZEROED)
    }

    pub(super) fn as_ptr(&self) -> *const SOCKADDR {
        (&raw const self.0).cast()
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut SOCKADDR {
        (&raw mut self.0).cast()
    }

    pub(super) fn capacity() -> u32 {
        size_of::<SOCKADDR_INET>() as u32
    }

    pub(super) fn len(&self) -> u32 {
        // SAFETY: every variant begins with the family.
        let size = match unsafe { self.0.si_family } {
            AF_INET => size_of::<SOCKADDR_IN>(),
            _ => size_of::<SOCKADDR_IN6>(),
        };
        size as u32
    }

    /// The address that a provider wrote.
    pub(super) fn get(&self) -> Option<SocketAddr> {
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
