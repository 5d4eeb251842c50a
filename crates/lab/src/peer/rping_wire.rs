//! What rping puts into its messages (rdma-core, examples/rping.c).

/// rping's well-known port.
pub const PORT: u16 = 7174;

/// Where the peer may read or write: the 16 bytes of every rping SEND that carries something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferInfo {
    /// Virtual address in the sender's address space.
    pub address: u64,
    /// R_Key of the registration.
    pub key: u32,
    /// Bytes to transfer.
    pub length: u32,
}

impl BufferInfo {
    /// Bytes on the wire.
    pub const LEN: usize = 16;

    /// As rping sends it: three big-endian integers.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.address.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.key.to_be_bytes());
        bytes[12..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// From a received message.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> BufferInfo {
        let [a, b, c, d, e, f, g, h, key @ .., l0, l1, l2, l3] = bytes;
        BufferInfo {
            address: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            key: u32::from_be_bytes(key),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        }
    }
}

/// The text of one round: a line that names the round, then a ramp of printable characters which starts one further each round,
/// ending in NUL.
pub fn ping_text(round: u32, size: usize) -> Vec<u8> {
    const FIRST: u8 = b'A';
    const LAST: u8 = b'z';
    let mut text = format!("rdma-ping-{round}: ").into_bytes();
    let span = u32::from(LAST - FIRST) + 1;
    let mut next = FIRST + u8::try_from(round % span).unwrap_or(0);
    while text.len() < size.saturating_sub(1) {
        text.push(next);
        next = if next == LAST { FIRST } else { next + 1 };
    }
    text.truncate(size.saturating_sub(1));
    text.push(0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_info_is_three_big_endian_integers() {
        let info = BufferInfo {
            address: 0x0102_0304_0506_0708,
            key: 0x0A0B_0C0D,
            length: 60_000,
        };
        assert_eq!(
            info.to_bytes()[..12],
            [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13]
        );
        assert_eq!(BufferInfo::from_bytes(info.to_bytes()), info);
    }

    #[test]
    fn the_ramp_starts_one_further_each_round_and_wraps() {
        let text = ping_text(0, 64);
        assert_eq!(text.len(), 64);
        assert!(text.starts_with(b"rdma-ping-0: ABC"));
        assert_eq!(text[63], 0);
        assert!(ping_text(1, 64).starts_with(b"rdma-ping-1: BCD"));
        assert!(ping_text(57, 64).starts_with(b"rdma-ping-57: zAB"));
        assert!(ping_text(58, 64).starts_with(b"rdma-ping-58: ABC"));
    }
}
