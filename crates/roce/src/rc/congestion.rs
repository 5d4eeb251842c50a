//! DCQCN at both ends of a connection: a notification point, which tells the peer that what it sends meets congestion, and a reaction
//! point, which limits the rate of what is sent while the peer says so.
//!
//! Source: "Congestion Control for Large-Scale RDMA Deployments" (SIGCOMM 2015), section 3, whose names are those of [`Dcqcn`]'s
//! documentation. As in ConnectX, who is back at the rate of the link is not limited any more, and forgets how bad the congestion was.
//!
//! It has no timers. What time does to rates is made up for when the rates are asked for; only a packet that waits needs a deadline.

use crate::ecn::Dcqcn;
use crate::table::{OutOfMemory, try_vec};
use crate::time::Instant;
use alloc::boxed::Box;

/// 1 as a fraction: of an alpha.
const ONE: u32 = 1 << 20;

/// Periods that are made up for at a time, at most. A queue pair that was idle for longer recovers a little later.
const MOST_PERIODS: u32 = 1024;

/// Who waits longer than this between packets asks for an acknowledgement with each: the peer's answers come often enough for any timeout.
const SLOW_NANOS: u64 = 100_000;

/// Kilobits in a megabit.
const KILO: u32 = 1000;

/// What congestion has to do with one queue pair: nothing, at the cost of a word, if the engine does not react to it.
#[derive(Default)]
pub(super) struct Congestion(Option<Box<[State; 1]>>);

#[derive(Clone, Default)]
struct State {
    limiter: Limiter,
    /// The packet to send next waits for its time.
    waits: bool,
    /// A notification is to be sent.
    owes: bool,
    /// No other notification before this.
    next_notification: Instant,
}

impl Congestion {
    /// For a queue pair of an engine that reacts like that.
    pub fn try_new(dcqcn: Option<&Dcqcn>) -> Result<Congestion, OutOfMemory> {
        if dcqcn.is_none() {
            return Ok(Congestion(None));
        }
        let one = try_vec(1, |_| State::default())?.into_boxed_slice();
        // One element, as it should be.
        Ok(Congestion(Box::try_from(one).ok()))
    }

    fn with<'a>(&'a mut self, dcqcn: Option<&'a Dcqcn>) -> Option<(&'a mut State, &'a Dcqcn)> {
        let [state] = &mut **self.0.as_mut()?;
        Some((state, dcqcn?))
    }

    fn state(&self) -> Option<&State> {
        let [state] = &**self.0.as_ref()?;
        Some(state)
    }

    /// Begins a connection: not limited.
    pub fn connect(&mut self, dcqcn: Option<&Dcqcn>) {
        if let Some((state, dcqcn)) = self.with(dcqcn) {
            *state = State::default();
            state.limiter.release(dcqcn);
        }
    }

    /// A packet of the peer came through congestion: it is told, if it has not been lately.
    pub fn marked(&mut self, now: Instant, dcqcn: Option<&Dcqcn>) {
        if let Some((state, dcqcn)) = self.with(dcqcn)
            && state.next_notification <= now
        {
            state.owes = true;
            state.next_notification = now.after_micros(dcqcn.cnp_us);
        }
    }

    /// Whether a notification is to be sent.
    pub fn owes_notification(&self) -> bool {
        self.state().is_some_and(|state| state.owes)
    }

    /// The same; it is sent now.
    pub fn take_notification(&mut self) -> bool {
        match &mut self.0 {
            Some(state) => {
                let [state] = &mut **state;
                core::mem::take(&mut state.owes)
            }
            None => false,
        }
    }

    /// The peer has seen congestion.
    pub fn notified(&mut self, now: Instant, dcqcn: Option<&Dcqcn>) {
        if let Some((state, dcqcn)) = self.with(dcqcn) {
            state.limiter.cut(now, dcqcn);
        }
    }

    /// Whether a packet with payload may be sent now. If not, it waits, and there is a [deadline](Self::deadline).
    pub fn admits(&mut self, now: Instant, dcqcn: Option<&Dcqcn>) -> bool {
        let Some((state, dcqcn)) = self.with(dcqcn) else {
            return true;
        };
        state.limiter.catch_up(now, dcqcn);
        state.waits = state.limiter.is_limited(dcqcn) && state.limiter.next > now;
        !state.waits
    }

    /// A frame of `bytes` was sent that had been [admitted](Self::admits).
    pub fn sent(&mut self, now: Instant, bytes: u64, dcqcn: Option<&Dcqcn>) {
        if let Some((state, dcqcn)) = self.with(dcqcn) {
            state.limiter.sent(now, bytes, dcqcn);
        }
    }

    /// Whether packets of `bytes` are far apart.
    pub fn is_slow(&mut self, bytes: u32, dcqcn: Option<&Dcqcn>) -> bool {
        self.with(dcqcn).is_some_and(|(state, dcqcn)| {
            state.limiter.is_limited(dcqcn) && state.limiter.gap(u64::from(bytes)) > SLOW_NANOS
        })
    }

    /// When what waits may be sent.
    pub fn deadline(&self) -> Option<Instant> {
        self.state()
            .filter(|state| state.waits)
            .map(|state| state.limiter.next)
    }

    /// Time has passed: what waited is looked at again.
    pub fn on_timer(&mut self, now: Instant) {
        if let Some(state) = &mut self.0 {
            let [state] = &mut **state;
            state.waits &= state.limiter.next > now;
        }
    }
}

