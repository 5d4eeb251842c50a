// Types of the kernel's declarations, strings, lists. Names, order and types are those of the public declarations; the words are ours.
#pragma once

// Kernel, drivers and providers call each other with the convention of Windows. Elsewhere it must be said of every function that is called
// so, a driver's own callbacks included; the compiler takes no other for one.
#ifdef _WIN32
#define NTAPI
#define DECLSPEC_IMPORT __declspec(dllimport)
#else
#define NTAPI __attribute__((ms_abi))
#define DECLSPEC_IMPORT
#endif
#define NTSYSAPI DECLSPEC_IMPORT
#define NTKERNELAPI DECLSPEC_IMPORT
#define DECLSPEC_ALIGN(n) __attribute__((aligned(n)))
#define DECLSPEC_NORETURN __attribute__((noreturn))
#define FORCEINLINE static inline __attribute__((always_inline))

typedef void VOID, *PVOID;
typedef unsigned char UCHAR, *PUCHAR, BOOLEAN, *PBOOLEAN, KIRQL, *PKIRQL;
typedef char CHAR, *PCHAR, CCHAR, KPROCESSOR_MODE;
typedef char *PSTR;
typedef const char *PCSTR;
typedef short SHORT, CSHORT;
typedef unsigned short USHORT, *PUSHORT, WCHAR, *PWCHAR, *PWSTR;
typedef const WCHAR *PCWSTR;
typedef int BOOL, INT;
typedef unsigned int UINT;
// 32 bits, which long has on Windows only.
#ifdef _WIN32
typedef long LONG, *PLONG, NTSTATUS, *PNTSTATUS, KPRIORITY;
typedef unsigned long ULONG, *PULONG, ACCESS_MASK;
#else
typedef int LONG, *PLONG, NTSTATUS, *PNTSTATUS, KPRIORITY;
typedef unsigned int ULONG, *PULONG, ACCESS_MASK;
#endif
typedef long long LONGLONG, *PLONGLONG, LONG64, *PLONG64, INT64, LONG_PTR, *PLONG_PTR, SSIZE_T;
typedef unsigned long long ULONGLONG, *PULONGLONG, ULONG64, *PULONG64, UINT64, ULONG_PTR, *PULONG_PTR, SIZE_T, *PSIZE_T;
typedef unsigned long long KSPIN_LOCK, *PKSPIN_LOCK, KAFFINITY, PFN_NUMBER, *PPFN_NUMBER;
typedef PVOID HANDLE, *PHANDLE;

#define TRUE 1
#define FALSE 0
#define NULL ((void *)0)
#define UNALIGNED
#define CONST const
#define C_ASSERT(e) _Static_assert(e, #e)
#define FIELD_OFFSET(type, field) ((LONG)__builtin_offsetof(type, field))
#define CONTAINING_RECORD(address, type, field) ((type *)((char *)(address) - FIELD_OFFSET(type, field)))
#define UNREFERENCED_PARAMETER(p) ((void)(p))
#define PtrToUlong(p) ((ULONG)(ULONG_PTR)(p))
#define UlongToPtr(n) ((PVOID)(ULONG_PTR)(n))
// Of a free build: a checked one says more.
#define ASSERT(e) ((void)0)
#define NT_ASSERT(e) ((void)0)
#define RTL_NUMBER_OF(a) (sizeof(a) / sizeof((a)[0]))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define min(a, b) (((a) < (b)) ? (a) : (b))

#define NT_SUCCESS(status) ((NTSTATUS)(status) >= 0)
#define NT_ERROR(status) ((ULONG)(status) >> 30 == 3)
#include <ntstatus.h>

#define MAXULONG 0xffffffffU

typedef union _LARGE_INTEGER {
    struct {
        ULONG LowPart;
        LONG HighPart;
    };
    struct {
        ULONG LowPart;
        LONG HighPart;
    } u;
    LONGLONG QuadPart;
} LARGE_INTEGER, *PLARGE_INTEGER, PHYSICAL_ADDRESS, *PPHYSICAL_ADDRESS;

typedef union _ULARGE_INTEGER {
    struct {
        ULONG LowPart;
        ULONG HighPart;
    };
    struct {
        ULONG LowPart;
        ULONG HighPart;
    } u;
    ULONGLONG QuadPart;
} ULARGE_INTEGER, *PULARGE_INTEGER;

typedef struct _GUID {
    ULONG Data1;
    USHORT Data2;
    USHORT Data3;
    UCHAR Data4[8];
} GUID, *LPGUID;
typedef const GUID *LPCGUID;

#define ALL_PROCESSOR_GROUPS 0xffff
#define MAXIMUM_PROC_PER_GROUP 64

typedef struct _GROUP_AFFINITY {
    KAFFINITY Mask;
    USHORT Group;
    USHORT Reserved[3];
} GROUP_AFFINITY, *PGROUP_AFFINITY;

typedef struct _PROCESSOR_NUMBER {
    USHORT Group;
    UCHAR Number;
    UCHAR Reserved;
} PROCESSOR_NUMBER, *PPROCESSOR_NUMBER;

// ---- Memory

