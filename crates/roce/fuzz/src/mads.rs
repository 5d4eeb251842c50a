//! Management datagrams into the connection manager: two ends whose consumers connect, accept, reject, disconnect and forget as the input
//! says, and somebody between them who changes and makes up messages about the connections that there are.

use super::input::Input;
use super::machine::{Machine, QPS, path, seal};
use super::recent::Recent;
use arrayvec::ArrayVec;
use roce::wire::frame::Header;
use roce::wire::{Bth, Deth, ExtHeaders, Opcode, Packet, mad};
use roce::{
    AcceptParams, Config, ConnId, ConnectParams, Event, Instant, PathMtu, Psn, QpId, SendFlags,
    SendOp, SendRequest,
};
use std::net::IpAddr;
use std::time::Duration;

/// Steps of one input, at most.
const STEPS: usize = 300;
/// Names that the one between them remembers.
const NAMES: usize = 16;
const PORT: u16 = 7000;
const CONNECTIONS: u32 = 6;
/// UDP, BTH, DETH.
const BEFORE_MAD: usize = 28;
/// The header in front of a message of the connection manager.
const MAD_HEADER: usize = 24;
/// Deadlines until everything has come to its end, at most: sixteen repetitions of each message of each connection, and their rest.
const DEADLINES: usize = 5_000;

/// What a consumer has been told of a connection.
#[derive(Default)]
struct Story {
    asked: bool,
    replied: bool,
    established: bool,
    over: bool,
    disconnecting: bool,
}

struct End {
    m: Machine,
    qps: Vec<QpId>,
    conns: Vec<(ConnId, Story)>,
    next_port: u16,
    /// How often a connection came about.
    established: u32,
}

struct Fuzz<'a> {
    input: Input<'a>,
    ends: [End; 2],
    now: Instant,
    ipv6: bool,
    /// Communication IDs seen.
    names: Recent<[u8; 4], NAMES>,
    /// Messages seen.
    seen: Recent<[u8; mad::LEN], NAMES>,
}

/// What came about.
pub struct Summary {
    pub ipv6: bool,
    /// Connections, counted at both ends.
    pub established: u32,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    play(data);
}

/// The same, and tells about it.
pub fn play(data: &[u8]) -> Summary {
    let config = Config {
        max_qps: QPS,
        max_cqs: 2,
        max_srqs: 1,
        max_pds: 2,
        max_keys: 4,
        max_connections: CONNECTIONS,
        max_listeners: 2,
        max_transmissions: 32,
        ..Config::default()
    };
    let mut input = Input(data);
    let ipv6 = input.bool();
    let mut fuzz = Fuzz {
        input,
        ends: [0, 1].map(|n| End::new(&config, n, ipv6)),
        now: Instant(1_000_000),
        ipv6,
        names: Recent::default(),
        seen: Recent::default(),
    };
    for _ in 0..STEPS {
        if fuzz.input.is_empty() {
            break;
        }
        fuzz.step();
    }
    let established = fuzz.ends.iter().map(|e| e.established).sum();
    fuzz.end();
    Summary { ipv6, established }
}

impl End {
    fn new(config: &Config, n: usize, ipv6: bool) -> End {
        let seed = n as u128 + 10;
        let mut m = Machine::new(&Config { seed, ..*config });
        let here: IpAddr = path(n, ipv6, PathMtu::Mtu1024).src_ip;
        m.engine.listen(here, PORT).expect("the first");
        let qps = (0..QPS).map(|i| m.create_qp(i.into())).collect();
        End {
            m,
            qps,
            conns: Vec::new(),
            next_port: 1,
            established: 0,
        }
    }

    /// Holds what was told against what may be told.
    fn listen(&mut self) {
        for event in std::mem::take(&mut self.m.events) {
            match event {
                Event::ConnectRequest { conn, .. } => {
                    assert!(self.conns.iter().all(|(c, _)| *c != conn), "{event:?}");
                    let story = Story {
                        asked: true,
                        ..Story::default()
                    };
                    self.conns.push((conn, story));
                }
                Event::Replied { conn } => {
                    let s = self.story(conn, &event);
                    assert!(!s.asked && !s.replied && !s.over && !s.established);
                    s.replied = true;
                }
                Event::ConnectFailed { conn, .. } => {
                    let s = self.story(conn, &event);
                    assert!(!s.asked && !s.over && !s.established, "{event:?}");
                    s.over = true;
                }
                Event::Established { conn } => {
                    let s = self.story(conn, &event);
                    assert!(!s.established && !s.over, "{event:?}");
                    s.established = true;
                    self.established += 1;
                }
                Event::EstablishFailed { conn, .. } => {
                    let s = self.story(conn, &event);
                    assert!(!s.established && !s.over, "{event:?}");
                    s.over = true;
                }
                Event::Disconnected { conn, .. } => {
                    let s = self.story(conn, &event);
                    assert!(s.established && !s.over && !s.disconnecting, "{event:?}");
                    s.over = true;
                }
                Event::DisconnectDone { conn, .. } => {
                    let s = self.story(conn, &event);
                    assert!(s.disconnecting, "{event:?}");
                    s.disconnecting = false;
                    s.over = true;
                }
                _ => {}
            }
        }
    }

