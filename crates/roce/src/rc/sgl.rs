//! Walking scatter/gather lists.

use crate::PdId;
use crate::key::{Access, KeyTable, Place};
use crate::memory::Memory;
use crate::request::Sge;
use crate::transmit::{MAX_PIECES, Piece};
use arrayvec::ArrayVec;

/// A local key does not give the access needed, the list is too short, or the memory could not be reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LocalAccess;

/// Bytes in a list; `None` if they do not fit 32 bits.
pub(super) fn total(sgl: &[Sge]) -> Option<u32> {
    sgl.iter().try_fold(0u32, |sum, e| sum.checked_add(e.len))
}

/// Calls `f` with the parts of the list that hold the bytes `offset..offset + len`: key, address, length.
fn walk(
    sgl: &[Sge],
    mut offset: u32,
    mut len: u32,
    mut f: impl FnMut(u32, u64, u32) -> Result<(), LocalAccess>,
) -> Result<(), LocalAccess> {
    for e in sgl {
        if len == 0 {
            break;
        }
        if offset >= e.len {
            offset -= e.len;
            continue;
        }
        let n = (e.len - offset).min(len);
        let va = e.va.checked_add(u64::from(offset)).ok_or(LocalAccess)?;
        f(e.key, va, n)?;
        len -= n;
        offset = 0;
    }
    if len == 0 { Ok(()) } else { Err(LocalAccess) }
}

/// Whether every element is accessible.
pub(super) fn check(
    sgl: &[Sge],
    keys: &KeyTable,
    pd: PdId,
    need: Access,
) -> Result<(), LocalAccess> {
    sgl.iter().filter(|e| e.len > 0).try_for_each(|e| {
        keys.check(e.key, pd, e.va, u64::from(e.len), need)
            .map(|_| ())
            .map_err(|_| LocalAccess)
    })
}

/// Where the bytes `offset..offset + len` of the list are.
pub(super) fn gather(
    sgl: &[Sge],
    keys: &KeyTable,
    pd: PdId,
    offset: u32,
    len: u32,
    out: &mut ArrayVec<Piece, MAX_PIECES>,
) -> Result<(), LocalAccess> {
    walk(sgl, offset, len, |key, va, len| {
        let place = keys
            .check(key, pd, va, u64::from(len), Access::empty())
            .map_err(|_| LocalAccess)?;
        out.try_push(Piece {
            region: place.region,
            offset: place.offset,
            len,
        })
        .map_err(|_| LocalAccess)
    })
}

/// Where the bytes `offset..offset + len` of the list are to be placed, if they lie in one element.
pub(super) fn place(
    sgl: &[Sge],
    keys: &KeyTable,
    pd: PdId,
    offset: u32,
    len: u32,
) -> Option<Place> {
    let mut found = None;
    walk(sgl, offset, len, |key, va, part| {
        if part != len {
            return Err(LocalAccess);
        }
        found = keys
            .check(key, pd, va, u64::from(len), Access::LOCAL_WRITE)
            .ok();
        Ok(())
    })
    .ok()?;
    found
}

/// Places `data` at `offset` of the list. On failure part of it may have been placed.
pub(super) fn scatter<M: Memory>(
    sgl: &[Sge],
    keys: &KeyTable,
    pd: PdId,
    offset: u32,
    mut data: &[u8],
    memory: &mut M,
) -> Result<(), LocalAccess> {
    let len = u32::try_from(data.len()).map_err(|_| LocalAccess)?;
    walk(sgl, offset, len, |key, va, len| {
        let place = keys
            .check(key, pd, va, u64::from(len), Access::LOCAL_WRITE)
            .map_err(|_| LocalAccess)?;
        let (now, later) = data.split_at_checked(len as usize).ok_or(LocalAccess)?;
        data = later;
        memory
            .write(place.region, place.offset, now)
            .map_err(|_| LocalAccess)
    })
}
