//! Resources of the executive (`ERESOURCE`): owned by one thread, or shared by several.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::{BOOLEAN, FALSE, NTSTATUS, TRUE};
use ndis_sys::wdm::ERESOURCE;

use super::ke::wait::Regions;
use crate::memory::paged;
use crate::verifier::locks::Mode;
use crate::verifier::mutexes::{self, Lock};
use crate::verifier::{self, cross, rules};
use crate::world::driver::DriverNumber;
use crate::world::processor::APC;
use crate::world::wait::wait_until;
use crate::world::{context, on_stack, thread};

exports! {
    "ntoskrnl.exe";
    ExInitializeResourceLite: PASSIVE..=DISPATCH,
    ExDeleteResourceLite: PASSIVE..=APC,
    ExAcquireResourceExclusiveLite: PASSIVE..=APC,
    ExAcquireResourceSharedLite: PASSIVE..=APC,
    ExReleaseResourceLite: PASSIVE..=DISPATCH,
}

#[derive(Default)]
struct Resource {
    driver: DriverNumber,
    /// The thread that owns it alone, and how often.
    exclusive: Option<(usize, u32)>,
    /// Threads that share it, and how often.
    shared: BTreeMap<usize, u32>,
    /// Threads that wait to own it alone: who comes later to share it waits behind them.
    waiting: u32,
}

impl Resource {
    /// Whether a thread can have it now.
    fn is_free_for(&self, me: usize, exclusively: bool) -> bool {
        match self.exclusive {
            Some((owner, _)) => owner == me,
            None if exclusively => self.shared.is_empty(),
            None => self.waiting == 0 || self.shared.contains_key(&me),
        }
    }

    /// Gives it to a thread, for which it is free.
    fn acquire(&mut self, me: usize, exclusively: bool) {
        match &mut self.exclusive {
            Some((_, count)) => *count += 1,
            None if exclusively => self.exclusive = Some((me, 1)),
            None => *self.shared.entry(me).or_default() += 1,
        }
    }

    /// Gives back what a thread acquired once; false if it has nothing.
    fn release(&mut self, me: usize) -> bool {
        if let Some((owner, count)) = &mut self.exclusive
            && *owner == me
        {
            *count -= 1;
            if *count == 0 {
                self.exclusive = None;
            }
            return true;
        }
        let Some(count) = self.shared.get_mut(&me) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.shared.remove(&me);
        }
        true
    }

    fn is_owned(&self) -> bool {
        self.exclusive.is_some() || !self.shared.is_empty()
    }
}

/// A machine's resources, by address.
#[derive(Default)]
pub(crate) struct Resources(RefCell<BTreeMap<usize, Resource>>);

impl Resources {
    /// A resource in memory that is freed.
    pub(crate) fn find(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        self.0
            .borrow()
            .keys()
            .copied()
            .find(|resource| f(*resource))
    }

    /// Forgets the resources of a driver that has gone; how many.
    pub(crate) fn forget(&self, driver: DriverNumber) -> usize {
        let mut resources = self.0.borrow_mut();
        let before = resources.len();
        resources.retain(|_, resource| resource.driver != driver);
        before - resources.len()
    }

    fn with<R>(&self, at: *mut ERESOURCE, by: &str, f: impl FnOnce(&mut Resource) -> R) -> R {
        if let Some(resource) = self.0.borrow_mut().get_mut(&at.addr()) {
            return f(resource);
        }
        verifier::bugcheck(
            rules::UNINITIALIZED,
            format!("{by}: the resource at {at:p} was never initialised, or is deleted"),
        )
    }
}

/// Accuses if the running thread owns a resource at a place where it must not: APCs stay disabled until the release
/// (nf-wdm-exreleaseresourcelite).
pub(crate) fn expect_none_owned(place: &str) {
    let me = thread::number();
    let owned = |r: &Resource| {
        r.exclusive.is_some_and(|(owner, _)| owner == me) || r.shared.contains_key(&me)
    };
    let resources = context::machine().ext::<Resources>();
    let owned: Vec<usize> = {
        let resources = resources.0.borrow();
        let owned = resources.iter().filter(|(_, resource)| owned(resource));
        owned.map(|(at, _)| *at).collect()
    };
    for at in owned {
        verifier::violation(
            rules::RESOURCE,
            format!("{place} while this thread owns the resource at {at:#x}"),
        );
    }
}

/// What comes to that place, or came, is another lock.
fn forget_order(resource: *mut ERESOURCE) {
    let core = context::core();
    core.verifier.lock_order.forget(resource.addr(), 1);
}

