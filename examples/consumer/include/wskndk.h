// How a WSK client gets at NDK adapters. Names and types are those of the public declarations; the words are ours.
#pragma once

#include <ndkpi.h>
#include <wsk.h>

#define WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH 0x4e444b44

// At PASSIVE_LEVEL both. The close returns when no callback runs any more.
typedef NTSTATUS (NTAPI *PFN_WSK_NDK_OPEN_ADAPTER)(
    PWSK_CLIENT Client, NDK_VERSION NdkVersion, NET_IFINDEX IfIndex, NDK_ADAPTER **ppNdkAdapter);
typedef VOID (NTAPI *PFN_WSK_NDK_CLOSE_ADAPTER)(PWSK_CLIENT Client, NDK_ADAPTER *pNdkAdapter);

typedef struct _WSK_PROVIDER_NDK_DISPATCH {
    PFN_WSK_NDK_OPEN_ADAPTER WskOpenNdkAdapter;
    PFN_WSK_NDK_CLOSE_ADAPTER WskCloseNdkAdapter;
} WSK_PROVIDER_NDK_DISPATCH;
