//! Connections: listeners, connectors, and how they end.

use super::model::{Body, Id, Kind, Model, Phase, with};
use super::raw::{self, Address, Event, Offer};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The addresses of a machine.
pub(super) fn addresses(machine: usize) -> (Ipv4Addr, Ipv6Addr) {
    let last = machine as u8 + 1;
    (
        Ipv4Addr::new(10, 0, 0, last),
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last.into()),
    )
}

fn ip(m: &mut Model, machine: usize) -> IpAddr {
    let (v4, v6) = addresses(machine);
    if m.chance.percent(75) {
        v4.into()
    } else {
        v6.into()
    }
}

/// Ports that are named; few, so that they are wanted twice.
const PORTS: &[u16] = &[0, 0, 0, 445, 5445, 49_152, 49_153, 65_535];

/// An address to listen on or to share; false if it is one that nobody can have.
pub(super) fn local(m: &mut Model, machine: usize) -> (Address, bool) {
    let own = ip(m, machine);
    let port = m.chance.of(PORTS);
    let good = Address::new(SocketAddr::new(own, port));
    match m.chance.below(40) {
        0 => (good.cut(15), false),
        1 => (good.family(99), false),
        _ => (good, true),
    }
}

/// What both ends may ask for. True if the private data is not too long.
fn offer(m: &mut Model, most: usize, id: Id) -> (u32, u32, Vec<u8>, bool) {
    let length = match m.chance.below(30) {
        0 => 0,
        1 => most + 1,
        2 => most,
        _ => 8 + m.chance.index(most - 7),
    };
    let mut data = vec![m.chance.number() as u8; length];
    // Who is asking: the other end looks it up.
    if let Some(head) = data.first_chunk_mut::<8>() {
        *head = (id as u64 ^ MARK).to_le_bytes();
    }
    let limits = [0, 1, 4, 16, 16, 16, 16, 100];
    let (inbound, outbound) = (m.chance.of(&limits), m.chance.of(&limits));
    (inbound, outbound, data, length <= most)
}

/// Tells private data of the walk from other bytes.
const MARK: u64 = 0x5350_494e_0000_0000;

/// The connector that private data of a request names.
pub(super) fn asker(data: [u8; 8]) -> Option<Id> {
    let number = u64::from_le_bytes(data) ^ MARK;
    (number < 1 << 32).then_some(number as Id)
}

/// Bytes of private data that a request may have, and an answer.
const CALLER: usize = 56;
const CALLEE: usize = 148;

/// How a connect may end.
pub(super) const CONNECTED: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_NETWORK_UNREACHABLE,
    STATUS_HOST_UNREACHABLE,
    STATUS_CONNECTION_REFUSED,
    STATUS_CONNECTION_ABORTED,
    STATUS_IO_TIMEOUT,
    STATUS_SHARING_VIOLATION,
    STATUS_INVALID_ADDRESS,
    STATUS_TOO_MANY_ADDRESSES,
    STATUS_ADDRESS_ALREADY_EXISTS,
    STATUS_CANCELLED,
    // The QP is dead.
    STATUS_INVALID_DEVICE_REQUEST,
];
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
/// How listening may end, if it pended.
pub(super) const LISTENS: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SHARING_VIOLATION,
    STATUS_INVALID_ADDRESS,
    STATUS_CANCELLED,
];

/// A connect that is made right.
const CONNECTING: &[NTSTATUS] = &[
    STATUS_PENDING,
    STATUS_SHARING_VIOLATION,
    STATUS_ADDRESS_ALREADY_EXISTS,
    STATUS_TOO_MANY_ADDRESSES,
    STATUS_INVALID_ADDRESS,
    STATUS_CONNECTION_ACTIVE,
    STATUS_INVALID_DEVICE_REQUEST,
];
/// One that is not.
const NOT_CONNECTING: &[NTSTATUS] = &[
    STATUS_INVALID_ADDRESS,
    STATUS_INVALID_PARAMETER,
    STATUS_INVALID_BUFFER_SIZE,
    STATUS_SHARING_VIOLATION,
    STATUS_ADDRESS_ALREADY_EXISTS,
    STATUS_TOO_MANY_ADDRESSES,
    STATUS_CONNECTION_ACTIVE,
    STATUS_INVALID_DEVICE_REQUEST,
];

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

