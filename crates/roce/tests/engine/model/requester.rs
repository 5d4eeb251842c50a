//! The requester: random requests, and a peer that answers them late, twice, with gaps, not at all, or with NAKs. Which packets come again
//! and when is the requester's choice, within limits; what they say, what completes and what has then arrived is not.

mod posted;

use crate::util::random::{Witness, below, pick, seeds};
use crate::util::raw::{PSN, Raw, Reply, syndrome};
use crate::util::{Host, Mr, Setup, pattern};
use posted::Posted;
use roce::wire::Opcode::*;
use roce::{Config, Event, Instant, PathMtu, Rng, SendFlags, SendOp, Status};
use std::collections::BTreeSet;
use std::time::Duration;

const MTU: u32 = 256;
/// READs and atomic requests that may be outstanding.
const READS: usize = 4;
/// A timeout is 4.096 us * 2^10; it may be four times as late as that, and four times as long as the one before.
const TIMEOUT: u8 = 10;
const LATEST: Duration = Duration::from_nanos((4096 * 16) << TIMEOUT);
/// Timeouts before the last.
const RETRIES: u32 = 7;
/// Bytes between the places to which READs go.
const PLACE: u32 = 1024;
const REQUESTS: u64 = 30;
/// Times in a row that the peer says nothing good: fewer than there are retries.
const STRIKES: u32 = 4;
/// Where the peer's memory begins, as far as anybody here knows.
const REMOTE: u64 = 0x7000_0000;
const RKEY: u32 = 0xabcd;

/// What the peer's memory has for a READ or an atomic request.
fn remote(request: &Posted) -> Vec<u8> {
    pattern(request.len as usize, request.context ^ 0x5eed)
}

/// The number that an atomic request finds.
fn original(request: &Posted) -> u64 {
    u64::from_ne_bytes(remote(request).try_into().unwrap())
}

struct Model {
    raw: Raw,
    /// It may keep READ data that comes early.
    keeps: bool,
    source: Mr,
    sink: Mr,
    posted: Vec<Posted>,
    /// Packets that have been sent at least once.
    sent: u32,
    /// All before this must be taken for arrived: by a requester that takes nothing out of order.
    least: u32,
    /// All before this that needs no data has arrived, as the peer has said.
    said: u32,
    /// What the peer has ever said to have arrived, or brought.
    shown: BTreeSet<u32>,
    /// READ requests and atomic ones as they were sent: packets from, to.
    asked: Vec<(u32, u32)>,
    /// The peer has no receive for this packet until then.
    not_ready: Option<(u32, Instant)>,
    /// Nothing has been lost or refused yet.
    calm: bool,
    strikes: u32,
    resent: u32,
}

impl Model {
    fn new(seed: u64) -> Model {
        let setup = Setup::default();
        let keeps = seed.is_multiple_of(2);
        let mut raw = Raw::new(Setup {
            mtu: PathMtu::Mtu256,
            reads: READS as u8,
            ack_timeout: TIMEOUT,
            ipv6: seed.is_multiple_of(3),
            seed,
            config: Config {
                early_frames: if keeps { setup.config.early_frames } else { 0 },
                ..setup.config
            },
            ..setup
        });
        let source = raw.host.open(pattern(4096, seed));
        let sink = raw.host.open(vec![0; (REQUESTS as u32 * PLACE) as usize]);
        Model {
            raw,
            keeps,
            source,
            sink,
            posted: Vec::new(),
            sent: 0,
            least: 0,
            said: 0,
            shown: BTreeSet::new(),
            asked: Vec::new(),
            not_ready: None,
            calm: true,
            strikes: 0,
            resent: 0,
        }
    }

    /// The request that a packet belongs to.
    fn of(&self, at: u32) -> &Posted {
        let mut all = self.posted.iter();
        all.find(|p| (p.first..p.end()).contains(&at))
            .expect("a packet of a request that was posted")
    }

    fn total(&self) -> u32 {
        self.posted.last().map_or(0, Posted::end)
    }

