//! Message-signalled interrupts (PCI 3.0, 6.8.2): a table of messages in a BAR.

use std::cell::{Cell, RefCell};

/// Bytes of a table entry.
const ENTRY: usize = 16;
/// Vector control: masked.
const MASKED: u32 = 1;

/// What the device writes to raise one interrupt.
#[derive(Clone, Copy)]
struct Message {
    address: u64,
    data: u32,
    control: u32,
}

/// Table and pending bits of a function.
pub(super) struct Msix {
    /// Offset of the capability in configuration space.
    pub(super) capability: usize,
    /// The BAR that table and pending bits lie in.
    pub(super) bar: u8,
    table: RefCell<Vec<Message>>,
    pending: RefCell<Vec<bool>>,
    pub(super) enabled: Cell<bool>,
    pub(super) function_masked: Cell<bool>,
}

impl Msix {
    pub(super) fn new(capability: usize, bar: u8, messages: u16) -> Msix {
        let empty = Message {
            address: 0,
            data: 0,
            control: MASKED,
        };
        Msix {
            capability,
            bar,
            table: RefCell::new(vec![empty; usize::from(messages)]),
            pending: RefCell::new(vec![false; usize::from(messages)]),
            enabled: Cell::new(false),
            function_masked: Cell::new(false),
        }
    }

    pub(super) fn count(&self) -> u16 {
        self.table.borrow().len() as u16
    }

    /// Bytes of the table: where the pending bits begin.
    pub(super) fn table_size(messages: u16) -> u64 {
        (usize::from(messages) * ENTRY) as u64
    }

    pub(super) fn program(&self, message: u16, address: u64, data: u32) {
        if let Some(entry) = self.table.borrow_mut().get_mut(usize::from(message)) {
            entry.address = address;
            entry.data = data;
        }
    }

    pub(super) fn set_masked(&self, message: u16, masked: bool) {
        if let Some(entry) = self.table.borrow_mut().get_mut(usize::from(message)) {
            entry.control = if masked {
                entry.control | MASKED
            } else {
                entry.control & !MASKED
            };
        }
    }

    pub(super) fn is_pending(&self, message: u16) -> bool {
        self.pending
            .borrow()
            .get(usize::from(message))
            .copied()
            .unwrap_or(false)
    }

    pub(super) fn request(&self, message: u16) {
        if let Some(pending) = self.pending.borrow_mut().get_mut(usize::from(message)) {
            *pending = true;
        }
    }

    pub(super) fn forget(&self) {
        self.pending.borrow_mut().fill(false);
    }

    /// Takes a requested message that may be sent: its address and data.
    pub(super) fn take_deliverable(&self) -> Option<(u64, u32)> {
        if !self.enabled.get() || self.function_masked.get() {
            return None;
        }
        let table = self.table.borrow();
        let mut pending = self.pending.borrow_mut();
        let index = (0..table.len()).find(|&i| pending[i] && table[i].control & MASKED == 0)?;
        pending[index] = false;
        Some((table[index].address, table[index].data))
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        let table = self.table.borrow();
        let index = (offset / ENTRY as u64) as usize;
        if let Some(entry) = table.get(index) {
            return match offset % ENTRY as u64 / 4 {
                0 => entry.address as u32,
                1 => (entry.address >> 32) as u32,
                2 => entry.data,
                _ => entry.control,
            };
        }
        let first = (offset - (table.len() * ENTRY) as u64) as usize * 8;
        let pending = self.pending.borrow();
        (0..32).fold(0, |bits, bit| {
            bits | u32::from(pending.get(first + bit).copied().unwrap_or(false)) << bit
        })
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        let mut table = self.table.borrow_mut();
        let Some(entry) = table.get_mut((offset / ENTRY as u64) as usize) else {
            return;
        };
        let value64 = u64::from(value);
        match offset % ENTRY as u64 / 4 {
            0 => entry.address = entry.address & !0xffff_ffff | value64,
            1 => entry.address = entry.address & 0xffff_ffff | value64 << 32,
            2 => entry.data = value,
            _ => entry.control = value & MASKED,
        }
    }
}
