//! What either end has: a completion queue, a protection domain, a queue pair, registered memory, a connector.

use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::null_mut;

use ndkpi::status::{STATUS_INVALID_BUFFER_SIZE, STATUS_NOT_SUPPORTED};
use ndkpi::{
    NDK_CONNECTOR, NDK_CQ, NDK_CQ_NOTIFY_ANY, NDK_FN_CQ_NOTIFICATION_CALLBACK, NDK_MR,
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_MR_FLAG_ALLOW_REMOTE_WRITE,
    NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT, NDK_PD, NDK_QP, NDK_RESULT, NDK_SGE, NDK_SGE_ADDRESS,
};

use crate::adapter::Adapter;
use crate::memory::Buffer;
use crate::ndk;
use crate::protocol::{BLOCKS, CREDITS, DATA, MESSAGE};
use crate::wait::{self, Result, check};

/// Results that may lie in the completion queue at once: for each credit a receive, a send and a write, and one read. More, and the
/// queue and its queue pairs are dead.
const RESULTS: u32 = 3 * CREDITS + 1;

/// What a request was, and of which slot: its context, which comes back with its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    Receive(usize),
    Send(usize),
    Write(usize),
    Read,
}

impl Request {
    fn context(self) -> *mut c_void {
        let number = match self {
            Request::Receive(slot) => slot,
            Request::Send(slot) => 0x100 + slot,
            Request::Write(slot) => 0x200 + slot,
            Request::Read => 0x300,
        };
        number as *mut c_void
    }

    /// The request that a result is for.
    pub fn of(result: &NDK_RESULT) -> Request {
        let number = result.RequestContext.addr();
        match number >> 8 {
            0 => Request::Receive(number & 0xff),
            1 => Request::Send(number & 0xff),
            2 => Request::Write(number & 0xff),
            _ => Request::Read,
        }
    }
}

/// The objects of one end. A pointer that is null was not created: [`Endpoint::close`] can be called whatever went wrong before.
pub struct Endpoint {
    pub cq: Cell<*mut NDK_CQ>,
    pd: Cell<*mut NDK_PD>,
    pub qp: Cell<*mut NDK_QP>,
    mr: Cell<*mut NDK_MR>,
    registered: Cell<bool>,
    pub connector: Cell<*mut NDK_CONNECTOR>,
    pub buffer: Buffer,
    local_token: Cell<u32>,
    /// What the peer names the memory by. Bytes to be passed on as they are.
    pub remote_token: Cell<u32>,
}

impl Endpoint {
    /// Memory, and nothing created yet.
    pub fn new() -> Result<Endpoint> {
        Ok(Endpoint {
            cq: Cell::new(null_mut()),
            pd: Cell::new(null_mut()),
            qp: Cell::new(null_mut()),
            mr: Cell::new(null_mut()),
            registered: Cell::new(false),
            connector: Cell::new(null_mut()),
            buffer: Buffer::new(DATA + 2 * CREDITS as usize * MESSAGE)?,
            local_token: Cell::new(0),
            remote_token: Cell::new(0),
        })
    }

