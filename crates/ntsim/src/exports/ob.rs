//! `Ob*`, `Ps*`, `ZwClose`: objects, handles, system threads.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_HANDLE, STATUS_SUCCESS};
use ndis_sys::types::{HANDLE, KPROCESSOR_MODE, NTSTATUS};
use ndis_sys::wdm::{CLIENT_ID, DISPATCHER_HEADER, KSTART_ROUTINE, OBJECT_ATTRIBUTES};

use super::ke::wait::{self, Regions, kind};
use super::resource;
use crate::verifier::{self, Function, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::driver_call::begin_driver;
use crate::world::machine::Machine;
use crate::world::thread;

exports! {
    "ntoskrnl.exe";
    PsCreateSystemThread: PASSIVE..=PASSIVE,
    PsTerminateSystemThread: PASSIVE..=PASSIVE,
    ZwClose: PASSIVE..=PASSIVE,
    ObReferenceObjectByHandle: PASSIVE..=PASSIVE,
    ObfReferenceObject: PASSIVE..=DISPATCH,
    ObfDereferenceObject: PASSIVE..=DISPATCH,
}

static START_ROUTINE: Function = Function::callback("system thread", PASSIVE..=PASSIVE);
const PASSIVE: u8 = crate::world::processor::PASSIVE;

/// Bytes of a thread object: only its header is used.
const THREAD_OBJECT: usize = 64;

/// What kind of object it is, as far as that matters.
enum Body {
    Thread,
    /// Its path below `HKEY_LOCAL_MACHINE`.
    Key(String),
    Foreign,
}

struct Object {
    body: Body,
    references: isize,
    /// Who made it.
    owner: DriverNumber,
    /// It is a thread that has not ended.
    running: bool,
    /// The routine that it began with, if it is a thread.
    start: usize,
    /// Memory to free when the last reference goes; objects of others (devices, drivers) are theirs.
    owned: bool,
}

impl Object {
    /// The routine that a thread began with, if that is one of an image.
    fn started(&self) -> String {
        let routine = verifier::origin::describe(&context::core(), self.start);
        routine.map_or_else(String::new, |routine| format!(", which began in {routine}"))
    }
}

/// A machine's objects and handles.
#[derive(Default)]
pub(crate) struct Objects {
    objects: RefCell<BTreeMap<usize, Object>>,
    handles: RefCell<BTreeMap<usize, usize>>,
    next_handle: Cell<usize>,
    /// The thread object of the running system thread, by stack.
    running: RefCell<BTreeMap<usize, usize>>,
}

impl Objects {
    /// Makes an object known that somebody else owns (a device, a driver).
    pub(crate) fn add_foreign(&self, address: usize) {
        self.objects.borrow_mut().insert(
            address,
            Object {
                body: Body::Foreign,
                references: 1,
                owner: 0,
                running: false,
                start: 0,
                owned: false,
            },
        );
    }

    /// Forgets an object of somebody else; how often drivers still reference it.
    pub(crate) fn remove_foreign(&self, address: usize) -> isize {
        self.objects
            .borrow_mut()
            .remove(&address)
            .map_or(0, |object| object.references - 1)
    }

    /// Which thread has its object there.
    pub(crate) fn thread(&self, address: usize) -> Option<String> {
        let objects = self.objects.borrow();
        let object = objects
            .get(&address)
            .filter(|o| matches!(o.body, Body::Thread))?;
        Some(format!("a system thread{}", object.started()))
    }

    /// Where the system thread waits whose object is there.
    fn waits_in(&self, object: usize) -> String {
        let running = self.running.borrow();
        let stack = running.iter().find(|(_, running)| **running == object);
        stack.map_or_else(String::new, |(stack, _)| {
            context::core().waits_in(*stack as *const _)
        })
    }

    /// Accuses a driver that has gone of threads that run on in its code, of handles it has not closed and of
    /// references it has not given back.
    pub(crate) fn check_unload(&self, driver: DriverNumber, name: &str, when: &str) {
        let handles = self.handles.borrow();
        for (address, object) in self.objects.borrow().iter() {
            if object.owner != driver {
                continue;
            }
            let open = handles.values().filter(|o| *o == address).count();
            let others = object.references - isize::from(object.running) - open as isize;
            if object.running {
                verifier::violation(
                    rules::THREAD_AT_UNLOAD,
                    format!(
                        "{when}: the system thread of {name} at {address:#x} has not ended{}{}",
                        object.started(),
                        self.waits_in(*address)
                    ),
                );
            }
            if open > 0 {
                verifier::violation(
                    rules::HANDLE_AT_UNLOAD,
                    match &object.body {
                        Body::Key(path) => format!(
                            "{when}: {name} has not closed {open} handle(s) of the key {path}"
                        ),
                        _ => format!(
                            "{when}: {name} has not closed {open} handle(s) of its thread at {address:#x}"
                        ),
                    },
                );
            }
            if others > 0 {
                verifier::violation(
                    rules::REFERENCE,
                    format!("{when}: {name} still references the object at {address:#x}"),
                );
            }
        }
    }

    /// Opens a key for a driver; `address` is memory for the object. The handle.
    pub(crate) fn open_key(&self, address: usize, owner: DriverNumber, path: String) -> HANDLE {
        self.objects.borrow_mut().insert(
            address,
            Object {
                body: Body::Key(path),
                references: 1,
                owner,
                running: false,
                start: 0,
                owned: true,
            },
        );
        self.handle(address) as HANDLE
    }

    /// The path of the key that a handle is for.
    pub(crate) fn key(&self, handle: HANDLE) -> Option<String> {
        let address = *self.handles.borrow().get(&(handle as usize))?;
        match &self.objects.borrow().get(&address)?.body {
            Body::Key(path) => Some(path.clone()),
            _ => None,
        }
    }

    fn handle(&self, object: usize) -> usize {
        let handle = self.next_handle.get() + 4;
        self.next_handle.set(handle);
        self.handles.borrow_mut().insert(handle, object);
        handle
    }

    fn reference(&self, address: usize, by: &str) -> isize {
        match self.objects.borrow_mut().get_mut(&address) {
            Some(object) => {
                object.references += 1;
                object.references
            }
            None => {
                verifier::violation(
                    rules::REFERENCE,
                    format!("{by}: there is no object at {address:#x}"),
                );
                0
            }
        }
    }

    fn dereference(&self, machine: &Machine, address: usize, by: &str) -> isize {
        let (left, owned) = match self.objects.borrow_mut().get_mut(&address) {
            Some(object) => {
                object.references -= 1;
                (object.references, object.owned)
            }
            None => (-1, false),
        };
        if left < 0 || (left == 0 && !owned) {
            verifier::violation(
                rules::REFERENCE,
                format!(
                    "{by}: the object at {address:#x} has no reference of the caller to give back"
                ),
            );
            if let Some(object) = self.objects.borrow_mut().get_mut(&address) {
                object.references = 1;
            }
            return 0;
        }
        if left == 0 {
            self.objects.borrow_mut().remove(&address);
            machine.pool_free(address, None, "the object manager");
        }
        left
    }
}

fn end_of_thread(machine: &Machine, object: usize) {
    resource::expect_none_owned("a system thread ends");
    machine.ext::<Regions>().expect_left();
    // SAFETY: the thread itself holds a reference until the last line.
    unsafe { wait::signal(object as *mut DISPATCHER_HEADER, 1) };
    let objects = machine.ext::<Objects>();
    if let Some(object) = objects.objects.borrow_mut().get_mut(&object) {
        object.running = false;
    }
    objects.dereference(machine, object, "the end of a system thread");
}

fn thread_key() -> usize {
    context::with(|c| c.thread.get()) as usize
}

/// Creates a system thread.
///
/// # Safety
/// `ThreadHandle` must be valid for a write, `StartRoutine` callable with `StartContext`.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn PsCreateSystemThread(
    ThreadHandle: *mut HANDLE,
    DesiredAccess: u32,
    ObjectAttributes: *mut OBJECT_ATTRIBUTES,
    ProcessHandle: HANDLE,
    ClientId: *mut CLIENT_ID,
    StartRoutine: KSTART_ROUTINE,
    StartContext: *mut c_void,
) -> NTSTATUS {
    let crossing = cross(&functions::PsCreateSystemThread);
    let _ = (DesiredAccess, ObjectAttributes, ProcessHandle);
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes("PsCreateSystemThread") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let Some(object) = machine.kernel_alloc(THREAD_OBJECT, "PsCreateSystemThread") else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    // SAFETY: just allocated, and `ThreadHandle` and `ClientId` are as promised.
    unsafe {
        wait::initialize_header(
            object as *mut DISPATCHER_HEADER,
            kind::THREAD,
            THREAD_OBJECT,
            0,
        );
    }
    let objects = machine.ext::<Objects>();
    // One reference is the thread's own, one the handle's.
    objects.objects.borrow_mut().insert(
        object,
        Object {
            body: Body::Thread,
            references: 2,
            owner: machine.owner(&crossing),
            running: true,
            start: StartRoutine as usize,
            owned: true,
        },
    );
    let handle = objects.handle(object);
    // SAFETY: promised by the caller.
    unsafe {
        ThreadHandle.write(handle as HANDLE);
        if !ClientId.is_null() {
            ClientId.write(CLIENT_ID {
                UniqueProcess: 4 as HANDLE,
                UniqueThread: handle as HANDLE,
            });
        }
    }
    let context_value = StartContext as usize;
    machine.queue_work(move || {
        let objects = || context::machine().ext::<Objects>();
        objects().running.borrow_mut().insert(thread_key(), object);
        // The routine may end the thread: nothing is held meanwhile that would have to be dropped.
        // SAFETY: promised by the creator.
        begin_driver(&START_ROUTINE, StartRoutine as *const (), || unsafe {
            StartRoutine(context_value as *mut c_void);
        });
        objects().running.borrow_mut().remove(&thread_key());
        end_of_thread(&context::machine(), object);
    });
    STATUS_SUCCESS
}

