//! What comes back to the requester: acknowledgements, NAKs, READ data, and silence.

use super::early::{EarlyFrames, Kept, Reach};
use super::link::Link;
use super::qp::Shared;
use super::requester::{AskedAgain, Requester, Timer};
use super::responder::Request;
use super::said::{Named, Said};
use super::send_queue::SendQueue;
use super::sgl;
use crate::completion::Status;
use crate::counters::Counters;
use crate::key::{By, KeyTable};
use crate::memory::Memory;
use crate::psn::Psn;
use crate::request::SendFlags;
use crate::time::{Instant, ack_timeout_nanos, rnr_nanos};
use crate::wire::{Aeth, Opcode};

/// Messages after which the count of them, which has to be guessed as well, makes up for all the PSNs that may be under way: no more than sixteen may
/// count, and an acknowledgement of each of a full window of short messages may count any of those behind it, 64 on average.
const YOUNG: u32 = 1 << 10;

/// How many messages more than those before its PSN an acknowledgement may count, as long as the connection is young. rdma_rxe counts the READs
/// that it has executed since, and repeats its newest acknowledgement with a count of now.
const LATE: u32 = 7;

/// Request `seq` has failed, and the queue pair with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub seq: u32,
    pub status: Status,
}

/// A response with data as it arrived: to a READ, or to an atomic request, whose data is the original value in this host's byte order.
pub(super) struct Response<'a> {
    pub op: Opcode,
    pub psn: Psn,
    /// Not in the middle of a READ.
    pub aeth: Option<Aeth>,
    pub payload: &'a [u8],
    /// Bytes of the payload that are in their place already: see [`ahead`](super::qp::ahead).
    pub placed: u32,
}

impl Requester {
    /// Whether `psn` has been sent and is not known to have arrived. Anything else in a response is an echo of the past, or
    /// made up.
    fn is_outstanding(&self, psn: Psn) -> bool {
        psn.since(self.una) < self.next.since(self.una)
    }

    /// The packet that an answer with this PSN names, if it is under way.
    fn named(&self, psn: Psn, sq: &SendQueue, link: &Link) -> Option<Named> {
        if !self.is_outstanding(psn) {
            return None;
        }
        let wqe = sq.get(self.request_at(psn, sq))?;
        Some(Named::of(psn, wqe, link))
    }

    /// Whether the count of messages is easy to guess: that of the oldest, because those behind it may be counted whatever their number is.
    fn is_young(&self, sq: &SendQueue) -> bool {
        sq.get(self.una_wqe).is_some_and(|w| w.first_msn < YOUNG)
    }

    /// Whether an answer counts messages as they were sent, from `least` up to `most`. Who does not see them cannot know the number.
    fn counts_as_sent(&mut self, msn: u32, least: u32, most: u32) -> bool {
        let under_way = self.next.since(self.una);
        self.counting.accepts(msn, least, most, under_way)
    }

    /// Notes that everything before `to` has arrived. Stops short of READ data that has not; true if it got there.
    fn advance(&mut self, to: Psn, now: Instant, sq: &mut SendQueue, link: &Link) -> bool {
        let from = self.una;
        while self.una != to {
            let Some(wqe) = sq.get_mut(self.una_wqe) else {
                break;
            };
            if wqe.kind.awaits_data() {
                break;
            }
            let end = wqe.first_psn.add(wqe.packets);
            if to.since(self.una) < end.since(self.una) {
                self.una = to;
            } else {
                wqe.outcome = Some(Status::Success);
                self.una = end;
                self.una_wqe = self.una_wqe.wrapping_add(1);
            }
        }
        if self.una != from {
            self.pass_una(sq);
            self.progressed(now, link);
        }
        self.una == to
    }

    /// The peer has executed everything before `to`, as it has said, also if READ data is missing before that.
    fn note_executed(&mut self, to: Psn) {
        if to.is_after(self.executed) {
            self.executed = to;
        }
    }

