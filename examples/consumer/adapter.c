// The way to a provider and back: WSK, its NDK functions, an adapter. PASSIVE_LEVEL.

#include "consumer.h"

// Milliseconds that the provider is waited for. Not for ever: DriverUnload waits for this thread.
#define CAPTURE_WAIT 10000

// Without callbacks. WSK keeps a pointer to it.
static CONST WSK_CLIENT_DISPATCH ClientDispatch = {MAKE_WSK_VERSION(1, 0), 0, NULL};

SOCKADDR_IN AddressWithPort(IN_ADDR Address, USHORT Port)
{
    SOCKADDR_IN address = {0};
    address.sin_family = AF_INET;
    address.sin_port = (USHORT)(Port << 8 | Port >> 8);
    address.sin_addr = Address;
    return address;
}

// The index of the interface with that address.
static NTSTATUS InterfaceOf(IN_ADDR Address, NET_IFINDEX *Index)
{
    MIB_UNICASTIPADDRESS_TABLE *table;
    NTSTATUS status = GetUnicastIpAddressTable(AF_INET, &table);
    if (!NT_SUCCESS(status)) return status;
    status = STATUS_DEVICE_NOT_READY;
    for (ULONG i = 0; i < table->NumEntries; i++) {
        if (table->Table[i].Address.Ipv4.sin_addr.S_un.S_addr == Address.S_un.S_addr) {
            *Index = table->Table[i].InterfaceIndex;
            status = STATUS_SUCCESS;
        }
    }
    FreeMibTable(table);
    return status;
}

static NTSTATUS OpenCaptured(ADAPTER *Adapter, IN_ADDR Address)
{
    // The buffer is the table itself, not a pointer to one.
    NTSTATUS status = Adapter->Provider.Dispatch->WskControlClient(
        Adapter->Provider.Client, WSKNDK_GET_WSK_PROVIDER_NDK_DISPATCH, 0, NULL, sizeof(Adapter->Ndk), &Adapter->Ndk, NULL,
        NULL);
    if (!NT_SUCCESS(status)) return status;

    NET_IFINDEX index;
    status = InterfaceOf(Address, &index);
    if (!NT_SUCCESS(status)) return status;

    // The minor version is the least that will do: the provider answers with its highest.
    NDK_VERSION version = {1, 2};
    status = Adapter->Ndk.WskOpenNdkAdapter(Adapter->Provider.Client, version, index, &Adapter->Raw);
    if (!NT_SUCCESS(status)) return status;

    ULONG size = sizeof(Adapter->Info);
    status = Adapter->Raw->Dispatch->NdkQueryAdapterInfo(Adapter->Raw, &Adapter->Info, &size);
    // Otherwise memory that reads go to must be registered with NDK_MR_FLAG_RDMA_READ_SINK.
    if (NT_SUCCESS(status) && !(Adapter->Info.AdapterFlags & NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED)) {
        status = STATUS_NOT_SUPPORTED;
    }
    if (!NT_SUCCESS(status)) Adapter->Ndk.WskCloseNdkAdapter(Adapter->Provider.Client, Adapter->Raw);
    return status;
}

NTSTATUS AdapterOpen(ADAPTER *Adapter, IN_ADDR Address)
{
    WSK_CLIENT_NPI client = {NULL, &ClientDispatch};
    NTSTATUS status = WskRegister(&client, &Adapter->Registration);
    if (!NT_SUCCESS(status)) return status;
    status = WskCaptureProviderNPI(&Adapter->Registration, CAPTURE_WAIT, &Adapter->Provider);
    if (NT_SUCCESS(status)) {
        status = OpenCaptured(Adapter, Address);
        if (NT_SUCCESS(status)) return status;
        WskReleaseProviderNPI(&Adapter->Registration);
    }
    WskDeregister(&Adapter->Registration);
    return status;
}

// Blocks until no callback runs any more: only now may the driver unload.
VOID AdapterClose(ADAPTER *Adapter)
{
    Adapter->Ndk.WskCloseNdkAdapter(Adapter->Provider.Client, Adapter->Raw);
    WskReleaseProviderNPI(&Adapter->Registration);
    WskDeregister(&Adapter->Registration);
}
