//! The portable way: sixteen bytes a step through sixteen tables.

/// The reflected polynomial.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// `TABLES[k][b]` is the effect of byte `b` that is followed by `k` zero bytes.
static TABLES: [[u32; 256]; 16] = tables();

const fn tables() -> [[u32; 256]; 16] {
    let mut tables = [[0; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(value & 1));
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut byte = 0;
        while byte < 256 {
            let previous = tables[k - 1][byte];
            tables[k][byte] = (previous >> 8) ^ tables[0][(previous & 0xFF) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

/// Appends N bytes, 4 to 16 of them.
#[inline]
fn step<const N: usize>(register: u32, mut block: [u8; N]) -> u32 {
    for (byte, folded) in block.iter_mut().zip(register.to_le_bytes()) {
        *byte ^= folded;
    }
    let tables = TABLES[..N].iter().rev();
    block
        .iter()
        .zip(tables)
        .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)])
}

/// Appends the bytes of a last block that is not full.
fn rest(mut register: u32, bytes: &[u8]) -> u32 {
    let (words, bytes) = bytes.as_chunks::<4>();
    for word in words {
        register = step(register, *word);
    }
    for byte in bytes {
        let [low, ..] = register.to_le_bytes();
        register = (register >> 8) ^ TABLES[0][usize::from(low ^ byte)];
    }
    register
}

pub(crate) fn update(mut register: u32, bytes: &[u8]) -> u32 {
    let (blocks, last) = bytes.as_chunks::<16>();
    for block in blocks {
        register = step(register, *block);
    }
    rest(register, last)
}

/// Appends `from` and copies it to `to`, each byte read once.
///
/// # Safety
/// `to` is valid for writes of as many bytes, which are none of `from`.
pub(crate) unsafe fn copy(mut register: u32, from: &[u8], mut to: *mut u8) -> u32 {
    let (blocks, last) = from.as_chunks::<16>();
    for block in blocks {
        let block = *block;
        register = step(register, block);
        // SAFETY: by the caller's promise: so far no more than whole blocks of `from` have been written, and this is one more.
        unsafe {
            to.cast::<[u8; 16]>().write_unaligned(block);
            to = to.add(16);
        }
    }
    // SAFETY: by the caller's promise: what is left of `from` is what is left of the room.
    unsafe { to.copy_from_nonoverlapping(last.as_ptr(), last.len()) };
    rest(register, last)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::{copy, update};
    use std::vec;
    use std::vec::Vec;

    /// Where there is PCLMULQDQ, long inputs never come here: so they are brought here by hand.
    #[test]
    fn long_inputs_agree_with_the_oracle() {
        let data: Vec<u8> = (0..5000u32)
            .map(|i| (i.wrapping_mul(0x9e37_79b9) >> 13) as u8)
            .collect();
        for start in [0, 1, 7, 15, 16] {
            for length in (0..300).chain([1023, 1024, 1025, 4095, 4096, 4097, 4900]) {
                let slice = &data[start..start + length];
                let crc = !update(!0, slice);
                assert_eq!(crc, crc32fast::hash(slice), "{length} from {start}");
                // In two parts.
                let (a, b) = slice.split_at(length / 3);
                assert_eq!(!update(update(!0, a), b), crc);
                let mut to = vec![0xee; length + 1];
                // SAFETY: there is room for one byte more.
                assert_eq!(!unsafe { copy(!0, slice, to.as_mut_ptr()) }, crc);
                assert!(to.starts_with(slice) && to[length] == 0xee);
            }
        }
    }
}
