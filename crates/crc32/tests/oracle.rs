//! Against crc32fast, at every length and alignment around the block sizes, whole and in parts.

use vroce_crc32::{Crc32, crc32};

fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[test]
fn check_value_of_the_catalogue() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(crc32(b""), 0);
}

#[test]
fn agrees_with_the_oracle_at_every_length_and_alignment() {
    let data = bytes(700);
    for start in 0..17 {
        for end in start..data.len() {
            let slice = &data[start..end];
            assert_eq!(crc32(slice), crc32fast::hash(slice), "{start}..{end}");
        }
    }
}

#[test]
fn pieces_add_up() {
    let data = bytes(5000);
    let whole = crc32fast::hash(&data);
    for step in [1, 3, 16, 63, 64, 65, 1000, 4096] {
        let mut crc = Crc32::new();
        for piece in data.chunks(step) {
            crc.update(piece);
        }
        assert_eq!(crc.finish(), whole, "in pieces of {step}");
    }
}

#[test]
fn a_register_can_be_kept_and_continued() {
    // RoCE starts every packet behind eight bytes of ones.
    let mut crc = Crc32::new();
    crc.update(&[0xFF; 8]);
    assert_eq!(crc.register(), 0xDEBB_20E3);
    let mut again = Crc32::from_register(crc.register());
    again.update(b"abc");
    crc.update(b"abc");
    assert_eq!(again, crc);
}
