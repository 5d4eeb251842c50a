//! What another processor does in the middle of things.
//!
//! The simulated machines have two processors here, and what the second does happens at a moment that the seed chooses: within a call
//! of the first, too. Each story is told for several seeds, and makes sure that some of them hit the middle, unless
//! the environment has them all be one.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ops::RangeInclusive;
use std::ptr::{null, null_mut};
use std::time::Duration;

use ndis_sys::imports::{KeInitializeDpc, KeInsertQueueDpc, KeSetTargetProcessorDpcEx};
use ndis_sys::wdm::{KDPC, PROCESSOR_NUMBER};
use ndkpi::status::*;
use ndkpi::{NDK_CONNECTOR, NDK_CQ_NOTIFY_ANY, NDK_LISTENER, NDK_SGE};
use ntsim::ndk::{Connector, Pending, Qp};

use crate::lab::{A, Connected, Lab, SOON, Side};
use crate::raw::{Completed, closed, never_created, sockaddr};
use crate::story::Story;

/// The environment says with which seed to run, whatever a test asks for: to repeat one run, or to try many.
fn seed_is_given() -> bool {
    std::env::var_os("NTSIM_SEED").is_some()
}

/// The seeds that a story is told for.
fn seeds(most: u64) -> RangeInclusive<u64> {
    1..=if seed_is_given() { 1 } else { most }
}

/// What the second processor is to do, once.
type Elsewhere<'a> = Cell<Option<&'a dyn Fn()>>;

unsafe extern "efiapi" fn run(_: *mut KDPC, context: *mut c_void, _: *mut c_void, _: *mut c_void) {
    // SAFETY: the context outlives the DPC.
    if let Some(work) = unsafe { &*context.cast::<Elsewhere<'_>>() }.take() {
        work();
    }
}

/// Runs `here` on the first processor of a side's machine, and `there`, at DISPATCH_LEVEL, on the second.
#[track_caller]
fn race(lab: &mut Lab, side: &Side, here: impl FnOnce(), there: &dyn Fn()) {
    let work: Elsewhere<'_> = Cell::new(Some(there));
    let mut dpc = KDPC::ZEROED;
    let (dpc, context) = (&raw mut dpc, (&raw const work).cast_mut().cast());
    lab.on(side, || {
        let mut second = PROCESSOR_NUMBER {
            Number: 1,
            ..PROCESSOR_NUMBER::ZEROED
        };
        // SAFETY: the DPC and the work outlive the run below, in which the DPC runs.
        unsafe {
            KeInitializeDpc(dpc, run, context);
            KeSetTargetProcessorDpcEx(dpc, &raw mut second);
            KeInsertQueueDpc(dpc, null_mut(), null_mut());
        }
        here();
    });
    assert!(lab.world.run_until(|_| work.get().is_none(), SOON));
}

/// Requests of a race, and which of them were taken.
struct Posts([Cell<bool>; 24]);

impl Posts {
    fn new() -> Posts {
        Posts([const { Cell::new(false) }; 24])
    }

    /// Posts them all: every third as a receive, the others as writes.
    fn post(&self, side: &Side, element: NDK_SGE, address: u64, token: u32) {
        for (index, taken) in self.0.iter().enumerate() {
            let context = index as u64;
            let result = if index % 3 == 0 {
                side.qp.receive(context, &[element])
            } else {
                side.qp.write(context, &[element], address, token, 0)
            };
            assert!(
                matches!(result, Ok(()) | Err(STATUS_CONNECTION_INVALID)),
                "{result:x?}"
            );
            taken.set(result.is_ok());
        }
    }

    /// Whether the race was decided in the middle: some taken, some refused.
    fn is_mixed(&self) -> bool {
        let taken = self.0.iter().filter(|taken| taken.get()).count();
        (1..self.0.len()).contains(&taken)
    }

    /// Every request that was taken has come back once, and no other.
    #[track_caller]
    fn check(&self, lab: &mut Lab, side: &Side, seed: u64) {
        lab.world.run_for(Duration::from_millis(100));
        let mut back = [0; 24];
        while let Some(entry) = lab.on(side, || side.cq.poll()) {
            back[entry.RequestContext as usize] += 1;
        }
        let expected = std::array::from_fn(|index| usize::from(self.0[index].get()));
        assert_eq!(back, expected, "seed {seed}");
    }
}

#[test]
fn w13_a_post_that_races_with_a_flush_is_refused_or_comes_back_once() {
    let mut mixed = 0;
    for seed in seeds(8) {
        let mut s = Story::begin_in(Lab::racing(seed));
        let (element, address, token) = s.target();
        let posts = Posts::new();
        race(
            &mut s.lab,
            &s.a,
            || posts.post(&s.a, element, address, token),
            &|| s.a.qp.flush(),
        );
        mixed += u32::from(posts.is_mixed());
        // What came after the flush comes back by another.
        s.lab.on(&s.a, || s.a.qp.flush());
        posts.check(&mut s.lab, &s.a, seed);
        s.end();
    }
    assert!(
        mixed > 0 || seed_is_given(),
        "no seed flushed between two posts"
    );
}

