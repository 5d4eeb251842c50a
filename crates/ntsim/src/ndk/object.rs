//! What the layer knows of each NDK object, and how it takes one over from its provider.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use ndkpi::*;

use super::connector::ConnectorPart;
use super::contexts::Contexts;
use super::cq::CqPart;
use super::graves::Graves;
use super::lam::Mappings;
use super::late;
use super::listener::ListenerPart;
use super::mr::MrPart;
use super::mw::{self, MwPart};
use super::pd::PdPart;
use super::private_data::{Limits, PrivateData};
use super::qp::QpPart;
use super::rules;
use super::slab::{self, Handle, Slab};
use super::srq::SrqPart;
use super::tables::{Slots, hooks_of, slots_of};
use super::trail::Trail;
use crate::image::guard;
use crate::verifier::violation;
use crate::world::MachineId;
use crate::world::context;
use crate::world::driver::{Charged, DriverNumber};
use crate::world::processor::Processor;

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Adapter = NdkObjectTypeAdapter,
    Qp = NdkObjectTypeQp,
    Cq = NdkObjectTypeCq,
    Mr = NdkObjectTypeMr,
    Mw = NdkObjectTypeMw,
    Pd = NdkObjectTypePd,
    SharedEndpoint = NdkObjectTypeSharedEndpoint,
    Connector = NdkObjectTypeConnector,
    Listener = NdkObjectTypeListener,
    Srq = NdkObjectTypeSrq,
}

impl Kind {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Kind::Adapter => "adapter",
            Kind::Qp => "QP",
            Kind::Cq => "CQ",
            Kind::Mr => "MR",
            Kind::Mw => "MW",
            Kind::Pd => "PD",
            Kind::SharedEndpoint => "shared endpoint",
            Kind::Connector => "connector",
            Kind::Listener => "listener",
            Kind::Srq => "SRQ",
        }
    }
}

/// A provider as one open adapter shows it.
pub(super) struct Provider {
    /// What reports call it.
    pub(super) name: String,
    /// The driver to charge.
    pub(super) driver: DriverNumber,
    pub(super) machine: MachineId,
    /// The version negotiated.
    pub(super) version: Cell<NDK_VERSION>,
    /// What it has told of private data.
    pub(super) private_data: Cell<Option<Limits>>,
    /// Spin locks that were held on each processor when the provider was last entered there: not its own.
    locks: Box<[Cell<usize>]>,
    /// Every object not closed yet but the adapter, oldest first.
    pub(super) objects: RefCell<Vec<Rc<Object>>>,
    /// Answers that the consumer has not been told.
    pub(super) late: Cell<u32>,
    /// Callbacks of its consumers that run.
    pub(super) telling: Cell<u32>,
    /// Objects made so far, by kind.
    made: [Cell<u32>; NdkObjectTypeMax as usize],
}

/// More processors than any machine has: those of a group.
const MAX_PROCESSORS: usize = 64;

impl Provider {
    /// How many spin locks were held on a processor when the provider was last entered there.
    #[inline]
    pub(super) fn locks(&self, processor: &Processor) -> &Cell<usize> {
        &self.locks[processor.number as usize % MAX_PROCESSORS]
    }

    pub(super) fn new(name: String, driver: DriverNumber, machine: MachineId) -> Rc<Provider> {
        Rc::new(Provider {
            name,
            driver,
            machine,
            version: Cell::new(NDK_VERSION::ZEROED),
            private_data: Cell::new(None),
            locks: (0..MAX_PROCESSORS).map(|_| Cell::new(0)).collect(),
            objects: RefCell::default(),
            late: Cell::new(0),
            telling: Cell::new(0),
            made: Default::default(),
        })
    }
}

/// Where an object is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its create has not completed.
    Unborn,
    Open,
    /// Its close was called.
    Closing,
    /// Its close returned STATUS_SUCCESS, or its completion was called.
    Closed,
}

/// What only one kind of object has.
pub(super) enum Part {
    Adapter(Mappings),
    Cq(CqPart),
    Qp(QpPart),
    Srq(SrqPart),
    Connector(ConnectorPart),
    Listener(ListenerPart),
    Mr(MrPart),
    Mw(MwPart),
    Pd(PdPart),
    /// Nothing: shared endpoint.
    Plain,
}

