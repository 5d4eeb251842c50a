//! Consumers that use objects wrongly.

use std::ptr::null_mut;

use ndkpi::status::*;
use ndkpi::*;

use super::super::bench::*;
use super::super::fake::{Misdeed, Mode};
use super::accused;
use crate::ndk::rules;

#[test]
pub(super) fn consumers() {
    fn uses_what_it_closed(b: &mut Bench) {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let _qp = b.qp(pd, cq, cq, 1);
        let _ = b.start_close(cq);
        b.poll(cq);
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
        b.fake.in_arm.set(Some(|| {
            let _entered = crate::world::context::machine().enter(1);
            let _consumer = crate::world::driver::Charged::to(0);
            let cq = CQ.get();
            let mut result = NDK_RESULT::ZEROED;
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkGetCqResults)(cq, &raw mut result, 1) };
        }));
        b.arm(cq);
    }
    let (mode, nothing) = (Mode::Inline, Misdeed::Nothing);
    accused(mode, nothing, uses_what_it_closed, &[rules::CONSUMER]);
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
