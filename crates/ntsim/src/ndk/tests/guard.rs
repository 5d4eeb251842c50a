//! Control flow guard between consumers and providers: code of this program stands for an image whose table lacks it.

use super::bench::*;
use super::fake::{Misdeed, Mode};
use super::fake_tables as tables;
use crate::verifier::rules;

/// An image that has one function, and a table without it.
fn lacking(b: &Bench, function: usize) {
    let machine = b.world.machine(b.machine);
    machine.guard.add(function..function + 1, Vec::new());
}

#[test]
fn a_function_of_a_dispatch_table() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    lacking(&b, tables::arm_of_cq());
    b.cq(Told::new()).expect("it is made all the same");
    let violations = b.violations();
    let [violation] = &violations[..] else {
        panic!("{violations:?}");
    };
    assert_eq!(violation.rule, rules::GUARD_TARGET);
    assert_ne!(violation.culprit, "code of the test");
    let text = &violation.text;
    assert!(text.contains("NdkArmCq of CQ 1"), "{text}");
    assert!(text.contains("table of allowed targets"), "{text}");
}

#[test]
fn a_callback_of_the_consumer() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let cq = b.cq(Told::new()).expect("a completion queue");
    lacking(&b, (on_event as *const ()).addr());
    assert!(b.close(cq), "it is called all the same");
    let violations = b.violations();
    let [violation] = &violations[..] else {
        panic!("{violations:?}");
    };
    assert_eq!(violation.rule, rules::GUARD_TARGET);
    assert_eq!(violation.culprit, "code of the test");
    let text = &violation.text;
    assert!(text.contains("NdkCloseCompletion is "), "{text}");
}
