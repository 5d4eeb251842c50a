//! What an answer says, and of which packet.

use super::link::Link;
use super::send_queue::{Kind, SendWqe};
use crate::completion::Status;
use crate::psn::Psn;
use crate::wire::{NakCode, Syndrome};

/// What the syndrome of an answer says of the packet that it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// It has been executed, and all before it.
    Executed,
    /// The peer lacks what it needs, and asks to be left alone for the time of this code.
    NotReady(u8),
    /// It is missing.
    Missing,
    /// It ends the connection, and its request with this status.
    Refused(Status),
}

impl Said {
    /// `None` if it means nothing: the code is reserved, or of another transport.
    pub fn of(syndrome: Syndrome) -> Option<Said> {
        Some(match syndrome {
            Syndrome::Ack { .. } => Said::Executed,
            Syndrome::RnrNak { timer } => Said::NotReady(timer),
            Syndrome::Nak(NakCode::PsnSequence) => Said::Missing,
            Syndrome::Nak(NakCode::InvalidRequest) => Said::Refused(Status::RemoteInvalidRequest),
            Syndrome::Nak(NakCode::RemoteAccess) => Said::Refused(Status::RemoteAccess),
            Syndrome::Nak(NakCode::RemoteOperational) => Said::Refused(Status::RemoteOperation),
            Syndrome::Nak(NakCode::InvalidRd | NakCode::Reserved(_)) | Syndrome::Reserved(_) => {
                return None;
            }
        })
    }
}

/// A packet under way that an answer names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    /// Of which request.
    pub kind: Kind,
    /// The byte of the message at which it begins, and how many it stands for.
    pub offset: u32,
    pub len: u32,
    /// What the peer's MSN is before what the packet belongs to, and when the packet has been executed; bits above 24 mean nothing.
    pub before: u32,
    pub after: u32,
    /// It is the first, or the last, packet of what the peer takes for a message: each chunk of a READ is one.
    pub begins: bool,
    pub ends: bool,
}

impl Named {
    /// The packet at `psn`, one of those of `wqe`.
    pub fn of(psn: Psn, wqe: &SendWqe, link: &Link) -> Named {
        let index = psn.since(wqe.first_psn);
        let is_read = wqe.kind == Kind::Read;
        let chunks = if is_read {
            link.read_chunks_before(index)
        } else {
            0
        };
        let begins = index == 0 || is_read && link.read_chunk_start(index) == index;
        let ends = index.wrapping_add(1) >= wqe.packets
            || is_read && link.read_chunk_after(index, wqe.packets) == 1;
        let before = wqe.first_msn.wrapping_add(chunks);
        let offset = link.offset(index);
        Named {
            kind: wqe.kind,
            offset,
            len: wqe.len.saturating_sub(offset).min(link.mtu),
            before,
            // The peer counts a READ when it begins to answer it.
            after: before.wrapping_add(u32::from(ends || is_read)),
            begins,
            ends,
        }
    }

    /// Whether the peer may find itself without what the packet needs. Some lack other things than receives where a message begins.
    pub fn may_not_be_ready(&self) -> bool {
        self.begins || self.kind == Kind::WriteImmediate && self.ends
    }
}
