//! Lists of elements: what requests read from and write to.

use super::data::{self, Piece};
use super::model::{Body, Id, Kind, Model, Named};
use super::raw;
use ndkpi::NDK_SGE;

/// Most elements of a list that the walk makes: more than any QP takes.
const LIST: usize = 18;
/// Most bytes of a message.
const MOST: u32 = 1 << 30;
/// One in so many lists is wrong on purpose.
pub(super) const WRONG: u64 = 150;

/// Elements, and what is known of them.
pub(super) struct List {
    elements: [NDK_SGE; LIST],
    count: usize,
    /// The memory, if the list is right.
    pub(super) pieces: Vec<Piece>,
    /// Regions that it names.
    pub(super) regions: Vec<Id>,
    pub(super) is_right: bool,
    /// More elements, or more bytes, than a request may have.
    pub(super) too_much: bool,
}

/// What is done with the memory of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    Write,
}

impl List {
    fn empty() -> List {
        List {
            elements: [raw::sge(0, 0, 0); LIST],
            count: 0,
            pieces: Vec::new(),
            regions: Vec::new(),
            is_right: true,
            too_much: false,
        }
    }

    fn push(&mut self, element: NDK_SGE) {
        if let Some(free) = self.elements.get_mut(self.count) {
            *free = element;
            self.count += 1;
        }
    }

    fn add(&mut self, m: &Model, piece: Piece, token: u32) {
        let address = m.grounds.address(piece.ground) + u64::from(piece.offset);
        self.push(raw::sge(address, piece.length, token));
        self.pieces.push(piece);
    }

    pub(super) fn elements(&self) -> &[NDK_SGE] {
        &self.elements[..self.count]
    }

    pub(super) fn length(&self) -> u32 {
        data::length(&self.pieces)
    }
}

/// Bytes of a request or a part of it.
pub(super) fn size(m: &mut Model, most: u32) -> u32 {
    let size = match m.chance.below(100) {
        0..3 => 0,
        3 => most,
        4..30 => m.chance.below(9000) as u32,
        _ => 1 + m.chance.below(300) as u32,
    };
    size.min(most)
}

/// A list of up to so many elements and so many bytes in memory of a protection domain; seldom a wrong one.
pub(super) fn list(m: &mut Model, side: usize, pd: Id, limit: u32, most: u32, what: Use) -> List {
    if m.chance.one_in(WRONG) {
        return wrong(m, side, pd, limit, what);
    }
    let mut list = List::empty();
    let count = match m.chance.below(60) {
        0 => 0,
        1 => limit,
        _ => limit.min(1 + m.chance.below(2) as u32),
    };
    let mut rest = most;
    for _ in 0..count {
        if what == Use::Read && m.chance.one_in(20) {
            if let Some((piece, element)) = privileged(m, side, pd, rest) {
                rest -= piece.length;
                list.push(element);
                list.pieces.push(piece);
            }
            continue;
        }
        let Some((mr, named)) = region(m, side, pd) else {
            break;
        };
        let size = size(m, rest);
        let piece = match what {
            Use::Read => m.grounds.source(&mut m.chance, named.ground, size),
            Use::Write => m.grounds.sink(&mut m.chance, named.ground, size),
        };
        rest -= piece.length;
        list.add(m, piece, named.local);
        list.regions.push(mr);
    }
    list
}

/// A region that requests may use.
pub(super) fn region(m: &mut Model, side: usize, pd: Id) -> Option<(Id, Named)> {
    let good = |m: &mut Model, mr: Id| {
        let mr = m.mr(mr);
        mr.pd == pd && mr.named.is_some_and(|named| named.is_good())
    };
    let mr = m.some_where(side, Kind::Mr, good)?;
    Some((mr, m.mr(mr).named?))
}

/// A part of a mapping, by the privileged token.
fn privileged(m: &mut Model, side: usize, pd: Id, most: u32) -> Option<(Piece, NDK_SGE)> {
    let Body::Pd {
        privileged: Some(token),
    } = m.objects[pd].body
    else {
        return None;
    };
    let lams = m.sides[side].lams.len();
    let lam = (lams > 0).then(|| m.chance.index(lams))?;
    let lam = &mut m.sides[side].lams[lam];
    lam.used = true;
    let (ground, first_byte) = (lam.ground, lam.first_byte);
    let address = lam.pages.first()?.cast_unsigned() + u64::from(first_byte);
    let room = m.grounds.readable(ground).min(4096 - first_byte).min(200);
    let piece = Piece {
        ground,
        offset: 0,
        length: room.min(most),
    };
    Some((piece, raw::sge(address, piece.length, token)))
}

/// A list that fails its request, or the post.
fn wrong(m: &mut Model, side: usize, pd: Id, limit: u32, what: Use) -> List {
    let mut list = List::empty();
    list.is_right = false;
    let some = m.some_where(side, Kind::Mr, |m, mr| {
        m.mr(mr).pd == pd && m.mr(mr).named.is_some()
    });
    let named = some.and_then(|mr| m.mr(mr).named);
    list.regions.extend(some);
    match (m.chance.below(4), named) {
        // What is written may go to the part that is there.
        (0, Some(named)) if what == Use::Read => {
            let address = m.grounds.address(named.ground);
            let length = m.grounds.length(named.ground) + 1;
            list.push(raw::sge(address, length, named.local));
        }
        (1, _) => {
            for _ in 0..=limit {
                list.push(raw::sge(0, 0, 0));
            }
            list.too_much = true;
        }
        (2, _) => {
            list.push(raw::sge(0, u32::MAX, 1));
            list.too_much = u64::from(u32::MAX) > u64::from(MOST);
        }
        _ => list.push(raw::sge(0x1000, 64, 0xdead_0000)),
    }
    if limit == 0 {
        list.too_much = true;
    }
    list
}

/// A list of inline data of up to so many bytes, which a queue pair takes up to `limit` of.
pub(super) fn inline(m: &mut Model, side: usize, limit: u32, most: u32) -> List {
    let mut list = List::empty();
    let Some(ground) = m.sides[side].scratch else {
        return list;
    };
    // Inline data needs no token.
    let token = 0xffff_ffff;
    if m.chance.one_in(WRONG) {
        list.push(raw::sge(m.grounds.address(ground), 257, token));
        (list.is_right, list.too_much) = (false, true);
        return list;
    }
    let mut rest = limit.min(most);
    for _ in 0..m.chance.below(4) {
        let size = m.chance.below(u64::from(rest) + 1) as u32;
        let piece = m.grounds.source(&mut m.chance, ground, size);
        rest -= piece.length;
        list.add(m, piece, token);
    }
    list
}
