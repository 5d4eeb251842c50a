//! The requester: cuts the send queue's requests into packets, and knows which of them the peer has.
//!
//! Three PSNs describe it: `una`, the oldest packet not known to have arrived; `cursor`, the packet to send next; `next`, the
//! first never sent. Going back for retransmission is `cursor = una`. A READ request takes as many PSNs as it has response
//! packets, so `una` moves through them as the data arrives, and restarting a READ in the middle is the same as resuming a WRITE
//! there.
//!
//! A long READ goes out as a sequence of request packets, each for one chunk. Chunks lie at fixed places of the message, so that
//! a repeated request never reaches beyond the one that it repeats.
//!
//! Local operations take no PSN. They are executed when the cursor first comes to them, and passed over ever after: `una_wqe` is
//! never one that has been executed.

use super::counting::Counting;
use super::early::{EarlyFrames, EarlyList};
use super::frame::{Extension, Outgoing};
use super::link::Link;
use super::mending::{Mending, Reason};
use super::rtt::Rtt;
use super::send_queue::{Kind, Operands, SendQueue, SendWqe};
use super::sgl;
use crate::completion::Status;
use crate::key::{Access, By, KeyTable, MrKey, Registered};
use crate::psn::Psn;
use crate::request::SendFlags;
use crate::time::{Instant, doubled_timeout_nanos};
use crate::transmit::Transmit;
use crate::wire::{AtomicEth, Ieth, Opcode, Reth};

/// What the requester waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    Off,
    /// An acknowledgement.
    Ack(Instant),
    /// The peer to have a receive; nothing is sent meanwhile.
    Rnr(Instant),
}

/// Where inline payload comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct InlinePart {
    pub seq: u32,
    pub offset: u32,
    pub len: u32,
}

/// READ data that has been asked for again since there was progress, because something later had arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AskedAgain {
    Nothing,
    /// That before some packet, which is known to have been executed.
    Part,
    /// All. Up to this PSN, what has come since was under way already.
    All(Psn),
}

/// A packet of a SEND or WRITE.
struct Place {
    /// Of its request.
    seq: u32,
    psn: Psn,
    /// Which of the request's `packets` it is.
    index: u32,
    packets: u32,
    /// It is to ask for an acknowledgement, even if it is not the last.
    ask: bool,
}

/// What [`Requester::poll`] found.
pub(super) enum Step {
    /// Nothing can be sent now.
    Idle,
    /// A packet of request `seq`; the pieces of its payload are in the `Transmit`.
    Send {
        packet: Outgoing,
        seq: u32,
        inline: Option<InlinePart>,
        /// For [`Requester::sent`].
        then: Then,
    },
    /// A local operation has been executed.
    Executed,
    /// Request `seq` cannot be executed.
    Fail { seq: u32, status: Status },
}

impl Step {
    fn then(mut self, noted: Then) -> Step {
        if let Step::Send { then, .. } = &mut self {
            *then = noted;
        }
        self
    }
}

/// What is to be noted when a packet has gone out. Until then nothing says so: it may turn out that its payload cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    Nothing,
    /// What was due again has been sent, up to `end`.
    Again {
        end: Psn,
        is_read: bool,
    },
    /// READ data between two PSNs has been asked for again, of a chunk that ends at `end`.
    Part {
        from: Psn,
        to: Psn,
        end: Psn,
    },
    /// The packet at the cursor has been sent.
    MoveOn(Onward),
}

/// The packet at the cursor, of which request it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Onward {
    /// None of the request has been sent before.
    fresh: bool,
    /// PSN of its first packet.
    first: Psn,
    packets: u32,
}

