//! What the tests of the rules share.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::ffi::c_void;
use std::ptr;

use ndis_sys::imports::PsCreateSystemThread;
use ndis_sys::status::STATUS_SUCCESS;
use ndis_sys::types::{HANDLE, NTSTATUS};
use ndis_sys::wdm::KSTART_ROUTINE;
use ntsim::{MachineConfig, MachineId, Verify, World};

/// A world whose violations are looked at, with one machine.
pub fn suspects() -> (World, MachineId) {
    suspects_with(1)
}

/// As `suspects`, with so many processors.
pub fn suspects_with(processors: u32) -> (World, MachineId) {
    let mut world = World::builder().seed(11).collect_violations().build();
    let machine = world.add_machine(MachineConfig::named("A").processors(processors));
    (world, machine)
}

/// As `suspects`, with no special pool, where what is done to a block is found when it is freed.
pub fn suspects_of_the_ordinary_pool() -> (World, MachineId) {
    let builder = World::builder().ignore_environment().verify(Verify::Cheap);
    let mut world = builder.seed(11).collect_violations().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    (world, machine)
}

/// The names of the rules broken since this was last asked.
pub fn broken(world: &mut World) -> Vec<&'static str> {
    world.take_violations().iter().map(|v| v.rule).collect()
}

/// Pool tag of the tests' drivers.
pub const TAG: u32 = u32::from_le_bytes(*b"Test");

/// Starts a system thread and gives its handle. Kernel code.
///
/// # Safety
/// The routine may be called with the context, at any time from now on.
#[allow(unsafe_code, reason = "tiny drivers")]
pub unsafe fn start(routine: KSTART_ROUTINE, context: *mut c_void) -> Result<HANDLE, NTSTATUS> {
    let mut handle = ptr::null_mut();
    // SAFETY: the caller's promise.
    let status = unsafe {
        PsCreateSystemThread(
            &mut handle,
            0,
            ptr::null_mut(),
            ptr::null_mut(),
            ptr::null_mut(),
            routine,
            context,
        )
    };
    if status == STATUS_SUCCESS {
        Ok(handle)
    } else {
        Err(status)
    }
}
