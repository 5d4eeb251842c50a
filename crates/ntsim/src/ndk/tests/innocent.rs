//! A provider that keeps the rules is not accused, and the consumer sees what it would see without the layer.

use std::cell::Cell;
use std::ptr::{null, null_mut};
use std::rc::Rc;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::fake::{Misdeed, Mode};

const MODES: [Mode; 3] = [Mode::Inline, Mode::Early, Mode::Later];

fn bench(mode: Mode) -> Bench {
    Bench::new(mode, Misdeed::Nothing)
}

#[track_caller]
fn clean(mut bench: Bench) {
    bench.close_adapter();
    let violations = bench.violations();
    assert!(violations.is_empty(), "{violations:?}");
    assert!(bench.fake.is_empty());
}

#[test]
fn every_kind_of_object_is_created_and_closed() {
    for mode in MODES {
        let mut b = bench(mode);
        let adapter = b.adapter;
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let (mr, mw) = (b.mr(pd), b.mw(pd));
        let told = Told::new();
        let srq = b.srq(pd, told);
        let srq_qp = b
            .create(|context, out| {
                let f = table!(pd).NdkCreateQpWithSrq;
                // SAFETY: as a consumer calls.
                unsafe {
                    f(
                        pd,
                        cq,
                        cq,
                        srq,
                        null_mut(),
                        8,
                        1,
                        0,
                        on_create,
                        context,
                        out,
                    )
                }
            })
            .unwrap();
        let endpoint = b
            .create(|context, out| {
                let f = table!(adapter).NdkCreateSharedEndpoint;
                // SAFETY: as a consumer calls.
                unsafe { f(adapter, &SOCKADDR::ZEROED, 16, on_create, context, out) }
            })
            .unwrap();
        let connector = b.connector();
        let listener = b.listener(Told::new());

        let status = b.request(|context| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(srq).NdkModifySrq)(srq, 0, 4, on_status, context) }
        });
        assert_eq!(status, STATUS_SUCCESS);
        b.work();
        assert_eq!(told.times(), 1);
        b.run(|| {
            // SAFETY: as a consumer calls.
            unsafe {
                assert_eq!((table!(mw).NdkGetRemoteTokenFromMw)(mw), 0x200);
                assert_eq!((table!(mr).NdkGetLocalTokenFromMr)(mr), 0x100);
                let mut length = 0;
                let f = table!(endpoint).NdkGetLocalAddress;
                let status = f(endpoint, null_mut(), &raw mut length);
                assert_eq!((status, length), (STATUS_BUFFER_TOO_SMALL, 16));
                let mut interface = NDK_EXTENSION_INTERFACE::ZEROED;
                let mut id = GUID::ZEROED;
                let f = table!(listener).NdkQueryExtension;
                let status = f(
                    listener.cast(),
                    &raw mut id,
                    NDK_VERSION_2_1,
                    &raw mut interface,
                );
                assert_eq!(status, STATUS_NOT_SUPPORTED);
                let mut info = NDK_ADAPTER_INFO::ZEROED;
                let mut size = size_of_val(&info) as u32;
                let f = table!(adapter).NdkQueryAdapterInfo;
                assert_eq!(f(adapter, &raw mut info, &raw mut size), STATUS_SUCCESS);
                assert_eq!(info.Version, NDK_VERSION_2_1);
            }
        });
        assert!(b.close(srq_qp) && b.close(srq) && b.close(qp) && b.close(mr) && b.close(mw));
        assert!(b.close(pd) && b.close(cq) && b.close(endpoint));
        assert!(b.close(connector) && b.close(listener));
        clean(b);
    }
}

#[test]
fn objects_are_closed_before_those_that_depend_on_them() {
    for mode in MODES {
        let mut b = bench(mode);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        assert_eq!(b.connect(connector, qp), STATUS_SUCCESS);
        let mut closing = Vec::new();
        for object in [cq.cast::<c_void>(), pd.cast(), qp.cast()] {
            let (status, told) = b.start_close(object);
            b.work();
            assert_eq!((status, told.times()), (STATUS_PENDING, 0));
            closing.push(told);
        }
        assert!(b.close(connector));
        assert!(closing.iter().all(|told| told.times() == 1));
        clean(b);
    }
}