    fn post(&mut self, rng: &mut Rng) {
        let context = self.posted.len() as u64;
        let len = match below(rng, 4) {
            0 => below(rng, 5),
            1 => MTU * below(rng, 4),
            _ => below(rng, 1000),
        };
        let (remote_va, rkey) = (REMOTE + 8 * context, RKEY);
        let immediate = rng.next_u32().to_be_bytes();
        let op = match below(rng, 10) {
            0 | 1 => SendOp::Send,
            2 => SendOp::SendImmediate(immediate),
            3 => SendOp::SendInvalidate(RKEY + 1),
            4 | 5 => SendOp::Write { remote_va, rkey },
            6 => SendOp::WriteImmediate {
                remote_va,
                rkey,
                immediate,
            },
            7 | 8 => SendOp::Read { remote_va, rkey },
            _ if below(rng, 2) == 0 => SendOp::FetchAdd {
                remote_va,
                rkey,
                add: 3,
            },
            _ => SendOp::CompareSwap {
                remote_va,
                rkey,
                compare: 1,
                swap: 2,
            },
        };
        let mut flags = SendFlags::empty();
        for (flag, one_in) in [
            (SendFlags::SILENT, 4),
            (SendFlags::FENCE, 5),
            (SendFlags::SOLICITED, 2),
        ] {
            if below(rng, one_in) == 0 {
                flags |= flag;
            }
        }
        let from = below(rng, 3000);
        let mut request = Posted {
            context,
            op,
            len,
            bytes: Vec::new(),
            to: context as u32 * PLACE,
            flags,
            first: self.total(),
            packets: 1,
        };
        if request.is_atomic() {
            request.len = 8;
        }
        request.packets = request.len.div_ceil(MTU).max(1);
        let sge = if request.brings_data() {
            self.sink.sge(request.to, request.len)
        } else {
            let at = from as usize;
            request.bytes = self.raw.host.bytes(&self.source)[at..at + len as usize].to_vec();
            self.source.sge(from, len)
        };
        let (now, qp) = (self.raw.now, self.raw.qp);
        let host = &mut self.raw.host;
        host.send_with(now, qp, context, op, &[sge], flags);
        self.posted.push(request);
    }

    /// Everything that the engine sends now. Says which packets.
    fn listen(&mut self) -> Vec<u32> {
        let replies = self.raw.replies();
        let seen: Vec<u32> = replies.iter().map(|r| self.check(r)).collect();
        self.check_completions();
        if self.calm {
            self.check_progress();
        }
        seen
    }

    /// A packet says what its place in its request demands.
    fn check(&mut self, r: &Reply) -> u32 {
        let at = r.psn.wrapping_sub(PSN) & 0xff_ffff;
        assert!(at <= self.sent, "{at} comes before {}: {r:?}", self.sent);
        assert!(at >= self.least, "{at} has been acknowledged: {r:?}");
        if let Some((psn, until)) = self.not_ready {
            let early = at >= psn && self.raw.now < until;
            assert!(!early, "{at} although the peer has no receive: {r:?}");
        }
        let request = self.of(at).clone();
        let index = at - request.first;
        let fresh = at == self.sent;
        if fresh && index == 0 {
            self.check_start(&request);
        }
        let packets = if request.brings_data() {
            request.check_request(index, r)
        } else {
            request.check_data(index, fresh, r);
            1
        };
        if request.brings_data() {
            self.asked.push((at, at + packets));
            assert!(self.unanswered().count() <= READS || !fresh, "{r:?}");
        }
        self.resent += u32::from(!fresh);
        self.sent = self.sent.max(at + packets);
        at
    }

    /// READs and atomic requests that have been sent, and of which something may be missing.
    fn unanswered(&self) -> impl Iterator<Item = &Posted> {
        let sent = self.sent;
        let all = self.posted.iter().filter(move |p| p.first < sent);
        all.filter(|p| p.brings_data() && !self.is_shown(p))
    }

    fn is_shown(&self, p: &Posted) -> bool {
        (p.first..p.end()).all(|at| self.shown.contains(&at))
    }

    /// A request may begin.
    fn check_start(&self, request: &Posted) {
        let waits = self.unanswered().any(|p| p.first < request.first);
        let fence = request.flags.contains(SendFlags::FENCE);
        assert!(!(fence && waits), "passes its fence: {request:?}");
    }

    /// As long as nothing went wrong, what may be sent is.
    fn check_progress(&self) {
        if self.sent == self.total() {
            return;
        }
        let next = self.of(self.sent);
        let open = |p: &&Posted| p.brings_data() && p.end() > self.least && p.first < next.first;
        let open = self.posted.iter().filter(open).count();
        let waits = next.flags.contains(SendFlags::FENCE) && open > 0
            || next.brings_data() && open >= READS;
        assert!(waits, "does not send {next:?}");
    }

