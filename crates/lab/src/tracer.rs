//! `--trace`: what the driver tells event tracing.

use ntsim::etw::{GUID, TraceConfig, Traced};
use ntsim::{MachineId, World};

/// The provider `vroce`: 00ae21e7-4789-5e6f-3649-4e771fb7333f.
const VROCE: GUID = GUID {
    Data1: 0x00ae_21e7,
    Data2: 0x4789,
    Data3: 0x5e6f,
    Data4: [0x36, 0x49, 0x4e, 0x77, 0x1f, 0xb7, 0x33, 0x3f],
};

/// Sessions on some machines, and how much of each has been printed.
#[derive(Default)]
pub struct Tracer(Vec<(MachineId, usize)>);

impl Tracer {
    /// Listens to the driver on a machine, installed or not.
    pub fn listen(&mut self, world: &mut World, machine: MachineId) {
        world.start_trace(machine, TraceConfig::all(VROCE));
        self.0.push((machine, 0));
    }

    /// Prints what is new, in the order in which it happened.
    pub fn print(&mut self, world: &World) {
        let mut new: Vec<Traced> = Vec::new();
        for (machine, printed) in &mut self.0 {
            let events = world.traced(*machine);
            new.extend(events.iter().skip(*printed).cloned());
            *printed = events.len();
        }
        new.sort_by_key(|event| event.time);
        for event in new {
            let (seconds, nanoseconds) = (event.time / 1_000_000_000, event.time % 1_000_000_000);
            let machine = &event.machine;
            out!("trace        {seconds}.{nanoseconds:09} s {machine}: {event}");
        }
    }
}
