//! Hooked logical address mappings.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ndis_sys::wdm;
use ndkpi::status::*;
use ndkpi::*;

use super::adapter::{NdkBuildLAM, NdkReleaseLAM};
use super::call::{Then, request};
use super::hook::{Hook, enter};
use super::in_flight::Element;
use super::mr;
use super::object::{Kind, Object, Part};
use super::rules;
use crate::memory::PAGE;
use crate::verifier::violation;

/// An adapter's mappings, by the address of the consumer's buffer.
#[derive(Default)]
pub(super) struct Mappings(RefCell<HashMap<usize, Mapping>>);

impl Mappings {
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether an MDL is mapped.
    pub(super) fn holds(&self, mdl: usize) -> bool {
        let all = self.0.borrow();
        all.values().any(|mapping| mapping.mdls.contains(&mdl))
    }

    /// Whether the page at a logical address is mapped.
    fn has_page(&self, page: u64) -> bool {
        let all = self.0.borrow();
        all.values().any(|mapping| mapping.pages.contains(&page))
    }
}

/// A mapping that was built.
struct Mapping {
    /// The addresses of the MDLs that it is made of.
    mdls: Vec<usize>,
    /// What they held before the provider built it.
    before: Vec<Header>,
    /// And after.
    after: Vec<Header>,
    /// Logical addresses of its pages.
    pages: Vec<u64>,
}

const MDL_WORDS: usize = size_of::<wdm::MDL>() / size_of::<usize>();

/// The header of an MDL, as words.
type Header = [usize; MDL_WORDS];

/// The headers of MDLs.
///
/// # Safety
/// They are there.
unsafe fn headers(mdls: &[usize]) -> Vec<Header> {
    // SAFETY: the caller's promise; MDLs are made of words and so aligned.
    let header = |mdl: &usize| unsafe { *(*mdl as *const Header) };
    mdls.iter().map(header).collect()
}

fn mappings(object: &Object) -> &Mappings {
    match &object.part {
        Part::Adapter(mappings) => mappings,
        _ => unreachable!("only adapters map"),
    }
}

pub(super) unsafe extern "efiapi" fn build(
    adapter: *mut NDK_ADAPTER,
    mdl: *mut MDL,
    length: usize,
    completion: Option<NDK_FN_REQUEST_COMPLETION>,
    context: *mut c_void,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
    size: *mut u32,
    offset: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkBuildLAM) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(mdl, "the MDL") || hook.null(size, "pLAMSize") || hook.null(offset, "pFBO") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: not null, so the consumer's.
    let room = unsafe { *size };
    if room > 0 && hook.null(lam, "pNdkLAM") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the consumer passes a chain.
    let (mdls, before) = unsafe {
        let mdls = mr::chain(mdl, length);
        let before = headers(&mdls);
        (mdls, before)
    };
    let mut mapping = Mapping {
        mdls,
        before,
        after: Vec::new(),
        pages: Vec::new(),
    };
    let object = Rc::clone(&hook.object);
    let then: Then = Box::new(move |status| {
        // SAFETY: the consumer keeps its variables until the request is done.
        let (needed, first) = unsafe { (*size, *offset) };
        match status {
            STATUS_SUCCESS => {
                // SAFETY: the consumer keeps its hands off the chain until now.
                mapping.after = unsafe { headers(&mapping.mdls) };
                // SAFETY: the buffer was large enough, says the provider.
                mapping.pages = unsafe { check_built(&object, lam, length, first, room) };
                mappings(&object).0.borrow_mut().insert(lam.addr(), mapping);
            }
            STATUS_BUFFER_TOO_SMALL if needed <= room => violation(
                rules::LENGTH,
                format!("NdkBuildLAM on {object} needs {needed} bytes, there is room for {room}"),
            ),
            _ => {}
        }
    });
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    let Some(completion) = completion else {
        // SAFETY: the provider's table; called as the consumer called.
        let status = hook.call(|| unsafe {
            ((*table).NdkBuildLAM)(adapter, mdl, length, None, context, lam, size, offset)
        });
        if status == STATUS_PENDING {
            violation(
                rules::COMPLETION_MISSING,
                format!(
                    "NdkBuildLAM on {} without a completion callback returned STATUS_PENDING",
                    hook.object
                ),
            );
        }
        then(status);
        return status;
    };
    let build = |done, cookie| {
        // SAFETY: the provider's table; called as the consumer called.
        unsafe {
            ((*table).NdkBuildLAM)(adapter, mdl, length, Some(done), cookie, lam, size, offset)
        }
    };
    request(&hook, completion, context, Some(then), build)
}

/// The pages that an element touches.
fn pages_of(element: &Element) -> impl Iterator<Item = u64> {
    let (first, page) = (element.address, PAGE as u64);
    let end = first.saturating_add(u64::from(element.length));
    (first / page * page..end).step_by(PAGE)
}

/// Accuses the consumer of elements with the privileged token that lie in no mapping.
#[inline]
pub(super) fn check_elements(hook: &Hook, pd: &Object, elements: impl Iterator<Item = Element>) {
    if let Part::Pd(part) = &pd.part
        && let Some(token) = part.privileged.get()
    {
        for element in elements.filter(|e| e.token == token && e.length > 0) {
            check_mapped(hook, mappings(&part.adapter), &element);
        }
    }
}

