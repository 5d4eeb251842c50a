//! UTF-16 strings.

use core::marker::PhantomData;

use crate::sys::wdm::UNICODE_STRING;

/// Turns an ASCII string into terminated UTF-16 at compile time. Use [`utf16!`](crate::utf16).
#[doc(hidden)]
pub const fn encode<const N: usize>(text: &str) -> [u16; N] {
    let bytes = text.as_bytes();
    assert!(bytes.len() + 1 == N);
    let mut units = [0; N];
    let mut i = 0;
    while i < bytes.len() {
        assert!(bytes[i].is_ascii());
        units[i] = bytes[i] as u16;
        i += 1;
    }
    units
}

/// A `&'static [u16; N]` with the ASCII text and a terminating zero.
#[macro_export]
macro_rules! utf16 {
    ($text:literal) => {{
        const UNITS: &[u16; $text.len() + 1] =
            &$crate::string::encode::<{ $text.len() + 1 }>($text);
        UNITS
    }};
}

/// A `UNICODE_STRING` that borrows its text. The kernel gets a pointer to it as a string to read.
#[derive(Clone, Copy)]
pub struct UnicodeString<'a> {
    raw: UNICODE_STRING,
    life: PhantomData<&'a [u16]>,
}

impl<'a> UnicodeString<'a> {
    /// A string of terminated UTF-16, as [`utf16!`](crate::utf16) makes it. More than 32766 units are cut off.
    pub fn new(units: &'a [u16]) -> Self {
        let len = units
            .iter()
            .position(|&unit| unit == 0)
            .unwrap_or(units.len());
        let bytes = |units: usize| u16::try_from(units.saturating_mul(2)).unwrap_or(u16::MAX - 1);
        Self {
            raw: UNICODE_STRING {
                Length: bytes(len),
                MaximumLength: bytes(units.len()),
                Buffer: units.as_ptr().cast_mut(),
            },
            life: PhantomData,
        }
    }

    /// For a function that reads the string.
    pub fn as_mut_ptr(&mut self) -> *mut UNICODE_STRING {
        &raw mut self.raw
    }
}

/// The units of a string of the kernel's.
///
/// # Safety
/// `string` is a valid counted string: `Length` bytes at `Buffer`, for `'a`.
pub unsafe fn units<'a>(string: &UNICODE_STRING) -> &'a [u16] {
    if string.Buffer.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(string.Buffer, usize::from(string.Length / 2)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_counted_without_its_terminator() {
        let mut string = UnicodeString::new(utf16!("*MTU"));
        // SAFETY: a string made above.
        let raw = unsafe { &*string.as_mut_ptr() };
        assert_eq!((raw.Length, raw.MaximumLength), (8, 10));
        // SAFETY: as above.
        assert_eq!(unsafe { units(raw) }, [0x2a, 0x4d, 0x54, 0x55]);
    }
}
