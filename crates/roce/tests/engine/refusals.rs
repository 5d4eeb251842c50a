//! What calls refuse, with which error, and that nothing has changed then.

use crate::util::*;
use roce::{
    AcceptParams, CmError, Config, ConnId, ConnectParams, CreateError, Engine, Event, Path,
    PathMtu, QpId, QpParams,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const PORT: u16 = 445;
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

fn params(qp: QpId, data: &[u8]) -> ConnectParams<'_> {
    ConnectParams {
        qp,
        path: path(Side::A, PathMtu::Mtu1024),
        local_port: 50_000,
        remote_port: PORT,
        private_data: data,
        responder_resources: 1,
        initiator_depth: 1,
    }
}

fn accept_params(qp: QpId, data: &[u8]) -> AcceptParams<'_> {
    AcceptParams {
        qp,
        path: path(Side::B, PathMtu::Mtu1024),
        private_data: data,
        responder_resources: 1,
        initiator_depth: 1,
    }
}

/// Two hosts, and B listening.
fn listening() -> Pair {
    let mut p = Pair::new(Setup::default());
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    p.b.engine.listen(any, PORT).unwrap();
    p
}

fn requested(p: &mut Pair) -> ConnId {
    p.run(SECOND / 100);
    let Some(Event::ConnectRequest { conn, .. }) = p.b.events.pop() else {
        panic!("{:?}", p.b.events);
    };
    conn
}

fn bad_paths() -> [Path; 3] {
    let good = path(Side::A, PathMtu::Mtu1024);
    [
        Path {
            src_ip: SIX,
            ..good
        },
        Path {
            dst_ip: SIX,
            ..good
        },
        // The link takes 1024 bytes of payload.
        Path {
            mtu: PathMtu::Mtu2048,
            ..good
        },
    ]
}

#[test]
fn a_path_that_cannot_be_used_is_refused() {
    let mut setup = Setup::default();
    setup.config.local_mtu = 1500;
    let mut p = Pair::new(setup);
    let qp = p.a.create_qp();
    for path in bad_paths() {
        let local = p.a.engine.prepare(qp, None).unwrap();
        let mut attributes = p.attributes(Side::A, 5, local.psn);
        attributes.path = path;
        let refused = p.a.engine.attach(qp, &attributes);
        assert_eq!(refused, Err(CmError::InvalidPath), "{path:?}");
        let connect = ConnectParams {
            path,
            ..params(qp, &[])
        };
        let refused = p.a.engine.connect(p.now, &connect);
        assert_eq!(refused, Err(CmError::InvalidPath), "{path:?}");
    }
    p.a.engine.connect(p.now, &params(qp, &[])).unwrap();
}

#[test]
fn a_refused_connect_or_accept_leaves_the_queue_pair_as_it_was() {
    let mut p = listening();
    let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
    let (number_a, number_b) = (p.a.engine.qp_number(qa), p.b.engine.qp_number(qb));
    let long = [0; 200];
    assert_eq!(
        p.a.engine.connect(p.now, &params(qa, &long)),
        Err(CmError::PrivateDataTooLong)
    );
    assert_eq!(p.a.engine.qp_number(qa), number_a);
    let a = p.a.engine.connect(p.now, &params(qa, &[])).unwrap();
    let number_a = p.a.engine.qp_number(qa);
    // The same again, with another queue pair: this connection exists.
    let other = p.a.create_qp();
    let number = p.a.engine.qp_number(other);
    assert_eq!(
        p.a.engine.connect(p.now, &params(other, &[])),
        Err(CmError::ConnectionExists)
    );
    assert_eq!(p.a.engine.qp_number(other), number);
    let b = requested(&mut p);
    assert_eq!(
        p.b.engine.accept(p.now, b, &accept_params(qb, &long)),
        Err(CmError::PrivateDataTooLong)
    );
    assert_eq!(p.b.engine.qp_number(qb), number_b);
    p.b.engine
        .accept(p.now, b, &accept_params(qb, &[]))
        .unwrap();
    // What was told to the peer stays.
    let number_b = p.b.engine.qp_number(qb);
    let another = p.b.create_qp();
    let number = p.b.engine.qp_number(another);
    assert_eq!(
        p.b.engine.accept(p.now, b, &accept_params(another, &[])),
        Err(CmError::InvalidState)
    );
    assert_eq!(p.b.engine.qp_number(another), number);
    assert_eq!(p.b.engine.qp_number(qb), number_b);
    p.run(SECOND / 100);
    p.a.engine.establish(p.now, a).unwrap();
    assert_eq!(p.a.engine.qp_number(qa), number_a);
    p.run(SECOND);
    assert!(p.b.events.contains(&Event::Established { conn: b }));
}

#[test]
fn a_connection_nobody_knows_is_unknown_everywhere() {
    let mut p = listening();
    let qp = p.a.create_qp();
    let conn = p.a.engine.connect(p.now, &params(qp, &[])).unwrap();
    p.a.engine.forget(p.now, conn);
    let (now, e) = (p.now, &mut p.a.engine);
    e.destroy_qp(now, qp).unwrap();
    assert_eq!(
        e.accept(now, conn, &accept_params(qp, &[])),
        Err(CmError::Unknown)
    );
    assert_eq!(e.establish(now, conn), Err(CmError::Unknown));
    assert_eq!(e.reject(now, conn, &[]), Err(CmError::Unknown));
    assert_eq!(e.disconnect(now, conn), Err(CmError::Unknown));
    assert!(e.connection(conn).is_none());
}

