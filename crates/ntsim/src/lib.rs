//! A simulated Windows kernel in which NDIS miniports, NDK providers and consumers run and are judged.
//!
//! A [`World`] is one simulation: machines, a virtual clock and everything connected to them. It is
//! single-threaded and deterministic: the same seed gives the same run. A thread has at most one world, so
//! tests may run in parallel threads.
//!
//! Drivers call the kernel through [`exports`], under the names they use on Windows. Each such call is watched
//! by the verifier; see [`verifier::rules`] for what it accuses of.
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

pub mod consumer;
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
pub use world::{Clock, DpcCount, DriverId, MachineConfig, MachineId, World, WorldBuilder};
