//! Private data of connections: what a consumer gave at one end is what the consumer at the other end gets.
//!
//! Where both ends of a connection are consumers in this world, both pass here. Which connector belongs to which at the other end is not
//! said by NDKPI, so what [`judge`] is shown must be what somebody offered who may be the peer. A provider is accused only where
//! nobody did, and the peer is one that could be seen here: others come from outside, through the wire. And only where the pages say that
//! NdkGetConnectionData may be called: before this end accepts or completes, and as long as the other end stands by what it gave.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ndkpi::status::*;
use ndkpi::*;

use super::connector::NdkGetPeerAddress;
use super::hook::{Hook, into_provider};
use super::object::{Object, Part, with_layer};
use super::rules;
use crate::consumer::{Address, Status};
use crate::verifier::{place, violation};
use crate::world::driver_call::NOT_ITS_OWN;

/// What a consumer gave with a request for a connection, or with the answer to one.
struct Offer {
    /// When, in nanoseconds of the world's clock.
    at: u64,
    /// Where the request comes from, if the consumer says so. Of an answer None.
    from: Option<IpAddr>,
    /// Where the other consumer, or this one, listens. Any address and any port if zero.
    to: SocketAddr,
    data: Vec<u8>,
    over: Over,
}

/// Set when whoever gave private data goes back on it before there is a connection. What the other end is shown then, no page says.
pub(super) type Over = Rc<Cell<bool>>;

/// Offers of one direction.
#[derive(Default)]
struct Offered {
    offers: RefCell<VecDeque<Offer>>,
    /// Nothing can be said before: there were too many.
    blind_until: Cell<u64>,
}

/// All private data that consumers gave lately.
#[derive(Default)]
pub(super) struct PrivateData {
    requests: Offered,
    answers: Offered,
}

/// So long after a request or an answer its peer may first see it, in nanoseconds: longer than providers try to connect.
const LATELY: u64 = 600 * 1_000_000_000;
/// Offers remembered at most.
const MOST: usize = 4096;

impl Offered {
    fn add(&self, offer: Offer) {
        let now = offer.at;
        let mut offers = self.offers.borrow_mut();
        offers.push_back(offer);
        while let Some(first) = offers.front() {
            let lately = first.at + LATELY > now;
            if lately && offers.len() <= MOST {
                return;
            }
            if lately {
                self.blind_until.set(first.at + LATELY);
            }
            offers.pop_front();
        }
    }
}

/// The limits of private data that an adapter told its consumer: MaxCallerData and MaxCalleeData, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) caller: u32,
    pub(super) callee: u32,
}

/// Whether a listener at the first address hears of connections to the second.
fn hears(listener: SocketAddr, to: SocketAddr) -> bool {
    (listener.ip().is_unspecified() || listener.ip() == to.ip())
        && (listener.port() == 0 || listener.port() == to.port())
}

/// Whether these are the first bytes of a buffer with that data at its beginning and zeros behind; `whole` if it is the whole buffer.
fn carries(data: &[u8], shown: &[u8], whole: bool) -> bool {
    let both = data.len().min(shown.len());
    data[..both] == shown[..both]
        && shown[both..].iter().all(|byte| *byte == 0)
        && (!whole || shown.len() >= data.len())
}

/// # Safety
/// `data` is valid for `length` bytes, or the length is 0.
unsafe fn bytes(data: *const c_void, length: u32) -> Vec<u8> {
    match length {
        0 => Vec::new(),
        // SAFETY: the caller's promise.
        _ => unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length as usize) }.to_vec(),
    }
}

/// A consumer asks for a connection with private data. Where, if that is an address.
///
/// # Safety
/// As for the function of the provider, of which these are arguments; a null source is none.
pub(super) unsafe fn requested(
    source: (*const SOCKADDR, u32),
    destination: (*const SOCKADDR, u32),
    data: (*const c_void, u32),
) -> Option<(SocketAddr, Over)> {
    // SAFETY: the caller's promise.
    let (from, to, data) = unsafe {
        (
            Address::read(source.0, source.1),
            Address::read(destination.0, destination.1)?,
            bytes(data.0, data.1),
        )
    };
    let offer = Offer {
        at: place().time,
        from: from.map(|from| from.ip()).filter(|ip| !ip.is_unspecified()),
        to,
        data,
        over: Over::default(),
    };
    let over = Rc::clone(&offer.over);
    with_layer(|layer| layer.private_data.requests.add(offer));
    Some((to, over))
}

