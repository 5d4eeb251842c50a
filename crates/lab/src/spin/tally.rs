//! What a walk has done, in numbers.

use super::slot::Slot;
use crate::status;
use ndkpi::NTSTATUS;
use ndkpi::status::{STATUS_PENDING, STATUS_SUCCESS};
use std::collections::BTreeMap;
use std::fmt;

/// Counts of a walk.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls by slot and status; None for functions that return none.
    pub calls: BTreeMap<(Slot, Option<NTSTATUS>), u64>,
    /// Callbacks by what they told, with their status.
    pub callbacks: BTreeMap<(&'static str, Option<NTSTATUS>), u64>,
    /// Results of requests by status.
    pub results: BTreeMap<NTSTATUS, u64>,
    /// Calls from inside a callback.
    pub nested: u64,
    /// Calls on another processor, in the middle of things.
    pub elsewhere: u64,
    /// Functions of the kernel that failed as asked for.
    pub failed: BTreeMap<&'static str, u64>,
    /// What happened to machines and wires.
    pub upheavals: BTreeMap<&'static str, u64>,
    /// Epochs.
    pub epochs: u64,
    /// Machines that were started.
    pub machines: u64,
    /// Connections that both ends had.
    pub connections: u64,
    /// Transfers whose bytes were compared with what was sent, read or written, and how many bytes.
    pub transfers: u64,
    /// See [`transfers`](Self::transfers).
    pub bytes: u64,
    /// Epochs in which the consumers were careless.
    pub careless: u64,
    /// Rules that they broke then.
    pub pardoned: BTreeMap<&'static str, u64>,
    total: u64,
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    *counts.entry(key).or_default() += 1;
}

impl Tally {
    /// Calls of dispatch functions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Slots that were never called.
    #[must_use]
    pub fn untouched(&self) -> Vec<Slot> {
        let called = |slot: Slot| self.calls.keys().any(|(called, _)| *called == slot);
        Slot::ALL.iter().copied().filter(|s| !called(*s)).collect()
    }

    /// How many calls of such slots succeeded, pended and were refused. A function without a status succeeds.
    #[must_use]
    pub fn answers(&self, which: impl Fn(Slot) -> bool) -> [u64; 3] {
        let mut answers = [0; 3];
        for ((slot, status), count) in &self.calls {
            if which(*slot) {
                answers[kind(*status)] += count;
            }
        }
        answers
    }

    pub(super) fn call(&mut self, slot: Slot, status: Option<NTSTATUS>) {
        self.total += 1;
        add(&mut self.calls, (slot, status));
    }

    pub(super) fn callback(&mut self, what: &'static str, status: Option<NTSTATUS>) {
        add(&mut self.callbacks, (what, status));
    }

    pub(super) fn result(&mut self, status: NTSTATUS) {
        add(&mut self.results, status);
    }

    pub(super) fn checked(&mut self, bytes: usize) {
        self.transfers += 1;
        self.bytes += bytes as u64;
    }

    pub(super) fn pardoned(&mut self, rule: &'static str, times: u64) {
        if times > 0 {
            *self.pardoned.entry(rule).or_default() += times;
        }
    }

    pub(super) fn failed(&mut self, function: &'static str) {
        add(&mut self.failed, function);
    }

    pub(super) fn upheaval(&mut self, what: &'static str) {
        add(&mut self.upheavals, what);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: Tally) {
        fn sum<K: Ord>(into: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, count) in from {
                *into.entry(key).or_default() += count;
            }
        }
        sum(&mut self.calls, other.calls);
        sum(&mut self.callbacks, other.callbacks);
        sum(&mut self.results, other.results);
        sum(&mut self.failed, other.failed);
        sum(&mut self.upheavals, other.upheavals);
        self.nested += other.nested;
        self.elsewhere += other.elsewhere;
        self.epochs += other.epochs;
        self.machines += other.machines;
        self.connections += other.connections;
        self.transfers += other.transfers;
        self.bytes += other.bytes;
        self.careless += other.careless;
        sum(&mut self.pardoned, other.pardoned);
        self.total += other.total;
    }
}

