//! Every place where NDIS finds a parameter, or a use of DMA, to be wrong: what is done, the rule, and part of what the report must say.

use std::ptr::{null, null_mut, without_provenance_mut};

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::types::*;
use ndis_sys::wdm::*;

use super::fault::{FAULT, Fault, KEEP_SENDS, MISUSE, aside};
use super::miniport::{Adapter, DRIVER, OBJECT, header};
use super::{IMAGE, INX, rules, two_machines};
use crate::verifier::rules as kernel;

/// Done by the miniport when it has claimed everything, at PASSIVE_LEVEL. It leaves everything as it was.
pub(super) type Misuse = unsafe fn(&mut Adapter);

const TAG: u32 = u32::from_le_bytes(*b"test");

fn list_pool() -> NET_BUFFER_LIST_POOL_PARAMETERS {
    NET_BUFFER_LIST_POOL_PARAMETERS {
        Header: header(
            NDIS_OBJECT_TYPE_DEFAULT,
            NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
            NDIS_SIZEOF_NET_BUFFER_LIST_POOL_PARAMETERS_REVISION_1,
        ),
        PoolTag: TAG,
        ..Default::default()
    }
}

fn timer(function: Option<NDIS_TIMER_FUNCTION>) -> NDIS_TIMER_CHARACTERISTICS {
    NDIS_TIMER_CHARACTERISTICS {
        Header: header(
            NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
            NDIS_TIMER_CHARACTERISTICS_REVISION_1,
            NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
        ),
        AllocationTag: 1,
        TimerFunction: function,
        ..Default::default()
    }
}

unsafe extern "efiapi" fn expired(_: *mut c_void, _: *mut c_void, _: *mut c_void, _: *mut c_void) {}

fn dma(handler: Option<MINIPORT_PROCESS_SG_LIST>) -> NDIS_SG_DMA_DESCRIPTION {
    NDIS_SG_DMA_DESCRIPTION {
        Header: header(
            NDIS_OBJECT_TYPE_SG_DMA_DESCRIPTION,
            NDIS_SG_DMA_DESCRIPTION_REVISION_1,
            NDIS_SIZEOF_SG_DMA_DESCRIPTION_REVISION_1,
        ),
        Flags: NDIS_SG_DMA_64_BIT_ADDRESS,
        MaximumPhysicalMapping: 65536,
        ProcessSGListHandler: handler,
        ..Default::default()
    }
}

/// Lists are made in memory of the driver's, which knows them without being told.
unsafe extern "efiapi" fn listed(
    _: *mut DEVICE_OBJECT,
    _: *mut c_void,
    _: *mut SCATTER_GATHER_LIST,
    _: *mut c_void,
) {
}

/// Registers for DMA.
unsafe fn register(a: &Adapter, mut description: NDIS_SG_DMA_DESCRIPTION) -> NDIS_HANDLE {
    let mut handle = null_mut();
    // SAFETY: a structure as documented, or wrong on purpose.
    unsafe { NdisMRegisterScatterGatherDma(a.handle, &raw mut description, &raw mut handle) };
    handle
}

/// What most of the misuses of DMA need.
struct Mapped {
    dma: NDIS_HANDLE,
    buffers: [*mut NET_BUFFER; 2],
    /// Room for a scatter/gather list each.
    lists: [*mut SCATTER_GATHER_LIST; 2],
}

const ROOM: u32 = 256;

impl Mapped {
    /// Has the list made of a net buffer.
    unsafe fn map(&self, buffer: usize, list: usize, flags: u32) {
        // SAFETY: as documented, or wrong on purpose.
        unsafe {
            let old = KfRaiseIrql(DISPATCH_LEVEL);
            let list = self.lists[list].cast();
            NdisMAllocateNetBufferSGList(
                self.dma,
                self.buffers[buffer],
                null_mut(),
                flags,
                list,
                ROOM,
            );
            KeLowerIrql(old);
        }
    }

