//! Deadlines of many objects: a binary heap with one entry per object, all allocated at creation.
//!
//! Deadlines move with nearly every packet, mostly to later. So an entry may be early: whoever is woken by it looks at the
//! object's real deadline and, if that lies ahead, enters it again. Moving a deadline to later then costs nothing.

use crate::table::{Link, OutOfMemory, try_zeroed};
use crate::time::Instant;
use alloc::vec::Vec;

pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Place of each object in `heap`, if it is there.
    place: Vec<Link>,
}

impl Timers {
    /// For objects `0..capacity`.
    pub fn try_new(capacity: u32) -> Result<Timers, OutOfMemory> {
        let mut heap = Vec::new();
        heap.try_reserve_exact(capacity as usize)
            .map_err(|_| OutOfMemory)?;
        Ok(Timers {
            heap,
            place: try_zeroed(capacity as usize)?,
        })
    }

    /// The earliest entry.
    pub fn next(&self) -> Option<Instant> {
        self.heap.first().map(|(at, _)| *at)
    }

    /// Makes sure that `object` is woken at `at` or earlier.
    pub fn wake(&mut self, object: u32, at: Instant) {
        let Some(place) = self.place.get(object as usize).copied() else {
            return;
        };
        if place == Link::NONE {
            // Each object is in the heap at most once, so this stays within what was reserved.
            if self.heap.len() < self.heap.capacity() {
                self.heap.push((at, object));
                self.sift_up(self.heap.len() - 1);
            }
            return;
        }
        if let Some(entry) = self.heap.get_mut(place.index() as usize)
            && at < entry.0
        {
            entry.0 = at;
            self.sift_up(place.index() as usize);
        }
    }

    /// Takes the earliest entry if it is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let (at, object) = *self.heap.first()?;
        if at > now {
            return None;
        }
        self.set_place(object, Link::NONE);
        let last = self.heap.pop()?;
        if let Some(first) = self.heap.first_mut() {
            *first = last;
            self.sift_down(0);
        }
        Some(object)
    }

    fn set_place(&mut self, object: u32, place: Link) {
        if let Some(p) = self.place.get_mut(object as usize) {
            *p = place;
        }
    }

    fn get(&self, at: usize) -> Option<(Instant, u32)> {
        self.heap.get(at).copied()
    }

    fn put(&mut self, at: usize, entry: (Instant, u32)) {
        if let Some(e) = self.heap.get_mut(at) {
            *e = entry;
        }
        self.set_place(entry.1, Link::to(at as u32));
    }

    fn sift_up(&mut self, mut at: usize) {
        let Some(entry) = self.get(at) else { return };
        while at > 0 {
            let above = (at - 1) / 2;
            match self.get(above) {
                Some(parent) if entry.0 < parent.0 => self.put(at, parent),
                _ => break,
            }
            at = above;
        }
        self.put(at, entry);
    }

    fn sift_down(&mut self, mut at: usize) {
        let Some(entry) = self.get(at) else { return };
        loop {
            let left = 2 * at + 1;
            let Some(mut child) = self.get(left) else {
                break;
            };
            let mut below = left;
            if let Some(right) = self.get(left + 1)
                && right.0 < child.0
            {
                child = right;
                below = left + 1;
            }
            if entry.0 <= child.0 {
                break;
            }
            self.put(at, child);
            at = below;
        }
        self.put(at, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    #[test]
    fn entries_come_out_in_order_of_time() {
        let mut rng = Rng::new(7);
        let mut t = Timers::try_new(64).unwrap();
        let mut want = [u64::MAX; 64];
        for _ in 0..1000 {
            let object = rng.next_u32() % 64;
            let at = u64::from(rng.next_u32() % 1000);
            t.wake(object, Instant(at));
            let w = &mut want[object as usize];
            *w = at.min(*w);
        }
        assert_eq!(t.next(), want.iter().min().map(|w| Instant(*w)));
        let mut last = 0;
        for _ in 0..want.iter().filter(|w| **w != u64::MAX).count() {
            let object = t.pop_due(Instant(u64::MAX)).unwrap();
            assert!(want[object as usize] >= last);
            last = want[object as usize];
        }
        assert_eq!((t.pop_due(Instant(u64::MAX)), t.next()), (None, None));
    }

    #[test]
    fn nothing_is_due_early_and_nothing_moves_later() {
        let mut t = Timers::try_new(2).unwrap();
        t.wake(0, Instant(10));
        t.wake(0, Instant(20));
        assert_eq!(t.pop_due(Instant(9)), None);
        assert_eq!(t.pop_due(Instant(10)), Some(0));
        t.wake(7, Instant(1));
        assert_eq!(t.next(), None);
    }
}
