//! Looks after worlds whose driver code does not give the processor back.
//!
//! A driver that loops without calling the kernel stops everything: nothing in the world's thread can notice. So one thread
//! of the process looks at all worlds now and then. It only looks: what happens in a world does not depend on it, until it
//! signals a thread that is lost, and there the handler ends the world.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use libc::{c_int, c_void, siginfo_t};

use super::{context, thread};

/// How often code is seen to make no progress before it is lost. Looks are counted, not time measured: a process that was
/// stopped for a while is not to blame.
const LOOKS: u32 = 8;
/// So many times longer may a turn last in which the kernel is called.
const WITH_CALLS: u32 = 10;
/// A lost thread may be inside the kernel when it is interrupted, where nobody can be stopped. It is interrupted again after
/// a moment, so many times, before it is taken for lost there.
const TRIES: u32 = 500;
const MOMENT: Duration = Duration::from_millis(1);

/// What a world shows of itself.
struct Pulse {
    /// Counts the times that a kernel thread began and ceased to run: odd while one runs.
    turns: AtomicU64,
    /// The turn that lasted too long.
    lost: AtomicU64,
    /// How often it was interrupted.
    tries: AtomicU32,
    /// The world's thread.
    thread: libc::pthread_t,
    /// Calls between drivers and the kernel so far.
    crossings: Arc<AtomicUsize>,
    /// How long code may run without any.
    limit: Duration,
}

/// Looks after a world.
pub(crate) struct Watchdog(Option<Arc<Pulse>>);

/// A world, and what was seen of it.
struct Watched {
    pulse: Arc<Pulse>,
    turn: u64,
    crossings: usize,
    /// How often since the turn began, and since the last crossing.
    looks: (u32, u32),
    /// When to look again.
    due: Instant,
}

static WORLDS: Mutex<Vec<Watched>> = Mutex::new(Vec::new());
static CHANGED: Condvar = Condvar::new();
static START: Once = Once::new();

fn worlds() -> MutexGuard<'static, Vec<Watched>> {
    WORLDS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    /// Looks after the world of this thread, which counts its crossings: without any, a turn may last that long, or for
    /// ever if that is zero.
    pub(super) fn new(limit: Duration, crossings: Arc<AtomicUsize>) -> Watchdog {
        if limit.is_zero() {
            return Watchdog(None);
        }
        START.call_once(|| {
            catch();
            let thread = std::thread::Builder::new().name("ntsim watchdog".to_owned());
            thread.spawn(look).expect("a thread for the watchdog");
        });
        let pulse = Arc::new(Pulse {
            turns: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            tries: AtomicU32::new(0),
            // SAFETY: always succeeds.
            thread: unsafe { libc::pthread_self() },
            crossings,
            limit,
        });
        worlds().push(Watched {
            pulse: Arc::clone(&pulse),
            turn: 0,
            crossings: 0,
            looks: (0, 0),
            due: Instant::now() + limit / LOOKS,
        });
        CHANGED.notify_one();
        Watchdog(Some(pulse))
    }

    /// A kernel thread begins or ceases to run.
    #[inline]
    pub(super) fn turn(&self) {
        if let Some(pulse) = &self.0 {
            let turns = pulse.turns.load(Ordering::Relaxed);
            pulse.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Looks no more. Once this has returned, no signal is sent.
    pub(super) fn stop(&self) {
        if let Some(pulse) = &self.0 {
            worlds().retain(|w| !Arc::ptr_eq(&w.pulse, pulse));
        }
    }

    /// Whether the turn that runs has lasted too long; if so, how often it was interrupted.
    fn lost(&self) -> Option<u32> {
        let pulse = self.0.as_ref()?;
        let turn = pulse.turns.load(Ordering::Relaxed);
        let lost = turn % 2 == 1 && turn == pulse.lost.load(Ordering::Relaxed);
        lost.then(|| pulse.tries.load(Ordering::Relaxed))
    }
}

/// The watchdog's thread.
fn look() {
    loop {
        let mut worlds = worlds();
        let now = Instant::now();
        for watched in worlds.iter_mut().filter(|w| w.due <= now) {
            watched.due = now + watched.look();
        }
        match worlds.iter().map(|w| w.due).min() {
            Some(due) => drop(CHANGED.wait_timeout(worlds, due.saturating_duration_since(now))),
            None => drop(CHANGED.wait(worlds)),
        }
    }
}

impl Watched {
    /// Looks once; how long until the next time.
    fn look(&mut self) -> Duration {
        let period = self.pulse.limit / LOOKS;
        let turn = self.pulse.turns.load(Ordering::Relaxed);
        let crossings = self.pulse.crossings.load(Ordering::Relaxed);
        if turn != self.turn || turn.is_multiple_of(2) {
            (self.turn, self.looks) = (turn, (0, 0));
            return period;
        }
        let lost = self.pulse.lost.load(Ordering::Relaxed) == turn;
        self.looks.0 += 1;
        self.looks.1 += 1;
        if crossings != self.crossings {
            (self.crossings, self.looks.1) = (crossings, 0);
        }
        if !lost && self.looks.0 < WITH_CALLS * LOOKS && self.looks.1 < LOOKS {
            return period;
        }
        if !lost {
            self.pulse.tries.store(0, Ordering::Relaxed);
            self.pulse.lost.store(turn, Ordering::Relaxed);
        }
        self.pulse.tries.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the thread lives: it waits for our lock before its world is gone.
        unsafe { libc::pthread_kill(self.pulse.thread, signal()) };
        MOMENT
    }
}

/// The signal that a lost thread gets: one that hardly any program uses.
fn signal() -> c_int {
    libc::SIGRTMAX() - 1
}

fn catch() {
    // SAFETY: a zero-initialised structure and a handler of the signature that SA_SIGINFO asks for.
    let caught = unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(signal(), &action, ptr::null_mut())
    };
    assert!(caught == 0, "sigaction failed");
}

unsafe extern "C" fn handler(_signal: c_int, _info: *mut siginfo_t, _context: *mut c_void) {
    let core = context::with(|c| c.core.get());
    // SAFETY: the world keeps it while it is in the context.
    let lost = unsafe { core.as_ref() }.and_then(|core| core.watchdog.lost());
    if lost.is_some_and(|tries| context::in_driver() || tries > TRIES) {
        thread::lost();
    }
}
