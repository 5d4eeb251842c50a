//! What the dispatch tables of all kinds have in common.

use ndkpi::status::*;
use ndkpi::*;

use super::hook::enter;
use super::object::Kind;
use super::rules;
use crate::verifier::{Function, violation};

/// The functions of a table in order, each with the version that added it.
pub(super) struct Slots(pub(super) &'static [(&'static Function, NDK_VERSION)]);

/// Before every version there was.
pub(super) const ALWAYS: NDK_VERSION = NDK_VERSION { Major: 1, Minor: 0 };

/// Declares the functions of a table in order, and `SLOTS`, which has them all. As their pages say, all but one may be called at or below
/// DISPATCH_LEVEL (`data/ndk-irql.tsv`).
macro_rules! slots {
    ($( $name:ident $(called $text:literal)? $(below $irql:ident)? $(since $version:expr)? ),* $(,)?) => {
        $(
            pub(in crate::ndk) static $name: $crate::verifier::Function =
                $crate::verifier::Function::callback(
                    $crate::ndk::tables::slots!(@text $name $($text)?),
                    $crate::world::processor::PASSIVE..=$crate::ndk::tables::slots!(@irql $($irql)?),
                );
        )*

        pub(super) const SLOTS: &[(&$crate::verifier::Function, ndkpi::NDK_VERSION)] =
            &[ $( (&$name, $crate::ndk::tables::slots!(@since $($version)?)) ),* ];
    };
    (@text $name:ident) => { stringify!($name) };
    (@text $name:ident $text:literal) => { $text };
    (@irql) => { $crate::world::processor::DISPATCH };
    (@irql $irql:ident) => { $crate::world::processor::$irql };
    (@since) => { $crate::ndk::tables::ALWAYS };
    (@since $version:expr) => { $version };
}
pub(super) use slots;

/// The functions that the tables of all kinds but the adapter begin with.
macro_rules! common {
    ($kind:ident, $close:ident) => {
        unsafe extern "efiapi" fn close(
            object: *mut ndkpi::NDK_OBJECT_HEADER,
            completion: ndkpi::NDK_FN_CLOSE_COMPLETION,
            context: *mut ndkpi::c_void,
        ) -> ndkpi::NTSTATUS {
            $crate::ndk::call::close(
                object,
                $crate::ndk::object::Kind::$kind,
                &$close,
                completion,
                context,
            )
        }

        unsafe extern "efiapi" fn query_extension(
            object: *mut ndkpi::NDK_OBJECT_HEADER,
            id: *mut ndkpi::GUID,
            version: ndkpi::NDK_VERSION,
            interface: *mut ndkpi::NDK_EXTENSION_INTERFACE,
        ) -> ndkpi::NTSTATUS {
            // SAFETY: passed on as the consumer passed it.
            unsafe {
                $crate::ndk::tables::query_extension(
                    object,
                    $crate::ndk::object::Kind::$kind,
                    (1, &NdkQueryExtension),
                    id,
                    version,
                    interface,
                )
            }
        }
    };
}
pub(super) use common;

