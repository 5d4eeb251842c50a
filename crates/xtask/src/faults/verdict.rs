//! What came of a run: whether the driver or the simulator did wrong, or the story alone did not go on.

use std::process::ExitStatus;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ended as it should.
    Passed,
    /// Its own assertions failed, or what it did next was wrong: what it is about did not happen.
    PremiseGone,
    /// The driver, or the simulator, did wrong.
    Finding(String),
}

/// What a run means that ended so and printed that.
pub fn judge(ended: Option<ExitStatus>, text: &str) -> Verdict {
    let finding = |text: &str| Verdict::Finding(text.to_owned());
    let Some(status) = ended else {
        return finding("it did not end");
    };
    if status.success() {
        return Verdict::Passed;
    }
    // What else the process says where it ended by itself says it better.
    let broken: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ntsim: ").or(Some(line)))
        .filter(|line| line.starts_with("rule ") && line.contains(" broken"))
        .collect();
    // The consumers are tests', and stumble where the story does not go on.
    let tests = [" broken by code of the test", " broken by the NDK consumer"];
    let is_tests = |line: &&&str| tests.iter().any(|by| line.contains(by));
    if let Some(line) = broken.iter().find(|line| !is_tests(line)) {
        return finding(line);
    }
    if !broken.is_empty() {
        return Verdict::PremiseGone;
    }
    if let Some(line) = text.lines().find(|line| line.contains("not simulated")) {
        return finding(line);
    }
    let panics = text.lines().filter_map(|line| {
        let (_, place) = line.split_once(" panicked at ")?;
        line.starts_with("thread ").then_some(place)
    });
    for place in panics {
        if ["src/", "crates/"]
            .iter()
            .any(|part| place.starts_with(part))
        {
            return finding(&format!("a panic at {place}"));
        }
    }
    // A consumer's callback, which cannot unwind: the process ends with it.
    let was_tests = text.contains(" panicked at tests/");
    if status.code().is_none() && !was_tests {
        let last = text.lines().rfind(|line| !line.trim().is_empty());
        return finding(&format!("{status}, after: {}", last.unwrap_or_default()));
    }
    Verdict::PremiseGone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const FAILED: i32 = 101 << 8;

    fn judged(status: i32, text: &str) -> Verdict {
        judge(Some(ExitStatus::from_raw(status)), text)
    }

    #[test]
    fn what_the_driver_did_wrong_is_a_finding() {
        for (status, text, said) in [
            (
                FAILED,
                "thread 'a' (7) panicked at crates/ntsim/src/world/mod.rs:1:2:\nntsim: seed 1\nrule irql broken by driver vroce: x\n",
                "rule irql broken by driver vroce: x",
            ),
            (
                6,
                "ntsim: rule hang broken inside the simulated kernel: x\n",
                "rule hang broken inside the simulated kernel: x",
            ),
            (
                FAILED,
                "thread 'a' (7) panicked at src/ndk/qp.rs:1:2:\nindex out of bounds\n",
                "a panic at src/ndk/qp.rs:1:2:",
            ),
            (
                6,
                "\nmemory allocation of 64 bytes failed\n",
                "signal: 6 (SIGABRT), after: memory allocation of 64 bytes failed",
            ),
        ] {
            assert_eq!(judged(status, text), Verdict::Finding(said.to_owned()));
        }
        assert_eq!(
            judge(None, ""),
            Verdict::Finding("it did not end".to_owned())
        );
    }

    #[test]
    fn what_the_test_did_wrong_is_none() {
        assert_eq!(
            judged(0, "rule irql broken by driver vroce"),
            Verdict::Passed
        );
        for text in [
            "thread 'a' (7) panicked at tests/ndk/lab.rs:1:2:\ncalled `Option::unwrap()` on a `None` value\n",
            "rule ndk.consumer broken by the NDK consumer: x\n",
            "rule deadlock broken by code of the test: it waits for ever\n",
        ] {
            assert_eq!(judged(FAILED, text), Verdict::PremiseGone, "{text}");
        }
        let callback = "thread 'a' (7) panicked at tests/ndk/lab.rs:1:2:\nx\npanic in a function that cannot unwind\n";
        assert_eq!(judged(6, callback), Verdict::PremiseGone);
    }
}
