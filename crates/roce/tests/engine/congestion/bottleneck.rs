//! Hosts that send to one receiver through the one port of a switch that leads there: a rate, a queue, and marks where the queue is long.

use crate::util::{Host, IP_B, MAC_B, Mr, Setup};
use roce::cm::QpAttributes;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{Bth, EcnCodepoint, ExtHeaders, Opcode, Packet};
use roce::{Config, Counters, Ecn, Instant, Path, PathMtu, Psn, QpId, Status};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Of every NIC and of the port, bits in a nanosecond.
const GIGABITS: u64 = 10;

/// From a host to the switch, and from the switch to a host.
const DELAY: Duration = Duration::from_micros(2);

/// Bytes in the queue from which on a packet is marked, if it may be.
const THRESHOLD: u64 = 100_000;

const MESSAGE: u32 = 256 * 1024;

/// How a sender is made.
pub struct Sender {
    pub send_window: u32,
    pub ecn: Ecn,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A frame of sender `n` is at the switch.
    AtSwitch(usize, Vec<u8>),
    /// A frame of sender `n` is at the receiver.
    AtReceiver(usize, Vec<u8>),
    /// A frame is at sender `n`.
    AtSender(usize, Vec<u8>),
    /// The NIC of sender `n` can take another frame.
    NicFree(usize),
    /// Somebody makes up notifications for everybody.
    Flood,
}

struct Flow {
    host: Host,
    qp: QpId,
    /// Its number.
    qpn: u32,
    path: Path,
    source: Mr,
    sink: Mr,
    nic_free: Instant,
    /// Messages.
    outstanding: u32,
    stopped: bool,
    /// Payload bytes that have left the bottleneck.
    delivered: u64,
}

pub struct Bottleneck {
    flows: Vec<Flow>,
    receiver: Host,
    now: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Happening)>>,
    serial: u64,
    /// When the port has sent everything that is in its queue.
    port_free: Instant,
    /// Bytes in the queue at most since [`forget`](Self::forget).
    pub longest: u64,
    /// A notification for every sender, made up, this often.
    pub flood: Option<Duration>,
    flooding: bool,
    /// The switch marks everything, even what may not be marked.
    pub marks_all: bool,
    /// What hosts have sent: when, who, and a digest of it. The receiver is the last.
    pub sent: Vec<(Instant, usize, u64)>,
}

fn path(n: usize) -> Path {
    let n = n as u8;
    Path {
        src_mac: [2, 0, 0, 0, 1, n],
        dst_mac: MAC_B,
        vlan: None,
        src_ip: IpAddr::V4(Ipv4Addr::new(10, 0, 1, n)),
        dst_ip: IP_B,
        hop_limit: 64,
        traffic_class: 0,
        mtu: PathMtu::Mtu4096,
    }
}

fn back(path: &Path) -> Path {
    Path {
        src_mac: path.dst_mac,
        dst_mac: path.src_mac,
        src_ip: path.dst_ip,
        dst_ip: path.src_ip,
        ..*path
    }
}

/// How long that is on a wire.
fn time_of(len: usize) -> Duration {
    Duration::from_nanos(len as u64 * 8 / GIGABITS)
}

/// What a switch does to a packet where there is congestion; it leaves the ICRC alone.
fn mark(frame: &mut [u8]) {
    frame[15] |= EcnCodepoint::Congested as u8;
}

impl Bottleneck {
    pub fn new(senders: Vec<Sender>) -> Bottleneck {
        let setup = Setup::default();
        let ecn = senders[0].ecn;
        let config = |seed: usize, send_window| Config {
            seed: seed as u128,
            send_window,
            ecn,
            ..setup.config
        };
        let mut receiver = Host::new(&config(99, 128));
        let mut flows = Vec::new();
        for (n, sender) in senders.into_iter().enumerate() {
            assert_eq!(sender.ecn, ecn);
            let mut host = Host::new(&config(n, sender.send_window));
            let (qp, peer) = (host.create_qp(), receiver.create_qp());
            let ours = host.engine.prepare(qp, None).unwrap();
            let theirs = receiver.engine.prepare(peer, None).unwrap();
            let path = path(n);
            let attributes = |path, peer_qpn, send_psn| QpAttributes {
                peer_qpn,
                path,
                send_psn,
                retry_count: 7,
                rnr_retry_count: 7,
                ack_timeout: 10,
                responder_resources: 4,
                initiator_depth: 4,
            };
            let to = attributes(path, theirs.qpn, theirs.psn);
            let from = attributes(back(&path), ours.qpn, ours.psn);
            host.engine.attach(qp, &to).unwrap();
            receiver.engine.attach(peer, &from).unwrap();
            let source = host.open(vec![n as u8; MESSAGE as usize]);
            let sink = receiver.open(vec![0; MESSAGE as usize]);
            flows.push(Flow {
                host,
                qp,
                qpn: ours.qpn,
                path,
                source,
                sink,
                nic_free: Instant::ZERO,
                outstanding: 0,
                stopped: false,
                delivered: 0,
            });
        }
        Bottleneck {
            flows,
            receiver,
            now: Instant(1_000_000),
            events: BinaryHeap::new(),
            serial: 0,
            port_free: Instant::ZERO,
            longest: 0,
            flood: None,
            flooding: false,
            marks_all: false,
            sent: Vec::new(),
        }
    }

    /// Counts from now on.
    pub fn forget(&mut self) {
        self.longest = 0;
        self.flows.iter_mut().for_each(|f| f.delivered = 0);
    }

