//! Questions: what objects tell about themselves.

use super::model::{Id, Kind, with};
use super::raw;
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;
use ndkpi::{NDK_VERSION_1_2, NDK_VERSION_2_1};

pub(super) fn extension(side: usize) -> bool {
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        let kind = m.chance.pick(&Kind::ALL).filter(|_| !m.chance.one_in(9));
        let version = m.chance.of(&[NDK_VERSION_1_2, NDK_VERSION_2_1]);
        let Some(kind) = kind else {
            let token = m.call(side, Slot::AdapterQueryExtension, &[]);
            return Some((adapter, true, version, token));
        };
        let id = m.some(side, kind)?;
        let slot = match kind {
            Kind::Pd => Slot::PdQueryExtension,
            Kind::Cq => Slot::CqQueryExtension,
            Kind::Qp => Slot::QpQueryExtension,
            Kind::Srq => Slot::SrqQueryExtension,
            Kind::Mr => Slot::MrQueryExtension,
            Kind::Mw => Slot::MwQueryExtension,
            Kind::Connector => Slot::ConnectorQueryExtension,
            Kind::Listener => Slot::ListenerQueryExtension,
            Kind::SharedEndpoint => Slot::SharedEndpointQueryExtension,
        };
        let token = m.call(side, slot, &[id]);
        Some((m.raw(id), false, version, token))
    });
    plan.is_some_and(|(object, is_adapter, version, token)| {
        let status = raw::query_extension(object, is_adapter, version);
        with(|m| m.returned(token, status, &[STATUS_NOT_SUPPORTED]));
        true
    })
}

/// Callable at PASSIVE_LEVEL only.
pub(super) fn info(side: usize) -> bool {
    if raw::irql() != 0 {
        return false;
    }
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        let room = m.chance.of(&[0, 8, 95, 104, 104, 104]);
        let token = m.call(side, Slot::QueryAdapterInfo, &[]);
        Some((adapter, room, token))
    });
    plan.is_some_and(|(adapter, room, token)| {
        let status = raw::query_info(adapter, room);
        let right: &[NTSTATUS] = if room < 96 {
            &[STATUS_BUFFER_TOO_SMALL]
        } else {
            &[STATUS_SUCCESS]
        };
        with(|m| m.returned(token, status, right));
        true
    })
}

/// How a question for a connector's address may be answered.
const ADDRESS: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_BUFFER_TOO_SMALL,
    STATUS_CONNECTION_INVALID,
];

pub(super) fn address(side: usize) -> bool {
    let plan = with(|m| {
        let kind = m.chance.of(&[
            Kind::Connector,
            Kind::Connector,
            Kind::Listener,
            Kind::SharedEndpoint,
        ]);
        let id = m.some(side, kind)?;
        let room = m.chance.of(&[28, 28, 16, 15, 0]);
        let peer = m.chance.percent(50);
        Some((id, kind, room, peer))
    });
    let Some((id, kind, room, peer)) = plan else {
        return false;
    };
    match kind {
        Kind::Listener => super::listen::ask_where(id),
        Kind::SharedEndpoint => of_endpoint(side, id, room),
        _ => of_connector(side, id, room, peer),
    }
}

fn of_endpoint(side: usize, id: Id, room: u32) -> bool {
    let (endpoint, token) = with(|m| {
        let token = m.call(side, Slot::SharedEndpointLocalAddress, &[id]);
        (m.raw(id), token)
    });
    let status = raw::endpoint_address(endpoint, room);
    let right: &[NTSTATUS] = &[STATUS_SUCCESS, STATUS_BUFFER_TOO_SMALL];
    with(|m| m.returned(token, status, if room < 28 { right } else { &right[..1] }));
    true
}

fn of_connector(side: usize, id: Id, room: u32, peer: bool) -> bool {
    let (connector, token) = with(|m| {
        let slot = if peer {
            Slot::ConnectorPeerAddress
        } else {
            Slot::ConnectorLocalAddress
        };
        (m.raw(id), m.call(side, slot, &[id]))
    });
    let status = raw::connector_address(connector, peer, room);
    with(|m| m.returned(token, status, ADDRESS));
    true
}

pub(super) fn connection_data(side: usize) -> bool {
    let id = with(|m| m.some(side, Kind::Connector));
    id.is_some_and(|id| data_of(id, None).is_some())
}

/// NdkGetConnectionData on a connector: the first bytes of what the peer sent, if there are any.
/// With no room given there is any.
pub(super) fn data_of(id: Id, room: Option<usize>) -> Option<Option<[u8; 8]>> {
    let (connector, room, limits, token) = with(|m| {
        let side = m.objects[id].side;
        m.adapter(side)?;
        m.is_live(id).then_some(())?;
        let room = room.unwrap_or_else(|| m.chance.of(&[0, 16, 55, 148, 256]));
        let limits = m.chance.percent(50);
        let token = m.call(side, Slot::GetConnectionData, &[id]);
        Some((m.raw(id), room, limits, token))
    })?;
    let (status, head) = raw::connection_data(connector, room, limits);
    let right: &[NTSTATUS] = &[
        STATUS_SUCCESS,
        STATUS_BUFFER_TOO_SMALL,
        STATUS_CONNECTION_INVALID,
    ];
    with(|m| {
        m.returned(token, status, right);
    });
    let has_data = room >= 8 && status != STATUS_CONNECTION_INVALID;
    Some(has_data.then_some(head))
}
