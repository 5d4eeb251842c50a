//! What the provider knows already and the consumer has not been told: to the consumer it has not happened.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::net::SocketAddr;
use std::ptr::null;
use std::time::Duration;

use ndkpi::NDK_FN_REQUEST_COMPLETION;
use ndkpi::status::*;
use ntsim::World;
use ntsim::ndk::{Listener, ReadLimits};
use ntsim::wire::{Frame, Verdict};

use crate::lab::{Lab, SOON, Side, from, to};
use crate::raw::{Completed, completed, sockaddr};

/// A request whose completion does something else.
struct First<'a> {
    done: &'a Completed,
    then: &'a dyn Fn(),
}

unsafe extern "efiapi" fn first_completed(context: *mut c_void, status: i32) {
    // SAFETY: the context outlives the request.
    let first = unsafe { &*context.cast::<First<'_>>() };
    // SAFETY: as above.
    unsafe { completed(first.done.context(), status) };
    (first.then)();
}

/// NdkListen with an address that has to be looked up, or is refused at once.
fn listen(
    listener: &Listener,
    at: SocketAddr,
    done: NDK_FN_REQUEST_COMPLETION,
    to: *mut c_void,
) -> i32 {
    let address = sockaddr(at);
    // SAFETY: an open listener, an address with its length, a context that outlives the request.
    unsafe { (listener.table().NdkListen)(listener.raw(), address.as_ptr().cast(), 16, done, to) }
}

/// Loses RoCE, and nothing else.
fn without_roce(frame: &Frame) -> Verdict {
    let to_roce = 4791_u16.to_be_bytes();
    if frame.get(36..38) == Some(&to_roce[..]) {
        Verdict::Drop
    } else {
        Verdict::Pass
    }
}

/// Connects twice, into the void. Both requests go out at once, and time out at the same moment; who is told first, which with two processors
/// may be either, tries the other connector again. The answers, if the other was not told even then.
fn connect_again_before_the_other_is_told(lab: &mut Lab, a: &Side, b: &Side) -> Option<[i32; 2]> {
    let qps = [lab.queue_pair(a), lab.queue_pair(a)];
    let connectors = [lab.connector(a), lab.connector(a)];
    let limits = ReadLimits::default();
    let done = [Completed::default(), Completed::default()];
    let (again, begun) = (Cell::new(None), RefCell::new(None));
    let try_other = |other: usize| {
        if done[other].count() == 0 {
            let (connector, qp) = (&connectors[other], &qps[other]);
            let connect = connector.start_connect(qp, from(a), to(b), limits, &[]);
            let complete = connector.start_complete_connect();
            if done[other].count() == 0 {
                again.set(Some([connect.inline_status(), complete.inline_status()]));
            }
            begun.replace(Some(connect));
        }
    };
    let ends = [
        First {
            done: &done[0],
            then: &|| try_other(1),
        },
        First {
            done: &done[1],
            then: &|| try_other(0),
        },
    ];
    lab.on(a, || {
        let (from_a, to_b) = (sockaddr(from(a)), sockaddr(to(b)));
        for ((connector, qp), end) in connectors.iter().zip(&qps).zip(&ends) {
            // SAFETY: open objects, addresses with their lengths, a context that outlives the request.
            let status = unsafe {
                (connector.table().NdkConnect)(
                    connector.raw(),
                    qp.raw(),
                    from_a.as_ptr().cast(),
                    16,
                    to_b.as_ptr().cast(),
                    16,
                    1,
                    1,
                    null(),
                    0,
                    first_completed,
                    std::ptr::from_ref(end).cast_mut().cast(),
                )
            };
            assert_eq!(status, STATUS_PENDING);
        }
    });
    let all_told = |_: &mut World| done.iter().all(|done| done.count() > 0);
    assert!(lab.world.run_until(all_told, Duration::from_secs(60)));
    lab.world.run_for(Duration::from_secs(60));
    for done in &done {
        assert_eq!((done.count(), done.status()), (1, STATUS_IO_TIMEOUT));
    }
    // One that came too late, the other was told meanwhile, is a connect of its own.
    if let Some(connect) = begun.take() {
        let pends = connect.inline_status() == STATUS_PENDING;
        assert_eq!(connect.calls().len(), usize::from(pends));
    }
    lab.on(a, || {
        connectors
            .into_iter()
            .for_each(|connector| connector.close());
        qps.into_iter().for_each(|qp| qp.close());
    });
    again.get()
}

#[test]
fn x35_a_connect_whose_end_was_not_told_is_still_pending() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    for (port, _) in lab.net.ports() {
        lab.net.set_filter(port, without_roce);
    }
    // Preempted in the middle of it, a try says nothing: then again.
    let again = (0..100).find_map(|_| connect_again_before_the_other_is_told(&mut lab, &a, &b));
    assert_eq!(
        again,
        Some([STATUS_CONNECTION_ACTIVE, STATUS_CONNECTION_INVALID])
    );
    lab.end(a, b);
}

