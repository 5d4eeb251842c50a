//! Connections that do not come about.

use super::{Bench, LIMIT};
use anyhow::{Context, Result, ensure};
use std::fs;

/// What vroce-lab's `rejecting-server` gives as private data.
const REASONS: &[u8] = b"not today";

pub fn vroce_rejects(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["rejecting-server"])?;
    bench.meet(&mut peer)?;
    let ends = bench.ends();
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {}", ends.vroce), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 28"),
        "not a consumer reject (28): {}",
        output.text
    );
    bench.finish(peer)?;
    // rping does not show private data.
    let capture = fs::read(bench.capture).context("the capture")?;
    ensure!(
        rejects_with(&capture, REASONS),
        "no reject with the private data was on the wire"
    );
    Ok("rping sees reason 28, the private data was on the wire".to_owned())
}

/// Whether bytes from the wire contain a consumer's CM REJ with such private data, and zeros behind it.
fn rejects_with(bytes: &[u8], data: &[u8]) -> bool {
    /// From the private data back to the attribute of the MAD, and to the REJ's reason (IBTA 12.6.7 and 13.4.2).
    const ATTRIBUTE: usize = 24 - 16 + 84;
    const REASON: usize = 84 - 10;
    const REJ: [u8; 2] = [0x00, 0x12];
    const CONSUMER: [u8; 2] = [0, 28];
    const PRIVATE_DATA: usize = 148;
    let word = |at: usize, back: usize| bytes.get(at.checked_sub(back)?..)?.first_chunk::<2>();
    let is_reject = |at: usize| {
        let tail = bytes.get(at + data.len()..at + PRIVATE_DATA);
        word(at, ATTRIBUTE) == Some(&REJ)
            && word(at, REASON) == Some(&CONSUMER)
            && tail.is_some_and(|tail| tail.iter().all(|byte| *byte == 0))
    };
    let mut windows = bytes.windows(data.len()).enumerate();
    windows.any(|(at, window)| window == data && is_reject(at))
}

pub fn nobody_on_linux(bench: &mut Bench<'_>) -> Result<String> {
    let peer = (bench.start)(&[
        "expect-refused",
        "--to",
        bench.ends().guest,
        "--port",
        "7999",
    ])?;
    bench.finish(peer)?;
    Ok("STATUS_CONNECTION_REFUSED".to_owned())
}

pub fn nobody_on_vroce(bench: &mut Bench<'_>) -> Result<String> {
    let mut peer = (bench.start)(&["idle", "--until-refused"])?;
    bench.meet(&mut peer)?;
    let ends = bench.ends();
    let guest = bench.guest()?;
    let (_, output) = guest.run_job(&format!("rping -c -v -C 1 -a {}", ends.vroce), LIMIT)?;
    ensure!(
        output.status != 0,
        "rping -c was not refused: {}",
        output.text
    );
    ensure!(
        output.text.contains("RDMA_CM_EVENT_REJECTED, error 8"),
        "not an invalid service ID (8): {}",
        output.text
    );
    bench.finish(peer)?;
    Ok("rping sees reason 8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A MAD with a REJ for this reason.
    fn mad(attribute: u8, reason: u8, data: &[u8]) -> Vec<u8> {
        let mut mad = vec![0; 24 + 232];
        mad[17] = attribute;
        mad[24 + 11] = reason;
        mad[24 + 84..][..data.len()].copy_from_slice(data);
        [&[0xaa; 77][..], &mad, &[0xbb; 4]].concat()
    }

    #[test]
    fn private_data_counts_where_it_belongs() {
        assert!(rejects_with(&mad(0x12, 28, REASONS), REASONS));
        for (attribute, reason, data) in [
            (0x13, 28, REASONS),
            (0x12, 8, REASONS),
            (0x12, 28, b"not todaY"),
            (0x12, 28, b"not today."),
        ] {
            assert!(!rejects_with(&mad(attribute, reason, data), REASONS));
        }
        let whole = mad(0x12, 28, REASONS);
        let begin = whole.windows(REASONS.len()).position(|w| w == REASONS);
        assert!(!rejects_with(&whole[begin.unwrap()..], REASONS));
        assert!(!rejects_with(REASONS, REASONS) && !rejects_with(&[], REASONS));
    }
}
