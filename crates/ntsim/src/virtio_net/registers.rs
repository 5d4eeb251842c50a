//! The registers: common configuration, ISR, network configuration, notifications.

use super::control;
use super::layout::{self, Register, feature};
use super::memory::DmaMemory;
use super::nic::{Nic, State, transmit_queue};
use super::queue::Queue;
use super::rules;
use crate::pci::{ConfigSpace, Device};

/// Bytes of the data of the configuration access capability, and where they begin in it.
const WINDOW_DATA: usize = 16;
const WINDOW_LENGTH: usize = 4;

/// Whether a queue is one that receives, when the control queue is `control`.
fn receives(index: usize, control: Option<usize>) -> bool {
    index.is_multiple_of(2) && control != Some(index)
}

impl Device for Nic {
    fn read(&self, bar: u8, offset: u64, width: u8) -> u64 {
        if bar != layout::BAR {
            return u64::MAX;
        }
        let at = offset % layout::ROOM;
        match offset - at {
            layout::COMMON_AT => self.read_common(at, width),
            layout::ISR_AT => self.read_isr(at, width),
            layout::CONFIG_AT => self.read_config(at, width),
            _ => {
                self.accuse(
                    rules::REGISTER,
                    format!("a load of {width} bytes from notification address {at:#x}"),
                );
                0
            }
        }
    }

    fn write(&self, bar: u8, offset: u64, width: u8, value: u64) {
        if bar != layout::BAR {
            return;
        }
        let at = offset % layout::ROOM;
        match offset - at {
            layout::COMMON_AT => self.write_common(at, width, value),
            layout::NOTIFY_AT => self.notify(at, width, value),
            structure => {
                let which = if structure == layout::ISR_AT {
                    "ISR"
                } else {
                    "network configuration"
                };
                self.accuse(
                    rules::REGISTER,
                    format!("a store of {width} bytes to the {which} at {at:#x}"),
                );
            }
        }
    }

    fn config_reading(&self, config: &ConfigSpace, offset: usize, length: usize) {
        if let Some((bar, at, width)) = self.window_access(config, offset, length) {
            let value = self.read(bar, at, width);
            config.put(
                self.window + WINDOW_DATA,
                &value.to_le_bytes()[..usize::from(width)],
            );
        }
    }

    fn config_written(&self, config: &ConfigSpace, offset: usize, length: usize) {
        if let Some((bar, at, width)) = self.window_access(config, offset, length) {
            let value = u64::from(config.long(self.window + WINDOW_DATA));
            let mask = u64::MAX >> (64 - 8 * u32::from(width));
            self.write(bar, at, width, value & mask);
        }
    }

    fn stopped(&self) {
        let mut state = self.state.borrow_mut();
        if state.status & layout::DRIVER_OK != 0 {
            self.accuse(
                rules::RUNNING,
                format!(
                    "the driver leaves the device with status {:#x}",
                    state.status
                ),
            );
        }
        self.reset(&mut state);
    }

    fn unplugged(&self) {
        self.reset(&mut self.state.borrow_mut());
        self.set_link(false);
    }
}

impl Nic {
    /// The access through the configuration access capability that touching these bytes stands for.
    fn window_access(
        &self,
        config: &ConfigSpace,
        offset: usize,
        length: usize,
    ) -> Option<(u8, u64, u8)> {
        let data = self.window + WINDOW_DATA;
        if offset >= data + WINDOW_LENGTH || offset + length <= data {
            return None;
        }
        let bar = config.word(self.window + 4) as u8;
        let at = config.long(self.window + 8);
        let width = config.long(self.window + 12);
        let valid = bar == layout::BAR
            && matches!(width, 1 | 2 | 4)
            && at.is_multiple_of(width)
            && u64::from(at) + u64::from(width) <= layout::BAR_LENGTH;
        valid.then_some((bar, u64::from(at), width as u8))
    }

    /// The register at an offset of the common configuration, if the access is one that it allows; accuses if not.
    fn register(&self, at: u64, width: u8, what: &str) -> Option<Register> {
        match Register::at(at) {
            Some((register, own)) if own == width => Some(register),
            Some((register, own)) => {
                self.accuse(
                    rules::REGISTER,
                    format!("a {what} of {width} bytes at {register:?}, which has {own}"),
                );
                None
            }
            None => {
                let text = if at < layout::COMMON_LENGTH {
                    "inside a register of"
                } else {
                    "beyond"
                };
                self.accuse(
                    rules::REGISTER,
                    format!("a {what} of {width} bytes at {at:#x} {text} the common configuration"),
                );
                None
            }
        }
    }

