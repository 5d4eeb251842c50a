//! What miniports have still to complete: handlers that have returned NDIS_STATUS_PENDING, and sends.

use std::cell::RefCell;
use std::rc::Rc;

use super::adapter::{Adapter, State};
use super::{of, rules};
use crate::exports::lists_wait;
use crate::verifier::violation;
use crate::world::overdue::Overdue;
use crate::world::wait::wait_until;
use crate::world::{Core, context};

/// What a miniport owes.
#[derive(Default)]
pub(crate) struct Debts(RefCell<Vec<Rc<Debt>>>);

struct Debt {
    rule: &'static str,
    what: String,
    since: u64,
}

impl Adapter {
    /// Waits until the miniport has completed what it has left pending; in vain, and it is accused of that rule. PASSIVE_LEVEL.
    pub(super) fn wait_for(&self, rule: &'static str, what: String, done: impl Fn() -> bool) {
        let since = context::core().now();
        let story = format!("{what} is pending");
        let debts = &self.debts.0;
        let debt = Rc::new(Debt { rule, what, since });
        debts.borrow_mut().push(Rc::clone(&debt));
        wait_until(done, None, story);
        debts.borrow_mut().retain(|other| !Rc::ptr_eq(other, &debt));
    }

    fn accuse(&self, now: u64, overdue: Overdue) {
        let late = |since: u64| now.saturating_sub(since) >= overdue.patience();
        // Protocols may have what the pause or the reset waits for.
        let excused = |debt: &Debt| debt.rule != rules::OID && self.receives.outstanding() > 0;
        for debt in self.debts.0.borrow().iter() {
            let Debt { rule, what, since } = &**debt;
            if late(*since) && !excused(debt) {
                violation(
                    rule,
                    format!(
                        "{what} has been pending since {since} ns and is not completed at {now} ns{overdue}"
                    ),
                );
            }
        }
        let (count, oldest) = self.sends.oldest();
        if oldest.is_some_and(late) {
            violation(
                rules::SEND,
                format!(
                    "of {count} net buffer list(s) that the miniport has to send, one since {} ns, none is completed at {now} ns{overdue}",
                    oldest.unwrap_or_default()
                ),
            );
        }
    }
}

/// Accuses miniports of what they will not complete.
pub(crate) fn accuse(core: &Core, overdue: Overdue) {
    for machine in core.machines.borrow().iter() {
        // What the miniport owes may need the list for which it waits.
        if lists_wait(machine) {
            continue;
        }
        for adapter in of(machine).adapters.borrow().iter() {
            if !adapter.asleep.get() && adapter.state.get() != State::Halted {
                let _entered = machine.enter(0);
                let _charged = adapter.driver.driver.charge();
                adapter.accuse(core.now(), overdue);
            }
        }
    }
}
