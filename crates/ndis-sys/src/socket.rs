//! Socket addresses (`ws2def.h`, `ws2ipdef.h`). Port numbers and addresses are in network byte order.

/// Address family.
pub type ADDRESS_FAMILY = u16;
/// Any socket address.
pub type SOCKADDR = sockaddr;

layouts! {
    /// Any socket address: look at the family, then at the length given with it.
    pub struct sockaddr(16) {
        0x00 sa_family: ADDRESS_FAMILY,
        0x02 sa_data: [u8; 14],
    }

    /// An IPv4 address. In C it is an integer of 32 bits as well.
    #[derive(Debug, PartialEq, Eq)]
    #[repr(align(4))]
    pub struct in_addr(4) {
        /// The four bytes as they are on the wire.
        0x00 S_un: [u8; 4],
    }

    /// An IPv6 address. In C it is eight integers of 16 bits as well.
    #[derive(Debug, PartialEq, Eq)]
    #[repr(align(2))]
    pub struct in6_addr(16) {
        /// The sixteen bytes as they are on the wire.
        0x00 u: [u8; 16],
    }

    /// An IPv4 address and a port.
    #[derive(Debug, PartialEq, Eq)]
    pub struct sockaddr_in(16) {
        0x00 sin_family: ADDRESS_FAMILY,
        0x02 sin_port: u16,
        0x04 sin_addr: in_addr,
        0x08 sin_zero: [u8; 8],
    }

    /// An IPv6 address, a port, a scope.
    #[derive(Debug, PartialEq, Eq)]
    pub struct sockaddr_in6(28) {
        0x00 sin6_family: ADDRESS_FAMILY,
        0x02 sin6_port: u16,
        0x04 sin6_flowinfo: u32,
        0x08 sin6_addr: in6_addr,
        0x18 sin6_scope_id: u32,
    }

    /// An IPv4 or IPv6 socket address.
    pub union SOCKADDR_INET(28) {
        0x00 Ipv4: sockaddr_in,
        0x00 Ipv6: sockaddr_in6,
        0x00 si_family: ADDRESS_FAMILY,
    }

    /// Room for any socket address.
    pub struct sockaddr_storage(128) {
        0x00 ss_family: ADDRESS_FAMILY,
        0x02 __ss_pad1: [u8; 6],
        0x08 __ss_align: i64,
        0x10 __ss_pad2: [u8; 112],
    }
}

constants! {
    /// Address families.
    ADDRESS_FAMILY {
        AF_UNSPEC = 0;
        AF_INET = 2;
        AF_INET6 = 0x17;
    }
}
