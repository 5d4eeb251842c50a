//! Many queue pairs, and many connections that come and go.

use std::time::Duration;

use ndkpi::status::*;
use ntsim::World;
use ntsim::ndk::{Connector, Qp, QpLimits, ReadLimits};

use crate::lab::{Lab, SOON, Side, from, limits, to};
use crate::raw::never_completed;
use crate::statistics::statistics;

/// Queue pairs with 16 requests each way.
const MODEST: QpLimits = QpLimits {
    receive_depth: 16,
    initiator_depth: 16,
    receive_sges: 1,
    initiator_sges: 1,
    inline_data: 0,
    context: 7,
};

fn held(lab: &Lab) -> usize {
    lab.world.pool_stats(lab.a).driver_bytes
}

/// So many more queue pairs of A, each with a receive: what each costs, bytes.
fn more(lab: &mut Lab, a: &Side, qps: &mut Vec<Qp>, count: usize) -> usize {
    let before = held(lab);
    for _ in 0..count {
        let qp = lab.on(a, || {
            let qp = a.pd.create_qp(&a.cq, &a.cq, MODEST).unwrap();
            qp.receive(1, &[]).unwrap();
            qp
        });
        qps.push(qp);
    }
    (held(lab) - before) / count
}

#[test]
fn ten_thousand_queue_pairs_live_on_one_adapter_and_cost_what_they_hold() {
    const COUNT: usize = 10_000;
    let mut lab = Lab::large();
    let (a, b) = (lab.side_a(), lab.side_b());
    let idle = held(&lab);
    let mut qps = Vec::new();
    // The tables have places for a few.
    more(&mut lab, &a, &mut qps, 100);
    let early = more(&mut lab, &a, &mut qps, 900);
    let late = more(&mut lab, &a, &mut qps, COUNT - 1000);
    println!("an adapter without queue pairs: {idle} bytes");
    println!("a queue pair of 16 receives and 16 initiator requests of one SGE: {late} bytes");
    assert!(idle < 8 << 20, "{idle}");
    assert!(late < 8 << 10, "{late}");
    assert!(early.abs_diff(late) < late / 10, "{early} and {late}");
    // Some of them, of all ages, are connected and carry data.
    let listener = lab.listen(&b);
    let mut connections = Vec::new();
    for qp in qps.iter().step_by(COUNT / 20) {
        let other = lab.queue_pair(&b);
        let (active, passive) = lab.join((&a, qp), (&b, &other), &listener);
        lab.on(&b, || other.send(2, &[], 0)).unwrap();
        let received = lab.result(&a);
        let found = (received.RequestContext as u64, received.Status);
        assert_eq!(found, (1, STATUS_SUCCESS));
        assert_eq!(lab.result(&b).Status, STATUS_SUCCESS);
        connections.push((active, passive, other));
    }
    for (active, passive, other) in connections {
        lab.on(&a, || active.close());
        lab.on(&b, || {
            passive.close();
            other.close();
        });
    }
    for qp in qps {
        lab.on(&a, || qp.close());
        // The receives come back.
        while lab.on(&a, || a.cq.poll()).is_some() {}
    }
    // What is left are places in tables.
    let left = held(&lab).saturating_sub(idle) / COUNT;
    assert!(left < late / 4, "{left} of {late} bytes");
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

/// How one connection of the storm ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Refused,
    ByA,
    ByB,
    Closed,
}

