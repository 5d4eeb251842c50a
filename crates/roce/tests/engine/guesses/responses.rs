//! Made-up answers.

use super::*;
use roce::{Config, QpParams};

const WRITE: SendOp = SendOp::Write {
    remote_va: 0x7000,
    rkey: 0x99,
};
const READ: SendOp = SendOp::Read {
    remote_va: 0x7000,
    rkey: 0x99,
};
const ADD: SendOp = SendOp::FetchAdd {
    remote_va: 0x7000,
    rkey: 0x99,
    add: 1,
};

/// As many request packets as a send window takes, response packets as a read window takes, and atomic requests as are granted.
const WINDOW: u32 = 128;
const READ_WINDOW: u32 = 256;
const CHUNK: u32 = 128;
const ATOMICS: u32 = 16;

#[test]
fn the_windows_are_those_of_the_default() {
    let c = Config::default();
    let windows = (c.send_window, c.read_window, c.read_chunk);
    assert_eq!(windows, (WINDOW, READ_WINDOW, CHUNK));
    assert_eq!(u32::from(c.max_outbound_reads), ATOMICS);
}

/// What is under way.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Work {
    /// One request of so many packets.
    Long(SendOp, u32),
    /// So many WRITEs of one packet each.
    Short(u32),
    /// So many atomic requests.
    Atomics(u32),
}

impl Work {
    fn packets(self) -> u32 {
        match self {
            Work::Long(_, packets) | Work::Short(packets) | Work::Atomics(packets) => packets,
        }
    }

    fn requests(self) -> u32 {
        match self {
            Work::Long(..) => 1,
            Work::Short(n) | Work::Atomics(n) => n,
        }
    }

