//! READ and atomic requests being answered, and those answered lately, which the peer may repeat.

use super::link::Link;
use crate::psn::Psn;
use crate::table::{OutOfMemory, try_vec};
use crate::wire::Reth;
use alloc::vec::Vec;

/// What an answer brings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// The bytes of a range.
    Bytes(Reth),
    /// What an atomic operation, executed once and for all, has found.
    Original(u64),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// PSN of the request and of its first response.
    pub psn: Psn,
    /// Responses: there is always one.
    pub packets: u32,
    pub content: Content,
    /// MSN to answer with.
    pub msn: u32,
}

/// One that is kept: 56 bytes, which would be 64 with [`Content`] as it is, and the memory of a queue pair has no room left for that.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// As in [`Asked`].
    psn: Psn,
    packets: u32,
    msn: u32,
    /// The range of a READ; of an atomic operation, what it has found, in place of an address.
    range: Reth,
    is_atomic: bool,
    /// First response of the answer under way, and the one after its last; a repeated request may ask for a part.
    from: Psn,
    end: Psn,
    /// The response to send next; `end` if none is due.
    cursor: Psn,
    /// Responses from the first on, without a gap, that have been sent at least once.
    sent: u32,
    /// What is left of a repetition that another has interrupted: from which response on, and up to which. Up to 0 if nothing is.
    resume: u32,
    until: u32,
}

impl Entry {
    const UNUSED: Entry = Entry {
        psn: Psn::ZERO,
        packets: 0,
        msn: 0,
        range: Reth {
            va: 0,
            rkey: 0,
            len: 0,
        },
        is_atomic: false,
        from: Psn::ZERO,
        end: Psn::ZERO,
        cursor: Psn::ZERO,
        sent: 0,
        resume: 0,
        until: 0,
    };

    /// All of the answer is due.
    fn of(request: Asked) -> Entry {
        let Asked {
            psn,
            packets,
            content,
            msn,
        } = request;
        let (range, is_atomic) = match content {
            Content::Bytes(range) => (range, false),
            Content::Original(va) => (
                Reth {
                    va,
                    ..Entry::UNUSED.range
                },
                true,
            ),
        };
        Entry {
            psn,
            packets,
            msn,
            range,
            is_atomic,
            from: psn,
            end: psn.add(packets),
            cursor: psn,
            ..Entry::UNUSED
        }
    }

    /// Whether there is a request in it.
    fn is_used(&self) -> bool {
        self.packets > 0
    }

    fn content(&self) -> Content {
        if self.is_atomic {
            Content::Original(self.range.va)
        } else {
            Content::Bytes(self.range)
        }
    }

    /// Answers again, from `psn` on, so many packets. What that interrupts is gone on with afterwards, or a peer that has asked for one packet of
    /// it would have to wait for the rest in vain. Of repetitions one rest is kept: if another does not touch it, that is lost, and who misses
    /// it asks again.
    fn repeat(&mut self, psn: Psn, packets: u32) {
        let (at, end) = (self.index(self.cursor), self.index(self.end));
        // Behind what has been sent, everything is still to come.
        if at < end && at != self.sent {
            if self.until == 0 {
                (self.resume, self.until) = (at, end);
            } else if at <= self.until && self.resume <= end {
                (self.resume, self.until) = (self.resume.min(at), self.until.max(end));
            }
        }
        self.from = psn;
        self.cursor = psn;
        self.end = psn.add(packets);
    }

    /// The response at the cursor has gone out.
    fn advance(&mut self) {
        let at = self.index(self.cursor);
        self.cursor = self.cursor.next();
        if at == self.sent {
            self.sent += 1;
        }
        self.go_on();
    }

    /// Leaves out what only repeats earlier responses, from the cursor on. False if the one there has never been sent.
    fn skip(&mut self) -> bool {
        if self.index(self.cursor) >= self.sent {
            return false;
        }
        let next = self.sent.min(self.index(self.end));
        self.cursor = self.psn.add(next);
        self.go_on();
        true
    }

    /// At the end of an answer, goes on with what has been interrupted: the rest of a repetition, behind what the newer one has sent of it, and then
    /// what has never been sent.
    fn go_on(&mut self) {
        if self.cursor != self.end {
            return;
        }
        let repeated = self.index(self.from)..self.index(self.end);
        let at = if repeated.contains(&self.resume) {
            repeated.end
        } else {
            self.resume
        };
        let (at, until) = if at < self.until {
            (at, self.until)
        } else {
            (self.sent, self.packets)
        };
        (self.resume, self.until) = (0, 0);
        if at < until {
            // As if there had been no interruption: not with a FIRST.
            self.from = self.psn;
            self.cursor = self.psn.add(at);
            self.end = self.psn.add(until);
        }
    }

