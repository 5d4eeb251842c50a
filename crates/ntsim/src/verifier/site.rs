//! Where in a driver's image code was when a rule was broken.

use std::ffi::{c_int, c_void};

use ndis_sys::wdm::DRIVER_OBJECT;

use crate::image::{Frame, Images, RBP, RBX};
use crate::world::{context, thread};

/// The unwinder's view of a frame.
#[repr(C)]
pub(crate) struct Unwound {
    _opaque: [u8; 0],
}

impl Unwound {
    /// For the function that is shown frames: it wants the next one.
    pub(crate) const GO_ON: c_int = 0;
    /// Likewise: it has seen enough.
    pub(crate) const STOP: c_int = 5;

    /// The address that a frame is at, and its stack pointer.
    ///
    /// # Safety
    /// The unwinder shows that frame.
    pub(crate) unsafe fn place(frame: *mut Unwound) -> (usize, usize) {
        let mut before = 0;
        // SAFETY: the caller's promise.
        unsafe {
            (
                _Unwind_GetIPInfo(frame, &raw mut before),
                _Unwind_GetCFA(frame),
            )
        }
    }
}

/// Shows a function the frames of this stack from here outwards, as far as the unwinder knows them, with an argument.
///
/// # Safety
/// The function may be called with the argument.
pub(crate) unsafe fn backtrace(
    show: unsafe extern "C" fn(*mut Unwound, *mut c_void) -> c_int,
    argument: *mut c_void,
) {
    // SAFETY: the caller's promise.
    unsafe { _Unwind_Backtrace(show, argument) };
}

unsafe extern "C" {
    // Of the unwinder that Rust's own panics use.
    fn _Unwind_Backtrace(
        trace: unsafe extern "C" fn(*mut Unwound, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(frame: *mut Unwound, before: *mut c_int) -> usize;
    fn _Unwind_GetCFA(frame: *mut Unwound) -> usize;
    fn _Unwind_GetGR(frame: *mut Unwound, register: c_int) -> usize;
}

/// More frames of the simulator than that lie between no driver and no rule.
const DEEPEST: usize = 256;
/// So many frames of images are shown.
const SHOWN: usize = 24;

/// What is known of where code runs that has broken a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site<'a> {
    /// The unwinder finds it.
    Unwind,
    /// It is there, or nowhere that could be told.
    At(Option<&'a Frame>),
}

struct Search<'a> {
    images: &'a Images,
    frames: usize,
    found: Option<Frame>,
}

/// # Safety
/// Called by the unwinder with a frame and a `Search`.
unsafe extern "C" fn look(frame: *mut Unwound, search: *mut c_void) -> c_int {
    // SAFETY: as given to `_Unwind_Backtrace`, and its frame.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    let mut before = 0;
    // SAFETY: as above. The registers are those that functions have to preserve in the simulator's own convention: the unwinder knows them
    // in each frame. Its canonical frame address is the caller's stack pointer, and the frame it shows is a caller's.
    let found = unsafe {
        let mut found = Frame {
            ip: _Unwind_GetIPInfo(frame, &raw mut before),
            // The call is what lies before the address to return to; an instruction that faulted is at the address itself.
            calls: before == 0,
            sp: _Unwind_GetCFA(frame),
            ..Frame::default()
        };
        // As instructions and as the unwinder number them.
        for (register, number) in [(RBX, 3), (RBP, 6), (12, 12), (13, 13), (14, 14), (15, 15)] {
            found.general[register] = Some(_Unwind_GetGR(frame, number));
        }
        found
    };
    search.frames += 1;
    if search.images.contains(found.address()) {
        search.found = Some(found);
        return Unwound::STOP;
    }
    if search.frames > DEEPEST {
        Unwound::STOP
    } else {
        Unwound::GO_ON
    }
}

/// Whether an address lies in the image of the driver on whose behalf code runs.
pub(super) fn is_own(images: &Images, address: usize) -> bool {
    own_image().is_some_and(|own| images.base_of(address) == Some(own))
}

/// The first frame of an image, if that is of the driver on whose behalf code runs.
pub(super) fn own_frame(images: &Images) -> Option<Frame> {
    own_image()?;
    unwind(images).filter(|frame| is_own(images, frame.address()))
}

/// The first frame of an image, looked for from the simulator's own outwards.
fn unwind(images: &Images) -> Option<Frame> {
    let mut search = Search {
        images,
        frames: 0,
        found: None,
    };
    // The unwinder knows the simulator's frames and linked drivers'. Of an image's it knows nothing: the first is the last that it shows.
    // SAFETY: the function takes what is given with it.
    unsafe { backtrace(look, (&raw mut search).cast()) };
    search.found
}

/// Who called the simulator and keeps something on the stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keeper {
    /// The addresses of the caller and of its callers, as far as they are in images.
    calls: Vec<usize>,
    /// Of the function in whose frame it lies: where its return address is, and what.
    pub(crate) returns: Option<(usize, usize)>,
}

