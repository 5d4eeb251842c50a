//! Hooked memory regions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::call::{Then, request, request_end};
use super::hook::{Hook, enter};
use super::in_flight::Element;
use super::late;
use super::mw;
use super::object::{Kind, Object, Part, State, with_layer};
use super::rules;
use super::tables::{common, slots};
use crate::verifier::violation;

/// What only a memory region has.
pub(super) struct MrPart {
    pd: Rc<Object>,
    /// It was created for fast registration.
    fast: bool,
    /// Its token for requests of the consumer's own, once that was asked for.
    token: Cell<Option<u32>>,
    /// The MDLs that are registered.
    mdls: RefCell<Vec<usize>>,
    /// Counts what ended a fast registration of it, or may have.
    ends: Cell<u32>,
}

impl MrPart {
    pub(super) fn new(pd: &Rc<Object>, fast: bool) -> MrPart {
        MrPart {
            pd: Rc::clone(pd),
            fast,
            token: Cell::new(None),
            mdls: RefCell::default(),
            ends: Cell::new(0),
        }
    }

    pub(super) fn token(&self) -> Option<u32> {
        self.token.get()
    }

    /// It is registered no longer.
    pub(super) fn ended(&self) {
        self.token.set(None);
        self.mdls.borrow_mut().clear();
    }
}

fn part(object: &Object) -> &MrPart {
    match &object.part {
        Part::Mr(part) => part,
        _ => unreachable!("only regions have these functions"),
    }
}

/// How many ends of its fast registration there may have been.
pub(super) fn ends(region: &Object) -> u32 {
    part(region).ends.get()
}

/// The fast registration of a region ends, or may: windows on it are bound to nothing then.
pub(super) fn invalidate(region: &Rc<Object>) {
    let ends = &part(region).ends;
    ends.set(ends.get().wrapping_add(1));
    for window in region.live_successors() {
        mw::unbind(&window);
    }
}

/// Regions for fast registration of that protection domain for which that holds may have been invalidated.
pub(super) fn invalidate_those(pd: &Rc<Object>, is: impl Fn(&MrPart) -> bool) {
    let objects = pd.provider.objects.borrow();
    let regions = objects.iter().filter(|object| match &object.part {
        Part::Mr(part) => part.fast && Rc::ptr_eq(&part.pd, pd) && is(part),
        _ => false,
    });
    let regions: Vec<_> = regions.cloned().collect();
    drop(objects);
    for region in &regions {
        invalidate(region);
    }
}

/// Whether a peer of another queue pair than `qp` may have invalidated the region.
pub(super) fn is_in_reach(region: &Object, qp: Option<&Object>) -> bool {
    let own = part(region);
    let objects = own.pd.provider.objects.borrow();
    own.fast
        && objects.iter().any(|object| match &object.part {
            Part::Qp(part) => {
                let other = qp.is_none_or(|qp| qp.handle != object.handle);
                other && Rc::ptr_eq(&part.pd, &own.pd) && part.may_receive()
            }
            _ => false,
        })
}

/// The MDLs of a chain in which its first `length` bytes lie.
///
/// # Safety
/// `mdl` begins a chain.
pub(super) unsafe fn chain(mdl: *mut MDL, mut length: usize) -> Vec<usize> {
    let mut next = mdl.cast::<wdm::MDL>();
    let mut all = Vec::new();
    while !next.is_null() && length > 0 {
        all.push(next.addr());
        // SAFETY: the caller's promise.
        unsafe {
            length = length.saturating_sub((*next).ByteCount as usize);
            next = (*next).Next;
        }
    }
    all
}

/// The request of a queue of that protection domain which uses such memory, and on what it was posted.
pub(super) fn user(pd: &Rc<Object>, is: impl Fn(&Element) -> bool) -> Option<String> {
    let objects = pd.provider.objects.borrow();
    let open = objects.iter().filter(|o| o.state.get() == State::Open);
    open.filter_map(|object| {
        let request = match &object.part {
            Part::Qp(qp) if Rc::ptr_eq(&qp.pd, pd) => qp.user(&is),
            Part::Srq(srq) if Rc::ptr_eq(&srq.pd, pd) => srq.receives.find(&is),
            _ => None,
        }?;
        Some(format!("{request} on {object}"))
    })
    .next()
}

/// Accuses the consumer if a request uses the region that it is about to deregister. Closing it is another matter: objects may be closed
/// in any order, and what that means for requests is not documented.
fn check_unused(hook: &Hook) {
    let part = part(&hook.object);
    let Some(token) = part.token.get() else {
        return;
    };
    if let Some(user) = user(&part.pd, |e| e.token == token && e.length > 0) {
        violation(
            rules::CONSUMER_IN_FLIGHT,
            format!(
                "{} on {} is called while {user} uses it, whose result was not taken",
                hook.function.name, hook.object
            ),
        );
    }
}