    /// Which response of the request this is.
    fn index(&self, psn: Psn) -> u32 {
        psn.since(self.psn)
    }
}

/// One response to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response {
    pub psn: Psn,
    pub content: Content,
    pub msn: u32,
    pub first: bool,
    pub last: bool,
}

/// A ring of requests.
pub(super) struct ReplayRing {
    entries: Vec<Entry>,
    /// Entries in use for this connection: a power of two.
    size: usize,
    /// Where the next request goes: the oldest entry.
    next: usize,
    /// Entries with responses due.
    due: usize,
    /// The entry whose responses are going out.
    current: Option<usize>,
}

impl ReplayRing {
    /// Room for `depth` requests outstanding, rounded up: peers round their own limit up to a power of two.
    pub fn try_new(depth: u8) -> Result<ReplayRing, OutOfMemory> {
        let slots = usize::from(depth.max(1)).next_power_of_two();
        Ok(ReplayRing {
            entries: try_vec(slots, |_| Entry::UNUSED)?,
            size: 0,
            next: 0,
            due: 0,
            current: None,
        })
    }

    /// Begins a connection on which the peer may have `depth` requests outstanding.
    pub fn reset(&mut self, depth: u8) {
        self.entries.iter_mut().for_each(|e| e.packets = 0);
        self.size = if depth == 0 {
            0
        } else {
            usize::from(depth)
                .next_power_of_two()
                .min(self.entries.len())
        };
        self.next = 0;
        self.due = 0;
        self.current = None;
    }

    /// Whether responses are due.
    pub fn is_due(&self) -> bool {
        self.due > 0
    }

    /// Whether a new request can be added: if not, the peer has more outstanding than it may.
    pub fn has_room(&self) -> bool {
        self.size > 0
            && self
                .entries
                .get(self.next)
                .is_some_and(|e| !e.is_used() || e.cursor == e.end || e.sent >= e.packets)
    }

    /// Adds a new request, for which there is [room](Self::has_room).
    pub fn push(&mut self, request: Asked) {
        let Some(entry) = self.entries.get_mut(self.next) else {
            return;
        };
        if entry.is_used() && entry.cursor != entry.end {
            // A repetition that the peer no longer waits for, or it would not go on.
            self.due = self.due.saturating_sub(1);
            if self.current == Some(self.next) {
                self.current = None;
            }
        }
        *entry = Entry::of(request);
        self.due += 1;
        self.next = if self.next + 1 >= self.size {
            0
        } else {
            self.next + 1
        };
    }

    /// Answers a READ again, from `psn` on. False if it is not a repetition, whole or in part, of a request still known.
    pub fn replay(&mut self, psn: Psn, range: &Reth, link: &Link) -> bool {
        let Reth { va, rkey, len } = *range;
        self.again(psn, link.packets(len), |index, content| {
            let Content::Bytes(r) = content else {
                return false;
            };
            let rest = r.len.saturating_sub(link.offset(index));
            rkey == r.rkey
                && va == r.va.wrapping_add(u64::from(link.offset(index)))
                && len <= rest
                // A part may end early only where a packet ends, or data would shift.
                && (len == rest || len > 0 && len.is_multiple_of(link.mtu))
        })
    }

    /// Answers an atomic operation again. False if none still known had this PSN.
    pub fn replay_atomic(&mut self, psn: Psn) -> bool {
        self.again(psn, 1, |_, content| matches!(content, Content::Original(_)))
    }

    /// Sends `packets` responses again, from the one at `psn` on, if `fits` finds them among those of the request: told which response of it that is.
    fn again(&mut self, psn: Psn, packets: u32, fits: impl Fn(u32, &Content) -> bool) -> bool {
        let (newer, older) = self.entries.split_at_mut(self.next);
        let older_len = self.size.saturating_sub(self.next);
        // The newest first: PSNs wrap, and one that has not been overwritten for long may have the same.
        let mut newest_first = newer
            .iter_mut()
            .rev()
            .chain(older.iter_mut().take(older_len).rev());
        let found = newest_first.find(|e| {
            let index = e.index(psn);
            index < e.packets && fits(index, &e.content())
        });
        let Some(entry) = found else { return false };
        let same = entry.from == psn && entry.end == psn.add(packets);
        if same && entry.cursor != entry.end && entry.cursor.since(entry.from) < 2 {
            // A copy made on the way: whether the first response is lost, nobody can know before the second has arrived.
            return true;
        }
        if entry.cursor == entry.end {
            self.due += 1;
        }
        entry.repeat(psn, packets);
        // It may be older than what is going out.
        self.current = None;
        true
    }

