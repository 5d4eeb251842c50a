//! What an event is made of: its description, put together at compile time, and its data.
//!
//! The format is TraceLogging's: the description has the event's length, tags (none), name, and for each field a name, how it is stored and,
//! if that is not obvious, how it is shown. The data are the fields, one after the other.

use core::marker::PhantomData;
use core::net::SocketAddr;

use crate::status::Status;
use crate::sys::socket::{AF_INET, AF_INET6};
use crate::sys::wdm::{
    EVENT_DATA_DESCRIPTOR, EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA,
    EVENT_DATA_DESCRIPTOR_TYPE_NONE, EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA,
    EVENT_DESCRIPTOR, TDH_INTYPE_BINARY, TDH_INTYPE_MANIFEST_COUNTEDANSISTRING, TDH_INTYPE_UINT8,
    TDH_INTYPE_UINT16, TDH_INTYPE_UINT32, TDH_INTYPE_UINT64, TlgOutBOOLEAN, TlgOutNTSTATUS,
    TlgOutNULL, TlgOutSOCKETADDRESS, WINEVENT_CHANNEL_TRACELOGGING,
};

use super::Level;

/// Follows the way a field is stored, if it is shown in another way than the usual.
const SHOWN: u8 = 0x80;
/// Pieces of an event's data, two descriptions included.
const MAX_PIECES: usize = 24;

/// How a field is stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// TDH_INTYPE_...
    pub stored: u8,
    /// TlgOut...
    pub shown: u8,
}

/// An event. Made with [`events!`](crate::events).
pub trait Event {
    /// How urgent it is.
    const LEVEL: Level;
    /// What it is about.
    const KEYWORD: u64;
    /// What the kernel knows of it.
    const DESCRIPTOR: EVENT_DESCRIPTOR;
    /// Its name and fields.
    const DESCRIPTION: &'static [u8];

    /// Gives its fields, in order.
    fn put<'a>(&'a self, data: &mut Data<'a>);
}

/// The type of a field.
pub trait Field {
    /// How it is stored and shown.
    const KIND: Kind;

    /// Gives its data: two pieces at most.
    fn put<'a>(&'a self, data: &mut Data<'a>);
}

/// The pieces of an event's data.
pub struct Data<'a> {
    pieces: [EVENT_DATA_DESCRIPTOR; MAX_PIECES],
    count: usize,
    life: PhantomData<&'a [u8]>,
}

impl<'a> Data<'a> {
    pub(super) fn new(provider: &'a [u8], event: &'a [u8]) -> Self {
        let mut data = Self {
            pieces: [EVENT_DATA_DESCRIPTOR::ZEROED; MAX_PIECES],
            count: 0,
            life: PhantomData,
        };
        data.add_as(EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA, provider);
        data.add_as(EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA, event);
        data
    }

    fn add_as(&mut self, kind: u8, bytes: &'a [u8]) {
        // There is room: `description` has seen to it.
        if let Some(piece) = self.pieces.get_mut(self.count) {
            *piece = EVENT_DATA_DESCRIPTOR {
                Ptr: bytes.as_ptr() as u64,
                Size: bytes.len() as u32,
                Type: kind,
                ..EVENT_DATA_DESCRIPTOR::ZEROED
            };
            self.count += 1;
        }
    }

    /// Adds a piece.
    pub fn add(&mut self, bytes: &'a [u8]) {
        self.add_as(EVENT_DATA_DESCRIPTOR_TYPE_NONE, bytes);
    }

    pub(super) fn pieces(&mut self) -> &mut [EVENT_DATA_DESCRIPTOR] {
        self.pieces.get_mut(..self.count).unwrap_or_default()
    }
}

/// The bytes of a plain number, as it lies in memory.
macro_rules! numbers {
    ($($number:ty: $stored:ident, $shown:ident;)*) => { $(
        impl Field for $number {
            const KIND: Kind = Kind { stored: $stored, shown: $shown };

            fn put<'a>(&'a self, data: &mut Data<'a>) {
                let start = core::ptr::from_ref(self).cast::<u8>();
                // SAFETY: a type without padding, borrowed for as long as the data.
                data.add(unsafe { core::slice::from_raw_parts(start, size_of::<Self>()) });
            }
        }
    )* };
}

numbers! {
    u8: TDH_INTYPE_UINT8, TlgOutNULL;
    u16: TDH_INTYPE_UINT16, TlgOutNULL;
    u32: TDH_INTYPE_UINT32, TlgOutNULL;
    u64: TDH_INTYPE_UINT64, TlgOutNULL;
    bool: TDH_INTYPE_UINT8, TlgOutBOOLEAN;
    Status: TDH_INTYPE_UINT32, TlgOutNTSTATUS;
}

/// An ASCII text of the driver's.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    text: &'static str,
    len: u16,
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        let len = text.len() as u16;
        Self { text, len }
    }
}

impl Field for Text {
    const KIND: Kind = Kind {
        stored: TDH_INTYPE_MANIFEST_COUNTEDANSISTRING,
        shown: TlgOutNULL,
    };

    fn put<'a>(&'a self, data: &mut Data<'a>) {
        self.len.put(data);
        data.add(self.text.as_bytes().get(..self.len.into()).unwrap_or(&[]));
    }
}

/// So many bytes, such as a MAC address.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: u16,
}

