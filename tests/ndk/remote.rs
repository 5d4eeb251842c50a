//! Reading and writing the memory of the peer.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::{
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_DEFER,
    NDK_OP_FLAG_READ_FENCE, NDK_SGE, NdkOperationTypeRead, NdkOperationTypeSend,
    NdkOperationTypeWrite,
};
use ntsim::consumer::ReadLimits;
use ntsim::wire::Verdict;

use crate::lab::{ALL_RIGHTS, Lab, from, limits, to};
use crate::story::{SIZE, Story};

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

/// What a RoCEv2 packet over IPv4 does to the number of reads on their way: the opcode of its BTH says so.
fn reads(frame: &[u8]) -> i32 {
    const OPCODE: usize = 14 + 20 + 8;
    match frame.get(OPCODE) {
        _ if frame.get(36..38) != Some(&4791_u16.to_be_bytes()) => 0,
        // RC RDMA READ request.
        Some(0x0c) => 1,
        // RC RDMA READ response, last or only.
        Some(0x0f | 0x10) => -1,
        _ => 0,
    }
}

#[test]
fn w24_more_reads_than_the_limit_wait_their_turn() {
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
