//! NFS version 4.0 over RPC-over-RDMA version 1, as much as a client needs that reads and writes one file: RFC 8166 for the header
//! that says where bulk data is, RFC 5531 for the call, RFC 7530 for what is called.

use anyhow::{Context, Result, bail, ensure};

/// What the connection request says (RFC 8797): version 1, no remote invalidation, messages of 4 KiB in both directions.
pub const PRIVATE_DATA: [u8; 8] = [0xF6, 0xAB, 0x0E, 0x18, 1, 0, 3, 3];

/// Bytes of a message in either direction.
pub const MESSAGE: usize = 4096;

/// The server checks nothing but that it is one of its versions, and answers for as many calls as it likes.
const CREDITS: u32 = 16;

const OP_LOOKUP: u32 = 15;
const OP_PUTROOTFH: u32 = 24;
const OP_READ: u32 = 25;
const OP_WRITE: u32 = 38;

/// A piece of our memory that the server may read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Token of the registration.
    pub key: u32,
    /// Bytes.
    pub length: u32,
    /// Virtual address.
    pub address: u64,
}

/// What is called.
#[derive(Clone, Copy, Debug)]
pub enum Call<'a> {
    /// Nothing.
    Null,
    /// Bytes of a file in the root folder, from `offset`, which the server writes into the segment.
    Read(&'a str, u64, Segment),
    /// Bytes of the segment, which the server reads and puts into a file from `offset`.
    Write(&'a str, u64, Segment),
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_be_bytes());
}

fn opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    word(out, bytes.len() as u32);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn segment(out: &mut Vec<u8>, segment: Segment) {
    word(out, segment.key);
    word(out, segment.length);
    out.extend(segment.address.to_be_bytes());
}

impl Call<'_> {
    /// The message, header included.
    pub fn to_bytes(self, xid: u32) -> Vec<u8> {
        let call = self.rpc(xid);
        let mut out = Vec::new();
        // Version 1, RDMA_MSG: the call follows, save for what is in chunks.
        for value in [xid, 1, CREDITS, 0] {
            word(&mut out, value);
        }
        // The list of what to read, which belongs behind the call; the list of what to write; no place for a long reply.
        if let Call::Write(_, _, data) = self {
            word(&mut out, 1);
            word(&mut out, call.len() as u32);
            segment(&mut out, data);
        }
        word(&mut out, 0);
        if let Call::Read(_, _, sink) = self {
            word(&mut out, 1);
            word(&mut out, 1);
            segment(&mut out, sink);
        }
        word(&mut out, 0);
        word(&mut out, 0);
        out.extend(call);
        out
    }

    fn rpc(self, xid: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let compound = !matches!(self, Call::Null);
        // A call of RPC version 2 to NFS version 4, NULL or COMPOUND; no credentials, no verifier.
        for value in [xid, 0, 2, 100_003, 4, u32::from(compound), 0, 0, 0, 0] {
            word(&mut out, value);
        }
        let (Call::Read(file, offset, data) | Call::Write(file, offset, data)) = self else {
            return out;
        };
        // No tag, minor version 0, three operations.
        for value in [0, 0, 3, OP_PUTROOTFH, OP_LOOKUP] {
            word(&mut out, value);
        }
        opaque(&mut out, file.as_bytes());
        if let Call::Read(..) = self {
            word(&mut out, OP_READ);
            // Without having opened it, past whatever others have locked.
            out.extend([0xFF; 16]);
            out.extend(offset.to_be_bytes());
        } else {
            word(&mut out, OP_WRITE);
            out.extend([0; 16]);
            out.extend(offset.to_be_bytes());
            // FILE_SYNC4
            word(&mut out, 2);
        }
        word(&mut out, data.length);
        out
    }

    /// Checks a reply to this call.
    pub fn check(self, reply: &Reply<'_>) -> Result<()> {
        let mut words = Words(reply.body);
        let (last, length) = match self {
            Call::Null => {
                ensure!(reply.body.is_empty(), "NULL has a result");
                return Ok(());
            }
            Call::Read(_, _, sink) => (OP_READ, sink.length),
            Call::Write(_, _, data) => (OP_WRITE, data.length),
        };
        let status = words.next()?;
        words.opaque()?;
        ensure!(
            status == 0,
            "NFS status {status} after {} operations",
            words.next()?
        );
        ensure!(words.next()? == 3, "not three results");
        for expected in [OP_PUTROOTFH, OP_LOOKUP, last] {
            let (operation, status) = (words.next()?, words.next()?);
            ensure!(
                (operation, status) == (expected, 0),
                "operation {operation} instead of {expected}, status {status}"
            );
        }
        if last == OP_READ {
            words.next()?;
        }
        let moved = words.next()?;
        ensure!(moved == length, "{moved} bytes instead of {length}");
        let written = if last == OP_READ { Some(length) } else { None };
        ensure!(
            reply.written == written,
            "the server says that it wrote {:?} bytes into our memory instead of {written:?}",
            reply.written
        );
        Ok(())
    }
}

