//! Recordings of what passes a switch.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::rc::Rc;

use super::pcapng::{Direction, Writer};

/// What is recorded.
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptureConfig {
    /// Every delivery too, on the receiver's interface. Otherwise a frame is recorded once, where it was sent, with
    /// comments on what happened to it (lost, held back, ...), and once more only if a changed frame was delivered.
    pub deliveries: bool,
}

/// A pcapng file being written: one interface per port, timestamps of the world's clock in nanoseconds.
///
/// Cheap to clone; several switches may write to the same one. A write error (a full disk) ends the recording, not the
/// simulation; [`Capture::flush`] tells it then and whenever it is called later.
#[derive(Clone)]
pub struct Capture(Rc<Inner>);

/// The kind and the text of the error that ended a recording.
type WhyEnded = (io::ErrorKind, String);

struct Inner {
    config: CaptureConfig,
    /// Or why there is none any more.
    writer: RefCell<Result<Writer<Box<dyn Write>>, WhyEnded>>,
    interfaces: RefCell<u32>,
    memory: Option<Rc<RefCell<Vec<u8>>>>,
}

/// A sink in memory.
pub(crate) struct Shared(pub(crate) Rc<RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Capture {
    /// Records to a file. The comment goes into its header.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn to_file(path: &Path, comment: &str, config: CaptureConfig) -> io::Result<Capture> {
        let out = BufWriter::with_capacity(256 << 10, File::create(path)?);
        Capture::new(Box::new(out), None, comment, config)
    }

    /// Records to memory: see [`Capture::bytes`].
    ///
    /// # Errors
    /// None in practice.
    pub fn to_memory(comment: &str, config: CaptureConfig) -> io::Result<Capture> {
        let memory = Rc::new(RefCell::new(Vec::new()));
        let out = Box::new(Shared(Rc::clone(&memory)));
        Capture::new(out, Some(memory), comment, config)
    }

    fn new(
        out: Box<dyn Write>,
        memory: Option<Rc<RefCell<Vec<u8>>>>,
        comment: &str,
        config: CaptureConfig,
    ) -> io::Result<Capture> {
        Ok(Capture(Rc::new(Inner {
            config,
            writer: RefCell::new(Ok(Writer::new(out, comment)?)),
            interfaces: RefCell::new(0),
            memory,
        })))
    }

    /// What was recorded so far, if to memory.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        self.0
            .memory
            .as_ref()
            .map_or_else(Vec::new, |memory| memory.borrow().clone())
    }

    /// Has everything recorded so far written out.
    ///
    /// # Errors
    /// If it cannot be written, or something recorded before could not.
    pub fn flush(&self) -> io::Result<()> {
        self.write(Writer::flush);
        match &*self.0.writer.borrow() {
            Ok(_) => Ok(()),
            Err((kind, text)) => Err(io::Error::new(*kind, text.clone())),
        }
    }

    pub(super) fn deliveries(&self) -> bool {
        self.0.config.deliveries
    }

    /// Adds an interface and returns its number.
    pub(super) fn interface(&self, name: &str) -> u32 {
        self.write(|writer| writer.interface(name));
        let mut interfaces = self.0.interfaces.borrow_mut();
        *interfaces += 1;
        *interfaces - 1
    }

    pub(super) fn frame(
        &self,
        interface: u32,
        time: u64,
        direction: Direction,
        frame: &[u8],
        comments: &[String],
    ) {
        self.write(|writer| writer.packet(interface, time, direction, frame, comments));
    }

    fn write(&self, f: impl FnOnce(&mut Writer<Box<dyn Write>>) -> io::Result<()>) {
        let mut writer = self.0.writer.borrow_mut();
        if let Ok(open) = &mut *writer
            && let Err(error) = f(open)
        {
            *writer = Err((error.kind(), error.to_string()));
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("interfaces", &self.0.interfaces)
            .finish_non_exhaustive()
    }
}
