//! IP beside the engine: smoltcp answers ARP and neighbour discovery and speaks TCP.

use anyhow::{Result, ensure};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, IpAddress, IpCidr, Ipv4Packet, Ipv6Packet,
};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// The longest frame of TCP: no path is so narrow.
const FRAME: usize = 1514;

/// Bytes that wait in either direction.
const BUFFER: usize = 16 * 1024;

/// Our port of a connection that we open: one of those for that, by the number of this process. The peer may remember an earlier one's.
fn local_port() -> u16 {
    const DYNAMIC: u16 = 49152;
    DYNAMIC + (std::process::id() % u32::from(u16::MAX - DYNAMIC)) as u16
}

/// A link-layer address, a few IP addresses, one TCP connection.
pub struct Stack {
    frames: Frames,
    interface: Interface,
    sockets: SocketSet<'static>,
    tcp: SocketHandle,
    /// Who has sent IP packets, and from which link-layer address.
    heard: BTreeMap<IpAddr, [u8; 6]>,
}

impl Stack {
    /// With these addresses; `seed` decides sequence numbers.
    pub fn new(mac: [u8; 6], addresses: &[(IpAddr, u8)], seed: u64) -> Result<Stack> {
        let mut frames = Frames::default();
        let mut config = Config::new(EthernetAddress(mac).into());
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut frames, Instant::ZERO);
        let mut room = Ok(());
        interface.update_ip_addrs(|list| {
            for (address, prefix) in addresses {
                if list
                    .push(IpCidr::new(IpAddress::from(*address), *prefix))
                    .is_err()
                {
                    room = Err(anyhow::anyhow!("too many addresses"));
                }
            }
        });
        room?;
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut sockets = SocketSet::new(Vec::new());
        let tcp = sockets.add(Socket::new(buffer(), buffer()));
        Ok(Stack {
            frames,
            interface,
            sockets,
            tcp,
            heard: BTreeMap::new(),
        })
    }

    /// Waits for a connection.
    pub fn listen(&mut self, port: u16) -> Result<()> {
        self.sockets.get_mut::<Socket<'_>>(self.tcp).listen(port)?;
        Ok(())
    }

    /// Opens a connection.
    pub fn connect(&mut self, to: SocketAddr) -> Result<()> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.tcp);
        socket.abort();
        socket.connect(self.interface.context(), to, local_port())?;
        Ok(())
    }

    /// Whether a connection that was asked for is refused.
    pub fn is_refused(&self) -> bool {
        self.sockets.get::<Socket<'_>>(self.tcp).state() == State::Closed
    }

    /// Whether bytes can be sent.
    pub fn is_connected(&self) -> bool {
        self.sockets.get::<Socket<'_>>(self.tcp).may_send()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Option<IpAddr> {
        let socket = self.sockets.get::<Socket<'_>>(self.tcp);
        socket.remote_endpoint().map(|end| end.addr.into())
    }

    /// The link-layer address of the other end.
    pub fn peer_mac(&self) -> Option<[u8; 6]> {
        self.heard.get(&self.peer()?).copied()
    }

    /// Takes so many bytes once they are there.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<bool> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.tcp);
        if socket.recv_queue() < bytes.len() {
            ensure!(socket.may_recv(), "the connection ended early");
            return Ok(false);
        }
        ensure!(
            socket.recv_slice(bytes)? == bytes.len(),
            "the bytes were there"
        );
        Ok(true)
    }

    /// Sends bytes; there must be room for them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.tcp);
        let sent = socket.send_slice(bytes)?;
        ensure!(
            sent == bytes.len(),
            "{sent} of {} bytes could be sent",
            bytes.len()
        );
        Ok(())
    }

    /// Ends our side of the connection.
    pub fn close(&mut self) {
        self.sockets.get_mut::<Socket<'_>>(self.tcp).close();
    }

    /// Takes a frame that is none of RoCE's.
    pub fn receive(&mut self, frame: &[u8]) {
        if let Some(sender) = sender(frame) {
            self.heard.extend([sender]);
        }
        self.frames.incoming.push_back(frame.to_vec());
    }

    /// Does what is due, at so many nanoseconds of the world's clock.
    pub fn poll(&mut self, now: u64) {
        let now = Instant::from_micros(i64::try_from(now / 1000).unwrap_or(i64::MAX));
        self.interface
            .poll(now, &mut self.frames, &mut self.sockets);
    }

    /// The next frame to send.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.frames.outgoing.pop_front()
    }
}

/// IP address and link-layer address of who sent a frame.
fn sender(frame: &[u8]) -> Option<(IpAddr, [u8; 6])> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let address: IpAddr = match frame.ethertype() {
        EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(frame.payload())
            .ok()?
            .src_addr()
            .into(),
        EthernetProtocol::Ipv6 => Ipv6Packet::new_checked(frame.payload())
            .ok()?
            .src_addr()
            .into(),
        _ => return None,
    };
    Some((address, frame.src_addr().0))
}

/// What has come and what is to go, as a smoltcp device.
#[derive(Default)]
struct Frames {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
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

impl Device for Frames {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.incoming.pop_front()?;
        Some((Received(frame), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}
