//! Two agents and what is between them.

use crate::cm::{Agent, LocalQp, QpAttributes};
use crate::psn::Psn;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::cm_msg::Message;
use crate::wire::{Packet, Path, PathMtu, frame, mad, udp};
use crate::{AcceptParams, CmError, Config, ConnId, ConnectParams, Event, ListenerId};
use arrayvec::ArrayVec;
use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::vec::Vec;

pub const A: usize = 0;
pub const B: usize = 1;

/// Where B listens.
pub const PORT: u16 = 7174;

const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0xb]];

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Arrives,
    IsLost,
    ArrivesTwice,
    /// After this much more time.
    IsLate(Duration),
}

/// A frame that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: Instant,
    pub from: usize,
    pub frame: Vec<u8>,
}

impl Sent {
    pub fn packet(&self) -> Packet<'_> {
        let packet = Packet::parse(&self.frame).expect("agents send RoCE");
        assert_eq!(packet.verify_icrc(), Ok(()));
        packet
    }

    pub fn mad(&self) -> [u8; 256] {
        *mad::of_packet(&self.packet()).expect("agents send MADs")
    }

    pub fn message(&self) -> Message {
        Message::parse(&self.mad())
            .expect("agents send CM messages")
            .1
    }

    pub fn transaction(&self) -> u64 {
        let mad = self.mad();
        let (header, _) = mad::Header::parse(&mad);
        header.transaction_id
    }

    pub fn attribute(&self) -> u16 {
        self.message().attribute()
    }
}

type Judge = std::boxed::Box<dyn FnMut(usize, &Message) -> Fate>;

pub struct Link {
    pub agents: [Agent; 2],
    pub counters: [crate::Counters; 2],
    pub now: Instant,
    pub listener: ListenerId,
    pub ips: [IpAddr; 2],
    /// Everything ever sent.
    pub sent: Vec<Sent>,
    pub judge: Judge,
    flight: Vec<(Instant, usize, Vec<u8>)>,
    events: [VecDeque<Event>; 2],
}

pub const DELAY: Duration = Duration::from_micros(50);

pub fn config(side: usize) -> Config {
    Config {
        local_mtu: 4200,
        max_connections: 16,
        max_listeners: 4,
        guid: 0x0200_00ff_fe00_0001 + side as u64,
        ..Config::default()
    }
}

pub fn agent(config: &Config, seed: u64) -> Agent {
    Agent::try_new(config, &mut Rng::new(seed)).unwrap()
}

impl Link {
    pub fn new() -> Self {
        Self::with(&[config(A), config(B)], ["10.0.0.1", "10.0.0.2"], 1)
    }

    pub fn with(configs: &[Config; 2], ips: [&str; 2], seed: u64) -> Self {
        let mut agents = [agent(&configs[A], seed), agent(&configs[B], !seed)];
        let ips = ips.map(|ip| ip.parse().unwrap());
        let any = match ips[B] {
            IpAddr::V4(_) => "0.0.0.0",
            IpAddr::V6(_) => "::",
        };
        let listener = agents[B].listen(any.parse().unwrap(), PORT).unwrap();
        Self {
            agents,
            counters: Default::default(),
            now: Instant(1_000_000_000),
            listener,
            ips,
            sent: Vec::new(),
            judge: std::boxed::Box::new(|_, _| Fate::Arrives),
            flight: Vec::new(),
            events: Default::default(),
        }
    }

    pub fn judge(&mut self, judge: impl FnMut(usize, &Message) -> Fate + 'static) {
        self.judge = std::boxed::Box::new(judge);
    }

    /// Loses the first `count` messages of an attribute.
    pub fn lose(&mut self, attribute: u16, mut count: usize) {
        self.judge(move |_, m| {
            if m.attribute() == attribute && count > 0 {
                count -= 1;
                Fate::IsLost
            } else {
                Fate::Arrives
            }
        });
    }

    pub fn path(&self, from: usize) -> Path {
        Path {
            src_mac: MACS[from],
            dst_mac: MACS[1 - from],
            vlan: None,
            src_ip: self.ips[from],
            dst_ip: self.ips[1 - from],
            hop_limit: 64,
            traffic_class: 0,
            mtu: PathMtu::Mtu4096,
        }
    }

