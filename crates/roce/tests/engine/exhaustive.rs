//! What is small enough to be tried out completely: the arithmetic of PSNs, who gets at which key, and where ranges end.

mod keys;
mod port;
mod psn;
mod ranges;