#[test]
fn l19_a_post_that_races_with_the_close_of_its_connector_is_refused_or_comes_back_once() {
    let mut mixed = 0;
    for seed in seeds(8) {
        let mut s = Story::begin_in(Lab::racing(seed));
        let (element, address, token) = s.target();
        let Connected {
            active,
            passive,
            listener,
        } = s.connected;
        let (active, closing) = (
            Cell::new(Some(active)),
            RefCell::<Option<Pending>>::default(),
        );
        let posts = Posts::new();
        race(
            &mut s.lab,
            &s.a,
            || posts.post(&s.a, element, address, token),
            &|| *closing.borrow_mut() = active.take().map(Connector::start_close),
        );
        let closing = closing.take().expect("the close was called");
        closing.wait(&mut s.lab.world).unwrap();
        assert!(closing.calls().len() <= 1);
        mixed += u32::from(posts.is_mixed());
        s.lab.on(&s.a, || s.a.qp.flush());
        posts.check(&mut s.lab, &s.a, seed);
        let (mut lab, a, b) = (s.lab, s.a, s.b);
        lab.on(&a, || s.ours.close());
        lab.on(&b, || {
            passive.close();
            listener.close();
            s.theirs.close();
        });
        lab.close(a);
        lab.close(b);
        lab.finish();
    }
    assert!(
        mixed > 0 || seed_is_given(),
        "no seed closed between two posts"
    );
}

#[test]
fn w14_receives_and_sends_can_be_posted_at_the_same_time() {
    const EACH: u64 = 10;
    for seed in seeds(4) {
        let mut s = Story::begin_in(Lab::racing(seed));
        let empty: [NDK_SGE; 0] = [];
        s.lab.on(&s.b, || {
            for context in 0..EACH {
                s.b.qp.receive(context, &empty).unwrap();
            }
        });
        race(
            &mut s.lab,
            &s.a,
            || {
                for context in 0..EACH {
                    s.a.qp.send(context, &empty, 0).unwrap();
                }
            },
            &|| {
                for context in EACH..2 * EACH {
                    s.a.qp.receive(context, &empty).unwrap();
                }
            },
        );
        s.lab.on(&s.b, || {
            for context in EACH..2 * EACH {
                s.b.qp.send(context, &empty, 0).unwrap();
            }
        });
        let mut back = [0; 2 * EACH as usize];
        for _ in 0..2 * EACH {
            let entry = s.lab.result(&s.a);
            assert_eq!(entry.Status, STATUS_SUCCESS, "seed {seed}");
            back[entry.RequestContext as usize] += 1;
        }
        assert_eq!(back, [1; 2 * EACH as usize], "seed {seed}");
        s.end();
    }
}

#[test]
fn q05_no_entry_falls_between_the_last_poll_and_the_arm() {
    let (mut polled, mut notified) = (0, 0);
    for seed in seeds(16) {
        let mut lab = Lab::racing(seed);
        let a = lab.side_a();
        let seen = Cell::new(0);
        race(
            &mut lab,
            &a,
            || {
                while a.cq.poll().is_some() {
                    seen.set(seen.get() + 1);
                }
                a.cq.arm(NDK_CQ_NOTIFY_ANY);
            },
            // A flush brings the receive back: an entry.
            &|| {
                a.qp.receive(1, &[]).unwrap();
                a.qp.flush();
            },
        );
        lab.world.run_for(Duration::from_millis(5));
        match (seen.get(), a.cq.notifications().count()) {
            (0, 1) => notified += 1,
            (1, 0 | 1) => polled += 1,
            other => panic!("seed {seed}: polled and notified {other:?}"),
        }
        lab.close(a);
        lab.finish();
    }
    assert!(
        polled > 0 && notified > 0 || seed_is_given(),
        "{polled} polled, {notified} notified: no seed came in between"
    );
}

/// Something that its consumer closes as soon as a request of it has ended.
struct Brief<T> {
    object: Cell<*mut T>,
    gone: Completed,
}

impl<T> Brief<T> {
    fn new() -> Self {
        Self {
            object: Cell::new(null_mut()),
            gone: Completed::default(),
        }
    }

    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }
}

/// Counts the close, whether it pends or not.
fn count(gone: &Completed, status: i32) {
    if status != STATUS_PENDING {
        // SAFETY: the context of this callback is what it is made for.
        unsafe { closed(gone.context()) };
    }
}

unsafe extern "efiapi" fn close_connector(context: *mut c_void, status: i32) {
    assert_eq!(status, STATUS_INVALID_ADDRESS);
    // SAFETY: the context outlives the request, whose object is open until here.
    unsafe {
        let brief = &*context.cast::<Brief<NDK_CONNECTOR>>();
        let connector = brief.object.get();
        let close = (*(*connector).Dispatch).NdkCloseConnector;
        count(
            &brief.gone,
            close(connector.cast(), closed, brief.gone.context()),
        );
    }
}

