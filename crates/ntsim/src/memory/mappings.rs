//! How many mappings machines have. The system allows a process so many in all (`vm.max_map_count`), and what needs one more fails: as many worlds
//! may live in a process as it has threads for tests, and pages that may be accessed otherwise than those beside them are a mapping of their own.
//!
//! Guards are left out when there are too many; what cannot be left out is counted all the same.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What Linux allows if it was not told otherwise.
const USUAL: usize = 65_530;

/// What pages cost at most that are cut out of a mapping: their own, and what follows them.
pub(super) const CUT: usize = 2;

/// So many are had, by all machines.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// How many machines may have in this process before guards are left out: three in four, which leaves room for all else that threads and libraries
/// map.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let allowed = allowed.ok().and_then(|text| text.trim().parse().ok());
        allowed.unwrap_or(USUAL) / 4 * 3
    })
}

/// The mappings that a machine's memory has. They are given back when it goes.
#[derive(Default)]
pub(super) struct Mappings(Cell<usize>);

impl Mappings {
    /// Whether there may be more for guards.
    pub(super) fn may_be_more(&self) -> bool {
        HELD.load(Ordering::Relaxed) + CUT <= most()
    }

    /// Has so many more.
    pub(super) fn take(&self, count: usize) {
        HELD.fetch_add(count, Ordering::Relaxed);
        self.0.set(self.0.get() + count);
    }

    /// Gives back so many of those that were taken.
    pub(super) fn give(&self, count: usize) {
        self.0.set(self.0.get() - count);
        HELD.fetch_sub(count, Ordering::Relaxed);
    }

    /// Gives all back but so many.
    pub(super) fn give_all_but(&self, count: usize) {
        self.give(self.0.get() - count);
    }

    /// Has them stay had when the memory goes.
    pub(super) fn keep(&self) {
        self.0.set(0);
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        self.give_all_but(0);
    }
}
