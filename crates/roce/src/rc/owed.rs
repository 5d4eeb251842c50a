//! What is owed to the peer besides READ data: an acknowledgement, or a NAK, which acknowledges what came before its PSN as
//! well.

use crate::psn::Psn;
use crate::wire::{NakCode, Syndrome};

/// A NAK that has not gone out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Nak {
    /// Packets are missing.
    Sequence,
    /// No receive is posted.
    Rnr,
    /// Ends the connection; with the PSN it is about, and the MSN before that.
    Fatal(NakCode, Psn, u32),
}

/// What has been said about the expected packet. Nothing more is said before that comes, save what [`Owed::early`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Told {
    #[default]
    Nothing,
    /// That it is missing; so many packets have come early since, and at so many that is said again.
    Missing { early: u16, again: u16 },
    /// Something else.
    Other,
}

/// After so many packets that came early, and then after twice as many each time, the peer is told again that one is missing. It cannot have
/// heard it, or has a great deal under way: rdma_rxe then passes over what it is told twice.
const TOLD_AGAIN: u16 = 32;

/// The debts of a responder.
#[derive(Default)]
pub(super) struct Owed {
    /// The peer wants to know what has been executed.
    ack: bool,
    /// The newest packet executed that is acknowledged as such, and the MSN then: not a request that is answered with data. Its PSN in an
    /// acknowledgement would say that the peer has the data, and rdma_rxe takes it for that. At first the PSN before the connection's.
    newest: Option<(Psn, u32)>,
    nak: Option<Nak>,
    told: Told,
    /// What the NAK asked for came. That is acknowledged unasked, and before another NAK: rdma_rxe passes over the NAK of a further
    /// gap until it has heard that its repair of this one worked, and would wait for its timeout.
    mended: bool,
    /// The last of the packets that came before the expected one.
    ahead: Option<Psn>,
}

impl Owed {
    /// Of a connection whose first request has this PSN.
    pub fn new(first: Psn) -> Owed {
        Owed {
            newest: Some((first.prev(), 0)),
            ..Owed::default()
        }
    }

    /// Whether there is something to send.
    pub fn is_due(&self) -> bool {
        self.ack || self.mended || self.nak.is_some()
    }

    /// A packet came too early. True if the peer is to repeat what is missing before it, and not everything from there on.
    ///
    /// That it is the last of those once more, and asks for an answer, is a sign of a peer that waits for one.
    pub fn early(&mut self, psn: Psn, ack_request: bool) -> bool {
        let asks = ack_request && self.ahead == Some(psn);
        if self.ahead.is_none_or(|last| psn.is_after(last)) {
            self.ahead = Some(psn);
        }
        let tell = match &mut self.told {
            Told::Nothing => true,
            Told::Missing { early, again } => {
                *early = early.saturating_add(1);
                let many = *early >= *again;
                if many {
                    *again = again.saturating_mul(2);
                    *early = 0;
                }
                many || asks
            }
            Told::Other => false,
        };
        if tell && self.nak.is_none() {
            self.nak = Some(Nak::Sequence);
        }
        matches!(self.nak, None | Some(Nak::Sequence)) && self.told != Told::Other
    }

    /// What has been executed ends at a gap, behind which there is more: up to `last`, and the peer need not repeat that.
    pub fn gap_follows(&mut self, last: Psn) {
        if self.told == Told::Nothing && self.nak.is_none() {
            self.nak = Some(Nak::Sequence);
            self.ahead = Some(last);
        }
    }

    /// The expected packet came and found no receive.
    pub fn not_ready(&mut self) {
        self.nak = Some(Nak::Rnr);
    }

    /// The request at `psn`, with `msn` messages before it, ends the connection, if none before it does.
    pub fn refuse(&mut self, code: NakCode, psn: Psn, msn: u32) {
        match self.nak {
            Some(Nak::Fatal(_, first, _)) if first.is_before(psn) => {}
            _ => self.nak = Some(Nak::Fatal(code, psn, msn)),
        }
    }

    /// The expected packet has been executed, and `expected` is the next. What follows is either [`acknowledge`](Self::acknowledge) or
    /// [`response_follows`](Self::response_follows).
    pub fn executed(&mut self, expected: Psn) {
        self.mended |= self.told != Told::Nothing;
        self.told = Told::Nothing;
        self.nak = match self.nak {
            Some(fatal @ Nak::Fatal(..)) => Some(fatal),
            // Not all of the gap has closed: the rest of what came early may have to come again.
            Some(_) if self.ahead.is_some_and(|last| !last.is_before(expected)) => {
                Some(Nak::Sequence)
            }
            _ => None,
        };
        if self.nak.is_none() {
            self.ahead = None;
        }
    }

    /// The packet just executed, at `psn`, is to be acknowledged: at once, or when something asks for it.
    pub fn acknowledge(&mut self, at_once: bool, psn: Psn, msn: u32) {
        self.ack |= at_once;
        self.newest = Some((psn, msn));
    }

    /// The request just executed is answered with data, which acknowledges everything before it.
    pub fn response_follows(&mut self) {
        self.ack = false;
        self.mended = false;
    }

    /// Something came again that has been executed: the acknowledgement was lost.
    pub fn repeated(&mut self) {
        self.ack = self.newest.is_some();
    }

    /// What to send now, with which PSN and MSN. `msn` is that of now.
    pub fn take(
        &mut self,
        expected: Psn,
        msn: u32,
        min_rnr_timer: u8,
    ) -> Option<(Syndrome, Psn, u32)> {
        let acknowledged = self.newest.map(|(psn, msn)| (Syndrome::ACK, psn, msn));
        // A refusal may be about what lies before the expected packet, which an acknowledgement would belie.
        let refused = matches!(self.nak, Some(Nak::Fatal(..)));
        if core::mem::take(&mut self.mended) && !refused {
            self.ack = false;
            return acknowledged;
        }
        let Some(nak) = self.nak.take() else {
            return acknowledged.filter(|_| core::mem::take(&mut self.ack));
        };
        self.ack = false;
        if nak != Nak::Sequence {
            self.told = Told::Other;
            self.ahead = None;
        } else if !matches!(self.told, Told::Missing { .. }) {
            self.told = Told::Missing {
                early: 0,
                again: TOLD_AGAIN,
            };
        }
        Some(match nak {
            Nak::Sequence => (Syndrome::Nak(NakCode::PsnSequence), expected, msn),
            Nak::Rnr => {
                let timer = min_rnr_timer;
                (Syndrome::RnrNak { timer }, expected, msn)
            }
            Nak::Fatal(code, psn, msn) => (Syndrome::Nak(code), psn, msn),
        })
    }
}
