//! Two sides, connected, with memory registered on each: what every story of data begins with.

use ndkpi::status::STATUS_SUCCESS;

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
        let mut lab = Lab::new();
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
