//! One side of a connection: everything an NDK consumer has open on one server.

use crate::server::Server;
use crate::status::{self, Doing};
use anyhow::{Context, Result, anyhow, ensure};
use ndkpi::status::STATUS_SUCCESS;
use ndkpi::{NDK_RESULT, NDK_SGE, NDK_SGE_ADDRESS, NDK_VERSION_2_1};
use ntsim::World;
use ntsim::ndk::{Adapter, Buffer, Connector, Cq, Listener, Mr, Pd, Qp, QpLimits, ReadLimits};
use std::ffi::c_void;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// Requests that may be outstanding on either queue.
pub const DEPTH: u32 = 128;

/// The parts that a notification callback works with.
pub struct Queues {
    /// The queue pair.
    pub qp: Qp,
    /// Its only completion queue.
    pub cq: Cq,
}

/// An open adapter with one queue pair and one registered buffer.
pub struct Side {
    /// Where it runs.
    pub server: Server,
    /// The adapter; several sides may share it.
    pub adapter: Rc<Adapter>,
    pd: Pd,
    /// Queue pair and completion queue.
    pub queues: Rc<Queues>,
    mr: Mr,
    /// Token of the registration for the side's own requests.
    local_token: u32,
    /// Token of the registration for the peer's requests.
    remote_token: u32,
    /// The registered memory.
    pub buffer: Buffer,
}

impl Side {
    /// Opens the adapter and creates the objects, with `bytes` of registered memory.
    pub fn open(world: &mut World, server: Server, bytes: usize) -> Result<Side> {
        let adapter = world
            .call(server.machine, || Adapter::open(NDK_VERSION_2_1))
            .doing("WskOpenNdkAdapter")?;
        Side::open_on(world, server, Rc::new(adapter), bytes)
    }

    /// As [`Side::open`], with an adapter that is open.
    pub fn open_on(
        world: &mut World,
        server: Server,
        adapter: Rc<Adapter>,
        bytes: usize,
    ) -> Result<Side> {
        world
            .call(server.machine, || {
                let cq = adapter.create_cq(4 * DEPTH)?;
                let pd = adapter.create_pd()?;
                let limits = QpLimits {
                    receive_depth: DEPTH,
                    initiator_depth: DEPTH,
                    ..QpLimits::default()
                };
                let qp = pd.create_qp(&cq, &cq, limits)?;
                let (buffer, mr) = pd.register_memory(bytes)?;
                Ok(Side {
                    server,
                    adapter,
                    pd,
                    queues: Rc::new(Queues { qp, cq }),
                    // Asked for here, on the server: tokens come from the provider.
                    local_token: mr.local_token(),
                    remote_token: mr.remote_token(),
                    mr,
                    buffer,
                })
            })
            .doing("creating the objects of a connection")
    }

    /// The protection domain of everything.
    pub fn pd(&self) -> &Pd {
        &self.pd
    }

    /// A part of the registered memory.
    pub fn sge(&self, offset: usize, length: usize) -> NDK_SGE {
        NDK_SGE {
            Anonymous: NDK_SGE_ADDRESS {
                VirtualAddress: (self.buffer.address() as usize + offset) as *mut c_void,
            },
            Length: u32::try_from(length).expect("an element of less than 4 GiB"),
            MemoryRegionToken: self.local_token,
        }
    }

    /// Address and token of the registered memory, as the peer has to know them.
    pub fn remote(&self) -> (u64, u32) {
        (self.buffer.address(), self.remote_token)
    }

