//! The table of all keys: entries, checks, holds.

use super::{Access, DeregisterError, KeyError, MrKey, RegisterError};
use crate::PdId;
use crate::chunks::Chunks;
use crate::event::Event;
use crate::memory::RegionId;
use crate::rc::QpId;
use crate::rng::Rng;
use crate::table::{OutOfMemory, Slot};

/// A checked range of a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub region: RegionId,
    pub offset: u64,
}

/// Names what a transmission holds; valid until released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyHold {
    /// The entry of the key, and that of the region: another one if the key is a window's.
    key: u32,
    region: u32,
}

impl KeyHold {
    /// The hold that [`KeyTable::hold`] gave for `key`, which is not a window's.
    pub const fn of(key: u32) -> KeyHold {
        KeyHold {
            key: key >> 8,
            region: key >> 8,
        }
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
    /// Through the send queue too, and always over part of another entry's region.
    Window,
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

/// A registration or binding that has been posted and not been executed.
#[derive(Clone, Copy)]
pub(super) struct Pending {
    pub qp: QpId,
    pub base: u64,
    pub len: u64,
    pub access: Access,
    pub over: Over,
}

/// What a registration or binding that has been posted is to give access to.
#[derive(Clone, Copy)]
pub(super) enum Over {
    Region(RegionId),
    /// What this key, which is not a window's, gives access to when its turn comes.
    Key(MrKey),
    /// Nothing: a binding of no length, or of a window that has gone.
    Nothing,
}

pub(super) struct Entry {
    pub base: u64,
    pub len: u64,
    /// What the registration that is valid, or was last, refers to; a window's name.
    pub region: RegionId,
    pub pd: PdId,
    /// Holds by transmissions, through this registration or an earlier one: there is no later one before they are gone.
    pub in_flight: u32,
    /// Next in the list that the entry is in.
    next: u32,
    /// It is in the list of drained entries.
    queued: bool,
    /// Counts the registrations that the entry has had, so that a window knows whether its own has ended.
    pub serial: u32,
    /// Windows bound to the valid registration.
    pub windows: u32,
    /// Bindings posted and not executed that name this entry.
    pub binds: u32,
    /// Windows: the entry and the registration that it is bound to, and the queue pair that has bound it.
    pub target: u32,
    pub target_serial: u32,
    pub owner: Option<QpId>,
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
            queued: false,
            serial: 0,
            windows: 0,
            binds: 0,
            target: 0,
            target_serial: 0,
            owner: None,
            access: Access::empty(),
            tag,
            state: State::Free,
            kind: Kind::Region,
            newest: tag,
            pending: None,
            waiter: None,
        }
    }

    /// Whether something still needs what it stands for.
    pub fn is_busy(&self) -> bool {
        self.in_flight > 0 || self.windows > 0 || self.binds > 0
    }

    /// Where in it a range begins that is inside.
    pub fn offset(&self, va: u64, len: u64) -> Result<u64, KeyError> {
        // `va + len` is never formed: it could wrap.
        let offset = va.checked_sub(self.base).ok_or(KeyError::OutOfRange)?;
        let room = self.len.checked_sub(offset).ok_or(KeyError::OutOfRange)?;
        if len > room {
            return Err(KeyError::OutOfRange);
        }
        Ok(offset)
    }

    /// A tag that neither the valid registration has nor the last one posted had.
    pub fn next_tag(&mut self) -> u8 {
        self.newest = self.newest.wrapping_add(1);
        if self.newest == self.tag {
            // Posted and flushed so often that the valid registration's tag would come up again.
            self.newest = self.newest.wrapping_add(1);
        }
        self.newest
    }

    /// Whether it belongs to somebody who has not given it back.
    pub fn is_owned(&self) -> bool {
        matches!(self.state, State::Invalid | State::Valid)
    }
}

/// Entries that the table begins with. They are reused oldest first, and more are not made before all are in use: so few it must not
/// begin with that a key comes again soon.
const FIRST: u32 = 1024;

/// All keys of an adapter.
pub(crate) struct KeyTable {
    pub(super) entries: Chunks<Entry>,
    free: List,
    idle: List,
    /// Entries whose last hold is gone and that somebody waits for.
    drained: List,
    live: u32,
    rng: Rng,
}

