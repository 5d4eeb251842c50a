//! A request as it was posted, and what its packets say.

use super::{MTU, RKEY};
use crate::util::raw::Reply;
use roce::wire::Opcode::{self, *};
use roce::wire::{AtomicEth, Reth};
use roce::{CompletionOp, SendFlags, SendOp};

/// A request as it was posted.
#[derive(Clone, Debug)]
pub struct Posted {
    pub context: u64,
    pub op: SendOp,
    pub len: u32,
    /// What it sends.
    pub bytes: Vec<u8>,
    /// Where what it brings goes.
    pub to: u32,
    pub flags: SendFlags,
    /// Its packets, counted from the first of the connection.
    pub first: u32,
    pub packets: u32,
}

impl Posted {
    pub fn brings_data(&self) -> bool {
        matches!(
            self.op,
            SendOp::Read { .. } | SendOp::CompareSwap { .. } | SendOp::FetchAdd { .. }
        )
    }

    pub fn is_atomic(&self) -> bool {
        self.brings_data() && !matches!(self.op, SendOp::Read { .. })
    }

    pub fn end(&self) -> u32 {
        self.first + self.packets
    }

    pub fn completes_as(&self) -> CompletionOp {
        match self.op {
            SendOp::Write { .. } | SendOp::WriteImmediate { .. } => CompletionOp::Write,
            SendOp::Read { .. } => CompletionOp::Read,
            SendOp::CompareSwap { .. } => CompletionOp::CompareSwap,
            SendOp::FetchAdd { .. } => CompletionOp::FetchAdd,
            _ => CompletionOp::Send,
        }
    }

    /// A READ request or an atomic one asks for what is missing. Says for how many packets.
    pub fn check_request(&self, index: u32, r: &Reply) -> u32 {
        assert!(
            r.ack_request && r.payload.is_empty() && !r.solicited,
            "{r:?}"
        );
        let atomic = |remote_va, swap_add, compare| {
            Some(AtomicEth {
                va: remote_va,
                rkey: RKEY,
                swap_add,
                compare,
            })
        };
        match self.op {
            SendOp::Read { remote_va, rkey } => {
                let reth = r.reth.unwrap();
                let skip = index * MTU;
                let rest = self.len - skip;
                assert_eq!((r.op, reth.rkey), (ReadRequest, rkey));
                assert_eq!(reth.va, remote_va + u64::from(skip));
                // All of it, or some packets.
                let part = reth.len > 0 && reth.len < rest && reth.len.is_multiple_of(MTU);
                assert!(reth.len == rest || part, "{self:?} {r:?}");
                reth.len.div_ceil(MTU).max(1)
            }
            SendOp::CompareSwap {
                remote_va,
                compare,
                swap,
                ..
            } => {
                assert_eq!(r.op, CompareSwap);
                assert_eq!(r.atomic, atomic(remote_va, swap, compare));
                1
            }
            SendOp::FetchAdd { remote_va, add, .. } => {
                assert_eq!(r.op, FetchAdd);
                assert_eq!(r.atomic, atomic(remote_va, add, 0));
                1
            }
            _ => panic!("{self:?}"),
        }
    }

    /// A packet with data has its part of them, and the headers of its place.
    pub fn check_data(&self, index: u32, fresh: bool, r: &Reply) {
        let (first, last) = (index == 0, index + 1 == self.packets);
        let place = match (first, last) {
            (true, true) => 3,
            (true, false) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        let send = [SendFirst, SendMiddle];
        let write = [WriteFirst, WriteMiddle];
        let ops: [Opcode; 4] = match self.op {
            SendOp::Send => [send[0], send[1], SendLast, SendOnly],
            SendOp::SendImmediate(_) => [send[0], send[1], SendLastImm, SendOnlyImm],
            SendOp::SendInvalidate(_) => [send[0], send[1], SendLastInvalidate, SendOnlyInvalidate],
            SendOp::Write { .. } => [write[0], write[1], WriteLast, WriteOnly],
            SendOp::WriteImmediate { .. } => [write[0], write[1], WriteLastImm, WriteOnlyImm],
            _ => panic!("{self:?}"),
        };
        assert_eq!(r.op, ops[place], "{self:?}");
        let (reth, immediate, invalidate) = match self.op {
            SendOp::Write { remote_va, rkey } => (Some((remote_va, rkey)), None, None),
            SendOp::WriteImmediate {
                remote_va,
                rkey,
                immediate,
            } => (Some((remote_va, rkey)), Some(immediate), None),
            SendOp::SendImmediate(immediate) => (None, Some(immediate), None),
            SendOp::SendInvalidate(key) => (None, None, Some(key)),
            _ => (None, None, None),
        };
        let reth = reth.filter(|_| first).map(|(va, rkey)| Reth {
            va,
            rkey,
            len: self.len,
        });
        assert_eq!(r.reth, reth);
        assert_eq!(r.immediate, immediate.filter(|_| last));
        assert_eq!(r.invalidate, invalidate.filter(|_| last));
        let wakes =
            self.flags.contains(SendFlags::SOLICITED) && !matches!(self.op, SendOp::Write { .. });
        assert_eq!(r.solicited, last && wakes, "{self:?}");
        assert!(
            r.ack_request || !(last && fresh),
            "nobody would answer: {r:?}"
        );
        let from = (index * MTU) as usize;
        let to = self.bytes.len().min(from + MTU as usize);
        assert!(r.payload == self.bytes[from..to], "{self:?} {index}");
    }
}
