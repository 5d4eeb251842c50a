//! The send path: frames from the protocol to the miniport and back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdm::MDL;

use super::adapter::{Adapter, State};
use super::{ndis, rules};
use crate::verifier::{Function, rules as kernel, violation};
use crate::world::address_map::AddressMap;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::{self, DISPATCH, PASSIVE};
use crate::world::{context, thread};

/// Sends outstanding at an adapter.
#[derive(Default)]
pub(crate) struct Sends {
    /// Lists the miniport owns, by address.
    outstanding: RefCell<AddressMap<Sent>>,
    /// Counts sends by result.
    pub(crate) completed: Cell<u64>,
    pub(crate) failed: Cell<u64>,
    pub(crate) cancelled: Cell<u64>,
    /// The kernel thread on which MiniportCancelSend runs.
    cancelling: Cell<Option<usize>>,
}

/// A list on its way, with the memory it is made of. It comes back as it went: what of it is the miniport's to use is not
/// compared.
struct Sent {
    list: *mut NET_BUFFER_LIST,
    buffers: Vec<(*mut NET_BUFFER, Data)>,
    mdls: Vec<(*mut MDL, Described)>,
    data: Vec<usize>,
    /// Of its data.
    sum: Option<u64>,
    cancel_id: usize,
    /// MiniportCancelSend has been called for it.
    cancelled: bool,
    since: u64,
}

/// What data a net buffer has: its chain, current MDL and offset in it, offset and length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Data(*mut MDL, *mut MDL, u32, u32, usize);

impl Data {
    /// # Safety
    /// `buffer` is alive.
    unsafe fn of(buffer: *const NET_BUFFER) -> Data {
        // SAFETY: promised by the caller.
        unsafe {
            Data(
                (*buffer).MdlChain,
                (*buffer).CurrentMdl,
                (*buffer).CurrentMdlOffset,
                (*buffer).DataOffset,
                (*buffer).Anonymous.stDataLength,
            )
        }
    }
}

/// What an MDL describes: the next one, its first page, offset and length.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Described(*mut MDL, *mut c_void, u32, u32);

impl Described {
    /// # Safety
    /// `mdl` is alive.
    unsafe fn of(mdl: *const MDL) -> Described {
        // SAFETY: promised by the caller.
        unsafe {
            Described(
                (*mdl).Next,
                (*mdl).StartVa,
                (*mdl).ByteOffset,
                (*mdl).ByteCount,
            )
        }
    }
}

static SEND: Function = Function::callback("MiniportSendNetBufferLists", PASSIVE..=DISPATCH);
static CANCEL: Function = Function::callback("MiniportCancelSend", PASSIVE..=DISPATCH);
const BY: &str = "TCP/IP's sends";

impl Sends {
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.borrow().len()
    }

    /// How many are outstanding, and since when the first of them.
    pub(super) fn oldest(&self) -> (usize, Option<u64>) {
        let outstanding = self.outstanding.borrow();
        let since = outstanding.values().map(|sent| sent.since).min();
        (outstanding.len(), since)
    }
}

impl Sends {
    /// What is wrong with a list's status as far as MiniportCancelSend is concerned: that gives up what waits, with
    /// NDIS_STATUS_SEND_ABORTED, and leaves alone what the hardware has (page miniport-cancel-send).
    fn judge_cancelling(&self, sent: &Sent, status: NDIS_STATUS) -> Option<&'static str> {
        let in_handler = self.cancelling.get() == Some(thread::number())
            && context::with_processor(|p| p.nested()) == 0;
        match status {
            NDIS_STATUS_SUCCESS => None,
            NDIS_STATUS_SEND_ABORTED if sent.cancelled => None,
            NDIS_STATUS_SEND_ABORTED => {
                Some("is completed with NDIS_STATUS_SEND_ABORTED, and nobody has cancelled it")
            }
            _ if sent.cancelled && in_handler => Some(
                "is given up in MiniportCancelSend, and not completed with NDIS_STATUS_SEND_ABORTED",
            ),
            // The hardware had it, as far as anybody can tell.
            _ => None,
        }
    }
}

/// Whether a list is in some miniport's hands as a send.
pub(crate) fn outstanding(list: *mut NET_BUFFER_LIST) -> bool {
    ndis()
        .adapters
        .borrow()
        .iter()
        .any(|a| a.sends.outstanding.borrow().contains_key(&list.addr()))
}

