//! Connecting, accepting, rejecting.

use std::time::Duration;

use ndkpi::status::*;
use ntsim::consumer::{ConnectionData, ReadLimits};

use crate::lab::{A, A6, ALL_RIGHTS, B, B6, Lab, PORT, SOON, failure, from, limits, to};

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
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m02_m15_a_rejected_connect_is_refused_and_carries_the_reasons() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), b"let me in")
    });
    let passive = lab.request(&listener);
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
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
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
fn m04_m05_m15_connect_ends_with_the_accept_and_accept_with_the_completion() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
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
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m06_an_accept_that_is_never_completed_times_out() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
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
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m07_m08_l16_a_peer_that_gives_up_aborts_accept_and_reject() {
    for reject in [false, true] {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let listener = lab.listen(&b);
        let active = lab.connector(&a);
        let connecting = lab.on(&a, || {
            active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
        });
        let passive = lab.request(&listener);
        let closing = lab.on(&a, || active.start_close());
        closing.wait(&mut lab.world).unwrap();
        assert_eq!(
            connecting.status(),
            Some(STATUS_CANCELLED),
            "the close cancelled the connect"
        );
        lab.world.run_for(Duration::from_millis(100));
        let status = if reject {
            lab.on(&b, || passive.reject(&[]))
        } else {
            let accepting = lab.on(&b, || {
                passive.start_accept(&b.qp, ReadLimits::default(), &[])
            });
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
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
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
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
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
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
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
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m12_the_ex_forms_behave_alike() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    assert_eq!(
        lab.on(&a, || active.start_complete_connect_ex())
            .inline_status(),
        STATUS_CONNECTION_INVALID
    );
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept_ex(&b.qp, ReadLimits::default(), &[])
    });
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect_ex());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    // D-12: the Ex event comes, once.
    lab.on(&a, || active.close());
    assert!(
        lab.world
            .run_until(|_| passive.disconnect_events().count() == 1, SOON)
    );
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m14_read_limits_are_the_least_of_both_sides_and_of_the_adapters() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let info = lab.on(&a, || a.adapter.info()).unwrap();
    let (cap_in, cap_out) = (info.MaxInboundReadLimit, info.MaxOutboundReadLimit);
    assert!(cap_in >= 8 && cap_out >= 8, "the numbers below assume it");
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    // Far more inbound than the adapter can, and 5 outbound.
    let asked = ReadLimits {
        inbound: 100_000,
        outbound: 5,
    };
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), asked, &[])
    });
    let passive = lab.request(&listener);
    // Before the passive consumer has spoken: what its adapter and the peer allow.
    let offered = lab.on(&b, || passive.connection_data()).unwrap().limits;
    assert_eq!(
        offered,
        ReadLimits {
            inbound: 5.min(cap_in),
            outbound: cap_out.min(cap_in)
        }
    );
    let granted = ReadLimits {
        inbound: 3,
        outbound: 4,
    };
    let accepting = lab.on(&b, || passive.start_accept(&b.qp, granted, &[]));
    connecting.wait(&mut lab.world).unwrap();
    let effective = lab.on(&a, || active.connection_data()).unwrap().limits;
    assert_eq!(
        effective,
        ReadLimits {
            inbound: 4,
            outbound: 3
        }
    );
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m16_to_m19_connection_data_obeys_its_buffer() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[7; 56])
    });
    let passive = lab.request(&listener);
    // A length without a buffer.
    lab.world.pardon(ntsim::ndk::rules::CONSUMER_PARAMETER);
    lab.on(&b, || {
        let get = |data: *mut u8, length: &mut u32| {
            // SAFETY: the buffer has at least the length that is passed; null limits are allowed (M-19).
            unsafe {
                (passive.table().NdkGetConnectionData)(
                    passive.raw(),
                    std::ptr::null_mut(),
                    std::ptr::null_mut(),
                    data.cast(),
                    length,
                )
            }
        };
        let mut needed = 0;
        assert_eq!(get(std::ptr::null_mut(), &mut needed), STATUS_SUCCESS);
        assert_eq!(needed, 56);
        let mut buffer = [0xaa_u8; 64];
        let mut length = 10;
        assert_eq!(
            get(buffer.as_mut_ptr(), &mut length),
            STATUS_BUFFER_TOO_SMALL
        );
        assert_eq!((length, buffer[9], buffer[10]), (56, 7, 0xaa));
        let mut length = 64;
        assert_eq!(get(buffer.as_mut_ptr(), &mut length), STATUS_SUCCESS);
        assert_eq!((length, buffer[55], buffer[56]), (56, 7, 0xaa));
        let mut length = 5;
        assert_eq!(
            get(std::ptr::null_mut(), &mut length),
            STATUS_INVALID_PARAMETER
        );
        assert_eq!(length, 5);
    });
    lab.on(&b, || passive.reject(&[])).unwrap();
    let _ = connecting.wait(&mut lab.world);
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn m20_m22_a_paused_listener_is_no_listener() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    lab.on(&b, || listener.pause(true));
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    assert_eq!(listener.waiting(), 0);
    lab.on(&b, || listener.pause(false));
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    // M-22: one event, however long the peer waits for the answer.
    lab.world.run_for(Duration::from_secs(20));
    assert_eq!(listener.waiting(), 0);
    lab.on(&b, || passive.close());
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED,
        "an implicit reject"
    );
    lab.on(&a, || active.close());
    lab.on(&b, || listener.close());
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn x36_private_data_up_to_the_advertised_sizes_is_carried_and_more_is_refused() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let info = lab.on(&a, || a.adapter.info()).unwrap();
    let (caller, callee) = (info.MaxCallerData as usize, info.MaxCalleeData as usize);
    let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    lab.on(&a, || {
        let too_much = active.start_connect(
            &a.qp,
            from(&a),
            to(&b),
            ReadLimits::default(),
            &bytes[..caller + 1],
        );
        assert_eq!(too_much.inline_status(), STATUS_INVALID_BUFFER_SIZE);
    });
    let connecting = lab.on(&a, || {
        active.start_connect(
            &a.qp,
            from(&a),
            to(&b),
            ReadLimits::default(),
            &bytes[..caller],
        )
    });
    let passive = lab.request(&listener);
    assert_eq!(
        &lab.on(&b, || passive.connection_data())
            .unwrap()
            .private_data[..caller],
        &bytes[..caller]
    );
    lab.on(&b, || {
        let too_much = passive.start_accept(&b.qp, ReadLimits::default(), &bytes[..callee + 1]);
        assert_eq!(too_much.inline_status(), STATUS_INVALID_BUFFER_SIZE);
        assert_eq!(
            passive.reject(&bytes[..callee + 1]),
            Err(STATUS_INVALID_BUFFER_SIZE)
        );
    });
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &bytes[..callee])
    });
    connecting.wait(&mut lab.world).unwrap();
    let ConnectionData { private_data, .. } = lab.on(&a, || active.connection_data()).unwrap();
    assert_eq!(&private_data[..callee], &bytes[..callee]);
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn x35_a_queue_pair_that_is_in_use_cannot_be_connected_again() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let second = lab.connector(&a);
    lab.on(&a, || {
        let connecting = second.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[]);
        let status = connecting.inline_status();
        assert!(
            [STATUS_CONNECTION_ACTIVE, STATUS_INVALID_DEVICE_REQUEST].contains(&status),
            "{status:#x}"
        );
        second.close();
    });
    lab.hang_up(&a, &b, connected);
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn several_connections_over_one_listener() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let mut open = Vec::new();
    for _ in 0..5 {
        let active = lab.connector(&a);
        let qp_a = lab.on(&a, || a.pd.create_qp(&a.cq, &a.cq, limits()).unwrap());
        let qp_b = lab.on(&b, || b.pd.create_qp(&b.cq, &b.cq, limits()).unwrap());
        let connecting = lab.on(&a, || {
            active.start_connect(&qp_a, from(&a), to(&b), ReadLimits::default(), &[])
        });
        let passive = lab.request(&listener);
        let accepting = lab.on(&b, || {
            passive.start_accept(&qp_b, ReadLimits::default(), &[])
        });
        connecting.wait(&mut lab.world).unwrap();
        let completing = lab.on(&a, || active.start_complete_connect());
        completing.wait(&mut lab.world).unwrap();
        accepting.wait(&mut lab.world).unwrap();
        open.push((active, passive, qp_a, qp_b));
    }
    let mut ports: Vec<_> = open
        .iter()
        .map(|(active, ..)| lab.world.call(lab.a, || active.local_address()).unwrap())
        .collect();
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 5, "each connection has a port of its own");
    for (active, passive, qp_a, qp_b) in open {
        lab.on(&a, || {
            active.close();
            qp_a.close();
        });
        lab.on(&b, || {
            passive.close();
            qp_b.close();
        });
    }
    lab.on(&b, || listener.close());
    assert_eq!((A, B, PORT), (a.address, b.address, to(&b).port()));
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn e12_connections_work_over_ipv6_too() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.side_a(), lab.side_b());
    (a.address, b.address) = (A6, B6);
    let connected = lab.connect(&a, &b);
    assert_eq!(
        lab.on(&b, || connected.passive.peer_address())
            .unwrap()
            .ip(),
        A6
    );
    let (ours, theirs) = (
        lab.region(&a, 9000, ALL_RIGHTS, 3),
        lab.region(&b, 9000, ALL_RIGHTS, 0),
    );
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 9000)]))
        .unwrap();
    lab.on(&a, || a.qp.send(2, &[ours.sge(0, 9000)], 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    assert_eq!(lab.result(&b).BytesTransferred, 9000);
    lab.on(&b, || assert_eq!(theirs.buffer.bytes(), [3; 9000]));
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn an_adapter_connects_to_itself_without_the_wire() {
    let mut lab = Lab::new();
    let (a, mut b) = (lab.side_a(), lab.side_a());
    // Another port, so that the two ends can be told apart.
    b.address = A;
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = (
        lab.region(&a, 60_000, ALL_RIGHTS, 3),
        lab.region(&b, 60_000, ALL_RIGHTS, 0),
    );
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 60_000)]))
        .unwrap();
    lab.on(&a, || a.qp.send(2, &[ours.sge(0, 60_000)], 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    assert_eq!(lab.result(&b).BytesTransferred, 60_000);
    lab.on(&b, || assert_eq!(theirs.buffer.bytes(), [3; 60_000]));
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || {
        ours.close();
        theirs.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}
