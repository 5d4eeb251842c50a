//! A lack of memory at every place where a call allocates: the first allocation fails, then the second, until there are no more.

use super::epoch::Epoch;
use super::{connect, create, establish, fast, lam, listen, memory, post, queue, receive};
use std::time::Duration;

/// What is swept.
const OPERATIONS: &[fn(usize) -> bool] = &[
    create::cq,
    create::pd,
    create::qp,
    create::srq,
    create::mr,
    create::mw,
    create::connector,
    create::listener,
    create::shared_endpoint,
    lam::build_lam,
    memory::register,
    memory::initialize,
    memory::deregister,
    fast::fast_register,
    fast::bind,
    listen::listen,
    connect::connect,
    establish::accept,
    establish::complete,
    establish::disconnect,
    queue::resize,
    queue::moderate,
    post::send,
    receive::modify_srq,
];

/// More than any call allocates.
const MOST: u64 = 24;

/// Sweeps one operation.
pub(super) fn any(epoch: &mut Epoch, side: usize) {
    let operation = epoch.chance.of(OPERATIONS);
    let machine = epoch.machine(side);
    // What goes on when the call has returned allocates too.
    let after = epoch.chance.of(&[0, 0, 50]);
    for nth in 0..MOST {
        epoch.starve(side, Some(nth), false);
        let done = epoch.world.call(machine, || operation(side));
        if after > 0 {
            epoch.world.run_for(Duration::from_micros(after));
        }
        let untouched = epoch.world.allocation_failure_pending(machine);
        epoch.starve(side, None, false);
        if untouched || !done {
            break;
        }
    }
}