/// Somebody who listens, mostly; and whether a connect may name it at all.
fn destination(m: &mut Model, v4: bool) -> (SocketAddr, bool) {
    let mut listening = Vec::new();
    for side in 0..m.sides.len() {
        for id in m.live(side, Kind::Listener) {
            if let Body::Listener { at: Some(at) } = m.objects[*id].body
                && at.is_ipv4() == v4
            {
                listening.push(at);
            }
        }
    }
    let anybody = if v4 {
        IpAddr::V4(addresses(m.chance.index(3)).0)
    } else {
        IpAddr::V6(addresses(m.chance.index(3)).1)
    };
    match m.chance.below(50) {
        0 => (SocketAddr::new(anybody, 0), false),
        1 if v4 => (SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 445), false),
        2 => (SocketAddr::new(anybody, 9), true),
        _ => match m.chance.pick(&listening) {
            Some(at) => (at, true),
            None => (SocketAddr::new(anybody, 445), true),
        },
    }
}

/// A connector and a QP that go together, mostly fresh ones.
fn pair(m: &mut Model, side: usize, wanted: Phase) -> Option<(Id, Id, bool)> {
    let any = m.chance.one_in(25);
    let connector = if any {
        m.some(side, Kind::Connector)?
    } else {
        m.some_where(side, Kind::Connector, |m, c| m.connector(c).phase == wanted)?
    };
    let qp = if any {
        m.some(side, Kind::Qp)?
    } else {
        m.some_where(side, Kind::Qp, |m, qp| m.qp(qp).connector.is_none())?
    };
    Some((connector, qp, any))
}

/// The QP is given to the connector by a call that is about to be made; what was before.
fn give(m: &mut Model, connector: Id, qp: Id) {
    let body = m.qp(qp);
    (body.touched, body.given) = (true, true);
    if body.connector.is_none() {
        body.connector = Some(connector);
    }
}

/// It was not taken, or given back: another connector may have it.
pub(super) fn give_back(m: &mut Model, connector: Id, qp: Id) {
    let body = m.qp(qp);
    if body.connector == Some(connector) {
        body.connector = None;
    }
}

pub(super) fn connect(side: usize) -> bool {
    let plan = with(|m| {
        let (connector, qp, _) = pair(m, side, Phase::Idle)?;
        let machine = m.sides[side].machine;
        let own = ip(m, machine);
        let port = m.chance.of(PORTS);
        let (to, mut is_good) = destination(m, own.is_ipv4());
        let mut from = Address::new(SocketAddr::new(own, port));
        match m.chance.below(60) {
            0 => (from, is_good) = (from.cut(3), false),
            1 => (from, is_good) = (from.family(0), false),
            // The other machine's: that is found out later.
            2 => {
                let other = SocketAddr::new(addresses(machine ^ 1).0.into(), port);
                is_good &= other.is_ipv4() == to.is_ipv4();
                from = Address::new(other);
            }
            _ => {}
        }
        let endpoint = if m.chance.one_in(5) {
            m.some(side, Kind::SharedEndpoint)
        } else {
            None
        };
        let (inbound, outbound, data, fits) = offer(m, CALLER, connector);
        let slot = match endpoint {
            None => Slot::Connect,
            Some(_) => Slot::ConnectWithSharedEndpoint,
        };
        let right = match (is_good && fits, endpoint) {
            (true, None) => CONNECTING,
            // It may be of the other family.
            (true, Some(_)) => &[
                STATUS_PENDING,
                STATUS_ADDRESS_ALREADY_EXISTS,
                STATUS_CONNECTION_ACTIVE,
                STATUS_INVALID_DEVICE_REQUEST,
                STATUS_INVALID_PARAMETER,
            ],
            // A shared endpoint needs no address of its own.
            (false, None) => NOT_CONNECTING,
            (false, Some(_)) if fits => &[
                STATUS_PENDING,
                STATUS_INVALID_PARAMETER,
                STATUS_ADDRESS_ALREADY_EXISTS,
                STATUS_CONNECTION_ACTIVE,
                STATUS_INVALID_DEVICE_REQUEST,
            ],
            (false, Some(_)) => NOT_CONNECTING,
        };
        let mut users = vec![connector, qp];
        users.extend(endpoint);
        let token = m.call(side, slot, &users);
        let was_idle = m.connector(connector).phase == Phase::Idle;
        if was_idle {
            let body = m.connector(connector);
            (body.phase, body.qp, body.peer) = (Phase::Connecting, Some(qp), None);
        }
        m.tokens[token].connector = was_idle.then_some(connector);
        let given = m.qp(qp).connector.is_none() && was_idle;
        if given {
            give(m, connector, qp);
        } else {
            let body = m.qp(qp);
            (body.touched, body.given) = (true, true);
        }
        let raws = (
            m.raw(connector),
            m.raw(qp),
            endpoint.map(|endpoint| m.raw(endpoint)),
        );
        let to = Address::new(to);
        Some((
            connector, qp, raws, from, to, inbound, outbound, data, token, right,
        ))
    });
    let Some((connector, qp, raws, from, to, inbound, outbound, data, token, right)) = plan else {
        return false;
    };
    let offer = Offer {
        inbound,
        outbound,
        data: &data,
    };
    let status = match raws {
        (c, q, None) => raw::connect(c, q, &from, &to, &offer, token as u64),
        (c, q, Some(shared)) => raw::connect_shared(c, q, shared, &to, &offer, token as u64),
    };
    with(|m| {
        m.returned(token, status, right);
        if status != STATUS_PENDING {
            not_connected(m, token, connector, qp);
        }
    });
    true
}

