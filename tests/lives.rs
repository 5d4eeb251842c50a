//! Every interleaving, as far as bounds on preemption go, of how an NDK object ends (src/ndk/life.rs): its consumer closes it while
//! requests complete, events come, the NIC lets go and successors close. It is told exactly once that the object is closed, after
//! everything else, and nobody touches an object that is gone.

#![allow(unsafe_code, reason = "objects whose life is counted")]

mod sync {
    pub use loom::sync::atomic::{
        AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering, fence,
    };
}
#[path = "../src/ndk/life.rs"]
#[allow(dead_code, reason = "all but one")]
mod life;
#[path = "../src/turn.rs"]
#[allow(dead_code, reason = "only the schedule")]
mod turn;

use std::mem::{offset_of, replace, take};
use std::ptr::NonNull;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use life::{Closed, Home, Life, Lives, Queue, Quiet};
use turn::Schedule;

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A counted reference, as `object::Ref`.
struct Ref(NonNull<Object>);

// SAFETY: a shared pointer to what many threads may use.
unsafe impl Send for Ref {}

impl Drop for Ref {
    fn drop(&mut self) {
        // SAFETY: the reference is counted, and given back once.
        unsafe { life::release(self.0) };
    }
}

/// What the port knows about an object: under its lock.
#[derive(Default)]
struct Entry {
    /// It can be found, though this keeps nothing alive.
    listed: bool,
    /// A pending request, and whether it is done.
    request: Option<Ref>,
    done: bool,
    /// Events that the consumer has not had yet.
    events: u32,
    /// The NIC still uses it, and somebody waits for that.
    in_nic: bool,
    awaited: bool,
}

/// What the consumer has heard of an object. It keeps this with the context of its callbacks, and throws it away once the object is
/// closed: so whoever calls it must have the model checker's leave to write here.
#[derive(Clone, Copy, Default)]
struct Heard {
    /// A callback runs.
    inside: bool,
    completed: u32,
    notified: u32,
    /// By the close completion.
    told_closed: bool,
    /// By the status of the close.
    closed_now: bool,
    /// It is to be closed in the next callback.
    close_inside: bool,
}

/// An object: a queue pair, a completion queue, a connector, as far as their ends go.
struct Object {
    /// Whether the memory is the object's still. Whoever touches the object reads this, and freeing writes it.
    alive: UnsafeCell<bool>,
    life: Life,
    port: NonNull<Port>,
    number: usize,
    /// Written by close, read by whoever drops the last reference.
    completion: UnsafeCell<bool>,
    /// Dropped with the object.
    antecedent: UnsafeCell<Option<Ref>>,
    heard: UnsafeCell<Heard>,
}

impl Object {
    /// The consumer's handle is used: NdkCloseObject.
    fn close(&self) {
        self.life();
        // SAFETY: close is called once, and nobody reads this before the last reference is gone.
        self.completion.with_mut(|cell| unsafe { *cell = true });
        // SAFETY: the consumer gives its handle up.
        if unsafe { life::close(self) } == Closed::Now {
            self.hear(|heard| {
                assert!(!heard.inside, "gone inside its own callback");
                assert!(!heard.told_closed, "told though it was done at once");
                heard.closed_now = true;
            });
        }
    }

    /// The consumer's part. The memory is the consumer's, not the object's.
    fn hear<R>(&self, work: impl FnOnce(&mut Heard) -> R) -> R {
        // SAFETY: the model checker finds out if two do this at a time.
        self.heard.with_mut(|heard| work(unsafe { &mut *heard }))
    }

    /// A callback of the consumer for this object.
    fn call_consumer(&self, which: fn(&mut Heard) -> &mut u32) {
        self.life();
        let close = self.hear(|heard| {
            assert!(
                !heard.told_closed && !heard.closed_now,
                "called after the close"
            );
            heard.inside = true;
            *which(heard) += 1;
            take(&mut heard.close_inside)
        });
        if close {
            self.close();
        }
        self.hear(|heard| {
            assert!(!heard.told_closed && !heard.closed_now, "closed inside");
            heard.inside = false;
        });
    }

    fn port(&self) -> &Port {
        // SAFETY: the port outlives its objects.
        unsafe { self.port.as_ref() }
    }

