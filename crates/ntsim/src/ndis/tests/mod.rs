//! NDIS tested with a miniport of its own: first well behaved, then breaking one rule at a time.

mod corners;
mod failing;
mod fault;
mod miniport;
mod misuse;
mod netio;
mod never;
mod nic;
mod oids;
mod provider;
mod states;
mod traffic;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::time::Duration;

use ndis_sys::imports::*;
use ndis_sys::ndis::*;
use ndis_sys::oid::{OID_802_3_PERMANENT_ADDRESS, OID_GEN_STATISTICS};
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::{DriverImage, InstallError, OidRequest, rules};
use crate::world::{MachineConfig, MachineId, World, WorldBuilder};
use fault::{
    ATTRIBUTES, CORNER, Corner, FAULT, Fault, HANGS, KEEP_OIDS, KEEP_SENDS, LINES, LOG, NICS,
    OIDS_INSIDE, PEND_OIDS, PEND_PAUSE, PEND_RESET, RESETS, RESOURCES,
};

const INX: &str = r#"
[Version]
Signature = "$Windows NT$"
Class = Net
ClassGuid = {4d36e972-e325-11ce-bfc1-08002be10318}
Provider = %P%
CatalogFile = t.cat
PnpLockdown = 1
DriverVer =
[Manufacturer]
%P% = Models, NT$ARCH$.10.0...16299
[Models.NT$ARCH$.10.0...16299]
%P% = nic, PCI\VEN_1AF4&DEV_1041
[nic.NT]
Characteristics = 0x84
BusType = 5
*IfType = 6
*MediaType = 0
*PhysicalMediaType = 14
AddReg = nic.reg
[nic.reg]
HKR, Ndi\Interfaces, UpperRange, 0, "ndis5"
HKR, Ndi\params\*JumboPacket, ParamDesc, 0, "Jumbo"
HKR, Ndi\params\*JumboPacket, Type, 0, "int"
HKR, Ndi\params\*JumboPacket, Default, 0, "1514"
[nic.NT.HW]
AddReg = nic.hw
[nic.hw]
HKR, "Interrupt Management\MessageSignaledInterruptProperties", MSISupported, 0x10001, 1
[nic.NT.Services]
AddService = testnic, 2, nic.service
[nic.service]
ServiceType = 1
StartType = 3
ErrorControl = 1
ServiceBinary = %13%\testnic.sys
[Strings]
P = "Test"
"#;

const IMAGE: DriverImage = DriverImage::Linked(miniport::driver_entry);

/// Two machines whose NICs are connected, no driver installed.
fn two_machines(collect: bool) -> (World, MachineId, MachineId) {
    LINES.set(false);
    two_machines_as_set(collect)
}

fn two_machines_as_set(collect: bool) -> (World, MachineId, MachineId) {
    let builder = World::builder().seed(5);
    two_machines_of(if collect {
        builder.collect_violations()
    } else {
        builder
    })
}

fn two_machines_of(builder: WorldBuilder) -> (World, MachineId, MachineId) {
    FAULT.set(Fault::None);
    CORNER.set(Corner::None);
    PEND_OIDS.set(false);
    KEEP_OIDS.set(false);
    KEEP_SENDS.set(false);
    RESETS.set(false);
    HANGS.set(false);
    PEND_RESET.set(false);
    ATTRIBUTES.set(0);
    PEND_PAUSE.set(false);
    RESOURCES.set(false);
    NICS.with_borrow_mut(Vec::clear);
    LOG.with_borrow_mut(Vec::clear);
    let mut world = builder.build();
    let machine = |world: &mut World, name: &str, host: u8| {
        let id = world.add_machine(
            MachineConfig::named(name)
                .ipv4(Ipv4Addr::new(10, 0, 0, host), 24)
                .processors(2),
        );
        let machine = world.machine(id);
        nic::plug(&machine);
        id
    };
    let a = machine(&mut world, "A", 1);
    let b = machine(&mut world, "B", 2);
    (world, a, b)
}

fn address(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, host))
}

