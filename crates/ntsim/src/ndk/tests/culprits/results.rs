//! Entries of completion queues.

use ndkpi::*;

use super::super::bench::*;
use super::super::fake::{Misdeed, Mode};
use super::{accused, sends};
use crate::ndk::rules;

fn sends_ex(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.send(qp, 1, 0);
    b.poll_ex(cq);
}

fn sends_unconnected(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    b.send(qp, 1, 0);
}

fn receives_and_closes(b: &mut Bench) {
    receives_so_many_and_closes(b, 2);
}

fn receives_so_many_and_closes(b: &mut Bench, receives: usize) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    for context in 0..receives {
        b.receive(qp, context);
    }
    b.close(qp);
    b.poll(cq);
}

fn overruns_and_closes(b: &mut Bench) {
    receives_so_many_and_closes(b, 17);
}

/// One receive of its own and as many of a shared queue as there are entries.
fn overruns_a_shared_queue(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let srq = b.srq(pd, Told::new());
    let sharing = b.create::<NDK_QP>(|context, out| {
        let f = table!(pd).NdkCreateQpWithSrq;
        let none = std::ptr::null_mut();
        // SAFETY: as a consumer calls.
        unsafe { f(pd, cq, cq, srq, none, 8, 1, 0, on_create, context, out) }
    });
    assert!(sharing.is_some());
    for _ in 0..16 {
        // SAFETY: as a consumer calls.
        b.run(|| unsafe {
            (table!(srq).NdkSrqReceive)(srq, std::ptr::null_mut(), std::ptr::null(), 0)
        });
    }
    let qp = b.qp(pd, cq, cq, 1);
    b.receive(qp, 1);
    b.close(qp);
    b.poll(cq);
}

#[test]
pub(super) fn results() {
    use Misdeed::*;
    let mode = Mode::Inline;
    accused(
        mode,
        PostsUnconnected,
        sends_unconnected,
        &[rules::POST_UNCONNECTED],
    );
    accused(
        mode,
        TooManyResults,
        polls_nothing,
        &[rules::RESULT_COUNT, rules::RESULT_QP],
    );
    accused(mode, WrongQpContext, sends, &[rules::RESULT_QP]);
    accused(mode, WrongRequestContext, sends, &[rules::RESULT_REQUEST]);
    accused(mode, ResultTwice, sends, &[rules::RESULT_UNEXPECTED]);
    accused(mode, ResultPending, sends, &[rules::RESULT_STATUS]);
    accused(mode, WrongResultType, sends_ex, &[rules::RESULT_TYPE]);
    accused(
        mode,
        ErrorCodeOnSuccess,
        sends_ex,
        &[rules::RESULT_ERROR_CODE],
    );
    accused(
        mode,
        LosesReceives,
        receives_and_closes,
        &[rules::RESULT_MISSING],
    );
    accused(mode, Nothing, receives_and_closes, &[]);
    // What a queue that was not armed has no room for is lost without a word.
    accused(
        mode,
        LosesReceives,
        overruns_and_closes,
        &[rules::CONSUMER_OVERRUN],
    );
    accused(
        mode,
        LosesReceives,
        |b| receives_so_many_and_closes(b, 16),
        &[rules::RESULT_MISSING],
    );
    accused(mode, LosesReceives, overruns_a_shared_queue, &[]);
}

fn polls_nothing(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    assert_eq!(b.poll(cq).len(), 8);
}
