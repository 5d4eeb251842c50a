//! The IP helper functions, called as a driver calls them.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ptr::{null, null_mut};
use std::rc::Rc;
use std::time::Duration;

use ndis_sys::imports::*;
use ndis_sys::netioapi::*;
use ndis_sys::socket::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use super::fault::NICS;
use super::{IMAGE, INX, address, two_machines};
use crate::ndis::rules;
use crate::tcpip::{from_sockaddr, to_sockaddr};
use crate::world::context;
use crate::world::wait::sleep_until;

thread_local! {
    static CHANGES: RefCell<Vec<(Option<IpAddr>, i32)>> = const { RefCell::new(Vec::new()) };
    static HANDLE: Cell<HANDLE> = const { Cell::new(null_mut()) };
}

unsafe extern "efiapi" fn changed(
    context: *mut c_void,
    row: *mut MIB_UNICASTIPADDRESS_ROW,
    kind: i32,
) {
    assert_eq!(context.addr(), 0x77);
    let _kernel = crate::world::context::KernelMode::enter();
    // SAFETY: null or a valid row.
    let ip = unsafe { row.as_ref() }
        .and_then(|r| from_sockaddr(&r.Address))
        .map(|(ip, _)| ip);
    CHANGES.with_borrow_mut(|c| c.push((ip, kind)));
}

fn table(family: ADDRESS_FAMILY) -> Result<Vec<(IpAddr, u8, u32)>, NTSTATUS> {
    let mut table = null_mut();
    // SAFETY: calls as documented.
    unsafe {
        let status = GetUnicastIpAddressTable(family, &raw mut table);
        if status != STATUS_SUCCESS {
            return Err(status);
        }
        let first = (&raw const (*table).Table).cast::<MIB_UNICASTIPADDRESS_ROW>();
        let rows = std::slice::from_raw_parts(first, (*table).NumEntries as usize);
        let out = rows
            .iter()
            .filter_map(|r| {
                Some((
                    from_sockaddr(&r.Address)?.0,
                    r.OnLinkPrefixLength,
                    r.InterfaceIndex,
                ))
            })
            .collect();
        FreeMibTable(table.cast());
        Ok(out)
    }
}

#[test]
fn addresses_are_listed_and_their_changes_told() {
    let (mut world, a, b) = two_machines(false);
    assert_eq!(world.call(a, || table(AF_INET)), Err(STATUS_NOT_FOUND));
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    assert_eq!(
        world.call(a, || table(AF_INET)),
        Ok(vec![(address(1), 24, 2)])
    );
    assert_eq!(world.call(a, || table(AF_UNSPEC)).map(|t| t.len()), Ok(2));
    world.call(a, || {
        let mut handle = null_mut();
        // SAFETY: calls as documented.
        let status = unsafe {
            NotifyUnicastIpAddressChange(
                AF_INET,
                changed,
                std::ptr::without_provenance_mut(0x77),
                1,
                &raw mut handle,
            )
        };
        assert_eq!(status, STATUS_SUCCESS);
        HANDLE.set(handle);
    });
    world.run_for(Duration::from_millis(1));
    world.add_address(a, address(5), 16);
    world.remove_address(a, address(1));
    world.run_for(Duration::from_millis(1));
    assert_eq!(
        CHANGES.take(),
        [
            (None, MibInitialNotification),
            (Some(address(5)), MibAddInstance),
            (Some(address(1)), MibDeleteInstance)
        ]
    );
    // SAFETY: a subscription made above.
    let status = world.call(a, || unsafe { CancelMibChangeNotify2(HANDLE.get()) });
    assert_eq!(status, STATUS_SUCCESS);
    world.add_address(a, address(6), 16);
    world.run_for(Duration::from_millis(1));
    assert_eq!(CHANGES.take(), []);
    world.uninstall(a);
    world.uninstall(b);
}

fn resolve(ip: IpAddr) -> (NTSTATUS, [u8; 6], NL_NEIGHBOR_STATE) {
    let mut row = MIB_IPNET_ROW2 {
        Address: to_sockaddr(ip, 0),
        InterfaceIndex: 2,
        ..Default::default()
    };
    // SAFETY: calls as documented.
    let status = unsafe { ResolveIpNetEntry2(&raw mut row, null()) };
    let p = row.PhysicalAddress;
    (status, [p[0], p[1], p[2], p[3], p[4], p[5]], row.State)
}

fn cached(ip: IpAddr) -> (NTSTATUS, NL_NEIGHBOR_STATE) {
    let mut row = MIB_IPNET_ROW2 {
        Address: to_sockaddr(ip, 0),
        InterfaceIndex: 2,
        ..Default::default()
    };
    // SAFETY: calls as documented.
    let status = unsafe { GetIpNetEntry2(&raw mut row) };
    (status, row.State)
}

#[test]
fn neighbours_are_resolved_on_the_wire_and_grow_stale() {
    let (mut world, a, b) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    assert_eq!(world.call(a, || cached(address(2))).0, STATUS_NOT_FOUND);
    let resolved = world.call(a, || resolve(address(2)));
    assert_eq!(
        resolved,
        (STATUS_SUCCESS, [2, 0, 0, 0, 1, 1], NlnsReachable)
    );
    let before = world.now();
    assert_eq!(
        world.call(a, || resolve(address(99))).0,
        STATUS_BAD_NETWORK_PATH
    );
    assert!(
        world.now() - before >= Duration::from_secs(3),
        "asked three times, a second apart"
    );
    assert_eq!(
        world.call(a, || cached(address(2))),
        (STATUS_SUCCESS, NlnsReachable)
    );
    world.run_for(Duration::from_secs(40));
    assert_eq!(
        world.call(a, || cached(address(2))),
        (STATUS_SUCCESS, NlnsStale)
    );
    let link_local = world.addresses(b)[1].ip;
    assert!(link_local.is_ipv6());
    assert_eq!(world.call(a, || resolve(link_local)).0, STATUS_SUCCESS);
    world.uninstall(a);
    world.uninstall(b);
}

