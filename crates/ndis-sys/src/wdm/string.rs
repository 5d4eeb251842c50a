//! Strings, lists, identifiers.

layouts! {
    /// A counted UTF-16 string; not necessarily terminated. Lengths in bytes.
    pub struct UNICODE_STRING(16) {
        /// Bytes in use, without a terminator.
        0x00 Length: u16,
        /// Bytes the buffer can hold.
        0x02 MaximumLength: u16,
        0x08 Buffer: *mut u16,
    }

    /// Head or link of a doubly linked list; an empty head points at itself.
    pub struct LIST_ENTRY(16) {
        0x00 Flink: *mut LIST_ENTRY,
        0x08 Blink: *mut LIST_ENTRY,
    }

    /// Link of a singly linked list.
    pub struct SINGLE_LIST_ENTRY(8) {
        0x00 Next: *mut SINGLE_LIST_ENTRY,
    }

    /// A globally unique identifier.
    #[derive(Debug, PartialEq, Eq)]
    pub struct GUID(16) {
        0x00 Data1: u32,
        0x04 Data2: u16,
        0x06 Data3: u16,
        0x08 Data4: [u8; 8],
    }

    /// What an object to be created or opened is called.
    pub struct OBJECT_ATTRIBUTES(48) {
        /// Size of this structure.
        0x00 Length: u32,
        0x08 RootDirectory: *mut core::ffi::c_void,
        0x10 ObjectName: *mut UNICODE_STRING,
        0x18 Attributes: u32,
        0x20 SecurityDescriptor: *mut core::ffi::c_void,
        0x28 SecurityQualityOfService: *mut core::ffi::c_void,
    }
}
