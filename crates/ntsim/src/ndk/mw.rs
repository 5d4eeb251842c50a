//! Hooked memory windows, and what their binding means for memory regions.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::hook::enter;
use super::mr;
use super::object::{Kind, Object, Part, State, with_layer};
use super::rules;
use super::slab::Handle;
use super::tables::{common, slots};
use crate::verifier::violation;

slots![NdkCloseMw, NdkQueryExtension, NdkGetRemoteTokenFromMw];

pub(super) static HOOKS: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
    NdkCloseMw: close,
    NdkQueryExtension: query_extension,
    NdkGetRemoteTokenFromMw: remote_token,
};

common!(Mw, NdkCloseMw);

unsafe extern "efiapi" fn remote_token(mw: *mut NDK_MW) -> u32 {
    let Some(hook) = enter(mw.cast(), Kind::Mw, &NdkGetRemoteTokenFromMw) else {
        return 0;
    };
    let table = hook.object.table::<NDK_MW_DISPATCH>();
    // SAFETY: the provider's table and object.
    hook.call(|| unsafe { ((*table).NdkGetRemoteTokenFromMw)(mw) })
}

/// What only a memory window has.
#[derive(Default)]
pub(super) struct MwPart {
    /// Counts what ended its binding, or may have.
    ends: Cell<u32>,
    /// The queue pair that bound it.
    by: Cell<Option<Handle>>,
}

fn part(window: &Object) -> Option<&MwPart> {
    match &window.part {
        Part::Mw(part) => Some(part),
        _ => None,
    }
}

/// Whatever `window` is bound to, it is no longer, or need not be.
pub(super) fn unbind(window: &Object) {
    if let Some(part) = part(window) {
        part.ends.set(part.ends.get().wrapping_add(1));
    }
    window.part_from_those(Kind::Mr);
}

/// The close of `region` is finished while `window` is bound to it.
pub(super) fn outlived(window: &Object, region: &Object, text: String) {
    let by = part(window).and_then(|part| part.by.get());
    let qp = by.and_then(|by| with_layer(|l| l.objects.get(by)));
    if mr::is_in_reach(region, qp.as_deref()) {
        return;
    }
    match qp.as_ref().map(|qp| (qp, &qp.part)) {
        Some((qp, Part::Qp(part))) if part.may_receive() => part.suspect(qp.handle, text),
        _ => violation(rules::CLOSE_WHILE_BOUND, text),
    }
}

/// An NdkBind whose result was not taken.
struct Posted {
    window: Rc<Object>,
    region: Rc<Object>,
    request: *mut c_void,
    /// [`MwPart::ends`] when it was posted, and [`mr::ends`] of the region.
    ends: (u32, u32),
}

/// The windows that a queue pair binds.
///
/// A window counts as bound once the result of its NdkBind was taken: before, nobody here knows whether it failed. It does
/// until it is closed, or a request is posted that may end the relation, or the queue pair is closed. A peer may end it too,
/// and that is known when the result of the receive is taken: until then a provider is only suspected. What peers of other queue
/// pairs may end, the fast registration under the window, is not followed: then nobody is accused.
#[derive(Default)]
pub(super) struct Bindings {
    posted: RefCell<Vec<Posted>>,
    bound: RefCell<Vec<Rc<Object>>>,
    suspicions: RefCell<Vec<String>>,
}

impl Bindings {
    /// NdkBind is about to be posted.
    pub(super) fn post(&self, window: &Rc<Object>, region: &Rc<Object>, request: *mut c_void) {
        unbind(window);
        let Some(part) = part(window) else { return };
        self.posted.borrow_mut().push(Posted {
            window: Rc::clone(window),
            region: Rc::clone(region),
            request,
            ends: (part.ends.get(), mr::ends(region)),
        });
    }

    /// The NdkBind posted last was not accepted.
    pub(super) fn reject(&self, request: *mut c_void) {
        let mut posted = self.posted.borrow_mut();
        if let Some(index) = posted.iter().rposition(|p| p.request == request) {
            posted.remove(index);
        }
    }

    /// A result was taken that may be that of an NdkBind by `qp`. Whether it is.
    pub(super) fn result(&self, qp: Handle, request: *mut c_void, status: NTSTATUS) -> bool {
        let mut posted = self.posted.borrow_mut();
        let Some(index) = posted.iter().position(|p| p.request == request) else {
            return false;
        };
        let posted = posted.remove(index);
        let Some(part) = part(&posted.window) else {
            return false;
        };
        let open = |object: &Object| object.state.get() == State::Open;
        if status == STATUS_SUCCESS
            && (part.ends.get(), mr::ends(&posted.region)) == posted.ends
            && open(&posted.window)
            && open(&posted.region)
        {
            part.by.set(Some(qp));
            posted.window.depend_on(&posted.region);
            self.bound.borrow_mut().push(posted.window);
        }
        true
    }

    /// All windows may be bound no longer: the peer invalidated one, or the queue pair is closed.
    pub(super) fn end(&self) {
        self.posted.borrow_mut().clear();
        self.suspicions.borrow_mut().clear();
        for window in std::mem::take(&mut *self.bound.borrow_mut()) {
            unbind(&window);
        }
    }

    pub(super) fn suspect(&self, text: String) {
        self.suspicions.borrow_mut().push(text);
    }

    /// No peer had ended the relation when the provider behaved as if it were over.
    pub(super) fn convict(&self) {
        for text in std::mem::take(&mut *self.suspicions.borrow_mut()) {
            violation(rules::CLOSE_WHILE_BOUND, text);
        }
    }
}
