//! The control queue (virtio 1.2, 5.1.6.5): what to receive, and on how many queues.

use super::layout::feature;
use super::memory::DmaMemory;
use super::nic::{Nic, State, receive_queue, transmit_queue};
use super::queue::Flaw;
use super::rules;
use super::steering::Steering;

/// Answers.
const OK: u8 = 0;
const ERROR: u8 = 1;

/// Classes of commands.
const RX: u8 = 0;
const MAC: u8 = 1;
const ANNOUNCE: u8 = 3;
const MULTIQUEUE: u8 = 4;

/// Modes of receiving, which are commands of class RX.
const PROMISCUOUS: usize = 0;
const ALL_MULTICAST: usize = 1;
const ALL_UNICAST: usize = 2;
const NO_MULTICAST: usize = 3;
const NO_UNICAST: usize = 4;
const NO_BROADCAST: usize = 5;
const MODES: usize = 6;

/// Commands of class MAC.
const TABLE_SET: u8 = 0;
const ADDRESS_SET: u8 = 1;
/// The one of class ANNOUNCE.
const ACKNOWLEDGE: u8 = 0;
/// The one of class MULTIQUEUE that goes with automatic steering.
const PAIRS_SET: u8 = 0;

/// More bytes than any command has.
const LONGEST: usize = 1 << 16;

/// What the driver wants to receive, if it has taken on to say so.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    modes: [bool; MODES],
    unicast: Vec<[u8; 6]>,
    multicast: Vec<[u8; 6]>,
}

impl Filter {
    /// Whether a frame to that address is wanted by who has this one.
    pub(super) fn passes(&self, own: [u8; 6], to: [u8; 6]) -> bool {
        let is = |mode: usize| self.modes[mode];
        if is(PROMISCUOUS) {
            true
        } else if to == [0xff; 6] {
            !is(NO_BROADCAST)
        } else if to[0] & 1 != 0 {
            !is(NO_MULTICAST) && (is(ALL_MULTICAST) || self.multicast.contains(&to))
        } else {
            !is(NO_UNICAST) && (is(ALL_UNICAST) || to == own || self.unicast.contains(&to))
        }
    }

    /// Takes the tables of a command; what is wrong with them, otherwise.
    fn set_tables(&mut self, data: &[u8]) -> Result<(), String> {
        let (unicast, rest) = table(data)?;
        let (multicast, rest) = table(rest)?;
        if !rest.is_empty() {
            return Err(format!("{} bytes behind its tables", rest.len()));
        }
        if unicast.iter().any(|address| address[0] & 1 != 0) {
            return Err("a multicast address in the table of the others".to_owned());
        }
        if multicast.iter().any(|address| address[0] & 1 == 0) {
            return Err("an address in the multicast table that is none".to_owned());
        }
        (self.unicast, self.multicast) = (unicast.to_vec(), multicast.to_vec());
        Ok(())
    }
}

/// A counted table of addresses, and what is behind it.
fn table(data: &[u8]) -> Result<(&[[u8; 6]], &[u8]), String> {
    let cut = || format!("a table that is cut off, in {} bytes", data.len());
    let (count, rest) = data.split_first_chunk().ok_or_else(cut)?;
    let count = u32::from_le_bytes(*count) as usize;
    let bytes = count.checked_mul(6).ok_or_else(cut)?;
    let (addresses, rest) = rest.split_at_checked(bytes).ok_or_else(cut)?;
    Ok((addresses.as_chunks().0, rest))
}

impl Nic {
    /// Obeys the commands that wait. False if there were none.
    pub(super) fn control(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(index) = state.control_queue() else {
            return false;
        };
        let queue = &state.queues[index];
        if !state.is_running()
            || !self.function.is_bus_master()
            || !queue.is_served()
            || !(self.config.busy_poll || queue.kicked)
        {
            return false;
        }
        let Some(machine) = self.machine.upgrade() else {
            return false;
        };
        let memory = DmaMemory::new(&machine.ram);
        let mut used = 0;
        let result = self.obey(&mut state, index, &memory, &mut used);
        if used > 0 && state.queues[index].wants_interrupt(&memory) {
            self.interrupt_queue(&mut state, index);
        }
        if let Err(flaw) = result {
            self.broken(&mut state, index, &memory, &flaw);
            return true;
        }
        used > 0
    }

    fn obey(
        &self,
        state: &mut State,
        index: usize,
        memory: &DmaMemory<'_>,
        used: &mut usize,
    ) -> Result<(), Flaw> {
        let waiting = state.queues[index].observe(memory)?;
        while *used < usize::from(waiting) {
            let queue = &mut state.queues[index];
            let Some(chain) = queue.pop(memory) else {
                return Err("an available entry cannot be read".to_owned());
            };
            let head = chain.head_index();
            let mut request = Vec::new();
            let mut answer = None;
            queue.visit(memory, chain, |part| {
                if part.writable {
                    // The first byte that the device may write.
                    answer.get_or_insert(part.address);
                    return Ok(());
                }
                if answer.is_some() {
                    return Err(format!(
                        "chain {head}: part {} is to be read, behind one to be written",
                        part.number
                    ));
                }
                if request.len() + part.length as usize > LONGEST {
                    return Err(format!(
                        "chain {head}: a command of more than {LONGEST} bytes"
                    ));
                }
                memory
                    .read(part.address, part.length as usize, |bytes| {
                        request.extend_from_slice(bytes);
                    })
                    .ok_or_else(|| format!("chain {head}: part {} cannot be read", part.number))
            })?;
            let written = match answer {
                Some(answer) => {
                    let ack = if self.execute(state, memory, &request) {
                        OK
                    } else {
                        ERROR
                    };
                    if !memory.write(answer, &[ack]) {
                        return Err(format!("chain {head}: the answer cannot be written"));
                    }
                    1
                }
                None => {
                    self.accuse(
                        rules::CONTROL,
                        format!("command {request:02x?} has no room for the answer"),
                    );
                    0
                }
            };
            state.queues[index].add_used(memory, head, written)?;
            *used += 1;
        }
        let queue = &mut state.queues[index];
        if self.config.busy_poll {
            queue.suppress_notifications(memory);
        } else {
            queue.kicked = queue.enable_notifications(memory);
        }
        Ok(())
    }

