//! What drivers of virtio devices are accused of (sections of virtio 1.2).

crate::verifier::law::stated! {

/// The device status was not written as initialisation demands (2.1, 3.1).
pub const STATUS: &str = "virtio-status";
/// Features were accepted that were not offered, or without those they need, or too late (2.2, 5.1.3.1).
pub const FEATURES: &str = "virtio-features";
/// A register was accessed that does not exist, cannot be written, or by an access of another width than its own
/// (4.1.3.1).
pub const REGISTER: &str = "virtio-register";
/// A queue was set up wrongly: size, alignment, order of steps (4.1.4.3.2).
pub const QUEUE: &str = "virtio-queue";
/// A queue was notified that is not running, or in the wrong place (4.1.5.2).
pub const NOTIFY: &str = "virtio-notify";
/// A ring or a descriptor chain in it is not as it must be (2.7).
pub const RING: &str = "virtio-ring";
/// The header in front of a frame is not as it must be (5.1.6.2).
pub const HEADER: &str = "virtio-net-header";
/// A frame to be sent is longer than the MTU allows, or too short (5.1.4.2).
pub const FRAME: &str = "virtio-net-frame";
/// Receive buffers are smaller than they must be (5.1.6.3.1).
pub const BUFFER: &str = "virtio-net-buffer";
/// A command on the control queue is not as it must be, or queues are used that none has put in use (5.1.6.5).
pub const CONTROL: &str = "virtio-net-control";
/// The device was told to access memory through a mapping that has ended.
pub const STALE: &str = "dma-stale";
/// The device was told to access memory by its physical address, and not by the logical one of a DMA mapping (6.1, VIRTIO_F_ACCESS_PLATFORM).
pub const PHYSICAL: &str = "dma-physical";
/// The device was switched off while it was running: the driver did not reset it (3.3).
pub const RUNNING: &str = "virtio-left-running";

}
