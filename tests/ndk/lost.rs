//! Adapters that are lost as a whole: the device fails, or is pulled out.

use std::time::Duration;

use ndkpi::NDK_CQ_NOTIFY_ANY;
use ndkpi::status::*;
use ntsim::ndk::{Buffer, Connector, Qp, ReadLimits};
use ntsim::wire::Verdict;

use crate::lab::{ALL_RIGHTS, Lab, SOON, Side, failure, from, limits, slow_nic, to};
use crate::late::{Room, register};
use crate::raw::Completed;

/// How the adapter of machine A can be lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    /// The device asks for a reset.
    Fault,
    /// The device is pulled out.
    Removal,
}

impl Loss {
    const ALL: [Loss; 2] = [Loss::Fault, Loss::Removal];

    /// Loses it, and gives the driver time to notice.
    fn happens(self, lab: &mut Lab) {
        match self {
            Loss::Fault => lab.nics[0].give_up(),
            Loss::Removal => lab.world.begin_surprise_removal(lab.a),
        }
        lab.world.run_for(Duration::from_millis(5));
    }

    /// Ends the story. B is still there.
    fn ends(self, mut lab: Lab, a: Side, b: Side) {
        lab.close(a);
        if matches!(self, Loss::Removal) {
            lab.world.end_surprise_removal(lab.a);
        }
        lab.close(b);
        lab.finish();
    }
}

#[test]
fn q13_a_lost_adapter_is_a_fatal_error_of_its_completion_queues() {
    for loss in Loss::ALL {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let connected = lab.connect(&a, &b);
        let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
        let unarmed = lab.on(&a, || a.adapter.create_cq(16).unwrap());
        // An entry that is there before, and a request that is not done. The notification of the entry has been had.
        lab.on(&b, || b.qp.receive(1, &[])).unwrap();
        lab.on(&a, || {
            a.cq.arm(NDK_CQ_NOTIFY_ANY);
            a.qp.receive(2, &[ours.sge(0, 10)]).unwrap();
            a.qp.send(3, &[], 0).unwrap();
        });
        let told = a.cq.notifications();
        assert!(lab.world.run_until(|_| told.count() == 1, SOON));
        lab.on(&a, || a.cq.arm(NDK_CQ_NOTIFY_ANY));
        lab.world.run_for(Duration::from_millis(1));
        assert_eq!(told.count(), 1);
        loss.happens(&mut lab);
        let statuses = || told.calls().iter().map(|c| c.status).collect::<Vec<_>>();
        assert_eq!(statuses(), [STATUS_SUCCESS, STATUS_INTERNAL_ERROR]);
        // What was there can be had, and what was posted has come back.
        for (context, status) in [(3, STATUS_SUCCESS), (2, STATUS_CANCELLED)] {
            let entry = lab.result(&a);
            let found = (entry.RequestContext as u64, entry.Status);
            assert_eq!(found, (context, status), "{loss:?}");
        }
        // Nothing more comes, whatever is done. The queue pair is of no use.
        lab.on(&a, || {
            assert_eq!(failure(a.qp.send(4, &[], 0)), STATUS_CONNECTION_INVALID);
            let _ = a.qp.receive(5, &[]);
            a.qp.flush();
            a.cq.arm(NDK_CQ_NOTIFY_ANY);
            // who was not armed hears of it when it is.
            assert_eq!(unarmed.notifications().count(), 0);
            unarmed.arm(NDK_CQ_NOTIFY_ANY);
        });
        lab.no_result(&a);
        assert_eq!(told.count(), 2, "{loss:?}");
        let late = unarmed.notifications().calls();
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].status, STATUS_INTERNAL_ERROR);
        assert_eq!(connected.active.disconnect_events().count(), 1);
        lab.on(&a, || {
            unarmed.close();
            ours.close();
        });
        lab.drop_connection(&a, &b, connected);
        loss.ends(lab, a, b);
    }
}

