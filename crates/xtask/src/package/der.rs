//! Writing DER (X.690): what a catalog is made of.

/// One element: tag, length, contents.
pub fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = contents.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let skip = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - skip) as u8);
        out.extend_from_slice(&bytes[skip..]);
    }
    out.extend_from_slice(contents);
    out
}

/// SEQUENCE.
pub fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// SET OF, in the order that DER demands.
pub fn set(mut parts: Vec<Vec<u8>>) -> Vec<u8> {
    parts.sort();
    element(0x31, &parts.concat())
}

/// A constructed \[tag\] of the context.
pub fn tagged(tag: u8, contents: &[u8]) -> Vec<u8> {
    element(0xa0 | tag, contents)
}

/// An empty, primitive \[tag\] of the context.
pub fn marker(tag: u8) -> Vec<u8> {
    element(0x80 | tag, &[])
}

/// INTEGER.
pub fn integer(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let mut skip = bytes.iter().take_while(|byte| **byte == 0).count().min(3);
    // The first bit is the sign.
    if bytes[skip] & 0x80 != 0 && skip > 0 {
        skip -= 1;
    } else if bytes[skip] & 0x80 != 0 {
        return element(0x02, &[&[0], bytes.as_slice()].concat());
    }
    element(0x02, &bytes[skip..])
}

/// OCTET STRING.
pub fn octets(contents: &[u8]) -> Vec<u8> {
    element(0x04, contents)
}

/// NULL.
pub fn null() -> Vec<u8> {
    element(0x05, &[])
}

/// OBJECT IDENTIFIER, of at least two arcs.
pub fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut contents = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let groups = (1..5).filter(|group| arc >> (7 * group) != 0).count();
        for group in (1..=groups).rev() {
            contents.push((arc >> (7 * group)) as u8 & 0x7f | 0x80);
        }
        contents.push(*arc as u8 & 0x7f);
    }
    element(0x06, &contents)
}

/// BMPString.
pub fn bmp(text: &str) -> Vec<u8> {
    let units: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    element(0x1e, &units)
}

/// UTCTime: YYMMDDhhmmssZ.
pub fn utc(text: &str) -> Vec<u8> {
    element(0x17, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        assert_eq!(octets(&[1]), [4, 1, 1]);
        assert_eq!(octets(&[0; 127])[..2], [4, 127]);
        assert_eq!(octets(&[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(octets(&[0; 256])[..4], [4, 0x82, 1, 0]);
    }

    #[test]
    fn integers_keep_their_sign() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(127), [2, 1, 127]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(integer(0x1001_0001), [2, 4, 0x10, 1, 0, 1]);
        assert_eq!(integer(0x8000_0000), [2, 5, 0, 0x80, 0, 0, 0]);
    }

    #[test]
    fn identifiers_in_groups_of_seven_bits() {
        // pkcs7-signedData, and Microsoft's catalog list.
        let signed_data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        assert_eq!(oid(&[1, 2, 840, 113_549, 1, 7, 2]), signed_data);
        let list = [6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 12, 1, 1];
        assert_eq!(oid(&[1, 3, 6, 1, 4, 1, 311, 12, 1, 1]), list);
    }

    #[test]
    fn sets_are_sorted() {
        assert_eq!(
            set(vec![vec![3], vec![1, 9], vec![1]]),
            [0x31, 4, 1, 1, 9, 3]
        );
    }
}
