//! Ethernet frames of protocols on their way to the NIC.
//!
//! A net buffer list holds net buffers, a frame each. Each gets a scatter/gather list, goes to the NIC as pieces, and comes back; a net
//! buffer list is completed when its last net buffer is back, exactly once. Frames the NIC has no room for wait in a queue, in order.
//!
//! What is remembered about a frame is in the reserved words of its net buffer and its list, which are the miniport's meanwhile.
//!
//! # Locks
//! The lock of the waiting queue, then the NIC's transmit queue lock. NDIS is called with neither held, but for reading a net buffer's
//! data, which calls nobody.
#![allow(unsafe_code, reason = "net buffers are NDIS's")]

use alloc::vec::Vec;
use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use nt::boxed::try_vec;
use nt::dma::elements;
use nt::irql::at_dispatch;
use nt::sys::ndis::{
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION, NDIS_SG_DMA_64_BIT_ADDRESS,
    NDIS_SG_DMA_DESCRIPTION, NDIS_SG_DMA_DESCRIPTION_REVISION_1, NDIS_SG_LIST_WRITE_TO_DEVICE,
    NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1, NET_BUFFER, NET_BUFFER_LIST, NetBufferListCancelId,
};
use nt::sys::status::{
    NDIS_STATUS_FAILURE, NDIS_STATUS_INVALID_LENGTH, NDIS_STATUS_LOW_POWER_STATE,
    NDIS_STATUS_NOT_ACCEPTED, NDIS_STATUS_PAUSED, NDIS_STATUS_RESOURCES, NDIS_STATUS_SEND_ABORTED,
    NDIS_STATUS_SUCCESS,
};
use nt::sys::types::{NDIS_HANDLE, NDIS_STATUS};
use nt::sys::wdm::{DEVICE_OBJECT, SCATTER_GATHER_LIST};
use nt::{Passive, SpinLock, Status, sys};

use super::receive::{Chain, unlink_each};
use super::statistics::{Cast, Direction, bump};
use crate::adapter::Adapter;
use crate::nic::{DmaPiece, ETHERNET_HEADER, MAX_PIECES, Nic, TxCookie, TxError, TxFrame};

/// Words of a net buffer that the miniport may use between send and completion.
mod word {
    /// The net buffer list it is of.
    pub const LIST: usize = 0;
    /// The adapter.
    pub const ADAPTER: usize = 1;
    /// Its scatter/gather list; null: none.
    pub const PIECES: usize = 2;
    /// The next in the waiting queue.
    pub const NEXT: usize = 3;
}

/// A frame being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame(NonNull<NET_BUFFER>);

// SAFETY: from send to completion a net buffer is the miniport's, which keeps it in one place at a time.
unsafe impl Send for Frame {}

impl Frame {
    /// Bytes of the frame.
    fn len(self) -> usize {
        // SAFETY: the frame is ours.
        unsafe { (*self.0.as_ptr()).Anonymous.DataLength as usize }
    }

    fn word(self, word: usize) -> *mut c_void {
        // SAFETY: the frame is ours, and so are its reserved words; `word` is one of the four.
        unsafe {
            (&raw const (*self.0.as_ptr()).MiniportReserved)
                .cast::<*mut c_void>()
                .add(word)
                .read()
        }
    }

    fn set_word(self, word: usize, value: *mut c_void) {
        // SAFETY: as in `word`.
        unsafe {
            (&raw mut (*self.0.as_ptr()).MiniportReserved)
                .cast::<*mut c_void>()
                .add(word)
                .write(value)
        }
    }

    fn list(self) -> *mut NET_BUFFER_LIST {
        self.word(word::LIST).cast()
    }

    fn next(self) -> Option<Frame> {
        NonNull::new(self.word(word::NEXT)).map(|next| Frame(next.cast()))
    }

    fn set_next(self, next: Option<Frame>) {
        self.set_word(
            word::NEXT,
            next.map_or(null_mut(), |next| next.0.as_ptr().cast()),
        );
    }

    /// Counts a net buffer list's frames that are not back yet, in a reserved word of the list.
    fn outstanding<'a>(list: *mut NET_BUFFER_LIST) -> &'a AtomicUsize {
        // SAFETY: the list is ours until it is completed, and whoever calls has a part in that count or has not given out any. The word
        // is used in no other way.
        unsafe { AtomicUsize::from_ptr((&raw mut (*list).MiniportReserved).cast::<usize>()) }
    }
}

