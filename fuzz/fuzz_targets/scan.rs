//! Fuzzes content, on both engines.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_scanner::fuzz_entry::scan(bytes));
