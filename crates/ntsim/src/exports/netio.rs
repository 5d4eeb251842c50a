//! `netio.sys`: the IP helper functions that a driver may call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndis_sys::netioapi::*;
use ndis_sys::socket::*;
use ndis_sys::status::*;
use ndis_sys::types::*;

use crate::ndis::rules::NETIO;
use crate::tcpip::{self, Binding};
use crate::verifier::{cross, violation};
use crate::world::context;
use crate::world::machine::Machine;

super::exports! {
    "netio.sys";
    GetUnicastIpAddressTable: PASSIVE..=PASSIVE,
    GetUnicastIpAddressEntry: PASSIVE..=PASSIVE,
    FreeMibTable: PASSIVE..=PASSIVE,
    NotifyUnicastIpAddressChange: PASSIVE..=PASSIVE,
    NotifyRouteChange2: PASSIVE..=PASSIVE,
    CancelMibChangeNotify2: PASSIVE..=PASSIVE,
    ResolveIpNetEntry2: PASSIVE..=PASSIVE,
    GetIpNetEntry2: PASSIVE..=PASSIVE,
    GetBestRoute2: PASSIVE..=PASSIVE,
    ConvertInterfaceLuidToIndex: PASSIVE..=PASSIVE,
    ConvertInterfaceIndexToLuid: PASSIVE..=PASSIVE,
}

/// Tables handed out and not freed: address and driver.
#[derive(Default)]
struct Tables(RefCell<Vec<(usize, u32)>>);

/// Subscription handles are these plus the subscription's number: no addresses.
const HANDLE_BASE: usize = 0xffff_e0e0_0000_0000;
/// Handles of route change subscriptions are these plus the subscription's number.
const ROUTE_HANDLE: usize = 0xffff_e0e1_0000_0000;

/// Subscriptions to route changes: number and driver. Nobody is called: routes of the simulated machines do not change.
#[derive(Default)]
struct RouteChanges {
    last: Cell<usize>,
    subscribed: RefCell<Vec<(usize, u32)>>,
}

impl RouteChanges {
    /// Ends the subscriptions of a driver that is gone; how many there were.
    fn cancel(&self, driver: u32) -> usize {
        let mut subscribed = self.subscribed.borrow_mut();
        let before = subscribed.len();
        subscribed.retain(|(_, owner)| *owner != driver);
        before - subscribed.len()
    }
}

/// A driver that is gone must have freed its tables and cancelled its notifications.
pub(crate) fn check_unloaded(machine: &Machine, driver: u32, when: &str) {
    let tables = machine.ext::<Tables>();
    let before = tables.0.borrow().len();
    tables.0.borrow_mut().retain(|(_, owner)| *owner != driver);
    let left = before - tables.0.borrow().len();
    if left > 0 {
        violation(
            NETIO,
            format!("{when}: {left} table(s) not freed with FreeMibTable"),
        );
    }
    let left = tcpip::of(machine).cancel_subscriptions(driver)
        + machine.ext::<RouteChanges>().cancel(driver);
    if left > 0 {
        violation(
            NETIO,
            format!("{when}: {left} change notification(s) not cancelled"),
        );
    }
}

fn family_ok(family: ADDRESS_FAMILY) -> bool {
    [AF_UNSPEC, AF_INET, AF_INET6].contains(&family)
}

