//! What of the environment a run looks at. A name of the kind that nobody knows is refused: a run that it did not change would be taken for
//! the one that was meant.

/// What every name begins with.
const PREFIX: &str = "NTSIM_";

/// A variable of the environment.
struct Variable {
    name: &'static str,
    what: &'static str,
}

/// Every one there is, those included at which only tests look, or what starts them.
const VARIABLES: [Variable; 14] = [
    known("NTSIM_SEED", "the number that everything follows from"),
    known("NTSIM_INTERLEAVE", "interrupts one in so many returns"),
    known("NTSIM_EXPLORE", "preempts at some places"),
    known("NTSIM_VERIFY", "cheap or full: what is looked at"),
    known("NTSIM_PEND", "lets one in so many NDK functions pend"),
    known("NTSIM_PROCESSORS", "how many each machine has at least"),
    known("NTSIM_TIMER_TICK", "nanoseconds between timer ticks"),
    known("NTSIM_FAULTS", "fails each new path to a function once"),
    known("NTSIM_LOW_RESOURCES", "fails one in so many calls"),
    known("NTSIM_WATCHDOG", "seconds that driver code may run"),
    known("NTSIM_DEBUG", "prints what drivers print"),
    known("NTSIM_FIRED", "a file for the rules that tests break"),
    known("NTSIM_IMAGE", "the .sys to test, not the linked driver"),
    known(
        "NTSIM_FAULTY_IMAGE",
        "the .sys whose faults a test looks for",
    ),
];

const fn known(name: &'static str, what: &'static str) -> Variable {
    Variable { name, what }
}

/// Looks for names that nobody knows.
///
/// # Panics
/// If there is one.
pub(super) fn check() {
    for (name, _) in std::env::vars_os() {
        if let Some(error) = unknown(&name.to_string_lossy()) {
            panic!("{error}");
        }
    }
}

/// What is wrong with a name.
fn unknown(name: &str) -> Option<String> {
    if !name.starts_with(PREFIX) || VARIABLES.iter().any(|known| known.name == name) {
        return None;
    }
    let distances = VARIABLES.map(|known| (distance(known.name, name), known));
    let nearest = distances.iter().map(|(d, _)| *d).min().unwrap_or_default();
    // One letter more than the nearest may be what was meant, too.
    let near = distances
        .iter()
        .filter(|(distance, _)| *distance <= nearest + 1)
        .map(|(_, known)| format!("{} ({})", known.name, known.what));
    Some(format!(
        "nothing looks at {name}, which the environment has. The nearest that there is: {}",
        near.collect::<Vec<_>>().join(", ")
    ))
}

/// How many letters have to be put in, taken out or changed to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_wrong_name_is_told_with_those_that_are_near() {
        assert_eq!(unknown("NTSIM_VERIFY"), None);
        assert_eq!(unknown("PATH"), None);
        assert_eq!(
            unknown("NTSIM_VERIFIY").unwrap(),
            "nothing looks at NTSIM_VERIFIY, which the environment has. The nearest that there is: NTSIM_VERIFY (cheap or full: what is \
             looked at)"
        );
        let two = unknown("NTSIM_FAULT").unwrap();
        assert!(two.contains("is: NTSIM_FAULTS (fails each"), "{two}");
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "ab", 2),
            ("abc", "abc", 0),
            ("seed", "sede", 2),
            ("pend", "end", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    /// The names in a text.
    fn names(text: &str) -> BTreeSet<&str> {
        let rests = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
        rests
            .map(|rest| {
                let end = rest.find(|c: char| !c.is_ascii_uppercase() && c != '_');
                &rest[..end.unwrap_or(rest.len())]
            })
            .filter(|name| *name != PREFIX)
            .collect()
    }

    #[test]
    fn each_is_explained_where_users_look() {
        let docs = include_str!("../../../../docs/testing-a-consumer.md");
        let rows: String = docs
            .lines()
            .filter(|l| l.starts_with("| `NTSIM_"))
            .collect();
        let other = names(include_str!("../../../../docs/simulator.md"));
        for Variable { name, .. } in VARIABLES {
            let told = match name {
                "NTSIM_IMAGE" | "NTSIM_FAULTY_IMAGE" => other.contains(name),
                _ => names(&rows).contains(name),
            };
            assert!(told, "{name} is not explained");
        }
        for name in names(docs).union(&other) {
            assert_eq!(unknown(name), None);
        }
    }

    /// Of what reads the environment in the workspace, nothing is missing here.
    #[test]
    fn sources_name_no_other() {
        fn look(folder: &Path) -> usize {
            let mut seen = 0;
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    seen += look(&path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let text = std::fs::read_to_string(&path).unwrap();
                    let literals = text.split('"').filter(|part| part.starts_with(PREFIX));
                    let literals = literals.filter(|part| names(part).contains(part));
                    for name in literals.filter(|name| !WRONG.contains(name)) {
                        assert_eq!(unknown(name), None, "{}", path.display());
                        seen += 1;
                    }
                }
            }
            seen
        }
        /// Of tests.
        const WRONG: [&str; 2] = ["NTSIM_VERIFIY", "NTSIM_FAULT"];
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let seen: usize = ["crates", "src", "tests"]
            .map(|f| look(&root.join(f)))
            .iter()
            .sum();
        assert!(seen > 40, "{seen}");
    }
}
