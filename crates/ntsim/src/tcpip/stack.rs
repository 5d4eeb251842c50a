//! The IP stack of one interface: smoltcp for ARP, neighbour discovery and ICMP, and a neighbour cache of its own,
//! because the driver asks for link-layer addresses (`ResolveIpNetEntry2`) and smoltcp keeps its cache to itself.
//!
//! Sans-IO: frames in, frames out, time as an argument (nanoseconds of the simulated clock).

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::icmp;
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol,
    EthernetRepr, HardwareAddress, Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress,
    IpCidr, IpProtocol, Ipv6Packet, Ipv6Repr, NdiscNeighborFlags, NdiscRepr,
};

/// How long a confirmed neighbour counts as reachable (the usual 30 s base reachable time).
const REACHABLE_NS: u64 = 30_000_000_000;

/// An address with the length of its on-link prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl Address {
    /// Whether `other` is reached without a router.
    #[must_use]
    pub fn on_link(&self, other: IpAddr) -> bool {
        IpCidr::new(self.ip.into(), self.prefix).contains_addr(&other.into())
    }
}

/// What the cache knows about a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// Its link-layer address.
    pub(crate) mac: [u8; 6],
    /// When it was last heard to own that address, in nanoseconds.
    pub(crate) confirmed: u64,
    /// How many neighbours had been heard before.
    order: u64,
    /// Somebody wants it to be asked anew.
    flushed: bool,
}

impl Neighbour {
    /// Whether the entry still counts as reachable rather than stale.
    pub(crate) fn reachable(&self, now: u64) -> bool {
        now.saturating_sub(self.confirmed) <= REACHABLE_NS
    }
}

/// An answered echo request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EchoReply {
    pub(crate) from: IpAddr,
    pub(crate) ident: u16,
    pub(crate) data: Vec<u8>,
}

/// One interface's IP stack.
pub(crate) struct Stack {
    mac: [u8; 6],
    queue: FrameQueue,
    interface: Interface,
    sockets: SocketSet<'static>,
    mtu: u16,
    /// A socket for each ping under way, by identifier: one to a silent host must not hold up the others.
    pings: Vec<(u16, SocketHandle)>,
    addresses: Vec<Address>,
    gateway: Option<Ipv4Addr>,
    neighbours: BTreeMap<IpAddr, Neighbour>,
    /// How often a neighbour was heard to own an address.
    heard: u64,
}

impl Stack {
    /// `mtu` is the link MTU: the largest IP packet in bytes.
    pub(crate) fn new(mac: [u8; 6], mtu: u16, addresses: &[Address], seed: u64) -> Self {
        let mut queue = FrameQueue {
            rx: VecDeque::new(),
            tx: VecDeque::new(),
            mtu: usize::from(mtu) + 14,
        };
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = seed;
        let interface = Interface::new(config, &mut queue, Instant::ZERO);
        let sockets = SocketSet::new(Vec::new());
        let mut stack = Self {
            mac,
            queue,
            interface,
            sockets,
            mtu,
            pings: Vec::new(),
            addresses: Vec::new(),
            gateway: None,
            neighbours: BTreeMap::new(),
            heard: 0,
        };
        stack.set_addresses(addresses);
        stack
    }

    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Replaces the interface's addresses.
    pub(crate) fn set_addresses(&mut self, addresses: &[Address]) {
        self.addresses = addresses.to_vec();
        self.interface.update_ip_addrs(|list| {
            list.clear();
            for a in addresses {
                // More than the stack can hold (8) are ignored by it; no test needs so many.
                let _ = list.push(IpCidr::new(a.ip.into(), a.prefix));
            }
        });
    }

    /// The router for everything off-link.
    pub(crate) fn set_gateway(&mut self, gateway: Option<Ipv4Addr>) {
        self.gateway = gateway;
        match gateway {
            Some(g) => {
                let _ = self.interface.routes_mut().add_default_ipv4_route(g);
            }
            None => {
                self.interface.routes_mut().remove_default_ipv4_route();
            }
        }
    }

