//! From the wire to the driver's rings.

use super::layout::{self, NUM_BUFFERS, feature};
use super::memory::DmaMemory;
use super::nic::{Nic, receive_queue};
use super::queue::{Flaw, Queue};
use super::rules;
use super::transport::Segment;
use crate::wire::Frame;

/// What became of a frame.
enum Placed {
    Yes,
    /// The driver has no buffers for it.
    NoBuffer,
    /// The buffer is too short for it.
    TooLong,
}

/// The buffers of one frame.
#[derive(Default)]
pub(super) struct Placing {
    /// Heads of the chains, and how many bytes go into each.
    heads: Vec<(u16, u32)>,
    /// Addresses and lengths of the pieces.
    parts: Vec<(u64, u32)>,
}

impl Nic {
    /// Puts frames that have come into the driver's buffers. False if there was nothing to do.
    pub(super) fn receive(&self) -> bool {
        (0..self.pairs()).fold(false, |done, pair| self.receive_on(pair) | done)
    }

    fn receive_on(&self, pair: usize) -> bool {
        if self.backlog.borrow()[pair].is_empty() {
            return false;
        }
        let index = receive_queue(pair);
        let mut state = self.state.borrow_mut();
        let Some(machine) = self.machine.upgrade() else {
            return false;
        };
        if !state.is_running() || !state.queues[index].is_served() || !self.function.is_bus_master()
        {
            return false;
        }
        let memory = DmaMemory::new(&machine.ram);
        let features = state.driver_features;
        let queue = &mut state.queues[index];
        let before = *self.counters.borrow();
        let result = self.fill(pair, queue, &memory, features);
        let after = *self.counters.borrow();
        if after.received != before.received && queue.wants_interrupt(&memory) {
            self.interrupt_queue(&mut state, index);
        }
        if let Err(flaw) = result {
            self.broken(&mut state, index, &memory, &flaw);
            return true;
        }
        after != before
    }

    /// Fills buffers while there are both frames and buffers.
    fn fill(
        &self,
        pair: usize,
        queue: &mut Queue,
        memory: &DmaMemory<'_>,
        features: u64,
    ) -> Result<(), Flaw> {
        let mut backlog = self.backlog.borrow_mut();
        let backlog = &mut backlog[pair];
        let mut counters = self.counters.borrow_mut();
        queue.observe(memory)?;
        while let Some(frame) = backlog.front_mut() {
            let length = frame.len() as u64;
            match self.place(queue, memory, features, frame)? {
                Placed::Yes => {
                    counters.received += 1;
                    counters.received_bytes += length;
                }
                Placed::TooLong => counters.too_long += 1,
                Placed::NoBuffer => break,
            }
            backlog.pop_front();
        }
        if self.config.busy_poll || backlog.is_empty() {
            queue.suppress_notifications(memory);
        } else {
            // Out of buffers: the driver is to say when there are more. The device looks again as long as frames
            // wait, so that nothing is missed between here and there.
            queue.enable_notifications(memory);
        }
        let kept = self.config.backlog.min(backlog.len());
        counters.no_buffer += (backlog.len() - kept) as u64;
        backlog.truncate(kept);
        Ok(())
    }

    /// Puts one frame into a buffer, or into as many as it takes if the driver accepts that.
    fn place(
        &self,
        queue: &mut Queue,
        memory: &DmaMemory<'_>,
        features: u64,
        frame: &mut Frame,
    ) -> Result<Placed, Flaw> {
        let needed = layout::HEADER + frame.len();
        let mut placing = self.placing.borrow_mut();
        let Placing { heads, parts } = &mut *placing;
        heads.clear();
        parts.clear();
        let mut room = 0;
        while room < needed {
            let Some(chain) = queue.pop(memory) else {
                queue.unpop(heads.len());
                return Ok(Placed::NoBuffer);
            };
            let head = chain.head_index();
            let before = room;
            queue.walk(memory, chain, true, |address, length| {
                parts.push((address, length));
                room += length as usize;
                Ok(())
            })?;
            heads.push((head, (room.min(needed) - before) as u32));
            if features & feature::MRG_RXBUF == 0 {
                break;
            }
        }
        if room < needed {
            // The driver's fault, if any frame of the MTU would not fit.
            if frame.len() <= usize::from(self.config.mtu) + 14 {
                self.accuse(
                    rules::BUFFER,
                    format!(
                        "a receive buffer of {room} bytes: a frame of {} with its header does not fit",
                        frame.len()
                    ),
                );
            }
            queue.unpop(heads.len());
            return Ok(Placed::TooLong);
        }
        let mut header = [0; layout::HEADER];
        if features & feature::GUEST_CSUM != 0
            && Segment::of(frame).and_then(|segment| segment.is_valid(frame)) == Some(true)
        {
            header[0] = layout::DATA_VALID;
        }
        let count = self.sulks.lies.get().num_buffers;
        let count = count.unwrap_or(heads.len() as u16);
        header[NUM_BUFFERS..].copy_from_slice(&count.to_le_bytes());
        let mut bytes = frame.with_header(&header);
        for &(address, length) in &*parts {
            let (now, later) = bytes.split_at(bytes.len().min(length as usize));
            if !memory.write(address, now) {
                return Err(format!(
                    "the buffer at {address:#x} cannot be written by the device"
                ));
            }
            bytes = later;
            if bytes.is_empty() {
                break;
            }
        }
        for &(head, length) in &*heads {
            queue.add_used(memory, head, length)?;
        }
        Ok(Placed::Yes)
    }
}
