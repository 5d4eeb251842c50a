//! Memory windows, and what all seven initiator requests have in common.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_OP_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
    NDK_OP_FLAG_DEFER, NdkOperationTypeBind, NdkOperationTypeFastRegister,
    NdkOperationTypeInvalidate, NdkOperationTypeRead, NdkOperationTypeSend, NdkOperationTypeWrite,
};
use ntsim::ndk::{Buffer, Lam, Mr, Mw, Qp};

use crate::lab::{Lab, Region, Side, failure, from, slow_nic};
use crate::raw::{Completed, Shared};
use crate::story::Story;

const READ: u32 = NDK_OP_FLAG_ALLOW_REMOTE_READ;
const WRITE: u32 = NDK_OP_FLAG_ALLOW_REMOTE_WRITE;

/// A window of B.
fn window(s: &mut Story) -> Mw {
    s.lab.on(&s.b, || s.b.pd.create_mw().unwrap())
}

/// Binds a window of B to part of its region and waits for the entry. Gives address and token.
#[track_caller]
fn bind(s: &mut Story, mw: &Mw, offset: u64, length: usize, flags: u32) -> (u64, u32) {
    let (address, token) = s.lab.on(&s.b, || {
        let address = s.theirs.buffer.address() + offset;
        s.b.qp
            .bind(60, &s.theirs.mr, mw, address, length, flags)
            .unwrap();
        // before the entry.
        (address, mw.remote_token())
    });
    let done = s.lab.result(&s.b);
    assert_eq!(
        (done.RequestContext as u64, done.Status, done.Type),
        (60, STATUS_SUCCESS, NdkOperationTypeBind)
    );
    (address, token)
}

/// A writes or reads through a token of B: what came of it.
#[track_caller]
fn reach(s: &mut Story, write: bool, address: u64, token: u32, length: usize) -> i32 {
    s.lab
        .on(&s.a, || {
            let ours = [s.ours.sge(0, length)];
            if write {
                s.a.qp.write(1, &ours, address, token, 0)
            } else {
                s.a.qp.read(1, &ours, address, token, 0)
            }
        })
        .unwrap();
    s.outcome().1
}

fn end(s: Story, mw: Mw) {
    let mut s = s;
    s.lab.on(&s.b, || mw.close());
    s.end();
}

#[test]
fn r17_a_window_of_no_bytes_does_not_hold_its_region() {
    let mut s = Story::begin();
    let mw = window(&mut s);
    let other = s.lab.region(&s.b, 4096, crate::lab::ALL_RIGHTS, 0);
    s.lab.on(&s.b, || {
        let address = other.buffer.address();
        s.b.qp.bind(60, &other.mr, &mw, address, 0, READ).unwrap();
    });
    assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    // Deregistering and closing would wait for the window.
    s.lab.on(&s.b, || other.close());
    end(s, mw);
}

#[test]
fn r16_a_window_opens_part_of_a_region() {
    let mut s = Story::begin();
    let mw = window(&mut s);
    let (address, token) = bind(&mut s, &mw, 1000, 5000, READ | WRITE);
    assert_ne!(token, s.lab.on(&s.b, || s.theirs.mr.remote_token()));
    assert_eq!(reach(&mut s, true, address, token, 5000), STATUS_SUCCESS);
    assert_eq!(
        reach(&mut s, false, address + 1, token, 4999),
        STATUS_SUCCESS
    );
    s.lab.on(&s.b, || {
        let bytes = s.theirs.buffer.bytes();
        assert_eq!((bytes[999], bytes[6000]), (0, 0));
        assert!(bytes[1000..6000].iter().all(|byte| *byte == 0xa5));
    });
    end(s, mw);
}

#[test]
fn r17_nothing_outside_a_windows_range_and_rights_is_reached() {
    type Attempt = (u32, bool, i64, usize);
    // Rights of the window, write or read, where from its first byte, how much.
    let attempts: [Attempt; 5] = [
        (READ | WRITE, true, 0, 5001),
        (READ | WRITE, true, -1, 10),
        (READ | WRITE, false, 4999, 2),
        (READ, true, 0, 10),
        (WRITE, false, 0, 10),
    ];
    for (flags, write, from, length) in attempts {
        let mut s = Story::begin();
        let mw = window(&mut s);
        let (address, token) = bind(&mut s, &mw, 1000, 5000, flags);
        let at = address.wrapping_add_signed(from);
        assert_eq!(
            reach(&mut s, write, at, token, length),
            STATUS_REMOTE_RESOURCES,
            "{flags:#x} {write} {from} {length}"
        );
        s.lab.on(&s.b, || {
            assert!(s.theirs.buffer.bytes().iter().all(|byte| *byte == 0));
        });
        end(s, mw);
    }
}

