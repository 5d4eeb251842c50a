//! Hooked adapters: from opening one to closing it.

use std::cell::Cell;
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::call::create;
use super::connector::ConnectorPart;
use super::cq::{self, CqPart};
use super::hook::{enter, into_provider};
use super::lam::{self, Mappings};
use super::late;
use super::listener::{self, ListenerPart};
use super::object::{Kind, Object, Part, Provider, State};
use super::pd::PdPart;
use super::private_data::Limits;
use super::rules;
use super::tables::{self, slots};
use super::trail;
use crate::verifier::{Function, violation};
use crate::world::context::KernelMode;

slots![
    NdkQueryExtension,
    // Its page alone says so.
    NdkQueryAdapterInfo below PASSIVE,
    NdkCreateCq,
    NdkCreatePd,
    NdkCreateSharedEndpoint,
    NdkCreateConnector,
    NdkCreateListener,
    NdkBuildLAM,
    NdkReleaseLAM,
];

pub(super) static HOOKS: NDK_ADAPTER_DISPATCH = NDK_ADAPTER_DISPATCH {
    NdkQueryExtension: query_extension,
    NdkQueryAdapterInfo: query_info,
    NdkCreateCq: create_cq,
    NdkCreatePd: create_pd,
    NdkCreateSharedEndpoint: create_shared_endpoint,
    NdkCreateConnector: create_connector,
    NdkCreateListener: create_listener,
    NdkBuildLAM: lam::build,
    NdkReleaseLAM: lam::release,
};

/// Takes over an adapter that a provider opened for a consumer who asked for that version.
pub(super) fn adopt(
    adapter: *mut NDK_ADAPTER,
    requested: NDK_VERSION,
    provider: &Rc<Provider>,
) -> Option<Rc<Object>> {
    let _kernel = KernelMode::enter();
    let part = Part::Adapter(Mappings::default());
    // SAFETY: the provider hands out an object.
    let version = unsafe { (*adapter).Header.Version };
    provider.version.set(version);
    let object = Object::unborn(Kind::Adapter, provider, "OpenNDKAdapterHandler", part, &[]);
    if version.Major != requested.Major || version.Minor < requested.Minor {
        violation(
            rules::OBJECT_VERSION,
            format!(
                "{object} was opened with version {}.{} and has {}.{}",
                requested.Major, requested.Minor, version.Major, version.Minor
            ),
        );
        provider.version.set(requested);
    }
    if object.adopt(adapter.cast()) {
        Some(object)
    } else {
        object.forget();
        None
    }
}

/// Closes an adapter by calling its provider's close handler `target`, which is what `handler` does.
pub(super) fn close(
    object: &Rc<Object>,
    function: &'static Function,
    target: *const (),
    handler: impl FnOnce(),
) {
    let _kernel = KernelMode::enter();
    object.check_header();
    late::wait(object);
    check_leaks(object);
    object.state.set(State::Closing);
    trail::call(object, function, || {
        into_provider(&object.provider, function, target, handler);
    });
    late::wait(object);
    let left = object.provider.objects.borrow();
    let how = |o: &Rc<Object>| match o.state.get() {
        State::Closed => "while the close completion callback runs of",
        _ => "before the close is finished of",
    };
    for left in left.iter() {
        violation(
            rules::ADAPTER_CLOSE,
            format!(
                "{} of {object} returned {} {}",
                function.name,
                how(left),
                left.story()
            ),
        );
    }
    drop(left);
    if object.requests.get() > 0 {
        violation(
            rules::ADAPTER_CLOSE,
            format!(
                "{} of {object} returned before {} request(s) on it were completed",
                function.name,
                object.requests.get()
            ),
        );
    }
    object.closed();
    object.ended();
    object.gone();
}

/// Accuses the consumer of what it leaves behind.
fn check_leaks(adapter: &Object) {
    let leaked: Vec<_> = adapter
        .provider
        .objects
        .borrow()
        .iter()
        .filter(|o| o.state.get() == State::Open)
        .map(|o| o.story())
        .collect();
    if !leaked.is_empty() {
        violation(
            rules::CONSUMER_LEAK,
            format!(
                "{adapter} is closed, but {} object(s) are not: {}",
                leaked.len(),
                leaked.join("; ")
            ),
        );
    }
    if let Part::Adapter(mappings) = &adapter.part
        && mappings.len() > 0
    {
        violation(
            rules::CONSUMER_LEAK,
            format!(
                "{adapter} is closed with {} logical address mapping(s)",
                mappings.len()
            ),
        );
    }
}

unsafe extern "efiapi" fn query_extension(
    object: *mut NDK_OBJECT_HEADER,
    id: *mut GUID,
    version: NDK_VERSION,
    interface: *mut NDK_EXTENSION_INTERFACE,
) -> NTSTATUS {
    // SAFETY: passed on as the consumer passed it.
    unsafe {
        tables::query_extension(
            object,
            Kind::Adapter,
            (0, &NdkQueryExtension),
            id,
            version,
            interface,
        )
    }
}