#[test]
fn a_thousand_connections_come_and_go() {
    const WAVE: usize = 50;
    const WAVES: usize = 20;
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let wanted = ReadLimits::default();
    let begun = lab.world.now();
    for wave in 0..WAVES {
        let active: Vec<(Connector, Qp)> = (0..WAVE)
            .map(|_| (lab.connector(&a), lab.queue_pair(&a)))
            .collect();
        let connecting: Vec<_> = active
            .iter()
            .map(|(c, qp)| lab.on(&a, || c.start_connect(qp, from(&a), to(&b), wanted, &[])))
            .collect();
        let all_asked = |_: &mut ntsim::World| listener.waiting() == WAVE;
        assert!(lab.world.run_until(all_asked, SOON), "wave {wave}");
        // Each request has this side's port: so both sides know which is which.
        let mut passive = Vec::new();
        for _ in 0..WAVE {
            let connector = listener.take_request().unwrap().0;
            let peer = lab.on(&b, || connector.peer_address()).unwrap();
            let is_its = |(c, _): &(Connector, Qp)| c.local_address() == Ok(peer);
            let number = lab.on(&a, || active.iter().position(is_its)).unwrap();
            let end = match number % 10 {
                9 => End::Refused,
                number if number % 3 == 0 => End::ByA,
                number if number % 3 == 1 => End::ByB,
                _ => End::Closed,
            };
            let qp = lab.queue_pair(&b);
            let accepting = lab.on(&b, || {
                if end == End::Refused {
                    connector.reject(b"no").unwrap();
                    return None;
                }
                qp.receive(1, &[]).unwrap();
                Some(connector.start_accept(&qp, wanted, &[]))
            });
            passive.push((number, end, connector, qp, accepting));
        }
        let answers: Vec<_> = connecting.iter().map(|c| c.wait(&mut lab.world)).collect();
        let mut completing = Vec::new();
        for (number, end, ..) in &passive {
            if *end == End::Refused {
                assert_eq!(answers[*number], Err(STATUS_CONNECTION_REFUSED));
            } else {
                assert_eq!(answers[*number], Ok(()));
                completing.push(lab.on(&a, || active[*number].0.start_complete_connect()));
            }
        }
        for pending in completing
            .iter()
            .chain(passive.iter().filter_map(|p| p.4.as_ref()))
        {
            pending.wait(&mut lab.world).unwrap();
        }
        // Every connection carries a message, and ends in its way.
        for (number, end, ..) in &passive {
            if *end != End::Refused {
                lab.on(&a, || active[*number].1.send(2, &[], 0)).unwrap();
                assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
                assert_eq!(lab.result(&b).Status, STATUS_SUCCESS);
            }
        }
        let mut ending = Vec::new();
        for (number, end, connector, ..) in &passive {
            match end {
                End::ByA => ending.push(lab.on(&a, || active[*number].0.start_disconnect())),
                End::ByB => ending.push(lab.on(&b, || connector.start_disconnect())),
                End::Refused | End::Closed => {}
            }
        }
        for pending in ending {
            pending.wait(&mut lab.world).unwrap();
        }
        for (connector, qp) in active {
            lab.on(&a, || {
                connector.close();
                qp.close();
            });
        }
        for (_, _, connector, qp, _) in passive {
            lab.on(&b, || {
                connector.close();
                qp.close();
            });
        }
    }
    let took = lab.world.now() - begun;
    println!("{} connections in {took:?} of virtual time", WAVE * WAVES);
    assert!(took < Duration::from_secs(10));
    let expected = (WAVE * WAVES / 10 * 9) as u64;
    let [here, there] = [a.machine, b.machine].map(|m| statistics(&mut lab, m).CounterSet);
    assert_eq!((here.Connect, there.Accept), (expected, expected));
    let failed = (WAVE * WAVES) as u64 - expected;
    assert_eq!(
        (here.ConnectFailure, there.ConnectFailure),
        (failed, failed)
    );
    assert_eq!((here.ActiveConnection, there.ActiveConnection), (0, 0));
    lab.on(&b, || listener.close());
    lab.end(a, b);
}

