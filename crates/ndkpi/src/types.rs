//! Types NDKPI shares with the rest of the kernel. Declared here so that this crate depends on nothing; a driver casts pointers from
//! its own declarations of the same C types.

pub use core::ffi::c_void;

/// Result of an NT function. See [`crate::status`].
pub type NTSTATUS = i32;
/// Result of an NDIS function: the same numbers, plus NDIS's own.
pub type NDIS_STATUS = i32;
/// Opaque handle of NDIS, or a context of the driver.
pub type NDIS_HANDLE = *mut c_void;
/// Zero or one.
pub type BOOLEAN = u8;
/// Interface index, as in the IP helper functions.
pub type NET_IFINDEX = u32;

/// A memory descriptor list: opaque here.
#[repr(C)]
pub struct MDL {
    _opaque: [u8; 0],
}

layouts! {
    /// A set of processors in one group.
    pub struct GROUP_AFFINITY(16) {
        /// One bit for each processor of the group.
        0x00 Mask: usize,
        /// Number of the group.
        0x08 Group: u16,
        /// Zero.
        0x0a Reserved: [u16; 3],
    }

    /// A globally unique identifier.
    #[derive(Debug, PartialEq, Eq)]
    pub struct GUID(16) {
        /// First 32 bits.
        0x00 Data1: u32,
        /// Next 16 bits.
        0x04 Data2: u16,
        /// Next 16 bits.
        0x06 Data3: u16,
        /// The last eight bytes.
        0x08 Data4: [u8; 8],
    }

    /// Any socket address: look at the family, then at the length given with it.
    pub struct SOCKADDR(16) {
        /// `AF_INET` or `AF_INET6`.
        0x00 sa_family: u16,
        /// The first bytes of the rest.
        0x02 sa_data: [u8; 14],
    }

    /// An IPv4 address and a port, both in network byte order.
    #[derive(Debug, PartialEq, Eq)]
    #[repr(align(4))]
    pub struct SOCKADDR_IN(16) {
        /// `AF_INET`.
        0x00 sin_family: u16,
        /// Network byte order.
        0x02 sin_port: u16,
        /// The address as it is on the wire.
        0x04 sin_addr: [u8; 4],
        /// Zero.
        0x08 sin_zero: [u8; 8],
    }

    /// An IPv6 address and a port, both in network byte order, and a scope.
    #[derive(Debug, PartialEq, Eq)]
    pub struct SOCKADDR_IN6(28) {
        /// `AF_INET6`.
        0x00 sin6_family: u16,
        /// Network byte order.
        0x02 sin6_port: u16,
        /// Flow label.
        0x04 sin6_flowinfo: u32,
        /// The address as it is on the wire.
        0x08 sin6_addr: [u8; 16],
        /// Zone of a scoped address.
        0x18 sin6_scope_id: u32,
    }

    /// An IPv4 or IPv6 socket address.
    pub union SOCKADDR_INET(28) {
        /// If the family is `AF_INET`.
        0x00 Ipv4: SOCKADDR_IN,
        /// If the family is `AF_INET6`.
        0x00 Ipv6: SOCKADDR_IN6,
        /// The family.
        0x00 si_family: u16,
    }
}

constants! {
    /// Address family.
    u16 {
        AF_INET = 2;
        AF_INET6 = 0x17;
    }
}
