//! Memory: physical, the kernel's addresses, the pool, what devices may access.

pub(crate) mod arena;
mod backing;
mod block;
mod ended;
pub(crate) mod invariant;
mod io_space;
mod mappings;
pub(crate) mod mdl;
pub(crate) mod paged;
pub(crate) mod pool;
mod ram;
mod runs;
pub(crate) mod scatter;
mod special;

use crate::exports::lookaside::Lists;
use crate::exports::resource::Resources;
use crate::verifier::{self, Crossing, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::machine::Machine;

pub(crate) use ended::Ended;
pub(crate) use io_space::IoSpace;
pub use pool::PoolStats;
pub(crate) use pool::{Pool, Request};
pub use ram::{PAGE, Ram};

/// Accuses if something the kernel still uses lies in memory that is freed.
pub(crate) fn check_not_in_use(machine: &Machine, address: usize, len: usize, by: &str) {
    let inside = |object: usize| object.wrapping_sub(address) < len;
    let core = context::core();
    let accuse = |what: &str, object: usize| {
        verifier::violation(
            rules::FREED_IN_USE,
            format!("{by} frees {len} bytes at {address:#x}; in them, at {object:#x}, lies {what}"),
        );
    };
    // What would touch the memory later is taken back, so that the report is what ends the run.
    for processor in &machine.processors {
        while let Some(object) = processor.find_dpc(inside) {
            accuse("a queued DPC", object);
            processor.remove_dpc(object);
        }
        if let Some(held) = processor.locks.iter().find(|h| inside(h.lock)) {
            accuse("a spin lock that is held", held.lock);
        }
    }
    while let Some((timer, object)) = machine.timers.find(inside) {
        accuse("a running timer or its DPC", object);
        machine.cancel_timer(timer);
    }
    if let Some(mutex) = core.find_mutex(inside) {
        accuse("a fast mutex that a thread owns", mutex);
    }
    if let Some(object) = core.find_wait(inside) {
        accuse("an object somebody waits for", object);
    }
    if let Some(list) = machine.ext::<Lists>().find(inside) {
        accuse("a lookaside list that was not deleted", list);
    }
    if let Some(resource) = machine.ext::<Resources>().find(inside) {
        accuse("a resource that was not deleted", resource);
    }
    if let Some(mdl) = machine.ext::<mdl::Mdls>().locked_over(address, len) {
        accuse("memory whose pages an MDL locks; the MDL", mdl);
    }
    crate::ndk::freed(address, len, by);
    invariant::forget(&machine.ext(), address, len);
    core.verifier.lock_order.forget(address, len);
}

/// DISPATCH_LEVEL: the pool may not be used above.
const DISPATCH: u8 = crate::world::processor::DISPATCH;

impl Machine {
    /// Who is charged for what an exported function allocates for its caller.
    pub(crate) fn owner(&self, crossing: &Crossing) -> DriverNumber {
        if crossing.is_from_driver() {
            self.charged_driver()
        } else {
            0
        }
    }

    /// Allocates from the pool.
    pub(crate) fn pool_alloc(&self, request: &Request) -> Option<usize> {
        if request.owner != 0 && self.faults.strikes(request.function) {
            return None;
        }
        self.pool.alloc(&self.ram, request)
    }

    /// Frees pool memory.
    pub(crate) fn pool_free(&self, address: usize, tag: Option<u32>, by: &'static str) -> bool {
        self.pool.free(self, address, tag, by)
    }

    /// Allocates for a driver's Rust code.
    pub(crate) fn heap_alloc(&self, request: &Request) -> Option<usize> {
        if context::irql() > DISPATCH {
            verifier::violation(
                rules::IRQL,
                format!(
                    "driver code allocates {} bytes at IRQL {}",
                    request.size,
                    context::irql()
                ),
            );
        }
        self.pool_alloc(request)
    }

    /// Frees what `heap_alloc` gave.
    pub(crate) fn heap_free(&self, address: usize) {
        self.pool_free(address, None, "the Rust heap");
    }

    /// Zeroed memory of the kernel itself, at a kernel address.
    pub(crate) fn kernel_alloc(&self, size: usize, function: &'static str) -> Option<usize> {
        self.pool_alloc(&Request {
            size,
            align: 16,
            tag: u32::from_le_bytes(*b"Ntsm"),
            zero: true,
            paged: false,
            owner: 0,
            function,
        })
    }
}