unsafe extern "efiapi" fn query_info(
    adapter: *mut NDK_ADAPTER,
    info: *mut NDK_ADAPTER_INFO,
    size: *mut u32,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkQueryAdapterInfo) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the consumer's size; the provider's table.
    let status = unsafe {
        hook.with_length(size, |size| {
            ((*table).NdkQueryAdapterInfo)(adapter, info, size)
        })
    };
    // SAFETY: filled in as far as its size says, which is as long as any version has been.
    if status == STATUS_SUCCESS && unsafe { *size } as usize >= NDK_ADAPTER_INFO_SIZE_1_1 {
        // SAFETY: as above.
        let (version, pages) = unsafe { ((*info).Version, (*info).FRMRPageCount) };
        // SAFETY: as above.
        let (caller, callee) = unsafe { ((*info).MaxCallerData, (*info).MaxCalleeData) };
        let provider = &hook.object.provider;
        provider.private_data.set(Some(Limits { caller, callee }));
        let negotiated = hook.object.provider.version.get();
        if version != negotiated || pages < 16 {
            violation(
                rules::ADAPTER_INFO,
                format!(
                    "{} tells version {}.{} ({}.{} was negotiated) and {pages} pages per fast-register region (at least 16)",
                    hook.object, version.Major, version.Minor, negotiated.Major, negotiated.Minor
                ),
            );
        }
    }
    status
}

unsafe extern "efiapi" fn create_cq(
    adapter: *mut NDK_ADAPTER,
    depth: u32,
    notification: NDK_FN_CQ_NOTIFICATION_CALLBACK,
    notification_context: *mut c_void,
    affinity: *mut GROUP_AFFINITY,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_CQ,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkCreateCq) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let part = Part::Cq(CqPart::new(
        notification,
        notification_context,
        hook.consumer,
        depth,
    ));
    let child = Object::unborn(Kind::Cq, &hook.object.provider, NdkCreateCq.name, part, &[]);
    let notify_context = child.handle.context();
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateCq)(
                    adapter,
                    depth,
                    cq::notification,
                    notify_context,
                    affinity,
                    done,
                    cookie,
                    out,
                )
            },
        )
    }
}

unsafe extern "efiapi" fn create_pd(
    adapter: *mut NDK_ADAPTER,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_PD,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkCreatePd) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let part = Part::Pd(PdPart::new(&hook.object));
    let child = Object::unborn(Kind::Pd, &hook.object.provider, NdkCreatePd.name, part, &[]);
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| ((*table).NdkCreatePd)(adapter, done, cookie, out),
        )
    }
}

unsafe extern "efiapi" fn create_shared_endpoint(
    adapter: *mut NDK_ADAPTER,
    address: *const SOCKADDR,
    length: u32,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_SHARED_ENDPOINT,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkCreateSharedEndpoint) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    if hook.null(address, "the address") {
        return STATUS_INVALID_PARAMETER;
    }
    let provider = &hook.object.provider;
    let child = Object::unborn(
        Kind::SharedEndpoint,
        provider,
        NdkCreateSharedEndpoint.name,
        Part::Plain,
        &[],
    );
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateSharedEndpoint)(adapter, address, length, done, cookie, out)
            },
        )
    }
}

unsafe extern "efiapi" fn create_connector(
    adapter: *mut NDK_ADAPTER,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_CONNECTOR,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkCreateConnector) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let part = Part::Connector(ConnectorPart::new());
    let child = Object::unborn(
        Kind::Connector,
        &hook.object.provider,
        NdkCreateConnector.name,
        part,
        &[],
    );
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| ((*table).NdkCreateConnector)(adapter, done, cookie, out),
        )
    }
}

unsafe extern "efiapi" fn create_listener(
    adapter: *mut NDK_ADAPTER,
    event: NDK_FN_CONNECT_EVENT_CALLBACK,
    event_context: *mut c_void,
    completion: NDK_FN_CREATE_COMPLETION,
    context: *mut c_void,
    out: *mut *mut NDK_LISTENER,
) -> NTSTATUS {
    let Some(hook) = enter(adapter.cast(), Kind::Adapter, &NdkCreateListener) else {
        return STATUS_INVALID_DEVICE_REQUEST;
    };
    let part = Part::Listener(ListenerPart {
        event,
        context: event_context,
        consumer: hook.consumer,
        listening: Cell::new(0),
        address: Cell::new(None),
    });
    let child = Object::unborn(
        Kind::Listener,
        &hook.object.provider,
        NdkCreateListener.name,
        part,
        &[],
    );
    let event_context = child.handle.context();
    let table = hook.object.table::<NDK_ADAPTER_DISPATCH>();
    // SAFETY: the provider's table; called as the consumer called.
    unsafe {
        create(
            &hook,
            &child,
            completion,
            context,
            out,
            |done, cookie, out| {
                ((*table).NdkCreateListener)(
                    adapter,
                    listener::connect_event,
                    event_context,
                    done,
                    cookie,
                    out,
                )
            },
        )
    }
}
