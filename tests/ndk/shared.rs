//! Shared endpoints: one local address and port for many connections out.

use std::net::SocketAddr;
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::{NDK_OBJECT_HEADER, NDK_SHARED_ENDPOINT, NdkObjectTypeSharedEndpoint};
use ntsim::consumer::{Connector, Qp, ReadLimits};

use crate::lab::{Lab, PORT, Side, failure, limits, to};

/// A sockaddr of the lab's IPv4 addresses.
pub fn sockaddr(address: SocketAddr) -> [u8; 16] {
    let SocketAddr::V4(address) = address else {
        panic!("IPv4 here")
    };
    let mut bytes = [0; 16];
    bytes[0] = 2;
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&address.ip().octets());
    bytes
}

/// What the raw calls of a story were completed with.
#[derive(Default)]
struct Completed {
    calls: AtomicU32,
    status: AtomicI32,
}

impl Completed {
    fn context(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn count(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

unsafe extern "efiapi" fn completed(context: *mut std::ffi::c_void, status: i32) {
    // SAFETY: the context outlives the request.
    let completed = unsafe { &*context.cast::<Completed>() };
    completed.status.store(status, Ordering::Relaxed);
    completed.calls.fetch_add(1, Ordering::Relaxed);
}

unsafe extern "efiapi" fn closed(context: *mut std::ffi::c_void) {
    // SAFETY: as above.
    unsafe { completed(context, STATUS_SUCCESS) };
}

unsafe extern "efiapi" fn created(_: *mut std::ffi::c_void, _: i32, _: *mut NDK_OBJECT_HEADER) {
    panic!("creation does not pend: the addresses are known");
}

struct Shared(NonNull<NDK_SHARED_ENDPOINT>);

impl Shared {
    fn create(side: &Side, at: SocketAddr) -> Result<Shared, i32> {
        let (address, mut out) = (sockaddr(at), null_mut());
        // SAFETY: an open adapter, an address with its length.
        let status = unsafe {
            (side.adapter.table().NdkCreateSharedEndpoint)(
                side.adapter.raw(),
                address.as_ptr().cast(),
                16,
                created,
                null_mut(),
                &raw mut out,
            )
        };
        if status == STATUS_SUCCESS {
            Ok(Shared(NonNull::new(out).unwrap()))
        } else {
            Err(status)
        }
    }

    fn table(&self) -> &ndkpi::NDK_SHARED_ENDPOINT_DISPATCH {
        // SAFETY: an open object.
        unsafe { &*self.0.as_ref().Dispatch }
    }

    fn port(&self) -> u16 {
        let (mut buffer, mut length) = ([0_u8; 28], 28);
        // SAFETY: an open object, a buffer with its length.
        let status = unsafe {
            (self.table().NdkGetLocalAddress)(
                self.0.as_ptr(),
                buffer.as_mut_ptr().cast(),
                &mut length,
            )
        };
        assert_eq!((status, length), (STATUS_SUCCESS, 16));
        u16::from_be_bytes([buffer[2], buffer[3]])
    }

    fn connect(&self, connector: &Connector, qp: &Qp, to: SocketAddr, done: &Completed) -> i32 {
        let to = sockaddr(to);
        // SAFETY: open objects, an address with its length, a context that outlives the request.
        unsafe {
            (connector.table().NdkConnectWithSharedEndpoint)(
                connector.raw(),
                qp.raw(),
                self.0.as_ptr(),
                to.as_ptr().cast(),
                16,
                1,
                1,
                null(),
                0,
                completed,
                done.context(),
            )
        }
    }

    fn close(&self, done: &Completed) -> i32 {
        // SAFETY: closed once.
        unsafe {
            (self.table().NdkCloseSharedEndpoint)(self.0.as_ptr().cast(), closed, done.context())
        }
    }
}

#[test]
fn e02_e05_e10_l11_many_connections_from_one_endpoint() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let listener = lab.listen(&b);
    lab.world.run_for(Duration::from_millis(1));
    let shared = lab.on(&a, || {
        let shared = Shared::create(&a, SocketAddr::new(a.address, 0)).unwrap();
        // SAFETY: an open object.
        let header = unsafe { shared.0.as_ref() }.Header;
        assert_eq!(header.ObjectType, NdkObjectTypeSharedEndpoint);
        shared
    });
    let port = lab.on(&a, || shared.port());
    assert!(port >= 49_152);
    let here = SocketAddr::new(a.address, port);
    assert_eq!(
        lab.on(&a, || Shared::create(&a, here).err()),
        Some(STATUS_SHARING_VIOLATION)
    );
    // Two destinations: the listener, and a port where nobody listens.
    let (first, second, third) = (lab.connector(&a), lab.connector(&a), lab.connector(&a));
    let qps: Vec<Qp> = lab.on(&a, || {
        (0..3)
            .map(|_| a.pd.create_qp(&a.cq, &a.cq, limits()).unwrap())
            .collect()
    });
    let done: [Completed; 3] = Default::default();
    lab.on(&a, || {
        assert_eq!(
            shared.connect(&first, &qps[0], to(&b), &done[0]),
            STATUS_PENDING
        );
        let nowhere = SocketAddr::new(b.address, PORT + 1);
        assert_eq!(
            shared.connect(&second, &qps[1], nowhere, &done[1]),
            STATUS_PENDING
        );
        // The 4-tuple exists.
        assert_eq!(
            shared.connect(&third, &qps[2], to(&b), &done[2]),
            STATUS_ADDRESS_ALREADY_EXISTS
        );
    });
    let passive = lab.request(&listener);
    let accepting = lab.on(&b, || {
        passive.start_accept(&b.qp, ReadLimits::default(), &[])
    });
    assert!(lab.world.run_until(
        |_| done[0].count() == 1 && done[1].count() == 1,
        Duration::from_secs(5)
    ));
    assert_eq!(done[0].status.load(Ordering::Relaxed), STATUS_SUCCESS);
    assert_eq!(
        done[1].status.load(Ordering::Relaxed),
        STATUS_CONNECTION_REFUSED
    );
    assert_eq!(lab.on(&a, || first.local_address()), Ok(here));
    let completing = lab.on(&a, || first.start_complete_connect());
    completing.wait(&mut lab.world).unwrap();
    accepting.wait(&mut lab.world).unwrap();
    // Closing pends until the connection is closed, and the port stays taken as long.
    let closing = Completed::default();
    assert_eq!(lab.on(&a, || shared.close(&closing)), STATUS_PENDING);
    lab.world.run_for(Duration::from_secs(1));
    assert_eq!(closing.count(), 0);
    let other = lab.on(&a, || a.adapter.create_listener().unwrap());
    assert_eq!(
        failure(lab.on(&a, || other.listen(here))),
        STATUS_SHARING_VIOLATION
    );
    lab.on(&a, || {
        first.close();
        second.close();
        third.close();
    });
    assert!(
        lab.world
            .run_until(|_| closing.count() == 1, Duration::from_secs(1))
    );
    assert_eq!(lab.on(&a, || other.listen(here)), Ok(()));
    lab.on(&a, || {
        other.close();
        qps.into_iter().for_each(Qp::close);
    });
    lab.on(&b, || {
        passive.close();
        listener.close();
    });
    lab.close(a);
    lab.close(b);
    lab.finish();
}

#[test]
fn c03_e07_x53_an_endpoint_needs_an_address_of_the_adapter() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.world.run_for(Duration::from_millis(1));
    // An address that is not known: it pends, is looked for, and is not found.
    static DONE: (AtomicU32, AtomicI32) = (AtomicU32::new(0), AtomicI32::new(0));
    unsafe extern "efiapi" fn not_created(
        _: *mut std::ffi::c_void,
        status: i32,
        object: *mut NDK_OBJECT_HEADER,
    ) {
        assert!(object.is_null(), "x53: no object comes with a failure");
        DONE.1.store(status, Ordering::Relaxed);
        DONE.0.fetch_add(1, Ordering::Relaxed);
    }
    let foreign = sockaddr("10.0.0.99:7".parse().unwrap());
    let canary = 0x5a5a_usize as *mut NDK_SHARED_ENDPOINT;
    let mut out = canary;
    lab.on(&a, || {
        // SAFETY: an open adapter, an address with its length.
        let status = unsafe {
            (a.adapter.table().NdkCreateSharedEndpoint)(
                a.adapter.raw(),
                foreign.as_ptr().cast(),
                16,
                not_created,
                null_mut(),
                &raw mut out,
            )
        };
        assert_eq!(status, STATUS_PENDING);
    });
    assert!(lab.world.run_until(
        |_| DONE.0.load(Ordering::Relaxed) == 1,
        Duration::from_secs(1)
    ));
    assert_eq!(DONE.1.load(Ordering::Relaxed), STATUS_INVALID_ADDRESS);
    assert_eq!(
        out, canary,
        "c03: after PENDING the out parameter is never written"
    );
    lab.on(&a, || {
        let wildcard = Shared::create(&a, "0.0.0.0:7".parse().unwrap());
        assert_eq!(wildcard.err(), Some(STATUS_INVALID_ADDRESS));
    });
    lab.close(a);
    lab.finish();
}
