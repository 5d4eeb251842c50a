//! Call paths, each of which is failed once: by which a function was called that may fail.
//!
//! A path is the function's name and the return addresses between it and the callback that the driver is in. Addresses are relative to the
//! executable or image, whose build is part of the path: what is kept of them in a file survives to be compared with later runs of
//! the same build, and says nothing of another.

use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::UNIX_EPOCH;

use super::{context, thread};
use crate::image::Images;
use crate::verifier::{Unwound, backtrace, image_path};

/// Return addresses that tell one path from another: the simulator's own, and at most 16 of the driver's.
const DEPTH: usize = 24;

/// A path by which a function was called that may fail. Written as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultPath(u64);

impl fmt::Display for FaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for FaultPath {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(FaultPath)
    }
}

/// The paths that have failed, which never fail again. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct FaultPaths(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    seen: HashSet<FaultPath>,
    /// No others fail than these.
    only: Option<HashSet<FaultPath>>,
    /// Those that failed here, in order.
    failed: Vec<FaultPath>,
    file: Option<File>,
}

impl FaultPaths {
    /// None has failed yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Those have failed that a file has, a line each; those that fail from now on are added. The file is made if there is none. Lines of
    /// other builds are of no importance.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let first = |line: &str| line.split(' ').next()?.parse().ok();
        Ok(FaultPaths(Arc::new(Mutex::new(Known {
            seen: text.lines().filter_map(first).collect(),
            file: Some(file),
            ..Known::default()
        }))))
    }

    /// These alone fail, each at the first call: what repeats a run in which they failed.
    #[must_use]
    pub fn only(paths: impl IntoIterator<Item = FaultPath>) -> Self {
        FaultPaths(Arc::new(Mutex::new(Known {
            only: Some(paths.into_iter().collect()),
            ..Known::default()
        })))
    }

    /// Those that have failed since this was made, in that order.
    #[must_use]
    pub fn failed(&self) -> Vec<FaultPath> {
        self.known().failed.clone()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a path is to fail: it has not failed before. `told` says in a file what it is.
    pub(super) fn is_new(&self, path: FaultPath, told: &str) -> bool {
        let mut known = self.known();
        if known
            .only
            .as_ref()
            .is_some_and(|only| !only.contains(&path))
            || !known.seen.insert(path)
        {
            return false;
        }
        known.failed.push(path);
        if let Some(file) = &mut known.file {
            // In one piece: other processes may write to it too.
            file.write_all(format!("{path} {told}\n").as_bytes())
                .expect("the file of paths that failed can be written");
        }
        true
    }
}

impl FromStr for FaultPaths {
    type Err = String;

    /// As `NTSIM_FAULTS` has it: the name of a file, or `only:` and paths with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(paths) = text.strip_prefix("only:") else {
            return Self::of_file(Path::new(text)).map_err(|error| format!("{text}: {error}"));
        };
        let paths: Result<Vec<_>, _> = paths.split(',').map(str::parse).collect();
        let paths = paths.map_err(|error| format!("{text}: {error}"))?;
        Ok(Self::only(paths))
    }
}

/// What `NTSIM_FAULTS` says, read once: the worlds of a process share the paths, one after the other.
pub(super) fn of_environment() -> Option<(FaultPaths, Lease)> {
    static PATHS: OnceLock<Option<FaultPaths>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| {
        super::builder::setting(
            "NTSIM_FAULTS",
            "a file that can be written, or `only:` and keys of paths with commas between them",
        )
    });
    let paths = paths.clone()?;
    Some((paths, Lease::new()))
}

/// The thread that has worlds now which share the paths of the environment, and how many.
static LEASED: Mutex<Option<(ThreadId, usize)>> = Mutex::new(None);

/// One of those worlds. While a thread has some, no other may: which of two comes to a path first would be chance.
pub(super) struct Lease(());

