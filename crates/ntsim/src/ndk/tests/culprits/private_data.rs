//! Private data that does not arrive as it was given.

use std::net::Ipv4Addr;

use super::*;
use crate::consumer::Address;
use crate::ndk::tests::fake_tables::ADDRESS;

/// Where the listener listens.
const PORT: u16 = 445;

fn address(of: Ipv4Addr, port: u16) -> Address {
    Address::new((of, port).into())
}

/// A listener there, and the connector of a request from a consumer with these addresses and this private data; then the connector at the
/// other end.
fn ends(
    b: &mut Bench,
    listens: Ipv4Addr,
    from: Ipv4Addr,
    data: &[u8],
) -> (*mut NDK_CONNECTOR, *mut NDK_CONNECTOR, *mut NDK_QP) {
    let told = Told::new();
    let listener = b.listener(told);
    let at = address(listens, PORT);
    let status = b.request(|context| {
        let f = table!(listener).NdkListen;
        // SAFETY: as a consumer calls.
        unsafe { f(listener, at.as_ptr(), at.len(), on_status, context) }
    });
    assert_eq!(status, STATUS_SUCCESS);
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 1);
    let connector = b.connector();
    connect(b, connector, qp, from, data);
    b.fake.incoming(thing(listener));
    b.work();
    (connector, told.object.get().cast(), qp)
}

fn connect(
    b: &mut Bench,
    connector: *mut NDK_CONNECTOR,
    qp: *mut NDK_QP,
    from: Ipv4Addr,
    data: &[u8],
) -> NTSTATUS {
    let (from, to) = (address(from, 0), address(ADDRESS.into(), PORT));
    b.request(|context| {
        let f = table!(connector).NdkConnect;
        let (bytes, length) = (data.as_ptr().cast(), data.len() as u32);
        // SAFETY: as a consumer calls.
        unsafe {
            f(
                connector,
                qp,
                from.as_ptr(),
                from.len(),
                to.as_ptr(),
                to.len(),
                1,
                1,
                bytes,
                length,
                on_status,
                context,
            )
        }
    })
}

fn accept(b: &mut Bench, connector: *mut NDK_CONNECTOR, data: &[u8]) {
    let cq = b.cq(Told::new()).unwrap();
    let pd = b.pd();
    let qp = b.qp(pd, cq, cq, 2);
    b.request(|context| {
        let f = table!(connector).NdkAccept;
        let (bytes, length) = (data.as_ptr().cast(), data.len() as u32);
        // SAFETY: as a consumer calls.
        unsafe {
            f(
                connector,
                qp,
                1,
                1,
                bytes,
                length,
                None,
                null_mut(),
                on_status,
                context,
            )
        }
    });
}

/// Asks for the private data with room for so many bytes.
fn look(b: &mut Bench, connector: *mut NDK_CONNECTOR, room: usize) {
    let mut buffer = vec![0x55_u8; room];
    let mut length = room as u32;
    b.run(|| {
        let f = table!(connector).NdkGetConnectionData;
        let (none, data) = (null_mut(), buffer.as_mut_ptr().cast());
        // SAFETY: as a consumer calls.
        unsafe { f(connector, none, none, data, &raw mut length) }
    });
}

const HERE: Ipv4Addr = Ipv4Addr::from_octets(ADDRESS);

/// The passive end looks at what the active end gave.
fn looks_at_request(b: &mut Bench) {
    let (_, incoming, _) = ends(b, HERE, HERE, b"hello");
    look(b, incoming, 56);
}

/// The active end looks at what the passive end gave.
fn looks_at_answer(b: &mut Bench) {
    let (connector, incoming, _) = ends(b, HERE, HERE, b"hello");
    accept(b, incoming, b"welcome");
    look(b, connector, 56);
}

#[test]
pub(super) fn what_the_other_end_gave() {
    use Misdeed::*;
    let rule = &[rules::PRIVATE_DATA];
    for misdeed in [
        LosesPrivateData,
        CutsPrivateData,
        LeavesRubbishBehindPrivateData,
    ] {
        for mode in [Mode::Inline, Mode::Early] {
            accused(mode, misdeed, looks_at_request, rule);
            accused(mode, misdeed, looks_at_answer, rule);
        }
    }
    for story in [looks_at_request, looks_at_answer] {
        accused(Mode::Inline, Nothing, story, &[]);
        accused(Mode::Later, Nothing, story, &[]);
    }
}

