//! `vroce-lab consumer`: an NDK consumer's driver image on two servers with vroce, under the verifier.

use crate::cli::{ConsumerOptions, Setting};
use crate::server::Server;
use anyhow::{Context, Result, bail};
use ntsim::pnp::registry::Value;
use ntsim::wire::{CaptureConfig, SwitchConfig};
use ntsim::world::LoadError;
use ntsim::{DriverId, Image, MachineConfig, Report, World};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// The two machines: name, address, role.
const MACHINES: [(&str, [u8; 4], &str); 2] = [
    ("A", [10, 0, 0, 1], "client"),
    ("B", [10, 0, 0, 2], "server"),
];

/// How far a run goes on after a driver was unloaded: what it left under way may show.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// Runs the consumer, and tells what the verifier found.
pub fn run(options: &ConsumerOptions) -> Result<()> {
    let started = Instant::now();
    let images = [
        read(&options.image)?,
        read(options.server.as_ref().unwrap_or(&options.image))?,
    ];
    let mut world = World::builder()
        .ignore_environment()
        .seed(options.seed)
        .interleave(options.interleave)
        .collect_violations()
        .build();
    let mut run = Run {
        options,
        printed: 0,
        awaited: options.expect.clone(),
        loaded: Vec::new(),
    };
    // A world that had to stop unwinds.
    let told = catch_unwind(AssertUnwindSafe(|| run.story(&mut world, &images)));
    run.print(&world);
    let now = world.now();
    let mut report = world.finish();
    let told = match told {
        Ok(told) => told,
        Err(panic) if report.is_clean() => std::panic::resume_unwind(panic),
        // What drivers hold that could not be unloaded is no leak.
        Err(_) => {
            report.leaks.clear();
            Err(anyhow::anyhow!("the run could not go on"))
        }
    };
    match (judge(&report, options), told) {
        // What a run left that could not go on is not all that there is to say.
        (Err(found), Err(why)) => return Err(why.context(found)),
        (found, why) => found.and(why)?,
    }
    if let Some(missing) = run.awaited.first() {
        bail!("no driver printed {missing:?} within {} s", options.seconds);
    }
    out!(
        "0 violations, 0 leaks; {:.3} s of virtual time in {:.1} s",
        now.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn read(path: &Path) -> Result<Image> {
    Image::read(path).with_context(|| path.display().to_string())
}

/// Tells what was found; an error if it was anything.
fn judge(report: &Report, options: &ConsumerOptions) -> Result<()> {
    if report.is_clean() && report.leaks.is_empty() {
        return Ok(());
    }
    out!("{report}");
    bail!(
        "{} violation(s), {} leak(s); the same again with --seed {} --interleave {} --processors {}",
        report.violations.len() + report.more,
        report.leaks.len(),
        options.seed,
        options.interleave,
        options.processors
    )
}

struct Run<'a> {
    options: &'a ConsumerOptions,
    /// How many of the drivers' texts were printed.
    printed: usize,
    /// What was expected, and no driver has printed yet.
    awaited: Vec<String>,
    /// Last loaded last.
    loaded: Vec<DriverId>,
}

impl Run<'_> {
    fn story(&mut self, world: &mut World, images: &[Image; 2]) -> Result<()> {
        let options = self.options;
        let switch = world.switch(SwitchConfig {
            delay: Duration::from_micros(2),
            loss: options.loss,
            ..SwitchConfig::default()
        });
        let _capture = match &options.capture {
            None => None,
            Some(path) => Some(
                world
                    .capture(&switch, path, CaptureConfig::default())
                    .with_context(|| format!("writing {}", path.display()))?,
            ),
        };
        let mut servers = Vec::new();
        for (name, address, _) in MACHINES {
            let config = MachineConfig::named(name).processors(options.processors);
            let address = IpAddr::from(address);
            servers.push(Server::install_machine(world, &switch, config, address)?);
        }
        let ran = self.until_expected(world, &servers, images);
        while let Some(driver) = self.loaded.pop() {
            world.unload_driver(driver);
            world.run_for(AFTERWARDS);
            self.print(world);
        }
        for server in servers {
            world.uninstall(server.machine);
        }
        ran
    }

    /// Loads the drivers, and lets the world go on until everything expected was printed, or time is up.
    fn until_expected(
        &mut self,
        world: &mut World,
        servers: &[Server],
        images: &[Image; 2],
    ) -> Result<()> {
        // Who listens comes first.
        for index in [1, 0] {
            let loaded = self.load(world, servers, index, &images[index]);
            self.print(world);
            self.loaded.push(loaded?);
        }
        let options = self.options;
        world.run_until(
            |world| {
                self.print(world);
                !options.expect.is_empty() && self.awaited.is_empty()
            },
            Duration::from_secs(options.seconds),
        );
        Ok(())
    }

    /// Writes the driver's settings, and loads it.
    fn load(
        &self,
        world: &mut World,
        servers: &[Server],
        index: usize,
        image: &Image,
    ) -> Result<DriverId> {
        let (name, _, role) = MACHINES[index];
        let service = service(image);
        let machine = servers[index].machine;
        let text = |address: IpAddr| Value::Sz(address.to_string());
        world.registry(machine, |registry| {
            let path = format!("System\\CurrentControlSet\\Services\\{service}\\Parameters");
            let key = registry.create(&path);
            key.set("Role", role);
            key.set("LocalAddress", text(servers[index].address));
            key.set("PeerAddress", text(servers[1 - index].address));
            for setting in &self.options.set {
                if setting.machine.as_deref().is_none_or(|only| only == name) {
                    key.set(&setting.name, setting.value.clone());
                }
            }
        });
        match world.load_image(machine, &service, image) {
            Ok(driver) => Ok(driver),
            Err(LoadError::DriverEntry(status)) => bail!(
                "{} on {name}: DriverEntry failed with {}",
                image.name(),
                crate::status::name(status)
            ),
            Err(error) => Err(error).with_context(|| image.name().to_owned()),
        }
    }

    /// Prints what drivers printed since the last time.
    fn print(&mut self, world: &World) {
        for line in world.debug_lines(self.printed) {
            out!("{line}");
            self.awaited.retain(|text| !line.text.contains(text));
            self.printed += 1;
        }
    }
}

