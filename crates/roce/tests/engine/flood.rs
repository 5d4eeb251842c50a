//! Who asks much waits longest: what strangers are answered comes behind what connections have to say, and takes turns with data.

use crate::util::*;
use roce::wire::cm_msg::{Dreq, Message, Rep, private_data};
use roce::wire::frame::Header;
use roce::wire::{Opcode, Packet, mad};
use roce::{Path, PathMtu, Psn, QpId, SendOp};

/// More than the answers that wait.
const FLOOD: u32 = 1500;

/// A message of nobody's to B, about a connection that is not.
fn strangers(n: u32) -> Vec<u8> {
    let dreq = Message::Dreq(Dreq {
        local_comm_id: 0x6600_0000 | n,
        remote_comm_id: 0x7700_0000 | n,
        remote_qpn: 5,
        private: private_data(&[]),
    });
    let mad = dreq.emit(u64::from(n));
    let (bth, ext) = mad::transport_headers(Psn::ZERO);
    let path = Path {
        src_ip: "10.0.0.66".parse().unwrap(),
        ..path(Side::A, PathMtu::Mtu1024)
    };
    let mut frame = arrayvec::ArrayVec::<u8, 512>::new();
    let mut icrc = Header::new(&path, 0xc001, bth, ext)
        .write(mad.len(), &mut frame)
        .unwrap();
    icrc.update(&mad);
    [&frame[..], &mad[..], &icrc.trailer(0)[..]].concat()
}

fn flood(p: &mut Pair) {
    for n in 0..FLOOD {
        let frame = strangers(n);
        p.b.engine.receive(p.now, &frame, &mut p.b.memory);
    }
}

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    /// An answer to a stranger.
    Stranger,
    /// Anything else from the connection manager, by its attribute.
    Own(u16),
    Data,
    Acknowledgement,
}

/// The next frames of B; what they are.
fn said(p: &mut Pair, at_most: usize) -> Vec<Said> {
    let mut all = Vec::new();
    while all.len() < at_most
        && let Some(frame) = p.b.transmit(p.now)
    {
        p.b.reap(p.now);
        let packet = Packet::parse(&frame).unwrap();
        all.push(match packet.bth.opcode {
            Opcode::UdSendOnly => {
                let (_, message) = Message::parse(mad::of_packet(&packet).unwrap()).unwrap();
                match message {
                    Message::Drep(_) => Said::Stranger,
                    other => Said::Own(other.attribute()),
                }
            }
            Opcode::Acknowledge => Said::Acknowledgement,
            _ => Said::Data,
        });
    }
    all
}

/// A queue pair of B that has eighty packets to send.
fn busy(p: &mut Pair) -> (QpId, QpId) {
    let (qa, qb) = p.attach();
    let (from, to) = (p.b.open(pattern(80_000, 1)), p.a.open(vec![0; 80_000]));
    p.b.send(p.now, qb, 1, to.write(), &[from.all()]);
    (qa, qb)
}

#[test]
fn answers_to_strangers_come_behind_connections_and_take_turns_with_data() {
    let mut p = Pair::new(Setup::default());
    p.listen();
    p.request(1);
    p.run(SECOND / 1000);
    let conn = p.requests()[0];
    flood(&mut p);
    p.accept(conn);
    busy(&mut p);
    let first = said(&mut p, 3);
    assert!(first[..2].contains(&Said::Own(Rep::ATTRIBUTE)), "{first:?}");
    assert!(first.contains(&Said::Data), "{first:?}");
    // From here on, one by one, until one of both has no more.
    let then = said(&mut p, 60);
    for pair in then.chunks(2) {
        assert!(pair.contains(&Said::Data) && pair.contains(&Said::Stranger));
    }
    let rest = said(&mut p, usize::MAX);
    let strangers = |all: &[Said]| all.iter().filter(|s| **s == Said::Stranger).count();
    assert_eq!(
        strangers(&first) + strangers(&then) + strangers(&rest),
        1024,
        "as many as wait"
    );
    assert_eq!(*rest.last().unwrap(), Said::Stranger, "nobody is forgotten");
}

/// Acknowledgements are what others wait for: they come first, whoever else speaks.
#[test]
fn acknowledgements_wait_for_no_stranger() {
    let mut p = Pair::new(Setup::default());
    let (qa, _) = p.attach();
    flood(&mut p);
    p.a.send(p.now, qa, 1, SendOp::Send, &[]);
    let frame = p.a.transmit(p.now).unwrap();
    p.b.engine.receive(p.now, &frame, &mut p.b.memory);
    assert_eq!(said(&mut p, 2), [Said::Acknowledgement, Said::Stranger]);
}

/// While the NIC takes no more payload, the connection manager has all turns.
#[test]
fn a_busy_nic_holds_up_no_message() {
    let mut p = Pair::new(Setup {
        config: roce::Config {
            max_transmissions: 4,
            ..Setup::default().config
        },
        ..Setup::default()
    });
    p.b.nic_holds = None;
    busy(&mut p);
    flood(&mut p);
    let all = said(&mut p, usize::MAX);
    let data = all.iter().filter(|s| **s == Said::Data).count();
    assert_eq!((data, all.len()), (4, 1024 + 4));
}
