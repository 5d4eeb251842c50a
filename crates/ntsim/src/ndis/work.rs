//! NDIS work items and timer objects.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::ndis::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::adapter::Adapter;
use super::driver::MiniportDriver;
use super::handle::Handled;
use super::{header, ndis, rules};
use crate::exports::ke::time;
use crate::verifier::{Function, violation};
use crate::world::context;
use crate::world::driver::Driver;
use crate::world::driver_call::begin_driver;
use crate::world::processor::{DISPATCH, Dpc, PASSIVE};

static WORK: Function = Function::callback("NdisIoWorkitemFunction", PASSIVE..=PASSIVE);
static TIMER: Function = Function::callback("NetTimerCallback", DISPATCH..=DISPATCH);

/// The driver behind a handle that may be an adapter's or a driver's.
fn owner(handle: NDIS_HANDLE, function: &str) -> Option<Rc<Driver>> {
    let handles = &ndis().handles;
    if let Ok(adapter) = handles.peek::<Adapter>(handle) {
        return Some(Rc::clone(&adapter.driver.driver));
    }
    if let Ok(driver) = handles.peek::<MiniportDriver>(handle) {
        return Some(Rc::clone(&driver.driver));
    }
    violation(
        rules::HANDLE,
        format!("{function}: {handle:p} is neither a miniport adapter nor a miniport driver"),
    );
    None
}

/// A work item.
pub(crate) struct WorkItem {
    owner: NDIS_HANDLE,
    driver: Rc<Driver>,
    queued: Cell<bool>,
}

impl Handled for WorkItem {
    const KIND: &'static str = "an I/O work item";
}

/// `NdisAllocateIoWorkItem`.
pub(crate) fn allocate_item(handle: NDIS_HANDLE) -> NDIS_HANDLE {
    const F: &str = "NdisAllocateIoWorkItem";
    let Some(driver) = owner(handle, F) else {
        return std::ptr::null_mut();
    };
    if context::machine().faults.strikes(F) {
        return std::ptr::null_mut();
    }
    ndis().handles.insert(Rc::new(WorkItem {
        owner: handle,
        driver,
        queued: Cell::new(false),
    }))
}

/// `NdisFreeIoWorkItem`.
pub(crate) fn free_item(handle: NDIS_HANDLE) {
    const F: &str = "NdisFreeIoWorkItem";
    let ndis = ndis();
    let Some(item) = ndis.handles.get::<WorkItem>(handle, F) else {
        return;
    };
    if item.queued.get() {
        violation(rules::WORK, format!("{F}: the work item is queued"));
    }
    ndis.handles.remove(handle);
}

/// `NdisQueueIoWorkItem`.
pub(crate) fn queue_item(
    handle: NDIS_HANDLE,
    routine: NDIS_IO_WORKITEM_FUNCTION,
    work_context: *mut c_void,
) {
    const F: &str = "NdisQueueIoWorkItem";
    let Some(item) = ndis().handles.get::<WorkItem>(handle, F) else {
        return;
    };
    if item.queued.replace(true) {
        violation(rules::WORK, format!("{F}: the work item is queued already"));
        return;
    }
    let (handle, work_context) = (handle.addr(), work_context.expose_provenance());
    context::machine().queue_work(move || {
        // Before the routine: it may queue or free the item.
        item.queued.set(false);
        let _charged = item.driver.charge();
        // SAFETY: the driver's routine, called as its type demands.
        begin_driver(&WORK, routine as *const (), || unsafe {
            routine(
                std::ptr::with_exposed_provenance_mut(work_context),
                std::ptr::without_provenance_mut(handle),
            );
        });
    });
}

/// A timer object.
pub(crate) struct Timer {
    owner: NDIS_HANDLE,
    driver: Rc<Driver>,
    function: NDIS_TIMER_FUNCTION,
    default_context: *mut c_void,
    context: Cell<*mut c_void>,
    /// Names the kernel timer and DPC: the address of this byte.
    object: Box<u8>,
    queued: Cell<bool>,
}

impl Handled for Timer {
    const KIND: &'static str = "a timer object";
}

/// Timers by the address that names their kernel timer.
#[derive(Default)]
pub(crate) struct Timers(RefCell<Vec<(usize, Rc<Timer>)>>);

