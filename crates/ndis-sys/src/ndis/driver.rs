//! What a miniport driver registers, and its handlers.

use super::adapter::{
    NDIS_MINIPORT_INIT_PARAMETERS, NDIS_MINIPORT_PAUSE_PARAMETERS, NDIS_MINIPORT_RESTART_PARAMETERS,
};
use super::net_buffer::NET_BUFFER_LIST;
use super::object::NDIS_OBJECT_HEADER;
use super::oid_request::NDIS_OID_REQUEST;
use super::pnp::NET_DEVICE_PNP_EVENT;
use crate::types::*;
use crate::wdm::{DRIVER_OBJECT, IRP};

/// Why an adapter is halted.
pub type NDIS_HALT_ACTION = i32;
/// Why an adapter is shut down.
pub type NDIS_SHUTDOWN_ACTION = i32;

callbacks! {
    /// Called within `NdisMRegisterMiniportDriver`: the place to register optional handlers. IRQL:
    /// PASSIVE_LEVEL.
    fn SET_OPTIONS(NdisDriverHandle: NDIS_HANDLE, DriverContext: NDIS_HANDLE) -> NDIS_STATUS;

    /// Brings an adapter up; it ends in the paused state. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_INITIALIZE(
        NdisMiniportHandle: NDIS_HANDLE,
        MiniportDriverContext: NDIS_HANDLE,
        MiniportInitParameters: *mut NDIS_MINIPORT_INIT_PARAMETERS,
    ) -> NDIS_STATUS;

    /// Frees everything `MINIPORT_INITIALIZE` allocated. The adapter is paused, nothing is outstanding.
    /// IRQL: PASSIVE_LEVEL.
    fn MINIPORT_HALT(MiniportAdapterContext: NDIS_HANDLE, HaltAction: NDIS_HALT_ACTION);

    /// Last call before the driver leaves; deregister it here. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_UNLOAD(DriverObject: *mut DRIVER_OBJECT);

    /// Stops the data path; pending until outstanding receive indications are back. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_PAUSE(
        MiniportAdapterContext: NDIS_HANDLE,
        PauseParameters: *mut NDIS_MINIPORT_PAUSE_PARAMETERS,
    ) -> NDIS_STATUS;

    /// Starts the data path. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_RESTART(
        MiniportAdapterContext: NDIS_HANDLE,
        RestartParameters: *mut NDIS_MINIPORT_RESTART_PARAMETERS,
    ) -> NDIS_STATUS;

    /// Answers an OID request, one at a time. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_OID_REQUEST(
        MiniportAdapterContext: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;

    /// Sends a chain of net buffer lists. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_SEND_NET_BUFFER_LISTS(
        MiniportAdapterContext: NDIS_HANDLE,
        NetBufferList: *mut NET_BUFFER_LIST,
        PortNumber: NDIS_PORT_NUMBER,
        SendFlags: u32,
    );

    /// Gives back net buffer lists the miniport indicated. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_RETURN_NET_BUFFER_LISTS(
        MiniportAdapterContext: NDIS_HANDLE,
        NetBufferLists: *mut NET_BUFFER_LIST,
        ReturnFlags: u32,
    );

    /// Asks to complete queued sends with a cancel identifier. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_CANCEL_SEND(MiniportAdapterContext: NDIS_HANDLE, CancelId: *mut c_void);

    /// Asks every few seconds whether the device hangs; true: NDIS resets it. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_CHECK_FOR_HANG(MiniportAdapterContext: NDIS_HANDLE) -> BOOLEAN;

    /// Resets the device. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_RESET(MiniportAdapterContext: NDIS_HANDLE, AddressingReset: *mut BOOLEAN) -> NDIS_STATUS;

    /// Tells of surprise removal and power source. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_DEVICE_PNP_EVENT_NOTIFY(
        MiniportAdapterContext: NDIS_HANDLE,
        NetDevicePnPEvent: *mut NET_DEVICE_PNP_EVENT,
    );

    /// Quiets the device because the system goes down. IRQL: PASSIVE_LEVEL, or HIGH_LEVEL after a bug
    /// check.
    fn MINIPORT_SHUTDOWN(MiniportAdapterContext: NDIS_HANDLE, ShutdownAction: NDIS_SHUTDOWN_ACTION);

    /// Asks to give up a pending OID request. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_CANCEL_OID_REQUEST(MiniportAdapterContext: NDIS_HANDLE, RequestId: *mut c_void);

    /// Answers an OID request that is not serialised with others. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_DIRECT_OID_REQUEST(
        MiniportAdapterContext: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;

    /// Asks to give up a pending direct OID request. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_CANCEL_DIRECT_OID_REQUEST(MiniportAdapterContext: NDIS_HANDLE, RequestId: *mut c_void);

    /// Answers an OID request without ever pending it. IRQL: <= DISPATCH_LEVEL.
    fn MINIPORT_SYNCHRONOUS_OID_REQUEST(
        MiniportAdapterContext: NDIS_HANDLE,
        OidRequest: *mut NDIS_OID_REQUEST,
    ) -> NDIS_STATUS;

    /// Allocates a context for a device about to be added. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_ADD_DEVICE(
        NdisMiniportHandle: NDIS_HANDLE,
        MiniportDriverContext: NDIS_HANDLE,
    ) -> NDIS_STATUS;

    /// Frees the context of `MINIPORT_ADD_DEVICE`. IRQL: PASSIVE_LEVEL.
    fn MINIPORT_REMOVE_DEVICE(MiniportAddDeviceContext: NDIS_HANDLE);

    /// Lets the miniport see, and change, the request that filters or starts resources. IRQL:
    /// PASSIVE_LEVEL.
    fn MINIPORT_PNP_IRP(MiniportAddDeviceContext: NDIS_HANDLE, Irp: *mut IRP) -> NDIS_STATUS;
}

