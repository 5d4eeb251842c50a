//! One epoch: two machines on a wire from nothing to nothing, everything that happens in between drawn from one number.

use super::chance::Chance;
use super::leave;
use super::model::{self, Model, with};
use super::raw::{Elsewhere, Raw};
use super::tally::Tally;
use super::{Faults, connect, memory, sweep, trace, walk};
use ndkpi::{NDK_VERSION_1_2, NDK_VERSION_2_1};
use ntsim::ndk::rules;
use ntsim::ndk::{Adapter, Status};
use ntsim::wire::{Switch, SwitchConfig};
use ntsim::{MachineConfig, MachineId, NicConfig, World};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// Machines of an epoch.
pub(super) const MACHINES: usize = 2;
/// Bytes that inline requests take theirs from, and as many again.
const SCRATCH: usize = 2048;
/// In one of so many epochs the consumers are careless.
const CARELESS: u64 = 8;
/// What careless consumers break, and a provider has to answer or survive. Elsewhere no rule is pardoned.
const BROKEN: [&str; 3] = [
    rules::CONSUMER_PARAMETER,
    rules::CONSUMER_IN_FLIGHT,
    rules::CONSUMER_OVERRUN,
];

/// A consumer, as the host knows it.
pub(super) struct Consumer {
    pub(super) adapter: Option<Adapter>,
    elsewhere: Elsewhere,
}

/// Settings of an adapter that are not the INF's.
type Keywords = &'static [(&'static str, &'static str)];

/// An epoch that runs.
pub(super) struct Epoch {
    pub(super) world: World,
    pub(super) net: Switch,
    pub(super) machines: Vec<MachineId>,
    pub(super) processors: u32,
    pub(super) consumers: Vec<Consumer>,
    /// Settings of each machine's adapter.
    keywords: [Keywords; MACHINES],
    faults: Faults,
    /// Chance of what happens to machines and wires; operations have their own.
    pub(super) chance: Chance,
    /// The least and most time between two operations is such.
    pace: u64,
}

/// Walks until so many functions were called, then closes and unloads everything. What was done, and what went wrong.
pub fn run(seed: u64, calls: u64, faults: &Faults) -> (Tally, Result<(), String>) {
    let walked = catch_unwind(AssertUnwindSafe(|| walk_through(seed, calls, faults)));
    let tally = model::end().map(|model| model.tally).unwrap_or_default();
    let result = walked.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|t| (*t).to_owned()));
        Err(text.unwrap_or_else(|| "a panic".to_owned()))
    });
    (tally, result)
}

fn walk_through(seed: u64, calls: u64, faults: &Faults) -> Result<(), String> {
    let mut epoch = Epoch::begin(seed, faults)?;
    // Where every device is gone nothing can be called any more.
    while with(|m| m.tally.total() < calls && m.hosts.iter().any(|host| !host.removed)) {
        epoch.step()?;
    }
    epoch.end()
}

impl Epoch {
    fn begin(seed: u64, faults: &Faults) -> Result<Epoch, String> {
        let mut chance = Chance::new(seed);
        let interleave = chance.weighted(&[(4, 0), (1, 2), (2, 3), (2, 10), (1, 50)]);
        let processors = chance.of(&[1, 2, 2, 3]);
        let pace = chance.of(&[5, 50, 500]);
        let careless = chance.one_in(CARELESS);
        let mut builder = World::builder()
            .seed(seed)
            .interleave(interleave)
            .low_resources(faults.low_resources)
            .ignore_environment();
        if let Some(paths) = &faults.paths {
            builder = builder.fail_new_paths(paths);
        }
        let mut world = builder.build();
        trace::begin(&mut world)?;
        if careless {
            for rule in BROKEN {
                world.pardon(rule);
            }
        }
        let net = world.switch(wire(&mut chance));
        model::begin(Model::new(Chance::new(chance.number()), careless, MACHINES));
        let mut epoch = Epoch {
            world,
            net,
            machines: Vec::new(),
            processors,
            consumers: Vec::new(),
            keywords: [&[]; MACHINES],
            faults: faults.clone(),
            chance,
            pace,
        };
        with(|m| {
            m.tally.epochs = 1;
            m.tally.careless = u64::from(careless);
            for host in &mut m.hosts {
                host.famine = !faults.is_none();
            }
        });
        for index in 0..MACHINES {
            epoch.start_machine(index)?;
            epoch.add_consumer(index)?;
        }
        if epoch.chance.one_in(4) {
            let machine = epoch.chance.index(MACHINES);
            epoch.add_consumer(machine)?;
        }
        Ok(epoch)
    }

