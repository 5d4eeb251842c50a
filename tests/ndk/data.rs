//! Posting work and getting results.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_CQ_NOTIFY_ANY, NDK_CQ_NOTIFY_ERRORS, NDK_CQ_NOTIFY_SOLICITED,
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_DEFER,
    NDK_OP_FLAG_INLINE, NDK_OP_FLAG_READ_FENCE, NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT,
    NDK_OP_FLAG_SILENT_SUCCESS, NDK_SGE, NDK_SGE_ADDRESS, NdkOperationTypeRead,
    NdkOperationTypeReceive, NdkOperationTypeSend, NdkOperationTypeWrite,
};

use ntsim::consumer::ReadLimits;

use crate::lab::{ALL_RIGHTS, Connected, Lab, Region, SOON, Side, from, limits, to};

/// Everything a data story needs: two sides, connected, a region each (A's full of 0xA5, B's of 0).
struct Story {
    lab: Lab,
    a: Side,
    b: Side,
    connected: Connected,
    ours: Region,
    theirs: Region,
}

const SIZE: usize = 64 * 1024;

impl Story {
    fn begin() -> Story {
        let mut lab = Lab::new();
        let (a, b) = (lab.side_a(), lab.side_b());
        let connected = lab.connect(&a, &b);
        let ours = lab.region(&a, SIZE, ALL_RIGHTS, 0xa5);
        let theirs = lab.region(&b, SIZE, ALL_RIGHTS, 0);
        Story {
            lab,
            a,
            b,
            connected,
            ours,
            theirs,
        }
    }

    fn end(self) {
        let Story {
            mut lab,
            a,
            b,
            connected,
            ours,
            theirs,
        } = self;
        lab.hang_up(&a, &b, connected);
        lab.on(&a, || ours.close());
        lab.on(&b, || theirs.close());
        lab.close(a);
        lab.close(b);
        lab.finish();
    }

    /// What a request of A ended with.
    #[track_caller]
    fn outcome(&mut self) -> (u64, i32, u32) {
        let result = self.lab.result(&self.a);
        assert_eq!(
            result.QPContext as u64, 0x51de,
            "q16: the QP's context is in every entry"
        );
        assert_eq!(
            result.ProviderErrorCode == 0,
            result.Status == STATUS_SUCCESS,
            "q19"
        );
        (result.RequestContext as u64, result.Status, result.Type)
    }
}

#[test]
fn w05_q16_q17_q19_a_send_arrives_in_the_receive() {
    let mut s = Story::begin();
    s.lab
        .on(&s.b, || s.b.qp.receive(70, &[s.theirs.sge(0, 4096)]))
        .unwrap();
    s.lab
        .on(&s.a, || s.a.qp.send(71, &[s.ours.sge(16, 1000)], 0))
        .unwrap();
    assert_eq!(s.outcome(), (71, STATUS_SUCCESS, NdkOperationTypeSend));
    let received = s.lab.result(&s.b);
    assert_eq!(received.Status, STATUS_SUCCESS);
    assert_eq!(
        (received.RequestContext as u64, received.BytesTransferred),
        (70, 1000)
    );
    assert_eq!(
        (received.Type, received.QPContext as u64),
        (NdkOperationTypeReceive, 0x51de)
    );
    s.lab.on(&s.b, || {
        assert_eq!(s.theirs.buffer.bytes()[..1000], [0xa5; 1000]);
        assert_eq!(
            s.theirs.buffer.bytes()[1000],
            0,
            "nothing behind it is touched"
        );
    });
    s.lab.no_result(&s.a);
    s.lab.no_result(&s.b);
    s.end();
}

