//! At how many of the 2^24 PSNs one made-up frame does harm, tried out one by one, in each state that matters. Whoever makes it up knows
//! addresses, queue pair numbers and, at worst, keys and the count of messages, and sees nothing. Harm is what the true peer cannot put right: the
//! connection ends, memory or completions are not what they would have been, or nothing goes on.
//!
//! What comes of it, in frames, of which each has a PSN of its own:
//!
//! * A made-up request hits one PSN of 2^24 while nothing is missing: half of all attempts take more than eight million frames. It hits up to
//!   nine while requests are missing, which is for a round trip after a loss: more than a million, still.
//! * A made-up refusal, or "receiver not ready", hits one PSN, with the one right count of messages. Behind the first 64 messages a refusal may hit
//!   any packet of a long message, but he has to guess the count: one of 64 or more.
//! * Made-up data of a READ hits one PSN while a READ is under way, and up to nine while data is missing.
//! * A made-up acknowledgement harms nothing that arrives. Of what has been lost it says that it need not be sent again, which counts at no more
//!   than ten of the PSNs under way with one count of messages: more than a million, still, for who knows the count. Who has to guess it hits any of
//!   them, and needs 2^24 and more. Both only between a loss and its repair.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::{self, *};
use roce::wire::{Aeth, Reth, Syndrome};
use roce::{Config, Event, Psn, Rng, SendOp, Status};
use std::collections::BTreeSet;
use std::time::Duration;

const ALL_PSNS: f64 = (1 << 24) as f64;

/// Frames until one of them hits: as many as half of all attempts take, with PSNs at random.
fn half_take(psns: usize) -> f64 {
    0.5f64.ln() / (1.0 - psns as f64 / ALL_PSNS).ln()
}

/// PSNs around, and some elsewhere.
fn psns() -> impl Iterator<Item = u32> {
    let far = [1 << 19, 1 << 20, 1 << 22, (1 << 23) - 1, 1 << 23, 3 << 22];
    (PSN - 10..PSN + 60).chain(far.map(|far| (PSN + far) & Psn::MASK))
}

mod requests {
    use super::*;

    const PACKETS: u32 = 40;

    /// What the true peer sends: a long SEND, then WRITEs of one packet.
    fn send_true(r: &mut Raw, mr: &Mr, i: u32) {
        let byte = i as u8 + 1;
        match i {
            0 => r.inject(SendFirst, PSN, &[byte; 256]),
            1..9 => r.inject(SendMiddle, PSN + i, &[byte; 256]),
            9 => r.inject(SendLast, PSN + i, &[byte; 10]),
            _ => r.inject_reth(WriteOnly, PSN + i, mr.reth((3000 + i).into(), 1), &[byte]),
        }
    }

    type Forged = fn(&mut Raw, u32, &Mr);

    /// The memory, and what has completed.
    type Outcome = (Vec<u8>, Vec<(u64, Status)>);

    const FORGED: [Forged; 6] = [
        // Takes a PSN, and brings nothing.
        |r, psn, _| {
            r.inject_reth(
                WriteOnly,
                psn,
                Reth {
                    va: 0,
                    rkey: 0,
                    len: 0,
                },
                &[],
            )
        },
        // Of no message.
        |r, psn, _| r.inject(WriteMiddle, psn, &[0xee; 256]),
        |r, psn, _| r.inject(SendMiddle, psn, &[0xee; 256]),
        |r, psn, _| r.inject(SendOnly, psn, &[0xee; 8]),
        // With the right key.
        |r, psn, mr| r.inject_reth(WriteOnly, psn, mr.reth(3000, 50), &[0xee; 50]),
        // Takes three PSNs.
        |r, psn, mr| r.inject_reth(ReadRequest, psn, mr.reth(0, 600), &[]),
    ];

