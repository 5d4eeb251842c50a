//! Runs of pages: first fit, neighbours joined.

use std::collections::BTreeMap;

/// Free runs, by first page.
pub(crate) struct Runs {
    free: BTreeMap<u32, u32>,
}

impl Runs {
    pub(crate) fn new(pages: u32) -> Self {
        let mut free = BTreeMap::new();
        if pages > 0 {
            free.insert(0, pages);
        }
        Runs { free }
    }

    /// The first page of a run of `pages`, aligned to `align` pages.
    pub(crate) fn take(&mut self, pages: u32, align: u32) -> Option<u32> {
        let align = align.max(1);
        let (start, len, first) = self.free.iter().find_map(|(start, len)| {
            let first = start.checked_next_multiple_of(align)?;
            let end = first.checked_add(pages)?;
            (end <= start + len).then_some((*start, *len, first))
        })?;
        self.free.remove(&start);
        if first > start {
            self.free.insert(start, first - start);
        }
        let end = first + pages;
        if end < start + len {
            self.free.insert(end, start + len - end);
        }
        Some(first)
    }

    /// The first page of the last run of `pages`: for what must not move others about.
    pub(crate) fn take_last(&mut self, pages: u32) -> Option<u32> {
        let (start, len) = self.free.iter().rfind(|(_, len)| **len >= pages)?;
        let (start, rest) = (*start, len - pages);
        self.free.remove(&start);
        if rest > 0 {
            self.free.insert(start, rest);
        }
        Some(start + rest)
    }

    /// Gives a run back.
    pub(crate) fn give(&mut self, first: u32, pages: u32) {
        let (mut start, mut len) = (first, pages);
        if let Some((before, n)) = self.free.range(..first).next_back()
            && before + n == first
        {
            (start, len) = (*before, n + len);
        }
        self.free.remove(&start);
        if let Some(n) = self.free.remove(&(first + pages)) {
            len += n;
        }
        self.free.insert(start, len);
    }
}

#[cfg(test)]
mod tests {
    use super::Runs;

    #[test]
    fn freed_neighbours_become_one_run_again() {
        let mut runs = Runs::new(16);
        let a = runs.take(4, 1).expect("room");
        let b = runs.take(4, 1).expect("room");
        let c = runs.take(8, 1).expect("room");
        assert_eq!((a, b, c), (0, 4, 8));
        assert_eq!(runs.take(1, 1), None);
        runs.give(a, 4);
        runs.give(c, 8);
        assert_eq!(runs.take(12, 1), None);
        runs.give(b, 4);
        assert_eq!(runs.take(16, 1), Some(0));
    }

    #[test]
    fn what_is_taken_last_comes_from_the_end() {
        let mut runs = Runs::new(16);
        assert_eq!(runs.take_last(4), Some(12));
        assert_eq!(runs.take(4, 1), Some(0));
        assert_eq!(runs.take_last(9), None);
        assert_eq!(runs.take_last(8), Some(4));
        runs.give(0, 4);
        assert_eq!(runs.take_last(4), Some(0));
        assert_eq!(runs.take_last(1), None);
    }

    #[test]
    fn alignment_leaves_the_skipped_pages_free() {
        let mut runs = Runs::new(16);
        assert_eq!(runs.take(1, 1), Some(0));
        assert_eq!(runs.take(4, 8), Some(8));
        assert_eq!(runs.take(7, 1), Some(1));
        assert_eq!(runs.take(4, 1), Some(12));
        assert_eq!(runs.take(1, 1), None);
    }
}
