//! Lookaside lists. Nothing is kept on them: every block comes from the pool and goes back there, as under Driver Verifier, so that the
//! pool's rules watch over each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::c_void;

use ndis_sys::status::{STATUS_INVALID_PARAMETER, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndis_sys::wdm::{ALLOCATE_FUNCTION_EX, FREE_FUNCTION_EX, LOOKASIDE_LIST_EX, POOL_TYPE};

use super::ex::{self, pool_type};
use crate::memory::paged;
use crate::verifier::{self, Function, cross, rules};
use crate::world::context;
use crate::world::driver::DriverNumber;
use crate::world::driver_call::call_driver;
use crate::world::on_stack;
use crate::world::processor::{DISPATCH, PASSIVE};

exports! {
    "ntoskrnl.exe";
    ExInitializeLookasideListEx: PASSIVE..=DISPATCH,
    ExAllocateFromLookasideListEx: PASSIVE..=DISPATCH,
    ExFreeToLookasideListEx: PASSIVE..=DISPATCH,
    ExDeleteLookasideListEx: PASSIVE..=DISPATCH,
}

static ALLOCATE: Function = Function::callback("LookasideListAllocateEx", PASSIVE..=DISPATCH);
static FREE: Function = Function::callback("LookasideListFreeEx", PASSIVE..=DISPATCH);

/// `EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL`
const RAISE_ON_FAIL: u32 = 1;
/// `EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE`
const FAIL_NO_RAISE: u32 = 2;
/// The address of a list is a multiple of this (nf-wdm-exinitializelookasidelistex).
const ALIGNMENT: usize = 16;
const STATUS_INVALID_PARAMETER_4: NTSTATUS = 0xc000_00f2_u32.cast_signed();
const STATUS_INVALID_PARAMETER_5: NTSTATUS = 0xc000_00f3_u32.cast_signed();

#[derive(Clone, Copy)]
struct List {
    owner: DriverNumber,
    allocate: Option<ALLOCATE_FUNCTION_EX>,
    free: Option<FREE_FUNCTION_EX>,
    pool: POOL_TYPE,
    size: usize,
    tag: u32,
}

/// A machine's lookaside lists, by address.
#[derive(Default)]
pub(crate) struct Lists(RefCell<BTreeMap<usize, List>>);

impl Lists {
    /// A list in memory that is freed.
    pub(crate) fn find(&self, f: impl Fn(usize) -> bool) -> Option<usize> {
        self.0.borrow().keys().copied().find(|list| f(*list))
    }

    /// Forgets the lists of a driver that has gone; how many.
    pub(crate) fn forget(&self, owner: DriverNumber) -> usize {
        let mut lists = self.0.borrow_mut();
        let before = lists.len();
        lists.retain(|_, list| list.owner != owner);
        before - lists.len()
    }

    fn get(&self, list: *mut LOOKASIDE_LIST_EX, by: &str) -> List {
        let found = self.0.borrow().get(&list.addr()).copied();
        found.unwrap_or_else(|| {
            verifier::bugcheck(
                rules::UNINITIALIZED,
                format!(
                    "{by}: the lookaside list at {list:p} was never initialised, or is deleted"
                ),
            )
        })
    }
}

/// Makes a list.
///
/// # Safety
/// `Lookaside` must be valid for a write and stay until it is deleted.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExInitializeLookasideListEx(
    Lookaside: *mut LOOKASIDE_LIST_EX,
    Allocate: Option<ALLOCATE_FUNCTION_EX>,
    Free: Option<FREE_FUNCTION_EX>,
    PoolType: POOL_TYPE,
    Flags: u32,
    Size: usize,
    Tag: u32,
    Depth: u16,
) -> NTSTATUS {
    const F: &str = "ExInitializeLookasideListEx";
    let crossing = cross(&functions::ExInitializeLookasideListEx);
    paged::expect_resident(Lookaside.addr(), "the lookaside list", F);
    let accuse = |what: String| verifier::violation(rules::POOL_ARGUMENT, format!("{F}: {what}"));
    if !Lookaside.addr().is_multiple_of(ALIGNMENT) {
        accuse(format!(
            "the address of the lookaside list, {Lookaside:p}, is no multiple of {ALIGNMENT}"
        ));
    }
    if Depth != 0 || Size == 0 {
        accuse(format!("depth {Depth} (reserved, zero), {Size} bytes"));
        return STATUS_INVALID_PARAMETER;
    }
    if !pool_type::is_known(PoolType) {
        accuse(format!("there is no pool type {PoolType:#x}"));
        return STATUS_INVALID_PARAMETER_4;
    }
    let failing = match Flags {
        0 => 0,
        RAISE_ON_FAIL => pool_type::RAISE,
        // Only a routine of the driver's own may charge quotas, which is what raises otherwise.
        FAIL_NO_RAISE if Allocate.is_some() => pool_type::QUOTA_FAIL_NO_RAISE,
        _ => {
            let own = if Allocate.is_some() { "a" } else { "no" };
            accuse(format!("flags {Flags:#x} with {own} routine to allocate"));
            return STATUS_INVALID_PARAMETER_5;
        }
    };
    let machine = context::machine();
    let list = List {
        owner: machine.owner(&crossing),
        allocate: Allocate,
        free: Free,
        pool: PoolType | failing,
        size: Size,
        tag: Tag,
    };
    on_stack::note(Lookaside.addr());
    let lists = machine.ext::<Lists>();
    if lists
        .0
        .borrow_mut()
        .insert(Lookaside.addr(), list)
        .is_some()
    {
        verifier::violation(
            rules::OBJECT_IN_USE,
            format!("{F}: the lookaside list at {Lookaside:p} is initialised already"),
        );
    }
    // SAFETY: promised by the caller, who may have been accused of the alignment.
    unsafe { Lookaside.write_unaligned(LOOKASIDE_LIST_EX::ZEROED) };
    STATUS_SUCCESS
}

