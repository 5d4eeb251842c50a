//! `WDFLDR.SYS`: the framework, as far as NDIS miniports use it.
//!
//! A miniport that links the framework's stub binds to it before its own entry point runs. The framework serves it
//! in miniport mode: NDIS keeps the dispatch table, the framework gives objects. The functions a miniport needs for
//! that are here; every other slot of the table accuses its caller.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::status::*;
use ndis_sys::types::*;
use ndis_sys::wdf::*;
use ndis_sys::wdm::*;

use crate::memory::Request;
use crate::ndis::rules::WDF;
use crate::verifier::{Function, cross, violation};
use crate::world::context;
use crate::world::driver::Driver;
use crate::world::driver_call::call_driver;
use crate::world::machine::Machine;
use crate::world::processor::{DISPATCH, PASSIVE};

super::exports! {
    "WDFLDR.SYS";
    WdfVersionBind: PASSIVE..=PASSIVE,
    WdfVersionUnbind: PASSIVE..=PASSIVE,
}

const BY: &str = "the framework";

/// A machine's framework clients.
#[derive(Default)]
struct Framework {
    clients: RefCell<Vec<Rc<Client>>>,
}

/// A driver bound to the framework.
struct Client {
    driver: Rc<Driver>,
    /// Address of its WDF_DRIVER_GLOBALS.
    globals: usize,
    objects: RefCell<Vec<Rc<Object>>>,
    /// `DriverInitFlags` of its driver object; none before WdfDriverCreate.
    init_flags: Cell<Option<u32>>,
}