/// Builds a list for frames, a net buffer for each.
fn build(
    machine: &Machine,
    adapter: &Adapter,
    frames: &[Vec<u8>],
    cancel_id: usize,
) -> Option<Sent> {
    let list = machine.kernel_alloc(size_of::<NET_BUFFER_LIST>(), BY)?;
    let mut sent = Sent {
        list: std::ptr::with_exposed_provenance_mut(list),
        buffers: Vec::new(),
        mdls: Vec::new(),
        data: Vec::new(),
        sum: None,
        cancel_id,
        cancelled: false,
        since: context::core().now(),
    };
    for frame in frames {
        let buffer = sent.add(machine, frame)?;
        // SAFETY: made just before.
        unsafe {
            match sent.buffers.last() {
                Some(&(last, _)) => (*last).Next = buffer,
                None => (*sent.list).FirstNetBuffer = buffer,
            }
        }
        // SAFETY: likewise.
        let data = unsafe { Data::of(buffer) };
        sent.buffers.push((buffer, data));
    }
    for (mdl, described) in &mut sent.mdls {
        // SAFETY: likewise.
        *described = unsafe { Described::of(*mdl) };
    }
    // SAFETY: freshly allocated, zeroed, of the right size.
    unsafe {
        (*sent.list).NetBufferListInfo[NetBufferListCancelId as usize] =
            std::ptr::without_provenance_mut(cancel_id);
        (*sent.list).SourceHandle = adapter.handle.get();
        (*sent.list).Status = NDIS_STATUS_PENDING;
        sent.sum = super::mdl::sum(sent.list);
    }
    Some(sent)
}

impl Sent {
    /// Makes a net buffer for a frame: in one or two MDLs, at an offset, as protocols do.
    fn add(&mut self, machine: &Machine, frame: &[u8]) -> Option<*mut NET_BUFFER> {
        let rng = &context::core().rng;
        // The header in a piece of its own every other time, and never at the beginning of its memory.
        let cut = if rng.below(2) == 0 && frame.len() > 14 {
            14
        } else {
            frame.len()
        };
        let mut first: *mut MDL = std::ptr::null_mut();
        let mut last: *mut MDL = std::ptr::null_mut();
        let head_room = rng.below(64) as usize;
        for (piece, room) in [(&frame[..cut], head_room), (&frame[cut..], 0)] {
            if piece.is_empty() {
                continue;
            }
            let at = machine.kernel_alloc(room + piece.len(), BY)?;
            let to: *mut u8 = std::ptr::with_exposed_provenance_mut(at);
            // SAFETY: freshly allocated with that many bytes.
            unsafe {
                to.add(room)
                    .copy_from_nonoverlapping(piece.as_ptr(), piece.len())
            };
            self.data.push(at);
            let mdl = super::mdl::over(machine, at, room + piece.len())?;
            if first.is_null() {
                first = mdl;
            } else {
                // SAFETY: made just before.
                unsafe { (*last).Next = mdl };
            }
            last = mdl;
            // SAFETY: made just before.
            self.mdls.push((mdl, unsafe { Described::of(mdl) }));
        }
        let buffer = machine.kernel_alloc(size_of::<NET_BUFFER>(), BY)?;
        let buffer: *mut NET_BUFFER = std::ptr::with_exposed_provenance_mut(buffer);
        // SAFETY: freshly allocated, zeroed, of the right sizes.
        unsafe {
            (*buffer).MdlChain = first;
            (*buffer).CurrentMdl = first;
            (*buffer).CurrentMdlOffset = head_room as u32;
            (*buffer).DataOffset = head_room as u32;
            (*buffer).Anonymous.stDataLength = frame.len();
        }
        Some(buffer)
    }
}

/// Gives frames to the miniport, those of each group in one list, all of which can be cancelled by that identifier. They
/// are dropped when it is not running.
pub(crate) fn send(adapter: &Rc<Adapter>, groups: &[Vec<Vec<u8>>], cancel_id: usize) {
    let closed = adapter.state.get() != State::Running || adapter.resets.under_way();
    if groups.is_empty() || closed {
        return;
    }
    let Some(handler) = adapter.driver.handlers.SendNetBufferListsHandler else {
        return;
    };
    let machine = adapter.machine();
    let mut first: *mut NET_BUFFER_LIST = std::ptr::null_mut();
    let mut last: *mut NET_BUFFER_LIST = std::ptr::null_mut();
    for frames in groups {
        let Some(sent) = build(&machine, adapter, frames, cancel_id) else {
            continue;
        };
        let list = sent.list;
        adapter
            .sends
            .outstanding
            .borrow_mut()
            .insert(list.addr(), sent);
        if first.is_null() {
            first = list;
        } else {
            // SAFETY: made just before.
            unsafe { (*last).Next = list };
        }
        last = list;
    }
    if first.is_null() {
        return;
    }
    // Protocols send from threads and from DPCs.
    let dispatch = context::irql() >= DISPATCH || context::core().rng.below(2) == 0;
    let _raised = (dispatch && context::irql() < DISPATCH).then(|| processor::raise_irql(DISPATCH));
    let flags = if dispatch {
        NDIS_SEND_FLAGS_DISPATCH_LEVEL
    } else {
        0
    };
    let _charged = adapter.driver.driver.charge();
    // SAFETY: a handler the driver registered, called as its type demands.
    call_driver(&SEND, handler as *const (), || unsafe {
        handler(
            adapter.context.get(),
            first,
            NDIS_DEFAULT_PORT_NUMBER,
            flags,
        );
    });
}