    /// Executes a command; accuses if it is none. Whether it has been done.
    fn execute(&self, state: &mut State, memory: &DmaMemory<'_>, request: &[u8]) -> bool {
        let result = match request {
            [class, command, data @ ..] => self.command(state, memory, *class, *command, data),
            _ => Err("nothing but an answer, or half a command".to_owned()),
        };
        result.unwrap_or_else(|wrong| {
            self.accuse(rules::CONTROL, format!("command {request:02x?}: {wrong}"));
            false
        })
    }

    fn command(
        &self,
        state: &mut State,
        memory: &DmaMemory<'_>,
        class: u8,
        command: u8,
        data: &[u8],
    ) -> Result<bool, String> {
        let needed = match (class, command) {
            (RX, 0..=1) | (MAC, TABLE_SET) => feature::CTRL_RX,
            (RX, 2..=5) => feature::CTRL_RX_EXTRA,
            (MAC, ADDRESS_SET) => feature::CTRL_MAC_ADDR,
            (ANNOUNCE, ACKNOWLEDGE) => feature::GUEST_ANNOUNCE,
            (MULTIQUEUE, PAIRS_SET) => feature::MQ,
            _ => return Err(format!("class {class} has no command {command}")),
        };
        if !state.has(needed) {
            return Err(format!(
                "it needs feature {needed:#x}, which is not accepted"
            ));
        }
        let wrong_length = || Err(format!("{} bytes of data", data.len()));
        match class {
            RX => match data {
                [on @ 0..=1] => state.filter.modes[usize::from(command)] = *on == 1,
                [other] => return Err(format!("a mode is on or off, not {other}")),
                _ => return wrong_length(),
            },
            MAC if command == TABLE_SET => state.filter.set_tables(data)?,
            MAC => match <[u8; 6]>::try_from(data) {
                Ok(address) if address[0] & 1 == 0 => {
                    state.mac = address;
                    state.generation = state.generation.wrapping_add(1);
                }
                Ok(_) => return Err("a multicast address for its own".to_owned()),
                Err(_) => return wrong_length(),
            },
            ANNOUNCE => {
                if !data.is_empty() {
                    return wrong_length();
                }
                // Perhaps it has been answered already.
                if !std::mem::take(&mut state.announcing) {
                    return Ok(false);
                }
                state.generation = state.generation.wrapping_add(1);
            }
            _ => match <[u8; 2]>::try_from(data) {
                Ok(pairs) => self.set_pairs(state, memory, u16::from_le_bytes(pairs).into())?,
                Err(_) => return wrong_length(),
            },
        }
        Ok(true)
    }

    /// Uses so many pairs of queues from now on.
    fn set_pairs(
        &self,
        state: &mut State,
        memory: &DmaMemory<'_>,
        pairs: usize,
    ) -> Result<(), String> {
        let all = self.pairs();
        if pairs == 0 || pairs > all {
            return Err(format!("{pairs} pairs of queues, of {all}"));
        }
        let queues = &mut state.queues;
        for pair in 0..pairs {
            for index in [receive_queue(pair), transmit_queue(pair)] {
                if !queues[index].is_ready() {
                    return Err(format!("queue {index} is not set up"));
                }
            }
        }
        for pair in 0..all {
            queues[transmit_queue(pair)].set_open(memory, pair < pairs);
        }
        state.pairs = pairs;
        state.steering = Steering::default();
        self.sort_backlog(state);
        Ok(())
    }

    /// Asks the driver to announce itself, as after a move to another host; false if it has not agreed to do so.
    pub fn ask_to_announce(&self) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.is_running() || !state.has(feature::GUEST_ANNOUNCE) {
            return false;
        }
        state.announcing = true;
        state.generation = state.generation.wrapping_add(1);
        self.interrupt_config(&mut state);
        true
    }

    /// Whether the driver has been asked to announce itself and has not said yet that it knows.
    #[must_use]
    pub fn is_announcing(&self) -> bool {
        self.state.borrow().announcing
    }

    /// Pairs of queues in use.
    #[must_use]
    pub fn active_pairs(&self) -> usize {
        self.state.borrow().pairs
    }
}

/// The features that one needs (5.1.3.1).
pub(super) fn needed_by(features: u64) -> u64 {
    let on_control = feature::CTRL_RX
        | feature::CTRL_RX_EXTRA
        | feature::GUEST_ANNOUNCE
        | feature::MQ
        | feature::CTRL_MAC_ADDR;
    if features & on_control == 0 {
        0
    } else {
        feature::CTRL_VQ
    }
}
