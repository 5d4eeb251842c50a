//! An image in a machine's memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;

use super::configuration::{self, get, put};
use super::file::{Layout, Section};
use super::pageable::Pageable;
use super::runtime::Target;
use super::stubs::Stubs;
use super::unwind::{self, Frame, Stack};
use super::{Image, ImageError, runtime};
use crate::memory::arena::Protection;
use crate::memory::{PAGE, Ram};
use crate::verifier::Verify;
use crate::world::context;
use crate::world::machine::Machine;

/// An image that is mapped, relocated and bound. Its memory is given back by [`Images::unload`].
#[derive(Debug)]
pub(crate) struct Mapped {
    image: Image,
    base: usize,
    /// The offsets of the functions that may be called through pointers, if it has a table of them.
    targets: Option<Vec<u32>>,
    /// Its imports of the kernel's functions lead there.
    stubs: Stubs,
}

impl Mapped {
    /// Maps an image into new pages of a machine's memory. `random` becomes its stack cookie.
    pub(crate) fn new(image: &Image, ram: &Ram, random: u64) -> Result<Mapped, ImageError> {
        let layout = image.layout();
        let targets = resolve(layout)?;
        let stubs = Stubs::new(&targets).map_err(|_| ImageError::NoMemory)?;
        let pages = layout.size / PAGE;
        // One page more on either side stays inaccessible.
        let all = u32::try_from(pages + 2).map_err(|_| ImageError::NoMemory)?;
        let base = ram.alloc_image(all).ok_or(ImageError::NoMemory)? + PAGE;
        let mut mapped = Mapped {
            image: image.clone(),
            base,
            targets: None,
            stubs,
        };
        // SAFETY: the pages were free until now.
        let memory = unsafe { std::slice::from_raw_parts_mut(base as *mut u8, layout.size) };
        memory.fill(0);
        fill(memory, image);
        relocate(memory, layout, base);
        for (index, (import, target)) in layout.imports.iter().zip(&targets).enumerate() {
            let bound = match target.is_kernel {
                true => mapped.stubs.at(index).addr(),
                false => target.address,
            };
            put(memory, import.at, bound as u64);
        }
        match configuration::apply(memory, layout, base, random) {
            Ok(targets) => mapped.targets = targets,
            Err(error) => {
                ram.free_pages(base - PAGE, all);
                return Err(error);
            }
        }
        mapped.protect(ram);
        Ok(mapped)
    }

    /// The address of its entry point.
    pub(crate) fn entry(&self) -> usize {
        self.base + self.image.layout().entry
    }

    /// Where it lies.
    pub(crate) fn range(&self) -> Range<usize> {
        self.base..self.base + self.image.layout().size
    }

    fn section(&self, section: &Section) -> (usize, usize) {
        (self.base + section.at, section.size / PAGE)
    }

    fn protect(&self, ram: &Ram) {
        let layout = self.image.layout();
        ram.protect(
            self.base - PAGE,
            layout.size / PAGE + 2,
            Protection::Inaccessible,
        );
        ram.protect(
            self.base,
            layout.headers.div_ceil(PAGE),
            Protection::ReadOnly,
        );
        for section in &layout.sections {
            let (at, pages) = self.section(section);
            ram.protect(at, pages, section.protection());
        }
    }

    /// Takes away what the image needs only for its initialisation: its entry point has returned.
    pub(crate) fn discard(&self, machine: &Machine) {
        for section in &self.image.layout().sections {
            if section.discardable {
                let (at, pages) = self.section(section);
                machine.ext::<Pageable>().forget(&(at..at + 1));
                machine.ram.protect(at, pages, Protection::Inaccessible);
            }
        }
    }

    /// What may be paged out is, until it is accessed.
    fn make_pageable(&self, machine: &Machine) {
        let sections = &self.image.layout().sections;
        for section in sections.iter().filter(|s| s.pageable) {
            let (at, pages) = self.section(section);
            let what = format!(
                "the pageable section {} of {}",
                section.name.trim_end_matches('\0'),
                self.image.name()
            );
            let (range, protection) = (at..at + pages * PAGE, section.protection());
            let pageable = machine.ext::<Pageable>();
            pageable.add(&machine.ram, range, protection, what);
        }
    }

    fn free(&self, ram: &Ram) {
        let pages = self.image.layout().size / PAGE + 2;
        ram.protect(self.base - PAGE, pages, Protection::ReadWrite);
        ram.free_pages(self.base - PAGE, pages as u32);
    }