/// Frames the NIC had no room for.
#[derive(Debug)]
struct Waiting {
    head: Option<Frame>,
    tail: Option<Frame>,
    /// Where a frame in too many pieces is put together.
    bounce: Vec<u8>,
}

impl Waiting {
    fn push(&mut self, frame: Frame) {
        frame.set_next(None);
        match self.tail.replace(frame) {
            Some(last) => last.set_next(Some(frame)),
            None => self.head = Some(frame),
        }
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.head?;
        self.head = frame.next();
        if self.head.is_none() {
            self.tail = None;
        }
        Some(frame)
    }

    /// Takes out the frames that `wanted` names; the others stay in order.
    fn take_if(&mut self, mut wanted: impl FnMut(Frame) -> bool) -> Waiting {
        let mut taken = Waiting {
            head: None,
            tail: None,
            bounce: Vec::new(),
        };
        let mut next = self.head.take();
        self.tail = None;
        while let Some(frame) = next {
            next = frame.next();
            if wanted(frame) {
                taken.push(frame);
            } else {
                self.push(frame);
            }
        }
        taken
    }
}

/// The send path.
#[derive(Debug)]
pub struct Sender {
    dma: NDIS_HANDLE,
    waiting: SpinLock<Waiting>,
    /// False if certainly nothing waits. Set before the NIC is asked for room, so that who makes room afterwards sees it.
    waits: AtomicBool,
    max_frame: usize,
    /// Lists that NDIS has given and not got back.
    outstanding: AtomicU64,
}

// SAFETY: the handle may be used from any processor.
unsafe impl Send for Sender {}
// SAFETY: as above; the rest is behind a lock.
unsafe impl Sync for Sender {}

/// What became of handing a frame to the NIC.
enum Handed {
    /// The NIC has it.
    Sent,
    /// There is no room: it waits.
    NoRoom,
    /// It will not be sent.
    Failed(NDIS_STATUS),
}

