//! One virtqueue, device side: rust-vmm's ring with what a network device needs around it.

use std::num::Wrapping;
use std::sync::atomic::Ordering;

use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue as Ring, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::layout::{NO_INTERRUPT, NO_VECTOR};
use super::memory::DmaMemory;
use super::sabotage::UsedFlaw;

/// With event indices, the stale one that keeps the driver quiet is renewed after so many chains: long before 16 bits
/// wrap and it looks like a wish to be notified.
const RENEW_EVENT: u16 = 8192;

/// What is wrong with a ring.
pub(super) type Flaw = String;

/// A queue.
pub(super) struct Queue {
    ring: Ring,
    /// Physical addresses of descriptors, available ring and used ring, as the driver wrote them.
    pub(super) addresses: [u64; 3],
    pub(super) vector: u16,
    /// The driver has notified the device of new chains.
    pub(super) kicked: bool,
    /// Heads that the driver has made available and that were not used yet.
    owned: Vec<bool>,
    /// Up to where `owned` was brought up to date.
    observed: Wrapping<u16>,
    /// The driver was asked not to notify.
    quiet: bool,
    /// The `avail_event` written when it was.
    event: u16,
    indirect: bool,
    /// The used ring holds nonsense, which the device does not write over.
    corrupted: bool,
    /// Not in use, though it may be enabled: up to where the driver could not know better.
    closed: Option<Wrapping<u16>>,
}

/// A descriptor of a chain.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Its place in the chain, from 1.
    pub(super) number: usize,
    pub(super) address: u64,
    pub(super) length: u32,
    /// By the device.
    pub(super) writable: bool,
}

