//! What the messages of a game hold, and whose message it is that comes back.
//!
//! The programs have one buffer: all their queue pairs receive into it and send from it. What comes back on a queue pair is, packet by
//! packet, what was last received before the packet left: the message that was sent there, or one that was under way at the same time
//! or later on another. Now and then a packet comes in while another is made, which then begins with one message and ends with the next.

use anyhow::{Context, Result, ensure};
use roce::Rng;

/// The guest's pages. The programs look at the first byte of each: it must be zero.
const PAGE: usize = 4096;

/// Pieces of different messages that a packet may be made of: it is rarely more than one.
const PIECES: usize = 4;

/// What receives hold before a message comes.
pub const SENTINEL: u8 = 0xA5;

/// One of our messages, from its sending on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    number: usize,
    /// When it was sent.
    sent: u64,
}

/// All messages of a game.
pub struct Contents {
    seed: u64,
    size: usize,
    /// Bytes of payload in a packet.
    packet: usize,
    /// Counts messages sent and messages received.
    clock: u64,
    /// When the message of each number was answered.
    answered: Vec<Option<u64>>,
    /// What the program's buffer held before anything of ours came.
    initial: Option<Vec<u8>>,
}

impl Contents {
    /// Those of messages of `size` bytes, `packet` of which fit into a packet.
    pub fn new(seed: u64, size: usize, packet: usize) -> Contents {
        Contents {
            seed,
            size,
            packet,
            clock: 0,
            answered: Vec::new(),
            initial: None,
        }
    }

    /// Writes the next message to send, which is like no other.
    pub fn next(&mut self, to: &mut [u8]) -> Message {
        let number = self.answered.len();
        self.write(number, to);
        self.answered.push(None);
        self.clock += 1;
        Message {
            number,
            sent: self.clock,
        }
    }

    fn write(&self, number: usize, to: &mut [u8]) {
        let mut rng = Rng::new(self.seed ^ (number as u64 + 1) << 32);
        to.fill_with(|| rng.next_u32() as u8);
        for page in to.chunks_mut(PAGE) {
            page[0] = 0;
        }
    }

    /// Checks the answer to a message of ours, or a message that came before we sent any on its queue pair.
    pub fn check(&mut self, to: Option<Message>, answer: &[u8]) -> Result<()> {
        self.clock += 1;
        ensure!(
            answer.len() == self.size,
            "a message of {} bytes instead of {}",
            answer.len(),
            self.size
        );
        if self.answered.is_empty() && self.initial.is_none() {
            ensure!(
                !answer.contains(&SENTINEL),
                "the first message has bytes that were not received"
            );
            self.initial = Some(answer.to_vec());
        }
        let mut possible = Vec::new();
        match to {
            // Nothing of ours need have arrived yet.
            None => {
                possible.extend(self.initial.clone());
                possible.extend((0..self.answered.len()).map(|number| self.message(number)));
            }
            Some(to) => {
                let since = |answered: &Option<u64>| answered.is_none_or(|at| at > to.sent);
                let numbers = (0..self.answered.len()).filter(|n| since(&self.answered[*n]));
                possible.extend(numbers.map(|number| self.message(number)));
            }
        }
        for (index, packet) in answer.chunks(self.packet).enumerate() {
            let there = index * self.packet..index * self.packet + packet.len();
            let sources: Vec<&[u8]> = possible.iter().map(|m| &m[there.clone()]).collect();
            ensure!(
                is_pieced(packet, &sources),
                "packet {index} of an answer to {to:?} is not of the {} messages that may have been there",
                possible.len()
            );
        }
        if let Some(to) = to {
            let answered = self.answered.get_mut(to.number).context("our message")?;
            ensure!(answered.is_none(), "two answers to {to:?}");
            *answered = Some(self.clock);
        }
        Ok(())
    }

    fn message(&self, number: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.size];
        self.write(number, &mut bytes);
        bytes
    }
}

/// Whether bytes are made of few pieces, each from the same place of a source.
fn is_pieced(bytes: &[u8], sources: &[&[u8]]) -> bool {
    let mut done = 0;
    for _ in 0..PIECES {
        let left = &bytes[done..];
        let common = |source: &&[u8]| {
            let pairs = left.iter().zip(&source[done..]);
            pairs.take_while(|(a, b)| a == b).count()
        };
        // The longest piece first leaves the fewest.
        done += sources.iter().map(common).max().unwrap_or(0);
        if done == bytes.len() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 8200;

    fn contents() -> Contents {
        Contents::new(3, SIZE, 1024)
    }

    fn send(contents: &mut Contents) -> (Message, Vec<u8>) {
        let mut bytes = vec![0; SIZE];
        (contents.next(&mut bytes), bytes)
    }

    #[test]
    fn messages_differ_in_every_packet_and_begin_pages_with_zeros() {
        let mut contents = contents();
        let (_, a) = send(&mut contents);
        let (_, b) = send(&mut contents);
        for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
            assert_ne!(a, b);
        }
        assert!(a.chunks(PAGE).all(|page| page[0] == 0));
    }

    #[test]
    fn one_queue_pair_gets_back_what_it_sent_and_nothing_else() {
        let mut contents = contents();
        let (first, a) = send(&mut contents);
        let mut wrong = a.clone();
        wrong[SIZE - 1] ^= 1;
        assert!(contents.check(Some(first), &wrong).is_err());
        assert!(contents.check(Some(first), &a[1..]).is_err());
        contents.check(Some(first), &a).unwrap();
        let (second, b) = send(&mut contents);
        // The message before, whole or a packet of it.
        assert!(contents.check(Some(second), &a).is_err());
        let torn = [&b[..1024], &a[1024..2048], &b[2048..]].concat();
        assert!(contents.check(Some(second), &torn).is_err());
        contents.check(Some(second), &b).unwrap();
        assert!(contents.check(Some(second), &b).is_err());
    }

    #[test]
    fn of_several_queue_pairs_one_may_get_packets_of_what_others_have_under_way() {
        let mut contents = contents();
        let (first, a) = send(&mut contents);
        let (second, b) = send(&mut contents);
        contents.check(Some(first), &a).unwrap();
        let (third, c) = send(&mut contents);
        // The first was not answered yet when the second was sent: its packets may have come after those of the second.
        let mixed = [&a[..1024], &b[1024..2048], &c[2048..]].concat();
        contents.check(Some(second), &mixed).unwrap();
        // But the third came into the buffer after the first was gone from it.
        let late = [&a[..1024], &c[1024..]].concat();
        assert!(contents.check(Some(third), &late).is_err());
        // In the middle of a packet.
        let mixed = [&b[..1500], &c[1500..]].concat();
        contents.check(Some(third), &mixed).unwrap();
    }

    #[test]
    fn a_client_begins_with_what_its_buffer_held() {
        let mut contents = contents();
        let initial = vec![7; SIZE];
        assert!(contents.check(None, &[SENTINEL; SIZE]).is_err());
        contents.check(None, &initial).unwrap();
        assert!(contents.check(None, &[8; SIZE]).is_err());
        let (first, a) = send(&mut contents);
        let mixed = [&a[..2048], &initial[2048..]].concat();
        contents.check(None, &mixed).unwrap();
        // It has received that whole, and nothing of before is left.
        assert!(contents.check(Some(first), &mixed).is_err());
        contents.check(Some(first), &a).unwrap();
    }
}
