//! Peers behind a router that another takes over for, with a MAC address of its own: connections go on.

use std::cell::{Cell, OnceCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::{Endpoint, Frame, Port};

use crate::lab::{ALL_RIGHTS, B, Connected, Lab, Side};

/// The address of machine B behind the router.
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
/// The last octet of the router's addresses.
const ROUTER: u8 = 254;
const FIRST: [u8; 6] = [0x52, 0x54, 0, 0, 9, 1];
const SECOND: [u8; 6] = [0x52, 0x54, 0, 0, 9, 2];

/// Two routers of which one works: which, says the MAC address.
struct Router {
    mac: Cell<[u8; 6]>,
    /// RoCE frames passed on by the one that works, to each machine.
    passed: [Cell<u32>; 2],
    port: OnceCell<Port>,
}

impl Router {
    fn send(&self, to: [u8; 6], rest: &[u8]) {
        let frame = [&to, &self.mac.get(), rest].concat();
        self.port
            .get()
            .expect("connected")
            .send(Frame::from(&frame[..]));
    }
}

impl Endpoint for Router {
    fn deliver(&self, frame: Frame) {
        let from: [u8; 6] = frame[6..12].try_into().unwrap();
        match frame[12..14] {
            // ARP: who has the router's address?
            [8, 6] if frame[21] == 1 && frame[41] == ROUTER => {
                let answer = [
                    &frame[12..20],
                    &[0, 2],
                    &self.mac.get(),
                    &frame[38..42],
                    &frame[22..32],
                ];
                self.send(from, &answer.concat());
            }
            [8, 0] if frame[..6] == self.mac.get() => {
                let host = frame[33];
                if frame[23] == 17 {
                    let passed = &self.passed[usize::from(host - 1)];
                    passed.set(passed.get() + 1);
                }
                self.send([0x52, 0x54, 0, 0, 0, host], &frame[12..]);
            }
            _ => {}
        }
    }
}

/// A connection from A to B, through the first router.
struct Routed {
    lab: Lab,
    router: Rc<Router>,
    a: Side,
    b: Side,
    connected: Connected,
}

impl Routed {
    fn new() -> Routed {
        let mut lab = Lab::new();
        let router = Rc::new(Router {
            mac: Cell::new(FIRST),
            passed: Default::default(),
            port: OnceCell::new(),
        });
        let endpoint: Rc<dyn Endpoint> = router.clone();
        let endpoint: Weak<dyn Endpoint> = Rc::downgrade(&endpoint);
        let _ = router.port.set(lab.net.connect("router", endpoint));
        lab.world.add_address(lab.b, FAR, 24);
        lab.world.remove_address(lab.b, B);
        let gateway = |net| Some(Ipv4Addr::new(10, net, 0, ROUTER));
        lab.world.set_gateway(lab.a, gateway(0));
        lab.world.set_gateway(lab.b, gateway(1));
        let (a, mut b) = (lab.side_a(), lab.side_b());
        b.address = FAR;
        lab.world.run_for(Duration::from_millis(1));
        let connected = lab.connect(&a, &b);
        Routed {
            lab,
            router,
            a,
            b,
            connected,
        }
    }

    /// The second router works from now on.
    fn take_over(&self) {
        self.router.mac.set(SECOND);
        self.router.passed.iter().for_each(|passed| passed.set(0));
    }

    /// 9000 bytes get from one to the other, in some seconds at most.
    fn transfer(&mut self, from_a: bool, fill: u8) {
        let (lab, a, b) = (&mut self.lab, &self.a, &self.b);
        let (from, to) = if from_a { (a, b) } else { (b, a) };
        let ours = lab.region(from, 9000, ALL_RIGHTS, fill);
        let theirs = lab.region(to, 9000, ALL_RIGHTS, 0);
        lab.on(to, || to.qp.receive(1, &[theirs.sge(0, 9000)]))
            .unwrap();
        lab.on(from, || from.qp.send(2, &[ours.sge(0, 9000)], 0))
            .unwrap();
        let begun = lab.world.now();
        assert_eq!(lab.result(from).Status, STATUS_SUCCESS);
        assert!(lab.world.now() - begun < Duration::from_secs(3));
        assert_eq!(lab.result(to).BytesTransferred, 9000);
        lab.on(to, || assert_eq!(theirs.buffer.bytes(), [fill; 9000]));
        lab.on(from, || ours.close());
        lab.on(to, || theirs.close());
    }

    fn end(mut self) {
        assert!(self.router.passed.iter().all(|passed| passed.get() > 0));
        let (a, b) = (&self.a, &self.b);
        self.lab.hang_up(a, b, self.connected);
        self.lab.end(self.a, self.b);
    }
}

#[test]
fn a_connection_outlives_its_router_whichever_side_sends() {
    for from_a in [true, false] {
        let mut s = Routed::new();
        s.transfer(true, 1);
        s.transfer(false, 2);
        s.take_over();
        // The other side only acknowledges, and has to find out too.
        s.transfer(from_a, 3);
        s.transfer(!from_a, 4);
        s.end();
    }
}

#[test]
fn every_connection_through_the_router_goes_on() {
    let mut s = Routed::new();
    let pairs: Vec<_> = (0..4)
        .map(|_| {
            let qps = [s.lab.queue_pair(&s.a), s.lab.queue_pair(&s.b)];
            let active = s.lab.connector(&s.a);
            let wanted = ntsim::ndk::ReadLimits::default();
            let (from, to) = (crate::lab::from(&s.a), crate::lab::to(&s.b));
            let connecting = s.lab.on(&s.a, || {
                active.start_connect(&qps[0], from, to, wanted, &[])
            });
            let passive = s.lab.request(&s.connected.listener);
            let accepting = s
                .lab
                .on(&s.b, || passive.start_accept(&qps[1], wanted, &[]));
            connecting.wait(&mut s.lab.world).unwrap();
            let completing = s.lab.on(&s.a, || active.start_complete_connect());
            completing.wait(&mut s.lab.world).unwrap();
            accepting.wait(&mut s.lab.world).unwrap();
            (active, passive, qps)
        })
        .collect();
    s.take_over();
    for (_, _, [ours, theirs]) in &pairs {
        s.lab.on(&s.b, || theirs.receive(1, &[])).unwrap();
        s.lab.on(&s.a, || ours.send(2, &[], 0)).unwrap();
    }
    for _ in &pairs {
        assert_eq!(s.lab.result(&s.a).Status, STATUS_SUCCESS);
        assert_eq!(s.lab.result(&s.b).Status, STATUS_SUCCESS);
    }
    for (active, passive, [ours, theirs]) in pairs {
        s.lab.on(&s.a, || {
            active.close();
            ours.close();
        });
        s.lab.on(&s.b, || {
            passive.close();
            theirs.close();
        });
    }
    s.end();
}
