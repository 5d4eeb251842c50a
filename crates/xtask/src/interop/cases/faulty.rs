//! A wire on which things go wrong, and what shows that they did.

use super::super::guest::Guest;
use super::Faults;
use anyhow::{Context, Result, ensure};

/// What the wire does to frames, in both directions, by its seed.
pub const WIRE: &[&str] = &["--loss", "0.01", "--reorder", "0.01", "--duplicate", "0.01"];

/// Counters of rdma_rxe that move only when packets were lost, late or doubled.
const COUNTERS: [&str; 4] = [
    "duplicate_request",
    "out_of_seq_request",
    "rcvd_seq_err",
    "completer_retry_err",
];

/// rdma_rxe's counters before the run.
pub struct Before([u64; COUNTERS.len()]);

fn counters(guest: &mut Guest) -> Result<[u64; COUNTERS.len()]> {
    let mut values = [0; COUNTERS.len()];
    for (value, name) in values.iter_mut().zip(COUNTERS) {
        *value = guest.counter(&format!("hw_counters/{name}"))?;
    }
    Ok(values)
}

impl Before {
    /// Reads them.
    pub fn read(guest: &mut Guest) -> Result<Before> {
        counters(guest).map(Before)
    }

    /// Checks that the wire did its worst in both directions, that Linux sent again and counted, and that vroce did if it had more than
    /// acknowledgements to send; of a case of few frames, that something happened to them. Returns the figures for the table.
    pub fn judge(&self, guest: &mut Guest, wire: &Tolls, faults: Faults) -> Result<String> {
        let Tolls { to_linux, to_vroce } = wire;
        let after = counters(guest)?;
        let moved: Vec<String> = COUNTERS
            .iter()
            .zip(after.iter().zip(self.0))
            .filter(|(_, (after, before))| **after > *before)
            .map(|(name, (after, before))| format!("{name} {}", after - before))
            .collect();
        wire.check(faults)?;
        ensure!(
            !moved.is_empty() || faults == Faults::Few,
            "rdma_rxe counted nothing: {COUNTERS:?} stayed {after:?}"
        );
        Ok(format!(
            "lost {}+{} of {}+{}, sent again {} by vroce, {} by Linux; rxe: {}",
            to_linux.lost,
            to_vroce.lost,
            to_linux.frames,
            to_vroce.frames,
            to_linux.repeated(),
            to_vroce.repeated(),
            moved.join(", ")
        ))
    }
}

/// What vroce-lab tells about its wire.
pub struct Tolls {
    to_linux: Toll,
    to_vroce: Toll,
}

impl Tolls {
    /// From all that it says.
    pub fn parse(text: &str) -> Result<Tolls> {
        Ok(Tolls {
            to_linux: Toll::parse(text, "to peer: ")?,
            to_vroce: Toll::parse(text, "to vroce: ")?,
        })
    }

    /// Checks that as much went wrong, and was sent again, as `faults` says.
    fn check(&self, faults: Faults) -> Result<()> {
        for (toll, towards) in [(&self.to_linux, "Linux"), (&self.to_vroce, "vroce")] {
            let each = [toll.lost, toll.reordered, toll.duplicated];
            let bad = if faults == Faults::Few {
                each != [0; 3]
            } else {
                !each.contains(&0)
            };
            ensure!(bad, "the wire to {towards} was too good: {toll:?}");
        }
        ensure!(
            self.to_linux.repeated() > 0 || faults != Faults::Both,
            "vroce sent nothing again: {:?}",
            self.to_linux
        );
        ensure!(
            self.to_vroce.repeated() > 0 || faults == Faults::Few,
            "Linux sent nothing again: {:?}",
            self.to_vroce
        );
        Ok(())
    }

    /// Checks that no packet was longer than the path MTU permits.
    pub fn check_mtu(&self, mtu: u64) -> Result<()> {
        for toll in [&self.to_linux, &self.to_vroce] {
            ensure!(
                toll.longest <= mtu,
                "{} bytes of payload on a path with an MTU of {mtu}",
                toll.longest
            );
        }
        Ok(())
    }
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Toll {
    frames: u64,
    /// Bytes of payload in the longest packet of a reliable connection.
    longest: u64,
    lost: u64,
    reordered: u64,
    duplicated: u64,
    repeated_requests: u64,
    repeated_responses: u64,
}

impl Toll {
    fn parse(text: &str, start: &str) -> Result<Toll> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(start))
            .with_context(|| format!("vroce does not say what happened {start}\n{text}"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = |name: &str| {
            words
                .windows(2)
                .find(|pair| pair[0] == name)
                .and_then(|pair| pair[1].parse().ok())
                .with_context(|| format!("no {name} in: {line}"))
        };
        Ok(Toll {
            frames: figure("frames")?,
            longest: figure("longest")?,
            lost: figure("lost")?,
            reordered: figure("reordered")?,
            duplicated: figure("duplicated")?,
            repeated_requests: figure("repeated-requests")?,
            repeated_responses: figure("repeated-responses")?,
        })
    }

    fn repeated(&self) -> u64 {
        self.repeated_requests + self.repeated_responses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "to peer: frames 1600 longest 4096 lost 9 reordered 8 duplicated 7 requests 99 repeated-requests 3 repeated-responses 4";

    #[test]
    fn a_toll_is_read_from_its_line() {
        let text = format!("verified 5\n{LINE}\n{}\n", LINE.replace("peer", "vroce"));
        let tolls = Tolls::parse(&text).unwrap();
        assert_eq!(tolls.to_linux.repeated(), 7);
        assert_eq!(tolls.to_linux, tolls.to_vroce);
        assert!(tolls.check_mtu(4096).is_ok());
        assert!(tolls.check_mtu(1024).is_err());
        assert!(Tolls::parse(LINE).is_err());
        assert!(Tolls::parse(&text.replace("longest", "short")).is_err());
    }

    #[test]
    fn a_wire_must_be_as_bad_as_a_case_demands() {
        let good = Toll::parse(LINE, "to peer: ").unwrap();
        let judged = |change: fn(&mut Tolls), faults| {
            let mut tolls = Tolls {
                to_linux: good,
                to_vroce: good,
            };
            change(&mut tolls);
            tolls.check(faults).is_ok()
        };
        let all = |change| [Faults::Both, Faults::ToVroce, Faults::Few].map(|f| judged(change, f));
        assert_eq!(all(|_| {}), [true, true, true]);
        for spared in [
            |t: &mut Tolls| t.to_linux.lost = 0,
            |t: &mut Tolls| t.to_vroce.lost = 0,
            |t: &mut Tolls| t.to_linux.reordered = 0,
            |t: &mut Tolls| t.to_vroce.duplicated = 0,
        ] {
            assert_eq!(all(spared), [false, false, true]);
        }
        let vroce_silent = |t: &mut Tolls| {
            (t.to_linux.repeated_requests, t.to_linux.repeated_responses) = (0, 0);
        };
        assert_eq!(all(vroce_silent), [false, true, true]);
        let linux_silent = |t: &mut Tolls| {
            (t.to_vroce.repeated_requests, t.to_vroce.repeated_responses) = (0, 0);
        };
        assert_eq!(all(linux_silent), [false, false, true]);
        let nothing = |t: &mut Tolls| {
            (t.to_vroce.lost, t.to_vroce.reordered, t.to_vroce.duplicated) = (0, 0, 0);
        };
        assert_eq!(all(nothing), [false, false, false]);
    }
}