impl Sender {
    /// Registers for DMA; frames are up to `max_frame` bytes long.
    ///
    /// # Safety
    /// `adapter` is the NDIS handle of the adapter that is being initialised, whose registration attributes are set.
    ///
    /// # Errors
    /// What NDIS answers.
    pub unsafe fn try_new(
        adapter: NDIS_HANDLE,
        max_frame: usize,
        _: Passive,
    ) -> Result<Self, Status> {
        let bounce = try_vec(max_frame, |_| 0)?;
        let mut description = NDIS_SG_DMA_DESCRIPTION {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION,
                Revision: NDIS_SG_DMA_DESCRIPTION_REVISION_1,
                Size: NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1,
            },
            Flags: NDIS_SG_DMA_64_BIT_ADDRESS,
            MaximumPhysicalMapping: u32::try_from(max_frame).unwrap_or(u32::MAX),
            ProcessSGListHandler: Some(list_made),
            ..NDIS_SG_DMA_DESCRIPTION::ZEROED
        };
        let mut dma = null_mut();
        // SAFETY: the handle is the caller's promise; the description lives across the call.
        let status = unsafe {
            sys::NdisMRegisterScatterGatherDma(adapter, &raw mut description, &raw mut dma)
        };
        Status(status).ok()?;
        Ok(Self {
            dma,
            waiting: SpinLock::new(Waiting {
                head: None,
                tail: None,
                bounce,
            }),
            waits: AtomicBool::new(false),
            max_frame,
            outstanding: AtomicU64::new(0),
        })
    }

    /// NDIS has got back so many lists. IRQL: any.
    pub fn given_back(&self, count: u32) {
        self.outstanding
            .fetch_sub(u64::from(count), Ordering::SeqCst);
    }

    /// Whether frames wait for room in the NIC: false if certainly none does. IRQL: any.
    pub fn has_waiting(&self) -> bool {
        self.waits.load(Ordering::SeqCst)
    }

    /// Whether NDIS has got back every list. Whoever has refused further ones before he asks can rely on it. IRQL: any.
    pub fn is_idle(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) == 0
    }

    /// Offers a frame to the NIC.
    fn hand_over(
        &self,
        nic: &dyn Nic,
        frame: Frame,
        bounce: &mut [u8],
        counts: &Direction,
        stopped: NDIS_STATUS,
    ) -> Handed {
        let mut start = [0; ETHERNET_HEADER];
        let len = frame.len();
        let Some(header) = data(frame, &mut start) else {
            return Handed::Failed(NDIS_STATUS_RESOURCES);
        };
        let cast = Cast::of(header);
        let cookie = TxCookie::Ethernet(frame.0.as_ptr().expose_provenance());
        let result = match pieces(frame, nic.max_pieces()) {
            Some(pieces) => nic.transmit(&TxFrame {
                header: &[],
                pieces: &pieces,
                trailer: &[],
                cookie,
            }),
            None => {
                let Some(bytes) = bounce
                    .get_mut(..len)
                    .and_then(|storage| data(frame, storage))
                else {
                    return Handed::Failed(NDIS_STATUS_RESOURCES);
                };
                nic.transmit(&TxFrame {
                    header: bytes,
                    pieces: &[],
                    trailer: &[],
                    cookie,
                })
            }
        };
        match result {
            Ok(()) => {
                counts.add(cast, len);
                Handed::Sent
            }
            Err(TxError::Full) => Handed::NoRoom,
            Err(TxError::TooLong) => Handed::Failed(NDIS_STATUS_INVALID_LENGTH),
            Err(TxError::Stopped) => Handed::Failed(stopped),
        }
    }

    /// Hands over waiting frames as long as there is room; `last` waits behind them. Lists that are done go to `done`.
    /// IRQL: DISPATCH_LEVEL, no lock held.
    fn hand_over_waiting(&self, adapter: &Adapter, mut last: Option<Frame>, done: &mut Chain) {
        let counts = &adapter.statistics().sent;
        let stopped = if adapter.is_asleep() {
            NDIS_STATUS_LOW_POWER_STATE
        } else {
            NDIS_STATUS_FAILURE
        };
        loop {
            let mut failed = ArrayVec::<(Frame, NDIS_STATUS), 16>::new();
            {
                let mut waiting = self.waiting.lock();
                let waiting = &mut *waiting;
                if let Some(last) = last.take() {
                    waiting.push(last);
                    self.waits.store(true, Ordering::SeqCst);
                }
                while let Some(frame) = waiting.head
                    && !failed.is_full()
                {
                    let bounce = &mut waiting.bounce;
                    match self.hand_over(adapter.nic(), frame, bounce, counts, stopped) {
                        Handed::NoRoom => break,
                        Handed::Sent => {
                            waiting.pop();
                        }
                        Handed::Failed(status) => {
                            waiting.pop();
                            failed.push((frame, status));
                        }
                    }
                }
                if waiting.head.is_none() {
                    self.waits.store(false, Ordering::SeqCst);
                }
            }
            let again = failed.is_full();
            for (frame, status) in failed {
                bump(&counts.errors);
                self.finish(frame, status, done);
            }
            if !again {
                return;
            }
        }
    }

    /// A frame is done with. Its list goes to `done` if that was the last of its frames. IRQL: DISPATCH_LEVEL, no lock held.
    fn finish(&self, frame: Frame, status: NDIS_STATUS, done: &mut Chain) {
        let pieces = frame.word(word::PIECES).cast::<SCATTER_GATHER_LIST>();
        if !pieces.is_null() {
            // SAFETY: the list made for this frame, given back once; this is DISPATCH_LEVEL.
            unsafe { sys::NdisMFreeNetBufferSGList(self.dma, pieces, frame.0.as_ptr()) };
        }
        finish_part(frame.list(), status, done);
    }
}

/// One part of a net buffer list's count is done with.
fn finish_part(list: *mut NET_BUFFER_LIST, status: NDIS_STATUS, done: &mut Chain) {
    if status != NDIS_STATUS_SUCCESS {
        // SAFETY: the list is ours until its count is zero, and the caller has a part in it. If several frames fail, any of their
        // statuses will do.
        unsafe { (&raw mut (*list).Status).write(status) };
    }
    if Frame::outstanding(list).fetch_sub(1, Ordering::AcqRel) == 1
        && let Some(list) = NonNull::new(list)
    {
        // SAFETY: that was the last part: the list is nobody else's.
        unsafe { done.push(list) };
    }
}

