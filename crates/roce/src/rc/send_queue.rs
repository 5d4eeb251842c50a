//! The send queue: a ring of requests, their element lists and their inline data, all allocated when the queue is.

use super::responder::ATOMIC_LEN;
use super::sgl;
use crate::PdId;
use crate::completion::{CompletionOp, Status};
use crate::config::MAX_INLINE;
use crate::key::{Binding, KeyHold, KeyTable, MrKey, Registration};
use crate::psn::Psn;
use crate::rc::QpId;
use crate::request::{PostError, SendFlags, SendOp, SendRequest, Sge};
use crate::table::{OutOfMemory, try_vec};
use crate::wire::Opcode;
use alloc::vec::Vec;

/// What a request does, without its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Send,
    SendImmediate,
    SendInvalidate,
    Write,
    WriteImmediate,
    Read,
    CompareSwap,
    FetchAdd,
    FastRegister,
    Bind,
    Invalidate,
}

impl Kind {
    /// Whether its post has reserved an entry of the key table.
    pub fn reserves(self) -> bool {
        matches!(self, Kind::FastRegister | Kind::Bind)
    }

    /// Whether it takes receive memory of the peer's choice, not of this side's.
    pub fn is_send(self) -> bool {
        matches!(
            self,
            Kind::Send | Kind::SendImmediate | Kind::SendInvalidate
        )
    }

    /// Whether the peer completes a receive for it.
    pub fn consumes_receive(self) -> bool {
        self.is_send() || self == Kind::WriteImmediate
    }

    /// Whether it ends with an operation on eight bytes of the peer's memory.
    pub fn is_atomic(self) -> bool {
        matches!(self, Kind::CompareSwap | Kind::FetchAdd)
    }

    /// Whether the peer answers with data, of which the connection permits only so many requests at a time.
    pub fn awaits_data(self) -> bool {
        self == Kind::Read || self.is_atomic()
    }

    /// Whether `op` answers it with data.
    pub fn is_answered_by(self, op: Opcode) -> bool {
        self == Kind::Read && op.is_read_response()
            || self.is_atomic() && op == Opcode::AtomicAcknowledge
    }

    /// Whether nothing of it goes over the wire: it takes no PSN.
    pub fn is_local(self) -> bool {
        matches!(self, Kind::FastRegister | Kind::Bind | Kind::Invalidate)
    }
}

/// One posted request.
#[derive(Clone, Copy)]
pub(super) struct SendWqe {
    pub context: u64,
    /// WRITE, READ and atomics: the peer's address.
    pub remote_va: u64,
    /// WRITE, READ and atomics: the peer's key. SEND with invalidate: the key to invalidate. Local operations: the key that
    /// is registered, bound or invalidated.
    pub rkey: u32,
    /// A key that this request has invalidated and that transmissions may still read through; 0 for none.
    pub drains: u32,
    /// Data for the peer's completion.
    pub immediate: [u8; 4],
    /// Bytes of the message.
    pub len: u32,
    /// PSN of the first packet, once started.
    pub first_psn: Psn,
    /// PSNs the message takes, once started.
    pub packets: u32,
    /// What the peer's MSN was before it, once started; bits above 24 mean nothing.
    pub first_msn: u32,
    /// Transmissions that the NIC still holds.
    in_flight: u32,
    /// Elements whose keys are held for those transmissions, one bit each.
    held: u16,
    sge_count: u8,
    pub inline: bool,
    pub kind: Kind,
    pub flags: SendFlags,
    /// How it ended, if it has.
    pub outcome: Option<Status>,
}

impl SendWqe {
    const EMPTY: SendWqe = SendWqe {
        context: 0,
        remote_va: 0,
        rkey: 0,
        drains: 0,
        immediate: [0; 4],
        len: 0,
        first_psn: Psn::ZERO,
        packets: 0,
        first_msn: 0,
        in_flight: 0,
        held: 0,
        sge_count: 0,
        inline: false,
        kind: Kind::Send,
        flags: SendFlags::empty(),
        outcome: None,
    };

