//! `--trace`: what the driver tells event tracing.

use ntsim::etw::{TraceConfig, Traced};
use ntsim::{MachineId, World};

/// Sessions on some machines, and how much of each has been printed.
#[derive(Default)]
pub struct Tracer(Vec<(MachineId, usize)>);

impl Tracer {
    /// Listens to the driver on a machine, installed or not.
    pub fn listen(&mut self, world: &mut World, machine: MachineId) {
        world.start_trace(machine, TraceConfig::all(vroce::trace::ID));
        self.0.push((machine, 0));
    }

    /// Prints what is new, in the order in which it happened.
    pub fn print(&mut self, world: &World) {
        let mut new: Vec<Traced> = Vec::new();
        for (machine, printed) in &mut self.0 {
            let events = world.traced_from(*machine, *printed);
            *printed += events.len();
            new.extend(events);
        }
        new.sort_by_key(|event| event.time);
        for event in new {
            let (seconds, nanoseconds) = (event.time / 1_000_000_000, event.time % 1_000_000_000);
            let machine = &event.machine;
            out!("trace        {seconds}.{nanoseconds:09} s {machine}: {event}");
        }
    }
}
