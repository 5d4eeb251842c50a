//! Memory: registration, and what tokens name.

use super::data::GroundId;
use super::model::{Id, Kind, Model, Named, with};
use super::raw;
use super::slot::Slot;
use ndkpi::status::*;
use ndkpi::*;
use ntsim::ndk::Buffer;
use std::ptr::null_mut;

/// Allocates from the machine's pool; None if there is nothing, or is said to be nothing.
pub(super) fn allocate(length: usize) -> Option<GroundId> {
    let buffer = Buffer::new(length).ok()?;
    Some(with(|m| m.grounds.add(buffer)))
}

/// Lets go of memory, in which nothing may have changed that nobody was to write to.
pub(super) fn free(ground: Option<GroundId>) {
    let buffer = with(|m| {
        let ground = ground?;
        let (buffer, changed) = m.grounds.give_up(ground);
        if let Some(offset) = changed {
            let length = m.grounds.length(ground);
            m.fault(format!(
                "somebody wrote to byte {offset} of buffer {ground}, which has {length}"
            ));
        }
        buffer
    });
    if let Some(buffer) = buffer {
        buffer.free();
    }
}

/// What makes a region open to everything.
const ALL: u32 = NDK_MR_FLAG_ALLOW_REMOTE_READ | NDK_MR_FLAG_ALLOW_REMOTE_WRITE;

pub(super) fn register(side: usize) -> bool {
    let plan = with(|m| {
        // A region for fast registration cannot be registered so.
        let any_kind = m.careless && m.chance.one_in(12);
        let again = m.chance.one_in(30);
        let id = m.some_where(side, Kind::Mr, |m, mr| {
            let mr = m.mr(mr);
            (any_kind || !mr.fast) && (again || mr.ground.is_none())
        })?;
        let length = m.chance.of(&[1, 200, 4096, 20_000, 65_536, 65_536]);
        let (said, is_good) = match m.chance.below(20) {
            0 => (0, false),
            1 => (length + 1, false),
            _ => (length, true),
        };
        let flags = if m.chance.one_in(25) {
            m.chance.of(&[
                NDK_MR_FLAG_ALLOW_LOCAL_READ,
                NDK_MR_FLAG_ALLOW_LOCAL_WRITE,
                NDK_MR_FLAG_ALLOW_REMOTE_READ,
                NDK_MR_FLAG_RDMA_READ_SINK,
            ])
        } else {
            ALL
        };
        let right: &[NTSTATUS] = match (m.mr(id).fast, is_good) {
            (true, _) => &[STATUS_INVALID_DEVICE_REQUEST],
            // It may be registered already.
            (false, false) => &[STATUS_INVALID_PARAMETER, STATUS_INVALID_DEVICE_REQUEST],
            (false, true) => &[
                STATUS_SUCCESS,
                STATUS_PENDING,
                STATUS_INVALID_DEVICE_REQUEST,
            ],
        };
        let token = m.call(side, Slot::RegisterMr, &[id]);
        let before = m.mr(id).deregistrations;
        Some((id, before, m.raw(id), length, said, flags, token, right))
    });
    let Some((id, before, mr, length, said, flags, token, right)) = plan else {
        return false;
    };
    let Some(ground) = allocate(length) else {
        // Not called after all.
        with(|m| m.not_called(token));
        return true;
    };
    let mdl = with(|m| {
        m.tokens[token].ground = Some(ground);
        m.grounds.buffer(ground).map(Buffer::mdl)
    });
    let mdl = mdl.unwrap_or(null_mut());
    with(|m| m.tokens[token].open = flags & ALL == ALL);
    let status = raw::register_mr(mr, mdl, said, flags, token as u64);
    let unused = with(|m| {
        let registered = m.is_live(id) && status == STATUS_SUCCESS;
        m.returned(token, status, right);
        match status {
            STATUS_PENDING => None,
            STATUS_SUCCESS if registered => {
                let unsure = m.mr(id).deregistrations != before;
                if unsure && m.mr(id).ground.is_some() {
                    // It was deregistered, and registered anew.
                    return m.tokens[token].ground.take();
                }
                self::registered(m, token);
                let mr = m.mr(id);
                mr.unsure = unsure;
                if unsure {
                    mr.named = None;
                }
                None
            }
            _ => m.tokens[token].ground.take(),
        }
    });
    free(unused);
    if status == STATUS_SUCCESS {
        tokens(side, Some(id));
    }
    true
}

/// A region is registered with the memory that the request holds.
pub(super) fn registered(m: &mut Model, token: usize) {
    let (Some(id), Some(ground)) = (m.tokens[token].object, m.tokens[token].ground.take()) else {
        return;
    };
    let open = m.tokens[token].open;
    let mr = m.mr(id);
    mr.named = Some(Named {
        ground,
        local: 0,
        remote: 0,
        open,
        ready: true,
    });
    if mr.ground.replace(ground).is_some() {
        m.fault(format!("MR {id} is registered twice"));
    }
}

