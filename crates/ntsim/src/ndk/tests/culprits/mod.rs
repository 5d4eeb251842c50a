//! For each rule a provider, or a consumer, that breaks it and is accused of just that.

mod completions;
mod events;
mod misuse;
mod objects;
mod private_data;
mod results;

use std::ptr::null_mut;

use ndkpi::status::*;
use ndkpi::*;

use super::bench::*;
use super::consumers as mistakes;
use super::fake::{Misdeed, Mode};
use crate::ndk::rules::{self, RULES};

/// Runs a story with a provider that does one thing wrong, and wants to hear of these rules and no others.
#[track_caller]
fn accused(mode: Mode, misdeed: Misdeed, story: fn(&mut Bench), expected: &[&str]) {
    let mut bench = Bench::new(mode, misdeed);
    story(&mut bench);
    assert_eq!(bench.rules(), expected, "{misdeed:?} {mode:?}");
}

fn creates(b: &mut Bench) {
    let _ = b.cq(Told::new());
}

fn resizes(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    b.resize(cq);
    b.work();
    b.arm(cq);
}

fn sends(b: &mut Bench) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    b.connect(connector, qp);
    b.send(qp, 1, 0);
    b.poll(cq);
}

#[test]
fn opening() {
    let mut object = NDK_ADAPTER::ZEROED;
    let object = &raw mut object;
    for (status, object, expected) in [
        (STATUS_SUCCESS, object, None),
        (STATUS_INSUFFICIENT_RESOURCES, null_mut(), None),
        (STATUS_PENDING, null_mut(), Some(rules::OPEN)),
        (STATUS_SUCCESS, null_mut(), Some(rules::OPEN)),
        (STATUS_INSUFFICIENT_RESOURCES, object, Some(rules::OPEN)),
    ] {
        let mut b = Bench::new(Mode::Inline, Misdeed::Nothing);
        let judged = b.run(|| crate::ndk::judge_open(status, object));
        assert_eq!(
            judged.is_ok(),
            status == STATUS_SUCCESS && expected.is_none()
        );
        assert_eq!(b.rules(), expected.as_slice());
    }
}

#[test]
fn every_rule_has_a_culprit() {
    for culprits in [
        opening,
        objects::headers,
        objects::headers_later,
        objects::versions,
        completions::creates_and_completions,
        completions::a_request_that_is_never_completed,
        objects::closing,
        objects::windows,
        objects::adapters,
        events::notifications,
        events::a_dead_queue_says_no_more,
        events::shared_receive_queues,
        events::connections,
        private_data::what_the_other_end_gave,
        results::results,
        objects::mappings,
        misuse::consumers,
        mistakes::contexts_that_are_gone,
        mistakes::logical_addresses,
        mistakes::overruns,
        mistakes::requests_whose_memory_is_taken_away,
        mistakes::unlocked_pages,
    ] {
        culprits();
    }
    let accused = BROKEN.take();
    for rule in RULES {
        assert!(accused.contains(rule.name), "nobody breaks {rule:?}");
    }
}

#[test]
fn every_rule_has_its_own_name_and_text() {
    for (index, rule) in RULES.iter().enumerate() {
        assert!(rule.name.starts_with("ndk."), "{rule:?}");
        assert!(
            rule.text.ends_with('.') && !rule.text.contains("  "),
            "{rule:?}"
        );
        assert!(!rule.source.is_empty());
        assert!(
            RULES[..index].iter().all(|other| other.name != rule.name),
            "{rule:?}"
        );
    }
}
