//! A simulated Windows kernel in which NDIS miniports, NDK providers and consumers run and are judged.
//!
//! A [`World`] is one simulation: machines, a virtual clock and everything connected to them. It is
//! single-threaded and deterministic: the same seed gives the same run. A thread has at most one world, so
//! tests may run in parallel threads.
//!
//! Drivers call the kernel through [`exports`], under the names they use on Windows. Each such call is watched
//! by the [`verifier`]; [`verifier::all_rules`] is what it accuses of. `docs/simulator.md` says of each function how faithful it is.
//!
//! ```
//! use ndis_sys::imports::{ExAllocatePool2, ExFreePool};
//! use ndis_sys::wdm::POOL_FLAG_NON_PAGED;
//! use ntsim::verifier::rules;
//! use ntsim::{MachineConfig, World};
//!
//! let mut world = World::builder().collect_violations().build();
//! let a = world.add_machine(MachineConfig::named("A"));
//! // Kernel code of that machine, at PASSIVE_LEVEL.
//! world.call(a, || unsafe {
//!     let memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, u32::from_le_bytes(*b"Demo"));
//!     ExFreePool(memory);
//!     ExFreePool(memory);
//! });
//! assert_eq!(world.take_violations()[0].rule, rules::POOL_DOUBLE_FREE);
//! ```
//!
//! | module | what it is for |
//! |---|---|
//! | [`world`] | machines, the clock, running code, failures on demand |
//! | [`exports`] | what drivers import |
//! | [`verifier`] | rules, violations, reports |
//! | [`image`], [`pnp`] | drivers as files; the packages that they are installed from, and the registry |
//! | [`ndis`] | what a test does with a miniport |
//! | [`ndk`] | NDK's objects for tests, as a consumer would wrap them, and the rules of NDK |
//! | [`trace`] | everything that crosses, written to a file |
//! | [`virtio_net`], [`pci`], [`mmio`], [`interrupt`] | the NIC, the bus, and devices of one's own |
//! | [`wire`], [`tcpip`] | switches, loss, captures; the other protocol on an adapter |
//! | [`memory`] | how much there is, and what lies in it |
//! | [`etw`] | events that drivers trace |
#![allow(
    unsafe_code,
    reason = "a kernel: every exported function takes raw pointers"
)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "much of the documentation is for those who work on the simulator"
)]
#![allow(
    non_upper_case_globals,
    reason = "constants have the names of the documentation"
)]

mod heap;

mod consumer;
pub mod etw;
pub mod exports;
pub mod image;
pub mod interrupt;
pub mod memory;
pub mod mmio;
pub mod ndis;
pub mod ndk;
pub mod pci;
pub mod pnp;
pub mod tcpip;
pub mod trace;
pub mod verifier;
pub mod virtio_net;
pub mod wire;
pub mod world;

pub use image::{Image, ImageError};
pub use ndis::{DriverImage, InstallError};
pub use verifier::{Report, Verify, Violation};
pub use virtio_net::NicConfig;
pub use world::explore::{Schedule, explore};
pub use world::{
    Clock, DpcCount, DriverId, FaultPath, FaultPaths, MachineConfig, MachineId, World, WorldBuilder,
};
