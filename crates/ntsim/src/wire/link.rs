//! The link from a switch port to what sits there, and what goes wrong on it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use super::Frame;
use crate::world::rng::Rng;

/// Bytes that a frame takes on the medium besides its own: preamble, FCS, gap between frames.
const OVERHEAD: u64 = 24;

/// What happens to frames on the way from the switch to a port. Probabilities are per frame, from 0 to 1.
///
/// Only this direction is affected: the loss from A to B is that of B's link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    /// A frame is lost.
    pub loss: f64,
    /// A frame arrives twice.
    pub duplicate: f64,
    /// A frame is overtaken by up to [`LinkConfig::reorder_depth`] frames sent after it.
    pub reorder: f64,
    /// How many frames overtake at most; how many do is drawn for each.
    pub reorder_depth: u32,
    /// A frame that is waiting to be overtaken arrives after this time in any case.
    pub reorder_hold: Duration,
    /// One bit of a frame, drawn from all its bits, is inverted.
    pub corrupt: f64,
    /// Every frame is on the way that long.
    pub delay: Duration,
    /// And up to that much longer, drawn for each; order is kept.
    pub jitter: Duration,
    /// Bits per second; None for no limit.
    pub bandwidth: Option<u64>,
    /// With a limited bandwidth: how many frames wait before further ones are dropped.
    pub queue: usize,
}

impl Default for LinkConfig {
    /// A perfect link.
    fn default() -> Self {
        LinkConfig {
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_depth: 4,
            reorder_hold: Duration::from_micros(100),
            corrupt: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            bandwidth: None,
            queue: 1000,
        }
    }
}

impl LinkConfig {
    fn is_perfect(&self) -> bool {
        self.loss <= 0.0
            && self.duplicate <= 0.0
            && self.reorder <= 0.0
            && self.corrupt <= 0.0
            && self.delay.is_zero()
            && self.jitter.is_zero()
            && self.bandwidth.is_none()
    }
}

/// What a test's filter wants done with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// What the link's configuration makes of it.
    #[default]
    Pass,
    /// Lose it.
    Drop,
    /// Deliver it twice.
    Duplicate,
    /// Invert this bit, counted from the frame's first; beyond its end: as `Pass`.
    Corrupt(usize),
    /// Deliver it after so many later frames, or after [`LinkConfig::reorder_hold`].
    Overtake(u32),
    /// Deliver it later; other frames are not held up.
    Delay(Duration),
}

/// A filter that a test puts on a link.
type Filter = Box<dyn FnMut(&Frame) -> Verdict>;

/// What was decided for one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) lost: bool,
    /// By the filter, not by chance.
    pub(super) filtered: bool,
    /// The bit to invert.
    pub(super) corrupt: Option<usize>,
    pub(super) duplicate: bool,
    /// How many frames overtake it.
    pub(super) overtake: u32,
    /// Extra time on the way, in nanoseconds.
    pub(super) delay: u64,
}

impl Fate {
    /// In words, for a recording.
    pub(super) fn describe(&self, towards: &str) -> Vec<String> {
        let mut comments = Vec::new();
        if self.filtered && self.lost {
            comments.push(format!("dropped by a filter on the way to {towards}"));
        } else if self.lost {
            comments.push(format!("lost on the way to {towards}"));
        }
        if let Some(bit) = self.corrupt {
            comments.push(format!("bit {bit} inverted on the way to {towards}"));
        }
        if self.duplicate {
            comments.push(format!("duplicated on the way to {towards}"));
        }
        if self.overtake > 0 {
            comments.push(format!(
                "overtaken by {} on the way to {towards}",
                self.overtake
            ));
        }
        if self.delay > 0 {
            comments.push(format!("{} ns late on the way to {towards}", self.delay));
        }
        comments
    }
}

