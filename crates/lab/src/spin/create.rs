//! Creating objects.

use super::model::{Body, Connector, Cq, Id, Kind, Listener, Model, Mr, Mw, Phase, Qp, Srq, with};
use super::post::{fits, forgets};
use super::raw::{self, Address, Raw, Sizes};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;

/// The answers to a create with arguments that are right.
const MADE: &[NTSTATUS] = &[STATUS_SUCCESS, STATUS_PENDING];
/// The answers to the create of a QP on queues that may have failed.
const ON_DEAD_QUEUES: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_PENDING,
    STATUS_INVALID_PARAMETER,
    STATUS_INVALID_DEVICE_REQUEST,
];
/// The answer to one beyond a limit.
const REFUSED: &[NTSTATUS] = &[STATUS_INVALID_PARAMETER];

/// A create that is about to be called.
struct Making {
    parent: Raw,
    id: Id,
    token: usize,
    right: &'static [NTSTATUS],
}

impl Making {
    fn done(self, (status, object): (NTSTATUS, Option<Raw>)) -> bool {
        with(|m| {
            m.returned(self.token, status, self.right);
            match (status, object) {
                (STATUS_SUCCESS, Some(object)) => m.born(self.id, object),
                // Its completion was called, or will be.
                (STATUS_PENDING, _) => {}
                _ => m.stillborn(self.id),
            }
        });
        true
    }

    /// For the create call: the new object's number and the request's.
    fn contexts(&self) -> (u64, u64) {
        (self.id as u64, self.token as u64)
    }
}

/// Prepares the creation of an adapter's child.
fn of_adapter(m: &mut Model, side: usize, kind: Kind, slot: Slot, body: Body) -> Option<Making> {
    if m.crowded(side, kind) {
        return None;
    }
    let parent = m.adapter(side)?;
    Some(make(m, side, kind, slot, body, parent, &[]))
}

fn make(
    m: &mut Model,
    side: usize,
    kind: Kind,
    slot: Slot,
    body: Body,
    parent: Raw,
    users: &[Id],
) -> Making {
    let id = m.unborn(side, kind, body);
    let token = m.call(side, slot, users);
    m.tokens[token].object = Some(id);
    Making {
        parent,
        id,
        token,
        right: MADE,
    }
}

pub(super) fn cq(side: usize) -> bool {
    let plan = with(|m| {
        let depth = match m.chance.below(40) {
            0 => 0,
            1 => 65_537,
            2 => u32::MAX,
            3 => 65_536,
            4 => m.chance.of(&[1, 2, 3]),
            5..8 => 16,
            _ => m.chance.of(&[64, 256, 512]),
        };
        let body = Body::Cq(Cq {
            depth: depth.into(),
            ..Cq::default()
        });
        let mut making = of_adapter(m, side, Kind::Cq, Slot::CreateCq, body)?;
        if !(1..=65_536).contains(&depth) {
            making.right = REFUSED;
        }
        Some((making, depth))
    });
    plan.is_some_and(|(making, depth)| {
        let (cq, token) = making.contexts();
        let made = raw::create_cq(making.parent, depth, cq, token);
        making.done(made)
    })
}

pub(super) fn pd(side: usize) -> bool {
    let body = Body::Pd { privileged: None };
    let making = with(|m| of_adapter(m, side, Kind::Pd, Slot::CreatePd, body));
    making.is_some_and(|making| {
        let made = raw::create_pd(making.parent, making.contexts().1);
        making.done(made)
    })
}

pub(super) fn connector(side: usize) -> bool {
    let body = Body::Connector(Connector::new(Phase::Idle));
    let making = with(|m| {
        let idle = |m: &mut Model, c: Id| m.connector(c).phase == Phase::Idle;
        if enough(m, side, Kind::Connector, idle) {
            return None;
        }
        of_adapter(m, side, Kind::Connector, Slot::CreateConnector, body)
    });
    making.is_some_and(|making| {
        let made = raw::create_connector(making.parent, making.contexts().1);
        making.done(made)
    })
}

/// Whether there is enough of what waits to be used: then more is seldom wanted.
fn enough(m: &mut Model, side: usize, kind: Kind, waits: impl Fn(&mut Model, Id) -> bool) -> bool {
    let all = m.live(side, kind).to_vec();
    let waiting = all.into_iter().filter(|id| waits(m, *id)).count();
    waiting >= 3 && !m.chance.one_in(20)
}