/// Initialises a resource.
///
/// # Safety
/// `Resource` must be valid for a write and stay until it is deleted.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExInitializeResourceLite(Resource: *mut ERESOURCE) -> NTSTATUS {
    const F: &str = "ExInitializeResourceLite";
    let crossing = cross(&functions::ExInitializeResourceLite);
    paged::expect_resident(Resource.addr(), "the resource", F);
    let machine = context::machine();
    let resource = self::Resource {
        driver: machine.owner(&crossing),
        ..self::Resource::default()
    };
    let resources = machine.ext::<Resources>();
    if resources
        .0
        .borrow_mut()
        .insert(Resource.addr(), resource)
        .is_some()
    {
        verifier::violation(
            rules::OBJECT_IN_USE,
            format!("{F}: the resource at {Resource:p} is initialised already"),
        );
    }
    forget_order(Resource);
    on_stack::note(Resource.addr());
    // SAFETY: promised by the caller.
    unsafe { Resource.write(ERESOURCE::ZEROED) };
    STATUS_SUCCESS
}

/// Deletes a resource.
///
/// # Safety
/// `Resource` must be one that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExDeleteResourceLite(Resource: *mut ERESOURCE) -> NTSTATUS {
    const F: &str = "ExDeleteResourceLite";
    let _crossing = cross(&functions::ExDeleteResourceLite);
    let resources = context::machine().ext::<Resources>();
    if resources.with(Resource, F, |r| r.is_owned()) {
        verifier::violation(
            rules::RESOURCE,
            format!("{F} deletes the resource at {Resource:p}, which is owned"),
        );
    }
    resources.0.borrow_mut().remove(&Resource.addr());
    while mutexes::released(Resource.addr()) {}
    forget_order(Resource);
    STATUS_SUCCESS
}

fn acquire(at: *mut ERESOURCE, wait: BOOLEAN, exclusively: bool, by: &'static str) -> BOOLEAN {
    let machine = context::machine();
    let resources = machine.ext::<Resources>();
    if context::irql() < APC && !machine.ext::<Regions>().inside() {
        verifier::violation(
            rules::RESOURCE,
            format!("{by} acquires the resource at {at:p} outside a critical region"),
        );
    }
    let me = thread::number();
    let free = || resources.with(at, by, |r| r.is_free_for(me, exclusively));
    let mode = match exclusively {
        true => Mode::Exclusive,
        false => Mode::Shared,
    };
    let lock = Lock::resource(at.addr(), mode);
    let waits = wait != FALSE;
    if waits && exclusively && resources.with(at, by, |r| r.shared.contains_key(&me)) {
        verifier::bugcheck(
            rules::LOCK_RECURSIVE,
            format!("{by} waits until nobody shares {lock}: this thread does"),
        );
    }
    if waits && !mutexes::is_owned(at.addr()) {
        mutexes::check_order(lock, by);
    }
    if !free() {
        if !waits {
            return FALSE;
        }
        let waiting = u32::from(exclusively);
        resources.with(at, by, |r| r.waiting += waiting);
        wait_until(free, None, format!("{by} waits for the resource at {at:p}"));
        resources.with(at, by, |r| r.waiting -= waiting);
    }
    resources.with(at, by, |r| r.acquire(me, exclusively));
    mutexes::acquired(lock, by);
    TRUE
}

/// Acquires a resource for the running thread alone.
///
/// # Safety
/// `Resource` must be one.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAcquireResourceExclusiveLite(
    Resource: *mut ERESOURCE,
    Wait: BOOLEAN,
) -> BOOLEAN {
    let _crossing = cross(&functions::ExAcquireResourceExclusiveLite);
    acquire(Resource, Wait, true, "ExAcquireResourceExclusiveLite")
}

/// Acquires a resource together with others.
///
/// # Safety
/// `Resource` must be one.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAcquireResourceSharedLite(
    Resource: *mut ERESOURCE,
    Wait: BOOLEAN,
) -> BOOLEAN {
    let _crossing = cross(&functions::ExAcquireResourceSharedLite);
    acquire(Resource, Wait, false, "ExAcquireResourceSharedLite")
}

/// Releases a resource.
///
/// # Safety
/// `Resource` must be one.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExReleaseResourceLite(Resource: *mut ERESOURCE) {
    const F: &str = "ExReleaseResourceLite";
    let _crossing = cross(&functions::ExReleaseResourceLite);
    let resources = context::machine().ext::<Resources>();
    if !resources.with(Resource, F, |r| r.release(thread::number())) {
        verifier::violation(
            rules::RESOURCE,
            format!("{F} releases the resource at {Resource:p}, which this thread does not own"),
        );
        return;
    }
    mutexes::released(Resource.addr());
}