    /// What each sender has got through within `time`.
    pub fn gigabits(&self, time: Duration) -> Vec<f64> {
        let rate = |f: &Flow| f.delivered as f64 * 8.0 / time.as_nanos() as f64;
        self.flows.iter().map(rate).collect()
    }

    pub fn timeouts(&self) -> u64 {
        let of = |f: &Flow| f.host.engine.counters().timeouts;
        self.flows.iter().map(of).sum()
    }

    /// What all hosts have counted of congestion.
    pub fn counters(&self) -> Counters {
        let mut sum = *self.receiver.engine.counters();
        for flow in &self.flows {
            let one = flow.host.engine.counters();
            sum.rx_congested += one.rx_congested;
            sum.rx_cnps += one.rx_cnps;
            sum.tx_cnps += one.tx_cnps;
        }
        sum
    }

    /// Sender `n` begins no further message.
    pub fn stop(&mut self, n: usize) {
        self.flows[n].stopped = true;
    }

    fn at(&mut self, when: Instant, what: Happening) {
        self.serial += 1;
        self.events.push(Reverse((when, self.serial, what)));
    }

    fn note(&mut self, who: usize, frame: &[u8]) {
        let mut digest = DefaultHasher::new();
        frame.hash(&mut digest);
        self.sent.push((self.now, who, digest.finish()));
    }

    /// Keeps every sender busy and sends what can be sent.
    fn pump(&mut self) {
        let now = self.now;
        for n in 0..self.flows.len() {
            let flow = &mut self.flows[n];
            flow.host.reap(now);
            flow.host.collect();
            assert_eq!(flow.host.events, []);
            for done in flow.host.completions.drain(..) {
                assert_eq!(done.status, Status::Success);
                flow.outstanding -= 1;
            }
            while !flow.stopped && flow.outstanding < 4 {
                let (op, from) = (flow.sink.write(), [flow.source.all()]);
                flow.host.send(now, flow.qp, 0, op, &from);
                flow.outstanding += 1;
            }
            if flow.nic_free > now {
                continue;
            }
            let Some(frame) = flow.host.transmit(now) else {
                continue;
            };
            let free = now.after(time_of(frame.len()));
            flow.nic_free = free;
            self.note(n, &frame);
            self.at(free.after(DELAY), Happening::AtSwitch(n, frame));
            self.at(free, Happening::NicFree(n));
        }
        self.receiver.reap(now);
        self.receiver.collect();
        while let Some(frame) = self.receiver.transmit(now) {
            self.note(self.flows.len(), &frame);
            let to = Packet::parse(&frame).unwrap().ip.dst();
            let n = self.flows.iter().position(|f| f.path.src_ip == to).unwrap();
            self.at(now.after(2 * DELAY), Happening::AtSender(n, frame));
        }
    }

    fn happen(&mut self, what: Happening) {
        let now = self.now;
        match what {
            Happening::AtSwitch(n, mut frame) => {
                let backlog = self.port_free.since(now).as_nanos() as u64 * GIGABITS / 8;
                self.longest = self.longest.max(backlog);
                let ecn = Packet::parse(&frame).unwrap().ecn();
                let marks = backlog > THRESHOLD && ecn != EcnCodepoint::NotCapable;
                if marks || self.marks_all {
                    mark(&mut frame);
                }
                self.port_free = self.port_free.max(now).after(time_of(frame.len()));
                let then = self.port_free.after(DELAY);
                self.at(then, Happening::AtReceiver(n, frame));
            }
            Happening::AtReceiver(n, frame) => {
                let payload = Packet::parse(&frame).unwrap().payload.len();
                self.flows[n].delivered += payload as u64;
                let host = &mut self.receiver;
                host.engine.receive(now, &frame, &mut host.memory);
            }
            Happening::AtSender(n, frame) => {
                let host = &mut self.flows[n].host;
                host.engine.receive(now, &frame, &mut host.memory);
            }
            Happening::NicFree(_) => {}
            Happening::Flood => {
                self.flooding = false;
                self.flood();
            }
        }
    }

    /// Notifies every sender, in the name of the receiver.
    fn flood(&mut self) {
        let Some(period) = self.flood.filter(|_| !self.flooding) else {
            return;
        };
        self.flooding = true;
        for flow in &mut self.flows {
            let bth = Bth {
                becn: true,
                ..Bth::new(Opcode::Cnp, flow.qpn, Psn::ZERO)
            };
            let mut frame = arrayvec::ArrayVec::<u8, 128>::new();
            let path = back(&flow.path);
            let mut icrc = Header::new(&path, 0, bth, ExtHeaders::NONE)
                .write(16, &mut frame)
                .unwrap();
            frame.extend([0; 16]);
            icrc.update(&[0; 16]);
            frame.extend(icrc.trailer(pad_of(16)));
            let host = &mut flow.host;
            host.engine.receive(self.now, &frame, &mut host.memory);
        }
        self.at(self.now.after(period), Happening::Flood);
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.flood();
        loop {
            self.pump();
            let hosts = self.flows.iter().map(|f| &f.host).chain([&self.receiver]);
            let next = hosts
                .flat_map(|h| [h.engine.next_deadline(), h.next_reap()])
                .chain([self.events.peek().map(|Reverse((at, ..))| *at)])
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next < end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            let now = self.now;
            while self
                .events
                .peek()
                .is_some_and(|Reverse((at, ..))| *at <= now)
            {
                let Some(Reverse((_, _, what))) = self.events.pop() else {
                    break;
                };
                self.happen(what);
            }
            let hosts = self.flows.iter_mut().map(|f| &mut f.host);
            for host in hosts.chain([&mut self.receiver]) {
                host.engine.handle_timeout(now);
            }
        }
    }
}
