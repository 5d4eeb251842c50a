//! What becomes of NDK when the device is without power, or fails.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_CQ_NOTIFY_ANY, NDK_VERSION_2_1, NdkOperationTypeWrite};
use ntsim::ndk::{Adapter, Buffer, Lam, Leave};
use ntsim::wire::LinkConfig;

use crate::lab::{B, Connected, Lab, SOON, Side, failure, limits};
use crate::statistics::statistics;
use crate::story::Story;

/// NDIS_STATUS_ADAPTER_NOT_READY.
const NOT_READY: i32 = 0xc001_0011_u32 as i32;

/// A side gets a queue pair that was never connected.
fn fresh_queue_pair(lab: &mut Lab, side: &mut Side) {
    let fresh = lab.queue_pair(side);
    let old = std::mem::replace(&mut side.qp, fresh);
    lab.on(side, || old.close());
}

#[test]
fn x49_low_power_ends_connections_and_leaves_objects_as_they_were() {
    let mut s = Story::begin();
    let listening = s.lab.listen(&s.a);
    s.lab
        .on(&s.a, || s.a.qp.receive(1, &[s.ours.sge(0, 10)]))
        .unwrap();
    let (mr, buffer) = s.lab.on(&s.a, || {
        (s.a.pd.create_mr().unwrap(), Buffer::new(4096).unwrap())
    });
    let events = s.connected.active.disconnect_events().count();
    let machine = s.lab.a;
    s.lab.world.sleep(machine);
    assert_eq!(s.connected.active.disconnect_events().count(), events + 1);
    assert_eq!(s.outcome().1, STATUS_CANCELLED);
    s.lab.on(&s.a, || {
        let refused = Some(STATUS_DEVICE_NOT_READY);
        assert_eq!(s.a.adapter.create_cq(1).err(), refused);
        assert_eq!(s.a.adapter.create_connector().err(), refused);
        assert_eq!(mr.register(&buffer, 0).err(), refused);
        assert_eq!(Lam::build(&s.a.adapter, &buffer, 4096).err(), refused);
        assert_eq!(s.a.qp.send(2, &[], 0), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(s.a.adapter.leaving(), None, "it may stay");
        mr.close();
        buffer.free();
    });
    s.lab.world.run_for(SOON);
    s.lab.world.wake(machine).unwrap();
    let Story {
        mut lab,
        mut a,
        mut b,
        connected,
        ours,
        theirs,
    } = s;
    lab.drop_connection(&a, &b, connected);
    // Completion queues, protection domain and regions are those of before; so is the listener.
    fresh_queue_pair(&mut lab, &mut a);
    fresh_queue_pair(&mut lab, &mut b);
    let connected = lab.connect(&a, &b);
    let mut s = Story {
        lab,
        a,
        b,
        connected,
        ours,
        theirs,
    };
    let (element, address, token) = s.target();
    s.lab
        .on(&s.a, || s.a.qp.write(3, &[element], address, token, 0))
        .unwrap();
    assert_eq!(s.outcome(), (3, STATUS_SUCCESS, NdkOperationTypeWrite));
    let Story {
        mut lab,
        mut a,
        mut b,
        connected,
        ours,
        theirs,
    } = s;
    assert_eq!(theirs.buffer.bytes()[9..11], [0xa5, 0]);
    lab.hang_up(&a, &b, connected);
    fresh_queue_pair(&mut lab, &mut a);
    fresh_queue_pair(&mut lab, &mut b);
    let (active, passive) = lab.establish(&b, &a, &listening);
    lab.on(&b, || {
        active.close();
        theirs.close();
    });
    lab.on(&a, || {
        passive.close();
        listening.close();
        ours.close();
    });
    lab.end(a, b);
}

#[test]
fn x49_a_connect_that_low_power_ended_can_be_repeated_with_the_same_objects() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    // Before an answer came, at whatever stage.
    for wait in [0, 10, 1000] {
        lab.net.set_links(LinkConfig {
            loss: f64::from(u8::from(wait == 1000)),
            ..LinkConfig::default()
        });
        let connecting = lab.dial(&a, &active, &b);
        lab.world.run_for(Duration::from_micros(wait));
        assert!(!connecting.is_done());
        let machine = lab.a;
        lab.world.sleep(machine);
        assert_eq!(
            failure(connecting.wait(&mut lab.world)),
            STATUS_DEVICE_NOT_READY
        );
        lab.net.set_links(LinkConfig::default());
        lab.world.wake(machine).unwrap();
    }
    lab.world.run_for(SOON);
    while let Some((request, _)) = listener.take_request() {
        lab.on(&b, || request.close());
    }
    let connecting = lab.dial(&a, &active, &b);
    let passive = lab.request(&listener);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    let connected = Connected {
        active,
        passive,
        listener,
    };
    lab.hang_up(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn q13_s07_x49_a_device_that_fails_fails_every_queue_and_ndk_begins_anew() {
    let mut s = Story::begin();
    let machine = s.lab.a;
    let (srq, sharing) = s.lab.on(&s.a, || {
        let srq = s.a.pd.create_srq(8, 1, 0).unwrap();
        let sharing = s.a.pd.create_qp_with_srq(&s.a.cq, &s.a.cq, &srq, limits());
        s.a.qp.receive(1, &[s.ours.sge(0, 10)]).unwrap();
        s.a.cq.arm(NDK_CQ_NOTIFY_ANY);
        (srq, sharing.unwrap())
    });
    s.lab.nics[0].give_up();
    s.lab.world.run_for(SOON);
    // Every queue has told, and every connection.
    let calls = s.a.cq.notifications().calls();
    assert_eq!(
        calls.last().map(|call| call.status),
        Some(STATUS_INTERNAL_ERROR)
    );
    let told: Vec<_> = srq.notifications().iter().map(|c| c.status).collect();
    assert_eq!(told, [STATUS_INTERNAL_ERROR]);
    assert_eq!(s.connected.active.disconnect_events().count(), 1);
    // What had been posted is there to be polled, and nothing comes any more.
    assert_eq!(s.outcome().1, STATUS_CANCELLED);
    s.lab.on(&s.a, || {
        assert_eq!(s.a.qp.send(2, &[], 0), Err(STATUS_CONNECTION_INVALID));
        assert!(sharing.receive(3, &[]).is_err() && s.a.qp.receive(3, &[]).is_err());
        assert_eq!(srq.receive(3, &[]), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(s.a.adapter.create_cq(1).err(), Some(STATUS_DEVICE_REMOVED));
        assert!(s.a.cq.poll().is_none());
    });
    // A counter of OID_NDK_STATISTICS never goes back.
    let errors = statistics(&mut s.lab, machine).CounterSet.CQError;
    assert!(errors > 0);
    // NDK is disabled until all is closed; ordinary traffic flows again.
    assert_eq!(s.a.adapter.leaving(), Some(Leave::Disabled));
    let opened = s.lab.on(&s.a, || Adapter::open(NDK_VERSION_2_1).err());
    assert_eq!(opened, Some(NOT_READY));
    assert!(s.lab.world.ping(machine, B).is_some());
    s.lab.on(&s.a, || {
        sharing.close();
        srq.close();
    });
    let Story {
        mut lab,
        a,
        b,
        connected,
        ours,
        theirs,
    } = s;
    lab.drop_connection(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.close(a);
    assert!(!lab.world.adapter(machine).unwrap().ndk_enabled);
    lab.world.run_for(SOON);
    assert!(lab.world.adapter(machine).unwrap().ndk_enabled);
    let later = statistics(&mut lab, machine).CounterSet.CQError;
    assert_eq!(later, errors);
    lab.close(b);
    // As on the first day.
    let mut s = Story::begin_in(lab);
    let (element, address, token) = s.target();
    s.lab
        .on(&s.a, || s.a.qp.write(3, &[element], address, token, 0))
        .unwrap();
    assert_eq!(s.outcome(), (3, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.end();
}
