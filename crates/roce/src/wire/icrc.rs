//! Invariant CRC (IBTA annex A17.3.3): CRC-32 of a packet with the fields that routers change masked to ones.

use super::{Bth, Error, Ipv4, Ipv6, Udp};
use arrayvec::ArrayVec;
use vroce_crc32::Crc32;

/// Length on the wire, bytes.
pub const LEN: usize = 4;

/// CRC register after the eight bytes of ones that stand for the absent local route header.
const PREFIX_REGISTER: u32 = 0xdebb_20e3;

const V4_MASKED: usize = Ipv4::LEN + Udp::LEN + Bth::LEN;
const V6_MASKED: usize = Ipv6::LEN + Udp::LEN + Bth::LEN;

/// An ICRC being computed. Feed it the packet from the IP header on, in order, in as many pieces as it comes in.
#[derive(Clone, Debug)]
pub struct Icrc(Crc32);

impl Icrc {
    /// Starts over `headers`: from the first byte of the IP header, containing at least IP, UDP and BTH, and
    /// as much more as there is in one piece.
    ///
    /// # Errors
    /// `Truncated` when BTH is not complete, `NotRoce` when the first byte is of no IP version.
    pub fn start(headers: &[u8]) -> Result<Self, Error> {
        let mut crc = Crc32::from_register(PREFIX_REGISTER);
        let rest = match headers.first().map(|b| b >> 4) {
            Some(4) => {
                let (front, rest) = headers
                    .split_first_chunk::<V4_MASKED>()
                    .ok_or(Error::Truncated)?;
                let mut masked = *front;
                // TOS, TTL, header checksum; UDP checksum; BTH congestion byte.
                mask(&mut masked, &[1, 8, 10, 11, 26, 27, 32]);
                crc.update(&masked);
                rest
            }
            Some(6) => {
                let (front, rest) = headers
                    .split_first_chunk::<V6_MASKED>()
                    .ok_or(Error::Truncated)?;
                let mut masked = *front;
                // Traffic class and flow label, hop limit; UDP checksum; BTH congestion byte.
                mask(&mut masked, &[1, 2, 3, 7, 46, 47, 52]);
                if let Some(first) = masked.first_mut() {
                    *first |= 0x0f;
                }
                crc.update(&masked);
                rest
            }
            Some(_) => return Err(Error::NotRoce),
            None => return Err(Error::Truncated),
        };
        crc.update(rest);
        Ok(Self(crc))
    }

    /// Goes on over the next piece of the packet.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The CRC beneath, for who goes on over the next piece in his own way.
    pub fn crc(&mut self) -> &mut Crc32 {
        &mut self.0
    }

    /// The four wire bytes.
    #[must_use]
    pub fn finish(self) -> [u8; LEN] {
        self.0.finish().to_le_bytes()
    }

    /// Goes on over `pad` zero bytes (0..3) and gives what follows the payload on the wire: the pad and the ICRC.
    #[must_use]
    pub fn trailer(mut self, pad: u8) -> ArrayVec<u8, 8> {
        let mut out = ArrayVec::new();
        let zeros = [0; 3];
        let pad = zeros.get(..usize::from(pad & 3)).unwrap_or(&[]);
        self.update(pad);
        // At most 3 + 4 bytes.
        let _ = out.try_extend_from_slice(pad);
        let _ = out.try_extend_from_slice(&self.finish());
        out
    }
}

fn mask(bytes: &mut [u8], offsets: &[usize]) {
    for &at in offsets {
        if let Some(b) = bytes.get_mut(at) {
            *b = 0xff;
        }
    }
}
