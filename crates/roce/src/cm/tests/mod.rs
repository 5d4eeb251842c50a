//! Stories of two agents over a link that loses, repeats and delays what it is told to, in virtual time.

mod active;
mod bounds;
mod drops;
mod hostile;
mod link;
mod names;
mod passive;
mod paths;
mod random;
mod services;
mod setup;
mod teardown;
mod vectors;

use super::{LocalQp, QpAttributes};
use crate::psn::Psn;
use crate::rc::QpId;
use crate::table::Slot;
use crate::wire::{Path, PathMtu};
use crate::{
    AcceptParams, CmError, ConnId, ConnState, ConnectFailure, ConnectParams, DisconnectReason,
    DisconnectResult, Event,
};
use core::time::Duration;
use link::{A, B, Link, PORT};

/// A queue pair of a number.
fn qp(qpn: u32) -> LocalQp {
    LocalQp {
        qp: QpId(Slot {
            index: qpn & 0xffff,
            generation: 7,
        }),
        qpn,
        psn: Psn::new(qpn.wrapping_mul(0x9e37)),
        srq: false,
    }
}

/// A connection from A to B, up to where both owners have been told.
fn connected(link: &mut Link) -> (ConnId, ConnId) {
    connected_with(link, 40_000, 0x111, 0x222)
}

fn connected_with(link: &mut Link, port: u16, qpn_a: u32, qpn_b: u32) -> (ConnId, ConnId) {
    let a = link.connect(port, &qp(qpn_a), b"hello").unwrap();
    let b = link.requested();
    link.accept(b, &qp(qpn_b), b"welcome").unwrap();
    link.expect(A, Event::Replied { conn: a });
    link.establish(a).unwrap();
    link.expect(A, Event::Established { conn: a });
    link.expect(B, Event::Established { conn: b });
    (a, b)
}