    fn start_machine(&mut self, index: usize) -> Result<(), String> {
        let (v4, v6) = connect::addresses(index);
        let [.., last] = v4.octets();
        let machine = self.world.add_machine(
            MachineConfig::named(["A", "B"][index])
                .ipv4(v4, 24)
                .ipv6(v6, 64)
                .mac([0x52, 0x54, 0, 0, 0, last])
                .processors(self.processors),
        );
        let latency = self.chance.weighted(&[(3, 0), (1, 20), (1, 3000)]);
        let nic = NicConfig {
            mtu: 4192,
            transmit_latency: Duration::from_micros(latency),
            queue_size: self.chance.of(&[1024, 1024, 64]),
            indirect: !self.chance.one_in(4),
            event_idx: !self.chance.one_in(4),
            ..NicConfig::default()
        };
        self.world.attach_nic(machine, &self.net, nic);
        self.machines.push(machine);
        const LARGE: Keywords = &[
            ("*JumboPacket", "4206"),
            ("*NetworkDirectRoCEFrameSize", "4096"),
        ];
        if self.chance.percent(50) {
            self.keywords[index] = LARGE;
        }
        self.install(index)?;
        with(|m| m.tally.machines += 1);
        Ok(())
    }

    /// Installs the driver on a machine that has none. As often as it takes, if paths fail: each attempt that fails leaves one less.
    pub(super) fn install(&mut self, index: usize) -> Result<(), String> {
        let (machine, keywords) = (self.machines[index], self.keywords[index]);
        loop {
            let image = crate::driver::driver().map_err(|error| format!("{error:#}"))?;
            let before = self.faults.failed();
            let installed = self
                .world
                .install_with(machine, crate::server::INF, image, keywords);
            match installed {
                Ok(()) => return Ok(()),
                Err(_) if self.faults.failed() > before => {}
                Err(error) => return Err(format!("installing: {error:?}")),
            }
        }
    }

    /// How much has failed on purpose so far, for [`Epoch::forgives`].
    pub(super) fn failed(&self) -> usize {
        self.faults.failed()
    }

    /// Whether it may be no fault of the driver that an adapter did not start: something that it needs has failed since.
    pub(super) fn forgives(&self, failed: usize) -> bool {
        self.faults.failed() > failed || self.faults.low_resources > 0
    }

    /// Another consumer on a machine, with an adapter.
    fn add_consumer(&mut self, machine: usize) -> Result<(), String> {
        let side = with(|m| m.add_side(machine));
        let elsewhere = Elsewhere::new();
        let processor = self.chance.below(u64::from(self.processors)) as u8;
        let scratch = self.world.call(self.machines[machine], || {
            elsewhere.bind(side, processor);
            memory::allocate(SCRATCH)
        });
        with(|m| m.sides[side].scratch = scratch);
        self.consumers.push(Consumer {
            adapter: None,
            elsewhere,
        });
        self.open(side)
    }

    /// Opens the adapter of a consumer that has none.
    pub(super) fn open(&mut self, side: usize) -> Result<(), String> {
        let machine = with(|m| m.sides[side].machine);
        let is_2_1 = !self.chance.one_in(5);
        let version = if is_2_1 {
            NDK_VERSION_2_1
        } else {
            NDK_VERSION_1_2
        };
        let opened = self
            .world
            .call(self.machines[machine], || Adapter::open(version));
        let host = with(|m| m.hosts[machine]);
        match opened {
            Ok(adapter) => {
                let raw = Raw::new(adapter.raw());
                self.consumers[side].adapter = Some(adapter);
                with(|m| {
                    let side = &mut m.sides[side];
                    (side.adapter, side.is_2_1, side.leaving) = (raw, is_2_1, false);
                });
                Ok(())
            }
            Err(_) if host.famine || host.removed || host.disabled => Ok(()),
            Err(status) => Err(format!("opening an adapter: {}", Status(status))),
        }
    }

