//! Finding connections by what messages and owners call them, without looking at all of them.
//!
//! What is looked up comes from the wire, so the hash is keyed: nobody outside can tell which names end up in one chain. The peer's address
//! is part of every name: whoever has many of them could give one name as often otherwise.

use super::connection::{Connection, State};
use crate::rng::Rng;
use crate::table::{Link, OutOfMemory, try_zeroed};
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use zerocopy::FromZeros;

/// A member. Zeroed, it is filed nowhere.
#[derive(Clone, Copy, FromZeros)]
struct Node {
    hash: u64,
    filed: bool,
    next: Link,
    prev: Link,
}

impl Node {
    /// What it is filed under.
    fn hash(&self) -> Option<u64> {
        self.filed.then_some(self.hash)
    }
}

/// Members `0..capacity`, each filed under one hash or none.
struct Index {
    /// First member of each chain.
    heads: Vec<Link>,
    nodes: Vec<Node>,
}

impl Index {
    fn try_new(capacity: u32) -> Result<Index, OutOfMemory> {
        let chains = capacity.max(1).next_power_of_two();
        Ok(Index {
            heads: try_zeroed(chains as usize)?,
            nodes: try_zeroed(capacity as usize)?,
        })
    }

    fn chain(&self, hash: u64) -> usize {
        hash as usize & self.heads.len().wrapping_sub(1)
    }

    /// Files a member under `hash`, and no longer under what it was.
    fn file(&mut self, member: u32, hash: Option<u64>) {
        let Some(old) = self.nodes.get(member as usize).copied() else {
            return;
        };
        if old.hash() == hash {
            return;
        }
        if let Some(hash) = old.hash() {
            self.unlink(old, self.chain(hash));
        }
        let mut next = Link::NONE;
        if let Some(hash) = hash {
            let chain = self.chain(hash);
            if let Some(head) = self.heads.get_mut(chain) {
                next = core::mem::replace(head, Link::to(member));
            }
        }
        if let Some(second) = self.nodes.get_mut(next.index() as usize) {
            second.prev = Link::to(member);
        }
        if let Some(node) = self.nodes.get_mut(member as usize) {
            *node = Node {
                hash: hash.unwrap_or(0),
                filed: hash.is_some(),
                next,
                prev: Link::NONE,
            };
        }
    }

    /// Without a look at the rest of the chain: many members may have one name, and end at once.
    fn unlink(&mut self, node: Node, chain: usize) {
        if let Some(before) = self.nodes.get_mut(node.prev.index() as usize) {
            before.next = node.next;
        } else if let Some(head) = self.heads.get_mut(chain) {
            *head = node.next;
        }
        if let Some(behind) = self.nodes.get_mut(node.next.index() as usize) {
            behind.prev = node.prev;
        }
    }

    /// The members filed under `hash`.
    fn find(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.heads.get(self.chain(hash)).copied();
        let node = |at: Link| self.nodes.get(at.index() as usize);
        core::iter::successors(first, move |at| node(*at).map(|n| n.next))
            .take_while(|at| *at != Link::NONE)
            .filter(move |at| node(*at).is_some_and(|n| n.hash() == Some(hash)))
            .map(Link::index)
    }
}

/// Connections, by table index. What is found has the right hash, and is to be compared.
pub(super) struct Lookup {
    keys: [u64; 2],
    /// Passive ones that are not over, by the peer's address, its GUID and its name of the connection.
    by_name: Index,
    /// Live ones whose peer's queue pair is known, by its address, GUID and number.
    by_qp: Index,
    /// Live ones, by addresses and ports.
    by_ports: Index,
}

impl Lookup {
    pub fn try_new(capacity: u32, rng: &mut Rng) -> Result<Lookup, OutOfMemory> {
        Ok(Lookup {
            // An even factor would lose bits.
            keys: [rng.next_u64(), rng.next_u64() | 1],
            by_name: Index::try_new(capacity)?,
            by_qp: Index::try_new(capacity)?,
            by_ports: Index::try_new(capacity)?,
        })
    }

    fn hash(&self, words: impl IntoIterator<Item = u64>) -> u64 {
        let [start, factor] = self.keys;
        words.into_iter().fold(start, |hash, word| {
            let product = u128::from(hash ^ word).wrapping_mul(u128::from(factor));
            (product as u64 ^ (product >> 64) as u64).rotate_left(23)
        })
    }

