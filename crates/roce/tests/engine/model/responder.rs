//! The simplest responder that there can be, as a model: what a packet does to it, and what it answers. Where the specification leaves a
//! choice, there is one model for each.

mod compared;

use super::stream::{ABSURD, Key, MTU, Request};
use crate::util::raw::{PSN, Reply};
use roce::wire::Opcode::{self, *};
use roce::wire::{Ieth, Reth};
use roce::{Access, CompletionOp, Psn, Status};
use std::collections::{BTreeMap, VecDeque};

/// READs and atomic requests that can be repeated.
const READS: u8 = 4;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Message {
    None,
    Send { received: u32 },
    Write { rest: Reth, total: u32 },
}

/// A READ or an atomic request that was executed.
#[derive(Clone, PartialEq, Debug)]
struct Answered {
    at: u32,
    packets: u32,
    msn: u32,
    range: Option<Reth>,
    original: u64,
}

/// How a receive has ended.
#[derive(Clone, PartialEq, Debug)]
struct Done {
    context: u64,
    /// Success, or one of several failures.
    status: Vec<Status>,
    op: CompletionOp,
    bytes: u32,
    immediate: Option<[u8; 4]>,
    invalidated: Option<u32>,
    solicited: bool,
}

/// What a responder that keeps nothing has said of the packet that it expects.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Said {
    Nothing,
    /// That it is missing; so many packets have come early since, and after so many that is said again.
    Missing {
        early: u32,
        again: u32,
    },
    /// That it has to wait.
    NotReady,
}

/// The model.
#[derive(Clone, PartialEq, Debug)]
struct Model {
    /// What comes early may be kept.
    keeps: bool,
    expected: u32,
    msn: u32,
    message: Message,
    keys: Vec<Key>,
    memory: Vec<Vec<u8>>,
    /// Context, region, offset, length.
    receives: VecDeque<(u64, usize, u32, u32)>,
    answered: VecDeque<Answered>,
    /// MSN after the execution of each packet.
    counts: BTreeMap<u32, u32>,
    early: BTreeMap<u32, Request>,
    /// The peer may know already that the expected packet is missing, or that it has to wait.
    told: bool,
    /// Exactly that, if nothing is kept, and the last packet that came early since.
    said: Said,
    newest: Option<u32>,
    dead: bool,
    done: Vec<Done>,
}

/// A packet with data.
#[derive(Clone, Debug)]
struct Data {
    op: Opcode,
    at: u32,
    /// Not in the middle.
    msn: Option<u32>,
    /// As it was when the request was executed.
    payload: Vec<u8>,
    /// Where it can be read again: what was executed since without a fence may show (IBTA 9.5).
    place: Option<(usize, usize)>,
    original: Option<u64>,
}

impl Data {
    /// What an atomic operation has found.
    fn original(at: u32, msn: u32, original: u64) -> Data {
        Data {
            op: AtomicAcknowledge,
            at,
            msn: Some(msn),
            payload: vec![],
            place: None,
            original: Some(original),
        }
    }

    fn is(&self, reply: &Reply, memory: &[Vec<u8>]) -> bool {
        let again = |(region, from): (usize, usize)| {
            memory[region][from..].starts_with(&reply.payload)
                && reply.payload.len() == self.payload.len()
        };
        let same = reply.payload == self.payload || self.place.is_some_and(again);
        (self.op, self.msn, self.original) == (reply.op, reply.msn, reply.original)
            && self.at == reply.psn.wrapping_sub(PSN) & Psn::MASK
            && reply.syndrome.is_none_or(|s| s == 0x1f)
            && same
    }
}

/// What must come back, and what may.
#[derive(Clone, Default, Debug)]
struct Answer {
    /// Exactly these packets with data.
    data: Vec<Data>,
    /// An acknowledgement of this packet or of a later one.
    ack: Option<u32>,
    /// One of these NAKs at this PSN, with this MSN.
    nak: Option<(Vec<u8>, u32, u32)>,
    /// It can be left out.
    nak_optional: bool,
}

const INVALID: u8 = 0x61;

const ACCESS: u8 = 0x62;

const SEQUENCE: u8 = 0x60;

const RNR: u8 = 0x20 | 12;

impl Model {
    /// The memory that a range names, if the peer may do this to it.
    fn place(&self, va: u64, rkey: u32, len: u64, need: Access) -> Option<(usize, usize)> {
        let key = self.keys.iter().find(|k| k.mr.key == rkey && k.valid)?;
        let size = self.memory[key.mr.region].len() as u64;
        let inside = va >= key.mr.va && va + len <= key.mr.va + size;
        (inside && key.access.contains(need)).then(|| (key.mr.region, (va - key.mr.va) as usize))
    }

