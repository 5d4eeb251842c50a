//! Receives: on queue pairs, and on shared receive queues.

use super::list::{Use, list};
use super::model::{Id, Kind, Model, State, with};
use super::post::{TOO_MUCH, begin, fits, forgets, request, stands};
use super::raw::{self, Transfer};
use super::request::{RECEIVE, What, context};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;

/// Most bytes of a receive.
const MOST: u32 = 60_000;

/// How a receive may be answered on a queue that may have failed.
const PERHAPS_FAILED: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_NO_MORE_ENTRIES,
    STATUS_CONNECTION_INVALID,
];

/// A QP to receive on: mostly one whose peer waits for that, or that may be connected yet.
fn some_qp(m: &mut Model, side: usize) -> Option<Id> {
    m.adapter(side)?;
    let forgets = forgets(m);
    let free = move |m: &mut Model, id: Id| {
        let cq = m.qp(id).receive_cq;
        !m.qp(id).receiving && (forgets || fits(m, cq, 1))
    };
    if m.chance.one_in(60) {
        return m.some_where(side, Kind::Qp, free);
    }
    let has_room = move |m: &mut Model, id: Id| {
        let qp = m.qp(id);
        let (posted, depth) = (qp.requests[RECEIVE].len(), qp.sizes.receive_depth);
        qp.srq.is_none() && !qp.dead && posted < depth as usize && free(m, id)
    };
    let connected = m.some_where(side, Kind::Qp, |m, id| has_room(m, id) && stands(m, id));
    connected.or_else(|| m.some_where(side, Kind::Qp, has_room))
}

pub(super) fn receive(side: usize) -> bool {
    let plan = with(|m| {
        let id = some_qp(m, side)?;
        let qp = m.qp(id);
        let (pd, sizes, shared, alone) = (qp.pd, qp.sizes, qp.srq.is_some(), !qp.touched);
        let full = qp.requests[RECEIVE].len() >= sizes.receive_depth as usize;
        let list = list(m, side, pd, sizes.receive_sges, MOST, Use::Write);
        let into = list.pieces.clone();
        let request = request(0, What::Receive { into }, list.regions.clone(), Vec::new());
        let posting = begin(m, Slot::Receive, (id, RECEIVE), &[], request);
        // An overrun of a completion queue ends its queue pairs.
        let overrun = is_overrun(m, id);
        let right: &[NTSTATUS] = match (shared, list.too_much, full) {
            (true, ..) => &[STATUS_INVALID_DEVICE_REQUEST],
            (_, true, _) => TOO_MUCH,
            _ if overrun || !alone => PERHAPS_FAILED,
            (_, _, true) => &[STATUS_NO_MORE_ENTRIES],
            (_, _, false) => &[STATUS_SUCCESS],
        };
        Some((id, posting, list, right))
    });
    plan.is_some_and(|(id, posting, list, right)| {
        let number = posting.request;
        let status = raw::post(posting.qp, Transfer::Receive, number, list.elements(), 0);
        with(|m| {
            drop(list);
            // What happened meanwhile may have taken requests out of the queue, or the queue out of use.
            let changed = m.qp(id).touched || m.has_lost_its_device(id) || is_overrun(m, id);
            let right = if changed && right != TOO_MUCH && right[0] != STATUS_INVALID_DEVICE_REQUEST
            {
                PERHAPS_FAILED
            } else {
                right
            };
            posting.done(m, status, right);
        });
        true
    })
}

fn is_overrun(m: &mut Model, qp: Id) -> bool {
    let qp = m.qp(qp);
    let cqs = [qp.receive_cq, qp.initiator_cq];
    cqs.iter().any(|cq| m.cq(*cq).overrun)
}

/// CQs on which the receives of a shared queue may complete.
fn cqs(m: &mut Model, side: usize, srq: Id) -> Vec<Id> {
    let mut cqs = Vec::new();
    for id in 0..m.objects.len() {
        let object = &m.objects[id];
        let is_open = object.kind == Kind::Qp && object.state != State::Closed;
        if object.side == side && is_open && m.qp(id).srq == Some(srq) {
            cqs.push(m.qp(id).receive_cq);
        }
    }
    cqs.sort_unstable();
    cqs.dedup();
    cqs
}

pub(super) fn srq_receive(side: usize) -> bool {
    let plan = with(|m| {
        m.adapter(side)?;
        let forgets = forgets(m);
        let id = m.some_where(side, Kind::Srq, |m, srq| !m.srq(srq).receiving)?;
        let cqs = cqs(m, side, id);
        for cq in &cqs {
            if m.outstanding(*cq) >= m.cq(*cq).depth {
                forgets.then_some(())?;
                m.cq(*cq).overrun = true;
            }
        }
        let srq = m.srq(id);
        if srq.requests.len() >= srq.depth as usize && !m.chance.one_in(20) {
            return None;
        }
        let srq = m.srq(id);
        srq.receiving = true;
        srq.number += 1;
        let (pd, sges, number) = (srq.pd, srq.sges, srq.number);
        let list = list(m, side, pd, sges, MOST, Use::Write);
        let right: &[NTSTATUS] = if list.too_much {
            &[
                STATUS_DATA_OVERRUN,
                STATUS_BUFFER_OVERFLOW,
                STATUS_NO_MORE_ENTRIES,
            ]
        } else {
            &[STATUS_SUCCESS, STATUS_NO_MORE_ENTRIES]
        };
        let into = list.pieces.clone();
        let mut request = request(0, What::Receive { into }, list.regions.clone(), Vec::new());
        request.number = number;
        m.posting(id, RECEIVE, request);
        let token = m.call(side, Slot::SrqReceive, &[id]);
        Some((id, m.raw(id), number, list, token, right))
    });
    plan.is_some_and(|(id, srq, number, list, token, right)| {
        let status = raw::srq_receive(srq, context(id, RECEIVE, number), list.elements());
        with(|m| {
            drop(list);
            m.srq(id).receiving = false;
            if status != STATUS_SUCCESS {
                m.not_posted(id, RECEIVE, number);
            }
            // The queue fails with its device.
            let failed = m.has_lost_its_device(id) && status == STATUS_CONNECTION_INVALID;
            let right = if failed { &[status] } else { right };
            m.returned(token, status, right);
        });
        true
    })
}

pub(super) fn modify_srq(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Srq)?;
        let depth = m.chance.of(&[0, 0, 1, 16, 64, 16_385]);
        let threshold = m.chance.of(&[0, 1, 4, 16, 20_000]);
        let right: &[NTSTATUS] = if depth > 16_384 || threshold > 16_384 {
            &[STATUS_INVALID_PARAMETER]
        } else {
            &[
                STATUS_SUCCESS,
                STATUS_PENDING,
                STATUS_INVALID_PARAMETER,
                STATUS_BUFFER_OVERFLOW,
            ]
        };
        let token = m.call(side, Slot::ModifySrq, &[id]);
        Some((id, m.raw(id), depth, threshold, token, right))
    });
    plan.is_some_and(|(id, srq, depth, threshold, token, right)| {
        let status = raw::modify_srq(srq, depth, threshold, token as u64);
        with(|m| {
            if status == STATUS_SUCCESS && depth > 0 {
                m.srq(id).depth = depth;
            }
            m.returned(token, status, right);
        });
        true
    })
}
