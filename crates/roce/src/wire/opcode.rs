//! BTH opcodes (IBTA table 38; CNP of annex A17).

/// Operation and transport of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opcode {
    /// RC SEND, first packet.
    SendFirst,
    /// RC SEND, middle packet.
    SendMiddle,
    /// RC SEND, last packet.
    SendLast,
    /// RC SEND, last packet, with immediate data.
    SendLastImm,
    /// RC SEND in one packet.
    SendOnly,
    /// RC SEND in one packet, with immediate data.
    SendOnlyImm,
    /// RC RDMA WRITE, first packet.
    WriteFirst,
    /// RC RDMA WRITE, middle packet.
    WriteMiddle,
    /// RC RDMA WRITE, last packet.
    WriteLast,
    /// RC RDMA WRITE, last packet, with immediate data.
    WriteLastImm,
    /// RC RDMA WRITE in one packet.
    WriteOnly,
    /// RC RDMA WRITE in one packet, with immediate data.
    WriteOnlyImm,
    /// RC RDMA READ request.
    ReadRequest,
    /// RC RDMA READ response, first packet.
    ReadResponseFirst,
    /// RC RDMA READ response, middle packet.
    ReadResponseMiddle,
    /// RC RDMA READ response, last packet.
    ReadResponseLast,
    /// RC RDMA READ response in one packet.
    ReadResponseOnly,
    /// RC acknowledge: ACK, NAK or RNR NAK.
    Acknowledge,
    /// RC atomic acknowledge.
    AtomicAcknowledge,
    /// RC compare and swap.
    CompareSwap,
    /// RC fetch and add.
    FetchAdd,
    /// RC SEND, last packet, with invalidate.
    SendLastInvalidate,
    /// RC SEND in one packet, with invalidate.
    SendOnlyInvalidate,
    /// UD SEND (the only kind of datagram: one packet).
    UdSendOnly,
    /// UD SEND with immediate data.
    UdSendOnlyImm,
    /// Congestion notification packet.
    Cnp,
    /// Anything else. Its extended headers are not known: they stay in the payload.
    Unknown(u8),
}

/// Reserved bytes that follow the BTH of a congestion notification, zero from who is right (IBTA annex A17.9).
pub const CNP_LEN: usize = 16;

impl Opcode {
    /// From the wire byte.
    #[must_use]
    pub const fn from_u8(v: u8) -> Self {
        match v {
            0x00 => Self::SendFirst,
            0x01 => Self::SendMiddle,
            0x02 => Self::SendLast,
            0x03 => Self::SendLastImm,
            0x04 => Self::SendOnly,
            0x05 => Self::SendOnlyImm,
            0x06 => Self::WriteFirst,
            0x07 => Self::WriteMiddle,
            0x08 => Self::WriteLast,
            0x09 => Self::WriteLastImm,
            0x0a => Self::WriteOnly,
            0x0b => Self::WriteOnlyImm,
            0x0c => Self::ReadRequest,
            0x0d => Self::ReadResponseFirst,
            0x0e => Self::ReadResponseMiddle,
            0x0f => Self::ReadResponseLast,
            0x10 => Self::ReadResponseOnly,
            0x11 => Self::Acknowledge,
            0x12 => Self::AtomicAcknowledge,
            0x13 => Self::CompareSwap,
            0x14 => Self::FetchAdd,
            0x16 => Self::SendLastInvalidate,
            0x17 => Self::SendOnlyInvalidate,
            0x64 => Self::UdSendOnly,
            0x65 => Self::UdSendOnlyImm,
            0x81 => Self::Cnp,
            other => Self::Unknown(other),
        }
    }

    /// The wire byte.
    #[must_use]
    pub const fn to_u8(self) -> u8 {
        match self {
            Self::SendFirst => 0x00,
            Self::SendMiddle => 0x01,
            Self::SendLast => 0x02,
            Self::SendLastImm => 0x03,
            Self::SendOnly => 0x04,
            Self::SendOnlyImm => 0x05,
            Self::WriteFirst => 0x06,
            Self::WriteMiddle => 0x07,
            Self::WriteLast => 0x08,
            Self::WriteLastImm => 0x09,
            Self::WriteOnly => 0x0a,
            Self::WriteOnlyImm => 0x0b,
            Self::ReadRequest => 0x0c,
            Self::ReadResponseFirst => 0x0d,
            Self::ReadResponseMiddle => 0x0e,
            Self::ReadResponseLast => 0x0f,
            Self::ReadResponseOnly => 0x10,
            Self::Acknowledge => 0x11,
            Self::AtomicAcknowledge => 0x12,
            Self::CompareSwap => 0x13,
            Self::FetchAdd => 0x14,
            Self::SendLastInvalidate => 0x16,
            Self::SendOnlyInvalidate => 0x17,
            Self::UdSendOnly => 0x64,
            Self::UdSendOnlyImm => 0x65,
            Self::Cnp => 0x81,
            Self::Unknown(other) => other,
        }
    }

