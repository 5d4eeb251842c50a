//! Sending and receiving; what holds for all requests.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_OP_FLAG_DEFER, NDK_OP_FLAG_INLINE, NDK_OP_FLAG_SILENT_SUCCESS, NDK_SGE, NDK_SGE_ADDRESS,
    NdkOperationTypeReceive, NdkOperationTypeSend, NdkOperationTypeWrite,
};

use ntsim::ndk::QpLimits;
use ntsim::virtio_net::NicConfig;

use crate::lab::{ALL_RIGHTS, Lab, SOON, limits};
use crate::story::{SIZE, Story};

#[test]
fn w05_q16_q17_q18_q19_a_send_arrives_in_the_receive() {
    let mut s = Story::begin();
    s.lab
        .on(&s.b, || s.b.qp.receive(70, &[s.theirs.sge(0, 4096)]))
        .unwrap();
    s.lab
        .on(&s.a, || s.a.qp.send(71, &[s.ours.sge(16, 1000)], 0))
        .unwrap();
    assert_eq!(s.outcome(), (71, STATUS_SUCCESS, NdkOperationTypeSend));
    let received = s.lab.result(&s.b);
    assert_eq!(
        (received.Status, received.ProviderErrorCode),
        (STATUS_SUCCESS, 0)
    );
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
    // A post that fails leaves nothing behind.
    let too_many = [s.lab.on(&s.a, || s.ours.sge(0, 1)); 17];
    assert_eq!(
        s.lab.on(&s.a, || s.a.qp.send(72, &too_many, 0)),
        Err(STATUS_DATA_OVERRUN)
    );
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
    let (address, token) = s.lab.on(&s.b, || s.theirs.remote());
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
    let (address, token) = s.lab.on(&s.b, || s.theirs.remote());
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
    s.lab.on(&s.b, || {
        let bytes = s.theirs.buffer.bytes_mut();
        for at in [0, 100, 200, 300] {
            assert_eq!(bytes[at..at + 10], [0xa5; 10], "executed");
        }
        bytes[..10].fill(0);
    });
    s.lab.on(&s.a, || {
        s.a.qp
            .write(4, &[s.ours.sge(0, 10)], address, token, NDK_OP_FLAG_DEFER)
            .unwrap();
        let too_many = [s.ours.sge(0, 1); 17];
        assert_eq!(s.a.qp.send(5, &too_many, 0), Err(STATUS_DATA_OVERRUN));
    });
    assert_eq!(s.outcome(), (4, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.lab.on(&s.b, || {
        assert_eq!(s.theirs.buffer.bytes()[..10], [0xa5; 10], "executed");
    });
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

#[test]
fn w04_a_receive_from_before_the_connection_takes_its_first_message() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 0xa5);
    let theirs = lab.region(&b, 4096, ALL_RIGHTS, 0);
    lab.on(&b, || b.qp.receive(1, &[theirs.sge(0, 100)]))
        .unwrap();
    let connected = lab.connect(&a, &b);
    lab.on(&b, || b.qp.receive(2, &[theirs.sge(100, 100)]))
        .unwrap();
    lab.on(&a, || a.qp.send(3, &[ours.sge(0, 10)], 0)).unwrap();
    let received = lab.result(&b);
    assert_eq!(
        (received.RequestContext as u64, received.Status),
        (1, STATUS_SUCCESS)
    );
    lab.on(&b, || {
        let bytes = theirs.buffer.bytes();
        assert_eq!((bytes[9], bytes[10], bytes[100]), (0xa5, 0, 0));
    });
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}

/// A NIC takes only so many pieces of a frame as its queue is long.
#[test]
fn a_frame_of_more_pieces_than_the_nic_takes_arrives_all_the_same() {
    const PIECES: usize = 16;
    let mut lab = Lab::with(
        &[],
        NicConfig {
            queue_size: 8,
            ..NicConfig::default()
        },
    );
    let (mut a, b) = (lab.side_a(), lab.side_b());
    let limits = QpLimits {
        initiator_sges: PIECES as u32,
        ..limits()
    };
    let many = lab.on(&a, || a.pd.create_qp(&a.cq, &a.cq, limits).unwrap());
    let few = std::mem::replace(&mut a.qp, many);
    lab.on(&a, || few.close());
    let connected = lab.connect(&a, &b);
    let (mut ours, theirs) = (
        lab.region(&a, 4096, ALL_RIGHTS, 0),
        lab.region(&b, 4096, ALL_RIGHTS, 0),
    );
    let pieces: [_; PIECES] = lab.on(&a, || {
        std::array::from_fn(|piece| ours.sge(200 * piece, 50))
    });
    lab.on(&a, || {
        for (index, byte) in ours.buffer.bytes_mut().iter_mut().enumerate() {
            *byte = (index / 200) as u8 + 1;
        }
    });
    let (address, token) = lab.on(&b, || (theirs.buffer.address(), theirs.mr.remote_token()));
    lab.on(&a, || a.qp.write(1, &pieces, address, token, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    let expected: Vec<_> = (0..50 * PIECES).map(|at| (at / 50) as u8 + 1).collect();
    assert_eq!(theirs.buffer.bytes()[..50 * PIECES], expected);
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}
