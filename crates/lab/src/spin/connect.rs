//! Connections, up to the peer's answer.

use super::model::{Body, Id, Kind, Model, Phase, with};
use super::raw::{self, Address, Connecting, From, Offer};
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
pub(super) const PORTS: &[u16] = &[0, 0, 0, 445, 5445, 49_152, 49_153, 65_535];

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
pub(super) fn offer(m: &mut Model, most: usize, token: usize) -> (Offer, bool) {
    let length = match m.chance.below(60) {
        0 => 0,
        1 => most + 1,
        2 => most,
        _ => 8 + m.chance.index(most - 7),
    };
    let mut data = vec![m.chance.number() as u8; length];
    // Who is asking: the other end looks it up.
    if let Some(head) = data.first_chunk_mut::<8>() {
        *head = (token as u64 ^ MARK).to_le_bytes();
    }
    let limits = [0, 1, 4, 4, 16, 16, 16, 16, 16, 16, 16, 100];
    let (inbound, outbound) = (m.chance.of(&limits), m.chance.of(&limits));
    let offer = Offer {
        inbound,
        outbound,
        data,
    };
    (offer, length <= most)
}

/// Tells private data of the walk from other bytes.
const MARK: u64 = 0x5350_494e_0000_0000;

/// The connect that private data of a request names.
pub(super) fn attempt(data: [u8; 8]) -> Option<usize> {
    let number = u64::from_le_bytes(data) ^ MARK;
    (number < 1 << 32).then_some(number as usize)
}

/// Bytes of private data that a request may have.
const CALLER: usize = 56;

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

/// Somebody who listens, mostly; and whether a connect may name it at all.
fn destination(m: &mut Model, v4: bool) -> Option<(SocketAddr, bool)> {
    let mut listening = Vec::new();
    for side in 0..m.sides.len() {
        for id in m.live(side, Kind::Listener) {
            if let Body::Listener(listener) = &m.objects[*id].body
                && let Some(at) = listener.at
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
    match m.chance.below(100) {
        0 => Some((SocketAddr::new(anybody, 0), false)),
        1 if v4 => Some((SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 445), false)),
        2..4 => Some((SocketAddr::new(anybody, 9), true)),
        _ => m.chance.pick(&listening).map(|at| (at, true)),
    }
}

/// A connector and a QP that go together, mostly fresh ones.
pub(super) fn pair(m: &mut Model, side: usize, wanted: Phase) -> Option<(Id, Id, bool)> {
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
pub(super) fn give(m: &mut Model, connector: Id, qp: Id) {
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

/// The QP is named by a call that is about to be made, though the walk has it elsewhere: on another processor, or for all that the walk
/// was not told yet, that may be over.
pub(super) fn claim(m: &mut Model, qp: Id) {
    let body = m.qp(qp);
    (body.touched, body.given) = (true, true);
    body.claims += 1;
}

/// That call has returned.
pub(super) fn claimed(m: &mut Model, qp: Id, status: NTSTATUS) {
    let body = m.qp(qp);
    body.claims -= 1;
    body.strayed |= status == STATUS_PENDING;
}

/// A call of a connector has returned that the walk did not take to be the one that counts.
pub(super) fn taken(m: &mut Model, token: usize, connector: Id, status: NTSTATUS) {
    if status == STATUS_PENDING && m.tokens[token].connector.is_none() {
        m.connector(connector).phase = Phase::Unsure;
    }
}

pub(super) fn connect(side: usize) -> bool {
    let plan = with(|m| {
        let (connector, qp, _) = pair(m, side, Phase::Idle)?;
        let machine = m.sides[side].machine;
        let own = ip(m, machine);
        let port = if m.chance.one_in(6) {
            m.chance.of(PORTS)
        } else {
            0
        };
        let (to, mut is_good) = destination(m, own.is_ipv4())?;
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
        let endpoint = if m.chance.one_in(8) {
            m.some(side, Kind::SharedEndpoint)
        } else {
            None
        };
        let slot = match endpoint {
            None => Slot::Connect,
            Some(_) => Slot::ConnectWithSharedEndpoint,
        };
        let mut users = vec![connector, qp];
        users.extend(endpoint);
        let token = m.call(side, slot, &users);
        let (offer, fits) = offer(m, CALLER, token);
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
        let was_idle = m.connector(connector).phase == Phase::Idle;
        if was_idle {
            let body = m.connector(connector);
            (body.phase, body.qp, body.peer) = (Phase::Connecting, Some(qp), None);
            (body.attempt, body.limits) = (token, (offer.inbound, offer.outbound));
        }
        m.tokens[token].connector = was_idle.then_some(connector);
        let given = m.qp(qp).connector.is_none() && was_idle;
        if given {
            give(m, connector, qp);
        } else {
            claim(m, qp);
        }
        let call = Connecting {
            connector: m.raw(connector),
            qp: m.raw(qp),
            from: endpoint.map_or(From::Address(from), |endpoint| {
                From::SharedEndpoint(m.raw(endpoint))
            }),
            to: Address::new(to),
            offer,
            token: token as u64,
        };
        Some((call, connector, qp, given, token, right))
    });
    plan.is_some_and(|(call, connector, qp, given, token, right)| {
        let status = raw::connect(&call);
        with(|m| {
            // The private data is the host's memory, wherever it is given back.
            drop(call);
            if !given {
                claimed(m, qp, status);
            }
            m.returned(token, status, right);
            taken(m, token, connector, status);
            if status != STATUS_PENDING {
                not_connected(m, token, connector, qp);
            }
        });
        true
    })
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

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::super::model::Connector;
    use super::*;

    #[test]
    fn of_two_connects_at_a_time_either_may_be_taken() {
        let mut m = Model::new(Chance::new(1), false, 1);
        let side = m.add_side(0);
        let connector = Body::Connector(Connector::new(Phase::Connecting));
        let connector = m.unborn(side, Kind::Connector, connector);
        let [first, second] = [(); 2].map(|()| m.call(side, Slot::Connect, &[connector]));
        m.tokens[first].connector = Some(connector);
        taken(&mut m, first, connector, STATUS_PENDING);
        assert_eq!(m.connector(connector).phase, Phase::Connecting);
        taken(&mut m, second, connector, STATUS_CONNECTION_ACTIVE);
        assert_eq!(m.connector(connector).phase, Phase::Connecting);
        taken(&mut m, second, connector, STATUS_PENDING);
        assert_eq!(m.connector(connector).phase, Phase::Unsure);
    }
}