/// `NdkQueryExtension` of an object whose table has it in that slot.
///
/// # Safety
/// As for the function.
pub(super) unsafe fn query_extension(
    object: *mut NDK_OBJECT_HEADER,
    kind: Kind,
    (slot, function): (usize, &'static Function),
    id: *mut GUID,
    version: NDK_VERSION,
    interface: *mut NDK_EXTENSION_INTERFACE,
) -> NTSTATUS {
    let Some(hook) = enter(object, kind, function) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(id, "ExtensionInterfaceID") || hook.null(interface, "pExtensionInterface") {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the table has the function in that slot, as checked when the object was adopted.
    let original = unsafe {
        hook.object
            .table::<NDK_FN_QUERY_EXTENSION_INTERFACE>()
            .add(slot)
            .read()
    };
    let mut found = NDK_EXTENSION_INTERFACE::ZEROED;
    // SAFETY: called as the consumer called.
    let status = hook.call_sync(|| unsafe { original(object, id, version, &raw mut found) });
    // SAFETY: not null, so the consumer's.
    let null_id = unsafe { *id } == GUID::ZEROED;
    if status == STATUS_SUCCESS && (found.Dispatch.is_null() || null_id) {
        violation(
            rules::EXTENSION,
            format!(
                "{} on {} succeeded for {id:?} with table {:p}",
                function.name, hook.object, found.Dispatch
            ),
        );
    }
    // SAFETY: as above.
    unsafe { interface.write(found) };
    status
}

/// The table that the layer puts into objects of a kind.
#[inline]
pub(super) fn hooks_of(kind: Kind) -> *const c_void {
    match kind {
        Kind::Adapter => (&raw const super::adapter::HOOKS).cast(),
        Kind::Qp => (&raw const super::qp::HOOKS).cast(),
        Kind::Cq => (&raw const super::cq::HOOKS).cast(),
        Kind::Mr => (&raw const super::mr::HOOKS).cast(),
        Kind::Mw => (&raw const super::mw::HOOKS).cast(),
        Kind::Pd => (&raw const super::pd::HOOKS).cast(),
        Kind::SharedEndpoint => (&raw const super::endpoint::HOOKS).cast(),
        Kind::Connector => (&raw const super::connector::HOOKS).cast(),
        Kind::Listener => (&raw const super::listener::HOOKS).cast(),
        Kind::Srq => (&raw const super::srq::HOOKS).cast(),
    }
}

/// The functions a table of a kind must have.
pub(super) fn slots_of(kind: Kind) -> Slots {
    Slots(match kind {
        Kind::Adapter => super::adapter::SLOTS,
        Kind::Qp => super::qp::SLOTS,
        Kind::Cq => super::cq::SLOTS,
        Kind::Mr => super::mr::SLOTS,
        Kind::Mw => super::mw::SLOTS,
        Kind::Pd => super::pd::SLOTS,
        Kind::SharedEndpoint => super::endpoint::SLOTS,
        Kind::Connector => super::connector::SLOTS,
        Kind::Listener => super::listener::SLOTS,
        Kind::Srq => super::srq::SLOTS,
    })
}

/// Every kind of object.
const KINDS: [Kind; 10] = [
    Kind::Adapter,
    Kind::Qp,
    Kind::Cq,
    Kind::Mr,
    Kind::Mw,
    Kind::Pd,
    Kind::SharedEndpoint,
    Kind::Connector,
    Kind::Listener,
    Kind::Srq,
];

/// Callbacks of consumers.
static CALLBACKS: [&Function; 8] = [
    &super::call::CREATE_COMPLETION,
    &super::call::REQUEST_COMPLETION,
    &super::call::CLOSE_COMPLETION,
    &super::cq::NOTIFICATION,
    &super::srq::NOTIFICATION,
    &super::listener::CONNECT_EVENT,
    &super::connector::DISCONNECT_EVENT,
    &super::connector::DISCONNECT_EVENT_EX,
];

/// Every function that consumers and providers of NDK call of each other, with who has it: a kind of object, the consumer, the miniport.
pub fn functions() -> impl Iterator<Item = (&'static str, &'static Function)> {
    let tables = KINDS.into_iter().flat_map(|kind| {
        let Slots(slots) = slots_of(kind);
        slots
            .iter()
            .map(move |(function, _)| (kind.name(), *function))
    });
    let callbacks = CALLBACKS.into_iter().map(|f| ("consumer", f));
    let handlers = [&super::OPEN, &super::CLOSE].map(|f| ("miniport", f));
    tables.chain(callbacks).chain(handlers)
}

const _: () = {
    assert!(super::adapter::SLOTS.len() * 8 == size_of::<NDK_ADAPTER_DISPATCH>());
    assert!(super::qp::SLOTS.len() * 8 == size_of::<NDK_QP_DISPATCH>());
    assert!(super::cq::SLOTS.len() * 8 == size_of::<NDK_CQ_DISPATCH>());
    assert!(super::mr::SLOTS.len() * 8 == size_of::<NDK_MR_DISPATCH>());
    assert!(super::mw::SLOTS.len() * 8 == size_of::<NDK_MW_DISPATCH>());
    assert!(super::pd::SLOTS.len() * 8 == size_of::<NDK_PD_DISPATCH>());
    assert!(super::endpoint::SLOTS.len() * 8 == size_of::<NDK_SHARED_ENDPOINT_DISPATCH>());
    assert!(super::connector::SLOTS.len() * 8 == size_of::<NDK_CONNECTOR_DISPATCH>());
    assert!(super::listener::SLOTS.len() * 8 == size_of::<NDK_LISTENER_DISPATCH>());
    assert!(super::srq::SLOTS.len() * 8 == size_of::<NDK_SRQ_DISPATCH>());
};
