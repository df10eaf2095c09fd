//! ACPI's table IVRS, as firmware may write it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thruway::fuzz::ivrs(bytes));