pub(super) fn listener(side: usize) -> bool {
    let body = Body::Listener(Listener::default());
    let making = with(|m| of_adapter(m, side, Kind::Listener, Slot::CreateListener, body));
    making.is_some_and(|making| {
        let (listener, token) = making.contexts();
        let made = raw::create_listener(making.parent, listener, token);
        making.done(made)
    })
}

/// How the creation of a shared endpoint may end.
pub(super) const SHARED_ENDPOINT: &[NTSTATUS] = &[
    STATUS_SUCCESS,
    STATUS_INSUFFICIENT_RESOURCES,
    STATUS_SHARING_VIOLATION,
    STATUS_INVALID_ADDRESS,
];

pub(super) fn shared_endpoint(side: usize) -> bool {
    let plan = with(|m| {
        let kind = Kind::SharedEndpoint;
        let body = Body::SharedEndpoint;
        let mut making = of_adapter(m, side, kind, Slot::CreateSharedEndpoint, body)?;
        making.right = &[
            STATUS_SUCCESS,
            STATUS_PENDING,
            STATUS_SHARING_VIOLATION,
            STATUS_TOO_MANY_ADDRESSES,
            STATUS_INVALID_ADDRESS,
        ];
        let machine = m.sides[side].machine;
        let (at, is_good) = super::connect::local(m, machine);
        if !is_good {
            making.right = &[STATUS_INVALID_ADDRESS];
        }
        Some((making, at))
    });
    plan.is_some_and(|(making, at): (Making, Address)| {
        let made = raw::create_shared_endpoint(making.parent, &at, making.contexts().1);
        making.done(made)
    })
}

/// Prepares the creation of a protection domain's child.
fn of_pd(
    m: &mut Model,
    side: usize,
    kind: Kind,
    slot: Slot,
    body: impl FnOnce(&mut Model, Id) -> Body,
) -> Option<Making> {
    if m.crowded(side, kind) {
        return None;
    }
    let pd = usual_pd(m, side)?;
    let body = body(m, pd);
    let parent = m.raw(pd);
    Some(make(m, side, kind, slot, body, parent, &[pd]))
}

/// Mostly the oldest protection domain, so that what belongs together is in one.
fn usual_pd(m: &mut Model, side: usize) -> Option<Id> {
    if m.chance.percent(95) {
        m.adapter(side)?;
        return m.live(side, Kind::Pd).first().copied();
    }
    m.some(side, Kind::Pd)
}

pub(super) fn mr(side: usize) -> bool {
    let plan = with(|m| {
        let fast = m.chance.one_in(3);
        let body = |_: &mut Model, pd| {
            Body::Mr(Mr {
                pd,
                fast,
                ..Mr::default()
            })
        };
        Some((of_pd(m, side, Kind::Mr, Slot::CreateMr, body)?, fast))
    });
    plan.is_some_and(|(making, fast)| {
        let made = raw::create_mr(making.parent, fast, making.contexts().1);
        making.done(made)
    })
}

pub(super) fn mw(side: usize) -> bool {
    let body = |_: &mut Model, pd| {
        Body::Mw(Mw {
            pd,
            ..Mw::default()
        })
    };
    let making = with(|m| of_pd(m, side, Kind::Mw, Slot::CreateMw, body));
    making.is_some_and(|making| {
        let made = raw::create_mw(making.parent, making.contexts().1);
        making.done(made)
    })
}

pub(super) fn srq(side: usize) -> bool {
    let plan = with(|m| {
        let (depth, sges, threshold, is_good) = match m.chance.below(20) {
            0 => (16_385, 1, 0, false),
            1 => (8, 17, 0, false),
            2 => (8, 1, 9, false),
            3 => (0, 1, 0, false),
            _ => {
                let depth = m.chance.of(&[1, 4, 32, 64]);
                let threshold = m.chance.below(u64::from(depth) + 1) as u32;
                (depth, m.chance.of(&[1, 2, 2, 16]), threshold, true)
            }
        };
        let body = |_: &mut Model, pd| {
            Body::Srq(Srq {
                pd,
                depth,
                sges,
                ..Srq::default()
            })
        };
        let mut making = of_pd(m, side, Kind::Srq, Slot::CreateSrq, body)?;
        if !is_good {
            making.right = REFUSED;
        }
        let notified = !m.chance.one_in(4);
        Some((making, depth, sges, threshold, notified))
    });
    plan.is_some_and(|(making, depth, sges, threshold, notified)| {
        let (srq, token) = making.contexts();
        let made = raw::create_srq(making.parent, depth, sges, threshold, notified, srq, token);
        making.done(made)
    })
}

