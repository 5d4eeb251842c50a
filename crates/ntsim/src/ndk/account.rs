//! Requests against results: a few additions per request, so that it can be on where speed is measured.

use std::cell::Cell;

use ndkpi::c_void;

/// Requests posted to a queue, and the results that came.
#[derive(Default)]
pub(super) struct Account {
    /// Requests that must have a result.
    signalled: Cell<u64>,
    /// Requests that have one only if they fail.
    silent: Cell<u64>,
    results: Cell<u64>,
    /// Sum over the contexts of requests less that over those of results.
    contexts: Cell<u64>,
    /// Nothing can be told any more: an accusation was made, or results of several queues cannot be told apart.
    blurred: Cell<bool>,
}

/// What is wrong with a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// There is no request that it could be for.
    Unexpected,
    /// The contexts of all results are not those of the requests.
    Contexts,
}

/// Spreads a context over 64 bits, so that sums of different ones differ.
#[inline(always)]
fn mix(context: *mut c_void) -> u64 {
    let mut x = context.addr() as u64 ^ 0x9e37_79b9_7f4a_7c15;
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[inline(always)]
fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get().wrapping_add(n));
}

impl Account {
    fn counter(&self, silent: bool) -> &Cell<u64> {
        if silent {
            &self.silent
        } else {
            &self.signalled
        }
    }

    /// A request is about to be posted.
    #[inline]
    pub(super) fn post(&self, context: *mut c_void, silent: bool) {
        add(self.counter(silent), 1);
        add(&self.contexts, mix(context));
    }

    /// It was not accepted.
    pub(super) fn reject(&self, context: *mut c_void, silent: bool) {
        add(self.counter(silent), 1_u64.wrapping_neg());
        add(&self.contexts, mix(context).wrapping_neg());
    }

    /// A result was taken.
    #[inline]
    pub(super) fn result(&self, context: *mut c_void) -> Result<(), Wrong> {
        add(&self.results, 1);
        add(&self.contexts, mix(context).wrapping_neg());
        let (results, signalled, silent) =
            (self.results.get(), self.signalled.get(), self.silent.get());
        let wrong = if self.blurred.get() {
            return Ok(());
        } else if results > signalled + silent {
            Wrong::Unexpected
        } else if silent == 0 && results == signalled && self.contexts.get() != 0 {
            Wrong::Contexts
        } else {
            return Ok(());
        };
        self.blurred.set(true);
        Err(wrong)
    }

    /// Ends the account: results came that may or may not be its.
    pub(super) fn blur(&self) {
        self.blurred.set(true);
    }

    /// Whether no result can come any more.
    pub(super) fn is_settled(&self) -> bool {
        self.silent.get() == 0 && self.signalled.get() == self.results.get()
    }

    /// Requests that may still have a result.
    pub(super) fn outstanding(&self) -> u64 {
        (self.signalled.get() + self.silent.get()).saturating_sub(self.results.get())
    }

    /// Results that must still come, at least.
    pub(super) fn missing(&self) -> u64 {
        if self.blurred.get() {
            0
        } else {
            self.signalled.get().saturating_sub(self.results.get())
        }
    }
}