    /// Goes on with what is known already, when something has arrived that it had to wait for: responses that have been kept, and requests that
    /// are known to have been executed.
    fn settle<M: Memory>(
        &mut self,
        now: Instant,
        sq: &mut SendQueue,
        link: &Link,
        memory: &mut M,
        shared: &mut Shared<'_>,
    ) -> Result<(), Failure> {
        loop {
            if self.executed.is_after(self.una) {
                self.advance(self.executed, now, sq, link);
            }
            let Some(kept) = shared.early.first(&self.early) else {
                return Ok(());
            };
            if kept.psn.is_after(self.una) {
                return Ok(());
            }
            if kept.psn == self.una {
                let response = Response {
                    op: kept.op,
                    psn: kept.psn,
                    aeth: None,
                    payload: kept.payload,
                    placed: 0,
                };
                if !shared.early.believes_first(&self.early) {
                    return Ok(());
                }
                self.take_data(
                    now,
                    &response,
                    sq,
                    link,
                    shared.keys,
                    memory,
                    shared.counters,
                )?;
            }
            shared.early.remove_first(&mut self.early);
        }
    }

    /// All the progress that a response brings has been made.
    fn heard(&mut self, now: Instant, counters: &mut Counters) {
        let (una, executed, next) = (self.una, self.executed, self.next);
        if self.mending.progressed(una, executed, next, now, &self.rtt) {
            self.send_again(counters);
        }
    }

    fn progressed(&mut self, now: Instant, link: &Link) {
        self.retries_left = link.retry_count;
        self.rnr_retries_left = link.rnr_retry_count;
        self.asked_again = AskedAgain::Nothing;
        self.recover(link);
        self.counting.progressed();
        if self.rtt.arrived(self.una, now) {
            self.mending.measured();
        }
        self.note_executed(self.una);
        // Who has refused something acknowledges nothing any more.
        self.refused = None;
        if self.cursor.is_before(self.una) {
            // What was about to be sent again has arrived after all.
            self.go_to_una();
        }
        // Also if this side was waiting for a receive: what has arrived now has found one.
        if self.una == self.next {
            self.timer = Timer::Off;
        } else {
            self.start_timer(now, link);
        }
    }

    /// Takes one of the retries, if there is one.
    fn spend_retry(&mut self) -> Result<(), Failure> {
        self.retries_left = self.retries_left.checked_sub(1).ok_or(Failure {
            seq: self.una_wqe,
            status: Status::RetryExceeded,
        })?;
        Ok(())
    }

    /// Goes back, and starts the timer anew with the next transmission.
    fn send_again(&mut self, counters: &mut Counters) {
        counters.retransmissions = counters.retransmissions.wrapping_add(1);
        self.go_back();
        self.timer = Timer::Off;
    }

    /// READ data is missing although something later, at `psn`, has arrived: asks for it again, once. That takes no retry: the peer is there, and
    /// what is late may only have been overtaken.
    fn missing_data(&mut self, psn: Psn, counters: &mut Counters) {
        if self.asked_again != AskedAgain::Nothing || matches!(self.timer, Timer::Rnr(_)) {
            return;
        }
        self.asked_again = AskedAgain::All(psn);
        // If the data does not come, the timeout ends it.
        self.send_again(counters);
    }

    /// READ data is missing before `to`, and everything before that has been executed: asks for the data alone, once.
    fn only_data_missing(&mut self, to: Psn, now: Instant, counters: &mut Counters) {
        if self.asked_again != AskedAgain::Nothing
            || matches!(self.timer, Timer::Rnr(_))
            || self.mending.is_stale(self.una, now, &self.rtt)
        {
            return;
        }
        self.asked_again = AskedAgain::Part;
        counters.mended = counters.mended.wrapping_add(1);
        self.mending.hole(self.una, to);
    }

    /// Whether the response at `psn` was under way when everything was asked for again: the answer to that begins with PSNs that have come before.
    fn was_under_way(&mut self, psn: Psn) -> bool {
        match &mut self.asked_again {
            AskedAgain::All(newest) if psn.is_after(*newest) => {
                *newest = psn;
                true
            }
            _ => false,
        }
    }

