//! One end of a connection, with what most consumers have.

use super::{
    Adapter, Buffer, Connector, Cq, Listener, Mr, Pd, Qp, QpLimits, ReadLimits, Result, sge,
};
use ndkpi::{NDK_SGE, NDK_VERSION_2_1};
use std::net::SocketAddr;

/// An open adapter, a queue pair with one completion queue, and registered memory. Every function waits: PASSIVE_LEVEL.
pub struct Endpoint {
    /// The machine's first.
    pub adapter: Adapter,
    /// Of both queues.
    pub cq: Cq,
    /// Of everything.
    pub pd: Pd,
    /// With the depths of [`QpLimits`].
    pub qp: Qp,
    /// The registration of the buffer, for every kind of access.
    pub mr: Mr,
    /// The memory.
    pub buffer: Buffer,
}

impl Endpoint {
    /// Opens and creates everything, with so many bytes of memory. Who gets an error has nothing to close.
    pub fn open(bytes: usize) -> Result<Endpoint> {
        let adapter = Adapter::open(NDK_VERSION_2_1)?;
        match Endpoint::on(&adapter, bytes) {
            Ok((cq, pd, qp, mr, buffer)) => Ok(Endpoint {
                adapter,
                cq,
                pd,
                qp,
                mr,
                buffer,
            }),
            Err(error) => {
                adapter.close();
                Err(error)
            }
        }
    }

    fn on(adapter: &Adapter, bytes: usize) -> Result<(Cq, Pd, Qp, Mr, Buffer)> {
        let limits = QpLimits::default();
        let cq = adapter.create_cq(limits.receive_depth + limits.initiator_depth)?;
        match Endpoint::with(adapter, &cq, limits, bytes) {
            Ok((pd, qp, mr, buffer)) => Ok((cq, pd, qp, mr, buffer)),
            Err(error) => {
                cq.close();
                Err(error)
            }
        }
    }

    fn with(
        adapter: &Adapter,
        cq: &Cq,
        limits: QpLimits,
        bytes: usize,
    ) -> Result<(Pd, Qp, Mr, Buffer)> {
        let pd = adapter.create_pd()?;
        let qp = match pd.create_qp(cq, cq, limits) {
            Ok(qp) => qp,
            Err(error) => {
                pd.close();
                return Err(error);
            }
        };
        match pd.register_memory(bytes) {
            Ok((buffer, mr)) => Ok((pd, qp, mr, buffer)),
            Err(error) => {
                qp.close();
                pd.close();
                Err(error)
            }
        }
    }

    /// A part of the memory, as an element of a request's list.
    #[must_use]
    pub fn sge(&self, offset: usize, length: usize) -> NDK_SGE {
        sge(&self.buffer, &self.mr, offset, length)
    }

    /// Address and token of the memory, as the peer has to know them.
    #[must_use]
    pub fn remote(&self) -> (u64, u32) {
        (self.buffer.address(), self.mr.remote_token())
    }

    /// Connects to who listens there. Port 0 of `from` lets the provider choose.
    pub fn connect(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        private_data: &[u8],
    ) -> Result<Connector> {
        let connector = self.adapter.create_connector()?;
        let limits = ReadLimits::default();
        match connector.connect(&self.qp, from, to, limits, private_data) {
            Ok(_) => Ok(connector),
            Err(error) => {
                connector.close();
                Err(error)
            }
        }
    }

    /// Opens everything and listens there: who connects from now on is not refused.
    pub fn listening(bytes: usize, at: SocketAddr) -> Result<(Endpoint, Listener)> {
        let end = Endpoint::open(bytes)?;
        let listener = match end.adapter.create_listener() {
            Ok(listener) => listener,
            Err(error) => {
                end.close()?;
                return Err(error);
            }
        };
        if let Err(error) = listener.listen(at) {
            listener.close();
            end.close()?;
            return Err(error);
        }
        Ok((end, listener))
    }

    /// Accepts the first who asks, and closes the listener.
    pub fn accept(&self, listener: Listener, private_data: &[u8]) -> Result<Connector> {
        let connector = listener.next_request();
        let accepted = connector.accept(&self.qp, ReadLimits::default(), private_data);
        // It pends until the connector is closed, too.
        let _closing = listener.start_close();
        if let Err(error) = accepted {
            connector.close();
            return Err(error);
        }
        Ok(connector)
    }

    /// Closes everything but connectors, which are closed before.
    pub fn close(self) -> Result<()> {
        self.qp.close();
        self.mr.deregister()?;
        self.mr.close();
        self.pd.close();
        self.cq.close();
        self.adapter.close();
        self.buffer.free();
        Ok(())
    }
}
