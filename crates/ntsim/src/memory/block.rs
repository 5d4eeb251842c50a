//! A block of the pool: its guards, what fills it, and how reports tell of it.

use std::ops::Range;

use super::ram::{PAGE, Ram};
use crate::verifier::{self, Origin, rules};
use crate::world::driver::DriverNumber;

/// Bytes in front of and behind every small block.
pub(super) const GUARD: usize = 16;
pub(super) const GUARD_BYTE: u8 = 0xfa;
/// What uninitialised memory holds.
pub(super) const FRESH_BYTE: u8 = 0xcd;
/// What freed memory holds.
pub(super) const POISON_BYTE: u8 = 0x6b;
/// Small blocks come in multiples of this, guards included.
pub(super) const STEP: usize = 32;
/// Blocks larger than this, guards included, get pages of their own.
pub(super) const LARGEST_SMALL: usize = 2048;

/// A block given out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) size: usize,
    pub(super) tag: u32,
    pub(super) owner: DriverNumber,
    /// What allocated it.
    pub(super) function: &'static str,
    pub(super) allocated: Origin,
    /// Of a block in quarantine.
    pub(super) freed: Origin,
    pub(super) paged: bool,
    /// Pages of its own; 0 for a small block.
    pub(super) pages: u32,
    /// Guard bytes in front of it.
    pub(super) front: usize,
    /// Behind its pages is one more, which nobody may access.
    pub(super) guarded: bool,
    /// They are a slot of special pool.
    pub(super) slot: bool,
    /// It was freed, and nobody may access it.
    pub(super) inaccessible: bool,
}

impl Block {
    /// Where it was allocated, and where freed, a line for each place.
    pub(super) fn story(&self) -> String {
        self.allocated.told("allocated in") + &self.freed.told("freed in")
    }

    /// Where in it, before it or behind it an address lies, as reports name it.
    pub(super) fn place(&self, start: usize, address: usize) -> String {
        let place = match address.checked_sub(start) {
            None => format!("{} bytes before", start - address),
            Some(offset) if offset >= self.size => format!("{} bytes behind", offset - self.size),
            Some(offset) => format!("offset {offset} of"),
        };
        format!(
            "{place} the block of {} bytes at {start:#x} (tag '{}', allocated by {})",
            self.size,
            tag_text(self.tag),
            self.function
        )
    }

    /// Bytes up to the next block, from the block's own address.
    pub(super) fn extent(&self) -> usize {
        if self.pages > 0 {
            self.pages as usize * PAGE - self.front
        } else {
            small_total(self.size) - self.front
        }
    }

    /// What it counts for in quarantine.
    pub(super) fn weight(&self) -> usize {
        self.size.max(self.pages as usize * PAGE / 2)
    }
}

pub(super) fn small_total(size: usize) -> usize {
    (GUARD + size + GUARD).next_multiple_of(STEP)
}

/// Shows a tag as its four characters.
pub(crate) fn tag_text(tag: u32) -> String {
    tag.to_le_bytes()
        .iter()
        .map(|b| {
            if b.is_ascii_graphic() || *b == b' ' {
                char::from(*b)
            } else {
                '.'
            }
        })
        .collect()
}

/// Fills memory.
///
/// # Safety
/// The caller owns the bytes.
pub(super) unsafe fn fill(address: usize, byte: u8, len: usize) {
    let start = std::ptr::with_exposed_provenance_mut::<u8>(address);
    // SAFETY: as promised by the caller.
    unsafe { start.write_bytes(byte, len) };
}

/// A page of what guards and freed memory hold, to compare with.
#[repr(align(64))]
struct Pattern([u8; PAGE]);

static GUARDS: Pattern = Pattern([GUARD_BYTE; PAGE]);
static POISON: Pattern = Pattern([POISON_BYTE; PAGE]);

