//! What the class of network adapters asks of an install section.

use super::parse::{Section, number};
use super::registry::{DWORD, Value};
use super::rules::Rule;
use super::{Lint, keywords};

/// NCF_VIRTUAL, NCF_SOFTWARE_ENUMERATED, NCF_PHYSICAL.
const KINDS: u64 = 0x7;
const PHYSICAL: u64 = 0x4;
const NO_SERVICE: u64 = 0x10;
const HAS_UI: u64 = 0x80;
/// PCIBus.
const PCI_BUS: u64 = 5;
/// IF_TYPE_ETHERNET_CSMACD, with NdisMedium802_3.
const ETHERNET: (u64, u64) = (6, 0);
/// NdisPhysicalMediumUnspecified, NdisPhysicalMedium802_3.
const WIRED: [u64; 2] = [0, 14];
/// Messages that a device with MSI-X can have.
const MESSAGES: u64 = 2048;

/// What an INF makes of an adapter.
pub struct Adapter<'a> {
    /// Its install section.
    pub section: &'a Section,
    /// Whether it is found on a PCI bus.
    pub pci: bool,
    /// The function driver's service.
    pub service: Option<String>,
    /// Its software key.
    pub class_key: Vec<Value>,
    /// Its hardware key.
    pub device_key: Vec<Value>,
}

/// Looks at an adapter.
pub fn look(lint: &mut Lint<'_>, adapter: &Adapter<'_>) {
    media(lint, adapter.section);
    characteristics(lint, adapter);
    ndi(lint, adapter);
    interrupts(lint, &adapter.device_key);
    keywords::look(lint, adapter.section.line, &adapter.class_key);
}

/// Line and value of a directive that is a number.
fn value(section: &Section, directive: &str) -> Option<(usize, u64)> {
    let entry = section.entry(directive)?;
    let value = number(entry.field(0)).filter(|_| !entry.field(0).is_empty())?;
    Some((entry.line, value))
}

fn media(lint: &mut Lint<'_>, section: &Section) {
    let [interface, media, physical] =
        ["*IfType", "*MediaType", "*PhysicalMediaType"].map(|name| {
            let value = value(section, name);
            if value.is_none() {
                let line = section.entry(name).map_or(section.line, |e| e.line);
                let text = format!("{name} is missing: NDIS does not start the driver");
                lint.complain(line, Rule::NetType, text);
            }
            value
        });
    if let (Some((line, interface)), Some((_, media)), Some((_, physical))) =
        (interface, media, physical)
        && (interface == ETHERNET.0 || media == ETHERNET.1)
        && ((interface, media) != ETHERNET || !WIRED.contains(&physical))
    {
        let text =
            format!("type {interface}, media {media}, physical {physical} do not go together");
        lint.complain(line, Rule::NetType, text);
    }
}

fn characteristics(lint: &mut Lint<'_>, adapter: &Adapter<'_>) {
    let section = adapter.section;
    let Some((line, flags)) = value(section, "Characteristics") else {
        let text = "no Characteristics";
        lint.complain(section.line, Rule::NetCharacteristics, text);
        return;
    };
    let parameters = adapter
        .class_key
        .iter()
        .any(|value| value.key.to_ascii_lowercase().starts_with("ndi\\params\\"));
    let wrong = if (flags & KINDS).count_ones() > 1 {
        Some("only one of NCF_VIRTUAL, NCF_SOFTWARE_ENUMERATED and NCF_PHYSICAL")
    } else if flags & NO_SERVICE != 0 {
        Some("NCF_NO_SERVICE, but an adapter has a service")
    } else if adapter.pci && flags & PHYSICAL == 0 {
        Some("a PCI device is NCF_PHYSICAL")
    } else if parameters && flags & HAS_UI == 0 {
        Some("parameters are shown with NCF_HAS_UI only")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        lint.complain(line, Rule::NetCharacteristics, wrong);
    }
    let bus = value(section, "BusType");
    match bus {
        None if flags & PHYSICAL != 0 => {
            lint.complain(section.line, Rule::NetBus, "no BusType");
        }
        Some((line, bus)) if adapter.pci && bus != PCI_BUS => {
            let text = format!("BusType {bus}, but PCI is {PCI_BUS}");
            lint.complain(line, Rule::NetBus, text);
        }
        _ => {}
    }
}

fn ndi(lint: &mut Lint<'_>, adapter: &Adapter<'_>) {
    let line = adapter.section.line;
    let find = |key: &str, name: &str| adapter.class_key.iter().find(|v| v.is(key, name));
    match (find("Ndi", "Service"), &adapter.service) {
        (None, _) => lint.complain(line, Rule::NetService, "no value Service in Ndi"),
        (Some(value), Some(service)) if !value.text().eq_ignore_ascii_case(service) => {
            let text = format!("\"{}\", but the service is {service}", value.text());
            lint.complain(value.line, Rule::NetService, text);
        }
        _ => {}
    }
    for range in ["UpperRange", "LowerRange"] {
        if find("Ndi\\Interfaces", range).is_none_or(|value| value.text().is_empty()) {
            let text = format!("no value {range} in Ndi\\Interfaces");
            lint.complain(line, Rule::NetInterfaces, text);
        }
    }
    let ndk = keywords::NDK.iter().any(|name| {
        let key = format!("Ndi\\Params\\{name}");
        find(&key, "Type").is_some()
    });
    if let Some(upper) = find("Ndi\\Interfaces", "UpperRange")
        && ndk
        && !upper.text().split(',').any(|range| range.trim() == "ndis5")
    {
        let text = format!("UpperRange \"{}\", not ndis5", upper.text());
        lint.complain(upper.line, Rule::NdkUpperRange, text);
    }
}

fn interrupts(lint: &mut Lint<'_>, device_key: &[Value]) {
    const KEY: &str = "Interrupt Management\\MessageSignaledInterruptProperties";
    let find = |name: &str| {
        let value = device_key.iter().find(|v| v.is(KEY, name))?;
        let number = number(value.text()).filter(|_| value.kind == DWORD)?;
        Some((value.line, number))
    };
    let supported = find("MSISupported");
    if let Some((line, value)) = supported
        && value != 1
    {
        lint.complain(line, Rule::Msi, format!("MSISupported is {value}, not 1"));
    }
    if let Some((line, limit)) = find("MessageNumberLimit") {
        if supported.is_none() {
            lint.complain(line, Rule::Msi, "MessageNumberLimit without MSISupported");
        }
        if !(1..=MESSAGES).contains(&limit) {
            lint.complain(
                line,
                Rule::Msi,
                format!("{limit} is not 1 to {MESSAGES} messages"),
            );
        }
    }
}