fn log() -> Vec<String> {
    LOG.take()
}

#[test]
fn a_well_behaved_miniport_lives_and_dies() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    assert_eq!(log(), ["initialize", "pnp 5", "restart"]);
    let info = world.adapter(a).unwrap();
    assert!(info.running && info.link.up && info.ndk.is_none());
    assert_eq!((info.mtu, info.mac), (1500, [2, 0, 0, 0, 1, 0]));
    world.pause(a);
    world.resume(a).unwrap();
    world.cancel_sends(a, 0x1234);
    world.shutdown(a);
    assert_eq!(log(), ["pause", "restart", "cancel send", "shutdown"]);
    world.restart_adapters(a).unwrap();
    assert_eq!(log(), ["pause", "halt", "initialize", "pnp 5", "restart"]);
    PEND_PAUSE.set(true);
    world.uninstall(a);
    assert_eq!(log(), ["pause", "halt", "unload"]);
    assert!(world.adapter(a).is_none());
    world.install(a, INX, IMAGE).unwrap();
    world.surprise_remove(a);
    assert_eq!(
        log(),
        [
            "initialize",
            "pnp 5",
            "restart",
            "pnp 2",
            "pause",
            "halt",
            "unload"
        ]
    );
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

#[test]
fn two_machines_ping_each_other_through_their_miniports() {
    for resources in [false, true] {
        let (mut world, a, b) = two_machines(false);
        RESOURCES.set(resources);
        world.install(a, INX, IMAGE).unwrap();
        world.install(b, INX, IMAGE).unwrap();
        assert_eq!(world.ping(a, address(9)), None, "nobody has that address");
        for bytes in [0, 56, 1400] {
            assert!(
                world.ping_with(a, address(2), bytes).is_some(),
                "{bytes} bytes"
            );
            assert!(
                world.ping_with(b, address(1), bytes).is_some(),
                "{bytes} bytes"
            );
        }
        world.set_receive_throttle(a, 1);
        assert!(world.ping(b, address(1)).is_some());
        world.uninstall(a);
        assert_eq!(world.ping(b, address(1)), None, "the peer is gone");
        world.uninstall(b);
        let report = world.finish();
        assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
    }
}

#[test]
fn a_device_without_messages_interrupts_by_its_line() {
    LINES.set(true);
    let (mut world, a, b) = two_machines_as_set(false);
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    for _ in 0..3 {
        assert!(world.ping(a, address(2)).is_some());
    }
    world.set_receive_throttle(a, 1);
    assert!(world.ping(b, address(1)).is_some());
    world.restart_adapters(a).unwrap();
    assert!(world.ping(b, address(1)).is_some());
    world.uninstall(a);
    world.uninstall(b);
    let report = world.finish();
    assert!(report.is_clean() && report.leaks.is_empty(), "{report}");
}

#[test]
fn a_line_that_is_never_acknowledged_is_accused() {
    LINES.set(true);
    let (mut world, a, b) = two_machines_as_set(true);
    world.install(b, INX, IMAGE).unwrap();
    FAULT.set(Fault::NeverAcknowledges);
    world.install(a, INX, IMAGE).unwrap();
    world.ping(b, address(1));
    world.uninstall(a);
    let violations = world.take_violations();
    let named: Vec<_> = violations.iter().map(|v| v.rule).collect();
    assert_eq!(named, [rules::INTERRUPT]);
}

#[test]
fn oid_requests_complete_inline_pending_and_directly() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    for pend in [false, true] {
        PEND_OIDS.set(pend);
        let result = world
            .oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 200))
            .unwrap();
        assert_eq!(
            (result.status, result.data.len(), result.pended),
            (NDIS_STATUS_SUCCESS, 152, pend)
        );
        let result = world
            .oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 10))
            .unwrap();
        assert_eq!(
            (result.status, result.needed),
            (NDIS_STATUS_BUFFER_TOO_SHORT, 152)
        );
        let result = world
            .oid(a, &OidRequest::Query(OID_802_3_PERMANENT_ADDRESS, 6))
            .unwrap();
        assert_eq!(result.status, NDIS_STATUS_NOT_SUPPORTED);
    }
    for pend in [false, true] {
        PEND_OIDS.set(pend);
        let result = world
            .direct_oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 152))
            .unwrap();
        assert_eq!((result.data.len(), result.pended), (152, pend));
    }
    PEND_OIDS.set(false);
    world.uninstall(a);
}

