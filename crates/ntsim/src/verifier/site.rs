//! Where in a driver's image code was when a rule was broken.

use std::ffi::{c_int, c_void};

use ndis_sys::wdm::DRIVER_OBJECT;

use crate::image::Images;
use crate::world::{context, thread};

/// The unwinder's view of a frame.
#[repr(C)]
struct Frame {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    // Of the unwinder that Rust's own panics use.
    fn _Unwind_Backtrace(
        trace: unsafe extern "C" fn(*mut Frame, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(frame: *mut Frame, before: *mut c_int) -> usize;
}

const GO_ON: c_int = 0;
const STOP: c_int = 5;

/// More frames of the simulator than that lie between no driver and no rule.
const DEEPEST: usize = 256;

/// What is known of where code runs that has broken a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// The unwinder finds it.
    Unwind,
    /// Nothing: code has jumped to where none is, and there is nothing to unwind from.
    Unknown,
}

struct Search<'a> {
    images: &'a Images,
    frames: usize,
    found: Option<usize>,
}

/// # Safety
/// Called by the unwinder with a frame and a `Search`.
unsafe extern "C" fn look(frame: *mut Frame, search: *mut c_void) -> c_int {
    // SAFETY: as given to `_Unwind_Backtrace`, and its frame.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    let mut before = 0;
    // SAFETY: as above.
    let address = unsafe { _Unwind_GetIPInfo(frame, &raw mut before) };
    // The call is what lies before the address to return to; an instruction that faulted is at the address itself.
    let address = address.saturating_sub(usize::from(before == 0));
    search.frames += 1;
    if search.images.contains(address) {
        search.found = Some(address);
        return STOP;
    }
    if search.frames > DEEPEST { STOP } else { GO_ON }
}

/// The place in a driver's image that called the simulator, as a debugger names it, if the code that runs is on behalf of that driver.
/// Of images only: how linked code was called, the unwinder cannot tell from how it was entered.
pub(super) fn called_from(site: Site) -> Option<String> {
    if site == Site::Unknown || !thread::on_thread() {
        return None;
    }
    let machine = context::try_machine()?;
    let images = machine.ext::<Images>();
    let mut search = Search {
        images: &images,
        frames: 0,
        found: None,
    };
    // The unwinder knows the simulator's frames and linked drivers'. Of an image's it knows nothing: the first is the last that it shows.
    // SAFETY: the function takes what is given with it.
    unsafe { _Unwind_Backtrace(look, (&raw mut search).cast()) };
    let address = search.found?;
    let driver = machine.drivers.get(context::with(|c| c.driver.get()))?;
    let object = driver.object.get() as *const DRIVER_OBJECT;
    if object.is_null() {
        return None;
    }
    // SAFETY: the object lives as long as the driver is loaded.
    let base = unsafe { (*object).DriverStart }.addr();
    if images.base_of(address) != Some(base) {
        return None;
    }
    images.describe(address)
}
