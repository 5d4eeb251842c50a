//! Requests from their post to their result: what they use meanwhile, and what must be true once they are done.

use super::data::{self, Piece};
use super::model::{Body, Id, Kind, Model, Named, State};
use ndkpi::NTSTATUS;
use ndkpi::status::STATUS_SUCCESS;
use std::collections::VecDeque;

/// The initiator queue among a QP's.
pub(super) const INITIATOR: usize = 0;
/// The receive queue.
pub(super) const RECEIVE: usize = 1;

/// The context of a request: whose, of which queue, which number.
pub(super) fn context(owner: Id, queue: usize, number: u32) -> u64 {
    (owner as u64) << 33 | (queue as u64) << 32 | u64::from(number)
}

/// What [`context`] made a context of.
pub(super) fn parse(context: u64) -> (Id, usize, u32) {
    (
        (context >> 33) as Id,
        (context >> 32 & 1) as usize,
        context as u32,
    )
}

/// What a request does.
#[derive(Debug)]
pub(super) enum What {
    /// Something wrong, of which nothing is expected.
    Nothing,
    /// What it brings, the partner's queue pair knows.
    Send {
        to: Id,
    },
    Receive {
        into: Vec<Piece>,
    },
    Read {
        from: Piece,
        into: Vec<Piece>,
    },
    Write {
        from: Vec<Piece>,
        into: Piece,
    },
    /// From now on the region, or the window, names memory.
    Name(Id),
}

/// A request that has no result yet.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) number: u32,
    /// It has a result only if it fails.
    pub(super) silent: bool,
    /// Regions and windows of this side, and of the peer's, that it names.
    pub(super) local: Vec<Id>,
    pub(super) remote: Vec<Id>,
    pub(super) what: What,
    /// The region or window that it lets name nothing any more, and what that was.
    pub(super) unnames: Option<(Id, Named)>,
}

/// What a peer has sent to a queue pair, if it is right.
pub(super) type Message = Option<Vec<Piece>>;

impl Model {
    fn requests_of(&mut self, owner: Id, queue: usize) -> &mut VecDeque<Request> {
        match &mut self.objects[owner].body {
            Body::Srq(srq) => &mut srq.requests,
            Body::Qp(qp) => &mut qp.requests[queue],
            _ => unreachable!("requests are posted to queue pairs and shared receive queues"),
        }
    }

    fn count_uses(&mut self, request: &Request, change: i32) {
        for id in &request.local {
            let uses = &mut self.objects[*id].local;
            *uses = uses.wrapping_add_signed(change);
        }
        for id in &request.remote {
            let uses = &mut self.objects[*id].remote;
            *uses = uses.wrapping_add_signed(change);
        }
    }

    /// A region will name nothing any more: windows on it are windows on nothing.
    pub(super) fn close_windows(&mut self, mr: Id) {
        let side = self.objects[mr].side;
        for mw in self.live(side, Kind::Mw).to_vec() {
            let mw = self.mw(mw);
            if mw.mr == Some(mr) {
                mw.named = None;
            }
        }
    }

    /// Notes that a request is about to be posted.
    pub(super) fn posting(&mut self, owner: Id, queue: usize, request: Request) {
        self.count_uses(&request, 1);
        if let Some((id, _)) = request.unnames {
            self.objects[id].changing = true;
            *self.named(id) = None;
            self.close_windows(id);
        }
        self.requests_of(owner, queue).push_back(request);
    }

    /// Its post failed: nothing has happened.
    pub(super) fn not_posted(&mut self, owner: Id, queue: usize, number: u32) {
        let requests = self.requests_of(owner, queue);
        if requests.back().is_none_or(|last| last.number != number) {
            return;
        }
        let Some(request) = requests.pop_back() else {
            return;
        };
        self.count_uses(&request, -1);
        match request.what {
            What::Nothing => {}
            What::Send { to } => {
                self.qp(to).messages.pop_back();
            }
            What::Receive { into } | What::Read { into, .. } => self.give_back(&into),
            What::Write { into, .. } => self.give_back(&[into]),
            What::Name(id) => *self.named(id) = None,
        }
        if let Some((id, named)) = request.unnames {
            self.objects[id].changing = false;
            self.named(id).get_or_insert(named);
        }
    }