impl Drop for Sender {
    /// IRQL: PASSIVE_LEVEL, nothing being sent.
    fn drop(&mut self) {
        // SAFETY: registered by `try_new`.
        unsafe { sys::NdisMDeregisterScatterGatherDma(self.dma) }
    }
}

/// The first bytes of a frame, as many as `storage` has: where they are if they are contiguous, else copied.
fn data(frame: Frame, storage: &mut [u8]) -> Option<&[u8]> {
    let len = storage.len();
    let wanted = u32::try_from(len).ok()?;
    // SAFETY: the frame is ours; the storage has as many bytes as are wanted. The answer is null (no mapping, or too short a frame),
    // the storage, or memory of the frame, which stays mapped while it is being sent.
    unsafe {
        let bytes =
            sys::NdisGetDataBuffer(frame.0.as_ptr(), wanted, storage.as_mut_ptr().cast(), 1, 0);
        let bytes = NonNull::new(bytes.cast::<u8>())?;
        Some(core::slice::from_raw_parts(bytes.as_ptr(), len))
    }
}

/// The pieces of a frame for the device, if there are not too many.
fn pieces(frame: Frame, most: usize) -> Option<ArrayVec<DmaPiece, MAX_PIECES>> {
    let list = frame.word(word::PIECES).cast::<SCATTER_GATHER_LIST>();
    // SAFETY: the list NDIS made for this frame, not given back yet.
    let elements = unsafe { elements(list.as_ref()?) };
    // The list begins where the current MDL does, and may go on behind the frame.
    // SAFETY: the frame is ours.
    let mut skip = unsafe { (*frame.0.as_ptr()).CurrentMdlOffset };
    let mut left = u32::try_from(frame.len()).ok()?;
    let mut pieces = ArrayVec::new();
    for element in elements {
        let offset = skip.min(element.Length);
        skip -= offset;
        let len = (element.Length - offset).min(left);
        if len > 0 {
            let addr = element
                .Address
                .cast_unsigned()
                .wrapping_add(u64::from(offset));
            pieces.try_push(DmaPiece { addr, len }).ok()?;
            left -= len;
        }
    }
    (left == 0 && pieces.len() <= most).then_some(pieces)
}

/// Receives the scatter/gather list of a frame. IRQL: DISPATCH_LEVEL.
unsafe extern "efiapi" fn list_made(
    _: *mut DEVICE_OBJECT,
    _: *mut c_void,
    list: *mut SCATTER_GATHER_LIST,
    context: *mut c_void,
) {
    let Some(frame) = NonNull::new(context).map(|context| Frame(context.cast())) else {
        return;
    };
    // SAFETY: the adapter stays as long as it has frames: halting follows pausing, which waits for them.
    let Some(adapter) = (unsafe { frame.word(word::ADAPTER).cast::<Adapter>().as_ref() }) else {
        return;
    };
    frame.set_word(word::PIECES, list.cast());
    let mut done = Chain::new();
    adapter
        .sender()
        .hand_over_waiting(adapter, Some(frame), &mut done);
    adapter.nic().kick();
    adapter.complete_sends(done);
}

impl Adapter {
    /// MiniportSendNetBufferLists. IRQL: <= DISPATCH_LEVEL, no lock held.
    ///
    /// # Safety
    /// `head` is the first of a chain of net buffer lists that NDIS gives to this adapter to send.
    pub unsafe fn send(&self, head: *mut NET_BUFFER_LIST) {
        at_dispatch(|| {
            let mut done = Chain::new();
            let mut refused = Chain::new();
            // SAFETY: the caller's promise.
            unsafe {
                unlink_each(head, |list| {
                    // Before anything is looked at that may refuse it: see `is_idle`.
                    self.sender().outstanding.fetch_add(1, Ordering::SeqCst);
                    let refusal = if self.is_removed() {
                        NDIS_STATUS_NOT_ACCEPTED
                    } else if self.is_asleep() {
                        NDIS_STATUS_LOW_POWER_STATE
                    } else if self.gate().enter() {
                        self.send_list(list, &mut done);
                        return;
                    } else {
                        NDIS_STATUS_PAUSED
                    };
                    (*list.as_ptr()).Status = refusal;
                    refused.push(list);
                });
            }
            self.complete_sends(done);
            self.complete(&refused);
        });
    }

