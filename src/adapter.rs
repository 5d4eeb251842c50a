//! One adapter: the NIC, the RDMA port over it, and the Ethernet path to NDIS, held together by the service routine.
//!
//! # The service routine
//! Interrupts, of whatever message, end in [`Adapter::serve`]: it gives back what the NIC has sent, takes what it has received to the
//! RDMA port or to protocols, lets the port work, and lets the NIC interrupt again. It runs on one processor at a time: whoever finds
//! it running leaves a mark, and the one who runs goes round again. After [`PASSES`] rounds, or as many frames as NDIS allows, it leaves
//! the device's interrupts off and has NDIS run the interrupt DPC again: so NDIS's receive throttling decides when. A DPC of our own
//! that queued itself would run again before the processor ever left DISPATCH_LEVEL.
//!
//! No consumer is called from here: what the port has to tell goes to its own DPC.
//!
//! # Locks
//! None here is held across a call: the port's lock and the send queue's come before the NIC's, see [`crate::nic`] and [`crate::ndk`].
#![allow(unsafe_code, reason = "NDIS is called with the adapter's handle")]

mod link_watch;
mod standstill;

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, Ordering};

use nt::eventlog::Entry;
use nt::irql::at_dispatch;
use nt::sys::ndis::{NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL, NET_BUFFER_LIST};
use nt::sys::status::{
    NDIS_ERROR_CODE_HARDWARE_FAILURE, NDIS_ERROR_CODE_OUT_OF_RESOURCES, STATUS_DEVICE_NOT_READY,
    STATUS_DEVICE_REMOVED, STATUS_INSUFFICIENT_RESOURCES,
};
use nt::sys::types::NDIS_HANDLE;
use nt::{Dpc, NoMemory, Passive, SpinLock, Status, WorkItem, debug_print, sys};

use crate::miniport::attributes::Capabilities;
use crate::miniport::events::{Log, unique};
use crate::miniport::filter::Filter;
use crate::miniport::gate::Gate;
use crate::miniport::interrupt::Interrupt;
use crate::miniport::receive::{Batch, Chain, Receiver};
use crate::miniport::send::Sender;
use crate::miniport::settings::Settings;
use crate::miniport::statistics::{Cast, Statistics, bump};
use crate::miniport::{link, ndk};
use crate::ndk::Port;
use crate::nic::{self, Fault, Link, Nic, TxCookie};
use crate::trace::{AdapterInitialized, DeviceFailed, LinkChanged, NdkChanged, Trace};
use crate::turn::{Mask, Turn};
use crate::wdf;

use self::link_watch::LinkWatch;
use self::standstill::Standstill;

/// Received frames in one run of the service routine, before it makes way for others.
const BUDGET: usize = 256;

/// Rounds in one run of the service routine.
const PASSES: usize = 4;

/// Interrupt messages that the driver uses: configuration and queues.
pub const MESSAGES: usize = 2;

/// What an adapter is made of. Dropped in this order.
pub struct Parts {
    /// The RDMA port.
    pub port: Box<Port>,
    /// The send path.
    pub sender: Sender,
    /// The receive path.
    pub receiver: Receiver,
    /// The network device.
    pub nic: nic::Handle,
    /// The event log.
    pub log: Log,
    /// What tells event tracing of the adapter.
    pub trace: Trace,
    /// What the registry says.
    pub settings: Settings,
    /// What NDIS is told about NDK; it may look again at any time.
    pub capabilities: Capabilities,
    /// The framework's device object, kept for as long as the adapter.
    pub _device: wdf::Device,
    /// The NDIS handle.
    pub handle: NDIS_HANDLE,
}

/// An adapter. Its address is the context NDIS passes to every handler.
pub struct Adapter {
    interrupt: SpinLock<Option<Interrupt>>,
    again: Dpc<Adapter>,
    /// Brings NDK to the state that was ordered last.
    ndk_work: WorkItem<Adapter>,
    /// Deals with a device that has failed.
    recovery: WorkItem<Adapter>,
    standstill: Standstill,
    ndk_wanted: AtomicBool,
    gate: Gate,
    filter: Filter,
    statistics: Statistics,
    /// The link as NDIS knows it.
    link: SpinLock<Link>,
    /// Who runs the service routine.
    turn: Turn,
    link_watch: LinkWatch,
    /// The RDMA port gets the room in the NIC's queue before frames of protocols that wait for some.
    rdma_first: AtomicBool,
    fault_logged: AtomicBool,
    removed: AtomicBool,
    /// Messages to be ignored; a line interrupt is the first.
    masks: [Mask; MESSAGES],
    parts: Parts,
}

