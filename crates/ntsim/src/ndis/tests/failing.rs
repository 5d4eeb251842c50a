//! What goes wrong around a miniport that no call of its asks for.

use super::*;
use crate::world::FaultPaths;
use crate::world::paths::of_event;
use ndis_sys::oid::OID_GEN_CURRENT_PACKET_FILTER;

/// One of it happens in two servers' lives: how long it took until a ping was answered, and what a query was.
fn with(event: &str) -> (Duration, super::super::OidResult) {
    let paths = FaultPaths::only([of_event(event)]);
    let builder = World::builder().ignore_environment().fail_new_paths(&paths);
    let (mut world, a, b) = two_machines_of(builder);
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    let before = world.now();
    world
        .ping(a, address(2))
        .expect("an answer, to the second at the latest");
    let pinged = world.now() - before;
    let asked = OidRequest::Query(OID_GEN_STATISTICS, 160);
    let answer = world.oid(a, &asked).expect("an adapter");
    world.uninstall(a);
    world.uninstall(b);
    assert_eq!(paths.failed().len(), 1, "{event}");
    assert!(world.finish().is_clean());
    (pinged, answer)
}

#[test]
fn an_interrupt_is_lost_or_comes_without_a_cause() {
    LINES.set(false);
    let second = Duration::from_secs(1);
    let (pinged, _) = with("loss of interrupt 1 of message 0");
    assert!(pinged >= second, "the frame lies in the device: {pinged:?}");
    let (pinged, _) = with("an interrupt without a cause after interrupt 1 of message 0");
    assert!(pinged < second, "{pinged:?}");
}

#[test]
fn an_interrupt_is_lost_while_something_is_under_way() {
    LINES.set(false);
    let event = "loss of an interrupt of message 0 during Paused";
    let paths = FaultPaths::only([of_event(event)]);
    let builder = World::builder().ignore_environment().fail_new_paths(&paths);
    let (mut world, a, b) = two_machines_of(builder);
    world.install(a, INX, IMAGE).unwrap();
    world.install(b, INX, IMAGE).unwrap();
    assert!(world.ping(b, address(1)).is_some());
    assert_eq!(paths.failed().len(), 0);
    world.pause(a);
    assert!(world.ping(b, address(1)).is_none());
    assert_eq!(paths.failed().len(), 1);
    world.resume(a).unwrap();
    assert!(world.ping(b, address(1)).is_some());
    world.uninstall(a);
    world.uninstall(b);
    assert!(world.finish().is_clean());
}

/// Whether the miniport copes with what it is asked with too few bytes is for the verifier to say.
#[test]
fn a_set_comes_with_too_short_a_buffer_first() {
    LINES.set(false);
    for short in [0, 2] {
        let event = format!("a buffer of {short} bytes for set {OID_GEN_CURRENT_PACKET_FILTER:#x}");
        let (pinged, _) = with(&event);
        assert!(pinged < Duration::from_secs(1), "{pinged:?}");
    }
}

#[test]
fn a_query_is_refused_or_asked_with_too_short_a_buffer_first() {
    LINES.set(false);
    let query = format!("query {OID_GEN_STATISTICS:#x}");
    let (_, answer) = with(&format!("refusal of {query} by NDIS"));
    assert_eq!(answer.status, NDIS_STATUS_RESOURCES);
    for short in [0, 80] {
        let (_, answer) = with(&format!("a buffer of {short} bytes for {query}"));
        assert_eq!(answer.status, NDIS_STATUS_SUCCESS);
        assert_eq!(answer.data.len(), size_of::<NDIS_STATISTICS_INFO>());
    }
}
