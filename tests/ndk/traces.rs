//! What event tracing is told: a session listens to the driver on machine A, or on both.

use std::time::Duration;

use ndkpi::status::*;
use ntsim::MachineId;
use ntsim::etw::{GUID, TraceConfig, Traced};
use ntsim::ndk::{Adapter, ReadLimits};
use ntsim::wire::SwitchConfig;

use crate::lab::{ALL_RIGHTS, Connected, Lab, PORT, SOON, failure, from, limits, to};

/// The provider `vroce`: 00ae21e7-4789-5e6f-3649-4e771fb7333f.
const VROCE: GUID = GUID {
    Data1: 0x00ae_21e7,
    Data2: 0x4789,
    Data3: 0x5e6f,
    Data4: [0x36, 0x49, 0x4e, 0x77, 0x1f, 0xb7, 0x33, 0x3f],
};
const CONNECTION: u64 = 1;
const ERROR: u64 = 8;

/// A lab in which everything is listened to.
fn traced_lab() -> Lab {
    let mut lab = Lab::new();
    for machine in [lab.a, lab.b] {
        lab.world.start_trace(machine, TraceConfig::all(VROCE));
    }
    lab
}

fn names(lab: &Lab, machine: MachineId) -> Vec<String> {
    let events = lab.world.traced(machine);
    events.into_iter().map(|event| event.name).collect()
}

/// The only event of that name.
#[track_caller]
fn only(lab: &Lab, machine: MachineId, name: &str) -> Traced {
    let mut events = lab.world.traced(machine);
    events.retain(|event| event.name == name);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

#[test]
fn a_connection_is_told_of_on_both_sides_from_its_beginning_to_its_end() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 4096, 1);
    for i in 0..100 {
        lab.on(&b, || b.qp.receive(i, &[])).unwrap();
        lab.on(&a, || a.qp.send(i, &[ours.sge(0, 0)], 0)).unwrap();
        assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    }
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    let Connected {
        active,
        passive,
        listener,
    } = connected;
    let disconnecting = lab.on(&a, || active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    lab.world.run_for(SOON);
    let answering = lab.on(&b, || passive.start_disconnect());
    answering.wait(&mut lab.world).unwrap();
    lab.close_ends(&a, active, &b, passive, listener);
    let (id_a, id_b) = (lab.a, lab.b);
    lab.close(a);
    lab.close(b);
    assert_eq!(
        names(&lab, id_a),
        [
            "NdkAdapterOpened",
            "Connecting",
            "Connected",
            "Disconnecting",
            "DisconnectDone",
            "NdkAdapterClosed"
        ]
    );
    assert_eq!(
        names(&lab, id_b),
        [
            "NdkAdapterOpened",
            "Listening",
            "ConnectRequest",
            "Connected",
            "Disconnected",
            "Disconnecting",
            "DisconnectDone",
            "NdkAdapterClosed"
        ]
    );
    let (here, there) = (only(&lab, id_a, "Connected"), only(&lab, id_b, "Connected"));
    assert_eq!(here.provider, "vroce");
    assert_eq!((here.level, here.keyword), (4, CONNECTION));
    assert_eq!(here.address("local"), there.address("peer"));
    assert_eq!(there.address("local").port(), PORT);
    assert_eq!(here.number("path_mtu"), 1024);
    assert_eq!(
        here.number("qp"),
        only(&lab, id_a, "DisconnectDone").number("qp")
    );
    assert!(here.to_string().ends_with("accepted=false"), "{here}");
    assert!(there.to_string().ends_with("accepted=true"), "{there}");
    let done = only(&lab, id_a, "DisconnectDone");
    assert_eq!(done.status("status"), STATUS_SUCCESS);
    assert_eq!(done.address("peer"), here.address("peer"));
    lab.finish();
}

#[test]
fn a_refused_connect_is_told_of_with_the_peers_reason() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    let active = lab.connector(&a);
    let limits = ReadLimits::default();
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), limits, &[])
    });
    let status = failure(connecting.wait(&mut lab.world));
    let event = only(&lab, lab.a, "ConnectFailed");
    assert_eq!(event.status("status"), status);
    assert_eq!(status, STATUS_CONNECTION_REFUSED);
    assert_eq!(event.number("reject_reason"), 8, "nobody listens");
    assert_eq!(event.address("peer"), to(&b));
    assert_eq!((event.level, event.keyword), (3, CONNECTION | ERROR));

    // A consumer says no.
    let listener = lab.listen(&b);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    lab.on(&b, || passive.reject(b"not you")).unwrap();
    failure(connecting.wait(&mut lab.world));
    let events = lab.world.traced(lab.a);
    let last = events.last().unwrap();
    assert_eq!(last.name, "ConnectFailed");
    assert_eq!(last.number("reject_reason"), 28, "the consumer itself");
    let said = format!("{last:?}");
    assert!(
        !said.contains("not you"),
        "private data is nobody's business"
    );
    only(&lab, lab.b, "Rejected");
    lab.close_ends(&a, active, &b, passive, listener);
    lab.end(a, b);
}

