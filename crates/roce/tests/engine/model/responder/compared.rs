//! The engine against the model: a stream of request packets, most of them right, some early, some again, some that make no sense. After each the
//! answers, the memory and the completions are those of the model; or of one of the models, where there was a choice: a responder
//! may keep what came early, or have it sent again.

use super::*;
use crate::model::stream::{Plan, Region, SIZE, next_request};
use crate::util::random::{Witness, below, seeds};
use crate::util::raw::Raw;
use crate::util::{ALL, Setup, pattern};
use roce::wire::Bth;
use roce::{Config, PathMtu, Rng};

/// Why the model and the engine do not agree; `None` if they do.
fn contradiction(model: &Model, answer: &Answer, replies: &[Reply], raw: &Raw) -> Option<String> {
    let mut data = answer.data.iter();
    let (mut acked, mut refused) = (None, 0);
    for reply in replies {
        let at = reply.psn.wrapping_sub(PSN) & 0xff_ffff;
        if reply.op != Acknowledge {
            if !data.next().is_some_and(|d| d.is(reply, &model.memory)) {
                return Some(format!("this answer: {:?} {at}", reply.op));
            }
            // It says as well that everything before it has been executed.
            acked = Some(at);
            continue;
        }
        let (syndrome, msn) = (reply.syndrome.unwrap(), reply.msn.unwrap());
        if syndrome == 0x1f {
            // What it acknowledges has been executed, and no data is missing before it. -1 is that before the first.
            let before_first = at == 0xff_ffff && msn == 0;
            let count = model.counts.get(&at);
            if !before_first && count != Some(&msn) {
                return Some(format!("acknowledges {at} with {msn}, not {count:?}"));
            }
            if data.as_slice().iter().any(|d| d.at <= at) {
                return Some(format!("acknowledges {at} before the data"));
            }
            acked = Some(if before_first { 0 } else { at });
        } else {
            refused += 1;
            match &answer.nak {
                Some((codes, psn, count))
                    if codes.contains(&syndrome) && (*psn, *count) == (at, msn) => {}
                other => return Some(format!("NAK {syndrome:#x} {at} {msn}, not {other:?}")),
            }
        }
    }
    if data.len() > 0 {
        return Some(format!("without {:?}", data.as_slice()));
    }
    if answer.ack.is_some_and(|least| acked < Some(least)) && refused == 0 {
        return Some(format!("acknowledges {acked:?}, not {:?}", answer.ack));
    }
    if answer.nak.is_some() && !answer.nak_optional && refused != 1 {
        return Some(format!("not {:?}", answer.nak));
    }
    for (i, bytes) in model.memory.iter().enumerate() {
        if *bytes != raw.host.memory.regions[i] {
            return Some(format!("other bytes in region {i}"));
        }
    }
    let completions = &raw.host.completions;
    if completions.len() != model.done.len() {
        return Some(format!("{completions:?}"));
    }
    for (c, d) in completions.iter().zip(&model.done) {
        let ended = c.context == d.context && d.status.contains(&c.status);
        let told = (c.op, c.bytes, c.immediate, c.invalidated, c.solicited)
            == (d.op, d.bytes, d.immediate, d.invalidated, d.solicited);
        if !ended || c.status == Status::Success && !told {
            return Some(format!("{c:?}, not {d:?}"));
        }
    }
    None
}

/// What of all came about, over all cases.
#[derive(Default, Debug)]
struct Tally {
    steps: u32,
    executed: u32,
    repeated: u32,
    early: u32,
    not_ready: u32,
    refused: u32,
    choices: u32,
}

