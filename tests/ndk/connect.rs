//! Connecting, accepting, rejecting, one step at a time.

use std::net::SocketAddr;
use std::time::Duration;

use ndkpi::status::*;
use ntsim::ndk::{Connector, ReadLimits};

use crate::lab::{A, B, Connected, Lab, PORT, SOON, failure, from, to};

#[test]
fn m01_a_port_that_nobody_has_opened_refuses_too() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        let nobody = SocketAddr::new(B, PORT);
        active.start_connect(&a.qp, from(&a), nobody, ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    lab.on(&a, || active.close());
    lab.close(a);
    lab.finish();
}

#[test]
fn m01_connect_without_listener_is_refused_and_can_be_retried() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let active = lab.connector(&a);
    for _ in 0..2 {
        let connecting = lab.on(&a, || {
            active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), b"anyone?")
        });
        assert_eq!(
            failure(connecting.wait(&mut lab.world)),
            STATUS_CONNECTION_REFUSED
        );
    }
    // The same objects connect once somebody listens.
    let listener = lab.listen(&b);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    lab.complete(&a, &active, &accepting);
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m02_m15_m21_a_rejected_connect_is_refused_and_carries_the_reasons() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) =
        lab.ask_with(&a, &b, ReadLimits::default(), b"let me in");
    let asked = lab.on(&b, || passive.connection_data()).unwrap();
    assert_eq!(&asked.private_data[..9], b"let me in");
    assert_eq!(lab.on(&b, || passive.reject(b"not by the hair")), Ok(()));
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    let answer = lab.on(&a, || active.connection_data()).unwrap();
    assert_eq!(&answer.private_data[..15], b"not by the hair");
    assert!(answer.private_data[15..].iter().all(|byte| *byte == 0));
    lab.close_ends(&a, active, &b, passive, listener);
    lab.close(a);
    lab.close(b);
    drop((asked, answer));
    lab.finish();
}

#[test]
fn m03_a_silent_host_times_out_or_is_unreachable() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let active = lab.connector(&a);
    let nobody = "10.0.0.77:445".parse().unwrap();
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), nobody, ReadLimits::default(), &[])
    });
    let status = failure(connecting.wait(&mut lab.world));
    assert!(
        [
            STATUS_IO_TIMEOUT,
            STATUS_HOST_UNREACHABLE,
            STATUS_NETWORK_UNREACHABLE
        ]
        .contains(&status),
        "{status:#x}"
    );
    lab.on(&a, || active.close());
    lab.close(a);
    lab.finish();
}

#[test]
fn c05_m04_m05_m15_connect_ends_with_the_accept_and_accept_with_the_completion() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) = lab.ask(&a, &b);
    assert!(!connecting.is_done(), "nobody has accepted yet");
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), b"welcome")
    });
    assert_eq!(connecting.wait(&mut lab.world), Ok(()));
    let answer = lab.on(&a, || active.connection_data()).unwrap();
    assert_eq!(&answer.private_data[..7], b"welcome");
    lab.world.run_for(Duration::from_millis(100));
    assert!(!accepting.is_done(), "the active side has not completed");
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    for pending in [&connecting, &completing, &accepting] {
        let calls = pending.calls();
        assert_eq!(calls.len(), 1, "c05: exactly one completion");
    }
    assert_eq!(lab.on(&a, || active.peer_address()).unwrap(), to(&b));
    let active_end = lab.on(&a, || active.local_address()).unwrap();
    assert_eq!(active_end.ip(), A);
    assert!(
        active_end.port() >= 49152,
        "e04: an ephemeral port was chosen"
    );
    assert_eq!(lab.on(&b, || passive.peer_address()).unwrap(), active_end);
    assert_eq!(lab.on(&b, || passive.local_address()).unwrap(), to(&b));
    lab.close_ends(&a, active, &b, passive, listener);
    lab.close(a);
    lab.close(b);
    drop(answer);
    lab.finish();
}

