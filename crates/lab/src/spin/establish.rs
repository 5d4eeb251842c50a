//! Connections from the peer's answer on: how they are established, refused and ended.

use super::connect::{claim, claimed, give, give_back, offer, pair, taken};
use super::model::{Id, Kind, Model, Phase, with};
use super::raw::{self, Accepting, Event};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;

/// Bytes of private data that an answer may have.
const CALLEE: usize = 148;

/// How an accept or a complete-connect may end.
pub(super) const ESTABLISHED: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_CONNECTION_ABORTED,
    STATUS_IO_TIMEOUT,
    STATUS_CANCELLED,
    // The QP is dead.
    STATUS_INVALID_DEVICE_REQUEST,
];
/// How a disconnect may end.
pub(super) const DISCONNECTED: &[NTSTATUS] = &[STATUS_SUCCESS, STATUS_IO_TIMEOUT, STATUS_CANCELLED];
/// An accept that is made right.
const ACCEPTING: &[NTSTATUS] = &[
    STATUS_PENDING,
    STATUS_CONNECTION_ABORTED,
    STATUS_CONNECTION_ACTIVE,
    STATUS_INVALID_DEVICE_REQUEST,
];
/// One of a connector on which there is perhaps no request, or with a QP that is in use.
const NOT_ACCEPTING: &[NTSTATUS] = &[
    STATUS_PENDING,
    STATUS_CONNECTION_INVALID,
    STATUS_CONNECTION_ABORTED,
    STATUS_CONNECTION_ACTIVE,
    STATUS_INVALID_DEVICE_REQUEST,
];

/// A complete-connect of a connector on which there is perhaps no answer.
const COMPLETING_PERHAPS: &[NTSTATUS] = &[
    STATUS_CONNECTION_INVALID,
    STATUS_PENDING,
    STATUS_CONNECTION_ABORTED,
    STATUS_INVALID_DEVICE_REQUEST,
];

fn event(m: &mut Model, side: usize) -> Event {
    let event = m.chance.of(&[
        Event::Plain,
        Event::Plain,
        Event::Ex,
        Event::Ex,
        Event::None,
        Event::ExNone,
    ]);
    match event {
        Event::Ex | Event::ExNone if !m.sides[side].is_2_1 => Event::Plain,
        event => event,
    }
}

pub(super) fn complete(side: usize) -> bool {
    let id = with(|m| {
        if m.chance.one_in(20) {
            return m.some(side, Kind::Connector);
        }
        let replied = |m: &mut Model, c: Id| m.connector(c).phase == Phase::Replied;
        m.some_where(side, Kind::Connector, replied)
    });
    id.is_some_and(complete_one)
}

/// NdkCompleteConnect on a connector.
pub(super) fn complete_one(id: Id) -> bool {
    let plan = with(|m| {
        let side = m.objects[id].side;
        m.adapter(side)?;
        m.is_live(id).then_some(())?;
        let event = event(m, side);
        let slot = if event.is_ex() {
            Slot::CompleteConnectEx
        } else {
            Slot::CompleteConnect
        };
        let token = m.call(side, slot, &[id]);
        let body = m.connector(id);
        let right: &[NTSTATUS] = match body.phase {
            Phase::Replied => {
                body.phase = Phase::Establishing;
                m.tokens[token].connector = Some(id);
                &[
                    STATUS_PENDING,
                    STATUS_CONNECTION_ABORTED,
                    STATUS_CONNECTION_INVALID,
                    STATUS_INVALID_DEVICE_REQUEST,
                ]
            }
            // Its completion may be on its way, on another processor.
            Phase::Connecting => COMPLETING_PERHAPS,
            _ => &[STATUS_CONNECTION_INVALID, STATUS_CONNECTION_ABORTED],
        };
        Some((m.raw(id), event, token, right))
    });
    plan.is_some_and(|(connector, event, token, right)| {
        let status = raw::complete_connect(connector, event, id as u64, token as u64);
        with(|m| {
            let raced = m.is_shared(id) || m.connector(id).phase == Phase::Unsure;
            let right = if raced { COMPLETING_PERHAPS } else { right };
            m.returned(token, status, right);
            taken(m, token, id, status);
            if status != STATUS_PENDING {
                established(m, token, status);
            }
        });
        true
    })
}

/// An accept or a complete-connect is done.
pub(super) fn established(m: &mut Model, token: usize, status: NTSTATUS) {
    let Some(id) = m.tokens[token].connector else {
        return;
    };
    let body = m.connector(id);
    if body.phase != Phase::Establishing {
        return;
    }
    body.phase = if status == STATUS_SUCCESS {
        Phase::Connected
    } else {
        Phase::Over
    };
    if status == STATUS_SUCCESS {
        m.tally.connections += 1;
    }
}

pub(super) fn accept(side: usize) -> bool {
    let pair = with(|m| pair(m, side, Phase::Incoming));
    pair.is_some_and(|(connector, qp, _)| accept_with(connector, qp))
}

/// Accepts with any QP that is free.
pub(super) fn accept_one(connector: Id) -> bool {
    let qp = with(|m| {
        let side = m.objects[connector].side;
        m.some_where(side, Kind::Qp, |m, qp| m.qp(qp).connector.is_none())
    });
    qp.is_some_and(|qp| accept_with(connector, qp))
}

