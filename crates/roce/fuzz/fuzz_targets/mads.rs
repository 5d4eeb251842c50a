//! See `roce_fuzz::mads`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| roce_fuzz::mads::run(data));