    /// The engine after a made-up frame, and after the true peer has sent everything, again where it had to. None if that came to nothing.
    fn outcome(
        there: &[u32],
        forged: Option<(Forged, u32)>,
        missing_first: bool,
    ) -> Option<Outcome> {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 4000]);
        r.receive(1, &mr);
        r.receive(2, &mr);
        for i in there {
            send_true(&mut r, &mr, *i);
        }
        r.replies();
        if let Some((forge, psn)) = forged {
            forge(&mut r, psn, &mr);
        }
        let sent = there.iter().max().map_or(0, |last| last + 1);
        let mut again: Vec<u32> = (0..sent).filter(|i| !there.contains(i)).collect();
        let rest = sent..PACKETS;
        if missing_first {
            again.extend(rest);
        } else {
            again.splice(0..0, rest);
        }
        let mut acked = 0;
        for _ in 0..40 {
            for i in std::mem::take(&mut again) {
                send_true(&mut r, &mr, i);
            }
            for reply in r.replies().iter().filter(|r| r.op == Acknowledge) {
                let at = reply.psn.wrapping_sub(PSN) & Psn::MASK;
                match reply.syndrome.unwrap() {
                    ACK => acked = acked.max((at + 1) & Psn::MASK),
                    SEQUENCE if at < PACKETS => acked = acked.max(at),
                    // Of what it has not sent.
                    SEQUENCE if at == PACKETS => {}
                    _ => return None,
                }
            }
            if acked == PACKETS {
                r.host.collect();
                let fatal = |e: &Event| matches!(e, Event::QpFatal { .. });
                assert!(!r.host.events.iter().any(fatal));
                return Some((r.host.bytes(&mr).to_vec(), outcomes(&r.host.completions)));
            }
            // From there on all that is not known to be there, as most peers do.
            again = (acked.min(PACKETS)..PACKETS).collect();
        }
        None
    }

    fn harmful(there: &[u32]) -> BTreeSet<u32> {
        let truth = outcome(there, None, true).expect("nobody disturbs it");
        assert_eq!(truth.1, [(1, Status::Success)]);
        assert_eq!(truth.0[0], 1);
        psns()
            .filter(|psn| {
                FORGED.iter().any(|forge| {
                    [true, false].into_iter().any(|first| {
                        outcome(there, Some((*forge, *psn)), first).as_ref() != Some(&truth)
                    })
                })
            })
            .map(|psn| psn.wrapping_sub(PSN) & Psn::MASK)
            .collect()
    }

    #[test]
    fn while_nothing_is_missing_one_psn_counts() {
        for sent in [0, 1, 5, 9, 10, 20, 39] {
            let there: Vec<u32> = (0..sent).collect();
            assert_eq!(harmful(&there), BTreeSet::from([sent]));
        }
        assert!(half_take(1) > 8.0 * (1 << 20) as f64);
    }

    #[test]
    fn whatever_is_missing_no_more_than_nine_psns_count() {
        let states: [&[u32]; 9] = [
            &[1],
            &[3],
            &[0, 2],
            &[0, 1, 3, 4, 5, 6],
            &[1, 2, 3, 4, 6, 7, 8, 10, 11],
            &[1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21],
            &[1, 4, 7, 10],
            &[3, 7, 11, 15, 19],
            &[0, 1, 2, 14, 15, 17, 19, 22, 25, 26, 30, 34],
        ];
        let mut worst = 0;
        for there in states {
            let harmful = harmful(there);
            println!("{there:?} are there: {harmful:?}");
            worst = worst.max(harmful.len());
        }
        // Some of them are what the states were made for.
        assert!((6..=9).contains(&worst), "{worst}");
        assert!(half_take(worst) > (1 << 20) as f64);
    }

    /// And nowhere else, as far as that can be tried.
    #[test]
    fn far_from_what_is_expected_nothing_is_executed_or_kept() {
        let mut r = Raw::small();
        let mr = r.host.open(vec![0; 4000]);
        let mut rng = Rng::new(1);
        let near = |psn: u32| psn.wrapping_sub(PSN) & Psn::MASK < 100;
        for i in 0..200_000 {
            let psn = rng.next_u32() & Psn::MASK;
            if !near(psn) {
                FORGED[i % FORGED.len()](&mut r, psn, &mr);
            }
            if i % 1000 == 0 {
                r.replies();
            }
        }
        assert_eq!(r.host.engine.usage().early, 0);
        assert_eq!(r.host.engine.counters().rx_bytes, 0);
        r.receive(1, &mr);
        send_true(&mut r, &mr, 0);
        assert_eq!(*r.host.bytes(&mr).first().unwrap(), 1);
    }
}

mod responses {
    use super::*;

    /// More than there are PSNs in the reach of anything.
    const PACKETS: u32 = 40;
    const MESSAGES: u32 = 40;

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Work {
        /// One request of so many packets.
        Long(SendOp),
        /// So many of one packet each.
        Short,
    }

    const WRITE: SendOp = SendOp::Write {
        remote_va: 0x7000,
        rkey: 0x99,
    };
    const READ: SendOp = SendOp::Read {
        remote_va: 0x7000,
        rkey: 0x99,
    };

    #[derive(Clone, Copy, PartialEq, Debug)]
    enum Forged {
        /// With this syndrome and count.
        Answer(u8, u32),
        /// Data, so many bytes.
        Middle(usize),
        /// With this count.
        Data(Opcode, u32),
    }

