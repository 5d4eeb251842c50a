//! What the fact files do not cover, compared with an independent set of declarations: windows-sys, generated from Microsoft's
//! metadata. Structures and constants are compared by value, functions by the sizes of their parameters and result.

use std::mem::{offset_of, size_of};

use ndis_sys::imports::sig;
use ndis_sys::{netioapi, socket, status, wdm};
use windows_sys::Wdk::Foundation as wf;
use windows_sys::Wdk::System::SystemServices as ws;
use windows_sys::Win32::Foundation as f;
use windows_sys::Win32::NetworkManagement::{IpHelper as ip, Ndis as luid};
use windows_sys::Win32::Networking::WinSock as sock;
use windows_sys::Win32::System::Diagnostics::Etw as etw;
use windows_sys::Win32::System::Diagnostics::TraceLogging;

/// Compares sizes, and offsets of fields that have the same name on both sides.
macro_rules! same_layout {
    ($($ours:ty, $theirs:ty { $($field:ident),* })*) => { $(
        assert_eq!(size_of::<$ours>(), size_of::<$theirs>(), stringify!($ours));
        $( assert_eq!(
            offset_of!($ours, $field),
            offset_of!($theirs, $field),
            concat!(stringify!($ours), ".", stringify!($field))
        ); )*
    )* };
}

/// Compares constants of the same name.
macro_rules! same_value {
    ($ours:path, $theirs:path { $($name:ident),* $(,)? }) => {{
        use $ours as ours;
        use $theirs as theirs;
        $( assert_eq!(i128::from(ours::$name), i128::from(theirs::$name), stringify!($name)); )*
    }};
}

/// The sizes of a function's parameters, then of its result.
trait Sizes {
    fn sizes() -> Vec<usize>;
}

macro_rules! sizes {
    ($($parameter:ident)*) => {
        sizes!(@convention "system" $($parameter)*);
        sizes!(@convention "efiapi" $($parameter)*);
    };
    (@convention $convention:literal $($parameter:ident)*) => {
        impl<R, $($parameter),*> Sizes for unsafe extern $convention fn($($parameter),*) -> R {
            fn sizes() -> Vec<usize> {
                vec![$(size_of::<$parameter>(),)* size_of::<R>()]
            }
        }

        impl<R, $($parameter),*> Sizes for Option<unsafe extern $convention fn($($parameter),*) -> R> {
            fn sizes() -> Vec<usize> {
                vec![$(size_of::<$parameter>(),)* size_of::<R>()]
            }
        }
    };
}

sizes!(A);
sizes!(A B);
sizes!(A B C);
sizes!(A B C D);
sizes!(A B C D E);
sizes!(A B C D E F);
sizes!(A B C D E F G);
sizes!(A B C D E F G H);
sizes!(A B C D E F G H I);
sizes!(A B C D E F G H I J);

/// The sizes of a function that is only named: the closure is never called, so that nothing needs to be linked.
fn sizes_of<F: Sizes>(_named: impl FnOnce() -> F) -> Vec<usize> {
    F::sizes()
}

#[test]
fn the_ip_helper_has_the_same_structures() {
    same_layout! {
        netioapi::NET_LUID, luid::NET_LUID_LH { Value }
        netioapi::MIB_UNICASTIPADDRESS_ROW, ip::MIB_UNICASTIPADDRESS_ROW {
            Address, InterfaceLuid, InterfaceIndex, PrefixOrigin, SuffixOrigin, ValidLifetime, PreferredLifetime,
            OnLinkPrefixLength, SkipAsSource, DadState, ScopeId, CreationTimeStamp
        }
        netioapi::MIB_UNICASTIPADDRESS_TABLE, ip::MIB_UNICASTIPADDRESS_TABLE { NumEntries, Table }
        netioapi::MIB_IPNET_ROW2, ip::MIB_IPNET_ROW2 {
            Address, InterfaceIndex, InterfaceLuid, PhysicalAddress, PhysicalAddressLength, State, ReachabilityTime
        }
        netioapi::IP_ADDRESS_PREFIX, ip::IP_ADDRESS_PREFIX { Prefix, PrefixLength }
        netioapi::MIB_IPFORWARD_ROW2, ip::MIB_IPFORWARD_ROW2 {
            InterfaceLuid, InterfaceIndex, DestinationPrefix, NextHop, SitePrefixLength, ValidLifetime, PreferredLifetime,
            Metric, Protocol, Loopback, AutoconfigureAddress, Publish, Immortal, Age, Origin
        }
        socket::SOCKADDR_INET, sock::SOCKADDR_INET { Ipv4, Ipv6, si_family }
    }
    assert_eq!(
        offset_of!(netioapi::MIB_IPNET_ROW2, Flags),
        offset_of!(ip::MIB_IPNET_ROW2, Anonymous)
    );
}

