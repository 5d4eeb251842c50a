//! Fast registration, and invalidation from either side.

use ndkpi::status::*;
use ndkpi::{
    NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED, NDK_OP_FLAG_ALLOW_LOCAL_WRITE,
    NDK_OP_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_ALLOW_REMOTE_WRITE, NDK_OP_FLAG_DEFER,
    NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE, NDK_OP_FLAG_RDMA_READ_SINK, NDK_OP_FLAG_SILENT_SUCCESS,
    NDK_SGE, NDK_SGE_ADDRESS, NdkOperationTypeFastRegister, NdkOperationTypeInvalidate,
    NdkOperationTypeRead, NdkOperationTypeReceiveAndInvalidate, NdkOperationTypeSend,
    NdkOperationTypeWrite,
};
use ntsim::ndk::{Buffer, Lam, Mr};

use crate::lab::{Lab, SOON, Side, failure};
use crate::story::Story;

/// Every right a peer can get.
const PEER: u32 = NDK_OP_FLAG_ALLOW_REMOTE_READ | NDK_OP_FLAG_ALLOW_REMOTE_WRITE;
pub const PAGE: usize = 4096;

/// Mapped memory of a side, and a region that is initialised to be registered over it.
pub struct Fast {
    pub buffer: Buffer,
    pub lam: Lam,
    pub mr: Mr,
}

impl Fast {
    pub fn new(lab: &mut Lab, side: &Side, length: usize, fill: u8) -> Fast {
        lab.on(side, || {
            let mut buffer = Buffer::new(length).unwrap();
            buffer.bytes_mut().fill(fill);
            let lam = Lam::build(&side.adapter, &buffer, length).unwrap();
            let mr = side.pd.create_fast_mr().unwrap();
            mr.initialize(u32::try_from(lam.pages().len()).unwrap(), true)
                .unwrap();
            Fast { buffer, lam, mr }
        })
    }

    /// Registers all of it, to be reached from `base` on.
    fn post(&self, side: &Side, context: u64, base: u64, flags: u32) -> ntsim::ndk::Result<()> {
        side.qp.fast_register(
            context,
            &self.mr,
            self.lam.pages(),
            self.lam.first_byte(),
            self.buffer.len(),
            base,
            flags,
        )
    }

    /// Registers all of it and waits for the entry. Gives the base and the token.
    #[track_caller]
    fn register(&self, lab: &mut Lab, side: &Side, flags: u32) -> (u64, u32) {
        let base = u64::from(self.lam.first_byte()) + 7 * PAGE as u64;
        lab.on(side, || self.post(side, 90, base, flags)).unwrap();
        let done = lab.result(side);
        assert_eq!(
            (done.RequestContext as u64, done.Status, done.Type),
            (90, STATUS_SUCCESS, NdkOperationTypeFastRegister)
        );
        (base, lab.on(side, || self.mr.remote_token()))
    }

    /// Part of it, as an element, once it is registered from `base` on.
    fn sge(&self, base: u64, offset: usize, length: usize) -> NDK_SGE {
        NDK_SGE {
            Anonymous: NDK_SGE_ADDRESS {
                VirtualAddress: (base as usize + offset) as *mut _,
            },
            Length: u32::try_from(length).unwrap(),
            MemoryRegionToken: self.mr.local_token(),
        }
    }

    pub fn close(self, side: &Side) {
        self.mr.close();
        self.lam.release(&side.adapter);
        self.buffer.free();
    }
}

/// A writes `length` bytes into memory of B: what came of it.
#[track_caller]
fn write(s: &mut Story, address: u64, token: u32, length: usize) -> i32 {
    s.lab
        .on(&s.a, || {
            s.a.qp.write(1, &[s.ours.sge(0, length)], address, token, 0)
        })
        .unwrap();
    s.outcome().1
}