    /// The server's address with a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.server.address, port))
    }

    /// Connects to a peer that is not ours to play: NdkConnect, NdkCompleteConnect.
    pub fn connect(
        &self,
        world: &mut World,
        to: (IpAddr, u16),
        private_data: &[u8],
    ) -> Result<Result<Connector, (i32, Connector)>> {
        let machine = self.server.machine;
        let connector = world
            .call(machine, || self.adapter.create_connector())
            .doing("NdkCreateConnector")?;
        let connect = world.call(machine, || {
            connector.start_connect(
                &self.queues.qp,
                self.at(0),
                to.into(),
                ReadLimits::default(),
                private_data,
            )
        });
        if let Err(status) = connect.wait(world) {
            return Ok(Err((status, connector)));
        }
        let complete = world.call(machine, || connector.start_complete_connect_ex());
        complete.wait(world).doing("NdkCompleteConnectEx")?;
        Ok(Ok(connector))
    }

    /// Creates a listener that listens on `port`.
    pub fn listen(&self, world: &mut World, port: u16) -> Result<Listener> {
        world
            .call(self.server.machine, || {
                let listener = self.adapter.create_listener()?;
                listener.listen(self.at(port))?;
                Ok(listener)
            })
            .doing("NdkListen")
    }

    /// Waits for a connection request, or until interrupted. The connect event must come at DISPATCH_LEVEL.
    pub fn next_request(
        &self,
        world: &mut World,
        listener: &Listener,
        within: Duration,
    ) -> Result<Connector> {
        world.run_until(
            |_| listener.waiting() > 0 || ntsim::interrupt::caught(),
            within,
        );
        let (connector, irql) = world
            .call(self.server.machine, || listener.take_request())
            .with_context(|| format!("no connection request in {within:?}"))?;
        ensure!(
            irql == 2,
            "the connect event came at IRQL {irql} instead of DISPATCH_LEVEL"
        );
        Ok(connector)
    }

    /// The next result of the completion queue, waiting for it. Its status is the caller's to look at.
    pub fn next_result(&self, world: &mut World, within: Duration) -> Result<NDK_RESULT> {
        let mut result = None;
        world.run_until(
            |world| {
                result = world.call(self.server.machine, || self.queues.cq.poll());
                result.is_some()
            },
            within,
        );
        result.with_context(|| format!("no request completed in {within:?}"))
    }

    /// Waits for a request to complete well; it must be the next one that does. Returns its byte count.
    pub fn complete(&self, world: &mut World, context: u64) -> Result<u32> {
        let result = self.next_result(world, Duration::from_secs(60))?;
        ensure!(
            result.RequestContext.addr() as u64 == context,
            "request {} completed instead of {context}",
            result.RequestContext.addr()
        );
        ensure!(
            result.Status == STATUS_SUCCESS,
            "request {context} failed with {}",
            status::name(result.Status)
        );
        Ok(result.BytesTransferred)
    }

    /// Takes everything down in the order of dependence.
    pub fn close(self, world: &mut World) -> Result<()> {
        let Side {
            server,
            adapter,
            pd,
            queues,
            mr,
            buffer,
            ..
        } = self;
        world.call(server.machine, || {
            // Whoever still plays with the queues does so through the completion queue's callback.
            queues.cq.on_notify(|_| ());
            let Queues { qp, cq } =
                Rc::into_inner(queues).ok_or_else(|| anyhow!("the queues are still in use"))?;
            qp.close();
            mr.deregister().doing("NdkDeregisterMr")?;
            mr.close();
            cq.close();
            pd.close();
            if let Some(adapter) = Rc::into_inner(adapter) {
                adapter.close();
            }
            buffer.free();
            Ok(())
        })
    }
}

/// Two connected sides' connectors.
pub struct Link {
    /// Of the side that connected.
    pub active: Connector,
    /// Of the side that accepted.
    pub passive: Connector,
}

impl Link {
    /// Disconnects from the active side. The passive side must be told exactly once, at DISPATCH_LEVEL; both connectors are closed.
    pub fn end(self, world: &mut World, active: &Side, passive: &Side) -> Result<()> {
        let disconnect = world.call(active.server.machine, || self.active.start_disconnect());
        disconnect.wait(world).doing("NdkDisconnect")?;
        world.run_until(
            |_| self.passive.disconnect_events().count() > 0,
            Duration::from_secs(60),
        );
        let told = self.passive.disconnect_events().calls();
        ensure!(
            told.len() == 1 && told[0].irql == 2,
            "the peer's disconnect event should come once at DISPATCH_LEVEL; it came as {told:?}"
        );
        let answer = world.call(passive.server.machine, || self.passive.start_disconnect());
        answer.wait(world).doing("NdkDisconnect of the peer")?;
        ensure!(
            self.active.disconnect_events().count() == 0,
            "who disconnects gets no disconnect event"
        );
        world.call(active.server.machine, || self.active.close());
        world.call(passive.server.machine, || self.passive.close());
        Ok(())
    }
}

/// Connects two sides of ours, with private data both ways, and checks that it arrives.
pub fn link(
    world: &mut World,
    active: &Side,
    passive: &Side,
    port: u16,
    request: &[u8],
    reply: &[u8],
) -> Result<Link> {
    let listener = passive.listen(world, port)?;
    let connector = world
        .call(active.server.machine, || active.adapter.create_connector())
        .doing("NdkCreateConnector")?;
    let connect = world.call(active.server.machine, || {
        connector.start_connect(
            &active.queues.qp,
            active.at(0),
            passive.at(port),
            ReadLimits::default(),
            request,
        )
    });
    let accepting = passive.next_request(world, &listener, Duration::from_secs(60))?;
    let seen = world
        .call(passive.server.machine, || accepting.connection_data())
        .doing("NdkGetConnectionData of the request")?;
    ensure!(
        seen.private_data.starts_with(request),
        "the request's private data was changed on the way"
    );
    let accept = world.call(passive.server.machine, || {
        accepting.start_accept_ex(&passive.queues.qp, ReadLimits::default(), reply)
    });
    connect.wait(world).doing("NdkConnect")?;
    let seen = world
        .call(active.server.machine, || connector.connection_data())
        .doing("NdkGetConnectionData of the reply")?;
    ensure!(
        seen.private_data.starts_with(reply),
        "the reply's private data was changed on the way"
    );
    let complete = world.call(active.server.machine, || {
        connector.start_complete_connect_ex()
    });
    complete.wait(world).doing("NdkCompleteConnectEx")?;
    accept.wait(world).doing("NdkAcceptEx")?;
    // The listener's close waits for the connector that came through it.
    let _closing = world.call(passive.server.machine, || listener.start_close());
    Ok(Link {
        active: connector,
        passive: accepting,
    })
}