#[test]
fn a_queue_pair_that_is_gone_cannot_be_established() {
    for how in ["destroyed", "flushed"] {
        let mut p = listening();
        let (qa, qb) = (p.a.create_qp(), p.b.create_qp());
        let a = p.a.engine.connect(p.now, &params(qa, &[])).unwrap();
        let b = requested(&mut p);
        p.b.engine
            .accept(p.now, b, &accept_params(qb, &[]))
            .unwrap();
        p.run(SECOND / 100);
        assert!(p.a.events.contains(&Event::Replied { conn: a }));
        if how == "flushed" {
            // Never connected, so a flush takes nothing from it.
            p.a.engine.flush(p.now, qa);
            p.a.engine.establish(p.now, a).unwrap();
        } else {
            p.a.engine.destroy_qp(p.now, qa).unwrap();
            let refused = p.a.engine.establish(p.now, a);
            assert_eq!(refused, Err(CmError::QpUnusable));
        }
    }
}

/// Whatever numbers an engine is created with: those in effect are told, and nothing overflows at their edges.
#[test]
fn a_configuration_beyond_all_limits_is_lowered() {
    let config = Config {
        max_qps: 3,
        max_keys: 3,
        max_cqs: 3,
        max_srqs: 3,
        max_pds: 3,
        max_connections: 3,
        max_listeners: 3,
        max_transmissions: 3,
        max_cq_depth: u32::MAX,
        max_queue_depth: u32::MAX,
        max_srq_depth: u32::MAX,
        max_sge: u32::MAX,
        max_inline: u32::MAX,
        max_message: u32::MAX,
        max_inbound_reads: 255,
        max_outbound_reads: 255,
        send_window: 0,
        read_window: u32::MAX,
        read_chunk: 0,
        retry_count: 255,
        rnr_retry_count: 8,
        min_rnr_timer: 32,
        ack_timeout: 255,
        ..Config::default()
    };
    let mut e = Engine::try_new(&config).unwrap();
    let c = *e.config();
    let lowered = [
        c.max_cq_depth,
        c.max_queue_depth,
        c.max_srq_depth,
        c.max_sge,
        c.max_inline,
        c.max_message,
        c.max_inbound_reads.into(),
        c.max_outbound_reads.into(),
        c.send_window,
        c.read_window,
        c.read_chunk,
        c.retry_count.into(),
        c.rnr_retry_count.into(),
        c.min_rnr_timer.into(),
        c.ack_timeout.into(),
    ];
    let limits = [
        1 << 24,
        1 << 24,
        1 << 24,
        16,
        256,
        1 << 31,
        128,
        128,
        1,
        1 << 16,
        1,
        7,
        7,
        31,
        31,
    ];
    assert_eq!(lowered, limits);
    let pd = e.create_pd().unwrap();
    let cq = e.create_cq(1).unwrap();
    for depth in [(1 << 24) + 1, 1 << 31, (1 << 31) + 1, u32::MAX] {
        assert_eq!(e.create_cq(depth), Err(CreateError::InvalidParameter));
        let refused = e.create_srq(pd, depth, 1, 0);
        assert_eq!(refused, Err(CreateError::InvalidParameter));
        for (sq_depth, rq_depth) in [(depth, 1), (1, depth)] {
            let params = QpParams {
                pd,
                send_cq: cq,
                recv_cq: cq,
                srq: None,
                sq_depth,
                rq_depth,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_read_sge: 1,
                max_inline: 0,
                atomics: false,
                context: 0,
            };
            assert_eq!(e.create_qp(&params), Err(CreateError::InvalidParameter));
        }
    }
}

/// There can be a hundred thousand queue pairs, and a QPN comes again only after as many others as connections can rest.
#[test]
fn r096_numbers_of_queue_pairs_rest() {
    const RESTING: usize = 5000;
    let config = Config {
        max_qps: u32::MAX,
        max_keys: 1,
        max_cqs: 1,
        max_srqs: 1,
        max_pds: 1,
        max_connections: RESTING as u32,
        ..Config::default()
    };
    let mut e = Engine::try_new(&config).unwrap();
    assert_eq!(e.config().max_qps, 1 << 17);
    let pd = e.create_pd().unwrap();
    let cq = e.create_cq(1).unwrap();
    let params = QpParams {
        pd,
        send_cq: cq,
        recv_cq: cq,
        srq: None,
        sq_depth: 1,
        rq_depth: 1,
        max_send_sge: 1,
        max_recv_sge: 1,
        max_read_sge: 1,
        max_inline: 0,
        atomics: false,
        context: 0,
    };
    let qp = e.create_qp(&params).unwrap();
    let drawn: Vec<u32> = (0..10 * RESTING)
        .map(|_| e.prepare(qp, None).unwrap().qpn)
        .collect();
    let mut last = std::collections::HashMap::new();
    let mut again = 0;
    for (n, qpn) in drawn.iter().enumerate() {
        assert!((2..0x00ff_ffff).contains(qpn), "{qpn:#x}");
        if let Some(before) = last.insert(qpn, n) {
            again += 1;
            assert!(n - before > RESTING, "{qpn:#x}");
        }
    }
    // Among so many, some do.
    assert!(again > 0);
    // All 24 bits are drawn: no two follow one another.
    let close = |w: &&[u32]| w[0].abs_diff(w[1]) < 16;
    assert!(drawn.windows(2).filter(close).count() < 5);
}
