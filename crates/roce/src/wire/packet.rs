//! A whole RoCEv2 frame, parsed.

use super::{Bth, EcnCodepoint, Error, Ethernet, ExtHeaders, Icrc, Ip, Udp, icrc, udp};

/// A RoCEv2 frame. All lengths were checked when it was parsed; the ICRC is checked by [`Packet::verify_icrc`].
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Ethernet header.
    pub eth: Ethernet,
    /// IP header.
    pub ip: Ip,
    /// UDP header.
    pub udp: Udp,
    /// Base transport header.
    pub bth: Bth,
    /// Extended headers, those of `bth.opcode`.
    pub ext: ExtHeaders,
    /// Payload without pad.
    pub payload: &'a [u8],
    /// Pad bytes, `bth.pad` of them. Zero if the sender is right; the ICRC covers them either way.
    pub pad: &'a [u8],
    /// ICRC as received.
    pub icrc: [u8; icrc::LEN],
    /// From the IP header to the end of the pad.
    covered: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Parses an Ethernet frame (without FCS). Trailing Ethernet padding is ignored.
    ///
    /// # Errors
    /// `NotRoce` for frames that the LAN path should have; anything else is a RoCEv2 frame to be dropped.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Error> {
        // Until the UDP port is known, a frame that makes no sense is not ours to judge.
        let not_ours = |_| Error::NotRoce;
        let (eth, l3) = Ethernet::parse(frame).map_err(not_ours)?;
        let (ip, l4) = Ip::parse(&eth, l3).map_err(not_ours)?;
        if !ip.is_udp() {
            return Err(Error::NotRoce);
        }
        let (udp, rest) = Udp::parse(l4).map_err(not_ours)?;
        if udp.dst_port != udp::ROCE_PORT {
            return Err(Error::NotRoce);
        }
        let ib_len = usize::from(udp.length)
            .checked_sub(Udp::LEN)
            .ok_or(Error::BadLength)?;
        let ib = rest.get(..ib_len).ok_or(Error::Truncated)?;
        let (body, icrc) = ib.split_last_chunk().ok_or(Error::BadLength)?;
        let (bth, rest) = Bth::parse(body).map_err(|_| Error::BadLength)?;
        if bth.tver != 0 {
            return Err(Error::TransportVersion);
        }
        if bth.dest_qpn == 0 {
            return Err(Error::ZeroQpn);
        }
        let (ext, rest) = ExtHeaders::parse(bth.opcode, rest).map_err(|_| Error::BadLength)?;
        // The pad fills the last word, neither less nor more.
        if !rest.len().is_multiple_of(4) {
            return Err(Error::BadLength);
        }
        let payload_len = rest
            .len()
            .checked_sub(usize::from(bth.pad))
            .ok_or(Error::BadLength)?;
        if payload_len > 0 && !bth.opcode.has_payload() {
            return Err(Error::BadLength);
        }
        let (payload, pad) = rest.split_at_checked(payload_len).ok_or(Error::BadLength)?;
        let covered_len = ip
            .header_len()
            .saturating_add(Udp::LEN)
            .saturating_add(body.len());
        let covered = l3.get(..covered_len).ok_or(Error::Truncated)?;
        Ok(Self {
            eth,
            ip,
            udp,
            bth,
            ext,
            payload,
            pad,
            icrc: *icrc,
            covered,
        })
    }

    /// Whether the network reports congestion.
    #[must_use]
    pub const fn ecn(&self) -> EcnCodepoint {
        self.ip.ecn()
    }

    /// Computes the ICRC and compares it with the received one.
    ///
    /// # Errors
    /// `Icrc` when they differ.
    pub fn verify_icrc(&self) -> Result<(), Error> {
        self.compare_icrc(Icrc::start(self.covered)?)
    }

    /// The ICRC as far as it covers what precedes the payload. For who reads the payload anyway:
    /// [`verify_icrc_from`](Self::verify_icrc_from) goes on behind it.
    ///
    /// # Errors
    /// None that parsing has not found.
    pub fn start_icrc(&self) -> Result<Icrc, Error> {
        let headers = self.split_covered(0).ok_or(Error::Truncated)?.0;
        Icrc::start(headers)
    }

    /// [`verify_icrc`](Self::verify_icrc) for who has run the [started](Self::start_icrc) ICRC over the first `done` bytes of the payload.
    ///
    /// # Errors
    /// `Icrc` when they differ, `Truncated` if the payload has not so many bytes.
    pub fn verify_icrc_from(&self, mut icrc: Icrc, done: usize) -> Result<(), Error> {
        let rest = self.split_covered(done).ok_or(Error::Truncated)?.1;
        icrc.update(rest);
        self.compare_icrc(icrc)
    }

    /// What the ICRC covers, cut behind the first `done` bytes of the payload.
    fn split_covered(&self, done: usize) -> Option<(&'a [u8], &'a [u8])> {
        let behind = self
            .payload
            .len()
            .checked_sub(done)?
            .checked_add(self.pad.len())?;
        self.covered
            .split_at_checked(self.covered.len().checked_sub(behind)?)
    }

    fn compare_icrc(&self, icrc: Icrc) -> Result<(), Error> {
        if icrc.finish() == self.icrc {
            Ok(())
        } else {
            Err(Error::Icrc)
        }
    }
}
