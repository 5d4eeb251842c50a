//! The adapter's keywords in the registry. A bad value is logged and replaced by the default.
#![allow(unsafe_code, reason = "the registry is read through NDIS")]

use core::fmt::Write;
use core::ptr::null_mut;

use arrayvec::ArrayString;
use nt::eventlog::Entry;
use nt::string::UnicodeString;
use nt::sys::ndis::{
    NDIS_CONFIGURATION_OBJECT, NDIS_CONFIGURATION_OBJECT_REVISION_1, NDIS_CONFIGURATION_PARAMETER,
    NDIS_OBJECT_HEADER, NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT, NDIS_PARAMETER_TYPE,
    NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1, NdisParameterInteger, NdisParameterString,
};
use nt::sys::status::{
    NDIS_ERROR_CODE_NETWORK_ADDRESS, NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION,
    NDIS_STATUS_RESOURCES, NDIS_STATUS_SUCCESS, STATUS_INVALID_PARAMETER,
};
use nt::sys::types::NDIS_HANDLE;
use nt::{Passive, Status, debug_print, sys, utf16};
use roce::PathMtu;

use super::events::{Log, unique};
use super::filter::Mac;
use crate::nic::ETHERNET_HEADER;

/// What the registry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// *JumboPacket: longest frame, bytes, Ethernet header included.
    pub jumbo_packet: u16,
    /// *NetworkDirect: NDK may be used.
    pub network_direct: bool,
    /// *NetworkDirectRoCEFrameSize: path MTU wanted.
    pub frame_size: PathMtu,
    /// DcQcnEnable: reaction to congestion that the network reports.
    pub dcqcn: bool,
    /// *ReceiveBuffers.
    pub receive_buffers: u16,
    /// *TransmitBuffers.
    pub transmit_buffers: u16,
    /// NetworkAddress: MAC address to use instead of the device's.
    pub network_address: Option<Mac>,
}

/// An integer keyword.
struct Keyword {
    name: &'static [u16],
    text: &'static str,
    default: u32,
    valid: fn(u32) -> bool,
}

const JUMBO_PACKET: Keyword = Keyword {
    name: utf16!("*JumboPacket"),
    text: "*JumboPacket",
    default: 1514,
    // Less than a standard frame is not offered (Keywords That Can Be Edited).
    valid: |value| (1514..=9216).contains(&value),
};
const NETWORK_DIRECT: Keyword = Keyword {
    name: utf16!("*NetworkDirect"),
    text: "*NetworkDirect",
    default: 1,
    valid: |value| value <= 1,
};
/// NDK_RDMA_TECHNOLOGY: RoCEv2 is the only one there is.
const TECHNOLOGY: Keyword = Keyword {
    name: utf16!("*NetworkDirectTechnology"),
    text: "*NetworkDirectTechnology",
    default: 4,
    valid: |value| value == 4,
};
const FRAME_SIZE: Keyword = Keyword {
    name: utf16!("*NetworkDirectRoCEFrameSize"),
    text: "*NetworkDirectRoCEFrameSize",
    default: 1024,
    valid: |value| path_mtu(value).is_some(),
};
/// Not standardized; other vendors' keywords of this begin so.
const DCQCN: Keyword = Keyword {
    name: utf16!("DcQcnEnable"),
    text: "DcQcnEnable",
    default: 0,
    valid: |value| value <= 1,
};
const RECEIVE_BUFFERS: Keyword = Keyword {
    name: utf16!("*ReceiveBuffers"),
    text: "*ReceiveBuffers",
    default: 256,
    valid: |value| (32..=1024).contains(&value),
};
const TRANSMIT_BUFFERS: Keyword = Keyword {
    name: utf16!("*TransmitBuffers"),
    text: "*TransmitBuffers",
    default: 256,
    valid: |value| (32..=1024).contains(&value),
};

/// All of them, for tests against the INF.
#[cfg(test)]
const KEYWORDS: [Keyword; 7] = [
    JUMBO_PACKET,
    NETWORK_DIRECT,
    TECHNOLOGY,
    FRAME_SIZE,
    DCQCN,
    RECEIVE_BUFFERS,
    TRANSMIT_BUFFERS,
];

/// The path MTU of so many bytes.
fn path_mtu(bytes: u32) -> Option<PathMtu> {
    (1..=5)
        .filter_map(PathMtu::from_code)
        .find(|mtu| mtu.bytes() == bytes)
}

impl Settings {
    /// The path MTU in use over a link whose largest IP packet has `mtu` bytes: the largest that fits and is not above the one wanted.
    pub fn path_mtu(&self, mtu: u16) -> PathMtu {
        PathMtu::for_link(mtu).min(self.frame_size)
    }