#[test]
fn m06_an_accept_that_is_never_completed_times_out() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) = lab.ask(&a, &b);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    assert_eq!(failure(accepting.wait(&mut lab.world)), STATUS_IO_TIMEOUT);
    // What is left for the active side is an error, too.
    let completing = lab.on(&a, || active.start_complete_connect());
    let status = completing.wait(&mut lab.world);
    assert!(
        matches!(
            status,
            Ok(()) | Err(STATUS_CONNECTION_ABORTED | STATUS_IO_TIMEOUT)
        ),
        "{status:x?}"
    );
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m07_m08_l16_a_peer_that_gives_up_aborts_accept_and_reject() {
    for reject in [false, true] {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let (listener, active, connecting, passive) = lab.ask(&a, &b);
        let begun = lab.world.now();
        let closing = lab.on(&a, || active.start_close());
        closing.wait(&mut lab.world).unwrap();
        assert!(lab.world.now() - begun < SOON, "no timeout was waited for");
        assert_eq!(
            connecting.status(),
            Some(STATUS_CANCELLED),
            "the close cancelled the connect"
        );
        lab.world.run_for(Duration::from_millis(100));
        let status = if reject {
            lab.on(&b, || passive.reject(&[]))
        } else {
            let accepting = lab.accept(&b, &passive);
            accepting.wait(&mut lab.world)
        };
        assert_eq!(failure(status), STATUS_CONNECTION_ABORTED);
        lab.on(&b, || {
            passive.close();
            listener.close();
        });
        lab.close(a);
        lab.close(b);
        lab.finish();
    }
}

