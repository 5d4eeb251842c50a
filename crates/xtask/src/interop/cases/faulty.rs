//! A wire on which things go wrong, and what shows that they did.

use super::super::guest::Guest;
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

    /// Checks that the wire did its worst in both directions, that Linux sent again and counted, and that vroce did if it had
    /// `more_than_acknowledgements` to send. Returns the figures for the table.
    pub fn judge(
        &self,
        guest: &mut Guest,
        ours: &str,
        more_than_acknowledgements: bool,
    ) -> Result<String> {
        let [to_linux, to_vroce] = ["to peer: ", "to vroce: "].map(|name| Toll::parse(ours, name));
        let (to_linux, to_vroce) = (to_linux?, to_vroce?);
        for (toll, towards) in [(&to_linux, "Linux"), (&to_vroce, "vroce")] {
            ensure!(
                toll.lost > 0 && toll.reordered > 0 && toll.duplicated > 0,
                "the wire to {towards} was too good: {toll:?}"
            );
        }
        ensure!(
            to_linux.repeated() > 0 || !more_than_acknowledgements,
            "vroce sent nothing again: {to_linux:?}"
        );
        ensure!(
            to_vroce.repeated() > 0,
            "Linux sent nothing again: {to_vroce:?}"
        );
        let after = counters(guest)?;
        let moved: Vec<String> = COUNTERS
            .iter()
            .zip(after.iter().zip(self.0))
            .filter(|(_, (after, before))| **after > *before)
            .map(|(name, (after, before))| format!("{name} {}", after - before))
            .collect();
        ensure!(
            !moved.is_empty(),
            "rdma_rxe counted nothing: {COUNTERS:?} stayed {after:?}"
        );
        Ok(format!(
            "lost {}+{}, sent again {} by vroce, {} by Linux; rxe: {}",
            to_linux.lost,
            to_vroce.lost,
            to_linux.repeated(),
            to_vroce.repeated(),
            moved.join(", ")
        ))
    }
}

/// What vroce-lab tells about one direction of its wire.
#[derive(Debug, PartialEq, Eq)]
struct Toll {
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