#[test]
fn r07_r08_regions_are_initialised_for_so_many_pages() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    // A consumer does not mix up the two kinds of region, and the provider bears with one that does.
    let rule = ntsim::ndk::rules::CONSUMER_PARAMETER;
    lab.world.pardon(rule);
    lab.on(&a, || {
        let most = a.adapter.info().unwrap().FRMRPageCount;
        assert!(most >= 16);
        for (pages, remote) in [(1, false), (16, true), (most, true)] {
            let mr = a.pd.create_fast_mr().unwrap();
            assert_eq!(mr.initialize(pages, remote), Ok(()));
            assert!(mr.local_token() != 0 && mr.remote_token() != 0);
            assert_eq!(
                mr.initialize(pages, remote),
                Err(STATUS_INVALID_DEVICE_REQUEST)
            );
            mr.close();
        }
        let mr = a.pd.create_fast_mr().unwrap();
        for pages in [0, most + 1, u32::MAX] {
            assert_eq!(mr.initialize(pages, true), Err(STATUS_IMPLEMENTATION_LIMIT));
        }
        let buffer = Buffer::new(100).unwrap();
        assert_eq!(mr.register(&buffer, 0), Err(STATUS_INVALID_DEVICE_REQUEST));
        mr.close();
        let plain = a.pd.create_mr().unwrap();
        assert_eq!(
            plain.initialize(16, true),
            Err(STATUS_INVALID_DEVICE_REQUEST)
        );
        plain.close();
        buffer.free();
    });
    assert_eq!(lab.world.pardoned(rule), 2);
    lab.close(a);
    lab.finish();
}

#[test]
fn r09_r11_r12_peers_reach_what_was_registered_at_any_base() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, 5 * PAGE + 123, 0);
    let length = fast.buffer.len();
    let first = u64::from(fast.lam.first_byte());
    let mut bases = vec![first, first + PAGE as u64, first + (0x1234_5678 << 12)];
    if first == 0 {
        bases.push(0);
    }
    for (round, base) in bases.into_iter().enumerate() {
        let fill = round as u8 + 1;
        let token = s.lab.on(&s.b, || {
            fast.post(&s.b, 90, base, PEER | NDK_OP_FLAG_RDMA_READ_SINK)
                .unwrap();
            // before anything has been executed.
            fast.mr.remote_token()
        });
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
        s.lab.on(&s.a, || s.ours.buffer.bytes_mut().fill(fill));
        assert_eq!(write(&mut s, base, token, length), STATUS_SUCCESS);
        s.lab.on(&s.b, || {
            assert!(fast.buffer.bytes().iter().all(|byte| *byte == fill));
        });
        // Across two borders of pages, and back.
        s.lab
            .on(&s.a, || {
                s.ours.buffer.bytes_mut().fill(0);
                let to = [s.ours.sge(0, 2 * PAGE)];
                s.a.qp.read(2, &to, base + 1000, token, 0)
            })
            .unwrap();
        assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeRead));
        s.lab.on(&s.a, || {
            assert!(s.ours.buffer.bytes()[..2 * PAGE].iter().all(|b| *b == fill));
            assert_eq!(s.ours.buffer.bytes()[2 * PAGE], 0);
        });
        s.lab
            .on(&s.b, || s.b.qp.invalidate(91, &fast.mr, 0))
            .unwrap();
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    }
    // fewer pages than it was initialised for; the rest is out of reach.
    let base = first;
    s.lab
        .on(&s.b, || {
            let pages = &fast.lam.pages()[..2];
            s.b.qp
                .fast_register(90, &fast.mr, pages, first as u32, PAGE + 1, base, PEER)
        })
        .unwrap();
    assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    let token = s.lab.on(&s.b, || fast.mr.remote_token());
    assert_eq!(write(&mut s, base, token, PAGE + 1), STATUS_SUCCESS);
    assert_eq!(
        write(&mut s, base, token, PAGE + 2),
        STATUS_REMOTE_RESOURCES
    );
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn r10_remote_rights_need_a_region_initialised_for_them() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, 1000, 0);
    let local = s.lab.on(&s.b, || {
        let local = s.b.pd.create_fast_mr().unwrap();
        local.initialize(4, false).unwrap();
        let base = u64::from(fast.lam.first_byte());
        let post = |flags| {
            let pages = fast.lam.pages();
            s.b.qp
                .fast_register(5, &local, pages, base as u32, 1000, base, flags)
        };
        for flags in [
            NDK_OP_FLAG_ALLOW_REMOTE_READ,
            NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
        ] {
            assert_eq!(failure(post(flags)), STATUS_ACCESS_VIOLATION);
        }
        post(NDK_OP_FLAG_ALLOW_LOCAL_WRITE).unwrap();
        local
    });
    let done = s.lab.result(&s.b);
    assert_eq!(
        (done.RequestContext as u64, done.Status),
        (5, STATUS_SUCCESS),
        "only what was accepted"
    );
    s.lab.no_result(&s.b);
    s.lab.on(&s.b, || {
        local.close();
        fast.close(&s.b);
    });
    s.end();
}

