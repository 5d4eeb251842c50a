//! Everything this crate declares is as the fact files say.

use crate::facts::*;
use std::path::Path;
use std::vec::Vec;

fn layouts() -> Vec<&'static Layout> {
    let lists: &[&'static [Layout]] = &[
        crate::netioapi::LAYOUTS,
        crate::socket::LAYOUTS,
        crate::wdf::LAYOUTS,
        crate::wsk::LAYOUTS,
    ];
    lists
        .iter()
        .chain(crate::wdm::LAYOUTS)
        .chain(crate::ndis::LAYOUTS)
        .copied()
        .flatten()
        .collect()
}

fn constants() -> Vec<&'static Constant> {
    let lists: &[&'static [Constant]] = &[
        crate::netioapi::CONSTANTS,
        crate::oid::CONSTANTS,
        crate::socket::CONSTANTS,
        crate::status::CONSTANTS,
        crate::types::CONSTANTS,
        crate::wdf::CONSTANTS,
        crate::wsk::CONSTANTS,
    ];
    lists
        .iter()
        .chain(crate::wdm::CONSTANTS)
        .chain(crate::ndis::CONSTANTS)
        .copied()
        .flatten()
        .collect()
}

fn prototypes() -> Vec<&'static Prototype> {
    let lists: &[&'static [Prototype]] = &[
        crate::netioapi::CALLBACKS,
        crate::wdf::CALLBACKS,
        crate::wsk::CALLBACKS,
    ];
    lists
        .iter()
        .chain(crate::wdm::CALLBACKS)
        .chain(crate::ndis::CALLBACKS)
        .chain(crate::imports::IMPORTS)
        .copied()
        .flatten()
        .collect()
}

const WINDOWS_SYS: &str = "compared with windows-sys in tests/windows_sys.rs";
const TRACELOGGING: &str = "not in the metadata; compared with the crate tracelogging in crates/nt";
const ALIGNMENT: &str = "padding that C inserts by itself";
const BIT_FIELDS: &str = "bit-fields in C; the size of the structure is a fact";

/// Structures and fields without a fact.
const LAYOUTS_WITHOUT_FACTS: &[Exception] = &[
    ("MIB_UNICASTIPADDRESS_ROW", WINDOWS_SYS),
    ("MIB_UNICASTIPADDRESS_TABLE", WINDOWS_SYS),
    ("MIB_IPNET_ROW2", WINDOWS_SYS),
    ("IP_ADDRESS_PREFIX", WINDOWS_SYS),
    ("MIB_IPFORWARD_ROW2", WINDOWS_SYS),
    ("KDEVICE_QUEUE", WINDOWS_SYS),
    ("IO_ERROR_LOG_PACKET", WINDOWS_SYS),
    ("KEY_VALUE_BASIC_INFORMATION", WINDOWS_SYS),
    ("KEY_VALUE_FULL_INFORMATION", WINDOWS_SYS),
    ("KEY_VALUE_PARTIAL_INFORMATION", WINDOWS_SYS),
    ("EVENT_DESCRIPTOR", WINDOWS_SYS),
    ("EVENT_DATA_DESCRIPTOR", WINDOWS_SYS),
    ("NET_BUFFER.Padding", ALIGNMENT),
    ("NET_BUFFER_LIST.Padding", ALIGNMENT),
    ("NET_BUFFER_LIST_CONTEXT.Padding", ALIGNMENT),
    (
        "NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD.Abilities",
        BIT_FIELDS,
    ),
    (
        "NDIS_ENCAPSULATED_PACKET_TASK_OFFLOAD_V2.Abilities",
        BIT_FIELDS,
    ),
    (
        "NDIS_RECEIVE_THROTTLE_PARAMETERS.MoreNblsPending",
        BIT_FIELDS,
    ),
    ("NDIS_TCP_CONNECTION_OFFLOAD.Abilities", BIT_FIELDS),
    (
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Transmit.Abilities",
        BIT_FIELDS,
    ),
    (
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv4Receive.Abilities",
        BIT_FIELDS,
    ),
    (
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Transmit.Abilities",
        BIT_FIELDS,
    ),
    (
        "NDIS_TCP_IP_CHECKSUM_OFFLOAD.IPv6Receive.Abilities",
        BIT_FIELDS,
    ),
    ("NDIS_TCP_LARGE_SEND_OFFLOAD_V1.IPv4.Options", BIT_FIELDS),
    ("NDIS_TCP_LARGE_SEND_OFFLOAD_V2.IPv6.Options", BIT_FIELDS),
    (
        "NDIS_IPSEC_OFFLOAD_V1",
        "fields not declared: an offload nobody has any more",
    ),
    (
        "NDIS_IPSEC_OFFLOAD_V2",
        "fields not declared: an offload nobody has any more",
    ),
];

