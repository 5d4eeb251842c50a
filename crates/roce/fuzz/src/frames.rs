//! Frames into a connected pair: two ends that talk, and somebody between them who holds back, repeats, changes and makes up packets, with
//! the right ICRC if he likes. Beside the pair there is another, which nobody touches: it must still work in the end.

use super::input::Input;
use super::machine::{DEPTH, Machine, Mr, QPS, path, seal};
use super::recent::Recent;
use arrayvec::ArrayVec;
use roce::cm::QpAttributes;
use roce::wire::frame::{Header, pad_of};
use roce::wire::{
    Aeth, AtomicAckEth, AtomicEth, Bth, Deth, ExtHeaders, Ieth, Immediate, Opcode, Packet, Reth,
    Syndrome,
};
use roce::{
    Access, Config, Instant, MrKey, PathMtu, PdId, Psn, QpId, RegionId, SendFlags, SendOp,
    SendRequest, Status,
};
use std::time::Duration;

/// Steps of one input, at most.
const STEPS: usize = 400;
/// Frames that the one between them keeps.
const STASH: usize = 8;

/// What an end has for the other to reach, or not to reach.
struct End {
    m: Machine,
    /// The queue pair that is attacked, and its neighbour.
    qp: QpId,
    qpn: u32,
    neighbour: QpId,
    /// Regions by what they permit; the last two are another protection domain's and nobody's any more.
    regions: Vec<Mr>,
    foreign: PdId,
    fast: MrKey,
    /// What is registered by `fast`, and by nothing else.
    fast_region: RegionId,
    window: MrKey,
    /// The PSN after that of the last request it sent, and its last response's.
    requested: u32,
    answered: u32,
    msn: u32,
}

const OPEN: usize = 0;
const SINK: usize = 3;
const SOURCE: usize = 4;

struct Fuzz<'a> {
    input: Input<'a>,
    ends: [End; 2],
    now: Instant,
    mtu: PathMtu,
    ipv6: bool,
    /// Frames that can come again, late.
    stash: Recent<Vec<u8>, STASH>,
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let shape = input.u8();
    let mtu = if shape & 1 == 0 {
        PathMtu::Mtu256
    } else {
        PathMtu::Mtu1024
    };
    let reads = [0, 1, 2, 4][usize::from(shape >> 1 & 3)];
    let first = [Psn::new(0xff_fff0), Psn::new(0x1000)];
    let config = Config {
        local_mtu: 1500,
        max_qps: QPS,
        max_cqs: 2,
        max_srqs: 1,
        max_pds: 2,
        max_keys: 16,
        max_connections: 4,
        max_listeners: 1,
        max_transmissions: 32,
        max_inbound_reads: 4,
        max_outbound_reads: 4,
        send_window: if shape & 8 == 0 { 128 } else { 5 },
        read_window: 16,
        read_chunk: if shape & 16 == 0 { 128 } else { 2 },
        ..Config::default()
    };
    let ipv6 = shape & 32 != 0;
    let mut ends = [0, 1].map(|n| End::new(&config, n, shape & 64 != 0));
    connect(&mut ends, |e| e.qp, reads, first, mtu, ipv6);
    connect(&mut ends, |e| e.neighbour, 1, first, mtu, ipv6);
    for (end, psn) in ends.iter_mut().zip(first) {
        end.qpn = end.m.engine.qp_number(end.qp).expect("it lives");
        end.requested = psn.get();
        end.answered = psn.get();
    }
    let mut fuzz = Fuzz {
        input,
        ends,
        now: Instant(1_000_000),
        mtu,
        ipv6,
        stash: Recent::default(),
    };
    for _ in 0..STEPS {
        if fuzz.input.is_empty() {
            break;
        }
        fuzz.step();
    }
    fuzz.end();
}

