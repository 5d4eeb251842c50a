//! From the driver's rings to the wire.

use std::collections::VecDeque;

use super::layout::{self, NUM_BUFFERS, feature};
use super::memory::DmaMemory;
use super::nic::{Nic, transmit_queue};
use super::queue::{Flaw, Queue};
use super::rules;
use super::transport::{self, Segment};
use crate::wire::{Frame, Gather};
use crate::world::context;

/// The shortest frame: an Ethernet header.
const SHORTEST: usize = 14;

impl Nic {
    /// Takes frames from the driver and sends them. False if there were none.
    pub(super) fn transmit(&self) -> bool {
        (0..self.pairs()).fold(false, |done, pair| self.transmit_from(pair) | done)
    }

    fn transmit_from(&self, pair: usize) -> bool {
        let mut batch = std::mem::take(&mut *self.batch.borrow_mut());
        let done = self.collect(pair, &mut batch);
        let up = self.is_link_up();
        if !batch.is_empty() {
            let mut counters = self.counters.borrow_mut();
            if up {
                counters.sent += batch.len() as u64;
                counters.sent_bytes += batch.iter().map(|frame| frame.len() as u64).sum::<u64>();
            } else {
                counters.sent_link_down += batch.len() as u64;
            }
        }
        for frame in batch.drain(..) {
            if up {
                self.send(frame);
            }
        }
        *self.batch.borrow_mut() = batch;
        done
    }

