//! The active end: a thread at PASSIVE_LEVEL that connects, writes, waits for answers, reads back, and leaves.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use ndis_sys::imports::{KeInitializeEvent, KeSetEvent, KeWaitForSingleObject};
use ndis_sys::types::KernelMode;
use ndis_sys::wdm::{Executive, KEVENT, SynchronizationEvent};
use ndkpi::status::{
    STATUS_CONNECTION_ABORTED, STATUS_DATA_OVERRUN, STATUS_INTERNAL_ERROR, STATUS_SUCCESS,
};
use ndkpi::{NDK_FN_DISCONNECT_EVENT_CALLBACK, NDK_RESULT, NTSTATUS, SOCKADDR_IN};

use crate::adapter::{self, Adapter};
use crate::endpoint::{Endpoint, Request, connection_data};
use crate::protocol::{BLOCKS, CREDITS, DATA, HELLO, Welcome, pattern, socket_address};
use crate::wait::{self, Result};
use crate::{memory, ndk};

/// Lies in pool: callbacks come on any thread, at DISPATCH_LEVEL.
struct Client {
    endpoint: Endpoint,
    /// Something happened: look at the completion queue, and at what follows.
    wake: UnsafeCell<KEVENT>,
    /// The peer disconnected, or the connection broke.
    gone: AtomicBool,
    /// The completion queue is dead, for this reason.
    dead: AtomicI32,
}

unsafe extern "efiapi" fn on_completions(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the context given with it, which lives until the completion queue is closed.
    let client = unsafe { &*context.cast::<Client>() };
    client.dead.store(status, SeqCst);
    client.wake();
}

unsafe extern "efiapi" fn on_disconnect(context: *mut c_void) {
    // SAFETY: the context given with it, which lives until the connector is closed.
    let client = unsafe { &*context.cast::<Client>() };
    client.gone.store(true, SeqCst);
    client.wake();
}

/// Connects, moves data, disconnects, and closes everything, whatever went wrong. PASSIVE_LEVEL.
pub fn run(from: [u8; 4], to: [u8; 4], port: u16) -> Result<()> {
    let adapter = adapter::open(from)?;
    // SAFETY: open.
    let result = run_on(unsafe { adapter.as_ref() }, from, to, port);
    adapter::close(adapter);
    result
}

fn run_on(adapter: &Adapter, from: [u8; 4], to: [u8; 4], port: u16) -> Result<()> {
    let place = memory::allocate(Client {
        endpoint: Endpoint::new()?,
        wake: UnsafeCell::new(KEVENT::ZEROED),
        gone: AtomicBool::new(false),
        dead: AtomicI32::new(STATUS_SUCCESS),
    })?;
    // SAFETY: it stays until it is freed below.
    let client = unsafe { place.as_ref() };
    // SAFETY: where it stays.
    unsafe { KeInitializeEvent(client.wake.get(), SynchronizationEvent, 0) };
    let (from, to) = (socket_address(from, 0), socket_address(to, port));
    let result = client.converse(adapter, &from, &to);
    client.endpoint.disconnect();
    client.endpoint.close();
    // SAFETY: everything with a callback to it is closed.
    unsafe { memory::free(place) };
    result
}