    /// What can be done now: all of it, if there is a choice.
    fn step(&self, r: &Request) -> Vec<(Model, Answer)> {
        if self.dead {
            return vec![(self.clone(), Answer::default())];
        }
        if r.at > self.expected {
            let mut m = self.clone();
            let mut answer = Answer::default();
            if r.at - self.expected < ABSURD {
                // Asked for once, and again if that seems to have been lost.
                let nak = Some((vec![SEQUENCE], m.expected, m.msn));
                if m.keeps {
                    answer.nak = nak;
                    answer.nak_optional = m.told;
                    m.early.insert(r.at, r.clone());
                } else if m.says_missing(r) {
                    answer.nak = nak;
                }
                m.told = true;
            }
            let mut all = vec![(m.clone(), answer)];
            // What was kept alone may have waited for this one.
            if let Some(next) = m.early.get(&m.expected) {
                m.go_on(next, &Answer::default(), &mut all);
            }
            return all;
        }
        if r.at < self.expected {
            return vec![(self.clone(), self.repeat(r))];
        }
        let mut all = Vec::new();
        self.go_on(r, &Answer::default(), &mut all);
        all
    }

    /// Whether a packet that came early, of which nothing is kept, has the peer told what is missing: once, then after 32 more, 64 more and so
    /// on, and when the last of them comes again and asks.
    fn says_missing(&mut self, r: &Request) -> bool {
        let asks = r.ack && self.newest == Some(r.at);
        self.newest = self.newest.max(Some(r.at));
        match &mut self.said {
            Said::NotReady => false,
            Said::Nothing => {
                self.said = Said::Missing {
                    early: 0,
                    again: 32,
                };
                true
            }
            Said::Missing { early, again } => {
                *early += 1;
                let many = early >= again;
                if many {
                    (*early, *again) = (0, *again * 2);
                }
                many || asks
            }
        }
    }

    /// Executes the expected packet, and then as many as came early without a gap, or fewer, or none.
    fn go_on(&self, r: &Request, before: &Answer, all: &mut Vec<(Model, Answer)>) {
        for (mut m, now) in self.execute(r) {
            let mut answer = before.clone();
            answer.data.extend(now.data);
            answer.ack = now.ack.or(answer.ack);
            answer.nak = now.nak;
            m.early = m.early.split_off(&m.expected);
            if answer.nak.is_none()
                && let Some(next) = m.early.get(&m.expected).cloned()
            {
                m.go_on(&next, &answer, all);
            }
            m.told = answer.nak.is_some() || !m.early.is_empty();
            m.said = match &answer.nak {
                Some((codes, ..)) if codes[..] == [RNR] => Said::NotReady,
                _ => Said::Nothing,
            };
            m.newest = None;
            if answer.nak.is_none() && !m.early.is_empty() {
                answer.nak = Some((vec![SEQUENCE], m.expected, m.msn));
                answer.nak_optional = true;
            }
            all.push((m, answer));
        }
    }

    fn repeat(&self, r: &Request) -> Answer {
        let mut answer = Answer::default();
        if r.op == ReadRequest {
            let asked = r.ext.reth.unwrap();
            let packets = asked.len.div_ceil(MTU).max(1);
            let fits = |a: &&Answered| {
                let Some(all) = a.range.filter(|_| (a.at..a.at + a.packets).contains(&r.at)) else {
                    return false;
                };
                let skip = (r.at - a.at) * MTU;
                let rest = all.len.saturating_sub(skip);
                asked.rkey == all.rkey
                    && asked.va == all.va + u64::from(skip)
                    && asked.len <= rest
                    && (asked.len == rest || asked.len > 0 && asked.len.is_multiple_of(MTU))
            };
            if let Some(a) = self.answered.iter().find(fits) {
                answer.data = self.responses(r.at, packets, a.msn, asked);
            }
        } else if r.op.is_atomic() {
            let mut all = self.answered.iter();
            if let Some(a) = all.find(|a| a.at == r.at && a.range.is_none()) {
                answer.data = vec![Data::original(r.at, a.msn, a.original)];
            }
        } else if r.ack {
            answer.ack = Some(0);
        }
        answer
    }

    fn responses(&self, at: u32, packets: u32, msn: u32, range: Reth) -> Vec<Data> {
        let len = range.len as usize;
        let need = Access::REMOTE_READ;
        let place = (len > 0).then(|| {
            let place = self.place(range.va, range.rkey, range.len.into(), need);
            place.expect("checked when it was executed")
        });
        let bytes = place.map_or(&[][..], |(region, from)| {
            &self.memory[region][from..from + len]
        });
        (0..packets)
            .map(|i| {
                let (first, last) = (i == 0, i + 1 == packets);
                let op = match (first, last) {
                    (true, true) => ReadResponseOnly,
                    (true, false) => ReadResponseFirst,
                    (false, false) => ReadResponseMiddle,
                    (false, true) => ReadResponseLast,
                };
                let from = (i * MTU) as usize;
                let to = bytes.len().min(from + MTU as usize);
                Data {
                    op,
                    at: at + i,
                    msn: (first || last).then_some(msn),
                    payload: bytes[from..to].to_vec(),
                    place: place.map(|(region, start)| (region, start + from)),
                    original: None,
                }
            })
            .collect()
    }