/// Ends the running system thread.
///
/// # Safety
/// Nothing on the thread's stack may be needed any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn PsTerminateSystemThread(ExitStatus: NTSTATUS) -> NTSTATUS {
    let crossing = cross(&functions::PsTerminateSystemThread);
    let _ = ExitStatus;
    let machine = context::machine();
    let objects = machine.ext::<Objects>();
    let object = objects.running.borrow_mut().remove(&thread_key());
    let Some(object) = object else {
        verifier::bugcheck(
            rules::BUGCHECK,
            "PsTerminateSystemThread was called by a thread that PsCreateSystemThread did not create",
        );
    };
    end_of_thread(&machine, object);
    // This stack is never unwound: let go of what it holds.
    drop(objects);
    drop(machine);
    drop(crossing);
    thread::exit();
}

/// Closes a handle.
///
/// # Safety
/// None needed.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ZwClose(Handle: HANDLE) -> NTSTATUS {
    let _crossing = cross(&functions::ZwClose);
    let machine = context::machine();
    let objects = machine.ext::<Objects>();
    let object = objects.handles.borrow_mut().remove(&(Handle as usize));
    match object {
        Some(object) => {
            objects.dereference(&machine, object, "ZwClose");
            STATUS_SUCCESS
        }
        None => {
            verifier::violation(
                rules::REFERENCE,
                format!("ZwClose: {Handle:p} is not an open handle"),
            );
            STATUS_INVALID_HANDLE
        }
    }
}