#[test]
fn a_part_is_compared_with_a_part() {
    for (misdeed, expected) in [
        (Misdeed::Nothing, &[][..]),
        (Misdeed::CutsPrivateData, &[rules::PRIVATE_DATA]),
    ] {
        let mut b = Bench::new(Mode::Inline, misdeed);
        let (_, incoming, _) = ends(&mut b, HERE, HERE, b"hello");
        look(&mut b, incoming, 4);
        assert_eq!(b.rules(), expected);
    }
}

#[test]
fn of_whom_nothing_is_known_nothing_is_said() {
    // The peer that the provider names is another than the one that asked here.
    let stranger = |b: &mut Bench| {
        let (_, incoming, _) = ends(b, HERE, Ipv4Addr::new(10, 0, 0, 7), b"hello");
        look(b, incoming, 56);
    };
    accused(Mode::Inline, Misdeed::LosesPrivateData, stranger, &[]);
    // The consumer asked for a connection to another address than that which is listened on.
    let elsewhere = |b: &mut Bench| {
        let (_, incoming, _) = ends(b, Ipv4Addr::new(10, 0, 0, 7), HERE, b"hello");
        look(b, incoming, 56);
    };
    accused(Mode::Inline, Misdeed::LosesPrivateData, elsewhere, &[]);
    // Two asked: it is one of them.
    let two = |b: &mut Bench| {
        let (connector, incoming, qp) = ends(b, HERE, HERE, b"first");
        let _ = connector;
        let second = b.connector();
        connect(b, second, qp, HERE, b"second");
        look(b, incoming, 56);
    };
    accused(Mode::Inline, Misdeed::Nothing, two, &[]);
    accused(
        Mode::Inline,
        Misdeed::CutsPrivateData,
        two,
        &[rules::PRIVATE_DATA],
    );
}

#[test]
fn of_what_was_taken_back_nothing_is_said() {
    // The connector that asked is closed before the other end looks.
    let taken_back = |b: &mut Bench| {
        let (connector, incoming, _) = ends(b, HERE, HERE, b"hello");
        assert!(b.close(connector));
        look(b, incoming, 56);
    };
    accused(Mode::Inline, Misdeed::LosesPrivateData, taken_back, &[]);
    // It asks anew, and stands by that.
    let anew = |b: &mut Bench| {
        let (connector, incoming, qp) = ends(b, HERE, HERE, b"hello");
        assert!(b.close(connector));
        let again = b.connector();
        connect(b, again, qp, HERE, b"again");
        look(b, incoming, 56);
    };
    accused(Mode::Inline, Misdeed::LosesPrivateData, anew, &[]);
}

#[test]
fn what_an_adapter_says_that_it_takes_it_takes() {
    fn refuses(b: &mut Bench, length: usize, asks: bool) {
        let adapter = b.adapter;
        if asks {
            let mut info = NDK_ADAPTER_INFO::ZEROED;
            let mut size = size_of::<NDK_ADAPTER_INFO>() as u32;
            b.run(|| {
                let f = table!(adapter).NdkQueryAdapterInfo;
                // SAFETY: as a consumer calls.
                unsafe { f(adapter, &raw mut info, &raw mut size) }
            });
        }
        let cq = b.cq(Told::new()).unwrap();
        let pd = b.pd();
        let qp = b.qp(pd, cq, cq, 1);
        let connector = b.connector();
        let status = connect(b, connector, qp, HERE, &vec![1; length]);
        assert_eq!(status, STATUS_INVALID_BUFFER_SIZE);
    }
    let rule = &[rules::PRIVATE_DATA];
    let refusing = Misdeed::RefusesPrivateData;
    accused(Mode::Inline, refusing, |b| refuses(b, 56, true), rule);
    // Nobody has been told how much it takes.
    accused(Mode::Inline, refusing, |b| refuses(b, 56, false), &[]);
    let proper = Misdeed::Nothing;
    accused(Mode::Inline, proper, |b| refuses(b, 57, true), &[]);
}
