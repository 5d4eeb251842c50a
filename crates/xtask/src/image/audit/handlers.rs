//! Whether the image would handle exceptions.

use super::pe::Pe;
use super::{Finding, Seen, X64_ONLY};
use object::LittleEndian as LE;
use object::pe::IMAGE_FILE_MACHINE_AMD64;
use object::read::pe::ImageNtHeaders;

/// UNW_FLAG_EHANDLER and UNW_FLAG_UHANDLER ("x64 exception handling", section "Struct UNWIND_INFO").
const HANDLED: u8 = 1 | 2;

/// Looks at the unwind information of all functions. None may have a handler: the image does not unwind, and what it has in place of a
/// handler only passes exceptions on.
pub fn look(image: &Pe<'_>) -> Finding {
    let what = "exception handlers";
    if image.headers().file_header().machine.get(LE) != IMAGE_FILE_MACHINE_AMD64 {
        return Finding {
            what,
            seen: Seen::Nothing(X64_ONLY),
        };
    }
    let functions = image.functions();
    let flags = |unwind: u32| image.memory.get(unwind as usize).map(|first| first >> 3);
    let handled: Vec<String> = functions
        .iter()
        .filter(|function| flags(function.unwind).is_none_or(|flags| flags & HANDLED != 0))
        .map(|function| format!("{:#x}", function.begin))
        .collect();
    let seen = if handled.is_empty() {
        Ok(format!("none in {} functions", functions.len()))
    } else {
        Err(format!("at {}", handled.join(" ")))
    };
    Finding {
        what,
        seen: seen.into(),
    }
}
