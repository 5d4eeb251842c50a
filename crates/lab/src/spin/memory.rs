//! Memory: registration, fast registration, windows, invalidation, logical address mappings.

use super::model::{Id, Kind, Lam, Model, Named, with};
use super::post::{self, INITIATOR};
use super::raw::{self, Binding, Mapping, Registration};
use super::slot::Slot;
use ndkpi::status::*;
use ndkpi::*;
use ntsim::consumer::Buffer;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Allocates from the machine's pool; None if there is nothing, or is said to be nothing.
fn memory(length: usize) -> Option<Buffer> {
    Buffer::new(length).ok()
}

/// Lets go of memory.
pub(super) fn free(buffer: Option<Buffer>) {
    if let Some(buffer) = buffer {
        buffer.free();
    }
}

pub(super) fn register(side: usize) -> bool {
    let plan = with(|m| {
        let id = if m.chance.one_in(12) {
            m.some(side, Kind::Mr)?
        } else {
            m.some_where(side, Kind::Mr, |m, mr| {
                let mr = m.mr(mr);
                !mr.fast && mr.buffer.is_none()
            })?
        };
        let length = m.chance.of(&[1, 200, 4096, 5000, 20_000, 65_536]);
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
            NDK_MR_FLAG_ALLOW_REMOTE_READ | NDK_MR_FLAG_ALLOW_REMOTE_WRITE
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
        Some((id, m.raw(id), length, said, flags, token, right))
    });
    let Some((id, mr, length, said, flags, token, right)) = plan else {
        return false;
    };
    let Some(buffer) = memory(length) else {
        // Not called after all.
        with(|m| m.returned(token, STATUS_INSUFFICIENT_RESOURCES, right));
        return true;
    };
    let mdl = buffer.mdl();
    with(|m| m.tokens[token].buffer = Some(buffer));
    let status = raw::register_mr(mr, mdl, said, flags, token as u64);
    let unused = with(|m| {
        let registered = m.is_live(id) && status == STATUS_SUCCESS;
        m.returned(token, status, right);
        match status {
            STATUS_PENDING => None,
            STATUS_SUCCESS if registered => {
                self::registered(m, token);
                None
            }
            _ => m.tokens[token].buffer.take(),
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
    let (Some(id), Some(buffer)) = (m.tokens[token].object, m.tokens[token].buffer.take()) else {
        return;
    };
    let mr = m.mr(id);
    mr.named = None;
    if mr.buffer.replace(buffer).is_some() {
        m.fault(format!("MR {id} is registered twice"));
    }
}

pub(super) fn deregister(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Mr)?;
        let mr = m.mr(id);
        mr.named = None;
        mr.initialised = false;
        let buffer = mr.buffer.take();
        let right: &[NTSTATUS] = if buffer.is_some() || mr.fast {
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
        m.tokens[token].buffer = buffer;
        Some((id, m.raw(id), token, right))
    });
    let Some((id, mr, token, right)) = plan else {
        return false;
    };
    let status = raw::deregister_mr(mr, token as u64);
    let unused = with(|m| {
        let held = match status {
            STATUS_PENDING => None,
            _ => m.tokens[token].buffer.take(),
        };
        if status == STATUS_INVALID_DEVICE_REQUEST && held.is_some() {
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
        let fresh = |m: &mut Model, mr: Id| m.mr(mr).fast && !m.mr(mr).initialised;
        let id = if m.chance.one_in(5) {
            m.some(side, Kind::Mr)?
        } else {
            m.some_where(side, Kind::Mr, fresh)?
        };
        let pages = m.chance.of(&[0, 1, 4, 16, 16, 16, 1024, 1025]);
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
            m.mr(id).initialised |= status == STATUS_SUCCESS;
        });
        true
    })
}

pub(super) fn any_tokens(side: usize) -> bool {
    tokens(side, None)
}

/// Asks for the tokens of a region, or of any.
fn tokens(side: usize, id: Option<Id>) -> bool {
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
        if let Some(buffer) = &mr.buffer {
            mr.named = Some(Named {
                address: buffer.address(),
                length: buffer.len() as u32,
                local,
                remote,
            });
        }
        if let Some(named) = &mut mr.named {
            (named.local, named.remote) = (local, remote);
        }
    });
    true
}

/// Asks for the token of a window, or of any.
pub(super) fn mw_token(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Mw)?;
        Some((id, m.raw(id), m.call(side, Slot::RemoteTokenFromMw, &[id])))
    });
    plan.is_some_and(|(id, mw, token)| {
        let remote = raw::mw_token(mw);
        with(|m| {
            if let Some(named) = &mut m.mw(id).named {
                named.remote = remote;
            }
            m.over(token);
        });
        true
    })
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