/// Accuses the consumer of fast-registering pages that lie in no mapping.
pub(super) fn check_pages(hook: &Hook, pd: &Object, mut pages: impl Iterator<Item = u64>) {
    let Part::Pd(part) = &pd.part else { return };
    let mappings = mappings(&part.adapter);
    if let Some(page) = pages.find(|page| !mappings.has_page(*page)) {
        violation(
            rules::CONSUMER_LOGICAL_ADDRESS,
            format!(
                "{} on {}: the page at {page:#x} is in no logical address mapping",
                hook.function.name, hook.object
            ),
        );
    }
}

fn check_mapped(hook: &Hook, mappings: &Mappings, element: &Element) {
    if let Some(page) = pages_of(element).find(|page| !mappings.has_page(*page)) {
        violation(
            rules::CONSUMER_LOGICAL_ADDRESS,
            format!(
                "{} on {}: {} bytes at {:#x} with the privileged token, but the page at {page:#x} is in no logical address mapping",
                hook.function.name, hook.object, element.length, element.address
            ),
        );
    }
}

/// Accuses the consumer if a request uses pages of a mapping that it releases.
fn check_unused(hook: &Hook, released: &Mapping) {
    let left = mappings(&hook.object);
    let gone = |page: u64| released.pages.contains(&page) && !left.has_page(page);
    let objects: Vec<_> = hook.object.provider.objects.borrow().clone();
    for pd in objects {
        let Part::Pd(part) = &pd.part else { continue };
        let Some(token) = part.privileged.get() else {
            continue;
        };
        let uses = |e: &Element| e.token == token && pages_of(e).any(gone);
        if let Some(user) = mr::user(&pd, uses) {
            violation(
                rules::CONSUMER_IN_FLIGHT,
                format!(
                    "NdkReleaseLAM on {} is called while {user} uses the mapping, whose result was not taken",
                    hook.object
                ),
            );
        }
    }
}

/// Checks a mapping that the provider built. Its pages.
///
/// # Safety
/// `lam` holds a mapping and its pages.
unsafe fn check_built(
    object: &Object,
    lam: *const NDK_LOGICAL_ADDRESS_MAPPING,
    length: usize,
    offset: u32,
    room: u32,
) -> Vec<u64> {
    let accuse = |text: String| violation(rules::LAM, format!("NdkBuildLAM on {object}: {text}"));
    // SAFETY: the caller's promise.
    let count = unsafe { (*lam).AdapterPageCount } as usize;
    let expected = (offset as usize + length).div_ceil(PAGE);
    if offset as usize >= PAGE {
        accuse(format!(
            "the first byte is at offset {offset:#x} of its page"
        ));
    }
    if count != expected {
        accuse(format!(
            "{count} pages for {length} bytes from offset {offset:#x}, not {expected}"
        ));
    }
    let head = std::mem::offset_of!(NDK_LOGICAL_ADDRESS_MAPPING, AdapterPageArray);
    if head + count * size_of::<NDK_LOGICAL_ADDRESS>() > room as usize {
        accuse(format!("{count} pages have no room in {room} bytes"));
        return Vec::new();
    }
    // SAFETY: there is room for so many, as just checked.
    let pages = unsafe {
        let first = (&raw const (*lam).AdapterPageArray).cast::<NDK_LOGICAL_ADDRESS>();
        std::slice::from_raw_parts(first, count)
    };
    for page in pages
        .iter()
        .filter(|page| !(**page as usize).is_multiple_of(PAGE))
    {
        accuse(format!("page address {page:#x} is not aligned"));
    }
    pages.iter().map(|page| page.cast_unsigned()).collect()
}

pub(super) unsafe extern "efiapi" fn release(
    adapter: *mut NDK_ADAPTER,
    lam: *mut NDK_LOGICAL_ADDRESS_MAPPING,
) {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkReleaseLAM) else {
        return;
    };
    let mapping = mappings(&hook.object).0.borrow_mut().remove(&lam.addr());
    let Some(mapping) = mapping else {
        return hook.bad_parameter(&format!("{lam:p} is no mapping (any more)"));
    };
    check_unused(&hook, &mapping);
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the consumer keeps the MDLs until the mapping is released.
    let found = unsafe { headers(&mapping.mdls) };
    // SAFETY: the provider's table; called as the consumer called.
    hook.call(|| unsafe { ((*table).NdkReleaseLAM)(adapter, lam) });
    check_released(&hook, &mapping, &found);
}

/// Accuses the provider unless it took back what it changed in the MDLs as it built the mapping, and changed nothing else.
/// `found` is what they held before the release: between its calls they are the consumer's, who may map the pages or put
/// something else behind them.
fn check_released(hook: &Hook, mapping: &Mapping, found: &[Header]) {
    // SAFETY: as for `found`; the release is just returning.
    let left = unsafe { headers(&mapping.mdls) };
    let words = |headers: &[Header]| headers.concat();
    let (before, after) = (words(&mapping.before), words(&mapping.after));
    let (found, left) = (words(found), words(&left));
    let is_right = |at: usize| {
        if before[at] == after[at] {
            return left[at] == found[at];
        }
        // Both may have changed it: then nobody knows what is right.
        left[at] == before[at] || found[at] != after[at]
    };
    if !(0..left.len()).all(is_right) {
        violation(
            rules::LAM,
            format!(
                "NdkReleaseLAM on {}: the MDL is {left:x?}, it was {found:x?}, and {before:x?} before it was mapped",
                hook.object
            ),
        );
    }
}
