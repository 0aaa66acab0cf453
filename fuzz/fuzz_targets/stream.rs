//! Fuzzes a body, scanned as it passes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_scanner::fuzz_entry::stream(bytes));
