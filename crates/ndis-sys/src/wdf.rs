//! Kernel-mode driver framework, as far as a miniport needs it: an NDIS miniport creates a framework driver in "miniport mode" so that
//! it may use framework objects.
//!
//! A client of the framework binds with `WdfVersionBind` (`WDFLDR.SYS`) and gets a table of functions, called as
//! `WdfFunctions[index](WdfDriverGlobals, ...)`.

use crate::types::*;
use crate::wdm::{DEVICE_OBJECT, DRIVER_OBJECT, UNICODE_STRING};

/// Framework driver object.
pub type WDFDRIVER = *mut c_void;
/// Framework device object.
pub type WDFDEVICE = *mut c_void;
/// Any framework object.
pub type WDFOBJECT = *mut c_void;
/// What `WdfVersionBind` stores: in truth a [`WDF_DRIVER_GLOBALS`].
pub type PWDF_COMPONENT_GLOBALS = *mut c_void;
/// An entry of the function table, before it is cast to its type.
pub type WDFFUNC = unsafe extern "efiapi" fn();
/// IRQL at which an object's callbacks run.
pub type WDF_EXECUTION_LEVEL = i32;
/// Which callbacks exclude each other.
pub type WDF_SYNCHRONIZATION_SCOPE = i32;

callbacks! {
    /// An object is about to go. IRQL: <= DISPATCH_LEVEL, PASSIVE_LEVEL if the object demands it.
    fn EVT_WDF_OBJECT_CONTEXT_CLEANUP(Object: WDFOBJECT);

    /// The last reference to an object is gone. IRQL: <= DISPATCH_LEVEL.
    fn EVT_WDF_OBJECT_CONTEXT_DESTROY(Object: WDFOBJECT);

    /// The framework driver unloads; not called for a miniport. IRQL: PASSIVE_LEVEL.
    fn EVT_WDF_DRIVER_UNLOAD(Driver: WDFDRIVER);

    /// A device arrived; not called for a miniport. IRQL: PASSIVE_LEVEL.
    fn EVT_WDF_DRIVER_DEVICE_ADD(Driver: WDFDRIVER, DeviceInit: *mut c_void) -> NTSTATUS;

    /// Creates the framework driver object. IRQL: PASSIVE_LEVEL.
    fn PFN_WDFDRIVERCREATE(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        DriverObject: *mut DRIVER_OBJECT,
        RegistryPath: *const UNICODE_STRING,
        DriverAttributes: *mut WDF_OBJECT_ATTRIBUTES,
        DriverConfig: *mut WDF_DRIVER_CONFIG,
        Driver: *mut WDFDRIVER,
    ) -> NTSTATUS;

    /// Creates a framework device object over a miniport's device objects. IRQL: PASSIVE_LEVEL.
    fn PFN_WDFDEVICEMINIPORTCREATE(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Driver: WDFDRIVER,
        Attributes: *mut WDF_OBJECT_ATTRIBUTES,
        DeviceObject: *mut DEVICE_OBJECT,
        AttachedDeviceObject: *mut DEVICE_OBJECT,
        Pdo: *mut DEVICE_OBJECT,
        Device: *mut WDFDEVICE,
    ) -> NTSTATUS;

    /// Deletes the framework driver object of a miniport. IRQL: <= DISPATCH_LEVEL; in practice PASSIVE_LEVEL, from the unload handler.
    fn PFN_WDFDRIVERMINIPORTUNLOAD(DriverGlobals: *mut WDF_DRIVER_GLOBALS, Driver: WDFDRIVER);

    /// Deletes an object and its children. IRQL: <= DISPATCH_LEVEL, PASSIVE_LEVEL if the object demands it.
    fn PFN_WDFOBJECTDELETE(DriverGlobals: *mut WDF_DRIVER_GLOBALS, Object: WDFOBJECT);

    /// Finds an object's context of a type. IRQL: any.
    fn PFN_WDFOBJECTGETTYPEDCONTEXTWORKER(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Handle: WDFOBJECT,
        TypeInfo: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
    ) -> *mut c_void;

    /// The driver object that a framework driver object is of. IRQL: <= DISPATCH_LEVEL.
    fn PFN_WDFDRIVERWDMGETDRIVEROBJECT(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Driver: WDFDRIVER,
    ) -> *mut DRIVER_OBJECT;

    /// The functional device object that a framework device object is of. IRQL: <= DISPATCH_LEVEL.
    fn PFN_WDFDEVICEWDMGETDEVICEOBJECT(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Device: WDFDEVICE,
    ) -> *mut DEVICE_OBJECT;

    /// The device object next below a framework device object's. IRQL: <= DISPATCH_LEVEL.
    fn PFN_WDFDEVICEWDMGETATTACHEDDEVICE(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Device: WDFDEVICE,
    ) -> *mut DEVICE_OBJECT;

    /// The physical device object below a framework device object's. IRQL: <= DISPATCH_LEVEL.
    fn PFN_WDFDEVICEWDMGETPHYSICALDEVICE(
        DriverGlobals: *mut WDF_DRIVER_GLOBALS,
        Device: WDFDEVICE,
    ) -> *mut DEVICE_OBJECT;
}