    unsafe fn unmap(&self, list: usize, buffer: usize) {
        // SAFETY: as above.
        unsafe {
            let old = KfRaiseIrql(DISPATCH_LEVEL);
            NdisMFreeNetBufferSGList(self.dma, self.lists[list], self.buffers[buffer]);
            KeLowerIrql(old);
        }
    }
}

/// Runs `f` with a registration for DMA, and with net buffers over 64 bytes.
unsafe fn mapped(a: &Adapter, f: unsafe fn(&mut Mapped)) {
    // SAFETY: as documented; what is made is freed.
    unsafe {
        let made = [(); 2].map(|()| {
            let memory = NdisAllocateMemoryWithTagPriority(a.handle, 64, TAG, 0);
            let mdl = NdisAllocateMdl(a.handle, memory, 64);
            let list = NdisAllocateNetBufferAndNetBufferList(a.pool, 0, 0, mdl, 0, 64);
            let room = NdisAllocateMemoryWithTagPriority(a.handle, ROOM, TAG, 0);
            (memory, mdl, list, room)
        });
        let mut mapped = Mapped {
            dma: register(a, dma(Some(listed))),
            buffers: made.map(|(_, _, list, _)| (*list).FirstNetBuffer),
            lists: made.map(|(_, _, _, room)| room.cast()),
        };
        f(&mut mapped);
        if !mapped.dma.is_null() {
            NdisMDeregisterScatterGatherDma(mapped.dma);
        }
        for (memory, mdl, list, room) in made {
            NdisFreeNetBufferList(list);
            NdisFreeMdl(mdl);
            NdisFreeMemory(memory, 0, 0);
            NdisFreeMemory(room, 0, 0);
        }
    }
}

/// Opens the adapter's settings and hands them to `f`.
unsafe fn settings(a: &Adapter, flags: u32, f: impl FnOnce(NDIS_HANDLE)) {
    let mut object = NDIS_CONFIGURATION_OBJECT {
        Header: header(
            NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
            NDIS_CONFIGURATION_OBJECT_REVISION_1,
            NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
        ),
        NdisHandle: a.handle,
        Flags: flags,
    };
    let mut handle = null_mut();
    // SAFETY: as documented.
    unsafe {
        NdisOpenConfigurationEx(&raw mut object, &raw mut handle);
        f(handle);
        NdisCloseConfiguration(handle);
    }
}

/// Reads a setting.
unsafe fn read(settings: NDIS_HANDLE, keyword: *mut UNICODE_STRING, kind: NDIS_PARAMETER_TYPE) {
    let (mut status, mut value) = (0, null_mut());
    // SAFETY: as documented, or wrong on purpose.
    unsafe { NdisReadConfiguration(&raw mut status, &raw mut value, settings, keyword, kind) };
}

/// Maps the NIC's other registers.
unsafe fn map_registers(a: &Adapter) -> *mut c_void {
    let bar = aside(|| {
        let function = a.nic.function.borrow();
        let resources = function.as_ref().expect("plugged in").resources();
        resources.memory[1].physical
    });
    let mut mapped = null_mut();
    // SAFETY: as documented.
    unsafe { NdisMMapIoSpace(&raw mut mapped, a.handle, bar.cast_signed(), 4096) };
    mapped
}

