//! The choice of what to do next.

use super::model::{Kind, with};
use super::{
    close, connect, create, establish, fast, lam, listen, memory, post, query, queue, receive,
};

/// Does something with a side, if there is something to do it with.
type Operation = fn(usize) -> bool;

/// What there is to do, by weight.
const OPERATIONS: &[(u64, Operation)] = &[
    (30, create::cq),
    (15, create::pd),
    (60, create::qp),
    (12, create::srq),
    (40, create::mr),
    (15, create::mw),
    (60, create::connector),
    (25, create::listener),
    (12, create::shared_endpoint),
    (20, lam::build_lam),
    (8, lam::release_lam),
    (30, listen::listen),
    (6, listen::pause),
    (90, connect::connect),
    (90, establish::accept),
    (90, establish::complete),
    (4, establish::reject),
    (6, establish::disconnect),
    (70, memory::register),
    (10, memory::deregister),
    (30, memory::initialize),
    (20, memory::any_tokens),
    (6, fast::mw_token),
    (8, memory::privileged),
    (60, fast::fast_register),
    (60, fast::bind),
    (30, fast::invalidate),
    (200, receive::receive),
    (60, receive::srq_receive),
    (6, receive::modify_srq),
    (150, post::send),
    (20, post::send_and_invalidate),
    (150, post::write),
    (80, post::read),
    (1, post::flush),
    (250, queue::poll),
    (120, queue::arm),
    (8, queue::resize),
    (10, queue::moderate),
    (12, query::extension),
    (8, query::info),
    (16, query::address),
    (10, query::connection_data),
    (6, close::any),
    (5, close::surplus),
    (40, close::spent),
    (5, close::worn),
];

/// Does something with a side.
pub(super) fn step(side: usize) {
    for _ in 0..4 {
        let operation = with(|m| {
            m.adapter(side)?;
            // Without these nothing else can be done.
            let first: &[(Kind, Operation)] = &[
                (Kind::Pd, create::pd),
                (Kind::Cq, create::cq),
                (Kind::Connector, create::connector),
            ];
            for (kind, operation) in first {
                if m.live(side, *kind).is_empty() {
                    return Some(*operation);
                }
            }
            Some(m.chance.weighted(OPERATIONS))
        });
        if operation.is_none_or(|operation| operation(side)) {
            return;
        }
    }
}