    /// Takes up to a batch of frames out of the ring.
    fn collect(&self, pair: usize, batch: &mut Vec<Frame>) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.is_running() || !self.function.is_bus_master() || self.sulks.sends.get() {
            return false;
        }
        let index = transmit_queue(pair);
        let features = state.driver_features;
        let queue = &mut state.queues[index];
        if !queue.is_served() || !(self.config.busy_poll || queue.kicked) {
            return false;
        }
        let Some(machine) = self.machine.upgrade() else {
            return false;
        };
        let memory = DmaMemory::new(&machine.ram);
        let mut used = 0;
        let result = self.serve(pair, queue, &memory, features, batch, &mut used);
        if queue.has_late() {
            self.accuse(
                rules::CONTROL,
                format!("frames are sent on queue {index}, and no command has put it in use"),
            );
        }
        if used > 0 && queue.wants_interrupt(&memory) {
            self.interrupt_queue(&mut state, index);
        }
        if let Err(flaw) = result {
            self.broken(&mut state, index, &memory, &flaw);
            return true;
        }
        if state.pairs > 1 {
            for frame in &*batch {
                state.steering.learn(frame, pair);
            }
        }
        used > 0
    }

    fn serve(
        &self,
        pair: usize,
        queue: &mut Queue,
        memory: &DmaMemory<'_>,
        features: u64,
        batch: &mut Vec<Frame>,
        used: &mut usize,
    ) -> Result<(), Flaw> {
        let waiting = queue.observe(memory)?;
        let allowed = if self.config.transmit_latency.is_zero() {
            waiting
        } else {
            self.ripe(pair, queue, waiting)
        };
        let limit = allowed.min(self.config.transmit_batch);
        while *used < usize::from(limit) {
            let Some(chain) = queue.pop(memory) else {
                return Err("an available entry cannot be read".to_owned());
            };
            let head = chain.head_index();
            let longest = self.longest_frame();
            let mut gather = Gather::<{ layout::HEADER }>::with_capacity(longest);
            let mut length = 0;
            queue.walk(memory, chain, false, |address, part| {
                length += part as usize;
                if length > layout::HEADER + longest {
                    return Ok(());
                }
                memory
                    .read(address, part as usize, |bytes| gather.extend(bytes))
                    .ok_or_else(|| format!("chain {head}: a part cannot be read"))
            })?;
            queue.add_used(memory, head, 0)?;
            *used += 1;
            if let Some(frame) = self.check(gather, length, features) {
                batch.push(frame);
            }
        }
        if self.config.busy_poll {
            queue.suppress_notifications(memory);
        } else {
            queue.kicked = usize::from(waiting) > *used || queue.enable_notifications(memory);
        }
        Ok(())
    }

    /// A frame to send, if what the driver gave is one; accuses if not.
    fn check(
        &self,
        gather: Gather<{ layout::HEADER }>,
        length: usize,
        features: u64,
    ) -> Option<Frame> {
        let longest = self.longest_frame();
        if length > layout::HEADER + longest {
            self.accuse(
                rules::FRAME,
                format!(
                    "a frame of {} bytes is sent with an MTU of {}",
                    length - layout::HEADER,
                    self.config.mtu
                ),
            );
            return None;
        }
        let Some((header, mut frame)) = gather.finish() else {
            self.accuse(
                rules::HEADER,
                format!("{length} bytes are sent: less than a header"),
            );
            return None;
        };
        if features & feature::CSUM != 0 && header[0] == layout::NEEDS_CSUM {
            self.complete_checksum(&header, &mut frame);
        } else if header.iter().any(|&byte| byte != 0) {
            // Nothing else was offered: flags, kind of segmentation and lengths have nothing to say. `num_buffers` is for received
            // frames.
            self.accuse(
                rules::HEADER,
                format!(
                    "header {header:02x?} asks for offloads that were not negotiated, or counts buffers (bytes \
                     {NUM_BUFFERS} and {})",
                    NUM_BUFFERS + 1
                ),
            );
        }
        if frame.len() < SHORTEST {
            self.accuse(
                rules::FRAME,
                format!("a frame of {} bytes is sent", frame.len()),
            );
            return None;
        }
        let untagged = usize::from(self.config.mtu) + 14;
        if frame.len() > untagged && frame[12..14] != [0x81, 0x00] {
            self.accuse(
                rules::FRAME,
                format!(
                    "a frame of {} bytes is sent with an MTU of {}",
                    frame.len(),
                    self.config.mtu
                ),
            );
            return None;
        }
        Some(frame)
    }

    /// Completes the checksum that a header asks for; accuses if it does not say how.
    fn complete_checksum(&self, header: &[u8; layout::HEADER], frame: &mut Frame) {
        let field = |at: usize| usize::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (start, offset) = (field(layout::CSUM_START), field(layout::CSUM_OFFSET));
        // How long the headers are is a hint, and of no use here.
        let segments = header[layout::GSO_TYPE] != 0 || field(layout::GSO_SIZE) != 0;
        if segments || field(NUM_BUFFERS) != 0 {
            self.accuse(
                rules::HEADER,
                format!("header {header:02x?} asks for segments, or counts buffers"),
            );
        }
        if start < SHORTEST || !transport::complete(frame, start, offset) {
            self.accuse(
                rules::HEADER,
                format!(
                    "a checksum from byte {start} on, at {offset} from there, in a frame of {} bytes",
                    frame.len()
                ),
            );
            return;
        }
        let segment = Segment::of(frame).filter(|segment| segment.start() == start);
        if segment.and_then(|segment| segment.is_valid(frame)) == Some(false) {
            self.accuse(
                rules::HEADER,
                format!(
                    "the checksum from byte {start} on is wrong when completed: the field at {offset} from there did not \
                     hold the sum of the pseudo header"
                ),
            );
        }
    }

    /// With a latency: how many of the waiting chains have waited long enough. Notes those not seen before.
    fn ripe(&self, pair: usize, queue: &Queue, waiting: u16) -> u16 {
        let core = context::core();
        let now = core.now();
        let next = queue.position();
        let seen = next.wrapping_add(waiting);
        let mut latency = self.latency.borrow_mut();
        let latency = &mut latency[pair];
        if seen != latency.seen {
            let wait = u64::try_from(self.config.transmit_latency.as_nanos()).unwrap_or(u64::MAX);
            let at = now.saturating_add(wait);
            latency.seen = seen;
            latency.unripe.push_back((at, seen));
            // So that the world's loop comes by then.
            core.schedule(at, || {});
        }
        while latency.unripe.front().is_some_and(|&(at, _)| at <= now) {
            if let Some((_, position)) = latency.unripe.pop_front() {
                latency.ripe = position;
            }
        }
        latency.ripe.wrapping_sub(next)
    }
}

/// Which chains have waited for the transmit latency. Positions in the ring.
#[derive(Clone, Default)]
pub(super) struct Latency {
    /// Chains before this one have been seen.
    seen: u16,
    /// Chains before this one may be taken.
    ripe: u16,
    /// From when on those before a position may be.
    unripe: VecDeque<(u64, u16)>,
}
