//! Registering memory.

use std::ffi::c_void;
use std::ptr::null_mut;

use ndis_sys::imports::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use ndis_sys::wdm::MDL;
use ndkpi::status::*;
use ndkpi::{
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_MR_FLAG_ALLOW_REMOTE_WRITE,
    NDK_MR_FLAG_RDMA_READ_SINK, NTSTATUS, NdkOperationTypeRead, NdkOperationTypeWrite,
};
use ntsim::ndk::{Buffer, Mr};

use crate::lab::{ALL_RIGHTS, Lab, Region};
use crate::raw::never_completed;
use crate::story::Story;

/// NdkRegisterMr of a chain of MDLs, which never pends.
fn register(mr: &Mr, mdl: *mut MDL, length: usize) -> NTSTATUS {
    // SAFETY: an open MR and a valid chain. It does not pend: the context is not used.
    unsafe {
        (mr.table().NdkRegisterMr)(
            mr.raw(),
            mdl.cast(),
            length,
            ALL_RIGHTS,
            never_completed,
            null_mut(),
        )
    }
}

#[test]
fn r01_contiguous_chains_can_be_registered_and_no_others() {
    let mut s = Story::begin();
    let (mr, mut whole, halves) = s.lab.on(&s.b, || {
        let (first, second) = (Buffer::new(8192).unwrap(), Buffer::new(8192).unwrap());
        let mr = s.b.pd.create_mr().unwrap();
        // A chain of two buffers that do not follow each other.
        link(first.mdl(), second.mdl());
        assert_eq!(register(&mr, first.mdl(), 8193), STATUS_INVALID_PARAMETER);
        assert_eq!(register(&mr, first.mdl(), 16385), STATUS_INVALID_PARAMETER);
        assert_eq!(register(&mr, first.mdl(), 0), STATUS_INVALID_PARAMETER);
        // The first buffer alone is contiguous, whatever follows.
        assert_eq!(register(&mr, first.mdl(), 8192), STATUS_SUCCESS);
        assert_eq!(
            register(&mr, first.mdl(), 8192),
            STATUS_INVALID_DEVICE_REQUEST,
            "it is registered already"
        );
        mr.deregister().unwrap();
        link(first.mdl(), null_mut());
        assert_eq!(register(&mr, first.mdl(), 100), STATUS_SUCCESS);
        mr.deregister().unwrap();
        first.free();
        second.free();
        // One buffer, described by two MDLs that meet in the middle of a page.
        let whole = Buffer::new(9000).unwrap();
        let halves = [(0, 5000), (5000, 4000)].map(|(offset, length)| {
            let va: *mut c_void = (whole.address() as usize + offset) as *mut c_void;
            // SAFETY: the range is in the buffer, which is non-paged; freed below.
            unsafe {
                let mdl = IoAllocateMdl(va, length, 0, 0, null_mut());
                MmBuildMdlForNonPagedPool(mdl);
                mdl
            }
        });
        link(halves[0], halves[1]);
        assert_eq!(register(&mr, halves[0], 9000), STATUS_SUCCESS);
        (mr, whole, halves)
    });
    let (address, token) = s.lab.on(&s.b, || (whole.address(), mr.remote_token()));
    s.lab
        .on(&s.a, || {
            s.a.qp
                .write(1, &[s.ours.sge(0, 8000)], address + 500, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    s.lab.on(&s.b, || {
        let bytes = whole.bytes_mut();
        assert!(bytes[500..8500].iter().all(|byte| *byte == 0xa5));
        assert_eq!((bytes[499], bytes[8500]), (0, 0));
        mr.deregister().unwrap();
        mr.close();
        for mdl in halves {
            // SAFETY: allocated above; nothing uses it any more.
            unsafe { IoFreeMdl(mdl) };
        }
        whole.free();
    });
    s.end();
}

/// Makes an MDL the one before another, or the last.
fn link(first: *mut MDL, second: *mut MDL) {
    // SAFETY: MDLs of this file's own.
    unsafe { (*first).Next = second };
}

#[test]
fn r02_the_virtual_address_of_a_region_need_not_be_mapped() {
    let mut s = Story::begin();
    /// An address that no process and no system has mapped here.
    const ELSEWHERE: usize = 0x1234_5678_9000;
    let theirs = s.lab.on(&s.b, || {
        let buffer = Buffer::new(8192).unwrap();
        buffer.lock_elsewhere(ELSEWHERE);
        let mr = s.b.pd.create_mr().unwrap();
        assert_eq!(register(&mr, buffer.mdl(), 8192), STATUS_SUCCESS);
        Region { buffer, mr }
    });
    // The address is an index: it is what peers name.
    let first = s
        .lab
        .on(&s.b, || ELSEWHERE as u64 + theirs.buffer.address() % 4096);
    let token = s.lab.on(&s.b, || theirs.mr.remote_token());
    s.lab
        .on(&s.a, || {
            s.a.qp
                .write(1, &[s.ours.sge(0, 8000)], first + 100, token, 0)
                .unwrap();
            s.a.qp
                .read(2, &[s.ours.sge(10_000, 8000)], first + 100, token, 0)
        })
        .unwrap();
    assert_eq!(s.outcome(), (1, STATUS_SUCCESS, NdkOperationTypeWrite));
    assert_eq!(s.outcome(), (2, STATUS_SUCCESS, NdkOperationTypeRead));
    s.lab.on(&s.b, || {
        let bytes = theirs.buffer.bytes();
        assert!(bytes[100..8100].iter().all(|byte| *byte == 0xa5));
        assert_eq!((bytes[99], bytes[8100]), (0, 0));
        theirs.close();
    });
    s.end();
}

#[test]
fn r04_a_peers_right_to_write_is_ones_own_too() {
    for (flags, expected) in [
        (NDK_MR_FLAG_ALLOW_REMOTE_WRITE, STATUS_SUCCESS),
        (NDK_MR_FLAG_ALLOW_REMOTE_READ, STATUS_ACCESS_VIOLATION),
    ] {
        let mut s = Story::begin();
        let (_, address, token) = s.target();
        let into = s.lab.region(&s.a, 4096, flags, 0x11);
        // What a read brings is written by this side.
        s.lab
            .on(&s.a, || {
                s.a.qp.read(1, &[into.sge(0, 100)], address, token, 0)
            })
            .unwrap();
        assert_eq!(s.outcome(), (1, expected, NdkOperationTypeRead));
        let brought = if expected == STATUS_SUCCESS { 0 } else { 0x11 };
        s.lab.on(&s.a, || {
            assert_eq!(into.buffer.bytes()[..100], [brought; 100]);
            into.close();
        });
        s.end();
    }
}

#[test]
fn r05_r06_r07_tokens_come_with_registration_and_go_with_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
    // the flag means nothing here and does no harm.
    let theirs = lab.region(&b, 4096, ALL_RIGHTS | NDK_MR_FLAG_RDMA_READ_SINK, 0);
    let (address, old) = lab.on(&b, || theirs.remote());
    lab.on(&b, || {
        theirs.mr.deregister().unwrap();
        theirs.mr.register(&theirs.buffer, ALL_RIGHTS).unwrap();
        assert_ne!(
            theirs.mr.remote_token(),
            old,
            "a new registration, a new token"
        );
    });
    lab.on(&a, || a.qp.write(1, &[ours.sge(0, 10)], address, old, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_REMOTE_RESOURCES);
    lab.on(&b, || assert_eq!(theirs.buffer.bytes()[..10], [0; 10]));
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.end(a, b);
}

#[test]
fn x28_closing_a_registered_region_deregisters_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
    let theirs = lab.region(&b, 4096, ALL_RIGHTS, 0);
    let (address, old) = lab.on(&b, || theirs.remote());
    lab.on(&b, || theirs.mr.close());
    lab.on(&a, || a.qp.write(1, &[ours.sge(0, 10)], address, old, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_REMOTE_RESOURCES);
    lab.on(&b, || {
        assert_eq!(theirs.buffer.bytes()[..10], [0; 10]);
        theirs.buffer.free();
    });
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || ours.close());
    lab.end(a, b);
}

#[test]
fn r05_the_read_sink_right_neither_gives_nor_takes() {
    for (flags, expected) in [
        (0, STATUS_ACCESS_VIOLATION),
        (NDK_MR_FLAG_RDMA_READ_SINK, STATUS_ACCESS_VIOLATION),
        (NDK_MR_FLAG_ALLOW_LOCAL_WRITE, STATUS_SUCCESS),
        (
            NDK_MR_FLAG_ALLOW_LOCAL_WRITE | NDK_MR_FLAG_RDMA_READ_SINK,
            STATUS_SUCCESS,
        ),
    ] {
        let mut s = Story::begin();
        let (_, address, token) = s.target();
        let into = s.lab.region(&s.a, 4096, flags, 0x11);
        s.lab
            .on(&s.a, || {
                s.a.qp.read(1, &[into.sge(0, 100)], address, token, 0)
            })
            .unwrap();
        assert_eq!(
            s.outcome(),
            (1, expected, NdkOperationTypeRead),
            "{flags:#x}"
        );
        s.lab.on(&s.a, || into.close());
        s.end();
    }
}

#[test]
fn r06_the_local_token_of_a_deregistered_region_is_no_use() {
    let mut s = Story::begin();
    let gone = s.lab.region(&s.a, 4096, ALL_RIGHTS, 0x11);
    s.lab
        .on(&s.b, || s.b.qp.receive(1, &[s.theirs.sge(0, 100)]))
        .unwrap();
    s.lab.on(&s.a, || {
        let element = gone.sge(0, 10);
        gone.mr.deregister().unwrap();
        s.a.qp.send(2, &[element], 0).unwrap();
    });
    let (context, status, _) = s.outcome();
    assert_eq!((context, status), (2, STATUS_ACCESS_VIOLATION));
    s.lab.on(&s.b, || {
        assert!(s.theirs.buffer.bytes().iter().all(|byte| *byte == 0));
    });
    s.lab.on(&s.a, || {
        gone.mr.close();
        gone.buffer.free();
    });
    s.end();
}
