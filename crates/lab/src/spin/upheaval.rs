//! What happens to machines and wires.

use super::epoch::{Epoch, MACHINES, wire};
use super::model::with;
use super::{leave, memory};
use ndkpi::OID_NDK_SET_STATE;
use ntsim::ndis::OidRequest;
use ntsim::wire::SwitchConfig;
use std::time::Duration;

/// One of them.
pub(super) fn any(epoch: &mut Epoch) -> Result<(), String> {
    type Upheaval = (&'static str, fn(&mut Epoch, usize) -> Result<(), String>);
    let all: &[(u64, Upheaval)] = &[
        (6, ("adapters opened anew", reopened)),
        (6, ("wires exchanged", rewired)),
        (2, ("wires silent", silence)),
        (3, ("cables pulled", unplugged)),
        (3, ("NDK disabled and enabled", disabled)),
        (2, ("adapters restarted", restarted)),
        (3, ("paused and resumed", paused)),
        (1, ("removed by surprise", removed)),
    ];
    let (name, upheaval) = epoch.chance.weighted(all);
    let machine = epoch.chance.index(MACHINES);
    if with(|m| m.hosts[machine].removed) {
        return Ok(());
    }
    with(|m| m.tally.upheaval(name));
    upheaval(epoch, machine)
}

/// The consumers on a machine.
fn sides(machine: usize) -> Vec<usize> {
    with(|m| {
        let all = 0..m.sides.len();
        all.filter(|side| m.sides[*side].machine == machine)
            .collect()
    })
}

fn leave_all(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    for side in sides(machine) {
        leave::leave(epoch, side)?;
    }
    Ok(())
}

fn open_all(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    for side in sides(machine) {
        if epoch.consumers[side].adapter.is_none() {
            epoch.open(side)?;
        }
    }
    Ok(())
}

fn reopened(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    leave_all(epoch, machine)?;
    open_all(epoch, machine)
}

fn rewired(epoch: &mut Epoch, _: usize) -> Result<(), String> {
    let config = wire(&mut epoch.chance);
    epoch.net.set_links(config);
    Ok(())
}

/// Nothing arrives for a while, which may be longer than retries last.
fn silence(epoch: &mut Epoch, _: usize) -> Result<(), String> {
    epoch.net.set_links(SwitchConfig {
        loss: 1.0,
        ..SwitchConfig::default()
    });
    let while_ = epoch.chance.of(&[1, 50, 10_000, 60_000]);
    epoch.world.run_for(Duration::from_millis(while_));
    rewired(epoch, 0)
}

fn unplugged(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    let Some((port, _)) = epoch.net.ports().get(machine).cloned() else {
        return Ok(());
    };
    epoch.net.set_up(port, false);
    let while_ = epoch.chance.of(&[0, 10, 3000]);
    epoch.world.run_for(Duration::from_millis(while_));
    epoch.net.set_up(port, true);
    Ok(())
}

fn set_state(epoch: &mut Epoch, machine: usize, on: bool) {
    let id = epoch.machines[machine];
    let bytes = [u8::from(on)];
    epoch
        .world
        .oid(id, &OidRequest::Set(OID_NDK_SET_STATE, &bytes));
    with(|m| m.hosts[machine].disabled = true);
}

/// NDK is switched off in the middle of work, which the consumers end in their own time.
fn disabled(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    set_state(epoch, machine, false);
    let early = epoch.chance.percent(50);
    if early {
        set_state(epoch, machine, true);
    }
    epoch.world.run_for(Duration::from_millis(1));
    leave_all(epoch, machine)?;
    if !early {
        epoch.world.run_for(Duration::from_millis(1));
        open_all(epoch, machine)?;
        leave_all(epoch, machine)?;
        set_state(epoch, machine, true);
    }
    epoch.world.run_for(Duration::from_secs(1));
    with(|m| m.hosts[machine].disabled = false);
    open_all(epoch, machine)
}

fn restarted(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    leave_all(epoch, machine)?;
    let id = epoch.machines[machine];
    let failed = epoch.failed();
    match epoch.world.restart_adapters(id) {
        Ok(()) => {}
        Err(_) if epoch.forgives(failed) => {
            // It is gone.
            epoch.world.uninstall(id);
            epoch.install(machine)?;
        }
        Err(error) => return Err(format!("restarting an adapter: {error:?}")),
    }
    with(|m| m.tally.machines += 1);
    open_all(epoch, machine)
}

/// Pausing leaves NDK alone.
fn paused(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    let id = epoch.machines[machine];
    epoch.world.pause(id);
    epoch.world.run_for(Duration::from_micros(200));
    loop {
        let failed = epoch.failed();
        match epoch.world.resume(id) {
            Ok(()) => return Ok(()),
            Err(_) if epoch.forgives(failed) => {}
            Err(status) => return Err(format!("resuming: {status:#x}")),
        }
    }
}

/// The device vanishes in the middle of work. The consumers notice, and go.
fn removed(epoch: &mut Epoch, machine: usize) -> Result<(), String> {
    let id = epoch.machines[machine];
    with(|m| m.hosts[machine].removed = true);
    epoch.world.begin_surprise_removal(id);
    for _ in 0..20 {
        for side in sides(machine) {
            epoch.operate(side);
        }
        epoch.world.run_for(Duration::from_micros(50));
        epoch.check()?;
    }
    leave_all(epoch, machine)?;
    for side in sides(machine) {
        let scratch = with(|m| m.sides[side].scratch.take());
        epoch.world.call(id, || memory::free(scratch));
    }
    epoch.world.end_surprise_removal(id);
    Ok(())
}
