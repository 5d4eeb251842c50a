//! See `roce_fuzz::captures`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roce_fuzz::captures::run(data));
