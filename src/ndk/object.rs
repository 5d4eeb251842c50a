//! The lifetime of NDK objects: one mechanism for all ten kinds (page "NDKPI Object Lifetime Requirements").
//!
//! Every object carries one count. Four kinds of holder contribute to it:
//!
//! 1. the consumer's open handle, from creation until close is called;
//! 2. a provider call that still needs the object after it called out;
//! 3. each pending request, each event callback that is due or running, and hardware that still uses the object's memory;
//! 4. each live successor (a connector holds its QP, a QP its PD and CQs, and so on).
//!
//! Close drops the first. Whoever drops the last finishes the object: its CloseCompletion is called, and only after that callback
//! returned are the object's own references to its antecedents dropped, simply because they are fields of the body. So an
//! antecedent's CloseCompletion can never run while a successor's is still executing.
//!
//! **Nothing here calls out under a lock, and dropping a reference never calls out at all.** A [`Ref`] may therefore be dropped
//! anywhere, under the port's lock too: an object that loses its last reference that way is put on the
//! [`Queue`](super::life::Queue), whose owner runs the callbacks from a DPC. The one exception is close itself: if the handle was
//! the last reference, close finishes the object on the spot and answers STATUS_SUCCESS without a callback.
//!
//! The same queue carries objects which have something to tell their consumer (a request completion, an event): [`tell`] puts an
//! object there with a reference of its own, and the DPC calls [`Kind::tell`]. An object is on the queue at most once.
//!
//! The count and the queue are in [`life`]; here is what NDK has to do with it.
#![allow(
    unsafe_code,
    reason = "objects live at addresses that the consumer holds; the count is what keeps them alive"
)]

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::marker::PhantomData;
use core::mem::offset_of;
use core::ops::Deref;
use core::ptr::NonNull;

use ndis_sys::status::{STATUS_NOT_SUPPORTED, STATUS_PENDING, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_FN_CLOSE_COMPLETION, NDK_FN_REQUEST_COMPLETION, NDK_OBJECT_HEADER, NDK_OBJECT_TYPE,
    NDK_VERSION,
};

use super::life::{self, Closed, Life, Lives};
use super::port::Port;

pub use super::life::Quiet;

/// An opaque pointer of the consumer, handed back to it unread.
#[derive(Clone, Copy, Debug)]
pub struct Context(pub *mut c_void);

// SAFETY: the provider never dereferences it; it is a number to us.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

/// One kind of NDK object: what is particular to it besides its lifetime.
pub trait Kind: Send + Sync + Sized + 'static {
    /// The part that the consumer sees: `NDK_CQ` and so on. Comes first in memory, so that its address is the object's.
    type Raw;

    /// The consumer's part of a new object: header with version and type, reserved words zero, dispatch table.
    fn raw(version: NDK_VERSION) -> Self::Raw;

    /// Close was called: cancel what pends. Called once, without locks, IRQL <= DISPATCH_LEVEL.
    fn closing(_object: &Object<Self>) {}

    /// The last reference is gone: take the object out of every table. Called without locks, IRQL <= DISPATCH_LEVEL; called again
    /// if it answered [`Quiet::NotYet`] and the reference it took has been dropped.
    fn quiesce(_object: &Object<Self>) -> Quiet {
        Quiet::Yes
    }

    /// The object was queued with [`tell`]: gather under the lock what the consumer must hear, then call it without the lock.
    /// IRQL = DISPATCH_LEVEL, in the queue owner's DPC.
    fn tell(_object: &Object<Self>) {}
}

/// An NDK object. Reached by the consumer through the address of its first field.
#[repr(C)]
pub struct Object<K: Kind> {
    /// Belongs to the layer above once the object is handed out: neither NdkReserved nor Dispatch is read or written again.
    raw: UnsafeCell<K::Raw>,
    life: Life,
    /// Written by close before it drops the handle, read by whoever drops the last reference.
    completion: UnsafeCell<Option<(NDK_FN_CLOSE_COMPLETION, Context)>>,
    port: NonNull<Port>,
    version: NDK_VERSION,
    body: K,
}

// SAFETY: `raw` is never accessed after construction, the close protocol orders access to `completion`, the port is shared, and the body
// is Sync by the bound on Kind.
unsafe impl<K: Kind> Sync for Object<K> {}
// SAFETY: as above; the body is Send.
unsafe impl<K: Kind> Send for Object<K> {}

impl<K: Kind> Object<K> {
    /// Makes an object with one reference, the consumer's handle. None if there is no memory. IRQL <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `port` stays valid until every object made for it is finished.
    pub unsafe fn try_new(
        port: NonNull<Port>,
        version: NDK_VERSION,
        body: K,
    ) -> Result<NonNull<Self>, K> {
        let layout = Layout::new::<Self>();
        // SAFETY: the layout is not of size zero: Object holds a count at the least.
        let Some(place) = NonNull::new(unsafe { alloc(layout) }.cast::<Self>()) else {
            return Err(body);
        };
        let object = Self {
            raw: UnsafeCell::new(K::raw(version)),
            life: Life::new::<Self>(),
            completion: UnsafeCell::new(None),
            port,
            version,
            body,
        };
        // SAFETY: freshly allocated with this layout.
        unsafe { place.write(object) };
        Ok(place)
    }

