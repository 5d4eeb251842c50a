// IP addresses of the machine's interfaces, as far as the example uses them. Names and types are those of the public declarations; the
// words are ours.
#pragma once

#include <ws2def.h>

typedef ULONG NET_IFINDEX;

typedef union _NET_LUID {
    ULONG64 Value;
} NET_LUID;

typedef enum _NL_PREFIX_ORIGIN { IpPrefixOriginOther } NL_PREFIX_ORIGIN;
typedef enum _NL_SUFFIX_ORIGIN { IpSuffixOriginOther } NL_SUFFIX_ORIGIN;
typedef enum _NL_DAD_STATE { IpDadStateInvalid } NL_DAD_STATE;

typedef struct _MIB_UNICASTIPADDRESS_ROW {
    SOCKADDR_INET Address;
    NET_LUID InterfaceLuid;
    NET_IFINDEX InterfaceIndex;
    NL_PREFIX_ORIGIN PrefixOrigin;
    NL_SUFFIX_ORIGIN SuffixOrigin;
    ULONG ValidLifetime;
    ULONG PreferredLifetime;
    UCHAR OnLinkPrefixLength;
    BOOLEAN SkipAsSource;
    NL_DAD_STATE DadState;
    ULONG ScopeId;
    LARGE_INTEGER CreationTimeStamp;
} MIB_UNICASTIPADDRESS_ROW, *PMIB_UNICASTIPADDRESS_ROW;

typedef struct _MIB_UNICASTIPADDRESS_TABLE {
    ULONG NumEntries;
    MIB_UNICASTIPADDRESS_ROW Table[1];
} MIB_UNICASTIPADDRESS_TABLE, *PMIB_UNICASTIPADDRESS_TABLE;

DECLSPEC_IMPORT NTSTATUS NTAPI GetUnicastIpAddressTable(ADDRESS_FAMILY Family, PMIB_UNICASTIPADDRESS_TABLE *Table);
DECLSPEC_IMPORT VOID NTAPI FreeMibTable(PVOID Memory);
