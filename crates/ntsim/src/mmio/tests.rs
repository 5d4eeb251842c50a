//! Every form of access that a compiler or a driver's own assembly may use.

use std::arch::asm;
use std::cell::RefCell;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::rc::Rc;

use super::{Mapping, Registers};

/// 256 bytes of registers that remember how they were accessed.
struct Bank {
    bytes: RefCell<[u8; 256]>,
    log: RefCell<Vec<Touch>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    Read(u64, u8),
    Write(u64, u8, u64),
}
use Touch::{Read, Write};

impl Registers for Bank {
    fn read(&self, offset: u64, width: u8) -> u64 {
        self.log.borrow_mut().push(Read(offset, width));
        let mut value = [0; 8];
        let (at, width) = (offset as usize, usize::from(width));
        value[..width].copy_from_slice(&self.bytes.borrow()[at..at + width]);
        u64::from_le_bytes(value)
    }

    fn write(&self, offset: u64, width: u8, value: u64) {
        self.log.borrow_mut().push(Write(offset, width, value));
        let (at, width) = (offset as usize, usize::from(width));
        self.bytes.borrow_mut()[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
}

struct Device {
    bank: Rc<Bank>,
    mapping: Mapping,
}

impl Device {
    /// Registers whose byte `i` holds `0x80 | i`.
    fn new() -> Device {
        let bank = Rc::new(Bank {
            bytes: RefCell::new(std::array::from_fn(|i| 0x80 | i as u8)),
            log: RefCell::default(),
        });
        let mapping = Mapping::new(256, Rc::clone(&bank) as Rc<dyn Registers>).unwrap();
        Device { bank, mapping }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        self.mapping
            .base()
            .as_ptr()
            .wrapping_add(offset)
            .cast::<T>()
    }

    fn set(&self, offset: usize, bytes: &[u8]) {
        self.bank.bytes.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn touched(&self) -> Vec<Touch> {
        std::mem::take(&mut *self.bank.log.borrow_mut())
    }
}

#[test]
fn volatile_loads_of_every_width() {
    let device = Device::new();
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        assert_eq!(device.at::<u8>(1).read_volatile(), 0x81);
        assert_eq!(device.at::<u16>(2).read_volatile(), 0x8382);
        assert_eq!(device.at::<u32>(4).read_volatile(), 0x8786_8584);
        assert_eq!(device.at::<u64>(8).read_volatile(), 0x8f8e_8d8c_8b8a_8988);
        assert_eq!(i64::from(device.at::<i8>(1).read_volatile()), -0x7f);
        assert_eq!(i64::from(device.at::<i16>(2).read_volatile()), -0x7c7e);
        assert_eq!(i64::from(device.at::<i32>(4).read_volatile()), -0x7879_7a7c);
    }
    assert_eq!(
        device.touched(),
        [
            Read(1, 1),
            Read(2, 2),
            Read(4, 4),
            Read(8, 8),
            Read(1, 1),
            Read(2, 2),
            Read(4, 4)
        ]
    );
}

#[test]
fn volatile_stores_of_every_width() {
    let device = Device::new();
    let opaque = std::hint::black_box(0x1122_3344_5566_7788_u64);
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        device.at::<u8>(1).write_volatile(opaque as u8);
        device.at::<u16>(2).write_volatile(opaque as u16);
        device.at::<u32>(4).write_volatile(opaque as u32);
        device.at::<u64>(8).write_volatile(opaque);
        device.at::<u8>(16).write_volatile(0xfe);
        device.at::<u16>(18).write_volatile(0xfedc);
        device.at::<u32>(20).write_volatile(0xfedc_ba98);
        // Stored as a sign-extended 32-bit immediate.
        device.at::<u64>(24).write_volatile(u64::MAX - 1);
    }
    assert_eq!(
        device.touched(),
        [
            Write(1, 1, 0x88),
            Write(2, 2, 0x7788),
            Write(4, 4, 0x5566_7788),
            Write(8, 8, opaque),
            Write(16, 1, 0xfe),
            Write(18, 2, 0xfedc),
            Write(20, 4, 0xfedc_ba98),
            Write(24, 8, u64::MAX - 1),
        ]
    );
}

#[test]
fn loads_extend_as_the_processor_does() {
    let device = Device::new();
    let p = device.at::<u8>(0);
    let all = u64::MAX;
    // SAFETY: addresses in the mapping, served by the fault handler; only the named registers change.
    unsafe {
        let (mut a, mut b, mut c, mut d) = (all, all, all, all);
        asm!("mov {0:l}, byte ptr [{p} + 1]", "mov {1:x}, word ptr [{p} + 2]",
             "mov {2:e}, dword ptr [{p} + 4]", "mov {3:r}, qword ptr [{p} + 8]",
             inout(reg) a, inout(reg) b, inout(reg) c, inout(reg) d, p = in(reg) p, options(nostack));
        assert_eq!(a, 0xffff_ffff_ffff_ff81);
        assert_eq!(b, 0xffff_ffff_ffff_8382);
        assert_eq!(c, 0x8786_8584);
        assert_eq!(d, 0x8f8e_8d8c_8b8a_8988);

        let (mut a, mut b, mut c, mut d) = (all, all, all, all);
        asm!("movzx {0:x}, byte ptr [{p} + 1]", "movzx {1:e}, byte ptr [{p} + 1]",
             "movzx {2:e}, word ptr [{p} + 2]", "movzx {3:r}, word ptr [{p} + 2]",
             inout(reg) a, inout(reg) b, inout(reg) c, inout(reg) d, p = in(reg) p, options(nostack));
        assert_eq!(a, 0xffff_ffff_ffff_0081);
        assert_eq!(b, 0x81);
        assert_eq!(c, 0x8382);
        assert_eq!(d, 0x8382);

        let (mut a, mut b, mut c, mut d) = (0_u64, 0_u64, 0_u64, 0_u64);
        asm!("movsx {0:x}, byte ptr [{p} + 1]", "movsx {1:e}, byte ptr [{p} + 1]",
             "movsx {2:r}, word ptr [{p} + 2]", "movsxd {3:r}, dword ptr [{p} + 4]",
             inout(reg) a, inout(reg) b, inout(reg) c, inout(reg) d, p = in(reg) p, options(nostack));
        assert_eq!(a, 0xff81);
        assert_eq!(b, 0xffff_ff81);
        assert_eq!(c, 0xffff_ffff_ffff_8382);
        assert_eq!(d, 0xffff_ffff_8786_8584);
    }
}

#[test]
fn second_bytes_of_registers() {
    let device = Device::new();
    let (mut a, mut d) = (0x1111_2222_3333_4444_u64, 0x5555_6666_7777_8899_u64);
    // SAFETY: addresses in the mapping, served by the fault handler; only the named registers change.
    unsafe {
        asm!("mov ah, byte ptr [rcx + 5]", "mov byte ptr [rcx + 9], dh", "mov dl, byte ptr [rcx + 6]",
             inout("rax") a, inout("rdx") d, in("rcx") device.at::<u8>(0), options(nostack));
    }
    assert_eq!(a, 0x1111_2222_3333_8544);
    assert_eq!(d, 0x5555_6666_7777_8886);
    assert_eq!(
        device.touched(),
        [Read(5, 1), Write(9, 1, 0x88), Read(6, 1)]
    );
}

#[test]
fn every_register_and_addressing_mode() {
    let device = Device::new();
    macro_rules! through {
        ($($register:tt)*) => {$({
            let value: u64;
            // SAFETY: an address in the mapping, served by the fault handler.
            unsafe {
                asm!(concat!("mov ", $register, ", qword ptr [rdi + rsi * 4 - 8]"),
                     concat!("mov qword ptr [rdi + rsi * 4 + 8], ", $register),
                     in("rdi") device.at::<u8>(0), in("rsi") 4, lateout($register) value,
                     options(nostack));
            }
            assert_eq!(value, 0x8f8e_8d8c_8b8a_8988, $register);
            assert_eq!(device.touched(), [Read(8, 8), Write(24, 8, value)], $register);
        })*};
    }
    through!("rax" "rcx" "rdx" "r8" "r9" "r10" "r11" "r12" "r13" "r14" "r15");
}

#[test]
fn read_modify_write() {
    let device = Device::new();
    device.set(0, &[0xf0, 0x0f, 0, 0, 5, 0, 0, 0]);
    let p = device.at::<u8>(0);
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        asm!("or byte ptr [{p}], 1", "and byte ptr [{p} + 1], 0xfe", "xor word ptr [{p} + 2], -1",
             "add dword ptr [{p} + 4], {v:e}", "sub dword ptr [{p} + 4], 3", "inc dword ptr [{p} + 4]",
             "dec byte ptr [{p}]", "not byte ptr [{p}]", "neg byte ptr [{p}]",
             "lock or dword ptr [{p} + 4], 0x80", "lock bts dword ptr [{p} + 4], 31",
             p = in(reg) p, v = in(reg) 10, options(nostack));
    }
    assert_eq!(
        device.bank.bytes.borrow()[..8],
        [0xf1, 0x0e, 0xff, 0xff, 0x8d, 0, 0, 0x80]
    );
    assert_eq!(device.touched().len(), 22);
}

