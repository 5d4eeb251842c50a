//! Fixed-capacity object tables with generation-checked ids.

use crate::chunks::Chunks;
use alloc::vec::Vec;
use zerocopy::FromZeros;

/// Memory for a table or ring could not be had. Only creation functions return it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfMemory;

impl core::fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("out of memory")
    }
}

/// A vector of `len` values made by `make`, or an error instead of an abort.
pub(crate) fn try_vec<T>(
    len: usize,
    mut make: impl FnMut(usize) -> T,
) -> Result<Vec<T>, OutOfMemory> {
    let mut v = Vec::new();
    v.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
    v.extend((0..len).map(&mut make));
    Ok(v)
}

/// A vector of `len` values of zero bytes, which the allocator clears and nobody writes to once more. Where it has fresh pages, as those of
/// processes and of the simulator have, a large one costs nothing before it is used; nonpaged pool is resident and cleared at once.
pub(crate) fn try_zeroed<T: FromZeros>(len: usize) -> Result<Vec<T>, OutOfMemory> {
    T::new_vec_zeroed(len).map_err(|_| OutOfMemory)
}

/// An index below `u32::MAX`, which says none, as zeroed memory does here.
#[derive(Clone, Copy, PartialEq, Eq, FromZeros)]
pub(crate) struct Link(u32);

impl Link {
    pub const NONE: Link = Link::to(u32::MAX);

    pub const fn to(index: u32) -> Link {
        Link(index.wrapping_add(1))
    }

    pub const fn index(self) -> u32 {
        self.0.wrapping_sub(1)
    }
}

/// Where an object lives and which of the objects that ever lived there it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Slot {
    pub index: u32,
    pub generation: u32,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// An id outlives its object harmlessly: it never names a later one.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $name(pub(crate) crate::table::Slot);

        impl $name {
            /// The id as one word, for callers that keep it in an opaque context.
            #[must_use]
            pub const fn to_bits(self) -> u64 {
                (self.0.generation as u64) << 32 | self.0.index as u64
            }

            /// The id that [`to_bits`](Self::to_bits) gave. Any other number is an id of nothing, or of something else.
            #[must_use]
            pub const fn from_bits(bits: u64) -> Self {
                Self(crate::table::Slot { index: bits as u32, generation: (bits >> 32) as u32 })
            }
        }
    };
}
pub(crate) use id;

struct Entry<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

const NONE: u32 = u32::MAX;

/// Slots that a table begins with. They are reused oldest first, and more are not made before all are in use: so few a table must not
/// begin with that the ids of its objects come again soon.
const FIRST: u32 = 64;

/// At most `capacity` objects. Slots are made when no other is free, and stay. Freed slots are reused oldest first.
pub(crate) struct Table<T> {
    entries: Chunks<Entry<T>>,
    free_head: u32,
    free_tail: u32,
    live: u32,
}

impl<T> Table<T> {
    /// A table that grows: inserting may have to get memory.
    pub fn try_new(capacity: u32) -> Result<Table<T>, OutOfMemory> {
        Self::try_with_slots(capacity, FIRST.min(capacity))
    }

    /// A table with all its slots: inserting never gets memory.
    pub fn try_fixed(capacity: u32) -> Result<Table<T>, OutOfMemory> {
        Self::try_with_slots(capacity, capacity)
    }

    fn try_with_slots(capacity: u32, slots: u32) -> Result<Table<T>, OutOfMemory> {
        let mut table = Table {
            entries: Chunks::new(capacity),
            free_head: NONE,
            free_tail: NONE,
            live: 0,
        };
        while table.slots() < slots {
            table.add_slot().ok_or(OutOfMemory)?;
        }
        Ok(table)
    }

    /// Gets the memory for `slots` slots, or for as many as there can be. They are not made before all others are in use.
    pub fn reserve(&mut self, slots: u32) -> Result<(), OutOfMemory> {
        self.entries.reserve(slots)
    }

    /// Makes one more slot, free.
    fn add_slot(&mut self) -> Option<()> {
        let index = self.entries.push_with(|| Entry {
            generation: 0,
            next_free: NONE,
            value: None,
        })?;
        self.free(index);
        Some(())
    }

    /// Appends a slot to the free ones.
    fn free(&mut self, index: u32) {
        match self.entries.get_mut(self.free_tail) {
            Some(tail) => tail.next_free = index,
            None => self.free_head = index,
        }
        self.free_tail = index;
    }

    pub fn is_full(&self) -> bool {
        self.live >= self.capacity()
    }

    /// Slots that have been made: objects have lower indices.
    pub fn slots(&self) -> u32 {
        self.entries.len()
    }

    pub fn len(&self) -> u32 {
        self.live
    }

    /// The slot the next [`insert`](Self::insert) will use. `None` if there is no room, or no memory for more.
    pub fn next_slot(&mut self) -> Option<Slot> {
        if self.free_head == NONE {
            self.add_slot()?;
        }
        let entry = self.entries.get(self.free_head)?;
        Some(Slot {
            index: self.free_head,
            generation: entry.generation,
        })
    }

