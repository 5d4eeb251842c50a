//! Room for what other parts of the simulator keep per machine or per world.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::rc::Rc;

/// One value of each type, made when first asked for.
#[derive(Default)]
pub(crate) struct Extensions(RefCell<Vec<(TypeId, Rc<dyn Any>)>>);

impl Extensions {
    /// The value of type `T`, default-constructed the first time.
    pub(crate) fn get<T: Default + 'static>(&self) -> Rc<T> {
        if let Some(value) = self.try_get::<T>() {
            return value;
        }
        let value = Rc::new(T::default());
        self.0
            .borrow_mut()
            .push((TypeId::of::<T>(), Rc::clone(&value) as Rc<dyn Any>));
        value
    }

    /// The value of type `T`, if somebody made one.
    pub(crate) fn try_get<T: 'static>(&self) -> Option<Rc<T>> {
        let values = self.0.borrow();
        let (_, value) = values.iter().find(|(id, _)| *id == TypeId::of::<T>())?;
        Rc::clone(value).downcast().ok()
    }

    /// Drops everything, last made first.
    pub(crate) fn clear(&self) {
        loop {
            let last = self.0.borrow_mut().pop();
            if last.is_none() {
                break;
            }
        }
    }
}
