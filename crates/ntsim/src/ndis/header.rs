//! `NDIS_OBJECT_HEADER`: the checks every structure that begins with one is put to.

use ndis_sys::ndis::NDIS_OBJECT_HEADER;

use super::rules;
use crate::verifier::violation;

/// Whether a header has the type, and a revision with its size, that a function accepts. `accepted` lists revisions
/// with the least size of each.
pub(crate) fn check(
    function: &str,
    header: NDIS_OBJECT_HEADER,
    kind: u8,
    accepted: &[(u8, u16)],
) -> bool {
    if header.Type != kind {
        violation(
            rules::HEADER,
            format!(
                "{function}: Header.Type is {:#x}, expected {kind:#x}",
                header.Type
            ),
        );
        return false;
    }
    let Some((_, size)) = accepted
        .iter()
        .find(|(revision, _)| *revision == header.Revision)
    else {
        violation(
            rules::HEADER,
            format!(
                "{function}: Header.Revision {} is not known here",
                header.Revision
            ),
        );
        return false;
    };
    if header.Size < *size {
        violation(
            rules::HEADER,
            format!(
                "{function}: Header.Size is {}, revision {} has {size}",
                header.Size, header.Revision
            ),
        );
        return false;
    }
    true
}

/// Makes a header.
pub(crate) fn make(kind: u8, revision: u8, size: u16) -> NDIS_OBJECT_HEADER {
    NDIS_OBJECT_HEADER {
        Type: kind,
        Revision: revision,
        Size: size,
    }
}

/// Copies a structure of which the caller has `size` bytes; the rest is zero.
///
/// # Safety
/// `from` must be readable for `size` bytes, and all-zero must be a valid `T`.
pub(crate) unsafe fn copy<T: Copy>(from: *const T, size: u16) -> T {
    let mut to = std::mem::MaybeUninit::<T>::zeroed();
    let size = usize::from(size).min(size_of::<T>());
    // SAFETY: readable for `size` bytes as the caller promises; `to` has at least as many.
    unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), to.as_mut_ptr().cast::<u8>(), size);
        to.assume_init()
    }
}
