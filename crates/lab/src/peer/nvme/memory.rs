//! Memory for the data of one command at a time, which the controller reaches by a fast registration.

use super::wire::{Direction, Sgl};
use crate::side::Side;
use ndkpi::{
    NDK_OP_FLAG_ALLOW_LOCAL_WRITE, NDK_OP_FLAG_ALLOW_REMOTE_READ, NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
    NDK_OP_FLAG_DEFER,
};
use ntsim::ndk::{Buffer, Lam, Mr, Result};
use std::ops::Range;

const PAGE: usize = 4096;

/// What memory holds that nothing was written to.
const SENTINEL: u8 = 0xA5;

/// A mapped buffer, and a region to register parts of it.
pub struct Memory {
    buffer: Buffer,
    lam: Lam,
    mr: Mr,
    /// Where the data of the command in progress is.
    part: Range<usize>,
    /// Commands so far; each has its data at another offset and gives the controller other addresses.
    uses: u64,
}

impl Memory {
    /// For data of `bytes` at most. PASSIVE_LEVEL.
    pub fn new(side: &Side, bytes: usize) -> Result<Memory> {
        let buffer = Buffer::new(bytes + PAGE)?;
        let lam = Lam::build(&side.adapter, &buffer, buffer.len())?;
        let mr = side.pd().create_fast_mr()?;
        let pages = (bytes + PAGE).div_ceil(PAGE);
        mr.initialize(u32::try_from(pages).unwrap_or(u32::MAX), true)?;
        Ok(Memory {
            buffer,
            lam,
            mr,
            part: 0..0,
            uses: 0,
        })
    }

    /// Chooses the place of the next command's `length` bytes, and returns it, holding nothing.
    pub fn prepare(&mut self, length: usize) -> &mut [u8] {
        self.uses += 1;
        // Any step that is no divisor of a page leads to many offsets.
        let start = (self.uses as usize * 52) % PAGE;
        self.part = start..start + length;
        self.buffer.bytes_mut().fill(SENTINEL);
        &mut self.buffer.bytes_mut()[self.part.clone()]
    }

    /// The data of the command.
    pub fn data(&self) -> &[u8] {
        &self.buffer.bytes()[self.part.clone()]
    }

    /// Whether the memory around the data is as it was.
    pub fn surroundings_untouched(&self) -> bool {
        let bytes = self.buffer.bytes();
        let around = bytes[..self.part.start]
            .iter()
            .chain(&bytes[self.part.end..]);
        around.copied().all(|byte| byte == SENTINEL)
    }

    /// Posts the registration of the data, to take effect before whatever is posted next. Returns the descriptor to send, which asks
    /// for its end if `invalidate` is set.
    pub fn register(
        &self,
        side: &Side,
        context: u64,
        direction: Direction,
        invalidate: bool,
    ) -> Result<Sgl> {
        let rights = match direction {
            Direction::Write => NDK_OP_FLAG_ALLOW_REMOTE_READ,
            Direction::Read => NDK_OP_FLAG_ALLOW_LOCAL_WRITE | NDK_OP_FLAG_ALLOW_REMOTE_WRITE,
        };
        let start = self.lam.first_byte() as usize + self.part.start;
        let (first_page, first_byte) = (start / PAGE, start % PAGE);
        let pages = (first_byte + self.part.len()).div_ceil(PAGE);
        let base = self.uses << 32 | first_byte as u64;
        side.queues.qp.fast_register(
            context,
            &self.mr,
            &self.lam.pages()[first_page..][..pages],
            u32::try_from(first_byte).unwrap_or(u32::MAX),
            self.part.len(),
            base,
            rights | NDK_OP_FLAG_DEFER,
        )?;
        Ok(Sgl::Keyed {
            address: base,
            length: u32::try_from(self.part.len()).unwrap_or(u32::MAX),
            key: self.mr.remote_token(),
            invalidate,
        })
    }

    /// Posts the end of the registration.
    pub fn invalidate(&self, side: &Side, context: u64) -> Result<()> {
        side.queues.qp.invalidate(context, &self.mr, 0)
    }

    /// Gives everything back; nothing is registered. PASSIVE_LEVEL.
    pub fn close(self, side: &Side) {
        self.mr.close();
        self.lam.release(&side.adapter);
        self.buffer.free();
    }
}