    fn read_common(&self, at: u64, width: u8) -> u64 {
        let Some(register) = self.register(at, width, "load") else {
            return 0;
        };
        self.reset_if_due();
        let lies = self.sulks.lies.get();
        if lies.restless && register == Register::Generation {
            let mut state = self.state.borrow_mut();
            state.generation = state.generation.wrapping_add(1);
        }
        let state = self.state.borrow();
        let queue = state.queues.get(usize::from(state.queue_select));
        let half = |value: u64, upper: bool| {
            if upper {
                value >> 32
            } else {
                value & 0xffff_ffff
            }
        };
        match register {
            Register::DeviceFeatureSelect => u64::from(state.device_feature_select),
            Register::DeviceFeature => match state.device_feature_select {
                select @ 0..=1 => half(self.offered() | lies.feigned, select == 1),
                _ => 0,
            },
            Register::DriverFeatureSelect => u64::from(state.driver_feature_select),
            Register::DriverFeature => match state.driver_feature_select {
                select @ 0..=1 => half(state.driver_features, select == 1),
                _ => 0,
            },
            Register::ConfigVector => u64::from(state.config_vector),
            Register::NumQueues => state.queues.len() as u64,
            Register::Status => u64::from(state.status),
            Register::Generation => u64::from(state.generation),
            Register::QueueSelect => u64::from(state.queue_select),
            Register::QueueSize => queue.map_or(0, |queue| u64::from(queue.size())),
            Register::QueueVector => queue.map_or(u64::from(layout::NO_VECTOR), |queue| {
                u64::from(queue.vector)
            }),
            Register::QueueEnable => queue.map_or(0, |queue| u64::from(queue.is_ready())),
            Register::QueueNotifyOff => u64::from(state.queue_select),
            Register::QueueAddress(part, upper) => {
                queue.map_or(0, |queue| half(queue.addresses[part], upper))
            }
            Register::QueueNotifyData => u64::from(state.queue_select),
            Register::QueueReset => 0,
        }
    }

    fn write_common(&self, at: u64, width: u8, value: u64) {
        let Some(register) = self.register(at, width, "store") else {
            return;
        };
        let mut state = self.state.borrow_mut();
        match register {
            Register::DeviceFeatureSelect => state.device_feature_select = value as u32,
            Register::DriverFeatureSelect => state.driver_feature_select = value as u32,
            Register::DriverFeature => self.write_features(&mut state, value as u32),
            Register::ConfigVector => state.config_vector = self.vector(value as u16),
            Register::Status => self.write_status(&mut state, value as u8),
            Register::QueueSelect => state.queue_select = value as u16,
            Register::QueueSize
            | Register::QueueVector
            | Register::QueueEnable
            | Register::QueueAddress(..) => self.write_queue(&mut state, register, value),
            Register::DeviceFeature
            | Register::NumQueues
            | Register::Generation
            | Register::QueueNotifyOff
            | Register::QueueNotifyData
            | Register::QueueReset => self.accuse(
                rules::REGISTER,
                format!("a store of {value:#x} to {register:?}, which cannot be written"),
            ),
        }
    }

    /// A message number as the device takes it: one it does not have becomes none.
    fn vector(&self, vector: u16) -> u16 {
        if vector < self.config.messages {
            vector
        } else {
            layout::NO_VECTOR
        }
    }

    fn write_features(&self, state: &mut State, value: u32) {
        if state.status & layout::FEATURES_OK != 0 {
            self.accuse(
                rules::FEATURES,
                "features are written after FEATURES_OK was set",
            );
            return;
        }
        let value = u64::from(value);
        match state.driver_feature_select {
            0 => state.driver_features = state.driver_features & !0xffff_ffff | value,
            1 => state.driver_features = state.driver_features & 0xffff_ffff | value << 32,
            select if value != 0 => self.accuse(
                rules::FEATURES,
                format!("features {value:#x} of group {select}, which has none"),
            ),
            _ => {}
        }
    }

