//! Two simulated servers with vroce installed, and what a consumer has open on each: for tests of consumers, and for `vroce-lab`.
//!
//! `examples/first_test.rs` is the shortest use of it.

pub mod driver;
pub mod server;
pub mod side;
pub mod spin;
pub mod status;

pub use driver::name as driver_name;
pub use server::{Server, end, finish, pair, pair_on};
pub use side::{Link, Side, link};
