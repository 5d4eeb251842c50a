//! NDK_PD: a protection domain.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;

use ndis_sys::status::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS};
use ndis_sys::types::NTSTATUS;
use ndkpi::{NDK_ADAPTER, NDK_FN_CREATE_COMPLETION, NDK_PD, NDK_PD_DISPATCH, NDK_VERSION};
use roce::{Access, MrKey, PdId};

use super::adapter::Adapter;
use super::memory::PRIVILEGED;
use super::object::{self, Kind, Object, Quiet, Ref, header, query_extension};
use super::state::State;
use super::status;
use super::{mr, mw, qp, srq};

/// The private part of an NDK_PD.
pub struct Pd {
    id: PdId,
    /// The key with which work requests name logical addresses. It gives no remote access.
    privileged: MrKey,
    _adapter: Ref<Adapter>,
}

static DISPATCH: NDK_PD_DISPATCH = NDK_PD_DISPATCH {
    NdkClosePd: object::close::<Pd>,
    NdkQueryExtension: query_extension,
    NdkCreateMr: mr::create_mr,
    NdkCreateMw: mw::create_mw,
    NdkCreateSrq: srq::create_srq,
    NdkCreateQp: qp::create_qp,
    NdkCreateQpWithSrq: qp::create_qp_with_srq,
    NdkGetPrivilegedMemoryRegionToken: get_privileged_memory_region_token,
};

impl Kind for Pd {
    type Raw = NDK_PD;

    fn raw(version: NDK_VERSION) -> NDK_PD {
        NDK_PD {
            Header: header(version, ndkpi::NdkObjectTypePd),
            Dispatch: &DISPATCH,
        }
    }

    fn quiesce(pd: &Object<Self>) -> Quiet {
        // Its successors are closed, so the engine has nothing left that refers to it.
        pd.port().peek(|state| {
            destroy(state, pd.id, pd.privileged);
        });
        Quiet::Yes
    }
}

impl Pd {
    /// The engine's protection domain.
    pub fn id(&self) -> PdId {
        self.id
    }
}

/// NdkCreatePd. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-54: so does no create, except where an address may have to be looked up, which takes PASSIVE_LEVEL.
///
/// # Safety
/// The consumer passes an open adapter and a place for the result.
pub unsafe extern "efiapi" fn create_pd(
    adapter: *mut NDK_ADAPTER,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_PD,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let adapter = unsafe { Object::<Adapter>::from_raw(adapter) };
    if let Err(status) = adapter.port().ready() {
        return adapter.port().answer("NdkCreatePd", status);
    }
    let made = adapter.port().peek(|state| {
        let id = state.engine.create_pd().map_err(status::of_create)?;
        match state
            .engine
            .register(id, 0, u64::MAX, Access::LOCAL_WRITE, PRIVILEGED)
        {
            Ok(privileged) => Ok((id, privileged)),
            Err(_) => {
                let _ = state.engine.destroy_pd(id);
                Err(STATUS_INSUFFICIENT_RESOURCES)
            }
        }
    });
    let (id, privileged) = match made {
        Ok(made) => made,
        Err(status) => return adapter.port().answer("NdkCreatePd", status),
    };
    match adapter.try_new_child(Pd {
        id,
        privileged,
        _adapter: adapter.reference(),
    }) {
        Ok(pd) => {
            // SAFETY: by the contract of this function.
            unsafe { out.write(pd.as_raw()) };
            STATUS_SUCCESS
        }
        Err(_) => {
            adapter.port().peek(|state| destroy(state, id, privileged));
            adapter
                .port()
                .answer("NdkCreatePd", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

fn destroy(state: &mut State, id: PdId, privileged: MrKey) {
    let _ = state.engine.deregister(privileged);
    let _ = state.engine.destroy_pd(id);
}

/// NdkGetPrivilegedMemoryRegionToken. IRQL <= DISPATCH_LEVEL.
///
/// The token reaches what NdkBuildLAM mapped, for local reading and writing (read sink included), and is refused to every peer.
unsafe extern "efiapi" fn get_privileged_memory_region_token(pd: *mut NDK_PD, token: *mut u32) {
    // SAFETY: the consumer passes an open PD and a place for the token.
    unsafe { token.write(Object::<Pd>::from_raw(pd).privileged.0) };
}
