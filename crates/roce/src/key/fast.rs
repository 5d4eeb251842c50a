//! Keys that are registered and invalidated in the order of a send queue (IBTA 10.6: fast registration, invalidation).
//!
//! The operands of a registration stay in the entry from the post to the execution: one may be posted at a time.

use super::table::{Kind, Over, Pending, State};
use super::{Access, KeyError, KeyTable, MrKey, RegisterError};
use crate::PdId;
use crate::memory::RegionId;
use crate::rc::QpId;
use crate::request::PostError;

/// Who asks for an invalidation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum By {
    /// A request of this side.
    Consumer,
    /// A SEND with invalidate. The peer may end what it may use, and nothing else.
    Peer,
}

/// What came of executing a posted registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Registered {
    Done,
    /// Transmissions still read the memory of the registration before. `pop_drained` names the queue pair when they are done.
    NotYet,
    /// There is a valid registration, or the entry has gone.
    Refused,
}

/// What a fast registration is to be.
#[derive(Clone, Copy)]
pub(crate) struct Registration {
    pub base: u64,
    pub len: u64,
    pub access: Access,
    pub region: RegionId,
}

impl KeyTable {
    /// Allocates a key that gives access to nothing until it is registered through a send queue. Only if `remote` may its
    /// registrations give the peer access.
    pub fn register_fast(&mut self, pd: PdId, remote: bool) -> Result<MrKey, RegisterError> {
        self.allocate(pd, |entry| {
            entry.kind = Kind::Fast { remote };
            entry.state = State::Invalid;
        })
    }

    /// Notes a registration that queue pair `qp` in `pd` is to execute, and gives the key it will have.
    pub fn post_fast(
        &mut self,
        key: MrKey,
        pd: PdId,
        qp: QpId,
        registration: &Registration,
    ) -> Result<MrKey, PostError> {
        let Registration {
            base,
            len,
            access,
            region,
        } = *registration;
        let entry = self.owned(key).ok_or(PostError::UnknownKey)?;
        let Kind::Fast { remote } = entry.kind else {
            return Err(PostError::UnknownKey);
        };
        if entry.pd != pd {
            return Err(PostError::WrongPd);
        }
        if access.intersects(Access::REMOTE) && !remote {
            return Err(PostError::AccessDenied);
        }
        if base.checked_add(len).is_none() {
            return Err(PostError::InvalidRange);
        }
        if entry.pending.is_some() {
            return Err(PostError::KeyBusy);
        }
        if entry.state == State::Invalid && entry.in_flight == 0 {
            // What its owner is told of should it be deregistered before, and be idle only later.
            entry.region = region;
        }
        entry.pending = Some(Pending {
            qp,
            base,
            len,
            access,
            over: Over::Region(region),
        });
        Ok(MrKey::new(key.index(), entry.next_tag()))
    }

    /// Executes the registration for which [`post_fast`](Self::post_fast) gave `key`.
    pub fn execute_fast(&mut self, key: MrKey) -> Registered {
        let Some(entry) = self.owned(key) else {
            return Registered::Refused;
        };
        let Some(pending) = entry.pending else {
            return Registered::Refused;
        };
        let Over::Region(region) = pending.over else {
            return Registered::Refused;
        };
        if entry.state == State::Valid {
            return Registered::Refused;
        }
        if entry.in_flight > 0 {
            return Registered::NotYet;
        }
        entry.pending = None;
        entry.base = pending.base;
        entry.len = pending.len;
        entry.region = region;
        entry.access = pending.access;
        entry.tag = entry.newest;
        entry.state = State::Valid;
        Registered::Done
    }

    /// Takes back the registration or binding for which `key` was given when it was posted, unless it has been executed.
    pub fn cancel(&mut self, key: MrKey) {
        if let Some(Over::Key(mr)) = self
            .owned(key)
            .and_then(|e| e.pending.take())
            .map(|p| p.over)
        {
            self.bind_over(mr);
        }
    }

    /// The region that the entry's valid registration refers to.
    pub fn valid_region(&self, key: MrKey) -> Option<RegionId> {
        self.entries
            .get(key.index())
            .filter(|e| e.state == State::Valid && e.newest == key.tag() && e.kind != Kind::Window)
            .map(|e| e.region)
    }

    /// Of two regions that an entry's registrations refer to in turn, the one that nothing is read through.
    pub fn spare_region(&self, key: MrKey, [first, second]: [RegionId; 2]) -> RegionId {
        let used = self
            .entries
            .get(key.index())
            .filter(|e| e.state == State::Valid || e.in_flight > 0)
            .map(|e| e.region);
        if used == Some(first) { second } else { first }
    }

    /// The key under which an entry gives access, or will when what is posted has been executed. It is not the newest if the one that
    /// had that was taken back.
    pub fn current(&self, newest: MrKey) -> Option<MrKey> {
        let entry = self
            .entries
            .get(newest.index())
            .filter(|e| e.is_owned() && e.newest == newest.tag())?;
        let is_old = entry.state == State::Valid && entry.pending.is_none();
        Some(if is_old {
            MrKey::new(newest.index(), entry.tag)
        } else {
            newest
        })
    }

    /// Whether `key` is of a kind that a queue pair in `pd` can invalidate. It need not be valid.
    pub fn check_invalidatable(&self, key: MrKey, pd: PdId) -> Result<(), PostError> {
        match self.entries.get(key.index()) {
            Some(e) if e.is_owned() && e.kind != Kind::Region => {
                if e.pd == pd {
                    Ok(())
                } else {
                    Err(PostError::WrongPd)
                }
            }
            _ => Err(PostError::UnknownKey),
        }
    }

    /// Whether [`invalidate`](Self::invalidate) would succeed.
    pub fn can_invalidate(&self, key: u32, pd: PdId, qp: QpId, by: By) -> Result<(), KeyError> {
        let entry = self.valid(key, pd)?;
        let is_peers = entry.access.intersects(Access::REMOTE)
            && (entry.kind != Kind::Window || entry.owner == Some(qp));
        if entry.kind == Kind::Region || by == By::Peer && !is_peers {
            return Err(KeyError::Denied);
        }
        Ok(())
    }

    /// Ends the registration that `key` stands for: nothing gets at the memory through it from here on. While
    /// [`is_draining`](Self::is_draining), transmissions still read it; then [`pop_drained`](Self::pop_drained) names `qp`.
    pub fn invalidate(&mut self, key: u32, pd: PdId, qp: QpId, by: By) -> Result<(), KeyError> {
        self.can_invalidate(key, pd, qp, by)?;
        let entry = self.valid_mut(key, pd)?;
        if entry.in_flight > 0 {
            entry.waiter = Some(qp);
        }
        if entry.kind == Kind::Window {
            self.unbind(MrKey(key));
        } else {
            // Windows over it are dead from here on.
            entry.state = State::Invalid;
            entry.serial = entry.serial.wrapping_add(1);
            entry.windows = 0;
        }
        Ok(())
    }

    /// Whether transmissions still read through a key that has been invalidated.
    pub fn is_draining(&self, key: u32) -> bool {
        let key = MrKey(key);
        self.entries
            .get(key.index())
            .is_some_and(|e| e.waiter.is_some() && e.tag == key.tag())
    }
}