    /// The true peer.
    struct Peer {
        r: Raw,
        mr: Mr,
        work: Work,
        /// What it has executed.
        expected: u32,
        nakked: bool,
    }

    impl Peer {
        fn new(work: Work) -> Peer {
            let setup = Setup::small();
            let mut r = Raw::new(Setup {
                // The first "receiver not ready" is one too many.
                rnr_retry_count: 0,
                config: Config {
                    early_frames: 256,
                    ..setup.config
                },
                ..setup
            });
            let mr = r.host.open(vec![0; 256 * PACKETS as usize]);
            match work {
                Work::Long(op) => r.host.send(r.now, r.qp, 0, op, &[mr.all()]),
                Work::Short => {
                    for i in 0..MESSAGES {
                        r.host.send(r.now, r.qp, i.into(), WRITE, &[mr.sge(0, 8)]);
                    }
                }
            }
            Peer {
                r,
                mr,
                work,
                expected: 0,
                nakked: false,
            }
        }

        fn is_read(&self) -> bool {
            self.work == Work::Long(READ)
        }

        fn data(&mut self, at: u32, (from, to): (u32, u32)) {
            let op = match (at == from, at + 1 == to) {
                (true, true) => ReadResponseOnly,
                (true, false) => ReadResponseFirst,
                (false, false) => ReadResponseMiddle,
                (false, true) => ReadResponseLast,
            };
            let aeth = Aeth {
                syndrome: Syndrome::ACK,
                msn: 1,
            };
            let aeth = (op != ReadResponseMiddle).then_some(aeth);
            self.r
                .respond_with(op, PSN + at, aeth, &[at as u8 + 1; 256]);
        }

        fn acknowledge(&mut self) {
            if self.expected > 0 {
                self.r.acknowledge(PSN + self.expected - 1, ACK);
            }
        }

        /// Takes what has been sent, without these, and answers if it is to.
        fn listen(&mut self, without: &[u32], answers: bool) {
            let sent = self.r.replies();
            for p in &sent {
                let at = p.psn.wrapping_sub(PSN) & Psn::MASK;
                if without.contains(&at) {
                    continue;
                }
                if let Some(range) = p.reth.filter(|_| p.op == ReadRequest) {
                    let to = at + range.len / 256;
                    if answers {
                        (at..to).for_each(|i| self.data(i, (at, to)));
                    }
                } else if at == self.expected {
                    self.expected += 1;
                    self.nakked = false;
                } else if at > self.expected && !self.nakked && answers {
                    self.nakked = true;
                    self.r.acknowledge(PSN + self.expected, SEQUENCE);
                }
            }
            if answers && !sent.is_empty() && !self.is_read() && !self.nakked {
                self.acknowledge();
            }
        }

        fn forge(&mut self, forged: Forged, psn: u32) {
            let answer = |syndrome, msn| {
                Some(Aeth {
                    syndrome: Syndrome::from_u8(syndrome),
                    msn,
                })
            };
            match forged {
                Forged::Answer(syndrome, msn) => {
                    self.r
                        .respond_with(Acknowledge, psn, answer(syndrome, msn), &[]);
                }
                Forged::Middle(len) => {
                    self.r
                        .respond_with(ReadResponseMiddle, psn, None, &vec![0xee; len]);
                }
                Forged::Data(op, msn) => {
                    self.r.respond_with(op, psn, answer(ACK, msn), &[0xee; 256]);
                }
            }
        }

        /// Whether all comes to its right end.
        fn ends_well(mut self) -> bool {
            for _ in 0..60 {
                self.listen(&[], true);
                self.r.host.collect();
                let want = if self.work == Work::Short {
                    MESSAGES
                } else {
                    1
                };
                if self.r.host.completions.len() == want as usize {
                    break;
                }
                self.r.wait(Duration::from_millis(20));
            }
            let ends = self.r.host.completions.iter();
            let fatal = |e: &Event| matches!(e, Event::QpFatal { .. });
            let mut right = ends.map(|c| c.status).eq(match self.work {
                Work::Short => vec![Status::Success; MESSAGES as usize],
                Work::Long(_) => vec![Status::Success],
            });
            right &= !self.r.host.events.iter().any(fatal);
            if self.is_read() {
                let sink = self.r.host.bytes(&self.mr);
                let mut chunks = sink.chunks(256).zip(1u8..);
                right &= chunks.all(|(chunk, i)| chunk.iter().all(|b| *b == i));
            } else {
                // What has completed has arrived.
                let all = if self.work == Work::Short {
                    MESSAGES
                } else {
                    PACKETS
                };
                right &= self.expected == all;
            }
            right
        }
    }

