//! A security catalog: a PKCS #7 message of Microsoft's certificate trust list, with a SHA-256 hash of each file of the package.
//!
//! inf2cat and makecat make them on Windows. The format is that of their second version ("Using MakeCat", CatalogVersion=2); what its
//! documentation leaves open has been read off a catalog that makecat had made, and osslsigncode reads the result. Windows never has.

use super::der::{bmp, element, integer, marker, null, octets, oid, sequence, set, tagged, utc};
use sha2::{Digest, Sha256};

const SIGNED_DATA: &[u32] = &[1, 2, 840, 113_549, 1, 7, 2];
const SHA_256: &[u32] = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
/// szOID_CTL.
const TRUST_LIST: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 10, 1];
/// szOID_CATALOG_LIST.
const CATALOG_LIST: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 12, 1, 1];
/// szOID_CATALOG_LIST_MEMBER2.
const CATALOG_MEMBER: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 12, 1, 3];
/// CAT_NAMEVALUE_OBJID.
const NAME_VALUE: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 12, 2, 1];
/// CAT_MEMBERINFO2_OBJID.
const MEMBER_INFO: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 12, 2, 3];
/// SPC_INDIRECT_DATA_OBJID.
const INDIRECT_DATA: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 2, 1, 4];
/// SPC_PE_IMAGE_DATA_OBJID.
const IMAGE_DATA: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 2, 1, 15];
/// SPC_CAB_DATA_OBJID, which stands for any file that is no image.
const FLAT_DATA: &[u32] = &[1, 3, 6, 1, 4, 1, 311, 2, 1, 25];
/// CRYPTCAT_ATTR_AUTHENTICATED, _NAMEASCII, _DATAASCII.
const ATTRIBUTE: u32 = 0x1001_0001;

/// A file of the package.
pub struct Member {
    /// Its name.
    pub name: String,
    /// SHA-256: of an image as Authenticode has it, of any other file of all of it.
    pub hash: [u8; 32],
    /// Whether it is an image.
    pub image: bool,
}

/// What a catalog says of itself.
pub struct Catalog {
    /// The files.
    pub members: Vec<Member>,
    /// Kernel versions, as 2:10.0.
    pub kernels: &'static str,
    /// Names of catalog attributes and their values: OS, HWID1, HWID2, ...
    pub attributes: Vec<(String, String)>,
    /// When: YYMMDDhhmmssZ.
    pub time: String,
}

impl Catalog {
    /// The catalog, not signed.
    pub fn write(&self) -> Vec<u8> {
        let mut members: Vec<&Member> = self.members.iter().collect();
        members.sort_by_key(|member| member.hash);
        let identifier = members
            .iter()
            .fold(Sha256::new(), |hash, member| hash.chain_update(member.hash))
            .finalize();
        let entries: Vec<Vec<u8>> = members.iter().map(|member| self.member(member)).collect();
        let extensions: Vec<Vec<u8>> = self
            .attributes
            .iter()
            .map(|(name, value)| sequence(&[oid(NAME_VALUE), octets(&name_value(name, value))]))
            .collect();
        let list = sequence(&[
            sequence(&[oid(CATALOG_LIST)]),
            octets(&identifier[..16]),
            utc(&self.time),
            sequence(&[oid(CATALOG_MEMBER), null()]),
            sequence(&entries),
            tagged(0, &sequence(&extensions)),
        ]);
        let message = sequence(&[
            integer(1),
            set(Vec::new()),
            sequence(&[oid(TRUST_LIST), tagged(0, &list)]),
            set(Vec::new()),
        ]);
        sequence(&[oid(SIGNED_DATA), tagged(0, &message)])
    }

    fn member(&self, member: &Member) -> Vec<u8> {
        let attribute = |kind: &[u32], value: Vec<u8>| sequence(&[oid(kind), set(vec![value])]);
        let (what, info) = if member.image {
            // Flags: include resources, includes imports; and a file that has no name, which is not looked at.
            let file = tagged(0, &tagged(2, &marker(0)));
            let flags = element(0x03, &[5, 0xa0]);
            let data = sequence(&[flags, file]);
            (sequence(&[oid(IMAGE_DATA), data]), marker(0))
        } else {
            let file = tagged(2, &marker(0));
            (sequence(&[oid(FLAT_DATA), file]), marker(2))
        };
        let digest = sequence(&[sequence(&[oid(SHA_256), null()]), octets(&member.hash)]);
        let attributes = set(vec![
            attribute(MEMBER_INFO, info),
            attribute(NAME_VALUE, name_value("File", &member.name)),
            attribute(NAME_VALUE, name_value("OSAttr", self.kernels)),
            attribute(INDIRECT_DATA, sequence(&[what, digest])),
        ]);
        sequence(&[octets(&member.hash), attributes])
    }
}

fn name_value(name: &str, value: &str) -> Vec<u8> {
    let text = value.encode_utf16().chain([0]);
    let value: Vec<u8> = text.flat_map(u16::to_le_bytes).collect();
    sequence(&[bmp(name), integer(ATTRIBUTE), octets(&value)])
}