/// An object of a provider.
pub(super) struct Object {
    pub(super) handle: Handle,
    pub(super) kind: Kind,
    /// Counted by kind, from 1.
    number: u32,
    pub(super) provider: Rc<Provider>,
    /// The function that made it.
    born: &'static str,
    pub(super) header: Cell<*mut NDK_OBJECT_HEADER>,
    /// The provider's dispatch table.
    table: Cell<*const c_void>,
    pub(super) state: Cell<State>,
    /// Objects that it depends on.
    antecedents: RefCell<Vec<Rc<Object>>>,
    /// How many objects depend on it.
    pub(super) successors: Cell<u32>,
    /// Requests (and creates of children) whose completion has not returned.
    pub(super) requests: Cell<u32>,
    /// Those, and its close, that the provider has answered, and whose consumer was not told or its callback has not returned.
    pub(super) late: Cell<u32>,
    /// Its close is among them.
    pub(super) kept: Cell<bool>,
    /// Event and notification callbacks that are running.
    pub(super) events: Cell<u32>,
    /// Its close function has not returned.
    pub(super) in_close: Cell<bool>,
    /// Antecedents whose closes finished meanwhile: allowed only if this close does not pend.
    pub(super) overtaken_by: RefCell<Vec<String>>,
    /// Its provider has been accused of writing to its header.
    accused: Cell<bool>,
    pub(super) part: Part,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} of {}",
            self.kind.name(),
            self.number,
            self.provider.name
        )
    }
}

/// The layer of a world.
pub(super) struct Layer {
    pub(super) objects: Slab<Object>,
    pub(super) calls: Slab<super::call::Call>,
    /// Those that are not over, by the addresses of their contexts.
    pub(super) contexts: Contexts,
    /// Those that have been answered and whose consumers do not know.
    pub(super) late: RefCell<Vec<Rc<super::call::Call>>>,
    /// Objects that are handed out and not closed.
    pub(super) by_address: RefCell<BTreeMap<usize, Handle>>,
    pub(super) graves: Graves,
    pub(super) private_data: PrivateData,
    pub(super) trail: Trail,
}

thread_local! {
    /// The world's layer, for the data path. Null before its first use and after the world.
    static LAYER: Cell<*const Layer> = const { Cell::new(std::ptr::null()) };
}

impl Default for Layer {
    fn default() -> Self {
        Layer {
            objects: Slab::new(slab::Kind::Object),
            calls: Slab::new(slab::Kind::Call),
            contexts: Contexts::default(),
            late: RefCell::default(),
            by_address: RefCell::default(),
            graves: Graves::default(),
            private_data: PrivateData::default(),
            trail: Trail::default(),
        }
    }
}

impl Layer {
    /// The objects that are not closed as far as their consumers know, in no order.
    pub(super) fn known(&self) -> Vec<Rc<Object>> {
        let mut known: Vec<_> = {
            let handles = self.by_address.borrow();
            handles
                .values()
                .filter_map(|h| self.objects.get(*h))
                .collect()
        };
        known.extend(late::closed(self));
        known
    }

    /// The first of what `f` gives for objects that are not closed as far as their consumers know, by kind and age.
    pub(super) fn find_open<R>(&self, f: impl Fn(&Object) -> Option<R>) -> Option<R> {
        let mut open = self.known();
        open.sort_by_key(|object| (object.kind as u32, object.number));
        open.iter().find_map(|object| f(object))
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        LAYER.with(|l| l.set(std::ptr::null()));
        self.late.take();
        self.contexts.clear();
        self.calls.clear();
        self.objects.clear();
    }
}

/// Runs `f` on the world's layer.
#[inline]
pub(super) fn with_layer<R>(f: impl FnOnce(&Layer) -> R) -> R {
    let mut layer = LAYER.with(Cell::get);
    if layer.is_null() {
        // The world keeps it from now on.
        layer = Rc::as_ptr(&context::core().ext::<Layer>());
        LAYER.with(|l| l.set(layer));
    }
    // SAFETY: the world keeps its layer until it is dropped itself, and dropping the layer resets the pointer.
    f(unsafe { &*layer })
}

/// Runs `f` on the world's layer if NDK was used in it.
pub(super) fn layer_if_any<R>(f: impl FnOnce(&Layer) -> R) -> Option<R> {
    let layer = LAYER.with(Cell::get);
    // SAFETY: as in `with_layer`.
    unsafe { layer.as_ref() }.map(f)
}