impl Client {
    fn context(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    fn wake(&self) {
        // SAFETY: initialised before any callback.
        unsafe { KeSetEvent(self.wake.get(), 0, 0) };
    }

    fn converse(&self, adapter: &Adapter, from: &SOCKADDR_IN, to: &SOCKADDR_IN) -> Result<()> {
        let endpoint = &self.endpoint;
        endpoint.create(adapter, on_completions, self.context())?;
        for slot in 0..CREDITS as usize {
            endpoint.post_receive(slot)?;
        }
        // SAFETY: the adapter is open.
        let connector = wait::create(|done, cookie, out| unsafe {
            ndk!(adapter.raw, NdkCreateConnector, done, cookie, out)
        })?;
        endpoint.connector.set(connector);

        let length = size_of::<SOCKADDR_IN>() as u32;
        let (from, to) = ((&raw const *from).cast(), (&raw const *to).cast());
        let hello = HELLO.as_ptr().cast();
        let qp = endpoint.qp.get();
        // SAFETY: open objects; addresses and data outlive the call, as this thread waits.
        wait::request(|done, cookie| unsafe {
            ndk!(
                connector,
                NdkConnect,
                qp,
                from,
                length,
                to,
                length,
                1,
                1,
                hello,
                HELLO.len() as u32,
                done,
                cookie
            )
        })?;
        // The peer has accepted, and waits: now is the time to look at its answer. NdkReject instead would be a no.
        // SAFETY: open.
        let welcome = Welcome::from_bytes(unsafe { connection_data(connector) }?);
        let event: NDK_FN_DISCONNECT_EVENT_CALLBACK = on_disconnect;
        // SAFETY: open; the event's context lives until the connector is closed.
        wait::request(|done, cookie| unsafe {
            ndk!(
                connector,
                NdkCompleteConnect,
                Some(event),
                self.context(),
                done,
                cookie
            )
        })?;
        self.write(&welcome)?;
        self.read_back(&welcome)
    }

    /// Writes all blocks and has each confirmed, with as many on their way as there are credits.
    fn write(&self, welcome: &Welcome) -> Result<()> {
        let endpoint = &self.endpoint;
        let slots = welcome.credits.min(CREDITS) as usize;
        // Of each slot: its block, and what must still come: the results of write and send, and the answer.
        let mut busy = [(0_usize, 0_u32); CREDITS as usize];
        let mut next = 0;
        while next < BLOCKS || busy.iter().any(|slot| slot.1 > 0) {
            if next < BLOCKS
                && let Some(slot) = busy[..slots].iter().position(|slot| slot.1 == 0)
            {
                let length = DATA / BLOCKS;
                // SAFETY: of a slot that is free nothing is outstanding.
                unsafe {
                    endpoint
                        .buffer
                        .bytes(next * length, length)
                        .fill(pattern(next));
                    endpoint
                        .buffer
                        .bytes(endpoint.sent(slot), 8)
                        .copy_from_slice(&(next as u64).to_le_bytes());
                }
                endpoint.post_write(slot, next, welcome.address, welcome.token)?;
                endpoint.post_send(slot)?;
                busy[slot] = (next, 3);
                next += 1;
                continue;
            }
            match Request::of(&self.next_result()?) {
                Request::Write(slot) | Request::Send(slot) => busy[slot].1 -= 1,
                Request::Receive(received) => {
                    let mut block = [0; 8];
                    // SAFETY: received, and not posted again yet.
                    block.copy_from_slice(unsafe {
                        endpoint.buffer.bytes(endpoint.received(received), 8)
                    });
                    // First the receive for another answer, then another question.
                    endpoint.post_receive(received)?;
                    let block = u64::from_le_bytes(block) as usize;
                    let slot = busy.iter().position(|slot| slot.1 > 0 && slot.0 == block);
                    busy[slot.ok_or(STATUS_INTERNAL_ERROR)?].1 -= 1;
                }
                Request::Read => return Err(STATUS_INTERNAL_ERROR),
            }
        }
        Ok(())
    }

    /// Reads what the peer's memory holds now.
    fn read_back(&self, welcome: &Welcome) -> Result<()> {
        // SAFETY: nothing is outstanding but receives.
        unsafe { self.endpoint.buffer.bytes(0, DATA) }.fill(0);
        self.endpoint.post_read(welcome.address, welcome.token)?;
        self.next_result()?;
        // SAFETY: as above, and the read is done.
        let data = unsafe { self.endpoint.buffer.bytes(0, DATA) };
        let right = |(block, bytes): (usize, &[u8])| bytes.iter().all(|b| *b == pattern(block));
        if data.chunks(DATA / BLOCKS).enumerate().all(right) {
            Ok(())
        } else {
            Err(STATUS_DATA_OVERRUN)
        }
    }

    /// The next result, waiting for it.
    fn next_result(&self) -> Result<NDK_RESULT> {
        let succeeded = |result: NDK_RESULT| wait::check(result.Status).map(|()| result);
        loop {
            if let Some(result) = self.endpoint.poll() {
                return succeeded(result);
            }
            self.endpoint.arm();
            // One that came between the two calls need not be notified if the queue was notified of it before.
            if let Some(result) = self.endpoint.poll() {
                return succeeded(result);
            }
            wait::check(self.dead.load(SeqCst))?;
            // A peer that goes does not end our requests: without this, the wait would last for ever.
            if self.gone.load(SeqCst) {
                return Err(STATUS_CONNECTION_ABORTED);
            }
            let wake = self.wake.get().cast();
            // SAFETY: initialised.
            unsafe { KeWaitForSingleObject(wake, Executive, KernelMode, 0, null_mut()) };
        }
    }
}
