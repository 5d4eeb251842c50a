//! When to read the state of the link from the device: registers, each of them an exit from the virtual machine.
//!
//! A device with a message, or a cause, for changes of its configuration is read when it says so. One with a single message for
//! everything may have changed whenever it interrupts: it is read every [`APART`] at most, the last time after the last interrupt.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;

use nt::{NoMemory, Passive, Timer};

use super::Adapter;
use crate::nic::Vectors;

/// Time between two readings of a device that cannot say when it has changed. Not less than the clock's tick.
const APART: Duration = Duration::from_millis(20);

/// The state of the link is read when this says so.
pub struct LinkWatch {
    /// Interrupts do not say whether it is the configuration that has changed.
    shared: AtomicBool,
    changed: AtomicBool,
    perhaps: AtomicBool,
    /// When the link was read last because it might have changed, ns.
    read_at: AtomicU64,
    /// Runs out when it may be read again.
    later: Timer<Adapter>,
}

impl LinkWatch {
    /// The link has to be read.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        Ok(Self {
            shared: AtomicBool::new(false),
            changed: AtomicBool::new(true),
            perhaps: AtomicBool::new(false),
            read_at: AtomicU64::new(0),
            later: Timer::try_new(Adapter::look_at_link)?,
        })
    }

    /// # Safety
    /// As of [`Adapter::bind`].
    pub unsafe fn bind(&self, adapter: *const Adapter) {
        // SAFETY: the caller's promise.
        unsafe { self.later.bind(adapter) };
    }

    /// Which interrupts the device is to use.
    pub fn expect(&self, vectors: Vectors) {
        let shared = matches!(vectors, Vectors::Messages { config, queues } if config == queues);
        self.shared.store(shared, Ordering::Release);
    }

    /// The interrupt came that the device uses for changes of its configuration. IRQL: any.
    pub fn note(&self) {
        if self.shared.load(Ordering::Acquire) {
            self.perhaps.store(true, Ordering::Release);
        } else {
            self.look();
        }
    }

    /// Has the link read in the next round of the service routine. IRQL: any.
    pub fn look(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// Whether the link has to be read now. Called by the service routine only. IRQL: DISPATCH_LEVEL.
    pub fn is_due(&self) -> bool {
        let perhaps = self.perhaps.swap(false, Ordering::AcqRel);
        if self.changed.swap(false, Ordering::AcqRel) {
            return true;
        }
        if !perhaps {
            return false;
        }
        let (now, before) = (nt::time::now(), self.read_at.load(Ordering::Relaxed));
        let next = before.saturating_add(APART.as_nanos() as u64);
        if before > 0 && now < next {
            // Setting it anew changes nothing: it runs out at the same time.
            self.later.set_at(next);
            return false;
        }
        self.read_at.store(now.max(1), Ordering::Relaxed);
        true
    }

    /// Ends it. No interrupt comes any more, and the service routine does not run.
    pub fn stop(&self, passive: Passive) {
        self.later.stop(passive);
    }
}