impl Queue {
    pub(super) fn new(max_size: u16) -> Queue {
        Queue {
            ring: Ring::new(max_size).expect("queue sizes are powers of two up to 32768"),
            addresses: [0; 3],
            vector: NO_VECTOR,
            kicked: false,
            owned: Vec::new(),
            observed: Wrapping(0),
            quiet: false,
            event: 0,
            indirect: false,
            corrupted: false,
            closed: None,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Queue::new(self.ring.max_size());
    }

    pub(super) fn size(&self) -> u16 {
        self.ring.size()
    }

    /// False if the size is not one the queue can have.
    pub(super) fn set_size(&mut self, size: u16) -> bool {
        self.ring.try_set_size(size).is_ok()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ring.ready()
    }

    /// Whether the device works on it.
    pub(super) fn is_served(&self) -> bool {
        self.ring.ready() && !self.corrupted
    }

    /// Puts the queue in use, or not. What the driver has made available by now is no mistake.
    pub(super) fn set_open(&mut self, memory: &DmaMemory<'_>, open: bool) {
        if self.is_served() {
            // An error shows when the ring is used next.
            let _ = self.observe(memory);
        }
        self.closed = (!open).then_some(self.observed);
    }

    /// Whether chains have been made available since the queue is not in use; asked again, since the last time.
    pub(super) fn has_late(&mut self) -> bool {
        let late = self.closed.is_some_and(|at| at != self.observed);
        if late {
            self.closed = Some(self.observed);
        }
        late
    }

    /// Starts to use the queue at the addresses set.
    pub(super) fn enable(
        &mut self,
        memory: &DmaMemory<'_>,
        event_idx: bool,
        indirect: bool,
    ) -> Result<(), Flaw> {
        let [descriptors, available, used] = self.addresses.map(GuestAddress);
        let placed = self.ring.try_set_desc_table_address(descriptors).is_ok()
            && self.ring.try_set_avail_ring_address(available).is_ok()
            && self.ring.try_set_used_ring_address(used).is_ok();
        if !placed {
            return Err(format!(
                "rings at {:#x?} are not aligned to 16, 2 and 4 bytes",
                self.addresses
            ));
        }
        self.ring.set_event_idx(event_idx);
        self.indirect = indirect;
        self.owned = vec![false; usize::from(self.ring.size())];
        self.ring.set_ready(true);
        if !self.ring.is_valid(memory) {
            self.ring.set_ready(false);
            return Err(format!(
                "rings at {:#x?} for {} descriptors are not all in memory that the device may access",
                self.addresses,
                self.ring.size()
            ));
        }
        Ok(())
    }

    /// Sees what the driver has made available since the last call. Returns how many chains wait.
    pub(super) fn observe(&mut self, memory: &DmaMemory<'_>) -> Result<u16, Flaw> {
        let index = self
            .ring
            .avail_idx(memory, Ordering::Acquire)
            .map_err(|error| format!("available ring: {error}"))?;
        let waiting = (index - Wrapping(self.ring.next_avail())).0;
        if waiting > self.ring.size() {
            return Err(format!(
                "available index {index} is {waiting} ahead, with {} descriptors",
                self.ring.size()
            ));
        }
        if self.observed == index {
            return Ok(waiting);
        }
        let size = self.ring.size();
        let (observed, owned) = (&mut self.observed, &mut self.owned);
        memory
            .read(
                self.ring.avail_ring() + 4,
                2 * usize::from(size),
                |entries| {
                    while *observed != index {
                        let slot = usize::from(observed.0 % size);
                        let head = u16::from_le_bytes([entries[2 * slot], entries[2 * slot + 1]]);
                        match owned.get_mut(usize::from(head)) {
                            None => {
                                return Err(format!(
                                    "available entry {slot} names descriptor {head}"
                                ));
                            }
                            Some(true) => {
                                return Err(format!(
                                    "descriptor {head} was made available again before it was used"
                                ));
                            }
                            Some(owned) => *owned = true,
                        }
                        *observed += 1;
                    }
                    Ok(())
                },
            )
            .unwrap_or_else(|| Err("the available ring cannot be read".to_owned()))?;
        Ok(waiting)
    }

    /// Takes the next available chain.
    pub(super) fn pop<'m, 'r>(
        &mut self,
        memory: &'m DmaMemory<'r>,
    ) -> Option<DescriptorChain<&'m DmaMemory<'r>>> {
        self.ring.pop_descriptor_chain(memory)
    }

    /// Puts the last chains taken back.
    pub(super) fn unpop(&mut self, chains: usize) {
        for _ in 0..chains {
            self.ring.go_to_previous_position();
        }
    }

    /// Visits the descriptors of a chain, all of which must be device-writable or none.
    pub(super) fn walk<'m, 'r: 'm>(
        &self,
        memory: &'m DmaMemory<'r>,
        chain: DescriptorChain<&'m DmaMemory<'r>>,
        writable: bool,
        mut f: impl FnMut(u64, u32) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let head = chain.head_index();
        self.visit(memory, chain, |part| {
            if part.writable != writable {
                return Err(format!(
                    "chain {head}: part {} is {}writable by the device",
                    part.number,
                    if writable { "not " } else { "" }
                ));
            }
            f(part.address, part.length)
        })
    }