#[test]
fn a_send_of_many_packets_gathers_and_scatters() {
    let mut s = Story::begin();
    let lengths = [1, 4095, 4096, 4097, 10_000, 30_001];
    for (index, length) in lengths.into_iter().enumerate() {
        s.lab.on(&s.a, || {
            for (at, byte) in s.ours.buffer.bytes_mut().iter_mut().enumerate() {
                *byte = (at * 7 + index) as u8;
            }
        });
        let (first, rest) = (length / 3, length - length / 3);
        s.lab
            .on(&s.b, || {
                s.theirs.buffer.bytes_mut().fill(0);
                let halves = [
                    s.theirs.sge(5, 2 * length / 3 + 1),
                    s.theirs.sge(40_000 - 8_000, length),
                ];
                s.b.qp.receive(1, &halves)
            })
            .unwrap();
        s.lab
            .on(&s.a, || {
                s.a.qp
                    .send(2, &[s.ours.sge(3, first), s.ours.sge(20_003, rest)], 0)
            })
            .unwrap();
        assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeSend));
        assert_eq!(s.lab.result(&s.b).BytesTransferred as usize, length);
        let sent: Vec<u8> = s.lab.on(&s.a, || {
            let bytes = s.ours.buffer.bytes();
            [&bytes[3..3 + first], &bytes[20_003..20_003 + rest]].concat()
        });
        let received: Vec<u8> = s.lab.on(&s.b, || {
            let (bytes, head) = (s.theirs.buffer.bytes(), (2 * length / 3 + 1).min(length));
            [&bytes[5..5 + head], &bytes[32_000..32_000 + length - head]].concat()
        });
        assert_eq!(sent, received, "{length} bytes");
    }
    s.end();
}

