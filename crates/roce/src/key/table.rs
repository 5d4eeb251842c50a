//! The table of all keys: entries, checks, holds.

use super::{Access, DeregisterError, KeyError, MrKey, RegisterError};
use crate::PdId;
use crate::memory::RegionId;
use crate::rc::QpId;
use crate::rng::Rng;
use crate::table::{OutOfMemory, Slot, try_vec};
use alloc::vec::Vec;

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

/// How an entry gets its registrations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Once, with its allocation.
    Region,
    /// Through the send queue, as often as it is invalidated.
    Fast {
        /// Registrations may give the peer access.
        remote: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    /// Allocated, and gives access to nothing.
    Invalid,
    Valid,
    /// Deregistered; transmissions still read the memory.
    Dying,
    /// Deregistered and unused; waits in the idle list to be reported.
    Idle,
}

/// A registration that has been posted and not been executed.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub qp: QpId,
    pub base: u64,
    pub len: u64,
    pub region: RegionId,
    pub access: Access,
}

pub(super) struct Entry {
    pub base: u64,
    pub len: u64,
    pub region: RegionId,
    pub pd: PdId,
    /// Holds by transmissions, through this registration or an earlier one: there is no later one before they are gone.
    pub in_flight: u32,
    /// Next in the list that the entry is in.
    next: u32,
    pub access: Access,
    /// Of the registration that is valid or was last.
    pub tag: u8,
    pub state: State,
    pub kind: Kind,
    /// The tag given out last: that of `pending` if there is one.
    pub newest: u8,
    pub pending: Option<Pending>,
    /// Completes something when the last hold is gone.
    pub waiter: Option<QpId>,
}

impl Entry {
    fn free(tag: u8) -> Entry {
        Entry {
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
            tag,
            state: State::Free,
            kind: Kind::Region,
            newest: tag,
            pending: None,
            waiter: None,
        }
    }

    /// Whether it belongs to somebody who has not given it back.
    pub fn is_owned(&self) -> bool {
        matches!(self.state, State::Invalid | State::Valid)
    }
}

/// All keys of an adapter.
pub(crate) struct KeyTable {
    pub(super) entries: Vec<Entry>,
    free: List,
    idle: List,
    /// Entries whose last hold is gone and that somebody waits for.
    drained: List,
    live: u32,
}

/// Intrusive queue over `Entry::next`, an entry being in one list at most; 0 ends it (entry 0 is never used).
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
        // Random tags, so that keys of an earlier life of the machine do not fit.
        let mut entries = try_vec(capacity as usize + 1, |_| Entry::free(rng.next_u32() as u8))?;
        let mut free = List::default();
        for index in 1..=capacity {
            free.push(&mut entries, index);
        }
        Ok(KeyTable {
            entries,
            free,
            idle: List::default(),
            drained: List::default(),
            live: 0,
        })
    }

    /// Keys in use.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Takes a free entry: it has a new tag, and `fill` says the rest.
    pub(super) fn allocate(
        &mut self,
        pd: PdId,
        fill: impl FnOnce(&mut Entry),
    ) -> Result<MrKey, RegisterError> {
        let index = self
            .free
            .pop(&self.entries)
            .ok_or(RegisterError::TableFull)?;
        let entry = self
            .entries
            .get_mut(index as usize)
            .ok_or(RegisterError::TableFull)?;
        let tag = entry.newest.wrapping_add(1);
        *entry = Entry {
            pd,
            ..Entry::free(tag)
        };
        fill(entry);
        self.live += 1;
        Ok(MrKey::new(index, tag))
    }

    /// Registers memory for as long as the key exists.
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
        self.allocate(pd, |entry| {
            entry.base = base;
            entry.len = len;
            entry.region = region;
            entry.access = access;
            entry.state = State::Valid;
        })
    }

    /// The entry that `key` is the newest key of, whether it gives access now or not.
    pub(super) fn owned(&mut self, key: MrKey) -> Option<&mut Entry> {
        self.entries
            .get_mut(key.index())
            .filter(|e| e.is_owned() && e.newest == key.tag())
    }

    /// Ends a key, of whatever kind and in whatever state. Gives the protection domain that has one key less now.
    pub fn deregister(&mut self, key: MrKey) -> Result<PdId, (DeregisterError, Option<PdId>)> {
        let Some(entry) = self.owned(key) else {
            return Err((DeregisterError::Unknown, None));
        };
        let pd = entry.pd;
        let busy = entry.in_flight > 0;
        entry.state = if busy { State::Dying } else { State::Free };
        self.live = self.live.saturating_sub(1);
        if busy {
            return Err((DeregisterError::Busy, Some(pd)));
        }
        self.free.push(&mut self.entries, key.index() as u32);
        Ok(pd)
    }

    /// The entry that `key` gives a queue pair in `pd` access to.
    pub(super) fn valid(&self, key: u32, pd: PdId) -> Result<&Entry, KeyError> {
        let key = MrKey(key);
        let entry = self.entries.get(key.index()).ok_or(KeyError::Invalid)?;
        if entry.state != State::Valid || entry.tag != key.tag() {
            return Err(KeyError::Invalid);
        }
        if entry.pd != pd {
            return Err(KeyError::WrongPd);
        }
        Ok(entry)
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
        let entry = self.valid(key, pd)?;
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

    /// Ends one hold. If it was the last, those who waited for that are found with [`pop_drained`](Self::pop_drained), which has
    /// to be called then; a dead region that nobody waits for becomes idle.
    pub fn release(&mut self, hold: KeyHold) {
        let Some(entry) = self.entries.get_mut(hold.0 as usize) else {
            return;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight > 0 {
            return;
        }
        if entry.waiter.is_some() || entry.pending.is_some() {
            self.drained.push(&mut self.entries, hold.0);
        } else {
            self.end(hold.0);
        }
    }

    /// A dead region that nothing holds any more becomes idle.
    fn end(&mut self, index: u32) {
        if let Some(entry) = self.entries.get_mut(index as usize)
            && entry.state == State::Dying
        {
            entry.state = State::Idle;
            self.idle.push(&mut self.entries, index);
        }
    }

    /// The next queue pairs that can go on because a key has lost its last hold: the one that has invalidated it, the one that
    /// wants to register it.
    pub fn pop_drained(&mut self) -> Option<[Option<QpId>; 2]> {
        let index = self.drained.pop(&self.entries)?;
        let entry = self.entries.get_mut(index as usize)?;
        let waiters = [entry.waiter.take(), entry.pending.map(|p| p.qp)];
        self.end(index);
        Some(waiters)
    }

    /// The next dead region that nothing reads any more, and the last key it had.
    pub fn pop_idle(&mut self) -> Option<(MrKey, RegionId)> {
        let index = self.idle.pop(&self.entries)?;
        let entry = self.entries.get_mut(index as usize)?;
        entry.state = State::Free;
        let idle = (MrKey::new(index, entry.newest), entry.region);
        self.free.push(&mut self.entries, index);
        Some(idle)
    }

    /// The entry that `key` gives access to, to be changed.
    pub(super) fn valid_mut(&mut self, key: u32, pd: PdId) -> Result<&mut Entry, KeyError> {
        self.valid(key, pd)?;
        self.entries
            .get_mut(MrKey(key).index())
            .ok_or(KeyError::Invalid)
    }
}
