//! Memory keys: what a local or remote key gives access to, and which transmissions still read the memory behind it.

use crate::memory::RegionId;
use crate::rng::Rng;
use crate::table::{OutOfMemory, try_vec};
use crate::{PdId, table::Slot};
use alloc::vec::Vec;
use bitflags::bitflags;

/// A memory region's key: `index << 8 | tag`. The local key and the remote key of a region are the same number. Zero is
/// never a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MrKey(pub u32);

impl MrKey {
    const fn index(self) -> usize {
        (self.0 >> 8) as usize
    }

    const fn tag(self) -> u8 {
        self.0 as u8
    }
}

bitflags! {
    /// What a key permits. Local reading is always permitted.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Access: u8 {
        /// Received data and READ responses may be placed here.
        const LOCAL_WRITE = 0x01;
        /// The peer may READ.
        const REMOTE_READ = 0x02;
        /// The peer may WRITE.
        const REMOTE_WRITE = 0x04;
        /// The peer may execute atomics.
        const REMOTE_ATOMIC = 0x08;
    }
}

/// Why a key does not give the access asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// No such key, or no longer.
    Invalid,
    /// The key belongs to another protection domain.
    WrongPd,
    /// The range is not inside the region.
    OutOfRange,
    /// The region does not permit this kind of access.
    Denied,
}

/// Why a region could not be registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterError {
    /// No such protection domain.
    UnknownPd,
    /// All keys are taken.
    TableFull,
    /// The range wraps around the end of the address space.
    InvalidRange,
}

/// Why a region cannot be given back yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeregisterError {
    /// No such key.
    Unknown,
    /// The key is dead, but transmissions still read the memory. `Event::RegionIdle` follows when the last one is done.
    Busy,
}

/// A checked range of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub region: RegionId,
    pub offset: u64,
}

/// Names an entry that is held by a transmission; valid until released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyHold(u32);

impl KeyHold {
    /// The hold that [`KeyTable::hold`] gave for `key`.
    pub const fn of(key: u32) -> KeyHold {
        KeyHold(key >> 8)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free,
    Valid,
    /// Deregistered; transmissions still read the memory.
    Dying,
    /// Deregistered and unused; waits in the idle list to be reported.
    Idle,
}

struct Entry {
    base: u64,
    len: u64,
    region: RegionId,
    pd: PdId,
    /// Holds by transmissions.
    in_flight: u32,
    /// Next in the free list or in the idle list.
    next: u32,
    access: Access,
    tag: u8,
    state: State,
}

/// All keys of an adapter.
pub(crate) struct KeyTable {
    entries: Vec<Entry>,
    free: List,
    idle: List,
    live: u32,
}

/// Intrusive queue over `Entry::next`; 0 ends it (entry 0 is never used).
#[derive(Default)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    fn push(&mut self, entries: &mut [Entry], index: u32) {
        if let Some(e) = entries.get_mut(index as usize) {
            e.next = 0;
        }
        match entries.get_mut(self.tail as usize) {
            Some(tail) if self.tail != 0 => tail.next = index,
            _ => self.head = index,
        }
        self.tail = index;
    }

    fn pop(&mut self, entries: &[Entry]) -> Option<u32> {
        let index = self.head;
        if index == 0 {
            return None;
        }
        self.head = entries.get(index as usize)?.next;
        if self.head == 0 {
            self.tail = 0;
        }
        Some(index)
    }
}

impl KeyTable {
    /// Room for `capacity` keys, below 2^24.
    pub fn try_new(capacity: u32, rng: &mut Rng) -> Result<KeyTable, OutOfMemory> {
        let capacity = capacity.min(0x00ff_fffe);
        let mut entries = try_vec(capacity as usize + 1, |_| Entry {
            base: 0,
            len: 0,
            region: RegionId(0),
            pd: PdId(Slot {
                index: u32::MAX,
                generation: 0,
            }),
            in_flight: 0,
            next: 0,
            access: Access::empty(),
            // Random, so that keys of an earlier life of the machine do not fit.
            tag: rng.next_u32() as u8,
            state: State::Free,
        })?;
        let mut free = List::default();
        for index in 1..=capacity {
            free.push(&mut entries, index);
        }
        Ok(KeyTable {
            entries,
            free,
            idle: List::default(),
            live: 0,
        })
    }

    /// Keys in use.
    pub fn len(&self) -> u32 {
        self.live
    }

