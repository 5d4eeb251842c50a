//! NDK_MR: a memory region.
#![allow(
    unsafe_code,
    reason = "dispatch functions take the consumer's pointers"
)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;

use ndis_sys::status::{
    STATUS_INSUFFICIENT_RESOURCES, STATUS_INVALID_DEVICE_REQUEST, STATUS_INVALID_PARAMETER,
    STATUS_PENDING, STATUS_SUCCESS,
};
use ndis_sys::types::{BOOLEAN, NTSTATUS};
use ndkpi::{
    MDL, NDK_FN_CREATE_COMPLETION, NDK_FN_REQUEST_COMPLETION, NDK_MR, NDK_MR_DISPATCH,
    NDK_MR_FLAG_ALLOW_LOCAL_WRITE, NDK_MR_FLAG_ALLOW_REMOTE_READ, NDK_MR_FLAG_ALLOW_REMOTE_WRITE,
    NDK_PD, NDK_VERSION,
};
use nt::mdl::MdlRef;
use roce::{Access, DeregisterError, MrKey, RegionId};

use super::fast;
use super::mapping::{self, Mapping, Waiter};
use super::memory::Region;
use super::object::{self, Kind, Listed, Object, Quiet, Ref, Request, header, query_extension};
use super::pd::Pd;
use super::slab::Key;
use super::state::State;

/// The private part of an NDK_MR.
pub struct Mr {
    key: AtomicU64,
    /// Created for NdkFastRegister, not for NdkRegisterMr.
    pub(super) fast: bool,
    pd: Ref<Pd>,
}

static DISPATCH: NDK_MR_DISPATCH = NDK_MR_DISPATCH {
    NdkCloseMr: object::close::<Mr>,
    NdkQueryExtension: query_extension,
    NdkRegisterMr: register_mr,
    NdkDeregisterMr: deregister_mr,
    NdkInitializeFastRegisterMr: fast::initialize_fast_register_mr,
    NdkGetRemoteTokenFromMr: get_token_from_mr,
    NdkGetLocalTokenFromMr: get_token_from_mr,
};

/// The one region, or for a fast-registered region the two, behind a key.
type Regions = [Option<RegionId>; 2];

/// What was behind a key: to be unmapped without the lock.
pub(super) type Memory = [Option<Region>; 2];

/// Where a memory region stands.
pub(super) enum Phase {
    /// No memory.
    Idle,
    /// A register call is mapping its memory.
    Mapping,
    /// Memory can be reached by its key.
    Registered { key: MrKey, region: RegionId },
    /// Initialised for fast registration.
    Fast {
        /// The newest key: the entry's, for the engine. The token is the one that the engine says.
        key: MrKey,
        /// The pages of the valid registration and of the next, or the other way round.
        lists: [RegionId; 2],
        /// How many pages a registration may have.
        pages: u32,
    },
    /// The key is dead, but the NIC still reads the memory.
    Draining { regions: Regions },
    /// The NIC is done; the memory waits to be taken, and unmapped without the lock.
    Drained { regions: Regions },
}

/// What the port knows about a memory region.
pub struct Registration {
    object: Listed<Mr>,
    pub(super) phase: Phase,
    request: Option<Request<Mr>>,
    /// Quiesce took a reference for the NIC.
    held: bool,
}

/// What came of asking the engine to give a region up.
enum Given {
    /// It is free, and what was behind it can be unmapped.
    Back,
    /// The NIC still reads it.
    Later,
    /// There was nothing to give up.
    Nothing,
}

impl Registration {
    fn new(object: Listed<Mr>) -> Self {
        Self {
            object,
            phase: Phase::Idle,
            request: None,
            held: false,
        }
    }
}

impl State {
    /// Asks the engine to give a region up. What was behind it is put into `memory`, to be unmapped without the lock.
    fn give_up(&mut self, key: Key, memory: &mut Memory) -> Given {
        let Some(registration) = self.mrs.get_mut(key) else {
            return Given::Nothing;
        };
        let (mr_key, regions) = match registration.phase {
            Phase::Registered { key, region } => (key, [Some(region), None]),
            Phase::Fast { key, lists, .. } => (key, lists.map(Some)),
            _ => return Given::Nothing,
        };
        match self.engine.deregister(mr_key) {
            Err(DeregisterError::Busy) => {
                registration.phase = Phase::Draining { regions };
                Given::Later
            }
            Ok(()) | Err(DeregisterError::Unknown) => {
                registration.phase = Phase::Idle;
                *memory = self.take_memory(regions);
                Given::Back
            }
        }
    }

