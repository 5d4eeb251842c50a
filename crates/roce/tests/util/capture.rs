//! Captured conversations of Linux soft-RoCE peers, and frames made after them.

use arrayvec::ArrayVec;
use pcap_file::pcap::PcapReader;
use roce::Path;
use roce::wire::cm_msg::Message;
use roce::wire::frame::{Header, MAX_HEADER, pad_of};
use roce::wire::{Bth, ExtHeaders, Packet, mad};

/// The RoCE frames of a capture.
pub fn roce_frames(pcap: &'static [u8]) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(pcap).unwrap();
    let mut out = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let bytes = packet.unwrap().data.into_owned();
        if Packet::parse(&bytes).is_ok() {
            out.push(bytes);
        }
    }
    out
}

/// The message of the connection manager in a frame, with its transaction ID.
pub fn message(frame: &[u8]) -> Option<(u64, Message)> {
    let packet = Packet::parse(frame).unwrap();
    let (header, message) = Message::parse(mad::of_packet(&packet)?).unwrap();
    Some((header.transaction_id, message))
}

/// A frame with these headers; lengths and checksums follow.
pub fn frame(path: &Path, src_port: u16, bth: Bth, ext: ExtHeaders, payload: &[u8]) -> Vec<u8> {
    let mut header = ArrayVec::<u8, MAX_HEADER>::new();
    let mut icrc = Header::new(path, src_port, bth, ext)
        .write(payload.len(), &mut header)
        .unwrap();
    icrc.update(payload);
    [&header[..], payload, &icrc.trailer(pad_of(payload.len()))].concat()
}
