//! The queue against a device that lives in the same memory.

use alloc::rc::Rc;
use alloc::vec;
use core::cell::RefCell;

use super::*;

#[derive(Clone)]
struct Bytes(Rc<RefCell<Vec<u8>>>);

impl Memory for Bytes {
    fn read_u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.0.borrow()[offset..offset + 2].try_into().unwrap())
    }
    fn read_u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.0.borrow()[offset..offset + 4].try_into().unwrap())
    }
    fn write_u16(&self, offset: usize, value: u16) {
        self.0.borrow_mut()[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
    }
    fn write_u32(&self, offset: usize, value: u32) {
        self.0.borrow_mut()[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    fn write_u64(&self, offset: usize, value: u64) {
        self.0.borrow_mut()[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
    }
}

/// A device that reads the available ring and writes the used ring, by the book.
struct Device {
    memory: Bytes,
    layout: Layout,
    size: u16,
    taken: u16,
    returned: u16,
}

impl Device {
    /// Takes the next chain: its head and its buffers.
    fn take(&mut self) -> Option<(u16, Vec<Descriptor>)> {
        if self.memory.read_u16(self.layout.available + 2) == self.taken {
            return None;
        }
        let slot = usize::from(self.taken % self.size);
        let head = self.memory.read_u16(self.layout.available + 4 + 2 * slot);
        self.taken = self.taken.wrapping_add(1);
        let mut buffers = vec![];
        let mut index = head;
        loop {
            let at = usize::from(index) * DESCRIPTOR;
            let low = u64::from(self.memory.read_u32(at));
            let high = u64::from(self.memory.read_u32(at + 4));
            let flags = self.memory.read_u16(at + 12);
            buffers.push(Descriptor {
                addr: high << 32 | low,
                len: self.memory.read_u32(at + 8),
                write: flags & WRITE != 0,
            });
            if flags & NEXT == 0 {
                return Some((head, buffers));
            }
            index = self.memory.read_u16(at + 14);
        }
    }

    fn give_back(&mut self, head: u32, len: u32) {
        let at = self.layout.used + 4 + 8 * usize::from(self.returned % self.size);
        self.memory.write_u32(at, head);
        self.memory.write_u32(at + 4, len);
        self.returned = self.returned.wrapping_add(1);
        self.memory.write_u16(self.layout.used + 2, self.returned);
    }

    fn used_event(&self) -> u16 {
        self.memory
            .read_u16(self.layout.available + 4 + 2 * usize::from(self.size))
    }

    fn ask_for_notification_at(&self, index: u16) {
        self.memory
            .write_u16(self.layout.used + 4 + 8 * usize::from(self.size), index);
    }
}

fn pair(size: u16, event_idx: bool) -> (Queue<Bytes, u32>, Device) {
    let layout = Layout::new(size);
    let memory = Bytes(Rc::new(RefCell::new(vec![0; layout.total])));
    let device = Device {
        memory: memory.clone(),
        layout,
        size,
        taken: 0,
        returned: 0,
    };
    (Queue::try_new(memory, size, event_idx).unwrap(), device)
}

fn buffer(addr: u64) -> Descriptor {
    Descriptor {
        addr,
        len: 64,
        write: false,
    }
}

#[test]
fn parts_are_aligned_and_do_not_overlap() {
    for shift in 0..=15 {
        let size = 1_u16 << shift;
        let layout = Layout::new(size);
        assert!(layout.available >= usize::from(size) * 16 && layout.available.is_multiple_of(2));
        assert!(
            layout.used >= layout.available + 6 + 2 * usize::from(size)
                && layout.used.is_multiple_of(4)
        );
        assert_eq!(layout.total, layout.used + 6 + 8 * usize::from(size));
    }
}

#[test]
fn a_chain_reaches_the_device_and_comes_back() {
    let (mut queue, mut device) = pair(8, true);
    queue.push(&[buffer(1), buffer(2), buffer(3)], 7).unwrap();
    assert_eq!(device.take(), None, "not published yet");
    queue.publish();
    let (head, buffers) = device.take().unwrap();
    assert_eq!(buffers, [buffer(1), buffer(2), buffer(3)]);
    assert_eq!(queue.pop(), Ok(None));
    device.give_back(u32::from(head), 9);
    assert_eq!(queue.pop(), Ok(Some((7, 9))));
    assert_eq!(queue.free(), 8);
}

#[test]
fn a_full_queue_refuses_and_goes_on_after_a_chain_is_back() {
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1), buffer(2)], 1).unwrap();
    assert_eq!(queue.push(&[buffer(3), buffer(4), buffer(5)], 2), Err(2));
    queue.push(&[buffer(3), buffer(4)], 3).unwrap();
    assert_eq!(queue.push(&[buffer(6)], 4), Err(4));
    queue.publish();
    let (first, _) = device.take().unwrap();
    let (second, buffers) = device.take().unwrap();
    assert_eq!(buffers, [buffer(3), buffer(4)]);
    // The device may finish in another order.
    device.give_back(u32::from(second), 0);
    device.give_back(u32::from(first), 0);
    assert_eq!(queue.pop(), Ok(Some((3, 0))));
    queue.push(&[buffer(7), buffer(8)], 5).unwrap();
    assert_eq!(queue.pop(), Ok(Some((1, 0))));
    queue.publish();
    assert_eq!(device.take().unwrap().1, [buffer(7), buffer(8)]);
}