    fn story(&mut self, conn: ConnId, event: &Event) -> &mut Story {
        let mut all = self.conns.iter_mut();
        match all.find(|(c, _)| *c == conn) {
            Some((_, story)) => story,
            None => panic!("{event:?} of a connection that was forgotten"),
        }
    }
}

impl Fuzz<'_> {
    fn step(&mut self) {
        let what = self.input.u8();
        let n = usize::from(what >> 7);
        match what & 0x7f {
            0..8 => self.connect(n),
            8..32 => self.decide(n),
            32..40 => {
                // Data, as far as it goes.
                let end = &mut self.ends[n];
                let qp = end.qps[self.input.below(QPS) as usize];
                let request = SendRequest {
                    context: 0,
                    op: SendOp::Write {
                        remote_va: 0,
                        rkey: 0,
                    },
                    sgl: &[],
                    inline: None,
                    flags: SendFlags::empty(),
                };
                end.m.post_send(self.now, qp, request);
            }
            40 => {
                let at = self.input.below(QPS) as usize;
                let end = &mut self.ends[n];
                end.m.destroy_qp(self.now, end.qps[at]);
                end.qps[at] = end.m.create_qp(u64::from(what) << 32 | at as u64);
            }
            41..44 => {
                let (flag, engine) = (self.input.bool(), &mut self.ends[n].m.engine);
                let here = path(n, self.ipv6, PathMtu::Mtu1024).src_ip;
                // Another listener, which may take connections that the first does not.
                if let Ok(listener) = engine.listen(here, PORT + 1) {
                    let _ = engine.pause_listener(listener, flag);
                    if !flag {
                        let _ = engine.unlisten(listener);
                    }
                }
            }
            44..72 => self.carry(n, what),
            72..100 => self.forge(n, what),
            100..108 => {
                let wait = self
                    .input
                    .pick(&[1, 50, 300, 1_100, 5_000, 40_000, 300_000]);
                self.wait(Duration::from_millis(wait));
            }
            _ => {
                for _ in 0..self.input.below(6) + 1 {
                    self.pass(0);
                    self.pass(1);
                }
            }
        }
        for end in &mut self.ends {
            end.m.collect();
            end.listen();
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for end in &mut self.ends {
            end.m.tick(self.now);
        }
    }

    fn connect(&mut self, n: usize) {
        let how = self.input.u8();
        let data = self.input.bytes(usize::from(how >> 3) * 2);
        let end = &mut self.ends[n];
        // Often the same, so that names come again.
        end.next_port = end.next_port.wrapping_add(u16::from(how & 1));
        let params = ConnectParams {
            qp: end.qps[usize::from(how & 3)],
            path: path(n, self.ipv6, PathMtu::Mtu1024),
            local_port: end.next_port,
            remote_port: PORT + u16::from(how & 4 != 0),
            private_data: data,
            responder_resources: how,
            initiator_depth: how,
        };
        if let Ok(conn) = end.m.engine.connect(self.now, &params) {
            end.conns.push((conn, Story::default()));
        }
    }

    /// A consumer does something about one of its connections.
    fn decide(&mut self, n: usize) {
        let how = self.input.u8();
        let end = &mut self.ends[n];
        let Some(at) = usize::from(how >> 4).checked_rem(end.conns.len()) else {
            return;
        };
        let (now, engine) = (self.now, &mut end.m.engine);
        let (conn, story) = &mut end.conns[at];
        let conn = *conn;
        match how & 15 {
            0..5 => {
                let params = AcceptParams {
                    qp: end.qps[self.input.below(QPS) as usize],
                    path: path(n, self.ipv6, PathMtu::Mtu1024),
                    private_data: &[1; 20],
                    responder_resources: how,
                    initiator_depth: how,
                };
                let _ = engine.accept(now, conn, &params);
            }
            5..9 => {
                let _ = engine.establish(now, conn);
            }
            9 | 10 => {
                // Nothing more is told of it.
                if engine.reject(now, conn, &[2; 30]).is_ok() {
                    story.over = true;
                }
            }
            11..14 => {
                if engine.disconnect(now, conn).is_ok() {
                    assert!(story.established && !story.disconnecting);
                    story.disconnecting = true;
                }
            }
            _ => {
                engine.forget(now, conn);
                end.conns.remove(at);
            }
        }
    }

    fn note(&mut self, frame: &[u8]) {
        let Ok(packet) = Packet::parse(frame) else {
            return;
        };
        let Some(mad) = mad::of_packet(&packet) else {
            return;
        };
        for at in [MAD_HEADER, MAD_HEADER + 4] {
            let name = [0, 1, 2, 3].map(|i| mad[at + i]);
            if !self.names.iter().any(|known| *known == name) {
                self.names.push(name);
            }
        }
        self.seen.push(*mad);
    }

    fn pass(&mut self, from: usize) -> bool {
        let Some(frame) = self.ends[from].m.transmit(self.now) else {
            return false;
        };
        self.note(&frame);
        self.ends[1 - from].m.receive(self.now, &frame);
        true
    }

    /// The next frame of one end does not get through as it is.
    fn carry(&mut self, from: usize, what: u8) {
        let Some(mut frame) = self.ends[from].m.transmit(self.now) else {
            return;
        };
        self.note(&frame);
        match what & 3 {
            0 => {}
            1 => {
                self.ends[1 - from].m.receive(self.now, &frame);
                self.ends[1 - from].m.receive(self.now, &frame);
            }
            _ => {
                for _ in 0..self.input.below(4) + 1 {
                    // What is behind IP.
                    let behind_ip = 14 + self.ip_len();
                    let most = frame.len() - 4 - behind_ip;
                    let at = behind_ip + self.input.below(most.min(256) as u32) as usize;
                    frame[at] = self.input.u8();
                }
                seal(&mut frame);
                self.ends[1 - from].m.receive(self.now, &frame);
            }
        }
    }

    fn name(&mut self) -> [u8; 4] {
        let how = self.input.u8();
        match self.names.pick(usize::from(how & 0x7f)) {
            Some(name) if how & 0x80 == 0 => *name,
            _ => [how; 4],
        }
    }

    fn ip_len(&self) -> usize {
        if self.ipv6 { 40 } else { 20 }
    }

    /// A message for one end as if from the other: one that was seen, or a new one, about connections that there are or are not.
    fn forge(&mut self, to: usize, what: u8) {
        let mut body = [0; mad::LEN];
        body[..4].copy_from_slice(&[1, 7, 2, 3]);
        let from = usize::from(self.input.u8());
        if let Some(seen) = self.seen.pick(from) {
            body = *seen;
        }
        if what & 1 != 0 {
            // Of another kind, and about a connection by the names of another.
            body[17] = 0x10 + self.input.below(11) as u8;
        }
        if what & 2 != 0 {
            let (local, remote) = (self.name(), self.name());
            body[MAD_HEADER..MAD_HEADER + 4].copy_from_slice(&local);
            body[MAD_HEADER + 4..MAD_HEADER + 8].copy_from_slice(&remote);
        }
        if what & 4 != 0 {
            // A DREQ is for a queue pair, too.
            let qp = self.ends[to].qps[self.input.below(QPS) as usize];
            let qpn = self.ends[to].m.engine.qp_number(qp).unwrap_or(0);
            body[MAD_HEADER + 8..MAD_HEADER + 11].copy_from_slice(&qpn.to_be_bytes()[1..]);
        }
        if what & 8 != 0 {
            let at = usize::from(self.input.u8());
            let len = usize::from(self.input.u8() & 31);
            let bytes = self.input.bytes(len);
            for (to, from) in body[at..].iter_mut().zip(bytes) {
                *to = *from;
            }
        }
        let odd = self.input.u8();
        let len = if odd == 255 { 252 } else { mad::LEN };
        let qkey = if odd == 254 { 1 } else { 0x8001_0000 };
        let ext = ExtHeaders {
            deth: Some(Deth { qkey, src_qpn: 1 }),
            ..ExtHeaders::NONE
        };
        let bth = Bth::new(Opcode::UdSendOnly, 1, Psn::ZERO);
        let path = path(1 - to, self.ipv6, PathMtu::Mtu1024);
        let mut frame = ArrayVec::<u8, 512>::new();
        let header = Header::new(&path, 0xc000, bth, ext);
        let mut icrc = header.write(len, &mut frame).expect("it fits");
        assert_eq!(frame.len(), 14 + self.ip_len() + BEFORE_MAD);
        icrc.update(&body[..len]);
        let frame = [&frame[..], &body[..len], &icrc.trailer(0)].concat();
        self.ends[to].m.receive(self.now, &frame);
    }

    /// Everybody forgets everything; what rests comes to its end by itself.
    fn end(mut self) {
        for end in &mut self.ends {
            for (conn, _) in std::mem::take(&mut end.conns) {
                end.m.engine.forget(self.now, conn);
            }
            for qp in &end.qps {
                end.m.destroy_qp(self.now, *qp);
            }
        }
        for end in self.ends {
            let (mut m, mut now) = (end.m, self.now);
            for _ in 0..DEADLINES {
                while m.transmit(now).is_some() {}
                let Some(due) = m.engine.next_deadline() else {
                    break;
                };
                now = now.max(due);
                m.tick(now);
            }
            assert!(m.events.iter().all(is_of_no_connection), "{:?}", m.events);
            m.end(now, &[], &[], &[], &[]);
        }
    }
}

/// Connections that were forgotten have nothing to tell.
fn is_of_no_connection(event: &Event) -> bool {
    matches!(
        event,
        Event::QpFatal { .. }
            | Event::QpIdle { .. }
            | Event::CqNotify { .. }
            | Event::PathDoubted { .. }
    )
}
