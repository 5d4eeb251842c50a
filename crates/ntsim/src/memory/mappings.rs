//! How many mappings special pool may have. The system allows a process so many in all (`vm.max_map_count`), and what needs one more fails: as
//! many worlds may live in a process as it has threads for tests, and a guard costs two mappings.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What Linux allows if it was not told otherwise.
const USUAL: usize = 65_530;

/// So many are had, by all machines.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// How many special pool may have in this process: three in four, which leaves room for all else that machines, threads and libraries map.
fn most() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let allowed = allowed.ok().and_then(|text| text.trim().parse().ok());
        allowed.unwrap_or(USUAL) / 4 * 3
    })
}

/// The mappings that some memory has for its special pool. They are given back when it goes.
#[derive(Default)]
pub(super) struct Mappings(Cell<usize>);

impl Mappings {
    /// Whether there may be so many more; then they are had.
    pub(super) fn take(&self, count: usize) -> bool {
        if HELD.fetch_add(count, Ordering::Relaxed) + count > most() {
            HELD.fetch_sub(count, Ordering::Relaxed);
            return false;
        }
        self.0.set(self.0.get() + count);
        true
    }

    /// Has what was taken stay when the memory goes.
    pub(super) fn keep(&self) {
        self.0.set(0);
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, count: usize) {
        self.0.set(self.0.get() - count);
        HELD.fetch_sub(count, Ordering::Relaxed);
    }
}

impl Drop for Mappings {
    fn drop(&mut self) {
        self.give(self.0.get());
    }
}
