//! Two machines, a wire, and an open adapter on each: what every story begins with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ndkpi::{NDK_RESULT_EX, NDK_VERSION, NDK_VERSION_2_1, NTSTATUS};
use ntsim::ndk::{
    Adapter, Buffer, Connector, Cq, Listener, Mr, Pd, Pending, Qp, QpLimits, ReadLimits, sge,
};
use ntsim::virtio_net::{Nic, NicConfig};
use ntsim::{MachineConfig, MachineId, World, WorldBuilder};

/// Address of machine A.
pub const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// Address of machine B.
pub const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
/// IPv6 address of machine A.
pub const A6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
/// IPv6 address of machine B.
pub const B6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
/// The port that servers listen on.
pub const PORT: u16 = 445;

/// What a machine has.
#[derive(Clone, Copy)]
struct Size {
    processors: u32,
    /// Bytes.
    memory: usize,
    /// Nanoseconds between two ticks of its clock; 0: its timers are exact.
    tick: u64,
}

const SMALL: Size = Size {
    processors: 1,
    memory: 64 << 20,
    tick: 0,
};

/// Longer than anything on a good wire takes.
pub const SOON: Duration = Duration::from_secs(2);
/// All rights.
pub const ALL_RIGHTS: u32 =
    ndkpi::NDK_MR_FLAG_ALLOW_REMOTE_READ | ndkpi::NDK_MR_FLAG_ALLOW_REMOTE_WRITE;

/// The machines and their wire.
pub struct Lab {
    pub world: World,
    pub net: ntsim::wire::Switch,
    pub a: MachineId,
    pub b: MachineId,
    /// Their NICs.
    pub nics: [Rc<Nic>; 2],
}

/// One consumer: an open adapter with a protection domain, a completion queue and a queue pair.
pub struct Side {
    pub machine: MachineId,
    pub address: IpAddr,
    pub adapter: Adapter,
    pub pd: Pd,
    pub cq: Cq,
    pub qp: Qp,
}

/// Registered memory.
pub struct Region {
    pub buffer: Buffer,
    pub mr: Mr,
}

impl Region {
    /// An element for part of it.
    pub fn sge(&self, offset: usize, length: usize) -> ndkpi::NDK_SGE {
        sge(&self.buffer, &self.mr, offset, length)
    }

    /// What the peer must know of it: address and remote token. Kernel code.
    pub fn remote(&self) -> (u64, u32) {
        (self.buffer.address(), self.mr.remote_token())
    }

    /// Deregisters and frees it. Kernel code.
    pub fn close(self) {
        self.mr.deregister().unwrap();
        self.mr.close();
        self.buffer.free();
    }
}

/// A connection, and the listener it was made over.
pub struct Connected {
    pub active: Connector,
    pub passive: Connector,
    pub listener: Listener,
}

impl Lab {
    /// Two machines with the driver installed.
    pub fn new() -> Lab {
        Lab::with_keywords(&[])
    }

    /// Two machines with the driver installed and these settings.
    pub fn with_keywords(keywords: &[(&str, &str)]) -> Lab {
        Lab::with(keywords, NicConfig::default())
    }

    /// Two machines with such NICs, and the driver installed with these settings.
    pub fn with(keywords: &[(&str, &str)], nic: NicConfig) -> Lab {
        Lab::build(World::builder().build(), SMALL, keywords, nic)
    }

    /// Two machines with the driver installed, in a world made by the caller.
    pub fn in_world(world: World) -> Lab {
        Lab::build(world, SMALL, &[], NicConfig::default())
    }

    /// Two machines with room for many objects.
    pub fn large() -> Lab {
        let world = World::builder().build();
        let size = Size {
            memory: 4 * SMALL.memory,
            ..SMALL
        };
        Lab::build(world, size, &[], NicConfig::default())
    }

    /// Two machines whose timers come at ticks of a clock, so many nanoseconds apart.
    pub fn ticking(tick: u64) -> Lab {
        let size = Size { tick, ..SMALL };
        let world = World::builder().build();
        Lab::build(world, size, &[], NicConfig::default())
    }

    /// Two machines of two processors each, in a world where what happens elsewhere happens in the middle of things: when, is up
    /// to the seed.
    pub fn racing(seed: u64) -> Lab {
        let world = World::builder().seed(seed).interleave(3).build();
        let size = Size {
            processors: 2,
            ..SMALL
        };
        Lab::build(world, size, &[], NicConfig::default())
    }

    /// Two machines of two processors each, in a world whose schedule is the explorer's.
    pub fn exploring(builder: WorldBuilder) -> Lab {
        let size = Size {
            processors: 2,
            ..SMALL
        };
        Lab::build(builder.build(), size, &[], NicConfig::default())
    }