const PARAMETERS: &[(&str, Misuse)] = &[
    ("is not a driver object", |_| {
        let mut c = NDIS_MINIPORT_DRIVER_CHARACTERISTICS::default();
        let mut out = null_mut();
        let object = without_provenance_mut(16);
        // SAFETY: it is only a name.
        unsafe {
            NdisMRegisterMiniportDriver(object, null_mut(), null_mut(), &raw mut c, &raw mut out);
        }
    }),
    ("NdisMRegisterMiniportDriver: null pointer", |_| {
        let (object, mut out) = (OBJECT.get(), null_mut());
        // SAFETY: nothing is read.
        unsafe {
            NdisMRegisterMiniportDriver(object, null_mut(), null_mut(), null_mut(), &raw mut out);
        }
    }),
    ("NdisSetOptionalHandlers: null pointer", |_| {
        // SAFETY: nothing is read.
        unsafe { NdisSetOptionalHandlers(DRIVER.get(), null_mut()) };
    }),
    ("NdisMSetMiniportAttributes: null pointer", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisMSetMiniportAttributes(a.handle, null_mut()) };
    }),
    ("NdisAllocateTimerObject: null pointer", |a| {
        // SAFETY: nothing is written.
        unsafe {
            NdisAllocateTimerObject(a.handle, &mut timer(Some(expired)), null_mut());
        }
    }),
    ("TimerFunction is null", |a| {
        let mut out = null_mut();
        // SAFETY: as documented but for the function.
        unsafe { NdisAllocateTimerObject(a.handle, &mut timer(None), &raw mut out) };
    }),
    ("NdisSetTimerObject: period -1", |a| {
        let mut out = null_mut();
        // SAFETY: as documented but for the period.
        unsafe {
            NdisAllocateTimerObject(a.handle, &mut timer(Some(expired)), &raw mut out);
            NdisSetTimerObject(out, -10_000, -1, null_mut());
            NdisFreeTimerObject(out);
        }
    }),
    ("NdisAllocateNetBufferListPool: null pointer", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisAllocateNetBufferListPool(a.handle, null()) };
    }),
    ("ContextSize 8 is no multiple of 16", |a| {
        let mut parameters = list_pool();
        parameters.ContextSize = 8;
        // SAFETY: as documented but for the size.
        unsafe {
            let pool = NdisAllocateNetBufferListPool(a.handle, &raw const parameters);
            NdisFreeNetBufferListPool(pool);
        }
    }),
    ("DataSize without fAllocateNetBuffer", |a| {
        let mut parameters = list_pool();
        parameters.DataSize = 64;
        // SAFETY: as documented but for the size.
        unsafe { NdisAllocateNetBufferListPool(a.handle, &raw const parameters) };
    }),
    ("PoolTag is zero", |a| {
        let mut parameters = list_pool();
        parameters.PoolTag = 0;
        // SAFETY: as documented but for the tag.
        unsafe {
            let pool = NdisAllocateNetBufferListPool(a.handle, &raw const parameters);
            NdisFreeNetBufferListPool(pool);
        }
    }),
    ("NdisAllocateNetBufferPool: null pointer", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisAllocateNetBufferPool(a.handle, null()) };
    }),
    ("10 bytes at offset 0 over MDLs of 0 bytes", |a| {
        // SAFETY: there is no MDL to be followed.
        unsafe { NdisAllocateNetBufferAndNetBufferList(a.pool, 0, 0, null_mut(), 0, 10) };
    }),
    ("allocated without fAllocateNetBuffer", |a| {
        // SAFETY: as documented but for the kind of pool.
        unsafe {
            let pool = NdisAllocateNetBufferListPool(a.handle, &list_pool());
            NdisAllocateNetBufferAndNetBufferList(pool, 0, 0, null_mut(), 0, 0);
            NdisFreeNetBufferListPool(pool);
        }
    }),
    ("context sizes are multiples of 16", |a| {
        // SAFETY: as documented but for the size.
        unsafe { NdisFreeNetBufferList(NdisAllocateNetBufferList(a.pool, 8, 0)) };
    }),
    ("needs a pool of net buffers with DataSize", |a| {
        // SAFETY: as documented but for the kind of pool.
        unsafe { NdisAllocateNetBufferMdlAndData(a.pool) };
    }),
    ("NdisOpenConfigurationEx: null pointer", |_| {
        // SAFETY: nothing is read.
        unsafe { NdisOpenConfigurationEx(null_mut(), null_mut()) };
    }),
    ("NdisOpenConfigurationEx: Flags must be zero", |a| {
        // SAFETY: as documented but for the flags.
        unsafe { settings(a, 1, |_| {}) };
    }),
    ("the keyword is no valid string", |a| {
        let mut odd = UNICODE_STRING {
            Length: 3,
            ..UNICODE_STRING::ZEROED
        };
        // SAFETY: the string is not followed.
        unsafe { settings(a, 0, |s| read(s, &raw mut odd, NdisParameterInteger)) };
    }),
    ("no such parameter type: 77", |a| {
        let mut units = [0; 12];
        units
            .iter_mut()
            .zip("*JumboPacket".encode_utf16())
            .for_each(|(u, c)| *u = c);
        let mut keyword = UNICODE_STRING {
            Length: 24,
            MaximumLength: 24,
            Buffer: units.as_mut_ptr(),
        };
        // SAFETY: as documented but for the type.
        unsafe { settings(a, 0, |s| read(s, &raw mut keyword, 77)) };
    }),
    ("NdisWriteConfiguration: bad keyword or parameter", |a| {
        let mut status = 0;
        // SAFETY: nothing is read.
        unsafe {
            settings(a, 0, |s| {
                NdisWriteConfiguration(&raw mut status, s, null_mut(), null_mut());
            });
        }
    }),
    ("NdisMRegisterScatterGatherDma: null pointer", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisMRegisterScatterGatherDma(a.handle, null_mut(), null_mut()) };
    }),
    ("unknown flags 0x81", |a| {
        // SAFETY: as documented but for the flags.
        unsafe {
            mapped(a, |m| {
                m.map(0, 0, 0x80 | NDIS_SG_LIST_WRITE_TO_DEVICE);
                m.unmap(0, 0);
            });
        }
    }),
    ("NdisMAllocateSharedMemory: length is zero", |a| {
        let (mut memory, mut physical) = (null_mut(), 0);
        // SAFETY: nothing is allocated.
        unsafe {
            NdisMAllocateSharedMemory(a.handle, 0, 1, &raw mut memory, &raw mut physical);
        }
    }),
    ("are not within the adapter's resources", |a| {
        let mut mapped = null_mut();
        // SAFETY: nothing is mapped.
        unsafe { NdisMMapIoSpace(&raw mut mapped, a.handle, 0x1000, 4096) };
    }),
    ("is a mapping of 4096 bytes, not 2048", |a| {
        // SAFETY: as documented but for the length.
        unsafe { NdisMUnmapIoSpace(a.handle, map_registers(a), 2048) };
    }),
    ("is no mapping of this adapter", |a| {
        // SAFETY: it is mapped, and not used any more; the second time on purpose.
        unsafe {
            let mapped = map_registers(a);
            NdisMUnmapIoSpace(a.handle, mapped, 4096);
            NdisMUnmapIoSpace(a.handle, mapped, 4096);
        }
    }),
    ("NdisMRegisterInterruptEx: null pointer", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisMRegisterInterruptEx(a.handle, null_mut(), null_mut(), null_mut()) };
    }),
    ("NdisAllocateMemoryWithTagPriority: length 0", |a| {
        // SAFETY: freed at once.
        unsafe {
            let memory = NdisAllocateMemoryWithTagPriority(a.handle, 0, TAG, 0);
            NdisFreeMemory(memory, 0, 0);
        }
    }),
    ("MemoryFlags 0x1 must be zero", |a| {
        // SAFETY: freed once.
        unsafe {
            let memory = NdisAllocateMemoryWithTagPriority(a.handle, 16, TAG, 0);
            NdisFreeMemory(memory, 0, 1);
        }
    }),
    ("NdisMQueueDpcEx: null TargetProcessors", |a| {
        // SAFETY: nothing is read.
        unsafe { NdisMQueueDpcEx(a.interrupt, 0, null_mut(), null_mut()) };
    }),
    ("processor group 3 does not exist", |a| {
        let mut targets = GROUP_AFFINITY {
            Mask: 1,
            Group: 3,
            ..GROUP_AFFINITY::ZEROED
        };
        // SAFETY: as documented but for the group.
        unsafe { NdisMQueueDpcEx(a.interrupt, 0, &raw mut targets, null_mut()) };
    }),
    ("space 9 is not configuration space", |a| {
        let mut byte = 0u8;
        // SAFETY: a byte is asked for.
        unsafe { NdisMGetBusData(a.handle, 9, 0, (&raw mut byte).cast(), 1) };
    }),
    ("are not non-paged system memory", |a| {
        // SAFETY: it is not accessed.
        unsafe { NdisAllocateMdl(a.handle, without_provenance_mut(0x1000), 64) };
    }),
    ("NdisGetDataBuffer: alignment 3", |a| {
        // SAFETY: as documented but for the alignment.
        unsafe {
            mapped(a, |m| {
                NdisGetDataBuffer(m.buffers[0], 4, null_mut(), 3, 0);
            });
        }
    }),
];

