//! `NETIO.SYS`: registration with Winsock Kernel, IP helper.

use crate::netioapi::*;
use crate::socket::{ADDRESS_FAMILY, SOCKADDR_INET};
use crate::types::*;
use crate::wsk::*;

imports! {
    "netio.sys" {
        /// Registers a client; the registration lives in memory of the client until `WskDeregister`. IRQL:
        /// PASSIVE_LEVEL.
        fn WskRegister(WskClientNpi: *mut WSK_CLIENT_NPI, WskRegistration: *mut WSK_REGISTRATION) -> NTSTATUS;
        /// Undoes `WskRegister`; waits until captured provider interfaces are released. IRQL: PASSIVE_LEVEL.
        fn WskDeregister(WskRegistration: *mut WSK_REGISTRATION);
        /// Gets the subsystem's functions, waiting for the subsystem if asked to. IRQL: PASSIVE_LEVEL.
        fn WskCaptureProviderNPI(
            WskRegistration: *mut WSK_REGISTRATION,
            WaitTimeout: u32,
            WskProviderNpi: *mut WSK_PROVIDER_NPI,
        ) -> NTSTATUS;
        /// Undoes `WskCaptureProviderNPI`. IRQL: <= DISPATCH_LEVEL.
        fn WskReleaseProviderNPI(WskRegistration: *mut WSK_REGISTRATION);
        /// Makes a table of the unicast addresses of all interfaces. IRQL: PASSIVE_LEVEL.
        fn GetUnicastIpAddressTable(
            Family: ADDRESS_FAMILY,
            Table: *mut *mut MIB_UNICASTIPADDRESS_TABLE,
        ) -> NTSTATUS;
        /// Looks one unicast address up; in: address and interface. IRQL: PASSIVE_LEVEL.
        fn GetUnicastIpAddressEntry(Row: *mut MIB_UNICASTIPADDRESS_ROW) -> NTSTATUS;
        /// Frees a table. IRQL: PASSIVE_LEVEL.
        fn FreeMibTable(Memory: *mut c_void);
        /// Asks to be told of changes of unicast addresses. IRQL: PASSIVE_LEVEL.
        fn NotifyUnicastIpAddressChange(
            Family: ADDRESS_FAMILY,
            Callback: PUNICAST_IPADDRESS_CHANGE_CALLBACK,
            CallerContext: *mut c_void,
            InitialNotification: BOOLEAN,
            NotificationHandle: *mut HANDLE,
        ) -> NTSTATUS;
        /// Asks to be told of changes of routes. IRQL: PASSIVE_LEVEL.
        fn NotifyRouteChange2(
            Family: ADDRESS_FAMILY,
            Callback: PIPFORWARD_CHANGE_CALLBACK,
            CallerContext: *mut c_void,
            InitialNotification: BOOLEAN,
            NotificationHandle: *mut HANDLE,
        ) -> NTSTATUS;
        /// Ends a notification; waits for a callback that is running. IRQL: PASSIVE_LEVEL.
        fn CancelMibChangeNotify2(NotificationHandle: HANDLE) -> NTSTATUS;
        /// Resolves a neighbour's physical address, sending ARP or neighbour solicitations if need be. IRQL: PASSIVE_LEVEL.
        fn ResolveIpNetEntry2(Row: *mut MIB_IPNET_ROW2, SourceAddress: *const SOCKADDR_INET) -> NTSTATUS;
        /// Looks a neighbour up. IRQL: PASSIVE_LEVEL.
        fn GetIpNetEntry2(Row: *mut MIB_IPNET_ROW2) -> NTSTATUS;
        /// The route to a destination and the source address to use. IRQL: PASSIVE_LEVEL.
        fn GetBestRoute2(
            InterfaceLuid: *const NET_LUID,
            InterfaceIndex: NET_IFINDEX,
            SourceAddress: *const SOCKADDR_INET,
            DestinationAddress: *const SOCKADDR_INET,
            AddressSortOptions: u32,
            BestRoute: *mut MIB_IPFORWARD_ROW2,
            BestSourceAddress: *mut SOCKADDR_INET,
        ) -> NTSTATUS;
        /// Interface index of an interface. IRQL: PASSIVE_LEVEL.
        fn ConvertInterfaceLuidToIndex(
            InterfaceLuid: *const NET_LUID,
            InterfaceIndex: *mut NET_IFINDEX,
        ) -> NTSTATUS;
        /// Interface of an interface index. IRQL: PASSIVE_LEVEL.
        fn ConvertInterfaceIndexToLuid(InterfaceIndex: NET_IFINDEX, InterfaceLuid: *mut NET_LUID) -> NTSTATUS;
    }
    variadic {}
}