    /// The neighbour through which `destination` is reached and the source address to use: the route table in one
    /// question. `None` when there is no route.
    pub(crate) fn route(&self, destination: IpAddr) -> Option<(Address, IpAddr)> {
        let same_family = |a: &&Address| a.ip.is_ipv4() == destination.is_ipv4();
        if let Some(source) = self
            .addresses
            .iter()
            .filter(same_family)
            .find(|a| a.on_link(destination))
        {
            return Some((*source, destination));
        }
        let gateway = IpAddr::V4(self.gateway?);
        let source = self
            .addresses
            .iter()
            .filter(same_family)
            .find(|a| a.on_link(gateway))?;
        Some((*source, gateway))
    }

    /// Takes a received Ethernet frame.
    pub(crate) fn receive(&mut self, frame: &[u8], now: u64) {
        self.learn(frame, now);
        self.queue.rx.push_back(frame.to_vec());
    }

    /// Processes what was received and due timers; afterwards [`Self::transmit`] yields what is to be sent.
    pub(crate) fn poll(&mut self, now: u64) {
        self.interface
            .poll(instant(now), &mut self.queue, &mut self.sockets);
    }

    /// The next frame to send.
    pub(crate) fn transmit(&mut self) -> Option<Vec<u8>> {
        self.queue.tx.pop_front()
    }