/// The sending half of a queue pair.
pub(super) struct Requester {
    pub(super) una: Psn,
    /// The request that `una` belongs to; not yet started if `una == next`.
    pub(super) una_wqe: u32,
    pub(super) cursor: Psn,
    pub(super) cursor_wqe: u32,
    pub(super) next: Psn,
    /// The first request that has no PSNs yet.
    pub(super) started: u32,
    /// The peer's MSN when it has executed all that was sent.
    pub(super) next_msn: u32,
    pub(super) counting: Counting,
    /// READ and atomic request packets between `una` and `cursor`: as many as are granted, at the most.
    pub(super) reads_out: u8,
    /// Response packets those asked for and that are still to come.
    pub(super) read_packets_out: u32,
    /// READs and atomic requests started that lack data, for fences.
    pub(super) reads_unfinished: u32,
    /// Packets since the last that asked for an acknowledgement.
    unasked: u32,
    /// Ask for an acknowledgement with the next packet: after going back, the answer may save all the rest.
    ask_now: bool,
    pub(super) retries_left: u8,
    pub(super) rnr_retries_left: u8,
    pub(super) timer: Timer,
    /// Timeouts since there was progress.
    pub(super) timeouts: u8,
    /// After a timeout: how often the answers that may be asked for at once have been doubled, plus one. 0 otherwise.
    pub(super) doublings: u8,
    pub(super) asked_again: AskedAgain,
    /// A refusal that is to be seen confirmed: of which packet, and what its request comes to then.
    pub(super) refused: Option<(Psn, Status)>,
    /// What the last NAK that was believed said to be missing; at first the PSN before the first.
    pub(super) nakked: Psn,
    /// Everything before this is known to have been executed: `una`, or more than has arrived.
    pub(super) executed: Psn,
    pub(super) rtt: Rtt,
    pub(super) mending: Mending,
    /// READ data and answers to atomic requests that came before what is missing.
    pub(super) early: EarlyList,
}

impl Requester {
    pub fn new() -> Requester {
        Requester {
            una: Psn::ZERO,
            una_wqe: 0,
            cursor: Psn::ZERO,
            cursor_wqe: 0,
            next: Psn::ZERO,
            started: 0,
            next_msn: 0,
            counting: Counting::new(),
            reads_out: 0,
            read_packets_out: 0,
            reads_unfinished: 0,
            unasked: 0,
            ask_now: false,
            retries_left: 0,
            rnr_retries_left: 0,
            timer: Timer::Off,
            timeouts: 0,
            doublings: 0,
            asked_again: AskedAgain::Nothing,
            refused: None,
            nakked: Psn::ZERO,
            executed: Psn::ZERO,
            rtt: Rtt::new(),
            mending: Mending::new(),
            early: EarlyList::new(),
        }
    }

    /// Begins a connection.
    pub fn connect(&mut self, sq: &SendQueue, link: &Link) {
        *self = Requester {
            una: link.send_psn,
            cursor: link.send_psn,
            next: link.send_psn,
            nakked: link.send_psn.prev(),
            executed: link.send_psn,
            una_wqe: sq.tail(),
            cursor_wqe: sq.tail(),
            started: sq.tail(),
            retries_left: link.retry_count,
            rnr_retries_left: link.rnr_retry_count,
            ..Requester::new()
        };
    }

    /// When [`on_timer`](super::ack) is due.
    pub fn deadline(&self) -> Option<Instant> {
        match self.timer {
            Timer::Off => None,
            Timer::Ack(at) => Some(self.mending.probe_at().map_or(at, |probe| probe.min(at))),
            Timer::Rnr(at) => Some(at),
        }
    }

    /// Whether there may be something to send; [`poll`](Self::poll) knows.
    pub fn has_work(&self, sq: &SendQueue) -> bool {
        (self.cursor_wqe != sq.tail() || self.mending.is_due())
            && !matches!(self.timer, Timer::Rnr(_))
    }