#[test]
fn x65_a_listen_whose_end_was_not_told_is_still_pending() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let elsewhere = "10.0.0.99:445".parse().unwrap();
    let (one, two) = lab.on(&a, || {
        let new = || a.adapter.create_listener().unwrap();
        (new(), new())
    });
    // Both wait for the same reading of the adapter's addresses, in which theirs is not.
    let (second, third) = (Completed::default(), Completed::default());
    let again = Cell::new([0; 2]);
    let then = || {
        let anew = |at| listen(&two, at, completed, third.context());
        again.set([anew(elsewhere), anew(to(&a))]);
    };
    let done = Completed::default();
    let first = First {
        done: &done,
        then: &then,
    };
    lab.on(&a, || {
        let context = std::ptr::from_ref(&first).cast_mut().cast();
        let begun = [
            listen(&one, elsewhere, first_completed, context),
            listen(
                &two,
                SocketAddr::new(elsewhere.ip(), 446),
                completed,
                second.context(),
            ),
        ];
        assert_eq!(begun, [STATUS_PENDING; 2]);
    });
    lab.world.run_for(SOON);
    for done in [&done, &second] {
        assert_eq!((done.count(), done.status()), (1, STATUS_INVALID_ADDRESS));
    }
    assert_eq!(again.get(), [STATUS_INVALID_DEVICE_REQUEST; 2]);
    assert_eq!(third.count(), 0);
    // Once it is told, it can listen.
    lab.on(&a, || {
        two.listen(to(&a)).unwrap();
        one.close();
        two.close();
    });
    lab.end(a, b);
}

#[test]
fn l06_queue_pair_and_shared_endpoint_outlast_the_connect_that_fails() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    lab.world.run_for(Duration::from_millis(1));
    let qp = lab.queue_pair(&a);
    let connector = lab.connector(&a);
    let order = RefCell::new(Vec::new());
    let endpoint = lab
        .on(&a, || crate::raw::Shared::create(&a, from(&a)))
        .expect("a shared endpoint");
    let (connecting, closing) = (Completed::default(), Completed::default());
    let qp_closing = lab.on(&a, || {
        let status = endpoint.connect(&connector, &qp, to(&b), &connecting);
        assert_eq!(status, STATUS_PENDING);
        assert_eq!(endpoint.close(&closing), STATUS_PENDING);
        qp.start_close()
    });
    assert_eq!(qp_closing.inline_status(), STATUS_PENDING);
    let told = || {
        (
            connecting.count(),
            closing.count() + qp_closing.calls().len() as u32,
        )
    };
    lab.world.run_until(
        |_| {
            let mut order = order.borrow_mut();
            if order.last() != Some(&told()) {
                order.push(told());
            }
            told() == (1, 2)
        },
        SOON,
    );
    assert_eq!(connecting.status(), STATUS_CONNECTION_REFUSED);
    // The verifier would accuse if a close were finished before the request that needs the object.
    assert_eq!(order.borrow().last(), Some(&(1, 2)));
    lab.on(&a, || connector.close());
    lab.end(a, b);
}