#[test]
fn r15_a_window_for_writing_needs_a_region_that_can_be_written() {
    let mut s = Story::begin();
    let mw = window(&mut s);
    let readable = s.lab.region(&s.b, 4096, 0, 7);
    s.lab.on(&s.b, || {
        let bind = |flags| {
            let address = readable.buffer.address();
            s.b.qp.bind(61, &readable.mr, &mw, address, 4096, flags)
        };
        assert_eq!(failure(bind(WRITE)), STATUS_ACCESS_VIOLATION);
        assert_eq!(failure(bind(READ | WRITE)), STATUS_ACCESS_VIOLATION);
        bind(READ).unwrap();
    });
    let done = s.lab.result(&s.b);
    assert_eq!(
        (done.RequestContext as u64, done.Status),
        (61, STATUS_SUCCESS)
    );
    s.lab.no_result(&s.b);
    let (address, token) = s
        .lab
        .on(&s.b, || (readable.buffer.address(), mw.remote_token()));
    assert_eq!(reach(&mut s, false, address, token, 4096), STATUS_SUCCESS);
    s.lab
        .on(&s.a, || assert_eq!(s.ours.buffer.bytes()[4095], 7));
    let Story { lab, b, .. } = &mut s;
    lab.on(b, || {
        mw.close();
        readable.close();
    });
    s.end();
}

#[test]
fn binding_anew_and_invalidating_end_the_old_token() {
    let mut s = Story::begin();
    let mw = window(&mut s);
    let (first, old) = bind(&mut s, &mw, 0, 100, READ | WRITE);
    let (second, new) = bind(&mut s, &mw, 5000, 100, READ | WRITE);
    assert_ne!(old, new);
    assert_eq!(reach(&mut s, true, second, new, 100), STATUS_SUCCESS);
    s.lab.on(&s.b, || s.b.qp.invalidate(62, &mw, 0)).unwrap();
    let done = s.lab.result(&s.b);
    assert_eq!(
        (done.RequestContext as u64, done.Status, done.Type),
        (62, STATUS_SUCCESS, NdkOperationTypeInvalidate)
    );
    let (third, token) = bind(&mut s, &mw, 0, 100, READ | WRITE);
    assert_eq!(reach(&mut s, true, third, token, 100), STATUS_SUCCESS);
    // A token of one life is good for no other. This ends the connection.
    assert_eq!(
        reach(&mut s, true, first, old, 100),
        STATUS_REMOTE_RESOURCES
    );
    end(s, mw);
}

#[test]
fn l13_a_region_waits_for_the_windows_that_are_bound_to_it() {
    // Closing the window, invalidating it, and binding it elsewhere each end the relation.
    for way in 0..3 {
        let mut s = Story::begin();
        let mw = window(&mut s);
        let region = s.lab.region(&s.b, 4096, 0, 1);
        s.lab
            .on(&s.b, || {
                let address = region.buffer.address();
                s.b.qp.bind(63, &region.mr, &mw, address, 4096, READ)
            })
            .unwrap();
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
        let Region { buffer, mr } = region;
        let closing = s.lab.on(&s.b, || mr.start_close());
        s.lab.world.run_for(Duration::from_millis(10));
        assert!(!closing.is_done());
        let mut mw = Some(mw);
        match way {
            0 => {
                let mw = mw.take().unwrap();
                s.lab.on(&s.b, || mw.close());
            }
            1 => {
                let mw = mw.as_ref().unwrap();
                s.lab.on(&s.b, || s.b.qp.invalidate(64, mw, 0)).unwrap();
                assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
            }
            _ => {
                bind(&mut s, mw.as_ref().unwrap(), 0, 10, READ);
            }
        }
        closing.wait(&mut s.lab.world).unwrap();
        assert_eq!(closing.calls().len(), 1);
        s.lab.on(&s.b, || {
            buffer.free();
            if let Some(mw) = mw {
                mw.close();
            }
        });
        s.end();
    }
}

