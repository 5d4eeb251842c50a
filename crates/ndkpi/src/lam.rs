//! Logical address mappings: memory the adapter reaches by logical address, without registration (`ndkpi.h`).

use crate::adapter::NDK_ADAPTER;
use crate::callback::NDK_FN_REQUEST_COMPLETION;
use crate::types::*;

/// Address of memory as the adapter sees it: a DMA address, not a physical one.
pub type NDK_LOGICAL_ADDRESS = i64;

callbacks! {
    /// `NdkBuildLAM`: maps the first `Length` bytes of an MDL chain for the adapter.
    ///
    /// Length counts from the first MDL's virtual address, which is only an index. The consumer keeps the pages locked and leaves the
    /// MDL alone until `NdkReleaseLAM`. `pLAMSize` holds the size of the buffer for the mapping on entry, the needed size on return;
    /// `pFBO` receives the offset of the first byte in the first page.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`.
    ///
    /// Returns `STATUS_SUCCESS`, `STATUS_PENDING`, `STATUS_INVALID_PARAMETER` (not virtually contiguous), `STATUS_BUFFER_TOO_SMALL`, or
    /// `STATUS_INSUFFICIENT_RESOURCES` (also by callback). After a failure nothing stays mapped.
    fn NDK_FN_BUILD_LAM(
        pNdkAdapter: *mut NDK_ADAPTER,
        Mdl: *mut MDL,
        Length: usize,
        RequestCompletion: Option<NDK_FN_REQUEST_COMPLETION>,
        RequestContext: *mut c_void,
        pNdkLAM: *mut NDK_LOGICAL_ADDRESS_MAPPING,
        pLAMSize: *mut u32,
        pFBO: *mut u32,
    ) -> NTSTATUS;

    /// `NdkReleaseLAM`: undoes [`NDK_FN_BUILD_LAM`] and leaves the MDL as it was. No request may be using the mapping.
    ///
    /// IRQL: <= `DISPATCH_LEVEL`. Never pends.
    fn NDK_FN_RELEASE_LAM(pNdkAdapter: *mut NDK_ADAPTER, pNdkLAM: *mut NDK_LOGICAL_ADDRESS_MAPPING);
}

layouts! {
    /// A mapping: `AdapterPageCount` page addresses, in a buffer of the consumer.
    pub struct NDK_LOGICAL_ADDRESS_MAPPING(24) {
        /// The provider's.
        0x00 AdapterContext: *mut c_void,
        /// Pages of `PAGE_SIZE` bytes.
        0x08 AdapterPageCount: u32,
        /// First of them; each page-aligned, in no particular order.
        0x10 AdapterPageArray: [NDK_LOGICAL_ADDRESS; 1],
    }
}