/// Takes a block.
///
/// # Safety
/// `Lookaside` must be a list.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExAllocateFromLookasideListEx(
    Lookaside: *mut LOOKASIDE_LIST_EX,
) -> *mut c_void {
    const F: &str = "ExAllocateFromLookasideListEx";
    let crossing = cross(&functions::ExAllocateFromLookasideListEx);
    let machine = context::machine();
    let list = machine.ext::<Lists>().get(Lookaside, F);
    match list.allocate {
        // SAFETY: the driver gave the function for this.
        Some(allocate) => call_driver(&ALLOCATE, allocate as *const (), || unsafe {
            allocate(list.pool, list.size, list.tag, Lookaside)
        }),
        None => ex::allocate(machine.owner(&crossing), list.pool, list.size, list.tag, F),
    }
}

/// Gives a block back.
///
/// # Safety
/// `Entry` must be of the list, and nobody may use it any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExFreeToLookasideListEx(
    Lookaside: *mut LOOKASIDE_LIST_EX,
    Entry: *mut c_void,
) {
    const F: &str = "ExFreeToLookasideListEx";
    let _crossing = cross(&functions::ExFreeToLookasideListEx);
    let list = context::machine().ext::<Lists>().get(Lookaside, F);
    match list.free {
        // SAFETY: the driver gave the function for this.
        Some(free) => call_driver(&FREE, free as *const (), || unsafe {
            free(Entry, Lookaside)
        }),
        None => ex::free(Entry, Some(list.tag), F),
    }
}

/// Deletes a list.
///
/// # Safety
/// `Lookaside` must be a list that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "efiapi" fn ExDeleteLookasideListEx(Lookaside: *mut LOOKASIDE_LIST_EX) {
    let _crossing = cross(&functions::ExDeleteLookasideListEx);
    let lists = context::machine().ext::<Lists>();
    lists.get(Lookaside, "ExDeleteLookasideListEx");
    lists.0.borrow_mut().remove(&Lookaside.addr());
}