#[test]
fn w19_write_and_read_reach_the_peers_memory() {
    let mut s = Story::begin();
    let (address, token) = s.lab.on(&s.b, || {
        (s.theirs.buffer.address(), s.theirs.mr.remote_token())
    });
    s.lab
        .on(&s.a, || {
            s.a.qp
                .write(1, &[s.ours.sge(0, 20_000)], address + 100, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome(), (1, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.lab.on(&s.b, || {
        let bytes = s.theirs.buffer.bytes_mut();
        assert_eq!(
            (bytes[99], bytes[100], bytes[20_099], bytes[20_100]),
            (0, 0xa5, 0xa5, 0)
        );
        bytes[30_000..50_000].fill(0x3c);
    });
    s.lab
        .on(&s.a, || {
            s.a.qp
                .read(2, &[s.ours.sge(7, 20_000)], address + 30_000, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeRead));
    s.lab.on(&s.a, || {
        let bytes = s.ours.buffer.bytes();
        assert_eq!(
            (bytes[6], bytes[7], bytes[20_006], bytes[20_007]),
            (0xa5, 0x3c, 0x3c, 0xa5)
        );
    });
    // The peer's consumer hears nothing of either.
    s.lab.no_result(&s.b);
    s.end();
}

#[test]
fn w07_a_fenced_send_carries_what_the_read_before_it_brought() {
    let mut s = Story::begin();
    let (address, token) = s.lab.on(&s.b, || {
        (s.theirs.buffer.address(), s.theirs.mr.remote_token())
    });
    s.lab
        .on(&s.b, || {
            s.theirs.buffer.bytes_mut()[..8192].fill(0x77);
            s.b.qp.receive(9, &[s.theirs.sge(32_768, 8192)])
        })
        .unwrap();
    s.lab.on(&s.a, || {
        s.a.qp
            .read(1, &[s.ours.sge(0, 8192)], address, token, 0)
            .unwrap();
        s.a.qp
            .send(2, &[s.ours.sge(0, 8192)], NDK_OP_FLAG_READ_FENCE)
            .unwrap();
    });
    assert_eq!(s.outcome().0, 1);
    assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeSend));
    assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    s.lab.on(&s.b, || {
        assert_eq!(s.theirs.buffer.bytes()[32_768..40_960], [0x77; 8192])
    });
    s.end();
}

#[test]
fn initiator_posts_need_a_connection_and_w04_receives_do_not() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let region = lab.region(&a, 4096, ALL_RIGHTS, 0);
    lab.on(&a, || {
        let sgl = [region.sge(0, 64)];
        assert_eq!(a.qp.send(1, &sgl, 0), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(a.qp.write(1, &sgl, 0, 0, 0), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(a.qp.read(1, &sgl, 0, 0, 0), Err(STATUS_CONNECTION_INVALID));
        assert!(a.cq.poll().is_none());
        assert_eq!(a.qp.receive(2, &sgl), Ok(()));
    });
    // W-12: a flush brings it back.
    lab.on(&a, || a.qp.flush());
    let flushed = lab.result(&a);
    assert_eq!(
        (flushed.RequestContext as u64, flushed.Status),
        (2, STATUS_CANCELLED)
    );
    lab.on(&a, || region.close());
    lab.close(a);
    lab.finish();
}

#[test]
fn w06_silent_success_is_silent_and_failure_is_not() {
    let mut s = Story::begin();
    let (address, token) = s.lab.on(&s.b, || {
        (s.theirs.buffer.address(), s.theirs.mr.remote_token())
    });
    s.lab
        .on(&s.a, || {
            s.a.qp.write(
                1,
                &[s.ours.sge(0, 100)],
                address,
                token,
                NDK_OP_FLAG_SILENT_SUCCESS,
            )
        })
        .unwrap();
    s.lab.no_result(&s.a);
    s.lab.on(&s.b, || {
        assert_eq!(s.theirs.buffer.bytes()[..100], [0xa5; 100])
    });
    // Beyond the end of the peer's region.
    let beyond = address + SIZE as u64;
    s.lab
        .on(&s.a, || {
            s.a.qp.write(
                2,
                &[s.ours.sge(0, 100)],
                beyond,
                token,
                NDK_OP_FLAG_SILENT_SUCCESS,
            )
        })
        .unwrap();
    let result = s.lab.result(&s.a);
    assert_eq!(
        (result.RequestContext as u64, result.Status),
        (2, STATUS_REMOTE_RESOURCES)
    );
    // D-02, D-03: the error ends the connection, and each side hears it once.
    assert!(
        s.lab
            .world
            .run_until(|_| s.connected.active.disconnect_events().count() > 0, SOON)
    );
    s.lab.world.run_for(Duration::from_secs(10));
    assert_eq!(s.connected.active.disconnect_events().count(), 1);
    assert_eq!(s.connected.passive.disconnect_events().count(), 1);
    s.end();
}

#[test]
fn w15_r03_the_peer_refuses_what_it_did_not_allow() {
    for (flags, read, beyond) in [
        (NDK_MR_FLAG_ALLOW_LOCAL_WRITE, true, 0),
        (NDK_MR_FLAG_ALLOW_LOCAL_WRITE, false, 0),
        (NDK_MR_FLAG_ALLOW_REMOTE_READ, false, 0),
        (ALL_RIGHTS, true, 1),
    ] {
        let mut s = Story::begin();
        let guarded = s.lab.region(&s.b, 4096, flags, 0x11);
        let (address, token) = s.lab.on(&s.b, || {
            (guarded.buffer.address(), guarded.mr.remote_token())
        });
        s.lab
            .on(&s.a, || {
                let sgl = [s.ours.sge(0, 4096)];
                if read {
                    s.a.qp.read(1, &sgl, address + beyond, token, 0)
                } else {
                    s.a.qp.write(1, &sgl, address + beyond, token, 0)
                }
            })
            .unwrap();
        let (context, status, _) = s.outcome();
        assert_eq!((context, status), (1, STATUS_REMOTE_RESOURCES));
        s.lab.on(&s.b, || {
            assert_eq!(guarded.buffer.bytes(), [0x11; 4096], "nothing was written");
            guarded.close();
        });
        s.lab.on(&s.a, || {
            assert_eq!(
                s.ours.buffer.bytes()[..4096],
                [0xa5; 4096],
                "nothing was read"
            )
        });
        s.end();
    }
}

#[test]
fn w08_w09_w10_inline_data_is_taken_during_the_call() {
    let mut s = Story::begin();
    s.lab
        .on(&s.b, || s.b.qp.receive(1, &[s.theirs.sge(0, 4096)]))
        .unwrap();
    s.lab.on(&s.a, || {
        let mut data = [1_u8, 2, 3, 4, 5, 6, 7, 8];
        let base = data.as_mut_ptr();
        // More elements than the QP takes otherwise, with tokens that are none.
        let sgl: Vec<NDK_SGE> = (0..8)
            .map(|index| NDK_SGE {
                Anonymous: NDK_SGE_ADDRESS {
                    VirtualAddress: base.wrapping_add(index).cast(),
                },
                Length: 1,
                MemoryRegionToken: 0xdead_beef,
            })
            .collect();
        s.a.qp.send(2, &sgl, NDK_OP_FLAG_INLINE).unwrap();
        data.fill(0xee);
    });
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    assert_eq!(s.lab.result(&s.b).BytesTransferred, 8);
    s.lab.on(&s.b, || {
        assert_eq!(s.theirs.buffer.bytes()[..8], [1, 2, 3, 4, 5, 6, 7, 8])
    });
    // One byte more than the QP was created for.
    let too_long = vec![0_u8; limits().inline_data as usize + 1];
    s.lab.on(&s.a, || {
        let sge = NDK_SGE {
            Anonymous: NDK_SGE_ADDRESS {
                VirtualAddress: too_long.as_ptr().cast_mut().cast(),
            },
            Length: too_long.len() as u32,
            MemoryRegionToken: 0,
        };
        assert_eq!(
            s.a.qp.send(3, &[sge], NDK_OP_FLAG_INLINE),
            Err(STATUS_INVALID_PARAMETER)
        );
    });
    s.lab.no_result(&s.a);
    s.end();
}

#[test]
fn w16_w17_deferred_requests_are_executed_all_the_same() {
    let mut s = Story::begin();
    let (address, token) = s.lab.on(&s.b, || {
        (s.theirs.buffer.address(), s.theirs.mr.remote_token())
    });
    s.lab.on(&s.a, || {
        for index in 0..3 {
            s.a.qp
                .write(
                    index,
                    &[s.ours.sge(0, 10)],
                    address + 100 * index,
                    token,
                    NDK_OP_FLAG_DEFER,
                )
                .unwrap();
        }
        s.a.qp
            .write(3, &[s.ours.sge(0, 10)], address + 300, token, 0)
            .unwrap();
    });
    for index in 0..4 {
        assert_eq!(
            s.outcome(),
            (index, STATUS_SUCCESS, NdkOperationTypeWrite),
            "in post order"
        );
    }
    s.lab.on(&s.a, || {
        s.a.qp
            .write(4, &[s.ours.sge(0, 10)], address, token, NDK_OP_FLAG_DEFER)
            .unwrap();
        let too_many = [s.ours.sge(0, 1); 17];
        assert_eq!(s.a.qp.send(5, &too_many, 0), Err(STATUS_DATA_OVERRUN));
    });
    assert_eq!(s.outcome(), (4, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.end();
}

#[test]
fn r21_an_element_outside_its_region_fails() {
    let mut s = Story::begin();
    let outside = NDK_SGE {
        Length: SIZE as u32 + 1,
        ..s.lab.on(&s.a, || s.ours.sge(0, SIZE))
    };
    s.lab
        .on(&s.b, || s.b.qp.receive(1, &[s.theirs.sge(0, SIZE)]))
        .unwrap();
    s.lab.on(&s.a, || s.a.qp.send(2, &[outside], 0)).unwrap();
    let (context, status, _) = s.outcome();
    assert_eq!((context, status), (2, STATUS_ACCESS_VIOLATION));
    s.end();
}

#[test]
fn a_message_longer_than_the_receive_ends_the_connection() {
    let mut s = Story::begin();
    s.lab
        .on(&s.b, || s.b.qp.receive(1, &[s.theirs.sge(0, 100)]))
        .unwrap();
    s.lab
        .on(&s.a, || s.a.qp.send(2, &[s.ours.sge(0, 101)], 0))
        .unwrap();
    let received = s.lab.result(&s.b);
    assert_eq!(
        (received.RequestContext as u64, received.Status),
        (1, STATUS_BUFFER_OVERFLOW)
    );
    assert_eq!(s.outcome().1, STATUS_REMOTE_RESOURCES);
    s.end();
}

#[test]
fn x18_a_full_queue_takes_no_more() {
    let mut s = Story::begin();
    let depth = limits().receive_depth;
    s.lab.on(&s.b, || {
        for index in 0..depth {
            s.b.qp
                .receive(u64::from(index), &[s.theirs.sge(0, 10)])
                .unwrap();
        }
        assert_eq!(s.b.qp.receive(99, &[]), Err(STATUS_NO_MORE_ENTRIES));
    });
    s.lab.on(&s.a, || s.a.qp.send(1, &[], 0)).unwrap();
    assert_eq!(s.outcome(), (1, STATUS_SUCCESS, NdkOperationTypeSend));
    assert_eq!(
        s.lab.result(&s.b).BytesTransferred,
        0,
        "x21: no bytes are a message, too"
    );
    s.end();
}

#[test]
fn q02_q03_q04_one_notification_for_one_arm() {
    let mut s = Story::begin();
    let send = |s: &mut Story, flags| {
        s.lab
            .on(&s.b, || s.b.qp.receive(0, &[s.theirs.sge(0, 10)]))
            .unwrap();
        s.lab
            .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], flags))
            .unwrap();
        s.lab.world.run_for(Duration::from_millis(5));
    };
    send(&mut s, 0);
    assert_eq!(s.b.cq.notifications().count(), 0, "not armed");
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(
        s.b.cq.notifications().count(),
        1,
        "the entry was there, and new"
    );
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    for _ in 0..3 {
        send(&mut s, 0);
    }
    assert_eq!(s.b.cq.notifications().count(), 2);
    for call in s.b.cq.notifications().calls() {
        assert_eq!((call.status, call.irql), (STATUS_SUCCESS, 2));
    }
    s.end();
}

#[test]
fn q09_q10_solicited_arms_wait_for_solicited_receives_or_errors() {
    let mut s = Story::begin();
    let seen = Rc::new(Cell::new(0_u32));
    s.lab.on(&s.b, || {
        for _ in 0..3 {
            s.b.qp.receive(0, &[s.theirs.sge(0, 10)]).unwrap();
        }
        s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED);
    });
    s.lab
        .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], 0))
        .unwrap();
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 0, "nobody solicited that");
    s.lab
        .on(&s.a, || {
            s.a.qp
                .send(0, &[s.ours.sge(0, 10)], NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT)
        })
        .unwrap();
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 1);
    s.lab.on(&s.b, || {
        while s.b.cq.poll().is_some() {
            seen.set(seen.get() + 1);
        }
        s.b.cq.arm(NDK_CQ_NOTIFY_SOLICITED);
    });
    assert_eq!(seen.get(), 2, "the entries were there before the callback");
    s.lab.on(&s.b, || s.b.qp.flush());
    s.lab.world.run_for(Duration::from_millis(5));
    assert_eq!(s.b.cq.notifications().count(), 2, "an error matches");
    s.end();
}

