//! What was seen of a row on its wire, as vroce-lab tells it, and what must be true of that.

use super::{Faults, Longest};
use anyhow::{Context, Result, ensure};
use std::fmt;

/// Packets that a side may cause again where packets are lost or late, for each that it needs: requests of its own, and answers to them.
///
/// Two or three of a hundred packets meet with something. rdma_rxe then goes back to the first that is missing, over what it has under
/// way: 128 packets of requests, or some READs of 64 KiB, which comes to 2.7 again for each in the worst rows that were measured. vroce
/// asks again for less: 0.9 in the worst, and 2.0 where a hundred connections wait for acknowledgements at once. Who answers a loss
/// with a storm is far beyond: 30 was measured, of a bug that is gone.
const LINUX_AGAIN: u64 = 6;
const VROCE_AGAIN: u64 = 4;

/// And so many more, for rows of few packets.
const SOME: u64 = 100;

/// Where nothing is lost: one for so many, and what rdma_rxe has under way three times. On a busy machine an acknowledgement may be late,
/// which costs as much; 236 packets of 2480 were measured, with eleven processes waiting for two processors.
const RARELY: u64 = 10;
const LATE: u64 = 3 * 128;

/// Frames of which it is certain that what happens to one in a hundred happens to some: it happens to none of so many once in a million times. To
/// none of a third as many it does once in a hundred times, but not each of three things.
const CERTAIN: u64 = 1400;

/// What vroce-lab tells about its wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolls {
    /// What vroce sends.
    to_linux: Toll,
    /// What Linux sends.
    to_vroce: Toll,
}

impl Tolls {
    /// From all that it says.
    pub fn parse(text: &str) -> Result<Tolls> {
        Ok(Tolls {
            to_linux: Toll::parse(text, "to peer: ")?,
            to_vroce: Toll::parse(text, "to vroce: ")?,
        })
    }

    fn each(&self) -> [(&Toll, &'static str); 2] {
        [(&self.to_linux, "vroce"), (&self.to_vroce, "Linux")]
    }

    /// Checks that as much went wrong, and was sent again, as `faults` says.
    pub fn check_faults(&self, faults: Faults) -> Result<()> {
        if faults == Faults::Refusal {
            return self.check_refusal();
        }
        for (toll, sender) in self.each() {
            let each = [toll.lost, toll.reordered, toll.duplicated];
            let bad = if faults == Faults::Few || toll.frames < CERTAIN {
                each != [0; 3]
            } else {
                !each.contains(&0)
            };
            ensure!(bad, "the wire from {sender} was too good: {toll:?}");
            let again = match faults {
                Faults::ToVroce => sender == "Linux",
                Faults::Few => false,
                _ => true,
            };
            ensure!(
                toll.repeated() > 0 || !again,
                "{sender} sent nothing again: {toll:?}"
            );
        }
        Ok(())
    }

    /// Checks that a request and a rejection were lost, that both were sent again, and that one of either came twice.
    fn check_refusal(&self) -> Result<()> {
        let (asks, refuses) = if self.to_vroce.calls > 0 {
            (&self.to_vroce, &self.to_linux)
        } else {
            (&self.to_linux, &self.to_vroce)
        };
        for toll in [asks, refuses] {
            ensure!(
                (toll.lost, toll.duplicated) == (1, 1),
                "one message lost and one doubled was planned: {toll:?}"
            );
        }
        ensure!(
            asks.calls >= 3 && refuses.rejections >= 2,
            "not asked again and refused again: {asks:?}, {refuses:?}"
        );
        Ok(())
    }

    /// Checks that the longest packet either way is as long as path MTU and messages make it: shorter, and the path MTU was not used.
    pub fn check_longest(&self, mtu: u64, messages: Longest) -> Result<()> {
        let messages = [messages.to_linux, messages.to_vroce];
        for ((toll, sender), message) in self.each().into_iter().zip(messages) {
            let longest = message.next_multiple_of(4).min(mtu);
            ensure!(
                toll.longest == longest,
                "the longest packet of {sender} has {} bytes of payload, not {longest}: messages of {message} bytes, and a path MTU of {mtu}",
                toll.longest
            );
        }
        Ok(())
    }

    /// Checks that neither side caused many packets again, or answered more than it was asked. `late` is a wire on which packets are
    /// lost, or acknowledgements later than is waited for.
    pub fn check_repeats(&self, late: bool) -> Result<()> {
        let Tolls { to_linux, to_vroce } = self;
        for (asker, other, sender, factor) in [
            (to_linux, to_vroce, "vroce", VROCE_AGAIN),
            (to_vroce, to_linux, "Linux", LINUX_AGAIN),
        ] {
            let again = asker.repeated_requests + other.repeated_responses;
            let needed = asker.requests + other.responses - again;
            let limit = if late {
                needed * factor + SOME
            } else {
                needed / RARELY + LATE
            };
            ensure!(
                again <= limit,
                "{sender} caused {again} packets again where {needed} were needed, and {limit} would be many: {self:?}"
            );
            // The wire may have doubled any request.
            let asked = asker.asked + asker.duplicated * asker.most_asked;
            ensure!(
                other.responses <= asked,
                "{} packets answer what {sender} has asked {asked} for: {self:?}",
                other.responses
            );
            let packets = asker.requests + asker.duplicated;
            ensure!(
                other.acknowledgements <= packets,
                "{} acknowledgements of {packets} packets of {sender}: {self:?}",
                other.acknowledgements
            );
        }
        Ok(())
    }
}

/// For the table, vroce's figures first.
impl fmt::Display for Tolls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tolls {
            to_linux: vroce,
            to_vroce: linux,
        } = self;
        write!(
            f,
            "payload to {}+{}, sent again {}+{} of {}+{}, lost {}+{} of {}+{}",
            vroce.longest,
            linux.longest,
            vroce.repeated(),
            linux.repeated(),
            vroce.packets(),
            linux.packets(),
            vroce.lost,
            linux.lost,
            vroce.frames,
            linux.frames,
        )
    }
}

