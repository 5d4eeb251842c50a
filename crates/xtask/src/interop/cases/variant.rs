//! What a case is run with: family of addresses, path MTU, and whether the wire is good.

use std::fmt;

/// The two ends of the wire, by one family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The guest's address.
    pub guest: &'static str,
    /// vroce's address.
    pub vroce: &'static str,
    /// Length of the prefix that they share.
    pub prefix: u8,
}

/// IPv4.
pub const V4: Ends = Ends {
    guest: "10.0.0.2",
    vroce: "10.0.0.1",
    prefix: 24,
};
/// IPv6.
pub const V6: Ends = Ends {
    guest: "fd00::2",
    vroce: "fd00::1",
    prefix: 64,
};

/// One way to run a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Family of addresses.
    pub v6: bool,
    /// Path MTU of 4096 in place of 1024, on links that are set up for it.
    pub wide: bool,
    /// The wire loses, reorders and doubles frames.
    pub faulty: bool,
}

impl Variant {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Variant> {
        (0..8).map(|bits| Variant {
            v6: bits & 1 != 0,
            wide: bits & 2 == 0,
            faulty: bits & 4 != 0,
        })
    }

    /// A few for the case of this number: one on a good wire and its opposite on a faulty one, each time another pair, and if `long` is
    /// not set the first once more, on a faulty wire. So every case meets both families, both path MTUs and both kinds of wire, and
    /// over four cases whatever two of these can be meets; the faulty wire meets both families and both path MTUs in every case that is
    /// not `long`. Without IPv6 the family gives way.
    pub fn cover(case: usize, v6: bool, long: bool) -> Vec<Variant> {
        let good = Variant {
            v6: v6 && case & 1 != 0,
            wide: case & 2 == 0,
            faulty: false,
        };
        let opposite = Variant {
            v6: v6 && case & 1 == 0,
            wide: !good.wide,
            faulty: true,
        };
        let same = Variant {
            faulty: true,
            ..good
        };
        let mut cover = vec![good, opposite];
        cover.extend((!long).then_some(same));
        cover
    }

    /// The addresses.
    pub fn ends(self) -> Ends {
        if self.v6 { V6 } else { V4 }
    }

    /// Path MTU in bytes.
    pub fn mtu(self) -> u64 {
        if self.wide { 4096 } else { 1024 }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.v6 { "v6" } else { "v4" };
        let faulty = if self.faulty { "-faulty" } else { "" };
        write!(f, "{family}-{}{faulty}", self.mtu())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn pairs(of: &[Variant]) -> BTreeSet<(u8, bool, bool)> {
        let each = |v: &Variant| {
            [
                (0, v.v6, v.wide),
                (1, v.v6, v.faulty),
                (2, v.wide, v.faulty),
            ]
        };
        of.iter().flat_map(each).collect()
    }

    #[test]
    fn there_are_eight_and_their_names_differ() {
        let names: BTreeSet<String> = Variant::all().map(|v| v.to_string()).collect();
        assert_eq!(names.len(), 8);
        assert!(names.contains("v4-4096") && names.contains("v6-1024-faulty"));
    }

    #[test]
    fn four_cases_cover_every_pair_and_each_case_every_value() {
        let mut all = Vec::new();
        for case in 0..4 {
            let cover = Variant::cover(case, true, true);
            let [a, b] = cover[..] else {
                panic!("{cover:?}")
            };
            assert!(a.v6 != b.v6 && a.wide != b.wide && a.faulty != b.faulty);
            all.extend([a, b]);
        }
        assert_eq!(pairs(&all).len(), 12);
    }

    #[test]
    fn each_case_meets_the_faulty_wire_with_both_families_and_path_mtus() {
        for case in 0..4 {
            for v6 in [false, true] {
                let cover = Variant::cover(case, v6, false);
                let [good, a, b] = cover[..] else {
                    panic!("{cover:?}")
                };
                assert!(!good.faulty && a.faulty && b.faulty);
                assert!(a.wide != b.wide && (a.v6 != b.v6) == v6);
                assert!(v6 || !cover.iter().any(|variant| variant.v6));
            }
        }
    }
}
