//! What the consumer does when it is called: takes note, goes on with what it was told of, and does what it likes, up to closing the
//! object that the callback is for.

use super::model::{Body, Connector, Id, Kind, Model, Phase, with};
use super::raw::Raw;
use super::slot::Slot;
use super::{close, create, memory, query, queue, walk};
use super::{connect, establish, listen};
use ndkpi::NTSTATUS;
use ndkpi::status::*;

/// A callback that runs.
struct Inside(usize);

impl Inside {
    fn enter(side: usize, what: &'static str, status: Option<NTSTATUS>) -> Inside {
        with(|m| {
            m.tally.callback(what, status);
            m.nested += 1;
        });
        Inside(side)
    }
}

impl Drop for Inside {
    /// Most callbacks do something else before they return.
    fn drop(&mut self) {
        let more = with(|m| {
            if m.nested <= 2 && m.chance.percent(35) {
                1 + m.chance.below(2)
            } else {
                0
            }
        });
        for _ in 0..more {
            walk::step(self.0);
        }
        with(|m| m.nested -= 1);
    }
}

fn side_of(token: usize) -> usize {
    with(|m| m.tokens[token].side)
}

/// NdkCreateCompletion.
pub(super) fn created(token: usize, status: NTSTATUS, object: Option<Raw>) {
    let _inside = Inside::enter(side_of(token), "create completion", Some(status));
    with(|m| {
        m.complete(token, status, create::SHARED_ENDPOINT);
        let Some(id) = m.tokens[token].object else {
            return;
        };
        match object.filter(|_| status == STATUS_SUCCESS) {
            Some(object) => m.born(id, object),
            None => m.stillborn(id),
        }
    });
}

/// NdkRequestCompletion.
pub(super) fn completed(token: usize, status: NTSTATUS) {
    let _inside = Inside::enter(side_of(token), "request completion", Some(status));
    let slot = with(|m| m.tokens[token].slot);
    match slot {
        Slot::Connect | Slot::ConnectWithSharedEndpoint => connect_completed(token, status),
        Slot::Accept | Slot::AcceptEx | Slot::CompleteConnect | Slot::CompleteConnectEx => {
            with(|m| {
                m.complete(token, status, establish::ESTABLISHED);
                establish::established(m, token, status);
            });
        }
        Slot::Disconnect => with(|m| {
            m.complete(token, status, establish::DISCONNECTED);
            if let Some(id) = m.tokens[token].object {
                m.connector(id).phase = Phase::Over;
            }
        }),
        Slot::Listen => {
            let id = with(|m| {
                m.complete(token, status, listen::LISTENS);
                m.tokens[token].object
            });
            if let Some(id) = id.filter(|_| status == STATUS_SUCCESS) {
                listen::ask_where(id);
            }
        }
        Slot::DeregisterMr => {
            let held = with(|m| {
                m.complete(token, status, &[STATUS_SUCCESS]);
                m.tokens[token].ground.take()
            });
            memory::free(held);
        }
        Slot::RegisterMr => {
            let unused = with(|m| {
                m.complete(
                    token,
                    status,
                    &[STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES],
                );
                if status == STATUS_SUCCESS {
                    memory::registered(m, token);
                }
                m.tokens[token].ground.take()
            });
            memory::free(unused);
        }
        _ => with(|m| {
            m.complete(
                token,
                status,
                &[STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES],
            );
        }),
    }
    // The object that it was about, from inside its own callback.
    if with(|m| m.chance.one_in(60))
        && let Some(id) = with(|m| m.tokens[token].object)
    {
        close::close(id);
    }
}

fn connect_completed(token: usize, status: NTSTATUS) {
    let connector = with(|m| {
        m.complete(token, status, connect::CONNECTED);
        connect::connected(m, token, status)
    });
    let Some(connector) = connector else {
        return;
    };
    match with(|m| m.chance.below(40)) {
        0 => {
            establish::reject_one(connector);
        }
        1 => {
            close::close(connector);
        }
        2 => {
            query::data_of(connector, None);
        }
        3..5 => {}
        _ => {
            establish::complete_one(connector);
        }
    }
}

/// NdkCloseCompletion.
pub(super) fn closed(token: usize) {
    let _inside = Inside::enter(side_of(token), "close completion", None);
    let ground = with(|m| {
        m.tokens[token].completed = Some(STATUS_SUCCESS);
        let id = m.tokens[token].object?;
        m.closed(id)
    });
    memory::free(ground);
}