#[test]
fn regular_oid_requests_come_one_at_a_time() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    PEND_OIDS.set(true);
    OIDS_INSIDE.set((0, 0));
    let answered = Rc::new(Cell::new(0));
    let machine = world.machine(a);
    let adapter = Rc::clone(&super::of(&machine).adapters.borrow()[0]);
    world.on_machine(a, |machine| {
        for _ in 0..3 {
            let (adapter, answered) = (Rc::clone(&adapter), Rc::clone(&answered));
            machine.queue_work(move || {
                let asked = OidRequest::Query(OID_GEN_STATISTICS, 152);
                let result = super::oid::request(&adapter, &asked);
                assert_eq!((result.data.len(), result.pended), (152, true));
                answered.set(answered.get() + 1);
            });
        }
    });
    world.run_until_idle();
    assert_eq!((answered.get(), OIDS_INSIDE.get()), (3, (0, 1)));
    PEND_OIDS.set(false);
    world.uninstall(a);
}

#[test]
fn a_direct_request_overtakes_regular_ones_that_wait_and_those_can_be_cancelled() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let asked = OidRequest::Query(OID_GEN_STATISTICS, 152);
    KEEP_OIDS.set(true);
    log();
    let [first, second, third] = [(); 3].map(|()| world.start_oid(a, &asked).unwrap());
    let direct = world.start_direct_oid(a, &asked).unwrap();
    assert!(direct.is_done());
    let direct = direct.wait(&mut world);
    assert_eq!((direct.data.len(), direct.pended), (152, false));
    world.run_for(Duration::from_secs(1));
    assert!(!first.is_done() && !second.is_done() && !third.is_done());
    // The second waits in NDIS: the miniport is not asked.
    world.cancel_oid(&second);
    let second = second.wait(&mut world);
    assert_eq!(second.status, NDIS_STATUS_REQUEST_ABORTED);
    assert_eq!(log(), [""; 0]);
    world.cancel_oid(&first);
    KEEP_OIDS.set(false);
    let first = first.wait(&mut world);
    assert_eq!(
        (first.status, first.pended),
        (NDIS_STATUS_REQUEST_ABORTED, true)
    );
    assert_eq!(log(), ["cancel OID"]);
    assert_eq!(third.wait(&mut world).status, NDIS_STATUS_SUCCESS);
    world.uninstall(a);
}

#[test]
fn a_handler_is_held_at_each_call_of_the_kernel_that_it_makes_at_passive_level() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    PEND_OIDS.set(true);
    let asked = OidRequest::Query(OID_GEN_STATISTICS, 152);
    // It queues a work item, and that is all.
    let held = world.hold_oid(a, &asked, 0).unwrap();
    assert!(held.is_held());
    world.run_for(Duration::from_secs(1));
    assert!(held.is_held() && !held.is_done());
    held.release();
    assert_eq!(held.wait(&mut world).data.len(), 152);
    let free = world.hold_oid(a, &asked, 1).unwrap();
    assert!(!free.is_held());
    assert_eq!(free.wait(&mut world).data.len(), 152);
    PEND_OIDS.set(false);
    world.uninstall(a);
}

