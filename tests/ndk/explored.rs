//! The life of a connection under some schedules: driver code is preempted here and there, for a moment or for milliseconds. Of the thousands of
//! places at which it could be, each run takes one to three; that nothing was found says little of the others.
//!
//! `NTSIM_EXPLORE`, which a failure tells, repeats it.

use ndkpi::status::{STATUS_CANCELLED, STATUS_SUCCESS};
use ntsim::{WorldBuilder, explore};

use crate::lab::{Lab, SOON};

/// Schedules: a story takes less than 0.1 s.
const RUNS: u32 = 40;

/// Two servers connect, a message goes across, and the client's device is taken away while the next one is on its way.
fn taken_away(builder: WorldBuilder) {
    let mut lab = Lab::exploring(builder);
    let (a, b) = (lab.side_a(), lab.side_b());
    let connected = lab.connect(&a, &b);
    let (ours, theirs) = lab.regions(&a, &b, 4096, 0xa5);
    lab.on(&b, || {
        b.qp.receive(1, &[theirs.sge(0, 10)]).unwrap();
        b.qp.receive(2, &[theirs.sge(10, 10)]).unwrap();
    });
    lab.on(&a, || {
        a.qp.receive(3, &[ours.sge(10, 10)]).unwrap();
        a.qp.send(4, &[ours.sge(0, 10)], 0).unwrap();
    });
    for (side, request) in [(&a, 4), (&b, 1)] {
        let result = lab.result(side);
        let told = (result.RequestContext as u64, result.Status);
        assert_eq!(told, (request, STATUS_SUCCESS));
    }
    assert_eq!(
        theirs.buffer.bytes()[..11],
        [[0xa5; 10].as_slice(), &[0]].concat()
    );

    lab.on(&a, || a.qp.send(5, &[ours.sge(0, 10)], 0)).unwrap();
    let machine = lab.a;
    lab.world.begin_surprise_removal(machine);
    let gone = || connected.active.disconnect_events().count() == 1;
    assert!(lab.world.run_until(|_| gone(), SOON));
    let mut left = [lab.result(&a), lab.result(&a)]
        .map(|result| (result.RequestContext as u64, result.Status));
    left.sort_unstable();
    assert_eq!(left[0], (3, STATUS_CANCELLED));
    assert!(left[1].0 == 5 && [STATUS_SUCCESS, STATUS_CANCELLED].contains(&left[1].1));

    lab.drop_connection(&a, &b, connected);
    let last = lab.result(&b);
    assert_eq!(last.RequestContext as u64, 2);
    lab.on(&a, || ours.close());
    lab.on(&b, || theirs.close());
    lab.close(a);
    lab.world.end_surprise_removal(machine);
    lab.close(b);
    lab.finish();
}

#[test]
fn a_device_that_goes_is_let_go_of_though_the_driver_is_preempted_here_and_there() {
    explore(RUNS, taken_away);
}