#[test]
fn s07_a_lost_adapter_is_a_fatal_error_of_its_shared_receive_queues() {
    for loss in Loss::ALL {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let srq = lab.on(&a, || a.pd.create_srq(8, 1, 0).unwrap());
        let qps = [0, 1].map(|_| {
            lab.on(&a, || {
                a.pd.create_qp_with_srq(&a.cq, &a.cq, &srq, limits())
                    .unwrap()
            })
        });
        let listener = lab.listen(&b);
        let (active, passive) = lab.join((&a, &qps[0]), (&b, &b.qp), &listener);
        lab.on(&a, || srq.receive(1, &[])).unwrap();
        assert_eq!(srq.notifications().len(), 0);
        loss.happens(&mut lab);
        let told = srq.notifications();
        assert_eq!(told.len(), 1, "{loss:?}");
        assert_eq!((told[0].status, told[0].irql), (STATUS_INTERNAL_ERROR, 2));
        lab.on(&a, || {
            for qp in &qps {
                assert_eq!(failure(qp.send(2, &[], 0)), STATUS_CONNECTION_INVALID);
            }
            assert_eq!(failure(srq.receive(3, &[])), STATUS_CONNECTION_INVALID);
        });
        lab.world.run_for(SOON);
        assert_eq!(srq.notifications().len(), 1, "once");
        lab.on(&a, || {
            active.close();
            qps.into_iter().for_each(Qp::close);
            srq.close();
        });
        lab.on(&b, || {
            passive.close();
            listener.close();
        });
        loss.ends(lab, a, b);
    }
}

#[test]
fn every_request_comes_back_though_the_nic_held_its_memory() {
    for loss in Loss::ALL {
        let mut lab = Lab::with(&[], slow_nic());
        let (a, b) = (lab.side_a(), lab.side_b());
        let connected = lab.connect(&a, &b);
        let (ours, theirs) = lab.regions(&a, &b, 40_000, 1);
        let (address, token) = lab.on(&b, || theirs.remote());
        lab.on(&a, || {
            for context in 0..4 {
                let whole = [ours.sge(0, 40_000)];
                a.qp.write(context, &whole, address, token, 0).unwrap();
            }
        });
        // The NIC reads a frame 20 ms after it got it.
        loss.happens(&mut lab);
        for context in 0..4 {
            let entry = lab.result(&a);
            let found = (entry.RequestContext as u64, entry.Status);
            assert_eq!(found, (context, STATUS_CANCELLED), "{loss:?}");
        }
        lab.on(&a, || ours.close());
        lab.drop_connection(&a, &b, connected);
        lab.on(&b, || theirs.close());
        loss.ends(lab, a, b);
    }
}

