//! Messages of 2^31 bytes, the longest there are, from end to end through memory that only pretends to be there.

use crate::util::{Setup, Side, pattern};
use roce::cm::QpAttributes;
use roce::wire::{Aeth, Bth, ExtHeaders, Opcode, Packet, Reth, Syndrome};
use roce::{
    Access, Atomic, Completion, CompletionOp, Config, CqId, Crc32, Engine, Fault, Instant, Memory,
    PathMtu, Psn, QpId, QpParams, RegionId, SendFlags, SendOp, SendRequest, Sge, Status, Transmit,
    Verdict,
};
use std::sync::OnceLock;

const LONGEST: u32 = 1 << 31;
/// PSNs wrap on the way.
const FIRST: u32 = 0xff_0000;
const NOW: Instant = Instant(1_000_000);
/// Where the region lies in the address space: its end is that of what 32 bits can count, and more.
const BASE: u64 = 0xffff_0000;
/// After so many bytes memory repeats itself; no multiple of any path MTU.
const PERIOD: usize = 1_000_003;

/// What is in memory from `offset` on. There is a packet more of it than a period.
fn bytes(offset: u64, len: usize) -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let all = BYTES.get_or_init(|| {
        let period = pattern(PERIOD, 1);
        [&period[..], &period[..4096]].concat()
    });
    &all[(offset % PERIOD as u64) as usize..][..len]
}

/// Every byte that is read is what belongs to its place, and what is written has to be that, from the beginning to the end.
#[derive(Default)]
struct Sparse {
    filled: u64,
}

impl Sparse {
    fn next(&mut self, offset: u64, data: &[u8]) -> Result<(), Fault> {
        assert_eq!(offset, self.filled, "out of order");
        assert!(bytes(offset, data.len()) == data, "wrong bytes at {offset}");
        self.filled += data.len() as u64;
        Ok(())
    }
}

impl Memory for Sparse {
    fn write(&mut self, _: RegionId, offset: u64, data: &[u8]) -> Result<(), Fault> {
        self.next(offset, data)
    }

    fn place(
        &mut self,
        _: RegionId,
        offset: u64,
        data: &[u8],
        crc: &mut Crc32,
    ) -> Result<(), Fault> {
        crc.update(data);
        self.next(offset, data)
    }

    fn atomic(&mut self, _: RegionId, _: u64, _: Atomic) -> Result<u64, Fault> {
        Err(Fault)
    }

    fn visit(
        &self,
        _: RegionId,
        offset: u64,
        len: u32,
        f: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Fault> {
        f(bytes(offset, len as usize));
        Ok(())
    }
}

struct End {
    engine: Engine,
    cq: CqId,
    qp: QpId,
    all: Sge,
    memory: Sparse,
    out: Transmit,
    frame: Vec<u8>,
}

impl End {
    fn new(setup: &Setup) -> End {
        let mut engine = Engine::try_new(&Config {
            // Time stands still.
            ack_timeout: 0,
            ..setup.config
        })
        .unwrap();
        let pd = engine.create_pd().unwrap();
        let cq = engine.create_cq(16).unwrap();
        let access = Access::LOCAL_WRITE | Access::REMOTE_READ | Access::REMOTE_WRITE;
        let key = engine
            .register(pd, BASE, LONGEST.into(), access, RegionId(0))
            .unwrap();
        let params = QpParams {
            pd,
            send_cq: cq,
            recv_cq: cq,
            srq: None,
            sq_depth: 4,
            rq_depth: 4,
            max_send_sge: 1,
            max_recv_sge: 1,
            max_read_sge: 1,
            max_inline: 0,
            atomics: false,
            context: 0,
        };
        let qp = engine.create_qp(&params).unwrap();
        End {
            engine,
            cq,
            qp,
            all: Sge {
                key: key.0,
                va: BASE,
                len: LONGEST,
            },
            memory: Sparse::default(),
            out: Transmit::new(),
            frame: Vec::new(),
        }
    }

    fn post(&mut self, op: SendOp, local: Sge) {
        let request = SendRequest {
            context: 1,
            op,
            sgl: &[local],
            inline: None,
            flags: SendFlags::empty(),
        };
        self.engine.post_send(NOW, self.qp, &request).unwrap();
    }

