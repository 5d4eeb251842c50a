//! `--bench --against-image`: the linked driver and its image, measured in turn.

use crate::bench::{HOW, ROWS, Row};
use crate::cli::DemoOptions;
use crate::server::{Server, finish};
use crate::table;
use anyhow::{Result, ensure};
use ntsim::wire::SwitchConfig;
use ntsim::{DriverImage, Image, MachineConfig, Verify, World};
use std::path::Path;
use std::time::{Duration, Instant};

/// Each run has so many times fewer messages than the benchmark's.
const SHORTER: u64 = 10;

/// How long the image may take from DriverEntry to the bound adapter: half of the starts, and the reading of the file on top.
const START: Duration = Duration::from_millis(50);

/// What came of all runs with one driver.
struct Side {
    /// For each row, messages a second of each run.
    rates: Vec<Vec<f64>>,
    /// From DriverEntry to the bound adapter, of every server.
    starts: Vec<Duration>,
}

/// The image's rate as a share of the linked driver's.
#[derive(Clone, Copy)]
struct Ratio {
    /// Of the best runs: what disturbs a run only makes it slower.
    best: f64,
    /// The median of those of runs next to each other, which meet the same disturbances.
    median: f64,
}

/// Measures, prints and judges.
pub fn run(file: &Path, options: &DemoOptions) -> Result<()> {
    let mut readings = Vec::new();
    let mut read = || -> Result<DriverImage> {
        let began = Instant::now();
        let image = Image::read(file)?;
        readings.push(began.elapsed());
        Ok(DriverImage::File(image))
    };
    let (mut linked, mut image) = (Side::new(), Side::new());
    if options.starts {
        for _ in 0..options.rounds {
            linked.start(options.seed, &DriverImage::Linked(vroce::DriverEntry))?;
            image.start(options.seed, &read()?)?;
        }
        return judge_starts(&mut linked, &mut image, &mut readings, true);
    }
    for round in 0..options.rounds {
        for (index, row) in ROWS.iter().enumerate() {
            let row = row.shortened(SHORTER);
            let mut turns = [
                (&mut linked, DriverImage::Linked(vroce::DriverEntry)),
                (&mut image, read()?),
            ];
            // Neither is always the one that finds the caches cold.
            if round % 2 == 1 {
                turns.reverse();
            }
            for (side, driver) in turns {
                side.measure(options.seed, index, row, &driver)?;
            }
        }
    }
    out!("{HOW};");
    out!(
        "messages/s, best of {} runs in turn; ratios of the best, and the median of each turn's",
        options.rounds
    );
    out!(
        "{:<18} {:>8} {:>10} {:>12} {:>12} {:>7} {:>7}",
        "operation",
        "size",
        "in flight",
        "linked",
        "image",
        "best",
        "median"
    );
    let mut slow = Vec::new();
    for (row, (linked, image)) in ROWS.iter().zip(linked.rates.iter().zip(&image.rates)) {
        let (operation, size, in_flight) = row.what();
        let (size, ratio) = (table::bytes(size), Ratio::new(linked, image));
        out!(
            "{operation:<18} {size:>8} {in_flight:>10} {:>12.0} {:>12.0} {:>7.2} {:>7.2}",
            best(linked),
            best(image),
            ratio.best,
            ratio.median
        );
        if options.within.is_some_and(|within| ratio.is_slow(within)) {
            slow.push(format!("{operation} of {size}"));
        }
    }
    out!();
    let judged = options.within.is_some();
    let started = judge_starts(&mut linked, &mut image, &mut readings, judged);
    ensure!(
        slow.is_empty(),
        "the image is slower than allowed: {}",
        slow.join(", ")
    );
    started
}

/// Prints how long the servers took to start; an error if it is `judged` and half of the image's took longer than they may.
fn judge_starts(
    linked: &mut Side,
    image: &mut Side,
    readings: &mut [Duration],
    judged: bool,
) -> Result<()> {
    out!(
        "{:<38} {:>12} {:>12} {:>12}",
        "DriverEntry to bound adapter",
        "shortest",
        "median",
        "longest"
    );
    linked.tell_starts("linked");
    image.tell_starts("image, mapped and bound to its imports");
    readings.sort_unstable();
    tell_times("reading the image's file, on top", readings);
    let start = median(&image.starts) + median(readings);
    ensure!(
        !judged || is_quick(start),
        "the image takes {start:?} to start, more than {START:?}"
    );
    Ok(())
}