    /// Sends one list, which has passed the gate.
    ///
    /// # Safety
    /// The list is the miniport's.
    unsafe fn send_list(&self, list: NonNull<NET_BUFFER_LIST>, done: &mut Chain) {
        let list = list.as_ptr();
        let me = core::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: by the caller's promise. The successor of a frame is read before the frame is given away.
        unsafe {
            (*list).Status = NDIS_STATUS_SUCCESS;
            // One part for this function, so that the list stays until it has seen the last frame.
            Frame::outstanding(list).store(1, Ordering::Relaxed);
            let mut next = NonNull::new((*list).FirstNetBuffer);
            while let Some(net_buffer) = next {
                next = NonNull::new((*net_buffer.as_ptr()).Next);
                let frame = Frame(net_buffer);
                frame.set_word(word::LIST, list.cast());
                frame.set_word(word::ADAPTER, me);
                frame.set_word(word::PIECES, null_mut());
                frame.set_next(None);
                Frame::outstanding(list).fetch_add(1, Ordering::Relaxed);
                let status = self.map(frame);
                if status != NDIS_STATUS_SUCCESS {
                    bump(&self.statistics().sent.errors);
                    self.sender().finish(frame, status, done);
                }
            }
        }
        finish_part(list, NDIS_STATUS_SUCCESS, done);
    }

    /// Has a scatter/gather list made, which continues the frame's way, now or later.
    fn map(&self, frame: Frame) -> NDIS_STATUS {
        let sender = self.sender();
        if frame.len() < ETHERNET_HEADER || frame.len() > sender.max_frame {
            return NDIS_STATUS_INVALID_LENGTH;
        }
        // SAFETY: the frame is ours, and this is DISPATCH_LEVEL. NDIS allocates the list.
        unsafe {
            sys::NdisMAllocateNetBufferSGList(
                sender.dma,
                frame.0.as_ptr(),
                frame.0.as_ptr().cast(),
                NDIS_SG_LIST_WRITE_TO_DEVICE,
                null_mut(),
                0,
            )
        }
    }

    /// The NIC is done with a frame: the address out of [`TxCookie::Ethernet`]. Its list goes to `done` if it was the last.
    /// IRQL: DISPATCH_LEVEL, no lock held.
    pub fn sent(&self, cookie: usize, done: &mut Chain) {
        if let Some(frame) = NonNull::new(core::ptr::with_exposed_provenance_mut(cookie)) {
            self.sender()
                .finish(Frame(frame), NDIS_STATUS_SUCCESS, done);
        }
    }

    /// There may be room again: sends what waits. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn send_waiting(&self, done: &mut Chain) {
        if self.sender().has_waiting() {
            self.sender().hand_over_waiting(self, None, done);
            self.nic().kick();
        }
    }

    /// Gives up the waiting frames that are `wanted`. IRQL: <= DISPATCH_LEVEL, no lock held.
    fn abort(&self, status: NDIS_STATUS, wanted: impl FnMut(Frame) -> bool) {
        at_dispatch(|| {
            let mut done = Chain::new();
            let mut taken = self.sender().waiting.lock().take_if(wanted);
            while let Some(frame) = taken.pop() {
                bump(&self.statistics().sent.discards);
                self.sender().finish(frame, status, &mut done);
            }
            self.complete_sends(done);
        });
    }

    /// Gives up all waiting frames, because the adapter pauses. IRQL: <= DISPATCH_LEVEL, no lock held.
    pub fn abort_all(&self) {
        self.abort(NDIS_STATUS_PAUSED, |_| true);
    }

    /// MiniportCancelSend: gives up waiting frames with a cancel identifier. IRQL: <= DISPATCH_LEVEL, no lock held.
    pub fn cancel_sends(&self, id: *mut c_void) {
        self.abort(NDIS_STATUS_SEND_ABORTED, |frame| {
            // SAFETY: the frame waits, so its list is ours.
            unsafe { (*frame.list()).NetBufferListInfo[NetBufferListCancelId as usize] == id }
        });
    }

    /// Completes lists that have passed the gate. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn complete_sends(&self, done: Chain) {
        self.complete(&done);
        self.leave_gate(u64::from(done.count()));
    }
}
