//! Posting: transfers and receives.

use super::model::{Id, Kind, Model, Named, Phase, with};
use super::raw::{self, Transfer};
use super::slot::Slot;
use ndkpi::status::*;
use ndkpi::*;

/// The initiator queue among a QP's.
pub(super) const INITIATOR: usize = 0;
/// The receive queue.
pub(super) const RECEIVE: usize = 1;

/// The context of a request: whose, of which queue, which number.
pub(super) fn request(owner: Id, queue: usize, number: u32) -> u64 {
    (owner as u64) << 33 | (queue as u64) << 32 | u64::from(number)
}

/// What [`request`] made a context of.
pub(super) fn parse(context: u64) -> (Id, usize, u32) {
    (
        (context >> 33) as Id,
        (context >> 32 & 1) as usize,
        context as u32,
    )
}

/// Most elements of a list that the walk makes: more than any QP takes.
const LIST: usize = 18;

/// A post that is about to be called.
pub(super) struct Posting {
    pub(super) qp: raw::Raw,
    pub(super) request: u64,
    id: Id,
    queue: usize,
    token: usize,
}

impl Posting {
    /// Its post has returned.
    pub(super) fn done(self, m: &mut Model, status: NTSTATUS, right: &[NTSTATUS]) {
        let qp = m.qp(self.id);
        if self.queue == INITIATOR {
            qp.initiating = false;
        } else {
            qp.receiving = false;
            qp.received += u32::from(status == STATUS_SUCCESS);
        }
        m.returned(self.token, status, right);
    }
}

/// A QP of the side, mostly one that is connected.
fn some_qp(m: &mut Model, side: usize, queue: usize) -> Option<Id> {
    let connected = m.chance.percent(85);
    let free = move |m: &mut Model, qp: Id| {
        let qp = m.qp(qp);
        !(if queue == INITIATOR {
            qp.initiating
        } else {
            qp.receiving
        })
    };
    let chosen = if connected {
        m.some_where(side, Kind::Qp, |m, qp| free(m, qp) && is_connected(m, qp))
    } else {
        None
    };
    chosen.or_else(|| m.some_where(side, Kind::Qp, free))
}

fn is_connected(m: &mut Model, qp: Id) -> bool {
    m.qp(qp)
        .connector
        .is_some_and(|c| m.is_live(c) && m.connector(c).phase == Phase::Connected)
}

/// Prepares a post to a queue of a QP; `also` are other objects that it names.
pub(super) fn begin(
    m: &mut Model,
    side: usize,
    slot: Slot,
    queue: usize,
    also: impl FnOnce(&mut Model, Id) -> Option<Vec<Id>>,
) -> Option<(Id, Posting)> {
    let id = some_qp(m, side, queue)?;
    let also = also(m, id)?;
    let qp = m.qp(id);
    if queue == INITIATOR {
        qp.initiating = true;
    } else {
        qp.receiving = true;
    }
    qp.posted[queue] += 1;
    let number = qp.posted[queue];
    let cq = if queue == INITIATOR {
        qp.initiator_cq
    } else {
        qp.receive_cq
    };
    m.cq(cq).entries += 1;
    let mut users = vec![id];
    users.extend(also);
    let token = m.call(side, slot, &users);
    let posting = Posting {
        qp: m.raw(id),
        request: request(id, queue, number),
        id,
        queue,
        token,
    };
    Some((id, posting))
}

/// A list of elements in the memory of a protection domain.
fn list(m: &mut Model, side: usize, pd: Id, limit: u32, into: bool) -> ([NDK_SGE; LIST], usize) {
    let mut list = [raw::sge(0, 0, 0); LIST];
    let count = match m.chance.below(100) {
        0 => limit as usize + 1,
        1 => limit as usize,
        2 => 0,
        3..15 if !into => 0,
        _ => 1 + m.chance.index(2.min(limit as usize).max(1)),
    };
    let count = count.min(LIST);
    for element in &mut list[..count] {
        *element = self::element(m, side, pd, into);
    }
    (list, count)
}

