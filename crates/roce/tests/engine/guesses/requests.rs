//! Made-up requests.

use super::*;

/// PSNs that are tried out one by one, from what the connection began with. All that can be expected, kept or missing lies well inside.
const NEAR: RangeInclusive<i32> = -40..=120;

fn near() -> impl Iterator<Item = u32> {
    NEAR.map(|at| PSN.wrapping_add_signed(at) & Psn::MASK)
}

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
    make_up: impl FnOnce(&mut Raw, &Mr),
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
    make_up(&mut r, &mr);
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

/// Without anything made up.
fn truth(there: &[u32]) -> Outcome {
    let truth = outcome(there, |_, _| {}, true).expect("nobody disturbs it");
    assert_eq!(truth.1, [(1, Status::Success)]);
    assert_eq!(truth.0[0], 1);
    truth
}

/// The PSNs, from the first on, at which one of the frames does harm.
fn harmful(there: &[u32]) -> BTreeSet<u32> {
    let truth = truth(there);
    near()
        .filter(|psn| {
            FORGED.iter().any(|forge| {
                [true, false].into_iter().any(|first| {
                    let make_up = |r: &mut Raw, mr: &Mr| forge(r, *psn, mr);
                    outcome(there, make_up, first).as_ref() != Some(&truth)
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
}

/// Requests that have arrived, of which others are missing.
const GAPS: [&[u32]; 9] = [
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

#[test]
fn whatever_is_missing_no_more_than_nine_psns_count() {
    let counts = GAPS.map(|there| {
        let harmful = harmful(there);
        println!("{there:?} are there: {harmful:?}");
        harmful.len()
    });
    // Eight that are missing, and the one behind.
    let worst = counts.into_iter().max().unwrap();
    assert_eq!(worst, 9);
    assert!(worst <= MOST);
}

/// A frame of each opcode of a request.
fn stamps(r: &Raw, mr: &Mr) -> Vec<Stamp> {
    let all = (0..=u8::MAX).map(Opcode::from_u8);
    let stamp = |op: Opcode| {
        let ext = ExtHeaders {
            reth: op.has_reth().then(|| mr.reth(3000, 50)),
            atomic: op.has_atomic_eth().then(|| mr.atomic(8 - mr.va % 8, 1, 0)),
            immediate: op
                .has_immediate()
                .then_some(roce::wire::Immediate([1, 2, 3, 4])),
            ieth: op.has_ieth().then_some(roce::wire::Ieth { rkey: mr.key.0 }),
            ..ExtHeaders::NONE
        };
        let len = match op.has_payload() {
            true if op.is_first() || op.is_middle() => 256,
            true => 50,
            false => 0,
        };
        Stamp::new(r.frame(r.bth(op, 0), ext, &vec![0xee; len]))
    };
    all.filter(|op| op.is_rc_request()).map(stamp).collect()
}

/// Everywhere else, on each of the PSNs that there are, no request is executed or kept, whatever it asks for; and all of them together leave no
/// trace.
#[test]
fn far_from_what_is_expected_nothing_is_executed_or_kept() {
    for there in [&[0, 1, 2, 3][..], GAPS[5]] {
        let make_up = |r: &mut Raw, mr: &Mr| {
            let mut stamps = stamps(r, mr);
            assert_eq!(stamps.len(), 17);
            let (before, kept) = (*r.host.engine.counters(), r.host.engine.usage().early);
            let near: BTreeSet<u32> = near().collect();
            let [mut earlier, mut later] = [0u64; 2];
            for psn in (0..ALL_OF_THEM).filter(|psn| !near.contains(psn)) {
                let kinds = stamps.len();
                r.feed(stamps[kind(psn, kinds)].with(psn, None));
                // Before what is expected, or behind it.
                if psn.wrapping_sub(PSN) & Psn::MASK > Psn::MASK / 2 {
                    earlier += 1;
                } else {
                    later += 1;
                }
                if psn % 1024 == 0 {
                    r.replies();
                }
            }
            r.replies();
            let after = *r.host.engine.counters();
            assert_eq!(after.rx_frames - before.rx_frames, earlier + later);
            // Each is one or the other. Half of them, but for a few that the scene is ahead of where it began.
            let seen = [
                after.duplicate_requests - before.duplicate_requests,
                after.out_of_sequence_requests - before.out_of_sequence_requests,
            ];
            assert_eq!(seen.iter().sum::<u64>(), earlier + later);
            assert!(seen[0].abs_diff(earlier) < 10, "{seen:?}");
            assert_eq!(r.host.engine.usage().early, kept);
            assert_eq!(after.early_requests_kept, before.early_requests_kept);
            assert_eq!(
                after.early_requests_executed,
                before.early_requests_executed
            );
            assert_eq!(after.rx_bytes, before.rx_bytes);
            assert_eq!(after.tx_bytes, before.tx_bytes);
        };
        let truth = truth(there);
        assert_eq!(outcome(there, make_up, true), Some(truth), "{there:?}");
    }
}
