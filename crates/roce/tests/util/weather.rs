//! What a wire does to the frames of one direction, stage by stage.

use roce::{Instant, Rng};
use std::time::Duration;

/// The stages of one direction. A frame meets them in the order of the fields; probabilities are per mille and frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    pub bottleneck: Option<Bottleneck>,
    /// Frames lost independently of one another.
    pub loss: u32,
    pub bursts: Option<Bursts>,
    /// Frames of which one byte, any of them, becomes another.
    pub corruption: u32,
    /// Frames that arrive twice. Each copy has a jitter of its own.
    pub duplication: u32,
    pub delay: Duration,
    /// Up to so much more, less than that: reorders what is closer together.
    pub jitter: Duration,
}

/// A slow link behind a queue of finite length: a frame leaves when those before it and it itself have been sent; the last one to come
/// is dropped where there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bottleneck {
    /// Bits per second, more than 0. Only the bytes of the frame count, as it is here: nothing for preamble, FCS and gap.
    pub rate: u64,
    /// Bytes that wait or are being sent at most. A frame that finds nobody there always fits.
    pub queue: u64,
    /// Marks frames of ECN capable transports "congestion experienced" that find more bytes than this there (RFC 3168).
    pub mark_above: Option<u64>,
}

/// Losses that come together, by the model of Gilbert and Elliott: the wire is good or bad, and may change with every frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bursts {
    /// A good wire becomes bad with this frame.
    pub begin: u32,
    /// A bad wire becomes good with this frame: a burst is `1000 / end` frames long on average.
    pub end: u32,
    /// Frames lost while the wire is bad; while it is good none are.
    pub loss: u32,
    /// A burst ends after this time, if frames have not ended it before.
    pub longest: Duration,
}

impl Weather {
    /// Five microseconds, and nothing else.
    pub const CALM: Weather = Weather {
        bottleneck: None,
        loss: 0,
        bursts: None,
        corruption: 0,
        duplication: 0,
        delay: Duration::from_micros(5),
        jitter: Duration::ZERO,
    };
}

/// What became of the frames of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    pub sent: u64,
    /// By chance, alone or in bursts.
    pub lost: u64,
    /// Found the queue of the bottleneck full.
    pub overflowed: u64,
    /// Marked "congestion experienced".
    pub marked: u64,
    pub corrupted: u64,
    pub duplicated: u64,
}

/// A generator for each stage that leaves something to chance, so that none has to do with how often another is asked.
struct Chances {
    loss: Rng,
    bursts: Rng,
    corruption: Rng,
    duplication: Rng,
    jitter: Rng,
}

fn chance(rng: &mut Rng, per_mille: u32) -> bool {
    per_mille > 0 && rng.next_u32() % 1000 < per_mille
}

/// One direction of a wire.
pub struct Way {
    pub weather: Weather,
    pub tally: Tally,
    chances: Chances,
    /// When the bottleneck has sent all it holds.
    free: Instant,
    /// A burst is on, until then at the latest.
    bad: Option<Instant>,
}

impl Way {
    pub fn new(seed: u64) -> Way {
        let mut rng = Rng::new(seed);
        let mut stage = || Rng::new(rng.next_u64());
        Way {
            weather: Weather::CALM,
            tally: Tally::default(),
            chances: Chances {
                loss: stage(),
                bursts: stage(),
                corruption: stage(),
                duplication: stage(),
                jitter: stage(),
            },
            free: Instant::ZERO,
            bad: None,
        }
    }

    /// Takes a frame now, and tells when it arrives, as what, and how often.
    pub fn pass(
        &mut self,
        now: Instant,
        mut frame: Vec<u8>,
        mut arrives: impl FnMut(Instant, Vec<u8>),
    ) {
        self.tally.sent += 1;
        let weather = self.weather;
        let mut at = now;
        if let Some(bottleneck) = weather.bottleneck {
            let Some(left) = self.squeeze(bottleneck, now, &mut frame) else {
                self.tally.overflowed += 1;
                return;
            };
            at = left;
        }
        if chance(&mut self.chances.loss, weather.loss) || self.strikes(now, weather.bursts) {
            self.tally.lost += 1;
            return;
        }
        if chance(&mut self.chances.corruption, weather.corruption) {
            let rng = &mut self.chances.corruption;
            let byte = rng.next_u32() as usize % frame.len();
            frame[byte] ^= 1 + (rng.next_u32() % 255) as u8;
            self.tally.corrupted += 1;
        }
        if chance(&mut self.chances.duplication, weather.duplication) {
            self.tally.duplicated += 1;
            arrives(self.travel(at), frame.clone());
        }
        arrives(self.travel(at), frame);
    }

    /// When the frame has left the bottleneck; `None` if it finds no room.
    fn squeeze(&mut self, b: Bottleneck, now: Instant, frame: &mut [u8]) -> Option<Instant> {
        const SECOND: u128 = 1_000_000_000;
        let bits = |bytes: usize| bytes as u128 * 8;
        let waiting = self.free.since(now).as_nanos() * u128::from(b.rate) / SECOND / 8;
        let waiting = waiting as u64;
        if waiting > 0 && waiting + frame.len() as u64 > b.queue {
            return None;
        }
        if b.mark_above.is_some_and(|limit| waiting > limit) && mark(frame) {
            self.tally.marked += 1;
        }
        let takes = (bits(frame.len()) * SECOND).div_ceil(u128::from(b.rate));
        self.free = self.free.max(now).after_nanos(takes as u64);
        Some(self.free)
    }

    /// A burst takes the frame.
    fn strikes(&mut self, now: Instant, bursts: Option<Bursts>) -> bool {
        let Some(bursts) = bursts else {
            return false;
        };
        let rng = &mut self.chances.bursts;
        self.bad = match self.bad.filter(|end| now < *end) {
            Some(_) if chance(rng, bursts.end) => None,
            None if chance(rng, bursts.begin) => Some(now.after(bursts.longest)),
            same => same,
        };
        self.bad.is_some() && chance(rng, bursts.loss)
    }

    fn travel(&mut self, at: Instant) -> Instant {
        let jitter = match self.weather.jitter.as_nanos() as u64 {
            0 => 0,
            j => self.chances.jitter.next_u64() % j,
        };
        at.after(self.weather.delay).after_nanos(jitter)
    }
}

/// Marks a frame "congestion experienced", if its sender is capable of ECN. The ICRC does not cover what changes.
fn mark(frame: &mut [u8]) -> bool {
    let ip = match frame[12..14] {
        [0x81, 0x00] => &mut frame[18..],
        _ => &mut frame[14..],
    };
    if ip[0] >> 4 == 6 {
        // The traffic class lies across two bytes.
        if ip[1] & 0x30 == 0 {
            return false;
        }
        ip[1] |= 0x30;
        return true;
    }
    if ip[1] & 3 == 0 {
        return false;
    }
    ip[1] |= 3;
    let header = usize::from(ip[0] & 15) * 4;
    ip[10..12].fill(0);
    let sum = ip[..header]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
    true
}
