//! A table of entries with stable slots: what the port keeps about each object, found by number in constant time.
//!
//! IRQL: <= DISPATCH_LEVEL, under the lock that protects the table.

use roce::Chunks;

#[derive(Debug)]
enum Slot<T> {
    Used { generation: u32, value: T },
    Free { generation: u32, next: u32 },
}

/// Where an entry is. Carries a generation, so that the key of a removed entry finds nothing, not its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(u64);

impl Key {
    /// Finds nothing in any table: generations begin with 1.
    pub const NONE: Key = Key(0);

    /// The key as a number that can travel through another component.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The key that [`Key::to_bits`] gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(index))
    }

    /// The slot.
    pub fn index(self) -> usize {
        self.slot() as usize
    }

    fn slot(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// Which of the entries that used the slot it is.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// The table. Grows only in [`Slab::insert`], fallibly, up to a limit given at the start.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Chunks<Slot<T>>,
    first_free: u32,
}

const NONE: u32 = u32::MAX;

impl<T> Slab<T> {
    /// An empty table for at most `limit` entries.
    pub const fn new(limit: u32) -> Self {
        Self {
            slots: Chunks::new(limit),
            first_free: NONE,
        }
    }

    /// Adds an entry; gives the value back if there is no room or no memory for it.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        if self.first_free == NONE {
            let fresh = Slot::Free {
                generation: 1,
                next: NONE,
            };
            match self.slots.push(fresh) {
                Ok(index) => self.first_free = index,
                Err(_) => return Err(value),
            }
        }
        let index = self.first_free;
        let Some(slot) = self.slots.get_mut(index) else {
            return Err(value);
        };
        let Slot::Free { generation, next } = *slot else {
            return Err(value);
        };
        *slot = Slot::Used { generation, value };
        self.first_free = next;
        Ok(Key::new(index, generation))
    }

    /// Takes an entry out. Its key finds nothing from now on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot())?;
        match slot {
            Slot::Used { generation, .. } if *generation == key.generation() => {}
            _ => return None,
        }
        let next = Slot::Free {
            generation: key.generation().wrapping_add(1).max(1),
            next: self.first_free,
        };
        let Slot::Used { value, .. } = core::mem::replace(slot, next) else {
            return None;
        };
        self.first_free = key.slot();
        Some(value)
    }

    /// The entry of that key.
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.slots.get(key.slot())? {
            Slot::Used { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// The entry of that key, to change it.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slots.get_mut(key.slot())? {
            Slot::Used { generation, value } if *generation == key.generation() => Some(value),
            _ => None,
        }
    }

    /// The key of the first entry in a slot from `index` on: for going through a table that changes meanwhile.
    pub fn next(&self, index: usize) -> Option<Key> {
        (u32::try_from(index).ok()?..self.slots.len()).find_map(|index| Some(self.at(index)?.0))
    }

    /// The key of every entry.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.slots
            .iter()
            .zip(0..)
            .filter_map(|(slot, index)| match slot {
                Slot::Used { generation, .. } => Some(Key::new(index, *generation)),
                Slot::Free { .. } => None,
            })
    }

    /// Whatever entry is in a slot now.
    pub fn at(&self, index: u32) -> Option<(Key, &T)> {
        match self.slots.get(index)? {
            Slot::Used { generation, value } => Some((Key::new(index, *generation), value)),
            Slot::Free { .. } => None,
        }
    }

    /// Every entry, to change it.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Used { value, .. } => Some(value),
            Slot::Free { .. } => None,
        })
    }

    /// Every entry.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Used { value, .. } => Some(value),
            Slot::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_entry_and_nothing_after_removal() {
        let mut slab = Slab::new(8);
        let first = slab.insert('a').unwrap();
        let second = slab.insert('b').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.get(first), None);
        let third = slab.insert('c').unwrap();
        assert_ne!(first, third);
        assert_eq!(slab.get(first), None);
        assert_eq!(slab.get(Key::from_bits(third.to_bits())), Some(&'c'));
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.iter().count(), 2);
    }

    #[test]
    fn the_limit_holds() {
        let mut slab = Slab::new(1);
        let only = slab.insert(1).unwrap();
        assert_eq!(slab.insert(2), Err(2));
        slab.remove(only);
        assert!(slab.insert(3).is_ok());
    }
}