    /// PSNs at which some of these frames do harm, if made up after `prepare`.
    fn harmful(work: Work, prepare: impl Fn(&mut Peer), forged: &[Forged]) -> BTreeSet<u32> {
        let scene = || {
            let mut peer = Peer::new(work);
            prepare(&mut peer);
            peer
        };
        assert!(scene().ends_well(), "nobody disturbs it");
        let harms = |psn: &u32| {
            forged.iter().any(|forged| {
                let mut peer = scene();
                peer.forge(*forged, *psn);
                !peer.ends_well()
            })
        };
        psns()
            .filter(harms)
            .map(|psn| psn.wrapping_sub(PSN) & Psn::MASK)
            .collect()
    }

    const COUNTS: [u32; 6] = [0, 1, 3, 20, 39, 40];

    fn arrives(peer: &mut Peer) {
        peer.listen(&[], false);
    }

    /// Also for who knows the count of messages.
    #[test]
    fn a_refusal_counts_at_one_psn() {
        for work in [
            Work::Long(WRITE),
            Work::Long(SendOp::Send),
            Work::Long(READ),
            Work::Short,
        ] {
            let mut all = BTreeSet::new();
            for msn in COUNTS {
                let forged = [RNR, INVALID, ACCESS, OPERATION].map(|s| Forged::Answer(s, msn));
                let harmful = harmful(work, arrives, &forged);
                println!("{work:?}, {msn}: {harmful:?}");
                assert!(harmful.len() <= 1, "{work:?}, {msn}: {harmful:?}");
                all.extend(harmful);
            }
            assert!(all.contains(&0), "{work:?} {all:?}");
        }
    }

    /// What was sent arrives whatever is said of it.
    #[test]
    fn an_acknowledgement_of_what_arrives_harms_nothing() {
        for work in [Work::Long(WRITE), Work::Long(READ), Work::Short] {
            for msn in COUNTS {
                let forged = [ACK, SEQUENCE].map(|s| Forged::Answer(s, msn));
                assert_eq!(
                    harmful(work, arrives, &forged),
                    BTreeSet::new(),
                    "{work:?}, {msn}"
                );
            }
        }
    }

    /// The most that somebody can do, who knows the count and finds the moment.
    #[test]
    fn an_acknowledgement_of_what_is_lost_counts_where_something_is_under_way() {
        let lost = |peer: &mut Peer| peer.listen(&[3], false);
        let mut pairs = 0;
        for work in [Work::Long(WRITE), Work::Short] {
            for msn in COUNTS {
                let forged = [ACK, SEQUENCE].map(|s| Forged::Answer(s, msn));
                let harmful = harmful(work, lost, &forged);
                assert!(
                    harmful.iter().all(|at| (3..PACKETS).contains(at)),
                    "{work:?}, {msn}"
                );
                pairs = pairs.max(harmful.len());
            }
        }
        println!("{pairs} PSNs of {PACKETS} under way, if the count is known");
        assert!((1..=10).contains(&pairs));
        assert!(half_take(pairs) > (1 << 20) as f64);
    }

    fn data(from: u32, without: &'static [u32]) -> impl Fn(&mut Peer) {
        move |peer| {
            peer.listen(&[], false);
            for at in (0..from).filter(|at| !without.contains(at)) {
                peer.data(at, (0, PACKETS));
            }
        }
    }

    #[test]
    fn data_without_a_count_does_harm_at_few_psns() {
        let forged = [256, 255, 100].map(Forged::Middle);
        for from in [0, 1, 5, 39] {
            let harmful = harmful(Work::Long(READ), data(from, &[]), &forged);
            assert_eq!(harmful, BTreeSet::from([from]));
        }
        let mut worst = 0;
        for (from, without) in [
            (2, &[0][..]),
            (7, &[5]),
            (8, &[3, 6]),
            (20, &[2, 4, 6, 8, 10, 12, 14, 16, 18]),
            (20, &[2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]),
        ] {
            let harmful = harmful(Work::Long(READ), data(from, without), &forged);
            println!("{without:?} missing up to {from}: {harmful:?}");
            worst = worst.max(harmful.len());
        }
        assert!((2..=9).contains(&worst), "{worst}");
        assert!(half_take(worst) > (1 << 20) as f64);
    }

    #[test]
    fn data_with_a_count_has_to_have_the_right_one() {
        for msn in [0, 2, 3, 1 << 23] {
            let forged = [ReadResponseFirst, ReadResponseLast, ReadResponseOnly]
                .map(|op| Forged::Data(op, msn));
            // The peer has shown how it counts.
            let harmful = harmful(Work::Long(READ), data(5, &[]), &forged);
            assert_eq!(harmful, BTreeSet::new(), "{msn}");
        }
    }
}