/// An element; for a message to come in, mostly one with room for it.
fn element(m: &mut Model, side: usize, pd: Id, into: bool) -> NDK_SGE {
    match m.chance.below(600) {
        0 => raw::sge(0x1000, 64, 0xdead_0000),
        1 => raw::sge(0, u32::MAX, 1),
        2..40 if !into => privileged(m, side, pd).unwrap_or(raw::sge(0, 0, 0)),
        _ => {
            let named = m.some_where(side, Kind::Mr, |m, mr| {
                let mr = m.mr(mr);
                mr.pd == pd && mr.named.is_some()
            });
            match named.and_then(|mr| m.mr(mr).named) {
                Some(named) if into && !m.chance.one_in(30) => {
                    raw::sge(named.address, named.length, named.local)
                }
                Some(named) => {
                    let (address, length) = part(m, named);
                    raw::sge(address, length, named.local)
                }
                None => raw::sge(0, 0, 0),
            }
        }
    }
}

/// A part of a mapping, by the privileged token.
fn privileged(m: &mut Model, side: usize, pd: Id) -> Option<NDK_SGE> {
    let super::model::Body::Pd {
        privileged: Some(token),
    } = m.objects[pd].body
    else {
        return None;
    };
    let lams = m.sides[side].lams.len();
    let lam = (lams > 0).then(|| m.chance.index(lams))?;
    let lam = &mut m.sides[side].lams[lam];
    lam.used = true;
    let room = lam.length.min(4096 - lam.first_byte);
    let address = lam.pages.first()?.cast_unsigned() + u64::from(lam.first_byte);
    Some(raw::sge(address, room.min(200), token))
}

/// A part of what a token names; seldom more than that.
pub(super) fn part(m: &mut Model, named: Named) -> (u64, u32) {
    let length = match m.chance.below(100) {
        0 => 0,
        1 => named.length,
        2 if m.chance.one_in(5) => named.length + 1,
        3..10 => named.length.min(5000),
        _ => named.length.min(1 + m.chance.below(300) as u32),
    };
    let spare = named.length.saturating_sub(length);
    let offset = m.chance.below(u64::from(spare) + 1);
    (named.address + offset, length)
}

/// Memory of the peer of a QP, mostly; and mostly some that it may touch.
fn remote(m: &mut Model, qp: Id) -> (u64, u32) {
    let wrong = (0x7000_u64, 0xdead_beef_u32);
    if m.chance.one_in(150) {
        return wrong;
    }
    let peer = m
        .qp(qp)
        .connector
        .and_then(|connector| m.connector(connector).peer)
        .and_then(|peer| m.connector(peer).qp);
    let Some(peer) = peer else {
        return wrong;
    };
    let (pd, side) = (m.qp(peer).pd, m.objects[peer].side);
    let window = m.chance.one_in(8);
    let live = m.live(side, if window { Kind::Mw } else { Kind::Mr });
    let mut candidates = live.to_vec();
    candidates.retain(|id| {
        if window {
            let mw = m.mw(*id);
            mw.pd == pd && mw.named.is_some()
        } else {
            let mr = m.mr(*id);
            mr.pd == pd && mr.named.is_some()
        }
    });
    let Some(id) = m.chance.pick(&candidates) else {
        return wrong;
    };
    let named = if window {
        m.mw(id).named
    } else {
        m.mr(id).named
    };
    named.map_or(wrong, |named| (named.address, named.remote))
}

fn flags(m: &mut Model, often: &[u32]) -> u32 {
    let mut flags = 0;
    for flag in often {
        if m.chance.one_in(4) {
            flags |= flag;
        }
    }
    if m.chance.one_in(100) {
        // What means nothing for the request is ignored.
        flags |= NDK_OP_FLAG_RDMA_READ_SINK | 0x8000_0000;
    }
    flags
}

/// How a receive may be answered whose completion queue may be overrun.
const OVERRUN: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_NO_MORE_ENTRIES,
    STATUS_CONNECTION_INVALID,
];
/// How a post may be answered.
const POSTED: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
];
/// On a QP that was never given to a connector.
pub(super) const UNCONNECTED: &[NTSTATUS] = &[STATUS_CONNECTION_INVALID];
/// With too many elements, too many bytes or too many inline bytes.
const TOO_MUCH: &[NTSTATUS] = &[
    STATUS_DATA_OVERRUN,
    STATUS_BUFFER_OVERFLOW,
    STATUS_INVALID_PARAMETER,
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
];