#[test]
fn oid_requests_after_a_surprise_removal_reach_the_miniport_until_it_is_halted() {
    for fault in [Fault::None, Fault::OidAfterRemoval] {
        let (mut world, a, _) = two_machines(true);
        FAULT.set(fault);
        world.install(a, INX, IMAGE).unwrap();
        world.begin_surprise_removal(a);
        let asked = OidRequest::Query(OID_GEN_STATISTICS, 152);
        let regular = world.oid(a, &asked).unwrap();
        let direct = world.direct_oid(a, &asked).unwrap();
        let named: Vec<_> = world.take_violations().iter().map(|v| v.rule).collect();
        if fault == Fault::None {
            assert_eq!(regular.status, NDIS_STATUS_NOT_ACCEPTED);
            assert_eq!(direct.status, NDIS_STATUS_NOT_ACCEPTED);
            assert_eq!(named, [""; 0]);
        } else {
            assert_eq!(regular.status, NDIS_STATUS_SUCCESS);
            assert_eq!(named, [rules::OID, rules::OID]);
        }
        world.end_surprise_removal(a);
        assert!(world.oid(a, &asked).is_none());
    }
}

unsafe extern "efiapi" fn synchronized(nic: *mut c_void) -> BOOLEAN {
    fault::log("begins");
    // SAFETY: the NIC of the test, which it keeps.
    let nic = unsafe { &*nic.cast::<nic::Nic>() };
    fault::aside(|| nic.function.borrow().as_ref().map(|f| f.raise(1)));
    for _ in 0..20 {
        // SAFETY: needs nothing. Each return to the driver is an opportunity for other processors.
        unsafe { KeGetCurrentIrql() };
    }
    fault::log("ends");
    1
}

#[test]
fn who_synchronises_with_an_interrupt_excludes_its_handler() {
    let (world, a, _) = two_machines_of(World::builder().seed(5).interleave(1));
    let mut world = world;
    world.install(a, INX, IMAGE).unwrap();
    log();
    let machine = world.machine(a);
    let adapter = Rc::clone(&super::of(&machine).adapters.borrow()[0]);
    let interrupt = Rc::clone(&adapter.interrupts.borrow()[0]);
    let nic = NICS.with_borrow(|n| Rc::clone(&n[0]));
    // Message 1 goes to processor 1, this runs on processor 0.
    world.call(a, || {
        let nic = Rc::as_ptr(&nic).cast_mut().cast();
        // SAFETY: calls as documented.
        unsafe { NdisMSynchronizeWithInterruptEx(interrupt.handle(), 1, synchronized, nic) };
    });
    world.run_until_idle();
    assert_eq!(log(), ["begins", "ends", "message 1"]);
    world.uninstall(a);
}

unsafe extern "efiapi" fn note_time(
    _reserved: *mut c_void,
    context: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
) {
    // SAFETY: the variable of the test, which outlives the timer.
    unsafe { KeQuerySystemTimePrecise(context.cast()) };
}

#[test]
fn ndis_and_the_kernel_have_the_same_times() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let machine = world.machine(a);
    let handle = super::of(&machine).adapters.borrow()[0].handle.get();
    let (mut due, mut expired) = (0i64, 0i64);
    let expired = &raw mut expired;
    let timer = world.call(a, || {
        let mut characteristics = NDIS_TIMER_CHARACTERISTICS {
            Header: miniport::header(
                NDIS_OBJECT_TYPE_TIMER_CHARACTERISTICS,
                NDIS_TIMER_CHARACTERISTICS_REVISION_1,
                NDIS_SIZEOF_TIMER_CHARACTERISTICS_REVISION_1,
            ),
            AllocationTag: 1,
            TimerFunction: Some(note_time),
            FunctionContext: expired.cast(),
        };
        let mut timer = std::ptr::null_mut();
        // SAFETY: calls as documented.
        unsafe {
            let mut up = 0;
            NdisGetSystemUpTimeEx(&raw mut up);
            let interrupt_time = KeQueryUnbiasedInterruptTime() / 10_000;
            assert_eq!(u64::try_from(up), Ok(interrupt_time));
            NdisAllocateTimerObject(handle, &raw mut characteristics, &raw mut timer);
            KeQuerySystemTimePrecise(&raw mut due);
            due += 50_000;
            NdisSetTimerObject(timer, due, 0, std::ptr::null_mut());
        }
        timer
    });
    world.run_for(Duration::from_millis(10));
    // SAFETY: the timer has expired.
    assert_eq!(unsafe { *expired }, due);
    // SAFETY: calls as documented.
    world.call(a, || unsafe { NdisFreeTimerObject(timer) });
    world.uninstall(a);
}