/// What the peer told.
#[derive(Default)]
struct Peer {
    address: u64,
    token: u32,
    /// A token that may be invalidated.
    to_end: u32,
}

/// What the seven initiator requests need.
struct Seven {
    buffer: Buffer,
    lam: Lam,
    fast: Mr,
    mw: Mw,
}

impl Seven {
    fn new(lab: &mut Lab, side: &Side) -> Seven {
        lab.on(side, || Seven::make(side))
    }

    /// Kernel code, <= DISPATCH_LEVEL.
    fn make(side: &Side) -> Seven {
        let buffer = Buffer::new(4096).unwrap();
        let lam = Lam::build(&side.adapter, &buffer, 4096).unwrap();
        let fast = side.pd.create_fast_mr().unwrap();
        fast.initialize(4, true).unwrap();
        let mw = side.pd.create_mw().unwrap();
        Seven {
            buffer,
            lam,
            fast,
            mw,
        }
    }

    /// Posts one of each: the context is the number of the request. Gives what each post answered.
    fn post(&self, qp: &Qp, ours: &Region, peer: Peer, flags: u32) -> [Result<(), i32>; 7] {
        let sgl = [ours.sge(0, 8)];
        let first = self.lam.first_byte();
        [
            qp.send(0, &sgl, flags),
            qp.write(1, &sgl, peer.address, peer.token, flags),
            qp.read(2, &sgl, peer.address, peer.token, flags),
            qp.fast_register(
                3,
                &self.fast,
                self.lam.pages(),
                first,
                4096,
                u64::from(first),
                flags | READ,
            ),
            qp.bind(
                4,
                &ours.mr,
                &self.mw,
                ours.buffer.address(),
                64,
                flags | READ,
            ),
            qp.invalidate(5, &self.mw, flags),
            qp.send_and_invalidate(6, &sgl, flags, peer.to_end),
        ]
    }

    /// What B has for the seven requests of A: memory, two receives, and a region that may be invalidated.
    #[track_caller]
    fn offer(&self, s: &mut Story) -> Peer {
        let peer = s.lab.on(&s.b, || {
            let (pages, first) = (self.lam.pages(), self.lam.first_byte());
            s.b.qp
                .fast_register(1, &self.fast, pages, first, 4096, u64::from(first), READ)
                .unwrap();
            s.b.qp.receive(2, &[s.theirs.sge(0, 64)]).unwrap();
            s.b.qp.receive(3, &[s.theirs.sge(0, 64)]).unwrap();
            Peer {
                address: s.theirs.buffer.address(),
                token: s.theirs.mr.remote_token(),
                to_end: self.fast.remote_token(),
            }
        });
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
        peer
    }

    fn close(self, side: &Side) {
        self.mw.close();
        self.fast.close();
        self.lam.release(&side.adapter);
        self.buffer.free();
    }
}