    /// Of an operation, everything else empty.
    fn of(op: &SendOp) -> SendWqe {
        let empty = SendWqe::EMPTY;
        let to = |kind, remote_va, rkey| SendWqe {
            kind,
            remote_va,
            rkey,
            ..empty
        };
        match *op {
            SendOp::Send => empty,
            SendOp::SendImmediate(immediate) => SendWqe {
                kind: Kind::SendImmediate,
                immediate,
                ..empty
            },
            SendOp::SendInvalidate(key) => to(Kind::SendInvalidate, 0, key),
            SendOp::Write { remote_va, rkey } => to(Kind::Write, remote_va, rkey),
            SendOp::WriteImmediate {
                remote_va,
                rkey,
                immediate,
            } => SendWqe {
                immediate,
                ..to(Kind::WriteImmediate, remote_va, rkey)
            },
            SendOp::Read { remote_va, rkey } => to(Kind::Read, remote_va, rkey),
            SendOp::CompareSwap {
                remote_va, rkey, ..
            } => to(Kind::CompareSwap, remote_va, rkey),
            SendOp::FetchAdd {
                remote_va, rkey, ..
            } => to(Kind::FetchAdd, remote_va, rkey),
            SendOp::FastRegister { key, .. } => to(Kind::FastRegister, 0, key.0),
            SendOp::Bind { window, .. } => to(Kind::Bind, 0, window.0),
            SendOp::Invalidate { key } => to(Kind::Invalidate, 0, key.0),
        }
    }

    /// What its completion says it was.
    pub fn completion_op(&self) -> CompletionOp {
        match self.kind {
            Kind::Send | Kind::SendImmediate | Kind::SendInvalidate => CompletionOp::Send,
            Kind::Write | Kind::WriteImmediate => CompletionOp::Write,
            Kind::Read => CompletionOp::Read,
            Kind::CompareSwap => CompletionOp::CompareSwap,
            Kind::FetchAdd => CompletionOp::FetchAdd,
            Kind::FastRegister => CompletionOp::FastRegister,
            Kind::Bind => CompletionOp::Bind,
            Kind::Invalidate => CompletionOp::Invalidate,
        }
    }
}

/// The numbers of an atomic request.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Operands {
    /// What is stored or added.
    pub swap_add: u64,
    /// COMPARE & SWAP: what is compared with.
    pub compare: u64,
}

impl Operands {
    /// Of an operation; `None` if it is no atomic one.
    fn of(op: &SendOp) -> Option<Operands> {
        match *op {
            SendOp::CompareSwap { compare, swap, .. } => Some(Operands {
                swap_add: swap,
                compare,
            }),
            SendOp::FetchAdd { add, .. } => Some(Operands {
                swap_add: add,
                compare: 0,
            }),
            _ => None,
        }
    }
}

/// What the queue was created for.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub depth: u32,
    pub send_sge: u32,
    pub read_sge: u32,
    pub inline: u32,
    pub atomics: bool,
    pub message: u32,
}

/// A ring of requests. Requests are named by a running number that wraps.
pub(super) struct SendQueue {
    wqes: Vec<SendWqe>,
    sges: Vec<Sge>,
    inline: Vec<u8>,
    /// Of atomic requests; empty if there are none.
    operands: Vec<Operands>,
    /// Slots minus one; their number is a power of two.
    mask: u32,
    sge_stride: usize,
    limits: Limits,
    /// Oldest request that has not completed.
    head: u32,
    /// The next to be posted.
    tail: u32,
}

impl SendQueue {
    pub fn try_new(limits: Limits) -> Result<SendQueue, OutOfMemory> {
        let slots = limits.depth.max(1).next_power_of_two();
        let sge_stride = limits.send_sge.max(limits.read_sge) as usize;
        let sges = (slots as usize)
            .checked_mul(sge_stride)
            .ok_or(OutOfMemory)?;
        let inline = (slots as usize)
            .checked_mul(limits.inline as usize)
            .ok_or(OutOfMemory)?;
        Ok(SendQueue {
            wqes: try_vec(slots as usize, |_| SendWqe::EMPTY)?,
            sges: try_vec(sges, |_| Sge::default())?,
            inline: try_vec(inline, |_| 0)?,
            operands: try_vec(if limits.atomics { slots as usize } else { 0 }, |_| {
                Operands::default()
            })?,
            mask: slots - 1,
            sge_stride,
            limits,
            head: 0,
            tail: 0,
        })
    }