    /// With machines of a size.
    fn build(mut world: World, size: Size, keywords: &[(&str, &str)], nic: NicConfig) -> Lab {
        let (a, b) = (
            machine(&mut world, "A", (A, A6), 1, size),
            machine(&mut world, "B", (B, B6), 2, size),
        );
        let net = world.switch(Default::default());
        let nics = [a, b].map(|id| {
            let nic = world.attach_nic(id, &net, nic.clone());
            let image = ntsim::ndis::DriverImage::linked_or_file(vroce::DriverEntry)
                .expect("the image that NTSIM_IMAGE names");
            let inf = include_str!("../../inf/vroce.inx");
            world
                .install_with(id, inf, image, keywords)
                .expect("the driver installs");
            nic
        });
        Lab {
            world,
            net,
            a,
            b,
            nics,
        }
    }

    /// An adapter on machine A with one of everything.
    pub fn side_a(&mut self) -> Side {
        self.side_of(self.a, A, NDK_VERSION_2_1)
    }

    /// An adapter on machine B with one of everything.
    pub fn side_b(&mut self) -> Side {
        self.side_of(self.b, B, NDK_VERSION_2_1)
    }

    /// An adapter of a machine, opened with some version, with one of everything.
    pub fn side_of(&mut self, machine: MachineId, address: IpAddr, version: NDK_VERSION) -> Side {
        self.world.call(machine, || {
            let adapter = Adapter::open(version).unwrap();
            let pd = adapter.create_pd().unwrap();
            let cq = adapter.create_cq(256).unwrap();
            let qp = pd.create_qp(&cq, &cq, limits()).unwrap();
            Side {
                machine,
                address,
                adapter,
                pd,
                cq,
                qp,
            }
        })
    }

    /// Runs kernel code on the machine of a side.
    pub fn on<R>(&mut self, side: &Side, f: impl FnOnce() -> R) -> R {
        self.world.call(side.machine, f)
    }

    /// A listener of a side, listening on the usual port.
    pub fn listen(&mut self, side: &Side) -> Listener {
        self.on(side, || {
            let listener = side.adapter.create_listener().unwrap();
            listener
                .listen(SocketAddr::new(side.address, PORT))
                .unwrap();
            listener
        })
    }

    /// One more queue pair of a side.
    pub fn queue_pair(&mut self, side: &Side) -> Qp {
        self.on(side, || {
            side.pd.create_qp(&side.cq, &side.cq, limits()).unwrap()
        })
    }

    /// An unconnected connector of a side.
    pub fn connector(&mut self, side: &Side) -> Connector {
        self.on(side, || side.adapter.create_connector().unwrap())
    }

    /// Waits for a connection request.
    #[track_caller]
    pub fn request(&mut self, listener: &Listener) -> Connector {
        assert!(
            self.world.run_until(|_| listener.waiting() > 0, SOON),
            "no connect event came"
        );
        listener.take_request().unwrap().0
    }

    /// Begins to connect a connector of `a` to where `b` listens.
    pub fn dial(&mut self, a: &Side, active: &Connector, b: &Side) -> Pending {
        let limits = ReadLimits::default();
        self.on(a, || {
            active.start_connect(&a.qp, from(a), to(b), limits, &[])
        })
    }

    /// `b` listens, `a` asks for a connection, and the request has come: listener, active connector, its request, passive
    /// connector.
    #[track_caller]
    pub fn ask(&mut self, a: &Side, b: &Side) -> (Listener, Connector, Pending, Connector) {
        self.ask_with(a, b, ReadLimits::default(), &[])
    }

    /// The same with read limits and private data.
    #[track_caller]
    pub fn ask_with(
        &mut self,
        a: &Side,
        b: &Side,
        limits: ReadLimits,
        data: &[u8],
    ) -> (Listener, Connector, Pending, Connector) {
        let listener = self.listen(b);
        let active = self.connector(a);
        let connecting = self.on(a, || {
            active.start_connect(&a.qp, from(a), to(b), limits, data)
        });
        let passive = self.request(&listener);
        (listener, active, connecting, passive)
    }

    /// Begins to accept a request with the queue pair of `b`.
    pub fn accept(&mut self, b: &Side, passive: &Connector) -> Pending {
        self.on(b, || {
            passive.start_accept(&b.qp, ReadLimits::default(), &[])
        })
    }

    /// Connects `a` to `b`: both can post afterwards.
    pub fn connect(&mut self, a: &Side, b: &Side) -> Connected {
        let listener = self.listen(b);
        let (active, passive) = self.establish(a, b, &listener);
        Connected {
            active,
            passive,
            listener,
        }
    }

    /// Connects `a` to `b` over a listener that is there.
    #[track_caller]
    pub fn establish(&mut self, a: &Side, b: &Side, listener: &Listener) -> (Connector, Connector) {
        self.join((a, &a.qp), (b, &b.qp), listener)
    }

    /// Connects these queue pairs of `a` and `b` over a listener that is there.
    #[track_caller]
    pub fn join(
        &mut self,
        (a, qp_a): (&Side, &Qp),
        (b, qp_b): (&Side, &Qp),
        listener: &Listener,
    ) -> (Connector, Connector) {
        let limits = ReadLimits::default();
        let active = self.connector(a);
        let connecting = self.on(a, || {
            active.start_connect(qp_a, from(a), to(b), limits, &[])
        });
        let passive = self.request(listener);
        let accepting = self.on(b, || passive.start_accept(qp_b, limits, &[]));
        connecting.wait(&mut self.world).expect("connect");
        self.complete(a, &active, &accepting);
        (active, passive)
    }

