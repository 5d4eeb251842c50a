//! What a trace has a line for.

/// One of its records.
pub(super) struct Record {
    /// In nanoseconds of the virtual clock.
    pub(super) time: u64,
    pub(super) machine: String,
    /// None where the form does not tell.
    pub(super) processor: Option<u64>,
    pub(super) thread: u64,
    pub(super) what: What,
}

/// What happens.
pub(super) enum What {
    Begin(Kind),
    End {
        /// Empty if there is none.
        answer: String,
        failed: bool,
        /// How long it took, in nanoseconds of the host's clock.
        host: Option<u64>,
    },
    /// The thread gives the processor back in the middle of something.
    Waits,
    GoesOn,
    /// The thread never goes on.
    Left,
    Note {
        text: String,
        failed: bool,
    },
    /// The trace is whole.
    Whole,
    /// Of no interest.
    Nothing,
}

/// What begins.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Export(String),
    Callback(String),
    Dpc(String),
    /// A function of NDK, and the object.
    Ndk(String, String),
}

impl What {
    /// What a note of a trace says.
    pub(super) fn note(text: &str, failed: bool) -> What {
        match text.strip_prefix("thread ").and_then(|t| t.split_once(' ')) {
            Some((_, "waits")) => What::Waits,
            Some((_, "goes on")) => What::GoesOn,
            Some((_, "is left for good")) => What::Left,
            _ => What::Note {
                text: text.to_owned(),
                failed,
            },
        }
    }
}