fn case(seed: u64, tally: &mut Tally) {
    let mut rng = Rng::new(seed ^ 0x0de1);
    let setup = Setup::default();
    let keeps = seed.is_multiple_of(2);
    let mut raw = Raw::new(Setup {
        mtu: PathMtu::Mtu256,
        reads: READS,
        ipv6: seed.is_multiple_of(3),
        seed,
        config: Config {
            early_frames: if keeps { setup.config.early_frames } else { 0 },
            ..setup.config
        },
        ..setup
    });
    let everything = ALL | Access::REMOTE_ATOMIC;
    let open = raw.host.register(pattern(SIZE, 1), everything);
    let read = raw.host.register(pattern(SIZE, 2), Access::REMOTE_READ);
    let sink = raw.host.register(vec![0; SIZE], Access::LOCAL_WRITE);
    let fast = raw.host.fast(raw.now, raw.qp, 1, pattern(SIZE, 3));
    raw.replies();
    raw.host.completions.clear();
    let keys: Vec<Key> = [
        (open, everything),
        (read, Access::REMOTE_READ),
        (sink, Access::LOCAL_WRITE),
        (fast, ALL),
    ]
    .into_iter()
    .map(|(mr, access)| Key {
        mr: Region {
            key: mr.key.0,
            va: mr.va,
            region: mr.region.0 as usize,
        },
        access,
        fast: mr.region == fast.region,
        valid: true,
    })
    .collect();
    let mut models = vec![Model {
        keeps,
        expected: 0,
        msn: 0,
        message: Message::None,
        keys: keys.clone(),
        memory: raw.host.memory.regions.clone(),
        receives: VecDeque::new(),
        answered: VecDeque::new(),
        counts: BTreeMap::new(),
        early: BTreeMap::new(),
        told: false,
        said: Said::Nothing,
        newest: None,
        dead: false,
        done: Vec::new(),
    }];
    let mut plan = Plan::default();
    for context in 0..60 {
        if below(&mut rng, 3) == 0 && models[0].receives.len() < 20 {
            // Too short at times.
            let len = if below(&mut rng, 40) == 0 { 200 } else { 1000 };
            let offset = below(&mut rng, 500);
            let posted =
                raw.host
                    .engine
                    .post_recv(raw.now, raw.qp, context, &[sink.sge(offset, len)]);
            posted.unwrap();
            raw.host.collect();
            for m in &mut models {
                if m.dead {
                    let status = vec![Status::Flushed];
                    m.done.push(flushed(context, status));
                } else {
                    m.receives
                        .push_back((context, sink.region.0 as usize, offset, len));
                }
            }
        }
        let r = next_request(&mut rng, &mut plan, models[0].expected, &keys);
        let bth = Bth {
            ack_req: r.ack,
            solicited: r.solicited,
            ..raw.bth(r.op, PSN.wrapping_add(r.at))
        };
        let frame = raw.frame(bth, r.ext, &r.payload);
        raw.feed(&frame);
        let replies = raw.replies();
        let mut after: Vec<Model> = Vec::new();
        let mut why = Vec::new();
        for (model, answer) in models.iter().flat_map(|m| m.step(&r)) {
            match contradiction(&model, &answer, &replies, &raw) {
                None if after.contains(&model) => {}
                None => after.push(model),
                Some(reason) => why.push(reason),
            }
        }
        assert!(
            !after.is_empty(),
            "{r:?}\nexpected {}, message {:?}\n{replies:?}\nbut: {why:#?}",
            models[0].expected,
            models[0].message
        );
        tally.steps += 1;
        tally.choices += u32::from(after.len() > 1);
        assert!(keeps || after.len() == 1 || after[0].dead, "{after:#?}");
        let refused = after[0].dead && !models[0].dead;
        tally.refused += u32::from(refused);
        tally.not_ready += replies.iter().filter(|r| r.syndrome == Some(RNR)).count() as u32;
        if r.at < models[0].expected {
            tally.repeated += 1;
        } else if r.at > models[0].expected {
            tally.early += 1;
        } else {
            tally.executed += u32::from(!models[0].dead);
        }
        models = after;
    }
}

#[test]
fn the_engine_answers_as_the_simplest_responder() {
    let mut tally = Tally::default();
    for seed in seeds(2500) {
        let _witness = Witness(seed);
        case(seed, &mut tally);
    }
    println!("{tally:?}");
    if std::env::var_os("ROCE_SEED").is_none() {
        let Tally {
            executed,
            repeated,
            early,
            not_ready,
            refused,
            ..
        } = tally;
        let least = executed.min(repeated).min(early).min(not_ready);
        assert!(least > 2000 && refused > 500, "{tally:?}");
    }
}
