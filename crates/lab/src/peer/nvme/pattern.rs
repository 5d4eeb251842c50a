//! What blocks hold: each names its own place, and who wrote it.

/// Bytes of a block.
const BLOCK: usize = 512;

/// The part of a block that names it: the author's letter, the offset in the namespace as 14 hex digits, a newline.
const NAME: usize = 16;

/// The rest of a block: printable characters in order, again and again, and a newline.
const FILLER: [u8; BLOCK - NAME] = {
    let mut filler = [b'\n'; BLOCK - NAME];
    let mut index = 0;
    while index < filler.len() - 1 {
        filler[index] = b'!' + (index % 94) as u8;
        index += 1;
    }
    filler
};

/// The first letter of each block: who wrote it, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author(pub u8);

impl Author {
    /// The guest, before anything else.
    pub const GUEST: Author = Author(b'G');

    /// The letter.
    pub fn letter(self) -> char {
        char::from(self.0)
    }
}

fn block(author: Author, offset: u64) -> [u8; BLOCK] {
    let mut bytes = [b'\n'; BLOCK];
    let (name, filler) = bytes.split_at_mut(NAME);
    filler.copy_from_slice(&FILLER);
    name[0] = author.0;
    let mut rest = offset;
    for digit in name[1..NAME - 1].iter_mut().rev() {
        *digit = b"0123456789abcdef"[(rest & 0xF) as usize];
        rest >>= 4;
    }
    bytes
}

/// Writes what `author` puts at `offset`, a multiple of 512.
pub fn fill(bytes: &mut [u8], author: Author, offset: u64) {
    for (index, chunk) in bytes.chunks_mut(BLOCK).enumerate() {
        chunk.copy_from_slice(&block(author, offset + (index * BLOCK) as u64)[..chunk.len()]);
    }
}

/// Where the first block is that differs from what `author` puts at `offset`.
pub fn first_difference(bytes: &[u8], author: Author, offset: u64) -> Option<u64> {
    bytes
        .chunks(BLOCK)
        .zip((offset..).step_by(BLOCK))
        .find(|(chunk, at)| **chunk != block(author, *at)[..chunk.len()])
        .map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_name_author_and_place() {
        let mut bytes = [0; 520];
        fill(&mut bytes, Author::GUEST, 0x1_2400);
        assert!(bytes.starts_with(b"G00000000012400\n!\"#$%"));
        assert_eq!(&bytes[105..112], b"z{|}~!\"");
        assert_eq!(&bytes[509..], b"89\nG0000000");
    }

    #[test]
    fn a_difference_is_found_where_it_is() {
        let mut bytes = [0; 2048];
        fill(&mut bytes, Author(b'V'), 1024);
        assert_eq!(first_difference(&bytes, Author(b'V'), 1024), None);
        assert_eq!(first_difference(&bytes, Author(b'W'), 1024), Some(1024));
        assert_eq!(first_difference(&bytes, Author(b'V'), 1536), Some(1536));
        bytes[1100] ^= 1;
        assert_eq!(first_difference(&bytes, Author(b'V'), 1024), Some(2048));
    }
}
