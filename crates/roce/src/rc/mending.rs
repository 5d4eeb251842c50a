//! What is sent again out of turn: a single packet that the peer misses, or that is to draw an answer after silence. What the answer then tells:
//! whether the peer keeps what comes early.
//!
//! IBTA's answer to a gap is to go back and send everything behind it once more. A responder that has kept what was behind the gap acknowledges
//! it as soon as the gap is closed, and needs the missing packet only. Which kind the peer is, the first loss shows: one packet is sent again
//! alone, and the answer is about that alone, or about more. Of one that seems to keep nothing (rdma_rxe) this is asked again only now and then:
//! two neighbours that are lost look the same.

use super::rtt::Rtt;
use crate::psn::Psn;
use crate::time::Instant;

/// Why something was sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    /// Everything was, or READ data has been asked for.
    WentBack,
    /// The peer misses it.
    Missing,
    /// Nothing was heard.
    Silence,
}

/// What was sent again last: the oldest packet, or a READ request from there on, up to `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Again {
    end: Psn,
    reason: Reason,
    at: Instant,
}

/// How often in a row a peer that has been seen to keep early packets may seem not to, as when two neighbours are lost, before that is believed.
const PATIENCE: u8 = 4;

/// How many losses later a peer that seems to keep nothing is tried again: the first time; twice as many each further time.
const RETRIAL: u8 = 4;

/// Of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mending {
    /// Why the oldest packet is to be sent again before anything else.
    due: Option<Reason>,
    again: Option<Again>,
    /// How much the peer is trusted to keep early packets: 0 for not at all, 1 before anything is known.
    trust: u8,
    /// Losses until one that is not trusted is tried again, and from the next time on.
    untried: u8,
    retrial: u8,
    /// Probes since the round trip was measured.
    probes: u8,
    /// The last probe was answered for itself alone: more seems to be lost.
    lost_more: bool,
    /// When silence has lasted long enough.
    probe_at: Option<Instant>,
    /// While something is missing: what was not sent when that came out.
    until: Option<Psn>,
    /// READ data to be asked for again, as far as it is not there: from one PSN up to another.
    holes: Option<(Psn, Psn)>,
    /// Before this, answers to a READ may end where a part ends that was asked for again.
    parts: Option<Psn>,
}

impl Again {
    /// Whether what comes now may have been sent after this.
    fn is_answered(&self, now: Instant, rtt: &Rtt) -> bool {
        now >= self.at.after_nanos(rtt.nanos().unwrap_or(0))
    }
}

impl Mending {
    pub fn new() -> Mending {
        Mending {
            due: None,
            again: None,
            trust: 1,
            untried: 0,
            retrial: RETRIAL,
            probes: 0,
            lost_more: false,
            probe_at: None,
            until: None,
            holes: None,
            parts: None,
        }
    }

    /// Whether something may be to be sent again.
    pub fn is_due(&self) -> bool {
        self.due.is_some() || self.holes.is_some()
    }

    /// Whether a single packet is to be sent again.
    pub fn resends(&self) -> bool {
        self.due.is_some()
    }

    /// READ data between these is missing, though later data has come.
    pub fn hole(&mut self, from: Psn, to: Psn) {
        self.holes = match self.holes {
            Some((first, last)) => Some((
                if from.is_before(first) { from } else { first },
                if to.is_after(last) { to } else { last },
            )),
            None => Some((from, to)),
        };
    }

    /// Where READ data is missing that has not been asked for again.
    pub fn holes(&mut self, una: Psn) -> Option<(Psn, Psn)> {
        let (from, to) = self.holes?;
        let from = if from.is_before(una) { una } else { from };
        self.holes = from.is_before(to).then_some((from, to));
        self.holes
    }

    /// What was missing before `psn` has been asked for.
    pub fn holes_from(&mut self, psn: Psn) {
        self.holes = self
            .holes
            .and_then(|(_, to)| psn.is_before(to).then_some((psn, to)));
    }

    /// Data has been asked for up to `to`, of a chunk of a READ that ends at `end`, and whether from the `oldest` packet on.
    pub fn sent_part(&mut self, to: Psn, end: Psn, oldest: bool, now: Instant, rtt: &Rtt) {
        self.holes_from(end);
        if to != end && self.parts.is_none_or(|parts| parts.is_before(to)) {
            self.parts = Some(to);
        }
        if oldest {
            self.sent_again(to, Reason::WentBack, now, rtt);
        }
    }

    /// Whether the answer at `psn` may be the last of a part.
    pub fn may_end_part(&self, psn: Psn) -> bool {
        self.parts.is_some_and(|parts| psn.is_before(parts))
    }