const DMA: &[(&str, Misuse)] = &[
    ("ProcessSGListHandler is null", |a| {
        // SAFETY: as documented but for the handler.
        unsafe { register(a, dma(None)) };
    }),
    ("MaximumPhysicalMapping is zero", |a| {
        let mut description = dma(Some(listed));
        description.MaximumPhysicalMapping = 0;
        // SAFETY: as documented but for the size.
        unsafe { register(a, description) };
    }),
    ("1 scatter/gather list(s) were not freed", |a| {
        // SAFETY: deregistered too early.
        unsafe {
            mapped(a, |m| {
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                NdisMDeregisterScatterGatherDma(m.dma);
                m.dma = null_mut();
            });
        }
    }),
    ("has a scatter/gather list already", |a| {
        // SAFETY: mapped twice on purpose.
        unsafe {
            mapped(a, |m| {
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                m.map(0, 1, NDIS_SG_LIST_WRITE_TO_DEVICE);
                m.unmap(0, 0);
                m.unmap(1, 0);
            });
        }
    }),
    ("is too short or its pages are not locked", |a| {
        // SAFETY: it has more data than its MDL describes.
        unsafe {
            mapped(a, |m| {
                (*m.buffers[0]).Anonymous.DataLength = 65;
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
            });
        }
    }),
    ("is too short or its pages are not locked", |a| {
        // SAFETY: the MDL says for a while that nobody has locked its pages.
        unsafe {
            mapped(a, |m| {
                let flags = &raw mut (*(*m.buffers[0]).CurrentMdl).MdlFlags;
                let was = flags.replace(0);
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                flags.write(was);
            });
        }
    }),
    ("whose pages are not locked, though its flags say so", |a| {
        // SAFETY: the MDL says for a while that somebody has locked its pages.
        unsafe {
            mapped(a, |m| {
                let flags = &raw mut (*(*m.buffers[0]).CurrentMdl).MdlFlags;
                let was = flags.replace(MDL_PAGES_LOCKED);
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                flags.write(was);
            });
        }
    }),
    ("is no scatter/gather list of this registration", |a| {
        // SAFETY: freed twice on purpose.
        unsafe {
            mapped(a, |m| {
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                m.unmap(0, 0);
                m.unmap(0, 0);
            });
        }
    }),
    ("belongs to net buffer", |a| {
        // SAFETY: freed with another net buffer.
        unsafe {
            mapped(a, |m| {
                m.map(0, 0, NDIS_SG_LIST_WRITE_TO_DEVICE);
                m.unmap(0, 1);
            });
        }
    }),
    ("call NdisMRegisterScatterGatherDma first", |a| {
        let (mut memory, mut physical) = (null_mut(), 0);
        // SAFETY: nothing is allocated.
        unsafe {
            NdisMDeregisterScatterGatherDma(a.dma);
            NdisMAllocateSharedMemory(a.handle, 64, 1, &raw mut memory, &raw mut physical);
            let handler = super::traffic::process_sg_list;
            a.dma = register(a, dma(Some(handler)));
        }
    }),
    ("is no shared memory of this adapter", |a| {
        // SAFETY: nothing is freed.
        unsafe { NdisMFreeSharedMemory(a.handle, 64, 1, without_provenance_mut(0x1000), 0) };
    }),
    ("is 64 bytes at", |a| {
        let (mut memory, mut physical) = (null_mut(), 0);
        // SAFETY: as documented but for the length.
        unsafe {
            NdisMAllocateSharedMemory(a.handle, 64, 1, &raw mut memory, &raw mut physical);
            NdisMFreeSharedMemory(a.handle, 65, 1, memory, physical);
        }
    }),
];