#[test]
fn a_region_is_closed_when_no_window_is_bound_to_it_any_more() {
    for end in ["invalidate", "bind elsewhere", "close"] {
        let mut b = bench(Mode::Inline);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let (mr, other, mw) = (b.mr(pd), b.mr(pd), b.mw(pd));
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        b.connect(connector, qp);
        assert_eq!(b.bind(qp, 1, mr, mw), STATUS_SUCCESS);
        b.poll_ex(cq);
        let (status, closed) = b.start_close(mr);
        assert_eq!((status, closed.times()), (STATUS_PENDING, 0));
        match end {
            "invalidate" => assert_eq!(b.invalidate(qp, 2, mw), STATUS_SUCCESS),
            "bind elsewhere" => assert_eq!(b.bind(qp, 2, other, mw), STATUS_SUCCESS),
            _ => assert!(b.close(mw)),
        }
        assert_eq!(closed.times(), 1, "{end}");
        b.poll_ex(cq);
        assert!(b.close(connector) && b.close(qp));
        assert!(end == "close" || b.close(mw));
        assert!(b.close(other) && b.close(pd) && b.close(cq));
        clean(b);
    }
}

#[test]
fn a_bind_that_failed_binds_nothing() {
    let mut b = bench(Mode::Inline);
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let (mr, mw) = (b.mr(pd), b.mw(pd));
    let qp = b.qp(pd, cq, cq, 1);
    assert_eq!(b.bind(qp, 1, mr, mw), STATUS_CONNECTION_INVALID);
    assert!(b.close(mr) && b.close(mw) && b.close(qp) && b.close(pd) && b.close(cq));
    clean(b);
}

#[test]
fn a_connection_lives_and_dies() {
    for mode in MODES {
        let mut b = bench(mode);
        let notified = Told::new();
        let cq = b.cq(notified).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 0x1234);
        assert_eq!(b.send(qp, 1, 0), STATUS_CONNECTION_INVALID);
        assert_eq!(b.receive(qp, 0xa), STATUS_SUCCESS);
        assert_eq!(b.receive(qp, 0xb), STATUS_SUCCESS);
        let connector = b.connector();
        assert_eq!(b.connect(connector, qp), STATUS_SUCCESS);
        let gone = Told::new();
        assert_eq!(b.complete_connect(connector, gone), STATUS_SUCCESS);
        b.arm(cq);
        assert_eq!(b.send(qp, 2, 0), STATUS_SUCCESS);
        assert_eq!(b.send(qp, 3, NDK_OP_FLAG_SILENT_SUCCESS), STATUS_SUCCESS);
        let (fake, q) = (b.fake, thing(qp));
        b.world.call(b.machine, || fake.deliver(q, q));
        b.work();
        assert_eq!(notified.times(), 1);
        let results = b.poll(cq);
        assert_eq!(
            results,
            [(0x1234, 2, STATUS_SUCCESS), (0x1234, 0xa, STATUS_SUCCESS)]
        );
        fake.peer_disconnects(thing(connector));
        b.work();
        assert_eq!(gone.times(), 1);
        assert_eq!(b.disconnect(connector), STATUS_SUCCESS);
        assert!(b.close(connector) && b.close(qp));
        // What was flushed is still there.
        let results = b.poll_ex(cq);
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].QPContext.addr(), 0x1234);
        assert_eq!(results[0].RequestContext.addr(), 0xb);
        assert_eq!(results[0].Type, NdkOperationTypeReceive);
        assert!(b.close(pd) && b.close(cq));
        clean(b);
    }
}

#[test]
fn a_connection_is_accepted() {
    for mode in MODES {
        let mut b = bench(mode);
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let requested = Told::new();
        let listener = b.listener(requested);
        assert_eq!(b.listen(listener), STATUS_SUCCESS);
        b.fake.incoming(thing(listener));
        b.work();
        let connector = requested.object.get().cast::<NDK_CONNECTOR>();
        assert!(!connector.is_null());
        let gone = Told::new();
        let event: NDK_FN_DISCONNECT_EVENT_CALLBACK_EX = on_event_ex;
        let status = b.request(|context| {
            let f = table!(connector).NdkAcceptEx;
            let event = Some(event);
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    connector,
                    qp,
                    1,
                    1,
                    null(),
                    0,
                    event,
                    gone.context(),
                    on_status,
                    context,
                )
            }
        });
        assert_eq!(status, STATUS_SUCCESS);
        b.fake.peer_disconnects(thing(connector));
        b.work();
        assert_eq!(gone.times(), 1);
        let (status, closed) = b.start_close(listener);
        assert_eq!(status, STATUS_PENDING);
        b.work();
        assert_eq!(closed.times(), 0);
        assert!(b.close(connector));
        assert_eq!(closed.times(), 1);
        assert!(b.close(qp) && b.close(pd) && b.close(cq));
        clean(b);
    }
}

#[test]
fn a_listener_listens_whatever_becomes_of_another_try() {
    let mut b = bench(Mode::Later);
    let requested = Told::new();
    let listener = b.listener(requested);
    // Two calls at once: the one that came first is the one that fails.
    for status in [STATUS_SHARING_VIOLATION, STATUS_SUCCESS] {
        b.fake.listens.set(status);
        b.run(|| {
            let address = SOCKADDR::ZEROED;
            let f = table!(listener).NdkListen;
            let context = Told::new().context();
            // SAFETY: as a consumer calls.
            unsafe { f(listener, &raw const address, 16, on_status, context) }
        });
    }
    b.work();
    b.fake.incoming(thing(listener));
    b.work();
    let connector = requested.object.get().cast::<NDK_CONNECTOR>();
    assert!(b.close(connector) && b.close(listener));
    clean(b);
}

