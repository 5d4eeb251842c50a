//! A provider in the simulated kernel, whose session reads what it writes.

use std::net::SocketAddr;
use std::string::ToString;
use std::vec::Vec;

use ntsim::etw::{TraceConfig, Value};
use ntsim::{MachineConfig, MachineId, World};

use super::*;
use crate::Status;
use crate::sys::types::DISPATCH_LEVEL;
use crate::sys::wdm::*;

const ID: GUID = GUID {
    Data1: 0x1234_5678,
    ..GUID::ZEROED
};
const RED: u64 = 1;
const BLUE: u64 = 2;

crate::events! {
    /// Every type of field.
    Everything: Warning, RED | BLUE, {
        /// Fields.
        small: u8,
        /// Fields.
        short: u16,
        /// Fields.
        word: u32,
        /// Fields.
        long: u64,
        /// Fields.
        yes: bool,
        /// Fields.
        status: Status,
        /// Fields.
        text: Text,
        /// Fields.
        mac: Bytes<6>,
        /// Fields.
        from: Address,
        /// Fields.
        to: Address,
    }
    /// Little.
    Little: Verbose, BLUE, {
        /// A field.
        n: u8,
    }
}

fn everything() -> Everything {
    let v4: SocketAddr = "10.0.0.1:445".parse().unwrap();
    let v6: SocketAddr = "[fd00::2]:5445".parse().unwrap();
    Everything {
        small: 0xfe,
        short: 0xfedc,
        word: 0xfedc_ba98,
        long: 0xfedc_ba98_7654_3210,
        yes: true,
        status: Status(crate::sys::status::STATUS_CONNECTION_REFUSED),
        text: "why not".into(),
        mac: [2, 0, 0, 0, 0, 0xab].into(),
        from: v4.into(),
        to: v6.into(),
    }
}

fn provided() -> (World, MachineId, Shared<Provider>) {
    let mut world = World::builder().build();
    let machine = world.add_machine(MachineConfig::named("A"));
    let provider = world.call(machine, || {
        // SAFETY: this is PASSIVE_LEVEL.
        let passive = unsafe { Passive::assume() };
        Provider::register(&ID, crate::provider_name!("Test"), passive).unwrap()
    });
    (world, machine, provider)
}

#[test]
fn an_event_arrives_as_it_was_written() {
    let (mut world, machine, provider) = provided();
    world.start_trace(machine, TraceConfig::all(ID));
    world.call_on(machine, 0, DISPATCH_LEVEL, || {
        provider.write(everything);
        provider.write(|| Little { n: 7 });
    });
    let events = world.traced(machine);
    let texts: Vec<_> = events.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "Everything small=254 short=65244 word=4275878552 long=18364758544493064720 yes=true \
             status=STATUS_CONNECTION_REFUSED (0xc0000236) text=\"why not\" mac=02-00-00-00-00-ab \
             from=10.0.0.1:445 to=[fd00::2]:5445",
            "Little n=7"
        ]
    );
    assert_eq!(events[0].provider, "Test");
    assert_eq!((events[0].level, events[0].keyword), (3, 3));
    assert_eq!(events[0].get("yes"), Some(&Value::Bool(true)));
    world.call(machine, || drop(provider));
}

#[test]
fn nothing_is_put_together_that_nobody_wants() {
    let (mut world, machine, provider) = provided();
    let unwanted = |world: &mut World| {
        world.call(machine, || {
            provider.write(|| -> Everything { unreachable!("nobody wants this") });
        });
    };
    let wanted = |level, any, all| TraceConfig {
        level,
        any,
        all,
        ..TraceConfig::all(ID)
    };
    unwanted(&mut world);
    for config in [
        wanted(TRACE_LEVEL_ERROR, 0, 0),
        wanted(TRACE_LEVEL_VERBOSE, 4, 0),
        wanted(TRACE_LEVEL_VERBOSE, BLUE, 4),
    ] {
        world.start_trace(machine, config);
        unwanted(&mut world);
    }
    let mut written = 0;
    for config in [
        wanted(TRACE_LEVEL_WARNING, 0, 0),
        wanted(0, 0, RED | BLUE),
        wanted(TRACE_LEVEL_VERBOSE, 4 | BLUE, RED),
    ] {
        world.start_trace(machine, config);
        world.call(machine, || provider.write(everything));
        written += 1;
        assert_eq!(world.traced(machine).len(), written);
    }
    world.stop_trace(machine, ID);
    unwanted(&mut world);
    world.call(machine, || drop(provider));
}

#[test]
fn a_provider_that_cannot_be_registered_or_described_is_silent() {
    for (at, function) in [(1, "EtwRegister"), (2, "EtwSetInformation")] {
        let mut world = World::builder().build();
        let machine = world.add_machine(MachineConfig::named("A"));
        world.start_trace(machine, TraceConfig::all(ID));
        world.fail_allocations(machine, Some(at), false);
        world.call(machine, || {
            // SAFETY: this is PASSIVE_LEVEL.
            let passive = unsafe { Passive::assume() };
            let provider = Provider::register(&ID, crate::provider_name!("Test"), passive).unwrap();
            provider.write(|| -> Everything { unreachable!("it is not registered") });
        });
        assert_eq!(world.take_failed_functions(machine), [function]);
        assert_eq!(world.traced(machine), []);
    }
}

/// An independent set of the same numbers.
#[test]
fn types_are_numbered_as_tracelogging_numbers_them() {
    use tracelogging::{Channel, InType, OutType};
    let stored = [
        (TDH_INTYPE_UINT8, InType::U8),
        (TDH_INTYPE_UINT16, InType::U16),
        (TDH_INTYPE_INT32, InType::I32),
        (TDH_INTYPE_UINT32, InType::U32),
        (TDH_INTYPE_UINT64, InType::U64),
        (TDH_INTYPE_BINARY, InType::Binary),
        (TDH_INTYPE_MANIFEST_COUNTEDANSISTRING, InType::Str8),
    ];
    for (ours, theirs) in stored {
        assert_eq!(ours, theirs.as_int());
    }
    let shown = [
        (TlgOutNULL, OutType::Default),
        (TlgOutBOOLEAN, OutType::Boolean),
        (TlgOutSOCKETADDRESS, OutType::SocketAddress),
        (TlgOutNTSTATUS, OutType::NtStatus),
    ];
    for (ours, theirs) in shown {
        assert_eq!(ours, theirs.as_int());
    }
    assert_eq!(
        WINEVENT_CHANNEL_TRACELOGGING,
        Channel::TraceLogging.as_int()
    );
}