/// Intrusive queue over `Entry::next`, an entry being in one list at most; 0 ends it (entry 0 is never used).
#[derive(Default)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    fn push(&mut self, entries: &mut Chunks<Entry>, index: u32) {
        if let Some(e) = entries.get_mut(index) {
            e.next = 0;
        }
        match entries.get_mut(self.tail) {
            Some(tail) if self.tail != 0 => tail.next = index,
            _ => self.head = index,
        }
        self.tail = index;
    }

    fn pop(&mut self, entries: &Chunks<Entry>) -> Option<u32> {
        let index = self.head;
        if index == 0 {
            return None;
        }
        self.head = entries.get(index)?.next;
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
        let mut table = KeyTable {
            entries: Chunks::new(capacity + 1),
            free: List::default(),
            idle: List::default(),
            drained: List::default(),
            live: 0,
            rng: rng.fork(),
        };
        // The one that is never used.
        table
            .entries
            .push(Entry::free(0))
            .map_err(|_| OutOfMemory)?;
        for _ in 0..capacity.min(FIRST) {
            table.add_entry().ok_or(OutOfMemory)?;
        }
        Ok(table)
    }

    /// Makes one more entry, free. `None` if there is no room or no memory.
    fn add_entry(&mut self) -> Option<()> {
        // Random tags, so that keys of an earlier life of the machine do not fit.
        let tag = self.rng.next_u32() as u8;
        let index = self.entries.push(Entry::free(tag)).ok()?;
        self.free.push(&mut self.entries, index);
        Some(())
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
        if self.free.head == 0 {
            self.add_entry().ok_or(RegisterError::TableFull)?;
        }
        let index = self
            .free
            .pop(&self.entries)
            .ok_or(RegisterError::TableFull)?;
        let entry = self
            .entries
            .get_mut(index)
            .ok_or(RegisterError::TableFull)?;
        let tag = entry.newest.wrapping_add(1);
        *entry = Entry {
            pd,
            serial: entry.serial.wrapping_add(1),
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

    /// Ends the key of a region, in whatever state. Gives the protection domain that has one key less now.
    pub fn deregister(&mut self, key: MrKey) -> Result<PdId, (DeregisterError, Option<PdId>)> {
        if self.owned(key).is_none_or(|e| e.kind == Kind::Window) {
            return Err((DeregisterError::Unknown, None));
        }
        self.give_back(key)
    }

    /// Ends the key of a region or of a window that has been unbound. Gives the protection domain that has one key less now.
    pub(super) fn give_back(
        &mut self,
        key: MrKey,
    ) -> Result<PdId, (DeregisterError, Option<PdId>)> {
        let unknown = (DeregisterError::Unknown, None);
        let entry = self.owned(key).ok_or(unknown)?;
        let pd = entry.pd;
        let busy = entry.is_busy();
        entry.state = if busy { State::Dying } else { State::Free };
        self.live = self.live.saturating_sub(1);
        if busy {
            return Err((DeregisterError::Busy, Some(pd)));
        }
        self.free.push(&mut self.entries, key.index());
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

    /// Checks that `key` gives this side's requests in `pd` the access `need` to the whole range. Windows are for the peer only.
    pub fn check(
        &self,
        key: u32,
        pd: PdId,
        va: u64,
        len: u64,
        need: Access,
    ) -> Result<Place, KeyError> {
        let entry = self.valid(key, pd)?;
        if entry.kind == Kind::Window || !entry.access.contains(need) {
            return Err(KeyError::Denied);
        }
        let offset = entry.offset(va, len)?;
        Ok(Place {
            region: entry.region,
            offset,
        })
    }

    /// Checks that `key` gives the peer of queue pair `qp` in `pd` the access `need` to the whole range.
    pub fn check_remote(
        &self,
        key: u32,
        pd: PdId,
        qp: QpId,
        va: u64,
        len: u64,
        need: Access,
    ) -> Result<Place, KeyError> {
        let entry = self.valid(key, pd)?;
        if !entry.access.contains(need) {
            return Err(KeyError::Denied);
        }
        let offset = entry.offset(va, len)?;
        if entry.kind != Kind::Window {
            return Ok(Place {
                region: entry.region,
                offset,
            });
        }
        if entry.owner != Some(qp) {
            return Err(KeyError::Denied);
        }
        let target = self.target(entry).ok_or(KeyError::Invalid)?;
        Ok(Place {
            region: target.region,
            offset: target.offset(va, len)?,
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
        let mut hold = KeyHold::of(key.0);
        if entry.kind == Kind::Window {
            hold.region = entry.target;
            if let Some(target) = self.entries.get_mut(hold.region) {
                target.in_flight += 1;
            }
        }
        Some(hold)
    }

    /// Ends one hold. If it was the last, those who waited for that are found with [`pop_drained`](Self::pop_drained), which has
    /// to be called then; a dead entry that nobody waits for becomes idle.
    pub fn release(&mut self, hold: KeyHold) {
        self.release_entry(hold.key);
        if hold.region != hold.key {
            self.release_entry(hold.region);
        }
    }

    fn release_entry(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if entry.in_flight > 0 {
            return;
        }
        if entry.waiter.is_some() || entry.pending.is_some() {
            entry.queued = true;
            self.drained.push(&mut self.entries, index);
        } else {
            self.end(index);
        }
    }

    /// A dead entry that nothing needs any more becomes idle.
    pub(super) fn end(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if entry.state != State::Dying || entry.is_busy() || entry.queued {
            return;
        }
        entry.state = State::Idle;
        self.idle.push(&mut self.entries, index);
    }

    /// The next queue pairs that can go on because a key has lost its last hold: the one that has invalidated it, the one that
    /// wants to register it.
    pub fn pop_drained(&mut self) -> Option<[Option<QpId>; 2]> {
        let index = self.drained.pop(&self.entries)?;
        let entry = self.entries.get_mut(index)?;
        entry.queued = false;
        let waiters = [entry.waiter.take(), entry.pending.map(|p| p.qp)];
        self.end(index);
        Some(waiters)
    }

    /// What is to be told of the next dead region or window that nothing reads through any more.
    pub fn pop_idle(&mut self) -> Option<Event> {
        let index = self.idle.pop(&self.entries)?;
        let entry = self.entries.get_mut(index)?;
        entry.state = State::Free;
        let idle = match entry.kind {
            Kind::Window => Event::WindowIdle {
                window: entry.region.0,
            },
            Kind::Region | Kind::Fast { .. } => Event::RegionIdle {
                key: MrKey::new(index, entry.newest),
                region: entry.region,
            },
        };
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
