//! Sixteen bytes at a step with tables (slicing by 16).

/// The polynomial, bit-reflected.
const POLY: u32 = 0xedb8_8320;

/// `TABLES[k][b]` is the register after byte `b` and then `k` zero bytes, from a register of zero.
static TABLES: [[u32; 256]; 16] = tables();

const fn tables() -> [[u32; 256]; 16] {
    let mut t = [[0u32; 256]; 16];
    let mut b = 0;
    while b < 256 {
        let mut crc = b as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ POLY
            } else {
                crc >> 1
            };
            bit += 1;
        }
        t[0][b] = crc;
        b += 1;
    }
    let mut k = 1;
    while k < 16 {
        let mut b = 0;
        while b < 256 {
            let prev = t[k - 1][b];
            t[k][b] = prev >> 8 ^ t[0][(prev & 0xff) as usize];
            b += 1;
        }
        k += 1;
    }
    t
}

/// The register after `bytes`.
pub(crate) fn update(mut crc: u32, bytes: &[u8]) -> u32 {
    let [
        t0,
        t1,
        t2,
        t3,
        t4,
        t5,
        t6,
        t7,
        t8,
        t9,
        t10,
        t11,
        t12,
        t13,
        t14,
        t15,
    ] = &TABLES;
    // Indices are bytes, tables have 256 entries: no bound check survives, and none can fail.
    let at = |t: &[u32; 256], b: u8| t[usize::from(b)];
    let (blocks, tail) = bytes.as_chunks::<16>();
    for block in blocks {
        let &[
            b0,
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            b8,
            b9,
            b10,
            b11,
            b12,
            b13,
            b14,
            b15,
        ] = block;
        let [c0, c1, c2, c3] = crc.to_le_bytes();
        crc = at(t15, b0 ^ c0)
            ^ at(t14, b1 ^ c1)
            ^ at(t13, b2 ^ c2)
            ^ at(t12, b3 ^ c3)
            ^ at(t11, b4)
            ^ at(t10, b5)
            ^ at(t9, b6)
            ^ at(t8, b7)
            ^ at(t7, b8)
            ^ at(t6, b9)
            ^ at(t5, b10)
            ^ at(t4, b11)
            ^ at(t3, b12)
            ^ at(t2, b13)
            ^ at(t1, b14)
            ^ at(t0, b15);
    }
    for &b in tail {
        let [low, ..] = crc.to_le_bytes();
        crc = crc >> 8 ^ at(t0, low ^ b);
    }
    crc
}