    /// Completes a connect that was accepted: both sides can post afterwards.
    #[track_caller]
    pub fn complete(&mut self, a: &Side, active: &Connector, accepting: &Pending) {
        let completing = self.on(a, || active.start_complete_connect());
        completing.wait(&mut self.world).expect("complete connect");
        accepting.wait(&mut self.world).expect("accept");
    }

    /// Registered memory of a side, all bytes `fill`.
    pub fn region(&mut self, side: &Side, length: usize, flags: u32, fill: u8) -> Region {
        self.on(side, || {
            let mut buffer = Buffer::new(length).unwrap();
            buffer.bytes_mut().fill(fill);
            let mr = side.pd.create_mr().unwrap();
            mr.register(&buffer, flags).unwrap();
            Region { buffer, mr }
        })
    }

    /// Registered memory of both sides, with all rights: that of `a` full of `fill`, that of `b` of 0.
    pub fn regions(&mut self, a: &Side, b: &Side, length: usize, fill: u8) -> (Region, Region) {
        let ours = self.region(a, length, ALL_RIGHTS, fill);
        (ours, self.region(b, length, ALL_RIGHTS, 0))
    }

    /// Waits for the next result of a side.
    #[track_caller]
    pub fn result(&mut self, side: &Side) -> NDK_RESULT_EX {
        let mut found = None;
        let deadline = self.world.now() + Duration::from_secs(60);
        while found.is_none() {
            assert!(self.world.now() < deadline, "no result came");
            found = self.on(side, || side.cq.poll_ex());
            if found.is_none() {
                self.world.run_for(Duration::from_micros(50));
            }
        }
        found.unwrap()
    }

    /// Nothing is in the completion queue, nor comes.
    #[track_caller]
    pub fn no_result(&mut self, side: &Side) {
        self.world.run_for(Duration::from_millis(50));
        assert!(
            self.on(side, || side.cq.poll_ex()).is_none(),
            "a result came"
        );
    }

    /// Closes a connection and what was made for it.
    pub fn hang_up(&mut self, a: &Side, b: &Side, connected: Connected) {
        let Connected {
            active,
            passive,
            listener,
        } = connected;
        let disconnecting = self.on(a, || active.start_disconnect());
        disconnecting.wait(&mut self.world).expect("disconnect");
        self.close_ends(a, active, b, passive, listener);
    }

    /// Closes a connection as it is, and what was made for it.
    pub fn drop_connection(&mut self, a: &Side, b: &Side, connected: Connected) {
        let Connected {
            active,
            passive,
            listener,
        } = connected;
        self.close_ends(a, active, b, passive, listener);
    }

    /// Closes both ends of a connection, whatever became of it, and the listener.
    pub fn close_ends(
        &mut self,
        a: &Side,
        active: Connector,
        b: &Side,
        passive: Connector,
        listener: Listener,
    ) {
        self.on(a, || active.close());
        self.on(b, || {
            passive.close();
            listener.close();
        });
    }

    /// Closes both sides and ends the story.
    pub fn end(mut self, a: Side, b: Side) {
        self.close(a);
        self.close(b);
        self.finish();
    }

    /// Closes a side.
    pub fn close(&mut self, side: Side) {
        self.world.call(side.machine, || {
            side.qp.close();
            side.cq.close();
            side.pd.close();
            side.adapter.close();
        });
    }

    /// Ends the story: the driver is unloaded, and nothing may be left over and no rule broken.
    pub fn finish(mut self) {
        for machine in [self.a, self.b] {
            self.world.uninstall(machine);
        }
        let report = self.world.finish();
        assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    }
}

fn machine(
    world: &mut World,
    name: &str,
    (v4, v6): (IpAddr, IpAddr),
    last: u8,
    size: Size,
) -> MachineId {
    let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) else {
        panic!("an IPv4 and an IPv6 address")
    };
    let config = MachineConfig::named(name)
        .ipv4(v4, 24)
        .ipv6(v6, 64)
        .mac([0x52, 0x54, 0, 0, 0, last])
        .processors(size.processors)
        .ram(size.memory);
    world.add_machine(MachineConfig {
        timer_tick: size.tick,
        ..config
    })
}

/// A NIC that reads the memory of a frame long after it was handed over.
pub fn slow_nic() -> NicConfig {
    NicConfig {
        transmit_latency: Duration::from_millis(20),
        ..NicConfig::default()
    }
}

/// Queue pairs of the lab.
pub fn limits() -> QpLimits {
    QpLimits {
        inline_data: 128,
        context: 0x51de,
        ..QpLimits::default()
    }
}

/// Where a side connects from: any port.
pub fn from(side: &Side) -> SocketAddr {
    SocketAddr::new(side.address, 0)
}

/// Where a side listens.
pub fn to(side: &Side) -> SocketAddr {
    SocketAddr::new(side.address, PORT)
}

/// Shorthand for the status of a request that failed.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(result: Result<T, NTSTATUS>) -> NTSTATUS {
    result.expect_err("this should have failed")
}