    fn write_status(&self, state: &mut State, value: u8) {
        if value == 0 {
            self.order_reset(state);
            return;
        }
        let old = state.status;
        let new = value & !old;
        let complain = |text: String| self.accuse(rules::STATUS, text);
        if old & !value & !layout::NEEDS_RESET != 0 {
            complain(format!(
                "status {value:#x} takes back bits of {old:#x}: only a reset may"
            ));
        }
        let needs = [
            (layout::DRIVER, layout::ACKNOWLEDGE),
            (layout::FEATURES_OK, layout::DRIVER),
            (layout::DRIVER_OK, layout::FEATURES_OK),
        ];
        for (bit, before) in needs {
            if new & bit != 0 && old & before == 0 {
                complain(format!(
                    "status bit {bit:#x} is set before {before:#x} was: {old:#x} becomes {value:#x}"
                ));
            }
        }
        let mut status = value | old & layout::NEEDS_RESET;
        if new & layout::FEATURES_OK != 0 && !self.accept_features(state) {
            status &= !layout::FEATURES_OK;
        }
        if status & layout::FEATURES_OK == 0 {
            status &= !layout::DRIVER_OK;
        }
        state.status = status;
        if new & layout::DRIVER_OK != 0 && status & layout::DRIVER_OK != 0 {
            self.run(state);
        }
    }

    /// Whether the device can work with what the driver wants.
    fn accept_features(&self, state: &State) -> bool {
        let accepted = state.driver_features;
        if accepted & self.sulks.lies.get().feigned != 0 {
            return false;
        }
        let unknown = accepted & !self.offered();
        if unknown != 0 {
            self.accuse(
                rules::FEATURES,
                format!("features {unknown:#x} are accepted, but were not offered"),
            );
            return false;
        }
        let missing = control::needed_by(accepted) & !accepted;
        if missing != 0 {
            self.accuse(
                rules::FEATURES,
                format!(
                    "features {accepted:#x} are accepted without {missing:#x}, which they need"
                ),
            );
            return false;
        }
        // Without VIRTIO_F_ACCESS_PLATFORM it would be told physical addresses, by which it reaches nothing (6.1.1, 6.2).
        let needed = feature::VERSION_1 | feature::ACCESS_PLATFORM;
        accepted & needed == needed
    }

    /// DRIVER_OK: tells the driver whether to notify.
    fn run(&self, state: &mut State) {
        let Some(machine) = self.machine.upgrade() else {
            return;
        };
        let memory = DmaMemory::new(&machine.ram);
        let control = state.control_queue();
        for (index, queue) in state.queues.iter_mut().enumerate() {
            if queue.is_ready() {
                let receives = receives(index, control);
                self.start_queue(queue, receives, &memory);
            }
        }
        for pair in 1..self.pairs() {
            // Frames that are there already are no mistake: the driver must not queue any once it has given a command that leaves the queue
            // out (5.1.6.5, automatic receive steering), and there was none yet.
            state.queues[transmit_queue(pair)].set_open(&memory, false);
        }
    }

    fn start_queue(&self, queue: &mut Queue, receives: bool, memory: &DmaMemory<'_>) {
        if !self.config.busy_poll && !receives {
            // What is there already is seen in the first turn.
            queue.enable_notifications(memory);
            queue.kicked = true;
        } else {
            queue.suppress_notifications(memory);
        }
    }

