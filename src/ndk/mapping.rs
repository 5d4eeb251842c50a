//! Memory mapped for the processor and for the NIC.
//!
//! A consumer names memory by MDLs. Their virtual addresses are indexes only and are never read at: each MDL of a registration is
//! mapped into system space through a partial MDL of the provider's own, so that the consumer's MDLs stay exactly as they were.
//!
//! For the NIC the system makes a scatter/gather list of each MDL, and that may take until others have given back map registers: a
//! mapping gathers its lists, and who asked for it is told when it has them all.
//!
//! IRQL: <= DISPATCH_LEVEL. Mapping and unmapping hold no lock.
#![allow(unsafe_code, reason = "maps the consumer's MDLs")]

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::task::Poll;

use arrayvec::ArrayVec;
use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_PARAMETER};
use ndis_sys::types::NTSTATUS;
use nt::dma::{Adapter, Receive, ScatterGather};
use nt::mdl::{MdlRef, OwnedMdl};
use nt::{Shared, SpinLock};
use roce::Fault;

use super::limits::MAX_REGISTRATION;
use crate::nic::DmaPiece;

/// A stretch that is contiguous for the processor: what one MDL describes.
struct Part {
    /// Bytes from the start of the mapping.
    offset: u64,
    length: u64,
    address: NonNull<u8>,
    /// Keeps the partial MDL, whose mapping `address` is in. None while it is being made.
    list: Option<ScatterGather>,
}

/// A stretch that is contiguous for the NIC.
#[derive(Clone, Copy)]
struct Logical {
    /// Bytes from the start of the mapping.
    offset: u64,
    length: u64,
    address: u64,
}

/// Memory mapped for the processor and for the NIC. Unmapped when dropped (IRQL <= DISPATCH_LEVEL, no lock held).
pub struct Mapping {
    parts: Vec<Part>,
    nic: Vec<Logical>,
}

// SAFETY: the addresses are those of system mappings that the partial MDLs of the same parts keep; they are good on every processor.
unsafe impl Send for Part {}

/// Who waits for a mapping.
pub trait Waiter: Send + 'static {
    /// The mapping, or why there is none. From the routine that takes the last list: IRQL = DISPATCH_LEVEL, no lock held.
    fn mapped(self, mapping: Result<Mapping, NTSTATUS>);
}

/// A mapping that is being made.
struct Gathering<W> {
    parts: Vec<Part>,
    /// Lists still to come; and one for who asks for them, until he has asked for all.
    missing: usize,
    outcome: Result<(), NTSTATUS>,
    waiter: W,
}

/// None once everything is there and was taken. The lock is the last one to be taken, and nothing is called under it.
struct Gather<W>(SpinLock<Option<Gathering<W>>>);

/// One part's place in it.
struct Place<W> {
    gather: Shared<Gather<W>>,
    index: usize,
}

impl<W: Waiter> Receive for Place<W> {
    fn receive(self, list: Option<ScatterGather>) {
        let whole = self.gather.bring(|gathering| match list {
            Some(list) => {
                if let Some(part) = gathering.parts.get_mut(self.index) {
                    part.list = Some(list);
                }
            }
            None => gathering.outcome = Err(STATUS_INSUFFICIENT_RESOURCES),
        });
        if let Some(Gathering {
            parts,
            outcome,
            waiter,
            ..
        }) = whole
        {
            waiter.mapped(outcome.and_then(|()| Mapping::of(parts)));
        }
    }
}

impl<W: Waiter> Gather<W> {
    /// Adds a part, of which the list is to come. There is room for it. Gives its index.
    fn expect(&self, part: Part) -> usize {
        let mut slot = self.0.lock();
        let Some(gathering) = slot.as_mut() else {
            return usize::MAX;
        };
        gathering.missing += 1;
        gathering.parts.push(part);
        gathering.parts.len() - 1
    }

    /// Notes one of the things that are missing. Gives everything if it was the last.
    fn bring(&self, note: impl FnOnce(&mut Gathering<W>)) -> Option<Gathering<W>> {
        let mut slot = self.0.lock();
        let gathering = slot.as_mut()?;
        note(gathering);
        gathering.missing -= 1;
        slot.take_if(|gathering| gathering.missing == 0)
    }

    /// Asks for the lists of the first `length` bytes of a chain of MDLs, which are contiguous.
    ///
    /// # Safety
    /// As for [`map`].
    unsafe fn ask(
        this: &Shared<Self>,
        dma: &Adapter,
        first: MdlRef<'_>,
        length: u64,
    ) -> Result<(), NTSTATUS> {
        let mut offset = 0_u64;
        for mdl in first.chain() {
            if offset == length {
                break;
            }
            let take = (length - offset).min(u64::from(mdl.byte_count())) as u32;
            if take == 0 {
                continue;
            }
            // SAFETY: the pages stay locked as long as the part lives, by the caller's promise.
            let own = unsafe { OwnedMdl::partial(mdl, 0, take) }
                .map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
            let address = own
                .as_ref()
                .system_address()
                .ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
            let index = this.expect(Part {
                offset,
                length: u64::from(take),
                address,
                list: None,
            });
            let place = Place {
                gather: this.clone(),
                index,
            };
            // SAFETY: as above.
            if unsafe { dma.scatter_gather(own, true, place) }.is_err() {
                // The asker's own share is still missing.
                this.bring(|_| ());
                return Err(STATUS_INSUFFICIENT_RESOURCES);
            }
            offset += u64::from(take);
        }
        Ok(())
    }
}