    /// The key of what a region gives access to, or will when what is posted has been executed.
    pub(super) fn mr_token(&self, key: Key) -> Option<MrKey> {
        match self.mrs.get(key)?.phase {
            Phase::Registered { key, .. } => Some(key),
            Phase::Fast { key, .. } => self.engine.current_key(key),
            Phase::Idle | Phase::Mapping | Phase::Draining { .. } | Phase::Drained { .. } => None,
        }
    }

    fn take_memory(&mut self, regions: Regions) -> Memory {
        regions.map(|region| region.and_then(|region| self.memory.remove(region)))
    }

    /// The NIC no longer reads a region that was given up.
    pub(super) fn on_region_idle(&mut self, region: RegionId) {
        let Some(key) = self.memory.owner(region) else {
            return;
        };
        let Some(registration) = self.mrs.get_mut(key) else {
            return;
        };
        let Phase::Draining { regions } = registration.phase else {
            return;
        };
        registration.phase = Phase::Drained { regions };
        object::tell(registration.object.get());
        if core::mem::take(&mut registration.held) {
            // SAFETY: quiesce took it and noted that in `held`.
            unsafe { object::hardware_done(registration.object.get()) };
        }
    }
}

impl Kind for Mr {
    type Raw = NDK_MR;

    fn raw(version: NDK_VERSION) -> NDK_MR {
        NDK_MR {
            Header: header(version, ndkpi::NdkObjectTypeMr),
            Dispatch: &DISPATCH,
        }
    }

    /// Decision X-28: closing a region that is still registered deregisters it.
    fn quiesce(mr: &Object<Self>) -> Quiet {
        let mut memory = [None, None];
        let quiet = mr
            .port()
            .with(|state| match state.give_up(mr.key(), &mut memory) {
                Given::Later => {
                    if let Some(registration) = state.mrs.get_mut(mr.key()) {
                        registration.held = true;
                    }
                    object::hold_for_hardware(mr);
                    Quiet::NotYet
                }
                Given::Back | Given::Nothing => {
                    state.mrs.remove(mr.key());
                    Quiet::Yes
                }
            });
        drop(memory);
        quiet
    }

    fn tell(mr: &Object<Self>) {
        let (memory, request) = mr.port().peek(|state| {
            let Some(registration) = state.mrs.get_mut(mr.key()) else {
                return ([None, None], None);
            };
            let Phase::Drained { regions } = registration.phase else {
                return ([None, None], None);
            };
            registration.phase = Phase::Idle;
            let request = registration.request.take();
            (state.take_memory(regions), request)
        });
        // The memory is the consumer's again only when nothing maps it.
        drop(memory);
        if let Some(request) = request {
            request.complete(STATUS_SUCCESS);
        }
    }
}

impl Mr {
    /// Its entry in the port's table.
    pub(super) fn key(&self) -> Key {
        Key::from_bits(self.key.load(Ordering::Acquire))
    }

    /// The protection domain it belongs to.
    pub(super) fn pd(&self) -> &Object<Pd> {
        &self.pd
    }
}

/// NdkCreateMr. Never pends. IRQL <= DISPATCH_LEVEL.
///
/// # Safety
/// The consumer passes an open PD and a place for the result.
pub unsafe extern "efiapi" fn create_mr(
    pd: *mut NDK_PD,
    fast_register: BOOLEAN,
    _completion: NDK_FN_CREATE_COMPLETION,
    _context: *mut c_void,
    out: *mut *mut NDK_MR,
) -> NTSTATUS {
    // SAFETY: by the contract of this function.
    let pd = unsafe { Object::<Pd>::from_raw(pd) };
    if let Err(status) = pd.port().ready() {
        return pd.port().answer("NdkCreateMr", status);
    }
    let body = Mr {
        key: AtomicU64::new(0),
        fast: fast_register != 0,
        pd: pd.reference(),
    };
    let Ok(mr) = pd.try_new_child(body) else {
        return pd
            .port()
            .answer("NdkCreateMr", STATUS_INSUFFICIENT_RESOURCES);
    };
    // SAFETY: quiesce takes the entry out.
    let listed = unsafe { Listed::new(mr) };
    match mr
        .port()
        .peek(|state| state.mrs.insert(Registration::new(listed)).ok())
    {
        Some(key) => {
            mr.key.store(key.to_bits(), Ordering::Release);
            // SAFETY: by the contract of this function.
            unsafe { out.write(mr.as_raw()) };
            STATUS_SUCCESS
        }
        None => {
            // SAFETY: nobody knows it.
            unsafe { object::discard(mr) };
            pd.port()
                .answer("NdkCreateMr", STATUS_INSUFFICIENT_RESOURCES)
        }
    }
}

