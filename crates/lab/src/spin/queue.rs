//! Completion queues: taking results, arming, resizing, moderation.

use super::model::{Id, Kind, Model, with};
use super::post::forgets;
use super::raw::{self, BATCH, Taken};
use super::request;
use super::slot::Slot;
use crate::status;
use ndkpi::status::*;
use ndkpi::*;

/// Marks a completion queue as being polled or armed; the consumer serialises that.
fn serial(m: &mut Model, side: usize, slot: Slot, cq: Option<Id>) -> Option<(Id, raw::Raw, usize)> {
    m.adapter(side)?;
    let cq = match cq {
        Some(cq) if m.is_live(cq) && !m.cq(cq).busy => cq,
        Some(_) => return None,
        None => {
            // Mostly one on which something is to come.
            let any = m.chance.one_in(5);
            m.some_where(side, Kind::Cq, |m, cq| {
                !m.cq(cq).busy && (any || m.outstanding(cq) > 0)
            })?
        }
    };
    m.cq(cq).busy = true;
    let token = m.call(side, slot, &[cq]);
    Some((cq, m.raw(cq), token))
}

/// Takes results of a completion queue, or of any. How many.
pub(super) fn take(side: usize, cq: Option<Id>) -> Option<usize> {
    let (cq, raw, token, room, ex, closed) = with(|m| {
        let ex = m.chance.percent(50);
        let slot = if ex {
            Slot::GetCqResultsEx
        } else {
            Slot::GetCqResults
        };
        let (cq, raw, token) = serial(m, side, slot, cq)?;
        let room = m.chance.of(&[0, 1, 2, BATCH, BATCH, BATCH]);
        Some((cq, raw, token, room, ex, m.closed_of(cq)))
    })?;
    let mut taken = [None; BATCH];
    let count = raw::results(raw, room, ex, &mut taken);
    with(|m| {
        for result in taken[..count].iter().flatten() {
            judge(m, cq, result);
        }
        if count < room {
            m.drained(cq, &closed);
        }
        drop(closed);
        m.cq(cq).busy = false;
        m.over(token);
    });
    Some(count)
}

/// What a request may end with.
const ENDS: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CANCELLED,
    STATUS_BUFFER_OVERFLOW,
    STATUS_ACCESS_VIOLATION,
    STATUS_INVALID_DEVICE_REQUEST,
    STATUS_REMOTE_RESOURCES,
    STATUS_IO_TIMEOUT,
];

/// Results of one queue come in the order of its requests.
fn judge(m: &mut Model, cq: Id, taken: &Taken) {
    m.tally.result(taken.status);
    let text = |what: &str| {
        format!(
            "the result of request {:#x} of QP {} on CQ {cq}, {}, {what}",
            taken.request,
            taken.qp,
            status::name(taken.status)
        )
    };
    if !ENDS.contains(&taken.status) {
        return m.fault(text("has a status that requests do not end with"));
    }
    let qp = taken.qp as Id;
    if m.objects.get(qp).is_none_or(|o| o.kind != Kind::Qp) {
        return m.fault(text("is of no QP"));
    }
    let (owner, queue, number) = request::parse(taken.request);
    let receives = [
        NdkOperationTypeReceive,
        NdkOperationTypeReceiveAndInvalidate,
    ];
    if let Some(kind) = taken.kind
        && receives.contains(&kind) != (queue == request::RECEIVE)
    {
        return m.fault(text("has a type of the other queue"));
    }
    if owner != qp && m.qp(qp).srq != Some(owner) {
        return m.fault(text("is of another QP"));
    }
    m.qp(qp).dead |= taken.status != STATUS_SUCCESS;
    if let Err(what) = m.finish(qp, (owner, queue, number), taken.status, taken.bytes) {
        m.fault(text(what));
    }
}

