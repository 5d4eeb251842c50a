//! The load configuration directory ("PE format", section "The Load Configuration Structure"): what the loader reads there, and what it
//! writes where it points.

use super::file::Layout;
use super::{ImageError, guard};

/// Where fields are. The directory begins with its size, from which on they exist.
const SECURITY_COOKIE: usize = 0x58;
const GUARD_CHECK: usize = 0x70;
const GUARD_DISPATCH: usize = 0x78;
const GUARD_TABLE: usize = 0x80;
const GUARD_COUNT: usize = 0x88;
const GUARD_FLAGS: usize = 0x90;

/// IMAGE_GUARD_CF_INSTRUMENTED: calls of the image are checked.
const INSTRUMENTED: u64 = 0x100;
/// IMAGE_GUARD_CF_FUNCTION_TABLE_PRESENT.
const TABLE_PRESENT: u64 = 0x400;
/// IMAGE_GUARD_CF_FUNCTION_TABLE_SIZE_SHIFT: from there on the flags are how many bytes more than an address an entry has.
const MORE_BYTES: u32 = 28;
/// IMAGE_GUARD_FLAG_FID_SUPPRESSED, in the first of those bytes: the function is not to be called through pointers after all.
const SUPPRESSED: u8 = 1;

/// The cookie an image is linked with; the loader replaces it.
const DEFAULT_COOKIE: u64 = 0x0000_2b99_2ddf_a232;
/// A cookie has its upper 16 bits clear.
const COOKIE_MASK: u64 = 0x0000_ffff_ffff_ffff;

pub(super) fn get(memory: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&memory[at..at + 8]);
    u64::from_le_bytes(word)
}

pub(super) fn put(memory: &mut [u8], at: usize, value: u64) {
    memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn word(memory: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&memory[at..at + 4]);
    u32::from_le_bytes(word)
}

/// The directory of an image that lies relocated in `memory`, which will be at `base`.
struct Directory {
    at: usize,
    size: usize,
    base: usize,
}

impl Directory {
    /// Where a field of so many bytes is, if the directory has it.
    fn field(&self, memory: &[u8], field: usize, len: usize) -> Option<usize> {
        let end = self.at + field + len;
        (self.size >= field + len && end <= memory.len()).then_some(self.at + field)
    }

    /// Where in the image a field points to.
    fn pointed(&self, memory: &[u8], field: usize) -> Option<usize> {
        let address = get(memory, self.field(memory, field, 8)?) as usize;
        let at = address.checked_sub(self.base)?;
        (at < memory.len()).then_some(at)
    }

    /// The same, to 8 bytes.
    fn slot(&self, memory: &[u8], field: usize) -> Option<usize> {
        self.pointed(memory, field)
            .filter(|at| at + 8 <= memory.len())
    }

    /// The functions that may be called through pointers, in order. None if control flow guard is not for this image.
    fn targets(&self, memory: &[u8]) -> Result<Option<Vec<u32>>, ImageError> {
        let flags = self.field(memory, GUARD_FLAGS, 4);
        let flags = flags.map_or(0, |at| word(memory, at));
        let wanted = INSTRUMENTED | TABLE_PRESENT;
        if u64::from(flags) & wanted != wanted {
            return Ok(None);
        }
        let malformed =
            |what: &str| ImageError::Malformed(format!("its table of allowed targets {what}"));
        let count = self.field(memory, GUARD_COUNT, 8);
        let count = count.map_or(0, |at| get(memory, at) as usize);
        let stride = 4 + (flags >> MORE_BYTES) as usize;
        let at = match self.pointed(memory, GUARD_TABLE) {
            Some(at) => at,
            None if count == 0 => 0,
            None => return Err(malformed("lies outside the image")),
        };
        let table = count
            .checked_mul(stride)
            .and_then(|len| memory.get(at..at.checked_add(len)?))
            .ok_or_else(|| malformed("lies outside the image"))?;
        let entries: Vec<_> = table.chunks_exact(stride).collect();
        if !entries.is_sorted_by_key(|entry| word(entry, 0)) {
            return Err(malformed("is not in order"));
        }
        let allowed = |entry: &&&[u8]| entry.get(4).is_none_or(|flags| flags & SUPPRESSED == 0);
        let targets = entries.iter().filter(allowed);
        Ok(Some(targets.map(|entry| word(entry, 0)).collect()))
    }
}

/// Sets the stack cookie and the functions of control flow guard of an image that is relocated. Gives the functions that may be called
/// through pointers, in order; None if it was not made for control flow guard.
pub(super) fn apply(
    memory: &mut [u8],
    layout: &Layout,
    base: usize,
    random: u64,
) -> Result<Option<Vec<u32>>, ImageError> {
    let Some((at, _)) = layout.load_config else {
        return Ok(None);
    };
    let directory = Directory {
        at,
        size: word(memory, at) as usize,
        base,
    };
    if let Some(at) = directory.slot(memory, SECURITY_COOKIE)
        && get(memory, at) == DEFAULT_COOKIE
    {
        // Never zero, and never the default, which would say that nobody set it.
        put(memory, at, (random & COOKIE_MASK & !1) | 2);
    }
    let (check, dispatch) = guard::stubs();
    for (field, stub) in [(GUARD_CHECK, check), (GUARD_DISPATCH, dispatch)] {
        if let Some(at) = directory.slot(memory, field) {
            put(memory, at, stub as u64);
        }
    }
    if !layout.guarded {
        return Ok(None);
    }
    directory.targets(memory)
}
