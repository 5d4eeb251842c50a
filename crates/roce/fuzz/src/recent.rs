//! What was seen last.

use std::collections::VecDeque;

/// The newest of something, `N` at most.
pub struct Recent<T, const N: usize>(VecDeque<T>);

impl<T, const N: usize> Default for Recent<T, N> {
    fn default() -> Self {
        Recent(VecDeque::with_capacity(N + 1))
    }
}

impl<T, const N: usize> Recent<T, N> {
    pub fn push(&mut self, item: T) {
        self.0.push_front(item);
        self.0.truncate(N);
    }

    /// Counted from the newest, and round again; none if there are none.
    pub fn pick(&self, at: usize) -> Option<&T> {
        self.0.get(at.checked_rem(self.0.len())?)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}
