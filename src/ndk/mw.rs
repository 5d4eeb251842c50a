//! NDK_MW: a memory window, through which a peer gets at part of a region (NdkBind).
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ndis_sys::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_SUCCESS,
};
use ndis_sys::types::NTSTATUS;
use ndkpi::{
    NDK_FN_CREATE_COMPLETION, NDK_MR, NDK_MW, NDK_MW_DISPATCH, NDK_PD, NDK_QP, NDK_VERSION,
};
use roce::{DeregisterError, MrKey, SendOp};

use super::limits::MAX_REGISTRATION;
use super::mr::Mr;
use super::object::{self, Kind, Listed, Object, Quiet, Ref, header, query_extension};
use super::pd::Pd;
use super::qp::{Qp, op_access, post_local};
use super::slab::Key;
use super::state::State;

/// The private part of an NDK_MW.
pub struct Mw {
    /// Its entry in the port's table.
    key: AtomicU64,
    /// The engine's newest key of it. The remote token is the one that the engine says. Changes under the port's lock.
    newest: AtomicU32,
    _pd: Ref<Pd>,
}

static DISPATCH: NDK_MW_DISPATCH = NDK_MW_DISPATCH {
    NdkCloseMw: object::close::<Mw>,
    NdkQueryExtension: query_extension,
    NdkGetRemoteTokenFromMw: get_remote_token_from_mw,
};

impl Kind for Mw {
    type Raw = NDK_MW;

    fn raw(version: NDK_VERSION) -> NDK_MW {
        NDK_MW {
            Header: header(version, ndkpi::NdkObjectTypeMw),
            Dispatch: &DISPATCH,
        }
    }

    /// Ends what it is bound to: a region that is being closed or deregistered may have waited for that. Waits until the NIC no
    /// longer reads through it: the memory can have other contents when the close has completed.
    fn quiesce(mw: &Object<Self>) -> Quiet {
        mw.port().with(|state| {
            if state.mws.get(mw.key()).is_none() {
                return Quiet::Yes;
            }
            if state.engine.destroy_window(mw.newest()) == Err(DeregisterError::Busy) {
                object::hold_for_hardware(mw);
                return Quiet::NotYet;
            }
            state.mws.remove(mw.key());
            Quiet::Yes
        })
    }
}

impl State {
    /// The NIC no longer reads through a window that was closed.
    pub(super) fn on_window_idle(&mut self, key: Key) {
        if let Some(mw) = self.mws.remove(key) {
            // SAFETY: quiesce took the reference before the engine was to tell of this, once.
            unsafe { object::hardware_done(mw.get()) };
        }
    }

    /// The key of what a window gives access to, or will when what is posted has been executed.
    pub(super) fn mw_token(&self, mw: &Mw) -> Option<MrKey> {
        self.engine.current_key(mw.newest())
    }
}

impl Mw {
    fn key(&self) -> Key {
        Key::from_bits(self.key.load(Ordering::Acquire))
    }

    fn newest(&self) -> MrKey {
        MrKey(self.newest.load(Ordering::Acquire))
    }
}

/// NdkCreateMw. Never pends. IRQL <= DISPATCH_LEVEL. The window opens nothing until it is bound.
///
/// # Safety
/// The consumer passes an open PD and a place for the result.
pub unsafe extern "efiapi" fn create_mw(
    pd: *mut NDK_PD,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_MW,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let pd = unsafe { Object::<Pd>::from_raw(pd) };
    let port = pd.port();
    if let Err(status) = port.ready() {
        return pd.port().answer("NdkCreateMw", status);
    }
    let body = Mw {
        key: AtomicU64::new(Key::NONE.to_bits()),
        newest: AtomicU32::new(0),
        _pd: pd.reference(),
    };
    let Ok(mw) = pd.try_new_child(body) else {
        return pd
            .port()
            .answer("NdkCreateMw", STATUS_INSUFFICIENT_RESOURCES);
    };
    // SAFETY: quiesce, or what the engine tells after it, takes the entry out.
    let listed = unsafe { Listed::new(mw) };
    let made = port.peek(|state| {
        let key = state.mws.insert(listed).ok()?;
        let Ok(newest) = state.engine.create_window(pd.id(), key.to_bits()) else {
            state.mws.remove(key);
            return None;
        };
        mw.key.store(key.to_bits(), Ordering::Release);
        mw.newest.store(newest.0, Ordering::Release);
        Some(())
    });
    if made.is_none() {
        // SAFETY: nobody knows it.
        unsafe { object::discard(mw) };
        return pd
            .port()
            .answer("NdkCreateMw", STATUS_INSUFFICIENT_RESOURCES);
    }
    // SAFETY: by the contract of this function.
    unsafe { out.write(mw.as_raw()) };
    STATUS_SUCCESS
}

/// NdkGetRemoteTokenFromMw: right as soon as NdkBind has returned. IRQL <= DISPATCH_LEVEL.
unsafe extern "efiapi" fn get_remote_token_from_mw(mw: *mut NDK_MW) -> u32 {
    // SAFETY: the consumer passes an open MW.
    let mw = unsafe { Object::<Mw>::from_raw(mw) };
    let token = mw.port().peek(|state| state.mw_token(mw));
    token.map_or(0, |key| key.0)
}

/// NdkBind. IRQL <= DISPATCH_LEVEL. Binding anew replaces: the old token is dead when the request has been executed.
///
/// ALLOW_REMOTE_READ and ALLOW_REMOTE_WRITE are what the peer of this QP may do; writing needs a region with local write, or it
/// is STATUS_ACCESS_VIOLATION. More than MaxWindowSize is STATUS_INVALID_PARAMETER. A range outside the region, or a region that
/// is not registered when the request's turn comes, completes STATUS_ACCESS_VIOLATION. STATUS_DEVICE_BUSY while an earlier binding of the
/// window is posted and has not been executed.
pub(super) unsafe extern "efiapi" fn bind(
    qp: *mut NDK_QP,
    context: *mut c_void,
    mr: *mut NDK_MR,
    mw: *mut NDK_MW,
    va: *mut c_void,
    length: usize,
    flags: u32,
) -> NTSTATUS {
    if length > MAX_REGISTRATION {
        return STATUS_INVALID_PARAMETER;
    }
    // SAFETY: the consumer passes an open QP, MR and MW.
    let (qp, mr, mw) = unsafe {
        (
            Object::<Qp>::from_raw(qp),
            Object::<Mr>::from_raw(mr),
            Object::<Mw>::from_raw(mw),
        )
    };
    qp.port().with(|state| {
        let Some(token) = state.mr_token(mr.key()) else {
            return STATUS_INVALID_DEVICE_REQUEST;
        };
        let op = SendOp::Bind {
            window: mw.newest(),
            mr: token,
            va: va as u64,
            len: length as u64,
            // Local write, which the flag for remote writing implies, means nothing to a window.
            access: op_access(flags),
        };
        match post_local(state, qp.id(), context, flags, op) {
            Ok(newest) => {
                if let Some(newest) = newest {
                    mw.newest.store(newest.0, Ordering::Release);
                }
                STATUS_SUCCESS
            }
            Err(status) => status,
        }
    })
}
