//! An NVMe over Fabrics initiator, played by an NDK consumer on vroce.
//!
//! The data of each command is registered by a fast registration of its own, whose token goes to the controller in a keyed SGL. The
//! controller reads or writes it by RDMA and ends the registration with its response, or leaves that to us.

mod controller;
mod data;
mod memory;
mod pattern;
mod queue;
mod wire;

use crate::cli::Target;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use controller::Controller;
use ntsim::World;
use pattern::Author;
use queue::{Done, Place, Release};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use wire::{Command, Direction, Status};

/// Bytes of the largest command that is tried.
const LARGEST: usize = 1 << 20;

/// Bytes of a logical block, and blocks of the namespace at least.
const BLOCK: u32 = 512;
const BLOCKS: u64 = 16_384;

/// Blocks of one command: few, many, and no multiple of a page.
const LENGTHS: [u16; 8] = [1, 2, 8, 15, 128, 257, 1000, 2048];

/// Blocks of one command whose data is in its capsule.
const CAPSULE_LENGTHS: [u16; 3] = [1, 8, 3];

/// Who writes by a registration that the controller ends, by one that we end, and in capsules.
const REMOTE: Author = Author(b'V');
const LOCAL: Author = Author(b'L');
const CAPSULE: Author = Author(b'C');

/// Which blocks hold whose pattern in the end.
fn layout(end: u64) -> [(Range<u64>, Author); 6] {
    [
        (0..4099, REMOTE),
        (4099..6000, LOCAL),
        (6000..6100, REMOTE),
        (6100..6160, CAPSULE),
        (6160..8192, REMOTE),
        (8192..end, Author::GUEST),
    ]
}

/// One read or write.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    lba: u64,
    blocks: u16,
    /// Who wrote the blocks, or is to.
    author: Author,
    place: Place,
}

impl Transfer {
    fn direction(self) -> Direction {
        match self.place {
            Place::Capsule => Direction::Write,
            Place::Memory(direction, _) => direction,
        }
    }

    /// Where the data begins in the namespace, and its bytes.
    fn extent(self) -> (u64, usize) {
        let block = u64::from(BLOCK);
        (self.lba * block, usize::from(self.blocks) * BLOCK as usize)
    }
}

/// Cuts a range of blocks into commands of `lengths` blocks, in turn.
fn cut(range: Range<u64>, lengths: &[u16], author: Author, place: Place) -> VecDeque<Transfer> {
    let mut lba = range.start;
    lengths
        .iter()
        .cycle()
        .map_while(|length| {
            let left = u16::try_from(range.end - lba).unwrap_or(u16::MAX);
            let transfer = Transfer {
                lba,
                blocks: left.min(*length),
                author,
                place,
            };
            lba += u64::from(transfer.blocks);
            (transfer.blocks > 0).then_some(transfer)
        })
        .collect()
}

/// One of each in turn.
fn alternate(mut a: VecDeque<Transfer>, mut b: VecDeque<Transfer>) -> VecDeque<Transfer> {
    let mut both = VecDeque::new();
    while !a.is_empty() || !b.is_empty() {
        both.extend(a.pop_front());
        both.extend(b.pop_front());
    }
    both
}

/// What was done.
#[derive(Default)]
struct Tally {
    read: u64,
    written: u64,
    remote: u32,
    local: u32,
    capsules: u32,
}

impl Tally {
    fn add(&mut self, transfer: Transfer) {
        let (_, length) = transfer.extent();
        match transfer.direction() {
            Direction::Read => self.read += length as u64,
            Direction::Write => self.written += length as u64,
        }
        match transfer.place {
            Place::Capsule => self.capsules += 1,
            Place::Memory(_, Release::Remote) => self.remote += 1,
            Place::Memory(_, Release::Local) => self.local += 1,
        }
    }
}

/// Reads, writes and checks the namespace of the subsystem `name`, which holds the guest's pattern.
pub fn initiate(world: &mut World, server: Server, target: Target, name: &str) -> Result<()> {
    let mut controller = Controller::connect(world, server, target, name, LARGEST)?;
    let (data, namespace) = (&controller.data, controller.namespace);
    out!(
        "{} {}: {} blocks of {} bytes, {} bytes in a capsule",
        data.model,
        data.serial,
        namespace.blocks,
        namespace.block,
        data.in_capsule
    );
    ensure!(
        namespace.blocks >= BLOCKS && namespace.block == BLOCK,
        "at least {BLOCKS} blocks of {BLOCK} bytes are needed"
    );
    ensure!(
        data.max_transfer
            .is_none_or(|most| most as usize >= LARGEST),
        "the controller transfers only {:?} bytes at a time",
        data.max_transfer
    );
    let end = namespace.blocks;
    let read = |release| Place::Memory(Direction::Read, release);
    let write = |release| Place::Memory(Direction::Write, release);
    let mut tally = Tally::default();

    let guests = cut(0..end, &LENGTHS, Author::GUEST, read(Release::Remote));
    transfer(world, &mut controller, guests, &mut tally).context("reading what the guest wrote")?;

    let writes = cut(0..8192, &LENGTHS, REMOTE, write(Release::Remote));
    let reads = cut(8192..end, &LENGTHS, Author::GUEST, read(Release::Remote));
    transfer(world, &mut controller, alternate(writes, reads), &mut tally)
        .context("writing and reading at a time")?;

    let writes = cut(4099..6000, &LENGTHS, LOCAL, write(Release::Local));
    let reads = cut(0..4099, &LENGTHS, REMOTE, read(Release::Local));
    transfer(world, &mut controller, alternate(writes, reads), &mut tally)
        .context("writing and reading with local invalidation")?;

    let writes = cut(6100..6160, &CAPSULE_LENGTHS, CAPSULE, Place::Capsule);
    transfer(world, &mut controller, writes, &mut tally).context("writing from capsules")?;

    refusals(world, &mut controller)?;
    controller
        .io
        .run_well(world, "Flush", Command::flush(), None)?;

    let all = layout(end)
        .into_iter()
        .flat_map(|(range, author)| cut(range, &[2048], author, read(Release::Remote)));
    transfer(world, &mut controller, all.collect(), &mut tally).context("reading all again")?;

    for (range, author) in layout(end) {
        out!("blocks {} {} {}", range.start, range.end, author.letter());
    }
    out!(
        "verified {} bytes read, {} written; {} registrations ended by the controller, {} by us; {} capsules; at most {} at a time",
        tally.read,
        tally.written,
        tally.remote,
        tally.local,
        tally.capsules,
        controller.io.most
    );
    controller.close(world)
}

