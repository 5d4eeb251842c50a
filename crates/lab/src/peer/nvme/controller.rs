//! A controller: its admin queue and one queue for I/O, from Connect to shutdown.

use super::data::{self, ControllerData, NamespaceData};
use super::queue::{Place, Queue, Release, capsule_bytes};
use super::wire::{self, Command, ConnectRequest, Direction, Identify, Property};
use crate::cli::Target;
use crate::server::Server;
use crate::side::Side;
use anyhow::{Context, Result, ensure};
use ntsim::World;
use std::rc::Rc;
use std::time::Duration;

/// Who we are: a UUID, and the name that NVMe makes of it.
const HOST: [u8; 16] = *b"vroce-initiator\0";
const HOST_NAME: &str = "nqn.2014-08.org.nvmexpress:uuid:76726f63-652d-696e-6974-6961746f7200";

/// Asks a new association for a new controller.
const ANY_CONTROLLER: u16 = 0xFFFF;

/// Commands in progress at a time.
const ADMIN_SLOTS: usize = 2;
const IO_SLOTS: usize = 8;
const IO_ENTRIES: u16 = 16;

/// How often to ask for the status of a controller that is to become ready, or to end, and how long to wait in between.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// An enabled controller.
pub struct Controller {
    admin: Queue,
    /// For reads and writes.
    pub io: Queue,
    /// What it said of itself.
    pub data: ControllerData,
    /// What it said of its only namespace.
    pub namespace: NamespaceData,
}

/// Data of an admin command, which is always in memory.
const TO_CONTROLLER: Option<Place> = Some(Place::Memory(Direction::Write, Release::Remote));
const TO_HOST: Option<Place> = Some(Place::Memory(Direction::Read, Release::Remote));

impl Controller {
    /// Connects to `subsystem` at `target` and prepares for I/O of up to `bytes` per command, or what the controller allows.
    pub fn connect(
        world: &mut World,
        server: Server,
        target: Target,
        subsystem: &str,
        bytes: usize,
    ) -> Result<Controller> {
        let side = Side::open(world, server, capsule_bytes(ADMIN_SLOTS, Command::LEN))?;
        let adapter = Rc::clone(&side.adapter);
        let request = ConnectRequest {
            queue: 0,
            entries: wire::ADMIN_ENTRIES,
        };
        let mut admin = Queue::connect(
            world,
            side,
            target,
            request,
            ADMIN_SLOTS,
            Command::LEN,
            data::IDENTIFY_DATA,
        )?;
        let id = fabrics_connect(world, &mut admin, request, subsystem, ANY_CONTROLLER)?;
        enable(world, &mut admin)?;

        let data = identify(world, &mut admin, Identify::Controller)?;
        let data = ControllerData::from_bytes(&data).context("the Identify Controller data")?;
        ensure!(data.id == id, "controller {id} says that it is {}", data.id);
        ensure!(data.keyed_sgls, "the controller takes no keyed SGLs");
        let namespace = identify(world, &mut admin, Identify::Namespace)?;
        let namespace =
            NamespaceData::from_bytes(&namespace).context("the Identify Namespace data")?;
        admin.run_well(world, "Set Features", Command::one_io_queue(), None)?;

        let limit = data
            .max_transfer
            .map_or(bytes, |most| bytes.min(most as usize));
        let capsule = Command::LEN + data.in_capsule as usize;
        let side = Side::open_on(world, server, adapter, capsule_bytes(IO_SLOTS, capsule))?;
        let request = ConnectRequest {
            queue: 1,
            entries: IO_ENTRIES,
        };
        let mut io = Queue::connect(world, side, target, request, IO_SLOTS, capsule, limit)?;
        let same = fabrics_connect(world, &mut io, request, subsystem, id)?;
        ensure!(
            same == id,
            "queue 1 is of controller {same} instead of {id}"
        );
        Ok(Controller {
            admin,
            io,
            data,
            namespace,
        })
    }

    /// Shuts the controller down and disconnects.
    pub fn close(mut self, world: &mut World) -> Result<()> {
        let shutdown = Command::property_set(Property::Configuration, wire::SHUTDOWN);
        self.admin
            .run_well(world, "Property Set of CC", shutdown, None)?;
        await_status(
            world,
            &mut self.admin,
            wire::SHUTDOWN_STATUS,
            wire::SHUTDOWN_COMPLETE,
        )?;
        self.io.close(world)?;
        self.admin.close(world)
    }
}

/// Fabrics' Connect of one queue; returns the controller's identifier.
fn fabrics_connect(
    world: &mut World,
    queue: &mut Queue,
    request: ConnectRequest,
    subsystem: &str,
    controller: u16,
) -> Result<u16> {
    let data = data::connect_data(HOST, controller, subsystem, HOST_NAME);
    queue.prepare(0, data.len()).copy_from_slice(&data);
    let command = Command::connect(request);
    let result = queue.run_well(world, "Connect", command, TO_CONTROLLER)?;
    // The lower half of the result's first doubleword.
    Ok(result as u16)
}

fn enable(world: &mut World, admin: &mut Queue) -> Result<()> {
    let version = property(world, admin, Property::Version)?;
    let capabilities = property(world, admin, Property::Capabilities)?;
    ensure!(
        capabilities & 0xFFFF >= u64::from(IO_ENTRIES) - 1,
        "CAP.MQES of {capabilities:#x} is too small"
    );
    out!(
        "controller of NVMe {}.{}",
        version >> 16,
        version >> 8 & 0xFF
    );
    let command = Command::property_set(Property::Configuration, wire::ENABLED);
    admin.run_well(world, "Property Set of CC", command, None)?;
    await_status(world, admin, wire::READY, wire::READY)
}

fn property(world: &mut World, admin: &mut Queue, property: Property) -> Result<u64> {
    admin.run_well(world, "Property Get", Command::property_get(property), None)
}

/// Waits until CSTS, under `mask`, is `value`.
fn await_status(world: &mut World, admin: &mut Queue, mask: u64, value: u64) -> Result<()> {
    for _ in 0..TRIES {
        if property(world, admin, Property::Status)? & mask == value {
            return Ok(());
        }
        world.run_for(PAUSE);
    }
    anyhow::bail!("CSTS under {mask:#x} does not become {value:#x}")
}

fn identify(world: &mut World, admin: &mut Queue, what: Identify) -> Result<Vec<u8>> {
    admin.prepare(0, data::IDENTIFY_DATA);
    admin.run_well(world, "Identify", Command::identify(what), TO_HOST)?;
    Ok(admin.data(0).to_vec())
}
