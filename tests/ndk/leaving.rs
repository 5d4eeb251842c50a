//! How consumers learn that they have to close their adapters.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ndkpi::OID_NDK_SET_STATE;
use ntsim::ndis::OidRequest;
use ntsim::ndk::Leave;

use crate::lab::{Lab, SOON, Side};

/// Closes a side when it is told to leave; what it was told, and how often.
fn close_when_told(lab: &mut Lab, side: Side) -> Rc<Cell<(Option<Leave>, u32)>> {
    let machine = side.machine;
    let told = Rc::new(Cell::new((None, 0)));
    let side = Rc::new(RefCell::new(Some(side)));
    let (note, kept) = (Rc::clone(&told), Rc::clone(&side));
    lab.world.call(machine, || {
        let side = side.borrow();
        let adapter = &side.as_ref().unwrap().adapter;
        adapter.on_leave(move |why| {
            note.set((Some(why), note.get().1 + 1));
            if let Some(side) = kept.take() {
                side.qp.close();
                side.cq.close();
                side.pd.close();
                side.adapter.close();
            }
        });
    });
    told
}

fn set_state(lab: &mut Lab, on: u8) -> bool {
    let machine = lab.a;
    let request = OidRequest::Set(OID_NDK_SET_STATE, &[on]);
    assert_eq!(lab.world.oid(machine, &request).unwrap().status, 0);
    lab.world.run_for(SOON);
    lab.world.adapter(machine).unwrap().ndk_enabled
}

#[test]
fn n10_n11_consumers_are_told_that_ndk_is_disabled_and_it_is_when_they_have_closed() {
    let mut lab = Lab::new();
    let (quick, slow) = (lab.side_a(), lab.side_a());
    let told = close_when_told(&mut lab, quick);
    assert_eq!(slow.adapter.leaving(), None);
    assert!(!set_state(&mut lab, 0));
    assert_eq!(told.get(), (Some(Leave::Disabled), 1));
    assert_eq!(slow.adapter.leaving(), Some(Leave::Disabled));
    // The event is under way as long as one is left: so it cannot be enabled.
    assert!(!set_state(&mut lab, 1));
    lab.close(slow);
    lab.world.run_for(SOON);
    assert!(lab.world.adapter(lab.a).unwrap().ndk_enabled);
    // Who opens now may stay.
    let next = lab.side_a();
    assert_eq!(next.adapter.leaving(), None);
    lab.close(next);
    lab.finish();
}

#[test]
fn consumers_are_told_before_the_adapter_is_halted() {
    let mut lab = Lab::new();
    let machine = lab.a;
    for pulled_out in [false, true] {
        let side = lab.side_a();
        let told = close_when_told(&mut lab, side);
        if pulled_out {
            lab.nics[0].unplug();
            lab.world.surprise_remove(machine);
            assert!(lab.world.adapter(machine).is_none());
        } else {
            lab.world.restart_adapters(machine).unwrap();
        }
        assert_eq!(told.get(), (Some(Leave::Halting), 1));
    }
    lab.finish();
}