    fn write_queue(&self, state: &mut State, register: Register, value: u64) {
        let index = usize::from(state.queue_select);
        let (status, features) = (state.status, state.driver_features);
        let (exists, control) = (state.exists(index), state.control_queue());
        let Some(queue) = state.queues.get_mut(index) else {
            self.accuse(
                rules::QUEUE,
                format!("a store to {register:?} of queue {index}, which does not exist"),
            );
            return;
        };
        if register == Register::QueueVector {
            queue.vector = self.vector(value as u16);
            return;
        }
        if queue.is_ready() {
            self.accuse(
                rules::QUEUE,
                format!("a store of {value:#x} to {register:?} of queue {index}, which is enabled"),
            );
            return;
        }
        match register {
            Register::QueueSize => {
                if value > u64::from(self.config.queue_size) || !queue.set_size(value as u16) {
                    self.accuse(
                        rules::QUEUE,
                        format!(
                            "size {value} for queue {index}: not a power of two up to {}",
                            self.config.queue_size
                        ),
                    );
                }
            }
            Register::QueueAddress(part, upper) => {
                let address = &mut queue.addresses[part];
                *address = if upper {
                    *address & 0xffff_ffff | value << 32
                } else {
                    *address & !0xffff_ffff | value
                };
            }
            _ => {
                if value != 1 {
                    self.accuse(
                        rules::QUEUE,
                        format!("{value} is written to the enable register of queue {index}"),
                    );
                    return;
                }
                if status & layout::FEATURES_OK == 0 {
                    self.accuse(
                        rules::QUEUE,
                        format!("queue {index} is enabled before the features are agreed on"),
                    );
                    return;
                }
                if !exists {
                    self.accuse(
                        rules::QUEUE,
                        format!(
                            "queue {index} is enabled, which does not exist with the features accepted"
                        ),
                    );
                    return;
                }
                let Some(machine) = self.machine.upgrade() else {
                    return;
                };
                let memory = DmaMemory::new(&machine.ram);
                let event_idx = features & feature::EVENT_IDX != 0;
                let indirect = features & feature::INDIRECT_DESC != 0;
                if let Err(flaw) = queue.enable(&memory, event_idx, indirect) {
                    self.accuse(rules::QUEUE, format!("queue {index}: {flaw}"));
                } else if status & layout::DRIVER_OK != 0 {
                    self.start_queue(queue, receives(index, control), &memory);
                }
            }
        }
    }

    fn read_isr(&self, at: u64, width: u8) -> u64 {
        if at != 0 || width != 1 {
            self.accuse(
                rules::REGISTER,
                format!("a load of {width} bytes at {at:#x} of the ISR"),
            );
            return 0;
        }
        self.function.set_line(false);
        u64::from(std::mem::take(&mut self.state.borrow_mut().isr))
    }

    fn read_config(&self, at: u64, width: u8) -> u64 {
        if layout::config_width(at) != Some(width) {
            self.accuse(
                rules::REGISTER,
                format!("a load of {width} bytes at {at:#x} of the network configuration"),
            );
            return 0;
        }
        self.counters.borrow_mut().config_loads += 1;
        let state = self.state.borrow();
        let lies = self.sulks.lies.get();
        let pairs = lies.queue_pairs.unwrap_or(self.config.queue_pairs);
        let mtu = lies.mtu.unwrap_or(self.config.mtu);
        let mut status = 0;
        if self.is_link_up() {
            status |= layout::LINK_UP;
        }
        if state.announcing {
            status |= layout::ANNOUNCE;
        }
        let mut config = [0; layout::CONFIG_LENGTH];
        config[..6].copy_from_slice(&state.mac);
        config[6..8].copy_from_slice(&status.to_le_bytes());
        config[8..10].copy_from_slice(&pairs.to_le_bytes());
        config[10..12].copy_from_slice(&mtu.to_le_bytes());
        config[12..16].copy_from_slice(&self.config.speed.to_le_bytes());
        // Full duplex.
        config[16] = 1;
        let (at, width) = (at as usize, usize::from(width));
        let mut value = [0; 8];
        value[..width].copy_from_slice(&config[at..at + width]);
        u64::from_le_bytes(value)
    }

    fn notify(&self, at: u64, width: u8, value: u64) {
        self.counters.borrow_mut().notifications += 1;
        let mut state = self.state.borrow_mut();
        let index = value as usize;
        let expected = value * u64::from(layout::NOTIFY_MULTIPLIER);
        let problem = if width != 2 {
            Some(format!("a store of {width} bytes, not 2"))
        } else if index >= state.queues.len() {
            Some("there is no such queue".to_owned())
        } else if at != expected {
            Some(format!("its place is {expected:#x}"))
        } else if state.status & layout::DRIVER_OK == 0 {
            Some(format!("DRIVER_OK is not set: status {:#x}", state.status))
        } else if !state.queues[index].is_ready() {
            Some("the queue is not enabled".to_owned())
        } else {
            None
        };
        match problem {
            Some(problem) => self.accuse(
                rules::NOTIFY,
                format!("notification of queue {value} at {at:#x}: {problem}"),
            ),
            None => state.queues[index].kicked = true,
        }
    }
}
