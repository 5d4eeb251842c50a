//! `vroce-lab consumer`: an NDK consumer's driver image on two servers with vroce, under the verifier.

use crate::cli::{ConsumerOptions, Setting, TraceFile};
use crate::server::Server;
use crate::trace_file;
use anyhow::{Context, Result, bail};
use ntsim::ndk::NdkUse;
use ntsim::pnp::registry::Value;
use ntsim::verifier::rules::POOL_LEAK;
use ntsim::wire::{CaptureConfig, SwitchConfig};
use ntsim::world::LoadError;
use ntsim::{DriverId, Image, MachineConfig, MachineId, Report, World};
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
        .pend(options.pend)
        .verify(options.verify)
        .collect_violations()
        .build();
    if options.trace {
        world.trace_ndk();
    }
    let TraceFile {
        trace_file,
        trace_host_time,
    } = &options.trace_file;
    let trace = trace_file::begin(&mut world, trace_file.as_deref(), *trace_host_time)?;
    let mut run = Run {
        options,
        printed: 0,
        awaited: options.expect.clone(),
        loaded: Vec::new(),
        machines: Vec::new(),
    };
    // A world that had to stop unwinds.
    let told = catch_unwind(AssertUnwindSafe(|| run.story(&mut world, &images)));
    run.print(&mut world);
    let uses = run.uses(&world);
    let now = world.now();
    let stopped = world.has_stopped();
    let mut report = world.finish();
    let told = match told {
        Ok(told) => told,
        Err(panic) if report.is_clean() => std::panic::resume_unwind(panic),
        Err(_) => Ok(()),
    };
    // What drivers hold that could not be unloaded is no leak; what those held that were unloaded has been told.
    if stopped || report.violations.iter().any(|v| v.rule == POOL_LEAK) {
        report.leaks.clear();
    }
    if !report.is_clean() || !report.leaks.is_empty() {
        out!("{report}");
    }
    out!("{}", told_of(&uses));
    if let Some(trace) = trace {
        trace.tell()?;
    }
    let failures = failures(&report, stopped, &told, &run, &uses);
    if !failures.is_empty() {
        out!("the same again: {}", again(options));
        bail!("{}", failures.join("; "));
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

/// Everything that was wrong, the cause first as far as that can be known.
fn failures(
    report: &Report,
    stopped: bool,
    told: &Result<()>,
    run: &Run<'_>,
    uses: &[(&str, NdkUse)],
) -> Vec<String> {
    let mut failures = Vec::new();
    if let Err(error) = told {
        failures.push(format!("{error:#}"));
    }
    if !report.is_clean() {
        let rules = report.violations.iter().map(|v| v.rule);
        failures.push(counted(rules, report.more));
    }
    if !report.leaks.is_empty() {
        failures.push(format!("{} leak(s)", report.leaks.len()));
    }
    let last = report.violations.last().map_or("what happened", |v| v.rule);
    if stopped {
        failures.push(format!("the run ended there: nothing goes on after {last}"));
    }
    for missing in &run.awaited {
        failures.push(match stopped || told.is_err() {
            true => format!("no driver had printed {missing:?}"),
            false => format!(
                "no driver printed {missing:?} within {} s",
                run.options.seconds
            ),
        });
    }
    if failures.is_empty() && uses.iter().all(|(_, used)| used.calls == 0) {
        failures.push("no driver called NDK: nothing was tested".to_owned());
    }
    failures
}

/// How often rules were broken, and which; `more` times unknown ones.
fn counted<'a>(broken: impl IntoIterator<Item = &'a str>, more: usize) -> String {
    let mut rules: Vec<(&str, usize)> = Vec::new();
    let mut total = more;
    for broken in broken {
        total += 1;
        match rules.iter_mut().find(|(rule, _)| *rule == broken) {
            Some((_, count)) => *count += 1,
            None => rules.push((broken, 1)),
        }
    }
    let rules: Vec<_> = rules
        .iter()
        .map(|(rule, count)| match count {
            1 => (*rule).to_owned(),
            _ => format!("{rule} {count} times"),
        })
        .collect();
    format!("{total} violation(s): {}", rules.join(", "))
}

/// What the drivers did with NDK, and what looks as if nothing had been tested.
fn told_of(uses: &[(&str, NdkUse)]) -> String {
    let each: Vec<_> = uses
        .iter()
        .map(|(name, used)| {
            format!(
                "{} call(s) and {} connection(s) on {name}",
                used.calls, used.connections
            )
        })
        .collect();
    let mut text = format!("NDK: {}", each.join(", "));
    for (name, _) in uses.iter().filter(|(_, used)| used.calls == 0) {
        text += &format!("\nwarning: the driver on {name} called no function of NDK");
    }
    if uses
        .iter()
        .all(|(_, used)| used.calls > 0 && used.connections == 0)
    {
        text += "\nwarning: no connection was established";
    }
    text
}