// SAFETY: NDIS's handle may be used from any processor; all else is `Send` and `Sync` of itself.
unsafe impl Send for Adapter {}
// SAFETY: as above.
unsafe impl Sync for Adapter {}

impl Adapter {
    /// Puts an adapter together. It does nothing before [`Adapter::bind`].
    ///
    /// # Errors
    /// [`NoMemory`].
    pub fn try_new(parts: Parts) -> Result<Self, NoMemory> {
        // SAFETY: the handle is the adapter's, which outlives what is made for it.
        let (ndk_work, recovery) = unsafe {
            (
                WorkItem::try_new(parts.handle, Adapter::on_ndk_work)?,
                WorkItem::try_new(parts.handle, Adapter::recover)?,
            )
        };
        Ok(Self {
            interrupt: SpinLock::new(None),
            again: Dpc::try_new(Adapter::on_dpc)?,
            ndk_work,
            recovery,
            standstill: Standstill::try_new()?,
            ndk_wanted: AtomicBool::new(parts.settings.network_direct),
            gate: Gate::new(),
            filter: Filter::new(),
            statistics: Statistics::default(),
            link: SpinLock::new(parts.nic.link()),
            turn: Turn::new(),
            link_watch: LinkWatch::try_new()?,
            rdma_first: AtomicBool::new(true),
            fault_logged: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            masks: [Mask::new(), Mask::new()],
            parts,
        })
    }

    /// Lets the adapter's callbacks find it.
    ///
    /// # Safety
    /// `self` stays at this address until it is dropped.
    pub unsafe fn bind(&self) {
        // SAFETY: the callbacks are fields, or of fields, and wait for a run in progress when they are dropped.
        unsafe {
            self.again.bind(self);
            self.ndk_work.bind(self);
            self.recovery.bind(self);
            self.link_watch.bind(self);
            self.standstill.bind(self);
        }
    }

    /// Connects the interrupts and lets the device work.
    ///
    /// # Safety
    /// As of [`Adapter::bind`].
    ///
    /// # Errors
    /// What NDIS answers; STATUS_DEVICE_NOT_READY if the device refuses.
    pub unsafe fn start(&self, passive: Passive) -> Result<(), Status> {
        // SAFETY: the adapter stays, and drops its interrupt before itself.
        let interrupt = unsafe { Interrupt::connect(self, self.handle(), passive)? };
        let vectors = interrupt.vectors();
        *self.interrupt.lock() = Some(interrupt);
        self.link_watch.expect(vectors);
        // SAFETY: `shut_down` stops the device before `again` goes.
        let waker = unsafe { self.again.waker() };
        self.nic().start(vectors, waker, passive).map_err(|fault| {
            debug_print!(Error, "{fault}");
            Status(STATUS_DEVICE_NOT_READY)
        })
    }

    /// Ends all that happens in the adapter's name: afterwards it can be dropped. No frame of protocols is on its way.
    pub fn shut_down(&self, passive: Passive) {
        self.ndk_work.close(passive);
        // The device still works: NDK objects that are being closed wait for their frames.
        self.port().shutdown(passive);
        self.recovery.close(passive);
        self.standstill.stop(passive);
        self.nic().stop(passive);
        let interrupt = self.interrupt.lock().take();
        drop(interrupt);
        self.link_watch.stop(passive);
        self.again.stop(passive);
        at_dispatch(|| {
            self.reap();
        });
    }

    /// The NDIS handle.
    pub fn handle(&self) -> NDIS_HANDLE {
        self.parts.handle
    }

    /// What tells event tracing of the adapter.
    pub fn trace(&self) -> &Trace {
        &self.parts.trace
    }

