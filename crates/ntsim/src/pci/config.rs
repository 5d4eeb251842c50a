//! Configuration space: a type 0 header and a list of capabilities.

use std::cell::Cell;

/// Bytes of configuration space.
pub const SIZE: usize = 256;

/// Offsets in the header.
pub(super) const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const REVISION: usize = 0x08;
const BARS: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
/// Where the first capability goes.
const FIRST_CAPABILITY: usize = 0x40;

/// Command register: decode memory addresses.
pub(super) const MEMORY: u16 = 1 << 1;
/// Command register: access memory on its own.
pub(super) const BUS_MASTER: u16 = 1 << 2;
/// Command register: no INTx.
pub(super) const INTX_DISABLE: u16 = 1 << 10;
/// Status register: there is a list of capabilities.
const HAS_CAPABILITIES: u16 = 1 << 4;

/// What a function says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Revision id.
    pub revision: u8,
    /// Base class, subclass, programming interface.
    pub class: [u8; 3],
}

/// A capability: its id and what follows the link to the next one, and which of those bits can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Capability id.
    pub id: u8,
    /// Bytes behind the link.
    pub body: Vec<u8>,
    /// Writable bits of `body`; missing bytes are read-only.
    pub writable: Vec<u8>,
}

/// The bytes, and which of their bits can be written.
pub struct ConfigSpace {
    bytes: [Cell<u8>; SIZE],
    writable: [Cell<u8>; SIZE],
    end: Cell<usize>,
    last_link: Cell<usize>,
}

impl ConfigSpace {
    /// A function without BARs and capabilities.
    #[must_use]
    pub fn new(identity: &Identity) -> ConfigSpace {
        let space = ConfigSpace {
            bytes: [const { Cell::new(0) }; SIZE],
            writable: [const { Cell::new(0) }; SIZE],
            end: Cell::new(FIRST_CAPABILITY),
            last_link: Cell::new(CAPABILITIES),
        };
        space.put(0x00, &identity.vendor.to_le_bytes());
        space.put(0x02, &identity.device.to_le_bytes());
        let [class, subclass, interface] = identity.class;
        space.put(REVISION, &[identity.revision, interface, subclass, class]);
        space.put(SUBSYSTEM, &identity.subsystem_vendor.to_le_bytes());
        space.put(SUBSYSTEM + 2, &identity.subsystem.to_le_bytes());
        space.allow(COMMAND, &(MEMORY | BUS_MASTER | INTX_DISABLE).to_le_bytes());
        space.allow(INTERRUPT_LINE, &[0xff]);
        // INTA.
        space.put(INTERRUPT_PIN, &[1]);
        space
    }

    /// Sets bytes, whether they can be written by drivers or not.
    ///
    /// # Panics
    /// If they do not lie in configuration space.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        for (cell, byte) in self.bytes[offset..offset + bytes.len()].iter().zip(bytes) {
            cell.set(*byte);
        }
    }

    /// Sets which bits can be written.
    fn allow(&self, offset: usize, bits: &[u8]) {
        for (cell, bits) in self.writable[offset..offset + bits.len()].iter().zip(bits) {
            cell.set(*bits);
        }
    }

    /// Adds a capability and returns its offset.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn add_capability(&self, capability: &Capability) -> usize {
        let at = self.end.get();
        self.put(at, &[capability.id, 0]);
        self.put(at + 2, &capability.body);
        self.allow(at + 2, &capability.writable);
        let link = self.last_link.replace(at + 1);
        self.put(link, &[at as u8]);
        self.put(STATUS, &HAS_CAPABILITIES.to_le_bytes());
        self.end
            .set((at + 2 + capability.body.len()).next_multiple_of(4));
        at
    }

    /// Lays out a BAR of `length` bytes, a power of two from 16. A 64-bit one takes the next register too.
    pub(super) fn set_bar(&self, index: u8, length: u64, wide: bool, prefetchable: bool) {
        let at = BARS + 4 * usize::from(index);
        let address_bits = !(length - 1);
        self.allow(at, &(address_bits as u32).to_le_bytes());
        let kind = u32::from(wide) << 2 | u32::from(prefetchable) << 3;
        self.put(at, &kind.to_le_bytes());
        if wide {
            self.allow(at + 4, &((address_bits >> 32) as u32).to_le_bytes());
        }
    }

    /// Sets a BAR's address.
    pub(super) fn set_bar_address(&self, index: u8, wide: bool, address: u64) {
        let at = BARS + 4 * usize::from(index);
        self.write(at, &(address as u32).to_le_bytes());
        if wide {
            self.write(at + 4, &((address >> 32) as u32).to_le_bytes());
        }
    }

    /// A 16-bit register.
    ///
    /// # Panics
    /// If it does not lie in configuration space.
    #[must_use]
    pub fn word(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.bytes[offset].get(), self.bytes[offset + 1].get()])
    }

    /// A 32-bit register.
    ///
    /// # Panics
    /// If it does not lie in configuration space.
    #[must_use]
    pub fn long(&self, offset: usize) -> u32 {
        u32::from(self.word(offset)) | u32::from(self.word(offset + 2)) << 16
    }

    /// Reads; ones beyond the end.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (i, byte) in data.iter_mut().enumerate() {
            *byte = self.bytes.get(offset + i).map_or(0xff, Cell::get);
        }
    }

    /// Writes the bits that can be written.
    pub fn write(&self, offset: usize, data: &[u8]) {
        for (i, &byte) in data.iter().enumerate() {
            if let (Some(cell), Some(mask)) =
                (self.bytes.get(offset + i), self.writable.get(offset + i))
            {
                let mask = mask.get();
                cell.set(cell.get() & !mask | byte & mask);
            }
        }
    }
}
