//! Bad wires, slow devices, lost hardware.

use std::net::SocketAddr;
use std::time::Duration;

use ndkpi::status::*;
use ntsim::ndk::ReadLimits;
use ntsim::virtio_net::NicConfig;
use ntsim::wire::SwitchConfig;

use crate::lab::{ALL_RIGHTS, Connected, Lab, SOON, Side, from, slow_nic, to};
use crate::story::Story;

/// Cuts every cable.
fn silence(lab: &Lab) {
    lab.net.set_links(SwitchConfig {
        loss: 1.0,
        ..SwitchConfig::default()
    });
}

#[test]
fn d02_a_wire_that_goes_dead_ends_the_connection_with_one_event() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 0);
    silence(&lab);
    lab.on(&a, || {
        a.qp.receive(1, &[ours.sge(0, 10)]).unwrap();
        a.qp.send(2, &[ours.sge(0, 10)], 0).unwrap();
        a.qp.send(3, &[ours.sge(0, 10)], 0).unwrap();
    });
    let first = lab.result(&a);
    assert_eq!(
        (first.RequestContext as u64, first.Status),
        (2, STATUS_IO_TIMEOUT)
    );
    let second = lab.result(&a);
    assert_eq!(
        (second.RequestContext as u64, second.Status),
        (3, STATUS_CANCELLED)
    );
    assert!(
        lab.world
            .run_until(|_| connected.active.disconnect_events().count() > 0, SOON)
    );
    lab.world.run_for(Duration::from_secs(60));
    assert_eq!(connected.active.disconnect_events().count(), 1);
    assert_eq!(
        connected.passive.disconnect_events().count(),
        0,
        "nothing told the other side"
    );
    let Connected {
        active,
        passive,
        listener,
    } = connected;
    lab.on(&a, || {
        active.close();
        ours.close();
    });
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}