/// The pages of an MDL are about to be unlocked.
pub(crate) fn unlocking(mdl: usize) {
    let holder = with_layer(|layer| {
        layer.find_open(|object| match &object.part {
            Part::Mr(part) if part.mdls.borrow().contains(&mdl) => {
                Some(format!("it is registered with {object}"))
            }
            Part::Adapter(mappings) if mappings.holds(mdl) => {
                Some(format!("it has a logical address mapping of {object}"))
            }
            _ => None,
        })
    });
    if let Some(holder) = holder {
        violation(
            rules::CONSUMER_UNLOCKED,
            format!("MmUnlockPages unlocks the pages of the MDL at {mdl:#x}, but {holder}"),
        );
    }
}

/// Accuses the consumer if the region was created for the other kind of registration. Whether it was not.
pub(super) fn check_kind(hook: &Hook, region: &Object, fast: bool) -> bool {
    let right = part(region).fast == fast;
    if !right {
        let kind = if fast { "without" } else { "with" };
        hook.bad_parameter(&format!("{region} was created {kind} FastRegister"));
    }
    right
}

slots![
    NdkCloseMr,
    NdkQueryExtension,
    NdkRegisterMr,
    NdkDeregisterMr,
    NdkInitializeFastRegisterMr,
    NdkGetRemoteTokenFromMr,
    NdkGetLocalTokenFromMr,
];

pub(super) static HOOKS: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: close,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register,
    NdkDeregisterMr: deregister,
    NdkInitializeFastRegisterMr: initialize_fast_register,
    NdkGetRemoteTokenFromMr: remote_token,
    NdkGetLocalTokenFromMr: local_token,
};

common!(Mr, NdkCloseMr);

unsafe extern "efiapi" fn register(
    mr: *mut NDK_MR,
    mdl: *mut MDL,
    length: usize,
    flags: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(mr.cast(), Kind::Mr, &NdkRegisterMr) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(mdl, "the MDL") {
        return STATUS_INVALID_PARAMETER;
    }
    check_kind(&hook, &hook.object, false);
    // SAFETY: the consumer's chain.
    let mdls = unsafe { chain(mdl, length) };
    let object = Rc::clone(&hook.object);
    let then: Then = Box::new(move |status| {
        if status == STATUS_SUCCESS {
            *part(&object).mdls.borrow_mut() = mdls;
        }
    });
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request(&hook, completion, context, Some(then), |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkRegisterMr)(mr, mdl, length, flags, done, cookie) }
    })
}

unsafe extern "efiapi" fn deregister(
    mr: *mut NDK_MR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(mr.cast(), Kind::Mr, &NdkDeregisterMr) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    check_unused(&hook);
    let object = Rc::clone(&hook.object);
    let then: Then = Box::new(move |status| {
        if status == STATUS_SUCCESS {
            part(&object).ended();
        }
    });
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request_end(&hook, completion, context, then, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkDeregisterMr)(mr, done, cookie) }
    })
}

unsafe extern "efiapi" fn initialize_fast_register(
    mr: *mut NDK_MR,
    pages: u32,
    remote: BOOLEAN,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    let Some(hook) = enter(mr.cast(), Kind::Mr, &NdkInitializeFastRegisterMr) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    check_kind(&hook, &hook.object, true);
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    request(&hook, completion, context, None, |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe { ((*table).NdkInitializeFastRegisterMr)(mr, pages, remote, done, cookie) }
    })
}

/// The consumer asks for what there is when the region is registered.
fn check_registered(hook: &Hook) {
    late::check_heard(hook, &["NdkRegisterMr", "NdkInitializeFastRegisterMr"]);
}

unsafe extern "efiapi" fn remote_token(mr: *mut NDK_MR) -> u32 {
    let Some(hook) = enter(mr.cast(), Kind::Mr, &NdkGetRemoteTokenFromMr) else {
        return 0;
    };
    check_registered(&hook);
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    // SAFETY: the provider's table and object.
    hook.call(|| unsafe { ((*table).NdkGetRemoteTokenFromMr)(mr) })
}

unsafe extern "efiapi" fn local_token(mr: *mut NDK_MR) -> u32 {
    let Some(hook) = enter(mr.cast(), Kind::Mr, &NdkGetLocalTokenFromMr) else {
        return 0;
    };
    check_registered(&hook);
    let table = hook.object.table::<NDK_MR_DISPATCH>();
    // SAFETY: the provider's table and object.
    let token = hook.call(|| unsafe { ((*table).NdkGetLocalTokenFromMr)(mr) });
    // Zero while it is registered nowhere.
    part(&hook.object)
        .token
        .set(Some(token).filter(|token| *token != 0));
    token
}
