//! Entries of a table that wait for their turn, oldest first.
//!
//! The line runs through the entries themselves, so that joining it takes no memory and leaving it, from the middle too, constant time.
//!
//! IRQL: <= DISPATCH_LEVEL, under the lock that protects the table.

use super::slab::{Key, Slab};

/// An entry's place in the line.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    waits: bool,
    before: Key,
    after: Key,
}

impl Place {
    /// Not in the line.
    pub const OUTSIDE: Place = Place {
        waits: false,
        before: Key::NONE,
        after: Key::NONE,
    };
}

/// Entries that can wait.
pub trait Waits {
    /// The entry's place, which only the line changes.
    fn place(&mut self) -> &mut Place;
}

/// The line.
#[derive(Debug)]
pub struct Line {
    first: Key,
    last: Key,
}

impl Line {
    /// Nobody waits.
    pub const fn new() -> Self {
        Self {
            first: Key::NONE,
            last: Key::NONE,
        }
    }

    /// Puts an entry behind the others, unless it waits already.
    pub fn join<T: Waits>(&mut self, table: &mut Slab<T>, key: Key) {
        let last = self.last;
        let Some(place) = table.get_mut(key).map(T::place).filter(|p| !p.waits) else {
            return;
        };
        *place = Place {
            waits: true,
            before: last,
            after: Key::NONE,
        };
        match table.get_mut(last) {
            Some(entry) => entry.place().after = key,
            None => self.first = key,
        }
        self.last = key;
    }

    /// Takes an entry out, if it waits. Every entry leaves the line before it leaves the table.
    pub fn leave<T: Waits>(&mut self, table: &mut Slab<T>, key: Key) {
        let Some(place) = table.get_mut(key).map(T::place).filter(|p| p.waits) else {
            return;
        };
        let Place { before, after, .. } = core::mem::replace(place, Place::OUTSIDE);
        match table.get_mut(before) {
            Some(entry) => entry.place().after = after,
            None => self.first = after,
        }
        match table.get_mut(after) {
            Some(entry) => entry.place().before = before,
            None => self.last = before,
        }
    }

    /// Takes out the entry that has waited longest.
    pub fn next<T: Waits>(&mut self, table: &mut Slab<T>) -> Option<Key> {
        let key = self.first;
        table.get(key)?;
        self.leave(table, key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Entry(Place);

    impl Waits for Entry {
        fn place(&mut self) -> &mut Place {
            &mut self.0
        }
    }

    fn table() -> (Line, Slab<Entry>, [Key; 4]) {
        let mut table = Slab::new(4);
        let keys = [(); 4].map(|()| match table.insert(Entry(Place::OUTSIDE)) {
            Ok(key) => key,
            Err(_) => unreachable!("there is room"),
        });
        (Line::new(), table, keys)
    }

    #[test]
    fn who_joined_first_is_first_whatever_its_slot() {
        let (mut line, mut table, [a, b, c, d]) = table();
        for key in [c, a, c, d, b, a] {
            line.join(&mut table, key);
        }
        for expected in [Some(c), Some(a), Some(d), Some(b), None] {
            assert_eq!(line.next(&mut table), expected);
        }
        line.join(&mut table, d);
        assert_eq!(line.next(&mut table), Some(d));
    }

    #[test]
    fn who_leaves_is_not_found_and_the_others_are() {
        for gone in 0..4 {
            let (mut line, mut table, keys) = table();
            for key in keys {
                line.join(&mut table, key);
            }
            line.leave(&mut table, keys[gone]);
            line.leave(&mut table, keys[gone]);
            table.remove(keys[gone]);
            for key in keys.into_iter().filter(|key| *key != keys[gone]) {
                assert_eq!(line.next(&mut table), Some(key));
            }
            assert_eq!(line.next(&mut table), None);
        }
    }
}