    /// Stores `value`; gives it back if there is no room, or no memory for more.
    pub fn insert(&mut self, value: T) -> Result<Slot, T> {
        let Some(slot) = self.next_slot() else {
            return Err(value);
        };
        let Some(entry) = self.entries.get_mut(slot.index) else {
            return Err(value);
        };
        self.free_head = entry.next_free;
        if self.free_head == NONE {
            self.free_tail = NONE;
        }
        entry.value = Some(value);
        self.live += 1;
        Ok(slot)
    }

    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.index)?;
        if entry.generation != slot.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next_free = NONE;
        self.live = self.live.saturating_sub(1);
        self.free(slot.index);
        Some(value)
    }

    pub fn get(&self, slot: Slot) -> Option<&T> {
        let entry = self.entries.get(slot.index)?;
        if entry.generation == slot.generation {
            entry.value.as_ref()
        } else {
            None
        }
    }

    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let entry = self.entries.get_mut(slot.index)?;
        if entry.generation == slot.generation {
            entry.value.as_mut()
        } else {
            None
        }
    }

    /// Whatever lives at `index` now.
    pub fn at(&self, index: u32) -> Option<(Slot, &T)> {
        let entry = self.entries.get(index)?;
        let slot = Slot {
            index,
            generation: entry.generation,
        };
        entry.value.as_ref().map(|v| (slot, v))
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, index: u32) -> Option<(Slot, &mut T)> {
        let entry = self.entries.get_mut(index)?;
        let slot = Slot {
            index,
            generation: entry.generation,
        };
        entry.value.as_mut().map(|v| (slot, v))
    }

    /// Most objects that there can be.
    pub fn capacity(&self) -> u32 {
        self.entries.capacity()
    }
}

/// First-in first-out list of table indices, each in it at most once: the links live beside the objects, so that pushing
/// never allocates and never fails.
pub(crate) struct IndexList {
    /// `next[i]`: the index after `i`, [`END`] at the end, none if `i` is not in the list.
    next: Vec<Link>,
    head: u32,
    tail: u32,
}

/// Behind the last index of a list: no index.
const END: u32 = u32::MAX - 1;

impl IndexList {
    pub fn try_new(capacity: u32) -> Result<IndexList, OutOfMemory> {
        Ok(IndexList {
            next: try_zeroed(capacity as usize)?,
            head: END,
            tail: END,
        })
    }

    /// Appends `index` unless it is in the list already.
    pub fn push(&mut self, index: u32) {
        match self.next.get_mut(index as usize) {
            Some(n) if *n == Link::NONE => *n = Link::to(END),
            _ => return,
        }
        match self.next.get_mut(self.tail as usize) {
            Some(t) => *t = Link::to(index),
            None => self.head = index,
        }
        self.tail = index;
    }

    pub fn pop(&mut self) -> Option<u32> {
        let index = self.head;
        let n = self.next.get_mut(index as usize)?;
        self.head = n.index();
        *n = Link::NONE;
        if self.head == END {
            self.tail = END;
        }
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_removed_objects_name_nothing() {
        let mut t = Table::try_new(2).unwrap();
        let a = t.insert('a').unwrap();
        let b = t.insert('b').unwrap();
        assert_eq!(t.insert('c'), Err('c'));
        assert_eq!(t.remove(a), Some('a'));
        assert_eq!(t.remove(a), None);
        assert_eq!(t.get(a), None);
        let c = t.insert('c').unwrap();
        assert_eq!(c.index, a.index);
        assert_ne!(c, a);
        assert_eq!(
            (t.get(a), t.get(b), t.get(c)),
            (None, Some(&'b'), Some(&'c'))
        );
        assert_eq!(t.len(), 2);
    }

    #[test]
    fn slots_are_reused_oldest_first() {
        let mut t = Table::try_new(3).unwrap();
        let ids: Vec<_> = (0..3).map(|i| t.insert(i).unwrap()).collect();
        for i in [1, 0, 2] {
            t.remove(ids[i]);
        }
        let order: Vec<_> = (0..3).map(|i| t.insert(i).unwrap().index).collect();
        assert_eq!(order, [1, 0, 2]);
        let mut empty = Table::try_new(0).unwrap();
        assert_eq!(empty.insert(()), Err(()));
    }

    #[test]
    fn a_table_makes_slots_when_all_are_in_use_and_keeps_them() {
        let mut t = Table::try_new(1000).unwrap();
        assert_eq!((t.slots(), t.capacity()), (FIRST, 1000));
        let many: Vec<_> = (0..1000).map(|i| t.insert(i).unwrap()).collect();
        assert!(t.is_full() && t.insert(0).is_err());
        assert!((0..1000).all(|i| t.get(many[i]) == Some(&i) && many[i].index == i as u32));
        many.iter()
            .for_each(|slot| assert!(t.remove(*slot).is_some()));
        assert_eq!((t.len(), t.slots()), (0, 1000));
        let mut fixed = Table::try_fixed(1000).unwrap();
        assert_eq!((fixed.slots(), fixed.insert(()).is_ok()), (1000, true));
    }

    #[test]
    fn index_list_holds_each_index_once() {
        let mut l = IndexList::try_new(3).unwrap();
        for i in [2, 0, 2, 9] {
            l.push(i);
        }
        assert_eq!((l.pop(), l.pop(), l.pop()), (Some(2), Some(0), None));
        l.push(2);
        l.push(1);
        assert_eq!((l.pop(), l.pop(), l.pop()), (Some(2), Some(1), None));
    }
}
