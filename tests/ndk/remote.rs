//! Reading and writing the memory of the peer.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::{
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_MR_FLAG_ALLOW_REMOTE_WRITE,
    NDK_OP_FLAG_DEFER, NDK_OP_FLAG_READ_FENCE, NDK_SGE, NdkOperationTypeRead, NdkOperationTypeSend,
    NdkOperationTypeWrite,
};
use ntsim::ndk::ReadLimits;
use ntsim::wire::Verdict;

use crate::lab::{ALL_RIGHTS, Lab, limits};
use crate::story::{SIZE, Story};

#[test]
fn w19_write_and_read_reach_the_peers_memory() {
    let mut s = Story::begin();
    let (address, token) = s.lab.on(&s.b, || s.theirs.remote());
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
    let (address, token) = s.lab.on(&s.b, || s.theirs.remote());
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
fn w15_r03_the_peer_refuses_what_it_did_not_allow() {
    for (flags, read, beyond) in [
        (NDK_MR_FLAG_ALLOW_LOCAL_WRITE, true, 0),
        (NDK_MR_FLAG_ALLOW_LOCAL_WRITE, false, 0),
        (NDK_MR_FLAG_ALLOW_REMOTE_READ, false, 0),
        (NDK_MR_FLAG_ALLOW_REMOTE_WRITE, true, 0),
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
fn w11_a_read_may_have_as_many_elements_as_the_adapter_says() {
    let mut s = Story::begin();
    let (_, address, token) = s.target();
    let most = s
        .lab
        .on(&s.a, || s.a.adapter.info())
        .unwrap()
        .MaxReadRequestSge as usize;
    assert!(
        most > limits().initiator_sges as usize,
        "or this proves nothing"
    );
    s.lab.on(&s.b, || s.theirs.buffer.bytes_mut().fill(0x3c));
    s.lab.on(&s.a, || {
        let elements: Vec<NDK_SGE> = (0..=most).map(|at| s.ours.sge(100 * at, 50)).collect();
        assert_eq!(
            s.a.qp.read(1, &elements, address, token, 0),
            Err(STATUS_DATA_OVERRUN)
        );
        assert_eq!(s.a.qp.read(2, &elements[1..], address, token, 0), Ok(()));
        assert_eq!(
            s.a.qp.write(3, &elements[1..], address, token, 0),
            Err(STATUS_DATA_OVERRUN),
            "other requests have the queue pair's limit"
        );
    });
    assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeRead));
    s.lab.on(&s.a, || {
        let bytes = s.ours.buffer.bytes();
        for at in 1..=most {
            let (filled, gap) = bytes[100 * at..][..100].split_at(50);
            assert_eq!((filled, gap), (&[0x3c; 50][..], &[0xa5; 50][..]));
        }
    });
    s.end();
}

/// The opcode of a RoCEv2 packet over IPv4, which is in its BTH.
pub fn opcode(frame: &[u8]) -> Option<u8> {
    const OPCODE: usize = 14 + 20 + 8;
    let is_roce = frame.get(36..38) == Some(&4791_u16.to_be_bytes());
    frame.get(OPCODE).copied().filter(|_| is_roce)
}

/// What a packet does to the number of reads on their way.
fn reads(frame: &[u8]) -> i32 {
    match opcode(frame) {
        // RC RDMA READ request.
        Some(0x0c) => 1,
        // RC RDMA READ response, last or only.
        Some(0x0f | 0x10) => -1,
        _ => 0,
    }
}

#[test]
fn w07_a_fenced_request_leaves_when_all_earlier_reads_are_done() {
    const LENGTH: usize = 8192;
    for (fence, write) in [
        (NDK_OP_FLAG_READ_FENCE, false),
        (NDK_OP_FLAG_READ_FENCE, true),
        (0, false),
        (0, true),
    ] {
        let mut s = Story::begin();
        let (_, address, token) = s.target();
        s.lab
            .on(&s.b, || s.b.qp.receive(9, &[s.theirs.sge(0, LENGTH)]))
            .unwrap();
        // Reads on their way, and how many there were when the request passed.
        let (now, passed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(None)));
        let ports = s.lab.net.ports();
        for (port, _) in &ports {
            let (now, passed) = (Rc::clone(&now), Rc::clone(&passed));
            s.lab.net.set_filter(*port, move |frame| {
                now.set(now.get() + reads(frame));
                // RC SEND and RDMA WRITE, first or only.
                if matches!(opcode(frame), Some(0x00 | 0x04 | 0x06 | 0x0a)) {
                    passed.set(Some(now.get()));
                }
                Verdict::Pass
            });
        }
        s.lab.on(&s.a, || {
            for (context, at) in [(1, 0), (2, LENGTH)] {
                let to = [s.ours.sge(at, LENGTH)];
                let from = address + 20_000 + at as u64;
                let flags = NDK_OP_FLAG_DEFER;
                s.a.qp.read(context, &to, from, token, flags).unwrap();
            }
            let ours = [s.ours.sge(0, 10)];
            if write {
                s.a.qp.write(3, &ours, address, token, fence).unwrap();
            } else {
                s.a.qp.send(3, &ours, fence).unwrap();
            }
        });
        for context in 1..=3 {
            let (done, status, _) = s.outcome();
            assert_eq!((done, status), (context, STATUS_SUCCESS));
        }
        ports
            .iter()
            .for_each(|(port, _)| s.lab.net.clear_filter(*port));
        let passed = passed.get().expect("the request was seen");
        if fence == 0 {
            assert_eq!(passed, 2, "or the fence makes no difference");
        } else {
            assert_eq!(passed, 0);
        }
        s.end();
    }
}

