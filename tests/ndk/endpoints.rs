//! Local addresses and ports.

use std::net::SocketAddr;

use ndkpi::status::*;
use ndkpi::{NDK_VERSION_2_1, NTSTATUS, SOCKADDR};
use ntsim::ndk::{Listener, ReadLimits};

use crate::lab::{A6, B6, Connected, Lab, PORT, Side, failure, from, to};
use crate::raw::{Completed, Shared};

fn listener(lab: &mut Lab, side: &Side) -> Listener {
    lab.on(side, || side.adapter.create_listener().unwrap())
}

#[test]
fn e01_l12_l17_a_listeners_port_is_taken_until_its_last_connector_is_closed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let closing = lab.on(&b, || connected.listener.start_close());
    lab.world.run_for(std::time::Duration::from_secs(1));
    assert!(!closing.is_done(), "the accepted connector is still open");
    let second = listener(&mut lab, &b);
    assert_eq!(
        failure(lab.on(&b, || second.listen(to(&b)))),
        STATUS_SHARING_VIOLATION
    );
    // L-17: nobody gets in any more.
    let late = lab.connector(&a);
    let qp = lab.queue_pair(&a);
    let connecting = lab.on(&a, || {
        late.start_connect(&qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    lab.on(&a, || {
        late.close();
        qp.close();
        connected.active.close();
    });
    lab.on(&b, || connected.passive.close());
    closing.wait(&mut lab.world).unwrap();
    assert_eq!(closing.calls().len(), 1, "l02: one close completion");
    assert_eq!(lab.on(&b, || second.listen(to(&b))), Ok(()));
    lab.on(&b, || second.close());
    lab.end(a, b);
}

#[test]
fn e03_e08_e10_a_connectors_port_is_its_own_until_it_is_closed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listening = lab.listen(&b);
    let active = lab.connector(&a);
    let here = SocketAddr::new(a.address, 50_000);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, here, to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listening);
    let other = listener(&mut lab, &a);
    assert_eq!(
        failure(lab.on(&a, || other.listen(here))),
        STATUS_SHARING_VIOLATION
    );
    assert_eq!(
        lab.on(&a, || Shared::create(&a, here)).err(),
        Some(STATUS_SHARING_VIOLATION)
    );
    let (second, qp) = lab.on(&a, || {
        (
            a.adapter.create_connector().unwrap(),
            a.pd.create_qp(&a.cq, &a.cq, crate::lab::limits()).unwrap(),
        )
    });
    let elsewhere = SocketAddr::new(b.address, PORT + 1);
    lab.on(&a, || {
        let same = second.start_connect(&qp, here, to(&b), ReadLimits::default(), &[]);
        assert_eq!(
            same.inline_status(),
            STATUS_ADDRESS_ALREADY_EXISTS,
            "e10: the 4-tuple exists"
        );
        let busy = second.start_connect(&qp, here, elsewhere, ReadLimits::default(), &[]);
        assert_eq!(busy.inline_status(), STATUS_SHARING_VIOLATION);
        second.close();
        qp.close();
    });
    lab.on(&a, || active.close());
    assert!(connecting.is_done());
    assert_eq!(lab.on(&a, || other.listen(here)), Ok(()));
    lab.on(&a, || other.close());
    lab.on(&b, || {
        passive.close();
        listening.close();
    });
    lab.end(a, b);
}

#[test]
fn e04_port_0_means_an_ephemeral_port_that_can_be_asked_for() {
    let mut lab = Lab::new();
    let b = lab.side_b();
    let listener = listener(&mut lab, &b);
    lab.on(&b, || {
        assert_eq!(listener.local_address(), Err(STATUS_INVALID_DEVICE_STATE));
        listener.listen(from(&b)).unwrap();
        let at = listener.local_address().unwrap();
        assert_eq!(at.ip(), b.address);
        assert!(at.port() >= 49_152);
        listener.close();
    });
    lab.close(b);
    lab.finish();
}