    /// Requests complete in order, not before the peer has shown them to be done, and no later than anybody must see it.
    fn check_completions(&self) {
        let done = &self.raw.host.completions;
        let least = self.posted.iter().filter(|p| p.end() <= self.least);
        let most = self.posted.iter().take_while(|p| self.is_shown(p));
        let count = |all: &mut dyn Iterator<Item = &Posted>| {
            all.filter(|p| !p.flags.contains(SendFlags::SILENT)).count()
        };
        let mut visible = self
            .posted
            .iter()
            .filter(|p| !p.flags.contains(SendFlags::SILENT));
        for c in done {
            let p = visible.next().expect("a request for each completion");
            let want = (p.context, Status::Success, p.completes_as());
            assert_eq!((c.context, c.status, c.op), want);
            self.check_brought(p);
        }
        let (least, most) = (count(&mut { least }), count(&mut { most }));
        assert!(
            (least..=most).contains(&done.len()),
            "{} completions, not {least} to {most}; {} of {} sent, all before {} there",
            done.len(),
            self.sent,
            self.total(),
            self.least
        );
    }

    /// What a completed request was to bring is there.
    fn check_brought(&self, p: &Posted) {
        if p.brings_data() {
            let there = &self.raw.host.bytes(&self.sink)[p.to as usize..];
            assert!(there[..p.len as usize] == remote(p), "{p:?}");
        }
    }

    /// Everything before this packet that needs no data has arrived.
    fn arrived(&mut self, before: u32) {
        let posted = &self.posted;
        for p in posted.iter().filter(|p| !p.brings_data()) {
            self.shown.extend(p.first..p.end().min(before));
        }
        self.said = self.said.max(before);
        while self.least < self.said && !self.of(self.least).brings_data() {
            self.least += 1;
            self.strikes = 0;
        }
        if self.not_ready.is_some_and(|(psn, _)| self.least > psn) {
            self.not_ready = None;
        }
    }

    /// The peer acknowledges a packet. If it was not sent, or has long been acknowledged, that means nothing.
    fn acknowledge(&mut self, at: u32) {
        if at >= self.least && at < self.sent {
            self.arrived(at + 1);
        }
        self.raw.acknowledge(PSN + at, syndrome::ACK);
        self.calm &= at < self.least || at >= self.sent;
    }

    /// The peer brings one packet that was asked for.
    fn bring(&mut self, at: u32, (from, to): (u32, u32)) {
        let request = self.of(at).clone();
        let op = match (at == from, at + 1 == to) {
            _ if request.is_atomic() => AtomicAcknowledge,
            (true, true) => ReadResponseOnly,
            (true, false) => ReadResponseFirst,
            (false, false) => ReadResponseMiddle,
            (false, true) => ReadResponseLast,
        };
        if at >= self.least {
            // In the middle of a READ nothing is said of what came before.
            if op != ReadResponseMiddle {
                self.arrived(at);
            }
            self.shown.insert(at);
            if self.least == at {
                self.least += 1;
                self.strikes = 0;
                self.arrived(self.said);
            } else {
                self.calm = false;
            }
        }
        if request.is_atomic() {
            self.raw.atomic_ack(PSN + at, original(&request));
            return;
        }
        let bytes = remote(&request);
        let start = ((at - request.first) * MTU) as usize;
        let end = bytes.len().min(start + MTU as usize);
        let aeth = (op != ReadResponseMiddle).then_some(syndrome::ACK);
        self.raw.respond(op, PSN + at, aeth, &bytes[start..end]);
    }

    /// The peer answers the oldest thing that it has been asked for and that has not arrived.
    fn good(&mut self) {
        let at = self.least;
        if at >= self.sent {
            return;
        }
        if self.of(at).brings_data() {
            let mut asked = self.asked.iter().rev();
            let range = asked.find(|(from, to)| (*from..*to).contains(&at));
            let range = *range.expect("it has been sent");
            self.bring(at, range);
        } else {
            let end = self.sent;
            let stop = (at..end)
                .find(|at| self.of(*at).brings_data())
                .unwrap_or(end);
            self.acknowledge(stop - 1);
        }
    }

