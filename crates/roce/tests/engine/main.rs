//! The engine's tests, a module for each subject. Two engines or one of them and the test, virtual time, and a seed for what is random.
//!
//! A test that proves a requirement of RoCEv2 has its number in its name: `r001_...` is the first of `crates/xtask/data/rocev2.tsv`.

mod atomics;
mod captures;
mod congestion;
mod connect;
mod dead_queue;
mod disconnect;
mod early;
mod exhaustive;
mod fail;
mod fast_register;
mod flood;
mod forged;
mod guesses;
mod headers;
mod immediate;
mod lifecycle;
mod linux;
mod local_invalidate;
mod long;
mod loss;
mod model;
mod moderation;
mod naks;
mod network;
mod odds;
mod one_pass;
mod owed;
mod path;
mod played;
mod recovery;
mod refusals;
mod remote_invalidate;
mod requester;
mod responder;
mod scale;
mod send_queue;
mod srq;
mod stale;
mod states;
mod taken_back;
mod transfer;
#[path = "../util/mod.rs"]
mod util;
mod windows;
mod wire_property;