pub(super) fn send(side: usize) -> bool {
    initiate(side, Slot::Send)
}

pub(super) fn send_and_invalidate(side: usize) -> bool {
    initiate(side, Slot::SendAndInvalidate)
}

pub(super) fn read(side: usize) -> bool {
    initiate(side, Slot::Read)
}

pub(super) fn write(side: usize) -> bool {
    initiate(side, Slot::Write)
}

fn initiate(side: usize, slot: Slot) -> bool {
    let plan = with(|m| {
        let (id, posting) = begin(m, side, slot, INITIATOR, |_, _| Some(Vec::new()))?;
        let (address, token) = remote(m, id);
        let (transfer, common): (Transfer, &[u32]) = match slot {
            Slot::Read => (
                Transfer::Read { address, token },
                &[NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE],
            ),
            Slot::Write => (Transfer::Write { address, token }, &[NDK_OP_FLAG_INLINE]),
            Slot::SendAndInvalidate => (Transfer::SendAndInvalidate { token }, &[]),
            _ => (
                Transfer::Send,
                &[NDK_OP_FLAG_INLINE, NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT],
            ),
        };
        let mut flags = self::flags(
            m,
            &[
                NDK_OP_FLAG_SILENT_SUCCESS,
                NDK_OP_FLAG_READ_FENCE,
                NDK_OP_FLAG_DEFER,
            ],
        );
        flags |= self::flags(m, common);
        if slot == Slot::Read && !m.chance.one_in(10) {
            flags &= !NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE;
        }
        let (pd, sizes, given) = {
            let qp = m.qp(id);
            (qp.pd, qp.sizes, qp.given)
        };
        let limit = if slot == Slot::Read {
            16
        } else {
            sizes.initiator_sges
        };
        let (mut list, mut count) = list(m, side, pd, limit, false);
        let mut is_good = count <= limit as usize;
        if flags & NDK_OP_FLAG_INLINE != 0 && slot != Slot::Read {
            (count, is_good) = inline(m, side, sizes.inline, &mut list);
        }
        let bytes: u64 = list[..count].iter().map(|sge| u64::from(sge.Length)).sum();
        is_good &= bytes <= 1 << 30;
        let right = match (is_good, given) {
            (true, true) => POSTED,
            (true, false) => UNCONNECTED,
            (false, _) => TOO_MUCH,
        };
        Some((posting, transfer, list, count, flags, right))
    });
    plan.is_some_and(|(posting, transfer, list, count, flags, right)| {
        let status = raw::post(posting.qp, transfer, posting.request, &list[..count], flags);
        with(|m| {
            let reads: &[NTSTATUS] = &[
                STATUS_SUCCESS,
                STATUS_CONNECTION_INVALID,
                STATUS_NO_MORE_ENTRIES,
                // The connection allows none.
                STATUS_INVALID_DEVICE_REQUEST,
            ];
            let right = if slot == Slot::Read && std::ptr::eq(right, POSTED) {
                reads
            } else {
                right
            };
            posting.done(m, status, right);
        });
        true
    })
}

/// A list of inline data, and whether the QP takes as much.
fn inline(m: &mut Model, side: usize, limit: u32, list: &mut [NDK_SGE; LIST]) -> (usize, bool) {
    let base = match &m.sides[side].scratch {
        Some(scratch) => scratch.address(),
        None => return (0, true),
    };
    let count = m.chance.index(4);
    let mut total = 0;
    for element in &mut list[..count] {
        let length = if m.chance.one_in(40) {
            257
        } else {
            m.chance.below(u64::from(limit) / 3 + 1) as u32
        };
        total += length;
        *element = raw::sge(base + m.chance.below(256), length, 0xffff_ffff);
    }
    (count, total <= limit)
}