/// The command line that repeats the run, for a shell.
fn again(options: &ConsumerOptions) -> String {
    let mut words: Vec<String> = Vec::new();
    if let Some(image) = std::env::var_os("NTSIM_IMAGE") {
        words.push(format!("NTSIM_IMAGE={}", quoted(&image.to_string_lossy())));
    }
    let given: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.extend(given.iter().map(|word| quoted(word)));
    // What decides the run and was not given.
    for (option, value) in [
        ("--seed", options.seed),
        ("--interleave", options.interleave.into()),
        ("--pend", options.pend.into()),
        ("--processors", options.processors.into()),
    ] {
        let is = |word: &String| word == option || word.starts_with(&format!("{option}="));
        if !given.iter().any(is) {
            words.push(format!("{option} {value}"));
        }
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

struct Run<'a> {
    options: &'a ConsumerOptions,
    /// How many of the drivers' texts were printed.
    printed: usize,
    /// What was expected, and no driver has printed yet.
    awaited: Vec<String>,
    /// Last loaded last.
    loaded: Vec<DriverId>,
    machines: Vec<MachineId>,
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
            let server = Server::install_machine(world, &switch, config, address)?;
            self.machines.push(server.machine);
            servers.push(server);
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
        if !self.awaited.is_empty() {
            self.tell_why(world);
        }
        Ok(())
    }

    /// Tells what is known of where the drivers are, which have not printed everything that was expected.
    fn tell_why(&self, world: &World) {
        for text in &self.awaited {
            out!("not printed within {} s: {text:?}", self.options.seconds);
        }
        for (what, lines) in [
            (
                "NDK calls and requests that failed",
                world.failed_ndk_calls(),
            ),
            ("the last NDK calls", world.last_ndk_calls()),
            ("who waits", world.waiting()),
        ] {
            out!("  {what}:{}", if lines.is_empty() { " none" } else { "" });
            lines
                .iter()
                .for_each(|line| out!("    {}", line.trim_start()));
        }
    }

    /// What the drivers did with NDK, by machine.
    fn uses(&self, world: &World) -> Vec<(&'static str, NdkUse)> {
        let machines = MACHINES.iter().zip(&self.machines);
        machines
            .map(|((name, ..), machine)| (*name, world.ndk_use(*machine)))
            .collect()
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

    /// Prints what drivers printed since the last time, and between that the NDK calls if they are asked for.
    fn print(&mut self, world: &mut World) {
        let mut trace = world.ndk_trace().into_iter().peekable();
        for line in world.debug_lines(self.printed) {
            while let Some((_, call)) = trace.next_if(|(before, _)| *before <= self.printed) {
                out!("{call}");
            }
            out!("{line}");
            self.awaited.retain(|text| !line.text.contains(text));
            self.printed += 1;
        }
        trace.for_each(|(_, call)| out!("{call}"));
    }
}

/// What the service is called: as the file.
fn service(image: &Image) -> String {
    let name = image.name();
    name.rsplit_once('.')
        .map_or(name, |(stem, _)| stem)
        .to_owned()
}

/// Takes `[MACHINE:]NAME=VALUE` for a setting.
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
    Ok(Setting {
        machine,
        name: name.to_owned(),
        value: value_of(value)?,
    })
}

/// The type and data of a value: as its prefix says, or a number or a text.
fn value_of(text: &str) -> Result<Value, String> {
    let (prefix, rest) = text.split_once(':').unwrap_or(("", text));
    let number = |digits: &str| match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse::<u64>(),
    };
    let looks_like_one = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits.starts_with(|c: char| c.is_ascii_digit())
            && (number(digits).is_ok() || digits.chars().all(|c| c.is_ascii_digit()))
    };
    let dword = |digits: &str| {
        let number = number(digits).ok().and_then(|n| u32::try_from(n).ok());
        number.map(Value::Dword).ok_or_else(|| {
            format!("{digits} is no REG_DWORD, which is a number from 0 to 4294967295: qword:{digits} for more, sz:{digits} for a text")
        })
    };
    match prefix {
        "sz" => Ok(Value::Sz(rest.to_owned())),
        "expand" => Ok(Value::ExpandSz(rest.to_owned())),
        "multi" => Ok(Value::MultiSz(rest.split(';').map(str::to_owned).collect())),
        "dword" => dword(rest),
        "qword" => number(rest)
            .map(Value::Qword)
            .map_err(|_| format!("{rest} is no REG_QWORD, which is a number from 0 to 2^64 - 1")),
        "hex" => crate::cli::hex(rest).map(|bytes| Value::Binary(bytes.0)),
        _ if looks_like_one(text) => dword(text),
        _ => Ok(Value::from(text)),
    }
}

/// A text that drivers are to print.
pub fn expected(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a text: an empty one would be found in anything".to_owned());
    }
    Ok(text.to_owned())
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
        for bad in [
            "Port",
            "=1",
            "C:Port=1",
            "A:=1",
            "Port=-1",
            "Port=99999999999",
            "Port=99999999999999999999999",
            "Port=0x100000000",
            "Port=dword:x",
            "Port=qword:-1",
            "Port=hex:0",
        ] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_have_the_type_that_they_are_given() {
        let multi = Value::MultiSz(vec!["a".to_owned(), "b".to_owned()]);
        for (text, value) in [
            ("sz:445", Value::Sz("445".to_owned())),
            ("sz:sz:", Value::Sz("sz:".to_owned())),
            ("445x", Value::Sz("445x".to_owned())),
            ("10.0.0.1", Value::Sz("10.0.0.1".to_owned())),
            ("fe80::1", Value::Sz("fe80::1".to_owned())),
            ("expand:%x%", Value::ExpandSz("%x%".to_owned())),
            ("multi:a;b", multi),
            ("dword:0x10", Value::Dword(16)),
            ("qword:0x100000000", Value::Qword(1 << 32)),
            ("hex:00ff", Value::Binary(vec![0, 0xff])),
        ] {
            let set = setting(&format!("V={text}")).unwrap();
            assert_eq!(set.value, value, "{text}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--seed=1"), "--seed=1");
        assert_eq!(quoted("read back"), "'read back'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn rules_are_counted_by_name() {
        let rules = ["a", "b", "a"];
        assert_eq!(counted(rules, 1), "4 violation(s): a 2 times, b");
    }
}