impl<const N: usize> From<[u8; N]> for Bytes<N> {
    fn from(bytes: [u8; N]) -> Self {
        let len = N as u16;
        Self { bytes, len }
    }
}

impl<const N: usize> Field for Bytes<N> {
    const KIND: Kind = Kind {
        stored: TDH_INTYPE_BINARY,
        shown: TlgOutNULL,
    };

    fn put<'a>(&'a self, data: &mut Data<'a>) {
        self.len.put(data);
        data.add(&self.bytes);
    }
}

/// Bytes of a SOCKADDR_IN6, the longer of the two.
const MAX_ADDRESS: usize = 28;

/// An address with a port: a SOCKADDR_IN or SOCKADDR_IN6.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    bytes: [u8; MAX_ADDRESS],
    len: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let mut bytes = [0; MAX_ADDRESS];
        let mut set = |at: usize, part: &[u8]| {
            if let Some(place) = bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
        };
        set(2, &address.port().to_be_bytes());
        let len = match address {
            SocketAddr::V4(v4) => {
                set(0, &AF_INET.to_le_bytes());
                set(4, &v4.ip().octets());
                16
            }
            SocketAddr::V6(v6) => {
                set(0, &AF_INET6.to_le_bytes());
                set(8, &v6.ip().octets());
                set(24, &v6.scope_id().to_le_bytes());
                28
            }
        };
        Self { bytes, len }
    }
}

impl Field for Address {
    const KIND: Kind = Kind {
        stored: TDH_INTYPE_BINARY,
        shown: TlgOutSOCKETADDRESS,
    };

    fn put<'a>(&'a self, data: &mut Data<'a>) {
        self.len.put(data);
        data.add(self.bytes.get(..self.len.into()).unwrap_or(&[]));
    }
}

/// What the kernel knows of an event.
#[doc(hidden)]
pub const fn descriptor(level: Level, keyword: u64) -> EVENT_DESCRIPTOR {
    EVENT_DESCRIPTOR {
        Channel: WINEVENT_CHANNEL_TRACELOGGING,
        Level: level as u8,
        Keyword: keyword,
        ..EVENT_DESCRIPTOR::ZEROED
    }
}

/// The length of an event's description, bytes.
#[doc(hidden)]
pub const fn description_len(name: &str, fields: &[(&str, Kind)]) -> usize {
    let mut len = 2 + 1 + name.len() + 1;
    let mut i = 0;
    while i < fields.len() {
        len += fields[i].0.len() + 1 + 1;
        if fields[i].1.shown != TlgOutNULL {
            len += 1;
        }
        i += 1;
    }
    len
}

/// The description of an event.
#[doc(hidden)]
pub const fn description<const N: usize>(name: &str, fields: &[(&str, Kind)]) -> [u8; N] {
    assert!(N == description_len(name, fields) && N <= u16::MAX as usize);
    // Two pieces a field at most.
    assert!(2 + 2 * fields.len() <= MAX_PIECES);
    let mut bytes = [0; N];
    let [low, high] = (N as u16).to_le_bytes();
    bytes[0] = low;
    bytes[1] = high;
    let mut at = 3;
    (bytes, at) = terminated(bytes, at, name);
    let mut i = 0;
    while i < fields.len() {
        let (field, kind) = fields[i];
        (bytes, at) = terminated(bytes, at, field);
        bytes[at] = kind.stored;
        if kind.shown != TlgOutNULL {
            bytes[at] |= SHOWN;
            at += 1;
            bytes[at] = kind.shown;
        }
        at += 1;
        i += 1;
    }
    assert!(at == N);
    bytes
}

/// Writes a string behind which a zero remains. Gives where it goes on.
const fn terminated<const N: usize>(
    mut bytes: [u8; N],
    mut at: usize,
    text: &str,
) -> ([u8; N], usize) {
    let text = text.as_bytes();
    let mut i = 0;
    while i < text.len() {
        assert!(text[i].is_ascii() && text[i] != 0);
        bytes[at] = text[i];
        at += 1;
        i += 1;
    }
    (bytes, at + 1)
}

/// Defines events: `NAME: LEVEL, KEYWORDS { field: type, ... }` becomes a structure that is an [`Event`].
#[macro_export]
macro_rules! events {
    ($(
        $(#[$meta:meta])*
        $name:ident: $level:ident, $keyword:expr, {
            $( $(#[$field_meta:meta])* $field:ident: $ty:ty, )+
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $ty, )*
        }

        impl $crate::trace::Event for $name {
            const LEVEL: $crate::trace::Level = $crate::trace::Level::$level;
            const KEYWORD: u64 = $keyword;
            const DESCRIPTOR: $crate::sys::wdm::EVENT_DESCRIPTOR =
                $crate::trace::descriptor(Self::LEVEL, Self::KEYWORD);
            const DESCRIPTION: &'static [u8] = {
                const NAME: &str = ::core::stringify!($name);
                const FIELDS: &[(&str, $crate::trace::Kind)] = &[
                    $( (::core::stringify!($field), <$ty as $crate::trace::Field>::KIND), )*
                ];
                const LEN: usize = $crate::trace::description_len(NAME, FIELDS);
                const BYTES: [u8; LEN] = $crate::trace::description(NAME, FIELDS);
                &BYTES
            };

            fn put<'a>(&'a self, data: &mut $crate::trace::Data<'a>) {
                $( $crate::trace::Field::put(&self.$field, data); )*
            }
        }
    )* };
}