    /// Messages that the peer counts: each chunk of a READ is one.
    fn messages(self) -> u32 {
        match self {
            Work::Long(READ, packets) => packets.div_ceil(CHUNK),
            work => work.requests(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Forged {
    /// An acknowledgement packet with this syndrome.
    Answer(u8),
    /// Data in the middle, so many bytes.
    Middle(usize),
    /// Data that counts messages.
    Data(Opcode),
    /// The answer to an atomic request.
    Atomic,
}

/// Every kind that comes with a count.
const COUNTED: [Forged; 10] = [
    Forged::Answer(ACK),
    Forged::Answer(SEQUENCE),
    Forged::Answer(RNR),
    Forged::Answer(INVALID),
    Forged::Answer(ACCESS),
    Forged::Answer(OPERATION),
    Forged::Data(ReadResponseFirst),
    Forged::Data(ReadResponseLast),
    Forged::Data(ReadResponseOnly),
    Forged::Atomic,
];

const REFUSALS: [Forged; 3] = [
    Forged::Answer(INVALID),
    Forged::Answer(ACCESS),
    Forged::Answer(OPERATION),
];

/// The engine, and the true peer.
struct Peer {
    r: Raw,
    mr: Mr,
    work: Work,
    /// Messages that were acknowledged before.
    done: u32,
    /// What it has executed of the work.
    expected: u32,
    nakked: bool,
}

impl Peer {
    /// The work is posted behind so many WRITEs that have been acknowledged.
    fn new(work: Work, done: u32) -> Peer {
        let setup = Setup {
            // The first "receiver not ready" is one too many.
            rnr_retry_count: 0,
            reads: ATOMICS as u8,
            ..Setup::small()
        };
        let mut r = Raw::with(setup, |host| {
            let params = QpParams {
                sq_depth: 2 * WINDOW,
                ..host.qp_params()
            };
            host.engine.create_qp(&params).unwrap()
        });
        let mr = r.host.open(vec![0; 256 * work.packets() as usize]);
        for i in 0..done {
            r.host.send(r.now, r.qp, 0, WRITE, &[mr.sge(0, 8)]);
            assert_eq!(r.packets().len(), 1);
            r.acknowledge(PSN + i, ACK);
        }
        r.host.collect();
        r.host.completions.clear();
        for i in 0..work.requests() {
            let (op, sge) = match work {
                Work::Long(op, _) => (op, mr.all()),
                Work::Short(_) => (WRITE, mr.sge(0, 8)),
                Work::Atomics(_) => (ADD, mr.sge(8 * i, 8)),
            };
            r.host.send(r.now, r.qp, i.into(), op, &[sge]);
        }
        Peer {
            r,
            mr,
            work,
            done,
            expected: 0,
            nakked: false,
        }
    }

    /// The PSN of packet `at` of the work.
    fn psn(&self, at: u32) -> u32 {
        (PSN + self.done).wrapping_add(at) & Psn::MASK
    }

    fn at(&self, psn: u32) -> u32 {
        psn.wrapping_sub(PSN + self.done) & Psn::MASK
    }

    fn is_read(&self) -> bool {
        matches!(self.work, Work::Long(READ, _))
    }

    fn counted(&self, syndrome: u8, messages: u32) -> Option<Aeth> {
        Some(Aeth {
            syndrome: Syndrome::from_u8(syndrome),
            msn: (self.done + messages) & Psn::MASK,
        })
    }

    /// Response `at` of a READ that asks for those from one to another.
    fn data(&mut self, at: u32, (from, to): (u32, u32)) {
        let op = match (at == from, at + 1 == to) {
            (true, true) => ReadResponseOnly,
            (true, false) => ReadResponseFirst,
            (false, false) => ReadResponseMiddle,
            (false, true) => ReadResponseLast,
        };
        let aeth = self.counted(ACK, at / CHUNK + 1);
        let aeth = aeth.filter(|_| op != ReadResponseMiddle);
        self.r
            .respond_with(op, self.psn(at), aeth, &[at as u8; 256]);
    }

    fn atomic(&self, at: u32, messages: u32, original: u64) -> Vec<u8> {
        let ext = ExtHeaders {
            aeth: self.counted(ACK, messages),
            atomic_ack: Some(roce::wire::AtomicAckEth { original }),
            ..ExtHeaders::NONE
        };
        self.r
            .frame(self.r.bth(AtomicAcknowledge, self.psn(at)), ext, &[])
    }

    /// Takes what has been sent, without these, and answers if it is to.
    fn listen(&mut self, without: &[u32], answers: bool) {
        let sent = self.r.replies();
        for p in &sent {
            let at = self.at(p.psn);
            if without.contains(&at) {
                continue;
            }
            if let Some(range) = p.reth.filter(|_| p.op == ReadRequest) {
                let to = at + range.len / 256;
                if answers {
                    (at..to).for_each(|i| self.data(i, (at, to)));
                }
            } else if p.op == FetchAdd {
                // Executed, or answered from memory.
                self.expected = self.expected.max(at + 1);
                if answers {
                    let frame = self.atomic(at, at + 1, original(at));
                    self.r.feed(&frame);
                }
            } else if at == self.expected {
                self.expected += 1;
                self.nakked = false;
            } else if at > self.expected && !self.nakked && answers {
                self.nakked = true;
                let psn = self.psn(self.expected);
                self.r.acknowledge(psn, SEQUENCE);
            }
        }
        let acks = matches!(self.work, Work::Short(_)) || !self.is_read() && self.is_long();
        if answers && !sent.is_empty() && acks && !self.nakked && self.expected > 0 {
            let psn = self.psn(self.expected - 1);
            self.r.acknowledge(psn, ACK);
        }
    }

    fn is_long(&self) -> bool {
        matches!(self.work, Work::Long(..))
    }

    /// A frame of a kind, with a PSN and a count as they would be `at` this packet, behind so many of the work's messages. Its data is not what
    /// the true peer has there.
    fn made_up(&self, forged: Forged, at: u32, messages: u32) -> Vec<u8> {
        let (op, syndrome, len) = match forged {
            Forged::Answer(syndrome) => (Acknowledge, Some(syndrome), 0),
            Forged::Middle(len) => (ReadResponseMiddle, None, len),
            Forged::Data(op) => (op, Some(ACK), 256),
            Forged::Atomic => return self.atomic(at, messages, 0xeeee),
        };
        let ext = ExtHeaders {
            aeth: syndrome.and_then(|s| self.counted(s, messages)),
            ..ExtHeaders::NONE
        };
        self.r
            .frame(self.r.bth(op, self.psn(at)), ext, &vec![!(at as u8); len])
    }

    fn forge(&mut self, forged: Forged, at: u32, messages: u32) {
        let frame = self.made_up(forged, at, messages);
        self.r.feed(&frame);
    }

    fn is_fatal(&self) -> bool {
        let fatal = |e: &Event| matches!(e, Event::QpFatal { .. });
        self.r.host.events.iter().any(fatal)
    }

    /// Whether all comes to its right end.
    fn ends_well(mut self) -> bool {
        let requests = self.work.requests() as usize;
        for _ in 0..60 {
            self.listen(&[], true);
            self.r.host.collect();
            if self.r.host.completions.len() == requests || self.is_fatal() {
                break;
            }
            self.r.wait(Duration::from_millis(20));
        }
        let ends = self.r.host.completions.iter();
        let success = (0..requests as u64).map(|i| (i, Status::Success));
        let right = ends.map(|c| (c.context, c.status)).eq(success) && !self.is_fatal();
        let memory = self.r.host.bytes(&self.mr);
        right
            && match self.work {
                Work::Long(READ, _) => {
                    let mut chunks = memory.chunks(256).enumerate();
                    chunks.all(|(i, chunk)| chunk.iter().all(|b| *b == i as u8))
                }
                Work::Atomics(n) => {
                    let words = memory.chunks_exact(8).take(n as usize);
                    let words = words.map(|w| u64::from_ne_bytes(w.try_into().unwrap()));
                    words.eq((0..n).map(original))
                }
                // What has completed has arrived.
                work => self.expected == work.packets(),
            }
    }
}

/// What an atomic request finds.
fn original(at: u32) -> u64 {
    u64::from(at) + 100
}

/// A state of a connection: what is under way behind how many messages, and what has come of it.
struct Scene<'a> {
    work: Work,
    done: u32,
    prepare: &'a dyn Fn(&mut Peer),
}

impl Scene<'_> {
    fn peer(&self) -> Peer {
        let mut peer = Peer::new(self.work, self.done);
        (self.prepare)(&mut peer);
        peer
    }

    /// The packets at whose PSN this frame does harm, with the count behind so many of the work's messages. Tried are all that are under way, and
    /// some around.
    fn harmful(&self, forged: Forged, messages: u32) -> BTreeSet<u32> {
        let around = -4..self.work.packets() as i32 + 4;
        around
            .map(|at| at as u32)
            .filter(|at| {
                let mut peer = self.peer();
                peer.forge(forged, *at, messages);
                !peer.ends_well()
            })
            .collect()
    }

    /// The most PSNs that any of the frames may hit with one count, of all that a peer could have by now and one more; and the pairs of PSN and
    /// count at which the worst of them does harm.
    fn worst(&self, forged: &[Forged]) -> (usize, u64) {
        assert!(self.peer().ends_well(), "nobody disturbs it");
        let counts = 0..=self.work.messages() + 1;
        let (mut most, mut pairs) = (0, 0);
        for forged in forged {
            let each = counts.clone().map(|m| self.harmful(*forged, m).len());
            let each: Vec<usize> = each.collect();
            most = most.max(each.iter().copied().max().unwrap_or(0));
            pairs = pairs.max(each.iter().sum::<usize>() as u64);
        }
        println!("{:?}: {most} PSNs with one count, {pairs} pairs", self.work);
        assert!(are_few(pairs), "for who has to guess both");
        (most, pairs)
    }
}

fn arrives(peer: &mut Peer) {
    peer.listen(&[], false);
}

fn first_is_lost(peer: &mut Peer) {
    peer.listen(&[0], false);
}

/// Messages behind which the count is hard enough to guess: one of so many, at least. Behind fewer the engine believes less.
const OLD: u32 = 1 << 10;

/// Behind a few messages, and behind many.
const AGES: [u32; 2] = [1, OLD];

/// At how many PSNs a frame does harm on average, if it does at so many pairs of PSN and count, to who knows that the count is one of as many as the
/// connection has had.
fn of_who_guesses(pairs: u64, done: u32) -> usize {
    pairs.div_ceil(done.into()) as usize
}

/// A message is refused at its first packet, with the one right count.
#[test]
fn a_refusal_counts_at_one_psn() {
    for work in [
        Work::Long(WRITE, 20),
        Work::Long(SendOp::Send, 20),
        Work::Long(READ, 20),
        Work::Short(20),
        Work::Atomics(ATOMICS),
    ] {
        let prepare = &arrives;
        let scene = Scene {
            work,
            done: 1,
            prepare,
        };
        let kinds = [REFUSALS[0], REFUSALS[1], REFUSALS[2], Forged::Answer(RNR)];
        let (most, pairs) = scene.worst(&kinds);
        assert_eq!(most, 1, "{work:?}");
        // Each message that is under way has a count of its own. What is said to be refused behind an atomic request means nothing before that
        // has been answered.
        let counts = match work {
            Work::Short(n) => n,
            Work::Long(..) | Work::Atomics(_) => 1,
        };
        assert_eq!(pairs, u64::from(counts), "{work:?}");
    }
}

/// Behind many messages all packets of a long one count: their one count is one of many by then.
#[test]
fn behind_many_messages_a_refusal_counts_in_the_middle_of_one_too() {
    for (done, want) in [(OLD - 1, 1), (OLD, WINDOW)] {
        let scene = Scene {
            work: Work::Long(WRITE, WINDOW),
            done,
            prepare: &arrives,
        };
        for forged in REFUSALS {
            assert_eq!(scene.harmful(forged, 0).len() as u32, want);
        }
        assert!(of_who_guesses(want.into(), done) <= MOST);
    }
}

/// What was sent arrives, whatever is said of it.
#[test]
fn an_acknowledgement_of_what_arrives_harms_nothing() {
    for done in AGES {
        for work in [
            Work::Long(WRITE, 20),
            Work::Long(READ, 20),
            Work::Short(20),
            Work::Atomics(ATOMICS),
        ] {
            let prepare = &arrives;
            let scene = Scene {
                work,
                done,
                prepare,
            };
            let kinds = [ACK, SEQUENCE].map(Forged::Answer);
            assert_eq!(scene.worst(&kinds), (0, 0), "{work:?}");
        }
    }
}

/// Between a loss and its repair an acknowledgement with a count of what follows says that what is lost has been executed. As long as the count is
/// easy to guess it may count no more than eight messages. In the middle of a message it completes nothing, and is taken back.
#[test]
fn an_acknowledgement_of_what_is_lost_counts_at_few_psns() {
    let scene = |work| Scene {
        work,
        done: 1,
        prepare: &first_is_lost,
    };
    let acks = [ACK, SEQUENCE].map(Forged::Answer);
    for (work, want) in [
        (Work::Short(4), (4, 10)),
        (Work::Short(16), (8, 8 * 9 / 2 + 8 * 8)),
        (Work::Long(WRITE, WINDOW), (1, 1)),
        (Work::Long(SendOp::Send, WINDOW), (1, 1)),
    ] {
        assert_eq!(scene(work).worst(&acks), want);
        assert!(want.0 <= MOST);
    }
    for messages in [1, 8, 9, 64, WINDOW] {
        let harmful = scene(Work::Short(WINDOW)).harmful(acks[0], messages);
        assert_eq!(harmful.len() as u32, messages.min(8));
    }
}

/// Behind many messages any count of what is under way is believed, so that each PSN of a full window has as many as there are messages behind it, for
/// who knows the count. In the middle of long messages there are two. It may be one of so many by then that few count on average.
#[test]
fn behind_many_messages_an_acknowledgement_of_what_is_lost_may_count_any() {
    let scene = |work| Scene {
        work,
        done: OLD,
        prepare: &first_is_lost,
    };
    let ack = Forged::Answer(ACK);
    for messages in [1, 8, 9, 64, WINDOW] {
        let harmful = scene(Work::Short(WINDOW)).harmful(ack, messages);
        assert_eq!(harmful.len() as u32, messages);
    }
    let pairs = u64::from(WINDOW * (WINDOW + 1) / 2);
    assert!(are_few(pairs) && (1 << 48) / pairs > 1 << 34);
    assert!(of_who_guesses(pairs, OLD) <= MOST);
    for op in [WRITE, SendOp::Send] {
        let (_, pairs) = scene(Work::Long(op, WINDOW)).worst(&[ack, Forged::Answer(SEQUENCE)]);
        assert_eq!(pairs, u64::from(WINDOW + WINDOW - 1));
        assert!(of_who_guesses(pairs, OLD) <= MOST);
    }
}

/// So much READ data has come, without these.
fn data(from: u32, without: &'static [u32]) -> impl Fn(&mut Peer) {
    move |peer| {
        peer.listen(&[], false);
        for at in (0..from).filter(|at| !without.contains(at)) {
            peer.data(at, (0, peer.work.packets()));
        }
    }
}

#[test]
fn data_without_a_count_does_harm_at_few_psns() {
    let work = Work::Long(READ, 40);
    let harmful = |prepare: &dyn Fn(&mut Peer)| {
        let scene = Scene {
            work,
            done: 1,
            prepare,
        };
        let kinds = [256, 255, 100].map(Forged::Middle);
        let all = kinds.map(|forged| scene.harmful(forged, 0));
        all.into_iter().flatten().collect::<BTreeSet<u32>>()
    };
    for from in [0, 1, 5, 39] {
        assert_eq!(harmful(&data(from, &[])), BTreeSet::from([from]));
    }
    let mut worst = 0;
    for (from, without) in [
        (2, &[0][..]),
        (7, &[5]),
        (8, &[3, 6]),
        (20, &[2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (20, &[2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]),
    ] {
        let harmful = harmful(&data(from, without));
        println!("{without:?} missing up to {from}: {harmful:?}");
        worst = worst.max(harmful.len());
    }
    assert_eq!(worst, 9);
    assert!(worst <= MOST);
}

/// With the right count data is believed wherever a chunk of READ responses begins or ends, and as long as the count is easy to guess nowhere else
/// but where data without one is.
#[test]
fn data_with_the_right_count_does_harm_at_few_psns() {
    let work = Work::Long(READ, READ_WINDOW);
    let kinds = [ReadResponseFirst, ReadResponseLast, ReadResponseOnly].map(Forged::Data);
    let missing = data(20, &[2, 4, 6, 8, 10, 12, 14, 16, 18]);
    for (prepare, want) in [
        (&arrives as &dyn Fn(&mut Peer), (4, 6)),
        (&missing, (12, 22)),
    ] {
        let scene = Scene {
            work,
            done: 1,
            prepare,
        };
        assert_eq!(scene.worst(&kinds[..2]), want);
        assert!(want.0 <= MOST);
    }
    let scene = |done| Scene {
        work: Work::Long(READ, 20),
        done,
        prepare: &arrives,
    };
    assert_eq!(scene(1).worst(&kinds), (2, 2));
    assert_eq!(scene(OLD).worst(&kinds), (20, 20));
    // Both chunks with the count of the second, and the first with its own.
    let scene = Scene {
        work,
        done: OLD,
        prepare: &arrives,
    };
    let pairs = u64::from(READ_WINDOW + CHUNK);
    assert_eq!(scene.worst(&kinds[..1]), (READ_WINDOW as usize, pairs));
    assert!(of_who_guesses(pairs, OLD) <= MOST);
}

/// The answer to an atomic request counts at the PSNs of those under way whose own counts are not much smaller.
#[test]
fn an_atomic_answer_counts_where_an_atomic_request_is_under_way() {
    for (done, want) in [(1, (9, 108)), (OLD, (16, 136))] {
        let scene = Scene {
            work: Work::Atomics(ATOMICS),
            done,
            prepare: &arrives,
        };
        assert_eq!(scene.worst(&[Forged::Atomic]), want);
        assert!(want.0 <= MOST);
    }
}

/// Everywhere but where something is under way, on each of the PSNs that there are, no answer does anything, whatever it says, even with the right
/// count.
#[test]
fn where_nothing_is_under_way_nothing_is_believed() {
    for (work, prepare) in [
        (Work::Short(WINDOW), &first_is_lost as &dyn Fn(&mut Peer)),
        (Work::Long(READ, READ_WINDOW), &data(20, &[2, 3, 5])),
    ] {
        let scene = Scene {
            work,
            done: 1,
            prepare,
        };
        let mut peer = scene.peer();
        let right = peer.done + work.messages();
        let middle = Forged::Middle(256);
        let kinds = COUNTED.into_iter().chain([middle]);
        let mut stamps: Vec<(Forged, Stamp)> = kinds
            .map(|f| (f, Stamp::new(peer.made_up(f, 0, 0))))
            .collect();
        let before = *peer.r.host.engine.counters();
        let mut fed = 0;
        for psn in 0..ALL_OF_THEM {
            if peer.at(psn) < work.packets() {
                continue;
            }
            let kinds = stamps.len();
            let (forged, stamp) = &mut stamps[kind(psn, kinds)];
            let msn = (*forged != middle).then_some(right);
            peer.r.feed(stamp.with(psn, msn));
            fed += 1;
        }
        let after = peer.r.host.engine.counters();
        let unexpected = after.drop_unexpected_response - before.drop_unexpected_response;
        // Those that came before it was known what had arrived are not under way any more.
        assert_eq!(fed, u64::from(ALL_OF_THEM - work.packets()));
        assert_eq!(unexpected, fed, "{work:?}");
        assert!(peer.ends_well(), "{work:?}");
    }
}

/// At the PSN of what is under way no answer does anything whose count cannot be right, of all the counts that there are.
#[test]
fn what_counts_wrongly_is_not_believed() {
    const N: u32 = 20;
    for (work, at) in [(Work::Short(N), N / 2), (Work::Long(READ, N), N / 2)] {
        let scene = Scene {
            work,
            done: 1,
            prepare: &first_is_lost,
        };
        let mut peer = scene.peer();
        let psn = peer.psn(at);
        let kinds = COUNTED.map(|f| Stamp::new(peer.made_up(f, at, 0)));
        let mut stamps = Vec::from(kinds);
        // What answers something else is dropped whatever it counts.
        let answers = |forged| match forged {
            Forged::Answer(_) => true,
            Forged::Data(_) | Forged::Middle(_) => matches!(work, Work::Long(READ, _)),
            Forged::Atomic => false,
        };
        let mut fed = [0u64; 2];
        let before = *peer.r.host.engine.counters();
        let possible = 0..=peer.done + work.messages();
        for msn in (0..ALL_OF_THEM).filter(|msn| !possible.contains(msn)) {
            let kind = kind(msn, COUNTED.len());
            peer.r.feed(stamps[kind].with(psn, Some(msn)));
            fed[usize::from(answers(COUNTED[kind]))] += 1;
        }
        let after = peer.r.host.engine.counters();
        let dropped = [
            after.drop_unexpected_response - before.drop_unexpected_response,
            after.drop_wrong_msn - before.drop_wrong_msn,
        ];
        assert_eq!(dropped, fed, "{work:?}");
        let all = u64::from(ALL_OF_THEM) - u64::from(peer.done + work.messages() + 1);
        assert_eq!(fed.iter().sum::<u64>(), all);
        assert!(peer.ends_well(), "{work:?}");
    }
}

/// A count that no peer of this connection can have.
const ABSURD: u32 = 0x5a_5a5a;

/// How many refusals with such a count end the connection, each at the PSN of something that is under way; `between` comes before the last of
/// them. Not more than there are tried out.
fn hits(scene: &Scene<'_>, most: u32, between: impl Fn(&mut Peer)) -> Option<u32> {
    let ends = |hits: &u32| {
        let mut peer = scene.peer();
        for hit in 1..=*hits {
            assert!(!peer.is_fatal(), "fewer are enough");
            if hit == *hits {
                between(&mut peer);
            }
            peer.forge(REFUSALS[0], hit % scene.work.packets(), ABSURD);
            peer.r.host.collect();
        }
        peer.is_fatal()
    };
    (1..=most).find(ends)
}

/// What is under way, from one packet to a full window.
const UNDER_WAY: [u32; 7] = [1, 2, 7, 8, 9, 64, WINDOW];

/// So many hits take more frames on average than somebody may need.
fn take_long(hits: u32, under_way: u32) -> bool {
    u64::from(hits) * u64::from(ALL_OF_THEM / under_way) >= FRAMES
}

/// Of a peer that has said nothing nobody knows how it counts. Refusals with any count are believed when they come again and again, each about
/// something that is under way: the more is, the more it takes. One answer of the true peer's is the end of that.
#[test]
fn before_the_first_answer_it_takes_many_refusals_with_any_count() {
    for under_way in UNDER_WAY {
        let scene = |done| Scene {
            work: Work::Short(under_way),
            done,
            prepare: &arrives,
        };
        let hits_of = |done, between: &dyn Fn(&mut Peer)| hits(&scene(done), 20, between);
        let needed = under_way / 8 + 2;
        assert_eq!(hits_of(0, &|_| {}), Some(needed), "{under_way}");
        assert!(take_long(needed, under_way));
        assert_eq!(hits_of(1, &|_| {}), None);
    }
}

/// Where a peer has said nothing for a timeout, and so many wrongly counted answers are all that has come meanwhile, they are taken for its own.
#[test]
fn behind_a_timeout_it_takes_many_refusals_with_any_count() {
    let silence = |peer: &mut Peer| {
        peer.r.wait(SECOND);
        peer.r.replies();
    };
    for under_way in UNDER_WAY {
        for done in AGES {
            let scene = Scene {
                work: Work::Short(under_way),
                done,
                prepare: &arrives,
            };
            let needed = under_way / 8 + 2;
            assert_eq!(hits(&scene, 20, silence), Some(needed), "{under_way}");
            assert!(take_long(needed, under_way));
            // Not if the peer says anything that is right.
            let answered = |peer: &mut Peer| {
                let psn = peer.psn(0);
                peer.r.acknowledge(psn, ACK);
                silence(peer);
            };
            assert_eq!(hits(&scene, 20, answered), None);
        }
    }
}

/// A refusal in the middle of a long message is doubted while the count is easy to guess: until the peer has been silent for as long as ends the
/// connection anyway.
#[test]
fn a_refusal_that_is_doubted_ends_no_connection_that_would_go_on() {
    let scene = Scene {
        work: Work::Long(WRITE, WINDOW),
        done: 1,
        prepare: &arrives,
    };
    let ends = |at: u32, answers: bool| {
        let mut peer = scene.peer();
        peer.forge(REFUSALS[0], at, 0);
        peer.r.replies();
        if answers {
            peer.listen(&[], true);
            let psn = peer.psn(0);
            peer.r.acknowledge(psn, ACK);
        }
        // A few timeouts.
        peer.r.wait(Duration::from_millis(40));
        peer.r.host.collect();
        peer.is_fatal()
    };
    let ending: Vec<_> = (0..WINDOW).filter(|at| ends(*at, false)).collect();
    assert_eq!(ending, [0]);
    assert!((1..WINDOW).all(|at| !ends(at, true)));
}

/// A NAK comes once more when what it misses has been sent again and has arrived: no acknowledgement is taken back for that, and nothing is sent.
#[test]
fn a_late_copy_of_a_nak_sends_nothing() {
    for done in AGES {
        for missing in [0, 5] {
            let mut peer = Peer::new(Work::Long(WRITE, WINDOW), done);
            peer.listen(&[missing], false);
            peer.forge(Forged::Answer(SEQUENCE), missing, 0);
            peer.listen(&[], false);
            assert!(peer.expected > missing);
            peer.forge(Forged::Answer(ACK), 40, 0);
            assert_eq!(peer.r.replies().len(), 0);
            peer.forge(Forged::Answer(SEQUENCE), missing, 0);
            assert_eq!(peer.r.replies().len(), 0, "{missing} behind {done}");
        }
    }
}