    pub fn tail(&self) -> u32 {
        self.tail
    }

    pub fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    pub fn get(&self, seq: u32) -> Option<&SendWqe> {
        self.wqes.get((seq & self.mask) as usize)
    }

    pub fn get_mut(&mut self, seq: u32) -> Option<&mut SendWqe> {
        self.wqes.get_mut((seq & self.mask) as usize)
    }

    /// The element list of a request.
    pub fn sgl(&self, seq: u32) -> &[Sge] {
        let slot = (seq & self.mask) as usize;
        let count = self.wqes.get(slot).map_or(0, |w| usize::from(w.sge_count));
        let start = slot.wrapping_mul(self.sge_stride);
        self.sges
            .get(start..start.wrapping_add(count))
            .unwrap_or(&[])
    }

    /// The numbers of an atomic request.
    pub fn operands(&self, seq: u32) -> Operands {
        let slot = (seq & self.mask) as usize;
        self.operands.get(slot).copied().unwrap_or_default()
    }

    /// Part of a request's inline data.
    pub fn inline(&self, seq: u32, offset: u32, len: u32) -> Option<&[u8]> {
        let start = ((seq & self.mask) as usize)
            .wrapping_mul(self.limits.inline as usize)
            .wrapping_add(offset as usize);
        self.inline.get(start..start.wrapping_add(len as usize))
    }

