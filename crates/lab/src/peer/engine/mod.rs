//! A host without the driver: the engine alone on the guest's wire, with IP beside it.
//!
//! For programs that agree on queue pairs by other means than the connection manager: NDK has no function for that, the engine has
//! ([`roce::Engine::attach`]).

mod contents;
mod memory;
pub mod pingpong;
mod stack;
mod wire;

use anyhow::{Context, Result, ensure};
use memory::Buffers;
use ntsim::World;
use ntsim::wire::{Endpoint, Frame, Port, Switch};
use roce::{Config, Engine, Instant, PathMtu, Transmit, Verdict};
use stack::Stack;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

/// How long a turn waits for a frame: timers are that late at most.
const TURN: Duration = Duration::from_millis(1);

/// Linux solicits from such an address, and the stack answers only what comes from a network that it is in.
const LINK_LOCAL: IpAddr = IpAddr::V6(Ipv6Addr::new(0xFE80, 0, 0, 0, 0x5054, 0xFF, 0xFE00, 1));

const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x00, 0x00, 0x01];

/// What has arrived.
#[derive(Default)]
struct Inbox(RefCell<VecDeque<Frame>>);

impl Endpoint for Inbox {
    fn deliver(&self, frame: Frame) {
        self.0.borrow_mut().push_back(frame);
    }
}

/// The host.
pub struct Host {
    inbox: Rc<Inbox>,
    port: Port,
    engine: Engine,
    memory: Buffers,
    stack: Stack,
    out: Transmit,
    now: Instant,
    /// When the last frame of RoCE's came.
    heard: Instant,
}

impl Host {
    /// Plugs a host with these addresses into the switch.
    pub fn connect(switch: &Switch, addresses: &[IpAddr], mtu: PathMtu, seed: u64) -> Result<Host> {
        let addresses: Vec<(IpAddr, u8)> = addresses
            .iter()
            .chain([&LINK_LOCAL])
            .map(|address| (*address, if address.is_ipv4() { 24 } else { 64 }))
            .collect();
        let config = Config {
            local_mtu: u16::try_from(mtu.bytes())? + 96,
            seed: seed.into(),
            ..Config::default()
        };
        let engine = Engine::try_new(&config).ok().context("no memory")?;
        let inbox = Rc::new(Inbox::default());
        let endpoint: Rc<dyn Endpoint> = Rc::<Inbox>::clone(&inbox);
        let port = switch.connect("vroce", Rc::downgrade(&endpoint));
        Ok(Host {
            inbox,
            port,
            engine,
            memory: Buffers::default(),
            stack: Stack::new(MAC, &addresses, seed)?,
            out: Transmit::new(),
            now: Instant::ZERO,
            heard: Instant::ZERO,
        })
    }

    /// Sends what is to be sent, and takes what comes.
    pub fn turn(&mut self, world: &mut World) -> Result<()> {
        self.transmit()?;
        world.run_until(|_| !self.inbox.0.borrow().is_empty(), TURN);
        let now = u64::try_from(world.now().as_nanos())?;
        self.now = Instant(now);
        while let Some(frame) = self.next_frame() {
            match self.engine.receive(self.now, &frame, &mut self.memory) {
                Verdict::Consumed => self.heard = self.now,
                Verdict::NotRoce => self.stack.receive(&frame),
            }
        }
        if self.engine.next_deadline().is_some_and(|at| at <= self.now) {
            self.engine.handle_timeout(self.now);
        }
        self.stack.poll(now);
        self.transmit()
    }

    fn next_frame(&self) -> Option<Frame> {
        self.inbox.0.borrow_mut().pop_front()
    }

    fn transmit(&mut self) -> Result<()> {
        while self
            .engine
            .poll_transmit(self.now, &self.memory, &mut self.out)
        {
            let mut frame = Frame::from(&self.out.header[..]);
            for piece in &self.out.pieces {
                let bytes = self
                    .memory
                    .get(piece.region, piece.offset, piece.len as usize);
                frame.extend(bytes.ok().context("a piece beyond its region")?);
            }
            frame.extend(&self.out.trailer);
            self.port.send(frame);
            if let Some(token) = self.out.token {
                self.engine.transmitted(self.now, token);
            }
        }
        while let Some(frame) = self.stack.transmit() {
            self.port.send(Frame::from(&frame[..]));
        }
        Ok(())
    }

    /// Takes turns until `done` gives something.
    fn until<T>(
        &mut self,
        world: &mut World,
        within: Duration,
        what: &str,
        mut done: impl FnMut(&mut Host) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = world.now() + within;
        loop {
            if let Some(result) = done(self)? {
                return Ok(result);
            }
            ensure!(world.now() < end, "{what} did not come in {within:?}");
            self.turn(world)?;
        }
    }
}
