//! A wire on which things go wrong, and what shows on Linux's side that they did.

use super::super::guest::Guest;
use super::Faults;
use anyhow::{Result, ensure};

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

    /// Checks that Linux noticed what happened to the wire, unless that was little; returns its figures for the table.
    pub fn judge(&self, guest: &mut Guest, faults: Faults) -> Result<String> {
        let after = counters(guest)?;
        let moved: Vec<String> = COUNTERS
            .iter()
            .zip(after.iter().zip(self.0))
            .filter(|(_, (after, before))| **after > *before)
            .map(|(name, (after, before))| format!("{name} {}", after - before))
            .collect();
        ensure!(
            !moved.is_empty() || faults == Faults::Few,
            "rdma_rxe counted nothing: {COUNTERS:?} stayed {after:?}"
        );
        Ok(moved.join(", "))
    }
}
