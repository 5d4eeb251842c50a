//! Listeners.

use super::address::Address;
use super::connector::address;
use super::pending::{Pending, Wake, create, irql, keep, on_close, on_create, on_request};
use super::{Adapter, Connector, Result, calling};
use crate::world::context;
use ndkpi::{NDK_CONNECTOR, NDK_LISTENER, NDK_LISTENER_DISPATCH, c_void};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ptr::NonNull;
use std::rc::Rc;

/// What connect events brought.
#[derive(Default)]
struct Requests {
    /// Connection requests that were not looked at yet, each with the IRQL at which it came.
    waiting: RefCell<VecDeque<(NonNull<NDK_CONNECTOR>, u8)>>,
    wake: Wake,
}

unsafe extern "efiapi" fn on_connect(context: *mut c_void, connector: *mut NDK_CONNECTOR) {
    // SAFETY: the provider passes back the context it was given, which the world keeps.
    let requests = unsafe { &*context.cast::<Requests>() };
    let irql = irql();
    {
        let _kernel = context::KernelMode::enter();
        let connector = NonNull::new(connector).expect("a connect event has a connector");
        requests.waiting.borrow_mut().push_back((connector, irql));
    }
    requests.wake.up();
}

/// A listener.
pub struct Listener {
    raw: NonNull<NDK_LISTENER>,
    requests: Rc<Requests>,
}

impl Listener {
    pub(super) fn create(adapter: &Adapter) -> Result<Listener> {
        let requests = keep(Requests::default());
        let raw = create(|context, out| {
            // SAFETY: context and out parameter live until the create is complete, the requests as long as the world.
            unsafe {
                (calling(adapter.table()).NdkCreateListener)(
                    adapter.raw(),
                    on_connect,
                    Rc::as_ptr(&requests).cast_mut().cast(),
                    on_create,
                    context,
                    out,
                )
            }
        })?;
        Ok(Listener { raw, requests })
    }

    /// The object itself.
    #[must_use]
    pub fn raw(&self) -> *mut NDK_LISTENER {
        self.raw.as_ptr()
    }

    /// Its dispatch table.
    #[must_use]
    pub fn table(&self) -> &NDK_LISTENER_DISPATCH {
        // SAFETY: the table lives as long as the object.
        unsafe { &*(*self.raw()).Dispatch }
    }

    /// NdkListen, waiting. PASSIVE_LEVEL.
    pub fn listen(&self, at: SocketAddr) -> Result<()> {
        let at = Address::new(at);
        Pending::start(|context| {
            // SAFETY: the address is valid during the call.
            unsafe {
                (calling(self.table()).NdkListen)(
                    self.raw(),
                    at.as_ptr(),
                    at.len(),
                    on_request,
                    context,
                )
            }
        })
        .wait_here()
    }

    /// NdkGetListenerLocalAddress.
    pub fn local_address(&self) -> Result<SocketAddr> {
        // SAFETY: `address` passes a buffer of the size it tells.
        address(|buffer, length| unsafe {
            (calling(self.table()).NdkGetLocalAddress)(self.raw(), buffer, length)
        })
    }

    /// NdkControlConnectEvents.
    pub fn pause(&self, pause: bool) {
        // SAFETY: no contract beyond the object.
        unsafe { (calling(self.table()).NdkControlConnectEvents)(self.raw(), u8::from(pause)) };
    }

    /// Requests that wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.requests.waiting.borrow().len()
    }

    /// The oldest request, and the IRQL of its connect event.
    #[must_use]
    pub fn take_request(&self) -> Option<(Connector, u8)> {
        let (raw, irql) = self.requests.waiting.borrow_mut().pop_front()?;
        Some((Connector::from_raw(raw), irql))
    }

    /// Waits for the next request. PASSIVE_LEVEL.
    #[must_use]
    pub fn next_request(&self) -> Connector {
        self.requests.wake.until(|| self.waiting() > 0);
        let (connector, _) = self.take_request().expect("a request waits");
        connector
    }

    /// NdkCloseListener, waiting. PASSIVE_LEVEL.
    pub fn close(self) {
        let _ = self.start_close().wait_here();
    }

    /// NdkCloseListener.
    #[must_use]
    pub fn start_close(self) -> Pending {
        Pending::start(|context| {
            // SAFETY: closed once.
            unsafe {
                (calling(self.table()).NdkCloseListener)(self.raw().cast(), on_close, context)
            }
        })
    }
}
