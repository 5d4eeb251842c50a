//! OID requests: serialised at PASSIVE_LEVEL, or direct.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::oid::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::adapter::{Adapter, State};
use super::{header, ndis, rules};
use crate::consumer::Status;
use crate::trace;
use crate::verifier::{Function, violation};
use crate::world::address_map::AddressMap;
use crate::world::driver_call::call_driver;
use crate::world::processor::{self, DISPATCH, PASSIVE};
use crate::world::thread;
use crate::world::wait::wait_until;

static REQUEST: Function = Function::callback("MiniportOidRequest", PASSIVE..=PASSIVE);
static DIRECT: Function = Function::callback("MiniportDirectOidRequest", PASSIVE..=DISPATCH);
const BY: &str = "OID requests";

/// OID requests of an adapter.
#[derive(Default)]
pub(crate) struct Requests {
    /// A regular request is at the miniport.
    busy: Cell<bool>,
    /// The kernel thread whose regular request is in the handler; 0 for none.
    inside: Cell<usize>,
    /// Requests at the miniport, by address: result once completed, and whether direct.
    outstanding: RefCell<AddressMap<Outstanding>>,
}

struct Outstanding {
    direct: bool,
    completed: Option<NDIS_STATUS>,
}

impl Requests {
    /// A regular request is at the miniport, be it pending or not.
    pub(crate) fn busy(&self) -> bool {
        self.busy.get()
    }

    /// The regular or direct request of that identifier is at the miniport, and not completed.
    pub(super) fn has(&self, id: usize) -> bool {
        let outstanding = self.outstanding.borrow();
        outstanding.get(&id).is_some_and(|o| o.completed.is_none())
    }

    /// A regular request cannot end before this thread goes on: it is in the handler here, or pending.
    pub(crate) fn wait_for_this_thread(&self) -> bool {
        let inside = self.inside.get();
        self.busy.get() && (inside == 0 || inside == thread::number())
    }

    /// How many the miniport has not completed.
    pub(crate) fn outstanding(&self) -> usize {
        let outstanding = self.outstanding.borrow();
        outstanding
            .values()
            .filter(|o| o.completed.is_none())
            .count()
    }

    /// The miniport has none, completed ones neither: nobody is in its handler, or about to take an answer.
    pub(super) fn are_over(&self) -> bool {
        self.outstanding.borrow().is_empty()
    }
}

/// A request in its own memory.
#[derive(Clone)]
pub(crate) struct Order {
    pub(super) kind: NDIS_REQUEST_TYPE,
    pub(super) oid: u32,
    input: Vec<u8>,
    length: usize,
}

impl Order {
    /// A set.
    pub(super) fn set(oid: u32, input: &[u8]) -> Self {
        Self::from(&OidRequest::Set(oid, input))
    }

    /// A query whose buffer tells what is asked.
    pub(super) fn query_with(oid: u32, input: &[u8]) -> Self {
        Order {
            input: input.to_vec(),
            ..Self::from(&OidRequest::Query(oid, input.len()))
        }
    }

    /// Where things go wrong, the shorter buffers that it has to come with first: who asks learns how much is needed, and asks again. On a
    /// thread of the adapter's machine.
    pub(super) fn shorter(&self, adapter: &Adapter) -> Vec<Order> {
        let what = match self.kind {
            NdisRequestSetInformation => "set",
            _ => "query",
        };
        let (oid, machine) = (self.oid, adapter.machine());
        let strikes = |short: &usize| {
            let event = || format!("a buffer of {short} bytes for {what} {oid:#x}");
            *short < self.length && machine.faults.happens(event)
        };
        let lengths = [0, self.length / 2].into_iter().filter(strikes);
        lengths
            .map(|length| Order {
                input: self.input[..length.min(self.input.len())].to_vec(),
                length,
                ..self.clone()
            })
            .collect()
    }
}

impl From<&OidRequest<'_>> for Order {
    fn from(request: &OidRequest<'_>) -> Self {
        let (kind, oid, input, length) = match request {
            OidRequest::Query(oid, length) => (NdisRequestQueryInformation, *oid, &[][..], *length),
            OidRequest::QueryStatistics(oid, length) => {
                (NdisRequestQueryStatistics, *oid, &[][..], *length)
            }
            OidRequest::Set(oid, data) => (NdisRequestSetInformation, *oid, *data, data.len()),
        };
        Order {
            kind,
            oid,
            input: input.to_vec(),
            length,
        }
    }
}