#[test]
fn the_ip_helper_has_the_same_constants() {
    same_value!(
        ndis_sys::netioapi,
        windows_sys::Win32::Networking::WinSock {
            IpDadStateInvalid,
            IpDadStateTentative,
            IpDadStateDuplicate,
            IpDadStateDeprecated,
            IpDadStatePreferred,
            NlnsUnreachable,
            NlnsIncomplete,
            NlnsProbe,
            NlnsDelay,
            NlnsStale,
            NlnsReachable,
            NlnsPermanent,
        }
    );
    same_value!(
        ndis_sys::netioapi,
        windows_sys::Win32::NetworkManagement::IpHelper {
            MibParameterNotification,
            MibAddInstance,
            MibDeleteInstance,
            MibInitialNotification,
        }
    );
}

#[test]
fn the_ip_helper_has_the_same_functions() {
    // Between two spellings of the same list of parameters.
    macro_rules! same_function {
        ($($name:ident($($parameter:tt)*);)*) => { $( assert_eq!(
            <sig::$name as Sizes>::sizes(),
            sizes_of(|| ip::$name as unsafe extern "system" fn($($parameter)*) -> _),
            stringify!($name)
        ); )* };
    }
    same_function! {
        GetUnicastIpAddressTable(_, _);
        GetUnicastIpAddressEntry(_);
        NotifyUnicastIpAddressChange(_, _, _, _, _);
        NotifyRouteChange2(_, _, _, _, _);
        CancelMibChangeNotify2(_);
        ResolveIpNetEntry2(_, _);
        GetIpNetEntry2(_);
        GetBestRoute2(_, _, _, _, _, _, _);
        ConvertInterfaceLuidToIndex(_, _);
        ConvertInterfaceIndexToLuid(_, _);
        FreeMibTable(_);
    }
    assert_eq!(
        <netioapi::PUNICAST_IPADDRESS_CHANGE_CALLBACK as Sizes>::sizes(),
        <ip::PUNICAST_IPADDRESS_CHANGE_CALLBACK as Sizes>::sizes()
    );
    assert_eq!(
        <netioapi::PIPFORWARD_CHANGE_CALLBACK as Sizes>::sizes(),
        <ip::PIPFORWARD_CHANGE_CALLBACK as Sizes>::sizes()
    );
}

#[test]
fn the_kernel_has_the_same_structures() {
    same_layout! {
        wdm::IO_ERROR_LOG_PACKET, ws::IO_ERROR_LOG_PACKET {
            MajorFunctionCode, RetryCount, DumpDataSize, NumberOfStrings, StringOffset, EventCategory, ErrorCode,
            UniqueErrorValue, FinalStatus, SequenceNumber, IoControlCode, DeviceOffset, DumpData
        }
        wdm::KDEVICE_QUEUE, wf::KDEVICE_QUEUE { Type, Size, DeviceListHead, Lock, Busy }
        wdm::KEY_VALUE_BASIC_INFORMATION, ws::KEY_VALUE_BASIC_INFORMATION { TitleIndex, Type, NameLength, Name }
        wdm::KEY_VALUE_FULL_INFORMATION, ws::KEY_VALUE_FULL_INFORMATION {
            TitleIndex, Type, DataOffset, DataLength, NameLength, Name
        }
        wdm::KEY_VALUE_PARTIAL_INFORMATION, ws::KEY_VALUE_PARTIAL_INFORMATION { TitleIndex, Type, DataLength, Data }
    }
}

#[test]
fn the_kernel_has_the_same_constants() {
    same_value!(
        ndis_sys::wdm,
        windows_sys::Wdk::System::SystemServices {
            MdlMappingNoExecute,
            MdlMappingNoWrite,
            PAGE_NOCACHE,
            PAGE_READONLY,
            PAGE_READWRITE,
            PAGE_WRITECOMBINE,
            PCI_ENABLE_IO_SPACE,
            PCI_ENABLE_MEMORY_SPACE,
            PCI_ENABLE_BUS_MASTER,
            PCI_DISABLE_LEVEL_INTERRUPT,
            PCI_STATUS_CAPABILITIES_LIST,
            PCI_CAPABILITY_ID_POWER_MANAGEMENT,
            PCI_CAPABILITY_ID_MSI,
            PCI_CAPABILITY_ID_VENDOR_SPECIFIC,
            PCI_CAPABILITY_ID_PCI_EXPRESS,
            PCI_CAPABILITY_ID_MSIX,
            PCI_WHICHSPACE_CONFIG,
        }
    );
    same_value!(
        ndis_sys::wdm,
        windows_sys::Wdk::System::Registry {
            KeyValueBasicInformation,
            KeyValueFullInformation,
            KeyValuePartialInformation,
        }
    );
    same_value!(
        ndis_sys::ndis,
        windows_sys::Wdk::NetworkManagement::Ndis {
            NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1,
            NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2,
            NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3,
            NET_DEVICE_PNP_EVENT_REVISION_1,
        }
    );
    // The metadata was made from headers as a checker of annotations sees them: the type of the property in the upper bits.
    macro_rules! same_property {
        ($($name:ident),* $(,)?) => { $( assert_eq!(wdm::$name, ws::$name & 0xfff, stringify!($name)); )* };
    }
    same_property! {
        DevicePropertyDeviceDescription,
        DevicePropertyHardwareID,
        DevicePropertyCompatibleIDs,
        DevicePropertyBootConfiguration,
        DevicePropertyBootConfigurationTranslated,
        DevicePropertyClassName,
        DevicePropertyClassGuid,
        DevicePropertyDriverKeyName,
        DevicePropertyManufacturer,
        DevicePropertyFriendlyName,
        DevicePropertyLocationInformation,
        DevicePropertyPhysicalDeviceObjectName,
        DevicePropertyBusTypeGuid,
        DevicePropertyLegacyBusType,
        DevicePropertyBusNumber,
        DevicePropertyEnumeratorName,
        DevicePropertyAddress,
    }
    assert_eq!(status::STATUS_NO_MORE_ENTRIES, f::STATUS_NO_MORE_ENTRIES);
}

