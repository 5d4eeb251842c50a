//! Consumers that call back from inside callbacks.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_CONNECTOR, NDK_CQ, NDK_CQ_NOTIFY_ANY, NDK_LISTENER, NDK_QP};
use ntsim::ndk::{Connector, ReadLimits};

use crate::lab::{Lab, SOON, from, to};
use crate::raw::{never_closed, never_created, sockaddr};

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn log(line: &str) {
    LOG.with_borrow_mut(|log| log.push(line.into()));
}

fn take_log() -> Vec<String> {
    LOG.take()
}

unsafe extern "efiapi" fn closed(_: *mut c_void) {
    log("closed");
}

#[test]
fn l04_a_completion_queue_may_be_closed_inside_its_own_notification() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    thread_local!(static CQ: Cell<*mut NDK_CQ> = const { Cell::new(null_mut()) });
    unsafe extern "efiapi" fn notified(_: *mut c_void, status: i32) {
        log("notified");
        assert_eq!(status, STATUS_SUCCESS);
        let cq = CQ.get();
        // SAFETY: open until here.
        let status = unsafe { ((*(*cq).Dispatch).NdkCloseCq)(cq.cast(), closed, null_mut()) };
        assert_eq!(status, STATUS_PENDING, "its callback is still running");
        log("leaving");
    }
    lab.on(&a, || {
        let mut cq = null_mut();
        // SAFETY: an open adapter and an out parameter.
        let status = unsafe {
            (a.adapter.table().NdkCreateCq)(
                a.adapter.raw(),
                8,
                notified,
                null_mut(),
                null_mut(),
                never_created,
                null_mut(),
                &raw mut cq,
            )
        };
        assert_eq!(status, STATUS_SUCCESS);
        CQ.set(cq);
        let mut qp: *mut NDK_QP = null_mut();
        // SAFETY: open objects.
        unsafe {
            let status = (a.pd.table().NdkCreateQp)(
                a.pd.raw(),
                cq,
                cq,
                null_mut(),
                4,
                4,
                1,
                1,
                0,
                never_created,
                null_mut(),
                &raw mut qp,
            );
            assert_eq!(status, STATUS_SUCCESS);
            assert_eq!(
                ((*(*qp).Dispatch).NdkReceive)(qp, null_mut(), null(), 0),
                STATUS_SUCCESS
            );
            ((*(*cq).Dispatch).NdkArmCq)(cq, NDK_CQ_NOTIFY_ANY);
            // The close brings the receive back, and with it the notification.
            assert_eq!(
                ((*(*qp).Dispatch).NdkCloseQp)(qp.cast(), never_closed, null_mut()),
                STATUS_SUCCESS
            );
        }
    });
    lab.world.run_for(Duration::from_millis(10));
    assert_eq!(take_log(), ["notified", "leaving", "closed"]);
    lab.close(a);
    lab.finish();
}

/// What a server does that works inside its callbacks.
struct Server {
    qp: *mut NDK_QP,
    listener: *mut NDK_LISTENER,
    /// Accept, or close the listener and the connector.
    accept: bool,
}

unsafe extern "efiapi" fn accepted(_: *mut c_void, status: i32) {
    log(if status == STATUS_SUCCESS {
        "accepted"
    } else {
        "not accepted"
    });
}

unsafe extern "efiapi" fn gone(_: *mut c_void) {
    log("gone");
}

unsafe extern "efiapi" fn connector_closed(_: *mut c_void) {
    log("connector closed");
}

unsafe extern "efiapi" fn asked(context: *mut c_void, connector: *mut NDK_CONNECTOR) {
    log("asked");
    // SAFETY: the context outlives the listener; the connector is ours from here on.
    unsafe {
        let server = &*context.cast::<Server>();
        let table = &*(*connector).Dispatch;
        if server.accept {
            let status = (table.NdkAccept)(
                connector,
                server.qp,
                4,
                4,
                null(),
                0,
                Some(gone),
                null_mut(),
                accepted,
                null_mut(),
            );
            assert_eq!(status, STATUS_PENDING);
            CONNECTOR.set(connector);
        } else {
            let listener = server.listener;
            let status =
                ((*(*listener).Dispatch).NdkCloseListener)(listener.cast(), closed, null_mut());
            assert_eq!(status, STATUS_PENDING, "l05: its connect event is running");
            let status = (table.NdkCloseConnector)(connector.cast(), connector_closed, null_mut());
            assert_eq!(status, STATUS_PENDING);
        }
    }
    log("leaving");
}

thread_local!(static CONNECTOR: Cell<*mut NDK_CONNECTOR> = const { Cell::new(null_mut()) });

fn serve(lab: &mut Lab, b: &crate::lab::Side, accept: bool) -> (Box<Server>, *mut NDK_LISTENER) {
    let mut server = Box::new(Server {
        qp: b.qp.raw(),
        listener: null_mut(),
        accept,
    });
    let context = std::ptr::from_mut(&mut *server).cast();
    lab.world.run_for(Duration::from_millis(1));
    let listener = lab.on(b, || {
        let mut listener = null_mut();
        let at = sockaddr(to(b));
        // SAFETY: open objects; the server outlives the listener.
        unsafe {
            let status = (b.adapter.table().NdkCreateListener)(
                b.adapter.raw(),
                asked,
                context,
                never_created,
                null_mut(),
                &raw mut listener,
            );
            assert_eq!(status, STATUS_SUCCESS);
            let listen = (*(*listener).Dispatch).NdkListen;
            assert_eq!(
                listen(listener, at.as_ptr().cast(), 16, accepted, null_mut()),
                STATUS_SUCCESS
            );
        }
        listener
    });
    server.listener = listener;
    (server, listener)
}

#[test]
fn m21_a_connection_may_be_accepted_inside_the_connect_event() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (_server, listener) = serve(&mut lab, &b, true);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    lab.world.run_for(SOON);
    // the completion comes before the event.
    assert_eq!(take_log(), ["asked", "leaving", "accepted", "gone"]);
    let passive = Connector::from_raw(NonNull::new(CONNECTOR.get()).unwrap());
    lab.on(&b, || {
        passive.close();
        // SAFETY: closed once.
        let status = unsafe {
            ((*(*listener).Dispatch).NdkCloseListener)(listener.cast(), closed, null_mut())
        };
        assert_eq!(status, STATUS_SUCCESS, "l02: nothing is left of it");
    });
    assert!(take_log().is_empty());
    lab.end(a, b);
}

#[test]
fn l05_l14_listener_and_connector_may_be_closed_inside_the_connect_event() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (_server, _listener) = serve(&mut lab, &b, false);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        connecting.wait(&mut lab.world),
        Err(STATUS_CONNECTION_REFUSED)
    );
    lab.world.run_for(SOON);
    // The successor's completion has run before the antecedent's begins.
    assert_eq!(
        take_log(),
        ["asked", "leaving", "connector closed", "closed"]
    );
    lab.on(&a, || active.close());
    lab.end(a, b);
}
