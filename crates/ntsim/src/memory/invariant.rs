//! What MDLs described when their pages were filled in: nobody but the kernel changes that (invariant MDL checking), and devices get lists
//! only of pages that stay where they are. With full verification.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndis_sys::wdm::{MDL, MDL_PAGES_LOCKED, MDL_SOURCE_IS_NONPAGED_POOL};

use super::mdl::{self, DESCRIBED, Mdls};
use crate::verifier::{self, Verify, rules};
use crate::world::context;

struct Described {
    start: usize,
    offset: u32,
    frames: Vec<u64>,
    /// The MDL that locks its pages, if it is a part of that.
    whole: Option<usize>,
    by: &'static str,
}

impl Described {
    /// What has changed, in words.
    ///
    /// # Safety
    /// `mdl` is the MDL that this is of.
    unsafe fn changed(&self, mdl: *mut MDL) -> Option<String> {
        // SAFETY: promised by the caller; the array has had so many pages.
        let (header, frames) = unsafe {
            (
                *mdl,
                std::slice::from_raw_parts(mdl::pfns(mdl), self.frames.len()),
            )
        };
        if (header.StartVa.addr(), header.ByteOffset) != (self.start, self.offset) {
            return Some(format!(
                "the buffer begins at {:#x}, not at {:#x}",
                header.StartVa.addr() + header.ByteOffset as usize,
                self.start + self.offset as usize
            ));
        }
        // It may become shorter: NdisAdjustMdlLength.
        let pages = mdl::pages(header.ByteOffset as usize, header.ByteCount as usize);
        if pages > frames.len() {
            return Some(format!("it has {pages} pages, not {}", frames.len()));
        }
        let page = (0..frames.len()).find(|i| frames[*i] != self.frames[*i])?;
        Some(format!(
            "page {page} is frame {:#x}, not {:#x}",
            frames[page], self.frames[page]
        ))
    }
}

/// A machine's MDLs whose pages have been filled in, by address.
#[derive(Default)]
pub(crate) struct Invariants(RefCell<BTreeMap<usize, Described>>);

fn looked_at() -> bool {
    context::core().verify == Verify::Full
}

/// Notes what an MDL describes, whose pages have just been filled in. `source` is the MDL of which it is a part.
///
/// # Safety
/// `mdl` must point at an MDL.
pub(crate) unsafe fn note(mdl: *mut MDL, source: Option<*mut MDL>, by: &'static str) {
    if !looked_at() {
        return;
    }
    let invariants = context::machine().ext::<Invariants>();
    let mut all = invariants.0.borrow_mut();
    let whole = source.and_then(|source| {
        // SAFETY: an MDL, from which this one was built just now.
        let locked = unsafe { (*source).MdlFlags } & MDL_PAGES_LOCKED != 0;
        let of_whole = all.get(&source.addr()).and_then(|d| d.whole);
        of_whole.or(locked.then_some(source.addr()))
    });
    // SAFETY: promised by the caller; the pages are filled in.
    let described = unsafe {
        let pages = mdl::pages((*mdl).ByteOffset as usize, (*mdl).ByteCount as usize);
        Described {
            start: (*mdl).StartVa.addr(),
            offset: (*mdl).ByteOffset,
            frames: std::slice::from_raw_parts(mdl::pfns(mdl), pages).to_vec(),
            whole,
            by,
        }
    };
    all.insert(mdl.addr(), described);
}

/// Forgets the MDLs in memory that is freed or used anew.
pub(crate) fn forget(invariants: &Invariants, start: usize, len: usize) {
    // What is taken out may be freed through the pool, which comes here again: not while it is borrowed.
    loop {
        let mut all = invariants.0.borrow_mut();
        let first = all.range(start..start + len).next().map(|(mdl, _)| *mdl);
        let gone = first.and_then(|mdl| all.remove(&mdl));
        drop(all);
        if gone.is_none() {
            return;
        }
    }
}

/// Accuses if an MDL does not describe any more what it described, and takes it for what it is now.
///
/// # Safety
/// `mdl` must point at an MDL.
pub(crate) unsafe fn check(mdl: *mut MDL, by: &str) {
    if !looked_at() {
        return;
    }
    // SAFETY: promised by the caller.
    if unsafe { (*mdl).MdlFlags } & DESCRIBED == 0 {
        // It was made anew in its place, as MmInitializeMdl does it without a call, and describes nothing yet.
        return;
    }
    let invariants = context::machine().ext::<Invariants>();
    let changed = {
        let all = invariants.0.borrow();
        // SAFETY: it is that MDL's.
        all.get(&mdl.addr())
            .and_then(|d| Some((unsafe { d.changed(mdl) }?, d.by)))
    };
    if let Some((changed, filled_in)) = changed {
        forget(&invariants, mdl.addr(), 1);
        verifier::violation(
            rules::MDL_STATE,
            format!(
                "{by}: the MDL at {mdl:p} was changed since {filled_in} filled in its pages: {changed}"
            ),
        );
    }
}

/// Why devices must not be given a list of `len` bytes of a chain of MDLs; None if nothing speaks against it.
///
/// # Safety
/// `mdl` must point at a chain of MDLs.
pub(crate) unsafe fn unfit_for_dma(mut mdl: *mut MDL, len: usize, by: &str) -> Option<String> {
    if !looked_at() {
        return None;
    }
    let machine = context::machine();
    let (mdls, invariants) = (machine.ext::<Mdls>(), machine.ext::<Invariants>());
    let mut left = len;
    while left > 0 && !mdl.is_null() {
        // SAFETY: promised by the caller.
        let header = unsafe {
            check(mdl, by);
            *mdl
        };
        let buffer = header.StartVa.addr() + header.ByteOffset as usize;
        let known = invariants.0.borrow().get(&mdl.addr()).map(|d| d.whole);
        let locks = |mdl: usize| mdls.get(mdl).locked.is_some();
        let wrong = match known {
            None => Some("whose pages nobody has filled in"),
            Some(Some(whole)) if !locks(whole) => {
                Some("which is a part of one that is not locked any more")
            }
            Some(_) if header.MdlFlags & MDL_PAGES_LOCKED != 0 && !locks(mdl.addr()) => {
                Some("whose pages are not locked, though its flags say so")
            }
            Some(_) if header.MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL == 0 => None,
            Some(_) if machine.ram.is_paged(buffer) => Some("which describes paged pool"),
            Some(_) if machine.pool.freed_around(&machine.ram, buffer).is_some() => {
                Some("whose memory has been freed")
            }
            Some(_) => None,
        };
        if let Some(wrong) = wrong {
            return Some(format!("the MDL at {mdl:p}, {wrong}"));
        }
        left = left.saturating_sub(header.ByteCount as usize);
        mdl = header.Next;
    }
    None
}
