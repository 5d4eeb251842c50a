//! A wire to another process: Ethernet frames in unix datagrams, as QEMU's `-netdev dgram` exchanges them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::{Endpoint, Frame, Port, Switch};
use crate::world::context;

/// The longest datagram taken.
const LONGEST: usize = 65536;
/// Datagrams taken at most before others have their turn.
const BATCH: usize = 256;
/// How long to wait before offering a datagram again to a peer whose queue is full, in nanoseconds.
const RETRY: u64 = 20_000;
/// How long a wire that goes away waits for a peer whose queue is full.
const PARTING: Duration = Duration::from_secs(1);

/// Where the datagrams go. For QEMU's `-netdev dgram,id=n,local.type=unix,local.path=B,remote.type=unix,remote.path=A`
/// this side has the local path A and the remote path B.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Path of our socket: created, and removed with the wire. A socket left there by an earlier run is replaced; one that a
    /// process has open is not.
    pub local: PathBuf,
    /// Path of the peer's socket. It need not exist yet: frames sent before are lost.
    pub remote: PathBuf,
    /// Frames that wait while the peer's queue is full; further ones are dropped.
    pub backlog: usize,
}

/// What has passed a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Frames given to the peer.
    pub sent: u64,
    /// Frames taken from the peer.
    pub received: u64,
    /// Not sent: the peer was not there.
    pub no_peer: u64,
    /// Not sent: too many waited already.
    pub backlog_full: u64,
    /// Not sent: another error.
    pub errors: u64,
}

/// A switch port that leads out of the process. Works in real-time worlds, whose loop watches its descriptor.
pub struct SocketWire {
    socket: UnixDatagram,
    config: SocketConfig,
    port: RefCell<Option<Port>>,
    waiting: RefCell<VecDeque<Frame>>,
    retrying: Cell<bool>,
    scratch: RefCell<Vec<u8>>,
    counters: Cell<SocketCounters>,
    this: Weak<SocketWire>,
}

impl SocketWire {
    /// Binds the socket and connects it to a port of the switch.
    ///
    /// # Errors
    /// If the socket cannot be bound to its path: `AddrInUse` if some process has it open.
    pub(crate) fn new(switch: &Switch, name: &str, config: SocketConfig) -> io::Result<Rc<Self>> {
        if fs::symlink_metadata(&config.local).is_ok_and(|m| m.file_type().is_socket()) {
            // Nobody can be reached at a socket that was left behind.
            if UnixDatagram::unbound()?.connect(&config.local).is_ok() {
                return Err(ErrorKind::AddrInUse.into());
            }
            fs::remove_file(&config.local)?;
        }
        let socket = UnixDatagram::bind(&config.local)?;
        socket.set_nonblocking(true)?;
        let wire = Rc::new_cyclic(|this| SocketWire {
            socket,
            config,
            port: RefCell::default(),
            waiting: RefCell::default(),
            retrying: Cell::new(false),
            scratch: RefCell::new(vec![0; LONGEST]),
            counters: Cell::default(),
            this: Weak::clone(this),
        });
        let endpoint: Weak<SocketWire> = Rc::downgrade(&wire);
        *wire.port.borrow_mut() = Some(switch.connect(name, endpoint));
        Ok(wire)
    }

    /// The descriptor to wait on for frames from the peer.
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// What has passed.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        self.counters.get()
    }

    /// The switch port.
    #[must_use]
    pub fn port(&self) -> Option<Port> {
        self.port.borrow().clone()
    }

    fn count(&self, f: impl FnOnce(&mut SocketCounters)) {
        let mut counters = self.counters.get();
        f(&mut counters);
        self.counters.set(counters);
    }

    /// Takes the frames that have come from the peer into the switch, without waiting. Returns how many.
    pub fn poll(&self) -> usize {
        let Some(port) = self.port() else {
            return 0;
        };
        for taken in 0..BATCH {
            let frame = {
                let mut scratch = self.scratch.borrow_mut();
                match self.socket.recv(&mut scratch) {
                    Ok(length) => Frame::from(&scratch[..length]),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    // Nothing there; or an error that sending will meet again.
                    Err(_) => return taken,
                }
            };
            self.count(|c| c.received += 1);
            port.send(frame);
        }
        BATCH
    }

    /// Offers a frame to the peer. False if its queue is full.
    fn offer(&self, frame: &Frame) -> bool {
        loop {
            match self.socket.send_to(frame, &self.config.remote) {
                Ok(_) => {
                    self.count(|c| c.sent += 1);
                    return true;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => return false,
                    // ENOBUFS has no kind of its own.
                    _ if error.raw_os_error() == Some(libc::ENOBUFS) => return false,
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                        self.count(|c| c.no_peer += 1);
                        return true;
                    }
                    _ => {
                        self.count(|c| c.errors += 1);
                        return true;
                    }
                },
            }
        }
    }

    fn retry_later(&self) {
        if self.retrying.replace(true) {
            return;
        }
        let core = context::core();
        let this = Weak::clone(&self.this);
        core.schedule(core.now().saturating_add(RETRY), move || {
            if let Some(wire) = this.upgrade() {
                wire.retrying.set(false);
                wire.send_waiting();
            }
        });
    }

    fn send_waiting(&self) {
        loop {
            let Some(frame) = self.waiting.borrow_mut().pop_front() else {
                return;
            };
            if !self.offer(&frame) {
                self.waiting.borrow_mut().push_front(frame);
                self.retry_later();
                return;
            }
        }
    }
}

impl Endpoint for SocketWire {
    fn deliver(&self, frame: Frame) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            drop(waiting);
            if self.offer(&frame) {
                return;
            }
            waiting = self.waiting.borrow_mut();
        }
        if waiting.len() < self.config.backlog {
            waiting.push_back(frame);
            drop(waiting);
            self.retry_later();
        } else {
            drop(waiting);
            self.count(|c| c.backlog_full += 1);
        }
    }
}

impl SocketWire {
    /// Gives the peer what waits for it, as long as it takes some within [`PARTING`].
    fn send_rest(&mut self) -> io::Result<()> {
        let waiting = self.waiting.get_mut();
        if !waiting.is_empty() {
            self.socket.set_nonblocking(false)?;
            self.socket.set_write_timeout(Some(PARTING))?;
        }
        while let Some(frame) = waiting.pop_front() {
            self.socket.send_to(&frame, &self.config.remote)?;
        }
        Ok(())
    }
}

impl Drop for SocketWire {
    fn drop(&mut self) {
        // What has left a machine arrives, whatever becomes of the machine. A peer that is gone or stuck gets no more.
        let _ = self.send_rest();
        // Best effort: somebody else may have removed it.
        let _ = fs::remove_file(&self.config.local);
    }
}

impl std::fmt::Debug for SocketWire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketWire")
            .field("config", &self.config)
            .field("counters", &self.counters.get())
            .finish_non_exhaustive()
    }
}
