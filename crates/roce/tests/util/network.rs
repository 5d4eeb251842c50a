//! A wire with a seed: delay, jitter, loss, duplication, corruption, and a script.

use roce::wire::Packet;
use roce::{Instant, Rng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Which of the two hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Side {
    A,
    B,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// What a script does to a frame.
pub enum Fate {
    Pass,
    Drop,
    Twice,
    Delay(Duration),
}

/// Random behaviour; probabilities per mille.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub delay: Duration,
    /// Up to so much more: reorders what is closer together.
    pub jitter: Duration,
    pub loss: u32,
    pub duplication: u32,
    pub corruption: u32,
}

impl Weather {
    pub const CALM: Weather = Weather {
        delay: Duration::from_micros(5),
        jitter: Duration::ZERO,
        loss: 0,
        duplication: 0,
        corruption: 0,
    };
}

/// A frame under way: due, order of sending, receiver, bytes.
type Flying = Reverse<(Instant, u64, Side, Vec<u8>)>;

type Script = Box<dyn FnMut(Side, &Packet<'_>) -> Fate>;

pub struct Network {
    pub weather: Weather,
    pub script: Script,
    rng: Rng,
    flying: BinaryHeap<Flying>,
    serial: u64,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        Network {
            weather: Weather::CALM,
            script: Box::new(|_, _| Fate::Pass),
            rng: Rng::new(seed),
            flying: BinaryHeap::new(),
            serial: 0,
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.rng.next_u32() % 1000 < per_mille
    }

    fn fly(&mut self, now: Instant, extra: Duration, to: Side, frame: Vec<u8>) {
        let jitter = match self.weather.jitter.as_nanos() as u64 {
            0 => 0,
            j => self.rng.next_u64() % j,
        };
        let due = now.after(self.weather.delay + extra).after_nanos(jitter);
        self.serial += 1;
        self.flying.push(Reverse((due, self.serial, to, frame)));
    }

    /// Takes a frame from `from`.
    pub fn send(&mut self, now: Instant, from: Side, mut frame: Vec<u8>) {
        let packet = Packet::parse(&frame).expect("the engine sent a malformed frame");
        packet.verify_icrc().expect("the engine sent a wrong ICRC");
        let (extra, copies) = match (self.script)(from, &packet) {
            Fate::Drop => return,
            Fate::Pass => (Duration::ZERO, 1),
            Fate::Twice => (Duration::ZERO, 2),
            Fate::Delay(d) => (d, 1),
        };
        let to = from.other();
        if self.chance(self.weather.loss) {
            return;
        }
        if self.chance(self.weather.corruption) {
            let at = self.rng.next_u32() as usize % frame.len();
            frame[at] ^= 1 << (self.rng.next_u32() % 8);
        }
        for _ in 1..copies {
            self.fly(now, extra, to, frame.clone());
        }
        if self.chance(self.weather.duplication) {
            self.fly(now, extra, to, frame.clone());
        }
        self.fly(now, extra, to, frame);
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next frame that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<(Side, Vec<u8>)> {
        if self.next_due()? > now {
            return None;
        }
        self.flying
            .pop()
            .map(|Reverse((_, _, to, frame))| (to, frame))
    }
}