#[test]
fn failures_of_the_driver_fail_the_installation_and_leave_nothing() {
    let (mut world, a, _) = two_machines(false);
    FAULT.set(Fault::EntryFails);
    let error = world.install(a, INX, IMAGE).unwrap_err();
    assert_eq!(
        error,
        InstallError::DriverEntry(STATUS_INSUFFICIENT_RESOURCES)
    );
    FAULT.set(Fault::InitializeFails);
    let error = world.install(a, INX, IMAGE).unwrap_err();
    assert_eq!(error, InstallError::Initialize(NDIS_STATUS_RESOURCES));
    FAULT.set(Fault::None);
    world.install(a, INX, IMAGE).unwrap();
    assert_eq!(world.install(a, INX, IMAGE), Err(InstallError::NoDevice));
    world.uninstall(a);
    let report = world.finish();
    assert!(report.leaks.is_empty());
}

#[test]
fn addresses_come_and_go() {
    let (mut world, a, b) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    assert_eq!(
        world.addresses(a).len(),
        2,
        "the configured one and a link-local one"
    );
    world.add_address(b, address(7), 24);
    assert!(world.ping(a, address(7)).is_some());
    world.remove_address(b, address(7));
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.ping(a, address(7)), None);
    let machine = world.machine(a);
    let resolved = world.on_machine(a, |m| {
        let binding = crate::tcpip::of(m).bindings()[0].clone();
        (binding.resolve(address(2)), binding.resolve(address(77)))
    });
    assert_eq!(resolved.0.map(|n| n.mac), Some([2, 0, 0, 0, 1, 1]));
    assert_eq!(resolved.1, None);
    drop(machine);
    world.uninstall(a);
    world.uninstall(b);
}

#[test]
fn one_driver_serves_two_adapters_of_a_machine() {
    let (mut world, a, b) = two_machines(false);
    // NICs 2 and 3: connected to each other, on one machine.
    let machine = world.machine(a);
    nic::plug(&machine);
    nic::plug(&world.machine(b));
    for _ in 0..2 {
        world.install(a, INX, IMAGE).unwrap();
        world.install(b, INX, IMAGE).unwrap();
    }
    assert_eq!(world.install(a, INX, IMAGE), Err(InstallError::NoDevice));
    let entries = super::of(&machine).drivers.borrow().len();
    assert_eq!(
        (entries, super::of(&machine).adapters.borrow().len()),
        (1, 2)
    );
    assert!(world.ping(a, address(2)).is_some());
    log();
    world.uninstall(a);
    assert_eq!(log(), ["pause", "halt", "pause", "halt", "unload"]);
    world.uninstall(b);
}