/// Whether a start is as short as it has to be. That it took time at all says that it was measured.
fn is_quick(start: Duration) -> bool {
    !start.is_zero() && start <= START
}

impl Ratio {
    fn new(linked: &[f64], image: &[f64]) -> Ratio {
        let mut ratios: Vec<f64> = linked.iter().zip(image).map(|(l, i)| i / l).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Ratio {
            best: best(image) / best(linked),
            median: ratios.get(ratios.len() / 2).copied().unwrap_or_default(),
        }
    }

    /// Whether the image is slower than the linked driver by more than so many percent: what really is slower
    /// shows in both.
    fn is_slow(self, within: u32) -> bool {
        self.best.max(self.median) < 1.0 - f64::from(within) / 100.0
    }
}

fn best(rates: &[f64]) -> f64 {
    rates.iter().copied().fold(0.0, f64::max)
}

impl Side {
    fn new() -> Side {
        Side {
            rates: vec![Vec::new(); ROWS.len()],
            starts: Vec::new(),
        }
    }

    /// Runs a row once, in a new world.
    fn measure(&mut self, seed: u64, index: usize, row: Row, driver: &DriverImage) -> Result<()> {
        let (mut world, servers) = self.world(seed, driver)?;
        let outcome = row.run(&mut world, servers[0], servers[1])?;
        self.rates[index].push(outcome.message_rate());
        end(world, &servers)
    }

    /// Only starts the servers.
    fn start(&mut self, seed: u64, driver: &DriverImage) -> Result<()> {
        let (world, servers) = self.world(seed, driver)?;
        end(world, &servers)
    }

    /// A new world with two servers, whose starts are measured.
    fn world(&mut self, seed: u64, driver: &DriverImage) -> Result<(World, [Server; 2])> {
        let mut world = World::builder()
            .seed(seed)
            .verify(Verify::Cheap)
            .ignore_environment()
            .build();
        let switch = world.switch(SwitchConfig::default());
        let mut start = |name: &str, last| -> Result<Server> {
            let address = [10, 0, 0, last].into();
            let server =
                Server::without_driver(&mut world, &switch, MachineConfig::named(name), address);
            let began = Instant::now();
            server.install_driver(&mut world, driver.clone())?;
            self.starts.push(began.elapsed());
            Ok(server)
        };
        let servers = [start("A", 1)?, start("B", 2)?];
        Ok((world, servers))
    }

    fn tell_starts(&mut self, whose: &str) {
        self.starts.sort_unstable();
        tell_times(whose, &self.starts);
    }
}

/// Uninstalls the driver, and has the simulator look for what is left.
fn end(mut world: World, servers: &[Server]) -> Result<()> {
    for server in servers {
        world.uninstall(server.machine);
    }
    finish(world).map(drop)
}

/// Of times in ascending order.
fn median(times: &[Duration]) -> Duration {
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn tell_times(what: &str, times: &[Duration]) {
    let ms = |time: Option<&Duration>| time.map_or(0.0, |t| t.as_secs_f64() * 1e3);
    out!(
        "{what:<38} {:>9.2} ms {:>9.2} ms {:>9.2} ms",
        ms(times.first()),
        median(times).as_secs_f64() * 1e3,
        ms(times.last())
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_slower_than_allowed_is_slow_by_both_ratios() {
        let ratio = |best, median| Ratio { best, median };
        assert!(ratio(0.89, 0.88).is_slow(10));
        assert!(!ratio(0.89, 0.93).is_slow(10));
        assert!(!ratio(0.95, 0.7).is_slow(10));
        assert!(ratio(0.99, 0.98).is_slow(0));
    }

    #[test]
    fn only_a_start_that_was_measured_is_quick() {
        assert!(is_quick(Duration::from_millis(50)));
        assert!(!is_quick(Duration::from_millis(51)));
        assert!(!is_quick(Duration::ZERO));
    }

    #[test]
    fn a_disturbed_run_does_not_count() {
        let undisturbed = Ratio::new(&[100.0, 98.0, 50.0], &[99.0, 97.0, 96.0]);
        assert!((undisturbed.best - 0.99).abs() < 1e-9);
        assert!((undisturbed.median - 0.99).abs() < 1e-3);
    }
}
