//! Functions that are told with `Wait` that a wait follows: they may return with the dispatcher's database locked, and nothing may come
//! between them and the wait (pages nf-wdm-kesetevent, nf-wdm-kereleasesemaphore).

use super::{rules, violation};
use crate::world::{context, thread};

/// The calls that may follow.
const WAITS: [&str; 2] = ["KeWaitForSingleObject", "KeWaitForMultipleObjects"];

/// The running thread has told so, if `wait` is not zero.
pub(crate) fn promise(wait: u8) {
    if wait != 0 && thread::on_thread() {
        context::with(|c| c.owes_wait.set(c.thread.get()));
    }
}

/// Whether it is the running code that owes a wait. Others' calls and what interrupts it do not count.
fn is_owed() -> bool {
    context::with(|c| std::ptr::eq(c.owes_wait.get(), c.thread.get()))
        && context::with_processor(|p| p.nested()) == 0
}

fn settle() {
    context::with(|c| c.owes_wait.set(std::ptr::null()));
}

/// A function is called. For when somebody owes a wait.
#[cold]
#[inline(never)]
pub(crate) fn check_call(function: &str) {
    if is_owed() {
        settle();
        if !WAITS.contains(&function) {
            accuse(&format!("{function} is called"));
        }
    }
}

/// A handler or callback returns.
#[inline]
pub(crate) fn check_return(function: &str) {
    if context::with(|c| !c.owes_wait.get().is_null()) && is_owed() {
        settle();
        accuse(&format!("{function} returned"));
    }
}

fn accuse(what: &str) {
    let _kernel = context::KernelMode::enter();
    violation(
        rules::SET_AND_WAIT,
        format!("{what}, where a wait was to follow at once"),
    );
}
