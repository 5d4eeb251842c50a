//! Requests that came before the one expected: kept until that comes, so that the peer has to repeat no more than what was lost. And responses
//! with data, in the same way.
//!
//! Nothing of them is executed early, and no data is placed early: who watches the last byte of a buffer sees it change when all of it is there. They wait in places of a pool that all queue pairs share, and are executed in their turn, as if they had
//! come then.

use super::link::Link;
use super::responder::Request;
use crate::psn::Psn;
use crate::table::OutOfMemory;
use crate::wire::Opcode;
use alloc::vec::Vec;

/// How many PSNs a packet may lie behind the expected one, or behind the last that is known to have been sent: that of a kept packet. Of packets
/// that are lost one by one, hardly ever more lie between.
///
/// What is kept will be executed, so that each PSN at which something is kept makes it easier for who cannot see the connection and makes up
/// requests. With the expected one these are four, or seven and the gaps themselves while packets are missing: one frame in two millions hits.
const REACH: i32 = 3;

const NONE: u32 = u32::MAX;

/// How far a packet may lie behind what is known to have been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// A few packets: nothing but its PSN speaks for it.
    Near,
    /// Any number: it has been found right, besides.
    Any,
}

/// What became of a packet that came early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// It is not kept.
    No,
    /// Another with its PSN is.
    Already,
    /// It is kept. Between it and what is known to have been sent before it everything is missing from this PSN on; nothing, if it is its own.
    After(Psn),
}

/// Room for one request.
struct Place {
    /// Without its payload.
    request: Request<'static>,
    payload_len: usize,
    /// The next place of the same list, or the next that is free.
    next: u32,
}

/// The requests of one queue pair, in the order of their PSNs.
#[derive(Clone)]
pub(crate) struct EarlyList {
    head: u32,
    tail: u32,
    len: u32,
}