/// What to ask.
#[derive(Debug, Clone)]
pub enum OidRequest<'a> {
    /// Query into a buffer of so many bytes.
    Query(u32, usize),
    /// Query of statistics into a buffer of so many bytes.
    QueryStatistics(u32, usize),
    /// Set from these bytes.
    Set(u32, &'a [u8]),
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidResult {
    /// `NDIS_STATUS_*`.
    pub status: i32,
    /// The bytes a query wrote.
    pub data: Vec<u8>,
    /// `BytesRead` of a set.
    pub read: u32,
    /// `BytesNeeded`.
    pub needed: u32,
    /// The miniport pended it.
    pub pended: bool,
}

impl OidResult {
    /// The miniport was not asked.
    pub(super) fn refused(status: NDIS_STATUS) -> Self {
        Self {
            status,
            data: Vec::new(),
            read: 0,
            needed: 0,
            pended: false,
        }
    }
}

/// A request that the miniport has been asked; its memory is freed when the answer is taken.
pub(super) struct Asked<'a> {
    adapter: &'a Rc<Adapter>,
    request: *mut NDIS_OID_REQUEST,
    buffer: *mut u8,
    length: u32,
    kind: NDIS_REQUEST_TYPE,
    oid: u32,
    direct: bool,
    /// The device was gone, and the miniport knew, before it was asked.
    removed: bool,
    /// What the handler returned.
    returned: NDIS_STATUS,
}

/// Asks the miniport a regular request and waits for its answer. PASSIVE_LEVEL.
pub(crate) fn request(adapter: &Rc<Adapter>, request: &OidRequest<'_>) -> OidResult {
    let order = Order::from(request);
    // What is set here is what a binding cannot do without.
    if order.kind != NdisRequestSetInformation {
        let refusal = || format!("refusal of query {:#x} by NDIS", order.oid);
        if adapter.machine().faults.happens(refusal) {
            return OidResult::refused(NDIS_STATUS_RESOURCES);
        }
    }
    for short in order.shorter(adapter) {
        ask(adapter, &short);
    }
    ask(adapter, &order)
}

/// As [`request`].
pub(super) fn ask(adapter: &Rc<Adapter>, order: &Order) -> OidResult {
    let asked = Asked::regular(adapter, order, &Ticket::default());
    asked.map_or_else(OidResult::refused, Asked::answer)
}

/// Where a request is on its way, for who wants to cancel it.
#[derive(Default)]
pub(super) struct Ticket {
    /// `RequestId` as soon as the miniport has it.
    pub(super) id: Cell<usize>,
    /// Given up while it waited for the one before it.
    pub(super) cancelled: Cell<bool>,
}

impl<'a> Asked<'a> {
    /// Sends a regular request to the miniport when the one before it is done, or says why NDIS refuses it.
    pub(super) fn regular(
        adapter: &'a Rc<Adapter>,
        order: &Order,
        ticket: &Ticket,
    ) -> Result<Self, NDIS_STATUS> {
        wait_until(
            || !adapter.requests.busy.get() || ticket.cancelled.get(),
            None,
            "an OID request waits for the one before it",
        );
        if ticket.cancelled.get() {
            return Err(NDIS_STATUS_REQUEST_ABORTED);
        }
        Self::send(adapter, order, ticket, false)
    }

    /// Sends a direct request to the miniport, at DISPATCH_LEVEL and whatever else it has, or says why NDIS refuses it.
    pub(super) fn direct(
        adapter: &'a Rc<Adapter>,
        order: &Order,
        ticket: &Ticket,
    ) -> Result<Self, NDIS_STATUS> {
        let _raised = processor::raise_irql(DISPATCH);
        Self::send(adapter, order, ticket, true)
    }