layouts! {
    /// A miniport driver, given to `NdisMRegisterMiniportDriver`.
    pub struct NDIS_MINIPORT_DRIVER_CHARACTERISTICS(160) {
        /// `NDIS_OBJECT_TYPE_MINIPORT_DRIVER_CHARACTERISTICS`.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 MajorNdisVersion: u8,
        0x05 MinorNdisVersion: u8,
        0x06 MajorDriverVersion: u8,
        0x07 MinorDriverVersion: u8,
        0x08 Flags: u32,
        0x10 SetOptionsHandler: Option<SET_OPTIONS>,
        0x18 InitializeHandlerEx: Option<MINIPORT_INITIALIZE>,
        0x20 HaltHandlerEx: Option<MINIPORT_HALT>,
        0x28 UnloadHandler: Option<MINIPORT_UNLOAD>,
        0x30 PauseHandler: Option<MINIPORT_PAUSE>,
        0x38 RestartHandler: Option<MINIPORT_RESTART>,
        0x40 OidRequestHandler: Option<MINIPORT_OID_REQUEST>,
        0x48 SendNetBufferListsHandler: Option<MINIPORT_SEND_NET_BUFFER_LISTS>,
        0x50 ReturnNetBufferListsHandler: Option<MINIPORT_RETURN_NET_BUFFER_LISTS>,
        0x58 CancelSendHandler: Option<MINIPORT_CANCEL_SEND>,
        0x60 CheckForHangHandlerEx: Option<MINIPORT_CHECK_FOR_HANG>,
        0x68 ResetHandlerEx: Option<MINIPORT_RESET>,
        0x70 DevicePnPEventNotifyHandler: Option<MINIPORT_DEVICE_PNP_EVENT_NOTIFY>,
        0x78 ShutdownHandlerEx: Option<MINIPORT_SHUTDOWN>,
        0x80 CancelOidRequestHandler: Option<MINIPORT_CANCEL_OID_REQUEST>,
        0x88 DirectOidRequestHandler: Option<MINIPORT_DIRECT_OID_REQUEST>,
        0x90 CancelDirectOidRequestHandler: Option<MINIPORT_CANCEL_DIRECT_OID_REQUEST>,
        0x98 SynchronousOidRequestHandler: Option<MINIPORT_SYNCHRONOUS_OID_REQUEST>,
    }

    /// What every structure for `NdisSetOptionalHandlers` begins with.
    pub struct NDIS_DRIVER_OPTIONAL_HANDLERS(4) {
        0x00 Header: NDIS_OBJECT_HEADER,
    }

    /// Optional handlers of Plug and Play.
    pub struct NDIS_MINIPORT_PNP_CHARACTERISTICS(48) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 MiniportAddDeviceHandler: Option<MINIPORT_ADD_DEVICE>,
        0x10 MiniportRemoveDeviceHandler: Option<MINIPORT_REMOVE_DEVICE>,
        0x18 MiniportFilterResourceRequirementsHandler: Option<MINIPORT_PNP_IRP>,
        0x20 MiniportStartDeviceHandler: Option<MINIPORT_PNP_IRP>,
        0x28 Flags: u32,
    }
}