    /// What was due has been sent, up to `end`. From what follows READ data nothing is concluded: it comes packet by packet, so that its end
    /// always seems to have arrived alone.
    pub fn sent_due(&mut self, end: Psn, is_read: bool, now: Instant, rtt: &Rtt) {
        if let Some(reason) = self.due.take() {
            let reason = if is_read { Reason::WentBack } else { reason };
            self.sent_again(end, reason, now, rtt);
        }
    }

    /// The oldest packet not known to have arrived has been sent again.
    pub fn sent_again(&mut self, end: Psn, reason: Reason, now: Instant, rtt: &Rtt) {
        self.again = Some(Again {
            end,
            reason,
            at: now,
        });
        self.wait(now, rtt);
    }

    /// Everything is to be sent again.
    pub fn went_back(&mut self) {
        self.due = None;
        self.again = None;
        self.until = None;
        self.holes = None;
    }

    /// The peer misses the oldest packet, and `next` is the first not sent yet. True if that is to be sent again alone; so `is_read` that is
    /// answered with data only if the peer is known to keep what follows it.
    pub fn missing(&mut self, next: Psn, is_read: bool) -> bool {
        if self.trust == 0 {
            if self.untried > 0 {
                self.untried -= 1;
                return false;
            }
            self.trust = 1;
        }
        if is_read && self.trust == 1 {
            return false;
        }
        self.due = Some(Reason::Missing);
        self.until.get_or_insert(next);
        true
    }

    /// Whether what misses `psn` may have been sent before that was sent again: then it is no news, however often it comes.
    pub fn is_stale(&self, psn: Psn, now: Instant, rtt: &Rtt) -> bool {
        self.again.is_some_and(|again| {
            psn.is_before(again.end) && now < again.at.after_nanos(rtt.at_least())
        })
    }

    /// Whether the peer may be sent more than usual while something is missing: it has kept what was behind a gap before.
    pub fn goes_on(&self) -> bool {
        self.until.is_some() && self.trust > 1
    }

    /// The round trip has been measured. Until then, silence is given the time that the last probes had, or a peer that has become slower would be
    /// probed again and again, and never measured (RFC 6298, 5.7 and Karn).
    pub fn measured(&mut self) {
        self.probes = 0;
    }

    /// There is progress, up to `una`, of what was sent up to `next`; up to `executed` READ data alone is missing. True if a packet that was sent
    /// again has arrived alone, and all behind it is to be sent again.
    pub fn progressed(
        &mut self,
        una: Psn,
        executed: Psn,
        next: Psn,
        now: Instant,
        rtt: &Rtt,
    ) -> bool {
        self.due = None;
        self.lost_more = false;
        self.until = self.until.filter(|until| una.is_before(*until));
        self.parts = self.parts.filter(|parts| una.is_before(*parts));
        self.probe_at = None;
        if una != next {
            self.wait(now, rtt);
        }
        let Some(again) = self.again.filter(|a| !una.is_before(a.end)) else {
            return false;
        };
        self.again = None;
        let alone = executed == again.end;
        match again.reason {
            Reason::WentBack => false,
            Reason::Missing if !alone => {
                (self.trust, self.retrial) = (PATIENCE, RETRIAL);
                false
            }
            _ if !alone || una == next => false,
            Reason::Missing => {
                self.trust = self.trust.saturating_sub(1);
                if self.trust == 0 {
                    self.untried = self.retrial;
                    self.retrial = self.retrial.saturating_mul(2);
                }
                true
            }
            Reason::Silence => {
                // What comes sooner than a round trip does not answer the probe: the peer is only slow.
                if again.is_answered(now, rtt) {
                    self.lost_more = true;
                    self.probe_at = rtt.pause().map(|n| now.after_nanos(n));
                }
                false
            }
        }
    }

    fn wait(&mut self, now: Instant, rtt: &Rtt) {
        self.probe_at = rtt.silence(self.probes).map(|n| now.after_nanos(n));
    }

    /// Something has been sent: silence is counted from here, unless it is already.
    pub fn sent(&mut self, now: Instant, rtt: &Rtt) {
        if self.probe_at.is_none() {
            self.wait(now, rtt);
        }
    }

    /// When [`probe`](Self::probe) is due.
    pub fn probe_at(&self) -> Option<Instant> {
        self.probe_at
    }

    /// Silence is not counted until something is sent.
    pub fn stop_probing(&mut self) {
        self.probe_at = None;
    }

    /// Silence has lasted long enough. True if the oldest packet is to be sent again alone, false if everything is.
    pub fn probe(&mut self, now: Instant, rtt: &Rtt) -> bool {
        self.probes = self.probes.saturating_add(1);
        self.wait(now, rtt);
        if core::mem::take(&mut self.lost_more) {
            return false;
        }
        self.due = Some(Reason::Silence);
        true
    }
}
