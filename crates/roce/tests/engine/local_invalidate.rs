//! Keys that this side invalidates, alone or with a READ, in their turn among its other requests.

use crate::util::raw::syndrome::*;
use crate::util::raw::{PSN, Raw};
use crate::util::*;
use roce::wire::Opcode::*;
use roce::{CompletionOp, SendFlags, SendOp, Status};

/// A failing local operation waits its turn: what was posted before it completes first.
#[test]
fn a_local_operation_fails_after_everything_before_it_has_completed() {
    let mut r = Raw::small();
    let local = r.host.open(pattern(300, 1));
    let mr = r.host.fast(r.now, r.qp, 1, vec![0; 8]);
    r.silence();
    r.host.send(r.now, r.qp, 2, SendOp::Send, &[local.all()]);
    let again = r
        .host
        .post_fast(r.now, r.qp, 3, mr.key, &mr, ALL, SendFlags::empty());
    assert!(again.is_ok());
    assert_eq!(r.packets(), [(SendFirst, PSN), (SendLast, PSN + 1)]);
    assert_eq!(outcomes(&r.host.completions), [(1, Status::Success)]);
    r.acknowledge(PSN + 1, ACK);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [
            (1, Status::Success),
            (2, Status::Success),
            (3, Status::LocalOperation)
        ]
    );
}

#[test]
fn w22_what_is_not_valid_cannot_be_invalidated() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let mr = p.a.fast(p.now, qa, 1, vec![0; 100]);
    p.run(SECOND);
    p.a.engine.post_recv(p.now, qa, 2, &[]).unwrap();
    p.b.send(p.now, qb, 3, SendOp::SendInvalidate(mr.key.0), &[]);
    p.run(SECOND);
    p.a.send(p.now, qa, 4, mr.invalidate(), &[]);
    p.a.send(p.now, qa, 5, SendOp::Send, &[]);
    p.run(SECOND);
    assert_eq!(
        ops(&p.a.completions[2..]),
        [
            (4, CompletionOp::Invalidate, Status::LocalOperation),
            (5, CompletionOp::Send, Status::Flushed),
        ]
    );
}

/// Until everything before it is acknowledged, packets may have to be sent again.
#[test]
fn invalidation_waits_for_earlier_requests_and_is_not_passed_by_later_ones() {
    let mut r = Raw::small();
    let mr = r.host.fast(r.now, r.qp, 1, pattern(300, 1));
    r.host.send(r.now, r.qp, 2, SendOp::Send, &[mr.all()]);
    r.host.send(r.now, r.qp, 3, mr.invalidate(), &[]);
    r.host.send(r.now, r.qp, 4, SendOp::Send, &[]);
    assert_eq!(r.packets(), [(SendFirst, PSN), (SendLast, PSN + 1)]);
    assert!(r.host.engine.valid_region(mr.key).is_some());
    // Lost, and sent again.
    r.acknowledge(PSN, 0x60);
    assert_eq!(r.packets(), [(SendFirst, PSN)]);
    r.acknowledge(PSN, ACK);
    assert_eq!(r.packets(), [(SendLast, PSN + 1)]);
    assert!(r.host.engine.valid_region(mr.key).is_some());
    r.acknowledge(PSN + 1, ACK);
    assert_eq!(r.packets(), [(SendOnly, PSN + 2)]);
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    assert_eq!(
        ops(&r.host.completions),
        [
            (1, CompletionOp::FastRegister, Status::Success),
            (2, CompletionOp::Send, Status::Success),
            (3, CompletionOp::Invalidate, Status::Success),
        ]
    );
    r.acknowledge(PSN + 2, ACK);
    r.silence();
    assert_eq!(r.host.completions.len(), 4);
}

/// Going back in the PSN space passes over local operations without doing them again.
#[test]
fn local_operations_between_retransmitted_requests_are_executed_once() {
    let mut r = Raw::small();
    let local = r.host.open(pattern(300, 1));
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(r.now, r.qp, 1, SendOp::Send, &[local.all()]);
    let one = r.host.fast(r.now, r.qp, 2, vec![0; 8]);
    let two = r.host.fast(r.now, r.qp, 3, vec![0; 8]);
    r.host.send(r.now, r.qp, 4, op, &[local.sge(0, 8)]);
    let three = r.host.fast(r.now, r.qp, 5, vec![0; 8]);
    let all = [
        (SendFirst, PSN),
        (SendLast, PSN + 1),
        (ReadRequest, PSN + 2),
    ];
    assert_eq!(r.packets(), all);
    for mr in [one, two, three] {
        assert_eq!(r.host.engine.valid_region(mr.key), Some(mr.region));
    }
    r.acknowledge(PSN, 0x60);
    assert_eq!(r.packets(), all[..1]);
    // That alone has arrived: the rest comes again.
    r.acknowledge(PSN, ACK);
    assert_eq!(r.packets(), all[1..]);
    r.acknowledge(PSN + 1, ACK);
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions),
        [1, 2, 3].map(|c| (c, Status::Success))
    );
    // The timeout goes back to the READ, not to what lies before it.
    r.wait(SECOND);
    assert_eq!(r.packets(), [(ReadRequest, PSN + 2)]);
    r.respond(ReadResponseOnly, PSN + 2, Some(ACK), b"abcdefgh");
    r.silence();
    assert_eq!(
        outcomes(&r.host.completions[3..]),
        [4, 5].map(|c| (c, Status::Success))
    );
}

