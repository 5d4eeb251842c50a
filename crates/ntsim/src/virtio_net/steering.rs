//! Which pair of queues a flow belongs to (virtio 1.2, 5.1.6.5.6).

use super::transport;

/// So many flows are told apart.
const FLOWS: usize = 256;

/// Remembers where the driver sent from: what comes back is to arrive there.
pub(super) struct Steering {
    /// For each number of a flow the pair it was last sent from.
    pairs: [Option<u8>; FLOWS],
}

impl Default for Steering {
    fn default() -> Self {
        Steering {
            pairs: [None; FLOWS],
        }
    }
}

impl Steering {
    /// The driver has sent a frame from a pair.
    pub(super) fn learn(&mut self, frame: &[u8], pair: usize) {
        self.pairs[transport::flow(frame) as usize % FLOWS] = u8::try_from(pair).ok();
    }

    /// The pair that is to receive a frame, of so many.
    pub(super) fn pair(&self, frame: &[u8], pairs: usize) -> usize {
        if pairs == 1 {
            return 0;
        }
        let flow = transport::flow(frame) as usize;
        self.pairs[flow % FLOWS]
            .map(usize::from)
            .filter(|pair| *pair < pairs)
            .unwrap_or(flow % pairs)
    }
}
