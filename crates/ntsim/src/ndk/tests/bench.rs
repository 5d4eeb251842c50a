//! A consumer of the fake provider.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::time::Duration;

use ndkpi::status::*;
use ndkpi::*;

use super::fake::{Fake, Misdeed, Mode, Thing};
use super::fake_tables as tables;
use crate::ndk::adapter;
use crate::ndk::object::{Kind, Object, Provider};
use crate::verifier::{Function, Violation};
use crate::world::context::{self, KernelMode};
use crate::world::driver_call::NOT_ITS_OWN;
use crate::world::processor::{DISPATCH, PASSIVE};
use crate::{FaultPaths, MachineConfig, MachineId, World, WorldBuilder};

/// What a callback told its consumer.
pub(super) struct Told {
    pub(super) calls: RefCell<Vec<NTSTATUS>>,
    pub(super) object: Cell<*mut NDK_OBJECT_HEADER>,
    then: RefCell<Option<Rc<dyn Fn()>>>,
}

impl Told {
    pub(super) fn new() -> &'static Told {
        let _kernel = KernelMode::enter();
        Box::leak(Box::new(Told {
            calls: RefCell::default(),
            object: Cell::new(null_mut()),
            then: RefCell::new(None),
        }))
    }

    pub(super) fn context(&'static self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// What to do inside the callback.
    pub(super) fn then(&self, f: impl Fn() + 'static) {
        let _kernel = KernelMode::enter();
        *self.then.borrow_mut() = Some(Rc::new(f));
    }

    pub(super) fn times(&self) -> usize {
        self.calls.borrow().len()
    }

    fn note(&self, status: NTSTATUS) {
        {
            let _kernel = KernelMode::enter();
            self.calls.borrow_mut().push(status);
        }
        let then = self.then.borrow().clone();
        if let Some(then) = then {
            then();
        }
    }
}

/// # Safety
/// `context` is from [`Told::context`].
unsafe fn told(context: *mut c_void) -> &'static Told {
    // SAFETY: the caller's promise; they are leaked.
    unsafe { &*context.cast::<Told>() }
}

pub(super) unsafe extern "efiapi" fn on_create(
    context: *mut c_void,
    status: NTSTATUS,
    object: *mut NDK_OBJECT_HEADER,
) {
    // SAFETY: the context given.
    let told = unsafe { told(context) };
    told.object.set(object);
    told.note(status);
}

pub(super) unsafe extern "efiapi" fn on_status(context: *mut c_void, status: NTSTATUS) {
    // SAFETY: the context given.
    unsafe { told(context) }.note(status);
}

pub(super) unsafe extern "efiapi" fn on_event(context: *mut c_void) {
    // SAFETY: the context given.
    unsafe { told(context) }.note(STATUS_SUCCESS);
}

pub(super) unsafe extern "efiapi" fn on_event_ex(context: *mut c_void, _reason: u32) {
    // SAFETY: the context given.
    unsafe { told(context) }.note(STATUS_SUCCESS);
}

pub(super) unsafe extern "efiapi" fn on_connect(
    context: *mut c_void,
    connector: *mut NDK_CONNECTOR,
) {
    // SAFETY: the context given.
    let told = unsafe { told(context) };
    told.object.set(connector.cast());
    told.note(STATUS_SUCCESS);
}

/// The dispatch table of an object, as a consumer gets at it.
macro_rules! table {
    ($object:expr) => {{
        #[allow(unused_unsafe, reason = "where the call is unsafe too")]
        // SAFETY: an object that is open.
        let dispatch = unsafe { &*(*$object).Dispatch };
        dispatch
    }};
}
pub(super) use table;

/// A machine, the fake provider on it, an adapter opened.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) machine: MachineId,
    pub(super) fake: &'static Fake,
    pub(super) adapter: *mut NDK_ADAPTER,
    hooked: Rc<Object>,
}

impl Bench {
    pub(super) fn new(mode: Mode, misdeed: Misdeed) -> Bench {
        Bench::with_version(mode, misdeed, NDK_VERSION_2_1, NDK_VERSION_2_1)
    }

    pub(super) fn with_version(
        mode: Mode,
        misdeed: Misdeed,
        asked: NDK_VERSION,
        given: NDK_VERSION,
    ) -> Bench {
        Bench::in_world(World::builder(), mode, misdeed, asked, given)
    }

