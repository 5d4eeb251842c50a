//! Without the WDK: what its libraries would bring.

use core::ffi::{c_char, c_int, c_void};
use core::panic::PanicInfo;

#[global_allocator]
static ALLOCATOR: nt::pool::Allocator = nt::pool::Allocator;

/// The bug check of a panic: MANUALLY_INITIATED_CRASH1, which no component of the system uses for faults of its own.
const BUG_CHECK: u32 = 0xdead_dead;

/// A panic is a bug in the driver, and the machine stops. The parameters lead to the place: a mark, the file's name and its
/// length, the line.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    nt::debug_print!(Error, "{info}");
    let (file, len, line) = match info.location() {
        Some(at) => (
            at.file().as_ptr().addr(),
            at.file().len(),
            at.line() as usize,
        ),
        None => (0, 0, 0),
    };
    // SAFETY: never returns; no conditions.
    unsafe {
        nt::sys::KeBugCheckEx(
            BUG_CHECK,
            usize::from_le_bytes(*b"vroce\0\0\0"),
            file,
            len,
            line,
        )
    }
}

/// The compiler refers to it wherever floating point occurs.
#[unsafe(no_mangle)]
static _fltused: c_int = 0;

/// ExceptionContinueSearch, of EXCEPTION_DISPOSITION: 0 would be to run the instruction once more that faulted.
const CONTINUE_SEARCH: c_int = 1;

/// The prebuilt `core` names a personality for unwinding. The image does not unwind: a panic stops the machine, and so does an exception,
/// which no frame of it takes. (`cargo xtask audit-image` sees to it that no frame asks here.)
#[unsafe(no_mangle)]
extern "C" fn __CxxFrameHandler3(
    _record: *mut c_void,
    _frame: *mut c_void,
    _context: *mut c_void,
    _dispatcher: *mut c_void,
) -> c_int {
    CONTINUE_SEARCH
}

// Functions that compiler and `core` call by name. The kernel exports them.
#[link(name = "ntoskrnl.exe", kind = "raw-dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn memcpy(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void;
    fn memmove(to: *mut c_void, from: *const c_void, len: usize) -> *mut c_void;
    fn memset(to: *mut c_void, byte: c_int, len: usize) -> *mut c_void;
    fn memcmp(a: *const c_void, b: *const c_void, len: usize) -> c_int;
    fn strlen(text: *const c_char) -> usize;
    /// Touches the stack of a function with a large frame, page by page. Takes its argument in RAX and changes no other register.
    fn __chkstk();
}

/// Keeps the imports above, which no Rust code names.
#[used]
static IMPORTS: Imports = Imports {
    _memcpy: memcpy,
    _memmove: memmove,
    _memset: memset,
    _memcmp: memcmp,
    _strlen: strlen,
    _chkstk: __chkstk,
};

struct Imports {
    _memcpy: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void,
    _memmove: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void,
    _memset: unsafe extern "C" fn(*mut c_void, c_int, usize) -> *mut c_void,
    _memcmp: unsafe extern "C" fn(*const c_void, *const c_void, usize) -> c_int,
    _strlen: unsafe extern "C" fn(*const c_char) -> usize,
    _chkstk: unsafe extern "C" fn(),
}
