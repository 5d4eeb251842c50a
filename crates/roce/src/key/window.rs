//! Memory windows of type 2: keys for part of a region, bound and invalidated in the order of a send queue (IBTA 10.6.7).
//!
//! The relation to the region lasts from the post of the binding until the window is bound anew, invalidated or destroyed, the fast
//! registration under it is invalidated, or the binding is flushed; a region that has been deregistered serves its windows until then
//! (NDKPI digest X-26).

use super::table::{Entry, Kind, Over, Pending, State};
use super::{Access, DeregisterError, KeyTable, MrKey, RegisterError, Registered};
use crate::PdId;
use crate::memory::RegionId;
use crate::rc::QpId;
use crate::request::PostError;

/// What a window is to be bound to.
#[derive(Clone, Copy)]
pub(crate) struct Binding {
    pub mr: MrKey,
    pub va: u64,
    pub len: u64,
    pub access: Access,
}

impl KeyTable {
    /// Allocates a key that gives access to nothing until it is bound.
    pub fn create_window(&mut self, pd: PdId, name: u64) -> Result<MrKey, RegisterError> {
        self.allocate(pd, |entry| {
            entry.kind = Kind::Window;
            entry.region = RegionId(name);
            entry.state = State::Invalid;
        })
    }

    /// Ends a window, bound or not. Gives the protection domain that has one key less now.
    pub fn destroy_window(&mut self, key: MrKey) -> Result<PdId, (DeregisterError, Option<PdId>)> {
        let entry = self
            .owned(key)
            .filter(|e| e.kind == Kind::Window)
            .ok_or((DeregisterError::Unknown, None))?;
        // A binding that waits for the NIC is woken when that is done, and finds nothing.
        let over = entry
            .pending
            .as_mut()
            .map(|p| core::mem::replace(&mut p.over, Over::Nothing));
        if let Some(Over::Key(mr)) = over {
            self.bind_over(mr);
        }
        self.unbind(key);
        self.give_back(key)
    }

    /// The region that a bound window lies in, unless its registration has ended.
    pub(super) fn target(&self, window: &Entry) -> Option<&Entry> {
        self.entries.get(window.target).filter(|e| {
            matches!(e.state, State::Valid | State::Dying) && e.serial == window.target_serial
        })
    }

    /// Notes a binding that queue pair `qp` in `pd` is to execute, and gives the key that the window will have.
    pub fn post_bind(
        &mut self,
        window: MrKey,
        pd: PdId,
        qp: QpId,
        binding: &Binding,
    ) -> Result<MrKey, PostError> {
        let Binding {
            mr,
            va,
            len,
            access,
        } = *binding;
        let entry = self
            .owned(window)
            .filter(|e| e.kind == Kind::Window)
            .ok_or(PostError::UnknownKey)?;
        if entry.pd != pd {
            return Err(PostError::WrongPd);
        }
        if va.checked_add(len).is_none() {
            return Err(PostError::InvalidRange);
        }
        if entry.pending.is_some() {
            return Err(PostError::KeyBusy);
        }
        let access = access & Access::REMOTE;
        let over = if len == 0 {
            Over::Nothing
        } else {
            self.bind_posted(mr, pd, access)?;
            Over::Key(mr)
        };
        let entry = self.owned(window).ok_or(PostError::UnknownKey)?;
        entry.pending = Some(Pending {
            qp,
            base: va,
            len,
            access,
            over,
        });
        Ok(MrKey::new(window.index(), entry.next_tag()))
    }

    /// Checks what can be known of the region that a window is to be bound to, and notes the relation.
    fn bind_posted(&mut self, mr: MrKey, pd: PdId, access: Access) -> Result<(), PostError> {
        let entry = self
            .entries
            .get_mut(mr.index())
            .filter(|e| e.is_owned() && e.kind != Kind::Window)
            .ok_or(PostError::UnknownKey)?;
        if entry.pd != pd {
            return Err(PostError::WrongPd);
        }
        // Valid now, or when the registration posted before has been executed.
        let permitted = match entry.pending {
            _ if entry.state == State::Valid && entry.tag == mr.tag() => entry.access,
            Some(pending) if entry.newest == mr.tag() => pending.access,
            _ => return Err(PostError::UnknownKey),
        };
        let writes = Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
        if access.intersects(writes) && !permitted.contains(Access::LOCAL_WRITE) {
            return Err(PostError::AccessDenied);
        }
        entry.binds += 1;
        Ok(())
    }

    /// A binding that named `mr` is no longer posted.
    pub(super) fn bind_over(&mut self, mr: MrKey) {
        if let Some(entry) = self.entries.get_mut(mr.index()) {
            entry.binds = entry.binds.saturating_sub(1);
            self.end(mr.index());
        }
    }

    /// Executes the binding for which [`post_bind`](Self::post_bind) gave `key`. What the window was bound to before is out of reach
    /// when it is done: while transmissions still read it, the window gives access to nothing.
    pub fn execute_bind(&mut self, key: MrKey) -> Registered {
        let Some(entry) = self.owned(key).filter(|e| e.kind == Kind::Window) else {
            return Registered::Refused;
        };
        let Some(pending) = entry.pending else {
            return Registered::Refused;
        };
        let target = match pending.over {
            Over::Key(mr) => match self.entries.get(mr.index()) {
                Some(e)
                    if e.state == State::Valid
                        && e.tag == mr.tag()
                        && e.offset(pending.base, pending.len).is_ok() =>
                {
                    Some((mr, e.serial))
                }
                _ => return Registered::Refused,
            },
            _ => None,
        };
        self.unbind(key);
        let Some(entry) = self.owned(key) else {
            return Registered::Refused;
        };
        if entry.in_flight > 0 {
            return Registered::NotYet;
        }
        entry.pending = None;
        entry.tag = entry.newest;
        let Some((mr, serial)) = target else {
            return Registered::Done;
        };
        entry.base = pending.base;
        entry.len = pending.len;
        entry.access = pending.access;
        entry.owner = Some(pending.qp);
        entry.target = mr.index();
        entry.target_serial = serial;
        entry.state = State::Valid;
        if let Some(region) = self.entries.get_mut(mr.index()) {
            region.windows += 1;
        }
        self.bind_over(mr);
        Registered::Done
    }

    /// Ends what a window gives access to, if it does, and its relation to the region.
    pub(super) fn unbind(&mut self, key: MrKey) {
        let Some(entry) = self
            .entries
            .get_mut(key.index())
            .filter(|e| e.state == State::Valid)
        else {
            return;
        };
        entry.state = State::Invalid;
        let (target, serial) = (entry.target, entry.target_serial);
        if let Some(region) = self.entries.get_mut(target)
            && region.serial == serial
        {
            region.windows = region.windows.saturating_sub(1);
            self.end(target);
        }
    }
}