/// Asks for an address with every length: short ones learn the size, sufficient ones get so many bytes.
fn address_obeys_its_buffer(size: u32, get: &dyn Fn(*mut SOCKADDR, *mut u32) -> NTSTATUS) {
    for room in 0..=size + 4 {
        let (mut buffer, mut length) = ([0xaa_u8; 40], room);
        let status = get(buffer.as_mut_ptr().cast(), &raw mut length);
        let expected = if room < size {
            STATUS_BUFFER_TOO_SMALL
        } else {
            STATUS_SUCCESS
        };
        assert_eq!((status, length), (expected, size), "{room} bytes");
        let written = buffer.iter().rposition(|byte| *byte != 0xaa);
        let written = written.map_or(0, |last| last + 1);
        assert_eq!(written, if room < size { 0 } else { size as usize });
    }
}

#[test]
fn e11_every_address_obeys_its_buffer() {
    for (v6, size) in [(false, 16), (true, 28)] {
        let mut lab = Lab::new();
        let (mut a, mut b) = (lab.side_a(), lab.side_b());
        if v6 {
            (a.address, b.address) = (A6, B6);
        }
        let connected = lab.connect(&a, &b);
        lab.on(&b, || {
            let Connected {
                passive, listener, ..
            } = &connected;
            let (table, raw) = (passive.table(), passive.raw());
            // SAFETY: an open connector, and a buffer with its length.
            let local = |at, length| unsafe { (table.NdkGetLocalAddress)(raw, at, length) };
            address_obeys_its_buffer(size, &local);
            // SAFETY: as above.
            let peer = |at, length| unsafe { (table.NdkGetPeerAddress)(raw, at, length) };
            address_obeys_its_buffer(size, &peer);
            let (table, raw) = (listener.table(), listener.raw());
            // SAFETY: an open listener, and a buffer with its length.
            let local = |at, length| unsafe { (table.NdkGetLocalAddress)(raw, at, length) };
            address_obeys_its_buffer(size, &local);
        });
        if !v6 {
            lab.on(&a, || {
                let shared = Shared::create(&a, from(&a)).unwrap();
                let (table, raw) = (shared.table(), shared.0.as_ptr());
                // SAFETY: an open shared endpoint, and a buffer with its length.
                let local = |at, length| unsafe { (table.NdkGetLocalAddress)(raw, at, length) };
                address_obeys_its_buffer(size, &local);
                assert_eq!(shared.close(&Completed::default()), STATUS_SUCCESS);
            });
        }
        lab.drop_connection(&a, &b, connected);
        lab.end(a, b);
    }
}

#[test]
fn e06_every_ephemeral_port_can_be_taken_and_then_there_is_none() {
    let mut lab = Lab::new();
    let b = lab.side_b();
    lab.on(&b, || {
        let mut all: Vec<Listener> = Vec::new();
        for _ in 49_152..=65_535 {
            let listener = b.adapter.create_listener().unwrap();
            listener.listen(from(&b)).unwrap();
            all.push(listener);
        }
        let one_more = b.adapter.create_listener().unwrap();
        assert_eq!(one_more.listen(from(&b)), Err(STATUS_TOO_MANY_ADDRESSES));
        let connector = b.adapter.create_connector().unwrap();
        let connecting = connector.start_connect(
            &b.qp,
            from(&b),
            "10.0.0.1:445".parse().unwrap(),
            ReadLimits::default(),
            &[],
        );
        assert_eq!(connecting.inline_status(), STATUS_TOO_MANY_ADDRESSES);
        connector.close();
        assert_eq!(
            Shared::create(&b, from(&b)).err(),
            Some(STATUS_TOO_MANY_ADDRESSES)
        );
        all.pop().unwrap().close();
        assert_eq!(one_more.listen(from(&b)), Ok(()));
        one_more.close();
        all.into_iter().for_each(Listener::close);
    });
    lab.close(b);
    lab.finish();
}

