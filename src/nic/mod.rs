//! The NIC's queues, behind a trait: what the miniport and the RDMA port need of a network device.
//!
//! # Locks and IRQL
//! Every method of [`Nic`] may be called at IRQL <= DISPATCH_LEVEL unless it says otherwise. An implementation has one lock for its
//! transmit queue and one for its receive queue, both innermost: a caller may hold its own locks, an implementation calls nothing of
//! its caller's while it holds one of them. (RDMA port lock -> transmit queue lock; never the other way round.)

pub mod bus;
pub mod virtio;

use core::fmt;

use nt::{Passive, Waker};

/// Bytes of an Ethernet header without VLAN tag.
pub const ETHERNET_HEADER: usize = 14;

/// Most pieces of a frame, of whatever NIC.
pub const MAX_PIECES: usize = 32;

/// Most frames handed out at a time.
pub const BATCH: usize = 32;

/// A piece of memory as the device sees it: a logical (bus) address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaPiece {
    /// Logical address of the first byte.
    pub addr: u64,
    /// Length, bytes. Not zero.
    pub len: u32,
}

/// Whom to tell that the NIC has no more use for a frame's pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxCookie {
    /// Nobody: the frame has no pieces.
    None,
    /// The RDMA port: bits of its transmit token.
    Rdma(u64),
    /// The Ethernet send path: address of its net buffer.
    Ethernet(usize),
}

/// A frame to send: `header`, then `pieces`, then `trailer`, without FCS.
#[derive(Clone, Copy, Debug)]
pub struct TxFrame<'a> {
    /// First bytes, from the destination MAC address on. Copied before `transmit` returns. May be empty if there are pieces.
    pub header: &'a [u8],
    /// Memory the device reads itself. It must stay as it is until the cookie comes out of [`Nic::reap`].
    pub pieces: &'a [DmaPiece],
    /// Last bytes. Copied before `transmit` returns.
    pub trailer: &'a [u8],
    /// Comes out of [`Nic::reap`] exactly once after a successful `transmit`, unless it is [`TxCookie::None`].
    pub cookie: TxCookie,
}

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxError {
    /// The transmit queue is full: try again after a [`Nic::reap`].
    Full,
    /// More pieces than [`Nic::max_pieces`], more header or trailer than a slot holds, or longer than the device sends. It never fits.
    TooLong,
    /// The NIC has failed or is at rest; until it is restarted it takes no frame. The memory of the frame is not referenced.
    Stopped,
}

/// State of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// A cable is plugged in, so to speak.
    pub up: bool,
    /// Bits per second.
    pub speed: u64,
}

/// Why a NIC stopped working. The device is reset when this happens; [`Nic::restart`] may bring it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device asked for a reset (virtio: DEVICE_NEEDS_RESET).
    NeedsReset,
    /// The device returned a transmit buffer it did not have.
    TxUsed,
    /// The device returned a receive buffer it did not have, or said it wrote more than fits or less than every frame has.
    RxUsed,
    /// A register reads all ones: the device is gone.
    Gone,
    /// The device did not take a setting: features, a queue, an interrupt vector.
    Refused,
    /// The device has frames to send, and has not sent one for many seconds.
    Stalled,
}

impl Fault {
    /// What it is called.
    pub fn text(self) -> &'static str {
        match self {
            Fault::NeedsReset => "device asks for a reset",
            Fault::TxUsed => "device returned a transmit buffer it did not have",
            Fault::RxUsed => "device returned a receive buffer it did not have, or overran one",
            Fault::Gone => "device does not answer",
            Fault::Refused => "device refuses a setting",
            Fault::Stalled => "device does not send any more",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Which interrupt messages the device is to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// None: a line interrupt.
    Line,
    /// Numbers in the MSI-X table.
    Messages {
        /// For changes of the device's configuration: link up, link down.
        config: u16,
        /// For the queues.
        queues: u16,
    },
}

/// Why a line interrupt came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The device's configuration has changed: the link, perhaps.
    pub config: bool,
}

/// A network device.
///
/// It is made at rest; [`Nic::start`] lets it work, once; [`Nic::stop`] ends that, and [`Nic::restart`] lets it work again.
pub trait Nic: Send + Sync {
    /// Tells the device about its queues and interrupts and lets it work. Interrupts of the queues are enabled. `waker` is used until
    /// [`Nic::stop`] has returned, when the device needs service though it does not interrupt: at first, and when it has stalled.
    ///
    /// # Errors
    /// The device refuses; nothing but dropping it can be done then.
    fn start(&self, vectors: Vectors, waker: Waker, passive: Passive) -> Result<(), Fault>;

    /// The MAC address in use.
    fn mac(&self) -> [u8; 6];

    /// The address the device was born with.
    fn permanent_mac(&self) -> [u8; 6];

    /// Largest IP packet, bytes: a frame may be 14 bytes longer.
    fn mtu(&self) -> u16;

    /// Current state of the link. Reads registers of the device.
    fn link(&self) -> Link;

    /// Queues a frame. The device need not be told before [`Nic::kick`].
    ///
    /// # Errors
    /// [`TxError`]; the frame was not taken and its cookie will not come back.
    fn transmit(&self, frame: &TxFrame<'_>) -> Result<(), TxError>;

    /// Tells the device about queued frames, unless it polls anyway.
    fn kick(&self);

    /// Most pieces of a frame.
    fn max_pieces(&self) -> usize;

    /// Gives back what has been sent, up to [`BATCH`] at a time: `done` gets each cookie that is not [`TxCookie::None`] once, with no
    /// lock held. Answers how many frames were reaped. Asks the device not to interrupt for more. IRQL: DISPATCH_LEVEL.
    fn reap(&self, done: &mut dyn FnMut(&[TxCookie])) -> usize;

    /// Hands out up to `budget` received frames (Ethernet header first, no FCS), up to [`BATCH`] at a time and with no lock held, and
    /// gives their buffers back to the device. Answers how many frames. Asks the device not to interrupt for more. Calls are serialised
    /// by the caller. IRQL: DISPATCH_LEVEL.
    fn receive(&self, budget: usize, frames: &mut dyn FnMut(&[&[u8]])) -> usize;

    /// Lets the device interrupt again. Answers true if something came in meanwhile, for which no interrupt will come: the caller
    /// goes on working instead.
    fn enable_interrupts(&self) -> bool;

    /// Asks the device not to interrupt. Interrupts may still come.
    fn disable_interrupts(&self);

    /// Reads and acknowledges the cause of a line interrupt: None if it was not ours. Not for message-signalled interrupts. IRQL: any.
    fn acknowledge_interrupt(&self) -> Option<Cause>;

    /// Why it stopped working, if it did.
    fn fault(&self) -> Option<Fault>;

    /// Resets the device: when this returns it does not touch memory any more, whoever asked first. Frames in flight come out of the next
    /// [`Nic::reap`]; further frames are refused with [`TxError::Stopped`].
    ///
    /// A device that fails stops by itself, but may take until this is called to let go of what it had.
    fn stop(&self, passive: Passive);

    /// Lets a stopped device work again, as [`Nic::start`] did: it may have failed, or have been without power. Everything it had has
    /// come out of [`Nic::reap`], and nobody is in [`Nic::receive`].
    ///
    /// # Errors
    /// The device refuses: it remains stopped, with that fault if it had none.
    fn restart(&self, passive: Passive) -> Result<(), Fault>;
}

/// How the parts of the driver share the NIC.
pub type Handle = nt::Shared<alloc::boxed::Box<dyn Nic>>;
