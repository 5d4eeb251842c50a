//! Stacks and switching between them: what kernel threads are made of.
//!
//! Driver code never runs on the test's own stack. So a driver that waits can be left where it is while the
//! world goes on, and one that deadlocks or bugchecks can be left for good, without unwinding through its frames.

use std::arch::naked_asm;
use std::cell::Cell;
use std::io;
use std::ptr;

/// Bytes of stack a kernel thread has. More than Windows gives (24 KiB): test code runs on it too.
const STACK_SIZE: usize = 1 << 20;
const GUARD: usize = 1 << 16;

/// Bytes that code may use of it before it is accused: several times what Windows gives, because unoptimised code and the
/// simulator's own frames lie on it too (77 KiB at most were seen in this project's tests), and far below what is there.
pub(crate) const STACK_LIMIT: usize = 160 << 10;
/// What lies there until then.
const PAINT: u64 = 0x7f4a_7c15_9e37_79b9;
const PAINTED: usize = 4096 / size_of::<u64>();

/// A mapped stack with inaccessible pages below it.
pub(crate) struct Stack {
    base: *mut u8,
    released: Cell<bool>,
}

impl Stack {
    /// Maps a stack whose first switch calls `entry`, which must not return.
    pub(crate) fn new(entry: extern "sysv64" fn() -> !) -> io::Result<(Stack, usize)> {
        // SAFETY: an anonymous private mapping at an address of the system's choice affects nothing else.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                STACK_SIZE + GUARD,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack {
            base: base.cast(),
            released: Cell::new(false),
        };
        // SAFETY: the first pages of the mapping just made.
        if unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // From the top down: a zero return address for `entry` (ends backtraces), `entry` for the `ret` in
        // `switch`, and the six registers `switch` pops. On entry to a function rsp is 8 below a multiple of 16.
        // SAFETY: all within the mapping; the top is page aligned.
        let sp = unsafe {
            let top = stack.base.add(GUARD + STACK_SIZE).cast::<usize>();
            top.sub(1).write(0);
            top.sub(2).write(entry as usize);
            for register in 3..=8 {
                top.sub(register).write(0);
            }
            top.sub(8) as usize
        };
        stack.paint();
        Ok((stack, sp))
    }

    /// The page beyond the limit.
    fn beyond(&self) -> *mut u64 {
        let offset = GUARD + STACK_SIZE - STACK_LIMIT - 4096;
        self.base.wrapping_add(offset).cast()
    }

    /// Paints the page beyond the limit, which nobody uses at the moment.
    pub(crate) fn paint(&self) {
        // SAFETY: within the mapping, aligned.
        unsafe { std::slice::from_raw_parts_mut(self.beyond(), PAINTED) }.fill(PAINT);
    }

    /// Whether code went beyond the limit since the page was painted: the compiler has frames touch every page.
    pub(crate) fn is_painted(&self) -> bool {
        // SAFETY: within the mapping, aligned; whoever runs on the stack is above.
        let page = unsafe { std::slice::from_raw_parts(self.beyond(), PAINTED) };
        // Without a branch for each word: this is asked after every job.
        page.iter().fold(0, |other, word| other | (word ^ PAINT)) == 0
    }
}

impl Stack {
    /// Whether that address is on the stack.
    pub(crate) fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.base as usize).wrapping_sub(GUARD) < STACK_SIZE
    }

    /// The word at an address, if that is on the stack, and aligned.
    pub(crate) fn word(&self, address: usize) -> Option<usize> {
        let on_it = self.contains(address)
            && address.is_multiple_of(size_of::<usize>())
            && !self.released.get();
        // SAFETY: mapped, readable, and aligned; the top of the stack is a multiple of a word's size.
        on_it.then(|| unsafe { (address as *const usize).read_volatile() })
    }

    /// Whether that address is just below the stack: where code goes that uses it up.
    pub(crate) fn overflows_to(&self, address: usize) -> bool {
        address.wrapping_sub(self.base as usize) < GUARD
    }
}

impl Stack {
    /// Gives the memory back, whatever lies on the stack.
    ///
    /// # Safety
    /// Nobody runs on the stack ever again, or looks at what lies there.
    pub(crate) unsafe fn release(&self) {
        if self.released.replace(true) {
            return;
        }
        // SAFETY: our own mapping; nobody runs on the stack any more.
        unsafe { libc::munmap(self.base.cast(), STACK_SIZE + GUARD) };
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: its thread owned it, and is gone.
        unsafe { self.release() };
    }
}

/// Saves the running stack's state, its pointer in `*save`, and continues the one whose pointer is `load`.
///
/// # Safety
/// `load` must come from `Stack::new` or from an earlier `switch` on a stack that still exists and runs nowhere,
/// and `save` must be valid for a write.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn switch(save: *mut usize, load: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}