    fn send(
        adapter: &'a Rc<Adapter>,
        order: &Order,
        ticket: &Ticket,
        direct: bool,
    ) -> Result<Self, NDIS_STATUS> {
        let handlers = &adapter.driver.handlers;
        let handler = if direct {
            handlers.DirectOidRequestHandler
        } else {
            handlers.OidRequestHandler
        };
        let handler = handler.ok_or(NDIS_STATUS_NOT_SUPPORTED)?;
        if matches!(
            adapter.state.get(),
            State::Halted | State::Initializing | State::Halting
        ) {
            return Err(NDIS_STATUS_NOT_ACCEPTED);
        }
        // NDIS keeps requests from a device without power.
        if adapter.asleep.get() {
            return Err(NDIS_STATUS_LOW_POWER_STATE);
        }
        let machine = adapter.machine();
        let Order {
            kind,
            oid,
            ref input,
            length,
        } = *order;
        let (at, buffer) = machine
            .kernel_alloc(size_of::<NDIS_OID_REQUEST>(), BY)
            .and_then(|at| Some((at, machine.kernel_alloc(length.max(1), BY)?)))
            .ok_or(NDIS_STATUS_RESOURCES)?;
        let data: *mut u8 = std::ptr::with_exposed_provenance_mut(buffer);
        let oid_request: *mut NDIS_OID_REQUEST = std::ptr::with_exposed_provenance_mut(at);
        let length32 = u32::try_from(length).unwrap_or(u32::MAX);
        // SAFETY: freshly allocated and zeroed, with room for both.
        unsafe {
            data.copy_from_nonoverlapping(input.as_ptr(), input.len());
            (*oid_request).Header = header::make(
                NDIS_OBJECT_TYPE_OID_REQUEST,
                NDIS_OID_REQUEST_REVISION_2,
                NDIS_SIZEOF_OID_REQUEST_REVISION_2,
            );
            (*oid_request).RequestType = kind;
            (*oid_request).RequestId = std::ptr::without_provenance_mut(at);
            let pointer = if length == 0 {
                std::ptr::null_mut()
            } else {
                data.cast()
            };
            if kind == NdisRequestSetInformation {
                (*oid_request).DATA.SET_INFORMATION = NDIS_OID_REQUEST_SET {
                    Oid: oid,
                    InformationBuffer: pointer,
                    InformationBufferLength: length32,
                    BytesRead: 0,
                    BytesNeeded: 0,
                };
            } else {
                (*oid_request).DATA.QUERY_INFORMATION = NDIS_OID_REQUEST_QUERY {
                    Oid: oid,
                    InformationBuffer: pointer,
                    InformationBufferLength: length32,
                    BytesWritten: 0,
                    BytesNeeded: 0,
                };
            }
        }
        ticket.id.set(at);
        if !direct {
            adapter.requests.busy.set(true);
        }
        adapter.requests.outstanding.borrow_mut().insert(
            at,
            Outstanding {
                direct,
                completed: None,
            },
        );
        let mut asked = Asked {
            adapter,
            request: oid_request,
            buffer: data,
            length: length32,
            kind,
            oid,
            direct,
            removed: adapter.removed.get(),
            returned: NDIS_STATUS_PENDING,
        };
        let function = if direct { &DIRECT } else { &REQUEST };
        let _charged = adapter.driver.driver.charge();
        trace::note(|| (format!("OID {oid:#010x}, {}", kind_name(kind)), false));
        asked.returned = call_driver(function, handler as *const (), || {
            if !direct {
                adapter.requests.inside.set(thread::number());
            }
            // SAFETY: a handler the driver registered, called as its type demands.
            unsafe { handler(adapter.context.get(), oid_request) }
        });
        if !direct {
            adapter.requests.inside.set(0);
        }
        Ok(asked)
    }

    /// The status with which the miniport completed a pending request.
    fn completed(&self) -> Option<NDIS_STATUS> {
        let outstanding = self.adapter.requests.outstanding.borrow();
        outstanding
            .get(&self.request.addr())
            .and_then(|o| o.completed)
    }