#[test]
fn q07_rearming_inside_the_callback_gives_a_later_callback() {
    let mut s = Story::begin();
    let depth = Rc::new(Cell::new(0_i32));
    // SAFETY of the raw pointer below: the CQ lives until the story ends.
    let (raw, table) = (s.b.cq.raw(), std::ptr::from_ref(s.b.cq.table()));
    let inside = Rc::clone(&depth);
    s.b.cq.on_notify(move |_| {
        assert_eq!(inside.get(), 0, "q06: callbacks of a CQ do not nest");
        inside.set(1);
        // SAFETY: an open CQ; arming is allowed inside its callback.
        unsafe { ((*table).NdkArmCq)(raw, NDK_CQ_NOTIFY_ANY) };
        inside.set(0);
    });
    s.lab.on(&s.b, || s.b.cq.arm(NDK_CQ_NOTIFY_ANY));
    for round in 1..=4 {
        s.lab
            .on(&s.b, || s.b.qp.receive(0, &[s.theirs.sge(0, 10)]))
            .unwrap();
        s.lab
            .on(&s.a, || s.a.qp.send(0, &[s.ours.sge(0, 10)], 0))
            .unwrap();
        s.lab.world.run_for(Duration::from_millis(5));
        assert_eq!(s.b.cq.notifications().count(), round);
    }
    s.end();
}

