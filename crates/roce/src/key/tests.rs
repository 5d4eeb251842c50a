use super::table::{KeyTable, Place};
use super::*;
use crate::PdId;
use crate::event::Event;
use crate::memory::RegionId;
use crate::rng::Rng;
use crate::table::Slot;

fn pd(index: u32) -> PdId {
    PdId(Slot {
        index,
        generation: 0,
    })
}

fn table(n: u32) -> KeyTable {
    KeyTable::try_new(n, &mut Rng::new(1)).unwrap()
}

#[test]
fn range_pd_and_access_are_checked() {
    let mut t = table(4);
    let all = Access::LOCAL_WRITE | Access::REMOTE_READ;
    let k = t
        .register(pd(1), 0x1000, 0x100, all, RegionId(7))
        .unwrap()
        .0;
    let read = Access::REMOTE_READ;
    assert_eq!(
        t.check(k, pd(1), 0x1000, 0x100, read),
        Ok(Place {
            region: RegionId(7),
            offset: 0
        })
    );
    assert_eq!(
        t.check(k, pd(1), 0x10ff, 1, read),
        Ok(Place {
            region: RegionId(7),
            offset: 0xff
        })
    );
    assert_eq!(
        t.check(k, pd(1), 0x1100, 0, read),
        Ok(Place {
            region: RegionId(7),
            offset: 0x100
        })
    );
    assert_eq!(
        t.check(k, pd(1), 0x1000, 0x101, read),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(t.check(k, pd(1), 0xfff, 1, read), Err(KeyError::OutOfRange));
    assert_eq!(
        t.check(k, pd(1), 0x1101, 0, read),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(
        t.check(k, pd(1), u64::MAX, 2, read),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(
        t.check(k, pd(1), 0x1001, u64::MAX, read),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(t.check(k, pd(2), 0x1000, 1, read), Err(KeyError::WrongPd));
    assert_eq!(
        t.check(k, pd(1), 0x1000, 1, Access::REMOTE_WRITE),
        Err(KeyError::Denied)
    );
    assert_eq!(
        t.check(k ^ 1, pd(1), 0x1000, 1, read),
        Err(KeyError::Invalid)
    );
    assert_eq!(t.check(0, pd(1), 0x1000, 1, read), Err(KeyError::Invalid));
    assert_eq!(
        t.check(u32::MAX, pd(1), 0x1000, 1, read),
        Err(KeyError::Invalid)
    );
}

#[test]
fn a_range_at_the_very_end_of_the_address_space_works() {
    let mut t = table(2);
    let k = t
        .register(pd(0), u64::MAX - 15, 15, Access::empty(), RegionId(0))
        .unwrap()
        .0;
    assert!(
        t.check(k, pd(0), u64::MAX - 15, 15, Access::empty())
            .is_ok()
    );
    assert_eq!(
        t.check(k, pd(0), u64::MAX, 16, Access::empty()),
        Err(KeyError::OutOfRange)
    );
    assert_eq!(
        t.register(pd(0), u64::MAX, 2, Access::empty(), RegionId(0)),
        Err(RegisterError::InvalidRange)
    );
    // The whole address space, for a privileged key.
    assert!(
        t.register(pd(0), 0, u64::MAX, Access::LOCAL_WRITE, RegionId(0))
            .is_ok()
    );
    assert_eq!(
        t.register(pd(0), 0, 1, Access::empty(), RegionId(0)),
        Err(RegisterError::TableFull)
    );
}

#[test]
fn a_reused_slot_has_another_key() {
    let mut t = table(1);
    let mut last = 0;
    for _ in 0..300 {
        let k = t
            .register(pd(0), 0, 1, Access::empty(), RegionId(0))
            .unwrap();
        assert_ne!(k.0, last);
        assert_ne!(k.0 >> 8, 0);
        last = k.0;
        assert!(t.deregister(k).is_ok());
        assert_eq!(t.deregister(k), Err((DeregisterError::Unknown, None)));
    }
    assert_eq!(t.len(), 0);
}

#[test]
fn a_held_region_dies_at_once_but_is_idle_only_after_the_last_release() {
    let mut t = table(1);
    let k = t
        .register(pd(0), 0, 8, Access::REMOTE_READ, RegionId(9))
        .unwrap();
    let a = t.hold(k.0).unwrap();
    let b = t.hold(k.0).unwrap();
    assert_eq!(t.deregister(k), Err((DeregisterError::Busy, Some(pd(0)))));
    assert_eq!(
        t.check(k.0, pd(0), 0, 1, Access::REMOTE_READ),
        Err(KeyError::Invalid)
    );
    assert_eq!(t.hold(k.0), None);
    t.release(a);
    assert_eq!(t.pop_idle(), None);
    assert_eq!(
        t.register(pd(0), 0, 8, Access::empty(), RegionId(1)),
        Err(RegisterError::TableFull)
    );
    t.release(b);
    let idle = Event::RegionIdle {
        key: k,
        region: RegionId(9),
    };
    assert_eq!(t.pop_idle(), Some(idle));
    assert_eq!(t.pop_idle(), None);
    assert!(
        t.register(pd(0), 0, 8, Access::empty(), RegionId(1))
            .is_ok()
    );
}
