//! What servers cost that do nothing: to start, to wait, and to be asked.

use crate::driver::driver;
use crate::server::{Server, finish};
use crate::status::Doing;
use anyhow::Result;
use ndkpi::{NDK_CQ_NOTIFY_ANY, NDK_VERSION_2_1};
use ntsim::ndk::Adapter;
use ntsim::wire::SwitchConfig;
use ntsim::{MachineConfig, Verify, World};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Servers that start, two to a world.
const WORLDS: u64 = 20;

/// How long the idle ones wait, in their own time.
const IDLE: Duration = Duration::from_secs(1000);

/// Calls of each function of the dispatch tables.
const CALLS: u32 = 200_000;

/// Starts and waits that were measured, and calls.
#[derive(Default)]
pub struct Figures {
    /// From a machine that is not there to an adapter that TCP/IP is bound to.
    starts: Times,
    /// Of the first world, whose machines get new memory from the system. Others get what was theirs.
    first_starts: Times,
    /// Two servers, for [`IDLE`].
    waits: Times,
    /// What a call of a function of the dispatch tables takes that has next to nothing to do: the way there and back.
    calls: Vec<(&'static str, Duration)>,
}

/// What something took each time.
#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    /// What of all that a processor worked on it: about the same on a busy host. None if the system does not say.
    busy: Option<Duration>,
}

impl Figures {
    /// Measures.
    pub fn measure(seed: u64, verify: Verify) -> Result<Figures> {
        let mut figures = Figures::default();
        for round in 0..WORLDS {
            figures.round(round, seed + round, verify)?;
        }
        figures.cross(seed, verify)?;
        Ok(figures)
    }

    /// Calls a provider.
    fn cross(&mut self, seed: u64, verify: Verify) -> Result<()> {
        let mut world = empty(seed, verify);
        let switch = world.switch(SwitchConfig::default());
        let server = Server::install(&mut world, &switch, "A", [10, 0, 0, 1].into())?;
        let each = world
            .call(server.machine, || {
                let adapter = Adapter::open(NDK_VERSION_2_1)?;
                let cq = adapter.create_cq(16)?;
                let pd = adapter.create_pd()?;
                let (buffer, mr) = pd.register_memory(4096)?;
                let measure = |f: &dyn Fn()| {
                    let began = Instant::now();
                    (0..CALLS).for_each(|_| f());
                    began.elapsed() / CALLS
                };
                // No vector: what grows here is memory of the driver's.
                let each = [
                    measure(&|| assert!(cq.poll().is_none())),
                    measure(&|| cq.arm(NDK_CQ_NOTIFY_ANY)),
                    measure(&|| {
                        black_box(mr.remote_token());
                    }),
                ];
                mr.deregister()?;
                mr.close();
                pd.close();
                cq.close();
                adapter.close();
                buffer.free();
                Ok(each)
            })
            .doing("calling the provider")?;
        let what = [
            "NdkGetCqResults, none there",
            "NdkArmCq",
            "NdkGetRemoteTokenFromMr",
        ];
        self.calls = what.into_iter().zip(each).collect();
        world.uninstall(server.machine);
        finish(world).map(drop)
    }

    /// One world.
    fn round(&mut self, round: u64, seed: u64, verify: Verify) -> Result<()> {
        let starts = match round {
            0 => &mut self.first_starts,
            _ => &mut self.starts,
        };
        let mut world = empty(seed, verify);
        let switch = world.switch(SwitchConfig::default());
        let mut servers = Vec::new();
        for (name, last) in [("A", 1), ("B", 2)] {
            let driver = driver()?;
            let address = [10, 0, 0, last].into();
            let server = starts.measure(|| {
                let config = MachineConfig::named(name);
                let server = Server::without_driver(&mut world, &switch, config, address);
                server.install_driver(&mut world, driver)?;
                anyhow::Ok(server)
            })?;
            servers.push(server);
        }
        self.waits.measure(|| world.run_for(IDLE));
        for server in servers {
            world.uninstall(server.machine);
        }
        finish(world).map(drop)
    }

    /// Prints them.
    pub fn tell(&self) {
        out!(
            "{:<40} {:>12} {:>12} {:>12} {:>15}",
            "wall time",
            "shortest",
            "median",
            "longest",
            "processor, mean"
        );
        self.starts.tell("a machine boots and binds the driver");
        self.first_starts.tell("the first two of the process");
        let what = format!("two servers idle for {} s", IDLE.as_secs());
        self.waits.tell(&what);
        for (what, each) in &self.calls {
            out!("{what:<40} {:>9} ns", each.as_nanos());
        }
    }
}

/// A world in which nothing is, and which the environment does not change.
fn empty(seed: u64, verify: Verify) -> World {
    let world = World::builder().seed(seed).verify(verify);
    world.ignore_environment().build()
}

impl Times {
    fn measure<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let (began, busy) = (Instant::now(), busy());
        let result = f();
        self.wall.push(began.elapsed());
        if let (Some(before), Some(after)) = (busy, self::busy()) {
            *self.busy.get_or_insert_default() += after.saturating_sub(before);
        }
        result
    }

    fn tell(&self, what: &str) {
        let ms = |time: Option<Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let mut wall = self.wall.clone();
        wall.sort_unstable();
        let count = u32::try_from(wall.len()).unwrap_or(u32::MAX).max(1);
        out!(
            "{what:<40} {:>9.2} ms {:>9.2} ms {:>9.2} ms {:>12.2} ms",
            ms(wall.first().copied()),
            ms(wall.get(wall.len() / 2).copied()),
            ms(wall.last().copied()),
            ms(self.busy.map(|busy| busy / count))
        );
    }
}

/// How long a processor has worked for this thread; None if the system does not say.
fn busy() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_left_as_it_was() {
        let figures = Figures::measure(1, Verify::Full).unwrap();
        assert_eq!(figures.calls.len(), 3);
        let starts = [&figures.first_starts, &figures.starts].map(|times| times.wall.len());
        assert_eq!(starts, [2, 2 * (WORLDS as usize - 1)]);
        assert_eq!(figures.waits.wall.len(), WORLDS as usize);
    }
}
