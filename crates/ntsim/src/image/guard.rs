//! Control flow guard: whether a function of an image may be called through a pointer.
//!
//! An image that was compiled and linked for it has a table of such functions, and its own indirect calls go through two pointers that
//! lead here. Calls of the simulated kernel into drivers look their target up as well. What lies in no image with a table passes: for
//! user mode Microsoft documents that code with and without it mixes; what the kernel does is not documented.

use std::arch::naked_asm;
use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::Images;
use crate::verifier::{self, Function, rules};
use crate::world::context::{self, KernelMode};

/// The tables of a machine's images. Every call into a driver and every indirect call of an image looks here: so the machine has them
/// at hand, and they remember what was found last.
pub(crate) struct Tables {
    /// The range of each loaded image that has a table, and the offsets in it, in order.
    images: RefCell<Vec<(Range<usize>, Vec<u32>)>>,
    /// Targets that were allowed, each in the place that its address gives it.
    recent: [Cell<usize>; RECENT],
}

/// How many: few drivers call more functions through pointers.
const RECENT: usize = 256;

impl Default for Tables {
    fn default() -> Self {
        Self {
            images: RefCell::default(),
            recent: [const { Cell::new(0) }; RECENT],
        }
    }
}

impl Tables {
    /// `targets` are offsets in the image that lies at `range`, in order.
    pub(crate) fn add(&self, range: Range<usize>, targets: Vec<u32>) {
        self.images.borrow_mut().push((range, targets));
        self.forget();
    }

    /// The image that lies there is unloaded.
    pub(super) fn remove(&self, base: usize) {
        self.images
            .borrow_mut()
            .retain(|(range, _)| range.start != base);
        self.forget();
    }

    fn forget(&self) {
        self.recent.iter().for_each(|place| place.set(0));
    }

    #[inline]
    fn allow(&self, target: usize) -> bool {
        // Functions begin at multiples of 16.
        let place = &self.recent[(target >> 4) % RECENT];
        if place.get() == target {
            return true;
        }
        let allowed = self.search(target);
        if allowed {
            place.set(target);
        }
        allowed
    }

    #[inline(never)]
    fn search(&self, target: usize) -> bool {
        let images = self.images.borrow();
        let table = images.iter().find(|(range, _)| range.contains(&target));
        table.is_none_or(|(range, targets)| {
            let at = (target - range.start) as u32;
            targets.binary_search(&at).is_ok()
        })
    }
}

#[inline]
fn is_allowed(target: usize) -> bool {
    let machine = context::with(|c| c.machine.get());
    // SAFETY: the world keeps it while it is in the context.
    let machine = unsafe { machine.as_ref() };
    machine.is_none_or(|machine| machine.guard.allow(target))
}

/// What a function is that may not be called through a pointer. None if it may be.
#[inline]
pub(crate) fn refused(target: *const ()) -> Option<String> {
    (!is_allowed(target.addr())).then(|| named(target.addr()))
}

#[cold]
#[inline(never)]
fn named(target: usize) -> String {
    let _kernel = KernelMode::enter();
    let name = context::try_machine().and_then(|m| m.ext::<Images>().describe(target));
    let name = name.unwrap_or_else(|| format!("{target:#x}"));
    format!("{name}, which the image's table of allowed targets lacks")
}

/// The kernel is about to call a driver's function.
#[inline]
pub(crate) fn entering_driver(function: &'static Function, target: *const ()) {
    if !is_allowed(target.addr()) {
        accuse(function.name, target.addr());
    }
}

#[cold]
#[inline(never)]
fn accuse(what: &str, target: usize) {
    let _kernel = KernelMode::enter();
    let text = format!("{what} is {}", named(target));
    verifier::violation(rules::GUARD_TARGET, text);
}

/// The functions that images call: the first checks the target in RCX, the second goes on to the one in RAX.
pub(super) fn stubs() -> (usize, usize) {
    ((check as *const ()).addr(), (dispatch as *const ()).addr())
}

extern "efiapi" fn look_up(target: usize) {
    if !is_allowed(target) {
        accuse("the target of an indirect call", target);
    }
}

/// Calls `look_up` with what is in a register, and leaves all registers as they were: arguments of the call are in them.
macro_rules! looking_up {
    ($target:literal, $then:literal) => {
        naked_asm!(
            ".cfi_startproc",
            "sub rsp, 184",
            ".cfi_adjust_cfa_offset 184",
            "movaps [rsp + 32], xmm0",
            "movaps [rsp + 48], xmm1",
            "movaps [rsp + 64], xmm2",
            "movaps [rsp + 80], xmm3",
            "movaps [rsp + 96], xmm4",
            "movaps [rsp + 112], xmm5",
            "mov [rsp + 128], rax",
            "mov [rsp + 136], rcx",
            "mov [rsp + 144], rdx",
            "mov [rsp + 152], r8",
            "mov [rsp + 160], r9",
            "mov [rsp + 168], r10",
            "mov [rsp + 176], r11",
            concat!("mov rcx, ", $target),
            "call {look_up}",
            "movaps xmm0, [rsp + 32]",
            "movaps xmm1, [rsp + 48]",
            "movaps xmm2, [rsp + 64]",
            "movaps xmm3, [rsp + 80]",
            "movaps xmm4, [rsp + 96]",
            "movaps xmm5, [rsp + 112]",
            "mov rax, [rsp + 128]",
            "mov rcx, [rsp + 136]",
            "mov rdx, [rsp + 144]",
            "mov r8, [rsp + 152]",
            "mov r9, [rsp + 160]",
            "mov r10, [rsp + 168]",
            "mov r11, [rsp + 176]",
            "add rsp, 184",
            ".cfi_adjust_cfa_offset -184",
            $then,
            ".cfi_endproc",
            look_up = sym look_up,
        )
    };
}

/// # Safety
/// Called by instrumented code.
#[unsafe(naked)]
unsafe extern "efiapi" fn check() {
    looking_up!("rcx", "ret")
}

/// # Safety
/// Called by instrumented code.
#[unsafe(naked)]
unsafe extern "efiapi" fn dispatch() {
    looking_up!("rax", "jmp rax")
}

#[cfg(test)]
mod tests {
    use super::{RECENT, Tables};

    #[test]
    fn what_was_allowed_is_forgotten_with_its_image() {
        let tables = Tables::default();
        let (base, size) = (0x10_0000, 0x1_0000);
        // The last two have one place.
        let known = [0x10, 0x20, 0x20 + 16 * RECENT];
        tables.add(base..base + size, known.map(|at| at as u32).to_vec());
        for _ in 0..2 {
            for at in known {
                assert!(tables.allow(base + at), "{at:#x}");
                assert!(!tables.allow(base + at + 1), "{at:#x}");
            }
        }
        assert!(tables.allow(base + size), "in no image with a table");
        tables.remove(base);
        assert!(tables.allow(base + 0x11));
        tables.add(base..base + 2 * size, vec![0x30]);
        for at in known.into_iter().chain([0x11, size]) {
            assert!(!tables.allow(base + at), "{at:#x}");
        }
        assert!(tables.allow(base + 0x30));
    }
}
