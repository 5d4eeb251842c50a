//! The simulated machine's TCP/IP, bound above NDIS: enough IP to be pinged, to ping, and to resolve neighbours.

pub(crate) mod stack;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::{Rc, Weak};
use std::time::Duration;

use ndis_sys::netioapi::*;
use ndis_sys::socket::*;
use ndis_sys::types::*;

use crate::ndis::adapter::{Adapter, State};
use crate::ndis::send;
use crate::verifier::Function;
use crate::world::driver_call::call_driver;
use crate::world::event::EventId;
use crate::world::machine::Machine;
use crate::world::processor::PASSIVE;
use crate::world::wait::wait_until;
use crate::world::{MachineId, World, context};
use stack::{Neighbour, Stack};

pub use stack::Address;

/// How long an unanswered solicitation waits before the next, and how many there are.
const SOLICIT_INTERVAL: u64 = 1_000_000_000;
const SOLICIT_TRIES: u32 = 3;

/// What a machine's TCP/IP keeps.
#[derive(Default)]
pub(crate) struct Tcpip {
    bindings: RefCell<Vec<Rc<Binding>>>,
    subscribers: RefCell<Vec<Rc<Subscriber>>>,
    next_subscriber: Cell<usize>,
}

/// TCP/IP over one adapter.
pub(crate) struct Binding {
    pub(crate) adapter: Weak<Adapter>,
    pub(crate) if_index: u32,
    pub(crate) luid: u64,
    machine: Weak<Machine>,
    stack: RefCell<Stack>,
    poll_queued: Cell<bool>,
    timer: Cell<Option<EventId>>,
    next_ident: Cell<u16>,
    replies: RefCell<Vec<(IpAddr, u16, Vec<u8>)>>,
}

/// Somebody who wants to know of address changes.
struct Subscriber {
    id: usize,
    family: ADDRESS_FAMILY,
    callback: PUNICAST_IPADDRESS_CHANGE_CALLBACK,
    context: *mut c_void,
    driver: u32,
    /// Callbacks that have begun and not returned, and such as are queued.
    busy: Cell<u32>,
    cancelled: Cell<bool>,
}

static CHANGED: Function = Function::callback("unicast address change callback", PASSIVE..=PASSIVE);

pub(crate) fn of(machine: &Machine) -> Rc<Tcpip> {
    machine.ext::<Tcpip>()
}

/// Binds to an adapter with the machine's configured addresses.
pub(crate) fn bind(adapter: &Rc<Adapter>) {
    let machine = adapter.machine();
    let mac = adapter.mac();
    let mut addresses = Vec::new();
    // Configured addresses go to the first adapter.
    if of(&machine).bindings.borrow().is_empty() {
        if let Some((ip, prefix)) = machine.config.ipv4 {
            addresses.push(Address {
                ip: ip.into(),
                prefix,
            });
        }
        if let Some((ip, prefix)) = machine.config.ipv6 {
            addresses.push(Address {
                ip: ip.into(),
                prefix,
            });
        }
    }
    addresses.push(Address {
        ip: link_local(mac),
        prefix: 64,
    });
    let mtu = u16::try_from(adapter.mtu()).unwrap_or(u16::MAX);
    let binding = Rc::new(Binding {
        adapter: Rc::downgrade(adapter),
        if_index: adapter.if_index,
        luid: adapter.luid,
        machine: Rc::downgrade(&machine),
        stack: RefCell::new(Stack::new(mac, mtu, &addresses, context::core().rng.next())),
        poll_queued: Cell::new(false),
        timer: Cell::new(None),
        next_ident: Cell::new(1),
        replies: RefCell::default(),
    });
    of(&machine).bindings.borrow_mut().push(Rc::clone(&binding));
    for address in addresses {
        of(&machine).announce(&machine, &binding, address, MibAddInstance);
    }
}

/// The address that IPv6 hosts form from their Ethernet address (modified EUI-64).
fn link_local(mac: [u8; 6]) -> IpAddr {
    let [a, b, c, d, e, f] = mac;
    IpAddr::from([
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ])
}

/// Ends the binding to an adapter.
pub(crate) fn unbind(adapter: &Adapter) {
    let machine = adapter.machine();
    let tcpip = of(&machine);
    let found = tcpip
        .bindings
        .borrow()
        .iter()
        .find(|b| b.if_index == adapter.if_index)
        .map(Rc::clone);
    let Some(binding) = found else { return };
    tcpip
        .bindings
        .borrow_mut()
        .retain(|b| !Rc::ptr_eq(b, &binding));
    if let Some(timer) = binding.timer.take() {
        context::core().cancel(timer);
    }
    let addresses = binding.stack.borrow().addresses().to_vec();
    for address in addresses {
        tcpip.announce(&machine, &binding, address, MibDeleteInstance);
    }
}