#[test]
fn a_peer_that_dies_is_told_of_with_the_cause() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 0);
    lab.net.set_links(SwitchConfig {
        loss: 1.0,
        ..SwitchConfig::default()
    });
    lab.on(&a, || a.qp.send(2, &[ours.sge(0, 10)], 0)).unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_IO_TIMEOUT);
    let events = &connected.active.disconnect_events();
    assert!(lab.world.run_until(|_| events.count() > 0, SOON));
    let failed = only(&lab, lab.a, "QueuePairFailed");
    let lost = only(&lab, lab.a, "ConnectionLost");
    let cause = "retries exhausted: the peer does not answer";
    assert_eq!((failed.text("cause"), lost.text("cause")), (cause, cause));
    assert_eq!(failed.number("qp"), lost.number("qp"));
    assert_eq!(lost.address("peer"), to(&b));
    assert_eq!((lost.level, lost.keyword), (2, CONNECTION | ERROR));
    assert!(names(&lab, lab.a).contains(&"PathDoubted".to_owned()));
    lab.net.set_links(SwitchConfig::default());
    lab.on(&a, || ours.close());
    lab.drop_connection(&a, &b, connected);
    let closed = only(&lab, lab.b, "ConnectorClosed");
    assert!(closed.to_string().ends_with("connected=true"), "{closed}");
    lab.end(a, b);
}

#[test]
fn a_nak_is_told_of_by_its_name() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 4096, 1);
    let (address, token) = lab.on(&b, || theirs.remote());
    lab.on(&a, || {
        a.qp.write(1, &[ours.sge(0, 64)], address + 4095, token, 0)
    })
    .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_REMOTE_RESOURCES);
    lab.world.run_for(SOON);
    let lost = only(&lab, lab.a, "ConnectionLost");
    assert_eq!(lost.text("cause"), "NAK: remote access error");
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn a_peer_that_gave_up_cannot_be_rejected_and_is_not_told_of_as_rejected() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    let (listener, active, connecting, passive) = lab.ask(&a, &b);
    let closing = lab.on(&a, || active.start_close());
    closing.wait(&mut lab.world).unwrap();
    assert_eq!(connecting.status(), Some(STATUS_CANCELLED));
    lab.world.run_for(Duration::from_millis(100));
    let rejecting = lab.on(&b, || passive.reject(&[]));
    assert_eq!(rejecting, Err(STATUS_CONNECTION_ABORTED));
    assert!(!names(&lab, lab.b).contains(&"Rejected".to_owned()));
    let refused = only(&lab, lab.b, "CallRefused");
    assert_eq!(refused.text("call"), "NdkReject");
    assert_eq!(refused.status("status"), STATUS_CONNECTION_ABORTED);
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.end(a, b);
}

#[test]
fn a_connection_is_not_lost_for_what_ended_an_earlier_attempt_of_its_connector() {
    let mut lab = traced_lab();
    // It is the consumer's mistake.
    lab.world.pardon(ntsim::ndk::rules::CONSUMER_OVERRUN);
    let (a, b) = (lab.side_a(), lab.side_b());
    let (cq, doomed, other) = lab.on(&a, || {
        let cq = a.adapter.create_cq(2).unwrap();
        let doomed = a.pd.create_qp(&cq, &cq, limits()).unwrap();
        let other = a.pd.create_qp(&cq, &cq, limits()).unwrap();
        (cq, doomed, other)
    });
    // While the first attempt is under way, another queue pair overruns the completion queue, and takes this one with it.
    let active = lab.connector(&a);
    lab.net.set_links(SwitchConfig {
        loss: 1.0,
        ..SwitchConfig::default()
    });
    let connecting = lab.on(&a, || {
        active.start_connect(&doomed, from(&a), to(&b), ReadLimits::default(), &[])
    });
    lab.world.run_for(Duration::from_millis(1));
    lab.on(&a, || {
        for context in 0..3 {
            other.receive(context, &[]).unwrap();
        }
        other.flush();
    });
    failure(connecting.wait(&mut lab.world));
    let overrun = "this side cannot go on: a queue overran, or the peer broke the protocol";
    let events = lab.world.traced(lab.a);
    let mut failed = events.iter().filter(|e| e.name == "QueuePairFailed");
    assert!(failed.any(|event| event.text("cause") == overrun));
    lab.on(&a, || {
        doomed.close();
        other.close();
    });
    let closing = lab.on(&a, || cq.start_close());
    lab.world.run_for(SOON);
    assert!(closing.is_done());
    // The second, with a queue pair in order, ends because the power goes.
    lab.net.set_links(SwitchConfig::default());
    let listener = lab.listen(&b);
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    lab.complete(&a, &active, &accepting);
    lab.world.sleep(lab.a);
    let lost = only(&lab, lab.a, "ConnectionLost");
    assert_eq!(lost.text("cause"), "the device lost its power");
    lab.world.wake(lab.a).unwrap();
    lab.drop_connection(
        &a,
        &b,
        Connected {
            active,
            passive,
            listener,
        },
    );
    lab.end(a, b);
}