    /// Does the next thing.
    fn step(&mut self) -> Result<(), String> {
        if self.chance.one_in(800) {
            super::upheaval::any(self)?;
        }
        let side = self.chance.index(self.consumers.len());
        if self.consumers[side].adapter.is_none() {
            if self.chance.one_in(20) {
                self.open(side)?;
            }
        } else if self.chance.one_in(60) {
            sweep::any(self, side);
        } else {
            self.operate(side);
        }
        let pause = match self.chance.below(1000) {
            0 => Duration::from_secs(1),
            1..4 => Duration::from_millis(self.chance.below(100)),
            4..500 => Duration::from_micros(self.chance.below(self.pace)),
            _ => Duration::ZERO,
        };
        if !pause.is_zero() {
            self.world.run_for(pause);
        }
        self.check()
    }

    /// Some operations in a row; seldom with a lack of memory in the middle of them.
    pub(super) fn operate(&mut self, side: usize) {
        if self.consumers[side].adapter.is_none() {
            return;
        }
        let machine = self.machine(side);
        let lack = self.chance.one_in(25).then(|| self.chance.below(6));
        if lack.is_some() {
            let sticky = self.chance.one_in(8);
            self.starve(side, lack, sticky);
        }
        let count = 1 + self.chance.below(4);
        let somewhere = self.processors > 1 && self.chance.one_in(4);
        let processor = self.chance.below(u64::from(self.processors)) as u32;
        let irql = self.chance.of(&[0, 0, 2]);
        let elsewhere = &self.consumers[side].elsewhere;
        self.world.call_on(machine, processor, irql, || {
            if somewhere {
                elsewhere.queue();
            }
            for _ in 0..count {
                walk::step(side);
            }
        });
        if lack.is_some() {
            self.starve(side, None, false);
        }
    }

    /// The machine of a side.
    pub(super) fn machine(&self, side: usize) -> MachineId {
        self.machines[with(|m| m.sides[side].machine)]
    }

    /// Lets an allocation on a side's machine fail, or no more.
    pub(super) fn starve(&mut self, side: usize, after: Option<u64>, sticky: bool) {
        let machine = self.machine(side);
        self.world.fail_allocations(machine, after, sticky);
        let failed = self.world.take_failed_functions(machine);
        with(|m| {
            let at = m.sides[side].machine;
            m.hosts[at].famine |= after.is_some();
            for function in failed {
                m.tally.failed(function);
            }
        });
    }

    /// What the model found wrong.
    pub(super) fn check(&mut self) -> Result<(), String> {
        with(|m| m.fault.take()).map_or(Ok(()), Err)
    }

    /// Everything is closed, and the drivers are unloaded: nothing may be left.
    fn end(mut self) -> Result<(), String> {
        for side in 0..self.consumers.len() {
            leave::leave(&mut self, side)?;
        }
        for side in 0..self.consumers.len() {
            let machine = self.machine(side);
            let scratch = with(|m| m.sides[side].scratch.take());
            self.world.call(machine, || memory::free(scratch));
        }
        // What the last DPCs still do is done.
        self.world.run_for(Duration::from_millis(1));
        for index in 0..MACHINES {
            if !with(|m| m.hosts[index].removed) {
                self.world.uninstall(self.machines[index]);
            }
        }
        self.check()?;
        for rule in BROKEN {
            let times = self.world.pardoned(rule) as u64;
            with(|m| m.tally.pardoned(rule, times));
        }
        let report = self.world.finish();
        if report.is_clean() && report.leaks.is_empty() {
            Ok(())
        } else {
            Err(report.to_string())
        }
    }
}

/// A wire: half of them are good.
pub(super) fn wire(chance: &mut Chance) -> SwitchConfig {
    if chance.percent(50) {
        return SwitchConfig::default();
    }
    let mut rate = |most: u64| chance.below(most * 10) as f64 / 1000.0;
    SwitchConfig {
        loss: rate(4),
        duplicate: rate(4),
        reorder: rate(4),
        corrupt: rate(1),
        jitter: Duration::from_micros(chance.below(50)),
        delay: Duration::from_micros(chance.below(20)),
        ..SwitchConfig::default()
    }
}
