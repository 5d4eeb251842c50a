//! What every NDK object begins with (`ndkpi.h`).

use crate::callback::NDK_FN_CLOSE_COMPLETION;
use crate::types::*;

/// Kind of an NDK object.
pub type NDK_OBJECT_TYPE = u32;

callbacks! {
    /// `NdkClose*`: closes an object. First slot of every table but the adapter's.
    ///
    /// Starts whatever draining the object needs: pending requests are cancelled, queues flushed. Allowed from within a callback of the
    /// object, and before the objects that depend on it are closed: the close then finishes after them. No callback for the object
    /// follows the close completion, or the return of `STATUS_SUCCESS`.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS` (closed, no callback follows) or `STATUS_PENDING`; nothing else.
    fn NDK_FN_CLOSE_OBJECT(
        pNdkObject: *mut NDK_OBJECT_HEADER,
        CloseCompletion: NDK_FN_CLOSE_COMPLETION,
        RequestContext: *mut c_void,
    ) -> NTSTATUS;

    /// `NdkQueryExtension`: looks for functions beyond this interface.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    ///
    /// Returns `STATUS_SUCCESS` with the extension's table, or `STATUS_NOT_SUPPORTED` if the identifier or its version is unknown. No
    /// standard extension exists.
    fn NDK_FN_QUERY_EXTENSION_INTERFACE(
        pNdkObject: *mut NDK_OBJECT_HEADER,
        ExtensionInterfaceID: *mut GUID,
        ExtensionInterfaceVersion: NDK_VERSION,
        pExtensionInterface: *mut NDK_EXTENSION_INTERFACE,
    ) -> NTSTATUS;
}

layouts! {
    /// An NDK version: {1, 1}, {1, 2}, {2, 1}. Within a major version a higher minor one is a superset.
    #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub struct NDK_VERSION(4) {
        /// Major.
        0x00 Major: u16,
        /// Minor.
        0x02 Minor: u16,
    }

    /// Head of every object. The provider fills it in and never reads it back.
    pub struct NDK_OBJECT_HEADER(40) {
        /// Version negotiated when the adapter was opened.
        0x00 Version: NDK_VERSION,
        /// `NdkObjectType*`.
        0x04 ObjectType: NDK_OBJECT_TYPE,
        /// Zeroed by the provider when it makes the object, then the property of the layer above.
        0x08 NdkReserved: NDK_OBJECT_HEADER_RESERVED_BLOCK,
    }

    /// Words of the layer above.
    pub struct NDK_OBJECT_HEADER_RESERVED_BLOCK(32) {
        /// Not the provider's.
        0x00 rf: [*mut c_void; 4],
    }

    /// What `NdkQueryExtension` finds.
    pub struct NDK_EXTENSION_INTERFACE(8) {
        /// Table of the extension.
        0x00 Dispatch: *const c_void,
    }
}

constants! {
    /// Kind of an NDK object.
    NDK_OBJECT_TYPE {
        NdkObjectTypeUndefined = 0;
        NdkObjectTypeAdapter = 1;
        NdkObjectTypeQp = 2;
        NdkObjectTypeCq = 3;
        NdkObjectTypeMr = 4;
        NdkObjectTypeMw = 5;
        NdkObjectTypePd = 6;
        NdkObjectTypeSharedEndpoint = 7;
        NdkObjectTypeConnector = 8;
        NdkObjectTypeListener = 9;
        NdkObjectTypeSrq = 0xa;
        NdkObjectTypeMax = 0xb;
    }
}

/// NDK 1.1: Windows Server 2012.
pub const NDK_VERSION_1_1: NDK_VERSION = NDK_VERSION { Major: 1, Minor: 1 };
/// NDK 1.2: Windows Server 2012 R2. Adds `NdkSendAndInvalidate`, `NdkGetCqResultsEx`, deferral and local invalidation by reads.
pub const NDK_VERSION_1_2: NDK_VERSION = NDK_VERSION { Major: 1, Minor: 2 };
/// NDK 2.1: Windows Server 2022. Adds `NdkCompleteConnectEx`, `NdkAcceptEx` and provider error codes.
pub const NDK_VERSION_2_1: NDK_VERSION = NDK_VERSION { Major: 2, Minor: 1 };
