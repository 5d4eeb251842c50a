//! The drivers of a machine.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::context;
use super::machine::Machine;

/// Drivers are numbered from 1; 0 means the kernel itself.
pub(crate) type DriverNumber = u32;

/// Driver code that belongs to no driver: a test's.
pub(crate) const UNNAMED: DriverNumber = u32::MAX;

/// A driver of a machine.
pub(crate) struct Driver {
    pub(crate) number: DriverNumber,
    pub(crate) name: String,
    /// Address of its DRIVER_OBJECT.
    pub(crate) object: Cell<usize>,
    /// Started and not unloaded.
    pub(crate) loaded: Cell<bool>,
}

/// All drivers that a machine has had.
#[derive(Default)]
pub(crate) struct Drivers(RefCell<Vec<Rc<Driver>>>);

impl Drivers {
    pub(crate) fn add(&self, name: &str) -> Rc<Driver> {
        let mut drivers = self.0.borrow_mut();
        let driver = Rc::new(Driver {
            number: drivers.len() as u32 + 1,
            name: name.to_owned(),
            object: Cell::new(0),
            loaded: Cell::new(false),
        });
        drivers.push(Rc::clone(&driver));
        driver
    }

    pub(crate) fn get(&self, number: DriverNumber) -> Option<Rc<Driver>> {
        let index = (number as usize).checked_sub(1)?;
        self.0.borrow().get(index).map(Rc::clone)
    }

    /// The name of the driver of that number, also in the middle of adding one.
    pub(crate) fn name_of(&self, number: DriverNumber) -> Option<String> {
        let index = (number as usize).checked_sub(1)?;
        let drivers = self.0.try_borrow().ok()?;
        Some(drivers.get(index)?.name.clone())
    }

    /// The driver with that DRIVER_OBJECT.
    pub(crate) fn by_object(&self, object: usize) -> Option<Rc<Driver>> {
        self.0
            .borrow()
            .iter()
            // The newest: an object may be where that of an unloaded driver was.
            .rfind(|d| d.object.get() == object)
            .map(Rc::clone)
    }

    pub(crate) fn clear(&self) {
        let drivers = std::mem::take(&mut *self.0.borrow_mut());
        drop(drivers);
    }
}

/// Charges what happens to a driver until dropped.
pub(crate) struct Charged(DriverNumber);

impl Charged {
    pub(crate) fn to(driver: DriverNumber) -> Charged {
        Charged(context::with(|c| {
            let caller = c.driver.replace(driver);
            c.caller.set(caller);
            caller
        }))
    }
}

impl Driver {
    /// Makes this the driver on whose behalf code runs until the guard is dropped. Whoever calls into a driver
    /// does this first if it knows which driver it calls.
    pub(crate) fn charge(&self) -> Charged {
        Charged::to(self.number)
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        context::with(|c| c.driver.set(self.0));
    }
}

impl Machine {
    /// The driver on whose behalf code runs; if nobody said, the first one loaded, or none by name.
    pub(crate) fn charged_driver(&self) -> DriverNumber {
        match context::with(|c| c.driver.get()) {
            0 => self
                .drivers
                .0
                .borrow()
                .iter()
                .find(|d| d.loaded.get())
                .map_or(UNNAMED, |d| d.number),
            number => number,
        }
    }
}