    fn reference(&self) -> Ref {
        self.life().add_reference();
        Ref(NonNull::from(self))
    }
}

// SAFETY: the life is a field, and the port outlives its objects.
unsafe impl Lives for Object {
    type Home = Port;

    fn life(&self) -> &Life {
        // SAFETY: the model checker finds out if this is read while it is written.
        assert!(self.alive.with(|alive| unsafe { *alive }), "use after free");
        &self.life
    }

    unsafe fn of(life: NonNull<Life>) -> NonNull<Object> {
        // SAFETY: the life is a field of an object.
        unsafe { life.byte_sub(offset_of!(Object, life)).cast() }
    }

    fn home(&self) -> NonNull<Port> {
        self.port
    }

    fn closing(&self) {
        // What pends is cancelled.
        self.port().with(|port| port.complete(self.number));
    }

    fn tell(&self) {
        loop {
            let news = self.port().peek(|entries| {
                let entry = &mut entries[self.number];
                let request = entry.request.take_if(|_| entry.done);
                (request, take(&mut entry.events))
            });
            match news {
                (Some(request), events) => {
                    self.port()
                        .peek(|entries| entries[self.number].events += events);
                    self.call_consumer(|heard| &mut heard.completed);
                    drop(request);
                }
                (None, 0) => return,
                // No event is begun once close has.
                (None, _) if self.life().is_closing() => {}
                (None, _) => self.call_consumer(|heard| &mut heard.notified),
            }
        }
    }

    fn quiesce(&self) -> Quiet {
        self.port().peek(|entries| {
            let entry = &mut entries[self.number];
            if entry.in_nic {
                entry.awaited = true;
                self.life().add_reference();
                return Quiet::NotYet;
            }
            entry.listed = false;
            Quiet::Yes
        })
    }

    fn closed(&self) {
        self.life();
        // SAFETY: as in `life`.
        assert!(self.completion.with(|cell| unsafe { *cell }));
        // The antecedent is there, and not closed, until this callback has returned.
        // SAFETY: as in `life`.
        if let Some(antecedent) = self.antecedent.with(|a| unsafe { (*a).as_ref() }) {
            // SAFETY: the reference keeps it alive.
            let antecedent = unsafe { antecedent.0.as_ref() };
            antecedent.life();
            antecedent.hear(|heard| assert!(!heard.told_closed && !heard.closed_now));
        }
        self.hear(|heard| {
            assert!(!heard.inside && !heard.told_closed && !heard.closed_now);
            heard.told_closed = true;
        });
    }

    unsafe fn destroy(object: NonNull<Object>) {
        // SAFETY: the memory itself stays until the model ends.
        let this = unsafe { object.as_ref() };
        // SAFETY: nobody else has it; if somebody does the model checker says so.
        this.alive
            .with_mut(|alive| assert!(unsafe { alive.replace(false) }, "freed twice"));
        // SAFETY: as above.
        drop(this.antecedent.with_mut(|a| unsafe { (*a).take() }));
    }
}

/// A port with its lock, its queue and the DPC that calls out.
struct Port {
    queue: Queue,
    schedule: Schedule,
    /// The DPC is queued.
    dpc: AtomicBool,
    entries: Mutex<[Entry; 2]>,
    objects: Vec<Object>,
}

// SAFETY: objects are shared as the driver shares them; that is what is tried.
unsafe impl Send for Port {}
// SAFETY: as above.
unsafe impl Sync for Port {}

impl Home for Port {
    fn queue(&self) -> &Queue {
        &self.queue
    }

    fn call_soon(&self) {
        if self.schedule.ask() {
            self.dpc.swap(true, Ordering::SeqCst);
        }
    }
}

/// What is done under the port's lock.
struct Locked<'a> {
    entries: &'a mut [Entry; 2],
    objects: &'a [Object],
}