#[test]
fn a_fast_registration_that_makes_no_sense_is_refused() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, 3 * PAGE, 0);
    // The region that is not for this, at the end.
    let rule = ntsim::ndk::rules::CONSUMER_PARAMETER;
    s.lab.world.pardon(rule);
    // Pages that nobody mapped.
    let unmapped = ntsim::ndk::rules::CONSUMER_LOGICAL_ADDRESS;
    s.lab.world.pardon(unmapped);
    s.lab.on(&s.b, || {
        let pages = fast.lam.pages();
        let first = fast.lam.first_byte();
        let base = u64::from(first);
        let post = |pages: &[_], first, length, base| {
            failure(
                s.b.qp
                    .fast_register(5, &fast.mr, pages, first, length, base, PEER),
            )
        };
        let room = pages.len() * PAGE - first as usize;
        for (first, length, base) in [
            (first, 0, base),
            (first, room + 1, base),
            (first, usize::MAX, base),
            (PAGE as u32, 10, base),
            (first, 10, base + 1),
            (u32::MAX, 10, u64::from(u32::MAX)),
        ] {
            assert_eq!(post(pages, first, length, base), STATUS_INVALID_PARAMETER);
        }
        let mut strange = pages.to_vec();
        strange[1] = 0x1000;
        assert_eq!(
            post(&strange, first, 2 * PAGE, base),
            STATUS_INVALID_PARAMETER,
            "a page that nobody mapped"
        );
        strange[1] = pages[1] + 8;
        assert_eq!(
            post(&strange, first, 2 * PAGE, base),
            STATUS_INVALID_PARAMETER
        );
        let mut many = pages.to_vec();
        many.push(pages[0]);
        assert_eq!(
            post(&many, first, 10, base),
            STATUS_INVALID_PARAMETER,
            "more pages than it was initialised for"
        );
        // A region that is not for this.
        assert_eq!(
            failure(s.b.qp.invalidate(6, &s.theirs.mr, 0)),
            STATUS_INVALID_DEVICE_REQUEST
        );
    });
    assert_eq!(s.lab.world.pardoned(unmapped), 2);
    assert_eq!(s.lab.world.pardoned(rule), 1);
    s.lab.no_result(&s.b);
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn r13_r14_an_invalidated_token_is_refused_and_the_region_registered_again() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, 2 * PAGE, 0);
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let (base, token) = fast.register(&mut s.lab, &s.b, PEER);
        assert!(
            !tokens.contains(&token),
            "a token that a peer may still know"
        );
        tokens.push(token);
        assert_eq!(write(&mut s, base, token, 5000), STATUS_SUCCESS);
        s.lab
            .on(&s.b, || s.b.qp.invalidate(91, &fast.mr, 0))
            .unwrap();
        let done = s.lab.result(&s.b);
        assert_eq!(
            (done.RequestContext as u64, done.Status, done.Type),
            (91, STATUS_SUCCESS, NdkOperationTypeInvalidate)
        );
    }
    // The memory is registered, but under another token.
    let (base, _) = fast.register(&mut s.lab, &s.b, PEER);
    let old = tokens[2];
    assert_eq!(write(&mut s, base, old, 10), STATUS_REMOTE_RESOURCES);
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn a_fast_registered_region_serves_local_requests() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.a, 3 * PAGE, 0x3c);
    let (base, _) = fast.register(&mut s.lab, &s.a, NDK_OP_FLAG_ALLOW_LOCAL_WRITE);
    let theirs = s.lab.on(&s.b, || s.theirs.remote());
    s.lab
        .on(&s.a, || {
            let from = [fast.sge(base, 100, 2 * PAGE)];
            s.a.qp.write(3, &from, theirs.0, theirs.1, 0)
        })
        .unwrap();
    assert_eq!(s.outcome(), (3, STATUS_SUCCESS, NdkOperationTypeWrite));
    s.lab.on(&s.b, || {
        assert!(
            s.theirs.buffer.bytes()[..2 * PAGE]
                .iter()
                .all(|b| *b == 0x3c)
        );
        s.theirs.buffer.bytes_mut().fill(0x99);
    });
    s.lab
        .on(&s.a, || {
            let to = [fast.sge(base, PAGE - 1, PAGE + 2)];
            s.a.qp.read(4, &to, theirs.0, theirs.1, 0)
        })
        .unwrap();
    assert_eq!(s.outcome(), (4, STATUS_SUCCESS, NdkOperationTypeRead));
    s.lab.on(&s.a, || {
        let bytes = fast.buffer.bytes();
        assert_eq!((bytes[PAGE - 2], bytes[PAGE - 1]), (0x3c, 0x99));
        assert_eq!((bytes[2 * PAGE], bytes[2 * PAGE + 1]), (0x99, 0x3c));
    });
    s.lab.on(&s.a, || fast.close(&s.a));
    s.end();
}

