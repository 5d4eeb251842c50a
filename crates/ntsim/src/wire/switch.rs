//! A learning Ethernet switch.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};

use super::capture::Capture;
use super::link::{Fate, Link, LinkConfig, Passage, Verdict};
use super::pcapng::Direction;
use super::{Endpoint, Frame, comment};
use crate::world::rng::Rng;
use crate::world::{Core, context};

/// An Ethernet header without VLAN tag.
const HEADER: usize = 14;

/// Names a port of a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(u32);

/// What has passed a port. "Sent" and "received" are as seen from what sits there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames sent into the switch.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Frames delivered.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Sent, but too short to be an Ethernet frame: dropped.
    pub malformed: u64,
    /// Sent to an address behind the port itself: dropped.
    pub looped: u64,
    /// Sent or to be delivered while the link was down: dropped.
    pub link_down: u64,
    /// Lost by chance on the way to the port.
    pub lost: u64,
    /// Dropped by a filter on the way to the port.
    pub filtered: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered after frames that were sent later.
    pub reordered: u64,
    /// Delivered with an inverted bit.
    pub corrupted: u64,
    /// Dropped because too many waited for the medium.
    pub queue_full: u64,
}

/// A switch between machines in this world. A handle: clones are the same switch.
#[derive(Clone)]
pub struct Switch(Rc<Inner>);

struct Inner {
    ports: RefCell<Vec<Rc<PortState>>>,
    /// Who is behind which port: address (as a number) and port.
    addresses: RefCell<Vec<(u64, u32)>>,
    default_link: Cell<LinkConfig>,
    rng: Rng,
    capture: RefCell<Option<Capture>>,
    /// Called when frames under way to a port arrive.
    arrivals: Rc<dyn Fn(u64)>,
}

struct PortState {
    number: u32,
    name: String,
    endpoint: RefCell<Option<Weak<dyn Endpoint>>>,
    up: Cell<bool>,
    link: Link,
    counters: RefCell<PortCounters>,
    /// Interface number in the recording.
    interface: Cell<u32>,
}

/// The end of a link that an endpoint holds: sends into the switch.
#[derive(Clone)]
pub struct Port {
    switch: Rc<Inner>,
    state: Rc<PortState>,
}

fn number(address: [u8; 6]) -> u64 {
    address.iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
}

impl Switch {
    /// A switch whose links are like `link` until configured otherwise.
    pub(crate) fn new(core: &Core, link: LinkConfig) -> Switch {
        let inner = Rc::new_cyclic(|this: &Weak<Inner>| {
            let this = Weak::clone(this);
            Inner {
                ports: RefCell::default(),
                addresses: RefCell::default(),
                default_link: Cell::new(link),
                rng: core.rng.fork(),
                capture: RefCell::default(),
                arrivals: Rc::new(move |port| {
                    if let Some(inner) = this.upgrade() {
                        inner.arrived(port as u32);
                    }
                }),
            }
        });
        Switch(inner)
    }

    /// Adds a port. The switch does not keep the endpoint alive.
    pub fn connect(&self, name: &str, endpoint: Weak<dyn Endpoint>) -> Port {
        let mut ports = self.0.ports.borrow_mut();
        let number = ports.len() as u32;
        let interface = match &*self.0.capture.borrow() {
            Some(capture) => capture.interface(name),
            None => 0,
        };
        let state = Rc::new(PortState {
            number,
            name: name.to_owned(),
            endpoint: RefCell::new(Some(endpoint)),
            up: Cell::new(true),
            link: Link::new(self.0.default_link.get(), &self.0.rng),
            counters: RefCell::default(),
            interface: Cell::new(interface),
        });
        ports.push(Rc::clone(&state));
        Port {
            switch: Rc::clone(&self.0),
            state,
        }
    }

    /// The ports, in the order in which they were connected, with their names.
    #[must_use]
    pub fn ports(&self) -> Vec<(PortId, String)> {
        let ports = self.0.ports.borrow();
        ports
            .iter()
            .map(|port| (PortId(port.number), port.name.clone()))
            .collect()
    }

    fn port(&self, port: PortId) -> Rc<PortState> {
        Rc::clone(&self.0.ports.borrow()[port.0 as usize])
    }

    /// Sets what happens to frames on the way to a port.
    pub fn set_link(&self, port: PortId, config: LinkConfig) {
        self.port(port).link.configure(config);
    }

    /// Sets it for all ports, also those still to be connected.
    pub fn set_links(&self, config: LinkConfig) {
        self.0.default_link.set(config);
        for port in self.0.ports.borrow().iter() {
            port.link.configure(config);
        }
    }

    /// What happens to frames on the way to a port.
    #[must_use]
    pub fn link(&self, port: PortId) -> LinkConfig {
        self.port(port).link.config()
    }