    /// An address in it, as a debugger would name it; without symbols, where it is in the image, and why there are none.
    fn describe(&self, address: usize) -> String {
        let (image, at) = (self.image.name(), address - self.base);
        let section = self.section_at(at);
        let known = self.image.symbols().map(|symbols| {
            let at = u32::try_from(at).ok()?;
            match section {
                Some(s) if s.executable => symbols.name(at),
                Some(_) => symbols.variable(at),
                None => None,
            }
        });
        let why = match known {
            Ok(Some(name)) => return format!("{image}!{name}"),
            Ok(None) => "",
            Err(why) => why,
        };
        let section = section.map_or("", |s| s.name.trim_end_matches('\0'));
        match [section, why].join("; ").trim_matches([';', ' ']) {
            "" => format!("{image}+{at:#x}"),
            more => format!("{image}+{at:#x} ({more})"),
        }
    }

    fn section_at(&self, at: usize) -> Option<&Section> {
        let sections = &self.image.layout().sections;
        sections.iter().find(|s| at.wrapping_sub(s.at) < s.size)
    }
}

impl Section {
    fn protection(&self) -> Protection {
        match (self.writable, self.executable) {
            (true, _) => Protection::ReadWrite,
            (false, true) => Protection::Execute,
            (false, false) => Protection::ReadOnly,
        }
    }
}

fn resolve(layout: &Layout) -> Result<Vec<Target>, ImageError> {
    let mut missing = Vec::new();
    let targets = layout
        .imports
        .iter()
        .map(|import| {
            let found = runtime::resolve(&import.module, &import.function);
            if found.is_none() {
                missing.push(format!("{}!{}", import.module, import.function));
            }
            found.unwrap_or_default()
        })
        .collect();
    if missing.is_empty() {
        Ok(targets)
    } else {
        Err(ImageError::Imports(missing))
    }
}

fn fill(memory: &mut [u8], image: &Image) {
    let (layout, bytes) = (image.layout(), image.bytes());
    memory[..layout.headers].copy_from_slice(&bytes[..layout.headers]);
    for section in &layout.sections {
        let contents = &bytes[section.contents.clone()];
        memory[section.at..][..contents.len()].copy_from_slice(contents);
    }
}

fn relocate(memory: &mut [u8], layout: &Layout, base: usize) {
    let delta = (base as u64).wrapping_sub(layout.base);
    for at in &layout.relocations {
        let address = get(memory, *at).wrapping_add(delta);
        put(memory, *at, address);
    }
}

/// How many unloaded images are remembered, their memory inaccessible: whoever still runs in one is found out.
const REMEMBERED: usize = 4;

/// The images in a machine's memory.
#[derive(Default)]
pub(crate) struct Images {
    loaded: RefCell<Vec<(Range<usize>, Mapped)>>,
    unloaded: RefCell<VecDeque<Mapped>>,
}

impl Images {
    /// Keeps an image that has been mapped in a machine's memory.
    pub(crate) fn add(&self, mut mapped: Mapped, machine: &Machine) {
        let range = mapped.range();
        if let Some(targets) = mapped.targets.take() {
            machine.guard.add(range.clone(), targets);
        }
        if context::core().verify == Verify::Full {
            mapped.make_pageable(machine);
        }
        self.loaded.borrow_mut().push((range, mapped));
    }

    /// The entry point of the image has returned: see [`Mapped::discard`].
    pub(crate) fn initialised(&self, base: usize, machine: &Machine) {
        let loaded = self.loaded.borrow();
        if let Some((_, mapped)) = loaded.iter().find(|(range, _)| range.start == base) {
            mapped.discard(machine);
        }
    }

    /// The driver is gone: nothing of the image can be accessed from here on.
    pub(crate) fn unload(&self, base: usize, machine: &Machine) {
        let ram = &machine.ram;
        let mut loaded = self.loaded.borrow_mut();
        let Some(index) = loaded.iter().position(|(range, _)| range.start == base) else {
            return;
        };
        let (range, mapped) = loaded.swap_remove(index);
        machine.guard.remove(base);
        machine.ext::<Pageable>().forget(&range);
        ram.protect(range.start, range.len() / PAGE, Protection::Inaccessible);
        let mut unloaded = self.unloaded.borrow_mut();
        unloaded.push_back(mapped);
        if unloaded.len() > REMEMBERED
            && let Some(oldest) = unloaded.pop_front()
        {
            oldest.free(ram);
        }
    }