    /// Tells event tracing with what the adapter works.
    pub fn note_initialized(&self) {
        let (nic, settings) = (self.nic(), self.settings());
        self.trace().write(|adapter| AdapterInitialized {
            adapter,
            mac: nic.mac().into(),
            mtu: nic.mtu(),
            path_mtu: self.port().mtu().bytes(),
            jumbo_packet: settings.jumbo_packet,
            network_direct: settings.network_direct,
            receive_buffers: settings.receive_buffers,
            transmit_buffers: settings.transmit_buffers,
        });
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// The network device.
    pub fn nic(&self) -> &dyn Nic {
        &**self.parts.nic
    }

    /// The RDMA port.
    pub fn port(&self) -> &Port {
        &self.parts.port
    }

    /// The send path.
    pub fn sender(&self) -> &Sender {
        &self.parts.sender
    }

    /// What passes for Ethernet, and how much of it is inside.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The receive filter.
    pub fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Counts of Ethernet frames.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// The link as NDIS knows it. IRQL: <= DISPATCH_LEVEL.
    pub fn link(&self) -> Link {
        *self.link.lock()
    }

    /// What NDIS is told about NDK.
    pub fn capabilities(&self) -> &Capabilities {
        &self.parts.capabilities
    }

    /// Whether the device has been pulled out.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// An interrupt came: true if the service routine is to run. IRQL: any.
    pub fn on_interrupt(&self, message: usize, config: bool) -> bool {
        if config {
            self.link_watch.note();
        }
        !self.masks.get(message).is_some_and(Mask::ignores)
    }

    /// Ignores the interrupts of a message, or heeds them again. IRQL: any.
    pub fn mask_interrupts(&self, message: usize, mask: bool) {
        let Some(state) = self.masks.get(message) else {
            return;
        };
        if mask {
            state.set();
        } else if state.lift() {
            self.again.queue();
        }
    }

    /// The link may be read again, and has to be.
    fn look_at_link(&self) {
        self.link_watch.look();
        self.again.queue();
    }

    fn on_dpc(&self) {
        if self.serve(BUDGET) {
            self.serve_soon();
        }
    }

    /// Has NDIS run its interrupt DPC, unless the adapter is being shut down. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn serve_soon(&self) {
        if let Some(interrupt) = &*self.interrupt.lock() {
            interrupt.queue_dpc();
        }
    }

    /// The service routine; `most` received frames. True if there is more to do: the device's interrupts are off then, and the caller
    /// must have NDIS run its interrupt DPC. IRQL: DISPATCH_LEVEL, in a DPC, no lock held.
    #[must_use]
    pub fn serve(&self, most: usize) -> bool {
        if !self.turn.take() {
            return false;
        }
        let mut left = most.clamp(1, BUDGET);
        for _ in 0..PASSES {
            let seen = self.turn.seen();
            let (received, idle) = self.pass(left);
            left = left.saturating_sub(received);
            if left == 0 {
                break;
            }
            if idle && self.turn.give_back(seen) {
                return false;
            }
        }
        self.nic().disable_interrupts();
        self.turn.give_up();
        true
    }

    /// One round of the service routine: how many frames came, and whether the device will interrupt when more do.
    fn pass(&self, budget: usize) -> (usize, bool) {
        let nic = self.nic();
        if self.link_watch.is_due() {
            self.update_link();
        }
        self.reap();
        let received = self.receive(budget);
        self.port().pump();
        if let Some(fault) = nic.fault()
            && !self.fault_logged.swap(true, Ordering::AcqRel)
        {
            self.log_fault(fault);
            self.recovery.queue();
        }
        (received, received < budget && !nic.enable_interrupts())
    }

    /// Takes back what the NIC has sent, and sends what waited for room: protocols and the RDMA port take turns in who is first, because
    /// the first may leave none.
    fn reap(&self) {
        let mut done = Chain::new();
        self.nic().reap(&mut |cookies| {
            self.port().transmitted(cookies);
            for cookie in cookies {
                if let TxCookie::Ethernet(frame) = cookie {
                    self.sent(*frame, &mut done);
                }
            }
        });
        if self.sender().has_waiting() && self.rdma_first.fetch_xor(true, Ordering::Relaxed) {
            self.port().pump();
        }
        self.send_waiting(&mut done);
        self.complete_sends(done);
    }

    /// Takes what the NIC has received to the RDMA port or to protocols. Answers how many frames.
    fn receive(&self, budget: usize) -> usize {
        let mac = self.nic().mac();
        let mut batch = Batch::new();
        let received = self.nic().receive(budget, &mut |frames| {
            let ours = self.port().receive(frames);
            for (i, frame) in frames.iter().enumerate() {
                if !ours.has(i) {
                    self.take(frame, &mac, &mut batch);
                }
            }
        });
        let back = self.parts.receiver.indicate(batch);
        self.leave_gate(back);
        received
    }