#[test]
fn q20_q21_w20_a_send_ends_a_token_before_its_receive_is_seen() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, PAGE, 0);
    let mut last = (0, 0);
    for extended in [true, false] {
        let (base, token) = fast.register(&mut s.lab, &s.b, PEER);
        last = (base, token);
        s.lab
            .on(&s.b, || s.b.qp.receive(70, &[s.theirs.sge(0, 10_000)]))
            .unwrap();
        s.lab
            .on(&s.a, || {
                s.a.qp
                    .send_and_invalidate(71, &[s.ours.sge(0, 9_000)], 0, token)
            })
            .unwrap();
        // at the sender it is a send.
        assert_eq!(s.outcome(), (71, STATUS_SUCCESS, NdkOperationTypeSend));
        if extended {
            let received = s.lab.result(&s.b);
            assert_eq!(
                (received.RequestContext as u64, received.Status),
                (70, STATUS_SUCCESS)
            );
            assert_eq!(received.Type, NdkOperationTypeReceiveAndInvalidate);
            assert_eq!(received.BytesTransferred, 9_000);
            assert_eq!(received.TypeSpecificCompletionOutput as u32, token);
        } else {
            //
            let cq = &s.b.cq;
            assert!(s.lab.world.run_until(
                |world| {
                    world
                        .call(s.b.machine, || cq.poll())
                        .is_some_and(|received| {
                            received.Status == STATUS_SUCCESS && received.BytesTransferred == 9_000
                        })
                },
                SOON
            ));
        }
        // The region is free for another registration: had it not been invalidated, that would fail.
    }
    assert_eq!(
        write(&mut s, last.0, last.1, 10),
        STATUS_REMOTE_RESOURCES,
        "the token is dead"
    );
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn w21_a_send_that_would_end_a_token_that_is_none_ends_the_connection() {
    for plain in [false, true] {
        let mut s = Story::begin();
        // A registered region is none that a peer could invalidate.
        let token = s.lab.on(&s.b, || {
            if plain {
                s.theirs.mr.remote_token()
            } else {
                0x0012_3456
            }
        });
        s.lab
            .on(&s.b, || s.b.qp.receive(70, &[s.theirs.sge(0, 100)]))
            .unwrap();
        s.lab
            .on(&s.a, || {
                s.a.qp
                    .send_and_invalidate(71, &[s.ours.sge(0, 10)], 0, token)
            })
            .unwrap();
        let events = |connector: &ntsim::ndk::Connector| connector.disconnect_events().count();
        let Story { lab, connected, .. } = &mut s;
        assert!(
            lab.world
                .run_until(|_| events(&connected.passive) == 1, SOON)
        );
        let received = s.lab.result(&s.b);
        assert_eq!(received.RequestContext as u64, 70);
        assert_ne!(received.Status, STATUS_SUCCESS);
        assert_ne!(received.ProviderErrorCode, 0);
        s.lab.world.run_for(std::time::Duration::from_millis(10));
        assert_eq!(events(&s.connected.passive), 1);
        s.end();
    }
}

