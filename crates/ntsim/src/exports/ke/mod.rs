//! `Ke*`: spin locks, IRQL, DPCs, timers, waiting, time, processors.

pub(crate) mod dpc;
pub(crate) mod processor;
pub(crate) mod queued;
pub(crate) mod spin;
pub(crate) mod time;
pub(crate) mod timer;
pub(crate) mod wait;
pub(crate) mod wait_many;