/// An ARP reply of host 2, as test NICs have it, to host 1.
fn arp_reply() -> Vec<u8> {
    const OURS: [u8; 6] = [2, 0, 0, 0, 1, 0];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 1, 1];
    let mut frame = [OURS, THEIRS].concat();
    // ARP; Ethernet for IPv4, a reply.
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
    frame.extend([&THEIRS[..], &[10, 0, 0, 2], &OURS, &[10, 0, 0, 1]].concat());
    frame.resize(60, 0);
    frame
}

#[test]
fn who_waits_for_a_neighbour_is_not_starved_by_others_who_ask_anew() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let nic = NICS.with_borrow(|nics| Rc::clone(&nics[0]));
    let outcome = Rc::new(Cell::new(None));
    let ended = Rc::clone(&outcome);
    let began = world.now();
    world.on_machine(a, |machine| {
        // A neighbour that answers every 10 ms, whoever has asked.
        machine.queue_work(move || {
            for _ in 0..600 {
                sleep_until(context::core().now() + 10_000_000);
                nic.receive(arp_reply());
            }
        });
        // Each time it forgets what the last answer said.
        machine.queue_work(|| {
            for _ in 0..500 {
                assert_eq!(resolve(address(2)).0, STATUS_SUCCESS);
            }
        });
        machine.queue_work(move || {
            let resolved = resolve(address(2));
            ended.set(Some((resolved, context::core().now())));
        });
    });
    world.run_for(Duration::from_secs(7));
    let ((status, mac, state), at) = outcome.get().expect("an end");
    assert_eq!(
        (status, mac, state),
        (STATUS_SUCCESS, [2, 0, 0, 0, 1, 1], NlnsReachable)
    );
    let waited = Duration::from_nanos(at) - began;
    assert!(waited < Duration::from_millis(50), "only after {waited:?}");
    world.uninstall(a);
}

/// Status, next hop (unspecified: on link), source, prefix length.
fn route(to: IpAddr) -> (NTSTATUS, Option<IpAddr>, Option<IpAddr>, u8) {
    let destination = to_sockaddr(to, 0);
    let mut row = MIB_IPFORWARD_ROW2::ZEROED;
    let mut source = SOCKADDR_INET::ZEROED;
    // SAFETY: calls as documented.
    let status = unsafe {
        GetBestRoute2(
            null(),
            0,
            null(),
            &raw const destination,
            0,
            &raw mut row,
            &raw mut source,
        )
    };
    let ip = |a: &SOCKADDR_INET| from_sockaddr(a).map(|(ip, _)| ip);
    (
        status,
        ip(&row.NextHop),
        ip(&source),
        row.DestinationPrefix.PrefixLength,
    )
}

#[test]
fn routes_lead_to_the_link_the_gateway_or_nowhere() {
    let (mut world, a, _) = two_machines(false);
    world.install(a, INX, IMAGE).unwrap();
    let unspecified = Some(IpAddr::from([0, 0, 0, 0]));
    assert_eq!(
        world.call(a, || route(address(9))),
        (STATUS_SUCCESS, unspecified, Some(address(1)), 24)
    );
    let far = IpAddr::from([192, 168, 1, 1]);
    assert_eq!(world.call(a, || route(far)).0, STATUS_NETWORK_UNREACHABLE);
    world.set_gateway(a, Some(std::net::Ipv4Addr::new(10, 0, 0, 254)));
    assert_eq!(
        world.call(a, || route(far)),
        (STATUS_SUCCESS, Some(address(254)), Some(address(1)), 0)
    );
    world.set_gateway(a, None);
    assert_eq!(world.call(a, || route(far)).0, STATUS_NETWORK_UNREACHABLE);
    world.call(a, || {
        let mut index = 0;
        let mut luid = NET_LUID::default();
        // SAFETY: calls as documented.
        unsafe {
            assert_eq!(
                ConvertInterfaceIndexToLuid(2, &raw mut luid),
                STATUS_SUCCESS
            );
            assert_eq!(
                ConvertInterfaceLuidToIndex(&raw const luid, &raw mut index),
                STATUS_SUCCESS
            );
            assert_eq!(index, 2);
            assert_ne!(
                ConvertInterfaceIndexToLuid(77, &raw mut luid),
                STATUS_SUCCESS
            );
        }
    });
    world.uninstall(a);
}

#[test]
fn misuse_is_accused() {
    let (mut world, a, _) = two_machines(true);
    world.install(a, INX, IMAGE).unwrap();
    // SAFETY: wrong on purpose; nothing is accessed.
    let cases: [fn(); 4] = [
        || unsafe { FreeMibTable(std::ptr::without_provenance_mut(0x1000)) },
        || unsafe {
            CancelMibChangeNotify2(std::ptr::without_provenance_mut(0x1000));
        },
        || unsafe {
            GetUnicastIpAddressTable(99, null_mut());
        },
        || unsafe {
            ResolveIpNetEntry2(null_mut(), null());
        },
    ];
    for (number, case) in cases.into_iter().enumerate() {
        world.call(a, case);
        let violations = world.take_violations();
        assert!(
            violations.iter().any(|v| v.rule == rules::NETIO),
            "case {number}: {violations:?}"
        );
    }
    world.call_on(a, 0, 2, || cached(address(2)));
    let violations = world.take_violations();
    assert!(
        violations
            .iter()
            .any(|v| v.rule == crate::verifier::rules::IRQL),
        "{violations:?}"
    );
    world.uninstall(a);
}
