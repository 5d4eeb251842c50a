//! The committed figures of an earlier run, and this run's ratio to them.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

/// Lines of a name, a figure and its unit, tabs between them; those that begin with `#` say where the figures are from.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/engine/baseline.tsv");

/// With this variable set, the figures of this run become the baseline.
const WRITE: &str = "ROCE_BENCH_WRITE";

/// With this variable set, the run fails if a figure is more than so many times that of the baseline.
const MOST: &str = "ROCE_BENCH_MOST";

struct Figure {
    name: String,
    unit: &'static str,
    value: f64,
}

/// The best of each kind that this run has seen: others share the machine, and nothing makes it faster than it is.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// `count` of them took this long.
    pub fn took(&mut self, name: &str, count: u64, time: Duration) {
        self.saw(name, "ns", time.as_nanos() as f64 / count as f64);
    }

    pub fn saw(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|f| f.name == name) {
            Some(known) => known.value = known.value.min(value),
            None => self.0.push(Figure {
                name: name.to_owned(),
                unit,
                value,
            }),
        }
    }

    /// Prints each figure beside that of the baseline, or makes them the baseline. `bytes` says how many one of a kind moves. False if a
    /// figure is worse than may be.
    pub fn report(&self, bytes: impl Fn(&str) -> Option<u64>) -> bool {
        let most = std::env::var(MOST).map_or(f64::INFINITY, |most| most.parse().unwrap());
        let mut within = true;
        if std::env::var_os(WRITE).is_some() {
            self.write();
        }
        let text = fs::read_to_string(FILE).unwrap_or_default();
        let lines = || text.lines().filter(|l| !l.starts_with('#'));
        let before = |name: &str| {
            lines().find_map(|line| {
                let (found, rest) = line.split_once('\t')?;
                let value = rest.split('\t').next()?.parse::<f64>().ok()?;
                (found == name).then_some(value)
            })
        };
        println!("\nThe best of this run, and of the baseline:");
        text.lines()
            .filter(|l| l.starts_with('#'))
            .for_each(|l| println!("{l}"));
        println!("{:<36} {:>12} {:>12} {:>6}", "", "now", "baseline", "ratio");
        for Figure { name, unit, value } in &self.0 {
            let mut line = format!("{name:<36} {value:>9.0} {unit:<2}");
            let _ = match before(name) {
                Some(before) => {
                    within &= value / before <= most;
                    write!(line, " {before:>9.0} {unit:<2} {:>6.2}", value / before)
                }
                None => write!(line, " {:>12} {:>6}", "-", "-"),
            };
            let _ = match bytes(name) {
                Some(bytes) => write!(line, " {:>8.2} GB/s", bytes as f64 / value),
                None if *unit == "ns" => write!(line, " {:>8.2} M/s", 1e3 / value),
                None => Ok(()),
            };
            println!("{line}");
        }
        within
    }

    fn write(&self) {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models: Vec<_> = cpu
            .lines()
            .filter(|l| l.starts_with("model name"))
            .filter_map(|l| l.split_once(": "))
            .collect();
        let model = models.first().map_or("an unknown processor", |m| m.1);
        let mut text = format!("# {} x {model}, {}\n", models.len(), std::env::consts::OS);
        for Figure { name, unit, value } in &self.0 {
            let _ = writeln!(text, "{name}\t{value:.0}\t{unit}");
        }
        // What this run has not measured stays.
        let is_new = |name: &str| self.0.iter().any(|f| f.name == name);
        for line in fs::read_to_string(FILE).unwrap_or_default().lines() {
            let name = line.split('\t').next().unwrap_or_default();
            if !line.starts_with('#') && !is_new(name) {
                let _ = writeln!(text, "{line}");
            }
        }
        fs::write(FILE, text).unwrap();
    }
}
