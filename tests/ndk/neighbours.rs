//! Address resolution: who asks for an address of a machine is answered, whatever the connections of its adapter are doing.

use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use ndkpi::status::STATUS_SUCCESS;
use ntsim::wire::{Endpoint, Frame, Port};

use crate::lab::Lab;
use crate::story::Story;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0, 7, 7];
/// The last octet of its addresses.
const US: u8 = 77;

/// A host on the same wire that only asks for addresses.
#[derive(Default)]
struct Asker {
    /// What was sent to it alone.
    heard: RefCell<Vec<Vec<u8>>>,
    port: OnceCell<Port>,
}

impl Endpoint for Asker {
    fn deliver(&self, frame: Frame) {
        if frame[..6] == MAC {
            self.heard.borrow_mut().push(frame[..].to_vec());
        }
    }
}

/// The MAC address of machine 1 or 2.
fn mac(host: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, host]
}

fn v6(host: u8) -> [u8; 16] {
    let mut address = [0; 16];
    (address[0], address[15]) = (0xfd, host);
    address
}

/// An ARP request for 10.0.0.`host` (RFC 826).
fn arp_request(host: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(MAC);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(MAC);
    frame.extend([10, 0, 0, US, 0, 0, 0, 0, 0, 0, 10, 0, 0, host]);
    frame.resize(60, 0);
    frame
}

/// A neighbour solicitation for fd00::`host` (RFC 4861).
fn solicitation(host: u8) -> Vec<u8> {
    let mut group = [0; 16];
    (group[0], group[1], group[11], group[12]) = (0xff, 2, 1, 0xff);
    group[15] = host;
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(v6(host));
    message.extend([1, 1]);
    message.extend(MAC);
    let summed = [&v6(US)[..], &group, &[0, 32, 0, 58], &message].concat();
    let words = summed
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
    let sum = words.sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0xff, 0, 0, host];
    frame.extend(MAC);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(v6(US));
    frame.extend(group);
    frame.extend(message);
    frame
}

impl Asker {
    fn on(lab: &Lab) -> Rc<Asker> {
        let asker = Rc::new(Asker::default());
        let endpoint: Rc<dyn Endpoint> = asker.clone();
        let endpoint: Weak<dyn Endpoint> = Rc::downgrade(&endpoint);
        let _ = asker.port.set(lab.net.connect("asker", endpoint));
        asker
    }

    /// Asks for every address of both machines: each is answered once, by its owner. Everybody is asked, and then, as who knew the answer
    /// and doubts it does, the owner alone.
    fn asks(&self, lab: &mut Lab, when: &str) {
        let port = self.port.get().expect("connected");
        for host in [1, 2] {
            let all = [(arp_request(host), false), (solicitation(host), true)];
            let alone = all.clone().map(|(mut request, six)| {
                request[..6].copy_from_slice(&mac(host));
                (request, six)
            });
            for (request, six) in all.into_iter().chain(alone) {
                self.heard.borrow_mut().clear();
                port.send(Frame::from(request.as_slice()));
                lab.world.run_for(Duration::from_millis(1));
                let heard = self.heard.borrow();
                let [answer] = &heard[..] else {
                    panic!("{when}: {} answers of {host}, IPv6 {six}", heard.len());
                };
                assert_eq!(answer[6..12], mac(host), "{when}");
                if six {
                    assert_eq!((answer[20], answer[54]), (58, 136), "{when}");
                    assert_eq!(answer[62..78], v6(host), "{when}");
                    assert_eq!(answer[80..86], mac(host), "{when}");
                } else {
                    assert_eq!(answer[12..14], [8, 6], "{when}");
                    assert_eq!(answer[20..22], [0, 2], "{when}");
                    assert_eq!(answer[22..28], mac(host), "{when}");
                    assert_eq!(answer[28..32], [10, 0, 0, host], "{when}");
                }
            }
        }
    }
}

#[test]
fn r097_every_address_is_answered_for_before_and_during_a_connection() {
    let mut lab = Lab::new();
    let asker = Asker::on(&lab);
    asker.asks(&mut lab, "before");
    let mut s = Story::begin_in(lab);
    asker.asks(&mut s.lab, "connected");
    s.catch_write();
    asker.asks(&mut s.lab, "in mid-transfer");
    s.let_through();
    assert_eq!(s.outcome().1, STATUS_SUCCESS);
    asker.asks(&mut s.lab, "afterwards");
    s.end();
}