impl EarlyList {
    pub const fn new() -> EarlyList {
        EarlyList {
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The pool. Its memory is had when it is made, and each place made when no other is free.
#[derive(Default)]
pub(crate) struct EarlyFrames {
    places: Vec<Place>,
    /// Payloads: those of place `i` from `i * room` on.
    payloads: Vec<u8>,
    /// Bytes that a place takes.
    room: usize,
    capacity: u32,
    free: u32,
    used: u32,
}

impl EarlyFrames {
    /// Room for `capacity` packets with up to `room` bytes.
    pub fn try_new(capacity: u32, room: u32) -> Result<EarlyFrames, OutOfMemory> {
        let (mut places, mut payloads) = (Vec::new(), Vec::new());
        let (count, room) = (capacity as usize, room as usize);
        let bytes = count.checked_mul(room).ok_or(OutOfMemory)?;
        places
            .try_reserve_exact(count)
            .and_then(|()| payloads.try_reserve_exact(bytes))
            .map_err(|_| OutOfMemory)?;
        Ok(EarlyFrames {
            places,
            payloads,
            room,
            capacity,
            free: NONE,
            used: 0,
        })
    }

    /// Requests that are kept.
    pub fn len(&self) -> u32 {
        self.used
    }

    fn at(&self, index: u32) -> Option<&Place> {
        self.places.get(index as usize)
    }

    fn at_mut(&mut self, index: u32) -> Option<&mut Place> {
        self.places.get_mut(index as usize)
    }

    /// Keeps a packet that comes after the `expected` one, if there is room, and nothing with its PSN.
    ///
    /// One list gets four times as much as is left then, no more.
    pub(super) fn keep(
        &mut self,
        list: &mut EarlyList,
        request: &Request<'_>,
        expected: Psn,
        reach: Reach,
        link: &Link,
    ) -> Kept {
        let psn = request.psn;
        let (mut before, mut after) = (NONE, list.head);
        if self
            .at(list.tail)
            .is_some_and(|p| psn.is_after(p.request.psn))
        {
            (before, after) = (list.tail, NONE);
        }
        while let Some(place) = self.at(after) {
            if !place.request.psn.is_before(psn) {
                break;
            }
            (before, after) = (after, place.next);
        }
        if self.at(after).is_some_and(|p| p.request.psn == psn) {
            return Kept::Already;
        }
        let last = self.at(before).map(|p| p.request.last_psn(link));
        let distance = psn.distance(last.unwrap_or(expected));
        let left = (self.capacity - self.used).saturating_sub(1);
        if distance < 1
            || reach == Reach::Near && distance > REACH
            || request.payload.len() > self.room
            || list.len >= left.saturating_mul(4)
        {
            return Kept::No;
        }
        let Some(at) = self.fill(request, after) else {
            return Kept::No;
        };
        match self.at_mut(before) {
            Some(place) => place.next = at,
            None => list.head = at,
        }
        if after == NONE {
            list.tail = at;
        }
        list.len += 1;
        Kept::After(last.map_or(expected, Psn::next))
    }

    /// Puts a request into a place of its own before `next`, and says which.
    fn fill(&mut self, request: &Request<'_>, next: u32) -> Option<u32> {
        let place = Place {
            request: Request {
                payload: &[],
                ..*request
            },
            payload_len: request.payload.len(),
            next,
        };
        let at = self.free;
        let at = if let Some(free) = self.at_mut(at) {
            let following = free.next;
            *free = place;
            self.free = following;
            at
        } else {
            let at = self.places.len();
            if at >= self.capacity as usize {
                return None;
            }
            self.places.push(place);
            self.payloads.resize((at + 1) * self.room, 0);
            at as u32
        };
        let start = at as usize * self.room;
        let end = start + request.payload.len();
        if let Some(payload) = self.payloads.get_mut(start..end) {
            payload.copy_from_slice(request.payload);
        }
        self.used += 1;
        Some(at)
    }

    /// The first request of a list.
    pub fn first(&self, list: &EarlyList) -> Option<Request<'_>> {
        let place = self.at(list.head)?;
        let start = list.head as usize * self.room;
        Some(Request {
            payload: self.payloads.get(start..start + place.payload_len)?,
            ..place.request
        })
    }

    /// What a list lacks between two PSNs: from the first that is missing up to the end of the last gap.
    pub fn missing(&self, list: &EarlyList, from: Psn, to: Psn) -> Option<(Psn, Psn)> {
        let (mut first, mut end) = (None, to);
        let (mut next, mut at) = (from, list.head);
        while let Some(place) = self.at(at) {
            let psn = place.request.psn;
            if !psn.is_before(to) {
                break;
            }
            if psn.is_after(next) {
                first = first.or(Some(next));
                end = psn;
            }
            if !psn.is_before(next) {
                next = psn.next();
            }
            at = place.next;
        }
        if next.is_before(to) {
            first = first.or(Some(next));
            end = to;
        }
        first.map(|first| (first, end))
    }

    /// The PSN of the last request of a list.
    pub fn last_psn(&self, list: &EarlyList) -> Option<Psn> {
        self.at(list.tail).map(|p| p.request.psn)
    }

    /// Removes the first request of a list.
    pub fn remove_first(&mut self, list: &mut EarlyList) {
        let (at, free) = (list.head, self.free);
        let Some(place) = self.at_mut(at) else {
            return;
        };
        list.head = core::mem::replace(&mut place.next, free);
        list.len -= 1;
        if list.head == NONE {
            list.tail = NONE;
        }
        self.free = at;
        self.used -= 1;
    }

    /// Removes all requests of a list, and says how many those were.
    pub fn clear(&mut self, list: &mut EarlyList) -> u32 {
        let free = self.free;
        let Some(last) = self.at_mut(list.tail) else {
            return 0;
        };
        last.next = free;
        self.free = list.head;
        self.used -= list.len;
        core::mem::replace(list, EarlyList::new()).len
    }
}

impl Request<'_> {
    /// The last PSN that the request takes.
    fn last_psn(&self, link: &Link) -> Psn {
        match (self.op, self.reth) {
            (Opcode::ReadRequest, Some(range)) => self.psn.add(link.packets(range.len) - 1),
            _ => self.psn,
        }
    }
}
