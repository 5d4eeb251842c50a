//! A wire with a seed: a script decides first, then each direction's own weather.

use super::weather::{Tally, Way, Weather};
use roce::Instant;
use roce::wire::Packet;
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

/// A frame under way: due, order of sending, receiver, bytes.
type Flying = Reverse<(Instant, u64, Side, Vec<u8>)>;

type Script = Box<dyn FnMut(Side, &Packet<'_>) -> Fate>;

pub struct Network {
    pub script: Script,
    /// By sender.
    ways: [Way; 2],
    flying: BinaryHeap<Flying>,
    serial: u64,
}

impl Network {
    pub fn new(seed: u64) -> Network {
        Network {
            script: Box::new(|_, _| Fate::Pass),
            // Whatever happens in one direction leaves the chances of the other alone.
            ways: [0, 1].map(|way| Way::new(seed.wrapping_mul(2).wrapping_add(way))),
            flying: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// The same weather in both directions.
    pub fn set_weather(&mut self, weather: Weather) {
        for way in &mut self.ways {
            way.weather = weather;
        }
    }

    /// The weather of what this side sends.
    pub fn set_weather_from(&mut self, from: Side, weather: Weather) {
        self.ways[from as usize].weather = weather;
    }

    /// What became of what this side sent.
    pub fn tally(&self, from: Side) -> Tally {
        self.ways[from as usize].tally
    }

    /// Takes a frame from `from`.
    pub fn send(&mut self, now: Instant, from: Side, frame: Vec<u8>) {
        let packet = Packet::parse(&frame).expect("the engine sent a malformed frame");
        let (extra, copies) = match (self.script)(from, &packet) {
            Fate::Drop => return,
            Fate::Pass => (Duration::ZERO, 1),
            Fate::Twice => (Duration::ZERO, 2),
            Fate::Delay(d) => (d, 1),
        };
        for _ in 1..copies {
            self.fly(now, extra, from, frame.clone());
        }
        self.fly(now, extra, from, frame);
    }

    fn fly(&mut self, now: Instant, extra: Duration, from: Side, frame: Vec<u8>) {
        let Network {
            ways,
            flying,
            serial,
            ..
        } = self;
        ways[from as usize].pass(now, frame, |at, frame| {
            *serial += 1;
            flying.push(Reverse((at.after(extra), *serial, from.other(), frame)));
        });
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