#[test]
fn comparisons_set_the_flags() {
    let device = Device::new();
    device.set(0, &[4, 0, 0, 0, 0x80, 0, 0, 0]);
    let p = device.at::<u8>(0);
    let (mut equal, mut below, mut bit, mut negative, mut carry): (u8, u8, u8, u8, u8);
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        asm!("cmp dword ptr [{p}], 4", "sete {a}", "cmp {v:e}, dword ptr [{p}]", "setb {b}",
             "test byte ptr [{p}], 4", "setnz {c}", "cmp byte ptr [{p} + 4], 0", "setl {d}",
             "bt dword ptr [{p}], 2", "setc {e}",
             p = in(reg) p, v = in(reg) 3, a = out(reg_byte) equal, b = out(reg_byte) below,
             c = out(reg_byte) bit, d = out(reg_byte) negative, e = out(reg_byte) carry, options(nostack));
    }
    assert_eq!([equal, below, bit, negative, carry], [1; 5]);
    // The same with the other outcome.
    device.set(0, &[3, 0, 0, 0, 0x7f]);
    // SAFETY: as above.
    unsafe {
        asm!("cmp dword ptr [{p}], 4", "sete {a}", "cmp {v:e}, dword ptr [{p}]", "setb {b}",
             "test byte ptr [{p}], 4", "setnz {c}", "cmp byte ptr [{p} + 4], 0", "setl {d}",
             "bt dword ptr [{p}], 2", "setc {e}",
             p = in(reg) p, v = in(reg) 3, a = out(reg_byte) equal, b = out(reg_byte) below,
             c = out(reg_byte) bit, d = out(reg_byte) negative, e = out(reg_byte) carry, options(nostack));
    }
    assert_eq!([equal, below, bit, negative, carry], [0; 5]);
}