    pub fn register(
        &mut self,
        pd: PdId,
        base: u64,
        len: u64,
        access: Access,
        region: RegionId,
    ) -> Result<MrKey, RegisterError> {
        if base.checked_add(len).is_none() {
            return Err(RegisterError::InvalidRange);
        }
        let index = self
            .free
            .pop(&self.entries)
            .ok_or(RegisterError::TableFull)?;
        let entry = self
            .entries
            .get_mut(index as usize)
            .ok_or(RegisterError::TableFull)?;
        *entry = Entry {
            base,
            len,
            region,
            pd,
            in_flight: 0,
            next: 0,
            access,
            tag: entry.tag.wrapping_add(1),
            state: State::Valid,
        };
        self.live += 1;
        Ok(MrKey(index << 8 | u32::from(entry.tag)))
    }

    /// Ends a key. Gives the protection domain that has one key less now.
    pub fn deregister(&mut self, key: MrKey) -> Result<PdId, (DeregisterError, Option<PdId>)> {
        let entry = match self.entries.get_mut(key.index()) {
            Some(e) if e.state == State::Valid && e.tag == key.tag() => e,
            _ => return Err((DeregisterError::Unknown, None)),
        };
        let pd = entry.pd;
        self.live = self.live.saturating_sub(1);
        if entry.in_flight > 0 {
            entry.state = State::Dying;
            return Err((DeregisterError::Busy, Some(pd)));
        }
        entry.state = State::Free;
        self.free.push(&mut self.entries, key.index() as u32);
        Ok(pd)
    }

    /// Checks that `key` gives a queue pair in `pd` the access `need` to the whole range.
    pub fn check(
        &self,
        key: u32,
        pd: PdId,
        va: u64,
        len: u64,
        need: Access,
    ) -> Result<Place, KeyError> {
        let key = MrKey(key);
        let entry = self.entries.get(key.index()).ok_or(KeyError::Invalid)?;
        if entry.state != State::Valid || entry.tag != key.tag() {
            return Err(KeyError::Invalid);
        }
        if entry.pd != pd {
            return Err(KeyError::WrongPd);
        }
        if !entry.access.contains(need) {
            return Err(KeyError::Denied);
        }
        // `va + len` is never formed: it could wrap.
        let offset = va.checked_sub(entry.base).ok_or(KeyError::OutOfRange)?;
        let room = entry.len.checked_sub(offset).ok_or(KeyError::OutOfRange)?;
        if len > room {
            return Err(KeyError::OutOfRange);
        }
        Ok(Place {
            region: entry.region,
            offset,
        })
    }

    /// Keeps the memory behind a valid `key` in use until [`release`](Self::release).
    pub fn hold(&mut self, key: u32) -> Option<KeyHold> {
        let key = MrKey(key);
        let entry = self.entries.get_mut(key.index())?;
        if entry.state != State::Valid || entry.tag != key.tag() {
            return None;
        }
        entry.in_flight += 1;
        Some(KeyHold(key.index() as u32))
    }