    /// Creates the objects but the connector. What was created before a failure remains for [`Endpoint::close`]. PASSIVE_LEVEL.
    pub fn create(
        &self,
        adapter: &Adapter,
        notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
        context: *mut c_void,
    ) -> Result<()> {
        // The limits are the provider's: more than it has is STATUS_INVALID_PARAMETER.
        let (info, adapter) = (&adapter.info, adapter.raw);
        if info.MaxCqDepth < RESULTS || info.MaxTransferLength < (DATA as u32) {
            return Err(STATUS_NOT_SUPPORTED);
        }
        // SAFETY: of all calls here: the objects are open, contexts and out parameters live until the calls are done, and the
        // notification's context lives until the completion queue is closed.
        unsafe {
            self.cq.set(wait::create(|done, cookie, out| {
                ndk!(
                    adapter,
                    NdkCreateCq,
                    RESULTS,
                    notification,
                    context,
                    null_mut(),
                    done,
                    cookie,
                    out
                )
            })?);
            self.pd.set(wait::create(|done, cookie, out| {
                ndk!(adapter, NdkCreatePd, done, cookie, out)
            })?);
            let cq = self.cq.get();
            self.qp.set(wait::create(|done, cookie, out| {
                ndk!(
                    self.pd.get(),
                    NdkCreateQp,
                    cq,
                    cq,
                    null_mut(),
                    CREDITS,
                    2 * CREDITS + 1,
                    1,
                    1,
                    0,
                    done,
                    cookie,
                    out
                )
            })?);
            self.mr.set(wait::create(|done, cookie, out| {
                ndk!(self.pd.get(), NdkCreateMr, 0, done, cookie, out)
            })?);
            let rights = NDK_MR_FLAG_ALLOW_LOCAL_WRITE
                | NDK_MR_FLAG_ALLOW_REMOTE_READ
                | NDK_MR_FLAG_ALLOW_REMOTE_WRITE;
            let (mdl, bytes) = (self.buffer.mdl.as_ptr().cast(), self.buffer.bytes);
            wait::request(|done, cookie| {
                ndk!(
                    self.mr.get(),
                    NdkRegisterMr,
                    mdl,
                    bytes,
                    rights,
                    done,
                    cookie
                )
            })?;
            self.registered.set(true);
            self.local_token
                .set(ndk!(self.mr.get(), NdkGetLocalTokenFromMr));
            self.remote_token
                .set(ndk!(self.mr.get(), NdkGetRemoteTokenFromMr));
        }
        Ok(())
    }

    /// A piece of the registered memory. The address is an index into the registration, not something that the adapter follows.
    fn element(&self, offset: usize, length: usize) -> NDK_SGE {
        let address = self.buffer.address.as_ptr().wrapping_add(offset);
        NDK_SGE {
            Anonymous: NDK_SGE_ADDRESS {
                VirtualAddress: address.cast(),
            },
            Length: length as u32,
            MemoryRegionToken: self.local_token.get(),
        }
    }

    /// Where the message that slot receives lies.
    pub fn received(&self, slot: usize) -> usize {
        DATA + slot * MESSAGE
    }

    /// Where the message that slot sends lies.
    pub fn sent(&self, slot: usize) -> usize {
        DATA + (CREDITS as usize + slot) * MESSAGE
    }

    /// NdkReceive. Legal before there is a connection, and best done then: who sends needs a receive to be there.
    pub fn post_receive(&self, slot: usize) -> Result<()> {
        let element = self.element(self.received(slot), MESSAGE);
        let context = Request::Receive(slot).context();
        // SAFETY: open. The list need only last as long as the call, the memory until the result.
        check(unsafe { ndk!(self.qp.get(), NdkReceive, context, &raw const element, 1) })
    }

    /// NdkSend.
    pub fn post_send(&self, slot: usize) -> Result<()> {
        let element = self.element(self.sent(slot), MESSAGE);
        let context = Request::Send(slot).context();
        let flags = NDK_OP_FLAG_SEND_AND_SOLICIT_EVENT;
        // SAFETY: as for `post_receive`.
        check(unsafe {
            ndk!(
                self.qp.get(),
                NdkSend,
                context,
                &raw const element,
                1,
                flags
            )
        })
    }

    /// NdkWrite of a block to the same place at the peer.
    pub fn post_write(&self, slot: usize, block: usize, to: u64, token: u32) -> Result<()> {
        let length = DATA / BLOCKS;
        let element = self.element(block * length, length);
        let to = to + (block * length) as u64;
        let (context, list) = (Request::Write(slot).context(), &raw const element);
        // SAFETY: as for `post_receive`.
        check(unsafe { ndk!(self.qp.get(), NdkWrite, context, list, 1, to, token, 0) })
    }

    /// NdkRead of all data.
    pub fn post_read(&self, from: u64, token: u32) -> Result<()> {
        let element = self.element(0, DATA);
        let (context, list) = (Request::Read.context(), &raw const element);
        // SAFETY: as for `post_receive`.
        check(unsafe { ndk!(self.qp.get(), NdkRead, context, list, 1, from, token, 0) })
    }

