//! The passive end: everything happens in callbacks at DISPATCH_LEVEL, but starting and stopping.

use std::cell::{Cell, UnsafeCell};
use std::ffi::c_void;
use std::ptr::{NonNull, null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, Ordering::SeqCst};

use ndis_sys::imports::{
    KeAcquireSpinLockRaiseToDpc, KeInitializeEvent, KeInitializeSpinLock, KeReleaseSpinLock,
    KeSetEvent, KeWaitForSingleObject,
};
use ndis_sys::types::{KSPIN_LOCK, KernelMode};
use ndis_sys::wdm::{Executive, KEVENT, NotificationEvent};
use ndkpi::status::{STATUS_CANCELLED, STATUS_DATA_OVERRUN, STATUS_PENDING, STATUS_SUCCESS};
use ndkpi::{
    NDK_ADAPTER, NDK_CONNECTOR, NDK_FN_DISCONNECT_EVENT_CALLBACK, NDK_LISTENER, NDK_RESULT,
    NTSTATUS, SOCKADDR_IN,
};

use crate::adapter::{self, Adapter};
use crate::endpoint::{Endpoint, Request, connection_data};
use crate::protocol::{BLOCKS, CREDITS, DATA, HELLO, Welcome, pattern, socket_address};
use crate::wait::{self, Result, check};
use crate::{memory, ndk};

/// In [`Server::connection`]: no connection is accepted any more.
const CLOSED: *mut NDK_CONNECTOR = std::ptr::without_provenance_mut(1);

/// Serves one connection. Lies in pool.
pub struct Server {
    adapter: NonNull<Adapter>,
    endpoint: Endpoint,
    listener: Cell<*mut NDK_LISTENER>,
    /// Null, the connection, or [`CLOSED`].
    connection: AtomicPtr<NDK_CONNECTOR>,
    /// Private data of the accept.
    welcome: Cell<[u8; Welcome::SIZE]>,
    /// Guards the next.
    lock: UnsafeCell<KSPIN_LOCK>,
    /// The queue pair is about to be closed: the completion callback, which only the completion queue's close waits for, posts no more.
    closing: Cell<bool>,
    /// NdkAccept has succeeded or failed.
    settled: UnsafeCell<KEVENT>,
    /// The connection is over.
    over: UnsafeCell<KEVENT>,
    /// Why, if it was an error.
    failure: AtomicI32,
    served: AtomicU32,
    /// The slot's answer is on its way; touched by completions only.
    answering: Cell<[bool; CREDITS as usize]>,
    /// The slot's last answer must first complete.
    owed: Cell<[bool; CREDITS as usize]>,
}

/// Opens the adapter and listens. PASSIVE_LEVEL.
pub fn start(at: [u8; 4], port: u16) -> Result<NonNull<Server>> {
    let adapter = adapter::open(at)?;
    let place = Endpoint::new().and_then(|endpoint| {
        memory::allocate(Server {
            adapter,
            endpoint,
            listener: Cell::new(null_mut()),
            connection: AtomicPtr::new(null_mut()),
            welcome: Cell::new([0; Welcome::SIZE]),
            lock: UnsafeCell::new(0),
            closing: Cell::new(false),
            settled: UnsafeCell::new(KEVENT::ZEROED),
            over: UnsafeCell::new(KEVENT::ZEROED),
            failure: AtomicI32::new(STATUS_SUCCESS),
            served: AtomicU32::new(0),
            answering: Cell::default(),
            owed: Cell::default(),
        })
    });
    let place = match place {
        Ok(place) => place,
        Err(status) => {
            adapter::close(adapter);
            return Err(status);
        }
    };
    // SAFETY: it stays until `stop`.
    let server = unsafe { place.as_ref() };
    // SAFETY: lock and events stay where they are until then.
    unsafe {
        KeInitializeSpinLock(server.lock.get());
        KeInitializeEvent(server.settled.get(), NotificationEvent, 0);
        KeInitializeEvent(server.over.get(), NotificationEvent, 0);
    }
    match server.listen(&socket_address(at, port)) {
        Ok(()) => Ok(place),
        Err(status) => {
            let _ = stop(place);
            Err(status)
        }
    }
}

/// The adapter that it is on.
pub fn adapter(server: NonNull<Server>) -> *mut NDK_ADAPTER {
    // SAFETY: started, and its adapter is open until `stop`.
    unsafe { server.as_ref().adapter.as_ref().raw }
}

/// Waits until a connection came and went. PASSIVE_LEVEL.
pub fn wait_for_end(server: NonNull<Server>) {
    // SAFETY: started.
    let over = unsafe { server.as_ref() }.over.get().cast();
    // SAFETY: initialised in `start`.
    unsafe { KeWaitForSingleObject(over, Executive, KernelMode, 0, null_mut()) };
}

