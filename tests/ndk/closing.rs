//! Closing: what waits for what.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_CONNECTOR, NDK_CQ_NOTIFY_ANY, NDK_VERSION_1_2, NDK_VERSION_2_1, NTSTATUS};
use ntsim::ndk::{Adapter, Mw, Srq};

use crate::lab::{ALL_RIGHTS, Connected, Lab, SOON, Side, from, to};
use crate::raw::sockaddr;
use crate::story::Story;

#[test]
fn l07_antecedents_outlive_their_successors() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let crate::lab::Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let mr = lab.world.call(machine, || pd.create_mr().unwrap());
    let closing_pd = lab.world.call(machine, || pd.start_close());
    let closing_cq = lab.world.call(machine, || cq.start_close());
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(closing_pd.inline_status(), STATUS_PENDING);
    assert_eq!(closing_cq.inline_status(), STATUS_PENDING);
    assert!(!closing_pd.is_done() && !closing_cq.is_done());
    // The queue pair still works.
    lab.world.call(machine, || qp.receive(1, &[])).unwrap();
    let closing_qp = lab.world.call(machine, || qp.start_close());
    closing_qp.wait(&mut lab.world).unwrap();
    closing_cq.wait(&mut lab.world).unwrap();
    assert!(!closing_pd.is_done(), "the region is still open");
    lab.world.call(machine, || mr.close());
    closing_pd.wait(&mut lab.world).unwrap();
    for pending in [closing_pd, closing_cq] {
        assert_eq!(pending.calls().len(), 1);
    }
    lab.world.call(machine, || adapter.close());
    lab.finish();
}

#[test]
fn l08_a_closed_completion_queue_serves_its_queue_pair_until_that_is_closed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let theirs = lab.region(&b, 4096, ALL_RIGHTS, 0);
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 10)]))
        .unwrap();
    let Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let closing = lab.world.call(machine, || cq.start_close());
    lab.world.run_for(Duration::from_millis(100));
    assert_eq!(closing.inline_status(), STATUS_PENDING);
    // Both queues of the queue pair still work.
    lab.world
        .call(machine, || {
            qp.receive(2, &[]).unwrap();
            qp.send(3, &[], 0)
        })
        .unwrap();
    assert_eq!(lab.result(&b).Status, STATUS_SUCCESS);
    lab.on(&b, || b.qp.send(4, &[], 0)).unwrap();
    assert_eq!(lab.result(&b).Status, STATUS_SUCCESS, "it was received");
    assert!(!closing.is_done());
    lab.world.call(machine, || {
        connected.active.close();
        qp.close();
    });
    closing.wait(&mut lab.world).unwrap();
    assert_eq!(closing.calls().len(), 1);
    lab.world.call(machine, || {
        pd.close();
        adapter.close();
    });
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
        theirs.close();
    });
    lab.close(b);
    lab.finish();
}

#[test]
fn l10_a_queue_pair_waits_for_the_connector_that_used_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let crate::lab::Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let closing = lab.world.call(machine, || qp.start_close());
    lab.world.run_for(Duration::from_secs(1));
    assert!(!closing.is_done());
    lab.world.call(machine, || connected.active.close());
    closing.wait(&mut lab.world).unwrap();
    lab.world.call(machine, || {
        cq.close();
        pd.close();
        adapter.close();
    });
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.close(b);
    lab.finish();
}

#[test]
fn l18_adapters_can_be_open_several_times_and_close_in_any_order() {
    let mut lab = Lab::new();
    let machine = lab.a;
    lab.world.call(machine, || {
        let first = Adapter::open(NDK_VERSION_2_1).unwrap();
        let second = Adapter::open(NDK_VERSION_1_2).unwrap();
        let third = Adapter::open(NDK_VERSION_2_1).unwrap();
        assert_ne!(first.raw(), third.raw());
        second.close();
        let pd = third.create_pd().unwrap();
        first.close();
        pd.close();
        third.close();
    });
    lab.finish();
}

thread_local! {
    /// A function of the connector has been called and has not returned.
    static ON_STACK: Cell<bool> = const { Cell::new(false) };
    /// That was so when the completion came, and with which status.
    static COMPLETED: Cell<Option<(bool, NTSTATUS)>> = const { Cell::new(None) };
    static CLOSED: Cell<u32> = const { Cell::new(0) };
}

unsafe extern "efiapi" fn on_closed(_context: *mut c_void) {
    CLOSED.set(CLOSED.get() + 1);
}

/// NdkRequestCompletion that closes the connector, which is its context.
unsafe extern "efiapi" fn close_inside(context: *mut c_void, status: NTSTATUS) {
    COMPLETED.set(Some((ON_STACK.get(), status)));
    let connector: *mut NDK_CONNECTOR = context.cast();
    // SAFETY: the context is the connector, which is open until here.
    let status = unsafe {
        ((*(*connector).Dispatch).NdkCloseConnector)(connector.cast(), on_closed, context)
    };
    assert_eq!(
        status, STATUS_PENDING,
        "its own completion is still running"
    );
    assert_eq!(CLOSED.get(), 0);
}