    /// Finds the next packet to send.
    pub fn poll(
        &mut self,
        sq: &mut SendQueue,
        link: &Link,
        keys: &mut KeyTable,
        early: &EarlyFrames,
        out: &mut Transmit,
    ) -> Step {
        self.pass_executed(sq);
        if !self.has_work(sq) {
            return Step::Idle;
        }
        if self.mending.resends() {
            return self.poll_again(sq, link, keys, out);
        }
        if let Some(step) = self.poll_hole(sq, link, early) {
            return step;
        }
        if self.cursor_wqe == sq.tail() {
            return Step::Idle;
        }
        let seq = self.cursor_wqe;
        let Some(wqe) = sq.get(seq) else {
            return Step::Idle;
        };
        let fresh = seq == self.started;
        if fresh {
            if wqe.flags.contains(SendFlags::FENCE) && self.reads_unfinished > 0 {
                return Step::Idle;
            }
            if wqe.kind.is_local() {
                return self.execute_local(seq, sq, link, keys);
            }
            let need = if wqe.kind.awaits_data() {
                Access::LOCAL_WRITE
            } else {
                Access::empty()
            };
            let sgl = sq.sgl(seq);
            if sgl::check(sgl, keys, link.pd, need).is_err() {
                return self.local_error(seq, Status::LocalProtection);
            }
            if wqe.flags.contains(SendFlags::INVALIDATE_LOCAL)
                && sgl.first().is_none_or(|e| {
                    keys.can_invalidate(e.key, link.pd, link.qp, By::Consumer)
                        .is_err()
                })
            {
                return self.local_error(seq, Status::LocalOperation);
            }
        }
        let first = if fresh { self.next } else { wqe.first_psn };
        let packets = if fresh {
            link.packets(wqe.len)
        } else {
            wqe.packets
        };
        let index = self.cursor.since(first);
        let awaits_data = wqe.kind.awaits_data();
        let step = if awaits_data {
            self.poll_read(sq, wqe, link, index, packets)
        } else if self.window_is_full(link) {
            Step::Idle
        } else {
            let place = Place {
                seq,
                psn: self.cursor,
                index,
                packets,
                ask: self.ask_now || self.unasked.saturating_add(1) >= link.ack_interval,
            };
            self.data_packet(sq, wqe, place, link, keys, out)
        };
        step.then(Then::MoveOn(Onward {
            fresh,
            first,
            packets,
        }))
    }

    /// Asks for READ data that is missing between what has come.
    ///
    /// A part begins with the first packet that is missing of its chunk, and ends with the last, those between included: a responder may hold
    /// that each repetition begins where the one before it did, or later (rdma_rxe does).
    fn poll_hole(&mut self, sq: &SendQueue, link: &Link, early: &EarlyFrames) -> Option<Step> {
        while let Some((from, to)) = self.mending.holes(self.una) {
            let seq = self.request_at(from, sq);
            let wqe = sq.get(seq)?;
            let first = wqe.first_psn;
            if !wqe.kind.awaits_data() {
                // Executed, or later READs would not have been.
                self.mending.holes_from(first.add(wqe.packets));
                continue;
            }
            let index = from.since(first);
            let end = from.add(link.read_chunk_after(index, wqe.packets));
            let start = first.add(link.read_chunk_start(index));
            let start = if start.is_before(self.una) {
                self.una
            } else {
                start
            };
            let stop = if end.is_before(to) { end } else { to };
            let Some((from, to)) = early.missing(&self.early, start, stop) else {
                self.mending.holes_from(end);
                continue;
            };
            let count = to.since(from);
            let step = read_packet(sq, wqe, seq, link, from, from.since(first), count);
            return Some(step.then(Then::Part { from, to, end }));
        }
        None
    }