    fn of_peers(&self, peer: IpAddr, guid: u64, number: u32) -> u64 {
        let [a, b] = words(peer);
        self.hash([guid, u64::from(number), a, b])
    }

    fn of_ports(&self, local: SocketAddr, peer: SocketAddr) -> u64 {
        let ports = u64::from(local.port()) << 16 | u64::from(peer.port());
        let [a, b] = words(local.ip());
        let [c, d] = words(peer.ip());
        self.hash([ports, a, b, c, d])
    }

    /// Follows what has become of a connection; `None` if it is gone.
    pub fn update(&mut self, index: u32, connection: Option<&Connection>) {
        let name = connection
            .filter(|c| !c.is_active() && c.state() != State::Closed)
            .map(|c| self.of_peers(c.path().dst_ip, c.remote_guid, c.remote_comm_id));
        let live = connection.filter(|c| c.is_live());
        let qp = live
            .filter(|c| c.remote_qpn != 0)
            .map(|c| self.of_peers(c.path().dst_ip, c.remote_guid, c.remote_qpn));
        let ports = live.map(|c| self.of_ports(c.info.local, c.info.peer));
        self.by_name.file(index, name);
        self.by_qp.file(index, qp);
        self.by_ports.file(index, ports);
    }

    /// Passive connections that a peer may call so.
    pub fn named(&self, peer: IpAddr, guid: u64, comm_id: u32) -> impl Iterator<Item = u32> {
        self.by_name.find(self.of_peers(peer, guid, comm_id))
    }

    /// Live connections that may have this queue pair of a peer.
    pub fn with_qp(&self, peer: IpAddr, guid: u64, qpn: u32) -> impl Iterator<Item = u32> {
        self.by_qp.find(self.of_peers(peer, guid, qpn))
    }

    /// Live connections that may be between these.
    pub fn between(&self, local: SocketAddr, peer: SocketAddr) -> impl Iterator<Item = u32> {
        self.by_ports.find(self.of_ports(local, peer))
    }
}

fn words(ip: IpAddr) -> [u64; 2] {
    let bits = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn members_are_found_under_what_they_were_filed_last() {
        let mut rng = Rng::new(3);
        let mut index = Index::try_new(50).unwrap();
        let mut want: [Option<u64>; 50] = [None; 50];
        for _ in 0..5000 {
            let member = rng.next_u32() % 50;
            // Few hashes, so that chains are long; some differ only above the bits that choose the chain.
            let hash = match rng.next_u32() % 12 {
                0..3 => None,
                n => Some(u64::from(n % 5) | u64::from(n / 5) << 40),
            };
            index.file(member, hash);
            want[member as usize] = hash;
            for hash in (0..5).flat_map(|n| [n, n | 1 << 40, n | 2 << 40]) {
                let found: Vec<u32> = index.find(hash).collect();
                let set: BTreeSet<u32> = found.iter().copied().collect();
                assert_eq!(found.len(), set.len());
                let members = (0..50).filter(|m| want[*m as usize] == Some(hash));
                assert_eq!(set, members.collect());
            }
        }
        index.file(50, Some(1));
        assert!(!index.find(1).any(|m| m == 50));
    }

    /// Names as a peer would count them up, and as one would choose them who knows the number of chains; one name from many addresses.
    #[test]
    fn chains_stay_short_whatever_the_names() {
        for seed in 0..8 {
            let n = 4096;
            let mut lookup = Lookup::try_new(n, &mut Rng::new(seed)).unwrap();
            for stride in [0, 1, 1 << 8, n, 1 << 18] {
                for member in 0..n {
                    let address = if stride == 0 { u128::from(member) } else { 1 };
                    let peer = IpAddr::V6((0xfe80 << 112 | address).into());
                    let hash = lookup.of_peers(peer, 7, member.wrapping_mul(stride));
                    lookup.by_name.file(member, Some(hash));
                }
                let longest = (0..u64::from(n))
                    .map(|chain| {
                        let mut at = lookup.by_name.heads[chain as usize];
                        let mut len = 0;
                        while at != Link::NONE {
                            at = lookup.by_name.nodes[at.index() as usize].next;
                            len += 1;
                        }
                        len
                    })
                    .max();
                assert!(longest < Some(16), "{seed} {stride} {longest:?}");
            }
        }
    }
}
