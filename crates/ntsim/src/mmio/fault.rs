//! The process-wide handler of access violations.
//!
//! It runs on a stack for signals, where the faulting code's own may be used up; otherwise serving an access is like a
//! function call the code did not know about. Faults at other addresses end the simulated world if they happen on one of its threads; all others go to
//! the handler that was there before, so that bugs of the host crash as they always did.

use std::backtrace::Backtrace;
use std::cell::{RefCell, UnsafeCell};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::ptr;
use std::sync::Once;

use libc::{c_int, c_void, siginfo_t, ucontext_t};

use super::{decode, execute, mapping};
use crate::image::{Frame, Images};
use crate::memory::paged;
use crate::verifier::{self, Site, rules};
use crate::world::context::{self, KernelMode};
use crate::world::thread;

/// What the system sends whoever accesses what he may not, and what lies behind the end of a file, as guards of special pool do.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// The actions that were there before ours.
struct Previous([UnsafeCell<MaybeUninit<libc::sigaction>>; SIGNALS.len()]);

// SAFETY: written once, inside `Once::call_once` before the handler is installed; afterwards only read.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous =
    Previous([const { UnsafeCell::new(MaybeUninit::uninit()) }; SIGNALS.len()]);
static INSTALL: Once = Once::new();

/// Installs the handler, once per process.
pub(crate) fn install() {
    INSTALL.call_once(|| {
        decode::prepare();
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS.0) {
            // SAFETY: plain system calls on zero-initialised structures; the handler has the signature that
            // SA_SIGINFO asks for. The previous action is stored before ours can run.
            let installed = unsafe {
                libc::sigaction(signal, ptr::null(), (*previous.get()).as_mut_ptr()) == 0 && {
                    let mut action: libc::sigaction = std::mem::zeroed();
                    action.sa_sigaction = handler as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK;
                    libc::sigemptyset(&mut action.sa_mask);
                    libc::sigaction(signal, &action, ptr::null_mut()) == 0
                }
            };
            assert!(installed, "sigaction({signal}) failed");
        }
    });
}

unsafe extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes valid pointers to an SA_SIGINFO handler; the context is the interrupted code's,
    // ours to change until we return.
    let (address, fault, interrupted) = unsafe {
        (
            (*info).si_addr() as usize,
            (*info).si_code > 0,
            &mut *context.cast::<ucontext_t>(),
        )
    };
    // Memory that is there, and that the host has no more to give for: no fault of who accesses it.
    let exhausted = signal == libc::SIGBUS && paged::is_memory(address);
    if fault && !exhausted {
        // The access is a driver's, what serves it is not: its allocations are not the driver's either.
        let kernel = KernelMode::enter();
        let served = paged::page_in(address) || serve(address, interrupted);
        drop(kernel);
        if served {
            return;
        }
        if thread::on_thread() {
            thread::check_overflow(address, || culprit(interrupted));
            // Does not return.
            violation(address, interrupted);
        }
    }
    if exhausted {
        let text = "ntsim: the host has no memory left for a machine\n";
        // SAFETY: text of that length; what becomes of it does not matter to who is about to end.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: called with what the kernel gave us.
    unsafe { chain(signal, info, context) };
}

fn rip(context: &ucontext_t) -> usize {
    context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
}