    /// The response to send next, if any. [`sent`](Self::sent) moves on.
    pub fn peek(&mut self, link: &Link) -> Option<Response> {
        if self.due == 0 {
            return None;
        }
        let at = match self.current {
            Some(at) => at,
            None => {
                let (newer, older) = self.entries.get(..self.size)?.split_at_checked(self.next)?;
                let due = |e: &Entry| e.is_used() && e.cursor != e.end;
                let at = match older.iter().position(due) {
                    Some(i) => self.next + i,
                    None => newer.iter().position(due)?,
                };
                self.current = Some(at);
                at
            }
        };
        let e = self.entries.get(at)?;
        let index = e.index(e.cursor);
        let offset = link.offset(index);
        let content = match e.content() {
            Content::Bytes(all) => Content::Bytes(Reth {
                va: all.va.wrapping_add(u64::from(offset)),
                rkey: all.rkey,
                len: all.len.saturating_sub(offset).min(link.mtu),
            }),
            original => original,
        };
        Some(Response {
            psn: e.cursor,
            content,
            msn: e.msn,
            first: e.cursor == e.from,
            last: e.cursor.next() == e.end,
        })
    }

    /// Whether any response to the request of the one that [`peek`](Self::peek) gave has gone out.
    pub fn has_begun(&self) -> bool {
        let current = self.current.and_then(|at| self.entries.get(at));
        current.is_some_and(|e| e.sent > 0)
    }

    /// The response that [`peek`](Self::peek) gave has gone out.
    pub fn sent(&mut self) {
        let Some(e) = self.current.and_then(|at| self.entries.get_mut(at)) else {
            return;
        };
        e.advance();
        self.moved();
    }

    /// Leaves out responses that only repeat earlier ones, beginning with the one that [`peek`](Self::peek) gave. False if that
    /// has never been sent.
    pub fn skip(&mut self) -> bool {
        let Some(e) = self.current.and_then(|at| self.entries.get_mut(at)) else {
            return false;
        };
        let left_out = e.skip();
        self.moved();
        left_out
    }

