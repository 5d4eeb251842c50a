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

pub(crate) fn update(mut register: u32, bytes: &[u8]) -> u32 {
    let (blocks, rest) = bytes.as_chunks::<16>();
    for block in blocks {
        let mut block = *block;
        for (byte, folded) in block.iter_mut().zip(register.to_le_bytes()) {
            *byte ^= folded;
        }
        register = 0;
        for (byte, table) in block.iter().zip(TABLES.iter().rev()) {
            register ^= table[usize::from(*byte)];
        }
    }
    for byte in rest {
        let [low, ..] = register.to_le_bytes();
        register = (register >> 8) ^ TABLES[0][usize::from(low ^ byte)];
    }
    register
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::update;
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
            }
        }
    }
}
