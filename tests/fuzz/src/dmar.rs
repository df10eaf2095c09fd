//! ACPI's table DMAR, as firmware may write it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| thruway::fuzz::dmar(bytes));
