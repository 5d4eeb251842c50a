//! Steps of connections by the connection manager, from A to B.

use super::{Pair, Side};
use roce::{AcceptParams, ConnId, ConnectParams, Event, ListenerId, QpId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where B listens.
pub const PORT: u16 = 445;

impl Pair {
    pub fn listen(&mut self) -> ListenerId {
        let any = match self.setup.ipv6 {
            false => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            true => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        self.b.engine.listen(any, PORT).unwrap()
    }

    pub fn connect_params(&self, qp: QpId, local_port: u16) -> ConnectParams<'static> {
        ConnectParams {
            qp,
            path: self.setup.path(Side::A),
            local_port,
            remote_port: PORT,
            private_data: b"please",
            responder_resources: self.setup.reads,
            initiator_depth: self.setup.reads,
        }
    }

    pub fn accept_params(&self, qp: QpId) -> AcceptParams<'static> {
        AcceptParams {
            qp,
            path: self.setup.path(Side::B),
            private_data: b"you are welcome",
            responder_resources: self.setup.reads,
            initiator_depth: self.setup.reads,
        }
    }

    /// A asks from this port with a queue pair of its own.
    pub fn request(&mut self, local_port: u16) -> (ConnId, QpId) {
        let qp = self.a.create_qp();
        let params = self.connect_params(qp, local_port);
        (self.a.engine.connect(self.now, &params).unwrap(), qp)
    }

    /// The requests that B has been told of since last asked. Other events of B stay.
    pub fn requests(&mut self) -> Vec<ConnId> {
        self.b.collect();
        let mut found = Vec::new();
        self.b.events.retain(|e| match e {
            Event::ConnectRequest { conn, .. } => {
                found.push(*conn);
                false
            }
            _ => true,
        });
        found
    }

    /// B accepts with a queue pair of its own.
    pub fn accept(&mut self, conn: ConnId) -> QpId {
        let qp = self.b.create_qp();
        let params = self.accept_params(qp);
        self.b.engine.accept(self.now, conn, &params).unwrap();
        qp
    }
}