    /// The request that the outstanding packet `psn` belongs to: the last that begins at or before it.
    pub(super) fn request_at(&self, psn: Psn, sq: &SendQueue) -> u32 {
        if psn == self.una {
            return self.una_wqe;
        }
        // First PSNs never fall, those of local operations included, which have no packets and come before the request with the same.
        let (mut low, mut high) = (0, self.started.wrapping_sub(self.una_wqe));
        let place = psn.since(self.una);
        while high.wrapping_sub(low) > 1 {
            let middle = low.wrapping_add(high.wrapping_sub(low) / 2);
            let begins = sq
                .get(self.una_wqe.wrapping_add(middle))
                .is_some_and(|w| w.first_psn.since(self.una) <= place);
            if begins {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.una_wqe.wrapping_add(low)
    }

    /// Sends a single packet again, the oldest that may not have arrived.
    fn poll_again(&self, sq: &SendQueue, link: &Link, keys: &KeyTable, out: &mut Transmit) -> Step {
        let (psn, seq) = (self.una, self.una_wqe);
        let Some(wqe) = sq.get(seq) else {
            return Step::Idle;
        };
        let index = psn.since(wqe.first_psn);
        let mut end = psn.next();
        let step = if wqe.kind.awaits_data() {
            // To the end, whatever has been kept of it: not every responder answers a part.
            let chunk = link.read_chunk_after(index, wqe.packets);
            end = psn.add(chunk);
            read_packet(sq, wqe, seq, link, psn, index, chunk)
        } else {
            let place = Place {
                seq,
                psn,
                index,
                packets: wqe.packets,
                ask: true,
            };
            self.data_packet(sq, wqe, place, link, keys, out)
        };
        let is_read = wqe.kind.awaits_data();
        step.then(Then::Again { end, is_read })
    }

    /// Executes the local operation that the cursor has come to, if its turn has come.
    fn execute_local(
        &mut self,
        seq: u32,
        sq: &mut SendQueue,
        link: &Link,
        keys: &mut KeyTable,
    ) -> Step {
        let Some(wqe) = sq.get_mut(seq) else {
            return Step::Idle;
        };
        let (done, status) = match wqe.kind {
            Kind::FastRegister => (keys.execute_fast(MrKey(wqe.rkey)), Status::LocalOperation),
            Kind::Bind => (keys.execute_bind(MrKey(wqe.rkey)), Status::WindowBind),
            // Earlier requests may have to be sent again from the memory that the key stands for.
            _ if seq != self.una_wqe => return Step::Idle,
            _ => {
                wqe.drains = wqe.rkey;
                let result = keys.invalidate(wqe.rkey, link.pd, link.qp, By::Consumer);
                let done = match result {
                    Ok(()) => Registered::Done,
                    Err(_) => Registered::Refused,
                };
                (done, Status::LocalOperation)
            }
        };
        match done {
            Registered::Done => {}
            Registered::NotYet => return Step::Idle,
            Registered::Refused => return self.local_error(seq, status),
        }
        wqe.outcome = Some(Status::Success);
        wqe.first_psn = self.next;
        wqe.packets = 0;
        self.started = self.started.wrapping_add(1);
        self.cursor_wqe = self.started;
        self.pass_una(sq);
        Step::Executed
    }

    /// Moves the cursor over local operations that have been executed.
    fn pass_executed(&mut self, sq: &SendQueue) {
        while self.cursor_wqe != self.started
            && sq.get(self.cursor_wqe).is_some_and(|w| w.kind.is_local())
        {
            self.cursor_wqe = self.cursor_wqe.wrapping_add(1);
        }
    }

    /// Moves `una_wqe` over local operations that have been executed, and keeps the cursor from falling behind: what it stood at
    /// may be posted anew.
    pub(super) fn pass_una(&mut self, sq: &SendQueue) {
        while self.una_wqe != self.started
            && sq.get(self.una_wqe).is_some_and(|w| w.kind.is_local())
        {
            self.una_wqe = self.una_wqe.wrapping_add(1);
        }
        if (self.cursor_wqe.wrapping_sub(self.una_wqe) as i32) < 0 {
            self.go_to_una();
        }
    }

    fn poll_read(
        &self,
        sq: &SendQueue,
        wqe: &SendWqe,
        link: &Link,
        index: u32,
        packets: u32,
    ) -> Step {
        if self.reads_out >= link.initiator_depth {
            return Step::Idle;
        }
        let chunk = link.read_chunk_after(index, packets);
        if self.read_packets_out > 0
            && self.read_packets_out.saturating_add(chunk) > self.read_window(link)
        {
            return Step::Idle;
        }
        read_packet(sq, wqe, self.cursor_wqe, link, self.cursor, index, chunk)
    }

    /// Whether as many packets of SENDs and WRITEs are ahead of their acknowledgement as may be.
    fn window_is_full(&self, link: &Link) -> bool {
        let ahead = self
            .cursor
            .since(self.una)
            .saturating_sub(self.read_packets_out);
        let window = if self.mending.goes_on() {
            link.recovery_window
        } else {
            link.send_window
        };
        ahead >= window
    }

    /// Response packets that may be asked for at once. After a timeout it is one request's, and twice as many each time that something arrives:
    /// if a queue on the way is too short for all of them, that which has to come first would be lost among them again and again. A window of
    /// SENDs and WRITEs begins with what has to come first.
    fn read_window(&self, link: &Link) -> u32 {
        match self.doublings.checked_sub(1) {
            Some(doublings) => link.read_window.min(1 << doublings.min(31)),
            None => link.read_window,
        }
    }

    /// Something has arrived: the next timeout is the first again, and more may be asked for.
    pub(super) fn recover(&mut self, link: &Link) {
        self.timeouts = 0;
        if self.doublings > 0 {
            self.doublings = self.doublings.saturating_add(1);
            if self.read_window(link) >= link.read_window {
                self.doublings = 0;
            }
        }
    }

    fn data_packet(
        &self,
        sq: &SendQueue,
        wqe: &SendWqe,
        place: Place,
        link: &Link,
        keys: &KeyTable,
        out: &mut Transmit,
    ) -> Step {
        let Place {
            seq,
            psn,
            index,
            packets,
            ask,
        } = place;
        let offset = link.offset(index);
        let len = wqe.len.saturating_sub(offset).min(link.mtu);
        let inline = wqe.inline.then_some(InlinePart { seq, offset, len });
        if inline.is_none()
            && sgl::gather(sq.sgl(seq), keys, link.pd, offset, len, &mut out.pieces).is_err()
        {
            out.pieces.clear();
            return self.local_error(seq, Status::LocalProtection);
        }
        let first = index == 0;
        let last = index.wrapping_add(1) >= packets;
        let op = match (wqe.kind, first, last) {
            (Kind::SendImmediate, true, true) => Opcode::SendOnlyImm,
            (Kind::SendImmediate, false, true) => Opcode::SendLastImm,
            (Kind::SendInvalidate, true, true) => Opcode::SendOnlyInvalidate,
            (Kind::SendInvalidate, false, true) => Opcode::SendLastInvalidate,
            (Kind::WriteImmediate, true, true) => Opcode::WriteOnlyImm,
            (Kind::WriteImmediate, false, true) => Opcode::WriteLastImm,
            (kind, true, true) if kind.is_send() => Opcode::SendOnly,
            (kind, true, false) if kind.is_send() => Opcode::SendFirst,
            (kind, false, false) if kind.is_send() => Opcode::SendMiddle,
            (kind, false, true) if kind.is_send() => Opcode::SendLast,
            (_, true, true) => Opcode::WriteOnly,
            (_, true, false) => Opcode::WriteFirst,
            (_, false, false) => Opcode::WriteMiddle,
            (_, false, true) => Opcode::WriteLast,
        };
        let range = Reth {
            va: wqe.remote_va,
            rkey: wqe.rkey,
            len: wqe.len,
        };
        let extension = match (op.has_reth(), op.has_immediate(), op.has_ieth()) {
            (true, true, _) => Extension::RethImmediate(range, wqe.immediate),
            (true, false, _) => Extension::Reth(range),
            (false, true, _) => Extension::Immediate(wqe.immediate),
            (false, false, true) => Extension::Ieth(Ieth { rkey: wqe.rkey }),
            (false, false, false) => Extension::None,
        };
        Step::Send {
            packet: Outgoing {
                op,
                psn,
                solicited: last
                    && wqe.kind.consumes_receive()
                    && wqe.flags.contains(SendFlags::SOLICITED),
                ack_request: last || ask,
                extension,
            },
            seq,
            inline,
            then: Then::Nothing,
        }
    }

    /// A request whose own memory is not accessible fails when its turn has come: after all earlier ones have completed.
    pub(super) fn local_error(&self, seq: u32, status: Status) -> Step {
        if seq == self.una_wqe {
            Step::Fail { seq, status }
        } else {
            Step::Idle
        }
    }

    /// Has the next packet ask for an acknowledgement.
    pub fn ask(&mut self) {
        self.ask_now = true;
    }

    /// A packet of request `seq` went out.
    pub fn sent(
        &mut self,
        now: Instant,
        sq: &mut SendQueue,
        link: &Link,
        packet: &Outgoing,
        seq: u32,
        then: Then,
    ) {
        match then {
            Then::Nothing => {}
            Then::Again { end, is_read } => {
                self.rtt.sent_again();
                self.mending.sent_due(end, is_read, now, &self.rtt);
            }
            Then::Part { from, to, end } => {
                self.rtt.sent_again();
                let oldest = from == self.una;
                self.mending.sent_part(to, end, oldest, now, &self.rtt);
            }
            Then::MoveOn(onward) => self.move_on(now, sq, link, packet, seq, onward),
        }
        if self.timer == Timer::Off {
            self.start_timer(now, link);
        }
        self.mending.sent(now, &self.rtt);
    }

    /// Moves the cursor behind the packet that it stood at.
    fn move_on(
        &mut self,
        now: Instant,
        sq: &mut SendQueue,
        link: &Link,
        packet: &Outgoing,
        seq: u32,
        Onward {
            fresh,
            first,
            packets,
        }: Onward,
    ) {
        let index = self.cursor.since(first);
        let steps = match packet.op {
            Opcode::ReadRequest => link.read_chunk_after(index, packets),
            _ => 1,
        };
        if !packet.psn.is_before(self.next) {
            if packet.ack_request {
                self.rtt.sent(packet.psn, now);
            }
        } else if packet.psn == self.una {
            let end = packet.psn.add(steps);
            self.mending
                .sent_again(end, Reason::WentBack, now, &self.rtt);
        }
        let awaits_data = packet.op.is_atomic() || packet.op == Opcode::ReadRequest;
        if fresh {
            if let Some(wqe) = sq.get_mut(seq) {
                wqe.first_psn = first;
                wqe.packets = packets;
                wqe.first_msn = self.next_msn;
            }
            self.started = self.started.wrapping_add(1);
            if awaits_data {
                self.reads_unfinished = self.reads_unfinished.saturating_add(1);
            }
        }
        if awaits_data {
            self.reads_out = self.reads_out.saturating_add(1);
            self.read_packets_out = self.read_packets_out.saturating_add(steps);
        }
        self.ask_now = false;
        self.unasked = if packet.ack_request {
            0
        } else {
            self.unasked.saturating_add(1)
        };
        self.cursor = self.cursor.add(steps);
        let ends = index.wrapping_add(steps) >= packets;
        if self.cursor.is_after(self.next) {
            self.next = self.cursor;
            // To the peer each chunk of a READ is a READ.
            if ends || awaits_data {
                self.next_msn = self.next_msn.wrapping_add(1);
            }
        }
        if ends {
            self.cursor_wqe = seq.wrapping_add(1);
        }
    }

    /// Stops for good.
    pub fn stop(&mut self) {
        self.timer = Timer::Off;
    }

    /// A timeout may come up to four times as late as its code says. A peer that is slow to answer, because its machine is
    /// paused for instance, is given that.
    pub(super) fn start_timer(&mut self, now: Instant, link: &Link) {
        self.timer = match doubled_timeout_nanos(link.ack_timeout, self.timeouts.into()) {
            Some(nanos) => Timer::Ack(now.after_nanos(nanos)),
            None => Timer::Off,
        };
    }

    /// What timed out went elsewhere: sends it again without waiting for the next timeout.
    pub fn redirected(&mut self) {
        if self.timeouts > 0 && self.una != self.next {
            self.go_back();
        }
    }

    /// Back to the oldest packet that may not have arrived.
    pub(super) fn go_back(&mut self) {
        self.go_to_una();
        self.ask_now = true;
        self.rtt.sent_again();
        self.mending.went_back();
    }

    /// The oldest packet that may not have arrived is the next to send.
    pub(super) fn go_to_una(&mut self) {
        self.cursor = self.una;
        self.cursor_wqe = self.una_wqe;
        self.reads_out = 0;
        self.read_packets_out = 0;
    }
}

/// Asks for the `count` responses from `index` on.
fn read_packet(
    sq: &SendQueue,
    wqe: &SendWqe,
    seq: u32,
    link: &Link,
    psn: Psn,
    index: u32,
    count: u32,
) -> Step {
    let offset = link.offset(index);
    let len = wqe.len.saturating_sub(offset).min(link.offset(count));
    let atomic = || {
        let Operands { swap_add, compare } = sq.operands(seq);
        Extension::Atomic(AtomicEth {
            va: wqe.remote_va,
            rkey: wqe.rkey,
            swap_add,
            compare,
        })
    };
    let (op, extension) = match wqe.kind {
        Kind::CompareSwap => (Opcode::CompareSwap, atomic()),
        Kind::FetchAdd => (Opcode::FetchAdd, atomic()),
        _ => {
            let range = Reth {
                // The peer checks the range; an address that wraps is refused there like any other bad one.
                va: wqe.remote_va.wrapping_add(u64::from(offset)),
                rkey: wqe.rkey,
                len,
            };
            (Opcode::ReadRequest, Extension::Reth(range))
        }
    };
    Step::Send {
        packet: Outgoing {
            op,
            psn,
            solicited: false,
            ack_request: true,
            extension,
        },
        seq,
        inline: None,
        then: Then::Nothing,
    }
}
