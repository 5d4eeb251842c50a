//! Conversations of Linux with itself, one side of which the engine takes over: what the other side said then comes again, changed,
//! lost, doubled and out of order as the input says. An input without bytes changes nothing.

use super::input::Input;
use super::machine::{Machine, Mr, QPS, seal};
use roce::wire::{ExtHeaders, Opcode, Packet, mad};
use roce::{
    AcceptParams, Access, Config, ConnId, ConnectParams, Event, Instant, Path, PathMtu, Psn, QpId,
    SendFlags, SendOp, SendRequest,
};
use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Duration;

const FILES: [&[u8]; 6] = [
    include_bytes!("../../data/rping.pcap"),
    include_bytes!("../../data/write.pcap"),
    include_bytes!("../../data/read.pcap"),
    include_bytes!("../../data/send.pcap"),
    include_bytes!("../../data/atomic.pcap"),
    include_bytes!("../../data/noserver.pcap"),
];

/// Captures, and sides of each that the engine can take.
pub const CHOICES: u8 = 2 * FILES.len() as u8;

/// Bytes of memory that a capture needs at most.
const MOST: u64 = 1 << 20;
/// The header in front of a message of the connection manager.
const BODY: usize = 24;
/// Where messages have things: the sender's QPN and starting PSN in a REQ and in a REP, the receiver's QPN in a DREQ.
const REQ_QPN: usize = BODY + 32;
const REQ_PSN: usize = BODY + 44;
const REP_QPN: usize = BODY + 12;
const REP_PSN: usize = BODY + 20;
const DREQ_QPN: usize = BODY + 8;
/// Ethernet, untagged.
const IP: usize = 14;
/// BTH, DETH.
const BEFORE_MAD: usize = 12 + 8;

const REQ: u8 = 0x10;
const REP: u8 = 0x13;
const RTU: u8 = 0x14;
const DREQ: u8 = 0x15;

/// What came of it.
#[derive(Clone, Copy, Default, Debug)]
pub struct Summary {
    pub established: usize,
    pub disconnected: usize,
    pub completed: usize,
    pub rx_bytes: u64,
}

/// The RoCE frames of a file in the classic format of pcap, little endian.
fn frames(mut file: &'static [u8]) -> Vec<&'static [u8]> {
    let mut out = Vec::new();
    file = &file[24..];
    while let Some((header, rest)) = file.split_at_checked(16) {
        let len = u32::from_le_bytes([8, 9, 10, 11].map(|i| header[i]));
        let (frame, rest) = rest.split_at(len as usize);
        file = rest;
        if Packet::parse(frame).is_ok() {
            out.push(frame);
        }
    }
    out
}

fn captures() -> &'static [Vec<&'static [u8]>] {
    static ALL: OnceLock<Vec<Vec<&'static [u8]>>> = OnceLock::new();
    ALL.get_or_init(|| FILES.map(frames).to_vec())
}

/// Three bytes that are a number.
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]])
}

/// A communication ID.
fn name(mad: &[u8; mad::LEN], at: usize) -> [u8; 4] {
    std::array::from_fn(|i| mad[at + i])
}

/// The message of the connection manager in a frame, with its attribute.
fn message<'a>(packet: &'a Packet<'_>) -> Option<(u8, &'a [u8; mad::LEN])> {
    mad::of_packet(packet).map(|mad| (mad[17], mad))
}

/// What a side calls itself on a connection. Some it tells in a first message, and is called so from there on.
#[derive(Clone, Copy, Default)]
struct Names {
    comm_id: [u8; 4],
    transactions: [[u8; 8]; 2],
    qpn: u32,
    first_psn: u32,
}

impl Names {
    /// Learns from what the side sends.
    fn learn(&mut self, attribute: u8, mad: &[u8; mad::LEN]) {
        let transaction = std::array::from_fn(|i| mad[8 + i]);
        match attribute {
            REQ | REP => {
                let (qpn, psn) = if attribute == REQ {
                    (REQ_QPN, REQ_PSN)
                } else {
                    (REP_QPN, REP_PSN)
                };
                self.comm_id = name(mad, BODY);
                self.transactions[0] = transaction;
                self.qpn = number(mad, qpn);
                self.first_psn = number(mad, psn);
            }
            DREQ => self.transactions[1] = transaction,
            _ => {}
        }
    }
}

/// One connection of the conversation.
struct Link {
    qp: QpId,
    conn: Option<ConnId>,
    peer: Names,
    /// What the side is called in the capture, and what the engine is called.
    then: Names,
    today: Names,
}

