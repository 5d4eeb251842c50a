// What ntddk.h has beyond wdm.h. Names, order and types are those of the public declarations; the words are ours. With the WDK, use the
// header of the same name that comes with it.
#pragma once

#include <wdm.h>

NTKERNELAPI BOOLEAN NTAPI MmIsAddressValid(PVOID VirtualAddress);
NTSYSAPI ULONG NTAPI RtlRandomEx(PULONG Seed);
