// What the registry says: the values of the key Parameters below the driver's service. PASSIVE_LEVEL.

#include "consumer.h"

typedef union _VALUE {
    KEY_VALUE_PARTIAL_INFORMATION Information;
    UCHAR Room[128];
} VALUE;

static NTSTATUS Query(HANDLE Key, PCWSTR Name, ULONG Type, VALUE *Value)
{
    UNICODE_STRING name;
    ULONG length;
    RtlInitUnicodeString(&name, Name);
    NTSTATUS status = ZwQueryValueKey(Key, &name, KeyValuePartialInformation, Value, sizeof(*Value), &length);
    if (NT_SUCCESS(status) && Value->Information.Type != Type) status = STATUS_OBJECT_TYPE_MISMATCH;
    if (!NT_SUCCESS(status) && status != STATUS_OBJECT_NAME_NOT_FOUND) Say("value %ws: %08x\n", Name, status);
    return status;
}

// A number; one that is not there leaves the default.
static NTSTATUS Number(HANDLE Key, PCWSTR Name, ULONG Least, ULONG Most, ULONG *Number)
{
    VALUE value;
    NTSTATUS status = Query(Key, Name, REG_DWORD, &value);
    if (status == STATUS_OBJECT_NAME_NOT_FOUND) return STATUS_SUCCESS;
    if (!NT_SUCCESS(status)) return status;
    // The registry keeps whatever length the value was written with.
    if (value.Information.DataLength != sizeof(ULONG)) {
        Say("value %ws: %u bytes\n", Name, value.Information.DataLength);
        return STATUS_OBJECT_TYPE_MISMATCH;
    }
    ULONG number;
    RtlCopyMemory(&number, value.Information.Data, sizeof(number));
    if (number < Least || number > Most) {
        Say("value %ws: %u is not from %u to %u\n", Name, number, Least, Most);
        return STATUS_INVALID_PARAMETER;
    }
    *Number = number;
    return STATUS_SUCCESS;
}

// An IPv4 address as text.
static NTSTATUS Address(HANDLE Key, PCWSTR Name, IN_ADDR *Address)
{
    VALUE value;
    NTSTATUS status = Query(Key, Name, REG_SZ, &value);
    if (status == STATUS_OBJECT_NAME_NOT_FOUND) Say("value %ws is missing\n", Name);
    if (!NT_SUCCESS(status)) return status;
    ULONG bytes[4] = {0}, part = 0, digits = 0;
    ULONG length = value.Information.DataLength / sizeof(WCHAR);
    for (ULONG i = 0; i < length; i++) {
        WCHAR c;
        RtlCopyMemory(&c, value.Information.Data + i * sizeof(WCHAR), sizeof(c));
        if (c == 0) break;
        if (c >= '0' && c <= '9') {
            bytes[part] = bytes[part] * 10 + (c - '0');
            digits++;
        } else if (c == '.' && digits && part < 3) {
            part++;
            digits = 0;
        } else {
            part = 4;
        }
        if (part > 3 || bytes[part] > 255) break;
    }
    if (part != 3 || !digits || bytes[3] > 255) {
        Say("value %ws is no IPv4 address\n", Name);
        return STATUS_INVALID_PARAMETER;
    }
    Address->S_un.S_addr = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | bytes[3] << 24;
    return STATUS_SUCCESS;
}

static NTSTATUS ReadAll(HANDLE Key, SETTINGS *Settings)
{
    VALUE role;
    NTSTATUS status = Query(Key, L"Role", REG_SZ, &role);
    if (status == STATUS_OBJECT_NAME_NOT_FOUND) Say("value Role is missing\n");
    if (!NT_SUCCESS(status)) return status;
    Settings->Server = role.Information.DataLength >= sizeof(WCHAR) && role.Information.Data[0] == 's';

    status = Address(Key, L"LocalAddress", &Settings->Local);
    if (NT_SUCCESS(status) && !Settings->Server) status = Address(Key, L"PeerAddress", &Settings->Peer);
    ULONG port = 445, mistake = MistakeNone;
    Settings->Rounds = 16;
    Settings->BlockSize = 65536;
    if (NT_SUCCESS(status)) status = Number(Key, L"Port", 1, 65535, &port);
    if (NT_SUCCESS(status)) status = Number(Key, L"Rounds", 1, 1000000, &Settings->Rounds);
    if (NT_SUCCESS(status)) status = Number(Key, L"BlockSize", 1, 1 << 20, &Settings->BlockSize);
    if (NT_SUCCESS(status)) status = Number(Key, L"Mistake", 0, MistakeWaitInCallback, &mistake);
    Settings->Port = (USHORT)port;
    Settings->Mistake = (MISTAKE)mistake;
    return status;
}

NTSTATUS SettingsRead(PUNICODE_STRING RegistryPath, SETTINGS *Settings)
{
    OBJECT_ATTRIBUTES attributes;
    HANDLE service, parameters;
    InitializeObjectAttributes(&attributes, RegistryPath, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, NULL, NULL);
    NTSTATUS status = ZwOpenKey(&service, KEY_READ, &attributes);
    if (!NT_SUCCESS(status)) return status;

    UNICODE_STRING name;
    RtlInitUnicodeString(&name, L"Parameters");
    InitializeObjectAttributes(&attributes, &name, OBJ_CASE_INSENSITIVE | OBJ_KERNEL_HANDLE, service, NULL);
    status = ZwOpenKey(&parameters, KEY_READ, &attributes);
    if (NT_SUCCESS(status)) {
        status = ReadAll(parameters, Settings);
        ZwClose(parameters);
    } else {
        Say("there is no key Parameters\n");
    }
    ZwClose(service);
    return status;
}
