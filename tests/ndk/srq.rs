//! Shared receive queues.

use ndkpi::status::*;
use ndkpi::{NdkOperationTypeReceive, NdkOperationTypeSend};
use ntsim::ndk::{Connector, Cq, Listener, Qp, QpLimits, Srq};

use crate::lab::{ALL_RIGHTS, Lab, Region, Side, failure, limits};
use crate::raw::never_completed;

/// Two connections from A to B, whose queue pairs at B share one receive queue.
struct Story {
    lab: Lab,
    a: Side,
    b: Side,
    srq: Srq,
    /// What A and B have of each connection; B's queue pairs have the contexts 100 and 101.
    ends: Vec<(Qp, Qp)>,
    connectors: Vec<(Connector, Connector)>,
    listener: Listener,
    ours: Region,
    theirs: Region,
}

/// Depth of the story's queue.
const DEPTH: u32 = 8;

impl Story {
    fn begin(threshold: u32) -> Story {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let listener = lab.listen(&b);
        let srq = lab.on(&b, || b.pd.create_srq(DEPTH, 2, threshold).unwrap());
        let mut story = Story {
            ours: lab.region(&a, 4096, ALL_RIGHTS, 0xa5),
            theirs: lab.region(&b, 4096, ALL_RIGHTS, 0),
            lab,
            a,
            b,
            srq,
            ends: Vec::new(),
            connectors: Vec::new(),
            listener,
        };
        for context in [100, 101] {
            story.add_connection(context, None);
        }
        story
    }

    /// One more connection; B's queue pair has such a context, and such a receive queue if not the one that B has for everything.
    fn add_connection(&mut self, context: u64, receives: Option<&Cq>) {
        let Story { lab, a, b, .. } = self;
        let end_a = lab.on(a, || a.pd.create_qp(&a.cq, &a.cq, limits()).unwrap());
        let shared = QpLimits {
            context,
            ..limits()
        };
        let end_b = lab.on(b, || {
            let receives = receives.unwrap_or(&b.cq);
            b.pd.create_qp_with_srq(receives, &b.cq, &self.srq, shared)
                .unwrap()
        });
        let (active, passive) = lab.join((a, &end_a), (b, &end_b), &self.listener);
        self.ends.push((end_a, end_b));
        self.connectors.push((active, passive));
    }

    /// A receive of the shared queue.
    fn receive(&mut self, context: u64) {
        self.lab
            .on(&self.b, || {
                self.srq.receive(context, &[self.theirs.sge(0, 64)])
            })
            .unwrap();
    }

    /// A sends over a connection, and what became of it at both ends: status at A, entry at B.
    fn send(&mut self, connection: usize) -> (u64, u64, i32) {
        let qp = &self.ends[connection].0;
        self.lab
            .on(&self.a, || qp.send(7, &[self.ours.sge(0, 64)], 0))
            .unwrap();
        let sent = self.lab.result(&self.a);
        assert_eq!(
            (sent.RequestContext as u64, sent.Status, sent.Type),
            (7, STATUS_SUCCESS, NdkOperationTypeSend)
        );
        let received = self.lab.result(&self.b);
        assert_eq!(received.Type, NdkOperationTypeReceive);
        (
            received.RequestContext as u64,
            received.QPContext as u64,
            received.Status,
        )
    }

    /// The notifications of the shared queue so far.
    fn notified(&mut self) -> Vec<i32> {
        self.lab.world.run_for(std::time::Duration::from_millis(1));
        let calls = self.lab.on(&self.b, || self.srq.notifications());
        assert!(calls.iter().all(|call| call.irql == 2));
        calls.iter().map(|call| call.status).collect()
    }

    fn end(self) {
        let Story {
            mut lab,
            a,
            b,
            srq,
            ends,
            connectors,
            listener,
            ours,
            theirs,
        } = self;
        for (active, passive) in connectors {
            let disconnecting = lab.on(&a, || active.start_disconnect());
            disconnecting.wait(&mut lab.world).unwrap();
            lab.on(&a, || active.close());
            lab.on(&b, || passive.close());
        }
        for (end_a, end_b) in ends {
            lab.on(&a, || end_a.close());
            lab.on(&b, || end_b.close());
        }
        lab.on(&a, || ours.close());
        lab.on(&b, || {
            listener.close();
            srq.close();
            theirs.close();
        });
        lab.close(a);
        lab.close(b);
        lab.finish();
    }
}

