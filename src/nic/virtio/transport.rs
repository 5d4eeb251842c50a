//! The registers of a virtio PCI device (virtio 1.2, 4.1.4).

use core::time::Duration;

use nt::{Mmio, Passive, Status, debug_print};

use super::pci::{Block, Blocks, Config, bar_address};
use crate::nic::bus::Function;

/// Offsets in the common configuration.
mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0c;
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub const NUM_QUEUES: usize = 0x12;
    pub const DEVICE_STATUS: usize = 0x14;
    pub const CONFIG_GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_MSIX_VECTOR: usize = 0x1a;
    pub const QUEUE_ENABLE: usize = 0x1c;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1e;
    pub const QUEUE_DESC: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
    pub const LENGTH: u32 = 0x38;
}

/// Bits of the device status.
pub mod status {
    /// The guest has seen the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The guest knows how to drive it.
    pub const DRIVER: u8 = 2;
    /// The driver is ready.
    pub const DRIVER_OK: u8 = 4;
    /// Features are settled.
    pub const FEATURES_OK: u8 = 8;
    /// The device has given up.
    pub const NEEDS_RESET: u8 = 64;
}

/// What a vector register reads if the vector was not taken.
const NO_VECTOR: u16 = 0xffff;
/// Reads of the status register to wait for the end of a reset.
const RESET_TRIES: u32 = 100;
/// Time between them.
const RESET_PAUSE: Duration = Duration::from_millis(1);

/// Where a queue's parts are, for the device.
#[derive(Clone, Copy, Debug)]
pub struct QueueAddress {
    /// Descriptor table.
    pub descriptors: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
}

/// Why a device cannot be driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No modern virtio device, or its register blocks are not in its BARs.
    NotVirtio,
    /// The resources are there, but not the memory to map them or to work with.
    Resources(Status),
    /// The device does not do what it must.
    Device,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Resources(status)
    }
}

impl From<nt::NoMemory> for Error {
    fn from(error: nt::NoMemory) -> Self {
        Self::Resources(error.into())
    }
}

/// The registers. Those of the common configuration that select something are used by one thread at a time, while the device starts.
#[derive(Debug)]
pub struct Transport {
    function: Function,
    common: Mmio,
    notify: Mmio,
    notify_multiplier: u32,
    isr: Mmio,
    device: Mmio,
}

