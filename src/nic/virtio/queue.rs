//! A split virtqueue, the driver's side (virtio 1.2, 2.7).
//!
//! What the device can write, or has no business to change, is never believed: free lists, chain lengths and indices are kept in
//! memory of our own, and what the used ring says is checked against them.
//!
//! IRQL: any up to DISPATCH_LEVEL, under the lock of whoever owns the queue; [`Queue::try_new`] allocates, so without one.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use nt::NoMemory;
use nt::boxed::try_vec;

/// Bytes of a descriptor.
pub const DESCRIPTOR: usize = 16;
/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes.
const WRITE: u16 = 2;
/// The buffer is a table of descriptors.
const INDIRECT: u16 = 4;
/// Available ring: do not interrupt.
const NO_INTERRUPT: u16 = 1;
/// Used ring: do not notify.
const NO_NOTIFY: u16 = 1;

/// Memory shared with the device. Accesses are single loads and stores, little-endian; outside the memory they read zero and write
/// nothing.
pub trait Memory {
    /// Loads 16 bits.
    fn read_u16(&self, offset: usize) -> u16;
    /// Loads 32 bits.
    fn read_u32(&self, offset: usize) -> u32;
    /// Stores 16 bits.
    fn write_u16(&self, offset: usize, value: u16);
    /// Stores 32 bits.
    fn write_u32(&self, offset: usize, value: u32);
    /// Stores 64 bits.
    fn write_u64(&self, offset: usize, value: u64);
}

impl Memory for nt::dma::CommonBuffer {
    fn read_u16(&self, offset: usize) -> u16 {
        self.read_u16(offset)
    }
    fn read_u32(&self, offset: usize) -> u32 {
        self.read_u32(offset)
    }
    fn write_u16(&self, offset: usize, value: u16) {
        self.write_u16(offset, value);
    }
    fn write_u32(&self, offset: usize, value: u32) {
        self.write_u32(offset, value);
    }
    fn write_u64(&self, offset: usize, value: u64) {
        self.write_u64(offset, value);
    }
}

/// A buffer for the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Logical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes to it instead of reading it.
    pub write: bool,
}

/// The used ring says something that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUsed;

/// Offsets of the three parts of a queue's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Descriptor table.
    pub descriptors: usize,
    /// Available ring.
    pub available: usize,
    /// Used ring.
    pub used: usize,
    /// Bytes altogether.
    pub total: usize,
}

impl Layout {
    /// The layout of a queue of `size` descriptors.
    pub const fn new(size: u16) -> Self {
        let size = size as usize;
        let available = size * DESCRIPTOR;
        // Flags, index, ring, used_event.
        let used = (available + 6 + 2 * size).next_multiple_of(4);
        // Flags, index, ring of id and length, avail_event.
        let total = used + 6 + 8 * size;
        Self {
            descriptors: 0,
            available,
            used,
            total,
        }
    }
}

/// Writes a descriptor of a table.
pub fn write_descriptor(
    memory: &impl Memory,
    table: usize,
    index: usize,
    buffer: &Descriptor,
    next: Option<u16>,
) {
    let at = table + index * DESCRIPTOR;
    let mut flags = if buffer.write { WRITE } else { 0 };
    if next.is_some() {
        flags |= NEXT;
    }
    memory.write_u64(at, buffer.addr);
    memory.write_u32(at + 8, buffer.len);
    memory.write_u16(at + 12, flags);
    memory.write_u16(at + 14, next.unwrap_or(0));
}

/// A descriptor as we know it.
#[derive(Debug)]
struct Shadow<T> {
    /// Next free descriptor, or next of the chain.
    next: u16,
    /// If it is the head of a chain the device has: its length and whose it is.
    flight: Option<(u16, T)>,
}

/// A virtqueue. `T` says whose a buffer is; it comes back when the device is done with it.
#[derive(Debug)]
pub struct Queue<M, T> {
    memory: M,
    layout: Layout,
    size: u16,
    event_idx: bool,
    shadow: Vec<Shadow<T>>,
    free_head: u16,
    free: u16,
    /// Next index to write to the available ring; published by [`Queue::publish`].
    available: u16,
    published: u16,
    /// Value of `published` when the device was last considered for a notification.
    notified: u16,
    /// Next index to read from the used ring.
    used: u16,
}

