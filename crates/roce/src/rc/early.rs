//! Requests that came before the one expected: kept until that comes, so that the peer has to repeat no more than what was lost. And responses
//! with data, in the same way.
//!
//! Nothing of them is executed early, and no data is placed early: who watches the last byte of a buffer sees it change when all of it is there.
//! They wait in places of a pool that all queue pairs share, and are executed in their turn, as if they had come then.
//!
//! Who cannot see the connection and makes up packets must not find it easier to hit one that counts because they are kept. So what is kept is
//! not believed as such:
//!
//! * A packet that is kept alone waits for another to come early, or for itself to come again: a loss is followed by many packets, a lucky guess
//!   by none.
//! * Of two packets with one PSN that differ, neither is believed, and the peer has to send it once more.
//! * Packets are kept only close behind others, and only while few are missing.
//!
//! Places are given to whoever comes first, four fifths of what is left to one list at most. Who leaves a gap open for longer than it takes
//! to close one gives them back when another finds none: nobody can keep the pool.

use super::QpId;
use super::link::Link;
use super::responder::Request;
use crate::psn::Psn;
use crate::table::OutOfMemory;
use crate::time::Instant;
use crate::wire::Opcode;
use alloc::vec::Vec;
use core::time::Duration;

/// How many packets in a row may be missing before one that is kept. Of packets that are lost one by one, hardly ever more are.
const REACH: i32 = 3;

/// How many packets may be missing altogether before one that is kept. So there are no more than nine PSNs at which a made-up packet is executed or
/// kept, and one alone while nothing is missing.
const MISSING: u32 = 8;

/// How long something is kept at least. A gap closes within a few round trips, or a timeout.
const LASTS: Duration = Duration::from_secs(1);

/// Which place of the pool: there are few.
type At = u16;

const NONE: At = At::MAX;

/// How far a packet may lie behind what is known to have been sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// A few packets: nothing but its PSN speaks for it.
    Near,
    /// Any number: it has been found right, besides.
    Any,
}

/// What speaks for a kept packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Proof {
    /// What it says.
    Itself,
    /// That it came with others.
    Company,
    /// Nothing: another with its PSN says something else.
    Contradicted,
}

/// What became of a packet that came early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kept {
    /// It is not kept, or not believed.
    No,
    /// It has been before.
    Already,
    /// It is kept. Between it and what is known to have been sent before it everything is missing from this PSN on; nothing, if it is its own.
    After(Psn),
}

/// Room for one request.
struct Place {
    /// Without its payload.
    request: Request<'static>,
    payload_len: usize,
    /// The last PSN that the request takes.
    last: Psn,
    proof: Proof,
    /// The next place of the same list, or the next that is free.
    next: At,
    /// Whose it is, and since when.
    owner: QpId,
    since: Instant,
    /// Those taken before and after it.
    older: At,
    newer: At,
}

/// The requests of one queue pair, in the order of their PSNs.
pub(crate) struct EarlyList {
    head: At,
    tail: At,
    len: At,
    /// PSNs that they take.
    covered: u32,
    /// More than one has been kept at a time since there was none.
    company: bool,
}