#[test]
fn indices_wrap() {
    let (mut queue, mut device) = pair(2, true);
    for i in 0..70_000_u32 {
        queue.push(&[buffer(u64::from(i))], i).unwrap();
        queue.publish();
        let (head, buffers) = device.take().unwrap();
        assert_eq!(buffers, [buffer(u64::from(i))]);
        device.give_back(u32::from(head), i);
        assert_eq!(queue.pop(), Ok(Some((i, i))));
    }
}

#[test]
fn a_device_that_returns_what_it_does_not_have_is_found_out() {
    // A descriptor outside the table.
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1)], 1).unwrap();
    queue.publish();
    device.give_back(4, 0);
    assert_eq!(queue.pop(), Err(BadUsed));

    // A free descriptor.
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1)], 1).unwrap();
    queue.publish();
    device.give_back(2, 0);
    assert_eq!(queue.pop(), Err(BadUsed));

    // The middle of a chain.
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1), buffer(2)], 1).unwrap();
    queue.publish();
    device.give_back(1, 0);
    assert_eq!(queue.pop(), Err(BadUsed));

    // The same twice, while another is in flight.
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1)], 1).unwrap();
    queue.push(&[buffer(2)], 2).unwrap();
    queue.publish();
    device.give_back(0, 0);
    device.give_back(0, 0);
    assert_eq!(queue.pop(), Ok(Some((1, 0))));
    assert_eq!(queue.pop(), Err(BadUsed));

    // More than it was given.
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1)], 1).unwrap();
    queue.publish();
    device.give_back(0, 0);
    device.give_back(0, 0);
    assert_eq!(queue.pop(), Err(BadUsed));
}

#[test]
fn what_the_device_writes_into_the_descriptor_table_is_not_believed() {
    let (mut queue, mut device) = pair(4, true);
    queue.push(&[buffer(1), buffer(2)], 1).unwrap();
    queue.publish();
    let (head, _) = device.take().unwrap();
    device.memory.write_u16(14, 3);
    device.give_back(u32::from(head), 0);
    assert_eq!(queue.pop(), Ok(Some((1, 0))));
    assert_eq!(queue.free(), 4);
    queue
        .push(&[buffer(1), buffer(2), buffer(3), buffer(4)], 2)
        .unwrap();
}

#[test]
fn the_device_is_told_only_when_it_asks() {
    let (mut queue, device) = pair(8, true);
    queue.push(&[buffer(1)], 1).unwrap();
    assert!(
        queue.publish_and_ask(),
        "avail_event is 0: tell of the first"
    );
    assert!(!queue.publish_and_ask(), "nothing new");
    queue.push(&[buffer(2)], 2).unwrap();
    assert!(!queue.publish_and_ask(), "avail_event is behind");
    device.ask_for_notification_at(3);
    queue.push(&[buffer(3)], 3).unwrap();
    assert!(!queue.publish_and_ask(), "not that far yet");
    queue.push(&[buffer(4)], 4).unwrap();
    assert!(queue.publish_and_ask());

    let (mut queue, device) = pair(8, false);
    queue.push(&[buffer(1)], 1).unwrap();
    assert!(queue.publish_and_ask());
    device.memory.write_u16(device.layout.used, NO_NOTIFY);
    queue.push(&[buffer(2)], 2).unwrap();
    assert!(!queue.publish_and_ask());
}

#[test]
fn enabling_interrupts_reveals_what_came_meanwhile() {
    for event_idx in [true, false] {
        let (mut queue, mut device) = pair(8, event_idx);
        queue.push(&[buffer(1)], 1).unwrap();
        queue.publish();
        queue.disable_interrupts();
        let (head, _) = device.take().unwrap();
        assert!(!queue.enable_interrupts());
        queue.disable_interrupts();
        device.give_back(u32::from(head), 0);
        assert!(queue.enable_interrupts());
        assert_eq!(queue.pop(), Ok(Some((1, 0))));
        assert!(!queue.enable_interrupts());
        if event_idx {
            assert_eq!(device.used_event(), 1);
        }
    }
}

#[test]
fn a_table_elsewhere_takes_one_descriptor() {
    let (mut queue, mut device) = pair(2, true);
    queue.push_indirect(0x1000, 5, 1).unwrap();
    assert_eq!(queue.free(), 1);
    queue.publish();
    let (head, _) = device.take().unwrap();
    assert_eq!(device.memory.read_u16(12), INDIRECT);
    assert_eq!(device.memory.read_u32(8), 80);
    device.give_back(u32::from(head), 0);
    assert_eq!(queue.pop(), Ok(Some((1, 0))));
}

#[test]
fn after_a_reset_everything_in_flight_is_reclaimed_once() {
    let (mut queue, _device) = pair(4, true);
    queue.push(&[buffer(1), buffer(2)], 1).unwrap();
    queue.push(&[buffer(3)], 2).unwrap();
    let mut owners = vec![queue.reclaim().unwrap(), queue.reclaim().unwrap()];
    owners.sort_unstable();
    assert_eq!(owners, [1, 2]);
    assert_eq!(queue.reclaim(), None);
    assert_eq!(queue.free(), 4);
}