/// How a request may be answered that concerns this side's memory.
const LOCAL: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_ACCESS_VIOLATION,
];
/// With arguments that are wrong.
const WRONG: &[NTSTATUS] = &[
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_ACCESS_VIOLATION,
];

fn flags(m: &mut Model, rights: u32) -> u32 {
    let mut flags = rights;
    for flag in [
        NDK_OP_FLAG_SILENT_SUCCESS,
        NDK_OP_FLAG_READ_FENCE,
        NDK_OP_FLAG_DEFER,
    ] {
        if m.chance.one_in(4) {
            flags |= flag;
        }
    }
    flags
}

pub(super) fn fast_register(side: usize) -> bool {
    let plan = with(|m| {
        let lams = m.sides[side].lams.len();
        let lam = (lams > 0).then(|| m.chance.index(lams))?;
        let mr = m.some_where(side, Kind::Mr, |m, mr| m.mr(mr).initialised)?;
        let also = |_: &mut Model, _| Some(vec![mr]);
        let (qp, posting) = post::begin(m, side, Slot::FastRegister, INITIATOR, also)?;
        let lam = &mut m.sides[side].lams[lam];
        lam.used = true;
        let (pages, mut first_byte, mut length) = (lam.pages.clone(), lam.first_byte, lam.length);
        let mut base = lam.buffer.address() & !(PAGE as u64 - 1) | u64::from(first_byte);
        let mut is_good = true;
        match m.chance.below(30) {
            0 => (length, is_good) = (length + 8 * PAGE as u32, false),
            1 => (base, is_good) = (base + 1, false),
            2 => (first_byte, is_good) = (PAGE as u32, false),
            3 => (length, is_good) = (0, false),
            _ => {}
        }
        let rights = if m.chance.one_in(25) {
            m.chance.of(&[
                0,
                NDK_OP_FLAG_ALLOW_LOCAL_WRITE,
                NDK_OP_FLAG_ALLOW_REMOTE_READ,
            ])
        } else {
            NDK_OP_FLAG_ALLOW_REMOTE_READ | NDK_OP_FLAG_ALLOW_REMOTE_WRITE
        };
        let flags = flags(m, rights);
        let right = match (is_good, m.qp(qp).given) {
            (true, true) => LOCAL,
            _ => WRONG,
        };
        let raw = m.raw(mr);
        Some((
            posting, mr, raw, pages, first_byte, length, base, flags, right,
        ))
    });
    let Some((posting, id, mr, pages, first_byte, length, base, flags, right)) = plan else {
        return false;
    };
    let what = Registration {
        mr,
        pages: &pages,
        first_byte,
        length,
        base,
    };
    let status = raw::fast_register(posting.qp, posting.request, &what, flags);
    with(|m| {
        if status == STATUS_SUCCESS {
            m.mr(id).named = Some(Named {
                address: base,
                length,
                local: 0,
                remote: 0,
            });
        }
        posting.done(m, status, right);
        drop(pages);
    });
    if status == STATUS_SUCCESS {
        tokens(side, Some(id));
    }
    true
}

pub(super) fn bind(side: usize) -> bool {
    let plan = with(|m| {
        let mw = m.some(side, Kind::Mw)?;
        let mr = m.some_where(side, Kind::Mr, |m, mr| m.mr(mr).named.is_some())?;
        let also = |_: &mut Model, _| Some(vec![mr, mw]);
        let (qp, posting) = post::begin(m, side, Slot::Bind, INITIATOR, also)?;
        let named = m.mr(mr).named?;
        let (mut address, mut length) = (named.address, named.length as usize);
        let mut is_good = true;
        match m.chance.below(30) {
            0 => (length, is_good) = (usize::MAX, false),
            1 => length += 1,
            2 => address = 1,
            3 => length = 0,
            _ => {}
        }
        let all = NDK_OP_FLAG_ALLOW_REMOTE_READ | NDK_OP_FLAG_ALLOW_REMOTE_WRITE;
        let rights = m.chance.of(&[
            all,
            all,
            all,
            all,
            all,
            NDK_OP_FLAG_ALLOW_REMOTE_READ,
            NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
            0,
        ]);
        let flags = flags(m, rights);
        let right = match (is_good, m.qp(qp).given) {
            (true, true) => LOCAL,
            _ => WRONG,
        };
        let bound = Named {
            address,
            length: u32::try_from(length).unwrap_or(0),
            local: 0,
            remote: 0,
        };
        let raws = (m.raw(mr), m.raw(mw));
        Some((posting, mw, raws, length, bound, flags, right))
    });
    let Some((posting, id, (mr, mw), length, bound, flags, right)) = plan else {
        return false;
    };
    let (qp, request) = (posting.qp, posting.request);
    let what = Binding {
        mr,
        mw,
        address: bound.address,
        length,
    };
    let status = raw::bind(qp, request, &what, flags);
    with(|m| {
        if status == STATUS_SUCCESS {
            m.mw(id).named = Some(bound);
        }
        posting.done(m, status, right);
    });
    if status == STATUS_SUCCESS {
        mw_token(side);
    }
    true
}

