//! Interrupts of a miniport.

use super::object::NDIS_OBJECT_HEADER;
use crate::types::*;
use crate::wdm::IO_INTERRUPT_MESSAGE_INFO;

/// Line or message.
pub type NDIS_INTERRUPT_TYPE = i32;
/// Whether the driver coalesces interrupts.
pub type NDIS_INTERRUPT_MODERATION = i32;

callbacks! {
    /// Line interrupt: true if it was the device's. IRQL: DIRQL.
    fn MINIPORT_ISR(
        MiniportInterruptContext: NDIS_HANDLE,
        QueueDefaultInterruptDpc: *mut BOOLEAN,
        TargetProcessors: *mut u32,
    ) -> BOOLEAN;

    /// Work of a line interrupt. IRQL: DISPATCH_LEVEL.
    fn MINIPORT_INTERRUPT_DPC(
        MiniportInterruptContext: NDIS_HANDLE,
        MiniportDpcContext: *mut c_void,
        ReceiveThrottleParameters: *mut c_void,
        NdisReserved2: *mut c_void,
    );

    /// Keeps the device from interrupting. IRQL: DIRQL.
    fn MINIPORT_DISABLE_INTERRUPT(MiniportInterruptContext: NDIS_HANDLE);

    /// Lets the device interrupt. IRQL: DIRQL.
    fn MINIPORT_ENABLE_INTERRUPT(MiniportInterruptContext: NDIS_HANDLE);

    /// Message interrupt: true if it was the device's. IRQL: DIRQL.
    fn MINIPORT_MESSAGE_INTERRUPT(
        MiniportInterruptContext: NDIS_HANDLE,
        MessageId: u32,
        QueueDefaultInterruptDpc: *mut BOOLEAN,
        TargetProcessors: *mut u32,
    ) -> BOOLEAN;

    /// Work of a message interrupt. IRQL: DISPATCH_LEVEL.
    fn MINIPORT_MESSAGE_INTERRUPT_DPC(
        MiniportInterruptContext: NDIS_HANDLE,
        MessageId: u32,
        MiniportDpcContext: *mut c_void,
        ReceiveThrottleParameters: *mut c_void,
        NdisReserved2: *mut c_void,
    );

    /// Masks a message. IRQL: D.
    fn MINIPORT_DISABLE_MESSAGE_INTERRUPT(MiniportInterruptContext: NDIS_HANDLE, MessageId: u32);

    /// Unmasks a message. IRQL: D.
    fn MINIPORT_ENABLE_MESSAGE_INTERRUPT(MiniportInterruptContext: NDIS_HANDLE, MessageId: u32);

    /// Runs so that no interrupt of the message runs at the same time. IRQL: DIRQL.
    fn MINIPORT_SYNCHRONIZE_INTERRUPT(SynchronizeContext: NDIS_HANDLE) -> BOOLEAN;
}

layouts! {
    /// Interrupt handlers, given to `NdisMRegisterInterruptEx`, which fills in the last two fields.
    pub struct NDIS_MINIPORT_INTERRUPT_CHARACTERISTICS(96) {
        /// `NDIS_OBJECT_TYPE_MINIPORT_INTERRUPT`, revision 1.
        0x00 Header: NDIS_OBJECT_HEADER,
        0x08 InterruptHandler: Option<MINIPORT_ISR>,
        0x10 InterruptDpcHandler: Option<MINIPORT_INTERRUPT_DPC>,
        0x18 DisableInterruptHandler: Option<MINIPORT_DISABLE_INTERRUPT>,
        0x20 EnableInterruptHandler: Option<MINIPORT_ENABLE_INTERRUPT>,
        /// The four handlers below are given.
        0x28 MsiSupported: BOOLEAN,
        0x29 MsiSyncWithAllMessages: BOOLEAN,
        0x30 MessageInterruptHandler: Option<MINIPORT_MESSAGE_INTERRUPT>,
        0x38 MessageInterruptDpcHandler: Option<MINIPORT_MESSAGE_INTERRUPT_DPC>,
        0x40 DisableMessageInterruptHandler: Option<MINIPORT_DISABLE_MESSAGE_INTERRUPT>,
        0x48 EnableMessageInterruptHandler: Option<MINIPORT_ENABLE_MESSAGE_INTERRUPT>,
        /// Out: line or message.
        0x50 InterruptType: NDIS_INTERRUPT_TYPE,
        /// Out: the messages, if it is message.
        0x58 MessageInfoTable: *mut IO_INTERRUPT_MESSAGE_INFO,
    }

    /// How much an interrupt DPC may indicate (`NDIS_RECEIVE_THROTTLE_PARAMETERS`).
    pub struct NDIS_RECEIVE_THROTTLE_PARAMETERS(8) {
        /// In: net buffer lists to indicate at most; `NDIS_INDICATE_ALL_NBLS`: any number.
        0x00 MaxNblsToIndicate: u32,
        /// Out, bit 0: more are waiting, queue the DPC again.
        0x04 MoreNblsPending: u32,
    }

    /// Data of `OID_GEN_INTERRUPT_MODERATION`.
    pub struct NDIS_INTERRUPT_MODERATION_PARAMETERS(12) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 Flags: u32,
        0x08 InterruptModeration: NDIS_INTERRUPT_MODERATION,
    }

    /// Argument of `NdisMConfigMSIXTableEntry`.
    pub struct NDIS_MSIX_CONFIG_PARAMETERS(16) {
        0x00 Header: NDIS_OBJECT_HEADER,
        0x04 ConfigOperation: i32,
        0x08 TableEntry: u32,
        0x0c MessageNumber: u32,
    }
}

constants! {
    /// Revisions of the interrupt structures.
    u8 {
        NDIS_MINIPORT_INTERRUPT_REVISION_1 = 1;
        NDIS_INTERRUPT_MODERATION_PARAMETERS_REVISION_1 = 1;
        NDIS_MSIX_CONFIG_PARAMETERS_REVISION_1 = 1;
    }
    /// Sizes of the interrupt structures, for their headers.
    u16 {
        NDIS_SIZEOF_MINIPORT_INTERRUPT_CHARACTERISTICS_REVISION_1 = 0x60;
        NDIS_SIZEOF_INTERRUPT_MODERATION_PARAMETERS_REVISION_1 = 0xc;
        NDIS_SIZEOF_MSIX_CONFIG_PARAMETERS_REVISION_1 = 0x10;
    }
    /// Line or message.
    NDIS_INTERRUPT_TYPE {
        NDIS_CONNECT_LINE_BASED = 1;
        NDIS_CONNECT_MESSAGE_BASED = 2;
    }
    /// State of interrupt moderation.
    NDIS_INTERRUPT_MODERATION {
        NdisInterruptModerationUnknown = 0;
        NdisInterruptModerationNotSupported = 1;
        NdisInterruptModerationEnabled = 2;
        NdisInterruptModerationDisabled = 3;
    }
    /// What a change of interrupt moderation takes.
    u32 {
        NDIS_INTERRUPT_MODERATION_CHANGE_NEEDS_RESET = 1;
        NDIS_INTERRUPT_MODERATION_CHANGE_NEEDS_REINITIALIZE = 2;
    }
    /// No limit on receive indications of a DPC.
    u32 {
        NDIS_INDICATE_ALL_NBLS = 0xffffffff;
    }
    /// What to do with an entry of the MSI-X table.
    i32 {
        NdisMSIXTableConfigSetTableEntry = 0;
        NdisMSIXTableConfigMaskTableEntry = 1;
        NdisMSIXTableConfigUnmaskTableEntry = 2;
        NdisMSIXTableConfigMax = 3;
    }
}
