//! A guest that accesses every port, register and configuration byte (needs KVM).
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thruway::fuzz::guest(bytes));