#[test]
fn d09_disconnecting_from_a_silent_peer_times_out_and_is_final() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    silence(&lab);
    let disconnecting = lab.on(&a, || connected.active.start_disconnect());
    assert_eq!(disconnecting.wait(&mut lab.world), Err(STATUS_IO_TIMEOUT));
    lab.on(&a, || {
        let again =
            connected
                .active
                .start_connect(&a.qp, from(&a), to(&b), ReadLimits::default(), &[]);
        assert_eq!(again.inline_status(), STATUS_INVALID_DEVICE_REQUEST);
        assert_eq!(
            connected.active.start_disconnect().inline_status(),
            STATUS_CONNECTION_INVALID
        );
    });
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn m03_a_peer_that_falls_silent_times_a_connect_out_and_a_retry_works() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    // So that the neighbour is known.
    let connected = lab.connect(&a, &b);
    lab.hang_up(&a, &b, connected);
    let qp = lab.queue_pair(&a);
    silence(&lab);
    let active = lab.connector(&a);
    let connecting = lab.on(&a, || {
        active.start_connect(&qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let status = connecting.wait(&mut lab.world).unwrap_err();
    assert!(
        [STATUS_IO_TIMEOUT, STATUS_HOST_UNREACHABLE].contains(&status),
        "{status:#x}"
    );
    lab.net.set_links(SwitchConfig::default());
    let connecting = lab.on(&a, || {
        active.start_connect(&qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    assert_eq!(
        connecting.wait(&mut lab.world),
        Err(STATUS_CONNECTION_REFUSED),
        "the wire works again"
    );
    lab.on(&a, || {
        active.close();
        qp.close();
    });
    lab.end(a, b);
}

#[test]
fn a_request_for_which_there_is_no_memory_is_refused() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let machine = lab.b;
    let mut refused = 0;
    for nth in 0.. {
        let active = lab.connector(&a);
        lab.world.fail_allocations(machine, Some(nth), false);
        let connecting = lab.dial(&a, &active, &b);
        lab.world
            .run_until(|_| connecting.is_done() || listener.waiting() > 0, SOON);
        let untouched = lab.world.allocation_failure_pending(machine);
        lab.world.fail_allocations(machine, None, false);
        let request = listener.take_request();
        if let Some((passive, _)) = request {
            lab.on(&b, || passive.close());
        } else {
            refused += 1;
        }
        let end = connecting.wait(&mut lab.world);
        assert_eq!(end, Err(STATUS_CONNECTION_REFUSED), "allocation {nth}");
        lab.on(&a, || active.close());
        if untouched {
            break;
        }
    }
    assert!(refused > 0, "a request needs memory");
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

#[test]
fn data_survives_a_wire_that_loses_repeats_and_reorders() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    const SIZE: usize = 200_000;
    let (ours, theirs) = lab.regions(&a, &b, SIZE, 0);
    let (address, token) = lab.on(&b, || theirs.remote());
    let pattern = |seed: usize| (0..SIZE).map(move |at| ((at * 31 + seed) >> 3) as u8);
    let mut regions = (ours, theirs);
    lab.net.set_links(SwitchConfig {
        loss: 0.02,
        duplicate: 0.02,
        reorder: 0.02,
        ..SwitchConfig::default()
    });
    for round in 0..3 {
        let (ours, theirs) = &mut regions;
        lab.on(&a, || {
            ours.buffer
                .bytes_mut()
                .iter_mut()
                .zip(pattern(round))
                .for_each(|(byte, value)| *byte = value);
            a.qp.write(1, &[ours.sge(0, SIZE)], address, token, 0)
                .unwrap();
        });
        assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
        lab.on(&b, || {
            assert!(theirs.buffer.bytes().iter().copied().eq(pattern(round)))
        });
        lab.on(&b, || {
            theirs
                .buffer
                .bytes_mut()
                .iter_mut()
                .for_each(|byte| *byte = !*byte)
        });
        lab.on(&a, || a.qp.read(2, &[ours.sge(0, SIZE)], address, token, 0))
            .unwrap();
        assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
        lab.on(&a, || {
            assert!(
                ours.buffer
                    .bytes()
                    .iter()
                    .copied()
                    .eq(pattern(round).map(|byte| !byte))
            )
        });
    }
    lab.net.set_links(SwitchConfig::default());
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || regions.0.close());
    lab.on(&b, || regions.1.close());
    lab.end(a, b);
}

#[test]
fn d08_disconnect_waits_until_the_nic_has_let_go_of_the_memory() {
    let mut lab = Lab::with(&[], slow_nic());
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 40_000, 1);
    let (address, token) = lab.on(&b, || theirs.remote());
    let silently = ndkpi::NDK_OP_FLAG_SILENT_SUCCESS;
    let disconnecting = lab.on(&a, || {
        a.qp.write(1, &[ours.sge(0, 40_000)], address, token, silently)
            .unwrap();
        connected.active.start_disconnect()
    });
    lab.world.run_for(Duration::from_millis(10));
    assert!(
        !disconnecting.is_done(),
        "the NIC has not read the frames yet"
    );
    disconnecting.wait(&mut lab.world).unwrap();
    // If a frame were still to be read, the device would find the mapping gone: the verifier watches.
    lab.on(&a, || ours.close());
    lab.world.run_for(Duration::from_secs(1));
    lab.on(&a, || connected.active.close());
    lab.on(&b, || {
        connected.passive.close();
        connected.listener.close();
        theirs.close();
    });
    lab.end(a, b);
}

#[test]
fn x27_deregistering_waits_for_the_nic_but_the_token_is_dead_at_once() {
    let mut lab = Lab::with(&[], slow_nic());
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 4096, 1);
    let (address, token) = lab.on(&b, || theirs.remote());
    // It is the consumer's mistake.
    let rule = ntsim::ndk::rules::CONSUMER_IN_FLIGHT;
    lab.on(&a, || ours.mr.local_token());
    lab.world.pardon(rule);
    let deregistering = lab.on(&a, || {
        a.qp.write(1, &[ours.sge(0, 1000)], address, token, 0)
            .unwrap();
        ours.mr.start_deregister()
    });
    assert_eq!(
        deregistering.inline_status(),
        STATUS_PENDING,
        "the NIC still reads it"
    );
    assert_eq!(lab.world.pardoned(rule), 1);
    assert_eq!(lab.on(&a, || ours.mr.local_token()), 0);
    deregistering.wait(&mut lab.world).unwrap();
    lab.on(&a, || {
        // It can be used again, or closed: here both.
        ours.mr.register(&ours.buffer, ALL_RIGHTS).unwrap();
        ours.close();
    });
    lab.hang_up(&a, &b, connected);
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}

#[test]
fn l15_closing_the_adapter_waits_for_all_that_is_below_it_and_for_the_nic() {
    let mut lab = Lab::with(&[], slow_nic());
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 40_000, 1);
    let (address, token) = lab.on(&b, || theirs.remote());
    let Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    let crate::lab::Region { buffer, mr } = ours;
    let Connected {
        active,
        passive,
        listener,
    } = connected;
    let closing = lab.world.call(machine, || {
        qp.write(
            1,
            &[ntsim::ndk::sge(&buffer, &mr, 0, 40_000)],
            address,
            token,
            0,
        )
        .unwrap();
        // In the wrong order, too.
        [
            pd.start_close(),
            cq.start_close(),
            mr.start_close(),
            qp.start_close(),
            active.start_close(),
        ]
    });
    assert!(closing[..4].iter().all(|pending| !pending.is_done()));
    lab.world.call(machine, || adapter.close());
    for pending in &closing {
        assert!(pending.is_done() && pending.calls().len() <= 1);
    }
    lab.world.call(machine, || buffer.free());
    lab.on(&b, || {
        passive.close();
        listener.close();
        theirs.close();
    });
    lab.close(b);
    lab.finish();
}