/// Waits for the close that began inside the completion.
#[track_caller]
fn closed_once(lab: &mut Lab) {
    assert!(lab.world.run_until(|_| CLOSED.get() == 1, SOON));
    lab.world.run_for(Duration::from_secs(60));
    assert_eq!(CLOSED.get(), 1, "one close completion");
}

#[test]
fn l02_l03_a_connector_may_be_closed_inside_its_own_completion() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connector = lab.connector(&a);
    let (here, there) = (sockaddr(from(&a)), sockaddr(to(&b)));
    lab.on(&a, || {
        // SAFETY: open objects, valid addresses.
        let status = unsafe {
            (connector.table().NdkConnect)(
                connector.raw(),
                a.qp.raw(),
                here.as_ptr().cast(),
                16,
                there.as_ptr().cast(),
                16,
                1,
                1,
                null(),
                0,
                close_inside,
                connector.raw().cast(),
            )
        };
        assert_eq!(status, STATUS_PENDING);
    });
    closed_once(&mut lab);
    assert_eq!(COMPLETED.get(), Some((false, STATUS_CONNECTION_REFUSED)));
    lab.end(a, b);
}

#[test]
fn c06_a_connector_may_be_closed_while_the_call_that_began_the_request_is_on_the_stack() {
    let mut lab = Lab::new();
    // An adapter that is connected to itself: no wire between the request and its end.
    let (a, b) = (lab.side_a(), lab.side_a());
    let connected = lab.connect(&a, &b);
    let active = connected.active;
    lab.on(&a, || {
        ON_STACK.set(true);
        // SAFETY: an open connector.
        let status = unsafe {
            (active.table().NdkDisconnect)(active.raw(), close_inside, active.raw().cast())
        };
        ON_STACK.set(false);
        assert_eq!(status, STATUS_PENDING);
    });
    closed_once(&mut lab);
    assert_eq!(COMPLETED.get(), Some((true, STATUS_SUCCESS)));
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
    });
    lab.end(a, b);
}

#[test]
fn l06_nothing_is_called_for_what_is_closed() {
    let mut s = Story::begin();
    // Everything is about to happen at once: entries, their notification, the disconnect event.
    s.lab.on(&s.b, || {
        for context in 0..8 {
            s.b.qp.receive(context, &[s.theirs.sge(0, 10)]).unwrap();
        }
        s.b.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
    let disconnecting = s.lab.on(&s.a, || {
        for context in 0..8 {
            s.a.qp.send(context, &[s.ours.sge(0, 10)], 0).unwrap();
        }
        s.connected.active.start_disconnect()
    });
    let Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = s.b;
    let Connected {
        active,
        passive,
        listener,
    } = s.connected;
    let heard = Rc::new(Cell::new(0));
    let hears = Rc::clone(&heard);
    cq.on_notify(move |_| hears.set(hears.get() + 1));
    let closing = s.lab.world.call(machine, || {
        [
            passive.start_close(),
            listener.start_close(),
            qp.start_close(),
            cq.start_close(),
        ]
    });
    for pending in &closing {
        pending.wait(&mut s.lab.world).unwrap();
    }
    let before = heard.get();
    // The peer goes on, with nobody there. What comes for objects that are closed, the judge between the tables would notice, too.
    let _ = disconnecting.wait(&mut s.lab.world);
    s.lab.world.run_for(Duration::from_secs(60));
    assert_eq!(heard.get(), before);
    assert!(closing.iter().all(|pending| pending.calls().len() <= 1));
    let mut lab = s.lab;
    lab.on(&s.a, || {
        active.close();
        s.ours.close();
    });
    lab.world.call(machine, || {
        s.theirs.close();
        pd.close();
        adapter.close();
    });
    lab.close(s.a);
    lab.finish();
}

#[test]
fn l07_a_protection_domain_waits_for_windows_and_shared_receive_queues_too() {
    for shared in [false, true] {
        let mut lab = Lab::new();
        let a = lab.side_a();
        let (pd, mw, srq) = lab.on(&a, || {
            let pd = a.adapter.create_pd().unwrap();
            let mw = (!shared).then(|| pd.create_mw().unwrap());
            let srq = shared.then(|| pd.create_srq(4, 1, 0).unwrap());
            (pd, mw, srq)
        });
        let closing = lab.on(&a, || pd.start_close());
        lab.world.run_for(Duration::from_secs(1));
        assert_eq!(closing.inline_status(), STATUS_PENDING);
        assert!(!closing.is_done());
        lab.on(&a, || {
            mw.into_iter().for_each(Mw::close);
            srq.into_iter().for_each(Srq::close);
        });
        closing.wait(&mut lab.world).unwrap();
        assert_eq!(closing.calls().len(), 1);
        lab.close(a);
        lab.finish();
    }
}
