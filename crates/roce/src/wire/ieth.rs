//! Invalidate Extended Transport Header (IBTA 9.3.7).

use super::Error;

/// The key that the receiver of a SEND with invalidate shall invalidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ieth {
    /// Remote key.
    pub rkey: u32,
}

impl Ieth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 4;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (raw, rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok((
            Self {
                rkey: u32::from_be_bytes(*raw),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; Self::LEN] {
        self.rkey.to_be_bytes()
    }
}