#[test]
fn dma_has_the_same_functions() {
    macro_rules! same_pointer {
        ($($ours:ident = $theirs:ident;)*) => { $( assert_eq!(
            <wdm::$ours as Sizes>::sizes(),
            <ws::$theirs as Sizes>::sizes(),
            stringify!($ours)
        ); )* };
    }
    same_pointer! {
        PUT_DMA_ADAPTER = PPUT_DMA_ADAPTER;
        ALLOCATE_COMMON_BUFFER = PALLOCATE_COMMON_BUFFER;
        FREE_COMMON_BUFFER = PFREE_COMMON_BUFFER;
        GET_DMA_ALIGNMENT = PGET_DMA_ALIGNMENT;
        GET_SCATTER_GATHER_LIST = PGET_SCATTER_GATHER_LIST;
        PUT_SCATTER_GATHER_LIST = PPUT_SCATTER_GATHER_LIST;
        CALCULATE_SCATTER_GATHER_LIST = PCALCULATE_SCATTER_GATHER_LIST_SIZE;
        BUILD_SCATTER_GATHER_LIST = PBUILD_SCATTER_GATHER_LIST;
        FLUSH_ADAPTER_BUFFERS = PFLUSH_ADAPTER_BUFFERS;
        ALLOCATE_COMMON_BUFFER_EX = PALLOCATE_COMMON_BUFFER_EX;
    }
    assert_eq!(
        <sig::ExReInitializeRundownProtection as Sizes>::sizes(),
        sizes_of(|| ws::ExReInitializeRundownProtection as unsafe extern "system" fn(_) -> _)
    );
}

#[test]
fn event_tracing_is_the_same() {
    same_layout! {
        wdm::EVENT_DESCRIPTOR, etw::EVENT_DESCRIPTOR { Id, Version, Channel, Level, Opcode, Task, Keyword }
        wdm::EVENT_DATA_DESCRIPTOR, etw::EVENT_DATA_DESCRIPTOR { Ptr, Size }
        wdm::REGHANDLE, etw::REGHANDLE {}
    }
    let part = offset_of!(etw::EVENT_DATA_DESCRIPTOR, Anonymous);
    for (ours, theirs) in [
        (
            offset_of!(wdm::EVENT_DATA_DESCRIPTOR, Type),
            offset_of!(etw::EVENT_DATA_DESCRIPTOR_0_0, Type),
        ),
        (
            offset_of!(wdm::EVENT_DATA_DESCRIPTOR, Reserved1),
            offset_of!(etw::EVENT_DATA_DESCRIPTOR_0_0, Reserved1),
        ),
        (
            offset_of!(wdm::EVENT_DATA_DESCRIPTOR, Reserved2),
            offset_of!(etw::EVENT_DATA_DESCRIPTOR_0_0, Reserved2),
        ),
    ] {
        assert_eq!(ours, part + theirs);
    }
    macro_rules! same_number {
        ($($name:ident),* $(,)?) => { $(
            assert_eq!(i128::from(wdm::$name), i128::from(etw::$name), stringify!($name));
        )* };
    }
    same_number! {
        EVENT_CONTROL_CODE_DISABLE_PROVIDER,
        EVENT_CONTROL_CODE_ENABLE_PROVIDER,
        EVENT_CONTROL_CODE_CAPTURE_STATE,
        EVENT_DATA_DESCRIPTOR_TYPE_NONE,
        EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA,
        EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA,
        EventProviderSetTraits,
        TRACE_LEVEL_CRITICAL,
        TRACE_LEVEL_ERROR,
        TRACE_LEVEL_WARNING,
        TRACE_LEVEL_INFORMATION,
        TRACE_LEVEL_VERBOSE,
        TDH_INTYPE_UINT8,
        TDH_INTYPE_UINT16,
        TDH_INTYPE_INT32,
        TDH_INTYPE_UINT32,
        TDH_INTYPE_UINT64,
        TDH_INTYPE_BINARY,
        TDH_INTYPE_MANIFEST_COUNTEDANSISTRING,
    }
    assert_eq!(
        i32::from(wdm::WINEVENT_CHANNEL_TRACELOGGING),
        TraceLogging::WINEVENT_CHANNEL_TRACELOGGING
    );
    // The callback of the kernel has no parameters in the metadata; that of processes is the same.
    assert_eq!(
        <wdm::ETWENABLECALLBACK as Sizes>::sizes(),
        <etw::PENABLECALLBACK as Sizes>::sizes()
    );
}
