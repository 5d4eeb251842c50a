//! One queue of a controller: a connection, on which command capsules leave and response capsules arrive.

use super::memory::Memory;
use super::wire::{self, Command, ConnectRequest, Direction, Response, Sgl, Status};
use crate::cli::Target;
use crate::peer::PATIENCE;
use crate::side::Side;
use crate::status::{self, Doing};
use anyhow::{Context, Result, bail, ensure};
use ndkpi::status::{STATUS_CANCELLED, STATUS_SUCCESS};
use ndkpi::{
    NDK_RESULT_EX, NdkOperationTypeFastRegister, NdkOperationTypeInvalidate,
    NdkOperationTypeReceive, NdkOperationTypeReceiveAndInvalidate, NdkOperationTypeSend,
};
use ntsim::World;
use ntsim::ndk::Connector;

/// What a request was: the upper half of its context. The lower half is the number of its slot.
const RECEIVE: u64 = 1 << 32;
const REGISTER: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const INVALIDATE: u64 = 4 << 32;
const SLOT: u64 = 0xFFFF_FFFF;

/// Who ends a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The controller, with its response.
    Remote,
    /// The host, when the response is there.
    Local,
}

/// Where a command's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Behind the command; to the controller only.
    Capsule,
    /// In registered memory.
    Memory(Direction, Release),
}

/// A command in progress.
struct Flight {
    id: u16,
    /// The token of its registration while that is valid.
    token: Option<u32>,
    /// Who is to end it.
    asked: Option<Release>,
    /// Who has ended it.
    released: Option<Release>,
    /// Results to come, the response not counted.
    owed: u32,
    response: Option<Response>,
}

struct Slot {
    memory: Memory,
    /// Commands so far: part of a command's identifier, so that a late response is told from a new one.
    uses: u8,
    flight: Option<Flight>,
}

/// A command that has ended, its memory out of the controller's reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// Where it was; free again, with its data still in place.
    pub slot: usize,
    /// What the controller said.
    pub response: Response,
    /// Who ended its registration.
    pub released: Option<Release>,
}

/// A connected queue.
pub struct Queue {
    side: Side,
    connector: Connector,
    id: u16,
    /// Bytes of a command capsule at most.
    capsule: usize,
    slots: Vec<Slot>,
    /// The most commands that were in progress at a time.
    pub most: usize,
}

/// Bytes of the capsules of `slots` commands and responses.
pub fn capsule_bytes(slots: usize, capsule: usize) -> usize {
    slots * (capsule + Response::LEN)
}

impl Queue {
    /// Connects a queue, without Fabrics' Connect. `side` must have [`capsule_bytes`] registered. Each of `slots` commands may have
    /// `bytes` of data.
    pub fn connect(
        world: &mut World,
        side: Side,
        to: Target,
        request: ConnectRequest,
        slots: usize,
        capsule: usize,
        bytes: usize,
    ) -> Result<Queue> {
        let slots = world
            .call(side.server.machine, || {
                (0..slots)
                    .map(|_| {
                        Ok(Slot {
                            memory: Memory::new(&side, bytes)?,
                            uses: 0,
                            flight: None,
                        })
                    })
                    .collect::<ntsim::ndk::Result<Vec<_>>>()
            })
            .doing("preparing memory for commands")?;
        let connector = match side.connect(world, (to.to, to.port), &request.to_bytes())? {
            Ok(connector) => connector,
            Err((status, _)) => bail!(
                "NdkConnect of queue {}: {}",
                request.queue,
                status::name(status)
            ),
        };
        let told = world
            .call(side.server.machine, || connector.connection_data())
            .doing("NdkGetConnectionData")?;
        let accepted = wire::accepted(&told.private_data)
            .context("the controller's private data has an unknown format")?;
        ensure!(
            usize::from(accepted) >= slots.len(),
            "the controller receives only {accepted} commands at a time"
        );
        let queue = Queue {
            side,
            connector,
            id: request.queue,
            capsule,
            slots,
            most: 0,
        };
        for index in 0..queue.slots.len() {
            queue.post_receive(world, index)?;
        }
        Ok(queue)
    }

    fn command_at(&self, slot: usize) -> usize {
        slot * self.capsule
    }

    fn response_at(&self, index: usize) -> usize {
        self.slots.len() * self.capsule + index * Response::LEN
    }

    fn post_receive(&self, world: &mut World, index: usize) -> Result<()> {
        let side = &self.side;
        let room = [side.sge(self.response_at(index), Response::LEN)];
        world
            .call(side.server.machine, || {
                side.queues.qp.receive(RECEIVE | index as u64, &room)
            })
            .doing("NdkReceive")
    }

