//! Numbers by which peers call what lives in a table: QPNs and communication IDs. They are drawn at random, so that nobody can tell one
//! from another or from where in the table it leads to, and are found again by hashing.

use crate::rng::Rng;
use crate::table::{Link, OutOfMemory, try_zeroed};
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// What a queue pair can be called: 0 is reserved, 1 is the general service interface, the highest is for multicast (IBTA 3.5.10).
pub(crate) const QPNS: RangeInclusive<u32> = 2..=0x00ff_fffe;

/// No number: never drawn, and what zeroed memory holds.
const NO_NUMBER: u32 = 0;

/// The numbers of members `0..members`, one each or none, and those that were given up last.
///
/// An open-addressing hash table with linear probing, at most half full. Peers choose what is looked up, and can choose which of the
/// numbers they were told they keep, so the hash is keyed.
pub(crate) struct Numbers {
    range: RangeInclusive<u32>,
    /// Members by the hashes of their numbers; behind a member's own place as far as others were there before.
    places: Vec<Link>,
    /// By member: first those that live, then the ring of those that rest.
    numbers: Vec<u32>,
    /// How many may live.
    members: u32,
    /// The place in `numbers` of the one that has rested longest, or that is still free: the next goes there.
    next_rest: u32,
    /// Odd.
    key: u64,
}

impl Numbers {
    /// For `members` members with numbers from `range`, without 0; a number given up is not drawn again before `resting` others have been
    /// given up. The numbers in use and at rest must be few among those there are.
    ///
    /// # Errors
    /// No memory.
    pub fn try_new(
        range: RangeInclusive<u32>,
        members: u32,
        resting: u32,
        rng: &mut Rng,
    ) -> Result<Numbers, OutOfMemory> {
        let all = (members as usize).saturating_add(resting as usize);
        let places = all.max(1).saturating_mul(2).next_power_of_two();
        Ok(Numbers {
            range,
            places: try_zeroed(places)?,
            numbers: try_zeroed(all)?,
            members,
            next_rest: members,
            key: rng.next_u64() | 1,
        })
    }

    /// A number that nobody has and that does not rest. It is not taken before [`assign`](Self::assign).
    pub fn draw(&self, rng: &mut Rng) -> u32 {
        let mask = u32::MAX >> self.range.end().leading_zeros();
        loop {
            let number = rng.next_u32() & mask;
            if number != NO_NUMBER && self.range.contains(&number) && self.place(number).is_none() {
                return number;
            }
        }
    }

    /// Who has this number.
    pub fn find(&self, number: u32) -> Option<u32> {
        let member = self.at(self.place(number)?)?;
        (member < self.members).then_some(member)
    }

    /// Gives a member a number that was [drawn](Self::draw), instead of the one that it had.
    pub fn assign(&mut self, member: u32, number: u32) {
        if member >= self.members {
            return;
        }
        self.release(member);
        self.set_number(member, number);
        let mut place = self.home(number);
        while self.at(place).is_some() {
            place = self.after(place);
        }
        self.put(place, Link::to(member));
    }

    /// Takes a member's number from it, if it has one.
    pub fn release(&mut self, member: u32) {
        let number = self.number(member);
        if member >= self.members || number == NO_NUMBER {
            return;
        }
        let oldest = self.next_rest;
        if oldest as usize >= self.numbers.len() {
            // Nothing rests here.
            self.erase(number);
        } else {
            self.erase(self.number(oldest));
            self.set_number(oldest, number);
            if let Some(place) = self.place(number) {
                self.put(place, Link::to(oldest));
            }
            let next = oldest + 1;
            let wraps = next as usize >= self.numbers.len();
            self.next_rest = if wraps { self.members } else { next };
        }
        self.set_number(member, NO_NUMBER);
    }

    /// Empties a number's place, and moves up who found it taken.
    fn erase(&mut self, number: u32) {
        let Some(mut hole) = self.place(number) else {
            return;
        };
        let mut place = self.after(hole);
        while let Some(member) = self.at(place) {
            let home = self.home(self.number(member));
            // Its way from home to here leads over the hole.
            if self.distance(home, place) >= self.distance(hole, place) {
                self.put(hole, Link::to(member));
                hole = place;
            }
            place = self.after(place);
        }
        self.put(hole, Link::NONE);
    }

    /// Where a number is.
    fn place(&self, number: u32) -> Option<usize> {
        let mut place = self.home(number);
        loop {
            // Half of the places at least are empty.
            let member = self.at(place)?;
            if self.number(member) == number {
                return Some(place);
            }
            place = self.after(place);
        }
    }

    /// Where the search for a number begins.
    fn home(&self, number: u32) -> usize {
        // There are two places or more: a shift by 63 bits at most.
        let shift = u64::BITS - self.places.len().trailing_zeros();
        (u64::from(number).wrapping_mul(self.key) >> shift) as usize
    }

    fn after(&self, place: usize) -> usize {
        place.wrapping_add(1) & self.places.len().wrapping_sub(1)
    }