/// A framework object.
struct Object {
    handle: usize,
    kind: Kind,
    parent: usize,
    /// Type information and memory of each context.
    contexts: RefCell<Vec<(usize, usize)>>,
    cleanup: Option<EVT_WDF_OBJECT_CONTEXT_CLEANUP>,
    destroy: Option<EVT_WDF_OBJECT_CONTEXT_DESTROY>,
    /// For a device: its WDM objects.
    device: [usize; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Driver,
    Device,
}

/// Framework handles look like this and are not addresses.
const HANDLE_BASE: usize = 0xffff_f0f0_0000_0000;

fn framework(machine: &Machine) -> Rc<Framework> {
    machine.ext::<Framework>()
}

/// What NDIS demands of a driver that uses the framework, when it registers as a miniport.
pub(crate) fn check_miniport(driver: &Rc<Driver>) {
    let framework = framework(&context::machine());
    let clients = framework.clients.borrow();
    let Some(client) = clients.iter().find(|c| Rc::ptr_eq(&c.driver, driver)) else {
        return;
    };
    match client.init_flags.get() {
        Some(flags) if flags & WdfDriverInitNoDispatchOverride == 0 => violation(
            WDF,
            "WdfDriverCreate without WdfDriverInitNoDispatchOverride: the framework would take the dispatch table that \
             NDIS needs",
        ),
        _ => {}
    }
}

/// A driver that is gone must have unbound.
pub(crate) fn check_unloaded(machine: &Machine, driver: u32, when: &str) {
    let framework = framework(machine);
    let left: Vec<_> = framework
        .clients
        .borrow()
        .iter()
        .filter(|c| c.driver.number == driver)
        .map(Rc::clone)
        .collect();
    for client in left {
        violation(
            WDF,
            format!("{when}: the driver did not call WdfVersionUnbind"),
        );
        unbind(machine, &client);
    }
}

fn client_of(globals: *mut WDF_DRIVER_GLOBALS, function: &str) -> Option<Rc<Client>> {
    let framework = framework(&context::machine());
    let found = framework
        .clients
        .borrow()
        .iter()
        .find(|c| c.globals == globals.addr())
        .map(Rc::clone);
    if found.is_none() {
        violation(
            WDF,
            format!("{function}: {globals:p} are not the globals of a bound driver"),
        );
    }
    found
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WdfVersionBind(
    DriverObject: *mut DRIVER_OBJECT,
    RegistryPath: *mut UNICODE_STRING,
    BindInfo: *mut WDF_BIND_INFO,
    ComponentGlobals: *mut PWDF_COMPONENT_GLOBALS,
) -> NTSTATUS {
    const F: &str = "WdfVersionBind";
    let _crossing = cross(&functions::WdfVersionBind);
    let machine = context::machine();
    let Some(driver) = machine.drivers.by_object(DriverObject.addr()) else {
        violation(WDF, format!("{F}: {DriverObject:p} is not a driver object"));
        return STATUS_INVALID_PARAMETER;
    };
    if BindInfo.is_null() || ComponentGlobals.is_null() || RegistryPath.is_null() {
        violation(WDF, format!("{F}: null pointer"));
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the driver's structure.
    let info = unsafe { BindInfo.read() };
    if info.Size as usize != size_of::<WDF_BIND_INFO>() {
        violation(WDF, format!("{F}: BindInfo.Size is {}", info.Size));
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: a null-terminated string of the driver.
    let component = unsafe { component_name(info.Component) };
    if component != "KmdfLibrary" {
        violation(
            WDF,
            format!("{F}: component \"{component}\" does not exist"),
        );
        return STATUS_OBJECT_NAME_NOT_FOUND;
    }
    if info.Version.Major != 1
        || info.Version.Minor != 15
        || info.FuncCount != WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15
    {
        violation(
            WDF,
            format!(
                "{F}: KMDF {}.{} with {} functions; this simulator has 1.15 with {WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15}",
                info.Version.Major, info.Version.Minor, info.FuncCount
            ),
        );
        return STATUS_INVALID_PARAMETER;
    }
    if info.FuncTable.is_null() {
        violation(WDF, format!("{F}: FuncTable is null"));
        return STATUS_INVALID_PARAMETER;
    }
    if framework(&machine)
        .clients
        .borrow()
        .iter()
        .any(|c| Rc::ptr_eq(&c.driver, &driver))
    {
        violation(WDF, format!("{F}: the driver is bound already"));
        return STATUS_INVALID_PARAMETER;
    }
    if machine.faults.strikes(F) {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(globals) = machine.kernel_alloc(size_of::<WDF_DRIVER_GLOBALS>(), BY) else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: the driver's variables: the first is to hold the table's address.
    unsafe {
        info.FuncTable.write(TABLE.as_ptr().cast_mut());
        ComponentGlobals.write(std::ptr::with_exposed_provenance_mut(globals));
    }
    framework(&machine)
        .clients
        .borrow_mut()
        .push(Rc::new(Client {
            driver,
            globals,
            objects: RefCell::default(),
            init_flags: Cell::new(None),
        }));
    STATUS_SUCCESS
}

unsafe fn component_name(mut text: *const u16) -> String {
    let mut units = Vec::new();
    // SAFETY: null-terminated, as the caller promises.
    unsafe {
        while !text.is_null() && text.read() != 0 && units.len() < 64 {
            units.push(text.read());
            text = text.add(1);
        }
    }
    String::from_utf16_lossy(&units)
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn WdfVersionUnbind(
    _RegistryPath: *mut UNICODE_STRING,
    BindInfo: *mut WDF_BIND_INFO,
    ComponentGlobals: PWDF_COMPONENT_GLOBALS,
) -> NTSTATUS {
    const F: &str = "WdfVersionUnbind";
    let _crossing = cross(&functions::WdfVersionUnbind);
    if BindInfo.is_null() {
        violation(WDF, format!("{F}: null pointer"));
    }
    let Some(client) = client_of(ComponentGlobals.cast(), F) else {
        return STATUS_INVALID_PARAMETER;
    };
    let machine = context::machine();
    let devices = client
        .objects
        .borrow()
        .iter()
        .filter(|o| o.kind == Kind::Device)
        .count();
    if devices > 0 {
        violation(
            WDF,
            format!("{F}: {devices} framework device(s) were not deleted"),
        );
    }
    if client
        .objects
        .borrow()
        .iter()
        .any(|o| o.kind == Kind::Driver)
    {
        violation(
            WDF,
            format!(
                "{F}: the framework driver still exists (WdfDriverMiniportUnload was not called)"
            ),
        );
    }
    unbind(&machine, &client);
    STATUS_SUCCESS
}

fn unbind(machine: &Machine, client: &Rc<Client>) {
    for object in client.objects.take() {
        for (_, memory) in object.contexts.take() {
            machine.pool_free(memory, None, BY);
        }
    }
    framework(machine)
        .clients
        .borrow_mut()
        .retain(|c| !Rc::ptr_eq(c, client));
    machine.pool_free(client.globals, None, BY);
}

/// A slot of the function table that miniports have no use for.
unsafe extern "efiapi" fn unimplemented<const INDEX: usize>() {
    static UNIMPLEMENTED: Function = Function::callback("a framework function", PASSIVE..=DISPATCH);
    let _crossing = cross(&UNIMPLEMENTED);
    violation(
        WDF,
        format!("framework function {INDEX} was called; the simulator has only what miniports use"),
    );
}

/// Makes a table with `unimplemented` in every slot, from rows of ten.
macro_rules! table {
    ($($row:literal)*) => {
        [$(
            unimplemented::<{ $row * 10 }>, unimplemented::<{ $row * 10 + 1 }>, unimplemented::<{ $row * 10 + 2 }>,
            unimplemented::<{ $row * 10 + 3 }>, unimplemented::<{ $row * 10 + 4 }>, unimplemented::<{ $row * 10 + 5 }>,
            unimplemented::<{ $row * 10 + 6 }>, unimplemented::<{ $row * 10 + 7 }>, unimplemented::<{ $row * 10 + 8 }>,
            unimplemented::<{ $row * 10 + 9 }>,
        )*]
    };
}

const ENTRIES: usize = WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15 as usize;

/// The function table of KMDF 1.15.
static TABLE: [WDFFUNC; ENTRIES] = {
    let rows: [WDFFUNC; 450] = table!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29
        30 31 32 33 34 35 36 37 38 39 40 41 42 43 44);
    let mut table: [WDFFUNC; ENTRIES] = [unimplemented::<0>; ENTRIES];
    let mut i = 0;
    while i < ENTRIES {
        table[i] = rows[i];
        i += 1;
    }
    // SAFETY: function pointers all; callers cast an entry to its own type before they call it.
    unsafe {
        table[WdfDriverCreateTableIndex] =
            std::mem::transmute::<PFN_WDFDRIVERCREATE, WDFFUNC>(driver_create);
        table[WdfDeviceMiniportCreateTableIndex] =
            std::mem::transmute::<PFN_WDFDEVICEMINIPORTCREATE, WDFFUNC>(device_miniport_create);
        table[WdfDriverMiniportUnloadTableIndex] =
            std::mem::transmute::<PFN_WDFDRIVERMINIPORTUNLOAD, WDFFUNC>(driver_miniport_unload);
        table[WdfObjectDeleteTableIndex] =
            std::mem::transmute::<PFN_WDFOBJECTDELETE, WDFFUNC>(object_delete);
        table[WdfObjectGetTypedContextWorkerTableIndex] =
            std::mem::transmute::<PFN_WDFOBJECTGETTYPEDCONTEXTWORKER, WDFFUNC>(get_typed_context);
        table[WdfDriverWdmGetDriverObjectTableIndex] = std::mem::transmute::<
            PFN_WDFDRIVERWDMGETDRIVEROBJECT,
            WDFFUNC,
        >(driver_get_driver_object);
        table[WdfDeviceWdmGetDeviceObjectTableIndex] = std::mem::transmute::<
            PFN_WDFDEVICEWDMGETDEVICEOBJECT,
            WDFFUNC,
        >(device_get_device_object);
        table[WdfDeviceWdmGetAttachedDeviceTableIndex] = std::mem::transmute::<
            PFN_WDFDEVICEWDMGETATTACHEDDEVICE,
            WDFFUNC,
        >(device_get_attached_device);
        table[WdfDeviceWdmGetPhysicalDeviceTableIndex] = std::mem::transmute::<
            PFN_WDFDEVICEWDMGETPHYSICALDEVICE,
            WDFFUNC,
        >(device_get_physical_device);
    }
    table
};

/// Makes an object as the caller's attributes say.
unsafe fn create(
    client: &Client,
    kind: Kind,
    attributes: *const WDF_OBJECT_ATTRIBUTES,
    default_parent: usize,
    device: [usize; 3],
    function: &'static str,
) -> Result<Rc<Object>, NTSTATUS> {
    // SAFETY: null or the driver's structure.
    let attributes = unsafe { attributes.as_ref() };
    if let Some(a) = attributes
        && a.Size as usize != size_of::<WDF_OBJECT_ATTRIBUTES>()
    {
        violation(WDF, format!("{function}: attributes of size {}", a.Size));
        return Err(STATUS_INFO_LENGTH_MISMATCH);
    }
    let number = context::core().rng.next() as usize & 0xffff_fff0;
    let object = Rc::new(Object {
        handle: HANDLE_BASE | number,
        kind,
        parent: attributes
            .map(|a| a.ParentObject.addr())
            .filter(|p| *p != 0)
            .unwrap_or(default_parent),
        contexts: RefCell::default(),
        cleanup: attributes.and_then(|a| a.EvtCleanupCallback),
        destroy: attributes.and_then(|a| a.EvtDestroyCallback),
        device,
    });
    if let Some(info) = attributes
        .map(|a| a.ContextTypeInfo)
        .filter(|i| !i.is_null())
    {
        // SAFETY: the driver's type information.
        let declared = unsafe { (*info).ContextSize };
        let size = attributes
            .map_or(0, |a| a.ContextSizeOverride)
            .max(declared);
        let machine = context::machine();
        let memory = machine
            .pool_alloc(&Request {
                size: size.max(1),
                align: 16,
                tag: u32::from_le_bytes(*b"FxDr"),
                zero: true,
                paged: false,
                owner: client.driver.number,
                function,
            })
            .ok_or(STATUS_INSUFFICIENT_RESOURCES)?;
        object
            .contexts
            .borrow_mut()
            .push((unique_type(info), memory));
    }
    client.objects.borrow_mut().push(Rc::clone(&object));
    Ok(object)
}

/// What identifies a context type.
fn unique_type(info: *const WDF_OBJECT_CONTEXT_TYPE_INFO) -> usize {
    // SAFETY: the driver's type information.
    let unique = unsafe { (*info).UniqueType };
    if unique.is_null() {
        info.addr()
    } else {
        unique.addr()
    }
}

/// Deletes an object after its children.
fn delete(client: &Client, object: &Rc<Object>) {
    static CLEANUP: Function = Function::callback("EvtCleanupCallback", PASSIVE..=DISPATCH);
    static DESTROY: Function = Function::callback("EvtDestroyCallback", PASSIVE..=DISPATCH);
    let children: Vec<_> = client
        .objects
        .borrow()
        .iter()
        .filter(|o| o.parent == object.handle)
        .map(Rc::clone)
        .collect();
    children.iter().for_each(|c| delete(client, c));
    let handle: WDFOBJECT = std::ptr::without_provenance_mut(object.handle);
    if let Some(cleanup) = object.cleanup {
        // SAFETY: the driver's callback, called as its type demands.
        call_driver(&CLEANUP, cleanup as *const (), || unsafe {
            cleanup(handle)
        });
    }
    if let Some(destroy) = object.destroy {
        // SAFETY: the driver's callback, called as its type demands.
        call_driver(&DESTROY, destroy as *const (), || unsafe {
            destroy(handle)
        });
    }
    let machine = context::machine();
    for (_, memory) in object.contexts.take() {
        machine.pool_free(memory, None, BY);
    }
    client
        .objects
        .borrow_mut()
        .retain(|o| !Rc::ptr_eq(o, object));
}

fn find(
    client: &Client,
    handle: WDFOBJECT,
    kind: Option<Kind>,
    function: &str,
) -> Option<Rc<Object>> {
    let found = client
        .objects
        .borrow()
        .iter()
        .find(|o| o.handle == handle.addr())
        .map(Rc::clone);
    match found {
        Some(object) if kind.is_none_or(|k| k == object.kind) => Some(object),
        Some(object) => {
            violation(
                WDF,
                format!("{function}: {handle:p} is a {:?}", object.kind),
            );
            None
        }
        None => {
            violation(
                WDF,
                format!("{function}: {handle:p} is no framework object (any more)"),
            );
            None
        }
    }
}

unsafe extern "efiapi" fn driver_create(
    globals: *mut WDF_DRIVER_GLOBALS,
    driver_object: *mut DRIVER_OBJECT,
    _registry_path: *const UNICODE_STRING,
    attributes: *mut WDF_OBJECT_ATTRIBUTES,
    config: *mut WDF_DRIVER_CONFIG,
    out: *mut WDFDRIVER,
) -> NTSTATUS {
    static F: Function = Function::export("WDF", "WdfDriverCreate", PASSIVE..=PASSIVE);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return STATUS_INVALID_PARAMETER;
    };
    if client.driver.object.get() != driver_object.addr() {
        violation(
            WDF,
            format!("{}: {driver_object:p} is not this driver's object", F.name),
        );
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: null or the driver's structure.
    let Some(config) = (unsafe { config.as_ref() }) else {
        violation(WDF, format!("{}: null configuration", F.name));
        return STATUS_INVALID_PARAMETER;
    };
    if config.Size as usize != size_of::<WDF_DRIVER_CONFIG>() {
        violation(
            WDF,
            format!("{}: configuration of size {}", F.name, config.Size),
        );
        return STATUS_INFO_LENGTH_MISMATCH;
    }
    if client.init_flags.get().is_some() {
        violation(WDF, format!("{}: called twice", F.name));
        return STATUS_INTERNAL_ERROR;
    }
    if config.DriverInitFlags & WdfDriverInitNoDispatchOverride != 0
        && (config.EvtDriverDeviceAdd.is_some() || config.EvtDriverUnload.is_some())
    {
        violation(
            WDF,
            format!(
                "{}: callbacks together with WdfDriverInitNoDispatchOverride are never called",
                F.name
            ),
        );
    }
    // SAFETY: attributes of the driver.
    let object = match unsafe {
        create(
            &client,
            Kind::Driver,
            attributes,
            0,
            [0; 3],
            "WdfDriverCreate",
        )
    } {
        Ok(object) => object,
        Err(status) => return status,
    };
    client.init_flags.set(Some(config.DriverInitFlags));
    let handle = std::ptr::without_provenance_mut(object.handle);
    // SAFETY: globals of a bound client; the out parameter is optional.
    unsafe {
        (*globals).Driver = handle;
        (*globals).DriverFlags = config.DriverInitFlags;
        (*globals).DriverTag = config.DriverPoolTag;
        if !out.is_null() {
            out.write(handle);
        }
    }
    STATUS_SUCCESS
}

unsafe extern "efiapi" fn device_miniport_create(
    globals: *mut WDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
    attributes: *mut WDF_OBJECT_ATTRIBUTES,
    device_object: *mut DEVICE_OBJECT,
    attached: *mut DEVICE_OBJECT,
    pdo: *mut DEVICE_OBJECT,
    out: *mut WDFDEVICE,
) -> NTSTATUS {
    static F: Function = Function::export("WDF", "WdfDeviceMiniportCreate", PASSIVE..=PASSIVE);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(driver) = find(&client, driver, Some(Kind::Driver), F.name) else {
        return STATUS_INVALID_PARAMETER;
    };
    if device_object.is_null() || out.is_null() {
        violation(WDF, format!("{}: null pointer", F.name));
        return STATUS_INVALID_PARAMETER;
    }
    if client.init_flags.get().unwrap_or(0) & WdfDriverInitNoDispatchOverride == 0 {
        violation(
            WDF,
            format!(
                "{}: the driver was created without WdfDriverInitNoDispatchOverride",
                F.name
            ),
        );
        return STATUS_INVALID_DEVICE_STATE;
    }
    let wdm = [device_object.addr(), attached.addr(), pdo.addr()];
    // SAFETY: attributes of the driver.
    match unsafe {
        create(
            &client,
            Kind::Device,
            attributes,
            driver.handle,
            wdm,
            "WdfDeviceMiniportCreate",
        )
    } {
        Ok(object) => {
            // SAFETY: the driver's variable.
            unsafe { out.write(std::ptr::without_provenance_mut(object.handle)) };
            STATUS_SUCCESS
        }
        Err(status) => status,
    }
}

unsafe extern "efiapi" fn driver_miniport_unload(
    globals: *mut WDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
) {
    static F: Function = Function::export("WDF", "WdfDriverMiniportUnload", PASSIVE..=DISPATCH);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return;
    };
    let Some(object) = find(&client, driver, Some(Kind::Driver), F.name) else {
        return;
    };
    let devices = client
        .objects
        .borrow()
        .iter()
        .filter(|o| o.kind == Kind::Device)
        .count();
    if devices > 0 {
        violation(
            WDF,
            format!("{}: {devices} framework device(s) were not deleted", F.name),
        );
    }
    delete(&client, &object);
    // SAFETY: globals of a bound client.
    unsafe { (*globals).Driver = std::ptr::null_mut() };
}

unsafe extern "efiapi" fn object_delete(globals: *mut WDF_DRIVER_GLOBALS, object: WDFOBJECT) {
    static F: Function = Function::export("WDF", "WdfObjectDelete", PASSIVE..=DISPATCH);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return;
    };
    let Some(object) = find(&client, object, None, F.name) else {
        return;
    };
    if object.kind == Kind::Driver {
        violation(
            WDF,
            format!(
                "{}: the framework driver is deleted by WdfDriverMiniportUnload",
                F.name
            ),
        );
        return;
    }
    delete(&client, &object);
}

unsafe extern "efiapi" fn get_typed_context(
    globals: *mut WDF_DRIVER_GLOBALS,
    handle: WDFOBJECT,
    info: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
) -> *mut c_void {
    static F: Function =
        Function::export("WDF", "WdfObjectGetTypedContextWorker", PASSIVE..=DISPATCH);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return std::ptr::null_mut();
    };
    let Some(object) = find(&client, handle, None, F.name) else {
        return std::ptr::null_mut();
    };
    let wanted = unique_type(info);
    let contexts = object.contexts.borrow();
    contexts
        .iter()
        .find(|(kind, _)| *kind == wanted)
        .map_or(std::ptr::null_mut(), |(_, memory)| {
            std::ptr::with_exposed_provenance_mut(*memory)
        })
}

unsafe extern "efiapi" fn driver_get_driver_object(
    globals: *mut WDF_DRIVER_GLOBALS,
    driver: WDFDRIVER,
) -> *mut DRIVER_OBJECT {
    static F: Function = Function::export("WDF", "WdfDriverWdmGetDriverObject", PASSIVE..=DISPATCH);
    let _crossing = cross(&F);
    let Some(client) = client_of(globals, F.name) else {
        return std::ptr::null_mut();
    };
    match find(&client, driver, Some(Kind::Driver), F.name) {
        Some(_) => std::ptr::with_exposed_provenance_mut(client.driver.object.get()),
        None => std::ptr::null_mut(),
    }
}

fn device_pointer(
    function: &'static Function,
    globals: *mut WDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
    which: usize,
) -> *mut DEVICE_OBJECT {
    let _crossing = cross(function);
    let Some(client) = client_of(globals, function.name) else {
        return std::ptr::null_mut();
    };
    find(&client, device, Some(Kind::Device), function.name).map_or(std::ptr::null_mut(), |o| {
        std::ptr::with_exposed_provenance_mut(o.device[which])
    })
}

unsafe extern "efiapi" fn device_get_device_object(
    globals: *mut WDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
) -> *mut DEVICE_OBJECT {
    static F: Function = Function::export("WDF", "WdfDeviceWdmGetDeviceObject", PASSIVE..=DISPATCH);
    device_pointer(&F, globals, device, 0)
}

unsafe extern "efiapi" fn device_get_attached_device(
    globals: *mut WDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
) -> *mut DEVICE_OBJECT {
    static F: Function =
        Function::export("WDF", "WdfDeviceWdmGetAttachedDevice", PASSIVE..=DISPATCH);
    device_pointer(&F, globals, device, 1)
}

unsafe extern "efiapi" fn device_get_physical_device(
    globals: *mut WDF_DRIVER_GLOBALS,
    device: WDFDEVICE,
) -> *mut DEVICE_OBJECT {
    static F: Function =
        Function::export("WDF", "WdfDeviceWdmGetPhysicalDevice", PASSIVE..=DISPATCH);
    device_pointer(&F, globals, device, 2)
}
