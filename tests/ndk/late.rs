//! Memory that cannot be mapped at once, because the system is short of map registers.

use std::ffi::c_void;
use std::ptr::null_mut;

use ndis_sys::imports::{IoAllocateMdl, IoFreeMdl, MmBuildMdlForNonPagedPool};
use ndis_sys::wdm::MDL;
use ndkpi::NTSTATUS;
use ndkpi::status::*;
use ntsim::ndk::{Buffer, Mr};

use crate::lab::{ALL_RIGHTS, Lab, SOON, Side};
use crate::raw::{Completed, completed};
use crate::story::Story;

/// NdkRegisterMr of the first bytes of a chain of MDLs.
pub fn register(mr: &Mr, mdl: *mut MDL, length: usize, done: &Completed) -> NTSTATUS {
    // SAFETY: an open MR, a valid chain, and a context that outlives the request.
    unsafe {
        (mr.table().NdkRegisterMr)(
            mr.raw(),
            mdl.cast(),
            length,
            ALL_RIGHTS,
            completed,
            done.context(),
        )
    }
}

/// NdkDeregisterMr.
fn deregister(mr: &Mr, done: &Completed) -> NTSTATUS {
    // SAFETY: an open MR, and a context that outlives the request.
    unsafe { (mr.table().NdkDeregisterMr)(mr.raw(), completed, done.context()) }
}

/// Room for a logical address mapping, and what else NdkBuildLAM fills in.
pub struct Room {
    memory: Vec<u64>,
    size: u32,
    first_byte: u32,
}

impl Room {
    /// For a buffer of a few pages.
    pub fn new() -> Box<Room> {
        Box::new(Room {
            memory: vec![0; 32],
            size: 32 * 8,
            first_byte: u32::MAX,
        })
    }

    /// NdkBuildLAM over a whole buffer, with or without a completion.
    pub fn build(&mut self, side: &Side, buffer: &Buffer, done: Option<&Completed>) -> NTSTATUS {
        let context = done.map_or(null_mut(), Completed::context);
        // SAFETY: an open adapter, the buffer's MDL, out parameters and a context that outlive the request.
        unsafe {
            (side.adapter.table().NdkBuildLAM)(
                side.adapter.raw(),
                buffer.mdl().cast(),
                buffer.len(),
                done.map(|_| completed as _),
                context,
                self.memory.as_mut_ptr().cast(),
                &raw mut self.size,
                &raw mut self.first_byte,
            )
        }
    }

    /// NdkReleaseLAM.
    pub fn release(&mut self, side: &Side) {
        let lam = self.memory.as_mut_ptr().cast();
        // SAFETY: an open adapter and a mapping of its own.
        unsafe { (side.adapter.table().NdkReleaseLAM)(side.adapter.raw(), lam) };
    }
}

/// A buffer described by two MDLs, of which the second begins in the middle of a page.
struct Halves {
    buffer: Buffer,
    mdls: [*mut MDL; 2],
}

const HALVES: usize = 9000;

impl Halves {
    fn new() -> Halves {
        let buffer = Buffer::new(HALVES).unwrap();
        let mdls = [(0, 5000), (5000, 4000)].map(|(offset, length)| {
            let va: *mut c_void = (buffer.address() as usize + offset) as *mut c_void;
            // SAFETY: the range is in the buffer, which is non-paged; freed below.
            unsafe {
                let mdl = IoAllocateMdl(va, length, 0, 0, null_mut());
                MmBuildMdlForNonPagedPool(mdl);
                mdl
            }
        });
        // SAFETY: both are ours.
        unsafe { (*mdls[0]).Next = mdls[1] };
        Halves { buffer, mdls }
    }

    fn free(self) {
        for mdl in self.mdls {
            // SAFETY: allocated above; nothing uses it any more.
            unsafe { IoFreeMdl(mdl) };
        }
        self.buffer.free();
    }
}

#[test]
fn a_region_whose_memory_is_mapped_late_is_registered_late() {
    // The first list of the two is there at once, or neither.
    for at_once in [1, 0] {
        let mut s = Story::begin();
        let machine = s.lab.b;
        let done = Completed::default();
        s.lab.world.withhold_map_registers(machine, Some(at_once));
        let (mut halves, mr) = s.lab.on(&s.b, || {
            let (halves, mr) = (Halves::new(), s.b.pd.create_mr().unwrap());
            let status = register(&mr, halves.mdls[0], HALVES, &done);
            assert_eq!(status, STATUS_PENDING);
            // Nothing else can be done with it meanwhile.
            let never = Completed::default();
            let again = register(&mr, halves.mdls[0], HALVES, &never);
            assert_eq!(again, STATUS_INVALID_DEVICE_REQUEST);
            assert_eq!(deregister(&mr, &never), STATUS_INVALID_DEVICE_REQUEST);
            assert_eq!((mr.remote_token(), mr.local_token()), (0, 0));
            (halves, mr)
        });
        s.lab.world.run_for(SOON);
        let waiting = s.lab.world.lists_waiting(machine) as u64;
        assert_eq!((done.count(), waiting), (0, 2 - at_once));
        s.lab.world.withhold_map_registers(machine, None);
        s.lab.world.run_for(SOON);
        assert_eq!((done.count(), done.status()), (1, STATUS_SUCCESS));
        // It is like any other, across the border of its parts too.
        let (address, token) = s
            .lab
            .on(&s.b, || (halves.buffer.address(), mr.remote_token()));
        s.lab
            .on(&s.a, || {
                s.a.qp
                    .write(1, &[s.ours.sge(0, 8000)], address + 500, token, 0)
            })
            .unwrap();
        assert_eq!(s.outcome().1, STATUS_SUCCESS);
        s.lab.on(&s.b, || {
            let bytes = halves.buffer.bytes_mut();
            assert!(bytes[500..8500].iter().all(|byte| *byte == 0xa5));
            assert_eq!((bytes[499], bytes[8500]), (0, 0));
            mr.deregister().unwrap();
            mr.close();
            halves.free();
        });
        s.end();
    }
}