    /// Makes an object that belongs to the same port and has the same version as this one. IRQL <= DISPATCH_LEVEL.
    pub fn try_new_child<C: Kind>(&self, body: C) -> Result<&'static Object<C>, C> {
        // SAFETY: the port outlives this object, by the promise given when it was made, and all others of the port.
        let child = unsafe { Object::try_new(self.port, self.version, body) }?;
        // SAFETY: new, and alive until its handle is given up, which is up to the caller or to whom he hands it.
        Ok(unsafe { child.as_ref() })
    }

    /// The object behind a pointer that a consumer passed.
    ///
    /// # Safety
    /// `raw` came from this provider as an object of this kind, and the caller guarantees, as NDKPI demands of a consumer, that
    /// its close has not completed before the end of `'a`.
    pub unsafe fn from_raw<'a>(raw: *mut K::Raw) -> &'a Self {
        // SAFETY: the raw part is the first field of the object; alive by the caller's promise.
        unsafe { &*raw.cast::<Self>() }
    }

    /// The pointer that the consumer gets.
    pub fn as_raw(&self) -> *mut K::Raw {
        self.raw.get()
    }

    /// A new reference.
    pub fn reference(&self) -> Ref<K> {
        self.life.add_reference();
        Ref {
            object: NonNull::from(self),
            owns: PhantomData,
        }
    }

    /// The port to which the object belongs.
    pub fn port(&self) -> &Port {
        // SAFETY: try_new demands that the port outlives its objects.
        unsafe { self.port.as_ref() }
    }

    /// The NDK version with which the adapter was opened.
    pub fn version(&self) -> NDK_VERSION {
        self.version
    }

    /// True once close was called.
    pub fn is_closing(&self) -> bool {
        self.life.is_closing()
    }
}

// SAFETY: `life` is the field at the offset that `of` uses; `try_new` demands that the port outlives its objects.
unsafe impl<K: Kind> Lives for Object<K> {
    type Home = Port;

    fn life(&self) -> &Life {
        &self.life
    }

    unsafe fn of(life: NonNull<Life>) -> NonNull<Self> {
        // SAFETY: `life` is the field of an Object<K> at this offset.
        unsafe { life.byte_sub(offset_of!(Self, life)) }.cast()
    }

    fn home(&self) -> NonNull<Port> {
        self.port
    }

    fn closing(&self) {
        K::closing(self);
    }

    fn tell(&self) {
        K::tell(self);
    }

    fn quiesce(&self) -> Quiet {
        K::quiesce(self)
    }

    fn closed(&self) {
        // SAFETY: no reference is left, so nobody else touches the cell.
        if let Some((completion, context)) = unsafe { *self.completion.get() } {
            // SAFETY: the consumer's callback with the consumer's context, called once, the last one for this object.
            unsafe { completion(context.0) };
        }
    }

    /// Drops the body, with it the references to the antecedents, and frees the memory.
    unsafe fn destroy(object: NonNull<Self>) {
        // SAFETY: valid, and never touched again.
        unsafe { object.drop_in_place() };
        // SAFETY: allocated in try_new with the same layout.
        unsafe { dealloc(object.as_ptr().cast(), Layout::new::<Self>()) };
    }
}

impl<K: Kind> Deref for Object<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.body
    }
}

/// A counted reference to an object. Dropping it never calls out (see the module).
pub struct Ref<K: Kind> {
    object: NonNull<Object<K>>,
    owns: PhantomData<Object<K>>,
}

// SAFETY: a reference is a shared pointer to an object that is Send and Sync.
unsafe impl<K: Kind> Send for Ref<K> {}
// SAFETY: as above.
unsafe impl<K: Kind> Sync for Ref<K> {}

impl<K: Kind> Clone for Ref<K> {
    fn clone(&self) -> Self {
        self.reference()
    }
}

impl<K: Kind> Deref for Ref<K> {
    type Target = Object<K>;

    fn deref(&self) -> &Object<K> {
        // SAFETY: the reference keeps the object alive.
        unsafe { self.object.as_ref() }
    }
}

impl<K: Kind> Drop for Ref<K> {
    fn drop(&mut self) {
        // SAFETY: the object is alive until this reference, counted here, is given back.
        unsafe { life::release(self.object) };
    }
}

/// The close function of every kind: NDK_FN_CLOSE_OBJECT.
///
/// STATUS_SUCCESS if the object is gone and no callback follows; otherwise STATUS_PENDING, and `completion` is called once, from
/// a DPC, when everything that still needs the object has let go of it. Never fails, whatever other statuses the page of
/// NdkCloseObject lists (decision X-03). IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// `header` is an object of kind `K` of this provider whose close was not called before.
pub unsafe extern "efiapi" fn close<K: Kind>(
    header: *mut NDK_OBJECT_HEADER,
    completion: NDK_FN_CLOSE_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: by the caller's promise; the handle's reference keeps it alive until it is dropped below.
    let object = unsafe { Object::<K>::from_raw(header.cast()) };
    // SAFETY: close is called once, and nobody reads the cell before the last reference is dropped, which is after this.
    unsafe { *object.completion.get() = Some((completion, Context(context))) };
    // SAFETY: as above: this is the consumer giving up its handle.
    match unsafe { life::close(object) } {
        Closed::Now => STATUS_SUCCESS,
        Closed::Later => STATUS_PENDING,
    }
}