#[test]
fn q14_an_overrun_kills_the_queue_and_its_queue_pairs() {
    let mut lab = Lab::new();
    let (a, mut b) = (lab.side_a(), lab.side_b());
    // B's queue holds two entries only.
    let (small, qp) = lab.on(&b, || {
        let small = b.adapter.create_cq(2).unwrap();
        let qp = b.pd.create_qp(&small, &small, limits()).unwrap();
        (small, qp)
    });
    let unused = std::mem::replace(&mut b.qp, qp);
    lab.on(&b, || unused.close());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = (
        lab.region(&a, 4096, ALL_RIGHTS, 1),
        lab.region(&b, 4096, ALL_RIGHTS, 0),
    );
    lab.on(&b, || {
        for _ in 0..3 {
            b.qp.receive(0, &[theirs.sge(0, 10)]).unwrap();
        }
        small.arm(NDK_CQ_NOTIFY_ERRORS);
    });
    for expected in [0, 0, 1] {
        lab.on(&a, || a.qp.send(0, &[ours.sge(0, 10)], 0)).unwrap();
        lab.world.run_for(Duration::from_millis(20));
        assert_eq!(small.notifications().count(), expected);
    }
    assert_eq!(
        small.notifications().calls()[0].status,
        STATUS_BUFFER_OVERFLOW
    );
    assert_eq!(
        lab.on(&b, || b.qp.send(1, &[], 0)),
        Err(STATUS_CONNECTION_INVALID)
    );
    assert!(
        lab.world
            .run_until(|_| connected.passive.disconnect_events().count() == 1, SOON)
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
    let Side {
        adapter,
        pd,
        cq,
        qp,
        ..
    } = b;
    lab.world.call(lab.b, || {
        passive.close();
        listener.close();
        theirs.close();
        qp.close();
        small.close();
        cq.close();
        pd.close();
        adapter.close();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn q22_resizing_keeps_the_entries() {
    let mut s = Story::begin();
    let deepest = s.lab.on(&s.b, || s.b.adapter.info()).unwrap().MaxCqDepth;
    for index in 0..5 {
        s.lab.on(&s.b, || s.b.qp.receive(index, &[])).unwrap();
        s.lab.on(&s.a, || s.a.qp.send(index, &[], 0)).unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
    }
    unsafe extern "efiapi" fn never(_: *mut std::ffi::c_void, _: i32) {
        panic!("resizing does not pend");
    }
    s.lab.on(&s.b, || {
        let resize = |depth| {
            // SAFETY: an open CQ; it does not pend, so the context is not used.
            unsafe {
                (s.b.cq.table().NdkResizeCq)(s.b.cq.raw(), depth, never, std::ptr::null_mut())
            }
        };
        assert_eq!(resize(deepest + 1), STATUS_INVALID_PARAMETER);
        assert_eq!(
            resize(4),
            STATUS_BUFFER_OVERFLOW,
            "x41: five entries are in it"
        );
        assert_eq!(resize(5), STATUS_SUCCESS);
        assert_eq!(resize(deepest), STATUS_SUCCESS);
        for index in 0..5 {
            assert_eq!(
                s.b.cq.poll().map(|entry| entry.RequestContext as u64),
                Some(index)
            );
        }
        assert!(s.b.cq.poll().is_none());
        // moderation is not advertised.
        // SAFETY: an open CQ.
        let status =
            unsafe { (s.b.cq.table().NdkControlCqInterruptModeration)(s.b.cq.raw(), 10, 10) };
        assert_eq!(status, STATUS_NOT_SUPPORTED);
    });
    s.end();
}

#[test]
fn more_reads_than_the_limit_wait_their_turn() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    let active = lab.connector(&a);
    // Two reads at a time, one way; none the other way.
    let limit = ReadLimits {
        inbound: 0,
        outbound: 2,
    };
    let connecting = lab.on(&a, || {
        active.start_connect(&a.qp, from(&a), to(&b), limit, &[])
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
    connecting.wait(&mut lab.world).unwrap();
    let completing = lab.on(&a, || active.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    let (ours, theirs) = (
        lab.region(&a, 32 * 100, ALL_RIGHTS, 0),
        lab.region(&b, 32 * 100, ALL_RIGHTS, 9),
    );
    let (address, token) = lab.on(&b, || (theirs.buffer.address(), theirs.mr.remote_token()));
    lab.on(&a, || {
        for index in 0..32 {
            let at = 100 * index as usize;
            a.qp.read(index, &[ours.sge(at, 100)], address + at as u64, token, 0)
                .unwrap();
        }
    });
    for index in 0..32 {
        let result = lab.result(&a);
        assert_eq!(
            (result.RequestContext as u64, result.Status),
            (index, STATUS_SUCCESS)
        );
    }
    lab.on(&a, || assert_eq!(ours.buffer.bytes(), [9; 3200]));
    // The peer may not read at all: it would wait for ever.
    assert_eq!(
        lab.on(&b, || b.qp.read(0, &[theirs.sge(0, 10)], 0, 0, 0)),
        Err(STATUS_INVALID_DEVICE_REQUEST)
    );
    let disconnecting = lab.on(&a, || active.start_disconnect());
    disconnecting.wait(&mut lab.world).unwrap();
    lab.on(&a, || {
        active.close();
        ours.close();
    });
    lab.on(&b, || {
        passive.close();
        listener.close();
        theirs.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn w06_w12_a_flush_of_a_connected_queue_pair_brings_everything_back() {
    let mut s = Story::begin();
    s.lab.on(&s.a, || {
        s.a.qp.receive(1, &[s.ours.sge(0, 10)]).unwrap();
        // No receive waits for these.
        s.a.qp.send(2, &[s.ours.sge(0, 10)], 0).unwrap();
        s.a.qp
            .send(3, &[s.ours.sge(0, 10)], NDK_OP_FLAG_SILENT_SUCCESS)
            .unwrap();
        s.a.qp.flush();
    });
    let mut back: Vec<_> = (0..3)
        .map(|_| s.outcome())
        .map(|(context, status, _)| (context, status))
        .collect();
    back.sort_unstable();
    assert_eq!(
        back,
        [
            (1, STATUS_CANCELLED),
            (2, STATUS_CANCELLED),
            (3, STATUS_CANCELLED)
        ]
    );
    //
    s.lab.on(&s.a, || {
        assert_eq!(s.a.qp.send(4, &[], 0), Err(STATUS_CONNECTION_INVALID));
        assert_eq!(s.a.qp.receive(5, &[]), Ok(()));
    });
    assert_eq!(s.outcome(), (5, STATUS_CANCELLED, NdkOperationTypeReceive));
    s.end();
}

#[test]
fn x30_entries_outlive_their_queue_pair() {
    let mut s = Story::begin();
    let extra = s.lab.on(&s.a, || {
        s.a.pd.create_qp(&s.a.cq, &s.a.cq, limits()).unwrap()
    });
    s.lab.on(&s.a, || {
        extra.receive(42, &[]).unwrap();
        extra.close();
    });
    assert_eq!(s.outcome(), (42, STATUS_CANCELLED, NdkOperationTypeReceive));
    s.end();
}
