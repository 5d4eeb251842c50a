//! Paged pool: who accesses it at DISPATCH_LEVEL or above finds it paged out.
//!
//! It is inaccessible until somebody below DISPATCH_LEVEL accesses it, and again as soon as a processor's IRQL is raised
//! to DISPATCH_LEVEL or above. It costs nothing where there is none.

use super::arena;
use super::mdl::Mdls;
use crate::exports::dma::Dma;
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

/// The machine of this thread's world in whose paged pool an address lies.
fn with_owner<R>(address: usize, f: impl FnOnce(&Machine) -> R) -> Option<R> {
    with_machine(address, |machine| {
        machine.ram.is_paged(address).then(|| f(machine))
    })
    .flatten()
}

/// What lay at an address that is inaccessible because its memory was freed, as reports name it.
pub(crate) fn freed(address: usize) -> Option<String> {
    with_machine(address, |machine| machine.pool.freed_around(address)).flatten()
}

/// The block behind which an address lies that is inaccessible because it guards that, as reports name it.
pub(crate) fn guarded(address: usize) -> Option<String> {
    with_machine(address, |machine| machine.pool.guarded_around(address)).flatten()
}

/// The common buffer behind which an address lies that is inaccessible because it guards that, as reports name it.
pub(crate) fn guarded_for_dma(address: usize) -> Option<String> {
    with_machine(address, |machine| machine.ext::<Dma>().guarded_around(address)).flatten()
}

/// Whether an address lies in paged pool.
pub(crate) fn contains(address: usize) -> bool {
    with_owner(address, |_| ()).is_some()
}

/// Serves an access that faulted: true if it may be tried again. Pages that an MDL locks are resident at any IRQL.
pub(crate) fn page_in(address: usize) -> bool {
    with_owner(address, |machine| {
        let low = context::try_machine().is_none() || context::irql() < DISPATCH;
        let may = low || machine.ext::<Mdls>().locked_over(address, 1).is_some();
        if may {
            machine.ram.page_in(address);
            context::with(|c| c.paged_in.set(true));
        }
        may
    })
    .unwrap_or(false)
}

/// Makes all paged pool inaccessible: the IRQL is raised.
#[cold]
#[inline(never)]
pub(crate) fn page_out() {
    context::with(|c| c.paged_in.set(false));
    if let Some(core) = context::try_core() {
        for machine in core.machines.borrow().iter() {
            machine.ram.page_out();
        }
    }
}

/// Accuses if what the kernel uses at DISPATCH_LEVEL lies in paged pool.
pub(crate) fn expect_resident(address: usize, what: &str, by: &str) {
    if contains(address) {
        verifier::violation(
            rules::PAGED_ACCESS,
            format!("{by}: {what} at {address:#x} lies in paged pool"),
        );
    }
}