/// What the service is called: as the file.
fn service(image: &Image) -> String {
    let name = image.name();
    name.rsplit_once('.')
        .map_or(name, |(stem, _)| stem)
        .to_owned()
}

/// Takes `[MACHINE:]NAME=VALUE` for a setting; a number becomes a REG_DWORD, everything else a REG_SZ.
pub fn setting(text: &str) -> Result<Setting, String> {
    let wrong = || "[A:|B:]NAME=VALUE, such as B:Port=445".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let (machine, name) = match name.split_once(':') {
        Some((machine, name)) => (Some(machine.to_owned()), name),
        None => (None, name),
    };
    let known = |name: &String| MACHINES.iter().any(|machine| machine.0 == name);
    if name.is_empty() || !machine.as_ref().is_none_or(known) {
        return Err(wrong());
    }
    let number = match value.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    };
    Ok(Setting {
        machine,
        name: name.to_owned(),
        value: number.map_or_else(|| Value::from(value), Value::from),
    })
}

/// An option that must not be zero for the world to have processors.
pub fn processors(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count) if (1..=64).contains(&count) => Ok(count),
        _ => Err("a number from 1 to 64".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_type_that_they_look_like() {
        let all = setting("Port=445").unwrap();
        assert_eq!((all.machine, all.value), (None, Value::Dword(445)));
        let one = setting("B:Flags=0x10").unwrap();
        assert_eq!(one.machine.as_deref(), Some("B"));
        assert_eq!((one.name.as_str(), one.value), ("Flags", Value::Dword(16)));
        let text = setting("Name=a=b").unwrap();
        assert_eq!(text.value, Value::Sz("a=b".to_owned()));
        for bad in ["Port", "=1", "C:Port=1", "A:=1"] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }
}
