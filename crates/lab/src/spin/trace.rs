//! A trace of the epoch that runs, for when it ends badly.

use ntsim::World;
use ntsim::trace::{Trace, TraceConfig};
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};

struct Wanted {
    path: PathBuf,
    config: TraceConfig,
    /// Of the epoch begun last.
    trace: Option<Trace>,
}

thread_local! {
    static WANTED: RefCell<Option<Wanted>> = const { RefCell::new(None) };
}

/// Traces each epoch that this thread walks from now on into that file: in the end it holds the last one.
pub fn trace_epochs(path: &Path, config: TraceConfig) {
    WANTED.set(Some(Wanted {
        path: path.to_owned(),
        config,
        trace: None,
    }));
}

/// Whether the last epoch's trace was written; it has ended.
///
/// # Errors
/// Why not.
pub fn trace_of_epochs() -> io::Result<()> {
    WANTED.with_borrow(|wanted| {
        let trace = wanted.as_ref().and_then(|wanted| wanted.trace.as_ref());
        trace.map_or(Ok(()), Trace::flush)
    })
}

/// An epoch begins.
pub(super) fn begin(world: &mut World) -> Result<(), String> {
    WANTED.with_borrow_mut(|wanted| {
        let Some(wanted) = wanted else { return Ok(()) };
        let trace = world.trace_to(&wanted.path, wanted.config);
        let told = |error| format!("writing {}: {error}", wanted.path.display());
        wanted.trace = Some(trace.map_err(told)?);
        Ok(())
    })
}
