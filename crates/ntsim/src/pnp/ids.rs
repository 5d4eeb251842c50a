//! Identification strings that the PCI bus driver reports for a function.

/// The registers of a PCI function's configuration space that identification strings are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciIdentity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Revision id.
    pub revision: u8,
    /// Base class, subclass, programming interface.
    pub class: [u8; 3],
}

impl PciIdentity {
    /// Reads the identity out of the first 64 bytes of configuration space; `None` when fewer are given.
    #[must_use]
    pub fn from_config(config: &[u8]) -> Option<Self> {
        let config: &[u8; 64] = config.get(..64)?.try_into().ok()?;
        let word = |at: usize| u16::from_le_bytes([config[at], config[at + 1]]);
        Some(Self {
            vendor: word(0x00),
            device: word(0x02),
            revision: config[0x08],
            class: [config[0x0b], config[0x0a], config[0x09]],
            subsystem_vendor: word(0x2c),
            subsystem: word(0x2e),
        })
    }

    /// Hardware ids, most specific first.
    #[must_use]
    pub fn hardware_ids(&self) -> Vec<String> {
        let base = format!("PCI\\VEN_{:04X}&DEV_{:04X}", self.vendor, self.device);
        let subsys = format!(
            "&SUBSYS_{:04X}{:04X}",
            self.subsystem, self.subsystem_vendor
        );
        let [c, s, p] = self.class;
        vec![
            format!("{base}{subsys}&REV_{:02X}", self.revision),
            format!("{base}{subsys}"),
            format!("{base}&CC_{c:02X}{s:02X}{p:02X}"),
            format!("{base}&CC_{c:02X}{s:02X}"),
        ]
    }

    /// Compatible ids, most compatible first.
    #[must_use]
    pub fn compatible_ids(&self) -> Vec<String> {
        let vendor = format!("PCI\\VEN_{:04X}", self.vendor);
        let base = format!("{vendor}&DEV_{:04X}", self.device);
        let [c, s, p] = self.class;
        vec![
            format!("{base}&REV_{:02X}", self.revision),
            base,
            format!("{vendor}&CC_{c:02X}{s:02X}{p:02X}"),
            format!("{vendor}&CC_{c:02X}{s:02X}"),
            vendor,
            format!("PCI\\CC_{c:02X}{s:02X}{p:02X}"),
            format!("PCI\\CC_{c:02X}{s:02X}"),
        ]
    }

    /// The device id part of a device instance path.
    #[must_use]
    pub fn device_id(&self) -> String {
        self.hardware_ids().swap_remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_virtio_network_function() {
        let mut config = [0u8; 64];
        config[0..4].copy_from_slice(&[0xf4, 0x1a, 0x41, 0x10]);
        config[0x08..0x0c].copy_from_slice(&[0x01, 0x00, 0x00, 0x02]);
        config[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        let id = PciIdentity::from_config(&config).unwrap();
        assert_eq!(
            id.hardware_ids()[0],
            "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01"
        );
        assert_eq!(id.hardware_ids()[2], "PCI\\VEN_1AF4&DEV_1041&CC_020000");
        assert_eq!(id.compatible_ids()[1], "PCI\\VEN_1AF4&DEV_1041");
        assert_eq!(PciIdentity::from_config(&config[..63]), None);
    }
}