impl Locked<'_> {
    /// The request of an object is done.
    fn complete(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        if entry.request.is_some() && !replace(&mut entry.done, true) {
            life::tell(&self.objects[number]);
        }
    }

    /// Something has happened to an object, if it is still there.
    fn event(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        if entry.listed {
            entry.events += 1;
            life::tell(&self.objects[number]);
        }
    }

    /// The NIC has let go of an object.
    fn nic_done(&mut self, number: usize) {
        let entry = &mut self.entries[number];
        entry.in_nic = false;
        if take(&mut entry.awaited) {
            // SAFETY: `quiesce` took this reference.
            unsafe { life::release(NonNull::from(&self.objects[number])) };
        }
    }
}

impl Port {
    /// A port with two objects, the second of which is the first's antecedent if that is wanted.
    fn new(related: bool) -> Arc<Port> {
        let port = Arc::new(Port {
            queue: Queue::new(),
            schedule: Schedule::new(),
            dpc: AtomicBool::new(false),
            entries: Mutex::new(Default::default()),
            objects: Vec::with_capacity(2),
        });
        // SAFETY: nobody else knows the port yet, and the objects do not move any more.
        let place = Arc::as_ptr(&port).cast_mut();
        for number in 0..2 {
            let object = Object {
                alive: UnsafeCell::new(true),
                life: Life::new::<Object>(),
                port: NonNull::new(place).unwrap(),
                number,
                completion: UnsafeCell::new(false),
                antecedent: UnsafeCell::new(None),
                heard: UnsafeCell::new(Heard::default()),
            };
            // SAFETY: as above.
            unsafe { (*place).objects.push(object) };
        }
        port.peek(|entries| entries.iter_mut().for_each(|entry| entry.listed = true));
        if related {
            let antecedent = port.objects[1].reference();
            // SAFETY: as above.
            port.objects[0]
                .antecedent
                .with_mut(|a| unsafe { *a = Some(antecedent) });
        }
        port
    }

    /// As `Port::peek`.
    fn peek<R>(&self, work: impl FnOnce(&mut [Entry; 2]) -> R) -> R {
        work(&mut self.entries.lock().unwrap())
    }