#[test]
fn flags_are_those_the_processor_computes() {
    let device = Device::new();
    let p = device.at::<u32>(0);
    // What the processor itself makes of the same operation on ordinary memory is the expectation.
    const SHOWN: u64 = 0x8d5; // OF SF ZF AF PF CF
    let values = [
        0_u32,
        1,
        0xf,
        0x10,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fff0,
        u32::MAX,
    ];
    macro_rules! compare {
        ($($operation:literal $undefined:expr),*) => {$(
            for a in values {
                for b in values {
                    for carry in [0_u32, 1] {
                        let run = |at: *mut u32| -> (u64, u32) {
                            let flags: u64;
                            // SAFETY: `at` is ordinary memory or a served register.
                            unsafe {
                                asm!("bt {c:e}, 0", concat!($operation, " dword ptr [{p}], {b:e}"), "pushfq",
                                     "pop {f}", c = in(reg) carry, p = in(reg) at, b = in(reg) b, f = out(reg) flags);
                                (flags & SHOWN & !$undefined, at.read_volatile())
                            }
                        };
                        let mut memory = a;
                        device.set(0, &a.to_le_bytes());
                        let expected = run(&raw mut memory);
                        assert_eq!(run(p), expected, "{} {a:#x}, {b:#x} carry {carry}", $operation);
                    }
                }
            }
        )*};
    }
    const AF: u64 = 0x10;
    compare!("add" 0, "adc" 0, "sub" 0, "sbb" 0, "cmp" 0, "and" AF, "or" AF, "xor" AF, "test" AF);
}

#[test]
fn exchanges() {
    let device = Device::new();
    device.set(0, &[7, 0, 0, 0, 0, 0, 0, 0]);
    let p = device.at::<u8>(0);
    let (mut a, mut b) = (100_u64, 5_u64);
    let (mut accumulator, exchanged): (u64, u8);
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        asm!("xchg dword ptr [{p}], {a:e}", "lock xadd dword ptr [{p}], {b:e}",
             p = in(reg) p, a = inout(reg) a, b = inout(reg) b, options(nostack));
        assert_eq!((a, b), (7, 100));
        accumulator = 105;
        asm!("lock cmpxchg dword ptr [{p}], {v:e}", "sete {e}", p = in(reg) p, v = in(reg) 9,
             inout("rax") accumulator, e = out(reg_byte) exchanged, options(nostack));
    }
    assert_eq!((accumulator, exchanged), (105, 1));
    assert_eq!(device.bank.bytes.borrow()[..4], [9, 0, 0, 0]);
    let exchanged: u8;
    // SAFETY: as above.
    unsafe {
        asm!("lock cmpxchg dword ptr [{p}], {v:e}", "sete {e}", p = in(reg) p, v = in(reg) 1,
             inout("rax") accumulator, e = out(reg_byte) exchanged, options(nostack));
    }
    assert_eq!((accumulator, exchanged), (9, 0));
}

