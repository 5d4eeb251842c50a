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

#[test]
fn copies_are_whole_and_have_the_oracles_crc() {
    let data = bytes(5000);
    for start in [0, 1, 8, 15] {
        for length in (0..300).chain([1023, 1024, 4095, 4096, 4900]) {
            let slice = &data[start..start + length];
            // At every alignment; the bytes around the place stay as they are.
            let at = 1 + length % 16;
            let mut to = vec![0xee; at + length + 1];
            let mut crc = Crc32::new();
            crc.copy(slice, &mut to[at..at + length]);
            assert_eq!(
                crc.finish(),
                crc32fast::hash(slice),
                "{length} from {start}"
            );
            assert_eq!(&to[at..at + length], slice);
            assert!(to[..at].iter().all(|b| *b == 0xee) && to[at + length] == 0xee);
        }
    }
}

#[test]
fn a_copy_ends_with_the_shorter_of_the_two() {
    let data = bytes(200);
    let (mut short, mut long) = ([0; 100], [0; 300]);
    let mut crc = Crc32::new();
    crc.copy(&data, &mut short);
    assert_eq!(
        (crc.finish(), &short[..]),
        (crc32fast::hash(&data[..100]), &data[..100])
    );
    let mut crc = Crc32::new();
    crc.copy(&data, &mut long);
    assert_eq!(
        (crc.finish(), &long[..200]),
        (crc32fast::hash(&data), &data[..])
    );
    assert_eq!(long[200..], [0; 100]);
}