    /// As `Port::with`.
    fn with<R>(&self, work: impl FnOnce(&mut Locked<'_>) -> R) -> R {
        let mut entries = self.entries.lock().unwrap();
        let result = work(&mut Locked {
            entries: &mut entries,
            objects: &self.objects,
        });
        drop(entries);
        if !self.queue.is_empty() {
            self.call_soon();
        }
        result
    }

    /// Runs the DPC if it is queued, as `Port::on_dpc`: false if it is not.
    fn dpc(&self) -> bool {
        if !self.dpc.swap(false, Ordering::SeqCst) {
            return false;
        }
        assert!(!self.queue.call_out(64));
        if self.schedule.finish(|| !self.queue.is_empty()) {
            self.dpc.swap(true, Ordering::SeqCst);
        }
        true
    }

    /// A request of an object pends.
    fn request(&self, number: usize) {
        let request = self.objects[number].reference();
        self.peek(|entries| entries[number].request = Some(request));
    }
}

/// Something that happens elsewhere.
fn meanwhile(port: &Arc<Port>, what: impl FnOnce(&Port) + 'static) -> thread::JoinHandle<()> {
    let port = Arc::clone(port);
    thread::spawn(move || what(&port))
}

/// Two processors run DPCs, one after the other, while this does what it does. When both are done everything is.
fn run(port: &Arc<Port>, elsewhere: impl FnOnce(&Port) + 'static, here: impl FnOnce(&Port)) {
    let other = meanwhile(port, elsewhere);
    let dpc = meanwhile(port, |port| {
        port.dpc();
    });
    here(port);
    other.join().unwrap();
    dpc.join().unwrap();
    while port.dpc() {}
    assert!(port.queue.is_empty(), "nobody comes for what is queued");
}

/// The object ended as it should: what its consumer has heard.
fn ended(object: &Object) -> Heard {
    // SAFETY: all threads are done.
    assert!(!object.alive.with(|alive| unsafe { *alive }), "a leak");
    let heard = object.hear(|heard| *heard);
    assert!(heard.told_closed ^ heard.closed_now, "closed once");
    heard
}

#[test]
fn a_close_meets_the_completion_of_a_request() {
    check(|| {
        let port = Port::new(false);
        port.request(0);
        run(
            &port,
            |port| port.with(|port| port.complete(0)),
            |port| port.objects[0].close(),
        );
        assert_eq!(ended(&port.objects[0]).completed, 1);
    });
}

#[test]
fn a_close_meets_an_event() {
    check(|| {
        let port = Port::new(false);
        run(
            &port,
            |port| port.with(|port| port.event(0)),
            |port| port.objects[0].close(),
        );
        assert!(ended(&port.objects[0]).notified <= 1);
    });
}

#[test]
fn a_close_meets_a_disconnect_that_completes_and_its_event() {
    check(|| {
        let port = Port::new(false);
        port.request(0);
        run(
            &port,
            |port| {
                port.with(|port| port.event(0));
                port.with(|port| port.complete(0));
            },
            |port| port.objects[0].close(),
        );
        assert_eq!(ended(&port.objects[0]).completed, 1);
    });
}

#[test]
fn a_close_meets_a_flush_that_its_successor_makes_and_the_successors_close() {
    check(|| {
        let port = Port::new(true);
        run(
            &port,
            |port| {
                port.with(|port| port.event(1));
                port.objects[0].close();
            },
            |port| port.objects[1].close(),
        );
        assert!(ended(&port.objects[0]).closed_now, "nothing held it");
        ended(&port.objects[1]);
    });
}

#[test]
fn a_close_meets_the_nic_that_lets_go() {
    check(|| {
        let port = Port::new(false);
        port.peek(|entries| entries[0].in_nic = true);
        run(
            &port,
            |port| port.with(|port| port.nic_done(0)),
            |port| port.objects[0].close(),
        );
        ended(&port.objects[0]);
    });
}

#[test]
fn an_object_that_waits_for_the_nic_hears_nothing_and_lives() {
    check(|| {
        let port = Port::new(false);
        port.peek(|entries| entries[0].in_nic = true);
        run(
            &port,
            |port| {
                port.with(|port| port.event(0));
                port.with(|port| port.nic_done(0));
            },
            |port| port.objects[0].close(),
        );
        ended(&port.objects[0]);
    });
}

#[test]
fn a_close_inside_a_callback_meets_another_event() {
    check(|| {
        let port = Port::new(false);
        let object = &port.objects[0];
        object.hear(|heard| heard.close_inside = true);
        run(
            &port,
            |port| port.with(|port| port.event(0)),
            |port| port.with(|port| port.event(0)),
        );
        let heard = ended(object);
        assert!(heard.told_closed, "and not at once");
        assert_eq!(heard.notified, 1);
    });
}

#[test]
fn a_close_inside_the_completion_of_the_last_request() {
    check(|| {
        let port = Port::new(true);
        port.request(0);
        let [object, antecedent] = [&port.objects[0], &port.objects[1]];
        object.hear(|heard| heard.close_inside = true);
        run(
            &port,
            |port| port.with(|port| port.complete(0)),
            |port| port.objects[1].close(),
        );
        let heard = ended(object);
        assert_eq!(heard.completed, 1);
        assert!(heard.told_closed, "and not at once");
        ended(antecedent);
    });
}

#[test]
fn two_references_are_dropped_while_it_is_closed() {
    check(|| {
        let port = Port::new(false);
        let others = [(); 2].map(|()| {
            let reference = port.objects[0].reference();
            meanwhile(&port, move |_| drop(reference))
        });
        port.objects[0].close();
        for other in others {
            other.join().unwrap();
        }
        while port.dpc() {}
        ended(&port.objects[0]);
    });
}

#[test]
fn who_waits_is_served_in_order_and_no_more_at_a_time_than_is_asked() {
    check(|| {
        let port = Port::new(false);
        let notified = || [0, 1].map(|number| port.objects[number].hear(|heard| heard.notified));
        port.with(|port| {
            port.event(0);
            port.event(1);
        });
        assert!(port.queue.call_out(1));
        assert_eq!(notified(), [1, 0]);
        port.with(|port| port.event(0));
        assert!(port.queue.call_out(1));
        assert_eq!(notified(), [1, 1]);
        assert!(!port.queue.call_out(2));
        assert_eq!(notified(), [2, 1]);
        port.objects.iter().for_each(Object::close);
        while port.dpc() {}
        port.objects.iter().for_each(|object| {
            ended(object);
        });
    });
}
