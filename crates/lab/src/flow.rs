//! Workloads: many requests in flight, driven by completion notifications as a real consumer drives them. Each wants a fresh
//! connection: a workload leaves its receives posted.

use crate::side::{DEPTH, Queues, Side};
use crate::status::{self, Doing};
use anyhow::{Result, ensure};
use ndkpi::status::STATUS_SUCCESS;
use ndkpi::{NDK_CQ_NOTIFY_ANY, NDK_OP_FLAG_SILENT_SUCCESS, NDK_RESULT, NDK_SGE, NTSTATUS};
use ntsim::World;
use ntsim::world::processor::DISPATCH;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Results fetched at a time.
const BATCH: usize = 32;

/// How long a workload may take in the world's time: retransmission timeouts on a lossy wire add up.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is done to the peer's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// NdkSend into posted receives.
    Send,
    /// NdkWrite.
    Write,
    /// NdkRead.
    Read,
}

impl Operation {
    /// As it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Send => "send",
            Operation::Write => "write",
            Operation::Read => "read",
        }
    }
}

/// How a workload went, in wall time: everything runs in one thread.
pub struct Outcome {
    /// Messages completed.
    pub messages: u64,
    /// Payload bytes of all of them.
    pub bytes: u64,
    /// From the first post to the last completion.
    pub elapsed: Duration,
    /// Post to completion of each message (round trip for ping-pong), ascending.
    latencies: Vec<Duration>,
}

impl Outcome {
    /// Messages per second.
    pub fn message_rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// Megabytes (10^6) per second.
    pub fn megabytes(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64() / 1e6
    }

    /// The latency that this share of messages did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// Progress and outcome shared with notification callbacks.
#[derive(Default)]
struct Run {
    posted: Cell<u64>,
    completed: Cell<u64>,
    failure: Cell<Option<NTSTATUS>>,
    started: RefCell<Vec<Instant>>,
    latencies: RefCell<Vec<Duration>>,
}

impl Run {
    fn new(in_flight: usize, count: u64) -> Rc<Run> {
        let run = Run::default();
        *run.started.borrow_mut() = vec![Instant::now(); in_flight];
        run.latencies.borrow_mut().reserve_exact(count as usize);
        Rc::new(run)
    }

    fn fail(&self, status: NTSTATUS) {
        if self.failure.get().is_none() {
            self.failure.set(Some(status));
        }
    }

    fn start(&self, slot: usize) {
        if let Some(started) = self.started.borrow_mut().get_mut(slot) {
            *started = Instant::now();
        }
    }

    fn finish(&self, slot: usize) {
        let started = self.started.borrow().get(slot).copied();
        if let Some(started) = started {
            self.latencies.borrow_mut().push(started.elapsed());
        }
        self.completed.set(self.completed.get() + 1);
    }

    /// Runs the world until `count` messages are completed or one failed.
    fn drive(
        &self,
        world: &mut World,
        count: u64,
        size: usize,
        began: Instant,
        progress: &dyn Fn(u64),
    ) -> Result<Outcome> {
        let mut steps = 0_u32;
        world.run_until(
            |_| {
                steps = steps.wrapping_add(1);
                if steps.is_multiple_of(4096) {
                    progress(self.completed.get());
                }
                self.completed.get() >= count || self.failure.get().is_some()
            },
            PATIENCE,
        );
        let elapsed = began.elapsed();
        if let Some(failure) = self.failure.get() {
            anyhow::bail!("a request failed with {}", status::name(failure));
        }
        ensure!(
            self.completed.get() >= count,
            "only {} of {count} messages completed",
            self.completed.get()
        );
        let mut latencies = self.latencies.take();
        latencies.sort_unstable();
        Ok(Outcome {
            messages: count,
            bytes: count * size as u64,
            elapsed,
            latencies,
        })
    }
}

/// Fetches results until there are none and hands each to `f`.
fn drain(queues: &Queues, run: &Run, mut f: impl FnMut(&NDK_RESULT)) {
    let mut results = [NDK_RESULT::ZEROED; BATCH];
    loop {
        let count = queues.cq.poll_into(&mut results);
        for result in &results[..count] {
            if result.Status == STATUS_SUCCESS {
                f(result);
            } else {
                run.fail(result.Status);
            }
        }
        if count < BATCH {
            return;
        }
    }
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// What is done.
    pub operation: Operation,
    /// Bytes of a message.
    pub size: usize,
    /// Messages.
    pub count: u64,
    /// Messages in flight.
    pub in_flight: usize,
}

impl Workload {
    /// A row in short.
    pub const fn new(operation: Operation, size: usize, count: u64, in_flight: usize) -> Self {
        Workload {
            operation,
            size,
            count,
            in_flight,
        }
    }