// They come from the C library where the example is linked, from the kernel for an image.
void *memcpy(void *to, const void *from, SIZE_T length);
void *memmove(void *to, const void *from, SIZE_T length);
void *memset(void *to, int byte, SIZE_T length);
int memcmp(const void *a, const void *b, SIZE_T length);
#define RtlCopyMemory(to, from, length) memcpy((to), (from), (length))
#define RtlMoveMemory(to, from, length) memmove((to), (from), (length))
#define RtlZeroMemory(to, length) memset((to), 0, (length))
#define RtlFillMemory(to, length, byte) memset((to), (byte), (length))
#define RtlEqualMemory(a, b, length) (memcmp((a), (b), (length)) == 0)

// ---- Strings

typedef struct _UNICODE_STRING {
    USHORT Length;
    USHORT MaximumLength;
    PWCHAR Buffer;
} UNICODE_STRING, *PUNICODE_STRING;
typedef const UNICODE_STRING *PCUNICODE_STRING;

// Of an array of characters, so not of a pointer; without its terminator.
#define RTL_CONSTANT_STRING(s) {sizeof(s) - sizeof((s)[0]), sizeof(s), (PWCHAR)(s)}
#define DECLARE_CONST_UNICODE_STRING(name, s) \
    const WCHAR name##_buffer[] = s; \
    const UNICODE_STRING name = RTL_CONSTANT_STRING(name##_buffer)

// ---- Lists, which have no lock of their own

typedef struct _LIST_ENTRY {
    struct _LIST_ENTRY *Flink;
    struct _LIST_ENTRY *Blink;
} LIST_ENTRY, *PLIST_ENTRY;

typedef struct _SINGLE_LIST_ENTRY {
    struct _SINGLE_LIST_ENTRY *Next;
} SINGLE_LIST_ENTRY, *PSINGLE_LIST_ENTRY;

FORCEINLINE VOID InitializeListHead(PLIST_ENTRY ListHead)
{
    ListHead->Flink = ListHead->Blink = ListHead;
}

FORCEINLINE BOOLEAN IsListEmpty(const LIST_ENTRY *ListHead)
{
    return ListHead->Flink == ListHead;
}

// Whether the list is empty now.
FORCEINLINE BOOLEAN RemoveEntryList(PLIST_ENTRY Entry)
{
    PLIST_ENTRY next = Entry->Flink, previous = Entry->Blink;
    previous->Flink = next;
    next->Blink = previous;
    return next == previous;
}

// Of an empty list they give the head back.
FORCEINLINE PLIST_ENTRY RemoveHeadList(PLIST_ENTRY ListHead)
{
    PLIST_ENTRY entry = ListHead->Flink;
    RemoveEntryList(entry);
    return entry;
}

FORCEINLINE PLIST_ENTRY RemoveTailList(PLIST_ENTRY ListHead)
{
    PLIST_ENTRY entry = ListHead->Blink;
    RemoveEntryList(entry);
    return entry;
}

FORCEINLINE VOID InsertHeadList(PLIST_ENTRY ListHead, PLIST_ENTRY Entry)
{
    Entry->Flink = ListHead->Flink;
    Entry->Blink = ListHead;
    ListHead->Flink->Blink = Entry;
    ListHead->Flink = Entry;
}

FORCEINLINE VOID InsertTailList(PLIST_ENTRY ListHead, PLIST_ENTRY Entry)
{
    Entry->Flink = ListHead;
    Entry->Blink = ListHead->Blink;
    ListHead->Blink->Flink = Entry;
    ListHead->Blink = Entry;
}

// Appends entries that are linked to each other, without a head of their own.
FORCEINLINE VOID AppendTailList(PLIST_ENTRY ListHead, PLIST_ENTRY ListToAppend)
{
    PLIST_ENTRY last = ListToAppend->Blink;
    ListHead->Blink->Flink = ListToAppend;
    ListToAppend->Blink = ListHead->Blink;
    last->Flink = ListHead;
    ListHead->Blink = last;
}

FORCEINLINE VOID PushEntryList(PSINGLE_LIST_ENTRY ListHead, PSINGLE_LIST_ENTRY Entry)
{
    Entry->Next = ListHead->Next;
    ListHead->Next = Entry;
}

FORCEINLINE PSINGLE_LIST_ENTRY PopEntryList(PSINGLE_LIST_ENTRY ListHead)
{
    PSINGLE_LIST_ENTRY entry = ListHead->Next;
    if (entry) ListHead->Next = entry->Next;
    return entry;
}

// ---- Names of objects

typedef struct _OBJECT_ATTRIBUTES {
    ULONG Length;
    HANDLE RootDirectory;
    PUNICODE_STRING ObjectName;
    ULONG Attributes;
    PVOID SecurityDescriptor;
    PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;

#define OBJ_CASE_INSENSITIVE 0x00000040L
#define OBJ_KERNEL_HANDLE 0x00000200L
#define InitializeObjectAttributes(p, n, a, r, s) \
    do { \
        (p)->Length = sizeof(OBJECT_ATTRIBUTES); \
        (p)->RootDirectory = (r); \
        (p)->Attributes = (a); \
        (p)->ObjectName = (n); \
        (p)->SecurityDescriptor = (s); \
        (p)->SecurityQualityOfService = NULL; \
    } while (0)
