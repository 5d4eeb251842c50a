//! What the two ends say to each other: private data, messages, credits.

use ndkpi::{AF_INET, SOCKADDR_IN};

/// Bytes that are written, in blocks.
pub const DATA: usize = 64 << 10;
/// Blocks of the data.
pub const BLOCKS: usize = 16;
/// Bytes of a message.
pub const MESSAGE: usize = 64;
/// Messages that may be on their way to the server: as many as it has receives posted. NDK has no flow control of its own.
pub const CREDITS: u32 = 4;

/// What the client sends with NdkConnect.
pub const HELLO: [u8; 8] = *b"example1";

/// What the server answers with NdkAccept: where its memory is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub address: u64,
    pub token: u32,
    pub credits: u32,
}

impl Welcome {
    pub const SIZE: usize = size_of::<Welcome>();

    pub fn to_bytes(self) -> [u8; Welcome::SIZE] {
        let mut bytes = [0; Welcome::SIZE];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        // A token is bytes, not a number: it goes as it lies in memory.
        bytes[8..12].copy_from_slice(&self.token.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.credits.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; Welcome::SIZE]) -> Welcome {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Welcome {
            address: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            token: u32::from_ne_bytes([i, j, k, l]),
            credits: u32::from_le_bytes([m, n, o, p]),
        }
    }
}

/// The byte that a block is filled with.
pub fn pattern(block: usize) -> u8 {
    0x40 + block as u8
}

/// An address as NDK takes it. Port and address are in network order, however they are written down.
pub fn socket_address(address: [u8; 4], port: u16) -> SOCKADDR_IN {
    SOCKADDR_IN {
        sin_family: AF_INET,
        sin_port: port.to_be(),
        sin_addr: address,
        sin_zero: [0; 8],
    }
}
