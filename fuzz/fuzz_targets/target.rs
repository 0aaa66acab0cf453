//! Fuzzes the target of an outbound request.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oktsec_pipeline::fuzz_entry::target(bytes));
