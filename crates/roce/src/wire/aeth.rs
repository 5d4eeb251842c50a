//! ACK Extended Transport Header (IBTA 9.3.5): syndromes, credits and RNR timers.

use super::{Error, u24_from_bytes, u24_to_bytes};

/// Why a responder refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NakCode {
    /// The packet's PSN is not the expected one: resend from the PSN of this NAK.
    PsnSequence,
    /// Malformed or unsupported request.
    InvalidRequest,
    /// Key, range or permission.
    RemoteAccess,
    /// The responder failed.
    RemoteOperational,
    /// Reliable datagram only.
    InvalidRd,
    /// Codes 5..31.
    Reserved(u8),
}

impl NakCode {
    const fn from_value(v: u8) -> Self {
        match v {
            0 => Self::PsnSequence,
            1 => Self::InvalidRequest,
            2 => Self::RemoteAccess,
            3 => Self::RemoteOperational,
            4 => Self::InvalidRd,
            other => Self::Reserved(other),
        }
    }

    const fn value(self) -> u8 {
        match self {
            Self::PsnSequence => 0,
            Self::InvalidRequest => 1,
            Self::RemoteAccess => 2,
            Self::RemoteOperational => 3,
            Self::InvalidRd => 4,
            Self::Reserved(v) => v & 0x1f,
        }
    }
}

/// Meaning of an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syndrome {
    /// Positive; the credit code is advisory.
    Ack {
        /// Code 0..31; 31 means no end-to-end flow control.
        credits: u8,
    },
    /// Receiver not ready: try again after [`rnr_nanos`](crate::time::rnr_nanos) of the code.
    RnrNak {
        /// Code 0..31.
        timer: u8,
    },
    /// Negative.
    Nak(NakCode),
    /// The reserved type, or bit 7 set. To be ignored. Holds the wire byte.
    Reserved(u8),
}

impl Syndrome {
    /// The positive acknowledgement we send: no end-to-end flow control.
    pub const ACK: Self = Self::Ack { credits: 31 };

    /// From the wire byte.
    #[must_use]
    pub const fn from_u8(v: u8) -> Self {
        match v >> 5 {
            0 => Self::Ack { credits: v & 0x1f },
            1 => Self::RnrNak { timer: v & 0x1f },
            3 => Self::Nak(NakCode::from_value(v & 0x1f)),
            _ => Self::Reserved(v),
        }
    }

    /// The wire byte.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::Ack { credits } => credits & 0x1f,
            Self::RnrNak { timer } => 0x20 | timer & 0x1f,
            Self::Nak(code) => 0x60 | code.value(),
            Self::Reserved(v) => v,
        }
    }
}

/// ACK Extended Transport Header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aeth {
    /// What the responder says.
    pub syndrome: Syndrome,
    /// Message sequence number, 24 bits.
    pub msn: u32,
}

impl Aeth {
    /// Length on the wire, bytes.
    pub const LEN: usize = 4;

    /// Reads the header at the front of `bytes`; also gives what follows it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let (&[syndrome, a, b, c], rest) = bytes.split_first_chunk().ok_or(Error::Truncated)?;
        Ok((
            Self {
                syndrome: Syndrome::from_u8(syndrome),
                msn: u24_from_bytes([a, b, c]),
            },
            rest,
        ))
    }

    /// The wire bytes.
    #[must_use]
    pub const fn emit(&self) -> [u8; Self::LEN] {
        let [a, b, c] = u24_to_bytes(self.msn);
        [self.syndrome.to_u8(), a, b, c]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syndrome_maps_back() {
        for v in 0..=255 {
            assert_eq!(Syndrome::from_u8(v).to_u8(), v);
        }
    }
}