/// What an MR's flags permit. REMOTE_WRITE is two bits and implies local write. RDMA_READ_SINK is accepted without effect, because
/// NDK_ADAPTER_FLAG_RDMA_READ_SINK_NOT_REQUIRED is advertised.
fn access(flags: u32) -> Access {
    permitting(
        flags & NDK_MR_FLAG_ALLOW_LOCAL_WRITE != 0,
        flags & NDK_MR_FLAG_ALLOW_REMOTE_READ != 0,
        flags & NDK_MR_FLAG_ALLOW_REMOTE_WRITE == NDK_MR_FLAG_ALLOW_REMOTE_WRITE,
    )
}

/// What a consumer permits. NDKPI has no flag for atomic operations: who may read and write may do both at once.
pub(super) fn permitting(local_write: bool, remote_read: bool, remote_write: bool) -> Access {
    let mut access = Access::empty();
    access.set(Access::LOCAL_WRITE, local_write);
    access.set(Access::REMOTE_READ, remote_read);
    access.set(Access::REMOTE_WRITE, remote_write);
    access.set(Access::REMOTE_ATOMIC, remote_read && remote_write);
    access
}

/// A registration that is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    base: u64,
    length: u64,
    access: Access,
}

impl Object<Mr> {
    /// The memory has been mapped, or could not be: registers it. Without locks, IRQL <= DISPATCH_LEVEL.
    fn register(&self, wanted: Wanted, mapping: Result<Mapping, NTSTATUS>) -> NTSTATUS {
        let port = self.port();
        let registered = mapping.and_then(|mapping| {
            // It may have taken long: the adapter may be lost by now.
            port.ready()?;
            port.peek(|state| state.register(self, wanted, mapping))
                // The memory is unmapped here, without the lock.
                .map_err(|(status, _memory)| status)
        });
        match registered {
            Ok(()) => STATUS_SUCCESS,
            Err(status) => {
                port.peek(|state| {
                    if let Some(registration) = state.mrs.get_mut(self.key()) {
                        registration.phase = Phase::Idle;
                    }
                });
                status
            }
        }
    }
}

impl State {
    /// Registers mapped memory. What cannot be used comes back, to be unmapped without the lock.
    fn register(
        &mut self,
        mr: &Object<Mr>,
        wanted: Wanted,
        mapping: Mapping,
    ) -> Result<(), (NTSTATUS, Option<Region>)> {
        let region = self
            .memory
            .insert(Region::mapped(mapping, mr.key()))
            .map_err(|region| (STATUS_INSUFFICIENT_RESOURCES, Some(region)))?;
        let Wanted {
            base,
            length,
            access,
        } = wanted;
        match self
            .engine
            .register(mr.pd.id(), base, length, access, region)
        {
            Ok(key) => {
                if let Some(registration) = self.mrs.get_mut(mr.key()) {
                    registration.phase = Phase::Registered { key, region };
                }
                Ok(())
            }
            Err(roce::RegisterError::InvalidRange) => {
                Err((STATUS_INVALID_PARAMETER, self.memory.remove(region)))
            }
            Err(_) => Err((STATUS_INSUFFICIENT_RESOURCES, self.memory.remove(region))),
        }
    }
}

/// A register call whose memory takes longer to be mapped. The request keeps the region from being closed meanwhile.
struct Registering {
    request: Request<Mr>,
    wanted: Wanted,
}