/// What a notification costs in DPCs: the completion is found by a call of the consumer or by the NIC's DPC, and the callback comes in the
/// next DPC that the processor begins, the port's.
#[test]
fn a_notification_comes_in_the_next_dpc() {
    // On one processor, whatever the environment asks for: the DPCs of others would have to be told apart.
    let mut lab = Lab::in_world(World::builder().ignore_environment().build());
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let count = lab.world.dpc_count(a.machine, 0);
    let watch = |cq: &ntsim::ndk::Cq| {
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        let (count, sees) = (count.clone(), std::rc::Rc::clone(&seen));
        cq.on_notify(move |_| sees.set(count.get()));
        seen
    };
    let seen = watch(&a.cq);
    lab.on(&a, || {
        a.qp.receive(1, &[]).unwrap();
        a.qp.receive(2, &[]).unwrap();
        a.cq.arm(ndkpi::NDK_CQ_NOTIFY_ANY);
    });
    lab.world.run_for(SOON);
    // Found by the NIC's DPC.
    let before = count.get();
    lab.on(&b, || b.qp.send(3, &[], 0)).unwrap();
    lab.world.run_for(SOON);
    assert_eq!(seen.get() - before, 2, "the NIC's DPC and the next");
    // Found in a call.
    let before = lab.on(&a, || {
        a.cq.arm(ndkpi::NDK_CQ_NOTIFY_ANY);
        let before = count.get();
        a.qp.flush();
        before
    });
    lab.world.run_for(SOON);
    assert_eq!(seen.get() - before, 1);
    // Found for many at a time.
    let many: Vec<_> = (0..100)
        .map(|_| {
            let (cq, qp) = lab.on(&a, || {
                let cq = a.adapter.create_cq(4).unwrap();
                let qp = a.pd.create_qp(&cq, &cq, limits()).unwrap();
                qp.receive(1, &[]).unwrap();
                cq.arm(ndkpi::NDK_CQ_NOTIFY_ANY);
                (cq, qp)
            });
            let seen = watch(&cq);
            (cq, qp, seen)
        })
        .collect();
    let before = count.get();
    lab.world.call_on(a.machine, 0, 2, || {
        many.iter().for_each(|(_, qp, _)| qp.flush())
    });
    lab.world.run_for(SOON);
    assert!(many.iter().all(|(.., seen)| seen.get() - before == 1));
    lab.on(&a, || {
        for (cq, qp, _) in many {
            qp.close();
            cq.close();
        }
    });
    lab.drop_connection(&a, &b, connected);
    lab.end(a, b);
}

#[test]
fn memory_of_queues_is_not_got_under_a_lock() {
    let mut lab = Lab::large();
    let a = lab.side_a();
    let before = lab.world.pool_stats(lab.a).driver_bytes;
    lab.on(&a, || {
        let info = a.adapter.info().unwrap();
        let deepest = QpLimits {
            receive_depth: info.MaxReceiveQueueDepth,
            initiator_depth: info.MaxInitiatorQueueDepth,
            receive_sges: info.MaxReceiveRequestSge,
            initiator_sges: info.MaxInitiatorRequestSge,
            inline_data: info.MaxInlineDataSize,
            context: 0,
        };
        let (depth, sges) = (info.MaxSrqDepth, info.MaxReceiveRequestSge);
        let cq = a.adapter.create_cq(info.MaxCqDepth).unwrap();
        let srq = a.pd.create_srq(depth, sges, 0).unwrap();
        let qp = a.pd.create_qp(&cq, &cq, deepest).unwrap();
        let shared = a.pd.create_qp_with_srq(&cq, &cq, &srq, deepest).unwrap();
        assert_eq!(resize(&cq, info.MaxCqDepth / 2), STATUS_SUCCESS);
        srq.modify(depth / 2, 0).unwrap();
        // More than what tables have places for at first.
        let queues = [(); 100].map(|()| a.adapter.create_cq(1).unwrap());
        let connectors = [(); 100].map(|()| a.adapter.create_connector().unwrap());
        queues.into_iter().for_each(ntsim::ndk::Cq::close);
        connectors.into_iter().for_each(Connector::close);
        qp.close();
        shared.close();
        srq.close();
        cq.close();
    });
    let stats = lab.world.pool_stats(lab.a);
    assert!(stats.driver_bytes - before < 200 << 10, "only places");
    // Those are made under the lock, some at a time.
    let largest = stats.largest_under_lock;
    assert!((1..=16 << 10).contains(&largest), "{largest}");
    lab.close(a);
    lab.finish();
}

/// NdkResizeCq.
fn resize(cq: &ntsim::ndk::Cq, depth: u32) -> i32 {
    // SAFETY: an open object; it does not pend.
    unsafe { (cq.table().NdkResizeCq)(cq.raw(), depth, never_completed, std::ptr::null_mut()) }
}
