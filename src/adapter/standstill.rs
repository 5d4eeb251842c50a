//! The device at rest, and at work again: without power, failed, pulled out.
//!
//! # NDK meanwhile
//! Without power connections end, what is posted is flushed, and what is asked for anew is refused; objects stay, and are as good as
//! before when the power is back. A device that failed or is gone takes everything with it: consumers hear of it in every queue. One that
//! failed is restarted; NDK is disabled until the consumers have closed their adapters, and then enabled again.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use nt::irql::at_dispatch;
use nt::sys::status::{STATUS_DEVICE_NOT_READY, STATUS_DEVICE_REMOVED};
use nt::{Event, EventKind, NoMemory, Passive, debug_print};

use super::{Adapter, BUDGET};

/// A device that fails more often than this without a [`CALM`] in between is not restarted any more.
const MOST_RESTARTS: u32 = 3;

/// A device that has worked for so long starts with a clean slate.
const CALM: Duration = Duration::from_secs(60);

/// Time between two looks whether the last frame has come back.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What is known of a device that is at rest, or has been.
pub struct Standstill {
    /// Set unless somebody stops the device or lets it work.
    free: Event,
    asleep: AtomicBool,
    /// Restarts after failures.
    restarts: AtomicU32,
    /// When the last one was, ns.
    restarted_at: AtomicU64,
}

impl Standstill {
    /// Of a device that works.
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new() -> Result<Self, NoMemory> {
        Ok(Self {
            free: Event::try_new(EventKind::Synchronization, true)?,
            asleep: AtomicBool::new(false),
            restarts: AtomicU32::new(0),
            restarted_at: AtomicU64::new(0),
        })
    }

    /// One at a time stops the device or lets it work.
    fn exclusively(&self, passive: Passive, work: impl FnOnce()) {
        self.free.wait(passive);
        work();
        self.free.set();
    }

    /// Whether a device that has failed is to be restarted.
    fn may_restart(&self) -> bool {
        let now = nt::time::now();
        let before = self.restarted_at.swap(now, Ordering::Relaxed);
        if Duration::from_nanos(now.saturating_sub(before)) >= CALM {
            self.restarts.store(0, Ordering::Relaxed);
        }
        self.restarts.fetch_add(1, Ordering::Relaxed) < MOST_RESTARTS
    }
}

impl Adapter {
    /// Whether the device has no power. IRQL: any.
    pub fn is_asleep(&self) -> bool {
        self.standstill.asleep.load(Ordering::SeqCst)
    }

    /// The device is about to lose its power (OID_PNP_SET_POWER to D1, D2 or D3): everything it had is taken back.
    pub fn sleep(&self, passive: Passive) {
        self.standstill.exclusively(passive, || {
            self.standstill.asleep.store(true, Ordering::SeqCst);
            self.port().refuse(STATUS_DEVICE_NOT_READY);
            self.quiesce(passive);
            // Frames whose DMA list NDIS is still making come back as soon as it is there.
            while !self.sender().is_idle() {
                nt::time::sleep(LOOK_AGAIN, passive);
            }
            self.port().end_connections();
        });
    }

    /// The device has its power again (OID_PNP_SET_POWER to D0), or is not going to lose it.
    pub fn wake(&self, passive: Passive) {
        self.standstill.exclusively(passive, || {
            if self.standstill.asleep.swap(false, Ordering::SeqCst) {
                self.work_again(passive);
            }
        });
    }

    /// The device has been pulled out: nothing will be sent or received any more.
    pub fn remove(&self, passive: Passive) {
        self.removed.store(true, Ordering::Release);
        self.port().refuse(STATUS_DEVICE_REMOVED);
        self.standstill.exclusively(passive, || {
            self.quiesce(passive);
            self.port().fail();
        });
    }

    /// The device has failed: a work item.
    pub(super) fn recover(&self, passive: Passive) {
        self.standstill.exclusively(passive, || {
            // Not if it has been restarted meanwhile, with the power.
            if self.nic().fault().is_none() || self.is_removed() {
                return;
            }
            self.quiesce(passive);
            self.port().fail();
            // One that sleeps is restarted when it wakes.
            if !self.is_asleep() && self.standstill.may_restart() {
                self.work_again(passive);
            }
        });
        self.ndk_work.queue();
    }

    /// Stops the device and takes back all that it had. Nobody is in the service routine when this returns.
    fn quiesce(&self, passive: Passive) {
        self.nic().stop(passive);
        // Whoever is in the service routine, and has taken something back, sees to the end of it.
        nt::flush_dpcs(passive);
        at_dispatch(|| {
            if self.serve(BUDGET) {
                self.serve_soon();
            }
        });
        nt::flush_dpcs(passive);
    }

    /// Lets the device work, if it does.
    fn work_again(&self, passive: Passive) {
        if self.is_removed() {
            return;
        }
        match self.nic().restart(passive) {
            Ok(()) => {
                self.port().nic_found();
                self.fault_logged.store(false, Ordering::Release);
            }
            Err(fault) => debug_print!(Error, "no restart: {fault}"),
        }
        self.link_watch.look();
        self.again.queue();
    }
}