    /// Has every frame on the way to a port judged by a test, before chance.
    pub fn set_filter(&self, port: PortId, filter: impl FnMut(&Frame) -> Verdict + 'static) {
        self.port(port).link.set_filter(Some(Box::new(filter)));
    }

    /// Removes a port's filter.
    pub fn clear_filter(&self, port: PortId) {
        self.port(port).link.set_filter(None);
    }

    /// Plugs a port's cable in or out. Frames under way to it are lost when it is pulled.
    pub fn set_up(&self, port: PortId, up: bool) {
        let port = self.port(port);
        if port.up.replace(up) == up {
            return;
        }
        if !up {
            port.counters.borrow_mut().link_down += port.link.clear() as u64;
            let mut addresses = self.0.addresses.borrow_mut();
            addresses.retain(|(_, behind)| *behind != port.number);
        }
        if let Some(endpoint) = port.endpoint() {
            endpoint.link_changed(up);
        }
    }

    /// Counters of a port.
    #[must_use]
    pub fn counters(&self, port: PortId) -> PortCounters {
        *self.port(port).counters.borrow()
    }

    /// Records what passes from now on; None ends the recording.
    pub fn record(&self, capture: Option<Capture>) {
        if let Some(capture) = &capture {
            for port in self.0.ports.borrow().iter() {
                port.interface.set(capture.interface(&port.name));
            }
        }
        let old = self.0.capture.replace(capture);
        if let Some(old) = old {
            // Nobody to tell: as documented, a recording that cannot be written just ends.
            let _ = old.flush();
        }
    }

    /// Puts a frame into the switch as if it had come from nowhere in particular: to all ports it concerns.
    pub fn inject(&self, frame: Frame) {
        self.0.forward(None, frame);
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch")
            .field("ports", &self.ports())
            .finish_non_exhaustive()
    }
}

impl Port {
    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> PortId {
        PortId(self.state.number)
    }

    /// The switch it belongs to.
    #[must_use]
    pub fn switch(&self) -> Switch {
        Switch(Rc::clone(&self.switch))
    }

    /// Whether the cable is plugged in.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.up.get()
    }

    /// Sends a frame into the switch.
    pub fn send(&self, frame: Frame) {
        {
            let mut counters = self.state.counters.borrow_mut();
            if !self.state.up.get() {
                counters.link_down += 1;
                return;
            }
            counters.sent += 1;
            counters.sent_bytes += frame.len() as u64;
            if frame.len() < HEADER {
                counters.malformed += 1;
                return;
            }
        }
        self.switch.learn(&self.state, &frame);
        self.switch.forward(Some(&self.state), frame);
    }

    /// Gives the port up: nothing is delivered any more.
    pub fn disconnect(&self) {
        let old = self.state.endpoint.take();
        drop(old);
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("number", &self.state.number)
            .field("name", &self.state.name)
            .finish_non_exhaustive()
    }
}

impl PortState {
    fn endpoint(&self) -> Option<Rc<dyn Endpoint>> {
        self.endpoint.borrow().as_ref().and_then(Weak::upgrade)
    }
}

impl Inner {
    fn learn(&self, from: &PortState, frame: &Frame) {
        let source = frame.source();
        if source[0] & 1 != 0 {
            return;
        }
        let source = number(source);
        let mut addresses = self.addresses.borrow_mut();
        match addresses.iter_mut().find(|(address, _)| *address == source) {
            Some((_, port)) => *port = from.number,
            None => addresses.push((source, from.number)),
        }
    }

    /// The port an address is behind, if it is one device's and known.
    fn lookup(&self, destination: [u8; 6]) -> Option<u32> {
        if destination[0] & 1 != 0 {
            return None;
        }
        let destination = number(destination);
        let addresses = self.addresses.borrow();
        let (_, port) = addresses.iter().find(|(a, _)| *a == destination)?;
        Some(*port)
    }

    fn forward(self: &Rc<Self>, from: Option<&Rc<PortState>>, frame: Frame) {
        let recorded = self.capture.borrow().is_some();
        if let Some(port) = self.lookup(frame.destination()) {
            let target = Rc::clone(&self.ports.borrow()[port as usize]);
            if from.is_some_and(|from| from.number == port) {
                target.counters.borrow_mut().looped += 1;
                if recorded {
                    self.record_sent(from, &frame, &["not forwarded: same port".to_owned()]);
                }
                return;
            }
            if !recorded && target.up.get() && target.link.is_clear() {
                self.deliver(&target, frame);
                return;
            }
            let fate = target.link.decide(&frame);
            if recorded {
                self.record_sent(from, &frame, &fate.describe(&target.name));
            }
            self.transmit(&target, frame, fate);
            return;
        }
        let mut targets: Vec<(Rc<PortState>, Fate)> = self
            .ports
            .borrow()
            .iter()
            .filter(|port| from.is_none_or(|from| from.number != port.number))
            .map(|port| (Rc::clone(port), Fate::default()))
            .collect();
        for (target, fate) in &mut targets {
            *fate = target.link.decide(&frame);
        }
        if recorded {
            let comments: Vec<String> = targets
                .iter()
                .flat_map(|(target, fate)| fate.describe(&target.name))
                .collect();
            self.record_sent(from, &frame, &comments);
        }
        let Some((last, last_fate)) = targets.pop() else {
            return;
        };
        for (target, fate) in targets {
            self.transmit(&target, frame.clone(), fate);
        }
        self.transmit(&last, frame, last_fate);
    }