/// A frame that the miniport indicated.
pub(crate) fn received(adapter: &Adapter, frame: &[u8]) {
    let Some(binding) = of(&adapter.machine()).binding(adapter.if_index) else {
        return;
    };
    binding
        .stack
        .borrow_mut()
        .receive(frame, context::core().now());
    binding.queue_poll();
}

/// The adapter's link came up or went down.
pub(crate) fn link_changed(adapter: &Adapter) {
    if adapter.link.get().up
        && let Some(binding) = of(&adapter.machine()).binding(adapter.if_index)
    {
        binding.queue_poll();
    }
}

impl Tcpip {
    pub(crate) fn binding(&self, if_index: u32) -> Option<Rc<Binding>> {
        self.bindings
            .borrow()
            .iter()
            .find(|b| b.if_index == if_index)
            .map(Rc::clone)
    }

    pub(crate) fn bindings(&self) -> Vec<Rc<Binding>> {
        self.bindings.borrow().clone()
    }

    /// The binding through which `destination` is reached.
    pub(crate) fn route(&self, destination: IpAddr) -> Option<Rc<Binding>> {
        self.bindings
            .borrow()
            .iter()
            .find(|b| b.stack.borrow().route(destination).is_some())
            .map(Rc::clone)
    }

    /// Tells subscribers, in a worker thread, of an address that came or went.
    fn announce(
        self: &Rc<Self>,
        machine: &Rc<Machine>,
        binding: &Binding,
        address: Address,
        kind: MIB_NOTIFICATION_TYPE,
    ) {
        let row = address_row(binding, address);
        let family = if address.ip.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let subscribers: Vec<_> = self
            .subscribers
            .borrow()
            .iter()
            .filter(|s| !s.cancelled.get() && (s.family == AF_UNSPEC || s.family == family))
            .map(Rc::clone)
            .collect();
        for subscriber in subscribers {
            subscriber.notify(machine, Some(row), kind);
        }
    }

    /// `NotifyUnicastIpAddressChange`: the subscription's number.
    pub(crate) fn subscribe(
        self: &Rc<Self>,
        machine: &Rc<Machine>,
        family: ADDRESS_FAMILY,
        callback: PUNICAST_IPADDRESS_CHANGE_CALLBACK,
        callback_context: *mut c_void,
        initial: bool,
    ) -> usize {
        let id = self.next_subscriber.get() + 1;
        self.next_subscriber.set(id);
        let subscriber = Rc::new(Subscriber {
            id,
            family,
            callback,
            context: callback_context,
            driver: machine.charged_driver(),
            busy: Cell::new(0),
            cancelled: Cell::new(false),
        });
        self.subscribers.borrow_mut().push(Rc::clone(&subscriber));
        // The first notification may come before the subscriber has the handle: here it always does.
        if initial {
            subscriber.busy.set(1);
            subscriber.call(machine, None, MibInitialNotification);
        }
        id
    }

    /// `CancelMibChangeNotify2`: waits for callbacks in progress; none begins afterwards. False if there is no such
    /// subscription.
    pub(crate) fn unsubscribe(&self, id: usize) -> bool {
        let found = self
            .subscribers
            .borrow()
            .iter()
            .find(|s| s.id == id)
            .map(Rc::clone);
        let Some(subscriber) = found else {
            return false;
        };
        subscriber.cancelled.set(true);
        self.subscribers.borrow_mut().retain(|s| s.id != id);
        wait_until(
            || subscriber.busy.get() == 0,
            None,
            "CancelMibChangeNotify2 waits for callbacks",
        );
        true
    }

    /// Ends the subscriptions of a driver that is gone; how many there were.
    pub(crate) fn cancel_subscriptions(&self, driver: u32) -> usize {
        let mut subscribers = self.subscribers.borrow_mut();
        let before = subscribers.len();
        subscribers.retain(|s| {
            let stays = s.driver != driver;
            s.cancelled.set(!stays);
            stays
        });
        before - subscribers.len()
    }
}

impl Subscriber {
    fn notify(
        self: &Rc<Self>,
        machine: &Rc<Machine>,
        row: Option<MIB_UNICASTIPADDRESS_ROW>,
        kind: MIB_NOTIFICATION_TYPE,
    ) {
        self.busy.set(self.busy.get() + 1);
        let (subscriber, on) = (Rc::clone(self), Rc::clone(machine));
        machine.queue_work(move || subscriber.call(&on, row, kind));
    }

