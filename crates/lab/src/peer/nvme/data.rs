//! The structures that some commands transfer: who connects, and what a controller and a namespace are.
//!
//! NVM Express over Fabrics 1.1, Connect; NVM Express Base 1.4, Identify, with the fields that Fabrics adds.

use super::wire::{Command, put, u16_at, u32_at, u64_at};

/// Bytes of [`connect_data`].
pub const CONNECT_DATA: usize = 1024;

/// The data of Connect: who connects with what. `controller` is FFFFh where one is to be made.
pub fn connect_data(
    host: [u8; 16],
    controller: u16,
    subsystem: &str,
    host_name: &str,
) -> [u8; CONNECT_DATA] {
    let mut bytes = [0; CONNECT_DATA];
    put(&mut bytes, 0, &host);
    put(&mut bytes, 16, &controller.to_le_bytes());
    put(&mut bytes, 256, subsystem.as_bytes());
    put(&mut bytes, 512, host_name.as_bytes());
    bytes
}

/// Bytes of either Identify structure.
pub const IDENTIFY_DATA: usize = 4096;

/// Of the Identify Controller structure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerData {
    /// SN.
    pub serial: String,
    /// MN.
    pub model: String,
    /// MDTS: bytes of one transfer at most, given pages of 4 KiB. None is no limit.
    pub max_transfer: Option<u32>,
    /// CNTLID.
    pub id: u16,
    /// SGLS bit 2: keyed SGL data block descriptors.
    pub keyed_sgls: bool,
    /// IOCCSZ less the command itself: bytes of data that a capsule of an I/O queue may carry. From ICDOFF 0 on.
    pub in_capsule: u32,
}

impl ControllerData {
    /// None if it is too short.
    pub fn from_bytes(bytes: &[u8]) -> Option<ControllerData> {
        let shift = u32::from(*bytes.get(77)?);
        let offset = u16_at(bytes, 1800)?;
        let capsule = u32_at(bytes, 1792)?.checked_mul(16)?;
        Some(ControllerData {
            serial: text(bytes.get(4..24)?),
            model: text(bytes.get(24..64)?),
            max_transfer: (shift > 0).then(|| 4096_u32.checked_shl(shift)).flatten(),
            id: u16_at(bytes, 78)?,
            keyed_sgls: u32_at(bytes, 536)? & 1 << 2 != 0,
            in_capsule: if offset == 0 {
                capsule.saturating_sub(Command::LEN as u32)
            } else {
                0
            },
        })
    }
}

/// ASCII, padded with blanks.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches([' ', '\0'])
        .to_owned()
}

/// Of the Identify Namespace structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceData {
    /// NSZE: logical blocks.
    pub blocks: u64,
    /// Bytes of a logical block, by FLBAS and its format.
    pub block: u32,
}

impl NamespaceData {
    /// None if it is too short, or its format has metadata or no size.
    pub fn from_bytes(bytes: &[u8]) -> Option<NamespaceData> {
        let format = 128 + 4 * usize::from(bytes.get(26)? & 0xF);
        let (metadata, shift) = (u16_at(bytes, format)?, *bytes.get(format + 2)?);
        (metadata == 0 && (9..31).contains(&shift)).then_some(NamespaceData {
            blocks: u64_at(bytes, 0)?,
            block: 1 << shift,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::sparse;
    use super::*;

    #[test]
    fn connect_data_names_both_ends() {
        let data = connect_data([9; 16], 0xFFFF, "nqn.a", "nqn.host");
        assert_eq!(
            data,
            sparse::<1024>(&[
                (0, &[9; 16]),
                (16, &[0xFF, 0xFF]),
                (256, b"nqn.a"),
                (512, b"nqn.host")
            ])
        );
    }

    #[test]
    fn identify_data_is_read() {
        let bytes = sparse::<4096>(&[
            (4, b"0123456789        ab"),
            (24, b"Linux                                   "),
            (77, &[8, 0x05, 0x00]),
            (536, &[0x05, 0, 0x10, 0]),
            (1792, &[0x04, 0x01, 0, 0]),
        ]);
        let data = ControllerData::from_bytes(&bytes).expect("whole");
        assert_eq!(
            data,
            ControllerData {
                serial: "0123456789        ab".to_owned(),
                model: "Linux".to_owned(),
                max_transfer: Some(1 << 20),
                id: 5,
                keyed_sgls: true,
                in_capsule: 4096,
            }
        );
        assert_eq!(ControllerData::from_bytes(&bytes[..1000]), None);

        let mut bytes = sparse::<4096>(&[
            (0, &[0x00, 0x40]),
            (25, &[1, 1]),
            (128, &[0, 0, 12, 0, 0, 0, 9, 0]),
        ]);
        let namespace = NamespaceData::from_bytes(&bytes);
        assert_eq!(
            namespace,
            Some(NamespaceData {
                blocks: 16_384,
                block: 512
            })
        );
        bytes[132] = 8;
        assert_eq!(NamespaceData::from_bytes(&bytes), None, "metadata");
    }
}
