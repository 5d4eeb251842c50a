//! Traces to be read.

use std::fmt;

use super::out::Out;
use super::recorder::{End, Frame, Place};

/// Ends the line of a failure.
pub(super) const FAILED: &str = " [failed]";

/// The first line.
pub(super) fn head(out: &mut Out, seed: u64) {
    out.put(format_args!(
        "# ntsim trace, seed {seed}: -> into a driver, <- out of it; times are of the world's clock\n"
    ));
}

/// The last line.
pub(super) fn foot(out: &mut Out, time: u64, records: u64) {
    out.put(format_args!("# end at {time} ns, {records} records\n"));
}

pub(super) fn line(
    out: &mut Out,
    machine: &str,
    place: Place,
    depth: usize,
    what: fmt::Arguments<'_>,
) {
    let Place {
        time,
        processor,
        irql,
        thread,
        ..
    } = place;
    let indent = 2 * depth;
    out.put(format_args!(
        "{time:>12} ns  {machine} cpu {processor} irql {irql:>2} thread {thread:>2}  {:indent$}{what}\n",
        ""
    ));
}

/// Something begins.
pub(super) struct Begin(pub(super) Frame);

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Frame::Call { into_driver, .. } => {
                write!(f, "{} {}", if into_driver { "->" } else { "<-" }, self.0)
            }
            Frame::Dpc { .. } => write!(f, "{} begins", self.0),
            Frame::Ndk { .. } => write!(f, "NDK {}", self.0),
        }
    }
}

/// Something is over.
pub(super) struct Over<'a>(pub(super) Frame, pub(super) End<'a>);

impl fmt::Display for Over<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Over(frame, end) = self;
        match frame {
            // Control goes back the other way.
            Frame::Call { into_driver, .. } => {
                let way = if *into_driver { "<-" } else { "->" };
                write!(f, "{way} {frame} returns")?;
            }
            Frame::Dpc { .. } if end.answer.is_empty() => write!(f, "{frame} ends")?,
            Frame::Dpc { .. } => write!(f, "{frame} ends: {}", end.answer)?,
            Frame::Ndk { .. } => write!(f, "NDK {frame}: {}", end.answer)?,
        }
        if let Some(wall) = end.wall {
            write!(f, ", {wall} ns of the host")?;
        }
        if end.failed {
            f.write_str(FAILED)?;
        }
        Ok(())
    }
}
