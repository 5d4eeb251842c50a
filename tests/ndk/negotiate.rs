//! What both sides of a connection agree on: private data and read limits.

use std::ptr::null_mut;

use ndkpi::status::*;
use ntsim::ndk::{ConnectionData, ReadLimits};

use crate::lab::{Lab, from, to};

#[test]
fn m13_m14_read_limits_are_the_least_of_both_sides_and_of_the_adapters() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let info = lab.on(&a, || a.adapter.info()).unwrap();
    let (cap_in, cap_out) = (info.MaxInboundReadLimit, info.MaxOutboundReadLimit);
    assert!(cap_in >= 8 && cap_out >= 8, "the numbers below assume it");
    // Far more inbound than the adapter can, and 5 outbound.
    let asked = ReadLimits {
        inbound: 100_000,
        outbound: 5,
    };
    let (listener, active, connecting, passive) = lab.ask_with(&a, &b, asked, &[]);
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
    assert_eq!(connecting.wait(&mut lab.world), Ok(()), "no error");
    let effective = lab.on(&a, || active.connection_data()).unwrap().limits;
    assert_eq!(
        effective,
        ReadLimits {
            inbound: 4,
            outbound: 3
        }
    );
    lab.complete(&a, &active, &accepting);
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m13_limits_beyond_the_adapters_are_cut_down_to_them_on_both_sides() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let info = lab.on(&a, || a.adapter.info()).unwrap();
    let most = ReadLimits {
        inbound: u32::MAX,
        outbound: u32::MAX,
    };
    let (listener, active, connecting, passive) = lab.ask_with(&a, &b, most, &[]);
    let accepting = lab.on(&b, || passive.start_accept(&b.qp, most, &[]));
    assert_eq!(connecting.wait(&mut lab.world), Ok(()));
    let adapters = info.MaxInboundReadLimit.min(info.MaxOutboundReadLimit);
    let expected = ReadLimits {
        inbound: adapters,
        outbound: adapters,
    };
    assert_eq!(
        lab.on(&a, || active.connection_data()).unwrap().limits,
        expected
    );
    lab.complete(&a, &active, &accepting);
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m16_to_m19_connection_data_obeys_its_buffer() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) =
        lab.ask_with(&a, &b, ReadLimits::default(), &[7; 56]);
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
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m23_x36_private_data_up_to_the_advertised_sizes_is_carried_and_more_is_refused() {
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
    // A reject carries as much as an accept.
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    assert_eq!(lab.on(&b, || passive.reject(&bytes[..callee])), Ok(()));
    assert_eq!(
        connecting.wait(&mut lab.world),
        Err(STATUS_CONNECTION_REFUSED)
    );
    let ConnectionData { private_data, .. } = lab.on(&a, || active.connection_data()).unwrap();
    assert_eq!(&private_data[..callee], &bytes[..callee]);
    drop(private_data);
    lab.on(&b, || passive.close());
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
    drop(private_data);
    lab.complete(&a, &active, &accepting);
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn m19_either_read_limit_may_be_left_out() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    let asked = ReadLimits {
        inbound: 2,
        outbound: 5,
    };
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), asked, &[])
    });
    let passive = lab.request(&listener);
    lab.on(&b, || {
        let expected = passive.connection_data().unwrap().limits;
        assert_eq!(
            expected,
            ReadLimits {
                inbound: 5,
                outbound: 2
            }
        );
        let get = |inbound: *mut u32, outbound: *mut u32| {
            let (get, data, mut length) = (passive.table().NdkGetConnectionData, null_mut(), 0);
            // SAFETY: either limit may be null, and so may a buffer of no length.
            unsafe { get(passive.raw(), inbound, outbound, data, &raw mut length) }
        };
        let (mut inbound, mut outbound) = (77, 77);
        assert_eq!(get(&raw mut inbound, null_mut()), STATUS_SUCCESS);
        assert_eq!((inbound, outbound), (5, 77));
        assert_eq!(get(null_mut(), &raw mut outbound), STATUS_SUCCESS);
        assert_eq!((inbound, outbound), (5, 2));
    });
    lab.on(&b, || passive.reject(&[])).unwrap();
    let _ = connecting.wait(&mut lab.world);
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}