    /// The next result, if there is one. Never at the same time as another call of this or of [`Endpoint::arm`].
    pub fn poll(&self) -> Option<NDK_RESULT> {
        let mut result = NDK_RESULT::ZEROED;
        // SAFETY: room for one.
        let count = unsafe { ndk!(self.cq.get(), NdkGetCqResults, &raw mut result, 1) };
        (count == 1).then_some(result)
    }

    /// NdkArmCq, for one notification.
    pub fn arm(&self) {
        // SAFETY: open.
        unsafe { ndk!(self.cq.get(), NdkArmCq, NDK_CQ_NOTIFY_ANY) };
    }

    /// NdkDisconnect. When it is done, whatever its status, nothing accesses the memory any more, and what was outstanding is in
    /// the completion queue with STATUS_CANCELLED. PASSIVE_LEVEL.
    pub fn disconnect(&self) {
        let connector = self.connector.get();
        if !connector.is_null() {
            // Fails where there is no connection (any more), and there is nothing to be done about that.
            // SAFETY: open.
            let _ = wait::request(|done, cookie| unsafe {
                ndk!(connector, NdkDisconnect, done, cookie)
            });
        }
    }

    /// NdkCloseConnector. PASSIVE_LEVEL.
    pub fn close_connector(&self) {
        let connector = self.connector.replace(null_mut());
        if !connector.is_null() {
            // SAFETY: open, and closed once.
            unsafe { wait::close((*(*connector).Dispatch).NdkCloseConnector, connector.cast()) };
        }
    }

    /// Closes everything, dependents first. Then the memory may go. PASSIVE_LEVEL.
    pub fn close(&self) {
        self.close_connector();
        // SAFETY: each is open if it is not null, and closed once; what depends on it is closed before.
        unsafe {
            let qp = self.qp.replace(null_mut());
            if !qp.is_null() {
                wait::close((*(*qp).Dispatch).NdkCloseQp, qp.cast());
            }
            let mr = self.mr.replace(null_mut());
            if self.registered.replace(false) {
                let _ = wait::request(|done, cookie| ndk!(mr, NdkDeregisterMr, done, cookie));
            }
            if !mr.is_null() {
                wait::close((*(*mr).Dispatch).NdkCloseMr, mr.cast());
            }
            let pd = self.pd.replace(null_mut());
            if !pd.is_null() {
                wait::close((*(*pd).Dispatch).NdkClosePd, pd.cast());
            }
            let cq = self.cq.replace(null_mut());
            if !cq.is_null() {
                wait::close((*(*cq).Dispatch).NdkCloseCq, cq.cast());
            }
        }
    }
}

/// What the peer sent with its request, or its answer: between NdkConnect and NdkCompleteConnect, or before NdkAccept.
///
/// # Safety
/// The connector is open.
pub unsafe fn connection_data<const N: usize>(connector: *mut NDK_CONNECTOR) -> Result<[u8; N]> {
    let (none, mut length) = (null_mut(), 0);
    // SAFETY: no buffer and no length asks for the length.
    check(unsafe {
        ndk!(
            connector,
            NdkGetConnectionData,
            null_mut(),
            null_mut(),
            none,
            &raw mut length
        )
    })?;
    // It is how much room is needed, and may be more than the peer sent: the rest is zero.
    let mut room = [0_u8; 256];
    if !(N..=room.len()).contains(&(length as usize)) {
        return Err(STATUS_INVALID_BUFFER_SIZE);
    }
    let data = room.as_mut_ptr().cast();
    // SAFETY: exactly the length that was told, for which there is room.
    check(unsafe {
        ndk!(
            connector,
            NdkGetConnectionData,
            null_mut(),
            null_mut(),
            data,
            &raw mut length
        )
    })?;
    let mut wanted = [0; N];
    wanted.copy_from_slice(&room[..N]);
    Ok(wanted)
}