    /// The cursor of the current entry has moved.
    fn moved(&mut self) {
        let Some(e) = self.current.and_then(|at| self.entries.get(at)) else {
            return;
        };
        if e.cursor == e.end {
            self.due = self.due.saturating_sub(1);
            self.current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PdId;
    use crate::rc::QpId;
    use alloc::collections::BTreeMap;

    const PSN: Psn = Psn::new(0xff_fff0);
    const PACKETS: u32 = 128;

    /// Of the READ, so many packets from this one on.
    fn again(ring: &mut ReplayRing, link: &Link, from: u32, packets: u32) {
        let range = Reth {
            va: 0x1000 + u64::from(link.offset(from)),
            rkey: 7,
            len: link.offset(packets),
        };
        assert!(ring.replay(PSN.add(from), &range, link));
    }

    /// What is sent, at most so much: which responses, and how many of them say that they are the first or the last.
    fn send(ring: &mut ReplayRing, link: &Link, most: usize) -> (Vec<u32>, u32, u32) {
        let (mut sent, mut firsts, mut lasts) = (Vec::new(), 0, 0);
        while let Some(r) = ring.peek(link).filter(|_| sent.len() < most) {
            sent.push(r.psn.since(PSN));
            firsts += u32::from(r.first);
            lasts += u32::from(r.last);
            ring.sent();
        }
        (sent, firsts, lasts)
    }

    #[test]
    fn an_answer_that_a_repetition_interrupts_is_gone_on_with() {
        let link = Link::none(QpId::from_bits(0), PdId::from_bits(0));
        let all = PACKETS;
        // How many responses are sent before each repetition: from where, and how many; and what is sent in the end.
        type Asked<'a> = &'a [(usize, u32, u32)];
        let cases: [(Asked, Vec<u32>, u32); 7] = [
            (&[(60, 20, 1)], [20].into_iter().chain(60..all).collect(), 2),
            // The repetition itself is interrupted.
            (
                &[(200, 0, all), (60, 20, 1)],
                [20].into_iter().chain(60..all).collect(),
                2,
            ),
            (
                &[(60, 20, 10), (5, 22, 1)],
                [22].into_iter().chain(25..30).chain(60..all).collect(),
                3,
            ),
            // All that is left is repeated.
            (&[(60, 20, all - 20)], (20..all).collect(), 1),
            (&[(200, 5, 15), (8, 5, 35)], (5..40).collect(), 1),
            // A part of it is, or what lies behind.
            (&[(60, 50, 20)], (50..all).collect(), 2),
            (&[(60, 90, 8)], (90..98).chain(60..all).collect(), 2),
        ];
        for (asked, want, parts) in cases {
            let mut ring = ReplayRing::try_new(4).unwrap();
            ring.reset(4);
            ring.push(super::Asked {
                psn: PSN,
                packets: PACKETS,
                content: Content::Bytes(Reth {
                    va: 0x1000,
                    rkey: 7,
                    len: link.offset(PACKETS),
                }),
                msn: 1,
            });
            for (before, from, packets) in asked {
                send(&mut ring, &link, *before);
                again(&mut ring, &link, *from, *packets);
            }
            let (sent, firsts, lasts) = send(&mut ring, &link, 1000);
            assert_eq!((sent, firsts, lasts), (want, 1, parts), "{asked:?}");
            assert!(!ring.is_due() && ring.has_room());
        }
    }

    /// A READ of eight responses, repeated in any part, again and again, whenever that is: no response is sent more often than it has been asked
    /// for, and in the end all have been.
    #[test]
    fn whatever_is_repeated_no_more_is_answered_than_was_asked() {
        const ALL: u32 = 8;
        type State = [u32; 6];
        let state = |e: &Entry| -> State {
            let [from, cursor, end] = [e.from, e.cursor, e.end].map(|psn| e.index(psn));
            [from, cursor, end, e.sent, e.resume, e.until]
        };
        let first = Entry::of(super::Asked {
            psn: PSN,
            packets: ALL,
            content: Content::Original(0),
            msn: 1,
        });
        // How often each response may still be sent, at the worst of all the ways that lead here.
        let mut seen = BTreeMap::<State, [u32; ALL as usize]>::new();
        let mut found = Vec::from([(first, [1; ALL as usize])]);
        while let Some((e, due)) = found.pop() {
            let worst = match seen.get(&state(&e)) {
                None => due,
                Some(old) => core::array::from_fn(|i| old[i].min(due[i])),
            };
            if seen.insert(state(&e), worst) == Some(worst) {
                continue;
            }
            if e.cursor == e.end {
                assert_eq!((e.sent, e.until), (ALL, 0));
            } else {
                let (mut next, mut due) = (e, worst);
                let at = &mut due[e.index(e.cursor) as usize];
                assert!(*at > 0, "sent more often than asked for: {e:?}");
                *at -= 1;
                next.advance();
                found.push((next, due));
            }
            for from in 0..ALL {
                for end in from + 1..=ALL {
                    let (mut next, mut due) = (e, worst);
                    next.repeat(PSN.add(from), end - from);
                    // More often than this nothing is repeated here, so that there is an end.
                    for n in &mut due[from as usize..end as usize] {
                        *n = (*n + 1).min(3);
                    }
                    found.push((next, due));
                }
            }
        }
        assert!(seen.len() > 1000, "{}", seen.len());
    }

    /// The memory goes away after a repetition of what the answer had not come to: 60 to 89 have never been sent, and are not left out.
    #[test]
    fn only_what_has_been_sent_is_left_out() {
        let link = Link::none(QpId::from_bits(0), PdId::from_bits(0));
        let mut ring = ReplayRing::try_new(1).unwrap();
        ring.reset(1);
        ring.push(super::Asked {
            psn: PSN,
            packets: PACKETS,
            content: Content::Bytes(Reth {
                va: 0x1000,
                rkey: 7,
                len: link.offset(PACKETS),
            }),
            msn: 1,
        });
        send(&mut ring, &link, 60);
        again(&mut ring, &link, 90, 8);
        send(&mut ring, &link, 8);
        again(&mut ring, &link, 10, 8);
        assert!(ring.peek(&link).is_some() && ring.skip());
        assert_eq!(ring.peek(&link).unwrap().psn, PSN.add(60));
        assert!(!ring.skip());
        assert!(ring.is_due() && !ring.has_room());
    }

    /// With fewer of them than the ring has places in 2^24 PSNs, an old atomic operation and a new one have the same PSN.
    #[test]
    fn of_two_requests_with_one_psn_the_newer_is_repeated() {
        let link = Link::none(QpId::from_bits(0), PdId::from_bits(0));
        // The newer one lies behind the older one, or before it.
        for others in 0..4 {
            let mut ring = ReplayRing::try_new(4).unwrap();
            ring.reset(4);
            let mut ask = |psn, original| {
                let asked = Asked {
                    psn: Psn::new(psn),
                    packets: 1,
                    content: Content::Original(original),
                    msn: 0,
                };
                ring.push(asked);
                assert!(ring.peek(&link).is_some());
                ring.sent();
            };
            for psn in 0..others {
                ask(psn, 0);
            }
            ask(0x77, 1);
            ask(0x78, 0);
            ask(0x77, 2);
            assert!(ring.replay_atomic(Psn::new(0x77)));
            assert_eq!(ring.peek(&link).unwrap().content, Content::Original(2));
            ring.sent();
            assert!(!ring.is_due());
        }
    }
}