#[test]
fn s01_w02_limits_hold_exactly() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.on(&a, || {
        let info = a.adapter.info().unwrap();
        let create = |depth, sges| a.pd.create_srq(depth, sges, 0);
        for (depth, sges) in [
            (0, 1),
            (1, info.MaxReceiveRequestSge),
            (info.MaxSrqDepth, 1),
        ] {
            match create(depth, sges) {
                Ok(srq) => srq.close(),
                Err(status) => assert_eq!((status, depth), (STATUS_INVALID_PARAMETER, 0)),
            }
        }
        for (depth, sges) in [
            (info.MaxSrqDepth + 1, 1),
            (1, info.MaxReceiveRequestSge + 1),
        ] {
            assert_eq!(create(depth, sges).err(), Some(STATUS_INVALID_PARAMETER));
        }
        //
        let too_high = a.pd.create_srq(4, 1, 5);
        assert_eq!(too_high.err(), Some(STATUS_INVALID_PARAMETER));

        let srq = create(4, 2).unwrap();
        let with = |change: &dyn Fn(&mut QpLimits)| {
            let mut wanted = limits();
            change(&mut wanted);
            let made = a.pd.create_qp_with_srq(&a.cq, &a.cq, &srq, wanted);
            made.map(Qp::close)
        };
        let depth = info.MaxInitiatorQueueDepth;
        assert_eq!(with(&|l| l.initiator_depth = depth), Ok(()));
        assert_eq!(
            failure(with(&|l| l.initiator_depth = depth + 1)),
            STATUS_INVALID_PARAMETER
        );
        let sges = info.MaxInitiatorRequestSge;
        assert_eq!(with(&|l| l.initiator_sges = sges), Ok(()));
        assert_eq!(
            failure(with(&|l| l.initiator_sges = sges + 1)),
            STATUS_INVALID_PARAMETER
        );
        let inline = info.MaxInlineDataSize;
        assert_eq!(with(&|l| l.inline_data = inline), Ok(()));
        assert_eq!(
            failure(with(&|l| l.inline_data = inline + 1)),
            STATUS_INVALID_PARAMETER
        );
        srq.close();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn s02_a_receive_completes_for_the_queue_pair_that_took_it() {
    let mut s = Story::begin(0);
    for context in 0..4 {
        s.receive(context);
    }
    assert_eq!(s.send(1), (0, 101, STATUS_SUCCESS));
    assert_eq!(s.send(0), (1, 100, STATUS_SUCCESS));
    assert_eq!(s.send(0), (2, 100, STATUS_SUCCESS));
    assert_eq!(s.send(1), (3, 101, STATUS_SUCCESS));
    assert_eq!(s.notified(), []);
    s.end();
}

#[test]
fn a_send_waits_while_the_shared_queue_is_empty() {
    let mut s = Story::begin(0);
    s.lab
        .on(&s.a, || s.ends[0].0.send(7, &[s.ours.sge(0, 64)], 0))
        .unwrap();
    s.lab.no_result(&s.a);
    s.receive(5);
    assert_eq!(s.lab.result(&s.a).Status, STATUS_SUCCESS);
    let received = s.lab.result(&s.b);
    assert_eq!(
        (received.RequestContext as u64, received.Status),
        (5, STATUS_SUCCESS)
    );
    s.end();
}

#[test]
fn s03_s04_s05_a_threshold_is_told_once_until_it_is_set_again() {
    let mut s = Story::begin(2);
    // a new queue is empty, which is nothing to tell.
    s.receive(0);
    assert_eq!(s.notified(), []);
    s.receive(1);
    s.receive(2);
    s.send(0);
    assert_eq!(s.notified(), [], "two are left");
    s.send(0);
    assert_eq!(s.notified(), [STATUS_SUCCESS], "one is left");
    s.send(0);
    s.receive(3);
    s.send(0);
    assert_eq!(s.notified(), [STATUS_SUCCESS], "told already");
    // Neither depth nor threshold is asked for: nothing changes, nothing is armed.
    s.lab.on(&s.b, || s.srq.modify(0, 0)).unwrap();
    assert_eq!(s.notified().len(), 1);
    s.lab.on(&s.b, || s.srq.modify(0, 1)).unwrap();
    assert_eq!(s.notified().len(), 2, "fewer than one is queued already");
    s.receive(4);
    s.lab.on(&s.b, || s.srq.modify(0, 1)).unwrap();
    // The depth alone: the threshold stays armed.
    s.lab.on(&s.b, || s.srq.modify(2 * DEPTH, 0)).unwrap();
    assert_eq!(s.notified().len(), 2);
    s.send(1);
    assert_eq!(s.notified().len(), 3);
    s.end();
}

#[test]
fn s05_a_depth_of_zero_keeps_the_depth_and_a_smaller_one_keeps_what_is_queued() {
    let mut s = Story::begin(0);
    for context in 0..u64::from(DEPTH) {
        s.receive(context);
    }
    s.lab.on(&s.b, || {
        let full = Err(STATUS_NO_MORE_ENTRIES);
        assert_eq!(s.srq.receive(9, &[]), full);
        s.srq.modify(0, 1).unwrap();
        assert_eq!(s.srq.receive(9, &[]), full);
        assert_eq!(s.srq.modify(DEPTH - 1, 0), Err(STATUS_BUFFER_OVERFLOW));
        let deepest = s.b.adapter.info().unwrap().MaxSrqDepth;
        assert_eq!(s.srq.modify(deepest + 1, 0), Err(STATUS_INVALID_PARAMETER));
        assert_eq!(
            s.srq.modify(0, DEPTH + 1),
            Err(STATUS_INVALID_PARAMETER),
            "x40"
        );
        s.srq.modify(DEPTH + 1, 0).unwrap();
        s.srq.receive(8, &[]).unwrap();
        assert_eq!(s.srq.receive(9, &[]), full);
    });
    // The last receive has no room for what comes.
    for context in 0..u64::from(DEPTH) {
        assert_eq!(s.send(0).0, context);
    }
    s.end();
}

#[test]
fn s06_q27_neither_notification_nor_affinity_is_needed() {
    unsafe extern "efiapi" fn never(
        _: *mut std::ffi::c_void,
        _: i32,
        _: *mut ndkpi::NDK_OBJECT_HEADER,
    ) {
        panic!("creating a shared receive queue does not pend");
    }
    unsafe extern "efiapi" fn closed(_: *mut std::ffi::c_void) {
        panic!("an idle queue closes at once");
    }
    let mut lab = Lab::new();
    // Its completion queue has no affinity either, as those of all stories.
    let a = lab.side_a();
    lab.on(&a, || {
        let null = std::ptr::null_mut();
        let mut srq = std::ptr::null_mut();
        // SAFETY: an open PD and an out parameter.
        let status = unsafe {
            (a.pd.table().NdkCreateSrq)(
                a.pd.raw(),
                4,
                1,
                2,
                None,
                null,
                std::ptr::null_mut(),
                never,
                null,
                &raw mut srq,
            )
        };
        assert_eq!(status, STATUS_SUCCESS);
        // It is empty: below any threshold, and there is nobody to tell.
        // SAFETY: an open SRQ; it does not pend.
        let status = unsafe { ((*(*srq).Dispatch).NdkModifySrq)(srq, 0, 1, never_completed, null) };
        assert_eq!(status, STATUS_SUCCESS);
        // SAFETY: an open SRQ, closed once.
        let status = unsafe { ((*(*srq).Dispatch).NdkCloseSrq)(srq.cast(), closed, null) };
        assert_eq!(status, STATUS_SUCCESS);
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn l09_a_shared_queue_waits_for_the_queue_pairs_that_receive_from_it() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let (srq, qp) = lab.on(&a, || {
        let srq = a.pd.create_srq(4, 1, 0).unwrap();
        let qp =
            a.pd.create_qp_with_srq(&a.cq, &a.cq, &srq, limits())
                .unwrap();
        srq.receive(1, &[]).unwrap();
        assert_eq!(qp.receive(2, &[]), Err(STATUS_INVALID_DEVICE_REQUEST));
        (srq, qp)
    });
    let closing = lab.on(&a, || srq.start_close());
    lab.world.run_for(std::time::Duration::from_millis(10));
    assert!(!closing.is_done());
    lab.on(&a, || qp.close());
    closing.wait(&mut lab.world).unwrap();
    assert_eq!(closing.calls().len(), 1);
    // What was left in the queue belongs to no completion queue.
    lab.no_result(&a);
    lab.close(a);
    lab.finish();
}

#[test]
fn s02_a_receive_completes_on_the_receive_queue_of_the_queue_pair_that_took_it() {
    let mut s = Story::begin(0);
    let apart = s.lab.on(&s.b, || s.b.adapter.create_cq(16).unwrap());
    s.add_connection(102, Some(&apart));
    for context in 0..3 {
        s.receive(context);
    }
    let received = |s: &mut Story, connection: usize, context: u64| {
        let qp = &s.ends[connection].0;
        s.lab
            .on(&s.a, || qp.send(context, &[s.ours.sge(0, 64)], 0))
            .unwrap();
        assert_eq!(s.lab.result(&s.a).Status, STATUS_SUCCESS);
        s.lab.world.run_for(std::time::Duration::from_millis(1));
        s.lab.on(&s.b, || [apart.poll_ex(), s.b.cq.poll_ex()])
    };
    let told = |entry: Option<ndkpi::NDK_RESULT_EX>| {
        entry.map(|entry| (entry.RequestContext as u64, entry.QPContext as u64))
    };
    let first = received(&mut s, 2, 7).map(told);
    assert_eq!(first, [Some((0, 102)), None]);
    let second = received(&mut s, 0, 8).map(told);
    assert_eq!(second, [None, Some((1, 100))]);
    let third = received(&mut s, 2, 9).map(told);
    assert_eq!(third, [Some((2, 102)), None]);
    let closing = s.lab.on(&s.b, || apart.start_close());
    assert_eq!(closing.inline_status(), STATUS_PENDING);
    s.end();
}
