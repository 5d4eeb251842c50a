//! Where in images kernel functions were called from, kept for reports that come later.

use std::cell::RefCell;
use std::collections::HashMap;

use super::site;
use crate::image::{Frame, Images, RBP};
use crate::world::{Core, context, thread};

/// So many callers are kept: enough to get out of a driver's own wrappers.
const DEPTH: usize = 8;

type Places = [usize; DEPTH];

/// The place in an image that called a kernel function, and its callers. One word: cheap to keep, equal where the places are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin(u32);

/// The places of a world.
#[derive(Default)]
pub(crate) struct Origins {
    numbers: RefCell<HashMap<Places, u32>>,
    places: RefCell<Vec<Places>>,
}

impl Origins {
    fn number(&self, places: Places) -> Origin {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.entry(places).or_insert_with(|| {
            let mut all = self.places.borrow_mut();
            all.push(places);
            // 0 is for none.
            all.len() as u32
        });
        Origin(*number)
    }
}

/// The address that the kernel function which runs now returns to in an image; 0 if no image called it. Whose image it is, is not asked.
#[inline]
pub(crate) fn caller() -> usize {
    match context::with(|c| c.import.stack.get()) {
        0 => 0,
        sp => thread::stack_word(sp).unwrap_or(0),
    }
}

/// The caller's frame, if the driver on whose behalf code runs is an image and called.
fn frame(images: &Images) -> Option<Frame> {
    let (sp, bp) = context::with(|c| (c.import.stack.get(), c.import.base.get()));
    let mut frame = Frame {
        sp,
        ..Frame::default()
    };
    frame.general[RBP] = Some(bp);
    // Of this thread's stack only.
    let frame = frame.returned(&thread::stack_word)?;
    site::is_own(images, frame.address()).then_some(frame)
}

fn find(frame: impl FnOnce(&Images) -> Option<Frame>) -> Option<Origin> {
    let _kernel = context::KernelMode::enter();
    let images = context::try_machine()?.ext::<Images>();
    let mut places = [0; DEPTH];
    let frames = images.frames(frame(&images)?, DEPTH, &thread::stack_word);
    for (place, address) in places.iter_mut().zip(frames) {
        *place = address;
    }
    Some(context::try_core()?.verifier.origins.number(places))
}

/// The places in the image that called the kernel function which runs now, `most` of them, innermost first; none if no image did.
pub(crate) fn path(images: &Images, most: usize) -> Vec<usize> {
    let _kernel = context::KernelMode::enter();
    let innermost = match context::with(|c| c.import.stack.get()) {
        // A function of a dispatch table is no import.
        0 if thread::on_thread() => site::own_frame(images),
        0 => None,
        _ => frame(images),
    };
    innermost.map_or_else(Vec::new, |frame| {
        images.frames(frame, most, &thread::stack_word)
    })
}

impl Origin {
    /// Of the kernel function that runs now; that of nothing if no image called it.
    #[inline]
    pub(crate) fn here() -> Origin {
        match context::with(|c| c.import.stack.get()) {
            0 => Origin::default(),
            _ => find(frame).unwrap_or_default(),
        }
    }

    /// As [`Origin::here`], also where the driver called what is no import of its: a function of a dispatch table. That takes long.
    pub(crate) fn looked_for() -> Origin {
        match Origin::here() {
            Origin(0) if thread::on_thread() => find(site::own_frame).unwrap_or_default(),
            here => here,
        }
    }

    /// The place and its callers, a line each, as a debugger names them; `how` comes before the place.
    pub(crate) fn told(self, how: &str) -> String {
        let Some(core) = context::try_core() else {
            return String::new();
        };
        let places = core.verifier.origins.places.borrow();
        let index = (self.0 as usize).checked_sub(1);
        let places = index.and_then(|index| places.get(index)).copied();
        let mut text = String::new();
        for address in places.into_iter().flatten().take_while(|at| *at != 0) {
            let Some(place) = describe(&core, address) else {
                break;
            };
            let before = if text.is_empty() {
                how
            } else {
                "  called from"
            };
            text += &format!("\n    {before} {place}");
        }
        text
    }
}

/// An address in an image of any machine, as a debugger names it; the image may have been unloaded since.
pub(crate) fn describe(core: &Core, address: usize) -> Option<String> {
    let machines = core.machines.borrow();
    machines
        .iter()
        .find_map(|m| m.ext::<Images>().describe_ever(address))
}

/// ` in PLACE` for an address that a kernel function returned to, if that lies in the image of the driver on whose behalf code runs.
pub(crate) fn at(return_address: usize) -> String {
    let place = || {
        let machine = context::try_machine()?;
        let images = machine.ext::<Images>();
        let call = return_address.checked_sub(1)?;
        let own = site::is_own(&images, call);
        own.then(|| images.describe(call)).flatten()
    };
    place().map_or_else(String::new, |place| format!(" in {place}"))
}
