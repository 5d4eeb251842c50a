//! The extended headers between BTH and payload.

use super::{Aeth, AtomicAckEth, AtomicEth, Deth, Error, Ieth, Immediate, Opcode, Reth};
use arrayvec::ArrayVec;

/// The extended headers of a packet; which are present is decided by the opcode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtHeaders {
    /// Datagram header.
    pub deth: Option<Deth>,
    /// RDMA header.
    pub reth: Option<Reth>,
    /// Atomic operands.
    pub atomic: Option<AtomicEth>,
    /// Acknowledgement.
    pub aeth: Option<Aeth>,
    /// Atomic result.
    pub atomic_ack: Option<AtomicAckEth>,
    /// Immediate data.
    pub immediate: Option<Immediate>,
    /// Key to invalidate.
    pub ieth: Option<Ieth>,
}

impl ExtHeaders {
    /// The longest legal combination, bytes (AtomicETH; WRITE with immediate and ATOMIC ACK are shorter).
    pub const MAX_LEN: usize = AtomicEth::LEN;

    /// No extended header.
    pub const NONE: Self = Self {
        deth: None,
        reth: None,
        atomic: None,
        aeth: None,
        atomic_ack: None,
        immediate: None,
        ieth: None,
    };

    /// Reads the headers that `opcode` has; also gives what follows them. An unknown opcode has none.
    pub fn parse(opcode: Opcode, bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let mut ext = Self::NONE;
        let mut rest = bytes;
        // The order is that of the wire.
        if opcode.has_deth() {
            let (h, r) = Deth::parse(rest)?;
            (ext.deth, rest) = (Some(h), r);
        }
        if opcode.has_reth() {
            let (h, r) = Reth::parse(rest)?;
            (ext.reth, rest) = (Some(h), r);
        }
        if opcode.has_atomic_eth() {
            let (h, r) = AtomicEth::parse(rest)?;
            (ext.atomic, rest) = (Some(h), r);
        }
        if opcode.has_aeth() {
            let (h, r) = Aeth::parse(rest)?;
            (ext.aeth, rest) = (Some(h), r);
        }
        if opcode.has_atomic_ack_eth() {
            let (h, r) = AtomicAckEth::parse(rest)?;
            (ext.atomic_ack, rest) = (Some(h), r);
        }
        if opcode.has_immediate() {
            let (h, r) = Immediate::parse(rest)?;
            (ext.immediate, rest) = (Some(h), r);
        }
        if opcode.has_ieth() {
            let (h, r) = Ieth::parse(rest)?;
            (ext.ieth, rest) = (Some(h), r);
        }
        Ok((ext, rest))
    }

    /// Whether exactly the headers of `opcode` are present.
    #[must_use]
    pub const fn fits(&self, opcode: Opcode) -> bool {
        self.deth.is_some() == opcode.has_deth()
            && self.reth.is_some() == opcode.has_reth()
            && self.atomic.is_some() == opcode.has_atomic_eth()
            && self.aeth.is_some() == opcode.has_aeth()
            && self.atomic_ack.is_some() == opcode.has_atomic_ack_eth()
            && self.immediate.is_some() == opcode.has_immediate()
            && self.ieth.is_some() == opcode.has_ieth()
    }

    /// The wire bytes.
    ///
    /// # Errors
    /// `HeaderMismatch` when the headers present are not those of the opcode.
    pub fn emit(&self, opcode: Opcode) -> Result<ArrayVec<u8, { Self::MAX_LEN }>, Error> {
        if !self.fits(opcode) {
            return Err(Error::HeaderMismatch);
        }
        let mut out = ArrayVec::new();
        let mut put = |bytes: &[u8]| out.try_extend_from_slice(bytes).map_err(|_| Error::TooLong);
        if let Some(h) = self.deth {
            put(&h.emit())?;
        }
        if let Some(h) = self.reth {
            put(&h.emit())?;
        }
        if let Some(h) = self.atomic {
            put(&h.emit())?;
        }
        if let Some(h) = self.aeth {
            put(&h.emit())?;
        }
        if let Some(h) = self.atomic_ack {
            put(&h.emit())?;
        }
        if let Some(h) = self.immediate {
            put(&h.emit())?;
        }
        if let Some(h) = self.ieth {
            put(&h.emit())?;
        }
        Ok(out)
    }
}