    /// Adds a request of queue pair `qp` in `pd`. Gives the key that a registration will have.
    pub fn post(
        &mut self,
        request: &SendRequest<'_>,
        pd: PdId,
        qp: QpId,
        keys: &mut KeyTable,
    ) -> Result<Option<MrKey>, PostError> {
        if self.tail.wrapping_sub(self.head) >= self.limits.depth {
            return Err(PostError::QueueFull);
        }
        let mut wqe = SendWqe::of(&request.op);
        wqe.context = request.context;
        wqe.flags = request.flags;
        let kind = wqe.kind;
        let no_elements = request.sgl.is_empty() || request.inline.is_some();
        if kind.is_local() && !(request.sgl.is_empty() && request.inline.is_none())
            || request.flags.contains(SendFlags::INVALIDATE_LOCAL)
                && (kind != Kind::Read || no_elements)
        {
            return Err(PostError::InvalidRequest);
        }
        let slot = (self.tail & self.mask) as usize;
        if let Some(parts) = request.inline {
            wqe.len = self.copy_inline(slot, kind, parts)?;
            wqe.inline = true;
        } else {
            let max = if kind.awaits_data() {
                self.limits.read_sge
            } else {
                self.limits.send_sge
            };
            if request.sgl.len() > max as usize {
                return Err(PostError::TooManySges);
            }
            wqe.len = sgl::total(request.sgl)
                .filter(|n| *n <= self.limits.message)
                .ok_or(PostError::TooLong)?;
            if kind.is_atomic() && (wqe.len != ATOMIC_LEN || !self.limits.atomics) {
                return Err(PostError::InvalidRequest);
            }
            wqe.sge_count = request.sgl.len() as u8;
            let start = slot.wrapping_mul(self.sge_stride);
            for (to, from) in self.sges.iter_mut().skip(start).zip(request.sgl) {
                *to = *from;
            }
        }
        // Last, because it leaves something behind: nothing refuses the request any more.
        let new_key = reserve(&request.op, pd, qp, keys)?;
        if let Some(key) = new_key {
            wqe.rkey = key.0;
        }
        if let Some(w) = self.wqes.get_mut(slot) {
            *w = wqe;
        }
        if let Some((to, from)) = self.operands.get_mut(slot).zip(Operands::of(&request.op)) {
            *to = from;
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(new_key)
    }

    fn copy_inline(&mut self, slot: usize, kind: Kind, parts: &[&[u8]]) -> Result<u32, PostError> {
        if kind.awaits_data() {
            return Err(PostError::InvalidRequest);
        }
        let max = self.limits.inline.min(MAX_INLINE) as usize;
        let start = slot.wrapping_mul(self.limits.inline as usize);
        let room = self
            .inline
            .get_mut(start..start.wrapping_add(max))
            .ok_or(PostError::InlineTooLong)?;
        let mut used = 0usize;
        for part in parts {
            let end = used
                .checked_add(part.len())
                .ok_or(PostError::InlineTooLong)?;
            room.get_mut(used..end)
                .ok_or(PostError::InlineTooLong)?
                .copy_from_slice(part);
            used = end;
        }
        Ok(used as u32)
    }

    /// Notes that the NIC got a transmission of request `seq`, and keeps the memory behind it registered.
    pub fn transmission_started(&mut self, seq: u32, keys: &mut KeyTable) {
        let slot = (seq & self.mask) as usize;
        let Some(wqe) = self.wqes.get_mut(slot) else {
            return;
        };
        wqe.in_flight = wqe.in_flight.saturating_add(1);
        if wqe.in_flight == 1 {
            let start = slot.wrapping_mul(self.sge_stride);
            let sges = self
                .sges
                .iter()
                .skip(start)
                .take(usize::from(wqe.sge_count));
            for (i, e) in sges.enumerate() {
                if e.len > 0 && keys.hold(e.key).is_some() {
                    wqe.held |= 1 << (i & 15);
                }
            }
        }
    }

    /// Notes that the NIC is done with a transmission of request `seq`.
    pub fn transmission_ended(&mut self, seq: u32, keys: &mut KeyTable) {
        let slot = (seq & self.mask) as usize;
        let Some(wqe) = self.wqes.get_mut(slot) else {
            return;
        };
        wqe.in_flight = wqe.in_flight.saturating_sub(1);
        if wqe.in_flight == 0 {
            let start = slot.wrapping_mul(self.sge_stride);
            let sges = self
                .sges
                .iter()
                .skip(start)
                .take(usize::from(wqe.sge_count));
            for (i, e) in sges.enumerate() {
                if wqe.held & 1 << (i & 15) != 0 {
                    keys.release(KeyHold::of(e.key));
                }
            }
            wqe.held = 0;
        }
    }

    /// Removes the oldest request if it has ended and the NIC holds neither it nor what it has invalidated. In a failed queue every request has ended:
    /// those without a status of their own as flushed.
    pub fn pop_finished(&mut self, failed: bool, keys: &KeyTable) -> Option<(SendWqe, Status)> {
        if self.is_empty() {
            return None;
        }
        let wqe = *self.get(self.head)?;
        if wqe.in_flight > 0 || wqe.drains != 0 && keys.is_draining(wqe.drains) {
            return None;
        }
        let status = match wqe.outcome {
            Some(status) => status,
            None if failed => Status::Flushed,
            None => return None,
        };
        self.head = self.head.wrapping_add(1);
        Some((wqe, status))
    }
}

/// Checks what a local operation needs of its key, and reserves it. Gives the key that a registration will have.
fn reserve(
    op: &SendOp,
    pd: PdId,
    qp: QpId,
    keys: &mut KeyTable,
) -> Result<Option<MrKey>, PostError> {
    match *op {
        SendOp::FastRegister {
            key,
            base,
            len,
            access,
            region,
        } => {
            let registration = Registration {
                base,
                len,
                access,
                region,
            };
            keys.post_fast(key, pd, qp, &registration).map(Some)
        }
        SendOp::Bind {
            window,
            mr,
            va,
            len,
            access,
        } => {
            let binding = Binding {
                mr,
                va,
                len,
                access,
            };
            keys.post_bind(window, pd, qp, &binding).map(Some)
        }
        SendOp::Invalidate { key } => keys.check_invalidatable(key, pd).map(|()| None),
        _ => Ok(None),
    }
}
