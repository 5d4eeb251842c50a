//! Closing: any object, at any time, before what depends on it and after.

use super::memory;
use super::model::{Id, Kind, Model, Phase, with};
use super::raw;
use super::slot::Slot;
use ndkpi::status::*;

fn slot(kind: Kind) -> Slot {
    match kind {
        Kind::Pd => Slot::ClosePd,
        Kind::Cq => Slot::CloseCq,
        Kind::Qp => Slot::CloseQp,
        Kind::Srq => Slot::CloseSrq,
        Kind::Mr => Slot::CloseMr,
        Kind::Mw => Slot::CloseMw,
        Kind::Connector => Slot::CloseConnector,
        Kind::Listener => Slot::CloseListener,
        Kind::SharedEndpoint => Slot::CloseSharedEndpoint,
    }
}

/// Closes an object, if nobody is calling it.
pub(super) fn close(id: Id) -> bool {
    let begun = with(|m| {
        let raw = m.can_close(id).then(|| m.raw(id))?;
        let slot = slot(m.objects[id].kind);
        Some((raw, m.close(id, slot)))
    });
    let Some((object, token)) = begun else {
        return false;
    };
    let status = raw::close(object, token as u64);
    let ground = with(|m| {
        m.returned(token, status, &[STATUS_SUCCESS, STATUS_PENDING]);
        (status == STATUS_SUCCESS).then(|| m.closed(id)).flatten()
    });
    memory::free(ground);
    true
}

/// Closes any object.
pub(super) fn any(side: usize) -> bool {
    let id = with(|m| {
        // What connections need goes less often, so that there are some.
        let kind = m.chance.weighted(&[
            (1, Kind::Pd),
            (2, Kind::Cq),
            (6, Kind::Qp),
            (2, Kind::Srq),
            (6, Kind::Mr),
            (6, Kind::Mw),
            (6, Kind::Connector),
            (6, Kind::Listener),
            (9, Kind::SharedEndpoint),
        ]);
        let used = m.chance.one_in(8);
        m.some_where(side, kind, |m, id| used || !m.is_used(id))
    });
    id.is_some_and(close)
}

/// Closes a connector whose connection is over, or a QP that has had one.
pub(super) fn spent(side: usize) -> bool {
    let id = with(|m| {
        let over = |m: &mut Model, c: Id| match m.connector(c).phase {
            Phase::Over | Phase::PeerGone | Phase::Unsure => true,
            Phase::Connected => {
                let qp = m.connector(c).qp;
                qp.is_some_and(|qp| !m.is_live(qp) || m.qp(qp).dead || is_orphan(m, qp))
            }
            _ => false,
        };
        let alone = |m: &mut Model, qp: Id| {
            let user = m.qp(qp).connector;
            let unused = user.is_none() && (m.qp(qp).dead || is_orphan(m, qp));
            unused || user.is_some_and(|connector| !m.is_live(connector))
        };
        match m.some_where(side, Kind::Connector, over) {
            Some(connector) => Some(connector),
            None => m.some_where(side, Kind::Qp, alone),
        }
    });
    id.is_some_and(close)
}

/// What a QP needs is being closed, or dead: nothing is to be expected of it.
fn is_orphan(m: &mut Model, qp: Id) -> bool {
    let qp = m.qp(qp);
    let (cqs, pd, srq) = ([qp.receive_cq, qp.initiator_cq], qp.pd, qp.srq);
    !m.is_live(pd)
        || srq.is_some_and(|srq| !m.is_live(srq))
        || cqs.iter().any(|cq| !m.is_live(*cq) || m.cq(*cq).overrun)
}

/// Closes a CQ that is dead.
pub(super) fn worn(side: usize) -> bool {
    let id = with(|m| m.some_where(side, Kind::Cq, |m, cq| m.cq(cq).overrun));
    id.is_some_and(close)
}

/// Closes what there is too much of.
pub(super) fn surplus(side: usize) -> bool {
    let id = with(|m| {
        let kind = m.chance.of(&Kind::ALL);
        if !m.crowded(side, kind) {
            return None;
        }
        m.some(side, kind)
    });
    id.is_some_and(close)
}

/// Begins to close everything of a side, in any order. What somebody is calling stays; true if there is none of that.
pub(super) fn everything(side: usize) -> bool {
    loop {
        let next = with(|m| {
            let all: Vec<Id> = Kind::ALL
                .iter()
                .flat_map(|kind| m.live(side, *kind).to_vec())
                .filter(|id| m.can_close(*id))
                .collect();
            m.chance.pick(&all)
        });
        match next {
            Some(id) => {
                close(id);
            }
            None => return with(|m| Kind::ALL.iter().all(|k| m.live(side, *k).is_empty())),
        }
    }
}
