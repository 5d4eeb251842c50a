//! How long an object lives that many refer to, and the order of its last steps: the concurrent part of `object`.
//!
//! No Windows in here: the tests try every interleaving of this code (tests/lives.rs). What the parts mean to NDK is told in `object`.
#![allow(
    unsafe_code,
    reason = "objects live at addresses that the consumer holds; the count is what keeps them alive"
)]

use core::ptr::{self, NonNull};

use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

/// What [`Lives::quiesce`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// Nothing uses the object any more: finish it.
    Yes,
    /// Something outside (a frame in flight) does. The object got a new reference for it, before anybody could have dropped it.
    NotYet,
}

/// What became of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The object is gone.
    Now,
    /// [`Lives::closed`] will be called.
    Later,
}

/// Where objects wait for their turn.
pub trait Home {
    /// Objects that have something to tell or are to be finished.
    fn queue(&self) -> &Queue;

    /// Sees to it that [`Queue::call_out`] runs. IRQL: any up to DISPATCH_LEVEL, under any lock.
    fn call_soon(&self);
}

/// An object whose life is counted.
///
/// # Safety
/// `life` is always the same field, `of` finds the object again from it, and the home outlives the object.
pub unsafe trait Lives: Sized {
    /// Where it waits.
    type Home: Home;

    /// The count.
    fn life(&self) -> &Life;

    /// The object that this is the life of.
    ///
    /// # Safety
    /// It is that of an object of this type.
    unsafe fn of(life: NonNull<Life>) -> NonNull<Self>;

    /// Where it waits.
    fn home(&self) -> NonNull<Self::Home>;

    /// Close has begun: cancel what pends. Once, without locks.
    fn closing(&self);

    /// It was queued with [`tell`]: call the consumer. In [`Queue::call_out`], without locks.
    fn tell(&self);

    /// The last reference is gone: take the object out of every table. Without locks; called again if it answered [`Quiet::NotYet`] and
    /// the reference for that has been dropped.
    fn quiesce(&self) -> Quiet;

    /// Tell the consumer that it is closed. Once, the last call for this object.
    fn closed(&self);

    /// Drop what it refers to and free it.
    ///
    /// # Safety
    /// Nobody else knows the object any more.
    unsafe fn destroy(object: NonNull<Self>);
}

/// The count of an object's references, and its place in the queue.
pub struct Life {
    references: AtomicUsize,
    /// On the queue with a reference of its own.
    queued: AtomicBool,
    /// Close has been called.
    closing: AtomicBool,
    next: AtomicPtr<Life>,
    run: unsafe fn(NonNull<Life>),
}

impl Life {
    /// Of a new object: one reference, its handle.
    pub fn new<T: Lives>() -> Self {
        Self {
            references: AtomicUsize::new(1),
            queued: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            next: AtomicPtr::new(ptr::null_mut()),
            run: run::<T>,
        }
    }

    /// A new reference: for who has one, or for [`Lives::quiesce`].
    pub fn add_reference(&self) {
        self.references.fetch_add(1, Ordering::Relaxed);
    }

    /// True once the handle is being given up.
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Gives one reference back: true if it was the last, and the object is the caller's alone.
    fn drop_reference(&self) -> bool {
        if self.references.fetch_sub(1, Ordering::Release) != 1 {
            return false;
        }
        fence(Ordering::Acquire);
        true
    }
}

/// Gives up the handle. If that was the last reference the object is finished on the spot, and nobody is told. Without locks.
///
/// # Safety
/// The caller owns the handle.
pub unsafe fn close<T: Lives>(object: &T) -> Closed {
    object.life().closing.store(true, Ordering::Release);
    object.closing();
    if !object.life().drop_reference() || object.quiesce() == Quiet::NotYet {
        return Closed::Later;
    }
    // SAFETY: the handle was the last reference and quiesce left none behind.
    unsafe { T::destroy(NonNull::from(object)) };
    Closed::Now
}

/// Gives up the handle of an object that nobody is to be told of, under any lock: it is finished when the queue comes to it.
///
/// # Safety
/// The caller owns the handle.
pub unsafe fn close_later<T: Lives>(object: &T) {
    object.life().closing.store(true, Ordering::Release);
    // SAFETY: the handle is the caller's.
    unsafe { release(NonNull::from(object)) };
}

