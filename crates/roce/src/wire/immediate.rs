//! Immediate data (IBTA 9.3.6).

use super::Error;

/// Four bytes that travel to the receiver's completion unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Immediate(pub [u8; 4]);

impl Immediate {
    /// Length on the wire, bytes.
    pub const LEN: usize = 4;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok((Self(*raw), rest))
    }

    /// The wire bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; Self::LEN] {
        self.0
    }
}