    /// Visits the descriptors of a chain.
    pub(super) fn visit<'m, 'r: 'm>(
        &self,
        memory: &'m DmaMemory<'r>,
        chain: DescriptorChain<&'m DmaMemory<'r>>,
        mut f: impl FnMut(Part) -> Result<(), Flaw>,
    ) -> Result<(), Flaw> {
        let head = chain.head_index();
        if !self.indirect {
            let at = GuestAddress(self.ring.desc_table() + 16 * u64::from(head));
            let first: Descriptor = memory
                .read_obj(at)
                .map_err(|error| format!("descriptor {head}: {error}"))?;
            if first.refers_to_indirect_table() {
                return Err(format!(
                    "descriptor {head} is indirect, which was not negotiated"
                ));
            }
        }
        let mut complete = false;
        let mut number = 0;
        for descriptor in chain {
            number += 1;
            let part = Part {
                number,
                address: descriptor.addr().0,
                length: descriptor.len(),
                writable: descriptor.is_write_only(),
            };
            if part.length == 0 {
                return Err(format!("chain {head}: part {number} is empty"));
            }
            f(part)?;
            complete = !descriptor.has_next();
        }
        if complete {
            Ok(())
        } else {
            Err(format!(
                "chain {head} breaks off after {number} descriptors: it is a loop, leaves the table, or lies in memory \
                 that the device may not read"
            ))
        }
    }

    /// Gives a chain back to the driver.
    pub(super) fn add_used(
        &mut self,
        memory: &DmaMemory<'_>,
        head: u16,
        length: u32,
    ) -> Result<(), Flaw> {
        if let Some(owned) = self.owned.get_mut(usize::from(head)) {
            *owned = false;
        }
        self.ring
            .add_used(memory, head, length)
            .map_err(|error| format!("used ring: {error}"))
    }

    /// Writes entries that cannot be into the used ring; false if its memory is gone. The ring is good for nothing afterwards.
    pub(super) fn corrupt_used(&mut self, memory: &DmaMemory<'_>, flaw: UsedFlaw) -> bool {
        let size = self.ring.size();
        let next = self.ring.next_used();
        // What the driver has made available is seen first, so that a buffer of its own can be named.
        let _ = self.observe(memory);
        let owned = self.owned.iter().position(|owned| *owned).unwrap_or(0) as u32;
        let free = self.owned.iter().position(|owned| !*owned);
        let (entries, ahead): (&[(u32, u32)], u16) = match flaw {
            UsedFlaw::IndexJump => (&[], size + 1),
            UsedFlaw::IndexBack => (&[], u16::MAX),
            UsedFlaw::FreeId => match free {
                Some(free) => (&[(free as u32, 64)], 1),
                None => return false,
            },
            UsedFlaw::NoLength => (&[(owned, 0)], 1),
            UsedFlaw::BadId => (&[(u32::from(size) + 7, 0)], 1),
            UsedFlaw::BadLength => (&[(owned, 1 << 20)], 1),
            UsedFlaw::Repeat => (&[(owned, 64), (owned, 64)], 2),
        };
        let used = self.ring.used_ring();
        let written = entries.iter().zip(0_u16..).all(|(&(id, length), i)| {
            let at = used + 4 + 8 * u64::from(next.wrapping_add(i) % size);
            let entry = [id.to_le_bytes(), length.to_le_bytes()].concat();
            memory.write(at, &entry)
        });
        self.corrupted = true;
        written && memory.write(used + 2, &next.wrapping_add(ahead).to_le_bytes())
    }

    /// Whether the driver wants an interrupt for what was used since the last call.
    pub(super) fn wants_interrupt(&mut self, memory: &DmaMemory<'_>) -> bool {
        if self.ring.event_idx_enabled() {
            return self.ring.needs_notification(memory).unwrap_or(false);
        }
        let flags: u16 = memory
            .load(GuestAddress(self.ring.avail_ring()), Ordering::Relaxed)
            .unwrap_or(0);
        flags & NO_INTERRUPT == 0
    }

    /// The position of the next chain to take.
    pub(super) fn position(&self) -> u16 {
        self.ring.next_avail()
    }

    /// Asks the driver not to notify. To be called again from time to time.
    pub(super) fn suppress_notifications(&mut self, memory: &DmaMemory<'_>) {
        let next = self.ring.next_avail();
        if !self.ring.event_idx_enabled() {
            if !self.quiet {
                // An error shows when the ring is used next.
                let _ = self.ring.disable_notification(memory);
            }
        } else if !self.quiet || next.wrapping_sub(self.event) > RENEW_EVENT {
            // An index just passed: the driver will not pass it again for 65535 chains.
            self.event = next.wrapping_sub(1);
            let at = self.ring.used_ring() + 4 + 8 * u64::from(self.ring.size());
            let _ = memory.store(self.event, GuestAddress(at), Ordering::Relaxed);
        }
        self.quiet = true;
    }

    /// Asks the driver to notify from now on. True if there is something already.
    pub(super) fn enable_notifications(&mut self, memory: &DmaMemory<'_>) -> bool {
        self.quiet = false;
        self.ring.enable_notification(memory).unwrap_or(false)
    }
}
