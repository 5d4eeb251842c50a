//! Events for event tracing (ETW), which describe themselves (TraceLogging).
//!
//! A [`Provider`] belongs to a driver object, not to the driver's code: what sessions want of it is in itself. Events are types, made with
//! [`events!`](crate::events); what they are called and what fields they have is put together when they are compiled. An event that no
//! session wants costs two loads and a comparison: what it is made of is not looked at.

mod event;

use core::ffi::c_void;
use core::ptr::null;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::Shared;
use crate::irql::Passive;
use crate::status::NoMemory;
use crate::sys;
use crate::sys::wdm::{
    EVENT_CONTROL_CODE_DISABLE_PROVIDER, EVENT_CONTROL_CODE_ENABLE_PROVIDER,
    EventProviderSetTraits, GUID, TRACE_LEVEL_ERROR, TRACE_LEVEL_INFORMATION, TRACE_LEVEL_VERBOSE,
    TRACE_LEVEL_WARNING,
};

pub use event::{Address, Bytes, Data, Event, Field, Kind, Text};
#[doc(hidden)]
pub use event::{description, description_len, descriptor};

/// How urgent an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// Something failed that should not.
    Error = TRACE_LEVEL_ERROR,
    /// Something went wrong, as things may.
    Warning = TRACE_LEVEL_WARNING,
    /// Something happened.
    Information = TRACE_LEVEL_INFORMATION,
    /// Detail.
    Verbose = TRACE_LEVEL_VERBOSE,
}

/// A provider's name as its metadata has it. Use [`provider_name!`](crate::provider_name).
#[derive(Clone, Copy, Debug)]
pub struct Name(#[doc(hidden)] pub &'static [u8]);

/// The [`Name`] of an ASCII literal.
#[macro_export]
macro_rules! provider_name {
    ($text:literal) => {{
        const LEN: usize = 2 + $text.len() + 1;
        const BYTES: [u8; LEN] = $crate::trace::name($text);
        $crate::trace::Name(&BYTES)
    }};
}

/// The metadata of a provider: its length, its name.
#[doc(hidden)]
pub const fn name<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let text = text.as_bytes();
    assert!(N == 2 + text.len() + 1 && N <= u16::MAX as usize);
    let [low, high] = (N as u16).to_le_bytes();
    bytes[0] = low;
    bytes[1] = high;
    let mut i = 0;
    while i < text.len() {
        bytes[2 + i] = text[i];
        i += 1;
    }
    bytes
}

/// A provider of events, registered for as long as it lives. Dropped at PASSIVE_LEVEL.
#[derive(Debug)]
pub struct Provider {
    name: Name,
    /// Zero: not registered.
    handle: u64,
    wanted: Shared<Wanted>,
}

/// What sessions want. Apart from the provider, because the kernel may come with news until the registration has ended, which is while
/// the provider is being dropped.
#[derive(Debug)]
struct Wanted {
    /// One more than the least urgent level that a session wants; zero: there is none.
    levels: AtomicU32,
    any: AtomicU64,
    all: AtomicU64,
}

impl Provider {
    /// Registers a provider and says who it is. If either fails, its events go nowhere: nothing depends on them.
    ///
    /// # Errors
    /// [`NoMemory`] for the provider itself.
    pub fn register(id: &GUID, name: Name, _: Passive) -> Result<Shared<Self>, NoMemory> {
        let wanted = Shared::try_new(Wanted {
            levels: AtomicU32::new(0),
            any: AtomicU64::new(0),
            all: AtomicU64::new(0),
        })?;
        let mut provider = Self {
            name,
            handle: 0,
            wanted,
        };
        let mut handle = 0;
        let context = Shared::as_ptr(&provider.wanted).cast_mut().cast();
        // SAFETY: what is wanted stays at its address until the provider's `drop` has ended the registration; the token says this is
        // PASSIVE_LEVEL.
        let status = unsafe { sys::EtwRegister(id, Some(enable), context, &raw mut handle) };
        if status >= 0 {
            // Only of a provider with traits does the kernel look at what a piece of an event is: without them, descriptions are taken for
            // data, and nobody can read the events.
            // SAFETY: registered just now; the name is not written.
            let status = unsafe {
                sys::EtwSetInformation(
                    handle,
                    EventProviderSetTraits,
                    name.0.as_ptr().cast_mut().cast(),
                    name.0.len() as u32,
                )
            };
            if status >= 0 {
                provider.handle = handle;
            } else {
                // SAFETY: registered just now. `enable` is not called any more afterwards.
                let _ = unsafe { sys::EtwUnregister(handle) };
                provider.wanted.levels.store(0, Ordering::Relaxed);
            }
        }
        // Without memory it is dropped, and its registration ends.
        Shared::try_new(provider)
    }

