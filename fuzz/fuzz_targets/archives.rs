//! Fuzzes archives inside of texts.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_pipeline::fuzz_entry::archives(bytes));