/// Drops one reference; the last one sends the object to the queue to be finished. Never calls out. Under any lock.
///
/// # Safety
/// The caller owns one reference and gives it up.
pub unsafe fn release<T: Lives>(object: NonNull<T>) {
    // SAFETY: alive, because the caller's reference is still counted.
    let this = unsafe { object.as_ref() };
    // The home outlives the object, which may be gone once the count is given back.
    let home = this.home();
    if !this.life().drop_reference() {
        return;
    }
    // SAFETY: the home is alive. Nobody holds a reference now, so this thread alone may touch the object; the queue takes it over.
    let home = unsafe { home.as_ref() };
    home.queue().push(NonNull::from(this.life()));
    home.call_soon();
}

/// Queues the object so that [`Lives::tell`] is called. Allowed anywhere, under any lock, also for an object found in a table that has
/// lost its last reference.
///
/// The caller sees to it that [`Queue::call_out`] runs.
pub fn tell<T: Lives>(object: &T) {
    let life = object.life();
    if life.queued.swap(true, Ordering::AcqRel) {
        return;
    }
    // Without a reference it waits to be taken out of the table. It has nothing to tell any more, and must not come back to life.
    let more = |count: usize| (count != 0).then(|| count + 1);
    match life
        .references
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, more)
    {
        // SAFETY: the home outlives the object.
        Ok(_) => unsafe { object.home().as_ref() }
            .queue()
            .push(NonNull::from(life)),
        Err(_) => life.queued.store(false, Ordering::Release),
    }
}

/// One turn of an object that was on the queue: tells, then finishes the object if that was the last reference.
///
/// # Safety
/// `life` belongs to a `T` taken from the queue.
unsafe fn run<T: Lives>(life: NonNull<Life>) {
    // SAFETY: by the contract of this function.
    let object = unsafe { T::of(life) };
    // SAFETY: an object on the queue is alive: it has a reference there, or none is left and it waits for us.
    let this = unsafe { object.as_ref() };
    if this.life().references.load(Ordering::Acquire) != 0 {
        // From here on the object may be queued again, for news that come while its consumer is being told the old.
        this.life().queued.store(false, Ordering::Release);
        this.tell();
        if !this.life().drop_reference() {
            return;
        }
    }
    if this.quiesce() == Quiet::NotYet {
        return;
    }
    this.closed();
    // SAFETY: no reference is left and quiesce left none behind.
    unsafe { T::destroy(object) };
}

/// Objects that have something to tell or are to be finished, in order of arrival. Lock-free, at any IRQL up to DISPATCH_LEVEL.
pub struct Queue {
    /// Newest first.
    head: AtomicPtr<Life>,
    /// Taken and not yet served, oldest first: older than all above. Only whoever calls out touches it.
    rest: AtomicPtr<Life>,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            rest: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// True if nothing has been queued since the last [`Queue::call_out`] that came to the end, or during it.
    pub fn is_empty(&self) -> bool {
        self.head.load(Ordering::SeqCst).is_null()
    }

    fn push(&self, life: NonNull<Life>) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the object is ours to queue: it has a reference for the queue, or none and nobody else touches it.
            unsafe { life.as_ref() }.next.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(
                head,
                life.as_ptr(),
                Ordering::SeqCst,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes everything, oldest first.
    fn take(&self) -> *mut Life {
        let mut newest = self.head.swap(ptr::null_mut(), Ordering::SeqCst);
        let mut oldest: *mut Life = ptr::null_mut();
        while let Some(life) = NonNull::new(newest) {
            // SAFETY: objects taken from the queue are alive and linked only here.
            newest = unsafe { life.as_ref() }
                .next
                .swap(oldest, Ordering::Relaxed);
            oldest = life.as_ptr();
        }
        oldest
    }

    /// Calls out for what is queued, up to `budget` objects: true if that was not all, or may not have been.
    ///
    /// Never twice at the same time. IRQL = DISPATCH_LEVEL, no lock held.
    pub fn call_out(&self, budget: usize) -> bool {
        let mut next = self.rest.swap(ptr::null_mut(), Ordering::Acquire);
        for _ in 0..budget {
            if next.is_null() {
                next = self.take();
            }
            let Some(life) = NonNull::new(next) else {
                return false;
            };
            // SAFETY: taken from the queue, so ours; the link is read before the object can be queued again or freed.
            next = unsafe { life.as_ref() }.next.load(Ordering::Relaxed);
            // SAFETY: as above; `run` was set for the object's own type.
            unsafe { (life.as_ref().run)(life) };
        }
        self.rest.store(next, Ordering::Release);
        true
    }
}