    /// Ends one hold. A dead region whose last hold this was becomes idle.
    pub fn release(&mut self, hold: KeyHold) {
        let Some(entry) = self.entries.get_mut(hold.0 as usize) else {
            return;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight == 0 && entry.state == State::Dying {
            entry.state = State::Idle;
            self.idle.push(&mut self.entries, hold.0);
        }
    }

    /// The next dead region that nothing reads any more.
    pub fn pop_idle(&mut self) -> Option<RegionId> {
        let index = self.idle.pop(&self.entries)?;
        let entry = self.entries.get_mut(index as usize)?;
        entry.state = State::Free;
        let region = entry.region;
        self.free.push(&mut self.entries, index);
        Some(region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pd(index: u32) -> PdId {
        PdId(Slot {
            index,
            generation: 0,
        })
    }

    fn table(n: u32) -> KeyTable {
        KeyTable::try_new(n, &mut Rng::new(1)).unwrap()
    }

    #[test]
    fn range_pd_and_access_are_checked() {
        let mut t = table(4);
        let all = Access::LOCAL_WRITE | Access::REMOTE_READ;
        let k = t
            .register(pd(1), 0x1000, 0x100, all, RegionId(7))
            .unwrap()
            .0;
        let read = Access::REMOTE_READ;
        assert_eq!(
            t.check(k, pd(1), 0x1000, 0x100, read),
            Ok(Place {
                region: RegionId(7),
                offset: 0
            })
        );
        assert_eq!(
            t.check(k, pd(1), 0x10ff, 1, read),
            Ok(Place {
                region: RegionId(7),
                offset: 0xff
            })
        );
        assert_eq!(
            t.check(k, pd(1), 0x1100, 0, read),
            Ok(Place {
                region: RegionId(7),
                offset: 0x100
            })
        );
        assert_eq!(
            t.check(k, pd(1), 0x1000, 0x101, read),
            Err(KeyError::OutOfRange)
        );
        assert_eq!(t.check(k, pd(1), 0xfff, 1, read), Err(KeyError::OutOfRange));
        assert_eq!(
            t.check(k, pd(1), 0x1101, 0, read),
            Err(KeyError::OutOfRange)
        );
        assert_eq!(
            t.check(k, pd(1), u64::MAX, 2, read),
            Err(KeyError::OutOfRange)
        );
        assert_eq!(
            t.check(k, pd(1), 0x1001, u64::MAX, read),
            Err(KeyError::OutOfRange)
        );
        assert_eq!(t.check(k, pd(2), 0x1000, 1, read), Err(KeyError::WrongPd));
        assert_eq!(
            t.check(k, pd(1), 0x1000, 1, Access::REMOTE_WRITE),
            Err(KeyError::Denied)
        );
        assert_eq!(
            t.check(k ^ 1, pd(1), 0x1000, 1, read),
            Err(KeyError::Invalid)
        );
        assert_eq!(t.check(0, pd(1), 0x1000, 1, read), Err(KeyError::Invalid));
        assert_eq!(
            t.check(u32::MAX, pd(1), 0x1000, 1, read),
            Err(KeyError::Invalid)
        );
    }

    #[test]
    fn a_range_at_the_very_end_of_the_address_space_works() {
        let mut t = table(2);
        let k = t
            .register(pd(0), u64::MAX - 15, 15, Access::empty(), RegionId(0))
            .unwrap()
            .0;
        assert!(
            t.check(k, pd(0), u64::MAX - 15, 15, Access::empty())
                .is_ok()
        );
        assert_eq!(
            t.check(k, pd(0), u64::MAX, 16, Access::empty()),
            Err(KeyError::OutOfRange)
        );
        assert_eq!(
            t.register(pd(0), u64::MAX, 2, Access::empty(), RegionId(0)),
            Err(RegisterError::InvalidRange)
        );
        // The whole address space, for a privileged key.
        assert!(
            t.register(pd(0), 0, u64::MAX, Access::LOCAL_WRITE, RegionId(0))
                .is_ok()
        );
        assert_eq!(
            t.register(pd(0), 0, 1, Access::empty(), RegionId(0)),
            Err(RegisterError::TableFull)
        );
    }

    #[test]
    fn a_reused_slot_has_another_key() {
        let mut t = table(1);
        let mut last = 0;
        for _ in 0..300 {
            let k = t
                .register(pd(0), 0, 1, Access::empty(), RegionId(0))
                .unwrap();
            assert_ne!(k.0, last);
            assert_ne!(k.0 >> 8, 0);
            last = k.0;
            assert!(t.deregister(k).is_ok());
            assert_eq!(t.deregister(k), Err((DeregisterError::Unknown, None)));
        }
        assert_eq!(t.len(), 0);
    }

    #[test]
    fn a_held_region_dies_at_once_but_is_idle_only_after_the_last_release() {
        let mut t = table(1);
        let k = t
            .register(pd(0), 0, 8, Access::REMOTE_READ, RegionId(9))
            .unwrap();
        let a = t.hold(k.0).unwrap();
        let b = t.hold(k.0).unwrap();
        assert_eq!(t.deregister(k), Err((DeregisterError::Busy, Some(pd(0)))));
        assert_eq!(
            t.check(k.0, pd(0), 0, 1, Access::REMOTE_READ),
            Err(KeyError::Invalid)
        );
        assert_eq!(t.hold(k.0), None);
        t.release(a);
        assert_eq!(t.pop_idle(), None);
        assert_eq!(
            t.register(pd(0), 0, 8, Access::empty(), RegionId(1)),
            Err(RegisterError::TableFull)
        );
        t.release(b);
        assert_eq!(t.pop_idle(), Some(RegionId(9)));
        assert_eq!(t.pop_idle(), None);
        assert!(
            t.register(pd(0), 0, 8, Access::empty(), RegionId(1))
                .is_ok()
        );
    }
}