/// A CQ has told that it is dead.
pub(super) fn failed(m: &mut Model, cq: Id, status: NTSTATUS) {
    if status == STATUS_BUFFER_OVERFLOW && !m.cq(cq).overrun {
        m.fault(format!(
            "CQ {cq} ran over, which has room for every request"
        ));
    }
    m.cq(cq).overrun = true;
    for qp in m.cq(cq).qps.clone() {
        m.qp(qp).dead = true;
    }
}

pub(super) fn poll(side: usize) -> bool {
    take(side, None).is_some()
}

/// Takes all results of a completion queue.
pub(super) fn drain(side: usize, cq: Id) {
    for _ in 0..64 {
        if take(side, Some(cq)).is_none_or(|count| count == 0) {
            return;
        }
    }
}

pub(super) fn arm(side: usize) -> bool {
    arm_one(side, None)
}

/// Arms a completion queue, or any.
pub(super) fn arm_one(side: usize, cq: Option<Id>) -> bool {
    let plan = with(|m| {
        let (cq, raw, token) = serial(m, side, Slot::ArmCq, cq)?;
        let kind = m.chance.of(&[
            NDK_CQ_NOTIFY_ANY,
            NDK_CQ_NOTIFY_ANY,
            NDK_CQ_NOTIFY_SOLICITED,
            NDK_CQ_NOTIFY_ERRORS,
        ]);
        Some((cq, raw, token, kind))
    });
    let Some((cq, raw, token, kind)) = plan else {
        return false;
    };
    raw::arm_cq(raw, kind);
    with(|m| {
        m.cq(cq).busy = false;
        m.over(token);
    });
    true
}

pub(super) fn resize(side: usize) -> bool {
    let plan = with(|m| {
        let cq = m.some_where(side, Kind::Cq, |m, cq| !m.cq(cq).resizing)?;
        let mut depth = match m.chance.below(20) {
            0 => 0,
            1 => 65_537,
            2 => m.chance.of(&[1, 8, 65_536]),
            _ => m.chance.of(&[64, 256, 512, 512]),
        };
        let right: &[NTSTATUS] = if (1..=65_536).contains(&depth) {
            let outstanding = m.outstanding(cq);
            if u64::from(depth) < outstanding {
                if forgets(m) {
                    m.cq(cq).overrun = true;
                } else {
                    depth = outstanding as u32;
                }
            }
            // From now on it may be that small.
            let body = m.cq(cq);
            body.depth = body.depth.min(depth.into());
            body.resizing = true;
            &[STATUS_SUCCESS, STATUS_PENDING, STATUS_BUFFER_OVERFLOW]
        } else {
            &[STATUS_INVALID_PARAMETER]
        };
        let token = m.call(side, Slot::ResizeCq, &[cq]);
        Some((cq, m.raw(cq), depth, token, right))
    });
    plan.is_some_and(|(id, cq, depth, token, right)| {
        let status = raw::resize_cq(cq, depth, token as u64);
        with(|m| {
            m.returned(token, status, right);
            m.cq(id).resizing = false;
            if status == STATUS_SUCCESS {
                m.cq(id).depth = depth.into();
            }
        });
        true
    })
}

pub(super) fn moderate(side: usize) -> bool {
    let plan = with(|m| {
        let cq = m.some(side, Kind::Cq)?;
        let interval = m.chance.of(&[0, 1, 50, 1000, u32::MAX]);
        let count = m.chance.of(&[0, 1, 2, 8, 1000, u32::MAX]);
        let right: &[NTSTATUS] = match (interval, count) {
            (u32::MAX, u32::MAX) => &[STATUS_INVALID_PARAMETER_MIX],
            // Beyond the depth, so many are as good as no limit.
            (u32::MAX, 2..) => &[STATUS_SUCCESS, STATUS_INVALID_PARAMETER_MIX],
            _ => &[STATUS_SUCCESS],
        };
        let token = m.call(side, Slot::ControlCqInterruptModeration, &[cq]);
        Some((m.raw(cq), interval, count, token, right))
    });
    plan.is_some_and(|(cq, interval, count, token, right)| {
        let status = raw::moderate(cq, interval, count);
        with(|m| m.returned(token, status, right));
        true
    })
}