    /// When [`Self::poll`] wants to be called at the latest, in nanoseconds.
    pub(crate) fn next_deadline(&mut self, now: u64) -> Option<u64> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(
            u64::try_from(at.total_micros())
                .unwrap_or(0)
                .saturating_mul(1000)
                .max(now),
        )
    }

    /// What is known about `ip`.
    pub(crate) fn neighbour(&self, ip: IpAddr) -> Option<Neighbour> {
        self.neighbours.get(&ip).filter(|n| !n.flushed).copied()
    }

    /// Forgets what is known about `ip`. The mark tells [`Self::neighbour_since`] what came later.
    pub(crate) fn flush_neighbour(&mut self, ip: IpAddr) -> u64 {
        if let Some(neighbour) = self.neighbours.get_mut(&ip) {
            neighbour.flushed = true;
        }
        self.heard
    }

    /// What `ip` has told since then, even if somebody wants it to be asked once more.
    pub(crate) fn neighbour_since(&self, ip: IpAddr, mark: u64) -> Option<Neighbour> {
        self.neighbours
            .get(&ip)
            .filter(|n| n.order >= mark)
            .copied()
    }

    /// Queues an ARP request or a neighbour solicitation for `ip`. False when there is no address to ask from.
    pub(crate) fn solicit(&mut self, ip: IpAddr) -> bool {
        let Some(source) = self.addresses.iter().find(|a| a.on_link(ip)).copied() else {
            return false;
        };
        let frame = match (source.ip, ip) {
            (IpAddr::V4(from), IpAddr::V4(to)) => arp_request(self.mac, from, to),
            (IpAddr::V6(from), IpAddr::V6(to)) => neighbour_solicitation(self.mac, from, to),
            _ => return false,
        };
        self.queue.tx.push_back(frame);
        true
    }

    /// Sends an echo request whose identifier tells its reply from those to others. False when that is in use or the
    /// data does not fit.
    pub(crate) fn ping(&mut self, to: IpAddr, ident: u16, data: &[u8]) -> bool {
        if ident == 0 || self.pings.iter().any(|(i, _)| *i == ident) {
            return false;
        }
        let checksums = ChecksumCapabilities::default();
        let mut socket = echo_socket(self.mtu, ident);
        match to {
            IpAddr::V4(to) => {
                let repr = Icmpv4Repr::EchoRequest {
                    ident,
                    seq_no: 1,
                    data,
                };
                let Ok(buffer) = socket.send(repr.buffer_len(), IpAddress::Ipv4(to)) else {
                    return false;
                };
                repr.emit(&mut Icmpv4Packet::new_unchecked(buffer), &checksums);
            }
            IpAddr::V6(to) => {
                let from = self.interface.get_source_address_ipv6(&to);
                let repr = Icmpv6Repr::EchoRequest {
                    ident,
                    seq_no: 1,
                    data,
                };
                let Ok(buffer) = socket.send(repr.buffer_len(), IpAddress::Ipv6(to)) else {
                    return false;
                };
                repr.emit(
                    &from,
                    &to,
                    &mut Icmpv6Packet::new_unchecked(buffer),
                    &checksums,
                );
            }
        }
        let handle = self.sockets.add(socket);
        self.pings.push((ident, handle));
        true
    }

    /// Gives up waiting for a reply.
    pub(crate) fn end_ping(&mut self, ident: u16) {
        if let Some(index) = self.pings.iter().position(|(i, _)| *i == ident) {
            let (_, handle) = self.pings.swap_remove(index);
            self.sockets.remove(handle);
        }
    }

    /// The next echo reply that arrived.
    pub(crate) fn echo_reply(&mut self) -> Option<EchoReply> {
        let checksums = ChecksumCapabilities::ignored();
        for (ident, handle) in &self.pings {
            let Ok((bytes, from)) = self.sockets.get_mut::<icmp::Socket>(*handle).recv() else {
                continue;
            };
            let data = match from {
                IpAddress::Ipv4(_) => {
                    Icmpv4Packet::new_checked(bytes).ok().and_then(
                        |packet| match Icmpv4Repr::parse(&packet, &checksums) {
                            Ok(Icmpv4Repr::EchoReply { data, .. }) => Some(data.to_vec()),
                            _ => None,
                        },
                    )
                }
                IpAddress::Ipv6(source) => Icmpv6Packet::new_checked(bytes).ok().and_then(
                    |packet| match Icmpv6Repr::parse(
                        &source,
                        &Ipv6Addr::UNSPECIFIED,
                        &packet,
                        &checksums,
                    ) {
                        Ok(Icmpv6Repr::EchoReply { data, .. }) => Some(data.to_vec()),
                        _ => None,
                    },
                ),
            };
            if let Some(data) = data {
                return Some(EchoReply {
                    from: from.into(),
                    ident: *ident,
                    data,
                });
            }
        }
        None
    }

    /// Fills the neighbour cache from ARP packets and neighbour advertisements addressed to this host.
    fn learn(&mut self, frame: &[u8], now: u64) {
        let Ok(frame) = EthernetFrame::new_checked(frame) else {
            return;
        };
        let destination = frame.dst_addr();
        if destination != EthernetAddress(self.mac)
            && !destination.is_multicast()
            && !destination.is_broadcast()
        {
            return;
        }
        let learned = match frame.ethertype() {
            EthernetProtocol::Arp => {
                let Ok(packet) = ArpPacket::new_checked(frame.payload()) else {
                    return;
                };
                let Ok(ArpRepr::EthernetIpv4 {
                    source_hardware_addr,
                    source_protocol_addr,
                    target_protocol_addr,
                    ..
                }) = ArpRepr::parse(&packet)
                else {
                    return;
                };
                if !self
                    .addresses
                    .iter()
                    .any(|a| a.ip == IpAddr::V4(target_protocol_addr))
                {
                    return;
                }
                (IpAddr::V4(source_protocol_addr), source_hardware_addr)
            }
            EthernetProtocol::Ipv6 => match advertised(frame.payload()) {
                Some((ip, mac)) => (IpAddr::V6(ip), mac),
                None => return,
            },
            _ => return,
        };
        let (ip, mac) = learned;
        if mac.is_unicast() && self.addresses.iter().any(|a| a.ip != ip && a.on_link(ip)) {
            self.neighbours.insert(
                ip,
                Neighbour {
                    mac: mac.0,
                    confirmed: now,
                    order: self.heard,
                    flushed: false,
                },
            );
            self.heard += 1;
        }
    }
}