/// A consumer accepts or rejects a connection with private data.
///
/// # Safety
/// `data` is valid for `length` bytes, or the length is 0.
pub(super) unsafe fn answered(hook: &Hook, data: *const c_void, length: u32) -> Option<Over> {
    let to = heard_at(&hook.object)?;
    let offer = Offer {
        at: place().time,
        from: None,
        to,
        // SAFETY: the caller's promise.
        data: unsafe { bytes(data, length) },
        over: Over::default(),
    };
    let over = Rc::clone(&offer.over);
    with_layer(|layer| layer.private_data.answers.add(offer));
    Some(over)
}

/// A provider has answered a call that had so many bytes of private data, of which it said before how many it takes.
pub(super) fn taken(
    object: &Object,
    function: &str,
    length: u32,
    most: Option<u32>,
    status: NTSTATUS,
) {
    if status == STATUS_INVALID_BUFFER_SIZE
        && let Some(most) = most.filter(|most| length <= *most)
    {
        violation(
            rules::PRIVATE_DATA,
            format!(
                "{function} on {object} fails with {} for {length} bytes of private data; the adapter says that it takes {most}",
                Status(status)
            ),
        );
    }
}

/// Where the listener listens that a connector came from.
fn heard_at(connector: &Object) -> Option<SocketAddr> {
    let listener = |antecedent: &Rc<Object>| match &antecedent.part {
        Part::Listener(listener) => listener.address.get(),
        _ => None,
    };
    connector.antecedents().iter().find_map(listener)
}

/// Text of bytes, without the zeros at their end.
struct Bytes<'a>(&'a [u8]);

impl fmt::Display for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
        write!(f, "\"{}\"", self.0[..end.min(64)].escape_ascii())?;
        if end > 64 {
            write!(f, " and {} more", end - 64)?;
        }
        Ok(())
    }
}

/// The address of the peer, as the provider tells it.
fn peer(hook: &Hook) -> Option<IpAddr> {
    let object = &hook.object;
    let table = object.table::<NDK_CONNECTOR_DISPATCH>();
    let (mut address, mut length) = (Address::empty(), Address::capacity());
    let (connector, room) = (object.header.get().cast(), address.as_mut_ptr());
    let status = into_provider(&object.provider, &NdkGetPeerAddress, NOT_ITS_OWN, || {
        // SAFETY: the provider's table; the buffer has that length.
        unsafe { ((*table).NdkGetPeerAddress)(connector, room, &raw mut length) }
    });
    let peer = (status == STATUS_SUCCESS).then(|| address.get())??;
    Some(peer.ip())
}

/// NdkGetConnectionData has shown the consumer these bytes of private data: all, or the first ones. `connected` is where the connector
/// was connected to, if it was connected from here.
pub(super) fn judge(hook: &Hook, connected: Option<SocketAddr>, shown: &[u8], whole: bool) {
    let Some(at) = connected.or_else(|| heard_at(&hook.object)) else {
        return;
    };
    let wrong = with_layer(|layer| {
        let data = &layer.private_data;
        let offered = match connected {
            Some(_) => &data.answers,
            None => &data.requests,
        };
        if place().time < offered.blind_until.get() {
            return None;
        }
        let offers = offered.offers.borrow();
        let may_be = |offer: &&Offer| match connected {
            Some(to) => hears(offer.to, to),
            None => hears(at, offer.to),
        };
        let candidates: Vec<_> = offers.iter().filter(may_be).collect();
        let same = |o: &&Offer| o.over.get() || carries(&o.data, shown, whole);
        if candidates.iter().any(same) {
            return None;
        }
        // Of an answer it must be known that it was given there, of a request that it came from there.
        let there = |o: &&&Offer| (o.to.ip(), o.to.port()) == (at.ip(), at.port());
        let certain = candidates
            .iter()
            .rfind(|o| connected.is_none() || there(o))?;
        let from: Vec<_> = candidates.iter().filter_map(|o| o.from).collect();
        Some((Bytes(&certain.data).to_string(), from))
    });
    let Some((instead, from)) = wrong else { return };
    // The provider is asked only now, so that nothing else depends on it.
    if connected.is_none() && !peer(hook).is_some_and(|peer| from.contains(&peer)) {
        return;
    }
    violation(
        rules::PRIVATE_DATA,
        format!(
            "{} on {} shows {} in {} bytes; the consumer at the other end gave {instead}",
            hook.function.name,
            hook.object,
            Bytes(shown),
            shown.len()
        ),
    );
}