    /// Calls the driver, unless it has unsubscribed.
    fn call(
        &self,
        machine: &Machine,
        mut row: Option<MIB_UNICASTIPADDRESS_ROW>,
        kind: MIB_NOTIFICATION_TYPE,
    ) {
        if !self.cancelled.get() {
            let _charged = machine.drivers.get(self.driver).map(|d| d.charge());
            let pointer = row
                .as_mut()
                .map_or(std::ptr::null_mut(), std::ptr::from_mut);
            // SAFETY: the driver's callback, called as its type demands; the row lives during the call.
            call_driver(&CHANGED, self.callback as *const (), || unsafe {
                (self.callback)(self.context, pointer, kind)
            });
        }
        self.busy.set(self.busy.get() - 1);
    }
}

impl Binding {
    /// Has the stack look at what it has, soon.
    fn queue_poll(self: &Rc<Self>) {
        if self.poll_queued.replace(true) {
            return;
        }
        let Some(machine) = self.machine.upgrade() else {
            return;
        };
        let core = context::core();
        let binding = Rc::clone(self);
        core.schedule_on(&machine, core.now(), move || binding.poll());
    }

    fn poll(self: &Rc<Self>) {
        self.poll_queued.set(false);
        let core = context::core();
        let now = core.now();
        // A list for each frame.
        let frames: Vec<Vec<Vec<u8>>> = {
            let mut stack = self.stack.borrow_mut();
            stack.poll(now);
            while let Some(reply) = stack.echo_reply() {
                self.replies
                    .borrow_mut()
                    .push((reply.from, reply.ident, reply.data));
            }
            std::iter::from_fn(|| stack.transmit().map(|frame| vec![frame])).collect()
        };
        if let Some(adapter) = self.adapter.upgrade()
            && adapter.state.get() == State::Running
            && adapter.link.get().up
        {
            send::send(&adapter, &frames, 0);
        }
        if let Some(timer) = self.timer.take() {
            core.cancel(timer);
        }
        let deadline = self.stack.borrow_mut().next_deadline(now);
        if let (Some(at), Some(machine)) = (deadline, self.machine.upgrade()) {
            let binding = Rc::downgrade(self);
            let event =
                core.schedule_background(Some(&machine), at.max(now + 1_000_000), move || {
                    if let Some(binding) = binding.upgrade() {
                        binding.timer.set(None);
                        binding.poll();
                    }
                });
            self.timer.set(Some(event));
        }
    }

    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.stack.borrow().addresses().to_vec()
    }

    pub(crate) fn route(&self, destination: IpAddr) -> Option<(Address, IpAddr)> {
        self.stack.borrow().route(destination)
    }

    pub(crate) fn neighbour(&self, ip: IpAddr) -> Option<Neighbour> {
        self.stack.borrow().neighbour(ip)
    }

    /// `ResolveIpNetEntry2`: asks the wire, waiting for the answer. PASSIVE_LEVEL.
    ///
    /// An answer that comes while several wait is for all of them, though the first to go on may ask for another at once.
    pub(crate) fn resolve(self: &Rc<Self>, ip: IpAddr) -> Option<Neighbour> {
        let mark = self.stack.borrow_mut().flush_neighbour(ip);
        let answer = || self.stack.borrow().neighbour_since(ip, mark);
        for _ in 0..SOLICIT_TRIES {
            if !self.stack.borrow_mut().solicit(ip) {
                return None;
            }
            self.queue_poll();
            let deadline = context::core().now() + SOLICIT_INTERVAL;
            let story = format!("the link-layer address of {ip} is being resolved");
            if wait_until(|| answer().is_some(), Some(deadline), story) {
                break;
            }
        }
        answer()
    }

    fn set_addresses(self: &Rc<Self>, machine: &Rc<Machine>, new: &[Address]) {
        let old = self.addresses();
        self.stack.borrow_mut().set_addresses(new);
        if let Some(adapter) = self.adapter.upgrade()
            && adapter.state.get() == State::Running
        {
            crate::ndis::lifecycle::set_multicast_list(&adapter);
        }
        let tcpip = of(machine);
        for gone in old.iter().filter(|a| !new.contains(a)) {
            tcpip.announce(machine, self, *gone, MibDeleteInstance);
        }
        for come in new.iter().filter(|a| !old.contains(a)) {
            tcpip.announce(machine, self, *come, MibAddInstance);
        }
    }
}

/// The table row of an address.
pub(crate) fn address_row(binding: &Binding, address: Address) -> MIB_UNICASTIPADDRESS_ROW {
    let mut ip = to_sockaddr(address.ip, 0);
    if matches!(address.ip, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        ip.Ipv6.sin6_scope_id = binding.if_index;
    }
    MIB_UNICASTIPADDRESS_ROW {
        Address: ip,
        InterfaceLuid: NET_LUID {
            Value: binding.luid,
        },
        InterfaceIndex: binding.if_index,
        ValidLifetime: u32::MAX,
        PreferredLifetime: u32::MAX,
        OnLinkPrefixLength: address.prefix,
        DadState: IpDadStatePreferred,
        ..Default::default()
    }
}

