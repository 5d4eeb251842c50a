//! Devices: they work beside the processors, whenever the world's loop gets to them.

use std::cell::RefCell;
use std::rc::Rc;

use super::Core;
use super::context::KernelMode;

/// A device that the loop looks at.
pub(crate) trait Device {
    /// Takes what drivers have queued for it. False if there was nothing.
    fn take(&self) -> bool;
    /// Gives drivers what has come for them. False if there was nothing.
    fn give(&self) -> bool;
}

/// A world's devices.
#[derive(Default)]
pub(crate) struct Devices(RefCell<Vec<Rc<dyn Device>>>);

impl Devices {
    fn get(&self, index: usize) -> Option<Rc<dyn Device>> {
        self.0.borrow().get(index).map(Rc::clone)
    }

    pub(super) fn clear(&self) {
        let devices = std::mem::take(&mut *self.0.borrow_mut());
        drop(devices);
    }
}

impl Core {
    /// Has the loop look at a device.
    pub(crate) fn add_device(&self, device: Rc<dyn Device>) {
        self.devices.0.borrow_mut().push(device);
    }

    /// Lets every device do what it has to do. False if there was nothing.
    pub(crate) fn run_devices(&self) -> bool {
        let _kernel = KernelMode::enter();
        let mut done = false;
        let mut index = 0;
        while let Some(device) = self.devices.get(index) {
            done |= device.take();
            index += 1;
        }
        index = 0;
        while let Some(device) = self.devices.get(index) {
            done |= device.give();
            index += 1;
        }
        done
    }
}
