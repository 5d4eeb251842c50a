//! Random cases: `ROCE_SEED=n` repeats one, `ROCE_CASES=n` runs more of them, from `ROCE_FROM=n` on.

use roce::Rng;

/// The seeds of the cases to run: so many unless the environment says otherwise.
pub fn seeds(default: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse().ok());
    match number("ROCE_SEED") {
        Some(seed) => vec![seed],
        None => {
            let from = number("ROCE_FROM").unwrap_or(0);
            (from..from + number("ROCE_CASES").unwrap_or(default)).collect()
        }
    }
}

/// Tells which case failed, whatever panics in it.
pub struct Witness(pub u64);

impl Drop for Witness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("repeat with ROCE_SEED={}", self.0);
        }
    }
}

/// A number below `n`, or 0.
pub fn below(rng: &mut Rng, n: u32) -> u32 {
    rng.next_u32() % n.max(1)
}

/// One of several.
pub fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[below(rng, from.len() as u32) as usize]
}