#[test]
fn a_call_that_is_refused_is_told_of_with_its_status() {
    let mut lab = traced_lab();
    let (a, b) = (lab.side_a(), lab.side_b());
    lab.world.fail_allocations(lab.a, Some(0), true);
    let made = lab.on(&a, || a.adapter.create_cq(64).err());
    lab.world.fail_allocations(lab.a, None, false);
    assert_eq!(made, Some(STATUS_INSUFFICIENT_RESOURCES));
    let event = only(&lab, lab.a, "CallRefused");
    assert_eq!(event.text("call"), "NdkCreateCq");
    assert_eq!(event.status("status"), STATUS_INSUFFICIENT_RESOURCES);
    let connector = lab.connector(&a);
    let early = lab.on(&a, || connector.start_disconnect());
    assert_eq!(early.inline_status(), STATUS_CONNECTION_INVALID);
    let last = lab.world.traced(lab.a).pop().unwrap();
    assert_eq!(last.text("call"), "NdkDisconnect");
    assert_eq!(last.status("status"), STATUS_CONNECTION_INVALID);
    lab.on(&a, || connector.close());
    lab.end(a, b);
}

#[test]
fn an_adapter_tells_what_it_works_with_and_what_becomes_of_its_device() {
    let mut lab = Lab::with_keywords(&[("*JumboPacket", "9014"), ("*ReceiveBuffers", "512")]);
    let mut world = TraceConfig::all(VROCE);
    world.level = 4;
    lab.world.start_trace(lab.a, world);
    lab.world.restart_adapters(lab.a).unwrap();
    assert_eq!(
        names(&lab, lab.a)[..2],
        ["AdapterHalted", "AdapterInitialized"]
    );
    let started = only(&lab, lab.a, "AdapterInitialized");
    assert_eq!(started.number("jumbo_packet"), 9014);
    assert_eq!(started.number("receive_buffers"), 512);
    assert_eq!(started.number("transmit_buffers"), 256);
    assert_eq!(started.number("path_mtu"), 1024);
    assert!(started.number("adapter") != 0);
    lab.nics[0].give_up();
    lab.world.run_for(Duration::from_millis(20));
    let failed = only(&lab, lab.a, "DeviceFailed");
    assert_eq!(failed.text("fault"), "device asks for a reset");
    only(&lab, lab.a, "DeviceRestarted");
    lab.world.begin_surprise_removal(lab.a);
    only(&lab, lab.a, "DeviceRemoved");
    lab.world.end_surprise_removal(lab.a);
    lab.finish();
}

#[test]
fn a_session_gets_what_it_asked_for() {
    let mut lab = Lab::new();
    let config = TraceConfig {
        any: ERROR,
        level: 3,
        ..TraceConfig::all(VROCE)
    };
    lab.world.start_trace(lab.a, config);
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    assert_eq!(names(&lab, lab.a), [""; 0], "nothing went wrong");
    let machine = lab.a;
    let sleepy = lab.world.traced(lab.b);
    assert_eq!(sleepy, [], "nobody listens there");
    lab.world.sleep(machine);
    let lost = only(&lab, lab.a, "ConnectionLost");
    assert_eq!(lost.text("cause"), "the device lost its power");
    lab.world.wake(machine).unwrap();
    lab.drop_connection(&a, &b, connected);
    lab.world.stop_trace(machine, VROCE);
    let before = lab.world.traced(machine).len();
    let refused = lab.on(&a, || a.adapter.create_cq(0).err());
    assert_eq!(refused, Some(STATUS_INVALID_PARAMETER));
    assert_eq!(lab.world.traced(machine).len(), before);
    lab.end(a, b);
}

#[test]
fn an_adapter_that_is_not_opened_is_told_of() {
    let mut lab = traced_lab();
    let version = ndkpi::NDK_VERSION { Major: 9, Minor: 0 };
    assert!(lab.world.call(lab.a, || Adapter::open(version).is_err()));
    let event = only(&lab, lab.a, "NdkAdapterRefused");
    assert!(event.status("status") < 0);
    lab.finish();
}