pub(super) fn receive(side: usize) -> bool {
    let plan = with(|m| {
        let none = |_: &mut Model, _| Some(Vec::new());
        let (id, posting) = begin(m, side, Slot::Receive, RECEIVE, none)?;
        let qp = m.qp(id);
        let (pd, sizes, shared, cq) = (qp.pd, qp.sizes, qp.srq.is_some(), qp.receive_cq);
        let alone = !qp.touched;
        let full = qp.received >= sizes.receive_depth;
        let (list, count) = list(m, side, pd, sizes.receive_sges, true);
        let is_good = count <= sizes.receive_sges as usize
            && list[..count]
                .iter()
                .map(|s| u64::from(s.Length))
                .sum::<u64>()
                <= 1 << 30;
        // An overrun of the completion queue ends its queue pairs: then receives come back at once.
        let other = m.qp(id).initiator_cq;
        let overrun = [cq, other]
            .iter()
            .any(|cq| m.cq(*cq).entries > m.cq(*cq).depth);
        let right: &[NTSTATUS] = match (shared, is_good, full) {
            (true, ..) => &[STATUS_INVALID_DEVICE_REQUEST],
            (_, false, _) => TOO_MUCH,
            (_, true, true) if alone && !overrun => &[STATUS_NO_MORE_ENTRIES],
            (_, true, false) if alone && !overrun => &[STATUS_SUCCESS],
            // That queue pair is dead.
            _ if overrun => OVERRUN,
            _ => &[STATUS_SUCCESS, STATUS_NO_MORE_ENTRIES],
        };
        Some((id, posting, list, count, right))
    });
    plan.is_some_and(|(id, posting, list, count, right)| {
        let request = posting.request;
        let status = raw::post(posting.qp, Transfer::Receive, request, &list[..count], 0);
        with(|m| {
            // What happened meanwhile may have taken requests out of the queue, or the queue out of use.
            let changed = m.qp(id).touched || m.has_lost_its_device(id);
            let right = if changed && OVERRUN.contains(&right[0]) {
                OVERRUN
            } else {
                right
            };
            posting.done(m, status, right);
        });
        true
    })
}

pub(super) fn srq_receive(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some_where(side, Kind::Srq, |m, srq| !m.srq(srq).receiving)?;
        let srq = m.srq(id);
        srq.receiving = true;
        srq.posted += 1;
        let (pd, sges) = (srq.pd, srq.sges);
        let request = request(id, RECEIVE, srq.posted);
        let (list, count) = list(m, side, pd, sges, true);
        let bytes: u64 = list[..count].iter().map(|s| u64::from(s.Length)).sum();
        let right: &[NTSTATUS] = if count <= sges as usize && bytes <= 1 << 30 {
            &[STATUS_SUCCESS, STATUS_NO_MORE_ENTRIES]
        } else {
            &[
                STATUS_DATA_OVERRUN,
                STATUS_BUFFER_OVERFLOW,
                STATUS_NO_MORE_ENTRIES,
            ]
        };
        let token = m.call(side, Slot::SrqReceive, &[id]);
        Some((id, m.raw(id), request, list, count, token, right))
    });
    plan.is_some_and(|(id, srq, request, list, count, token, right)| {
        let status = raw::srq_receive(srq, request, &list[..count]);
        with(|m| {
            m.srq(id).receiving = false;
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
        Some((m.raw(id), depth, threshold, token, right))
    });
    plan.is_some_and(|(srq, depth, threshold, token, right)| {
        let status = raw::modify_srq(srq, depth, threshold, token as u64);
        with(|m| m.returned(token, status, right));
        true
    })
}

pub(super) fn flush(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Qp)?;
        m.qp(id).touched = true;
        Some((m.raw(id), m.call(side, Slot::Flush, &[id])))
    });
    plan.is_some_and(|(qp, token)| {
        raw::flush(qp);
        with(|m| m.over(token));
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_tells_whose_request_it_is() {
        for (owner, queue, number) in [(0, 0, 1), (7, RECEIVE, u32::MAX), (123_456, INITIATOR, 9)] {
            assert_eq!(parse(request(owner, queue, number)), (owner, queue, number));
        }
    }
}
