//! The ND port space: which local address and port is in use, and by how many objects (page "NDKPI Listeners, Connectors, and Endpoints").
//!
//! An endpoint is a local IP address with an ND port. It is made by a listener, by a connector or by a shared endpoint and lives
//! until the last object that refers to it is closed; while it lives nobody else can have the same address and port.
//!
//! IRQL: <= DISPATCH_LEVEL, under the port's lock.

use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

/// First port that the provider hands out when a consumer asks for port 0.
pub const EPHEMERAL_FIRST: u16 = 49152;
/// How many ports the provider can hand out: 49152 to 65535.
const EPHEMERAL_COUNT: u16 = u16::MAX - EPHEMERAL_FIRST + 1;

/// Why an address and port cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// Somebody has this address and port: STATUS_SHARING_VIOLATION.
    InUse,
    /// Port 0 was asked for and every port from 49152 to 65535 is taken: STATUS_TOO_MANY_ADDRESSES.
    Exhausted,
    /// No memory for one more entry: STATUS_INSUFFICIENT_RESOURCES.
    OutOfMemory,
}

#[derive(Debug)]
struct Entry {
    port: u16,
    address: IpAddr,
    references: u32,
}

/// Every endpoint of one adapter, ordered by port so that a lookup is a binary search.
#[derive(Debug)]
pub struct PortSpace {
    entries: Vec<Entry>,
    /// Where the next search for a free port starts: recently released ports rest as long as possible.
    next: u16,
}

impl PortSpace {
    /// An empty port space.
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
            next: 0,
        }
    }

    /// Takes `wanted`, choosing a free port from 49152 to 65535 if its port is 0; its scope id stays. The first reference is the caller's.
    ///
    /// The wildcard address stands for every address of its family, so it collides with each of them.
    pub fn claim(&mut self, wanted: SocketAddr) -> Result<SocketAddr, ClaimError> {
        let address = wanted.ip();
        let port = if wanted.port() == 0 {
            self.free_port(address)?
        } else if self.collides(address, wanted.port()) {
            return Err(ClaimError::InUse);
        } else {
            wanted.port()
        };
        self.entries
            .try_reserve(1)
            .map_err(|_| ClaimError::OutOfMemory)?;
        let at = self
            .entries
            .partition_point(|entry| (entry.port, entry.address) < (port, address));
        self.entries.insert(
            at,
            Entry {
                port,
                address,
                references: 1,
            },
        );
        let mut chosen = wanted;
        chosen.set_port(port);
        Ok(chosen)
    }

    /// One more object refers to an endpoint that is already claimed. Returns false if it is not.
    pub fn share(&mut self, endpoint: SocketAddr) -> bool {
        match self
            .position(endpoint)
            .and_then(|at| self.entries.get_mut(at))
        {
            Some(entry) => {
                entry.references = entry.references.saturating_add(1);
                true
            }
            None => false,
        }
    }

    /// One object less refers to the endpoint; the last one frees it.
    pub fn release(&mut self, endpoint: SocketAddr) {
        let Some(at) = self.position(endpoint) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(at) {
            entry.references = entry.references.saturating_sub(1);
            if entry.references == 0 {
                self.entries.remove(at);
            }
        }
    }

    /// Whether somebody has exactly this address and port.
    pub fn is_claimed(&self, endpoint: SocketAddr) -> bool {
        self.position(endpoint).is_some()
    }

    fn position(&self, endpoint: SocketAddr) -> Option<usize> {
        let key = (endpoint.port(), endpoint.ip());
        self.entries
            .binary_search_by(|entry| (entry.port, entry.address).cmp(&key))
            .ok()
    }

    fn collides(&self, address: IpAddr, port: u16) -> bool {
        let from = self.entries.partition_point(|entry| entry.port < port);
        self.entries
            .iter()
            .skip(from)
            .take_while(|entry| entry.port == port)
            .any(|entry| {
                entry.address == address
                    || (entry.address.is_ipv4() == address.is_ipv4()
                        && (entry.address.is_unspecified() || address.is_unspecified()))
            })
    }

    fn free_port(&mut self, address: IpAddr) -> Result<u16, ClaimError> {
        for step in 0..EPHEMERAL_COUNT {
            let offset = (u32::from(self.next) + u32::from(step)) % u32::from(EPHEMERAL_COUNT);
            let offset = u16::try_from(offset).unwrap_or(0);
            let port = EPHEMERAL_FIRST.saturating_add(offset);
            if !self.collides(address, port) {
                self.next = offset.wrapping_add(1) % EPHEMERAL_COUNT;
                return Ok(port);
            }
        }
        Err(ClaimError::Exhausted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_endpoint_stays_taken_until_its_last_reference_is_gone() {
        let mut ports = PortSpace::new();
        let endpoint = ports.claim(at("10.0.0.1:445")).unwrap();
        assert!(ports.share(endpoint));
        ports.release(endpoint);
        assert_eq!(ports.claim(endpoint), Err(ClaimError::InUse));
        ports.release(endpoint);
        assert_eq!(ports.claim(endpoint), Ok(endpoint));
    }

    #[test]
    fn the_wildcard_collides_with_every_address_of_its_family_only() {
        let mut ports = PortSpace::new();
        ports.claim(at("0.0.0.0:445")).unwrap();
        assert_eq!(ports.claim(at("10.0.0.1:445")), Err(ClaimError::InUse));
        assert!(ports.claim(at("[fe80::1]:445")).is_ok());
        assert_eq!(ports.claim(at("[::]:445")), Err(ClaimError::InUse));
        assert!(ports.claim(at("10.0.0.1:446")).is_ok());
    }

    #[test]
    fn a_chosen_port_is_ephemeral_and_the_range_runs_out() {
        let mut ports = PortSpace::new();
        let first = ports.claim(at("10.0.0.1:0")).unwrap();
        assert_eq!(first.port(), EPHEMERAL_FIRST);
        for _ in 1..EPHEMERAL_COUNT {
            assert!(ports.claim(at("10.0.0.1:0")).unwrap().port() > EPHEMERAL_FIRST);
        }
        assert_eq!(ports.claim(at("10.0.0.1:0")), Err(ClaimError::Exhausted));
        // Another address has its own ports, and a released one can be had again.
        assert!(ports.claim(at("10.0.0.2:0")).is_ok());
        ports.release(at("10.0.0.1:50000"));
        assert_eq!(ports.claim(at("10.0.0.1:0")).unwrap().port(), 50000);
    }

    #[test]
    fn a_released_port_rests_before_it_is_chosen_again() {
        let mut ports = PortSpace::new();
        let first = ports.claim(at("10.0.0.1:0")).unwrap();
        ports.release(first);
        assert_ne!(ports.claim(at("10.0.0.1:0")).unwrap(), first);
    }
}
