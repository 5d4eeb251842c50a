//! Rules of NDK that providers, and consumers, are held to.
//!
//! [`RULES`] is the whole list, for reports and documentation. Besides these, the kernel's own rules apply to providers
//! too: the IRQL of callbacks ([`crate::verifier::rules::IRQL`]) and of returning functions, locks and memory.

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name in reports.
    pub name: &'static str,
    /// Who must obey it.
    pub whose: Whose,
    /// What it says.
    pub text: &'static str,
    /// Page of the Windows driver documentation that says so.
    pub source: &'static str,
}

/// Who must obey a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The miniport that provides NDK.
    Provider,
    /// The driver that uses it.
    Consumer,
}

macro_rules! rules {
    ($( $constant:ident $whose:ident $name:literal $text:literal $source:literal; )*) => {
        $( #[doc = $text] pub const $constant: &str = $name; )*

        /// Every rule of this layer.
        pub static RULES: &[Rule] = &[
            $( Rule { name: $name, whose: Whose::$whose, text: $text, source: $source } ),*
        ];
    };
}

rules! {
    OPEN Provider "ndk.open"
        "The open handler answers at once: with an adapter object and success, or with a failure and none."
        "nc-ndisndk-open_ndk_adapter_handler";
    OBJECT_TYPE Provider "ndk.object-type"
        "The header of an object that is handed out names its type."
        "ns-ndkpi-_ndk_object_header";
    OBJECT_VERSION Provider "ndk.object-version"
        "The header of every object carries the NDK version negotiated when the adapter was opened: of the major version asked for the \
         highest minor version."
        "ns-ndkpi-_ndk_object_header";
    RESERVED_NOT_ZERO Provider "ndk.reserved-not-zero"
        "NdkReserved is zero when an object is handed out."
        "ns-ndkpi-_ndk_object_header";
    RESERVED_WRITTEN Provider "ndk.reserved-written"
        "NdkReserved belongs to the layer above: the provider never writes it again."
        "ns-ndkpi-_ndk_object_header";
    DISPATCH_MISSING Provider "ndk.dispatch-missing"
        "An object has a dispatch table when it is handed out, and no function of its version is missing in it."
        "implementing-ndkpi-callback-functions";
    DISPATCH_WRITTEN Provider "ndk.dispatch-written"
        "The provider does not change the Dispatch member of an object that it has handed out."
        "ns-ndkpi-_ndk_cq";
    DISPATCH_READ Provider "ndk.dispatch-read"
        "The provider does not call its own functions through the Dispatch member: it belongs to the layer above, which may have \
         replaced it."
        "ns-ndkpi-_ndk_cq";
    OBJECT_TWICE Provider "ndk.object-twice"
        "An object is handed out once."
        "nc-ndkpi-ndk_fn_create_completion";
    CREATE_WITHOUT_OBJECT Provider "ndk.create-without-object"
        "A create that succeeds gives an object."
        "nc-ndkpi-ndk_fn_create_completion";
    OUT_AFTER_PENDING Provider "ndk.out-after-pending"
        "A create that returns STATUS_PENDING never writes its out parameter."
        "nc-ndkpi-ndk_fn_create_completion";
    COMPLETION_TWICE Provider "ndk.completion-twice"
        "A completion callback is called once."
        "nc-ndkpi-ndk_fn_request_completion";
    COMPLETION_NOT_PENDING Provider "ndk.completion-not-pending"
        "A completion callback is called only for a function that returns STATUS_PENDING."
        "nc-ndkpi-ndk_fn_request_completion";
    COMPLETION_MISSING Provider "ndk.completion-missing"
        "A function with an optional completion callback does not return STATUS_PENDING if there is none."
        "nc-ndkpi-ndk_fn_build_lam";
    COMPLETION_NEVER Provider "ndk.completion-never"
        "A function that returned STATUS_PENDING is completed in the end: when the world ends, or somebody has waited in vain, none pends \
         for more than ten seconds, or for more than ten minutes if it waits for a peer, or for resources that others have; no longer than the wait was, if that is less; \
         and not at all where nothing is left in the world that could complete it. NdkConnect and NdkAccept may wait for a consumer that \
         has not answered for as long as it likes."
        "nc-ndkpi-ndk_fn_request_completion";
    COMPLETION_STATUS Provider "ndk.completion-status"
        "A completion callback gets a final status."
        "nc-ndkpi-ndk_fn_request_completion";
    CALLBACK_CONTEXT Provider "ndk.callback-context"
        "A callback gets the context that was given with it, on the machine where it was given."
        "nc-ndkpi-ndk_fn_request_completion";
    CALLBACK_WITH_LOCK Provider "ndk.callback-with-lock"
        "The provider holds no spin lock while it calls the consumer, who may call any function of the provider from there."
        "ndkpi-object-lifetime-requirements";
    CALLBACK_AFTER_CLOSE Provider "ndk.callback-after-close"
        "No callback is made for an object that is closed: whose close returned STATUS_SUCCESS or completed."
        "nc-ndkpi-ndk_fn_close_object";
    PENDING Provider "ndk.pending"
        "A function that has no completion callback does not return STATUS_PENDING."
        "ndkpi-work-request-posting-requirements";
    CLOSE_STATUS Provider "ndk.close-status"
        "A close returns STATUS_SUCCESS or STATUS_PENDING: it cannot fail."
        "nc-ndkpi-ndk_fn_close_completion";
    CLOSE_BEFORE_REQUESTS Provider "ndk.close-before-requests"
        "A close finishes after the completion callbacks of all requests on the object have returned."
        "nc-ndkpi-ndk_fn_close_completion";
    CLOSE_BEFORE_EVENTS Provider "ndk.close-before-events"
        "A close finishes after the notification and event callbacks of the object have returned."
        "ndkpi-object-lifetime-requirements";
    CLOSE_BEFORE_SUCCESSORS Provider "ndk.close-before-successors"
        "A close finishes after every object that depends on this one is closed and its close completion callback has returned."
        "ndkpi-object-lifetime-requirements";
    CLOSE_WHILE_BOUND Provider "ndk.close-while-bound"
        "A close of a memory region finishes after each memory window that NdkBind bound to it is invalidated, with the region's fast \
         registration or alone, bound elsewhere or closed."
        "ndkpi-terminology";
    ADAPTER_CLOSE Provider "ndk.adapter-close"
        "The close handler of the adapter returns after all its objects are closed and all callbacks have returned."
        "ndkpi-object-lifetime-requirements";
    ADAPTER_INFO Provider "ndk.adapter-info"
        "NDK_ADAPTER_INFO tells the negotiated version and possible limits."
        "nc-ndisndk-open_ndk_adapter_handler";
    LENGTH Provider "ndk.length"
        "A length in and out tells on success the bytes written, no more than there is room for, and on STATUS_BUFFER_TOO_SMALL the \
         bytes needed, which are more."
        "nc-ndkpi-ndk_fn_get_local_address";
    EXTENSION Provider "ndk.extension"
        "NdkQueryExtension gives a table or fails; it knows no extension by a null identifier."
        "nc-ndkpi-ndk_fn_query_extension_interface";
    NOTIFY_UNARMED Provider "ndk.notify-unarmed"
        "A completion queue notifies only after NdkArmCq, and once for each time."
        "nc-ndkpi-ndk_fn_arm_cq";
    NOTIFY_OVERLAP Provider "ndk.notify-overlap"
        "Notification callbacks of one completion queue do not overlap."
        "ndkpi-completion-handling-requirements";
    NOTIFY_IN_ARM Provider "ndk.notify-in-arm"
        "NdkArmCq does not itself call the notification callback, from which the consumer may take results."
        "ndkpi-completion-handling-requirements";
    NOTIFY_STATUS Provider "ndk.notify-status"
        "A notification has one of the statuses that are defined for it."
        "nc-ndkpi-ndk_fn_cq_notification_callback";
    NOTIFY_AFTER_ERROR Provider "ndk.notify-after-error"
        "After a notification that it is dead, a queue notifies no more."
        "nc-ndkpi-ndk_fn_cq_notification_callback";
    SRQ_NOTIFY_UNARMED Provider "ndk.srq-notify-unarmed"
        "A shared receive queue notifies once for each threshold set."
        "nc-ndkpi-ndk_fn_modify_srq";
    CONNECT_EVENT Provider "ndk.connect-event"
        "Connect events give a connector, and come only from a listener that listens: after NdkListen was called, and not once it is being \
         closed."
        "ndkpi-listeners--connectors--and-endpoints";
    DISCONNECT_TWICE Provider "ndk.disconnect-twice"
        "There is at most one disconnect event for each connection."
        "nc-ndkpi-ndk_fn_disconnect_event_callback";
    DISCONNECT_UNCONNECTED Provider "ndk.disconnect-unconnected"
        "There is no disconnect event for a connection that was not established."
        "nc-ndkpi-ndk_fn_disconnect_event_callback";
    POST_UNCONNECTED Provider "ndk.post-unconnected"
        "An initiator request on a queue pair that was never connected fails."
        "nc-ndkpi-ndk_fn_send";
    RESULT_COUNT Provider "ndk.result-count"
        "No more results are given than asked for."
        "nc-ndkpi-ndk_fn_get_cq_results";
    RESULT_QP Provider "ndk.result-qp"
        "A result carries the context of a queue pair that uses this completion queue."
        "ns-ndkpi-_ndk_result";
    RESULT_REQUEST Provider "ndk.result-request"
        "A result carries the context of the request that it is for: when as many results as requests have come, their contexts are the \
         same."
        "ns-ndkpi-_ndk_result";
    RESULT_UNEXPECTED Provider "ndk.result-unexpected"
        "There is one result for each request whose post succeeded, and none for others."
        "ndkpi-deferred-processing-scheme";
    RESULT_MISSING Provider "ndk.result-missing"
        "Every request whose post succeeded has a result in the end, unless it succeeds with NDK_OP_FLAG_SILENT_SUCCESS: once its \
         queue pair is closed, none is outstanding."
        "nc-ndkpi-ndk_fn_send";
    RESULT_STATUS Provider "ndk.result-status"
        "A result has a final status."
        "ns-ndkpi-_ndk_result";
    RESULT_TYPE Provider "ndk.result-type"
        "NDK_RESULT_EX tells the type of the request, and comes on the completion queue for that type."
        "ne-ndkpi-_ndk_operation_type";
    RESULT_ERROR_CODE Provider "ndk.result-error-code"
        "ProviderErrorCode is zero on success."
        "ns-ndkpi-_ndk_result_ex";
    PRIVATE_DATA Provider "ndk.private-data"
        "NdkGetConnectionData shows what the consumer at the other end gave with its request or its answer, all of it, and zeros behind; \
         as much as MaxCallerData and MaxCalleeData say is taken."
        "nc-ndkpi-ndk_fn_get_connection_data";
    LAM Provider "ndk.lam"
        "A logical address mapping covers its bytes with page-aligned addresses, and releasing it leaves the MDL as it was."
        "nc-ndkpi-ndk_fn_build_lam";
    CONSUMER Consumer "ndk.consumer"
        "The consumer closes what it opened, once, and calls nothing on an object that it closed."
        "ndkpi-object-lifetime-requirements";
    CONSUMER_PARAMETER Consumer "ndk.consumer-parameter"
        "The consumer passes objects of the right kind and version, and pointers where they are not optional."
        "ndkpi-terminology";
    CONSUMER_LEAK Consumer "ndk.consumer-leak"
        "The consumer begins to close all objects before it closes the adapter, and releases all logical address mappings."
        "ndkpi-object-lifetime-requirements";
    CONSUMER_OVERLAP Consumer "ndk.consumer-overlap"
        "The consumer serialises NdkGetCqResults, NdkGetCqResultsEx and NdkArmCq on one completion queue, and posts to one queue."
        "ndkpi-work-request-posting-requirements";
    CONSUMER_IN_FLIGHT Consumer "ndk.consumer-in-flight"
        "The consumer neither deregisters a region nor releases a logical address mapping while a request uses it: posted, on a queue \
         pair that is open and was not disconnected, and its result not taken."
        "nc-ndkpi-ndk_fn_release_lam";
    CONSUMER_UNLOCKED Consumer "ndk.consumer-unlocked"
        "The pages of an MDL stay locked as long as it is registered or mapped: NdkDeregisterMr, or NdkReleaseLAM, comes first."
        "nc-ndkpi-ndk_fn_register_mr";
    CONSUMER_LOGICAL_ADDRESS Consumer "ndk.consumer-logical-address"
        "An element with the privileged token lies within pages of a logical address mapping that NdkBuildLAM gave and that is not \
         released, and so does memory that is fast-registered: the adapter accesses whatever is there."
        "nc-ndkpi-ndk_fn_build_lam";
    CONSUMER_OVERRUN Consumer "ndk.consumer-overrun"
        "A completion queue has room for the results of all requests that are outstanding."
        "nc-ndkpi-ndk_fn_cq_notification_callback";
    CONSUMER_CONTEXT Consumer "ndk.consumer-context"
        "The context of a call that returned STATUS_PENDING lives until its completion callback: one on the stack, until whoever made \
         the call has waited for it, without a timeout. One that is an event is that of one call: it cannot tell that another is over."
        "nc-ndkpi-ndk_fn_request_completion";
}
