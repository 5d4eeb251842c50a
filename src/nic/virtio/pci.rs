//! Where a virtio PCI device keeps its registers (virtio 1.2, 4.1.4).
//!
//! IRQL: PASSIVE_LEVEL, when the device is started.

/// PCI vendor of all virtio devices.
pub const VENDOR: u16 = 0x1af4;

/// Offset of the status register in configuration space, and its bit that says there are capabilities.
const STATUS: usize = 0x06;
const STATUS_CAPABILITIES: u16 = 0x10;
/// Offset of the pointer to the first capability.
const CAPABILITIES: usize = 0x34;
/// Offset of the first base address register.
const BAR0: usize = 0x10;
/// Capability identifier: vendor-specific.
const VENDOR_SPECIFIC: u8 = 0x09;
/// No more capabilities than this fit into configuration space.
const MOST_CAPABILITIES: usize = 48;

/// Kinds of register block.
const COMMON: u8 = 1;
const NOTIFY: u8 = 2;
const ISR: u8 = 3;
const DEVICE: u8 = 4;

/// A function's configuration space, its first 256 bytes.
pub type Config = [u8; 256];

/// A block of registers in a BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Number of the BAR, 0 to 5.
    pub bar: u8,
    /// Offset in the BAR, bytes.
    pub offset: u32,
    /// Length, bytes.
    pub length: u32,
}

/// The register blocks of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Common configuration.
    pub common: Block,
    /// Doorbells.
    pub notify: Block,
    /// Bytes between the doorbells of two queues.
    pub notify_multiplier: u32,
    /// Interrupt cause.
    pub isr: Block,
    /// Configuration of the kind of device; a network device always has one (4.1.4.6.1).
    pub device: Block,
}

/// Configuration space does not describe a modern virtio device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a virtio device at all.
    Vendor,
    /// A block is missing: the device is a legacy one.
    Missing,
}

fn u8_at(config: &Config, at: usize) -> Option<u8> {
    config.get(at).copied()
}

fn u16_at(config: &Config, at: usize) -> Option<u16> {
    config
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_le_bytes)
}

fn u32_at(config: &Config, at: usize) -> Option<u32> {
    config
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_le_bytes)
}

/// Offsets of the capabilities with an identifier.
fn capabilities(config: &Config, id: u8) -> impl Iterator<Item = usize> {
    let present = u16_at(config, STATUS).is_some_and(|status| status & STATUS_CAPABILITIES != 0);
    let first = u8_at(config, CAPABILITIES).filter(|_| present);
    let next = |at: u8| match at & !3 {
        0 => None,
        at => Some(usize::from(at)),
    };
    core::iter::successors(first.and_then(next), move |&at| {
        u8_at(config, at + 1).and_then(next)
    })
    .take(MOST_CAPABILITIES)
    .filter(move |&at| u8_at(config, at) == Some(id))
}

impl Blocks {
    /// Finds the blocks. Of several of a kind the first counts, as the device prefers it; a kind or BAR that is reserved is skipped.
    ///
    /// # Errors
    /// [`Error`].
    pub fn find(config: &Config) -> Result<Self, Error> {
        if u16_at(config, 0) != Some(VENDOR) {
            return Err(Error::Vendor);
        }
        let find = |kind: u8| {
            capabilities(config, VENDOR_SPECIFIC).find_map(|at| {
                let block = Block {
                    bar: u8_at(config, at + 4)?,
                    offset: u32_at(config, at + 8)?,
                    length: u32_at(config, at + 12)?,
                };
                (u8_at(config, at + 3)? == kind && block.bar < 6).then_some((at, block))
            })
        };
        let block = |kind| find(kind).map(|(_, block)| block).ok_or(Error::Missing);
        let (notify_at, notify) = find(NOTIFY).ok_or(Error::Missing)?;
        Ok(Self {
            common: block(COMMON)?,
            notify,
            notify_multiplier: u32_at(config, notify_at + 16).ok_or(Error::Missing)?,
            isr: block(ISR)?,
            device: block(DEVICE)?,
        })
    }
}

/// Bus address a BAR is set to, if it is a memory BAR that is set.
pub fn bar_address(config: &Config, bar: u8) -> Option<u64> {
    let at = BAR0 + usize::from(bar) * 4;
    let low = u32_at(config, at).filter(|_| bar < 6)?;
    let address = match low & 0x7 {
        // 32 bits.
        0 | 2 => u64::from(low & !0xf),
        // 64 bits; the next register is the upper half.
        4 if bar < 5 => u64::from(u32_at(config, at + 4)?) << 32 | u64::from(low & !0xf),
        // I/O ports or reserved.
        _ => return None,
    };
    (address != 0).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device as QEMU presents it: BAR 4 has 64 bits, the blocks are pages of it.
    fn config() -> Config {
        let mut config = [0; 256];
        config[..2].copy_from_slice(&VENDOR.to_le_bytes());
        config[STATUS] = 0x10;
        config[CAPABILITIES] = 0x40;
        config[0x20..0x24].copy_from_slice(&0xfe00_000c_u32.to_le_bytes());
        config[0x24..0x28].copy_from_slice(&0x38_u32.to_le_bytes());
        for (i, kind) in [COMMON, ISR, DEVICE, NOTIFY].into_iter().enumerate() {
            let at = 0x40 + i * 20;
            let next = if kind == NOTIFY { 0 } else { at as u8 + 20 };
            config[at..at + 5].copy_from_slice(&[VENDOR_SPECIFIC, next, 20, kind, 4]);
            config[at + 8..at + 12].copy_from_slice(&(i as u32 * 0x1000).to_le_bytes());
            config[at + 12..at + 16].copy_from_slice(&0x1000_u32.to_le_bytes());
            config[at + 16] = 4;
        }
        config
    }

    #[test]
    fn all_blocks_are_found() {
        let blocks = Blocks::find(&config()).unwrap();
        let at = |offset| Block {
            bar: 4,
            offset,
            length: 0x1000,
        };
        assert_eq!(blocks.common, at(0));
        assert_eq!(blocks.isr, at(0x1000));
        assert_eq!(blocks.device, at(0x2000));
        assert_eq!(blocks.notify, at(0x3000));
        assert_eq!(blocks.notify_multiplier, 4);
        assert_eq!(bar_address(&config(), 4), Some(0x38_fe00_0000));
        assert_eq!(bar_address(&config(), 0), None);
    }

    #[test]
    fn a_loop_of_capabilities_ends() {
        let mut config = config();
        config[0x41] = 0x40;
        assert_eq!(Blocks::find(&config), Err(Error::Missing));
    }

    #[test]
    fn a_capability_at_the_end_of_the_space_is_not_read_past_it() {
        let mut config = config();
        config[0x40 + 3 * 20 + 1] = 0xfc;
        config[0x40 + 3 * 20 + 3] = 9;
        config[0xfc] = VENDOR_SPECIFIC;
        config[0xff] = NOTIFY;
        assert_eq!(Blocks::find(&config), Err(Error::Missing));
    }

    #[test]
    fn another_vendors_device_is_refused() {
        let mut config = config();
        config[0] = 0;
        assert_eq!(Blocks::find(&config), Err(Error::Vendor));
    }
}