    /// The next frame, with the bytes behind its pieces if anybody wants them; the NIC has it at once.
    fn transmit(&mut self, whole: bool) -> bool {
        let (memory, out) = (&self.memory, &mut self.out);
        if !self.engine.poll_transmit(NOW, memory, out) {
            return false;
        }
        self.frame.clear();
        self.frame.extend(&self.out.header);
        if whole {
            for piece in &self.out.pieces {
                self.frame.extend(bytes(piece.offset, piece.len as usize));
            }
            self.frame.extend(&self.out.trailer);
        }
        if let Some(token) = self.out.token {
            self.engine.transmitted(NOW, token);
        }
        true
    }

    fn receive(&mut self, frame: &[u8]) {
        let verdict = self.engine.receive(NOW, frame, &mut self.memory);
        assert_eq!(verdict, Verdict::Consumed);
    }

    fn completed(&mut self) -> Vec<(CompletionOp, Status)> {
        let mut all = [Completion::default(); 16];
        let n = self.engine.poll_cq(self.cq, &mut all);
        all[..n].iter().map(|c| (c.op, c.status)).collect()
    }
}

fn connected(setup: &Setup) -> [End; 2] {
    let mut ends = [End::new(setup), End::new(setup)];
    let local = [0, 1].map(|n| {
        let End { engine, qp, .. } = &mut ends[n];
        engine.prepare(*qp, Some(Psn::new(FIRST))).unwrap()
    });
    for (n, side) in [Side::A, Side::B].into_iter().enumerate() {
        let attributes = QpAttributes {
            peer_qpn: local[1 - n].qpn,
            path: setup.path(side),
            send_psn: Psn::new(FIRST),
            retry_count: 0,
            rnr_retry_count: 0,
            ack_timeout: 0,
            responder_resources: 4,
            initiator_depth: 4,
        };
        let End { engine, qp, .. } = &mut ends[n];
        engine.attach(*qp, &attributes).unwrap();
    }
    ends
}

/// All that is to be sent arrives. How many packets that were of A and of B, and the PSN of the newest of A.
fn run([a, b]: &mut [End; 2]) -> ([u64; 2], u32) {
    let (mut sent, mut newest) = ([0; 2], 0);
    let psn = |frame: &[u8]| Packet::parse(frame).unwrap().bth.psn.get();
    loop {
        let before = sent;
        while a.transmit(true) {
            newest = psn(&a.frame);
            b.receive(&a.frame);
            sent[0] += 1;
        }
        while b.transmit(true) {
            a.receive(&b.frame);
            sent[1] += 1;
        }
        if sent == before {
            return (sent, newest);
        }
    }
}

/// One message of 2^31 bytes, and a SEND of none behind it, at path MTU 4096.
fn exchange(op: fn(&End) -> SendOp, done: CompletionOp) -> [End; 2] {
    let mut ends = connected(&Setup {
        mtu: PathMtu::Mtu4096,
        ..Setup::default()
    });
    let [a, b] = &mut ends;
    if done == CompletionOp::Send {
        b.engine.post_recv(NOW, b.qp, 1, &[b.all]).unwrap();
    }
    a.post(op(b), a.all);
    run(&mut ends);
    let [a, b] = &mut ends;
    assert_eq!(a.completed(), [(done, Status::Success)]);
    b.engine.post_recv(NOW, b.qp, 2, &[]).unwrap();
    let nothing = Sge { len: 0, ..a.all };
    a.post(SendOp::Send, nothing);
    let (sent, psn) = run(&mut ends);
    assert_eq!(sent, [1, 1]);
    assert_eq!(psn, (FIRST + LONGEST / 4096) & 0xff_ffff);
    for end in &ends {
        let counters = end.engine.counters();
        assert_eq!(
            (counters.retransmissions, counters.duplicate_requests),
            (0, 0)
        );
    }
    ends
}

#[test]
fn a_send_of_two_to_the_31_bytes_arrives() {
    let [_, mut b] = exchange(|_| SendOp::Send, CompletionOp::Send);
    assert_eq!(b.memory.filled, LONGEST.into());
    let done = (CompletionOp::Receive, Status::Success);
    assert_eq!(b.completed(), [done, done]);
}

#[test]
fn a_write_of_two_to_the_31_bytes_arrives() {
    let write = |b: &End| SendOp::Write {
        remote_va: BASE,
        rkey: b.all.key,
    };
    let [_, b] = exchange(write, CompletionOp::Write);
    assert_eq!(b.memory.filled, LONGEST.into());
}

#[test]
fn a_read_of_two_to_the_31_bytes_arrives() {
    let read = |b: &End| SendOp::Read {
        remote_va: BASE,
        rkey: b.all.key,
    };
    let [a, _] = exchange(read, CompletionOp::Read);
    assert_eq!(a.memory.filled, LONGEST.into());
}

/// At path MTU 256 it takes half of all PSNs. Nobody executes it here; acknowledgements are made up.
#[test]
fn a_write_of_two_to_the_31_bytes_is_cut_into_the_smallest_packets() {
    const PACKETS: u32 = LONGEST / 256;
    let mut setup = Setup::small();
    setup.config.send_window = 1 << 14;
    let [mut a, b] = connected(&setup);
    let write = SendOp::Write {
        remote_va: BASE,
        rkey: b.all.key,
    };
    a.post(write, a.all);
    let qpn = a.engine.qp_number(a.qp).unwrap();
    let mut sent = 0;
    while sent < PACKETS {
        while a.transmit(false) {
            let (bth, rest) = Bth::parse(&a.out.header[42..]).unwrap();
            assert_eq!(bth.psn.get(), (FIRST + sent) & 0xff_ffff);
            let offset = u64::from(sent) * 256;
            let op = match sent {
                0 => Opcode::WriteFirst,
                n if n + 1 == PACKETS => Opcode::WriteLast,
                _ => Opcode::WriteMiddle,
            };
            assert_eq!(bth.opcode, op);
            let (ext, rest) = ExtHeaders::parse(op, rest).unwrap();
            assert!(rest.is_empty());
            let range = Reth {
                va: BASE,
                rkey: b.all.key,
                len: LONGEST,
            };
            assert_eq!(ext.reth, (sent == 0).then_some(range));
            let [piece] = a.out.pieces[..] else {
                panic!("{:?}", a.out.pieces)
            };
            assert_eq!((piece.offset, piece.len), (offset, 256));
            sent += 1;
        }
        let psn = Psn::new(FIRST + sent - 1);
        let aeth = Aeth {
            syndrome: Syndrome::from_u8(0x1f),
            msn: (sent == PACKETS).into(),
        };
        let ext = ExtHeaders {
            aeth: Some(aeth),
            ..ExtHeaders::NONE
        };
        let bth = Bth::new(Opcode::Acknowledge, qpn, psn);
        let path = setup.path(Side::B);
        let ack = crate::util::capture::frame(&path, 0xc123, bth, ext, &[]);
        assert_eq!(a.completed(), []);
        a.receive(&ack);
    }
    assert_eq!(a.completed(), [(CompletionOp::Write, Status::Success)]);
    assert_eq!(a.engine.counters().retransmissions, 0);
}

/// What no peer would answer in one piece is asked for in many.
#[test]
fn a_read_of_two_to_the_31_bytes_never_takes_half_of_all_psns() {
    let setup = Setup::small();
    let [mut a, b] = connected(&setup);
    let read = SendOp::Read {
        remote_va: BASE,
        rkey: b.all.key,
    };
    a.post(read, a.all);
    let chunk = setup.config.read_chunk;
    let mut asked = 0;
    while a.transmit(true) {
        let packet = Packet::parse(&a.frame).unwrap();
        assert_eq!(packet.bth.psn.get(), FIRST + asked * chunk);
        let range = Reth {
            va: BASE + u64::from(asked * chunk * 256),
            rkey: b.all.key,
            len: chunk * 256,
        };
        assert_eq!(packet.ext.reth, Some(range));
        asked += 1;
    }
    assert_eq!(asked, setup.config.read_window / chunk);
}
