//! PCI configuration space.

layouts! {
    /// The 256 bytes of a function's configuration space; a type 0 header.
    pub struct PCI_COMMON_CONFIG(256) {
        0x00 VendorID: u16,
        0x02 DeviceID: u16,
        0x04 Command: u16,
        0x06 Status: u16,
        0x08 RevisionID: u8,
        0x09 ProgIf: u8,
        0x0a SubClass: u8,
        0x0b BaseClass: u8,
        0x0c CacheLineSize: u8,
        0x0d LatencyTimer: u8,
        0x0e HeaderType: u8,
        0x0f BIST: u8,
        0x10 u: PCI_COMMON_HEADER_u,
        0x40 DeviceSpecific: [u8; 192],
    }

    /// What depends on the type of header: only type 0, an ordinary function, is declared.
    pub union PCI_COMMON_HEADER_u(48) {
        0x00 type0: PCI_HEADER_TYPE_0,
    }

    /// Header of an ordinary function.
    pub struct PCI_HEADER_TYPE_0(48) {
        0x00 BaseAddresses: [u32; 6],
        0x18 CIS: u32,
        0x1c SubVendorID: u16,
        0x1e SubSystemID: u16,
        0x20 ROMBaseAddress: u32,
        /// Offset of the first capability.
        0x24 CapabilitiesPtr: u8,
        0x25 Reserved1: [u8; 3],
        0x28 Reserved2: u32,
        0x2c InterruptLine: u8,
        0x2d InterruptPin: u8,
        0x2e MinimumGrant: u8,
        0x2f MaximumLatency: u8,
    }
}

constants! {
    /// Bits of the command register (PCI 3.0, 6.2.2).
    u16 {
        PCI_ENABLE_IO_SPACE = 0x1;
        PCI_ENABLE_MEMORY_SPACE = 0x2;
        PCI_ENABLE_BUS_MASTER = 0x4;
        PCI_DISABLE_LEVEL_INTERRUPT = 0x400;
    }
    /// Bit of the status register: there is a list of capabilities.
    u16 {
        PCI_STATUS_CAPABILITIES_LIST = 0x10;
    }
    /// Capability identifiers.
    u8 {
        PCI_CAPABILITY_ID_POWER_MANAGEMENT = 0x01;
        PCI_CAPABILITY_ID_MSI = 0x05;
        PCI_CAPABILITY_ID_VENDOR_SPECIFIC = 0x09;
        PCI_CAPABILITY_ID_PCI_EXPRESS = 0x10;
        PCI_CAPABILITY_ID_MSIX = 0x11;
    }
    /// The space `NdisMGetBusData` reads: a PCI function's configuration.
    u32 {
        PCI_WHICHSPACE_CONFIG = 0x0;
    }
}
