//! What a connection makes of the peer's messages.

use super::{Connection, MAX_CONNECT_TIME, MAX_SERVICE_TIMEOUT, SERVICE_TIMEOUT, State};
use crate::cm::dropped::Dropped;
use crate::cm::negotiate::{self, code_duration};
use crate::cm::reply::{Kind, Reply};
use crate::connection::{ConnectFailure, DisconnectReason, DisconnectResult};
use crate::event::Event;
use crate::time::Instant;
use crate::wire::cm_msg::{Answered, Dreq, Mra, Rej, RejReason, Rep};

/// What is to be said at once, or why the message came to nothing.
pub(in crate::cm) type Heard = Result<Option<Reply>, Dropped>;

impl Connection {
    /// The same request again, or another by the same name; the answer belongs to its transaction.
    pub fn on_duplicate_req(&mut self, transaction_id: u64) -> Heard {
        let kind = match self.state {
            State::ReqRcvd => Kind::Mra {
                message: Answered::Req,
                service_timeout: SERVICE_TIMEOUT,
            },
            State::TimeWait if self.rejected && transaction_id == self.transaction_id => {
                self.send = true;
                return Ok(None);
            }
            State::TimeWait => Kind::Rej {
                message: Answered::Req,
                reason: RejReason::STALE_CONNECTION,
                info: [0; 16],
                info_len: 0,
            },
            // The timer of the REP takes care, or the peer has it.
            _ => return Err(Dropped::State),
        };
        Ok(Some(Reply {
            transaction_id,
            ..self.reply(kind)
        }))
    }

    pub fn on_rep(&mut self, now: Instant, rep: &Rep) -> Heard {
        if !self.is_active() {
            return Err(Dropped::State);
        }
        match self.state {
            State::ReqSent if rep.qpn == 0 || rep.local_comm_id == 0 => {
                self.remote_comm_id = rep.local_comm_id;
                self.fail_connect(now, ConnectFailure::Aborted);
                self.send_rej(Answered::Rep, RejReason::NO_QP, None, &[]);
                Ok(None)
            }
            State::ReqSent => {
                self.remote_comm_id = rep.local_comm_id;
                self.remote_guid = rep.ca_guid;
                self.remote_qpn = rep.qpn;
                self.send_psn = rep.starting_psn;
                self.rnr_retry_count = rep.rnr_retry_count;
                self.ack_timeout =
                    negotiate::ack_timeout_with(self.ack_timeout, rep.target_ack_delay);
                self.info.responder_resources =
                    self.info.responder_resources.min(rep.initiator_depth);
                self.info.initiator_depth = self.info.initiator_depth.min(rep.responder_resources);
                self.keep_private(&rep.private);
                self.deadline = None;
                self.send = false;
                self.enter(State::RepRcvd);
                self.report(Event::Replied { conn: self.id });
                Ok(None)
            }
            State::RepRcvd => Ok(Some(self.reply(Kind::Mra {
                message: Answered::Rep,
                service_timeout: SERVICE_TIMEOUT,
            }))),
            // The RTU was lost; or what was sent instead of it.
            State::Established => {
                self.send = true;
                Ok(None)
            }
            State::TimeWait if self.rejected => {
                self.send = true;
                Ok(None)
            }
            _ => Err(Dropped::State),
        }
    }

    /// A REP whose queue pair belongs to a connection that the peer has lost.
    pub fn on_stale_rep(&mut self, now: Instant, rep: &Rep) {
        self.remote_comm_id = rep.local_comm_id;
        self.fail_connect(now, ConnectFailure::Aborted);
        self.send_rej(Answered::Rep, RejReason::STALE_CONNECTION, None, &[]);
    }

    pub fn on_rtu(&mut self) -> Heard {
        if self.state != State::RepSent {
            return Err(Dropped::State);
        }
        self.communication_established();
        Ok(None)
    }

    pub fn on_rej(&mut self, now: Instant, rej: &Rej) -> Heard {
        let reason = rej.reason.0;
        match self.state {
            State::ReqSent => {
                self.keep_rejection(rej);
                self.fail_connect(now, ConnectFailure::Rejected { reason });
            }
            State::RepRcvd | State::ReqRcvd => {
                self.keep_rejection(rej);
                self.peer_gone = true;
                self.enter_timewait(now);
            }
            State::RepSent => {
                self.keep_rejection(rej);
                self.report(Event::EstablishFailed {
                    conn: self.id,
                    reason: ConnectFailure::Rejected { reason },
                });
                self.enter_timewait(now);
            }
            State::Established => {
                self.keep_rejection(rej);
                self.report(Event::Disconnected {
                    conn: self.id,
                    reason: DisconnectReason::Rejected { reason },
                });
                self.enter_timewait(now);
            }
            State::DreqSent => self.finish_disconnect(now, DisconnectResult::Graceful),
            State::TimeWait | State::Closed => return Err(Dropped::State),
        }
        Ok(None)
    }

    pub fn on_mra(&mut self, now: Instant, mra: &Mra) -> Heard {
        let service = code_duration(mra.service_timeout.min(MAX_SERVICE_TIMEOUT));
        let wait = service.saturating_add(self.interval);
        match (mra.message, self.state) {
            // The peer's consumer may take its time: whenever it asks for more, it gets it. But this side's does not wait for ever.
            (Answered::Req, State::ReqSent) => {
                let end = self.begun.after(MAX_CONNECT_TIME);
                self.remote_comm_id = mra.local_comm_id;
                self.deadline = Some(now.after(wait).min(end));
            }
            // Here it is our consumer who waits, and wants an end some time.
            (Answered::Rep, State::RepSent) if !self.prolonged => {
                self.prolonged = true;
                self.deadline = Some(now.after(wait));
            }
            _ => return Err(Dropped::State),
        }
        Ok(None)
    }

    /// A DREQ for the connection's queue pair. It is answered at once, whatever the consumer does (decision X-32); requests stay posted.
    pub fn on_dreq(&mut self, now: Instant, dreq: &Dreq, transaction_id: u64) -> Heard {
        if dreq.remote_qpn != self.local_qpn {
            return Err(Dropped::Unmatched);
        }
        match self.state {
            State::ReqSent | State::ReqRcvd => return Err(Dropped::State),
            State::RepRcvd => {
                self.peer_gone = true;
                self.enter_timewait(now);
            }
            State::RepSent => {
                self.report(Event::EstablishFailed {
                    conn: self.id,
                    reason: ConnectFailure::Aborted,
                });
                self.enter_timewait(now);
            }
            State::Established => {
                self.report(Event::Disconnected {
                    conn: self.id,
                    reason: DisconnectReason::Peer,
                });
                self.enter_timewait(now);
            }
            State::DreqSent => self.finish_disconnect(now, DisconnectResult::Graceful),
            State::TimeWait | State::Closed => {}
        }
        Ok(Some(Reply {
            transaction_id,
            ..self.reply(Kind::Drep)
        }))
    }

    pub fn on_drep(&mut self, now: Instant) -> Heard {
        if self.state != State::DreqSent {
            return Err(Dropped::State);
        }
        self.finish_disconnect(now, DisconnectResult::Graceful);
        Ok(None)
    }
}