/// Connects one queue pair of each end to one another. The PSNs are those that the ends begin to send with.
fn connect(
    ends: &mut [End; 2],
    qp: impl Fn(&End) -> QpId,
    reads: u8,
    first: [Psn; 2],
    mtu: PathMtu,
    ipv6: bool,
) {
    let qps = [qp(&ends[0]), qp(&ends[1])];
    let local = [0, 1].map(|n| {
        let engine = &mut ends[n].m.engine;
        engine.prepare(qps[n], Some(first[1 - n])).expect("fresh")
    });
    for n in [0, 1] {
        let attributes = QpAttributes {
            peer_qpn: local[1 - n].qpn,
            path: path(n, ipv6, mtu),
            send_psn: first[n],
            retry_count: 3,
            rnr_retry_count: 3,
            ack_timeout: 8,
            responder_resources: reads,
            initiator_depth: reads,
        };
        let attached = ends[n].m.engine.attach(qps[n], &attributes);
        attached.expect("prepared");
    }
}

impl End {
    fn new(config: &Config, n: usize, shared: bool) -> End {
        let mut m = Machine::new(&Config {
            seed: n as u128,
            ..*config
        });
        let (pd, foreign) = (m.pd, m.engine.create_pd().expect("room"));
        let neighbour = m.create_qp(1);
        if shared {
            m.srq = m.engine.create_srq(pd, DEPTH, 2, 2).ok();
        }
        let qp = m.create_qp(2);
        let remote = Access::REMOTE_READ | Access::REMOTE_WRITE | Access::REMOTE_ATOMIC;
        let dead = m.register(pd, 600, Access::empty(), false);
        let regions = vec![
            m.register(pd, 3000, remote | Access::LOCAL_WRITE, true),
            m.register(pd, 600, Access::REMOTE_READ, false),
            m.register(pd, 600, Access::REMOTE_WRITE, false),
            m.register(pd, 3000, Access::LOCAL_WRITE, false),
            m.register(pd, 3000, Access::empty(), true),
            m.register(foreign, 600, Access::empty(), false),
            dead,
        ];
        m.engine.deregister(dead.key).expect("unused");
        End {
            qp,
            qpn: 0,
            neighbour,
            fast: m.engine.register_fast(pd, true).expect("room"),
            fast_region: m.memory.add(3000, true, true),
            window: m.engine.create_window(pd, 5).expect("room"),
            regions,
            foreign,
            m,
            requested: 0,
            answered: 0,
            msn: 0,
        }
    }

    /// Notes how far it has come, so that inventions can be near the truth.
    fn note(&mut self, frame: &[u8]) {
        let Ok(p) = Packet::parse(frame) else { return };
        if p.bth.opcode.is_rc_request() {
            self.requested = p.bth.psn.next().get();
        } else {
            self.answered = p.bth.psn.get();
            self.msn = p.ext.aeth.map_or(self.msn, |a| a.msn);
        }
    }
}

