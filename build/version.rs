//! The version resource of the image, which Explorer, `driverquery` and crash dumps show.
//!
//! Written as a compiled resource file (.res), which linkers take as it is: no resource compiler is needed. Formats: "VS_VERSIONINFO
//! structure" and "RESOURCEHEADER structure" in the documentation of Windows.

/// RT_VERSION.
const VERSION: u16 = 16;
/// LANG_ENGLISH, SUBLANG_ENGLISH_US; its texts are UTF-16, code page 1200.
const LANGUAGE: u16 = 0x0409;
const CODE_PAGE: u16 = 1200;

/// A compiled resource file with the version.
pub fn resource(version: [u16; 4], strings: &[(&str, &str)]) -> Vec<u8> {
    // A file begins with an empty resource.
    let mut file = entry(0, 0, 0, 0, &[]);
    // Discardable and pure, as resource compilers mark it.
    file.extend(entry(VERSION, 1, 0x30, LANGUAGE, &info(version, strings)));
    file
}

fn entry(kind: u16, name: u16, memory: u16, language: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((data.len() as u32).to_le_bytes());
    // The size of this header.
    bytes.extend(32u32.to_le_bytes());
    for id in [kind, name] {
        bytes.extend(0xffffu16.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(memory.to_le_bytes());
    bytes.extend(language.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(data);
    pad(&mut bytes);
    bytes
}

fn info(version: [u16; 4], strings: &[(&str, &str)]) -> Vec<u8> {
    let strings: Vec<Vec<u8>> = strings
        .iter()
        .map(|(key, value)| {
            let value = wide(value);
            let units = value.len() / 2;
            block(key, &value, units, true, &[])
        })
        .collect();
    let table = block(
        &format!("{LANGUAGE:04x}{CODE_PAGE:04x}"),
        &[],
        0,
        true,
        &strings,
    );
    let mut translation = LANGUAGE.to_le_bytes().to_vec();
    translation.extend(CODE_PAGE.to_le_bytes());
    let fixed = fixed(version);
    block(
        "VS_VERSION_INFO",
        &fixed,
        fixed.len(),
        false,
        &[
            block("StringFileInfo", &[], 0, true, &[table]),
            block(
                "VarFileInfo",
                &[],
                0,
                true,
                &[block(
                    "Translation",
                    &translation,
                    translation.len(),
                    false,
                    &[],
                )],
            ),
        ],
    )
}

/// VS_FIXEDFILEINFO.
fn fixed([major, minor, build, revision]: [u16; 4]) -> Vec<u8> {
    let high = u32::from(major) << 16 | u32::from(minor);
    let low = u32::from(build) << 16 | u32::from(revision);
    [
        0xfeef_04bd, // VS_FFI_SIGNATURE
        0x0001_0000,
        high,
        low,
        high,
        low,
        0x3f, // VS_FFI_FILEFLAGSMASK
        0,
        0x0004_0004, // VOS_NT_WINDOWS32
        3,           // VFT_DRV
        6,           // VFT2_DRV_NETWORK
        0,
        0,
    ]
    .iter()
    .flat_map(|word: &u32| word.to_le_bytes())
    .collect()
}

/// A node of the version's tree. `value_len` counts UTF-16 units if the value is text.
fn block(key: &str, value: &[u8], value_len: usize, text: bool, children: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend((value_len as u16).to_le_bytes());
    bytes.extend(u16::from(text).to_le_bytes());
    bytes.extend(wide(key));
    pad(&mut bytes);
    bytes.extend(value);
    for child in children {
        pad(&mut bytes);
        bytes.extend(child);
    }
    let len = (bytes.len() as u16).to_le_bytes();
    bytes[..2].copy_from_slice(&len);
    bytes
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