/// The side of the object that an event's context names, if it is one of that kind and may have events.
fn subject(context: usize, kind: Kind) -> Option<usize> {
    with(|m| match m.objects.get(context) {
        Some(object) if object.kind == kind => Some(object.side),
        _ => {
            m.fault(format!("an event of {kind:?} {context}, which is none"));
            None
        }
    })
}

/// NdkCqNotificationCallback.
pub(super) fn cq_notified(cq: Id, status: NTSTATUS) {
    let Some(side) = subject(cq, Kind::Cq) else {
        return;
    };
    let _inside = Inside::enter(side, "CQ notification", Some(status));
    let what = with(|m| {
        if status != STATUS_SUCCESS {
            queue::failed(m, cq, status);
        }
        m.chance.below(200)
    });
    match what {
        0 => {
            close::close(cq);
        }
        1..10 => {}
        10..40 => {
            queue::arm_one(side, Some(cq));
            queue::drain(side, cq);
        }
        _ => {
            queue::drain(side, cq);
            queue::arm_one(side, Some(cq));
        }
    }
}

/// NdkSrqNotificationCallback.
pub(super) fn srq_notified(srq: Id, status: NTSTATUS) {
    let Some(side) = subject(srq, Kind::Srq) else {
        return;
    };
    let _inside = Inside::enter(side, "SRQ notification", Some(status));
    if with(|m| m.chance.one_in(60)) {
        close::close(srq);
    }
}

/// NdkConnectEventCallback.
pub(super) fn connecting(listener: Id, connector: Raw) {
    let Some(side) = subject(listener, Kind::Listener) else {
        return;
    };
    let _inside = Inside::enter(side, "connect event", None);
    let (id, leaving) = with(|m| {
        let body = Body::Connector(Connector::new(Phase::Incoming));
        let id = m.unborn(side, Kind::Connector, body);
        m.born(id, connector);
        (id, m.adapter(side).is_none())
    });
    if leaving {
        close::close(id);
        return;
    }
    if let Some(Some(head)) = query::data_of(id, Some(256)) {
        with(|m| introduce(m, id, head));
    }
    match with(|m| m.chance.below(60)) {
        0 => {
            establish::reject_one(id);
        }
        1 => {
            close::close(id);
        }
        2 => {
            close::close(listener);
        }
        3 => {
            close::close(listener);
            close::close(id);
        }
        4..14 => {}
        _ => {
            establish::accept_one(id);
        }
    }
}

/// The two ends of a connection get to know each other.
fn introduce(m: &mut Model, id: Id, head: [u8; 8]) {
    // A request may come late, when the other end is at another attempt already.
    let Some(attempt) = connect::attempt(head) else {
        return;
    };
    let token = m.tokens.get(attempt);
    let Some(asker) = token.and_then(|token| token.connector) else {
        return;
    };
    if m.connector(asker).attempt == attempt {
        m.connector(id).peer = Some(asker);
        m.connector(asker).peer = Some(id);
    }
}

/// NdkDisconnectEventCallback, and the Ex form, which gives a reason.
pub(super) fn disconnected(connector: Id, reason: Option<u32>) {
    let Some(side) = subject(connector, Kind::Connector) else {
        return;
    };
    let _inside = Inside::enter(side, "disconnect event", None);
    let (what, qp) = with(|m| {
        if reason == Some(0) {
            m.fault(format!(
                "connector {connector} was disconnected for no reason"
            ));
        }
        let body = m.connector(connector);
        if body.phase == Phase::Connected {
            body.phase = Phase::PeerGone;
        }
        (m.chance.below(20), m.connector(connector).qp)
    });
    match what {
        0..4 => {
            close::close(connector);
        }
        4 => {
            if let Some(qp) = qp {
                close::close(qp);
            }
        }
        5..10 => {
            establish::disconnect_one(connector);
        }
        _ => {}
    }
}

/// A DPC of the consumer's own, on whichever processor it was queued to.
pub(super) fn elsewhere(side: usize) {
    let count = with(|m| {
        m.tally.elsewhere += 1;
        m.nested += 1;
        1 + m.chance.below(3)
    });
    for _ in 0..count {
        walk::step(side);
    }
    with(|m| m.nested -= 1);
}
