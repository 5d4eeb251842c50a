//! Closing everything that a consumer has, down to its adapter.

use super::epoch::Epoch;
use super::model::{Kind, with};
use super::slot::Slot;
use super::{close, lam};
use std::time::Duration;

/// No close takes as long: a provider does not wait for the peer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Closes everything of a side in any order, and its adapter. Does nothing if it has none open.
pub(super) fn leave(epoch: &mut Epoch, side: usize) -> Result<(), String> {
    let Some(adapter) = epoch.consumers[side].adapter.take() else {
        return Ok(());
    };
    let machine = epoch.machine(side);
    with(|m| m.sides[side].leaving = true);
    // What other processors are in the middle of.
    wait(epoch, side, |side| with(|m| m.is_quiet(side)))?;
    loop {
        epoch.world.call(machine, || close::everything(side));
        let idle = with(|m| m.is_quiet(side) && is_empty(m, side));
        if idle {
            break;
        }
        epoch.world.run_for(Duration::from_micros(100));
    }
    // Connect events that were on their way when their listener was closed have come once its close is finished. Mappings must be
    // released, and cannot before nothing uses them.
    let at_once = with(|m| {
        m.sides[side].lams.is_empty()
            && m.unsettled_of(side, Kind::Listener) == 0
            && m.unsettled_of(side, Kind::SharedEndpoint) == 0
    });
    if !at_once || epoch.chance.percent(50) {
        wait(epoch, side, |side| with(|m| m.is_settled(side)))?;
    }
    epoch.world.call(machine, || {
        loop {
            let next = with(|m| {
                let adapter = m.sides[side].adapter?;
                let lam = m.sides[side].lams.pop()?;
                Some((adapter, lam, m.call(side, Slot::ReleaseLam, &[])))
            });
            let Some((adapter, lam, token)) = next else {
                break;
            };
            lam::release(adapter, lam, token);
        }
    });
    with(|m| m.sides[side].adapter = None);
    epoch.world.call(machine, || adapter.close());
    if !with(|m| m.is_settled(side)) {
        return Err(format!(
            "the adapter is closed, but {}",
            with(|m| m.unsettled(side))
        ));
    }
    epoch.check()
}

fn is_empty(m: &super::model::Model, side: usize) -> bool {
    Kind::ALL.iter().all(|kind| m.live(side, *kind).is_empty())
}

fn wait(epoch: &mut Epoch, side: usize, done: impl Fn(usize) -> bool) -> Result<(), String> {
    if epoch.world.run_until(|_| done(side), PATIENCE) {
        Ok(())
    } else {
        Err(format!(
            "what was closed is not closed after {PATIENCE:?}: {}",
            with(|m| m.unsettled(side))
        ))
    }
}