pub(super) fn deregister(side: usize) -> bool {
    let plan = with(|m| {
        // Requests of this side must not use it. Those of the peer may, but that ends the connection.
        let careless = m.careless && m.chance.percent(20);
        let rough = careless || m.chance.one_in(20);
        let id = m.some_where(side, Kind::Mr, |m, mr| {
            let is_free = m.objects[mr].local == 0 && !m.objects[mr].changing;
            careless || (is_free && (rough || m.objects[mr].remote == 0))
        })?;
        m.close_windows(id);
        let mr = m.mr(id);
        mr.named = None;
        mr.initialised = None;
        mr.deregistrations += 1;
        let unsure = std::mem::take(&mut mr.unsure);
        let ground = mr.ground.take();
        let right: &[NTSTATUS] = if ground.is_some() || mr.fast {
            &[
                STATUS_SUCCESS,
                STATUS_PENDING,
                STATUS_INVALID_DEVICE_REQUEST,
            ]
        } else {
            // It may be being registered, or deregistered.
            &[
                STATUS_INVALID_DEVICE_REQUEST,
                STATUS_SUCCESS,
                STATUS_PENDING,
            ]
        };
        let token = m.call(side, Slot::DeregisterMr, &[id]);
        m.tokens[token].ground = ground;
        Some((id, unsure, m.raw(id), token, right))
    });
    let Some((id, unsure, mr, token, right)) = plan else {
        return false;
    };
    let status = raw::deregister_mr(mr, token as u64);
    let unused = with(|m| {
        let held = match status {
            STATUS_PENDING => None,
            _ => m.tokens[token].ground.take(),
        };
        if status == STATUS_INVALID_DEVICE_REQUEST && held.is_some() && !unsure {
            m.fault(format!("MR {id} is registered and cannot be deregistered"));
        }
        m.returned(token, status, right);
        held
    });
    free(unused);
    true
}

pub(super) fn initialize(side: usize) -> bool {
    let plan = with(|m| {
        // A region that is not for fast registration cannot be.
        let any_kind = m.careless && m.chance.one_in(12);
        let again = m.chance.one_in(12);
        let id = m.some_where(side, Kind::Mr, |m, mr| {
            let mr = m.mr(mr);
            (any_kind || mr.fast) && (again || mr.initialised.is_none())
        })?;
        let pages = match m.chance.below(12) {
            0 => m.chance.of(&[0, 1025]),
            1 => m.chance.of(&[1, 4]),
            _ => m.chance.of(&[16, 1024]),
        };
        let remote = !m.chance.one_in(6);
        let right: &[NTSTATUS] = match ((1..=1024).contains(&pages), m.mr(id).fast) {
            (false, _) => &[STATUS_IMPLEMENTATION_LIMIT],
            (true, false) => &[STATUS_INVALID_DEVICE_REQUEST],
            (true, true) => &[
                STATUS_SUCCESS,
                STATUS_PENDING,
                STATUS_INVALID_DEVICE_REQUEST,
            ],
        };
        let token = m.call(side, Slot::InitializeFastRegisterMr, &[id]);
        Some((id, m.raw(id), pages, remote, token, right))
    });
    plan.is_some_and(|(id, mr, pages, remote, token, right)| {
        let status = raw::initialize_fast(mr, pages, remote, token as u64);
        with(|m| {
            m.returned(token, status, right);
            if status == STATUS_SUCCESS {
                m.mr(id).initialised = Some(remote);
            }
        });
        true
    })
}

pub(super) fn any_tokens(side: usize) -> bool {
    tokens(side, None)
}

/// Asks for the tokens of a region, or of any.
pub(super) fn tokens(side: usize, id: Option<Id>) -> bool {
    let mut found = [0; 2];
    let mut asked = None;
    for (remote, slot) in [
        (false, Slot::LocalTokenFromMr),
        (true, Slot::RemoteTokenFromMr),
    ] {
        let plan = with(|m| {
            m.adapter(side)?;
            let id = match asked.or(id) {
                Some(id) => m.is_live(id).then_some(id)?,
                None => m.some(side, Kind::Mr)?,
            };
            let token = m.call(side, slot, &[id]);
            Some((id, m.raw(id), token))
        });
        let Some((id, mr, token)) = plan else {
            return asked.is_some();
        };
        found[usize::from(remote)] = raw::mr_token(mr, remote);
        with(|m| m.over(token));
        asked = Some(id);
    }
    let [local, remote] = found;
    with(|m| {
        let Some(id) = asked else { return };
        let mr = m.mr(id);
        if let Some(named) = &mut mr.named {
            (named.local, named.remote) = (local, remote);
        }
    });
    true
}

pub(super) fn privileged(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Pd)?;
        let token = m.call(side, Slot::PrivilegedToken, &[id]);
        Some((id, m.raw(id), token))
    });
    plan.is_some_and(|(id, pd, token)| {
        let found = raw::privileged_token(pd);
        with(|m| {
            if let super::model::Body::Pd { privileged } = &mut m.objects[id].body {
                *privileged = Some(found);
            }
            m.over(token);
        });
        true
    })
}
