//! Why messages come to nothing.

use crate::counters::Counters;

/// Why a message came to nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dropped {
    /// A datagram to queue pair 1 that is no MAD.
    NotMad,
    /// A MAD of another class, version or method.
    NotCm,
    /// An attribute that means nothing here.
    Attribute,
    /// Path migration, which does not exist on RoCE.
    PathMigration,
    /// Nobody can send from, or receive at, such an address.
    Source,
    /// The address is not ours.
    NotHere,
    /// It makes no sense.
    Malformed,
    /// There is no such connection, or it has another peer or other names.
    Unmatched,
    /// The connection has no use for it in its state: it comes late, again, or too early.
    State,
    /// No room for another connection.
    NoRoom,
    /// No room for the answer.
    Answer,
}

impl Dropped {
    pub fn count(self, counters: &mut Counters) {
        let counter = match self {
            Self::NotMad => &mut counters.cm_drop_not_mad,
            Self::NotCm => &mut counters.cm_drop_not_cm,
            Self::Attribute => &mut counters.cm_drop_attribute,
            Self::PathMigration => &mut counters.cm_drop_path_migration,
            Self::Source => &mut counters.cm_drop_source,
            Self::NotHere => &mut counters.cm_drop_not_here,
            Self::Malformed => &mut counters.cm_drop_malformed,
            Self::Unmatched => &mut counters.cm_drop_unmatched,
            Self::State => &mut counters.cm_drop_state,
            Self::NoRoom => &mut counters.cm_drop_no_room,
            Self::Answer => &mut counters.cm_drop_answer,
        };
        *counter = counter.wrapping_add(1);
    }
}
