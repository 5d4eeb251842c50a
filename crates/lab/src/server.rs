//! A simulated Windows server with vroce installed.

use crate::driver::driver;
use anyhow::{Context, Result, ensure};
use ntsim::wire::{Switch, SwitchConfig};
use ntsim::{DriverImage, MachineConfig, MachineId, NicConfig, Report, World};
use std::net::{IpAddr, SocketAddr};

/// What Windows would install: the simulator installs from it too.
pub(crate) const INF: &str = include_str!("../../../inf/vroce.inx");

/// Link MTU of most networks: the driver's settings as they come make a path MTU of 1024.
const USUAL_MTU: u16 = 1500;

/// Link MTU with room for a path MTU of 4096 and its headers.
const MTU: u16 = 4192;

/// What an administrator sets in the adapter's advanced properties to get that path MTU. *JumboPacket counts the Ethernet header.
const KEYWORDS: &[(&str, &str)] = &[
    ("*JumboPacket", "4206"),
    ("*NetworkDirectRoCEFrameSize", "4096"),
];

/// A machine with the driver running and TCP/IP bound to it.
#[derive(Clone, Copy)]
pub struct Server {
    /// The machine.
    pub machine: MachineId,
    /// Its only IP address.
    pub address: IpAddr,
}

impl Server {
    /// The server's address with a port; 0 lets the provider choose.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.address, port).into()
    }

    /// Adds a machine with a virtio NIC on `switch` and installs the driver. Its MAC address ends in the last byte of its IP address,
    /// whose network has the usual prefix: 24 bits, or 64 for IPv6.
    pub fn install(
        world: &mut World,
        switch: &Switch,
        name: &str,
        address: IpAddr,
    ) -> Result<Server> {
        Self::install_machine(world, switch, MachineConfig::named(name), address)
    }

    /// As [`Server::install`], on a link with an MTU of 1500 bytes and with the settings as they come.
    pub fn install_on_usual_link(
        world: &mut World,
        switch: &Switch,
        name: &str,
        address: IpAddr,
    ) -> Result<Server> {
        let config = MachineConfig::named(name);
        let server = Server::plug_in(world, switch, config, address, USUAL_MTU);
        server.install_with(world, driver()?, &[])?;
        Ok(server)
    }

    /// As [`Server::install`], on a machine of more than a name.
    pub fn install_machine(
        world: &mut World,
        switch: &Switch,
        config: MachineConfig,
        address: IpAddr,
    ) -> Result<Server> {
        let server = Server::without_driver(world, switch, config, address);
        server.install_driver(world, driver()?)?;
        Ok(server)
    }

    /// As [`Server::install_machine`], but leaves the NIC without a driver.
    pub fn without_driver(
        world: &mut World,
        switch: &Switch,
        config: MachineConfig,
        address: IpAddr,
    ) -> Server {
        Server::plug_in(world, switch, config, address, MTU)
    }

    fn plug_in(
        world: &mut World,
        switch: &Switch,
        config: MachineConfig,
        address: IpAddr,
        mtu: u16,
    ) -> Server {
        let (config, last) = match address {
            IpAddr::V4(v4) => (config.ipv4(v4, 24), v4.octets()[3]),
            IpAddr::V6(v6) => (config.ipv6(v6, 64), v6.octets()[15]),
        };
        let machine = world.add_machine(config.mac([0x52, 0x54, 0x00, 0x00, 0x00, last]));
        world.attach_nic(
            machine,
            switch,
            NicConfig {
                mtu,
                ..NicConfig::default()
            },
        );
        Server { machine, address }
    }

    /// Installs this build of the driver on a server that has none: from DriverEntry to TCP/IP bound to the adapter.
    pub fn install_driver(&self, world: &mut World, driver: DriverImage) -> Result<()> {
        self.install_with(world, driver, KEYWORDS)
    }

    fn install_with(
        &self,
        world: &mut World,
        driver: DriverImage,
        keywords: &[(&str, &str)],
    ) -> Result<()> {
        world
            .install_with(self.machine, INF, driver, keywords)
            .with_context(|| format!("installing vroce.inx on {}", self.address))
    }
}

/// Two servers, A and B, on one switch, whose wire has no delay.
pub fn pair(world: &mut World) -> Result<[Server; 2]> {
    pair_on(world, SwitchConfig::default())
}

/// As [`pair`], on a wire of that kind: with `SwitchConfig { delay, ..SwitchConfig::default() }` each frame takes that long, once more for what
/// answers it. Losses and bandwidth are said in the same way.
pub fn pair_on(world: &mut World, wire: SwitchConfig) -> Result<[Server; 2]> {
    let switch = world.switch(wire);
    Ok([
        Server::install(world, &switch, "A", [10, 0, 0, 1].into())?,
        Server::install(world, &switch, "B", [10, 0, 0, 2].into())?,
    ])
}

/// Uninstalls the driver from servers, and then as [`finish`].
pub fn end(mut world: World, servers: [Server; 2]) -> Result<()> {
    for server in servers {
        world.uninstall(server.machine);
    }
    finish(world).map(drop)
}

/// Ends a world that must have been without fault. The drivers are unloaded: they may have left nothing.
pub fn finish(world: World) -> Result<Report> {
    let report = world.finish();
    ensure!(
        report.is_clean() && report.leaks.is_empty(),
        "the verifier has complaints:\n{report}"
    );
    Ok(report)
}
