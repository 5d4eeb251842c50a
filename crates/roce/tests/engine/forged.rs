//! Frames as a peer makes them who has taken leave of the protocol: changed at will, and the ICRC made right again.
//! `ROCE_SEED=n` repeats one case, `ROCE_CASES=n` runs more of them.

use crate::util::random::*;
use crate::util::*;
use roce::wire::{Icrc, Packet};
use roce::{Access, Completion, PathMtu, Rng, SendOp, Status};
use std::time::Duration;

/// Makes the ICRC of an IPv4 frame right.
fn seal(frame: &mut [u8]) {
    let end = frame.len() - 4;
    let icrc = Icrc::start(&frame[14..end]).unwrap().finish();
    frame[end..].copy_from_slice(&icrc);
}

/// What no peer may read is full of these, in regions of every kind that is closed to it.
const SECRETS: [u8; 4] = [0xc1, 0xc2, 0xc3, 0xc4];

fn tells_a_secret(payload: &[u8]) -> bool {
    payload
        .windows(8)
        .any(|w| SECRETS.iter().any(|s| w.iter().all(|b| b == s)))
}

/// READs and WRITEs aimed at memory that the peer has no right to, or none of this kind, by every combination of keys, addresses
/// and lengths that is not far from right: not one byte is read or written.
#[test]
fn ranges_forged_at_closed_memory_reach_nothing() {
    let (mut refused, mut answered) = (0, 0);
    for seed in seeds(150) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0x0dd);
        let mut p = Pair::new(Setup {
            mtu: PathMtu::Mtu256,
            seed,
            ..Setup::default()
        });
        let open = p.b.open(pattern(600, 2));
        // For local use only; of the other right; of another protection domain; deregistered.
        let local_only = p.b.register(vec![SECRETS[0]; 600], Access::LOCAL_WRITE);
        let write_only = p.b.register(vec![SECRETS[1]; 600], Access::REMOTE_WRITE);
        let read_only = p.b.register(pattern(600, 3), Access::REMOTE_READ);
        let own_pd = p.b.pd;
        p.b.pd = p.b.engine.create_pd().unwrap();
        let foreign = p.b.open(vec![SECRETS[2]; 600]);
        p.b.pd = own_pd;
        let dead = p.b.open(vec![SECRETS[3]; 600]);
        p.b.engine.deregister(dead.key).unwrap();
        let targets = [open, local_only, write_only, read_only, foreign, dead];
        let sink = p.a.open(vec![0; 600]);
        let image =
            |p: &Pair| [local_only, read_only, foreign, dead].map(|mr| p.b.bytes(&mr).to_vec());
        let before = image(&p);
        for _ in 0..12 {
            let (qa, qb) = p.attach();
            let op = if below(&mut rng, 2) == 0 {
                open.write()
            } else {
                open.read()
            };
            let len = 1 + below(&mut rng, 600);
            p.a.send(p.now, qa, 1, op, &[sink.sge(0, len)]);
            let mut frame = p.a.transmit(p.now).unwrap();
            // RETH behind Ethernet, IPv4, UDP and BTH.
            let (key, place) = (pick(&mut rng, &targets), pick(&mut rng, &targets));
            let near = u64::from(below(&mut rng, 3)).wrapping_sub(1);
            let va = match below(&mut rng, 4) {
                0 => place.va.wrapping_add(near),
                1 => place.va + 600 - u64::from(len.min(600)) + near.wrapping_add(1),
                2 => u64::MAX - u64::from(below(&mut rng, 700)),
                _ => key.va + u64::from(below(&mut rng, 602)),
            };
            let rkey = match below(&mut rng, 8) {
                0 => key.key.0 ^ 1 << below(&mut rng, 32),
                _ => key.key.0,
            };
            frame[54..62].copy_from_slice(&va.to_be_bytes());
            frame[62..66].copy_from_slice(&rkey.to_be_bytes());
            if below(&mut rng, 4) == 0 {
                let wrong = pick(&mut rng, &[0, 1, 600, 601, 1 << 31, u32::MAX]);
                frame[66..70].copy_from_slice(&wrong.to_be_bytes());
            }
            seal(&mut frame);
            let now = p.now;
            p.b.engine.receive(now, &frame, &mut p.b.memory);
            while let Some(answer) = p.b.transmit(now) {
                p.b.reap(now);
                let packet = Packet::parse(&answer).unwrap();
                assert!(!tells_a_secret(packet.payload), "{packet:?}");
                match packet.ext.aeth.map(|a| a.syndrome.to_u8()) {
                    Some(0x60..) => refused += 1,
                    _ => answered += 1,
                }
            }
            p.a.release_all(now);
            p.a.engine.destroy_qp(now, qa).unwrap();
            p.b.engine.destroy_qp(now, qb).unwrap();
            assert!(image(&p) == before, "{key:?} {va:#x} {rkey:#x}");
        }
    }
    // Both kinds of forgery were among them: such as must be refused, and such as happen to be right.
    if std::env::var_os("ROCE_SEED").is_none() {
        assert!(refused > 500 && answered > 100, "{refused} {answered}");
    }
}