    /// Steps from one place to another.
    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & self.places.len().wrapping_sub(1)
    }

    fn at(&self, place: usize) -> Option<u32> {
        let link = self.places.get(place).filter(|p| **p != Link::NONE)?;
        Some(link.index())
    }

    fn put(&mut self, place: usize, member: Link) {
        if let Some(p) = self.places.get_mut(place) {
            *p = member;
        }
    }

    fn number(&self, member: u32) -> u32 {
        let number = self.numbers.get(member as usize).copied();
        number.unwrap_or(NO_NUMBER)
    }

    fn set_number(&mut self, member: u32, number: u32) {
        if let Some(n) = self.numbers.get_mut(member as usize) {
            *n = number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
    use std::collections::{HashMap, VecDeque};

    /// What [`Numbers`] is to be.
    struct Model {
        members: HashMap<u32, u32>,
        resting: VecDeque<u32>,
        room: usize,
    }

    impl Model {
        fn release(&mut self, member: u32) {
            let Some(number) = self.members.remove(&member) else {
                return;
            };
            self.resting.push_back(number);
            if self.resting.len() > self.room {
                self.resting.pop_front();
            }
        }

        fn find(&self, number: u32) -> Option<u32> {
            let mut all = self.members.iter();
            all.find(|(_, n)| **n == number).map(|(m, _)| *m)
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Assign(u32),
        Release(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..10u32).prop_map(Step::Assign),
            2 => (0..10u32).prop_map(Step::Release),
        ]
    }

    proptest! {
        /// So few numbers that they collide, come again, and lie on top of one another in the table.
        #[test]
        fn it_is_a_map_and_a_queue(
            seed: u64,
            members in 0..10u32,
            resting in 0..8u32,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut rng = Rng::new(seed);
            let mut numbers = Numbers::try_new(2..=62, members, resting, &mut rng).unwrap();
            let mut model = Model {
                members: HashMap::new(),
                resting: VecDeque::new(),
                room: resting as usize,
            };
            for step in steps {
                match step {
                    Step::Assign(member) => {
                        let number = numbers.draw(&mut rng);
                        prop_assert!((2..=62).contains(&number));
                        prop_assert!(model.find(number).is_none());
                        prop_assert!(!model.resting.contains(&number));
                        numbers.assign(member, number);
                        if member < members {
                            model.release(member);
                            model.members.insert(member, number);
                        }
                    }
                    Step::Release(member) => {
                        numbers.release(member);
                        model.release(member);
                    }
                }
                for number in 0..64 {
                    prop_assert_eq!(numbers.find(number), model.find(number));
                    let known = numbers.place(number).is_some();
                    let taken = model.find(number).is_some() || model.resting.contains(&number);
                    prop_assert_eq!(known, taken);
                }
                let used = numbers.places.iter().filter(|m| **m != Link::NONE).count();
                prop_assert_eq!(used, model.members.len() + model.resting.len());
            }
        }
    }

    /// Places looked at until a number has turned out to be there or not.
    fn probes(numbers: &Numbers, number: u32) -> usize {
        let mut place = numbers.home(number);
        let mut probes = 1;
        while let Some(member) = numbers.at(place)
            && numbers.number(member) != number
        {
            place = numbers.after(place);
            probes += 1;
        }
        probes
    }

    /// However many there are, and however often they have changed: half of the table stays empty.
    #[test]
    fn look_ups_take_as_long_among_many_as_among_few() {
        for members in [1 << 10, 1 << 14, 100_000, 1 << 17] {
            let mut rng = Rng::new(u64::from(members));
            let range = 2..=0x00ff_fffe;
            let mut numbers = Numbers::try_new(range, members, members, &mut rng).unwrap();
            for _ in 0..3 {
                for member in 0..members {
                    let number = numbers.draw(&mut rng);
                    numbers.assign(member, number);
                }
            }
            let there: usize = (0..members)
                .map(|m| probes(&numbers, numbers.number(m)))
                .sum();
            // What peers make up.
            let others: Vec<usize> = (0..members)
                .map(|_| probes(&numbers, rng.next_u32() & 0x00ff_ffff))
                .collect();
            let n = members as usize;
            assert!(there < 2 * n, "{members}: {there}");
            assert!(others.iter().sum::<usize>() < 3 * n, "{members}");
            assert!(others.iter().max() < Some(&100), "{members}");
        }
    }

    #[test]
    fn the_key_decides_what_lies_together() {
        let order = |seed| {
            let numbers = Numbers::try_new(1..=u32::MAX, 500, 0, &mut Rng::new(seed)).unwrap();
            [1, 2, 3, 4, 5].map(|n| numbers.home(n))
        };
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn reserved_numbers_are_never_drawn() {
        let mut rng = Rng::new(9);
        let numbers = Numbers::try_new(2..=3, 1, 0, &mut rng).unwrap();
        for _ in 0..1000 {
            assert!((2..=3).contains(&numbers.draw(&mut rng)));
        }
    }
}