    /// One thing that the peer does.
    fn step(&mut self, rng: &mut Rng) {
        if self.strikes >= STRIKES {
            self.good();
            self.listen();
            return;
        }
        let out = self.sent - self.least;
        match below(rng, 20) {
            0..7 => self.good(),
            // Any packet, such as were not sent and such as have long been acknowledged among them.
            7 | 8 => {
                let at = (self.least + below(rng, out + 4)).saturating_sub(below(rng, 3));
                self.acknowledge(at);
            }
            9..12 => {
                // Data, perhaps with a gap, perhaps again.
                if self.asked.is_empty() {
                    return;
                }
                let (from, to) = pick(rng, &self.asked);
                let start = from + below(rng, 3) * below(rng, to - from);
                for at in start.min(to - 1)..to {
                    if below(rng, 8) > 0 {
                        self.bring(at, (from, to));
                    }
                }
            }
            12 | 13 => self.refuse(rng, syndrome::SEQUENCE),
            14 => self.refuse(rng, syndrome::RNR),
            15 => self.time_out(),
            _ => self.post_some(rng),
        }
        self.listen();
    }

    fn post_some(&mut self, rng: &mut Rng) {
        for _ in 0..below(rng, 4) {
            if (self.posted.len() as u64) < REQUESTS {
                self.post(rng);
            }
        }
    }

    /// A packet that the peer can refuse: all that brings data has done so before it.
    fn refusable(&self, rng: &mut Rng) -> Option<u32> {
        let first = self.least;
        let mut end = first;
        while end < self.sent && (end == first || !self.of(end - 1).brings_data()) {
            end += 1;
        }
        // Of a READ under way the peer has nothing to refuse.
        let under_way =
            first < self.sent && self.of(first).first < first && self.of(first).brings_data();
        (end > first && !under_way).then(|| first + below(rng, end - first))
    }

    /// The peer has lost a packet, or has no receive for it: it comes again, now or when the peer said.
    fn refuse(&mut self, rng: &mut Rng, syndrome: u8) {
        let Some(at) = self.refusable(rng) else {
            return;
        };
        // Somebody who has more than that is told so.
        if self.shown.range(at..).next().is_some() {
            return;
        }
        self.listen();
        if syndrome == syndrome::RNR && !self.may_need_receive(at) {
            // That it is to wait is believed, and that it acknowledges is not.
            self.strikes += 1;
            self.calm = false;
            self.raw.acknowledge(PSN + at, syndrome);
            self.stay_away(at);
            return;
        }
        self.arrived(at);
        self.strikes += 1;
        self.calm = false;
        self.raw.acknowledge(PSN + at, syndrome);
        if syndrome == syndrome::RNR {
            self.stay_away(at);
        } else if self.not_ready.is_none() {
            // At once, unless it may have crossed with the NAK.
            self.wait(LATEST, at);
        }
    }

    /// Nothing from this packet on comes for as long as code 12 says, and then it does.
    fn stay_away(&mut self, at: u32) {
        let until = self.raw.now.after(Duration::from_micros(640));
        if self.not_ready.is_none() {
            self.not_ready = Some((at, until));
        }
        self.listen();
        self.wait(Duration::from_millis(3), at);
    }

    /// The peer may lack what this packet needs: it begins a message, or ends one that takes a receive then.
    fn may_need_receive(&self, at: u32) -> bool {
        let p = self.of(at);
        let takes = matches!(p.op, SendOp::WriteImmediate { .. });
        at == p.first || takes && at + 1 == p.end()
    }

    /// Lets time pass until a packet comes again.
    fn wait(&mut self, most: Duration, at: u32) {
        let end = self.raw.now.after(most);
        loop {
            if self.listen().contains(&at) {
                break;
            }
            let due = self.raw.host.engine.next_deadline();
            let due = due.filter(|due| *due <= end);
            let due = due.unwrap_or_else(|| panic!("{at} does not come again"));
            self.raw.now = self.raw.now.max(due);
            self.raw.host.engine.handle_timeout(self.raw.now);
        }
        self.not_ready = None;
    }

    /// The peer says nothing. Then what is oldest comes again.
    fn time_out(&mut self) {
        self.listen();
        if self.least == self.sent {
            return;
        }
        self.strikes += 1;
        self.calm = false;
        // Whatever came out of order may count or not. Without a place for it nothing does, and what comes again is the oldest.
        let mut oldest = self.least;
        while self.keeps && self.shown.contains(&oldest) {
            oldest += 1;
        }
        if oldest == self.sent {
            return;
        }
        let end = self.raw.now.after(LATEST + Duration::from_secs(1));
        let begin = self.raw.now;
        loop {
            let seen = self.listen();
            if seen.iter().any(|at| *at <= oldest) {
                break;
            }
            let due = self.raw.host.engine.next_deadline();
            let due = due.filter(|due| *due <= end);
            let due = due.unwrap_or_else(|| panic!("{oldest} does not come again"));
            self.raw.now = self.raw.now.max(due);
            self.raw.host.engine.handle_timeout(self.raw.now);
        }
        assert!(self.raw.now.since(begin) <= LATEST, "late");
        self.not_ready = None;
    }

