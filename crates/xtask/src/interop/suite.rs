//! Rows one after the other. A row that fails costs its guest, not the rows that follow.

use super::Row;
use anyhow::{Context, Result, bail};
use std::time::Instant;

/// What rows are run on.
pub trait Ground {
    /// A Linux that answers commands, as far as one knows.
    type Guest;

    /// Starts one.
    fn boot(&mut self) -> Result<Self::Guest>;

    /// Runs a row; `Ok` carries a remark. It takes the guest if it ends it.
    fn run(&mut self, row: &Row, guest: &mut Option<Self::Guest>) -> Result<String>;
}

/// A row that has been run, or could not be.
pub struct Done {
    /// Which.
    pub row: Row,
    /// How long it took, the start of a guest not counted.
    pub seconds: f32,
    /// A remark, or what went wrong.
    pub outcome: Result<String>,
}

/// So many times in a row no guest comes up, then none is started any more.
const TRIES: u32 = 2;

/// Runs all rows, whatever becomes of any of them.
pub fn run<G: Ground>(ground: &mut G, rows: Vec<Row>) -> Vec<Done> {
    let mut guest = None;
    let mut failed_boots = 0;
    let mut done = Vec::new();
    for row in rows {
        let ready = match guest {
            Some(_) => Ok(()),
            None => boot(ground, &mut guest, &mut failed_boots),
        };
        let started = Instant::now();
        let outcome = ready.and_then(|()| ground.run(&row, &mut guest));
        let seconds = started.elapsed().as_secs_f32();
        let name = row.name();
        match &outcome {
            Ok(remark) => println!("ok     {name:<36} {seconds:5.1} s  {remark}"),
            Err(error) => {
                println!("FAILED {name:<36} {seconds:5.1} s  {error:#}");
                // Who knows what is left of the row in there, or whether it still answers.
                guest = None;
            }
        }
        done.push(Done {
            row,
            seconds,
            outcome,
        });
    }
    done
}

fn boot<G: Ground>(ground: &mut G, guest: &mut Option<G::Guest>, failed: &mut u32) -> Result<()> {
    if *failed >= TRIES {
        bail!("not run: no guest came up {TRIES} times");
    }
    *failed += 1;
    *guest = Some(ground.boot().context("no guest to run it on")?);
    *failed = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Matrix;
    use super::*;
    use std::collections::VecDeque;

    /// What a row does to the guest, or a boot.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fate {
        Fine,
        Fails,
        /// The row ends the guest, as it should.
        Kills,
    }

    /// Guests are numbers.
    struct Fake {
        boots: VecDeque<Fate>,
        rows: VecDeque<Fate>,
        booted: u32,
        /// Which guest each row was run on.
        used: Vec<u32>,
    }

    impl Ground for Fake {
        type Guest = u32;

        fn boot(&mut self) -> Result<u32> {
            self.booted += 1;
            if self.boots.pop_front() == Some(Fate::Fails) {
                bail!("no answer");
            }
            Ok(self.booted)
        }

        fn run(&mut self, _: &Row, guest: &mut Option<u32>) -> Result<String> {
            self.used.push(guest.context("no guest")?);
            match self.rows.pop_front() {
                Some(Fate::Fails) => bail!("no answer in 20 s"),
                Some(Fate::Kills) => *guest = None,
                _ => {}
            }
            Ok(String::new())
        }
    }

    /// Runs as many rows as have fates; tells which passed, on which guest the rows were run, and how many were booted.
    fn play(boots: &[Fate], rows: &[Fate]) -> (Vec<bool>, Vec<u32>, u32) {
        let mut fake = Fake {
            boots: boots.iter().copied().collect(),
            rows: rows.iter().copied().collect(),
            booted: 0,
            used: Vec::new(),
        };
        let some = Matrix::Full.rows().into_iter().take(rows.len()).collect();
        let done = run(&mut fake, some);
        let passed = done.iter().map(|done| done.outcome.is_ok()).collect();
        (passed, fake.used, fake.booted)
    }

    use Fate::{Fails, Fine, Kills};

    #[test]
    fn a_row_that_fails_costs_its_guest_and_no_other_row() {
        let (passed, used, booted) = play(&[], &[Fine, Fine, Fails, Fine, Fine]);
        assert_eq!(passed, [true, true, false, true, true]);
        assert_eq!(used, [1, 1, 1, 2, 2]);
        assert_eq!(booted, 2);
    }

    #[test]
    fn a_row_that_ends_its_guest_is_followed_by_another() {
        let (passed, used, _) = play(&[], &[Fine, Kills, Fine, Fails]);
        assert_eq!(passed, [true, true, true, false]);
        assert_eq!(used, [1, 1, 2, 2]);
    }

    #[test]
    fn a_guest_that_does_not_come_up_fails_the_row_that_wants_it() {
        let (passed, used, booted) = play(&[Fails, Fine, Fails], &[Fine, Fails, Fine, Fine, Fine]);
        // The fates of rows are those of the rows that are run.
        assert_eq!(passed, [false, true, false, false, true]);
        assert_eq!((used, booted), (vec![2, 2, 4], 4));
    }

    #[test]
    fn when_none_comes_up_any_more_the_rest_fails_without_waiting() {
        let (passed, used, booted) = play(&[Fine, Fails, Fails], &[Kills, Fine, Fine, Fine, Fine]);
        assert_eq!(passed, [true, false, false, false, false]);
        assert_eq!((used, booted), (vec![1], 3));
    }
}