/// Constants without a fact.
const CONSTANTS_WITHOUT_FACTS: &[Exception] = &[
    ("DevicePropertyAddress", WINDOWS_SYS),
    ("DevicePropertyBootConfiguration", WINDOWS_SYS),
    ("DevicePropertyBootConfigurationTranslated", WINDOWS_SYS),
    ("DevicePropertyBusNumber", WINDOWS_SYS),
    ("DevicePropertyBusTypeGuid", WINDOWS_SYS),
    ("DevicePropertyClassGuid", WINDOWS_SYS),
    ("DevicePropertyClassName", WINDOWS_SYS),
    ("DevicePropertyCompatibleIDs", WINDOWS_SYS),
    ("DevicePropertyDeviceDescription", WINDOWS_SYS),
    ("DevicePropertyDriverKeyName", WINDOWS_SYS),
    ("DevicePropertyEnumeratorName", WINDOWS_SYS),
    ("DevicePropertyFriendlyName", WINDOWS_SYS),
    ("DevicePropertyHardwareID", WINDOWS_SYS),
    ("DevicePropertyLegacyBusType", WINDOWS_SYS),
    ("DevicePropertyLocationInformation", WINDOWS_SYS),
    ("DevicePropertyManufacturer", WINDOWS_SYS),
    ("DevicePropertyPhysicalDeviceObjectName", WINDOWS_SYS),
    ("EVENT_CONTROL_CODE_DISABLE_PROVIDER", WINDOWS_SYS),
    ("EVENT_CONTROL_CODE_ENABLE_PROVIDER", WINDOWS_SYS),
    ("EVENT_CONTROL_CODE_CAPTURE_STATE", WINDOWS_SYS),
    ("EVENT_DATA_DESCRIPTOR_TYPE_NONE", WINDOWS_SYS),
    ("EVENT_DATA_DESCRIPTOR_TYPE_EVENT_METADATA", WINDOWS_SYS),
    ("EVENT_DATA_DESCRIPTOR_TYPE_PROVIDER_METADATA", WINDOWS_SYS),
    ("IpDadStateDeprecated", WINDOWS_SYS),
    ("IpDadStateDuplicate", WINDOWS_SYS),
    ("IpDadStateInvalid", WINDOWS_SYS),
    ("IpDadStatePreferred", WINDOWS_SYS),
    ("IpDadStateTentative", WINDOWS_SYS),
    ("KeyValueBasicInformation", WINDOWS_SYS),
    ("KeyValueFullInformation", WINDOWS_SYS),
    ("KeyValuePartialInformation", WINDOWS_SYS),
    ("MdlMappingNoExecute", WINDOWS_SYS),
    ("MdlMappingNoWrite", WINDOWS_SYS),
    ("MibAddInstance", WINDOWS_SYS),
    ("MibDeleteInstance", WINDOWS_SYS),
    ("MibInitialNotification", WINDOWS_SYS),
    ("MibParameterNotification", WINDOWS_SYS),
    (
        "NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_1",
        WINDOWS_SYS,
    ),
    (
        "NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_2",
        WINDOWS_SYS,
    ),
    (
        "NDIS_MINIPORT_DRIVER_CHARACTERISTICS_REVISION_3",
        WINDOWS_SYS,
    ),
    ("NET_DEVICE_PNP_EVENT_REVISION_1", WINDOWS_SYS),
    ("NlnsDelay", WINDOWS_SYS),
    ("NlnsIncomplete", WINDOWS_SYS),
    ("NlnsPermanent", WINDOWS_SYS),
    ("NlnsProbe", WINDOWS_SYS),
    ("NlnsReachable", WINDOWS_SYS),
    ("NlnsStale", WINDOWS_SYS),
    ("NlnsUnreachable", WINDOWS_SYS),
    ("PAGE_NOCACHE", WINDOWS_SYS),
    ("PAGE_READONLY", WINDOWS_SYS),
    ("PAGE_READWRITE", WINDOWS_SYS),
    ("PAGE_WRITECOMBINE", WINDOWS_SYS),
    ("PCI_CAPABILITY_ID_MSI", WINDOWS_SYS),
    ("PCI_CAPABILITY_ID_MSIX", WINDOWS_SYS),
    ("PCI_CAPABILITY_ID_PCI_EXPRESS", WINDOWS_SYS),
    ("PCI_CAPABILITY_ID_POWER_MANAGEMENT", WINDOWS_SYS),
    ("PCI_CAPABILITY_ID_VENDOR_SPECIFIC", WINDOWS_SYS),
    ("PCI_DISABLE_LEVEL_INTERRUPT", WINDOWS_SYS),
    ("PCI_ENABLE_BUS_MASTER", WINDOWS_SYS),
    ("PCI_ENABLE_IO_SPACE", WINDOWS_SYS),
    ("PCI_ENABLE_MEMORY_SPACE", WINDOWS_SYS),
    ("PCI_STATUS_CAPABILITIES_LIST", WINDOWS_SYS),
    ("PCI_WHICHSPACE_CONFIG", WINDOWS_SYS),
    ("STATUS_NO_MORE_ENTRIES", WINDOWS_SYS),
    ("EventProviderSetTraits", WINDOWS_SYS),
    ("TRACE_LEVEL_CRITICAL", WINDOWS_SYS),
    ("TRACE_LEVEL_ERROR", WINDOWS_SYS),
    ("TRACE_LEVEL_WARNING", WINDOWS_SYS),
    ("TRACE_LEVEL_INFORMATION", WINDOWS_SYS),
    ("TRACE_LEVEL_VERBOSE", WINDOWS_SYS),
    ("WINEVENT_CHANNEL_TRACELOGGING", WINDOWS_SYS),
    ("TDH_INTYPE_UINT8", WINDOWS_SYS),
    ("TDH_INTYPE_UINT16", WINDOWS_SYS),
    ("TDH_INTYPE_INT32", WINDOWS_SYS),
    ("TDH_INTYPE_UINT32", WINDOWS_SYS),
    ("TDH_INTYPE_UINT64", WINDOWS_SYS),
    ("TDH_INTYPE_BINARY", WINDOWS_SYS),
    ("TDH_INTYPE_MANIFEST_COUNTEDANSISTRING", WINDOWS_SYS),
    ("TlgOutNULL", TRACELOGGING),
    ("TlgOutBOOLEAN", TRACELOGGING),
    ("TlgOutSOCKETADDRESS", TRACELOGGING),
    ("TlgOutNTSTATUS", TRACELOGGING),
    (
        "DPFLTR_IHVDRIVER_ID",
        "not in the metadata; dpfilter.h, the same in all public copies",
    ),
    (
        "ERROR_LOG_MAXIMUM_SIZE",
        "not in the metadata; documented with IoAllocateErrorLogEntry",
    ),
];