/// References the object of a handle.
///
/// # Safety
/// `Object` must be valid for a write.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ObReferenceObjectByHandle(
    Handle: HANDLE,
    DesiredAccess: u32,
    ObjectType: *mut c_void,
    AccessMode: KPROCESSOR_MODE,
    Object: *mut *mut c_void,
    HandleInformation: *mut c_void,
) -> NTSTATUS {
    let _crossing = cross(&functions::ObReferenceObjectByHandle);
    let _ = (DesiredAccess, ObjectType, AccessMode, HandleInformation);
    let objects = context::machine().ext::<Objects>();
    let found = objects.handles.borrow().get(&(Handle as usize)).copied();
    let (status, address) = match found {
        Some(object) => {
            objects.reference(object, "ObReferenceObjectByHandle");
            (STATUS_SUCCESS, object as *mut c_void)
        }
        None => (STATUS_INVALID_HANDLE, ptr::null_mut()),
    };
    // SAFETY: promised by the caller.
    unsafe { Object.write(address) };
    status
}

/// References an object.
///
/// # Safety
/// `Object` must point at an object.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ObfReferenceObject(Object: *mut c_void) -> isize {
    let _crossing = cross(&functions::ObfReferenceObject);
    context::machine()
        .ext::<Objects>()
        .reference(Object as usize, "ObfReferenceObject")
}

/// Dereferences an object.
///
/// # Safety
/// The caller must own a reference.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ObfDereferenceObject(Object: *mut c_void) -> isize {
    let _crossing = cross(&functions::ObfDereferenceObject);
    let machine = context::machine();
    machine
        .ext::<Objects>()
        .dereference(&machine, Object as usize, "ObfDereferenceObject")
}