/// Index among [`Tally::answers`].
const REFUSED: usize = 2;

fn kind(status: Option<NTSTATUS>) -> usize {
    match status {
        None | Some(STATUS_SUCCESS) => 0,
        Some(STATUS_PENDING) => 1,
        Some(_) => REFUSED,
    }
}

fn short(status: Option<NTSTATUS>) -> String {
    let Some(status) = status else {
        return "-".to_owned();
    };
    let name = status::name(status);
    let name = name.split(' ').next().unwrap_or_default();
    name.strip_prefix("STATUS_").unwrap_or(name).to_owned()
}

fn list<'a, K: 'a>(
    counts: impl Iterator<Item = (&'a K, &'a u64)>,
    name: impl Fn(&K) -> String,
) -> String {
    let parts: Vec<_> = counts.map(|(k, n)| format!("{} {n}", name(k))).collect();
    parts.join(", ")
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [done, pended, refused] = self.answers(|_| true);
        writeln!(
            f,
            "{:<46} {:>10} {:>10} {:>10} {:>10}  why",
            "", "calls", "succeeded", "pended", "refused"
        )?;
        writeln!(
            f,
            "{:<46} {:>10} {done:>10} {pended:>10} {refused:>10}",
            "functions", self.total
        )?;
        for slot in Slot::ALL {
            let (table, name) = slot.name();
            let [done, pended, refused] = self.answers(|called| called == *slot);
            let is_refusal = |status: Option<NTSTATUS>| kind(status) == REFUSED;
            let why = self
                .calls
                .iter()
                .filter(|((s, status), _)| s == slot && is_refusal(*status));
            let why = list(why, |(_, status)| short(*status));
            let line = format!(
                "  {:<44} {:>10} {done:>10} {pended:>10} {refused:>10}  {why}",
                format!("{table} {name}"),
                done + pended + refused
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        let [done, _, refused] = self.answers(|slot| Slot::INITIATOR.contains(&slot));
        writeln!(
            f,
            "{:<46} {:>10} {done:>10} {:>10} {refused:>10}  {:.0} % succeeded",
            "requests to initiator queues",
            done + refused,
            0,
            100.0 * done as f64 / (done + refused).max(1) as f64
        )?;
        let told: u64 = self.callbacks.values().sum();
        writeln!(
            f,
            "{:<46} {told:>10}  {} calls were made from inside of them",
            "callbacks", self.nested
        )?;
        let mut names: Vec<_> = self.callbacks.keys().map(|(what, _)| *what).collect();
        names.dedup();
        for name in names {
            let own = || self.callbacks.iter().filter(|((what, _), _)| *what == name);
            let count: u64 = own().map(|(_, n)| n).sum();
            let statuses = list(own(), |(_, status)| short(*status));
            writeln!(f, "  {name:<44} {count:>10}  {statuses}")?;
        }
        let rows = [
            (
                "results of requests",
                self.results.values().sum(),
                list(self.results.iter(), |status| short(Some(*status))),
            ),
            (
                "connections",
                self.connections,
                "established as far as the consumers know, by end".to_owned(),
            ),
            (
                "transfers whose bytes were compared",
                self.transfers,
                format!("{} bytes", self.bytes),
            ),
            (
                "rules broken on purpose",
                self.pardoned.values().sum(),
                format!(
                    "in {} of {} epochs, which pardon that: {}",
                    self.careless,
                    self.epochs,
                    list(self.pardoned.iter(), |rule| (*rule).to_owned())
                ),
            ),
            (
                "calls on another processor",
                self.elsewhere,
                "in the middle of things".to_owned(),
            ),
            (
                "allocation failures",
                self.failed.values().sum(),
                list(self.failed.iter(), |name| (*name).to_owned()),
            ),
            (
                "machines",
                self.machines,
                format!(
                    "in {} epochs; {}",
                    self.epochs,
                    list(self.upheavals.iter(), |name| (*name).to_owned())
                ),
            ),
        ];
        for (name, count, detail) in rows {
            writeln!(f, "{name:<46} {count:>10}  {detail}")?;
        }
        Ok(())
    }
}
