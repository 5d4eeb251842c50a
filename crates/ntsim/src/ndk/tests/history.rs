//! What the history that comes with a violation shows of callbacks.

use ndkpi::status::{STATUS_ADDRESS_ALREADY_EXISTS, STATUS_SUCCESS};

use super::bench::*;
use super::fake::{Misdeed, Mode};
use crate::verifier::{Crossed, Way, violation};

/// Breaks a rule of its own, here.
fn remark() {
    violation("test", "look at the history");
}

/// What a line tells: of which driver, too.
type Line<'a> = (bool, Way, Option<&'a str>);

fn line(crossed: &Crossed) -> Line<'_> {
    (crossed.into_driver, crossed.way, crossed.driver.as_deref())
}

/// The lines of a history that tell of a function.
fn lines<'a>(history: &'a [Crossed], function: &str) -> Vec<Line<'a>> {
    let of = history.iter().filter(|c| c.function == function);
    of.map(line).collect()
}

/// The provider is a driver, the consumer the test.
const FROM_PROVIDER: Line<'_> = (false, Way::Enter, Some("fake"));
const TO_CONSUMER: Line<'_> = (true, Way::Enter, None);
const FROM_CONSUMER: Line<'_> = (false, Way::Return, None);
const TO_PROVIDER: Line<'_> = (true, Way::Return, Some("fake"));

/// Wants the callback `name` to be seen running in the violation that `story` commits inside it, and gone after it.
#[track_caller]
fn seen(name: &str, story: fn(&mut Bench, &'static Told)) {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let told = Told::new();
    told.then(remark);
    story(&mut b, told);
    assert_eq!(told.times(), 1, "{name}");
    b.run(remark);
    let violations = b.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    let inside = lines(&violations[0].history, name);
    assert_eq!(inside, [FROM_PROVIDER, TO_CONSUMER], "{}", violations[0]);
    let after = lines(&violations[1].history, name);
    assert_eq!(
        after,
        [FROM_PROVIDER, TO_CONSUMER, FROM_CONSUMER, TO_PROVIDER],
        "{}",
        violations[1]
    );
    let text = violations[1].to_string();
    assert!(
        text.contains(&format!("-> {name} returns (fake)")),
        "{text}"
    );
}

#[test]
fn callbacks_are_seen_to_begin_and_to_end() {
    seen("NdkCreateCompletion", |b, told| {
        let adapter = b.adapter;
        b.run(|| {
            let f = table!(adapter).NdkCreatePd;
            let mut out = std::ptr::null_mut();
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, on_create, told.context(), &raw mut out) }
        });
        b.work();
    });
    seen("NdkCloseCompletion", |b, told| {
        let pd = b.pd();
        b.run(|| close_now(pd, told));
        b.work();
    });
    seen("NdkCqNotificationCallback", |b, told| {
        let cq = b.cq(told).unwrap();
        b.arm(cq);
        let (fake, q) = (b.fake, thing(cq));
        fake.defer(move || fake.notify(q, STATUS_SUCCESS));
        b.work();
    });
    seen("NdkSrqNotificationCallback", |b, told| {
        let pd = b.pd();
        let srq = b.srq(pd, told);
        b.request(|context| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(srq).NdkModifySrq)(srq, 16, 2, on_status, context) }
        });
        b.work();
    });
    seen("NdkConnectEventCallback", |b, told| {
        let listener = b.listener(told);
        b.listen(listener);
        b.fake.incoming(thing(listener));
        b.work();
    });
    seen("NdkDisconnectEventCallback", |b, told| {
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        b.connect(connector, qp);
        b.complete_connect(connector, told);
        b.fake.peer_disconnects(thing(connector));
        b.work();
    });
}

#[test]
fn a_callback_that_runs_since_long_is_still_shown() {
    let mut b = Bench::new(Mode::Early, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    let told = Told::new();
    told.then(move || {
        let told = Told::new();
        for _ in 0..20 {
            arm_now(cq);
            // SAFETY: as a consumer calls.
            unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) };
        }
        remark();
    });
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    let violations = b.violations();
    let history = &violations[0].history;
    let first: Vec<_> = history[..2].iter().map(line).collect();
    assert_eq!(first, [FROM_PROVIDER, TO_CONSUMER], "{}", violations[0]);
    assert_eq!(history[0].function, "NdkRequestCompletion");
    // Those of the requests that are over are among the last lines only.
    let of_later = lines(&history[2..], "NdkRequestCompletion");
    let entered = of_later.iter().filter(|l| **l == FROM_PROVIDER).count();
    let left = of_later.iter().filter(|l| **l == TO_PROVIDER).count();
    assert!(entered <= left, "{}", violations[0]);
    // Crossings: 20 times NdkArmCq, NdkResizeCq and four for its completion.
    assert_eq!(history.len(), 2 + 24, "{}", violations[0]);
}

#[test]
fn the_calls_of_ndk_are_told_apart_from_those_of_the_kernel() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let cq = b.cq(Told::new()).unwrap();
    for _ in 0..100 {
        b.poll(cq);
    }
    b.resize(cq);
    b.run(remark);
    let violations = b.violations();
    let calls = &violations[0].ndk_calls;
    let shows = |n: usize, text: &str| assert!(calls[n].contains(text), "{calls:?}");
    assert_eq!(calls.len(), 3, "{calls:?}");
    shows(0, "NdkCreateCq on adapter 1: STATUS_SUCCESS");
    shows(1, "NdkGetCqResults on CQ 1: 0 (100 times)");
    shows(2, "NdkResizeCq on CQ 1: STATUS_SUCCESS");
    let text = violations[0].to_string();
    let (ndk, all) = (text.find("last NDK calls"), text.find("crossings before"));
    assert!(ndk.is_some() && ndk < all, "{text}");
}