impl<M: Memory, T> Queue<M, T> {
    /// A queue of `size` descriptors (a power of two, at most 32768) in zeroed memory of [`Layout::new`]'s size.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(memory: M, size: u16, event_idx: bool) -> Result<Self, NoMemory> {
        let shadow = try_vec(usize::from(size), |i| Shadow {
            next: (i as u16).wrapping_add(1),
            flight: None,
        })?;
        Ok(Self {
            memory,
            layout: Layout::new(size),
            size,
            event_idx,
            shadow,
            free_head: 0,
            free: size,
            available: 0,
            published: 0,
            notified: 0,
            used: 0,
        })
    }

    /// The memory shared with the device.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Free descriptors.
    #[cfg(test)]
    pub fn free(&self) -> u16 {
        self.free
    }

    fn ring_slot(&self, index: u16) -> usize {
        usize::from(index & self.size.wrapping_sub(1))
    }

    /// Takes a descriptor from the free list.
    fn take(&mut self) -> Option<u16> {
        let index = self.free_head;
        let next = self
            .shadow
            .get(usize::from(index))
            .filter(|_| self.free > 0)?
            .next;
        self.free_head = next;
        self.free -= 1;
        Some(index)
    }

    /// Queues a chain of buffers. The device does not see it before [`Queue::publish`].
    ///
    /// # Errors
    /// `owner`, if there are too few free descriptors, or no buffers.
    pub fn push(&mut self, buffers: &[Descriptor], owner: T) -> Result<(), T> {
        let count = buffers.len();
        if count == 0 || count > usize::from(self.free) {
            return Err(owner);
        }
        let head = self.free_head;
        for (i, buffer) in buffers.iter().enumerate() {
            let Some(index) = self.take() else { break };
            // The free list is the chain: the next descriptor taken is this one's successor.
            let next = (i + 1 < count).then_some(self.free_head);
            write_descriptor(
                &self.memory,
                self.layout.descriptors,
                usize::from(index),
                buffer,
                next,
            );
        }
        self.offer(head, count as u16, owner);
        Ok(())
    }

    /// Queues a chain that is described by a table of `count` descriptors elsewhere (VIRTIO_F_INDIRECT_DESC).
    ///
    /// # Errors
    /// `owner`, if there is no free descriptor.
    pub fn push_indirect(&mut self, table: u64, count: u16, owner: T) -> Result<(), T> {
        let Some(head) = self.take() else {
            return Err(owner);
        };
        let at = self.layout.descriptors + usize::from(head) * DESCRIPTOR;
        self.memory.write_u64(at, table);
        self.memory
            .write_u32(at + 8, u32::from(count) * DESCRIPTOR as u32);
        self.memory.write_u16(at + 12, INDIRECT);
        self.memory.write_u16(at + 14, 0);
        self.offer(head, 1, owner);
        Ok(())
    }

    fn offer(&mut self, head: u16, count: u16, owner: T) {
        if let Some(shadow) = self.shadow.get_mut(usize::from(head)) {
            shadow.flight = Some((count, owner));
        }
        let slot = self.layout.available + 4 + 2 * self.ring_slot(self.available);
        self.memory.write_u16(slot, head);
        self.available = self.available.wrapping_add(1);
    }

    /// Shows queued chains to the device.
    pub fn publish(&mut self) {
        if self.published != self.available {
            // Descriptors and ring entries before the index.
            fence(Ordering::Release);
            self.memory
                .write_u16(self.layout.available + 2, self.available);
            self.published = self.available;
        }
    }

    /// Publishes, and answers whether the device wants to be told about what was published since the last call.
    pub fn publish_and_ask(&mut self) -> bool {
        self.publish();
        let (old, new) = (self.notified, self.published);
        if old == new {
            return false;
        }
        self.notified = new;
        // The index before the device's answer: else both sides may go to sleep.
        fence(Ordering::SeqCst);
        if self.event_idx {
            let event = self
                .memory
                .read_u16(self.layout.used + 4 + 8 * usize::from(self.size));
            passed(event, new, old)
        } else {
            self.memory.read_u16(self.layout.used) & NO_NOTIFY == 0
        }
    }

    /// Whether the device has given something back. A hint: [`Queue::pop`] knows.
    pub fn has_used(&self) -> bool {
        self.memory.read_u16(self.layout.used + 2) != self.used
    }

    /// Takes back a chain the device is done with, and how many bytes it says it wrote.
    ///
    /// # Errors
    /// [`BadUsed`]: the queue must not be used any more.
    pub fn pop(&mut self) -> Result<Option<(T, u32)>, BadUsed> {
        let index = self.memory.read_u16(self.layout.used + 2);
        let waiting = index.wrapping_sub(self.used);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > self.published.wrapping_sub(self.used) {
            return Err(BadUsed);
        }
        // The index before the entry.
        fence(Ordering::Acquire);
        let at = self.layout.used + 4 + 8 * self.ring_slot(self.used);
        let id = self.memory.read_u32(at);
        let len = self.memory.read_u32(at + 4);
        let head = u16::try_from(id)
            .ok()
            .filter(|&id| id < self.size)
            .ok_or(BadUsed)?;
        let owner = self.release(head).ok_or(BadUsed)?;
        self.used = self.used.wrapping_add(1);
        Ok(Some((owner, len)))
    }

    /// Puts the descriptors of a chain back on the free list.
    fn release(&mut self, head: u16) -> Option<T> {
        let (count, owner) = self.shadow.get_mut(usize::from(head))?.flight.take()?;
        let mut last = head;
        for _ in 1..count {
            last = self.shadow.get(usize::from(last))?.next;
        }
        self.shadow.get_mut(usize::from(last))?.next = self.free_head;
        self.free_head = head;
        self.free += count;
        Some(owner)
    }

    /// Begins anew, as after [`Queue::try_new`]: what was in flight is forgotten. Only while the device is reset.
    pub fn restart(&mut self) {
        for (i, shadow) in self.shadow.iter_mut().enumerate() {
            shadow.next = (i as u16).wrapping_add(1);
            shadow.flight = None;
        }
        self.free_head = 0;
        self.free = self.size;
        self.available = 0;
        self.published = 0;
        self.notified = 0;
        self.used = 0;
        // Flags, indices and event indices; entries are written before they are looked at.
        let (available, used) = (self.layout.available, self.layout.used);
        let size = usize::from(self.size);
        for at in [
            available,
            available + 2,
            available + 4 + 2 * size,
            used,
            used + 2,
            used + 4 + 8 * size,
        ] {
            self.memory.write_u16(at, 0);
        }
    }

    /// Takes back a chain that the device has not returned. Only after the device has been reset; the queue is good for nothing else
    /// afterwards but [`Queue::restart`].
    pub fn reclaim(&mut self) -> Option<T> {
        let head = self
            .shadow
            .iter()
            .position(|shadow| shadow.flight.is_some())?;
        self.release(head as u16)
    }

    /// Asks for an interrupt when the next chain comes back. Answers true if one has come back already: there may be no interrupt for
    /// it.
    pub fn enable_interrupts(&mut self) -> bool {
        if self.event_idx {
            let used_event = self.layout.available + 4 + 2 * usize::from(self.size);
            self.memory.write_u16(used_event, self.used);
        } else {
            self.memory.write_u16(self.layout.available, 0);
        }
        // The wish before the look: else a chain may come back unseen and without interrupt.
        fence(Ordering::SeqCst);
        self.has_used()
    }

    /// Asks for no interrupts. With event indices this is a wish to hear of an entry 65536 entries away, so one may come.
    pub fn disable_interrupts(&mut self) {
        if self.event_idx {
            let used_event = self.layout.available + 4 + 2 * usize::from(self.size);
            self.memory.write_u16(used_event, self.used.wrapping_sub(1));
        } else {
            self.memory.write_u16(self.layout.available, NO_INTERRUPT);
        }
    }
}

/// Whether an index moving from `old` to `new` passes `event` (virtio 1.2, 2.7.10).
fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests;
