//! Posting to initiator queues: which queue pair, and what moves bytes.

use super::data::{self, Piece};
use super::list::{List, Use, WRONG, inline, list, size};
use super::model::{Id, Kind, Model, Named, Phase, with};
use super::raw::{self, Raw, Transfer};
use super::request::{INITIATOR, RECEIVE, Request, What, context};
use super::slot::Slot;
use ndkpi::status::*;
use ndkpi::*;

/// A post that is about to be called.
pub(super) struct Posting {
    pub(super) qp: Raw,
    pub(super) request: u64,
    id: Id,
    queue: usize,
    number: u32,
    /// Whether its queue has room, as far as the walk was told.
    has_room: bool,
    token: usize,
}

impl Posting {
    /// Its post has returned.
    pub(super) fn done(self, m: &mut Model, status: NTSTATUS, right: &[NTSTATUS]) {
        if status != STATUS_SUCCESS {
            m.not_posted(self.id, self.queue, self.number);
        }
        let qp = m.qp(self.id);
        if self.queue == INITIATOR {
            qp.initiating = false;
        } else {
            qp.receiving = false;
        }
        if status == STATUS_CONNECTION_INVALID {
            qp.dead = qp.given;
        }
        if status == STATUS_NO_MORE_ENTRIES && self.has_room {
            let (id, queue) = (self.id, ["initiator", "receive"][self.queue]);
            let qp = m.qp(id);
            let (used, sizes) = (qp.requests[self.queue].len(), qp.sizes);
            m.fault(format!(
                "the {queue} queue of QP {id} has no room, but holds {used} of {sizes:?}"
            ));
        }
        m.returned(self.token, status, right);
    }
}

/// Whether a connection stands, as far as the walk was told at both ends.
pub(super) fn stands(m: &mut Model, qp: Id) -> bool {
    let Some(own) = m.qp(qp).connector else {
        return false;
    };
    if m.qp(qp).dead || !m.is_live(own) || m.connector(own).phase != Phase::Connected {
        return false;
    }
    let (Some(other), Some(peer)) = (m.partner(qp), m.connector(own).peer) else {
        return false;
    };
    let phase = m.connector(peer).phase;
    m.is_live(other)
        && !m.qp(other).dead
        && m.is_live(peer)
        && matches!(phase, Phase::Connected | Phase::Establishing)
}

/// Whether a CQ takes so many more results without running over.
pub(super) fn fits(m: &mut Model, cq: Id, more: u64) -> bool {
    m.is_live(cq) && m.outstanding(cq) + more <= m.cq(cq).depth
}

/// Once in a while a careless consumer forgets what its completion queues hold.
pub(super) fn forgets(m: &mut Model) -> bool {
    m.careless && m.chance.percent(20)
}

/// A QP to post to: one whose connection stands and for which that holds; seldom any.
fn some_qp(m: &mut Model, side: usize, holds: impl Fn(&mut Model, Id) -> bool) -> Option<Id> {
    let forgets = forgets(m);
    let free = move |m: &mut Model, id: Id| {
        let cq = m.qp(id).initiator_cq;
        !m.qp(id).initiating && (forgets || fits(m, cq, 1))
    };
    if m.chance.one_in(60) {
        return m.some_where(side, Kind::Qp, free);
    }
    m.some_where(side, Kind::Qp, |m, id| {
        let qp = m.qp(id);
        let has_room = qp.requests[INITIATOR].len() < qp.sizes.initiator_depth as usize;
        has_room && free(m, id) && stands(m, id) && holds(m, id)
    })
}

/// A QP for an initiator request.
pub(super) fn choose(
    m: &mut Model,
    side: usize,
    holds: impl Fn(&mut Model, Id) -> bool,
) -> Option<Id> {
    m.adapter(side)?;
    some_qp(m, side, holds)
}

