//! Consumers that use objects wrongly.

use std::ptr::{null, null_mut};

use ndkpi::status::*;
use ndkpi::*;

use super::super::bench::*;
use super::super::consumers::connected;
use super::super::fake::{Misdeed, Mode};
use super::accused;
use crate::ndk::rules;
use crate::verifier::rules as kernel;
use crate::world::processor::{DISPATCH, PASSIVE};

#[test]
pub(super) fn consumers() {
    fn uses_what_it_closed(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let _qp = b.qp(pd, cq, cq, 1);
        let _ = b.start_close(cq);
        b.poll(cq);
    }
    fn sends_on_what_it_closed(b: &mut Bench) {
        let c = connected(b);
        b.close(c.qp);
        b.send(c.qp, 1, 0);
    }
    fn receives_on_what_it_closed(b: &mut Bench) {
        let c = connected(b);
        b.close(c.qp);
        b.receive(c.qp, 1);
    }
    fn closes_twice(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        b.close(cq);
        b.close(cq);
    }
    fn mixes_up_objects(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let receive_cq: *mut NDK_CQ = pd.cast();
        let made: Option<*mut NDK_QP> = b.create(|context, out| {
            let f = table!(pd).NdkCreateQp;
            let none = null_mut();
            // SAFETY: wrong, and noticed.
            unsafe {
                f(
                    pd, receive_cq, cq, none, 8, 8, 1, 1, 0, on_create, context, out,
                )
            }
        });
        assert!(made.is_none());
    }
    fn leaks(b: &mut Bench) {
        let _cq = b.cq(Told::new()).unwrap();
        b.close_adapter_as_is();
    }
    fn polls_while_it_arms(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        thread_local! {
            static CQ: std::cell::Cell<*mut NDK_CQ> = const { std::cell::Cell::new(null_mut()) };
        }
        CQ.set(cq);
        // On another processor, while the first is inside NdkArmCq.
        b.fake.inside.set(Some(|| {
            let _entered = crate::world::context::machine().enter(1);
            let _consumer = crate::world::driver::Charged::to(0);
            let cq = CQ.get();
            let mut result = NDK_RESULT::ZEROED;
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkGetCqResults)(cq, &raw mut result, 1) };
        }));
        b.arm(cq);
    }
    fn posts_while_it_posts(b: &mut Bench) {
        let c = connected(b);
        thread_local! {
            static QP: std::cell::Cell<*mut NDK_QP> = const { std::cell::Cell::new(null_mut()) };
        }
        QP.set(c.qp);
        // As above. To the other queue it may.
        b.fake.inside.set(Some(|| {
            let _entered = crate::world::context::machine().enter(1);
            let _consumer = crate::world::driver::Charged::to(0);
            let qp = QP.get();
            // SAFETY: as a consumer calls.
            unsafe {
                (table!(qp).NdkReceive)(qp, std::ptr::without_provenance_mut(1), null(), 0);
                (table!(qp).NdkSend)(qp, std::ptr::without_provenance_mut(2), null(), 0, 0);
            }
        }));
        b.send(c.qp, 3, 0);
    }
    let (mode, nothing) = (Mode::Inline, Misdeed::Nothing);
    accused(mode, nothing, uses_what_it_closed, &[rules::CONSUMER]);
    accused(mode, nothing, sends_on_what_it_closed, &[rules::CONSUMER]);
    let receives = receives_on_what_it_closed;
    accused(mode, nothing, receives, &[rules::CONSUMER]);
    accused(mode, nothing, closes_twice, &[rules::CONSUMER]);
    accused(
        mode,
        nothing,
        mixes_up_objects,
        &[rules::CONSUMER_PARAMETER],
    );
    accused(
        mode,
        nothing,
        leaks,
        &[rules::CONSUMER_LEAK, rules::ADAPTER_CLOSE],
    );
    accused(
        mode,
        nothing,
        polls_while_it_arms,
        &[rules::CONSUMER_OVERLAP],
    );
    accused(
        mode,
        nothing,
        posts_while_it_posts,
        &[rules::CONSUMER_OVERLAP],
    );
}

#[test]
fn functions_of_later_versions() {
    fn sends_and_invalidates(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let status = b.run(|| {
            let f = table!(qp).NdkSendAndInvalidate;
            // SAFETY: as a consumer calls.
            unsafe { f(qp, null_mut(), std::ptr::null(), 0, 0, 0) }
        });
        assert_eq!(status, STATUS_NOT_SUPPORTED);
    }
    let (asked, nothing) = (NDK_VERSION_1_1, Misdeed::Nothing);
    let mut b = Bench::with_version(Mode::Inline, nothing, asked, NDK_VERSION_1_1);
    sends_and_invalidates(&mut b);
    assert_eq!(b.rules(), [rules::CONSUMER_PARAMETER]);
}

#[test]
fn adapter_info_is_asked_for_at_passive_level_only() {
    for irql in [PASSIVE, DISPATCH] {
        let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
        let (adapter, machine) = (b.adapter, b.machine);
        let mut info = NDK_ADAPTER_INFO::ZEROED;
        let mut size = size_of::<NDK_ADAPTER_INFO>() as u32;
        b.world.call_on(machine, 0, irql, || {
            let f = table!(adapter).NdkQueryAdapterInfo;
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, &raw mut info, &raw mut size) }
        });
        let violations = b.violations();
        let told: Vec<_> = violations
            .iter()
            .map(|v| (v.rule, v.culprit.as_str()))
            .collect();
        let expected: &[_] = match irql {
            PASSIVE => &[],
            _ => &[(kernel::IRQL, "code of the test")],
        };
        assert_eq!(told, expected);
    }
}

#[test]
fn a_callback_above_dispatch_level_is_the_providers_fault() {
    let mut b = Bench::new(Mode::Early, Misdeed::CallsAtHighIrql);
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    let violations = b.violations();
    let told = violations.iter().map(|v| (v.rule, v.culprit.as_str()));
    let mut told: Vec<_> = told.collect();
    // That of the create comes too high as well.
    told.dedup();
    assert_eq!(told, [(kernel::IRQL, "driver fake")]);
}