/// Runs transfers, as many at a time as the queue has room for, and checks what they bring and how their registrations end.
fn transfer(
    world: &mut World,
    controller: &mut Controller,
    mut waiting: VecDeque<Transfer>,
    tally: &mut Tally,
) -> Result<()> {
    let io = &mut controller.io;
    let mut running = BTreeMap::new();
    loop {
        while let Some(slot) = io.free_slot()
            && let Some(next) = waiting.pop_front()
        {
            let (offset, length) = next.extent();
            let memory = io.prepare(slot, length);
            if next.direction() == Direction::Write {
                pattern::fill(memory, next.author, offset);
            }
            let command = Command::transfer(next.direction(), next.lba, next.blocks);
            io.post(world, slot, command, Some(next.place))?;
            running.insert(slot, next);
        }
        if io.is_idle() {
            return Ok(());
        }
        let done = io.next(world)?;
        let ended = running.remove(&done.slot).context("of another slot")?;
        check(ended, done, io.data(done.slot)).with_context(|| format!("{ended:?}"))?;
        tally.add(ended);
    }
}

fn check(transfer: Transfer, done: Done, data: &[u8]) -> Result<()> {
    let status = done.response.status;
    ensure!(status == Status::SUCCESS, "{status}");
    let released = match transfer.place {
        Place::Capsule => None,
        Place::Memory(_, release) => Some(release),
    };
    ensure!(
        done.released == released,
        "the registration was ended by {:?} instead of {released:?}",
        done.released
    );
    let (offset, _) = transfer.extent();
    if let Some(at) = pattern::first_difference(data, transfer.author, offset) {
        anyhow::bail!("the data differs from byte {at} of the namespace on");
    }
    Ok(())
}

/// Commands that the controller must refuse, both asking for remote invalidation.
fn refusals(world: &mut World, controller: &mut Controller) -> Result<()> {
    let place = Place::Memory(Direction::Read, Release::Remote);
    // A command that is refused before its SGL is looked at: nobody else ends the registration.
    let unknown = refuse(world, controller, Command::unknown(), place)?;
    ensure!(
        unknown.response.status.code() == Status::INVALID_OPCODE
            && unknown.released == Some(Release::Local),
        "a command that does not exist ended with {}, its registration by {:?}",
        unknown.response.status,
        unknown.released
    );
    let end = controller.namespace.blocks;
    let beyond = Command::transfer(Direction::Read, end, 8);
    let beyond = refuse(world, controller, beyond, place)?;
    ensure!(
        beyond.response.status != Status::SUCCESS,
        "blocks beyond the end were read"
    );
    out!(
        "refused: unknown command, {}; read beyond the end, {}",
        unknown.response.status,
        beyond.response.status
    );
    Ok(())
}

/// Runs a command with a page of data that must stay as it was.
fn refuse(
    world: &mut World,
    controller: &mut Controller,
    command: Command,
    place: Place,
) -> Result<Done> {
    let io = &mut controller.io;
    let before = io.prepare(0, 4096).to_vec();
    io.post(world, 0, command, Some(place))?;
    let done = io.next(world)?;
    ensure!(io.data(0) == before, "a refused command has transferred");
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_cover_a_range_without_gap() {
        let transfers = cut(10..5000, &LENGTHS, REMOTE, Place::Capsule);
        let mut next = 10;
        for transfer in &transfers {
            assert_eq!(transfer.lba, next);
            assert!(LENGTHS.iter().any(|most| transfer.blocks <= *most));
            next += u64::from(transfer.blocks);
        }
        assert_eq!(next, 5000);
        assert!(transfers.len() > LENGTHS.len());
        assert!(cut(7..7, &LENGTHS, REMOTE, Place::Capsule).is_empty());
    }

    #[test]
    fn the_layout_has_no_gap() {
        let mut next = 0;
        for (range, _) in layout(BLOCKS) {
            assert_eq!(range.start, next);
            next = range.end;
        }
        assert_eq!(next, BLOCKS);
    }
}
