//! Ethernet frames in buffers that are used again.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Room in front of every frame, for the header that a device's interface puts before it.
const HEADROOM: usize = 16;
/// Buffers kept for use again, per thread.
const KEPT: usize = 4096;
/// Larger buffers are not kept.
const LARGEST_KEPT: usize = 16 << 10;

thread_local! {
    static POOL: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room for so many bytes.
fn buffer(capacity: usize) -> Vec<u8> {
    let mut buffer = POOL
        .try_with(|pool| pool.borrow_mut().pop())
        .ok()
        .flatten()
        .unwrap_or_default();
    buffer.reserve(capacity);
    buffer
}

/// An Ethernet frame, from the destination address to the end of the payload, without FCS.
pub struct Frame {
    /// `HEADROOM` bytes, then the frame.
    buffer: Vec<u8>,
}

impl Frame {
    /// An empty frame with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Frame {
        let mut buffer = buffer(HEADROOM + capacity);
        buffer.resize(HEADROOM, 0);
        Frame { buffer }
    }

    /// Adds bytes at the end.
    #[inline]
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Makes it that long: cut off, or filled up with zeros.
    pub fn resize(&mut self, length: usize) {
        self.buffer.resize(HEADROOM + length, 0);
    }

    /// The frame preceded by a header, in one piece.
    pub(crate) fn with_header<const N: usize>(&mut self, header: &[u8; N]) -> &[u8] {
        const { assert!(N <= HEADROOM) };
        let start = HEADROOM - N;
        self.buffer[start..HEADROOM].copy_from_slice(header);
        &self.buffer[start..]
    }

    /// Destination address; zero if the frame is too short to have one.
    #[must_use]
    pub fn destination(&self) -> [u8; 6] {
        self.address(0)
    }

    /// Source address; zero if the frame is too short to have one.
    #[must_use]
    pub fn source(&self) -> [u8; 6] {
        self.address(6)
    }

    fn address(&self, at: usize) -> [u8; 6] {
        self.get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default()
    }
}

impl From<&[u8]> for Frame {
    fn from(bytes: &[u8]) -> Frame {
        let mut frame = Frame::with_capacity(bytes.len());
        frame.extend(bytes);
        frame
    }
}

impl Clone for Frame {
    fn clone(&self) -> Frame {
        Frame::from(&**self)
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[HEADROOM..]
    }
}

impl DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[HEADROOM..]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({} bytes: {:02x?})", self.len(), &**self)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() == 0 || buffer.capacity() > LARGEST_KEPT {
            return;
        }
        // At the end of a thread the pool may be gone: then the buffer goes too.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < KEPT {
                buffer.clear();
                pool.push(std::mem::take(&mut buffer));
            }
        });
    }
}

/// Gathers an `N` byte header and a frame from pieces, copying each byte once.
pub(crate) struct Gather<const N: usize> {
    /// Becomes the frame's buffer; the header lies at the end of the headroom.
    buffer: Vec<u8>,
}

impl<const N: usize> Gather<N> {
    /// Nothing yet; room for a frame of `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        const { assert!(N <= HEADROOM) };
        let mut buffer = buffer(HEADROOM + capacity);
        buffer.resize(HEADROOM - N, 0);
        Gather { buffer }
    }

    /// Adds a piece.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The header and the frame; None if not even the header is complete.
    pub(crate) fn finish(self) -> Option<([u8; N], Frame)> {
        let header = *self.buffer[HEADROOM - N..].first_chunk()?;
        Some((
            header,
            Frame {
                buffer: self.buffer,
            },
        ))
    }
}