/// The closes that pend and what holds each, for reports of waits that never end.
pub(crate) fn pending_closes() -> Vec<String> {
    let mut closing: Vec<Rc<Object>> = layer_if_any(|layer| {
        let handles: Vec<Handle> = layer.by_address.borrow().values().copied().collect();
        let objects = handles.iter().filter_map(|h| layer.objects.get(*h));
        objects
            .filter(|o| o.state.get() == State::Closing)
            .chain(late::closed(layer))
            .collect()
    })
    .unwrap_or_default();
    closing.sort_by_key(|o| (o.kind as u32, o.number));
    closing
        .iter()
        .map(|o| {
            let how = match o.state.get() {
                State::Closed => "is done and the consumer not told",
                _ => "pends",
            };
            let holders = match &o.held_by()[..] {
                [] => "nothing that the consumer sees: the provider holds it".to_owned(),
                some => some.join("; "),
            };
            format!("the close of {o} {how}, held by {holders}")
        })
        .collect()
}

/// Completion queues with requests that are outstanding, or whose results nobody took: what a wait may be for in vain.
pub(crate) fn busy_queues() -> Vec<String> {
    let mut queues = Vec::new();
    let all = with_layer(|layer| {
        let handles: Vec<Handle> = layer.by_address.borrow().values().copied().collect();
        let objects = handles.iter().filter_map(|h| layer.objects.get(*h));
        objects.collect::<Vec<_>>()
    });
    for queue in &all {
        let Part::Cq(part) = &queue.part else {
            continue;
        };
        let outstanding = part.outstanding();
        if queue.state.get() == State::Open && outstanding > 0 {
            let armed = if part.is_armed() {
                "is armed"
            } else {
                "is not armed and notifies nobody"
            };
            queues.push((queue.provider.machine.0, queue.number, format!(
                "{queue} {armed}; {outstanding} request(s) that complete there have no result taken"
            )));
        }
    }
    queues.sort();
    queues.into_iter().map(|(_, _, text)| text).collect()
}

/// First words of a block that nobody but this layer writes.
const PATTERN: usize = 0x4e44_4b5f_6c61_7965;

impl Object {
    /// A record for an object that is about to be made by `born`.
    pub(super) fn unborn(
        kind: Kind,
        provider: &Rc<Provider>,
        born: &'static str,
        part: Part,
        antecedents: &[&Rc<Object>],
    ) -> Rc<Object> {
        let made = &provider.made[kind as usize];
        made.set(made.get() + 1);
        with_layer(|layer| {
            layer.objects.insert(|handle| Object {
                handle,
                kind,
                number: made.get(),
                provider: Rc::clone(provider),
                born,
                header: Cell::new(std::ptr::null_mut()),
                table: Cell::new(std::ptr::null()),
                state: Cell::new(State::Unborn),
                antecedents: RefCell::new(antecedents.iter().map(|a| Rc::clone(a)).collect()),
                successors: Cell::new(0),
                requests: Cell::new(0),
                late: Cell::new(0),
                kept: Cell::new(false),
                events: Cell::new(0),
                in_close: Cell::new(false),
                overtaken_by: RefCell::default(),
                accused: Cell::new(false),
                part,
            })
        })
    }

    /// Counted by kind, from 1.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The provider's table.
    #[inline]
    pub(super) fn table<T>(&self) -> *const T {
        self.table.get().cast()
    }

    /// Whether the adapter was opened with that version of the interface or a later one.
    pub(super) fn has(&self, version: NDK_VERSION) -> bool {
        self.provider.version.get() >= version
    }

    /// What this layer keeps in the object's NdkReserved.
    #[inline]
    fn block(&self) -> [*mut c_void; 4] {
        let table = self.table.get().addr();
        [
            self.handle.context(),
            std::ptr::without_provenance_mut(table),
            std::ptr::without_provenance_mut(!self.handle.bits()),
            std::ptr::without_provenance_mut(PATTERN ^ table),
        ]
    }