/// Chance, one stream per kind of misfortune: adding one kind does not change when another strikes.
struct Dice {
    loss: Rng,
    duplicate: Rng,
    reorder: Rng,
    corrupt: Rng,
    jitter: Rng,
}

/// One frame under way.
struct InFlight {
    arrives: u64,
    frame: Frame,
}

/// When a frame gets to the other end.
pub(super) enum Passage {
    /// At once.
    Now(Frame),
    /// Later: see [`Link::await_arrival`].
    Later,
    /// Not at all: the queue is full.
    QueueFull,
}

pub(super) struct Link {
    config: Cell<LinkConfig>,
    /// Nothing can happen to frames: the fast path.
    perfect: Cell<bool>,
    dice: Dice,
    filter: RefCell<Option<Filter>>,
    /// When the medium is free again.
    busy_until: Cell<u64>,
    /// When the frames that wait for the medium leave.
    departures: RefCell<VecDeque<u64>>,
    line: RefCell<VecDeque<InFlight>>,
    /// Somebody will look at `line` when its first frame arrives.
    awaited: Cell<bool>,
    /// Frames waiting to be overtaken, with how many still have to.
    held: RefCell<Vec<(u32, u64, Frame)>>,
    held_count: Cell<u64>,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Link {
    pub(super) fn new(config: LinkConfig, rng: &Rng) -> Link {
        let link = Link {
            config: Cell::new(config),
            perfect: Cell::new(false),
            dice: Dice {
                loss: rng.fork(),
                duplicate: rng.fork(),
                reorder: rng.fork(),
                corrupt: rng.fork(),
                jitter: rng.fork(),
            },
            filter: RefCell::default(),
            busy_until: Cell::new(0),
            departures: RefCell::default(),
            line: RefCell::default(),
            awaited: Cell::new(false),
            held: RefCell::default(),
            held_count: Cell::new(0),
        };
        link.reconsider();
        link
    }

    pub(super) fn configure(&self, config: LinkConfig) {
        self.config.set(config);
        self.reconsider();
    }

    pub(super) fn config(&self) -> LinkConfig {
        self.config.get()
    }

    pub(super) fn set_filter(&self, filter: Option<Filter>) {
        let old = self.filter.replace(filter);
        self.reconsider();
        drop(old);
    }

    fn reconsider(&self) {
        self.perfect
            .set(self.config.get().is_perfect() && self.filter.borrow().is_none());
    }

    /// Nothing can happen to a frame, and none is under way that it could overtake.
    #[inline]
    pub(super) fn is_clear(&self) -> bool {
        self.perfect.get() && self.held.borrow().is_empty() && self.line.borrow().is_empty()
    }

    /// Decides what happens to a frame.
    pub(super) fn decide(&self, frame: &Frame) -> Fate {
        let mut fate = Fate::default();
        if self.perfect.get() {
            return fate;
        }
        // The filter is taken out meanwhile: it may send frames, or replace itself.
        let filter = self.filter.borrow_mut().take();
        if let Some(mut filter) = filter {
            let verdict = filter(frame);
            self.filter.borrow_mut().get_or_insert(filter);
            match verdict {
                Verdict::Pass => {}
                Verdict::Drop => fate.lost = true,
                Verdict::Duplicate => fate.duplicate = true,
                Verdict::Corrupt(bit) if bit < frame.len() * 8 => fate.corrupt = Some(bit),
                Verdict::Corrupt(_) => {}
                Verdict::Overtake(frames) => fate.overtake = frames,
                Verdict::Delay(delay) => fate.delay = nanoseconds(delay),
            }
            if verdict != Verdict::Pass {
                fate.filtered = true;
                return fate;
            }
        }
        let config = self.config.get();
        if self.dice.loss.chance(config.loss) {
            fate.lost = true;
            return fate;
        }
        if self.dice.corrupt.chance(config.corrupt) {
            let bits = frame.len() as u64 * 8;
            fate.corrupt = Some(self.dice.corrupt.below(bits) as usize);
        }
        fate.duplicate = self.dice.duplicate.chance(config.duplicate);
        if self.dice.reorder.chance(config.reorder) {
            let depth = u64::from(config.reorder_depth.max(1));
            fate.overtake = 1 + self.dice.reorder.below(depth) as u32;
        }
        fate
    }

    /// Puts a frame on the medium.
    pub(super) fn pass(&self, now: u64, frame: Frame) -> Passage {
        let config = self.config.get();
        let mut line = self.line.borrow_mut();
        let mut leaves = now;
        if let Some(rate) = config.bandwidth {
            let mut departures = self.departures.borrow_mut();
            while departures.front().is_some_and(|&at| at <= now) {
                departures.pop_front();
            }
            if departures.len() > config.queue {
                return Passage::QueueFull;
            }
            let bits = u128::from(frame.len() as u64 + OVERHEAD) * 8;
            let takes = bits * 1_000_000_000 / u128::from(rate.max(1));
            leaves = self
                .busy_until
                .get()
                .max(now)
                .saturating_add(u64::try_from(takes).unwrap_or(u64::MAX));
            self.busy_until.set(leaves);
            departures.push_back(leaves);
        }
        let mut arrives = leaves.saturating_add(nanoseconds(config.delay));
        if !config.jitter.is_zero() {
            arrives = arrives.saturating_add(self.dice.jitter.below(nanoseconds(config.jitter)));
        }
        if let Some(last) = line.back() {
            arrives = arrives.max(last.arrives);
        }
        if arrives <= now && line.is_empty() {
            return Passage::Now(frame);
        }
        line.push_back(InFlight { arrives, frame });
        Passage::Later
    }

    /// When the next frame under way arrives, if the caller is to call [`Link::arrival`] then: nobody was told before.
    pub(super) fn await_arrival(&self) -> Option<u64> {
        if self.awaited.get() {
            return None;
        }
        let line = self.line.borrow();
        let first = line.front()?;
        self.awaited.set(true);
        Some(first.arrives)
    }

    /// Takes a frame that has arrived. After the last one ask [`Link::await_arrival`] again.
    pub(super) fn arrival(&self, now: u64) -> Option<Frame> {
        self.awaited.set(false);
        let mut line = self.line.borrow_mut();
        if line.front()?.arrives > now {
            return None;
        }
        line.pop_front().map(|first| first.frame)
    }

    /// Keeps a frame back until so many others have passed. Returns its name for [`Link::release`].
    pub(super) fn hold(&self, overtake: u32, frame: Frame) -> u64 {
        let name = self.held_count.get();
        self.held_count.set(name + 1);
        self.held.borrow_mut().push((overtake, name, frame));
        name
    }

    /// Says that a frame has passed; returns one that has now been overtaken often enough. Frames returned do not
    /// count as passing.
    pub(super) fn overtaken(&self, count: bool) -> Option<Frame> {
        let mut held = self.held.borrow_mut();
        if count {
            for (remaining, ..) in held.iter_mut() {
                *remaining = remaining.saturating_sub(1);
            }
        }
        let index = held.iter().position(|(remaining, ..)| *remaining == 0)?;
        Some(held.remove(index).2)
    }

    /// Takes back a frame kept with [`Link::hold`], if it is still there.
    pub(super) fn release(&self, name: u64) -> Option<Frame> {
        let mut held = self.held.borrow_mut();
        let index = held.iter().position(|(_, held, _)| *held == name)?;
        Some(held.remove(index).2)
    }

    /// Loses everything under way.
    pub(super) fn clear(&self) -> usize {
        let line = std::mem::take(&mut *self.line.borrow_mut());
        let held = std::mem::take(&mut *self.held.borrow_mut());
        self.departures.borrow_mut().clear();
        line.len() + held.len()
    }

    pub(super) fn hold_time(&self) -> u64 {
        nanoseconds(self.config.get().reorder_hold)
    }
}
