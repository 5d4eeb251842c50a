//! Logical address mappings.

use super::memory::{allocate, free};
use super::model::{Lam, Model, with};
use super::raw::{self, Mapping};
use super::slot::Slot;
use ndkpi::NTSTATUS;
use ndkpi::status::*;
use ntsim::ndk::Buffer;
use std::ptr::null_mut;

/// Bytes of a page.
const PAGE: usize = 4096;

/// Mappings that an adapter has at a time.
const LAMS: usize = 4;

pub(super) fn build_lam(side: usize) -> bool {
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        if m.sides[side].lams.len() >= LAMS {
            return None;
        }
        let length = m.chance.of(&[1, 4096, 9000, 30_000]);
        let case = m.chance.below(12);
        let with_completion = m.chance.percent(50);
        let token = m.call(side, Slot::BuildLam, &[]);
        Some((adapter, length, case, with_completion, token))
    });
    let Some((adapter, length, case, with_completion, token)) = plan else {
        return false;
    };
    // The head and one address for each page, of which an odd start may need one more.
    let room = 16 + 8 * (length / PAGE + 2);
    let (ground, memory) = match (allocate(length), Buffer::new(room)) {
        (Some(ground), Ok(memory)) => (ground, memory),
        (ground, memory) => {
            free(ground);
            if let Ok(memory) = memory {
                memory.free();
            }
            // Not called after all.
            with(|m| m.not_called(token));
            return true;
        }
    };
    let (said, size, right): (usize, u32, &[NTSTATUS]) = match case {
        0 => (length, 0, &[STATUS_BUFFER_TOO_SMALL]),
        1 => (length, 23, &[STATUS_BUFFER_TOO_SMALL]),
        2 => (0, room as u32, &[STATUS_INVALID_PARAMETER]),
        3 => (length + 1, room as u32, &[STATUS_INVALID_PARAMETER]),
        _ => (length, room as u32, &[STATUS_SUCCESS]),
    };
    let mdl = with(|m| m.grounds.buffer(ground).map(Buffer::mdl));
    let (mdl, at) = (
        mdl.unwrap_or(null_mut()),
        memory.address() as usize as *mut u8,
    );
    let mapping = Mapping {
        mdl,
        length: said,
        at,
        size,
        token: with_completion.then_some(token as u64),
    };
    let (status, first_byte) = raw::build_lam(adapter, &mapping);
    let lam = Lam {
        ground,
        memory,
        first_byte,
        pages: Vec::new(),
        used: false,
    };
    let unused = with(|m| {
        m.returned(token, status, right);
        if status == STATUS_SUCCESS {
            built(m, side, lam);
            None
        } else {
            Some(lam)
        }
    });
    if let Some(lam) = unused {
        free(Some(lam.ground));
        lam.memory.free();
    }
    true
}

fn built(m: &mut Model, side: usize, mut lam: Lam) {
    raw::pages(lam.memory.address() as usize as *const u8, &mut lam.pages);
    m.sides[side].lams.push(lam);
}

pub(super) fn release_lam(side: usize) -> bool {
    let plan = with(|m| {
        let adapter = m.adapter(side)?;
        let lams = &mut m.sides[side].lams;
        let at = lams.iter().position(|lam| !lam.used)?;
        let lam = lams.remove(at);
        Some((adapter, lam, m.call(side, Slot::ReleaseLam, &[])))
    });
    plan.is_some_and(|(adapter, lam, token)| {
        release(adapter, lam, token);
        true
    })
}

/// Releases a mapping, and its memory.
pub(super) fn release(adapter: raw::Raw, lam: Lam, token: usize) {
    raw::release_lam(adapter, lam.memory.address() as usize as *mut u8);
    free(Some(lam.ground));
    lam.memory.free();
    // The list of pages is the host's memory, wherever it is given back.
    with(|m| m.over(token));
}
