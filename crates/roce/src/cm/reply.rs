//! Answers that need no memory of having been given: if one is lost, the peer asks again.

use super::dropped::Dropped;
use crate::table::{OutOfMemory, try_vec};
use crate::wire::Path;
use crate::wire::cm_msg::{Answered, Drep, Message, Mra, Rej, RejReason, SidrRep, private_data};
use crate::wire::mad;
use alloc::vec::Vec;

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// No, with up to sixteen bytes of additional information.
    Rej {
        message: Answered,
        reason: RejReason,
        info: [u8; 16],
        info_len: u8,
    },
    /// Disconnected.
    Drep,
    /// Wait.
    Mra {
        message: Answered,
        service_timeout: u8,
    },
    /// Nobody serves this service ID with datagrams. What was asked is in the place of the peer's name.
    NoDatagrams { service_id: u64 },
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub path: Path,
    pub transaction_id: u64,
    pub local_comm_id: u32,
    pub remote_comm_id: u32,
    pub kind: Kind,
}

impl Reply {
    pub fn emit(&self) -> [u8; mad::LEN] {
        let (local_comm_id, remote_comm_id) = (self.local_comm_id, self.remote_comm_id);
        let message = match self.kind {
            Kind::Rej {
                message,
                reason,
                info,
                info_len,
            } => Message::Rej(Rej {
                local_comm_id,
                remote_comm_id,
                message,
                info_len,
                reason,
                info: private_data(&info),
                private: private_data(&[]),
            }),
            Kind::Drep => Message::Drep(Drep {
                local_comm_id,
                remote_comm_id,
                private: private_data(&[]),
            }),
            Kind::Mra {
                message,
                service_timeout,
            } => Message::Mra(Mra {
                local_comm_id,
                remote_comm_id,
                message,
                service_timeout,
                private: private_data(&[]),
            }),
            Kind::NoDatagrams { service_id } => Message::SidrRep(SidrRep {
                request_id: remote_comm_id,
                status: SidrRep::UNSUPPORTED,
                info_len: 0,
                vendor_id: 0,
                qpn: 0,
                service_id,
                qkey: 0,
                info: private_data(&[]),
                private: private_data(&[]),
            }),
        };
        message.emit(self.transaction_id)
    }
}

/// Answers wait here until they are polled. Those that find no room are lost, as any datagram may be.
pub(super) struct Replies {
    /// Not inline: the engine is moved about on small stacks when it is made.
    ring: Vec<Option<Reply>>,
    head: usize,
    len: usize,
}

impl Replies {
    /// For so many connections, whose peers may all speak up before anything is sent. An answer that is lost costs the peer its
    /// retransmission timer, a second perhaps.
    pub fn try_new(connections: u32) -> Result<Self, OutOfMemory> {
        Ok(Self {
            ring: try_vec(connections.clamp(32, 1024) as usize, |_| None)?,
            head: 0,
            len: 0,
        })
    }

    /// # Errors
    /// [`Dropped::Answer`] if there is no room.
    pub fn push(&mut self, reply: Reply) -> Result<(), Dropped> {
        if self.len >= self.ring.len() {
            return Err(Dropped::Answer);
        }
        // Neither term exceeds the length, so one subtraction brings the sum back into the ring.
        let mut at = self.head.wrapping_add(self.len);
        if at >= self.ring.len() {
            at = at.wrapping_sub(self.ring.len());
        }
        if let Some(place) = self.ring.get_mut(at) {
            *place = Some(reply);
            self.len = self.len.saturating_add(1);
        }
        Ok(())
    }

    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    pub fn pop(&mut self) -> Option<Reply> {
        let reply = self.ring.get_mut(self.head)?.take()?;
        self.head = self.head.wrapping_add(1);
        if self.head >= self.ring.len() {
            self.head = 0;
        }
        self.len = self.len.saturating_sub(1);
        Some(reply)
    }
}
