//! Explicit congestion notification: the two low bits of the type of service or traffic class (RFC 3168, 5).

/// What the network may do to a packet where a queue builds up, and whether it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EcnCodepoint {
    /// Its sender does not react to marks: it is dropped.
    NotCapable = 0,
    /// ECT(1): it is marked.
    Capable1 = 1,
    /// ECT(0): it is marked.
    Capable0 = 2,
    /// It has been marked: congestion experienced.
    Congested = 3,
}

impl EcnCodepoint {
    /// The bits of a type of service or traffic class.
    #[must_use]
    pub const fn of(traffic_class: u8) -> EcnCodepoint {
        match traffic_class & 3 {
            0 => EcnCodepoint::NotCapable,
            1 => EcnCodepoint::Capable1,
            2 => EcnCodepoint::Capable0,
            _ => EcnCodepoint::Congested,
        }
    }

    /// The same traffic class with these bits.
    #[must_use]
    pub const fn mark(self, traffic_class: u8) -> u8 {
        traffic_class & !3 | self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::EcnCodepoint;

    #[test]
    fn two_bits_of_the_traffic_class_are_congestion_and_the_others_are_not() {
        let all = [
            EcnCodepoint::NotCapable,
            EcnCodepoint::Capable1,
            EcnCodepoint::Capable0,
            EcnCodepoint::Congested,
        ];
        for class in 0..=u8::MAX {
            assert_eq!(EcnCodepoint::of(class) as u8, class & 3);
            for ecn in all {
                let marked = ecn.mark(class);
                assert_eq!((EcnCodepoint::of(marked), marked >> 2), (ecn, class >> 2));
            }
        }
    }
}