fn instant(ns: u64) -> Instant {
    Instant::from_micros(i64::try_from(ns / 1000).unwrap_or(i64::MAX))
}

fn echo_socket(mtu: u16, ident: u16) -> icmp::Socket<'static> {
    let buffer = || {
        icmp::PacketBuffer::new(
            vec![icmp::PacketMetadata::EMPTY; 2],
            vec![0; usize::from(mtu) * 2],
        )
    };
    let mut socket = icmp::Socket::new(buffer(), buffer());
    // A fresh socket and a non-zero identifier: binding cannot fail.
    let _ = socket.bind(icmp::Endpoint::Ident(ident));
    socket
}

fn emit_ethernet(
    from: [u8; 6],
    to: EthernetAddress,
    kind: EthernetProtocol,
    payload: usize,
) -> Vec<u8> {
    let mut frame = vec![0; (EthernetFrame::<&[u8]>::header_len() + payload).max(60)];
    EthernetRepr {
        src_addr: EthernetAddress(from),
        dst_addr: to,
        ethertype: kind,
    }
    .emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame
}

fn arp_request(mac: [u8; 6], from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let repr = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: to,
    };
    let mut frame = emit_ethernet(
        mac,
        EthernetAddress::BROADCAST,
        EthernetProtocol::Arp,
        repr.buffer_len(),
    );
    repr.emit(&mut ArpPacket::new_unchecked(&mut frame[14..]));
    frame
}

fn neighbour_solicitation(mac: [u8; 6], from: Ipv6Addr, to: Ipv6Addr) -> Vec<u8> {
    // The solicited-node multicast address and the Ethernet group that carries it (RFC 4291, RFC 2464).
    let o = to.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(o[13]),
        u16::from_be_bytes([o[14], o[15]]),
    );
    let g = group.octets();
    let ether = EthernetAddress([0x33, 0x33, g[12], g[13], g[14], g[15]]);
    let icmp = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
        target_addr: to,
        lladdr: Some(HardwareAddress::Ethernet(EthernetAddress(mac)).into()),
    });
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: group,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: 255,
    };
    let mut frame = emit_ethernet(
        mac,
        ether,
        EthernetProtocol::Ipv6,
        ip.buffer_len() + icmp.buffer_len(),
    );
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    icmp.emit(
        &from,
        &group,
        &mut Icmpv6Packet::new_unchecked(&mut frame[14 + ip.buffer_len()..]),
        &ChecksumCapabilities::default(),
    );
    frame
}

/// The address pair of a neighbour advertisement or solicitation that names the sender's link-layer address.
fn advertised(payload: &[u8]) -> Option<(Ipv6Addr, EthernetAddress)> {
    let packet = Ipv6Packet::new_checked(payload).ok()?;
    if packet.next_header() != IpProtocol::Icmpv6 || packet.hop_limit() != 255 {
        return None;
    }
    let icmp = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    let repr = Icmpv6Repr::parse(
        &packet.src_addr(),
        &packet.dst_addr(),
        &icmp,
        &ChecksumCapabilities::default(),
    )
    .ok()?;
    let (ip, lladdr) = match repr {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
            target_addr,
            lladdr: Some(l),
            flags,
        }) if flags.contains(NdiscNeighborFlags::SOLICITED)
            || flags.contains(NdiscNeighborFlags::OVERRIDE) =>
        {
            (target_addr, l)
        }
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            lladdr: Some(l), ..
        }) if !packet.src_addr().is_unspecified() => (packet.src_addr(), l),
        _ => return None,
    };
    match lladdr.parse(Medium::Ethernet).ok()? {
        HardwareAddress::Ethernet(mac) => Some((ip, mac)),
        #[allow(
            unreachable_patterns,
            reason = "other media exist when smoltcp is built with them"
        )]
        _ => None,
    }
}

