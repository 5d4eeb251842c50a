//! `WDFLDR.SYS`: the framework's loader (`fxldr.h` of Microsoft's open-source framework).

use crate::types::*;
use crate::wdf::{PWDF_COMPONENT_GLOBALS, WDF_BIND_INFO};
use crate::wdm::{DRIVER_OBJECT, UNICODE_STRING};

imports! {
    "WDFLDR.SYS" {
        /// Binds a client to a version of the framework: stores the function table where `BindInfo` says, and the client's globals.
        /// IRQL: PASSIVE_LEVEL.
        fn WdfVersionBind(
            DriverObject: *mut DRIVER_OBJECT,
            RegistryPath: *mut UNICODE_STRING,
            BindInfo: *mut WDF_BIND_INFO,
            ComponentGlobals: *mut PWDF_COMPONENT_GLOBALS,
        ) -> NTSTATUS;
        /// Undoes `WdfVersionBind`. IRQL: PASSIVE_LEVEL.
        fn WdfVersionUnbind(
            RegistryPath: *mut UNICODE_STRING,
            BindInfo: *mut WDF_BIND_INFO,
            ComponentGlobals: PWDF_COMPONENT_GLOBALS,
        ) -> NTSTATUS;
    }
    variadic {}
}