unsafe extern "efiapi" fn close_listener(context: *mut c_void, status: i32) {
    assert_eq!(status, STATUS_INVALID_ADDRESS);
    // SAFETY: as above.
    unsafe {
        let brief = &*context.cast::<Brief<NDK_LISTENER>>();
        let listener = brief.object.get();
        let close = (*(*listener).Dispatch).NdkCloseListener;
        count(
            &brief.gone,
            close(listener.cast(), closed, brief.gone.context()),
        );
    }
}

/// The call that began the request may not have returned when the consumer has heard of its end on another processor, and closed.
#[test]
fn c06_l04_what_is_closed_when_its_request_ends_is_not_touched_by_the_call_that_began_it() {
    const EACH: usize = 12;
    for seed in seeds(24) {
        let mut lab = Lab::racing(seed);
        let a = lab.side_a();
        let qps: Vec<_> = (0..EACH).map(|_| lab.queue_pair(&a)).collect();
        let connectors: Vec<_> = (0..EACH).map(|_| Brief::<NDK_CONNECTOR>::new()).collect();
        let listeners: Vec<_> = (0..EACH).map(|_| Brief::<NDK_LISTENER>::new()).collect();
        lab.on(&a, || {
            for brief in &connectors {
                let mut out = null_mut();
                let create = a.adapter.table().NdkCreateConnector;
                // SAFETY: an open adapter and an out parameter.
                let status =
                    unsafe { create(a.adapter.raw(), never_created, null_mut(), &raw mut out) };
                assert_eq!(status, STATUS_SUCCESS);
                brief.object.set(out);
            }
            for brief in &listeners {
                let mut out = null_mut();
                let create = a.adapter.table().NdkCreateListener;
                // SAFETY: as above.
                let status = unsafe {
                    create(
                        a.adapter.raw(),
                        never_asked,
                        null_mut(),
                        never_created,
                        null_mut(),
                        &raw mut out,
                    )
                };
                assert_eq!(status, STATUS_SUCCESS);
                brief.object.set(out);
            }
        });
        // The adapter does not have this address: that is found out elsewhere.
        let foreign = sockaddr("10.0.0.77:0".parse().unwrap());
        let peer = sockaddr((A, 1).into());
        let begin = |which: std::ops::Range<usize>| {
            for index in which {
                let (connector, listener) = (&connectors[index], &listeners[index]);
                // SAFETY: open objects, addresses with their lengths, contexts that outlive the requests.
                unsafe {
                    let object = connector.object.get();
                    let status = ((*(*object).Dispatch).NdkConnect)(
                        object,
                        qps[index].raw(),
                        foreign.as_ptr().cast(),
                        16,
                        peer.as_ptr().cast(),
                        16,
                        1,
                        1,
                        null(),
                        0,
                        close_connector,
                        connector.context(),
                    );
                    assert_eq!(status, STATUS_PENDING);
                    let object = listener.object.get();
                    let status = ((*(*object).Dispatch).NdkListen)(
                        object,
                        foreign.as_ptr().cast(),
                        16,
                        close_listener,
                        listener.context(),
                    );
                    assert_eq!(status, STATUS_PENDING);
                }
            }
        };
        race(&mut lab, &a, || begin(EACH / 2..EACH), &|| {
            begin(0..EACH / 2)
        });
        let all_gone = || {
            connectors.iter().all(|brief| brief.gone.count() == 1)
                && listeners.iter().all(|brief| brief.gone.count() == 1)
        };
        assert!(lab.world.run_until(|_| all_gone(), SOON), "seed {seed}");
        lab.on(&a, || qps.into_iter().for_each(Qp::close));
        lab.close(a);
        lab.finish();
    }
}

unsafe extern "efiapi" fn never_asked(_: *mut c_void, _: *mut NDK_CONNECTOR) {
    panic!("nobody connects");
}

/// An adapter may be lost while a shared receive queue is being made: who has one hears of it.
#[test]
fn s07_a_shared_receive_queue_made_while_the_adapter_is_lost_is_refused_or_told() {
    let mut made = 0;
    for seed in seeds(16) {
        let mut lab = Lab::racing(seed);
        let a = lab.side_a();
        let srqs = RefCell::new(Vec::new());
        lab.nics[0].give_up();
        race(
            &mut lab,
            &a,
            || {
                for _ in 0..24 {
                    match a.pd.create_srq(8, 1, 0) {
                        Ok(srq) => srqs.borrow_mut().push(srq),
                        Err(status) => assert_eq!(status, STATUS_DEVICE_REMOVED),
                    }
                }
            },
            &|| (),
        );
        lab.world.run_for(SOON);
        let srqs = srqs.take();
        made += srqs.len();
        for (index, srq) in srqs.iter().enumerate() {
            let told: Vec<_> = srq.notifications().iter().map(|c| c.status).collect();
            assert_eq!(told, [STATUS_INTERNAL_ERROR], "seed {seed}, number {index}");
        }
        lab.on(&a, || srqs.into_iter().for_each(|srq| srq.close()));
        lab.close(a);
        lab.finish();
    }
    assert!(
        (1..16 * 24).contains(&made) || seed_is_given(),
        "{made} made: no seed lost the adapter in the middle"
    );
}
