//! Who listens where.

use crate::connection::{CmError, ListenerId};
use crate::table::{OutOfMemory, Table};
use core::net::IpAddr;

struct Listener {
    /// Unspecified: every address of the family.
    addr: IpAddr,
    port: u16,
    paused: bool,
}

/// All listeners.
pub(super) struct Listeners(Table<Listener>);

impl Listeners {
    pub fn try_new(capacity: u32) -> Result<Self, OutOfMemory> {
        Table::try_new(capacity).map(Self)
    }

    pub fn listen(&mut self, addr: IpAddr, port: u16) -> Result<ListenerId, CmError> {
        let addr = addr.to_canonical();
        if self.0.iter().any(|(_, l)| l.addr == addr && l.port == port) {
            return Err(CmError::AddressInUse);
        }
        self.0
            .insert(Listener {
                addr,
                port,
                paused: false,
            })
            .map(ListenerId)
            .map_err(|_| CmError::TableFull)
    }

    pub fn unlisten(&mut self, id: ListenerId) -> Result<(), CmError> {
        self.0.remove(id.0).map(|_| ()).ok_or(CmError::Unknown)
    }

    pub fn pause(&mut self, id: ListenerId, pause: bool) -> Result<(), CmError> {
        self.0.get_mut(id.0).ok_or(CmError::Unknown)?.paused = pause;
        Ok(())
    }

    /// Whom a request to this address and port is for: the listener at just this address before the one at all.
    pub fn find(&self, addr: IpAddr, port: u16) -> Option<ListenerId> {
        let mut found = None;
        for (slot, l) in self.0.iter().filter(|(_, l)| l.port == port && !l.paused) {
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
}
