//! Paged pool, and pageable sections of images: who accesses them at DISPATCH_LEVEL or above finds them paged out.
//!
//! That memory is inaccessible until somebody below DISPATCH_LEVEL accesses it, and again as soon as a processor's IRQL is raised
//! to DISPATCH_LEVEL or above. It costs nothing where there is none.

use super::arena;
use super::mdl::Mdls;
use crate::exports::dma::Dma;
use crate::image::Pageable;
use crate::verifier::{self, rules};
use crate::world::context;
use crate::world::machine::Machine;

const DISPATCH: u8 = crate::world::processor::DISPATCH;

/// The machine of this thread's world in whose window an address lies.
fn with_machine<R>(address: usize, f: impl FnOnce(&Machine) -> R) -> Option<R> {
    if !arena::contains(address) {
        return None;
    }
    let owner = arena::machine_at(address);
    let core = context::try_core()?;
    let machines = core.machines.try_borrow().ok()?;
    let machine = machines.iter().find(|m| std::ptr::eq(&***m, owner))?;
    Some(f(machine))
}

/// Whether an address is one of memory of this thread's world, accessible or not: a kernel address, or one by which devices access it.
pub(crate) fn is_memory(address: usize) -> bool {
    let mapped = with_machine(address, |machine| machine.ram.is_mapped(address, 1));
    mapped.unwrap_or_else(|| {
        let core = context::try_core();
        let machines = core.as_ref().and_then(|c| c.machines.try_borrow().ok());
        machines.is_some_and(|all| all.iter().any(|m| m.ram.is_seen_by_devices(address)))
    })
}

/// What lay at an address that is inaccessible because its memory was freed, as reports name it.
pub(crate) fn freed(address: usize) -> Option<String> {
    with_machine(address, |machine| {
        machine.pool.freed_around(&machine.ram, address)
    })
    .flatten()
}

/// The block behind which an address lies that is inaccessible because it guards that, as reports name it.
pub(crate) fn guarded(address: usize) -> Option<String> {
    with_machine(address, |machine| machine.pool.guarded_around(address)).flatten()
}

/// The common buffer behind which an address lies that is inaccessible because it guards that, as reports name it.
pub(crate) fn guarded_for_dma(address: usize) -> Option<String> {
    with_machine(address, |machine| {
        machine.ext::<Dma>().buffers.guarded_around(address)
    })
    .flatten()
}

/// What pageable memory an address lies in, as reports name it; and whether that is accessible, as far as that is known.
fn named(address: usize) -> Option<(String, bool)> {
    with_machine(address, |machine| {
        if machine.ram.is_paged(address) {
            return Some(("paged pool".to_owned(), false));
        }
        machine.ext::<Pageable>().name(address)
    })
    .flatten()
}

/// What memory an address lies in that is inaccessible because it is paged out, as reports name it.
pub(crate) fn absent(address: usize) -> Option<String> {
    let (name, accessible) = named(address)?;
    (!accessible).then_some(name)
}

/// Serves an access that faulted: true if it may be tried again. Pages that an MDL locks are resident at any IRQL.
pub(crate) fn page_in(address: usize) -> bool {
    let low = context::try_machine().is_none() || context::irql() < DISPATCH;
    let served = with_machine(address, |machine| {
        if !machine.ram.is_paged(address) {
            return low && machine.ext::<Pageable>().page_in(address, &machine.ram);
        }
        let may = low || machine.ext::<Mdls>().locked_over(address, 1).is_some();
        if may {
            machine.ram.page_in(address);
        }
        may
    });
    if served == Some(true) {
        context::with(|c| c.paged_in.set(true));
    }
    served.unwrap_or(false)
}

/// Makes all pageable memory inaccessible: the IRQL is raised.
#[cold]
#[inline(never)]
pub(crate) fn page_out() {
    context::with(|c| c.paged_in.set(false));
    if let Some(core) = context::try_core() {
        for machine in core.machines.borrow().iter() {
            machine.ram.page_out();
            machine.ext::<Pageable>().page_out(&machine.ram);
        }
    }
}

/// Accuses if what the kernel uses at DISPATCH_LEVEL lies in paged pool.
pub(crate) fn expect_resident(address: usize, what: &str, by: &str) {
    if let Some((memory, _)) = named(address) {
        verifier::violation(
            rules::PAGED_ACCESS,
            format!("{by}: {what} at {address:#x} lies in {memory}"),
        );
    }
}