/// The binding a row names by LUID or, if that is zero, by index.
fn binding_of(luid: NET_LUID, index: NET_IFINDEX) -> Option<Rc<Binding>> {
    let bindings = tcpip::of(&context::machine()).bindings();
    bindings.into_iter().find(|b| {
        if luid.Value != 0 {
            b.luid == luid.Value
        } else {
            b.if_index == index
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn GetUnicastIpAddressTable(
    Family: ADDRESS_FAMILY,
    Table: *mut *mut MIB_UNICASTIPADDRESS_TABLE,
) -> NTSTATUS {
    let crossing = cross(&functions::GetUnicastIpAddressTable);
    if Table.is_null() || !family_ok(Family) {
        violation(
            NETIO,
            format!("GetUnicastIpAddressTable: family {Family}, table {Table:p}"),
        );
        return STATUS_INVALID_PARAMETER;
    }
    let machine = context::machine();
    let rows: Vec<_> = tcpip::of(&machine)
        .bindings()
        .iter()
        .flat_map(|b| {
            b.addresses()
                .into_iter()
                .map(|a| (tcpip::address_row(b, a), a.ip))
                .collect::<Vec<_>>()
        })
        .filter(|(_, ip)| Family == AF_UNSPEC || ip.is_ipv4() == (Family == AF_INET))
        .map(|(row, _)| row)
        .collect();
    if rows.is_empty() {
        return STATUS_NOT_FOUND;
    }
    if crossing.is_from_driver() && machine.faults.strikes("GetUnicastIpAddressTable") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let head = std::mem::offset_of!(MIB_UNICASTIPADDRESS_TABLE, Table);
    let Some(at) = machine.kernel_alloc(head + size_of_val(&rows[..]), "GetUnicastIpAddressTable")
    else {
        return STATUS_INSUFFICIENT_RESOURCES;
    };
    let table: *mut MIB_UNICASTIPADDRESS_TABLE = std::ptr::with_exposed_provenance_mut(at);
    // SAFETY: freshly allocated with room for all rows; the driver's variable.
    unsafe {
        (*table).NumEntries = rows.len() as u32;
        (&raw mut (*table).Table)
            .cast::<MIB_UNICASTIPADDRESS_ROW>()
            .copy_from_nonoverlapping(rows.as_ptr(), rows.len());
        Table.write(table);
    }
    let driver = if crossing.is_from_driver() {
        machine.charged_driver()
    } else {
        0
    };
    machine.ext::<Tables>().0.borrow_mut().push((at, driver));
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn GetUnicastIpAddressEntry(Row: *mut MIB_UNICASTIPADDRESS_ROW) -> NTSTATUS {
    let _crossing = cross(&functions::GetUnicastIpAddressEntry);
    // SAFETY: null or the driver's row.
    let Some(row) = (unsafe { Row.as_mut() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some((ip, _)) = tcpip::from_sockaddr(&row.Address) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(binding) = binding_of(row.InterfaceLuid, row.InterfaceIndex) else {
        return STATUS_NOT_FOUND;
    };
    match binding.addresses().into_iter().find(|a| a.ip == ip) {
        Some(address) => {
            *row = tcpip::address_row(&binding, address);
            STATUS_SUCCESS
        }
        None => STATUS_NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn FreeMibTable(Memory: *mut c_void) {
    let _crossing = cross(&functions::FreeMibTable);
    let machine = context::machine();
    let tables = machine.ext::<Tables>();
    let known = tables
        .0
        .borrow()
        .iter()
        .position(|(at, _)| *at == Memory.addr());
    match known {
        Some(index) => {
            tables.0.borrow_mut().swap_remove(index);
            machine.pool_free(Memory.expose_provenance(), None, "FreeMibTable");
        }
        None => violation(
            NETIO,
            format!("FreeMibTable: {Memory:p} is no table (any more)"),
        ),
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NotifyUnicastIpAddressChange(
    Family: ADDRESS_FAMILY,
    Callback: PUNICAST_IPADDRESS_CHANGE_CALLBACK,
    CallerContext: *mut c_void,
    InitialNotification: BOOLEAN,
    NotificationHandle: *mut HANDLE,
) -> NTSTATUS {
    let crossing = cross(&functions::NotifyUnicastIpAddressChange);
    if NotificationHandle.is_null() || !family_ok(Family) {
        violation(
            NETIO,
            format!("NotifyUnicastIpAddressChange: family {Family}, handle {NotificationHandle:p}"),
        );
        return STATUS_INVALID_PARAMETER;
    }
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes("NotifyUnicastIpAddressChange") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let id = tcpip::of(&machine).subscribe(
        &machine,
        Family,
        Callback,
        CallerContext,
        InitialNotification != 0,
    );
    // SAFETY: the driver's variable.
    unsafe { NotificationHandle.write(std::ptr::without_provenance_mut(HANDLE_BASE + id * 8)) };
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn NotifyRouteChange2(
    Family: ADDRESS_FAMILY,
    _Callback: PIPFORWARD_CHANGE_CALLBACK,
    _CallerContext: *mut c_void,
    InitialNotification: BOOLEAN,
    NotificationHandle: *mut HANDLE,
) -> NTSTATUS {
    let crossing = cross(&functions::NotifyRouteChange2);
    if NotificationHandle.is_null() || !family_ok(Family) {
        return STATUS_INVALID_PARAMETER;
    }
    if InitialNotification != 0 {
        violation(
            NETIO,
            "NotifyRouteChange2: initial notifications are not simulated",
        );
        return STATUS_NOT_SUPPORTED;
    }
    let machine = context::machine();
    if crossing.is_from_driver() && machine.faults.strikes("NotifyRouteChange2") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    let routes = machine.ext::<RouteChanges>();
    let id = routes.last.get() + 1;
    routes.last.set(id);
    let owner = machine.owner(&crossing);
    routes.subscribed.borrow_mut().push((id, owner));
    // SAFETY: the driver's variable.
    unsafe { NotificationHandle.write(std::ptr::without_provenance_mut(ROUTE_HANDLE + id * 8)) };
    STATUS_SUCCESS
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn CancelMibChangeNotify2(NotificationHandle: HANDLE) -> NTSTATUS {
    let _crossing = cross(&functions::CancelMibChangeNotify2);
    let value = NotificationHandle.addr();
    let machine = context::machine();
    let known = if value > ROUTE_HANDLE {
        let routes = machine.ext::<RouteChanges>();
        let mut subscribed = routes.subscribed.borrow_mut();
        let before = subscribed.len();
        subscribed.retain(|(id, _)| ROUTE_HANDLE + id * 8 != value);
        subscribed.len() < before
    } else {
        value > HANDLE_BASE && tcpip::of(&machine).unsubscribe((value - HANDLE_BASE) / 8)
    };
    if known {
        STATUS_SUCCESS
    } else {
        violation(
            NETIO,
            format!("CancelMibChangeNotify2: {NotificationHandle:p} is no subscription (any more)"),
        );
        STATUS_INVALID_PARAMETER
    }
}

/// Fills a neighbour's row.
fn fill(row: &mut MIB_IPNET_ROW2, binding: &Binding, neighbour: crate::tcpip::stack::Neighbour) {
    let now = context::core().now();
    row.InterfaceIndex = binding.if_index;
    row.InterfaceLuid = NET_LUID {
        Value: binding.luid,
    };
    row.PhysicalAddress = [0; IF_MAX_PHYS_ADDRESS_LENGTH];
    row.PhysicalAddress[..6].copy_from_slice(&neighbour.mac);
    row.PhysicalAddressLength = 6;
    row.State = if neighbour.reachable(now) {
        NlnsReachable
    } else {
        NlnsStale
    };
    row.Flags = 0;
    row.ReachabilityTime =
        u32::try_from(now.saturating_sub(neighbour.confirmed) / 1_000_000).unwrap_or(u32::MAX);
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn ResolveIpNetEntry2(
    Row: *mut MIB_IPNET_ROW2,
    SourceAddress: *const SOCKADDR_INET,
) -> NTSTATUS {
    let crossing = cross(&functions::ResolveIpNetEntry2);
    if crossing.is_from_driver() && context::machine().faults.strikes("ResolveIpNetEntry2") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: null or the driver's.
    let (row, source) = unsafe { (Row.as_mut(), SourceAddress.as_ref()) };
    let Some(row) = row else {
        violation(NETIO, "ResolveIpNetEntry2: null row");
        return STATUS_INVALID_PARAMETER;
    };
    let Some((ip, _)) = tcpip::from_sockaddr(&row.Address) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(binding) = binding_of(row.InterfaceLuid, row.InterfaceIndex) else {
        return STATUS_NOT_FOUND;
    };
    if let Some((source, _)) = source.and_then(tcpip::from_sockaddr)
        && !binding.addresses().iter().any(|a| a.ip == source)
    {
        return STATUS_INVALID_PARAMETER;
    }
    match binding.resolve(ip) {
        Some(neighbour) => {
            fill(row, &binding, neighbour);
            STATUS_SUCCESS
        }
        // What the documentation gives for an address nobody answers for.
        None => STATUS_BAD_NETWORK_PATH,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn GetIpNetEntry2(Row: *mut MIB_IPNET_ROW2) -> NTSTATUS {
    let crossing = cross(&functions::GetIpNetEntry2);
    if crossing.is_from_driver() && context::machine().faults.strikes("GetIpNetEntry2") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: null or the driver's.
    let Some(row) = (unsafe { Row.as_mut() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some((ip, _)) = tcpip::from_sockaddr(&row.Address) else {
        return STATUS_INVALID_PARAMETER;
    };
    let Some(binding) = binding_of(row.InterfaceLuid, row.InterfaceIndex) else {
        return STATUS_NOT_FOUND;
    };
    match binding.neighbour(ip) {
        Some(neighbour) => {
            fill(row, &binding, neighbour);
            STATUS_SUCCESS
        }
        None => STATUS_NOT_FOUND,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn GetBestRoute2(
    InterfaceLuid: *const NET_LUID,
    InterfaceIndex: NET_IFINDEX,
    SourceAddress: *const SOCKADDR_INET,
    DestinationAddress: *const SOCKADDR_INET,
    _AddressSortOptions: u32,
    BestRoute: *mut MIB_IPFORWARD_ROW2,
    BestSourceAddress: *mut SOCKADDR_INET,
) -> NTSTATUS {
    let crossing = cross(&functions::GetBestRoute2);
    if crossing.is_from_driver() && context::machine().faults.strikes("GetBestRoute2") {
        return STATUS_INSUFFICIENT_RESOURCES;
    }
    // SAFETY: null or the driver's.
    let (luid, source, destination) = unsafe {
        (
            InterfaceLuid.as_ref(),
            SourceAddress.as_ref(),
            DestinationAddress.as_ref(),
        )
    };
    let Some((destination, _)) = destination.and_then(tcpip::from_sockaddr) else {
        return STATUS_INVALID_PARAMETER;
    };
    if BestRoute.is_null() || BestSourceAddress.is_null() {
        violation(NETIO, "GetBestRoute2: null pointer");
        return STATUS_INVALID_PARAMETER;
    }
    let luid = luid.copied().unwrap_or_default();
    let binding = if luid.Value != 0 || InterfaceIndex != 0 {
        match binding_of(luid, InterfaceIndex) {
            Some(binding) => binding,
            None => return STATUS_NOT_FOUND,
        }
    } else {
        match tcpip::of(&context::machine()).route(destination) {
            Some(binding) => binding,
            None => return STATUS_NETWORK_UNREACHABLE,
        }
    };
    let Some((chosen, next_hop)) = binding.route(destination) else {
        return STATUS_NETWORK_UNREACHABLE;
    };
    let source = match source.and_then(tcpip::from_sockaddr) {
        Some((ip, _)) if !ip.is_unspecified() => {
            if !binding.addresses().iter().any(|a| a.ip == ip) {
                return STATUS_NOT_FOUND;
            }
            ip
        }
        _ => chosen.ip,
    };
    let on_link = next_hop == destination;
    let unspecified = if destination.is_ipv4() {
        std::net::IpAddr::from([0u8; 4])
    } else {
        std::net::IpAddr::from([0u8; 16])
    };
    let mut route = MIB_IPFORWARD_ROW2 {
        InterfaceLuid: NET_LUID {
            Value: binding.luid,
        },
        InterfaceIndex: binding.if_index,
        NextHop: tcpip::to_sockaddr(if on_link { unspecified } else { next_hop }, 0),
        ValidLifetime: u32::MAX,
        PreferredLifetime: u32::MAX,
        Metric: 256,
        Immortal: 1,
        ..MIB_IPFORWARD_ROW2::ZEROED
    };
    let (prefix, length) = if on_link {
        (network(chosen), chosen.prefix)
    } else {
        (unspecified, 0)
    };
    route.DestinationPrefix.Prefix = tcpip::to_sockaddr(prefix, 0);
    route.DestinationPrefix.PrefixLength = length;
    // SAFETY: the driver's variables.
    unsafe {
        BestRoute.write(route);
        BestSourceAddress.write(tcpip::to_sockaddr(source, 0));
    }
    STATUS_SUCCESS
}

/// The prefix of an address, the rest zero.
fn network(address: tcpip::Address) -> std::net::IpAddr {
    match address.ip {
        std::net::IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32 - u32::from(address.prefix))
                .unwrap_or(0);
            std::net::IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        std::net::IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(address.prefix))
                .unwrap_or(0);
            std::net::IpAddr::from((u128::from(v6) & mask).to_be_bytes())
        }
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn ConvertInterfaceLuidToIndex(
    InterfaceLuid: *const NET_LUID,
    InterfaceIndex: *mut NET_IFINDEX,
) -> NTSTATUS {
    let _crossing = cross(&functions::ConvertInterfaceLuidToIndex);
    // SAFETY: null or the driver's.
    let Some(luid) = (unsafe { InterfaceLuid.as_ref() }) else {
        return STATUS_INVALID_PARAMETER;
    };
    let adapters = crate::ndis::ndis();
    let found = adapters
        .adapters
        .borrow()
        .iter()
        .find(|a| a.luid == luid.Value)
        .map(|a| a.if_index);
    match found {
        Some(index) if !InterfaceIndex.is_null() => {
            // SAFETY: the driver's variable.
            unsafe { InterfaceIndex.write(index) };
            STATUS_SUCCESS
        }
        _ => STATUS_INVALID_PARAMETER,
    }
}

#[unsafe(no_mangle)]
unsafe extern "efiapi" fn ConvertInterfaceIndexToLuid(
    InterfaceIndex: NET_IFINDEX,
    InterfaceLuid: *mut NET_LUID,
) -> NTSTATUS {
    let _crossing = cross(&functions::ConvertInterfaceIndexToLuid);
    let adapters = crate::ndis::ndis();
    let found = adapters
        .adapters
        .borrow()
        .iter()
        .find(|a| a.if_index == InterfaceIndex)
        .map(|a| a.luid);
    match found {
        Some(luid) if !InterfaceLuid.is_null() => {
            // SAFETY: the driver's variable.
            unsafe { InterfaceLuid.write(NET_LUID { Value: luid }) };
            STATUS_SUCCESS
        }
        _ => STATUS_NOT_FOUND,
    }
}
