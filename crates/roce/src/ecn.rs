//! Whether, and how, congestion that the network reports is reacted to.

use crate::wire::EcnCodepoint;

/// What an engine makes of explicit congestion notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ecn {
    /// Nothing: what it sends is not to be marked, marks that arrive and notifications are counted.
    #[default]
    Off,
    /// Frames of connections may be marked. Who receives marked ones notifies the peer, and who is notified sends more slowly for a while.
    /// The frames of the connection manager are not marked.
    Dcqcn(Dcqcn),
}

impl Ecn {
    /// Parameters, if there is a reaction.
    #[must_use]
    pub const fn dcqcn(&self) -> Option<&Dcqcn> {
        match self {
            Ecn::Off => None,
            Ecn::Dcqcn(dcqcn) => Some(dcqcn),
        }
    }

    /// The traffic class of a connection's frames.
    pub(crate) const fn traffic_class(&self, of_path: u8) -> u8 {
        match self {
            Ecn::Off => of_path,
            Ecn::Dcqcn(_) => EcnCodepoint::Capable0.mark(of_path),
        }
    }

    pub(crate) fn clamped(self) -> Ecn {
        match self {
            Ecn::Off => Ecn::Off,
            Ecn::Dcqcn(dcqcn) => Ecn::Dcqcn(dcqcn.clamped()),
        }
    }
}

/// Parameters of DCQCN ("Congestion Control for Large-Scale RDMA Deployments", SIGCOMM 2015; the names there are given in brackets). The
/// defaults are the paper's, where it has any. Every queue pair has a rate of its own; it limits requests and READ responses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dcqcn {
    /// The rate of the link in Mbit/s, 1..=4 000 000. A queue pair that is back at it is not limited any more. If the link is slower than
    /// this says, the first notifications cut a rate that nobody has.
    pub link_mbps: u32,
    /// The rate in Mbit/s that nobody has to go below, 1..=`link_mbps`: made-up notifications can do no more than this. It should bring a
    /// packet within a tenth of what peers wait for an answer.
    pub min_mbps: u32,
    /// How fast the estimate of congestion moves (g): 2^-n of the way at each notification and each period without, 1..=16.
    pub gain_shift: u8,
    /// Microseconds after which the estimate falls if no notification comes (K), 1..=1 000 000: longer than `cnp_us`.
    pub alpha_us: u32,
    /// Microseconds after which the rate rises (T), 1..=1 000 000.
    pub timer_us: u32,
    /// Bytes after which the rate rises (B), at least 4096.
    pub byte_counter: u32,
    /// Rises, of each kind, that only bring the rate back halfway each time to where it was (F).
    pub recovery_rounds: u8,
    /// Mbit/s by which the rate aimed at rises after that (R_AI).
    pub additive_mbps: u32,
    /// The same, once there have been enough rises of both kinds (R_HAI).
    pub hyper_mbps: u32,
    /// Least time in microseconds between two notifications to the same peer's queue pair (N), 1..=1 000 000.
    pub cnp_us: u32,
    /// Least time in microseconds between two cuts of a rate, at most 1 000 000: less than peers keep between notifications, which may come
    /// closer together than they were sent.
    pub cut_us: u32,
    /// Microseconds by which the owner of the engine may be late to ask for frames, at most 1 000 000: what could have been sent meanwhile
    /// follows at once.
    pub catch_up_us: u32,
}

impl Default for Dcqcn {
    fn default() -> Dcqcn {
        Dcqcn {
            link_mbps: 10_000,
            min_mbps: 10,
            gain_shift: 8,
            alpha_us: 55,
            timer_us: 55,
            byte_counter: 10_000_000,
            recovery_rounds: 5,
            additive_mbps: 40,
            hyper_mbps: 400,
            cnp_us: 50,
            cut_us: 25,
            catch_up_us: 20,
        }
    }
}

impl Dcqcn {
    fn clamped(self) -> Dcqcn {
        const SECOND: u32 = 1_000_000;
        /// Far above any link, and kilobits of it still fit a word.
        const FASTEST: u32 = 4_000_000;
        let link_mbps = self.link_mbps.clamp(1, FASTEST);
        Dcqcn {
            link_mbps,
            min_mbps: self.min_mbps.clamp(1, link_mbps),
            gain_shift: self.gain_shift.clamp(1, 16),
            alpha_us: self.alpha_us.clamp(1, SECOND),
            timer_us: self.timer_us.clamp(1, SECOND),
            byte_counter: self.byte_counter.max(4096),
            recovery_rounds: self.recovery_rounds,
            additive_mbps: self.additive_mbps.min(link_mbps),
            hyper_mbps: self.hyper_mbps.min(link_mbps),
            cnp_us: self.cnp_us.clamp(1, SECOND),
            cut_us: self.cut_us.min(SECOND),
            catch_up_us: self.catch_up_us.min(SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_brought_to_where_they_make_sense_and_defaults_are_there() {
        assert_eq!(Dcqcn::default().clamped(), Dcqcn::default());
        assert_eq!(Ecn::default().clamped(), Ecn::Off);
        for extreme in [0, u32::MAX] {
            let odd = Dcqcn {
                link_mbps: extreme,
                min_mbps: extreme,
                gain_shift: extreme as u8,
                alpha_us: extreme,
                timer_us: extreme,
                byte_counter: extreme,
                recovery_rounds: extreme as u8,
                additive_mbps: extreme,
                hyper_mbps: extreme,
                cnp_us: extreme,
                cut_us: extreme,
                catch_up_us: extreme,
            };
            let sane = odd.clamped();
            assert!((1..=4_000_000).contains(&sane.link_mbps));
            assert!((1..=sane.link_mbps).contains(&sane.min_mbps));
            assert!((1..=16).contains(&sane.gain_shift));
            assert!(sane.alpha_us > 0 && sane.timer_us > 0 && sane.cnp_us > 0);
            assert!(sane.byte_counter >= 4096);
        }
    }

    #[test]
    fn connections_frames_may_be_marked_only_where_marks_matter() {
        assert_eq!(Ecn::Off.traffic_class(0xb9), 0xb9);
        assert_eq!(Ecn::Dcqcn(Dcqcn::default()).traffic_class(0xb9), 0xba);
    }
}
