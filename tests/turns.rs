//! Every interleaving, as far as bounds on preemption go, of what decides who works (src/turn.rs): work that is asked for gets done.

mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
}
#[path = "../src/turn.rs"]
#[allow(dead_code, reason = "each model uses a part")]
mod turn;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use turn::{Mask, Schedule, Turn};

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A kernel's DPC queue of one place: ordering what is queued already changes nothing.
struct OneDpc {
    queued: AtomicBool,
}

impl OneDpc {
    fn queue(&self) {
        self.queued.swap(true, Ordering::SeqCst);
    }

    /// Takes it out of the queue to run it.
    fn starts(&self) -> bool {
        self.queued.swap(false, Ordering::SeqCst)
    }
}

/// A device with frames, the turn to serve it, and the DPC that is queued when a run leaves some over.
struct Service {
    turn: Turn,
    frames: AtomicUsize,
    again: OneDpc,
}

impl Service {
    /// As Adapter::serve: one frame a run.
    fn serve(&self) {
        if !self.turn.take() {
            return;
        }
        let seen = self.turn.seen();
        let take = |frames: usize| frames.checked_sub(1);
        let found = self
            .frames
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        if found.is_ok() || !self.turn.give_back(seen) {
            self.turn.give_up();
            self.again.queue();
        }
    }

    fn interrupt(&self) {
        self.frames.fetch_add(1, Ordering::SeqCst);
        self.serve();
    }
}

#[test]
fn a_frame_is_served_whichever_processor_gives_the_turn_up() {
    check(|| {
        let service = Arc::new(Service {
            turn: Turn::new(),
            frames: AtomicUsize::new(0),
            again: OneDpc {
                queued: AtomicBool::new(false),
            },
        });
        let others: [_; 2] = core::array::from_fn(|first| {
            let service = Arc::clone(&service);
            thread::spawn(move || {
                if first == 0 || service.again.starts() {
                    service.interrupt();
                }
            })
        });
        service.interrupt();
        for other in others {
            other.join().unwrap();
        }
        // What is queued runs; then nothing may be left that nobody comes for.
        while service.again.starts() {
            service.serve();
        }
        assert_eq!(service.frames.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn an_interrupt_that_meets_the_mask_being_lifted_is_not_lost() {
    check(|| {
        let mask = Arc::new(Mask::new());
        mask.set();
        let isr = {
            let mask = Arc::clone(&mask);
            thread::spawn(move || !mask.ignores())
        };
        let made_up = mask.lift();
        let served = isr.join().unwrap();
        assert!(served ^ made_up);
    });
}

#[test]
fn work_added_while_the_routine_ends_is_scheduled_once() {
    check(|| {
        let schedule = Arc::new(Schedule::new());
        let work = Arc::new(AtomicUsize::new(0));
        let scheduled = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (schedule, work, scheduled) = (
                Arc::clone(&schedule),
                Arc::clone(&work),
                Arc::clone(&scheduled),
            );
            move || {
                work.fetch_add(1, Ordering::SeqCst);
                if schedule.ask() {
                    assert_eq!(scheduled.fetch_add(1, Ordering::SeqCst), 0);
                }
            }
        };
        let run = {
            let (schedule, work, scheduled) = (
                Arc::clone(&schedule),
                Arc::clone(&work),
                Arc::clone(&scheduled),
            );
            // The kernel takes a DPC off its queue before it runs it.
            move || {
                while scheduled.load(Ordering::SeqCst) == 1 {
                    scheduled.store(0, Ordering::SeqCst);
                    work.swap(0, Ordering::SeqCst);
                    if schedule.finish(|| work.load(Ordering::SeqCst) > 0) {
                        assert_eq!(scheduled.fetch_add(1, Ordering::SeqCst), 0);
                    }
                }
            }
        };
        ask();
        let dpc = thread::spawn(run.clone());
        ask();
        dpc.join().unwrap();
        run();
        assert_eq!(work.load(Ordering::SeqCst), 0);
    });
}