/// Asks the miniport to give up queued sends with an identifier.
pub(crate) fn cancel(adapter: &Adapter, cancel_id: usize) {
    let Some(handler) = adapter.driver.handlers.CancelSendHandler else {
        return;
    };
    let _charged = adapter.driver.driver.charge();
    for sent in adapter.sends.outstanding.borrow_mut().values_mut() {
        sent.cancelled |= sent.cancel_id == cancel_id;
    }
    let cancelling = &adapter.sends.cancelling;
    call_driver(&CANCEL, handler as *const (), || {
        cancelling.set(Some(thread::number()));
        // SAFETY: a handler the driver registered, called as its type demands.
        unsafe {
            handler(
                adapter.context.get(),
                std::ptr::without_provenance_mut(cancel_id),
            );
        }
        cancelling.set(None);
    });
}

/// `NdisMSendNetBufferListsComplete`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn complete(handle: NDIS_HANDLE, lists: *mut NET_BUFFER_LIST, flags: u32) {
    const F: &str = "NdisMSendNetBufferListsComplete";
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, F) else {
        return;
    };
    if flags & NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL != 0 && context::irql() != DISPATCH {
        violation(
            rules::SEND,
            format!(
                "{F}: NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL at IRQL {}",
                context::irql()
            ),
        );
    }
    if lists.is_null() {
        violation(rules::SEND, format!("{F}: null list"));
        return;
    }
    let machine = adapter.machine();
    let mut list = lists;
    while !list.is_null() {
        let Some(sent) = adapter.sends.outstanding.borrow_mut().remove(&list.addr()) else {
            violation(
                rules::SEND,
                format!(
                    "{F}: {list:p} is not outstanding at this adapter: completed twice, or never sent"
                ),
            );
            return;
        };
        // SAFETY: outstanding until now, so it is alive.
        let (next, status, unchanged) =
            unsafe { ((*list).Next, (*list).Status, sent.is_unchanged()) };
        if !unchanged {
            violation(
                rules::SEND,
                format!("{F}: the net buffers or MDLs of {list:p} are not as they were sent"),
            );
        // SAFETY: likewise.
        } else if unsafe { super::mdl::sum(list) } != sent.sum {
            violation(
                kernel::MDL_INVARIANT,
                format!("{F}: the data of {list:p} is not what was sent"),
            );
        }
        match status {
            NDIS_STATUS_SUCCESS => adapter
                .sends
                .completed
                .set(adapter.sends.completed.get() + 1),
            NDIS_STATUS_SEND_ABORTED => adapter
                .sends
                .cancelled
                .set(adapter.sends.cancelled.get() + 1),
            NDIS_STATUS_INVALID_LENGTH
            | NDIS_STATUS_RESOURCES
            | NDIS_STATUS_PAUSED
            | NDIS_STATUS_RESET_IN_PROGRESS
            | NDIS_STATUS_REQUEST_ABORTED
            | NDIS_STATUS_LOW_POWER_STATE
            | NDIS_STATUS_NOT_ACCEPTED
            | NDIS_STATUS_FAILURE => adapter.sends.failed.set(adapter.sends.failed.get() + 1),
            other => {
                violation(
                    rules::SEND,
                    format!(
                        "{F}: Status {:#x} is none a miniport may complete with",
                        other
                    ),
                );
            }
        }
        if let Some(wrong) = adapter.sends.judge_cancelling(&sent, status) {
            violation(rules::SEND, format!("{F}: {list:p} {wrong}"));
        }
        let mapped = |(buffer, _): &(*mut NET_BUFFER, Data)| {
            adapter
                .sg_dma
                .borrow()
                .iter()
                .any(|d| d.has_list_of(*buffer))
        };
        if sent.buffers.iter().any(mapped) {
            violation(
                rules::DMA,
                format!("{F}: a net buffer of {list:p} still has a scatter/gather list"),
            );
        }
        sent.free(&machine);
        list = next;
    }
}

impl Sent {
    /// Whether the list has the net buffers that it was made of, and they their data.
    ///
    /// # Safety
    /// All are alive.
    unsafe fn is_unchanged(&self) -> bool {
        // SAFETY: promised by the caller; followed only as long as it is as it was.
        unsafe {
            let mut next = (*self.list).FirstNetBuffer;
            for &(buffer, data) in &self.buffers {
                if next != buffer || Data::of(buffer) != data {
                    return false;
                }
                next = (*buffer).Next;
            }
            let same = |(mdl, was): &(*mut MDL, Described)| Described::of(*mdl) == *was;
            next.is_null() && self.mdls.iter().all(same)
        }
    }

    fn free(self, machine: &Machine) {
        for (mdl, _) in self.mdls {
            // SAFETY: made by `super::mdl::over`, back from the miniport.
            unsafe { super::mdl::free(machine, mdl) };
        }
        for address in self.data {
            machine.pool_free(address, None, BY);
        }
        for (buffer, _) in self.buffers {
            machine.pool_free(buffer.expose_provenance(), None, BY);
        }
        machine.pool_free(self.list.expose_provenance(), None, BY);
    }
}