impl EarlyList {
    pub const fn new() -> EarlyList {
        EarlyList {
            head: NONE,
            tail: NONE,
            len: 0,
            covered: 0,
            company: false,
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
    capacity: At,
    free: At,
    used: At,
    oldest: At,
    newest: At,
    now: Instant,
    /// There was no room for a packet.
    starved: bool,
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
            capacity: At::try_from(capacity).map_err(|_| OutOfMemory)?,
            free: NONE,
            oldest: NONE,
            newest: NONE,
            ..EarlyFrames::default()
        })
    }

    /// So late it is.
    pub fn see(&mut self, now: Instant) {
        self.now = now;
    }

    /// Who is to give back what is kept for it, because another found no room and it has had it for long.
    pub fn overdue(&mut self) -> Option<QpId> {
        let oldest = core::mem::take(&mut self.starved).then(|| self.at(self.oldest))??;
        (oldest.since.after(LASTS) <= self.now).then_some(oldest.owner)
    }

    /// Packets that are kept.
    pub fn len(&self) -> u32 {
        self.used.into()
    }

    fn at(&self, index: At) -> Option<&Place> {
        self.places.get(index as usize)
    }

    fn at_mut(&mut self, index: At) -> Option<&mut Place> {
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
            return self.keep_another(after, request, reach);
        }
        // Where what is known to have been sent ends. The expected packet itself is not kept.
        let end = self.at(before).map_or(expected, |p| p.last.next());
        let distance = psn.distance(end);
        let left = (self.capacity - self.used).saturating_sub(1);
        let far = distance > REACH
            || after == NONE && psn.since(expected).saturating_sub(list.covered) > MISSING;
        if distance < 0
            || psn == expected
            || reach == Reach::Near && far
            || request.payload.len() > self.room
        {
            return Kept::No;
        }
        if list.len >= left.saturating_mul(4) {
            self.starved = true;
            return Kept::No;
        }
        let place = Place {
            request: Request {
                payload: &[],
                ..*request
            },
            payload_len: request.payload.len(),
            last: request.last_psn(link),
            proof: reach.proof(),
            next: after,
            owner: link.qp,
            since: self.now,
            older: self.newest,
            newer: NONE,
        };
        let takes = place.takes();
        let Some(at) = self.fill(place) else {
            return Kept::No;
        };
        self.put_payload(at, request.payload);
        match self.at_mut(before) {
            Some(place) => place.next = at,
            None => list.head = at,
        }
        if after == NONE {
            list.tail = at;
        }
        list.len += 1;
        list.covered = list.covered.wrapping_add(takes);
        list.company |= list.len > 1;
        Kept::After(end)
    }

    /// A packet has come that has the PSN of the one at `at`.
    fn keep_another(&mut self, at: At, request: &Request<'_>, reach: Reach) -> Kept {
        let same = self.request(at).is_some_and(|kept| kept.is_like(request));
        let fits = request.payload.len() <= self.room;
        let Some(place) = self.at_mut(at) else {
            return Kept::No;
        };
        match (place.proof, reach) {
            (Proof::Itself, _) => Kept::Already,
            (_, Reach::Any) if fits => {
                place.request = Request {
                    payload: &[],
                    ..*request
                };
                place.payload_len = request.payload.len();
                place.proof = Proof::Itself;
                self.put_payload(at, request.payload);
                Kept::Already
            }
            (Proof::Company, _) if same => Kept::Already,
            _ => {
                place.proof = Proof::Contradicted;
                Kept::No
            }
        }
    }

    /// Takes a place that is free, and says which.
    fn fill(&mut self, place: Place) -> Option<At> {
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
            At::try_from(at).ok()?
        };
        self.used += 1;
        match self.at_mut(self.newest) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        Some(at)
    }

    /// Nothing is kept in this place any more. It remains for the caller to add it to those that are free.
    fn vacate(&mut self, at: At) {
        let Some(Place { older, newer, .. }) = self.at(at) else {
            return;
        };
        let (older, newer) = (*older, *newer);
        match self.at_mut(older) {
            Some(place) => place.newer = newer,
            None => self.oldest = newer,
        }
        match self.at_mut(newer) {
            Some(place) => place.older = older,
            None => self.newest = older,
        }
        self.used -= 1;
    }

    fn put_payload(&mut self, at: At, payload: &[u8]) {
        let start = at as usize * self.room;
        if let Some(to) = self.payloads.get_mut(start..start + payload.len()) {
            to.copy_from_slice(payload);
        }
    }

    fn request(&self, at: At) -> Option<Request<'_>> {
        let place = self.at(at)?;
        let start = at as usize * self.room;
        Some(Request {
            payload: self.payloads.get(start..start + place.payload_len)?,
            ..place.request
        })
    }

    /// The first request of a list.
    pub fn first(&self, list: &EarlyList) -> Option<Request<'_>> {
        self.request(list.head)
    }

    /// Whether the first request of a list may be executed when its turn has come.
    pub fn believes_first(&self, list: &EarlyList) -> bool {
        self.at(list.head).is_some_and(|p| p.is_believed(list))
    }

    /// What a list lacks between two PSNs: from the first that is missing, or not believed, up to the end of the last gap.
    pub fn missing(&self, list: &EarlyList, from: Psn, to: Psn) -> Option<(Psn, Psn)> {
        let (mut first, mut end) = (None, to);
        let (mut next, mut at) = (from, list.head);
        while let Some(place) = self.at(at) {
            let psn = place.request.psn;
            if !psn.is_before(to) {
                break;
            }
            at = place.next;
            if !place.is_believed(list) {
                continue;
            }
            if psn.is_after(next) {
                first = first.or(Some(next));
                end = psn;
            }
            if !psn.is_before(next) {
                next = psn.next();
            }
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
        self.vacate(at);
        let Some(place) = self.at_mut(at) else {
            return;
        };
        let takes = place.takes();
        list.head = core::mem::replace(&mut place.next, free);
        list.len -= 1;
        list.covered = list.covered.wrapping_sub(takes);
        if list.head == NONE {
            *list = EarlyList::new();
        }
        self.free = at;
    }

    /// Removes all requests of a list, and says how many those were.
    pub fn clear(&mut self, list: &mut EarlyList) -> u32 {
        let len = list.len.into();
        while !list.is_empty() {
            self.remove_first(list);
        }
        len
    }
}

impl Place {
    /// How many PSNs the request takes.
    fn takes(&self) -> u32 {
        self.last.since(self.request.psn).wrapping_add(1)
    }

    fn is_believed(&self, list: &EarlyList) -> bool {
        match self.proof {
            Proof::Itself => true,
            Proof::Company => list.company,
            Proof::Contradicted => false,
        }
    }
}

impl Reach {
    fn proof(self) -> Proof {
        match self {
            Reach::Near => Proof::Company,
            Reach::Any => Proof::Itself,
        }
    }
}

impl Request<'_> {
    /// Whether another packet asks for the same. It may want to hear of it when this does not. Of READ data the opcode says only which part was
    /// asked for.
    fn is_like(&self, other: &Request<'_>) -> bool {
        (self.op == other.op || self.op.is_read_response() && other.op.is_read_response())
            && (self.reth, self.atomic) == (other.reth, other.atomic)
            && (self.immediate, self.invalidate) == (other.immediate, other.invalidate)
            && self.payload == other.payload
    }

    /// The last PSN that the request takes.
    fn last_psn(&self, link: &Link) -> Psn {
        match (self.op, self.reth) {
            (Opcode::ReadRequest, Some(range)) => self.psn.add(link.packets(range.len) - 1),
            _ => self.psn,
        }
    }
}