    /// Takes over an object that the provider hands out: checks its header and puts the layer's tables in. False if it
    /// cannot be used.
    pub(super) fn adopt(self: &Rc<Self>, header: *mut NDK_OBJECT_HEADER) -> bool {
        let by = self.born;
        if !header
            .addr()
            .is_multiple_of(align_of::<NDK_OBJECT_HEADER>())
        {
            violation(
                rules::CREATE_WITHOUT_OBJECT,
                format!("{by}: {} at an odd address, {header:p}", self.kind.name()),
            );
            return false;
        }
        let known = with_layer(|l| l.by_address.borrow().get(&header.addr()).copied());
        if let Some(known) = known.and_then(|h| with_layer(|l| l.objects.get(h))) {
            violation(
                rules::OBJECT_TWICE,
                format!(
                    "{by}: the {} handed out is {known}, which is not closed",
                    self.kind.name()
                ),
            );
            return false;
        }
        // SAFETY: the provider hands out an object, which begins with a header and a dispatch pointer.
        let (head, dispatch) = unsafe { (*header, dispatch_of(header).read()) };
        self.check_head(&head);
        if !self.check_table(dispatch) {
            return false;
        }
        self.header.set(header);
        self.table.set(dispatch);
        // SAFETY: as above; the block and the dispatch pointer are ours from now on.
        unsafe {
            (*header).NdkReserved.rf = self.block();
            dispatch_of(header).write(hooks_of(self.kind));
        }
        self.state.set(State::Open);
        if let Part::Qp(qp) = &self.part {
            qp.created();
        }
        for antecedent in self.antecedents.borrow().iter() {
            antecedent.successors.set(antecedent.successors.get() + 1);
        }
        if self.kind != Kind::Adapter {
            self.provider.objects.borrow_mut().push(Rc::clone(self));
        }
        with_layer(|l| {
            l.graves.remove(header.addr());
            l.by_address.borrow_mut().insert(header.addr(), self.handle)
        });
        true
    }

    fn check_head(&self, head: &NDK_OBJECT_HEADER) {
        let by = self.born;
        if head.ObjectType != self.kind as u32 {
            violation(
                rules::OBJECT_TYPE,
                format!(
                    "{by}: header of {self} has type {}, not {}",
                    head.ObjectType, self.kind as u32
                ),
            );
        }
        let version = self.provider.version.get();
        // Of an adapter it is what negotiates, and is checked by whoever opened it.
        if self.kind != Kind::Adapter && head.Version != version {
            violation(
                rules::OBJECT_VERSION,
                format!(
                    "{by}: header of {self} has version {}.{}, the adapter {}.{}",
                    head.Version.Major, head.Version.Minor, version.Major, version.Minor
                ),
            );
        }
        if head.NdkReserved.rf.iter().any(|word| !word.is_null()) {
            violation(
                rules::RESERVED_NOT_ZERO,
                format!("{by}: NdkReserved of {self} is {:x?}", head.NdkReserved.rf),
            );
        }
    }

    fn check_table(&self, table: *const c_void) -> bool {
        let by = self.born;
        if table.is_null() {
            violation(
                rules::DISPATCH_MISSING,
                format!("{by}: {self} has no dispatch table"),
            );
            return false;
        }
        if table == hooks_of(self.kind) {
            violation(
                rules::DISPATCH_MISSING,
                format!(
                    "{by}: {self} has the dispatch pointer of the object that was in its memory before"
                ),
            );
            return false;
        }
        let version = self.provider.version.get();
        let Slots(slots) = slots_of(self.kind);
        let mut complete = true;
        for (index, (slot, since)) in slots.iter().enumerate() {
            if *since > version {
                continue;
            }
            // SAFETY: the table has a pointer for each function of its version.
            let target = unsafe { table.cast::<*const ()>().add(index).read() };
            if target.is_null() {
                violation(
                    rules::DISPATCH_MISSING,
                    format!(
                        "{by}: {} is missing in the dispatch table of {self}",
                        slot.name
                    ),
                );
                complete = false;
            } else if let Some(refused) = guard::refused(target) {
                // Whoever calls it is not to blame.
                let _charged = Charged::to(self.provider.driver);
                violation(
                    crate::verifier::rules::GUARD_TARGET,
                    format!("{by}: {} of {self} is {refused}", slot.name),
                );
            }
        }
        complete
    }

    /// Checks that the provider left the header alone, and repairs it.
    #[inline]
    pub(super) fn check_header(&self) {
        let header = self.header.get();
        // SAFETY: an object's memory lasts until its close is finished.
        let (block, dispatch) = unsafe { ((*header).NdkReserved.rf, dispatch_of(header).read()) };
        if block != self.block() || dispatch != hooks_of(self.kind) {
            self.header_written(block, dispatch);
        }
    }

