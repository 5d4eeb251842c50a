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

    /// Two for the case of this number: opposites, each time another pair. Every case meets both families, both path MTUs and both kinds
    /// of wire, and over four cases whatever two of these can be meets. Without IPv6 the family gives way.
    pub fn cover(case: usize, v6: bool) -> Vec<Variant> {
        let good = Variant {
            v6: case & 1 != 0,
            wide: case & 2 == 0,
            faulty: false,
        };
        let faulty = Variant {
            v6: !good.v6,
            wide: !good.wide,
            faulty: true,
        };
        let permitted = |variant: Variant| Variant {
            v6: variant.v6 && v6,
            ..variant
        };
        [good, faulty].map(permitted).to_vec()
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
            let cover = Variant::cover(case, true);
            let [a, b] = cover[..] else {
                panic!("{cover:?}")
            };
            assert!(a.v6 != b.v6 && a.wide != b.wide && a.faulty != b.faulty);
            all.extend([a, b]);
        }
        assert_eq!(pairs(&all).len(), 12);
    }

    #[test]
    fn a_case_without_ipv6_meets_the_rest() {
        for case in 0..4 {
            let cover = Variant::cover(case, false);
            assert!(cover[0].faulty != cover[1].faulty && cover[0].wide != cover[1].wide);
            assert!(!cover[0].v6 && !cover[1].v6);
        }
    }
}