#[test]
fn e07_an_address_of_somebody_else_is_invalid() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = listener(&mut lab, &b);
    // A's address.
    assert_eq!(
        failure(lab.on(&b, || listener.listen(to(&a)))),
        STATUS_INVALID_ADDRESS
    );
    // The same listener can listen elsewhere afterwards.
    assert_eq!(lab.on(&b, || listener.listen(to(&b))), Ok(()));
    let connector = lab.connector(&b);
    let foreign = SocketAddr::new(a.address, 0);
    let connecting = lab.on(&b, || {
        connector.start_connect(&b.qp, foreign, to(&a), ReadLimits::default(), &[])
    });
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_INVALID_ADDRESS
    );
    lab.on(&b, || {
        connector.close();
        listener.close();
    });
    lab.end(a, b);
}

#[test]
fn a_listener_at_the_wildcard_hears_on_every_address() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let everywhere = listener(&mut lab, &b);
    assert_eq!(
        lab.on(&b, || everywhere.listen(SocketAddr::new(
            std::net::Ipv4Addr::UNSPECIFIED.into(),
            PORT
        ))),
        Ok(())
    );
    let precise = listener(&mut lab, &b);
    assert_eq!(
        failure(lab.on(&b, || precise.listen(to(&b)))),
        STATUS_SHARING_VIOLATION
    );
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&everywhere);
    assert_eq!(
        lab.on(&b, || passive.local_address()),
        Ok(to(&b)),
        "the address that was called"
    );
    lab.on(&b, || passive.reject(&[])).unwrap();
    assert_eq!(
        failure(connecting.wait(&mut lab.world)),
        STATUS_CONNECTION_REFUSED
    );
    lab.on(&a, || active.close());
    lab.on(&b, || {
        passive.close();
        everywhere.close();
        precise.close();
    });
    lab.end(a, b);
}

/// Addresses that every link has need an interface to mean one host.
#[test]
fn e10_link_local_addresses_have_the_scope_of_their_interface_whether_it_is_given_or_not() {
    let mut lab = Lab::new();
    // What IPv6 makes of the NICs' Ethernet addresses.
    let [at_a, at_b] =
        ["fe80::5054:ff:fe00:1", "fe80::5054:ff:fe00:2"].map(|ip| ip.parse().unwrap());
    let (machine_a, machine_b) = (lab.a, lab.b);
    let a = lab.side_of(machine_a, at_a, NDK_VERSION_2_1);
    let b = lab.side_of(machine_b, at_b, NDK_VERSION_2_1);
    let listener = lab.listen(&b);
    let (active, passive) = lab.establish(&a, &b, &listener);
    let scope = |end: Result<SocketAddr, i32>| match end {
        Ok(SocketAddr::V6(v6)) => v6.scope_id(),
        other => panic!("{other:?}"),
    };
    let (here, there) = lab.on(&a, || (active.local_address(), active.peer_address()));
    assert_ne!(scope(here), 0);
    assert_eq!(scope(there), scope(here));
    lab.on(&b, || {
        let own = scope(listener.local_address());
        assert_ne!(own, 0);
        assert_eq!(scope(passive.local_address()), own);
        assert_eq!(scope(passive.peer_address()), own);
    });
    // The same two ends again, with and without it.
    let (here, there) = (here.unwrap(), there.unwrap());
    let bare = |end: SocketAddr| SocketAddr::new(end.ip(), end.port());
    let (qp, second) = (lab.queue_pair(&a), lab.connector(&a));
    for (here, there) in [
        (here, there),
        (bare(here), bare(there)),
        (here, bare(there)),
    ] {
        let again = lab.on(&a, || {
            second.start_connect(&qp, here, there, ReadLimits::default(), &[])
        });
        assert_eq!(again.inline_status(), STATUS_ADDRESS_ALREADY_EXISTS);
    }
    lab.on(&a, || {
        second.close();
        qp.close();
    });
    let connected = Connected {
        active,
        passive,
        listener,
    };
    lab.hang_up(&a, &b, connected);
    lab.end(a, b);
}