#[test]
fn x48_what_was_being_set_up_or_ended_fails_with_the_adapter() {
    for loss in Loss::ALL {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let (listener, ours) = (lab.listen(&b), lab.listen(&a));
        let qps: Vec<_> = (0..5).map(|_| lab.queue_pair(&a)).collect();
        let wanted = ReadLimits::default();
        // One connection waits for this side's word, one for the peer's answer to the disconnect.
        let (active, passive) = lab.establish(&a, &b, &listener);
        let connectors: Vec<_> = (0..3).map(|_| lab.connector(&a)).collect();
        let connect = |lab: &mut Lab, index: usize| {
            lab.on(&a, || {
                connectors[index].start_connect(&qps[index], from(&a), to(&b), wanted, &[])
            })
        };
        let replied = connect(&mut lab, 0);
        let theirs = lab.request(&listener);
        let qp = lab.queue_pair(&b);
        let accepting = lab.on(&b, || theirs.start_accept(&qp, wanted, &[]));
        replied.wait(&mut lab.world).unwrap();
        // One waits for the peer's answer.
        let requesting = connect(&mut lab, 1);
        let asked = lab.request(&listener);
        // One has come in.
        let dialled = lab.connector(&b);
        let other = lab.queue_pair(&b);
        let dialling = lab.on(&b, || {
            dialled.start_connect(&other, from(&b), to(&a), wanted, &[])
        });
        let incoming = lab.request(&ours);
        // The peer's answer to that does not come through.
        let to_a = lab.net.ports()[0].0;
        lab.net.set_filter(to_a, |_| Verdict::Drop);
        let disconnecting = lab.on(&a, || active.start_disconnect());
        // One looks for the way to a host that is not there.
        let nobody = "10.0.0.77:445".parse().unwrap();
        let resolving = lab.on(&a, || {
            connectors[2].start_connect(&qps[2], from(&a), nobody, wanted, &[])
        });
        match loss {
            Loss::Fault => lab.nics[0].give_up(),
            Loss::Removal => lab.world.begin_surprise_removal(lab.a),
        }
        let before = lab.world.now();
        let gone = Err(STATUS_DEVICE_REMOVED);
        assert_eq!(requesting.wait(&mut lab.world), gone, "{loss:?}");
        assert_eq!(resolving.wait(&mut lab.world), gone, "{loss:?}");
        let ended = disconnecting.wait(&mut lab.world);
        assert_eq!(ended, Err(STATUS_IO_TIMEOUT), "{loss:?}");
        lab.net.clear_filter(to_a);
        assert!(lab.world.now() - before < Duration::from_millis(5));
        lab.on(&a, || {
            let complete = connectors[0].start_complete_connect();
            assert_eq!(complete.inline_status(), STATUS_DEVICE_REMOVED);
            let accept = incoming.start_accept(&qps[3], wanted, &[]);
            assert_eq!(accept.inline_status(), STATUS_DEVICE_REMOVED);
            assert_eq!(incoming.reject(&[]), gone);
            connectors.into_iter().for_each(Connector::close);
            active.close();
            incoming.close();
            ours.close();
            qps.into_iter().for_each(Qp::close);
        });
        // The peer finds out by itself.
        assert!(accepting.wait(&mut lab.world).is_err());
        assert!(dialling.wait(&mut lab.world).is_err());
        lab.on(&b, || {
            for connector in [theirs, asked, dialled, passive] {
                connector.close();
            }
            listener.close();
            qp.close();
            other.close();
        });
        loss.ends(lab, a, b);
    }
}

#[test]
fn d02_a_peer_that_is_gone_ends_the_connection_with_one_event() {
    for loss in Loss::ALL {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let connected = lab.connect(&a, &b);
        let heard =
            || [&connected.active, &connected.passive].map(|end| end.disconnect_events().count());
        loss.happens(&mut lab);
        assert_eq!(heard(), [1, 0], "{loss:?}: nobody could tell B");
        // B finds out when it wants something.
        lab.on(&b, || b.qp.send(1, &[], 0)).unwrap();
        assert_eq!(lab.result(&b).Status, STATUS_IO_TIMEOUT, "{loss:?}");
        assert!(lab.world.run_until(|_| heard() == [1, 1], SOON));
        lab.world.run_for(Duration::from_secs(60));
        assert_eq!(heard(), [1, 1], "{loss:?}");
        lab.drop_connection(&a, &b, connected);
        loss.ends(lab, a, b);
    }
}

#[test]
fn x48_memory_that_is_mapped_only_when_the_adapter_is_lost() {
    for loss in Loss::ALL {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let machine = lab.a;
        let done = [Completed::default(), Completed::default()];
        let mut room = Room::new();
        lab.world.withhold_map_registers(machine, Some(0));
        let (buffer, mr) = lab.on(&a, || {
            let (buffer, mr) = (Buffer::new(9000).unwrap(), a.pd.create_mr().unwrap());
            let status = register(&mr, buffer.mdl(), 9000, &done[0]);
            assert_eq!(status, STATUS_PENDING);
            assert_eq!(room.build(&a, &buffer, Some(&done[1])), STATUS_PENDING);
            (buffer, mr)
        });
        loss.happens(&mut lab);
        // The system has the memory as long as it makes the lists.
        assert_eq!(done.each_ref().map(Completed::count), [0, 0], "{loss:?}");
        lab.world.withhold_map_registers(machine, None);
        lab.world.run_for(SOON);
        for done in &done {
            let outcome = (done.count(), done.status());
            assert_eq!(outcome, (1, STATUS_DEVICE_REMOVED), "{loss:?}");
        }
        lab.on(&a, || {
            assert_eq!(mr.remote_token(), 0);
            mr.close();
            buffer.free();
        });
        loss.ends(lab, a, b);
    }
}