    /// An acknowledgement packet.
    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of a queue pair, borrowed apart"
    )]
    pub fn on_acknowledge<M: Memory>(
        &mut self,
        now: Instant,
        psn: Psn,
        aeth: Aeth,
        sq: &mut SendQueue,
        link: &Link,
        memory: &mut M,
        shared: &mut Shared<'_>,
    ) -> Result<(), Failure> {
        let counters = &mut *shared.counters;
        let msn = aeth.msn;
        let said = Said::of(aeth.syndrome);
        // What means nothing says nothing of how the peer counts, either.
        let (Some(said), Some(named)) = (said, self.named(psn, sq, link)) else {
            if said == Some(Said::Missing) && self.takes_back(psn, msn, sq, link) {
                self.take_back(psn, counters);
            } else {
                counters.drop_unexpected_response =
                    counters.drop_unexpected_response.wrapping_add(1);
            }
            return Ok(());
        };
        let counts = match said {
            // Perhaps what follows has been executed as well.
            Said::Executed if self.is_young(sq) => {
                let most = named.after.wrapping_add(LATE).min(self.next_msn);
                self.counts_as_sent(msn, named.after, most)
            }
            Said::Executed => self.counts_as_sent(msn, named.after, self.next_msn),
            // What it names has not been executed, nor anything behind it.
            _ => self.counts_as_sent(msn, named.before, named.before),
        };
        if !counts {
            counters.drop_wrong_msn = counters.drop_wrong_msn.wrapping_add(1);
            return Ok(());
        }
        if said == Said::Missing {
            self.nakked = psn;
        }
        let to = match said {
            Said::Executed => psn.next(),
            // It is not believed to acknowledge what came before.
            Said::NotReady(code) if !named.may_not_be_ready() => {
                return self.on_rnr(now, code, false, link, counters);
            }
            Said::Refused(status) if self.doubts(&named, sq, link) => {
                self.ask_about_refusal(psn, status, counters);
                return Ok(());
            }
            _ => psn,
        };
        let from = self.una;
        let there = self.advance(to, now, sq, link);
        if said == Said::Executed {
            self.note_executed(to);
            self.settle(now, sq, link, memory, shared)?;
        }
        let counters = &mut *shared.counters;
        if self.una != from {
            self.heard(now, counters);
        }
        match said {
            Said::Executed if to.is_after(self.una) => {
                self.only_data_missing(to, now, counters);
                Ok(())
            }
            // What is refused can only be known when all before it has arrived.
            _ if !there => {
                self.missing_data(psn, counters);
                Ok(())
            }
            Said::Executed => Ok(()),
            Said::NotReady(code) => self.on_rnr(now, code, true, link, counters),
            Said::Missing => self.on_missing(now, sq, link, counters),
            Said::Refused(status) => {
                counters.rx_fatal_naks = counters.rx_fatal_naks.wrapping_add(1);
                Err(Failure {
                    seq: self.una_wqe,
                    status,
                })
            }
        }
    }

    /// Whether a NAK of a packet that is known to have arrived is believed, and what said so is not: that was an acknowledgement in the middle of a
    /// message on a young connection, where all its packets have the same count. Nothing has completed by it. The last NAK that was believed may
    /// have been doubled on the way: its copy is no news.
    fn takes_back(&self, psn: Psn, msn: u32, sq: &SendQueue, link: &Link) -> bool {
        let Some(wqe) = sq
            .get(self.una_wqe)
            .filter(|_| self.una_wqe != self.started)
        else {
            return false;
        };
        let back = self.una.since(psn);
        self.is_young(sq)
            && psn != self.nakked
            && msn == wqe.first_msn & Psn::MASK
            && !wqe.kind.awaits_data()
            && !matches!(self.timer, Timer::Rnr(_))
            && back > 0
            && back <= self.una.since(wqe.first_psn)
            // One that is made up has been about what was under way.
            && back <= link.recovery_window
    }

    /// Sends again from `psn` on, although that has been acknowledged. The timer runs on.
    fn take_back(&mut self, psn: Psn, counters: &mut Counters) {
        counters.rx_sequence_naks = counters.rx_sequence_naks.wrapping_add(1);
        counters.retransmissions = counters.retransmissions.wrapping_add(1);
        self.una = psn;
        self.executed = psn;
        self.nakked = psn;
        self.go_back();
    }

    /// Whether a refusal of this packet is to be seen confirmed before it ends the connection: of one in the middle of a message, as long as the
    /// connection is young and its count of messages easy to guess. A message is refused at its first packet, as a rule, and each of the others
    /// would be one more PSN at which a made-up refusal with that count does harm.
    fn doubts(&self, named: &Named, sq: &SendQueue, link: &Link) -> bool {
        !named.begins && self.is_young(sq) && ack_timeout_nanos(link.ack_timeout).is_some()
    }

    /// Sends again what may have been refused. Who has refused it never answers again, and the last timeout tells: until then it may have been
    /// made up, and the peer be silent for another reason.
    fn ask_about_refusal(&mut self, psn: Psn, status: Status, counters: &mut Counters) {
        if self.refused.is_none() && !matches!(self.timer, Timer::Rnr(_)) {
            self.refused = Some((psn, status));
            self.send_again(counters);
        }
    }

    /// Whether a refusal that was to be confirmed is: nothing has been heard since, and nothing will be. What came before what it names has arrived.
    fn confirms(&mut self, now: Instant, sq: &mut SendQueue, link: &Link) -> Option<Failure> {
        let (psn, status) = self.refused.take()?;
        let told = self.is_outstanding(psn) && self.advance(psn, now, sq, link);
        let seq = self.una_wqe;
        told.then_some(Failure { seq, status })
    }

    /// The peer is to be left alone for the time of this code. That takes a retry only where it `may` not be ready: to wait is harmless wherever
    /// that is said, also if it is made up, and what the peer lacks in the middle of a message (a page that has to be read first, for instance)
    /// comes. It can hold up a message for as long as it likes in this way, as it can by taking its packets one by one.
    fn on_rnr(
        &mut self,
        now: Instant,
        code: u8,
        may: bool,
        link: &Link,
        counters: &mut Counters,
    ) -> Result<(), Failure> {
        counters.rx_rnr_naks = counters.rx_rnr_naks.wrapping_add(1);
        if matches!(self.timer, Timer::Rnr(_)) {
            return Ok(());
        }
        if may && link.rnr_retry_count < 7 {
            if self.rnr_retries_left == 0 {
                return Err(Failure {
                    seq: self.una_wqe,
                    status: Status::RnrRetryExceeded,
                });
            }
            self.rnr_retries_left -= 1;
        }
        counters.retransmissions = counters.retransmissions.wrapping_add(1);
        self.go_back();
        self.timer = Timer::Rnr(now.after_nanos(rnr_nanos(code)));
        Ok(())
    }

    /// The peer misses the oldest packet.
    fn on_missing(
        &mut self,
        now: Instant,
        sq: &SendQueue,
        link: &Link,
        counters: &mut Counters,
    ) -> Result<(), Failure> {
        counters.rx_sequence_naks = counters.rx_sequence_naks.wrapping_add(1);
        // Already waiting to send this packet again: because of a "receiver not ready" that overtook packets in flight, or of the same NAK.
        if matches!(self.timer, Timer::Rnr(_))
            || self.cursor == self.una
            || self.mending.resends()
            || self.mending.is_stale(self.una, now, &self.rtt)
        {
            return Ok(());
        }
        // It shows that the peer is there, and takes no retry: what was lost in a queue that the repetition itself fills may be lost a few times
        // within as many round trips. The timer runs on from the last progress and ends it if there is none.
        if ack_timeout_nanos(link.ack_timeout).is_none() {
            self.spend_retry()?;
        }
        let is_read = sq.get(self.una_wqe).is_some_and(|w| w.kind.awaits_data());
        if self.mending.missing(self.next, is_read) {
            counters.mended = counters.mended.wrapping_add(1);
        } else {
            counters.retransmissions = counters.retransmissions.wrapping_add(1);
            self.go_back();
        }
        Ok(())
    }

    /// A response with data.
    pub fn on_response<M: Memory>(
        &mut self,
        now: Instant,
        response: &Response<'_>,
        sq: &mut SendQueue,
        link: &Link,
        memory: &mut M,
        shared: &mut Shared<'_>,
    ) -> Result<(), Failure> {
        let counters = &mut *shared.counters;
        let psn = response.psn;
        let named = self.named(psn, sq, link);
        let Some(named) = named.filter(|n| n.kind.is_answered_by(response.op)) else {
            counters.drop_unexpected_response = counters.drop_unexpected_response.wrapping_add(1);
            return Ok(());
        };
        let from = self.una;
        // Whether it is believed to speak for more than itself, because of its MSN.
        let speaks = match response.aeth {
            None => false,
            Some(aeth) if Said::of(aeth.syndrome) != Some(Said::Executed) => {
                counters.drop_unexpected_response =
                    counters.drop_unexpected_response.wrapping_add(1);
                return Ok(());
            }
            Some(Aeth { msn, .. }) => {
                if !self.counts_as_sent(msn, named.after, self.next_msn) {
                    counters.drop_wrong_msn = counters.drop_wrong_msn.wrapping_add(1);
                    return Ok(());
                }
                !self.is_young(sq)
                    || self.counting.is_sure(msn, named.after, LATE) && (named.begins || named.ends)
            }
        };
        if speaks {
            // Whatever was asked for before this READ has been executed.
            self.note_executed(psn);
            self.advance(psn, now, sq, link);
        }
        if psn == self.una {
            self.take_data(now, response, sq, link, shared.keys, memory, counters)?;
        } else {
            counters.out_of_sequence_responses = counters.out_of_sequence_responses.wrapping_add(1);
            let reach = if speaks { Reach::Any } else { Reach::Near };
            if !self.keep_early(response, &named, reach, link, shared.early, counters) {
                self.missing_data(psn, counters);
            }
        }
        self.settle(now, sq, link, memory, shared)?;
        if self.una != from {
            self.heard(now, shared.counters);
        }
        Ok(())
    }

    /// Keeps a response whose turn has not come, and has what is missing before it asked for again. False if it cannot be kept.
    fn keep_early(
        &mut self,
        response: &Response<'_>,
        named: &Named,
        reach: Reach,
        link: &Link,
        early: &mut EarlyFrames,
        counters: &mut Counters,
    ) -> bool {
        let psn = response.psn;
        let known_missing = self.was_under_way(psn);
        if response.payload.len() != named.len as usize {
            return false;
        }
        let request = Request::of(response.op, psn, response.payload);
        match early.keep(&mut self.early, &request, self.una, reach, link) {
            Kept::No => false,
            Kept::Already => true,
            Kept::After(before) => {
                if before != psn && !known_missing {
                    counters.mended = counters.mended.wrapping_add(1);
                    self.mending.hole(before, psn);
                }
                true
            }
        }
    }

    /// Takes the data of the response at `una`, which is one to that request.
    #[expect(
        clippy::too_many_arguments,
        reason = "the pieces of a queue pair, borrowed apart"
    )]
    fn take_data<M: Memory>(
        &mut self,
        now: Instant,
        response: &Response<'_>,
        sq: &mut SendQueue,
        link: &Link,
        keys: &mut KeyTable,
        memory: &mut M,
        counters: &mut Counters,
    ) -> Result<(), Failure> {
        let psn = response.psn;
        let seq = self.una_wqe;
        // The place of the data follows from the PSN alone: peers differ in the opcodes with which they resume a READ.
        let Some(wqe) = sq.get(seq) else {
            return Ok(());
        };
        let named = Named::of(psn, wqe, link);
        let finishes = psn.next() == wqe.first_psn.add(wqe.packets);
        let says_last = matches!(
            response.op,
            Opcode::ReadResponseLast | Opcode::ReadResponseOnly | Opcode::AtomicAcknowledge
        );
        if response.payload.len() != named.len as usize
            || !(says_last == named.ends || says_last && self.mending.may_end_part(psn))
        {
            return Err(Failure {
                seq,
                status: Status::BadResponse,
            });
        }
        let rest = response.payload.get(response.placed as usize..);
        let at = named.offset.saturating_add(response.placed);
        if sgl::scatter(sq.sgl(seq), keys, link.pd, at, rest.unwrap_or(&[]), memory).is_err() {
            return Err(Failure {
                seq,
                status: Status::LocalProtection,
            });
        }
        counters.rx_bytes = counters.rx_bytes.wrapping_add(u64::from(named.len));
        if psn.is_before(self.cursor) {
            self.read_packets_out = self.read_packets_out.saturating_sub(1);
            if named.ends {
                self.reads_out = self.reads_out.saturating_sub(1);
            }
        }
        self.una = psn.next();
        if finishes {
            let first = sq.sgl(seq).first().map_or(0, |e| e.key);
            if let Some(wqe) = sq.get_mut(seq) {
                if wqe.flags.contains(SendFlags::INVALIDATE_LOCAL) {
                    keys.invalidate(first, link.pd, link.qp, By::Consumer)
                        .map_err(|_| Failure {
                            seq,
                            status: Status::LocalOperation,
                        })?;
                    wqe.drains = first;
                }
                wqe.outcome = Some(Status::Success);
            }
            self.una_wqe = seq.wrapping_add(1);
            self.pass_una(sq);
            self.reads_unfinished = self.reads_unfinished.saturating_sub(1);
        }
        self.progressed(now, link);
        Ok(())
    }

    /// The time of [`deadline`](Self::deadline) has come.
    pub fn on_timer(
        &mut self,
        now: Instant,
        sq: &mut SendQueue,
        link: &Link,
        counters: &mut Counters,
    ) -> Result<(), Failure> {
        match self.timer {
            Timer::Rnr(at) if at <= now => {
                self.timer = Timer::Off;
                Ok(())
            }
            Timer::Ack(at) if at <= now => {
                self.timer = Timer::Off;
                if self.una == self.next {
                    return Ok(());
                }
                counters.timeouts = counters.timeouts.wrapping_add(1);
                self.timeouts = self.timeouts.saturating_add(1);
                self.doublings = 1;
                self.asked_again = AskedAgain::Nothing;
                // What was refused is believed when it comes again: that there is no retry left is no failure then.
                if self.counting.timed_out(self.next.since(self.una)) {
                    self.retries_left = self.retries_left.saturating_sub(1);
                } else if let Err(silence) = self.spend_retry() {
                    let Some(refusal) = self.confirms(now, sq, link) else {
                        return Err(silence);
                    };
                    counters.rx_fatal_naks = counters.rx_fatal_naks.wrapping_add(1);
                    return Err(refusal);
                }
                self.send_again(counters);
                Ok(())
            }
            Timer::Ack(_) => {
                if self.mending.probe_at().is_some_and(|at| at <= now) {
                    self.probe(now, counters);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing has come back for so long that something is likely to be lost: asks, before the timeout, and without taking a retry.
    ///
    /// With the first packet that may be missing, not the last: who has it already repeats its newest acknowledgement, and who has not
    /// needs just that. To the last it may have said all it has to say: a gap is reported once.
    fn probe(&mut self, now: Instant, counters: &mut Counters) {
        // After a timeout, timeouts are all there is. What has not been sent yet cannot be missing.
        if self.una == self.next
            || self.timeouts > 0
            || self.cursor == self.una
            || self.mending.is_due()
        {
            self.mending.stop_probing();
            return;
        }
        counters.probes = counters.probes.wrapping_add(1);
        self.asked_again = AskedAgain::Nothing;
        if !self.mending.probe(now, &self.rtt) {
            counters.retransmissions = counters.retransmissions.wrapping_add(1);
            self.go_back();
        }
    }
}