#[test]
fn w22_what_the_peer_has_invalidated_cannot_be_invalidated_again() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, PAGE, 0);
    let (_, token) = fast.register(&mut s.lab, &s.b, PEER);
    s.lab.on(&s.b, || s.b.qp.receive(70, &[])).unwrap();
    s.lab
        .on(&s.a, || s.a.qp.send_and_invalidate(71, &[], 0, token))
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    assert_eq!(
        s.lab.result(&s.b).Type,
        NdkOperationTypeReceiveAndInvalidate
    );
    s.lab
        .on(&s.b, || {
            // Silent success does not hide a failure.
            let silent = NDK_OP_FLAG_SILENT_SUCCESS;
            s.b.qp.invalidate(72, &fast.mr, silent)
        })
        .unwrap();
    let failed = s.lab.result(&s.b);
    assert_eq!(
        (failed.RequestContext as u64, failed.Status, failed.Type),
        (
            72,
            STATUS_INVALID_DEVICE_REQUEST,
            NdkOperationTypeInvalidate
        )
    );
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn w23_a_read_can_end_the_token_of_its_own_memory() {
    let mut s = Story::begin();
    s.lab.on(&s.b, || s.theirs.buffer.bytes_mut().fill(0x42));
    let theirs = s.lab.on(&s.b, || s.theirs.remote());
    let fast = Fast::new(&mut s.lab, &s.a, 2 * PAGE, 0);
    let flags = s.lab.on(&s.a, || s.a.adapter.info()).unwrap().AdapterFlags;
    assert_ne!(
        flags & NDK_ADAPTER_FLAG_RDMA_READ_LOCAL_INVALIDATE_SUPPORTED,
        0
    );
    for round in 0..2 {
        // The second time proves that the first has ended the registration.
        let (base, _) = fast.register(&mut s.lab, &s.a, NDK_OP_FLAG_ALLOW_LOCAL_WRITE);
        s.lab
            .on(&s.a, || {
                let to = [fast.sge(base, 0, PAGE + 100)];
                let flags = NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE;
                s.a.qp.read(round, &to, theirs.0, theirs.1, flags)
            })
            .unwrap();
        assert_eq!(s.outcome(), (round, STATUS_SUCCESS, NdkOperationTypeRead));
        s.lab.on(&s.a, || {
            assert!(fast.buffer.bytes()[..PAGE + 100].iter().all(|b| *b == 0x42));
        });
    }
    s.lab
        .on(&s.a, || s.a.qp.invalidate(9, &fast.mr, 0))
        .unwrap();
    assert_eq!(
        s.outcome(),
        (9, STATUS_INVALID_DEVICE_REQUEST, NdkOperationTypeInvalidate)
    );
    s.lab.on(&s.a, || fast.close(&s.a));
    s.end();
}