/// Functions without a fact.
const PROTOTYPES_WITHOUT_FACTS: &[Exception] = &[
    ("ALLOCATE_COMMON_BUFFER", WINDOWS_SYS),
    ("ALLOCATE_COMMON_BUFFER_EX", WINDOWS_SYS),
    ("BUILD_SCATTER_GATHER_LIST", WINDOWS_SYS),
    ("CALCULATE_SCATTER_GATHER_LIST", WINDOWS_SYS),
    ("CancelMibChangeNotify2", WINDOWS_SYS),
    ("ConvertInterfaceIndexToLuid", WINDOWS_SYS),
    ("ConvertInterfaceLuidToIndex", WINDOWS_SYS),
    ("ETWENABLECALLBACK", WINDOWS_SYS),
    ("ExReInitializeRundownProtection", WINDOWS_SYS),
    ("FLUSH_ADAPTER_BUFFERS", WINDOWS_SYS),
    ("FREE_COMMON_BUFFER", WINDOWS_SYS),
    ("FreeMibTable", WINDOWS_SYS),
    ("GET_DMA_ALIGNMENT", WINDOWS_SYS),
    ("GET_SCATTER_GATHER_LIST", WINDOWS_SYS),
    ("GetBestRoute2", WINDOWS_SYS),
    ("GetIpNetEntry2", WINDOWS_SYS),
    ("GetUnicastIpAddressEntry", WINDOWS_SYS),
    ("GetUnicastIpAddressTable", WINDOWS_SYS),
    ("NotifyRouteChange2", WINDOWS_SYS),
    ("NotifyUnicastIpAddressChange", WINDOWS_SYS),
    ("PIPFORWARD_CHANGE_CALLBACK", WINDOWS_SYS),
    ("PUNICAST_IPADDRESS_CHANGE_CALLBACK", WINDOWS_SYS),
    ("PUT_DMA_ADAPTER", WINDOWS_SYS),
    ("PUT_SCATTER_GATHER_LIST", WINDOWS_SYS),
    ("ResolveIpNetEntry2", WINDOWS_SYS),
    (
        "PFN_WSK_CONTROL_CLIENT",
        "not in the metadata; as documented (wsk.h)",
    ),
];

/// Items that are not defined with the macros.
const OUTSIDE_THE_MACROS: &[Exception] = &[("ANY_FAMILY", "another name of AF_UNSPEC")];

#[test]
fn structures_are_laid_out_as_the_facts_say() {
    check_layouts(
        &layouts(),
        include_str!("../data/layouts.tsv"),
        LAYOUTS_WITHOUT_FACTS,
    );
}

#[test]
fn constants_have_the_values_of_the_facts() {
    check_constants(
        &constants(),
        include_str!("../data/constants.tsv"),
        CONSTANTS_WITHOUT_FACTS,
    );
}

#[test]
fn functions_take_what_the_facts_say() {
    check_prototypes(
        &prototypes(),
        include_str!("../data/prototypes.tsv"),
        PROTOTYPES_WITHOUT_FACTS,
    );
}

#[test]
fn nothing_escapes_the_checks() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    check_nothing_is_left_out(
        &source,
        &layouts(),
        &constants(),
        &prototypes(),
        OUTSIDE_THE_MACROS,
    );
}