/// One direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Toll {
    frames: u64,
    /// Bytes of payload in the longest packet of a reliable connection.
    longest: u64,
    lost: u64,
    reordered: u64,
    duplicated: u64,
    requests: u64,
    repeated_requests: u64,
    responses: u64,
    repeated_responses: u64,
    /// Packets of answers that its requests ask for, and those of one request at most.
    asked: u64,
    most_asked: u64,
    acknowledgements: u64,
    /// Requests for a connection, and rejections of those.
    calls: u64,
    rejections: u64,
}

impl Toll {
    fn parse(text: &str, start: &str) -> Result<Toll> {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(start))
            .with_context(|| format!("vroce does not say what happened {start}\n{text}"))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let figure = |name: &str| {
            words
                .windows(2)
                .find(|pair| pair[0] == name)
                .and_then(|pair| pair[1].parse().ok())
                .with_context(|| format!("no {name} in: {line}"))
        };
        Ok(Toll {
            frames: figure("frames")?,
            longest: figure("longest")?,
            lost: figure("lost")?,
            reordered: figure("reordered")?,
            duplicated: figure("duplicated")?,
            requests: figure("requests")?,
            repeated_requests: figure("repeated-requests")?,
            responses: figure("responses")?,
            repeated_responses: figure("repeated-responses")?,
            asked: figure("asked")?,
            most_asked: figure("most-asked")?,
            acknowledgements: figure("acknowledgements")?,
            calls: figure("calls")?,
            rejections: figure("rejections")?,
        })
    }

    /// Requests and responses.
    fn packets(&self) -> u64 {
        self.requests + self.responses
    }

    /// Those that had been sent before.
    fn repeated(&self) -> u64 {
        self.repeated_requests + self.repeated_responses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "to peer: frames 1600 longest 4096 lost 9 reordered 8 duplicated 7 requests 99 repeated-requests 3 \
        responses 80 repeated-responses 4 asked 90 most-asked 16 acknowledgements 50 calls 1 rejections 0";

    fn tolls() -> Tolls {
        let text = format!("verified 5\n{LINE}\n{}\n", LINE.replace("peer", "vroce"));
        Tolls::parse(&text).unwrap()
    }

    #[test]
    fn a_toll_is_read_from_its_line() {
        let tolls = tolls();
        assert_eq!(tolls.to_linux.repeated(), 7);
        assert_eq!(tolls.to_linux, tolls.to_vroce);
        assert!(Tolls::parse(LINE).is_err());
        let vague = LINE.replace("longest", "short");
        assert!(Tolls::parse(&format!("{LINE}\n{}", vague.replace("peer", "vroce"))).is_err());
    }

    #[test]
    fn the_longest_packet_is_as_long_as_path_and_messages_permit() {
        let judge = |mtu, to_linux, to_vroce| {
            let messages = Longest { to_linux, to_vroce };
            tolls().check_longest(mtu, messages).is_ok()
        };
        assert!(judge(4096, 60_000, 4094));
        // Longer than the path permits; shorter than it does; shorter in one direction only.
        assert!(!judge(1024, 60_000, 60_000));
        assert!(!judge(8192, 60_000, 60_000));
        assert!(!judge(4096, 60_000, 56) && !judge(4096, 56, 60_000));
    }

    #[test]
    fn a_wire_must_be_as_bad_as_a_case_demands() {
        let judged = |change: fn(&mut Tolls), faults| {
            let mut tolls = tolls();
            change(&mut tolls);
            tolls.check_faults(faults).is_ok()
        };
        let all = |change| {
            let kinds = [Faults::Both, Faults::ToVroce, Faults::Few, Faults::Killed];
            kinds.map(|faults| judged(change, faults))
        };
        assert_eq!(all(|_| {}), [true; 4]);
        for spared in [
            |t: &mut Tolls| t.to_linux.lost = 0,
            |t: &mut Tolls| t.to_vroce.lost = 0,
            |t: &mut Tolls| t.to_linux.reordered = 0,
            |t: &mut Tolls| t.to_vroce.duplicated = 0,
        ] {
            assert_eq!(all(spared), [false, false, true, false]);
        }
        fn few(t: &mut Tolls) {
            (t.to_linux.frames, t.to_linux.duplicated) = (338, 0);
        }
        assert_eq!(all(few), [true; 4]);
        let few_and_good = |t: &mut Tolls| {
            few(t);
            (t.to_linux.lost, t.to_linux.reordered) = (0, 0);
        };
        assert_eq!(all(few_and_good), [false; 4]);
        let vroce_silent = |t: &mut Tolls| {
            (t.to_linux.repeated_requests, t.to_linux.repeated_responses) = (0, 0);
        };
        assert_eq!(all(vroce_silent), [false, true, true, false]);
        let linux_silent = |t: &mut Tolls| {
            (t.to_vroce.repeated_requests, t.to_vroce.repeated_responses) = (0, 0);
        };
        assert_eq!(all(linux_silent), [false, false, true, false]);
        let nothing = |t: &mut Tolls| {
            (t.to_vroce.lost, t.to_vroce.reordered, t.to_vroce.duplicated) = (0, 0, 0);
        };
        assert_eq!(all(nothing), [false; 4]);
    }

    #[test]
    fn a_refusal_takes_three_requests_and_two_rejections() {
        let mut refused = tolls();
        for toll in [&mut refused.to_linux, &mut refused.to_vroce] {
            (toll.lost, toll.duplicated, toll.calls) = (1, 1, 0);
        }
        (refused.to_vroce.calls, refused.to_linux.rejections) = (3, 2);
        let judge = |tolls: Tolls| tolls.check_faults(Faults::Refusal).is_ok();
        assert!(judge(refused));
        let (mut once, mut deaf, mut spared) = (refused, refused, refused);
        once.to_vroce.calls = 2;
        deaf.to_linux.rejections = 1;
        spared.to_linux.lost = 0;
        assert!(!judge(once) && !judge(deaf) && !judge(spared));
        // The other way round.
        let turned = Tolls {
            to_linux: refused.to_vroce,
            to_vroce: refused.to_linux,
        };
        assert!(judge(turned));
    }

    #[test]
    fn storms_are_told_from_what_a_loss_costs() {
        let judge = |change: fn(&mut Tolls)| {
            let mut tolls = tolls();
            change(&mut tolls);
            [false, true].map(|late| tolls.check_repeats(late).is_ok())
        };
        assert_eq!(judge(|_| {}), [true, true]);
        // Six thousand packets are needed.
        fn busy(tolls: &mut Tolls, again: u64) {
            (tolls.to_linux.requests, tolls.to_linux.repeated_requests) = (6000 + again, again);
        }
        assert_eq!(judge(|t| busy(t, 600)), [true, true]);
        assert_eq!(judge(|t| busy(t, 1000)), [false, true]);
        assert_eq!(judge(|t| busy(t, 190_000)), [false, false]);
        fn answering(tolls: &mut Tolls, again: u64) {
            let linux = &mut tolls.to_vroce;
            (linux.responses, linux.repeated_responses) = (6000 + again, again);
            tolls.to_linux.asked = 6000 + again;
        }
        assert_eq!(judge(|t| answering(t, 600)), [true, true]);
        assert_eq!(judge(|t| answering(t, 190_000)), [false, false]);
        let unasked = |t: &mut Tolls| {
            answering(t, 600);
            t.to_linux.asked = 6000;
        };
        assert_eq!(judge(unasked), [false, false]);
        assert_eq!(
            judge(|t| t.to_linux.acknowledgements = 1000),
            [false, false]
        );
    }
}