/// The frames between the stack and NDIS, as a smoltcp device.
struct FrameQueue {
    rx: VecDeque<Vec<u8>>,
    tx: VecDeque<Vec<u8>>,
    mtu: usize,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}

impl Device for FrameQueue {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.rx.pop_front()?;
        Some((Received(frame), Sending(&mut self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

    fn stack(index: u8) -> Stack {
        let addresses = [
            Address {
                ip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, index + 1)),
                prefix: 24,
            },
            Address {
                ip: IpAddr::V6(Ipv6Addr::new(
                    0xfd00,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    u16::from(index) + 1,
                )),
                prefix: 64,
            },
        ];
        Stack::new(MAC[usize::from(index)], 1500, &addresses, 7)
    }

    /// Carries frames between the two until both fall silent.
    fn exchange(a: &mut Stack, b: &mut Stack, now: &mut u64) {
        for _ in 0..32 {
            *now += 50_000_000;
            a.poll(*now);
            b.poll(*now);
            let mut moved = false;
            while let Some(frame) = a.transmit() {
                b.receive(&frame, *now);
                moved = true;
            }
            while let Some(frame) = b.transmit() {
                a.receive(&frame, *now);
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    #[test]
    fn resolves_and_pings_over_both_families() {
        let (mut a, mut b) = (stack(0), stack(1));
        let mut now = 0;
        for peer in [b.addresses()[0].ip, b.addresses()[1].ip] {
            assert_eq!(a.neighbour(peer), None);
            assert!(a.solicit(peer));
            exchange(&mut a, &mut b, &mut now);
            let neighbour = a.neighbour(peer).expect("resolved");
            assert_eq!(neighbour.mac, MAC[1]);
            assert!(neighbour.reachable(now) && !neighbour.reachable(now + 31_000_000_000));
            assert!(a.ping(peer, 9, b"hello"));
            for _ in 0..3 {
                // smoltcp asks for the address itself before the first packet and waits a second between attempts.
                exchange(&mut a, &mut b, &mut now);
                now += 1_000_000_000;
            }
            let reply = a.echo_reply().expect("echo reply");
            assert_eq!(
                reply,
                EchoReply {
                    from: peer,
                    ident: 9,
                    data: b"hello".to_vec()
                }
            );
            a.end_ping(9);
        }
    }

    #[test]
    fn routes_on_link_first_then_through_the_gateway() {
        let mut a = stack(0);
        let near = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
        let far = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 1));
        assert_eq!(a.route(near).unwrap().1, near);
        assert_eq!(a.route(far), None);
        a.set_gateway(Some(Ipv4Addr::new(10, 0, 0, 254)));
        assert_eq!(
            a.route(far).unwrap().1,
            IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254))
        );
        assert!(!a.solicit(far), "an off-link address cannot be asked for");
    }

    #[test]
    fn foreign_and_broken_arp_teaches_nothing() {
        let mut a = stack(0);
        let mut frame = arp_request(
            MAC[1],
            Ipv4Addr::new(10, 0, 0, 2),
            Ipv4Addr::new(10, 0, 0, 77),
        );
        a.receive(&frame, 0);
        frame = arp_request(
            MAC[1],
            Ipv4Addr::new(172, 16, 0, 2),
            Ipv4Addr::new(10, 0, 0, 1),
        );
        a.receive(&frame, 0);
        frame = arp_request(
            [3, 0, 0, 0, 0, 2],
            Ipv4Addr::new(10, 0, 0, 2),
            Ipv4Addr::new(10, 0, 0, 1),
        );
        a.receive(&frame, 0);
        for cut in 0..frame.len() {
            a.receive(&frame[..cut], 0);
        }
        a.poll(0);
        assert!(a.neighbours.is_empty());
    }
}
