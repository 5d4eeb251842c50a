//! Objects: headers, tables, closing.

use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{
    NDK_ADAPTER_INFO, NDK_OBJECT_HEADER, NDK_VERSION, NDK_VERSION_1_2, NDK_VERSION_2_1, NTSTATUS,
    NdkObjectTypeMax,
};
use ntsim::ndk::Adapter;

use crate::lab::{A, Lab, Side};
use crate::makers::{MAKERS, Made, Maker};

/// NDIS_STATUS_BAD_VERSION.
const BAD_VERSION: i32 = 0xc001_0004_u32 as i32;

// H-03 is for the layer in between: ntsim's looks at the reserved words of every object when it is handed out, before it uses them.
#[test]
fn h01_h02_h03_h06_h07_every_object_has_a_proper_header_and_a_whole_table() {
    // All types that there are.
    let mut kinds: Vec<_> = MAKERS.iter().map(|maker| maker.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.into_iter().eq(1..NdkObjectTypeMax));
    let mut lab = Lab::new();
    // Objects of an adapter opened with an older version have that one.
    for version in [NDK_VERSION_2_1, NDK_VERSION_1_2] {
        let a = lab.side_of(lab.a, A, version);
        lab.world.run_for(Duration::from_millis(1));
        for Maker { name, kind, make } in &MAKERS {
            let check = |object: &Made| {
                let header = object.header();
                assert_eq!(header.ObjectType, *kind, "{name}");
                assert_eq!(header.Version, version, "{name}");
                assert!(object.slots.iter().all(|slot| *slot != 0), "{name}");
                assert_eq!(object.query_extension(), STATUS_NOT_SUPPORTED, "{name}");
            };
            lab.on(&a, || make(&a, &check)).unwrap();
        }
        lab.close(a);
    }
    lab.finish();
}

// Besides, ntsim's layer checks at every call that both are as it left them, and that nobody calls through them.
#[test]
fn h04_h05_the_layer_above_owns_the_reserved_words_and_the_dispatch_pointer() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let objects = [
        a.cq.raw().cast::<NDK_OBJECT_HEADER>(),
        a.qp.raw().cast(),
        a.pd.raw().cast(),
        a.adapter.raw().cast(),
    ];
    // SAFETY: open objects, each a header and a dispatch pointer.
    let words = |object: *mut NDK_OBJECT_HEADER| unsafe { *object.cast::<[usize; 6]>() };
    let before = objects.map(words);
    let connected = lab.connect(&a, &b);
    lab.on(&a, || {
        let (table, raw) = (a.qp.table(), a.qp.raw());
        // SAFETY: an open QP; an empty list.
        let status = unsafe { (table.NdkReceive)(raw, std::ptr::null_mut(), std::ptr::null(), 0) };
        assert_eq!(status, STATUS_SUCCESS);
        // SAFETY: an open QP.
        unsafe { (table.NdkFlush)(raw) };
    });
    lab.hang_up(&a, &b, connected);
    assert_eq!(objects.map(words), before);
    lab.end(a, b);
}

#[test]
fn n04_n05_n06_versions_are_negotiated_per_major() {
    let mut lab = Lab::new();
    let machine = lab.a;
    lab.world.call(machine, || {
        let version = |major, minor| NDK_VERSION {
            Major: major,
            Minor: minor,
        };
        for (asked, given) in [
            (version(1, 0), NDK_VERSION_1_2),
            (version(1, 1), NDK_VERSION_1_2),
            (version(1, 2), NDK_VERSION_1_2),
            (version(2, 0), NDK_VERSION_2_1),
            (version(2, 1), NDK_VERSION_2_1),
        ] {
            let adapter = Adapter::open(asked).unwrap();
            assert_eq!(adapter.info().unwrap().Version, given);
            // SAFETY: an open adapter.
            assert_eq!(unsafe { (*adapter.raw()).Header.Version }, given);
            adapter.close();
        }
        for asked in [version(0, 9), version(1, 3), version(2, 2), version(3, 0)] {
            assert_eq!(Adapter::open(asked).err(), Some(BAD_VERSION), "{asked:?}");
        }
    });
    lab.finish();
}