/// Frames with arbitrary bits changed and the ICRC made right again: whatever they do, memory outside the regions and other
/// queue pairs are out of their reach.
#[test]
fn forged_packets_stay_inside_the_rules() {
    for seed in seeds(200) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0xf00d);
        let mut p = Pair::new(Setup {
            mtu: PathMtu::Mtu256,
            seed,
            ..Setup::default()
        });
        let (qa, qb) = p.attach();
        let (good_a, good_b) = p.attach();
        let local = p.a.open(pattern(3000, 1));
        let sink = p.a.open(vec![0; 3000]);
        let open = p.b.open(pattern(3000, 2));
        let received = p.b.open(vec![0; 3000]);
        let own_pd = p.b.pd;
        p.b.pd = p.b.engine.create_pd().unwrap();
        let foreign = p.b.open(vec![SECRETS[0]; 3000]);
        p.b.pd = own_pd;
        for i in 0..8 {
            p.b.engine.post_recv(p.now, qb, i, &[open.all()]).unwrap();
            let op = match i % 3 {
                0 => SendOp::Send,
                1 => open.write(),
                _ => open.read(),
            };
            p.a.send(p.now, qa, i, op, &[sink.sge(0, below(&mut rng, 3000))]);
        }
        for _ in 0..400 {
            for side in [Side::A, Side::B] {
                let now = p.now;
                let Some(mut frame) = p.host(side).transmit(now) else {
                    continue;
                };
                p.host(side).reap(now);
                for _ in 0..below(&mut rng, 4) {
                    // BTH and what follows it, but not the destination.
                    let at = 42 + below(&mut rng, (frame.len() - 46).min(40) as u32) as usize;
                    if !(47..50).contains(&at) {
                        frame[at] = if below(&mut rng, 2) == 0 {
                            frame[at] ^ 1 << below(&mut rng, 8)
                        } else {
                            rng.next_u32() as u8
                        };
                    }
                }
                seal(&mut frame);
                let to = p.host(side.other());
                to.engine.receive(now, &frame, &mut to.memory);
            }
            p.now = p.now.after(Duration::from_micros(200));
            let now = p.now;
            for side in [Side::A, Side::B] {
                p.host(side).engine.handle_timeout(now);
            }
        }
        // What no request named has not changed by one byte.
        assert_eq!(p.a.bytes(&local), pattern(3000, 1));
        assert_eq!(p.b.bytes(&received), [0; 3000]);
        assert_eq!(p.b.bytes(&foreign), [SECRETS[0]; 3000]);
        // The neighbours still work.
        p.b.engine
            .post_recv(p.now, good_b, 100, &[received.all()])
            .unwrap();
        p.a.send(p.now, good_a, 101, SendOp::Send, &[local.all()]);
        p.run(SECOND);
        let ok = |c: &[Completion], context| {
            c.iter()
                .any(|c| c.context == context && c.status == Status::Success)
        };
        assert!(ok(&p.a.completions, 101) && ok(&p.b.completions, 100));
        assert_eq!(p.b.bytes(&received), p.a.bytes(&local));
    }
}