/// A reply of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Of the call.
    pub xid: u32,
    /// How many bytes the server has written into the segment it was given.
    pub written: Option<u32>,
    /// The result.
    body: &'a [u8],
}

impl Reply<'_> {
    /// From a received message: the call must have been accepted.
    pub fn from_bytes(bytes: &[u8]) -> Result<Reply<'_>> {
        let mut words = Words(bytes);
        let xid = words.next()?;
        ensure!(words.next()? == 1, "not version 1 of RPC-over-RDMA");
        ensure!(words.next()? > 0, "the server grants no credit");
        let kind = words.next()?;
        if kind != 0 {
            bail!("message of kind {kind} instead of RDMA_MSG: {:?}", words.0);
        }
        ensure!(words.next()? == 0, "a reply asks us to read");
        let mut written = None;
        if words.next()? == 1 {
            let mut sum = 0;
            for _ in 0..words.next()? {
                words.next()?;
                sum += words.next()?;
                words.next()?;
                words.next()?;
            }
            written = Some(sum);
            ensure!(words.next()? == 0, "more than one chunk was written");
        }
        ensure!(words.next()? == 0, "a long reply was not asked for");
        ensure!(words.next()? == xid, "two transaction numbers");
        ensure!(words.next()? == 1, "not a reply");
        ensure!(words.next()? == 0, "the call was denied");
        words.next()?;
        words.opaque()?;
        let status = words.next()?;
        ensure!(status == 0, "the call was not accepted: {status}");
        Ok(Reply {
            xid,
            written,
            body: words.0,
        })
    }
}

/// What is left to be read of a message.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next(&mut self) -> Result<u32> {
        let (word, rest) = self
            .0
            .split_first_chunk()
            .context("the message ends early")?;
        self.0 = rest;
        Ok(u32::from_be_bytes(*word))
    }

    fn opaque(&mut self) -> Result<()> {
        let length = self.next()? as usize;
        self.0 = self
            .0
            .get(length.next_multiple_of(4)..)
            .context("the message ends early")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: Segment = Segment {
        key: 0x0102_0304,
        length: 4096,
        address: 0x1122_3344_5566_7788,
    };

    fn words(bytes: &[u8]) -> Vec<u32> {
        let mut words = Words(bytes);
        std::iter::from_fn(|| words.next().ok()).collect()
    }

    /// RFC 8166, section 3.4.5: a read chunk has the position in the call where its data belongs.
    #[test]
    fn what_is_written_belongs_at_the_end_of_the_call() {
        let message = words(&Call::Write("in", 65_536, DATA).to_bytes(7));
        let header = [7, 1, 16, 0];
        let list = [1, 104, 0x0102_0304, 4096, 0x1122_3344, 0x5566_7788, 0, 0, 0];
        assert_eq!(message[..4], header);
        assert_eq!(message[4..13], list);
        assert_eq!(message[13..].len() * 4, 104);
        assert_eq!(message[13..23], [7, 0, 2, 100_003, 4, 1, 0, 0, 0, 0]);
        assert_eq!(message[23..30], [0, 0, 3, 24, 15, 2, 0x696E_0000]);
        assert_eq!(message[30..], [38, 0, 0, 0, 0, 0, 65_536, 2, 4096][..]);
    }

    #[test]
    fn a_reply_must_say_that_all_was_moved() {
        let reply = |status: u32, moved: u32, chunk: u32| {
            let mut out = Vec::new();
            for value in [
                9,
                1,
                32,
                0,
                0,
                1,
                1,
                0x0102_0304,
                chunk,
                0x1122_3344,
                0x5566_7788,
                0,
                0,
            ] {
                word(&mut out, value);
            }
            for value in [9, 1, 0, 0, 0, 0] {
                word(&mut out, value);
            }
            for value in [status, 0, 3, 24, 0, 15, 0, 25, status, 1, moved] {
                word(&mut out, value);
            }
            out
        };
        let check = |bytes: &[u8]| {
            let reply = Reply::from_bytes(bytes)?;
            assert_eq!(reply.xid, 9);
            Call::Read("out", 0, DATA).check(&reply)
        };
        assert!(check(&reply(0, 4096, 4096)).is_ok());
        assert!(check(&reply(0, 4092, 4096)).is_err());
        assert!(check(&reply(0, 4096, 4092)).is_err());
        assert!(check(&reply(10, 4096, 4096)).is_err());
        let whole = reply(0, 4096, 4096);
        for cut in 0..whole.len() {
            assert!(check(&whole[..cut]).is_err(), "{cut}");
        }
    }
}