    #[cold]
    #[inline(never)]
    fn header_written(&self, block: [*mut c_void; 4], dispatch: *const c_void) {
        let accused = self.accused.replace(true);
        if !accused && block != self.block() {
            violation(
                rules::RESERVED_WRITTEN,
                format!("NdkReserved of {self} was overwritten with {block:x?}"),
            );
        }
        if !accused && dispatch != hooks_of(self.kind) {
            violation(
                rules::DISPATCH_WRITTEN,
                format!("Dispatch of {self} was overwritten with {dispatch:p}"),
            );
        }
        let header = self.header.get();
        // SAFETY: as in `check_header`.
        unsafe {
            (*header).NdkReserved.rf = self.block();
            dispatch_of(header).write(hooks_of(self.kind));
        }
    }

    /// Makes it depend on another object, until it is closed or [`Self::part_from`] it.
    pub(super) fn depend_on(&self, antecedent: &Rc<Object>) {
        self.antecedents.borrow_mut().push(Rc::clone(antecedent));
        antecedent.successors.set(antecedent.successors.get() + 1);
    }

    /// Ends what [`Self::depend_on`] began.
    pub(super) fn part_from(&self, antecedent: &Rc<Object>) {
        let mut antecedents = self.antecedents.borrow_mut();
        if let Some(at) = antecedents.iter().rposition(|a| Rc::ptr_eq(a, antecedent)) {
            antecedents.remove(at);
            antecedent.successors.set(antecedent.successors.get() - 1);
        }
    }

    /// Whether it is a connection whose queue pair has its results there.
    pub(super) fn is_connection_on(&self, cq: &Object) -> bool {
        let on = |object: &Object, is: &dyn Fn(&Object) -> bool| {
            object.antecedents.borrow().iter().any(|a| is(a))
        };
        self.kind == Kind::Connector
            && on(self, &|a| {
                a.kind == Kind::Qp && on(a, &|queue| queue.handle == cq.handle)
            })
    }

    /// Ends what [`Self::depend_on`] began with objects of a kind.
    pub(super) fn part_from_those(&self, kind: Kind) {
        let mut antecedents = self.antecedents.borrow_mut();
        for antecedent in antecedents.extract_if(.., |a| a.kind == kind) {
            antecedent.successors.set(antecedent.successors.get() - 1);
        }
    }

    /// Accuses the provider if the object's close must not be finished yet.
    pub(super) fn check_may_close(self: &Rc<Self>, how: &str) {
        let requests = self.requests.get();
        if requests > 0 {
            violation(
                rules::CLOSE_BEFORE_REQUESTS,
                format!(
                    "close of {self} {how} while {requests} request(s) on it are not completed, or their completion callbacks run"
                ),
            );
        }
        let events = self.events.get();
        if events > 0 {
            violation(
                rules::CLOSE_BEFORE_EVENTS,
                format!(
                    "close of {self} {how} while {events} notification or event callback(s) of it run"
                ),
            );
        }
        if self.successors.get() > 0 {
            let successors: Vec<_> = self.live_successors();
            for successor in successors {
                // Of that the consumer knows nothing yet, and will not hear of this before.
                if successor.kept.get() {
                    continue;
                }
                if successor.in_close.get() {
                    // Its close may be about to return STATUS_SUCCESS; then it was closed before.
                    successor.overtaken_by.borrow_mut().push(self.to_string());
                    continue;
                }
                let text = format!("close of {self} {how} before {}", successor.story());
                if self.kind == Kind::Mr {
                    mw::outlived(&successor, self, text);
                } else {
                    violation(rules::CLOSE_BEFORE_SUCCESSORS, text);
                }
            }
        }
    }

    /// Where it comes in lists: by machine, kind and age.
    pub(super) fn place(&self) -> (u32, u32, u32) {
        (self.provider.machine.0, self.kind as u32, self.number)
    }

