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
use proptest::test_runner::{Config as ProptestConfig, RngSeed};

/// Addresses of either family, in the order of the sides.
const FAMILIES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["fd00::1", "fd00:0:0:1::2"]];

/// How random cases are drawn: `ROCE_SEED=n` draws others, `ROCE_CASES=n` so many. What fails is printed, shrunk.
fn cases(default: u32) -> ProptestConfig {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
    ProptestConfig {
        cases: number("ROCE_CASES").map_or(default, |n: u64| n as u32),
        rng_seed: RngSeed::Fixed(number("ROCE_SEED").unwrap_or(1)),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

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
