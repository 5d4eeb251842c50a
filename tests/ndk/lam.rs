//! Logical address mappings and the privileged token.

use std::ptr::null_mut;

use ndkpi::status::*;
use ndkpi::{NDK_LOGICAL_ADDRESS_MAPPING, NDK_SGE, NDK_SGE_ADDRESS};
use ntsim::ndk::{Adapter, Buffer};

use crate::lab::{ALL_RIGHTS, Lab};
use crate::raw::never_completed;

/// A logical address mapping and the memory it lies in.
struct Lam {
    memory: Vec<u64>,
    first_byte: u32,
}

impl Lam {
    fn build(adapter: &Adapter, buffer: &Buffer, length: usize) -> Result<Lam, (i32, u32)> {
        let (mut size, mut first_byte) = (0, 0);
        let mut build = |memory: *mut u64, size: &mut u32| {
            // SAFETY: an open adapter, the buffer's MDL, and a mapping buffer of the size that is passed.
            unsafe {
                (adapter.table().NdkBuildLAM)(
                    adapter.raw(),
                    buffer.mdl().cast(),
                    length,
                    Some(never_completed),
                    std::ptr::null_mut(),
                    memory.cast(),
                    size,
                    &mut first_byte,
                )
            }
        };
        let status = build(std::ptr::null_mut(), &mut size);
        if status != STATUS_BUFFER_TOO_SMALL {
            return Err((status, size));
        }
        let mut memory = vec![0_u64; size as usize / 8];
        size -= 1;
        assert_eq!(
            build(memory.as_mut_ptr(), &mut size),
            STATUS_BUFFER_TOO_SMALL
        );
        match build(memory.as_mut_ptr(), &mut size) {
            STATUS_SUCCESS => Ok(Lam { memory, first_byte }),
            status => Err((status, size)),
        }
    }

    fn pages(&self) -> &[u64] {
        let count = self.memory[1] as u32 as usize;
        &self.memory[2..2 + count]
    }

    fn release(mut self, adapter: &Adapter) {
        let lam = self
            .memory
            .as_mut_ptr()
            .cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
        // SAFETY: an open adapter and a mapping of its own.
        unsafe { (adapter.table().NdkReleaseLAM)(adapter.raw(), lam) };
    }
}

#[test]
fn p01_p02_p05_p06_logical_addresses_cover_the_buffer_and_leave_its_mdl_alone() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.on(&a, || {
        let buffer = Buffer::new(20_000).unwrap();
        let mdl = |buffer: &Buffer| {
            // SAFETY: an MDL's fixed part has 48 bytes, and five or six page frame numbers follow.
            unsafe { *buffer.mdl().cast::<[u64; 6 + 5]>() }
        };
        let before = mdl(&buffer);
        for length in [1, 4096, 9_000, 20_000] {
            let lam = Lam::build(&a.adapter, &buffer, length).unwrap();
            let offset = buffer.address() as usize % 4096;
            assert_eq!(lam.first_byte as usize, offset);
            assert_eq!(lam.pages().len(), (offset + length).div_ceil(4096));
            assert!(lam.pages().iter().all(|page| page % 4096 == 0));
            lam.release(&a.adapter);
            assert_eq!(mdl(&buffer), before);
        }
        assert_eq!(
            Lam::build(&a.adapter, &buffer, 20_001).err().map(|e| e.0),
            Some(STATUS_INVALID_PARAMETER)
        );
        buffer.free();
    });
    lab.close(a);
    lab.finish();
}

#[test]
fn p03_a_chain_with_a_gap_cannot_be_mapped() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    lab.on(&a, || {
        let (first, second) = (Buffer::new(8192).unwrap(), Buffer::new(8192).unwrap());
        // SAFETY: both MDLs are ours.
        unsafe { (*first.mdl()).Next = second.mdl() };
        assert_eq!(
            Lam::build(&a.adapter, &first, 8193).err().map(|e| e.0),
            Some(STATUS_INVALID_PARAMETER)
        );
        // Only the bytes that are mapped count.
        let lam = Lam::build(&a.adapter, &first, 8192).unwrap();
        lam.release(&a.adapter);
        // SAFETY: as above.
        unsafe { (*first.mdl()).Next = null_mut() };
        first.free();
        second.free();
    });
    lab.close(a);
    lab.finish();
}

// What stays mapped for the device is found when the world ends.
#[test]
fn p04_a_mapping_that_fails_half_way_leaves_nothing() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let machine = lab.a;
    let buffer = lab.on(&a, || Buffer::new(20_000).unwrap());
    // So that the table of mappings has its size.
    let mut lam = lab.on(&a, || Lam::build(&a.adapter, &buffer, 20_000).unwrap());
    let memory = lam.memory.as_mut_ptr();
    let mut size = 8 * lam.memory.len() as u32;
    let release = |lab: &mut Lab| {
        // SAFETY: an open adapter and a mapping of its own.
        lab.on(&a, || unsafe {
            (a.adapter.table().NdkReleaseLAM)(a.adapter.raw(), memory.cast())
        });
    };
    release(&mut lab);
    let before = lab.world.pool_stats(machine).driver_blocks;
    let mut failures = 0;
    for after in 0.. {
        lab.world.fail_allocations(machine, Some(after), true);
        let mut first_byte = 0;
        let status = lab.on(&a, || {
            // SAFETY: as in `Lam::build`; the memory is that of the first mapping.
            unsafe {
                (a.adapter.table().NdkBuildLAM)(
                    a.adapter.raw(),
                    buffer.mdl().cast(),
                    20_000,
                    Some(never_completed),
                    null_mut(),
                    memory.cast(),
                    &raw mut size,
                    &raw mut first_byte,
                )
            }
        });
        lab.world.fail_allocations(machine, None, false);
        if status == STATUS_SUCCESS {
            release(&mut lab);
            break;
        }
        assert_eq!(status, STATUS_INSUFFICIENT_RESOURCES);
        assert_eq!(lab.world.pool_stats(machine).driver_blocks, before);
        failures += 1;
    }
    assert!(failures > 0, "no allocation, no failure");
    assert_eq!(lab.world.pool_stats(machine).driver_blocks, before);
    drop(lam);
    lab.on(&a, || buffer.free());
    lab.close(a);
    lab.finish();
}