    /// A slot for another command, if fewer are in progress than the queue has room for.
    pub fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.flight.is_none())
    }

    /// Whether no command is in progress.
    pub fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.flight.is_none())
    }

    /// Memory for the next command's data.
    pub fn prepare(&mut self, slot: usize, length: usize) -> &mut [u8] {
        self.slots[slot].memory.prepare(length)
    }

    /// The data of the slot's last command.
    pub fn data(&self, slot: usize) -> &[u8] {
        self.slots[slot].memory.data()
    }

    /// Posts a command whose data, if it has any, [`Queue::prepare`] has made room for.
    pub fn post(
        &mut self,
        world: &mut World,
        slot: usize,
        command: Command,
        data: Option<Place>,
    ) -> Result<()> {
        let at = self.command_at(slot);
        let Queue { side, slots, .. } = self;
        let entry = &mut slots[slot];
        let mut flight = Flight {
            id: u16::from(entry.uses) << 8 | u16::try_from(slot)?,
            token: None,
            asked: None,
            released: None,
            owed: 1,
            response: None,
        };
        entry.uses = entry.uses.wrapping_add(1);
        let mut length = Command::LEN;
        let sgl = match data {
            None => Sgl::None,
            Some(Place::Capsule) => {
                let bytes = entry.memory.data();
                length += bytes.len();
                side.buffer.bytes_mut()[at + Command::LEN..][..bytes.len()].copy_from_slice(bytes);
                Sgl::InCapsule {
                    length: u32::try_from(bytes.len())?,
                }
            }
            Some(Place::Memory(direction, release)) => {
                let invalidate = release == Release::Remote;
                let sgl = world
                    .call(side.server.machine, || {
                        let context = REGISTER | slot as u64;
                        entry.memory.register(side, context, direction, invalidate)
                    })
                    .doing("NdkFastRegister")?;
                flight.owed += 1;
                flight.asked = Some(release);
                if let Sgl::Keyed { key, .. } = sgl {
                    flight.token = Some(key);
                }
                sgl
            }
        };
        ensure!(
            length <= self.capsule,
            "a capsule of {length} bytes is too large"
        );
        side.buffer.bytes_mut()[at..][..Command::LEN]
            .copy_from_slice(&command.to_bytes(flight.id, sgl));
        entry.flight = Some(flight);
        let capsule = [side.sge(at, length)];
        world
            .call(side.server.machine, || {
                side.queues.qp.send(SEND | slot as u64, &capsule, 0)
            })
            .doing("NdkSend")?;
        let busy = self.slots.iter().filter(|slot| slot.flight.is_some());
        self.most = self.most.max(busy.count());
        Ok(())
    }

    /// Waits until a command has ended.
    pub fn next(&mut self, world: &mut World) -> Result<Done> {
        loop {
            for (index, slot) in self.slots.iter_mut().enumerate() {
                if let Some(Flight {
                    owed: 0,
                    token: None,
                    response: Some(response),
                    released,
                    ..
                }) = slot.flight
                {
                    slot.flight = None;
                    ensure!(
                        slot.memory.surroundings_untouched(),
                        "memory that was not registered has changed"
                    );
                    return Ok(Done {
                        slot: index,
                        response,
                        released,
                    });
                }
            }
            let result = self.next_result(world)?;
            self.on_result(world, &result)?;
        }
    }

    /// Posts a command and waits for it. The queue must be idle.
    pub fn run(
        &mut self,
        world: &mut World,
        command: Command,
        data: Option<Place>,
    ) -> Result<Response> {
        ensure!(self.is_idle(), "other commands are in progress");
        self.post(world, 0, command, data)?;
        Ok(self.next(world)?.response)
    }

    /// As [`Queue::run`], for a command that must succeed.
    pub fn run_well(
        &mut self,
        world: &mut World,
        what: &str,
        command: Command,
        data: Option<Place>,
    ) -> Result<u64> {
        let response = self.run(world, command, data).context(what.to_owned())?;
        ensure!(
            response.status == Status::SUCCESS,
            "{what}: {}",
            response.status
        );
        Ok(response.result)
    }

    fn next_result(&self, world: &mut World) -> Result<NDK_RESULT_EX> {
        let side = &self.side;
        let mut result = None;
        world.run_until(
            |world| {
                result = world.call(side.server.machine, || side.queues.cq.poll_ex());
                result.is_some() || self.connector.disconnect_events().count() > 0
            },
            PATIENCE,
        );
        result.with_context(|| {
            if self.connector.disconnect_events().count() > 0 {
                format!("the controller has disconnected queue {}", self.id)
            } else {
                format!("nothing happened on queue {} in {PATIENCE:?}", self.id)
            }
        })
    }

    fn on_result(&mut self, world: &mut World, result: &NDK_RESULT_EX) -> Result<()> {
        let context = result.RequestContext.addr() as u64;
        let (kind, index) = (context & !SLOT, (context & SLOT) as usize);
        if result.Status != STATUS_SUCCESS {
            bail!(
                "request {context:#x} of queue {} failed with {}, provider's code {:#x}",
                self.id,
                status::name(result.Status),
                result.ProviderErrorCode
            );
        }
        let is = |kind| {
            ensure!(
                result.Type == kind,
                "request {context:#x} has a result of type {:#x} instead of {kind:#x}",
                result.Type
            );
            Ok(())
        };
        match kind {
            RECEIVE if result.Type == NdkOperationTypeReceiveAndInvalidate => {
                // The upper half is undefined.
                let token = result.TypeSpecificCompletionOutput as u32;
                self.on_response(world, index, result, Some(token))
            }
            RECEIVE => {
                is(NdkOperationTypeReceive)?;
                self.on_response(world, index, result, None)
            }
            REGISTER => {
                is(NdkOperationTypeFastRegister)?;
                self.flight(index)?.owed -= 1;
                Ok(())
            }
            SEND => {
                is(NdkOperationTypeSend)?;
                self.flight(index)?.owed -= 1;
                Ok(())
            }
            INVALIDATE => {
                is(NdkOperationTypeInvalidate)?;
                let flight = self.flight(index)?;
                flight.owed -= 1;
                flight.token = None;
                flight.released = Some(Release::Local);
                Ok(())
            }
            _ => bail!("a result for request {context:#x}, which nobody posted"),
        }
    }

    fn flight(&mut self, slot: usize) -> Result<&mut Flight> {
        self.slots
            .get_mut(slot)
            .and_then(|slot| slot.flight.as_mut())
            .with_context(|| format!("a result for slot {slot}, where no command is in progress"))
    }

    /// A response has come; with it may have come the end of a registration.
    fn on_response(
        &mut self,
        world: &mut World,
        index: usize,
        result: &NDK_RESULT_EX,
        invalidated: Option<u32>,
    ) -> Result<()> {
        ensure!(
            result.BytesTransferred as usize == Response::LEN,
            "a response of {} bytes",
            result.BytesTransferred
        );
        let bytes = &self.side.buffer.bytes()[self.response_at(index)..][..Response::LEN];
        let response = Response::from_bytes(bytes.try_into()?);
        self.post_receive(world, index)?;
        let slot = usize::from(response.id & 0xFF);
        let flight = self.flight(slot)?;
        ensure!(
            flight.id == response.id && flight.response.is_none(),
            "a response to command {:#06x}, which is not in progress",
            response.id
        );
        flight.response = Some(response);
        match (flight.token, invalidated) {
            (None, None) => {}
            (Some(token), Some(other)) => {
                ensure!(
                    token == other,
                    "the response has ended token {other:#x} instead of {token:#x}"
                );
                ensure!(
                    flight.asked == Some(Release::Remote),
                    "the response has ended a token unasked"
                );
                flight.token = None;
                flight.released = Some(Release::Remote);
            }
            (None, Some(other)) => {
                bail!("the response to a command without registration has ended token {other:#x}")
            }
            (Some(_), None) => {
                flight.owed += 1;
                let (side, memory) = (&self.side, &self.slots[slot].memory);
                world
                    .call(side.server.machine, || {
                        memory.invalidate(side, INVALIDATE | slot as u64)
                    })
                    .doing("NdkInvalidate")?;
            }
        }
        Ok(())
    }

    /// Disconnects and gives everything back. The receives must be flushed, and the controller must not have left before.
    pub fn close(self, world: &mut World) -> Result<()> {
        ensure!(self.is_idle(), "commands are in progress");
        let machine = self.side.server.machine;
        ensure!(
            self.connector.disconnect_events().count() == 0,
            "the controller has disconnected queue {}",
            self.id
        );
        let disconnect = world.call(machine, || self.connector.start_disconnect());
        disconnect.wait(world).doing("NdkDisconnect")?;
        let mut flushed = 0;
        while let Some(result) = world.call(machine, || self.side.queues.cq.poll_ex()) {
            ensure!(
                result.Status == STATUS_CANCELLED,
                "a receive ended with {} instead of being flushed",
                status::name(result.Status)
            );
            flushed += 1;
        }
        ensure!(
            flushed == self.slots.len(),
            "{flushed} of {} receives were flushed",
            self.slots.len()
        );
        let Queue {
            side,
            connector,
            slots,
            ..
        } = self;
        world.call(machine, || {
            connector.close();
            for slot in slots {
                slot.memory.close(&side);
            }
        });
        side.close(world)
    }
}