struct Fuzz<'a> {
    input: Input<'a>,
    m: Machine,
    now: Instant,
    /// Queue pairs without a connection.
    free: Vec<QpId>,
    links: Vec<Link>,
    conns: Vec<ConnId>,
    path: Path,
    /// What the peer reaches, by addresses as in the capture.
    mr: Mr,
    local: Mr,
    held_back: Option<Vec<u8>>,
    summary: Summary,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    play(data);
}

/// Runs one input: its first byte chooses capture and side.
pub fn play(data: &[u8]) -> Summary {
    let mut input = Input(data);
    let choice = usize::from(input.u8() % CHOICES);
    let frames = &captures()[choice / 2];
    let parsed: Vec<Packet<'_>> = frames
        .iter()
        .map(|f| Packet::parse(f).expect("chosen for that"))
        .collect();
    let request = parsed
        .iter()
        .find(|p| message(p).is_some_and(|(attribute, _)| attribute == REQ))
        .expect("a conversation begins with one");
    // The side that asks, or the one that is asked.
    let (here, there) = if choice % 2 == 0 {
        (request.ip.dst(), request.ip.src())
    } else {
        (request.ip.src(), request.ip.dst())
    };
    let mut fuzz = Fuzz::new(input, &parsed, here, there);
    for (frame, packet) in frames.iter().zip(&parsed) {
        if packet.ip.src() == there {
            fuzz.hear(frame, packet);
        } else {
            fuzz.say(packet);
        }
        fuzz.talk();
    }
    fuzz.end()
}