/// `NdisAllocateTimerObject`.
///
/// # Safety
/// As for the exported function.
pub(crate) unsafe fn allocate_timer(
    handle: NDIS_HANDLE,
    characteristics: *const NDIS_TIMER_CHARACTERISTICS,
    out: *mut NDIS_HANDLE,
) -> NDIS_STATUS {
    const F: &str = "NdisAllocateTimerObject";
    let Some(driver) = owner(handle, F) else {
        return NDIS_STATUS_FAILURE;
    };
    if characteristics.is_null() || out.is_null() {
        violation(rules::PARAMETER, format!("{F}: null pointer"));
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: begins with a header.
    let head = unsafe { (*characteristics).Header };
    let sizes = [(
        NDIS_TIMER_CHARACTERISTICS_REVISION_1,
        NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
    )];
    if !header::check(F, head, NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS, &sizes) {
        return NDIS_STATUS_FAILURE;
    }
    // SAFETY: as long as its header says.
    let c: NDIS_TIMER_CHARACTERISTICS = unsafe { header::copy(characteristics, head.Size) };
    let Some(function) = c.TimerFunction else {
        violation(rules::PARAMETER, format!("{F}: TimerFunction is null"));
        return NDIS_STATUS_FAILURE;
    };
    if context::machine().faults.strikes(F) {
        return NDIS_STATUS_RESOURCES;
    }
    let timer = Rc::new(Timer {
        owner: handle,
        driver,
        function,
        default_context: c.FunctionContext,
        context: Cell::new(std::ptr::null_mut()),
        object: Box::new(0),
        queued: Cell::new(false),
    });
    let ndis = ndis();
    ndis.timers
        .0
        .borrow_mut()
        .push((timer.name(), Rc::clone(&timer)));
    let handle = ndis.handles.insert(timer);
    // SAFETY: the driver's variable.
    unsafe { out.write(handle) };
    NDIS_STATUS_SUCCESS
}

impl Timer {
    fn name(&self) -> usize {
        std::ptr::from_ref(&*self.object).addr()
    }
}

/// `NdisSetTimerObject`.
pub(crate) fn set_timer(
    handle: NDIS_HANDLE,
    due: i64,
    period_ms: i32,
    function_context: *mut c_void,
) -> BOOLEAN {
    const F: &str = "NdisSetTimerObject";
    let Some(timer) = ndis().handles.get::<Timer>(handle, F) else {
        return 0;
    };
    if period_ms < 0 {
        violation(rules::PARAMETER, format!("{F}: period {period_ms}"));
        return 0;
    }
    timer.context.set(if function_context.is_null() {
        timer.default_context
    } else {
        function_context
    });
    let period = u64::from(period_ms.unsigned_abs()) * 1_000_000;
    BOOLEAN::from(context::machine().set_timer(timer.name(), 0, time::due(due), period, expired))
}

fn find(object: usize) -> Option<Rc<Timer>> {
    ndis()
        .timers
        .0
        .borrow()
        .iter()
        .find(|(name, _)| *name == object)
        .map(|(_, t)| Rc::clone(t))
}

fn expired(object: usize) {
    let Some(timer) = find(object) else { return };
    timer.queued.set(true);
    context::with_processor(|p| p.queue_dpc(Dpc { object, run }, false));
    let number = context::with_processor(|p| p.number);
    context::machine().list_processor(number);
}

fn run(object: usize) {
    let Some(timer) = find(object) else { return };
    timer.queued.set(false);
    let _charged = timer.driver.charge();
    // SAFETY: the driver's function, called as its type demands.
    begin_driver(&TIMER, timer.function as *const (), || unsafe {
        (timer.function)(
            std::ptr::null_mut(),
            timer.context.get(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    });
}

/// `NdisCancelTimerObject`.
pub(crate) fn cancel_timer(handle: NDIS_HANDLE) -> BOOLEAN {
    let Some(timer) = ndis().handles.get::<Timer>(handle, "NdisCancelTimerObject") else {
        return 0;
    };
    BOOLEAN::from(context::machine().cancel_timer(timer.name()))
}

/// `NdisFreeTimerObject`.
pub(crate) fn free_timer(handle: NDIS_HANDLE) {
    const F: &str = "NdisFreeTimerObject";
    let ndis = ndis();
    let Some(timer) = ndis.handles.get::<Timer>(handle, F) else {
        return;
    };
    if context::machine().timers.is_set(timer.name()) || timer.queued.get() {
        violation(
            rules::WORK,
            format!("{F}: the timer is still set or its DPC queued"),
        );
        context::machine().cancel_timer(timer.name());
    }
    ndis.timers
        .0
        .borrow_mut()
        .retain(|(name, _)| *name != timer.name());
    ndis.handles.remove(handle);
}

/// How many timers of an adapter are set.
pub(crate) fn timers_set(owner: NDIS_HANDLE) -> usize {
    let set = |t: &&Rc<Timer>| t.owner == owner && context::machine().timers.is_set(t.name());
    ndis().handles.all::<Timer>().iter().filter(set).count()
}

/// Work items and timers of an adapter or driver that are still there.
pub(crate) fn check_released(owner: NDIS_HANDLE, when: &str) {
    let handles = &ndis().handles;
    let items = handles
        .all::<WorkItem>()
        .iter()
        .filter(|w| w.owner == owner)
        .count();
    let timers = handles
        .all::<Timer>()
        .iter()
        .filter(|t| t.owner == owner)
        .count();
    for (count, what) in [(items, "I/O work item(s)"), (timers, "timer object(s)")] {
        if count > 0 {
            violation(rules::LEAK, format!("{when}: {count} {what} left"));
        }
    }
}