#[test]
fn w03_no_initiator_request_is_taken_without_a_connection() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let ours = lab.region(&a, 4096, NDK_MR_FLAG_ALLOW_LOCAL_WRITE, 0);
    let seven = Seven::new(&mut lab, &a);
    let answers = lab.on(&a, || seven.post(&a.qp, &ours, Peer::default(), 0));
    assert_eq!(answers, [Err(STATUS_CONNECTION_INVALID); 7]);
    lab.no_result(&a);
    lab.on(&a, || {
        seven.close(&a);
        ours.close();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn q18_w18_all_seven_requests_may_be_deferred_and_tell_their_type() {
    let mut s = Story::begin();
    let seven = Seven::new(&mut s.lab, &s.a);
    let theirs = Seven::new(&mut s.lab, &s.b);
    let peer = theirs.offer(&mut s);
    s.lab.on(&s.a, || {
        let answers = seven.post(&s.a.qp, &s.ours, peer, NDK_OP_FLAG_DEFER);
        assert_eq!(answers, [Ok(()); 7]);
        // The end of the chain.
        s.a.qp.write(7, &[], 0, 0, 0).unwrap();
    });
    let types = [
        NdkOperationTypeSend,
        NdkOperationTypeWrite,
        NdkOperationTypeRead,
        NdkOperationTypeFastRegister,
        NdkOperationTypeBind,
        NdkOperationTypeInvalidate,
        NdkOperationTypeSend,
    ];
    for (context, kind) in types.into_iter().enumerate() {
        assert_eq!(s.outcome(), (context as u64, STATUS_SUCCESS, kind));
    }
    assert_eq!(s.outcome(), (7, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.lab.on(&s.a, || seven.close(&s.a));
    s.lab.on(&s.b, || theirs.close(&s.b));
    s.end();
}

#[test]
fn c09_every_request_and_what_it_needs_works_at_dispatch_level() {
    const DISPATCH_LEVEL: u8 = 2;
    let mut s = Story::begin();
    let machine = s.a.machine;
    let theirs = Seven::new(&mut s.lab, &s.b);
    let peer = theirs.offer(&mut s);
    let (seven, srq, sharing, shared) = s.lab.world.call_on(machine, 0, DISPATCH_LEVEL, || {
        let srq = s.a.pd.create_srq(4, 1, 0).unwrap();
        let limits = crate::lab::limits();
        let sharing = s.a.pd.create_qp_with_srq(&s.a.cq, &s.a.cq, &srq, limits);
        srq.receive(1, &[]).unwrap();
        srq.modify(8, 1).unwrap();
        let shared = Shared::create(&s.a, from(&s.a)).unwrap();
        (Seven::make(&s.a), srq, sharing.unwrap(), shared)
    });
    let answers = s.lab.world.call_on(machine, 0, DISPATCH_LEVEL, || {
        seven.post(&s.a.qp, &s.ours, peer, 0)
    });
    assert_eq!(answers, [Ok(()); 7]);
    for context in 0..7 {
        let (done, status, _) = s.outcome();
        assert_eq!((done, status), (context, STATUS_SUCCESS));
    }
    let closing = s.lab.world.call_on(machine, 0, DISPATCH_LEVEL, || {
        let Seven {
            buffer,
            lam,
            fast,
            mw,
        } = seven;
        let pending = [
            mw.start_close(),
            fast.start_deregister(),
            sharing.start_close(),
            srq.start_close(),
        ];
        assert_eq!(shared.close(&Completed::default()), STATUS_SUCCESS);
        (pending, fast, lam, buffer)
    });
    let (pending, fast, lam, buffer) = closing;
    for pending in pending {
        pending.wait(&mut s.lab.world).unwrap();
    }
    s.lab.world.call_on(machine, 0, DISPATCH_LEVEL, || {
        assert_eq!(fast.start_close().inline_status(), STATUS_SUCCESS);
        lam.release(&s.a.adapter);
        buffer.free();
    });
    s.lab.on(&s.b, || theirs.close(&s.b));
    s.end();
}

/// The consumer gives the memory other contents as soon as it is told that the old binding is over.
#[test]
fn r16_what_a_window_gave_access_to_is_not_read_after_its_close_or_next_binding_has_completed() {
    for close in [false, true] {
        let mut s = Story::begin_in(Lab::with(&[], slow_nic()));
        s.lab.on(&s.b, || s.theirs.buffer.bytes_mut().fill(0x11));
        let mw = window(&mut s);
        let (address, token) = bind(&mut s, &mw, 0, 1000, READ);
        s.lab
            .on(&s.a, || {
                s.a.qp.read(1, &[s.ours.sge(0, 1000)], address, token, 0)
            })
            .unwrap();
        // B's answer is in its NIC by now, which has not read the memory yet.
        s.lab.world.run_for(Duration::from_millis(30));
        let mut window = Some(mw);
        if close {
            s.lab.on(&s.b, || window.take().unwrap().close());
        } else {
            bind(&mut s, window.as_ref().unwrap(), 2000, 10, READ);
        }
        s.lab.on(&s.b, || s.theirs.buffer.bytes_mut().fill(0x22));
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        s.lab.on(&s.a, || {
            assert!(s.ours.buffer.bytes()[..1000].iter().all(|b| *b == 0x11));
        });
        if let Some(mw) = window {
            s.lab.on(&s.b, || mw.close());
        }
        s.end();
    }
}
