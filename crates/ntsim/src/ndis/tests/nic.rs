//! A made-up NIC: one BAR with its number at offset 0 and an acknowledge register at offset 8. It sends by having the
//! driver name physical pieces, receives into a queue, and has two messages, or an interrupt line.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::fault::{LINES, NICS};
use crate::pci::{Bar, Device, Function, Identity};
use crate::world::machine::Machine;

/// The hardware.
pub(super) struct Nic {
    number: usize,
    pub(super) function: RefCell<Option<Rc<Function>>>,
    pub(super) received: RefCell<VecDeque<Vec<u8>>>,
    machine: RefCell<Option<std::rc::Weak<Machine>>>,
}

impl Device for Nic {
    fn read(&self, _bar: u8, offset: u64, _width: u8) -> u64 {
        if offset == 0 { self.number as u64 } else { 0 }
    }

    fn write(&self, _bar: u8, offset: u64, _width: u8, _value: u64) {
        if let Some(function) = self.function.borrow().as_ref().filter(|_| offset == 8) {
            function.set_line(false);
        }
    }
}

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1041,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
    revision: 1,
    class: [2, 0, 0],
};

/// Plugs a NIC into a machine. NICs 0 and 1, 2 and 3, ... are connected.
pub(super) fn plug(machine: &Rc<Machine>) -> Rc<Nic> {
    let bars = [
        Bar {
            index: 0,
            length: 0x1000,
            wide: true,
            prefetchable: false,
        },
        Bar {
            index: 4,
            length: 0x1000,
            wide: false,
            prefetchable: false,
        },
    ];
    let messages = if LINES.get() { 0 } else { 2 };
    let function = Function::new(&IDENTITY, &bars, messages, 4, &[]);
    let nic = NICS.with_borrow_mut(|nics| {
        let nic = Rc::new(Nic {
            number: nics.len(),
            function: RefCell::default(),
            received: RefCell::default(),
            machine: RefCell::new(Some(Rc::downgrade(machine))),
        });
        nics.push(Rc::clone(&nic));
        nic
    });
    function.attach(machine, Rc::clone(&nic) as Rc<dyn Device>);
    *nic.function.borrow_mut() = Some(function);
    nic
}

impl Nic {
    /// A frame arrives.
    pub(super) fn receive(&self, frame: Vec<u8>) {
        self.received.borrow_mut().push_back(frame);
        if let Some(function) = &*self.function.borrow() {
            function.raise(0);
            function.set_line(true);
        }
    }

    /// Reads a frame from memory and puts it on the wire.
    pub(super) fn transmit(&self, pieces: &[(u64, usize)], skip: usize) {
        let machine = self
            .machine
            .borrow()
            .as_ref()
            .and_then(std::rc::Weak::upgrade)
            .expect("plugged in");
        let mut frame = Vec::new();
        for (physical, length) in pieces {
            assert!(
                machine.ram.dma_allowed(*physical, *length, false),
                "DMA outside mapped memory"
            );
            let from = machine.ram.device_ptr(*physical, *length).expect("memory");
            // SAFETY: that many bytes of the machine's memory.
            frame.extend_from_slice(unsafe { std::slice::from_raw_parts(from, *length) });
        }
        frame.drain(..skip);
        let peer = NICS.with_borrow(|nics| nics.get(self.number ^ 1).map(Rc::clone));
        if let Some(peer) = peer {
            peer.receive(frame);
        }
    }
}