/// Every fault with the rule that must be named, first and, but for what follows from it, alone.
const CULPRITS: &[(Fault, &str)] = &[
    (Fault::WrongHeader, rules::HEADER),
    (Fault::NoHaltHandler, rules::CHARACTERISTICS),
    (Fault::FutureNdis, rules::CHARACTERISTICS),
    (Fault::GeneralFirst, rules::ATTRIBUTES),
    (Fault::NoGeneral, rules::ATTRIBUTES),
    (Fault::NullContext, rules::ATTRIBUTES),
    (Fault::MapOutside, rules::PARAMETER),
    (Fault::MapTooEarly, rules::PHASE),
    (Fault::NdkWithoutProvider, rules::ATTRIBUTES),
    (Fault::NoInterruptHandlers, rules::INTERRUPT),
    (Fault::LeakInterrupt, rules::LEAK),
    (Fault::LeakMapping, rules::LEAK),
    (Fault::LeakPool, rules::LEAK),
    (Fault::LeakSharedMemory, rules::LEAK),
    (Fault::LeakMemory, crate::verifier::rules::POOL_LEAK),
    (Fault::LeakWorkItem, rules::LEAK),
    (Fault::LeakTimer, rules::LEAK),
    (Fault::LeakConfiguration, rules::LEAK),
    (Fault::NoBusMaster, rules::DMA),
    (Fault::CompleteSendTwice, rules::SEND),
    (Fault::WrongSendFlag, rules::SEND),
    (Fault::ChangedSend, rules::SEND),
    (Fault::ScribbleSend, crate::verifier::rules::MDL_INVARIANT),
    (Fault::AbortUnasked, rules::SEND),
    (Fault::ForgetSend, rules::STATE),
    (Fault::KeepScatterGatherList, rules::DMA),
    (Fault::BadSendStatus, rules::SEND),
    (Fault::IndicateTwice, rules::RECEIVE),
    (Fault::IndicateWrongCount, rules::RECEIVE),
    (Fault::IndicateForeignSource, rules::RECEIVE),
    (Fault::WrongReceiveFlag, rules::RECEIVE),
    (
        Fault::ScribbleReceive,
        crate::verifier::rules::MDL_INVARIANT,
    ),
    (Fault::FreeWhileIndicated, rules::NET_BUFFER),
    (Fault::IndicateUnderLock, crate::verifier::rules::LOCK_HELD),
    (Fault::IndicatePaused, rules::STATE),
    (Fault::PauseTooEarly, rules::STATE),
    (Fault::PauseTwice, rules::STATE),
    (Fault::OidWritesTooMuch, rules::OID),
    (Fault::OidCompletesTwice, rules::OID),
    (Fault::OidTooShortWithoutNeed, rules::OID),
    (Fault::PnpEventInOid, rules::PNP_EVENT),
    (Fault::StatusWrongSource, rules::STATUS),
    (Fault::ForgetDeregister, rules::PHASE),
    (Fault::QueueWorkTwice, rules::WORK),
    (Fault::FreeListTwice, rules::NET_BUFFER),
    (Fault::BadHandle, rules::HANDLE),
    (Fault::NetioLeak, rules::NETIO),
];

/// Other rules that are broken later because that one was, as the run goes on.
fn follows(fault: Fault) -> &'static [&'static str] {
    use crate::verifier::rules::{DMA_FREED_MAPPED, POOL_LEAK};
    match fault {
        // What is refused is never halted, and keeps what it has.
        Fault::NoGeneral => &[POOL_LEAK],
        Fault::KeepScatterGatherList => &[DMA_FREED_MAPPED],
        // A list that NDIS does not give back is not freed, nor its pool.
        Fault::FreeWhileIndicated => &[POOL_LEAK],
        Fault::IndicatePaused | Fault::PauseTooEarly | Fault::PauseTwice => {
            &[rules::NET_BUFFER, POOL_LEAK]
        }
        _ => &[],
    }
}

#[test]
fn each_broken_rule_is_named() {
    for (fault, rule) in CULPRITS {
        let (mut world, a, b) = two_machines(true);
        FAULT.set(*fault);
        PEND_OIDS.set(*fault == Fault::OidCompletesTwice);
        let installed = world.install(a, INX, IMAGE);
        FAULT.set(Fault::None);
        PEND_OIDS.set(false);
        world.install(b, INX, IMAGE).unwrap();
        FAULT.set(*fault);
        PEND_OIDS.set(*fault == Fault::OidCompletesTwice);
        if installed.is_ok() {
            world.ping(a, address(2));
            world.oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 160));
            world.oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 16));
            world.direct_oid(a, &OidRequest::Query(OID_GEN_STATISTICS, 160));
            world.uninstall(a);
        }
        let violations = world.take_violations();
        let named: Vec<_> = violations.iter().map(|v| v.rule).collect();
        let (first, others) = named.split_first().expect("a violation");
        assert_eq!(first, rule, "{fault:?}");
        let follow: BTreeSet<_> = others.iter().filter(|other| *other != rule).collect();
        let expected: BTreeSet<_> = follows(*fault).iter().collect();
        assert_eq!(follow, expected, "{fault:?}");
        let _ = Rc::clone(&world.machine(a));
    }
}