impl Waiter for Registering {
    fn mapped(self, mapping: Result<Mapping, NTSTATUS>) {
        let mr = self.request.object();
        let status = mr.register(self.wanted, mapping);
        mr.port().answer("NdkRegisterMr", status);
        self.request.complete(status);
    }
}

/// NdkRegisterMr. Pends while the system cannot map the memory for the NIC. IRQL <= DISPATCH_LEVEL.
///
/// The region's base is the virtual address of the first MDL, as an index. A region that is registered, or being registered or
/// deregistered, or that was created for fast registration, is STATUS_INVALID_DEVICE_REQUEST (decision X-65).
unsafe extern "efiapi" fn register_mr(
    mr: *mut NDK_MR,
    mdl: *mut MDL,
    length: usize,
    flags: u32,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open MR.
    let mr = unsafe { Object::<Mr>::from_raw(mr) };
    if mr.fast {
        return mr
            .port()
            .answer("NdkRegisterMr", STATUS_INVALID_DEVICE_REQUEST);
    }
    // SAFETY: the consumer passes a chain of MDLs with locked pages, and keeps it so while the region is registered.
    let Some(first) = (unsafe { MdlRef::from_raw(mdl.cast()) }) else {
        return mr.port().answer("NdkRegisterMr", STATUS_INVALID_PARAMETER);
    };
    let port = mr.port();
    if let Err(status) = port.ready() {
        return mr.port().answer("NdkRegisterMr", status);
    }
    // Mapping happens without the lock; the phase keeps a second register call out meanwhile.
    let begun = port.peek(|state| match state.mrs.get_mut(mr.key()) {
        Some(registration) if matches!(registration.phase, Phase::Idle) => {
            registration.phase = Phase::Mapping;
            true
        }
        _ => false,
    });
    if !begun {
        return mr
            .port()
            .answer("NdkRegisterMr", STATUS_INVALID_DEVICE_REQUEST);
    }
    let wanted = Wanted {
        base: first.virtual_address() as u64,
        length: length as u64,
        access: access(flags),
    };
    let waiter = Registering {
        request: Request::new(mr, completion, context),
        wanted,
    };
    // SAFETY: as above; the mapping is dropped before deregistration completes.
    match unsafe { mapping::map(&port.platform().dma, first, length, waiter) } {
        Poll::Ready(mapping) => port.answer("NdkRegisterMr", mr.register(wanted, mapping)),
        Poll::Pending => STATUS_PENDING,
    }
}

/// NdkDeregisterMr. Pends while the NIC still reads the memory. IRQL <= DISPATCH_LEVEL.
///
/// The tokens are dead when this returns, and the region can be registered again when it has completed. Requests that still name it
/// fail with an access error (decision X-27). A region that is not registered is STATUS_INVALID_DEVICE_REQUEST.
unsafe extern "efiapi" fn deregister_mr(
    mr: *mut NDK_MR,
    completion: NDK_FN_REQUEST_COMPLETION,
    context: *mut c_void,
) -> NTSTATUS {
    // SAFETY: the consumer passes an open MR.
    let mr = unsafe { Object::<Mr>::from_raw(mr) };
    let request = Request::new(mr, completion, context);
    let mut memory = [None, None];
    let given = mr.port().with(|state| {
        let given = state.give_up(mr.key(), &mut memory);
        if matches!(given, Given::Later)
            && let Some(registration) = state.mrs.get_mut(mr.key())
        {
            registration.request = Some(request);
        }
        given
    });
    drop(memory);
    match given {
        Given::Back => STATUS_SUCCESS,
        Given::Later => STATUS_PENDING,
        Given::Nothing => STATUS_INVALID_DEVICE_REQUEST,
    }
}

/// NdkGetLocalTokenFromMr and NdkGetRemoteTokenFromMr. IRQL <= DISPATCH_LEVEL.
///
/// Decision X-52: the token is the R_Key as a number in host order. A consumer that puts it in a little-endian field,
/// as SMB Direct does, gives its peer the number that goes into the RETH. 0 while there is none.
unsafe extern "efiapi" fn get_token_from_mr(mr: *mut NDK_MR) -> u32 {
    // SAFETY: the consumer passes an open MR.
    let mr = unsafe { Object::<Mr>::from_raw(mr) };
    let token = mr.port().peek(|state| state.mr_token(mr.key()));
    token.map_or(0, |key| key.0)
}