#[test]
fn r18_r19_r20_the_privileged_token_reaches_mapped_memory_and_is_no_use_to_peers() {
    let mut lab = Lab::new();
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let theirs = lab.region(&b, 16_384, ALL_RIGHTS, 0x42);
    let (address, token) = lab.on(&b, || theirs.remote());
    let privileged = |side: &crate::lab::Side| {
        let mut token = 0;
        // SAFETY: an open PD and an out parameter.
        unsafe { (side.pd.table().NdkGetPrivilegedMemoryRegionToken)(side.pd.raw(), &mut token) };
        token
    };
    let (mut buffer, lam) = lab.on(&a, || {
        let mut buffer = Buffer::new(10_000).unwrap();
        buffer.bytes_mut().fill(0x99);
        let lam = Lam::build(&a.adapter, &buffer, 10_000).unwrap();
        (buffer, lam)
    });
    // One element per page, as a consumer does that knows nothing of the pages.
    let elements: Vec<NDK_SGE> = lab.on(&a, || {
        let (token, first) = (privileged(&a), u64::from(lam.first_byte));
        let mut left = 10_000_u64;
        lam.pages()
            .iter()
            .enumerate()
            .map(|(index, page)| {
                let skip = if index == 0 { first } else { 0 };
                let length = (4096 - skip).min(left);
                left -= length;
                NDK_SGE {
                    Anonymous: NDK_SGE_ADDRESS {
                        LogicalAddress: (page + skip) as i64,
                    },
                    Length: length as u32,
                    MemoryRegionToken: token,
                }
            })
            .collect()
    });
    let qp = lab.on(&a, || elements.len());
    assert!(qp <= 4);
    // The lab's queue pairs take two elements; reads take as many as the adapter says (W-11).
    lab.on(&a, || a.qp.read(1, &elements, address, token, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    lab.on(&a, || {
        assert_eq!(buffer.bytes(), [0x42; 10_000]);
        buffer.bytes_mut().fill(0x17);
    });
    // All pages of a mapping follow each other: one element can name the whole.
    let whole = NDK_SGE {
        Length: 10_000,
        ..elements[0]
    };
    lab.on(&a, || a.qp.write(2, &[whole], address + 100, token, 0))
        .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_SUCCESS);
    lab.on(&b, || {
        let bytes = theirs.buffer.bytes();
        assert_eq!(
            (bytes[99], bytes[100], bytes[10_099], bytes[10_100]),
            (0x42, 0x17, 0x17, 0x42)
        );
    });
    // the peer's privileged token opens nothing to this side, even for an address that is mapped there.
    let their_lam = lab.on(&b, || Lam::build(&b.adapter, &theirs.buffer, 100).unwrap());
    let stolen = lab.on(&b, || privileged(&b));
    let target = their_lam.pages()[0] + u64::from(their_lam.first_byte);
    lab.on(&a, || {
        a.qp.write(
            3,
            &[NDK_SGE {
                Length: 10,
                ..whole
            }],
            target,
            stolen,
            0,
        )
    })
    .unwrap();
    assert_eq!(lab.result(&a).Status, STATUS_REMOTE_RESOURCES);
    lab.on(&b, || {
        their_lam.release(&b.adapter);
        assert_eq!(theirs.buffer.bytes()[0], 0x42);
    });
    lab.hang_up(&a, &b, connected);
    lab.on(&a, || {
        lam.release(&a.adapter);
        buffer.free();
    });
    lab.on(&b, || theirs.close());
    lab.close(a);
    lab.close(b);
    drop(elements);
    lab.finish();
}

#[test]
fn x55_a_mapping_that_was_forgotten_goes_with_the_adapter() {
    let mut lab = Lab::new();
    let a = lab.side_a();
    let crate::lab::Side {
        adapter,
        pd,
        cq,
        qp,
        machine,
        ..
    } = a;
    lab.world.pardon(ntsim::ndk::rules::CONSUMER_LEAK);
    lab.world.call(machine, || {
        let buffer = Buffer::new(5000).unwrap();
        let _forgotten = Lam::build(&adapter, &buffer, 5000).unwrap();
        qp.close();
        cq.close();
        pd.close();
        adapter.close();
        buffer.free();
    });
    assert_eq!(lab.world.pardoned(ntsim::ndk::rules::CONSUMER_LEAK), 1);
    lab.finish();
}
