//! Listeners.

use super::connect::{PORTS, addresses, local};
use super::model::{Id, Kind, with};
use super::raw::{self, Address};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;
use std::net::{Ipv4Addr, SocketAddr};

/// How listening may end, if it pended.
pub(super) const LISTENS: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SHARING_VIOLATION,
    STATUS_INVALID_ADDRESS,
    STATUS_CANCELLED,
];

pub(super) fn listen(side: usize) -> bool {
    let plan = with(|m| {
        let again = m.chance.one_in(15);
        let id = if again {
            m.some(side, Kind::Listener)?
        } else {
            m.some_where(side, Kind::Listener, |m, id| !m.listener(id).told)?
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
        m.listener(id).told = true;
        let token = m.call(side, Slot::Listen, &[id]);
        Some((id, m.raw(id), at, token, right))
    });
    let Some((id, listener, at, token, right)) = plan else {
        return false;
    };
    let status = raw::listen(listener, &at, token as u64);
    with(|m| {
        m.returned(token, status, right);
        if !matches!(status, STATUS_SUCCESS | STATUS_PENDING) && m.listener(id).at.is_none() {
            m.listener(id).told = false;
        }
    });
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
        let wanted = m.listener(id).at.is_none() && !m.chance.one_in(10);
        let room = if wanted {
            28
        } else {
            m.chance.of(&[28, 16, 2, 0])
        };
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
            m.listener(id).at = Some(SocketAddr::new(ip, found.port()));
        }
    });
    true
}

pub(super) fn pause(side: usize) -> bool {
    let plan = with(|m| {
        let id = m.some(side, Kind::Listener)?;
        let pause = m.chance.one_in(5);
        let token = m.call(side, Slot::ControlConnectEvents, &[id]);
        Some((m.raw(id), pause, token))
    });
    plan.is_some_and(|(listener, pause, token)| {
        raw::control(listener, pause);
        with(|m| m.over(token));
        true
    })
}