#[test]
fn an_object_is_closed_from_inside_its_callback() {
    for mode in MODES {
        let mut b = bench(mode);
        let notified = Told::new();
        let cq = b.cq(notified).unwrap();
        let closed = Told::new();
        let inline = Rc::new(Cell::new(None));
        let seen = Rc::clone(&inline);
        notified.then(move || seen.set(Some(close_now(cq, closed))));
        b.arm(cq);
        let (fake, q) = (b.fake, thing(cq));
        b.world
            .call_on(b.machine, 1, 2, || fake.notify(q, STATUS_SUCCESS));
        b.work();
        assert_eq!((notified.times(), closed.times()), (1, 1));
        assert_eq!(inline.get(), Some(STATUS_PENDING));
        clean(b);
    }
}

#[test]
fn a_notification_callback_arms_again() {
    let mut b = bench(Mode::Inline);
    let notified = Told::new();
    let cq = b.cq(notified).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    notified.then(move || {
        assert_eq!(irql(), 2);
        arm_now(cq);
    });
    b.arm(cq);
    for n in 0..3 {
        b.send(qp, n, 0);
        b.poll(cq);
        b.work();
    }
    // Each time the entry was gone when it armed again.
    assert_eq!(notified.times(), 3);
    assert!(b.close(connector) && b.close(qp) && b.close(pd) && b.close(cq));
    clean(b);
}

#[test]
fn memory_is_mapped() {
    for mode in MODES {
        let mut b = bench(mode);
        let adapter = b.adapter;
        let mut mdl = wdm::MDL::ZEROED;
        mdl.ByteOffset = 0x800;
        let mdl = (&raw mut mdl).cast::<MDL>();
        let mut room = [0_u64; 8];
        let lam = room.as_mut_ptr().cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
        let (mut size, mut offset) = (0, 0);
        let (size, offset) = (&raw mut size, &raw mut offset);
        let f = table!(adapter).NdkBuildLAM;
        for expected in [STATUS_BUFFER_TOO_SMALL, STATUS_SUCCESS] {
            let status = b.request(|context| {
                let completion: NDK_FN_REQUEST_COMPLETION = on_status;
                // SAFETY: as a consumer calls.
                unsafe {
                    f(
                        adapter,
                        mdl,
                        0x1000,
                        Some(completion),
                        context,
                        lam,
                        size,
                        offset,
                    )
                }
            });
            assert_eq!(status, expected);
        }
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(adapter).NdkReleaseLAM)(adapter, lam) });
        let status = b.run(|| {
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, mdl, 0x1000, None, null_mut(), lam, size, offset) }
        });
        assert_eq!(status, STATUS_SUCCESS);
        // SAFETY: as a consumer calls.
        b.run(|| unsafe { (table!(adapter).NdkReleaseLAM)(adapter, lam) });
        clean(b);
    }
}

#[test]
fn receives_of_a_shared_queue_complete_where_the_queue_pair_says() {
    let mut b = bench(Mode::Inline);
    let receive_cq = b.cq(Told::new()).unwrap();
    let initiator_cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let srq = b
        .create(|context, out| {
            let f = table!(pd).NdkCreateSrq;
            let none = null_mut();
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    pd,
                    8,
                    1,
                    0,
                    None,
                    none,
                    none.cast(),
                    on_create,
                    context,
                    out,
                )
            }
        })
        .unwrap();
    let qp = b
        .create(|context, out| {
            let f = table!(pd).NdkCreateQpWithSrq;
            let c = 5 as *mut c_void;
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    pd,
                    receive_cq,
                    initiator_cq,
                    srq,
                    c,
                    8,
                    1,
                    0,
                    on_create,
                    context,
                    out,
                )
            }
        })
        .unwrap();
    b.run(|| {
        // SAFETY: as a consumer calls.
        unsafe { (table!(srq).NdkSrqReceive)(srq, 9 as *mut c_void, null(), 0) }
    });
    let (fake, q, s) = (b.fake, thing(qp), thing(srq));
    b.world.call(b.machine, || fake.deliver(q, s));
    assert_eq!(b.poll(receive_cq), [(5, 9, STATUS_SUCCESS)]);
    assert_eq!(b.poll(initiator_cq), []);
    assert!(b.close(qp) && b.close(srq) && b.close(pd));
    assert!(b.close(receive_cq) && b.close(initiator_cq));
    clean(b);
}