    /// Longest IP packet the settings allow, bytes.
    pub fn mtu(&self) -> u16 {
        self.jumbo_packet.saturating_sub(ETHERNET_HEADER as u16)
    }

    /// Reads the settings of an adapter. Without a configuration in the registry the defaults apply.
    ///
    /// # Safety
    /// `adapter` is the NDIS handle of the adapter that is being initialised.
    ///
    /// # Errors
    /// NDIS cannot open the configuration, or tell the value of a keyword, for want of memory: what the administrator has switched off
    /// must not be switched on by that.
    pub unsafe fn read(adapter: NDIS_HANDLE, log: Log, _: Passive) -> Result<Self, Status> {
        let mut object = NDIS_CONFIGURATION_OBJECT {
            Header: NDIS_OBJECT_HEADER {
                Type: NDIS_OBJECT_TYPE_CONFIGURATION_OBJECT,
                Revision: NDIS_CONFIGURATION_OBJECT_REVISION_1,
                Size: NDIS_SIZEOF_CONFIGURATION_OBJECT_REVISION_1,
            },
            NdisHandle: adapter,
            Flags: 0,
        };
        let mut handle = null_mut();
        // SAFETY: the handle is the caller's promise; both structures live across the call.
        let status = unsafe { sys::NdisOpenConfigurationEx(&raw mut object, &raw mut handle) };
        Status(status).ok()?;
        let configuration = Configuration { handle, log };
        let integer = |keyword| configuration.integer(keyword);
        let short = |keyword| integer(keyword).map(|value| value as u16);
        integer(&TECHNOLOGY)?;
        Ok(Self {
            jumbo_packet: short(&JUMBO_PACKET)?,
            network_direct: integer(&NETWORK_DIRECT)? != 0,
            frame_size: path_mtu(integer(&FRAME_SIZE)?).unwrap_or(PathMtu::Mtu1024),
            dcqcn: integer(&DCQCN)? != 0,
            receive_buffers: short(&RECEIVE_BUFFERS)?,
            transmit_buffers: short(&TRANSMIT_BUFFERS)?,
            network_address: configuration.network_address()?,
        })
    }
}

/// An open configuration.
struct Configuration {
    handle: NDIS_HANDLE,
    log: Log,
}

impl Drop for Configuration {
    fn drop(&mut self) {
        // SAFETY: opened by `Settings::read`.
        unsafe { sys::NdisCloseConfiguration(self.handle) }
    }
}

impl Configuration {
    /// A parameter that is there, of that type if it can be.
    fn parameter(
        &self,
        name: &'static [u16],
        kind: NDIS_PARAMETER_TYPE,
    ) -> Result<Option<NDIS_CONFIGURATION_PARAMETER>, Status> {
        let mut name = UnicodeString::new(name);
        let mut status = NDIS_STATUS_SUCCESS;
        let mut parameter = null_mut();
        // SAFETY: the configuration is open; NDIS fills in the status and a pointer to a value that lives until it is closed.
        unsafe {
            sys::NdisReadConfiguration(
                &raw mut status,
                &raw mut parameter,
                self.handle,
                name.as_mut_ptr(),
                kind,
            );
            if status == NDIS_STATUS_RESOURCES {
                return Err(Status(status));
            }
            let found = status == NDIS_STATUS_SUCCESS && !parameter.is_null();
            Ok(found.then(|| *parameter))
        }
    }

    /// The value of a keyword, or its default.
    fn integer(&self, keyword: &Keyword) -> Result<u32, Status> {
        let Some(parameter) = self.parameter(keyword.name, NdisParameterInteger)? else {
            // Not there: nothing was asked for.
            return Ok(keyword.default);
        };
        let value = if parameter.ParameterType == NdisParameterInteger {
            // SAFETY: of the union the member that the type names.
            Some(unsafe { parameter.ParameterData.IntegerData })
        } else {
            None
        };
        Ok(match value {
            Some(value) if (keyword.valid)(value) => value,
            _ => {
                self.refuse(keyword, value);
                keyword.default
            }
        })
    }

    /// Logs that a value is not used.
    fn refuse(&self, keyword: &Keyword, value: Option<u32>) {
        let mut text = ArrayString::<64>::new();
        // Cut off if it is too long, which no keyword of ours is.
        let _ = match value {
            Some(value) => write!(text, "{}={value}, using {}", keyword.text, keyword.default),
            None => write!(
                text,
                "{} is no number, using {}",
                keyword.text, keyword.default
            ),
        };
        debug_print!(Warning, "bad setting: {text}");
        self.log.write(&Entry {
            code: NDIS_ERROR_CODE_UNSUPPORTED_CONFIGURATION.cast_signed(),
            unique: unique::BAD_KEYWORD,
            status: STATUS_INVALID_PARAMETER,
            strings: &[&text],
        });
    }