#[test]
fn w24_more_reads_than_the_limit_wait_their_turn() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    // Two reads at a time, one way; none the other way.
    let limit = ReadLimits {
        inbound: 0,
        outbound: 2,
    };
    let (listener, active, connecting, passive) = lab.ask_with(&a, &b, limit, &[]);
    let accepting = lab.accept(&b, &passive);
    connecting.wait(&mut lab.world).unwrap();
    lab.complete(&a, &active, &accepting);
    let (ours, theirs) = (
        lab.region(&a, 32 * 100, ALL_RIGHTS, 0),
        lab.region(&b, 32 * 100, ALL_RIGHTS, 9),
    );
    let (address, token) = lab.on(&b, || theirs.remote());
    // The reads between the two, as seen by both links.
    let (now, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let ports = lab.net.ports();
    for (port, _) in &ports {
        let (now, most) = (Rc::clone(&now), Rc::clone(&most));
        lab.net.set_filter(*port, move |frame| {
            now.set(now.get() + reads(frame));
            most.set(most.get().max(now.get()));
            Verdict::Pass
        });
    }
    // All are there before the first goes out.
    lab.on(&a, || {
        for index in 0..32 {
            let at = 100 * index as usize;
            let flags = if index < 31 { NDK_OP_FLAG_DEFER } else { 0 };
            let (element, address) = (ours.sge(at, 100), address + at as u64);
            a.qp.read(index, &[element], address, token, flags).unwrap();
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
    assert_eq!((now.get(), most.get()), (0, 2));
    ports
        .iter()
        .for_each(|(port, _)| lab.net.clear_filter(*port));
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
    lab.end(a, b);
}

#[test]
fn r21_an_element_before_or_behind_its_region_fails_whatever_the_request_is() {
    for (request, before) in [
        ("send", true),
        ("write", true),
        ("write", false),
        ("read", true),
        ("read", false),
        ("receive", true),
        ("receive", false),
    ] {
        let mut s = Story::begin();
        let (_, address, token) = s.target();
        let small = s.lab.region(&s.a, 4096, ALL_RIGHTS, 0x11);
        let mut outside = s.lab.on(&s.a, || small.sge(0, 4096));
        if before {
            // SAFETY: elements of registered memory have a virtual address.
            let first = unsafe { outside.Anonymous.VirtualAddress };
            outside.Anonymous.VirtualAddress = first.wrapping_byte_sub(1);
        } else {
            outside.Length += 1;
        }
        let posted = s.lab.on(&s.a, || match request {
            "send" => s.a.qp.send(1, &[outside], 0),
            "write" => s.a.qp.write(1, &[outside], address, token, 0),
            "read" => s.a.qp.read(1, &[outside], address, token, 0),
            _ => s.a.qp.receive(1, &[outside]),
        });
        posted.unwrap();
        if request == "receive" {
            s.lab
                .on(&s.b, || s.b.qp.send(2, &[s.theirs.sge(0, 4097)], 0))
                .unwrap();
        }
        let (context, status, _) = s.outcome();
        assert_eq!(
            (context, status),
            (1, STATUS_ACCESS_VIOLATION),
            "{request} {before}"
        );
        s.lab.on(&s.b, || {
            assert!(s.theirs.buffer.bytes().iter().all(|byte| *byte == 0));
        });
        s.lab.on(&s.a, || small.close());
        s.end();
    }
}