/// The reaction point. Rates are in kilobits a second.
#[derive(Clone, Default)]
struct Limiter {
    /// R_C, the rate of now: that of the link if there is no limit.
    rate: u32,
    /// R_T, the rate to come back to.
    target: u32,
    /// How bad the congestion is, a fraction of [`ONE`].
    alpha: u32,
    /// Bytes sent since the byte counter expired.
    bytes: u64,
    /// How often the timer and the byte counter have expired since the last cut.
    timer_rounds: u32,
    byte_rounds: u32,
    /// When alpha falls.
    alpha_at: Instant,
    /// When the timer expires.
    timer_at: Instant,
    /// Notifications before this are the same congestion as the last.
    next_cut: Instant,
    /// When the next packet may be sent.
    next: Instant,
}

impl Limiter {
    fn is_limited(&self, dcqcn: &Dcqcn) -> bool {
        self.rate < link_rate(dcqcn)
    }

    /// No limit, and the worst is expected of the next congestion.
    fn release(&mut self, dcqcn: &Dcqcn) {
        self.rate = link_rate(dcqcn);
        self.target = self.rate;
        self.alpha = ONE;
    }

    /// A notification has arrived.
    fn cut(&mut self, now: Instant, dcqcn: &Dcqcn) {
        self.catch_up(now, dcqcn);
        if now < self.next_cut {
            return;
        }
        if !self.is_limited(dcqcn) {
            // Nothing has kept account of what was sent.
            self.next = now;
        }
        self.target = self.rate;
        let part = u64::from(self.rate) * u64::from(self.alpha) / u64::from(2 * ONE);
        // At most half of the rate.
        let least = dcqcn.min_mbps.saturating_mul(KILO).min(self.rate);
        self.rate = self.rate.saturating_sub(part as u32).max(least);
        let gain = dcqcn.gain_shift;
        self.alpha = (self.alpha - (self.alpha >> gain) + (ONE >> gain)).min(ONE);
        self.bytes = 0;
        self.timer_rounds = 0;
        self.byte_rounds = 0;
        self.alpha_at = now.after_micros(dcqcn.alpha_us);
        self.timer_at = now.after_micros(dcqcn.timer_us);
        self.next_cut = now.after_micros(dcqcn.cut_us);
    }

    /// Does what was due at alpha's and the rate's timer until now.
    fn catch_up(&mut self, now: Instant, dcqcn: &Dcqcn) {
        let mut periods = 0;
        while self.is_limited(dcqcn) && self.timer_at <= now && periods < MOST_PERIODS {
            self.timer_at = self.timer_at.after_micros(dcqcn.timer_us);
            self.timer_rounds = self.timer_rounds.saturating_add(1);
            self.increase(dcqcn);
            periods += 1;
        }
        if !self.is_limited(dcqcn) {
            return;
        }
        if self.timer_at <= now {
            self.timer_at = now.after_micros(dcqcn.timer_us);
        }
        periods = 0;
        while self.alpha_at <= now && periods < MOST_PERIODS {
            self.alpha_at = self.alpha_at.after_micros(dcqcn.alpha_us);
            // Rounded up, so that it comes to nothing in the end.
            self.alpha -= self.alpha.div_ceil(1 << dcqcn.gain_shift);
            periods += 1;
        }
        if self.alpha_at <= now {
            self.alpha_at = now.after_micros(dcqcn.alpha_us);
        }
    }

    /// The timer or the byte counter has expired.
    fn increase(&mut self, dcqcn: &Dcqcn) {
        let rounds = u32::from(dcqcn.recovery_rounds);
        let step = if self.timer_rounds.max(self.byte_rounds) <= rounds {
            // Fast recovery.
            0
        } else if self.timer_rounds.min(self.byte_rounds) > rounds {
            dcqcn.hyper_mbps
        } else {
            dcqcn.additive_mbps
        };
        self.target = self
            .target
            .saturating_add(step.saturating_mul(KILO))
            .min(link_rate(dcqcn));
        // Rounded up, so that it gets there.
        let way = self.target.saturating_sub(self.rate);
        self.rate = self.rate.saturating_add(way.div_ceil(2));
        if !self.is_limited(dcqcn) {
            self.release(dcqcn);
        }
    }

    /// Nanoseconds that so many bytes take.
    fn gap(&self, bytes: u64) -> u64 {
        bytes.saturating_mul(8 * 1_000_000) / u64::from(self.rate.max(1))
    }

    fn sent(&mut self, now: Instant, bytes: u64, dcqcn: &Dcqcn) {
        if !self.is_limited(dcqcn) {
            return;
        }
        // Who is asked late makes up for it, but not for more.
        let late = u64::from(dcqcn.catch_up_us) * 1000;
        let earliest = Instant(now.0.saturating_sub(late));
        self.next = self.next.max(earliest).after_nanos(self.gap(bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes >= u64::from(dcqcn.byte_counter) {
            self.bytes = 0;
            self.byte_rounds = self.byte_rounds.saturating_add(1);
            self.increase(dcqcn);
        }
    }
}

/// The rate of who is not limited.
fn link_rate(dcqcn: &Dcqcn) -> u32 {
    dcqcn.link_mbps.saturating_mul(KILO)
}

#[cfg(test)]
mod tests;
