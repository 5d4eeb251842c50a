//! What the engine says, in NTSTATUS.
//!
//! IRQL: any: numbers only.

use ndis_sys::status::{
    STATUS_ACCESS_VIOLATION, STATUS_ADDRESS_ALREADY_EXISTS, STATUS_BUFFER_OVERFLOW,
    STATUS_CANCELLED, STATUS_CONNECTION_ABORTED, STATUS_CONNECTION_INVALID,
    STATUS_CONNECTION_REFUSED, STATUS_DATA_OVERRUN, STATUS_DEVICE_BUSY, STATUS_DEVICE_REMOVED,
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INTERNAL_ERROR, STATUS_INVALID_ADDRESS,
    STATUS_INVALID_BUFFER_SIZE, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_IO_TIMEOUT, STATUS_NO_MORE_ENTRIES, STATUS_REMOTE_RESOURCES, STATUS_SHARING_VIOLATION,
    STATUS_SUCCESS, STATUS_TOO_MANY_ADDRESSES,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::NDK_OPERATION_TYPE;
use roce::{
    CmError, Completion, CompletionOp, ConnectFailure, CqStatus, CreateError, DisconnectReason,
    PostError, SrqStatus, Status,
};

use super::ports::ClaimError;

/// Status of a completion queue entry (page ns-ndkpi-\_ndk\_result).
///
/// Decision X-22: STATUS_REMOTE_RESOURCES, which the page of NdkRead lists as a return value, is known only now.
///
/// Decision X-67: NDKPI names only success, cancelled and remote resources; the rest follows the user-mode sister interface.
pub fn of_completion(status: Status) -> NTSTATUS {
    match status {
        Status::Success => STATUS_SUCCESS,
        Status::Flushed => STATUS_CANCELLED,
        Status::LocalLength => STATUS_BUFFER_OVERFLOW,
        Status::LocalProtection | Status::WindowBind => STATUS_ACCESS_VIOLATION,
        Status::LocalOperation => STATUS_INVALID_DEVICE_REQUEST,
        Status::BadResponse => STATUS_INTERNAL_ERROR,
        Status::RemoteInvalidRequest | Status::RemoteAccess | Status::RemoteOperation => {
            STATUS_REMOTE_RESOURCES
        }
        Status::RemoteInvalidate => STATUS_INVALID_DEVICE_REQUEST,
        Status::RetryExceeded | Status::RnrRetryExceeded => STATUS_IO_TIMEOUT,
    }
}

/// Diagnostic code of a completion, for NDK_RESULT_EX.ProviderErrorCode: 0 exactly when it succeeded.
pub fn error_code(status: Status) -> u32 {
    match status {
        Status::Success => 0,
        Status::LocalLength => 1,
        Status::LocalOperation => 2,
        Status::LocalProtection => 4,
        Status::Flushed => 5,
        Status::WindowBind => 6,
        Status::BadResponse => 7,
        Status::RemoteInvalidRequest => 9,
        Status::RemoteAccess => 10,
        Status::RemoteOperation => 11,
        Status::RetryExceeded => 12,
        Status::RnrRetryExceeded => 13,
        Status::RemoteInvalidate => 14,
    }
}

/// Bytes in the consumer's memory that a completion speaks of. NDKPI knows no immediate data: when a peer sends some with a WRITE, which takes a
/// receive, the message went where the WRITE said, and nothing into the receive.
pub fn bytes(completion: &Completion) -> u32 {
    match completion.op {
        CompletionOp::ReceiveWrite => 0,
        _ => completion.bytes,
    }
}

/// Type of a completion queue entry.
pub fn operation(op: CompletionOp) -> NDK_OPERATION_TYPE {
    match op {
        CompletionOp::Send => ndkpi::NdkOperationTypeSend,
        CompletionOp::Write => ndkpi::NdkOperationTypeWrite,
        // Queue pairs are made without atomic operations, so the last two do not come.
        CompletionOp::Read | CompletionOp::CompareSwap | CompletionOp::FetchAdd => {
            ndkpi::NdkOperationTypeRead
        }
        CompletionOp::FastRegister => ndkpi::NdkOperationTypeFastRegister,
        CompletionOp::Bind => ndkpi::NdkOperationTypeBind,
        CompletionOp::Invalidate => ndkpi::NdkOperationTypeInvalidate,
        CompletionOp::Receive | CompletionOp::ReceiveWrite => ndkpi::NdkOperationTypeReceive,
        CompletionOp::ReceiveInvalidate => ndkpi::NdkOperationTypeReceiveAndInvalidate,
    }
}

/// What a notification callback is told.
pub fn of_cq(status: CqStatus) -> NTSTATUS {
    match status {
        CqStatus::Ready => STATUS_SUCCESS,
        CqStatus::Overflow => STATUS_BUFFER_OVERFLOW,
        CqStatus::Failed => STATUS_INTERNAL_ERROR,
    }
}

/// What the notification callback of a shared receive queue is told.
pub fn of_srq(status: SrqStatus) -> NTSTATUS {
    match status {
        SrqStatus::Low => STATUS_SUCCESS,
        SrqStatus::Failed => STATUS_INTERNAL_ERROR,
    }
}

/// Why an object was not made. Ports whose NIC is lost refuse creates before they begin; this one was lost in between.
pub fn of_create(error: CreateError) -> NTSTATUS {
    match error {
        CreateError::InvalidParameter => STATUS_INVALID_PARAMETER,
        // A completion queue, or the shared receive queue, is spent.
        CreateError::DeadQueue => STATUS_INVALID_DEVICE_REQUEST,
        CreateError::EngineFailed => STATUS_DEVICE_REMOVED,
        CreateError::TableFull | CreateError::OutOfMemory | CreateError::UnknownObject => {
            STATUS_INSUFFICIENT_RESOURCES
        }
    }
}

/// Why a post was not accepted.
///
/// Decisions: a full queue is STATUS_NO_MORE_ENTRIES, too many SGEs STATUS_DATA_OVERRUN, too many bytes STATUS_BUFFER_OVERFLOW, too
/// many inline bytes STATUS_INVALID_PARAMETER, a read on a connection that allows none STATUS_INVALID_DEVICE_REQUEST. Decision X-68: a
/// second registration or binding behind one that has not been executed is STATUS_DEVICE_BUSY, so that it is told from a full queue.
pub fn of_post(error: PostError) -> NTSTATUS {
    match error {
        PostError::UnknownQp | PostError::UnknownSrq | PostError::NotConnected => {
            STATUS_CONNECTION_INVALID
        }
        PostError::QueueFull => STATUS_NO_MORE_ENTRIES,
        PostError::KeyBusy => STATUS_DEVICE_BUSY,
        PostError::TooManySges => STATUS_DATA_OVERRUN,
        PostError::TooLong => STATUS_BUFFER_OVERFLOW,
        PostError::InlineTooLong => STATUS_INVALID_PARAMETER,
        PostError::InvalidRequest | PostError::UnknownKey => STATUS_INVALID_DEVICE_REQUEST,
        PostError::WrongPd | PostError::InvalidRange => STATUS_INVALID_PARAMETER,
        PostError::AccessDenied => STATUS_ACCESS_VIOLATION,
    }
}

/// Why a connection call was refused. A queue pair in use has been refused before: one that the engine cannot use is dead, of an
/// overrun for instance, and can never be connected.
pub fn of_cm(error: CmError) -> NTSTATUS {
    match error {
        CmError::Unknown | CmError::InvalidState => STATUS_CONNECTION_INVALID,
        CmError::QpUnusable => STATUS_INVALID_DEVICE_REQUEST,
        CmError::PeerGone => STATUS_CONNECTION_ABORTED,
        CmError::TableFull => STATUS_INSUFFICIENT_RESOURCES,
        CmError::AddressInUse => STATUS_SHARING_VIOLATION,
        CmError::ConnectionExists => STATUS_ADDRESS_ALREADY_EXISTS,
        CmError::PrivateDataTooLong => STATUS_INVALID_BUFFER_SIZE,
        CmError::InvalidPath => STATUS_INVALID_ADDRESS,
        CmError::EngineFailed => STATUS_DEVICE_REMOVED,
    }
}

/// How a connect request ended that did not succeed. It can be retried with the same objects, unless the device is gone.
pub fn of_connect(failure: ConnectFailure) -> NTSTATUS {
    match failure {
        ConnectFailure::Rejected { .. } => STATUS_CONNECTION_REFUSED,
        ConnectFailure::Timeout => STATUS_IO_TIMEOUT,
        ConnectFailure::Aborted => STATUS_CONNECTION_ABORTED,
        ConnectFailure::EngineFailed => STATUS_DEVICE_REMOVED,
    }
}

/// How an accept or a complete-connect ended that did not succeed: the peer never confirmed, or it gave up.
pub fn of_establish(failure: ConnectFailure) -> NTSTATUS {
    match failure {
        ConnectFailure::Timeout => STATUS_IO_TIMEOUT,
        ConnectFailure::Rejected { .. } | ConnectFailure::Aborted => STATUS_CONNECTION_ABORTED,
        ConnectFailure::EngineFailed => STATUS_DEVICE_REMOVED,
    }
}

/// Why an address and port cannot be had.
pub fn of_claim(error: ClaimError) -> NTSTATUS {
    match error {
        ClaimError::InUse => STATUS_SHARING_VIOLATION,
        ClaimError::Exhausted => STATUS_TOO_MANY_ADDRESSES,
        ClaimError::OutOfMemory => STATUS_INSUFFICIENT_RESOURCES,
    }
}

/// Reason given to the Ex disconnect callback: this provider's own numbers, 0 never.
pub fn of_disconnect(reason: DisconnectReason) -> u32 {
    match reason {
        DisconnectReason::Peer => 1,
        DisconnectReason::QpError => 2,
        // Either way the peer does not know the connection.
        DisconnectReason::Stale | DisconnectReason::UNKNOWN => 3,
        DisconnectReason::EngineFailed => 4,
        DisconnectReason::Rejected { .. } => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x48_every_call_says_the_same_of_an_engine_that_failed_during_it() {
        let (cm, connect) = (CmError::EngineFailed, ConnectFailure::EngineFailed);
        let said = [
            of_create(CreateError::EngineFailed),
            of_cm(cm),
            of_connect(connect),
            of_establish(connect),
        ];
        assert_eq!(said, [STATUS_DEVICE_REMOVED; 4]);
    }
}