/// Ends everything, in whatever state it is. How many blocks came. PASSIVE_LEVEL.
pub fn stop(place: NonNull<Server>) -> Result<u32> {
    // SAFETY: started; freed below.
    let server = unsafe { place.as_ref() };
    let connector = server.connection.swap(CLOSED, SeqCst);
    if !connector.is_null() {
        let settled = server.settled.get().cast();
        // NdkAccept pends until the peer completes or the provider gives it up.
        // SAFETY: initialised in `start`.
        unsafe { KeWaitForSingleObject(settled, Executive, KernelMode, 0, null_mut()) };
        server.endpoint.connector.set(connector);
    }
    server.endpoint.disconnect();
    // A result that came before may still be polled.
    let _ = server.locked(|server| {
        server.closing.set(true);
        Ok(())
    });
    // The connector came from the listener, whose close pends until every such connector is closed.
    server.endpoint.close_connector();
    let listener = server.listener.get();
    if !listener.is_null() {
        // SAFETY: open, and closed once.
        unsafe { wait::close((*(*listener).Dispatch).NdkCloseListener, listener.cast()) };
    }
    server.endpoint.close();
    adapter::close(server.adapter);
    let (failure, served) = (server.failure.load(SeqCst), server.served.load(SeqCst));
    // SAFETY: everything with a callback to it is closed.
    unsafe { memory::free(place) };
    check(failure).map(|()| served)
}

unsafe extern "efiapi" fn on_connect(context: *mut c_void, connector: *mut NDK_CONNECTOR) {
    // SAFETY: the context given with it, which lives until the listener is closed.
    let server = unsafe { &*context.cast::<Server>() };
    // SAFETY: the connector is open, and ours from now on.
    unsafe { server.answer_request(connector) };
}

unsafe extern "efiapi" fn on_accepted(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the context given with it.
    unsafe { &*context.cast::<Server>() }.accepted(status);
}

unsafe extern "efiapi" fn on_disconnect(context: *mut c_void) {
    // Neither NdkDisconnect nor a close is waited for here, at DISPATCH_LEVEL: whoever waits for the end does that.
    // SAFETY: the context given with it, which lives until the connector is closed.
    unsafe { &*context.cast::<Server>() }.end(STATUS_SUCCESS);
}

unsafe extern "efiapi" fn on_refused_closed(_context: *mut c_void) {}

unsafe extern "efiapi" fn on_completions(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the context given with it, which lives until the completion queue is closed.
    let server = unsafe { &*context.cast::<Server>() };
    if status != STATUS_SUCCESS {
        // The queue and its queue pairs are dead. It notifies no more.
        return server.end(status);
    }
    while let Some(result) = server.endpoint.poll() {
        if let Err(status) = server.completed(&result) {
            server.end(status);
        }
    }
    // One notification for one arm. What comes from now on gives another callback, after this one has returned.
    server.endpoint.arm();
}

impl Server {
    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn listen(&self, at: &SOCKADDR_IN) -> Result<()> {
        // SAFETY: open until `stop`.
        let adapter = unsafe { self.adapter.as_ref() };
        let endpoint = &self.endpoint;
        endpoint.create(adapter, on_completions, self.context())?;
        // Armed while nothing can complete: so the callback, which polls, cannot run while this call does.
        endpoint.arm();
        for slot in 0..CREDITS as usize {
            endpoint.post_receive(slot)?;
        }
        let welcome = Welcome {
            address: endpoint.buffer.address.as_ptr().addr() as u64,
            token: endpoint.remote_token.get(),
            credits: CREDITS,
        };
        self.welcome.set(welcome.to_bytes());
        // SAFETY: open; the event's context lives until the listener is closed.
        self.listener.set(wait::create(|done, cookie, out| unsafe {
            ndk!(
                adapter.raw,
                NdkCreateListener,
                on_connect,
                self.context(),
                done,
                cookie,
                out
            )
        })?);
        let (at, length) = ((&raw const *at).cast(), size_of::<SOCKADDR_IN>() as u32);
        // SAFETY: open; the address outlives the call, as this thread waits.
        wait::request(|done, cookie| unsafe {
            ndk!(self.listener.get(), NdkListen, at, length, done, cookie)
        })
    }