pub(super) fn invalidate(side: usize) -> bool {
    let plan = with(|m| {
        let kind = m.chance.of(&[Kind::Mr, Kind::Mw]);
        let what = m.some(side, kind)?;
        let also = |_: &mut Model, _| Some(vec![what]);
        let (qp, posting) = post::begin(m, side, Slot::Invalidate, INITIATOR, also)?;
        let flags = flags(m, 0);
        if kind == Kind::Mw {
            m.mw(what).named = None;
        } else if m.mr(what).fast {
            m.mr(what).named = None;
        }
        let right = if m.qp(qp).given { LOCAL } else { WRONG };
        Some((posting, m.raw(what), flags, right))
    });
    plan.is_some_and(|(posting, what, flags, right)| {
        let status = raw::invalidate(posting.qp, posting.request, what, flags);
        with(|m| posting.done(m, status, right));
        true
    })
}

/// Mappings that an adapter has at a time.
const LAMS: usize = 4;

pub(super) fn build_lam(side: usize) -> bool {
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        if m.sides[side].lams.len() >= LAMS {
            return None;
        }
        let length = m.chance.of(&[1, 4096, 9000, 30_000]);
        let case = m.chance.below(12);
        let with_completion = m.chance.percent(50);
        let token = m.call(side, Slot::BuildLam, &[]);
        Some((adapter, length, case, with_completion, token))
    });
    let Some((adapter, length, case, with_completion, token)) = plan else {
        return false;
    };
    // The head and one address for each page, of which an odd start may need one more.
    let room = 16 + 8 * (length / PAGE + 2);
    let (buffer, memory) = match (memory(length), memory(room)) {
        (Some(buffer), Some(memory)) => (buffer, memory),
        (buffer, memory) => {
            free(buffer);
            free(memory);
            // Not called after all.
            with(|m| m.returned(token, STATUS_INSUFFICIENT_RESOURCES, &[]));
            return true;
        }
    };
    let (said, size, right): (usize, u32, &[NTSTATUS]) = match case {
        0 => (length, 0, &[STATUS_BUFFER_TOO_SMALL]),
        1 => (length, 23, &[STATUS_BUFFER_TOO_SMALL]),
        2 => (0, room as u32, &[STATUS_INVALID_PARAMETER]),
        3 => (length + 1, room as u32, &[STATUS_INVALID_PARAMETER]),
        _ => (length, room as u32, &[STATUS_SUCCESS]),
    };
    let (mdl, at) = (buffer.mdl(), memory.address() as usize as *mut u8);
    let mapping = Mapping {
        mdl,
        length: said,
        at,
        size,
        token: with_completion.then_some(token as u64),
    };
    let (status, first_byte) = raw::build_lam(adapter, &mapping);
    let lam = Lam {
        buffer,
        memory,
        first_byte,
        length: length as u32,
        pages: Vec::new(),
        used: false,
    };
    let unused = with(|m| {
        m.returned(token, status, right);
        if status == STATUS_SUCCESS {
            built(m, side, lam);
            None
        } else {
            Some(lam)
        }
    });
    if let Some(lam) = unused {
        lam.buffer.free();
        lam.memory.free();
    }
    true
}

fn built(m: &mut Model, side: usize, mut lam: Lam) {
    raw::pages(lam.memory.address() as usize as *const u8, &mut lam.pages);
    m.sides[side].lams.push(lam);
}

pub(super) fn release_lam(side: usize) -> bool {
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        let lams = &mut m.sides[side].lams;
        let at = lams.iter().position(|lam| !lam.used)?;
        let lam = lams.remove(at);
        Some((adapter, lam, m.call(side, Slot::ReleaseLam, &[])))
    });
    plan.is_some_and(|(adapter, lam, token)| {
        release(adapter, lam, token);
        true
    })
}

/// Releases a mapping, and its memory.
pub(super) fn release(adapter: raw::Raw, lam: Lam, token: usize) {
    raw::release_lam(adapter, lam.memory.address() as usize as *mut u8);
    lam.buffer.free();
    lam.memory.free();
    // The list of pages is the host's memory, wherever it is given back.
    with(|m| m.over(token));
}
