//! Functions of the consumer that the provider calls (`ndkpi.h`).
//!
//! All may be called at IRQL <= `DISPATCH_LEVEL`. Calling one hands control to the consumer, which may call any function of the
//! provider from within, closing the very object included: hold no lock, and afterwards touch only what you hold a reference to.
//!
//! Decision X-10: a callback and its context are separate parameters of the function that takes them. Pages that say that a callback
//! is given in the context mean that.

use crate::connector::NDK_CONNECTOR;
use crate::object::NDK_OBJECT_HEADER;
use crate::types::*;

callbacks! {
    /// `NdkCreateCompletion`: a create function that returned `STATUS_PENDING` is done.
    ///
    /// `pNdkObject` is the object, usable from the moment of the call; null if `Status` is a failure.
    fn NDK_FN_CREATE_COMPLETION(Context: *mut c_void, Status: NTSTATUS, pNdkObject: *mut NDK_OBJECT_HEADER);

    /// `NdkRequestCompletion`: a request that returned `STATUS_PENDING` is done. It may come before that function has returned.
    fn NDK_FN_REQUEST_COMPLETION(Context: *mut c_void, Status: NTSTATUS);

    /// `NdkCloseCompletion`: a close function that returned `STATUS_PENDING` is done. The last callback for the object.
    fn NDK_FN_CLOSE_COMPLETION(Context: *mut c_void);

    /// `NdkCqNotificationCallback`: what the completion queue was armed for happened. One call for each arming; calls for one queue do
    /// not overlap.
    ///
    /// `CqStatus`: `STATUS_SUCCESS`; `STATUS_BUFFER_OVERFLOW` if more completions arrived than the queue can hold; or
    /// `STATUS_INTERNAL_ERROR`. After the last two the queue and all its queue pairs are dead.
    fn NDK_FN_CQ_NOTIFICATION_CALLBACK(CqNotificationContext: *mut c_void, CqStatus: NTSTATUS);

    /// `NdkSrqNotificationCallback`: the number of receives in a shared receive queue fell below its threshold.
    ///
    /// `SrqStatus`: `STATUS_SUCCESS`, or `STATUS_INTERNAL_ERROR` if the queue and all its queue pairs are dead.
    fn NDK_FN_SRQ_NOTIFICATION_CALLBACK(SrqNotificationContext: *mut c_void, SrqStatus: NTSTATUS);

    /// `NdkConnectEventCallback`: a peer wants to connect to a listener.
    ///
    /// The connector is made by the provider and belongs to the consumer from here on: it accepts or rejects, perhaps from within, and
    /// closes the connector in any case.
    fn NDK_FN_CONNECT_EVENT_CALLBACK(ConnectEventContext: *mut c_void, pNdkConnector: *mut NDK_CONNECTOR);

    /// `NdkDisconnectEventCallback`: the peer disconnected, or the connection broke. At most one call for each connection, none if the
    /// consumer disconnected first. Work requests stay where they are.
    fn NDK_FN_DISCONNECT_EVENT_CALLBACK(DisconnectEventContext: *mut c_void);

    /// `NdkDisconnectEventCallbackEx` (2.1): as [`NDK_FN_DISCONNECT_EVENT_CALLBACK`], with the provider's reason; zero: none given.
    fn NDK_FN_DISCONNECT_EVENT_CALLBACK_EX(
        DisconnectEventContext: *mut c_void,
        ProviderDisconnectReason: u32,
    );
}