    fn give_back(&mut self, pieces: &[Piece]) {
        for piece in pieces {
            self.grounds.give_back(*piece);
        }
    }

    /// The result of a request was taken, for a queue pair. What is wrong with it, if something is.
    pub(super) fn finish(
        &mut self,
        qp: Id,
        (owner, queue, number): (Id, usize, u32),
        status: NTSTATUS,
        bytes: u32,
    ) -> Result<(), &'static str> {
        loop {
            let requests = self.requests_of(owner, queue);
            let at = if owner == qp {
                Some(0)
            } else {
                // Several queue pairs take from a shared queue.
                requests.iter().position(|r| r.number == number)
            };
            let Some(request) = at.and_then(|at| requests.remove(at)) else {
                return Err("is one more than were posted");
            };
            if request.number == number {
                return self.end(qp, request, status, bytes);
            }
            if !request.silent {
                return Err("came before that of an earlier request");
            }
            self.end(qp, request, STATUS_SUCCESS, 0)?;
        }
    }

    /// A request is done.
    fn end(
        &mut self,
        qp: Id,
        request: Request,
        status: NTSTATUS,
        bytes: u32,
    ) -> Result<(), &'static str> {
        self.count_uses(&request, -1);
        if let Some((id, _)) = request.unnames {
            self.objects[id].changing = false;
        }
        let done = status == STATUS_SUCCESS;
        match request.what {
            What::Nothing | What::Send { .. } => Ok(()),
            What::Receive { into } => {
                let result = if done {
                    self.received(qp, &into, bytes)
                } else {
                    Ok(())
                };
                self.give_back(&into);
                result
            }
            What::Read { from, into } => {
                let right = !done || self.arrived(&[from], &into);
                self.give_back(&into);
                right.then_some(()).ok_or("did not read what was there")
            }
            // What failed may still be on its way, and arrive.
            What::Write { from, into } if done => {
                let right = self.arrived(&from, &[into]);
                self.give_back(&[into]);
                right.then_some(()).ok_or("did not write what it was to")
            }
            What::Write { .. } => Ok(()),
            What::Name(id) => {
                let named = self.named(id);
                if done {
                    if let Some(named) = named {
                        named.ready = true;
                    }
                } else {
                    *named = None;
                }
                Ok(())
            }
        }
    }

    fn arrived(&mut self, from: &[Piece], into: &[Piece]) -> bool {
        let bytes = data::content(from);
        self.tally.checked(bytes.len());
        self.grounds.hold(into, &bytes)
    }

    /// A message has come: it is the oldest that the peer has sent.
    fn received(&mut self, qp: Id, into: &[Piece], bytes: u32) -> Result<(), &'static str> {
        let has_partner = self.partner(qp).is_some();
        let is_sure = self.qp(qp).claims == 0 && !self.qp(qp).strayed;
        match self.qp(qp).messages.pop_front() {
            _ if !is_sure => Ok(()),
            Some(Some(from)) if data::length(&from) != bytes => Err("has not the message's length"),
            Some(Some(from)) if !self.arrived(&from, into) => Err("did not bring what was sent"),
            None if has_partner => Err("is of a message that nobody sent"),
            _ => Ok(()),
        }
    }

    /// A queue pair or a shared receive queue is closed: its requests use nothing any more. Results may still be to come.
    pub(super) fn abandon(&mut self, owner: Id) {
        let queues = match self.objects[owner].body {
            Body::Qp(_) => 2,
            Body::Srq(_) => 1,
            _ => 0,
        };
        for queue in 0..queues {
            let requests = std::mem::take(self.requests_of(owner, queue));
            for mut request in requests {
                self.count_uses(&request, -1);
                match std::mem::replace(&mut request.what, What::Nothing) {
                    What::Receive { into } | What::Read { into, .. } => self.give_back(&into),
                    What::Name(id) => *self.named(id) = None,
                    What::Nothing | What::Send { .. } | What::Write { .. } => {}
                }
                if let Some((id, _)) = request.unnames.take() {
                    self.objects[id].changing = false;
                }
                request.local.clear();
                request.remote.clear();
                self.requests_of(owner, queue).push_back(request);
            }
        }
    }

    /// The QP at the other end of a connection, if the walk knows it.
    pub(super) fn partner(&mut self, qp: Id) -> Option<Id> {
        let own = self.qp(qp).connector?;
        let peer = self.connector(own).peer?;
        let other = self.connector(peer).qp?;
        let mutual = self.connector(own).qp == Some(qp)
            && self.connector(peer).peer == Some(own)
            && self.qp(other).connector == Some(peer);
        let strayed = self.qp(qp).strayed || self.qp(other).strayed;
        (mutual && !strayed).then_some(other)
    }

    /// Most results that a CQ may have to hold.
    pub(super) fn outstanding(&mut self, cq: Id) -> u64 {
        let mut count = 0;
        let mut shared: Vec<Id> = Vec::new();
        let qps = std::mem::take(&mut self.cq(cq).qps);
        for qp in &qps {
            let qp = self.qp(*qp);
            if qp.initiator_cq == cq {
                count += qp.requests[INITIATOR].len();
            }
            if qp.receive_cq == cq {
                count += qp.requests[RECEIVE].len();
                shared.extend(qp.srq);
            }
        }
        self.cq(cq).qps = qps;
        shared.sort_unstable();
        shared.dedup();
        for srq in shared {
            count += self.srq(srq).requests.len();
        }
        count as u64
    }

    /// Queue pairs that were closed before a CQ was found empty: no result of them is to come.
    pub(super) fn drained(&mut self, cq: Id, closed: &[Id]) {
        self.cq(cq).qps.retain(|qp| !closed.contains(qp));
    }

    /// Queue pairs of a CQ that are closed.
    pub(super) fn closed_of(&mut self, cq: Id) -> Vec<Id> {
        let mut qps = self.cq(cq).qps.clone();
        qps.retain(|qp| self.objects[*qp].state == State::Closed);
        qps
    }

    /// Whether requests name a region or a window, of either side, or are about to change what it names.
    pub(super) fn is_used(&self, id: Id) -> bool {
        let object = &self.objects[id];
        object.local > 0 || object.remote > 0 || object.changing
    }

    /// What a region or a window names.
    pub(super) fn named(&mut self, id: Id) -> &mut Option<Named> {
        if self.objects[id].kind == Kind::Mr {
            &mut self.mr(id).named
        } else {
            &mut self.mw(id).named
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chance::Chance;
    use super::super::connect::{claim, claimed, give};
    use super::super::model::{Connector, Phase, Qp};
    use super::super::raw::Sizes;
    use super::*;
    use ndkpi::status::{STATUS_CANCELLED, STATUS_CONNECTION_ACTIVE, STATUS_PENDING};
    use ntsim::ndk::Buffer;

    #[test]
    fn a_context_tells_whose_request_it_is() {
        for (owner, queue, number) in [(0, 0, 1), (7, RECEIVE, u32::MAX), (123_456, INITIATOR, 9)] {
            assert_eq!(parse(context(owner, queue, number)), (owner, queue, number));
        }
    }

    fn model_with_qp() -> (Model, Id) {
        let mut m = Model::new(Chance::new(1), false, 1);
        let side = m.add_side(0);
        let qp = add_qp(&mut m, side);
        (m, qp)
    }

    fn add_qp(m: &mut Model, side: usize) -> Id {
        let sizes = Sizes {
            receive_depth: 4,
            initiator_depth: 4,
            receive_sges: 1,
            initiator_sges: 1,
            inline: 0,
        };
        m.unborn(side, Kind::Qp, Body::Qp(Qp::new(0, 0, 0, None, sizes)))
    }

    /// Two ends of a connection: the queue pair and the connector of each.
    fn model_with_connection() -> (Model, [(Id, Id); 2]) {
        let (mut m, qp) = model_with_qp();
        let ends = [qp, add_qp(&mut m, 0)].map(|qp| {
            let connector = m.unborn(
                0,
                Kind::Connector,
                Body::Connector(Connector::new(Phase::Connected)),
            );
            give(&mut m, connector, qp);
            m.connector(connector).qp = Some(qp);
            (qp, connector)
        });
        m.connector(ends[0].1).peer = Some(ends[1].1);
        m.connector(ends[1].1).peer = Some(ends[0].1);
        (m, ends)
    }

    fn receives(m: &mut Model, qp: Id, number: u32) -> Result<(), &'static str> {
        let what = What::Receive { into: Vec::new() };
        m.posting(qp, RECEIVE, request(number, false, what));
        m.finish(qp, (qp, RECEIVE, number), STATUS_SUCCESS, 0)
    }

    #[test]
    fn a_message_that_nobody_sent_is_found_where_the_walk_knows_who_could_have() {
        let (mut m, [(qp, _), (other, _)]) = model_with_connection();
        assert_eq!(m.partner(qp), Some(other));
        assert!(receives(&mut m, qp, 1).is_err());
        // Another connector is told to take it too, and is not allowed to.
        claim(&mut m, qp);
        assert_eq!(receives(&mut m, qp, 2), Ok(()));
        claimed(&mut m, qp, STATUS_CONNECTION_ACTIVE);
        assert!(receives(&mut m, qp, 3).is_err());
        // It is allowed to: the connection that the walk knows of was over.
        claim(&mut m, qp);
        claimed(&mut m, qp, STATUS_PENDING);
        assert_eq!(receives(&mut m, qp, 4), Ok(()));
        assert_eq!((m.partner(qp), m.partner(other)), (None, None));
    }

    fn request(number: u32, silent: bool, what: What) -> Request {
        Request {
            number,
            silent,
            local: Vec::new(),
            remote: Vec::new(),
            what,
            unnames: None,
        }
    }

    #[test]
    fn results_come_in_order_and_only_silent_requests_have_none() {
        let (mut m, qp) = model_with_qp();
        for (number, silent) in [(1, true), (2, false), (3, false), (4, false)] {
            m.posting(qp, INITIATOR, request(number, silent, What::Nothing));
        }
        let mut finish = |number| m.finish(qp, (qp, INITIATOR, number), STATUS_SUCCESS, 0);
        assert_eq!(finish(2), Ok(()));
        assert!(finish(4).is_err(), "3 had no result");
        assert_eq!(finish(4), Ok(()));
        assert!(finish(4).is_err(), "nothing is left");
    }

    /// Kernel code on a machine of its own.
    fn in_kernel(f: impl FnOnce() + 'static) {
        let mut world = ntsim::World::builder().seed(1).build();
        let machine = world.add_machine(ntsim::MachineConfig::named("A"));
        world.call(machine, f);
    }

    /// Posts that request and ends it, once with and once without what it was to move having been moved.
    fn judge(of: impl Fn(Piece, Piece) -> (usize, What), status: NTSTATUS) -> [bool; 2] {
        [true, false].map(|moved| {
            let (mut m, qp) = model_with_qp();
            let [from, into] = [(); 2].map(|()| m.grounds.add(Buffer::new(400).unwrap()));
            let source = m.grounds.source(&mut m.chance, from, 90);
            let sink = m.grounds.sink(&mut m.chance, into, 90);
            let (queue, what) = of(source, sink);
            if queue == RECEIVE {
                m.qp(qp).messages.push_back(Some(vec![source]));
            }
            m.posting(qp, queue, request(1, false, what));
            if moved {
                m.grounds.write(sink, &data::content(&[source]));
            }
            let result = m.finish(qp, (qp, queue, 1), status, 90);
            for ground in [from, into] {
                m.grounds.give_up(ground).0.unwrap().free();
            }
            result.is_ok()
        })
    }

    #[test]
    fn a_request_that_succeeds_without_its_bytes_is_found() {
        in_kernel(|| {
            let read = |from, into| {
                (
                    INITIATOR,
                    What::Read {
                        from,
                        into: vec![into],
                    },
                )
            };
            let write = |from, into| {
                (
                    INITIATOR,
                    What::Write {
                        from: vec![from],
                        into,
                    },
                )
            };
            let receive = |_, into| (RECEIVE, What::Receive { into: vec![into] });
            assert_eq!(judge(read, STATUS_SUCCESS), [true, false]);
            assert_eq!(judge(write, STATUS_SUCCESS), [true, false]);
            assert_eq!(judge(receive, STATUS_SUCCESS), [true, false]);
            assert_eq!(judge(read, STATUS_CANCELLED), [true, true]);
            assert_eq!(judge(receive, STATUS_CANCELLED), [true, true]);
        });
    }
}
