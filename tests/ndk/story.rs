//! Two sides, connected, with memory registered on each: what every story of data begins with.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use ndkpi::NDK_SGE;
use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::{PortId, Verdict};

use crate::lab::{ALL_RIGHTS, Connected, Lab, Region, Side};

/// The sides, and a region each: A's full of 0xA5, B's of 0.
pub struct Story {
    pub lab: Lab,
    pub a: Side,
    pub b: Side,
    pub connected: Connected,
    pub ours: Region,
    pub theirs: Region,
}

/// Bytes of each region.
pub const SIZE: usize = 64 * 1024;

impl Story {
    /// Sets the scene.
    pub fn begin() -> Story {
        Story::begin_in(Lab::new())
    }

    /// Sets the scene in a lab.
    pub fn begin_in(mut lab: Lab) -> Story {
        let (a, b) = (lab.side_a(), lab.side_b());
        let connected = lab.connect(&a, &b);
        let ours = lab.region(&a, SIZE, ALL_RIGHTS, 0xa5);
        let theirs = lab.region(&b, SIZE, ALL_RIGHTS, 0);
        Story {
            lab,
            a,
            b,
            connected,
            ours,
            theirs,
        }
    }

    /// Takes everything down: nothing may be left over and no rule broken.
    pub fn end(self) {
        let Story {
            mut lab,
            a,
            b,
            connected,
            ours,
            theirs,
        } = self;
        lab.hang_up(&a, &b, connected);
        lab.on(&a, || ours.close());
        lab.on(&b, || theirs.close());
        lab.close(a);
        lab.close(b);
        lab.finish();
    }

    /// For a small write of A: ten bytes, and where B has room for them.
    pub fn target(&mut self) -> (NDK_SGE, u64, u32) {
        let (address, token) = self.lab.on(&self.b, || self.theirs.remote());
        (
            self.lab.on(&self.a, || self.ours.sge(0, 10)),
            address,
            token,
        )
    }

    /// B posts a receive of ten bytes, and A sends them.
    pub fn send(&mut self, flags: u32) {
        let context = 0;
        self.lab
            .on(&self.b, || {
                self.b.qp.receive(context, &[self.theirs.sge(0, 10)])
            })
            .unwrap();
        self.lab
            .on(&self.a, || {
                self.a.qp.send(context, &[self.ours.sge(0, 10)], flags)
            })
            .unwrap();
        self.lab.world.run_for(Duration::from_millis(5));
    }

    /// A writes ten bytes to where B has room for them; gives the frame with the write. Nothing of A's gets to B until
    /// [`let_through`](Self::let_through).
    pub fn catch_write(&mut self) -> Vec<u8> {
        let (element, address, token) = self.target();
        let caught = Rc::new(RefCell::new(None));
        let net = Rc::clone(&caught);
        self.lab.net.set_filter(self.to_b(), move |frame| {
            if frame[12..14] == [0x08, 0x00] {
                net.borrow_mut().get_or_insert_with(|| frame.to_vec());
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        self.lab
            .on(&self.a, || {
                self.a.qp.write(1, &[element], address, token, 0)
            })
            .unwrap();
        self.lab.world.run_for(Duration::from_millis(1));
        caught.take().expect("a frame with the write")
    }

    /// Ends what [`catch_write`](Self::catch_write) began.
    pub fn let_through(&self) {
        self.lab.net.clear_filter(self.to_b());
    }

    /// The wire's port for what goes to B.
    fn to_b(&self) -> PortId {
        self.lab.net.ports()[1].0
    }

    /// What a request of A ended with.
    #[track_caller]
    pub fn outcome(&mut self) -> (u64, i32, u32) {
        let result = self.lab.result(&self.a);
        assert_eq!(
            result.QPContext as u64, 0x51de,
            "q16: the QP's context is in every entry"
        );
        assert_eq!(
            result.ProviderErrorCode == 0,
            result.Status == STATUS_SUCCESS,
            "q19"
        );
        (result.RequestContext as u64, result.Status, result.Type)
    }
}