impl<'a> Fuzz<'a> {
    fn new(input: Input<'a>, all: &[Packet<'_>], here: IpAddr, there: IpAddr) -> Fuzz<'a> {
        let from = all.iter().find(|p| p.ip.src() == there);
        let eth = from.map_or(all[0].eth, |p| p.eth);
        let config = Config {
            local_mtu: 4400,
            max_qps: QPS,
            max_cqs: 2,
            max_srqs: 1,
            max_pds: 2,
            max_keys: 8,
            max_connections: 6,
            max_listeners: 1,
            max_transmissions: 64,
            seed: 3,
            ..Config::default()
        };
        let mut m = Machine::new(&config);
        let free = vec![m.create_qp(1), m.create_qp(2)];
        let asked = all.iter().filter(|p| p.ip.dst() == here);
        let reached = asked.filter_map(|p| {
            let reth = p.ext.reth.map(|r| (r.va, u64::from(r.len)));
            reth.or(p.ext.atomic.map(|a| (a.va, 8)))
        });
        let (mut first, mut end) = (u64::MAX, 0);
        for (va, len) in reached {
            (first, end) = (first.min(va), end.max(va + len));
        }
        let len = end.saturating_sub(first).clamp(8, MOST) as u32;
        let mr = m.register_at(m.pd, first.min(u64::MAX - MOST), len, Access::all(), true);
        let local = m.register(m.pd, 64 * 1024, Access::LOCAL_WRITE, true);
        Fuzz {
            input,
            m,
            now: Instant(1_000_000),
            free,
            links: Vec::new(),
            conns: Vec::new(),
            path: Path {
                src_mac: eth.dst,
                dst_mac: eth.src,
                vlan: eth.vlan,
                src_ip: here,
                dst_ip: there,
                hop_limit: 64,
                traffic_class: 0,
                mtu: PathMtu::Mtu4096,
            },
            mr,
            local,
            held_back: None,
            summary: Summary::default(),
        }
    }

    /// A connection begins.
    fn link(&mut self) -> Option<&mut Link> {
        let link = Link {
            qp: self.free.pop()?,
            conn: None,
            peer: Names::default(),
            then: Names::default(),
            today: Names::default(),
        };
        self.links.push(link);
        self.links.last_mut()
    }

    /// The side that the engine has taken said this then: its consumer wants the same.
    fn say(&mut self, packet: &Packet<'_>) {
        if let Some((attribute, mad)) = message(packet) {
            if attribute == REQ {
                self.ask(mad);
            } else {
                self.decide(attribute, mad);
            }
        } else {
            self.post(packet);
        }
    }

    fn ask(&mut self, mad: &[u8; mad::LEN]) {
        let (now, path) = (self.now, self.path);
        let port = 40_000 + self.links.len() as u16;
        let Some(link) = self.link() else { return };
        link.then.learn(REQ, mad);
        let params = ConnectParams {
            qp: link.qp,
            path,
            local_port: port,
            remote_port: u16::from_be_bytes([mad[BODY + 14], mad[BODY + 15]]),
            private_data: &[],
            responder_resources: 16,
            initiator_depth: 16,
        };
        let conn = self.m.engine.connect(now, &params).ok();
        self.conns.extend(conn);
        self.links.iter_mut().last().expect("made above").conn = conn;
        self.receives();
    }

    fn decide(&mut self, attribute: u8, mad: &[u8; mad::LEN]) {
        let peer = name(mad, BODY + 4);
        let Some(link) = self.links.iter_mut().find(|l| l.peer.comm_id == peer) else {
            return;
        };
        link.then.learn(attribute, mad);
        let (now, engine) = (self.now, &mut self.m.engine);
        let Some(conn) = link.conn else { return };
        match attribute {
            REP => {
                let params = AcceptParams {
                    qp: link.qp,
                    path: self.path,
                    private_data: &[],
                    responder_resources: 16,
                    initiator_depth: 16,
                };
                let _ = engine.accept(now, conn, &params);
                self.receives();
            }
            RTU => {
                let _ = engine.establish(now, conn);
            }
            DREQ => {
                let _ = engine.disconnect(now, conn);
            }
            _ => {}
        }
    }

    fn post(&mut self, packet: &Packet<'_>) {
        let peer = packet.bth.dest_qpn;
        let Some(link) = self.links.iter().find(|l| l.peer.qpn == peer) else {
            return;
        };
        let qp = link.qp;
        let opcode = packet.bth.opcode;
        let ExtHeaders { reth, atomic, .. } = packet.ext;
        let (remote_va, rkey) = (reth.map_or(0, |r| r.va), reth.map_or(0, |r| r.rkey));
        let len = reth.map_or(packet.payload.len() as u32, |r| r.len);
        let (op, len) = match opcode {
            Opcode::SendOnly => (SendOp::Send, len),
            // As long as a message of perftest's is here.
            Opcode::SendFirst => (SendOp::Send, 10_000),
            Opcode::WriteOnly | Opcode::WriteFirst => (SendOp::Write { remote_va, rkey }, len),
            Opcode::ReadRequest => (SendOp::Read { remote_va, rkey }, len),
            Opcode::FetchAdd => {
                let Some(a) = atomic else { return };
                let op = SendOp::FetchAdd {
                    remote_va: a.va,
                    rkey: a.rkey,
                    add: a.swap_add,
                };
                (op, 8)
            }
            _ => return,
        };
        let sgl = [self.local.sge(0, len)];
        let request = SendRequest {
            context: 0,
            op,
            sgl: &sgl,
            inline: None,
            flags: SendFlags::empty(),
        };
        self.m.post_send(self.now, qp, request);
    }

    fn receives(&mut self) {
        for link in &self.links {
            for _ in 0..4 {
                let sge = self.local.sge(0, 16 * 1024);
                self.m.post_recv(self.now, link.qp, sge);
            }
        }
    }

    /// Everything that the engine has to say.
    fn talk(&mut self) {
        for _ in 0..1000 {
            let Some(frame) = self.m.transmit(self.now) else {
                break;
            };
            let packet = Packet::parse(&frame).expect("looked at before");
            if let Some((attribute, mad)) = message(&packet) {
                let peer = name(mad, BODY + 4);
                let mut links = self.links.iter_mut().rev();
                if let Some(link) = links.find(|l| attribute == REQ || l.peer.comm_id == peer) {
                    link.today.learn(attribute, mad);
                }
            }
        }
        self.m.collect();
        for event in std::mem::take(&mut self.m.events) {
            match event {
                Event::ConnectRequest { conn, .. } => {
                    assert!(!self.conns.contains(&conn));
                    self.conns.push(conn);
                    if let Some(link) = self.links.last_mut() {
                        link.conn.get_or_insert(conn);
                    }
                }
                Event::Established { .. } => self.summary.established += 1,
                Event::Disconnected { .. } | Event::DisconnectDone { .. } => {
                    self.summary.disconnected += 1;
                }
                _ => {}
            }
        }
    }

    /// The other side said this then. It would say it to the engine by the names that the engine has.
    fn hear(&mut self, frame: &[u8], packet: &Packet<'_>) {
        let mut frame = frame.to_vec();
        let bth = IP + packet.ip.header_len() + 8;
        if let Some((attribute, mad)) = message(packet) {
            self.hear_of(attribute, mad);
            let to = name(mad, BODY + 4);
            let copy = &mut frame[bth + BEFORE_MAD..];
            if let Some(link) = self.links.iter().find(|l| l.then.comm_id == to) {
                copy[BODY + 4..BODY + 8].copy_from_slice(&link.today.comm_id);
                for (then, today) in link.then.transactions.iter().zip(link.today.transactions) {
                    if copy[8..16] == *then {
                        copy[8..16].copy_from_slice(&today);
                    }
                }
                if attribute == DREQ {
                    let qpn = link.today.qpn.to_be_bytes();
                    copy[DREQ_QPN..DREQ_QPN + 3].copy_from_slice(&qpn[1..]);
                }
            }
        } else {
            let to = packet.bth.dest_qpn;
            if let Some(link) = self.links.iter().find(|l| l.then.qpn == to) {
                frame[bth + 5..bth + 8].copy_from_slice(&link.today.qpn.to_be_bytes()[1..]);
                if packet.bth.opcode.is_rc_request() {
                    let steps = packet.bth.psn.since(Psn::new(link.then.first_psn));
                    let psn = Psn::new(link.today.first_psn).add(steps);
                    frame[bth + 9..bth + 12].copy_from_slice(&psn.get().to_be_bytes()[1..]);
                }
            }
            if packet.ext.reth.is_some() || packet.ext.atomic.is_some() {
                let key = self.mr.key.0.to_be_bytes();
                frame[bth + 20..bth + 24].copy_from_slice(&key);
            }
        }
        seal(&mut frame);
        self.deliver(frame);
    }

    /// Notes what the other side calls itself, and listens where it is about to ask.
    fn hear_of(&mut self, attribute: u8, mad: &[u8; mad::LEN]) {
        let (local, remote) = (name(mad, BODY), name(mad, BODY + 4));
        let link = match attribute {
            REQ if self.links.iter().all(|l| l.peer.comm_id != local) => {
                let port = u16::from_be_bytes([mad[BODY + 14], mad[BODY + 15]]);
                // It may listen already.
                let _ = self.m.engine.listen(self.path.src_ip, port);
                self.link()
            }
            REP => self.links.iter_mut().find(|l| l.then.comm_id == remote),
            _ => None,
        };
        if let Some(link) = link {
            link.peer.learn(attribute, mad);
        }
    }

    fn deliver(&mut self, mut frame: Vec<u8>) {
        let fate = self.input.u8();
        let places = self.input.below(3) + 1;
        match fate {
            0..64 => {}
            // Lost.
            64..80 => return,
            // Twice.
            80..96 => self.m.receive(self.now, &frame),
            // Behind the next one.
            96..112 => {
                if let Some(before) = self.held_back.replace(frame) {
                    self.m.receive(self.now, &before);
                }
                return;
            }
            112..128 => {
                let wait = self.input.pick(&[1, 100, 1000, 100_000, 2_000_000]);
                self.now = self.now.after(Duration::from_micros(wait));
                self.m.tick(self.now);
            }
            // Cut off; too long.
            128..136 => {
                let keep = self.input.below(frame.len() as u32);
                frame.truncate(keep as usize);
            }
            136..140 => frame.extend([0; 7]),
            // Changed: whatever there is, or what the transport has to say.
            _ => {
                let from = if fate & 2 != 0 { IP + 28 } else { 0 };
                for _ in 0..places {
                    let room = (frame.len() - from).min(256) as u32;
                    let at = from + self.input.below(room) as usize;
                    frame[at] = self.input.u8();
                }
                if fate & 1 != 0 {
                    seal(&mut frame);
                }
            }
        }
        self.m.receive(self.now, &frame);
        if let Some(before) = self.held_back.take() {
            self.m.receive(self.now, &before);
        }
    }

    fn end(mut self) -> Summary {
        self.m.collect();
        self.summary.completed = self.m.completions.len();
        self.summary.rx_bytes = self.m.engine.counters().rx_bytes;
        for conn in &self.conns {
            self.m.engine.forget(self.now, *conn);
        }
        for link in &self.links {
            self.m.destroy_qp(self.now, link.qp);
        }
        let mut now = self.now;
        for _ in 0..5_000 {
            while self.m.transmit(now).is_some() {}
            let Some(due) = self.m.engine.next_deadline() else {
                break;
            };
            now = now.max(due);
            self.m.tick(now);
        }
        let keys = [self.mr.key, self.local.key];
        self.m.end(now, &self.free, &keys, &[], &[]);
        self.summary
    }
}