    /// Whose consumers hear one in so many answers later than the provider gives them.
    pub(super) fn late(pend: u32, seed: u64, mode: Mode, misdeed: Misdeed) -> Bench {
        let world = World::builder().pend(pend).seed(seed);
        Bench::in_world(world, mode, misdeed, NDK_VERSION_2_1, NDK_VERSION_2_1)
    }

    /// In a world that fails what has no path there yet.
    pub(super) fn failing(paths: &FaultPaths, mode: Mode, misdeed: Misdeed) -> Bench {
        let world = World::builder().fail_new_paths(paths);
        Bench::in_world(world, mode, misdeed, NDK_VERSION_2_1, NDK_VERSION_2_1)
    }

    /// In a world where each call of a driver fails that may, once it has started.
    pub(super) fn low(mode: Mode, misdeed: Misdeed) -> Bench {
        let world = World::builder().low_resources(1);
        Bench::in_world(world, mode, misdeed, NDK_VERSION_2_1, NDK_VERSION_2_1)
    }

    /// In a world that does not look into the environment.
    pub(super) fn of_its_own(mode: Mode, misdeed: Misdeed) -> Bench {
        let world = World::builder().ignore_environment();
        Bench::in_world(world, mode, misdeed, NDK_VERSION_2_1, NDK_VERSION_2_1)
    }

    fn in_world(
        world: WorldBuilder,
        mode: Mode,
        misdeed: Misdeed,
        asked: NDK_VERSION,
        given: NDK_VERSION,
    ) -> Bench {
        let world = world.collect_violations().build();
        Bench::on_new_machine(world, "A", mode, misdeed, asked, given)
    }

    /// What is there stays as it is; from now on this is another provider, of a machine of its own, and its consumer.
    pub(super) fn on_another_machine(self, name: &str, mode: Mode, misdeed: Misdeed) -> Bench {
        let (asked, given) = (NDK_VERSION_2_1, NDK_VERSION_2_1);
        Bench::on_new_machine(self.world, name, mode, misdeed, asked, given)
    }

    fn on_new_machine(
        mut world: World,
        name: &str,
        mode: Mode,
        misdeed: Misdeed,
        asked: NDK_VERSION,
        given: NDK_VERSION,
    ) -> Bench {
        let machine = world.add_machine(MachineConfig::named(name).processors(2));
        let driver = world.machine(machine).drivers.add("fake");
        let fake = Fake::leak(driver.number, given);
        let adapter = fake.make(Kind::Adapter, tables::adapter(), &[]);
        let provider = Provider::new("fake".to_owned(), driver.number, machine);
        let hooked = {
            let _entered = world.machine(machine).enter(0);
            adapter::adopt(adapter.cast(), asked, &provider).expect("a usable adapter")
        };
        fake.mode.set(mode);
        fake.misdeed.set(misdeed);
        Bench {
            world,
            machine,
            fake,
            adapter: adapter.cast(),
            hooked,
        }
    }