    /// Everything comes to a good end.
    fn finish(&mut self) {
        for _ in 0..2000 {
            self.listen();
            if self.least == self.total() {
                return;
            }
            if self.least == self.sent {
                // Nothing is under way: it waits for something.
                let due = self
                    .raw
                    .host
                    .engine
                    .next_deadline()
                    .expect("a reason to wait");
                self.raw.now = self.raw.now.max(due);
                self.raw.host.engine.handle_timeout(self.raw.now);
            }
            self.good();
        }
        panic!(
            "{} of {} is all that gets through",
            self.least,
            self.total()
        );
    }

    /// The peer ends the connection because of a packet: what came before it is done, the rest is not.
    fn kill(&mut self, rng: &mut Rng) {
        let Some(at) = self.refusable(rng) else {
            return self.finish();
        };
        if self.shown.range(at..).next().is_some() {
            return self.finish();
        }
        self.listen();
        let (syndrome, status) = pick(
            rng,
            &[
                (syndrome::INVALID, Status::RemoteInvalidRequest),
                (syndrome::ACCESS, Status::RemoteAccess),
                (syndrome::OPERATION, Status::RemoteOperation),
            ],
        );
        self.raw.acknowledge(PSN + at, syndrome);
        if self.of(at).first != at {
            self.stay_silent();
        }
        self.check_end(at, status);
    }

    /// The peer has refused something in the middle of a message, as hardly any does. All comes again, in case that was somebody else, until
    /// the last timeout.
    fn stay_silent(&mut self) {
        let begin = self.raw.now;
        let failed = |host: &mut Host| {
            host.collect();
            let mut events = host.events.iter();
            events.any(|e| matches!(e, Event::QpFatal { .. }))
        };
        while !failed(&mut self.raw.host) {
            for r in &self.raw.replies() {
                self.check(r);
            }
            let due = self.raw.host.engine.next_deadline().expect("a timeout");
            self.raw.now = self.raw.now.max(due);
            self.raw.host.engine.handle_timeout(self.raw.now);
        }
        assert!(self.raw.now.since(begin) <= LATEST * (RETRIES + 1), "late");
    }

    /// The peer is not there any more.
    fn silence(&mut self) {
        self.listen();
        if self.least == self.sent || self.shown.range(self.least..).next().is_some() {
            return self.finish();
        }
        let at = self.least;
        for _ in 0..1000 {
            let Some(due) = self.raw.host.engine.next_deadline() else {
                break;
            };
            self.raw.now = self.raw.now.max(due);
            self.raw.host.engine.handle_timeout(self.raw.now);
            // What it says in vain is right as well, as long as there is hope.
            let replies = self.raw.replies();
            for r in &replies {
                self.check(r);
            }
        }
        self.check_end(at, Status::RetryExceeded);
    }

    /// The request of this packet has failed, and all behind it are flushed.
    fn check_end(&mut self, at: u32, status: Status) {
        assert_eq!(self.raw.replies(), []);
        let failed = self.of(at).first;
        let mut done = self.raw.host.completions.iter();
        for p in &self.posted {
            let want = match p.first {
                first if first < failed => Status::Success,
                first if first == failed => status,
                _ => Status::Flushed,
            };
            if want == Status::Success && p.flags.contains(SendFlags::SILENT) {
                continue;
            }
            let c = done.next().unwrap_or_else(|| panic!("nothing of {p:?}"));
            assert_eq!((c.context, c.status), (p.context, want), "{p:?}");
            if want == Status::Success {
                self.check_brought(p);
            }
        }
        assert_eq!(done.next(), None);
    }
}

#[test]
fn the_engine_asks_and_completes_as_the_simplest_requester_may() {
    let (mut resent, mut ends) = (0, [0; 3]);
    for seed in seeds(2500) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0xa5c);
        let mut model = Model::new(seed);
        model.post_some(&mut rng);
        model.listen();
        for _ in 0..40 {
            model.step(&mut rng);
        }
        let end = below(&mut rng, 3) as usize;
        match end {
            0 => model.finish(),
            1 => model.kill(&mut rng),
            _ => model.silence(),
        }
        resent += model.resent;
        ends[end] += 1;
    }
    println!("{resent} packets came again; ends {ends:?}");
    if std::env::var_os("ROCE_SEED").is_none() {
        assert!(resent > 5000, "{resent}");
    }
}
