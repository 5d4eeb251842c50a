//! Registrations and bindings that were posted and taken back by a flush: the entry is what it was, by the key that it had.

use crate::util::*;
use roce::{Access, MrKey, RegionId, SendFlags, SendOp, Status};

fn read(mr: &Mr) -> SendOp {
    SendOp::Read {
        remote_va: mr.va,
        rkey: mr.key.0,
    }
}

fn invalidate(key: MrKey) -> SendOp {
    SendOp::Invalidate { key }
}

#[test]
fn w20_what_is_valid_still_can_be_invalidated_after_its_successor_was_flushed() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    let (other, _) = p.attach();
    let (_, reader) = p.attach();
    let old = p.a.fast(p.now, qa, 1, pattern(64, 1));
    p.run(SECOND);
    assert_eq!(p.a.engine.current_key(old.key), Some(old.key));
    let next = p.a.unregistered(pattern(64, 2));
    let defer = SendFlags::DEFER;
    p.a.send_with(p.now, qa, 2, invalidate(old.key), &[], defer);
    let new =
        p.a.post_fast(p.now, qa, 3, old.key, &next, ALL, defer)
            .unwrap();
    assert_eq!(p.a.engine.current_key(new.key), Some(new.key));
    p.a.engine.flush(p.now, qa);
    p.run(SECOND);
    // The peer has access by the old key, and by no other.
    assert_eq!(p.a.engine.current_key(new.key), Some(old.key));
    assert_eq!(p.a.engine.current_key(old.key), None, "asked by the newest");
    let sink = p.b.open(vec![0; 64]);
    p.b.send(p.now, reader, 4, read(&old), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(p.b.bytes(&sink), p.a.bytes(&old));
    p.a.completions.clear();
    p.a.send(p.now, other, 5, invalidate(old.key), &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(5, Status::Success)]);
    p.b.send(p.now, reader, 6, read(&old), &[sink.all()]);
    p.run(SECOND);
    assert_eq!(
        outcomes(&p.b.completions),
        [(4, Status::Success), (6, Status::RemoteAccess)]
    );
    // Not valid: the newest is what a registration goes on from.
    assert_eq!(p.a.engine.current_key(new.key), Some(new.key));
    let again =
        p.a.post_fast(p.now, other, 7, new.key, &next, ALL, SendFlags::empty())
            .unwrap();
    assert!(![old.key, new.key].contains(&again.key));
    p.run(SECOND);
    assert_eq!(p.a.engine.valid_region(again.key), Some(next.region));
}

#[test]
fn a_window_still_bound_can_be_invalidated_after_its_next_binding_was_flushed() {
    let (mut p, qa, _) = Pair::attached(Setup::default());
    let (other, _) = p.attach();
    let mr = p.a.open(pattern(64, 1));
    let window = p.a.engine.create_window(p.a.pd, 0).unwrap();
    let old =
        p.a.post_bind(p.now, qa, 1, window, (&mr, 0, 64), Access::REMOTE_READ)
            .unwrap();
    p.run(SECOND);
    let new =
        p.a.post_bind(p.now, qa, 2, old.key, (&mr, 0, 8), Access::REMOTE_READ)
            .unwrap();
    assert_eq!(p.a.engine.current_key(new.key), Some(new.key));
    p.a.engine.flush(p.now, qa);
    p.run(SECOND);
    assert_eq!(p.a.engine.current_key(new.key), Some(old.key));
    p.a.completions.clear();
    p.a.send(p.now, other, 3, invalidate(old.key), &[]);
    p.run(SECOND);
    assert_eq!(outcomes(&p.a.completions), [(3, Status::Success)]);
}

/// The lists of pages are two, and the NIC may have a frame that names one of them long after that registration has ended.
#[test]
fn the_spare_list_is_never_one_that_a_transmission_reads() {
    let (mut p, qa, qb) = Pair::attached(Setup::default());
    p.a.nic_holds = None;
    let lists = [1, 2].map(|salt| p.a.unregistered(pattern(64, salt)));
    let regions: [RegionId; 2] = lists.map(|list| list.region);
    let entry = p.a.engine.register_fast(p.a.pd, true).unwrap();
    let none = SendFlags::empty();
    assert_eq!(p.a.engine.spare_region(entry, regions), regions[0]);
    let mr =
        p.a.post_fast(p.now, qa, 1, entry, &lists[0], ALL, none)
            .unwrap();
    p.run(SECOND);
    assert_eq!(p.a.engine.spare_region(mr.key, regions), regions[1]);
    let sink = p.b.open(vec![0; 64]);
    p.b.send(p.now, qb, 2, read(&mr), &[sink.all()]);
    p.run(SECOND);
    p.a.send(p.now, qa, 3, invalidate(mr.key), &[]);
    p.run(SECOND);
    // Ended, and still read. That stays so while the next one is posted, and when that is taken back.
    assert_eq!((p.a.held(), p.a.engine.valid_region(mr.key)), (1, None));
    assert_eq!(p.a.engine.spare_region(mr.key, regions), regions[1]);
    let next =
        p.a.post_fast(p.now, qa, 4, mr.key, &lists[1], ALL, none)
            .unwrap();
    p.a.engine.flush(p.now, qa);
    p.run(SECOND);
    assert_eq!(p.a.engine.spare_region(next.key, regions), regions[1]);
    p.a.release_all(p.now);
    p.run(SECOND);
    assert_eq!(p.a.engine.spare_region(next.key, regions), regions[0]);
}