    /// Accepts the first who says hello, and nobody else.
    ///
    /// # Safety
    /// A connector that a connect event brought.
    unsafe fn answer_request(&self, connector: *mut NDK_CONNECTOR) {
        // SAFETY: open.
        let wanted = unsafe { connection_data(connector) } == Ok(HELLO);
        let first = || {
            let taken = &self.connection;
            taken
                .compare_exchange(null_mut(), connector, SeqCst, SeqCst)
                .is_ok()
        };
        if !wanted || !first() {
            // It has to be closed too. Nobody waits for that but the listener's close.
            // SAFETY: open, and closed once.
            unsafe {
                ndk!(connector, NdkReject, null(), 0);
                let close = (*(*connector).Dispatch).NdkCloseConnector;
                close(connector.cast(), on_refused_closed, null_mut());
            }
            return;
        }
        let (data, length) = (self.welcome.as_ptr().cast(), Welcome::SIZE as u32);
        let event: NDK_FN_DISCONNECT_EVENT_CALLBACK = on_disconnect;
        // The peer's NdkConnect waits for this: it is not put off until something else has happened.
        // SAFETY: open; data and contexts live until the connector is closed.
        let status = unsafe {
            ndk!(
                connector,
                NdkAccept,
                self.endpoint.qp.get(),
                1,
                1,
                data,
                length,
                Some(event),
                self.context(),
                on_accepted,
                self.context()
            )
        };
        if status != STATUS_PENDING {
            self.accepted(status);
        }
    }

    fn accepted(&self, status: NTSTATUS) {
        if status != STATUS_SUCCESS {
            self.end(status);
        }
        // SAFETY: initialised in `start`. Whoever waits for it may close the connector at once.
        unsafe { KeSetEvent(self.settled.get(), 0, 0) };
    }

    fn end(&self, status: NTSTATUS) {
        // What a disconnect leaves of requests is no failure.
        if status != STATUS_CANCELLED {
            let _ = self
                .failure
                .compare_exchange(STATUS_SUCCESS, status, SeqCst, SeqCst);
        }
        // SAFETY: initialised in `start`.
        unsafe { KeSetEvent(self.over.get(), 0, 0) };
    }

    fn completed(&self, result: &NDK_RESULT) -> Result<()> {
        check(result.Status)?;
        match Request::of(result) {
            Request::Receive(slot) => {
                self.look(slot)?;
                self.answer(slot)
            }
            Request::Send(slot) => {
                self.set(&self.answering, slot, false);
                if self.set(&self.owed, slot, false) {
                    self.answer(slot)?;
                }
                Ok(())
            }
            Request::Write(_) | Request::Read => Ok(()),
        }
    }

    /// Looks at the block that a message tells of, and writes the answer.
    fn look(&self, slot: usize) -> Result<()> {
        let buffer = &self.endpoint.buffer;
        let mut number = [0; 8];
        // SAFETY: received, and not posted again yet.
        number.copy_from_slice(unsafe { buffer.bytes(self.endpoint.received(slot), 8) });
        let block = u64::from_le_bytes(number) as usize;
        if block >= BLOCKS {
            return Err(STATUS_DATA_OVERRUN);
        }
        let length = DATA / BLOCKS;
        // SAFETY: the peer wrote the block before it sent the message, and leaves it alone.
        let bytes = unsafe { buffer.bytes(block * length, length) };
        if bytes.iter().any(|byte| *byte != pattern(block)) {
            return Err(STATUS_DATA_OVERRUN);
        }
        self.served.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Answers the message in a slot, and posts its receive again before: the answer is a credit.
    fn answer(&self, slot: usize) -> Result<()> {
        if self.set(&self.answering, slot, true) {
            // The peer had the last answer before we had its result; its memory is not ours yet.
            self.set(&self.owed, slot, true);
            return Ok(());
        }
        let (buffer, endpoint) = (&self.endpoint.buffer, &self.endpoint);
        // SAFETY: received and not posted again; sent and completed.
        unsafe {
            let message = buffer.bytes(endpoint.received(slot), 8);
            buffer
                .bytes(endpoint.sent(slot), 8)
                .copy_from_slice(message);
        }
        // The lock is held for both, so that the close does not begin between the look at the flag and the end of the calls.
        self.locked(|server| {
            if server.closing.get() {
                return Err(STATUS_CANCELLED);
            }
            server.endpoint.post_receive(slot)?;
            server.endpoint.post_send(slot)
        })
    }

    /// Does something under the lock. At or below DISPATCH_LEVEL.
    fn locked(&self, f: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        // SAFETY: initialised in `start`, and stays where it is.
        let irql = unsafe { KeAcquireSpinLockRaiseToDpc(self.lock.get()) };
        let result = f(self);
        // SAFETY: acquired above.
        unsafe { KeReleaseSpinLock(self.lock.get(), irql) };
        result
    }

    /// Sets a slot's flag; what it was.
    fn set(&self, flags: &Cell<[bool; CREDITS as usize]>, slot: usize, value: bool) -> bool {
        let mut all = flags.get();
        let was = std::mem::replace(&mut all[slot], value);
        flags.set(all);
        was
    }
}
