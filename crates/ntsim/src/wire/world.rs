//! Wires as parts of a world.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::{Capture, CaptureConfig, Port, SocketConfig, SocketWire, Switch, SwitchConfig};
use crate::World;
use crate::world::{Clock, Core};

/// What a world keeps of its wires.
#[derive(Default)]
struct Wires {
    sockets: RefCell<Vec<Rc<SocketWire>>>,
    captures: RefCell<Vec<Capture>>,
}

/// Has all recordings written out: for when the process is about to end without unwinding.
pub(crate) fn flush(core: &Core) {
    for capture in core.ext::<Wires>().captures.borrow().iter() {
        // Nobody is left to tell.
        let _ = capture.flush();
    }
}

impl World {
    /// Adds a switch whose links are like this.
    pub fn switch(&mut self, links: SwitchConfig) -> Switch {
        Switch::new(&self.core, links)
    }

    /// Records everything that passes the switch in a pcapng file, until the world ends.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn capture(
        &mut self,
        switch: &Switch,
        path: impl AsRef<Path>,
        config: CaptureConfig,
    ) -> io::Result<Capture> {
        let comment = format!("seed {}", self.core.seed);
        let capture = Capture::to_file(path.as_ref(), &comment, config)?;
        Ok(self.keep(switch, capture))
    }

    /// As [`World::capture`], in memory.
    ///
    /// # Errors
    /// None in practice.
    pub fn capture_to_memory(
        &mut self,
        switch: &Switch,
        config: CaptureConfig,
    ) -> io::Result<Capture> {
        let capture = Capture::to_memory(&format!("seed {}", self.core.seed), config)?;
        Ok(self.keep(switch, capture))
    }

    fn keep(&mut self, switch: &Switch, capture: Capture) -> Capture {
        switch.record(Some(capture.clone()));
        let wires = self.core.ext::<Wires>();
        wires.captures.borrow_mut().push(capture.clone());
        capture
    }

    /// Connects the switch to another process: see [`SocketConfig`].
    ///
    /// # Errors
    /// If the socket cannot be bound, or if this is no real-time world: the other process does not wait for a
    /// virtual clock.
    pub fn socket_wire(
        &mut self,
        switch: &Switch,
        name: &str,
        config: SocketConfig,
    ) -> io::Result<Rc<SocketWire>> {
        if self.core.clock != Clock::RealTime {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a wire to another process needs a real-time world",
            ));
        }
        let wire = SocketWire::new(switch, name, config)?;
        let polled = Rc::downgrade(&wire);
        self.core.watch_fd(
            wire.fd(),
            Rc::new(move || {
                if let Some(wire) = polled.upgrade() {
                    wire.poll();
                }
            }),
        );
        let wires = self.core.ext::<Wires>();
        wires.sockets.borrow_mut().push(Rc::clone(&wire));
        Ok(wire)
    }

    /// Takes a wire to another process away again.
    pub fn remove_socket_wire(&mut self, wire: &Rc<SocketWire>) {
        self.core.unwatch_fd(wire.fd());
        if let Some(port) = wire.port() {
            Port::disconnect(&port);
        }
        let wires = self.core.ext::<Wires>();
        wires
            .sockets
            .borrow_mut()
            .retain(|other| !Rc::ptr_eq(other, wire));
    }
}
