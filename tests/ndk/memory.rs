//! Registering memory.

use ndis_sys::wdm::MDL;
use ndkpi::NDK_MR_FLAG_RDMA_READ_SINK;
use ndkpi::status::*;
use ntsim::consumer::Buffer;

use crate::lab::{ALL_RIGHTS, Lab};
use crate::raw::never_completed;

#[test]
fn only_contiguous_chains_can_be_registered() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.on(&a, || {
        let (first, second) = (Buffer::new(8192).unwrap(), Buffer::new(8192).unwrap());
        let mr = a.pd.create_mr().unwrap();
        // A chain of two buffers that do not follow each other.
        let link = |first: &Buffer, second: *mut MDL| {
            // SAFETY: the first word of an MDL is the link to the next; this chain is ours.
            unsafe { *first.mdl().cast::<*mut MDL>() = second };
        };
        link(&first, second.mdl());
        let register = |length: usize| {
            // SAFETY: open MR, valid chain. It never pends: the context is not used.
            unsafe {
                (mr.table().NdkRegisterMr)(
                    mr.raw(),
                    first.mdl().cast(),
                    length,
                    ALL_RIGHTS,
                    never_completed,
                    std::ptr::null_mut(),
                )
            }
        };
        assert_eq!(register(8193), STATUS_INVALID_PARAMETER);
        assert_eq!(register(16385), STATUS_INVALID_PARAMETER);
        assert_eq!(register(0), STATUS_INVALID_PARAMETER);
        // The first buffer alone is contiguous, whatever follows.
        assert_eq!(register(8192), STATUS_SUCCESS);
        assert_eq!(
            register(8192),
            STATUS_INVALID_DEVICE_REQUEST,
            "it is registered already"
        );
        mr.deregister().unwrap();
        link(&first, std::ptr::null_mut());
        assert_eq!(register(100), STATUS_SUCCESS);
        mr.deregister().unwrap();
        mr.close();
        first.free();
        second.free();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn r05_r06_r07_tokens_come_with_registration_and_go_with_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
    // the flag means nothing here and does no harm.
    let theirs = lab.region(&b, 4096, ALL_RIGHTS | NDK_MR_FLAG_RDMA_READ_SINK, 0);
    let (address, old) = lab.on(&b, || (theirs.buffer.address(), theirs.mr.remote_token()));
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
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn x28_closing_a_registered_region_deregisters_it() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let ours = lab.region(&a, 4096, ALL_RIGHTS, 1);
    let theirs = lab.region(&b, 4096, ALL_RIGHTS, 0);
    let (address, old) = lab.on(&b, || (theirs.buffer.address(), theirs.mr.remote_token()));
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
    lab.close(a);
    lab.close(b);
    lab.finish();
}