/// Notes that a request is about to be posted; `also` are other objects that the call names.
pub(super) fn begin(
    m: &mut Model,
    slot: Slot,
    (id, queue): (Id, usize),
    also: &[Id],
    mut request: Request,
) -> Posting {
    let qp = m.qp(id);
    qp.numbers[queue] += 1;
    let number = qp.numbers[queue];
    let (depth, cq) = if queue == INITIATOR {
        qp.initiating = true;
        (qp.sizes.initiator_depth, qp.initiator_cq)
    } else {
        qp.receiving = true;
        (qp.sizes.receive_depth, qp.receive_cq)
    };
    let has_room = qp.requests[queue].len() < depth as usize;
    request.number = number;
    m.posting(id, queue, request);
    if m.outstanding(cq) > m.cq(cq).depth {
        m.cq(cq).overrun = true;
    }
    let side = m.objects[id].side;
    let mut users = vec![id];
    users.extend(also);
    let token = m.call(side, slot, &users);
    Posting {
        qp: m.raw(id),
        request: context(id, queue, number),
        id,
        queue,
        number,
        has_room,
        token,
    }
}

/// Flags that any initiator request may have. The last request that a queue has room for is not silent: it could not be told when there
/// is room again.
pub(super) fn flags(m: &mut Model, qp: Id) -> u32 {
    let mut flags = 0;
    for flag in [
        NDK_OP_FLAG_SILENT_SUCCESS,
        NDK_OP_FLAG_READ_FENCE,
        NDK_OP_FLAG_DEFER,
    ] {
        if m.chance.one_in(4) {
            flags |= flag;
        }
    }
    let qp = m.qp(qp);
    let (cq, used, depth) = (
        qp.initiator_cq,
        qp.requests[INITIATOR].len() + 1,
        qp.sizes.initiator_depth as usize,
    );
    if used >= depth || !fits(m, cq, 2) {
        flags &= !(NDK_OP_FLAG_SILENT_SUCCESS | NDK_OP_FLAG_DEFER);
    }
    flags
}

/// A request that has these flags.
pub(super) fn request(flags: u32, what: What, local: Vec<Id>, remote: Vec<Id>) -> Request {
    Request {
        number: 0,
        silent: flags & NDK_OP_FLAG_SILENT_SUCCESS != 0,
        local,
        remote,
        what,
        unnames: None,
    }
}

/// Memory of the peer that a QP may use: what names it, and how.
fn target(m: &mut Model, other: Id) -> Option<(Vec<Id>, Named)> {
    let (pd, side) = (m.qp(other).pd, m.objects[other].side);
    if m.chance.one_in(4)
        && let Some(mw) = window(m, other)
        && let Some(named) = m.mw(mw).named
    {
        let mut names = vec![mw];
        names.extend(m.mw(mw).mr);
        return Some((names, named));
    }
    super::list::region(m, side, pd).map(|(mr, named)| (vec![mr], named))
}

/// A window that the peer of a QP may use.
pub(super) fn window(m: &mut Model, qp: Id) -> Option<Id> {
    let side = m.objects[qp].side;
    m.some_where(side, Kind::Mw, |m, mw| {
        let mw = m.mw(mw);
        mw.qp == Some(qp) && mw.named.is_some_and(|named| named.is_good())
    })
}

/// Bytes that the next message to a QP may have; None if no receive waits for it.
fn next_room(m: &mut Model, to: Id) -> Option<u32> {
    let room = |request: &Request| match &request.what {
        What::Receive { into } => data::length(into),
        _ => 0,
    };
    let Some(srq) = m.qp(to).srq else {
        let qp = m.qp(to);
        return qp.requests[RECEIVE].get(qp.messages.len()).map(room);
    };
    let side = m.objects[to].side;
    let users = m.live(side, Kind::Qp).to_vec();
    let mut on_their_way = 0;
    for user in users {
        let qp = m.qp(user);
        if qp.srq == Some(srq) {
            on_their_way += qp.messages.len();
        }
    }
    let waiting = &m.srq(srq).requests;
    if waiting.len() <= on_their_way {
        return None;
    }
    waiting.iter().map(room).min()
}

