//! Mapped and registered buffers: what consumers may do with their MDLs meanwhile, and what not.

use std::ptr::null_mut;

use ndis_sys::imports::{MmMapLockedPagesSpecifyCache, MmUnlockPages, MmUnmapLockedPages};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{self, MmCached, NormalPagePriority};

use super::bench::*;
use super::consumers::{Connected, build, connected, locked, register, release};
use super::fake::{Misdeed, Mode};
use crate::ndk::rules;

fn bench() -> Bench {
    Bench::new(Mode::Inline, Misdeed::Nothing)
}

#[test]
fn a_consumer_may_map_and_relink_its_own_mdls_while_they_are_mapped_for_the_adapter() {
    let mut b = bench();
    let (_, mdl) = locked(&mut b);
    let (_, other) = locked(&mut b);
    let mut room = [0; 8];
    let lam = build(&mut b, mdl.cast(), &mut room);
    b.run(|| {
        // SAFETY: as a driver calls.
        unsafe {
            let priority = NormalPagePriority;
            let mapped =
                MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, null_mut(), 0, priority);
            assert!(!mapped.is_null());
            (*mdl).Next = other;
        }
    });
    release(&mut b, lam);
    assert_eq!(b.rules(), [""; 0]);
    // SAFETY: mapped above.
    b.run(|| unsafe { MmUnmapLockedPages((*mdl).MappedSystemVa, mdl) });
}

#[test]
fn only_the_pages_that_are_registered_or_mapped_stay_locked() {
    for mapped in [false, true] {
        let mut b = bench();
        let pd = b.pd();
        let mr = b.mr(pd);
        let ((_, mdl), (_, behind)) = (locked(&mut b), locked(&mut b));
        // SAFETY: the test's MDL.
        unsafe { (*mdl).Next = behind };
        let mut room = [0; 8];
        // The first page, in either case.
        if mapped {
            build(&mut b, mdl.cast(), &mut room);
        } else {
            register(&mut b, mr, mdl);
        }
        // SAFETY: locked above.
        b.run(|| unsafe { MmUnlockPages(behind) });
        assert_eq!(b.rules(), [""; 0], "mapped {mapped}");
        // SAFETY: locked above.
        b.run(|| unsafe { MmUnlockPages(mdl) });
        assert_eq!(b.rules(), [rules::CONSUMER_UNLOCKED], "mapped {mapped}");
    }
}

#[test]
fn a_provider_may_map_the_mdl_until_the_release() {
    let mut b = Bench::new(Mode::Inline, Misdeed::LamMapsMdl);
    let mut mdl = wdm::MDL::ZEROED;
    let mut room = [0; 8];
    let lam = build(&mut b, (&raw mut mdl).cast(), &mut room);
    release(&mut b, lam);
    assert_eq!(b.rules(), [""; 0]);
}

/// Fast-registers a page.
fn fast_register(b: &mut Bench, c: &Connected, page: i64) {
    let mr = b.fast_mr(c.pd);
    let f = table!(c.qp).NdkFastRegister;
    // SAFETY: as a consumer calls.
    b.run(|| unsafe {
        f(
            c.qp,
            null_mut(),
            mr,
            1,
            &raw const page,
            0,
            4096,
            null_mut(),
            0,
        )
    });
}

#[test]
fn what_is_fast_registered_is_mapped() {
    for (page, expected) in [
        (0x7000, &[][..]),
        (0x8000, &[rules::CONSUMER_LOGICAL_ADDRESS]),
    ] {
        let mut b = bench();
        let c = connected(&mut b);
        let mut mdl = wdm::MDL::ZEROED;
        let mut room = [0; 8];
        // One page, which the fake has at 0x7000.
        build(&mut b, (&raw mut mdl).cast(), &mut room);
        fast_register(&mut b, &c, page);
        assert_eq!(b.rules(), expected, "{page:#x}");
    }
}