#[test]
fn silent_and_fenced_local_operations() {
    let mut r = Raw::small();
    let local = r.host.open(vec![0; 8]);
    let memory = r.host.unregistered(vec![0; 8]);
    let entry = r.host.engine.register_fast(r.host.pd, true).unwrap();
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    r.host.send(r.now, r.qp, 1, op, &[local.all()]);
    let flags = SendFlags::FENCE | SendFlags::SILENT;
    let mr = r
        .host
        .post_fast(r.now, r.qp, 2, entry, &memory, ALL, flags)
        .unwrap();
    r.host.send(r.now, r.qp, 3, SendOp::Send, &[]);
    assert_eq!(r.packets(), [(ReadRequest, PSN)]);
    assert_eq!(r.host.engine.valid_region(mr.key), None);
    r.respond(ReadResponseOnly, PSN, Some(ACK), b"abcdefgh");
    assert_eq!(r.packets(), [(SendOnly, PSN + 1)]);
    assert_eq!(r.host.engine.valid_region(mr.key), Some(memory.region));
    r.acknowledge(PSN + 1, ACK);
    r.host
        .send_with(r.now, r.qp, 4, mr.invalidate(), &[], SendFlags::SILENT);
    r.host
        .send_with(r.now, r.qp, 5, mr.invalidate(), &[], SendFlags::SILENT);
    r.silence();
    // Silent unless they fail.
    assert_eq!(
        outcomes(&r.host.completions),
        [
            (1, Status::Success),
            (3, Status::Success),
            (5, Status::LocalOperation)
        ]
    );
}

/// The consumer frees memory when its invalidation completes: no transmission may read it then.
#[test]
fn invalidation_completes_when_no_transmission_reads_through_the_key() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    let (qa2, _) = p.attach();
    p.a.nic_holds = None;
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&mr));
    assert_eq!(p.a.held(), 1);
    // From another queue pair than the one whose transmission holds it.
    p.a.completions.clear();
    p.a.send(p.now, qa2, 3, mr.invalidate(), &[]);
    p.a.send(
        p.now,
        qa2,
        4,
        SendOp::Write {
            remote_va: 0,
            rkey: 0,
        },
        &[],
    );
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), []);
    // Dead already, for the peer and for this side.
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    // A new registration has to wait too.
    let fresh = p.a.unregistered(vec![0; 10]);
    let fresh =
        p.a.post_fast(p.now, qa, 5, mr.key, &fresh, ALL, SendFlags::empty())
            .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(fresh.key), None);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(fresh.key), Some(fresh.region));
    let mut done = outcomes(&p.a.completions);
    done.sort_unstable_by_key(|c| c.0);
    assert_eq!(done, [3, 4, 5].map(|c| (c, Status::Success)));
    p.b.send(p.now, qb, 6, mr.read(), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.completions.last().unwrap().status, Status::RemoteAccess);
}

#[test]
fn a_send_of_ones_own_that_the_nic_still_reads_holds_back_an_invalidation_too() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let remote = p.b.open(vec![0; 100]);
    let mr = p.a.fast(p.now, qa, 1, pattern(100, 1));
    p.a.send_with(p.now, qa, 2, remote.write(), &[mr.all()], SendFlags::SILENT);
    p.a.send(p.now, qa, 3, mr.invalidate(), &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (3, Status::Success)]
    );
}

#[test]
fn w23_a_read_invalidates_its_first_element() {
    let (mut p, qa, _) = Pair::attached(Setup::small());
    let source = p.b.open(pattern(700, 1));
    let one = p.a.fast(p.now, qa, 1, vec![0; 300]);
    let two = p.a.fast(p.now, qa, 2, vec![0; 400]);
    let flags = SendFlags::INVALIDATE_LOCAL;
    p.a.send_with(p.now, qa, 3, source.read(), &[one.all(), two.all()], flags);
    p.run(SECOND);
    assert_eq!(p.a.bytes(&one), &p.b.bytes(&source)[..300]);
    assert_eq!(p.a.bytes(&two), &p.b.bytes(&source)[300..]);
    assert_eq!(p.a.engine.valid_region(one.key), None);
    assert_eq!(p.a.engine.valid_region(two.key), Some(two.region));
    assert_eq!(
        outcomes(&p.a.completions),
        [1, 2, 3].map(|c| (c, Status::Success))
    );
}

/// NDKPI leaves this open. A key that cannot be invalidated at the end is refused at the start, as any other local error.
#[test]
fn w23_a_read_into_a_key_that_cannot_be_invalidated_is_not_sent() {
    let mut r = Raw::small();
    let plain = r.host.open(vec![0; 8]);
    let op = SendOp::Read {
        remote_va: 0,
        rkey: 1,
    };
    let flags = SendFlags::INVALIDATE_LOCAL;
    r.host.send_with(r.now, r.qp, 1, op, &[plain.all()], flags);
    r.silence();
    assert_eq!(outcomes(&r.host.completions), [(1, Status::LocalOperation)]);
}

#[test]
fn w23_a_read_that_invalidates_waits_for_transmissions_through_its_key() {
    let (mut p, qa, qb) = Pair::attached(Setup::small());
    p.a.nic_holds = None;
    let source = p.b.open(pattern(100, 1));
    let sink = p.b.open(vec![0; 100]);
    let mr = p.a.fast(p.now, qa, 1, vec![0; 100]);
    p.run(SECOND);
    p.b.send(p.now, qb, 2, mr.read(), &[sink.all()]);
    p.run(SECOND);
    let flags = SendFlags::INVALIDATE_LOCAL;
    p.a.send_with(p.now, qa, 3, source.read(), &[mr.all()], flags);
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(mr.key), None);
    assert_eq!(outcomes(&p.a.completions), [(1, Status::Success)]);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.a.completions),
        [(1, Status::Success), (3, Status::Success)]
    );
}
