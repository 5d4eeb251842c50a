//! The pcapng format, as much of it as a recording of a switch needs
//! (draft-ietf-opsawg-pcapng: section header, interface descriptions, enhanced packets).

use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;

/// Which way a frame went, as seen from what sits at the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by it.
    Inbound,
    /// Sent by it.
    Outbound,
}

/// Writes blocks.
pub(super) struct Writer<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins the file: section header with a comment.
    pub(super) fn new(out: W, comment: &str) -> io::Result<Self> {
        let mut writer = Writer {
            out,
            block: Vec::new(),
        };
        writer.begin(SECTION_HEADER);
        writer.put32(BYTE_ORDER);
        writer.put16(1);
        writer.put16(0);
        // Length of the section: not known.
        writer.block.extend_from_slice(&u64::MAX.to_le_bytes());
        writer.option(OPT_COMMENT, comment.as_bytes());
        writer.option(SHB_USERAPPL, b"ntsim");
        writer.end_options();
        writer.end()?;
        Ok(writer)
    }

    /// Adds an Ethernet interface with timestamps in nanoseconds. Interfaces count from 0.
    pub(super) fn interface(&mut self, name: &str) -> io::Result<()> {
        self.begin(INTERFACE);
        self.put16(LINKTYPE_ETHERNET);
        self.put16(0);
        // No limit to the length of packets.
        self.put32(0);
        self.option(IF_NAME, name.as_bytes());
        self.option(IF_TSRESOL, &[9]);
        self.end_options();
        self.end()
    }

    /// Adds a packet. `time` in nanoseconds.
    pub(super) fn packet(
        &mut self,
        interface: u32,
        time: u64,
        direction: Direction,
        frame: &[u8],
        comments: &[String],
    ) -> io::Result<()> {
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        self.begin(ENHANCED_PACKET);
        self.put32(interface);
        self.put32((time >> 32) as u32);
        self.put32(time as u32);
        self.put32(length);
        self.put32(length);
        self.block.extend_from_slice(frame);
        self.pad();
        let flags: u32 = match direction {
            Direction::Inbound => 1,
            Direction::Outbound => 2,
        };
        self.option(EPB_FLAGS, &flags.to_le_bytes());
        for comment in comments {
            self.option(OPT_COMMENT, comment.as_bytes());
        }
        self.end_options();
        self.end()
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn put16(&mut self, value: u16) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, value: u32) {
        self.block.extend_from_slice(&value.to_le_bytes());
    }

    fn pad(&mut self) {
        let length = self.block.len().next_multiple_of(4);
        self.block.resize(length, 0);
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.put16(code);
        self.put16(value.len() as u16);
        self.block.extend_from_slice(value);
        self.pad();
    }

    fn end_options(&mut self) {
        self.put32(0);
    }

    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.put32(kind);
        self.put32(0);
    }

    /// Fills in the length at both ends and writes the block.
    fn end(&mut self) -> io::Result<()> {
        let length = u32::try_from(self.block.len() + 4)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.put32(length);
        self.block[4..8].copy_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.block)
    }
}