    /// Runs consumer code.
    pub(super) fn run<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.world.call(self.machine, f)
    }

    /// Lets the provider do what it put off.
    pub(super) fn work(&mut self) {
        let fake = self.fake;
        self.world
            .call_on(self.machine, 0, DISPATCH, || fake.work());
        if self.world.core.pend > 0 {
            self.world.run_for(Duration::from_millis(3));
        }
    }

    /// Has a peer ask for a connection, of which the consumer hears.
    pub(super) fn incoming(&mut self) -> *mut NDK_CONNECTOR {
        let requested = Told::new();
        let listener = self.listener(requested);
        assert_eq!(self.listen(listener), STATUS_SUCCESS);
        self.fake.incoming(thing(listener));
        self.work();
        requested.object.get().cast()
    }

    /// Accepts a connection. What that returned.
    pub(super) fn accept(&mut self, connector: *mut NDK_CONNECTOR, qp: *mut NDK_QP) -> NTSTATUS {
        self.request(|context| {
            let f = table!(connector).NdkAccept;
            let (data, event) = (null(), None);
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    connector,
                    qp,
                    1,
                    1,
                    data,
                    0,
                    event,
                    null_mut(),
                    on_status,
                    context,
                )
            }
        })
    }

    /// Creates an object and waits for it. None if that fails.
    pub(super) fn create<T>(
        &mut self,
        f: impl FnOnce(*mut c_void, *mut *mut T) -> NTSTATUS,
    ) -> Option<*mut T> {
        let told = Told::new();
        let mut out = null_mut();
        let status = self.run(|| f(told.context(), &raw mut out));
        if status != STATUS_PENDING {
            assert_eq!(told.times(), 0);
            return (status == STATUS_SUCCESS).then_some(out);
        }
        self.work();
        assert!(out.is_null(), "the layer writes no out parameter either");
        let status = told.calls.borrow().first().copied();
        (status == Some(STATUS_SUCCESS)).then(|| told.object.get().cast())
    }

    /// Makes a request and waits for it; its final status.
    pub(super) fn request(&mut self, f: impl FnOnce(*mut c_void) -> NTSTATUS) -> NTSTATUS {
        let told = Told::new();
        let status = self.run(|| f(told.context()));
        if status != STATUS_PENDING {
            return status;
        }
        self.work();
        let calls = told.calls.borrow();
        calls.first().copied().unwrap_or(STATUS_PENDING)
    }

    /// Closes an object. What the close returned, and what its completion will tell.
    pub(super) fn start_close<T>(&mut self, object: *mut T) -> (NTSTATUS, &'static Told) {
        let told = Told::new();
        let status = self.run(|| close_now(object, told));
        (status, told)
    }

    /// Closes an object and waits. False if it is not closed.
    pub(super) fn close<T>(&mut self, object: *mut T) -> bool {
        let (status, told) = self.start_close(object);
        self.work();
        status == STATUS_SUCCESS || told.times() == 1
    }

    pub(super) fn cq(&mut self, told: &'static Told) -> Option<*mut NDK_CQ> {
        let adapter = self.adapter;
        self.create(|context, out| {
            let f = table!(adapter).NdkCreateCq;
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    adapter,
                    16,
                    on_status,
                    told.context(),
                    null_mut(),
                    on_create,
                    context,
                    out,
                )
            }
        })
    }

    pub(super) fn pd(&mut self) -> *mut NDK_PD {
        let adapter = self.adapter;
        let pd = self.create(|context, out| {
            let f = table!(adapter).NdkCreatePd;
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, on_create, context, out) }
        });
        pd.expect("a PD")
    }

    pub(super) fn qp(
        &mut self,
        pd: *mut NDK_PD,
        receive: *mut NDK_CQ,
        initiator: *mut NDK_CQ,
        qp_context: usize,
    ) -> *mut NDK_QP {
        let qp = self.create(|context, out| {
            let f = table!(pd).NdkCreateQp;
            let qp_context = qp_context as *mut c_void;
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    pd, receive, initiator, qp_context, 8, 8, 1, 1, 0, on_create, context, out,
                )
            }
        });
        qp.expect("a QP")
    }

    pub(super) fn mr(&mut self, pd: *mut NDK_PD) -> *mut NDK_MR {
        self.region(pd, false)
    }

    /// A region for fast registration.
    pub(super) fn fast_mr(&mut self, pd: *mut NDK_PD) -> *mut NDK_MR {
        self.region(pd, true)
    }

    fn region(&mut self, pd: *mut NDK_PD, fast: bool) -> *mut NDK_MR {
        let mr = self.create(|context, out| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(pd).NdkCreateMr)(pd, fast.into(), on_create, context, out) }
        });
        mr.expect("an MR")
    }

    pub(super) fn mw(&mut self, pd: *mut NDK_PD) -> *mut NDK_MW {
        let mw = self.create(|context, out| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(pd).NdkCreateMw)(pd, on_create, context, out) }
        });
        mw.expect("an MW")
    }

    pub(super) fn srq(&mut self, pd: *mut NDK_PD, told: &'static Told) -> *mut NDK_SRQ {
        let srq = self.create(|context, out| {
            let notification: NDK_FN_SRQ_NOTIFICATION_CALLBACK = on_status;
            let f = table!(pd).NdkCreateSrq;
            let (affinity, notify) = (null_mut(), Some(notification));
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    pd,
                    8,
                    1,
                    0,
                    notify,
                    told.context(),
                    affinity,
                    on_create,
                    context,
                    out,
                )
            }
        });
        srq.expect("an SRQ")
    }

    pub(super) fn connector(&mut self) -> *mut NDK_CONNECTOR {
        let adapter = self.adapter;
        let connector = self.create(|context, out| {
            let f = table!(adapter).NdkCreateConnector;
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, on_create, context, out) }
        });
        connector.expect("a connector")
    }

    pub(super) fn listener(&mut self, told: &'static Told) -> *mut NDK_LISTENER {
        let adapter = self.adapter;
        let listener = self.create(|context, out| {
            let f = table!(adapter).NdkCreateListener;
            // SAFETY: as a consumer calls.
            unsafe { f(adapter, on_connect, told.context(), on_create, context, out) }
        });
        listener.expect("a listener")
    }

    pub(super) fn listen(&mut self, listener: *mut NDK_LISTENER) -> NTSTATUS {
        let address = SOCKADDR::ZEROED;
        self.request(|context| {
            let f = table!(listener).NdkListen;
            // SAFETY: as a consumer calls.
            unsafe { f(listener, &raw const address, 16, on_status, context) }
        })
    }

    pub(super) fn connect(&mut self, connector: *mut NDK_CONNECTOR, qp: *mut NDK_QP) -> NTSTATUS {
        let address = SOCKADDR::ZEROED;
        let address = &raw const address;
        self.request(|context| {
            let f = table!(connector).NdkConnect;
            // SAFETY: as a consumer calls.
            unsafe {
                f(
                    connector,
                    qp,
                    address,
                    16,
                    address,
                    16,
                    1,
                    1,
                    null(),
                    0,
                    on_status,
                    context,
                )
            }
        })
    }

    pub(super) fn complete_connect(
        &mut self,
        connector: *mut NDK_CONNECTOR,
        told: &'static Told,
    ) -> NTSTATUS {
        self.request(|context| {
            let f = table!(connector).NdkCompleteConnect;
            let event: NDK_FN_DISCONNECT_EVENT_CALLBACK = on_event;
            // SAFETY: as a consumer calls.
            unsafe { f(connector, Some(event), told.context(), on_status, context) }
        })
    }

    pub(super) fn disconnect(&mut self, connector: *mut NDK_CONNECTOR) -> NTSTATUS {
        self.request(|context| {
            let f = table!(connector).NdkDisconnect;
            // SAFETY: as a consumer calls.
            unsafe { f(connector, on_status, context) }
        })
    }

    pub(super) fn resize(&mut self, cq: *mut NDK_CQ) -> NTSTATUS {
        self.request(|context| {
            let f = table!(cq).NdkResizeCq;
            // SAFETY: as a consumer calls.
            unsafe { f(cq, 32, on_status, context) }
        })
    }

    pub(super) fn send(&mut self, qp: *mut NDK_QP, context: usize, flags: u32) -> NTSTATUS {
        self.run(|| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(qp).NdkSend)(qp, context as *mut c_void, null(), 0, flags) }
        })
    }

    pub(super) fn receive(&mut self, qp: *mut NDK_QP, context: usize) -> NTSTATUS {
        self.run(|| {
            // SAFETY: as a consumer calls.
            unsafe { (table!(qp).NdkReceive)(qp, context as *mut c_void, null(), 0) }
        })
    }

    pub(super) fn bind(
        &mut self,
        qp: *mut NDK_QP,
        context: usize,
        mr: *mut NDK_MR,
        mw: *mut NDK_MW,
    ) -> NTSTATUS {
        self.run(|| {
            let (context, flags) = (context as *mut c_void, NDK_OP_FLAG_ALLOW_REMOTE_READ);
            // SAFETY: as a consumer calls.
            unsafe { (table!(qp).NdkBind)(qp, context, mr, mw, null_mut(), 16, flags) }
        })
    }

    /// Invalidates a window, or a region.
    pub(super) fn invalidate<T>(
        &mut self,
        qp: *mut NDK_QP,
        context: usize,
        object: *mut T,
    ) -> NTSTATUS {
        self.run(|| {
            let context = context as *mut c_void;
            // SAFETY: as a consumer calls.
            unsafe { (table!(qp).NdkInvalidate)(qp, context, object.cast(), 0) }
        })
    }

    /// Reads into a region, which names nothing any more then.
    pub(super) fn read_and_invalidate(
        &mut self,
        qp: *mut NDK_QP,
        context: usize,
        mr: *mut NDK_MR,
    ) -> NTSTATUS {
        self.run(|| {
            let (context, flags) = (
                context as *mut c_void,
                NDK_OP_FLAG_RDMA_READ_LOCAL_INVALIDATE,
            );
            // SAFETY: as a consumer calls.
            unsafe {
                let into = NDK_SGE {
                    Length: 16,
                    MemoryRegionToken: (table!(mr).NdkGetLocalTokenFromMr)(mr),
                    ..NDK_SGE::ZEROED
                };
                (table!(qp).NdkRead)(qp, context, &raw const into, 1, 0, 0, flags)
            }
        })
    }

    pub(super) fn modify_srq(
        &mut self,
        srq: *mut NDK_SRQ,
        depth: u32,
        threshold: u32,
        told: &'static Told,
    ) -> NTSTATUS {
        self.run(|| {
            let context = told.context();
            // SAFETY: as a consumer calls.
            unsafe { (table!(srq).NdkModifySrq)(srq, depth, threshold, on_status, context) }
        })
    }

    pub(super) fn arm(&mut self, cq: *mut NDK_CQ) {
        self.run(|| arm_now(cq));
    }

    /// Takes results: (QP context, request context, status).
    pub(super) fn poll(&mut self, cq: *mut NDK_CQ) -> Vec<(usize, usize, NTSTATUS)> {
        let mut results = [NDK_RESULT::ZEROED; 8];
        let count = self.run(|| {
            // SAFETY: an array of 8.
            unsafe { (table!(cq).NdkGetCqResults)(cq, results.as_mut_ptr(), 8) }
        });
        let taken = results[..count as usize].iter();
        taken
            .map(|r| (r.QPContext.addr(), r.RequestContext.addr(), r.Status))
            .collect()
    }

    /// As [`Self::poll`], by the other function.
    pub(super) fn poll_ex(&mut self, cq: *mut NDK_CQ) -> Vec<NDK_RESULT_EX> {
        let mut results = [NDK_RESULT_EX::ZEROED; 8];
        let count = self.run(|| {
            // SAFETY: an array of 8.
            unsafe { (table!(cq).NdkGetCqResultsEx)(cq, results.as_mut_ptr(), 8) }
        });
        results[..count as usize].to_vec()
    }

    /// Closes the adapter when everything is closed.
    pub(super) fn close_adapter(&mut self) {
        let early = self.fake.does(Misdeed::AdapterCloseReturnsEarly);
        self.close_adapter_with(!early);
    }

    /// Closes the adapter whatever is open, which a provider that waits would never finish.
    pub(super) fn close_adapter_as_is(&mut self) {
        self.close_adapter_with(false);
    }

    fn close_adapter_with(&mut self, wait: bool) {
        static CLOSE: Function = Function::callback("CloseNDKAdapterHandler", PASSIVE..=PASSIVE);
        let (fake, hooked) = (self.fake, Rc::clone(&self.hooked));
        self.run(|| {
            adapter::close(&hooked, &CLOSE, NOT_ITS_OWN, || {
                if wait {
                    fake.work();
                    assert!(fake.is_empty(), "the test left objects open");
                }
            });
        });
    }

    pub(super) fn violations(&mut self) -> Vec<Violation> {
        self.world.take_violations()
    }

    /// The rules broken, each once, in order.
    pub(super) fn rules(&mut self) -> Vec<&'static str> {
        let mut rules: Vec<&'static str> = Vec::new();
        for violation in self.violations() {
            if !rules.contains(&violation.rule) {
                rules.push(violation.rule);
            }
        }
        BROKEN.with_borrow_mut(|broken| broken.extend(&rules));
        rules
    }
}

thread_local! {
    /// Every rule that [`Bench::rules`] has told of on this thread.
    pub(super) static BROKEN: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

/// The object of the fake behind a pointer of the consumer.
pub(super) fn thing<T>(object: *mut T) -> &'static Thing {
    // SAFETY: made by the fake; objects stay.
    unsafe { &*object.cast::<Thing>() }
}

/// NdkArmCq, from inside a callback for instance.
pub(super) fn arm_now(cq: *mut NDK_CQ) {
    // SAFETY: as a consumer calls.
    unsafe { (table!(cq).NdkArmCq)(cq, NDK_CQ_NOTIFY_ANY) };
}

/// NdkCloseXxx, from inside a callback for instance.
pub(super) fn close_now<T>(object: *mut T, told: &'static Told) -> NTSTATUS {
    // SAFETY: every table but the adapter's begins with its close function.
    unsafe {
        let table = thing(object).dispatch.cast::<NDK_FN_CLOSE_OBJECT>();
        (*table)(object.cast(), on_event, told.context())
    }
}

/// The IRQL.
pub(super) fn irql() -> u8 {
    context::irql()
}