impl Transport {
    /// Finds and maps the registers.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(function: Function) -> Result<Self, Error> {
        let config: Config = function.read(0);
        let blocks = Blocks::find(&config).map_err(|error| {
            debug_print!(Error, "no virtio registers: {error:?}");
            Error::NotVirtio
        })?;
        let map = |block: Block, least: u32| -> Result<Mmio, Error> {
            let bar = bar_address(&config, block.bar).ok_or(Error::NotVirtio)?;
            if block.length < least {
                return Err(Error::NotVirtio);
            }
            let mapped = function.map(bar, block.offset, block.length);
            Ok(mapped.ok_or(Error::NotVirtio)??)
        };
        let (common, notify, isr, device) = (
            map(blocks.common, common::LENGTH)?,
            map(blocks.notify, 2)?,
            map(blocks.isr, 1)?,
            map(blocks.device, 6)?,
        );
        function.set_bus_master(true);
        Ok(Self {
            function,
            common,
            notify,
            notify_multiplier: blocks.notify_multiplier,
            isr,
            device,
        })
    }

    /// The device status; all ones if the device is gone.
    pub fn status(&self) -> u8 {
        self.common.read_u8(common::DEVICE_STATUS)
    }

    /// Sets further bits of the device status.
    pub fn add_status(&self, bits: u8) {
        self.common
            .write_u8(common::DEVICE_STATUS, self.status() | bits);
    }

    /// Orders a reset. IRQL: any.
    pub fn order_reset(&self) {
        self.common.write_u8(common::DEVICE_STATUS, 0);
    }

    /// Whether the device has been reset, or is gone: it reaches no memory. IRQL: any.
    pub fn is_reset(&self) -> bool {
        matches!(self.status(), 0 | 0xff)
    }

    /// Waits for the end of a reset that was ordered: afterwards the device reaches no memory. If it does not confirm that, it is cut off
    /// from the bus, and the answer is false.
    pub fn finish_reset(&self, passive: Passive) -> bool {
        for _ in 0..RESET_TRIES {
            if self.is_reset() {
                return true;
            }
            nt::time::sleep(RESET_PAUSE, passive);
        }
        self.function.set_bus_master(false);
        false
    }

    /// Resets the device: false if it does not confirm that.
    pub fn reset(&self, passive: Passive) -> bool {
        self.order_reset();
        self.finish_reset(passive) && self.status() == 0
    }

    /// Lets the device reach memory, which is off after it was without power, or cut off because it did not obey.
    pub fn reconnect(&self) {
        self.function.set_bus_master(true);
    }

    /// Features the device offers.
    pub fn device_features(&self) -> u64 {
        let half = |select| {
            self.common.write_u32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read_u32(common::DEVICE_FEATURE))
        };
        half(0) | half(1) << 32
    }

    /// Accepts features, and settles on them.
    ///
    /// # Errors
    /// The device does not agree.
    pub fn set_features(&self, features: u64) -> Result<(), Error> {
        for select in [0, 1] {
            self.common.write_u32(common::DRIVER_FEATURE_SELECT, select);
            self.common
                .write_u32(common::DRIVER_FEATURE, (features >> (32 * select)) as u32);
        }
        self.add_status(status::FEATURES_OK);
        let settled = self.status();
        if settled == 0xff || settled & status::FEATURES_OK == 0 {
            return Err(Error::Device);
        }
        Ok(())
    }

    /// Number of queues.
    pub fn queues(&self) -> u16 {
        self.common.read_u16(common::NUM_QUEUES)
    }

    /// Largest size of a queue; zero if there is no such queue.
    pub fn queue_size(&self, queue: u16) -> u16 {
        self.common.write_u16(common::QUEUE_SELECT, queue);
        self.common.read_u16(common::QUEUE_SIZE)
    }

    /// Offset of a queue's doorbell, if it is inside its block.
    pub fn doorbell(&self, queue: u16) -> Option<usize> {
        self.common.write_u16(common::QUEUE_SELECT, queue);
        let number = u32::from(self.common.read_u16(common::QUEUE_NOTIFY_OFF));
        let offset = number.checked_mul(self.notify_multiplier)? as usize;
        (offset.checked_add(2)? <= self.notify.len()).then_some(offset)
    }

    /// Rings a doorbell. IRQL: any.
    pub fn ring(&self, doorbell: usize, queue: u16) {
        self.notify.write_u16(doorbell, queue);
    }

    /// Sets a queue up and enables it.
    ///
    /// # Errors
    /// The device does not take the vector.
    pub fn enable_queue(
        &self,
        queue: u16,
        size: u16,
        at: &QueueAddress,
        vector: Option<u16>,
    ) -> Result<(), Error> {
        self.common.write_u16(common::QUEUE_SELECT, queue);
        self.common.write_u16(common::QUEUE_SIZE, size);
        if let Some(vector) = vector {
            self.common.write_u16(common::QUEUE_MSIX_VECTOR, vector);
            if self.common.read_u16(common::QUEUE_MSIX_VECTOR) != vector {
                return Err(Error::Device);
            }
        }
        self.common
            .write_u64_halves(common::QUEUE_DESC, at.descriptors);
        self.common
            .write_u64_halves(common::QUEUE_DRIVER, at.available);
        self.common.write_u64_halves(common::QUEUE_DEVICE, at.used);
        self.common.write_u16(common::QUEUE_ENABLE, 1);
        Ok(())
    }

    /// Sets the vector for configuration changes.
    ///
    /// # Errors
    /// The device does not take it.
    pub fn set_config_vector(&self, vector: Option<u16>) -> Result<(), Error> {
        let vector = vector.unwrap_or(NO_VECTOR);
        self.common.write_u16(common::CONFIG_MSIX_VECTOR, vector);
        if self.common.read_u16(common::CONFIG_MSIX_VECTOR) != vector {
            return Err(Error::Device);
        }
        Ok(())
    }

    /// Reads and clears the interrupt cause: zero if the interrupt was not ours. IRQL: any.
    pub fn take_cause(&self) -> u8 {
        match self.isr.read_u8(0) {
            0xff => 0,
            cause => cause,
        }
    }

    /// Reads several registers of the device's configuration as one: again if the device changed it meanwhile. IRQL: any.
    pub fn read_config<T>(&self, read: impl Fn(&Mmio) -> T) -> T {
        // A device that changes its configuration all the time does not get the driver to read for ever.
        for _ in 0..16 {
            let before = self.common.read_u8(common::CONFIG_GENERATION);
            let value = read(&self.device);
            if self.common.read_u8(common::CONFIG_GENERATION) == before {
                return value;
            }
        }
        read(&self.device)
    }
}