#[test]
fn a_completion_is_told_with_what_it_completes_and_its_status() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let pd = b.pd();
    let cq = b.cq(Told::new()).unwrap();
    let told = Told::new();
    told.then(remark);
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    let pending = b.run(crate::ndk::pending_calls);
    let [line] = &pending[..] else {
        panic!("{pending:?}");
    };
    assert!(
        line.starts_with("NdkResizeCq on CQ 1 of fake pends since "),
        "{line}"
    );
    b.work();
    assert_eq!(b.run(crate::ndk::pending_calls), Vec::<String>::new());
    let calls = b.violations().remove(0).ndk_calls;
    let [.., called, completed] = &calls[..] else {
        panic!("{calls:?}");
    };
    assert!(
        called.contains(" NdkResizeCq on CQ 1: STATUS_PENDING"),
        "{called}"
    );
    let expected = "told: NdkRequestCompletion of NdkResizeCq on CQ 1: STATUS_SUCCESS";
    assert!(completed.contains(expected), "{completed}");
    b.close(pd);
}

#[test]
fn pending_closes_are_listed_with_what_holds_them() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let pd = b.pd();
    let mr = b.mr(pd);
    let (status, _) = b.start_close(pd);
    assert_eq!(status, ndkpi::status::STATUS_PENDING);
    let closes = b.run(crate::ndk::pending_closes);
    let [close] = &closes[..] else {
        panic!("{closes:?}");
    };
    assert!(close.starts_with("the close of PD 1 of "), "{close}");
    assert!(close.contains("held by MR 1 of "), "{close}");
    assert!(b.close(mr));
    assert_eq!(b.run(crate::ndk::pending_closes), Vec::<String>::new());
    b.close_adapter();
    assert_eq!(b.rules(), Vec::<&str>::new());
}

/// What a test that ends with an error prints, which has no report.
#[test]
fn a_world_that_is_dropped_tells_what_failed_and_what_pends() {
    let mut b = Bench::new(Mode::Later, Misdeed::Nothing);
    let text = b.world.unfinished().unwrap();
    let repeat = "a world has not come to World::finish: repeat with ";
    assert!(text.starts_with(repeat) && !text.contains("NDK"), "{text}");
    let pd = b.pd();
    let cq = b.cq(Told::new()).unwrap();
    let listener = b.listener(Told::new());
    b.fake.listens.set(STATUS_ADDRESS_ALREADY_EXISTS);
    assert_eq!(b.listen(listener), STATUS_ADDRESS_ALREADY_EXISTS);
    let told = Told::new();
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    let (_, closed) = b.start_close(pd);
    let text = b.world.unfinished().unwrap();
    for part in [
        repeat,
        "NDK calls and requests that failed:\n",
        "NdkListen on listener 1: STATUS_ADDRESS_ALREADY_EXISTS",
        "NDK calls that pend:\n  NdkResizeCq on CQ 1 of fake pends since ",
        "\n  the close of PD 1 of ",
    ] {
        assert!(text.contains(part), "{part:?} is missing in {text}");
    }
    b.work();
    assert_eq!(closed.times(), 1);
    let text = b.world.unfinished().unwrap();
    assert!(!text.contains("that pend"), "{text}");
    // Whoever reads the report needs no more.
    b.world.core.verifier.reported.set(true);
    assert_eq!(b.world.unfinished(), None);
}

/// Nothing that it could be told repeats it.
#[test]
fn a_world_without_environment_tells_only_what_failed_and_what_pends() {
    let mut b = Bench::of_its_own(Mode::Later, Misdeed::Nothing);
    assert_eq!(b.world.unfinished(), None);
    let listener = b.listener(Told::new());
    b.fake.listens.set(STATUS_ADDRESS_ALREADY_EXISTS);
    assert_eq!(b.listen(listener), STATUS_ADDRESS_ALREADY_EXISTS);
    let text = b.world.unfinished().unwrap();
    let parts = "a world has not come to World::finish\nNDK calls and requests that failed:\n";
    assert!(text.starts_with(parts), "{text}");
}

/// Objects by kind, with what they need and what goes on with them.
#[test]
fn a_report_shows_the_objects_and_what_holds_them() {
    let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
    let pd = b.pd();
    let cq = b.cq(Told::new()).unwrap();
    let qp = b.qp(pd, cq, cq, 1);
    b.fake.mode.set(Mode::Later);
    let told = Told::new();
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(cq).NdkResizeCq)(cq, 32, on_status, told.context()) }
    });
    b.run(remark);
    let violations = b.violations();
    assert_eq!(
        violations[0].ndk_objects,
        [
            "adapter 1 of fake: open",
            "QP 1 of fake: open; needs PD 1, CQ 1",
            "CQ 1 of fake: open; 1 object(s) need it; 1 call(s) not completed",
            "PD 1 of fake: open; 1 object(s) need it",
        ]
    );
    let text = violations[0].to_string();
    let (objects, all) = (text.find("the NDK objects"), text.find("crossings before"));
    assert!(objects.is_some() && objects < all, "{text}");
    b.work();
    b.close(qp);
    b.close(cq);
    b.run(remark);
    let open = &b.violations()[0].ndk_objects;
    assert_eq!(open[1..], ["PD 1 of fake: open"], "{open:?}");
    b.close(pd);
}