    /// Whether an address lies in an image that is loaded.
    pub(crate) fn contains(&self, address: usize) -> bool {
        self.base_of(address).is_some()
    }

    /// The base of the loaded image that an address lies in.
    pub(crate) fn base_of(&self, address: usize) -> Option<usize> {
        let loaded = self.loaded.borrow();
        let (range, _) = loaded.iter().find(|(range, _)| range.contains(&address))?;
        Some(range.start)
    }

    /// Which build an address in a loaded image is of, and where it is in that.
    pub(crate) fn relative(&self, address: usize) -> Option<(u64, usize)> {
        let loaded = self.loaded.borrow();
        let (range, mapped) = loaded.iter().find(|(range, _)| range.contains(&address))?;
        Some((mapped.image.build(), address - range.start))
    }

    /// The build of the image that was loaded first of those that are.
    pub(crate) fn first(&self) -> Option<u64> {
        let loaded = self.loaded.borrow();
        loaded.first().map(|(_, mapped)| mapped.image.build())
    }

    /// The text of so many bytes at an address in the constants of a loaded image.
    pub(crate) fn text(&self, address: usize, len: usize) -> Option<String> {
        let loaded = self.loaded.borrow();
        let (range, mapped) = loaded.iter().find(|(range, _)| range.contains(&address))?;
        let at = address - range.start;
        let end = at.checked_add(len)?;
        let constant = |s: &&Section| !(s.writable || s.executable || s.discardable || s.pageable);
        let sections = &mapped.image.layout().sections;
        sections
            .iter()
            .filter(constant)
            .find(|s| s.at <= at && end <= s.at + s.size)?;
        // SAFETY: mapped, readable, and nobody writes there.
        let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, len) };
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    }

    /// The frame that a frame in a loaded image was called from; None where that cannot be told.
    fn caller(&self, frame: &Frame, stack: Stack<'_>) -> Option<Frame> {
        let loaded = self.loaded.borrow();
        let address = frame.address();
        let (range, mapped) = loaded.iter().find(|(range, _)| range.contains(&address))?;
        let at = u32::try_from(address - range.start).ok()?;
        let table = mapped.image.layout().exceptions;
        let caller = unwind::caller(&mapped.image, table, at, frame, stack)?;
        // Callers' frames lie above: so this comes to an end.
        (caller.sp > frame.sp).then_some(caller)
    }

    /// The addresses of a frame in a loaded image and of its callers, as far as they are in images without a break: `most` of them.
    pub(crate) fn frames(&self, innermost: Frame, most: usize, stack: Stack<'_>) -> Vec<usize> {
        let callers = std::iter::successors(Some(innermost), |frame| self.caller(frame, stack));
        callers
            .map(|frame| frame.address())
            .take_while(|address| self.contains(*address))
            .take(most)
            .collect()
    }

    /// Where the return address of the function lies in whose frame an address is, and what it is: when something else is there, the
    /// function has returned. `innermost` is a frame in a loaded image. None where that cannot be told.
    pub(crate) fn owner(
        &self,
        innermost: Frame,
        address: usize,
        stack: Stack<'_>,
    ) -> Option<(usize, usize)> {
        let mut frame = innermost;
        if address < frame.sp {
            return None;
        }
        loop {
            let caller = self.caller(&frame, stack)?;
            let slot = caller.sp.checked_sub(size_of::<usize>())?;
            if address < slot {
                return Some((slot, caller.ip));
            }
            frame = caller;
        }
    }

    /// What an address in an image is, if it is in one.
    pub(crate) fn describe(&self, address: usize) -> Option<String> {
        let place = self.describe_ever(address)?;
        if self.contains(address) {
            Some(place)
        } else {
            Some(format!("{place}, which is unloaded"))
        }
    }

    /// As [`Images::describe`], and it does not matter whether the image is still loaded.
    pub(crate) fn describe_ever(&self, address: usize) -> Option<String> {
        let loaded = self.loaded.borrow();
        if let Some((_, mapped)) = loaded.iter().find(|(range, _)| range.contains(&address)) {
            return Some(mapped.describe(address));
        }
        let unloaded = self.unloaded.borrow();
        let mapped = unloaded.iter().rfind(|m| m.range().contains(&address))?;
        Some(mapped.describe(address))
    }
}
