//! Who does a piece of work that many ask for: one at a time, and never nobody.
//!
//! No Windows in here: the tests try every interleaving of this code (tests/turns.rs).

use crate::sync::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// The right to run a routine. Whoever finds it taken leaves a mark, and the one who has it goes round again.
#[derive(Debug)]
pub struct Turn {
    /// Marks; whoever raises it from zero has the turn.
    wanted: AtomicU32,
}

/// Marks that the holder of a turn has seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen(u32);

impl Turn {
    /// Nobody's turn.
    pub fn new() -> Self {
        Self {
            wanted: AtomicU32::new(0),
        }
    }

    /// Takes the turn: true. If somebody has it: false, and he will go round again. IRQL: any.
    pub fn take(&self) -> bool {
        self.wanted.fetch_add(1, Ordering::AcqRel) == 0
    }

    /// What has been asked for before a round begins. For the holder. IRQL: any.
    pub fn seen(&self) -> Seen {
        Seen(self.wanted.load(Ordering::Acquire))
    }

    /// After a round: gives the turn back, unless somebody has asked since `seen`; then the answer is false. IRQL: any.
    pub fn give_back(&self, seen: Seen) -> bool {
        self.wanted
            .compare_exchange(seen.0, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Gives the turn back with work left over. Another run must be ordered **after** this call: ordered before, it may find the turn
    /// taken and leave its mark just before it is wiped away. IRQL: any.
    pub fn give_up(&self) {
        // Not only a store: what was done before the marks that are wiped away must be seen by whoever comes next.
        self.wanted.swap(0, Ordering::AcqRel);
    }
}

/// Interrupts of one message that are to be ignored for a while, and whether one was.
#[derive(Debug)]
pub struct Mask {
    state: AtomicU8,
}

/// Ignored.
const MASKED: u8 = 1;
/// One came meanwhile.
const MISSED: u8 = 2;

impl Mask {
    /// Nothing is ignored.
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(0),
        }
    }

    /// Whether an interrupt that has come is to be ignored; it will be made up for. Both in one step: an interrupt that saw the mask and
    /// left its note after the mask was lifted would be lost. IRQL: any.
    pub fn ignores(&self) -> bool {
        let note = |state| (state & MASKED != 0).then_some(state | MISSED);
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, note)
            .is_ok()
    }

    /// Ignores interrupts from now on. IRQL: any.
    pub fn set(&self) {
        self.state.fetch_or(MASKED, Ordering::AcqRel);
    }

    /// Heeds them again: true if one was missed. IRQL: any.
    pub fn lift(&self) -> bool {
        self.state.swap(0, Ordering::AcqRel) & MISSED != 0
    }
}

/// The right to schedule a routine that empties something. Whoever adds to it asks; the routine itself, once scheduled, looks again when
/// it has finished instead of being scheduled while it runs.
#[derive(Debug)]
pub struct Schedule {
    /// Scheduled, running, or resting with work left over.
    active: AtomicBool,
}

impl Schedule {
    /// Not scheduled.
    pub fn new() -> Self {
        Self {
            active: AtomicBool::new(false),
        }
    }

    /// To be called after adding work: true if the caller is to schedule the routine. IRQL: any.
    pub fn ask(&self) -> bool {
        // Sequentially consistent, like the adding of work: see `finish`.
        !self.active.swap(true, Ordering::SeqCst)
    }

    /// For the routine, when it has found nothing more: true if `left` (looked at again, after everybody may ask) says otherwise and the
    /// caller is to schedule the routine.
    ///
    /// Who adds work does so before he asks, and here asking is allowed before the work is looked at: so one of both sees the other, as
    /// long as adding, asking and looking are sequentially consistent. IRQL: any.
    pub fn finish(&self, left: impl FnOnce() -> bool) -> bool {
        self.active.swap(false, Ordering::SeqCst);
        left() && self.ask()
    }
}