pub(super) fn qp(side: usize) -> bool {
    let plan = with(|m| {
        let fresh = |m: &mut Model, qp: Id| m.qp(qp).connector.is_none();
        if m.crowded(side, Kind::Qp) || enough(m, side, Kind::Qp, fresh) {
            return None;
        }
        let pd = usual_pd(m, side)?;
        // Mostly such as have some entries to spare.
        let any = m.chance.one_in(20);
        let roomy = |m: &mut Model, cq: Id| any || (!m.cq(cq).overrun && fits(m, cq, 16));
        let receive_cq = m.some_where(side, Kind::Cq, roomy)?;
        let initiator_cq = if m.chance.percent(50) {
            receive_cq
        } else {
            m.some_where(side, Kind::Cq, roomy)?
        };
        let srq = if m.chance.percent(25) {
            m.some_where(side, Kind::Srq, |m, srq| m.srq(srq).pd == pd)
        } else {
            None
        };
        if let Some(srq) = srq {
            // Who knows which of the shared receives end there.
            let waiting = m.srq(srq).requests.len() as u64;
            if !fits(m, receive_cq, waiting) {
                forgets(m).then_some(())?;
                m.cq(receive_cq).overrun = true;
            }
        }
        let (sizes, is_good) = sizes(m, srq.is_some());
        let body = Body::Qp(Qp::new(pd, receive_cq, initiator_cq, srq, sizes));
        let slot = match srq {
            None => Slot::CreateQp,
            Some(_) => Slot::CreateQpWithSrq,
        };
        let mut users = vec![pd, receive_cq];
        users.extend((initiator_cq != receive_cq).then_some(initiator_cq));
        users.extend(srq);
        let parent = m.raw(pd);
        let mut making = make(m, side, Kind::Qp, slot, body, parent, &users);
        m.cq(receive_cq).qps.push(making.id);
        if initiator_cq != receive_cq {
            m.cq(initiator_cq).qps.push(making.id);
        }
        // An overrun may be told later, if at all.
        let overrun = m.cq(receive_cq).overrun || m.cq(initiator_cq).overrun;
        if overrun || m.careless || m.has_lost_its_device(receive_cq) {
            making.right = ON_DEAD_QUEUES;
        } else if !is_good {
            making.right = REFUSED;
        }
        let raws = (
            m.raw(receive_cq),
            m.raw(initiator_cq),
            srq.map(|srq| m.raw(srq)),
        );
        Some((making, raws, sizes))
    });
    plan.is_some_and(|(making, (receive_cq, initiator_cq, srq), sizes)| {
        let (qp, token) = making.contexts();
        let pd = making.parent;
        let made = raw::create_qp(pd, receive_cq, initiator_cq, srq, sizes, qp, token);
        making.done(made)
    })
}

/// Sizes of a queue pair, and whether the adapter has as much.
fn sizes(m: &mut Model, shared: bool) -> (Sizes, bool) {
    let mut sizes = Sizes {
        receive_depth: m.chance.of(&[1, 4, 32, 32, 64]),
        initiator_depth: m.chance.of(&[1, 4, 16, 32, 64]),
        receive_sges: m.chance.of(&[1, 2, 4, 16]),
        initiator_sges: m.chance.of(&[1, 2, 4, 16]),
        inline: m.chance.of(&[0, 16, 128, 256]),
    };
    if m.chance.one_in(15) {
        sizes.receive_depth = 0;
    }
    if m.chance.one_in(15) {
        sizes.initiator_depth = 0;
    }
    let wrong = m.chance.below(60);
    match wrong {
        0 if !shared => sizes.receive_depth = 8193,
        1 => sizes.initiator_depth = 8193,
        2 if !shared => sizes.receive_sges = 17,
        3 => sizes.initiator_sges = 17,
        4 => sizes.inline = 257,
        _ => return (sizes, true),
    }
    (sizes, false)
}
