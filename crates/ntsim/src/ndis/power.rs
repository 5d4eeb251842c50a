//! Power: an adapter's way to D3 and back, as the system goes to sleep and wakes up.
//!
//! A miniport that reports its power management capabilities is paused, unless it can do without, and told with
//! `OID_PNP_SET_POWER`; then the bus driver takes the power away, and with it all that the device knows. One that does not is
//! halted instead, and initialised anew.

use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;

use super::adapter::{Adapter, State};
use super::oid::{Order, ask};
use super::{lifecycle, rules};
use crate::verifier::violation;

/// Takes an adapter to D3. One that is not power-aware is halted.
pub(crate) fn sleep(adapter: &Rc<Adapter>) {
    if !adapter.is_power_aware() {
        lifecycle::stop(adapter);
        lifecycle::halt(adapter, NdisHaltDevicePoweredDown);
        return;
    }
    expect_success(
        adapter,
        "OID_PNP_QUERY_POWER",
        &Order::query_with(OID_PNP_QUERY_POWER, &NdisDeviceStateD3.to_le_bytes()),
    );
    if !adapter.has_attribute(NDIS_MINIPORT_ATTRIBUTES_NO_PAUSE_ON_SUSPEND)
        && adapter.state.get() == State::Running
    {
        lifecycle::pause(adapter, NDIS_PAUSE_LOW_POWER);
        adapter.paused_for_sleep.set(true);
    }
    set_power(adapter, NdisDeviceStateD3);
    let sends = adapter.sends.outstanding();
    if sends > 0 {
        violation(
            rules::POWER,
            format!("the adapter goes to D3 with {sends} send(s) outstanding"),
        );
    }
    let timers = super::work::timers_set(adapter.handle.get());
    if timers > 0 {
        violation(
            rules::POWER,
            format!("the adapter goes to D3 with {timers} NDIS timer(s) set"),
        );
    }
    adapter.asleep.set(true);
    adapter.device.function.power_down();
}

/// Brings an adapter back to D0. One that was halted is initialised anew by the caller.
///
/// # Errors
/// The status with which `MiniportRestart` failed.
pub(crate) fn wake(adapter: &Rc<Adapter>) -> Result<(), i32> {
    if !adapter.asleep.replace(false) {
        return Ok(());
    }
    adapter.device.function.power_up();
    set_power(adapter, NdisDeviceStateD0);
    lifecycle::tell_power_profile(adapter);
    if adapter.paused_for_sleep.replace(false) {
        lifecycle::restart(adapter)?;
    }
    Ok(())
}

fn set_power(adapter: &Rc<Adapter>, state: NDIS_DEVICE_POWER_STATE) {
    let order = Order::set(OID_PNP_SET_POWER, &state.to_le_bytes());
    expect_success(adapter, "OID_PNP_SET_POWER", &order);
}

fn expect_success(adapter: &Rc<Adapter>, what: &str, order: &Order) {
    // Of a device that is gone, as the miniport knows, nothing is accepted any more.
    let removed = adapter.removed.get();
    let status = ask(adapter, order).status;
    if status != NDIS_STATUS_SUCCESS && !(removed && status == NDIS_STATUS_NOT_ACCEPTED) {
        violation(
            rules::POWER,
            format!("{what} was answered {status:#x}: it must succeed"),
        );
    }
}