layouts! {
    /// A framework version.
    pub struct WDF_VERSION(12) {
        0x00 Major: u32,
        0x04 Minor: u32,
        0x08 Build: u32,
    }

    /// What a client asks of the loader.
    pub struct WDF_BIND_INFO(48) {
        /// Of this structure, bytes.
        0x00 Size: u32,
        /// `KmdfLibrary`, terminated UTF-16.
        0x08 Component: *mut u16,
        0x10 Version: WDF_VERSION,
        /// Entries of the client's function table.
        0x1c FuncCount: u32,
        /// Where the loader stores the address of the table.
        0x20 FuncTable: *mut *mut WDFFUNC,
        0x28 Module: *mut c_void,
    }

    /// What the framework knows of its client.
    pub struct WDF_DRIVER_GLOBALS(56) {
        0x00 Driver: WDFDRIVER,
        /// `WdfDriverInitNoDispatchOverride` and the like.
        0x08 DriverFlags: u32,
        0x0c DriverTag: u32,
        0x10 DriverName: [u8; 32],
        /// The framework wants to be called before the driver's own unload routine.
        0x30 DisplaceDriverUnload: BOOLEAN,
    }

    /// A framework driver.
    pub struct WDF_DRIVER_CONFIG(32) {
        0x00 Size: u32,
        0x08 EvtDriverDeviceAdd: Option<EVT_WDF_DRIVER_DEVICE_ADD>,
        0x10 EvtDriverUnload: Option<EVT_WDF_DRIVER_UNLOAD>,
        0x18 DriverInitFlags: u32,
        0x1c DriverPoolTag: u32,
    }

    /// Attributes of a framework object.
    pub struct WDF_OBJECT_ATTRIBUTES(56) {
        0x00 Size: u32,
        0x08 EvtCleanupCallback: Option<EVT_WDF_OBJECT_CONTEXT_CLEANUP>,
        0x10 EvtDestroyCallback: Option<EVT_WDF_OBJECT_CONTEXT_DESTROY>,
        0x18 ExecutionLevel: WDF_EXECUTION_LEVEL,
        0x1c SynchronizationScope: WDF_SYNCHRONIZATION_SCOPE,
        0x20 ParentObject: WDFOBJECT,
        0x28 ContextSizeOverride: usize,
        0x30 ContextTypeInfo: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
    }

    /// Type of an object's context.
    pub struct WDF_OBJECT_CONTEXT_TYPE_INFO(40) {
        0x00 Size: u32,
        0x08 ContextName: *const u8,
        0x10 ContextSize: usize,
        0x18 UniqueType: *const WDF_OBJECT_CONTEXT_TYPE_INFO,
        0x20 EvtDriverGetUniqueContextType: Option<WDFFUNC>,
    }
}

constants! {
    /// Indices into the function table; the same from KMDF 1.15 to 1.33.
    usize {
        WdfWdmDeviceGetWdfDeviceHandleTableIndex = 30;
        WdfDeviceWdmGetDeviceObjectTableIndex = 31;
        WdfDeviceWdmGetAttachedDeviceTableIndex = 32;
        WdfDeviceWdmGetPhysicalDeviceTableIndex = 33;
        WdfDpcCreateTableIndex = 111;
        WdfDpcEnqueueTableIndex = 112;
        WdfDpcCancelTableIndex = 113;
        WdfDriverCreateTableIndex = 116;
        WdfDriverGetRegistryPathTableIndex = 117;
        WdfDriverWdmGetDriverObjectTableIndex = 118;
        WdfDriverOpenParametersRegistryKeyTableIndex = 119;
        WdfDeviceMiniportCreateTableIndex = 200;
        WdfDriverMiniportUnloadTableIndex = 201;
        WdfObjectGetTypedContextWorkerTableIndex = 202;
        WdfObjectAllocateContextTableIndex = 203;
        WdfObjectContextGetObjectTableIndex = 204;
        WdfObjectReferenceActualTableIndex = 205;
        WdfObjectDereferenceActualTableIndex = 206;
        WdfObjectCreateTableIndex = 207;
        WdfObjectDeleteTableIndex = 208;
        WdfRegistryCloseTableIndex = 231;
        WdfRegistryQueryULongTableIndex = 240;
        WdfTimerCreateTableIndex = 318;
        WdfTimerStartTableIndex = 319;
        WdfTimerStopTableIndex = 320;
        WdfWorkItemCreateTableIndex = 379;
        WdfWorkItemEnqueueTableIndex = 380;
        WdfWorkItemFlushTableIndex = 382;
        WdfDeviceWdmDispatchIrpTableIndex = 401;
        WdfDeviceWdmAssignPowerFrameworkSettingsTableIndex = 425;
    }
    /// Entries of the function table of KMDF 1.15.
    u32 {
        WDF_FUNCTION_TABLE_NUM_ENTRIES_1_15 = 444;
    }
    /// Flags of a driver configuration.
    u32 {
        WdfDriverInitNonPnpDriver = 1;
        WdfDriverInitNoDispatchOverride = 2;
        WdfVerifyOn = 4;
        WdfVerifierOn = 8;
        WdfDriverInitCompanion = 0x10;
    }
    /// IRQL of callbacks.
    WDF_EXECUTION_LEVEL {
        WdfExecutionLevelInvalid = 0;
        WdfExecutionLevelInheritFromParent = 1;
        WdfExecutionLevelPassive = 2;
        WdfExecutionLevelDispatch = 3;
    }
    /// Which callbacks exclude each other.
    WDF_SYNCHRONIZATION_SCOPE {
        WdfSynchronizationScopeInvalid = 0;
        WdfSynchronizationScopeInheritFromParent = 1;
        WdfSynchronizationScopeDevice = 2;
        WdfSynchronizationScopeQueue = 3;
        WdfSynchronizationScopeNone = 4;
    }
}
