//! The engine against the simplest responder and the simplest requester that there can be, packet by packet, on random input. The models
//! copy everything, keep no window and no timer, and share nothing with the engine but the types of headers. Where the specification
//! leaves a choice, they say what is allowed. `ROCE_SEED=n` repeats one case, `ROCE_CASES=n` runs more of them.

mod requester;
mod responder;
mod stream;