/// How a post may be answered.
const POSTED: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
];
/// A read: the connection may allow none.
const READ: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_CONNECTION_INVALID,
    STATUS_NO_MORE_ENTRIES,
    STATUS_INVALID_DEVICE_REQUEST,
];
/// On a QP that was never given to a connector.
const UNCONNECTED: &[NTSTATUS] = &[STATUS_CONNECTION_INVALID];
/// With too many elements, too many bytes or too many inline bytes.
pub(super) const TOO_MUCH: &[NTSTATUS] = &[
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

/// A transfer that is about to be posted.
struct Plan {
    transfer: Transfer,
    list: List,
    flags: u32,
    request: Request,
}

fn initiate(side: usize, slot: Slot) -> bool {
    let plan = with(|m| {
        let lucky = m.chance.one_in(100);
        let id = choose(m, side, |m, id| {
            lucky
                || match slot {
                    Slot::Send => partner_has_room(m, id),
                    Slot::SendAndInvalidate => partner_has_room(m, id) && unnamed(m, id).is_some(),
                    Slot::Read => may_read(m, id),
                    _ => true,
                }
        })?;
        let plan = match slot {
            Slot::Read => reading(m, side, id),
            Slot::Write => writing(m, side, id),
            _ => sending(m, side, id, slot == Slot::SendAndInvalidate),
        };
        let right = match (plan.list.too_much, m.qp(id).given) {
            (true, _) => TOO_MUCH,
            (false, false) => UNCONNECTED,
            (false, true) if slot == Slot::Read => READ,
            (false, true) => POSTED,
        };
        let Plan {
            transfer,
            list,
            flags,
            request,
        } = plan;
        let posting = begin(m, slot, (id, INITIATOR), &[], request);
        Some((posting, transfer, list, flags, right))
    });
    plan.is_some_and(|(posting, transfer, list, flags, right)| {
        let status = raw::post(
            posting.qp,
            transfer,
            posting.request,
            list.elements(),
            flags,
        );
        with(|m| {
            drop(list);
            posting.done(m, status, right);
        });
        true
    })
}

fn partner_has_room(m: &mut Model, qp: Id) -> bool {
    m.partner(qp).is_some_and(|to| next_room(m, to).is_some())
}

/// Whether the connection of a QP allows it to read.
fn may_read(m: &mut Model, qp: Id) -> bool {
    let Some(own) = m.qp(qp).connector else {
        return false;
    };
    let outbound = m.connector(own).limits.1;
    let peer = m.connector(own).peer;
    outbound > 0 && peer.is_some_and(|peer| m.connector(peer).limits.0 > 0)
}

/// What the peer of a QP may be told to let name nothing any more, with the token.
fn unnamed(m: &mut Model, qp: Id) -> Option<(Id, Named)> {
    let other = m.partner(qp)?;
    let (pd, side) = (m.qp(other).pd, m.objects[other].side);
    let id = match window(m, other).filter(|mw| !m.is_used(*mw)) {
        Some(mw) => mw,
        None => m.some_where(side, Kind::Mr, |m, id| {
            let mr = m.mr(id);
            let fits = mr.pd == pd && mr.fast && mr.named.is_some_and(|named| named.is_good());
            fits && !m.is_used(id)
        })?,
    };
    (*m.named(id)).map(|named| (id, named))
}

/// What means nothing for a request is ignored.
fn meaningless(m: &mut Model) -> u32 {
    if m.chance.one_in(100) {
        NDK_OP_FLAG_RDMA_READ_SINK | 0x8000_0000
    } else {
        0
    }
}

/// What a request reads from this side: seldom inline.
fn from(m: &mut Model, side: usize, qp: Id, most: u32, flags: &mut u32) -> List {
    let (pd, sizes) = (m.qp(qp).pd, m.qp(qp).sizes);
    if m.chance.one_in(4) {
        *flags |= NDK_OP_FLAG_INLINE;
        return inline(m, side, sizes.inline, most);
    }
    list(m, side, pd, sizes.initiator_sges, most, Use::Read)
}

fn sending(m: &mut Model, side: usize, qp: Id, invalidates: bool) -> Plan {
    let mut flags = flags(m, qp) | meaningless(m);
    if !invalidates && m.chance.one_in(4) {
        flags |= NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
    }
    let to = m.partner(qp);
    let room = to.and_then(|to| next_room(m, to)).unwrap_or(500);
    // Seldom more than the receive has room for.
    let most = if m.chance.one_in(WRONG) {
        room + 1
    } else {
        room
    };
    let list = from(m, side, qp, most, &mut flags);
    let what = to.map_or(What::Nothing, |to| {
        let message = list.is_right.then(|| list.pieces.clone());
        m.qp(to).messages.push_back(message);
        What::Send { to }
    });
    let mut request = request(flags, what, list.regions.clone(), Vec::new());
    let transfer = if invalidates {
        request.unnames = unnamed(m, qp);
        let token = request.unnames.map_or(0xdead_beef, |(_, n)| n.remote);
        request.remote.extend(request.unnames.map(|(id, _)| id));
        Transfer::SendAndInvalidate { token }
    } else {
        Transfer::Send
    };
    Plan {
        transfer,
        list,
        flags,
        request,
    }
}

/// Memory that a peer has not.
const NOWHERE: (u64, u32) = (0x7000, 0xdead_beef);

/// Where a piece of the peer's memory is, for its token.
fn place(m: &Model, piece: Piece, named: Named) -> (u64, u32) {
    let address = m.grounds.address(piece.ground) + u64::from(piece.offset);
    (address, named.remote)
}

fn writing(m: &mut Model, side: usize, qp: Id) -> Plan {
    let mut flags = flags(m, qp) | meaningless(m);
    let target = match m.partner(qp) {
        Some(other) if !m.chance.one_in(WRONG) => target(m, other),
        _ => None,
    };
    let Some((remote, named)) = target else {
        let list = from(m, side, qp, 300, &mut flags);
        let request = request(flags, What::Nothing, list.regions.clone(), Vec::new());
        let (address, token) = NOWHERE;
        return Plan {
            transfer: Transfer::Write { address, token },
            list,
            flags,
            request,
        };
    };
    let most = size(m, m.grounds.readable(named.ground));
    let mut into = m.grounds.sink(&mut m.chance, named.ground, most);
    let list = from(m, side, qp, into.length, &mut flags);
    m.grounds.shorten(&mut into, list.length());
    let (address, token) = place(m, into, named);
    let what = if list.is_right {
        What::Write {
            from: list.pieces.clone(),
            into,
        }
    } else {
        What::Nothing
    };
    Plan {
        transfer: Transfer::Write { address, token },
        request: request(flags, what, list.regions.clone(), remote),
        list,
        flags,
    }
}

/// Elements that a read may have, whatever the QP's limit.
const READ_ELEMENTS: u32 = 16;

fn reading(m: &mut Model, side: usize, qp: Id) -> Plan {
    let mut flags = flags(m, qp) | meaningless(m);
    let pd = m.qp(qp).pd;
    let target = match m.partner(qp) {
        Some(other) if !m.chance.one_in(WRONG) => target(m, other),
        _ => None,
    };
    let most = target
        .as_ref()
        .map_or(300, |(_, n)| m.grounds.readable(n.ground));
    let list = list(m, side, pd, READ_ELEMENTS, most, Use::Write);
    let (what, remote, (address, token)) = match target {
        Some((remote, named)) if list.is_right => {
            let from = m.grounds.source(&mut m.chance, named.ground, list.length());
            let into = list.pieces.clone();
            (What::Read { from, into }, remote, place(m, from, named))
        }
        _ => {
            // Nothing is to come: nothing is kept for it.
            for piece in &list.pieces {
                m.grounds.give_back(*piece);
            }
            (What::Nothing, Vec::new(), NOWHERE)
        }
    };
    let mut request = request(flags, what, list.regions.clone(), remote);
    // The region of the first element names nothing any more once the read is done.
    if let Some(first) = list.regions.first().copied()
        && let Some(named) = m.mr(first).named
    {
        let alone = m.mr(first).fast && !m.is_used(first);
        let wanted = (alone && m.chance.one_in(4)) || m.chance.one_in(500);
        if wanted {
            flags |= NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE;
            request.unnames = alone.then_some((first, named));
        }
    }
    Plan {
        transfer: Transfer::Read { address, token },
        list,
        flags,
        request,
    }
}

pub(super) fn flush(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Qp)?;
        let qp = m.qp(id);
        (qp.touched, qp.dead) = (true, true);
        Some((m.raw(id), m.call(side, Slot::Flush, &[id])))
    });
    plan.is_some_and(|(qp, token)| {
        raw::flush(qp);
        with(|m| m.over(token));
        true
    })
}
