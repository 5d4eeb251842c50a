//! Who listens where.

use crate::connection::{CmError, ListenerId};
use crate::table::{OutOfMemory, Slot, Table, try_vec};
use alloc::vec::Vec;
use core::net::IpAddr;

struct Listener {
    /// Unspecified: every address of the family.
    addr: IpAddr,
    port: u16,
    paused: bool,
    /// The next in the same chain.
    next: u32,
}

/// A power of two. Listeners have few ports in common, or many that follow each other.
const CHAINS: usize = 1024;
const NONE: u32 = u32::MAX;

/// All listeners. Every request from the wire asks for one: they are found by port, without looking at all of them.
pub(super) struct Listeners {
    table: Table<Listener>,
    /// First of each chain: the listeners at ports with the same remainder.
    chains: Vec<u32>,
}

impl Listeners {
    pub fn try_new(capacity: u32) -> Result<Self, OutOfMemory> {
        Ok(Self {
            table: Table::try_new(capacity)?,
            chains: try_vec(CHAINS, |_| NONE)?,
        })
    }

    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        let addr = addr.to_canonical();
        if self.at_port(port).any(|(_, l)| l.addr == addr) {
            return Err(CmError::AddressInUse);
        }
        let head = self.chains.get_mut(chain(port)).ok_or(CmError::TableFull)?;
        let listener = Listener {
            addr,
            port,
            paused: false,
            next: *head,
        };
        let slot = self
            .table
            .insert(listener)
            .map_err(|_| CmError::TableFull)?;
        *head = slot.index;
        Ok(ListenerId(slot))
    }

    fn at_port(&self, port: u16) -> impl Iterator<Item = (Slot, &Listener)> {
        let first = self.chains.get(chain(port)).copied().unwrap_or(NONE);
        core::iter::successors(self.table.at(first), |(_, l)| self.table.at(l.next))
            .filter(move |(_, l)| l.port == port)
    }

    pub fn unlisten(&mut self, id: ListenerId) -> Result<(), CmError> {
        let gone = self.table.remove(id.0).ok_or(CmError::Unknown)?;
        let Some(head) = self.chains.get_mut(chain(gone.port)) else {
            return Ok(());
        };
        if *head == id.0.index {
            *head = gone.next;
            return Ok(());
        }
        let mut at = *head;
        while let Some((_, listener)) = self.table.at_mut(at) {
            if listener.next == id.0.index {
                listener.next = gone.next;
                break;
            }
            at = listener.next;
        }
        Ok(())
    }

    pub fn pause(&mut self, id: ListenerId, pause: bool) -> Result<(), CmError> {
        self.table.get_mut(id.0).ok_or(CmError::Unknown)?.paused = pause;
        Ok(())
    }

    /// Whom a request to this address and port is for: the listener at just this address before the one at all.
    pub fn find(&self, addr: IpAddr, port: u16) -> Option<ListenerId> {
        let mut found = None;
        for (slot, l) in self.at_port(port).filter(|(_, l)| !l.paused) {
            if l.addr == addr {
                return Some(ListenerId(slot));
            }
            if l.addr.is_unspecified() && l.addr.is_ipv4() == addr.is_ipv4() {
                found = Some(ListenerId(slot));
            }
        }
        found
    }
}

fn chain(port: u16) -> usize {
    usize::from(port) % CHAINS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_specific_listener_wins() {
        let mut l = Listeners::try_new(3).unwrap();
        let ip = |s: &str| s.parse::<IpAddr>().unwrap();
        let any = l.listen(ip("0.0.0.0"), 445).unwrap();
        let one = l.listen(ip("10.0.0.1"), 445).unwrap();
        assert_eq!(l.listen(ip("10.0.0.1"), 445), Err(CmError::AddressInUse));
        assert_eq!(l.find(ip("10.0.0.1"), 445), Some(one));
        assert_eq!(l.find(ip("10.0.0.2"), 445), Some(any));
        assert_eq!(l.find(ip("10.0.0.2"), 446), None);
        assert_eq!(l.find(ip("fd00::1"), 445), None);
        l.pause(one, true).unwrap();
        assert_eq!(l.find(ip("10.0.0.1"), 445), Some(any));
        l.unlisten(any).unwrap();
        assert_eq!(l.unlisten(any), Err(CmError::Unknown));
        assert_eq!(l.find(ip("10.0.0.1"), 445), None);
        l.pause(one, false).unwrap();
        assert_eq!(l.find(ip("10.0.0.1"), 445), Some(one));
        l.listen(ip("::"), 445).unwrap();
        l.listen(ip("::"), 446).unwrap();
        assert_eq!(l.listen(ip("::"), 447), Err(CmError::TableFull));
    }

    /// Chains are long here, and listeners come and go in any order.
    #[test]
    fn a_listener_is_found_from_its_beginning_to_its_end() {
        let mut rng = crate::rng::Rng::new(5);
        let mut l = Listeners::try_new(64).unwrap();
        let addr: IpAddr = "10.0.0.1".parse().unwrap();
        let mut want = [None; 64];
        for _ in 0..5000 {
            let n = rng.next_u32() as usize % 64;
            let port = |n: usize| (n % 32 * CHAINS + n / 32) as u16;
            want[n] = match want[n] {
                None => Some(l.listen(addr, port(n)).unwrap()),
                Some(id) => {
                    l.unlisten(id).unwrap();
                    None
                }
            };
            for (n, want) in want.iter().enumerate() {
                assert_eq!(l.find(addr, port(n)), *want);
            }
        }
    }
}