impl Fuzz<'_> {
    fn step(&mut self) {
        let what = self.input.u8();
        let n = usize::from(what >> 7);
        match what & 0x7f {
            0..24 => self.post(n),
            24..32 => {
                let len = self.input.below(2000);
                let end = &mut self.ends[n];
                let sge = end.regions[SINK].sge(0, len);
                end.m.post_recv(self.now, end.qp, sge);
            }
            32..56 => self.carry(n, what),
            56..88 => self.forge(n),
            88..92 => self.raw(n),
            92..100 => {
                let wait = self.input.pick(&[1, 20, 300, 1_500, 10_000, 2_000_000]);
                self.now = self.now.after(Duration::from_micros(wait));
                for end in &mut self.ends {
                    end.m.tick(self.now);
                }
            }
            100..104 => {
                let m = &mut self.ends[n].m;
                m.nic_holds = !m.nic_holds;
                m.release(self.now);
                m.collect();
            }
            104 => self.close(n),
            105 => {
                let end = &mut self.ends[n];
                end.m.engine.flush(self.now, end.qp);
                end.m.collect();
            }
            106 => {
                let end = &mut self.ends[n];
                end.m.destroy_qp(self.now, end.qp);
            }
            _ => {
                // They are left alone for a while.
                for _ in 0..self.input.below(8) + 1 {
                    self.pass(0);
                    self.pass(1);
                }
            }
        }
    }

    fn post(&mut self, n: usize) {
        let kind = self.input.u8();
        let flags = SendFlags::from_bits_truncate(self.input.u8());
        let len = self.input.below(1500);
        let at = u64::from(self.input.u8());
        let [end, other] = self.ends.get_disjoint_mut([n, 1 - n]).expect("two ends");
        let theirs = other.regions[usize::from(kind >> 4) % other.regions.len()];
        let (remote_va, rkey) = (theirs.va + at, theirs.key.0);
        let source = end.regions[SOURCE].sge(at as u32, len);
        let sink = end.regions[SINK].sge(at as u32, len);
        let eight = end.regions[SINK].sge(0, 8);
        let immediate = [kind; 4];
        let mr = end.regions[OPEN];
        let access = Access::from_bits_truncate(at as u8);
        let (op, sgl) = match kind & 15 {
            0 | 1 => (SendOp::Send, vec![source]),
            2 => (SendOp::SendImmediate(immediate), vec![source]),
            3 => (SendOp::SendInvalidate(other.window.0), vec![source]),
            4 => (SendOp::SendInvalidate(other.fast.0), vec![source]),
            5 | 6 => (SendOp::Write { remote_va, rkey }, vec![source]),
            7 => {
                let op = SendOp::WriteImmediate {
                    remote_va,
                    rkey,
                    immediate,
                };
                (op, vec![source])
            }
            8 | 9 => (SendOp::Read { remote_va, rkey }, vec![eight, sink]),
            10 => {
                let op = SendOp::CompareSwap {
                    remote_va,
                    rkey,
                    compare: at,
                    swap: 1,
                };
                (op, vec![eight])
            }
            11 => {
                let op = SendOp::FetchAdd {
                    remote_va,
                    rkey,
                    add: at,
                };
                (op, vec![eight])
            }
            12 => {
                let op = SendOp::FastRegister {
                    key: end.fast,
                    base: 0x80_0000,
                    len: 3000,
                    access: access | Access::LOCAL_WRITE,
                    region: end.fast_region,
                };
                (op, vec![])
            }
            13 => {
                let op = SendOp::Bind {
                    window: end.window,
                    mr: mr.key,
                    va: mr.va + at,
                    len: u64::from(len),
                    access,
                };
                (op, vec![])
            }
            14 => (SendOp::Invalidate { key: end.window }, vec![]),
            _ => (SendOp::Invalidate { key: end.fast }, vec![]),
        };
        let inline = [&[kind; 64][..(len % 65) as usize]];
        let request = SendRequest {
            context: 0,
            op,
            sgl: &sgl,
            inline: (kind & 0x8f == 0x81).then_some(&inline[..]),
            flags,
        };
        let key = end.m.post_send(self.now, end.qp, request);
        match (kind & 15, key) {
            (12, Some(key)) => end.fast = key,
            (13, Some(key)) => end.window = key,
            _ => {}
        }
        end.m.collect();
    }

    /// The next frame of one end goes to the other.
    fn pass(&mut self, from: usize) -> bool {
        let Some(frame) = self.ends[from].m.transmit(self.now) else {
            return false;
        };
        self.ends[from].note(&frame);
        self.deliver(1 - from, &frame);
        true
    }

    fn deliver(&mut self, to: usize, frame: &[u8]) {
        self.ends[to].m.receive(self.now, frame);
    }

    /// The next frame of one end, or one that was kept, does not get through as it is.
    fn carry(&mut self, from: usize, what: u8) {
        let kept = if what & 0x10 != 0 {
            let at = usize::from(self.input.u8());
            self.stash.pick(at).cloned()
        } else {
            None
        };
        let frame = kept.or_else(|| {
            let frame = self.ends[from].m.transmit(self.now)?;
            self.ends[from].note(&frame);
            self.stash.push(frame.clone());
            Some(frame)
        });
        let Some(mut frame) = frame else { return };
        match what & 7 {
            // Lost; come twice; changed.
            0 => {}
            1 => {
                self.deliver(1 - from, &frame);
                self.deliver(1 - from, &frame);
            }
            2..=4 => {
                let ib = if self.ipv6 { 62 } else { 42 };
                for _ in 0..self.input.below(3) + 1 {
                    // What is behind UDP; not whom it is for.
                    let most = frame.len() - ib - 4;
                    let at = ib + self.input.below(most.min(60) as u32) as usize;
                    if !(ib + 5..ib + 8).contains(&at) {
                        frame[at] = self.input.u8();
                    }
                }
                seal(&mut frame);
                self.deliver(1 - from, &frame);
            }
            _ => self.deliver(1 - from, &frame),
        }
    }

    /// A packet that nobody sent, for one end's queue pair and as if from the other.
    fn forge(&mut self, to: usize) {
        let input = &mut self.input;
        let op = Opcode::from_u8(input.below(0x18) as u8);
        let near = i32::from(input.u8() as i8);
        let [end, other] = self.ends.get_disjoint_mut([to, 1 - to]).expect("two ends");
        // About what it expects, or what it has asked for.
        let base = match (op.is_rc_request(), near & 1) {
            (true, 0) => other.requested,
            (true, _) => end.answered,
            (false, 0) => end.requested,
            (false, _) => other.answered,
        };
        let psn = Psn::new(base.wrapping_add_signed(near / 8));
        let flags = input.u8();
        let mr = end.regions[input.below(end.regions.len() as u32) as usize];
        let rkey = match flags & 0x30 {
            0x00 => end.window.0,
            0x10 => end.fast.0,
            _ => mr.key.0,
        };
        let va = match flags & 0x30 {
            0x10 => 0x80_0000,
            0x00 => end.regions[OPEN].va + 8,
            _ => mr.va,
        };
        let offset = i64::from(input.u8() as i8) * 8;
        let va = va.wrapping_add_signed(offset);
        let mtu = self.mtu.bytes();
        let len = match input.u8() {
            255 => input.u32(),
            254 => mtu,
            253 => 2 * mtu + 1,
            // To the end of the region, or nearly, or beyond.
            n @ 230..253 => (i64::from(mr.len) - offset + i64::from(n) - 240) as u32,
            n => u32::from(n),
        };
        let payload = match flags & 0x0c {
            0 => len.min(mtu),
            4 => mtu,
            _ => input.u8().into(),
        };
        let msn = match flags & 0xc0 {
            0 => input.u32(),
            n => other.msn + u32::from(n >> 6) - 1,
        };
        let syndrome = Syndrome::from_u8(input.u8());
        let ext = ExtHeaders {
            deth: op.has_deth().then_some(Deth {
                qkey: 0,
                src_qpn: 0,
            }),
            reth: op.has_reth().then_some(Reth { va, rkey, len }),
            atomic: op.has_atomic_eth().then_some(AtomicEth {
                va,
                rkey,
                swap_add: u64::from(len),
                compare: 0,
            }),
            aeth: op.has_aeth().then_some(Aeth { syndrome, msn }),
            atomic_ack: op
                .has_atomic_ack_eth()
                .then_some(AtomicAckEth { original: va }),
            immediate: op.has_immediate().then_some(Immediate([7; 4])),
            ieth: op.has_ieth().then_some(Ieth { rkey }),
        };
        let payload = if op.has_payload() {
            &[0x5a; 2048][..payload as usize]
        } else {
            &[]
        };
        let bth = Bth {
            solicited: flags & 1 != 0,
            ack_req: flags & 2 != 0,
            ..Bth::new(op, end.qpn, psn)
        };
        self.frame(to, bth, ext, payload);
    }

    fn frame(&mut self, to: usize, bth: Bth, ext: ExtHeaders, payload: &[u8]) {
        let path = path(1 - to, self.ipv6, self.mtu);
        let mut header = ArrayVec::<u8, 256>::new();
        let Ok(mut icrc) = Header::new(&path, 0xc000, bth, ext).write(payload.len(), &mut header)
        else {
            return;
        };
        icrc.update(payload);
        let trailer = icrc.trailer(pad_of(payload.len()));
        let frame = [&header[..], payload, &trailer].concat();
        self.deliver(to, &frame);
    }

    /// Bytes without a plan, behind good headers or from the start.
    fn raw(&mut self, to: usize) {
        let how = self.input.u8();
        let len = usize::from(self.input.u8());
        let bytes = self.input.bytes(len);
        if how & 3 == 0 {
            self.deliver(to, bytes);
            return;
        }
        // Whatever follows this opcode has no header of its own: all of it can be overwritten.
        let bth = Bth::new(Opcode::SendOnly, self.ends[to].qpn, Psn::ZERO);
        let path = path(1 - to, self.ipv6, self.mtu);
        let mut frame = ArrayVec::<u8, 512>::new();
        let header = Header::new(&path, 0xc000, bth, ExtHeaders::NONE);
        let body = bytes.len().saturating_sub(12) & !3;
        let Ok(_) = header.write(body, &mut frame) else {
            return;
        };
        let mut frame = frame.to_vec();
        let at = frame.len() - 12;
        for (to, from) in frame[at..].iter_mut().zip(bytes) {
            *to = *from;
        }
        if how & 4 != 0 {
            frame[at + 5..at + 8].copy_from_slice(&self.ends[to].qpn.to_be_bytes()[1..]);
        }
        frame.extend(bytes.iter().skip(12).take(body));
        frame.extend([0; 4]);
        if how & 8 == 0 {
            seal(&mut frame);
        }
        self.deliver(to, &frame);
    }

    /// The region that is open to the peer is not any more.
    fn close(&mut self, n: usize) {
        let end = &mut self.ends[n];
        let mr = end.regions[OPEN];
        if end.m.engine.deregister(mr.key).is_ok() {
            end.m.memory.close(mr.region);
        }
        end.m.collect();
    }

    fn end(mut self) {
        let now = self.now;
        for end in &mut self.ends {
            end.m.nic_holds = false;
            end.m.release(now);
            end.m.destroy_qp(now, end.qp);
            end.m.release(now);
            end.m.collect();
            end.m.completions.clear();
        }
        self.neighbours();
        let now = self.now;
        for end in self.ends {
            let keys: Vec<MrKey> = end.regions.iter().map(|mr| mr.key).collect();
            let keys = [&keys[..], &[end.fast]].concat();
            let qps = [end.qp, end.neighbour];
            end.m.end(now, &qps, &keys, &[end.window], &[end.foreign]);
        }
    }

    /// The other queue pairs exchange a message.
    fn neighbours(&mut self) {
        let now = self.now;
        let (shared, mut sinks) = ([self.ends[0].m.srq, self.ends[1].m.srq], Vec::new());
        for end in &mut self.ends {
            // They have receives of their own.
            end.m.srq = None;
            let sink = end.m.register(end.m.pd, 700, Access::LOCAL_WRITE, false);
            end.m.post_recv(now, end.neighbour, sink.sge(0, 700));
            let source = end.regions[SOURCE].sge(0, 700);
            let request = SendRequest {
                context: 0,
                op: SendOp::Send,
                sgl: &[source],
                inline: None,
                flags: SendFlags::empty(),
            };
            end.m.post_send(now, end.neighbour, request);
            sinks.push(sink);
        }
        for _ in 0..100 {
            if !(self.pass(0) | self.pass(1)) {
                break;
            }
        }
        for ((end, srq), sink) in self.ends.iter_mut().zip(shared).zip(sinks) {
            end.m.srq = srq;
            let good = end.m.completions.iter();
            let good = good.filter(|c| (c.qp_context, c.status) == (1, Status::Success));
            assert_eq!(good.count(), 2, "{:?}", end.m.completions);
            let source = end.regions[SOURCE].region;
            assert_eq!(
                end.m.memory.bytes(sink.region),
                &end.m.memory.bytes(source)[..700]
            );
            let _ = end.m.engine.deregister(sink.key);
        }
    }
}
