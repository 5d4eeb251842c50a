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

#[test]
fn changed_captures() {
    repeat("captures", fuzz::captures::run, 300);
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