#[test]
fn a_chain_registers_uses_and_invalidates_in_order() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.a, 2 * PAGE, 0x77);
    let theirs = s.lab.on(&s.b, || s.theirs.remote());
    let base = u64::from(fast.lam.first_byte());
    s.lab.on(&s.a, || {
        let silent = NDK_OP_FLAG_DEFER | NDK_OP_FLAG_SILENT_SUCCESS;
        fast.post(&s.a, 1, base, NDK_OP_FLAG_DEFER).unwrap();
        // posted, and not executed: there is no third list of pages.
        assert_eq!(failure(fast.post(&s.a, 2, base, 0)), STATUS_DEVICE_BUSY);
        s.a.qp
            .write(
                3,
                &[fast.sge(base, 0, 2 * PAGE)],
                theirs.0,
                theirs.1,
                silent,
            )
            .unwrap();
        s.a.qp.invalidate(4, &fast.mr, 0).unwrap();
    });
    let done = [s.outcome(), s.outcome()];
    assert_eq!(
        done.map(|(context, status, _)| (context, status)),
        [(1, 0), (4, 0)]
    );
    s.lab.no_result(&s.a);
    s.lab.on(&s.b, || {
        assert!(
            s.theirs.buffer.bytes()[..2 * PAGE]
                .iter()
                .all(|b| *b == 0x77)
        );
    });
    let (again, _) = fast.register(&mut s.lab, &s.a, 0);
    assert_eq!(again % PAGE as u64, base);
    s.lab.on(&s.a, || fast.close(&s.a));
    s.end();
}

#[test]
fn a_region_can_be_registered_anew_behind_its_invalidation() {
    let mut s = Story::begin();
    let old = Fast::new(&mut s.lab, &s.a, PAGE, 0x11);
    let new = Fast::new(&mut s.lab, &s.a, PAGE, 0x22);
    let theirs = s.lab.on(&s.b, || s.theirs.remote());
    let (base, _) = old.register(&mut s.lab, &s.a, 0);
    s.lab.on(&s.a, || {
        let write = |context, at: u64, sge| {
            let flags = NDK_OP_FLAG_DEFER;
            s.a.qp
                .write(context, &[sge], theirs.0 + at, theirs.1, flags)
                .unwrap();
        };
        write(1, 0, old.sge(base, 0, PAGE));
        s.a.qp.invalidate(2, &old.mr, NDK_OP_FLAG_DEFER).unwrap();
        // The same region over other pages, while the first pages are still to be sent from.
        let first = new.lam.first_byte();
        s.a.qp
            .fast_register(
                3,
                &old.mr,
                new.lam.pages(),
                first,
                PAGE,
                u64::from(first),
                NDK_OP_FLAG_DEFER,
            )
            .unwrap();
        write(4, PAGE as u64, old.sge(u64::from(first), 0, PAGE));
        s.a.qp.send(5, &[], 0).unwrap();
    });
    s.lab.on(&s.b, || s.b.qp.receive(70, &[])).unwrap();
    for context in 1..=5 {
        let (done, status, _) = s.outcome();
        assert_eq!((done, status), (context, STATUS_SUCCESS));
    }
    s.lab.on(&s.b, || {
        let bytes = s.theirs.buffer.bytes();
        assert!(bytes[..PAGE].iter().all(|byte| *byte == 0x11));
        assert!(bytes[PAGE..2 * PAGE].iter().all(|byte| *byte == 0x22));
    });
    s.lab.on(&s.a, || {
        old.close(&s.a);
        new.close(&s.a);
    });
    s.end();
}

#[test]
fn x55_pages_released_under_a_registration_are_out_of_reach() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, PAGE, 0x55);
    let (base, token) = fast.register(&mut s.lab, &s.b, PEER);
    let Fast { buffer, lam, mr } = fast;
    s.lab.on(&s.b, || lam.release(&s.b.adapter));
    assert_ne!(write(&mut s, base, token, 100), STATUS_SUCCESS);
    s.lab.on(&s.b, || {
        assert!(buffer.bytes().iter().all(|byte| *byte == 0x55));
        mr.close();
        buffer.free();
    });
    s.end();
}

#[test]
fn r05_r06_deregistering_a_fast_region_ends_its_tokens() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, PAGE, 0);
    let (base, token) = fast.register(&mut s.lab, &s.b, PEER | NDK_OP_FLAG_RDMA_READ_SINK);
    s.lab.on(&s.b, || fast.mr.deregister()).unwrap();
    assert_eq!(write(&mut s, base, token, 10), STATUS_REMOTE_RESOURCES);
    s.lab.on(&s.b, || {
        fast.mr.initialize(4, true).unwrap();
        fast.close(&s.b);
    });
    s.end();
}

