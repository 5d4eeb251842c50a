//! OID requests that go on while a test does other things: asked, held in the miniport, cancelled, answered.

use std::cell::RefCell;
use std::rc::Rc;

use ndis_sys::types::*;

use super::adapter::Adapter;
use super::oid::{Asked, OidRequest, OidResult, Order, Ticket};
use super::world::adapters;
use crate::verifier::Function;
use crate::world::driver_call::call_driver;
use crate::world::hold::Hold;
use crate::world::processor::{DISPATCH, PASSIVE};
use crate::world::{MachineId, World, context};

static CANCEL: Function = Function::callback("MiniportCancelOidRequest", PASSIVE..=DISPATCH);
static CANCEL_DIRECT: Function =
    Function::callback("MiniportCancelDirectOidRequest", PASSIVE..=DISPATCH);

/// A request that was made and need not be answered yet.
pub struct PendingOid {
    adapter: Rc<Adapter>,
    ticket: Rc<Ticket>,
    direct: bool,
    hold: Option<Rc<Hold>>,
    result: Rc<RefCell<Option<OidResult>>>,
}

impl PendingOid {
    /// The answer is there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.result.borrow().is_some()
    }

    /// The miniport's handler has been preempted and waits for [`PendingOid::release`].
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.is_held())
    }

    /// Lets a handler that is held go on as soon as the world does.
    pub fn release(&self) {
        if let Some(hold) = &self.hold {
            hold.release();
        }
    }

    /// Lets the world go on until the answer is there.
    ///
    /// # Panics
    /// If none comes in ten minutes of the world's time: with the report, if the miniport is to blame.
    pub fn wait(self, world: &mut World) -> OidResult {
        let done = world.run_until_done(|_| self.is_done());
        assert!(done, "an OID request is not answered");
        self.result.take().expect("it is done")
    }
}

impl World {
    /// Asks a machine's first adapter; `None` when it has none. The request waits until those before it are answered.
    pub fn start_oid(
        &mut self,
        machine: MachineId,
        request: &OidRequest<'_>,
    ) -> Option<PendingOid> {
        self.start(machine, request, false, None)
    }

    /// As [`World::start_oid`], on the direct path: at DISPATCH_LEVEL, whatever else the miniport has to answer.
    pub fn start_direct_oid(
        &mut self,
        machine: MachineId,
        request: &OidRequest<'_>,
    ) -> Option<PendingOid> {
        self.start(machine, request, true, None)
    }

    /// As [`World::start_oid`]; the thread is preempted in the miniport's handler when that returns, at PASSIVE_LEVEL, from
    /// `after` and one more calls of the kernel, and goes on after [`PendingOid::release`]. A handler that makes fewer calls is
    /// not held.
    pub fn hold_oid(
        &mut self,
        machine: MachineId,
        request: &OidRequest<'_>,
        after: u32,
    ) -> Option<PendingOid> {
        self.start(machine, request, false, Some(Hold::after(after)))
    }

    fn start(
        &mut self,
        machine: MachineId,
        request: &OidRequest<'_>,
        direct: bool,
        hold: Option<Rc<Hold>>,
    ) -> Option<PendingOid> {
        let machine = self.machine(machine);
        let adapter = Rc::clone(adapters(&machine).first()?);
        let pending = PendingOid {
            adapter: Rc::clone(&adapter),
            ticket: Rc::default(),
            direct,
            hold: hold.clone(),
            result: Rc::default(),
        };
        let (order, ticket) = (Order::from(request), Rc::clone(&pending.ticket));
        let result = Rc::clone(&pending.result);
        {
            let _entered = machine.enter(0);
            context::core().spawn(Box::new(move || {
                let ask = match direct {
                    true => Asked::direct,
                    false => Asked::regular,
                };
                for short in order.shorter(&adapter) {
                    // Its answer is nobody's.
                    let _ = ask(&adapter, &short, &Ticket::default()).map(Asked::answer);
                }
                hold.iter().for_each(Hold::arm);
                let asked = ask(&adapter, &order, &ticket);
                hold.iter().for_each(Hold::disarm);
                *result.borrow_mut() = Some(asked.map_or_else(OidResult::refused, Asked::answer));
            }));
        }
        self.check();
        Some(pending)
    }

    /// Cancels a request: one that waits for others is answered by NDIS, of one that the miniport has it is told.
    pub fn cancel_oid(&mut self, pending: &PendingOid) {
        let (adapter, ticket) = (&pending.adapter, &pending.ticket);
        ticket.cancelled.set(true);
        let id = ticket.id.get();
        if adapter.requests.has(id) {
            let handlers = &adapter.driver.handlers;
            let (function, handler) = if pending.direct {
                (&CANCEL_DIRECT, handlers.CancelDirectOidRequestHandler)
            } else {
                (&CANCEL, handlers.CancelOidRequestHandler)
            };
            let id: *mut c_void = std::ptr::without_provenance_mut(id);
            let machine = adapter.machine();
            let _entered = machine.enter(0);
            let _charged = adapter.driver.driver.charge();
            if let Some(cancel) = handler {
                // SAFETY: a handler the driver registered, called as its type demands.
                call_driver(function, cancel as *const (), || unsafe {
                    cancel(adapter.context.get(), id)
                });
            }
        }
        self.check();
    }
}
