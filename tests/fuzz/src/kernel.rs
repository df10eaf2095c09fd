//! A kernel's file, started as whatever it is and as a multiboot image.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thruway::fuzz::kernel(bytes));
