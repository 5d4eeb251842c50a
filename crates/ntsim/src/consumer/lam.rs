//! Logical address mappings: a buffer's pages as the adapter knows them.

use super::pending::{Pending, on_request};
use super::{Adapter, Buffer, Result, calling};
use ndkpi::status::STATUS_BUFFER_TOO_SMALL;
use ndkpi::{NDK_LOGICAL_ADDRESS, NDK_LOGICAL_ADDRESS_MAPPING};
use std::mem::offset_of;
use std::ptr::null_mut;

const HEAD: usize = offset_of!(NDK_LOGICAL_ADDRESS_MAPPING, AdapterPageArray);

/// The mapping of a buffer. Must be released.
pub struct Lam {
    /// The mapping, in words because it must be aligned.
    memory: Vec<u64>,
    first_byte: u32,
}

impl Lam {
    /// NdkBuildLAM of the first `length` bytes of a buffer: asks for the size, then maps, waiting. PASSIVE_LEVEL.
    pub fn build(adapter: &Adapter, buffer: &Buffer, length: usize) -> Result<Lam> {
        let mut lam = Lam {
            memory: Vec::new(),
            first_byte: 0,
        };
        let mut size = 0;
        match lam.ask(adapter, buffer, length, &mut size) {
            Err(STATUS_BUFFER_TOO_SMALL) => {}
            Err(status) => return Err(status),
            Ok(()) => return Ok(lam),
        }
        lam.memory = vec![0; (size as usize).div_ceil(size_of::<u64>())];
        lam.ask(adapter, buffer, length, &mut size)?;
        Ok(lam)
    }

    fn ask(
        &mut self,
        adapter: &Adapter,
        buffer: &Buffer,
        length: usize,
        size: &mut u32,
    ) -> Result<()> {
        let memory = if self.memory.is_empty() {
            null_mut()
        } else {
            self.memory.as_mut_ptr().cast()
        };
        Pending::start(|context| {
            // SAFETY: an open adapter, the buffer's MDL, and a mapping buffer of the size that is passed.
            unsafe {
                (calling(adapter.table()).NdkBuildLAM)(
                    adapter.raw(),
                    buffer.mdl().cast(),
                    length,
                    Some(on_request),
                    context,
                    memory,
                    size,
                    &raw mut self.first_byte,
                )
            }
        })
        .wait_here()
    }

    /// Offset of the first byte in the first page.
    #[must_use]
    pub fn first_byte(&self) -> u32 {
        self.first_byte
    }

    /// The logical address of each page.
    #[must_use]
    pub fn pages(&self) -> &[NDK_LOGICAL_ADDRESS] {
        let head = self.memory.as_ptr().cast::<NDK_LOGICAL_ADDRESS_MAPPING>();
        // SAFETY: a successful build has filled the head, and as many addresses behind it as the head says.
        unsafe {
            let count = (*head).AdapterPageCount as usize;
            let pages = self.memory.as_ptr().cast::<u8>().add(HEAD).cast();
            std::slice::from_raw_parts(pages, count)
        }
    }

    /// NdkReleaseLAM.
    pub fn release(mut self, adapter: &Adapter) {
        // SAFETY: an open adapter, and a mapping of its own that no request uses any more, as the caller sees to.
        unsafe {
            (calling(adapter.table()).NdkReleaseLAM)(
                adapter.raw(),
                self.memory.as_mut_ptr().cast(),
            );
        }
    }
}