/// Gives up the handle of an object that the provider made but did not hand out after all, though others refer to it by now.
/// Nothing is called when it is finished. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The caller owns the handle and gives it up.
pub unsafe fn abandon<K: Kind>(object: &Object<K>) {
    // SAFETY: by the caller's promise.
    unsafe { life::close(object) };
}

/// Takes back an object that was never handed to a consumer. No callback. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The object is new: the handle is its only reference, and it is in no table.
pub unsafe fn discard<K: Kind>(object: &Object<K>) {
    // SAFETY: by the caller's promise nobody else knows it.
    unsafe { Object::destroy(NonNull::from(object)) };
}

/// As [`discard`], but allowed under the port's lock: the object goes when the port's DPC comes to it.
///
/// # Safety
/// As for [`discard`].
pub unsafe fn discard_later<K: Kind>(object: &Object<K>) {
    // SAFETY: the handle is the caller's.
    unsafe { life::close_later(object) };
}

/// Queues the object so that [`Kind::tell`] runs in the port's DPC. Allowed anywhere, under the port's lock too.
///
/// The caller sees to it that the DPC runs: whoever holds the port's lock does so when it lets go of it.
pub fn tell<K: Kind>(object: &Object<K>) {
    life::tell(object);
}

/// Something outside still uses an object that has lost its last reference: gives it one. For [`Kind::quiesce`], under the port's
/// lock, before it answers [`Quiet::NotYet`].
pub fn hold_for_hardware<K: Kind>(object: &Object<K>) {
    object.life.add_reference();
}

/// Gives back what [`hold_for_hardware`] took. Allowed under the port's lock.
///
/// # Safety
/// Called once for each [`hold_for_hardware`].
pub unsafe fn hardware_done<K: Kind>(object: &Object<K>) {
    // SAFETY: by the caller's promise this reference is ours to give back.
    unsafe { life::release(NonNull::from(object)) };
}

/// A pointer to an object in one of the port's tables. It keeps nothing alive: the object takes itself out of the table, under the
/// port's lock, before its memory goes.
pub struct Listed<K: Kind>(NonNull<Object<K>>);

// SAFETY: a shared pointer to an object that is Send and Sync.
unsafe impl<K: Kind> Send for Listed<K> {}
// SAFETY: as above.
unsafe impl<K: Kind> Sync for Listed<K> {}

impl<K: Kind> Listed<K> {
    /// An entry for a table under the port's lock.
    ///
    /// # Safety
    /// The object removes the entry under the lock before it is destroyed, and [`Listed::get`] is called only under the lock.
    pub unsafe fn new(object: &Object<K>) -> Self {
        Self(NonNull::from(object))
    }

    /// The object. It may have lost its last reference already; see [`tell`].
    pub fn get(&self) -> &Object<K> {
        // SAFETY: in the table, hence alive, by the promise given to `new`.
        unsafe { self.0.as_ref() }
    }
}

/// A pending request of a consumer. Keeps its object alive until the completion callback has returned.
pub struct Request<K: Kind> {
    completion: NDK_FN_REQUEST_COMPLETION,
    context: Context,
    hold: Ref<K>,
}

impl<K: Kind> Request<K> {
    /// Notes whom to tell.
    pub fn new(
        object: &Object<K>,
        completion: NDK_FN_REQUEST_COMPLETION,
        context: *mut c_void,
    ) -> Self {
        Self {
            completion,
            context: Context(context),
            hold: object.reference(),
        }
    }

    /// The object it was asked of.
    pub fn object(&self) -> &Object<K> {
        &self.hold
    }

    /// Tells the consumer. No lock held; IRQL <= DISPATCH_LEVEL.
    pub fn complete(self, status: NTSTATUS) {
        // SAFETY: the consumer's callback with the consumer's context; `self` is consumed, so it is called once.
        unsafe { (self.completion)(self.context.0, status) };
        // Only now may the object be finished.
        drop(self.hold);
    }
}

/// The header of a new object: the version with which the adapter was opened, the type, reserved words zero.
pub fn header(version: NDK_VERSION, object_type: NDK_OBJECT_TYPE) -> NDK_OBJECT_HEADER {
    NDK_OBJECT_HEADER {
        Version: version,
        ObjectType: object_type,
        ..NDK_OBJECT_HEADER::ZEROED
    }
}

/// NdkQueryExtension of every kind: there are no extensions. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// None: the parameters are not looked at.
pub unsafe extern "efiapi" fn query_extension(
    _object: *mut NDK_OBJECT_HEADER,
    _id: *mut ndkpi::GUID,
    _version: NDK_VERSION,
    _interface: *mut ndkpi::NDK_EXTENSION_INTERFACE,
) -> NTSTATUS {
    STATUS_NOT_SUPPORTED
}