#[test]
fn c10_n08_n25_adapter_info_obeys_its_buffer() {
    let mut lab = Lab::new();
    let machine = lab.a;
    lab.world.call(machine, || {
        let query = |adapter: &Adapter, info: *mut NDK_ADAPTER_INFO, size: &mut u32| {
            // SAFETY: the buffer has at least the size that is passed.
            unsafe { (adapter.table().NdkQueryAdapterInfo)(adapter.raw(), info, size) }
        };
        let adapter = Adapter::open(NDK_VERSION_2_1).unwrap();
        let mut info = NDK_ADAPTER_INFO::ZEROED;
        let mut size = 0;
        assert_eq!(
            query(&adapter, std::ptr::null_mut(), &mut size),
            STATUS_BUFFER_TOO_SMALL
        );
        assert_eq!(size as usize, size_of::<NDK_ADAPTER_INFO>());
        size -= 1;
        assert_eq!(
            query(&adapter, &raw mut info, &mut size),
            STATUS_BUFFER_TOO_SMALL
        );
        assert_eq!(query(&adapter, &raw mut info, &mut size), STATUS_SUCCESS);
        assert_eq!(size as usize, size_of::<NDK_ADAPTER_INFO>());
        assert_eq!(info.RdmaTechnology, ndkpi::NdkRoCEv2);
        assert!(info.FRMRPageCount >= 16);
        assert_ne!(
            info.AdapterFlags & ndkpi::NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED,
            0
        );
        adapter.close();
        // the consumer of an older version has a shorter structure.
        let adapter = Adapter::open(NDK_VERSION_1_2).unwrap();
        let mut size = 0x60;
        info.RdmaTechnology = 0x77;
        assert_eq!(query(&adapter, &raw mut info, &mut size), STATUS_SUCCESS);
        assert_eq!((size, info.RdmaTechnology), (0x60, 0x77));
        adapter.close();
    });
    lab.finish();
}

#[test]
fn q01_w01_limits_hold_exactly() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.on(&a, || {
        let info = a.adapter.info().unwrap();
        let deepest = a.adapter.create_cq(info.MaxCqDepth).unwrap();
        assert_eq!(
            a.adapter.create_cq(info.MaxCqDepth + 1).err(),
            Some(STATUS_INVALID_PARAMETER)
        );
        let most = ntsim::ndk::QpLimits {
            receive_depth: info.MaxReceiveQueueDepth,
            initiator_depth: info.MaxInitiatorQueueDepth,
            receive_sges: info.MaxReceiveRequestSge,
            initiator_sges: info.MaxInitiatorRequestSge,
            inline_data: info.MaxInlineDataSize,
            context: 0,
        };
        a.pd.create_qp(&a.cq, &a.cq, most).unwrap().close();
        let mut over = [most; 5];
        over[0].receive_depth += 1;
        over[1].initiator_depth += 1;
        over[2].receive_sges += 1;
        over[3].initiator_sges += 1;
        over[4].inline_data += 1;
        for limits in over {
            assert_eq!(
                a.pd.create_qp(&a.cq, &a.cq, limits).err(),
                Some(STATUS_INVALID_PARAMETER),
                "{limits:?}"
            );
        }
        deepest.close();
    });
    lab.close(a);
    lab.finish();
}

/// Creates one of each kind and closes it again: how each create ended.
fn one_of_each(a: &Side) -> [Result<(), NTSTATUS>; MAKERS.len()] {
    MAKERS.each_ref().map(|maker| {
        let closed = (maker.make)(a, &|_| ())?;
        // L-01: with no memory either, a close is done or pends.
        assert!([STATUS_SUCCESS, STATUS_PENDING].contains(&closed));
        Ok(())
    })
}

#[test]
fn c08_l01_every_create_survives_the_lack_of_memory() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    lab.world.run_for(Duration::from_millis(1));
    // Tables have the size they need after the first time.
    assert_eq!(lab.on(&a, || one_of_each(&a)), [Ok(()); MAKERS.len()]);
    let before = lab.world.pool_stats(machine).driver_blocks;
    let mut failed = [0; MAKERS.len()];
    for after in 0.. {
        let mut all_good = true;
        lab.world.fail_allocations(machine, Some(after), true);
        let results = lab.on(&a, || one_of_each(&a));
        lab.world.fail_allocations(machine, None, false);
        for ((result, failed), maker) in results.into_iter().zip(&mut failed).zip(&MAKERS) {
            if let Err(status) = result {
                assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES, "{}", maker.name);
                *failed += 1;
                all_good = false;
            }
        }
        assert_eq!(
            lab.world.pool_stats(machine).driver_blocks,
            before,
            "after {after} allocations"
        );
        if all_good {
            break;
        }
    }
    assert!(failed.iter().all(|count| *count > 0), "{failed:?}");
    lab.close(a);
    lab.finish();
}

// NDIS looks at header, flags and handlers when the driver registers; here both are called.
#[test]
fn n01_what_the_driver_registered_opens_and_closes_adapters() {
    let mut lab = Lab::new();
    for machine in [lab.a, lab.b] {
        for _ in 0..2 {
            lab.world.call(machine, || {
                let adapter = Adapter::open(NDK_VERSION_2_1).expect("OpenNDKAdapterHandler");
                assert_eq!(adapter.info().unwrap().Version, NDK_VERSION_2_1);
                adapter.close();
            });
        }
    }
    lab.finish();
}