/// A connect that was made on an idle connector has failed: both can be used again.
fn not_connected(m: &mut Model, token: usize, connector: Id, qp: Id) {
    if m.tokens[token].connector == Some(connector) {
        let body = m.connector(connector);
        if body.phase == Phase::Connecting {
            (body.phase, body.qp) = (Phase::Idle, None);
        }
        give_back(m, connector, qp);
    }
}

/// A connect is done. The connector, if it can be completed now.
pub(super) fn connected(m: &mut Model, token: usize, status: NTSTATUS) -> Option<Id> {
    let connector = m.tokens[token].connector?;
    if status == STATUS_SUCCESS {
        let body = m.connector(connector);
        if body.phase == Phase::Connecting {
            body.phase = Phase::Replied;
        }
        return m.is_live(connector).then_some(connector);
    }
    if let Some(qp) = m.connector(connector).qp {
        not_connected(m, token, connector, qp);
    }
    None
}

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
            Phase::Connecting => &[
                STATUS_CONNECTION_INVALID,
                STATUS_PENDING,
                STATUS_CONNECTION_ABORTED,
                STATUS_INVALID_DEVICE_REQUEST,
            ],
            _ => &[STATUS_CONNECTION_INVALID, STATUS_CONNECTION_ABORTED],
        };
        Some((m.raw(id), event, token, right))
    });
    plan.is_some_and(|(connector, event, token, right)| {
        let status = raw::complete_connect(connector, event, id as u64, token as u64);
        with(|m| {
            m.returned(token, status, right);
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
        let (inbound, outbound, data, fits) = offer(m, CALLEE, connector);
        let event = event(m, side);
        let slot = if event.is_ex() {
            Slot::AcceptEx
        } else {
            Slot::Accept
        };
        let token = m.call(side, slot, &[connector, qp]);
        let incoming = m.connector(connector).phase == Phase::Incoming;
        let free = m.qp(qp).connector.is_none();
        if incoming {
            let body = m.connector(connector);
            (body.phase, body.qp) = (Phase::Establishing, Some(qp));
            m.tokens[token].connector = Some(connector);
        }
        if incoming && free {
            give(m, connector, qp);
        } else {
            let body = m.qp(qp);
            (body.touched, body.given) = (true, true);
        }
        let right: &[NTSTATUS] = match (incoming && free, fits) {
            (true, true) => ACCEPTING,
            (false, true) => NOT_ACCEPTING,
            (_, false) => &[STATUS_INVALID_BUFFER_SIZE],
        };
        let raws = (m.raw(connector), m.raw(qp));
        Some((raws, inbound, outbound, data, fits, event, token, right))
    });
    let Some(((raw, pair), inbound, outbound, data, fits, event, token, right)) = plan else {
        return false;
    };
    let offer = Offer {
        inbound,
        outbound,
        data: &data,
    };
    let status = raw::accept(raw, pair, &offer, event, connector as u64, token as u64);
    with(|m| {
        // A call on another processor may have rejected the request meanwhile, or be about to return from that.
        let raced = m.is_shared(connector) || m.connector(connector).phase != Phase::Establishing;
        let right = if raced && fits { NOT_ACCEPTING } else { right };
        m.returned(token, status, right);
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
        let (_, _, data, fits) = offer(m, CALLEE, id);
        let phase = m.connector(id).phase;
        let right: &[NTSTATUS] = match (phase, fits) {
            (_, false) => &[STATUS_INVALID_BUFFER_SIZE],
            (Phase::Incoming | Phase::Replied | Phase::Connecting, true) => &[
                STATUS_SUCCESS,
                STATUS_CONNECTION_ABORTED,
                STATUS_CONNECTION_INVALID,
            ],
            _ => &[STATUS_CONNECTION_INVALID, STATUS_CONNECTION_ABORTED],
        };
        Some((m.raw(id), data, m.call(side, Slot::Reject, &[id]), right))
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
            Phase::Establishing => &[STATUS_PENDING, STATUS_CONNECTION_INVALID],
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

pub(super) fn listen(side: usize) -> bool {
    let plan = with(|m| {
        let again = m.chance.one_in(8);
        let id = if again {
            m.some(side, Kind::Listener)?
        } else {
            let idle =
                |m: &mut Model, id: Id| matches!(m.objects[id].body, Body::Listener { at: None });
            m.some_where(side, Kind::Listener, idle)?
        };
        let machine = m.sides[side].machine;
        let (at, is_good) = if m.chance.one_in(10) {
            let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), m.chance.of(PORTS));
            (Address::new(any), true)
        } else {
            local(m, machine)
        };
        let right: &[NTSTATUS] = if is_good {
            &[
                STATUS_SUCCESS,
                STATUS_PENDING,
                STATUS_SHARING_VIOLATION,
                STATUS_TOO_MANY_ADDRESSES,
                STATUS_INVALID_DEVICE_REQUEST,
            ]
        } else {
            &[STATUS_INVALID_ADDRESS]
        };
        let token = m.call(side, Slot::Listen, &[id]);
        Some((id, m.raw(id), at, token, right))
    });
    let Some((id, listener, at, token, right)) = plan else {
        return false;
    };
    let status = raw::listen(listener, &at, token as u64);
    with(|m| m.returned(token, status, right));
    if status == STATUS_SUCCESS {
        ask_where(id);
    }
    true
}

/// Asks a listener for its address, which peers may then connect to.
pub(super) fn ask_where(id: Id) -> bool {
    let plan = with(|m| {
        let side = m.objects[id].side;
        m.adapter(side)?;
        m.is_live(id).then_some(())?;
        let room = m.chance.of(&[28, 28, 28, 16, 2, 0]);
        let token = m.call(side, Slot::ListenerLocalAddress, &[id]);
        Some((side, m.raw(id), room, token))
    });
    let Some((side, listener, room, token)) = plan else {
        return false;
    };
    let (status, found) = raw::listener_address(listener, room);
    with(|m| {
        m.returned(
            token,
            status,
            &[
                STATUS_SUCCESS,
                STATUS_BUFFER_TOO_SMALL,
                STATUS_INVALID_DEVICE_STATE,
            ],
        );
        if let Some(found) = found.filter(|_| status == STATUS_SUCCESS) {
            let ip = match found.ip() {
                ip if ip.is_unspecified() => addresses(m.sides[side].machine).0.into(),
                ip => ip,
            };
            if let Body::Listener { at } = &mut m.objects[id].body {
                *at = Some(SocketAddr::new(ip, found.port()));
            }
        }
    });
    true
}

pub(super) fn pause(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Listener)?;
        let pause = m.chance.one_in(4);
        let token = m.call(side, Slot::ControlConnectEvents, &[id]);
        Some((m.raw(id), pause, token))
    });
    plan.is_some_and(|(listener, pause, token)| {
        raw::control(listener, pause);
        with(|m| m.over(token));
        true
    })
}
