// Without the WDK: what its libraries would bring for control flow guard. Leave this file out where they are linked.
//
// The compiler sends indirect calls through the two pointers, the linker gathers in a table what may be called so, and the load
// configuration tells the kernel's loader where all three are ("PE format", section "Load Configuration").

#include <ntddk.h>

// Made by the linker: the table of allowed targets; how many there are and which flags hold, as addresses.
extern CONST UCHAR __guard_fids_table, __guard_fids_count, __guard_flags;

// What checks until a loader says otherwise: every target passes. The target is in RCX for the one, in RAX for the other.
__asm__(".text\n"
        "GuardCheck: ret\n"
        "GuardDispatch: jmpq *%rax\n");
extern CONST UCHAR GuardCheck, GuardDispatch;

__attribute__((section(".00cfg"))) CONST VOID *CONST __guard_check_icall_fptr = &GuardCheck;
__attribute__((section(".00cfg"))) CONST VOID *CONST __guard_dispatch_icall_fptr = &GuardDispatch;

// IMAGE_LOAD_CONFIG_DIRECTORY64 up to and with GuardFlags; the loader takes what Size says is there.
typedef struct _LOAD_CONFIG {
    ULONG Size;
    // TimeDateStamp to CSDVersion: nothing in them concerns a driver.
    ULONG Unused[19];
    ULONG64 EditList;
    ULONG64 SecurityCookie;
    ULONG64 SEHandlerTable, SEHandlerCount;
    CONST VOID *GuardCFCheckFunctionPointer;
    CONST VOID *GuardCFDispatchFunctionPointer;
    CONST VOID *GuardCFFunctionTable;
    CONST VOID *GuardCFFunctionCount;
    // Has 32 bits; the linker's value has no more.
    CONST VOID *GuardFlags;
} LOAD_CONFIG;

_Static_assert(__builtin_offsetof(LOAD_CONFIG, GuardCFCheckFunctionPointer) == 0x70, "");
_Static_assert(__builtin_offsetof(LOAD_CONFIG, GuardFlags) == 0x90, "");

// The linker finds it by this name.
CONST LOAD_CONFIG _load_config_used = {
    .Size = 0x94,
    .GuardCFCheckFunctionPointer = &__guard_check_icall_fptr,
    .GuardCFDispatchFunctionPointer = &__guard_dispatch_icall_fptr,
    .GuardCFFunctionTable = &__guard_fids_table,
    .GuardCFFunctionCount = &__guard_fids_count,
    .GuardFlags = &__guard_flags,
};