    /// What is wrong with the expected packet, by the NAK that says so.
    fn faults(&self, r: &Request) -> Vec<u8> {
        let (op, len) = (r.op, r.payload.len() as u32);
        let starts = op.is_first() || !(op.is_middle() || op.is_last());
        let ends = !op.is_first() && !op.is_middle();
        let is_send = is_send(op);
        let mut faults = Vec::new();
        let fits = match self.message {
            Message::None => starts,
            Message::Send { .. } => is_send && !starts,
            Message::Write { .. } => is_write(op) && !starts,
        };
        if !fits {
            return vec![INVALID];
        }
        if ends && (len > MTU || !starts && len == 0) || !ends && len != MTU {
            faults.push(INVALID);
        }
        if let Some(reth) = r.ext.reth {
            let need = if op == ReadRequest {
                Access::REMOTE_READ
            } else {
                Access::REMOTE_WRITE
            };
            let empty = reth.len == 0;
            if !empty
                && self
                    .place(reth.va, reth.rkey, reth.len.into(), need)
                    .is_none()
            {
                faults.push(ACCESS);
            }
        }
        if is_write(op) {
            let rest = match self.message {
                Message::Write { rest, .. } => rest.len,
                _ => r.ext.reth.unwrap().len,
            };
            if ends && len != rest || !ends && len >= rest {
                faults.push(INVALID);
            }
        }
        if let Some(a) = r.ext.atomic {
            if a.va % 8 != 0 {
                faults.push(INVALID);
            }
            if self.place(a.va, a.rkey, 8, Access::REMOTE_ATOMIC).is_none() {
                faults.push(ACCESS);
            }
        }
        if is_send && let Some((.., room)) = self.receives.front() {
            let received = match self.message {
                Message::Send { received } => received,
                _ => 0,
            };
            if received + len > *room {
                faults.push(INVALID);
            } else if let Some(Ieth { rkey }) = r.ext.ieth {
                let mut keys = self.keys.iter();
                if !keys.any(|k| k.mr.key == rkey && k.fast && k.valid) {
                    faults.push(ACCESS);
                }
            }
        }
        faults
    }

    /// The expected packet.
    fn execute(&self, r: &Request) -> Vec<(Model, Answer)> {
        let faults = self.faults(r);
        let in_message = self.message != Message::None;
        let needs_receive =
            is_send(r.op) && !in_message || matches!(r.op, WriteLastImm | WriteOnlyImm);
        let mut all = Vec::new();
        if needs_receive && self.receives.is_empty() {
            let answer = Answer {
                nak: Some((vec![RNR], self.expected, self.msn)),
                ..Answer::default()
            };
            all.push((self.clone(), answer));
            if faults.is_empty() {
                return all;
            }
        }
        if !faults.is_empty() {
            if r.ext.ieth.is_some() && faults == [ACCESS] {
                // What it brought may be there before it is seen what it wants besides.
                let mut m = self.clone();
                m.place_send(r);
                all.push(m.refuse(r, faults.clone()));
            }
            all.push(self.refuse(r, faults));
            return all;
        }
        let mut m = self.clone();
        let answer = m.carry_out(r);
        all.push((m, answer));
        all
    }

    /// The end of the connection.
    fn refuse(&self, r: &Request, faults: Vec<u8>) -> (Model, Answer) {
        let mut m = self.clone();
        m.dead = true;
        let in_use = matches!(m.message, Message::Send { .. });
        let invalid = is_send(r.op) && faults.contains(&INVALID);
        for (i, (context, ..)) in std::mem::take(&mut m.receives).into_iter().enumerate() {
            let status = if i > 0 {
                vec![Status::Flushed]
            } else {
                let mut some = vec![
                    Status::LocalLength,
                    Status::LocalOperation,
                    Status::RemoteInvalidate,
                ];
                // Not begun, unless this packet began it.
                if !in_use && (invalid || !is_send(r.op)) {
                    some.push(Status::Flushed);
                }
                some
            };
            m.done.push(Done {
                context,
                status,
                op: CompletionOp::Receive,
                bytes: 0,
                immediate: None,
                invalidated: None,
                solicited: false,
            });
        }
        let answer = Answer {
            nak: Some((faults, self.expected, self.msn)),
            ..Answer::default()
        };
        (m, answer)
    }

