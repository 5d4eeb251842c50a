//! Messages of the InfiniBand connection manager (IBTA 12.6): one file each.
//!
//! A message is parsed from, and built to, a whole MAD of 256 bytes. Private data has no length field: it is always the
//! whole area, zero-padded.

mod apr;
mod drep;
mod dreq;
mod lap;
mod mra;
mod rej;
mod rep;
mod req;
mod rtu;
mod sidr_rep;
mod sidr_req;

pub use apr::Apr;
pub use drep::Drep;
pub use dreq::Dreq;
pub use lap::Lap;
pub use mra::Mra;
pub use rej::{Rej, RejReason};
pub use rep::Rep;
pub use req::{Req, ReqPath, TransportService};
pub use rtu::Rtu;
pub use sidr_rep::SidrRep;
pub use sidr_req::SidrReq;

use super::mad::{self, Header};
use zerocopy::byteorder::network_endian::U32;

/// Which message a REJ or MRA answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// A REQ.
    Req,
    /// A REP.
    Rep,
    /// In a REJ: none, or another one; in an MRA: a LAP.
    Other,
    /// The fourth value of two bits.
    Reserved,
}

impl Answered {
    const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Req,
            1 => Self::Rep,
            2 => Self::Other,
            _ => Self::Reserved,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Req => 0,
            Self::Rep => 1,
            Self::Other => 2,
            Self::Reserved => 3,
        }
    }
}

/// Any message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Request for a connection.
    Req(Req),
    /// Message received, answer will take time.
    Mra(Mra),
    /// Rejection.
    Rej(Rej),
    /// Acceptance.
    Rep(Rep),
    /// Confirmation of an acceptance.
    Rtu(Rtu),
    /// Request to disconnect.
    Dreq(Dreq),
    /// Answer to that.
    Drep(Drep),
    /// Question for a datagram service.
    SidrReq(SidrReq),
    /// Answer to that.
    SidrRep(SidrRep),
    /// Request for another alternate path.
    Lap(Lap),
    /// Answer to that.
    Apr(Apr),
}

/// Why a MAD is no CM message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Another version, class or method.
    NotCm,
    /// Another attribute (ClassPortInfo, ...).
    Attribute(u16),
}

impl Message {
    /// Reads a MAD.
    pub fn parse(mad: &[u8; mad::LEN]) -> Result<(Header, Self), Error> {
        let (header, body) = Header::parse(mad);
        if !header.is_cm() {
            return Err(Error::NotCm);
        }
        let message = match header.attribute_id {
            Req::ATTRIBUTE => Self::Req(Req::parse(body)),
            Mra::ATTRIBUTE => Self::Mra(Mra::parse(body)),
            Rej::ATTRIBUTE => Self::Rej(Rej::parse(body)),
            Rep::ATTRIBUTE => Self::Rep(Rep::parse(body)),
            Rtu::ATTRIBUTE => Self::Rtu(Rtu::parse(body)),
            Dreq::ATTRIBUTE => Self::Dreq(Dreq::parse(body)),
            Drep::ATTRIBUTE => Self::Drep(Drep::parse(body)),
            SidrReq::ATTRIBUTE => Self::SidrReq(SidrReq::parse(body)),
            SidrRep::ATTRIBUTE => Self::SidrRep(SidrRep::parse(body)),
            Lap::ATTRIBUTE => Self::Lap(Lap::parse(body)),
            Apr::ATTRIBUTE => Self::Apr(Apr::parse(body)),
            other => return Err(Error::Attribute(other)),
        };
        Ok((header, message))
    }

    /// The attribute ID of the message.
    #[must_use]
    pub const fn attribute(&self) -> u16 {
        match self {
            Self::Req(_) => Req::ATTRIBUTE,
            Self::Mra(_) => Mra::ATTRIBUTE,
            Self::Rej(_) => Rej::ATTRIBUTE,
            Self::Rep(_) => Rep::ATTRIBUTE,
            Self::Rtu(_) => Rtu::ATTRIBUTE,
            Self::Dreq(_) => Dreq::ATTRIBUTE,
            Self::Drep(_) => Drep::ATTRIBUTE,
            Self::SidrReq(_) => SidrReq::ATTRIBUTE,
            Self::SidrRep(_) => SidrRep::ATTRIBUTE,
            Self::Lap(_) => Lap::ATTRIBUTE,
            Self::Apr(_) => Apr::ATTRIBUTE,
        }
    }

    /// The MAD of this message.
    #[must_use]
    pub fn emit(&self, transaction_id: u64) -> [u8; mad::LEN] {
        let body = match self {
            Self::Req(m) => m.emit(),
            Self::Mra(m) => m.emit(),
            Self::Rej(m) => m.emit(),
            Self::Rep(m) => m.emit(),
            Self::Rtu(m) => m.emit(),
            Self::Dreq(m) => m.emit(),
            Self::Drep(m) => m.emit(),
            Self::SidrReq(m) => m.emit(),
            Self::SidrRep(m) => m.emit(),
            Self::Lap(m) => m.emit(),
            Self::Apr(m) => m.emit(),
        };
        Header::cm(self.attribute(), transaction_id).emit(&body)
    }
}

/// `data` zero-padded to the size of a message's area; what does not fit is cut.
#[must_use]
pub fn private_data<const N: usize>(data: &[u8]) -> [u8; N] {
    let mut area = [0; N];
    for (to, from) in area.iter_mut().zip(data) {
        *to = *from;
    }
    area
}

/// A word of a 24-bit and an 8-bit field.
fn word24_8(high: u32, low: u8) -> U32 {
    U32::new(high << 8 | u32::from(low))
}

fn high24(word: U32) -> u32 {
    word.get() >> 8
}

fn low8(word: U32) -> u8 {
    // Eight bits by the mask.
    (word.get() & 0xff) as u8
}