    /// Waits for the answer. PASSIVE_LEVEL.
    pub(super) fn answer(self) -> OidResult {
        let Asked {
            adapter,
            oid,
            length,
            returned,
            ..
        } = self;
        let pended = returned == NDIS_STATUS_PENDING;
        let status = if pended {
            if oid == OID_NDK_SET_STATE {
                violation(
                    rules::OID,
                    "OID_NDK_SET_STATE must not be pended".to_owned(),
                );
            }
            let what = format!("OID request {oid:#x}");
            adapter.wait_for(rules::OID, what, || self.completed().is_some());
            self.completed().unwrap_or(NDIS_STATUS_FAILURE)
        } else {
            if self.completed().is_some() {
                violation(
                    rules::OID,
                    format!(
                        "request {oid:#x} was completed with NdisM(Direct)OidRequestComplete but returned {returned:#x}"
                    ),
                );
            }
            returned
        };
        trace::note(|| (format!("OID {oid:#010x}: {}", Status(status)), status < 0));
        let at = self.request.expose_provenance();
        adapter.requests.outstanding.borrow_mut().remove(&at);
        // SAFETY: the request is ours again.
        let (written, read, needed) = unsafe {
            if self.kind == NdisRequestSetInformation {
                let set = (*self.request).DATA.SET_INFORMATION;
                (0, set.BytesRead, set.BytesNeeded)
            } else {
                let query = (*self.request).DATA.QUERY_INFORMATION;
                (query.BytesWritten, 0, query.BytesNeeded)
            }
        };
        let result = OidResult {
            status,
            data: {
                let count = written.min(length) as usize;
                // SAFETY: that many bytes of our buffer.
                unsafe { std::slice::from_raw_parts(self.buffer, count) }.to_vec()
            },
            read,
            needed,
            pended,
        };
        if self.removed && status != NDIS_STATUS_NOT_ACCEPTED {
            violation(
                rules::OID,
                format!(
                    "request {oid:#x} after the surprise removal was answered {status:#x}, not NDIS_STATUS_NOT_ACCEPTED"
                ),
            );
        }
        check_result(oid, &result, written, length);
        let machine = adapter.machine();
        machine.pool_free(self.buffer.expose_provenance(), None, BY);
        machine.pool_free(at, None, BY);
        if !self.direct {
            adapter.requests.busy.set(false);
        }
        result
    }
}

/// What a kind of request does.
fn kind_name(kind: NDIS_REQUEST_TYPE) -> &'static str {
    match kind {
        NdisRequestSetInformation => "set",
        NdisRequestQueryStatistics => "query of statistics",
        _ => "query",
    }
}

fn check_result(oid: u32, result: &OidResult, written: u32, length: u32) {
    let accuse = |text: String| violation(rules::OID, format!("request {oid:#x}: {text}"));
    if written > length {
        accuse(format!(
            "BytesWritten {written} exceeds the buffer of {length}"
        ));
    }
    if result.read > length {
        accuse(format!(
            "BytesRead {} exceeds the buffer of {length}",
            result.read
        ));
    }
    match result.status {
        NDIS_STATUS_BUFFER_TOO_SHORT | NDIS_STATUS_INVALID_LENGTH
            if result.needed == 0 && length == 0 =>
        {
            accuse(
                "the buffer was refused without saying in BytesNeeded what is needed".to_owned(),
            );
        }
        NDIS_STATUS_BUFFER_TOO_SHORT if result.needed <= length => {
            accuse(format!(
                "buffer of {length} too short, but BytesNeeded is {}",
                result.needed
            ));
        }
        _ => {}
    }
}

/// `NdisMOidRequestComplete` and `NdisMDirectOidRequestComplete`.
pub(crate) fn complete(
    handle: NDIS_HANDLE,
    oid_request: *mut NDIS_OID_REQUEST,
    status: NDIS_STATUS,
    direct: bool,
    function: &str,
) {
    let Some(adapter) = ndis().handles.get::<Adapter>(handle, function) else {
        return;
    };
    let accuse = |text: String| violation(rules::OID, format!("{function}: {text}"));
    if status == NDIS_STATUS_PENDING {
        accuse("completed with NDIS_STATUS_PENDING".to_owned());
    }
    let mut outstanding = adapter.requests.outstanding.borrow_mut();
    match outstanding.get_mut(&oid_request.addr()) {
        None => accuse(format!(
            "{oid_request:p} is not outstanding: completed twice, or never asked"
        )),
        Some(o) if o.direct != direct => accuse("the other kind of request".to_owned()),
        Some(o) if o.completed.is_some() => accuse(format!("{oid_request:p} is completed twice")),
        Some(o) => o.completed = Some(status),
    }
}