/// Callers that a keeper is told with.
const KEEPERS: usize = 3;

impl Keeper {
    /// Of what lies at an address. For calls from images.
    pub(crate) fn of(address: usize) -> Keeper {
        Self::find(address).unwrap_or_default()
    }

    fn find(address: usize) -> Option<Keeper> {
        let machine = context::try_machine()?;
        let images = machine.ext::<Images>();
        let caller = own_frame(&images)?;
        Some(Keeper {
            calls: images.frames(caller, KEEPERS, &thread::stack_word),
            returns: images.owner(caller, address, &thread::stack_word),
        })
    }

    /// Where it called, as a debugger names it; empty if in no image.
    pub(crate) fn place(&self) -> String {
        let Some(machine) = context::try_machine() else {
            return String::new();
        };
        let images = machine.ext::<Images>();
        let places = self.calls.iter().filter_map(|at| images.describe(*at));
        places.collect::<Vec<_>>().join(", called from ")
    }
}

/// The place in a driver's image that called the simulator, as a debugger names it, and where it was called from, if the code that runs is on
/// behalf of that driver. Of images only: how linked code was called, the unwinder cannot tell from how it was entered.
pub(crate) fn called_from(site: Site<'_>) -> Vec<String> {
    let frames = frames(site).unwrap_or_default();
    if frames.is_empty() && site == Site::Unwind {
        return left().into_iter().collect();
    }
    frames
}

/// Without a frame on the stack: the function that the kernel called last, which may have left by jumping to the kernel's function, as the
/// last call of a function may be.
fn left() -> Option<String> {
    let (thread, target) = context::with(|c| c.callee.get());
    let here = context::with(|c| c.thread.get());
    let machine = context::try_machine()?;
    let images = machine.ext::<Images>();
    let own = is_own(&images, target.addr());
    let target = (own && thread == here).then(|| images.describe(target.addr()));
    Some(format!("{}, or where it has jumped to", target??))
}

/// Where the image lies of the driver on whose behalf code runs; None if that is linked.
fn own_image() -> Option<usize> {
    let machine = context::try_machine()?;
    let driver = machine.drivers.get(context::with(|c| c.driver.get()))?;
    let object = driver.object.get() as *const DRIVER_OBJECT;
    if object.is_null() {
        return None;
    }
    // SAFETY: the object lives as long as the driver is loaded.
    let start = unsafe { (*object).DriverStart };
    (!start.is_null()).then(|| start.addr())
}

fn frames(site: Site<'_>) -> Option<Vec<String>> {
    if !thread::on_thread() {
        return None;
    }
    let machine = context::try_machine()?;
    let images = machine.ext::<Images>();
    let innermost = match site {
        Site::Unwind => own_frame(&images)?,
        Site::At(frame) => *frame.filter(|frame| is_own(&images, frame.address()))?,
    };
    let frames = images.frames(innermost, SHOWN, &thread::stack_word);
    let described = frames.into_iter().filter_map(|at| images.describe(at));
    Some(described.collect())
}