thread_local! {
    /// What a violation's report says; set while its backtrace is made, in case the unwinder faults.
    static REPORTING: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Simulated code accessed what is not there: stops the world. The stack, with the handler's frame on it, is left as
/// it is.
fn violation(address: usize, context: &ucontext_t) {
    if let Some(text) = REPORTING.take() {
        // The unwinder holds locks: there is no way on from here.
        eprintln!("ntsim: {text}; and unwinding from there fails");
        process::abort();
    }
    // What is said of a driver's code is not allocated by the driver, whose memory may be what is short.
    let kernel = KernelMode::enter();
    let rip = rip(context);
    // Bit 1 of the processor's error code: a store.
    let store = context.uc_mcontext.gregs[libc::REG_ERR as usize] & 2 != 0;
    let what = if address == rip {
        "jump to"
    } else if store {
        "store to"
    } else {
        "load from"
    };
    // The processor does not tell addresses that are not canonical: they are reported as 0.
    let text = format!(
        "{what} {} by the instruction at {}",
        named(address),
        named(rip)
    );
    let interrupted = frame(context);
    let called;
    let site = if address == rip {
        // There is nothing to unwind from where no code is; but who called it left an address.
        called = interrupted.returned(&thread::stack_word);
        Site::At(called.as_ref())
    } else if in_image(rip) {
        Site::At(Some(&interrupted))
    } else {
        Site::Unwind
    };
    let backtrace = {
        REPORTING.set(Some(text.clone()));
        // The simulator's own frames say nothing to who looks for a place in an image, and there are none where no code is.
        let backtrace = if address == rip || !verifier::called_from(site).is_empty() {
            Backtrace::disabled()
        } else {
            Backtrace::capture()
        };
        REPORTING.set(None);
        backtrace
    };
    let (rule, text) = if let Some(memory) = paged::absent(address) {
        (rules::PAGED_ACCESS, format!("{text}, which is {memory}"))
    } else if let Some(block) = paged::freed(address) {
        (rules::POOL_USE_AFTER_FREE, format!("{text}: {block}"))
    } else if let Some(block) = paged::guarded(address) {
        (rules::POOL_GUARD, format!("{text}: {block}"))
    } else if let Some(buffer) = paged::guarded_for_dma(address) {
        (rules::DMA_MISUSE, format!("{text}: {buffer}"))
    } else {
        (rules::ACCESS_VIOLATION, text)
    };
    drop(kernel);
    crate::world::access_violation(rule, &text, site, &backtrace);
}

/// Whether an address lies in a loaded image.
fn in_image(address: usize) -> bool {
    let _kernel = KernelMode::enter();
    context::try_machine().is_some_and(|m| m.ext::<Images>().contains(address))
}

/// The frame of the interrupted code.
fn frame(context: &ucontext_t) -> Frame {
    use libc::{REG_R8, REG_RAX, REG_RBP, REG_RBX, REG_RCX, REG_RDI, REG_RDX, REG_RSI, REG_RSP};
    let register = |index: c_int| context.uc_mcontext.gregs[index as usize] as usize;
    let low = [
        REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    ];
    let general = std::array::from_fn(|number| {
        let index = low.get(number).copied();
        Some(register(index.unwrap_or(REG_R8 + number as c_int - 8)))
    });
    Frame {
        ip: rip(context),
        calls: false,
        sp: register(REG_RSP),
        general,
    }
}

/// An address, and what it is if it lies in a driver's image.
fn named(address: usize) -> String {
    let _kernel = KernelMode::enter();
    let image = context::try_machine().and_then(|m| m.ext::<Images>().describe(address));
    match image {
        Some(image) => format!("{address:#x} = {image}"),
        None => format!("{address:#x}"),
    }
}

/// The instruction that used up the stack. If it is the kernel's own, as the probe of large frames is, its caller's, whose address
/// nothing has been put over yet.
fn culprit(interrupted: &ucontext_t) -> String {
    let _kernel = KernelMode::enter();
    let named = |address| context::try_machine()?.ext::<Images>().describe(address);
    let caller = || named(frame(interrupted).returned(&thread::stack_word)?.address());
    let rip = rip(interrupted);
    named(rip)
        .or_else(caller)
        .unwrap_or_else(|| format!("the instruction at {rip:#x}"))
}

/// Serves the access if the address is a device's. False: not ours.
fn serve(address: usize, context: &mut ucontext_t) -> bool {
    let Some((registers, offset)) = mapping::find(address) else {
        return false;
    };
    // A panic must not unwind through code that does not know it called us.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let rip = rip(context);
        // SAFETY: the processor has just executed the instruction at RIP, so it can be read there.
        let access = unsafe { decode::at(rip) };
        if let Ok(access) = &access
            && execute::perform(access, context, &*registers, offset)
        {
            return true;
        }
        let text = format!(
            "register at offset {offset:#x} accessed by an instruction that registers are not accessed with, at \
             {rip:#x}: {:02x?}",
            access.err()
        );
        if thread::on_thread() {
            verifier::bugcheck(rules::REGISTER_INSTRUCTION, text);
        }
        eprintln!("ntsim: {text}");
        false
    }));
    match result {
        Ok(served) => served,
        Err(_) => {
            eprintln!(
                "ntsim: the device model panicked while serving an access at offset {offset:#x}"
            );
            process::abort();
        }
    }
}

/// Lets the previous handler have the signal.
///
/// # Safety
/// The arguments must be those of the signal being handled.
unsafe fn chain(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let index = usize::from(signal == SIGNALS[1]);
    // SAFETY: initialised by `install` before the handler could run, and not written since.
    let previous = unsafe { (*PREVIOUS.0[index].get()).assume_init_ref() };
    let target = previous.sa_sigaction;
    if target == libc::SIG_DFL || target == libc::SIG_IGN {
        // The instruction faults again when we return, and then the default action is taken.
        // SAFETY: resetting a signal to its default action.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    } else if previous.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: with SA_SIGINFO the field holds a function of this signature.
        unsafe {
            let target: unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                std::mem::transmute(target);
            target(signal, info, context);
        }
    } else {
        // SAFETY: without SA_SIGINFO it is a function of this one.
        unsafe {
            let target: unsafe extern "C" fn(c_int) = std::mem::transmute(target);
            target(signal);
        }
    }
}
