//! The hash by which an image is known to its signature and to catalogs: of all but the checksum, the reference to the certificates,
//! and the certificates (Windows Authenticode Portable Executable Signature Format, "Calculating the PE Image Hash").

use anyhow::{Context, Result, ensure};
use object::LittleEndian as LE;
use object::pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageNtHeaders64};
use object::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile64};
use sha2::{Digest, Sha256};

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
