//! What the kernel uses and drivers keep on their stacks: it must not be in use any more when the function returns whose variable it is.

use super::context;
use super::thread;
use crate::exports::lookaside::Lists;
use crate::exports::resource::Resources;
use crate::verifier::{self, rules};

/// The kernel is going to use an object of a driver's: notes it if it lies on the running thread's stack.
#[inline]
pub(crate) fn note(object: usize) {
    if thread::is_on_stack(object) {
        thread::with_objects(|objects| {
            let mut objects = objects.borrow_mut();
            if !objects.contains(&object) {
                objects.push(object);
            }
        });
    }
}

/// A handler or callback returns to a frame of the kernel's at that address: all below are gone.
#[inline]
pub(crate) fn check_return(function: &str, frame: usize) {
    if thread::with_objects(|objects| !objects.borrow().is_empty()) == Some(true) {
        check(function, frame);
    }
}

#[cold]
#[inline(never)]
fn check(function: &str, frame: usize) {
    let gone = thread::with_objects(|objects| {
        let mut objects = objects.borrow_mut();
        let gone: Vec<_> = objects.iter().copied().filter(|o| *o < frame).collect();
        objects.retain(|object| *object >= frame);
        gone
    });
    for object in gone.unwrap_or_default() {
        if let Some(what) = still_used(object) {
            verifier::violation(
                rules::FREED_IN_USE,
                format!("{function} returned, and on its stack, at {object:#x}, lies {what}"),
            );
        }
    }
}

/// What lies there that the kernel uses. It is taken back, so that the report is what ends the run.
fn still_used(object: usize) -> Option<&'static str> {
    let machine = context::machine();
    let there = |at: usize| at == object;
    if let Some((timer, _)) = machine.timers.find(there) {
        machine.cancel_timer(timer);
        return Some("a running timer or its DPC");
    }
    if machine.processors.iter().any(|p| p.remove_dpc(object)) {
        return Some("a queued DPC");
    }
    if machine.ext::<Resources>().find(there).is_some() {
        return Some("a resource that was not deleted");
    }
    let list = machine.ext::<Lists>().find(there);
    list.map(|_| "a lookaside list that was not deleted")
}