    fn record_sent(&self, from: Option<&Rc<PortState>>, frame: &Frame, fates: &[String]) {
        let capture = self.capture.borrow().clone();
        if let (Some(capture), Some(from)) = (capture, from) {
            let now = context::core().now();
            let mut comments: Vec<String> = comment::describe(frame).into_iter().collect();
            comments.extend_from_slice(fates);
            capture.frame(
                from.interface.get(),
                now,
                Direction::Outbound,
                frame,
                &comments,
            );
        }
    }

    /// Sends a frame over a port's link, with what was decided for it.
    fn transmit(self: &Rc<Self>, target: &Rc<PortState>, mut frame: Frame, fate: Fate) {
        {
            let mut counters = target.counters.borrow_mut();
            if !target.up.get() {
                counters.link_down += 1;
                return;
            }
            if fate.lost {
                if fate.filtered {
                    counters.filtered += 1;
                } else {
                    counters.lost += 1;
                }
                return;
            }
            counters.corrupted += u64::from(fate.corrupt.is_some());
            counters.duplicated += u64::from(fate.duplicate);
            counters.reordered += u64::from(fate.overtake > 0);
        }
        if let Some(bit) = fate.corrupt {
            frame[bit / 8] ^= 1 << (bit % 8);
            self.record_received(target, &frame, true, &fate);
        }
        let core = context::core();
        let copy = fate.duplicate.then(|| frame.clone());
        if fate.delay > 0 {
            let inner = Rc::clone(self);
            let target = Rc::clone(target);
            core.schedule(core.now().saturating_add(fate.delay), move || {
                inner.deliver(&target, frame);
            });
        } else if fate.overtake > 0 {
            let name = target.link.hold(fate.overtake, frame);
            let at = core.now().saturating_add(target.link.hold_time());
            let inner = Rc::clone(self);
            let held_by = Rc::clone(target);
            core.schedule(at, move || {
                if let Some(frame) = held_by.link.release(name) {
                    inner.pass(&held_by, frame, false);
                }
            });
        } else {
            self.pass(target, frame, true);
        }
        if let Some(copy) = copy {
            self.pass(target, copy, true);
        }
    }

    /// Puts a frame on a link's medium, and then those that it has overtaken.
    fn pass(self: &Rc<Self>, target: &Rc<PortState>, frame: Frame, overtakes: bool) {
        let core = context::core();
        let mut next = Some(frame);
        let mut count = overtakes;
        while let Some(frame) = next {
            match target.link.pass(core.now(), frame) {
                Passage::Now(frame) => self.deliver(target, frame),
                Passage::Later => self.await_arrival(&core, target),
                Passage::QueueFull => target.counters.borrow_mut().queue_full += 1,
            }
            next = target.link.overtaken(count);
            count = false;
        }
    }

    fn await_arrival(&self, core: &Core, target: &PortState) {
        if let Some(at) = target.link.await_arrival() {
            core.schedule_shared(None, at, &self.arrivals, u64::from(target.number));
        }
    }

    /// Frames under way to a port have arrived.
    fn arrived(self: &Rc<Self>, port: u32) {
        let target = Rc::clone(&self.ports.borrow()[port as usize]);
        let core = context::core();
        while let Some(frame) = target.link.arrival(core.now()) {
            self.deliver(&target, frame);
        }
        self.await_arrival(&core, &target);
    }

    fn deliver(&self, target: &PortState, frame: Frame) {
        let endpoint = target.endpoint();
        {
            let mut counters = target.counters.borrow_mut();
            if !target.up.get() {
                counters.link_down += 1;
                return;
            }
            counters.received += 1;
            counters.received_bytes += frame.len() as u64;
        }
        self.record_received(target, &frame, false, &Fate::default());
        if let Some(endpoint) = endpoint {
            endpoint.deliver(frame);
        }
    }

    /// Records a delivery on the receiver's interface: a changed frame, or any if the recording wants all.
    fn record_received(&self, target: &PortState, frame: &Frame, changed: bool, fate: &Fate) {
        let capture = self.capture.borrow().clone();
        let Some(capture) = capture else {
            return;
        };
        if changed != capture.deliveries() {
            let now = context::core().now();
            let comments = fate.describe(&target.name);
            capture.frame(
                target.interface.get(),
                now,
                Direction::Inbound,
                frame,
                &comments,
            );
        }
    }
}