fn accept_with(connector: Id, qp: Id) -> bool {
    let plan = with(|m| {
        let side = m.objects[connector].side;
        m.adapter(side)?;
        (m.is_live(connector) && m.is_live(qp)).then_some(())?;
        let event = event(m, side);
        let slot = if event.is_ex() {
            Slot::AcceptEx
        } else {
            Slot::Accept
        };
        let token = m.call(side, slot, &[connector, qp]);
        let (offer, fits) = offer(m, CALLEE, token);
        let incoming = m.connector(connector).phase == Phase::Incoming;
        let free = m.qp(qp).connector.is_none();
        if incoming {
            let body = m.connector(connector);
            (body.phase, body.qp) = (Phase::Establishing, Some(qp));
            body.limits = (offer.inbound, offer.outbound);
            m.tokens[token].connector = Some(connector);
        }
        if incoming && free {
            give(m, connector, qp);
        } else {
            claim(m, qp);
        }
        let right: &[NTSTATUS] = match (incoming && free, fits) {
            (true, true) => ACCEPTING,
            (false, true) => NOT_ACCEPTING,
            (_, false) => &[STATUS_INVALID_BUFFER_SIZE],
        };
        let call = Accepting {
            connector: m.raw(connector),
            qp: m.raw(qp),
            offer,
            event,
            id: connector as u64,
            token: token as u64,
        };
        Some((call, incoming && free, fits, token, right))
    });
    let Some((call, given, fits, token, right)) = plan else {
        return false;
    };
    let status = raw::accept(&call);
    with(|m| {
        drop(call);
        if !given {
            claimed(m, qp, status);
        }
        // A call on another processor may have rejected the request meanwhile, or be about to return from that.
        let raced = m.is_shared(connector) || m.connector(connector).phase != Phase::Establishing;
        let right = if raced && fits { NOT_ACCEPTING } else { right };
        m.returned(token, status, right);
        taken(m, token, connector, status);
        // A call with too much data changes nothing; else the request is spoilt, or the peer has given up.
        if status != STATUS_PENDING && m.tokens[token].connector.is_some() {
            give_back(m, connector, qp);
            let body = m.connector(connector);
            if body.phase == Phase::Establishing {
                (body.phase, body.qp) = (Phase::Incoming, None);
            }
        }
    });
    true
}

pub(super) fn reject(side: usize) -> bool {
    let id = with(|m| {
        let any = m.chance.one_in(4);
        let waits =
            |m: &mut Model, c: Id| matches!(m.connector(c).phase, Phase::Incoming | Phase::Replied);
        if any {
            m.some(side, Kind::Connector)
        } else {
            m.some_where(side, Kind::Connector, waits)
        }
    });
    id.is_some_and(reject_one)
}

/// NdkReject on a connector.
pub(super) fn reject_one(id: Id) -> bool {
    let plan = with(|m| {
        let side = m.objects[id].side;
        m.adapter(side)?;
        m.is_live(id).then_some(())?;
        let (offer, fits) = offer(m, CALLEE, 0);
        let phase = m.connector(id).phase;
        let right: &[NTSTATUS] = match (phase, fits) {
            (_, false) => &[STATUS_INVALID_BUFFER_SIZE],
            (Phase::Incoming | Phase::Replied | Phase::Connecting | Phase::Unsure, true) => &[
                STATUS_SUCCESS,
                STATUS_CONNECTION_ABORTED,
                STATUS_CONNECTION_INVALID,
            ],
            _ => &[STATUS_CONNECTION_INVALID, STATUS_CONNECTION_ABORTED],
        };
        Some((
            m.raw(id),
            offer.data,
            m.call(side, Slot::Reject, &[id]),
            right,
        ))
    });
    plan.is_some_and(|(connector, data, token, right)| {
        let status = raw::reject(connector, &data);
        with(|m| {
            m.returned(token, status, right);
            if matches!(status, STATUS_SUCCESS | STATUS_CONNECTION_ABORTED) {
                m.connector(id).phase = Phase::Over;
            }
        });
        true
    })
}

pub(super) fn disconnect(side: usize) -> bool {
    let id = with(|m| {
        let any = m.chance.one_in(10);
        if any {
            m.some(side, Kind::Connector)
        } else {
            m.some_where(side, Kind::Connector, |m, c| {
                m.connector(c).phase == Phase::Connected
            })
        }
    });
    id.is_some_and(disconnect_one)
}

/// NdkDisconnect on a connector.
pub(super) fn disconnect_one(id: Id) -> bool {
    let plan = with(|m| {
        let side = m.objects[id].side;
        m.adapter(side)?;
        m.is_live(id).then_some(())?;
        let token = m.call(side, Slot::Disconnect, &[id]);
        let body = m.connector(id);
        let right: &[NTSTATUS] = match body.phase {
            Phase::Connected | Phase::PeerGone => {
                body.phase = Phase::Disconnecting;
                &[STATUS_PENDING, STATUS_CONNECTION_INVALID]
            }
            // That it stands may be on its way, on another processor.
            Phase::Establishing | Phase::Unsure => &[STATUS_PENDING, STATUS_CONNECTION_INVALID],
            _ => &[STATUS_CONNECTION_INVALID],
        };
        Some((m.raw(id), token, right))
    });
    plan.is_some_and(|(connector, token, right)| {
        let status = raw::disconnect(connector, token as u64);
        with(|m| m.returned(token, status, right));
        true
    })
}
