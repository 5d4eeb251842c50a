// Calls that may pend, for a thread at PASSIVE_LEVEL that waits for each.

#include "consumer.h"

VOID CallBegin(CALL *Call)
{
    KeInitializeEvent(&Call->Done, NotificationEvent, FALSE);
    Call->Object = NULL;
}

NTSTATUS CallEnd(CALL *Call, NTSTATUS Returned)
{
    // Not NT_SUCCESS, which lets STATUS_PENDING pass. Without it no callback comes.
    if (Returned != STATUS_PENDING) return Returned;
    // The callback may have come before the call returned: then this does not block.
    KeWaitForSingleObject(&Call->Done, Executive, KernelMode, FALSE, NULL);
    return Call->Status;
}

// Sets the event last of all: whoever waits for it leaves the frame that the context lies in.
VOID NTAPI CallCreated(PVOID Context, NTSTATUS Status, NDK_OBJECT_HEADER *Object)
{
    CALL *call = Context;
    call->Status = Status;
    call->Object = Object;
    KeSetEvent(&call->Done, IO_NO_INCREMENT, FALSE);
}

VOID NTAPI CallDone(PVOID Context, NTSTATUS Status)
{
    CallCreated(Context, Status, NULL);
}

VOID NTAPI CallClosed(PVOID Context)
{
    CallCreated(Context, STATUS_SUCCESS, NULL);
}

VOID CloseAndWait(NDK_FN_CLOSE_OBJECT Close, PVOID Object)
{
    CALL call;
    CallBegin(&call);
    CallEnd(&call, Close(Object, CallClosed, &call));
}