    /// Memory it needs on either side.
    pub fn bytes(&self) -> usize {
        self.in_flight * self.size
    }
}

/// Moves a workload's messages from `from` to `to`, for reads the other way.
pub fn stream(
    world: &mut World,
    from: &Side,
    to: &Side,
    workload: Workload,
    progress: &dyn Fn(u64),
) -> Result<Outcome> {
    let Workload {
        operation,
        size,
        count,
        in_flight,
    } = workload;
    let in_flight = in_flight.min(DEPTH as usize);
    ensure!(
        in_flight * size <= from.buffer.len() && in_flight * size <= to.buffer.len(),
        "{in_flight} messages of {size} bytes do not fit the buffers"
    );
    let run = Run::new(in_flight, count);
    if operation == Operation::Send {
        receive_forever(world, to, &run, size, in_flight)?;
    }

    let local: Vec<[NDK_SGE; 1]> = (0..in_flight).map(|i| [from.sge(i * size, size)]).collect();
    let (remote_address, remote_token) = to.remote();
    let post = {
        let run = Rc::clone(&run);
        move |queues: &Queues, slot: usize| {
            let remote = remote_address + (slot * size) as u64;
            run.start(slot);
            let posted = match operation {
                Operation::Send => queues.qp.send(slot as u64, &local[slot], 0),
                Operation::Write => {
                    queues
                        .qp
                        .write(slot as u64, &local[slot], remote, remote_token, 0)
                }
                Operation::Read => {
                    queues
                        .qp
                        .read(slot as u64, &local[slot], remote, remote_token, 0)
                }
            };
            match posted {
                Ok(()) => run.posted.set(run.posted.get() + 1),
                Err(status) => run.fail(status),
            }
        }
    };

    let began = Instant::now();
    let queues = Rc::clone(&from.queues);
    {
        let run = Rc::clone(&run);
        let weak = Rc::downgrade(&queues);
        let post = post.clone();
        queues.cq.on_notify(move |cq_status| {
            let Some(queues) = weak.upgrade() else { return };
            if cq_status != STATUS_SUCCESS {
                run.fail(cq_status);
            }
            drain(&queues, &run, |result| {
                let slot = result.RequestContext.addr();
                run.finish(slot);
                if run.posted.get() < count {
                    post(&queues, slot);
                }
            });
            queues.cq.arm(NDK_CQ_NOTIFY_ANY);
        });
    }
    with_notifications_held(world, from, || {
        for slot in 0..in_flight.min(count as usize) {
            post(&queues, slot);
        }
        queues.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
    let outcome = run.drive(world, count, size, began, progress);
    quiet(world, from);
    if operation == Operation::Send {
        quiet(world, to);
    }
    outcome
}

/// Keeps receives posted on `side` and reposts each that completes.
fn receive_forever(
    world: &mut World,
    side: &Side,
    run: &Rc<Run>,
    size: usize,
    in_flight: usize,
) -> Result<()> {
    let local: Vec<[NDK_SGE; 1]> = (0..DEPTH as usize)
        .map(|i| [side.sge(i % in_flight * size, size)])
        .collect();
    let queues = Rc::clone(&side.queues);
    let weak = Rc::downgrade(&queues);
    let run = Rc::clone(run);
    let again = local.clone();
    queues.cq.on_notify(move |_| {
        let Some(queues) = weak.upgrade() else { return };
        drain(&queues, &run, |result| {
            let slot = result.RequestContext.addr();
            if result.BytesTransferred as usize != size {
                run.fail(ndkpi::status::STATUS_DATA_OVERRUN);
            }
            if let Err(status) = queues.qp.receive(slot as u64, &again[slot]) {
                run.fail(status);
            }
        });
        queues.cq.arm(NDK_CQ_NOTIFY_ANY);
    });
    with_notifications_held(world, side, || {
        for (slot, sgl) in local.iter().enumerate() {
            queues.qp.receive(slot as u64, sgl)?;
        }
        queues.cq.arm(NDK_CQ_NOTIFY_ANY);
        Ok(())
    })
    .doing("NdkReceive")
}

/// Runs consumer code on a side's server with its notification callback held off: posts to one queue, and NdkArmCq and
/// NdkGetCqResults of one completion queue, are the consumer's to serialise, and what follows a notification posts, arms and polls
/// too. The servers have one processor, so that DISPATCH_LEVEL keeps the provider's DPC away; with more it would take a lock.
fn with_notifications_held<R>(world: &mut World, side: &Side, f: impl FnOnce() -> R) -> R {
    world.call_on(side.server.machine, 0, DISPATCH, f)
}

/// Sends a message to and fro `count` times; latencies are round trips.
pub fn ping_pong(
    world: &mut World,
    a: &Side,
    b: &Side,
    size: usize,
    count: u64,
    progress: &dyn Fn(u64),
) -> Result<Outcome> {
    let run = Run::new(1, count);
    for (side, is_a) in [(a, true), (b, false)] {
        let queues = Rc::clone(&side.queues);
        let weak = Rc::downgrade(&queues);
        let run = Rc::clone(&run);
        let message = [side.sge(0, size)];
        let room = [side.sge(size, size)];
        queues.cq.on_notify(move |_| {
            let Some(queues) = weak.upgrade() else { return };
            drain(&queues, &run, |_| {
                if let Err(status) = queues.qp.receive(0, &room) {
                    run.fail(status);
                }
                if is_a {
                    run.finish(0);
                    if run.completed.get() >= count {
                        return;
                    }
                    run.start(0);
                }
                if let Err(status) = queues.qp.send(1, &message, NDK_OP_FLAG_SILENT_SUCCESS) {
                    run.fail(status);
                }
            });
            queues.cq.arm(NDK_CQ_NOTIFY_ANY);
        });
        with_notifications_held(world, side, || {
            side.queues.qp.receive(0, &[side.sge(size, size)])?;
            side.queues.cq.arm(NDK_CQ_NOTIFY_ANY);
            Ok(())
        })
        .doing("NdkReceive")?;
    }
    let began = Instant::now();
    run.start(0);
    with_notifications_held(world, a, || {
        if let Err(status) = a
            .queues
            .qp
            .send(1, &[a.sge(0, size)], NDK_OP_FLAG_SILENT_SUCCESS)
        {
            run.fail(status);
        }
    });
    let outcome = run.drive(world, count, size, began, progress);
    quiet(world, a);
    quiet(world, b);
    outcome
}

/// Ends the reaction to notifications and takes what is left in the completion queue.
fn quiet(world: &mut World, side: &Side) {
    with_notifications_held(world, side, || {
        side.queues.cq.on_notify(|_| ());
        while side.queues.cq.poll().is_some() {}
    });
}