    /// RC packet that a requester sends.
    #[must_use]
    pub const fn is_rc_request(self) -> bool {
        matches!(self.to_u8(), 0x00..=0x0c | 0x13 | 0x14 | 0x16 | 0x17)
    }

    /// RC packet that a responder sends.
    #[must_use]
    pub const fn is_rc_response(self) -> bool {
        matches!(self.to_u8(), 0x0d..=0x12)
    }

    /// UD packet.
    #[must_use]
    pub const fn is_ud(self) -> bool {
        matches!(self, Self::UdSendOnly | Self::UdSendOnlyImm)
    }

    /// Atomic request.
    #[must_use]
    pub const fn is_atomic(self) -> bool {
        matches!(self, Self::CompareSwap | Self::FetchAdd)
    }

    /// READ response of any kind.
    #[must_use]
    pub const fn is_read_response(self) -> bool {
        matches!(self.to_u8(), 0x0d..=0x10)
    }

    /// First packet of several.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(
            self,
            Self::SendFirst | Self::WriteFirst | Self::ReadResponseFirst
        )
    }

    /// Neither first nor last of several.
    #[must_use]
    pub const fn is_middle(self) -> bool {
        matches!(
            self,
            Self::SendMiddle | Self::WriteMiddle | Self::ReadResponseMiddle
        )
    }

    /// Last packet of several.
    #[must_use]
    pub const fn is_last(self) -> bool {
        matches!(
            self,
            Self::SendLast
                | Self::SendLastImm
                | Self::SendLastInvalidate
                | Self::WriteLast
                | Self::WriteLastImm
                | Self::ReadResponseLast
        )
    }

    /// Whether payload may follow the headers.
    #[must_use]
    pub const fn has_payload(self) -> bool {
        !matches!(
            self,
            Self::ReadRequest | Self::Acknowledge | Self::AtomicAcknowledge
        ) && !self.is_atomic()
    }

    /// Whether a DETH follows.
    #[must_use]
    pub const fn has_deth(self) -> bool {
        self.is_ud()
    }

    /// Whether a RETH follows.
    #[must_use]
    pub const fn has_reth(self) -> bool {
        matches!(
            self,
            Self::WriteFirst | Self::WriteOnly | Self::WriteOnlyImm | Self::ReadRequest
        )
    }

    /// Whether an AtomicETH follows.
    #[must_use]
    pub const fn has_atomic_eth(self) -> bool {
        self.is_atomic()
    }

    /// Whether an AETH follows.
    #[must_use]
    pub const fn has_aeth(self) -> bool {
        matches!(
            self,
            Self::ReadResponseFirst
                | Self::ReadResponseLast
                | Self::ReadResponseOnly
                | Self::Acknowledge
                | Self::AtomicAcknowledge
        )
    }

    /// Whether an AtomicAckETH follows.
    #[must_use]
    pub const fn has_atomic_ack_eth(self) -> bool {
        matches!(self, Self::AtomicAcknowledge)
    }

    /// Whether immediate data follows.
    #[must_use]
    pub const fn has_immediate(self) -> bool {
        matches!(
            self,
            Self::SendLastImm
                | Self::SendOnlyImm
                | Self::WriteLastImm
                | Self::WriteOnlyImm
                | Self::UdSendOnlyImm
        )
    }

    /// Whether an IETH follows.
    #[must_use]
    pub const fn has_ieth(self) -> bool {
        matches!(self, Self::SendLastInvalidate | Self::SendOnlyInvalidate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_maps_back() {
        for v in 0..=255 {
            assert_eq!(Opcode::from_u8(v).to_u8(), v);
        }
    }

    #[test]
    fn an_rc_opcode_is_a_request_or_a_response_and_has_one_position_at_most() {
        for v in 0..=0x1f {
            let op = Opcode::from_u8(v);
            let known = !matches!(op, Opcode::Unknown(_));
            assert_eq!(known, op.is_rc_request() ^ op.is_rc_response(), "{op:?}");
            let positions = [op.is_first(), op.is_middle(), op.is_last()];
            assert!(positions.iter().filter(|p| **p).count() <= usize::from(known));
        }
    }
}
