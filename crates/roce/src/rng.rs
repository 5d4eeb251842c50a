//! The generator of what must neither repeat across restarts nor be guessed: QPNs, starting PSNs, key tags, communication and
//! transaction IDs. Whoever knows one of them learns nothing of the next.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// ChaCha with 12 rounds. As hard to guess as its seed is.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha12Rng);

impl Rng {
    /// A generator for this seed; equal seeds give equal sequences.
    #[must_use]
    pub fn from_seed(seed: u128) -> Rng {
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(seed.to_le_bytes()) {
            *to = from;
        }
        Rng(ChaCha12Rng::from_seed(key))
    }

    /// The same with a short seed: for simulations.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng::from_seed(u128::from(seed))
    }

    /// A generator of its own, with a seed from this one.
    pub(crate) fn fork(&mut self) -> Rng {
        let (high, low) = (self.next_u64(), self.next_u64());
        Rng::from_seed(u128::from(high) << 64 | u128::from(low))
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// The next 32 bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;
    use std::collections::HashSet;

    #[test]
    fn equal_seeds_give_equal_sequences_and_every_bit_of_a_seed_counts() {
        let first = |seed| {
            let mut rng = Rng::from_seed(seed);
            [(); 4].map(|()| rng.next_u64())
        };
        let mut seen = HashSet::from([first(0)]);
        assert_eq!(first(0), first(0));
        for bit in 0..128 {
            assert!(seen.insert(first(1 << bit)), "bit {bit}");
        }
        assert_eq!(Rng::new(5).next_u64(), Rng::from_seed(5).next_u64());
    }

    #[test]
    fn a_fork_goes_its_own_way() {
        let mut rng = Rng::new(1);
        let (mut a, mut b) = (rng.fork(), rng.fork());
        let mut draw = || [rng.next_u64(), a.next_u64(), b.next_u64()];
        let seen: HashSet<u64> = (0..100).flat_map(|_| draw()).collect();
        assert_eq!(seen.len(), 300);
    }
}