    pub fn connect_params<'a>(
        &self,
        port: u16,
        local: &LocalQp,
        data: &'a [u8],
    ) -> ConnectParams<'a> {
        ConnectParams {
            qp: local.qp,
            path: self.path(A),
            local_port: port,
            remote_port: PORT,
            private_data: data,
            responder_resources: 8,
            initiator_depth: 4,
        }
    }

    pub fn accept_params<'a>(&self, local: &LocalQp, data: &'a [u8]) -> AcceptParams<'a> {
        AcceptParams {
            qp: local.qp,
            path: self.path(B),
            private_data: data,
            responder_resources: 16,
            initiator_depth: 16,
        }
    }

    pub fn connect(&mut self, port: u16, local: &LocalQp, data: &[u8]) -> Result<ConnId, CmError> {
        let params = self.connect_params(port, local, data);
        self.agents[A].connect(self.now, &params, local)
    }

    pub fn accept(
        &mut self,
        conn: ConnId,
        local: &LocalQp,
        data: &[u8],
    ) -> Result<QpAttributes, CmError> {
        let params = self.accept_params(local, data);
        self.agents[B].accept(self.now, conn, &params, local)
    }

    pub fn establish(&mut self, conn: ConnId) -> Result<QpAttributes, CmError> {
        self.agents[A].establish(conn)
    }

    /// Waits until a request has come to B.
    pub fn requested(&mut self) -> ConnId {
        match self.event(B) {
            Event::ConnectRequest { listener, conn } => {
                assert_eq!(listener, self.listener);
                conn
            }
            other => panic!("{other:?}"),
        }
    }

    /// The next event of a side, however long it takes.
    pub fn event(&mut self, side: usize) -> Event {
        loop {
            self.exchange();
            if let Some(event) = self.events[side].pop_front() {
                return event;
            }
            assert!(self.step(), "side {side} waits for an event in vain");
        }
    }

    pub fn expect(&mut self, side: usize, event: Event) {
        assert_eq!(self.event(side), event);
    }

    /// Lets time pass, and whatever happens in it.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.exchange();
            match self.next() {
                Some(next) if next <= end => {
                    self.step();
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Until nothing happens any more.
    pub fn run_until_idle(&mut self) {
        loop {
            self.exchange();
            if !self.step() {
                return;
            }
        }
    }

    pub fn no_events(&mut self) {
        self.exchange();
        assert_eq!(self.events, [const { VecDeque::new() }; 2]);
    }

    pub fn take_events(&mut self, side: usize) -> Vec<Event> {
        self.exchange();
        self.events[side].drain(..).collect()
    }

    /// What a side sent of an attribute.
    pub fn sent_by(&self, side: usize, attribute: u16) -> Vec<Sent> {
        self.sent
            .iter()
            .filter(|s| s.from == side && s.attribute() == attribute)
            .cloned()
            .collect()
    }

    /// The transaction of the last request of a side.
    pub fn transaction(&self, side: usize) -> u64 {
        let requests = self.sent_by(side, 0x10);
        requests.last().expect("a REQ").transaction()
    }

    /// Puts a frame on the wire towards a side.
    pub fn inject(&mut self, to: usize, frame: &[u8]) {
        self.flight
            .push((self.now.after(DELAY), to, frame.to_vec()));
    }

    /// Drops what is on the wire.
    pub fn clear_flight(&mut self) {
        self.exchange();
        self.flight.clear();
    }

    /// Takes events and frames from both agents, at one point of time.
    pub fn exchange(&mut self) {
        for side in [A, B] {
            while let Some(event) = self.agents[side].poll_event() {
                self.events[side].push_back(event);
            }
            let mut frame = ArrayVec::new();
            while self.agents[side].poll_transmit(&mut frame) {
                let sent = Sent {
                    at: self.now,
                    from: side,
                    frame: frame.to_vec(),
                };
                let arrival = self.now.after(DELAY);
                match (self.judge)(side, &sent.message()) {
                    Fate::Arrives => self.flight.push((arrival, 1 - side, frame.to_vec())),
                    Fate::IsLost => {}
                    Fate::ArrivesTwice => {
                        self.flight.push((arrival, 1 - side, frame.to_vec()));
                        self.flight
                            .push((arrival.after(DELAY), 1 - side, frame.to_vec()));
                    }
                    Fate::IsLate(more) => {
                        self.flight
                            .push((arrival.after(more), 1 - side, frame.to_vec()));
                    }
                }
                self.sent.push(sent);
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let arrivals = self.flight.iter().map(|(at, ..)| *at);
        let deadlines = self.agents.iter().filter_map(Agent::next_deadline);
        arrivals.chain(deadlines).min()
    }

    /// The next arrival or deadline. False if there is none.
    fn step(&mut self) -> bool {
        let Some(next) = self.next() else {
            return false;
        };
        self.now = self.now.max(next);
        if let Some(i) = (0..self.flight.len())
            .filter(|i| self.flight[*i].0 <= self.now)
            .min_by_key(|i| self.flight[*i].0)
        {
            let (_, to, frame) = self.flight.remove(i);
            let packet = Packet::parse(&frame).unwrap();
            self.agents[to].receive(self.now, &packet, &mut self.counters[to]);
        } else {
            for agent in &mut self.agents {
                agent.handle_timeout(self.now);
            }
        }
        true
    }
}

/// A MAD in a frame.
pub fn frame_of(path: &Path, psn: Psn, mad: &[u8; 256]) -> Vec<u8> {
    let (bth, ext) = mad::transport_headers(psn);
    let mut out = ArrayVec::<u8, 512>::new();
    let mut icrc = frame::Header::new(path, udp::source_port(1), bth, ext)
        .write(mad.len(), &mut out)
        .unwrap();
    icrc.update(mad);
    out.try_extend_from_slice(mad).unwrap();
    out.try_extend_from_slice(&icrc.trailer(0)).unwrap();
    out.to_vec()
}

impl Link {
    pub fn frame_of(&self, path: &Path, mad: &[u8; 256]) -> Vec<u8> {
        frame_of(path, Psn::ZERO, mad)
    }

    pub fn frame(&self, path: &Path, message: &Message, tid: u64) -> Vec<u8> {
        self.frame_of(path, &message.emit(tid))
    }

    /// Sends a side a message in the other's name.
    pub fn send(&mut self, to: usize, message: &Message, tid: u64) {
        self.send_by(to, &self.path(1 - to), message, tid);
    }

    /// Hands a side a frame at once.
    pub fn hand(&mut self, to: usize, frame: &[u8]) {
        let packet = Packet::parse(frame).unwrap();
        self.agents[to].receive(self.now, &packet, &mut self.counters[to]);
    }

    /// Sends a side a message over any path.
    pub fn send_by(&mut self, to: usize, path: &Path, message: &Message, tid: u64) {
        let frame = self.frame(path, message, tid);
        self.inject(to, &frame);
    }
}