    /// The administrator's MAC address, if there is a usable one. That another is not used is logged.
    fn network_address(&self) -> Result<Option<Mac>, Status> {
        let mut status = NDIS_STATUS_SUCCESS;
        let mut address = null_mut();
        let mut length = 0;
        // SAFETY: the configuration is open; NDIS fills in all three, the address lives until it is closed.
        let bytes: &[u8] = unsafe {
            sys::NdisReadNetworkAddress(
                &raw mut status,
                &raw mut address,
                &raw mut length,
                self.handle,
            );
            if status != NDIS_STATUS_SUCCESS || address.is_null() {
                // NDIS does not say whether there is none, or none that it can tell. Whether there is text can still be asked.
                if self.has_network_address()? {
                    self.refuse_network_address();
                }
                return Ok(None);
            }
            core::slice::from_raw_parts(address.cast::<u8>().cast_const(), length as usize)
        };
        let usable = |mac: &Mac| mac[0] & 1 == 0 && *mac != [0; 6];
        let mac = <Mac>::try_from(bytes).ok().filter(usable);
        if mac.is_none() {
            self.refuse_network_address();
        }
        Ok(mac)
    }

    /// Whether the registry has an address, or something in its place.
    fn has_network_address(&self) -> Result<bool, Status> {
        let parameter = self.parameter(utf16!("NetworkAddress"), NdisParameterString)?;
        Ok(parameter.is_some_and(|parameter| {
            // SAFETY: of the union the member that the type names.
            parameter.ParameterType != NdisParameterString
                || unsafe { parameter.ParameterData.StringData.Length } > 0
        }))
    }

    /// Logs that the administrator's address is not used.
    fn refuse_network_address(&self) {
        debug_print!(Warning, "NetworkAddress is not used");
        self.log.write(&Entry {
            code: NDIS_ERROR_CODE_NETWORK_ADDRESS.cast_signed(),
            unique: unique::BAD_KEYWORD,
            status: STATUS_INVALID_PARAMETER,
            strings: &["NetworkAddress"],
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        for keyword in &KEYWORDS {
            assert!((keyword.valid)(keyword.default), "{}", keyword.text);
        }
    }

    #[test]
    fn the_inf_offers_what_is_valid_and_nothing_else() {
        use ntsim::pnp::ids::PciIdentity;
        use ntsim::pnp::package::Package;
        use ntsim::pnp::registry::{Registry, Value};

        let package = Package::parse(include_str!("../../inf/vroce.inx")).unwrap();
        let device = PciIdentity {
            vendor: 0x1af4,
            device: 0x1041,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            revision: 1,
            class: [2, 0, 0],
        };
        let matched = package.select(&device).unwrap();
        let mut registry = Registry::default();
        let installed = package
            .install(&matched, &device, 0, &mut registry)
            .unwrap();
        let class = registry.open(&installed.class_key).unwrap();
        for keyword in &KEYWORDS {
            let name = keyword.text;
            let key = class.open(&std::format!("Ndi\\Params\\{name}")).unwrap();
            let number = |value: &str| match key.value(value) {
                Some(Value::Sz(text)) => text.parse::<u32>().unwrap(),
                other => panic!("{name} {value}: {other:?}"),
            };
            assert_eq!(number("Default"), keyword.default, "{name}");
            if let Some(choice) = key.open("enum") {
                let offered: std::vec::Vec<u32> = choice
                    .values()
                    .map(|(value, _)| value.parse().unwrap())
                    .collect();
                let valid: std::vec::Vec<u32> = (0..=0xffff)
                    .filter(|&value| (keyword.valid)(value))
                    .collect();
                assert_eq!(offered, valid, "{name}");
            } else {
                let (min, max) = (number("Min"), number("Max"));
                assert!((keyword.valid)(min) && (keyword.valid)(max), "{name}");
                assert!(
                    !(keyword.valid)(min - 1) && !(keyword.valid)(max + 1),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn frame_sizes_of_the_keyword_are_known() {
        for bytes in [256, 512, 1024, 2048, 4096] {
            assert!((FRAME_SIZE.valid)(bytes));
        }
        assert!(!(FRAME_SIZE.valid)(1500));
    }
}
