//! The inputs that fuzzing has found worth keeping, once more; and some others near them. `ROCE_SEED=n` repeats one of those,
//! `ROCE_CASES=n` runs more of them.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;
mod util;

use roce::Rng;
use std::path::PathBuf;
use util::random::{Witness, below, pick, seeds};

/// Every input of a target, by name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", target]
        .iter()
        .collect();
    let mut all: Vec<_> = std::fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|file| {
            let file = file.unwrap();
            let name = file.file_name().into_string().unwrap();
            (name, std::fs::read(file.path()).unwrap())
        })
        .collect();
    all.sort();
    assert!(all.len() > 10, "{}: only {}", folder.display(), all.len());
    all
}

/// Says which input it was.
struct Named<'a>(&'a str);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input was {}", self.0);
        }
    }
}

/// Runs what is kept, and as many inputs made from it by chance.
fn repeat(target: &str, run: fn(&[u8]), cases: u64) {
    let kept = corpus(target);
    for (name, input) in &kept {
        let _named = Named(name);
        run(input);
    }
    let inputs: Vec<&[u8]> = kept.iter().map(|(_, input)| &input[..]).collect();
    for seed in seeds(cases) {
        let _witness = Witness(seed);
        let mut rng = Rng::new(seed ^ 0xf022);
        // The beginning of one, the end of another, and some bytes of no one.
        let (a, b) = (pick(&mut rng, &inputs), pick(&mut rng, &inputs));
        let from = &b[below(&mut rng, b.len() as u32) as usize..];
        let mut input = [&a[..below(&mut rng, a.len() as u32 + 1) as usize], from].concat();
        for _ in 0..below(&mut rng, 8) {
            let at = below(&mut rng, input.len() as u32) as usize;
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.next_u32() as u8;
            }
        }
        run(&input);
    }
}

#[test]
fn frames_into_a_connected_pair() {
    repeat("frames", fuzz::frames::run, 300);
}

#[test]
fn datagrams_into_the_connection_manager() {
    repeat("mads", fuzz::mads::run, 300);
}

/// Connections come about in what is kept, over addresses of either family.
#[test]
fn connections_are_fuzzed_over_both_families() {
    let mut established = [0, 0];
    for (_, input) in corpus("mads") {
        let summary = fuzz::mads::play(&input);
        established[usize::from(summary.ipv6)] += summary.established;
    }
    assert!(established.iter().all(|n| *n > 10), "{established:?}");
}

#[test]
fn changed_captures() {
    repeat("captures", fuzz::captures::run, 300);
}

/// What is newest is what can come again, late: not what came first.
#[test]
fn the_fuzzers_remember_what_was_seen_last() {
    let mut recent = fuzz::recent::Recent::<u32, 8>::default();
    assert_eq!(recent.pick(3), None);
    for n in 0..20 {
        recent.push(n);
        assert_eq!((recent.pick(0), recent.iter().next()), (Some(&n), Some(&n)));
        assert_eq!(recent.iter().count(), 8.min(n as usize + 1));
    }
    let picked = [0, 7, 8, 15].map(|at| recent.pick(at).copied());
    assert_eq!(picked, [19, 12, 19, 12].map(Some));
}

/// Unchanged, the conversations come about again, whichever side the engine takes: there is something that changes can spoil.
#[test]
fn captures_as_they_were_are_understood() {
    // perftest has two connections, one of them for what it has to agree about; the last is of a server that was not there.
    let connections = [1, 2, 2, 2, 2, 0];
    for choice in 0..fuzz::captures::CHOICES {
        let summary = fuzz::captures::play(&[choice]);
        println!("{choice}: {summary:?}");
        let n = connections[usize::from(choice / 2)];
        assert_eq!(summary.established, n, "{choice}: {summary:?}");
        // Both sides may disconnect.
        let ends = n..=2 * n;
        assert!(
            ends.contains(&summary.disconnected),
            "{choice}: {summary:?}"
        );
        assert_eq!(summary.rx_bytes > 0, n > 0, "{choice}: {summary:?}");
    }
}