// What stays mapped for the device is found when the world ends.
#[test]
fn p04_what_is_mapped_late_and_fails_leaves_nothing() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    let (halves, mr) = lab.on(&a, || (Halves::new(), a.pd.create_mr().unwrap()));
    // So that tables have their size.
    let first = lab.on(&a, || {
        let never = Completed::default();
        let status = register(&mr, halves.mdls[0], HALVES, &never);
        mr.deregister().unwrap();
        status
    });
    assert_eq!(first, STATUS_SUCCESS);
    let before = lab.world.pool_stats(machine).driver_blocks;
    let (mut at_once, mut late) = (0, 0);
    for after in 0.. {
        let done = Completed::default();
        lab.world.withhold_map_registers(machine, Some(0));
        lab.world.fail_allocations(machine, Some(after), true);
        let status = lab.on(&a, || register(&mr, halves.mdls[0], HALVES, &done));
        lab.world.withhold_map_registers(machine, None);
        lab.world.run_for(SOON);
        lab.world.fail_allocations(machine, None, false);
        let outcome = match status {
            STATUS_PENDING => {
                assert_eq!(done.count(), 1, "after {after}");
                done.status()
            }
            inline => {
                assert_eq!(done.count(), 0, "after {after}");
                inline
            }
        };
        if outcome == STATUS_SUCCESS {
            lab.on(&a, || mr.deregister().unwrap());
            break;
        }
        assert_eq!(outcome, STATUS_INSUFFICIENT_RESOURCES);
        assert_eq!(lab.world.pool_stats(machine).driver_blocks, before);
        if status == STATUS_PENDING {
            late += 1;
        } else {
            at_once += 1;
        }
    }
    assert!(at_once > 0 && late > 0, "{at_once} at once, {late} late");
    assert_eq!(lab.world.pool_stats(machine).driver_blocks, before);
    lab.on(&a, || {
        mr.close();
        halves.free();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn a_region_can_be_closed_while_its_memory_is_being_mapped() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    let done = Completed::default();
    lab.world.withhold_map_registers(machine, Some(0));
    let (buffer, closing) = lab.on(&a, || {
        let (buffer, mr) = (Buffer::new(9000).unwrap(), a.pd.create_mr().unwrap());
        let status = register(&mr, buffer.mdl(), 9000, &done);
        assert_eq!(status, STATUS_PENDING);
        (buffer, mr.start_close())
    });
    lab.world.run_for(SOON);
    // The system still has the memory, and cannot be told to let go of it.
    assert!(!closing.is_done());
    assert_eq!(done.count(), 0);
    lab.world.withhold_map_registers(machine, None);
    lab.world.run_for(SOON);
    assert_eq!(done.count(), 1);
    assert_eq!(closing.calls().len(), 1);
    lab.on(&a, || buffer.free());
    lab.close(a);
    lab.finish();
}

#[test]
fn a_logical_address_mapping_that_is_made_late() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    let (done, mut room) = (Completed::default(), Room::new());
    lab.world.withhold_map_registers(machine, Some(0));
    let buffer = lab.on(&a, || {
        let buffer = Buffer::new(9000).unwrap();
        assert_eq!(room.build(&a, &buffer, Some(&done)), STATUS_PENDING);
        buffer
    });
    lab.world.run_for(SOON);
    assert_eq!((done.count(), room.first_byte), (0, u32::MAX));
    lab.world.withhold_map_registers(machine, None);
    lab.world.run_for(SOON);
    assert_eq!((done.count(), done.status()), (1, STATUS_SUCCESS));
    lab.on(&a, || {
        assert_eq!(u64::from(room.first_byte), buffer.address() % 4096);
        room.release(&a);
    });
    // A consumer that cannot be told later is told that there is none. The memory is its own again when it has been mapped.
    lab.world.withhold_map_registers(machine, Some(0));
    lab.on(&a, || {
        let status = room.build(&a, &buffer, None);
        assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
    });
    lab.world.withhold_map_registers(machine, None);
    lab.world.run_for(SOON);
    lab.on(&a, || buffer.free());
    lab.close(a);
    lab.finish();
}