impl Lease {
    fn new() -> Self {
        let here = std::thread::current().id();
        let mut leased = LEASED.lock().unwrap_or_else(PoisonError::into_inner);
        let count = match *leased {
            None => 1,
            Some((thread, count)) if thread == here => count + 1,
            Some(_) => {
                drop(leased);
                panic!(
                    "NTSIM_FAULTS is for one test at a time, or chance decides in which of two a path fails: name one with --exact, or \
                     run them with --test-threads=1"
                );
            }
        };
        *leased = Some((here, count));
        Lease(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leased = LEASED.lock().unwrap_or_else(PoisonError::into_inner);
        *leased = match *leased {
            Some((thread, count)) if count > 1 => Some((thread, count - 1)),
            _ => None,
        };
    }
}

/// What the executable was built to: a number that another build does not have.
fn executable() -> u64 {
    static BUILD: OnceLock<u64> = OnceLock::new();
    *BUILD.get_or_init(|| {
        let file = std::env::current_exe().and_then(std::fs::metadata);
        let built = file.and_then(|file| Ok((file.len(), file.modified()?)));
        let mut hasher = DefaultHasher::new();
        // Without these, what a file has of any build is believed: at worst a path is not failed again.
        if let Ok((len, time)) = built {
            let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            (len, time).hash(&mut hasher);
        }
        hasher.finish()
    })
}

/// The path by which the driver's code that runs now called a function.
pub(super) fn of_call(function: &'static str) -> FaultPath {
    let mut hasher = DefaultHasher::new();
    function.hash(&mut hasher);
    if let Some(callback) = context::with(|c| c.import.callback.get()) {
        callback.function.name.hash(&mut hasher);
        // What fails for one end of a connection is to fail for the other, too: they may be different consumers.
        if callback.function.is_ndk() {
            context::machine().name.hash(&mut hasher);
        }
    }
    let in_image = context::try_machine().is_some_and(|machine| {
        let images = machine.ext::<Images>();
        let places = image_path(&images, DEPTH);
        for address in &places {
            images.relative(*address).hash(&mut hasher);
        }
        !places.is_empty()
    });
    if !in_image {
        executable().hash(&mut hasher);
        // Wherever the executable was loaded.
        let here = of_call as fn(_) -> _ as usize;
        for address in linked() {
            address.wrapping_sub(here).hash(&mut hasher);
        }
    }
    FaultPath(hasher.finish())
}

/// What happens once by itself, without a driver's call, and is named.
pub(crate) fn of_event(what: &str) -> FaultPath {
    let mut hasher = DefaultHasher::new();
    let image = context::try_machine().and_then(|machine| machine.ext::<Images>().first());
    (what, executable(), image).hash(&mut hasher);
    FaultPath(hasher.finish())
}

/// Frames from the simulator's own outwards.
struct Walk {
    /// The callback was called from here.
    end: usize,
    frames: Vec<(usize, usize)>,
}

/// # Safety
/// Called by the unwinder with a frame and a `Walk`.
unsafe extern "C" fn note(frame: *mut Unwound, walk: *mut c_void) -> c_int {
    // SAFETY: as given to `backtrace`, and its frame.
    let (walk, address, sp) = unsafe {
        let (address, sp) = Unwound::place(frame);
        (&mut *walk.cast::<Walk>(), address, sp)
    };
    if sp > walk.end || walk.frames.len() > DEPTH {
        return Unwound::STOP;
    }
    walk.frames.push((address, sp));
    Unwound::GO_ON
}

/// The return addresses in linked code up to the callback's.
fn linked() -> Vec<usize> {
    let callback = context::with(|c| c.import.callback.get());
    if !thread::on_thread() {
        return Vec::new();
    }
    let mut walk = Walk {
        end: callback.map_or(usize::MAX, |callback| callback.sp),
        frames: Vec::with_capacity(DEPTH + 1),
    };
    // SAFETY: the function takes what is given with it.
    unsafe { backtrace(note, (&raw mut walk).cast()) };
    let frames = walk.frames.into_iter();
    frames.take(DEPTH).map(|(address, _)| address).collect()
}