constants! {
    /// Revisions and sizes of the driver structures.
    u16 {
        NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2 = 0x98;
        NDIS_SIZEOF_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3 = 0xa0;
        NDIS_SIZEOF_MINIPORT_PNP_CHARACTERISTICS_REVISION_1 = 0x2c;
    }
    /// Revisions of the driver structures.
    u8 {
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1 = 1;
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2 = 2;
        NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3 = 3;
        NDIS_MINIPORT_PNP_CHARACTERISTICS_REVISION_1 = 1;
    }
    /// NDIS versions: major in the upper half, minor in the lower.
    u32 {
        NDIS_RUNTIME_VERSION_60 = 0x60000;
        NDIS_RUNTIME_VERSION_61 = 0x60001;
        NDIS_RUNTIME_VERSION_620 = 0x60014;
        NDIS_RUNTIME_VERSION_630 = 0x6001e;
        NDIS_RUNTIME_VERSION_640 = 0x60028;
        NDIS_RUNTIME_VERSION_650 = 0x60032;
        NDIS_RUNTIME_VERSION_651 = 0x60033;
        NDIS_RUNTIME_VERSION_660 = 0x6003c;
        NDIS_RUNTIME_VERSION_670 = 0x60046;
        NDIS_RUNTIME_VERSION_680 = 0x60050;
        NDIS_RUNTIME_VERSION_681 = 0x60051;
        NDIS_RUNTIME_VERSION_682 = 0x60052;
        NDIS_RUNTIME_VERSION_683 = 0x60053;
        NDIS_RUNTIME_VERSION_684 = 0x60054;
        NDIS_RUNTIME_VERSION_685 = 0x60055;
        NDIS_RUNTIME_VERSION_686 = 0x60056;
        NDIS_RUNTIME_VERSION_687 = 0x60057;
        NDIS_RUNTIME_VERSION_688 = 0x60058;
    }
    /// Why an adapter is halted.
    NDIS_HALT_ACTION {
        NdisHaltDeviceDisabled = 0;
        NdisHaltDeviceInstanceDeInitialized = 1;
        NdisHaltDevicePoweredDown = 2;
        NdisHaltDeviceSurpriseRemoved = 3;
        NdisHaltDeviceFailed = 4;
        NdisHaltDeviceInitializationFailed = 5;
        NdisHaltDeviceStopped = 6;
    }
    /// Why an adapter is shut down.
    NDIS_SHUTDOWN_ACTION {
        NdisShutdownPowerOff = 0;
        NdisShutdownBugCheck = 1;
    }
    /// Flags of a miniport driver.
    u32 {
        NDIS_INTERMEDIATE_DRIVER = 1;
    }
}
