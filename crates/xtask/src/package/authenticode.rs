//! The hash by which an image is known to its signature and to catalogs: of all but the checksum, the reference to the certificates,
//! and the certificates (Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash").

use anyhow::{Context, Result, ensure};
use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use sha2::{Digest, Sha256};

/// Whether an image has certificates.
pub fn signed(image: &[u8]) -> Result<bool> {
    let file = PeFile64::parse(image).context("not an image for 64 bits")?;
    let security = file.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY);
    Ok(security.is_some_and(|entry| entry.virtual_address.get(LE) != 0))
}

/// SHA-256 of an image, signed or not.
pub fn hash(image: &[u8]) -> Result<[u8; 32]> {
    let file = PeFile64::parse(image).context("not an image for 64 bits")?;
    let headers: &ImageNtHeaders64 = file.nt_headers();
    let optional = file.dos_header().nt_headers_offset() as usize + 24;
    let checksum = optional + 64;
    let directory = optional + 112 + 8 * IMAGE_DIRECTORY_ENTRY_SECURITY;
    let count = headers.optional_header().number_of_rva_and_sizes();
    ensure!(
        count as usize > IMAGE_DIRECTORY_ENTRY_SECURITY,
        "the image has no room for a signature"
    );
    let security = file.data_directory(IMAGE_DIRECTORY_ENTRY_SECURITY);
    let certificates = security.map_or(0, |entry| entry.virtual_address.get(LE) as usize);
    let end = if certificates == 0 {
        image.len()
    } else {
        certificates
    };
    let part =
        |from: usize, to: usize| image.get(from..to).context("the image ends in its headers");
    let mut hash = Sha256::new();
    hash.update(part(0, checksum)?);
    hash.update(part(checksum + 4, directory)?);
    hash.update(part(directory + 8, end)?);
    if certificates == 0 {
        // As it will be when the certificates begin, at a multiple of eight.
        hash.update(&[0; 8][..(8 - end % 8) % 8]);
    }
    Ok(hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers of an image without sections, then so many bytes that count up.
    fn image(len: usize) -> Vec<u8> {
        let mut file: Vec<u8> = (0..len).map(|i| i as u8).collect();
        file[..0x200].fill(0);
        for (at, bytes) in [
            (0, &b"MZ"[..]),
            (0x3c, &[0x80]),
            (0x80, b"PE\0\0\x64\x86"),
            // The optional header: 240 bytes, of PE32+, 16 directories, headers of 0x200 bytes.
            (0x94, &[240, 0, 0x22, 0, 0x0b, 2]),
            (OPTIONAL + 37, &[2]),
            (OPTIONAL + 60, &[0, 2]),
            (OPTIONAL + 108, &[16]),
        ] {
            file[at..at + bytes.len()].copy_from_slice(bytes);
        }
        file
    }

    const OPTIONAL: usize = 0x98;
    const CHECKSUM: usize = OPTIONAL + 64;
    const SECURITY: usize = OPTIONAL + 144;

    /// The image with certificates, as those who sign make it.
    fn signed(mut file: Vec<u8>) -> Vec<u8> {
        file.resize(file.len().next_multiple_of(8), 0);
        let at = (file.len() as u32).to_le_bytes();
        file[SECURITY..SECURITY + 4].copy_from_slice(&at);
        file[SECURITY + 4] = 16;
        file[CHECKSUM] = 0x55;
        file.extend([0xab; 16]);
        file
    }

    fn hex(hash: [u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_hash_is_the_one_that_others_calculate() {
        // By osslsigncode 2.9, which says it when it verifies the image signed.
        let known = "bcd2f94a91ae8548b58ee48fec1d3e1c8a2dd986654ac524f0566c907cafc20e";
        assert_eq!(hex(hash(&image(0x400)).unwrap()), known);
    }

    #[test]
    fn a_signature_does_not_change_the_hash_whatever_the_length() {
        for len in 0x400..0x409 {
            let file = image(len);
            let (before, after) = (hash(&file).unwrap(), hash(&signed(file)).unwrap());
            assert_eq!(before, after, "{len}");
        }
    }

    #[test]
    fn any_other_byte_does() {
        let file = image(0x400);
        let before = hash(&file).unwrap();
        let left_out =
            |at| (CHECKSUM..CHECKSUM + 4).contains(&at) || (SECURITY..SECURITY + 8).contains(&at);
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x80;
            // Some make it none that can be read.
            if let Ok(after) = hash(&changed)
                && !left_out(at)
            {
                assert_ne!(before, after, "{at:#x}");
            }
        }
        assert!(hash(&file[..0x100]).is_err());
    }
}