#[test]
fn x48_surprise_removal_ends_connections_and_lets_everything_be_closed() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
    lab.on(&a, || a.qp.receive(1, &[ours.sge(0, 10)])).unwrap();
    let machine = lab.a;
    // NDIS halts the adapter only when everything is closed: the consumer acts on the disconnect event.
    let events = || connected.active.disconnect_events().count();
    assert_eq!(events(), 0);
    lab.world.begin_surprise_removal(machine);
    assert!(lab.world.run_until(|_| events() == 1, SOON));
    let flushed = lab.result(&a);
    assert_eq!(
        (flushed.RequestContext as u64, flushed.Status),
        (1, STATUS_CANCELLED)
    );
    lab.on(&a, || {
        assert_eq!(a.adapter.create_cq(1).err(), Some(STATUS_DEVICE_REMOVED));
        assert_eq!(a.adapter.create_pd().err(), Some(STATUS_DEVICE_REMOVED));
        let connector = a.adapter.create_connector();
        assert_eq!(connector.err(), Some(STATUS_DEVICE_REMOVED));
        ours.close();
    });
    lab.drop_connection(&a, &b, connected);
    lab.close(a);
    lab.world.end_surprise_removal(machine);
    lab.close(b);
    lab.finish();
}

#[test]
fn c09_everything_can_be_called_at_dispatch_level() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    // The addresses are known by now: otherwise listening would pend until they have been read.
    lab.world.run_for(Duration::from_millis(1));
    // Machine A's consumer does all of it at DISPATCH_LEVEL.
    let machine = a.machine;
    let (cq, pd, qp, connector, other) = lab.world.call_on(machine, 0, 2, || {
        let cq = a.adapter.create_cq(16).unwrap();
        let pd = a.adapter.create_pd().unwrap();
        let qp = pd.create_qp(&cq, &cq, crate::lab::limits()).unwrap();
        (
            cq,
            pd,
            qp,
            a.adapter.create_connector().unwrap(),
            a.adapter.create_listener().unwrap(),
        )
    });
    let (buffer, mr) = lab.world.call_on(machine, 0, 2, || {
        let buffer = ntsim::ndk::Buffer::new(5000).unwrap();
        let mr = pd.create_mr().unwrap();
        mr.register(&buffer, ALL_RIGHTS).unwrap();
        other.listen(SocketAddr::new(a.address, 9)).unwrap();
        (buffer, mr)
    });
    let connecting = lab.world.call_on(machine, 0, 2, || {
        connector.start_connect(&qp, from(&a), to(&b), ReadLimits::default(), &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab
        .world
        .call_on(machine, 0, 2, || connector.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    lab.world.call_on(machine, 0, 2, || {
        qp.receive(1, &[]).unwrap();
        qp.send(2, &[ntsim::ndk::sge(&buffer, &mr, 0, 10)], 0)
            .unwrap();
        cq.arm(ndkpi::NDK_CQ_NOTIFY_ANY);
        let _ = cq.poll();
        qp.flush();
    });
    let disconnecting = lab
        .world
        .call_on(machine, 0, 2, || connector.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    let closing = lab.world.call_on(machine, 0, 2, || {
        [
            mr.start_close(),
            connector.start_close(),
            qp.start_close(),
            cq.start_close(),
            pd.start_close(),
            other.start_close(),
        ]
    });
    for pending in closing {
        pending.wait(&mut lab.world).unwrap();
        // C-05, and all callbacks come at DISPATCH_LEVEL.
        assert!(pending.calls().iter().all(|call| call.irql == 2) && pending.calls().len() <= 1);
    }
    lab.on(&a, || buffer.free());
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}

/// Frames of protocols that wait for room in the NIC leave some of it to RDMA.
#[test]
fn a_standing_backlog_of_frames_of_protocols_does_not_starve_a_connection() {
    let mut s = Story::begin_in(Lab::with(
        &[],
        NicConfig {
            queue_size: 16,
            transmit_latency: Duration::from_millis(2),
            ..NicConfig::default()
        },
    ));
    let (element, address, token) = s.target();
    let machine = s.lab.a;
    let frames = |count: usize| {
        let mut frame = vec![0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&s.lab.nics[0].mac());
        // An Ethernet type for experiments.
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        vec![frame; count]
    };
    let (backlog, more) = (frames(200), frames(10));
    s.lab.world.send_frames(machine, backlog);
    for round in 0..5 {
        s.lab
            .on(&s.a, || s.a.qp.write(round, &[element], address, token, 0))
            .unwrap();
        let mut result = None;
        while result.is_none() {
            s.lab.world.send_frames(machine, more.clone());
            s.lab.world.run_for(Duration::from_millis(1));
            result = s.lab.on(&s.a, || s.a.cq.poll());
        }
        assert_eq!(result.unwrap().Status, STATUS_SUCCESS, "write {round}");
        assert!(s.lab.world.sends(machine).outstanding > 100, "a backlog");
    }
    while s.lab.world.sends(machine).outstanding > 0 {
        s.lab.world.run_for(Duration::from_millis(10));
    }
    s.end();
}
