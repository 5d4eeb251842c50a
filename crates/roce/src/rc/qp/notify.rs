//! A queue pair at both ends of congestion.

use super::{Qp, Shared, State};
use crate::memory::Memory;
use crate::psn::Psn;
use crate::rc::frame::{self, Extension, Outgoing};
use crate::time::Instant;
use crate::transmit::Transmit;
use crate::wire::Opcode;
use crate::wire::opcode::CNP_LEN;

/// What tells the peer of congestion.
const NOTIFICATION: Outgoing = Outgoing {
    op: Opcode::Cnp,
    psn: Psn::ZERO,
    solicited: false,
    ack_request: false,
    extension: Extension::None,
};

impl Qp {
    /// What the peer sends meets congestion: it hears of it.
    pub fn marked(&mut self, now: Instant, shared: &mut Shared<'_>) {
        if self.has_peer() {
            self.congestion.marked(now, shared.dcqcn);
        }
    }

    /// What is sent to the peer meets congestion.
    pub fn notified(&mut self, now: Instant, shared: &mut Shared<'_>) {
        self.congestion.notified(now, shared.dcqcn);
    }

    /// Whether a request may be sent now. Who sends slowly asks for an acknowledgement with each.
    pub(super) fn admits_request(&mut self, now: Instant, shared: &Shared<'_>) -> bool {
        if self.congestion.is_slow(self.link.mtu, shared.dcqcn) {
            self.requester.ask();
        }
        self.congestion.admits(now, shared.dcqcn)
    }

    /// Writes the notification that the peer is owed, if it is.
    pub(super) fn notify<M: Memory>(
        &mut self,
        memory: &M,
        shared: &mut Shared<'_>,
        out: &mut Transmit,
    ) -> bool {
        if !self.congestion.take_notification() || self.state == State::Error {
            return false;
        }
        let (template, reserved) = (&self.link.template, [0; CNP_LEN]);
        let len = CNP_LEN as u32;
        let sent = frame::write(template, &NOTIFICATION, Some(&reserved), len, memory, out).is_ok();
        shared.counters.tx_cnps = shared.counters.tx_cnps.wrapping_add(u64::from(sent));
        sent
    }
}