#[test]
fn conditional_and_string_moves() {
    let device = Device::new();
    let p = device.at::<u8>(0);
    let (mut taken, mut kept) = (u64::MAX, u64::MAX);
    // SAFETY: addresses in the mapping, served by the fault handler.
    unsafe {
        asm!("cmp {p}, {p}", "cmove {a:e}, dword ptr [{p} + 4]", "cmovne {b:e}, dword ptr [{p} + 4]",
             "sete byte ptr [{p} + 9]", p = in(reg) p, a = inout(reg) taken, b = inout(reg) kept,
             options(nostack));
    }
    assert_eq!((taken, kept), (0x8786_8584, 0xffff_ffff));
    assert_eq!(device.touched(), [Read(4, 4), Read(4, 4), Write(9, 1, 1)]);

    let mut copy = [0_u32; 3];
    // SAFETY: as above; `copy` is as long as what is moved.
    unsafe {
        asm!("rep movsd", in("rcx") 3, inout("rsi") device.at::<u32>(16) => _,
             inout("rdi") copy.as_mut_ptr() => _, lateout("rcx") _, options(nostack));
        asm!("rep movsw", in("rcx") 2, inout("rsi") copy.as_ptr() => _,
             inout("rdi") device.at::<u16>(32) => _, lateout("rcx") _, options(nostack));
        asm!("rep stosd", in("rcx") 2, in("eax") 7, inout("rdi") device.at::<u32>(40) => _,
             lateout("rcx") _, options(nostack));
    }
    assert_eq!(copy, [0x9392_9190, 0x9796_9594, 0x9b9a_9998]);
    assert_eq!(
        device.touched(),
        [
            Read(16, 4),
            Read(20, 4),
            Read(24, 4),
            Write(32, 2, 0x9190),
            Write(34, 2, 0x9392),
            Write(40, 4, 7),
            Write(44, 4, 7)
        ]
    );
}