    /// Its name among the objects of its provider.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.kind.name(), self.number)
    }

    /// Objects that it depends on.
    pub(super) fn antecedents(&self) -> Vec<Rc<Object>> {
        self.antecedents.borrow().clone()
    }

    /// What keeps its close pending.
    pub(super) fn held_by(self: &Rc<Self>) -> Vec<String> {
        let mut holders = Vec::new();
        match self.late.get() - u32::from(self.kept.get()) {
            0 => {}
            n => holders.push(format!("{n} answer(s) that its consumer is not told yet")),
        }
        match self.requests.get() {
            0 => {}
            n => holders.push(format!("{n} request(s) not completed")),
        }
        match self.events.get() {
            0 => {}
            n => holders.push(format!("{n} callback(s) running")),
        }
        let successors = if self.kind == Kind::Adapter {
            self.provider.objects.borrow().clone()
        } else {
            self.live_successors()
        };
        holders.extend(successors.iter().map(|s| match s.state.get() {
            State::Closing => format!("{s}, whose close pends"),
            State::Closed => format!("{s}, whose close is kept: its consumer is not told yet"),
            _ => format!("{s}, not closed"),
        }));
        holders
    }

    pub(super) fn live_successors(self: &Rc<Self>) -> Vec<Rc<Object>> {
        self.provider
            .objects
            .borrow()
            .iter()
            .filter(|o| o.antecedents.borrow().iter().any(|a| Rc::ptr_eq(a, self)))
            .cloned()
            .collect()
    }

    /// What a connection's queue pair had outstanding is over: the connection is.
    pub(super) fn end_requests(&self) {
        for antecedent in self.antecedents.borrow().iter() {
            if let Part::Qp(qp) = &antecedent.part {
                qp.end_requests();
            }
        }
    }

    /// The provider has closed the object: there is nothing at its address any more.
    pub(super) fn closed(&self) {
        self.state.set(State::Closed);
        with_layer(|l| {
            l.by_address.borrow_mut().remove(&self.header.get().addr());
            l.graves.add(self);
        });
    }

    /// The consumer is told that it is closed: nothing of what it gave is in use any more.
    pub(super) fn ended(&self) {
        match &self.part {
            Part::Connector(_) => self.end_requests(),
            Part::Qp(qp) => qp.end_requests(),
            Part::Mr(mr) => mr.ended(),
            _ => {}
        }
    }

    /// The object is closed and the provider knows that the consumer knows: its antecedents may be closed.
    pub(super) fn gone(self: &Rc<Self>) {
        for antecedent in std::mem::take(&mut *self.antecedents.borrow_mut()) {
            antecedent.successors.set(antecedent.successors.get() - 1);
        }
        self.provider
            .objects
            .borrow_mut()
            .retain(|o| !Rc::ptr_eq(o, self));
        match &self.part {
            // A queue pair is remembered until its results have been taken.
            Part::Qp(qp) if qp.remains(self) => return,
            Part::Cq(cq) => cq.closed(),
            _ => {}
        }
        self.forget();
    }

    /// Nothing of the object can turn up any more.
    pub(super) fn forget(&self) {
        with_layer(|l| l.objects.retire(self.handle));
    }

    /// What it is, who made it, what it depends on.
    pub(super) fn story(&self) -> String {
        let mut story = format!("{self} ({:?}, from {}", self.state.get(), self.born);
        for (index, antecedent) in self.antecedents.borrow().iter().enumerate() {
            if antecedent.kind != Kind::Adapter {
                story.push_str(if index == 0 { "; on " } else { ", " });
                story.push_str(antecedent.kind.name());
                story.push_str(&format!(" {}", antecedent.number));
            }
        }
        story.push(')');
        story
    }
}

/// Where an object keeps its dispatch pointer: right behind its header, whatever it is.
pub(super) fn dispatch_of(header: *mut NDK_OBJECT_HEADER) -> *mut *const c_void {
    header.wrapping_add(1).cast()
}

/// The object at an address that a consumer passed, if it is one.
#[inline]
pub(super) fn find(header: *mut NDK_OBJECT_HEADER) -> Option<Rc<Object>> {
    if header.is_null()
        || !header
            .addr()
            .is_multiple_of(align_of::<NDK_OBJECT_HEADER>())
    {
        return None;
    }
    // SAFETY: the consumer passes an object, or what has been one.
    let first = unsafe { (*header).NdkReserved.rf[0] };
    let object = with_layer(|l| l.objects.get(Handle::from_context(first)));
    match object {
        Some(object) if object.header.get() == header => Some(object),
        // The provider may have overwritten the block.
        _ => with_layer(|l| {
            let handle = l.by_address.borrow().get(&header.addr()).copied()?;
            l.objects.get(handle)
        }),
    }
}