/// The first byte of a piece of memory that is not what it should be.
///
/// # Safety
/// The caller owns the bytes.
unsafe fn find_other(address: usize, pattern: &Pattern, len: usize) -> Option<usize> {
    // SAFETY: as promised by the caller.
    let bytes =
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(address), len) };
    let mut pages = bytes.chunks(PAGE);
    let page = pages.position(|page| *page != pattern.0[..page.len()])?;
    let at = page * PAGE;
    let other = |(byte, should): (&u8, &u8)| byte != should;
    let inside = bytes[at..].iter().zip(&pattern.0).position(other)?;
    Some(at + inside)
}

/// Whether memory holds what it was filled with, as devices see it.
fn holds_elsewhere(ram: &Ram, part: Range<usize>, pattern: &Pattern) -> bool {
    let mut at = part.start;
    while at < part.end {
        let len = (PAGE - at % PAGE).min(part.end - at);
        let seen = ram
            .physical(at)
            .and_then(|p| ram.device_ptr(ram.logical(p), len));
        let holds = seen.is_some_and(|seen| {
            // SAFETY: memory of the machine, which has it mapped; nobody writes it meanwhile.
            unsafe { find_other(seen.expose_provenance(), pattern, len) }.is_none()
        });
        if !holds {
            return false;
        }
        at += len;
    }
    true
}

impl Block {
    /// Whether a freed block and its guards hold what they were filled with, as devices see them.
    pub(super) fn is_untouched_elsewhere(&self, ram: &Ram, address: usize) -> bool {
        let (start, end) = (address - self.front, address + self.size);
        holds_elsewhere(ram, start..address, &GUARDS)
            && holds_elsewhere(ram, address..end, &POISON)
            && holds_elsewhere(ram, end..address + self.extent(), &GUARDS)
    }

    pub(super) fn check_guards(&self, address: usize, by: &str) {
        let front = self.front;
        let behind = self.extent() - self.size;
        // SAFETY: the guards belong to the pool.
        let (before, after) = unsafe {
            (
                find_other(address - front, &GUARDS, front),
                find_other(address + self.size, &GUARDS, behind),
            )
        };
        let place = match (before, after) {
            (Some(at), _) => format!("{} bytes before", front - at),
            (_, Some(at)) => format!("{at} bytes behind"),
            _ => return,
        };
        // SAFETY: as above.
        unsafe {
            fill(address - front, GUARD_BYTE, front);
            fill(address + self.size, GUARD_BYTE, behind);
        }
        verifier::violation(
            rules::POOL_GUARD,
            format!(
                "somebody wrote {place} the block of {} bytes at {address:#x} (tag '{}', allocated by {}); found by {by}{}",
                self.size,
                tag_text(self.tag),
                self.function,
                self.story()
            ),
        );
    }

    /// Puts into freed memory what consumers of NDK objects that were there will read.
    pub(super) fn set_tombstones(&self, address: usize) {
        for (at, word) in crate::ndk::tombstones(address, self.size) {
            // SAFETY: a word in the block, which belongs to the pool.
            unsafe { std::ptr::with_exposed_provenance_mut::<usize>(at).write_unaligned(word) };
        }
    }

    /// Looks whether freed memory was written, and, if that is asked for, what is around it.
    pub(super) fn check_freed(&self, address: usize, guards: bool) {
        if guards {
            self.check_guards(address, "a look at what was freed");
        }
        self.check_poison(address);
    }

    fn check_poison(&self, address: usize) {
        for (at, word) in crate::ndk::tombstones(address, self.size) {
            // SAFETY: as in `set_tombstones`.
            if unsafe { std::ptr::with_exposed_provenance::<usize>(at).read_unaligned() } == word {
                // SAFETY: likewise.
                unsafe { fill(at, POISON_BYTE, size_of::<usize>()) };
            }
        }
        // SAFETY: quarantined memory belongs to the pool.
        if let Some(at) = unsafe { find_other(address, &POISON, self.size) } {
            // SAFETY: as above.
            unsafe { fill(address, POISON_BYTE, self.size) };
            verifier::violation(
                rules::POOL_USE_AFTER_FREE,
                format!(
                    "somebody wrote at offset {at} of the block of {} bytes at {address:#x} (tag '{}', allocated by {}) \
                     after it was freed{}",
                    self.size,
                    tag_text(self.tag),
                    self.function,
                    self.story()
                ),
            );
        }
    }
}