    /// A frame for protocols, if they want it.
    fn take(&self, frame: &[u8], mac: &[u8; 6], batch: &mut Batch) {
        if !self.filter.passes(frame, mac) || !self.gate.enter() {
            return;
        }
        if self.parts.receiver.take(frame, batch) {
            self.statistics.received.add(Cast::of(frame), frame.len());
        } else {
            bump(&self.statistics.received.discards);
            self.leave_gate(1);
        }
    }

    /// MiniportReturnNetBufferLists. IRQL: <= DISPATCH_LEVEL.
    ///
    /// # Safety
    /// `head` is the first of a chain of lists this adapter indicated, coming back once.
    pub unsafe fn give_back(&self, head: *mut NET_BUFFER_LIST) {
        // SAFETY: the caller's promise.
        let count = unsafe { self.parts.receiver.give_back(head) };
        self.leave_gate(count);
    }

    /// So many frames are through. The last one after the gate was closed completes the pause. IRQL: <= DISPATCH_LEVEL.
    pub fn leave_gate(&self, count: u64) {
        if self.gate.leave(count) {
            // SAFETY: the adapter's handle; the gate is closed by MiniportPause only, which answered that it is pending because
            // somebody was inside.
            unsafe { sys::NdisMPauseComplete(self.handle()) }
        }
    }

    /// Completes sends. IRQL: DISPATCH_LEVEL, no lock held.
    pub fn complete(&self, done: &Chain) {
        if done.count() > 0 {
            // SAFETY: lists NDIS gave us to send, each completed once; this is DISPATCH_LEVEL.
            unsafe {
                sys::NdisMSendNetBufferListsComplete(
                    self.handle(),
                    done.head(),
                    NDIS_SEND_COMPLETE_FLAGS_DISPATCH_LEVEL,
                );
            }
            self.sender().given_back(done.count());
        }
    }

    /// Tells NDIS if the link is not as it was. Called by the service routine only, so that changes arrive in order.
    fn update_link(&self) {
        let now = self.nic().link();
        let before = core::mem::replace(&mut *self.link.lock(), now);
        if now != before {
            self.trace().write(|adapter| LinkChanged {
                adapter,
                up: now.up,
                speed: now.speed,
            });
            link::indicate(self.handle(), now);
        }
    }

    /// The device has failed: protocols see the link go down.
    fn log_fault(&self, fault: Fault) {
        debug_print!(Error, "device stopped: {fault}");
        self.trace().write(|adapter| DeviceFailed {
            adapter,
            fault: fault.text().into(),
        });
        self.parts.log.write(&Entry {
            code: NDIS_ERROR_CODE_HARDWARE_FAILURE.cast_signed(),
            unique: unique::FAULT,
            status: STATUS_DEVICE_NOT_READY,
            strings: &[],
        });
        self.port().refuse(STATUS_DEVICE_REMOVED);
        self.update_link();
    }

    /// There is no memory for NDK to begin anew.
    fn log_no_memory(&self) {
        self.parts.log.write(&Entry {
            code: NDIS_ERROR_CODE_OUT_OF_RESOURCES.cast_signed(),
            unique: unique::NDK_MEMORY,
            status: STATUS_INSUFFICIENT_RESOURCES,
            strings: &[],
        });
    }

    /// OID_NDK_SET_STATE: false if the administrator does not allow it (decision X-44: the OID fails then). IRQL: <= DISPATCH_LEVEL.
    pub fn order_ndk(&self, enable: bool) -> bool {
        if enable && !self.settings().network_direct {
            return false;
        }
        self.ndk_wanted.store(enable, Ordering::Release);
        self.ndk_work.queue();
        true
    }

    /// Brings NDK to the state ordered last. Disabling takes until every open NDK adapter is closed; a port that has failed is disabled
    /// until then, and begins anew if its device works again.
    fn on_ndk_work(&self, passive: Passive) {
        loop {
            let broken = self.port().is_broken();
            let enable = self.ndk_wanted.load(Ordering::Acquire) && !broken;
            if enable != self.port().is_enabled() {
                self.port().set_enabled(enable);
                self.trace().write(|adapter| NdkChanged {
                    adapter,
                    enabled: enable,
                });
                ndk::raise_event(self.handle(), enable, passive);
            } else if !broken || self.is_removed() || self.nic().fault().is_some() {
                return;
            } else if self.port().renew(passive).is_err() {
                self.log_no_memory();
                self.renew_later();
                return;
            }
        }
    }
}
