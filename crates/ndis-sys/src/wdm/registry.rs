//! The registry.

/// In which form `ZwQueryValueKey` tells a value.
pub type KEY_VALUE_INFORMATION_CLASS = i32;

layouts! {
    /// A value's type and data; `Data` goes on for `DataLength` bytes.
    pub struct KEY_VALUE_PARTIAL_INFORMATION(16) {
        0x00 TitleIndex: u32,
        /// `REG_*`.
        0x04 Type: u32,
        /// Bytes.
        0x08 DataLength: u32,
        0x0c Data: [u8; 1],
    }

    /// A value's type, data and name. `Name` goes on for `NameLength` bytes; the data are `DataOffset` bytes from the start.
    pub struct KEY_VALUE_FULL_INFORMATION(24) {
        0x00 TitleIndex: u32,
        /// `REG_*`.
        0x04 Type: u32,
        0x08 DataOffset: u32,
        /// Bytes.
        0x0c DataLength: u32,
        /// Bytes.
        0x10 NameLength: u32,
        0x14 Name: [u16; 1],
    }

    /// A value's type and name. `Name` goes on for `NameLength` bytes.
    pub struct KEY_VALUE_BASIC_INFORMATION(16) {
        0x00 TitleIndex: u32,
        /// `REG_*`.
        0x04 Type: u32,
        /// Bytes.
        0x08 NameLength: u32,
        0x0c Name: [u16; 1],
    }
}

constants! {
    /// In which form a value is told.
    KEY_VALUE_INFORMATION_CLASS {
        KeyValueBasicInformation = 0;
        KeyValueFullInformation = 1;
        KeyValuePartialInformation = 2;
    }
    /// Types of values.
    u32 {
        REG_NONE = 0;
        REG_SZ = 1;
        REG_EXPAND_SZ = 2;
        REG_BINARY = 3;
        REG_DWORD = 4;
        REG_MULTI_SZ = 7;
        REG_QWORD = 11;
    }
}
