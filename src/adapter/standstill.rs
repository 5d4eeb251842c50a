//! The device at rest, and at work again: without power, failed, pulled out.
//!
//! # NDK meanwhile
//! Without power connections end, what is posted is flushed, and what is asked for anew is refused; objects stay, and are as good as
//! before when the power is back. A device that failed or is gone takes everything with it: consumers hear of it in every queue. One that
//! failed is restarted; NDK is disabled until the consumers have closed their adapters, and then enabled again.
//!
//! One that fails again and again is left alone for a while before it is restarted, longer every time: what is behind it may be away for
//! minutes, and nobody else brings it back.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use nt::irql::at_dispatch;
use nt::sys::status::{STATUS_DEVICE_NOT_READY, STATUS_DEVICE_REMOVED};
use nt::{Event, EventKind, NoMemory, Passive, Timer, debug_print};

use super::{Adapter, BUDGET};
use crate::trace::{
    DeviceLeftAlone, DeviceNotRestarted, DeviceRemoved, DeviceRestarted, PowerChanged,
};

/// A device that fails more often than this without a [`CALM`] in between is not restarted at once any more.
const PROMPT_RESTARTS: u32 = 3;

/// How long it is left alone then at first; the next time twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(30);

/// It is not left alone for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// After so long NDK tries again to begin anew, if there was no memory for it.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// A device that has worked for so long starts with a clean slate.
const CALM: Duration = Duration::from_secs(60);

/// Time between two looks whether the last frame has come back.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What is known of a device that is at rest, or has been.
pub struct Standstill {
    /// Set unless somebody stops the device or lets it work.
    free: Event,
    asleep: AtomicBool,
    /// Failures without a [`CALM`] in between.
    failures: AtomicU32,
    /// When it was last restarted, ns.
    restarted_at: AtomicU64,
    /// A device that failed is left alone until the timer has come.
    paused: AtomicBool,
    /// It has.
    over: AtomicBool,
    timer: Timer<Adapter>,
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
            failures: AtomicU32::new(0),
            restarted_at: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            over: AtomicBool::new(false),
            timer: Timer::try_new(Adapter::on_pause_over)?,
        })
    }

    /// Lets the timer find its adapter.
    ///
    /// # Safety
    /// `adapter` stays at this address until this is dropped.
    pub unsafe fn bind(&self, adapter: *const Adapter) {
        // SAFETY: by the contract of this function.
        unsafe { self.timer.bind(adapter) };
    }

    /// The adapter is shut down, and its work items are closed: nothing is tried again.
    pub fn stop(&self, passive: Passive) {
        self.timer.stop(passive);
    }

    /// One at a time stops the device or lets it work.
    fn exclusively(&self, passive: Passive, work: impl FnOnce()) {
        self.free.wait(passive);
        work();
        self.free.set();
    }

    /// The device has failed, or could not be restarted: for how long it is to be left alone.
    fn pause(&self) -> Duration {
        let worked = nt::time::now().saturating_sub(self.restarted_at.load(Ordering::Relaxed));
        if Duration::from_nanos(worked) >= CALM {
            self.failures.store(0, Ordering::Relaxed);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        self.failures
            .store(failures.saturating_add(1), Ordering::Relaxed);
        match failures.checked_sub(PROMPT_RESTARTS) {
            None => Duration::ZERO,
            Some(longer) => FIRST_PAUSE
                .saturating_mul(2_u32.saturating_pow(longer))
                .min(LONGEST_PAUSE),
        }
    }

    /// It is being restarted.
    fn begin(&self) {
        self.paused.store(false, Ordering::Release);
        self.restarted_at.store(nt::time::now(), Ordering::Relaxed);
    }

    /// Leaves it alone.
    fn leave_alone(&self, pause: Duration) {
        self.over.store(false, Ordering::Release);
        self.paused.store(true, Ordering::Release);
        self.timer.set(pause);
    }

    /// Whether it has been left alone for long enough; None if it was not to be left alone.
    fn take_pause(&self) -> Option<bool> {
        if !self.paused.load(Ordering::Acquire) {
            return None;
        }
        let over = self.over.swap(false, Ordering::AcqRel);
        self.paused.store(!over, Ordering::Release);
        Some(over)
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
            self.trace()
                .write(|adapter| PowerChanged { adapter, on: false });
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
                self.trace()
                    .write(|adapter| PowerChanged { adapter, on: true });
                self.work_again(passive);
            }
        });
        // NDK that went with a failure before or in the sleep comes back with the device.
        self.ndk_work.queue();
    }

    /// The device has been pulled out: nothing will be sent or received any more.
    pub fn remove(&self, passive: Passive) {
        self.removed.store(true, Ordering::Release);
        self.trace().write(|adapter| DeviceRemoved { adapter });
        self.port().refuse(STATUS_DEVICE_REMOVED);
        self.standstill.exclusively(passive, || {
            self.quiesce(passive);
            self.port().fail();
        });
    }

    /// The device has failed, or has been left alone for long enough after that: a work item.
    pub(super) fn recover(&self, passive: Passive) {
        self.standstill.exclusively(passive, || {
            // Not if it has been restarted meanwhile, with the power.
            if self.nic().fault().is_none() || self.is_removed() {
                return;
            }
            let pause = self.standstill.take_pause();
            if pause == Some(false) {
                return;
            }
            if pause.is_none() {
                self.quiesce(passive);
                self.port().fail();
            }
            // One that sleeps is restarted when it wakes.
            if self.is_asleep() {
                return;
            }
            if pause.is_none() {
                let pause = self.standstill.pause();
                if !pause.is_zero() {
                    return self.leave_alone(pause);
                }
            }
            self.work_again(passive);
        });
        self.ndk_work.queue();
    }

    /// The timer: time to try again what was put off. IRQL: DISPATCH_LEVEL.
    fn on_pause_over(&self) {
        self.standstill.over.store(true, Ordering::Release);
        self.recovery.queue();
    }

    /// There was no memory for NDK to begin anew: it will be tried again.
    pub(super) fn renew_later(&self) {
        self.standstill.timer.set(RENEW_AGAIN);
    }

    /// It is restarted when so much time is up.
    fn leave_alone(&self, pause: Duration) {
        self.trace().write(|adapter| DeviceLeftAlone {
            adapter,
            seconds: pause.as_secs(),
        });
        self.standstill.leave_alone(pause);
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
        self.standstill.begin();
        match self.nic().restart(passive) {
            Ok(()) => {
                self.trace().write(|adapter| DeviceRestarted { adapter });
                self.port().nic_found();
                self.fault_logged.store(false, Ordering::Release);
            }
            Err(fault) => {
                debug_print!(Error, "no restart: {fault}");
                self.trace().write(|adapter| DeviceNotRestarted {
                    adapter,
                    fault: fault.text().into(),
                });
                let pause = self.standstill.pause().max(FIRST_PAUSE);
                self.leave_alone(pause);
            }
        }
        self.link_watch.look();
        self.again.queue();
    }
}