#[test]
fn r09_r11_any_number_of_pages_can_be_reached_from_0() {
    const MOST: usize = 5;
    let mut s = Story::begin();
    // The second page of the buffer is a whole one, and so are those behind it.
    let fast = Fast::new(&mut s.lab, &s.b, (MOST + 1) * PAGE, 0);
    let skipped = PAGE - fast.lam.first_byte() as usize;
    for count in 1..=MOST {
        let (length, fill) = (count * PAGE, count as u8);
        s.lab
            .on(&s.b, || {
                let pages = &fast.lam.pages()[1..=count];
                s.b.qp
                    .fast_register(90, &fast.mr, pages, 0, length, 0, PEER)
            })
            .unwrap();
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
        let token = s.lab.on(&s.b, || fast.mr.remote_token());
        s.lab.on(&s.a, || s.ours.buffer.bytes_mut().fill(fill));
        assert_eq!(write(&mut s, 0, token, length), STATUS_SUCCESS, "{count}");
        s.lab.on(&s.b, || {
            let (before, bytes) = fast.buffer.bytes().split_at(skipped);
            let (inside, behind) = bytes.split_at(length);
            assert!(inside.iter().all(|byte| *byte == fill));
            assert!(before.iter().chain(behind).all(|byte| *byte == 0));
        });
        s.lab
            .on(&s.b, || s.b.qp.invalidate(91, &fast.mr, 0))
            .unwrap();
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    }
    s.lab.on(&s.b, || fast.close(&s.b));
    s.end();
}

#[test]
fn w12_a_registration_flushed_before_it_is_executed_leaves_the_region_as_it_was() {
    let mut s = Story::begin();
    let fast = Fast::new(&mut s.lab, &s.b, PAGE, 0x33);
    let (base, token) = fast.register(&mut s.lab, &s.b, PEER);
    s.lab.on(&s.b, || {
        s.b.qp.invalidate(2, &fast.mr, NDK_OP_FLAG_DEFER).unwrap();
        fast.post(&s.b, 3, base, NDK_OP_FLAG_DEFER | PEER).unwrap();
        assert_ne!(fast.mr.remote_token(), token);
        s.b.qp.flush();
    });
    for context in [2, 3] {
        let done = s.lab.result(&s.b);
        assert_eq!(
            (done.RequestContext as u64, done.Status),
            (context, STATUS_CANCELLED)
        );
    }
    assert_eq!(s.lab.on(&s.b, || fast.mr.remote_token()), token);
    // Over another connection it can be reached, until it is invalidated there.
    let (qp_a, qp_b) = (s.lab.queue_pair(&s.a), s.lab.queue_pair(&s.b));
    let spent_a = std::mem::replace(&mut s.a.qp, qp_a);
    let spent_b = std::mem::replace(&mut s.b.qp, qp_b);
    let (active, passive) = s.lab.establish(&s.a, &s.b, &s.connected.listener);
    assert_eq!(write(&mut s, base, token, 10), STATUS_SUCCESS);
    s.lab
        .on(&s.b, || s.b.qp.invalidate(4, &fast.mr, 0))
        .unwrap();
    let done = s.lab.result(&s.b);
    assert_eq!(
        (done.RequestContext as u64, done.Status),
        (4, STATUS_SUCCESS)
    );
    assert_eq!(write(&mut s, base, token, 10), STATUS_REMOTE_RESOURCES);
    let used_a = std::mem::replace(&mut s.a.qp, spent_a);
    let used_b = std::mem::replace(&mut s.b.qp, spent_b);
    s.lab.on(&s.a, || {
        active.close();
        used_a.close();
    });
    s.lab.on(&s.b, || {
        passive.close();
        used_b.close();
        fast.close(&s.b);
    });
    s.end();
}