/// Maps the first `length` bytes of a chain of MDLs. If that takes longer than this call, `waiter` hears of the outcome, perhaps before
/// this returns; otherwise it is dropped.
///
/// STATUS_INVALID_PARAMETER if the bytes are not virtually contiguous, if the chain is shorter, or if there are more than
/// MaxRegistrationSize of them; STATUS_INSUFFICIENT_RESOURCES if they cannot be mapped. IRQL <= DISPATCH_LEVEL, no lock held.
///
/// # Safety
/// The pages of the chain are locked and stay so until the mapping is dropped, or it is known that there is none.
pub unsafe fn map<W: Waiter>(
    dma: &Adapter,
    first: MdlRef<'_>,
    length: usize,
    waiter: W,
) -> Poll<Result<Mapping, NTSTATUS>> {
    let gather = match gather(first, length as u64, waiter) {
        Ok(gather) => gather,
        Err(status) => return Poll::Ready(Err(status)),
    };
    // SAFETY: by the contract of this function.
    let asked = unsafe { Gather::ask(&gather, dma, first, length as u64) };
    let whole = gather.bring(|gathering| gathering.outcome = gathering.outcome.and(asked));
    match whole {
        Some(Gathering { parts, outcome, .. }) => {
            Poll::Ready(outcome.and_then(|()| Mapping::of(parts)))
        }
        None => Poll::Pending,
    }
}

/// Room for the parts of a mapping that can be made.
fn gather<W>(first: MdlRef<'_>, length: u64, waiter: W) -> Result<Shared<Gather<W>>, NTSTATUS> {
    if length == 0 || length > MAX_REGISTRATION as u64 {
        return Err(STATUS_INVALID_PARAMETER);
    }
    let mut parts = Vec::new();
    parts
        .try_reserve_exact(contiguous_parts(first, length)?)
        .map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
    Shared::try_new(Gather(SpinLock::new(Some(Gathering {
        parts,
        missing: 1,
        outcome: Ok(()),
        waiter,
    }))))
    .map_err(|_| STATUS_INSUFFICIENT_RESOURCES)
}

impl Mapping {
    /// The mapping that consists of these parts.
    fn of(parts: Vec<Part>) -> Result<Self, NTSTATUS> {
        let mut nic = Vec::new();
        for part in &parts {
            let list = part.list.as_ref().ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
            add_list(&mut nic, list, part)?;
        }
        Ok(Self { parts, nic })
    }

    /// Hands the processor's view of a range to `each`, stretch by stretch.
    pub fn processor_range(
        &self,
        offset: u64,
        length: u64,
        mut each: impl FnMut(NonNull<u8>, usize),
    ) -> Result<(), Fault> {
        let mut at = offset;
        let end = offset.checked_add(length).ok_or(Fault)?;
        let first = self
            .parts
            .partition_point(|part| part.offset + part.length <= offset);
        for part in self.parts.iter().skip(first) {
            if at >= end {
                break;
            }
            let inside = at - part.offset;
            let take = (part.length - inside).min(end - at);
            // SAFETY: `inside` is less than the length of the mapping that `address` starts.
            each(unsafe { part.address.add(inside as usize) }, take as usize);
            at += take;
        }
        if at >= end { Ok(()) } else { Err(Fault) }
    }

    /// Appends the NIC's view of a range. False if the range is not there or has more stretches than fit.
    pub fn nic_range<const N: usize>(
        &self,
        offset: u64,
        length: u64,
        out: &mut ArrayVec<DmaPiece, N>,
    ) -> bool {
        let mut at = offset;
        let Some(end) = offset.checked_add(length) else {
            return false;
        };
        let first = self
            .nic
            .partition_point(|part| part.offset + part.length <= offset);
        for part in self.nic.iter().skip(first) {
            if at >= end {
                break;
            }
            let inside = at - part.offset;
            let take = (part.length - inside).min(end - at);
            if out
                .try_push(DmaPiece {
                    addr: part.address + inside,
                    len: take as u32,
                })
                .is_err()
            {
                return false;
            }
            at += take;
        }
        at >= end
    }
}

/// Appends the stretches of a part's list.
fn add_list(nic: &mut Vec<Logical>, list: &ScatterGather, part: &Part) -> Result<(), NTSTATUS> {
    let mut offset = part.offset;
    let end = offset + part.length;
    nic.try_reserve(list.elements().len())
        .map_err(|_| STATUS_INSUFFICIENT_RESOURCES)?;
    for element in list.elements() {
        let address = element.Address.cast_unsigned();
        let length = u64::from(element.Length).min(end - offset);
        match nic.last_mut() {
            Some(last) if last.address + last.length == address => last.length += length,
            _ => nic.push(Logical {
                offset,
                length,
                address,
            }),
        }
        offset += length;
    }
    // A list that does not cover the buffer would make the NIC read something else.
    if offset == end {
        Ok(())
    } else {
        Err(STATUS_INSUFFICIENT_RESOURCES)
    }
}

/// How many MDLs of the chain the first `length` bytes touch, provided they are virtually contiguous.
fn contiguous_parts(first: MdlRef<'_>, length: u64) -> Result<usize, NTSTATUS> {
    let mut parts = 0;
    let mut covered = 0_u64;
    let mut expected = first.virtual_address() as u64;
    for mdl in first.chain() {
        let count = u64::from(mdl.byte_count());
        if count == 0 {
            continue;
        }
        if mdl.virtual_address() as u64 != expected {
            return Err(STATUS_INVALID_PARAMETER);
        }
        expected = expected
            .checked_add(count)
            .ok_or(STATUS_INVALID_PARAMETER)?;
        parts += 1;
        covered += count;
        if covered >= length {
            return Ok(parts);
        }
    }
    Err(STATUS_INVALID_PARAMETER)
}