/// A socket address; `port` in host order.
pub(crate) fn to_sockaddr(ip: IpAddr, port: u16) -> SOCKADDR_INET {
    let mut out = SOCKADDR_INET::ZEROED;
    match ip {
        IpAddr::V4(v4) => {
            out.Ipv4 = sockaddr_in {
                sin_family: AF_INET,
                sin_port: port.to_be(),
                sin_addr: in_addr { S_un: v4.octets() },
                sin_zero: [0; 8],
            };
        }
        IpAddr::V6(v6) => {
            out.Ipv6 = sockaddr_in6 {
                sin6_family: AF_INET6,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: in6_addr { u: v6.octets() },
                sin6_scope_id: 0,
            };
        }
    }
    out
}

/// The IP address and the port, in host order, of a socket address.
pub(crate) fn from_sockaddr(address: &SOCKADDR_INET) -> Option<(IpAddr, u16)> {
    // SAFETY: all members consist of integers; the family, common to all, says which one is meant.
    unsafe {
        match address.si_family {
            AF_INET => Some((
                IpAddr::from(address.Ipv4.sin_addr.S_un),
                u16::from_be(address.Ipv4.sin_port),
            )),
            AF_INET6 => Some((
                IpAddr::from(address.Ipv6.sin6_addr.u),
                u16::from_be(address.Ipv6.sin6_port),
            )),
            _ => None,
        }
    }
}

/// The host's side of TCP/IP.
impl World {
    /// Sends an echo request from a machine and waits for the reply, up to three times a second each: a host that has to
    /// ask for our link-layer address first loses its reply. The round trip of the one that was answered.
    pub fn ping(&mut self, from: MachineId, to: IpAddr) -> Option<Duration> {
        self.ping_with(from, to, 56)
    }

    /// As [`World::ping`], with that many bytes of data.
    pub fn ping_with(&mut self, from: MachineId, to: IpAddr, bytes: usize) -> Option<Duration> {
        (0..3).find_map(|_| self.ping_once(from, to, bytes))
    }

    fn ping_once(&mut self, from: MachineId, to: IpAddr, bytes: usize) -> Option<Duration> {
        let machine = self.machine(from);
        let binding = of(&machine).route(to)?;
        let ident = binding.next_ident.get();
        binding.next_ident.set(ident.checked_add(1).unwrap_or(1));
        let data: Vec<u8> = (0..bytes).map(|i| (i as u8) ^ (ident as u8)).collect();
        let started = self.core.now();
        {
            let _entered = machine.enter(0);
            if !binding.stack.borrow_mut().ping(to, ident, &data) {
                return None;
            }
            binding.queue_poll();
        }
        let answered = |binding: &Binding| {
            binding
                .replies
                .borrow()
                .iter()
                .any(|r| r.0 == to && r.1 == ident && r.2 == data)
        };
        let reached = self.run_until(|_| answered(&binding), Duration::from_secs(1));
        binding.stack.borrow_mut().end_ping(ident);
        binding.replies.borrow_mut().retain(|r| r.1 != ident);
        reached.then(|| Duration::from_nanos(self.core.now() - started))
    }

    /// The addresses of a machine's first adapter.
    #[must_use]
    pub fn addresses(&self, machine: MachineId) -> Vec<Address> {
        of(&self.machine(machine))
            .bindings()
            .first()
            .map_or_else(Vec::new, |b| b.addresses())
    }

    /// Gives a machine's first adapter another address.
    ///
    /// # Panics
    /// If no adapter is bound.
    pub fn add_address(&mut self, machine: MachineId, ip: IpAddr, prefix: u8) {
        self.change_addresses(machine, |list| list.push(Address { ip, prefix }));
    }

    /// Takes an address from a machine's first adapter.
    ///
    /// # Panics
    /// If no adapter is bound.
    pub fn remove_address(&mut self, machine: MachineId, ip: IpAddr) {
        self.change_addresses(machine, |list| list.retain(|a| a.ip != ip));
    }

    /// Sets the router of a machine's first adapter for everything off its links.
    ///
    /// # Panics
    /// If no adapter is bound.
    pub fn set_gateway(&mut self, machine: MachineId, gateway: Option<Ipv4Addr>) {
        let machine = self.machine(machine);
        first_binding(&machine)
            .stack
            .borrow_mut()
            .set_gateway(gateway);
    }

    fn change_addresses(&mut self, id: MachineId, change: impl FnOnce(&mut Vec<Address>)) {
        let machine = self.machine(id);
        let binding = first_binding(&machine);
        let mut list = binding.addresses();
        change(&mut list);
        let _entered = machine.enter(0);
        binding.set_addresses(&machine, &list);
    }
}

fn first_binding(machine: &Machine) -> Rc<Binding> {
    let first = of(machine).bindings().first().cloned();
    first.expect("an adapter with TCP/IP bound to it")
}
