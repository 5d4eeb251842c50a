//! Requests that change what tokens name: fast registration, windows, invalidation.

use super::memory::tokens;
use super::model::{Id, Kind, Model, Named, with};
use super::post::{begin, choose, flags, request};
use super::raw::{self, Binding, Registration};
use super::request::{INITIATOR, What};
use super::slot::Slot;
use ndkpi::status::*;
use ndkpi::*;

/// How a request may be answered that concerns this side's memory.
const LOCAL: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CONNECTION_INVALID,
    STATUS_DEVICE_BUSY,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_ACCESS_VIOLATION,
];
/// With arguments that are wrong.
const WRONG: &[NTSTATUS] = &[
    STATUS_CONNECTION_INVALID,
    STATUS_DEVICE_BUSY,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_INVALID_PARAMETER,
    STATUS_ACCESS_VIOLATION,
];

/// What opens a region or a window to everything.
const ALL: u32 = NDK_OP_FLAG_ALLOW_REMOTE_READ | NDK_OP_FLAG_ALLOW_REMOTE_WRITE;

/// A QP for a request about memory in a protection domain; one in a while any.
fn some_qp(m: &mut Model, side: usize, pd: Id) -> Option<Id> {
    let stranger = m.chance.one_in(60);
    choose(m, side, |m, qp| stranger || m.qp(qp).pd == pd)
}

/// Tokens that are not known yet.
fn names(ground: super::data::GroundId, open: bool) -> Named {
    Named {
        ground,
        local: 0,
        remote: 0,
        open,
        ready: false,
    }
}

pub(super) fn fast_register(side: usize) -> bool {
    let plan = with(|m| {
        let lams = m.sides[side].lams.len();
        let lam = (lams > 0).then(|| m.chance.index(lams))?;
        // One that names memory already cannot.
        let again = m.chance.one_in(60);
        let mr = m.some_where(side, Kind::Mr, |m, id| {
            let free = m.mr(id).named.is_none() && !m.is_used(id);
            m.mr(id).initialised.is_some() && (again || free)
        })?;
        let pd = m.mr(mr).pd;
        let qp = some_qp(m, side, pd)?;
        let lam = &mut m.sides[side].lams[lam];
        lam.used = true;
        let (pages, mut first_byte, ground) = (lam.pages.clone(), lam.first_byte, lam.ground);
        let (mut base, mut length) = (m.grounds.address(ground), m.grounds.length(ground));
        let mut is_good = true;
        match m.chance.below(100) {
            0 => (length, is_good) = (length + 8 * 4096, false),
            1 => (base, is_good) = (base + 1, false),
            2 => (first_byte, is_good) = (4096, false),
            3 => (length, is_good) = (0, false),
            _ => {}
        }
        let rights = if m.chance.one_in(25) {
            m.chance.of(&[
                0,
                NDK_OP_FLAG_ALLOW_LOCAL_WRITE,
                NDK_OP_FLAG_ALLOW_REMOTE_READ,
            ])
        } else if m.mr(mr).initialised == Some(true) || m.chance.one_in(20) {
            ALL
        } else {
            NDK_OP_FLAG_ALLOW_LOCAL_WRITE
        };
        let what = if is_good && m.mr(mr).named.is_none() {
            m.mr(mr).named = Some(names(ground, rights == ALL));
            What::Name(mr)
        } else {
            What::Nothing
        };
        let flags = flags(m, qp) | rights;
        let request = request(flags, what, vec![mr], Vec::new());
        let right = match (is_good, m.qp(qp).given) {
            (true, true) => LOCAL,
            _ => WRONG,
        };
        let posting = begin(m, Slot::FastRegister, (qp, INITIATOR), &[mr], request);
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
        posting.done(m, status, right);
        // The list of pages is the host's memory.
        drop(pages);
    });
    if status == STATUS_SUCCESS {
        tokens(side, Some(id));
    }
    true
}