    /// Nothing is wrong with it.
    fn carry_out(&mut self, r: &Request) -> Answer {
        let mut answer = Answer::default();
        let ends = !r.op.is_first() && !r.op.is_middle();
        self.msn += u32::from(ends);
        let packets = match r.op {
            ReadRequest => r.ext.reth.unwrap().len.div_ceil(MTU).max(1),
            _ => 1,
        };
        if r.op == ReadRequest || r.op.is_atomic() {
            answer.data = self.answer(r, packets);
        } else {
            let received = if is_send(r.op) {
                self.place_send(r)
            } else {
                self.place_write(r)
            };
            if ends {
                self.message = Message::None;
            }
            let immediate = r.ext.immediate.map(|i| i.0);
            if ends && (is_send(r.op) || immediate.is_some()) {
                let (context, ..) = self.receives.pop_front().unwrap();
                let invalidated = r.ext.ieth.map(|i| i.rkey);
                for key in &mut self.keys {
                    key.valid &= invalidated != Some(key.mr.key);
                }
                let op = match (is_send(r.op), invalidated) {
                    (false, _) => CompletionOp::ReceiveWrite,
                    (true, None) => CompletionOp::Receive,
                    (true, Some(_)) => CompletionOp::ReceiveInvalidate,
                };
                self.done.push(Done {
                    context,
                    status: vec![Status::Success],
                    op,
                    bytes: received,
                    immediate,
                    invalidated,
                    solicited: r.solicited,
                });
            }
            answer.ack = r.ack.then_some(self.expected);
        }
        for i in 0..packets {
            self.counts.insert(self.expected + i, self.msn);
        }
        self.expected += packets;
        answer
    }

    fn answer(&mut self, r: &Request, packets: u32) -> Vec<Data> {
        let mut original = 0;
        let data = if let Some(a) = r.ext.atomic {
            let place = self.place(a.va, a.rkey, 8, Access::REMOTE_ATOMIC);
            let (region, from) = place.unwrap();
            let bytes = &mut self.memory[region][from..from + 8];
            original = u64::from_ne_bytes(bytes.try_into().unwrap());
            let new = match r.op {
                FetchAdd => original.wrapping_add(a.swap_add),
                _ if original == a.compare => a.swap_add,
                _ => original,
            };
            bytes.copy_from_slice(&new.to_ne_bytes());
            vec![Data::original(r.at, self.msn, original)]
        } else {
            self.responses(r.at, packets, self.msn, r.ext.reth.unwrap())
        };
        self.answered.push_back(Answered {
            at: r.at,
            packets,
            msn: self.msn,
            range: r.ext.reth,
            original,
        });
        if self.answered.len() > READS.into() {
            self.answered.pop_front();
        }
        data
    }

    /// Bytes of the message so far.
    fn place_send(&mut self, r: &Request) -> u32 {
        let (_, region, offset, _) = self.receives[0];
        let before = match self.message {
            Message::Send { received } => received,
            _ => 0,
        };
        let from = (offset + before) as usize;
        self.memory[region][from..from + r.payload.len()].copy_from_slice(&r.payload);
        let received = before + r.payload.len() as u32;
        self.message = Message::Send { received };
        received
    }

    /// Bytes of the message altogether.
    fn place_write(&mut self, r: &Request) -> u32 {
        let (rest, total) = match self.message {
            Message::Write { rest, total } => (rest, total),
            _ => (r.ext.reth.unwrap(), r.ext.reth.unwrap().len),
        };
        let len = r.payload.len();
        if len > 0 {
            let place = self.place(rest.va, rest.rkey, len as u64, Access::REMOTE_WRITE);
            let (region, from) = place.unwrap();
            self.memory[region][from..from + len].copy_from_slice(&r.payload);
        }
        let rest = Reth {
            va: rest.va + len as u64,
            len: rest.len - len as u32,
            ..rest
        };
        self.message = Message::Write { rest, total };
        total
    }
}

fn is_send(op: Opcode) -> bool {
    use Opcode::{SendLast, SendLastImm, SendLastInvalidate, SendMiddle, SendOnly};
    matches!(
        op,
        SendFirst
            | SendMiddle
            | SendLast
            | SendLastImm
            | SendLastInvalidate
            | SendOnly
            | SendOnlyImm
            | SendOnlyInvalidate
    )
}

fn is_write(op: Opcode) -> bool {
    matches!(
        op,
        WriteFirst | WriteMiddle | WriteLast | WriteLastImm | WriteOnly | WriteOnlyImm
    )
}

fn flushed(context: u64, status: Vec<Status>) -> Done {
    Done {
        context,
        status,
        op: CompletionOp::Receive,
        bytes: 0,
        immediate: None,
        invalidated: None,
        solicited: false,
    }
}
