//! What the pingpong programs of libibverbs tell each other over TCP: one line for each queue pair, from either side.

use anyhow::{Context, Result, ensure};
use roce::Psn;
use std::net::{IpAddr, Ipv6Addr};

/// Their port.
pub const PORT: u16 = 18515;

/// Lines of `ibv_srq_pingpong`: as many as it could have queue pairs. Those that it has come first.
pub const SHARED_LINES: usize = 256;

/// What the client says last, when its queue pairs are ready.
pub const DONE: &[u8] = b"done\0";

/// A queue pair, as its owner describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number.
    pub qpn: u32,
    /// The first PSN that it sends.
    pub psn: Psn,
    /// Its address: the GID, which for IPv4 is the address mapped to IPv6.
    pub address: IpAddr,
}

impl Line {
    /// Bytes of a line, with the zero at its end.
    pub const LEN: usize = 52;

    /// A line of no queue pair.
    pub const NONE: Line = Line {
        qpn: 0,
        psn: Psn::ZERO,
        address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };

    /// LID (there is none), number, PSN and GID in hex, with colons in between and a zero behind.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let gid = match self.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let text = format!(
            "{:04x}:{:06x}:{:06x}:{:032x}",
            0,
            self.qpn,
            self.psn.get(),
            gid.to_bits()
        );
        let mut bytes = [0; Self::LEN];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes
    }

    /// The other way round.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Line> {
        let text = std::str::from_utf8(bytes).context("a line that is no text")?;
        let text = text.strip_suffix('\0').context("a line without end")?;
        let fields: Vec<&str> = text.split(':').collect();
        let [lid, qpn, psn, gid] = fields[..] else {
            anyhow::bail!("not four fields: {text:?}");
        };
        ensure!(
            [lid.len(), qpn.len(), psn.len(), gid.len()] == [4, 6, 6, 32],
            "fields of other lengths: {text:?}"
        );
        let number = |hex: &str| u32::from_str_radix(hex, 16).with_context(|| text.to_owned());
        let gid = u128::from_str_radix(gid, 16).with_context(|| text.to_owned())?;
        Ok(Line {
            qpn: number(qpn)?,
            psn: Psn::new(number(psn)?),
            address: Ipv6Addr::from_bits(gid).to_canonical(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_the_programs_write_it() {
        let line = Line {
            qpn: 0x11,
            psn: Psn::new(0x007A_BCDE),
            address: [10, 0, 0, 2].into(),
        };
        let bytes = *b"0000:000011:7abcde:00000000000000000000ffff0a000002\0";
        assert_eq!(line.to_bytes(), bytes);
        assert_eq!(Line::from_bytes(&bytes).unwrap(), line);
        let v6 = Line {
            address: "fd00::2".parse().unwrap(),
            ..line
        };
        assert_eq!(Line::from_bytes(&v6.to_bytes()).unwrap(), v6);
    }

    #[test]
    fn other_lines_are_refused() {
        for bad in [
            b"0000:000011:7abcde:00000000000000000000ffff0a000002 ",
            b"0000:000011:7abcde:00000000000000000000ffff0a00000g\0",
            b"0000:00001:17abcde:00000000000000000000ffff0a000002\0",
            b"0000:000011:7abcde 00000000000000000000ffff0a000002\0",
        ] {
            assert!(Line::from_bytes(bad).is_err());
        }
    }
}