pub(super) fn bind(side: usize) -> bool {
    let plan = with(|m| {
        let again = m.chance.one_in(10);
        let mw = m.some_where(side, Kind::Mw, |m, id| {
            again || (m.mw(id).named.is_none() && !m.is_used(id))
        })?;
        let pd = m.mw(mw).pd;
        let stranger = m.chance.one_in(60);
        let mr = m.some_where(side, Kind::Mr, |m, id| {
            let mr = m.mr(id);
            let good = mr.pd == pd && mr.named.is_some_and(|named| named.is_good());
            good || (stranger && mr.named.is_some())
        })?;
        let qp = some_qp(m, side, pd)?;
        let named = m.mr(mr).named?;
        let (mut address, length) = (
            m.grounds.address(named.ground),
            m.grounds.length(named.ground),
        );
        let mut length = length as usize;
        let mut is_good = true;
        let mut is_right = true;
        match m.chance.below(100) {
            0 => (length, is_good) = (usize::MAX, false),
            1 => (length, is_right) = (length + 1, false),
            2 => (address, is_right) = (1, false),
            3 => (length, is_right) = (0, false),
            _ => {}
        }
        let rights = if m.chance.one_in(12) {
            m.chance.of(&[
                0,
                NDK_OP_FLAG_ALLOW_REMOTE_READ,
                NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
            ])
        } else {
            ALL
        };
        let what = if is_good && is_right && m.mw(mw).named.is_none() && !m.is_used(mw) {
            let body = m.mw(mw);
            body.named = Some(names(named.ground, rights == ALL));
            (body.mr, body.qp) = (Some(mr), Some(qp));
            What::Name(mw)
        } else {
            // Whatever it was a window on: the walk does not know now.
            m.mw(mw).named = None;
            What::Nothing
        };
        let flags = flags(m, qp) | rights;
        let request = request(flags, what, vec![mw, mr], Vec::new());
        let right = match (is_good, m.qp(qp).given) {
            (true, true) => LOCAL,
            _ => WRONG,
        };
        let posting = begin(m, Slot::Bind, (qp, INITIATOR), &[mr, mw], request);
        let binding = Binding {
            mr: m.raw(mr),
            mw: m.raw(mw),
            address,
            length,
        };
        Some((posting, mw, binding, flags, right))
    });
    let Some((posting, id, binding, flags, right)) = plan else {
        return false;
    };
    let status = raw::bind(posting.qp, posting.request, &binding, flags);
    with(|m| posting.done(m, status, right));
    if status == STATUS_SUCCESS {
        window_token(side, Some(id));
    }
    true
}

/// Asks for the token of any window.
pub(super) fn mw_token(side: usize) -> bool {
    window_token(side, None)
}

fn window_token(side: usize, id: Option<Id>) -> bool {
    let plan = with(|m| {
        m.adapter(side)?;
        let id = match id {
            Some(id) => m.is_live(id).then_some(id)?,
            None => m.some(side, Kind::Mw)?,
        };
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

pub(super) fn invalidate(side: usize) -> bool {
    let plan = with(|m| {
        let kind = m.chance.of(&[Kind::Mr, Kind::Mw]);
        // Seldom one that requests use, or that names nothing. A region that is not for fast registration cannot be.
        let any = m.chance.one_in(30);
        let any_kind = m.careless && any;
        let what = m.some_where(side, kind, |m, id| {
            let is_fast = kind == Kind::Mw || m.mr(id).fast;
            let is_good = !m.is_used(id) && m.named(id).is_some_and(|named| named.is_good());
            (any || is_good) && (any_kind || is_fast)
        })?;
        let (pd, owner) = if kind == Kind::Mw {
            (m.mw(what).pd, m.mw(what).qp)
        } else {
            (m.mr(what).pd, None)
        };
        let qp = choose(m, side, |m, qp| {
            any || (m.qp(qp).pd == pd && owner.is_none_or(|owner| owner == qp))
        })?;
        let flags = flags(m, qp);
        let mut request = request(flags, What::Nothing, vec![what], Vec::new());
        let names = kind == Kind::Mw || m.mr(what).fast;
        if names && !m.is_used(what) {
            request.unnames = (*m.named(what)).map(|named| (what, named));
        }
        let right = if m.qp(qp).given { LOCAL } else { WRONG };
        let posting = begin(m, Slot::Invalidate, (qp, INITIATOR), &[what], request);
        Some((posting, m.raw(what), flags, right))
    });
    plan.is_some_and(|(posting, what, flags, right)| {
        let status = raw::invalidate(posting.qp, posting.request, what, flags);
        with(|m| posting.done(m, status, right));
        true
    })
}