/// Does each in a world of its own.
fn each_is_named(rule: &str, misuses: &[(&str, Misuse)]) {
    for (says, misuse) in misuses {
        let (mut world, a, _) = two_machines(true);
        MISUSE.set(Some(*misuse));
        world.install(a, INX, IMAGE).unwrap();
        world.uninstall(a);
        let found = world.take_violations();
        let [violation] = &found[..] else {
            let all: Vec<_> = found.iter().map(|v| &v.text).collect();
            panic!("{says}: one violation: {all:#?}");
        };
        assert_eq!(violation.rule, rule, "{says}");
        // What is missing in the simulator is nobody's fault.
        let culprit = if rule == kernel::NOT_SIMULATED {
            ""
        } else {
            "driver testnic"
        };
        assert_eq!(violation.culprit, culprit, "{says}");
        assert!(violation.text.contains(says), "{says}: {}", violation.text);
    }
}

#[test]
fn every_wrong_parameter_is_named() {
    each_is_named(rules::PARAMETER, PARAMETERS);
}

#[test]
fn every_misuse_of_dma_is_named() {
    each_is_named(rules::DMA, DMA);
}

#[test]
fn what_windows_has_and_the_simulator_has_not_is_no_rule() {
    each_is_named(
        kernel::NOT_SIMULATED,
        &[
            ("without NDIS_SG_DMA_64_BIT_ADDRESS", |a| {
                let mut description = dma(Some(listed));
                description.Flags = 0;
                // SAFETY: a structure as documented.
                unsafe { register(a, description) };
            }),
            ("with 7 values, 6 are simulated", |a| {
                // SAFETY: as many values as are said to be.
                unsafe { NdisWriteErrorLogEntry(a.handle, 1, 7, 1, 2, 3, 4, 5, 6, 7) };
            }),
        ],
    );
}

#[test]
fn sends_that_are_taken_back_are_aborted_and_no_others() {
    for (fault, named) in [
        (Fault::None, None),
        (
            Fault::CancelFails,
            Some("is given up in MiniportCancelSend"),
        ),
        // As if the hardware had it.
        (Fault::CancelForgets, None),
    ] {
        let (mut world, a, _) = two_machines(true);
        world.install(a, INX, IMAGE).unwrap();
        KEEP_SENDS.set(true);
        FAULT.set(fault);
        world.send_cancellable(a, &[vec![vec![0xff; 60]]], 7);
        // That is another's.
        world.cancel_sends(a, 8);
        assert_eq!(world.sends(a).cancelled, 0);
        world.cancel_sends(a, 7);
        assert_eq!(world.sends(a).cancelled, u64::from(fault == Fault::None));
        world.uninstall(a);
        let found = world.take_violations();
        assert_eq!(found.len(), usize::from(named.is_some()), "{found:?}");
        for (violation, says) in found.iter().zip(named) {
            assert_eq!(violation.rule, rules::SEND);
            assert!(violation.text.contains(says), "{violation}");
        }
    }
}