#[test]
fn an_instruction_across_a_page_boundary_is_decoded() {
    // mov eax, [rdi]; ret, laid so that the page boundary falls inside the first instruction.
    let code = [0x8b, 0x07, 0xc3];
    let device = Device::new();
    // SAFETY: maps two fresh pages, fills in code that follows the C calling convention, and calls it.
    let value = unsafe {
        let pages = libc::mmap(
            std::ptr::null_mut(),
            8192,
            libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(pages, libc::MAP_FAILED);
        let start = pages.cast::<u8>().add(4095);
        std::ptr::copy_nonoverlapping(code.as_ptr(), start, code.len());
        let function: unsafe extern "C" fn(*const u32) -> u32 = std::mem::transmute(start);
        let first = function(device.at::<u32>(4));
        // Other code at the same address must not be served from the decode cache: mov al, [rdi].
        start.write(0x8a);
        let second = function(device.at::<u32>(8));
        libc::munmap(pages, 8192);
        (first, second & 0xff)
    };
    assert_eq!(value, (0x8786_8584, 0x88));
    assert_eq!(device.touched(), [Read(4, 4), Read(8, 1)]);
}

#[test]
fn each_thread_has_its_own_devices() {
    let threads: Vec<_> = (0..4)
        .map(|i| {
            std::thread::spawn(move || {
                for round in 0..100_u32 {
                    let device = Device::new();
                    // SAFETY: an address in the mapping, served by the fault handler.
                    unsafe { device.at::<u32>(4).write_volatile(i * 1000 + round) };
                    assert_eq!(device.touched(), [Write(4, 4, u64::from(i * 1000 + round))]);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Forks, runs `f` in the child and returns the signal that ended it, and what it said.
fn end_of(f: impl FnOnce()) -> (Option<i32>, String) {
    let (mut said, stderr) = std::io::pipe().expect("a pipe");
    // SAFETY: the child only runs `f` and leaves without unwinding or running destructors.
    unsafe {
        let child = libc::fork();
        assert!(child >= 0);
        if child == 0 {
            assert_eq!(libc::dup2(stderr.as_raw_fd(), 2), 2);
            f();
            libc::_exit(0);
        }
        drop(stderr);
        let mut text = String::new();
        said.read_to_string(&mut text).expect("text");
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        (signal, text)
    }
}

/// Forks, runs `f` in the child and returns the signal that ended it.
fn signal_of(f: impl FnOnce()) -> Option<i32> {
    end_of(f).0
}

#[test]
fn wild_pointers_still_crash() {
    let device = Device::new();
    let p = device.at::<u8>(0);
    let load = |at: *const u8| {
        // SAFETY: none: the point is that these crash, in a process of their own.
        signal_of(|| _ = std::hint::black_box(unsafe { at.read_volatile() }))
    };
    assert_eq!(load(p), None);
    assert_eq!(load(std::ptr::without_provenance(16)), Some(libc::SIGSEGV));
    // Inaccessible, but nobody's registers.
    // SAFETY: an anonymous mapping at an address of the system's choice, given back at once when the test ends.
    let page = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0)
    };
    assert_ne!(page, libc::MAP_FAILED);
    assert_eq!(load(page.cast()), Some(libc::SIGSEGV));
    // SAFETY: the page mapped above, which nobody uses.
    unsafe { libc::munmap(page, 4096) };
    // Vector accesses are not how registers are accessed.
    let vector = signal_of(|| {
        // SAFETY: as in `load`.
        unsafe { asm!("movups xmm0, [{p}]", p = in(reg) p, out("xmm0") _) }
    });
    assert_eq!(vector, Some(libc::SIGSEGV));
}

/// The system says so with the signal that it has for guards of special pool.
#[test]
fn a_host_without_memory_for_a_machine_is_no_fault_of_a_driver() {
    use crate::world::machine::MachineConfig;
    let mut world = crate::World::builder().ignore_environment().build();
    let a = world.add_machine(MachineConfig::named("A"));
    let machine = world.machine(a);
    let address = machine.ram.alloc_pages(1).expect("a page");
    let physical = machine.ram.physical(address).expect("memory");
    let device = machine.ram.device_ptr(machine.ram.logical(physical), 1);
    let driver = std::ptr::with_exposed_provenance_mut::<u8>(address);
    for memory in [driver, device.expect("memory")] {
        let (ended, said) = world.call(a, || {
            end_of(|| {
                // SAFETY: a page of the machine, behind which the child has a file put that holds nothing.
                unsafe {
                    memory.write_volatile(1);
                    let empty = libc::memfd_create(c"empty".as_ptr(), 0);
                    let (access, flags) = (
                        libc::PROT_READ | libc::PROT_WRITE,
                        libc::MAP_SHARED | libc::MAP_FIXED,
                    );
                    libc::mmap(memory.cast(), 4096, access, flags, empty, 0);
                    memory.write_volatile(1);
                }
            })
        });
        assert_eq!(ended, Some(libc::SIGBUS), "{said}");
        assert!(
            said.contains("the host has no memory left for a machine"),
            "{said}"
        );
    }
}

#[test]
fn a_fault_of_driver_code_is_a_bugcheck() {
    use crate::verifier::rules;
    use crate::world::machine::MachineConfig;
    let faults: [(&str, &dyn Fn()); 4] = [
        ("load from 0x10", &|| {
            // SAFETY: none, that is the point; here and below.
            _ = std::hint::black_box(unsafe {
                std::ptr::without_provenance::<u8>(16).read_volatile()
            });
        }),
        ("store to 0x18", &|| {
            // SAFETY: none.
            unsafe { std::ptr::without_provenance_mut::<u64>(24).write_volatile(1) };
        }),
        ("jump to 0x20", &|| {
            // SAFETY: none.
            let nowhere: extern "C" fn() = unsafe { std::mem::transmute(32_usize) };
            nowhere();
        }),
        ("load from 0x0", &|| {
            // SAFETY: none. Not canonical: the processor does not tell the address.
            unsafe { asm!("mov {0}, [{0}]", inout(reg) 1_u64 << 60 => _) };
        }),
    ];
    for (text, fault) in faults {
        let mut world = crate::World::builder().collect_violations().build();
        let machine = world.add_machine(MachineConfig::named("host"));
        assert!(world.try_call(machine, fault).is_none());
        let violations = world.finish().violations;
        assert_eq!(violations.len(), 1);
        assert_eq!(violations[0].rule, rules::ACCESS_VIOLATION);
        assert!(violations[0].text.contains(text), "{}", violations[0].text);
    }
    let mut world = crate::World::builder().collect_violations().build();
    let machine = world.add_machine(MachineConfig::named("host"));
    let device = Device::new();
    let vector = || {
        // SAFETY: an address in the mapping, which is not accessed like that.
        unsafe { asm!("movups xmm0, [{p}]", p = in(reg) device.at::<u8>(0), out("xmm0") _) }
    };
    assert!(world.try_call(machine, vector).is_none());
    let violations = world.finish().violations;
    assert_eq!(violations[0].rule, rules::REGISTER_INSTRUCTION);
}