    /// Whether a session wants such events. IRQL: any.
    #[inline(always)]
    pub fn wants(&self, level: Level, keyword: u64) -> bool {
        (level as u32) < self.wanted.levels.load(Ordering::Relaxed) && self.wants_keyword(keyword)
    }

    #[cold]
    fn wants_keyword(&self, keyword: u64) -> bool {
        let any = self.wanted.any.load(Ordering::Relaxed);
        let all = self.wanted.all.load(Ordering::Relaxed);
        keyword == 0 || (keyword & any != 0 && keyword & all == all)
    }

    /// Writes an event if a session wants it. No lock is taken, nobody is called back, nothing is allocated. IRQL: any.
    #[inline(always)]
    pub fn write<E: Event>(&self, make: impl FnOnce() -> E) {
        if self.wants(E::LEVEL, E::KEYWORD) {
            self.write_now(make);
        }
    }

    /// Out of line, so that an event costs no stack where it is not wanted.
    #[cold]
    #[inline(never)]
    fn write_now<E: Event>(&self, make: impl FnOnce() -> E) {
        let event = make();
        let mut data = Data::new(self.name.0, E::DESCRIPTION);
        event.put(&mut data);
        let pieces = data.pieces();
        // SAFETY: the handle is that of a registration that this provider keeps; descriptor, pieces and what they point at live across the
        // call, in memory that is never paged: this image's, and this stack.
        // A failure is of no consequence here; sessions count the events that they lose.
        let _ = unsafe {
            sys::EtwWriteTransfer(
                self.handle,
                &E::DESCRIPTOR,
                null(),
                null(),
                pieces.len() as u32,
                pieces.as_mut_ptr(),
            )
        };
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if self.handle != 0 {
            // SAFETY: registered once; whoever drops a provider is at PASSIVE_LEVEL. The callback is not called any more afterwards, and
            // only then is what it works on dropped.
            let _ = unsafe { sys::EtwUnregister(self.handle) };
        }
    }
}

/// The kernel says what sessions want, taken together: within `EtwRegister` and later. IRQL: PASSIVE_LEVEL.
unsafe extern "efiapi" fn enable(
    _source: *const GUID,
    code: u32,
    level: u8,
    any: u64,
    all: u64,
    _filter: *mut c_void,
    context: *mut c_void,
) {
    // SAFETY: what is wanted of a provider that is registered, or is about to be; nobody has it exclusively before that has ended.
    let wanted = unsafe { &*context.cast_const().cast::<Wanted>() };
    match code {
        EVENT_CONTROL_CODE_ENABLE_PROVIDER => {
            // Zero asks for everything, of either; the kernel looks again for each session.
            let any = if any == 0 { u64::MAX } else { any };
            wanted.any.store(any, Ordering::Relaxed);
            wanted.all.store(all, Ordering::Relaxed);
            let level = if level == 0 { u8::MAX } else { level };
            wanted.levels.store(u32::from(level) + 1, Ordering::Relaxed);
        }
        EVENT_CONTROL_CODE_DISABLE_PROVIDER => wanted.levels.store(0, Ordering::Relaxed),
        // There is no state to capture.
        _ => {}
    }
}

#[cfg(test)]
mod tests;