#[test]
fn m09_the_active_side_may_reject_the_answer() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) = lab.ask(&a, &b);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    assert_eq!(lab.on(&a, || active.reject(b"changed my mind")), Ok(()));
    assert_eq!(
        failure(accepting.wait(&mut lab.world)),
        STATUS_CONNECTION_ABORTED
    );
    assert_eq!(
        passive.disconnect_events().count(),
        0,
        "there was no connection to end"
    );
    for side in [&a, &b] {
        let sent = lab.on(side, || side.qp.send(1, &[], 0));
        assert_eq!(sent, Err(STATUS_CONNECTION_INVALID), "nor one to use");
    }
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m10_calls_out_of_turn_are_connection_invalid() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let active = lab.connector(&a);
    lab.on(&a, || {
        assert_eq!(
            active.start_complete_connect().inline_status(),
            STATUS_CONNECTION_INVALID
        );
        assert_eq!(
            active
                .start_accept(&a.qp, ReadLimits::default(), &[])
                .inline_status(),
            STATUS_CONNECTION_INVALID
        );
        assert_eq!(
            active.start_disconnect().inline_status(),
            STATUS_CONNECTION_INVALID
        );
        assert_eq!(active.reject(&[]), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(active.connection_data(), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(active.local_address(), Err(STATUS_CONNECTION_INVALID));
        active.close();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn m11_completing_after_the_passive_side_vanished_is_aborted() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) = lab.ask(&a, &b);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    lab.on(&b, || passive.close());
    assert_eq!(accepting.status(), Some(STATUS_CANCELLED));
    lab.world.run_for(Duration::from_millis(100));
    let completing = lab.on(&a, || active.start_complete_connect());
    let status = failure(completing.wait(&mut lab.world));
    assert!(
        [STATUS_CONNECTION_ABORTED, STATUS_IO_TIMEOUT].contains(&status),
        "{status:#x}"
    );
    lab.on(&a, || active.close());
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

#[test]
fn m12_the_ex_forms_behave_alike() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let limits = ReadLimits::default();
    let active = lab.connector(&a);
    lab.on(&a, || {
        assert_eq!(
            active.start_complete_connect_ex().inline_status(),
            STATUS_CONNECTION_INVALID
        );
        assert_eq!(
            active.start_accept_ex(&a.qp, limits, &[]).inline_status(),
            STATUS_CONNECTION_INVALID
        );
    });
    // The connecting side gives up.
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    lab.on(&a, || active.close());
    assert_eq!(connecting.status(), Some(STATUS_CANCELLED));
    lab.world.run_for(Duration::from_millis(100));
    let accepting = lab.on(&b, || passive.start_accept_ex(&b.qp, limits, &[]));
    assert_eq!(
        failure(accepting.wait(&mut lab.world)),
        STATUS_CONNECTION_ABORTED
    );
    lab.on(&b, || passive.close());
    // The accepting side gives up.
    let active = lab.connector(&a);
    let (qp_a, qp_b) = (lab.queue_pair(&a), lab.queue_pair(&b));
    let connecting = lab.on(&a, || {
        active.start_connect(&qp_a, from(&a), to(&b), limits, &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || passive.start_accept_ex(&qp_b, limits, &[]));
    connecting.wait(&mut lab.world).unwrap();
    lab.on(&b, || passive.close());
    assert_eq!(accepting.status(), Some(STATUS_CANCELLED));
    lab.world.run_for(Duration::from_millis(100));
    let completing = lab.on(&a, || active.start_complete_connect_ex());
    let status = failure(completing.wait(&mut lab.world));
    assert!(
        [STATUS_CONNECTION_ABORTED, STATUS_IO_TIMEOUT].contains(&status),
        "{status:#x}"
    );
    lab.on(&a, || {
        active.close();
        qp_a.close();
    });
    lab.on(&b, || qp_b.close());
    // Neither does.
    let active = lab.connector(&a);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || passive.start_accept_ex(&b.qp, limits, &[]));
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect_ex());
    assert_eq!(completing.wait(&mut lab.world), Ok(()));
    assert_eq!(accepting.wait(&mut lab.world), Ok(()));
    lab.on(&a, || active.close());
    assert!(
        lab.world
            .run_until(|_| passive.disconnect_events().count() == 1, SOON)
    );
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}

#[test]
fn m10_what_waits_for_no_completion_cannot_be_completed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.dial(&a, &active, &b);
    let complete = |lab: &mut Lab, side: &crate::lab::Side, connector: &Connector| {
        let completing = lab.on(side, || connector.start_complete_connect());
        assert!(completing.calls().is_empty());
        completing.inline_status()
    };
    let invalid = STATUS_CONNECTION_INVALID;
    assert_eq!(complete(&mut lab, &a, &active), invalid, "unanswered");
    let passive = lab.request(&listener);
    assert_eq!(complete(&mut lab, &b, &passive), invalid, "it is asked");
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    assert_eq!(complete(&mut lab, &b, &passive), invalid, "it accepts");
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    assert_eq!(complete(&mut lab, &a, &active), invalid, "connected");
    assert_eq!(complete(&mut lab, &b, &passive), invalid, "connected");
    let disconnecting = lab.on(&a, || active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    assert_eq!(complete(&mut lab, &a, &active), invalid, "disconnected");
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}

/// Others may ask for the way to peers that do not answer for as long as they like.
#[test]
fn a_peer_is_accepted_while_peers_that_are_not_there_are_looked_up() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let nobody: Vec<_> = (100..108_u8)
        .map(|host| {
            let (qp, connector) = (lab.queue_pair(&b), lab.connector(&b));
            let peer = SocketAddr::from(([10, 0, 0, host], PORT));
            let connecting = lab.on(&b, || {
                connector.start_connect(&qp, from(&b), peer, ReadLimits::default(), &[])
            });
            (qp, connector, connecting)
        })
        .collect();
    lab.world.run_for(Duration::from_millis(1));
    let begun = lab.world.now();
    let (active, passive) = lab.establish(&a, &b, &listener);
    let took = lab.world.now() - begun;
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert!(nobody.iter().all(|(.., connecting)| !connecting.is_done()));
    for (qp, connector, connecting) in nobody {
        let status = failure(connecting.wait(&mut lab.world));
        assert_eq!(status, STATUS_HOST_UNREACHABLE);
        lab.on(&b, || {
            connector.close();
            qp.close();
        });
    }
    let connected = Connected {
        active,
        passive,
        listener,
    };
    lab.hang_up(&a, &b, connected);
    lab.end(a, b);
}
